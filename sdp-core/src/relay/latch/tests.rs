use super::*;
use crate::relay::report::PairId;

fn setup(limit: SenderLimit) -> LegSetup {
    LegSetup {
        pair: PairId(1),
        live: true,
        wanted: true,
        remote: None,
        sources: Vec::new(),
        preferred: None,
        latching: true,
        sender_limit: limit,
        max_senders: 3,
        max_rate: 1_000,
        generation: 0,
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn rtp(ssrc: u32, sequence: u16) -> Evidence {
    Evidence { ssrc: Some(ssrc), sequence: Some(sequence), proves: true }
}

const SDP: &str = "192.168.1.7:30000";
const PHONE: &str = "198.51.100.7:40000";
const MOVED: &str = "198.51.100.7:40404";
const OTHER: &str = "203.0.113.66:6666";

fn latch(setup: &LegSetup) -> (Latch, Instant) {
    (Latch::new(setup, Some(at(SDP))), Instant::now())
}

#[test]
fn the_description_until_the_first_packet() {
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    assert_eq!(latch.destination(), Some(at(SDP)));
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 1)), Ok(Admission::First));
    assert_eq!(latch.destination(), Some(at(PHONE)));
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 2)), Ok(Admission::Known));
}

#[test]
fn an_inside_leg_sends_where_it_was_told() {
    let (mut latch, now) = latch(&LegSetup { latching: false, ..setup(SenderLimit::Multiple) });
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 1)), Ok(Admission::First));
    assert_eq!(latch.destination(), Some(at(SDP)));
}

#[test]
fn only_the_allowed_address() {
    let only = LegSetup { sources: vec![at(PHONE).ip()], ..setup(SenderLimit::Multiple) };
    let (mut latch, now) = latch(&only);
    assert_eq!(latch.judge(now, at(OTHER), rtp(1, 1)), Err(Denial::Stranger));
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 1)), Ok(Admission::First));
    for unfit in ["224.0.0.1:4000", "0.0.0.0:4000", "198.51.100.7:0"] {
        let mut any = Latch::new(&setup(SenderLimit::Multiple), None);
        assert_eq!(any.judge(now, at(unfit), rtp(1, 1)), Err(Denial::Stranger), "{unfit}");
    }
}

#[test]
fn multiple_lets_others_in_but_sends_to_the_first() {
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    assert_eq!(latch.judge(now, at(OTHER), rtp(2, 1)), Ok(Admission::Extra));
    assert_eq!(
        latch.judge(now, at("203.0.113.66:7000"), rtp(1, 2)),
        Ok(Admission::Extra),
        "same SSRC, other address"
    );
    assert_eq!(latch.judge(now, at("203.0.113.66:7001"), rtp(3, 1)), Err(Denial::Senders));
    assert_eq!(latch.judge(now, at(OTHER), rtp(2, 2)), Ok(Admission::Known));
    assert_eq!(latch.destination(), Some(at(PHONE)));
    // Who was described is never shut out.
    assert_eq!(latch.judge(now, at(SDP), rtp(4, 1)), Ok(Admission::Extra));
    assert_eq!((latch.senders(), latch.destination()), (3, Some(at(PHONE))));
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 2)), Ok(Admission::Known));
}

#[test]
fn the_holder_keeps_its_place_when_all_are_taken() {
    for max_senders in [1, 2, 64] {
        let (mut latch, now) = latch(&LegSetup { max_senders, ..setup(SenderLimit::Multiple) });
        latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
        for n in 0..100 {
            let _ = latch.judge(now, at(&format!("203.0.113.66:{}", 7000 + n)), rtp(100, n));
        }
        assert_eq!(latch.judge(now, at(SDP), rtp(4, 1)), Ok(Admission::Extra), "who was described");
        for n in 2..9 {
            assert_eq!(latch.judge(now, at(PHONE), rtp(1, n)), Ok(Admission::Known));
            assert_eq!(latch.judge(now, at(SDP), rtp(4, n)), Ok(Admission::Known));
        }
        assert_eq!(latch.destination(), Some(at(PHONE)));
        assert!(latch.senders() <= usize::from(max_senders.max(2)));
    }
}

#[test]
fn the_receiver_moves_with_its_own_stream_only() {
    let cases = [
        (MOVED, rtp(1, 101), Ok(Admission::Moved)),
        (MOVED, rtp(1, 3_100), Ok(Admission::Moved)),
        (MOVED, rtp(1, 100), Ok(Admission::Extra)),
        (MOVED, rtp(1, 99), Ok(Admission::Extra)),
        (MOVED, rtp(1, 3_101), Ok(Admission::Extra)),
        (MOVED, rtp(2, 101), Ok(Admission::Extra)),
        (OTHER, rtp(1, 101), Ok(Admission::Extra)),
    ];
    for (source, evidence, verdict) in cases {
        let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
        latch.judge(now, at(PHONE), rtp(1, 100)).unwrap();
        assert_eq!(latch.judge(now, at(source), evidence), verdict, "{source} {evidence:?}");
        let moved = verdict == Ok(Admission::Moved);
        assert_eq!(latch.destination(), Some(at(if moved { source } else { PHONE })));
        assert_eq!(latch.senders(), if moved { 1 } else { 2 }, "a move fills no place");
    }
}

