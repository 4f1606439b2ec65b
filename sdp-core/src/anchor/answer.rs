//! Taking an answer: both descriptions come into effect.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::direct::{Place, Route};
use super::offer::placement;
use super::path::Described;
use super::secure;
use super::session::{Offer, Session, Stream};
use super::writing;
use super::{Anchor, NotAcceptable, Refusal};
use crate::relay::{Command, Pair, Payloads, Realm, Side, StreamId, StreamSetup};
use crate::rewrite::Placement;
use crate::sdp::Sdp;

/// An accepted line: its stream, and both descriptions.
struct Accepted {
    line: usize,
    index: u32,
    offered: Described,
    answered: Described,
    /// What the inside description of the two leads to.
    route: Route,
}

impl Anchor {
    pub(super) fn make_answer(
        &mut self,
        now: Instant,
        id: u64,
        from: Side,
        signalling: IpAddr,
        sdp: &Sdp<'_>,
    ) -> Result<Bytes, Refusal> {
        let mut described = self.describe(sdp)?;
        let state = self.sessions.get(&id).ok_or(NotAcceptable::NoOffer)?;
        let offer = state.offer.clone().filter(|offer| offer.from != from).ok_or(NotAcceptable::NoOffer)?;
        if let Some(rule) = offer.rule_of_answer() {
            secure::settle_answer(rule, sdp, &mut described)?;
        }
        let address = self.offering_address(state, &offer)?;
        self.check_answer(id, from, signalling, &offer, &described)?;
        let offered = writing::offered(&offer);
        let placements = self.take_answer(now, id, offer, (from, signalling), described)?;
        Ok(self.write_answer(id, sdp, address, placements, &offered))
    }

    /// An answer that was checked comes into effect; what its lines say to the offering side.
    pub(super) fn take_answer(
        &mut self,
        now: Instant,
        id: u64,
        mut offer: Offer,
        (from, signalling): (Side, IpAddr),
        described: Vec<Option<Described>>,
    ) -> Result<Vec<Placement>, NotAcceptable> {
        let mut session = self.sessions.remove(&id).ok_or(NotAcceptable::NoOffer)?;
        if from == Side::Outside {
            session.signalling = Some(signalling);
        }
        let lines = described.get(..offer.lines.len()).unwrap_or(&described);
        let apart = self.take_lane(now, id, &mut session, &mut offer);
        if (offer.note(session.fork, signalling, lines) && !apart) || !offer.answered {
            // Signalling has spoken: locked legs may choose anew.
            session.generation = session.generation.wrapping_add(1);
        }
        for (index, side, pair) in offer.replacements.drain(..) {
            self.replace(&mut session, id, index, side, pair);
        }
        let mut accepted = self.accept(now, id, &mut session, &mut offer, described);
        for line in &accepted {
            session.insists.hear(offer.from, &line.offered);
            session.insists.hear(from, &line.answered);
        }
        self.find_ways(id, &session, &offer, &mut accepted);
        for (at, line) in accepted.iter().enumerate() {
            if accepted.iter().take(at).all(|earlier| earlier.index != line.index) {
                let same: Vec<&Accepted> =
                    accepted.iter().filter(|other| other.index == line.index).collect();
                self.agree(id, &mut session, &offer, (from, signalling), line, &same);
            }
        }
        self.silence_others(&mut session, &offer, &accepted);
        self.release_streams(&mut session);
        let placements = placements(&session, &offer, &accepted);
        offer.answered = true;
        session.agreed = offer.streams();
        let kept = offer.keep_lanes();
        session.offer = Some(offer);
        // What it had lost has new ports, or was declined.
        session.refused.clear();
        self.sessions.insert(id, session);
        self.close_streams(id, |stream| !kept.contains(&Some(stream.index)));
        self.settle_joins(id);
        Ok(placements)
    }

    /// Our address as the offering side is to see it: of the family its ports were taken in.
    fn offering_address(&self, session: &Session, offer: &Offer) -> Result<IpAddr, NotAcceptable> {
        let first = offer.lines.iter().find_map(|line| line.stream).and_then(|index| {
            let replaced =
                offer.replacements.iter().find(|(at, side, _)| *at == index && *side == offer.from);
            replaced
                .map(|(_, _, pair)| *pair)
                .or_else(|| session.stream(index).map(|stream| stream.pair(offer.from)))
        });
        let addresses = self.config.addresses(offer.from);
        let wished = first.map_or_else(|| offer.signalling.into(), |pair| pair.realm.family);
        let families = std::iter::once(wished).chain(addresses.families());
        families
            .filter_map(|family| addresses.of(family))
            .map(|address| address.advertised)
            .next()
            .ok_or(NotAcceptable::Family(offer.from, wished))
    }

