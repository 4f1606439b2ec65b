//! Finding a switch by name, going on to the next when one fails, and who gets nothing for a while.

use std::time::Duration;

use sip_core::edge::event::{Switch, Verdict, Why};
use sip_core::edge::{Command, Config, Event};
use sip_core::flow::Transport;
use sip_core::resolve::Server;
use sip_core::resolve::records::{Kind, Naptr, Records, Srv};

use crate::register::{MAC_A, MAC_B, register, registered};
use crate::script::{from_pbx, from_phone, sdp, target};
use crate::world::{End, World, config, reply, row};

const FIRST: &str = "10.0.1.51:5061";
const SECOND: &str = "10.0.1.52:5061";
const NAME: &str = "example.internal";

fn named() -> Config {
    let mut config = config();
    config.internal_domains = vec![NAME.to_owned()];
    config
}

/// Two switches behind one name, the first one preferred.
fn two_switches(config: Config) -> World {
    among(World::with(config))
}

fn among(mut world: World) -> World {
    srv(&mut world, "_sips._tcp.example.internal", &[(10, "a.example.internal"), (20, "b.example.internal")]);
    world.a("a.example.internal", &["10.0.1.51"]);
    world.a("b.example.internal", &["10.0.1.52"]);
    world
}

fn srv(world: &mut World, name: &str, targets: &[(u16, &str)]) {
    let srv = |&(priority, target): &(u16, &str)| Srv {
        priority,
        weight: 1,
        port: 5061,
        target: target.to_owned(),
    };
    let records = Records::Srv(targets.iter().map(srv).collect());
    world.zone.insert((Kind::Srv, name.to_owned()), (records, 60));
}

fn call(world: &mut World, phone: End, id: &str) {
    world.say(phone, &from_phone("INVITE", "sips:200@example.internal", id, 1, "", &sdp("")));
}

fn phone(world: &mut World) -> End {
    registered(world, MAC_A, "198.51.100.7:40000", "192.168.1.7").0
}

fn invited(world: &mut World, remote: &str) -> (End, String) {
    let end = world.dialled(remote);
    (end, world.hear_start(end, "INVITE "))
}

fn switch(remote: &str) -> Switch {
    Switch { remote: remote.parse().unwrap(), transport: Transport::Tls }
}

#[test]
fn the_first_call_waits_for_a_dead_switch_the_second_does_not_and_after_41_s_it_is_tried_again() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    call(&mut world, phone, "slow");
    let (first, _) = invited(&mut world, FIRST);
    world.wait(Duration::from_millis(3_999));
    assert!(world.dials.iter().all(|(dial, _)| dial.remote != SECOND.parse().unwrap()));
    world.wait(Duration::from_millis(1));
    let (second, invite) = invited(&mut world, SECOND);
    world.say(second, &reply(&invite, "486 Busy Here", "b", ""));
    world.hear_start(second, "ACK ");
    world.hear_start(phone, "SIP/2.0 100 ");
    world.hear_start(phone, "SIP/2.0 486 ");
    assert_eq!(world.saw(|e| matches!(e, Event::FailedOver { why: Why::Timeout, .. })), 1);
    // Of the first one no more is heard, and nothing more asked, until its time is over.
    world.wait(Duration::from_millis(40_999));
    call(&mut world, phone, "instant");
    let (_, invite) = invited(&mut world, SECOND);
    world.silent(first);
    world.say(second, &reply(&invite, "486 Busy Here", "b", ""));
    world.hear_start(phone, "SIP/2.0 486 ");
    world.wait(Duration::from_millis(1));
    call(&mut world, phone, "again");
    world.hear_start(first, "INVITE ");
}

#[test]
fn a_call_finds_the_second_within_5_s_and_both_may_still_answer() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    call(&mut world, phone, "c");
    let (first, slow) = invited(&mut world, FIRST);
    world.wait(Duration::from_secs(5));
    let (second, invite) = invited(&mut world, SECOND);
    world.say(second, &reply(&invite, "180 Ringing", "b", ""));
    world.hear_start(phone, "SIP/2.0 100 ");
    world.hear_start(phone, "SIP/2.0 180 ");
    world.say(first, &reply(&slow, "200 OK", "a", &sdp("Contact: <sips:200@10.0.1.51>\n")));
    world.hear_start(phone, "SIP/2.0 200 ");
    world.hear_start(second, "CANCEL ");
}

