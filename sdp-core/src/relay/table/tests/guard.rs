//! What a table does to circles, floods, silence, fax and connectivity checks (MED-08 to MED-10, MED-14, SDP-11, M1 to M6).

use super::*;
use crate::policy::Addresses;
use crate::relay::command::IceLite;
use crate::relay::report::Silence;
use crate::rtp::stun::{MAX_ANSWER, is_stun};

fn fixed(value: u8) -> HopLimit {
    HopLimit::Fixed(NonZeroU8::new(value).unwrap())
}

/// Two gateways, reset mode, each taking the other for its switch and its phone: what enters the first one outside leaves
/// inside, enters the second one outside, leaves inside, and enters the first one outside again.
struct Circle {
    rigs: [Rig; 2],
    /// Outside and inside RTP ports.
    ports: [[SocketAddr; 2]; 2],
}

impl Circle {
    fn new() -> Self {
        let ip = |text: &str| Addresses::from(text.parse::<IpAddr>().unwrap());
        let rig = |outside: &str, inside: &str| {
            Rig::new(|config| (config.outside, config.inside) = (ip(outside), ip(inside)))
        };
        let mut rigs = [rig("192.0.2.1", "10.0.1.2"), rig("192.0.2.2", "10.0.1.3")];
        let mut ports = [[at("0.0.0.0:0"); 2]; 2];
        let mut setups = Vec::new();
        for (rig, ports) in rigs.iter_mut().zip(&mut ports) {
            let (mut setup, outside, inside) = rig.open(7, fixed(64));
            *ports = [outside.rtp, inside.rtp];
            setup.outside.sources.clear();
            setup.inside.sources.clear();
            setups.push(setup);
        }
        for (own, other) in [(0, 1), (1, 0)] {
            let there: SocketAddr = ports[other][0];
            let setup = &mut setups[own];
            setup.inside.remote = Some(Remote { rtp: there, rtcp: (there.ip(), there.port() + 1).into() });
            rigs[own].tell(Command::Update { stream: setup.clone() });
        }
        Self { rigs, ports }
    }

    /// The phone sends 50 packets a second for `seconds`, each lap takes `lap`. How many packets crossed in each of ten seconds.
    fn run(&mut self, seconds: u16, lap: Duration) -> [u32; 10] {
        let start = self.rigs[0].now;
        let mut crossed = [0; 10];
        // When, to which rig, from where, which sequence.
        let mut flying: std::collections::BTreeMap<(Duration, u32), (usize, SocketAddr, u16)> =
            Default::default();
        let mut count = 0;
        for n in 0..50 * seconds {
            flying.insert((Duration::from_millis(20) * n.into(), count), (0, at("198.51.100.7:4000"), n));
            count += 1;
        }
        while let Some(((time, _), (rig, from, sequence))) = flying.pop_first() {
            let second = usize::try_from(time.as_secs()).unwrap();
            let Some(seen) = crossed.get_mut(second) else { return crossed };
            self.rigs[rig].now = start + time;
            let to = self.ports[rig][0];
            let Some((out, _, hop)) = self.rigs[rig].packet(to, &from.to_string(), 64, &rtp(sequence)) else {
                continue;
            };
            assert_eq!(hop, 64, "nothing but the guard ends it");
            *seen += 1;
            flying.insert((time + lap / 2, count), (1 - rig, out, sequence));
            count += 1;
        }
        crossed
    }
}

/// MED-10: whatever a lap takes, a single packet and a stream die within a second of the last one that came from outside.
#[test]
fn two_gateways_pointed_at_each_other_fall_silent() {
    for lap in [100, 500, 2_000, 10_000, 50_000, 150_000].map(Duration::from_micros) {
        let one = {
            let mut circle = Circle::new();
            circle.rigs[0].packet(circle.ports[0][0], "198.51.100.7:4000", 64, &rtp(999)).unwrap();
            circle.run(1, lap)
        };
        assert_eq!(one[2..], [0; 8], "{lap:?}: {one:?}");
        let mut circle = Circle::new();
        let crossed = circle.run(3, lap);
        assert_eq!(crossed[4..], [0; 6], "{lap:?}: {crossed:?}");
        // While it comes: no more than the ceiling of each of the two senders at each port.
        assert!(crossed.iter().all(|seen| *seen <= 4_200), "{lap:?}: {crossed:?}");
    }
}

