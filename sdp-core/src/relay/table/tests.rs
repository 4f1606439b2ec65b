mod ends;
mod guard;
mod proxy;
mod reports;
mod restore;
mod shared;

use std::num::NonZeroU8;

use super::*;
use crate::policy::{Family, HopLimit, SenderLimit};
use crate::relay::command::{Command, Kind, LegSetup, Remote, StreamSetup, Timeouts};
use crate::relay::report::Component;
use crate::rtp::clock::Clocks;

const OUT: Realm = Realm { side: Side::Outside, family: Family::V4 };
const IN: Realm = Realm { side: Side::Inside, family: Family::V4 };

struct Rig {
    table: Table,
    now: Instant,
    bound: HashMap<Slot, (SocketAddr, SocketAddr)>,
    reports: Vec<Report>,
    /// The next so many binds fail.
    busy: usize,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let ip = |text: &str| Addresses::from(text.parse::<IpAddr>().unwrap());
        let mut config = Config { pool: 8, ..Config::new(ip("192.0.2.1"), ip("10.0.1.2"), [9; 32]) };
        change(&mut config);
        let now = Instant::now();
        let table = Table::new(now, config);
        let mut rig = Self { table, now, bound: HashMap::new(), reports: Vec::new(), busy: 0 };
        rig.act();
        rig
    }

    fn act(&mut self) {
        while let Some(action) = self.table.poll_action(self.now) {
            match action {
                Action::Bind { .. } if self.busy > 0 => {
                    self.busy -= 1;
                    self.table.handle_bind_failed(self.now, BindFailure::Busy);
                }
                Action::Bind { rtp, rtcp } => {
                    let slot = self.table.handle_bound().unwrap();
                    assert_eq!(
                        self.bound.insert(slot, (rtp, rtcp)),
                        None,
                        "a slot is free before it is used again"
                    );
                }
                Action::Close(slot) => assert!(self.bound.remove(&slot).is_some()),
                Action::Report(report) => self.reports.push(report),
                Action::Rest(_) | Action::Return { .. } | Action::Give { .. } => {
                    panic!("one table alone: {action:?}")
                }
            }
        }
    }

    fn tell(&mut self, command: Command) {
        self.table.handle_command(self.now, command);
        self.act();
    }

    fn lease(&mut self, realm: Realm, count: u16) -> Vec<Pair> {
        self.reports.clear();
        self.tell(Command::Lease { realm, pairs: count });
        let leased = |report: &Report| match report {
            Report::Leased { pairs, .. } => Some(pairs.clone()),
            _ => None,
        };
        self.reports.iter().find_map(leased).unwrap_or_default()
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.table.handle_timeout(self.now);
        self.act();
    }

    fn open(&mut self, session: u64, hop_limit: HopLimit) -> (StreamSetup, Pair, Pair) {
        let (outside, inside) = (self.lease(OUT, 1)[0], self.lease(IN, 1)[0]);
        let setup = StreamSetup { hop_limit, ..stream(session, outside.id, inside.id) };
        self.tell(Command::Open { stream: setup.clone() });
        (setup, outside, inside)
    }

    /// Sends to a port of ours; gives our port it leaves by, where it goes and with what hop limit.
    fn packet(
        &mut self,
        to: SocketAddr,
        from: &str,
        hop: u8,
        bytes: &[u8],
    ) -> Option<(SocketAddr, SocketAddr, u8)> {
        let ports = self.bound.iter().find(|(_, (rtp, rtcp))| *rtp == to || *rtcp == to);
        let (slot, component) = ports
            .map(|(slot, (rtp, _))| (*slot, if *rtp == to { Component::Rtp } else { Component::Rtcp }))?;
        let packet = Packet { component, source: from.parse().unwrap(), hop_limit: Some(hop), bytes };
        let forward = self.table.handle_packet(self.now, slot, &packet)?;
        let (rtp, rtcp) = self.bound[&forward.slot];
        let out = if forward.passed.component == Component::Rtp { rtp } else { rtcp };
        Some((out, forward.to, forward.passed.hop_limit))
    }

    fn statistics(&mut self, id: StreamId) -> (super::super::LegStatistics, super::super::LegStatistics) {
        self.reports.clear();
        self.after(Duration::from_secs(60));
        let found = self.reports.iter().rev().find_map(|report| match report {
            Report::Statistics { stream, outside, inside, .. } if *stream == id => {
                Some((**outside, **inside))
            }
            _ => None,
        });
        found.unwrap()
    }
}

