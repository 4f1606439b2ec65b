//! ICE through the anchor: who begins anew, and who has no address to name yet.

use super::*;
use crate::relay::{IceLite, StreamSetup};
use crate::rtp::stun::tests::sealed_for;

fn rig() -> Rig {
    Rig::new(|config| config.seed = Some([9; 32].into()))
}

/// An audio line with these credentials.
fn spoken(host: &str, port: u16, ufrag: &str) -> String {
    format!("{}a=ice-ufrag:{ufrag}\r\na=ice-pwd:{ufrag}efghijklmnopqrstuv\r\n", audio(host, port))
}

/// What browsers offer before they have gathered anything (RFC 8829 §5.2.1).
fn trickled(zero: &str, ufrag: &str) -> String {
    let sdp = spoken(zero, 9, ufrag);
    let more = "a=ice-options:trickle\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=sendrecv\r\n";
    sdp.replacen("o=- 1 1 IN IP4 0.0.0.0", "o=- 1 1 IN IP4 127.0.0.1", 1) + more
}

fn said<'s>(sdp: &'s str, start: &str) -> &'s str {
    sdp.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{start} in {sdp}"))
}

fn named(sdp: &str) -> IceLite {
    let (ufrag, password) = (said(sdp, "a=ice-ufrag:").to_owned(), said(sdp, "a=ice-pwd:").to_owned());
    IceLite { ufrag, password }
}

fn setup(rig: &Rig) -> StreamSetup {
    let last = rig.commands.iter().rev().find_map(|command| match command {
        Command::Update { stream } => Some(stream.clone()),
        _ => None,
    });
    last.unwrap()
}

fn check(by: &IceLite, nominated: bool) -> Vec<u8> {
    sealed_for(&by.ufrag, nominated, &by.password)
}

/// RFC 8445 §9: other credentials of the author are answered by other credentials of ours, on both sides of the stream.
#[test]
fn a_restart_is_answered_by_a_restart_and_the_path_of_before_stays_until_another_is_chosen() {
    let mut rig = rig();
    let offer = rig.offer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "abcd"));
    let answer = rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"));
    let (inside, outside) = (named(&offer), named(&answer));
    let (outer, inner) = (at(OUTER, ports(&answer)[0]), at(INNER, ports(&offer)[0]));
    let (here, there) = (at(PHONE_A, 50001), at(PHONE_A, 50002));
    assert!(rig.packet(outer, here, 64, &check(&outside, true)).is_some());

    // The same credentials again are no restart, and neither is an answer by others.
    assert_eq!(named(&rig.offer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "abcd"))), inside);
    assert_eq!(named(&rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxb"))), outside);
    assert_eq!(setup(&rig).outside.ice_before, None);

    let restart = spoken("192.168.1.7", 30000, "wxyz");
    let offer = rig.offer(1, Side::Outside, PHONE_A, &restart);
    assert_ne!(named(&offer), inside);
    assert!(
        rig.packet(outer, here, 64, &check(&outside, true)).is_some(),
        "until the answer nothing changes"
    );
    assert_eq!(rig.offer(1, Side::Outside, PHONE_A, &restart), offer, "the offer again");
    for attempt in ["183", "200"] {
        let answer = rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxc"));
        let setup = setup(&rig);
        assert_eq!(setup.outside.ice, Some(named(&answer)), "{attempt}");
        assert_eq!(setup.inside.ice, Some(named(&offer)), "{attempt}");
        assert_eq!(
            (setup.outside.ice_before, setup.inside.ice_before),
            (Some(Box::new(outside.clone())), Some(Box::new(inside.clone())))
        );
        assert_ne!(
            (named(&answer).ufrag, named(&answer).password),
            (outside.ufrag.clone(), outside.password.clone())
        );
    }
    assert_eq!((ports(&offer)[0], said(&offer, "c=")), (inner.port(), "IN IP4 10.0.1.2"), "the ports stay");

    // Consent on the path of before goes on (RFC 7675), and media with it, until the new agent chooses.
    let now = setup(&rig).outside.ice.unwrap();
    assert!(rig.packet(outer, here, 64, &check(&outside, true)).is_some());
    assert!(rig.packet(outer, there, 64, &check(&now, false)).is_some());
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(1)).unwrap().1, here);
    assert!(rig.packet(outer, there, 64, &check(&now, true)).is_some());
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(2)).unwrap().1, there);
    assert_eq!(rig.packet(outer, here, 64, &check(&outside, true)), None, "what was before is over");
    assert!(rig.packet(outer, there, 64, &check(&now, true)).is_some());

    // And a second one, by the PBX.
    rig.offer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxd"));
    rig.answer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "wxya"));
    let setup = setup(&rig);
    assert_eq!(setup.outside.ice_before.as_deref(), Some(&now));
    assert!(setup.outside.ice.as_ref().is_some_and(|ice| *ice != now && *ice != outside));
}

