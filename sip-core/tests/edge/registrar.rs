//! What the interoperability profile changes in a REGISTER and its answer (SIP-16, SIP-17, SIP-23 to SIP-29).

use std::time::Duration;

use sip_core::edge::event::{Lack, Reason, Step};
use sip_core::edge::interop::{AddExpires, Contacts, UriEncoding};
use sip_core::edge::{Command, Event};

use crate::register::{MAC_A, MAC_B, register, register_to, registered};
use crate::routing::steps;
use crate::script::{from_pbx, from_phone, sdp};
use crate::world::{End, World, between, config, reply, row, rows};

fn world(set: impl FnOnce(&mut Contacts)) -> World {
    let mut config = config();
    set(&mut config.interop.contacts);
    World::with(config)
}

/// A phone's REGISTER as the PBX sees it, and the PBX's end.
fn registering(world: &mut World, text: &str) -> (End, End, String) {
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, text);
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "REGISTER ");
    (phone, own, text)
}

#[test]
fn a_registrar_without_path_gets_the_register_once_more() {
    let mut world = world(|contacts| contacts.add_path = true);
    let (phone, own, first) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    let path = row(&first, "Path");
    assert!(path.starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ob;ft="), "{path}");
    world.say(own, &reply(&first, "420 Bad Extension", "t", "Unsupported: path"));
    world.silent(phone);
    let second = world.hear_start(own, "REGISTER ");
    assert_eq!(rows(&second, "Path").len(), 0);
    for same in ["Contact", "Call-ID", "CSeq", "From"] {
        assert_eq!(row(&first, same), row(&second, same));
    }
    assert_ne!(row(&first, "Via"), row(&second, "Via"));
    assert_eq!(world.saw(|e| matches!(e, Event::Lacking { lack: Lack::Path, .. })), 1);
    // A late repetition of the first answer changes nothing.
    world.say(own, &reply(&first, "420 Bad Extension", "t", "Unsupported: path"));
    world.silent(phone);
    world.say(own, &reply(&second, "200 OK", "t", &format!("Contact: {}", row(&second, "Contact"))));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(world.edge.bindings().iter().filter(|b| b.registered).count(), 1);
    // Once: a second 420 is the phone's.
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, ""));
    let first = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&first, "420 Bad Extension", "t", "Unsupported: outbound"));
    let second = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&second, "420 Bad Extension", "t", "Unsupported: outbound"));
    assert_eq!(row(&world.hear_start(phone, "SIP/2.0 420 "), "Unsupported"), "outbound");
    world.silent(own);
    world.wait(Duration::from_secs(40));
    assert_eq!(world.edge.snapshot(world.now).contexts, 0);
}

#[test]
fn without_our_path_a_420_is_the_phones() {
    let mut world = world(|_| {});
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    world.say(own, &reply(&text, "420 Bad Extension", "t", "Unsupported: outbound"));
    world.hear_start(phone, "SIP/2.0 420 ");
    world.silent(own);
}

#[test]
fn an_echoed_path_leads_back_and_is_not_shown() {
    let mut world = world(|contacts| contacts.add_path = true);
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    let path = row(&text, "Path").to_owned();
    world
        .say(own, &reply(&text, "200 OK", "t", &format!("Contact: {}\nPath: {path}", row(&text, "Contact"))));
    assert_eq!(rows(&world.hear_start(phone, "SIP/2.0 200 "), "Path").len(), 0);
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", "sips:anonymous@10.0.1.2", "c", 1, "", &format!("Route: {path}")));
    world.hear_start(phone, "INVITE sips:anonymous@192.168.1.7 ");
    assert_eq!(steps(&world), [Step::Route]);
}

