//! The clocks of transactions: configuration, the two clocks one transaction may have running, the table of all deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Timing and limits of all transactions. [`Config::default`] is RFC 3261 Table 4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// T1, the estimate of a round trip and the first gap between retransmissions. Default 0.5 s. Smaller floods slow
    /// paths with duplicates, larger makes a lost packet heard by the caller.
    pub t1: Duration,
    /// T2, the largest gap between retransmissions of anything but INVITE. Default 4 s.
    pub t2: Duration,
    /// T4, how long a message may stay in the network. Default 5 s.
    pub t4: Duration,
    /// How often an INVITE is sent again over a transport that may lose it, the gap doubling each time. Default 6: the
    /// last leaves at 31.5 s, and one T1 later the peer counts as dead, which is exactly timer B (64 T1).
    pub invite_retransmissions: u32,
    /// The same for other requests, the gap doubling up to T2. Default 10: the last leaves at 31.5 s, failure at 32 s,
    /// which is timer F.
    pub other_retransmissions: u32,
    /// The user of an INVITE server transaction has this long to answer before the transaction says 100 by itself.
    /// RFC 3261 §17.2.1 allows 200 ms to those who know that their user is quick, as a proxy in one process is. Zero: at
    /// once. Default 200 ms.
    pub trying_after: Duration,
    /// A guard against leaks, no timer of the RFC: how long a transaction waits for its own user, or an INVITE for a
    /// final answer after each provisional one, before it ends. Must exceed the proxy's timer C. Default 15 min.
    pub patience: Duration,
    /// How many server transactions there may be. For one more the oldest that has been answered makes way; when all are
    /// still worked on, requests are refused with 503. Requests of our own may be twice
    /// as many, since one that was let in may fork. Default 100,000; one costs about 1 KiB plus its message.
    pub transactions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            invite_retransmissions: 6,
            other_retransmissions: 10,
            trying_after: Duration::from_millis(200),
            patience: Duration::from_secs(15 * 60),
            transactions: 100_000,
        }
    }
}

impl Config {
    /// 64 T1: timers B and F over reliable transports, H, J, L and M over any.
    pub fn lifetime(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// The gap after one of `gap` for everything but INVITE requests: doubled, at most T2.
    pub(super) fn capped_double(&self, gap: Duration) -> Duration {
        gap.saturating_mul(2).min(self.t2)
    }

    /// Timer B. Over reliable transports 64 T1; else one T1 after the last retransmission, where `2^n T1` = 64 T1 for the
    /// default of 6.
    pub(super) fn timer_b(&self, reliable: bool) -> Duration {
        if reliable {
            return self.lifetime();
        }
        let doublings = 1_u32.checked_shl(self.invite_retransmissions).unwrap_or(u32::MAX);
        self.t1.saturating_mul(doublings)
    }

    /// Timer F. Over reliable transports 64 T1; else one T1 after the last retransmission.
    pub(super) fn timer_f(&self, reliable: bool) -> Duration {
        if reliable {
            return self.lifetime();
        }
        let (mut last, mut gap) = (Duration::ZERO, self.t1);
        for _ in 0..self.other_retransmissions {
            last = last.saturating_add(gap);
            gap = self.capped_double(gap);
        }
        last.saturating_add(self.t1)
    }

    /// Timer D: at least 32 s over unreliable transports, else zero (RFC 3261 §17.1.1.2).
    pub(super) fn timer_d(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.lifetime().max(Duration::from_secs(32)) }
    }

    /// Timers I and K: T4 over unreliable transports, else zero.
    pub(super) fn timer_t4(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// Timer J: 64 T1 over unreliable transports, else zero (RFC 3261 §17.2.2).
    pub(super) fn timer_j(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.lifetime() }
    }
}

/// The clocks of one transaction. In each state of the four machines at most one thing repeats and one thing ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// When to send again: timers A, E, G, and the wait before 100.
    again: Option<Instant>,
    /// The gap that led to `again`.
    gap: Duration,
    /// When the state ends: all other timers.
    end: Instant,
}

/// Which clock of a transaction went off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    Again,
    End,
}

impl Clocks {
    pub(super) fn ending(end: Instant) -> Self {
        Self { again: None, gap: Duration::ZERO, end }
    }

    pub(super) fn repeating(mut self, now: Instant, gap: Duration) -> Self {
        self.repeat(now, gap);
        self
    }

    pub(super) fn repeat(&mut self, now: Instant, gap: Duration) {
        // A gap of zero, from a strange configuration, must not spin.
        let gap = gap.max(Duration::from_millis(1));
        self.again = Some(now + gap);
        self.gap = gap;
    }

    pub(super) fn gap(&self) -> Duration {
        self.gap
    }

    /// Whether it will come up again.
    pub(super) fn repeats(&self) -> bool {
        self.again.is_some()
    }

    pub(super) fn quiet(&mut self) {
        self.again = None;
    }

    pub(super) fn end_by(&mut self, latest: Instant) {
        self.end = self.end.min(latest);
    }

    pub(super) fn next(&self) -> Instant {
        self.again.map_or(self.end, |again| again.min(self.end))
    }

    /// What is due. The end wins: after a stall there is no use in sending once more.
    pub(super) fn due(&self, now: Instant) -> Option<Alarm> {
        if self.end <= now {
            Some(Alarm::End)
        } else if self.again.is_some_and(|again| again <= now) {
            Some(Alarm::Again)
        } else {
            None
        }
    }
}

/// One table of all deadlines, ordered. A deadline that was moved is left behind and skipped when it comes up; the table
/// is rebuilt when those left behind outnumber the living.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Copy + Ord> Deadlines<K> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new() }
    }

    /// Adds a deadline.
    pub(super) fn push(&mut self, at: Instant, key: K) {
        self.heap.push(Reverse((at, key)));
    }

    /// The earliest entry that is due, living or left behind: the caller compares with the key's own clock.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }

    /// Makes [`first`](Self::first) a living deadline. `is_current` tells whether an entry still holds.
    pub(super) fn settle(&mut self, living: usize, is_current: impl Fn(Instant, K) -> bool) {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if is_current(*at, *key) {
                break;
            }
            self.heap.pop();
        }
        if self.heap.len() > living.saturating_mul(4).saturating_add(64) {
            self.heap.retain(|Reverse((at, key))| is_current(*at, *key));
        }
    }

    /// When the first entry is due. O(1).
    pub(super) fn first(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
