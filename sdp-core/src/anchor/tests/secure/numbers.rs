//! Who may use up the numbers of packets under keys, and what those outlive.

use super::*;

#[test]
fn keys_outlive_signalling_and_the_relay_that_told_how_far_it_was() {
    let mut rig = rig(Required, Off);
    let phone = theirs(1, Suite::AesCm80);
    let offer = speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]);
    let inner = at(INNER, ports(&rig.offer(1, Side::Outside, PHONE_A, &offer))[0]);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let (outer, ours) = (at(OUTER, ports(&answer)[0]), cryptos(&answer));
    let mut send = Context::new(&phone.key).unwrap();
    let mut sealed = |sequence| {
        let mut packet = rtp(sequence);
        send.protect(&mut packet).unwrap();
        packet
    };
    let (first, second, third, fourth) = (sealed(1), sealed(2), sealed(3), sealed(4));
    assert_eq!(through(&mut rig, outer, at(PHONE_A, 61000), &first), Some(rtp(1)));
    // Another signalling process takes over: the same key, and no packet a second time.
    rig.anchor.config.seed = Some([4; 32].into());
    rig.new_anchor();
    let again = rig.offer(1, Side::Outside, PHONE_A, &offer);
    assert!(!again.contains("crypto"), "{again}");
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(cryptos(&answer), ours);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 60, &first), None);
    assert_eq!(through(&mut rig, outer, at(PHONE_A, 61000), &second), Some(rtp(2)));
    // Another relay goes on behind the numbers that the one before has told.
    rig.now += Duration::from_secs(10);
    rig.table.handle_timeout(rig.now);
    rig.settle();
    assert_eq!(rig.new_relay(9), 1);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 60, &second), None, "not once more");
    assert_eq!(through(&mut rig, outer, at(PHONE_A, 61000), &third), Some(rtp(3)));
    let mut back = through(&mut rig, inner, at("10.0.1.60", 5000), &rtp(9)).unwrap();
    let _ = Context::new(&ours[0].key).unwrap().unprotect(&mut back).unwrap();
    assert_eq!(back, rtp(9));
    // One that was told nothing of late does not know which numbers were used: silence, until an offer brings another key of ours.
    rig.now += Duration::from_secs(61);
    assert_eq!(rig.new_relay(10), 1);
    let third = fourth;
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 60, &third), None);
    rig.offer(1, Side::Outside, PHONE_A, &offer);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_ne!(cryptos(&answer)[0].key, ours[0].key);
    assert_eq!(through(&mut rig, outer, at(PHONE_A, 61000), &third), Some(rtp(4)));
}

/// A tag costs as much as the rest of a packet's way: not for those who are not heard anyway.
#[test]
fn who_may_not_send_costs_no_look_into_what_it_sends() {
    let mut rig = Rig::new(|config| {
        config.policy.srtp = Some(SrtpSides { outside: Required, inside: Off });
        config.policy.sender_limit = SenderLimit::LockIp;
        config.policy.source = Source::Any;
        config.seed = Some([3; 32].into());
    });
    let phone = theirs(1, Suite::AesCm80);
    let offer = speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]);
    rig.offer(1, Side::Outside, PHONE_A, &offer);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&answer)[0]);
    let mut send = Context::new(&phone.key).unwrap();
    let mut sealed = |sequence| {
        let mut packet = rtp(sequence);
        send.protect(&mut packet).unwrap();
        packet
    };
    through(&mut rig, outer, at(PHONE_A, 61000), &sealed(1)).unwrap();
    let (good, mut forged) = (sealed(2), rtp(3));
    forged.extend([0; 10]);
    for packet in [&forged, &good] {
        assert_eq!(rig.packet(outer, at(PHONE_B, 61000), 60, packet), None);
    }
    assert_eq!(rig.packet(outer, at(PHONE_A, 61002), 60, &forged), None);
    assert_eq!(
        through(&mut rig, outer, at(PHONE_A, 61000), &good),
        Some(rtp(2)),
        "and nothing was learned of it"
    );
    rig.now += Duration::from_secs(20);
    rig.table.handle_timeout(rig.now);
    rig.settle();
    let (_, outside, _) = rig.anchor.statistics(1).next().unwrap();
    assert_eq!((outside.dropped.stranger, outside.dropped.auth, outside.senders), (2, 1, 1));
    assert_eq!(outside.refused, Some(at(PHONE_B, 61000)));
}

