//! What an attacker outside tries, and what peers inside get wrong.

use std::time::Duration;

use sip_core::edge::config::{Face, Policy, PreloadedRoutes};
use sip_core::edge::event::{DropCause, Reason};
use sip_core::edge::{Command, Event};
use sip_core::flow::{ListenerId, Source, Transport};

use crate::register::{MAC_A, MAC_B, register, registered};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::world::{End, PBX, World, between, config, reply, row, rows};

#[test]
fn nothing_leaves_to_where_a_phone_points() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let dials = world.dials.len();
    for (n, uri) in [
        "sips:x@203.0.113.9",
        "sip:x@evil.test",
        "sips:x@10.0.1.50;maddr=203.0.113.9",
        "sips:x@192.0.2.1;maddr=203.0.113.9",
        "sips:x@192.168.1.8",
        "sips:x@127.0.0.1",
        "sips:x@[::1]",
    ]
    .iter()
    .enumerate()
    {
        world.say(phone, &from_phone("INVITE", uri, &format!("a{n}"), 1, "", ""));
        world.hear_start(phone, "SIP/2.0 403 ");
    }
    assert_eq!((world.dials.len(), world.asked.len()), (dials, 0));
    // A Via that points elsewhere: the answer comes on the connection all the same.
    let request = from_phone("OPTIONS", "sips:x@10.0.1.50", "v", 1, "", "");
    world.say(
        phone,
        &request.replace(
            "192.168.1.7:5061;branch",
            "203.0.113.9:5061;received=203.0.113.9;maddr=203.0.113.9;branch",
        ),
    );
    let options = world.hear_start(own, "OPTIONS ");
    world.say(own, &reply(&options, "200 OK", "t", "X: 1"));
    assert!(row(&world.hear_start(phone, "SIP/2.0 200 "), "Via").contains("received=198.51.100.7"));
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Destination, .. })), 7);
}

#[test]
fn our_own_name_leads_to_the_switch_of_the_phone() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("INVITE", "sips:200@192.0.2.1:5061", "a", 1, "", ""));
    world.hear_start(own, &format!("INVITE sips:200@{PBX} SIP/2.0\r\n"));
    world.say(phone, &from_phone("INVITE", "tel:+15551234", "b", 1, "", ""));
    world.hear_start(own, "INVITE tel:+15551234 SIP/2.0\r\n");
}

#[test]
fn a_request_to_the_gateway_itself() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &from_phone("OPTIONS", "sips:192.0.2.1:5061", "a", 1, "", ""));
    assert!(row(&world.hear_start(phone, "SIP/2.0 200 "), "Allow").contains("INVITE"));
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("OPTIONS", "sips:10.0.1.2:5061;transport=tls", "b", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 200 ");
    assert!(world.dials.is_empty());
}

#[test]
fn a_loop_ends_with_482() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let first = from_phone("INVITE", "sips:200@10.0.1.50", "a", 1, "", "");
    world.say(phone, &first);
    let invite = world.hear_start(own, "INVITE ");
    // The PBX sends it back unchanged, our Via in it.
    let vias = rows(&invite, "Via").iter().map(|via| format!("Via: {via}\n")).collect::<String>();
    let looped = first.replace(
        "        Via:",
        &format!("Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKback\n{vias}X-Old:"),
    );
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &looped);
    world.hear_start(pbx, "SIP/2.0 482 ");
    // To another address it is a spiral, and legal (RFC 3261 §16.3): here, a call to a user nobody has.
    world.say(
        pbx,
        &looped
            .replace("sips:200@10.0.1.50 SIP", "sips:200@10.0.1.2 SIP")
            .replace("z9hG4bKback", "z9hG4bKtwo"),
    );
    world.hear_start(pbx, "SIP/2.0 404 ");
}

