//! The state in numbers.

use std::time::Instant;

use super::bindings::Binding;
use super::event::{Phone, PhoneState};
use super::{Edge, Snapshot};
use crate::flow::Side;

/// Blocks in a snapshot; there may be a hundred thousand.
const BLOCKS_SHOWN: usize = 1000;

pub(super) fn phone(binding: &Binding) -> Phone {
    Phone { id: binding.id, tag: binding.record.tag.clone(), user: binding.record.user.clone() }
}

impl Snapshot {
    /// Adds the state of another shard: numbers are summed, lists joined.
    pub fn add(&mut self, other: &Self) {
        self.phones.extend_from_slice(&other.phones);
        self.flows += other.flows;
        self.contexts += other.contexts;
        self.dialogs += other.dialogs;
        for (sum, step) in self.resolved.iter_mut().zip(other.resolved) {
            *sum += step;
        }
        self.shown += other.shown;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.calls += other.calls;
        self.floods += other.floods;
        self.junk += other.junk;
        self.blocked += other.blocked;
        self.blocks.extend_from_slice(&other.blocks);
        self.draining |= other.draining;
        self.keys.extend_from_slice(&other.keys);
        self.keys.sort_unstable();
        self.keys.dedup();
        let known: Vec<_> = self.switches.iter().map(|state| state.switch).collect();
        self.switches.extend(other.switches.iter().filter(|state| !known.contains(&state.switch)).cloned());
    }
}

impl Edge {
    /// The state in numbers, and the registrations.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let state = |binding: &Binding| PhoneState {
            phone: phone(binding),
            source: binding.path,
            remote: binding.peer.as_ref().map(|peer| peer.remote),
            users: binding.record.users.clone(),
            subject: binding.identity().map(|identity| identity.subject.clone()),
            expires: binding.expires.saturating_duration_since(now).as_secs(),
            flow: binding.path.and_then(|path| path.flow()),
        };
        Snapshot {
            phones: self
                .bindings
                .iter()
                .filter(|b| b.registered && self.bindings.is_ours(b))
                .map(state)
                .collect(),
            flows: self.flows.values().filter(|flow| flow.peer.side == Side::Outside).count(),
            contexts: self.exchanges.len(),
            dialogs: self.dialogs.len(),
            resolved: self.counters.resolved,
            shown: self.shown.get(),
            refused: self.counters.refused,
            dropped: self.counters.dropped,
            calls: self.counters.calls,
            floods: self.counters.floods,
            junk: self.counters.junk,
            blocked: self.guard.blocks.active(),
            blocks: self.guard.blocks.list(now, BLOCKS_SHOWN),
            draining: self.draining,
            switches: self.switch_states(now),
            keys: self.bindings.born_with().collect(),
        }
    }
}
