//! Which description is an offer and which an answer, between whom, and when a session ends.

use sip_core::edge::Event;
use sip_core::edge::event::Reason;

use crate::register::{MAC_A, registered};
use crate::script::{Call, SDP, from_pbx, from_phone, sdp, target};
use crate::world::{World, body, reply, row, rows};

fn calls(world: &World) -> Vec<String> {
    world
        .media
        .lock()
        .unwrap()
        .iter()
        .map(|line| line.split(" from").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn re_invite_update_and_prack() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    assert_eq!(calls(&world), ["Offer 1", "Answer 1"]);
    // The phone holds.
    world.say(call.phone, &call.of_phone("INVITE", 2, &sdp("")));
    let invite = world.hear_start(call.own, "INVITE ");
    assert!(body(&invite).contains("a=relay:Offer 1 from Outside"));
    assert_eq!(rows(&invite, "Record-Route").len(), 0);
    world.say(call.own, &reply(&invite, "200 OK", "", &sdp("Contact: <sips:200@10.0.1.50>\n")));
    assert!(body(&world.hear_start(call.phone, "SIP/2.0 200 ")).contains("a=relay:Answer 1 from Inside"));
    world.say(call.phone, &call.of_phone("ACK", 2, ""));
    world.hear_start(call.own, "ACK ");
    // The PBX updates.
    world.say(call.pbx, &call.of_pbx("UPDATE", 2, &sdp("")));
    let update = world.hear_start(call.phone, "UPDATE ");
    world.say(call.phone, &reply(&update, "200 OK", "", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    assert!(body(&world.hear_start(call.pbx, "SIP/2.0 200 ")).contains("a=relay:Answer 1 from Outside"));
    // An INFO neither offers nor answers.
    world.say(call.pbx, &call.of_pbx("INFO", 3, &sdp("")));
    assert!(!world.hear_start(call.phone, "INFO ").contains("relay"));
    // A re-INVITE that fails does not end the session.
    world.say(call.pbx, &call.of_pbx("INVITE", 4, &sdp("")));
    let invite = world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &reply(&invite, "491 Request Pending", "", "X: 1"));
    world.hear_start(call.pbx, "SIP/2.0 491 ");
    assert!(!calls(&world).contains(&"End 1".to_owned()));
    world.hear_start(call.phone, "ACK ");
    // A BYE that is challenged is none.
    world.say(call.phone, &call.of_phone("BYE", 3, ""));
    let bye = world.hear_start(call.own, "BYE ");
    world.say(call.own, &reply(&bye, "401 Unauthorized", "", "X: 1"));
    world.hear_start(call.phone, "SIP/2.0 401 ");
    assert!(!calls(&world).contains(&"End 1".to_owned()));
    world.say(call.phone, &call.of_phone("BYE", 4, ""));
    let bye = world.hear_start(call.own, "BYE ");
    world.say(call.own, &reply(&bye, "481 Gone", "", "X: 1"));
    world.hear_start(call.phone, "SIP/2.0 481 ");
    assert_eq!(calls(&world).last().map(String::as_str), Some("End 1"));
}

#[test]
fn an_invite_without_offer_is_answered_in_the_ack() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    assert!(body(&ok).contains("a=relay:Offer 1 from Outside"));
    let route = format!("Route: {}\n", row(&ok, "Record-Route"));
    world.say(pbx, &from_pbx("ACK", &target(&token), "c", 1, "a", &sdp(&route)));
    assert!(body(&world.hear_start(phone, "ACK ")).contains("a=relay:Answer 1 from Inside"));
    assert_eq!(calls(&world), ["Offer 1", "Answer 1"]);
    // A reliable provisional answer with the offer: the PRACK answers it.
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "d", 1, "", "Supported: 100rel"));
    let invite = world.hear_start(own, "INVITE ");
    world.say(
        own,
        &reply(
            &invite,
            "183 Progress",
            "u",
            &sdp("RSeq: 1\nRequire: 100rel\nContact: <sips:200@10.0.1.50>\n"),
        ),
    );
    let progress = world.hear_start(phone, "SIP/2.0 183 ");
    let (route, remote) =
        (row(&progress, "Record-Route"), row(&progress, "Contact").trim_matches(['<', '>']));
    let prack =
        from_phone("PRACK", remote, "d", 2, "u", &sdp(&format!("RAck: 1 1 INVITE\nRoute: {route}\n")));
    world.say(phone, &prack);
    assert!(body(&world.hear_start(own, "PRACK ")).contains("a=relay:Answer 2 from Outside"));
    world.say(own, &reply(&invite, "486 Busy Here", "u", "X: 1"));
    world.hear_start(phone, "SIP/2.0 486 ");
    assert_eq!(calls(&world).last().map(String::as_str), Some("End 2"));
}

