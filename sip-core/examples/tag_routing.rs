//! ContactRouteTag routing, embedded without any runtime: two phones register as `anonymous`, the PBX calls one.
//!
//! `cargo run -p farend-sip-core --example tag_routing`
#![allow(clippy::disallowed_methods, reason = "the embedder owns the clock")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sip_core::edge::config::Face;
use sip_core::edge::{Config, Edge};
use sip_core::flow::{FlowId, Identity, Peer, Side, Source, Target, Transport};
use sip_core::machine::{Input, Machine, Output};
use sip_core::media::Untouched;
use sip_core::message::{Limits, Message};
use sip_core::token::{Key, Keyring};

/// A connection, and who is at its other end.
type Line = (FlowId, Arc<Peer>);
type Done<T> = Result<T, Box<dyn Error>>;

/// A connection was accepted; TLS has verified the certificate.
fn connect(edge: &mut Edge, number: u8, side: Side, remote: &str, name: &str) -> Done<Line> {
    let identity =
        Identity { subject: format!("CN={name}"), names: vec![name.to_owned()], key_hash: [number; 32] };
    let (remote, local, identity) = (remote.parse()?, "192.0.2.1:5061".parse()?, Some(Arc::new(identity)));
    let transport = Transport::Tls;
    let peer = Arc::new(Peer { remote, local, transport, side, listener: None, identity, verified: true });
    let flow = FlowId(number.into());
    edge.handle_input(Instant::now(), Input::FlowOpened { flow, peer: peer.clone(), dial: None });
    Ok((flow, peer))
}

/// A message arrived: the machine has the rules, and says what leaves and where. This is the one loop of a driver.
fn say(edge: &mut Edge, (flow, peer): &Line, text: &str) -> Done<(Target, String)> {
    let message = Message::parse(Bytes::from(text.replace('\n', "\r\n")), &Limits::default())?;
    let input = Input::Message { source: Source::Flow(*flow), peer: peer.clone(), message };
    edge.handle_input(Instant::now(), input);
    let mut left = None;
    loop {
        match edge.poll_output(Instant::now()) {
            Output::Transmit(out) => left = Some((out.target, String::from_utf8(out.bytes.to_vec())?)),
            Output::Event(event) => {
                println!("  {}", format!("{event:?}").chars().take(90).collect::<String>())
            }
            Output::Timeout(_) => return left.ok_or_else(|| "nothing leaves".into()),
            _ => {}
        }
    }
}

/// A phone registers, the PBX accepts; the token that the PBX was shown.
fn register(edge: &mut Edge, phone: &Line, pbx: &Line, mac: &str) -> Done<String> {
    let request = format!(
        "REGISTER sips:10.0.1.50 SIP/2.0\nVia: SIP/2.0/TLS 192.168.1.7;branch=z9hG4bK{mac};rport;alias\n\
         From: <sips:anonymous@10.0.1.50>;tag=1\nTo: <sips:anonymous@10.0.1.50>\nCall-ID: {mac}\nCSeq: 1 REGISTER\n\
         Contact: <sips:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\";expires=3600\n\n"
    );
    let (_, seen) = say(edge, phone, &request)?;
    let rows = seen.lines().skip(1).filter(|row| !row.starts_with("Max-Forwards")).collect::<Vec<_>>();
    say(edge, pbx, &format!("SIP/2.0 200 OK\n{}\n\n", rows.join("\n")))?;
    let token = seen.split("crt=").nth(1).and_then(|rest| rest.split('>').next());
    Ok(token.ok_or("no token")?.to_owned())
}

fn main() -> Done<()> {
    let face = |address: &str| Face::new(address, 5061, Transport::Tls);
    let mut config = Config::new(face("192.0.2.1"), face("10.0.1.2"));
    config.inside_networks = ["10.0.1.48/28".parse()?].into_iter().collect();
    // Key and seed come from the operating system in production.
    let keys = Keyring::new(Key::new(1, [7; 32]), Vec::new());
    let mut edge = Edge::new(config, keys, [3; 32], Box::new(Untouched));
    let pbx = connect(&mut edge, 0, Side::Inside, "10.0.1.50:5061", "pbx")?;
    let first = connect(&mut edge, 1, Side::Outside, "198.51.100.7:40000", "08000FD4CBBF")?;
    let second = connect(&mut edge, 2, Side::Outside, "198.51.100.7:40001", "08000FD4CBC0")?;
    register(&mut edge, &first, &pbx, "08000FD4CBBF")?;
    let token = register(&mut edge, &second, &pbx, "08000FD4CBC0")?;

    // Both phones are `anonymous` at one address; the token alone says which is meant.
    let invite = format!(
        "INVITE sips:117@10.0.1.2:5061;transport=tls;crt={token} SIP/2.0\nVia: SIP/2.0/TLS 10.0.1.50;branch=z9hG4bKc\n\
         From: <sips:200@10.0.1.50>;tag=2\nTo: <sips:117@10.0.1.50>\nCall-ID: c\nCSeq: 1 INVITE\n\
         Contact: <sips:200@10.0.1.50:5061;transport=tls>\nContent-Length: 0\n\n"
    );
    let (rings, seen) = say(&mut edge, &pbx, &invite)?;
    println!("{rings:?} rings: {}", seen.lines().next().unwrap_or_default());
    if rings == Target::Flow(second.0) { Ok(()) } else { Err("the wrong phone rings".into()) }
}
