//! Calls for a load generator: an anchor sets them up, a relay carries them until it is killed.
//!
//! `relay_calls MAP CALLS keep|reset [WORKERS [auto|uring|epoll [FILL]]]` writes a line a call into MAP: the phone's address, ours for it,
//! the switch's, ours for it. `benches/peers/relay.sh` runs it.

use std::error::Error;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sdp_core::anchor::{Anchor, Config};
use sdp_core::net::{self, Engine};
use sdp_core::policy::HopLimit;
use sdp_core::relay::{Report, Side};

const SECONDS: Duration = Duration::from_secs(20);
/// Where the relay is, and where the load generator puts its ends, each call on ports of its own from here on.
const OUTSIDE: &str = "127.0.0.4";
const INSIDE: &str = "127.0.0.5";
const PHONES: &str = "127.0.0.2";
const SWITCH: &str = "127.0.0.3";
const FIRST_PORT: u16 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [map, calls, ttl, rest @ ..] = arguments.as_slice() else {
        return Err("MAP CALLS keep|reset".into());
    };
    let (outside, inside): (IpAddr, IpAddr) = (OUTSIDE.parse()?, INSIDE.parse()?);
    let (reports, inbox) = mpsc::channel();
    let mut relay = net::Config::new(outside.into(), inside.into(), [7; 32]);
    relay.engine = engine(rest)?;
    relay.workers = rest.first().map_or(Ok(1), |workers| workers.parse())?;
    if let Some(fill) = rest.get(2) {
        relay.fill = fill.parse()?;
    }
    let relay = net::Relay::spawn(relay, move |report| drop(reports.send(report)))?;
    let mut config = Config::new(outside.into(), inside.into());
    if ttl == "reset" {
        config.policy.hop_limit = HopLimit::Fixed(NonZeroU8::new(64).ok_or("64")?);
    }
    // Flat out, a sender of the generator is faster than any phone.
    config.policy.max_rate = u32::MAX;
    let mut gateway = Gateway { anchor: Anchor::new(now(), config), relay, inbox };
    while !gateway.anchor.is_ready() {
        gateway.step()?;
    }
    println!("pss_before={}", pss()?);
    let mut lines = String::new();
    for call in 0..calls.parse::<u16>()? {
        let [phone, we, switch, us] = gateway.call(call)?;
        writeln!(lines, "{phone} {we} {switch} {us}")?;
    }
    gateway.tell();
    std::fs::write(map, lines)?;
    println!("READY");
    // Reports are taken while the load runs, as the gateway takes them.
    loop {
        let report = gateway.inbox.recv()?;
        gateway.take(report);
    }
}

/// Engine by name.
fn engine(rest: &[String]) -> Result<Engine, Box<dyn Error>> {
    match rest.get(1).map(String::as_str) {
        None | Some("auto") => Ok(Engine::Auto),
        Some("uring") => Ok(Engine::Uring),
        Some("epoll") => Ok(Engine::Epoll),
        Some(other) => Err(format!("no engine is called {other}").into()),
    }
}

struct Gateway {
    anchor: Anchor,
    relay: net::Handle,
    inbox: mpsc::Receiver<Report>,
}

impl Gateway {
    /// One call: both ends, and our two addresses for them.
    fn call(&mut self, call: u16) -> Result<[SocketAddr; 4], Box<dyn Error>> {
        let at = |host: &str| -> Result<SocketAddr, Box<dyn Error>> {
            Ok((host.parse::<IpAddr>()?, FIRST_PORT + 2 * call).into())
        };
        let (phone, switch) = (at(PHONES)?, at(SWITCH)?);
        let session = u64::from(call) + 1;
        // A burst may find the lease empty: the relay is binding.
        let offer = loop {
            let sdp = description(phone);
            match self.anchor.offer(now(), session, Side::Outside, phone.ip(), switch.ip(), &sdp) {
                Ok(offer) => break offer,
                Err(_) => self.step()?,
            }
        };
        let answer = self.anchor.answer(
            now(),
            session,
            Side::Inside,
            switch.ip(),
            phone.ip(),
            &description(switch),
        )?;
        self.tell();
        Ok([phone, place(&answer)?, switch, place(&offer)?])
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        self.tell();
        let report = self.inbox.recv_timeout(SECONDS)?;
        self.take(report);
        Ok(())
    }

    fn take(&mut self, report: Report) {
        if let Report::Ready { shortage: Some(shortage), .. } = &report {
            println!("{shortage}");
        }
        self.anchor.handle_report(now(), report);
        self.tell();
    }

    fn tell(&mut self) {
        while let Some(command) = self.anchor.poll_command() {
            self.relay.send(command);
        }
    }
}

fn description(at: SocketAddr) -> Vec<u8> {
    let (host, port) = (at.ip(), at.port());
    format!("v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
        .into_bytes()
}

/// Where a description says its stream is.
fn place(sdp: &[u8]) -> Result<SocketAddr, Box<dyn Error>> {
    let text = std::str::from_utf8(sdp)?;
    let word = |row: &str, at: usize| {
        text.lines().find_map(|line| line.strip_prefix(row)?.split(' ').nth(at)).ok_or("no such row")
    };
    Ok((word("c=", 2)?.parse::<IpAddr>()?, word("m=", 1)?.parse()?).into())
}

/// This process's share of memory, in kB.
fn pss() -> Result<u64, Box<dyn Error>> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let row = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(row.trim().trim_end_matches(" kB").parse()?)
}

#[allow(clippy::disallowed_methods)] // A program on its own has to look at the clock somewhere.
fn now() -> Instant {
    Instant::now()
}
