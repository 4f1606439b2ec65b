//! Phones over UDP, TCP and TLS side by side: which listener each is told, whose a tag is where there is no certificate,
//! and what must hold over every transport (S6, S10, S13, S19).

use std::time::Duration;

use sip_core::edge::config::Listener;
use sip_core::edge::event::{DropCause, Reason};
use sip_core::edge::{Config, Event};
use sip_core::flow::{ListenerId, Side, Source, Transport};

use crate::register::{MAC_A, MAC_B, register};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::world::{End, IN, OUT, OUT6, World, between, reply, row, rows};

/// Three rows outside: UDP and TCP at 5060, TLS at 5061.
pub(crate) fn config() -> Config {
    let mut config = crate::world::config();
    for (side, local, transport) in [
        (Side::Outside, format!("{OUT}:5061"), Transport::Tls),
        (Side::Outside, format!("{OUT}:5060"), Transport::Udp),
        (Side::Outside, format!("[{OUT6}]:5060"), Transport::Udp),
        (Side::Outside, format!("{OUT}:5060"), Transport::Tcp),
        (Side::Inside, format!("{IN}:5061"), Transport::Tls),
        (Side::Inside, format!("{IN}:5060"), Transport::Udp),
    ] {
        config.add_listener(Listener::new(side, local.parse().unwrap(), transport));
    }
    config
}

/// The transports with what is ours on each.
pub(crate) const ALL: [(&str, &str, &str); 3] = [
    ("UDP", "sip", "192.0.2.1:5060;transport=udp"),
    ("TCP", "sip", "192.0.2.1:5060;transport=tcp"),
    ("TLS", "sips", "192.0.2.1:5061;transport=tls"),
];

pub(crate) fn udp(remote: &str) -> End {
    End(Source::Datagram { listener: ListenerId(0), remote: remote.parse().unwrap() })
}

/// A phone that speaks this transport.
pub(crate) fn phone(world: &mut World, over: &str, remote: &str) -> End {
    match over {
        "UDP" => udp(remote),
        "TCP" => world.plain(remote),
        _ => world.phone(remote, remote),
    }
}

/// A phone's text as it is written on this transport.
pub(crate) fn on(over: &str, text: &str) -> String {
    if over == "TLS" {
        return text.to_owned();
    }
    let text = text.replace("SIP/2.0/TLS 192.168.1.7:5061", &format!("SIP/2.0/{over} 192.168.1.7:5060"));
    text.replace("<sips:", "<sip:").replace(" sips:", " sip:")
}

/// Registers over any transport; the PBX's end of it, and the token.
pub(crate) fn register_over(
    world: &mut World,
    over: &str,
    phone: End,
    mac: &str,
    cseq: u32,
) -> (End, String) {
    world.say(phone, &on(over, &register(mac, "192.168.1.7", cseq, "")));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(pbx, "REGISTER ");
    let contact = row(&text, "Contact").to_owned();
    let token = between(&contact, "crt=", ">").to_owned();
    world.say(pbx, &reply(&text, "200 OK", "p1", &format!("Contact: {contact}")));
    world.hear_start(phone, "SIP/2.0 200 ");
    (pbx, token)
}

/// A call from the PBX to a phone over any transport, answered.
fn call(world: &mut World, over: &str, id: &str, remote: &str) -> Call {
    let phone = phone(world, over, remote);
    let (own, token) = register_over(world, over, phone, MAC_A, 1);
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), id, 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    let ok = on(over, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    world.say(phone, &ok);
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    let call = Call {
        id: id.to_owned(),
        phone,
        own,
        pbx,
        token,
        phone_route: row(&invite, "Record-Route").to_owned(),
        phone_target: between(row(&invite, "Contact"), "<", ">").to_owned(),
        pbx_route: row(&ok, "Record-Route").to_owned(),
    };
    world.say(pbx, &call.of_pbx("ACK", 1, ""));
    world.hear_start(phone, "ACK ");
    call
}

