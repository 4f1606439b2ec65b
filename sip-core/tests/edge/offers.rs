//! The flows of offer and answer (RFC 6337 §2, table 1) as the media side hears of them: who offers, who answers, what comes
//! to nothing, and which of several answers holds.

use sip_core::edge::Event;
use sip_core::edge::event::Reason;

use crate::register::{MAC_A, registered};
use crate::script::{Call, SDP, from_pbx, from_phone, sdp, target};
use crate::world::{End, World, between, body, reply, row};

/// What the media side was asked, without addresses, since this was last asked.
fn heard(world: &World) -> Vec<String> {
    let mut all = world.media.lock().unwrap();
    let short = |line: &String| {
        let (what, rest) = line.split_once(" from ").unwrap_or((line, ""));
        let side = rest.split(' ').next().unwrap_or_default();
        format!("{what} {side}").trim_end().to_owned()
    };
    let heard = all.iter().map(short).collect();
    all.clear();
    heard
}

const CONTACT: &str = "Contact: <sips:200@10.0.1.50>\n";
const RELIABLE: &str = "RSeq: 1\nRequire: 100rel\nContact: <sips:200@10.0.1.50>\n";

/// A call of the phone that rings at the PBX.
struct Ringing {
    phone: End,
    own: End,
    invite: String,
}

fn ringing(world: &mut World, more: &str) -> Ringing {
    let (phone, own, _) = registered(world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", more));
    let invite = world.hear_start(own, "INVITE ");
    Ringing { phone, own, invite }
}

impl Ringing {
    /// The PBX answers; what the phone hears.
    fn answer(&self, world: &mut World, status: &str, tag: &str, more: &str) -> String {
        world.say(self.own, &reply(&self.invite, status, tag, more));
        world.hear_start(self.phone, &format!("SIP/2.0 {}", &status[..3]))
    }

    /// A further request of the phone in the dialog that this answer made.
    fn ask(&self, method: &str, cseq: u32, tag: &str, answer: &str, more: &str) -> String {
        let (route, remote) = (row(answer, "Record-Route"), between(row(answer, "Contact"), "<", ">"));
        let more = match more.split_once("\n\n") {
            Some((head, body)) => format!("{head}\nRoute: {route}\n\n{body}"),
            None => format!("{more}\nRoute: {route}").trim_start().to_owned(),
        };
        from_phone(method, remote, "c", cseq, tag, &more)
    }

    /// A further request of the PBX in this dialog.
    fn ask_back(&self, method: &str, cseq: u32, tag: &str, more: &str) -> String {
        let remote = between(row(&self.invite, "Contact"), "<", ">");
        let route = row(&self.invite, "Record-Route");
        format!(
            "{method} {remote} SIP/2.0
            Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKback{cseq}{method}
            Max-Forwards: 70
            Route: {route}
            From: <sips:200@10.0.1.50>;tag={tag}
            To: <sips:117@10.0.1.50>;tag=fc
            Call-ID: c
            CSeq: {cseq} {method}
            Contact: <sips:200@10.0.1.50>
            {more}"
        )
    }
}

/// The same description as `sdp`, from another port: another body.
fn other(more: &str) -> String {
    sdp(more).replace("4000", "4002")
}

#[test]
fn flow_1_an_offer_in_the_invite_is_answered_in_its_200() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp(""));
    assert!(body(&ringing.invite).contains("a=relay:Offer 1 from Outside"));
    let ok = ringing.answer(&mut world, "200 OK", "u", &sdp(CONTACT));
    assert!(body(&ok).contains("a=relay:Answer 1 from Inside"));
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside"]);
}

