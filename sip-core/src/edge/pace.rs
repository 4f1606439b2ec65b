//! Pacing of REGISTERs (SIP-27): after a power cut all phones of a site come at once, and a registrar that can't take them
//! all would refuse them, and have them come again. Each registrar gets one REGISTER in a while; the others wait, in a
//! queue that is no longer than a phone waits for its answer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::Reason;
use super::exchange::{Answer, Exchange, Hop};
use crate::transaction::ServerKey;

/// The longest wait: a phone gives up after timer F, 32 s (RFC 3261 §17.1.2.2), and the PBX needs its part of that.
const WAIT: Duration = Duration::from_secs(20);
/// The most that wait for one registrar.
const QUEUE: usize = 10_000;
/// What a refusal that is due to a full queue says, for [`Edge::busy`].
pub(super) const FULL: &str = "register_delay";

/// One registrar.
struct Lane<K> {
    /// When the next may leave.
    free: Instant,
    waiting: VecDeque<K>,
}

/// All registrars that were sent a REGISTER a moment ago.
pub(super) struct Pace<K = (ServerKey, usize)> {
    lanes: HashMap<SocketAddr, Lane<K>>,
    due: BTreeSet<(Instant, SocketAddr)>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), due: BTreeSet::new() }
    }
}

/// What a REGISTER has to do.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Go,
    Wait,
    Full,
}

impl<K> Pace<K> {
    fn turn(&mut self, now: Instant, registrar: SocketAddr, gap: Duration, who: K) -> Turn {
        let Some(lane) = self.lanes.get_mut(&registrar) else {
            let free = now + gap;
            self.lanes.insert(registrar, Lane { free, waiting: VecDeque::new() });
            self.due.insert((free, registrar));
            return Turn::Go;
        };
        let ahead = u32::try_from(lane.waiting.len()).unwrap_or(u32::MAX);
        if lane.waiting.len() >= QUEUE || lane.free + gap.saturating_mul(ahead) > now + WAIT {
            return Turn::Full;
        }
        lane.waiting.push_back(who);
        Turn::Wait
    }

    /// The next whose time has come. A registrar that nobody waits for is forgotten.
    fn poll(&mut self, now: Instant, gap: Duration) -> Option<K> {
        loop {
            let (at, registrar) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
            self.due.remove(&(at, registrar));
            let Some(lane) = self.lanes.get_mut(&registrar) else { continue };
            let Some(next) = lane.waiting.pop_front() else {
                self.lanes.remove(&registrar);
                continue;
            };
            lane.free = now + gap;
            self.due.insert((lane.free, registrar));
            return Some(next);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Edge {
    /// Whether a branch has to wait for its turn, or has none. One that had its turn goes.
    pub(super) fn must_wait(&mut self, now: Instant, exchange: &mut Exchange, index: usize) -> bool {
        let Some(gap) = self.register_gap() else { return false };
        let Some(branch) = exchange.branches.get_mut(index) else { return false };
        let (true, Hop::Switch(_), Some(registrar)) =
            (exchange.registration.is_some(), &branch.way.hop, branch.way.hop.remote())
        else {
            return false;
        };
        if std::mem::take(&mut branch.called) {
            return false;
        }
        match self.pace.turn(now, registrar, gap, (exchange.key, index)) {
            Turn::Go => false,
            Turn::Wait => true,
            Turn::Full => {
                let answer = Answer::Own(503, "Too Many Registrations", Reason::Limit(FULL));
                self.fail_branch(now, exchange, index, answer);
                true
            }
        }
    }

    /// Each shard has its part of the rate.
    fn register_gap(&self) -> Option<Duration> {
        Some(self.config.interop.contacts.register_delay? * u32::from(self.shard.count()))
    }

    /// Sends the REGISTERs whose turn it is.
    pub(super) fn call_next(&mut self, now: Instant) {
        let gap = self.register_gap().unwrap_or_default();
        while let Some((key, index)) = self.pace.poll(now, gap) {
            let Some(mut exchange) = self.exchanges.remove(&key) else { continue };
            if self.is_standing(&exchange.incoming) {
                if let Some(branch) = exchange.branches.get_mut(index) {
                    branch.called = true;
                }
                self.send_branch(now, &mut exchange, index);
            } else {
                // The phone went away meanwhile, and asks again when it is back.
                let answer = Answer::Own(408, "Request Timeout", Reason::PhoneGone);
                self.fail_branch(now, &mut exchange, index, answer);
            }
            self.park(exchange);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
    fn an_idle_registrar_is_forgotten() {
        let (start, gap) = (Instant::now(), Duration::from_millis(20));
        let mut pace: Pace<u8> = Pace::default();
        let registrar: SocketAddr = "10.0.1.50:5061".parse().unwrap();
        assert_eq!(pace.turn(start, registrar, gap, 1), Turn::Go);
        assert_eq!(pace.turn(start, registrar, gap, 2), Turn::Wait);
        assert_eq!(pace.poll(start + gap / 2, gap), None);
        assert_eq!(pace.poll(start + gap, gap), Some(2));
        assert_eq!(pace.poll(start + 2 * gap, gap), None);
        assert!(pace.lanes.is_empty() && pace.due.is_empty());
    }
}
