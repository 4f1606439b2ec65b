//! Names in session descriptions (SDP-14): looked up before anything else, and not for everybody.

use std::time::Duration;

use sip_core::edge::{Command, Config, Event, NameFault};
use sip_core::flow::{ListenerId, Source};
use sip_core::resolve::records::{Kind, Records};

use crate::register::{MAC_A, registered};
use crate::script::{Call, SDP, from_pbx, from_phone, target};
use crate::world::{End, World, body, config, reply};

const CONTACT: &str = "Contact: <sips:200@10.0.1.50>\n";

fn looking() -> Config {
    let mut config = config();
    config.interop.sdp.resolve_fqdn = true;
    config.internal_domains = vec!["example.internal".to_owned()];
    config
}

/// A description at a name.
fn at(more: &str, name: &str) -> String {
    let sdp = SDP.replace("c=IN IP4 192.168.1.7", &format!("c=IN IP4 {name}"));
    format!("{more}Content-Type: application/sdp\n\n{sdp}")
}

fn faults(world: &World) -> Vec<NameFault> {
    let fault = |e: &Event| match e {
        Event::Unnamed { fault, .. } => Some(*fault),
        _ => None,
    };
    world.events.iter().filter_map(fault).collect()
}

/// A registered phone, whose connection comes from 198.51.100.7.
fn phone(world: &mut World) -> (End, End, String) {
    let found = registered(world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.asked.clear();
    found
}

fn invite(world: &mut World, phone: End, call: &str, name: &str) {
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", call, 1, "", &at("", name)));
}

/// What the media side reads as the address of the description that goes on.
fn read(text: &str) -> &str {
    body(text).lines().find_map(|line| line.strip_prefix("c=IN ")).unwrap()
}

#[test]
fn without_the_switch_a_name_stays_a_name() {
    let mut world = World::new();
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "phone.example");
    assert_eq!(read(&world.hear_start(own, "INVITE ")), "IP4 phone.example");
    assert!(world.asked.is_empty());
}

#[test]
fn a_name_is_looked_up_once_and_then_remembered() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "Phone.Example.");
    world.silent(own);
    assert_eq!((world.asked[0].1.kind, world.asked[0].1.name.as_str()), (Kind::Addresses, "phone.example"));
    assert_eq!(world.asked.len(), 1);
    world.answer_lookup(&["198.51.100.7"]);
    let sent = world.hear_start(own, "INVITE ");
    assert_eq!(read(&sent), "IP4 198.51.100.7");
    assert!(body(&sent).starts_with("v=0\r\no=- 1 1 IN IP4 192.168.1.7\r\n"), "nothing else changes: {sent}");
    assert!(body(&sent).contains("m=audio 4000 RTP/AVP 0\r\n"), "{sent}");
    invite(&mut world, phone, "d", "phone.example");
    assert_eq!(read(&world.hear_start(own, "INVITE ")), "IP4 198.51.100.7");
    assert!(world.asked.is_empty());
    assert_eq!(faults(&world), []);
}

#[test]
fn names_in_answers_and_in_the_ack_are_looked_up() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "198.51.100.7");
    let sent = world.hear_start(own, "INVITE ");
    world.say(own, &reply(&sent, "200 OK", "u", &at(CONTACT, "media.example.internal")));
    world.silent(phone);
    world.answer_lookup(&["10.0.1.51"]);
    assert_eq!(read(&world.hear_start(phone, "SIP/2.0 200 ")), "IP4 10.0.1.51");
    let call = Call::again(&mut world, "d", phone, own, own, &token_of(&sent));
    world.say(own, &call.of_pbx("INVITE", 2, ""));
    let again = world.hear_start(phone, "INVITE ");
    let ok = at("Contact: <sips:117@192.168.1.7>\n", "phone.example");
    world.say(phone, &reply(&again, "200 OK", "a", &ok));
    world.silent(own);
    world.answer_lookup(&["198.51.100.7"]);
    assert_eq!(read(&world.hear_start(own, "SIP/2.0 200 ")), "IP4 198.51.100.7");
    world.say(own, &call.of_pbx("ACK", 2, &at("", "other.example.internal")));
    world.silent(phone);
    world.answer_lookup(&["10.0.1.50"]);
    assert_eq!(read(&world.hear_start(phone, "ACK ")), "IP4 10.0.1.50");
    assert_eq!(faults(&world), []);
}

