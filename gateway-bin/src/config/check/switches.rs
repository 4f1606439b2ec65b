//! The switches: those known by name, and those that are asked whether they live.

use std::net::{IpAddr, SocketAddr};

use sip_core::edge::config::Monitored;
use sip_core::flow;

use super::Judge;
use crate::config::file;
use crate::config::settings::{InsideTls, NetSettings, SipPort, SipServer, Transport};

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

/// The most rows of `[[monitor.sip]]`.
const MONITORED: usize = 100;

/// MON-01: who is asked whether it lives.
pub(super) fn monitor(
    file: &file::File,
    net: Option<&NetSettings>,
    ports: &[SipPort],
    inside: Option<&InsideTls>,
    judge: &mut Judge<'_>,
) -> Vec<Monitored> {
    if file.monitor.sip.len() > MONITORED {
        judge.refuse(&["monitor", "sip"], format!("too many rows: expected {MONITORED} at most"));
    }
    let mut out = Vec::new();
    for (at, row) in file.monitor.sip.iter().enumerate() {
        let at = at.to_string();
        let key = |name: &'static str| ["monitor", "sip", &at, name].map(str::to_owned);
        let refuse = |judge: &mut Judge<'_>, name: &'static str, why: String| {
            let key = key(name);
            judge.refuse(&key.each_ref().map(String::as_str), why);
        };
        let (port_key, transport_key) = (key("port"), key("transport"));
        let port = judge.number::<u16>(&port_key.each_ref().map(String::as_str), row.port, (1, 65_535));
        let transports = [
            ("udp", (Transport::Udp, flow::Transport::Udp)),
            ("tcp", (Transport::Tcp, flow::Transport::Tcp)),
            ("tls", (Transport::Tls, flow::Transport::Tls)),
        ];
        let transport_key = transport_key.each_ref().map(String::as_str);
        let transport = judge.one_of(&transport_key, &row.transport, &transports);
        let (Some(port), Some((written, transport))) = (port, transport) else { continue };
        if written == Transport::Tls && inside.is_some_and(|inside| inside.transport != Transport::Tls) {
            let why = "there is no TLS towards the switches: expected sip.inside.transport = \"tls\", or another one here";
            refuse(judge, "transport", why.to_owned());
        }
        let has_udp = ports.iter().any(|row| row.inside && row.transports.contains(&Transport::Udp));
        if written == Transport::Udp && !has_udp {
            let why = "no inside row of sip.ports has UDP to ask from: expected one, or another transport";
            refuse(judge, "transport", why.to_owned());
        }
        match (row.server.parse::<IpAddr>(), name(&row.server)) {
            (Ok(address), _) if is_own(address, port, file.lab, net, ports) => {
                refuse(judge, "server", format!("{address} is our own address: expected a switch"));
            }
            (Ok(address), _) => {
                out.push(Monitored { server: address.to_canonical().to_string(), port, transport });
            }
            (_, Some((_, None))) if net.is_some_and(|net| net.dns.is_empty()) => {
                let why =
                    "is a name, and no name server is configured: expected one in net.dns, or an address";
                refuse(judge, "server", format!("\"{}\" {why}", row.server));
            }
            (_, Some((server, None))) => out.push(Monitored { server, port, transport }),
            _ => {
                let why = "is neither an address nor a host name: expected one, without a port";
                refuse(judge, "server", format!("\"{}\" {why}", row.server));
            }
        }
    }
    out
}

/// In a laboratory all have the same address, and the port tells who is meant.
fn is_own(address: IpAddr, port: u16, lab: bool, net: Option<&NetSettings>, ports: &[SipPort]) -> bool {
    let address = address.to_canonical();
    if lab {
        return ports.iter().any(|row| row.addresses.contains(&SocketAddr::new(address, port)));
    }
    net.is_some_and(|net| {
        let own = [&net.inside, &net.outside];
        own.iter().any(|one| one.addresses.contains(&address) || one.public_address == Some(address))
    })
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
