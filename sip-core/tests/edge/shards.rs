//! Several machines: phones on one, the PBX's connection on another.

use std::time::Duration;

use sip_core::edge::Event;
use sip_core::edge::bindings::Change;
use sip_core::edge::event::{Departure, DropCause, Reason};
use sip_core::flow::{ListenerId, Side, Source};
use sip_core::token::InstanceId;

use crate::register::{MAC_A, register, register_on};
use crate::script::{Call, from_pbx, sdp, target};
use crate::world::{End, World, between, config, identity, reply, row, rows};

/// A phone whose certificate belongs to a shard.
fn mac_on(world: &World, shard: u8) -> String {
    let mut macs = (0..).map(|n| format!("08000FE{n:05}"));
    macs.find(|mac| world.edge.shard().owner(&identity(mac).key_hash) == shard).unwrap()
}

/// So many machines, the PBX's connection on the last one, a phone on the one asked for.
fn site(count: usize, shard: u8) -> (World, End, End, End, String) {
    let mut world = World::sharded(config(), count);
    let mac = mac_on(&world, shard);
    let pbx = world.switch("10.0.1.50:33000");
    let phone = world.phone(&mac, "198.51.100.7:40000");
    let (line, token) = register_on(&mut world, phone, &mac, "192.168.1.7", 1);
    assert_eq!(pbx.0.flow().unwrap().shard(), u8::try_from(count - 1).unwrap());
    assert_eq!(phone.0.flow().unwrap().shard(), shard);
    (world, phone, line, pbx, token)
}

fn nothing_is_left(world: &mut World) {
    world.wait(Duration::from_secs(60));
    let left = world.edge.snapshot(world.now);
    assert_eq!((left.contexts, left.dialogs), (0, 0), "{}", world.story());
    let media = world.media.lock().unwrap();
    let count = |what: &str| media.iter().filter(|line| line.starts_with(what)).count();
    let sessions = media.iter().filter_map(|line| line.strip_prefix("Offer ")?.split(' ').next());
    let sessions: std::collections::BTreeSet<&str> = sessions.collect();
    assert_eq!(count("End"), sessions.len(), "{media:?}");
}

#[test]
fn a_call_of_the_pbx_crosses_to_the_shard_of_its_phone_and_either_side_ends_it() {
    for ends in ["BYE of the PBX", "BYE of the phone"] {
        let (mut world, phone, line, pbx, token) = site(2, 0);
        let before = world.edge.crossed;
        let call = Call::again(&mut world, "c1", phone, line, pbx, &token);
        assert_eq!(world.edge.crossed - before, 2, "INVITE and ACK");
        assert_eq!(world.edge.edges[0].snapshot(world.now).dialogs, 1);
        assert_eq!(world.edge.edges[1].snapshot(world.now).contexts, 0, "nothing stays where it only passes");
        if ends == "BYE of the PBX" {
            world.say(pbx, &call.of_pbx("BYE", 2, ""));
            let bye = world.hear_start(phone, "BYE ");
            world.say(phone, &reply(&bye, "200 OK", "", ""));
            world.hear_start(pbx, "SIP/2.0 200 ");
        } else {
            world.say(phone, &call.of_phone("BYE", 2, ""));
            let bye = world.hear_start(line, "BYE ");
            world.say(line, &reply(&bye, "200 OK", "", ""));
            world.hear_start(phone, "SIP/2.0 200 ");
        }
        assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { by: Some(_), .. })), 1);
        nothing_is_left(&mut world);
    }
}

#[test]
fn a_phone_on_the_shard_of_the_connection_needs_no_crossing() {
    let (mut world, phone, line, pbx, token) = site(2, 1);
    Call::again(&mut world, "c1", phone, line, pbx, &token);
    assert_eq!(world.edge.crossed, 0);
}

#[test]
fn an_answer_finds_the_shard_that_asked_wherever_it_arrives() {
    let mut world = World::sharded(config(), 2);
    let mac = mac_on(&world, 1);
    let phone = world.phone(&mac, "198.51.100.7:40000");
    world.say(phone, &register(&mac, "192.168.1.7", 1, ""));
    let line = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(line, "REGISTER ");
    // The switch answers from its socket, which is the first shard's.
    let socket = End(Source::Datagram { listener: ListenerId(1), remote: "10.0.1.50:5060".parse().unwrap() });
    world.say(socket, &reply(&text, "200 OK", "p1", &format!("Contact: {}", row(&text, "Contact"))));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(world.edge.crossed, 1);
}

