//! The addresses we write: towards the PBX a phone has one of the forms of [`UriEncoding`], `user@us;crt=TOKEN` unless
//! another is configured; towards a phone the PBX is `user@us;pc=SEALED`. Pure text; whose token it is, is known elsewhere.

pub(super) mod encoding;

use std::borrow::Cow;

#[cfg(doc)]
use super::interop::UriEncoding;

use super::config::Face;
use crate::flow::Transport;
use crate::header::Address;
use crate::uri::{Host, Scheme, Uri};

/// The URI parameter that names a phone towards the PBX.
pub const CONTACT_TOKEN: &str = "crt";
/// The same in the GRUU spelling.
pub const GRUU: &str = "gr";
/// The URI parameter of our Record-Route and Path entries.
pub const FLOW_TOKEN: &str = "ft";
/// The URI parameter that hides a PBX address towards phones.
pub const SEALED_CONTACT: &str = "pc";
/// The URI parameter that hides the rest of a route set towards phones.
pub const SEALED_ROUTES: &str = "rs";

/// The value of an address header with another URI; everything else stays byte for byte.
pub(super) fn readdress(address: &Address<'_>, uri: &[u8]) -> Vec<u8> {
    let (raw, old) = (address.raw(), address.uri_bytes());
    // Both are slices of one value: where the URI stands in it.
    let start = (old.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
    let before = raw.get(..start).unwrap_or_default();
    let after = raw.get(start + old.len()..).unwrap_or_default();
    let mut value = Vec::with_capacity(raw.len() + uri.len() + 2);
    value.extend_from_slice(before);
    if !address.is_bracketed() {
        value.push(b'<');
    }
    value.extend_from_slice(uri);
    if !address.is_bracketed() {
        value.push(b'>');
    }
    value.extend_from_slice(after);
    value
}

/// `scheme:user@face;transport=…;name=value…`. The scheme follows the original: `sips` stays where we speak TLS.
pub(super) fn own_uri(face: &Face, secure: bool, user: Option<&[u8]>, params: &[(&str, &str)]) -> Vec<u8> {
    let mut uri = Vec::with_capacity(160);
    let secure = secure && face.transport == Transport::Tls;
    uri.extend_from_slice(if secure { b"sips:" } else { b"sip:" });
    if let Some(user) = user {
        uri.extend_from_slice(user);
        uri.push(b'@');
    }
    uri.extend_from_slice(face.authority().as_bytes());
    uri.extend_from_slice(b";transport=");
    uri.extend_from_slice(transport_name(face.transport).as_bytes());
    for (name, value) in params {
        uri.push(b';');
        uri.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            uri.push(b'=');
            uri.extend_from_slice(value.as_bytes());
        }
    }
    uri
}

/// The `transport` parameter's value (RFC 3261 §19.1.1).
pub(super) fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
    }
}

/// The transport a URI asks for; `None` when it names none, or one that we don't speak.
pub(super) fn transport_of(uri: &Uri<'_>) -> Option<Transport> {
    let name = uri.param("transport")?;
    [Transport::Udp, Transport::Tcp, Transport::Tls]
        .into_iter()
        .find(|t| name.eq_ignore_ascii_case(transport_name(*t).as_bytes()))
}

/// Whether the URI is `sips`.
pub(super) fn is_secure(uri: &Uri<'_>) -> bool {
    uri.scheme() == Scheme::Sips
}

/// `uri` with this user part in the place of its own; without one when `user` is `None`.
pub(super) fn with_user(uri: &Uri<'_>, user: Option<&[u8]>) -> Vec<u8> {
    let (raw, opaque, host) = (uri.raw(), uri.opaque(), uri.host_bytes());
    let scheme = raw.len() - opaque.len();
    let host = (host.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
    let mut text = Vec::with_capacity(raw.len() + 32);
    text.extend_from_slice(raw.get(..scheme).unwrap_or_default());
    if let Some(user) = user {
        text.extend_from_slice(user);
        text.push(b'@');
    }
    text.extend_from_slice(raw.get(host..).unwrap_or_default());
    text
}

/// `uri` with another `host[:port]`.
pub(super) fn with_authority(uri: &Uri<'_>, authority: &str) -> Vec<u8> {
    let (raw, host) = (uri.raw(), uri.host_bytes());
    let start = (host.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
    let rest = raw.get(start..).unwrap_or_default();
    let end = rest.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(rest.len());
    let mut text = Vec::with_capacity(raw.len() + authority.len());
    text.extend_from_slice(raw.get(..start).unwrap_or_default());
    text.extend_from_slice(authority.as_bytes());
    text.extend_from_slice(rest.get(end..).unwrap_or_default());
    text
}

/// `host[:port]` of a URI as it is spelt.
pub(super) fn authority_of(uri: &Uri<'_>) -> String {
    let host = String::from_utf8_lossy(uri.host_bytes());
    match uri.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.into_owned(),
    }
}

/// The host as text for comparisons: an address in its canonical spelling, IPv6 without brackets.
pub(super) fn host_of<'u>(uri: &Uri<'u>) -> Cow<'u, str> {
    match uri.host() {
        Some(Host::Name(name)) => Cow::Borrowed(name),
        // Without leading zeros there is one spelling.
        Some(Host::V4(_)) => std::str::from_utf8(uri.host_bytes()).unwrap_or_default().into(),
        Some(Host::V6(address)) => Cow::Owned(address.to_canonical().to_string()),
        None => Cow::Borrowed(""),
    }
}

