//! What every message meets first: is it sound, may it be here, who sent it.

use std::sync::Arc;
use std::time::Instant;

use super::Edge;
use super::event::shown;
use super::event::{DropCause, Event, Phone, Reason};
use super::exchange::{Incoming, Refusal};
use super::explain::Verdict;
use super::guard::Offence;
use super::pace;
use super::uri_codec::host_of;
use crate::flow::{Dial, Peer, Side, Source, Target, Transport};
use crate::header::{CSeq, CallId, From, MaxBreadth, ProxyRequire, Route, To, Via, ViaTransport};
use crate::message::{Finding, Message, Method, Name, ResponseBuilder};
use crate::resolve::{Destination, Directory};
use crate::token::LoopHash;
use crate::transaction::{Received, ServerKey};
use crate::uri::Uri;

/// What the gateway itself answers OPTIONS with.
const ALLOW: &[u8] = b"INVITE, ACK, BYE, CANCEL, REGISTER, OPTIONS, PRACK, SUBSCRIBE, NOTIFY, PUBLISH, INFO, REFER, MESSAGE, UPDATE";

impl Edge {
    pub(super) fn receive(&mut self, now: Instant, source: Source, peer: Arc<Peer>, message: Message) {
        match source {
            Source::Flow(flow) => self.flows.touch(now, flow),
            Source::Datagram { remote, .. } if peer.side == Side::Inside => self.switches.hear(now, remote),
            Source::Datagram { .. } => {}
        }
        if !self.passes(now, source, &peer, &message) {
            return self.note("guard", Verdict::Refused, || "see what was told".to_owned());
        }
        self.note("guard", Verdict::Pass, || "not blocked, not too much".to_owned());
        if self.shard.is_alone() {
            self.take(now, source, peer, message, false);
        } else if let Some(message) = self.cross(now, source, &peer, message) {
            self.take(now, source, peer, message, false);
        }
    }

    /// A message that is the business of this shard; `handed` by another one or not.
    pub(super) fn take(
        &mut self,
        now: Instant,
        source: Source,
        peer: Arc<Peer>,
        message: Message,
        handed: bool,
    ) {
        if let Some(message) = self.hold_named(now, source, &peer, message, handed) {
            self.take_named(now, source, peer, message, handed);
        }
    }

    /// The same, when no name in it is to be looked up any more.
    pub(super) fn take_named(
        &mut self,
        now: Instant,
        source: Source,
        peer: Arc<Peer>,
        message: Message,
        handed: bool,
    ) {
        match self.layer.handle_message(now, source, &peer, message) {
            Received::Request { key, message } => {
                self.request(now, Incoming { key: Some(key), source, peer, message, handed })
            }
            Received::Ack { message } => {
                self.ack(now, &Incoming { key: None, source, peer, message, handed })
            }
            Received::Cancel { key, invite, message } => {
                self.cancel(now, &Incoming { key: Some(key), source, peer, message, handed }, invite);
            }
            Received::Response { key, message } => self.response(now, key, message, &peer),
            Received::Refused { message } => {
                // The layer has answered already.
                let incoming = Incoming { key: None, source, peer, message, handed };
                let limit = if self.overloaded { "backlog" } else { "transactions" };
                self.tell_refused(&incoming, Some(503), Reason::Limit(limit), None);
            }
            Received::Absorbed => {}
            Received::Stray(_) => self.drop_message(&peer, DropCause::StrayResponse),
        }
    }

    fn request(&mut self, now: Instant, incoming: Incoming) {
        match self.admit(&incoming).and_then(|hash| self.authenticate(now, &incoming).map(|()| hash)) {
            Err(refusal) => self.refuse(now, &incoming, &refusal),
            Ok(hash) => {
                if incoming.peer.side == Side::Inside {
                    self.note_alias(&incoming);
                }
                self.dispatch(now, incoming, hash)
            }
        }
    }

