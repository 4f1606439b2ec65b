//! The interoperability switches: what each changes on the wire, and that nothing changes without it.

use sip_core::edge::Event;
use sip_core::edge::event::Reason;
use sip_core::edge::interop::{InteropProfile, Peers};

use crate::register::{MAC_A, register, registered};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::world::{End, World, between, body, config, reply, row, rows};

const PHONE: (&str, &str) = ("198.51.100.7:40000", "192.168.1.7");

/// A world with these switches on top of the teleworker's.
pub(crate) fn with(change: impl FnOnce(&mut InteropProfile)) -> World {
    let mut config = config();
    change(&mut config.interop);
    World::with(config)
}

pub(crate) fn nets(nets: &[&str]) -> Peers {
    Peers { networks: nets.iter().map(|net| net.parse().unwrap()).collect(), ..Peers::default() }
}

/// A phone calls, the PBX answers through two proxies of its own; what the phone was given, and the INVITE the PBX saw.
fn answered(world: &mut World, more_routes: &str) -> (End, End, String, String, String) {
    let (phone, own, _) = registered(world, MAC_A, PHONE.0, PHONE.1);
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &sdp("")));
    let invite = world.hear_start(own, "INVITE ");
    let contact = sdp("Contact: <sips:200@10.0.1.53:5061;transport=tls>\n");
    let mut ok = reply(&invite, "200 OK", "u", &contact);
    if !more_routes.is_empty() {
        ok = match ok.find("Record-Route: ") {
            Some(at) => format!("{}Record-Route: {more_routes}\n{}", &ok[..at], &ok[at..]),
            None => ok.replacen("From:", &format!("Record-Route: {more_routes}\nFrom:"), 1),
        };
    }
    world.say(own, &ok);
    let answer = world.hear_start(phone, "SIP/2.0 200 ");
    let route = rows(&answer, "Record-Route").first().map_or("", |route| route).to_owned();
    (phone, own, invite, route, between(row(&answer, "Contact"), "<", ">").to_owned())
}

fn in_call(method: &str, target: &str, cseq: u32, routes: &str) -> String {
    from_phone(method, target, "c", cseq, "u", routes)
}

#[test]
fn lr_true_is_written_in_record_route_and_path() {
    for on in [false, true] {
        let mut world = with(|p| {
            p.routes.lr_true = on;
            p.contacts.add_path = true;
        });
        let phone = world.phone(MAC_A, PHONE.0);
        world.say(phone, &register(MAC_A, PHONE.1, 1, ""));
        let pbx = world.dialled("10.0.1.50:5061");
        let lr = if on { ";lr=true;" } else { ";lr;" };
        let text = world.hear_start(pbx, "REGISTER ");
        assert!(row(&text, "Path").contains(lr), "{text}");
        let contact = row(&text, "Contact").to_owned();
        world.say(pbx, &reply(&text, "200 OK", "p1", &format!("Contact: {contact}")));
        let own = world.switch("10.0.1.50:33000");
        let token = between(&contact, "crt=", ">");
        world.say(own, &from_pbx("INVITE", &target(token), "c", 1, "", &sdp("")));
        world.hear_start(phone, "SIP/2.0 200 ");
        let invite = world.hear_start(phone, "INVITE ");
        assert!(row(&invite, "Record-Route").contains(lr), "{invite}");
        // Either form is read.
        world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
        let ok = world.hear_start(own, "SIP/2.0 200 ");
        let route = row(&ok, "Record-Route").replace(lr, if on { ";lr;" } else { ";lr=true;" });
        world.say(own, &from_pbx("BYE", &target(token), "c", 2, "a", &format!("Route: {route}")));
        world.hear_start(phone, "BYE ");
    }
}

