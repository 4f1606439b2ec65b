//! The calls that run, and whose media session is whose. Bounded; forgotten at their BYE, or when idle.

mod gone;
pub(super) mod record;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::gone::Gone;
use super::event::shown;
use crate::flow::{Dial, Peer, Side, Source};
use crate::header::{CallId, From, To};
use crate::media::{Fork, SessionId};
use crate::message::Message;
use crate::numbered::Numbered;
use crate::token::InstanceId;
use crate::transaction::ServerKey;

/// Call-ID, the phone's tag, the far end's tag. A call between two phones through a PBX that is a proxy passes here twice
/// with the same Call-ID and tags (RFC 3261 §6, "spiral"): whose tag is the phone's tells the two dialogs apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DialogKey(Arc<[u8]>);

impl DialogKey {
    /// The dialog a request, or a response to one, is in; `asker` sent the request. `None` without both tags.
    pub(super) fn of(message: &Message, asker: Side) -> Option<Self> {
        let call_id = message.header::<CallId>()?.ok()?;
        let from = message.header::<From>()?.ok()?.tag()?;
        let to = message.header::<To>()?.ok()?.tag()?;
        Some(match asker {
            Side::Outside => Self::new(call_id, from, to),
            Side::Inside => Self::new(call_id, to, from),
        })
    }

    fn new(call_id: &[u8], phone: &[u8], far: &[u8]) -> Self {
        // None of the three can hold a zero octet.
        Self([call_id, phone, far].join(&0).into())
    }
}

/// One dialog made by an INVITE.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    /// The phone's binding.
    pub(super) phone: InstanceId,
    /// Where the phone was when it was made; used only when the binding is gone.
    pub(super) path: Option<(Source, Arc<Peer>)>,
    /// The certificate key of the phone.
    pub(super) certificate: [u8; 32],
    /// The switch it was made with, if we dialled it.
    pub(super) switch: Option<Dial>,
    /// The phone's route set beyond us; `None` where the dialog is known by its token alone.
    pub(super) routes: Option<Vec<Vec<u8>>>,
    /// The phone's own Contact in this dialog.
    pub(super) contact: Option<Vec<u8>>,
    /// Its media.
    pub(super) session: Option<SessionId>,
    /// An offer stands in a response: the ACK or PRACK answers it.
    pub(super) awaits_answer: bool,
    /// A 2xx made it.
    pub(super) confirmed: bool,
    /// When it was last used.
    pub(super) used: Instant,
    /// When it was made, or last refreshed: a re-INVITE or UPDATE was accepted.
    pub(super) refreshed: Instant,
    /// When it is looked at for idleness next.
    pub(super) due: Instant,
}

/// All dialogs.
#[derive(Clone, Default)]
pub(super) struct Dialogs {
    table: HashMap<DialogKey, Dialog>,
    idle: BTreeSet<(Instant, DialogKey)>,
    /// How many dialogs the phones with one certificate key have.
    certificates: Numbered<[u8; 32], usize>,
    /// How many are confirmed.
    confirmed: usize,
    /// The sessions that run.
    sessions: Numbered<SessionId, Held>,
    /// How many dialogs were made over a connection.
    paths: Numbered<Source, usize>,
    last_session: u64,
    /// Sessions that nobody holds any more.
    ended: Vec<SessionId>,
    /// Sessions whose record is another now.
    changed: Vec<SessionId>,
    /// Sessions that were shared by several answered dialogs, of which one has ended.
    left: Vec<SessionId>,
    /// Dialogs that have ended a moment ago.
    pub(super) gone: Gone,
}

/// Who holds a session.
#[derive(Clone, Default)]
struct Held {
    /// How many dialogs and branches.
    holders: usize,
    /// The answered ones among the dialogs: its record is made of them.
    answered: Vec<DialogKey>,
    /// The request whose offer waits for its answer.
    offering: Option<ServerKey>,
    /// How many offers there were.
    offers: u32,
}

