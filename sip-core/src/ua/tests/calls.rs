//! Calls between two agents.

use super::world::{World, established};
use crate::message::{Message, Name};
use crate::ua::{Answer, Command, Credentials, Ending, Event, Label, Request};

#[test]
fn a_call_from_invite_to_bye() {
    let mut world = World::new();
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, dialog: callee, message } = world.next(1) else { panic!() };
    assert_eq!(message.raw(Name::Contact), Some(&b"<sip:alice@10.0.0.1:5060>"[..]));
    world.answer(1, key, Answer::new(180, "Ringing"));
    world.seconds(1.0);
    let Event::Response { label: Label(1), dialog: Some(caller), message } = world.next(0) else { panic!() };
    assert_eq!(message.status(), Some(180));
    world.answer(1, key, Answer::new(200, "OK").body("application/sdp", "answer"));
    world.seconds(1.0);
    assert!(
        matches!(world.next(0), Event::Response { dialog: Some(d), message, .. } if d == caller && message.body() == b"answer")
    );
    assert!(matches!(world.next(1), Event::Acknowledged { dialog, .. } if dialog == callee));
    world.bye(1, callee);
    world.seconds(1.0);
    assert!(matches!(world.next(0), Event::Ended { dialog, why: Ending::Remote } if dialog == caller));
    assert!(matches!(world.next(1), Event::Ended { dialog, why: Ending::Local } if dialog == callee));
    assert_eq!(world.ladder(), ["a INVITE", "b 180 Ringing", "b 200 OK", "a ACK", "b BYE", "a 200 OK"]);
    world.is_over();
}

#[test]
fn a_2xx_is_repeated_until_it_is_acknowledged_and_each_gets_its_ack() {
    let mut world = World::new();
    let mut acks = 0;
    world.lose = Box::new(move |who, text| {
        acks += u32::from(who == 0 && text.starts_with("ACK"));
        text.starts_with("ACK") && acks <= 4
    });
    world.call(0, 1);
    world.seconds(0.01);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(200, "OK"));
    world.seconds(20.0);
    // T1, doubling up to T2 (RFC 3261 §13.3.1.4).
    assert_eq!(world.times("200 OK"), [10, 510, 1510, 3510, 7510]);
    assert_eq!(world.times("ACK"), [20, 520, 1520, 3520, 7520]);
    assert_eq!(world.events[0].len(), 1, "one 200 is told: {:?}", world.events[0]);
    let Event::Acknowledged { dialog, .. } = world.next(1) else { panic!() };
    world.bye(1, dialog);
    world.is_over();
}

#[test]
fn a_2xx_that_nobody_acknowledges_ends_in_a_bye() {
    let mut world = World::new();
    world.lose = Box::new(|_, text| text.starts_with("ACK"));
    world.call(0, 1);
    world.seconds(0.01);
    let Event::Invite { key, dialog, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(200, "OK"));
    world.seconds(40.0);
    assert_eq!(world.times("200 OK").iter().filter(|at| **at < 32_010).count(), 11);
    assert_eq!(world.times("BYE"), [32_010]);
    assert!(matches!(world.next(1), Event::Ended { dialog: d, why: Ending::Unacknowledged } if d == dialog));
    world.is_over();
}

#[test]
fn a_callee_that_hangs_up_at_once_waits_for_the_ack() {
    let mut world = World::new();
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, dialog, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(200, "OK"));
    world.bye(1, dialog);
    world.seconds(1.0);
    assert_eq!(world.ladder(), ["a INVITE", "b 200 OK", "a ACK", "b BYE", "a 200 OK"]);
    world.is_over();
}

#[test]
fn byes_that_cross_end_the_dialog_once() {
    let mut world = World::new();
    let (caller, callee) = established(&mut world);
    world.ladder();
    world.bye(0, caller);
    world.bye(1, callee);
    world.seconds(1.0);
    assert_eq!(world.ladder(), ["a BYE", "b BYE", "b 200 OK", "a 200 OK"]);
    assert!(matches!(world.next(0), Event::Ended { why: Ending::Local, .. }));
    assert!(matches!(world.next(1), Event::Ended { why: Ending::Local, .. }));
    assert!(world.events.iter().all(|left| left.is_empty()), "{:?}", world.events);
    world.is_over();
}

