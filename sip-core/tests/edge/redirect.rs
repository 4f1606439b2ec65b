//! A 3xx that is followed here (SIP-52 to SIP-54), and what the second choice is told of the first (SIP-55).

use std::time::Duration;

use sip_core::edge::Config;
use sip_core::edge::config::Class3xx;
use sip_core::resolve::Server;
use sip_core::resolve::records::{Kind, Records, Srv};

use crate::register::{MAC_A, registered};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::world::{End, World, config, reply, row, rows};

const URI: &str = "sips:200@10.0.1.50";
const MOVED: &str = "302 Moved Temporarily";

fn following() -> Config {
    let mut config = config();
    config.class_3xx = Class3xx::Follow;
    config
}

/// A phone has called, and its switch has the INVITE.
fn called(config: Config) -> (World, End, End, String) {
    let mut world = World::with(config);
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("INVITE", URI, "c", 1, "", &sdp("")));
    let invite = world.hear_start(own, "INVITE ");
    (world, phone, own, invite)
}

#[test]
fn a_302_to_a_switch_is_followed_and_the_phone_sees_the_answer_alone() {
    let (mut world, phone, own, invite) = called(following());
    let contacts = "Contact: <sips:1@10.0.1.52>;q=0.3, <sips:201@10.0.1.51:5061>;q=0.9, <sips:9@203.0.113.9>";
    world.say(own, &reply(&invite, MOVED, "m", contacts));
    world.hear_start(own, "ACK ");
    let next = world.dialled("10.0.1.51:5061");
    let second = world.hear_start(next, "INVITE sips:201@10.0.1.51:5061 SIP/2.0");
    assert_eq!(row(&second, "To"), row(&invite, "To"));
    world.say(next, &reply(&second, "200 OK", "u", &sdp("Contact: <sips:201@10.0.1.51>\n")));
    world.hear_start(phone, "SIP/2.0 200 ");
    world.silent(phone);
    assert!(world.dials.iter().all(|(dial, _)| dial.remote.ip().to_string().starts_with("10.0.1.5")));
}

#[test]
fn the_3xx_that_was_followed_is_nobodys_answer() {
    let (mut world, phone, own, invite) = called(following());
    world.say(own, &reply(&invite, MOVED, "m", "Contact: <sips:201@10.0.1.51>"));
    let next = world.dialled("10.0.1.51:5061");
    let second = world.hear_start(next, "INVITE ");
    world.say(next, &reply(&second, "486 Busy Here", "u", ""));
    world.hear_start(phone, "SIP/2.0 486 ");
}

#[test]
fn a_3xx_passes_unless_following_is_wanted_and_never_leads_outside() {
    for (follow, contact) in [
        (false, "<sips:201@10.0.1.51>"),
        (true, "<sips:201@203.0.113.9>"),
        (true, "<sips:201@elsewhere.example>"),
        (true, "<sips:201@10.0.1.51;maddr=203.0.113.9>"),
        // What was asked over sips goes on over sips; a tel URI is nobody's address; ours mean phones.
        (true, "<sip:201@10.0.1.51>"),
        (true, "<tel:+15551>"),
        (true, "<sips:118@10.0.1.2:5061>"),
        (true, "<sips:201@10.0.1.51?Replaces=x>"),
    ] {
        let (mut world, phone, own, invite) = called(if follow { following() } else { config() });
        // The Contact of a 3xx is for the phone, inside or not.
        world.shows_inside = true;
        let dials = world.dials.len();
        world.say(own, &reply(&invite, MOVED, "m", &format!("Contact: {contact}")));
        world.hear_start(phone, "SIP/2.0 302 ");
        assert_eq!(world.dials.len(), dials, "{contact}");
        assert!(world.asked.is_empty(), "{contact}");
    }
}

#[test]
fn a_302_loop_ends_in_482_and_so_does_the_sixth_redirection() {
    let (mut world, phone, own, invite) = called(following());
    world.say(own, &reply(&invite, MOVED, "m", "Contact: <sips:201@10.0.1.51>"));
    let next = world.dialled("10.0.1.51:5061");
    let second = world.hear_start(next, "INVITE ");
    let first = invite.split(' ').nth(1).unwrap_or_default();
    world.say(next, &reply(&second, MOVED, "n", &format!("Contact: <{first}>")));
    world.hear_start(phone, "SIP/2.0 482 ");
    // Five are followed.
    let (mut world, phone, mut end, mut invite) = called(following());
    for n in 1..=6 {
        world.say(end, &reply(&invite, MOVED, "m", &format!("Contact: <sips:{n}@10.0.1.51>")));
        world.hear_start(end, "ACK ");
        if n < 6 {
            end = world.dialled("10.0.1.51:5061");
            invite = world.hear_start(end, &format!("INVITE sips:{n}@"));
        }
    }
    world.hear_start(phone, "SIP/2.0 482 ");
    world.silent(end);
}