#[test]
fn record_route_inside_of_dialogs_is_for_who_wants_it() {
    for (outbound, always, to_phone, to_pbx) in
        [(false, false, 0, 0), (true, false, 1, 0), (false, true, 1, 1), (true, true, 1, 1)]
    {
        let mut world = with(|p| (p.routes.rr_outbound, p.routes.rr_always) = (outbound, always));
        let call = Call::from_pbx(&mut world, "c");
        world.say(call.pbx, &call.of_pbx("INVITE", 2, &sdp("")));
        let again = world.hear_start(call.phone, "INVITE ");
        assert_eq!(rows(&again, "Record-Route").len(), to_phone, "{again}");
        world.say(call.phone, &reply(&again, "200 OK", "", &sdp("Contact: <sips:117@192.168.1.7>\n")));
        let ok = world.hear_start(call.pbx, "SIP/2.0 200 ");
        assert_eq!(rows(&ok, "Record-Route").len(), to_phone, "{ok}");
        world.say(call.phone, &call.of_phone("INVITE", 2, &sdp("")));
        let again = world.hear_start(call.own, "INVITE ");
        assert_eq!(rows(&again, "Record-Route").len(), to_pbx, "{again}");
        world.say(call.phone, &call.of_phone("INFO", 3, ""));
        assert_eq!(rows(&world.hear_start(call.own, "INFO "), "Record-Route").len(), 0);
    }
}

const PROXIES: &str = "<sip:10.0.1.51;lr>, <sips:10.0.1.52;lr>";

#[test]
fn a_bye_without_its_routes_takes_those_of_the_dialog() {
    for (fix, method, goes_to) in [
        ((false, false), "BYE", "10.0.1.53:5061"),
        ((true, false), "BYE", "10.0.1.52:5061"),
        ((true, false), "INFO", "10.0.1.53:5061"),
        ((false, true), "BYE", "10.0.1.52:5061"),
        ((false, true), "INFO", "10.0.1.52:5061"),
    ] {
        let mut world = with(|p| (p.routes.fix_bye_routes, p.routes.fix_routes) = fix);
        let (phone, _, _, _, target) = answered(&mut world, PROXIES);
        world.say(phone, &in_call(method, &target, 2, ""));
        let end = world.dialled(goes_to);
        let text = world.hear_start(end, method);
        let routes = rows(&text, "Route");
        if goes_to.starts_with("10.0.1.52") {
            assert_eq!(routes, ["<sips:10.0.1.52;lr>", "<sip:10.0.1.51;lr>"], "{text}");
        } else {
            assert!(routes.is_empty(), "{text}");
        }
    }
}

#[test]
fn a_garbled_route_set_is_replaced_and_a_right_one_kept() {
    for fix in [false, true] {
        let mut config = config();
        config.interop.routes.fix_routes = fix;
        config.preloaded_routes = sip_core::edge::config::PreloadedRoutes::Reject;
        let mut world = World::with(config);
        let (phone, _, _, route, target) = answered(&mut world, PROXIES);
        world.say(phone, &in_call("INFO", &target, 2, &format!("Route: {route}")));
        let end = world.dialled("10.0.1.52:5061");
        let text = world.hear_start(end, "INFO ");
        assert_eq!(rows(&text, "Route"), ["<sips:10.0.1.52;lr>", "<sip:10.0.1.51;lr>"]);
        // Entries of a place that it was never given.
        world.say(phone, &in_call("INFO", &target, 3, &format!("Route: {route}\nRoute: <sip:10.0.1.55;lr>")));
        if fix {
            let text = world.hear_start(end, "INFO ");
            assert_eq!(rows(&text, "Route"), ["<sips:10.0.1.52;lr>", "<sip:10.0.1.51;lr>"]);
        } else {
            world.hear_start(phone, "SIP/2.0 403 ");
        }
    }
}

