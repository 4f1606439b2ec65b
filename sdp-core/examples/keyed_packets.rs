//! What a packet costs in the relay's table, without sockets: in clear, and where SRTP ends (SDP-05), by suite; and what a packet
//! costs that is turned away. Prints nanoseconds a packet, the least of several rounds. `--release`, or it says nothing.

use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use sdp_core::anchor::{Anchor, Config};
use sdp_core::policy::{SenderLimit, Srtp, SrtpSides};
use sdp_core::relay::stream::Packet;
use sdp_core::relay::table::{self, Action, Slot, Table};
use sdp_core::relay::{Component, Side};
use sdp_core::srtp::{Context, Crypto, Key, Suite};

const OUTER: &str = "203.0.113.1";
const INNER: &str = "10.0.1.2";
const PHONE: &str = "198.51.100.7:30000";
const SWITCH: &str = "10.0.1.60:5000";
const PACKETS: u16 = 20_000;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    println!("in clear: {:.0} ns", Call::new(None)?.forwards()?);
    for suite in Suite::ALL {
        let name = suite.name();
        println!("{name}: opened {:.0} ns", Call::new(Some(suite))?.forwards()?);
        println!("{name}: sealed {:.0} ns", Call::new(Some(suite))?.returns()?);
        println!(
            "{name}: forged by a neighbour {:.0} ns",
            Call::new(Some(suite))?.refuses("198.51.100.7:31000")?
        );
        println!("{name}: from a stranger {:.0} ns", Call::new(Some(suite))?.refuses("192.0.2.99:30000")?);
    }
    Ok(())
}

/// One call, answered.
struct Call {
    table: Table,
    bound: Vec<(Slot, SocketAddr)>,
    ours: [SocketAddr; 2],
    now: Instant,
    phone: Option<Key>,
}

impl Call {
    fn new(suite: Option<Suite>) -> Result<Self, Box<dyn Error>> {
        let (outer, inner): (IpAddr, IpAddr) = (OUTER.parse()?, INNER.parse()?);
        let now = clock();
        let mut config = Config::new(outer.into(), inner.into());
        config.policy.max_rate = u32::MAX;
        config.policy.sender_limit = SenderLimit::LockIp;
        config.seed = Some([3; 32].into());
        config.policy.srtp = suite.map(|_| SrtpSides { outside: Srtp::Required, inside: Srtp::Off });
        let mut anchor = Anchor::new(now, config);
        let mut table = Table::new(now, table::Config::new(outer.into(), inner.into(), [5; 32]));
        let mut bound = Vec::new();
        settle(now, &mut anchor, &mut table, &mut bound);
        let octets: Vec<u8> = (0..64).collect();
        let phone =
            suite.and_then(|suite| (28..=46).find_map(|length| Key::new(suite, octets.get(..length)?)));
        let (at, pbx): (SocketAddr, SocketAddr) = (PHONE.parse()?, SWITCH.parse()?);
        let mut offer = description(at, "RTP/AVP");
        if let Some(key) = &phone {
            let line = Crypto { tag: 1, key: key.clone() }.write();
            offer = format!("{}a={line}\r\n", description(at, "RTP/SAVP"));
        }
        let offer = anchor.offer(now, 1, Side::Outside, at.ip(), pbx.ip(), offer.as_bytes())?;
        let answer = description(pbx, "RTP/AVP");
        let answer = anchor.answer(now, 1, Side::Inside, pbx.ip(), at.ip(), answer.as_bytes())?;
        settle(now, &mut anchor, &mut table, &mut bound);
        let ours = [(outer, port(&answer)?).into(), (inner, port(&offer)?).into()];
        Ok(Self { table, bound, ours, now, phone })
    }

