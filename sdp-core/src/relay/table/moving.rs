//! Streams that go from one table of a relay to another, with their ports and all that was learned from packets: so each
//! thread has a table for itself, and a packet meets nobody else's.

use std::time::Instant;

use super::{Action, Bound, Entry, Slot, Table, Usage};
use crate::relay::command::{Side, StreamId};
use crate::relay::report::Pair;
use crate::relay::stream::Stream;

/// The number of a move; never used twice by one relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A stream is to go to another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which stream.
    pub stream: StreamId,
    /// To the table of this worker.
    pub to: usize,
    /// By this it is known there.
    pub ticket: Ticket,
}

/// A stream on its way.
#[derive(Debug)]
pub struct Moving {
    stream: Stream,
    /// Outside and inside.
    pairs: [Pair; 2],
    statistics_due: Instant,
}

impl Table {
    /// A stream goes to another table; a join of it ends. Answered by one [`Action::Give`], whatever there is.
    pub fn give(&mut self, order: Move) {
        let Some(order) = self.defer_move(order) else { return };
        let slots = self.depart(order.stream);
        self.actions.push_back(Action::Give { order, slots });
    }

    /// Who waits for a stream is told that it does not come.
    pub(super) fn give_nothing(&mut self, order: Move) {
        self.actions.push_back(Action::Give { order, slots: None });
    }

    fn depart(&mut self, stream: StreamId) -> Option<[Slot; 2]> {
        // One that shares a pair stays with who has it.
        let at = self.by_id.get(&stream).copied().filter(|at| !self.shares(*at))?;
        self.by_id.remove(&stream);
        self.part(at);
        let Entry { stream, outside, inside, statistics_due, .. } = self.streams.get_mut(at)?.take()?;
        let mut vacate = |at: usize| self.slots.get_mut(at).and_then(Option::take).map(|bound| bound.pair);
        let pairs = [vacate(outside)?, vacate(inside)?];
        for pair in &pairs {
            self.pairs.remove(&pair.id);
        }
        if self.binds {
            self.away += pairs.len();
        }
        self.leaving.push_back(Moving { stream, pairs, statistics_due });
        Some([Slot(outside), Slot(inside)])
    }

    /// The stream of the last [`Action::Give`] that had slots.
    pub fn departed(&mut self) -> Option<Moving> {
        self.leaving.pop_front()
    }

    /// A stream has come; its sockets have these slots, outside and inside.
    pub fn handle_arrival(&mut self, moving: Moving) -> [Slot; 2] {
        let Moving { stream, pairs, statistics_due } = moving;
        let at = self.place();
        let sides = [Side::Outside, Side::Inside];
        let mut slots = [0; 2];
        for ((slot, pair), side) in slots.iter_mut().zip(pairs).zip(sides) {
            *slot = self.vacancy();
            self.pairs.insert(pair.id, *slot);
            if let Some(place) = self.slots.get_mut(*slot) {
                *place = Some(Bound { pair, usage: Usage::Stream { at, side, shared: false }, used: false });
            }
        }
        if self.binds {
            self.away = self.away.saturating_sub(pairs.len());
        }
        let [outside, inside] = slots;
        self.by_id.insert(stream.setup().id, at);
        if let Some(place) = self.streams.get_mut(at) {
            *place = Some(Entry { stream, outside, inside, joined: None, statistics_due });
        }
        slots.map(Slot)
    }

    /// Another table has closed a pair that was bound here: its ports rest.
    pub fn handle_closed(&mut self, now: Instant, pair: Pair) {
        self.away = self.away.saturating_sub(1);
        if let Some(state) = self.realm_mut(pair.realm) {
            state.pool.rest(now, pair.rtp.port());
        }
    }
}
