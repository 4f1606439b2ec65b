//! Executing commands.

use std::time::Instant;

use super::{Entry, TICK, Table, Usage};
use crate::relay::command::{Command, Side, StreamId, StreamSetup};
use crate::relay::report::{PairId, Report};
use crate::relay::stream::Stream;

/// Ticks over which the first statistics of streams are spread.
const SPREAD: usize = 5;
/// Octets of a session's record, at most.
const MAX_RECORD: usize = 131_072;

impl Table {
    /// Executes a command.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let Some(command) = self.defer(now, command) else { return };
        match command {
            Command::Lease { realm, pairs } => self.lease(realm, pairs),
            Command::Keep { pairs } => pairs.into_iter().for_each(|pair| self.keep(pair)),
            Command::Return { pairs } => pairs.into_iter().for_each(|pair| self.take_back(pair)),
            // After a take-over either may come for what the other was meant for.
            Command::Open { stream } | Command::Update { stream } => self.set(now, stream),
            Command::Join { a, b } => self.join(a, b),
            Command::Part { stream } => {
                if let Some(at) = self.by_id.get(&stream).copied() {
                    self.part(at);
                }
            }
            Command::Close { stream } => self.close(now, stream),
            Command::End { session } => {
                let streams: Vec<StreamId> =
                    self.by_id.keys().filter(|id| id.session == session).copied().collect();
                streams.into_iter().for_each(|stream| self.close(now, stream));
                self.records.remove(&session);
            }
            Command::Record { session, record } => {
                if record.is_empty() || record.len() > MAX_RECORD {
                    self.records.remove(&session);
                } else {
                    self.records.insert(session, record);
                }
            }
            Command::Snapshot => self.snapshot(),
            Command::Release => self.release(),
            Command::Restore { stream, pairs } => self.restore(now, stream, pairs),
        }
    }

    pub(super) fn set(&mut self, now: Instant, setup: StreamSetup) {
        let id = setup.id;
        let at = self.by_id.get(&id).copied();
        let usable = |pair: PairId, side: Side| self.usable(pair, side, at, id.session);
        let (Some(outside), Some(inside)) =
            (usable(setup.outside.pair, Side::Outside), usable(setup.inside.pair, Side::Inside))
        else {
            self.reports.push_back(Report::Refused { stream: id });
            return;
        };
        // A stream that shares a pair has another of its own.
        let own = |slot: usize| !self.is_others(slot, at);
        if !own(outside) && !own(inside) {
            self.reports.push_back(Report::Refused { stream: id });
            return;
        }
        let entry = match at {
            Some(at) => match self.streams.get_mut(at).and_then(Option::as_mut) {
                Some(entry) => {
                    let used = entry.stream.was_used();
                    entry.stream.update(now, setup);
                    let old = [(entry.outside, outside), (entry.inside, inside)];
                    (entry.outside, entry.inside) = (outside, inside);
                    for (slot, _) in old.into_iter().filter(|(old, new)| old != new) {
                        if self.vacate_shared(slot, at, used) {
                            self.unbind(now, slot);
                        }
                    }
                    at
                }
                None => return,
            },
            None => {
                let at = self.place();
                // Not all at once, when all have begun at once: packets would wait for a thousand reports.
                let statistics_due = now + self.config.statistics_interval + TICK * (at % SPREAD) as u32;
                let entry =
                    Entry { stream: Stream::new(now, setup), outside, inside, joined: None, statistics_due };
                if let Some(place) = self.streams.get_mut(at) {
                    *place = Some(entry);
                }
                self.by_id.insert(id, at);
                at
            }
        };
        for (slot, side) in [(outside, Side::Outside), (inside, Side::Inside)] {
            self.occupy(slot, entry, side);
        }
    }

    /// A place for a stream. They end and begin all day: places are used again.
    pub(super) fn place(&mut self) -> usize {
        let at = self.streams.iter().position(Option::is_none).unwrap_or(self.streams.len());
        if at == self.streams.len() {
            self.streams.push(None);
        }
        at
    }

    /// The slot of a pair that a stream may use on a side: leased, its own already, or that of another one of its session.
    fn usable(&self, pair: PairId, side: Side, stream: Option<usize>, session: u64) -> Option<usize> {
        let at = self.pairs.get(&pair).copied()?;
        let bound = self.slots.get(at)?.as_ref()?;
        let fits = match bound.usage {
            Usage::Leased { .. } | Usage::Kept => true,
            Usage::Stream { at: owner, side: used, .. } => {
                let own = Some(owner) == stream || stream.is_some_and(|stream| self.shares_slot(at, stream));
                used == side && (own || (stream.is_none() && self.may_share(at, session)))
            }
            Usage::Free => false,
        };
        (fits && bound.pair.realm.side == side).then_some(at)
    }

    fn join(&mut self, a: StreamId, b: StreamId) {
        let (Some(a), Some(b)) = (self.by_id.get(&a).copied(), self.by_id.get(&b).copied()) else { return };
        if a == b {
            return;
        }
        self.part(a);
        self.part(b);
        for (one, other) in [(a, b), (b, a)] {
            if let Some(entry) = self.streams.get_mut(one).and_then(Option::as_mut) {
                entry.joined = Some(other);
            }
        }
    }

    pub(super) fn part(&mut self, at: usize) {
        let Some(other) =
            self.streams.get_mut(at).and_then(Option::as_mut).and_then(|entry| entry.joined.take())
        else {
            return;
        };
        if let Some(entry) = self.streams.get_mut(other).and_then(Option::as_mut) {
            entry.joined = None;
        }
    }

    pub(super) fn close(&mut self, now: Instant, stream: StreamId) {
        let Some(at) = self.by_id.remove(&stream) else { return };
        self.part(at);
        let Some(entry) = self.streams.get_mut(at).and_then(Option::take) else { return };
        self.reports.push_back(entry.statistics(true));
        let used = entry.stream.was_used();
        for slot in [entry.outside, entry.inside] {
            if !self.vacate_shared(slot, at, used) {
                continue;
            }
            if used || self.was_used(slot) { self.unbind(now, slot) } else { self.free(slot) }
        }
    }
}
