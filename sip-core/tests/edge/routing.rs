//! Which phone a request from the PBX means, by each of the six carriers; and who may use what token.

use std::time::Duration;

use sip_core::edge::Event;
use sip_core::edge::config::{Ambiguous, UserMatching};
use sip_core::edge::event::{Reason, Step};
use sip_core::flow::Side;

use crate::register::{MAC_A, MAC_B, register, registered};
use crate::script::{Call, from_pbx, from_phone, target};
use crate::world::{World, between, config, reply, row, rows, unguarded};

pub(crate) fn steps(world: &World) -> Vec<Step> {
    let step = |e: &Event| match e {
        Event::Resolved { step, .. } => Some(*step),
        _ => None,
    };
    world.events.iter().filter_map(step).collect()
}

#[test]
fn every_carrier_finds_the_phone() {
    let mut world = World::new();
    let (a, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (b, ..) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let instance = format!("+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{}>\"", MAC_A.to_lowercase());
    let ours = "sips:anonymous@10.0.1.2:5061";
    // 2: the token, in both spellings, whatever user.
    world.say(pbx, &from_pbx("NOTIFY", &target(&token), "n1", 1, "", ""));
    world.hear_start(a, "NOTIFY sips:117@192.168.1.7 ");
    world.say(pbx, &from_pbx("NOTIFY", &target(&token).replace("crt=", "gr="), "n2", 1, "", ""));
    world.hear_start(a, "NOTIFY ");
    // 3: the literal instance, in Accept-Contact, To or the Request-URI.
    world.say(pbx, &from_pbx("NOTIFY", ours, "n3", 1, "", &format!("Accept-Contact: *;{instance};explicit")));
    world.hear_start(a, "NOTIFY sips:anonymous@192.168.1.7 ");
    world.say(
        pbx,
        &from_pbx("NOTIFY", ours, "n4", 1, "", "")
            .replace("To: <sips:117@10.0.1.50>", &format!("To: <sips:117@10.0.1.50>;{instance}")),
    );
    world.hear_start(a, "NOTIFY ");
    let raw = instance.replace(['"', '<', '>'], "");
    world.say(pbx, &from_pbx("OPTIONS", &format!("{ours};{raw}"), "n5", 1, "", ""));
    world.hear(pbx);
    world.silent(a);
    // 4: the phone's own connection to the switch.
    world.say(own, &from_pbx("UPDATE", ours, "n6", 1, "", ""));
    world.hear_start(a, "UPDATE ");
    // 5: a user that only one has.
    world.say(a, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    let options = world.hear_start(own, "OPTIONS ");
    world.say(own, &reply(&options, "200 OK", "t", "X: 1"));
    world.hear_start(a, "SIP/2.0 200 ");
    world.say(pbx, &from_pbx("INVITE", "sips:%3117@10.0.1.2:5061", "n7", 1, "", ""));
    world.hear_start(a, "INVITE ");
    world.silent(b);
    assert_eq!(
        steps(&world),
        [Step::ContactToken, Step::ContactToken, Step::Instance, Step::Instance, Step::Affinity, Step::User]
    );
    let counted = world.edge.snapshot(world.now).resolved;
    assert_eq!(counted, [0, 0, 2, 2, 1, 1]);
    // `anonymous` is two.
    world.say(pbx, &from_pbx("NOTIFY", ours, "n8", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 485 ");
    // Nobody.
    world.say(pbx, &from_pbx("INVITE", "sips:404@10.0.1.2", "n9", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
    world.say(pbx, &from_pbx("INVITE", "sips:1%zz@10.0.1.2", "n10", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 400 ");
}

#[test]
fn the_burst_after_a_registration_reaches_its_phone_alone() {
    let mut world = World::new();
    let macs: Vec<String> = (0..20).map(|n| format!("08000FD4{n:04X}")).collect();
    let phones: Vec<_> = macs
        .iter()
        .enumerate()
        .map(|(n, mac)| {
            registered(&mut world, mac, &format!("198.51.100.{}:40000", n / 4 + 1), "192.168.1.7")
        })
        .collect();
    let pbx = world.switch("10.0.1.50:33000");
    for (n, (phone, _, token)) in phones.iter().enumerate() {
        for event in ["a", "b", "firmware-query"] {
            let uri = format!("sips:anonymous@10.0.1.2:5061;transport=tls;crt={token}");
            world.say(
                pbx,
                &from_pbx(
                    "NOTIFY",
                    &uri,
                    &format!("{event}{n}"),
                    1,
                    "",
                    &format!("Event: {event}\nX-Mac: {}", macs[n]),
                ),
            );
            let notify = world.hear_start(*phone, "NOTIFY ");
            assert_eq!(row(&notify, "X-Mac"), macs[n]);
        }
    }
    for (phone, ..) in &phones {
        world.silent(*phone);
    }
}

#[test]
fn without_tags_nobody_can_tell_the_phones_apart() {
    let mut config = config();
    config.interop.contacts.tag_routing.enabled = false;
    let mut world = World::with(config);
    let mut ends = Vec::new();
    for (mac, n) in [(MAC_A, 7), (MAC_B, 8)] {
        let phone = world.phone(mac, &format!("198.51.100.{n}:40000"));
        world.say(phone, &register(mac, "192.168.1.7", 1, ""));
        let own = world.dialled("10.0.1.50:5061");
        let text = world.hear(own);
        assert!(!text.contains("crt="), "{text}");
        let contact = row(&text, "Contact").to_owned();
        world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {contact}")));
        assert!(world.hear(phone).contains("Contact: <sips:anonymous@192.168.1.7>"));
        ends.push(own);
    }
    let pbx = world.switch("10.0.1.50:33000");
    let instance = format!("Accept-Contact: *;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{MAC_A}>\"");
    world.say(pbx, &from_pbx("INVITE", "sips:anonymous@10.0.1.2:5061;transport=tls", "c", 1, "", &instance));
    world.hear_start(pbx, "SIP/2.0 485 ");
    world.say(ends[0], &from_pbx("INVITE", "sips:anonymous@10.0.1.2:5061;transport=tls", "d", 1, "", ""));
    world.hear_start(ends[0], "SIP/2.0 485 ");
}

#[test]
fn several_phones_of_one_user() {
    for (rule, rings) in [(Ambiguous::Fork, 2), (Ambiguous::Newest, 1), (Ambiguous::Reject, 0)] {
        let mut config = config();
        config.ambiguous_user = rule;
        let mut world = World::with(config);
        let mut phones = Vec::new();
        for mac in [MAC_A, MAC_B] {
            let phone = world.phone(mac, "198.51.100.7:40000");
            world.say(phone, &register(mac, "192.168.1.7", 1, "").replace("sips:anonymous", "sips:117"));
            let own = world.dialled("10.0.1.50:5061");
            let text = world.hear(own);
            world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
            world.hear(phone);
            phones.push(phone);
        }
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", "sips:117@10.0.1.2", "c", 1, "", ""));
        if rings == 0 {
            world.hear_start(pbx, "SIP/2.0 485 ");
            continue;
        }
        let second = world.hear_start(phones[1], "INVITE ");
        if rings == 1 {
            world.silent(phones[0]);
            continue;
        }
        // Both ring; one answers, the other is told to stop.
        let first = world.hear_start(phones[0], "INVITE ");
        assert_ne!(rows(&first, "Via"), rows(&second, "Via"));
        world.say(phones[0], &reply(&first, "180 Ringing", "a", "X: 1"));
        world.say(phones[1], &reply(&second, "180 Ringing", "b", "X: 1"));
        world.hear_start(pbx, "SIP/2.0 180 ");
        world.hear_start(pbx, "SIP/2.0 180 ");
        world.say(phones[1], &reply(&second, "200 OK", "b", "Contact: <sips:117@192.168.1.7>"));
        assert!(row(&world.hear_start(pbx, "SIP/2.0 200 "), "To").ends_with("tag=b"));
        let cancel = world.hear_start(phones[0], "CANCEL ");
        world.say(phones[0], &reply(&cancel, "200 OK", "a", "X: 1"));
        world.say(phones[0], &reply(&first, "487 Request Terminated", "a", "X: 1"));
        world.hear_start(phones[0], "ACK ");
        world.silent(pbx);
        world.wait(Duration::from_secs(64));
        let left = world.edge.snapshot(world.now);
        assert_eq!((left.contexts, left.dialogs), (0, 1));
    }
}

#[test]
fn a_domain_may_have_to_match() {
    let mut strict = config();
    strict.interop.contacts.user_matching = UserMatching::UsernameAndDomain;
    strict.interop.contacts.tag_routing.enabled = false;
    for (config, domain, found) in [(strict.clone(), "10.0.1.51", false), (strict, "10.0.1.50", true)] {
        let mut world = World::with(config);
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        register_without_token(&mut world, phone);
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &format!("sips:anonymous@{domain}"), "c", 1, "", ""));
        if found {
            world.hear_start(phone, "INVITE ");
        } else {
            world.hear_start(pbx, "SIP/2.0 404 ");
        }
    }
}

fn register_without_token(world: &mut World, phone: crate::world::End) {
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear(own);
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
}

#[test]
fn forged_tokens_reach_nobody() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let mut tried = 0;
    for at in 0..token.len() {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'q' { b'a' } else { b'q' };
        let forged = String::from_utf8(forged).unwrap();
        world.say(pbx, &from_pbx("INVITE", &target(&forged), &format!("f{at}"), 1, "", ""));
        world.hear_start(pbx, "SIP/2.0 404 ");
        tried += 1;
    }
    for bad in ["", "a", "1", &token[..35], &format!("{token}a"), &"a".repeat(500)] {
        world.say(
            pbx,
            &from_pbx("INVITE", &format!("sips:117@10.0.1.2;crt={bad}"), &format!("g{tried}"), 1, "", ""),
        );
        world.hear_start(pbx, "SIP/2.0 404 ");
        tried += 1;
    }
    // A Route with a flow token that is not ours.
    world.say(
        pbx,
        &from_pbx("INVITE", &target(&token), "r", 1, "", &format!("Route: <sips:10.0.1.2;lr;ft={token}>")),
    );
    world.hear_start(pbx, "SIP/2.0 404 ");
    // The genuine one from outside, and from an inside peer that is not verified.
    let (other, ..) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    for uri in [target(&token), target(&token).replace("10.0.1.2", "192.0.2.1")] {
        world.say(other, &from_phone("INVITE", &uri, &format!("o{}", uri.len()), 1, "", ""));
        world.hear_start(other, "SIP/2.0 403 ");
    }
    let weak = world.connect(Side::Inside, "10.0.1.50:33001", None, false);
    world.say(weak, &from_pbx("INVITE", &target(&token), "w", 1, "", ""));
    world.hear_start(weak, "SIP/2.0 403 ");
    world.silent(phone);
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Token, .. })), tried + 3);
}

#[test]
fn in_dialog_needs_a_dialog_or_a_token() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("BYE", "sips:anonymous@10.0.1.2", "c", 2, "nobody", ""));
    world.hear_start(pbx, "SIP/2.0 481 ");
    world.say(own, &from_pbx("BYE", "sips:anonymous@10.0.1.2", "d", 2, "nobody", ""));
    world.hear_start(own, "SIP/2.0 481 ");
    world.say(phone, &from_phone("BYE", "sips:200@10.0.1.50", "e", 2, "nobody", ""));
    world.hear_start(phone, "SIP/2.0 481 ");
    world.say(phone, &from_phone("ACK", "sips:200@10.0.1.50", "e", 2, "nobody", ""));
    world.say(pbx, &from_pbx("ACK", "sips:anonymous@10.0.1.2", "c", 3, "nobody", ""));
    world.silent(phone);
    world.silent(pbx);
    world.silent(own);
    // With the token it is for the phone to say.
    world.say(pbx, &from_pbx("BYE", &target(&token), "c", 4, "nobody", ""));
    world.hear_start(phone, "BYE ");
}