/// The token in the Contact that the PBX was given.
fn token_of(invite: &str) -> String {
    let at = invite.find(";crt=").expect("a token") + 5;
    invite[at..].split(['>', ';']).next().unwrap().to_owned()
}

#[test]
fn the_answer_of_a_transaction_that_is_over_at_once_waits_as_well() {
    let mut world = World::with(looking());
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.pbx, &call.of_pbx("UPDATE", 2, &at("", "10.0.1.50")));
    let update = world.hear_start(call.phone, "UPDATE ");
    let ok = at("Contact: <sips:117@192.168.1.7>\n", "phone.example");
    world.say(call.phone, &reply(&update, "200 OK", "a", &ok));
    world.wait(Duration::from_secs(1));
    world.answer_lookup(&["198.51.100.7"]);
    assert_eq!(read(&world.hear_start(call.pbx, "SIP/2.0 200 ")), "IP4 198.51.100.7");
}

#[test]
fn after_two_seconds_it_goes_on_as_it_was() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "silent.example");
    world.wait(Duration::from_millis(1_900));
    world.silent(own);
    world.wait(Duration::from_millis(200));
    assert_eq!(read(&world.hear_start(own, "INVITE ")), "IP4 silent.example");
    assert_eq!(faults(&world), [NameFault::NotFound]);
}

#[test]
fn no_cancel_overtakes_its_invite() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "phone.example");
    let cancel = from_phone("CANCEL", "sips:200@10.0.1.50", "c", 1, "", "");
    world.say(phone, &cancel.replace("c1CANCEL", "c1INVITE"));
    world.silent(phone);
    world.silent(own);
    world.answer_lookup(&["198.51.100.7"]);
    let mut heard = Vec::new();
    while let Some(text) = world.next(phone) {
        heard.push(text.lines().next().unwrap().to_owned());
    }
    assert!(!heard.iter().any(|line| line.contains(" 481 ")), "{heard:?}");
    assert!(heard.iter().any(|line| line.starts_with("SIP/2.0 200 ")), "{heard:?}");
    // Sent without waiting for a provisional answer, the CANCEL follows it.
    let sent = world.hear_start(own, "INVITE ");
    world.say(own, &reply(&sent, "180 Ringing", "u", CONTACT.trim_end()));
    world.hear_start(own, "CANCEL ");
}

#[test]
fn from_outside_only_its_own_and_public_addresses_are_taken() {
    for (addresses, used) in [
        (vec!["198.51.100.7"], true),
        (vec!["203.0.113.99"], true),
        (vec!["10.0.1.50"], false),
        (vec!["192.168.1.7"], false),
        (vec!["127.0.0.1"], false),
        (vec!["169.254.169.254"], false),
        (vec!["192.0.2.1"], false),
        (vec!["::ffff:10.0.1.50"], false),
        (vec!["198.51.100.7", "10.0.1.50"], false),
        (vec!["::1"], false),
        (vec![], false),
    ] {
        let mut world = World::with(looking());
        let (phone, own, _) = phone(&mut world);
        invite(&mut world, phone, "c", "evil.example");
        world.answer_lookup(&addresses);
        let sent = world.hear_start(own, "INVITE ");
        let expected = if used { format!("IP4 {}", addresses[0]) } else { "IP4 evil.example".to_owned() };
        assert_eq!(read(&sent), expected, "{addresses:?}");
        assert_eq!(faults(&world).len(), usize::from(!used), "{addresses:?}");
    }
}