#[test]
fn each_phone_is_told_the_listener_it_uses() {
    for (over, scheme, ours) in ALL {
        let mut world = World::with(config());
        let phone = phone(&mut world, over, "198.51.100.7:40000");
        let (own, token) = register_over(&mut world, over, phone, MAC_A, 1);
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", &sdp("")));
        let invite = world.hear_start(phone, &format!("INVITE {scheme}:117@192.168.1.7 SIP/2.0\r\n"));
        let sent_by = ours.split(';').next().unwrap();
        let via = row(&invite, "Via");
        assert!(via.starts_with(&format!("SIP/2.0/{over} {sent_by};branch=z9hG4bK")), "{via}");
        assert_eq!(via.contains(";rport"), over == "UDP", "{via}");
        assert!(
            row(&invite, "Record-Route").starts_with(
                &format!("<sips:{ours};lr;ft=").replace(
                    if over == "TLS" { "" } else { "<sips" },
                    if over == "TLS" { "" } else { "<sip" },
                )
            )
        );
        assert!(row(&invite, "Contact").starts_with(&format!("<{scheme}:200@{ours};pc=")), "{invite}");
        // Towards the PBX every phone looks alike.
        world.say(phone, &on(over, &reply(&invite, "200 OK", "a", "Contact: <sips:117@192.168.1.7>")));
        let ok = world.hear_start(pbx, "SIP/2.0 200 ");
        assert!(row(&ok, "Record-Route").starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ft="), "{ok}");
        assert!(row(&ok, "Contact").contains(&format!(":117@10.0.1.2:5061;transport=tls;crt={token}>")));
        // A call out, and what the phone is told of it.
        world.say(phone, &on(over, &from_phone("INVITE", "sips:200@10.0.1.50", "d", 1, "", &sdp(""))));
        let invite = world.hear_start(own, "INVITE ");
        assert!(rows(&invite, "Via")[1].contains(";received=198.51.100.7;rport=40000"), "{invite}");
        world.say(own, &reply(&invite, "200 OK", "u", "Contact: <sips:200@10.0.1.50:5061;transport=tls>"));
        let ok = world.hear_start(phone, "SIP/2.0 200 ");
        assert!(row(&ok, "Contact").starts_with(&format!("<{scheme}:200@{ours};pc=")), "{ok}");
        assert!(row(&ok, "Record-Route").contains(&format!(":{ours};lr;ft=")), "{ok}");
    }
}

#[test]
fn a_call_runs_its_course_over_every_transport() {
    for (over, ..) in ALL {
        let mut world = World::with(config());
        let call = call(&mut world, over, "c", "198.51.100.7:40000");
        for (n, method) in [(2, "INFO"), (3, "BYE")] {
            world.say(call.phone, &on(over, &call.of_phone(method, n, "")));
            let text = world.hear_start(call.own, &format!("{method} sips:200@10.0.1.50:5061"));
            world.say(call.own, &reply(&text, "200 OK", "", "X: 1"));
            world.hear_start(call.phone, "SIP/2.0 200 ");
        }
        assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { by: Some(Side::Outside), .. })), 1, "{over}");
        world.wait(Duration::from_secs(60));
        assert_eq!(world.edge.snapshot(world.now).dialogs, 0);
    }
}