#[test]
fn proxies_of_the_pbx_stay_in_the_path_and_out_of_sight() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let more = "Record-Route: <sips:10.0.1.52;lr>, <sips:10.0.1.53;lr;k=1>\nRoute: <sips:10.0.1.2;lr>";
    world.say(pbx, &from_pbx("SUBSCRIBE", &target(&token), "s", 1, "", more));
    let subscribe = world.hear_start(phone, "SUBSCRIBE ");
    assert_eq!(rows(&subscribe, "Record-Route").len(), 1);
    world.say(phone, &reply(&subscribe, "200 OK", "a", "Contact: <sips:117@192.168.1.7>\nExpires: 60"));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    let routes = rows(&ok, "Record-Route").join(", ");
    assert!(routes.starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ft="), "{routes}");
    assert!(routes.ends_with(">, <sips:10.0.1.52;lr>, <sips:10.0.1.53;lr;k=1>"), "{routes}");
    let remote = between(row(&subscribe, "Contact"), "<", ">");
    let notify =
        from_phone("NOTIFY", remote, "s", 1, "", &format!("Route: {}", row(&subscribe, "Record-Route")));
    world.say(
        phone,
        &notify.replace(";tag=fs", ";tag=a").replace("<sips:200@10.0.1.50>", "<sips:200@10.0.1.50>;tag=ps"),
    );
    let notify =
        world.hear_start(world.dialled("10.0.1.52:5061"), "NOTIFY sips:200@10.0.1.50:5061;transport=tls ");
    assert_eq!(rows(&notify, "Route"), ["<sips:10.0.1.52;lr>", "<sips:10.0.1.53;lr;k=1>"]);
    // A phone that alters what it was given gets nowhere.
    let forged = row(&subscribe, "Record-Route").replace(";rs=", ";rs=a");
    world.say(phone, &from_phone("NOTIFY", remote, "s", 2, "ps", &format!("Route: {forged}")));
    world.hear_start(phone, "SIP/2.0 403 ");
}

