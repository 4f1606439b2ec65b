//! Who may be dialled: the way from a URI's host to the addresses inside, and to nothing else.
//!
//! A phone names the switch that it wants; [`Directory`] decides whether the name is one that we serve
//! (ruling "which switch"), [`locate`] finds its addresses (RFC 3263: NAPTR, SRV, A and AAAA). The look-ups themselves
//! happen outside; [`Networks::contains`] judges what they find.

use std::net::IpAddr;

use ipnet::IpNet;

pub mod locate;
pub mod records;

/// A set of addresses: networks, ranges and single hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl Networks {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every address of a network.
    pub fn add_net(&mut self, net: IpNet) {
        self.ranges.push((net.network(), net.broadcast()));
    }

    /// Adds the addresses from `first` to `last`, both included. Nothing when they are of different families.
    pub fn add_range(&mut self, first: IpAddr, last: IpAddr) {
        if first.is_ipv4() == last.is_ipv4() {
            self.ranges.push((first, last));
        }
    }

    /// What is in it, from the first address to the last of each piece.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.ranges.iter().copied()
    }

    /// Whether the address is one of them. An IPv4-mapped IPv6 address counts as the IPv4 address it stands for.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ranges.iter().any(|(first, last)| {
            first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
        })
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.ranges.iter().any(|(first, last)| {
            other
                .ranges
                .iter()
                .any(|(from, to)| first.is_ipv4() == from.is_ipv4() && first <= to && from <= last)
        })
    }

    /// Whether there is no address in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<T: IntoIterator<Item = IpNet>>(nets: T) -> Self {
        let mut networks = Self::new();
        for net in nets {
            networks.add_net(net);
        }
        networks
    }
}

/// One configured server: names that phones may use for it, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// For logs.
    pub name: String,
    /// Host names (or addresses) in a Request-URI that mean this server; compared without regard to case.
    pub matches: Vec<String>,
    /// Its addresses in order of preference; a port overrides the one of the inside defaults.
    pub addresses: Vec<(IpAddr, Option<u16>)>,
    /// A name to look up in place of addresses. Without a port, NAPTR and SRV say where it is (RFC 3263).
    pub lookup: Option<(String, Option<u16>)>,
}

impl Server {
    /// Where it is.
    pub fn destination(&self) -> Destination {
        match &self.lookup {
            Some((name, port)) => Destination::Lookup(name.to_ascii_lowercase(), *port),
            None => Destination::Addresses(self.addresses.clone()),
        }
    }
}

/// What a host in a Request-URI or Route means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// These addresses, in this order; `None` takes the port of the URI or the inside default.
    Addresses(Vec<(IpAddr, Option<u16>)>),
    /// A name under an internal domain, or that of a server: look it up, and use only an answer that lies inside as a
    /// whole. A port is the server's own; `None` takes that of the URI.
    Lookup(String, Option<u16>),
    /// Nobody that we know: 403, no look-up, no packet.
    Forbidden,
}

/// The tables that [`Directory::destination`] decides by.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    /// Where requests from phones may go.
    pub inside_networks: &'a Networks,
    /// Names and exceptions.
    pub servers: &'a [Server],
    /// Domains whose names are looked up inside.
    pub internal_domains: &'a [String],
}

impl Directory<'_> {
    /// Judges a host that is not one of our own.
    pub fn destination(&self, host: &str) -> Destination {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let name = bare.strip_suffix('.').unwrap_or(bare);
        if let Some(server) =
            self.servers.iter().find(|s| s.matches.iter().any(|m| m.eq_ignore_ascii_case(name)))
        {
            return server.destination();
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            let known = self.inside_networks.contains(address)
                || self.servers.iter().any(|s| s.addresses.iter().any(|(a, _)| *a == address));
            return if known {
                Destination::Addresses(vec![(address, None)])
            } else {
                Destination::Forbidden
            };
        }
        if self.internal_domains.iter().any(|domain| is_under(name, domain)) {
            return Destination::Lookup(name.to_ascii_lowercase(), None);
        }
        Destination::Forbidden
    }
}

/// Whether `name` is `domain` or ends in `.domain`.
pub(crate) fn is_under(name: &str, domain: &str) -> bool {
    let domain = domain.trim_matches('.');
    let Some(at) = name.len().checked_sub(domain.len()) else { return false };
    !domain.is_empty()
        && name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(domain))
        && (at == 0 || name.as_bytes().get(at - 1) == Some(&b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> Networks {
        let mut networks: Networks =
            ["10.0.1.10/32".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()].into_iter().collect();
        networks.add_range("10.0.1.50".parse().unwrap(), "10.0.1.51".parse().unwrap());
        networks
    }

    #[test]
    fn hosts_and_what_they_mean() {
        let networks = networks();
        let servers = [Server {
            name: "main".into(),
            matches: vec!["sip.example.internal".into()],
            addresses: vec![("10.0.9.1".parse().unwrap(), Some(5071))],
            lookup: None,
        }];
        let domains = ["example.internal".to_owned()];
        let directory =
            Directory { inside_networks: &networks, servers: &servers, internal_domains: &domains };
        let one = |a: &str, p| Destination::Addresses(vec![(a.parse().unwrap(), p)]);
        for (host, expected) in [
            ("10.0.1.10", one("10.0.1.10", None)),
            ("10.0.1.51", one("10.0.1.51", None)),
            ("10.0.1.52", Destination::Forbidden),
            ("::ffff:10.0.1.10", one("10.0.1.10", None)),
            ("[2001:db8:1::7]", one("2001:db8:1::7", None)),
            ("2001:db8:2::7", Destination::Forbidden),
            ("127.0.0.1", Destination::Forbidden),
            ("10.0.9.1", one("10.0.9.1", None)),
            ("SIP.Example.Internal", one("10.0.9.1", Some(5071))),
            ("sip.example.internal.", one("10.0.9.1", Some(5071))),
            ("pbx2.EXAMPLE.internal", Destination::Lookup("pbx2.example.internal".into(), None)),
            ("example.internal", Destination::Lookup("example.internal".into(), None)),
            ("badexample.internal", Destination::Forbidden),
            ("evil.test", Destination::Forbidden),
            ("0x0a.0.1.10", Destination::Forbidden),
            ("167772426", Destination::Forbidden),
            ("", Destination::Forbidden),
        ] {
            assert_eq!(directory.destination(host), expected, "{host}");
        }
    }

    #[test]
    fn an_empty_domain_matches_nothing() {
        assert!(!is_under("evil.test", ""));
        assert!(!is_under("evil.test", "."));
        assert!(is_under("a.example.internal", ".example.internal"));
    }
}
