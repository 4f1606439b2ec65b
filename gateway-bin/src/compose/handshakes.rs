//! Whoever connects is a stranger until the handshake is done: how many there may be, of one source and in all, and
//! whose turn it is. One source that stalls can neither keep others waiting nor take the descriptors of the process
//! (S16).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes that run at once: enough to keep every core busy.
const RUNNING: usize = 256;
/// Of one source, so that others always find room.
const RUNNING_OF_SOURCE: usize = 64;
/// Connections that run or wait, in all and of one source: a thousand phones behind one address come back at once.
const STRANGERS: (usize, usize) = (8192, 2048);

/// The handshakes of all TLS listeners. Clones are one.
#[derive(Clone)]
pub(crate) struct Handshakes {
    strangers: Strangers,
    running: Arc<Semaphore>,
}

/// A stranger that was let in; its place is free again when this is dropped.
pub(crate) struct Guest {
    place: Place,
    running: Arc<Semaphore>,
}

/// A handshake may run as long as this lives.
pub(crate) struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
    _place: Place,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { strangers: Strangers::new(STRANGERS), running: Arc::new(Semaphore::new(RUNNING)) }
    }
}

impl Handshakes {
    /// `None`: too many have not shown who they are; the connection is to be dropped.
    pub(crate) fn enter(&self, source: IpAddr) -> Option<Guest> {
        Some(Guest { place: self.strangers.enter(source)?, running: self.running.clone() })
    }
}

impl Guest {
    /// Waits until the handshake may run. First among its own: who waits behind its neighbours holds up nobody else.
    pub(crate) async fn turn(self) -> Turn {
        // Neither semaphore is ever closed.
        let own = self.place.turns.clone().acquire_owned().await.ok();
        let all = self.running.acquire_owned().await.ok();
        Turn { _own: own, _all: all, _place: self.place }
    }
}

/// Connections of unknown peers, counted. Clones are one.
#[derive(Clone)]
pub(crate) struct Strangers(Arc<Counted>);

struct Counted {
    in_all: usize,
    of_source: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    total: usize,
    sources: HashMap<IpAddr, Source>,
}

struct Source {
    count: usize,
    turns: Arc<Semaphore>,
}

/// One counted connection.
pub(crate) struct Place {
    counted: Arc<Counted>,
    source: IpAddr,
    turns: Arc<Semaphore>,
}

impl Strangers {
    /// At most so many in all, and so many of one source.
    pub(crate) fn new((in_all, of_source): (usize, usize)) -> Self {
        Self(Arc::new(Counted { in_all, of_source, held: Mutex::default() }))
    }

    /// Counts one more; `None` when there are too many.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let source = network(address);
        let mut held = self.0.held();
        if held.total >= self.0.in_all {
            return None;
        }
        let fresh = || Source { count: 0, turns: Arc::new(Semaphore::new(RUNNING_OF_SOURCE)) };
        let entry = held.sources.entry(source).or_insert_with(fresh);
        if entry.count >= self.0.of_source {
            return None;
        }
        entry.count += 1;
        let turns = entry.turns.clone();
        held.total += 1;
        Some(Place { counted: self.0.clone(), source, turns })
    }
}

impl Counted {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.counted.held();
        held.total -= 1;
        // A source without connections is forgotten: the table is bounded by the connections there are.
        match held.sources.get_mut(&self.source) {
            Some(source) if source.count > 1 => source.count -= 1,
            _ => drop(held.sources.remove(&self.source)),
        }
    }
}

/// Who counts as one source: an IPv4 address, or the /64 that an IPv6 host is given whole.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_are_counted_by_source_and_in_all() {
        let strangers = Strangers::new((3, 2));
        let one = strangers.enter(at("192.0.2.1")).unwrap();
        let _two = strangers.enter(at("::ffff:192.0.2.1")).unwrap();
        assert!(strangers.enter(at("192.0.2.1")).is_none(), "two of this source are there");
        let three = strangers.enter(at("2001:db8:0:1::1")).unwrap();
        assert!(strangers.enter(at("192.0.2.3")).is_none(), "three are there");
        drop(one);
        let _four = strangers.enter(at("2001:db8:0:1:ffff::2")).unwrap();
        assert!(strangers.enter(at("192.0.2.9")).is_none());
        drop(three);
        assert!(strangers.enter(at("192.0.2.9")).is_some());
        assert_eq!(strangers.0.held().sources.len(), 2, "who is gone is forgotten");
    }

    #[tokio::test]
    async fn who_stalls_delays_only_its_neighbours() {
        let handshakes = Handshakes::default();
        let mut stalled = Vec::new();
        for _ in 0..RUNNING_OF_SOURCE {
            stalled.push(handshakes.enter(at("192.0.2.1")).unwrap().turn().await);
        }
        let soon = Duration::from_secs(10);
        let neighbour = handshakes.enter(at("192.0.2.1")).unwrap().turn();
        assert!(tokio::time::timeout(Duration::from_millis(1), neighbour).await.is_err());
        let other = handshakes.enter(at("192.0.2.2")).unwrap().turn();
        assert!(tokio::time::timeout(soon, other).await.is_ok());
        stalled.pop();
        let neighbour = handshakes.enter(at("192.0.2.1")).unwrap().turn();
        assert!(tokio::time::timeout(soon, neighbour).await.is_ok());
    }
}
