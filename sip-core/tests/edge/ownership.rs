//! Whose a tag is, and who may register at all.

use std::time::Duration;

use sip_core::edge::Event;
use sip_core::edge::config::{CertBinding, Connections};
use sip_core::edge::event::{Arrival, Reason};
use sip_core::flow::Side;

use crate::register::{MAC_A, register, register_on, registered};
use crate::script::{from_pbx, from_phone, target};
use crate::world::{World, config, identity, reply, row};

#[test]
fn a_live_phone_keeps_its_tag() {
    let mut world = World::new();
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let thief = world.phone("thief", "203.0.113.66:50000");
    world.say(thief, &register(MAC_A, "192.168.1.66", 1, ""));
    let options = world.hear_start(phone, "OPTIONS sips:anonymous@192.168.1.7 ");
    world.silent(thief);
    // A second claim meanwhile is refused out of hand.
    world.say(thief, &register(MAC_A, "192.168.1.66", 2, ""));
    world.hear_start(thief, "SIP/2.0 403 ");
    world.say(phone, &reply(&options, "405 Method Not Allowed", "x", "X: 1"));
    world.hear_start(thief, "SIP/2.0 403 ");
    world.wait(Duration::from_secs(3));
    world.silent(thief);
    assert_eq!(world.saw(|e| matches!(e, Event::Mismatch { takeover: true, accepted: false, .. })), 2);
    assert_eq!(world.dials.len(), 1, "nothing reached the PBX for it");
    // The same certificate from another port is the phone itself.
    let again = world.phone(MAC_A, "198.51.100.7:41000");
    register_on(&mut world, again, MAC_A, "192.168.1.7", 2);
    assert_eq!(world.saw(|e| matches!(e, Event::Registered { change: Arrival::Moved, .. })), 1);
}

#[test]
fn a_gone_phone_may_come_back_with_another_certificate() {
    let mut world = World::new();
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.hang(phone);
    // The certificate of the PBX names the MAC with hyphens.
    let other =
        world.connect(Side::Outside, "198.51.100.7:42000", Some(identity("08-00-0f-d4-cb-bf.example")), true);
    register_on(&mut world, other, MAC_A, "192.168.1.7", 2);
    assert_eq!(world.saw(|e| matches!(e, Event::Mismatch { takeover: true, accepted: true, .. })), 1);
}

#[test]
fn a_phone_after_power_loss_comes_back_within_three_seconds() {
    let mut world = World::new();
    // The old connection is half open: nobody closes it, nobody answers on it.
    let (old, pbx, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let new = world.connect(Side::Outside, "198.51.100.7:42000", Some(identity("mac-08000FD4CBBF")), true);
    world.say(new, &register(MAC_A, "192.168.1.7", 2, ""));
    world.hear_start(old, "OPTIONS ");
    world.wait(Duration::from_millis(1999));
    world.silent(pbx);
    world.wait(Duration::from_millis(1));
    // The same line, unless the other certificate is another shard's.
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(pbx, "REGISTER ");
    world.say(pbx, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(new, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Mismatch { takeover: true, accepted: true, .. })), 1);
    let switch = world.switch("10.0.1.50:33000");
    world.say(switch, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
    world.hear_start(new, "INVITE ");
}

#[test]
fn a_guest_makes_way_for_its_registration() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(
        phone,
        &from_phone("SUBSCRIBE", "sips:anonymous@10.0.1.50", "s", 1, "", "")
            .replace("sips:117", "sips:anonymous"),
    );
    let guest = world.hear_start(world.dialled("10.0.1.50:5061"), "SUBSCRIBE ");
    assert_eq!(row(&guest, "Contact"), "<sips:anonymous@10.0.1.2:5061;transport=tls>");
    let (own, token) = register_on(&mut world, phone, MAC_A, "192.168.1.7", 1);
    world.say(
        phone,
        &from_phone("SUBSCRIBE", "sips:anonymous@10.0.1.50", "t", 1, "", "")
            .replace("sips:117", "sips:anonymous"),
    );
    let known = world.hear_start(own, "SUBSCRIBE ");
    assert_eq!(row(&known, "Contact"), format!("<sips:anonymous@10.0.1.2:5061;transport=tls;crt={token}>"));
    assert_eq!(world.edge.bindings().len(), 1);
}

#[test]
fn enforced_the_certificate_must_name_the_tag() {
    let mut config = config();
    config.interop.contacts.tag_routing.cert_binding = CertBinding::Enforce;
    let mut world = World::with(config);
    let stranger = world.phone("stranger", "203.0.113.66:50000");
    world.say(stranger, &register(MAC_A, "192.168.1.66", 1, ""));
    world.hear_start(stranger, "SIP/2.0 403 ");
    registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
}

#[test]
fn an_unverified_connection_is_refused() {
    let mut world = World::new();
    let nobody = world.connect(Side::Outside, "203.0.113.66:50000", None, false);
    world.say(nobody, &register(MAC_A, "192.168.1.66", 1, ""));
    world.hear_start(nobody, "SIP/2.0 403 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Unverified, .. })), 1);
    let inside = world.connect(Side::Inside, "10.0.1.50:50000", None, false);
    world.say(inside, &register(MAC_A, "192.168.1.66", 2, ""));
    world.hear_start(inside, "SIP/2.0 403 ");
}

#[test]
fn ten_registrations_on_one_certificate() {
    let mut shared = config();
    shared.switches.connections = Connections::Shared;
    let mut world = World::with(shared);
    let phone = world.phone("one-for-all", "198.51.100.7:40000");
    for n in 0..10 {
        register_on(&mut world, phone, &format!("08000FD4CB{n:02}"), "192.168.1.7", 1);
    }
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    world.hear_start(phone, "SIP/2.0 403 ");
    // A refresh is no new one.
    register_on(&mut world, phone, "08000FD4CB03", "192.168.1.7", 2);
}
