//! Keep-alive by registration (`fent.keep_alive = "register"`): phones refresh often, the registrar hears of it seldom.

use std::time::Duration;

use sip_core::edge::config::KeepAliveMethod;
use sip_core::edge::event::Arrival;
use sip_core::edge::{Command, Config, Event};

use crate::register::{MAC_A, MAC_B, register};
use crate::script::{from_pbx, target};
use crate::transports::{ALL, config, on, phone};
use crate::world::{End, World, between, reply, row, rows};

const SECOND: Duration = Duration::from_secs(1);

fn with(method: KeepAliveMethod) -> Config {
    let mut config = config();
    config.keep_alive.method = method;
    config
}

fn world() -> World {
    World::with(with(KeepAliveMethod::Register))
}

/// Registers, and gives the PBX's end, the phone's token and the answer that the phone got.
fn first(world: &mut World, over: &str, phone: End, text: &str) -> (End, String, String) {
    world.say(phone, &on(over, text));
    let own = world.dialled("10.0.1.50:5061");
    let register = world.hear_start(own, "REGISTER ");
    let contact = row(&register, "Contact").to_owned();
    let token = between(&contact, "crt=", ">").to_owned();
    let more = format!(
        "Contact: {contact}\nP-Associated-URI: <sips:117@example.com>\nDate: Mon, 23 Nov 2026 22:00:00 GMT"
    );
    world.say(own, &reply(&register, "200 OK", "p1", &more));
    (own, token, world.hear_start(phone, "SIP/2.0 200 "))
}

#[test]
fn a_phone_refreshes_every_interval_and_the_registrar_hears_of_it_at_half_its_time() {
    for (over, scheme, _) in ALL {
        let mut world = world();
        let phone = phone(&mut world, over, "198.51.100.7:40000");
        let (own, token, ok) = first(&mut world, over, phone, &register(MAC_A, "192.168.1.7", 1, ""));
        let interval: u64 = if over == "UDP" { 25 } else { 45 };
        let contact = format!(
            "<{scheme}:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{MAC_A}>\";expires={interval}"
        );
        assert_eq!(row(&ok, "Contact"), contact);
        // The phone is a little early each time; what was granted is an hour.
        let (mut passed, mut cseq, mut upstream) = (0, 1, Vec::new());
        while passed < 3 * 3600 {
            world.wait(SECOND * (interval as u32 - 3));
            passed += interval - 3;
            cseq += 1;
            world.say(phone, &on(over, &register(MAC_A, "192.168.1.7", cseq, "")));
            if let Some(text) = world.next(own) {
                assert!(
                    text.starts_with("REGISTER ") && row(&text, "Contact").contains("expires=3600"),
                    "{text}"
                );
                assert_eq!(between(&text, "crt=", ">"), token);
                world.say(own, &reply(&text, "200 OK", "p1", &format!("Contact: {}", row(&text, "Contact"))));
                upstream.push(passed);
            }
            let ok = world.hear_start(phone, "SIP/2.0 200 ");
            assert_eq!(row(&ok, "Contact"), contact);
            assert_eq!(row(&ok, "CSeq"), format!("{cseq} REGISTER"));
            assert_eq!(rows(&ok, "Via").len(), 1);
            assert!(row(&ok, "Via").contains(&format!("branch=z9hG4bKr{MAC_A}{cseq}")), "{ok}");
            world.silent(phone);
        }
        // Each time when half of the hour is over, at the next refresh.
        let gaps: Vec<u64> =
            std::iter::once(&0).chain(&upstream).zip(&upstream).map(|(a, b)| b - a).collect();
        assert!(gaps.len() >= 5 && gaps.iter().all(|gap| (1800..1800 + interval).contains(gap)), "{gaps:?}");
        let gone = |e: &Event| matches!(e, Event::PhoneLost { .. } | Event::Unregistered { .. });
        assert_eq!(world.saw(gone), 0, "{over}");
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
        world.hear_start(phone, "INVITE ");
    }
}

#[test]
fn what_is_answered_here_is_what_the_registrar_said() {
    let mut world = world();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, _, ok) = first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
    world.wait(SECOND * 40);
    let again = register(MAC_A, "192.168.1.7", 2, "").replace(";tag=f", ";tag=g");
    world.say(phone, &again);
    world.silent(own);
    let again = world.hear_start(phone, "SIP/2.0 200 ");
    for name in ["To", "Contact", "P-Associated-URI", "Call-ID"] {
        assert_eq!(row(&again, name), row(&ok, name), "{name}");
    }
    assert!(row(&again, "To").contains(";tag=p1"));
    assert!(row(&again, "From").contains(";tag=g"));
    assert!(!again.contains("\r\nDate:"), "yesterday's news");
    assert!(row(&again, "Via").contains(";received=198.51.100.7;rport=40000"), "{again}");
}

