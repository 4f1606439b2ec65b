//! Virtual time, phones and a PBX made of literal text, and the real edge between them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip_core::edge::bindings::Change;
use sip_core::edge::config::Face;
use sip_core::edge::guard::{Rate, Rates};
use sip_core::edge::{Command, Config, Edge, Event};
use sip_core::flow::{Dial, FlowId, Identity, ListenerId, Peer, Side, Source, Target, Transport};
use sip_core::machine::{Input, Output};
use sip_core::message::{Limits, Message};
use sip_core::resolve::records::{Answer, Kind, Question, Records};
use sip_core::token::{Key, Keyring};

use crate::relay::{Forks, Kept, Relay};
use crate::several::{self, Several};

pub(crate) const OUT: &str = "192.0.2.1";
pub(crate) const OUT6: &str = "2001:db8::1";
pub(crate) const IN: &str = "10.0.1.2";
pub(crate) const PBX: &str = "10.0.1.50";

/// Everything around the edge.
pub(crate) struct World {
    pub(crate) edge: Several,
    pub(crate) now: Instant,
    flows: HashMap<FlowId, Arc<Peer>>,
    inbox: HashMap<Source, VecDeque<String>>,
    /// By shard.
    dialled: HashMap<(u8, Dial), FlowId>,
    pub(crate) dials: Vec<(Dial, FlowId)>,
    /// Addresses that refuse connections.
    pub(crate) down: HashSet<SocketAddr>,
    pub(crate) events: Vec<Event>,
    pub(crate) asked: Vec<(u64, Question)>,
    /// What name servers know; empty: see [`World::answer_lookup`].
    pub(crate) zone: HashMap<(Kind, String), (Records, u64)>,
    pub(crate) media: Arc<Mutex<Vec<String>>>,
    /// What the relay keeps of each session.
    pub(crate) records: Kept,
    pub(crate) forks: Forks,
    relay: Relay,
    pub(crate) wire: Vec<String>,
    next: u64,
    /// Whether inside addresses may show outside (a 301 to REGISTER).
    pub(crate) shows_inside: bool,
    /// Whether datagrams come by a row that trusts nobody.
    pub(crate) distrusted: bool,
    /// Whether no switch takes plain TCP.
    pub(crate) refuses_tcp: bool,
}

/// A phone's or the PBX's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct End(pub(crate) Source);

pub(crate) fn config() -> Config {
    let outside = Face::new(OUT, 5061, Transport::Tls);
    let inside = Face::new(IN, 5061, Transport::Tls);
    let mut config = Config::new(outside, inside);
    config.inside_networks = ["10.0.1.48/28".parse().unwrap()].into_iter().collect();
    config
}

/// Without the guard, for what is behind it.
pub(crate) fn unguarded() -> Config {
    let mut config = config();
    let rate = Rate { per_second: 1_000_000, burst: 1_000_000 };
    config.guard.rates = Rates { messages: rate, invites: rate, phones: 1 };
    config.guard.auth.enabled = false;
    config.guard.ids.enabled = false;
    config
}