#[test]
fn a_phone_whose_nat_gave_it_another_port_is_found_there() {
    // By a request of its call.
    let mut world = World::with(config());
    let mut call = call(&mut world, "UDP", "c", "198.51.100.7:40000");
    call.phone = udp("198.51.100.7:40001");
    world.say(call.phone, &on("UDP", &call.of_phone("INFO", 2, "")));
    let text = world.hear_start(call.own, "INFO ");
    world.say(call.own, &reply(&text, "200 OK", "", "X: 1"));
    world.hear_start(call.phone, "SIP/2.0 200 ");
    world.say(call.pbx, &call.of_pbx("BYE", 2, ""));
    world.hear_start(call.phone, "BYE ");
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneMoved { .. })), 1);
    // By a new request that bears the Contact it registered.
    let third = udp("198.51.100.7:40002");
    let options = from_phone("OPTIONS", "sips:200@10.0.1.50", "o", 1, "", "");
    world.say(third, &on("UDP", &options.replace("sips:117@192.168.1.7", "sips:anonymous@192.168.1.7")));
    world.hear_start(call.own, "OPTIONS ");
    let invite = from_pbx("INVITE", &target(&call.token), "d", 1, "", "");
    world.say(call.pbx, &invite);
    world.hear_start(third, "INVITE ");
    // By its registration.
    let fourth = udp("198.51.100.7:40003");
    register_over(&mut world, "UDP", fourth, MAC_A, 2);
    world.say(call.pbx, &invite.replace("Kd1", "Ke1").replace("Call-ID: d", "Call-ID: e"));
    world.hear_start(fourth, "INVITE ");
    assert_eq!(world.edge.bindings().len(), 1, "no guest was made on the way");
    // A stranger at the same address with another Contact is a guest, and moves nobody.
    let fifth = udp("198.51.100.7:40004");
    world.say(fifth, &on("UDP", &options.replace("Call-ID: o", "Call-ID: p").replace("Koo1", "Kop1")));
    assert_eq!(world.edge.bindings().len(), 2);
    assert!(world.edge.bindings().iter().any(|b| b.registered && b.path == Some(fourth.0)));
}

#[test]
fn without_a_certificate_the_address_owns_the_tag() {
    for (over, ..) in ALL.into_iter().take(2) {
        let mut world = World::with(config());
        let owner = phone(&mut world, over, "198.51.100.7:40000");
        let (_, token) = register_over(&mut world, over, owner, MAC_A, 1);
        // Another address: the owner is asked, and answers.
        let thief = phone(&mut world, over, "203.0.113.66:5060");
        world.say(thief, &on(over, &register(MAC_A, "192.168.1.7", 2, "")));
        let options = world.hear_start(owner, "OPTIONS ");
        world.say(owner, &reply(&options, "200 OK", "x", "X: 1"));
        world.hear_start(thief, "SIP/2.0 403 ");
        // The owner is silent: over it goes.
        world.say(thief, &on(over, &register(MAC_A, "192.168.1.7", 3, "")));
        world.wait(Duration::from_secs(2));
        let pbx = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(pbx, "REGISTER ");
        world.say(pbx, &reply(&text, "200 OK", "t", "X: 1"));
        world.hear_start(thief, "SIP/2.0 200 ");
        assert_eq!(world.saw(|e| matches!(e, Event::Mismatch { takeover: true, accepted: true, .. })), 1);
        let switch = world.switch("10.0.1.50:33000");
        world.say(switch, &from_pbx("OPTIONS", &target(&token), "c", 1, "", ""));
        world.hear_start(thief, "OPTIONS sip:117@192.168.1.7 ");
    }
    // The flow token of another address is worth nothing.
    let mut world = World::with(config());
    let call = call(&mut world, "UDP", "c", "198.51.100.7:40000");
    let thief = udp("203.0.113.66:5060");
    world.say(thief, &on("UDP", &call.of_phone("BYE", 2, "")));
    world.hear_start(thief, "SIP/2.0 403 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Token, .. })), 1);
}

#[test]
fn a_household_of_ipv6_is_one_owner() {
    let mut world = World::with(config());
    let phone = udp("[2001:db8:a1::7]:5060");
    register_over(&mut world, "UDP", phone, MAC_A, 1);
    // Privacy addresses change within the /64.
    let again = udp("[2001:db8:a1::beef]:5060");
    register_over(&mut world, "UDP", again, MAC_A, 2);
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneMoved { .. })), 1);
    assert_eq!(
        world.saw(|e| matches!(e, Event::Mismatch { .. })),
        1,
        "it was told once that nothing names the tag"
    );
    // The face is the listener of that family; the PBX is on IPv4.
    let switch = world.switch("10.0.1.50:33000");
    let token = world.edge.bindings().iter().find_map(|b| b.record.contact_token.clone()).unwrap();
    world.say(switch, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
    let invite = world.hear_start(again, "INVITE ");
    assert!(row(&invite, "Via").starts_with("SIP/2.0/UDP [2001:db8::1]:5060;branch="), "{invite}");
    assert!(row(&invite, "Record-Route").starts_with("<sip:[2001:db8::1]:5060;transport=udp;lr;ft="));
    let other = udp("[2001:db8:a2::7]:5060");
    world.say(other, &on("UDP", &register(MAC_A, "192.168.1.7", 3, "")));
    world.hear_start(again, "OPTIONS ");
}