#[test]
fn a_cancel_goes_where_its_invite_went_though_it_names_the_phone_no_more() {
    let (mut world, phone, _, pbx, _) = site(2, 0);
    let mac = mac_on(&world, 0);
    let instance = format!("Accept-Contact: *;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\"\n");
    // Nobody has this user: only the instance says who is meant.
    let uri = "sips:300@10.0.1.2:5061";
    world.say(pbx, &from_pbx("INVITE", uri, "c1", 1, "", &instance));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "180 Ringing", "a", ""));
    world.hear_start(pbx, "SIP/2.0 180 ");
    let branch = between(&from_pbx("INVITE", uri, "c1", 1, "", ""), "branch=", "\n").to_owned();
    let of_invite = |method: &str, tag: &str| {
        let text = from_pbx(method, uri, "c1", 1, tag, "");
        let own = between(&text, "branch=", "\n").to_owned();
        text.replace(&own, &branch)
    };
    world.say(pbx, &of_invite("CANCEL", ""));
    world.hear_start(pbx, "SIP/2.0 200 ");
    let cancel = world.hear_start(phone, "CANCEL ");
    world.say(phone, &reply(&cancel, "200 OK", "", ""));
    world.say(phone, &reply(&invite, "487 Request Terminated", "a", ""));
    world.hear_start(phone, "ACK ");
    let refused = world.hear_start(pbx, "SIP/2.0 487 ");
    let tag = between(row(&refused, "To"), "tag=", ";").to_owned();
    let dropped = world.saw(|e| matches!(e, Event::Dropped { .. }));
    world.say(pbx, &of_invite("ACK", &tag));
    assert_eq!(world.saw(|e| matches!(e, Event::Dropped { .. })), dropped, "the ACK found its transaction");
    nothing_is_left(&mut world);
}

/// Two phones that the PBX knows as 117, one on each shard, and its connection on the second.
fn twins() -> (World, [End; 2], End) {
    let mut world = World::sharded(config(), 2);
    let pbx = world.switch("10.0.1.50:33000");
    let phones = [0, 1].map(|shard| {
        let mac = mac_on(&world, shard);
        let phone = world.phone(&mac, &format!("198.51.100.7:4000{shard}"));
        let text = register(&mac, "192.168.1.7", 1, "").replace("sips:anonymous@", "sips:117@");
        world.say(phone, &text);
        let line = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(line, "REGISTER ");
        world.say(line, &reply(&text, "200 OK", "p1", &format!("Contact: {}", row(&text, "Contact"))));
        world.hear_start(phone, "SIP/2.0 200 ");
        phone
    });
    (world, phones, pbx)
}

