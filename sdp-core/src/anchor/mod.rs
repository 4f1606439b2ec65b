//! Offers and answers (RFC 3264) of many sessions, anchored at the relay.
//!
//! Sans-I/O and synchronous. [`Anchor::offer`] and [`Anchor::answer`] rewrite a description and never wait: ports come from
//! a lease that is renewed ahead of need. What the relay is to do leaves by [`Anchor::poll_command`]; what it says enters by
//! [`Anchor::handle_report`]; when [`Anchor::poll_timeout`] is past, [`Anchor::handle_timeout`] is due.
//!
//! An offer changes nothing that runs: it reserves ports. The answer puts both into effect. So an offer that is refused or
//! never answered leaves the call as it was; [`Anchor::rollback`] gives its ports back early, the next offer does so anyway.

mod answer;
mod attributes;
mod direct;
mod fork;
mod ice;
mod leg;
mod offer;
mod path;
mod ports;
mod restore;
mod secure;
mod session;
mod silence;
mod state;
mod writing;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

pub use self::ice::Seed;
use self::ports::Ports;
pub use self::restore::Left;
use self::session::{Offer, Session, Stream};
pub use self::state::{Said, StreamState};
use crate::doctor::Line;
use crate::policy::{Addresses, Family, Policy};
use crate::relay::{Command, LegStatistics, Pair, PairId, Realm, Report, Side, StreamId};
use crate::sdp::{ParseError, Sdp};

/// What an anchor is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses towards the phones.
    pub outside: Addresses,
    /// Addresses towards the PBX.
    pub inside: Addresses,
    /// What descriptions may ask for.
    pub policy: Policy,
    /// The relay keeps what is known of each session, for a process that takes over; off, nobody could.
    pub keep_state: bool,
    /// Our credentials in ICE are made of it; `None`: relayed streams leave without ICE (SDP-11).
    pub seed: Option<Seed>,
}

impl Config {
    /// The default policy on these addresses.
    pub fn new(outside: Addresses, inside: Addresses) -> Self {
        Self { outside, inside, policy: Policy::default(), keep_state: false, seed: None }
    }

    fn addresses(&self, side: Side) -> &Addresses {
        match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        }
    }
}

/// Why a description is not carried on. Nothing was changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It can't be read; SIP: 400.
    #[error("malformed description: {0}")]
    Malformed(#[from] ParseError),
    /// It asks for what we do not do; SIP: 488.
    #[error("description not acceptable: {0}")]
    NotAcceptable(#[from] NotAcceptable),
    /// Not now; SIP: 503.
    #[error("no relay port free on the {side:?} side for {family:?}")]
    Unavailable {
        /// The side without a port.
        side: Side,
        /// And the family.
        family: Family,
    },
}

/// What a description asks for and does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotAcceptable {
    /// A stream at a name; the relay needs an address.
    #[error("a stream names a host instead of an address")]
    Name,
    /// A port outside the allowed ones.
    #[error("port {0} may not be named")]
    Port(u16),
    /// An address nothing may be sent to.
    #[error("address {0} may not be named")]
    Address(IpAddr),
    /// A family in which that side has no address.
    #[error("no {1:?} address on the {0:?} side")]
    Family(Side, Family),
    /// No line in the profile that its side has to speak, or no suite of SRTP that we know (SDP-05).
    #[error("no stream with the encryption this side has to have")]
    Srtp,
    /// None of its codecs may be named (SDP-15).
    #[error("no codec that may be named")]
    Codecs,
    /// An answer to no offer.
    #[error("an answer without an offer")]
    NoOffer,
}

/// What happened that an onlooker may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The way of a stream's media is another now.
    Route {
        /// The stream.
        stream: StreamId,
        /// The stream of the phone at the other end, if the two talk past the relay (MED-03); `None`: by the relay.
        direct: Option<StreamId>,
    },
    /// The ports of a realm are used up: offers that need one are refused as [`Refusal::Unavailable`] (MED-01).
    OutOfPorts(Realm),
    /// There are ports again.
    PortsAgain(Realm),
}

/// The anchor of all sessions.
#[derive(Debug)]
pub struct Anchor {
    config: Config,
    ports: Ports,
    sessions: HashMap<u64, Session>,
    /// Inside ports that descriptions of live streams name, as they name them.
    own: HashMap<SocketAddr, StreamId>,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
    /// Phones (address of the signalling, address they give themselves) that seem to be behind two NATs.
    suspects: VecDeque<(IpAddr, IpAddr)>,
    /// What the next description says, see [`Anchor::note`].
    noted: Option<Vec<Line>>,
    /// Room to write descriptions in.
    scratch: Vec<u8>,
    /// Makes keys; each is used once.
    random: Option<rand_chacha::ChaCha20Rng>,
}

