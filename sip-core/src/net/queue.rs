//! The write queue of a connection, bounded by octets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// What a queued message costs beside its octets.
const OVERHEAD: usize = 128;

/// The sending end. When the last one is dropped, the connection writes what is queued and closes.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: mpsc::UnboundedSender<Bytes>,
    octets: Arc<AtomicUsize>,
    limit: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> (Self, QueueEnd) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let octets = Arc::new(AtomicUsize::new(0));
        (Self { sender, octets: octets.clone(), limit }, QueueEnd { receiver, octets })
    }

    /// What a message takes of the bound.
    pub(super) fn cost(bytes: &Bytes) -> usize {
        bytes.len() + OVERHEAD
    }

    /// Queues octets; `false` if there is no room. An ended connection swallows them: its end is on its way to the driver,
    /// behind what it heard last.
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        let cost = Self::cost(&bytes);
        let before = self.octets.fetch_add(cost, Ordering::Relaxed);
        if before.saturating_add(cost) > self.limit {
            self.octets.fetch_sub(cost, Ordering::Relaxed);
            return false;
        }
        if self.sender.send(bytes).is_err() {
            self.octets.fetch_sub(cost, Ordering::Relaxed);
        }
        true
    }

    pub(super) fn downgrade(&self) -> WeakQueue {
        WeakQueue { sender: self.sender.downgrade(), octets: self.octets.clone(), limit: self.limit }
    }
}

/// A sending end that does not keep the queue open.
#[derive(Clone, Debug)]
pub(super) struct WeakQueue {
    sender: mpsc::WeakUnboundedSender<Bytes>,
    octets: Arc<AtomicUsize>,
    limit: usize,
}

impl WeakQueue {
    /// As [`Queue::push`].
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        let Some(sender) = self.sender.upgrade() else { return true };
        Queue { sender, octets: self.octets.clone(), limit: self.limit }.push(bytes)
    }
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct QueueEnd {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    octets: Arc<AtomicUsize>,
}

impl QueueEnd {
    /// What is there now.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        let bytes = self.receiver.try_recv().ok()?;
        Some(self.taken(bytes))
    }

    /// Waits for more; `None` when the queue has ended and is empty. Loses nothing when dropped half-way.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.receiver.recv().await?;
        Some(self.taken(bytes))
    }

    fn taken(&self, bytes: Bytes) -> Bytes {
        self.octets.fetch_sub(Queue::cost(&bytes), Ordering::Relaxed);
        bytes
    }
}
