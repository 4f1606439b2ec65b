//! The edge under guard: what is asked before a message is looked at, and what is learnt from how it ended.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::{Closing, DropCause, Event, Reason, Release};
use super::exchange::Incoming;
use super::guard::{Admission, Offence, Suspect, signature};
use super::uri_codec::unescape;
use crate::flow::{FlowId, Peer, Side, Source};
use crate::header::{From, To};
use crate::message::{Message, Method, Name, ResponseBuilder};
use crate::uri::Uri;

impl Edge {
    /// Whether a message may come in at all: its sender is not blocked, keeps to its rate and is no scanner. Costs a peer
    /// that behaves one look-up, and the PBX nothing.
    pub(super) fn passes(
        &mut self,
        now: Instant,
        source: Source,
        peer: &Arc<Peer>,
        message: &Message,
    ) -> bool {
        let guard = &self.config.guard;
        if guard.trusts(peer) {
            return true;
        }
        let suspect = Suspect::of(peer);
        // A stream of a blocked peer was closed when it was blocked, or when it came.
        if self.guard.blocks.holds(&suspect) && !guard.spares(peer) {
            self.drop_message(peer, DropCause::Blocked);
            return false;
        }
        let spared = guard.spares(peer);
        if !spared {
            let is_invite = message.method() == Some(Method::Invite);
            let socket = Some(peer.remote).filter(|_| peer.verified && peer.identity.is_none());
            match self.guard.sources.admit(now, suspect, socket, is_invite, &guard.rates) {
                Admission::Pass => {}
                Admission::Over => {
                    self.stem(now, source, peer, message);
                    return false;
                }
                Admission::Drowned => {
                    self.drop_message(peer, DropCause::Flood);
                    return false;
                }
            }
        }
        match self.signature(now, suspect, message) {
            Some(offence) => {
                self.offend(now, peer, offence);
                // Who is spared is served: the network is known, and the report was made.
                if !spared {
                    self.drop_message(peer, DropCause::Blocked);
                }
                spared
            }
            None => true,
        }
    }

    /// SEC-03: too much. One answer, and the end of the connection.
    fn stem(&mut self, now: Instant, source: Source, peer: &Arc<Peer>, message: &Message) {
        if message.is_request() && message.method() != Some(Method::Ack) {
            let incoming =
                Incoming { key: None, source, peer: peer.clone(), message: message.clone(), handed: false };
            let refusal = self.busy(&incoming, "Too Many Messages", Reason::Limit("messages"));
            let tag = self.random.tag();
            let mut answer = ResponseBuilder::new(message, refusal.status, &*refusal.phrase)
                .to_tag(&tag)
                .source(peer.remote);
            for (name, value) in &refusal.extra {
                answer = answer.header(*name, value.as_bytes());
            }
            self.layer.respond_without_transaction(source, peer, message, answer.build());
            self.tell_refused(&incoming, Some(503), refusal.reason, None);
        } else {
            self.drop_message(peer, DropCause::Flood);
        }
        if let Source::Flow(flow) = source {
            self.close_flow(flow, Closing::Flood);
        }
        self.offend(now, peer, Offence::Flood);
    }

    /// What a request gives away by itself (SEC-04).
    fn signature(&mut self, now: Instant, suspect: Suspect, message: &Message) -> Option<Offence> {
        let ids = &self.config.guard.ids;
        if !ids.enabled || !message.is_request() {
            return None;
        }
        if let Some(agent) = message.raw(Name::UserAgent)
            && self.guard.sources.is_new_agent(now, suspect, hash(agent))
            && signature::is_scanner(agent, &ids.user_agents)
        {
            return Some(Offence::Scanner);
        }
        let head = message.bytes().get(..message.bytes().len() - message.body().len()).unwrap_or_default();
        // Hardly any message has either, and no user part has SQL without one of them.
        if memchr::memchr(b'\'', head).is_none() && memchr::memmem::find(head, b"%27").is_none() {
            return None;
        }
        let from = message.header::<From>().and_then(Result::ok);
        let to = message.header::<To>().and_then(Result::ok);
        let addresses = [from.as_ref(), to.as_ref()].map(|address| address?.uri().ok());
        let users = addresses.into_iter().chain([Uri::parse(message.request_uri()?).ok()]).flatten();
        let suspicious = |user: &[u8]| {
            unescape(user).map_or_else(
                || signature::is_injection(user),
                |user| signature::is_injection(user.as_bytes()),
            )
        };
        let named = users.filter_map(|uri| uri.user()).any(suspicious);
        (named || accounts(message).any(suspicious)).then_some(Offence::Injection)
    }

    /// Notes an offence of `peer`. One too many of them blocks it, unless it is one that is only reported.
    pub(super) fn offend(&mut self, now: Instant, peer: &Peer, offence: Offence) {
        let settings = &self.config.guard;
        if !settings.minds(offence) {
            return;
        }
        let suspect = Suspect::of(peer);
        if !self.guard.offend(now, suspect, offence, settings) {
            return;
        }
        if settings.spares(peer) {
            return self.tell(Event::Offence { side: peer.side, remote: peer.remote, offence });
        }
        let (length, displaced) = self.guard.blocks.add(now, suspect, offence, &settings.auth);
        self.blocked(suspect, offence, length, displaced);
    }

