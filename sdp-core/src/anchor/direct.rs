//! The direct route: two phones behind one NAT talk to each other, and not through us (MED-03).
//!
//! The PBX stands between the two, so we see two sessions. They are told to belong together by the address and port of
//! ours that comes back from inside: [`Stream::names`]. What a phone is told for it is either our relay, or where the
//! phone at the other end said it receives.
//!
//! *Both or neither.* A phone that talks to the other directly sends us nothing, so we could not reach it through its NAT:
//! one of the two by the relay and the other directly would be one-way audio. So each description that goes to a phone is
//! a record, and whoever names the other next follows the records there are. Only an *offer* from inside that finds none
//! starts a direct route; an answer never does. One record that says "relay" settles it for as long as they name each other.
//!
//! *A phone that moves is seen to move.* What the PBX is told of a phone is our own port, which says nothing of where the phone
//! receives; a PBX that compares descriptions would keep to itself that one has taken another port. So the offer of a phone on a
//! direct route that names another place names another inside port of ours, too (RFC 3264 §8.3.1), which counts from then on.
//!
//! *Nothing is let go.* The streams stay joined (MED-18) and keep their ports, for the PBX may put itself between the two at
//! any moment: its next description names another address, and the route is the relay's again.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::path::Described;
use super::session::{Named, Session, Stream};
use super::{Anchor, Event};
use crate::policy::{Address, Addresses, Family};
use crate::relay::{Command, Pair, PairId, Side, StreamId};
use crate::rewrite::Placement;

/// Phones that named a media address outside their own network, at most; the oldest is forgotten.
const SUSPECTS: usize = 256;
/// Events kept at most.
const EVENTS: usize = 1_024;

/// Where a phone receives, as it said itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) rtp: SocketAddr,
    pub(super) rtcp: SocketAddr,
}

impl Place {
    /// Of a description; a hold by 0.0.0.0 names none.
    pub(super) fn of(described: &Described) -> Option<Self> {
        described.names_address().then_some(Self { rtp: described.rtp, rtcp: described.rtcp })
    }

    pub(super) fn placement(self) -> Placement {
        Placement::Direct { rtp: self.rtp, rtcp: self.rtcp }
    }
}

/// What the inside description of a line leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Route {
    /// The stream whose relay port it names.
    pub(super) names: Option<Named>,
    /// Where the phone is told to send instead of to us.
    pub(super) direct: Option<Place>,
}

/// A phone, as far as it is known.
#[derive(Debug, Clone, Copy)]
struct Phone {
    /// Where its signalling comes from.
    signalling: IpAddr,
    /// What it calls itself.
    host: IpAddr,
    /// Where it said it receives; before its first description nothing.
    said: Option<Place>,
}

impl Phone {
    /// Its own address within its network.
    fn address(&self) -> IpAddr {
        self.said.map_or(self.host, |place| place.rtp.ip())
    }

    /// Behind one NAT, as far as can be seen: all that it names lies in one private network, and is not what we see. A
    /// second NAT shows by a Contact or Via of another network than that of the media.
    fn is_simple(&self) -> bool {
        let said = self.said.iter().flat_map(|place| [place.rtp.ip(), place.rtcp.ip()]);
        let mut named = std::iter::once(self.host).chain(said);
        named.all(|ip| is_private(ip) && same_net(ip, self.host) && ip != self.signalling)
    }
}

/// Both behind one NAT and in one private network, and two of them.
fn share_a_home(one: &Phone, two: &Phone) -> bool {
    one.signalling == two.signalling
        && one.is_simple()
        && two.is_simple()
        && same_net(one.address(), two.address())
        && one.address() != two.address()
        && one.host != two.host
}

/// RFC 1918 §3, RFC 4193 §3.1. Not the shared addresses of RFC 6598: those are a carrier's.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// In one /24, or in one /64.
fn same_net(one: IpAddr, two: IpAddr) -> bool {
    match (one, two) {
        (IpAddr::V4(one), IpAddr::V4(two)) => one.octets()[..3] == two.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(two)) => one.octets()[..8] == two.octets()[..8],
        _ => false,
    }
}

