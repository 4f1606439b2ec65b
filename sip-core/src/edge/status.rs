//! The state in numbers.

use std::time::Instant;

use super::bindings::Binding;
use super::event::{Health, Phone, PhoneState};
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
        // A field that is forgotten here does not compile.
        let Self {
            phones,
            flows,
            contexts,
            dialogs,
            resolved,
            refused,
            dropped,
            calls,
            floods,
            junk,
            blocked,
            blocks,
            shown,
            draining,
            keys,
            switches,
        } = other;
        self.phones.extend_from_slice(phones);
        self.flows += flows;
        self.contexts += contexts;
        self.dialogs += dialogs;
        for (sum, step) in self.resolved.iter_mut().zip(resolved) {
            *sum += step;
        }
        self.refused += refused;
        self.dropped += dropped;
        self.calls += calls;
        self.floods += floods;
        self.junk += junk;
        self.blocked += blocked;
        self.blocks.extend_from_slice(blocks);
        self.shown += shown;
        self.draining |= draining;
        self.keys.extend_from_slice(keys);
        self.keys.sort_unstable();
        self.keys.dedup();
        for state in switches {
            match self.switches.iter_mut().find(|known| known.switch == state.switch) {
                // One shard monitors for all.
                Some(known) if known.health == Health::Unwatched => *known = state.clone(),
                Some(_) => {}
                None => self.switches.push(state.clone()),
            }
        }
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
