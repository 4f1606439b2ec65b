//! SIP, SIPS and other URIs (RFC 3261 §19.1) as borrowed views, and a builder.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::grammar::{is_plain_uri_byte, is_uri_byte, number};
use crate::header::Params;

/// Why bytes are no URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// There are no bytes.
    #[error("empty")]
    Empty,
    /// No `scheme:` in front.
    #[error("no scheme")]
    Scheme,
    /// White space, a control character, a quote or an angle bracket.
    #[error("illegal byte at {offset}")]
    Byte {
        /// Where.
        offset: u32,
    },
    /// The user part is empty, or a second `@` follows.
    #[error("user part")]
    User,
    /// The host is no name, no IPv4 address and no IPv6 reference in brackets.
    #[error("host")]
    Host,
    /// The port is no number from 0 to 65535.
    #[error("port")]
    Port,
    /// A parameter without a name.
    #[error("parameter")]
    Parameter,
}

/// The scheme of a URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Scheme<'a> {
    /// `sip`
    Sip,
    /// `sips`
    Sips,
    /// `tel` (RFC 3966)
    Tel,
    /// Any other.
    Other(&'a [u8]),
}

/// A host: a name, an IPv4 address, or an IPv6 address that stood in brackets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Host<'a> {
    /// A host name as it was spelt; compare it without regard to case.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

/// A URI, checked. For schemes other than `sip` and `sips` only [`Uri::scheme`] and [`Uri::opaque`] say anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    raw: &'a [u8],
    scheme: Scheme<'a>,
    opaque: &'a [u8],
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    host_bytes: &'a [u8],
    host: Option<Host<'a>>,
    port: Option<u16>,
    params: Params<'a>,
    headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI without angle brackets or white space around it. Escapes stay as they came.
    ///
    /// # Errors
    /// [`UriError`].
    pub fn parse(raw: &'a [u8]) -> Result<Self, UriError> {
        if raw.is_empty() {
            return Err(UriError::Empty);
        }
        let Some((name, opaque)) = split_scheme(raw) else {
            clean(raw, 0)?;
            return Err(UriError::Scheme);
        };
        let scheme = match name {
            s if s.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
            s if s.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
            s if s.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
            other => Scheme::Other(other),
        };
        let uri = Uri {
            raw,
            scheme,
            opaque,
            user: None,
            password: None,
            host_bytes: b"",
            host: None,
            port: None,
            params: Params::default(),
            headers: None,
        };
        if uri.is_sip() {
            return uri.read_sip();
        }
        clean(opaque, raw.len() - opaque.len())?;
        Ok(uri)
    }

    /// `[ userinfo ] hostport uri-parameters [ headers ]`
    fn read_sip(mut self) -> Result<Self, UriError> {
        let text = self.opaque;
        let marks = Marks::of(text, self.raw.len() - text.len())?;
        let start = marks.at.map_or(0, |at| at + 1);
        if let Some(at) = marks.at {
            let (user, password) = match marks.user_colon {
                Some(colon) => (&text[..colon], Some(&text[colon + 1..at])),
                None => (&text[..at], None),
            };
            if user.is_empty() {
                return Err(UriError::User);
            }
            (self.user, self.password) = (Some(user), password);
        }
        // A second `@` would let two readers see two hosts.
        if marks.second_at {
            return Err(UriError::User);
        }
        if marks.bad_param {
            return Err(UriError::Parameter);
        }
        let params_end = marks.question.unwrap_or(text.len());
        let host_end = marks.semicolon.unwrap_or(params_end);
        self.headers = marks.question.map(|question| &text[question + 1..]);
        self.params = Params::unchecked(&text[host_end..params_end]);
        let colon = marks.colon.filter(|colon| *colon < host_end).map(|colon| colon - start);
        let (host, port) = split_port(&text[start..host_end], colon)?;
        self.host_bytes = host;
        self.host = Some(Host::parse(host).ok_or(UriError::Host)?);
        self.port = port;
        Ok(self)
    }

    /// The URI as it came.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme<'a> {
        self.scheme
    }

    /// `sip` or `sips`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// Everything behind the scheme's colon.
    pub fn opaque(&self) -> &'a [u8] {
        self.opaque
    }

    /// The user part, escapes as they came.
    pub fn user(&self) -> Option<&'a [u8]> {
        self.user
    }

    /// The password.
    pub fn password(&self) -> Option<&'a [u8]> {
        self.password
    }

    /// The host; `None` only for schemes other than `sip` and `sips`.
    pub fn host(&self) -> Option<Host<'a>> {
        self.host
    }

    /// The host as it was spelt, brackets included.
    pub fn host_bytes(&self) -> &'a [u8] {
        self.host_bytes
    }

    /// The port, if one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The URI parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// A URI parameter's value; empty for a flag such as `lr`.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.value(name)
    }

    /// Loose routing (RFC 3261 §19.1.1).
    pub fn is_loose(&self) -> bool {
        self.params.contains("lr")
    }

    /// What follows the `?`.
    pub fn headers(&self) -> Option<&'a [u8]> {
        self.headers
    }
}

