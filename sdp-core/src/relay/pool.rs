//! Which ports to bind next: random within the range, and not again soon after use (MED-01).

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

/// The pairs of one address: even port and the next.
#[derive(Debug)]
pub struct Pool {
    first: u16,
    pairs: u16,
    taken: Vec<bool>,
    quarantine: VecDeque<(Instant, u16)>,
    rest: Duration,
}

impl Pool {
    /// All pairs that lie within `range`; a used one rests for `rest`.
    pub fn new(range: &RangeInclusive<u16>, rest: Duration) -> Self {
        let first = range.start().checked_add(range.start() % 2).unwrap_or(u16::MAX);
        let pairs = (u32::from(*range.end()) + 1).saturating_sub(u32::from(first)) / 2;
        let pairs = u16::try_from(pairs).unwrap_or(0);
        Self { first, pairs, taken: vec![false; usize::from(pairs)], quarantine: VecDeque::new(), rest }
    }

    /// No pairs.
    pub fn none() -> Self {
        Self { first: 0, pairs: 0, taken: Vec::new(), quarantine: VecDeque::new(), rest: Duration::ZERO }
    }

    /// How many pairs there are.
    pub fn size(&self) -> usize {
        usize::from(self.pairs)
    }

    /// Takes a random free pair and gives its even port; `None` when all are taken or resting.
    pub fn take(&mut self, now: Instant, random: &mut ChaCha12Rng) -> Option<u16> {
        while let Some((until, index)) = self.quarantine.front().copied() {
            if until > now {
                break;
            }
            self.quarantine.pop_front();
            self.mark(index, false);
        }
        // A few throws find a free one unless nearly all are taken; then a walk does.
        let throw =
            |random: &mut ChaCha12Rng| random.next_u32().checked_rem(u32::from(self.pairs)).map(|n| n as u16);
        let free = |index: &u16| self.taken.get(usize::from(*index)) == Some(&false);
        let found = (0..16).find_map(|_| throw(random).filter(free));
        let index = found.or_else(|| {
            let from = throw(random)?;
            (from..self.pairs).chain(0..from).find(free)
        })?;
        self.mark(index, true);
        Some(self.first + 2 * index)
    }

    /// Takes this pair, by its even port. `false`: it is none of ours, taken, or resting.
    pub fn claim(&mut self, port: u16) -> bool {
        let Some(index) =
            port.checked_sub(self.first).filter(|offset| offset % 2 == 0).map(|offset| offset / 2)
        else {
            return false;
        };
        let free = self.taken.get(usize::from(index)) == Some(&false);
        if free {
            self.mark(index, true);
        }
        free
    }

    /// A pair is no longer bound: it rests.
    pub fn rest(&mut self, now: Instant, port: u16) {
        if let Some(index) = port.checked_sub(self.first).map(|offset| offset / 2) {
            self.quarantine.push_back((now + self.rest, index));
        }
    }

    fn mark(&mut self, index: u16, taken: bool) {
        if let Some(place) = self.taken.get_mut(usize::from(index)) {
            *place = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_pair_once_and_all_even() {
        let now = Instant::now();
        let mut random = ChaCha12Rng::from_seed([1; 32]);
        let mut pool = Pool::new(&(16385..=16999), Duration::from_secs(30));
        let ports: Vec<u16> = std::iter::from_fn(|| pool.take(now, &mut random)).collect();
        assert_eq!(ports.len(), pool.size());
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 307);
        assert!(ports.iter().all(|port| port % 2 == 0 && (16386..16999).contains(port)));
        assert!(ports.windows(2).filter(|pair| pair[1] == pair[0] + 2).count() < 30, "not in order");
    }

    #[test]
    fn a_used_pair_rests() {
        let now = Instant::now();
        let mut random = ChaCha12Rng::from_seed([2; 32]);
        let mut pool = Pool::new(&(20000..=20001), Duration::from_secs(30));
        assert_eq!(pool.take(now, &mut random), Some(20000));
        pool.rest(now, 20000);
        assert_eq!(pool.take(now + Duration::from_secs(29), &mut random), None);
        assert_eq!(pool.take(now + Duration::from_secs(30), &mut random), Some(20000));
    }

    #[test]
    fn ranges_at_the_edges() {
        let rest = Duration::ZERO;
        assert_eq!(Pool::new(&(0..=65535), rest).size(), 32768);
        assert_eq!(Pool::new(&(65534..=65535), rest).size(), 1);
        assert_eq!(Pool::new(&(65535..=65535), rest).size(), 0);
        assert_eq!(Pool::new(&RangeInclusive::new(9, 3), rest).size(), 0);
        let mut random = ChaCha12Rng::from_seed([3; 32]);
        assert_eq!(Pool::new(&(65535..=65535), rest).take(Instant::now(), &mut random), None);
    }
}
