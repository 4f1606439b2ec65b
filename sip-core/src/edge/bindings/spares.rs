//! The further connections of a phone that speaks RFC 5626: registered each with a `reg-id` of its own, and used when the
//! newer ones are gone. Phones that don't, which are nearly all, cost nothing here.

use std::sync::Arc;

use super::{Bindings, drop_id};
use crate::flow::{Peer, Source};
use crate::token::InstanceId;

/// The most connections of a phone besides the one in use (RFC 5626 §4.2 thinks of two in all).
const MOST: usize = 3;

/// What one phone has.
#[derive(Default)]
pub(super) struct Spares {
    /// The `reg-id` of the connection in use.
    current: u32,
    /// The others, the newest last.
    others: Vec<Spare>,
}

/// One connection.
struct Spare {
    path: Source,
    peer: Arc<Peer>,
    /// The Contact it was registered with.
    contact: String,
    reg_id: u32,
}

impl Bindings {
    /// The phone is about to be put on `path` by a registration with this `reg-id`: what it was on before stays, unless it had
    /// the same `reg-id` (RFC 5626 §6, a registration replaces that of the same flow).
    pub(in crate::edge) fn keep_spare(&mut self, id: InstanceId, path: &Source, reg_id: Option<u32>) {
        let Some(reg_id) = reg_id else { return self.drop_spares(id) };
        let in_use = self.by_id.get(&id).and_then(|b| {
            Some((b.path.filter(|old| old != path)?, b.peer.clone()?, b.record.contact.clone()))
        });
        let Spares { current, mut others } = self.spares.remove(&id).unwrap_or_default();
        if let Some((path, peer, contact)) = in_use.filter(|_| current != 0) {
            // It is found by this connection as before.
            others.push(Spare { path, peer, contact, reg_id: current });
        }
        let surplus = others.len().saturating_sub(MOST);
        let mut at = 0;
        others.retain(|spare| {
            at += 1;
            let stays = at > surplus && spare.reg_id != reg_id && spare.path != *path;
            if !stays {
                drop_id(&mut self.by_path, &spare.path, id);
            }
            stays
        });
        self.spares.insert(id, Spares { current: reg_id, others });
    }

    /// After [`Bindings::keep_spare`] and the registration: requests that come by the others are the phone's too.
    pub(in crate::edge) fn index_spares(&mut self, id: InstanceId) {
        let Some(spares) = self.spares.get(&id) else { return };
        for spare in &spares.others {
            let ids = self.by_path.entry(spare.path).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }

    /// Lets go of the connection with this `reg-id`, if the phone is left with another. Whether it is.
    pub(in crate::edge) fn leave_flow(&mut self, id: InstanceId, reg_id: u32) -> bool {
        let Some(spares) = self.spares.get_mut(&id).filter(|spares| !spares.others.is_empty()) else {
            return false;
        };
        if spares.current == reg_id {
            self.unplace(id);
            self.take_spare(id);
            self.tell_place(id);
            return true;
        }
        let Some(at) = spares.others.iter().position(|spare| spare.reg_id == reg_id) else { return false };
        let spare = spares.others.remove(at);
        drop_id(&mut self.by_path, &spare.path, id);
        true
    }

    /// A connection is gone. Whether it was only a further one of this phone.
    pub(super) fn close_spare(&mut self, id: InstanceId, path: &Source) -> bool {
        if self.get(id).is_some_and(|b| b.path == Some(*path)) {
            return false;
        }
        let Some(spares) = self.spares.get_mut(&id) else { return false };
        let before = spares.others.len();
        spares.others.retain(|spare| spare.path != *path);
        let closed = spares.others.len() < before;
        if closed {
            drop_id(&mut self.by_path, path, id);
        }
        closed
    }

    /// Puts a phone that is on no connection on the newest of its further ones.
    pub(super) fn take_spare(&mut self, id: InstanceId) {
        let Some(spares) = self.spares.get_mut(&id) else { return };
        let Some(spare) = spares.others.pop() else {
            self.spares.remove(&id);
            return;
        };
        spares.current = spare.reg_id;
        drop_id(&mut self.by_path, &spare.path, id);
        if let Some(binding) = self.by_id.get_mut(&id) {
            binding.record.contact = spare.contact;
        }
        self.place(id, spare.path, spare.peer);
    }

    /// Forgets the further connections of a phone.
    pub(super) fn drop_spares(&mut self, id: InstanceId) {
        let Some(spares) = self.spares.remove(&id) else { return };
        for spare in &spares.others {
            drop_id(&mut self.by_path, &spare.path, id);
        }
    }
}
