//! What an endpoint may ask for, and how its media is treated: plain data, checked where it is made.

mod codec;
mod rules;

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::codec::{BadCodec, Codecs};
pub(crate) use self::codec::{Types, attributes, bit, encoding};
pub use self::rules::{Dtmf, Rules};
use crate::sdp::Limits;

/// One of our addresses for media: where sockets are bound, and what descriptions say (they differ behind 1:1 NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Bound by the relay. Never unspecified: the relay must know its own packets.
    pub local: IpAddr,
    /// Written into descriptions.
    pub advertised: IpAddr,
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self { local: ip, advertised: ip }
    }
}

/// The addresses of one side, at most one a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<Address>,
    /// IPv6.
    pub v6: Option<Address>,
}

impl Addresses {
    /// These addresses with one more; an address of the same family is replaced.
    #[must_use]
    pub fn with(mut self, address: impl Into<Address>) -> Self {
        let address = address.into();
        match address.local {
            IpAddr::V4(_) => self.v4 = Some(address),
            IpAddr::V6(_) => self.v6 = Some(address),
        }
        self
    }

    /// The address of a family.
    pub fn of(&self, family: Family) -> Option<Address> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Families that have an address, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        [self.v4.map(|_| Family::V4), self.v6.map(|_| Family::V6)].into_iter().flatten()
    }
}

impl From<IpAddr> for Addresses {
    fn from(ip: IpAddr) -> Self {
        Self::default().with(ip)
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<IpAddr> for Family {
    fn from(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Whose media is let in (decision 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Outside: only the address that the phone's signalling comes from, waived when signalling and media differ in family.
    /// Inside: only the address of the description and that of the peer's signalling.
    #[default]
    SignallingAddress,
    /// Any address (carrier-grade NAT that gives each connection another address). An open door until the phone speaks.
    Any,
}

/// How many senders a stream may have (MED-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SenderLimit {
    /// Address and port of the first sender, until the next offer and answer.
    Lock,
    /// Address of the first sender, any port.
    LockIp,
    /// Up to `max_senders` addresses and ports. Only the first is sent to.
    #[default]
    Multiple,
}

/// The hop limit, in IPv4 the TTL, of packets that leave (MED-09).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopLimit {
    /// The value received minus one; a packet that came with one is dropped, as by a router (RFC 1812 §5.3.1).
    #[default]
    Keep,
    /// Always this value. Takes away what ends a routing loop, so the relay's loop guard has to.
    Fixed(NonZeroU8),
}

/// When silence is told: seconds, judged once a second; `None`: never. Only ends that were agreed to send are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timeouts {
    /// One end sends RTP and the other does not (SAM-20).
    pub one_way: Option<u16>,
    /// No end sends RTP (SAM-21).
    pub rtp: Option<u16>,
    /// No end sends RTCP (SAM-22).
    pub rtcp: Option<u16>,
    /// Whether a stream without RTP, and without RTCP where that is waited for, is closed (MED-14).
    pub teardown: bool,
}

/// Where the media of two phones runs that call each other through the PBX (MED-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaRoute {
    /// By the relay.
    #[default]
    Gateway,
    /// From one to the other where both are behind the same NAT, unless one seems to be behind two.
    DirectBehindSameNat,
}

/// Which streams are continued whoever speaks in them: one SSRC, sequence and timestamp to each end (MED-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaProxy {
    /// None: packets leave as they came.
    #[default]
    No,
    /// Those that the relay carries and can read.
    Use,
    /// The same, and the relay carries all.
    Always,
}

/// What a side speaks whose SRTP ends with us (SDP-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Srtp {
    /// RTP in clear.
    Off,
    /// SRTP, else the call is refused.
    Required,
    /// SRTP where the far end can, else RTP.
    Preferred,
}

/// What both sides speak, where SRTP ends with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpSides {
    /// The phones.
    pub outside: Srtp,
    /// The PBX.
    pub inside: Srtp,
}

/// What a description may ask for, and how its streams are treated. Changing it touches offers to come, not live streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Sizes of a description.
    pub limits: Limits,
    /// UDP ports an endpoint may name; others are treated as an attack. 1024–65535, so that no description aims
    /// the relay at a service of a well-known port (SDP-18).
    pub allowed_ports: Vec<RangeInclusive<u16>>,
    /// TCP ports of streams that pass unrelayed. 1024–65535, and 9 of who will connect himself (RFC 4145 §4.1).
    pub allowed_tcp_ports: Vec<RangeInclusive<u16>>,
    /// Streams of one session that get a relay; further ones are declined. 6 (SDP-17).
    pub max_streams: usize,
    /// Whose media is let in.
    pub source: Source,
    /// How many senders.
    pub sender_limit: SenderLimit,
    /// Senders of a stream under [`SenderLimit::LockIp`] and [`SenderLimit::Multiple`]; 10, at most 64 (MED-06).
    pub max_senders: u8,
    /// Hop limit of what leaves.
    pub hop_limit: HopLimit,
    /// Media of the answering side before its answer (MED-08). Off: a port that was offered is no open door.
    pub early_rtp: bool,
    /// Several dialogs may answer one offer: each has ports of its own towards who offered until one is confirmed (MED-13).
    /// Off: one port for all, and only who answered last is heard and sent to.
    pub forked: bool,
    /// Packets a second that one sender may send; above it the sender is shut out for a second, which ends a loop. 1000.
    pub max_rate: u32,
    /// In lock mode a phone may change its port once without a word of signalling, after two seconds of silence (MED-07).
    pub late_relatch: bool,
    /// When silence is told, and whether it ends a stream (SAM-20 to SAM-22, MED-14).
    pub timeouts: Timeouts,
    /// Where the media of two phones behind one NAT runs.
    pub media_route: MediaRoute,
    /// Every call by the relay, whatever `media_route` says (MED-11). The phone and the PBX are on different sides, so
    /// there is no other call that would need none.
    pub always_relay: bool,
    /// Which streams are continued whoever speaks in them (MED-12).
    pub proxy: MediaProxy,
    /// Phones of these networks never talk directly: by the address their signalling comes from, by the one they give
    /// themselves, or by that of their media. For carriers that put many homes behind one address.
    pub direct_nets_deny: Vec<IpNet>,
    /// How long an unused lease of ports is worth something on this side; less than the relay's own figure.
    pub lease_lifetime: Duration,
    /// SRTP with keys from descriptions ends with us, on each side for itself (SDP-05). `None`: it passes unread (SDP-04).
    pub srtp: Option<SrtpSides>,
    /// What else is changed in a description.
    pub rules: Rules,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            allowed_ports: vec![1024..=65535],
            allowed_tcp_ports: vec![1024..=65535],
            max_streams: 6,
            source: Source::default(),
            sender_limit: SenderLimit::default(),
            max_senders: 10,
            hop_limit: HopLimit::default(),
            early_rtp: false,
            forked: false,
            max_rate: 1000,
            late_relatch: false,
            timeouts: Timeouts::default(),
            media_route: MediaRoute::default(),
            always_relay: false,
            proxy: MediaProxy::default(),
            direct_nets_deny: Vec::new(),
            lease_lifetime: Duration::from_secs(240),
            srtp: None,
            rules: Rules::default(),
        }
    }
}

