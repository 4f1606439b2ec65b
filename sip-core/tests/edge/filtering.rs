//! Which requests are served: rules by sender, preloaded Routes, From and To, content types, methods, header rules.

use sip_core::edge::config::{Policy, PreloadedRoutes};
use sip_core::edge::event::Reason;
use sip_core::edge::filter::{Filters, Glob, HeaderFilter, PHONE_CONTENT_TYPES, PreloadedRule, SenderRule};
use sip_core::edge::manipulate::{HeaderAction, HeaderRule, HeaderRuleError};
use sip_core::edge::{Config, Event};
use sip_core::message::Name;
use sip_core::resolve::Networks;

use crate::register::{MAC_A, MAC_B, registered};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::switches::nets;
use crate::world::{World, config, reply, row, rows};

const PBX_URI: &str = "sips:200@10.0.1.50";

fn with(change: impl FnOnce(&mut Filters)) -> Config {
    let mut config = config();
    change(&mut config.filters);
    config
}

fn networks(net: &str) -> Networks {
    std::iter::once(net.parse().unwrap()).collect()
}

fn refused(world: &World, wanted: &Reason) -> usize {
    world.saw(|e| matches!(e, Event::Refused { reason, .. } if reason == wanted))
}

#[test]
fn preloaded_routes_are_judged_by_who_brings_them() {
    let rule = |net: &str, action| PreloadedRule { from: networks(net), action };
    let mut config = with(|filters| {
        filters.preloaded_routes = vec![
            rule("198.51.100.8/32", PreloadedRoutes::Remove),
            rule("198.51.100.8/31", PreloadedRoutes::Allow),
        ];
    });
    config.preloaded_routes = PreloadedRoutes::Reject;
    let mut world = World::with(config);
    let route = "Route: <sips:10.0.1.52;lr>";
    let (other, _, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(other, &from_phone("INVITE", PBX_URI, "a", 1, "", route));
    world.hear_start(other, "SIP/2.0 403 ");
    assert_eq!(refused(&world, &Reason::PreloadedRoute), 1);
    // The first rule that matches decides.
    let (removed, own, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    world.say(removed, &from_phone("INVITE", PBX_URI, "b", 1, "", route));
    assert!(rows(&world.hear_start(own, "INVITE "), "Route").is_empty());
    let (allowed, _, _) = registered(&mut world, "08000FD4CBC1", "198.51.100.9:40000", "192.168.1.9");
    world.say(allowed, &from_phone("INVITE", PBX_URI, "c", 1, "", route));
    let end = world.dialled("10.0.1.52:5061");
    assert_eq!(rows(&world.hear_start(end, "INVITE "), "Route"), ["<sips:10.0.1.52;lr>"]);
    // Allowed is what leads inside; nothing ever goes elsewhere (S8).
    world.say(allowed, &from_phone("INVITE", PBX_URI, "d", 1, "", "Route: <sip:evil.example;lr>"));
    world.hear_start(allowed, "SIP/2.0 403 ");
    assert!(
        world.asked.is_empty()
            && world.dials.iter().all(|(dial, _)| dial.remote.ip().to_string().starts_with("10.0.1.5"))
    );
}

#[test]
fn a_preloaded_route_to_nowhere_is_taken_out_for_teleworkers_and_refused_by_default() {
    for (action, passes) in [(PreloadedRoutes::Remove, true), (PreloadedRoutes::Reject, false)] {
        let mut config = config();
        config.preloaded_routes = action;
        let mut world = World::with(config);
        let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
        world.say(phone, &from_phone("INVITE", PBX_URI, "a", 1, "", "Route: <sip:evil.example;lr>"));
        if passes {
            assert!(rows(&world.hear_start(own, "INVITE "), "Route").is_empty());
        } else {
            world.hear_start(phone, "SIP/2.0 403 ");
        }
        assert!(world.asked.is_empty());
    }
}

#[test]
fn senders_are_judged_by_the_first_rule_of_their_network() {
    let rule = |net: &str, policy| SenderRule { from: networks(net), policy };
    let mut world = World::with(with(|filters| {
        filters.senders = vec![
            rule("198.51.100.7/32", Policy::LocalOnly),
            rule("198.51.100.0/29", Policy::RejectAll),
            rule("10.0.1.51/32", Policy::RejectAll),
        ];
    }));
    // One net gets 403, others pass.
    let bad = world.phone(MAC_B, "198.51.100.6:40000");
    world.say(bad, &from_phone("REGISTER", "sips:10.0.1.50", "r", 1, "", ""));
    world.hear_start(bad, "SIP/2.0 403 ");
    assert_eq!(refused(&world, &Reason::Policy), 1);
    let (_, own, token) = registered(&mut world, MAC_B, "198.51.100.9:40000", "192.168.1.9");
    // Local only: what names us, not what names a place behind us.
    let local = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(local, &from_phone("OPTIONS", PBX_URI, "o", 1, "", ""));
    world.hear_start(local, "SIP/2.0 403 ");
    world.say(local, &from_phone("OPTIONS", "sips:192.0.2.1", "o", 2, "", ""));
    world.hear_start(local, "SIP/2.0 200 ");
    // Rules hold on the inside too.
    let pbx = world.switch("10.0.1.51:33000");
    world.say(pbx, &from_pbx("MESSAGE", &target(&token), "m", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 403 ");
    world.silent(own);
}

#[test]
fn the_default_for_senders_is_for_the_outside() {
    for (policy, passes) in
        [(Policy::ProcessAll, true), (Policy::LocalOnly, false), (Policy::RejectAll, false)]
    {
        let mut world = World::new();
        let call = Call::from_pbx(&mut world, "c");
        let mut config = config();
        config.default_policy = policy;
        world.command(sip_core::edge::Command::Reconfigure(Box::new(config)));
        world.say(call.phone, &from_phone("OPTIONS", PBX_URI, "o", 1, "", ""));
        if passes {
            world.hear_start(call.own, "OPTIONS ");
        } else {
            world.hear_start(call.phone, "SIP/2.0 403 ");
        }
        world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
        world.hear_start(call.phone, "INFO ");
    }
}

#[test]
fn from_and_to_are_judged_by_globs() {
    let glob = |text: &str| Glob::new(text).unwrap();
    let mut world = World::with(with(|filters| {
        filters.headers = vec![
            HeaderFilter { from: glob("sips:117@*"), to: glob("sips:?11@*"), allow: true },
            HeaderFilter { from: glob("*"), to: glob("sip*:9*@10.0.1.50"), allow: false },
            HeaderFilter { from: glob("*:666@*"), to: glob("*"), allow: false },
        ];
    }));
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for (n, (to, passes)) in
        [("200", true), ("911", true), ("900", false), ("9", false), ("0900", true)].iter().enumerate()
    {
        let text = from_phone("INVITE", &format!("sips:{to}@10.0.1.50"), &format!("c{n}"), 1, "", "");
        world.say(phone, &text.replace("sips:200@10.0.1.50>", &format!("sips:{to}@10.0.1.50>")));
        if *passes {
            world.hear_start(own, "INVITE ");
        } else {
            world.hear_start(phone, "SIP/2.0 403 ");
        }
    }
    assert_eq!(refused(&world, &Reason::Filtered(Name::From)), 2);
    let pbx = world.switch("10.0.1.50:33000");
    let text = from_pbx("MESSAGE", &target(&token), "m", 1, "", "");
    world.say(pbx, &text.replace("sips:200@", "sips:666@"));
    world.hear_start(pbx, "SIP/2.0 403 ");
}

#[test]
fn content_types_that_are_not_listed_are_415() {
    let listed = PHONE_CONTENT_TYPES.iter().map(|name| (*name).to_owned()).collect();
    let mut world = World::with(with(|filters| filters.content_types = listed));
    let call = Call::from_pbx(&mut world, "c");
    let more = |kind: &str| format!("Event: x\nSubscription-State: active\nContent-Type: {kind}\n\nbody");
    for (n, kind) in [
        "application/csta+xml",
        "Application/VQ-rtcpxr",
        "message/sipfrag;version=2.0",
        "multipart/mixed;boundary=x",
    ]
    .iter()
    .enumerate()
    {
        world.say(call.pbx, &from_pbx("NOTIFY", &target(&call.token), &format!("n{n}"), 1, "", &more(kind)));
        world.hear_start(call.phone, "NOTIFY ");
    }
    world.say(call.pbx, &from_pbx("NOTIFY", &target(&call.token), "x", 1, "", &more("text/html")));
    let answer = world.hear_start(call.pbx, "SIP/2.0 415 Unsupported Media Type");
    assert!(row(&answer, "Accept").starts_with("application/sdp, application/csta+xml, "));
    world.say(call.phone, &from_phone("MESSAGE", PBX_URI, "y", 1, "", "Subject: x\n\nno type at all"));
    world.hear_start(call.phone, "SIP/2.0 415 ");
    assert_eq!(refused(&world, &Reason::Filtered(Name::ContentType)), 2);
    // A request without a body has no type.
    world.say(call.phone, &from_phone("MESSAGE", PBX_URI, "z", 1, "", ""));
    world.hear_start(call.own, "MESSAGE ");
    // Without a list everything passes.
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.pbx, &from_pbx("NOTIFY", &target(&call.token), "x", 1, "", &more("text/html")));
    world.hear_start(call.phone, "NOTIFY ");
}

#[test]
fn methods_that_are_not_listed_are_405() {
    let listed = ["REGISTER", "INVITE", "ACK", "BYE", "CANCEL"].map(str::to_owned).to_vec();
    let mut world = World::with(with(|filters| filters.methods = listed));
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.phone, &from_phone("MESSAGE", PBX_URI, "m", 1, "", ""));
    let answer = world.hear_start(call.phone, "SIP/2.0 405 Method Not Allowed");
    assert_eq!(row(&answer, "Allow"), "REGISTER, INVITE, ACK, BYE, CANCEL");
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    world.hear_start(call.pbx, "SIP/2.0 405 ");
    world.say(call.pbx, &call.of_pbx("BYE", 3, ""));
    world.hear_start(call.phone, "BYE ");
}

fn rule(header: &str, action: HeaderAction) -> HeaderRule {
    HeaderRule {
        towards: None,
        requests: true,
        responses: true,
        when: None,
        header: header.to_owned(),
        action,
    }
}

#[test]
fn header_rules_set_add_and_remove_per_peer_in_order() {
    let set = |value: &str| HeaderAction::Set(value.to_owned());
    let add = |value: &str| HeaderAction::Add(value.to_owned());
    let switch = Some(nets(&["10.0.1.50/32"]));
    let mut world = World::with(with(|filters| {
        filters.header_rules = vec![
            HeaderRule { towards: switch.clone(), ..rule("X-Site", set("7")) },
            HeaderRule { towards: Some(nets(&["10.0.1.51/32"])), ..rule("X-Site", set("8")) },
            HeaderRule { requests: false, ..rule("Server", HeaderAction::Remove) },
            HeaderRule {
                when: Some(("s".to_owned(), Glob::new("urgent*").unwrap())),
                responses: false,
                ..rule("Priority", add("emergency"))
            },
            rule("x-secret", HeaderAction::Remove),
            rule("X-Two", add("a")),
            rule("X-Two", add("b")),
        ];
    }));
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let more = "X-Site: 1\nSubject: Urgent, really\nX-Secret: 1\nServer: kept in requests\nx-SECRET: 2";
    world.say(phone, &from_phone("INVITE", PBX_URI, "c", 1, "", &sdp(&format!("{more}\n"))));
    let invite = world.hear_start(own, "INVITE ");
    assert_eq!(rows(&invite, "X-Site"), ["7"], "{invite}");
    assert_eq!(rows(&invite, "Priority"), ["emergency"]);
    assert_eq!(rows(&invite, "Server"), ["kept in requests"]);
    assert_eq!(rows(&invite, "X-Two"), ["b", "a"]);
    assert!(!invite.to_lowercase().contains("x-secret"), "{invite}");
    world.say(own, &reply(&invite, "486 Busy", "u", "Server: gone\nSubject: urgent"));
    let busy = world.hear_start(phone, "SIP/2.0 486 ");
    assert!(rows(&busy, "Server").is_empty() && rows(&busy, "Priority").is_empty(), "{busy}");
    // The rule for the switch is not for the phone.
    assert!(rows(&busy, "X-Site").is_empty());
}

#[test]
fn rules_that_break_messages_are_refused() {
    let set = || HeaderAction::Set("x".to_owned());
    for name in [
        "Via",
        "v",
        "cseq",
        "Call-ID",
        "i",
        "Contact",
        "m",
        "Content-Length",
        "Route",
        "Max-Forwards",
        "Event",
        "r",
    ] {
        for action in [set(), HeaderAction::Remove] {
            assert_eq!(rule(name, action).judge(), Err(HeaderRuleError::Mandatory), "{name}");
        }
    }
    for name in ["", "X Site", "X:", "X\r\nVia"] {
        assert_eq!(rule(name, set()).judge(), Err(HeaderRuleError::Name), "{name}");
    }
    for value in ["a\r\nVia: b", "a\0", "\u{85}"] {
        let action = HeaderAction::Add(value.to_owned());
        assert_eq!(rule("X-Site", action).judge(), Err(HeaderRuleError::Value), "{value:?}");
    }
    let mut when = rule("X-Site", set());
    when.when = Some(("not a name".to_owned(), Glob::new("*").unwrap()));
    assert_eq!(when.judge(), Err(HeaderRuleError::Name));
    assert_eq!(rule("X-Site", set()).judge(), Ok(()));
    assert_eq!(rule("User-Agent", HeaderAction::Remove).judge(), Ok(()));
}
