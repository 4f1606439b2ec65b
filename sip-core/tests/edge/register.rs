//! Registration: the Contact towards the PBX, the filtered answer, ownership, where a REGISTER may go.

use std::time::Duration;

use sip_core::edge::config::{Connections, PreloadedRoutes};
use sip_core::edge::event::{Arrival, Departure, Reason};
use sip_core::edge::{Command, Event};

use crate::world::{End, PBX, World, between, config, reply, row, rows};

pub(crate) const MAC_A: &str = "08000FD4CBBF";
pub(crate) const MAC_B: &str = "08000FD4CBC0";

/// The seed's literal form of a REGISTER.
pub(crate) fn register(mac: &str, host: &str, cseq: u32, more: &str) -> String {
    register_to(PBX, mac, host, cseq, more)
}

pub(crate) fn register_to(switch: &str, mac: &str, host: &str, cseq: u32, more: &str) -> String {
    format!(
        "REGISTER sips:{switch} SIP/2.0
        Via: SIP/2.0/TLS {host}:5061;branch=z9hG4bKr{mac}{cseq};rport;alias
        Max-Forwards: 70
        From: <sips:anonymous@{switch}>;tag=f{mac}
        To: <sips:anonymous@{switch}>
        Call-ID: reg-{mac}@{host}
        CSeq: {cseq} REGISTER
        Contact: <sips:anonymous@{host}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\";expires=3600{more}
        X-ShoreTel-CallGUID: kept"
    )
}

/// Registers a phone and gives its connection, the PBX's end of it, and its token.
pub(crate) fn registered(world: &mut World, mac: &str, remote: &str, host: &str) -> (End, End, String) {
    let phone = world.phone(mac, remote);
    let (pbx, token) = register_on(world, phone, mac, host, 1);
    (phone, pbx, token)
}

pub(crate) fn register_on(world: &mut World, phone: End, mac: &str, host: &str, cseq: u32) -> (End, String) {
    world.say(phone, &register(mac, host, cseq, ""));
    let pbx = world.dialled(&format!("{PBX}:5061"));
    let text = world.hear_start(pbx, "REGISTER ");
    let contact = row(&text, "Contact").to_owned();
    let token = between(&contact, "crt=", ">").to_owned();
    world.say(pbx, &reply(&text, "200 OK", "p1", &format!("Contact: {contact}")));
    world.hear_start(phone, "SIP/2.0 200 ");
    (pbx, token)
}

#[test]
fn the_contact_towards_the_pbx_and_back() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ";q=0.5"));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(pbx, "REGISTER sips:10.0.1.50 SIP/2.0\r\n");
    let token = between(&text, "crt=", ">").to_owned();
    assert_eq!(token.len(), 36);
    assert_eq!(
        row(&text, "Contact"),
        format!(
            "<sips:anonymous@10.0.1.2:5061;transport=tls;crt={token}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{MAC_A}>\";expires=3600;q=0.5"
        )
    );
    assert_eq!(row(&text, "X-ShoreTel-CallGUID"), "kept");
    assert_eq!(row(&text, "Max-Forwards"), "69");
    let vias = rows(&text, "Via");
    assert!(vias[0].starts_with("SIP/2.0/TLS 10.0.1.2:5061;branch=z9hG4bK"), "{}", vias[0]);
    assert!(
        vias[1].contains(";received=198.51.100.7;rport=40000") && vias[1].contains(";alias"),
        "{}",
        vias[1]
    );
    assert_eq!(rows(&text, "Record-Route").len() + rows(&text, "Path").len(), 0);

    // The PBX lists all bindings of `anonymous`; the phone sees its own, as it sent it, with the PBX's expires.
    let other = "<sips:anonymous@10.0.1.2:5061;transport=tls;crt=aebagbafaydqqcikbmga2dqpcaireeyuculbogaz2m>;expires=60";
    let own = row(&text, "Contact")
        .replace("expires=3600", "expires=1800")
        .to_uppercase()
        .replace("SIPS", "sips")
        .replace("EXPIRES", "expires")
        .replace("ANONYMOUS", "anonymous");
    world.say(
        pbx,
        &reply(
            &text,
            "200 OK",
            "p1",
            &format!("Contact: {other}, {own}\nPath: <sips:10.0.1.2;lr>\nService-Route: <sip:10.0.1.50;lr>"),
        ),
    );
    let answer = world.hear_start(phone, "SIP/2.0 200 OK\r\n");
    assert_eq!(rows(&answer, "Contact").len(), 1);
    assert!(
        row(&answer, "Contact").starts_with("<sips:anonymous@192.168.1.7>;")
            && row(&answer, "Contact").contains("expires=1800"),
        "{answer}"
    );
    assert_eq!(rows(&answer, "Via").len(), 1);
    assert!(
        row(&answer, "Via").contains("branch=z9hG4bKr08000FD4CBBF1")
            && row(&answer, "Via").contains("rport=40000")
    );
    assert_eq!(rows(&answer, "Service-Route").len() + rows(&answer, "Path").len(), 0);
    let stands = |e: &Event| matches!(e, Event::Registered { phone, expires: 1800, change: Arrival::New, .. } if phone.tag.as_deref() == Some(MAC_A));
    assert_eq!(world.saw(stands), 1);

    // A refresh presents an equal URI; it expires when the PBX said.
    let (_, again) = register_on(&mut world, phone, MAC_A, "192.168.1.7", 2);
    assert_eq!(again, token);
    world.wait(Duration::from_secs(3601));
    assert_eq!(world.saw(|e| matches!(e, Event::Unregistered { cause: Departure::Expired, .. })), 1);
    assert!(world.edge.bindings().is_empty());
}

