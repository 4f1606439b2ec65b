//! Borrowed typed views of header values, made on demand.
//!
//! A marker names the field, its [`Header::View`] is what one value reads as:
//! `message.header::<Via>()` is `None` when the field is absent and `Some(Err(_))` when it is malformed.
//! A view keeps the raw slices, so what it does not understand stays as it came.

mod address;
mod auth;
mod params;
mod plain;
mod via;

pub use address::Address;
pub use auth::AuthValue;
pub use params::{Params, unquote};
pub use plain::{CSeqValue, MediaType, RAckValue};
pub use via::{ViaTransport, ViaValue};

use crate::message::Name;
use crate::uri::UriError;

/// A header field with a typed view.
pub trait Header {
    /// Its name.
    const NAME: Name;
    /// Several values may stand in one row, separated by commas.
    const LIST: bool;
    /// A row without any value is legal and says nothing.
    const MAY_BE_EMPTY: bool = false;
    /// One value.
    type View<'a>;

    /// Reads one value, without the field name.
    ///
    /// # Errors
    /// [`HeaderError`] when the value is not what the field's grammar allows.
    fn parse(value: &[u8]) -> Result<Self::View<'_>, HeaderError>;
}

/// A header value that its grammar does not allow. All of them deserve a 400 that names the field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed {field} at {offset}: {fault}")]
pub struct HeaderError {
    /// The field.
    pub field: Name,
    /// Offset in the value.
    pub offset: u32,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a header value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The value is empty.
    #[error("empty")]
    Empty,
    /// A quoted string without its end.
    #[error("open quote")]
    OpenQuote,
    /// An angle bracket without its partner.
    #[error("unbalanced angle bracket")]
    Bracket,
    /// A display name with a comma, a semicolon or a quote in it that is not quoted as a whole.
    #[error("display name")]
    DisplayName,
    /// A URI with white space, without scheme, or otherwise malformed.
    #[error("URI: {0}")]
    Uri(#[from] UriError),
    /// Header parameters that are not `;name[=value]`.
    #[error("parameter")]
    Parameter,
    /// A `?` in a URI that needs angle brackets for it (RFC 3261 §20.10).
    #[error("URI headers without angle brackets")]
    UriHeaders,
    /// Not a number of digits, or too large.
    #[error("number")]
    Number,
    /// Not a token where one must stand.
    #[error("token")]
    Token,
    /// Via without `SIP/2.0/transport`.
    #[error("sent-protocol")]
    Protocol,
    /// Via without a readable host and port.
    #[error("sent-by")]
    SentBy,
    /// Date that is not `wkday, DD Mon YYYY HH:MM:SS GMT`.
    #[error("date")]
    Date,
}

impl HeaderError {
    pub(crate) fn new(field: Name, offset: usize, fault: Fault) -> Self {
        Self { field, offset: u32::try_from(offset).unwrap_or(u32::MAX), fault }
    }

    /// The status an answer should carry.
    pub fn status(&self) -> u16 {
        400
    }
}

macro_rules! addresses {
    ($($marker:ident $list:literal $doc:literal),+ $(,)?) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub enum $marker {}

        impl Header for $marker {
            const NAME: Name = Name::$marker;
            const LIST: bool = $list;
            type View<'a> = Address<'a>;

            #[inline]
            fn parse(value: &[u8]) -> Result<Address<'_>, HeaderError> {
                Address::parse(Name::$marker, value)
            }
        }
    )+};
}

addresses! {
    From false "`From` (RFC 3261 §20.20).",
    To false "`To` (RFC 3261 §20.39).",
    Contact true "`Contact` (RFC 3261 §20.10); `*` reads as [`Address::is_star`].",
    Route true "`Route` (RFC 3261 §20.34).",
    RecordRoute true "`Record-Route` (RFC 3261 §20.30).",
    Path true "`Path` (RFC 3327).",
    ServiceRoute true "`Service-Route` (RFC 3608).",
    ReferTo false "`Refer-To` (RFC 3515).",
    ReferredBy false "`Referred-By` (RFC 3892).",
    ReplyTo false "`Reply-To` (RFC 3261 §20.31).",
    PAssertedIdentity true "`P-Asserted-Identity` (RFC 3325).",
    PPreferredIdentity true "`P-Preferred-Identity` (RFC 3325).",
    Diversion true "`Diversion` (RFC 5806).",
    HistoryInfo true "`History-Info` (RFC 7044).",
}

macro_rules! fields {
    ($($marker:ident $list:literal $lt:lifetime $view:ty, $parse:path, $doc:literal);+ $(;)?) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub enum $marker {}

        impl Header for $marker {
            const NAME: Name = Name::$marker;
            const LIST: bool = $list;
            const MAY_BE_EMPTY: bool = matches!(Name::$marker, Name::Supported | Name::Allow);
            type View<$lt> = $view;

            #[inline]
            fn parse<$lt>(value: &$lt [u8]) -> Result<$view, HeaderError> {
                $parse(Name::$marker, value)
            }
        }
    )+};
}

fields! {
    Via true 'a ViaValue<'a>, ViaValue::parse, "`Via` (RFC 3261 §20.42).";
    CSeq false 'a CSeqValue<'a>, CSeqValue::parse, "`CSeq` (RFC 3261 §20.16).";
    CallId false 'a &'a [u8], plain::call_id, "`Call-ID` (RFC 3261 §20.8), compared byte by byte.";
    MaxForwards false 'a u32, plain::max_forwards, "`Max-Forwards` (RFC 3261 §20.22), 0 to 255.";
    Expires false 'a u32, plain::seconds, "`Expires` (RFC 3261 §20.19), seconds.";
    MinExpires false 'a u32, plain::seconds, "`Min-Expires` (RFC 3261 §20.23), seconds.";
    ContentLength false 'a u32, plain::count, "`Content-Length` (RFC 3261 §20.14), octets.";
    MaxBreadth false 'a u32, plain::count, "`Max-Breadth` (RFC 5393 §5.3.3).";
    RSeq false 'a u32, plain::count, "`RSeq` (RFC 3262 §7.1).";
    RAck false 'a RAckValue<'a>, RAckValue::parse, "`RAck` (RFC 3262 §7.2).";
    ContentType false 'a MediaType<'a>, MediaType::parse, "`Content-Type` (RFC 3261 §20.15).";
    Authorization false 'a AuthValue<'a>, AuthValue::parse, "`Authorization` (RFC 3261 §20.7); a row for each realm.";
    ProxyAuthorization false 'a AuthValue<'a>, AuthValue::parse, "`Proxy-Authorization` (RFC 3261 §20.28).";
    WwwAuthenticate false 'a AuthValue<'a>, AuthValue::parse, "`WWW-Authenticate` (RFC 3261 §20.44).";
    ProxyAuthenticate false 'a AuthValue<'a>, AuthValue::parse, "`Proxy-Authenticate` (RFC 3261 §20.27).";
    Date false 'a &'a [u8], plain::date, "`Date` (RFC 3261 §20.17); GMT only.";
    Require true 'a &'a [u8], plain::option_tag, "`Require` (RFC 3261 §20.32): one option tag.";
    ProxyRequire true 'a &'a [u8], plain::option_tag, "`Proxy-Require` (RFC 3261 §20.29): one option tag.";
    Supported true 'a &'a [u8], plain::option_tag, "`Supported` (RFC 3261 §20.37): one option tag.";
    Allow true 'a &'a [u8], plain::option_tag, "`Allow` (RFC 3261 §20.5): one method.";
}

#[cfg(test)]
mod tests;
