//! The whole user agent on a layer that somebody else owns: dialogs, calls, single requests.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::time::Instant;

use super::answer::Answer;
use super::callee::Asked;
use super::caller::Inviting;
use super::client::{Client, Done, Outcome};
use super::config::{Config, Credentials};
use super::event::{DialogKey, Ending, Event, Label, Refused};
use super::held::{Held, Kind, Purpose, Way, dial_of};
use super::request::{Request, SentBy};
use crate::dialog::{self, Dialog, Head, Id};
use crate::flow::{FlowId, Peer, Source, Target, Transport};
use crate::message::{Message, Method};
use crate::token::Random;
use crate::transaction::{self, ClientKey, Layer, Received, ServerKey};

/// A user agent that borrows the transaction layer for each call. See the module's text.
pub struct Agent {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) credentials: Option<Box<dyn Credentials + Send>>,
    pub(super) client: Client<Purpose>,
    pub(super) invites: HashMap<ClientKey, Inviting>,
    pub(super) asked: HashMap<ServerKey, Asked>,
    /// Requests that are being answered, by what a merged request would have in common with them (RFC 3261 §8.2.2.2).
    pub(super) merged: HashMap<Vec<u8>, ServerKey>,
    pub(super) repeats: BTreeSet<(Instant, ServerKey)>,
    pub(super) dialogs: HashMap<DialogKey, Held>,
    pub(super) by_id: HashMap<Id, DialogKey>,
    last_dialog: u64,
    pub(super) draining: bool,
    pub(super) events: VecDeque<Event>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("dialogs", &self.dialogs.len()).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent without dialogs. `seed` must come from the operating system in production.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            random: Random::new(seed),
            credentials: None,
            client: Client::new(),
            invites: HashMap::new(),
            asked: HashMap::new(),
            merged: HashMap::new(),
            repeats: BTreeSet::new(),
            dialogs: HashMap::new(),
            by_id: HashMap::new(),
            last_dialog: 0,
            draining: false,
            events: VecDeque::new(),
        }
    }

    /// Answers challenges from now on.
    pub fn set_credentials(&mut self, credentials: Box<dyn Credentials + Send>) {
        self.credentials = Some(credentials);
    }

    /// Answers new INVITEs with 503 from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nothing is under way: no dialog, no request of either side.
    pub fn is_idle(&self) -> bool {
        self.dialogs.is_empty() && self.invites.is_empty() && self.asked.is_empty() && self.client.is_empty()
    }

    /// The dialog's state.
    pub fn dialog(&self, key: DialogKey) -> Option<&Dialog> {
        self.dialogs.get(&key).map(|held| &held.dialog)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Draws a request of ours; see [`Request::new`].
    pub fn draft(
        &mut self,
        method: &str,
        uri: impl AsRef<[u8]>,
        target: Target,
        transport: Transport,
    ) -> Request {
        let face = self.face(transport);
        Request::new(method, uri, &face, target, &mut self.random)
    }

    /// Sends a request outside of any dialog; an INVITE starts one. What comes of it has this label.
    pub fn request(&mut self, now: Instant, layer: &mut Layer, label: Label, request: Request) {
        if request.method == "INVITE" {
            return self.invite(now, layer, label, request, None);
        }
        let purpose = Purpose { label: Some(label), dialog: None, kind: Kind::Plain, again: false };
        self.client.send(now, layer, &mut self.random, request, purpose);
    }

    /// Draws a request within a dialog, for [`send_within`](Self::send_within). It takes the dialog's next CSeq.
    ///
    /// # Errors
    /// [`Refused::NoDialog`].
    pub fn draft_within(&mut self, dialog: DialogKey, method: &str) -> Result<Request, Refused> {
        let held = self.dialogs.get_mut(&dialog).filter(|held| !held.ending).ok_or(Refused::NoDialog)?;
        let (way, head) = (held.next_way(), held.dialog.advance());
        Ok(self.within(way, method, head))
    }

    /// Sends a request within a dialog: INVITE, UPDATE, INFO, REFER, any but BYE, PRACK and ACK, which have orders of
    /// their own.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn send_within(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        label: Label,
        dialog: DialogKey,
        request: Request,
    ) -> Result<(), Refused> {
        let held = self.dialogs.get_mut(&dialog).filter(|held| !held.ending).ok_or(Refused::NoDialog)?;
        let update = request.method == "UPDATE";
        if request.method == "INVITE" {
            // RFC 3261 §14.1: not while another INVITE is in progress in either direction.
            if held.inviting.is_some() || held.invited.is_some() || held.updating || held.updated.is_some() {
                return Err(Refused::Pending);
            }
            self.invite(now, layer, label, request, Some(dialog));
            return Ok(());
        }
        if update && (held.updating || held.updated.is_some()) {
            return Err(Refused::Pending);
        }
        held.updating |= update;
        let kind = if update { Kind::Update } else { Kind::Plain };
        let purpose = Purpose { label: Some(label), dialog: Some(dialog), kind, again: false };
        self.client.send(now, layer, &mut self.random, request, purpose);
        Ok(())
    }

    /// Ends a dialog. A callee's waits until its 2xx is acknowledged (RFC 3261 §15); one that is still early on the callee's
    /// side is ended by answering the INVITE, and this does nothing.
    pub fn bye(&mut self, now: Instant, layer: &mut Layer, dialog: DialogKey) {
        self.end_by_us(now, layer, dialog, Ending::Local);
    }

    pub(super) fn end_by_us(&mut self, now: Instant, layer: &mut Layer, key: DialogKey, why: Ending) {
        let Some(held) = self.dialogs.get_mut(&key) else { return };
        if held.ending {
            return;
        }
        if let Some(invite) = held.invited
            && self.asked.get(&invite).is_some_and(|asked| asked.is_accepted() || !asked.is_within())
        {
            held.bye_due = held.dialog.is_confirmed();
            return;
        }
        held.ending = true;
        // An offer that came with the 2xx is refused by ending the call, but the 2xx wants its ACK all the same.
        let inviting = held.inviting;
        if let Some(inviting) = inviting {
            self.acknowledge_bare(now, layer, inviting, key);
        }
        self.terminate_pending(now, layer, key);
        let Some(held) = self.dialogs.get_mut(&key) else { return };
        let (way, head) = (held.next_way(), held.dialog.advance());
        let request = self.within(way, "BYE", head);
        let purpose = Purpose { label: None, dialog: Some(key), kind: Kind::Bye, again: false };
        self.client.send(now, layer, &mut self.random, request, purpose);
        self.events.push_back(Event::Ended { dialog: key, why });
    }

    /// Takes what the layer made of a message. What is not ours comes back: responses to other requests of the layer's
    /// owner, strays.
    pub fn handle_received(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        source: Source,
        peer: &Peer,
        received: Received,
    ) -> Option<Received> {
        match received {
            Received::Request { key, message } => self.handle_request(now, layer, key, source, peer, message),
            Received::Ack { message } => self.handle_ack(now, layer, &message),
            Received::Cancel { key, invite, message } => {
                self.handle_cancel(now, layer, key, invite, peer, &message);
            }
            Received::Response { key, message } if self.invites.contains_key(&key) => {
                self.invite_answered(now, layer, key, message);
            }
            Received::Response { key, message } if self.client.owns(key) => {
                if let Some(done) = self.client.handle_response(key, &message) {
                    self.done(now, layer, done);
                }
            }
            // The answer to our CANCEL says nothing that the answer to the INVITE doesn't.
            other => return Some(other),
        }
        None
    }

    /// Takes an event of the layer; those of others are ignored.
    pub fn handle_event(&mut self, now: Instant, layer: &mut Layer, event: transaction::Event) {
        if let Some(done) = self.client.handle_event(event) {
            return self.done(now, layer, done);
        }
        match event {
            transaction::Event::ClientTimedOut(key) => self.invite_over(now, layer, key, 408),
            transaction::Event::ClientFailed(key) => self.invite_over(now, layer, key, 503),
            transaction::Event::ClientEnded(key) => self.invite_over(now, layer, key, 502),
            transaction::Event::ServerEnded(key) => self.server_ended(now, layer, key),
        }
    }

    /// Does everything that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, layer: &mut Layer) {
        while let Some(done) = self.client.handle_timeout(now) {
            self.done(now, layer, done);
        }
        while let Some(&(at, key)) = self.repeats.first()
            && at <= now
        {
            self.repeats.remove(&(at, key));
            self.repeat(now, layer, key);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let repeat = self.repeats.first().map(|(at, _)| *at);
        [self.client.poll_timeout(), repeat].into_iter().flatten().min()
    }

    /// A connection is gone. Dialogs that went over it dial their next hop from now on, if that is an address.
    pub fn handle_flow_closed(&mut self, flow: FlowId) {
        for held in self.dialogs.values_mut().filter(|held| held.way.target == Target::Flow(flow)) {
            if let Some(dial) = dial_of(held.dialog.next_hop(), held.way) {
                held.way.target = dial.into();
            }
        }
    }

    /// A request other than INVITE is over.
    fn done(&mut self, now: Instant, layer: &mut Layer, done: Done<Purpose>) {
        let Done { request, mut purpose, outcome } = done;
        if let Outcome::Answered(challenge) = &outcome
            && !purpose.again
            && let Some(request) = self.challenged(challenge, &request, purpose.dialog)
        {
            purpose.again = true;
            self.client.send(now, layer, &mut self.random, request, purpose);
            return;
        }
        let status = outcome.status();
        if let Some(key) = purpose.dialog {
            if purpose.kind == Kind::Bye {
                self.forget(key);
            } else if let Some(held) = self.dialogs.get_mut(&key)
                && purpose.kind == Kind::Update
            {
                held.updating = false;
                if let (200..=299, Outcome::Answered(message)) = (status, &outcome) {
                    held.dialog.refresh_target(message);
                }
            }
        }
        if let Some(label) = purpose.label {
            self.events.push_back(match outcome {
                Outcome::Answered(message) => Event::Response { label, dialog: purpose.dialog, message },
                Outcome::TimedOut | Outcome::Failed => Event::Unanswered { label, status },
            });
        }
        if let (Some(key), 408 | 481) = (purpose.dialog, status) {
            self.lost(now, layer, key);
        }
    }

    /// "If the response for a request within a dialog is a 481 or a 408, the UAC SHOULD terminate the dialog", and so if
    /// there is none (RFC 3261 §12.2.1.2). What is early ends with its INVITE.
    pub(super) fn lost(&mut self, now: Instant, layer: &mut Layer, key: DialogKey) {
        if self.dialogs.get(&key).is_some_and(|held| held.dialog.is_confirmed()) {
            self.end_by_us(now, layer, key, Ending::Lost);
        }
    }

    /// The request anew, if a response is a challenge that can be answered.
    pub(super) fn challenged(
        &mut self,
        challenge: &Message,
        request: &Request,
        dialog: Option<DialogKey>,
    ) -> Option<Request> {
        if !matches!(challenge.status(), Some(401 | 407)) {
            return None;
        }
        let rows = self.credentials.as_mut()?.answer(challenge, request)?;
        let mut request = request.clone().again(&rows);
        if let Some(held) = dialog.and_then(|key| self.dialogs.get_mut(&key)) {
            request.cseq = held.dialog.advance().cseq;
        }
        Some(request)
    }

    /// A request with this head, by the dialog's way.
    pub(super) fn within(&self, way: Way, method: &str, head: Head) -> Request {
        let rows = match method {
            // They may move our Contact (RFC 3261 §12.2.1.1).
            "INVITE" | "UPDATE" => vec![(b"Contact".to_vec(), self.contact(way.transport))],
            _ => Vec::new(),
        };
        Request {
            target: way.target,
            sent_by: self.face(way.transport),
            method: method.to_owned(),
            uri: head.uri,
            from: head.from,
            to: head.to,
            call_id: head.call_id,
            cseq: head.cseq,
            routes: head.routes,
            rows,
            body: None,
            patience: None,
        }
    }

    pub(super) fn face(&self, transport: Transport) -> SentBy {
        let faces = &self.config.faces;
        let face = faces.iter().find(|face| face.transport() == transport).or_else(|| faces.first());
        face.cloned().unwrap_or_else(|| SentBy::new(transport, "anonymous.invalid"))
    }

    /// Our Contact, in angle brackets.
    pub(super) fn contact(&self, transport: Transport) -> Vec<u8> {
        let uri = self.face(transport).uri();
        let uri = match (uri.split_once(':'), self.config.user.as_str()) {
            (Some((scheme, rest)), user) if !user.is_empty() => format!("<{scheme}:{user}@{rest}>"),
            _ => format!("<{uri}>"),
        };
        uri.into_bytes()
    }

    /// Takes a dialog in.
    pub(super) fn hold(&mut self, dialog: Dialog, way: Way) -> DialogKey {
        self.last_dialog += 1;
        let key = DialogKey(self.last_dialog);
        self.by_id.insert(dialog.id().clone(), key);
        let held = Held {
            dialog,
            way,
            ending: false,
            inviting: None,
            invited: None,
            updating: false,
            updated: None,
            received: dialog::Received::default(),
            offered: None,
            bye_due: false,
        };
        self.dialogs.insert(key, held);
        key
    }

    pub(super) fn forget(&mut self, key: DialogKey) -> Option<Held> {
        let held = self.dialogs.remove(&key)?;
        if self.by_id.get(held.dialog.id()) == Some(&key) {
            self.by_id.remove(held.dialog.id());
        }
        Some(held)
    }

    /// A dialog ends without a BYE of ours.
    pub(super) fn end(&mut self, key: DialogKey, why: Ending) {
        let Some(held) = self.forget(key) else { return };
        if !held.ending {
            self.events.push_back(Event::Ended { dialog: key, why });
        }
    }

    /// The method in a shape that outlives the message.
    pub(super) fn allows(&self, method: Method<'_>) -> bool {
        self.config.allow.iter().any(|allowed| allowed.as_bytes() == method.as_bytes())
    }

    /// Answers a request that was handed up; `false` if it wants no answer any more.
    pub fn answer(&mut self, now: Instant, layer: &mut Layer, key: ServerKey, answer: Answer) -> bool {
        self.answer_asked(now, layer, key, answer)
    }
}
