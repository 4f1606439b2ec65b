//! What every source did lately: two buckets, and the offences of the few that have any.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Offence, Rate, Rates, Suspect};

/// Sources remembered at most. The one that was silent for longest makes way, near enough.
pub(super) const SOURCES: usize = 100_000;
/// A source that spoke within this time is spared when room is made, if another is found soon.
const RECENT: Duration = Duration::from_secs(60);
/// How many are looked at to make room for one.
const LOOKS: usize = 8;
/// A flood is answered, and counted, once in this time.
const TELLING: Duration = Duration::from_secs(1);
/// Numbers remembered of a digit scan.
const NUMBERS: usize = 64;

/// Whether a message may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// It may.
    Pass,
    /// It is the first one too many: an answer is due.
    Over,
    /// One more too many.
    Drowned,
}

/// All sources.
#[derive(Default)]
pub(crate) struct Sources {
    // Addresses are chosen by attackers: the hasher has a secret key.
    table: HashMap<Key, Source>,
    /// In the order they came, or were spared.
    queue: VecDeque<Key>,
    /// How many have offences.
    offenders: usize,
}

/// Whose buckets they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    Suspect(Suspect),
    /// One of the many phones that an address without certificates may stand for.
    Socket(SocketAddr),
}

struct Source {
    used: Instant,
    messages: Bucket,
    invites: Bucket,
    /// When it was told that it sends too much.
    told: Option<Instant>,
    /// The User-Agent that was looked at last, as a hash: a phone has one and writes it into everything.
    agent: u64,
    offences: Option<Box<Offences>>,
}

/// A token bucket as one instant: when it would be full again (GCRA).
#[derive(Clone, Copy)]
struct Bucket(Instant);

impl Bucket {
    /// Takes one token, if there is one.
    fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let gap = Duration::from_nanos(1_000_000_000 / u64::from(rate.per_second.max(1)));
        let full = self.0.max(now);
        if full - now > gap.saturating_mul(rate.burst.saturating_sub(1)) {
            return false;
        }
        self.0 = full + gap;
        true
    }
}

impl Source {
    fn passes(&mut self, now: Instant, is_invite: bool, rates: &Rates) -> bool {
        self.messages.take(now, rates.messages) && (!is_invite || self.invites.take(now, rates.invites))
    }
}

#[derive(Default)]
struct Offences {
    kinds: Vec<(Offence, VecDeque<Instant>)>,
    /// Whose credentials failed last: a success of the same user takes one failure back.
    user: u64,
    /// Numbers that nobody has.
    numbers: VecDeque<u64>,
}