#[test]
fn flow_2_an_offer_in_the_200_is_answered_in_the_ack() {
    let mut world = World::new();
    let ringing = ringing(&mut world, "");
    let ok = ringing.answer(&mut world, "200 OK", "u", &sdp(CONTACT));
    assert!(body(&ok).contains("a=relay:Offer 1 from Inside"));
    for _ in 0..2 {
        world.say(ringing.phone, &ringing.ask("ACK", 1, "u", &ok, &sdp("")));
        assert!(body(&world.hear_start(ringing.own, "ACK ")).contains("a=relay:Answer 1 from Outside"));
    }
    assert_eq!(heard(&world), ["Offer 1 Inside", "Answer 1 Outside", "Answer 1 Outside"]);
    let session = |e: &Event| matches!(e, Event::CallStarted { session: Some(_), .. });
    assert_eq!(world.saw(session), 1, "the event names media that only the answer spoke of");
}

#[test]
fn flow_3_a_preview_in_a_183_is_repeated_by_the_200() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp(""));
    let early = ringing.answer(&mut world, "183 Progress", "u", &sdp(CONTACT));
    let last = ringing.answer(&mut world, "200 OK", "u", &sdp(CONTACT));
    assert_eq!(body(&early), body(&last));
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside"]);
}

#[test]
fn flow_4_a_reliable_183_answers_and_the_200_says_nothing() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp("Supported: 100rel\n"));
    let early = ringing.answer(&mut world, "183 Progress", "u", &sdp(RELIABLE));
    world.say(ringing.phone, &ringing.ask("PRACK", 2, "u", &early, "RAck: 1 1 INVITE"));
    let prack = world.hear_start(ringing.own, "PRACK ");
    world.say(ringing.own, &reply(&prack, "200 OK", "", "X: 1"));
    world.hear_start(ringing.phone, "SIP/2.0 200 ");
    let ok = ringing.answer(&mut world, "200 OK", "u", CONTACT.trim_end());
    assert_eq!(body(&ok), "");
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside"]);
}

#[test]
fn flow_5_a_reliable_183_offers_and_the_prack_answers() {
    let mut world = World::new();
    let ringing = ringing(&mut world, "Supported: 100rel");
    let early = ringing.answer(&mut world, "183 Progress", "u", &sdp(RELIABLE));
    assert!(body(&early).contains("a=relay:Offer 1 from Inside"));
    world.say(ringing.phone, &ringing.ask("PRACK", 2, "u", &early, &sdp("RAck: 1 1 INVITE\n")));
    let prack = world.hear_start(ringing.own, "PRACK ");
    assert!(body(&prack).contains("a=relay:Answer 1 from Outside"), "{prack}");
    world.say(ringing.own, &reply(&prack, "200 OK", "", "X: 1"));
    world.hear_start(ringing.phone, "SIP/2.0 200 ");
    ringing.answer(&mut world, "200 OK", "u", CONTACT.trim_end());
    assert_eq!(heard(&world), ["Offer 1 Inside", "Answer 1 Outside"]);
}

#[test]
fn flow_6_a_prack_offers_anew_and_its_200_answers() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp("Supported: 100rel\n"));
    let early = ringing.answer(&mut world, "183 Progress", "u", &sdp(RELIABLE));
    world.say(ringing.phone, &ringing.ask("PRACK", 2, "u", &early, &other("RAck: 1 1 INVITE\n")));
    let prack = world.hear_start(ringing.own, "PRACK ");
    assert!(body(&prack).contains("a=relay:Offer 1 from Outside"));
    world.say(ringing.own, &reply(&prack, "200 OK", "", &sdp("")));
    let ok = world.hear_start(ringing.phone, "SIP/2.0 200 ");
    assert!(body(&ok).contains("a=relay:Answer 1 from Inside"));
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside", "Offer 1 Outside", "Answer 1 Inside"]);
}

