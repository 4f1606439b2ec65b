//! Where tunnels may lead: networks and ports per row, and what is never reached whatever a row says.
//!
//! Everything here is a pure function of the policy and an address, so that the same check can stand before
//! every dial. A name is looked up once by the caller; [`Policy::permitted`] then picks the addresses that may
//! be dialled, and only those are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::authority::{Host, Target, parse_port};

/// A list of addresses, prefixes and ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<(IpAddr, IpAddr)>);

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Not an address, `address/bits` or `first-last`.
    #[error("expected an address, a prefix such as 10.0.0.0/8, or a range first-last")]
    Syntax,
    /// The range ends before it starts, or mixes IPv4 and IPv6.
    #[error("the range ends before it starts or mixes IPv4 and IPv6")]
    Order,
    /// An IPv4-mapped IPv6 network; write it as IPv4.
    #[error("write an IPv4-mapped network as IPv4")]
    Mapped,
}

impl Networks {
    /// Reads addresses (`10.0.1.10`), prefixes (`10.0.0.0/8`) and ranges (`10.0.1.50-10.0.1.51`).
    ///
    /// # Errors
    /// The first entry that is none of these.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, NetworkError> {
        entries
            .into_iter()
            .map(|entry| parse_network(entry.as_ref().trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether `address` lies in one of the networks; an IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        // `IpAddr` orders all of IPv4 before all of IPv6, and ranges never mix, so families stay apart.
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Whether there is no network at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any network reaches outside private space (RFC 1918, RFC 6598, RFC 4193, loopback): a tunnel to
    /// such a network is an open proxy.
    pub fn reaches_public(&self) -> bool {
        const PRIVATE: [(IpAddr, IpAddr); 6] = [
            (v4(10, 0, 0, 0), v4(10, 255, 255, 255)),
            (v4(100, 64, 0, 0), v4(100, 127, 255, 255)),
            (v4(127, 0, 0, 0), v4(127, 255, 255, 255)),
            (v4(172, 16, 0, 0), v4(172, 31, 255, 255)),
            (v4(192, 168, 0, 0), v4(192, 168, 255, 255)),
            (
                IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)),
                IpAddr::V6(Ipv6Addr::new(0xfdff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)),
            ),
        ];
        let private = |range: &(IpAddr, IpAddr)| PRIVATE.iter().any(|p| p.0 <= range.0 && range.1 <= p.1);
        let loopback = |range: &(IpAddr, IpAddr)| range.0 == range.1 && range.0.is_loopback();
        self.0.iter().any(|range| !private(range) && !loopback(range))
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn parse_network(entry: &str) -> Result<(IpAddr, IpAddr), NetworkError> {
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| NetworkError::Syntax);
    let (first, last) = if let Some((first, last)) = entry.split_once('-') {
        (address(first.trim())?, address(last.trim())?)
    } else if entry.contains('/') {
        let net: ipnet::IpNet = entry.parse().map_err(|_| NetworkError::Syntax)?;
        (net.network(), net.broadcast())
    } else {
        let one = address(entry)?;
        (one, one)
    };
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err(NetworkError::Order);
    }
    let mapped = |a: IpAddr| a.to_canonical() != a;
    if mapped(first) || mapped(last) { Err(NetworkError::Mapped) } else { Ok((first, last)) }
}

/// A list of ports and port ranges; an empty list means every port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// A text that is no port or port range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a port from 1 to 65535 or a range first-last")]
pub struct PortError;

impl Ports {
    /// Reads ports (`5448`) and ranges (`5060-5061`).
    ///
    /// # Errors
    /// The first entry that is neither.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, PortError> {
        let port = |text: &str| parse_port(text.trim()).ok_or(PortError);
        let range = |entry: T| {
            let entry = entry.as_ref();
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            let range = port(first)?..=port(last)?;
            if range.is_empty() { Err(PortError) } else { Ok(range) }
        };
        entries.into_iter().map(range).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `port` is allowed.
    pub fn contains(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(&port))
    }
}

/// One row: an address in `allow_to` on a port in `ports`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Networks tunnels may lead to.
    pub allow_to: Networks,
    /// Ports tunnels may lead to; empty means all.
    pub ports: Ports,
}

/// Everything that decides where a tunnel of one endpoint may lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rows; one must allow both address and port.
    pub rules: Vec<Rule>,
    /// The gateway's own addresses: never a target.
    pub own_addresses: Vec<IpAddr>,
    /// The gateway's own listening sockets, all services: never a target, even in the lab. An unspecified
    /// address stands for every own address and loopback.
    pub own_listeners: Vec<SocketAddr>,
    /// Lifts the rules against loopback and own addresses, for a demonstration that lives on loopback.
    pub lab: bool,
}

/// Why an address is never a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forbidden {
    /// 127/8 or ::1.
    Loopback,
    /// 0/8 or ::, which systems take for themselves.
    Unspecified,
    /// 169.254/16 or fe80::/10.
    LinkLocal,
    /// 224/4 or ff00::/8.
    Multicast,
    /// 240/4, the broadcast address included.
    Reserved,
    /// A cloud's metadata service.
    Metadata,
    /// An IPv6 form that carries an IPv4 address past the rules: NAT64, 6to4, Teredo, compatible, translated.
    Embedded,
    /// One of the gateway's addresses.
    OwnAddress,
    /// One of the gateway's listening sockets.
    OwnListener,
}

