//! What a signalling process that comes anew asks: what is there, that leases of its predecessor end, and streams that an
//! earlier relay had, on the ports they had.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Action, Move, Table, Usage, Want};
use crate::relay::command::{Command, Kept, StreamId, StreamSetup};
use crate::relay::report::{Pair, PairId, Report};

/// Sessions in one part of a snapshot.
const SESSIONS: usize = 64;
/// Streams in one part, unless one session has more: what phones describe of them makes each 2,000 octets long at most, and
/// a part has to fit into a frame.
const STREAMS: usize = 384;
/// Octets of records in one part, unless one session has more.
const RECORDS: usize = 262_144;

/// A stream that waits for its pairs.
#[derive(Debug)]
pub(super) struct Exact {
    stream: StreamSetup,
    /// Not bound yet; the one under way is the last.
    missing: Vec<Pair>,
    /// Bound for it.
    bound: Vec<usize>,
    /// What it is told once it runs.
    then: Vec<Command>,
    /// Then it goes to another table, which waits for it, or for word that it will not come.
    leave: Option<Move>,
}

/// A part of a snapshot.
#[derive(Default)]
struct Part {
    streams: Vec<StreamSetup>,
    pairs: Vec<Pair>,
    records: Vec<(u64, Kept)>,
}

impl Table {
    /// Reports all sessions, in parts.
    pub(super) fn snapshot(&mut self) {
        let mut sessions: BTreeMap<u64, Part> = BTreeMap::new();
        for entry in self.streams.iter().flatten() {
            let setup = entry.stream.setup();
            let part = sessions.entry(setup.id.session).or_default();
            part.streams.push(setup.clone());
            let pair = |at: usize| self.slots.get(at).and_then(Option::as_ref).map(|bound| bound.pair);
            for pair in [entry.outside, entry.inside].into_iter().filter_map(pair) {
                // One that is shared is told once.
                if !part.pairs.contains(&pair) {
                    part.pairs.push(pair);
                }
            }
        }
        for (session, record) in &self.records {
            sessions.entry(*session).or_default().records.push((*session, record.clone()));
        }
        let (mut whole, mut count, mut octets) = (Part::default(), 0, 0);
        let mut parts = Vec::new();
        for part in sessions.into_values() {
            let more: usize = part.records.iter().map(|(_, record)| record.len()).sum();
            let streams = whole.streams.len() + part.streams.len();
            if count > 0 && (count >= SESSIONS || streams > STREAMS || octets + more > RECORDS) {
                parts.push(std::mem::take(&mut whole));
                (count, octets) = (0, 0);
            }
            (count, octets) = (count + 1, octets + more);
            whole.streams.extend(part.streams);
            whole.pairs.extend(part.pairs);
            whole.records.extend(part.records);
        }
        parts.push(whole);
        let last = parts.len() - 1;
        for (at, Part { streams, pairs, records }) in parts.into_iter().enumerate() {
            self.reports.push_back(Report::Snapshot { streams, pairs, records, more: at < last });
        }
    }

    /// Leases that no stream uses end.
    pub(super) fn release(&mut self) {
        // Those of streams that wait are kept, and so taken back.
        let waited = self.wants.iter().filter_map(|want| want.exact.as_ref()?.leave);
        let waited: Vec<Move> = waited.collect();
        waited.into_iter().for_each(|order| self.give_nothing(order));
        self.wants.retain(|want| want.lease.is_none() && want.exact.is_none());
        let held = self.slots.iter().flatten();
        let held = held.filter(|bound| matches!(bound.usage, Usage::Leased { .. } | Usage::Kept));
        let held: Vec<_> = held.map(|bound| bound.pair.id).collect();
        held.into_iter().for_each(|pair| self.take_back(pair));
    }

