//! The target of a CONNECT request: `host:port`, read strictly and once.
//!
//! RFC 9110 §9.3.6 gives the authority form; what is accepted here is narrower on purpose, because every
//! lenient reading (octal, short or hexadecimal IPv4, zones, user information, percent codes) has let somebody
//! through a proxy's rules.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest host and port accepted, in bytes: a name of 253, a colon, five digits.
pub const MAX_AUTHORITY: usize = 255 + 6;

/// Where a CONNECT request wants to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// A host that is either an address or a name that can't be mistaken for one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address in canonical form: an IPv4-mapped IPv6 address is the IPv4 address.
    Ip(IpAddr),
    /// A lower-case name of letters, digits and hyphens, without a trailing dot.
    Name(String),
}

/// Why an authority is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// More than [`MAX_AUTHORITY`] bytes.
    #[error("the target is too long")]
    TooLong,
    /// No `:port`.
    #[error("the target has no port")]
    NoPort,
    /// The port is not 1 to 65535 in plain digits.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// The text in brackets is not an IPv6 address.
    #[error("the text in brackets is not an IPv6 address")]
    Bracket,
    /// The host is neither a dotted quad, a bracketed IPv6 address nor a name.
    #[error("the host is not an address or a name")]
    Host,
}

impl Target {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// Anything but a four-part decimal IPv4 address without leading zeros, an IPv6 address in brackets or a
    /// name of letters, digits and hyphens, followed by a colon and a port in plain digits.
    pub fn parse(text: &[u8]) -> Result<Self, AuthorityError> {
        if text.len() > MAX_AUTHORITY {
            return Err(AuthorityError::TooLong);
        }
        // Outside ASCII nothing is valid, so the bytes are text from here on.
        let text = std::str::from_utf8(text).map_err(|_| AuthorityError::Host)?;
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::NoPort)?;
        // `[::1]` alone also has colons: the last one is inside the brackets.
        if port.ends_with(']') {
            return Err(AuthorityError::NoPort);
        }
        Ok(Self { port: parse_port(port).ok_or(AuthorityError::Port)?, host: Host::parse_uri(host)? })
    }
}

impl Host {
    /// Reads a host as it stands in an authority: IPv6 only in brackets.
    ///
    /// # Errors
    /// See [`Target::parse`].
    pub fn parse_uri(text: &str) -> Result<Self, AuthorityError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AuthorityError::Bracket)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| AuthorityError::Bracket)?;
            return Ok(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        // The standard parser takes exactly four decimal parts without leading zeros.
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if is_name(name) { Ok(Self::Name(name.to_ascii_lowercase())) } else { Err(AuthorityError::Host) }
    }

    /// Reads a host as people write it in a file: as [`Host::parse_uri`], and IPv6 without brackets too.
    ///
    /// # Errors
    /// See [`Target::parse`].
    pub fn parse_plain(text: &str) -> Result<Self, AuthorityError> {
        match text.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Self::Ip(IpAddr::V6(address).to_canonical())),
            Err(_) => Self::parse_uri(text),
        }
    }
}

/// A port in plain digits: no sign, no blank, no leading zero, 1 to 65535.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// Letters, digits, hyphens (RFC 1123 §2.1), and a last label that no resolver reads as a number: `0x7f.1`,
/// `2130706433` and `127.1` are addresses to `inet_aton`.
fn is_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
    name.len() <= 253 && name.split('.').all(label) && !number
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