/// MED-03 needs the address that a phone behind NAT gives itself: from its own message, else from its registration.
#[test]
fn the_media_side_learns_what_a_phone_calls_itself() {
    let mut world = World::new();
    let phones = |world: &World| -> Vec<String> {
        let lines = world.media.lock().unwrap();
        lines.iter().filter_map(|line| Some(line.split_once("phone at ")?.1.to_owned())).collect()
    };
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.8>\n")));
    world.hear_start(pbx, "SIP/2.0 200 ");
    assert_eq!(phones(&world), ["192.168.1.7", "192.168.1.8"], "registered, then said in the answer");
    // The phone asks: its Contact, or its Via where the Contact is a name.
    for (call, contact, host) in
        [("d", "<sips:117@192.168.1.9>", "192.168.1.9"), ("e", "<sips:117@phone.example>", "192.168.1.7")]
    {
        let request = from_phone("INVITE", "sips:200@10.0.1.50", call, 1, "", &sdp(""));
        let at = request.find("Contact: ").unwrap();
        let end = at + request[at..].find('\n').unwrap();
        let line = request[at..end].trim_end();
        world.say(phone, &request.replacen(line, &format!("Contact: {contact}"), 1));
        let invite = world.hear_start(own, "INVITE ");
        assert_eq!(phones(&world).last().map(String::as_str), Some(host));
        world.say(own, &reply(&invite, "200 OK", "u", &sdp("Contact: <sips:200@10.0.1.50>\n")));
        world.hear_start(phone, "SIP/2.0 200 ");
        assert_eq!(phones(&world).last().map(String::as_str), Some(host), "{call}");
    }
}

#[test]
fn what_the_relay_refuses() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(
        phone,
        &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &format!("{}\na=refuse", sdp(""))),
    );
    world.hear_start(phone, "SIP/2.0 488 ");
    world.silent(own);
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Media, .. })), 1);
    // In an answer: the caller is refused, the phone that answered gets its ACK and a BYE.
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "d", 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    let bad = format!("{}\na=refuse", sdp("Contact: <sips:117@192.168.1.7>\n"));
    world.say(phone, &reply(&invite, "180 Ringing", "a", &bad));
    assert_eq!(body(&world.hear_start(pbx, "SIP/2.0 180 ")), "");
    world.say(phone, &reply(&invite, "200 OK", "a", &bad));
    world.hear_start(pbx, "SIP/2.0 488 ");
    let bye = {
        let mut texts = [world.hear(phone), world.hear(phone)];
        texts.sort();
        assert!(texts[0].starts_with("ACK sips:117@192.168.1.7 "), "{}", texts[0]);
        texts[1].clone()
    };
    assert!(bye.starts_with("BYE sips:117@192.168.1.7 SIP/2.0\r\n") && bye.contains("CSeq: 2 BYE"), "{bye}");
    world.say(phone, &reply(&bye, "200 OK", "", "X: 1"));
    world.silent(pbx);
    let ends = calls(&world).iter().filter(|c| c.starts_with("End")).count();
    assert_eq!(ends, 2);
    assert_eq!(world.edge.snapshot(world.now).dialogs, 0);
}

#[test]
fn other_bodies_pass_bit_by_bit() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let asked = world.media.lock().unwrap().len();
    world.say(call.pbx, &call.of_pbx("INFO", 2, &format!("Content-Type: application/csta+xml\n\n{SDP}")));
    assert_eq!(body(&world.hear_start(call.phone, "INFO ")), SDP.replace('\n', "\r\n") + "\r\n");
    assert_eq!(world.media.lock().unwrap().len(), asked);
}

/// A body of two parts.
fn mixed(content_type: &str, sdp: &str) -> String {
    format!(
        "Content-Type: {content_type}\n\n--b1\nContent-Type: application/csta+xml\nX: 1\n--b1\nContent-Type: {sdp}\nv=0\nc=IN IP4 10.0.1.50\n--b1--"
    )
}

