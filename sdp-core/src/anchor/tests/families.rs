//! IPv4 here, IPv6 there (SDP-20; RFC 6157).

use super::*;

const PHONE6: &str = "2001:db8:7::7";
const PBX6: &str = "fd00:10:1::60";
const INNER6: &str = "fd00:10:1::2";

#[test]
fn a_phone_of_ipv4_and_a_pbx_of_ipv6() {
    let mut rig = Rig::new(|config| config.inside = Addresses::from(ip(INNER6)));
    for (session, phone_calls) in [(1, true), (2, false)] {
        let (phone, pbx) = (audio("192.168.1.7", 30000), audio(PBX6, 5000));
        let (to_pbx, to_phone) = if phone_calls {
            let sent =
                rig.anchor.offer(rig.now, session, Side::Outside, ip(PHONE_A), ip(PBX6), phone.as_bytes());
            rig.settle();
            let to_pbx = String::from_utf8(sent.unwrap().to_vec()).unwrap();
            (to_pbx, rig.answer(session, Side::Inside, PBX6, &pbx))
        } else {
            let to_phone = rig.offer(session, Side::Inside, PBX6, &pbx);
            (rig.answer(session, Side::Outside, PHONE_A, &phone), to_phone)
        };
        let (inner, outer) = (ports(&to_pbx)[0], ports(&to_phone)[0]);
        assert_eq!((to_pbx, to_phone), (audio(INNER6, inner), audio(OUTER, outer)));
        let (outer, inner) = (at(OUTER, outer), at(INNER6, inner));
        let from_phone = rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
        assert_eq!(from_phone, (inner, at(PBX6, 5000), 54));
        let back = rig.packet(inner, at(PBX6, 5000), 64, &rtp(1)).unwrap();
        assert_eq!((back.1, back.2), (at(PHONE_A, 61000), 63));
    }
}

#[test]
fn two_phones_of_two_families_meet_in_one_hop() {
    let mut rig = Rig::new(|_| {});
    let to_pbx = rig.offer(1, Side::Outside, PHONE6, &audio(PHONE6, 30000));
    let to_b = rig.offer(2, Side::Inside, PBX, &to_pbx);
    let from_b = rig.answer(2, Side::Outside, PHONE_B, &audio("192.168.1.8", 40000));
    let to_a = rig.answer(1, Side::Inside, PBX, &from_b);
    assert_eq!(to_b, audio(OUTER, ports(&to_b)[0]));
    assert_eq!(to_a, audio("2001:db8::1", ports(&to_a)[0]));
    let (a_out, b_out) = (at("2001:db8::1", ports(&to_a)[0]), at(OUTER, ports(&to_b)[0]));
    rig.packet(b_out, at(PHONE_B, 62000), 44, &rtp(1)).unwrap();
    let over = rig.packet(a_out, at(PHONE6, 30000), 55, &rtp(1)).unwrap();
    assert_eq!(over, (at("192.0.2.1", b_out.port()), at(PHONE_B, 62000), 54), "the hop limit goes on as TTL");
    let back = rig.packet(b_out, at(PHONE_B, 62000), 44, &rtp(2)).unwrap();
    assert_eq!(back, (a_out, at(PHONE6, 30000), 43));
}

#[test]
fn a_family_without_an_address_of_ours_is_refused() {
    let mut rig = Rig::new(|config| config.outside = Addresses::from(ip("192.0.2.1")));
    let refused = rig.try_offer(1, Side::Outside, PHONE_A, &audio(PHONE6, 30000));
    assert_eq!(refused, Err(Refusal::NotAcceptable(NotAcceptable::Family(Side::Outside, Family::V6))));
    rig.offer(1, Side::Outside, PHONE_A, &audio(PHONE_A, 30000));
    let refused = rig.try_answer(1, Side::Inside, PBX, &audio(PBX6, 5000));
    assert_eq!(refused, Err(Refusal::NotAcceptable(NotAcceptable::Address(ip(PBX6)))));
    // The call can still be answered as it should.
    assert_ne!(ports(&rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000))), [0]);
}
