//! The lease: pairs that the relay has bound and that are ours to promise, so that rewriting never waits (decision 13).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::relay::{Command, Pair, PairId, Realm};

/// Free pairs wanted in each realm at first.
const LEVEL: u16 = 64;
/// Free pairs wanted at most, after the level was found too low.
const MAX_LEVEL: u16 = 1_024;
/// Between two raises: one burst is one raise, however many it refuses.
const RAISE: Duration = Duration::from_secs(1);
/// Wait after the relay had too few.
const RETRY: Duration = Duration::from_secs(5);

/// Free pairs from which on a shortage is over: one call that ends is no end of it.
const ENOUGH: usize = 8;

/// The pairs of all realms.
#[derive(Debug)]
pub(super) struct Ports {
    shelves: Vec<Shelf>,
    lifetime: Duration,
}

/// A pair that may be promised until then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leased {
    pub(super) pair: Pair,
    until: Instant,
}

#[derive(Debug)]
struct Shelf {
    realm: Realm,
    free: VecDeque<Leased>,
    asked: u16,
    level: u16,
    ask_after: Instant,
    raise_after: Instant,
    /// It had nothing to give, and nothing to expect.
    dry: bool,
    /// Whether that was told.
    told_dry: bool,
}

impl Ports {
    pub(super) fn new(now: Instant, realms: impl IntoIterator<Item = Realm>, lifetime: Duration) -> Self {
        let shelf = |realm| Shelf {
            realm,
            free: VecDeque::new(),
            asked: 0,
            level: LEVEL,
            ask_after: now,
            raise_after: now,
            dry: false,
            told_dry: false,
        };
        Self { shelves: realms.into_iter().map(shelf).collect(), lifetime }
    }

    /// Whether every realm has a pair to give.
    pub(super) fn is_ready(&self) -> bool {
        self.shelves.iter().all(|shelf| !shelf.free.is_empty())
    }

    /// Whether a realm has nothing to give and is promised nothing.
    pub(super) fn is_barren(&self, realm: Realm) -> bool {
        self.shelves.iter().any(|shelf| shelf.realm == realm && shelf.free.is_empty() && shelf.asked == 0)
    }

    /// A pair for a stream; `None`: the lease is used up, and a larger one will be asked for.
    pub(super) fn take(&mut self, now: Instant, realm: Realm) -> Option<Leased> {
        let shelf = self.shelf(realm)?;
        while let Some(leased) = shelf.free.pop_front() {
            if leased.until > now {
                return Some(leased);
            }
        }
        // The relay had no more when it was asked last.
        shelf.dry |= shelf.ask_after > now;
        // A burst: a stream needs a pair on both sides, so what else is nearly drained is raised as well.
        for shelf in &mut self.shelves {
            if shelf.free.len() < usize::from(shelf.level / 4) && now >= shelf.raise_after {
                shelf.raise_after = now + RAISE;
                shelf.level = shelf.level.saturating_mul(2).min(MAX_LEVEL);
            }
        }
        None
    }

    /// A pair that was promised to nobody after all.
    pub(super) fn put_back(&mut self, leased: Leased) {
        if let Some(shelf) = self.shelf(leased.pair.realm) {
            shelf.free.push_front(leased);
        }
    }

    pub(super) fn handle_leased(&mut self, now: Instant, realm: Realm, pairs: Vec<Pair>, lifetime: Duration) {
        // The relay counts from before its report left, we from after it came: keep well on this side.
        let until = now + self.lifetime.min(lifetime / 5 * 4);
        if let Some(shelf) = self.shelf(realm) {
            let count = u16::try_from(pairs.len()).unwrap_or(u16::MAX);
            shelf.asked = shelf.asked.saturating_sub(count);
            shelf.free.extend(pairs.into_iter().map(|pair| Leased { pair, until }));
        }
    }

    pub(super) fn handle_exhausted(&mut self, now: Instant, realm: Realm, missing: u16) {
        if let Some(shelf) = self.shelf(realm) {
            shelf.asked = shelf.asked.saturating_sub(missing);
            shelf.ask_after = now + RETRY;
            shelf.dry |= shelf.free.is_empty() && shelf.asked == 0;
        }
    }

    /// A realm that has run dry, or is so no more, since this was asked last.
    pub(super) fn poll_shortage(&mut self) -> Option<(Realm, bool)> {
        self.shelves.iter_mut().find_map(|shelf| {
            shelf.dry &= shelf.free.len() < ENOUGH;
            (shelf.dry != shelf.told_dry).then(|| {
                shelf.told_dry = shelf.dry;
                (shelf.realm, shelf.dry)
            })
        })
    }

    pub(super) fn handle_expired(&mut self, pairs: &[PairId]) {
        for shelf in &mut self.shelves {
            shelf.free.retain(|leased| !pairs.contains(&leased.pair.id));
        }
    }

    /// What to tell the relay now: old pairs back, new ones asked for.
    pub(super) fn commands(&mut self, now: Instant, commands: &mut VecDeque<Command>) {
        for shelf in &mut self.shelves {
            let over = shelf.free.iter().filter(|leased| leased.until <= now);
            let old: Vec<PairId> = over.map(|leased| leased.pair.id).collect();
            if !old.is_empty() {
                shelf.free.retain(|leased| leased.until > now);
                // So many were not needed for as long as a lease lasts.
                shelf.level = (shelf.level / 2).max(LEVEL);
                commands.push_back(Command::Return { pairs: old });
            }
            let held = u16::try_from(shelf.free.len()).unwrap_or(u16::MAX).saturating_add(shelf.asked);
            if held <= shelf.level / 4 * 3 && now >= shelf.ask_after {
                let pairs = shelf.level - held;
                shelf.asked = shelf.asked.saturating_add(pairs);
                commands.push_back(Command::Lease { realm: shelf.realm, pairs });
            }
        }
    }

    /// The relay is another one: it has leased nothing, and owes nothing.
    pub(super) fn forget(&mut self, now: Instant) {
        for shelf in &mut self.shelves {
            shelf.free.clear();
            (shelf.asked, shelf.ask_after) = (0, now);
        }
    }

    /// When [`Ports::commands`] will have something to say by time alone.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let old = self.shelves.iter().flat_map(|shelf| shelf.free.iter().map(|leased| leased.until));
        let retry = self.shelves.iter().map(|shelf| shelf.ask_after).filter(|at| *at > now);
        old.chain(retry).min()
    }

    fn shelf(&mut self, realm: Realm) -> Option<&mut Shelf> {
        self.shelves.iter_mut().find(|shelf| shelf.realm == realm)
    }
}
