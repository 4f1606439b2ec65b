//! Making an offer: which line gets which stream, and ports for those that have none.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::path::{self, Described};
use super::ports::Leased;
use super::secure;
use super::session::{Offer, OfferedLine, Session, Stream};
use super::writing;
use super::{Anchor, NotAcceptable, Refusal};
use crate::policy::{Address, Family};
use crate::relay::{Command, Pair, PairId, Realm, Side, StreamId, StreamSetup};
use crate::rewrite::{Offered, Placement};
use crate::sdp::Sdp;

/// Who offers to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) from: Side,
    pub(super) signalling: IpAddr,
    pub(super) to_signalling: IpAddr,
}

/// A stream's pairs in a plan that may still fail.
#[derive(Debug, Clone, Copy)]
struct Planned {
    index: u32,
    outside: Pair,
    inside: Pair,
    /// Not yet a stream.
    fresh: bool,
}

/// Ports taken for a plan: given back when it fails.
#[derive(Debug, Default)]
struct Plan {
    lines: Vec<OfferedLine>,
    streams: Vec<Planned>,
    taken: Vec<Leased>,
    next_index: u32,
}

impl Anchor {
    pub(super) fn make_offer(
        &mut self,
        now: Instant,
        id: u64,
        ends: Ends,
        sdp: &Sdp<'_>,
    ) -> Result<Bytes, Refusal> {
        let mut described = self.describe(sdp)?;
        if let Some(sides) = self.config.policy.srtp {
            secure::settle(sides.of(ends.from), sdp, &mut described)?;
        }
        let from_family = self.offering_family(id, ends, &described)?;
        let (to_family, to_address) = self.receiving_family(ends)?;
        let mut session = self.sessions.remove(&id).unwrap_or_default();
        session.signalling = Some(ends.phone());
        let mut plan = Plan { next_index: session.next_index, ..Plan::default() };
        let families = (from_family, to_family);
        let planned = self.plan(now, ends, families, &session, described, &mut plan);
        let planned = planned.and_then(|()| self.check_inside(ends, &plan));
        if let Err(refusal) = planned {
            plan.taken.into_iter().for_each(|leased| self.ports.put_back(leased));
            self.sessions.insert(id, session);
            return Err(refusal);
        }
        if ends.from == Side::Inside {
            self.find_routes(id, &session, &mut plan);
        }
        let placements: Vec<Placement> = plan
            .lines
            .iter()
            .zip(&sdp.media)
            .map(|(line, media)| {
                if let Some(place) = line.route.direct {
                    return place.placement();
                }
                let stream =
                    line.stream.and_then(|index| plan.streams.iter().find(|planned| planned.index == index));
                stream.map_or_else(
                    || writing::unrelayed(&self.config.policy, media),
                    |planned| placement(&planned.pair(ends.from.other())),
                )
            })
            .collect();
        self.adopt(id, &mut session, ends, plan);
        self.hold_streams(&mut session);
        self.sessions.insert(id, session);
        // What an earlier, unanswered offer had opened and this one does not use.
        let Some(state) = self.sessions.get(&id) else { return Ok(Bytes::new()) };
        let mut used = state.agreed.clone();
        used.extend(state.offer.iter().flat_map(|offer| offer.lines.iter().map(|line| line.stream)));
        self.close_streams(id, |stream| !used.contains(&Some(stream.index)));
        Ok(self.write_offer(id, ends, sdp, to_address.advertised, placements))
    }

    pub(super) fn describe(&self, sdp: &Sdp<'_>) -> Result<Vec<Option<Described>>, NotAcceptable> {
        let policy = &self.config.policy;
        let described: Result<Vec<_>, _> =
            sdp.media.iter().map(|media| Described::read(policy, sdp, media)).collect();
        let described = described?;
        writing::check(policy, sdp, &described)?;
        Ok(described)
    }

    /// The family in which the offering side receives: that of its description. A hold by 0.0.0.0 says nothing.
    fn offering_family(
        &self,
        id: u64,
        ends: Ends,
        described: &[Option<Described>],
    ) -> Result<Family, NotAcceptable> {
        let all = || described.iter().flatten();
        let known = self.sessions.get(&id).and_then(|session| session.streams.first());
        let family = all()
            .find(|line| line.names_address())
            .map(|line| Family::from(line.rtp.ip()))
            .or_else(|| known.map(|stream| stream.pair(ends.from).realm.family))
            .or_else(|| all().find(|line| line.is_hold()).map(|line| Family::from(line.rtp.ip())));
        let Some(family) = family else { return Ok(Family::from(ends.signalling)) };
        let configured = self.config.addresses(ends.from).of(family);
        configured.map(|_| family).ok_or(NotAcceptable::Family(ends.from, family))
    }

