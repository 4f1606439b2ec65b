//! The callee: requests that come in and the answers to them (RFC 3261 §8.2, §12.2.2, §13.3, §9.2, RFC 3262 §3).

use std::net::SocketAddr;
use std::time::Instant;

use super::agent::Agent;
use super::answer::{Answer, Repeat};
use super::event::{DialogKey, Ending, Event};
use super::held::{Held, Way};
use crate::dialog::{self, Acknowledged, Dialog, Id, Misfit, Sent};
use crate::flow::{Peer, Source};
use crate::header::{CSeq, From, Require, To};
use crate::message::{Message, Method, Name, ResponseBuilder};
use crate::transaction::{Layer, ServerKey};

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) message: Message,
    pub(super) way: Way,
    pub(super) remote: SocketAddr,
    pub(super) dialog: Option<DialogKey>,
    /// The To tag of all our answers to it.
    pub(super) tag: String,
    merged: Option<Vec<u8>>,
    /// Only for INVITE.
    pub(super) invited: Option<Invited>,
}

#[derive(Debug)]
pub(super) struct Invited {
    /// It was sent within a dialog.
    pub(super) again: bool,
    pub(super) cseq: u32,
    pub(super) sent: Sent<Answer>,
    pub(super) repeat: Option<Repeat>,
    pub(super) accepted: bool,
}