fn stream(session: u64, outside: PairId, inside: PairId) -> StreamSetup {
    StreamSetup {
        id: StreamId { session, index: 0 },
        outside: leg(outside, &format!("198.51.100.{session}:4000"), true),
        inside: leg(inside, &format!("10.0.1.{session}:5000"), false),
        hop_limit: HopLimit::Keep,
        rtcp_mux: false,
        secure: false,
        dtls: false,
        payloads: [0, 8].into_iter().collect(),
        kind: Kind::Rtp,
        clocks: Clocks::default(),
        timeouts: Timeouts::default(),
        direct: false,
        proxy: false,
    }
}

fn leg(pair: PairId, remote: &str, latching: bool) -> LegSetup {
    let rtp: SocketAddr = remote.parse().unwrap();
    LegSetup {
        remote: Some(Remote { rtp, rtcp: (rtp.ip(), rtp.port() + 1).into() }),
        sources: vec![rtp.ip()],
        latching,
        ..LegSetup::plain(pair)
    }
}

fn rtp(sequence: u16) -> Vec<u8> {
    let [a, b] = sequence.to_be_bytes();
    vec![0x80, 0, a, b, 0, 0, 0, 1, 0, 0, 0, 7, 0xd5, 0xd5]
}

const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn both_ways_with_rtcp_and_the_hop_limit_kept() {
    let mut rig = Rig::new(|_| {});
    let (_, outside, inside) = rig.open(7, HopLimit::Keep);
    // Before the phone has spoken its description counts; after, its packets' source.
    assert_eq!(
        rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(1)),
        Some((outside.rtp, at("198.51.100.7:4000"), 63))
    );
    assert_eq!(
        rig.packet(outside.rtp, "198.51.100.7:61000", 41, &rtp(1)),
        Some((inside.rtp, at("10.0.1.7:5000"), 40))
    );
    assert_eq!(
        rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(2)),
        Some((outside.rtp, at("198.51.100.7:61000"), 63))
    );
    assert_eq!(
        rig.packet(inside.rtcp, "10.0.1.7:5001", 64, &REPORT),
        Some((outside.rtcp, at("198.51.100.7:4001"), 63))
    );
    assert_eq!(
        rig.packet(outside.rtcp, "198.51.100.7:61001", 2, &REPORT),
        Some((inside.rtcp, at("10.0.1.7:5001"), 1))
    );
    rig.act();
    let firsts = rig.reports.iter().filter(|report| matches!(report, Report::FirstPacket { .. })).count();
    assert_eq!(firsts, 4);
}

#[test]
fn keep_drops_at_one_and_says_so_once() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, _) = rig.open(7, HopLimit::Keep);
    for sequence in 0..3 {
        assert_eq!(rig.packet(outside.rtp, "198.51.100.7:4000", 1, &rtp(sequence)), None);
    }
    rig.packet(outside.rtp, "198.51.100.7:4000", 9, &rtp(3)).unwrap();
    rig.act();
    let told = |report: &&Report| matches!(report, Report::HopLimitExpired { side: Side::Outside, .. });
    assert_eq!(rig.reports.iter().filter(told).count(), 1);
    let (outside, inside) = rig.statistics(setup.id);
    assert_eq!((outside.dropped.hop_limit, outside.dropped.total()), (3, 3));
    assert_eq!((outside.hop_limit_received.minimum, outside.hop_limit_received.average()), (1, Some(3)));
    assert_eq!((inside.sent, inside.hop_limit_sent.minimum, inside.hop_limit_sent.last), (1, 8, 8));
}

#[test]
fn a_fixed_hop_limit_is_the_same_for_all() {
    let mut rig = Rig::new(|_| {});
    let (_, outside, inside) = rig.open(7, HopLimit::Fixed(NonZeroU8::new(64).unwrap()));
    for hop in [1, 41, 70, 128, 255] {
        assert_eq!(rig.packet(outside.rtp, "198.51.100.7:4000", hop, &rtp(hop.into())).unwrap().2, 64);
        assert_eq!(rig.packet(inside.rtp, "10.0.1.7:5000", hop, &rtp(hop.into())).unwrap().2, 64);
    }
}