#[test]
fn one_address_has_so_many_phones_connections_and_calls() {
    let mut config = config();
    config.limits.bindings_per_address = 2;
    config.limits.flows_per_address = 3;
    config.limits.dialogs_per_address = 2;
    let mut world = World::with(config);
    let (a, b, c) = (udp("198.51.100.7:1"), udp("198.51.100.7:2"), udp("198.51.100.7:3"));
    register_over(&mut world, "UDP", a, MAC_A, 1);
    register_over(&mut world, "UDP", b, MAC_B, 1);
    world.say(c, &on("UDP", &register("08000FD4CBC1", "192.168.1.7", 1, "")));
    world.hear_start(c, "SIP/2.0 403 ");
    let limit = Reason::Limit("bindings_per_address");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason, .. } if *reason == limit)), 1);
    register_over(&mut world, "UDP", udp("198.51.100.8:1"), "08000FD4CBC1", 1);
    // Connections.
    let open: Vec<End> = (0..5).map(|n| world.plain(&format!("198.51.100.7:{}", 4000 + n))).collect();
    assert_eq!(open.iter().filter(|end| world.stands(**end)).count(), 3);
    // Calls.
    for n in 0..2 {
        world.say(a, &on("UDP", &from_phone("INVITE", "sips:200@10.0.1.50", &format!("c{n}"), 1, "", "")));
        let pbx = world.dialled("10.0.1.50:5061");
        let pbx = [pbx, world.dials.iter().map(|(_, flow)| End(Source::Flow(*flow))).next().unwrap()]
            .into_iter()
            .find_map(|end| world.next(end).map(|text| (end, text)));
        let (pbx, invite) = pbx.expect("an INVITE");
        world.say(pbx, &reply(&invite, "200 OK", "u", "Contact: <sips:200@10.0.1.50>"));
        world.hear_start(a, "SIP/2.0 200 ");
    }
    world.say(a, &on("UDP", &from_phone("INVITE", "sips:200@10.0.1.50", "c9", 1, "", "")));
    world.hear_start(a, "SIP/2.0 503 Too Many Calls");
}

#[test]
fn s6_a_stray_response_goes_nowhere() {
    for (over, ..) in ALL {
        let mut world = World::with(config());
        let end = phone(&mut world, over, "198.51.100.7:40000");
        let before = world.wire.len();
        world.say(
            end,
            &format!(
                "SIP/2.0 200 OK
                Via: SIP/2.0/{over} 192.0.2.1:5060;branch=z9hG4bKx
                Via: SIP/2.0/UDP 10.0.1.99:5060;branch=z9hG4bKy
                From: <sip:a@b>;tag=1
                To: <sip:c@d>;tag=2
                Call-ID: s
                CSeq: 1 INVITE"
            ),
        );
        assert_eq!(world.wire.len(), before + 1, "{over}: nothing was sent");
        assert_eq!(
            world.saw(|e| matches!(e, Event::Dropped { cause: DropCause::StrayResponse, .. })),
            1,
            "{over}"
        );
    }
}

#[test]
fn s10_answers_go_where_the_request_came_from() {
    for (over, ..) in ALL {
        let mut world = World::with(config());
        let end = phone(&mut world, over, "198.51.100.7:40000");
        let options = from_phone("OPTIONS", "sips:192.0.2.1:5061", "o", 1, "", "")
            .replace(";rport;alias", ";rport=9;received=203.0.113.66;maddr=203.0.113.67")
            .replace("SIP/2.0/TLS 192.168.1.7:5061", &format!("SIP/2.0/{over} 203.0.113.68:5066"));
        world.say(end, &options);
        let ok = world.hear_start(end, "SIP/2.0 200 ");
        assert!(row(&ok, "Via").contains("received=198.51.100.7"), "{ok}");
        assert!(world.wire.iter().filter(|line| line.starts_with(">>")).count() == 1, "{over}");
    }
}