#[test]
fn a_description_among_other_parts_is_one() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    for (n, (content_type, sdp)) in [
        ("multipart/mixed;boundary=b1", "application/sdp"),
        ("Multipart / Mixed; boundary=\"b1\"", "Application / SDP"),
    ]
    .into_iter()
    .enumerate()
    {
        let call = format!("m{n}");
        world.say(pbx, &from_pbx("INVITE", &target(&token), &call, 1, "", &mixed(content_type, sdp)));
        let invite = world.hear_start(phone, "INVITE ");
        assert!(!body(&invite).contains("10.0.1.") && body(&invite).contains("192.0.2.1 Offer"), "{invite}");
        assert_eq!(row(&invite, "Content-Type"), content_type);
        let answer = mixed("multipart/mixed;boundary=b1", "application/sdp");
        world.say(
            phone,
            &reply(&invite, "200 OK", "a", &format!("Contact: <sips:117@192.168.1.7>\n{answer}")),
        );
        assert!(body(&world.hear_start(pbx, "SIP/2.0 200 ")).contains("192.0.2.1 Answer"));
    }
    let asked = calls(&world).len();
    assert_eq!(asked, 4);
    // Without one it is no offer; the answer is.
    let other = mixed("multipart/mixed;boundary=b1", "text/plain");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "m9", 1, "", &other));
    let invite = world.hear_start(phone, "INVITE ");
    assert_eq!(calls(&world).len(), asked);
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    assert!(body(&world.hear_start(pbx, "SIP/2.0 200 ")).contains("a=relay:Offer 3 from Outside"));
}

#[test]
fn what_the_far_end_may_take_for_a_description_is_one() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    for (n, head) in ["X: 1", "Content-Type: application / SDP ;x=y", "c: APPLICATION/sdp"].iter().enumerate()
    {
        let text = format!("{head}\n\n{SDP}");
        world.say(pbx, &from_pbx("INVITE", &target(&token), &format!("t{n}"), 1, "", &text));
        let invite = world.hear_start(phone, "INVITE ");
        assert!(body(&invite).contains("a=relay:Offer"), "{invite}");
    }
}

#[test]
fn a_phones_report_of_its_audio_is_copied_on_its_way() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let report = |id: &str, kind: &str, text: &str| {
        let more = format!("Event: vq-rtcpxr\nContent-Type: {kind}\n\n{text}");
        from_phone("PUBLISH", "sips:collector@10.0.1.50", id, 1, "", &more)
    };
    let text = "VQSessionReport: CallTerm\nCallID: c\nLocalMetrics:\nPacketLoss: NLR=5.0 JDR=2.0\nQualityEst: MOSLQ=4.2\n";
    world.say(call.phone, &report("p", "Application/VQ-RTCPXR;x=y", text));
    let publish = world.hear_start(call.own, "PUBLISH ");
    assert!(body(&publish).contains("QualityEst: MOSLQ=4.2"), "it goes on as it came");
    let told = |world: &World| {
        let quality = |event: &Event| match event {
            Event::QualityReported { call_id, quality, .. } => Some((call_id.clone(), *quality)),
            _ => None,
        };
        world.events.iter().filter_map(quality).collect::<Vec<_>>()
    };
    let [(call_id, quality)] = told(&world).try_into().unwrap();
    assert_eq!(call_id, "c");
    assert_eq!((quality.mos_listening, quality.lost, quality.discarded), (Some(420), Some(500), Some(200)));
    // Other types, other methods and the switch tell nothing.
    world.say(call.phone, &report("q", "text/plain", text));
    world.hear_start(call.own, "PUBLISH ");
    world.say(call.phone, &report("r", "application/vq-rtcpxr", text).replace("PUBLISH", "MESSAGE"));
    world.hear_start(call.own, "MESSAGE ");
    assert_eq!(told(&world).len(), 1);
}

/// What a switch can do names its own address, and no relay stands for it.
#[test]
fn descriptions_that_are_no_offer_and_no_answer_stay_inside() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    let options = world.hear_start(own, "OPTIONS ");
    world.say(own, &reply(&options, "200 OK", "", &sdp("Accept: application/sdp\n")));
    let able = world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!((body(&able), rows(&able, "Content-Type").len(), rows(&able, "Accept").len()), ("", 0, 1));
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "i", 1, "", &sdp("")));
    let invite = world.hear_start(own, "INVITE ");
    world.say(own, &reply(&invite, "488 Not Acceptable Here", "", &sdp("")));
    let refused = world.hear_start(phone, "SIP/2.0 488 ");
    assert_eq!((body(&refused), rows(&refused, "Content-Type").len()), ("", 0));
    assert_eq!(calls(&world), ["Offer 1", "End 1"]);
}