#[test]
fn a_switch_that_refuses_is_passed_over_at_once_and_the_next_time_not_even_dialled() {
    let mut world = two_switches(named());
    world.down.insert(FIRST.parse().unwrap());
    let phone = phone(&mut world);
    call(&mut world, phone, "c");
    invited(&mut world, SECOND);
    let judged = |e: &Event| *e == Event::Judged { switch: switch(FIRST), verdict: Verdict::Refused };
    assert_eq!(world.saw(judged), 1);
    world.down.clear();
    call(&mut world, phone, "d");
    invited(&mut world, SECOND);
    assert!(world.dials.iter().all(|(dial, _)| dial.remote != FIRST.parse().unwrap()));
    world.wait(Duration::from_secs(41));
    call(&mut world, phone, "e");
    invited(&mut world, FIRST);
}

#[test]
fn when_no_switch_is_left_it_is_503_at_once_with_retry_after_and_no_packet() {
    let mut world = two_switches(named());
    for remote in [FIRST, SECOND] {
        world.down.insert(remote.parse().unwrap());
    }
    let phone = phone(&mut world);
    let dials = world.dials.len();
    for id in ["c", "d"] {
        call(&mut world, phone, id);
        let answer = world.hear_start(phone, "SIP/2.0 503 ");
        let wait: u32 = row(&answer, "Retry-After").parse().unwrap();
        assert!((10..=60).contains(&wait), "{answer}");
        world.say(phone, &from_phone("ACK", "sips:200@example.internal", id, 1, "", ""));
    }
    world.down.clear();
    call(&mut world, phone, "e");
    world.hear_start(phone, "SIP/2.0 503 ");
    assert_eq!(world.dials.len(), dials, "the blacklist asks nobody");
    // The others are not concerned.
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "f", 1, "", &sdp("")));
    let other = world.dialled("10.0.1.50:5061");
    world.hear_start(other, "INVITE ");
}

#[test]
fn a_503_goes_on_to_the_next_and_other_answers_do_not() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    for method in ["INVITE", "MESSAGE"] {
        world.say(phone, &from_phone(method, "sips:200@example.internal", method, 1, "", ""));
        let first = world.dialled(FIRST);
        let request = world.hear_start(first, method);
        world.say(first, &reply(&request, "503 Service Unavailable", "a", "Retry-After: 5"));
        if method == "INVITE" {
            world.hear_start(first, "ACK ");
        }
        let second = world.dialled(SECOND);
        let request = world.hear_start(second, method);
        assert!(row(&request, "Via").starts_with("SIP/2.0/TLS 10.0.1.2:5061"), "{request}");
        world.say(second, &reply(&request, "603 Decline", "b", ""));
        world.hear_start(phone, "SIP/2.0 603 ");
        if method == "INVITE" {
            world.hear_start(second, "ACK ");
        }
    }
    // Both 503: that is the answer. A 503 is no silence, so the first is asked again.
    call(&mut world, phone, "c");
    for remote in [FIRST, SECOND] {
        let (end, invite) = invited(&mut world, remote);
        world.say(end, &reply(&invite, "503 Service Unavailable", "x", ""));
        world.hear_start(end, "ACK ");
    }
    world.hear_start(phone, "SIP/2.0 503 ");
    call(&mut world, phone, "d");
    let (first, invite) = invited(&mut world, FIRST);
    world.say(first, &reply(&invite, "500 Oops", "x", ""));
    world.hear_start(phone, "SIP/2.0 500 ");
    let second = world.dialled(SECOND);
    world.silent(second);
}

#[test]
fn a_cancelled_call_goes_nowhere_else() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    call(&mut world, phone, "c");
    let (first, invite) = invited(&mut world, FIRST);
    let cancel = from_phone("CANCEL", "sips:200@example.internal", "c", 1, "", "");
    world.say(phone, &cancel.replace("c1CANCEL", "c1INVITE"));
    world.hear_start(phone, "SIP/2.0 200 ");
    world.say(first, &reply(&invite, "503 Service Unavailable", "a", ""));
    world.wait(Duration::from_secs(60));
    world.hear_start(phone, "SIP/2.0 503 ");
    assert!(world.dials.iter().all(|(dial, _)| dial.remote != SECOND.parse().unwrap()));
}