/// SIP-16: the PBX lists all phones of the address-of-record, the phone sees its own.
#[test]
fn of_five_hundred_contacts_in_the_200_the_phone_sees_its_own() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(pbx, "REGISTER ");
    let others: String = (0..500)
        .map(|n| format!("<sips:anonymous@10.0.1.2:5061;transport=tls;crt={n:a>36}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{n:012X}>\";expires=3600, "))
        .collect();
    let answer = reply(&text, "200 OK", "p1", &format!("Contact: {others}{}", row(&text, "Contact")));
    assert!(answer.len() > 65_536, "{}", answer.len());
    world.say(pbx, &answer);
    let answer = world.hear_start(phone, "SIP/2.0 200 ");
    assert!(answer.len() < 2048, "{answer}");
    assert_eq!(rows(&answer, "Contact").len(), 1);
    assert!(row(&answer, "Contact").starts_with("<sips:anonymous@192.168.1.7>;"), "{answer}");
}

#[test]
fn what_is_not_a_2xx_leaves_the_binding_as_it_was() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear(pbx);
    world.say(pbx, &reply(&text, "423 Interval Too Brief", "p", "Min-Expires: 7200"));
    let answer = world.hear_start(phone, "SIP/2.0 423 ");
    assert_eq!(row(&answer, "Min-Expires"), "7200");
    assert!(world.edge.bindings().is_empty());

    let (pbx, _) = register_on(&mut world, phone, MAC_A, "192.168.1.7", 2);
    world.say(phone, &register(MAC_A, "192.168.1.99", 3, ""));
    let text = world.hear(pbx);
    world.say(
        pbx,
        &reply(&text, "401 Unauthorized", "p", "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\""),
    );
    let answer = world.hear_start(phone, "SIP/2.0 401 ");
    assert_eq!(row(&answer, "WWW-Authenticate"), "Digest realm=\"x\", nonce=\"1\"");
    assert!(world.edge.bindings().iter().all(|b| b.record.contact == "sips:anonymous@192.168.1.7"));
}

#[test]
fn a_redirect_passes_untouched_and_the_next_switch_serves() {
    let mut world = World::new();
    world.shows_inside = true;
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear(pbx);
    world.say(
        pbx,
        &reply(&text, "301 Moved Permanently", "p", "Contact: <sips:10.0.1.51:5061;transport=tls>"),
    );
    let answer = world.hear_start(phone, "SIP/2.0 301 ");
    assert_eq!(row(&answer, "Contact"), "<sips:10.0.1.51:5061;transport=tls>");
    assert!(world.edge.bindings().is_empty());
    world.say(phone, &register_to("10.0.1.51", MAC_A, "192.168.1.7", 2, ""));
    let second = world.dialled("10.0.1.51:5061");
    world.hear_start(second, "REGISTER sips:10.0.1.51 ");
    world.silent(pbx);
}

#[test]
fn a_star_is_narrowed_to_the_phone_itself() {
    let mut world = World::new();
    let (a, pbx_a, token_a) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let star = |contact: &str, expires: &str| {
        format!(
            "REGISTER sips:{PBX} SIP/2.0
            Via: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKstar{};rport
            From: <sips:anonymous@{PBX}>;tag=1
            To: <sips:anonymous@{PBX}>
            Call-ID: star
            CSeq: {} REGISTER
            Contact: {contact}{expires}",
            contact.len() + expires.len(),
            contact.len() + expires.len()
        )
    };
    for bad in [star("*", ""), star("*", "\nExpires: 10"), star("*, <sip:a@b>", "\nExpires: 0")] {
        world.say(a, &bad);
        world.hear_start(a, "SIP/2.0 400 Bad Request (Contact");
    }
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Contact, .. })), 3);
    world.say(a, &star("*", "\nExpires: 0"));
    let text = world.hear_start(pbx_a, "REGISTER ");
    assert_eq!(
        rows(&text, "Contact"),
        [format!("<sips:anonymous@10.0.1.2:5061;transport=tls;crt={token_a}>;expires=0")]
    );
    world.say(pbx_a, &reply(&text, "200 OK", "p", "X: 1"));
    world.hear_start(a, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Unregistered { cause: Departure::Asked, .. })), 1);
    let left: Vec<_> =
        world.edge.bindings().iter().filter(|b| b.registered).map(|b| b.record.tag.clone()).collect();
    assert_eq!(left, [Some(MAC_B.to_owned())]);
}

