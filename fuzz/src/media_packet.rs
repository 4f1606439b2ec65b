//! Packets to a running stream, from six sources, at any times: nothing panics; what is sent to an end goes where its
//! description says or to a source whose packet was taken; an answer is little longer than its question (FUZ-10). Of a stream
//! that is continued what is said is untouched, and is said in the name of one that has spoken (MED-12).

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use sdp_core::policy::{Addresses, HopLimit, SenderLimit, Timeouts};
use sdp_core::relay::stream::Packet;
use sdp_core::relay::table::{Action, Config, Slot, Table};
use sdp_core::relay::{
    Command, Component, IceLite, Kind, LegSetup, Pair, Realm, Remote, Report, Side, StreamId, StreamSetup,
};
use sdp_core::rtp::{Class, classify};

/// Who sends: the phone by three ports, a neighbour's address, a stranger, and the switch.
const SOURCES: [&str; 6] = [
    "198.51.100.7:4000",
    "198.51.100.7:40404",
    "198.51.100.7:9",
    "198.51.100.8:4000",
    "[2001:db8::9]:1",
    "10.0.1.60:5000",
];
/// What the two descriptions say.
const PHONE: &str = "198.51.100.7:4000";
const SWITCH: &str = "10.0.1.60:5000";

/// The first byte chooses the stream; then records: length, port and source, milliseconds since the last, packet.
pub fn media_packet(data: &[u8]) {
    let Some((&mode, mut rest)) = data.split_first() else { return };
    let Some(mut bench) = Bench::new(mode) else { return };
    let mut now = bench.now;
    while let [length, from, wait, tail @ ..] = rest {
        let Some((packet, tail)) = tail.split_at_checked((*length).into()) else { break };
        now += Duration::from_millis((*wait).into());
        bench.packet(now, *from, packet);
        rest = tail;
    }
    bench.table.handle_timeout(now + Duration::from_secs(5));
}

struct Bench {
    table: Table,
    now: Instant,
    secure: bool,
    /// The stream is continued.
    proxy: bool,
    /// Who has spoken: side and SSRC.
    spoken: Vec<(Side, u32)>,
    /// Outside, inside.
    slots: [Slot; 2],
    /// Whose packets were taken, by side and port.
    taken: Vec<(Side, Component, SocketAddr)>,
}

