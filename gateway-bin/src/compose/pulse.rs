//! The state of the signalling threads, for whoever asks.

use std::sync::Arc;

use sip_core::edge::Command;
use sip_core::edge::event::Snapshot;
use tokio::sync::watch;

use super::shards::Shards;

/// Asks the threads for their state.
#[derive(Clone)]
pub(crate) struct Pulse {
    shards: Shards,
    /// The newest of each thread.
    snapshots: Vec<watch::Receiver<Arc<Snapshot>>>,
}

impl Pulse {
    /// Of these threads.
    pub(super) fn new(shards: Shards, snapshots: Vec<watch::Receiver<Arc<Snapshot>>>) -> Self {
        Self { shards, snapshots }
    }

    /// Of no thread at all.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { shards: Shards::new(Vec::new()), snapshots: Vec::new() }
    }

    /// The state a moment from now, of all threads together; `None` when one has ended.
    pub(crate) async fn snapshot(&mut self) -> Option<Snapshot> {
        self.snapshots.iter_mut().for_each(watch::Receiver::mark_unchanged);
        self.shards.command(|| Command::Snapshot).await;
        let mut whole = Snapshot::default();
        for snapshot in &mut self.snapshots {
            snapshot.changed().await.ok()?;
            whole.add(&snapshot.borrow());
        }
        Some(whole)
    }
}