#[test]
fn routes_are_fixed_for_known_dialogs_only() {
    let mut world = with(|p| p.routes.fix_routes = true);
    let (phone, _, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
    world.say(phone, &from_phone("BYE", "sips:200@10.0.1.50", "other", 2, "u", ""));
    world.hear_start(phone, "SIP/2.0 481 ");
}

#[test]
fn a_hidden_record_route_is_seen_by_nobody_inside_and_the_dialog_stands() {
    for (listed, hidden) in [("10.0.1.50/32", true), ("10.0.1.51/32", false)] {
        let mut world = with(|p| p.routes.hide_rr = nets(&[listed]));
        let (phone, own, invite, route, target) = answered(&mut world, "");
        assert_eq!(rows(&invite, "Record-Route").is_empty(), hidden, "{invite}");
        // The phone still goes by us, and so does the switch, whose only knowledge is our Contact.
        assert!(route.starts_with("<sips:192.0.2.1:5061;transport=tls;lr;ft="), "{route}");
        world.say(phone, &in_call("ACK", &target, 1, &format!("Route: {route}")));
        world.say(phone, &in_call("INFO", &target, 2, &format!("Route: {route}")));
        // Its Contact is elsewhere: another connection.
        let far = world.dialled("10.0.1.53:5061");
        world.hear_start(far, "ACK ");
        let info = world.hear_start(far, "INFO sips:200@10.0.1.53:5061;transport=tls ");
        assert!(rows(&info, "Route").is_empty());
        let contact = between(row(&invite, "Contact"), "<", ">").to_owned();
        world.say(own, &from_pbx("BYE", &contact, "c", 7, "fc", "").replace(";tag=pc", ";tag=u"));
        world.hear_start(phone, "BYE sips:117@192.168.1.7 ");
    }
}

#[test]
fn a_hidden_record_route_is_not_in_answers_either() {
    let mut world = with(|p| p.routes.hide_rr_all = true);
    let (phone, _, token) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
    let pbx = world.switch("10.0.1.50:33000");
    let proxied = sdp("Record-Route: <sip:10.0.1.51;lr>\n");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", &proxied));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    assert_eq!(rows(&ok, "Record-Route"), ["<sip:10.0.1.51;lr>"]);
    world.say(pbx, &from_pbx("BYE", &target(&token), "c", 2, "a", ""));
    world.hear_start(phone, "BYE ");
}

#[test]
fn a_switch_that_takes_one_via_gets_one_and_the_phone_gets_all_of_its_own() {
    for (listed, all, one) in
        [(&["10.0.1.50/32"][..], false, true), (&["10.0.1.51/32"][..], false, false), (&[][..], true, true)]
    {
        let mut world = with(|p| {
            p.routes.remove_via = nets(listed);
            p.routes.remove_via_all = all;
        });
        let (phone, own, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        let further = "Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKbelow;x=1";
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", further));
        let invite = world.hear_start(own, "INVITE ");
        assert_eq!(rows(&invite, "Via").len(), if one { 1 } else { 3 }, "{invite}");
        world.say(own, &reply(&invite, "486 Busy Here", "u", ""));
        let busy = world.hear_start(phone, "SIP/2.0 486 ");
        let vias = rows(&busy, "Via");
        assert_eq!(vias.len(), 2, "{busy}");
        assert!(vias[0].starts_with("SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKo"), "{busy}");
        assert_eq!(vias[1], "SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKbelow;x=1");
        // A CANCEL has but one anyway.
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "d", 1, "", further));
        let invite = world.hear_start(own, "ACK ");
        assert_eq!(rows(&invite, "Via").len(), 1);
    }
}

#[test]
fn addresses_of_excepted_hosts_cross_as_they_are() {
    let mut world = with(|p| {
        p.routes.translate_except = nets(&["192.168.1.7/32", "10.0.1.53/32"]);
        p.routes.translate_except.domains = vec!["voice.example".to_owned()];
    });
    world.shows_inside = true;
    let phone = world.phone(MAC_A, PHONE.0);
    world.say(phone, &register(MAC_A, PHONE.1, 1, ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "REGISTER ");
    assert!(row(&text, "Contact").starts_with("<sips:anonymous@192.168.1.7>;+sip.instance="), "{text}");
    world.say(own, &reply(&text, "200 OK", "p", &format!("Contact: {}", row(&text, "Contact"))));
    let ok = world.hear_start(phone, "SIP/2.0 200 ");
    assert!(row(&ok, "Contact").starts_with("<sips:anonymous@192.168.1.7>"), "{ok}");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &sdp("")));
    let invite = world.hear_start(own, "INVITE ");
    assert_eq!(row(&invite, "Contact"), "<sips:117@192.168.1.7>");
    world.say(own, &reply(&invite, "200 OK", "u", &sdp("Contact: <sips:200@10.0.1.53:5061>\n")));
    let ok = world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(row(&ok, "Contact"), "<sips:200@10.0.1.53:5061>");
    // Refer-To and the Vias below ours, by name too; others are hidden as ever.
    let refer = "Via: SIP/2.0/TLS pbx.voice.example;branch=z9hG4bK1\nVia: SIP/2.0/TLS 10.0.1.54;branch=z9hG4bK2\nRefer-To: <sip:x@a.Voice.example;pc=1>";
    let pbx = world.switch("10.0.1.50:33000");
    let (_, _, token) = registered(&mut world, crate::register::MAC_B, "198.51.100.8:40000", "192.168.1.8");
    world.say(pbx, &from_pbx("REFER", &target(&token), "r", 1, "", refer));
    let wire = world.wire.last().cloned().unwrap_or_default();
    assert!(wire.contains("Via: SIP/2.0/TLS pbx.voice.example;branch=z9hG4bK1\r\n"), "{wire}");
    assert!(!wire.contains("10.0.1.54") && wire.contains("Refer-To: <sip:x@a.Voice.example;pc=1>"), "{wire}");
    assert!(wire.contains("Contact: <sips:200@192.0.2.1:5061;transport=tls;pc="), "{wire}");
}