#[test]
fn answers_with_endless_tags_fill_nothing() {
    let mut world = World::with(unguarded());
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    for n in 0..500 {
        world.say(phone, &reply(&invite, "180 Ringing", &format!("t{n}"), "X: 1"));
        world.hear_start(pbx, "SIP/2.0 180 ");
    }
    assert!(world.edge.snapshot(world.now).dialogs <= 64);
}

/// What a proxy does to a request: its Via and Record-Route on top, another Request-URI, its own Route off.
fn proxied(text: &str, uri: &str) -> String {
    let (line, rest) = text.split_once("\r\n").unwrap();
    let method = line.split(' ').next().unwrap_or_default();
    let mut out = format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKkam{}\n",
        row(text, "CSeq").replace(' ', "")
    );
    if method == "INVITE" {
        out.push_str("Record-Route: <sip:10.0.1.50:5061;transport=tls;lr>\n");
    }
    for line in rest.split("\r\n").filter(|line| !line.starts_with("Route: <sip:10.0.1.50")) {
        out.push_str(line);
        out.push('\n');
    }
    out.trim_end().to_owned()
}

/// An answer on its way back through that proxy.
fn unproxied(text: &str) -> String {
    let mut seen = false;
    let own = |line: &&str| !line.starts_with("Via: ") || std::mem::replace(&mut seen, true);
    text.split("\r\n").filter(own).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[test]
fn a_pbx_that_is_a_proxy_spirals_through_us() {
    let mut world = World::new();
    let (a, own_a, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (b, _, token_b) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let pbx = world.switch("10.0.1.50:33000");
    let at_b = format!("sips:anonymous@10.0.1.2:5061;transport=tls;crt={token_b}");
    world.say(a, &from_phone("INVITE", "sips:118@10.0.1.50", "c", 1, "", &crate::script::sdp("")));
    let first = world.hear_start(own_a, "INVITE ");
    world.say(pbx, &proxied(&first, &at_b));
    let second = world.hear_start(b, "INVITE sips:anonymous@192.168.1.8 ");
    world.say(b, &reply(&second, "200 OK", "b", &crate::script::sdp("Contact: <sips:118@192.168.1.8>\n")));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    world.say(own_a, &unproxied(&ok));
    let ok = world.hear_start(a, "SIP/2.0 200 ");
    assert_eq!(rows(&ok, "Record-Route").len(), 1);
    assert_eq!(world.edge.snapshot(world.now).dialogs, 2);
    let route = row(&ok, "Record-Route");
    let remote = between(row(&ok, "Contact"), "<", ">");
    world.say(a, &from_phone("ACK", remote, "c", 1, "b", &format!("Route: {route}")));
    let ack = world.hear_start(own_a, &format!("ACK sips:118@10.0.1.2:5061;transport=tls;crt={token_b} "));
    assert_eq!(rows(&ack, "Route").len(), 2, "the proxy, then ourselves for the other phone: {ack}");
    world.say(pbx, &proxied(&ack, &at_b));
    world.hear_start(b, "ACK sips:118@192.168.1.8 ");
    // The other phone hangs up.
    let bye = format!(
        "BYE {} SIP/2.0
        Via: SIP/2.0/TLS 192.168.1.8:5061;branch=z9hG4bKbye;rport
        Route: {}
        From: <sips:200@10.0.1.50>;tag=b
        To: <sips:117@10.0.1.50>;tag=fc
        Call-ID: c
        CSeq: 5 BYE",
        between(row(&second, "Contact"), "<", ">"),
        row(&second, "Record-Route")
    );
    world.say(b, &bye);
    let own_b = world.dialled("10.0.1.50:5061");
    let first = world.hear_start(own_b, "BYE ");
    let uri = first.split(' ').nth(1).unwrap_or_default().to_owned();
    world.say(pbx, &proxied(&first, &uri));
    let second = world.hear_start(a, "BYE sips:117@192.168.1.7 ");
    world.say(a, &reply(&second, "200 OK", "", "X: 1"));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    world.say(own_b, &unproxied(&ok));
    world.hear_start(b, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { by: Some(_), .. })), 2);
    assert_eq!(world.edge.snapshot(world.now).dialogs, 0);
    let ends = world.media.lock().unwrap().iter().filter(|line| line.starts_with("End")).count();
    assert_eq!(ends, 2);
}

