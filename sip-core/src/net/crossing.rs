//! The channels between the drivers of a gateway with several [shards](crate::shard).
//!
//! Nobody ever waits for room: two shards that wait for each other would wait for ever. What does not fit goes back to the
//! machine, which refuses it where that can be done.

use tokio::sync::mpsc;

use crate::flow::{FlowId, Transmit};
use crate::shard::{Handed, Shard};

/// What may wait for one shard. New work fills half of it; the rest is for the answers to what was taken.
const WAITING: usize = 8192;

/// What one shard tells another.
#[derive(Debug)]
pub(super) enum Crossing {
    /// A message that is the other's business.
    Handed(Box<Handed>),
    /// Octets for a connection of the other's.
    Transmit(Transmit),
    /// A connection of ours is gone.
    Closed(FlowId),
}

/// One shard's end of them.
#[derive(Debug)]
pub(super) struct Crossings {
    shard: u8,
    /// To every shard, ourselves included, by number. Empty for a driver that is alone.
    others: Vec<mpsc::Sender<Crossing>>,
}

impl Crossings {
    pub(super) fn alone() -> Self {
        Self { shard: 0, others: Vec::new() }
    }

    /// Joins so many shards; each gets its end and what comes in there.
    pub(super) fn join(count: usize) -> Vec<(Shard, Self, mpsc::Receiver<Crossing>)> {
        let shards = Shard::all(count);
        let (others, inboxes): (Vec<_>, Vec<_>) = shards.map(|_| mpsc::channel(WAITING)).unzip();
        let end = |shard: Shard| Self { shard: shard.index(), others: others.clone() };
        Shard::all(count).zip(inboxes).map(|(shard, inbox)| (shard, end(shard), inbox)).collect()
    }

    pub(super) fn shard(&self) -> u8 {
        self.shard
    }

    /// Gives another shard a message, or gives it back.
    pub(super) fn hand(&self, handed: Box<Handed>) -> Result<(), Box<Handed>> {
        let Some(other) = self.others.get(usize::from(handed.to)).filter(|_| handed.to != self.shard) else {
            return Err(handed);
        };
        // A full channel must still take what ends the work that fills it.
        if handed.message.is_request() && other.capacity() < other.max_capacity() / 2 {
            return Err(handed);
        }
        match other.try_send(Crossing::Handed(handed)) {
            Ok(()) => Ok(()),
            Err(error) => match error.into_inner() {
                Crossing::Handed(handed) => Err(handed),
                // What comes back is what was given.
                Crossing::Transmit(_) | Crossing::Closed(_) => Ok(()),
            },
        }
    }

    /// Sends over a connection of another shard. `false` if that takes no more, or there is none.
    pub(super) fn transmit(&self, flow: FlowId, transmit: Transmit) -> bool {
        self.send(flow.shard(), Crossing::Transmit(transmit))
    }

    /// Where that shard takes no more, it does without: answers to that connection are lost there, as they would be here.
    pub(super) fn closed(&self, shard: u8, flow: FlowId) {
        self.send(shard, Crossing::Closed(flow));
    }

    fn send(&self, shard: u8, crossing: Crossing) -> bool {
        let other = self.others.get(usize::from(shard)).filter(|_| shard != self.shard);
        other.is_some_and(|other| other.try_send(crossing).is_ok())
    }
}

/// What comes from the other shards; waits for ever where there are none.
pub(super) async fn next(inbox: &mut Option<mpsc::Receiver<Crossing>>) -> Crossing {
    match inbox {
        Some(open) => match open.recv().await {
            Some(crossing) => crossing,
            None => {
                // All others have ended.
                *inbox = None;
                std::future::pending().await
            }
        },
        None => std::future::pending().await,
    }
}