    pub(super) fn dispatch(&mut self, now: Instant, incoming: Incoming, hash: LoopHash) {
        if self.is_for_us(&incoming) {
            return self.answer_options(now, &incoming);
        }
        if incoming.peer.side == Side::Outside && incoming.method() == Method::Register {
            if let Some(phone) = self.contested(&incoming) {
                return self.probe(now, incoming, hash, phone);
            }
            if self.refreshed_early(now, &incoming) {
                return;
            }
            return match self.plan_register(now, &incoming) {
                Ok((plan, registration)) => self.proxy(now, incoming, plan, Some(registration), hash),
                Err(refusal) => self.refuse(now, &incoming, &refusal),
            };
        }
        let plan = self.judge_refer(&incoming).and_then(|()| match incoming.peer.side {
            Side::Outside => self.plan_outbound(now, &incoming),
            Side::Inside => self.plan_inbound(now, &incoming),
        });
        match plan {
            Ok(plan) => {
                self.note_quality(&incoming);
                self.proxy(now, incoming, plan, None, hash);
            }
            Err(refusal) => self.refuse(now, &incoming, &refusal),
        }
    }

    /// An ACK to a 2xx has no transaction and gets no answer: it is forwarded or dropped.
    fn ack(&mut self, now: Instant, incoming: &Incoming) {
        let Ok(hash) = self.admit(incoming) else {
            return self.drop_message(&incoming.peer, DropCause::Unusable);
        };
        let plan = match incoming.peer.side {
            Side::Outside => self.plan_outbound(now, incoming),
            Side::Inside => self.plan_inbound(now, incoming),
        };
        match plan {
            Ok(plan) => self.forward_ack(now, incoming, &plan, hash),
            Err(_) => self.drop_message(&incoming.peer, DropCause::StrayAck),
        }
    }

    /// RFC 3261 §16.3, and our own ceilings. The loop hash is a by-product.
    fn admit(&self, incoming: &Incoming) -> Result<LoopHash, Refusal> {
        let message = &incoming.message;
        if let Some(finding) = message.validate().iter().find(|finding| !self.is_excused(message, finding)) {
            self.note("validation", Verdict::Refused, || format!("{}: {}", finding.field, finding.reason));
            return Err(self.malformed(message, finding.status, finding.field));
        }
        self.note("validation", Verdict::Pass, || "no finding".to_owned());
        if message.has_controls() {
            return Err(Refusal::new(400, "Bad Request (control characters)", Reason::Unforwardable));
        }
        if !incoming.peer.verified {
            self.note("sender", Verdict::Refused, || "neither certificate nor trust_source".to_owned());
            return Err(Refusal::forbidden(Reason::Unverified));
        }
        self.note("sender", Verdict::Pass, || verified_by(&incoming.peer));
        if incoming.peer.transport == Transport::Tcp && self.lies_about_tls(incoming) {
            let reason = Reason::Malformed("Via".to_owned());
            return Err(Refusal::new(400, "Bad Request (Via says TLS)", reason));
        }
        if incoming.peer.side == Side::Outside
            && self.config.listener(&incoming.peer).is_some_and(|row| !row.intercept)
            && !self.names_us(message)
        {
            return Err(Refusal::forbidden(Reason::Destination));
        }
        // RFC 5393 §5.3.3: nothing left to fork with.
        if matches!(message.header::<MaxBreadth>(), Some(Ok(0))) {
            return Err(Refusal::new(440, "Max-Breadth Exceeded", Reason::Limit("breadth")));
        }
        let hash = loop_hash(message);
        if self.has_looped(message, hash) {
            self.note("loop", Verdict::Refused, || "a Via of ours with the same hash".to_owned());
            return Err(Refusal::new(482, "Loop Detected", Reason::Loop));
        }
        self.note("loop", Verdict::Pass, || "no Via of ours that stands for this request".to_owned());
        let fresh = !incoming.in_dialog() && matches!(incoming.method(), Method::Invite | Method::Register);
        if self.draining && fresh {
            return Err(self.busy(incoming, "Draining", Reason::Draining));
        }
        // What belongs to a call has room of its own, and what ends one always passes.
        let ends = matches!(incoming.method(), Method::Bye | Method::Ack);
        let share = if incoming.in_dialog() { 2 } else { 1 };
        if !ends && self.exchanges.len() >= self.shard.part(self.config.limits.contexts).saturating_mul(share)
        {
            return Err(self.busy(incoming, "Overload", Reason::Limit("contexts")));
        }
        if fresh
            && incoming.method() == Method::Invite
            && self.dialogs.len() >= self.shard.part(self.config.limits.dialogs)
        {
            return Err(self.busy(incoming, "Too Many Calls", Reason::Limit("dialogs")));
        }
        if fresh && incoming.method() == Method::Invite {
            self.fits(incoming)?;
        }
        if incoming.peer.side == Side::Outside && fresh && incoming.method() == Method::Invite {
            let owner = incoming.certificate();
            let (most, limit) = self.config.limits.dialogs_of(&owner);
            if self.dialogs.of_certificate(&owner) >= most {
                return Err(self.busy(incoming, "Too Many Calls", Reason::Limit(limit)));
            }
        }
        self.note("ceilings", Verdict::Pass, || "there is room".to_owned());
        self.filter(incoming).inspect_err(|refusal| {
            self.note("filters", Verdict::Refused, || format!("{} {}", refusal.status, refusal.phrase));
        })?;
        self.note("filters", Verdict::Pass, || "no sender policy or filter is against it".to_owned());
        Ok(hash)
    }

