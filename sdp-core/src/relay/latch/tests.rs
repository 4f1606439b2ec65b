use super::*;
use crate::relay::report::PairId;

fn setup(limit: SenderLimit) -> LegSetup {
    LegSetup { sender_limit: limit, max_senders: 3, ..LegSetup::plain(PairId(1)) }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn rtp(ssrc: u32, sequence: u16) -> Evidence {
    let timestamp = Some(u32::from(sequence) * 160);
    Evidence { ssrc: Some(ssrc), sequence: Some(sequence), timestamp, proves: true }
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
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 2)), Ok(Admission::Holder));
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
    assert_eq!((latch.senders().len(), latch.destination()), (3, Some(at(PHONE))));
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 2)), Ok(Admission::Holder));
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
            assert_eq!(latch.judge(now, at(PHONE), rtp(1, n)), Ok(Admission::Holder));
            assert_eq!(latch.judge(now, at(SDP), rtp(4, n)), Ok(Admission::Known));
        }
        assert_eq!(latch.destination(), Some(at(PHONE)));
        assert!(latch.senders().len() <= usize::from(max_senders.max(2)));
    }
}

/// The holder's pause after which its stream may go on elsewhere, at 20 ms a packet.
const PAUSE: Duration = Duration::from_millis(80);
const STEP: Duration = Duration::from_millis(20);

/// Three packets from `source` after the holder's pause, sequences going on from `evidence`; the verdict that moved,
/// else the last.
fn three(latch: &mut Latch, now: Instant, source: &str, evidence: Evidence) -> Result<Admission, Denial> {
    let mut last = Err(Denial::Payload);
    for n in 0..3 {
        let sequence = evidence.sequence.map(|sequence| sequence.wrapping_add(n));
        last = latch.judge(now + PAUSE + STEP * n.into(), at(source), Evidence { sequence, ..evidence });
        if last == Ok(Admission::Moved) {
            break;
        }
    }
    last
}

#[test]
fn the_receiver_moves_with_its_own_stream_only() {
    let cases = [
        (MOVED, rtp(1, 101), Admission::Moved),
        (MOVED, rtp(1, 3_098), Admission::Moved),
        (MOVED, rtp(1, 98), Admission::Known),
        (MOVED, rtp(1, 3_101), Admission::Known),
        (MOVED, rtp(2, 101), Admission::Known),
        (OTHER, rtp(1, 101), Admission::Known),
    ];
    for (source, evidence, verdict) in cases {
        let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
        latch.judge(now, at(PHONE), rtp(1, 100)).unwrap();
        assert_eq!(three(&mut latch, now, source, evidence), Ok(verdict), "{source} {evidence:?}");
        let moved = verdict == Admission::Moved;
        assert_eq!(latch.destination(), Some(at(if moved { source } else { PHONE })));
        assert_eq!(latch.senders().len(), if moved { 1 } else { 2 }, "a move fills no place");
    }
}

#[test]
fn the_sequence_wraps() {
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    latch.judge(now, at(PHONE), rtp(1, 65_530)).unwrap();
    assert_eq!(three(&mut latch, now, MOVED, rtp(1, 65_534)), Ok(Admission::Moved));
    // A late packet from before the wrap does not turn it back.
    latch.judge(now + PAUSE * 2, at(MOVED), rtp(1, 65_533)).unwrap();
    let third = "198.51.100.7:41000";
    assert_eq!(three(&mut latch, now + PAUSE * 2, third, rtp(1, 2)), Ok(Admission::Moved));
}

/// MED-05: the phone changes its source port twice in its first 20 packets, and audio goes on both ways.
#[test]
fn a_phone_that_changes_its_port_twice_is_followed_each_time() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    let ports = [PHONE, MOVED, "198.51.100.7:41000"];
    let mut late = 0;
    for n in 0..60u16 {
        let from = ports[usize::from((n / 7).min(2))];
        assert!(
            latch.judge(start + STEP * n.into(), at(from), rtp(1, n)).is_ok(),
            "{n}: its audio is let in"
        );
        late += u16::from(latch.destination() != Some(at(from)));
    }
    assert_eq!(latch.destination(), Some(at(ports[2])));
    assert_eq!(latch.senders().len(), 1);
    // Twice 60 ms: three packets each, and with the fourth it is there.
    assert!(late <= 8, "{late}");
}

