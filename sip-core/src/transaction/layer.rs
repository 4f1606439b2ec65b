//! All transactions of one machine, client and server, behind one deadline.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::clients::Clients;
use super::servers::Servers;
use super::timer::{Config, Deadlines};
use crate::flow::{Dial, FlowId, Peer, Source, Target, Transmit};
use crate::message::{Message, Method};
use crate::numbered::Numbered;

/// A server transaction. Never reused; one that has ended is quietly ignored by every call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServerKey(pub(super) u64);

/// A client transaction. Never reused; one that has ended is quietly ignored by every call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClientKey(pub(super) u64);

/// What a message turned out to be.
#[derive(Clone, Debug)]
pub enum Received {
    /// A new request; answer it with [`Layer::respond`].
    Request {
        /// Its transaction.
        key: ServerKey,
        /// The request.
        message: Message,
    },
    /// An ACK that acknowledges a 2xx, or nothing that is known. It has no transaction and wants no answer.
    Ack {
        /// The ACK.
        message: Message,
    },
    /// A CANCEL. It wants an answer of its own: 200 if it found its INVITE, else 481 (RFC 3261 §9.2).
    Cancel {
        /// The transaction of the CANCEL itself.
        key: ServerKey,
        /// The INVITE that it means, while that transaction lives.
        invite: Option<ServerKey>,
        /// The CANCEL.
        message: Message,
    },
    /// A response to a request of ours, to be acted upon. Retransmissions don't come up, but for 2xx to INVITE.
    Response {
        /// Which request.
        key: ClientKey,
        /// The response.
        message: Message,
    },
    /// A new request beyond [`Config::transactions`], or shed ([`Layer::shed`]). It has been answered 503 and has no
    /// transaction.
    Refused {
        /// The request.
        message: Message,
    },
    /// Dealt with here: a retransmission, or an ACK to a failure.
    Absorbed,
    /// A response that answers nothing we asked, or not from whom we asked, or a message without a readable Via. To be
    /// dropped and counted, never forwarded.
    Stray(Message),
}

/// What happened to a transaction by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Nobody answered in time (RFC 3261 §8.1.3.1: as if 408 had come). The transaction is gone.
    ClientTimedOut(ClientKey),
    /// The request could not be delivered, or its answer can't arrive (as if 503 had come). The transaction is gone.
    ClientFailed(ClientKey),
    /// Ended after its final response. Nothing more comes for this key.
    ClientEnded(ClientKey),
    /// Ended. After a response to INVITE that was never acknowledged, too.
    ServerEnded(ServerKey),
}

/// Owns all transactions. See the module's text.
///
/// Feed it messages, orders and [`handle_timeout`](Self::handle_timeout), then drain [`poll_transmit`](Self::poll_transmit)
/// and [`poll_event`](Self::poll_event), and come back at [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Layer {
    config: Config,
    clients: Clients,
    servers: Servers,
    /// The open connection of each [`Dial`], and back.
    dialled: Numbered<Dial, FlowId>,
    dials: Numbered<FlowId, Dial>,
    out: Out,
    shedding: bool,
}

