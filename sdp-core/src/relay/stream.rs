//! One stream: two legs, two ports each, and the way of a packet from one to the other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::checks::{Answer, Checks};
use super::command::{Kind, LegSetup, Side, StreamId, StreamSetup, Timeouts};
use super::counts::Counts;
use super::hop_limit;
use super::latch::{Admission, Denial, Evidence, Latch};
use super::loop_guard::{Budget, OwnPorts};
use super::quality;
use super::reception::Meter;
use super::report::{Component, Dropped, LegStatistics, Report, Reported, Undelivered};
use super::round_trip::RoundTrip;
use super::silence::{Heard, Watch};
use crate::rtp::{Class, classify, rtcp, udptl};
use changes::Changes;

pub mod changes;
pub mod continuity;
mod forked;

/// A packet as it came.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The port of the pair it came to.
    pub component: Component,
    /// Its sender.
    pub source: SocketAddr,
    /// TTL or hop limit it came with.
    pub hop_limit: Option<u8>,
    /// Its payload.
    pub bytes: &'a [u8],
}

/// A packet that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The port it is to leave by.
    pub component: Component,
    /// The hop limit it is to leave with.
    pub hop_limit: u8,
    /// The time that its sender report is known by (RFC 3550 §6.4.1, LSR), where it has one.
    pub sender_report: Option<u32>,
    /// From somebody beside who holds the port, in the name (SSRC) of him.
    pub borrowed: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass(Passed),
    /// Its sender gets an answer, from the port it came to.
    Answer(Passed),
    /// It was dropped and counted.
    Drop,
}

/// A stream of the relay.
#[derive(Debug)]
pub struct Stream {
    setup: StreamSetup,
    outside: Leg,
    inside: Leg,
    /// Where some silence is to be told.
    watch: Option<Box<Watch>>,
    /// Both ends were let in at some time.
    met: bool,
}

#[derive(Debug)]
struct Leg {
    rtp: Latch,
    rtcp: Latch,
    statistics: Counts,
    meter: Meter,
    round_trip: RoundTrip,
    reported: Option<Reported>,
    /// All senders together, where they are limited.
    budget: Option<Budget>,
    checks: Option<Box<Checks>>,
    /// What is done to its packets.
    changes: Option<Box<Changes>>,
    told_hop_limit: bool,
    told_rate: bool,
}

impl Leg {
    fn new(stream: &StreamSetup, side: Side) -> Self {
        let setup = stream.leg(side);
        let mut leg = Self {
            rtp: Latch::new(setup, setup.remote.map(|remote| remote.rtp)),
            rtcp: Latch::new(setup, setup.remote.map(|remote| remote.rtcp)),
            statistics: Counts::default(),
            meter: Meter::default(),
            round_trip: RoundTrip::default(),
            reported: None,
            budget: None,
            checks: None,
            changes: None,
            told_hop_limit: false,
            told_rate: false,
        };
        leg.limit(setup, stream.is_continued());
        leg
    }

    fn update(&mut self, setup: &LegSetup, continued: bool) {
        self.rtp.update(setup, setup.remote.map(|remote| remote.rtp));
        self.rtcp.update(setup, setup.remote.map(|remote| remote.rtcp));
        self.limit(setup, continued);
    }

    fn limit(&mut self, setup: &LegSetup, continued: bool) {
        self.budget = setup.total_rate.map(|rate| self.budget.take().unwrap_or_default().at(rate));
        self.changes = Changes::renewed(self.changes.take(), setup, continued);
        if setup.ice.is_none() {
            self.checks = None;
        } else if self.checks.is_none() {
            self.checks = Some(Box::default());
        }
    }

    fn latch(&mut self, component: Component) -> &mut Latch {
        match component {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        }
    }
}

impl Stream {
    /// A stream in this state.
    pub fn new(now: Instant, setup: StreamSetup) -> Self {
        let (outside, inside) = (Leg::new(&setup, Side::Outside), Leg::new(&setup, Side::Inside));
        let met = setup.outside.live && setup.inside.live;
        let mut stream = Self { setup, outside, inside, watch: None, met };
        stream.watch(now);
        stream
    }

    /// Its state.
    pub fn setup(&self) -> &StreamSetup {
        &self.setup
    }

    /// Changes its state; what was learned from packets stays where the new state allows.
    pub fn update(&mut self, now: Instant, setup: StreamSetup) {
        for side in [Side::Outside, Side::Inside] {
            self.leg(side).update(setup.leg(side), setup.is_continued());
        }
        self.met |= setup.outside.live && setup.inside.live;
        self.setup = setup;
        self.watch(now);
    }