#[test]
fn a_registration_goes_on_to_the_next_and_the_binding_knows_who_took_it() {
    let mut world = two_switches(named());
    world.down.insert(FIRST.parse().unwrap());
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &crate::register::register_to(NAME, MAC_A, "192.168.1.7", 1, ""));
    let second = world.dialled(SECOND);
    let request = world.hear_start(second, "REGISTER ");
    let contact = format!("Contact: {};expires=60", row(&request, "Contact"));
    world.say(second, &reply(&request, "200 OK", "r", &contact));
    world.hear_start(phone, "SIP/2.0 200 ");
    // Our own name means the switch that holds the binding.
    world.say(phone, &from_phone("INVITE", "sips:200@192.0.2.1", "c", 1, "", &sdp("")));
    world.hear_start(second, "INVITE ");
}

#[test]
fn naptr_chooses_among_the_transports_of_the_inside_and_never_takes_tls_away() {
    let naptr = |order, services: &str, to: &str| Naptr {
        order,
        preference: 1,
        flags: "s".into(),
        services: services.into(),
        regexp: String::new(),
        replacement: to.into(),
    };
    let records = Records::Naptr(vec![
        naptr(1, "SIP+D2T", "_sip._tcp.example.internal"),
        naptr(2, "SIP+D2U", "_sip._udp.example.internal"),
    ]);
    for (inside, uri, expected) in [
        (Transport::Udp, "sip:200@example.internal", Transport::Tcp),
        (Transport::Udp, "sip:200@example.internal;transport=udp", Transport::Udp),
        (Transport::Tls, "sip:200@example.internal", Transport::Tls),
        (Transport::Udp, "sips:200@example.internal", Transport::Tls),
    ] {
        let mut config = named();
        config.switches.transport = inside;
        let mut world = two_switches(config);
        world.zone.insert((Kind::Naptr, NAME.to_owned()), (records.clone(), 60));
        srv(&mut world, "_sip._tcp.example.internal", &[(1, "a.example.internal")]);
        srv(&mut world, "_sip._udp.example.internal", &[(1, "a.example.internal")]);
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        world.say(phone, &from_phone("INVITE", uri, "c", 1, "", &sdp("")));
        assert_eq!(world.dials.last().unwrap().0.transport, expected, "{inside:?} {uri}");
    }
}

#[test]
fn hostile_answers_send_nothing_anywhere() {
    let outside = ["10.0.1.51", "203.0.113.9"];
    let own = ["10.0.1.2"];
    let mapped = ["::ffff:203.0.113.9"];
    for addresses in [&outside[..], &own[..], &mapped[..]] {
        let mut world = two_switches(named());
        world.a("b.example.internal", addresses);
        let phone = phone(&mut world);
        let dials = world.dials.len();
        call(&mut world, phone, "c");
        world.hear_start(phone, "SIP/2.0 403 ");
        assert_eq!(world.dials.len(), dials, "{addresses:?}");
    }
    // SRV that leads elsewhere, to nothing, to itself, or that is no SRV.
    for targets in [&["evil.test"][..], &["."], &["_sips._tcp.example.internal"]] {
        let mut world = two_switches(named());
        let targets: Vec<(u16, &str)> = targets.iter().map(|target| (1, *target)).collect();
        srv(&mut world, "_sips._tcp.example.internal", &targets);
        let phone = phone(&mut world);
        call(&mut world, phone, "c");
        world.hear_start(phone, "SIP/2.0 503 ");
        assert!(world.asked.iter().all(|(_, question)| !question.name.contains("evil")));
    }
    // What is under no internal domain is not even asked for.
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    world.say(phone, &from_phone("INVITE", "sips:200@evil.test", "c", 1, "", &sdp("")));
    world.hear_start(phone, "SIP/2.0 403 ");
    assert!(world.asked.is_empty());
}