/// What the descriptions that stand say of the way to another session.
#[derive(Debug, Clone, Copy, Default)]
struct Records {
    relay: bool,
    direct: bool,
}

impl Records {
    /// Adds those of a session: what was agreed, and what an offer that waits for its answer says.
    fn add(&mut self, session: &Session, stream: Option<u32>, to: impl Fn(Named) -> bool) {
        let own = |index: u32| stream.is_none_or(|stream| stream == index);
        let agreed = session.streams.iter().filter(|stream| own(stream.index));
        let agreed = agreed.map(|stream| (stream.names, stream.direct));
        let waiting = session.offer.iter().filter(|offer| !offer.answered && offer.from == Side::Inside);
        let waiting = waiting.flat_map(|offer| &offer.lines).filter(|line| line.stream.is_some_and(own));
        let waiting = waiting.map(|line| (line.route.names, line.route.direct.is_some()));
        for (_, direct) in agreed.chain(waiting).filter(|(names, _)| names.is_some_and(&to)) {
            self.direct |= direct;
            self.relay |= !direct;
        }
    }
}

impl Session {
    /// Where the phone receives the media of a stream: as it offers, else as was agreed.
    pub(super) fn said(&self, index: u32) -> Option<Place> {
        let offer = self.offer.as_ref().filter(|offer| !offer.answered && offer.from == Side::Outside);
        let line = offer.and_then(|offer| offer.lines.iter().find(|line| line.stream == Some(index)));
        let offered = line.and_then(|line| Place::of(line.described.as_ref()?));
        offered.or_else(|| self.stream(index)?.said)
    }

    /// The inside ports by which a stream may be named: those it has, and those that its offer has told already.
    fn inside_pairs(&self, index: u32) -> [Option<&Pair>; 2] {
        let replaced = |(at, side, _): &&(u32, Side, Pair)| *at == index && *side == Side::Inside;
        let waiting = self.offer.iter().flat_map(|offer| &offer.replacements).find(replaced);
        [self.stream(index).map(|stream| &stream.inside), waiting.map(|(_, _, pair)| pair)]
    }

    /// Whether a stream may be named by this pair.
    pub(super) fn is_at(&self, index: u32, pair: PairId) -> bool {
        self.inside_pairs(index).into_iter().flatten().any(|inside| inside.id == pair)
    }

    /// Whether a stream has to name another inside port in this offer of its phone: it is direct, and the phone has moved.
    pub(super) fn moves(&self, index: u32, from: Side, described: &Described) -> bool {
        let place = Place::of(described).filter(|_| from == Side::Outside);
        self.stream(index).is_some_and(|stream| {
            stream.setup.direct
                && stream.said.is_some()
                && place.is_some_and(|place| stream.said != Some(place))
        })
    }

    /// Whether the phone's own network has such a place: no re-INVITE of another aims it elsewhere.
    fn is_near(&self, place: Place) -> bool {
        let near = |ip| self.host.is_some_and(|host| same_net(host, ip));
        near(place.rtp.ip()) && near(place.rtcp.ip())
    }

    fn phone(&self, index: Option<u32>) -> Option<Phone> {
        let said = index.and_then(|index| self.said(index));
        Some(Phone { signalling: self.signalling?, host: self.host?, said })
    }
}

impl Anchor {
    /// The stream of another session whose relay port an inside description names.
    pub(super) fn named(&self, session: u64, described: &Described) -> Option<Named> {
        let stream = self.own.get(&described.rtp).copied().filter(|other| other.session != session)?;
        let pair = |pair: &&Pair| self.advertised(pair) == Some(described.rtp);
        let inside = self.sessions.get(&stream.session)?.inside_pairs(stream.index);
        Some(Named { stream, pair: inside.into_iter().flatten().find(pair)?.id })
    }