#[test]
fn a_bye_before_the_ack_ends_the_repetition() {
    let mut world = World::new();
    world.lose = Box::new(|_, text| text.starts_with("ACK"));
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(200, "OK"));
    world.seconds(0.05);
    let Event::Response { dialog: Some(caller), .. } = world.next(0) else { panic!() };
    world.bye(0, caller);
    world.seconds(5.0);
    assert_eq!(world.times("SIP/2.0 200 OK").len(), 2, "{:?}", world.log);
    assert!(matches!(world.next(1), Event::Ended { why: Ending::Remote, .. }));
    world.is_over();
}

#[test]
fn a_cancel_waits_for_the_first_answer_and_ends_the_call() {
    let mut world = World::new();
    world.call(0, 1);
    world.order(0, Command::Cancel { label: Label(1) });
    assert_eq!(world.ladder(), ["a INVITE"]);
    world.seconds(0.05);
    let Event::Invite { key, dialog, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(180, "Ringing"));
    world.seconds(1.0);
    assert_eq!(
        world.ladder(),
        ["b 180 Ringing", "a CANCEL", "b 200 OK", "b 487 Request Terminated", "a ACK"]
    );
    assert!(matches!(world.next(1), Event::Ended { dialog: d, why: Ending::Unanswered } if d == dialog));
    assert!(matches!(world.next(1), Event::Cancelled { key: k } if k == key));
    assert!(matches!(world.next(0), Event::Response { message, .. } if message.status() == Some(180)));
    assert!(matches!(world.next(0), Event::Ended { why: Ending::Unanswered, .. }));
    assert!(matches!(world.next(0), Event::Response { message, .. } if message.status() == Some(487)));
    assert!(!world.agents[1].parts().0.is_idle() || world.events[1].is_empty());
    world.is_over();
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut world = World::new();
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(180, "Ringing"));
    world.seconds(1.0);
    world.answer(1, key, Answer::new(200, "OK"));
    world.order(0, Command::Cancel { label: Label(1) });
    world.seconds(1.0);
    assert_eq!(
        world.ladder(),
        ["a INVITE", "b 180 Ringing", "b 200 OK", "a CANCEL", "a ACK", "a BYE", "b 200 OK", "b 200 OK"]
    );
    world.is_over();
}

#[test]
fn a_cancel_that_meets_silence_gives_up() {
    let mut world = World::new();
    world.lose = Box::new(|who, text| who == 1 && !text.contains("180 Ringing"));
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(180, "Ringing"));
    world.seconds(1.0);
    world.order(0, Command::Cancel { label: Label(1) });
    world.seconds(40.0);
    assert!(matches!(world.events[0].back(), Some(Event::Unanswered { label: Label(1), status: 408 })));
    world.is_over();
}

#[test]
fn a_reliable_response_is_repeated_until_its_prack_and_the_2xx_waits() {
    let mut world = World::new();
    let mut lost = 0;
    world.lose = Box::new(move |who, text| {
        let hit = who == 1 && text.starts_with("SIP/2.0 183") && lost < 2;
        lost += u32::from(hit);
        hit
    });
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    // Else the INVITE would be sent again, and each would fetch the 183.
    world.answer(1, key, Answer::new(100, "Trying"));
    world.answer(1, key, Answer::new(183, "Session Progress").reliable().body("application/sdp", "answer"));
    world.answer(1, key, Answer::new(200, "OK"));
    world.seconds(0.2);
    assert!(world.times("200 OK").is_empty(), "not before the PRACK");
    world.seconds(5.0);
    assert_eq!(world.times("183"), [50, 550, 1550], "T1, doubling (RFC 3262 §3)");
    assert_eq!(
        world.ladder(),
        [
            "a INVITE",
            "b 100 Trying",
            "b 183 Session Progress",
            "b 183 Session Progress",
            "b 183 Session Progress",
            "a PRACK",
            "b 200 OK",
            "b 200 OK",
            "a ACK"
        ]
    );
    let told = world.events[0].iter().filter_map(|event| match event {
        Event::Response { message, .. } => message.status(),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [183, 200]);
    let Some(Event::Acknowledged { dialog, .. }) = world.events[1].pop_back() else { panic!() };
    world.bye(1, dialog);
    world.is_over();
}

#[test]
fn a_reliable_response_without_prack_ends_the_call() {
    let mut world = World::new();
    world.lose = Box::new(|who, text| who == 1 && text.starts_with("SIP/2.0 183"));
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, dialog, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(100, "Trying"));
    world.answer(1, key, Answer::new(183, "Session Progress").reliable());
    world.seconds(60.0);
    assert_eq!(world.times("183"), [50, 550, 1550, 3550, 7550, 15_550, 31_550]);
    assert_eq!(world.times("504")[0], 32_050);
    assert!(world.events[1].iter().any(|e| matches!(e, Event::Cancelled { key: k } if *k == key)));
    assert!(world.events[1].iter().any(|e| matches!(e, Event::Ended { dialog: d, .. } if *d == dialog)));
    world.is_over();
}