#[test]
fn strangers_broken_packets_and_what_is_not_rtp() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, inside) = rig.open(7, HopLimit::Keep);
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([0; 12]);
    for (from, bytes) in [
        ("203.0.113.66:4000", rtp(1)),
        ("198.51.100.7:4000", rtp(1)[..11].to_vec()),
        ("198.51.100.7:4000", vec![0x40; 40]),
        ("198.51.100.7:4000", stun),
        ("198.51.100.7:4000", vec![22; 40]),
        ("198.51.100.7:4000", REPORT.to_vec()),
        ("198.51.100.7:61000", vec![0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7]),
    ] {
        assert_eq!(rig.packet(outside.rtp, from, 64, &bytes), None, "{from} {bytes:?}");
    }
    assert_eq!(rig.packet(inside.rtp, "10.0.1.99:5000", 64, &rtp(1)), None, "nor at the inside port");
    assert_eq!(rig.packet(outside.rtcp, "198.51.100.7:4001", 64, &rtp(1)), None, "RTP on the RTCP port");
    let (outside, inside) = rig.statistics(setup.id);
    let dropped = outside.dropped;
    assert_eq!(
        (dropped.stranger, dropped.malformed, dropped.stun + dropped.dtls, dropped.payload),
        (1, 4, 2, 1)
    );
    assert_eq!(outside.refused, Some("203.0.113.66:4000".parse().unwrap()));
    assert_eq!((outside.refused_payload, inside.refused_payload), (Some(96), None));
    assert_eq!((inside.dropped.stranger, inside.sent, outside.sent), (1, 0, 0));
}

#[test]
fn our_own_packets_come_from_nobody() {
    let mut rig = Rig::new(|config| {
        let advertised = "203.0.113.1".parse().unwrap();
        config.outside = Addresses::default()
            .with(crate::policy::Address { local: "192.0.2.1".parse().unwrap(), advertised });
    });
    let (mut setup, outside, inside) = rig.open(7, HopLimit::Fixed(NonZeroU8::MAX));
    let (_, other, _) = rig.open(8, HopLimit::Keep);
    setup.outside.sources.clear();
    setup.inside.sources.clear();
    rig.tell(Command::Update { stream: setup.clone() });
    let public = format!("203.0.113.1:{}", other.rtp.port());
    for from in [other.rtp.to_string(), other.rtcp.to_string(), outside.rtp.to_string(), public] {
        assert_eq!(rig.packet(outside.rtp, &from, 64, &rtp(1)), None, "{from}");
    }
    assert_eq!(rig.packet(inside.rtp, &outside.rtp.to_string(), 64, &rtp(1)), None);
    let (outside, inside) = rig.statistics(setup.id);
    assert_eq!((outside.dropped.own, inside.dropped.own), (4, 1));
}

#[test]
fn a_loop_through_others_ends_at_the_ceiling() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, _) = rig.open(7, HopLimit::Fixed(NonZeroU8::MAX));
    let passed =
        (0..5_000).filter(|n| rig.packet(outside.rtp, "198.51.100.7:4000", 64, &rtp(*n)).is_some()).count();
    assert_eq!(passed, 1_000);
    rig.act();
    assert_eq!(rig.reports.iter().filter(|report| matches!(report, Report::RateExceeded { .. })).count(), 1);
    assert_eq!(rig.statistics(setup.id).0.dropped.rate, 4_000);
}

#[test]
fn joined_streams_are_one_hop() {
    let mut rig = Rig::new(|_| {});
    let (a, a_out, a_in) = rig.open(7, HopLimit::Keep);
    let (b, b_out, _) = rig.open(8, HopLimit::Keep);
    rig.tell(Command::Join { a: a.id, b: b.id });
    assert_eq!(
        rig.packet(a_out.rtp, "198.51.100.7:4000", 64, &rtp(1)),
        Some((b_out.rtp, at("198.51.100.8:4000"), 63))
    );
    assert_eq!(
        rig.packet(b_out.rtp, "198.51.100.8:4000", 41, &rtp(1)),
        Some((a_out.rtp, at("198.51.100.7:4000"), 40))
    );
    assert_eq!(
        rig.packet(b_out.rtcp, "198.51.100.8:4001", 41, &REPORT),
        Some((a_out.rtcp, at("198.51.100.7:4001"), 40))
    );
    // One of them ends: the other goes inside again.
    rig.tell(Command::End { session: 8 });
    assert_eq!(
        rig.packet(a_out.rtp, "198.51.100.7:4000", 64, &rtp(2)),
        Some((a_in.rtp, at("10.0.1.7:5000"), 63))
    );
}

