//! A gateway in a test: an anchor, a relay, and peers that see the hop limit of what they get.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU8;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{Ipv4RecvTtl, Ipv4Ttl, Ipv6RecvHopLimit, Ipv6Ttl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use sdp_core::anchor::{Anchor, Config};
use sdp_core::net;
use sdp_core::policy::HopLimit;
use sdp_core::relay::{LegStatistics, Report, Side, StreamId};

pub(crate) const PHONE_A: &str = "127.0.7.1";
pub(crate) const PHONE_B: &str = "127.0.7.2";
pub(crate) const OUTER: &str = "127.0.9.1";
pub(crate) const INNER: &str = "127.0.9.2";
pub(crate) const PBX: &str = "127.0.8.1";

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Tests run beside each other on the same addresses: each chooses other ports.
pub(crate) fn seed() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0).to_le_bytes();
    std::array::from_fn(|at| random[at % 8])
}

/// A socket that sees the hop limit of what it gets.
pub(crate) struct Peer(UdpSocket);

impl Peer {
    pub(crate) fn new(host: &str) -> Self {
        Self::at((ip(host), 0).into())
    }

    pub(crate) fn at(place: SocketAddr) -> Self {
        let socket = UdpSocket::bind(place).unwrap();
        match place.ip() {
            IpAddr::V4(_) => setsockopt(&socket, Ipv4RecvTtl, &true).unwrap(),
            IpAddr::V6(_) => setsockopt(&socket, Ipv6RecvHopLimit, &true).unwrap(),
        }
        Self(socket)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn send(&self, to: SocketAddr, hop: u8, bytes: &[u8]) {
        match to {
            SocketAddr::V4(_) => setsockopt(&self.0, Ipv4Ttl, &i32::from(hop)).unwrap(),
            SocketAddr::V6(_) => setsockopt(&self.0, Ipv6Ttl, &i32::from(hop)).unwrap(),
        }
        self.0.send_to(bytes, to).unwrap();
    }

    /// The next packet within `time`: sender, hop limit, bytes.
    pub(crate) fn receive(&self, time: Duration) -> Option<(SocketAddr, u8, Vec<u8>)> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut bytes = [0; 2048];
        let mut control = nix::cmsg_space!(i32);
        control.resize(control.capacity(), 0);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                assert_eq!(std::io::Error::from(error).kind(), ErrorKind::WouldBlock);
                return None;
            }
        };
        let hop = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => Some(value),
            _ => None,
        });
        let source = message.address.unwrap();
        let source = source
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4((*v4).into()))
            .unwrap_or_else(|| SocketAddr::V6((*source.as_sockaddr_in6().unwrap()).into()));
        let length = message.bytes;
        Some((source, hop.unwrap().try_into().unwrap(), bytes[..length].to_vec()))
    }

    pub(crate) fn expect(&self, from: SocketAddr, hop: u8, bytes: &[u8]) {
        let got = self.receive(Duration::from_secs(2));
        assert_eq!(got, Some((from, hop, bytes.to_vec())), "at {}", self.address());
    }

    pub(crate) fn expect_silence(&self) {
        assert_eq!(self.receive(Duration::from_millis(150)), None, "at {}", self.address());
    }
}

pub(crate) struct Gateway {
    pub(crate) anchor: Anchor,
    pub(crate) relay: net::Handle,
    pub(crate) inbox: mpsc::Receiver<Report>,
    pub(crate) reports: Vec<Report>,
}

impl Gateway {
    pub(crate) fn new(outer: &str, inner: &str, change: impl FnOnce(&mut Config, &mut net::Config)) -> Self {
        Self::hooked(outer, inner, change, |_| {})
    }

    /// With something that happens on the relay's own thread at each report.
    pub(crate) fn hooked(
        outer: &str,
        inner: &str,
        change: impl FnOnce(&mut Config, &mut net::Config),
        mut hook: impl FnMut(&Report) + Send + 'static,
    ) -> Self {
        let mut config = Config::new(ip(outer).into(), ip(inner).into());
        let mut relay = net::Config::new(config.outside, config.inside, seed());
        relay.statistics_interval = Duration::from_millis(100);
        // `tests/relay_epoll.rs` is these tests once more, and `tests/relay_workers.rs` is.
        match env!("CARGO_CRATE_NAME") {
            "relay_epoll" => relay.engine = net::Engine::Epoll,
            "relay_workers" => (relay.workers, relay.fill) = (3, 0),
            _ => {}
        }
        change(&mut config, &mut relay);
        let (sender, inbox) = mpsc::channel();
        let relay = net::Relay::spawn(relay, move |report| {
            hook(&report);
            let _ = sender.send(report);
        });
        let relay = relay.unwrap();
        let anchor = Anchor::new(Instant::now(), config);
        let mut gateway = Self { anchor, relay, inbox, reports: Vec::new() };
        gateway.until(|gateway| gateway.anchor.is_ready());
        gateway
    }

