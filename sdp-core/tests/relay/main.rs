//! The relay on loopback: real sockets, real TTL and hop limit, descriptions written out.
#![allow(clippy::disallowed_methods)] // These tests run in real time, some of them with threads.

pub(crate) mod gateway;
mod lines;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gateway::{Gateway, INNER, OUTER, PBX, PHONE_A, PHONE_B, Peer, audio, fixed, ip, next, place, rtp};
use sdp_core::net;
use sdp_core::policy::{HopLimit, SenderLimit, Source};
use sdp_core::relay::{Report, Side};

/// Phone, PBX, our outside, our inside: two families.
const PLACES: [(&str, &str, &str, &str); 2] = [(PHONE_A, PBX, OUTER, INNER), ("::1", "::1", "::1", "::1")];

#[test]
fn keep_relays_both_ways_and_counts_down() {
    for (phone, pbx, outer, inner) in PLACES {
        let mut gateway = Gateway::new(outer, inner, |_, _| {});
        let (phone, pbx) = (Peer::new(phone), Peer::new(pbx));
        let (outside, inside) = gateway.call(1, &phone, &pbx);
        for hop in [128, 70, 41, 2] {
            phone.send(outside, hop, &rtp(1, hop.into()));
            pbx.expect(inside, hop - 1, &rtp(1, hop.into()));
            pbx.send(inside, hop, &rtp(2, hop.into()));
            phone.expect(outside, hop - 1, &rtp(2, hop.into()));
        }
        phone.send(outside, 1, &rtp(1, 500));
        pbx.send(inside, 1, &rtp(2, 500));
        pbx.expect_silence();
        phone.expect_silence();
        let [outside, inside] = gateway.statistics(1, |o, i| o.dropped.hop_limit + i.dropped.hop_limit == 2);
        assert_eq!((outside.dropped.hop_limit, inside.dropped.hop_limit), (1, 1));
        assert_eq!((outside.hop_limit_received.minimum, outside.hop_limit_received.average()), (1, Some(48)));
        assert_eq!((inside.hop_limit_sent.minimum, inside.hop_limit_sent.count), (1, 4));
        let expired =
            gateway.reports.iter().filter(|report| matches!(report, Report::HopLimitExpired { .. })).count();
        assert_eq!(expired, 2);
    }
}

#[test]
fn fixed_leaves_as_it_was_set() {
    for (phone, pbx, outer, inner) in PLACES {
        for value in [64, 77, 1, 255] {
            let mut gateway = Gateway::new(outer, inner, |config, _| config.policy.hop_limit = fixed(value));
            let (phone, pbx) = (Peer::new(phone), Peer::new(pbx));
            let (outside, inside) = gateway.call(1, &phone, &pbx);
            for hop in [128, 41, 1] {
                phone.send(outside, hop, &rtp(1, hop.into()));
                pbx.expect(inside, value, &rtp(1, hop.into()));
                pbx.send(inside, hop, &rtp(2, hop.into()));
                phone.expect(outside, value, &rtp(2, hop.into()));
            }
        }
    }
}

#[test]
fn rtcp_has_its_own_way() {
    let mut gateway = Gateway::new(OUTER, INNER, |_, _| {});
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (phone_rtcp, pbx_rtcp) = (Peer::new(PHONE_A), Peer::new(PBX));
    let named = |peer: &Peer, rtcp: &Peer| format!("{}a=rtcp:{}\r\n", audio(peer), rtcp.port());
    let offer = gateway.offer(1, Side::Outside, PHONE_A, &named(&phone, &phone_rtcp));
    let answer = gateway.answer(1, Side::Inside, PBX, &named(&pbx, &pbx_rtcp));
    let (outside, inside) = (place(&answer), place(&offer));
    assert!(offer.ends_with(&format!("a=rtcp:{}\r\n", inside.port() + 1)));
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
    phone_rtcp.send(next(outside), 60, &report);
    pbx_rtcp.expect(next(inside), 59, &report);
    pbx_rtcp.send(next(inside), 50, &report);
    phone_rtcp.expect(next(outside), 49, &report);
    phone_rtcp.send(next(outside), 60, &[0x80, 201, 0, 9, 0, 0, 0, 7]);
    pbx_rtcp.expect_silence();
}

#[test]
fn families_may_differ() {
    let mut gateway = Gateway::new("::1", INNER, |_, _| {});
    let (phone, pbx) = (Peer::new("::1"), Peer::new(PBX));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    assert!(outside.is_ipv6() && inside.is_ipv4());
    phone.send(outside, 70, &rtp(1, 1));
    pbx.expect(inside, 69, &rtp(1, 1));
    pbx.send(inside, 41, &rtp(2, 1));
    phone.expect(outside, 40, &rtp(2, 1));
}