fn at(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

impl Bench {
    fn new(mode: u8) -> Option<Self> {
        let now = Instant::now();
        let ip = |text: &str| text.parse::<IpAddr>().ok().map(Addresses::from);
        let config = Config { pool: 2, ..Config::new(ip("192.0.2.1")?, ip("10.0.1.2")?, [7; 32]) };
        let mut table = Table::new(now, config);
        let mut pairs = Vec::new();
        let family = sdp_core::policy::Family::V4;
        for side in [Side::Outside, Side::Inside] {
            table.handle_command(now, Command::Lease { realm: Realm { side, family }, pairs: 1 });
        }
        // Slots are told in the order of binding, and pairs are named by their ports.
        let mut bound: Vec<(Slot, SocketAddr)> = Vec::new();
        while let Some(action) = table.poll_action(now) {
            match action {
                Action::Bind { rtp, .. } => bound.push((table.handle_bound()?, rtp)),
                Action::Report(Report::Leased { pairs: leased, .. }) => pairs.extend(leased),
                _ => {}
            }
        }
        let [outside, inside]: [Pair; 2] = pairs.try_into().ok()?;
        let slot = |pair: &Pair| bound.iter().find(|(_, rtp)| *rtp == pair.rtp).map(|(slot, _)| *slot);
        let slots = [slot(&outside)?, slot(&inside)?];
        let proxy = mode & 6 == 6;
        let leg = |pair: &Pair, remote: &str| {
            let rtp = at(remote)?;
            let inside = pair.realm.side == Side::Inside;
            let agent =
                |ufrag: &str| IceLite { ufrag: ufrag.into(), password: "VOkJxbRl1RmTxUk/WvJxBt".into() };
            Some(LegSetup {
                pair: pair.id,
                live: true,
                wanted: true,
                remote: Some(Remote { rtp, rtcp: (rtp.ip(), rtp.port() + 1).into() }),
                sources: Vec::new(),
                preferred: (mode & 1 != 0).then_some(rtp.ip()),
                latching: pair.realm.side == Side::Outside,
                sender_limit: [
                    SenderLimit::Lock,
                    SenderLimit::LockIp,
                    SenderLimit::Multiple,
                    SenderLimit::Multiple,
                ][usize::from(mode >> 1 & 3)],
                max_senders: 3,
                max_rate: 100,
                total_rate: (mode & 8 != 0).then_some(50),
                late_relatch: mode & 16 != 0,
                speaks: true,
                ice: Some(if inside { agent("nPfu") } else { agent("evtj") }),
                // Inside ICE has begun anew.
                ice_before: inside.then(|| Box::new(agent("evtj"))),
                srtp: None,
                named: 30000,
                generation: 0,
            })
        };
        let stream = StreamSetup {
            id: StreamId { session: 1, index: 0 },
            outside: leg(&outside, PHONE)?,
            inside: leg(&inside, SWITCH)?,
            hop_limit: if mode & 32 == 0 { HopLimit::Keep } else { HopLimit::Fixed(NonZeroU8::MAX) },
            rtcp_mux: true,
            secure: mode & 64 != 0,
            dtls: mode & 64 != 0,
            payloads: [0, 8, 101].into_iter().collect(),
            kind: if mode & 128 == 0 { Kind::Rtp } else { Kind::Udptl },
            clocks: Default::default(),
            timeouts: Timeouts { one_way: Some(5), rtp: Some(10), rtcp: Some(10), teardown: true },
            direct: false,
            proxy,
        };
        let proxy = stream.is_continued();
        table.handle_command(now, Command::Open { stream });
        let (secure, spoken, taken) = (mode & 64 != 0, Vec::new(), Vec::new());
        Some(Self { table, now, secure, proxy, spoken, slots, taken })
    }

    fn packet(&mut self, now: Instant, from: u8, bytes: &[u8]) {
        let component = if from & 8 == 0 { Component::Rtp } else { Component::Rtcp };
        let (at_slot, side) = if from & 16 == 0 { (0, Side::Outside) } else { (1, Side::Inside) };
        let Some(source) = SOURCES.get(usize::from(from & 7)).and_then(|text| at(text)) else { return };
        let _ = classify(bytes, self.secure);
        let packet = Packet { component, source, hop_limit: Some(64), bytes };
        let forward = self.table.handle_packet(now, self.slots[at_slot], &packet);
        #[cfg(feature = "planted")]
        if forward.is_none() && matches!(classify(bytes, self.secure), Class::Rtp(header) if header.marker) {
            // The planted bug: a talk spurt of somebody who was refused makes it the receiver.
            self.destination(side.other(), component, source);
        }
        let Some(forward) = forward else {
            // Who holds the port may say what has no number left.
            if self.proxy && matches!(classify(bytes, false), Class::Rtp(_) | Class::Rtcp(_)) {
                self.taken.push((side, component, source));
            }
            return;
        };
        if forward.answer {
            assert_eq!((forward.to, forward.slot), (source, self.slots[at_slot]), "an answer goes back");
            assert_eq!(classify(bytes, self.secure), Class::Stun, "only a check is answered");
            assert!(self.table.answer().len() <= bytes.len() + 40, "an answer amplifies");
            self.taken.push((side, component, source));
            return;
        }
        assert!(forward.passed.hop_limit > 0, "a packet leaves with no hop left");
        assert_eq!(forward.slot, self.slots[1 - at_slot], "a packet leaves by the other side");
        self.taken.push((side, component, source));
        self.destination(side, component, forward.to);
        if let Class::Rtp(header) = classify(bytes, self.secure) {
            self.spoken.push((side, header.ssrc));
        }
        if forward.changed {
            self.continued(side, bytes);
        }
    }

    /// What a packet of this side was changed to.
    fn continued(&self, side: Side, came: &[u8]) {
        assert!(self.proxy, "changed, and not continued");
        let left = self.table.changed();
        match (classify(came, false), classify(left, false)) {
            (Class::Rtp(came_as), Class::Rtp(left_as)) => {
                assert_eq!((came.get(..2), came.get(12..)), (left.get(..2), left.get(12..)), "what is said");
                assert_eq!(came_as.length, left_as.length);
                assert!(self.spoken.contains(&(side, left_as.ssrc)), "a name of nobody");
            }
            (Class::Rtcp(_), Class::Rtcp(_)) => assert!(left.len() <= came.len(), "a report grows"),
            (was, is) => panic!("{was:?} was made {is:?}"),
        }
    }

    /// What entered at `side` goes to `to`.
    fn destination(&self, side: Side, component: Component, to: SocketAddr) {
        let out = side.other();
        let described = if out == Side::Outside { PHONE } else { SWITCH };
        let described = at(described).map(|rtp| match component {
            Component::Rtp => rtp,
            Component::Rtcp => (rtp.ip(), rtp.port() + 1).into(),
        });
        let known = self.taken.contains(&(out, component, to));
        assert!(described == Some(to) || known, "{to} gets what is the other end's");
    }
}