#[test]
fn what_changes_anything_is_the_registrars() {
    let plain = register(MAC_A, "192.168.1.7", 2, "");
    for (what, text) in [
        ("another Contact", register(MAC_A, "192.168.1.8", 2, "")),
        ("a parameter", register(MAC_A, "192.168.1.7", 2, ";q=0.5")),
        ("another Call-ID", plain.replace("Call-ID: reg", "Call-ID: new")),
        ("another address-of-record", plain.replace("To: <sips:anonymous@", "To: <sips:117@")),
        ("another registrar", plain.replace("REGISTER sips:10.0.1.50 ", "REGISTER sips:10.0.1.50:5061 ")),
        ("an end", plain.replace("expires=3600", "expires=0")),
        ("an Expires", format!("{plain}\nExpires: 3600")),
        ("a query", plain.lines().filter(|l| !l.contains("Contact:")).collect::<Vec<_>>().join("\n")),
        ("an old number", register(MAC_A, "192.168.1.7", 1, "").replace("z9hG4bK", "z9hG4bKx")),
    ] {
        let mut world = world();
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        let (own, ..) = first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
        world.wait(SECOND * 40);
        world.say(phone, &text);
        assert!(world.next(own).is_some_and(|text| text.starts_with("REGISTER ")), "{what}");
        world.silent(phone);
    }
    // On another connection, whatever it says.
    let mut world = world();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, ..) = first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
    world.hang(phone);
    let back = world.phone(MAC_A, "198.51.100.7:41000");
    world.say(back, &register(MAC_A, "192.168.1.7", 2, ""));
    world.hear_start(own, "REGISTER ");
    // And nobody refreshes for another phone.
    let mut world = self::world();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let stranger = world.phone(MAC_B, "198.51.100.9:40000");
    world.say(stranger, &register(MAC_A, "192.168.1.7", 2, ""));
    while let Some(text) = world.next(stranger) {
        assert!(!text.starts_with("SIP/2.0 200"), "{text}");
    }
}

#[test]
fn a_registration_that_ended_is_not_refreshed() {
    let mut world = world();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, ..) = first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, "").replace("expires=3600", "expires=0"));
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "p1", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
    world.say(phone, &register(MAC_A, "192.168.1.7", 3, ""));
    let own = world.dialled("10.0.1.50:5061");
    world.hear_start(own, "REGISTER ");
}

#[test]
fn a_phone_that_asks_for_what_it_was_told_keeps_what_was_granted() {
    let mut world = world();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, ..) = first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
    for cseq in 2..80 {
        world.wait(SECOND * 40);
        let text = register(MAC_A, "192.168.1.7", cseq, "").replace("expires=3600", "expires=45");
        world.say(phone, &text);
        if let Some(text) = world.next(own) {
            let contact = row(&text, "Contact");
            assert!(
                contact.ends_with(";expires=3600") && contact.matches("expires").count() == 1,
                "{contact}"
            );
            world.say(own, &reply(&text, "200 OK", "p1", &format!("Contact: {contact}")));
        }
        assert!(row(&world.hear_start(phone, "SIP/2.0 200 "), "Contact").ends_with(";expires=45"));
    }
    let refreshed =
        |e: &Event| matches!(e, Event::Registered { change: Arrival::Refreshed, expires: 3600, .. });
    assert_eq!(world.saw(refreshed), 2, "once because it asked anew, once at half time");
}

#[test]
fn an_expiry_in_the_header_alone_is_shortened_and_a_short_one_is_left() {
    for (granted, told) in [("3600", "45"), ("30", "30")] {
        let mut world = world();
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
        let own = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(own, "REGISTER ");
        let contact = row(&text, "Contact").replace(";expires=3600", "");
        world.say(own, &reply(&text, "200 OK", "p1", &format!("Expires: {granted}\nContact: {contact}")));
        let ok = world.hear_start(phone, "SIP/2.0 200 ");
        assert_eq!(row(&ok, "Expires"), told);
        assert_eq!(row(&ok, "Contact").contains(";expires=45"), granted == "3600", "{ok}");
        // What was granted for less than an interval is the registrar's each time.
        world.wait(SECOND * 20);
        world.say(phone, &register(MAC_A, "192.168.1.7", 2, ""));
        assert_eq!(world.next(own).is_some(), granted == "30");
    }
}

#[test]
fn who_does_not_refresh_is_asked_and_then_gone() {
    for (over, ..) in ALL {
        let mut world = world();
        let phone = phone(&mut world, over, "198.51.100.7:40000");
        first(&mut world, over, phone, &register(MAC_A, "192.168.1.7", 1, ""));
        let interval = if over == "UDP" { 25 } else { 45 };
        world.wait(SECOND * (2 * interval - 1));
        world.silent(phone);
        world.wait(SECOND * 2);
        world.hear_start(phone, "OPTIONS ");
        world.wait(SECOND * 4 * interval);
        assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. })), 1, "{over}");
    }
}

#[test]
fn off_again_each_refresh_is_the_registrars() {
    let mut world = world();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, ..) = first(&mut world, "TLS", phone, &register(MAC_A, "192.168.1.7", 1, ""));
    world.command(Command::Reconfigure(Box::new(with(KeepAliveMethod::Off))));
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, ""));
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "p1", &format!("Contact: {}", row(&text, "Contact"))));
    assert!(row(&world.hear_start(phone, "SIP/2.0 200 "), "Contact").ends_with(";expires=3600"));
}
