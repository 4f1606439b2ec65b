//! Counting tunnels, in all and by peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::Peer;

/// What a peer is counted by: its key, or its address where there is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Key([u8; 32]),
    Address(IpAddr),
}

#[derive(Default)]
pub(super) struct Slots(Mutex<Held>);

#[derive(Default)]
struct Held {
    total: usize,
    by_holder: HashMap<Holder, usize>,
}

/// A place among the tunnels, given back when dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    holder: Holder,
}

impl Slots {
    /// A place for a tunnel of `peer`, unless it or all together have too many.
    pub(super) fn take(self: &Arc<Self>, peer: &Peer, per_peer: usize, total: usize) -> Option<Slot> {
        let holder = match &peer.identity {
            Some(identity) => Holder::Key(identity.key_hash),
            None => Holder::Address(peer.remote.ip().to_canonical()),
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by_holder.get(&holder).copied().unwrap_or(0);
        if held.total >= total || own >= per_peer {
            return None;
        }
        held.total += 1;
        held.by_holder.insert(holder, own + 1);
        Some(Slot { slots: Arc::clone(self), holder })
    }

    pub(super) fn total(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        // A peer that holds nothing is forgotten: the table is bounded by the tunnels there are.
        match held.by_holder.get_mut(&self.holder) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.by_holder.remove(&self.holder);
            }
        }
    }
}