/// RFC 3711 §3.3.1: one packet far ahead in the name of a source would silence it for as long.
#[test]
fn a_neighbour_uses_up_no_numbers_of_who_speaks() {
    for proxy in [crate::policy::MediaProxy::No, crate::policy::MediaProxy::Use] {
        let mut rig = Rig::new(|config| {
            config.policy.srtp = Some(SrtpSides { outside: Off, inside: Required });
            config.policy.sender_limit = SenderLimit::Multiple;
            config.policy.proxy = proxy;
            config.seed = Some([3; 32].into());
        });
        let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
        let pbx = speaks("10.0.1.60", 5000, "RTP/SAVP", &[theirs(1, Suite::AesCm80).write()]);
        let answer = rig.answer(1, Side::Inside, PBX, &pbx);
        let ours = cryptos(&offer).into_iter().find(|crypto| crypto.key.suite() == Suite::AesCm80).unwrap();
        let mut heard = Context::new(&ours.key).unwrap();
        let outer = at(OUTER, ports(&answer)[0]);
        let (phone, neighbour) = (at(PHONE_A, 61000), at(PHONE_A, 62000));
        for sequence in 1..100 {
            let mut sealed = through(&mut rig, outer, phone, &rtp(sequence)).unwrap();
            let opened = heard.unprotect(&mut sealed).unwrap();
            heard.accept(opened);
            let ahead = rtp(sequence + 2_000);
            assert_eq!(rig.packet(outer, neighbour, 60, &ahead), None, "{proxy:?}");
            rig.now += Duration::from_millis(20);
        }
        // In a name of its own it may, as anywhere.
        let mut own = rtp(7);
        own[11] = 99;
        assert!(rig.packet(outer, neighbour, 60, &own).is_some());
    }
}

/// The numbers of a line that was plain meanwhile, or fax, are forgotten: under the key of before they could be used again
/// (RFC 3711 §9.1).
#[test]
fn a_key_whose_use_has_ended_is_not_used_again() {
    let mut rig = rig(Preferred, Off);
    let phone = theirs(1, Suite::AesCm80);
    let mut said = Vec::new();
    for keyed in [true, true, false, true] {
        let crypto: Vec<String> = keyed.then(|| phone.write()).into_iter().collect();
        let token = if keyed { "RTP/SAVP" } else { "RTP/AVP" };
        rig.offer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, token, &crypto));
        let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        said.extend(cryptos(&answer));
    }
    assert_eq!(said.len(), 3);
    assert_eq!(said[0], said[1]);
    assert_ne!(said[1].key, said[2].key);
}

/// What a stream has learned of its packets under keys moves with it to another worker's table.
#[test]
fn keys_and_numbers_move_with_their_stream() {
    use crate::relay::StreamId;
    use crate::relay::table::{Move, Ticket};
    let mut rig = rig(Required, Off);
    let phone = theirs(1, Suite::Gcm128);
    let offer = speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]);
    rig.offer(1, Side::Outside, PHONE_A, &offer);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let (outer, nat) = (at(OUTER, ports(&answer)[0]), at(PHONE_A, 61000));
    let mut send = Context::new(&phone.key).unwrap();
    let sealed: Vec<Vec<u8>> = [65_000, 65_535, 3, 4]
        .map(rtp)
        .into_iter()
        .map(|mut packet| {
            send.protect(&mut packet).unwrap();
            packet
        })
        .collect();
    for packet in &sealed[..3] {
        rig.packet(outer, nat, 60, packet).unwrap();
    }
    let order = Move { stream: StreamId { session: 1, index: 0 }, to: 1, ticket: Ticket(1) };
    rig.table.give(order);
    let own = rig.anchor.config.clone();
    let config = table::Config::new(own.outside, own.inside, [5; 32]);
    let mut other = Table::among(rig.now, config.clone(), config.own_ports(), false);
    while let Some(action) = rig.table.poll_action(rig.now) {
        if matches!(action, Action::Give { slots: Some(_), .. }) {
            break;
        }
    }
    let [outside, _] = other.handle_arrival(rig.table.departed().unwrap());
    let mut came = |bytes: &[u8]| {
        let packet = Packet { component: Component::Rtp, source: nat, hop_limit: Some(60), bytes };
        other.handle_packet(rig.now, outside, &packet).map(|_| other.changed().to_vec())
    };
    assert_eq!(came(&sealed[2]), None, "still once");
    assert_eq!(came(&sealed[3]), Some(rtp(4)), "and still behind the roll-over");
}