    /// What the inside description of a stream leads to. `stream` is the stream's number if it has one already; only an
    /// offer may `start` a direct route.
    pub(super) fn route(
        &self,
        id: u64,
        session: &Session,
        stream: Option<u32>,
        described: &Described,
        start: bool,
    ) -> Route {
        let Some(names) = self.named(id, described) else { return Route::default() };
        let relay = Route { names: Some(names), direct: None };
        let Named { stream: peer, .. } = names;
        let Some(other) = self.sessions.get(&peer.session) else { return relay };
        let Some(place) = other.said(peer.index) else { return relay };
        let mut records = Records::default();
        if stream.is_some() {
            records.add(session, stream, |to| to == names);
        }
        // Of the other one all lines count: lines that were offered at one port may be answered at two.
        let ours = |to: Named| {
            to.stream.session == id && session.streams.iter().any(|stream| stream.inside.id == to.pair)
        };
        records.add(other, None, ours);
        let direct = match records {
            Records { relay: true, .. } => false,
            // An answer can't undo what the other phone was told in the offer before.
            Records { direct: true, .. } => {
                self.holds(session, other, place) && (!start || session.is_near(place))
            }
            _ => start && self.may_start(session.phone(stream), other.phone(Some(peer.index))),
        };
        Route { direct: direct.then_some(place), ..relay }
    }

    /// Whether a direct route that stands can go on: neither phone has moved elsewhere.
    fn holds(&self, one: &Session, two: &Session, place: Place) -> bool {
        one.signalling == two.signalling && self.may_be_told(place)
    }

    /// Whether one phone may be told this address of another: no description aims a phone at the Internet, or at us.
    fn may_be_told(&self, place: Place) -> bool {
        let ours = |addresses: &Addresses, ip: IpAddr| {
            let own =
                |address: Option<Address>| address.is_some_and(|own| own.local == ip || own.advertised == ip);
            own(addresses.of(Family::V4)) || own(addresses.of(Family::V6))
        };
        [place.rtp.ip(), place.rtcp.ip()]
            .into_iter()
            .all(|ip| is_private(ip) && !ours(&self.config.outside, ip) && !ours(&self.config.inside, ip))
    }

    fn may_start(&self, one: Option<Phone>, two: Option<Phone>) -> bool {
        let policy = &self.config.policy;
        let (Some(one), Some(two)) = (one, two) else { return false };
        let free = |phone: &Phone| {
            let named = [phone.signalling, phone.host, phone.address()];
            !policy.direct_nets_deny.iter().any(|net| named.iter().any(|ip| net.contains(ip)))
                && !self.suspects.contains(&(phone.signalling, phone.host))
                && phone.said.is_none_or(|place| self.may_be_told(place))
        };
        policy.allows_direct() && share_a_home(&one, &two) && free(&one) && free(&two)
    }

    /// A phone that was told another's address has answered with one outside its network: from now on it is relayed.
    pub(super) fn suspect(&mut self, session: &Session, said: Place) {
        let (Some(signalling), Some(host)) = (session.signalling, session.host) else { return };
        if !same_net(host, said.rtp.ip()) && !self.suspects.contains(&(signalling, host)) {
            if self.suspects.len() >= SUSPECTS {
                self.suspects.pop_front();
            }
            self.suspects.push_back((signalling, host));
        }
    }

    /// Tells the relay whether the phones of two joined streams talk directly; a stream that is not joined is not direct.
    pub(super) fn settle_direct(&mut self, of: StreamId) {
        let Some(stream) = self.stream(of) else { return };
        let peer = stream.joined;
        let direct = stream.direct && peer.and_then(|peer| self.stream(peer)).is_some_and(|peer| peer.direct);
        for id in std::iter::once(of).chain(peer) {
            let session = self.sessions.get_mut(&id.session);
            if let Some(stream) = session.and_then(|session| session.stream_mut(id.index))
                && stream.setup.direct != direct
            {
                stream.setup.direct = direct;
                self.commands.push_back(Command::Update { stream: stream.setup.clone() });
                // An embedder that does not ask keeps the last ones only.
                if self.events.len() >= EVENTS {
                    self.events.pop_front();
                }
                let other = if id == of { peer } else { Some(of) };
                self.events.push_back(Event::Route { stream: id, direct: other.filter(|_| direct) });
            }
        }
    }
}

impl Stream {
    /// What was agreed from inside.
    pub(super) fn follow(&mut self, route: Route) {
        self.names = route.names;
        self.direct = route.direct.is_some();
    }
}
