//! The write queue of a connection, bounded by octets.
//!
//! Most connections are at rest, and one at work has one message waiting: that one has its place here, and a list is kept only
//! while there are more.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// What a queued message costs beside its octets.
const OVERHEAD: usize = 128;

#[derive(Debug, Default)]
struct Waiting {
    first: Option<Bytes>,
    /// Behind the first.
    rest: VecDeque<Bytes>,
    octets: usize,
    /// Nothing more comes.
    closed: bool,
    /// Nobody takes what comes.
    ended: bool,
    reader: Option<Waker>,
}

impl Waiting {
    fn push(&mut self, bytes: Bytes, limit: usize) -> bool {
        let octets = self.octets.saturating_add(Queue::cost(&bytes));
        if octets > limit {
            return false;
        }
        if self.ended {
            return true;
        }
        self.octets = octets;
        match self.first {
            None => self.first = Some(bytes),
            Some(_) => self.rest.push_back(bytes),
        }
        true
    }

    fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.first.take()?;
        self.first = self.rest.pop_front();
        if self.first.is_none() {
            self.rest = VecDeque::new();
        }
        self.octets = self.octets.saturating_sub(Queue::cost(&bytes));
        Some(bytes)
    }
}

/// What both ends share.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Waiting>>);

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: Bytes, limit: usize) -> bool {
        let mut waiting = self.waiting();
        let fits = waiting.push(bytes, limit);
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
        fits
    }
}

/// The sending end. When it is dropped, the connection writes what is queued and closes.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Shared,
    limit: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> (Self, QueueEnd) {
        let shared = Shared::default();
        (Self { shared: shared.clone(), limit }, QueueEnd { shared })
    }

    /// What a message takes of the bound.
    pub(super) fn cost(bytes: &Bytes) -> usize {
        bytes.len() + OVERHEAD
    }

    /// Queues octets; `false` if there is no room. An ended connection swallows them: its end is on its way to the driver,
    /// behind what it heard last.
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        self.shared.push(bytes, self.limit)
    }

    pub(super) fn downgrade(&self) -> WeakQueue {
        WeakQueue { shared: self.shared.clone(), limit: self.limit }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        waiting.closed = true;
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A sending end that does not keep the queue open.
#[derive(Clone, Debug)]
pub(super) struct WeakQueue {
    shared: Shared,
    limit: usize,
}

impl WeakQueue {
    /// As [`Queue::push`].
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        self.shared.waiting().closed || self.shared.push(bytes, self.limit)
    }
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct QueueEnd {
    shared: Shared,
}

impl QueueEnd {
    /// What is there now.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        self.shared.waiting().pop()
    }

    /// Waits for more; `None` when the queue has ended and is empty. Loses nothing when dropped half-way.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = self.shared.waiting();
        if let Some(bytes) = waiting.pop() {
            return Poll::Ready(Some(bytes));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        match &mut waiting.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for QueueEnd {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        waiting.ended = true;
        (waiting.first, waiting.rest, waiting.octets) = (None, VecDeque::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> Bytes {
        Bytes::from(n.to_string())
    }

    #[tokio::test]
    async fn order_is_kept_and_the_bound_holds() {
        let (queue, mut end) = Queue::new(4 * (OVERHEAD + 1));
        let pushed: Vec<bool> = (0..6).map(|n| queue.push(text(n))).collect();
        assert_eq!(pushed, [true, true, true, true, false, false]);
        assert_eq!(end.try_next(), Some(text(0)));
        assert!(queue.push(text(6)) && !queue.push(text(7)));
        for n in [1, 2, 3, 6] {
            assert_eq!(end.next().await, Some(text(n)));
        }
        assert_eq!(end.try_next(), None);
        assert_eq!(end.shared.waiting().octets, 0);
    }

    #[tokio::test]
    async fn what_is_queued_comes_before_the_end() {
        let (queue, mut end) = Queue::new(1000);
        let answers = queue.downgrade();
        assert!(queue.push(text(1)) && answers.push(text(2)));
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(bytes) = end.next().await {
                read.push(bytes);
            }
            read
        });
        tokio::task::yield_now().await;
        assert!(queue.push(text(3)));
        tokio::task::yield_now().await;
        drop(queue);
        assert!(answers.push(text(4)), "swallowed: the queue has ended");
        assert_eq!(reading.await.unwrap(), [text(1), text(2), text(3)]);
    }

    #[test]
    fn an_ended_connection_swallows() {
        let (queue, end) = Queue::new(1000);
        assert!(queue.push(text(1)));
        drop(end);
        for n in 0..100 {
            assert!(queue.push(text(n)));
        }
        assert_eq!(queue.shared.waiting().octets, 0);
    }
}