impl Sources {
    /// A message came. `INVITE`s have a bucket of their own. A `socket` has its own two before those of its address, which
    /// are [`Rates::phones`] times as large.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        suspect: Suspect,
        socket: Option<SocketAddr>,
        is_invite: bool,
        rates: &Rates,
    ) -> Admission {
        let key = socket.map_or(Key::Suspect(suspect), Key::Socket);
        let mut source = self.source(now, key);
        let mut passes = source.passes(now, is_invite, rates);
        if passes && socket.is_some() {
            source = self.source(now, Key::Suspect(suspect));
            passes = source.passes(now, is_invite, &rates.of_address());
        }
        if passes {
            return Admission::Pass;
        }
        if source.told.is_some_and(|at| now.saturating_duration_since(at) < TELLING) {
            return Admission::Drowned;
        }
        source.told = Some(now);
        Admission::Over
    }

    /// Whether this User-Agent was not the last one that was looked at.
    pub(crate) fn is_new_agent(&mut self, now: Instant, suspect: Suspect, agent: u64) -> bool {
        std::mem::replace(&mut self.source(now, Key::Suspect(suspect)).agent, agent) != agent
    }

    /// Whether anybody has offences at all: without, a success need not be looked up.
    pub(crate) fn has_offenders(&self) -> bool {
        self.offenders > 0
    }

    /// Notes an offence; `true` when it makes `patience` of its kind within `window`. Then they are forgotten.
    pub(crate) fn offend(
        &mut self,
        now: Instant,
        suspect: Suspect,
        offence: Offence,
        patience: u32,
        window: Duration,
    ) -> bool {
        if patience <= 1 {
            return true;
        }
        let noted = &mut self.offences(now, suspect).kinds;
        let at = noted.iter().position(|(kind, _)| *kind == offence).unwrap_or_else(|| {
            noted.push((offence, VecDeque::new()));
            noted.len() - 1
        });
        let Some((_, times)) = noted.get_mut(at) else { return false };
        while times.front().is_some_and(|at| now.saturating_duration_since(*at) >= window) {
            times.pop_front();
        }
        times.push_back(now);
        if times.len() < patience as usize {
            return false;
        }
        times.clear();
        true
    }

    /// The credentials of this user failed.
    pub(crate) fn note_user(&mut self, now: Instant, suspect: Suspect, user: u64) {
        self.offences(now, suspect).user = user;
    }

    /// The credentials of this user were accepted: its last failure was a nonce that had grown old, or a slip.
    pub(crate) fn forgive(&mut self, suspect: &Suspect, user: u64) {
        let Some(offences) =
            self.table.get_mut(&Key::Suspect(*suspect)).and_then(|source| source.offences.as_mut())
        else {
            return;
        };
        if offences.user == user
            && let Some((_, times)) =
                offences.kinds.iter_mut().find(|(kind, _)| *kind == Offence::Credentials)
        {
            times.pop_back();
        }
    }

    /// Whether a number that nobody has is one that this source had not tried.
    pub(crate) fn is_new_number(&mut self, now: Instant, suspect: Suspect, number: u64) -> bool {
        let numbers = &mut self.offences(now, suspect).numbers;
        if numbers.contains(&number) {
            return false;
        }
        if numbers.len() >= NUMBERS {
            numbers.pop_front();
        }
        numbers.push_back(number);
        true
    }

    /// Forgets what a source did. Its User-Agent is looked at anew: a scanner that comes back is one still.
    pub(crate) fn forget(&mut self, suspect: &Suspect) {
        if let Some(source) = self.table.get_mut(&Key::Suspect(*suspect)) {
            source.agent = 0;
            if source.offences.take().is_some() {
                self.offenders -= 1;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len().max(self.queue.len())
    }

    fn offences(&mut self, now: Instant, suspect: Suspect) -> &mut Offences {
        let fresh = self.source(now, Key::Suspect(suspect)).offences.is_none();
        self.offenders += usize::from(fresh);
        self.source(now, Key::Suspect(suspect)).offences.get_or_insert_default()
    }

    fn source(&mut self, now: Instant, key: Key) -> &mut Source {
        if self.table.len() >= SOURCES && !self.table.contains_key(&key) {
            self.make_room(now);
        }
        let queue = &mut self.queue;
        let source = self.table.entry(key).or_insert_with(|| {
            queue.push_back(key);
            Source {
                used: now,
                messages: Bucket(now),
                invites: Bucket(now),
                told: None,
                agent: 0,
                offences: None,
            }
        });
        source.used = now;
        source
    }

    /// The first in the queue goes, unless it spoke lately; after a few of those it goes all the same.
    fn make_room(&mut self, now: Instant) {
        for look in 1..=LOOKS {
            let Some(oldest) = self.queue.pop_front() else { return };
            let recent = self
                .table
                .get(&oldest)
                .is_some_and(|source| now.saturating_duration_since(source.used) < RECENT);
            if recent && look < LOOKS {
                self.queue.push_back(oldest);
                continue;
            }
            if self.table.remove(&oldest).is_some_and(|source| source.offences.is_some()) {
                self.offenders -= 1;
            }
            return;
        }
    }
}