#[test]
fn phones_of_one_user_ring_on_all_shards_and_one_gets_the_call() {
    for first in [0, 1] {
        let (mut world, phones, pbx) = twins();
        world.say(pbx, &from_pbx("INVITE", "sips:117@10.0.1.2:5061", "c1", 1, "", &sdp("")));
        let invites = phones.map(|phone| world.hear_start(phone, "INVITE "));
        assert!(invites.iter().all(|invite| row(invite, "Max-Forwards") == "69"), "{invites:?}");
        for (phone, invite) in phones.iter().zip(&invites) {
            world.say(*phone, &reply(invite, "180 Ringing", "r", ""));
            world.hear_start(pbx, "SIP/2.0 180 ");
        }
        let (answers, other) = (phones[first], phones[1 - first]);
        world.say(answers, &reply(&invites[first], "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
        let ok = world.hear_start(pbx, "SIP/2.0 200 ");
        assert_eq!(rows(&ok, "Via").len(), 1, "the PBX sees its own Via alone:\n{ok}");
        let cancel = world.hear_start(other, "CANCEL ");
        world.say(other, &reply(&cancel, "200 OK", "", ""));
        world.say(other, &reply(&invites[1 - first], "487 Request Terminated", "b", ""));
        world.hear_start(other, "ACK ");
        world.silent(pbx);
        // The rest of the call goes to the phone by itself.
        let route = format!("Route: {}\n", row(&ok, "Record-Route"));
        let contact = between(row(&ok, "Contact"), "<", ">").to_owned();
        world.say(pbx, &from_pbx("ACK", &contact, "c1", 1, "a", &route));
        world.hear_start(answers, "ACK ");
        // The phone is asked once more, though its answer came twice.
        world.say(answers, &reply(&invites[first], "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
        assert_eq!(world.hear_start(pbx, "SIP/2.0 200 "), ok);
        world.say(pbx, &from_pbx("BYE", &contact, "c1", 2, "a", &route));
        let bye = world.hear_start(answers, "BYE ");
        world.say(answers, &reply(&bye, "200 OK", "", ""));
        world.hear_start(pbx, "SIP/2.0 200 ");
        world.silent(other);
        nothing_is_left(&mut world);
    }
}

#[test]
fn a_fork_over_shards_that_all_refuse_gives_one_answer_and_a_cancel_ends_it_everywhere() {
    let (mut world, phones, pbx) = twins();
    world.say(pbx, &from_pbx("INVITE", "sips:117@10.0.1.2:5061", "c1", 1, "", ""));
    for (phone, status) in phones.iter().zip(["486 Busy Here", "603 Decline"]) {
        let invite = world.hear_start(*phone, "INVITE ");
        world.say(*phone, &reply(&invite, status, "a", ""));
        world.hear_start(*phone, "ACK ");
    }
    world.hear_start(pbx, "SIP/2.0 603 ");
    world.silent(pbx);

    let invite = from_pbx("INVITE", "sips:117@10.0.1.2:5061", "c2", 1, "", "");
    world.say(pbx, &invite);
    let invites = phones.map(|phone| world.hear_start(phone, "INVITE "));
    for (phone, invite) in phones.iter().zip(&invites) {
        world.say(*phone, &reply(invite, "180 Ringing", "r", ""));
        world.hear_start(pbx, "SIP/2.0 180 ");
    }
    let cancel = from_pbx("CANCEL", "sips:117@10.0.1.2:5061", "c2", 1, "", "");
    let cancel = cancel.replace("z9hG4bKc21CANCEL", "z9hG4bKc21INVITE");
    world.say(pbx, &cancel);
    world.hear_start(pbx, "SIP/2.0 200 ");
    for (phone, invite) in phones.iter().zip(&invites) {
        let cancel = world.hear_start(*phone, "CANCEL ");
        world.say(*phone, &reply(&cancel, "200 OK", "", ""));
        world.say(*phone, &reply(invite, "487 Request Terminated", "b", ""));
        world.hear_start(*phone, "ACK ");
    }
    world.hear_start(pbx, "SIP/2.0 487 ");
    nothing_is_left(&mut world);
}

#[test]
fn a_shard_that_takes_no_more_is_503_and_the_next_call_is_served() {
    let (mut world, phone, line, pbx, token) = site(2, 0);
    world.edge.full.insert(0);
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c1", 1, "", ""));
    let refused = world.hear_start(pbx, "SIP/2.0 503 ");
    let after: u64 = row(&refused, "Retry-After").parse().unwrap();
    assert!((10..=60).contains(&after));
    let limit = |e: &Event| matches!(e, Event::Refused { reason: Reason::Limit("shards"), .. });
    assert_eq!(world.saw(limit), 1);
    world.say(pbx, &from_pbx("ACK", &target(&token), "c2", 1, "a", ""));
    assert_eq!(world.saw(|e| matches!(e, Event::Dropped { cause: DropCause::Crossing, .. })), 1);
    world.silent(phone);
    world.edge.full.clear();
    let call = Call::again(&mut world, "c3", phone, line, pbx, &token);
    // An answer that finds no room is lost, and counted.
    world.say(pbx, &call.of_pbx("BYE", 2, ""));
    let bye = world.hear_start(phone, "BYE ");
    world.edge.full.insert(1);
    world.say(phone, &reply(&bye, "200 OK", "", ""));
    world.silent(pbx);
    assert_eq!(world.saw(|e| matches!(e, Event::Dropped { cause: DropCause::Crossing, .. })), 2);
    world.edge.full.clear();
    world.say(pbx, &call.of_pbx("BYE", 3, ""));
    let bye = world.hear_start(phone, "BYE ");
    world.say(phone, &reply(&bye, "481 Call/Transaction Does Not Exist", "", ""));
    world.hear_start(pbx, "SIP/2.0 481 ");
    nothing_is_left(&mut world);
}

#[test]
fn a_fork_does_without_a_shard_that_takes_no_more() {
    let (mut world, phones, pbx) = twins();
    world.edge.full.insert(0);
    world.say(pbx, &from_pbx("INVITE", "sips:117@10.0.1.2:5061", "c1", 1, "", ""));
    world.silent(phones[0]);
    let invite = world.hear_start(phones[1], "INVITE ");
    world.say(phones[1], &reply(&invite, "486 Busy Here", "a", ""));
    world.hear_start(phones[1], "ACK ");
    let answer = world.hear(pbx);
    assert!(answer.starts_with("SIP/2.0 480 ") || answer.starts_with("SIP/2.0 486 "), "{answer}");
    world.edge.full.clear();
    nothing_is_left(&mut world);
}

#[test]
fn what_overtakes_the_news_of_a_phone_is_asked_around() {
    for count in [2, 3] {
        let mut world = World::sharded(config(), count);
        let mac = mac_on(&world, 0);
        let phone = world.phone(&mac, "198.51.100.7:40000");
        // The PBX comes to the second shard; with three, the third is asked first.
        let pbx = (0..count - 1).map(|n| world.switch(&format!("10.0.1.50:3300{n}"))).last().unwrap();
        world.edge.late = true;
        world.say(phone, &register(&mac, "192.168.1.7", 1, ""));
        let line = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(line, "REGISTER ");
        let token = between(row(&text, "Contact"), "crt=", ">").to_owned();
        world.say(pbx, &from_pbx("NOTIFY", &target(&token), "n1", 1, "", "Event: x\n"));
        let notify = world.hear_start(phone, "NOTIFY ");
        world.say(phone, &reply(&notify, "200 OK", "a", ""));
        world.hear_start(pbx, "SIP/2.0 200 ");
        assert_eq!(world.edge.crossed, count - 1);
        // A token that nobody gave is nobody's, however many are asked.
        let forged = format!("{}a", &token[..token.len() - 1]);
        let forged = if forged == token { format!("{}b", &token[..token.len() - 1]) } else { forged };
        world.say(pbx, &from_pbx("NOTIFY", &target(&forged), "n2", 1, "", "Event: x\n"));
        world.hear_start(pbx, "SIP/2.0 404 ");
    }
}

#[test]
fn a_call_outlives_its_registration_on_another_shard() {
    let (mut world, phone, line, pbx, token) = site(3, 0);
    let call = Call::again(&mut world, "c1", phone, line, pbx, &token);
    world
        .say(phone, &register(&mac_on(&world, 0), "192.168.1.7", 2, "").replace("expires=3600", "expires=0"));
    let text = world.hear_start(line, "REGISTER ");
    world.say(line, &reply(&text, "200 OK", "p1", ""));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert!(world.edge.edges.iter().all(|edge| edge.bindings().is_empty()));
    // No table says any more whose the token was.
    world.say(pbx, &call.of_pbx("BYE", 2, ""));
    let bye = world.hear_start(phone, "BYE ");
    world.say(phone, &reply(&bye, "200 OK", "", ""));
    world.hear_start(pbx, "SIP/2.0 200 ");
    nothing_is_left(&mut world);
}

#[test]
fn an_answer_finds_another_way_when_the_connection_of_another_shard_is_gone() {
    let (mut world, phone, _, pbx, token) = site(2, 0);
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c1", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    // A PBX recycles idle connections while a phone rings (ruling 5).
    world.hang(pbx);
    world.say(phone, &reply(&invite, "486 Busy Here", "a", ""));
    world.hear_start(world.dialled("10.0.1.50:5061"), "SIP/2.0 486 ");
}

/// A phone registers the tag of another one, whose certificate is on the other shard.
fn claimed(world: &mut World, mac: &str, answers: bool) -> (End, End) {
    let old = world.phone(mac, "198.51.100.7:40000");
    register_on(world, old, mac, "192.168.1.7", 1);
    let other = mac_on(world, 1);
    let new = world.connect(Side::Outside, "198.51.100.9:40000", Some(identity(&other)), true);
    world.say(new, &register(mac, "192.168.1.7", 7, ""));
    let question = world.hear_start(old, "OPTIONS ");
    if answers {
        world.say(old, &reply(&question, "200 OK", "a", ""));
    } else {
        world.wait(Duration::from_secs(3));
    }
    (old, new)
}

#[test]
fn a_claimed_tag_is_asked_for_on_the_connection_of_the_other_shard() {
    let mut world = World::sharded(config(), 2);
    let mac = mac_on(&world, 0);
    let (old, new) = claimed(&mut world, &mac, true);
    world.hear_start(new, "SIP/2.0 403 ");
    assert!(world.stands(old));
    let id = InstanceId::new("farend", &mac);
    assert_eq!(world.edge.bindings().get(id).unwrap().path, Some(old.0));
}

#[test]
fn a_phone_that_is_gone_loses_its_tag_to_another_shard() {
    let mut world = World::sharded(config(), 2);
    let mac = mac_on(&world, 0);
    let (old, new) = claimed(&mut world, &mac, false);
    let line = world.dialled("10.0.1.50:5061");
    assert_eq!(line.0.flow().unwrap().shard(), 1, "the new shard's own");
    let text = world.hear_start(line, "REGISTER ");
    let contact = row(&text, "Contact").to_owned();
    world.say(line, &reply(&text, "200 OK", "p1", &format!("Contact: {contact}")));
    world.hear_start(new, "SIP/2.0 200 ");
    assert!(!world.stands(old), "{}", world.story());
    assert_eq!(world.open_dials(), 1, "the old shard's line is closed");
    let id = InstanceId::new("farend", &mac);
    let owned = |n: usize| world.edge.edges[n].bindings();
    assert!(!owned(0).is_ours(owned(0).get(id).unwrap()) && owned(1).is_ours(owned(1).get(id).unwrap()));
    assert_eq!(owned(0).get(id).unwrap().away, Some(new.0));
    // Calls follow it, wherever they arrive.
    let token = between(&contact, "crt=", ">").to_owned();
    for n in 0..2 {
        let pbx = world.switch(&format!("10.0.1.50:3400{n}"));
        world.say(pbx, &from_pbx("INVITE", &target(&token), &format!("c{n}"), 1, "", ""));
        world.hear_start(new, "INVITE ");
    }
}

#[test]
fn all_shards_know_all_phones_and_one_tells_of_each() {
    let (mut world, phone, ..) = site(3, 1);
    let id = InstanceId::new("farend", &mac_on(&world, 1));
    let connected = |world: &World| -> Vec<bool> {
        world.edge.edges.iter().map(|edge| edge.bindings().get(id).unwrap().is_connected()).collect()
    };
    assert_eq!(connected(&world), [true; 3]);
    world.hang(phone);
    assert_eq!(connected(&world), [false; 3]);
    let puts = |world: &World| world.saw(|e| matches!(e, Event::Location(Change::Put(_))));
    // The registration, and the user that was learnt with it.
    assert!((1..=2).contains(&puts(&world)), "{}", world.story());
    world.wait(Duration::from_secs(3700));
    assert!(world.edge.edges.iter().all(|edge| edge.bindings().is_empty()));
    assert_eq!(world.saw(|e| matches!(e, Event::Unregistered { cause: Departure::Expired, .. })), 1);
    assert_eq!(world.saw(|e| matches!(e, Event::Location(Change::Remove(_)))), 1);
}

#[test]
fn a_ceiling_holds_for_all_shards_together() {
    let mut config = config();
    config.limits.bindings = 2;
    let mut world = World::sharded(config, 2);
    for (shard, status) in [(0, "200"), (1, "200"), (1, "503")] {
        let mac = match status {
            "503" => MAC_A.to_owned(),
            _ => mac_on(&world, shard),
        };
        let phone = world.phone(&mac, &format!("198.51.100.{}:40000", 7 + shard));
        world.say(phone, &register(&mac, "192.168.1.7", 1, ""));
        if status == "200" {
            let line = world.dialled("10.0.1.50:5061");
            let text = world.hear_start(line, "REGISTER ");
            world.say(line, &reply(&text, "200 OK", "p1", &format!("Contact: {}", row(&text, "Contact"))));
        }
        world.hear_start(phone, &format!("SIP/2.0 {status} "));
    }
}

#[test]
fn a_restart_with_another_number_of_shards_finds_every_phone() {
    let (world, _, _, _, token) = site(3, 2);
    let mac = mac_on(&world, 2);
    let kept: Vec<Change> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Location(change @ Change::Put(_)) => Some(change.clone()),
            _ => None,
        })
        .collect();
    let mut world = World::sharded(config(), 2);
    for change in kept {
        world.command(sip_core::edge::Command::Locate(change));
    }
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c1", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 480 ");
    let phone = world.phone(&mac, "198.51.100.7:40001");
    register_on(&mut world, phone, &mac, "192.168.1.7", 9);
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c2", 1, "", ""));
    world.hear_start(phone, "INVITE ");
}

#[test]
fn an_address_that_one_shard_blocks_is_blocked_by_all() {
    let mut world = World::sharded(config(), 2);
    // From inside, whose connections are on all shards.
    let [one, two] = [1, 2].map(|n| world.connect(Side::Inside, &format!("10.0.1.49:{n}"), None, false));
    assert_eq!([one, two].map(|end| end.0.flow().unwrap().shard()), [1, 0]);
    // What scans says so at once.
    world.say(
        one,
        &register(MAC_A, "192.168.1.7", 1, "").replace("X-ShoreTel", "User-Agent: friendly-scanner\nX"),
    );
    assert!(!world.stands(one) && !world.stands(two), "{}", world.story());
}