    /// `Proxy-Require: privacy` and nothing else, where we pretend to (SIP-46).
    fn is_excused(&self, message: &Message, finding: &Finding) -> bool {
        finding.status == 420
            && self.config.interop.headers.pretend_privacy
            && message
                .headers::<ProxyRequire>()
                .flatten()
                .all(|option| option.eq_ignore_ascii_case(b"privacy"))
    }

    /// A message over plain TCP whose Via says TLS: taken only from a TLS offload that the operator named (SIP-60).
    fn lies_about_tls(&self, incoming: &Incoming) -> bool {
        let says_tls =
            matches!(incoming.message.header::<Via>(), Some(Ok(via)) if via.transport() == ViaTransport::Tls);
        let transports = &self.config.interop.transports;
        says_tls
            && !(transports.tcp_marked_tls && transports.tcp_marked_tls_from.holds(incoming.peer.remote.ip()))
    }

    /// Whether the topmost Route, or else the Request-URI, means us (SIP-03).
    fn names_us(&self, message: &Message) -> bool {
        let ours = |uri: &Uri<'_>| uri.is_sip() && self.is_own(&host_of(uri));
        match message.header::<Route>() {
            Some(Ok(top)) => top.uri().is_ok_and(|uri| ours(&uri)),
            _ => Uri::parse(message.request_uri().unwrap_or_default()).is_ok_and(|uri| ours(&uri)),
        }
    }

    fn malformed(&self, message: &Message, status: u16, field: &'static str) -> Refusal {
        let (phrase, reason) = match status {
            483 if field == "Max-Forwards" => ("Too Many Hops".to_owned(), Reason::TooManyHops),
            483 => (format!("Too Many Hops ({field})"), Reason::Malformed(field.to_owned())),
            505 => ("Version Not Supported".to_owned(), Reason::Malformed(field.to_owned())),
            416 => ("Unsupported URI Scheme".to_owned(), Reason::Malformed(field.to_owned())),
            420 => ("Bad Extension".to_owned(), Reason::Malformed(field.to_owned())),
            _ => (format!("Bad Request ({field})"), Reason::Malformed(field.to_owned())),
        };
        let refusal = Refusal::new(status, phrase, reason);
        if status != 420 {
            return refusal;
        }
        // RFC 3261 §8.2.2.3: name what is not supported.
        let options = message.headers::<ProxyRequire>().flatten();
        let options: Vec<_> = options.map(|o| String::from_utf8_lossy(o).into_owned()).collect();
        refusal.with("Unsupported", options.join(", "))
    }

