//! Who is blocked, for how long, and how often it was before.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::{Auth, Offence, Suspect};

/// Blocks remembered at most, those included that are over but still count for the next; the oldest makes way.
pub(super) const BLOCKS: usize = 100_000;

/// One block, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockState {
    /// Who.
    pub suspect: Suspect,
    /// For what.
    pub offence: Offence,
    /// Seconds that are left.
    pub seconds: u64,
    /// How many there were, this one included.
    pub times: u32,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Blocks {
    table: HashMap<Suspect, Block>,
    /// When each ends; when one that has ended is forgotten.
    due: BTreeSet<(Instant, Suspect)>,
    /// In the order they were last wished.
    age: BTreeSet<(u64, Suspect)>,
    last: u64,
    active: usize,
}

struct Block {
    offence: Offence,
    active: bool,
    due: Instant,
    length: Duration,
    times: u32,
    number: u64,
}

impl Blocks {
    /// Whether this one is blocked now.
    pub(crate) fn holds(&self, suspect: &Suspect) -> bool {
        self.active > 0 && self.table.get(suspect).is_some_and(|block| block.active)
    }

    /// Blocks; how long. Whoever made way for it, if it was blocked.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        suspect: Suspect,
        offence: Offence,
        rules: &Auth,
    ) -> (Duration, Option<Suspect>) {
        let (length, times) = match self.table.get(&suspect) {
            Some(before) => {
                (before.length.saturating_mul(2).min(rules.longest), before.times.saturating_add(1))
            }
            None => (rules.block, 1),
        };
        (
            length,
            self.put(
                now,
                suspect,
                Block { offence, active: true, due: now + length, length, times, number: 0 },
            ),
        )
    }

    /// Blocks for a time that somebody else has set.
    pub(crate) fn add_for(
        &mut self,
        now: Instant,
        suspect: Suspect,
        offence: Offence,
        length: Duration,
    ) -> Option<Suspect> {
        let times = self.table.get(&suspect).map_or(1, |before| before.times.saturating_add(1));
        self.put(now, suspect, Block { offence, active: true, due: now + length, length, times, number: 0 })
    }

    fn put(&mut self, now: Instant, suspect: Suspect, mut block: Block) -> Option<Suspect> {
        self.remove(&suspect);
        let mut displaced = None;
        if self.table.len() >= BLOCKS
            && let Some(&(_, oldest)) = self.age.first()
        {
            displaced = self.remove(&oldest).then_some(oldest);
        }
        self.last += 1;
        block.number = self.last;
        block.due = block.due.max(now);
        self.due.insert((block.due, suspect));
        self.age.insert((block.number, suspect));
        self.active += 1;
        self.table.insert(suspect, block);
        displaced
    }

    /// Forgets a block; whether it was in force.
    pub(crate) fn remove(&mut self, suspect: &Suspect) -> bool {
        let Some(block) = self.table.remove(suspect) else { return false };
        self.due.remove(&(block.due, *suspect));
        self.age.remove(&(block.number, *suspect));
        self.active -= usize::from(block.active);
        block.active
    }

    /// The next block that has ended at `now`. It is remembered for [`Auth::longest`] more: the next one is longer.
    pub(crate) fn expire(&mut self, now: Instant, rules: &Auth) -> Option<Suspect> {
        while let Some(&(at, suspect)) = self.due.first()
            && at <= now
        {
            self.due.remove(&(at, suspect));
            let Some(block) = self.table.get_mut(&suspect) else { continue };
            if !block.active {
                self.age.remove(&(block.number, suspect));
                self.table.remove(&suspect);
                continue;
            }
            block.active = false;
            block.due = now + rules.longest;
            self.active -= 1;
            self.due.insert((block.due, suspect));
            return Some(suspect);
        }
        None
    }

    /// When [`Blocks::expire`] wants to be called.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many are blocked.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Those that are blocked, the latest first, `most` of them.
    pub(crate) fn list(&self, now: Instant, most: usize) -> Vec<BlockState> {
        let all = self.age.iter().rev().filter_map(|(_, suspect)| Some((suspect, self.table.get(suspect)?)));
        let state = |(suspect, block): (&Suspect, &Block)| BlockState {
            suspect: *suspect,
            offence: block.offence,
            seconds: block.due.saturating_duration_since(now).as_secs(),
            times: block.times,
        };
        all.filter(|(_, block)| block.active).take(most).map(state).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len().max(self.due.len()).max(self.age.len())
    }
}