#[test]
fn responses_that_answer_nothing_are_dropped() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let stray = "SIP/2.0 200 OK
        Via: SIP/2.0/TLS 10.0.1.2:5061;branch=z9hG4bKstray
        Via: SIP/2.0/TLS 203.0.113.9:5061;branch=z9hG4bKx
        From: <sip:a@b>;tag=1
        To: <sip:a@b>;tag=2
        Call-ID: s
        CSeq: 1 OPTIONS";
    world.say(phone, stray);
    world.say(own, stray);
    world.silent(phone);
    world.silent(own);
    assert_eq!(world.saw(|e| matches!(e, Event::Dropped { cause: DropCause::StrayResponse, .. })), 2);
}

#[test]
fn what_cannot_be_used_as_an_answer_is_502() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "a", 1, "", ""));
    let options = world.hear_start(own, "OPTIONS ");
    world.say(own, &reply(&options, "200 OK", "t", "Contact: <sips:open"));
    world.hear_start(phone, "SIP/2.0 502 ");
}

#[test]
fn pings_of_the_switch_pass_to_the_phone() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for (n, method) in ["OPTIONS", "UPDATE", "MESSAGE", "WHATEVER"].iter().enumerate() {
        world.say(own, &from_pbx(method, &target(&token), &format!("p{n}"), 1, "", ""));
        let ping = world.hear_start(phone, method);
        assert!(!ping.contains("Record-Route"));
        world.say(phone, &reply(&ping, "200 OK", "a", "X-Phone: 1"));
        assert_eq!(row(&world.hear_start(own, "SIP/2.0 200 "), "X-Phone"), "1");
    }
}

#[test]
fn a_refer_names_places_that_its_receiver_can_reach() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    // Attended transfer: the phone names the other party by what we showed it.
    let other =
        format!("Refer-To: \"x\" <{}?Replaces=d%3Bto-tag%3D1%3Bfrom-tag%3D2>;early", call.phone_target);
    world.say(call.phone, &call.of_phone("REFER", 2, &other));
    let refer = world.hear_start(call.own, "REFER ");
    assert_eq!(
        row(&refer, "Refer-To"),
        "\"x\" <sips:200@10.0.1.50:5061;transport=tls?Replaces=d%3Bto-tag%3D1%3Bfrom-tag%3D2>;early"
    );
    // The PBX sends one phone to another: its token stays with us.
    let (_, _, token_b) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let to_b = target(&token_b).replace("117", "118");
    world.say(call.pbx, &call.of_pbx("REFER", 2, &format!("Refer-To: <{to_b}?Replaces=e>")));
    let refer = world.hear_start(call.phone, "REFER ");
    let shown = row(&refer, "Refer-To").trim_matches(['<', '>']).to_owned();
    assert!(
        shown.starts_with("sips:118@192.0.2.1:5061;transport=tls;pc=") && shown.ends_with("?Replaces=e"),
        "{shown}"
    );
    // What the phone then calls, the PBX gets as its own address for that phone.
    let uri = shown.split('?').next().unwrap_or_default();
    world.say(call.phone, &from_phone("INVITE", uri, "n", 1, "", ""));
    world.hear_start(call.own, &format!("INVITE sips:118@{PBX}"));
    // A plain target passes as it is.
    world.say(call.phone, &call.of_phone("REFER", 3, "Refer-To: <sips:119@10.0.1.50>"));
    assert_eq!(row(&world.hear_start(call.own, "REFER "), "Refer-To"), "<sips:119@10.0.1.50>");
}

#[test]
fn sealed_addresses_of_another_making_are_refused() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for (n, bad) in [
        "sips:x@192.0.2.1;pc=abc",
        "sips:x@192.0.2.1;pc=",
        "sips:x@10.0.1.2;pc=aeax6w4w6fggxvmeb3e5qeu6slhoarpufvrq",
    ]
    .iter()
    .enumerate()
    {
        world.say(phone, &from_phone("INVITE", bad, &format!("s{n}"), 1, "", ""));
        world.hear_start(phone, "SIP/2.0 403 ");
    }
    world.silent(own);
}