#[test]
fn strangers_get_nothing_and_are_not_heard() {
    let mut gateway = Gateway::new(OUTER, INNER, |_, _| {});
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (stranger, inside_stranger) = (Peer::new("127.0.6.6"), Peer::new("127.0.8.9"));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    // Before the phone has spoken, and after.
    for round in 0..2u16 {
        for n in 0..50 {
            stranger.send(outside, 64, &rtp(9, round * 50 + n));
            inside_stranger.send(inside, 64, &rtp(9, round * 50 + n));
        }
        phone.send(outside, 64, &rtp(1, round));
        pbx.expect(inside, 63, &rtp(1, round));
        pbx.send(inside, 64, &rtp(2, round));
        phone.expect(outside, 63, &rtp(2, round));
    }
    for silent in [&stranger, &inside_stranger, &phone, &pbx] {
        silent.expect_silence();
    }
    let [outside, inside] = gateway.statistics(1, |o, i| o.dropped.stranger + i.dropped.stranger == 200);
    assert_eq!((outside.received_rtp, inside.received_rtp), (2, 2));
}

#[test]
fn a_flood_of_strangers_costs_the_call_nothing() {
    let mut gateway = Gateway::new(OUTER, INNER, |_, _| {});
    let (phone, pbx, stranger) = (Peer::new(PHONE_A), Peer::new(PBX), Peer::new("127.0.6.6"));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    for n in 0..190 {
        for k in 0..100 {
            stranger.send(outside, 64, &rtp(9, n * 100 + k));
        }
        phone.send(outside, 64, &rtp(1, n));
        pbx.expect(inside, 63, &rtp(1, n));
    }
    let [outside, _] = gateway.statistics(1, |o, _| o.received_rtp == 190);
    assert!(outside.dropped.stranger > 10_000, "{outside:?}");
}

#[test]
fn multiple_relays_others_and_keeps_the_receiver() {
    let mut gateway = Gateway::new(OUTER, INNER, |config, _| {
        config.policy.max_senders = 10;
        config.policy.source = Source::Any;
    });
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    phone.send(outside, 64, &rtp(1, 100));
    pbx.expect(inside, 63, &rtp(1, 100));
    let others: Vec<Peer> = (1..=15).map(|n| Peer::new(&format!("127.0.6.{n}"))).collect();
    for other in &others {
        other.send(outside, 64, &rtp(1, 101));
    }
    let heard = std::iter::from_fn(|| pbx.receive(Duration::from_millis(300))).count();
    assert_eq!(heard, 9, "ten senders with the phone");
    pbx.send(inside, 64, &rtp(2, 1));
    phone.expect(outside, 63, &rtp(2, 1));
    // The phone's NAT gives it another port: same address, same SSRC, continuing sequence.
    let moved = Peer::new(PHONE_A);
    for sequence in 102..105 {
        // All places are taken: it is let in with the packet by which it takes over its own.
        moved.send(outside, 64, &rtp(1, sequence));
    }
    pbx.expect(inside, 63, &rtp(1, 104));
    pbx.send(inside, 64, &rtp(2, 2));
    moved.expect(outside, 63, &rtp(2, 2));
    phone.expect_silence();
    gateway.until(|gateway| gateway.reports.iter().any(|report| matches!(report, Report::Moved { .. })));
}

#[test]
fn lock_hears_one_sender_only() {
    let mut gateway = Gateway::new(OUTER, INNER, |config, _| config.policy.sender_limit = SenderLimit::Lock);
    let (phone, pbx, again) = (Peer::new(PHONE_A), Peer::new(PBX), Peer::new(PHONE_A));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    phone.send(outside, 64, &rtp(1, 100));
    pbx.expect(inside, 63, &rtp(1, 100));
    again.send(outside, 64, &rtp(1, 101));
    pbx.expect_silence();
    pbx.send(inside, 64, &rtp(2, 1));
    phone.expect(outside, 63, &rtp(2, 1));
}

#[test]
fn two_phones_meet_in_one_hop() {
    for (hop_limit, want) in [(HopLimit::Keep, 54), (fixed(64), 64)] {
        let mut gateway = Gateway::new(OUTER, INNER, |config, _| config.policy.hop_limit = hop_limit);
        let (a, b) = (Peer::new(PHONE_A), Peer::new(PHONE_B));
        // The PBX between them carries the descriptions as they are.
        let to_pbx = gateway.offer(1, Side::Outside, PHONE_A, &audio(&a));
        let to_b =
            gateway.anchor.offer(Instant::now(), 2, Side::Inside, ip(PBX), ip(PHONE_B), to_pbx.as_bytes());
        let to_b = String::from_utf8(to_b.unwrap().to_vec()).unwrap();
        let from_b = gateway.answer(2, Side::Outside, PHONE_B, &audio(&b));
        let to_a = gateway.answer(1, Side::Inside, PBX, &from_b);
        let (a_out, b_out) = (place(&to_a), place(&to_b));
        a.send(a_out, 55, &rtp(1, 1));
        b.expect(b_out, want, &rtp(1, 1));
        b.send(b_out, 55, &rtp(2, 1));
        a.expect(a_out, want, &rtp(2, 1));
        // Nothing went by the inside.
        let [_, inside] = gateway.statistics(1, |outside, _| outside.received_rtp == 1);
        assert_eq!((inside.sent, inside.received_rtp, inside.dropped.total()), (0, 0, 0));
        gateway.anchor.end(Instant::now(), 2);
        gateway.settle();
        a.send(a_out, 55, &rtp(1, 2));
        b.expect_silence();
    }
}

