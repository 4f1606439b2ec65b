//! The way of a stream: whom its ends name, who may send, and which streams meet inside.
//!
//! Every stream has a way by the relay. Two of our phones in one call through the PBX are two sessions, and each one's inside
//! description names the other's relay port: such streams are joined, so that a packet takes one hop instead of two
//! (MED-18). Only an exact address and port of a live stream counts, and only when both name each other. Whether the phones
//! use that way or talk past us is another question (`direct`).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::attributes;
use super::ice;
use super::secure::Settled;
use super::session::{Named, Stream};
use super::{Anchor, NotAcceptable};
use crate::policy::{Family, Policy, Rules, Source, Transport, bit};
use crate::relay::{Command, Kind, Pair, Payloads, Remote, Side, StreamId};
use crate::rewrite::meant;
use crate::rtp::clock::Clocks;
use crate::sdp::{Direction, Host, Media, Sdp};

/// A media line that asks for a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    /// Where it wants RTP; unspecified address on an RFC 2543 hold.
    pub(super) rtp: SocketAddr,
    /// Where it wants RTCP.
    pub(super) rtcp: SocketAddr,
    pub(super) transport: Transport,
    pub(super) rtcp_mux: bool,
    pub(super) payloads: Payloads,
    #[serde(default)]
    pub(super) clocks: Clocks,
    /// The direction its author meant.
    #[serde(default)]
    pub(super) direction: Direction,
    /// Whether it speaks ICE (RFC 8839 §5.4).
    #[serde(default)]
    pub(super) ice: bool,
    /// A mark of its credentials there; 0: it has none. Another one is a restart (RFC 8445 §9).
    #[serde(default)]
    pub(super) ice_mark: u64,
    /// It has no address to name yet (RFC 8840 §4.1.1): its checks will tell.
    #[serde(default)]
    pub(super) awaits: bool,
    /// How it was settled, where SRTP ends with us.
    #[serde(default)]
    pub(super) srtp: Option<Settled>,
    /// Whether it has keys for packets that pass us unread.
    #[serde(default)]
    pub(super) keyed: bool,
}

impl Described {
    /// Reads a line; `None`: declined by its author, or by us because we do not carry such a thing.
    pub(super) fn read(
        policy: &Policy,
        sdp: &Sdp<'_>,
        media: &Media<'_>,
    ) -> Result<Option<Self>, NotAcceptable> {
        let Some(transport) = Transport::parse(media.transport) else { return Ok(None) };
        // Several ports in one line are for layered coding: no pair of ours can stand for them.
        if media.port == 0 || media.port_count != 1 {
            return Ok(None);
        }
        let removed = match &policy.rules.codecs {
            Some(codecs) if transport.is_rtp() => codecs.removed(sdp.bytes, media),
            _ => 0,
        };
        let mut types = media.payload_types();
        if removed != 0 && types.all(|payload_type| removed & bit(payload_type) != 0) {
            return Ok(None);
        }
        let Some(connection) = sdp.connection_of(media) else { return Ok(None) };
        let Host::Ip(ip) = connection.host else { return Err(NotAcceptable::Name) };
        if ip.is_multicast() {
            return Err(NotAcceptable::Address(ip));
        }
        // Port 9 is "discard" (RFC 8829 §5.2.1): no port is named.
        let named = media.rtcp.first().and_then(|rtcp| rtcp.host).filter(|rtcp| rtcp.port != 9);
        let awaits = sdp.awaits_address(media);
        // Nothing is ever sent to the port of who awaits one.
        let port = (!awaits).then_some(media.port);
        for port in [port, named.map(|rtcp| rtcp.port)].into_iter().flatten() {
            if !policy.allows_port(port) {
                return Err(NotAcceptable::Port(port));
            }
        }
        let rtcp = match named {
            Some(rtcp) => (rtcp.address.filter(|a| a.is_ipv4() == ip.is_ipv4()).unwrap_or(ip), rtcp.port),
            None => (ip, media.port.saturating_add(1)),
        };
        Ok(Some(Self {
            rtp: (ip, media.port).into(),
            rtcp: rtcp.into(),
            transport,
            rtcp_mux: media.rtcp_mux,
            payloads: media.payload_types().filter(|number| removed & bit(*number) == 0).collect(),
            direction: meant(sdp, media),
            ice: sdp.ice_of(media).is_some(),
            ice_mark: ice::mark(sdp.ice_of(media), sdp.ice_password_of(media)),
            awaits,
            clocks: attributes::clocks(sdp, media),
            srtp: None,
            keyed: policy.srtp.is_none() && attributes::is_keyed(sdp, media),
        }))
    }

    /// Whether media is to be sent there: not on a hold by 0.0.0.0 (RFC 2543), nor to who holds unbeknown to the other side
    /// (SDP-08).
    pub(super) fn is_wanted(&self, rules: &Rules) -> bool {
        !self.is_hold() && (!rules.inhibit_hold || self.direction.receives())
    }

    /// What kind of packets the relay sees: fax in DTLS is DTLS and nothing else.
    pub(super) fn kind(&self) -> Kind {
        if self.transport == Transport::Udptl { Kind::Udptl } else { Kind::Rtp }
    }

    /// Hold by 0.0.0.0 (RFC 2543): nothing is to be sent there.
    pub(super) fn is_hold(&self) -> bool {
        self.rtp.ip().is_unspecified() && !self.awaits
    }

    /// Whether it says where to send to.
    pub(super) fn names_address(&self) -> bool {
        !self.awaits && !self.is_hold()
    }