/// What a request gets at once.
type Refusal = (u16, &'static str, Option<(Name, Vec<u8>)>);

impl Agent {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ServerKey,
        source: Source,
        peer: &Peer,
        message: Message,
    ) {
        if let Some(finding) = message.validate().first() {
            if let Some(answer) = message.refuse(finding) {
                let answer = answer.to_tag(&self.random.tag()).source(peer.remote).build();
                layer.respond(now, &key, finding.status, answer);
            }
            return;
        }
        let dialog = Id::of_request(&message).map(|id| self.by_id.get(&id).copied());
        let way = Way { target: source.into(), transport: peer.transport, side: peer.side };
        let tag = match dialog.flatten().and_then(|dialog| self.dialogs.get(&dialog)) {
            Some(held) => String::from_utf8_lossy(&held.dialog.id().local_tag).into_owned(),
            None => self.random.tag(),
        };
        let merged = if dialog.is_none() { merged_key(&message) } else { None };
        let asked =
            Asked { message, way, remote: peer.remote, dialog: dialog.flatten(), tag, merged, invited: None };
        let refusal = self.judge(&asked, dialog);
        self.asked.insert(key, asked);
        if let Err((status, reason, row)) = refusal {
            let mut answer = Answer::new(status, reason);
            if let Some((name, value)) = row {
                answer = answer.header(name, value);
            }
            self.answer_asked(now, layer, key, answer);
            return;
        }
        if let Some(merged) = self.asked.get(&key).and_then(|asked| asked.merged.clone()) {
            self.merged.insert(merged, key);
        }
        match dialog.flatten() {
            Some(dialog) => self.asked_within(now, layer, key, dialog),
            None => self.asked_outside(now, layer, key),
        }
    }

    /// RFC 3261 §8.2.1 to §8.2.3.
    fn judge(&self, asked: &Asked, dialog: Option<Option<DialogKey>>) -> Result<(), Refusal> {
        let method = asked.message.method().unwrap_or(Method::Other(b""));
        if !self.allows(method) {
            let allow = self.config.allow.join(", ").into_bytes();
            return Err((405, "Method Not Allowed", Some((Name::Allow, allow))));
        }
        if dialog == Some(None) || (dialog.is_none() && dialog::needs_dialog(method)) {
            return Err((481, "Call/Transaction Does Not Exist", None));
        }
        // RFC 3261 §8.2.2.2: the same request by another way.
        if asked.merged.as_ref().is_some_and(|merged| self.merged.contains_key(merged)) {
            return Err((482, "Loop Detected", None));
        }
        let understood = |option: &[u8]| {
            option.eq_ignore_ascii_case(b"100rel")
                || self.config.supported.iter().any(|s| option.eq_ignore_ascii_case(s.as_bytes()))
        };
        let unknown: Vec<&[u8]> =
            asked.message.headers::<Require>().flatten().filter(|o| !understood(o)).collect();
        if !unknown.is_empty() {
            return Err((420, "Bad Extension", Some((Name::Unsupported, unknown.join(&b", "[..])))));
        }
        Ok(())
    }

    /// A request that starts a dialog, or belongs to none.
    fn asked_outside(&mut self, now: Instant, layer: &mut Layer, key: ServerKey) {
        let Some(asked) = self.asked.get(&key) else { return };
        if asked.message.method() != Some(Method::Invite) {
            let message = asked.message.clone();
            return self.events.push_back(Event::Request { key, dialog: None, message });
        }
        let busy = self.draining || self.dialogs.len() >= self.config.dialogs;
        let dialog = Dialog::of_request(&asked.message, &asked.tag);
        let (dialog, answer) = match dialog {
            Ok(dialog) if !busy => (dialog, None),
            Ok(dialog) => {
                (dialog, Some(Answer::new(503, "Service Unavailable").header(Name::RetryAfter, "10")))
            }
            Err(_) => {
                self.answer_asked(now, layer, key, Answer::new(400, "Bad Request (Contact missing)"));
                return;
            }
        };
        if let Some(answer) = answer {
            self.answer_asked(now, layer, key, answer);
            return;
        }
        let (way, message) = (asked.way, asked.message.clone());
        let dialog = self.hold(dialog, way);
        self.invited(key, dialog, false);
        self.events.push_back(Event::Invite { key, dialog, message });
    }

    fn invited(&mut self, key: ServerKey, dialog: DialogKey, again: bool) {
        let first = (self.random.number() >> 34) as u32;
        if let Some(held) = self.dialogs.get_mut(&dialog) {
            held.invited = Some(key);
        }
        let Some(asked) = self.asked.get_mut(&key) else { return };
        asked.dialog = Some(dialog);
        let cseq = cseq_of(&asked.message);
        asked.invited = Some(Invited { again, cseq, sent: Sent::new(first), repeat: None, accepted: false });
    }

    /// A request within a dialog (RFC 3261 §12.2.2).
    fn asked_within(&mut self, now: Instant, layer: &mut Layer, key: ServerKey, dialog: DialogKey) {
        let Some(asked) = self.asked.get(&key) else { return };
        let Some(held) = self.dialogs.get_mut(&dialog) else { return };
        let method = asked.message.method().and_then(|method| method.known());
        let refused = match held.dialog.check(&asked.message) {
            Err(Misfit::OutOfOrder) => Some(Answer::new(500, "CSeq Out of Order")),
            Err(Misfit::Field(_)) => Some(Answer::new(400, "Bad Request (CSeq)")),
            Ok(()) if held.ending && method != Some(Method::Bye) => {
                Some(Answer::new(481, "Call/Transaction Does Not Exist"))
            }
            Ok(()) => held.glare(method, self.random.number()),
        };
        if let Some(answer) = refused {
            self.answer_asked(now, layer, key, answer);
            return;
        }
        if method == Some(Method::Update) {
            held.updated = Some(key);
        }
        let message = asked.message.clone();
        match method {
            Some(Method::Bye) => return self.hung_up(now, layer, key, dialog),
            Some(Method::Prack) if !self.pracked(now, layer, key, dialog, &message) => return,
            Some(Method::Invite) => self.invited(key, dialog, true),
            _ => {}
        }
        self.events.push_back(Event::Request { key, dialog: Some(dialog), message });
    }

    /// The other side's BYE. Ours may be on its way: then both are answered, and the dialog ends once.
    fn hung_up(&mut self, now: Instant, layer: &mut Layer, key: ServerKey, dialog: DialogKey) {
        self.answer_asked(now, layer, key, Answer::new(200, "OK"));
        let Some(held) = self.dialogs.get(&dialog) else { return };
        if held.ending {
            return;
        }
        let (invited, inviting) = (held.invited, held.inviting);
        self.terminate_pending(now, layer, dialog);
        // Its 2xx needs no ACK any more.
        if let Some(invited) = invited {
            self.drop_asked(invited);
        }
        if let Some(inviting) = inviting {
            self.acknowledge_bare(now, layer, inviting, dialog);
        }
        self.end(dialog, Ending::Remote);
    }

    /// "The UAS MUST still respond to any pending requests received for that dialog", best with 487 (RFC 3261 §15.1.2).
    pub(super) fn terminate_pending(&mut self, now: Instant, layer: &mut Layer, dialog: DialogKey) {
        let Some(held) = self.dialogs.get(&dialog) else { return };
        for pending in held.invited.into_iter().chain(held.updated).collect::<Vec<_>>() {
            if self.asked.get(&pending).is_some_and(|asked| !asked.is_accepted()) {
                self.answer_asked(now, layer, pending, Answer::new(487, "Request Terminated"));
                self.events.push_back(Event::Cancelled { key: pending });
            }
        }
    }

    /// A PRACK. Whether the owner has to answer it: one with a body may carry an offer or answer.
    fn pracked(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ServerKey,
        dialog: DialogKey,
        prack: &Message,
    ) -> bool {
        let invite = self.dialogs.get(&dialog).and_then(|held| held.invited);
        let acknowledged = match invite.and_then(|invite| self.invited_mut(invite)) {
            Some(invited) => invited.sent.acknowledge(prack, invited.cseq),
            None => Acknowledged::Unknown,
        };
        let Acknowledged::Next(next) = acknowledged else {
            self.answer_asked(now, layer, key, Answer::new(481, "No Such Response"));
            return false;
        };
        let answered = prack.body().is_empty();
        if answered {
            self.answer_asked(now, layer, key, Answer::new(200, "OK"));
        }
        if let Some(invite) = invite {
            self.stop_repeating(invite);
            if let Some(next) = next {
                self.answer_asked(now, layer, invite, next);
            }
        }
        !answered
    }

    pub(super) fn invited_mut(&mut self, key: ServerKey) -> Option<&mut Invited> {
        self.asked.get_mut(&key)?.invited.as_mut()
    }

    fn stop_repeating(&mut self, key: ServerKey) {
        if let Some(repeat) = self.invited_mut(key).and_then(|invited| invited.repeat.take()) {
            self.repeats.remove(&(repeat.next, key));
        }
    }

    pub(super) fn handle_ack(&mut self, now: Instant, layer: &mut Layer, message: &Message) {
        let Some(dialog) = Id::of_request(message).and_then(|id| self.by_id.get(&id).copied()) else {
            return;
        };
        let Some(held) = self.dialogs.get_mut(&dialog) else { return };
        let Some(invite) = held.invited else { return };
        let fits = self
            .asked
            .get(&invite)
            .and_then(|asked| asked.invited.as_ref())
            .is_some_and(|invited| invited.accepted && invited.cseq == cseq_of(message));
        if !fits {
            return;
        }
        held.invited = None;
        let bye_due = std::mem::take(&mut held.bye_due);
        self.drop_asked(invite);
        self.events.push_back(Event::Acknowledged { dialog, message: message.clone() });
        if bye_due {
            self.bye(now, layer, dialog);
        }
    }

    pub(super) fn handle_cancel(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ServerKey,
        invite: Option<ServerKey>,
        peer: &Peer,
        message: &Message,
    ) {
        let asked = invite.and_then(|invite| self.asked.get(&invite).map(|asked| (invite, asked)));
        let tag = asked.map_or_else(|| self.random.tag(), |(_, asked)| asked.tag.clone());
        // One that was answered finds its transaction too (RFC 3261 §9.2).
        let (status, reason) = match invite {
            Some(_) => (200, "OK"),
            None => (481, "Call/Transaction Does Not Exist"),
        };
        let answer = ResponseBuilder::new(message, status, reason).to_tag(&tag).source(peer.remote);
        layer.respond(now, &key, status, answer.build());
        let pending =
            invite.filter(|invite| self.asked.get(invite).is_some_and(|asked| !asked.is_accepted()));
        if let Some(invite) = pending {
            self.answer_asked(now, layer, invite, Answer::new(487, "Request Terminated"));
            self.events.push_back(Event::Cancelled { key: invite });
        }
    }

    /// The layer has let a transaction of the other side go.
    pub(super) fn server_ended(&mut self, now: Instant, layer: &mut Layer, key: ServerKey) {
        let Some(asked) = self.asked.get(&key) else { return };
        if asked.is_accepted() {
            return self.unacknowledged(now, layer, key);
        }
        if let Some(held) = asked.dialog.and_then(|dialog| self.dialogs.get_mut(&dialog))
            && held.updated == Some(key)
        {
            held.updated = None;
        }
        self.events.push_back(Event::Cancelled { key });
        self.rejected(key);
    }

    pub(super) fn drop_asked(&mut self, key: ServerKey) -> Option<Asked> {
        self.stop_repeating(key);
        let asked = self.asked.remove(&key)?;
        if let Some(merged) = &asked.merged
            && self.merged.get(merged) == Some(&key)
        {
            self.merged.remove(merged);
        }
        Some(asked)
    }
}

