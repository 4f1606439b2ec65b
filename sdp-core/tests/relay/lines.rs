//! Calls that last so long that their ports have lines (`net/line.rs`): nothing that is seen of a relay may differ by them.

use std::time::Duration;

use sdp_core::relay::{Report, Side};

use super::gateway::{Gateway, PBX, PHONE_A, PHONE_B, Peer, audio, place, rtp};
use super::{INNER, OUTER, PLACES};

/// More packets than a port waits for before it takes a line.
const LONG: u16 = 100;

/// So many packets both ways; gives the next number.
fn talk(
    (phone, outside): (&Peer, std::net::SocketAddr),
    (pbx, inside): (&Peer, std::net::SocketAddr),
    first: u16,
) -> u16 {
    for n in first..first + LONG {
        let hop = if n % 50 < 45 { 128 } else { 60 };
        phone.send(outside, hop, &rtp(1, n));
        pbx.expect(inside, hop - 1, &rtp(1, n));
        pbx.send(inside, hop, &rtp(2, n));
        phone.expect(outside, hop - 1, &rtp(2, n));
    }
    first + LONG
}

#[test]
fn a_phone_that_moves_in_a_long_call_is_followed() {
    for (phone, pbx, outer, inner) in PLACES {
        let mut gateway = Gateway::new(outer, inner, |_, _| {});
        let (before, after, pbx) = (Peer::new(phone), Peer::new(phone), Peer::new(pbx));
        let (outside, inside) = gateway.call(1, &before, &pbx);
        let mut next = talk((&before, outside), (&pbx, inside), 0);
        for phone in [&after, &before] {
            // As behind a NAT that forgot: the old port is silent first.
            std::thread::sleep(Duration::from_millis(500));
            for n in 0..5 {
                phone.send(outside, 64, &rtp(1, next + n));
                pbx.expect(inside, 63, &rtp(1, next + n));
            }
            pbx.send(inside, 64, &rtp(2, next));
            phone.expect(outside, 63, &rtp(2, next));
            next = talk((phone, outside), (&pbx, inside), next + 5);
        }
        let [outside, inside] = gateway
            .statistics(1, |o, i| o.received_rtp == i.sent && i.received_rtp == o.sent && i.sent > 300);
        assert_eq!((outside.dropped.total(), inside.dropped.total()), (0, 0));
    }
}

#[test]
fn an_end_that_was_unreachable_for_a_while_is_spoken_to_again() {
    for (phone, pbx, outer, inner) in PLACES {
        let mut gateway = Gateway::new(outer, inner, |_, _| {});
        let (phone, before) = (Peer::new(phone), Peer::new(pbx));
        let place = before.address();
        let (outside, inside) = gateway.call(1, &phone, &before);
        let mut next = talk((&phone, outside), (&before, inside), 0);
        // Its host says that nobody is there (ICMP), which a line is told of.
        drop(before);
        for _ in 0..50 {
            phone.send(outside, 64, &rtp(1, next));
            next += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        let pbx = Peer::at(place);
        let mut heard = 0;
        for n in 0..20 {
            phone.send(outside, 64, &rtp(1, next + n));
            heard += u32::from(pbx.receive(Duration::from_millis(200)).is_some());
        }
        assert!(heard >= 18, "{heard} of 20");
        pbx.send(inside, 64, &rtp(2, next));
        phone.expect(outside, 63, &rtp(2, next));
    }
}

#[test]
fn strangers_are_judged_in_a_long_call_as_in_a_short_one() {
    let mut gateway = Gateway::new(OUTER, INNER, |_, _| {});
    let (phone, pbx, stranger) = (Peer::new(PHONE_A), Peer::new(PBX), Peer::new(PHONE_B));
    let (outside, inside) = gateway.call(1, &phone, &pbx);
    let next = talk((&phone, outside), (&pbx, inside), 0);
    for n in 0..50 {
        stranger.send(outside, 64, &rtp(1, next + n));
        stranger.send(inside, 64, &rtp(2, next + n));
    }
    pbx.expect_silence();
    phone.expect_silence();
    talk((&phone, outside), (&pbx, inside), next);
    stranger.expect_silence();
    let [outside, inside] = gateway.statistics(1, |o, i| o.dropped.stranger + i.dropped.stranger == 100);
    assert_eq!((outside.dropped.total(), inside.dropped.total()), (50, 50));
}

/// What one fork sends leaves by a line of its own, and by no other's.
#[test]
fn the_line_that_is_cut_is_the_one_that_was_refused() {
    let mut gateway = Gateway::new(OUTER, INNER, |config, _| config.policy.forked = true);
    let (phone, first, second) = (Peer::new(PHONE_A), Peer::new(PBX), Peer::new(PBX));
    let inside = place(&gateway.offer(1, Side::Outside, PHONE_A, &audio(&phone)));
    let mut answers = |fork, from: &Peer| {
        gateway.anchor.set_fork(1, Some(fork));
        place(&gateway.answer(1, Side::Inside, PBX, &audio(from)))
    };
    let (one, two) = (answers(1, &first), answers(2, &second));
    assert_ne!(one, two);
    for n in 0..LONG {
        for (lane, fork, ssrc) in [(one, &first, 2), (two, &second, 3)] {
            phone.send(lane, 64, &rtp(1, n));
            fork.expect(inside, 63, &rtp(1, n));
            fork.send(inside, 64, &rtp(ssrc, n));
            phone.expect(lane, 63, &rtp(ssrc, n));
        }
    }
    // Its host says that nobody is there (ICMP), to the second's line alone.
    drop(phone);
    for n in 0..80 {
        second.send(inside, 64, &rtp(3, LONG + n));
        if n % 4 == 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let unreachable = |gateway: &Gateway| {
        gateway.reports.iter().find_map(|report| match report {
            Report::Statistics { outside, inside, .. } if inside.received_rtp == u64::from(LONG) + 80 => {
                Some(outside.unreachable)
            }
            _ => None,
        })
    };
    gateway.until(|gateway| unreachable(gateway).is_some());
    // By epoll a port has no line, and hears nothing of it.
    let short = |report: &Report| matches!(report, Report::Ready { shortage: Some(_), .. });
    if env!("CARGO_CRATE_NAME") != "relay_epoll" && !gateway.reports.iter().any(short) {
        assert_ne!(unreachable(&gateway), Some(0));
    }
}
