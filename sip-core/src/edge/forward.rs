//! Sending a request on its branches, and what belongs to it: CANCEL, timer C.

use std::time::Instant;

use bytes::Bytes;

use super::Edge;
use super::event::{DropCause, Event, Reason, Why};
use super::exchange::{Answer, Branch, Exchange, Hop, Incoming, Plan, Refusal};
use super::failover::unreachable_switch;
use super::register::Registration;
use crate::flow::{Dial, Side, Target, Transmit, Transport};
use crate::header::MaxBreadth;
use crate::machine::Output;
use crate::message::{Limits, Message, Method, RequestBuilder};
use crate::proxy::context::Context;
use crate::token::LoopHash;
use crate::transaction::ServerKey;

/// Limits were for the peer; what we sent ourselves is read as it is.
pub(super) const OWN: Limits = Limits {
    message: usize::MAX,
    rows: usize::MAX,
    row_bytes: usize::MAX,
    uri: usize::MAX,
    vias: usize::MAX,
    contacts: usize::MAX,
};

/// The longest request that goes as a datagram, the path's MTU being unknown.
const DATAGRAM: usize = 1300;

impl Edge {
    /// Starts a response context and sends every branch.
    pub(super) fn proxy(
        &mut self,
        now: Instant,
        incoming: Incoming,
        plan: Plan,
        registration: Option<Box<Registration>>,
        hash: LoopHash,
    ) {
        let Some(key) = incoming.key else { return };
        // RFC 5393 §5.3.3: not so many at once.
        if let [_, others @ ..] = plan.ways.as_slice()
            && let Some(Ok(breadth)) = incoming.message.header::<MaxBreadth>()
            && others.len() >= usize::try_from(breadth).unwrap_or(usize::MAX)
        {
            let refusal = Refusal::new(440, "Max-Breadth Exceeded", Reason::Limit("breadth"));
            return self.refuse(now, &incoming, &refusal);
        }
        self.set_fallback(&key, &incoming);
        let context = if incoming.method() == Method::Invite {
            if plan.dialog.is_none() {
                self.count_call(key);
            }
            Context::invite(now, self.ringing(&incoming.message))
        } else {
            Context::other()
        };
        let towards = plan.ways.first().map_or(Side::Inside, |way| way.hop.side());
        let recorded = registration.is_none() && self.stays(&incoming.message, towards);
        let mut exchange = Box::new(Exchange {
            key,
            incoming,
            phone: plan.phone,
            dialog: plan.dialog,
            registration,
            context,
            branches: Vec::with_capacity(plan.ways.len()),
            recorded,
            early: Vec::new(),
            ring: None,
            hash,
            cancelled_with: None,
        });
        self.recall_dialog(now, &exchange);
        // All branches stand before the first one can fail, so that its failure is not taken for the end.
        for way in plan.ways {
            exchange.context.add();
            exchange.branches.push(Branch::new(way));
        }
        self.hold(&exchange);
        for branch in 0..exchange.branches.len() {
            self.send_branch(now, &mut exchange, branch);
        }
        self.park(exchange);
    }

    /// Keeps an exchange for what may still come, with its timer C.
    pub(super) fn park(&mut self, mut exchange: Box<Exchange>) {
        let due = exchange.context.deadline();
        if due != exchange.ring {
            if let Some(at) = exchange.ring.take() {
                self.rings.remove(&(at, exchange.key));
            }
            if let Some(at) = due {
                self.rings.insert((at, exchange.key));
            }
            exchange.ring = due;
        }
        if exchange.is_over() {
            self.finish(&mut exchange);
        } else {
            self.exchanges.insert(exchange.key, exchange);
        }
    }