#[test]
fn policies() {
    for (policy, local, foreign) in [
        (Policy::LocalOnly, true, false),
        (Policy::RejectAll, false, false),
        (Policy::ProcessAll, true, true),
    ] {
        let mut config = config();
        config.servers = vec![sip_core::resolve::Server {
            name: "m".into(),
            matches: vec!["sip.example.com".into()],
            addresses: vec![("10.0.1.50".parse().unwrap(), None)],
            ..Default::default()
        }];
        config.default_policy = policy;
        let mut world = World::with(config);
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        for (n, (uri, served)) in
            [("sips:x@sip.example.com", local), ("sips:x@10.0.1.51", foreign)].into_iter().enumerate()
        {
            world.say(phone, &from_phone("INVITE", uri, &format!("a{n}"), 1, "", ""));
            if served {
                world.silent(phone);
            } else {
                world.hear_start(phone, "SIP/2.0 403 ");
            }
        }
    }
}

#[test]
fn ceilings_answer_503_and_let_calls_end() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let mut tight = config();
    tight.limits.contexts = 1;
    tight.limits.dialogs = 1;
    world.command(Command::Reconfigure(Box::new(tight)));
    world.wait(Duration::from_secs(64));
    world.say(call.pbx, &from_pbx("INVITE", &target(&call.token), "n", 1, "", ""));
    world.hear_start(call.pbx, "SIP/2.0 503 ");
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    world.hear_start(call.phone, "INFO ");
    world.say(call.pbx, &from_pbx("OPTIONS", &target(&call.token), "o", 1, "", ""));
    world.hear_start(call.pbx, "SIP/2.0 503 ");
    world.say(call.pbx, &call.of_pbx("INFO", 3, ""));
    world.hear_start(call.phone, "INFO ");
    world.say(call.pbx, &call.of_pbx("INFO", 4, ""));
    world.hear_start(call.pbx, "SIP/2.0 503 ");
    world.say(call.phone, &call.of_phone("BYE", 2, ""));
    world.hear_start(call.own, "BYE ");
}

#[test]
fn the_calls_of_one_certificate_are_bounded() {
    let mut tight = config();
    tight.limits.dialogs_per_certificate = 2;
    let mut world = World::with(tight);
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (other, other_own, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    for n in ["1", "2"] {
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", n, 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        world.say(own, &reply(&invite, "200 OK", "t", "Contact: <sips:200@10.0.1.50>"));
        world.hear_start(phone, "SIP/2.0 200 ");
    }
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "3", 1, "", ""));
    assert!(row(&world.hear_start(phone, "SIP/2.0 503 Too Many Calls\r\n"), "Retry-After").len() == 2);
    // Other phones call, it is called, and it does everything else.
    world.say(other, &from_phone("INVITE", "sips:200@10.0.1.50", "4", 1, "", ""));
    world.hear_start(other_own, "INVITE ");
    world.say(own, &from_pbx("INVITE", &target(&token), "5", 1, "", ""));
    world.hear_start(phone, "INVITE ");
    world.say(phone, &from_phone("OPTIONS", "sips:200@10.0.1.50", "6", 1, "", ""));
    world.hear_start(own, "OPTIONS ");
}

