//! The threads of a relay, and what they say to each other: orders in one order for all, and streams that move.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use super::pump::Wake;
use super::socket;
use crate::relay::Command;
use crate::relay::report::Pair;
use crate::relay::table::{Move, Moving, Ticket};

/// What a worker is told. Whoever says something to several workers says it to all before anybody else speaks: each hears of
/// a move before of anything that comes after it, so that no two can wait for each other.
#[allow(clippy::large_enum_variant)] // Nearly all are commands.
#[derive(Debug)]
pub(super) enum Order {
    /// Execute this.
    Command(Command),
    /// Send this stream away.
    Give(Move),
    /// Execute nothing more until this has come.
    Await(Ticket),
    /// Another worker has closed these ports, which are the first worker's to use again.
    Closed(Pair),
    /// Another worker gives these back to the first, unused: RTP and RTCP.
    Returned(Pair, socket::Port, socket::Port),
}

/// A stream with its sockets, on its way between two workers.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) moving: Moving,
    /// Outside and inside.
    pub(super) ports: [socket::Pair; 2],
}

/// The way to a worker.
#[derive(Debug)]
struct Post {
    orders: Sender<Order>,
    parcels: Sender<(Ticket, Option<Parcel>)>,
    wake: Arc<Wake>,
}

/// What a worker finds on its desk.
#[derive(Debug)]
pub(super) struct Desk {
    /// Its number.
    pub(super) worker: usize,
    pub(super) orders: Receiver<Order>,
    pub(super) parcels: Receiver<(Ticket, Option<Parcel>)>,
    pub(super) wake: Arc<Wake>,
    pub(super) crew: Arc<Crew>,
}

/// All workers.
#[derive(Debug)]
pub(super) struct Crew {
    posts: Vec<Post>,
    over: AtomicBool,
    complete: AtomicBool,
}

impl Crew {
    /// So many workers.
    pub(super) fn new(workers: usize) -> io::Result<(Arc<Self>, Vec<Desk>)> {
        let (mut posts, mut inboxes) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (orders, ordered) = mpsc::channel();
            let (parcels, delivered) = mpsc::channel();
            let wake = Arc::new(Wake::new()?);
            posts.push(Post { orders, parcels, wake: Arc::clone(&wake) });
            inboxes.push((ordered, delivered, wake));
        }
        let crew = Arc::new(Self { posts, over: AtomicBool::new(false), complete: AtomicBool::new(true) });
        let desks = inboxes.into_iter().enumerate().map(|(worker, (orders, parcels, wake))| Desk {
            worker,
            orders,
            parcels,
            wake,
            crew: Arc::clone(&crew),
        });
        let desks = desks.collect();
        Ok((crew, desks))
    }

    pub(super) fn len(&self) -> usize {
        self.posts.len()
    }

    /// `false`: there is no such worker any more.
    pub(super) fn order(&self, worker: usize, order: Order) -> bool {
        let Some(post) = self.posts.get(worker) else { return false };
        let sent = post.orders.send(order).is_ok();
        post.wake.ring();
        sent
    }

    pub(super) fn deliver(&self, worker: usize, ticket: Ticket, parcel: Option<Parcel>) {
        if let Some(post) = self.posts.get(worker) {
            // One that has ended ends all: the ports close here.
            let _ = post.parcels.send((ticket, parcel));
            post.wake.ring();
        }
    }

    /// Everybody is to stop.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.posts.iter().for_each(|post| post.wake.ring());
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Whether every worker runs.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }
}

/// Held by a worker for as long as it runs: when one ends, also by a panic, all do. A part of the calls without audio would be
/// worse than a process that ends and is started again.
pub(super) struct Member(pub(super) Arc<Crew>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.complete.store(false, Ordering::Release);
        self.0.end();
    }
}
