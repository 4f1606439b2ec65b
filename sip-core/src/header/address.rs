//! name-addr and addr-spec: From, To, Contact, Route and their kin.

use std::fmt;

use super::{Fault, HeaderError, Params};
use crate::grammar::{number, skip_lws, skip_quoted, skip_uri, trim};
use crate::message::Name;
use crate::uri::{Uri, UriError};

/// `[ display-name ] "<" URI ">" *( ";" param )`, or a bare URI with header parameters (RFC 3261 §20.10), or `*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    raw: &'a [u8],
    display: &'a [u8],
    uri: &'a [u8],
    params: Params<'a>,
    bracketed: bool,
}

impl<'a> Address<'a> {
    /// Reads one value; `field` goes into the error.
    ///
    /// # Errors
    /// [`HeaderError`]: unbalanced quote or bracket, display name, parameters, white space in the URI.
    #[inline]
    pub fn parse(field: Name, value: &'a [u8]) -> Result<Self, HeaderError> {
        let raw = trim(value);
        read(raw).map_err(|(offset, fault)| HeaderError::new(field, offset, fault))
    }

    /// The value as it came, trimmed.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The display name with its quotes, if it has any; empty when there is none. See [`unquote`](super::unquote).
    pub fn display(&self) -> &'a [u8] {
        self.display
    }

    /// The URI as it came, without angle brackets.
    pub fn uri_bytes(&self) -> &'a [u8] {
        self.uri
    }

    /// The URI.
    ///
    /// # Errors
    /// [`UriError`].
    pub fn uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }

    /// The URI stood in angle brackets.
    pub fn is_bracketed(&self) -> bool {
        self.bracketed
    }

    /// `Contact: *` (RFC 3261 §10.2.2).
    pub fn is_star(&self) -> bool {
        self.uri == b"*"
    }

    /// The header parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// A header parameter's value, quotes kept; empty for a flag.
    #[inline]
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.value(name)
    }

    /// The tag of From or To.
    #[inline]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag")
    }

    /// `expires` in seconds. What is no number, or above `u32::MAX`, counts as 3600 (RFC 3261 §10.2.1.1, §20.10).
    pub fn expires(&self) -> Option<u32> {
        self.param("expires").map(|value| number(value).unwrap_or(3600))
    }

    /// The value with another URI, in angle brackets; display name and header parameters stay byte for byte.
    pub fn with_uri(&self, uri: &[u8]) -> Vec<u8> {
        let params = self.params.as_bytes();
        let head = self.raw.get(..self.raw.len() - params.len()).unwrap_or_default();
        // In the bracketed form the URI's own bytes lie between the last `<` and `>` in front of the parameters.
        let (before, after) = match memchr::memrchr2(b'<', b'>', head).filter(|_| self.bracketed) {
            Some(close) => (&head[..close - self.uri.len() - 1], &head[close + 1..]),
            None => (&b""[..], &b""[..]),
        };
        [before, b"<", uri, b">", after, params].concat()
    }

    /// `q` in thousandths, 0 to 1000; `None` when absent or malformed.
    pub fn q(&self) -> Option<u16> {
        let (whole, fraction) = match self.param("q")? {
            [whole] => (*whole, &[][..]),
            [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
            _ => return None,
        };
        let mut thousandths = match whole {
            b'0' => 0,
            b'1' => 1000,
            _ => return None,
        };
        for (digit, weight) in fraction.iter().zip([100, 10, 1]) {
            if !digit.is_ascii_digit() {
                return None;
            }
            thousandths += u16::from(digit - b'0') * weight;
        }
        (thousandths <= 1000).then_some(thousandths)
    }
}

impl fmt::Debug for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("uri", &self.uri())
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

type Broken = (usize, Fault);

#[inline]
fn read(raw: &[u8]) -> Result<Address<'_>, Broken> {
    // The first of these three decides the form: a quoted display name, a bracketed URI, or a bare one.
    let mut at = 0;
    while at < raw.len() && !matches!(raw[at], b'"' | b'<' | b':') {
        at += 1;
    }
    match raw.get(at) {
        Some(b'"') if at == 0 => {
            let end = skip_quoted(raw, 0).ok_or((0, Fault::OpenQuote))?;
            let open = skip_lws(raw, end);
            if raw.get(open) != Some(&b'<') {
                return Err((open, Fault::Bracket));
            }
            bracketed(raw, &raw[..end], open)
        }
        Some(b'"') => Err((at, Fault::DisplayName)),
        Some(b'<') => {
            let display = trim(&raw[..at]);
            // display-name = *(token LWS). Other characters are seen and do no harm, but a comma or a semicolon may
            // be the end of another value.
            if let Some(bad) = memchr::memchr2(b',', b';', display) {
                return Err((bad, Fault::DisplayName));
            }
            bracketed(raw, display, at)
        }
        Some(_) => bare(raw),
        None if raw.is_empty() => Err((0, Fault::Empty)),
        None if raw[0] == b'*' => {
            let params = Params::parse(&raw[1..]).map_err(|at| (1 + at, Fault::Parameter))?;
            Ok(Address { raw, display: b"", uri: &raw[..1], params, bracketed: false })
        }
        None => Err((0, Fault::Uri(UriError::Scheme))),
    }
}

#[inline]
fn bracketed<'a>(raw: &'a [u8], display: &'a [u8], open: usize) -> Result<Address<'a>, Broken> {
    let start = open + 1;
    let end = skip_uri(raw, start);
    match raw.get(end) {
        Some(b'>') if end > start => {}
        Some(b'>') => return Err((end, Fault::Uri(UriError::Empty))),
        None | Some(b'<') => return Err((open, Fault::Bracket)),
        Some(_) => return Err((end, Fault::Uri(UriError::Byte { offset: (end - start) as u32 }))),
    }
    let uri = &raw[start..end];
    has_scheme(uri).map_err(|fault| (start, fault))?;
    let params = Params::parse(&raw[end + 1..]).map_err(|at| (end + 1 + at, Fault::Parameter))?;
    Ok(Address { raw, display, uri, params, bracketed: true })
}

/// RFC 3261 §20.10: without angle brackets, `;` starts the header's parameters, and `,` and `?` may not stand in
/// the URI.
fn bare(raw: &[u8]) -> Result<Address<'_>, Broken> {
    let mut end = 0;
    while end < raw.len() && raw[end] != b';' && crate::grammar::is_uri_byte(raw[end]) {
        match raw[end] {
            b'?' => return Err((end, Fault::UriHeaders)),
            b',' => return Err((end, Fault::Uri(UriError::Byte { offset: end as u32 }))),
            _ => end += 1,
        }
    }
    let uri = &raw[..end];
    has_scheme(uri).map_err(|fault| (0, fault))?;
    let params = Params::parse(&raw[end..]).map_err(|at| (end + at, Fault::Parameter))?;
    Ok(Address { raw, display: b"", uri, params, bracketed: false })
}

#[inline]
fn has_scheme(uri: &[u8]) -> Result<(), Fault> {
    crate::uri::split_scheme(uri).map(|_| ()).ok_or(Fault::Uri(UriError::Scheme))
}