    /// Starts a stream on these pairs, which are bound first where they are not. Ahead of the pool and of leases: somebody
    /// is speaking.
    pub(super) fn restore(&mut self, now: Instant, stream: StreamSetup, mut pairs: Vec<Pair>) {
        // Those that are bound and free are somebody else's to lease until they are kept for it. What another stream of the
        // session has, or will have before this one's turn comes, is shared.
        pairs.retain(|pair| self.usage(pair.id).is_none_or(|usage| usage == Usage::Free));
        if pairs.is_empty() {
            return self.handle_command(now, Command::Open { stream });
        }
        let at = self.wants.iter().take_while(|want| want.exact.is_some()).count();
        let Some(realm) = pairs.first().map(|pair| pair.realm) else { return };
        let exact = Some(Box::new(Exact {
            stream,
            missing: pairs,
            bound: Vec::new(),
            then: Vec::new(),
            leave: None,
        }));
        self.wants.insert(at, Want { realm, free: 0, lease: None, busy: 0, exact });
    }

    /// Keeps back what concerns a stream that waits for its pairs. `Some`: to be executed now.
    pub(super) fn defer(&mut self, now: Instant, command: Command) -> Option<Command> {
        if !self.restores() {
            return Some(command);
        }
        match command {
            Command::Open { stream } | Command::Update { stream } => match self.waiting(stream.id) {
                Some(waiting) => {
                    waiting.stream = stream;
                    None
                }
                None => Some(Command::Update { stream }),
            },
            Command::Part { stream } => {
                // As if the join had been executed by now.
                self.forget_joins(stream);
                Some(Command::Part { stream })
            }
            Command::Join { a, b } => {
                self.forget_joins(a);
                self.forget_joins(b);
                // Not while either waits; the other may wait as well, and then its turn comes again.
                let waits = if self.waiting(a).is_some() { a } else { b };
                let Some(waiting) = self.waiting(waits) else { return Some(Command::Join { a, b }) };
                waiting.then.push(Command::Join { a, b });
                None
            }
            Command::Close { stream } => {
                self.forget_exact(now, |id| id == stream);
                Some(Command::Close { stream })
            }
            Command::End { session } => {
                self.forget_exact(now, |id| id.session == session);
                Some(Command::End { session })
            }
            command => Some(command),
        }
    }

    /// Joins of this stream that wait are over: something later is said of it.
    fn forget_joins(&mut self, stream: StreamId) {
        for exact in self.wants.iter_mut().filter_map(|want| want.exact.as_deref_mut()) {
            exact.then.retain(|said| !matches!(said, Command::Join { a, b } if *a == stream || *b == stream));
        }
    }

    /// Whether any stream waits for its pairs: they are first of all.
    fn restores(&self) -> bool {
        self.wants.front().is_some_and(|want| want.exact.is_some())
    }

    /// A stream that waits for its pairs is to leave: once it runs.
    pub(super) fn defer_move(&mut self, order: Move) -> Option<Move> {
        if !self.restores() {
            return Some(order);
        }
        let Some(waiting) = self.waiting(order.stream) else { return Some(order) };
        let before = waiting.leave.replace(order);
        before.into_iter().for_each(|before| self.give_nothing(before));
        None
    }

    fn usage(&self, pair: PairId) -> Option<Usage> {
        let at = self.pairs.get(&pair)?;
        self.slots.get(*at)?.as_ref().map(|bound| bound.usage)
    }

    fn waiting(&mut self, stream: StreamId) -> Option<&mut Exact> {
        let waiting = self.wants.iter_mut().filter_map(|want| want.exact.as_deref_mut());
        waiting.into_iter().find(|exact| exact.stream.id == stream)
    }

    /// Streams that wait and shall not come.
    fn forget_exact(&mut self, now: Instant, which: impl Fn(StreamId) -> bool) {
        let (mut bound, mut waited) = (Vec::new(), Vec::new());
        self.wants.retain_mut(|want| match want.exact.as_mut().filter(|exact| which(exact.stream.id)) {
            Some(exact) => {
                bound.append(&mut exact.bound);
                waited.extend(exact.leave);
                false
            }
            None => true,
        });
        bound.into_iter().for_each(|at| self.unbind(now, at));
        waited.into_iter().for_each(|order| self.give_nothing(order));
    }