/// SIP-64: an INFO or a MESSAGE has no session, so nothing could be put in the place of inside addresses.
#[test]
fn a_description_in_another_request_is_kept_from_the_phone() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.events.clear();
    let multipart = mixed("multipart/mixed;boundary=b1", "application/sdp");
    let cases = [
        ("INFO", sdp("")),
        ("MESSAGE", sdp("")),
        ("NOTIFY", multipart),
        ("BYEBYE", format!("X: 1\n\n{SDP}")),
    ];
    for (n, (method, more)) in (2..).zip(cases) {
        world.say(call.pbx, &call.of_pbx(method, n, &more));
        let request = world.hear_start(call.phone, method);
        assert_eq!((body(&request), rows(&request, "Content-Type").len()), ("", 0), "{request}");
        assert_eq!(row(&request, "Content-Length"), "0");
        assert!(!request.contains("10.0.1.50:4000") && !request.contains("c=IN"), "{request}");
        world.say(call.phone, &reply(&request, "200 OK", "", "X: 1"));
        world.hear_start(call.pbx, "SIP/2.0 200 ");
    }
    let concealed = |event: &Event| match event {
        Event::Concealed { call_id, method } => Some((call_id.clone(), method.clone())),
        _ => None,
    };
    let told: Vec<_> = world.events.iter().filter_map(concealed).collect();
    let methods = ["INFO", "MESSAGE", "NOTIFY", "BYEBYE"];
    assert_eq!(told, methods.map(|method| ("c".to_owned(), method.to_owned())));
    // A phone's own has nothing to hide, and the media side hears of none.
    world.say(call.phone, &call.of_phone("INFO", 2, &sdp("")));
    assert_eq!(body(&world.hear_start(call.own, "INFO ")), SDP.replace('\n', "\r\n") + "\r\n");
    assert_eq!(calls(&world), ["Offer 1", "Answer 1"]);
}

/// It would tell the phone of an address that no relay stands for.
#[test]
fn an_ack_that_answers_nothing_has_no_description() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "200 OK", "a", "Contact: <sips:117@192.168.1.7>"));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    let route = format!("Route: {}\n", row(&ok, "Record-Route"));
    world.say(pbx, &from_pbx("ACK", &target(&token), "c", 1, "a", &sdp(&route)));
    assert_eq!(body(&world.hear_start(phone, "ACK ")), "");
}

/// SDP-05: an offer that can be made in another form is, before the caller hears of a 488.
#[test]
fn an_offer_that_was_refused_is_made_in_its_other_form_once() {
    let mut world = World::new();
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let offer = || format!("{}\na=either", sdp(""));
    let refused = |invite: &str| reply(invite, "488 Not Acceptable Here", "a", "Warning: 304 x \"y\"");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", &offer()));
    let first = world.hear_start(phone, "INVITE ");
    world.say(phone, &refused(&first));
    world.hear_start(phone, "ACK ");
    let second = world.hear_start(phone, "INVITE ");
    assert_ne!(row(&first, "Via"), row(&second, "Via"), "another branch");
    for same in ["Call-ID", "CSeq", "From", "To", "Record-Route", "Contact"] {
        assert_eq!(row(&first, same), row(&second, same));
    }
    world.silent(pbx);
    world.say(phone, &reply(&second, "200 OK", "b", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    assert!(body(&world.hear_start(pbx, "SIP/2.0 200 ")).contains("a=relay:Answer 1 from Outside"));
    assert_eq!(calls(&world), ["Offer 1", "Insist 1 to Outside", "Offer 1", "Answer 1"]);
    // A second refusal is the caller's, and so is one after it rang.
    for (call, rings) in [("d", false), ("e", true)] {
        world.say(pbx, &from_pbx("INVITE", &target(&token), call, 1, "", &offer()));
        let invite = world.hear_start(phone, "INVITE ");
        if rings {
            world.say(phone, &reply(&invite, "180 Ringing", "a", "X: 1"));
            world.hear_start(pbx, "SIP/2.0 180 ");
        }
        world.say(phone, &refused(&invite));
        world.hear_start(phone, "ACK ");
        if !rings {
            let again = world.hear_start(phone, "INVITE ");
            world.say(phone, &refused(&again));
            world.hear_start(phone, "ACK ");
        }
        world.hear_start(pbx, "SIP/2.0 488 ");
        world.silent(phone);
        assert!(calls(&world).last().is_some_and(|last| last.starts_with("End ")), "{:?}", calls(&world));
    }
    // A switch is asked like a phone.
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "f", 1, "", &offer()));
    let invite = world.hear_start(own, "INVITE ");
    world.say(own, &refused(&invite));
    world.hear_start(own, "ACK ");
    let again = world.hear_start(own, "INVITE ");
    assert!(calls(&world).iter().any(|line| line.ends_with(" to Inside")));
    world.say(own, &reply(&again, "486 Busy Here", "u", "X: 1"));
    world.hear_start(phone, "SIP/2.0 486 ");
}
