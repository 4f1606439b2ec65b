//! The flows of offer and answer (RFC 6337) as they come from signalling: forks, offers that come to nothing, offers in answers.

use super::*;

const DESK: &str = "10.0.1.61";
const SOFT: &str = "10.0.1.62";

/// An offer of phone A that two forks have answered; our outside and inside ports.
fn forked(rig: &mut Rig) -> (SocketAddr, SocketAddr) {
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.anchor.set_fork(1, Some(7));
    let first = rig.answer(1, Side::Inside, DESK, &audio(DESK, 7000));
    rig.anchor.set_fork(1, Some(8));
    let second = rig.answer(1, Side::Inside, SOFT, &audio(SOFT, 8000));
    assert_eq!(first, second, "the phone is told one port");
    (at(OUTER, ports(&first)[0]), at(INNER, ports(&offer)[0]))
}

fn confirm(rig: &mut Rig, fork: u64) -> usize {
    let before = rig.commands.len();
    rig.anchor.confirm_fork(rig.now, 1, fork);
    rig.settle();
    rig.commands.len() - before
}

#[test]
fn the_last_fork_holds_until_one_is_confirmed() {
    let mut rig = Rig::new(|_| {});
    let (outer, inner) = forked(&mut rig);
    let to = |rig: &mut Rig, n| rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(n)).unwrap().1;
    assert_eq!(to(&mut rig, 1), at(SOFT, 8000));
    assert!(rig.packet(inner, at(SOFT, 8000), 64, &rtp(1)).is_some());
    assert_eq!(rig.packet(inner, at(DESK, 7000), 64, &rtp(1)), None, "one remote to a line");
    // The first one answered reliably, and its 2xx says nothing of media.
    assert!(confirm(&mut rig, 7) > 0);
    assert_eq!(to(&mut rig, 2), at(DESK, 7000));
    assert!(rig.packet(inner, at(DESK, 7000), 64, &rtp(2)).is_some());
    assert_eq!(rig.packet(inner, at(SOFT, 8000), 64, &rtp(2)), None, "who lost is heard no more");
    // Said again, or of nobody we know, it changes nothing.
    assert_eq!((confirm(&mut rig, 7), confirm(&mut rig, 9)), (0, 0));
    rig.anchor.confirm_fork(rig.now, 2, 7);
}

#[test]
fn a_fork_that_answers_again_is_heard_though_another_spoke_in_between() {
    let mut rig = Rig::new(|_| {});
    let (outer, inner) = forked(&mut rig);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1));
    rig.packet(inner, at(SOFT, 8000), 64, &rtp(1)).unwrap();
    rig.anchor.set_fork(1, Some(7));
    rig.answer(1, Side::Inside, DESK, &audio(DESK, 7000));
    assert!(rig.packet(inner, at(DESK, 7000), 64, &rtp(1)).is_some());
    rig.anchor.end(rig.now, 1);
    rig.settle();
    assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (0, 0));
}

#[test]
fn forks_that_are_known_apart_are_bounded_and_go_with_their_offer() {
    let mut rig = Rig::new(|_| {});
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    for fork in 0..40 {
        rig.anchor.set_fork(1, Some(fork));
        rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 7000 + 2 * fork as u16));
    }
    assert_eq!(rig.anchor.sessions[&1].offer.as_ref().unwrap().forks.len(), 16);
    assert_eq!(confirm(&mut rig, 0), 0, "forgotten");
    assert!(confirm(&mut rig, 30) > 0);
    rig.anchor.set_fork(1, None);
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(confirm(&mut rig, 31), 0, "another offer was answered since");
}

#[test]
fn forks_survive_the_process() {
    let mut rig = Rig::new(|_| {});
    let (outer, _) = forked(&mut rig);
    let state = rig.anchor.sessions.remove(&1).unwrap();
    rig.anchor.sessions.insert(1, crossed(&state));
    assert!(confirm(&mut rig, 7) > 0);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().1, at(DESK, 7000));
}

#[test]
fn only_the_offer_of_that_side_is_rolled_back() {
    let mut rig = Rig::new(|_| {});
    let (outer, _) = rig.call(1);
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.anchor.rollback(rig.now, 1, Side::Inside);
    rig.settle();
    rig.answer(1, Side::Inside, DESK, &audio(DESK, 7000));
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().1, at(DESK, 7000));
    // What was answered is not taken back, by either.
    for side in [Side::Inside, Side::Outside] {
        rig.anchor.rollback(rig.now, 1, side);
    }
    rig.settle();
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(2)).unwrap().1, at(DESK, 7000));
    // After a rollback there is nothing to answer.
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.anchor.rollback(rig.now, 1, Side::Outside);
    let late = rig.try_answer(1, Side::Inside, SOFT, &audio(SOFT, 8000));
    assert_eq!(late, Err(Refusal::NotAcceptable(NotAcceptable::NoOffer)));
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(3)).unwrap().1, at(DESK, 7000));
}