impl Policy {
    /// Whether an endpoint may name this port.
    pub fn allows_port(&self, port: u16) -> bool {
        self.allowed_ports.iter().any(|range| range.contains(&port))
    }

    /// Whether an endpoint may name this port of a stream over TCP.
    pub fn allows_tcp_port(&self, port: u16) -> bool {
        port == 9 || self.allowed_tcp_ports.iter().any(|range| range.contains(&port))
    }

    /// Whether media can't do without the relay: something of ours happens to its packets, or is to see them.
    pub fn needs_relay(&self) -> bool {
        // Who holds and may not tell hears nothing because the relay sends nothing there.
        let always = self.always_relay || self.proxy == MediaProxy::Always;
        always || self.rules.inhibit_hold || self.srtp.is_some()
    }

    /// Whether streams are continued whoever speaks in them.
    pub fn continues(&self) -> bool {
        self.proxy != MediaProxy::No
    }

    /// Whether two phones may talk past the relay.
    pub fn allows_direct(&self) -> bool {
        self.media_route == MediaRoute::DirectBehindSameNat && !self.needs_relay()
    }
}

/// The transport of a media line, as far as a relay cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// `RTP/AVP`, `RTP/AVPF`.
    Rtp,
    /// `RTP/SAVP`, `RTP/SAVPF`: SRTP with keys from the description, passed through unread (SDP-04).
    Srtp,
    /// `UDP/TLS/RTP/SAVP`, `UDP/TLS/RTP/SAVPF`: SRTP with keys from DTLS, which passes too (RFC 5764).
    DtlsSrtp,
    /// `udptl`: T.38 fax (RFC 3362); no RTCP.
    Udptl,
    /// `UDP/TLS/UDPTL`: the same within DTLS (RFC 7345).
    UdptlDtls,
}

impl Transport {
    /// The transport of a protocol token; `None` for what this relay does not carry.
    pub fn parse(token: &[u8]) -> Option<Self> {
        match token {
            b"RTP/AVP" | b"RTP/AVPF" => Some(Self::Rtp),
            b"RTP/SAVP" | b"RTP/SAVPF" => Some(Self::Srtp),
            b"UDP/TLS/RTP/SAVP" | b"UDP/TLS/RTP/SAVPF" => Some(Self::DtlsSrtp),
            // The registered token is in small letters; T.38 gateways write both.
            _ if token.eq_ignore_ascii_case(b"udptl") => Some(Self::Udptl),
            _ if token.eq_ignore_ascii_case(b"UDP/TLS/UDPTL") => Some(Self::UdptlDtls),
            _ => None,
        }
    }

    /// Whether its RTCP may be encrypted.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Srtp | Self::DtlsSrtp)
    }

    /// Whether DTLS runs in it.
    pub fn is_dtls(self) -> bool {
        matches!(self, Self::DtlsSrtp | Self::UdptlDtls)
    }

    /// Whether RTP runs in it: with payload types, and RTCP beside it.
    pub fn is_rtp(self) -> bool {
        !matches!(self, Self::Udptl | Self::UdptlDtls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_below_1024_are_refused() {
        let policy = Policy::default();
        for (port, allowed) in [(80, false), (1023, false), (1024, true), (65535, true), (0, false)] {
            assert_eq!(policy.allows_port(port), allowed, "{port}");
        }
        let policy = Policy { allowed_ports: vec![80..=80, 4000..=5000], ..policy };
        assert!(policy.allows_port(80) && policy.allows_port(4500) && !policy.allows_port(81));
    }

    #[test]
    fn settings_are_spelled_as_in_the_configuration() {
        assert_eq!(serde_json::to_string(&Source::SignallingAddress).unwrap(), "\"signalling-address\"");
        assert_eq!(serde_json::to_string(&SenderLimit::LockIp).unwrap(), "\"lock-ip\"");
        assert_eq!(serde_json::to_string(&HopLimit::Keep).unwrap(), "\"keep\"");
        assert_eq!(serde_json::to_string(&HopLimit::Fixed(NonZeroU8::MIN)).unwrap(), "{\"fixed\":1}");
    }
}
