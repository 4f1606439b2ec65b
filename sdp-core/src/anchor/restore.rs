//! Sessions outlive a signalling process, and the relay (decision 13).
//!
//! With [`Config::keep_state`](super::Config::keep_state) the relay keeps what is known of each session, written down after each offer and
//! answer, together with the dialog record of signalling. A new process hands the relay's snapshot to [`Anchor::take_over`]
//! and has every session as it was. When it is the relay that is gone, [`Anchor::lost`] and [`Anchor::rejoin`] start the
//! streams again at another one, on the ports they had.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

use super::Anchor;
use super::session::{Session, Stream};
use crate::relay::{Command, Kept, Pair, PairId, Report, Side, StreamId, StreamSetup, wire};

/// What a relay says of all its sessions: its [`Report::Snapshot`], put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    streams: BTreeMap<StreamId, StreamSetup>,
    pairs: BTreeMap<PairId, Pair>,
    pub(super) records: BTreeMap<u64, Kept>,
}

impl Left {
    /// Adds a part. `true`: it was the last one. Other reports change nothing.
    pub fn add(&mut self, report: Report) -> bool {
        let Report::Snapshot { streams, pairs, records, more } = report else { return false };
        self.streams.extend(streams.into_iter().map(|stream| (stream.id, stream)));
        self.pairs.extend(pairs.into_iter().map(|pair| (pair.id, pair)));
        self.records.extend(records);
        !more
    }

    /// The sessions that have streams or a record.
    pub fn sessions(&self) -> impl Iterator<Item = u64> + use<> {
        let all: BTreeSet<u64> =
            self.streams.keys().map(|id| id.session).chain(self.records.keys().copied()).collect();
        all.into_iter()
    }

    pub(super) fn streams_of(&self, session: u64) -> impl Iterator<Item = &StreamSetup> {
        let first = StreamId { session, index: 0 };
        let last = StreamId { session, index: u32::MAX };
        self.streams.range(first..=last).map(|(_, setup)| setup)
    }

    fn pairs_of(&self, setup: &StreamSetup) -> Option<(Pair, Pair)> {
        Some((*self.pairs.get(&setup.outside.pair)?, *self.pairs.get(&setup.inside.pair)?))
    }
}

impl Anchor {
    /// Takes the sessions that an earlier process left at the relay. Each comes with the dialog record that was kept with it;
    /// one that nobody wants is to be given to [`Anchor::end`].
    pub fn take_over(&mut self, now: Instant, left: &Left) -> Vec<(u64, Vec<u8>)> {
        let mut records = Vec::new();
        for id in left.sessions().filter(|id| !self.sessions.contains_key(id)).collect::<Vec<_>>() {
            let kept: Option<Session> = left.records.get(&id).and_then(|record| wire::read_back(record));
            let session = self.reconcile(id, kept, left);
            records.push((id, session.record.clone()));
            self.own_ports(id, &session);
            self.sessions.insert(id, session);
        }
        for (id, _) in &records {
            self.join_again(*id);
        }
        self.ports.commands(now, &mut self.commands);
        records
    }

    /// The relay is gone, or out of reach: its leases are worth nothing, and offers that need new ports are refused.
    pub fn lost(&mut self, now: Instant) {
        self.ports.forget(now);
        self.commands.clear();
    }

    /// There is a relay again, which says what it has; none of our leases. It gets every session as it is known here, on the
    /// ports it had, and gives up those that have ended meanwhile. Returns how many streams had to be started anew.
    pub fn rejoin(&mut self, now: Instant, left: &Left) -> usize {
        self.lost(now);
        let ended: Vec<u64> = left.sessions().filter(|id| !self.sessions.contains_key(id)).collect();
        self.commands.extend(ended.into_iter().map(|session| Command::End { session }));
        let mut restored = 0;
        let waiting = self.sessions.values().flat_map(|session| &session.offer);
        let waiting: Vec<Pair> =
            waiting.flat_map(|offer| &offer.replacements).map(|(_, _, pair)| *pair).collect();
        waiting.iter().for_each(|pair| self.forget_port(pair));
        for (id, session) in &mut self.sessions {
            drop_replacements(session);
            let known: HashSet<u32> = session.streams.iter().map(|stream| stream.index).collect();
            let gone =
                left.streams_of(*id).map(|setup| setup.id).filter(|stream| !known.contains(&stream.index));
            self.commands.extend(gone.map(|stream| Command::Close { stream }));
            for stream in &mut session.streams {
                let there = left.streams.get(&stream.setup.id);
                if there.is_some_and(|there| fits(there, stream)) {
                    self.commands.push_back(Command::Update { stream: stream.setup.clone() });
                    continue;
                }
                Session::resume_keys(now, stream);
                let setup = stream.setup.clone();
                // One on other pairs makes way first.
                self.commands.extend(there.map(|there| Command::Close { stream: there.id }));
                let pairs = vec![stream.outside, stream.inside];
                self.commands.push_back(Command::Restore { stream: setup, pairs });
                restored += 1;
            }
        }
        let sessions: Vec<u64> = self.sessions.keys().copied().collect();
        for id in sessions {
            self.join_again(id);
            self.keep(id);
        }
        self.ports.commands(now, &mut self.commands);
        restored
    }