/// Why a target is refused. Every refusal is a 403, whether or not anything listens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No row allows this address.
    Network,
    /// No row allows this port, for any address.
    Port,
    /// The address is never a target.
    Forbidden(Forbidden),
}

/// What to do with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Dial exactly this address.
    Dial(SocketAddr),
    /// Look this name up once and give the answer to [`Policy::permitted`].
    Resolve(&'a str),
    /// Refuse.
    Refuse(Refusal),
}

impl Policy {
    /// What to do with a target. Nothing has left the machine when this refuses, and a name whose port no row
    /// allows is not even looked up.
    pub fn decide<'a>(&self, target: &'a Target) -> Decision<'a> {
        match &target.host {
            Host::Ip(address) => match self.check(*address, target.port) {
                Ok(address) => Decision::Dial(address),
                Err(refusal) => Decision::Refuse(refusal),
            },
            Host::Name(_) if !self.rules.iter().any(|rule| rule.ports.contains(target.port)) => {
                Decision::Refuse(Refusal::Port)
            }
            Host::Name(name) => Decision::Resolve(name),
        }
    }

    /// The addresses of a look-up that may be dialled, in the resolver's order, each once.
    ///
    /// # Errors
    /// The first refusal when none may be, [`Refusal::Network`] for an empty answer.
    pub fn permitted(&self, answers: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let mut permitted = Vec::new();
        let mut refusal = None;
        for address in answers {
            match self.check(*address, port) {
                Ok(address) if !permitted.contains(&address) => permitted.push(address),
                Ok(_) => {}
                Err(reason) => {
                    refusal.get_or_insert(reason);
                }
            }
        }
        if permitted.is_empty() { Err(refusal.unwrap_or(Refusal::Network)) } else { Ok(permitted) }
    }

    /// Whether this address and port may be dialled; gives the canonical address to dial.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, address: IpAddr, port: u16) -> Result<SocketAddr, Refusal> {
        let address = address.to_canonical();
        if let Some(forbidden) = self.forbidden(address, port) {
            return Err(Refusal::Forbidden(forbidden));
        }
        let mut rows = self.rules.iter().filter(|rule| rule.allow_to.contains(address)).peekable();
        if rows.peek().is_none() {
            return Err(Refusal::Network);
        }
        if rows.any(|rule| rule.ports.contains(port)) {
            Ok(SocketAddr::new(address, port))
        } else {
            Err(Refusal::Port)
        }
    }

    fn forbidden(&self, address: IpAddr, port: u16) -> Option<Forbidden> {
        if self.is_own_listener(address, port) {
            return Some(Forbidden::OwnListener);
        }
        match class(address) {
            Some(Forbidden::Loopback) if self.lab => None,
            Some(forbidden) => Some(forbidden),
            None if self.is_own_address(address) && !self.lab => Some(Forbidden::OwnAddress),
            None => None,
        }
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.own_addresses.iter().any(|own| own.to_canonical() == address)
            || self.own_listeners.iter().any(|own| own.ip().to_canonical() == address)
    }

    fn is_own_listener(&self, address: IpAddr, port: u16) -> bool {
        self.own_listeners.iter().any(|own| {
            let ip = own.ip().to_canonical();
            let wildcard = ip.is_unspecified() && (address.is_loopback() || self.is_own_address(address));
            own.port() == port && (ip == address || wildcard)
        })
    }
}

/// The class of a canonical address that is never a target.
fn class(address: IpAddr) -> Option<Forbidden> {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

/// Metadata services outside link-local space: Azure's wire server, Alibaba's and Oracle's.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// Amazon's and Google's metadata services over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

fn class_v4(address: Ipv4Addr) -> Option<Forbidden> {
    match address.octets() {
        [127, ..] => Some(Forbidden::Loopback),
        [0, ..] => Some(Forbidden::Unspecified),
        [169, 254, ..] => Some(Forbidden::LinkLocal),
        [224..=239, ..] => Some(Forbidden::Multicast),
        [240..=255, ..] => Some(Forbidden::Reserved),
        _ if METADATA_V4.contains(&address) => Some(Forbidden::Metadata),
        _ => None,
    }
}

fn class_v6(address: Ipv6Addr) -> Option<Forbidden> {
    if METADATA_V6.contains(&address) {
        return Some(Forbidden::Metadata);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Forbidden::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Forbidden::Loopback),
        [0xfe80..=0xfebf, ..] => Some(Forbidden::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Forbidden::Multicast),
        // IPv4-compatible (RFC 4291 §2.5.5.1), mapped, translated (RFC 2765 §2.1).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => {
            Some(Forbidden::Embedded)
        }
        // NAT64 well-known and local prefixes (RFC 6052 §2.1, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] | [0x2002, ..] | [0x2001, 0, ..] => {
            Some(Forbidden::Embedded)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
