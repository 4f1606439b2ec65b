//! Which addresses are bound: clashes (CFG-05), the media range (CFG-18) and the laboratory rule.

use std::net::{IpAddr, SocketAddr};

use super::Judge;
use crate::config::settings::{Endpoint, Settings, Transport};

struct Listener {
    key: Vec<String>,
    address: SocketAddr,
    datagrams: bool,
}

pub(super) fn judge(settings: &Settings, judge: &mut Judge<'_>) {
    let listeners = listeners(settings);
    clashes(&listeners, judge);
    tunnels(settings, judge);
    let (low, high) = settings.media.port_range;
    for listener in listeners.iter().filter(|one| one.datagrams) {
        if (low..=high).contains(&listener.address.port()) {
            let key: Vec<&str> = listener.key.iter().map(String::as_str).collect();
            judge.refuse_by(
                "CFG-18",
                &key,
                format!("port {} lies in media.port_range", listener.address.port()),
            );
        }
    }
    if settings.lab {
        if let Some(public) = listeners.iter().find(|one| !one.address.ip().is_loopback()) {
            judge.refuse(&["lab"], format!("lab = true is for loopback only, and {} is not", public.address));
        } else {
            judge.warn(&["lab"], "this is a laboratory: the loopback and same-address rules are lifted");
        }
    }
    let loopback = |address: &IpAddr| address.is_loopback();
    let interfaces = [("inside", &settings.net.inside), ("outside", &settings.net.outside)];
    for (name, interface) in interfaces {
        if !settings.lab && interface.addresses.iter().any(loopback) {
            judge.refuse(
                &["net", "interfaces", name],
                "a loopback address serves nobody: expected lab = true with it",
            );
        }
    }
    if !settings.lab
        && settings.net.inside.addresses.iter().any(|one| settings.net.outside.addresses.contains(one))
    {
        judge.refuse(&["net", "interfaces"], "inside and outside share an address");
    }
}

/// Tunnels in the words of the tunnel itself: what it would refuse is refused here.
fn tunnels(settings: &Settings, judge: &mut Judge<'_>) {
    for endpoint in settings.endpoints.values() {
        if let Endpoint::Tunnel(row) = &endpoint.serves
            && let Err(error) = settings.tunnel_policy(row)
        {
            judge.refuse(&["http", "tunnels", &row.name], error.to_string());
        }
    }
}

fn listeners(settings: &Settings) -> Vec<Listener> {
    let mut out: Vec<Listener> = Vec::new();
    let mut add = |key: &[&str], address: SocketAddr, datagrams: bool| {
        let key = key.iter().map(|part| (*part).to_owned()).collect();
        out.push(Listener { key, address, datagrams });
    };
    for port in &settings.sip.ports {
        let at = port.row.to_string();
        for address in &port.addresses {
            for transport in &port.transports {
                add(&["sip", "ports", &at, "port"], *address, *transport == Transport::Udp);
            }
        }
    }
    for (name, endpoint) in &settings.endpoints {
        for address in &endpoint.addresses {
            add(&["http", "local_endpoints", name, "port"], *address, false);
        }
    }
    for address in &settings.challenges {
        add(&["acme", "domains"], *address, false);
    }
    out
}

fn clashes(listeners: &[Listener], judge: &mut Judge<'_>) {
    for (at, one) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(at);
        let clash = earlier
            .filter(|other| other.datagrams == one.datagrams)
            .find(|other| other.address == one.address);
        if let Some(other) = clash {
            let key: Vec<&str> = one.key.iter().map(String::as_str).collect();
            let message = format!("{} is taken by {} already", one.address, super::spelled(&other.key));
            judge.refuse_by("CFG-05", &key, message);
        }
    }
}
