//! The tests of `relay` with three workers, and what only several can get wrong.
#![allow(clippy::disallowed_methods)] // These tests run in real time.

#[path = "relay/main.rs"]
mod relay;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use relay::gateway::{Gateway, PBX, PHONE_A, PHONE_B, Peer, ip, rtp};
use sdp_core::anchor::Left;
use sdp_core::relay::{Command, Report};

#[test]
fn calls_of_all_workers_are_carried_end_and_give_their_ports_back() {
    // Thirty calls, and ports for twenty-four: those of a call that has ended rest for a moment only.
    let mut gateway = Gateway::new("127.0.9.11", "127.0.9.12", |_, relay| {
        relay.ports = 42000..=42047;
        relay.pool = 8;
        relay.rest = Duration::ZERO;
    });
    for round in 0..5 {
        let calls: Vec<_> = (0..6)
            .map(|n| {
                let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
                let session = 10 * round + n;
                let (outside, inside) = gateway.call(session, &phone, &pbx);
                (session, phone, pbx, outside, inside)
            })
            .collect();
        for (session, phone, pbx, outside, inside) in &calls {
            for n in 0..3 {
                phone.send(*outside, 64, &rtp(*session as u8, n));
                pbx.expect(*inside, 63, &rtp(*session as u8, n));
                pbx.send(*inside, 64, &rtp(200, n));
                phone.expect(*outside, 63, &rtp(200, n));
            }
        }
        for (session, ..) in &calls {
            let [outside, inside] = gateway.statistics(*session, |o, i| o.received_rtp + i.received_rtp == 6);
            assert_eq!(
                (outside.sent, inside.sent, outside.dropped.total(), inside.dropped.total()),
                (3, 3, 0, 0)
            );
            gateway.anchor.end(Instant::now(), *session);
        }
        gateway.settle();
        let ended = |report: &&Report| matches!(report, Report::Statistics { ended: true, .. });
        gateway.until(|gateway| gateway.reports.iter().filter(ended).count() == 6 * (round as usize + 1));
    }
}

#[test]
fn a_new_process_hears_of_the_calls_of_all_workers_at_once() {
    let mut gateway = Gateway::new("127.0.9.13", "127.0.9.14", |config, _| config.keep_state = true);
    let ends: Vec<_> = (0..100)
        .map(|session| {
            let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
            let (outside, inside) = gateway.call(session, &phone, &pbx);
            gateway.anchor.set_record(session, vec![session as u8; 9]);
            (phone, pbx, outside, inside)
        })
        .collect();
    gateway.settle();
    gateway.reports.clear();
    gateway.relay.send(Command::Release);
    gateway.settle();
    let mut left = Left::default();
    let mut reports = gateway.reports.drain(..).filter(|report| matches!(report, Report::Snapshot { .. }));
    assert!(reports.by_ref().any(|report| left.add(report)));
    assert_eq!(reports.count(), 0);
    assert_eq!(left.sessions().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    // The next anchor has them, and its word reaches each.
    let config = sdp_core::anchor::Config {
        keep_state: true,
        ..sdp_core::anchor::Config::new(ip("127.0.9.13").into(), ip("127.0.9.14").into())
    };
    gateway.anchor = sdp_core::anchor::Anchor::new(Instant::now(), config);
    let heirs = gateway.anchor.take_over(Instant::now(), &left);
    assert_eq!(heirs.len(), 100);
    gateway.settle();
    for (n, (phone, pbx, outside, inside)) in ends.iter().enumerate() {
        phone.send(*outside, 64, &rtp(1, n as u16));
        pbx.expect(*inside, 63, &rtp(1, n as u16));
    }
    (0..100).for_each(|session| gateway.anchor.end(Instant::now(), session));
    gateway.settle();
    let end = Instant::now() + Duration::from_secs(5);
    for (.., outside, inside) in &ends {
        for port in [outside, inside] {
            while UdpSocket::bind(port).is_err() {
                assert!(Instant::now() < end, "{port} is open");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn a_join_takes_a_running_call_to_another_worker() {
    // Three calls, one a worker: the two phones are joined while both speak.
    for _ in 0..5 {
        let mut gateway = Gateway::new("127.0.9.15", "127.0.9.16", |_, _| {});
        let (a, b) = (Peer::new(PHONE_A), Peer::new(PHONE_B));
        let (pbx_a, pbx_b) = (Peer::new(PBX), Peer::new(PBX));
        let (a_out, a_in) = gateway.call(1, &a, &pbx_a);
        let (b_out, b_in) = gateway.call(2, &b, &pbx_b);
        for (phone, pbx, outside, inside) in [(&a, &pbx_a, a_out, a_in), (&b, &pbx_b, b_out, b_in)] {
            phone.send(outside, 64, &rtp(1, 1));
            pbx.expect(inside, 63, &rtp(1, 1));
        }
        let id = |session| sdp_core::relay::StreamId { session, index: 0 };
        gateway.relay.send(Command::Join { a: id(1), b: id(2) });
        gateway.settle();
        for n in 2..20 {
            a.send(a_out, 64, &rtp(1, n));
            b.expect(b_out, 63, &rtp(1, n));
            b.send(b_out, 64, &rtp(2, n));
            a.expect(a_out, 63, &rtp(2, n));
        }
        // What the worker before had counted is counted still.
        let [outside, _] = gateway.statistics(2, |outside, _| outside.received_rtp == 19);
        assert_eq!((outside.sent, outside.dropped.total()), (18, 0));
        gateway.relay.send(Command::Part { stream: id(1) });
        gateway.settle();
        b.send(b_out, 64, &rtp(2, 20));
        pbx_b.expect(b_in, 63, &rtp(2, 20));
    }
}

#[test]
fn when_one_worker_ends_all_do() {
    // The callback runs on the worker that reports: it dies of a call's first packet.
    let hook = |report: &Report| assert!(!matches!(report, Report::FirstPacket { .. }), "on purpose");
    let mut gateway = Gateway::hooked("127.0.9.17", "127.0.9.18", |_, _| {}, hook);
    let (phone, pbx) = (Peer::new(PHONE_A), Peer::new(PBX));
    let (outside, _) = gateway.call(1, &phone, &pbx);
    phone.send(outside, 64, &rtp(1, 1));
    // The last thread takes the callback with it, and so the far end of this queue.
    let end = Instant::now() + Duration::from_secs(5);
    while gateway.inbox.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
    assert!(Instant::now() < end && !gateway.relay.is_running());
    assert!(!gateway.relay.send(Command::Snapshot));
    drop(gateway.relay);
    UdpSocket::bind(outside).expect("closed");
}