/// M3: who copies a live stream gets nothing of what is sent to it, however it times and counts.
#[test]
fn a_neighbour_that_copies_a_live_stream_never_receives() {
    for (ahead, burst, delay) in [(1, 1, 1), (1, 3, 5), (2, 4, 15), (3_000, 3, 19), (5, 50, 10), (100, 3, 0)]
    {
        let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
        for n in 0..500u16 {
            let now = start + STEP * n.into();
            latch.judge(now, at(PHONE), rtp(1, n)).unwrap();
            for copy in 0..burst {
                let now = now + Duration::from_millis(delay);
                let _ = latch.judge(now, at(MOVED), rtp(1, n + ahead + copy));
                assert_eq!(latch.destination(), Some(at(PHONE)), "{ahead} {burst} {delay}: packet {n}");
            }
        }
    }
}

/// A pause in the phone's speech is no chance for one that has copied it before.
#[test]
fn a_known_rival_waits_two_seconds() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    let at_ms = |ms: u64| start + Duration::from_millis(ms);
    for n in 0..50u16 {
        latch.judge(at_ms(u64::from(n) * 20), at(PHONE), rtp(1, n)).unwrap();
        latch.judge(at_ms(u64::from(n) * 20 + 1), at(MOVED), rtp(1, n + 1)).unwrap();
    }
    for n in 50..140u16 {
        latch.judge(at_ms(u64::from(n) * 20), at(MOVED), rtp(1, n + 1)).unwrap();
        assert_eq!(latch.destination(), Some(at(PHONE)), "{n}");
    }
    // A phone whose NAT forgot it in this very pause is no rival.
    let fresh = "198.51.100.7:41000";
    for n in 141..146u16 {
        latch.judge(at_ms(u64::from(n) * 20), at(fresh), rtp(1, n)).unwrap();
    }
    assert_eq!(latch.destination(), Some(at(fresh)));
}

/// Who took the place in a pause gives it back when the holder speaks on, and is a rival from then on.
#[test]
fn a_displaced_holder_has_its_place_back_at_once() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    latch.judge(start, at(PHONE), rtp(1, 10)).unwrap();
    assert_eq!(three(&mut latch, start, MOVED, rtp(1, 500)), Ok(Admission::Moved));
    let back = start + Duration::from_secs(1);
    latch.judge(back, at(MOVED), rtp(1, 600)).unwrap();
    assert_eq!(latch.judge(back, at(PHONE), rtp(1, 11)), Ok(Admission::Extra));
    assert_eq!(latch.judge(back + STEP, at(PHONE), rtp(1, 12)), Ok(Admission::Moved));
    assert_eq!(latch.destination(), Some(at(PHONE)));
    assert_ne!(three(&mut latch, back + STEP, MOVED, rtp(1, 601)), Ok(Admission::Moved));
    assert_eq!(latch.destination(), Some(at(PHONE)));
}

/// One packet of the old source that comes late is no rivalry: the stream still moves.
#[test]
fn a_late_packet_does_not_stop_a_move() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    latch.judge(start, at(PHONE), rtp(1, 10)).unwrap();
    latch.judge(start + STEP * 2, at(MOVED), rtp(1, 12)).unwrap();
    latch.judge(start + STEP * 2, at(PHONE), rtp(1, 11)).unwrap();
    assert_eq!(three(&mut latch, start + STEP * 2, MOVED, rtp(1, 13)), Ok(Admission::Moved));
}

/// A stranger that fills all places does not shut out the phone whose NAT forgot it.
#[test]
fn a_move_needs_no_free_place() {
    let (mut latch, now) = latch(&LegSetup { max_senders: 2, ..setup(SenderLimit::Multiple) });
    latch.judge(now, at(PHONE), rtp(1, 10)).unwrap();
    latch.judge(now, at(OTHER), rtp(6, 1)).unwrap();
    assert_eq!(latch.judge(now + STEP, at(MOVED), rtp(1, 11)), Err(Denial::Senders));
    assert_eq!(three(&mut latch, now, MOVED, rtp(1, 12)), Ok(Admission::Moved));
    assert_eq!(latch.destination(), Some(at(MOVED)));
    assert_eq!(latch.judge(now + PAUSE * 2, at(OTHER), rtp(6, 2)), Ok(Admission::Known));
}