#[test]
fn our_own_packets_do_not_go_round() {
    // Two calls whose inside ends name each other's *outside* port: not a hairpin, a loop. `any` lets every source in.
    let mut gateway = Gateway::new(OUTER, INNER, |config, _| {
        config.policy.source = Source::Any;
        config.policy.hop_limit = fixed(255);
    });
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (first, _) = gateway.call(1, &phone, &pbx);
    gateway.offer(2, Side::Outside, PHONE_B, &audio(&Peer::new(PHONE_B)));
    let loop_back =
        audio(&pbx).replace(PBX, OUTER).replace(&format!(" {} ", pbx.port()), &format!(" {} ", first.port()));
    let second = place(&gateway.answer(2, Side::Inside, PBX, &loop_back));
    let phone_b = Peer::new(PHONE_B);
    for n in 0..20 {
        phone_b.send(second, 64, &rtp(1, n));
    }
    let [outside, _] = gateway.statistics(1, |outside, _| outside.dropped.own == 20);
    assert_eq!((outside.received_rtp, outside.senders), (0, 0));
    pbx.expect_silence();
}

#[test]
fn a_loop_through_a_reflector_dies() {
    // A host outside that sends everything back: a second gateway in reset mode looks like this.
    let mut gateway = Gateway::new(OUTER, INNER, |config, _| {
        config.policy.hop_limit = fixed(64);
        // A packet alone is let wait a millisecond on each way: the circle turns no faster than 500 times a second.
        config.policy.max_rate = 100;
    });
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    let reflect = |peer: Peer, to: SocketAddr| {
        std::thread::spawn(move || {
            let mut count = 0u32;
            while let Some((_, _, bytes)) = peer.receive(Duration::from_millis(700)) {
                peer.send(to, 64, &bytes);
                count += 1;
            }
            count
        })
    };
    phone.send(outside, 64, &rtp(1, 1));
    let (a, b) = (reflect(phone, outside), reflect(pbx, inside));
    let counts = (a.join().unwrap(), b.join().unwrap());
    assert!(counts.0 <= 102 && counts.1 <= 102, "the circle was cut: {counts:?}");
    gateway
        .until(|gateway| gateway.reports.iter().any(|report| matches!(report, Report::RateExceeded { .. })));
}