pub(crate) fn keys() -> Keyring {
    Keyring::new(Key::new(1, [7; 32]), vec![])
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::sharded(config, several::wanted())
    }

    /// So many machines.
    pub(crate) fn sharded(config: Config, count: usize) -> Self {
        let relay = Relay::default();
        Self {
            edge: edges(&config, 3, count, &relay),
            now: Instant::now(),
            flows: HashMap::new(),
            inbox: HashMap::new(),
            dialled: HashMap::new(),
            dials: Vec::new(),
            down: HashSet::new(),
            events: Vec::new(),
            asked: Vec::new(),
            zone: HashMap::new(),
            media: relay.calls.clone(),
            records: relay.records.clone(),
            forks: relay.forks.clone(),
            relay,
            wire: Vec::new(),
            next: 0,
            shows_inside: false,
            distrusted: false,
            refuses_tcp: false,
        }
    }

    /// The gateway starts anew; connections are gone, keys and what the log kept stay.
    pub(crate) fn restart(&mut self, config: Config) {
        self.relay.seen = Arc::default();
        self.start_anew(config, self.edge.edges.len());
        self.drive();
    }

    /// The same around a relay that went on and has the calls; so many machines from now on.
    pub(crate) fn take_over(&mut self, config: Config, count: usize) {
        self.start_anew(config, count);
        let sessions = self.records.lock().unwrap().clone().into_iter().collect();
        self.edge.handle_command(self.now, Command::TakeOver { sessions });
        self.drive();
    }

    fn start_anew(&mut self, config: Config, count: usize) {
        self.edge = edges(&config, 4, count, &self.relay);
        self.flows.clear();
        self.dialled.clear();
        self.inbox.clear();
        for event in std::mem::take(&mut self.events) {
            if let Event::Location(change @ (Change::Put(_) | Change::Remove(_))) = event {
                self.edge.handle_command(self.now, Command::Locate(change));
            }
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        if matches!(command, Command::Snapshot) {
            let snapshot = self.edge.snapshot(self.now);
            return self.events.push(Event::Snapshot(Box::new(snapshot)));
        }
        self.edge.handle_command(self.now, command);
        self.drive();
    }

    /// A phone connects with the certificate of this MAC.
    pub(crate) fn phone(&mut self, mac: &str, remote: &str) -> End {
        self.connect(Side::Outside, remote, Some(identity(mac)), true)
    }

    /// The PBX connects to us.
    pub(crate) fn switch(&mut self, remote: &str) -> End {
        self.connect(Side::Inside, remote, Some(identity("pbx")), true)
    }

    /// A phone connects over plain TCP to a row that trusts its address.
    pub(crate) fn plain(&mut self, remote: &str) -> End {
        self.open(Peer {
            remote: remote.parse().unwrap(),
            local: format!("{OUT}:5060").parse().unwrap(),
            transport: Transport::Tcp,
            side: Side::Outside,
            listener: Some(ListenerId(7)),
            identity: None,
            verified: true,
        })
    }

    pub(crate) fn connect(
        &mut self,
        side: Side,
        remote: &str,
        identity: Option<Identity>,
        verified: bool,
    ) -> End {
        self.open(Peer {
            remote: remote.parse().unwrap(),
            local: match side {
                Side::Outside => format!("{OUT}:5061").parse().unwrap(),
                Side::Inside => format!("{IN}:5061").parse().unwrap(),
            },
            transport: Transport::Tls,
            side,
            listener: Some(ListenerId(side as u32)),
            identity: identity.map(Arc::new),
            verified,
        })
    }

    fn open(&mut self, peer: Peer) -> End {
        self.next += 1;
        let flow = FlowId::on(self.edge.place(&peer), self.next);
        let peer = Arc::new(peer);
        self.flows.insert(flow, peer.clone());
        self.edge.handle_input(self.now, Input::FlowOpened { flow, peer, dial: None });
        self.drive();
        End(Source::Flow(flow))
    }

    /// Raw octets as one datagram-like message; `false` when they are no message.
    pub(crate) fn throw(&mut self, end: End, bytes: Vec<u8>) -> bool {
        let Some(peer) = end.0.flow().and_then(|flow| self.flows.get(&flow)).cloned() else { return false };
        let Ok(message) = Message::parse(bytes.into(), &Limits::default()) else { return false };
        self.edge.handle_input(self.now, Input::Message { source: end.0, peer, message });
        self.drive();
        true
    }

    pub(crate) fn hang(&mut self, end: End) {
        let flow = end.0.flow().unwrap();
        self.flows.remove(&flow);
        self.dialled.retain(|_, f| *f != flow);
        self.edge.handle_input(self.now, Input::FlowClosed { flow });
        self.drive();
    }

    /// Literal text on a connection; line ends and Content-Length are put in.
    pub(crate) fn say(&mut self, end: End, text: &str) {
        let peer = match end.0 {
            Source::Flow(flow) => self.flows.get(&flow).expect("the connection is gone").clone(),
            Source::Datagram { listener, remote } => Arc::new(Peer {
                remote,
                local: match (listener.0, remote.is_ipv4()) {
                    (0, true) => format!("{OUT}:5060").parse().unwrap(),
                    (0, false) => format!("[{OUT6}]:5060").parse().unwrap(),
                    _ => format!("{IN}:5060").parse().unwrap(),
                },
                transport: Transport::Udp,
                side: if listener.0 == 0 { Side::Outside } else { Side::Inside },
                listener: Some(listener),
                identity: None,
                verified: !self.distrusted,
            }),
        };
        self.wire.push(format!("<< {}\n{text}", peer.remote));
        let limits = if peer.side == Side::Inside { Limits::of_a_switch() } else { Limits::default() };
        let message = Message::parse(wire(text), &limits).expect("unparseable");
        self.edge.handle_input(self.now, Input::Message { source: end.0, peer, message });
        self.drive();
    }

    /// Octets as they are, as one datagram; how many there were.
    pub(crate) fn raw(&mut self, end: End, text: &str) -> usize {
        let Source::Datagram { listener, remote } = end.0 else { panic!("a datagram") };
        let peer = Arc::new(Peer {
            remote,
            local: format!("{OUT}:5060").parse().unwrap(),
            transport: Transport::Udp,
            side: Side::Outside,
            listener: Some(listener),
            identity: None,
            verified: !self.distrusted,
        });
        self.wire.push(format!("<< {remote}\n{text}"));
        let message = Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default());
        let message = message.expect("unparseable");
        self.edge.handle_input(self.now, Input::Message { source: end.0, peer, message });
        self.drive();
        text.len()
    }

    /// The next message at this end.
    pub(crate) fn hear(&mut self, end: End) -> String {
        let next = self.inbox.get_mut(&end.0).and_then(VecDeque::pop_front);
        next.unwrap_or_else(|| panic!("{end:?} hears nothing\n{}", self.story()))
    }

    /// The next message at this end, if there is one.
    pub(crate) fn next(&mut self, end: End) -> Option<String> {
        self.inbox.get_mut(&end.0)?.pop_front()
    }

    /// The next message here, which starts so.
    pub(crate) fn hear_start(&mut self, end: End, start: &str) -> String {
        let text = self.hear(end);
        assert!(text.starts_with(start), "expected {start}, got:\n{text}\n{}", self.story());
        text
    }

    pub(crate) fn silent(&mut self, end: End) {
        let left = self.inbox.get(&end.0).map_or(0, VecDeque::len);
        assert_eq!(left, 0, "{end:?} hears\n{}\n{}", self.inbox[&end.0][0], self.story());
    }

    /// The end of the latest connection dialled to this address.
    pub(crate) fn dialled(&self, remote: &str) -> End {
        let remote: SocketAddr = remote.parse().unwrap();
        let found = self.dials.iter().rev().find(|(dial, _)| dial.remote == remote);
        End(Source::Flow(found.unwrap_or_else(|| panic!("nobody dialled {remote}\n{}", self.story())).1))
    }

    /// How many connections that were dialled stand.
    pub(crate) fn open_dials(&self) -> usize {
        self.dials.iter().filter(|(_, flow)| self.flows.contains_key(flow)).count()
    }

    /// Our end of every connection inside that stands, dialled or not.
    pub(crate) fn inside_ends(&self) -> Vec<End> {
        let inside = self.flows.iter().filter(|(_, peer)| peer.side == Side::Inside);
        let mut flows: Vec<_> = inside.map(|(flow, _)| *flow).collect();
        flows.sort();
        flows.into_iter().map(|flow| End(Source::Flow(flow))).collect()
    }

    /// Who is at the other end of a connection that stands.
    pub(crate) fn remote(&self, end: End) -> String {
        let flow = end.0.flow().and_then(|flow| self.flows.get(&flow));
        flow.map_or_else(String::new, |peer| peer.remote.to_string())
    }

    /// Whether this connection stands.
    pub(crate) fn peer(&self, end: End) -> Peer {
        Peer::clone(&self.flows[&end.0.flow().expect("a connection")])
    }

    pub(crate) fn stands(&self, end: End) -> bool {
        end.0.flow().is_some_and(|flow| self.flows.contains_key(&flow))
    }

    pub(crate) fn story(&self) -> String {
        let events: Vec<String> = self.events.iter().map(|e| format!("{e:?}")).collect();
        format!("---- story\n{}\n---- events\n{}", self.wire.join("\n"), events.join("\n"))
    }

    /// Time passes; every timer on the way fires.
    pub(crate) fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            match self.drive() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
        }
        self.now = end;
        self.drive();
    }

    /// Answers what was asked last; there is neither NAPTR nor SRV.
    pub(crate) fn answer_lookup(&mut self, addresses: &[&str]) {
        loop {
            let (query, question) = self.asked.pop().expect("nothing asked");
            let over = question.kind == Kind::Addresses;
            let records = match over {
                true => Records::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect()),
                false => Records::Missing,
            };
            self.resolved(query, records, 60);
            if over {
                return;
            }
        }
    }

    pub(crate) fn resolved(&mut self, query: u64, records: Records, ttl: u64) {
        let answer = Answer { records, ttl: Duration::from_secs(ttl) };
        self.edge.handle_input(self.now, Input::Resolved { query, answer });
        self.drive();
    }

    /// Enters addresses into the zone that name servers answer from.
    pub(crate) fn a(&mut self, name: &str, addresses: &[&str]) {
        let records = Records::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect());
        self.zone.insert((Kind::Addresses, name.to_owned()), (records, 60));
    }

    pub(crate) fn saw(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|e| wanted(e)).count()
    }

    fn drive(&mut self) -> Option<Instant> {
        for _ in 0..10_000 {
            let (shard, output) = self.edge.poll_output(self.now);
            match output {
                Output::Transmit(transmit) => self.deliver(shard, transmit.target, transmit.bytes),
                Output::Close(flow) => {
                    self.flows.remove(&flow);
                    self.dialled.retain(|_, open| *open != flow);
                    self.edge.handle_input(self.now, Input::FlowClosed { flow });
                }
                Output::Resolve { query, question } => {
                    self.asked.push((query, question.clone()));
                    if !self.zone.is_empty() {
                        let known = self.zone.get(&(question.kind, question.name)).cloned();
                        let (records, ttl) = known.unwrap_or((Records::Missing, 60));
                        let answer = Answer { records, ttl: Duration::from_secs(ttl) };
                        self.edge.handle_input(self.now, Input::Resolved { query, answer });
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Timeout(at) => return at,
                other => panic!("nobody knows how to {other:?}"),
            }
        }
        panic!("the edge does not come to rest\n{}", self.story());
    }

    /// A keep-alive of a phone.
    pub(crate) fn ping(&mut self, end: End) {
        self.edge.handle_input(self.now, Input::Ping { source: end.0 });
        self.drive();
    }

    fn deliver(&mut self, shard: u8, target: Target, bytes: Bytes) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let (Target::Flow(flow), "\r\n\r\n") = (target, text.as_str()) {
            return self.inbox.entry(Source::Flow(flow)).or_default().push_back(text);
        }
        // What is at the limits when it comes in is above them when it leaves.
        let limits = Limits { rows: 210, uri: 2048, ..Limits::default() };
        let parsed = Message::parse_framed(bytes, &limits).expect("the edge wrote what it can't read");
        // An answer to what lacks a field lacks it too.
        assert!(
            parsed.validate().is_empty() || text.starts_with("SIP/2.0 400"),
            "{:?}\n{text}",
            parsed.validate()
        );
        let source = match target {
            Target::Flow(flow) => Source::Flow(flow),
            Target::Datagram { listener, remote } => Source::Datagram { listener, remote },
            Target::Dial(dial) => match self.dial(shard, dial) {
                Some(flow) => Source::Flow(flow),
                None => return,
            },
        };
        let (side, remote) = match source {
            Source::Flow(flow) => match self.flows.get(&flow) {
                Some(peer) => (peer.side, peer.remote),
                None => return,
            },
            Source::Datagram { listener, remote } => {
                (if listener.0 == 0 { Side::Outside } else { Side::Inside }, remote)
            }
        };
        self.wire.push(format!(">> {remote}\n{text}"));
        if side == Side::Outside && !self.shows_inside {
            hides_the_inside(&text);
        }
        if side == Side::Inside && !self.shows_inside {
            assert!(!text.contains("pc="), "a sealed address came inside:\n{text}");
        }
        self.inbox.entry(source).or_default().push_back(text);
    }

    fn dial(&mut self, shard: u8, dial: Dial) -> Option<FlowId> {
        assert_eq!(dial.side, Side::Inside, "a phone is never dialled");
        if let Some(flow) = self.dialled.get(&(shard, dial)) {
            return Some(*flow);
        }
        if self.down.contains(&dial.remote) || self.refuses_tcp && dial.transport == Transport::Tcp {
            self.edge.dial_failed(self.now, shard, dial);
            return None;
        }
        self.next += 1;
        let flow = FlowId::on(shard, self.next);
        let peer = Arc::new(Peer {
            remote: dial.remote,
            local: format!("{IN}:40000").parse().unwrap(),
            transport: dial.transport,
            side: Side::Inside,
            listener: None,
            identity: Some(Arc::new(identity("pbx"))),
            verified: true,
        });
        self.flows.insert(flow, peer.clone());
        self.dialled.insert((shard, dial), flow);
        self.dials.push((dial, flow));
        self.edge.handle_input(self.now, Input::FlowOpened { flow, peer, dial: Some(dial) });
        Some(flow)
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    let mut key_hash = [0; 32];
    for (at, byte) in name.bytes().enumerate() {
        key_hash[at % 32] ^= byte.wrapping_add(at as u8);
    }
    Identity { subject: format!("CN={name}"), names: vec![name.to_owned()], key_hash }
}

/// Topology (SIP-64): an inside address only where it is what phone and PBX call each other by, or what a phone fetches.
fn hides_the_inside(text: &str) {
    const SHARED: [&str; 6] = ["from", "to", "call-id", "refer-to", "referred-by", "call-info"];
    for line in text.lines().skip(1).take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        if !SHARED.contains(&name.as_str()) {
            assert!(!line.contains("10.0.1."), "an inside address leaves: {line}\n{text}");
            assert!(!line.contains("crt="), "a phone's token leaves: {line}\n{text}");
        }
    }
}