    /// 503 with a Retry-After that spreads the returning.
    pub(super) fn busy(&self, incoming: &Incoming, phrase: &str, reason: Reason) -> Refusal {
        // A queue is soon shorter; other ceilings last longer.
        let (least, spread) = if reason == Reason::Limit(pace::FULL) { (5, 11) } else { (10, 51) };
        let after = least + loop_hash(&incoming.message).spread(spread);
        Refusal::new(503, phrase, reason).with("Retry-After", after.to_string())
    }

    /// RFC 3261 §16.3 step 4: a Via of ours with the same hash of all that decides where the request goes.
    fn has_looped(&self, message: &Message, hash: LoopHash) -> bool {
        message.headers::<Via>().flatten().any(|via| {
            via.branch().and_then(LoopHash::of_branch) == Some(hash) && self.is_own(&via.host().to_string())
        })
    }

    pub(super) fn directory(&self) -> Directory<'_> {
        Directory {
            inside_networks: &self.config.inside_networks,
            servers: &self.config.servers,
            internal_domains: &self.config.internal_domains,
        }
    }

    /// Whether a host is us, on either side.
    pub(super) fn is_own(&self, host: &str) -> bool {
        self.config.outside.is(host) || self.config.inside.is(host)
    }

    /// An OPTIONS that asks the gateway itself: our host and no user.
    fn is_for_us(&self, incoming: &Incoming) -> bool {
        incoming.method() == Method::Options
            && Uri::parse(incoming.message.request_uri().unwrap_or_default())
                .is_ok_and(|uri| uri.is_sip() && uri.user().is_none() && self.is_own(&host_of(&uri)))
    }

    fn answer_options(&mut self, now: Instant, incoming: &Incoming) {
        let Some(key) = incoming.key else { return };
        let tag = self.random.tag();
        let response = ResponseBuilder::new(&incoming.message, 200, "OK")
            .to_tag(&tag)
            .source(incoming.peer.remote)
            .header(Name::Allow, ALLOW)
            .build();
        self.layer.respond(now, &key, 200, response);
    }

    /// Answers a request ourselves, or stays silent where there is nothing to answer.
    pub(super) fn refuse(&mut self, now: Instant, incoming: &Incoming, refusal: &Refusal) {
        if let Some(key) = incoming.key {
            self.respond(now, &key, incoming, refusal.status, &refusal.phrase, &refusal.extra);
        }
        let (status, phone) = (incoming.key.map(|_| refusal.status), refusal.phone.clone());
        self.tell_refused(incoming, status, refusal.reason.clone(), phone);
        if refusal.reason == Reason::Token {
            return self.offend(now, &incoming.peer, Offence::ForgedToken);
        }
        let stale = refusal.reason == Reason::Credentials { stale: true };
        self.learn(now, incoming, refusal.status, stale);
    }

    pub(super) fn tell_refused(
        &mut self,
        incoming: &Incoming,
        status: Option<u16>,
        reason: Reason,
        phone: Option<Box<Phone>>,
    ) {
        self.tell(Event::Refused {
            side: incoming.peer.side,
            remote: incoming.peer.remote,
            method: shown(incoming.method().as_bytes()),
            status,
            reason,
            phone,
            call_id: incoming.call_id(),
        });
    }

    pub(super) fn respond(
        &mut self,
        now: Instant,
        key: &ServerKey,
        incoming: &Incoming,
        status: u16,
        phrase: &str,
        extra: &[(&'static str, String)],
    ) {
        let tag = self.random.tag();
        let (status, phrase) = self.shown_status(status).unwrap_or((status, phrase));
        let mut builder =
            ResponseBuilder::new(&incoming.message, status, phrase).to_tag(&tag).source(incoming.peer.remote);
        for (name, value) in extra {
            builder = builder.header(*name, value.as_bytes());
        }
        match incoming.source {
            // Who stands behind a datagram is not known.
            Source::Datagram { .. } if incoming.peer.side == Side::Outside => {
                self.layer.refuse(now, key, status, builder.build());
            }
            _ => self.layer.respond(now, key, status, builder.build()),
        }
    }

    fn cancel(&mut self, now: Instant, incoming: &Incoming, invite: Option<ServerKey>) {
        let Some(key) = incoming.key else { return };
        if invite.is_some_and(|invite| !self.exchanges.contains_key(&invite)) {
            // Answered already: there is nothing left to cancel, and that is no failure (RFC 3261 §9.2).
            return self.respond(now, &key, incoming, 200, "OK", &[]);
        }
        let exchange = invite.and_then(|invite| self.exchanges.remove(&invite));
        let Some(mut exchange) = exchange else {
            // RFC 3261 §16.10 would forward it statelessly; a request without a dialog is refused here.
            let refusal = Refusal::new(481, "Call/Transaction Does Not Exist", Reason::NothingToCancel);
            return self.refuse(now, incoming, &refusal);
        };
        self.respond(now, &key, incoming, 200, "OK", &[]);
        exchange.cancelled_with = self.cancel_body(&incoming.message);
        let actions = exchange.context.cancel(now);
        self.settle(now, &mut exchange, actions);
        self.drop_unsent(now, &mut exchange);
        self.park(exchange);
    }

    /// Where answers to an inside peer go once its connection is gone: the sent-by of its Via, if that is a place inside
    /// (RFC 3261 §18.2.2). A PBX recycles idle connections while a phone rings.
    pub(super) fn set_fallback(&mut self, key: &ServerKey, incoming: &Incoming) {
        if incoming.peer.side != Side::Inside {
            return;
        }
        let Some(Ok(via)) = incoming.message.header::<Via>() else { return };
        let transport = match via.transport() {
            ViaTransport::Udp => Transport::Udp,
            ViaTransport::Tcp => Transport::Tcp,
            ViaTransport::Tls => Transport::Tls,
            _ => return,
        };
        let host = via.host().to_string();
        let port = via.port();
        if let Destination::Addresses(addresses) = self.directory().destination(&host)
            && let Some((address, known)) = addresses.first()
            && !self.is_own(&host)
            && !self.is_own(&address.to_canonical().to_string())
        {
            let port = port.or(*known).unwrap_or_else(|| transport.default_port());
            let dial =
                Dial { transport, remote: (*address, port).into(), side: Side::Inside, affinity: None };
            if self.is_undiallable(&dial) {
                return;
            }
            self.layer.set_fallback(key, Target::Dial(dial));
        }
    }
}

/// Why a sender is who it is.
fn verified_by(peer: &Peer) -> String {
    match &peer.identity {
        Some(identity) => format!("verified by its certificate, {}", identity.subject),
        None => "verified by its address (trust_source)".to_owned(),
    }
}

/// All that decides where a request goes.
fn loop_hash(message: &Message) -> LoopHash {
    let cseq = message.header::<CSeq>().and_then(Result::ok).map_or(0, |cseq| cseq.number).to_be_bytes();
    LoopHash::new([
        message.request_uri(),
        message.header::<CallId>().and_then(Result::ok),
        message.header::<From>().and_then(Result::ok).and_then(|from| from.tag()),
        message.header::<To>().and_then(Result::ok).and_then(|to| to.tag()),
        Some(&cseq[..]),
        message.raw(Name::Route),
        message.raw(Name::ProxyAuthorization),
    ])
}
