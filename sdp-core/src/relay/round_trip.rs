//! How long it takes to an end and back: a sender report that went there, and the report that answers it.

use std::time::{Duration, Instant};

use crate::rtp::rtcp::Block;

/// A round trip above this is a report that refers to something else.
const LONGEST: Duration = Duration::from_secs(10);

/// The last sender reports on their way to one end, and what came of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundTrip {
    sent: [Option<(u32, Instant)>; 2],
    last: Option<Duration>,
}

impl RoundTrip {
    /// A sender report leaves for the end.
    pub fn sent(&mut self, now: Instant, report: u32) {
        let [last, before] = &mut self.sent;
        *before = last.replace((report, now));
    }

    /// A report block of the end (RFC 3550 §6.4.1: A − LSR − DLSR, with our own clock for A and for when it passed here).
    pub fn heard(&mut self, now: Instant, block: &Block) {
        let named = |(report, _): &(u32, Instant)| *report == block.last_report && *report != 0;
        let Some((_, sent)) = self.sent.iter().flatten().copied().find(named) else { return };
        let held = Duration::from_nanos(u64::from(block.delay) * 1_000_000_000 / 65_536);
        // Less than nothing: the end's clock runs faster than ours, or it lies.
        let trip = now.saturating_duration_since(sent).checked_sub(held);
        self.last = trip.filter(|trip| *trip <= LONGEST).or(self.last);
    }

    /// The last one.
    pub fn last_us(&self) -> Option<u32> {
        self.last.and_then(|trip| u32::try_from(trip.as_micros()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_held_and_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let block = |last_report, delay| Block { fraction_lost: 0, lost: 0, jitter: 0, last_report, delay };
        let mut trip = RoundTrip::default();
        trip.heard(at(0), &block(0, 0));
        assert_eq!(trip.last_us(), None);
        trip.sent(at(0), 7);
        trip.sent(at(5_000), 8);
        // Two seconds after it came there: 80 ms on the way.
        trip.heard(at(7_080), &block(8, 2 << 16));
        assert_eq!(trip.last_us(), Some(80_000));
        for stray in [block(9, 0), block(8, 9 << 16), block(0, 0)] {
            trip.heard(at(9_000), &stray);
            assert_eq!(trip.last_us(), Some(80_000), "{stray:?}");
        }
        trip.heard(at(9_030), &block(7, 9 << 16));
        assert_eq!(trip.last_us(), Some(30_000), "the one before is remembered");
    }
}