#[test]
fn after_the_end_ports_are_closed() {
    let mut gateway = Gateway::new("127.0.9.5", "127.0.9.6", |_, _| {});
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    phone.send(outside, 64, &rtp(1, 1));
    pbx.expect(inside, 63, &rtp(1, 1));
    // No other test uses these addresses, so the ports are this relay's or nobody's.
    for ours in [outside, inside, next(outside), next(inside)] {
        assert_eq!(UdpSocket::bind(ours).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
    gateway.anchor.end(Instant::now(), 1);
    gateway.settle();
    phone.send(outside, 64, &rtp(1, 2));
    pbx.send(inside, 64, &rtp(1, 2));
    pbx.expect_silence();
    phone.expect_silence();
    for ours in [outside, inside, next(outside), next(inside)] {
        UdpSocket::bind(ours).expect("the port is free again");
    }
}

#[test]
fn dropping_the_handle_closes_every_port() {
    let mut gateway = Gateway::new(OUTER, INNER, |_, relay| relay.ports = 40000..=40009);
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    gateway.call(1, &phone, &pbx);
    assert!(gateway.relay.is_running());
    drop(gateway.relay);
    for port in 40000..40010 {
        UdpSocket::bind((ip(OUTER), port)).expect("closed");
        UdpSocket::bind((ip(INNER), port)).expect("closed");
    }
}

#[test]
fn busy_ports_are_passed_over() {
    let taken: Vec<UdpSocket> =
        (0..4).map(|n| UdpSocket::bind((ip("127.0.9.8"), 41001 + 4 * n)).unwrap()).collect();
    let mut gateway = Gateway::new("127.0.9.8", INNER, |_, relay| relay.ports = 41000..=41019);
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, _) = gateway.call(1, &phone, &pbx);
    assert!(outside.port() % 2 == 0 && !taken.iter().any(|t| t.local_addr().unwrap() == next(outside)));
}

#[test]
fn an_address_that_is_not_ours_is_named() {
    let (sender, inbox) = mpsc::channel();
    let config = net::Config::new(ip("192.0.2.1").into(), ip(INNER).into(), [3; 32]);
    let _relay = net::Relay::spawn(config, move |report| drop(sender.send(report))).unwrap();
    let reason = loop {
        match inbox.recv_timeout(Duration::from_secs(5)).unwrap() {
            Report::Exhausted { reason, .. } => break reason,
            Report::Ready { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(reason.contains("192.0.2.1"), "{reason}");
}

#[test]
fn what_a_full_queue_loses_is_counted() {
    // The relay's thread is held up by its first packet's report; the kernel's queue has room for some hundreds.
    let hold = |report: &Report| {
        if matches!(report, Report::FirstPacket { side: Side::Outside, .. }) {
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    let mut gateway = Gateway::hooked(OUTER, INNER, |config, _| config.policy.max_rate = u32::MAX, hold);
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    phone.send(outside, 64, &rtp(1, 0));
    std::thread::sleep(Duration::from_millis(50));
    for n in 1..4_000 {
        phone.send(outside, 64, &rtp(1, n));
    }
    pbx.expect(inside, 63, &rtp(1, 0));
    std::thread::sleep(Duration::from_millis(600));
    // The kernel's count comes with a packet that found room again.
    phone.send(outside, 64, &rtp(1, 4_000));
    let [outside, _] = gateway.statistics(1, |outside, _| outside.dropped.overflow > 0);
    assert_eq!(outside.received_rtp + outside.dropped.overflow, 4_001, "{outside:?}");
    assert!(outside.dropped.overflow > 500, "{outside:?}");
}

#[test]
fn a_packet_larger_than_any_frame_is_dropped_and_counted() {
    let mut gateway = Gateway::new(OUTER, INNER, |_, _| {});
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    let sized = |sequence, octets| {
        let mut packet = rtp(1, sequence);
        packet.resize(octets, 0xd5);
        packet
    };
    for (sequence, octets) in [(1, 1_472), (2, 1_900)] {
        phone.send(outside, 64, &sized(sequence, octets));
        pbx.expect(inside, 63, &sized(sequence, octets));
    }
    for (sequence, octets) in [(3, 2_048), (4, 9_000), (5, 65_507)] {
        phone.send(outside, 64, &sized(sequence, octets));
    }
    phone.send(outside, 64, &rtp(1, 6));
    pbx.expect(inside, 63, &rtp(1, 6));
    let [outside, _] = gateway.statistics(1, |outside, _| outside.received_rtp == 3);
    assert_eq!(outside.dropped.oversize, 3);
}

#[test]
fn a_flood_on_one_port_leaves_the_others_their_turn() {
    let mut gateway = Gateway::new(OUTER, INNER, |config, _| config.policy.max_rate = u32::MAX);
    let ends = (1..=3).map(|session| {
        let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
        let (outside, inside) = gateway.call(session, &phone, &pbx);
        (phone, pbx, outside, inside)
    });
    let mut ends: Vec<_> = ends.collect();
    let (flooding, _sink, port, _) = ends.remove(0);
    let end = Instant::now() + Duration::from_secs(2);
    let flood = std::thread::spawn(move || {
        let mut sent = 0u32;
        while Instant::now() < end {
            flooding.send(port, 64, &rtp(1, sent as u16));
            sent += 1;
        }
        sent
    });
    for n in 0..20 {
        for (phone, pbx, outside, inside) in &ends {
            phone.send(*outside, 64, &rtp(2, n));
            pbx.expect(*inside, 63, &rtp(2, n));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(flood.join().unwrap() > 1_000);
}

#[test]
fn a_hop_limit_that_changes_is_kept_at_every_packet() {
    // Longer runs than those after which the socket is told, and changes between any two.
    for (phone, pbx, outer, inner) in PLACES {
        let mut gateway = Gateway::new(outer, inner, |_, _| {});
        let (phone, pbx) = (Peer::new(phone), Peer::new(pbx));
        let (outside, inside) = gateway.call(1, &phone, &pbx);
        let hops = [vec![128; 40], vec![60; 40], [70, 71].repeat(20), vec![128; 3]].concat();
        let burst: Vec<(u8, Vec<u8>)> =
            (1..).zip(hops).map(|(sequence, hop)| (hop, rtp(1, sequence))).collect();
        for (hop, packet) in &burst {
            phone.send(outside, *hop, packet);
        }
        for (hop, packet) in &burst {
            pbx.expect(inside, hop - 1, packet);
        }
    }
}