impl Layer {
    /// An empty layer.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            clients: Clients::default(),
            servers: Servers::default(),
            dialled: Numbered::default(),
            dials: Numbered::default(),
            out: Out::new(),
            shedding: false,
        }
    }

    /// While it sheds, a new INVITE or REGISTER outside of dialogs is answered 503 with Retry-After and costs nothing more
    /// ([`Received::Refused`]); what runs, and what belongs to a dialog, goes on.
    pub fn shed(&mut self, shedding: bool) {
        self.shedding = shedding;
    }

    /// Changes timing and limits. Clocks that run keep their pace until their transaction's next state.
    pub fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// How many transactions live.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// Whether no transaction lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a message from the network.
    pub fn handle_message(
        &mut self,
        now: Instant,
        source: Source,
        peer: &Peer,
        message: Message,
    ) -> Received {
        let received = if message.is_request() {
            // What belongs to a dialog has as much room again.
            let most = self.config.transactions;
            let most = if super::servers::in_dialog(&message) { most.saturating_mul(2) } else { most };
            let full = self.servers.len() >= most;
            self.servers.handle_request(
                now,
                source,
                peer,
                message,
                full,
                self.shedding,
                &self.config,
                &mut self.out,
            )
        } else {
            self.clients.handle_response(now, source, peer, message, &self.config, &mut self.out)
        };
        self.settle();
        received
    }

    /// Answers a request. `bytes` is the whole response, `status` its code. The layer sends it, and sends it again when the
    /// RFC wants that, except 2xx to INVITE, which their user repeats (RFC 3261 §13.3.1.4).
    ///
    /// It goes where the request came from. If that connection is gone it goes to the target of
    /// [`set_fallback`](Self::set_fallback), else nowhere, and the transaction ends.
    pub fn respond(&mut self, now: Instant, key: &ServerKey, status: u16, bytes: Bytes) {
        self.servers.respond(now, *key, status, false, bytes, &self.config, &mut self.out);
        self.settle();
    }

    /// As [`respond`](Self::respond) for a failure that is sent once for each time it is asked for, as a stateless server
    /// would (RFC 3261 §8.2.7): over UDP a refusal of an INVITE is not repeated until its ACK comes, so that a sender who
    /// lies about his address gains nothing. Where 100 was sent before, the peer no longer asks, and it is repeated.
    pub fn refuse(&mut self, now: Instant, key: &ServerKey, status: u16, bytes: Bytes) {
        self.servers.respond(now, *key, status, true, bytes, &self.config, &mut self.out);
        self.settle();
    }

    /// Answers a request that was not given to [`handle_message`](Self::handle_message) and shall cost nothing: sent once,
    /// to where the request came from (RFC 3261 §8.2.7).
    pub fn respond_without_transaction(
        &mut self,
        source: Source,
        peer: &Peer,
        request: &Message,
        bytes: Bytes,
    ) {
        self.out.send(super::key::reply_target(source, peer, request), bytes);
    }

    /// Where responses go once the connection of the request is gone: for inside peers the sent-by of their Via
    /// (RFC 3261 §18.2.2). Phones get none: what can't reach them on their connection reaches nobody.
    pub fn set_fallback(&mut self, key: &ServerKey, target: Target) {
        self.servers.set_fallback(*key, target);
    }

    /// Gives the ACK to a failure of this INVITE a body. RFC 3261 §17.1.1.3 has none; some peers want one.
    pub fn set_ack_body(&mut self, key: ClientKey, content_type: String, body: Bytes) {
        self.clients.set_ack_body(key, content_type, body);
    }

    /// Sends a request and sees to its retransmissions. `bytes` already carry our Via with `branch`, which must be new,
    /// except that CANCEL takes the branch of its INVITE (RFC 3261 §9.1) and starts the clock of 64 T1 by which that one
    /// ends.
    ///
    /// ACKs to failures are made here. ACKs to 2xx have no transaction: transmit them yourself; if one comes here it is
    /// sent once.
    pub fn request(
        &mut self,
        now: Instant,
        target: Target,
        branch: &str,
        method: Method<'_>,
        bytes: Bytes,
    ) -> ClientKey {
        let full = self.clients.len() >= self.config.transactions.saturating_mul(2);
        let key = self.clients.request(now, target, branch, method, bytes, full, &self.config, &mut self.out);
        self.settle();
        key
    }

    /// Fires everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.out.deadlines.pop_due(now) {
            match id {
                Id::Client(key) => self.clients.handle_alarm(now, key, &self.config, &mut self.out),
                Id::Server(key) => self.servers.handle_alarm(now, key, &self.config, &mut self.out),
            }
        }
        self.settle();
    }

    /// A dialled connection stands. Only who tells this hears at once of requests that were lost with it.
    pub fn handle_flow_opened(&mut self, flow: FlowId, dial: &Dial) {
        self.dials.insert(flow, *dial);
        self.dialled.insert(*dial, flow);
    }

    /// A connection is gone. Requests that wait for an answer on it fail; responses turn to their fall-back.
    pub fn handle_flow_closed(&mut self, now: Instant, flow: FlowId) {
        self.servers.handle_flow_closed(now, flow, &self.config, &mut self.out);
        self.clients.handle_unreachable(now, Target::Flow(flow), &self.config, &mut self.out);
        if let Some(dial) = self.dials.remove(&flow) {
            // A newer connection for the same dial carries the requests now.
            if self.dialled.get(&dial) == Some(&flow) {
                self.dialled.remove(&dial);
                self.clients.handle_disconnected(now, dial, &self.config, &mut self.out);
            }
        }
        self.settle();
    }

    /// A connection could not be made. Requests that wait for it fail, responses that wait for it are lost.
    pub fn handle_dial_failed(&mut self, now: Instant, dial: &Dial) {
        self.servers.handle_dial_failed(now, *dial, &self.config, &mut self.out);
        self.clients.handle_unreachable(now, Target::Dial(*dial), &self.config, &mut self.out);
        self.settle();
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// The next thing that happened to a transaction.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called. O(1).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.out.deadlines.first()
    }

    /// Entries in all tables but that of deadlines, which drops its own.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.clients.entries() + self.servers.entries()
    }

    fn settle(&mut self) {
        let (clients, servers) = (&self.clients, &self.servers);
        self.out.deadlines.settle(clients.len() + servers.len(), |at, id| match id {
            Id::Client(key) => clients.deadline(key) == Some(at),
            Id::Server(key) => servers.deadline(key) == Some(at),
        });
    }
}

/// Either kind of transaction, in the table of deadlines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Id {
    Client(ClientKey),
    Server(ServerKey),
}

/// What both halves write to.
#[derive(Debug)]
pub(super) struct Out {
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    pub(super) deadlines: Deadlines<Id>,
    last_key: u64,
}

impl Out {
    fn new() -> Self {
        Self { transmits: VecDeque::new(), events: VecDeque::new(), deadlines: Deadlines::new(), last_key: 0 }
    }

    pub(super) fn send(&mut self, target: Target, bytes: Bytes) {
        self.transmits.push_back(Transmit { target, bytes });
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn new_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }
}
