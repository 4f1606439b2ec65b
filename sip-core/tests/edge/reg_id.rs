//! Phones with several connections at a time (RFC 5626): the newest good one is used, then the next, 430 when none is left.

use sip_core::edge::Event;
use sip_core::edge::event::Departure;

use crate::register::{MAC_A, register};
use crate::script::{from_pbx, from_phone};
use crate::world::{End, World, between, reply, row};

/// A REGISTER over this connection, by this number and from this private address; the Contact towards the PBX.
fn over(world: &mut World, phone: End, reg_id: u32, host: &str, cseq: u32) -> (End, String) {
    let more = format!(";reg-id={reg_id}\nSupported: path, outbound");
    world.say(phone, &register(MAC_A, host, cseq, &more));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "REGISTER ");
    let contact = row(&text, "Contact").to_owned();
    assert!(contact.contains(&format!("reg-id={reg_id}")), "{contact}");
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {contact}")));
    world.hear_start(phone, "SIP/2.0 200 ");
    (own, between(&contact, "<", ">").to_owned())
}

fn invite(world: &mut World, pbx: End, uri: &str, call: &str) {
    world.say(pbx, &from_pbx("INVITE", uri, call, 1, "", ""));
}

#[test]
fn the_newest_good_connection_then_the_next_then_430() {
    let mut world = World::new();
    let first = world.phone(MAC_A, "198.51.100.7:40000");
    let (_, uri) = over(&mut world, first, 1, "192.168.1.7", 1);
    let second = world.phone(MAC_A, "198.51.100.7:40001");
    let (own, again) = over(&mut world, second, 2, "192.168.2.7", 2);
    assert_eq!(uri, again, "one address, whatever connection");
    let third = world.phone(MAC_A, "203.0.113.7:40002");
    over(&mut world, third, 3, "192.168.3.7", 3);
    let pbx = world.switch("10.0.1.50:33000");
    invite(&mut world, pbx, &uri, "a");
    world.hear_start(third, "INVITE sips:anonymous@192.168.3.7 ");
    // A request by any of them is the phone's.
    world.say(first, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    assert!(row(&world.hear_start(own, "OPTIONS "), "Contact").contains("crt="));
    // An older one that goes changes nothing.
    world.hang(second);
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. } | Event::PhoneMoved { .. })), 0);
    invite(&mut world, pbx, &uri, "b");
    world.hear_start(third, "INVITE ");
    world.hang(third);
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneMoved { .. })), 1);
    invite(&mut world, pbx, &uri, "c");
    // What rang there rings here now, and the new one.
    for _ in 0..3 {
        world.hear_start(first, "INVITE sips:anonymous@192.168.1.7 ");
    }
    world.hang(first);
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. })), 1);
    invite(&mut world, pbx, &uri, "d");
    // The INVITEs that rang on the connections that are gone end first.
    let mut heard = Vec::new();
    while let Some(text) = world.next(pbx) {
        heard.push((text.get(8..11).unwrap().to_owned(), row(&text, "Call-ID").to_owned()));
    }
    assert!(heard.contains(&("430".to_owned(), "d".to_owned())), "{heard:?}");
    assert!(heard.iter().all(|(status, _)| status == "430" || status == "100"), "{heard:?}");
}

#[test]
fn a_request_on_a_connection_that_breaks_goes_to_the_next() {
    let mut world = World::new();
    let first = world.phone(MAC_A, "198.51.100.7:40000");
    let (_, uri) = over(&mut world, first, 1, "192.168.1.7", 1);
    let second = world.phone(MAC_A, "198.51.100.7:40001");
    over(&mut world, second, 2, "192.168.2.7", 2);
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("NOTIFY", &uri, "n", 1, "", ""));
    world.hear_start(second, "NOTIFY sips:anonymous@192.168.2.7 ");
    world.hang(second);
    let notify = world.hear_start(first, "NOTIFY sips:anonymous@192.168.1.7 ");
    world.silent(pbx);
    world.say(first, &reply(&notify, "200 OK", "a", "X: 1"));
    world.hear_start(pbx, "SIP/2.0 200 ");
    world.wait(std::time::Duration::from_secs(40));
    assert_eq!(world.edge.snapshot(world.now).contexts, 0);
}

#[test]
fn the_same_number_replaces_and_there_are_few() {
    let mut world = World::new();
    let old = world.phone(MAC_A, "198.51.100.7:40000");
    let (_, uri) = over(&mut world, old, 1, "192.168.1.7", 1);
    let new = world.phone(MAC_A, "198.51.100.7:40001");
    over(&mut world, new, 1, "192.168.1.7", 2);
    let pbx = world.switch("10.0.1.50:33000");
    world.hang(new);
    invite(&mut world, pbx, &uri, "a");
    world.hear_start(pbx, "SIP/2.0 430 ");
    world.silent(old);
    // Six numbers: the oldest connections are not remembered.
    let flows: Vec<End> = (0..6)
        .map(|n| {
            let phone = world.phone(MAC_A, &format!("198.51.100.7:41{n:03}"));
            over(&mut world, phone, n + 1, "192.168.1.7", 10 + n);
            phone
        })
        .collect();
    for phone in &flows[2..] {
        world.hang(*phone);
    }
    invite(&mut world, pbx, &uri, "b");
    world.hear_start(pbx, "SIP/2.0 430 ");
    world.silent(flows[1]);
}

#[test]
fn a_phone_that_leaves_by_one_number_stays_by_the_other() {
    let mut world = World::new();
    let first = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, uri) = over(&mut world, first, 1, "192.168.1.7", 1);
    let second = world.phone(MAC_A, "198.51.100.7:40001");
    over(&mut world, second, 2, "192.168.2.7", 2);
    let leave = |cseq: u32| {
        register(MAC_A, "192.168.2.7", cseq, &format!(";reg-id={}\nSupported: outbound", 4 - cseq))
            .replace("expires=3600", "expires=0")
    };
    // Flow 2 by cseq 2 is taken; this one is 1 + 2.
    world.say(second, &leave(2).replace("z9hG4bKr", "z9hG4bKx"));
    let text = world.hear_start(own, "REGISTER ");
    let left = row(&text, "Contact").replace("reg-id=2", "reg-id=1").replace("expires=0", "expires=900");
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {left}")));
    world.hear_start(second, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Unregistered { .. })), 0);
    let pbx = world.switch("10.0.1.50:33000");
    invite(&mut world, pbx, &uri, "a");
    world.hear_start(first, "INVITE sips:anonymous@192.168.1.7 ");
    world.silent(second);
    // The last one, or a registrar that forgets the phone as a whole.
    world.say(first, &leave(3));
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    assert_eq!(world.saw(|e| matches!(e, Event::Unregistered { cause: Departure::Asked, .. })), 1);
    invite(&mut world, pbx, &uri, "b");
    let refused = std::iter::from_fn(|| world.next(pbx)).last().unwrap();
    assert!(refused.starts_with("SIP/2.0 404 "), "{refused}");
}