impl fmt::Debug for Uri<'_> {
    /// Scheme, host and port only: users, passwords and parameters are nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Uri");
        out.field("scheme", &self.scheme)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Scheme and rest. `scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )`
#[inline]
pub(crate) fn split_scheme(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    if !raw.first()?.is_ascii_alphabetic() {
        return None;
    }
    let end = raw.iter().position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')))?;
    (raw[end] == b':').then(|| (&raw[..end], &raw[end + 1..]))
}

/// Every byte may stand in a URI; `start` is where `bytes` begin in it.
fn clean(bytes: &[u8], start: usize) -> Result<(), UriError> {
    match bytes.iter().position(|&b| !is_uri_byte(b)) {
        Some(bad) => Err(UriError::Byte { offset: (start + bad) as u32 }),
        None => Ok(()),
    }
}

/// Where the delimiters of a SIP URI stand behind its scheme, found in one pass: URIs are short, and a search of their own for
/// each costs more than all the rest.
#[derive(Default)]
struct Marks {
    /// The first `@`. `;` and `?` may stand in the user part (RFC 4475 §3.1.1.9), so what came before it is no delimiter.
    at: Option<usize>,
    user_colon: Option<usize>,
    /// The first colon behind that.
    colon: Option<usize>,
    /// The first of the parameters.
    semicolon: Option<usize>,
    question: Option<usize>,
    /// Another `@`, not in the headers.
    second_at: bool,
    /// A parameter without a name.
    bad_param: bool,
}

impl Marks {
    /// `start` is where `text` begins in the URI.
    #[inline]
    fn of(text: &[u8], start: usize) -> Result<Self, UriError> {
        let mut marks = Self::default();
        for (here, &b) in text.iter().enumerate() {
            if is_plain_uri_byte(b) {
                continue;
            }
            match b {
                b'@' if marks.at.is_none() => {
                    marks = Self { at: Some(here), user_colon: marks.colon, ..Self::default() };
                }
                b'@' => marks.second_at |= marks.question.is_none(),
                b':' => {
                    marks.colon.get_or_insert(here);
                }
                b'?' => {
                    marks.question.get_or_insert(here);
                }
                b';' if marks.question.is_none() => {
                    marks.semicolon.get_or_insert(here);
                    marks.bad_param |= matches!(text.get(here + 1), None | Some(b';' | b'=' | b'?'));
                }
                _ if !is_uri_byte(b) => return Err(UriError::Byte { offset: (start + here) as u32 }),
                _ => {}
            }
        }
        Ok(marks)
    }
}

/// `host [ ":" port ]`, with the first colon; the colons of an IPv6 reference stand in brackets.
fn split_port(hostport: &[u8], colon: Option<usize>) -> Result<(&[u8], Option<u16>), UriError> {
    let colon = match hostport.first() {
        Some(b'[') => {
            let close = memchr::memchr(b']', hostport).ok_or(UriError::Host)?;
            memchr::memchr(b':', &hostport[close..]).map(|colon| close + colon)
        }
        _ => colon,
    };
    match colon {
        None => Ok((hostport, None)),
        Some(colon) => {
            let port = number(&hostport[colon + 1..]).and_then(|n| u16::try_from(n).ok());
            Ok((&hostport[..colon], Some(port.ok_or(UriError::Port)?)))
        }
    }
}