    /// Lets go of what an exchange holds.
    fn finish(&mut self, exchange: &mut Exchange) {
        self.pending.settled(&exchange.key);
        if let Some(at) = exchange.ring.take() {
            self.rings.remove(&(at, exchange.key));
        }
        for branch in 0..exchange.branches.len() {
            self.release(exchange, branch);
        }
        self.forget_early(exchange);
        if !self.forks.is_empty() {
            for branch in &exchange.branches {
                self.forks.remove(branch.id.as_bytes());
            }
        }
        self.let_go(exchange);
    }

    pub(super) fn send_branch(&mut self, now: Instant, exchange: &mut Exchange, index: usize) {
        let Some(branch) = exchange.branches.get(index) else { return };
        if let Hop::Name(sought) = &branch.way.hop {
            let sought = sought.clone();
            return self.look_up(now, exchange, index, sought);
        }
        if !self.choose_switch(now, exchange, index) {
            return self.fail_branch(now, exchange, index, unreachable_switch());
        }
        if self.must_wait(now, exchange, index) {
            return;
        }
        if self.is_pending(exchange) {
            let answer = Answer::Own(491, "Request Pending", Reason::Pending);
            return self.fail_branch(now, exchange, index, answer);
        }
        if self.is_too_late(now, exchange) {
            let answer = Answer::Own(481, "Call/Transaction Does Not Exist", Reason::NoDialog);
            return self.fail_branch(now, exchange, index, answer);
        }
        let body = match self.offer_request(now, exchange, index) {
            Ok(body) => body,
            Err(refusal) => {
                let (status, phrase) = refusal.status();
                self.tell(Event::MediaRefused { call_id: exchange.incoming.call_id(), status });
                return self.fail_branch(now, exchange, index, Answer::Own(status, phrase, Reason::Media));
            }
        };
        let width = exchange.branches.iter().filter(|branch| !branch.over).count();
        let Some(branch) = exchange.branches.get_mut(index) else { return };
        let across = matches!(branch.way.hop, Hop::Shard(_));
        // The same request goes on from there: that is no loop.
        let hash = if across { LoopHash::new([]) } else { exchange.hash };
        let id = self.random.branch(hash);
        if across {
            self.forks.insert(id.as_bytes().into(), exchange.key);
        }
        let target = match branch.way.hop.target() {
            Some(Target::Dial(dial)) => self.target_of(dial),
            target => target,
        };
        let Some(target) = target else {
            self.fail_over(now, exchange, index, Why::Unreachable);
            return self.fail_branch(now, exchange, index, unreachable_switch());
        };
        // What is answered, cancelled or blamed is what was asked.
        let Some(branch) = exchange.branches.get_mut(index) else { return };
        branch.target = Some(target);
        if let (Hop::Switch(dials), Target::Dial(dial)) = (&mut branch.way.hop, target)
            && let Some(first) = dials.front_mut()
        {
            *first = dial;
        }
        let registration = exchange.registration.as_deref();
        match self.write_request(&exchange.incoming, &branch.way, (&id, width), body.as_ref(), registration) {
            Err(error) => {
                let (status, phrase) = error.status();
                let answer = Answer::Own(status, phrase, Reason::Unforwardable);
                self.fail_branch(now, exchange, index, answer);
            }
            Ok(bytes) if self.goes_by_stream(&mut exchange.branches, index, bytes.len()) => {
                self.send_branch(now, exchange, index);
            }
            Ok(bytes) => {
                let method = exchange.incoming.method();
                let client = self.layer.request(now, target, &id, method, bytes.clone());
                self.clients.insert(client, (exchange.key, index));
                if let Some(branch) = exchange.branches.get_mut(index) {
                    branch.client = Some(client);
                    // Only a CANCEL needs it again.
                    branch.sent = if method == Method::Invite { bytes } else { Bytes::new() };
                    branch.id = id;
                }
            }
        }
    }