/// Text to wire: CRLF, and the Content-Length of what follows the empty line.
pub(crate) fn wire(text: &str) -> Bytes {
    let text = text.trim_start_matches('\n');
    let lines: Vec<&str> = text.split('\n').map(str::trim_start).collect();
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let body: String =
        lines.iter().skip(end + 1).filter(|l| !l.is_empty()).map(|l| format!("{l}\r\n")).collect();
    let mut out: String = lines[..end].iter().map(|line| format!("{line}\r\n")).collect();
    if !out.contains("Content-Length") {
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    out.push_str(&body);
    out.into()
}

/// The header's first row in a message.
pub(crate) fn row<'t>(text: &'t str, name: &str) -> &'t str {
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let found = head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

pub(crate) fn rows<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    head.split("\r\n").filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

pub(crate) fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub(crate) fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in\n{text}"));
    rest.split(after).next().unwrap_or_default()
}

/// Literal response of whoever got this request: its Vias, From, To, Call-ID, CSeq and Record-Routes copied as text.
pub(crate) fn reply(request: &str, status: &str, tag: &str, more: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in rows(request, name) {
            let tagged = name == "To" && !value.contains("tag=") && !tag.is_empty();
            let tag = if tagged { format!(";tag={tag}") } else { String::new() };
            out.push_str(&format!("{name}: {value}{tag}\n"));
        }
    }
    let (head, body) = more.split_once("\n\n").unwrap_or((more, ""));
    out.push_str(head.trim_matches('\n'));
    if body.is_empty() { out } else { format!("{out}\n\n{body}") }
}

/// Machines around one relay.
fn edges(config: &Config, seed: u8, count: usize, relay: &Relay) -> Several {
    Several::new(count, |shard| {
        Edge::new(config.clone(), keys(), [seed + 16 * shard; 32], Box::new(relay.clone()))
    })
}