impl Anchor {
    /// An anchor without a lease; its first commands ask for one.
    pub fn new(now: Instant, config: Config) -> Self {
        let realms = [Side::Outside, Side::Inside]
            .into_iter()
            .flat_map(|side| config.addresses(side).families().map(move |family| Realm { side, family }));
        let mut ports = Ports::new(now, realms, config.policy.lease_lifetime);
        let mut commands = VecDeque::new();
        ports.commands(now, &mut commands);
        Self {
            ports,
            sessions: HashMap::new(),
            own: HashMap::new(),
            commands,
            events: VecDeque::new(),
            suspects: VecDeque::new(),
            noted: None,
            scratch: Vec::new(),
            random: config.seed.as_ref().map(Seed::keys),
            config,
        }
    }

    /// Whether every address has ports leased: before that, offers are refused as [`Refusal::Unavailable`].
    pub fn is_ready(&self) -> bool {
        self.ports.is_ready()
    }

    /// Whether a realm has no pair to give and none is on its way: until the anchor asks again in some seconds, its calls
    /// are refused.
    pub fn is_barren(&self, realm: Realm) -> bool {
        self.ports.is_barren(realm)
    }

    /// New settings for offers to come. The addresses stay: ports are bound on them.
    pub fn reconfigure(&mut self, policy: Policy) {
        self.config.policy = policy;
    }

    /// What the phone of a session calls itself, the host of its Contact or Via: known before its next offer or answer, it
    /// lets phones behind one NAT talk directly (MED-03). `None` leaves what is known. It opens the session, which an offer
    /// or answer that fails, or [`Anchor::end`], closes.
    pub fn introduce(&mut self, session: u64, host: Option<IpAddr>) {
        if let Some(host) = host {
            self.sessions.entry(session).or_default().host = Some(host.to_canonical());
        }
    }