/// The user part with its escapes resolved; `None` for escapes that are none (SIP-22), or no text.
pub(super) fn unescape(user: &[u8]) -> Option<String> {
    if !user.contains(&b'%') {
        return String::from_utf8(user.to_vec()).ok();
    }
    let mut text = Vec::with_capacity(user.len());
    let mut bytes = user.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            text.push(byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        text.push((high * 16 + low) as u8);
    }
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Name;

    fn face() -> Face {
        Face::new("10.0.1.2", 5061, Transport::Tls)
    }

    fn contact(value: &[u8]) -> Address<'_> {
        Address::parse(Name::Contact, value).unwrap()
    }

    #[test]
    fn only_the_uri_of_a_contact_changes() {
        let uri = own_uri(&face(), true, Some(b"anonymous"), &[(CONTACT_TOKEN, "abc")]);
        assert_eq!(uri, b"sips:anonymous@10.0.1.2:5061;transport=tls;crt=abc");
        for (before, after) in [
            (
                &br#"<sips:a@b>;+sip.instance="<urn:uuid:1>";expires=3600"#[..],
                &br#"<U>;+sip.instance="<urn:uuid:1>";expires=3600"#[..],
            ),
            (br#""A <x> B"   <sip:a@b;x=y>  ; q=0.5"#, br#""A <x> B"   <U>  ; q=0.5"#),
            (b"sip:a@b;expires=5", b"<U>;expires=5"),
            (b"sip:a@b", b"<U>"),
        ] {
            assert_eq!(readdress(&contact(before), b"U"), after);
        }
    }

    #[test]
    fn parts_are_exchanged() {
        let uri = Uri::parse(b"sips:an%6fn:pw@[2001:db8::1]:5071;transport=tls;x=@y")
            .unwrap_or_else(|_| Uri::parse(b"sips:an%6fn:pw@[2001:db8::1]:5071;transport=tls;x=y").unwrap());
        assert_eq!(with_user(&uri, Some(b"117")), b"sips:117@[2001:db8::1]:5071;transport=tls;x=y");
        assert_eq!(with_user(&uri, None), b"sips:[2001:db8::1]:5071;transport=tls;x=y");
        assert_eq!(with_authority(&uri, "10.0.1.50"), b"sips:an%6fn:pw@10.0.1.50;transport=tls;x=y");
        assert_eq!(authority_of(&uri), "[2001:db8::1]:5071");
        assert_eq!(host_of(&uri), "2001:db8::1");
        assert_eq!(transport_of(&uri), Some(Transport::Tls));
        let uri = Uri::parse(b"sip:10.0.1.9").unwrap();
        assert_eq!(with_user(&uri, Some(b"117")), b"sip:117@10.0.1.9");
        assert_eq!(with_authority(&uri, "10.0.1.50:5061"), b"sip:10.0.1.50:5061");
    }

    #[test]
    fn users_are_compared_unescaped() {
        assert_eq!(unescape(b"%61lice").as_deref(), Some("alice"));
        assert_eq!(unescape(b"alice").as_deref(), Some("alice"));
        for bad in [&b"%"[..], b"%4", b"%zz", b"a%f", b"%ff"] {
            assert_eq!(unescape(bad), None);
        }
    }

    #[test]
    fn a_plain_transport_is_never_sips() {
        let udp = Face::new("10.0.1.2", 5060, Transport::Udp);
        assert_eq!(own_uri(&udp, true, None, &[("lr", "")]), b"sip:10.0.1.2:5060;transport=udp;lr");
    }
}