    /// Everything that may refuse an answer, before anything is changed.
    fn check_answer(
        &self,
        id: u64,
        from: Side,
        signalling: IpAddr,
        offer: &Offer,
        described: &[Option<Described>],
    ) -> Result<(), NotAcceptable> {
        let Some(session) = self.sessions.get(&id) else { return Err(NotAcceptable::NoOffer) };
        for (offered, described) in offer.lines.iter().zip(described) {
            let (Some(index), Some(described)) = (offered.stream, described) else { continue };
            let replaced = offer.replacements.iter().find(|(at, side, _)| *at == index && *side == from);
            let pair = replaced.map(|(_, _, pair)| *pair).or_else(|| Some(session.stream(index)?.pair(from)));
            if let Some(pair) = pair {
                let stream = StreamId { session: id, index };
                let (leg, _) = self.leg(stream, &pair, signalling, described, &[])?;
                let family = described.rtp.ip().is_ipv4();
                if leg.wanted && !described.awaits && family != pair.rtp.is_ipv4() {
                    // RFC 6157 §5: an answer stays in the family of the offer.
                    return Err(NotAcceptable::Family(from, described.rtp.ip().into()));
                }
            }
        }
        Ok(())
    }

    fn replace(&mut self, session: &mut Session, id: u64, index: u32, side: Side, pair: Pair) {
        let Some(stream) = session.stream_mut(index) else {
            // Closed meanwhile: nobody needs what was kept for it.
            self.forget_port(&pair);
            return self.commands.push_back(Command::Return { pairs: vec![pair.id] });
        };
        let old = std::mem::replace(
            match side {
                Side::Outside => &mut stream.outside,
                Side::Inside => &mut stream.inside,
            },
            pair,
        );
        if side == Side::Inside {
            self.forget_port(&old);
            if let Some(address) = self.advertised(&pair) {
                self.own.insert(address, StreamId { session: id, index });
            }
        }
    }

    /// The lines both sides want. Alternatives that were offered at one port and are answered at one share the stream
    /// (SDP-02); answered at two, the second gets a stream of its own, or is declined when there is no port for it.
    fn accept(
        &mut self,
        now: Instant,
        id: u64,
        session: &mut Session,
        offer: &mut Offer,
        described: Vec<Option<Described>>,
    ) -> Vec<Accepted> {
        let mut accepted: Vec<Accepted> = Vec::new();
        for (at, (line, described)) in offer.lines.iter_mut().zip(described).enumerate() {
            let (Some(index), Some(offered), Some(answered)) =
                (line.stream, line.described.clone(), described)
            else {
                continue;
            };
            let taken = accepted.iter().find(|other| other.index == index);
            let index = match taken {
                Some(other) if !other.answered.is_alternative(&answered) => {
                    let Some(index) = self.second_stream(now, id, session, index) else {
                        line.stream = None;
                        continue;
                    };
                    line.stream = Some(index);
                    index
                }
                _ => index,
            };
            accepted.push(Accepted { line: at, index, offered, answered, route: line.route });
        }
        accepted
    }

    /// An answer from inside says itself where its lines lead to; the answer to an offer from inside, where those do.
    fn find_ways(&mut self, id: u64, session: &Session, offer: &Offer, accepted: &mut [Accepted]) {
        for line in accepted {
            match offer.from {
                Side::Outside => {
                    line.route = self.route(id, session, Some(line.index), &line.answered, false);
                }
                Side::Inside => {
                    if let (Some(_), Some(said)) = (line.route.direct, Place::of(&line.answered)) {
                        self.suspect(session, said);
                    }
                }
            }
        }
    }

    /// A stream like another one of the session, on ports of its own.
    fn second_stream(&mut self, now: Instant, id: u64, session: &mut Session, like: u32) -> Option<u32> {
        if session.streams.len() >= self.config.policy.max_streams {
            return None;
        }
        let model = session.stream(like)?;
        let mut setup = model.setup.clone();
        let realms: [Realm; 2] = [model.outside.realm, model.inside.realm];
        let outside = self.ports.take(now, realms[0])?;
        let Some(inside) = self.ports.take(now, realms[1]) else {
            self.ports.put_back(outside);
            return None;
        };
        let (outside, inside) = (outside.pair, inside.pair);
        let index = session.next_index;
        session.next_index = index.wrapping_add(1);
        setup.id = StreamId { session: id, index };
        (setup.outside.pair, setup.inside.pair) = (outside.id, inside.id);
        self.start(session, Stream::new(outside, inside, setup));
        Some(index)
    }