    /// One step towards the stream that waits first.
    pub(super) fn work_exact(&mut self, now: Instant) -> Option<Action> {
        let exact = self.wants.front_mut()?.exact.as_mut()?;
        let Some(pair) = exact.missing.last().copied() else {
            let exact = self.wants.pop_front()?.exact?;
            self.set(now, exact.stream);
            // Signalling may have given it other pairs meanwhile.
            for at in exact.bound {
                let kept = |bound: &super::Bound| bound.usage == Usage::Kept;
                if self.slots.get(at).and_then(Option::as_ref).is_some_and(kept) {
                    self.unbind(now, at);
                }
            }
            exact.then.into_iter().for_each(|command| self.handle_command(now, command));
            exact.leave.into_iter().for_each(|order| self.give(order));
            return None;
        };
        if matches!(self.usage(pair.id), Some(Usage::Stream { .. })) {
            // Another stream of its session was first, and shares it.
            if let Some(exact) = self.wants.front_mut().and_then(|want| want.exact.as_mut()) {
                exact.missing.pop();
            }
            return None;
        }
        if self.rename(pair) {
            return None;
        }
        let local = |realm: &super::RealmState| {
            realm.local == pair.rtp.ip()
                && realm.local == pair.rtcp.ip()
                && pair.rtp.port().checked_add(1) == Some(pair.rtcp.port())
        };
        let full = self.pairs.len() + self.away >= self.config.capacity;
        let claimed = self
            .realm_mut(pair.realm)
            .is_some_and(|realm| local(realm) && !full && realm.pool.claim(pair.rtp.port()));
        if !claimed {
            self.give_up_exact(now);
            return None;
        }
        self.binding = Some((pair.realm, pair));
        Some(Action::Bind { rtp: pair.rtp, rtcp: pair.rtcp })
    }

    /// The port may be bound ahead already, under a number of ours.
    fn rename(&mut self, pair: Pair) -> bool {
        let Some(realm) = self.realms.iter().find(|(name, _)| *name == pair.realm).map(|(_, realm)| realm)
        else {
            return false;
        };
        let same = |at: &&usize| {
            self.slots.get(**at).and_then(Option::as_ref).is_some_and(|bound| bound.pair.rtp == pair.rtp)
        };
        let Some(at) = realm.free.iter().find(same).copied() else { return false };
        if let Some(realm) = self.realm_mut(pair.realm) {
            realm.free.retain(|free| *free != at);
        }
        if let Some(bound) = self.slots.get_mut(at).and_then(Option::as_mut) {
            self.pairs.remove(&bound.pair.id);
            bound.pair.id = pair.id;
            self.pairs.insert(pair.id, at);
        }
        self.keep_exact(at);
        true
    }

    /// The pair that the stream which waits first asked for last is bound.
    pub(super) fn keep_exact(&mut self, at: usize) {
        if let Some(bound) = self.slots.get_mut(at).and_then(Option::as_mut) {
            bound.usage = Usage::Kept;
        }
        if let Some(exact) = self.wants.front_mut().and_then(|want| want.exact.as_mut()) {
            exact.missing.pop();
            exact.bound.push(at);
        }
    }

    /// The stream that waits first can't have its pairs.
    pub(super) fn give_up_exact(&mut self, now: Instant) {
        let Some(exact) = self.wants.pop_front().and_then(|want| want.exact) else { return };
        exact.bound.into_iter().for_each(|at| self.unbind(now, at));
        exact.leave.into_iter().for_each(|order| self.give_nothing(order));
        self.reports.push_back(Report::Refused { stream: exact.stream.id });
    }
}
