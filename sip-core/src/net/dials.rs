//! Connections that are being made, so many at once to one address.
//!
//! After a restart every phone comes back at once, and each has a connection of its own to the same switch. One that is
//! slow at TLS would let them all wait, and those at the end for longer than anybody's patience: it serves them sooner in turn.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::task::{Id, JoinError, JoinSet};

use super::driver::Connected;
use super::limits::Limits;
use crate::flow::Dial;

/// How many times [`Limits::dial`] a dial may wait for its turn: with the time it takes itself it stays below the 32 s
/// that a request lives (RFC 3261 §17.1, timers B and F).
const TURNS: u32 = 3;

#[derive(Default)]
pub(super) struct Dials {
    tasks: JoinSet<Connected>,
    running: HashMap<Id, Dial>,
    places: HashMap<SocketAddr, Place>,
    waiting: usize,
}

/// One address.
#[derive(Default)]
struct Place {
    under_way: usize,
    /// Since when each waits.
    waiting: VecDeque<(Instant, Dial)>,
}

/// What becomes of a dial that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// [`Dials::start`] it.
    Now,
    /// It waits for its turn.
    Waits,
    /// There are too many.
    Full,
}

impl Dials {
    /// Counts a dial in.
    pub(super) fn admit(&mut self, now: Instant, dial: Dial, limits: &Limits) -> Admission {
        let place = self.places.get(&dial.remote);
        if place.is_some_and(|place| place.under_way >= limits.dials_each) {
            if self.waiting >= limits.dials_waiting {
                return Admission::Full;
            }
            self.waiting += 1;
            self.places.entry(dial.remote).or_default().waiting.push_back((now, dial));
            return Admission::Waits;
        }
        if self.tasks.len() >= limits.dials { Admission::Full } else { Admission::Now }
    }

    /// Makes a connection.
    pub(super) fn start(&mut self, dial: Dial, connecting: impl Future<Output = Connected> + Send + 'static) {
        self.places.entry(dial.remote).or_default().under_way += 1;
        let task = self.tasks.spawn(connecting);
        self.running.insert(task.id(), dial);
    }

    /// The next one that is done; `None` while there is none.
    pub(super) async fn join_next(&mut self) -> Option<Result<(Id, Connected), JoinError>> {
        self.tasks.join_next_with_id().await
    }

    /// Whose end that was. Its place is free for [`Dials::next`].
    pub(super) fn ended(&mut self, id: Id) -> Option<Dial> {
        let dial = self.running.remove(&id)?;
        if let Some(place) = self.places.get_mut(&dial.remote) {
            place.under_way = place.under_way.saturating_sub(1);
        }
        Some(dial)
    }

    /// Who waits for this address and has its turn, and whether it waited for too long.
    pub(super) fn next(&mut self, now: Instant, remote: SocketAddr, limits: &Limits) -> Option<(Dial, bool)> {
        let place = self.places.get_mut(&remote)?;
        if place.under_way >= limits.dials_each {
            return None;
        }
        match place.waiting.pop_front() {
            Some((since, dial)) => {
                self.waiting -= 1;
                let late = now.saturating_duration_since(since) > limits.dial.saturating_mul(TURNS);
                Some((dial, late))
            }
            None => {
                if place.under_way == 0 {
                    self.places.remove(&remote);
                }
                None
            }
        }
    }
}
