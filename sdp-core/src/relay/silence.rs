//! Who has fallen silent, judged at the table's tick from counters: a packet costs nothing.

use std::time::{Duration, Instant};

use super::command::{Side, Timeouts};
use super::report::Silence;

/// Heard so recently, an end is speaking: two ticks.
const SPEAKING: Duration = Duration::from_secs(2);

/// What an end has sent, and whether it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// RTP packets so far.
    pub rtp: u64,
    /// RTCP packets so far; `None`: this stream has no RTCP.
    pub rtcp: Option<u64>,
    /// Whether it was agreed that it sends.
    pub speaks: bool,
}

/// Since when the two ends of a stream are silent.
#[derive(Debug)]
pub struct Watch {
    /// Outside and inside: count, and when it last changed.
    rtp: [(u64, Instant); 2],
    rtcp: [(u64, Instant); 2],
    told_one_way: [bool; 2],
    told_rtp: bool,
    told_rtcp: bool,
}

/// What a tick has found: the silence and its seconds.
pub type Found = (Silence, u16);

impl Watch {
    /// Both ends have just spoken: a stream that begins, or that signalling has changed, has its full time.
    pub fn new(now: Instant) -> Self {
        Self {
            rtp: [(0, now); 2],
            rtcp: [(0, now); 2],
            told_one_way: [false; 2],
            told_rtp: false,
            told_rtcp: false,
        }
    }

    /// Signalling has changed the stream.
    pub fn restart(&mut self, now: Instant) {
        for (_, since) in self.rtp.iter_mut().chain(&mut self.rtcp) {
            *since = now;
        }
        (self.told_one_way, self.told_rtp, self.told_rtcp) = ([false; 2], false, false);
    }

    /// A tick, with what was `heard` outside and inside. Each silence is told once, until somebody is heard again.
    pub fn tick(&mut self, now: Instant, timeouts: &Timeouts, heard: [Heard; 2]) -> [Option<Found>; 4] {
        for ((rtp, rtcp), heard) in self.rtp.iter_mut().zip(&mut self.rtcp).zip(&heard) {
            note(rtp, now, heard.rtp, !heard.speaks);
            note(rtcp, now, heard.rtcp.unwrap_or(0), heard.rtcp.is_none());
        }
        let silent = |(_, since): (u64, Instant)| now.saturating_duration_since(since);
        let [outside, inside] = self.rtp.map(silent);
        let mut found = [None; 4];
        let [first, second, rtp, rtcp] = &mut found;
        let [out, into] = heard.map(|end| end.speaks);
        let ends =
            [(first, outside, inside, Side::Outside, into), (second, inside, outside, Side::Inside, out)];
        for ((place, own, other, side, speaks), told) in ends.into_iter().zip(&mut self.told_one_way) {
            // Of two that are silent none is the one that is missing.
            let over = speaks && other < SPEAKING;
            *place = due(told, own, timeouts.one_way.filter(|_| over), Silence::OneWay(side));
        }
        let anybody = heard.iter().any(|end| end.speaks);
        let both = |[one, other]: [Duration; 2], wanted: [bool; 2]| match wanted {
            [true, true] => one.min(other),
            [true, false] => one,
            [false, true] => other,
            [false, false] => Duration::ZERO,
        };
        let rtp_silent = both([outside, inside], heard.map(|end| end.speaks));
        let rtcp_silent = both(self.rtcp.map(silent), heard.map(|end| end.rtcp.is_some() && anybody));
        *rtp = due(&mut self.told_rtp, rtp_silent, timeouts.rtp, Silence::Rtp);
        *rtcp = due(&mut self.told_rtcp, rtcp_silent, timeouts.rtcp, Silence::Rtcp);
        found
    }

    /// Whether the stream is to be closed (MED-14): no RTP for its time, and no RTCP for its own where that is waited for.
    pub fn is_over(&self, timeouts: &Timeouts) -> bool {
        timeouts.teardown && self.told_rtp && (timeouts.rtcp.is_none() || self.told_rtcp)
    }
}

fn note(last: &mut (u64, Instant), now: Instant, count: u64, excused: bool) {
    if last.0 != count || excused {
        *last = (count, now);
    }
}

fn due(told: &mut bool, silent: Duration, limit: Option<u16>, what: Silence) -> Option<Found> {
    let limit = limit?;
    if silent < Duration::from_secs(limit.into()) {
        *told = false;
        return None;
    }
    let seconds = u16::try_from(silent.as_secs()).unwrap_or(u16::MAX);
    (!std::mem::replace(told, true)).then_some((what, seconds))
}

#[cfg(test)]
mod tests;