#[test]
fn an_offer_in_a_2xx_waits_for_its_answer() {
    let mut world = World::new();
    let request = world.draft(0, "INVITE");
    world.order(0, Command::Request { label: Label(1), request: Box::new(request) });
    world.seconds(0.05);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(200, "OK").body("application/sdp", "offer"));
    world.seconds(1.0);
    let Event::Response { dialog: Some(caller), .. } = world.next(0) else { panic!() };
    assert!(world.times("ACK").is_empty());
    let body = ("application/sdp".to_owned(), "answer".into());
    world.order(0, Command::Acknowledge { dialog: caller, body });
    world.seconds(1.0);
    assert!(matches!(world.next(1), Event::Acknowledged { message, .. } if message.body() == b"answer"));
    world.bye(0, caller);
    world.is_over();
}

#[test]
fn requests_within_a_dialog_go_both_ways() {
    let mut world = World::new();
    let (caller, callee) = established(&mut world);
    for (who, dialog, method) in
        [(0, caller, "INFO"), (1, callee, "UPDATE"), (0, caller, "INVITE"), (1, callee, "INVITE")]
    {
        world.within(who, 7, dialog, method, true);
        world.seconds(0.05);
        let Event::Request { key, dialog: Some(_), message } = world.next(1 - who) else { panic!() };
        assert_eq!(message.method().map(|m| m.as_bytes().to_vec()), Some(method.as_bytes().to_vec()));
        world.answer(1 - who, key, Answer::new(200, "OK"));
        world.seconds(0.05);
        assert!(
            matches!(world.next(who), Event::Response { label: Label(7), message, .. } if message.status() == Some(200))
        );
        if method == "INVITE" {
            assert!(matches!(world.next(1 - who), Event::Acknowledged { .. }));
        }
    }
    world.bye(0, caller);
    world.is_over();
}

#[test]
fn offers_that_cross_are_refused() {
    let mut world = World::new();
    let (caller, callee) = established(&mut world);
    world.within(0, 7, caller, "INVITE", true);
    world.within(1, 8, callee, "INVITE", true);
    world.seconds(1.0);
    for who in [0, 1] {
        assert!(matches!(world.next(who), Event::Response { message, .. } if message.status() == Some(491)));
    }
    // One at a time is no glare, but two from one side are.
    world.within(0, 9, caller, "INVITE", true);
    world.within(0, 10, caller, "INVITE", true);
    assert!(matches!(world.next(0), Event::Unanswered { label: Label(10), status: 491 }));
    world.seconds(0.05);
    let Event::Request { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(488, "Not Acceptable Here"));
    world.seconds(0.05);
    assert!(matches!(world.next(0), Event::Response { label: Label(9), .. }));
    assert!(world.agents[0].agent().dialog(caller).is_some(), "a refused re-INVITE ends no call");
    world.bye(0, caller);
    world.is_over();
}

#[test]
fn hanging_up_answers_a_pending_re_invite() {
    let mut world = World::new();
    let (caller, callee) = established(&mut world);
    world.ladder();
    world.within(0, 7, caller, "INVITE", true);
    world.seconds(0.05);
    world.bye(1, callee);
    world.seconds(1.0);
    assert_eq!(world.ladder(), ["a INVITE", "b 487 Request Terminated", "b BYE", "a ACK", "a 200 OK"]);
    world.is_over();
}

#[test]
fn silence_within_a_dialog_ends_it() {
    let mut world = World::new();
    let (caller, _) = established(&mut world);
    world.lose = Box::new(|_, text| text.contains("INFO"));
    world.within(0, 7, caller, "INFO", false);
    world.seconds(33.0);
    assert!(matches!(world.next(0), Event::Unanswered { label: Label(7), status: 408 }));
    assert!(matches!(world.next(0), Event::Ended { why: Ending::Lost, .. }));
    assert_eq!(world.times("BYE").len(), 1);
    world.is_over();
}

#[test]
fn nobody_at_the_other_end() {
    let mut world = World::new();
    world.lose = Box::new(|_, _| true);
    world.call(0, 1);
    world.seconds(40.0);
    assert_eq!(world.times("INVITE").len(), 7);
    assert!(matches!(world.next(0), Event::Unanswered { label: Label(1), status: 408 }));
    world.is_over();
}