/// MED-10: who writes our own address as its source is nobody, on both ports and sides, also on that of another stream.
#[test]
fn our_own_address_as_a_source_is_dropped() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, outside, inside) = rig.open(7, fixed(64));
    let (_, other, _) = rig.open(8, fixed(64));
    setup.outside.sources.clear();
    rig.tell(Command::Update { stream: setup.clone() });
    for source in [outside.rtp, outside.rtcp, inside.rtp, other.rtp] {
        assert_eq!(rig.packet(outside.rtp, &source.to_string(), 64, &rtp(1)), None, "{source}");
        assert_eq!(rig.packet(outside.rtcp, &source.to_string(), 64, &REPORT), None, "{source}");
    }
    let dropped = rig.statistics(setup.id).0.dropped;
    assert_eq!((dropped.own, dropped.total()), (8, 8));
}

/// MED-08: 200 packets a second before the answer, from however many.
#[test]
fn early_media_is_capped_for_all_senders_together() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, outside, _) = rig.open(7, HopLimit::Keep);
    setup.outside.total_rate = Some(200);
    rig.tell(Command::Update { stream: setup.clone() });
    let second = |rig: &mut Rig| {
        let passed = (0..1_000u16)
            .filter(|n| {
                let from = format!("198.51.100.7:{}", 4_000 + n % 10);
                rig.packet(outside.rtp, &from, 64, &rtp(*n)).is_some()
            })
            .count();
        rig.now += Duration::from_secs(1);
        passed
    };
    assert_eq!((second(&mut rig), second(&mut rig)), (200, 200));
    setup.outside.total_rate = None;
    rig.tell(Command::Update { stream: setup });
    assert_eq!(second(&mut rig), 1_000, "answered");
}

/// M5: 19,000 packets of strangers and of neighbours while a call runs: of the call's own packets two in a hundred are missing
/// at most. Here none is: limits count by sender.
#[test]
fn a_flood_is_its_sender_s_trouble() {
    for limit in [SenderLimit::Lock, SenderLimit::LockIp, SenderLimit::Multiple] {
        let mut rig = Rig::new(|_| {});
        let (mut setup, outside, inside) = rig.open(7, HopLimit::Keep);
        setup.outside.sender_limit = limit;
        rig.tell(Command::Update { stream: setup });
        let phone = "198.51.100.7:61000";
        let (mut heard, mut told) = (0, 0);
        for n in 0..500u16 {
            heard += u16::from(rig.packet(outside.rtp, phone, 64, &rtp(n)).is_some());
            for flood in 0..38u16 {
                let stranger = format!("203.0.113.{}:{}", flood % 7 + 1, 5_000 + flood);
                let from =
                    if flood % 2 == 0 { stranger } else { format!("198.51.100.7:{}", 50_000 + flood % 4) };
                rig.packet(outside.rtp, &from, 64, &rtp(n.wrapping_mul(38).wrapping_add(flood)));
            }
            let to = rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(n)).unwrap().1;
            told += u16::from(to == at(phone));
            rig.now += Duration::from_millis(20);
        }
        assert_eq!((heard, told), (500, 500), "{limit:?}");
    }
}

fn udptl(sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    vec![high, low, 1, 6, 0, 0]
}

/// T.38 (SDP-21): by its sequence, with the hop limit as any stream; RTP and what is too short are not fax.
#[test]
fn fax_is_relayed_both_ways() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, outside, inside) = rig.open(7, HopLimit::Keep);
    setup.kind = Kind::Udptl;
    setup.payloads = crate::relay::Payloads::default();
    rig.tell(Command::Update { stream: setup.clone() });
    let phone = "198.51.100.7:61000";
    for n in 0..50 {
        let there = Some((inside.rtp, at("10.0.1.7:5000"), 63));
        assert_eq!(rig.packet(outside.rtp, phone, 64, &udptl(n)), there);
        assert_eq!(
            rig.packet(inside.rtp, "10.0.1.7:5000", 64, &udptl(n)),
            Some((outside.rtp, at(phone), 63))
        );
    }
    for broken in [&udptl(1)[..3], &[0, 1, 9, 0, 0][..], &[][..]] {
        assert_eq!(rig.packet(outside.rtp, phone, 64, broken), None, "{broken:?}");
    }
    assert_eq!(rig.packet(outside.rtcp, phone, 64, &REPORT), None, "fax has no RTCP");
    let (outside, _) = rig.statistics(setup.id);
    assert_eq!((outside.received_rtp, outside.received_rtcp, outside.dropped.malformed), (50, 0, 4));
}