#[test]
fn a_registrar_that_honours_the_path_makes_step_one_the_winner() {
    let mut path = config();
    path.interop.contacts.add_path = true;
    let mut world = World::with(path);
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear(own);
    let (contact, path) = (row(&text, "Contact").to_owned(), row(&text, "Path").to_owned());
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {contact}\nPath: {path}")));
    assert_eq!(rows(&world.hear_start(phone, "SIP/2.0 200 "), "Path").len(), 0);
    let pbx = world.switch("10.0.1.50:33000");
    let uri = between(&contact, "<", ">").to_owned();
    world.say(pbx, &from_pbx("INVITE", &uri, "c", 1, "", &format!("Route: {path}")));
    let invite = world.hear_start(phone, "INVITE sips:anonymous@192.168.1.7 ");
    assert_eq!(rows(&invite, "Route").len(), 0);
    assert_eq!(steps(&world), [Step::Route]);
}

#[test]
fn the_breadth_of_a_request_is_shared_among_its_branches() {
    for (said, each) in [
        ("", Some("30")),
        ("Max-Breadth: 5\n", Some("2")),
        ("Max-Breadth: 2\n", Some("1")),
        ("Max-Breadth: 1\n", None),
    ] {
        let mut config = config();
        config.ambiguous_user = Ambiguous::Fork;
        let mut world = World::with(config);
        let mut phones = Vec::new();
        for mac in [MAC_A, MAC_B] {
            let phone = world.phone(mac, "198.51.100.7:40000");
            world.say(phone, &register(mac, "192.168.1.7", 1, "").replace("sips:anonymous", "sips:117"));
            let own = world.dialled("10.0.1.50:5061");
            let text = world.hear(own);
            // What has no number gets one, and what does not fork keeps it whole (RFC 5393 §5.3.3).
            assert_eq!(row(&text, "Max-Breadth"), "60");
            world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
            world.hear(phone);
            phones.push(phone);
        }
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", "sips:117@10.0.1.2", "c", 1, "", said));
        let Some(each) = each else {
            world.hear_start(pbx, "SIP/2.0 440 ");
            phones.iter().for_each(|phone| world.silent(*phone));
            continue;
        };
        for phone in phones {
            assert_eq!(rows(&world.hear_start(phone, "INVITE "), "Max-Breadth"), [each]);
        }
    }
}

#[test]
fn in_a_call_nothing_forks_and_no_breadth_is_written() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    assert!(rows(&world.hear_start(call.phone, "INFO "), "Max-Breadth").is_empty());
    // One that is too high comes down all the same.
    world.say(call.pbx, &call.of_pbx("INFO", 3, "Max-Breadth: 4000000000"));
    assert_eq!(rows(&world.hear_start(call.phone, "INFO "), "Max-Breadth"), ["60"]);
}