    /// "If a request is within 200 bytes of the path MTU, or if it is larger than 1300 bytes and the path MTU is unknown,
    /// the request MUST be sent using an RFC 2914 congestion controlled transport protocol, such as TCP. [...] if an
    /// attempt at establishing a connection fails [...] the element SHOULD retry the request, using UDP" (RFC 3261
    /// §18.1.1). Puts the same address over TCP before the one over UDP, once. Phones are never dialled.
    fn goes_by_stream(&self, branches: &mut [Branch], index: usize, octets: usize) -> bool {
        let Some(branch) = branches.get_mut(index).filter(|branch| !branch.streamed) else { return false };
        if octets <= DATAGRAM || self.config.interop.transports.large_udp {
            return false;
        }
        let Hop::Switch(dials) = &mut branch.way.hop else { return false };
        match dials.front().copied() {
            Some(dial) if dial.transport == Transport::Udp => {
                dials.push_front(Dial { transport: Transport::Tcp, ..dial });
                branch.streamed = true;
                true
            }
            _ => false,
        }
    }

    /// A branch that could not be sent, or ended without an answer.
    pub(super) fn fail_branch(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        answer: Answer,
    ) {
        if let Some(branch) = exchange.branches.get_mut(index) {
            branch.over = true;
        }
        let Answer::Own(status, ..) = answer else { return };
        let actions = exchange.context.handle_answer(now, index, status, answer);
        self.settle(now, exchange, actions);
    }

    /// Branches that still wait for an address are over at once when their request is cancelled.
    pub(super) fn drop_unsent(&mut self, now: Instant, exchange: &mut Exchange) {
        for index in 0..exchange.branches.len() {
            if exchange.branches.get(index).is_some_and(|b| b.client.is_none() && !b.over) {
                let answer = Answer::Own(487, "Request Terminated", Reason::Cancelled);
                self.fail_branch(now, exchange, index, answer);
            }
        }
    }

    pub(super) fn cancel_branch(&mut self, now: Instant, exchange: &Exchange, index: usize) {
        let Some(branch) = exchange.branches.get(index) else { return };
        let Some(target) = branch.target else { return };
        // RFC 3261 §9.1: the CANCEL of what was sent on this branch.
        let sent = Message::parse(branch.sent.clone(), &OWN).ok();
        if let Some(mut cancel) = sent.as_ref().and_then(RequestBuilder::cancel) {
            if let Some((kind, body)) = &exchange.cancelled_with {
                let answers = &self.config.interop.answers;
                if answers.cancel_body_forward {
                    cancel = cancel.body(kind, body);
                }
                if let Some(client) = branch.client.filter(|_| answers.cancel_body_in_ack) {
                    self.layer.set_ack_body(client, kind.clone(), body.clone());
                }
            }
            self.layer.request(now, target, &branch.id, Method::Cancel, cancel.build());
        }
    }

    /// An ACK to a 2xx: forwarded without a transaction (RFC 3261 §16.11).
    pub(super) fn forward_ack(&mut self, now: Instant, incoming: &Incoming, plan: &Plan, hash: LoopHash) {
        let Some(way) = plan.ways.first() else { return };
        let body = self.ack_body(now, incoming, plan);
        let id = self.random.branch(hash);
        let target = match way.hop.target() {
            Some(Target::Dial(dial)) => self.target_of(dial),
            target => target,
        };
        match (target, self.write_request(incoming, way, (&id, 1), body.as_ref(), None)) {
            (Some(target), Ok(bytes)) => self.outputs.push_back(Output::Transmit(Transmit { target, bytes })),
            _ => self.drop_message(&incoming.peer, DropCause::Unusable),
        }
    }

    /// Timer C of one exchange (RFC 3261 §16.8).
    pub(super) fn ring_out(&mut self, now: Instant, key: ServerKey) {
        let Some(mut exchange) = self.exchanges.remove(&key) else { return };
        exchange.ring = None;
        let actions =
            exchange.context.handle_timeout(now, || Answer::Own(408, "Request Timeout", Reason::Unreachable));
        self.settle(now, &mut exchange, actions);
        self.park(exchange);
    }
}