#[test]
fn addresses_of_forced_hosts_are_ours_in_any_case() {
    for on in [false, true] {
        let mut world = with(|p| {
            if on {
                p.routes.translate_force = nets(&["10.0.1.0/24", "192.0.2.64/26"]);
            }
        });
        let call = Call::from_pbx(&mut world, "c");
        world.say(call.pbx, &call.of_pbx("REFER", 2, "Refer-To: <sips:119@10.0.1.50?Join=a%3Bb>"));
        let refer = world.hear_start(call.phone, "REFER ");
        let shown = row(&refer, "Refer-To").to_owned();
        if !on {
            assert_eq!(shown, "<sips:119@10.0.1.50?Join=a%3Bb>");
            continue;
        }
        assert!(shown.starts_with("<sips:119@192.0.2.1:5061;transport=tls;pc="), "{shown}");
        assert!(shown.ends_with("?Join=a%3Bb>"), "{shown}");
        let uri = between(&shown, "<", "?").to_owned();
        world.say(call.phone, &from_phone("INVITE", &uri, "n", 1, "", ""));
        world.hear_start(call.own, "INVITE sips:119@10.0.1.50 ");
        world.say(call.phone, &call.of_phone("REFER", 3, "Refer-To: <sips:9@192.0.2.70?Join=x>"));
        let refer = world.hear_start(call.own, "REFER ");
        assert_eq!(row(&refer, "Refer-To"), format!("<{}?Join=x>", target(&call.token).replace("117", "9")));
    }
}

#[test]
fn a_bare_refer_to_with_headers_is_for_relaxed_gateways() {
    let bare = "Refer-To: sips:119@10.0.1.50?Replaces=d%3Bto-tag%3D1%3Bfrom-tag%3D2";
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.phone, &call.of_phone("REFER", 2, bare));
    world.hear_start(call.phone, "SIP/2.0 400 Bad Request (Refer-To)");
    world.say(call.pbx, &call.of_pbx("REFER", 2, bare));
    world.hear_start(call.pbx, "SIP/2.0 400 Bad Request (Refer-To)");
    world.silent(call.own);
    let malformed =
        |e: &Event| matches!(e, Event::Refused { reason: Reason::Malformed(f), .. } if f == "Refer-To");
    assert_eq!(world.saw(malformed), 2);
    // A bare URI without headers is legal (RFC 3515 §2.1).
    world.say(call.phone, &call.of_phone("REFER", 3, "Refer-To: sips:119@10.0.1.50"));
    assert_eq!(row(&world.hear_start(call.own, "REFER "), "Refer-To"), "sips:119@10.0.1.50");

    let mut world = with(|p| p.headers.relaxed_refer_to = true);
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.phone, &call.of_phone("REFER", 2, bare));
    let refer = world.hear_start(call.own, "REFER ");
    assert_eq!(row(&refer, "Refer-To"), "<sips:119@10.0.1.50?Replaces=d%3Bto-tag%3D1%3Bfrom-tag%3D2>");
    let sealed = format!("Refer-To: {}?Replaces=d;early", call.phone_target);
    world.say(call.phone, &call.of_phone("REFER", 3, &sealed));
    let refer = world.hear_start(call.own, "REFER ");
    assert_eq!(row(&refer, "Refer-To"), "<sips:200@10.0.1.50:5061;transport=tls?Replaces=d>;early");
    // What is no URI at all stays refused.
    world.say(call.phone, &call.of_phone("REFER", 4, "Refer-To: <sips:119@10.0.1.50"));
    world.hear_start(call.phone, "SIP/2.0 400 ");
}