/// A longer packet interval is learnt: 60 ms of audio a packet are not three lost ones.
#[test]
fn the_pause_follows_the_packet_interval() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    let step = STEP * 3;
    for n in 0..40u16 {
        latch.judge(start + step * n.into(), at(PHONE), rtp(1, n)).unwrap();
    }
    let last = start + step * 39;
    assert_ne!(three(&mut latch, last, MOVED, rtp(1, 40)), Ok(Admission::Moved), "120 ms");
    assert_eq!(latch.judge(last + Duration::from_millis(201), at(MOVED), rtp(1, 43)), Ok(Admission::Moved));
}

/// RTCP has no sequence; its stream moves after the longest pause its interval may have.
#[test]
fn rtcp_moves_after_its_own_pause() {
    let rtcp = Evidence { ssrc: Some(1), sequence: None, timestamp: None, proves: true };
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    latch.judge(now, at(PHONE), rtcp).unwrap();
    assert_eq!(latch.judge(now + SILENT, at(MOVED), rtcp), Ok(Admission::Extra));
    assert_eq!(latch.judge(now + Duration::from_secs(4), at(PHONE), rtcp), Ok(Admission::Holder));
    assert_eq!(latch.judge(now + Duration::from_secs(10), at("198.51.100.7:9"), rtcp), Ok(Admission::Moved));
}

/// T.38: no SSRC, so the address and a short step of the sequence stand for it.
#[test]
fn fax_moves_by_address_and_sequence() {
    let udptl = |sequence| Evidence { ssrc: None, sequence: Some(sequence), timestamp: None, proves: true };
    for (source, from, verdict) in [
        (MOVED, 11, Admission::Moved),
        (MOVED, 200, Admission::Known),
        (MOVED, 9, Admission::Known),
        (OTHER, 11, Admission::Known),
    ] {
        let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
        latch.judge(now, at(PHONE), udptl(10)).unwrap();
        // 9, 10, 11: the last one would follow, and is the first that does.
        assert_eq!(three(&mut latch, now, source, udptl(from)), Ok(verdict), "{source} {from}");
    }
}

/// MED-07.
#[test]
fn late_relatch_is_once_the_same_address_and_after_two_seconds() {
    let leg = LegSetup { late_relatch: true, ..setup(SenderLimit::Lock) };
    let (mut latch, now) = latch(&leg);
    let later = now + Duration::from_secs(2);
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    assert_eq!(latch.judge(later - STEP, at(MOVED), rtp(9, 1)), Err(Denial::Stranger));
    assert_eq!(latch.judge(later, at(OTHER), rtp(1, 2)), Err(Denial::Stranger), "another address");
    let odd = Evidence { proves: false, ..rtp(1, 2) };
    assert_eq!(latch.judge(later, at(MOVED), odd), Err(Denial::Stranger));
    assert_eq!(latch.judge(later, at(MOVED), rtp(9, 1)), Ok(Admission::Moved));
    assert_eq!(latch.judge(later + LATE, at(PHONE), rtp(1, 3)), Err(Denial::Stranger), "once");
    latch.update(&LegSetup { generation: 1, ..leg }, Some(at(SDP)));
    latch.judge(later + LATE, at(MOVED), rtp(9, 2)).unwrap();
    assert_eq!(latch.judge(later + LATE * 2, at(PHONE), rtp(1, 4)), Ok(Admission::Moved), "signalling spoke");
}

#[test]
fn a_check_with_our_password_makes_a_sender_known() {
    let (mut latch, now) = latch(&setup(SenderLimit::Multiple));
    assert_eq!(latch.prove(now, at(PHONE), false), Some(Admission::First));
    assert_eq!(latch.destination(), Some(at(PHONE)));
    assert_eq!(latch.prove(now, at(OTHER), false), Some(Admission::Extra));
    assert_eq!(latch.destination(), Some(at(PHONE)), "a check that chooses nothing");
    assert_eq!(latch.judge(now, at(OTHER), Evidence { proves: false, ..rtp(5, 1) }), Ok(Admission::Known));
    assert_eq!(latch.prove(now, at(OTHER), true), Some(Admission::Moved));
    assert_eq!(latch.destination(), Some(at(OTHER)));
    let only = LegSetup { sources: vec![at(PHONE).ip()], ..setup(SenderLimit::Lock) };
    let mut locked = Latch::new(&only, None);
    assert_eq!(locked.prove(now, at(OTHER), true), None, "decision 14 comes first");
    assert_eq!(locked.prove(now, at(PHONE), false), Some(Admission::First));
    assert_eq!(locked.prove(now, at(MOVED), false), None);
    assert_eq!(locked.prove(now, at(MOVED), true), Some(Admission::Moved));
}