    /// Has the relay keep what is known of a session, where somebody may take over.
    pub(super) fn keep(&mut self, id: u64) {
        if !self.config.keep_state {
            return;
        }
        let Some(record) = self.sessions.get(&id).and_then(wire::write_down) else { return };
        self.commands.push_back(Command::Record { session: id, record: record.into() });
    }

    /// What was kept of a session, and what the relay has of it: the relay's streams count. Without a record that can be read
    /// the streams stand for the lines in their order, and the next offer puts right what that guess missed.
    fn reconcile(&mut self, id: u64, kept: Option<Session>, left: &Left) -> Session {
        let readable = kept.is_some();
        let mut session = kept.unwrap_or_default();
        let mut known: BTreeMap<u32, Stream> =
            session.streams.drain(..).map(|stream| (stream.index, stream)).collect();
        for setup in left.streams_of(id) {
            let index = setup.id.index;
            let Some((outside, inside)) = left.pairs_of(setup) else { continue };
            match known.remove(&index) {
                Some(stream) => {
                    let setup = setup.clone();
                    session.streams.push(Stream {
                        outside,
                        inside,
                        setup,
                        statistics: None,
                        reached: None,
                        ..stream
                    });
                }
                // Opened after the session was written down last.
                None if readable => self.commands.push_back(Command::Close { stream: setup.id }),
                None => session.streams.push(guessed(setup, outside, inside)),
            }
        }
        if !readable {
            session.agreed = session.streams.iter().map(|stream| Some(stream.index)).collect();
        }
        // Pairs that waited for an answer were a lease of the process before.
        drop_replacements(&mut session);
        forget_missing(&mut session);
        let next = session.streams.iter().map(|stream| stream.index.wrapping_add(1)).max().unwrap_or(0);
        session.next_index = session.next_index.max(next);
        let generations =
            session.streams.iter().flat_map(|stream| [&stream.setup.outside, &stream.setup.inside]);
        session.generation = generations.map(|leg| leg.generation).max().unwrap_or(0).max(session.generation);
        session
    }

    /// Descriptions of other sessions may name these ports.
    fn own_ports(&mut self, id: u64, session: &Session) {
        for stream in &session.streams {
            if let Some(address) = self.advertised(&stream.inside) {
                self.own.insert(address, StreamId { session: id, index: stream.index });
            }
        }
    }

    /// Tells the relay which streams of a session are joined, whatever it was told before.
    fn join_again(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.streams.iter_mut().for_each(|stream| stream.joined = None);
        self.settle_joins(id);
        let alone = self.sessions.get(&id).into_iter().flat_map(|session| &session.streams);
        let alone = alone.filter(|stream| stream.joined.is_none());
        self.commands.extend(alone.map(|stream| Command::Part { stream: stream.setup.id }));
    }
}

/// Whether the relay has the stream on the pairs that we know.
fn fits(there: &StreamSetup, stream: &Stream) -> bool {
    [Side::Outside, Side::Inside].into_iter().all(|side| there.leg(side).pair == stream.pair(side).id)
}

fn drop_replacements(session: &mut Session) {
    if session.offer.as_ref().is_some_and(|offer| !offer.replacements.is_empty()) {
        session.offer = None;
    }
}

/// No line has a stream that is not there.
fn forget_missing(session: &mut Session) {
    let there: HashSet<u32> = session.streams.iter().map(|stream| stream.index).collect();
    let lines =
        session.offer.iter_mut().flat_map(|offer| offer.lines.iter_mut().map(|line| &mut line.stream));
    for stream in session.agreed.iter_mut().chain(lines) {
        stream.take_if(|index| !there.contains(index));
    }
    // A fork that has lost one of its streams answers on those of who answered last.
    for fork in session.offer.iter_mut().flat_map(|offer| &mut offer.forks) {
        if !fork.streams.iter().flatten().all(|index| there.contains(index)) {
            fork.streams.clear();
        }
    }
}

/// A stream of which only the relay's side is known.
fn guessed(setup: &StreamSetup, outside: Pair, inside: Pair) -> Stream {
    let agreed = setup.outside.live && setup.inside.live;
    Stream { agreed, ..Stream::new(outside, inside, setup.clone()) }
}
