//! The media side: it writes what it was asked into the description, and keeps what it is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use sip_core::flow::Side;
use sip_core::media::{Description, Fork, Leg, Media, Refusal, Role, SessionId};

use crate::world::OUT;

/// Whose each description was, where they are told apart.
pub(crate) type Forks = Arc<Mutex<Vec<Option<Fork>>>>;

/// The dialog record of each session.
pub(crate) type Kept = Arc<Mutex<BTreeMap<SessionId, Vec<u8>>>>;

/// A relay that writes what it was asked into the description.
#[derive(Clone, Default)]
pub(crate) struct Relay {
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
    /// Sessions in the order they came.
    pub(crate) seen: Arc<Mutex<Vec<SessionId>>>,
    pub(crate) records: Kept,
    pub(crate) forks: Forks,
    /// Sessions whose offer has another form: `a=either`.
    either: Arc<Mutex<Vec<SessionId>>>,
}

impl Relay {
    fn number(&mut self, session: SessionId) -> usize {
        let mut seen = self.seen.lock().unwrap();
        if !seen.contains(&session) {
            seen.push(session);
        }
        seen.iter().position(|s| *s == session).map_or(0, |at| at + 1)
    }
}

impl Media for Relay {
    fn rewrite(
        &mut self,
        _: Instant,
        session: SessionId,
        leg: Leg,
        role: Role,
        description: Description<'_>,
    ) -> Result<Bytes, Refusal> {
        let text = std::str::from_utf8(description.body).map_err(|_| Refusal::Malformed)?;
        if text.contains("a=refuse") {
            return Err(Refusal::NotAcceptable);
        }
        let either = text.contains("a=either") && role == Role::Offer;
        if either && !self.seen.lock().unwrap().contains(&session) {
            self.either.lock().unwrap().push(session);
        }
        self.forks.lock().unwrap().push(leg.fork);
        let line = format!(
            "{role:?} {} from {:?} {} to {}, phone at {}",
            self.number(session),
            leg.side,
            leg.signalling,
            leg.to_signalling,
            leg.contact.map_or_else(|| "?".to_owned(), |host| host.to_string())
        );
        self.calls.lock().unwrap().push(line.clone());
        // Of a multipart it finds the inside address, which is all that the tests put into one.
        if description.is_multipart() {
            return Ok(text.replace("10.0.1.50", &format!("{OUT} {role:?}")).into());
        }
        Ok(format!("{text}a=relay:{line}\r\n").into())
    }

    fn rollback(&mut self, _: Instant, session: SessionId, side: Side) {
        let line = format!("Rollback {} from {side:?}", self.number(session));
        self.calls.lock().unwrap().push(line);
    }

    fn insist(&mut self, _: Instant, session: SessionId, side: Side) -> bool {
        let mut either = self.either.lock().unwrap();
        let found = either.iter().position(|known| *known == session).map(|at| either.swap_remove(at));
        drop(either);
        if found.is_some() {
            let line = format!("Insist {} to {side:?}", self.number(session));
            self.calls.lock().unwrap().push(line);
        }
        found.is_some()
    }

    fn confirm(&mut self, _: Instant, session: SessionId, fork: Fork) {
        let which = self.forks.lock().unwrap().iter().flatten().position(|known| *known == fork);
        let which = ["first", "second", "third"].get(which.unwrap_or(9)).unwrap_or(&"unknown");
        let line = format!("Confirm {} from {which}", self.number(session));
        self.calls.lock().unwrap().push(line);
    }

    fn record(&mut self, session: SessionId, record: Vec<u8>) {
        assert!(self.seen.lock().unwrap().contains(&session), "nobody knows {session:?}");
        self.records.lock().unwrap().insert(session, record);
    }

    fn end(&mut self, _: Instant, session: SessionId) {
        self.records.lock().unwrap().remove(&session);
        let line = format!("End {}", self.number(session));
        self.calls.lock().unwrap().push(line);
    }
}