/// MED-10: a circle too slow for the ceiling shuts its sender out, and nobody else.
#[test]
fn the_same_packet_again_and_again_runs_in_a_circle() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    let mut passed = 0;
    for n in 0..40u32 {
        let now = start + STEP * n;
        passed += u32::from(latch.judge(now, at(OTHER), rtp(1, 1)).is_ok());
        assert!(latch.judge(now, at(PHONE), rtp(2, n as u16)).is_ok());
    }
    assert_eq!(passed, 5);
}

#[test]
fn one_packet_twice_is_no_circle() {
    let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
    for n in 0..500u16 {
        for _ in 0..2 {
            assert!(latch.judge(start + STEP * n.into(), at(PHONE), rtp(1, n)).is_ok());
        }
    }
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
    assert_eq!(three(&mut latch, now, MOVED, rtp(1, 2)), Ok(Admission::Moved));
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

/// A phone behind NAT names another port, and goes on from the old one until it has read the answer.
#[test]
fn a_holder_that_is_about_to_leave_closes_no_door() {
    for limit in [SenderLimit::Lock, SenderLimit::LockIp, SenderLimit::Multiple] {
        let mut leg = setup(limit);
        let (mut latch, now) = latch(&leg);
        latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
        (leg.generation, leg.named) = (1, 30002);
        latch.update(&leg, Some(at(SDP)));
        for late in 2..12_u16 {
            let then = now + Duration::from_millis(20) * u32::from(late);
            assert_eq!(latch.judge(then, at(PHONE), rtp(1, late)), Ok(Admission::Holder), "{limit:?}");
        }
        let last = now + Duration::from_millis(220);
        let early = latch.judge(last + Duration::from_millis(20), at(MOVED), rtp(5, 1));
        assert_ne!(early, Ok(Admission::Moved), "{limit:?}: whoever copies a stream that still speaks");
        assert_eq!(latch.judge(last + SILENT, at(MOVED), rtp(5, 2)), Ok(Admission::Moved), "{limit:?}");
        assert_eq!(latch.destination(), Some(at(MOVED)));
    }
}

#[test]
fn who_said_that_it_leaves_and_stays_closes_the_door_after_all() {
    let mut leg = setup(SenderLimit::Lock);
    let (mut latch, now) = latch(&leg);
    latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
    (leg.generation, leg.named) = (1, 30002);
    latch.update(&leg, Some(at(SDP)));
    latch.judge(now, at(PHONE), rtp(1, 2)).unwrap();
    let stays = now + FAREWELL;
    latch.judge(stays, at(PHONE), rtp(1, 3)).unwrap();
    assert_eq!(latch.judge(stays + SILENT, at(MOVED), rtp(5, 1)), Err(Denial::Stranger));
    // The same port again, as in every hold: what the holder says closes the door at once.
    leg.generation = 2;
    latch.update(&leg, Some(at(SDP)));
    latch.judge(stays, at(PHONE), rtp(1, 4)).unwrap();
    assert_eq!(latch.judge(stays + SILENT, at(MOVED), rtp(5, 2)), Err(Denial::Stranger));
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
    assert_eq!(latch.judge(now, at(PHONE), odd), Ok(Admission::Holder), "comfort noise of the known sender");
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
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 2)), Ok(Admission::Holder));
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
    assert_eq!(latch.judge(now, at(PHONE), rtp(1, 1)), Ok(Admission::Holder));
}

/// What may come: when, from where (phone's address or another's), SSRC, sequence, whether it proves anything.
fn packets() -> impl proptest::strategy::Strategy<Value = Vec<(u64, u16, bool, u32, u16, bool)>> {
    use proptest::prelude::*;
    let one = (0..300u64, 0..6u16, any::<bool>(), 1..3u32, 0..400u16, prop::bool::weighted(0.9));
    prop::collection::vec(one, 1..200)
}