#[test]
fn a_phone_leaves_with_expires_zero() {
    let mut world = World::new();
    let (phone, pbx, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, "").replace("expires=3600", "expires=0"));
    let text = world.hear(pbx);
    assert!(row(&text, "Contact").ends_with(";expires=0"));
    world.say(pbx, &reply(&text, "200 OK", "p", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert!(world.edge.bindings().is_empty());
}

#[test]
fn a_pbx_that_writes_our_contact_anew_still_registers_the_phone() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear(pbx);
    world.say(
        pbx,
        &reply(&text, "200 OK", "t", "Contact: <sip:anonymous@10.0.1.2>;expires=600\nExpires: 700"),
    );
    let answer = world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(rows(&answer, "Contact"), ["<sips:anonymous@192.168.1.7>;expires=700"]);
    assert_eq!(world.saw(|e| matches!(e, Event::Registered { expires: 700, .. })), 1);
}

#[test]
fn where_a_register_may_go() {
    let mut world = World::with({
        let mut config = config();
        config.servers = vec![sip_core::resolve::Server {
            name: "main".into(),
            matches: vec!["sip.example.com".into()],
            addresses: vec![("10.0.1.51".parse().unwrap(), Some(5071))],
            ..Default::default()
        }];
        config.internal_domains = vec!["example.internal".into()];
        config
    });
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    // Not in the inside networks, foreign names, a detour by maddr: no look-up, no packet.
    for (n, bad) in
        ["203.0.113.9", "10.0.1.2.evil.test", "evil.test", "10.0.1.99", "10.0.1.50;maddr=203.0.113.9"]
            .iter()
            .enumerate()
    {
        world.say(
            phone,
            &register_to(bad, MAC_A, "192.168.1.7", 100 + n as u32, "")
                .replace("anonymous@10.0.1.50;maddr=203.0.113.9", "anonymous@10.0.1.50"),
        );
        world.hear_start(phone, "SIP/2.0 403 ");
    }
    assert!(world.dials.is_empty() && world.asked.is_empty());
    // A configured name.
    world.say(phone, &register_to("sip.example.com", MAC_A, "192.168.1.7", 1, ""));
    let main = world.dialled("10.0.1.51:5071");
    world.hear_start(main, "REGISTER sips:sip.example.com ");
    // Our own name, without a registration: the first server; the PBX is asked by its own address.
    world.say(phone, &register_to("192.0.2.1", MAC_A, "192.168.1.7", 2, ""));
    world.hear_start(main, "REGISTER sips:10.0.1.51 ");
    // A name under an internal domain is looked up; one address outside spoils all.
    world.say(phone, &register_to("pbx.example.internal", MAC_A, "192.168.1.7", 3, ""));
    world.answer_lookup(&["10.0.1.52", "203.0.113.9"]);
    world.hear_start(phone, "SIP/2.0 403 ");
    world.say(phone, &register_to("pbx2.example.internal", MAC_A, "192.168.1.7", 4, ""));
    world.answer_lookup(&["10.0.1.52", "10.0.1.53"]);
    world.hear_start(world.dialled("10.0.1.52:5061"), "REGISTER sips:pbx2.example.internal ");
    // No answer in time.
    world.say(phone, &register_to("pbx3.example.internal", MAC_A, "192.168.1.7", 5, ""));
    world.wait(Duration::from_secs(5));
    world.hear_start(phone, "SIP/2.0 503 ");
}

