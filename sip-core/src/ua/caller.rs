//! The caller: INVITEs of ours, from the first to the last 2xx (RFC 3261 §13.2, §9.1, RFC 3262 §4).

use std::time::Instant;

use bytes::Bytes;

use super::agent::Agent;
use super::event::{DialogKey, Ending, Event, Label, Refused};
use super::held::{Kind, Purpose, Way};
use super::request::Request;
use crate::dialog::{Dialog, Id, Received};
use crate::flow::{Side, Target};
use crate::header::To;
use crate::message::{Limits, Message, Method, Name, RequestBuilder};
use crate::token::LoopHash;
use crate::transaction::{ClientKey, Layer};

/// An INVITE of ours.
#[derive(Debug)]
pub(super) struct Inviting {
    label: Label,
    request: Request,
    /// As it went out, for dialogs and for the CANCEL.
    sent: Message,
    branch: String,
    /// The dialog that it was sent in.
    within: Option<DialogKey>,
    /// Dialogs that it made.
    made: Vec<DialogKey>,
    /// What was done about each 2xx, by its To tag.
    acks: Vec<(Vec<u8>, Ack)>,
    /// Something came back, so that a CANCEL may go out (RFC 3261 §9.1).
    heard: bool,
    cancel: Cancel,
    /// The owner has had the final answer.
    told: bool,
    /// A challenge was answered.
    again: bool,
}

#[derive(Clone, Debug)]
enum Ack {
    /// The owner has to give an answer to the offer of the 2xx.
    Due(DialogKey),
    /// Sent, to be sent again with each 2xx (RFC 3261 §13.2.2.4).
    Sent(Target, Bytes),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cancel {
    No,
    /// Wanted before anything came back.
    Due,
    Sent,
}

impl Agent {
    pub(super) fn invite(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        label: Label,
        mut request: Request,
        within: Option<DialogKey>,
    ) {
        let contact = self.contact(request.sent_by.transport());
        let mut supported = vec!["100rel".to_owned()];
        supported.extend(self.config.supported.iter().cloned());
        for (name, value) in [
            (Name::Contact, contact),
            (Name::Allow, self.config.allow.join(", ").into_bytes()),
            (Name::Supported, supported.join(", ").into_bytes()),
        ] {
            let name = name.as_str().as_bytes();
            if !request.rows.iter().any(|(have, _)| have.eq_ignore_ascii_case(name)) {
                request.rows.push((name.to_vec(), value));
            }
        }
        self.send_invite(now, layer, label, request, within, false);
    }

    fn send_invite(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        label: Label,
        request: Request,
        within: Option<DialogKey>,
        again: bool,
    ) {
        let branch = self.random.branch(LoopHash::new([]));
        let bytes = request.bytes(&branch);
        // Limits are for peers; what we write ourselves is read as it is.
        let limits = Limits { message: usize::MAX, rows: usize::MAX, ..Limits::default() };
        let Ok(sent) = Message::parse(bytes.clone(), &limits) else {
            return self.events.push_back(Event::Unanswered { label, status: 500 });
        };
        let key = layer.request(now, request.target, &branch, Method::Invite, bytes);
        if let Some(held) = within.and_then(|dialog| self.dialogs.get_mut(&dialog)) {
            held.inviting = Some(key);
        }
        let inviting = Inviting {
            label,
            request,
            sent,
            branch,
            within,
            made: Vec::new(),
            acks: Vec::new(),
            heard: false,
            cancel: Cancel::No,
            told: false,
            again,
        };
        self.invites.insert(key, inviting);
    }

    /// Gives up an INVITE (RFC 3261 §9.1): once the other side has shown that it is there. If a 2xx was faster, its dialog
    /// is acknowledged and ended.
    pub fn cancel(&mut self, now: Instant, layer: &mut Layer, label: Label) {
        for inviting in self.invites.values_mut().filter(|i| i.label == label && !i.told) {
            if inviting.cancel == Cancel::No {
                inviting.cancel = Cancel::Due;
                inviting.send_cancel(now, layer);
            }
        }
    }