    /// Carries commands and reports until something holds.
    pub(crate) fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            while let Some(command) = self.anchor.poll_command() {
                assert!(self.relay.send(command));
            }
            let report = self.inbox.recv_timeout(end.saturating_duration_since(Instant::now()));
            let report = report.expect("a report in time");
            self.reports.push(report.clone());
            self.anchor.handle_report(Instant::now(), report);
        }
    }

    /// Waits until the relay has done what it was told.
    pub(crate) fn settle(&mut self) {
        while let Some(command) = self.anchor.poll_command() {
            self.relay.send(command);
        }
        let snapshots = |gateway: &Self| {
            let whole = |report: &&Report| matches!(report, Report::Snapshot { more: false, .. });
            gateway.reports.iter().filter(whole).count()
        };
        let before = snapshots(self);
        self.relay.send(sdp_core::relay::Command::Snapshot);
        self.until(|gateway| snapshots(gateway) > before);
    }

    pub(crate) fn offer(&mut self, session: u64, from: Side, signalling: &str, sdp: &str) -> String {
        let to = if from == Side::Outside { PBX } else { signalling };
        let out =
            self.anchor.offer(Instant::now(), session, from, ip(signalling), ip(to), sdp.as_bytes()).unwrap();
        self.settle();
        String::from_utf8(out.to_vec()).unwrap()
    }

    pub(crate) fn answer(&mut self, session: u64, from: Side, signalling: &str, sdp: &str) -> String {
        let out = self
            .anchor
            .answer(Instant::now(), session, from, ip(signalling), ip(PBX), sdp.as_bytes())
            .unwrap();
        self.settle();
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// A call from a phone to the PBX: our outside address for the one, our inside address for the other.
    pub(crate) fn call(&mut self, session: u64, phone: &Peer, pbx: &Peer) -> (SocketAddr, SocketAddr) {
        let signalling = phone.address().ip().to_string();
        let offer = self.offer(session, Side::Outside, &signalling, &audio(phone));
        let answer = self.answer(session, Side::Inside, &pbx.address().ip().to_string(), &audio(pbx));
        (place(&answer), place(&offer))
    }

    /// Counters of a stream once they satisfy a condition.
    pub(crate) fn statistics(
        &mut self,
        session: u64,
        enough: impl Fn(&LegStatistics, &LegStatistics) -> bool,
    ) -> [LegStatistics; 2] {
        let of = |gateway: &Self| {
            gateway.reports.iter().rev().find_map(|report| match report {
                Report::Statistics { stream: StreamId { session: s, .. }, outside, inside, .. }
                    if *s == session =>
                {
                    Some([**outside, **inside])
                }
                _ => None,
            })
        };
        self.until(|gateway| of(gateway).is_some_and(|[outside, inside]| enough(&outside, &inside)));
        of(self).unwrap()
    }
}

pub(crate) fn audio(peer: &Peer) -> String {
    let (host, port) = (peer.address().ip(), peer.port());
    let v = if host.is_ipv4() { 4 } else { 6 };
    format!(
        "v=0\r\no=- 1 1 IN IP{v} {host}\r\ns=-\r\nc=IN IP{v} {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    )
}

/// Where a description says its first stream is.
pub(crate) fn place(sdp: &str) -> SocketAddr {
    let of = |start: &str, at: usize| {
        sdp.lines().find_map(|line| line.strip_prefix(start)?.split(' ').nth(at)).unwrap().to_owned()
    };
    (ip(&of("c=", 2)), of("m=", 1).parse().unwrap()).into()
}

pub(crate) fn next(address: SocketAddr) -> SocketAddr {
    (address.ip(), address.port() + 1).into()
}

pub(crate) fn rtp(ssrc: u8, sequence: u16) -> Vec<u8> {
    let [a, b] = sequence.to_be_bytes();
    vec![0x80, 0, a, b, 0, 0, 0, 1, 0, 0, 0, ssrc, 0xd5, 0xd5]
}

pub(crate) fn fixed(value: u8) -> HopLimit {
    HopLimit::Fixed(NonZeroU8::new(value).unwrap())
}
