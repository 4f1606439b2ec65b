//! The settings in the own types of `sip-core`'s machine.

use std::net::{IpAddr, SocketAddr};

use sip_core::edge::{Config, config};
use sip_core::flow::{Side, Transport};

use crate::config::{self as settings, Interface, Settings, SipPort};

pub(super) fn side(row: &SipPort) -> Side {
    if row.inside { Side::Inside } else { Side::Outside }
}

/// The settings in the edge's own types.
pub(super) fn edge(settings: &Settings) -> Config {
    let sip = &settings.sip;
    let mut config = Config::new(face(settings, false), face(settings, true));
    for listener in sip.ports.iter().flat_map(|row| listeners(settings, row)) {
        config.add_listener(listener);
    }
    config.interop = sip.interop.clone();
    for net in &sip.inside_networks {
        config.inside_networks.add_net(*net);
    }
    config.servers = sip.servers.iter().map(server).collect();
    config.internal_domains = settings.net.internal_domains.clone();
    config.blacklist = sip.blacklist;
    config.monitor = sip.monitor.clone();
    config.switches = config::Switches {
        transport: transport(sip.inside.transport),
        port: sip.inside.port,
        connections: match sip.inside.connections {
            settings::Connections::Shared => config::Connections::Shared,
            settings::Connections::PerPhone => config::Connections::PerPhone,
        },
    };
    config.preloaded_routes = sip.preloaded_routes;
    config.class_3xx = sip.class_3xx;
    config.users = sip.users.clone();
    config.default_policy = sip.default_policy;
    config.filters = sip.filters.clone();
    config.max_forwards = u32::from(sip.max_forwards);
    config.timers.ringing = sip.invite_timeout_default;
    config.timers.flow_idle = sip.interop.sessions.stream_idle;
    config.keep_alive = sip.keep_alive.clone();
    config.timers.ringing_maximum = sip.invite_timeout_max;
    config.guard = settings.guard.rules.clone();
    config.limits = settings.guard.limits.clone();
    config.transactions.transactions = settings.guard.transactions;
    config.transactions.t1 = sip.t1;
    config.transactions.invite_retransmissions = sip.invite_retrans;
    config.transactions.other_retransmissions = sip.other_retrans;
    config
}

fn server(row: &settings::SipServer) -> sip_core::resolve::Server {
    let addresses = row.addresses.iter().map(|address| (address.ip(), Some(address.port()))).collect();
    let (name, matches, lookup) = (row.name.clone(), row.names.clone(), row.lookup.clone());
    sip_core::resolve::Server { name, matches, addresses, lookup }
}

fn transport(transport: settings::Transport) -> Transport {
    match transport {
        settings::Transport::Udp => Transport::Udp,
        settings::Transport::Tcp => Transport::Tcp,
        settings::Transport::Tls => Transport::Tls,
    }
}

/// What we write into messages on one side: the first row of that side, the first address of the interface.
fn face(settings: &Settings, inside: bool) -> config::Face {
    let interface = if inside { &settings.net.inside } else { &settings.net.outside };
    let wanted = settings.sip.inside.transport;
    let mut rows = settings.sip.ports.iter().filter(|row| row.inside == inside);
    let fits = |row: &&SipPort| !inside || row.transports.contains(&wanted);
    let row = rows.clone().find(fits).or_else(|| rows.next());
    let (port, over) = match row {
        Some(row) => {
            let over = if inside && row.transports.contains(&wanted) { Some(wanted) } else { None };
            let first = over.or_else(|| row.transports.first().copied()).unwrap_or(wanted);
            (row.addresses.first().map_or(5061, SocketAddr::port), first)
        }
        None => (settings.sip.inside.port, wanted),
    };
    let host = written(interface).to_string();
    let mut face = config::Face::new(host, port, transport(over));
    face.aliases = interface.addresses.iter().map(ToString::to_string).collect();
    if let (false, Some(tls)) = (inside, row.and_then(|row| row.tls.as_ref())) {
        face.aliases.extend(names(settings, &tls.certificate));
    }
    face
}

/// What a row is bound to, and what it is called there: behind a 1:1 NAT the public address of that family.
fn listeners<'s>(settings: &'s Settings, row: &'s SipPort) -> impl Iterator<Item = config::Listener> + 's {
    let interface = if row.inside { &settings.net.inside } else { &settings.net.outside };
    row.addresses.iter().flat_map(move |local| {
        let public = interface.public_address.filter(|public| public.is_ipv4() == local.is_ipv4());
        row.transports.iter().map(move |over| {
            let mut listener = config::Listener::new(side(row), *local, transport(*over));
            listener.intercept = row.intercept;
            let public = row.host.clone().or_else(|| public.map(|public| public.to_string()));
            if let Some(public) = public {
                listener.face.host = public;
            }
            listener
        })
    })
}

/// The address others see: the public one behind a 1:1 NAT.
fn written(interface: &Interface) -> IpAddr {
    let first = interface.addresses.first().copied().unwrap_or_else(|| IpAddr::from([0, 0, 0, 0]));
    interface.public_address.unwrap_or(first)
}

/// The names a certificate gives us: a phone may call us by them.
fn names(settings: &Settings, certificate: &str) -> Vec<String> {
    match settings.certificates.get(certificate) {
        Some(settings::CertificateOrigin::Requested { dns, .. }) => dns.clone(),
        Some(settings::CertificateOrigin::Imported(credential)) => credential.details().identity().names,
        None => Vec::new(),
    }
}
