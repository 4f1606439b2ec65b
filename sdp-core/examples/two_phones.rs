//! Two phones behind one PBX, on loopback: their descriptions go through an anchor, their packets through a relay.
//!
//! `cargo run -p farend-sdp-core --features net --example two_phones`

use std::error::Error;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sdp_core::anchor::{Anchor, Config};
use sdp_core::net;
use sdp_core::relay::{Command, Report, Side};
use sdp_core::sdp::{Limits, Sdp};

const SECONDS: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let (outside, inside): (IpAddr, IpAddr) = ("127.0.9.1".parse()?, "127.0.9.2".parse()?);
    let pbx: IpAddr = "127.0.8.1".parse()?;
    let alice = UdpSocket::bind("127.0.7.1:0")?;
    let bob = UdpSocket::bind("127.0.7.2:0")?;
    for phone in [&alice, &bob] {
        phone.set_read_timeout(Some(SECONDS))?;
    }

    // The relay on its thread, the anchor here; reports come by a channel. A real seed comes from the operating system.
    let (reports, inbox) = mpsc::channel();
    let config = net::Config::new(outside.into(), inside.into(), [7; 32]);
    let relay = net::Relay::spawn(config, move |report| drop(reports.send(report)))?;
    let mut anchor = Anchor::new(now(), Config::new(outside.into(), inside.into()));
    while !anchor.is_ready() {
        tell(&mut anchor, &relay);
        anchor.handle_report(now(), inbox.recv_timeout(SECONDS)?);
    }

    // Alice calls the PBX (session 1); the PBX passes her description on to Bob (session 2), and his back to her.
    let (a, b) = (alice.local_addr()?, bob.local_addr()?);
    let to_pbx = anchor.offer(now(), 1, Side::Outside, a.ip(), pbx, &description(a))?;
    let to_bob = anchor.offer(now(), 2, Side::Inside, pbx, b.ip(), &to_pbx)?;
    let from_bob = anchor.answer(now(), 2, Side::Outside, b.ip(), pbx, &description(b))?;
    let to_alice = anchor.answer(now(), 1, Side::Inside, pbx, a.ip(), &from_bob)?;
    println!("Bob is offered:\n{}", String::from_utf8_lossy(&to_bob));
    println!("Alice is answered:\n{}", String::from_utf8_lossy(&to_alice));
    tell(&mut anchor, &relay);
    settle(&relay, &inbox)?;

    // Each sends to the address in the description it got; the relay has joined the two: one hop.
    let hello = [0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0xd5];
    let mut bytes = [0; 64];
    alice.send_to(&hello, place(&to_alice)?)?;
    let (length, from) = bob.recv_from(&mut bytes)?;
    println!("Bob hears {length} octets from {from}");
    bob.send_to(&hello, place(&to_bob)?)?;
    let (length, from) = alice.recv_from(&mut bytes)?;
    println!("Alice hears {length} octets from {from}");

    anchor.end(now(), 1);
    anchor.end(now(), 2);
    tell(&mut anchor, &relay);
    loop {
        if let Report::Statistics { stream, outside, inside, ended: true } = inbox.recv_timeout(SECONDS)? {
            println!(
                "session {}: {} packets in by the outside with hop limit {:?}, {} out, {} by the inside",
                stream.session,
                outside.received_rtp,
                outside.hop_limit_received.average(),
                outside.sent,
                inside.sent
            );
            if stream.session == 2 {
                return Ok(());
            }
        }
    }
}

fn description(phone: SocketAddr) -> Vec<u8> {
    let (host, port) = (phone.ip(), phone.port());
    format!("v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
        .into()
}

/// Where a description says its first stream is.
fn place(sdp: &[u8]) -> Result<SocketAddr, Box<dyn Error>> {
    let sdp = Sdp::parse(sdp, &Limits::default())?;
    let media = sdp.media.first().ok_or("no stream")?;
    match sdp.connection_of(media).map(|connection| connection.host) {
        Some(sdp_core::sdp::Host::Ip(ip)) => Ok((ip, media.port).into()),
        _ => Err("no address".into()),
    }
}

fn tell(anchor: &mut Anchor, relay: &net::Handle) {
    while let Some(command) = anchor.poll_command() {
        relay.send(command);
    }
}

/// Commands are executed in order: when a snapshot comes back, all before it is done.
fn settle(relay: &net::Handle, inbox: &mpsc::Receiver<Report>) -> Result<(), Box<dyn Error>> {
    relay.send(Command::Snapshot);
    while !matches!(inbox.recv_timeout(SECONDS)?, Report::Snapshot { .. }) {}
    Ok(())
}

/// A program asks the clock; the library never does.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