    fn sealed(&self, from: u16) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
        let mut context = self.phone.as_ref().and_then(Context::new);
        let seal = |n| {
            let mut packet = rtp(n);
            if let Some(context) = &mut context {
                context.protect(&mut packet).map_err(|fault| format!("{fault:?}"))?;
            }
            Ok(packet)
        };
        (0..from + PACKETS).map(seal).skip(usize::from(from)).collect()
    }

    fn timed(
        &mut self,
        to: usize,
        from: &str,
        packets: &[Vec<u8>],
        pass: bool,
    ) -> Result<f64, Box<dyn Error>> {
        let to = self.ours.get(to).ok_or("no such side")?;
        let (slot, _) = *self.bound.iter().find(|(_, at)| at == to).ok_or("no such port")?;
        let source: SocketAddr = from.parse()?;
        let start = clock();
        let mut passed = 0;
        for bytes in packets {
            let packet = Packet { component: Component::Rtp, source, hop_limit: Some(60), bytes };
            passed += usize::from(black_box(self.table.handle_packet(self.now, slot, &packet)).is_some());
        }
        let time = start.elapsed();
        if passed != if pass { packets.len() } else { 0 } {
            return Err(format!("{passed} of {} passed", packets.len()).into());
        }
        Ok(time.as_nanos() as f64 / packets.len() as f64)
    }

    fn forwards(mut self) -> Result<f64, Box<dyn Error>> {
        let mut least = f64::MAX;
        let first = self.sealed(0)?;
        for packets in first.chunks(usize::from(PACKETS) / ROUNDS) {
            least = least.min(self.timed(0, PHONE, packets, true)?);
        }
        Ok(least)
    }

    fn returns(mut self) -> Result<f64, Box<dyn Error>> {
        let first = self.sealed(0)?;
        self.timed(0, PHONE, first.get(..100).unwrap_or_default(), true)?;
        let clear: Vec<_> = (0..PACKETS).map(rtp).collect();
        let mut least = f64::MAX;
        for packets in clear.chunks(usize::from(PACKETS) / ROUNDS) {
            least = least.min(self.timed(1, SWITCH, packets, true)?);
        }
        Ok(least)
    }

    fn refuses(mut self, from: &str) -> Result<f64, Box<dyn Error>> {
        let first = self.sealed(0)?;
        self.timed(0, PHONE, first.get(..100).unwrap_or_default(), true)?;
        let mut forged = first;
        forged.iter_mut().filter_map(|packet| packet.last_mut()).for_each(|octet| *octet ^= 1);
        let mut least = f64::MAX;
        for packets in forged.get(100..).unwrap_or_default().chunks(usize::from(PACKETS) / ROUNDS) {
            least = least.min(self.timed(0, from, packets, false)?);
        }
        Ok(least)
    }
}

fn settle(now: Instant, anchor: &mut Anchor, table: &mut Table, bound: &mut Vec<(Slot, SocketAddr)>) {
    loop {
        let mut quiet = true;
        while let Some(command) = anchor.poll_command() {
            table.handle_command(now, command);
            quiet = false;
        }
        while let Some(action) = table.poll_action(now) {
            quiet = false;
            match action {
                Action::Bind { rtp, .. } => bound.extend(table.handle_bound().map(|slot| (slot, rtp))),
                Action::Report(report) => anchor.handle_report(now, report),
                _ => {}
            }
        }
        if quiet {
            return;
        }
    }
}

fn description(at: SocketAddr, profile: &str) -> String {
    let (host, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} {profile} 0\r\n"
    )
}

fn port(sdp: &[u8]) -> Result<u16, Box<dyn Error>> {
    let line = std::str::from_utf8(sdp)?.lines().find_map(|line| line.strip_prefix("m=audio "));
    Ok(line.and_then(|line| line.split(' ').next()).ok_or("no line")?.parse()?)
}

/// 20 ms of G.711.
fn rtp(n: u16) -> Vec<u8> {
    let [high, low] = n.to_be_bytes();
    let mut packet = vec![0x80, 0, high, low, 0, 0, high, low, 0, 0, 0, 7];
    packet.resize(172, 0xd5);
    packet
}

#[allow(clippy::disallowed_methods, reason = "it measures time")]
fn clock() -> Instant {
    Instant::now()
}
