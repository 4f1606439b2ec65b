//! Answers on their way back (RFC 3261 §16.7): the best one, rewritten for whoever asked.

use std::time::Instant;

use bytes::Bytes;

use super::Edge;
use super::dialogs::{Dialog, DialogKey};
use super::event::{DropCause, Event, Reason, Why};
use super::exchange::{Answer, End, Exchange, Hop, Refusal};
use super::failover::unreachable_switch;
use super::offer::described;
use super::redirect::Redirection;
use super::register::user_of;
use crate::flow::{Peer, Side};
use crate::header::{Contact, From};
use crate::message::{Message, Method, Name};
use crate::proxy::context::Action;
use crate::transaction::ClientKey;

/// The most early dialogs of one INVITE that are remembered; nobody forks wider, but somebody may send many tags.
const EARLY: usize = 64;

impl Edge {
    /// A response to one of our branches.
    pub(super) fn response(&mut self, now: Instant, client: ClientKey, message: Message, peer: &Peer) {
        let Some((key, index)) = self.clients.get(&client).copied() else {
            if let Some(done) = self.errands.handle_response(client, &message) {
                self.errand_done(now, done);
            } else if let Some(done) = self.alive.asked.handle_response(client, &message) {
                self.alive_done(&done);
            }
            return;
        };
        let Some(mut exchange) = self.exchanges.remove(&key) else { return };
        let status = message.status().unwrap_or_default();
        let sound = message.validate().is_empty() && !message.has_controls();
        // RFC 3263 §4.3. The 503 is what is answered if nobody else does better.
        if status == 503 {
            self.fail_over(now, &mut exchange, index, Why::Unavailable);
        }
        if status == 420 && sound && self.retry_without_path(now, &mut exchange, index) {
            self.clients.remove(&client);
            return self.park(exchange);
        }
        if status == 488 && sound && self.offered_again(now, &mut exchange, index) {
            return self.park(exchange);
        }
        let actions = if sound {
            let redirection = match status {
                300..=399 => self.redirected(now, &mut exchange, index, message),
                _ => Redirection::Passes(message),
            };
            match redirection {
                Redirection::Passes(message) => {
                    let answer = Answer::Received(message, peer.remote.ip());
                    exchange.context.handle_answer(now, index, status, answer)
                }
                Redirection::Loops(answer) => exchange.context.handle_answer(now, index, 482, answer),
                Redirection::Followed => Vec::new(),
            }
        } else {
            self.drop_message(peer, DropCause::Unusable);
            // A final answer that can't be used is one all the same; waiting for another would be in vain.
            let bad = Answer::Own(502, "Bad Gateway", Reason::Unforwardable);
            if status < 200 { Vec::new() } else { exchange.context.handle_answer(now, index, 502, bad) }
        };
        self.settle(now, &mut exchange, actions);
        // What is left of the transaction absorbs retransmissions (timer K, RFC 3261 §17.1.2.2) and needs nothing of ours: over
        // UDP each exchange would be kept for five seconds more.
        if status >= 200
            && !exchange.is_invite()
            && let Some(branch) = exchange.branches.get_mut(index)
        {
            branch.over = true;
            self.clients.remove(&client);
        }
        self.park(exchange);
    }

    /// A client transaction is over.
    pub(super) fn client_over(&mut self, now: Instant, client: ClientKey, end: End) {
        let Some((key, index)) = self.clients.remove(&client) else { return };
        let Some(mut exchange) = self.exchanges.remove(&key) else { return };
        let phone = exchange.branches.get(index).map_or(exchange.phone, |b| b.way.phone);
        let asks_phone =
            exchange.branches.get(index).is_some_and(|b| matches!(b.way.hop, Hop::Phone(..) | Hop::Shard(_)));
        match end {
            End::Answered => {
                if let Some(branch) = exchange.branches.get_mut(index) {
                    branch.over = true;
                }
            }
            End::TimedOut => {
                self.switch_silent(now, &exchange, index);
                self.fail_over(now, &mut exchange, index, Why::Timeout);
                let answer = Answer::Own(408, "Request Timeout", Reason::Unreachable);
                self.fail_branch(now, &mut exchange, index, answer);
            }
            End::Failed if asks_phone && self.next_flow(&mut exchange, index) => {
                self.send_branch(now, &mut exchange, index);
            }
            End::Failed if asks_phone => {
                let gone = self.gone(phone);
                let phrase = if gone.status == 430 { "Flow Failed" } else { "Temporarily Unavailable" };
                self.fail_branch(
                    now,
                    &mut exchange,
                    index,
                    Answer::Own(gone.status, phrase, Reason::PhoneGone),
                );
            }
            End::Failed => {
                self.switch_lost(&exchange, index);
                self.fail_over(now, &mut exchange, index, Why::Unreachable);
                self.fail_branch(now, &mut exchange, index, unreachable_switch());
            }
        }
        self.park(exchange);
    }