    /// Answers the offer of a 2xx (RFC 3261 §13.2.2.4). Does nothing if none waits.
    pub fn acknowledge(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        dialog: DialogKey,
        content_type: &str,
        body: impl Into<Bytes>,
    ) {
        let Some(key) = self.dialogs.get(&dialog).and_then(|held| held.inviting) else { return };
        let due = |ack: &Ack| matches!(ack, Ack::Due(waiting) if *waiting == dialog);
        if self.invites.get(&key).is_some_and(|i| i.acks.iter().any(|(_, ack)| due(ack))) {
            self.send_ack(now, layer, key, dialog, Some((content_type.to_owned(), body.into())));
        }
    }

    /// The ACK that a 2xx gets when the call is ended before its offer was answered.
    pub(super) fn acknowledge_bare(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ClientKey,
        dialog: DialogKey,
    ) {
        let due = |ack: &Ack| matches!(ack, Ack::Due(waiting) if *waiting == dialog);
        if self.invites.get(&key).is_some_and(|i| i.acks.iter().any(|(_, ack)| due(ack))) {
            self.send_ack(now, layer, key, dialog, None);
        }
    }

    /// Answers the offer of a reliable provisional response, in its PRACK (RFC 3262 §5).
    ///
    /// # Errors
    /// [`Refused::NoDialog`], also if no such offer waits.
    pub fn acknowledge_early(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        label: Label,
        dialog: DialogKey,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<(), Refused> {
        let held = self.dialogs.get_mut(&dialog).ok_or(Refused::NoDialog)?;
        let rseq = held.offered.take().ok_or(Refused::NoDialog)?;
        self.send_prack(now, layer, Some(label), dialog, rseq, Some((content_type.to_owned(), body.into())));
        Ok(())
    }

    pub(super) fn invite_answered(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ClientKey,
        message: Message,
    ) {
        let Some(inviting) = self.invites.get_mut(&key) else { return };
        inviting.heard = true;
        inviting.send_cancel(now, layer);
        // A final answer that can't be used leaves the INVITE to its end, which says so.
        if !message.validate().is_empty() {
            return;
        }
        match message.status().unwrap_or_default() {
            ..=100 => {}
            101..=199 => self.invite_progressed(now, layer, key, message),
            200..=299 => self.invite_accepted(now, layer, key, message),
            _ => self.invite_failed(now, layer, key, message),
        }
    }

    fn invite_progressed(&mut self, now: Instant, layer: &mut Layer, key: ClientKey, message: Message) {
        let dialog = self.dialog_of(key, &message);
        let Some(inviting) = self.invites.get(&key) else { return };
        let label = inviting.label;
        if let Some(rseq) = Received::wanted(&message) {
            // It can't be acknowledged without a dialog, and what was acknowledged is not news.
            let Some(dialog) = dialog else { return };
            let offer = inviting.request.body.is_none() && !message.body().is_empty();
            let Some(held) = self.dialogs.get_mut(&dialog) else { return };
            if !held.received.is_next(rseq) {
                return;
            }
            if offer {
                held.offered = Some(rseq);
            } else {
                self.send_prack(now, layer, None, dialog, rseq, None);
            }
        }
        self.events.push_back(Event::Response { label, dialog, message });
    }

    fn send_prack(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        label: Option<Label>,
        dialog: DialogKey,
        rseq: u32,
        body: Option<(String, Bytes)>,
    ) {
        let Some(held) = self.dialogs.get_mut(&dialog) else { return };
        let Some(cseq) = held.inviting.and_then(|key| self.invites.get(&key)).map(|i| i.request.cseq) else {
            return;
        };
        let (way, head) = (held.next_way(), held.dialog.advance());
        let mut request = self.within(way, "PRACK", head).header(Name::RAck, format!("{rseq} {cseq} INVITE"));
        request.body = body;
        let purpose = Purpose { label, dialog: Some(dialog), kind: Kind::Plain, again: false };
        self.client.send(now, layer, &mut self.random, request, purpose);
    }

    fn invite_accepted(&mut self, now: Instant, layer: &mut Layer, key: ClientKey, message: Message) {
        let tag = tag_of(&message);
        let Some(inviting) = self.invites.get_mut(&key) else { return };
        match inviting.acks.iter().find(|(of, _)| *of == tag) {
            // "The ACK MUST be passed to the client transport every time a retransmission of the 2xx final response that
            // triggered the ACK arrives" (RFC 3261 §13.2.2.4).
            Some((_, Ack::Sent(target, bytes))) => {
                layer.request(now, *target, "", Method::Ack, bytes.clone());
                return;
            }
            Some((_, Ack::Due(_))) => return,
            None => {}
        }
        let Some(dialog) = self.dialog_of(key, &message) else { return };
        let Some(inviting) = self.invites.get_mut(&key) else { return };
        let Some(held) = self.dialogs.get_mut(&dialog) else { return };
        if held.dialog.confirm_by(&message).is_err() {
            return;
        }
        let first = inviting.acks.is_empty();
        let keep = (first || self.config.keep_all_forks) && inviting.cancel == Cancel::No;
        let offer = inviting.request.body.is_none() && !message.body().is_empty();
        inviting.acks.push((tag, Ack::Due(dialog)));
        let label = inviting.label;
        if first || self.config.keep_all_forks {
            inviting.told = true;
            self.events.push_back(Event::Response { label, dialog: Some(dialog), message });
        }
        if keep && offer {
            return;
        }
        self.send_ack(now, layer, key, dialog, None);
        if !keep {
            self.end_by_us(now, layer, dialog, Ending::Local);
        }
    }

    fn send_ack(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ClientKey,
        dialog: DialogKey,
        body: Option<(String, Bytes)>,
    ) {
        let Some(inviting) = self.invites.get(&key) else { return };
        let Some(held) = self.dialogs.get_mut(&dialog) else { return };
        held.inviting = None;
        let (way, head) = (held.next_way(), held.dialog.ack(inviting.request.cseq));
        // "The ACK MUST contain the same credentials as the INVITE" (RFC 3261 §13.2.2.4).
        let credentials: Vec<_> = inviting
            .request
            .rows
            .iter()
            .filter(|(name, _)| {
                [Name::Authorization, Name::ProxyAuthorization]
                    .iter()
                    .any(|c| name.eq_ignore_ascii_case(c.as_str().as_bytes()))
            })
            .cloned()
            .collect();
        let mut request = self.within(way, "ACK", head);
        request.rows.extend(credentials);
        request.body = body;
        let branch = self.random.branch(LoopHash::new([]));
        let bytes = request.bytes(&branch);
        layer.request(now, request.target, &branch, Method::Ack, bytes.clone());
        let Some(inviting) = self.invites.get_mut(&key) else { return };
        for (_, ack) in &mut inviting.acks {
            if matches!(ack, Ack::Due(waiting) if *waiting == dialog) {
                *ack = Ack::Sent(request.target, bytes.clone());
            }
        }
    }

    fn invite_failed(&mut self, now: Instant, layer: &mut Layer, key: ClientKey, message: Message) {
        let Some(inviting) = self.invites.remove(&key) else { return };
        self.unmake(key, &inviting);
        if !inviting.again
            && inviting.cancel == Cancel::No
            && let Some(request) = self.challenged(&message, &inviting.request, inviting.within)
        {
            return self.send_invite(now, layer, inviting.label, request, inviting.within, true);
        }
        let status = message.status();
        self.events.push_back(Event::Response { label: inviting.label, dialog: inviting.within, message });
        if let (Some(dialog), Some(408 | 481)) = (inviting.within, status) {
            self.lost(now, layer, dialog);
        }
    }

    /// The transaction of an INVITE is over, and this is what it counts as if nothing came before.
    pub(super) fn invite_over(&mut self, now: Instant, layer: &mut Layer, key: ClientKey, status: u16) {
        let Some(inviting) = self.invites.remove(&key) else { return };
        // A 2xx whose offer was never answered: its callee gives up about now, and so do we.
        let unanswered: Vec<DialogKey> = inviting
            .acks
            .iter()
            .filter_map(|(_, ack)| if let Ack::Due(dialog) = ack { Some(*dialog) } else { None })
            .collect();
        self.unmake(key, &inviting);
        if !inviting.told {
            self.events.push_back(Event::Unanswered { label: inviting.label, status });
            if let (Some(dialog), 408) = (inviting.within, status) {
                self.lost(now, layer, dialog);
            }
        }
        for dialog in unanswered {
            self.end_by_us(now, layer, dialog, Ending::Local);
        }
    }

    /// Early dialogs end with their INVITE; one that it was sent in may have another.
    fn unmake(&mut self, key: ClientKey, inviting: &Inviting) {
        for dialog in inviting.made.iter().chain(&inviting.within) {
            let Some(held) = self.dialogs.get_mut(dialog).filter(|held| held.inviting == Some(key)) else {
                continue;
            };
            held.inviting = None;
            if !held.dialog.is_confirmed() {
                self.end(*dialog, Ending::Unanswered);
            }
        }
    }

    /// The dialog that a response to an INVITE belongs to; a new one if its To tag is new.
    fn dialog_of(&mut self, key: ClientKey, message: &Message) -> Option<DialogKey> {
        let inviting = self.invites.get(&key)?;
        if inviting.within.is_some() {
            return inviting.within.filter(|dialog| self.dialogs.contains_key(dialog));
        }
        let id = Id::of_response(message).filter(|id| {
            // RFC 3261 §12.1.2: without a tag a 2xx makes a dialog all the same, for the sake of old peers; a provisional
            // response does not.
            !id.remote_tag.is_empty() || message.status().is_some_and(|status| status >= 200)
        })?;
        if let Some(dialog) = self.by_id.get(&id) {
            return inviting.made.contains(dialog).then_some(*dialog);
        }
        // The 2xx of a fork that comes late must be ended properly; others have no claim.
        if inviting.made.len() >= self.config.forks && message.status().is_some_and(|status| status < 200) {
            return None;
        }
        let mut dialog = Dialog::of_response(&inviting.sent, message).ok()?;
        // A BYE or PRACK that was sent before a challenge was answered has taken no number here.
        debug_assert_eq!(dialog.id(), &id);
        if message.status().is_some_and(|status| status >= 200) {
            dialog.confirm();
        }
        let side = match inviting.request.target {
            Target::Dial(dial) => dial.side,
            Target::Flow(_) | Target::Datagram { .. } => Side::Inside,
        };
        let way =
            Way { target: inviting.request.target, transport: inviting.request.sent_by.transport(), side };
        let dialog = self.hold(dialog, way);
        if let Some(held) = self.dialogs.get_mut(&dialog) {
            held.inviting = Some(key);
        }
        self.invites.get_mut(&key)?.made.push(dialog);
        Some(dialog)
    }
}

impl Inviting {
    /// "If no provisional response has been received, the CANCEL request MUST NOT be sent" (RFC 3261 §9.1).
    fn send_cancel(&mut self, now: Instant, layer: &mut Layer) {
        if self.cancel != Cancel::Due || !self.heard || self.told {
            return;
        }
        self.cancel = Cancel::Sent;
        if let Some(cancel) = RequestBuilder::cancel(&self.sent) {
            layer.request(now, self.request.target, &self.branch, Method::Cancel, cancel.build());
        }
    }
}

fn tag_of(message: &Message) -> Vec<u8> {
    match message.header::<To>() {
        Some(Ok(to)) => to.tag().unwrap_or_default().to_vec(),
        _ => Vec::new(),
    }
}
