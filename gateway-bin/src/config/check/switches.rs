//! The switches: those known by name.

use std::net::{IpAddr, SocketAddr};

use super::Judge;
use crate::config::file;
use crate::config::settings::{NetSettings, SipServer};

/// Switches known by name; an address without a port has that of `sip.inside`.
pub(super) fn servers(sip: &file::Sip, net: Option<&NetSettings>, judge: &mut Judge<'_>) -> Vec<SipServer> {
    let port = u16::try_from(sip.inside.port).unwrap_or_default();
    let mut out = Vec::new();
    for (at, row) in sip.servers.iter().enumerate() {
        let at = at.to_string();
        let key = ["sip", "servers", &at, "addresses"];
        let (mut addresses, mut lookup) = (Vec::new(), None);
        for text in &row.addresses {
            match (text.parse::<SocketAddr>(), text.parse::<IpAddr>(), name(text)) {
                (Ok(address), ..) => addresses.push(address),
                (_, Ok(address), _) => addresses.push(SocketAddr::new(address, port)),
                (.., Some(_)) if row.addresses.len() > 1 => {
                    let why = "a name stands alone, and DNS says which addresses it has, in which order";
                    judge.refuse(&key, format!("\"{text}\" is not an address: {why}"));
                }
                (.., Some(_)) if net.is_some_and(|net| net.dns.is_empty()) => {
                    let why = "no name server is configured: expected one in net.dns, or addresses";
                    judge.refuse(&key, format!("\"{text}\" is a name, and {why}"));
                }
                (.., Some(name)) => lookup = Some(name),
                _ => judge.refuse(
                    &key,
                    format!("\"{text}\" is not an address: expected address:port, or one host name"),
                ),
            }
        }
        if row.addresses.is_empty() {
            judge.refuse(&key, "expected at least one address");
        }
        let names = row.names.iter().map(|name| name.to_lowercase()).collect();
        out.push(SipServer { name: row.name.clone(), names, addresses, lookup });
    }
    out
}

/// A host name, with a port if one is written. What could be an address is none.
pub(super) fn name(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
        None => (text, None),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |label: &str| {
        let sound = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        sound && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    (host.len() <= 253 && host.split('.').all(label) && !numeric).then_some((host, port))
}
