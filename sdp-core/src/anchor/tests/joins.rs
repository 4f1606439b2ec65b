//! Two phones of ours in one call: hairpins.

use super::*;

/// Phone A calls phone B through a PBX that carries the descriptions from one to the other.
fn hairpin(rig: &mut Rig) -> ([SocketAddr; 2], [SocketAddr; 2]) {
    let to_pbx = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let to_b = rig.offer(2, Side::Inside, PBX, &to_pbx);
    let from_b = rig.answer(2, Side::Outside, PHONE_B, &audio("192.168.1.7", 30000));
    let to_a = rig.answer(1, Side::Inside, PBX, &from_b);
    let (a_out, b_out) = (at(OUTER, ports(&to_a)[0]), at(OUTER, ports(&to_b)[0]));
    let (a_in, b_in) = (at(INNER, ports(&to_pbx)[0]), at(INNER, ports(&from_b)[0]));
    ([a_out, b_out], [a_in, b_in])
}

fn local(address: SocketAddr) -> SocketAddr {
    at("192.0.2.1", address.port())
}

#[test]
fn two_phones_of_ours_are_joined() {
    let mut rig = Rig::new(|_| {});
    let ([a_out, b_out], [_, b_in]) = hairpin(&mut rig);
    let (a, b) = (at(PHONE_A, 61000), at(PHONE_B, 62000));
    let joins =
        |rig: &Rig| rig.commands.iter().filter(|command| matches!(command, Command::Join { .. })).count();
    assert_eq!(joins(&rig), 1);
    assert_eq!(rig.packet(a_out, a, 55, &rtp(1)), None, "phone B has not spoken yet");
    assert_eq!(rig.packet(b_out, b, 44, &rtp(1)), Some((local(a_out), a, 43)), "one hop: minus one, once");
    assert_eq!(rig.packet(a_out, a, 55, &rtp(2)), Some((local(b_out), b, 54)));
    // Their inside ports are nobody's: not even our own packet gets in.
    assert_eq!(rig.packet(b_in, at(INNER, 20000), 64, &rtp(3)), None);
    // Music on hold: the PBX gives A another remote. The join ends, and nothing goes round.
    rig.offer(1, Side::Inside, PBX, &audio("10.0.1.70", 9000));
    rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert!(matches!(rig.commands.last(), Some(Command::Part { .. })), "{:?}", rig.commands.last());
    assert_eq!(rig.packet(a_out, a, 55, &rtp(4)).unwrap().1, at("10.0.1.70", 9000));
    assert_eq!(rig.packet(b_out, b, 55, &rtp(4)), None);
    // And back.
    rig.offer(1, Side::Inside, PBX, &audio(INNER, b_in.port()));
    rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(joins(&rig), 2);
    assert_eq!(rig.packet(b_out, b, 44, &rtp(5)), Some((local(a_out), a, 43)));
}

#[test]
fn the_join_ends_with_either_session() {
    let mut rig = Rig::new(|_| {});
    let ([_, b_out], _) = hairpin(&mut rig);
    rig.packet(b_out, at(PHONE_B, 62000), 44, &rtp(1));
    rig.anchor.end(rig.now, 1);
    rig.settle();
    assert_eq!(rig.packet(b_out, at(PHONE_B, 62000), 44, &rtp(2)), None, "what it named is gone");
    // Another session gets the join only by naming and being named.
    rig.call(3);
    assert_eq!(rig.packet(b_out, at(PHONE_B, 62000), 44, &rtp(3)), None);
    rig.anchor.end(rig.now, 2);
    rig.settle();
    assert_eq!(rig.anchor.own.len(), 1);
}

#[test]
fn one_sided_naming_joins_nobody() {
    let mut rig = Rig::new(|_| {});
    let (_, inner) = rig.call(1);
    // A forged or stale description names the port of a call whose own remote is another.
    rig.offer(2, Side::Inside, PBX, &audio(INNER, inner.port()));
    let answer = rig.answer(2, Side::Outside, PHONE_B, &audio("192.168.1.7", 30000));
    assert_ne!(ports(&answer), [0]);
    assert!(!rig.commands.iter().any(|command| matches!(command, Command::Join { .. })));
    // From outside nobody can name a port of ours at all.
    rig.offer(3, Side::Outside, PHONE_A, &audio(INNER, inner.port()));
    rig.answer(3, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert!(!rig.commands.iter().any(|command| matches!(command, Command::Join { .. })));
}
