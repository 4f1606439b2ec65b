//! The signalling threads, `sip.shards` of them, behind one type: which of them a connection goes to, what all of them are
//! told, and how each hears where the phones of the others are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sip_core::edge::bindings::Change;
use sip_core::edge::event::{Switch, Verdict};
use sip_core::edge::guard::{Offence, Suspect};
use sip_core::edge::{Command, Event};
use sip_core::flow::{ListenerId, Peer, Side};
use sip_core::net::{Datagrams, Handle, Limits, Refused, Stream, WeakHandle};
use sip_core::shard::Shard;
use sip_core::token::address_key;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

/// Reaches every signalling thread. Clones are one.
#[derive(Clone)]
pub(crate) struct Shards {
    handles: Arc<[(Shard, Handle<Command>)]>,
}

impl Shards {
    /// The handles in the order of their shards; at least one.
    pub(crate) fn new(handles: Vec<(Shard, Handle<Command>)>) -> Self {
        Self { handles: handles.into() }
    }

    /// Gives a connection to the thread that it belongs to: that of its certificate, else of its address; one from inside,
    /// which carries requests for all phones, to any, but always the same.
    pub(crate) fn stream(&self, io: impl Stream + 'static, peer: Peer) -> Result<(), Refused> {
        let (shard, alone) = self.handles.first().ok_or(Refused::Gone)?;
        if shard.is_alone() {
            return alone.stream(io, peer);
        }
        let owner = match (peer.side, &peer.identity) {
            (Side::Outside, Some(identity)) => usize::from(shard.owner(&identity.key_hash)),
            (Side::Outside, None) => usize::from(shard.owner(&address_key(peer.remote.ip()))),
            (Side::Inside, _) => {
                let mut hasher = DefaultHasher::new();
                peer.remote.hash(&mut hasher);
                usize::try_from(hasher.finish() % self.handles.len() as u64).unwrap_or(0)
            }
        };
        self.handles.get(owner).ok_or(Refused::Gone)?.1.stream(io, peer)
    }

    /// Which thread receives what comes in at a datagram socket. All send by it.
    fn receiver(&self, id: ListenerId) -> usize {
        usize::try_from(id.0).unwrap_or(0) % self.handles.len().max(1)
    }

    /// Hands over a datagram socket. A thread that has ended needs none.
    pub(crate) async fn socket(&self, socket: UdpSocket, rules: Datagrams) {
        let receiver = self.receiver(rules.listener);
        let Some((_, handle)) = self.handles.get(receiver) else { return };
        let Ok(outlet) = handle.socket(socket, rules).await else { return };
        for (at, (_, handle)) in self.handles.iter().enumerate() {
            if at != receiver {
                let _ = handle.outlet(outlet.clone()).await;
            }
        }
    }

    /// Closes a datagram socket; its address is free then.
    pub(crate) async fn remove_socket(&self, id: ListenerId) {
        let receiver = self.receiver(id);
        // The receiving thread closes it when nobody sends by it any more.
        let others = self.handles.iter().enumerate().filter(|(at, _)| *at != receiver);
        for (_, (_, handle)) in others.chain(self.handles.iter().enumerate().skip(receiver).take(1)) {
            let _ = handle.remove_socket(id).await;
        }
    }

    /// Tells every thread. One that has ended needs nothing.
    pub(crate) async fn command(&self, command: impl Fn() -> Command) {
        for (_, handle) in self.handles.iter() {
            let _ = handle.command(command()).await;
        }
    }

    /// New bounds for what comes from now on, the same for each thread.
    pub(crate) async fn reconfigure(&self, limits: &Limits) {
        for (_, handle) in self.handles.iter() {
            let _ = handle.reconfigure(limits.clone()).await;
        }
    }

    /// Nothing new from now on.
    pub(crate) async fn drain(&self) {
        for (_, handle) in self.handles.iter() {
            let _ = handle.drain().await;
        }
    }

    /// Ends every thread.
    pub(crate) async fn close_all(&self) {
        for (_, handle) in self.handles.iter() {
            let _ = handle.close_all().await;
        }
    }
}

/// Where each thread hears of the phones of the others, of the addresses that they blocked and of what they found out about
/// switches. The newest of each phone waits, so that nobody ever waits for a
/// thread that is busy, and what waits is bounded by the phones.
#[derive(Clone, Default)]
pub(crate) struct Replicas(Arc<[Inbox]>);

#[derive(Default)]
struct Inbox {
    news: Mutex<News>,
    woken: Notify,
}

#[derive(Default)]
struct News {
    phones: HashMap<u64, Newest>,
    /// As many as a thread blocks at most.
    blocks: HashMap<Suspect, Duration>,
    /// As many as there are switches.
    verdicts: HashMap<Switch, Verdict>,
}