impl Held {
    /// What an offer meets that another is in the way of (RFC 3261 §14.2, RFC 3311 §5.2).
    fn glare(&self, method: Option<Method<'_>>, random: u64) -> Option<Answer> {
        let update = match method {
            Some(Method::Invite) => false,
            Some(Method::Update) => true,
            _ => return None,
        };
        let ours = self.updating || (self.inviting.is_some() && (!update || self.dialog.is_confirmed()));
        let theirs = self.updated.is_some() || (self.invited.is_some() && !update);
        if theirs {
            // "with a randomly chosen value of between 0 and 10 seconds" (RFC 3261 §14.2).
            let after = (random % 11).to_string();
            return Some(Answer::new(500, "Another Request Is Pending").header(Name::RetryAfter, after));
        }
        ours.then(|| Answer::new(491, "Request Pending"))
    }
}

impl Asked {
    /// An INVITE that was sent within a dialog.
    pub(super) fn is_within(&self) -> bool {
        self.invited.as_ref().is_some_and(|invited| invited.again)
    }

    /// It was answered with a 2xx.
    pub(super) fn is_accepted(&self) -> bool {
        self.invited.as_ref().is_some_and(|invited| invited.accepted)
    }
}

fn cseq_of(message: &Message) -> u32 {
    message.header::<CSeq>().and_then(Result::ok).map_or(0, |cseq| cseq.number)
}

/// "The From tag, Call-ID, and CSeq" (RFC 3261 §8.2.2.2) of a request without To tag.
fn merged_key(message: &Message) -> Option<Vec<u8>> {
    if message.header::<To>()?.ok()?.tag().is_some() {
        return None;
    }
    let from = message.header::<From>()?.ok()?;
    Some([from.tag().unwrap_or_default(), message.raw(Name::CallId)?, message.raw(Name::CSeq)?].join(&b'\n'))
}
