//! Calls both ways: which phone rings, what each side sees, who may end what.

use std::time::Duration;

use sip_core::edge::Event;
use sip_core::flow::Side;

use crate::register::{MAC_A, MAC_B, registered};
use crate::script::{Call, SDP, from_pbx, from_phone, sdp, target};
use crate::world::{World, between, body, reply, row, rows};

#[test]
fn a_call_from_the_pbx_reaches_the_phone_its_token_names() {
    let mut world = World::new();
    let (a, side, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (b, _, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(
        pbx,
        &format!(
            "INVITE sips:117@10.0.1.2:5061;transport=tls;crt={} SIP/2.0
        Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKi1
        Max-Forwards: 255
        From: <sips:200@10.0.1.50>;tag=p
        To: <sips:117@10.0.1.50>
        Call-ID: c1
        CSeq: 1 INVITE
        Contact: <sips:200@10.0.1.50:5061;transport=tls>
        Content-Type: application/sdp

        {SDP}",
            token.to_uppercase()
        ),
    );
    let invite = world.hear_start(a, "INVITE sips:117@192.168.1.7 SIP/2.0\r\n");
    world.silent(b);
    assert_eq!(row(&invite, "Max-Forwards"), "69");
    assert_eq!(rows(&invite, "Via").len(), 1);
    assert!(row(&invite, "Contact").starts_with("<sips:200@192.0.2.1:5061;transport=tls;pc="));
    let route = row(&invite, "Record-Route").to_owned();
    assert!(route.starts_with("<sips:192.0.2.1:5061;transport=tls;lr;ft="));
    assert!(body(&invite).contains("a=relay:Offer 1 from Inside 10.0.1.50 to 198.51.100.7"), "{invite}");

    world.say(a, &reply(&invite, "180 Ringing", "a", "Contact: <sips:117@192.168.1.7>"));
    world.hear_start(pbx, "SIP/2.0 180 ");
    world.say(a, &reply(&invite, "200 OK", "a", &format!("Contact: <sips:117@192.168.1.7>\nP-Asserted-Identity: <sip:x@y>\nContent-Type: application/sdp\n\n{SDP}")));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    assert_eq!(rows(&ok, "Via"), ["SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKi1;received=10.0.1.50"]);
    assert_eq!(row(&ok, "Contact"), format!("<sips:117@10.0.1.2:5061;transport=tls;crt={token}>"));
    assert!(!ok.contains("Asserted"));
    let inner = row(&ok, "Record-Route").to_owned();
    assert!(inner.starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ft="));
    assert_eq!(rows(&ok, "Record-Route").len(), 1);
    assert!(body(&ok).contains("a=relay:Answer 1 from Outside 198.51.100.7 to 10.0.1.50"), "{ok}");

    world.say(
        pbx,
        &format!(
            "ACK sips:117@10.0.1.2:5061;transport=tls;crt={token} SIP/2.0
        Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKa1
        Route: {inner}
        From: <sips:200@10.0.1.50>;tag=p
        To: <sips:117@10.0.1.50>;tag=a
        Call-ID: c1
        CSeq: 1 ACK"
        ),
    );
    let ack = world.hear_start(a, "ACK sips:117@192.168.1.7 SIP/2.0\r\n");
    assert_eq!(rows(&ack, "Route").len() + rows(&ack, "Record-Route").len(), 0);

    // The phone hangs up, with what it was given.
    let target = row(&invite, "Contact").trim_matches(['<', '>']).to_owned();
    world.say(
        a,
        &format!(
            "BYE {target} SIP/2.0
        Via: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKb1;rport
        Route: {route}
        From: <sips:117@10.0.1.50>;tag=a
        To: <sips:200@10.0.1.50>;tag=p
        Call-ID: c1
        CSeq: 7 BYE"
        ),
    );
    let bye = world.hear_start(side, "BYE sips:200@10.0.1.50:5061;transport=tls SIP/2.0\r\n");
    assert_eq!(rows(&bye, "Route").len(), 0);
    world.say(side, &reply(&bye, "200 OK", "", ""));
    world.hear_start(a, "SIP/2.0 200 ");
    assert_eq!(world.media.lock().unwrap().last().map(String::as_str), Some("End 1"));
}

#[test]
fn a_call_from_a_phone() {
    let mut world = World::new();
    let (phone, pbx, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(
        phone,
        &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &sdp("X-ShoreTel-CallGUID: 7\n")),
    );
    let invite = world.hear_start(pbx, "INVITE sips:200@10.0.1.50 SIP/2.0\r\n");
    assert_eq!(row(&invite, "Contact"), format!("<sips:117@10.0.1.2:5061;transport=tls;crt={token}>"));
    assert_eq!(row(&invite, "X-ShoreTel-CallGUID"), "7");
    let inner = row(&invite, "Record-Route").to_owned();
    assert!(inner.starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ft="));
    assert!(body(&invite).contains("a=relay:Offer 1 from Outside 198.51.100.7 to 10.0.1.50"));
    // 100 comes within 200 ms, by itself.
    world.wait(Duration::from_millis(200));
    world.hear_start(phone, "SIP/2.0 100 ");
    // A proxy of the PBX's own stays in the path; the phone must not see it.
    let ok = reply(&invite, "200 OK", "u", &sdp("Contact: <sips:200@10.0.1.53:5061;transport=tls>\n"))
        .replace(
            "Record-Route: <sips:10.0.1.2",
            "Record-Route: <sip:10.0.1.51;lr;x=1>, <sips:10.0.1.52;lr>, <sips:10.0.1.2",
        );
    world.say(pbx, &reply(&invite, "183 Session Progress", "u", &sdp("")));
    let progress = world.hear_start(phone, "SIP/2.0 183 ");
    assert!(body(&progress).contains("a=relay:Answer 1 from Inside 10.0.1.50 to 198.51.100.7"));
    world.say(pbx, &ok);
    let answer = world.hear_start(phone, "SIP/2.0 200 ");
    let outer = row(&answer, "Record-Route").to_owned();
    assert!(outer.starts_with("<sips:192.0.2.1:5061;transport=tls;lr;ft=") && outer.contains(";rs="));
    assert_eq!(rows(&answer, "Record-Route").len(), 1);
    let remote = between(row(&answer, "Contact"), "<", ">").to_owned();
    assert!(remote.starts_with("sips:200@192.0.2.1:5061;transport=tls;pc="));
    // The same 200 again leaves as it did; the relay is not asked again.
    let asked = world.media.lock().unwrap().len();
    world.say(pbx, &ok);
    assert_eq!(world.hear(phone), answer);
    assert_eq!(world.media.lock().unwrap().len(), asked);

    // The ACK goes by the hidden route set, in the phone's direction, to the first of it.
    world.say(phone, &from_phone("ACK", &remote, "c", 1, "u", &format!("Route: {outer}")));
    let next = world.dialled("10.0.1.52:5061");
    let ack = world.hear_start(next, "ACK sips:200@10.0.1.53:5061;transport=tls SIP/2.0\r\n");
    assert_eq!(rows(&ack, "Route"), ["<sips:10.0.1.52;lr>", "<sip:10.0.1.51;lr;x=1>"]);

    // The PBX hangs up by our Record-Route, from another connection.
    let other = world.switch("10.0.1.50:33000");
    world.say(
        other,
        &from_pbx("BYE", &target(&token), "c", 2, "", &format!("Route: {inner}"))
            .replace(";tag=pc", ";tag=u")
            .replace("<sips:117@10.0.1.50>", "<sips:117@10.0.1.50>;tag=fc"),
    );
    let bye = world.hear_start(phone, "BYE sips:117@192.168.1.7 SIP/2.0\r\n");
    world.say(phone, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(other, "SIP/2.0 200 ");
    assert_eq!(world.media.lock().unwrap().last().map(String::as_str), Some("End 1"));
    let ended = |e: &Event| matches!(e, Event::CallEnded { by: Some(Side::Inside), .. });
    assert_eq!(
        (world.saw(|e| matches!(e, Event::CallStarted { from: Side::Outside, .. })), world.saw(ended)),
        (1, 1)
    );
    world.wait(Duration::from_secs(64));
    let left = world.edge.snapshot(world.now);
    assert_eq!((left.contexts, left.dialogs), (0, 0));
}

#[test]
fn a_caller_who_gives_up() {
    let mut world = World::new();
    let (phone, pbx, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &sdp("")));
    let invite = world.hear_start(pbx, "INVITE ");
    // Nothing heard yet: the CANCEL waits (RFC 3261 §9.1).
    world.say(phone, &cancel(&from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", "")));
    world.hear_start(phone, "SIP/2.0 200 ");
    world.silent(pbx);
    world.say(pbx, &reply(&invite, "180 Ringing", "u", "Contact: <sips:200@10.0.1.50>"));
    let cancel = world.hear_start(pbx, "CANCEL sips:200@10.0.1.50 SIP/2.0\r\n");
    assert_eq!(rows(&cancel, "Via"), [rows(&invite, "Via")[0]]);
    world.hear_start(phone, "SIP/2.0 180 ");
    world.say(pbx, &reply(&cancel, "200 OK", "u", "X: 1"));
    world.say(pbx, &reply(&invite, "487 Request Terminated", "u", "X: 1"));
    let ack = world.hear_start(pbx, "ACK sips:200@10.0.1.50 SIP/2.0\r\n");
    assert_eq!(row(&ack, "To"), "<sips:200@10.0.1.50>;tag=u");
    world.hear_start(phone, "SIP/2.0 487 ");
    world.silent(phone);
    assert_eq!(world.media.lock().unwrap().last().map(String::as_str), Some("End 1"));
    world.wait(Duration::from_secs(64));
    let left = world.edge.snapshot(world.now);
    assert_eq!((left.contexts, left.dialogs), (0, 0));
}

#[test]
fn a_200_that_crosses_the_cancel_goes_on() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let request = from_pbx("INVITE", &target(&token), "c", 1, "", &sdp(""));
    world.say(pbx, &request);
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "180 Ringing", "a", "X: 1"));
    world.hear_start(pbx, "SIP/2.0 180 ");
    world.say(pbx, &cancel(&request));
    world.hear_start(pbx, "SIP/2.0 200 ");
    world.hear_start(phone, "CANCEL sips:117@192.168.1.7 SIP/2.0\r\n");
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    assert_eq!(row(&ok, "CSeq"), "1 INVITE");
    assert_eq!(world.saw(|e| matches!(e, Event::CallStarted { .. })), 1);
}

#[test]
fn a_cancel_for_nothing_is_481() {
    let mut world = World::new();
    let (phone, pbx, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &cancel(&from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", "")));
    world.hear_start(phone, "SIP/2.0 481 ");
    world.silent(pbx);
}

#[test]
fn a_refusal_passes_and_is_acknowledged() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "486 Busy Here", "a", "Warning: 399 x y"));
    let busy = world.hear_start(pbx, "SIP/2.0 486 ");
    assert_eq!(row(&busy, "Warning"), "399 x y");
    world.hear_start(phone, "ACK ");
    assert_eq!(world.media.lock().unwrap().last().map(String::as_str), Some("End 1"));
    // A phone's redirection names somebody else: as it is, without the phone's token.
    world.say(pbx, &from_pbx("INVITE", &target(&token), "d", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "302 Moved Temporarily", "a", "Contact: <sips:118@10.0.1.50>"));
    assert_eq!(row(&world.hear_start(pbx, "SIP/2.0 302 "), "Contact"), "<sips:118@10.0.1.50>");
}

#[test]
fn nobody_answers() {
    let mut world = World::new();
    let (phone, pbx, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    // Never a word: 32 s on a stream (timer B).
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
    world.hear_start(pbx, "INVITE ");
    world.wait(Duration::from_secs(33));
    world.hear_start(phone, "SIP/2.0 100 ");
    world.hear_start(phone, "SIP/2.0 408 ");
    // It rings for ever: timer C, started anew by each 180, at most 300 s.
    let switch = world.switch("10.0.1.50:33000");
    world.say(switch, &from_pbx("INVITE", &target(&token), "d", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    for _ in 0..5 {
        world.say(phone, &reply(&invite, "180 Ringing", "a", "X: 1"));
        world.hear_start(switch, "SIP/2.0 180 ");
        world.wait(Duration::from_secs(59));
        world.silent(phone);
    }
    world.wait(Duration::from_secs(5));
    let cancel = world.hear_start(phone, "CANCEL ");
    world.say(phone, &reply(&cancel, "200 OK", "a", "X: 1"));
    world.say(phone, &reply(&invite, "487 Request Terminated", "a", "X: 1"));
    world.hear_start(switch, "SIP/2.0 487 ");
    world.hear_start(phone, "ACK ");
    world.wait(Duration::from_secs(64));
    assert_eq!(world.edge.snapshot(world.now).contexts, 0);
}

#[test]
fn a_switch_that_can_not_be_reached_is_503_at_once() {
    let mut world = World::new();
    let (phone, pbx, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    // The connection breaks while a call is set up.
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
    world.hear_start(pbx, "INVITE ");
    world.hang(pbx);
    world.hear_start(phone, "SIP/2.0 503 ");
    // It can't be made.
    world.down.insert("10.0.1.50:5061".parse().unwrap());
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "d", 1, "", ""));
    let answer = world.hear_start(phone, "SIP/2.0 503 ");
    assert!(row(&answer, "Retry-After").parse::<u32>().is_ok());
    world.wait(Duration::from_secs(64));
    assert_eq!(world.edge.snapshot(world.now).contexts, 0);
}

#[test]
fn a_phone_s_connection_that_breaks_while_it_rings() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
    world.hear_start(phone, "INVITE ");
    world.hang(phone);
    world.hear_start(pbx, "SIP/2.0 480 ");
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. })), 1);
    world.say(pbx, &from_pbx("INVITE", &target(&token), "d", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 480 ");
    // Both say which phone it was.
    let named =
        |e: &Event| matches!(e, Event::Refused { phone: Some(p), .. } if p.tag.as_deref() == Some(MAC_A));
    assert_eq!(world.saw(named), 2);
}

#[test]
fn a_bye_to_a_phone_that_is_gone_ends_the_call_all_the_same() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.hang(call.phone);
    let running = |world: &World| world.edge.snapshot(world.now).dialogs;
    assert_eq!(running(&world), 1);
    world.say(call.pbx, &call.of_pbx("BYE", 2, ""));
    world.hear_start(call.pbx, "SIP/2.0 480 ");
    assert_eq!(running(&world), 0);
    assert_eq!(world.media.lock().unwrap().last().map(String::as_str), Some("End 1"));
    assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { by: Some(Side::Inside), .. })), 1);
}