impl Dialogs {
    /// None yet; sessions are numbered from `first`, so that those of an earlier process are not met again.
    pub(super) fn starting(first: u64) -> Self {
        Self { last_session: first, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, key: &DialogKey) -> Option<&Dialog> {
        self.table.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &DialogKey) -> Option<&mut Dialog> {
        self.table.get_mut(key)
    }

    /// Remembers a dialog, unless it is known; it then holds its session.
    pub(super) fn insert(&mut self, key: DialogKey, dialog: Dialog) -> &mut Dialog {
        if !self.table.contains_key(&key) {
            self.idle.insert((dialog.due, key.clone()));
            if let Some(session) = dialog.session {
                self.hold(session);
                if dialog.confirmed {
                    self.enter(session, &key);
                }
            }
            if let Some((path, _)) = &dialog.path {
                *self.paths.entry(*path).or_default() += 1;
            }
            *self.certificates.entry(dialog.certificate).or_default() += 1;
            self.confirmed += usize::from(dialog.confirmed);
        }
        self.table.entry(key).or_insert(dialog)
    }

    /// Forgets a dialog and lets go of its session.
    pub(super) fn remove(&mut self, key: &DialogKey) -> Option<Dialog> {
        let dialog = self.table.remove(key)?;
        self.idle.remove(&(dialog.due, key.clone()));
        self.confirmed -= usize::from(dialog.confirmed);
        if let Some(session) = dialog.session {
            if let Some(held) = self.sessions.get_mut(&session).filter(|_| dialog.confirmed) {
                held.answered.retain(|other| other != key);
                if !held.answered.is_empty() {
                    self.changed.push(session);
                    self.left.push(session);
                }
            }
            self.release(session);
        }
        if let Some((path, _)) = &dialog.path
            && let Some(dialogs) = self.paths.get_mut(path)
        {
            *dialogs -= 1;
            if *dialogs == 0 {
                self.paths.remove(path);
            }
        }
        if let Some(dialogs) = self.certificates.get_mut(&dialog.certificate) {
            *dialogs -= 1;
            if *dialogs == 0 {
                self.certificates.remove(&dialog.certificate);
            }
        }
        Some(dialog)
    }

    /// The dialogs of all phones with this certificate key.
    pub(super) fn of_certificate(&self, certificate: &[u8; 32]) -> usize {
        self.certificates.get(certificate).copied().unwrap_or(0)
    }

    /// Whether a dialog was made over this connection.
    pub(super) fn has_path(&self, path: &Source) -> bool {
        self.paths.contains_key(path)
    }

    /// A description went by in an answer: the dialog holds its session, and may wait for an answer to it.
    pub(super) fn described(&mut self, key: &DialogKey, session: SessionId, awaits_answer: bool) {
        let Some(dialog) = self.table.get_mut(key) else { return };
        dialog.awaits_answer = awaits_answer;
        if dialog.session.is_none() {
            self.adopt_session(key, session);
        }
    }

    /// A dialog takes up a session of before.
    pub(super) fn adopt_session(&mut self, key: &DialogKey, session: SessionId) {
        self.hold(session);
        self.give(key, session);
    }

    /// The session of a dialog; a new one if it has none.
    pub(super) fn session_of(&mut self, key: &DialogKey) -> Option<SessionId> {
        if let Some(session) = self.table.get(key)?.session {
            return Some(session);
        }
        let session = self.open_session();
        self.give(key, session);
        Some(session)
    }

    /// A dialog has this session, which counts it already.
    fn give(&mut self, key: &DialogKey, session: SessionId) {
        let Some(dialog) = self.table.get_mut(key) else { return };
        dialog.session = Some(session);
        if dialog.confirmed {
            self.enter(session, key);
        }
    }

    /// An answered dialog is part of the record of its session.
    fn enter(&mut self, session: SessionId, key: &DialogKey) {
        if let Some(held) = self.sessions.get_mut(&session)
            && !held.answered.contains(key)
        {
            held.answered.push(key.clone());
            self.changed.push(session);
        }
    }

    /// Something that the record holds may have changed, or the dialog was refreshed.
    pub(super) fn touch(&mut self, key: &DialogKey) {
        if let Some(dialog) = self.table.get(key).filter(|dialog| dialog.confirmed) {
            self.changed.extend(dialog.session);
        }
    }

    /// A new session, held once.
    pub(super) fn open_session(&mut self) -> SessionId {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.hold(session);
        session
    }

    /// Sessions of an earlier process are never given again: new ones are numbered above them.
    pub(super) fn number_above(&mut self, session: SessionId) {
        self.last_session = self.last_session.max(session.0);
    }

    /// A request offers; which offer of the session it is.
    pub(super) fn offered(&mut self, session: SessionId, by: ServerKey) -> u32 {
        let Some(held) = self.sessions.get_mut(&session) else { return 0 };
        held.offering = Some(by);
        held.offers = held.offers.wrapping_add(1);
        held.offers
    }

    /// How many offers of requests a session has seen.
    pub(super) fn offers(&self, session: SessionId) -> u32 {
        self.sessions.get(&session).map_or(0, |held| held.offers)
    }

    /// The request whose offer waits.
    pub(super) fn offering(&self, session: SessionId) -> Option<ServerKey> {
        self.sessions.get(&session)?.offering
    }

    /// The offer of this request waits no more. Whether it did.
    pub(super) fn withdrawn(&mut self, session: SessionId, by: &ServerKey) -> bool {
        let held = self.sessions.get_mut(&session);
        held.is_some_and(|held| held.offering.take_if(|key| key == by).is_some())
    }

    /// A session that one of its dialogs has left, and one that it still has.
    pub(super) fn poll_left(&mut self) -> Option<(SessionId, Fork)> {
        loop {
            let session = self.left.pop()?;
            if let Some(key) = self.sessions.get(&session).and_then(|held| held.answered.last()) {
                return Some((session, key.fork()));
            }
        }
    }

    fn hold(&mut self, session: SessionId) {
        self.sessions.entry(session).or_default().holders += 1;
    }

    /// Lets go of a session; the last one ends it.
    pub(super) fn release(&mut self, session: SessionId) {
        let Some(held) = self.sessions.get_mut(&session) else { return };
        held.holders -= 1;
        if held.holders == 0 {
            self.sessions.remove(&session);
            self.ended.push(session);
        }
    }

    /// A session whose record changed and that runs on, with its answered dialogs.
    pub(super) fn poll_changed(&mut self) -> Option<(SessionId, Vec<(&DialogKey, &Dialog)>)> {
        let session = loop {
            let session = self.changed.pop()?;
            // Once is enough, and of early dialogs nothing is kept.
            let answered = self.sessions.get(&session).is_some_and(|held| !held.answered.is_empty());
            if answered && !self.changed.contains(&session) {
                break session;
            }
        };
        let keys = &self.sessions.get(&session)?.answered;
        Some((session, keys.iter().filter_map(|key| Some((key, self.table.get(key)?))).collect()))
    }

    /// All records are as they should be.
    pub(super) fn unchanged(&mut self) {
        self.changed.clear();
    }

    /// A session that has ended and must be told so to the media side.
    pub(super) fn poll_ended(&mut self) -> Option<SessionId> {
        self.ended.pop()
    }

    /// When the next dialog may have been idle for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.idle.first().map(|(at, _)| *at)
    }