    /// The family for the receiving side: that of its signalling, else the one it has.
    fn receiving_family(&self, ends: Ends) -> Result<(Family, Address), NotAcceptable> {
        let to = ends.from.other();
        let addresses = self.config.addresses(to);
        let wished = Family::from(ends.to_signalling);
        let families = std::iter::once(wished).chain(addresses.families());
        families
            .filter_map(|family| Some((family, addresses.of(family)?)))
            .next()
            .ok_or(NotAcceptable::Family(to, wished))
    }

    /// Gives each line its stream and each stream its pairs.
    fn plan(
        &mut self,
        now: Instant,
        ends: Ends,
        families: (Family, Family),
        session: &Session,
        described: Vec<Option<Described>>,
        plan: &mut Plan,
    ) -> Result<(), Refusal> {
        let max_streams = self.config.policy.max_streams;
        for (line, described) in described.into_iter().enumerate() {
            let Some(wants) = described else {
                plan.lines.push(OfferedLine::default());
                continue;
            };
            // Two lines at one port are alternatives and share a relay (SDP-02).
            let twin = plan
                .lines
                .iter()
                .find(|other| other.described.as_ref().is_some_and(|d| d.is_alternative(&wants)));
            let stream = match twin {
                Some(twin) => twin.stream,
                None if plan.streams.len() >= max_streams => None,
                None => {
                    let index = self.plan_stream(now, ends, families, session, (line, &wants), plan)?;
                    Some(index)
                }
            };
            let offered = Offered { direction: wants.direction, dtmf: None };
            let described = stream.map(|_| wants);
            plan.lines.push(OfferedLine { stream, described, offered, ..OfferedLine::default() });
        }
        Ok(())
    }

    fn plan_stream(
        &mut self,
        now: Instant,
        ends: Ends,
        (from_family, to_family): (Family, Family),
        session: &Session,
        (line, described): (usize, &Described),
        plan: &mut Plan,
    ) -> Result<u32, Refusal> {
        let known = session
            .stream_of_line(line)
            .filter(|index| plan.streams.iter().all(|planned| planned.index != *index))
            .and_then(|index| session.stream(index));
        let mut pair = |side: Side| -> Result<Pair, Refusal> {
            let family = if side == ends.from { from_family } else { to_family };
            let realm = Realm { side, family };
            let held = known.map(|stream| stream.pair(side)).filter(|pair| pair.realm == realm);
            let waiting = session.offer.as_ref().and_then(|offer| {
                let replaced = |(index, at, _): &&(u32, Side, Pair)| {
                    Some(*index) == known.map(|s| s.index) && *at == side
                };
                offer.replacements.iter().find(replaced).map(|(_, _, pair)| *pair)
            });
            let waiting = waiting.filter(|pair| pair.realm == realm);
            let moves =
                side == Side::Inside && known.is_some_and(|s| session.moves(s.index, ends.from, described));
            let kept = if moves { waiting } else { held.or(waiting) };
            if let Some(pair) = kept {
                return Ok(pair);
            }
            let Some(leased) = self.ports.take(now, realm) else {
                // Better one that the PBX may overlook than none.
                return held.ok_or(Refusal::Unavailable { side, family });
            };
            plan.taken.push(leased);
            Ok(leased.pair)
        };
        let (outside, inside) = (pair(Side::Outside)?, pair(Side::Inside)?);
        let index = known.map_or(plan.next_index, |stream| stream.index);
        if known.is_none() {
            plan.next_index = plan.next_index.wrapping_add(1);
        }
        plan.streams.push(Planned { index, outside, inside, fresh: known.is_none() });
        Ok(index)
    }

    /// Which lines name another phone's relay port, and whether this one is told that phone's own address.
    fn find_routes(&self, id: u64, session: &Session, plan: &mut Plan) {
        for line in &mut plan.lines {
            let planned = plan.streams.iter().find(|planned| Some(planned.index) == line.stream);
            if let (Some(described), Some(planned)) = (&line.described, planned) {
                let stream = (!planned.fresh).then_some(planned.index);
                line.route = self.route(id, session, stream, described, true);
            }
        }
    }

    /// An inside description must name an address that can be sent to; better now than when the answer comes.
    fn check_inside(&self, ends: Ends, plan: &Plan) -> Result<(), Refusal> {
        if ends.from == Side::Inside {
            for line in &plan.lines {
                let stream = plan.streams.iter().find(|planned| Some(planned.index) == line.stream);
                if let (Some(described), Some(planned)) = (&line.described, stream) {
                    path::destination(Side::Inside, planned.inside.rtp.ip(), described, &[])?;
                }
            }
        }
        Ok(())
    }