    /// Whether its port is one.
    pub(super) fn names_port(&self) -> bool {
        !self.awaits
    }

    /// Whether two lines of a description stand for the same port: they are alternatives (SDP-02).
    pub(super) fn is_alternative(&self, other: &Self) -> bool {
        self.rtp == other.rtp && self.names_port() && other.names_port()
    }
}

/// Who may send to a leg (decision 14); empty: anyone.
pub(super) fn sources(
    policy: &Policy,
    side: Side,
    family: Family,
    described: &Described,
    signalling: IpAddr,
    known: &[IpAddr],
) -> Vec<IpAddr> {
    let comparable = Family::from(signalling) == family;
    match (policy.source, side) {
        (Source::Any, _) => Vec::new(),
        // Waived when the families differ: an IPv6 connection says nothing about the IPv4 address of the media.
        (Source::SignallingAddress, Side::Outside) => comparable.then_some(signalling).into_iter().collect(),
        (Source::SignallingAddress, Side::Inside) => {
            let named = [described.rtp.ip(), described.rtcp.ip()].into_iter().filter(|_| !described.awaits);
            // A hold by 0.0.0.0 names nobody: who could send before still can (music).
            let kept = if described.names_address() { &[] } else { known };
            let mut all: Vec<IpAddr> = named.filter(|ip| !ip.is_unspecified()).collect();
            all.extend_from_slice(kept);
            all.extend(comparable.then_some(signalling));
            all.sort_unstable();
            all.dedup();
            all
        }
    }
}

/// Where to send first. `None`: nowhere, until the end has spoken.
///
/// An outside description names the phone's private address, which is somebody else on our side of the NAT: it is used only
/// when media from there would be let in as well. So no description aims the relay at a third party, or at our own LAN.
pub(super) fn destination(
    side: Side,
    local: IpAddr,
    described: &Described,
    sources: &[IpAddr],
) -> Result<Option<Remote>, NotAcceptable> {
    if !described.names_address() {
        return Ok(None);
    }
    let ip = described.rtp.ip();
    let fit = fits(ip, local);
    match side {
        Side::Outside if !fit || !(sources.is_empty() || sources.contains(&ip)) => Ok(None),
        Side::Inside if !fit => Err(NotAcceptable::Address(ip)),
        _ => {
            let other = described.rtcp.ip();
            let allowed = fits(other, local) && (sources.is_empty() || sources.contains(&other));
            let rtcp = if allowed { described.rtcp } else { (ip, described.rtcp.port()).into() };
            Ok(Some(Remote { rtp: described.rtp, rtcp }))
        }
    }
}

/// A unicast address of the family of our own; loopback only among loopback.
fn fits(ip: IpAddr, local: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    ip.is_ipv4() == local.is_ipv4()
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !broadcast
        && (!ip.is_loopback() || local.is_loopback())
}

impl Anchor {
    /// Joins and parts what has changed: two streams are joined while each one's inside end names the other's port.
    pub(super) fn settle_joins(&mut self, session: u64) {
        let Some(state) = self.sessions.get(&session) else { return };
        let indices: Vec<u32> = state.streams.iter().map(|stream| stream.index).collect();
        for index in indices {
            let id = StreamId { session, index };
            let Some(stream) = self.stream(id) else { continue };
            let (names, joined) = (stream.names, stream.joined);
            let mutual = names.and_then(|_| self.mutual(id)).filter(|peer| self.mutual(*peer) == Some(id));
            if mutual != joined {
                if let Some(old) = joined {
                    self.commands.push_back(Command::Part { stream: id });
                    self.note_joined(old, None);
                    self.settle_direct(old);
                }
                if let Some(peer) = mutual {
                    self.commands.push_back(Command::Join { a: id, b: peer });
                    self.note_joined(peer, Some(id));
                }
                self.note_joined(id, mutual);
            }
            self.settle_direct(id);
        }
    }

    /// The stream that this one's inside end names, and whose names this one. Forks share what they are named by: of those
    /// it is the one that names back.
    fn mutual(&self, id: StreamId) -> Option<StreamId> {
        let own = self.sessions.get(&id.session)?;
        let Named { stream: StreamId { session, .. }, pair } = own.stream(id.index)?.names?;
        let others = self.sessions.get(&session)?;
        let back = |to: Named| to.stream.session == id.session && own.is_at(id.index, to.pair);
        let names_back = |other: &&Stream| others.is_at(other.index, pair) && other.names.is_some_and(back);
        let peer = others.streams.iter().find(names_back)?;
        Some(StreamId { session, index: peer.index })
    }

    /// The inside port of a stream that closes is nobody's, unless another fork has it too.
    pub(super) fn disown(&mut self, session: u64, closed: &Stream) {
        let Some(address) = self.advertised(&closed.inside) else { return };
        let left = self.sessions.get(&session).into_iter().flat_map(|state| &state.streams);
        let heir =
            left.into_iter().find(|other| other.inside.id == closed.inside.id).map(|other| other.index);
        match heir {
            Some(index) => self.own.insert(address, StreamId { session, index }),
            None => self.own.remove(&address),
        };
    }

    fn note_joined(&mut self, id: StreamId, joined: Option<StreamId>) {
        if let Some(stream) = self.sessions.get_mut(&id.session).and_then(|state| state.stream_mut(id.index))
        {
            stream.joined = joined;
        }
    }

    /// No description leads to a pair any more.
    pub(super) fn forget_port(&mut self, pair: &Pair) {
        if let Some(address) = self.advertised(pair) {
            self.own.remove(&address);
        }
    }
}