/// M4: each kind is dropped, counted by its name, and answered to nobody.
#[test]
fn each_kind_of_rubbish_is_counted_by_its_name() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, _) = rig.open(7, HopLimit::Keep);
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let zrtp = [&[0x10, 0, 0, 1, b'Z', b'R', b'T', b'P'][..], &[0; 20]].concat();
    let dtls = [&[22, 0xfe, 0xfd][..], &[0; 30]].concat();
    let padded = [0xa0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 9];
    let csrc = [0x8f, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 9];
    let extension = [0x90, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0xbe, 0xde, 0xff, 0xff];
    let rtcp = [0x80, 201, 0xff, 0xff, 0, 0, 0, 5];
    for packet in [&stun[..], &zrtp, &dtls, &rtp(1)[..11], &padded, &csrc, &extension, &rtcp, &[0x40; 40]] {
        assert_eq!(rig.packet(outside.rtp, "198.51.100.7:4000", 64, packet), None, "{packet:?}");
    }
    assert!(rig.packet(outside.rtp, "198.51.100.7:4000", 64, &rtp(1)).is_some(), "the call goes on");
    let dropped = rig.statistics(setup.id).0.dropped;
    assert_eq!((dropped.stun, dropped.zrtp, dropped.dtls, dropped.malformed), (1, 1, 1, 6));
}

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// SDP-11: a check of who has our password is answered, and its sender is where packets go once it has chosen.
#[test]
fn a_connectivity_check_is_answered_and_proves_its_sender() {
    for (policy, hop) in [(fixed(99), 99), (HopLimit::Keep, 64)] {
        let mut rig = Rig::new(|_| {});
        let (mut setup, outside, inside) = rig.open(7, policy);
        let ice = IceLite { ufrag: "evtj".into(), password: PASSWORD.into() };
        setup.outside.ice = Some(ice);
        rig.tell(Command::Update { stream: setup.clone() });
        let browser = "198.51.100.7:50505";
        let (plain, chosen) = (check(false), check(true));
        assert_eq!(rig.packet(outside.rtp, browser, 2, &plain), Some((outside.rtp, at(browser), hop)));
        let answer = rig.table.answer().to_vec();
        assert!(is_stun(&answer) && answer.len() <= MAX_ANSWER && answer[..2] == [1, 1]);
        assert_eq!(rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(1)).unwrap().1, at(browser));
        let better = "198.51.100.7:50506";
        assert_eq!(rig.packet(outside.rtp, better, 64, &chosen), Some((outside.rtp, at(better), hop)));
        assert_eq!(rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(2)).unwrap().1, at(better));
        // Nothing to a stranger, to who knows no password, on the inside, and on the port that has no such leg.
        let mut wrong = plain.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(rig.packet(outside.rtp, better, 64, &wrong), None);
        assert_eq!(rig.packet(outside.rtp, "203.0.113.9:1", 64, &plain), None);
        assert_eq!(rig.packet(inside.rtp, "10.0.1.7:5000", 64, &plain), None);
        let flood = (0..1_000).filter(|_| rig.packet(outside.rtp, better, 64, &plain).is_some()).count();
        assert!(flood < 50, "{flood}");
        let (outside, inside) = rig.statistics(setup.id);
        assert_eq!((outside.checks, inside.checks, inside.dropped.stun), (2 + flood as u64, 0, 1));
    }
}

/// The attributes of RFC 5769 §2.1 with ICE-CONTROLLING, sealed by its password.
fn check(nominated: bool) -> Vec<u8> {
    crate::rtp::stun::tests::sealed(nominated, PASSWORD)
}