#[test]
fn uri_parameters_survive_only_if_they_are_listed() {
    let text = register(MAC_A, "192.168.1.7", 1, "").replace(
        "<sips:anonymous@192.168.1.7>",
        "<sips:anonymous@192.168.1.7:5061;transport=TLS;x-site=7;user=phone;ob>",
    );
    for (keep, seen) in [
        (&[][..], ""),
        (&["X-Site", "transport", "absent"][..], ";X-Site=7"),
        (&["user", "ob"][..], ";user=phone;ob"),
    ] {
        let mut world =
            world(|contacts| contacts.uri_params_keep = keep.iter().map(|n| (*n).into()).collect());
        let (phone, own, inside) = registering(&mut world, &text);
        let contact = row(&inside, "Contact").to_owned();
        let uri = between(&contact, "<", ">");
        assert!(uri.starts_with("sips:anonymous@10.0.1.2:5061;transport=tls;crt="), "{uri}");
        let rest = uri.split_once("crt=").unwrap().1.get(36..).unwrap();
        assert_eq!(rest, seen);
        // Back comes what the phone sent.
        world.say(own, &reply(&inside, "200 OK", "t", &format!("Contact: {contact}")));
        let answer = world.hear_start(phone, "SIP/2.0 200 ");
        assert!(
            row(&answer, "Contact")
                .starts_with("<sips:anonymous@192.168.1.7:5061;transport=TLS;x-site=7;user=phone;ob>")
        );
        // Other Contacts have none, unless they are the registered one.
        world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
        assert!(!row(&world.hear_start(own, "OPTIONS "), "Contact").contains("site"));
    }
}

#[test]
fn a_contact_without_a_user_gets_that_of_to() {
    let text = |to: &str| {
        register(MAC_A, "192.168.1.7", 1, "")
            .replace("<sips:anonymous@192.168.1.7>", "<sips:192.168.1.7>")
            .replace("To: <sips:anonymous@", to)
    };
    for (force, to, seen) in [
        (true, "To: <sips:117@", "<sips:117@10.0.1.2:5061;"),
        (true, "To: <sips:%31 17@", ""),
        (true, "To: <sips:a%20b@", "<sips:a%20b@10.0.1.2:5061;"),
        (true, "To: <sips:", "<sips:10.0.1.2:5061;"),
        (false, "To: <sips:117@", "<sips:10.0.1.2:5061;"),
    ] {
        if seen.is_empty() {
            continue;
        }
        let mut world = world(|contacts| {
            contacts.force_contact_user = force;
            contacts.use_registration = true;
        });
        let (phone, own, inside) = registering(&mut world, &text(to));
        let contact = row(&inside, "Contact").to_owned();
        assert!(contact.starts_with(seen), "{contact}");
        world.say(own, &reply(&inside, "200 OK", "t", &format!("Contact: {contact}")));
        let answer = world.hear_start(phone, "SIP/2.0 200 ");
        assert!(row(&answer, "Contact").starts_with("<sips:192.168.1.7>;"), "{answer}");
        // SIP-20 holds for it too.
        world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
        let options = world.hear_start(own, "OPTIONS ");
        assert_eq!(between(row(&options, "Contact"), "<", ">"), between(&contact, "<", ">"));
        if force && to.contains("117") {
            let pbx = world.switch("10.0.1.50:33000");
            world.say(pbx, &from_pbx("INVITE", "sips:117@10.0.1.2", "c", 1, "", ""));
            world.hear_start(phone, "INVITE sips:117@192.168.1.7 ");
        }
    }
}

#[test]
fn an_expires_header_beside_the_parameter() {
    let own = "expires=1800";
    for (add, asked, inside, answered, outside) in [
        (AddExpires::Never, "", None, "", None),
        (AddExpires::WhenMissing, "", Some("3600"), "", Some("1800")),
        (AddExpires::WhenMissing, "\nExpires: 60", Some("60"), "\nExpires: 61", Some("61")),
        (AddExpires::Always, "\nExpires: 60", Some("3600"), "\nExpires: 61", Some("1800")),
        (AddExpires::Always, "", Some("3600"), "", Some("1800")),
    ] {
        let mut world = world(|contacts| contacts.add_expires = add);
        let (phone, pbx, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, asked));
        assert_eq!(rows(&text, "Expires").first().copied(), inside, "{add:?}\n{text}");
        let contact = row(&text, "Contact").replace("expires=3600", own);
        world.say(pbx, &reply(&text, "200 OK", "t", &format!("Contact: {contact}{answered}")));
        let answer = world.hear_start(phone, "SIP/2.0 200 ");
        assert_eq!(rows(&answer, "Expires").first().copied(), outside, "{add:?}\n{answer}");
        let kept = |e: &Event| matches!(e, Event::Registered { expires: 1800, .. });
        assert_eq!(world.saw(kept), 1, "the parameter wins");
    }
}