    /// An operator, or another machine, wants it blocked.
    pub(super) fn block(&mut self, now: Instant, suspect: Suspect, length: Duration) {
        let displaced = self.guard.blocks.add_for(now, suspect, Offence::Told, length);
        self.blocked(suspect, Offence::Told, length, displaced);
    }

    /// An operator, or another machine, wants it unblocked; its offences are forgotten.
    pub(super) fn unblock(&mut self, suspect: Suspect) {
        self.guard.sources.forget(&suspect);
        if self.guard.blocks.remove(&suspect) {
            self.tell(Event::Unblocked { suspect, why: Release::Asked });
        }
    }

    fn blocked(&mut self, suspect: Suspect, offence: Offence, length: Duration, displaced: Option<Suspect>) {
        if let Some(suspect) = displaced {
            self.tell(Event::Unblocked { suspect, why: Release::MadeWay });
        }
        self.guard.sources.forget(&suspect);
        let flows = self.flows.of_suspect(&suspect);
        let known = flows.first().and_then(|flow| self.flows.get(*flow)?.peer.identity.as_ref());
        let subject = known.map(|identity| identity.subject.clone());
        self.tell(Event::Blocked { suspect, subject, offence, seconds: length.as_secs() });
        for flow in flows {
            if self.flows.get(flow).is_some_and(|flow| !self.config.guard.spares(&flow.peer)) {
                self.close_flow(flow, Closing::Blocked);
            }
        }
    }

    /// Whoever is spared by a new configuration is free at once, at the listeners too.
    pub(super) fn free_spared(&mut self, now: Instant) {
        for state in self.guard.blocks.list(now, usize::MAX) {
            if let Suspect::Address(address) = state.suspect
                && self.config.guard.allow.contains(address)
            {
                self.unblock(state.suspect);
            }
        }
    }

    /// What is new is shed before it costs anything.
    pub(super) fn overload(&mut self, begins: bool) {
        self.overloaded = begins;
        self.layer.shed(begins);
        self.tell(Event::Overload { begins });
    }

    /// Whether a connection must go because its peer is blocked.
    pub(super) fn bar_flow(&mut self, flow: FlowId, peer: &Peer) -> bool {
        let barred = self.guard.blocks.holds(&Suspect::of(peer)) && !self.config.guard.spares(peer);
        if barred {
            self.close_flow(flow, Closing::Blocked);
        }
        barred
    }

    /// Blocks that are over.
    pub(super) fn end_blocks(&mut self, now: Instant) {
        while let Some(suspect) = self.guard.blocks.expire(now, &self.config.guard.auth) {
            self.tell(Event::Unblocked { suspect, why: Release::Over });
        }
    }

    /// What the final answer to a request says about its sender. `stale`: the answer blames the nonce only.
    pub(super) fn learn(&mut self, now: Instant, incoming: &Incoming, status: u16, stale: bool) {
        let peer = &incoming.peer;
        if self.config.guard.trusts(peer) {
            return;
        }
        let message = &incoming.message;
        let brings =
            || message.raw(Name::Authorization).is_some() || message.raw(Name::ProxyAuthorization).is_some();
        match status {
            200..=299 if self.guard.sources.has_offenders() && brings() => {
                self.guard.sources.forgive(&Suspect::of(peer), account(message));
            }
            401 | 403 | 407 if !stale && brings() => {
                self.guard.sources.note_user(now, Suspect::of(peer), account(message));
                self.offend(now, &peer.clone(), Offence::Credentials);
            }
            403 | 404 if incoming.method() == Method::Register => {
                self.offend(now, &peer.clone(), Offence::Credentials);
            }
            404 | 484 | 604 if peer.side == Side::Outside && !incoming.in_dialog() => {
                let number = called(message).filter(|user| user.bytes().all(|b| b.is_ascii_digit()));
                if let Some(number) = number
                    && self.guard.sources.is_new_number(now, Suspect::of(peer), hash(number.as_bytes()))
                {
                    self.offend(now, &peer.clone(), Offence::DigitScan);
                }
            }
            _ => {}
        }
    }
}

/// The user that a request asks for.
fn called(message: &Message) -> Option<String> {
    unescape(Uri::parse(message.request_uri()?).ok()?.user()?)
}

/// The users whose credentials a request brings.
fn accounts(message: &Message) -> impl Iterator<Item = &[u8]> {
    let rows = [Name::Authorization, Name::ProxyAuthorization];
    rows.into_iter().filter_map(|name| message.raw(name)).filter_map(|value| {
        let at = memchr::memmem::find(value, b"username=\"")? + b"username=\"".len();
        let rest = value.get(at..)?;
        rest.get(..memchr::memchr(b'"', rest)?)
    })
}

/// The first of them, as a hash.
fn account(message: &Message) -> u64 {
    accounts(message).next().map_or(0, hash)
}

/// For comparison with itself only.
fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}