#[test]
fn a_server_row_may_name_its_switches() {
    let mut config = config();
    config.servers = vec![Server {
        name: "main".into(),
        matches: vec!["sip.example.com".into()],
        lookup: Some((NAME.to_owned(), None)),
        ..Default::default()
    }];
    let mut world = two_switches(config);
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &from_phone("INVITE", "sips:200@sip.example.com", "c", 1, "", &sdp("")));
    invited(&mut world, FIRST);
    // Our own name, without a registration: the first row.
    world.say(phone, &from_phone("OPTIONS", "sips:200@192.0.2.1", "d", 1, "", ""));
    let first = world.dialled(FIRST);
    world.hear_start(first, "OPTIONS sips:200@example.internal ");
}

#[test]
fn what_was_looked_up_is_not_asked_again_for_every_request() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    for id in 0..20 {
        let id = format!("m{id}");
        world.say(phone, &from_phone("MESSAGE", "sips:200@example.internal", &id, 1, "", ""));
    }
    assert_eq!(world.asked.len(), 4, "{:?}", world.asked);
}

#[test]
fn weights_share_the_calls_between_two_switches() {
    let mut world = two_switches(named());
    let records = [(30, "a.example.internal"), (10, "b.example.internal")].map(|(weight, target)| Srv {
        priority: 1,
        weight,
        port: 5061,
        target: target.to_owned(),
    });
    world
        .zone
        .insert((Kind::Srv, "_sips._tcp.example.internal".into()), (Records::Srv(records.into()), 3600));
    let phone = phone(&mut world);
    let mut first = 0;
    for id in 0..400 {
        let id = format!("m{id}");
        world.say(phone, &from_phone("MESSAGE", "sips:200@example.internal", &id, 1, "", ""));
        world.wait(Duration::from_millis(20));
        let asked = world.wire.iter().rev().find(|line| line.starts_with(">> 10.0.1.5")).unwrap();
        let remote = if asked.starts_with(">> 10.0.1.51") { FIRST } else { SECOND };
        first += u32::from(remote == FIRST);
        let end = world.dialled(remote);
        let request = world.hear_start(end, "MESSAGE ");
        world.say(end, &reply(&request, "200 OK", "m", ""));
        world.hear_start(phone, "SIP/2.0 200 ");
    }
    assert!((270..=330).contains(&first), "{first} of 400");
}

#[test]
fn zero_turns_the_blacklist_off() {
    let mut config = named();
    config.blacklist = Duration::ZERO;
    let mut world = two_switches(config);
    world.down.insert(FIRST.parse().unwrap());
    let phone = phone(&mut world);
    call(&mut world, phone, "c");
    invited(&mut world, SECOND);
    world.down.clear();
    call(&mut world, phone, "d");
    invited(&mut world, FIRST);
}

#[test]
fn what_another_shard_found_out_counts_here_too() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    world.command(Command::Judge(switch(FIRST), Verdict::Down));
    assert_eq!(world.saw(|e| matches!(e, Event::Judged { .. })), 0, "it is not told again");
    world.wait(Duration::from_secs(100));
    call(&mut world, phone, "c");
    invited(&mut world, SECOND);
    world.command(Command::Judge(switch(FIRST), Verdict::Up));
    call(&mut world, phone, "d");
    invited(&mut world, FIRST);
}

#[test]
fn a_phone_is_never_blacklisted() {
    let mut world = two_switches(named());
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    for id in ["a", "b", "c"] {
        world.say(
            pbx,
            &from_pbx("NOTIFY", &target(&token), id, 1, "", "Event: x\nSubscription-State: active"),
        );
        world.hear_start(phone, "NOTIFY ");
        world.wait(Duration::from_secs(33));
        world.hear_start(pbx, "SIP/2.0 408 ");
    }
    assert_eq!(world.saw(|e| matches!(e, Event::Judged { .. })), 0);
}

#[test]
fn a_dead_switch_in_the_middle_of_a_call_does_not_hold_up_others() {
    let mut world = two_switches(named());
    let phone = phone(&mut world);
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.51", "half-open", 1, "", &sdp("")));
    invited(&mut world, FIRST);
    world.wait(Duration::from_secs(33));
    world.hear_start(phone, "SIP/2.0 100 ");
    world.hear_start(phone, "SIP/2.0 408 ");
    let before = world.now;
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.51", "again", 1, "", &sdp("")));
    world.hear_start(phone, "SIP/2.0 503 ");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.52", "other", 1, "", &sdp("")));
    invited(&mut world, SECOND);
    assert_eq!(world.now, before);
}