    /// How many were answered and not ended.
    pub(super) fn confirmed(&self) -> usize {
        self.confirmed
    }

    /// A 2xx was seen. Whether it is the first.
    pub(super) fn confirm(&mut self, key: &DialogKey) -> bool {
        let Some(dialog) = self.table.get_mut(key).filter(|dialog| !dialog.confirmed) else { return false };
        dialog.confirmed = true;
        self.confirmed += 1;
        if let Some(session) = dialog.session {
            self.enter(session, key);
        }
        true
    }

    /// Takes out a dialog that was idle for too long, or not refreshed for longer than a session may last.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        idle: Duration,
        session: Duration,
    ) -> Option<(DialogKey, Dialog)> {
        loop {
            let (at, key) = self.idle.first().filter(|(at, _)| *at <= now)?.clone();
            self.idle.remove(&(at, key.clone()));
            let Some(dialog) = self.table.get_mut(&key) else { continue };
            dialog.due = (dialog.used + idle).min(dialog.refreshed + session);
            if dialog.due > now {
                self.idle.insert((dialog.due, key));
                continue;
            }
            return self.remove(&key).map(|dialog| (key, dialog));
        }
    }
}

impl DialogKey {
    /// The dialog among others that one INVITE made.
    pub(super) fn fork(&self) -> Fork {
        let fold = |sum: u64, octet: &u8| (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        Fork(self.0.iter().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    /// The Call-ID, for events.
    pub(super) fn call_id(&self) -> String {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        shown(&self.0[..end])
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
mod tests {
    use super::*;

    fn dialog(now: Instant, session: SessionId) -> Dialog {
        Dialog {
            phone: InstanceId(1),
            path: None,
            certificate: [0; 32],
            switch: None,
            routes: None,
            contact: None,
            session: Some(session),
            awaits_answer: false,
            confirmed: false,
            used: now,
            refreshed: now,
            due: now + Duration::from_secs(3600),
        }
    }

    #[test]
    fn a_dialog_is_one_from_either_end_and_two_in_a_spiral() {
        let bye = |from, to| {
            let text = format!(
                "BYE sip:a@h SIP/2.0\r\nVia: SIP/2.0/TLS h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag={from}\r\nTo: <sip:b@h>;tag={to}\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n"
            );
            Message::parse(text.into_bytes().into(), &crate::message::Limits::default()).unwrap()
        };
        let (there, back) = (bye(1, 2), bye(2, 1));
        // The phone with tag 1, asking and asked.
        assert_eq!(DialogKey::of(&there, Side::Outside), DialogKey::of(&back, Side::Inside));
        // The same two messages on the leg of the phone with tag 2.
        assert_eq!(DialogKey::of(&there, Side::Inside), DialogKey::of(&back, Side::Outside));
        assert_ne!(DialogKey::of(&there, Side::Outside), DialogKey::of(&there, Side::Inside));
        assert_ne!(DialogKey::new(b"c", b"1", b"2"), DialogKey::new(b"c", b"2", b"1"));
        assert_ne!(DialogKey::new(b"c", b"1", b"2"), DialogKey::new(b"c", b"1", b"3"));
        assert_ne!(DialogKey::new(b"c1", b"1", b"2"), DialogKey::new(b"c", b"11", b"2"));
        assert_eq!(DialogKey::new(b"c@h", b"1", b"2").call_id(), "c@h");
    }

    #[test]
    fn the_last_holder_ends_a_session() {
        let now = Instant::now();
        let mut dialogs = Dialogs::default();
        let session = dialogs.open_session();
        let (one, two) = (DialogKey::new(b"c", b"1", b"2"), DialogKey::new(b"c", b"1", b"3"));
        dialogs.insert(one.clone(), dialog(now, session));
        dialogs.insert(one.clone(), dialog(now, session));
        dialogs.insert(two.clone(), dialog(now, session));
        dialogs.release(session);
        dialogs.remove(&one);
        assert_eq!(dialogs.poll_ended(), None);
        dialogs.remove(&two);
        dialogs.remove(&two);
        assert_eq!(dialogs.poll_ended(), Some(session));
        assert!(dialogs.poll_ended().is_none() && dialogs.sessions.is_empty());
        assert!(dialogs.certificates.is_empty());
    }

    #[test]
    fn an_idle_dialog_is_forgotten_and_a_used_one_is_not() {
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut dialogs = Dialogs::default();
        let session = dialogs.open_session();
        let key = DialogKey::new(b"c", b"1", b"2");
        dialogs.insert(key.clone(), dialog(now, session));
        dialogs.get_mut(&key).unwrap().used = now + hour / 2;
        assert!(dialogs.expire(now + hour, hour, 9 * hour).is_none());
        assert_eq!(dialogs.deadline(), Some(now + hour * 3 / 2));
        assert!(dialogs.expire(now + hour * 3 / 2, hour, 9 * hour).is_some());
        assert_eq!((dialogs.len(), dialogs.deadline()), (0, None));
    }
}
