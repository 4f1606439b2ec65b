//! The forms of a phone's address towards the PBX, each from registration to restart (SIP-19, SIP-20).

use sip_core::edge::config::Connections;
use sip_core::edge::event::{Lack, Reason, Step};
use sip_core::edge::interop::UriEncoding;
use sip_core::edge::{Command, Config, Event};

use sip_core::flow::Source;

use crate::register::{MAC_A, MAC_B, register};
use crate::routing::steps;
use crate::script::{from_pbx, from_phone, sdp};
use crate::world::{End, World, between, config, reply, row, rows};

const FORMS: [UriEncoding; 5] = [
    UriEncoding::AlwaysEncrypt,
    UriEncoding::Shorter,
    UriEncoding::Escape,
    UriEncoding::KeepUsername,
    UriEncoding::Gruu,
];

fn with(form: UriEncoding) -> Config {
    let mut config = config();
    config.interop.contacts.uri_encoding = form;
    config
}

/// A REGISTER that the PBX accepts: its end of the phone's line, and the Contact's URI as it saw it.
fn seen(world: &mut World, phone: End, text: &str) -> (End, String) {
    world.say(phone, text);
    // It comes by the phone's own line, which may stand already.
    let ends: Vec<End> = world.dials.iter().map(|(_, flow)| End(Source::Flow(*flow))).collect();
    let mut heard = ends.into_iter().find_map(|end| Some((end, world.next(end)?)));
    while let Some((end, text)) = &heard
        && !text.starts_with("REGISTER ")
    {
        heard = world.next(*end).map(|text| (*end, text));
    }
    let (own, text) = heard.unwrap_or_else(|| panic!("no REGISTER\n{}", world.story()));
    let contact = row(&text, "Contact").to_owned();
    world.say(own, &reply(&text, "200 OK", "t", &format!("Contact: {contact}")));
    let answer = world.hear_start(phone, "SIP/2.0 200 ");
    let kept = text.contains("expires=0") || rows(&answer, "Contact")[0].starts_with("<sips:anonymous@192.");
    assert!(kept, "{answer}");
    (own, between(&contact, "<", ">").to_owned())
}

/// The literal form of each address.
fn has_form(form: UriEncoding, uri: &str, user: &str) {
    let rest = "@10.0.1.2:5061;transport=tls";
    let token = |name: &str| uri.split_once(name).map_or(0, |(_, token)| token.len());
    match form {
        UriEncoding::AlwaysEncrypt => {
            assert!(uri.starts_with("sips:e1.") && uri.ends_with(rest), "{uri}");
            assert!(!uri.contains(user) && !uri.contains("192.168"), "{uri}");
        }
        UriEncoding::Shorter => {
            assert!(uri.starts_with("sips:s1.") && uri.ends_with(rest), "{uri}");
            assert_eq!(uri.len(), "sips:s1.".len() + 22 + rest.len(), "{uri}");
        }
        UriEncoding::Escape => {
            assert!(uri.starts_with(&format!("sips:{user}%40192.168.1.7{rest};crt=")), "{uri}");
            assert_eq!(token("crt="), 36);
        }
        UriEncoding::KeepUsername => {
            assert!(uri.starts_with(&format!("sips:{user}{rest};crt=")), "{uri}");
            assert_eq!(token("crt="), 36);
        }
        UriEncoding::Gruu => {
            assert!(uri.starts_with(&format!("sips:{user}{rest};gr=")), "{uri}");
            assert_eq!(token("gr="), 36);
        }
    }
}