#[test]
fn datagrams_on_both_sides() {
    let outside = Face::new("192.0.2.1", 5060, Transport::Udp);
    let inside = Face::new("10.0.1.2", 5060, Transport::Udp);
    let mut udp = sip_core::edge::Config::new(outside, inside);
    udp.inside_networks = config().inside_networks;
    let mut world = World::with(udp);
    let phone =
        End(Source::Datagram { listener: ListenerId(0), remote: "198.51.100.7:40000".parse().unwrap() });
    world.say(
        phone,
        &register(MAC_A, "192.168.1.7", 1, "")
            .replace("sips:", "sip:")
            .replace("TLS", "UDP")
            .replace("5061;branch", "5060;branch"),
    );
    let own = world.dialled("10.0.1.50:5060");
    let text = world.hear_start(own, "REGISTER sip:10.0.1.50 ");
    assert!(row(&text, "Contact").starts_with("<sip:anonymous@10.0.1.2:5060;transport=udp;crt="), "{text}");
    assert!(row(&text, "Via").starts_with("SIP/2.0/UDP 10.0.1.2:5060;branch=z9hG4bK"));
    let contact = row(&text, "Contact").to_owned();
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {contact}")));
    world.hear_start(phone, "SIP/2.0 200 ");
    // A call in, from the PBX's socket; the phone is silent, so the INVITE is sent again.
    let pbx = End(Source::Datagram { listener: ListenerId(1), remote: "10.0.1.50:5060".parse().unwrap() });
    let uri = contact.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
    world.say(
        pbx,
        &from_pbx("INVITE", &uri, "c", 1, "", "")
            .replace("sips:", "sip:")
            .replace("TLS", "UDP")
            .replace("5061;branch", "5060;branch"),
    );
    let invite = world.hear_start(phone, "INVITE sip:anonymous@192.168.1.7 ");
    world.wait(Duration::from_millis(500));
    assert_eq!(world.hear(phone), invite);
    world.hear_start(pbx, "SIP/2.0 100 ");
    let ok = reply(&invite, "200 OK", "a", "Contact: <sip:117@192.168.1.7>");
    world.say(phone, &ok);
    let first = world.hear_start(pbx, "SIP/2.0 200 ");
    world.say(phone, &ok);
    assert_eq!(world.hear_start(pbx, "SIP/2.0 200 "), first);
    // From another port, as NATs do: the same phone by its address.
    let moved =
        End(Source::Datagram { listener: ListenerId(0), remote: "198.51.100.7:40001".parse().unwrap() });
    world.say(
        moved,
        &register(MAC_A, "192.168.1.7", 2, "")
            .replace("sips:", "sip:")
            .replace("TLS", "UDP")
            .replace("5061;branch", "5060;branch"),
    );
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(moved, "SIP/2.0 200 ");
    world.say(
        pbx,
        &from_pbx("INVITE", &uri, "d", 1, "", "")
            .replace("sips:", "sip:")
            .replace("TLS", "UDP")
            .replace("5061;branch", "5060;branch"),
    );
    world.hear_start(moved, "INVITE ");
    // Another address may not have it.
    let thief =
        End(Source::Datagram { listener: ListenerId(0), remote: "203.0.113.66:5060".parse().unwrap() });
    world.say(
        thief,
        &register(MAC_A, "192.168.1.66", 3, "")
            .replace("sips:", "sip:")
            .replace("TLS", "UDP")
            .replace("5061;branch", "5060;branch"),
    );
    let options = world.hear_start(moved, "OPTIONS ");
    world.say(moved, &reply(&options, "200 OK", "x", "X: 1"));
    world.hear_start(thief, "SIP/2.0 403 ");
}

#[test]
fn allowed_routes_lead_inside_only() {
    let mut open = config();
    open.preloaded_routes = PreloadedRoutes::Allow;
    let mut world = World::with(open);
    let call = Call::from_pbx(&mut world, "c");
    world.say(
        call.phone,
        &from_phone("INVITE", "sips:200@10.0.1.50", "a", 1, "", "Route: <sips:10.0.1.52;lr>"),
    );
    let invite = world.hear_start(world.dialled("10.0.1.52:5061"), "INVITE sips:200@10.0.1.50 ");
    assert_eq!(rows(&invite, "Route"), ["<sips:10.0.1.52;lr>"]);
    let dials = world.dials.len();
    world.say(
        call.phone,
        &from_phone("INVITE", "sips:200@10.0.1.50", "b", 1, "", "Route: <sips:203.0.113.9;lr>"),
    );
    world.hear_start(call.phone, "SIP/2.0 403 ");
    // Nor does a running call open the way.
    world.say(call.phone, &call.of_phone("INFO", 2, "Route: <sips:203.0.113.9;lr>"));
    world.hear_start(call.phone, "SIP/2.0 403 ");
    assert_eq!(world.dials.len(), dials);
}