#[test]
fn every_phone_has_a_connection_of_its_own_to_the_switch() {
    let mut world = World::new();
    let (_, one, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (_, two, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.7");
    assert_ne!(one, two);
    let mut shared = config();
    shared.switches.connections = Connections::Shared;
    // A shard shares its own.
    let mut world = World::sharded(shared, 1);
    let (_, one, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (_, two, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.7");
    assert_eq!(one, two);
}

#[test]
fn an_absent_pbx_is_503_at_once_and_the_next_address_is_tried() {
    let mut world = World::with({
        let mut config = config();
        config.servers = vec![sip_core::resolve::Server {
            name: "main".into(),
            matches: vec!["sip.example.com".into()],
            addresses: vec![("10.0.1.51".parse().unwrap(), None), ("10.0.1.52".parse().unwrap(), None)],
            ..Default::default()
        }];
        config
    });
    world.down.insert("10.0.1.51:5061".parse().unwrap());
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register_to("sip.example.com", MAC_A, "192.168.1.7", 1, ""));
    world.hear_start(world.dialled("10.0.1.52:5061"), "REGISTER ");
    world.down.insert("10.0.1.52:5061".parse().unwrap());
    world.hang(world.dialled("10.0.1.52:5061"));
    world.hear_start(phone, "SIP/2.0 503 ");
    world.say(phone, &register_to("sip.example.com", MAC_A, "192.168.1.7", 2, ""));
    let answer = world.hear_start(phone, "SIP/2.0 503 ");
    let wait: u32 = row(&answer, "Retry-After").parse().unwrap();
    assert!((10..=60).contains(&wait));
    assert!(world.saw(|e| matches!(e, Event::SwitchUnreachable { .. })) >= 3);
}

#[test]
fn a_path_when_it_is_wanted() {
    let mut config = config();
    config.interop.contacts.add_path = true;
    let mut world = World::with(config);
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let text = world.hear(world.dialled("10.0.1.50:5061"));
    assert!(row(&text, "Path").starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ob;ft="), "{text}");
}

#[test]
fn what_a_phone_may_not_bring_along() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let more = "\nRoute: <sips:192.0.2.1;lr>, <sip:203.0.113.9;lr>\nP-ASSERTED-IDENTITY : <sip:boss@10.0.1.50>\nPath: <sip:203.0.113.9;lr>\np-charging-vector: x\nDiversion: <sip:a@b>\nRecord-Route: <sip:203.0.113.9;lr>";
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, more));
    let text = world.hear(world.dialled("10.0.1.50:5061"));
    for gone in ["Route", "Path", "203.0.113.9", "ASSERTED", "charging", "Diversion"] {
        assert!(!text.contains(gone), "{gone} in\n{text}");
    }
    let mut strict = config();
    strict.preloaded_routes = PreloadedRoutes::Reject;
    world.command(Command::Reconfigure(Box::new(strict)));
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, more));
    world.hear_start(phone, "SIP/2.0 403 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::PreloadedRoute, .. })), 1);
    // Ours alone are no preloaded ones.
    world.say(phone, &register(MAC_A, "192.168.1.7", 3, "\nRoute: <sips:192.0.2.1;lr>"));
    world.hear_start(world.dialled("10.0.1.50:5061"), "REGISTER ");
}

#[test]
fn malformed_requests_name_the_field() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for (from, to, status, cause) in [
        ("CSeq: 1 REGISTER", "CSeq: 1 INVITE", "400 ", "CSeq"),
        ("Call-ID: ", "X-Call: ", "400 ", "Call-ID"),
        ("Max-Forwards: 70", "Max-Forwards: 0", "483 ", ""),
        ("Max-Forwards: 70", "Max-Forwards: x", "400 ", "Max-Forwards"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nProxy-Require: privacy", "420 ", "Unsupported: privacy"),
        ("REGISTER sips:10.0.1.50", "REGISTER urn:service:sos", "416 ", ""),
        ("10.0.1.50 SIP/2.0", "10.0.1.50 SIP/3.0", "505 ", ""),
    ] {
        world.say(
            phone,
            &register(MAC_A, "192.168.1.7", 1, "")
                .replace(from, to)
                .replace("z9hG4bKr", &format!("z9hG4bK{}", status.len() + to.len())),
        );
        let answer = world.hear_start(phone, &format!("SIP/2.0 {status}"));
        assert!(answer.contains(cause), "{answer}");
    }
    assert!(world.dials.is_empty());
}

#[test]
fn the_first_notify_may_overtake_the_200() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear(own);
    let uri = between(row(&text, "Contact"), "<", ">").to_owned();
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &crate::script::from_pbx("NOTIFY", &uri, "n", 1, "", ""));
    world.hear_start(phone, "NOTIFY sips:anonymous@192.168.1.7 ");
    // But it is no registration: no user finds it, and a refusal forgets it.
    world.say(pbx, &crate::script::from_pbx("NOTIFY", "sips:anonymous@10.0.1.2", "m", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
    assert!(world.edge.snapshot(world.now).phones.is_empty());
    world.say(own, &reply(&text, "403 Forbidden", "t", "X: 1"));
    world.hear_start(phone, "SIP/2.0 403 ");
    world.say(pbx, &crate::script::from_pbx("NOTIFY", &uri, "o", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
}

#[test]
fn a_phone_that_left_before_its_200_is_registered_and_gone() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear(own);
    world.hang(phone);
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    assert_eq!(world.saw(|e| matches!(e, Event::Location(_))), 1);
    let uri = between(row(&text, "Contact"), "<", ">").to_owned();
    world.say(own, &crate::script::from_pbx("NOTIFY", &uri, "n", 1, "", ""));
    world.hear_start(own, "SIP/2.0 480 ");
}