struct Password;

impl Credentials for Password {
    fn answer(&mut self, challenge: &Message, request: &Request) -> Option<Vec<(Name, Vec<u8>)>> {
        assert_eq!(challenge.status(), Some(407));
        Some(vec![(Name::ProxyAuthorization, format!("Digest for {}", request.method()).into_bytes())])
    }
}

#[test]
fn a_challenged_invite_is_sent_again_with_credentials_which_its_ack_has_too() {
    let mut world = World::new();
    world.agents[0].parts().0.set_credentials(Box::new(Password));
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(407, "Proxy Authentication Required"));
    world.seconds(0.05);
    assert!(matches!(world.next(1), Event::Ended { why: Ending::Unanswered, .. }));
    let Event::Invite { key, message, .. } = world.next(1) else { panic!() };
    assert_eq!(message.raw(Name::ProxyAuthorization), Some(&b"Digest for INVITE"[..]));
    assert_eq!(message.raw(Name::CSeq), Some(&b"2 INVITE"[..]));
    world.answer(1, key, Answer::new(200, "OK"));
    world.seconds(0.05);
    let Event::Acknowledged { dialog, message } = world.next(1) else { panic!() };
    assert_eq!(message.raw(Name::ProxyAuthorization), Some(&b"Digest for INVITE"[..]));
    assert_eq!(message.raw(Name::CSeq), Some(&b"2 ACK"[..]));
    // Credentials that are refused are not tried again.
    world.within(1, 5, dialog, "INFO", false);
    world.seconds(0.05);
    world.call(0, 2);
    for _ in 0..2 {
        world.seconds(0.05);
        let key = loop {
            if let Event::Invite { key, .. } = world.next(1) {
                break key;
            }
        };
        world.answer(1, key, Answer::new(407, "Proxy Authentication Required"));
    }
    world.seconds(1.0);
    assert!(
        matches!(world.events[0].back(), Some(Event::Response { label: Label(2), message, .. }) if message.status() == Some(407))
    );
    world.bye(1, dialog);
    let info = world.events[0].iter().find_map(|e| match e {
        Event::Request { key, .. } => Some(*key),
        _ => None,
    });
    world.answer(0, info.expect("the INFO"), Answer::new(200, "OK"));
    world.is_over();
}

#[test]
fn requests_outside_of_dialogs_are_answered_by_the_owner() {
    let mut world = World::new();
    for method in ["OPTIONS", "MESSAGE", "NOTIFY"] {
        let request = world.draft(1, method);
        world.order(1, Command::Request { label: Label(3), request: Box::new(request) });
        world.seconds(0.05);
        let Event::Request { key, dialog: None, .. } = world.next(0) else { panic!() };
        world.answer(0, key, Answer::new(202, "Accepted").header("X-More", "1"));
        world.seconds(0.05);
        assert!(
            matches!(world.next(1), Event::Response { message, .. } if message.raw("X-More") == Some(&b"1"[..]))
        );
    }
    for (method, status) in [("SUBSCRIBE", 405), ("BYE", 481), ("UPDATE", 481)] {
        let request = world.draft(1, method);
        world.order(1, Command::Request { label: Label(3), request: Box::new(request) });
        world.seconds(0.05);
        assert!(
            matches!(world.next(1), Event::Response { message, .. } if message.status() == Some(status)),
            "{method}"
        );
    }
    let request = world.draft(1, "OPTIONS").header(Name::Require, "100rel, replaces, foo");
    world.order(1, Command::Request { label: Label(3), request: Box::new(request) });
    world.seconds(0.05);
    assert!(
        matches!(world.next(1), Event::Response { message, .. } if message.raw(Name::Unsupported) == Some(&b"replaces, foo"[..]))
    );
    world.is_over();
}

#[test]
fn draining_refuses_new_calls_and_keeps_those_that_run() {
    let mut world = World::new();
    let (caller, callee) = established(&mut world);
    world.agents[1].parts().0.drain();
    world.call(0, 2);
    world.seconds(0.05);
    assert!(
        matches!(world.next(0), Event::Response { label: Label(2), message, .. } if message.status() == Some(503))
    );
    world.within(0, 3, caller, "INFO", false);
    world.seconds(0.05);
    let Event::Request { key, .. } = world.next(1) else { panic!() };
    world.answer(1, key, Answer::new(200, "OK"));
    world.bye(1, callee);
    world.is_over();
}
