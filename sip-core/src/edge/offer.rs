//! Offers and answers (RFC 3264, RFC 6337) on their way through the media seam.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::Edge;
use super::answer::remote_target;
use super::dialogs::DialogKey;
use super::event::shown;
use super::exchange::{Exchange, Hop, Incoming, Plan};
use super::forward::OWN;
use crate::flow::{Side, Transmit};
use crate::header::{Address, CSeq, Contact, RecordRoute, Via};
use crate::machine::Output;
use crate::media::{Description, Leg, Refusal, Role, SessionId};
use crate::message::{Message, Method, Name, RequestBuilder};
use crate::token::{InstanceId, LoopHash};
use crate::uri::Uri;

impl Edge {
    /// The body of a request as it leaves on a branch; `None` when it is no session description.
    pub(super) fn offer_request(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
    ) -> Result<Option<Bytes>, Refusal> {
        let carries = matches!(exchange.incoming.method(), Method::Invite | Method::Update | Method::Prack);
        let across = exchange.branches.get(index).is_some_and(|b| matches!(b.way.hop, Hop::Shard(_)));
        if across || described(&exchange.incoming.message).is_none() {
            return Ok(None);
        }
        if !carries {
            return Ok(self.conceal(exchange, index));
        }
        let Some(session) = self.session_of(exchange, index) else { return Ok(None) };
        let Some(branch) = exchange.branches.get_mut(index) else { return Ok(None) };
        let Some(remote) = branch.way.hop.remote() else { return Ok(None) };
        // Only an INVITE opens a negotiation for sure; an UPDATE or PRACK may answer an offer of the other side.
        let held = exchange.dialog.as_ref().and_then(|key| self.dialogs.get_mut(key));
        let answers = exchange.incoming.method() == Method::Prack
            && held.is_some_and(|dialog| std::mem::take(&mut dialog.awaits_answer));
        let role = if answers { Role::Answer } else { Role::Offer };
        let peer = &exchange.incoming.peer;
        let contact = match peer.side {
            Side::Outside => own_host(&exchange.incoming.message),
            Side::Inside => self.registered_host(branch.way.phone),
        };
        let signalling = peer.remote.ip();
        let to_signalling = remote.ip();
        let leg = Leg { side: peer.side, signalling, to_signalling, contact, fork: None };
        let Some(description) = described(&exchange.incoming.message) else { return Ok(None) };
        let body = self.media.rewrite(now, session, leg, role, description)?;
        branch.offered = !answers;
        if branch.offered {
            branch.offer = self.dialogs.offered(session, exchange.key);
        }
        Ok(Some(body))
    }

    /// Whether a request would change a call that has ended a moment ago (RFC 3261 §12.2.2).
    pub(super) fn is_too_late(&self, now: Instant, exchange: &Exchange) -> bool {
        let changes = matches!(exchange.incoming.method(), Method::Invite | Method::Update);
        let key = exchange.dialog.as_ref().filter(|_| changes);
        key.is_some_and(|key| self.dialogs.get(key).is_none() && self.dialogs.gone.contains(now, key))
    }

    /// A description in a request that neither offers nor answers, an INFO or a MESSAGE, has no session whose relay could stand
    /// for it (RFC 3264 §4, RFC 6337 §2): it shows inside addresses, and no phone can do anything with them. Towards a phone
    /// the request goes on without its body (SIP-64); a phone's own goes on as it is.
    fn conceal(&mut self, exchange: &Exchange, index: usize) -> Option<Bytes> {
        let outwards =
            exchange.branches.get(index).is_some_and(|branch| branch.way.hop.side() == Side::Outside);
        if !outwards || exchange.incoming.peer.side == Side::Outside || !self.media.conceals() {
            return None;
        }
        let method = shown(exchange.incoming.method().as_bytes());
        self.tell(super::Event::Concealed { call_id: exchange.incoming.call_id(), method });
        Some(Bytes::new())
    }

    /// Whether another offer of this call waits for its answer: nobody would take this one (RFC 3261 §14.2, RFC 3311 §5.2),
    /// and the answer to the first must not be taken for that to the second.
    pub(super) fn is_pending(&self, exchange: &Exchange) -> bool {
        let dialog = exchange.dialog.as_ref().and_then(|key| self.dialogs.get(key));
        let Some((dialog, session)) = dialog.and_then(|dialog| dialog.session.map(|id| (dialog, id))) else {
            return false;
        };
        let Some(other) = self.dialogs.offering(session).filter(|key| *key != exchange.key) else {
            return false;
        };
        let method = exchange.incoming.method();
        let offers = match method {
            Method::Invite | Method::Update => true,
            Method::Prack => !dialog.awaits_answer,
            _ => false,
        };
        offers && self.exchanges.contains_key(&other) && described(&exchange.incoming.message).is_some()
    }