#[test]
fn a_request_that_the_switch_leaves_unanswered_costs_nobody_else_the_switch() {
    // What a shard heard of a switch is its own.
    let mut world = among(World::sharded(named(), 1));
    let phone = phone(&mut world);
    let (other, line, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    for (n, method) in ["MESSAGE", "INVITE"].into_iter().enumerate() {
        world.say(phone, &from_phone(method, "sips:200@10.0.1.50", &format!("odd{n}"), 1, "", ""));
        world.wait(Duration::from_secs(20));
        // The switch lives: it answers others, also by other connections.
        let ask = |n: &str| from_phone("OPTIONS", "sips:x@10.0.1.50", n, 1, "", "");
        world.say(other, &ask(&format!("a{n}")));
        let asked = world.hear_start(line, "OPTIONS ");
        world.say(line, &reply(&asked, "200 OK", "t", ""));
        world.hear_start(other, "SIP/2.0 200 ");
        world.wait(Duration::from_secs(20));
        assert_eq!(world.saw(|e| matches!(e, Event::Judged { .. })), 0, "{method}");
        world.say(other, &ask(&format!("b{n}")));
        let asked = world.hear_start(line, "OPTIONS ");
        world.say(line, &reply(&asked, "200 OK", "t", ""));
        world.hear_start(other, "SIP/2.0 200 ");
    }
    // It falls silent for everybody.
    world.say(phone, &from_phone("MESSAGE", "sips:200@10.0.1.50", "dead", 1, "", ""));
    world.wait(Duration::from_secs(40));
    assert_eq!(world.saw(|e| matches!(e, Event::Judged { verdict: Verdict::Silent, .. })), 1);
}

#[test]
fn a_connection_that_a_living_switch_refuses_is_only_one_connection() {
    // What a shard heard of a switch is its own.
    let mut world = among(World::sharded(named(), 1));
    let (first, line, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    // Its queue is full: the next phone's own line is refused.
    world.down.insert("10.0.1.50:5061".parse().unwrap());
    let other = world.phone(MAC_B, "198.51.100.8:40000");
    world.say(other, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    world.hear_start(other, "SIP/2.0 503 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Judged { .. })), 0);
    world.say(first, &from_phone("OPTIONS", "sips:x@10.0.1.50", "p", 1, "", ""));
    world.hear_start(line, "OPTIONS ");
    // Nothing was heard of it for a while: now it counts.
    world.wait(Duration::from_secs(20));
    world.say(other, &from_phone("OPTIONS", "sips:x@10.0.1.50", "q", 1, "", ""));
    world.hear_start(other, "SIP/2.0 503 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Judged { verdict: Verdict::Refused, .. })), 1);
}

#[test]
fn one_refused_dial_is_no_verdict_while_others_to_the_same_switch_stand_up() {
    for (pause, verdicts) in [(1, 0), (5, 1)] {
        let mut world = World::sharded(named(), 1);
        let phone = phone(&mut world);
        let pbx = "10.0.1.50:5061";
        let refused = |e: &Event| matches!(e, Event::Judged { verdict: Verdict::Refused, .. });
        world.wait(Duration::from_secs(pause));
        world.down.insert(pbx.parse().unwrap());
        // The second phone's own connection fails, the first one's stands.
        let other = world.phone(MAC_B, "198.51.100.8:40000");
        world.say(other, &register(MAC_B, "192.168.1.8", 1, ""));
        world.hear_start(other, "SIP/2.0 503 ");
        assert_eq!(world.saw(refused), verdicts);
        world.say(phone, &from_phone("OPTIONS", "sips:200@10.0.1.50", "o", 1, "", ""));
        if verdicts == 0 {
            let own = world.dialled(pbx);
            world.hear_start(own, "OPTIONS ");
        } else {
            world.hear_start(phone, "SIP/2.0 503 ");
        }
    }
}