    /// Both descriptions of a stream's first line come into effect at the relay; what its lines may carry is added up.
    fn agree(
        &mut self,
        id: u64,
        session: &mut Session,
        offer: &Offer,
        (from, signalling): (Side, IpAddr),
        line: &Accepted,
        same: &[&Accepted],
    ) {
        let generation = session.generation;
        let stream_id = StreamId { session: id, index: line.index };
        let restarts = offer.lines.get(line.line).and_then(|line| line.restart);
        // What went to one side was written by the other.
        let ice = [(offer.from, line.answered.ice), (from, line.offered.ice)]
            .map(|(side, named)| (side, self.ice_lite(Some(session), stream_id, side, (named, restarts))));
        let Some(stream) = session.stream_mut(line.index) else { return };
        let mut setup = stream.setup.clone();
        let ends = [(offer.from, offer.signalling, &line.offered), (from, signalling, &line.answered)];
        for (side, signalling, described) in ends {
            let known = setup.leg(side).sources.clone();
            // Checked before; an address that is refused after all leaves the leg as it was.
            let pair = stream.pair(side);
            let Ok((mut leg, names)) = self.leg(stream_id, &pair, signalling, described, &known) else {
                continue;
            };
            if described.awaits && names.is_none() {
                // Until its checks choose another way the one that was chosen is used (RFC 8445 §9).
                leg.remote = setup.leg(side).remote;
            }
            if side == from {
                self.admit_forks(offer, line.line, stream_id, &pair, &mut leg);
            }
            match side {
                // The other one may have ended since it was named.
                Side::Inside => stream.follow(if names == line.route.names {
                    line.route
                } else {
                    Route { names, direct: None }
                }),
                Side::Outside => stream.said = Place::of(described).or(stream.said),
            }
            *setup.leg_mut(side) = leg;
            setup.leg_mut(side).generation = generation;
        }
        stream.renew_ice(restarts, ice, &mut setup);
        for (side, _, described) in ends {
            let keys = Self::keys(self.random.as_mut(), &mut stream.own, side, described);
            if keys.is_none() && stream.setup.leg(side).srtp.is_some() {
                stream.own.retire(side);
            }
            setup.leg_mut(side).srtp = keys.map(Box::new);
        }
        self.carry(&mut setup, line, same);
        // An end sends when it says so and the other says that it receives (RFC 3264 §6.1).
        let (offered, answered) = (line.offered.direction, line.answered.direction);
        setup.leg_mut(offer.from).speaks = offered.sends() && answered.receives();
        setup.leg_mut(from).speaks = answered.sends() && offered.receives();
        stream.agreed = true;
        stream.hear_ice([(offer.from, line.offered.ice_mark), (from, line.answered.ice_mark)]);
        if stream.setup != setup {
            stream.setup = setup.clone();
            self.commands.push_back(Command::Update { stream: setup });
        }
    }

    /// What a stream carries: what all its lines say together.
    fn carry(&self, setup: &mut StreamSetup, line: &Accepted, same: &[&Accepted]) {
        let both = || same.iter().flat_map(|line| [&line.offered, &line.answered]);
        setup.secure = both().any(|described| described.transport.is_secure());
        setup.dtls = both().any(|described| described.transport.is_dtls());
        setup.rtcp_mux = line.offered.rtcp_mux && line.answered.rtcp_mux;
        setup.payloads = both().fold(Payloads::default(), |all, described| all | described.payloads);
        setup.hop_limit = self.config.policy.hop_limit;
        setup.kind = line.answered.kind();
        setup.clocks = both().flat_map(|described| described.clocks.iter()).collect();
        setup.timeouts = self.config.policy.timeouts;
        setup.proxy = self.config.policy.continues() && both().all(|described| !described.keyed);
    }

    /// Streams that were offered and not accepted keep their ports for the next answer (a fork's, or the final one after
    /// a provisional one), and carry nothing.
    fn silence_others(&mut self, session: &mut Session, offer: &Offer, accepted: &[Accepted]) {
        let offered: Vec<u32> = offer.lines.iter().filter_map(|line| line.stream).collect();
        for stream in session.streams.iter_mut().filter(|stream| offered.contains(&stream.index)) {
            if accepted.iter().any(|line| line.index == stream.index) {
                continue;
            }
            let mut setup = stream.setup.clone();
            for side in [Side::Outside, Side::Inside] {
                let pair = stream.pair(side).id;
                let leg = setup.leg_mut(side);
                (leg.pair, leg.live, leg.wanted) = (pair, false, false);
            }
            stream.follow(Route::default());
            if stream.setup != setup {
                stream.setup = setup.clone();
                self.commands.push_back(Command::Update { stream: setup });
            }
        }
    }
}

/// What the answer's lines say to the offering side: our ports there.
fn placements(session: &Session, offer: &Offer, accepted: &[Accepted]) -> Vec<Placement> {
    let line = |at: usize| {
        let line = accepted.iter().find(|line| line.line == at)?;
        if let Some(place) = line.route.direct.filter(|_| offer.from == Side::Outside) {
            return Some(place.placement());
        }
        Some(placement(&session.stream(line.index)?.pair(offer.from)))
    };
    (0..offer.lines.len()).map(|at| line(at).unwrap_or(Placement::Decline)).collect()
}
