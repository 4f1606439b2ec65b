//! The signalling gateway as a whole: messages in, messages out, no socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip_core::edge::config::Face;
use sip_core::edge::{Config, Edge};
use sip_core::flow::{Dial, FlowId, Identity, Peer, Side, Source, Target, Transport};
use sip_core::machine::{Input, Machine, Output};
use sip_core::media::Untouched;
use sip_core::message::{Limits, Message};
use sip_core::token::{Key, Keyring};

const PHONE: FlowId = FlowId(1);
const PBX: FlowId = FlowId(2);
const OWN: FlowId = FlowId(3);

/// One registered phone, a PBX, and the gateway between them.
pub struct Gateway {
    edge: Edge,
    now: Instant,
    peers: HashMap<FlowId, Arc<Peer>>,
    heard: Vec<(FlowId, Bytes)>,
    token: String,
    calls: u64,
}

impl Gateway {
    /// A gateway whose phone is registered.
    ///
    /// # Panics
    /// When the gateway does not do what it does in its tests.
    #[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
    pub fn new() -> Self {
        let face = |host: &str| Face::new(host, 5061, Transport::Tls);
        let mut config = Config::new(face("192.0.2.1"), face("10.0.1.2"));
        config.inside_networks.add_net("10.0.1.48/28".parse().expect("a network"));
        let keys = Keyring::new(Key::new(1, [7; 32]), Vec::new());
        let edge = Edge::new(config, keys, [3; 32], Box::new(Untouched));
        let (peers, heard) = (HashMap::new(), Vec::new());
        let mut gateway = Self { edge, now: Instant::now(), peers, heard, token: String::new(), calls: 0 };
        gateway.open(PHONE, Side::Outside, "198.51.100.7:40000", None);
        gateway.open(PBX, Side::Inside, "10.0.1.50:33000", None);
        gateway.say(PHONE, &REGISTER.replace('\n', "\r\n"));
        let asked = gateway.hear("REGISTER ");
        gateway.token = between(&asked, "crt=", ">").to_owned();
        let contact = format!("Contact: {}\r\n", row(&asked, "Contact"));
        gateway.say(OWN, &answer(&asked, "200 OK", &contact));
        gateway.hear("SIP/2.0 200");
        gateway
    }

    /// The phone refreshes its registration: REGISTER, 200.
    ///
    /// # Panics
    /// See [`Gateway::new`].
    pub fn refresh(&mut self) {
        self.calls += 1;
        // A phone has a rate, and the guard is on.
        self.now += Duration::from_secs(10);
        let n = self.calls + 1;
        let register = REGISTER.replace('\n', "\r\n");
        let again = format!("CSeq: {n} R");
        let register =
            register.replacen("z9hG4bKr1", &format!("z9hG4bKr{n}"), 1).replacen("CSeq: 1 R", &again, 1);
        self.say(PHONE, &register);
        let asked = self.hear("REGISTER ");
        let contact = format!("Contact: {}\r\n", row(&asked, "Contact"));
        self.say(OWN, &answer(&asked, "200 OK", &contact));
        self.hear("SIP/2.0 200");
        self.heard.clear();
    }

    /// The PBX calls the phone, who is busy: INVITE, 486, ACK.
    ///
    /// # Panics
    /// See [`Gateway::new`].
    pub fn refused_call(&mut self) {
        let invite = self.request("INVITE", 1, "");
        self.say(PBX, &invite);
        let asked = self.hear("INVITE ");
        self.say(PHONE, &answer(&asked, "486 Busy Here", ""));
        let busy = self.hear("SIP/2.0 486");
        let ack = self.request("ACK", 1, between(row(&busy, "To"), ";tag=", "\r"));
        self.say(PBX, &ack);
        self.heard.clear();
    }

