//! Which worker has which stream, where there are several.
//!
//! The first worker has the ports: it binds and leases them, and each stream is opened there. There it stays while there are few
//! ([`Config::fill`](super::Config)): the fewer threads, the more packets are carried at each wake-up. Else it is moved to the
//! first worker that has few, or to the one that has fewest. What is said of the stream later goes to that worker. Three things
//! bring a stream elsewhere: other ports, which the first worker has to give; a join with a stream of another worker; and
//! another one of its session that is to share a pair with it (forks of one offer), which both then have at the first worker,
//! for as long as they last.

use std::collections::BTreeMap;

use super::crew::Order;
use crate::relay::Command;
use crate::relay::command::{StreamId, StreamSetup};
use crate::relay::report::PairId;
use crate::relay::table::{Move, Ticket};

/// The worker that has the ports.
const FIRST: usize = 0;

#[derive(Debug)]
pub(super) struct Router {
    streams: BTreeMap<StreamId, Home>,
    /// Streams of each worker.
    load: Vec<usize>,
    /// So many are few.
    fill: usize,
    moves: u64,
    orders: Vec<(usize, Order)>,
}

#[derive(Debug)]
struct Home {
    worker: usize,
    pairs: [PairId; 2],
    joined: Option<StreamId>,
    /// It shares a pair, or did: it does not leave the first worker any more.
    stays: bool,
}

impl Router {
    pub(super) fn new(workers: usize, fill: usize) -> Self {
        Self { streams: BTreeMap::new(), load: vec![0; workers], fill, moves: 0, orders: Vec::new() }
    }