#[test]
fn a_restart_that_is_refused_has_not_been() {
    let mut rig = rig();
    let offer = rig.offer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "abcd"));
    let answer = rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"));
    let restarted = rig.offer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "wxyz"));
    rig.anchor.rollback(rig.now, 1, Side::Outside);
    rig.settle();
    let outer = at(OUTER, ports(&answer)[0]);
    assert!(rig.packet(outer, at(PHONE_A, 50001), 64, &check(&named(&answer), true)).is_some());
    let again = rig.offer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "abcd"));
    assert_eq!((named(&again), named(&restarted) == named(&offer)), (named(&offer), false));
    assert_eq!(named(&rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"))), named(&answer));
}

/// Who moves to another family gets other ports of ours, and these are other candidates.
#[test]
fn other_ports_of_ours_begin_anew() {
    let mut rig = rig();
    let offer = rig.offer(1, Side::Outside, PHONE_A, &spoken("192.168.1.7", 30000, "abcd"));
    let answer = rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"));
    let moved = rig.offer(1, Side::Outside, PHONE_A, &spoken("2001:db8::7", 30000, "abcd"));
    assert_ne!(named(&moved), named(&offer));
    let moved = rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"));
    assert!(moved.contains("c=IN IP6 2001:db8::1\r\n"), "{moved}");
    assert_ne!(named(&moved), named(&answer));
}

/// RFC 8840 §4.1.1: port 9 is no attack there, and 0.0.0.0 no hold.
#[test]
fn who_has_no_address_to_name_yet_is_relayed_and_found_by_its_checks() {
    let mut rig = rig();
    let offer = rig.offer(1, Side::Outside, PHONE_A, &trickled("0.0.0.0", "abcd"));
    let (inner, ours) = (at(INNER, ports(&offer)[0]), named(&offer));
    let candidate = format!("1 1 UDP 2130706431 {INNER} {} typ host", inner.port());
    assert_eq!(said(&offer, "a=candidate:"), candidate);
    assert!(offer.contains("c=IN IP4 10.0.1.2\r\n") && offer.contains("a=sendrecv\r\n"), "{offer}");
    assert!(!offer.contains("trickle") && !offer.contains("0.0.0.0"), "{offer}");
    let answer = rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"));
    let outer = at(OUTER, ports(&answer)[0]);
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(1)), None, "nobody is known yet");
    let phone = at(PHONE_A, 50001);
    assert!(rig.packet(outer, phone, 64, &check(&named(&answer), true)).is_some());
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(2)).unwrap().1, phone);
    assert_eq!(rig.packet(outer, phone, 64, &rtp(1)).unwrap().1, at("10.0.1.60", 5000));

    // A restart in that form leaves the way as it is.
    let again = rig.offer(1, Side::Outside, PHONE_A, &trickled("0.0.0.0", "wxyz"));
    assert_ne!(named(&again), ours);
    rig.answer(1, Side::Inside, PBX, &spoken("10.0.1.60", 5000, "pbxa"));
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(3)).unwrap().1, phone);
}

/// The same from inside, where packets go to who was described: here to who has shown our password.
#[test]
fn a_pbx_without_an_address_is_found_by_its_checks_too() {
    for answers in [false, true] {
        let mut rig = rig();
        let (offer, answer);
        if answers {
            offer = rig.offer(1, Side::Outside, PHONE_A, &spoken(PHONE_A, 30000, "abcd"));
            answer = rig.answer(1, Side::Inside, PBX, &trickled("0.0.0.0", "pbxa"));
        } else {
            answer = rig.offer(1, Side::Inside, PBX, &trickled("0.0.0.0", "pbxa"));
            offer = rig.answer(1, Side::Outside, PHONE_A, &spoken(PHONE_A, 30000, "abcd"));
        }
        let (outer, inner) = (at(OUTER, ports(&answer)[0]), at(INNER, ports(&offer)[0]));
        let pbx = at(PBX, 7000);
        assert_eq!(rig.packet(outer, at(PHONE_A, 30000), 64, &rtp(1)), None);
        assert!(rig.packet(inner, pbx, 64, &check(&named(&offer), true)).is_some());
        assert_eq!(rig.packet(outer, at(PHONE_A, 30000), 64, &rtp(2)).unwrap().1, pbx);
        assert_eq!(rig.packet(inner, at("10.0.1.77", 7000), 64, &rtp(2)), None, "not from another's address");
    }
}

#[test]
fn port_9_is_an_attack_where_nobody_speaks_ice_and_no_alternative_where_somebody_does() {
    let mut rig = rig();
    for host in ["192.168.1.7", "0.0.0.0"] {
        let refused = rig.try_offer(1, Side::Outside, PHONE_A, &audio(host, 9));
        assert_eq!(refused, Err(NotAcceptable::Port(9).into()), "{host}");
    }
    // Of a named address nothing is used either; each line has a port of ours for itself.
    let two = format!(
        "{}m=video 9 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n",
        trickled("192.168.1.7", "abcd")
    );
    let offer = rig.offer(1, Side::Outside, PHONE_A, &two);
    let [audio, video] = ports(&offer)[..] else { panic!("two lines: {offer}") };
    assert_ne!(audio, video);
    // A family that we lack is no reason: it is that of the signalling.
    let mut rig = self::rig();
    let offer = rig.offer(2, Side::Inside, PBX, &trickled("::", "pbxa"));
    assert!(offer.contains("c=IN IP4 203.0.113.1\r\n"), "{offer}");
}

/// A hold by 0.0.0.0 is one with ICE as well, and with RFC 2543 left as it is an address that follows is still replaced.
#[test]
fn a_hold_by_address_is_told_from_an_address_that_follows() {
    let held = spoken("0.0.0.0", 30000, "abcd");
    let mut rig = Rig::new(|config| {
        config.seed = Some([9; 32].into());
        config.policy.rules.hold_rfc2543 = true;
    });
    assert!(rig.offer(1, Side::Outside, PHONE_A, &held).contains("c=IN IP4 0.0.0.0\r\n"));
    let offer = rig.offer(2, Side::Outside, PHONE_A, &trickled("0.0.0.0", "abcd"));
    assert!(!offer.contains("0.0.0.0"), "{offer}");
    let mut rig = self::rig();
    assert!(rig.offer(3, Side::Outside, PHONE_A, &held).contains("a=sendonly\r\n"));
}