#[test]
fn flow_7_an_update_before_the_200_by_the_caller() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp("Supported: 100rel\n"));
    let early = ringing.answer(&mut world, "183 Progress", "u", &sdp(RELIABLE));
    world.say(ringing.phone, &ringing.ask("UPDATE", 3, "u", &early, &other("")));
    let update = world.hear_start(ringing.own, "UPDATE ");
    world.say(ringing.own, &reply(&update, "200 OK", "", &sdp(CONTACT)));
    world.hear_start(ringing.phone, "SIP/2.0 200 ");
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside", "Offer 1 Outside", "Answer 1 Inside"]);
    // What a 200 repeats of the answer is no answer to the update: it says again what was said, and nobody hears of it.
    let ok = ringing.answer(&mut world, "200 OK", "u", &sdp(CONTACT));
    assert_eq!(body(&ok), body(&early));
    assert!(heard(&world).is_empty());
}

#[test]
fn flow_8_an_update_before_the_200_by_the_callee() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp("Supported: 100rel\n"));
    ringing.answer(&mut world, "183 Progress", "u", &sdp(RELIABLE));
    world.say(ringing.own, &ringing.ask_back("UPDATE", 1, "u", &other("")));
    let update = world.hear_start(ringing.phone, "UPDATE ");
    assert!(body(&update).contains("a=relay:Offer 1 from Inside"));
    world.say(ringing.phone, &reply(&update, "200 OK", "", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    assert!(body(&world.hear_start(ringing.own, "SIP/2.0 200 ")).contains("a=relay:Answer 1 from Outside"));
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside", "Offer 1 Inside", "Answer 1 Outside"]);
    // The state of the update in the 200: neither offer nor answer. It was answered long ago, so nothing is missing.
    let ok = ringing.answer(&mut world, "200 OK", "u", &other(CONTACT));
    assert_eq!(body(&ok), "");
    assert!(heard(&world).is_empty());
    assert_eq!(world.saw(|e| matches!(e, Event::MediaRefused { .. })), 0);
}

#[test]
fn flow_9_a_re_invite_from_either_side() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    heard(&world);
    world.say(call.phone, &call.of_phone("INVITE", 2, &other("")));
    let invite = world.hear_start(call.own, "INVITE ");
    world.say(call.own, &reply(&invite, "200 OK", "", &other(CONTACT)));
    world.hear_start(call.phone, "SIP/2.0 200 ");
    world.say(call.phone, &call.of_phone("ACK", 2, ""));
    world.hear_start(call.own, "ACK ");
    world.say(call.pbx, &call.of_pbx("INVITE", 2, &other("")));
    let invite = world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &reply(&invite, "200 OK", "", &other("Contact: <sips:117@192.168.1.7>\n")));
    world.hear_start(call.pbx, "SIP/2.0 200 ");
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside", "Offer 1 Inside", "Answer 1 Outside"]);
}

#[test]
fn flow_10_a_re_invite_without_an_offer() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    heard(&world);
    world.say(call.pbx, &call.of_pbx("INVITE", 2, ""));
    let invite = world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &reply(&invite, "200 OK", "", &other("Contact: <sips:117@192.168.1.7>\n")));
    assert!(body(&world.hear_start(call.pbx, "SIP/2.0 200 ")).contains("a=relay:Offer 1 from Outside"));
    world.say(call.pbx, &call.of_pbx("ACK", 2, &sdp("")));
    assert!(body(&world.hear_start(call.phone, "ACK ")).contains("a=relay:Answer 1 from Inside"));
    assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside"]);
}