#[test]
fn redirections_of_registers_dialogs_and_phones_pass() {
    let mut world = World::with(following());
    let call = Call::from_pbx(&mut world, "c");
    world.shows_inside = true;
    world.say(call.phone, &call.of_phone("INFO", 2, ""));
    let info = world.hear_start(call.own, "INFO ");
    world.say(call.own, &reply(&info, MOVED, "", "Contact: <sips:201@10.0.1.51>"));
    world.hear_start(call.phone, "SIP/2.0 302 ");
    world.say(call.pbx, &from_pbx("INVITE", &target(&call.token), "d", 1, "", &sdp("")));
    let invite = world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &reply(&invite, MOVED, "x", "Contact: <sips:201@10.0.1.51>"));
    world.hear_start(call.pbx, "SIP/2.0 302 ");
}

#[test]
fn a_call_that_was_given_up_is_not_followed() {
    let (mut world, phone, own, invite) = called(following());
    world.shows_inside = true;
    world.say(own, &reply(&invite, "180 Ringing", "m", ""));
    world.hear_start(phone, "SIP/2.0 180 ");
    let cancel = from_phone("CANCEL", URI, "c", 1, "", "").replace("1CANCEL;", "1INVITE;");
    world.say(phone, &cancel);
    let dials = world.dials.len();
    world.say(own, &reply(&invite, MOVED, "m", "Contact: <sips:201@10.0.1.51>"));
    assert_eq!(world.dials.len(), dials);
}

#[test]
fn the_override_table_holds_for_a_followed_3xx_where_it_shall() {
    for (overrides, goes_to) in [(true, "10.0.1.55:5061"), (false, "10.0.1.51:5061")] {
        let mut config = following();
        config.interop.answers.dns_override_on_3xx = overrides;
        config.internal_domains = vec!["example.internal".to_owned()];
        config.servers = vec![Server {
            name: "one".to_owned(),
            matches: vec!["a.example.internal".to_owned()],
            addresses: vec![("10.0.1.55".parse().unwrap(), None)],
            lookup: None,
        }];
        let (mut world, _, own, invite) = called(config);
        world.a("a.example.internal", &["10.0.1.51"]);
        world.say(own, &reply(&invite, MOVED, "m", "Contact: <sips:201@a.example.internal:5061>"));
        let next = world.dialled(goes_to);
        world.hear_start(next, "INVITE sips:201@a.example.internal:5061 ");
    }
}

#[test]
fn headers_of_a_followed_3xx_are_copied_where_they_are_listed() {
    for listed in [true, false] {
        let mut config = following();
        if listed {
            config.interop.answers.forward_3xx_headers = vec!["diversion".to_owned()];
        }
        let (mut world, _, own, invite) = called(config);
        let more = "Diversion: <sips:200@10.0.1.50>;reason=unconditional\nDiversion: <sips:2@10.0.1.50>\nReason: SIP;cause=302\nContact: <sips:201@10.0.1.51>";
        world.say(own, &reply(&invite, MOVED, "m", more));
        let next = world.dialled("10.0.1.51:5061");
        let second = world.hear_start(next, "INVITE ");
        let found: Vec<String> = second
            .lines()
            .filter(|l| l.to_lowercase().starts_with("diversion:"))
            .map(str::to_owned)
            .collect();
        assert_eq!(found.len(), if listed { 2 } else { 0 }, "{second}");
        if listed {
            assert!(found[0].ends_with("reason=unconditional"), "{second}");
        }
        assert!(rows(&second, "Reason").is_empty());
    }
}

#[test]
fn the_second_choice_is_told_of_the_first_where_it_shall() {
    for (on, silent) in [(true, false), (true, true), (false, false)] {
        let mut config = config();
        config.internal_domains = vec!["example.internal".to_owned()];
        config.interop.answers.add_failover_header = on;
        let mut world = World::with(config);
        let srv = |priority, target: &str| Srv { priority, weight: 1, port: 5061, target: target.to_owned() };
        let both = Records::Srv(vec![srv(10, "a.example.internal"), srv(20, "b.example.internal")]);
        world.zone.insert((Kind::Srv, "_sips._tcp.example.internal".to_owned()), (both, 60));
        world.a("a.example.internal", &["10.0.1.51"]);
        world.a("b.example.internal", &["10.0.1.52"]);
        let (phone, _, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
        world.say(phone, &from_phone("INVITE", "sips:200@example.internal", "c", 1, "", &sdp("")));
        let first = world.dialled("10.0.1.51:5061");
        let invite = world.hear_start(first, "INVITE ");
        assert!(rows(&invite, "X-Failover").is_empty());
        if silent {
            world.wait(Duration::from_secs(4));
        } else {
            world.say(first, &reply(&invite, "503 Service Unavailable", "x", ""));
        }
        let second = world.dialled("10.0.1.52:5061");
        let invite = world.hear_start(second, "INVITE ");
        let wanted = format!("from=10.0.1.51;reason={}", if silent { "timeout" } else { "503" });
        let wanted: Vec<&str> = if on { vec![&wanted] } else { vec![] };
        assert_eq!(rows(&invite, "X-Failover"), wanted);
    }
}
