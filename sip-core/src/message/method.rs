//! Request methods: an open enum, case-sensitive (RFC 3261 §7.1).

use std::fmt;

macro_rules! methods {
    ($($variant:ident $text:literal),+ $(,)?) => {
        /// A request method.
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Method<'a> {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
            /// Any other token.
            Other(&'a [u8]),
        }

        impl<'a> Method<'a> {
            /// The method a token names; `None` if the bytes are no token.
            pub fn parse(bytes: &'a [u8]) -> Option<Self> {
                crate::grammar::is_token(bytes).then(|| Self::from_token(bytes))
            }

            #[inline]
            pub(crate) fn from_token(bytes: &'a [u8]) -> Self {
                $(if bytes == $text.as_bytes() { return Self::$variant; })+
                Self::Other(bytes)
            }

            /// The token as it stands on the wire.
            pub fn as_bytes(&self) -> &'a [u8] {
                match self { $(Self::$variant => $text.as_bytes(),)+ Self::Other(bytes) => bytes }
            }

            /// The same method free of the message's lifetime; `None` for [`Method::Other`].
            pub fn known(&self) -> Option<Method<'static>> {
                match self { $(Self::$variant => Some(Method::$variant),)+ Self::Other(_) => None }
            }
        }
    };
}

methods! {
    Invite "INVITE", Ack "ACK", Bye "BYE", Cancel "CANCEL", Register "REGISTER", Options "OPTIONS",
    Prack "PRACK", Subscribe "SUBSCRIBE", Notify "NOTIFY", Publish "PUBLISH", Info "INFO", Refer "REFER",
    Message "MESSAGE", Update "UPDATE",
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