/// What one thread has not heard of one phone.
#[derive(Default)]
struct Newest {
    state: Option<Change>,
    place: Option<Change>,
}

impl Newest {
    fn take(&mut self, change: Change) {
        match &change {
            Change::Moved { .. } => self.place = Some(change),
            Change::Put(_) => self.state = Some(change),
            Change::Remove(_) => *self = Self { state: Some(change), place: None },
        }
    }
}

impl Replicas {
    /// For so many threads.
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Inbox::default()).collect())
    }

    /// One thread's phone has changed: all others are to know.
    pub(crate) fn tell(&self, from: Shard, change: &Change) {
        if from.is_alone() {
            return;
        }
        for (at, inbox) in self.0.iter().enumerate() {
            if at != usize::from(from.index()) {
                inbox.put(change.clone());
            }
        }
    }

    /// One thread has blocked somebody, or has an opinion of a switch: all others do the same.
    pub(crate) fn heed(&self, from: Shard, event: &Event) {
        if from.is_alone() {
            return;
        }
        match event {
            // A certificate is one thread's, and what was told is known.
            Event::Blocked { suspect: suspect @ Suspect::Address(_), offence, seconds, .. }
                if *offence != Offence::Told =>
            {
                let length = Duration::from_secs(*seconds);
                self.spread(from, |news| {
                    news.blocks.insert(*suspect, length);
                });
            }
            Event::Judged { switch, verdict } => {
                self.spread(from, |news| {
                    news.verdicts.insert(*switch, *verdict);
                });
            }
            _ => {}
        }
    }

    fn spread(&self, from: Shard, put: impl Fn(&mut News)) {
        for (_, inbox) in self.0.iter().enumerate().filter(|(at, _)| *at != usize::from(from.index())) {
            put(&mut inbox.lock());
            inbox.woken.notify_one();
        }
    }

    /// Feeds one thread, on its own runtime, for as long as it has a handle.
    pub(crate) async fn feed(self, shard: Shard, thread: WeakHandle<Command>) {
        let Some(inbox) = self.0.get(usize::from(shard.index())) else { return };
        loop {
            inbox.woken.notified().await;
            let News { phones, blocks, verdicts } = std::mem::take(&mut *inbox.lock());
            let Some(handle) = thread.upgrade() else { return };
            let changes = phones.into_values().flat_map(|newest| [newest.state, newest.place]).flatten();
            let blocks = blocks.into_iter().map(|(suspect, length)| Command::Block { suspect, length });
            let verdicts = verdicts.into_iter().map(|(switch, verdict)| Command::Judge(switch, verdict));
            for command in changes.map(Command::Locate).chain(blocks).chain(verdicts) {
                if handle.command(command).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Inbox {
    fn put(&self, change: Change) {
        let id = match &change {
            Change::Put(record) => record.id,
            Change::Remove(id) | Change::Moved { id, .. } => *id,
        };
        let mut news = self.lock();
        let first = news.phones.is_empty();
        news.phones.entry(id).or_default().take(change);
        drop(news);
        if first {
            self.woken.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sip_core::flow::{FlowId, Source};

    use super::*;

    fn moved(id: u64, flow: u64) -> Change {
        Change::Moved { id, path: Some(Source::Flow(FlowId(flow))) }
    }

    #[test]
    fn the_newest_of_each_phone_waits_for_every_other_thread() {
        let replicas = Replicas::new(3);
        let second = Shard::all(3).nth(1).unwrap();
        for change in [moved(7, 1), Change::Remove(8), moved(7, 2), Change::Remove(9), moved(9, 3)] {
            replicas.tell(second, &change);
        }
        let waiting = |at: usize| {
            let news = replicas.0[at].lock();
            let mut all: Vec<Change> = news
                .phones
                .values()
                .flat_map(|n| n.state.clone().into_iter().chain(n.place.clone()))
                .collect();
            all.sort_by_key(|change| format!("{change:?}"));
            all
        };
        let expected = [moved(7, 2), moved(9, 3), Change::Remove(8), Change::Remove(9)];
        assert_eq!(waiting(0), expected);
        assert_eq!(waiting(2), expected);
        assert_eq!(waiting(1), [], "who tells knows");
        replicas.tell(second, &Change::Remove(7));
        assert!(!waiting(0).contains(&moved(7, 2)), "a phone that is gone is nowhere");
    }

    #[test]
    fn a_thread_that_is_alone_tells_nobody() {
        let replicas = Replicas::new(1);
        replicas.tell(Shard::ALONE, &Change::Remove(7));
        assert!(replicas.0[0].lock().phones.is_empty());
    }
}