#[test]
fn nobody_outside_has_names_of_the_inside_looked_up() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "secret.Example.internal");
    assert_eq!(read(&world.hear_start(own, "INVITE ")), "IP4 secret.Example.internal");
    assert!(world.asked.is_empty());
    assert_eq!(faults(&world), [NameFault::Internal]);
}

#[test]
fn from_inside_only_addresses_of_the_inside_networks_are_taken() {
    for (address, used) in
        [("10.0.1.51", true), ("10.0.1.2", false), ("203.0.113.5", false), ("10.0.9.9", false)]
    {
        let mut world = World::with(looking());
        let (phone, _, token) = phone(&mut world);
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", &at("", "media.example.internal")));
        world.answer_lookup(&[address]);
        let expected = if used { format!("IP4 {address}") } else { "IP4 media.example.internal".to_owned() };
        assert_eq!(read(&world.hear_start(phone, "INVITE ")), expected);
    }
}

#[test]
fn who_is_not_verified_has_nothing_looked_up() {
    let mut world = World::with(looking());
    world.distrusted = true;
    let stranger =
        End(Source::Datagram { listener: ListenerId(0), remote: "198.51.100.66:5060".parse().unwrap() });
    let text = from_phone("INVITE", "sip:200@10.0.1.50", "c", 1, "", &at("", "phone.example"));
    world.say(stranger, &text.replace("SIP/2.0/TLS", "SIP/2.0/UDP"));
    assert!(world.asked.is_empty());
}

#[test]
fn few_calls_of_a_phone_wait_at_once_and_few_messages_of_a_call() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    for n in 0..12 {
        invite(&mut world, phone, &format!("c{n}"), &format!("n{n}.example"));
    }
    assert_eq!(world.asked.len(), 8);
    assert_eq!(faults(&world), vec![NameFault::Busy; 4]);
    for _ in 0..4 {
        world.hear_start(own, "INVITE ");
    }
    world.silent(own);
    let dropped = |e: &Event| matches!(e, Event::Dropped { .. });
    let before = world.saw(dropped);
    for _ in 0..20 {
        invite(&mut world, phone, "c0", "n0.example");
    }
    assert_eq!(world.saw(dropped) - before, 12);
    world.wait(Duration::from_secs(3));
    for _ in 0..8 {
        world.hear_start(own, "INVITE ");
    }
    world.silent(own);
}

#[test]
fn several_names_of_one_description_are_all_found_and_no_more_than_four() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    let lines: String =
        (0..6).map(|n| format!("\nm=audio 40{n}0 RTP/AVP 0\nc=IN IP4 n{n}.example")).collect();
    let text = at("", "198.51.100.7") + &lines;
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &text));
    assert_eq!(world.asked.len(), 4);
    for _ in 0..4 {
        world.silent(own);
        world.answer_lookup(&["198.51.100.7"]);
    }
    let sent = world.hear_start(own, "INVITE ");
    assert_eq!(sent.matches("c=IN IP4 198.51.100.7\r\n").count(), 5, "{sent}");
    assert!(sent.contains("c=IN IP4 n5.example"), "{sent}");
}

#[test]
fn who_hangs_up_meanwhile_asks_no_more() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "phone.example");
    world.hang(phone);
    world.answer_lookup(&["198.51.100.7"]);
    world.silent(own);
    let back = world.phone(MAC_A, "198.51.100.7:40001");
    invite(&mut world, back, "d", "phone.example");
    assert_eq!(read(&world.hear_start(own, "INVITE ")), "IP4 198.51.100.7");
}

#[test]
fn turned_off_meanwhile_what_waits_goes_on() {
    let mut world = World::with(looking());
    let (phone, own, _) = phone(&mut world);
    invite(&mut world, phone, "c", "phone.example");
    world.command(Command::Reconfigure(Box::new(config())));
    let (query, _) = world.asked.pop().unwrap();
    world.resolved(query, Records::Missing, 60);
    assert_eq!(read(&world.hear_start(own, "INVITE ")), "IP4 phone.example");
}
