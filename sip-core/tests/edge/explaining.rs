//! What an explanation says, and that it does nothing.

use sip_core::edge::Event;
use sip_core::edge::event::Reason;
use sip_core::edge::explain::{Question, Trace, Verdict};
use sip_core::message::{Limits, Message};
use sip_core::token::InstanceId;

use crate::register::{MAC_A, MAC_B, registered};
use crate::script::{Call, from_pbx, from_phone, target};
use crate::world::{End, World, config, wire};

/// The explanation of a text that comes by that connection. The world must not notice.
fn explain(world: &World, end: End, text: &str) -> Trace {
    let message = Message::parse(wire(text), &Limits::default()).expect("a good message");
    let question =
        Question { peer: world.peer(end), source: Some(end.0), line: None, connected: false, message };
    let before = world.edge.edges[0].snapshot(world.now);
    let trace = world.edge.edges[0].explain(world.now, question);
    assert_eq!(world.edge.edges[0].snapshot(world.now), before);
    trace
}

/// What decided, and what was looked at before in vain.
fn decision(trace: &Trace) -> (&'static str, Vec<&'static str>) {
    let at = |verdict| trace.looks.iter().filter(move |l| l.verdict == verdict).map(|l| l.at);
    (at(Verdict::Hit).next().unwrap_or("nothing"), at(Verdict::Miss).collect())
}

#[test]
fn each_resolution_step_is_shown_as_the_one_that_won() {
    let mut world = World::sharded(config(), 1);
    let call = Call::from_pbx(&mut world, "c");
    let b = registered(&mut world, MAC_B, "198.51.100.9:40000", "192.168.1.9");
    let pbx = world.switch("10.0.1.50:33000");
    let instance = format!("*;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{MAC_B}>\"");
    let ours = "sips:anonymous@10.0.1.2:5061";
    let (zero, one, two) = ("0 dialog", "1 route", "2 contact token");
    let (three, four) = ("3 instance", "4 own connection");

    let trace = explain(&world, pbx, &call.of_pbx("INFO", 5, ""));
    assert_eq!(decision(&trace), (zero, vec![]));
    let trace = explain(&world, pbx, &from_pbx("NOTIFY", &target(&b.2), "n", 1, "", ""));
    assert_eq!(decision(&trace), (two, vec![zero, one]));
    let row = format!("Accept-Contact: {instance};explicit");
    let trace = explain(&world, pbx, &from_pbx("NOTIFY", ours, "n", 1, "", &row));
    assert_eq!(decision(&trace), (three, vec![zero, one, two]));
    let trace = explain(&world, b.1, &from_pbx("UPDATE", ours, "n", 1, "", ""));
    assert_eq!(decision(&trace), (four, vec![zero, one, two, three]));
    let text = trace.to_string();
    assert!(text.contains("Resolved by step 4"), "{text}");
    assert!(text.contains(&format!("Would send to the phone {MAC_B} (user anonymous):\n  - UPDATE sips:anonymous@10.0.1.2:5061 SIP/2.0\n")), "{text}");
    assert!(text.contains("  + UPDATE sips:anonymous@192.168.1.9 SIP/2.0\n"), "{text}");
    // What it says is what happens.
    world.say(b.1, &from_pbx("UPDATE", ours, "n", 1, "", ""));
    world.hear_start(b.0, "UPDATE sips:anonymous@192.168.1.9 SIP/2.0");
}