    /// The PBX calls the phone, who answers; the PBX hangs up: INVITE, 180, 200, ACK, BYE, 200.
    ///
    /// # Panics
    /// See [`Gateway::new`].
    pub fn answered_call(&mut self) {
        let invite = self.request("INVITE", 1, "");
        self.say(PBX, &invite);
        let asked = self.hear("INVITE ");
        let contact = "Contact: <sips:117@192.168.1.7>\r\n";
        for status in ["180 Ringing", "200 OK"] {
            self.say(PHONE, &answer(&asked, status, contact));
        }
        let ok = self.hear("SIP/2.0 200");
        let tag = between(row(&ok, "To"), ";tag=", "\r").to_owned();
        for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
            let request = self.request(method, cseq, &tag);
            self.say(PBX, &request);
        }
        let bye = self.hear("BYE ");
        self.say(PHONE, &answer(&bye, "200 OK", ""));
        self.hear("SIP/2.0 200");
        self.heard.clear();
    }

    fn request(&mut self, method: &str, cseq: u32, tag: &str) -> String {
        if method == "INVITE" {
            self.calls += 1;
            // A phone has a rate, and the guard is on.
            self.now += Duration::from_millis(50);
        }
        let (call, token) = (self.calls, &self.token);
        let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        let branch = if method == "BYE" { "b" } else { "a" };
        format!(
            "{method} sips:117@10.0.1.2:5061;transport=tls;crt={token} SIP/2.0\r\n\
             Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bK{call}{branch}\r\nMax-Forwards: 70\r\n\
             From: <sips:200@10.0.1.50>;tag=p{call}\r\nTo: <sips:117@10.0.1.50>{tag}\r\nCall-ID: c{call}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sips:200@10.0.1.50:5061;transport=tls>\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn open(&mut self, flow: FlowId, side: Side, remote: &str, dial: Option<Dial>) {
        let identity = Identity { subject: String::new(), names: Vec::new(), key_hash: [flow.0 as u8; 32] };
        let peer = Arc::new(Peer {
            remote: remote.parse().expect("an address"),
            local: "192.0.2.1:5061".parse().expect("an address"),
            transport: Transport::Tls,
            side,
            listener: None,
            identity: Some(Arc::new(identity)),
            verified: true,
        });
        self.peers.insert(flow, peer.clone());
        self.edge.handle_input(self.now, Input::FlowOpened { flow, peer, dial });
    }

    #[inline(never)]
    fn say(&mut self, flow: FlowId, text: &str) {
        let message = Message::parse(Bytes::from(text.to_owned()), &Limits::default()).expect("a message");
        let peer = self.peers[&flow].clone();
        let source = Source::Flow(flow);
        self.edge.handle_input(self.now, Input::Message { source, peer, message });
        loop {
            match self.edge.poll_output(self.now) {
                Output::Transmit(transmit) => match transmit.target {
                    Target::Flow(flow) => self.heard.push((flow, transmit.bytes)),
                    Target::Dial(dial) => {
                        if !self.peers.contains_key(&OWN) {
                            self.open(OWN, Side::Inside, &dial.remote.to_string(), Some(dial));
                        }
                        self.heard.push((OWN, transmit.bytes));
                    }
                    Target::Datagram { .. } => {}
                },
                Output::Timeout(_) => return,
                _ => {}
            }
        }
    }

    fn hear(&mut self, start: &str) -> String {
        let at = self.heard.iter().position(|(_, bytes)| bytes.starts_with(start.as_bytes()));
        let (_, bytes) = self.heard.remove(at.unwrap_or_else(|| panic!("no {start} in {:?}", self.heard)));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self::new()
    }
}

fn row<'t>(text: &'t str, name: &str) -> &'t str {
    text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    text.split_once(before).map_or("", |(_, rest)| rest.split(after).next().unwrap_or_default())
}

fn answer(request: &str, status: &str, more: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for line in request.split("\r\n").filter(|line| line.starts_with(&format!("{name}: "))) {
            let tag = if name == "To" && !line.contains("tag=") { ";tag=x" } else { "" };
            text.push_str(&format!("{line}{tag}\r\n"));
        }
    }
    text + more + "Content-Length: 0\r\n\r\n"
}

const REGISTER: &str = "REGISTER sips:10.0.1.50 SIP/2.0
Via: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKr1;rport;alias
Max-Forwards: 70
From: <sips:anonymous@10.0.1.50>;tag=f
To: <sips:anonymous@10.0.1.50>
Call-ID: r
CSeq: 1 REGISTER
Contact: <sips:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF>\";expires=3600
Content-Length: 0

";