    /// A request with an offer has its final answer: an offer that was not answered by then changes nothing.
    pub(super) fn withdraw(&mut self, now: Instant, exchange: &Exchange) {
        let held =
            exchange.dialog.as_ref().and_then(|key| self.dialogs.get(key)).and_then(|held| held.session);
        for branch in exchange.branches.iter().filter(|branch| branch.offered) {
            let Some(session) = held.or(branch.session) else { continue };
            // The session of a call that did not come about ends.
            if self.dialogs.withdrawn(session, &exchange.key) && held.is_some() {
                self.media.rollback(now, session, exchange.incoming.peer.side);
            }
        }
    }

    /// One of several dialogs that an INVITE made was confirmed: its answer holds, and the others no longer hold the media, which
    /// ends with this one. One of them that is answered too is known again by its own 2xx.
    pub(super) fn confirm_fork(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        answer: &Message,
    ) {
        if exchange.early.is_empty() {
            return;
        }
        let Some(branch) = exchange.branches.get(index).filter(|branch| branch.offered) else { return };
        let key = DialogKey::of(answer, exchange.incoming.peer.side);
        let (Some(session), Some(key)) = (branch.session, key) else { return };
        self.media.confirm(now, session, key.fork());
        exchange.early.retain(|other| {
            let shares = self.dialogs.get(other).is_some_and(|dialog| dialog.session == Some(session));
            if shares {
                self.dialogs.remove(other);
            }
            !shares
        });
    }

    /// The session of the dialog, or one of this branch's own.
    pub(super) fn session_of(&mut self, exchange: &mut Exchange, index: usize) -> Option<SessionId> {
        if let Some(session) = exchange.dialog.as_ref().and_then(|key| self.dialogs.session_of(key)) {
            return Some(session);
        }
        let branch = exchange.branches.get_mut(index)?;
        if branch.session.is_none() {
            branch.session = Some(self.dialogs.open_session());
            branch.holds = true;
        }
        branch.session
    }

    /// Lets go of a branch's session; the dialogs made on it hold it themselves.
    pub(super) fn release(&mut self, exchange: &mut Exchange, index: usize) {
        if let Some(branch) = exchange.branches.get_mut(index)
            && std::mem::take(&mut branch.holds)
            && let Some(session) = branch.session
        {
            self.dialogs.release(session);
        }
    }

    /// The body of an answer as it leaves; `None` when it is no session description.
    pub(super) fn answer_body(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        message: &Message,
        from: IpAddr,
    ) -> Result<Option<Bytes>, Refusal> {
        let carries = matches!(exchange.incoming.method(), Method::Invite | Method::Update | Method::Prack);
        let Some(description) = described(message) else { return Ok(None) };
        if !carries || message.status().is_none_or(|s| s >= 300) {
            let concealed = exchange.incoming.peer.side == Side::Outside && self.media.conceals();
            return Ok(concealed.then(Bytes::new));
        }
        if let Some((seen, written)) = exchange.branches.get(index).and_then(|b| b.rewritten.as_ref())
            && seen == message.body()
        {
            return Ok(Some(written.clone()));
        }
        let offered = exchange.branches.get(index).is_some_and(|b| b.offered);
        let asker = exchange.incoming.peer.side;
        let key = exchange.dialog.clone().or_else(|| DialogKey::of(message, asker));
        // Each dialog that answers an INVITE without an offer offers for itself: their media are apart.
        let own = key.as_ref().filter(|_| !offered).and_then(|key| self.dialogs.session_of(key));
        let Some(session) = own.or_else(|| self.session_of(exchange, index)) else { return Ok(None) };
        let branch = exchange.branches.get(index);
        if branch.is_some_and(|b| offered && b.rewritten.is_some() && self.dialogs.offers(session) != b.offer)
        {
            // The offer was answered, and there was another since: no answer to either (RFC 6337 §3.1.1 has the asker ignore it).
            return Ok(Some(Bytes::new()));
        }
        let role = if offered { Role::Answer } else { Role::Offer };
        let side = asker.opposite();
        let contact = match (side, exchange.branches.get(index)) {
            (Side::Inside, _) => own_host(&exchange.incoming.message),
            // An answer has no Via of its own.
            (Side::Outside, Some(branch)) => {
                contact_host(message).or_else(|| self.registered_host(branch.way.phone))
            }
            (Side::Outside, None) => None,
        };
        let fork = key.as_ref().filter(|_| exchange.dialog.is_none()).map(DialogKey::fork);
        let to_signalling = exchange.incoming.peer.remote.ip();
        let leg = Leg { side, signalling: from, to_signalling, contact, fork };
        let written = self.media.rewrite(now, session, leg, role, description)?;
        if offered {
            self.dialogs.withdrawn(session, &exchange.key);
        }
        if let Some(key) = key {
            self.dialogs.described(&key, session, !offered);
        }
        if let Some(branch) = exchange.branches.get_mut(index) {
            branch.rewritten = Some((message.body_bytes(), written.clone()));
        }
        Ok(Some(written))
    }