#[test]
fn every_form_registers_calls_and_survives_a_restart() {
    for form in FORMS {
        let mut world = World::with(with(form));
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        let (own, uri) = seen(&mut world, phone, &register(MAC_A, "192.168.1.7", 1, ""));
        has_form(form, &uri, "anonymous");
        // Another phone of the same user is another address.
        let other = world.phone(MAC_B, "198.51.100.8:40000");
        let (_, uri_b) = seen(&mut world, other, &register(MAC_B, "192.168.1.7", 1, ""));
        assert_ne!(uri, uri_b);
        // In: the phone alone, by its own Contact.
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &uri, "in", 1, "", ""));
        let invite = world.hear_start(phone, "INVITE sips:anonymous@192.168.1.7 SIP/2.0\r\n");
        world.say(phone, &reply(&invite, "200 OK", "a", "Contact: <sips:117@192.168.1.7>"));
        let ok = world.hear_start(pbx, "SIP/2.0 200 ");
        let answered = between(row(&ok, "Contact"), "<", ">").to_owned();
        has_form(form, &answered, "117");
        world.say(pbx, &from_pbx("ACK", &answered, "in", 1, "a", ""));
        world.hear_start(phone, "ACK sips:117@192.168.1.7 ");
        // Case does not matter to the token, and a stray case change of a whole user is survived too.
        world.say(pbx, &from_pbx("NOTIFY", &uri.replace("e1.", "E1.").replace("s1.", "S1."), "n", 1, "", ""));
        world.hear_start(phone, "NOTIFY sips:anonymous@192.168.1.7 ");
        // Out.
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "out", 1, "", &sdp("")));
        let invite = world.hear_start(own, "INVITE ");
        let called = between(row(&invite, "Contact"), "<", ">").to_owned();
        assert_eq!(called, answered, "{form:?}: one user, one address");
        // Outside of the call that address is the phone's as well.
        world.say(pbx, &from_pbx("NOTIFY", &called, "m", 1, "", ""));
        world.hear_start(phone, "NOTIFY sips:117@192.168.1.7 ");
        // A restart between REGISTER and call.
        world.restart(with(form));
        let pbx = world.switch("10.0.1.50:33001");
        world.say(pbx, &from_pbx("INVITE", &uri, "r", 1, "", ""));
        world.hear_start(pbx, "SIP/2.0 480 ");
        let back = world.phone(MAC_A, "203.0.113.7:41000");
        world.say(back, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
        world.say(pbx, &from_pbx("INVITE", &uri, "r2", 1, "", ""));
        world.hear_start(back, "INVITE sips:anonymous@192.168.1.7 ");
        // A refresh from elsewhere, with another private address, and the end: an equal URI.
        let (_, again) = seen(&mut world, back, &register(MAC_A, "192.168.77.9", 2, ""));
        assert_eq!(again, uri, "{form:?}");
        let leave = register(MAC_A, "192.168.77.9", 3, "").replace("expires=3600", "expires=0");
        let (_, last) = seen(&mut world, back, &leave);
        assert_eq!(last, uri, "{form:?}");
        world.say(pbx, &from_pbx("INVITE", &uri, "x", 1, "", ""));
        world.hear_start(pbx, "SIP/2.0 404 ");
        assert!(steps(&world).iter().all(|step| *step == Step::ContactToken || *step == Step::Dialog));
    }
}