    /// Whether anybody may still send to its ports: it was agreed, or something has come.
    pub fn was_used(&self) -> bool {
        let came = |leg: &Leg| leg.statistics.received_octets > 0 || leg.statistics.dropped.total() > 0;
        self.met || came(&self.outside) || came(&self.inside)
    }

    /// Silence counts from now on.
    fn watch(&mut self, now: Instant) {
        let Timeouts { one_way, rtp, rtcp, .. } = self.setup.timeouts;
        if one_way.or(rtp).or(rtcp).is_none() {
            self.watch = None;
        } else if let Some(watch) = &mut self.watch {
            watch.restart(now);
        } else {
            self.watch = Some(Box::new(Watch::new(now)));
        }
    }

    /// What a leg has sent so far.
    pub fn heard(&self, side: Side) -> Heard {
        let statistics = match side {
            Side::Outside => &self.outside.statistics,
            Side::Inside => &self.inside.statistics,
        };
        let leg = self.setup.leg(side);
        let has_rtcp = self.setup.kind == Kind::Rtp && leg.live;
        Heard {
            rtp: statistics.received_rtp,
            rtcp: has_rtcp.then_some(statistics.received_rtcp),
            // What goes past us is not missing.
            speaks: leg.speaks && leg.live && !self.setup.direct,
        }
    }

    /// A tick: tells who has fallen silent. `true`: the stream is to be closed.
    pub fn listen(&mut self, now: Instant, heard: [Heard; 2], reports: &mut VecDeque<Report>) -> bool {
        let timeouts = self.setup.timeouts;
        let Some(watch) = &mut self.watch else { return false };
        let found = watch.tick(now, &timeouts, heard);
        let closed = watch.is_over(&timeouts);
        for (silence, seconds) in found.into_iter().flatten() {
            reports.push_back(Report::Silent {
                stream: self.setup.id,
                silence,
                seconds,
                outside: Box::new(self.statistics(Side::Outside)),
                inside: Box::new(self.statistics(Side::Inside)),
                closed,
            });
        }
        closed
    }

    /// Counters of a leg.
    pub fn statistics(&self, side: Side) -> LegStatistics {
        let (leg, other) = match side {
            Side::Outside => (&self.outside, &self.inside),
            Side::Inside => (&self.inside, &self.outside),
        };
        let reception = leg.meter.reception();
        let mut round_trips = [leg, other].into_iter().filter_map(|leg| leg.round_trip.last_us());
        let both = round_trips.next().map(|one| one.saturating_add(round_trips.next().unwrap_or(0)));
        let senders = leg.rtp.senders();
        let mut statistics = LegStatistics {
            senders: u8::try_from(senders.len()).unwrap_or(u8::MAX),
            receiver: leg.rtp.destination(),
            reception,
            reported: leg.reported,
            round_trip_us: leg.round_trip.last_us(),
            mos_hundredths: quality::mos_hundredths(&reception, both),
            ..leg.statistics.into()
        };
        for (place, sender) in statistics.sources.iter_mut().zip(senders) {
            *place = Some(sender);
        }
        statistics
    }