#[test]
fn referred_by_and_a_phones_own_address_are_translated_too() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let by = format!("Refer-To: <sips:117@192.168.1.7?Join=a>\nReferred-By: <{}>", call.phone_target);
    world.say(call.phone, &call.of_phone("REFER", 2, &by));
    let refer = world.hear_start(call.own, "REFER ");
    assert_eq!(row(&refer, "Refer-To"), format!("<{}?Join=a>", target(&call.token)));
    assert_eq!(row(&refer, "Referred-By"), "<sips:200@10.0.1.50:5061;transport=tls>");
    let by = format!("Refer-To: <sips:1@10.0.1.50>\nReferred-By: <{}>", target(&call.token));
    world.say(call.pbx, &call.of_pbx("REFER", 2, &by));
    let refer = world.hear_start(call.phone, "REFER ");
    assert!(row(&refer, "Referred-By").starts_with("<sips:117@192.0.2.1:5061;transport=tls;pc="), "{refer}");
}

#[test]
fn without_translation_a_refer_passes_as_it_is() {
    let mut world = with(|p| p.headers.translate_refer_to = false);
    let call = Call::from_pbx(&mut world, "c");
    let to = format!("Refer-To: \"x\" <{}?Replaces=a%3Bb>;y", call.phone_target);
    world.shows_inside = true;
    world.say(call.phone, &call.of_phone("REFER", 2, &to));
    let refer = world.hear_start(call.own, "REFER ");
    assert_eq!(format!("Refer-To: {}", row(&refer, "Refer-To")), to);
}

#[test]
fn a_target_that_cannot_be_read_passes_and_is_told() {
    let mut world = World::new();
    world.shows_inside = true;
    let call = Call::from_pbx(&mut world, "c");
    let to = "Refer-To: <sips:200@192.0.2.1:5061;transport=tls;pc=1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa>";
    world.say(call.phone, &call.of_phone("REFER", 2, to));
    let refer = world.hear_start(call.own, "REFER ");
    assert_eq!(format!("Refer-To: {}", row(&refer, "Refer-To")), to);
    assert_eq!(world.saw(|e| matches!(e, Event::Untranslated { .. })), 1);
    world.say(call.phone, &call.of_phone("REFER", 3, &format!("Refer-To: <{}>", call.phone_target)));
    assert_eq!(world.saw(|e| matches!(e, Event::Untranslated { .. })), 1);
}

#[test]
fn escaped_blanks_go_from_targets_when_asked() {
    for on in [false, true] {
        let mut world = with(|p| p.headers.unescape_ws = on);
        let call = Call::from_pbx(&mut world, "c");
        let to = "Refer-To: <sips:+1%20555%0d%0a@10.0.1.50?Subject=a%20b>";
        world.say(call.phone, &call.of_phone("REFER", 2, to));
        let refer = world.hear_start(call.own, "REFER ");
        let wanted = if on { "<sips:+1555%0d%0a@10.0.1.50?Subject=a%20b>" } else { &to[10..] };
        assert_eq!(row(&refer, "Refer-To"), wanted);
        world.say(call.phone, &from_phone("OPTIONS", "sips:2%200@10.0.1.50", "o", 1, "", ""));
        world.hear_start(
            call.own,
            if on { "OPTIONS sips:20@10.0.1.50 " } else { "OPTIONS sips:2%200@10.0.1.50 " },
        );
    }
}

