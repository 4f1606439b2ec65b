//! Header field names, classified once.

use std::fmt;

macro_rules! names {
    ($($variant:ident $text:literal $($compact:literal)?),+ $(,)?) => {
        /// A header field name this crate knows; compact forms (RFC 3261 §7.3.3) are the same name.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
            /// Any name not listed here; see [`Row::name_bytes`](super::Row::name_bytes).
            Other,
        }

        const KNOWN: &[(&str, Name)] = &[$(($text, Name::$variant)),+];

        impl Name {
            /// The canonical long spelling; empty for [`Name::Other`].
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ Self::Other => "" }
            }

            /// Classifies a name: case-insensitive, long or compact.
            #[inline]
            pub fn classify(name: &[u8]) -> Self {
                if let [one] = name {
                    return match (one | 0x20, one.is_ascii_alphabetic()) {
                        $($((byte, true) if byte == $compact.as_bytes()[0] => Self::$variant,)?)+
                        _ => Self::Other,
                    };
                }
                classify_long(name)
            }
        }
    };
}

names! {
    Accept "Accept", AcceptContact "Accept-Contact" "a", AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language", AlertInfo "Alert-Info", Allow "Allow", AllowEvents "Allow-Events" "u",
    AuthenticationInfo "Authentication-Info", Authorization "Authorization", CallId "Call-ID" "i",
    CallInfo "Call-Info", Contact "Contact" "m", ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" "e", ContentLanguage "Content-Language",
    ContentLength "Content-Length" "l", ContentType "Content-Type" "c", CSeq "CSeq", Date "Date",
    Diversion "Diversion", ErrorInfo "Error-Info", Event "Event" "o", Expires "Expires", From "From" "f",
    HistoryInfo "History-Info", Identity "Identity" "y", InReplyTo "In-Reply-To", Join "Join",
    MaxBreadth "Max-Breadth", MaxForwards "Max-Forwards", MimeVersion "MIME-Version",
    MinExpires "Min-Expires", MinSe "Min-SE", Organization "Organization",
    PAssertedIdentity "P-Asserted-Identity", PPreferredIdentity "P-Preferred-Identity", Path "Path",
    Priority "Priority", Privacy "Privacy", ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization", ProxyRequire "Proxy-Require", RAck "RAck", Reason "Reason",
    RecordRoute "Record-Route", ReferTo "Refer-To" "r", ReferSub "Refer-Sub", ReferredBy "Referred-By" "b",
    RejectContact "Reject-Contact" "j", RemotePartyId "Remote-Party-ID", Replaces "Replaces",
    ReplyTo "Reply-To", RequestDisposition "Request-Disposition" "d", Require "Require",
    RetryAfter "Retry-After", Route "Route", RSeq "RSeq", Server "Server", ServiceRoute "Service-Route",
    SessionExpires "Session-Expires" "x", SipEtag "SIP-ETag", SipIfMatch "SIP-If-Match",
    Subject "Subject" "s", SubscriptionState "Subscription-State", Supported "Supported" "k",
    Timestamp "Timestamp", To "To" "t", Unsupported "Unsupported", UserAgent "User-Agent", Via "Via" "v",
    Warning "Warning", WwwAuthenticate "WWW-Authenticate",
}

/// `validate` keeps the names it saw as bits.
const _: () = assert!(KNOWN.len() < 128);

const NONE: u8 = u8::MAX;

/// Hash of a name → its place in [`KNOWN`]; the multipliers of [`hash`] make it free of collisions.
static PLACES: [u8; 256] = places();

const fn places() -> [u8; 256] {
    let mut table = [NONE; 256];
    let mut i = 0;
    while i < KNOWN.len() {
        let slot = hash(KNOWN[i].0.as_bytes()) as usize;
        assert!(table[slot] == NONE, "two names with one hash: choose other multipliers");
        table[slot] = i as u8;
        i += 1;
    }
    table
}

const fn hash(name: &[u8]) -> u8 {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let (first, middle, last) = (name[0] | 0x20, name[len / 2] | 0x20, name[len - 1] | 0x20);
    (len as u8)
        .wrapping_mul(13)
        .wrapping_add(first.wrapping_mul(3))
        .wrapping_add(last.wrapping_mul(32))
        .wrapping_add(middle)
}

#[inline]
fn classify_long(name: &[u8]) -> Name {
    let place = PLACES[hash(name) as usize];
    match KNOWN.get(place as usize) {
        // Nearly every name comes in its canonical spelling, which is cheaper to compare.
        Some((text, known)) if text.as_bytes() == name || text.as_bytes().eq_ignore_ascii_case(name) => {
            *known
        }
        _ => Name::Other,
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Other { "header field" } else { self.as_str() })
    }
}

/// Which rows are meant: a known [`Name`], or any name by its text. `"m"`, `"contact"` and [`Name::Contact`] are one.
#[derive(Clone, Copy, Debug)]
pub struct Field<'n> {
    name: Name,
    text: &'n [u8],
}

impl<'n> Field<'n> {
    /// The class of the name.
    pub fn name(self) -> Name {
        self.name
    }

    /// The spelling used when a row of this name is written.
    pub fn text(self) -> &'n [u8] {
        if self.name == Name::Other { self.text } else { self.name.as_str().as_bytes() }
    }

    #[inline]
    pub(crate) fn is(self, name: Name, bytes: &[u8]) -> bool {
        self.name == name && (name != Name::Other || self.text.eq_ignore_ascii_case(bytes))
    }
}

impl From<Name> for Field<'_> {
    fn from(name: Name) -> Self {
        Field { name, text: b"" }
    }
}

impl<'n> From<&'n str> for Field<'n> {
    fn from(text: &'n str) -> Self {
        Field::from(text.as_bytes())
    }
}

impl<'n> From<&'n [u8]> for Field<'n> {
    fn from(text: &'n [u8]) -> Self {
        Field { name: Name::classify(text), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (text, name) in KNOWN {
            assert_eq!(Name::classify(text.as_bytes()), *name);
            assert_eq!(Name::classify(text.to_ascii_uppercase().as_bytes()), *name);
            assert_eq!(Name::classify(text.to_ascii_lowercase().as_bytes()), *name);
            assert_eq!(Name::classify(format!("{text}x").as_bytes()), Name::Other);
        }
    }

    #[test]
    fn compact_forms_are_the_same_name() {
        let forms = [
            ("v", Name::Via),
            ("F", Name::From),
            ("t", Name::To),
            ("i", Name::CallId),
            ("m", Name::Contact),
            ("L", Name::ContentLength),
            ("c", Name::ContentType),
            ("k", Name::Supported),
            ("x", Name::SessionExpires),
        ];
        for (text, name) in forms {
            assert_eq!(Name::classify(text.as_bytes()), name, "{text}");
        }
        assert_eq!(Name::classify(b"z"), Name::Other);
        assert_eq!(Name::classify(b"V\0"), Name::Other);
        assert_eq!(Name::classify(b"\x56\x76"), Name::Other);
        assert_eq!(Name::classify(b""), Name::Other);
    }
}
