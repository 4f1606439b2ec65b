//! Streams of one session that share a pair: several dialogs have answered one offer (RFC 3261 §12.1), and the offer named one
//! port for all of them. Each stream has ports of its own towards who offered; towards those who answered all have the same
//! ones, and a packet that comes there belongs to the stream whose end was described where it comes from.
//!
//! The first stream *owns* the pair: what nobody is known by is its own. When it closes, the next one owns it, and with the
//! last one the pair goes as any other. A pair that is not shared costs a packet one look at a flag.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Forward, Slot, Table, Usage};
use crate::relay::command::Side;
use crate::relay::report::Component;
use crate::relay::stream::{Packet, Passed};

impl Table {
    /// Whether a stream of this session uses the slot, so that a new one of it may share it.
    pub(super) fn may_share(&self, slot: usize, session: u64) -> bool {
        let owner = self.owner(slot).and_then(|at| self.streams.get(at)).and_then(Option::as_ref);
        owner.is_some_and(|owner| owner.stream.setup().id.session == session)
    }

    /// Whether others than this stream use a slot.
    pub(super) fn is_others(&self, slot: usize, stream: Option<usize>) -> bool {
        self.shared.contains_key(&slot) || self.owner(slot).is_some_and(|owner| Some(owner) != stream)
    }

    /// Whether this stream is one of several that use a slot.
    pub(super) fn shares_slot(&self, slot: usize, at: usize) -> bool {
        self.shared.get(&slot).is_some_and(|all| all.contains(&at))
    }

    fn owner(&self, slot: usize) -> Option<usize> {
        match self.slots.get(slot)?.as_ref()?.usage {
            Usage::Stream { at, .. } => Some(at),
            _ => None,
        }
    }

    /// A stream uses a slot on a side, alone or beside those that do already.
    pub(super) fn occupy(&mut self, slot: usize, at: usize, side: Side) {
        let Some(bound) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        match &mut bound.usage {
            Usage::Stream { at: owner, shared, .. } if *owner != at || *shared => {
                *shared = true;
                let all = self.shared.entry(slot).or_insert_with(|| vec![*owner]);
                if !all.contains(&at) {
                    all.push(at);
                }
            }
            usage => *usage = Usage::Stream { at, side, shared: false },
        }
    }

    /// A stream uses a slot no more. `true`: nobody does. `used`: somebody may still send to its ports, whoever has them last.
    pub(super) fn vacate_shared(&mut self, slot: usize, at: usize, used: bool) -> bool {
        let Some(all) = self.shared.get_mut(&slot) else { return true };
        all.retain(|other| *other != at);
        let (Some(first), alone) = (all.first().copied(), all.len() < 2) else { return true };
        if let Some(bound) = self.slots.get_mut(slot).and_then(Option::as_mut)
            && let Usage::Stream { at: owner, shared, .. } = &mut bound.usage
        {
            (*owner, *shared) = (first, !alone);
            bound.used |= used;
        }
        if alone {
            self.shared.remove(&slot);
        }
        false
    }

    /// Whether one that shared a slot has used it.
    pub(super) fn was_used(&self, slot: usize) -> bool {
        self.slots.get(slot).and_then(Option::as_ref).is_some_and(|bound| bound.used)
    }

    /// Whether a stream has a slot that is not its own alone: it can't leave for another table.
    pub(super) fn shares(&self, at: usize) -> bool {
        self.shared.values().any(|all| all.contains(&at))
    }

    /// The stream that a packet to a shared slot belongs to: whose end is known to be where it comes from, else the first one
    /// that would let it in, else the owner.
    pub(super) fn belongs(&self, slot: Slot, owner: usize, side: Side, packet: &Packet<'_>) -> usize {
        let claim = |at: usize| {
            let entry = self.streams.get(at).and_then(Option::as_ref);
            entry.map_or(0, |entry| entry.stream.claim(side, packet.component, packet.source))
        };
        let all = self.shared.get(&slot.0).map_or(&[][..], Vec::as_slice);
        let mut best = (claim(owner), owner);
        for at in all.iter().copied() {
            let claim = claim(at);
            if claim > best.0 {
                best = (claim, at);
            }
        }
        best.1
    }

    /// Who offered is one and the same for all streams that share a pair: while it has not spoken to the ports of one of them,
    /// what that one brings is sent to where another has found it, and reaches it unless its NAT looks at ports
    /// (RFC 4787 §5).
    pub(super) fn found_beside(
        &mut self,
        now: Instant,
        (at, side): (usize, Side),
        passed: Passed,
        octets: usize,
        changed: bool,
    ) -> Option<Forward> {
        if self.shared.is_empty() {
            return None;
        }
        let entry = self.streams.get(at)?.as_ref()?;
        if entry.stream.is_keyed(side) || !entry.stream.setup().leg(side).wanted {
            return None;
        }
        let to = self.destination_beside(entry.slot(side.other()), side, passed.component)?;
        let entry = self.streams.get_mut(at)?.as_mut()?;
        entry.stream.count_sent(now, side, passed, octets);
        Some(Forward { slot: Slot(entry.slot(side)), passed, to, answer: false, changed })
    }

    fn destination_beside(&self, slot: usize, side: Side, component: Component) -> Option<SocketAddr> {
        let all = self.shared.get(&slot)?;
        let others = all.iter().filter_map(|at| self.streams.get(*at)?.as_ref());
        others.into_iter().find_map(|other| other.stream.found(side, component))
    }
}
