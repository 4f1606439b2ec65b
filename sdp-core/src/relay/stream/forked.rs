//! A stream beside others of its session that share a pair with it (forks of one offer).

use std::net::SocketAddr;
use std::time::Instant;

use super::{Passed, Stream};
use crate::relay::command::Side;
use crate::relay::latch::Latch;
use crate::relay::report::Component;

impl Stream {
    /// How well a sender is known on a side: 3: it was described there, 2: it speaks there, 1: its address may send, 0: it may not.
    pub fn claim(&self, side: Side, component: Component, source: SocketAddr) -> u8 {
        let leg = self.setup.leg(side);
        let latch = self.latch_of(side, component);
        match () {
            () if !leg.live => 0,
            () if latch.is_described(source) => 3,
            () if latch.is_held_by(source) => 2,
            () => u8::from(leg.sources.contains(&source.ip())),
        }
    }

    /// Where an end that sends from elsewhere than it said was found.
    pub fn found(&self, side: Side, component: Component) -> Option<SocketAddr> {
        self.latch_of(side, component).destination()
    }

    /// A packet leaves by `side`.
    pub fn count_sent(&mut self, now: Instant, side: Side, passed: Passed, octets: usize) {
        let leg = self.leg(side);
        leg.statistics.sent += 1;
        leg.statistics.sent_octets += octets as u64;
        leg.statistics.hop_limit_sent.record(passed.hop_limit);
        if let Some(report) = passed.sender_report {
            leg.round_trip.sent(now, report);
        }
    }

    fn latch_of(&self, side: Side, component: Component) -> &Latch {
        let leg = match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        };
        match component {
            Component::Rtp => &leg.rtp,
            Component::Rtcp => &leg.rtcp,
        }
    }
}