#[test]
fn expiry_is_what_the_pbx_says_and_3600_where_it_is_no_number() {
    for (asked, answered, seconds) in [
        ("expires=60", "expires=120", 120),
        ("expires=60", "expires=soon", 3600),
        ("expires=soon", "q=1", 3600),
        ("expires=60", "q=1", 60),
        ("expires=60", "q=1>\nExpires: 90", 90),
        ("q=1>\nExpires: never", "q=1", 3600),
        ("expires=60", "expires=120>\nExpires: 30", 120),
    ] {
        let mut world = world(|_| {});
        let mut text = register(MAC_A, "192.168.1.7", 1, "");
        let split = |value: &str| value.replace('>', "");
        text = text.replace("expires=3600", &split(asked));
        let (phone, own, inside) = registering(&mut world, &text);
        let contact = row(&inside, "Contact")
            .replace(&split(asked).split('\n').next().unwrap().to_owned(), &split(answered));
        world.say(own, &reply(&inside, "200 OK", "t", &format!("Contact: {contact}")));
        world.hear_start(phone, "SIP/2.0 200 ");
        let kept = |e: &Event| matches!(e, Event::Registered { expires, .. } if *expires == seconds);
        assert_eq!(world.saw(kept), 1, "{asked} {answered}\n{}", world.story());
    }
}

#[test]
fn a_423_loop_ends_in_200() {
    let mut world = world(|_| {});
    let (phone, own, text) =
        registering(&mut world, &register(MAC_A, "192.168.1.7", 1, "").replace("expires=3600", "expires=60"));
    world.say(own, &reply(&text, "423 Interval Too Brief", "t", "Min-Expires: 1800"));
    assert_eq!(row(&world.hear_start(phone, "SIP/2.0 423 "), "Min-Expires"), "1800");
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, "").replace("expires=3600", "expires=1800"));
    // Nobody was registered, so that the line of the first try is gone.
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {}", row(&text, "Contact"))));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Registered { expires: 1800, .. })), 1);
}

#[test]
fn a_200_without_any_contact_passes_and_is_said_once() {
    let mut world = world(|_| {});
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    assert_eq!(rows(&world.hear_start(phone, "SIP/2.0 200 "), "Contact").len(), 0);
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, ""));
    let text = world.hear_start(own, "REGISTER ");
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Lacking { lack: Lack::Contact, .. })), 1);
    assert_eq!(world.saw(|e| matches!(e, Event::Registered { .. })), 2);
}

#[test]
fn five_hundred_contacts_in_a_200_are_one_for_the_phone() {
    let mut world = world(|_| {});
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    let mut contacts: String = (0..90)
        .map(|n| {
            format!("Contact: <sips:anonymous@10.0.1.2:5061;transport=tls;crt={n:a>36}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-0800{n:08}>\";expires=60\n")
        })
        .collect();
    contacts.push_str(&format!("Contact: {}", row(&text, "Contact")));
    world.say(own, &reply(&text, "200 OK", "t", &contacts));
    let answer = world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(rows(&answer, "Contact").len(), 1);
    assert!(answer.len() < 2000, "{}", answer.len());
}

#[test]
fn a_redirect_out_of_the_inside_passes_and_leads_nowhere() {
    let mut world = world(|_| {});
    world.shows_inside = true;
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    let elsewhere = "<sips:203.0.113.9:5061;transport=tls>";
    world.say(own, &reply(&text, "301 Moved Permanently", "t", &format!("Contact: {elsewhere}")));
    assert_eq!(row(&world.hear_start(phone, "SIP/2.0 301 "), "Contact"), elsewhere);
    world.say(phone, &register_to("203.0.113.9", MAC_A, "192.168.1.7", 2, ""));
    world.hear_start(phone, "SIP/2.0 403 ");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Destination, .. })), 1);
    assert_eq!(world.dials.len(), 1);
}

