//! Keys that are changed while phones are registered and calls run (SIP-12).

use std::time::Duration;

use sip_core::edge::Command;
use sip_core::edge::interop::UriEncoding;
use sip_core::token::{Key, Keyring, token_key};

use crate::register::{MAC_A, MAC_B, register, register_on, registered};
use crate::script::{Call, from_pbx, from_phone, target};
use crate::world::{World, between, config, reply, row};

fn rotated() -> Keyring {
    Keyring::new(Key::new(2, [8; 32]), vec![Key::new(1, [7; 32])])
}

fn rotate(world: &mut World, keys: Keyring) {
    world.command(Command::Keys(Box::new(keys)));
}

fn used(world: &World) -> Vec<u8> {
    let mut keys = world.edge.snapshot(world.now).keys;
    keys.sort_unstable();
    keys
}

#[test]
fn the_living_keep_their_key_and_the_new_get_the_newest() {
    let mut world = World::new();
    let (a, _, token_a) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    assert_eq!(used(&world), [1]);
    rotate(&mut world, rotated());
    // A refresh, also from elsewhere and with another certificate, is the Contact that the PBX knows.
    let (_, again) = register_on(&mut world, a, MAC_A, "192.168.1.7", 2);
    assert_eq!(again, token_a);
    world.hang(a);
    let other = sip_core::flow::Side::Outside;
    let named = crate::world::identity("mac-08000FD4CBBF");
    let back = world.connect(other, "203.0.113.7:41000", Some(named), true);
    world.say(back, &register(MAC_A, "192.168.1.7", 3, ""));
    // The same line, unless the other certificate is another shard's.
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "REGISTER ");
    assert_eq!(between(&text, "crt=", ">"), token_a);
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {}", row(&text, "Contact"))));
    world.hear_start(back, "SIP/2.0 200 ");
    let born = world.edge.bindings().iter().next().unwrap().record.flow_tokens.clone();
    assert_eq!(born.map(|token| token_key(&token)), [Some(1), Some(1)]);
    // A new phone is born with the new key; both are found.
    let (b, _, token_b) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    assert_eq!((token_key(&token_a), token_key(&token_b)), (Some(1), Some(2)));
    assert_eq!(used(&world), [1, 2]);
    let pbx = world.switch("10.0.1.50:33000");
    for (n, (token, phone)) in [(&token_a, back), (&token_b, b)].into_iter().enumerate() {
        world.say(pbx, &from_pbx("INVITE", &target(token), &format!("c{n}"), 1, "", ""));
        world.hear_start(phone, "INVITE ");
    }
    // Who leaves takes the need for the key along; who comes back is born anew.
    world.say(back, &register(MAC_A, "192.168.1.7", 4, "").replace("expires=3600", "expires=0"));
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(back, "SIP/2.0 200 ");
    assert_eq!(used(&world), [2]);
    rotate(&mut world, Keyring::new(Key::new(2, [8; 32]), vec![]));
    world.say(back, &register(MAC_A, "192.168.1.7", 5, ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "REGISTER ");
    assert_eq!(token_key(between(&text, "crt=", ">")), Some(2));
    world.say(pbx, &from_pbx("INVITE", &target(&token_a), "old", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
}

#[test]
fn a_call_outlives_the_change_of_keys() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    rotate(&mut world, rotated());
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    let info = world.hear_start(call.phone, "INFO ");
    world.say(call.phone, &reply(&info, "200 OK", "", "X: 1"));
    world.hear_start(call.pbx, "SIP/2.0 200 ");
    // What the phone was shown before opens now, and what is shown now is another text.
    world.say(call.phone, &call.of_phone("INFO", 2, ""));
    world.hear_start(call.own, "INFO sips:200@10.0.1.50:5061;transport=tls ");
    world.say(call.pbx, &call.of_pbx("UPDATE", 3, ""));
    let update = world.hear_start(call.phone, "UPDATE ");
    assert_ne!(between(row(&update, "Contact"), "<", ">"), call.phone_target);
    // A restart in between, with both keys kept.
    world.restart(config());
    rotate(&mut world, rotated());
    let back = world.phone(MAC_A, "198.51.100.7:41000");
    world.say(back, &call.of_phone("BYE", 4, ""));
    world.hear_start(world.dialled("10.0.1.50:5061"), "BYE sips:200@10.0.1.50:5061;transport=tls ");
}

#[test]
fn sealed_addresses_stay_equal_over_a_change_of_keys() {
    let mut config = config();
    config.interop.contacts.uri_encoding = UriEncoding::AlwaysEncrypt;
    let mut world = World::with(config);
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let mut seen = Vec::new();
    for n in 1..4 {
        world.say(phone, &register(MAC_A, "192.168.1.7", n, ""));
        let own = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(own, "REGISTER ");
        let contact = row(&text, "Contact").to_owned();
        world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {contact}")));
        world.hear_start(phone, "SIP/2.0 200 ");
        seen.push(between(&contact, "<", ">").to_owned());
        rotate(&mut world, rotated());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &seen[0], "c", 1, "", ""));
    world.hear_start(phone, "INVITE sips:anonymous@192.168.1.7 ");
    world.wait(Duration::from_secs(1));
}

#[test]
fn a_guest_is_born_with_a_key_too() {
    let mut world = World::new();
    rotate(&mut world, rotated());
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    world.hear_start(world.dialled("10.0.1.50:5061"), "OPTIONS ");
    assert_eq!(used(&world), [2]);
}
