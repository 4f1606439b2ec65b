//! What the driver saw of packets and the table did not.

use super::{Slot, Table, Usage};
use crate::relay::command::Side;
use crate::relay::report::{Dropped, Undelivered};

impl Table {
    /// The kernel refused to send a packet that had come to this slot.
    pub fn handle_send_error(&mut self, slot: Slot) {
        self.count(slot, |dropped| dropped.send += 1);
    }

    /// The kernel refused to send a packet by this slot: it counts where what leaves there comes from.
    pub fn handle_refused(&mut self, slot: Slot) {
        if let Some(from) = self.opposite(slot) {
            self.handle_send_error(from);
        }
    }

    /// The slot to which comes what leaves by this one.
    fn opposite(&self, slot: Slot) -> Option<Slot> {
        let Usage::Stream { at, side, .. } = self.slots.get(slot.0)?.as_ref()?.usage else { return None };
        let entry = self.streams.get(at)?.as_ref()?;
        let (at, from) = match entry.joined.filter(|_| side == Side::Outside) {
            Some(other) => (other, Side::Outside),
            None => (at, side.other()),
        };
        Some(Slot(self.streams.get(at)?.as_ref()?.slot(from)))
    }

    /// Word has come that packets which leave by this slot don't arrive.
    pub fn handle_undelivered(&mut self, slot: Slot, why: Undelivered) {
        let usage = self.slots.get(slot.0).and_then(Option::as_ref).map(|bound| bound.usage);
        if let Some(Usage::Stream { at, side, .. }) = usage
            && let Some(entry) = self.streams.get_mut(at).and_then(Option::as_mut)
        {
            entry.stream.count_undelivered(side, why);
        }
    }

    /// A packet that came to this slot is larger than the driver takes.
    pub fn handle_oversize(&mut self, slot: Slot) {
        self.count(slot, |dropped| dropped.oversize += 1);
    }

    /// The kernel's queue of a port of this slot had no room for so many packets.
    pub fn handle_overflow(&mut self, slot: Slot, packets: u32) {
        self.count(slot, |dropped| dropped.overflow += u64::from(packets));
    }

    fn count(&mut self, slot: Slot, act: impl FnOnce(&mut Dropped)) {
        let usage = self.slots.get(slot.0).and_then(Option::as_ref).map(|bound| bound.usage);
        if let Some(Usage::Stream { at, side, .. }) = usage
            && let Some(entry) = self.streams.get_mut(at).and_then(Option::as_mut)
        {
            act(entry.stream.dropped_mut(side));
        }
    }
}