/// SAM-21 and MED-14 at the table: the silence is told with both ends' counters, and the ports close.
#[test]
fn a_dead_stream_is_told_and_closed() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, outside, _) = rig.open(7, HopLimit::Keep);
    setup.timeouts = Timeouts { one_way: Some(5), rtp: Some(10), rtcp: None, teardown: true };
    rig.tell(Command::Update { stream: setup.clone() });
    rig.packet(outside.rtp, "198.51.100.7:61000", 41, &rtp(1)).unwrap();
    rig.reports.clear();
    for _ in 0..14 {
        rig.after(Duration::from_secs(1));
    }
    let silent: Vec<_> = rig
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Silent { silence, seconds, outside, closed, .. } => {
                Some((*silence, *seconds, outside.hop_limit_received.minimum, outside.receiver, *closed))
            }
            _ => None,
        })
        .collect();
    assert_eq!(silent, [(Silence::Rtp, 10, 41, Some(at("198.51.100.7:61000")), true)]);
    assert!(rig.reports.iter().any(|report| matches!(report, Report::Statistics { ended: true, .. })));
    assert_eq!(rig.packet(outside.rtp, "198.51.100.7:61000", 41, &rtp(2)), None);
}

/// Joined streams meet inside: that nothing comes there is how it should be; an outside end that falls silent is missed by both.
#[test]
fn joined_streams_miss_their_outside_ends_only() {
    let mut rig = Rig::new(|_| {});
    let mut ends = Vec::new();
    for session in [7, 8] {
        let (mut setup, outside, _) = rig.open(session, HopLimit::Keep);
        setup.timeouts = Timeouts { one_way: Some(5), rtp: Some(10), rtcp: None, teardown: false };
        rig.tell(Command::Update { stream: setup.clone() });
        ends.push((setup.id, outside.rtp));
    }
    rig.tell(Command::Join { a: ends[0].0, b: ends[1].0 });
    rig.reports.clear();
    for second in 0..20u16 {
        rig.packet(ends[0].1, "198.51.100.7:4000", 64, &rtp(second)).unwrap();
        if second < 10 {
            rig.packet(ends[1].1, "198.51.100.8:4000", 64, &rtp(second)).unwrap();
        }
        rig.after(Duration::from_secs(1));
    }
    let mut missed: Vec<_> = rig
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Silent { stream, silence, .. } => Some((stream.session, *silence)),
            _ => None,
        })
        .collect();
    missed.sort_by_key(|(session, _)| *session);
    let wanted = [(7, Silence::OneWay(Side::Inside)), (8, Silence::OneWay(Side::Outside))];
    assert_eq!(missed, wanted, "the far end of one is the near end of the other");
}

/// MED-20: a sender report that goes through and the report that answers it are a round trip; loss and quality are the holder's.
#[test]
fn quality_is_told_with_the_counters() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, inside) = rig.open(7, HopLimit::Keep);
    let phone = "198.51.100.7:4000";
    for n in (0..1_000u16).filter(|n| n % 10 != 5) {
        rig.now += Duration::from_millis(20);
        let mut packet = rtp(n);
        packet[4..8].copy_from_slice(&(u32::from(n) * 160).to_be_bytes());
        rig.packet(outside.rtp, phone, 52, &packet).unwrap();
        rig.packet(outside.rtp, "198.51.100.7:9", 52, &packet);
    }
    let sender = [&[0x80, 200, 0, 6, 0, 0, 0, 9, 0, 0, 1, 2, 3, 4, 0, 0][..], &[0; 12]].concat();
    rig.packet(inside.rtcp, "10.0.1.7:5001", 64, &sender).unwrap();
    rig.now += Duration::from_millis(90);
    let block = [0, 0, 0, 9, 3, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0];
    let receiver = [&[0x81, 201, 0, 7, 0, 0, 0, 7][..], &block].concat();
    rig.packet(outside.rtcp, "198.51.100.7:4001", 52, &receiver).unwrap();
    let (found, _) = rig.statistics(setup.id);
    assert_eq!((found.reception.expected, found.reception.lost()), (1_000, 100));
    assert_eq!((found.reception.ssrc_count, found.reception.payload_type), (1, Some(0)));
    assert_eq!(found.round_trip_us, Some(90_000));
    assert_eq!(found.reported.map(|said| (said.fraction_lost, said.lost, said.jitter)), Some((3, 5, 80)));
    assert!(found.mos_hundredths.is_some_and(|mos| (200..340).contains(&mos)), "{:?}", found.mos_hundredths);
    assert_eq!(found.sources[..2], [Some(at(phone)), Some(at("198.51.100.7:9"))]);
    let ttl = found.hop_limit_received;
    assert_eq!((ttl.minimum, ttl.average(), ttl.maximum), (52, Some(52), 52));
}
