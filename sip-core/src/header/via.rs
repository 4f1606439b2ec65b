//! Via (RFC 3261 §20.42).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Fault, HeaderError, Params};
use crate::grammar::{is_lws, number, push_ipv4, push_number, skip_lws, skip_token, trim};
use crate::message::Name;
use crate::uri::{Host, ipv6};

/// The transport a Via names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ViaTransport<'a> {
    /// `UDP`
    Udp,
    /// `TCP`
    Tcp,
    /// `TLS`
    Tls,
    /// Any other token (RFC 4475 §3.1.1.10).
    Other(&'a [u8]),
}

/// One Via value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ViaValue<'a> {
    raw: &'a [u8],
    transport: &'a [u8],
    host_bytes: &'a [u8],
    host: Host<'a>,
    port: Option<u16>,
    params: Params<'a>,
}

impl<'a> ViaValue<'a> {
    /// Reads one value.
    ///
    /// # Errors
    /// [`HeaderError`] with the fault `Protocol`, `SentBy` or `Parameter`.
    #[inline]
    pub fn parse(field: Name, value: &'a [u8]) -> Result<Self, HeaderError> {
        read(trim(value)).map_err(|(offset, fault)| HeaderError::new(field, offset, fault))
    }

    /// The value as it came, trimmed.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The transport.
    pub fn transport(&self) -> ViaTransport<'a> {
        match self.transport {
            t if t.eq_ignore_ascii_case(b"TLS") => ViaTransport::Tls,
            t if t.eq_ignore_ascii_case(b"TCP") => ViaTransport::Tcp,
            t if t.eq_ignore_ascii_case(b"UDP") => ViaTransport::Udp,
            other => ViaTransport::Other(other),
        }
    }

    /// The transport as it was spelt.
    pub fn transport_bytes(&self) -> &'a [u8] {
        self.transport
    }

    /// The host of sent-by.
    pub fn host(&self) -> Host<'a> {
        self.host
    }

    /// The host of sent-by as it was spelt.
    pub fn host_bytes(&self) -> &'a [u8] {
        self.host_bytes
    }

    /// The port of sent-by.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// A parameter's value, quotes kept; empty for a flag.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.value(name)
    }

    /// The branch, cookie included. A branch of RFC 3261 starts with `z9hG4bK` and has more behind it
    /// (RFC 4475 §3.2.1: nothing behind it means matching as in RFC 2543).
    #[inline]
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.param("branch")
    }

    /// The branch is one of RFC 3261: the cookie with something behind it. If not, transactions match as in RFC 2543
    /// (§17.2.3).
    pub fn has_unique_branch(&self) -> bool {
        let cookie = self.branch().and_then(|branch| branch.split_at_checked(7));
        cookie.is_some_and(|(cookie, rest)| cookie.eq_ignore_ascii_case(b"z9hG4bK") && !rest.is_empty())
    }

    /// `received`, with or without brackets around an IPv6 address (RFC 5118 §4.5); `None` when it is no address.
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.param("received")?;
        let bare = value.strip_prefix(b"[").and_then(|v| v.strip_suffix(b"]")).unwrap_or(value);
        if let Some(v6) = ipv6(bare) {
            return Some(IpAddr::V6(v6));
        }
        std::str::from_utf8(value).ok()?.parse().ok().map(IpAddr::V4)
    }

    /// `rport` (RFC 3581): `None` absent, `Some(None)` asked for, `Some(Some(port))` filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.param("rport").map(|value| number(value).and_then(|n| u16::try_from(n).ok()))
    }

    /// `alias` (RFC 5923).
    pub fn alias(&self) -> bool {
        self.params.contains("alias")
    }

    /// The value with `received` set to where the request came from (RFC 3261 §18.2.1), and with `rport` filled in
    /// when the sender asked for it (RFC 3581 §4). What stood in either before is replaced, the rest stays.
    pub fn stamped(&self, source: SocketAddr) -> Vec<u8> {
        let head = self.raw.len() - self.params.as_bytes().len();
        // `;received=` and `;rport=` with the longest of addresses are 65 octets.
        let mut text = Vec::with_capacity(self.raw.len() + 72);
        text.extend_from_slice(trim(&self.raw[..head]));
        for (name, value) in self.params.iter() {
            if name.eq_ignore_ascii_case(b"received") || name.eq_ignore_ascii_case(b"rport") {
                continue;
            }
            text.push(b';');
            text.extend_from_slice(name);
            if let Some(value) = value {
                text.push(b'=');
                text.extend_from_slice(value);
            }
        }
        text.extend_from_slice(b";received=");
        match source.ip().to_canonical() {
            IpAddr::V4(address) => push_ipv4(&mut text, address),
            IpAddr::V6(address) => text.extend_from_slice(address.to_string().as_bytes()),
        }
        if self.rport().is_some() {
            text.extend_from_slice(b";rport=");
            push_number(&mut text, u32::from(source.port()));
        }
        text
    }
}

impl fmt::Debug for ViaValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ViaValue");
        out.field("transport", &self.transport()).field("host", &self.host).field("port", &self.port);
        out.field("params", &self.params).finish_non_exhaustive()
    }
}

type Broken = (usize, Fault);

#[inline]
fn read(raw: &[u8]) -> Result<ViaValue<'_>, Broken> {
    let transport_start = protocol(raw)?;
    let transport_end = skip_token(raw, transport_start);
    let host_start = skip_lws(raw, transport_end);
    if transport_end == transport_start || host_start == transport_end {
        return Err((transport_end, Fault::Protocol));
    }
    // IPv6 references hold colons; everything else ends at a colon, a semicolon or white space.
    let mut host_end = host_start;
    if raw.get(host_start) == Some(&b'[') {
        host_end = memchr::memchr(b']', &raw[host_start..]).map_or(raw.len(), |end| host_start + end + 1);
    }
    while host_end < raw.len() && !matches!(raw[host_end], b':' | b';') && !is_lws(raw[host_end]) {
        host_end += 1;
    }
    let host_bytes = &raw[host_start..host_end];
    let host = Host::parse(host_bytes).ok_or((host_start, Fault::SentBy))?;
    let mut at = skip_lws(raw, host_end);
    let mut port = None;
    if raw.get(at) == Some(&b':') {
        at = skip_lws(raw, at + 1);
        let start = at;
        while at < raw.len() && raw[at].is_ascii_digit() {
            at += 1;
        }
        let n = number(&raw[start..at]).and_then(|n| u16::try_from(n).ok());
        port = Some(n.ok_or((start, Fault::SentBy))?);
    }
    let params = Params::parse(&raw[at..]).map_err(|offset| (at + offset, Fault::Parameter))?;
    Ok(ViaValue { raw, transport: &raw[transport_start..transport_end], host_bytes, host, port, params })
}

/// `"SIP" SLASH "2.0" SLASH`: the offset of the transport.
#[inline]
fn protocol(raw: &[u8]) -> Result<usize, Broken> {
    if raw.starts_with(b"SIP/2.0/") {
        return Ok(skip_lws(raw, 8));
    }
    let mut at = 0;
    for part in [&b"SIP"[..], b"2.0"] {
        let end = at + part.len();
        if !raw.get(at..end).is_some_and(|text| text.eq_ignore_ascii_case(part)) {
            return Err((at, Fault::Protocol));
        }
        at = skip_lws(raw, end);
        if raw.get(at) != Some(&b'/') {
            return Err((at, Fault::Protocol));
        }
        at = skip_lws(raw, at + 1);
    }
    Ok(at)
}