#[test]
fn parting_and_joining_another() {
    let mut rig = Rig::new(|_| {});
    let [(a, a_out, a_in), (b, b_out, b_in), (c, c_out, _)] = [7, 8, 9].map(|n| rig.open(n, HopLimit::Keep));
    let from_a =
        |rig: &mut Rig, n| rig.packet(a_out.rtp, "198.51.100.7:4000", 64, &rtp(n)).map(|(out, ..)| out);
    let from_b =
        |rig: &mut Rig, n| rig.packet(b_out.rtp, "198.51.100.8:4000", 64, &rtp(n)).map(|(out, ..)| out);
    rig.tell(Command::Join { a: a.id, b: b.id });
    assert_eq!((from_a(&mut rig, 1), from_b(&mut rig, 1)), (Some(b_out.rtp), Some(a_out.rtp)));
    rig.tell(Command::Join { a: a.id, b: c.id });
    assert_eq!((from_a(&mut rig, 2), from_b(&mut rig, 2)), (Some(c_out.rtp), Some(b_in.rtp)));
    rig.tell(Command::Part { stream: c.id });
    assert_eq!(from_a(&mut rig, 3), Some(a_in.rtp));
    rig.tell(Command::Join { a: a.id, b: a.id });
    assert_eq!(from_a(&mut rig, 4), Some(a_in.rtp), "with itself is nothing");
}

#[test]
fn leases_expire_and_come_back() {
    let mut rig = Rig::new(|_| {});
    let pairs = rig.lease(OUT, 2);
    rig.after(Duration::from_secs(299));
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Expired { .. })));
    rig.after(Duration::from_secs(2));
    let ids: Vec<PairId> = pairs.iter().map(|pair| pair.id).collect();
    assert!(rig.reports.contains(&Report::Expired { pairs: ids }));
    let mut setup = rig.open(7, HopLimit::Keep).0;
    setup.id.session = 8;
    setup.outside.pair = pairs[1].id;
    rig.tell(Command::Open { stream: setup.clone() });
    assert_eq!(
        rig.reports.last(),
        Some(&Report::Refused { stream: setup.id }),
        "an expired pair opens nothing"
    );
}

#[test]
fn what_a_burst_has_bound_is_closed_again() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.table.bound(), 8);
    let burst = rig.lease(OUT, 100);
    assert_eq!((burst.len(), rig.bound.len()), (100, 136), "a hundred, and the next lease's");
    rig.tell(Command::Return { pairs: burst.iter().map(|pair| pair.id).collect() });
    rig.after(Duration::from_secs(1));
    assert_eq!(rig.bound.len(), 8);
}

#[test]
fn a_stream_can_not_take_the_ports_of_another() {
    let mut rig = Rig::new(|_| {});
    let (a, ..) = rig.open(7, HopLimit::Keep);
    let (mut b, b_out, b_in) = rig.open(8, HopLimit::Keep);
    b.inside.pair = a.inside.pair;
    rig.tell(Command::Update { stream: b.clone() });
    assert_eq!(rig.reports.last(), Some(&Report::Refused { stream: b.id }));
    let out = rig.packet(b_out.rtp, "198.51.100.8:4000", 64, &rtp(1)).unwrap().0;
    assert_eq!(out, b_in.rtp, "it goes on as it was");
    // A new pair on one side: the old one closes, the other stays.
    let fresh = rig.lease(IN, 1)[0];
    b.inside.pair = fresh.id;
    rig.tell(Command::Update { stream: b });
    assert_eq!(rig.packet(b_out.rtp, "198.51.100.8:4000", 64, &rtp(2)).unwrap().0, fresh.rtp);
    assert!(!rig.bound.values().any(|(rtp, _)| *rtp == b_in.rtp));
}

#[test]
fn busy_ports_are_passed_over_and_too_many_are_named() {
    let mut rig = Rig::new(|config| config.pool = 0);
    rig.busy = 10;
    assert_eq!(rig.lease(OUT, 2).len(), 2);
    rig.busy = usize::MAX;
    assert_eq!(rig.lease(IN, 2), []);
    assert!(matches!(rig.reports.last(), Some(Report::Exhausted { missing: 2, realm: IN, .. })));
}