impl<'a> Host<'a> {
    /// Reads a host; IPv6 only in brackets (RFC 5118 §4.2). A name is letters, digits, hyphens, dots and the
    /// underscores of the field, and does not end in a label of digits (RFC 3261 §25.1 toplabel).
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes {
            [] => None,
            [b'[', inner @ .., b']'] => ipv6(inner).map(Self::V6),
            // What is no address ends in a label of digits, or is a name.
            [b'0'..=b'9', ..] => ipv4(bytes).map(Self::V4).or_else(|| host_name(bytes).map(Self::Name)),
            _ => host_name(bytes).map(Self::Name),
        }
    }

    /// The address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

impl From<IpAddr> for Host<'_> {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

/// Four numbers below 256 without leading zeros: what the standard library takes, at a quarter of its price.
#[inline]
fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut rest = octets.iter_mut();
    let mut octet = rest.next()?;
    let (mut value, mut digits) = (0_u16, 0);
    for &b in bytes {
        match b {
            b'0'..=b'9' if digits == 0 || value > 0 => {
                value = value * 10 + u16::from(b - b'0');
                digits += 1;
                *octet = u8::try_from(value).ok()?;
            }
            b'.' if digits > 0 => {
                octet = rest.next()?;
                (value, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    (digits > 0 && rest.next().is_none()).then_some(octets.into())
}

#[inline]
fn host_name(bytes: &[u8]) -> Option<&str> {
    let legal = |&b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !bytes.iter().all(legal) || matches!(bytes.first(), Some(b'.' | b'-')) {
        return None;
    }
    let name = std::str::from_utf8(bytes).ok()?;
    let top = name.strip_suffix('.').unwrap_or(name);
    let top = top.rsplit('.').next()?;
    (!top.is_empty() && !top.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// An IPv6 address without brackets. Three colons are read as two (RFC 5118 §4.10).
pub(crate) fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.find(":::") {
        None => text.parse().ok(),
        Some(_) => text.replacen(":::", "::", 1).parse().ok(),
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Writes a SIP or SIPS URI.
///
/// ```
/// use sip_core::uri::{Host, UriBuilder};
/// let uri = UriBuilder::sips(Host::V4([10, 0, 1, 2].into())).user(b"anonymous").port(5061).param("transport", b"tls");
/// assert_eq!(uri.as_bytes(), b"sips:anonymous@10.0.1.2:5061;transport=tls");
/// ```
#[derive(Clone, Debug)]
pub struct UriBuilder {
    text: Vec<u8>,
    /// Where the user part goes.
    scheme_end: usize,
    /// Where the port goes.
    host_end: usize,
}

impl UriBuilder {
    /// `sip:host`
    pub fn sip(host: Host<'_>) -> Self {
        Self::new("sip:", host)
    }

    /// `sips:host`
    pub fn sips(host: Host<'_>) -> Self {
        Self::new("sips:", host)
    }

    fn new(scheme: &str, host: Host<'_>) -> Self {
        let text = format!("{scheme}{host}").into_bytes();
        Self { scheme_end: scheme.len(), host_end: text.len(), text }
    }

    /// Sets the user part. Bytes that may not stand there (RFC 3261 §25.1 user) are escaped; a `%` stays, so that
    /// escapes pass as they came.
    #[must_use]
    pub fn user(mut self, user: &[u8]) -> Self {
        let mut text = Vec::with_capacity(user.len() + 1);
        for &b in user {
            let free = b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%".contains(&b);
            if free {
                text.push(b);
            } else {
                text.extend_from_slice(format!("%{b:02X}").as_bytes());
            }
        }
        text.push(b'@');
        self.host_end += text.len();
        self.text.splice(self.scheme_end..self.scheme_end, text);
        self
    }

    /// Sets the port; call it once.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        let at = self.host_end;
        self.text.splice(at..at, format!(":{port}").into_bytes());
        self
    }

    /// Appends `;name=value`, or `;name` when the value is empty. The caller vouches for the value's bytes.
    #[must_use]
    pub fn param(mut self, name: &str, value: &[u8]) -> Self {
        self.text.push(b';');
        self.text.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            self.text.push(b'=');
            self.text.extend_from_slice(value);
        }
        self
    }

    /// The URI so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The URI.
    pub fn into_bytes(self) -> Vec<u8> {
        self.text
    }
}

#[cfg(test)]
mod tests;
