//! Calls that outlive the process (decision 13): their dialogs leave as a record for each media session, and a new process
//! puts them back.

use std::time::Instant;

use super::Edge;
use super::dialogs::record::{self, Kept};
use super::dialogs::{Dialog, DialogKey};
use super::event::{Event, Taken};
use crate::media::SessionId;

/// Where the number of a shard stands in that of a session.
const SHARD_SHIFT: u32 = 56;

impl Edge {
    /// From where sessions are numbered: at random within the shard's part, so that those of an earlier process are hardly met
    /// even where nobody tells us of them.
    pub(super) fn first_session(random: &mut crate::token::Random, shard: u8) -> u64 {
        random.number() >> 16 | u64::from(shard) << SHARD_SHIFT
    }

    /// Tells the media side what is to be kept with the sessions of this round.
    pub(super) fn record_sessions(&mut self, now: Instant) {
        while let Some((session, fork)) = self.dialogs.poll_left() {
            self.media.confirm(now, session, fork);
        }
        while let Some((session, dialogs)) = self.dialogs.poll_changed() {
            let record = record::write(&dialogs);
            self.media.record(session, record);
        }
    }

    /// Puts back the calls of an earlier process that are this shard's, and says which.
    pub(super) fn take_over(&mut self, now: Instant, sessions: Vec<(SessionId, Vec<u8>)>) {
        let (mut calls, shard) = (Vec::new(), self.shard);
        for (session, bytes) in sessions {
            if session.0 >> SHARD_SHIFT == u64::from(shard.index()) {
                self.dialogs.number_above(session);
            }
            let Some(kept) = record::read(&bytes) else { continue };
            for kept in kept.into_iter().filter(|kept| shard.owns(&kept.certificate)) {
                calls.extend(self.put_back(now, session, kept));
            }
        }
        // What was just read needs no writing.
        self.dialogs.unchanged();
        self.tell(Event::TakenOver { calls });
    }

    /// One call. `None` when there is no room for it, or it runs with another session by now.
    fn put_back(&mut self, now: Instant, session: SessionId, kept: Kept) -> Option<Taken> {
        let Kept { key, phone, certificate, switch, contact, routes } = kept;
        match self.dialogs.get(&key).map(|known| (known.certificate, known.session)) {
            Some((owner, held)) if owner != certificate || held.is_some_and(|held| held != session) => {
                return None;
            }
            // A request in it was faster than we are.
            Some((_, None)) => self.dialogs.adopt_session(&key, session),
            Some((_, Some(_))) => {}
            None if self.dialogs.len() >= self.shard.part(self.config.limits.dialogs) => return None,
            None => {
                let dialog = Dialog {
                    phone,
                    path: None,
                    certificate,
                    switch,
                    routes,
                    contact,
                    session: Some(session),
                    awaits_answer: false,
                    confirmed: true,
                    used: now,
                    refreshed: now,
                    due: self.dialog_due(now),
                };
                self.dialogs.insert(DialogKey::clone(&key), dialog);
            }
        }
        Some(Taken { session, call_id: key.call_id(), phone })
    }
}