    /// Who is to be told what for this, in this order.
    pub(super) fn route(&mut self, command: Command) -> std::vec::Drain<'_, (usize, Order)> {
        match command {
            Command::Open { ref stream } | Command::Update { ref stream } => {
                let (id, pairs) = (stream.id, pairs(stream));
                self.set(id, pairs, false, command);
            }
            Command::Restore { ref stream, .. } => {
                let (id, pairs) = (stream.id, pairs(stream));
                self.set(id, pairs, true, command);
            }
            Command::Join { a, b } => self.join(a, b),
            Command::Part { stream } => {
                self.part(stream);
                self.order(self.home(stream), command);
            }
            Command::Close { stream } => {
                let home = self.home(stream);
                if home != FIRST {
                    // It may still wait for its ports there.
                    self.order(FIRST, Command::Close { stream });
                }
                self.order(home, command);
                self.forget(stream);
            }
            Command::End { session } => self.end(session),
            Command::Snapshot => {
                (0..self.load.len()).for_each(|worker| self.order(worker, Command::Snapshot))
            }
            Command::Lease { .. }
            | Command::Keep { .. }
            | Command::Return { .. }
            | Command::Release
            | Command::Record { .. } => self.order(FIRST, command),
        }
        self.orders.drain(..)
    }

    fn order(&mut self, worker: usize, command: Command) {
        self.orders.push((worker, Order::Command(command)));
    }

    fn home(&self, stream: StreamId) -> usize {
        self.streams.get(&stream).map_or(FIRST, |home| home.worker)
    }

    /// Moves a stream between two workers.
    fn carry(&mut self, stream: StreamId, from: usize, to: usize) {
        if from != to {
            self.moves += 1;
            let ticket = Ticket(self.moves);
            self.orders.push((from, Order::Give(Move { stream, to, ticket })));
            self.orders.push((to, Order::Await(ticket)));
        }
    }

    /// Changes a stream, at its worker; or where the ports are, if it wants others than it had.
    fn set(&mut self, id: StreamId, pairs: [PairId; 2], bind: bool, command: Command) {
        let beside: Vec<StreamId> = match self.streams.get(&id) {
            Some(home) if home.pairs == pairs => Vec::new(),
            _ => self.beside(id, pairs).collect(),
        };
        for other in &beside {
            self.bring_back(*other);
            self.bring_back(id);
        }
        let Some(home) = self.streams.get_mut(&id) else {
            let worker = if beside.is_empty() { self.roomiest() } else { FIRST };
            self.order(FIRST, command);
            self.carry(id, FIRST, worker);
            self.streams.insert(id, Home { worker, pairs, joined: None, stays: !beside.is_empty() });
            self.count(worker, 1);
            return;
        };
        let (worker, joined) = (home.worker, home.joined);
        let elsewhere = std::mem::replace(&mut home.pairs, pairs) != pairs || bind;
        if !elsewhere || worker == FIRST {
            return self.order(worker, command);
        }
        self.carry(id, worker, FIRST);
        self.order(FIRST, command);
        self.carry(id, FIRST, worker);
        if let Some(other) = joined {
            self.order(worker, Command::Join { a: id, b: other });
        }
    }

    fn join(&mut self, a: StreamId, b: StreamId) {
        if !self.streams.contains_key(&a) || !self.streams.contains_key(&b) || a == b {
            return;
        }
        self.part(a);
        self.part(b);
        let (a, b) = if self.stays(b) { (b, a) } else { (a, b) };
        let (here, there) = (self.home(a), self.home(b));
        self.carry(b, there, here);
        self.count(there, -1);
        self.count(here, 1);
        for (one, other) in [(a, b), (b, a)] {
            if let Some(home) = self.streams.get_mut(&one) {
                (home.worker, home.joined) = (here, Some(other));
            }
        }
        self.order(here, Command::Join { a, b });
    }

    /// Streams of its session that have one of these pairs too.
    fn beside(&self, id: StreamId, pairs: [PairId; 2]) -> impl Iterator<Item = StreamId> {
        let all = StreamId { index: 0, ..id }..=StreamId { index: u32::MAX, ..id };
        let shares = move |home: &Home| home.pairs.iter().any(|pair| pairs.contains(pair));
        self.streams
            .range(all)
            .filter(move |(other, home)| **other != id && shares(home))
            .map(|(other, _)| *other)
    }

    fn stays(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|home| home.stays)
    }

    /// A stream goes to the first worker and stays there; the one it is joined with comes along.
    fn bring_back(&mut self, id: StreamId) {
        let Some(home) = self.streams.get_mut(&id) else { return };
        home.stays = true;
        let (worker, joined) = (home.worker, home.joined);
        if worker == FIRST {
            return;
        }
        for stream in std::iter::once(id).chain(joined) {
            self.carry(stream, worker, FIRST);
            self.count(worker, -1);
            self.count(FIRST, 1);
            if let Some(home) = self.streams.get_mut(&stream) {
                home.worker = FIRST;
            }
        }
        if let Some(other) = joined {
            self.order(FIRST, Command::Join { a: id, b: other });
        }
    }

    fn part(&mut self, stream: StreamId) {
        let Some(other) = self.streams.get_mut(&stream).and_then(|home| home.joined.take()) else { return };
        if let Some(home) = self.streams.get_mut(&other) {
            home.joined = None;
        }
    }

    fn end(&mut self, session: u64) {
        let all = StreamId { session, index: 0 }..=StreamId { session, index: u32::MAX };
        let streams: Vec<StreamId> = self.streams.range(all).map(|(id, _)| *id).collect();
        // The first has the session's record.
        let mut workers = vec![FIRST];
        workers.extend(streams.iter().map(|stream| self.home(*stream)));
        workers.sort_unstable();
        workers.dedup();
        workers.into_iter().for_each(|worker| self.order(worker, Command::End { session }));
        streams.into_iter().for_each(|stream| self.forget(stream));
    }

    fn forget(&mut self, stream: StreamId) {
        self.part(stream);
        if let Some(home) = self.streams.remove(&stream) {
            self.count(home.worker, -1);
        }
    }

    /// The first worker with few streams, else the one with fewest. Of equals the last: the first has the ports to care for.
    fn roomiest(&self) -> usize {
        if let Some(worker) = self.load.iter().position(|streams| *streams < self.fill) {
            return worker;
        }
        let all = self.load.iter().enumerate().rev();
        all.min_by_key(|(_, streams)| **streams).map_or(FIRST, |(worker, _)| worker)
    }

    fn count(&mut self, worker: usize, more: isize) {
        if let Some(streams) = self.load.get_mut(worker) {
            *streams = streams.saturating_add_signed(more);
        }
    }
}

fn pairs(stream: &StreamSetup) -> [PairId; 2] {
    [stream.outside.pair, stream.inside.pair]
}

#[cfg(test)]
mod tests;
