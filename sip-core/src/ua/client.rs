//! Single requests: sent, and what came of each.

use std::collections::BTreeSet;
use std::time::Instant;

use super::request::Request;
use crate::message::{Message, Method};
use crate::numbered::Numbered;
use crate::token::{LoopHash, Random};
use crate::transaction::{ClientKey, Event, Layer};

/// Requests of our own other than INVITE, and who wanted each: `T` comes back with what became of it.
///
/// The owner of the layer hands on what concerns a key of ours ([`owns`](Self::owns)): responses, events of the layer, and
/// the deadline of [`poll_timeout`](Self::poll_timeout). Each request that was sent comes back exactly once. How many
/// there are is bounded by the layer ([`Config::transactions`](crate::transaction::Config::transactions)).
#[derive(Debug)]
pub struct Client<T> {
    open: Numbered<ClientKey, Open<T>>,
    deadlines: BTreeSet<(Instant, ClientKey)>,
}

#[derive(Debug)]
struct Open<T> {
    request: Request,
    deadline: Option<Instant>,
    purpose: T,
}

/// A request that is over.
#[derive(Debug)]
pub struct Done<T> {
    /// The request as it was sent, to be sent [again](Request::again) where a challenge wants that.
    pub request: Request,
    /// Why it was sent.
    pub purpose: T,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A final answer.
    Answered(Message),
    /// Nobody answered in time: as if 408 had come (RFC 3261 §8.1.3.1).
    TimedOut,
    /// It could not be delivered: as if 503 had come.
    Failed,
}

impl Outcome {
    /// The status that the RFC lets it count as.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answered(message) => message.status().unwrap_or(500),
            Self::TimedOut => 408,
            Self::Failed => 503,
        }
    }
}

impl<T> Default for Client<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Client<T> {
    /// Nothing sent.
    pub fn new() -> Self {
        Self { open: Numbered::default(), deadlines: BTreeSet::new() }
    }

    /// Sends a request. It has failed, which the layer tells with its next event, where the layer is full.
    pub fn send(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        random: &mut Random,
        request: Request,
        purpose: T,
    ) -> ClientKey {
        // The hash in a branch is a proxy's means against loops; what starts here can't have come round.
        let branch = random.branch(LoopHash::new([]));
        let method = Method::parse(request.method.as_bytes()).unwrap_or(Method::Other(b""));
        let key = layer.request(now, request.target, &branch, method, request.bytes(&branch));
        let deadline = request.patience.map(|patience| now + patience);
        self.deadlines.extend(deadline.map(|at| (at, key)));
        self.open.insert(key, Open { request, deadline, purpose });
        key
    }

    /// Whether a transaction is one of ours that has no answer yet.
    pub fn owns(&self, key: ClientKey) -> bool {
        self.open.contains_key(&key)
    }

    /// Why the requests that wait for an answer were sent.
    pub fn purposes(&self) -> impl Iterator<Item = &T> {
        self.open.values().map(|open| &open.purpose)
    }

    /// How many requests wait for an answer.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a response. A provisional one changes nothing.
    pub fn handle_response(&mut self, key: ClientKey, message: &Message) -> Option<Done<T>> {
        if message.status().is_none_or(|status| status < 200) {
            return None;
        }
        self.end(key, || Outcome::Answered(message.clone()))
    }

    /// Takes an event of the layer.
    pub fn handle_event(&mut self, event: Event) -> Option<Done<T>> {
        match event {
            Event::ClientTimedOut(key) => self.end(key, || Outcome::TimedOut),
            Event::ClientFailed(key) => self.end(key, || Outcome::Failed),
            Event::ClientEnded(_) | Event::ServerEnded(_) => None,
        }
    }

    /// The next request whose [patience](Request::patience) is over at `now`; call it until there is none.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Done<T>> {
        let (_, key) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
        self.end(key, || Outcome::TimedOut)
    }

    /// When the first patience is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets a request; whatever comes of it is nobody's.
    pub fn forget(&mut self, key: ClientKey) -> Option<T> {
        self.remove(key).map(|open| open.purpose)
    }

    fn end(&mut self, key: ClientKey, outcome: impl FnOnce() -> Outcome) -> Option<Done<T>> {
        let Open { request, purpose, .. } = self.remove(key)?;
        Some(Done { request, purpose, outcome: outcome() })
    }

    fn remove(&mut self, key: ClientKey) -> Option<Open<T>> {
        let open = self.open.remove(&key)?;
        if let Some(at) = open.deadline {
            self.deadlines.remove(&(at, key));
        }
        Some(open)
    }
}