#[test]
fn the_flow_token_and_the_user_are_shown_too() {
    let mut world = World::sharded(config(), 1);
    let (a, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(a, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    let options = world.hear_start(own, "OPTIONS ");
    world.say(own, &crate::world::reply(&options, "200 OK", "t", "X: 1"));
    world.hear_start(a, "SIP/2.0 200 ");
    // The phone has called as 117 by now.
    let trace = explain(&world, pbx, &from_pbx("INVITE", "sips:117@10.0.1.2:5061", "n7", 1, "", ""));
    assert_eq!(decision(&trace).0, "5 user");
    assert_eq!(decision(&trace).1.len(), 5);
    world.say(a, &from_phone("INVITE", "sips:200@10.0.1.50", "i", 1, "", ""));
    let invite = world.hear_start(own, "INVITE ");
    let route = crate::world::row(&invite, "Record-Route").to_owned();
    let trace =
        explain(&world, pbx, &from_pbx("NOTIFY", "sips:x@10.0.1.2", "n", 1, "", &format!("Route: {route}")));
    assert_eq!(decision(&trace), ("1 route", vec!["0 dialog"]));
}

#[test]
fn refusals_say_where_the_message_ended() {
    let mut world = World::sharded(config(), 1);
    let (a, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let ours = "sips:404@10.0.1.2:5061";
    let forged = target("aeaxagiccoeuv64laavcwtrbbtbqrohvko7a");
    for (end, text, at, status) in [
        (pbx, from_pbx("INVITE", ours, "n", 1, "", ""), "5 user", 404),
        (pbx, from_pbx("NOTIFY", &forged, "n", 1, "", ""), "2 contact token", 404),
        (pbx, from_pbx("BYE", ours, "n", 2, "x", ""), "in-dialog", 481),
        (a, from_phone("BYE", "sips:x@10.0.1.50", "n", 2, "x", ""), "in-dialog", 481),
        (a, from_phone("INVITE", "sips:x@evil.test", "n", 1, "", ""), "destination", 403),
        (
            a,
            from_phone("INVITE", "sips:x@10.0.1.50", "n", 1, "", "").replace("CSeq: 1", "CSeq: x"),
            "validation",
            400,
        ),
    ] {
        let trace = explain(&world, end, &text);
        let last = trace.looks.last().map(|look| (look.at, look.verdict));
        assert_eq!(last, Some((at, Verdict::Refused)), "{trace}");
        let refused = trace.events.iter().find_map(|event| match event {
            Event::Refused { status, .. } => *status,
            _ => None,
        });
        assert_eq!(refused, Some(status), "{trace}");
        assert!(
            trace.leaving.iter().all(|l| l.bytes.starts_with(format!("SIP/2.0 {status} ").as_bytes())),
            "{trace}"
        );
    }
    let mut stranger = world.peer(a);
    stranger.verified = false;
    let message =
        Message::parse(wire(&from_phone("OPTIONS", "sips:x@10.0.1.50", "n", 1, "", "")), &Limits::default());
    let question = Question {
        peer: stranger,
        source: None,
        line: None,
        connected: true,
        message: message.expect("good"),
    };
    let trace = world.edge.edges[0].explain(world.now, question);
    assert!(
        trace.events.iter().any(|e| matches!(e, Event::Refused { reason: Reason::Unverified, .. })),
        "{trace}"
    );
}

#[test]
fn phones_that_are_gone_are_480_unless_they_are_taken_as_connected() {
    let mut world = World::sharded(config(), 1);
    let (a, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.hang(a);
    let text = from_pbx("NOTIFY", &target(&token), "n", 1, "", "");
    let gone = explain(&world, pbx, &text);
    assert_eq!(gone.looks.last().map(|l| (l.at, l.verdict)), Some(("connection", Verdict::Refused)));
    let message = Message::parse(wire(&text), &Limits::default()).expect("good");
    let peer = world.peer(pbx);
    let line = Some(InstanceId::new("farend", MAC_A));
    let question = Question { peer, source: None, line, connected: true, message };
    let there = world.edge.edges[0].explain(world.now, question);
    assert!(there.to_string().contains(&format!("Would send to the phone {MAC_A}")), "{there}");
}

#[test]
fn a_register_shows_its_tag_and_what_the_pbx_would_see() {
    let mut world = World::sharded(config(), 1);
    registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let b = world.phone(MAC_B, "198.51.100.9:40000");
    let trace = explain(&world, b, &crate::register::register(MAC_B, "192.168.1.9", 1, ""));
    let text = trace.to_string();
    assert!(text.contains(&format!("tag {MAC_B}")), "{text}");
    assert!(text.contains("Would send to the switch 10.0.1.50:5061 over TLS"), "{text}");
    assert!(text.contains("  - Contact: <sips:anonymous@192.168.1.9>"), "{text}");
    assert!(text.contains("  + Contact: <sips:anonymous@10.0.1.2:5061;transport=tls;crt="), "{text}");
    world.silent(b);
}