#[test]
fn the_sequence_wraps() {
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    latch.judge(now, at(PHONE), rtp(1, 65_530)).unwrap();
    assert_eq!(latch.judge(now, at(MOVED), rtp(1, 3)), Ok(Admission::Moved));
    // A late packet from before the wrap does not turn it back.
    latch.judge(now, at(MOVED), rtp(1, 65_533)).unwrap();
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 4)), Ok(Admission::Moved));
}

#[test]
fn lock_is_one_address_and_port() {
    let (mut latch, now) = latch(&setup(SenderLimit::Lock));
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    for (source, evidence) in [(MOVED, rtp(1, 2)), (OTHER, rtp(1, 2)), (SDP, rtp(2, 1))] {
        assert_eq!(latch.judge(now + SILENT * 9, at(source), evidence), Err(Denial::Stranger), "{source}");
    }
    assert_eq!(latch.destination(), Some(at(PHONE)));
}

#[test]
fn lock_ip_is_one_address() {
    let (mut latch, now) = latch(&setup(SenderLimit::LockIp));
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    assert_eq!(latch.judge(now, at(OTHER), rtp(1, 2)), Err(Denial::Stranger));
    assert_eq!(latch.judge(now, at(MOVED), rtp(9, 9)), Ok(Admission::Extra));
    assert_eq!(latch.destination(), Some(at(PHONE)));
    assert_eq!(latch.judge(now, at(MOVED), rtp(1, 2)), Ok(Admission::Moved));
}

#[test]
fn signalling_lets_a_silent_holder_be_replaced() {
    let mut leg = setup(SenderLimit::Lock);
    let (mut latch, now) = latch(&leg);
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    leg.generation = 1;
    latch.update(&leg, Some(at(SDP)));
    assert_eq!(latch.destination(), Some(at(PHONE)), "until somebody speaks");
    assert_eq!(latch.judge(now + SILENT / 2, at(MOVED), rtp(5, 1)), Err(Denial::Stranger), "not silent yet");
    assert_eq!(latch.judge(now + SILENT, at(MOVED), rtp(5, 1)), Ok(Admission::Moved));
    // Once: the door is closed behind it.
    assert_eq!(latch.judge(now + SILENT * 9, at(PHONE), rtp(1, 2)), Err(Denial::Stranger));
}

#[test]
fn a_holder_that_speaks_closes_the_door() {
    let mut leg = setup(SenderLimit::Multiple);
    let (mut latch, now) = latch(&leg);
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    leg.generation = 1;
    latch.update(&leg, Some(at(SDP)));
    latch.judge(now, at(PHONE), rtp(1, 2)).unwrap();
    assert_eq!(latch.judge(now + SILENT * 9, at(OTHER), rtp(5, 1)), Ok(Admission::Extra));
    assert_eq!(latch.destination(), Some(at(PHONE)));
}

#[test]
fn another_description_starts_anew() {
    let mut leg = setup(SenderLimit::Lock);
    let (mut latch, now) = latch(&leg);
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    leg.generation = 1;
    latch.update(&leg, Some(at("192.168.1.7:30002")));
    assert_eq!(latch.destination(), Some(at("192.168.1.7:30002")));
    assert_eq!(latch.judge(now, at(MOVED), rtp(5, 1)), Ok(Admission::First));
}

#[test]
fn the_preferred_address_replaces_a_stranger_who_was_first() {
    let leg = LegSetup { preferred: Some(at(PHONE).ip()), ..setup(SenderLimit::Lock) };
    let (mut latch, now) = latch(&leg);
    latch.judge(now, at(OTHER), rtp(6, 1)).unwrap();
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 1)), Ok(Admission::Moved));
    assert_eq!(latch.judge(now, at(OTHER), rtp(6, 2)), Err(Denial::Stranger));
    assert_eq!(latch.destination(), Some(at(PHONE)));
}

#[test]
fn what_proves_nothing_makes_nobody_known() {
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    let odd = Evidence { proves: false, ..rtp(1, 1) };
    assert_eq!(latch.judge(now, at(PHONE), odd), Err(Denial::Payload));
    latch.judge(now, at(PHONE), rtp(1, 2)).unwrap();
    assert_eq!(latch.judge(now, at(PHONE), odd), Ok(Admission::Known), "comfort noise of the known sender");
    assert_eq!(latch.judge(now, at(MOVED), Evidence { proves: false, ..rtp(1, 3) }), Err(Denial::Payload));
    let mut described = Latch::new(&setup(SenderLimit::Multiple), Some(at(SDP)));
    assert_eq!(described.judge(now, at(SDP), odd), Ok(Admission::First), "who was described needs no proof");
}

#[test]
fn a_hold_stops_what_leaves_and_not_what_comes() {
    let mut leg = setup(SenderLimit::Multiple);
    let (mut latch, now) = latch(&leg);
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    leg.wanted = false;
    latch.update(&leg, Some(at(SDP)));
    assert_eq!(latch.destination(), None);
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 2)), Ok(Admission::Known));
    leg.wanted = true;
    latch.update(&leg, Some(at(SDP)));
    assert_eq!(latch.destination(), Some(at(PHONE)));
}

#[test]
fn the_rate_counts_by_sender() {
    let (mut latch, now) = latch(&LegSetup { max_rate: 50, ..setup(SenderLimit::Multiple) });
    latch.judge(now, at(PHONE), rtp(1, 0)).unwrap();
    let flood = (0..19_000).filter(|n| latch.judge(now, at(OTHER), rtp(2, *n)).is_ok()).count();
    assert_eq!(flood, 50);
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 1)), Ok(Admission::Known));
}