#[test]
fn no_form_can_be_forged() {
    for form in FORMS {
        let mut world = World::with(with(form));
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        let (_, uri) = seen(&mut world, phone, &register(MAC_A, "192.168.1.7", 1, ""));
        let pbx = world.switch("10.0.1.50:33000");
        let (start, end) = match form {
            UriEncoding::AlwaysEncrypt | UriEncoding::Shorter => (8, uri.find('@').unwrap()),
            _ => (uri.len() - 36, uri.len()),
        };
        for at in start..end {
            let mut forged = uri.clone().into_bytes();
            forged[at] = if forged[at] == b'q' { b'a' } else { b'q' };
            let forged = String::from_utf8(forged).unwrap();
            world.say(pbx, &from_pbx("INVITE", &forged, &format!("f{at}"), 1, "", ""));
            world.hear_start(pbx, "SIP/2.0 404 ");
        }
        // Cut by a peer that has no room for it (the other forms are a user then, and that is looked for).
        if matches!(form, UriEncoding::AlwaysEncrypt | UriEncoding::Shorter | UriEncoding::Escape) {
            for (n, upto) in [8, 13, 20].into_iter().enumerate() {
                let cut = format!("{}@10.0.1.2:5061", &uri[..upto]);
                world.say(pbx, &from_pbx("INVITE", &cut, &format!("c{n}"), 1, "", ""));
                world.hear_start(pbx, "SIP/2.0 404 ");
            }
        }
        // From outside the genuine address is a forgery.
        let outside = uri.replace("10.0.1.2", "192.0.2.1");
        world.say(phone, &from_phone("INVITE", &outside, "o", 1, "", ""));
        world.hear_start(phone, "SIP/2.0 403 ");
        let forged = |e: &Event| matches!(e, Event::Refused { reason: Reason::Token, .. });
        assert!(world.saw(forged) > 20, "{form:?}");
    }
}

#[test]
fn phones_without_a_tag_are_told_apart_where_the_form_allows() {
    for form in FORMS {
        let mut config = with(form);
        config.interop.contacts.tag_routing.enabled = false;
        config.switches.connections = Connections::Shared;
        let mut world = World::with(config);
        let a = world.phone(MAC_A, "198.51.100.7:40000");
        let (_, uri_a) = seen(&mut world, a, &register(MAC_A, "192.168.1.7", 1, ""));
        let b = world.phone(MAC_B, "198.51.100.8:40000");
        let (_, uri_b) = seen(&mut world, b, &register(MAC_B, "192.168.1.7", 1, ""));
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &uri_b, "b", 1, "", ""));
        if form == UriEncoding::KeepUsername {
            assert_eq!(uri_a, uri_b);
            world.hear_start(pbx, "SIP/2.0 485 ");
        } else {
            world.hear_start(b, "INVITE sips:anonymous@192.168.1.7 ");
            world.silent(a);
            // The same phone, another connection: an equal address.
            let back = world.phone(MAC_A, "198.51.100.7:41000");
            let (_, again) = seen(&mut world, back, &register(MAC_A, "192.168.1.7", 2, ""));
            assert_eq!(again, uri_a);
        }
    }
}

