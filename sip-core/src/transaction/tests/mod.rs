//! The layer in virtual time. `at` is the clock, `sends` what must leave just then; between two `at`s nothing may leave.
#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

mod clients;
mod matching;
mod properties;
mod servers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ClientKey, Config, Event, Layer, Received, ServerKey};
use crate::flow::{Dial, FlowId, Identity, ListenerId, Peer, Side, Source, Target, Transmit, Transport};
use crate::message::{Limits, Message, Method};

/// A layer, a clock, and everything that left and was not looked at.
struct World {
    layer: Layer,
    start: Instant,
    now: Instant,
    sent: VecDeque<(Instant, Transmit)>,
    events: VecDeque<(Instant, Event)>,
}

impl World {
    fn new(config: Config) -> Self {
        let start = Instant::now();
        Self { layer: Layer::new(config), start, now: start, sent: VecDeque::new(), events: VecDeque::new() }
    }

    /// Moves the clock, waking the layer exactly when it asks. Nothing may happen on the way.
    #[track_caller]
    fn at(&mut self, ms: u64) -> &mut Self {
        let to = self.start + Duration::from_millis(ms);
        self.nothing_left();
        assert!(to >= self.now, "time runs forward");
        self.run_until(to);
        if let Some((at, transmit)) = self.sent.iter().find(|(at, _)| *at < to) {
            panic!("unexpected at {:?}: {}", *at - self.start, first_line(&transmit.bytes));
        }
        if let Some((at, event)) = self.events.iter().find(|(at, _)| *at < to) {
            panic!("unexpected at {:?}: {event:?}", *at - self.start);
        }
        self
    }

    fn run_until(&mut self, to: Instant) {
        while let Some(at) = self.layer.poll_timeout().filter(|at| *at <= to) {
            self.now = at.max(self.now);
            self.layer.handle_timeout(self.now);
            self.collect();
        }
        self.now = to;
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.layer.poll_transmit() {
            self.sent.push_back((self.now, transmit));
        }
        while let Some(event) = self.layer.poll_event() {
            self.events.push_back((self.now, event));
        }
    }

    /// The next message that leaves now starts like this. Gives it back.
    #[track_caller]
    fn sends(&mut self, start: &str) -> Transmit {
        let Some((_, transmit)) = self.sent.pop_front() else { panic!("nothing leaves, expected {start}") };
        let line = first_line(&transmit.bytes);
        assert!(line.starts_with(start), "{line} leaves, expected {start}");
        transmit
    }

    #[track_caller]
    fn tells(&mut self, expected: Event) -> &mut Self {
        let event = self.events.pop_front().map(|(_, event)| event);
        assert_eq!(event, Some(expected));
        self
    }

    #[track_caller]
    fn nothing_left(&self) {
        if let Some((at, transmit)) = self.sent.front() {
            panic!("unexpected at {:?}: {}", *at - self.start, first_line(&transmit.bytes));
        }
        assert!(self.events.is_empty(), "unexpected: {:?}", self.events);
    }

    /// No transaction, no deadline, nothing unsaid.
    #[track_caller]
    fn is_over(&mut self) {
        self.run_until(self.now);
        self.nothing_left();
        assert!(self.layer.is_empty(), "{} transactions left", self.layer.len());
        assert_eq!(self.layer.entries(), 0);
        assert_eq!(self.layer.poll_timeout(), None);
    }

    fn receive(&mut self, from: &From, message: Message) -> Received {
        let received = self.layer.handle_message(self.now, from.source, &from.peer, message);
        self.collect();
        received
    }

    #[track_caller]
    fn receive_request(&mut self, from: &From, message: Message) -> ServerKey {
        match self.receive(from, message) {
            Received::Request { key, .. } => key,
            other => panic!("{other:?}"),
        }
    }

    fn respond(&mut self, key: ServerKey, status: u16) {
        self.layer.respond(self.now, &key, status, response_text(status));
        self.collect();
    }

    fn request(&mut self, target: Target, branch: &str, method: Method<'_>) -> ClientKey {
        let bytes = request(&String::from_utf8_lossy(method.as_bytes()), branch).bytes().clone();
        let key = self.layer.request(self.now, target, branch, method, bytes);
        self.collect();
        key
    }
}

fn first_line(bytes: &Bytes) -> String {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// Where a message comes from.
struct From {
    source: Source,
    peer: Peer,
}

fn peer(transport: Transport, side: Side, remote: SocketAddr) -> Peer {
    Peer {
        remote,
        local: ([127, 0, 0, 1], 5060).into(),
        transport,
        side,
        listener: Some(ListenerId(1)),
        identity: None,
        verified: false,
    }
}

const PBX: ([u8; 4], u16) = ([10, 0, 1, 10], 5060);

fn pbx_udp() -> From {
    let remote = PBX.into();
    let source = Source::Datagram { listener: ListenerId(1), remote };
    From { source, peer: peer(Transport::Udp, Side::Inside, remote) }
}

fn pbx_tcp(flow: u64) -> From {
    let source = Source::Flow(FlowId(flow));
    From { source, peer: peer(Transport::Tcp, Side::Inside, PBX.into()) }
}

fn phone(flow: u64) -> From {
    let source = Source::Flow(FlowId(flow));
    From { source, peer: peer(Transport::Tls, Side::Outside, ([192, 0, 2, 1], 40_000).into()) }
}

fn certified(flow: u64, key: u8) -> From {
    let mut from = phone(flow);
    let identity = Identity { subject: String::new(), names: Vec::new(), key_hash: [key; 32] };
    from.peer.identity = Some(Arc::new(identity));
    from
}

fn udp() -> Target {
    Target::Datagram { listener: ListenerId(1), remote: PBX.into() }
}

fn dial() -> Dial {
    Dial { transport: Transport::Tcp, remote: PBX.into(), side: Side::Inside, affinity: None }
}

fn parse(text: String) -> Message {
    Message::parse(Bytes::from(text), &Limits::default()).expect("a good message")
}

/// A request whose Via has this branch, none if it is empty.
fn request(method: &str, branch: &str) -> Message {
    request_to(method, branch, "<sip:b@example.com>")
}

fn request_to(method: &str, branch: &str, to: &str) -> Message {
    let branch = if branch.is_empty() { String::new() } else { format!(";branch={branch}") };
    parse(format!(
        "{method} sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.10:5060{branch};rport\r\n\
         Route: <sip:proxy.example.com;lr>\r\nFrom: <sip:a@example.com>;tag=fromtag\r\nTo: {to}\r\n\
         Call-ID: call@example.com\r\nCSeq: 7 {method}\r\nMax-Forwards: 69\r\nContent-Length: 0\r\n\r\n"
    ))
}

/// A response to [`request`] with this branch.
fn response(status: u16, branch: &str, method: &str) -> Message {
    parse(format!(
        "SIP/2.0 {status} Whatever\r\nVia: SIP/2.0/UDP 10.0.1.10:5060;branch={branch};rport\r\n\
         From: <sip:a@example.com>;tag=fromtag\r\nTo: <sip:b@example.com>;tag=totag\r\n\
         Call-ID: call@example.com\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
    ))
}

fn response_text(status: u16) -> Bytes {
    response(status, "z9hG4bKserver", "INVITE").bytes().clone()
}