    /// The body of an ACK: the answer to an offer that stood in the 2xx.
    pub(super) fn ack_body(&mut self, now: Instant, incoming: &Incoming, plan: &Plan) -> Option<Bytes> {
        let description = described(&incoming.message)?;
        let (to_signalling, phone) = (plan.ways.first()?.hop.remote()?.ip(), plan.ways.first()?.phone);
        let dialog = plan.dialog.as_ref().and_then(|key| self.dialogs.get_mut(key));
        let session = dialog.and_then(|dialog| {
            // A retransmitted ACK answers the same again.
            dialog.awaits_answer = false;
            dialog.session
        });
        let Some(session) = session else {
            // It answers nothing that went by here.
            return self.media.conceals().then(Bytes::new);
        };
        let contact = match incoming.peer.side {
            Side::Outside => own_host(&incoming.message),
            Side::Inside => self.registered_host(phone),
        };
        let (side, signalling) = (incoming.peer.side, incoming.peer.remote.ip());
        let leg = Leg { side, signalling, to_signalling, contact, fork: None };
        match self.media.rewrite(now, session, leg, Role::Answer, description) {
            Ok(body) => Some(body),
            Err(refusal) => {
                let (status, _) = refusal.status();
                self.tell(super::Event::MediaRefused { call_id: incoming.call_id(), status });
                Some(Bytes::new())
            }
        }
    }

    /// The host of the Contact that a phone has registered.
    fn registered_host(&self, phone: InstanceId) -> Option<IpAddr> {
        let binding = self.bindings.get(phone)?;
        Uri::parse(binding.record.contact.as_bytes()).ok()?.host()?.ip()
    }

    /// Ends a call that was answered with a description we can't carry: the ACK that its 2xx must have, and a BYE. A call that
    /// ran before goes on as it was (RFC 3261 §14.1): its re-INVITE failed.
    pub(super) fn hang_up(&mut self, now: Instant, exchange: &Exchange, index: usize, answer: &Message) {
        let Some(branch) = exchange.branches.get(index) else { return };
        let Some(target) = branch.way.hop.target() else { return };
        let Some(contact) = remote_target(answer) else { return };
        let Some(Ok(cseq)) = answer.header::<CSeq>() else { return };
        // An answer may say anything of who asked: what was sent is right.
        let Ok(sent) = Message::parse(branch.sent.clone(), &OWN) else { return };
        let hash = LoopHash::new([answer.raw(Name::CallId)]);
        let both = [("ACK", cseq.number), ("BYE", cseq.number.saturating_add(1))];
        let ends = exchange.dialog.is_none();
        for (method, number) in both.into_iter().take(if ends { 2 } else { 1 }) {
            let id = self.random.branch(hash);
            let mut request = RequestBuilder::new(method, contact)
                .header(Name::Via, &self.via(&branch.way.hop, &id))
                .header(Name::MaxForwards, b"70")
                .header(Name::CSeq, format!("{number} {method}").as_bytes());
            for (name, from) in [(Name::From, &sent), (Name::To, answer), (Name::CallId, &sent)] {
                request = request.header(name, from.raw(name).unwrap_or_default());
            }
            for route in self.route_back(&branch.way.hop, answer) {
                request = request.header(Name::Route, &route);
            }
            let bytes = request.build();
            if method == "BYE" {
                self.layer.request(now, target, &id, Method::Bye, bytes);
            } else {
                self.outputs.push_back(Output::Transmit(Transmit { target, bytes }));
            }
        }
        if let Some(key) = DialogKey::of(answer, exchange.incoming.peer.side).filter(|_| ends) {
            self.end_dialog(&key, exchange.incoming.peer.side.opposite());
        }
    }

    /// The route set towards whoever answered, without ourselves (RFC 3261 §12.1.2).
    fn route_back(&self, hop: &Hop, answer: &Message) -> Vec<Vec<u8>> {
        if hop.side() == Side::Outside {
            return Vec::new();
        }
        let routes: Vec<Address<'_>> = answer.headers::<RecordRoute>().flatten().collect();
        self.after_us(&routes).into_iter().map(<[u8]>::to_vec).collect()
    }
}

/// The address that the sender of a request gives itself.
fn own_host(request: &Message) -> Option<IpAddr> {
    contact_host(request).or_else(|| request.header::<Via>()?.ok()?.host().ip())
}

fn contact_host(message: &Message) -> Option<IpAddr> {
    message.header::<Contact>()?.ok()?.uri().ok()?.host()?.ip()
}

/// The body, if it is a session description or has one among its parts. Whatever might be read as one at the far end is
/// taken for one: the media side then finds it, or refuses it.
pub(super) fn described(message: &Message) -> Option<Description<'_>> {
    let body = message.body();
    if body.is_empty() {
        return None;
    }
    let description = Description { content_type: message.raw(Name::ContentType).unwrap_or_default(), body };
    let describes = if description.content_type.is_empty() {
        // A body without a type: some take what looks like a description for one.
        body.trim_ascii_start().starts_with(b"v=")
    } else {
        description.is_sdp() || (description.is_multipart() && description.mentions() > 0)
    };
    describes.then_some(description)
}