    /// Does what the response context wants.
    pub(super) fn settle(&mut self, now: Instant, exchange: &mut Exchange, actions: Vec<Action<Answer>>) {
        for action in actions {
            match action {
                Action::Cancel(index) => self.cancel_branch(now, exchange, index),
                Action::Forward(index, answer) | Action::Conclude(index, answer) => match answer {
                    Answer::Received(message, from) => self.pass_on(now, exchange, index, &message, from),
                    Answer::Own(status, phrase, reason) => {
                        self.conclude(now, exchange, status, phrase, reason)
                    }
                },
            }
        }
    }

    /// Our own final answer to a request that got none.
    pub(super) fn conclude(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        status: u16,
        phrase: &str,
        reason: Reason,
    ) {
        let refusal = match status {
            503 => self.busy(&exchange.incoming, phrase, reason),
            _ => Refusal::new(status, phrase, reason),
        };
        let mut phone = self.phone(exchange.phone);
        if let Some(registration) = &exchange.registration {
            phone.tag.clone_from(&registration.record.tag);
            phone.user.clone_from(&registration.record.user);
        }
        self.refuse(now, &exchange.incoming, &refusal.about(phone));
        for branch in 0..exchange.branches.len() {
            self.release(exchange, branch);
        }
        self.concluded(now, exchange, status);
    }

    fn pass_on(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        message: &Message,
        from: std::net::IpAddr,
    ) {
        let status = message.status().unwrap_or_default();
        if let Some((seen, written)) = exchange.branches.get(index).and_then(|b| b.repeated.as_ref())
            && seen == message.bytes()
        {
            let written = written.clone();
            return self.layer.respond(now, &exchange.key, status, written);
        }
        if exchange.branches.get(index).is_some_and(|b| matches!(b.way.hop, Hop::Shard(_))) {
            // Dialog and audio are on the shard of the phone.
            return self.pass_across(now, exchange, index, message);
        }
        if (200..300).contains(&status) {
            self.accepted(now, exchange, index, message);
        }
        if exchange.is_invite() && exchange.dialog.is_none() && (101..300).contains(&status) {
            self.enter_dialog(now, exchange, index, message, status >= 200);
        }
        let body = match self.answer_body(now, exchange, index, message, from) {
            Ok(body) => body,
            Err(refusal) => {
                let (refused, phrase) = refusal.status();
                self.tell(Event::MediaRefused { call_id: exchange.incoming.call_id(), status: refused });
                if status >= 200 {
                    if exchange.is_invite() {
                        self.hang_up(now, exchange, index, message);
                    }
                    return self.conclude(now, exchange, refused, phrase, Reason::Media);
                }
                // A provisional answer still says that it rings.
                Some(Bytes::new())
            }
        };
        if status >= 200 && exchange.is_invite() {
            self.confirm_fork(now, exchange, index, message);
        }
        if exchange.incoming.peer.side == Side::Inside {
            let phone = exchange.branches.get(index).map_or(exchange.phone, |b| b.way.phone);
            self.hand_out(now, phone, message);
        }
        match self.write_response(exchange, index, message, body.as_deref()) {
            Ok(bytes) => self.send_answer(now, exchange, index, message, bytes),
            Err(_) if status >= 200 => {
                if exchange.is_invite() && status < 300 {
                    self.hang_up(now, exchange, index, message);
                }
                self.conclude(now, exchange, 502, "Bad Gateway", Reason::Unforwardable);
            }
            Err(_) => {}
        }
    }

