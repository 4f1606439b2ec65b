//! A user agent on tokio: answers calls and makes calls. Without arguments it calls itself over UDP on loopback, so that
//! one call is answered and another originated.
//!
//! ```text
//! cargo run -p farend-sip-core --features tokio --example user_agent [LOCAL udp|tcp answer|CALLEE]
//! ```
//! `answer` waits for one call; CALLEE is an address to call. SIPp is such a peer: `lab/ua.py`.
#![allow(clippy::disallowed_methods, reason = "the embedder owns clock, tasks and randomness")]

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sip_core::flow::{Dial, ListenerId, Peer, Side, Transport};
use sip_core::net::{Connect, Datagrams, Driver, Handle, Limits, Resolve, Stream};
use sip_core::resolve::records::{Answer as Records, Question};
use sip_core::token::Random;
use sip_core::ua::{Answer, Command, Config, Event, Label, Request, SentBy, UserAgent};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
const ROW: ListenerId = ListenerId(1);
const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

struct Network;

fn peer(remote: SocketAddr, local: SocketAddr, listener: Option<ListenerId>) -> Peer {
    let side = Side::Inside;
    Peer { remote, local, transport: Transport::Tcp, side, listener, identity: None, verified: false }
}

impl Connect for Network {
    async fn connect(&self, dial: &Dial) -> io::Result<(Box<dyn Stream>, Peer)> {
        let stream = TcpStream::connect(dial.remote).await?;
        let peer = peer(dial.remote, stream.local_addr()?, None);
        Ok((Box::new(stream), peer))
    }
}

impl Resolve for Network {
    async fn resolve(&self, _: &Question) -> io::Result<Records> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn listen(
    local: SocketAddr,
    transport: Transport,
    handle: Handle<Command>,
) -> Result<(), Box<dyn Error>> {
    if transport == Transport::Udp {
        let (side, allow, blocked) = (Side::Inside, Vec::new(), Default::default());
        let rules = Datagrams { listener: ROW, side, verified: false, allow, stun: false, blocked };
        handle.socket(UdpSocket::bind(local).await?, rules).await?;
        return Ok(());
    }
    let listener = TcpListener::bind(local).await?;
    tokio::spawn(async move {
        while let Ok((stream, remote)) = listener.accept().await {
            if handle.stream(stream, peer(remote, local, Some(ROW))).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// A number from the operating system, for tags and branches.
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut seed)?;
    Ok(seed)
}

async fn talk(
    handle: &Handle<Command>,
    mut events: mpsc::UnboundedReceiver<Event>,
    mut calls: u32,
) -> Result<(), Box<dyn Error>> {
    while calls > 0 {
        let event = events.recv().await.ok_or("the agent has ended")?;
        println!("{}", format!("{event:?}").chars().take(100).collect::<String>());
        match event {
            Event::Invite { key, .. } => {
                // Reliable where the caller can; the 200 then waits for the PRACK by itself.
                let ringing = Answer::new(183, "Session Progress").reliable().body("application/sdp", SDP);
                handle.command(Command::Answer { key, answer: ringing }).await?;
                let answer = Answer::new(200, "OK").body("application/sdp", SDP);
                handle.command(Command::Answer { key, answer }).await?;
            }
            Event::Request { key, .. } => {
                handle.command(Command::Answer { key, answer: Answer::new(200, "OK") }).await?;
            }
            // The ACK has left already; talk for a while and hang up.
            Event::Response { dialog: Some(dialog), message, .. } if message.status() == Some(200) => {
                let handle = handle.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    handle.command(Command::Bye { dialog }).await
                });
            }
            Event::Unanswered { status, .. } => return Err(format!("nobody answers: {status}").into()),
            Event::Ended { .. } => calls -= 1,
            _ => {}
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |n: usize, default: &'static str| arguments.get(n).map_or(default, String::as_str);
    let local: SocketAddr = word(0, "127.0.0.1:5070").parse()?;
    let transport = if word(1, "udp") == "tcp" { Transport::Tcp } else { Transport::Udp };
    let us = SentBy::new(transport, local.to_string());

    let (driver, handle) = Driver::new(Limits::default());
    let (told, events) = mpsc::unbounded_channel();
    let agent = UserAgent::new(Config::new(vec![us.clone()]), seed()?);
    let network = Arc::new(Network);

    let tell = move |event| drop(told.send(event));
    let running = tokio::spawn(driver.run(agent, network.clone(), network, tell));
    listen(local, transport, handle.clone()).await?;

    let callee = word(2, "127.0.0.1:5070");
    if callee != "answer" {
        let dial = Dial { transport, remote: callee.parse()?, side: Side::Inside, affinity: None };
        let uri = format!("sip:service@{callee};transport={}", transport.via_token().to_lowercase());
        let request = Request::new("INVITE", uri, &us, dial.into(), &mut Random::new(seed()?))
            .body("application/sdp", SDP);
        handle.command(Command::Request { label: Label(1), request: Box::new(request) }).await?;
    }
    // Who calls itself has both ends of the call.
    let calls = if callee == local.to_string() { 2 } else { 1 };
    tokio::time::timeout(Duration::from_secs(20), talk(&handle, events, calls)).await??;
    tokio::time::sleep(Duration::from_millis(200)).await;
    handle.close_all().await?;
    running.await?;
    println!("{calls} call(s) from INVITE to BYE");
    Ok(())
}