    /// Takes a packet from `side`, or drops and counts it. A connectivity check is answered into `answer`.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        side: Side,
        packet: &Packet<'_>,
        own: &OwnPorts,
        answer: &mut Answer,
        reports: &mut VecDeque<Report>,
    ) -> Verdict {
        let class = self.class(packet);
        if matches!(class, Class::Stun) && self.check(now, side, packet, own, answer, reports) {
            let hop_limit = hop_limit::own(self.setup.hop_limit);
            return Verdict::Answer(Passed {
                component: packet.component,
                hop_limit,
                sender_report: None,
                borrowed: false,
            });
        }
        let Some(evidence) = self.evidence(now, side, packet, class, own) else { return Verdict::Drop };
        let (id, policy, secure) = (self.setup.id, self.setup.hop_limit, self.setup.secure);
        let &Packet { component, source, hop_limit: received, .. } = packet;
        let latching = self.setup.leg(side).latching;
        let (leg, clocks) = self.leg_and_clocks(side);
        let statistics = &mut leg.statistics;
        let counts = &mut statistics.dropped;
        let latch = match component {
            Component::Rtp => &mut leg.rtp,
            Component::Rtcp => &mut leg.rtcp,
        };
        let admission = match latch.judge(now, source, evidence) {
            Ok(admission) => admission,
            Err(denial) => {
                match denial {
                    Denial::Stranger => counts.stranger += 1,
                    Denial::Senders => counts.senders += 1,
                    Denial::Payload => counts.payload += 1,
                    Denial::Rate => counts.rate += 1,
                    Denial::Loop => counts.loops += 1,
                }
                match denial {
                    Denial::Stranger | Denial::Senders => statistics.refused = Some(source),
                    Denial::Payload => {
                        let kind = evidence.sequence.and_then(|_| packet.bytes.get(1));
                        statistics.refused_payload = kind.map(|octet| octet & 0x7f);
                    }
                    Denial::Rate | Denial::Loop => {}
                }
                let told = matches!(denial, Denial::Rate | Denial::Loop);
                if told && !std::mem::replace(&mut leg.told_rate, true) {
                    reports.push_back(Report::RateExceeded { stream: id, side, source });
                }
                return Verdict::Drop;
            }
        };
        reports.extend(told(admission, id, side, packet));
        let mut sender_report = None;
        match class {
            Class::Rtp(header) => {
                leg.statistics.received_rtp += 1;
                // Of who is sent to: what others put beside it is no loss of the call's.
                if !latching || !matches!(admission, Admission::Known | Admission::Extra) {
                    leg.meter.record(now, &header, clocks);
                }
            }
            Class::Rtcp(_) => {
                leg.statistics.received_rtcp += 1;
                if !secure {
                    sender_report = leg.hear(now, packet.bytes);
                }
            }
            _ => leg.statistics.received_rtp += 1,
        }
        leg.statistics.received_octets += packet.bytes.len() as u64;
        if let Some(received) = received {
            leg.statistics.hop_limit_received.record(received);
        }
        let Some(hop_limit) = hop_limit::outgoing(policy, received) else {
            leg.statistics.dropped.hop_limit += 1;
            if !std::mem::replace(&mut leg.told_hop_limit, true) {
                reports.push_back(Report::HopLimitExpired { stream: id, side });
            }
            return Verdict::Drop;
        };
        let borrowed = matches!(admission, Admission::Known | Admission::Extra)
            && evidence.ssrc.is_some_and(|ssrc| leg.latch(component).is_holders_name(ssrc));
        Verdict::Pass(Passed { component, hop_limit, sender_report, borrowed })
    }

    /// Where a passed packet goes when it leaves by `side`; counts it as sent.
    pub fn leave(&mut self, now: Instant, side: Side, passed: Passed, octets: usize) -> Option<SocketAddr> {
        let to = self.leg(side).latch(passed.component).destination()?;
        self.count_sent(now, side, passed, octets);
        Some(to)
    }

    /// A packet to `side` did not arrive.
    pub fn count_undelivered(&mut self, side: Side, why: Undelivered) {
        let statistics = &mut self.leg(side).statistics;
        match why {
            Undelivered::Expired => statistics.expired += 1,
            Undelivered::Unreachable => statistics.unreachable += 1,
        }
    }

    /// A packet from `side` had nowhere to go.
    pub fn count_no_receiver(&mut self, side: Side) {
        self.leg(side).statistics.dropped.no_receiver += 1;
    }

    /// What was dropped of `side`, for the driver to count what it saw.
    pub fn dropped_mut(&mut self, side: Side) -> &mut Dropped {
        &mut self.leg(side).statistics.dropped
    }

    fn class(&self, packet: &Packet<'_>) -> Class {
        match self.setup.kind {
            Kind::Rtp => classify(packet.bytes, self.setup.secure),
            // Fax has no RTCP; checks come to its port as to any other.
            Kind::Udptl => match (classify(packet.bytes, false), packet.component) {
                (Class::Stun, _) => Class::Stun,
                (_, Component::Rtp) => udptl::sequence(packet.bytes).map_or(Class::Other, Class::Udptl),
                (_, Component::Rtcp) => Class::Other,
            },
        }
    }

    /// Whether this is a check of who knows our password; its answer is then written.
    fn check(
        &mut self,
        now: Instant,
        side: Side,
        packet: &Packet<'_>,
        own: &OwnPorts,
        answer: &mut Answer,
        reports: &mut VecDeque<Report>,
    ) -> bool {
        let id = self.setup.id;
        let (setup, leg) = match side {
            Side::Outside => (&self.setup.outside, &mut self.outside),
            Side::Inside => (&self.setup.inside, &mut self.inside),
        };
        let (Some(ice), Some(checks), true) = (&setup.ice, &mut leg.checks, setup.live) else { return false };
        if own.contains(packet.source) {
            return false;
        }
        let Some(nominated) =
            checks.answer(now, (ice, setup.ice_before.as_deref()), packet.source, packet.bytes, answer)
        else {
            return false;
        };
        let latch = match packet.component {
            Component::Rtp => &mut leg.rtp,
            Component::Rtcp => &mut leg.rtcp,
        };
        let Some(admission) = latch.prove(now, packet.source, nominated) else { return false };
        reports.extend(told(admission, id, side, packet));
        leg.statistics.checks += 1;
        true
    }

    /// What the packet proves; `None` after counting why it is dropped.
    fn evidence(
        &mut self,
        now: Instant,
        side: Side,
        packet: &Packet<'_>,
        class: Class,
        own: &OwnPorts,
    ) -> Option<Evidence> {
        let setup = &self.setup;
        let (live, mux, dtls) = (setup.leg(side).live, setup.rtcp_mux, setup.dtls);
        let named = |payload_type| setup.payloads.contains(payload_type);
        let nothing = Evidence { ssrc: None, sequence: None, timestamp: None, proves: true };
        let verdict = match (class, packet.component) {
            (Class::Rtp(header), Component::Rtp) => Some(Evidence {
                ssrc: Some(header.ssrc),
                sequence: Some(header.sequence),
                timestamp: Some(header.timestamp),
                proves: named(header.payload_type),
            }),
            // Phones report seconds after they speak, if at all: who only comes first is not believed.
            (Class::Rtcp(header), Component::Rtcp) => {
                let rtp = match side {
                    Side::Outside => &self.outside.rtp,
                    Side::Inside => &self.inside.rtp,
                };
                let proves = rtp.vouches(packet.source.ip(), header.ssrc);
                Some(Evidence { ssrc: Some(header.ssrc), proves, ..nothing })
            }
            // Beside RTP it passes from who is known by RTP.
            (Class::Rtcp(header), Component::Rtp) if mux => {
                Some(Evidence { ssrc: Some(header.ssrc), proves: false, ..nothing })
            }
            (Class::Udptl(sequence), _) => Some(Evidence { sequence: Some(sequence), ..nothing }),
            (Class::Dtls, _) if dtls => Some(nothing),
            _ => None,
        };
        let leg = self.leg(side);
        let dropped = &mut leg.statistics.dropped;
        if own.contains(packet.source) {
            dropped.own += 1;
            return None;
        }
        if !live {
            dropped.early += 1;
            return None;
        }
        if verdict.is_none() {
            match class {
                Class::Stun => dropped.stun += 1,
                Class::Dtls => dropped.dtls += 1,
                Class::Zrtp => dropped.zrtp += 1,
                _ => dropped.malformed += 1,
            }
        }
        if let Some(budget) = leg.budget.as_mut()
            && verdict.is_some()
            && !budget.admits(now)
        {
            dropped.rate += 1;
            return None;
        }
        verdict
    }

    fn leg_and_clocks(&mut self, side: Side) -> (&mut Leg, &crate::rtp::clock::Clocks) {
        let leg = match side {
            Side::Outside => &mut self.outside,
            Side::Inside => &mut self.inside,
        };
        (leg, &self.setup.clocks)
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Outside => &mut self.outside,
            Side::Inside => &mut self.inside,
        }
    }
}

impl Leg {
    /// Takes note of an end's reports; gives the mark of its sender report, if there is one.
    fn hear(&mut self, now: Instant, bytes: &[u8]) -> Option<u32> {
        let said = rtcp::Said::read(bytes);
        if let Some(block) = said.block {
            self.round_trip.heard(now, &block);
            let rtcp::Block { fraction_lost, lost, jitter, .. } = block;
            self.reported = Some(Reported { fraction_lost, lost, jitter });
        }
        said.sender_report
    }
}

/// What is told of a packet that was let in.
fn told(admission: Admission, stream: StreamId, side: Side, packet: &Packet<'_>) -> Option<Report> {
    let &Packet { component, source, hop_limit, .. } = packet;
    match admission {
        Admission::First => Some(Report::FirstPacket { stream, side, component, source, hop_limit }),
        Admission::Moved => Some(Report::Moved { stream, side, component, source }),
        Admission::Holder | Admission::Known | Admission::Extra => None,
    }
}