#[test]
fn an_offer_in_a_2xx_is_answered_by_the_ack_and_by_each_of_its_copies() {
    let mut rig = Rig::new(|_| {});
    let offer = rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&offer)[0]);
    let answer = rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let commands = rig.commands.len();
    assert_eq!(rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000)), answer);
    assert_eq!(rig.commands.len(), commands, "a copy changes nothing");
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().1, at("10.0.1.60", 5000));
}

#[test]
fn an_update_between_answer_and_2xx_is_an_exchange_of_its_own() {
    let mut rig = Rig::new(|_| {});
    let (outer, inner) = rig.call(1);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    // The callee moves to its queue's music, the caller agrees.
    let offer = rig.offer(1, Side::Inside, DESK, &audio(DESK, 7000));
    assert_eq!(ports(&offer), [outer.port()]);
    let answer = rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(ports(&answer), [inner.port()]);
    // An answer of the callee is none to its own offer.
    let stale = rig.try_answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(stale, Err(Refusal::NotAcceptable(NotAcceptable::NoOffer)));
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(2)).unwrap().1, at(DESK, 7000));
}

#[test]
fn one_answer_is_no_fork_however_often_it_is_given() {
    let mut rig = Rig::new(|config| config.policy.forked = true);
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    for _ in 0..3 {
        rig.anchor.set_fork(1, Some(7));
        rig.answer(1, Side::Inside, DESK, &audio(DESK, 7000));
    }
    let before = rig.commands.len();
    confirm(&mut rig, 7);
    assert_eq!(rig.commands.len(), before);
    assert_eq!(rig.anchor.sessions[&1].streams[0].setup.inside.sender_limit, SenderLimit::default());
}

#[test]
fn forks_at_one_address_are_told_apart_by_their_port() {
    for limit in [SenderLimit::Lock, SenderLimit::LockIp] {
        let mut rig = Rig::new(|config| config.policy.sender_limit = limit);
        let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
        let inner = at(INNER, ports(&offer)[0]);
        let mut n = 0;
        let mut heard = |rig: &mut Rig, port| {
            n += 1;
            rig.now += Duration::from_millis(20);
            rig.packet(inner, at(PBX, port), 64, &rtp(n)).is_some()
        };
        for (fork, port) in [(7, 7000), (8, 8000)] {
            rig.anchor.set_fork(1, Some(fork));
            let answer = rig.answer(1, Side::Inside, PBX, &audio(PBX, port));
            rig.packet(at(OUTER, ports(&answer)[0]), at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
            // The first one talks on, and is faster.
            heard(&mut rig, 7000);
            assert!(heard(&mut rig, port), "{limit:?}: who answered last is heard");
        }
        assert!(heard(&mut rig, 8000) && (limit != SenderLimit::Lock || !heard(&mut rig, 7000)));
        heard(&mut rig, 8000);
        confirm(&mut rig, 7);
        heard(&mut rig, 8000);
        assert!(heard(&mut rig, 7000), "{limit:?}: who was confirmed is heard");
    }
}

#[test]
fn a_late_packet_from_where_the_pbx_was_does_not_lock_out_where_it_is() {
    let mut rig = Rig::new(|config| config.policy.sender_limit = SenderLimit::Lock);
    let (outer, inner) = rig.call(1);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    rig.packet(inner, at(PBX, 5000), 64, &rtp(1)).unwrap();
    rig.offer(1, Side::Inside, PBX, &audio(PBX, 6000));
    rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.packet(inner, at(PBX, 5000), 64, &rtp(2));
    for n in 1..4 {
        assert!(rig.packet(inner, at(PBX, 6000), 64, &rtp(n)).is_some());
        assert_eq!(rig.packet(inner, at(PBX, 5000), 64, &rtp(n + 2)), None);
    }
}

/// A phone behind NAT changes its port by a re-INVITE, and speaks from the old one until it has read the answer: with none of
/// its addresses known outside, only what its description says tells that it moves.
#[test]
fn a_phone_behind_nat_that_names_another_port_is_found_at_it() {
    for limit in [SenderLimit::Lock, SenderLimit::Multiple] {
        let mut rig = Rig::new(|config| config.policy.sender_limit = limit);
        let (outer, inner) = rig.call(1);
        let (old, new) = (at(PHONE_A, 61000), at(PHONE_A, 61002));
        rig.packet(outer, old, 55, &rtp(1)).unwrap();
        let to = |rig: &mut Rig, n| rig.packet(inner, at(DESK, 7000), 64, &rtp(n)).map(|(_, to, ..)| to);
        rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30002));
        rig.answer(1, Side::Inside, DESK, &audio(DESK, 7000));
        for late in 2..12 {
            rig.now += Duration::from_millis(20);
            rig.packet(outer, old, 55, &rtp(late)).unwrap();
        }
        let mut other = rtp(1);
        other[8] ^= 0xff;
        rig.now += Duration::from_millis(500);
        rig.packet(outer, new, 55, &other).unwrap();
        assert_eq!(to(&mut rig, 9), Some(new), "{limit:?}");
    }
}