#[test]
fn a_redirect_to_another_switch_is_followed_and_calls_work() {
    let mut world = world(|_| {});
    world.shows_inside = true;
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    world.say(own, &reply(&text, "301 Moved Permanently", "t", "Contact: <sips:10.0.1.51:5061>"));
    world.hear_start(phone, "SIP/2.0 301 ");
    world.say(phone, &register_to("10.0.1.51", MAC_A, "192.168.1.7", 2, ""));
    let second = world.dialled("10.0.1.51:5061");
    let text = world.hear_start(second, "REGISTER sips:10.0.1.51 ");
    let uri = between(row(&text, "Contact"), "<", ">").to_owned();
    world.say(second, &reply(&text, "200 OK", "t", &format!("Contact: {}", row(&text, "Contact"))));
    world.hear_start(phone, "SIP/2.0 200 ");
    let pbx = world.switch("10.0.1.51:33000");
    world.say(pbx, &from_pbx("INVITE", &uri, "c", 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    world.hear_start(pbx, "SIP/2.0 200 ");
    // Out, by our own name: to the switch that holds the phone now.
    world.say(phone, &from_phone("INVITE", "sips:200@192.0.2.1", "o", 1, "", ""));
    world.hear_start(second, "INVITE sips:200@10.0.1.51 ");
}

#[test]
fn gruus_of_the_registrar() {
    let gruu = format!("sip:anonymous@pbx.example;gr=urn:uuid:00000000-0000-1000-8000-{MAC_A}");
    for pass in [false, true] {
        let mut world = world(|contacts| contacts.gruu_passthrough = pass);
        world.shows_inside = true;
        let (phone, own, text) =
            registering(&mut world, &register(MAC_A, "192.168.1.7", 1, "\nSupported: gruu"));
        let more = format!(
            ";pub-gruu=\"{gruu}\";q=0.7;TEMP-GRUU=\"sip:tgruu.7hs==jd7vnzga5w7fajsc7-ajd6fabz0f8g5@pbx.example;gr\""
        );
        world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {}{more}", row(&text, "Contact"))));
        let answer = world.hear_start(phone, "SIP/2.0 200 ");
        let shown = row(&answer, "Contact");
        assert_eq!(shown.contains("gruu"), pass, "{shown}");
        assert!(shown.contains("+sip.instance=\"<urn:uuid:") && shown.contains(";q=0.7"), "{shown}");
        // A phone that uses it as its Contact.
        let text = from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", "");
        world.say(phone, &text.replace("<sips:117@192.168.1.7>", &format!("<{gruu}>")));
        let invite = world.hear_start(own, "INVITE ");
        assert_eq!(row(&invite, "Contact") == format!("<{gruu}>"), pass, "{invite}");
        // A call to it.
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &gruu, "d", 1, "", ""));
        if pass {
            world.hear_start(phone, "INVITE sips:anonymous@192.168.1.7 ");
            assert_eq!(steps(&world), [Step::ContactToken]);
            for (n, unknown) in [MAC_B, "x y", ""].iter().enumerate() {
                let unknown = gruu.replace(MAC_A, &unknown.replace(' ', "%20"));
                world.say(pbx, &from_pbx("INVITE", &unknown, &format!("u{n}"), 1, "", ""));
                world.hear_start(pbx, "SIP/2.0 404 ");
            }
        } else {
            // The user alone: there is one.
            world.hear_start(phone, "INVITE sips:anonymous@192.168.1.7 ");
            assert_eq!(steps(&world), [Step::User]);
        }
    }
}

