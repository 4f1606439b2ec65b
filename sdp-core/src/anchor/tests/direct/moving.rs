//! Phones on a direct route that name another place in a re-INVITE.

use super::*;

const MOVED: Phone = Phone { port: 30002, ..A };

fn inside_port(rig: &Rig, session: u64) -> u16 {
    rig.anchor.sessions[&session].streams[0].inside.rtp.port()
}

#[test]
fn what_a_pbx_compares_changes_with_the_phones_port_and_only_then() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    rig.events();
    let (before, bound) = (inside_port(&rig, 1), rig.bound.len());
    // Hold, resume, and a refresh: nothing that a PBX might take for a new place.
    for offer in [format!("{}a=sendonly\r\n", A.sdp()), A.sdp(), A.sdp()] {
        assert_eq!(ports(&rig.phone_offers(1, A, &offer)), [before]);
        rig.pbx_answers(1, &audio(INNER, inside_port(&rig, 2)));
    }
    let to_pbx = rig.phone_offers(1, MOVED, &MOVED.sdp());
    let [named] = ports(&to_pbx)[..] else { panic!("{to_pbx}") };
    assert_ne!(named, before);
    // Asked again, as after a 491: the same.
    assert_eq!(rig.phone_offers(1, MOVED, &MOVED.sdp()), to_pbx);
    assert_eq!(rig.pbx_offers(2, B, &to_pbx), told("192.168.1.7", 30002));
    let from_b = rig.phone_answers(2, B, &B.sdp());
    assert!(rig.is_direct(1) && rig.is_direct(2), "also before the PBX has answered");
    assert_eq!(rig.pbx_answers(1, &from_b), told("192.168.1.8", 40000));
    assert!(rig.is_direct(1) && rig.is_direct(2));
    assert_eq!(rig.events(), [], "it was direct all the time");
    assert_eq!(
        (inside_port(&rig, 1), ports(&rig.phone_offers(1, MOVED, &MOVED.sdp()))),
        (named, vec![named])
    );
    rig.pbx_answers(1, &from_b);
    assert_eq!(rig.anchor.own.len(), 2, "nothing leads to the port of before: {:?}", rig.anchor.own);
    // What comes nonetheless takes one hop; the PBX may put itself in between at the new port.
    let outer =
        |rig: &Rig, session: u64| at(OUTER, rig.anchor.sessions[&session].streams[0].outside.rtp.port());
    rig.packet(outer(&rig, 1), at(NAT, 61000), 55, &rtp(1));
    assert_eq!(rig.packet(outer(&rig, 2), at(NAT, 62000), 55, &rtp(1)).unwrap().1, at(NAT, 61000));
    rig.anchor.end(rig.now, 1);
    rig.anchor.end(rig.now, 2);
    rig.settle();
    assert!(rig.anchor.own.is_empty() && rig.bound.len() <= bound);
}

#[test]
fn a_move_that_the_pbx_refuses_has_not_been() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    let before = inside_port(&rig, 1);
    let to_pbx = rig.phone_offers(1, MOVED, &MOVED.sdp());
    rig.anchor.rollback(rig.now, 1, Side::Outside);
    rig.settle();
    assert_eq!((rig.anchor.own.len(), inside_port(&rig, 1)), (2, before));
    assert_eq!(ports(&rig.phone_offers(1, A, &A.sdp())), [before]);
    rig.pbx_answers(1, &audio(INNER, inside_port(&rig, 2)));
    assert!(rig.is_direct(1) && rig.is_direct(2));
    // Nobody is led anywhere by the port that was given back.
    assert!(relayed(&rig.pbx_offers(3, C, &to_pbx)));
    // Neither when the relay is lost while the PBX thinks.
    rig.phone_offers(1, MOVED, &MOVED.sdp());
    let left = Left::default();
    rig.anchor.rejoin(rig.now, &left);
    assert_eq!(rig.anchor.own.len(), 3, "of three sessions: {:?}", rig.anchor.own);
}

/// Both or neither, and the next offer heals it.
#[test]
fn nobody_is_aimed_at_what_his_own_network_has_not() {
    for host in ["192.168.1.7", "10.9.9.9"] {
        // As of its Contact it may be at home there.
        let away = Phone { host, media: "10.9.9.9", port: 5060, ..A };
        let mut rig = direct_rig();
        rig.through((1, A), (2, B));
        let to_pbx = rig.phone_offers(1, away, &away.sdp());
        assert!(relayed(&rig.pbx_offers(2, B, &to_pbx)), "{host}");
        let from_b = rig.phone_answers(2, B, &B.sdp());
        assert!(relayed(&rig.pbx_answers(1, &from_b)), "{host}");
        assert!(!rig.is_direct(1) && !rig.is_direct(2));
        // In an answer it is too late to tell the other one: the next offer does.
        let mut rig = direct_rig();
        rig.through((1, A), (2, B));
        let to_pbx = rig.phone_offers(2, B, &B.sdp());
        rig.pbx_offers(1, A, &to_pbx);
        let from_a = rig.phone_answers(1, away, &away.sdp());
        rig.pbx_answers(2, &from_a);
        let to_pbx = rig.phone_offers(1, away, &away.sdp());
        assert!(relayed(&rig.pbx_offers(2, B, &to_pbx)), "{host}");
    }
}