    /// The plan holds: it becomes the session's offer, and new streams are opened at the relay, closed to the callee.
    fn adopt(&mut self, id: u64, session: &mut Session, ends: Ends, plan: Plan) {
        let old = session.offer.take().filter(|offer| !offer.answered);
        let mut replacements = Vec::new();
        for planned in &plan.streams {
            if let Some(stream) = session.stream(planned.index) {
                for side in [Side::Outside, Side::Inside] {
                    if planned.pair(side).id != stream.pair(side).id {
                        replacements.push((planned.index, side, planned.pair(side)));
                    }
                }
            }
        }
        let mut waiting: Vec<PairId> =
            replacements.iter().map(|(_, _, pair): &(u32, Side, Pair)| pair.id).collect();
        for (index, side, pair) in &replacements {
            // The PBX may name it before the answer comes.
            if let Some(address) = self.advertised(pair).filter(|_| *side == Side::Inside) {
                self.own.insert(address, StreamId { session: id, index: *index });
            }
        }
        let mut unused = Vec::new();
        for (_, _, pair) in old.into_iter().flat_map(|offer| offer.replacements) {
            match waiting.iter().position(|kept| *kept == pair.id) {
                Some(at) => drop(waiting.swap_remove(at)),
                None => {
                    self.forget_port(&pair);
                    unused.push(pair.id);
                }
            }
        }
        // An answer may take longer than a lease lasts.
        self.commands.extend((!waiting.is_empty()).then_some(Command::Keep { pairs: waiting }));
        self.commands.extend((!unused.is_empty()).then_some(Command::Return { pairs: unused }));
        for planned in plan.streams.iter().filter(|planned| planned.fresh) {
            let line = plan.lines.iter().find(|line| line.stream == Some(planned.index));
            let Some(described) = line.and_then(|line| line.described.as_ref()) else { continue };
            self.open(id, session, ends, planned, described);
        }
        session.next_index = plan.next_index;
        let mut lines = plan.lines;
        for line in &mut lines {
            // Other ports of ours are other candidates, which begin anew as well.
            let moved = replacements.iter().any(|(index, _, _)| Some(*index) == line.stream);
            line.restart = session.restart(ends.from, line, moved);
        }
        session.offer = Some(Offer {
            from: ends.from,
            signalling: ends.signalling,
            lines,
            replacements,
            answered: false,
            srtp: self.config.policy.srtp,
            confirmed: false,
            fork: None,
            forks: Vec::new(),
        });
    }

    fn open(&mut self, id: u64, session: &mut Session, ends: Ends, planned: &Planned, described: &Described) {
        let stream_id = StreamId { session: id, index: planned.index };
        // Checked before: `check_inside`.
        let Ok((offering, names)) =
            self.leg(stream_id, &planned.pair(ends.from), ends.signalling, described, &[])
        else {
            return;
        };
        let to = ends.from.other();
        let mut waiting = self.silent_leg(to, &planned.pair(to), ends.to_signalling);
        waiting.ice = self.ice_lite(None, stream_id, to, (described.ice, None));
        // Its key comes with its answer: until then nothing can be made of what it sends.
        waiting.live &= described.srtp.is_none();
        let (outside, inside) = match ends.from {
            Side::Outside => (offering, waiting),
            Side::Inside => (waiting, offering),
        };
        let setup = StreamSetup {
            id: stream_id,
            outside,
            inside,
            hop_limit: self.config.policy.hop_limit,
            rtcp_mux: false,
            secure: described.transport.is_secure(),
            dtls: described.transport.is_dtls(),
            payloads: described.payloads,
            kind: described.kind(),
            clocks: described.clocks.clone(),
            timeouts: self.config.policy.timeouts,
            direct: false,
            proxy: self.config.policy.continues() && !described.keyed,
        };
        self.start(session, Stream { names, ..Stream::new(planned.outside, planned.inside, setup) });
    }

    /// A stream begins: its inside port is known as ours, and the relay is told.
    pub(super) fn start(&mut self, session: &mut Session, stream: Stream) {
        if let Some(address) = self.advertised(&stream.inside) {
            self.own.insert(address, stream.setup.id);
        }
        self.commands.push_back(Command::Open { stream: stream.setup.clone() });
        session.streams.push(stream);
    }
}

impl Ends {
    /// The address of the phone's signalling.
    fn phone(&self) -> IpAddr {
        match self.from {
            Side::Outside => self.signalling,
            Side::Inside => self.to_signalling,
        }
    }

    /// The address of the switch's.
    pub(super) fn switch(&self) -> IpAddr {
        match self.from {
            Side::Outside => self.to_signalling,
            Side::Inside => self.signalling,
        }
    }
}

impl Planned {
    fn pair(&self, side: Side) -> Pair {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }
}

pub(super) fn placement(pair: &Pair) -> Placement {
    Placement::relay(pair.rtp.port(), pair.rtcp.port())
}