#[test]
fn s13_what_looks_as_if_it_were_in_a_dialog_is_481() {
    for (over, ..) in ALL {
        let mut world = World::with(config());
        let end = phone(&mut world, over, "198.51.100.7:40000");
        let (own, _) = register_over(&mut world, over, end, MAC_A, 1);
        for method in ["BYE", "INFO", "INVITE", "REFER"] {
            world.say(end, &on(over, &from_phone(method, "sips:200@10.0.1.50", "x", 7, "none", "")));
            world.hear_start(end, "SIP/2.0 481 ");
        }
        world.say(end, &on(over, &from_phone("ACK", "sips:200@10.0.1.50", "y", 7, "none", "")));
        world.silent(end);
        world.silent(own);
    }
}

#[test]
fn s19_an_answer_over_udp_is_less_than_three_times_the_question() {
    // The shortest of each kind.
    let question = |method: &str, uri: &str, more: &str| {
        format!(
            "{method} {uri} SIP/2.0\r\nv:SIP/2.0/UDP h;branch=z9hG4bK{method}\r\nf:<sip:a>;tag=1\r\nt:<sip:a>{more}\r\ni:{method}\r\nCSeq:1 {method}\r\n\r\n"
        )
    };
    let questions = [
        question("OPTIONS", "sip:192.0.2.1", ""),
        question("INVITE", "sip:a@203.0.113.5", ""),
        question("REGISTER", "sip:203.0.113.5", ""),
        question("BYE", "sip:a@b", ";tag=2"),
        question("INVITE", "tel:1", ""),
        question("CANCEL", "sip:a@b", ""),
        question("MESSAGE", "sip:a@b", ""),
        question("INVITE", "sip:a@b", "\r\nMax-Forwards:0"),
        question("INVITE", "sip:a@b", "\r\nProxy-Require:x"),
    ];
    for distrusted in [false, true] {
        for text in &questions {
            let mut world = World::with(config());
            world.distrusted = distrusted;
            let end = udp("203.0.113.66:5060");
            let sent = world.raw(end, text);
            // Nobody acknowledges anything.
            world.wait(Duration::from_secs(120));
            let mut heard = 0;
            while let Some(answer) = world.next(end) {
                heard += answer.len();
            }
            assert!(heard > 0 && heard < 3 * sent, "{heard} octets for {sent}:\n{text}\n{}", world.story());
            assert!(!distrusted || world.story().contains("SIP/2.0 4"), "{}", world.story());
        }
    }
}

#[test]
fn a_refused_invite_is_refused_again_when_it_is_asked_again() {
    let mut world = World::with(config());
    let end = udp("198.51.100.7:5060");
    let invite = on("UDP", &from_phone("INVITE", "sips:200@203.0.113.5", "c", 1, "", ""));
    world.say(end, &invite);
    let first = world.hear_start(end, "SIP/2.0 403 ");
    world.wait(Duration::from_millis(500));
    world.silent(end);
    world.say(end, &invite);
    assert_eq!(world.hear(end), first);
    world.say(
        end,
        &on("UDP", &from_phone("ACK", "sips:200@203.0.113.5", "c", 1, "x", ""))
            .replace("ACK;rport", "INVITE;rport"),
    );
    world.wait(Duration::from_secs(60));
    world.silent(end);
}

#[test]
fn datagrams_of_an_outside_row_that_trusts_nobody_are_403() {
    let mut world = World::with(config());
    world.distrusted = true;
    let end = udp("198.51.100.7:5060");
    for text in [
        on("UDP", &register(MAC_A, "192.168.1.7", 1, "")),
        on("UDP", &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", "")),
    ] {
        world.say(end, &text);
        world.hear_start(end, "SIP/2.0 403 ");
    }
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Unverified, .. })), 2);
    assert!(world.dials.is_empty());
}