    pub(super) fn send_answer(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        message: &Message,
        bytes: Bytes,
    ) {
        let status = message.status().unwrap_or_default();
        if exchange.incoming.peer.side == Side::Outside && !self.is_standing(&exchange.incoming) {
            self.drop_message(&exchange.incoming.peer.clone(), DropCause::PhoneGone);
        }
        if exchange.is_invite()
            && (200..300).contains(&status)
            && let Some(branch) = exchange.branches.get_mut(index)
        {
            branch.repeated = Some((message.bytes().clone(), bytes.clone()));
        }
        if (200..300).contains(&status) && exchange.registration.is_some() {
            self.remember_refresh(now, exchange, message, &bytes);
        }
        self.layer.respond(now, &exchange.key, status, bytes);
        if status >= 200 {
            self.release(exchange, index);
            self.concluded(now, exchange, status);
            if exchange.incoming.peer.side == Side::Outside {
                let stale = matches!(status, 401 | 407) && blames_the_nonce(message);
                self.learn(now, &exchange.incoming, status, stale);
            }
        }
    }

    /// What a 2xx changes: registrations, learnt users.
    fn accepted(&mut self, now: Instant, exchange: &Exchange, index: usize, message: &Message) {
        if exchange.registration.is_some() {
            return self.commit(now, exchange, index, message);
        }
        let request = &exchange.incoming.message;
        let from_phone = exchange.incoming.peer.side == Side::Outside;
        if let Some(key) = &exchange.dialog {
            // A target refresh (RFC 3261 §12.2): the phone's Contact may be another one now.
            let refreshes = matches!(exchange.incoming.method(), Method::Invite | Method::Update);
            let bearer = if from_phone { request } else { message };
            if refreshes && let Some(dialog) = self.dialogs.get_mut(key) {
                dialog.refreshed = now;
            }
            if refreshes
                && let Some(contact) = remote_target(bearer)
                && let Some(dialog) = self.dialogs.get_mut(key)
            {
                dialog.contact = Some(contact.to_vec());
            }
            if refreshes {
                self.dialogs.touch(key);
            }
        } else if from_phone {
            // SIP-18: the users that the PBX accepts from a phone.
            let users = [user_of(request.header::<From>()), user_of(request.header::<Contact>())];
            for user in users.into_iter().flatten() {
                self.bindings.learn(now, exchange.phone, &user);
            }
        }
    }

    /// What a final answer ends.
    fn concluded(&mut self, now: Instant, exchange: &mut Exchange, status: u16) {
        self.pending.settled(&exchange.key);
        self.withdraw(now, exchange);
        if status >= 300 {
            self.give_up(exchange, status);
        }
        if exchange.is_invite() && exchange.dialog.is_none() {
            if status >= 300 {
                self.forget_early(exchange);
            }
            return;
        }
        // The call is over whatever was answered, but for a challenge: nobody sends its BYE twice.
        if exchange.incoming.method() == Method::Bye
            && !matches!(status, 401 | 407)
            && let Some(key) = exchange.dialog.clone()
        {
            self.end_dialog(&key, exchange.incoming.peer.side);
            self.dialogs.gone.note(now, key);
        }
        // "If the response for a request within a dialog is a 481 [...] the UAC SHOULD terminate the dialog" (RFC 3261
        // §12.2.1.2), without a BYE that we would see: the call is one that ended while we did not look. Of other methods a 481
        // may speak of a subscription or a transaction.
        if status == 481
            && matches!(exchange.incoming.method(), Method::Invite | Method::Update)
            && let Some(key) = exchange.dialog.clone()
        {
            self.end_dialog(&key, exchange.incoming.peer.side.opposite());
        }
    }

    pub(super) fn end_dialog(&mut self, key: &DialogKey, by: Side) {
        if let Some(dialog) = self.dialogs.remove(key)
            && dialog.confirmed
        {
            let (phone, session) = (dialog.phone, dialog.session);
            self.tell(Event::CallEnded { call_id: key.call_id(), phone, by: Some(by), session });
        }
    }