/// The CANCEL of a request, as its sender writes it.
fn cancel(invite: &str) -> String {
    let mut text = String::new();
    for line in invite.lines().map(str::trim_start) {
        let line = line.replacen("INVITE", "CANCEL", 1);
        if ["CANCEL", "Max", "From", "To", "Call-ID", "CSeq"].iter().any(|start| line.starts_with(start)) {
            text.push_str(&line);
            text.push('\n');
        } else if line.starts_with("Via") {
            // The branch is the INVITE's.
            let via = invite.lines().find(|l| l.trim_start().starts_with("Via"));
            text.push_str(via.unwrap_or_default().trim_start());
            text.push('\n');
        }
    }
    text.trim_end().to_owned()
}

#[test]
fn an_invite_at_the_limits_can_be_cancelled() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    // As many rows as a message may have; a Request-URI as long as it may be. Both leave with more.
    let rows = (0..192).map(|n| format!("X-{n}: 1\n")).collect::<String>();
    let long = "9".repeat(1024 - "sips:@10.0.1.2".len());
    let many = from_pbx("INVITE", &target(&token), "c", 1, "", rows.trim_end());
    let tall = from_phone("INVITE", &format!("sips:{long}@10.0.1.2"), "d", 1, "", "X-0: 1");
    for (asks, asked, invite) in [(pbx, phone, many), (phone, own, tall)] {
        world.say(asks, &invite);
        let left = world.hear_start(asked, "INVITE ");
        world.say(asked, &reply(&left, "180 Ringing", "a", "X: 1"));
        let head = invite.split("X-0:").next().unwrap_or_default();
        world
            .say(asks, head.replace("INVITE sips", "CANCEL sips").replace("1 INVITE", "1 CANCEL").trim_end());
        world.hear_start(asked, "CANCEL ");
    }
}
