//! One stream: two legs, two ports each, and the way of a packet from one to the other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::command::{Side, StreamSetup};
use super::hop_limit;
use super::latch::{Admission, Denial, Evidence, Latch};
use super::loop_guard::OwnPorts;
use super::report::{Component, Dropped, LegStatistics, Report};
use crate::rtp::{Class, classify};

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
}

/// A stream of the relay.
#[derive(Debug)]
pub struct Stream {
    setup: StreamSetup,
    outside: Leg,
    inside: Leg,
}

#[derive(Debug)]
struct Leg {
    rtp: Latch,
    rtcp: Latch,
    statistics: LegStatistics,
    told_hop_limit: bool,
    told_rate: bool,
}

impl Leg {
    fn new(setup: &StreamSetup, side: Side) -> Self {
        let leg = setup.leg(side);
        Self {
            rtp: Latch::new(leg, leg.remote.map(|remote| remote.rtp)),
            rtcp: Latch::new(leg, leg.remote.map(|remote| remote.rtcp)),
            statistics: LegStatistics::default(),
            told_hop_limit: false,
            told_rate: false,
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
    pub fn new(setup: StreamSetup) -> Self {
        Self { outside: Leg::new(&setup, Side::Outside), inside: Leg::new(&setup, Side::Inside), setup }
    }

    /// Its state.
    pub fn setup(&self) -> &StreamSetup {
        &self.setup
    }

    /// Changes its state; what was learned from packets stays where the new state allows.
    pub fn update(&mut self, setup: StreamSetup) {
        for side in [Side::Outside, Side::Inside] {
            let new = setup.leg(side).clone();
            let leg = self.leg(side);
            leg.rtp.update(&new, new.remote.map(|remote| remote.rtp));
            leg.rtcp.update(&new, new.remote.map(|remote| remote.rtcp));
        }
        self.setup = setup;
    }

    /// Counters of a leg.
    pub fn statistics(&self, side: Side) -> LegStatistics {
        let leg = match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        };
        LegStatistics {
            senders: u8::try_from(leg.rtp.senders()).unwrap_or(u8::MAX),
            receiver: leg.rtp.destination(),
            ..leg.statistics
        }
    }

    /// Takes a packet from `side`, or drops and counts it.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        side: Side,
        packet: &Packet<'_>,
        own: &OwnPorts,
        reports: &mut VecDeque<Report>,
    ) -> Option<Passed> {
        let evidence = self.evidence(side, packet, own)?;
        let (id, policy) = (self.setup.id, self.setup.hop_limit);
        let &Packet { component, source, hop_limit: received, .. } = packet;
        let leg = self.leg(side);
        let statistics = &mut leg.statistics;
        let counts = &mut statistics.dropped;
        let latch = match component {
            Component::Rtp => &mut leg.rtp,
            Component::Rtcp => &mut leg.rtcp,
        };
        match latch.judge(now, source, evidence) {
            Ok(Admission::First) => {
                reports.push_back(Report::FirstPacket {
                    stream: id,
                    side,
                    component,
                    source,
                    hop_limit: received,
                });
            }
            Ok(Admission::Moved) => reports.push_back(Report::Moved { stream: id, side, component, source }),
            Ok(Admission::Known | Admission::Extra) => {}
            Err(denial) => {
                match denial {
                    Denial::Stranger => counts.stranger += 1,
                    Denial::Senders => counts.senders += 1,
                    Denial::Payload => counts.payload += 1,
                    Denial::Rate => counts.rate += 1,
                }
                match denial {
                    Denial::Stranger | Denial::Senders => statistics.refused = Some(source),
                    Denial::Payload => {
                        let kind = evidence.sequence.and_then(|_| packet.bytes.get(1));
                        statistics.refused_payload = kind.map(|octet| octet & 0x7f);
                    }
                    Denial::Rate => {}
                }
                if denial == Denial::Rate && !std::mem::replace(&mut leg.told_rate, true) {
                    reports.push_back(Report::RateExceeded { stream: id, side, source });
                }
                return None;
            }
        }
        match evidence.sequence {
            Some(_) => leg.statistics.received_rtp += 1,
            None => leg.statistics.received_rtcp += 1,
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
            return None;
        };
        Some(Passed { component, hop_limit })
    }

    /// Where a passed packet goes when it leaves by `side`; counts it as sent.
    pub fn leave(&mut self, side: Side, passed: Passed, octets: usize) -> Option<SocketAddr> {
        let leg = self.leg(side);
        let to = leg.latch(passed.component).destination()?;
        leg.statistics.sent += 1;
        leg.statistics.sent_octets += octets as u64;
        leg.statistics.hop_limit_sent.record(passed.hop_limit);
        Some(to)
    }

    /// A packet from `side` had nowhere to go.
    pub fn count_no_receiver(&mut self, side: Side) {
        self.leg(side).statistics.dropped.no_receiver += 1;
    }

    /// What was dropped of `side`, for the driver to count what it saw.
    pub fn dropped_mut(&mut self, side: Side) -> &mut Dropped {
        &mut self.leg(side).statistics.dropped
    }

    /// What the packet proves; `None` after counting why it is dropped.
    fn evidence(&mut self, side: Side, packet: &Packet<'_>, own: &OwnPorts) -> Option<Evidence> {
        let setup = &self.setup;
        let (live, mux, dtls) = (setup.leg(side).live, setup.rtcp_mux, setup.dtls);
        let class = classify(packet.bytes, setup.secure);
        let named = |payload_type| setup.payloads.contains(payload_type);
        let verdict = match (class, packet.component) {
            (Class::Rtp(header), Component::Rtp) => Some(Evidence {
                ssrc: Some(header.ssrc),
                sequence: Some(header.sequence),
                proves: named(header.payload_type),
            }),
            (Class::Rtcp(header), Component::Rtcp) => {
                Some(Evidence { ssrc: Some(header.ssrc), sequence: None, proves: true })
            }
            // Beside RTP it passes from who is known by RTP.
            (Class::Rtcp(header), Component::Rtp) if mux => {
                Some(Evidence { ssrc: Some(header.ssrc), sequence: None, proves: false })
            }
            (Class::Dtls, _) if dtls => Some(Evidence { ssrc: None, sequence: None, proves: true }),
            _ => None,
        };
        let dropped = &mut self.leg(side).statistics.dropped;
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
                Class::Stun | Class::Dtls => dropped.stun_dtls += 1,
                _ => dropped.malformed += 1,
            }
        }
        verdict
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Outside => &mut self.outside,
            Side::Inside => &mut self.inside,
        }
    }
}