#[test]
fn the_to_of_a_phone_that_names_us_follows_unless_it_is_kept() {
    for keep in [false, true] {
        let mut world = with(|p| p.headers.keep_to = keep);
        let (phone, own, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        let us =
            |text: String| text.replace("To: <sips:200@10.0.1.50>", "To: \"Two\" <sips:200@192.0.2.1>;x=1");
        world.say(phone, &us(from_phone("INVITE", "sips:200@192.0.2.1:5061", "c", 1, "", &sdp(""))));
        let invite = world.hear_start(own, "INVITE sips:200@10.0.1.50 ");
        let host = if keep { "192.0.2.1" } else { "10.0.1.50" };
        assert_eq!(row(&invite, "To"), format!("\"Two\" <sips:200@{host}>;x=1"));
        world.say(
            own,
            &reply(&invite, "200 OK", "u", &sdp("Contact: <sips:200@10.0.1.50:5061;transport=tls>\n")),
        );
        let ok = world.hear_start(phone, "SIP/2.0 200 ");
        assert_eq!(row(&ok, "To"), "\"Two\" <sips:200@192.0.2.1>;x=1;tag=u");
        // The rest of the dialog says the same.
        let remote = between(row(&ok, "Contact"), "<", ">").to_owned();
        let bye = us(in_call("BYE", &remote, 2, &format!("Route: {}", row(&ok, "Record-Route"))));
        world.say(phone, &bye);
        let bye = world.hear_start(own, "BYE ");
        assert_eq!(row(&bye, "To"), format!("\"Two\" <sips:200@{host}>;x=1;tag=u"));
        world.say(own, &reply(&bye, "200 OK", "", ""));
        assert_eq!(
            row(&world.hear_start(phone, "SIP/2.0 200 "), "To"),
            "\"Two\" <sips:200@192.0.2.1>;x=1;tag=u"
        );
        // A To that names somebody else is nobody's business.
        world.say(phone, &from_phone("OPTIONS", "sips:200@192.0.2.1", "o", 1, "", ""));
        assert_eq!(row(&world.hear_start(own, "OPTIONS "), "To"), "<sips:200@10.0.1.50>");
    }
}

#[test]
fn privacy_is_pretended_alone() {
    let mut world = World::new();
    let (phone, _, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
    let asks = |call: &str, options: &str| {
        from_phone("MESSAGE", "sips:200@10.0.1.50", call, 1, "", &format!("Proxy-Require: {options}"))
    };
    world.say(phone, &asks("a", "privacy"));
    assert_eq!(row(&world.hear_start(phone, "SIP/2.0 420 "), "Unsupported"), "privacy");

    let mut world = with(|p| p.headers.pretend_privacy = true);
    let (phone, own, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
    world.say(phone, &asks("a", "Privacy"));
    assert!(rows(&world.hear_start(own, "MESSAGE "), "Proxy-Require").is_empty());
    world.say(phone, &asks("b", "privacy, sec-agree"));
    world.hear_start(phone, "SIP/2.0 420 ");
    // Another fault isn't excused by it.
    world.say(phone, &asks("c", "privacy").replace("Max-Forwards: 70", "Max-Forwards: 0"));
    world.hear_start(phone, "SIP/2.0 483 ");
}

#[test]
fn server_failures_become_503_when_asked() {
    for (on, status, wanted) in [
        (false, "500 Oops", "SIP/2.0 500 Oops\r\n"),
        (true, "500 Oops", "SIP/2.0 503 Service Unavailable\r\n"),
        (true, "580 Precondition", "SIP/2.0 503 Service Unavailable\r\n"),
        (true, "501 Not Implemented", "SIP/2.0 501 Not Implemented\r\n"),
        (true, "505 Version", "SIP/2.0 505 Version\r\n"),
        (true, "486 Busy", "SIP/2.0 486 Busy\r\n"),
        (true, "603 Decline", "SIP/2.0 603 Decline\r\n"),
    ] {
        let mut world = with(|p| p.answers.to_503 = on);
        let (phone, own, token) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        world.say(own, &reply(&invite, status, "u", "Retry-After: 7"));
        let answer = world.hear_start(phone, wanted);
        assert_eq!(row(&answer, "Retry-After"), "7");
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &target(&token), "i", 1, "", ""));
        let invite = world.hear_start(phone, "INVITE ");
        world.say(phone, &reply(&invite, status, "u", ""));
        world.hear_start(pbx, wanted);
    }
}

#[test]
fn a_180_loses_what_some_clients_mishandle() {
    for (on, reliable, contacts) in [(false, "", 1), (true, "", 0), (true, "RSeq: 1\nRequire: 100rel", 1)] {
        let mut world = with(|p| p.answers.strip_180 = on);
        let (phone, own, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        let contact = format!("Contact: <sips:200@10.0.1.50:5061;transport=tls>\n{reliable}");
        world.say(own, &reply(&invite, "180 Ringing", "u", contact.trim_end()));
        let ringing = world.hear_start(phone, "SIP/2.0 180 ");
        assert_eq!(rows(&ringing, "Contact").len(), contacts, "{ringing}");
        assert_eq!(rows(&ringing, "Record-Route").len(), contacts);
        world.say(own, &reply(&invite, "183 Session Progress", "u", contact.trim_end()));
        assert_eq!(rows(&world.hear_start(phone, "SIP/2.0 183 "), "Contact").len(), 1);
    }
}

#[test]
fn maddr_stands_for_the_host_and_its_port_may_not_count() {
    for (ignore, port) in [(false, 5070), (true, 5061)] {
        let mut world = with(|p| p.routes.ignore_port_with_maddr = ignore);
        let (phone, _, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        world.say(phone, &from_phone("MESSAGE", "sips:2@10.0.1.50:5070;maddr=10.0.1.52", "a", 1, "", ""));
        let end = world.dialled(&format!("10.0.1.52:{port}"));
        world.hear_start(end, "MESSAGE ");
        // Without maddr the port is what it says; outside of the inside networks nothing is honoured.
        world.say(phone, &from_phone("MESSAGE", "sips:2@10.0.1.53:5070", "b", 1, "", ""));
        let end = world.dialled("10.0.1.53:5070");
        world.hear_start(end, "MESSAGE ");
        world.say(phone, &from_phone("MESSAGE", "sips:2@10.0.1.50;maddr=203.0.113.9", "c", 1, "", ""));
        world.hear_start(phone, "SIP/2.0 403 ");
        world.say(phone, &from_phone("MESSAGE", "sips:2@evil.example;maddr=10.0.1.52", "d", 1, "", ""));
        world.hear_start(phone, "SIP/2.0 403 ");
    }
}

#[test]
fn the_ack_to_a_487_carries_the_body_of_the_cancel_when_asked() {
    for on in [false, true] {
        let mut world = with(|p| p.answers.cancel_body_in_ack = on);
        let (phone, own, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        world.say(own, &reply(&invite, "180 Ringing", "u", "Contact: <sips:200@10.0.1.50>"));
        world.hear_start(phone, "SIP/2.0 180 ");
        let cancel =
            from_phone("CANCEL", "sips:200@10.0.1.50", "c", 1, "", "Content-Type: text/x-why\n\nbecause")
                .replace("z9hG4bKoc1CANCEL", "z9hG4bKoc1INVITE");
        world.say(phone, &cancel);
        assert_eq!(body(&world.hear_start(own, "CANCEL ")), "");
        world.say(own, &reply(&invite, "487 Request Terminated", "u", ""));
        let ack = world.hear_start(own, "ACK ");
        assert_eq!(body(&ack), if on { "because\r\n" } else { "" }, "{ack}");
        // Another failure's ACK is as ever.
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "d", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        world.say(own, &reply(&invite, "486 Busy", "u", ""));
        assert_eq!(body(&world.hear_start(own, "ACK ")), "");
    }
}

#[test]
fn the_body_of_a_cancel_goes_along_when_asked() {
    for on in [false, true] {
        let mut world = with(|p| p.answers.cancel_body_forward = on);
        let (phone, own, _) = registered(&mut world, MAC_A, PHONE.0, PHONE.1);
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
        let invite = world.hear_start(own, "INVITE ");
        world.say(own, &reply(&invite, "180 Ringing", "u", "Contact: <sips:200@10.0.1.50>"));
        world.hear_start(phone, "SIP/2.0 180 ");
        let cancel =
            from_phone("CANCEL", "sips:200@10.0.1.50", "c", 1, "", "Content-Type: text/x-why\n\nbecause")
                .replace("z9hG4bKoc1CANCEL", "z9hG4bKoc1INVITE");
        world.say(phone, &cancel);
        let cancel = world.hear_start(own, "CANCEL ");
        assert_eq!(body(&cancel), if on { "because\r\n" } else { "" }, "{cancel}");
        assert_eq!(rows(&cancel, "Content-Type"), if on { vec!["text/x-why"] } else { Vec::new() });
        assert!(row(&cancel, "Via").ends_with(row(&invite, "Via").rsplit('=').next().unwrap()));
    }
}
