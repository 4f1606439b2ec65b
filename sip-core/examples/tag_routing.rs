//! ContactRouteTag routing, embedded without any runtime: two phones register as `anonymous`, the PBX calls one.
//!
//! `cargo run -p farend-sip-core --example tag_routing`
#![allow(clippy::disallowed_methods, reason = "the embedder owns the clock")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sip_core::edge::config::Face;
use sip_core::edge::{Config, Edge, Event};
use sip_core::flow::{FlowId, Identity, Peer, Side, Source, Target, Transport};
use sip_core::machine::{Input, Machine, Output};
use sip_core::media::Untouched;
use sip_core::message::{Limits, Message};
use sip_core::token::{Key, Keyring};

/// The embedder: it has the connections, the machine has the rules.
struct Embedder {
    edge: Edge,
    peers: HashMap<FlowId, Arc<Peer>>,
    pbx: FlowId,
    heard: Vec<(FlowId, String)>,
}

impl Embedder {
    fn connect(&mut self, flow: u64, side: Side, remote: &str, name: &str) -> Result<FlowId, Box<dyn Error>> {
        let flow = FlowId(flow);
        let mut key_hash = [0; 32];
        key_hash[..name.len()].copy_from_slice(name.as_bytes());
        let identity = Identity { subject: format!("CN={name}"), names: vec![name.to_owned()], key_hash };
        let peer = Arc::new(Peer {
            remote: remote.parse()?,
            local: "192.0.2.1:5061".parse()?,
            transport: Transport::Tls,
            side,
            listener: None,
            identity: Some(Arc::new(identity)),
            verified: true,
        });
        self.peers.insert(flow, peer.clone());
        self.edge.handle_input(Instant::now(), Input::FlowOpened { flow, peer, dial: None });
        Ok(flow)
    }

    fn say(&mut self, flow: FlowId, text: &str) -> Result<(), Box<dyn Error>> {
        let message = Message::parse(Bytes::from(text.replace('\n', "\r\n")), &Limits::default())?;
        let peer = self.peers[&flow].clone();
        self.edge.handle_input(Instant::now(), Input::Message { source: Source::Flow(flow), peer, message });
        self.obey();
        Ok(())
    }

    /// The one loop of a driver: obey until the machine says when to come back.
    fn obey(&mut self) {
        loop {
            match self.edge.poll_output(Instant::now()) {
                Output::Transmit(transmit) => {
                    let flow = match transmit.target {
                        Target::Flow(flow) => flow,
                        // A real embedder opens a connection to the switch here.
                        _ => self.pbx,
                    };
                    self.heard.push((flow, String::from_utf8_lossy(&transmit.bytes).into_owned()));
                }
                Output::Event(Event::Resolved { step, phone, .. }) => {
                    println!("  resolved by {step:?}: {phone:?}")
                }
                Output::Event(Event::Registered { phone, .. }) => println!("  registered {:?}", phone.tag),
                Output::Timeout(_) => break,
                _ => {}
            }
        }
    }

    fn register(&mut self, phone: FlowId, mac: &str) -> Result<String, Box<dyn Error>> {
        self.say(
            phone,
            &format!(
                "REGISTER sips:10.0.1.50 SIP/2.0\nVia: SIP/2.0/TLS 192.168.1.7;branch=z9hG4bK{mac};rport;alias\n\
                 From: <sips:anonymous@10.0.1.50>;tag=1\nTo: <sips:anonymous@10.0.1.50>\nCall-ID: {mac}\nCSeq: 1 REGISTER\n\
                 Contact: <sips:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\";expires=3600\n\
                 Content-Length: 0\n\n"
            ),
        )?;
        let (_, seen) = self.heard.pop().ok_or("the PBX hears nothing")?;
        println!("the PBX sees {}", row(&seen, "Contact"));
        let mut answer = "SIP/2.0 200 OK\n".to_owned();
        for line in seen
            .lines()
            .filter(|l| ["Via", "From", "To:", "Call", "CSeq", "Cont"].iter().any(|n| l.starts_with(n)))
        {
            answer.push_str(line);
            answer.push('\n');
        }
        self.say(self.pbx, &format!("{answer}\n"))?;
        let (_, shown) = self.heard.pop().ok_or("the phone hears nothing")?;
        println!("the phone sees {}", row(&shown, "Contact"));
        let token = seen.split("crt=").nth(1).and_then(|rest| rest.split('>').next());
        Ok(token.ok_or("no token")?.to_owned())
    }
}

fn row<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find(|line| line.starts_with(name)).unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new(
        Face::new("192.0.2.1", 5061, Transport::Tls),
        Face::new("10.0.1.2", 5061, Transport::Tls),
    );
    config.inside_networks = ["10.0.1.48/28".parse()?].into_iter().collect();
    // Key and seed come from the operating system in production.
    let keys = Keyring::new(Key::new(1, [7; 32]), Vec::new());
    let edge = Edge::new(config, keys, [3; 32], Box::new(Untouched));
    let mut site = Embedder { edge, peers: HashMap::new(), pbx: FlowId(0), heard: Vec::new() };
    site.pbx = site.connect(0, Side::Inside, "10.0.1.50:5061", "pbx")?;
    let first = site.connect(1, Side::Outside, "198.51.100.7:40000", "08000FD4CBBF")?;
    let second = site.connect(2, Side::Outside, "198.51.100.7:40001", "08000FD4CBC0")?;
    site.register(first, "08000FD4CBBF")?;
    let token = site.register(second, "08000FD4CBC0")?;

    // Both phones are `anonymous` at one address; the token alone says which is meant.
    site.say(
        site.pbx,
        &format!(
            "INVITE sips:117@10.0.1.2:5061;transport=tls;crt={token} SIP/2.0\nVia: SIP/2.0/TLS 10.0.1.50;branch=z9hG4bKc\n\
             From: <sips:200@10.0.1.50>;tag=2\nTo: <sips:117@10.0.1.50>\nCall-ID: c\nCSeq: 1 INVITE\n\
             Contact: <sips:200@10.0.1.50:5061;transport=tls>\nContent-Length: 0\n\n"
        ),
    )?;
    let (flow, invite) = site.heard.pop().ok_or("nobody rings")?;
    println!("{flow} rings: {}", invite.lines().next().unwrap_or_default());
    if flow == second { Ok(()) } else { Err("the wrong phone rings".into()) }
}