#[test]
fn flow_11_a_re_invite_or_update_that_is_refused_leaves_media_as_it_was() {
    for (method, status) in [
        ("INVITE", "488 Not Acceptable"),
        ("UPDATE", "491 Pending"),
        ("INVITE", "401 Unauthorized"),
        ("INVITE", "487 Gone"),
    ] {
        let mut world = World::new();
        let call = Call::from_pbx(&mut world, "c");
        heard(&world);
        world.say(call.phone, &call.of_phone(method, 2, &other("")));
        let request = world.hear_start(call.own, method);
        world.say(call.own, &reply(&request, "100 Trying", "", "X: 1"));
        assert_eq!(heard(&world), ["Offer 1 Outside"]);
        world.say(call.own, &reply(&request, status, "", "X: 1"));
        world.hear_start(call.phone, &format!("SIP/2.0 {}", &status[..3]));
        assert_eq!(heard(&world), ["Rollback 1 Outside"], "{method} {status}");
    }
    // Nobody answers at all.
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    heard(&world);
    world.say(call.pbx, &call.of_pbx("UPDATE", 2, &other("")));
    world.hear_start(call.phone, "UPDATE ");
    world.wait(std::time::Duration::from_secs(40));
    world.hear_start(call.pbx, "SIP/2.0 408 ");
    assert_eq!(heard(&world), ["Offer 1 Inside", "Rollback 1 Inside"]);
}

#[test]
fn flow_12_an_answer_that_we_refuse_leaves_the_call_as_it_was() {
    for method in ["INVITE", "UPDATE"] {
        let mut world = World::new();
        let call = Call::from_pbx(&mut world, "c");
        heard(&world);
        world.say(call.phone, &call.of_phone(method, 2, &other("")));
        let request = world.hear_start(call.own, method);
        world.say(call.own, &reply(&request, "200 OK", "", &format!("{}\na=refuse", sdp(CONTACT))));
        world.hear_start(call.phone, "SIP/2.0 488 ");
        assert_eq!(heard(&world), ["Offer 1 Outside", "Rollback 1 Outside"]);
        // A 2xx to INVITE must have its ACK; an UPDATE has none, and nobody gets a BYE.
        if method == "INVITE" {
            world.hear_start(call.own, "ACK ");
        }
        world.silent(call.own);
        world.say(call.phone, &call.of_phone("BYE", 4, ""));
        world.hear_start(call.own, "BYE ");
    }
}

#[test]
fn flow_13_two_offers_at_once_are_491_and_neither_answer_is_lost() {
    for second in ["INVITE", "UPDATE"] {
        let mut world = World::new();
        let call = Call::from_pbx(&mut world, "c");
        heard(&world);
        world.say(call.phone, &call.of_phone("INVITE", 2, &other("")));
        let invite = world.hear_start(call.own, "INVITE ");
        world.say(call.pbx, &call.of_pbx(second, 2, &other("")));
        world.hear_start(call.pbx, "SIP/2.0 491 ");
        world.silent(call.phone);
        let pending =
            |e: &Event| matches!(e, Event::Refused { reason: Reason::Pending, status: Some(491), .. });
        assert_eq!(world.saw(pending), 1);
        // What carries no offer passes.
        world.say(call.pbx, &call.of_pbx("INFO", 3, ""));
        let info = world.hear_start(call.phone, "INFO ");
        world.say(call.phone, &reply(&info, "200 OK", "", "X: 1"));
        world.hear_start(call.pbx, "SIP/2.0 200 ");
        // A PBX that does not mind answers: its answer is that to the first offer.
        world.say(call.own, &reply(&invite, "200 OK", "", &sdp(CONTACT)));
        world.hear_start(call.phone, "SIP/2.0 200 ");
        assert_eq!(heard(&world), ["Offer 1 Outside", "Answer 1 Inside"]);
        // And then it is the other's turn.
        world.say(call.pbx, &call.of_pbx(second, 4, &other("")));
        let request = world.hear_start(call.phone, second);
        assert_eq!(heard(&world), ["Offer 1 Inside"]);
        world.say(call.phone, &reply(&request, "491 Request Pending", "", "X: 1"));
        world.hear_start(call.pbx, "SIP/2.0 491 ");
        assert_eq!(heard(&world), ["Rollback 1 Inside"]);
    }
}