    /// Remembers the dialog that an answer to INVITE makes (RFC 3261 §12.1).
    fn enter_dialog(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        message: &Message,
        confirmed: bool,
    ) {
        let from = exchange.incoming.peer.side;
        let Some(key) = DialogKey::of(message, from) else { return };
        if !confirmed && exchange.early.len() >= EARLY && !exchange.early.contains(&key) {
            return;
        }
        let Some(branch) = exchange.branches.get(index) else { return };
        let phone = branch.way.phone;
        let own = || (exchange.incoming.source, exchange.incoming.peer.clone());
        let (path, switch) = match &branch.way.hop {
            Hop::Phone(path, peer) => ((*path, peer.clone()), None),
            Hop::Switch(dials) => (own(), dials.front().copied()),
            Hop::Name(_) | Hop::Shard(_) => (own(), None),
        };
        let certificate = self.bindings.get(phone).map_or([0; 32], |b| b.record.certificate);
        let known = self.dialogs.get(&key);
        // Call-ID and tags are what both ends write: nobody answers into the call of another phone.
        if known.is_some_and(|dialog| dialog.phone != phone) {
            return;
        }
        let fresh = known.is_none();
        // The phone's Contact: in the request if it asked, else in the answer.
        let bearer = if from == Side::Outside { &exchange.incoming.message } else { message };
        let contact = remote_target(bearer).map(<[u8]>::to_vec);
        let routes = self.routes_beyond(from, &exchange.incoming.message, message);
        let dialog = Dialog {
            phone,
            path: Some(path),
            certificate,
            switch,
            routes: Some(routes.clone()),
            contact: contact.clone(),
            session: branch.session,
            awaits_answer: false,
            confirmed: false,
            used: now,
            refreshed: now,
            due: self.dialog_due(now),
        };
        let dialog = self.dialogs.insert(key.clone(), dialog);
        let speaks = dialog.session.is_none() && described(message).is_some();
        // RFC 3261 §13.2.2.4: that of the 2xx counts.
        dialog.routes = Some(routes);
        dialog.contact = contact.or_else(|| dialog.contact.take());
        dialog.used = now;
        let session = dialog.session;
        // An answer may be the first to speak of media (RFC 3261 §13.2.1).
        let session = if speaks { self.dialogs.session_of(&key) } else { session };
        let starts = confirmed && self.dialogs.confirm(&key);
        if fresh {
            exchange.early.push(key.clone());
        }
        if starts {
            exchange.early.retain(|early| *early != key);
            self.tell(Event::CallStarted { call_id: key.call_id(), phone, from, session });
        } else if confirmed {
            self.dialogs.touch(&key);
        }
    }

    /// A dialog that is known by its token alone (the gateway was started anew): remembered again, so that its media
    /// is ours for the rest of the call.
    pub(super) fn recall_dialog(&mut self, now: Instant, exchange: &Exchange) {
        let Some(key) = &exchange.dialog else { return };
        if self.dialogs.get(key).is_some()
            || !matches!(exchange.incoming.method(), Method::Invite | Method::Update)
            || self.dialogs.len() >= self.config.limits.dialogs
            || self.dialogs.gone.contains(now, key)
        {
            return;
        }
        let certificate = self.bindings.get(exchange.phone).map_or([0; 32], |b| b.record.certificate);
        let dialog = Dialog {
            phone: exchange.phone,
            path: None,
            certificate,
            switch: None,
            routes: None,
            contact: None,
            session: None,
            awaits_answer: false,
            confirmed: true,
            used: now,
            refreshed: now,
            due: self.dialog_due(now),
        };
        self.dialogs.insert(key.clone(), dialog);
    }

    /// When a dialog is looked at first.
    pub(super) fn dialog_due(&self, now: Instant) -> Instant {
        now + self.config.timers.dialog_idle.min(self.config.interop.sessions.session_timer)
    }

    /// Early dialogs end with the last branch of their INVITE.
    pub(super) fn forget_early(&mut self, exchange: &mut Exchange) {
        for key in exchange.early.drain(..) {
            self.dialogs.remove(&key);
        }
    }
}

/// The Contact of a message, if it can be a Request-URI (RFC 3261 §12.1).
pub(super) fn remote_target(message: &Message) -> Option<&[u8]> {
    let contact = message.header::<Contact>()?.ok()?;
    let uri = contact.uri().ok()?;
    (uri.is_sip() && uri.headers().is_none()).then_some(contact.uri_bytes())
}

/// Whether a challenge says that the credentials were good and the nonce was old (RFC 7616 §3.3).
fn blames_the_nonce(message: &Message) -> bool {
    let challenges =
        message.rows().filter(|row| matches!(row.name, Name::WwwAuthenticate | Name::ProxyAuthenticate));
    challenges.into_iter().any(|row| {
        let text = row.value.to_ascii_lowercase();
        let mut rest = text.as_slice();
        while let Some(at) = memchr::memmem::find(rest, b"stale") {
            rest = rest.get(at + 5..).unwrap_or_default();
            let value = rest.trim_ascii_start().strip_prefix(b"=").unwrap_or_default().trim_ascii_start();
            if value.starts_with(b"true") || value.starts_with(b"\"true") {
                return true;
            }
        }
        false
    })
}