#[test]
fn a_gruu_of_our_own_goes_before_that_of_the_registrar() {
    let mut world = world(|contacts| {
        contacts.gruu_passthrough = true;
        contacts.uri_encoding = UriEncoding::Gruu;
    });
    let (phone, own, text) = registering(&mut world, &register(MAC_A, "192.168.1.7", 1, ""));
    let uri = between(row(&text, "Contact"), "<", ">").to_owned();
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {}", row(&text, "Contact"))));
    world.hear_start(phone, "SIP/2.0 200 ");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &uri, "c", 1, "", ""));
    world.hear_start(phone, "INVITE ");
    let mut forged = uri.clone();
    forged.replace_range(
        uri.len() - 20..uri.len() - 19,
        if &uri[uri.len() - 20..uri.len() - 19] == "a" { "b" } else { "a" },
    );
    world.say(pbx, &from_pbx("INVITE", &forged, "f", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
}

#[test]
fn five_hundred_phones_register_one_by_one() {
    let mut config = config();
    config.interop.contacts.register_delay = Some(Duration::from_millis(20));
    config.switches.connections = sip_core::edge::config::Connections::Shared;
    // Shards share the rate.
    let mut world = World::sharded(config, 1);
    let start = world.now;
    let mut phones = Vec::new();
    for n in 0..500 {
        let mac = format!("08000FD4{n:04X}");
        let phone = world.phone(&mac, &format!("198.51.{}.{}:40000", n / 250 + 1, n % 250 + 1));
        world.say(phone, &register(&mac, "192.168.1.7", 1, ""));
        phones.push(phone);
    }
    let pbx = world.dialled("10.0.1.50:5061");
    let mut seen = 0;
    while seen < 500 {
        let second = world.now;
        let mut here = 0;
        while world.now < second + Duration::from_secs(1) {
            while let Some(text) = world.next(pbx) {
                here += 1;
                world.say(pbx, &reply(&text, "200 OK", "t", &format!("Contact: {}", row(&text, "Contact"))));
            }
            world.wait(Duration::from_millis(10));
        }
        assert!(here <= 51, "{here} in one second");
        seen += here;
        assert!(world.now <= start + Duration::from_secs(11), "{seen} are registered");
    }
    for phone in phones {
        world.hear_start(phone, "SIP/2.0 200 ");
    }
    world.wait(Duration::from_secs(60));
    assert_eq!(world.edge.snapshot(world.now).contexts, 0);
}

#[test]
fn who_would_wait_too_long_is_asked_to_come_again() {
    let mut config = config();
    config.interop.contacts.register_delay = Some(Duration::from_secs(5));
    config.switches.connections = sip_core::edge::config::Connections::Shared;
    let mut world = World::sharded(config.clone(), 1);
    let mut phones = Vec::new();
    for n in 0..10 {
        let mac = format!("08000FD4{n:04X}");
        let phone = world.phone(&mac, &format!("198.51.100.{}:40000", n + 1));
        world.say(phone, &register(&mac, "192.168.1.7", 1, ""));
        phones.push(phone);
    }
    let pbx = world.dialled("10.0.1.50:5061");
    world.hear_start(pbx, "REGISTER ");
    world.silent(pbx);
    // At 5, 10, 15 and 20 seconds; whoever is later would wait longer than it may.
    let mut after = Vec::new();
    for phone in &phones[5..] {
        let answer = world.hear_start(*phone, "SIP/2.0 503 ");
        let seconds: u32 = row(&answer, "Retry-After").parse().unwrap();
        assert!((5..=15).contains(&seconds), "{seconds}");
        after.push(seconds);
    }
    after.dedup();
    assert!(after.len() > 1, "not spread: {after:?}");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Limit("register_delay"), .. })), 5);
    // A phone that left is not registered by its ghost.
    world.hang(phones[1]);
    world.wait(Duration::from_secs(5));
    world.silent(pbx);
    world.wait(Duration::from_secs(5));
    world.hear_start(pbx, "REGISTER ");
    // Off: those that wait go at once when their time comes, and nobody waits any more.
    config.interop.contacts.register_delay = None;
    world.command(Command::Reconfigure(Box::new(config)));
    world.say(phones[9], &register("08000FD40009", "192.168.1.7", 2, ""));
    world.hear_start(pbx, "REGISTER ");
    world.wait(Duration::from_secs(5));
    world.hear_start(pbx, "REGISTER ");
    world.hear_start(pbx, "REGISTER ");
    world.silent(pbx);
}

#[test]
fn sixteen_users_are_learnt_and_the_oldest_leaves() {
    let mut world = world(|_| {});
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let say = |world: &mut World, n: usize, status: &str| {
        let text = from_phone("OPTIONS", "sips:x@10.0.1.50", &format!("o{n}"), 1, "", "");
        world.say(phone, &text.replace("sips:117@", &format!("sips:{}@", 100 + n)));
        let options = world.hear_start(own, "OPTIONS ");
        world.say(own, &reply(&options, status, "t", "X: 1"));
        world.hear_start(phone, &format!("SIP/2.0 {}", &status[..3]));
    };
    // What the PBX refuses is not learnt.
    say(&mut world, 99, "403 Forbidden");
    world.say(pbx, &from_pbx("INVITE", "sips:199@10.0.1.2", "x", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
    for n in 0..17 {
        say(&mut world, n, "200 OK");
    }
    world.say(pbx, &from_pbx("INVITE", "sips:100@10.0.1.2", "y", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
    world.say(pbx, &from_pbx("INVITE", "sips:116@10.0.1.2", "z", 1, "", ""));
    world.hear_start(phone, "INVITE sips:116@192.168.1.7 ");
    world.say(pbx, &from_pbx("OPTIONS", "sips:anonymous@10.0.1.2", "r", 1, "", ""));
    world.hear_start(phone, "OPTIONS ");
}