#[test]
fn an_answer_never_goes_to_ourselves() {
    let mut config = config();
    config.inside_networks = ["10.0.1.0/24".parse().unwrap()].into_iter().collect();
    let mut world = World::with(config);
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for (n, (sent_by, dials)) in [("10.0.1.2:5061", 0), ("10.0.1.60:5061", 1)].into_iter().enumerate() {
        let before = world.dials.len();
        let pbx = world.switch("10.0.1.50:33000");
        let text = from_pbx("OPTIONS", &target(&token), &format!("f{n}"), 1, "", "");
        world.say(pbx, &text.replace("TLS 10.0.1.50:5061", &format!("TLS {sent_by}")));
        let options = world.hear_start(phone, "OPTIONS ");
        world.hang(pbx);
        world.say(phone, &reply(&options, "200 OK", "a", "X: 1"));
        assert_eq!(world.dials.len() - before, dials, "{sent_by}\n{}", world.story());
    }
}

#[test]
fn events_show_so_much_of_a_call_id_and_no_more() {
    let mut world = World::new();
    let (phone, pbx, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let long = "c".repeat(5_000);
    world.say(phone, &from_phone("INVITE", "sips:x@203.0.113.9", &long, 1, "", ""));
    world.say(phone, &from_phone(&"M".repeat(500), "sips:x@203.0.113.9", "m", 1, "", ""));
    world.say(pbx, &from_pbx("OPTIONS", &target(&token), &long, 1, "", ""));
    let mut seen = 0;
    for event in &world.events {
        if let Event::Refused { method, call_id, .. } | Event::Resolved { method, call_id, .. } = event {
            assert!(method.len() <= 128 && call_id.len() <= 128);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn what_is_too_long_to_hide_does_not_leave() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let ours = "Contact: <sips:200@10.0.1.50:5061;transport=tls>";
    // Sealed it would not fit into a Request-URI, or not be sealed at all; and a route set of many proxies.
    let contacts = [600, 1100].map(|n| format!("Contact: <sips:200@10.0.1.50;x={}>", "1".repeat(n)));
    let routes = format!("{ours}\nRecord-Route: {}", vec!["<sips:10.0.1.51;lr>"; 60].join(","));
    for (n, more) in contacts.iter().chain([&routes]).enumerate() {
        let invite = from_pbx("INVITE", &target(&token), &format!("w{n}"), 1, "", "");
        world.say(pbx, &invite.replace(ours, more));
        world.hear_start(pbx, "SIP/2.0 513 ");
        world.silent(phone);
        // In an answer: the phone is refused, and who answered gets ACK and BYE.
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", &format!("v{n}"), 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        let ok = reply(&invite, "200 OK", "u", more);
        let own_route = row(&invite, "Record-Route").to_owned();
        // A proxy stands above us.
        let ok = if n == 2 {
            ok.replace(&format!("Record-Route: {own_route}\n"), "") + &format!(",{own_route}")
        } else {
            ok
        };
        world.say(own, &ok);
        world.hear_start(phone, "SIP/2.0 502 ");
        let mut texts = [world.hear(own), world.hear(own)];
        texts.sort();
        assert!(texts[0].starts_with("ACK ") && texts[1].starts_with("BYE "), "{texts:?}");
        world.say(own, &reply(&texts[1], "200 OK", "", "X: 1"));
    }
    assert_eq!(world.edge.snapshot(world.now).dialogs, 0);
}

#[test]
fn a_register_speaks_for_one_phone() {
    let mut world = World::new();
    let instance = |mac: &str| format!("+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\"");
    let (_, own, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let attacker = world.phone(MAC_A, "198.51.100.7:40000");
    let dials = world.dials.len();
    let plain = register(MAC_A, "192.168.1.7", 1, "");
    let first = format!(";{}", instance(MAC_A));
    assert!(plain.contains(&first));
    let name = instance(MAC_A).replace('"', "\\\"");
    for (n, text) in [
        // A second Contact, a second parameter, its own tag in the display name: each with the other phone's instance.
        plain.replace(&first, &format!("{first}, <sips:a@192.168.1.7>;{}", instance(MAC_B))),
        plain.replace(&first, &format!("{first};{}", instance(MAC_B))),
        plain
            .replace("Contact: <", &format!("Contact: \"{name}\" <"))
            .replace(&first, &format!(";{}", instance(MAC_B))),
    ]
    .iter()
    .enumerate()
    {
        world.say(attacker, &text.replace("1 REGISTER", &format!("{} REGISTER", n + 1)));
        let refused = world.hear_start(attacker, "SIP/2.0 ");
        assert!(refused.starts_with("SIP/2.0 400 Bad Request (Contact: two phones)"), "{n}: {refused}");
    }
    assert_eq!(world.dials.len(), dials);
    world.silent(own);
    world.say(attacker, &register(MAC_A, "192.168.1.7", 9, ""));
    world.dialled("10.0.1.50:5061");
}

#[test]
fn a_register_with_a_token_that_is_not_its_own_is_refused() {
    let mut world = World::new();
    let (phone, _, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let register = register(MAC_A, "192.168.1.7", 2, "");
    let route = |token: &str| {
        register.replace(
            "Max-Forwards",
            &format!("Route: <sips:192.0.2.1:5061;lr;ft={token}>\n        Max-Forwards"),
        )
    };
    world.say(phone, &route("aeaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    world.hear_start(phone, "SIP/2.0 403 ");
}

/// A phone that redirects, a PBX that passes that on, and the same attacker's other phone: what we seal for it is what
/// the first one wrote.
#[test]
fn an_address_that_a_phone_brought_in_is_no_address_of_a_running_dialog() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    for (n, strange) in
        ["sips:x@203.0.113.9:25", "sip:x@127.0.0.1:22;transport=tcp", "sip:x@evil.test"].iter().enumerate()
    {
        let id = format!("r{n}");
        world.say(call.phone, &from_phone("INVITE", "sips:200@10.0.1.50", &id, 1, "", ""));
        let invite = world.hear_start(call.own, "INVITE ");
        world.say(call.own, &reply(&invite, "302 Moved", "m", &format!("Contact: <{strange}>")));
        world.hear_start(call.own, "ACK ");
        let moved = world.hear_start(call.phone, "SIP/2.0 302 ");
        let shown = between(row(&moved, "Contact"), "<", ">").to_owned();
        let dials = world.dials.len();
        let info = call.of_phone("INFO", 7 + u32::try_from(n).unwrap(), "");
        world.say(call.phone, &info.replace(&call.phone_target, &shown));
        world.hear_start(call.phone, "SIP/2.0 403 ");
        assert_eq!((world.dials.len(), world.asked.len()), (dials, 0), "{}", world.story());
    }
    // The PBX's own address still leads to it.
    world.say(call.phone, &call.of_phone("INFO", 20, ""));
    world.hear_start(call.own, "INFO ");
}

/// Call-ID and tags are no secrets: whoever watches a line learns them from dialog-info (RFC 4235), and a transfer from
/// Replaces. A flow token opens the calls of its own phone only.
#[test]
fn a_flow_token_opens_no_call_of_another_phone() {
    // The shard of the other phone does not hold the call: there is nothing that it could touch.
    let mut world = World::sharded(config(), 1);
    let call = Call::from_pbx(&mut world, "c");
    let (stranger, line, token) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let own = Call::again(&mut world, "own", stranger, line, call.pbx, &token);
    let media = world.media.lock().unwrap().len();
    for (n, method) in ["INVITE", "UPDATE", "INFO", "BYE", "ACK"].iter().enumerate() {
        let more = if n < 2 { sdp("") } else { String::new() };
        let theirs = call.of_phone(method, 5 + u32::try_from(n).unwrap(), &more);
        let stolen = theirs.replace(&call.phone_route, &own.phone_route);
        world.say(stranger, &stolen);
        if *method != "ACK" {
            world.hear_start(stranger, "SIP/2.0 481 ");
        }
        world.silent(line);
        world.silent(call.own);
    }
    assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { .. })), 0);
    assert_eq!(world.media.lock().unwrap().len(), media, "{:?}", world.media.lock().unwrap());
    // Both go on.
    world.say(call.phone, &call.of_phone("INFO", 20, ""));
    world.hear_start(call.own, "INFO ");
    world.say(stranger, &own.of_phone("INFO", 21, ""));
    world.hear_start(line, "INFO ");
}