#[test]
fn capacity_is_kept() {
    let mut rig = Rig::new(|config| config.capacity = 10);
    assert_eq!(rig.table.bound(), 8);
    assert_eq!(rig.lease(OUT, 20).len(), 6);
    assert_eq!(rig.table.bound(), 10);
    assert!(matches!(rig.reports.last(), Some(Report::Exhausted { missing: 14, .. })));
    let unknown = Realm { side: Side::Inside, family: Family::V6 };
    assert_eq!(rig.lease(unknown, 3), []);
    assert!(matches!(rig.reports.last(), Some(Report::Exhausted { missing: 3, .. })));
}

#[test]
fn multiplexed_rtcp_takes_the_rtp_port() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, outside, inside) = rig.open(7, HopLimit::Keep);
    setup.rtcp_mux = true;
    rig.tell(Command::Update { stream: setup });
    assert_eq!(
        rig.packet(outside.rtp, "198.51.100.7:61000", 64, &REPORT),
        None,
        "RTCP alone makes nobody known"
    );
    rig.packet(outside.rtp, "198.51.100.7:61000", 64, &rtp(1)).unwrap();
    assert_eq!(
        rig.packet(outside.rtp, "198.51.100.7:61000", 64, &REPORT),
        Some((inside.rtp, at("10.0.1.7:5000"), 63))
    );
}

#[test]
fn a_snapshot_has_all_that_is_needed() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, inside) = rig.open(7, HopLimit::Keep);
    rig.tell(Command::Record { session: 7, record: b"dialog".to_vec().into() });
    rig.tell(Command::Record { session: 9, record: vec![0; 140_000].into() });
    rig.tell(Command::Snapshot);
    let want = Report::Snapshot {
        streams: vec![setup],
        pairs: vec![outside, inside],
        records: vec![(7, b"dialog".to_vec().into())],
        more: false,
    };
    assert_eq!(rig.reports.last(), Some(&want));
    rig.tell(Command::End { session: 7 });
    rig.tell(Command::Snapshot);
    let empty = Report::Snapshot { streams: vec![], pairs: vec![], records: vec![], more: false };
    assert_eq!(rig.reports.last(), Some(&empty));
}

#[test]
fn every_command_and_report_survives_its_text() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, _) = rig.open(7, HopLimit::Fixed(NonZeroU8::new(64).unwrap()));
    let id = setup.id;
    for command in [
        Command::Lease { realm: OUT, pairs: 64 },
        Command::Keep { pairs: vec![PairId(1), PairId(2)] },
        Command::Return { pairs: vec![PairId(u64::MAX)] },
        Command::Open { stream: setup.clone() },
        Command::Update { stream: setup.clone() },
        Command::Join { a: id, b: id },
        Command::Part { stream: id },
        Command::Close { stream: id },
        Command::End { session: u64::MAX },
        Command::Record { session: 1, record: vec![0, 255].into() },
        Command::Snapshot,
        Command::Release,
        Command::Restore { stream: setup.clone(), pairs: vec![outside] },
    ] {
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command, "{text}");
    }
    let (source, side, component) = (at("[2001:db8::1]:4000"), Side::Inside, Component::Rtcp);
    for report in [
        Report::Ready { pool: 256, capacity: 384, shortage: Some("RLIMIT_NOFILE".into()) },
        Report::Leased { realm: OUT, pairs: vec![outside], lifetime_ms: 300_000 },
        Report::Exhausted { realm: IN, missing: 3, reason: "busy".into() },
        Report::Expired { pairs: vec![outside.id] },
        Report::Refused { stream: id },
        Report::FirstPacket { stream: id, side, component, source, hop_limit: Some(64) },
        Report::Moved { stream: id, side, component, source },
        Report::HopLimitExpired { stream: id, side },
        Report::RateExceeded { stream: id, side, source },
        Report::Statistics {
            stream: id,
            outside: Default::default(),
            inside: Default::default(),
            ended: true,
        },
        Report::Snapshot {
            streams: vec![setup.clone()],
            pairs: vec![outside],
            records: vec![(1, vec![7].into())],
            more: false,
        },
    ] {
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report, "{text}");
    }
}