#[test]
fn a_refer_to_another_phone_is_hidden_and_comes_back_in_every_form() {
    for form in FORMS {
        let mut world = World::with(with(form));
        let a = world.phone(MAC_A, "198.51.100.7:40000");
        let (own, _) = seen(&mut world, a, &register(MAC_A, "192.168.1.7", 1, ""));
        let b = world.phone(MAC_B, "198.51.100.8:40000");
        let (_, uri_b) = seen(&mut world, b, &register(MAC_B, "192.168.1.7", 1, ""));
        let pbx = world.switch("10.0.1.50:33000");
        let (_, uri_a) = seen(&mut world, a, &register(MAC_A, "192.168.1.7", 2, ""));
        world.say(pbx, &from_pbx("REFER", &uri_a, "r", 1, "", &format!("Refer-To: <{uri_b}>")));
        let refer = world.hear_start(a, "REFER ");
        let shown = between(row(&refer, "Refer-To"), "<", ">").to_owned();
        assert!(shown.contains("@192.0.2.1:5061;transport=tls;pc="), "{shown}");
        for secret in ["crt=", "gr=", "10.0.1.2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        // The phone calls it; a PBX that is a proxy sends it back to us.
        world.say(a, &from_phone("INVITE", &shown, "n", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        let target = invite.split(' ').nth(1).unwrap().to_owned();
        let whole = matches!(form, UriEncoding::AlwaysEncrypt | UriEncoding::Shorter | UriEncoding::Escape);
        if whole {
            assert_eq!(target, uri_b);
        } else {
            assert_eq!(target, uri_b.replace("10.0.1.2:5061", "10.0.1.50"));
        }
        world.say(pbx, &from_pbx("INVITE", &uri_b, "s", 1, "", ""));
        world.hear_start(b, "INVITE sips:anonymous@192.168.1.7 ");
        // Referring the other way: the phone names the PBX's party by what it was shown.
        let party = between(row(&refer, "Contact"), "<", ">").to_owned();
        world.say(a, &from_phone("REFER", "sips:200@10.0.1.50", "t", 1, "", &format!("Refer-To: <{party}>")));
        let refer = world.hear_start(own, "REFER ");
        assert_eq!(row(&refer, "Refer-To"), "<sips:200@10.0.1.50:5061;transport=tls>");
    }
}

#[test]
fn a_change_of_form_leaves_the_old_addresses_good() {
    let mut world = World::with(with(UriEncoding::KeepUsername));
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (_, first) = seen(&mut world, phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let pbx = world.switch("10.0.1.50:33000");
    let mut known = vec![first];
    for (n, form) in FORMS.into_iter().enumerate() {
        world.command(Command::Reconfigure(Box::new(with(form))));
        let (_, uri) = seen(&mut world, phone, &register(MAC_A, "192.168.1.7", 10 + n as u32, ""));
        known.push(uri);
        for (m, uri) in known.iter().enumerate() {
            world.say(pbx, &from_pbx("NOTIFY", uri, &format!("n{n}-{m}"), 1, "", ""));
            world.hear_start(phone, "NOTIFY sips:anonymous@192.168.1.7 ");
        }
    }
}

#[test]
fn handles_are_bounded_and_the_registered_one_stays() {
    let mut world = World::with(with(UriEncoding::Shorter));
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (own, registered) = seen(&mut world, phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let mut first = String::new();
    for n in 0..40 {
        let text = from_phone("OPTIONS", "sips:x@10.0.1.50", &format!("o{n}"), 1, "", "");
        world.say(phone, &text.replace("Contact: <sips:117@", &format!("Contact: <sips:u{n}@")));
        let options = world.hear_start(own, "OPTIONS ");
        if n == 0 {
            first = between(row(&options, "Contact"), "<", ">").to_owned();
        }
    }
    let handles = |world: &World| {
        let binding = world.edge.bindings().iter().next().unwrap();
        binding.record.address.as_ref().unwrap().handles.len()
    };
    assert_eq!(handles(&world), 16);
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("NOTIFY", &first, "n", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 404 ");
    world.say(pbx, &from_pbx("NOTIFY", &registered, "m", 1, "", ""));
    world.hear_start(phone, "NOTIFY ");
}

#[test]
fn a_contact_in_an_invite_equals_the_registered_one() {
    for form in FORMS {
        let mut config = with(form);
        config.interop.contacts.use_registration = true;
        let mut world = World::with(config);
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        // Not registered: as it would be without the switch, and said.
        world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
        let own = world.dialled("10.0.1.50:5061");
        assert!(!row(&world.hear_start(own, "OPTIONS "), "Contact").contains("anonymous"));
        assert_eq!(world.saw(|e| matches!(e, Event::Lacking { lack: Lack::Registration, .. })), 1);
        let (own, uri) = seen(&mut world, phone, &register(MAC_A, "192.168.1.7", 1, ""));
        let lacking = world.saw(|e| matches!(e, Event::Lacking { .. }));
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        assert_eq!(row(&invite, "Contact"), format!("<{uri}>"));
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &uri, "d", 1, "", ""));
        let invite = world.hear_start(phone, "INVITE ");
        world.say(phone, &reply(&invite, "200 OK", "a", "Contact: <sips:117@192.168.1.7>"));
        assert_eq!(row(&world.hear_start(pbx, "SIP/2.0 200 "), "Contact"), format!("<{uri}>"));
        assert_eq!(world.saw(|e| matches!(e, Event::Lacking { .. })), lacking);
    }
}