    /// Rewrites an offer that came from `from`, for the other side. `signalling` is the address its author's signalling came
    /// from, `to_signalling` that of the one it goes to: it decides the address family. A repeated or further offer of a
    /// session keeps the ports it has.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn offer(
        &mut self,
        now: Instant,
        session: u64,
        from: Side,
        signalling: IpAddr,
        to_signalling: IpAddr,
        sdp: &[u8],
    ) -> Result<Bytes, Refusal> {
        let ends = offer::Ends {
            from,
            signalling: signalling.to_canonical(),
            to_signalling: to_signalling.to_canonical(),
        };
        let noted = self.noted.take();
        let sdp = Sdp::parse(sdp, &self.config.policy.limits).map_err(Refusal::from);
        let result = sdp.and_then(|sdp| self.make_offer(now, session, ends, &sdp));
        match &result {
            Ok(_) => {
                self.take_note(session, from, ends.switch(), noted);
                self.keep(session);
            }
            Err(_) => self.forget_empty(session),
        }
        self.ports.commands(now, &mut self.commands);
        result
    }

    /// Rewrites the answer to the session's last offer. Answers may repeat (a 183 and then the 200); the last one holds.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn answer(
        &mut self,
        now: Instant,
        session: u64,
        from: Side,
        signalling: IpAddr,
        to_signalling: IpAddr,
        sdp: &[u8],
    ) -> Result<Bytes, Refusal> {
        let noted = self.noted.take();
        let (signalling, to_signalling) = (signalling.to_canonical(), to_signalling.to_canonical());
        let switch = if from == Side::Inside { signalling } else { to_signalling };
        let sdp = Sdp::parse(sdp, &self.config.policy.limits).map_err(Refusal::from);
        let result = sdp.and_then(|sdp| self.make_answer(now, session, from, signalling, &sdp));
        match &result {
            Ok(_) => {
                self.take_note(session, from, switch, noted);
                self.keep(session);
            }
            Err(_) => self.forget_empty(session),
        }
        self.ports.commands(now, &mut self.commands);
        result
    }

    /// The last offer of `from` was refused: its reservations are given back, what runs goes on as it was agreed. An offer of
    /// the other side, which may have come since, stands.
    pub fn rollback(&mut self, now: Instant, session: u64, from: Side) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let Some(offer) = state.offer.take_if(|offer| !offer.answered && offer.from == from) else { return };
        let kept = state.agreed.clone();
        self.give_back(&offer);
        self.close_streams(session, |stream| !kept.contains(&Some(stream.index)));
        if let Some(mut state) = self.sessions.remove(&session) {
            self.release_streams(&mut state);
            let empty = state.streams.is_empty();
            self.sessions.insert(session, state);
            if empty {
                self.end(now, session);
            }
        }
        self.keep(session);
    }

    /// The session is over: its ports close.
    pub fn end(&mut self, now: Instant, session: u64) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if let Some(offer) = state.offer.take() {
            self.give_back(&offer);
        }
        self.close_streams(session, |_| true);
        self.sessions.remove(&session);
        self.commands.push_back(Command::End { session });
        self.ports.commands(now, &mut self.commands);
    }

    /// Keeps a dialog record with the session, here and at the relay; nobody reads it but who takes over (decision 13).
    pub fn set_record(&mut self, session: u64, record: Vec<u8>) {
        if let Some(state) = self.sessions.get_mut(&session) {
            if self.config.keep_state {
                state.record = record;
                return self.keep(session);
            }
            state.record.clone_from(&record);
            self.commands.push_back(Command::Record { session, record: record.into() });
        }
    }

    /// The dialog record of a session.
    pub fn record(&self, session: u64) -> Option<&[u8]> {
        self.sessions.get(&session).map(|state| state.record.as_slice())
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The last counters of a session's streams: outside, inside.
    pub fn statistics(
        &self,
        session: u64,
    ) -> impl Iterator<Item = (StreamId, LegStatistics, LegStatistics)> + '_ {
        self.sessions.get(&session).into_iter().flat_map(move |state| {
            state.streams.iter().filter_map(move |stream| {
                let (outside, inside) = stream.statistics?;
                Some((StreamId { session, index: stream.index }, outside, inside))
            })
        })
    }

    /// The next command for the relay.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// What happened since.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| {
            let (realm, dry) = self.ports.poll_shortage()?;
            Some(if dry { Event::OutOfPorts(realm) } else { Event::PortsAgain(realm) })
        })
    }

    /// A report of the relay.
    pub fn handle_report(&mut self, now: Instant, report: Report) {
        match report {
            Report::Leased { realm, pairs, lifetime_ms } => {
                self.ports.handle_leased(now, realm, pairs, Duration::from_millis(lifetime_ms));
            }
            Report::Exhausted { realm, missing, .. } => self.ports.handle_exhausted(now, realm, missing),
            Report::Expired { pairs } => self.ports.handle_expired(&pairs),
            Report::Refused { stream } => {
                self.note_refused(stream);
                self.lose_stream(stream);
                self.keep(stream.session);
            }
            Report::Silent { stream, closed: true, .. } => self.lose_stream(stream),
            Report::Statistics { stream, outside, inside, .. } => {
                let state = self.sessions.get_mut(&stream.session);
                if let Some(entry) = state.and_then(|state| state.stream_mut(stream.index)) {
                    entry.statistics = Some((*outside, *inside));
                }
            }
            Report::Reached { stream, outside, inside } => {
                let state = self.sessions.get_mut(&stream.session);
                if let Some(entry) = state.and_then(|state| state.stream_mut(stream.index)) {
                    entry.reached = Some(Box::new(secure::Told { at: now, outside, inside }));
                }
            }
            Report::Ready { .. }
            | Report::FirstPacket { .. }
            | Report::Moved { .. }
            | Report::HopLimitExpired { .. }
            | Report::RateExceeded { .. }
            | Report::Silent { .. }
            | Report::Snapshot { .. } => {}
        }
        self.ports.commands(now, &mut self.commands);
    }

    /// When [`Anchor::handle_timeout`] is due.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.ports.poll_timeout(now)
    }

    /// Time has passed: leases are renewed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.ports.commands(now, &mut self.commands);
    }

    /// The address and port that descriptions give for a pair's RTP.
    fn advertised(&self, pair: &Pair) -> Option<SocketAddr> {
        let address = self.config.addresses(pair.realm.side).of(pair.realm.family)?;
        Some((address.advertised, pair.rtp.port()).into())
    }

    /// A session whose first offer failed is none.
    fn forget_empty(&mut self, session: u64) {
        let empty =
            |state: &Session| state.offer.is_none() && state.streams.is_empty() && state.record.is_empty();
        if self.sessions.get(&session).is_some_and(empty) {
            self.sessions.remove(&session);
        }
    }

    /// Pairs that an offer kept for its answer go back.
    fn give_back(&mut self, offer: &Offer) {
        offer.replacements.iter().for_each(|(_, _, pair)| self.forget_port(pair));
        let pairs: Vec<PairId> = offer.replacements.iter().map(|(_, _, pair)| pair.id).collect();
        self.commands.extend((!pairs.is_empty()).then_some(Command::Return { pairs }));
    }

    /// A stream is gone on both sides, and what it had of leased pairs goes back at once.
    fn lose_stream(&mut self, stream: StreamId) {
        let state = self.sessions.get(&stream.session);
        let pairs = state.and_then(|state| state.stream(stream.index)).map(Stream::pair_ids);
        self.close_streams(stream.session, |other| other.index == stream.index);
        self.commands.extend(pairs.map(|pairs| Command::Return { pairs }));
    }

    /// Closes the streams of a session that `which` names.
    fn close_streams(&mut self, session: u64, which: impl Fn(&Stream) -> bool) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let closed: Vec<Stream> = state.streams.extract_if(.., |stream| which(stream)).collect();
        for stream in closed {
            let id = StreamId { session, index: stream.index };
            if let Some(peer) = stream.joined {
                // The relay parts what it closes; here the other one must be free to join again.
                let other =
                    self.sessions.get_mut(&peer.session).and_then(|state| state.stream_mut(peer.index));
                if let Some(other) = other {
                    other.joined = None;
                }
                self.settle_direct(peer);
            }
            self.disown(session, &stream);
            self.commands.push_back(Command::Close { stream: id });
        }
    }

    fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.sessions.get(&id.session)?.stream(id.index)
    }
}

#[cfg(test)]
mod tests;