#[test]
fn flow_14_of_several_forks_the_one_that_is_confirmed_holds() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp("Supported: 100rel\n"));
    let first = ringing.answer(&mut world, "183 Progress", "u", &sdp(RELIABLE));
    ringing.answer(&mut world, "183 Progress", "v", &other(RELIABLE));
    heard(&world);
    // The first one answered reliably before: its 200 has no description, and the second spoke last.
    ringing.answer(&mut world, "200 OK", "u", CONTACT.trim_end());
    assert_eq!(heard(&world), ["Confirm 1 first"]);
    world.say(ringing.phone, &ringing.ask("BYE", 3, "u", &first, ""));
    let bye = world.hear_start(ringing.own, "BYE ");
    world.say(ringing.own, &reply(&bye, "200 OK", "", "X: 1"));
    assert_eq!(heard(&world), ["End 1"]);
}

#[test]
fn forks_are_told_apart_by_their_tag() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp(""));
    for (tag, more) in [("u", sdp(CONTACT)), ("v", other(CONTACT))] {
        ringing.answer(&mut world, "183 Progress", tag, &more);
    }
    ringing.answer(&mut world, "200 OK", "u", &sdp(CONTACT).replace("4000", "4004"));
    let forks = world.forks.lock().unwrap().clone();
    assert_eq!(forks.len(), 4, "{forks:?}");
    let [None, Some(u), Some(v), Some(last)] = forks[..] else { panic!("{forks:?}") };
    assert_ne!(u, v);
    assert_eq!(u, last);
}

#[test]
fn when_one_of_two_answered_dialogs_ends_the_other_holds() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp(""));
    let first = ringing.answer(&mut world, "200 OK", "u", &sdp(CONTACT));
    let second = ringing.answer(&mut world, "200 OK", "v", &other(CONTACT));
    heard(&world);
    // RFC 3261 §13.2.2.4: the caller ends the one that it does not want.
    world.say(ringing.phone, &ringing.ask("BYE", 3, "v", &second, ""));
    let bye = world.hear_start(ringing.own, "BYE ");
    world.say(ringing.own, &reply(&bye, "200 OK", "", "X: 1"));
    assert_eq!(heard(&world), ["Confirm 1 first"]);
    world.hear_start(ringing.phone, "SIP/2.0 200 ");
    world.say(ringing.phone, &ringing.ask("BYE", 4, "u", &first, ""));
    let bye = world.hear_start(ringing.own, "BYE ");
    world.say(ringing.own, &reply(&bye, "200 OK", "", "X: 1"));
    assert_eq!(heard(&world), ["End 1"]);
}

#[test]
fn forks_that_offer_have_media_of_their_own() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "d", 1, "", ""));
    let invite = world.hear_start(phone, "INVITE ");
    let contact = "Contact: <sips:117@192.168.1.7>\n";
    let mut oks = Vec::new();
    for (tag, more) in [("a", sdp(contact)), ("b", other(contact))] {
        world.say(phone, &reply(&invite, "200 OK", tag, &more));
        oks.push(world.hear_start(pbx, "SIP/2.0 200 "));
    }
    for (tag, ok) in ["a", "b"].iter().zip(&oks) {
        let route = format!("Route: {}\n", row(ok, "Record-Route"));
        world.say(pbx, &from_pbx("ACK", &target(&token), "d", 1, tag, &sdp(&route)));
        world.hear_start(phone, "ACK ");
    }
    assert_eq!(heard(&world), ["Offer 1 Outside", "Offer 2 Outside", "Answer 1 Inside", "Answer 2 Inside"]);
    assert!(body(&oks[0]).contains(&SDP.replace('\n', "\r\n")));
}

#[test]
fn an_offer_that_opened_a_call_and_was_refused_is_not_rolled_back_but_ended() {
    let mut world = World::new();
    let ringing = ringing(&mut world, &sdp(""));
    ringing.answer(&mut world, "486 Busy Here", "u", "X: 1");
    assert_eq!(heard(&world), ["Offer 1 Outside", "End 1"]);
}