proptest::proptest! {
    /// FUZ-10: packets go where the description says, or to who sent a packet that was taken.
    #[test]
    fn the_destination_is_described_or_was_heard(packets in packets(), limit in 0..3usize, late: bool) {
        let limit = [SenderLimit::Lock, SenderLimit::LockIp, SenderLimit::Multiple][limit];
        let (mut latch, mut now) = latch(&LegSetup { late_relatch: late, ..setup(limit) });
        let mut taken = vec![at(SDP)];
        for (wait, port, own, ssrc, sequence, proves) in packets {
            now += Duration::from_millis(wait);
            let source = SocketAddr::new(at(if own { PHONE } else { OTHER }).ip(), 40_000 + port);
            if latch.judge(now, source, Evidence { proves, ..rtp(ssrc, sequence) }).is_ok() {
                taken.push(source);
            }
            proptest::prop_assert!(latch.destination().is_some_and(|to| taken.contains(&to)));
            proptest::prop_assert!(latch.senders().len() <= 3);
        }
    }

    /// M3: while the phone speaks, at any common packet interval and with jitter, nobody else receives, whatever they send.
    #[test]
    fn who_speaks_keeps_its_place(packets in packets(), interval in 1..7u64, jitter in proptest::collection::vec(0..15u64, 200)) {
        let (mut latch, start) = latch(&setup(SenderLimit::Multiple));
        let mut others = packets.into_iter().cycle();
        let interval = interval * 10;
        for (n, jitter) in (0u16..).zip(jitter) {
            let now = start + Duration::from_millis(interval * u64::from(n) + jitter.min(interval / 2));
            latch.judge(now, at(PHONE), rtp(1, n)).unwrap();
            for (_, port, own, ssrc, sequence, proves) in others.by_ref().take(7) {
                let source = SocketAddr::new(at(if own { PHONE } else { OTHER }).ip(), 41_000 + port);
                let evidence = Evidence { proves, ..rtp(ssrc, n.wrapping_add(sequence)) };
                let _ = latch.judge(now + Duration::from_millis(interval / 2), source, evidence);
                proptest::prop_assert_eq!(latch.destination(), Some(at(PHONE)), "packet {}", n);
            }
        }
    }
}

/// What is turned away unread would be turned away if it were read, whatever it says and whatever was before.
#[test]
fn who_is_shut_out_unread_is_shut_out_when_read() {
    use proptest::prelude::*;
    let address = || {
        (0..3u8, 0..2u16).prop_map(|(host, port)| SocketAddr::from(([198, 51, 100, 7 + host], 40_000 + port)))
    };
    let limit = prop_oneof![Just(SenderLimit::Lock), Just(SenderLimit::LockIp), Just(SenderLimit::Multiple)];
    let leg = (limit, any::<[bool; 4]>(), prop::option::of(address()), 1..4u8).prop_map(
        |(limit, flags, preferred, senders)| {
            let [latching, late_relatch, any, prefers] = flags;
            LegSetup {
                latching,
                late_relatch,
                max_senders: senders,
                sources: if any { Vec::new() } else { vec![at(PHONE).ip(), at("198.51.100.8:1").ip()] },
                preferred: preferred.filter(|_| prefers).map(|preferred| preferred.ip()),
                ..setup(limit)
            }
        },
    );
    let packet = (address(), 0..2u32, any::<u8>(), any::<bool>(), 0..3_000u64);
    let step = (packet, prop::option::weighted(0.1, (leg, address(), 0..3u32)));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600));
    let first = LegSetup { sources: vec![], ..setup(SenderLimit::Lock) };
    let result = runner.run(&prop::collection::vec(step, 1..60), |steps| {
        let (mut latch, mut now) = latch(&first);
        for ((source, ssrc, sequence, proves, wait), change) in steps {
            now += Duration::from_millis(wait);
            if let Some((leg, described, generation)) = change {
                latch.update(&LegSetup { generation, ..leg }, Some(described));
            }
            let closed = latch.is_closed_to(now, source);
            let evidence = Evidence { proves, ..rtp(ssrc, u16::from(sequence)) };
            let judged = latch.judge(now, source, evidence);
            prop_assert!(!closed || judged == Err(Denial::Stranger), "{latch:?} {source} {judged:?}");
        }
        Ok(())
    });
    result.unwrap();
    // And where it matters it is.
    for (limit, source, closed) in [
        (SenderLimit::Lock, MOVED, true),
        (SenderLimit::Lock, OTHER, true),
        (SenderLimit::LockIp, MOVED, false),
        (SenderLimit::LockIp, OTHER, true),
        (SenderLimit::Multiple, OTHER, false),
    ] {
        let (mut latch, now) = latch(&setup(limit));
        assert!(!latch.is_closed_to(now, at(source)));
        latch.judge(now, at(PHONE), rtp(1, 1)).unwrap();
        assert_eq!(latch.is_closed_to(now, at(source)), closed, "{limit:?} {source}");
    }
}
