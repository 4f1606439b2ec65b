//! Dialogs from literal messages.

use bytes::Bytes;

use super::*;
use crate::message::Limits;

fn message(text: &str) -> Message {
    let text = text.trim_start().lines().map(|l| format!("{}\r\n", l.trim())).collect::<String>();
    Message::parse(Bytes::from(text + "\r\n"), &Limits::default()).expect("a good message")
}

fn invite() -> Message {
    message(
        "INVITE sip:b@b.example SIP/2.0
         Via: SIP/2.0/UDP a.example;branch=z9hG4bK1
         Record-Route: <sip:p2.example;lr>, <sip:p1.example;lr;ftag=1>
         From: \"A\" <sip:a@a.example>;tag=at
         To: <sip:b@b.example>
         Call-ID: c1
         CSeq: 7 INVITE
         Contact: <sip:a@192.0.2.1:5070;transport=tcp>;expires=60",
    )
}

fn ok(routes: &str) -> Message {
    message(&format!(
        "SIP/2.0 200 OK
         Via: SIP/2.0/UDP a.example;branch=z9hG4bK1
         {routes}
         From: \"A\" <sip:a@a.example>;tag=at
         To: <sip:b@b.example>;tag=bt
         Call-ID: c1
         CSeq: 7 INVITE
         Contact: <sip:b@192.0.2.2>"
    ))
}

fn text(values: &[Vec<u8>]) -> Vec<String> {
    values.iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect()
}

#[test]
fn caller_and_callee_see_one_dialog() {
    let answer = ok("Record-Route: <sip:p2.example;lr>, <sip:p1.example;lr;ftag=1>");
    let mut caller = Dialog::of_response(&invite(), &answer).expect("a dialog");
    let mut callee = Dialog::of_request(&invite(), "bt").expect("a dialog");
    assert!(caller.is_confirmed() && !callee.is_confirmed());
    assert_eq!(caller.id().local_tag, callee.id().remote_tag);
    assert_eq!(caller.id().remote_tag, callee.id().local_tag);

    let head = caller.advance();
    assert_eq!(
        text(&[head.uri, head.from, head.to]),
        ["sip:b@192.0.2.2", "\"A\" <sip:a@a.example>;tag=at", "<sip:b@b.example>;tag=bt"]
    );
    assert_eq!(head.cseq, 8);
    assert_eq!(text(&head.routes), ["<sip:p1.example;lr;ftag=1>", "<sip:p2.example;lr>"], "reversed");
    assert_eq!(caller.ack(7).cseq, 7);
    assert_eq!(caller.next_hop(), b"sip:p1.example;lr;ftag=1");

    let head = callee.advance();
    assert_eq!(
        text(&[head.uri, head.from, head.to]),
        ["sip:a@192.0.2.1:5070;transport=tcp", "<sip:b@b.example>;tag=bt", "\"A\" <sip:a@a.example>;tag=at"]
    );
    assert_eq!(head.cseq, 1, "a space of its own");
    assert_eq!(text(&head.routes), ["<sip:p2.example;lr>", "<sip:p1.example;lr;ftag=1>"]);
}

#[test]
fn a_strict_router_gets_itself_in_the_request_uri() {
    let answer = ok("Record-Route: <sip:p2.example;lr>, <sip:old.example>");
    let mut caller = Dialog::of_response(&invite(), &answer).expect("a dialog");
    let head = caller.advance();
    assert_eq!(text(&[head.uri]), ["sip:old.example"]);
    assert_eq!(text(&head.routes), ["<sip:p2.example;lr>", "<sip:b@192.0.2.2>"]);
}

#[test]
fn an_early_dialog_takes_the_routes_of_the_2xx() {
    let early = message(
        "SIP/2.0 180 Ringing
         Via: SIP/2.0/UDP a.example;branch=z9hG4bK1
         Record-Route: <sip:early.example;lr>
         From: \"A\" <sip:a@a.example>;tag=at
         To: <sip:b@b.example>;tag=bt
         Call-ID: c1
         CSeq: 7 INVITE
         Contact: <sip:early@192.0.2.2>",
    );
    let mut caller = Dialog::of_response(&invite(), &early).expect("a dialog");
    assert!(!caller.is_confirmed());
    caller.confirm_by(&ok("Record-Route: <sip:late.example;lr>")).expect("it can be read");
    assert!(caller.is_confirmed());
    assert_eq!(caller.next_hop(), b"sip:late.example;lr");
    assert_eq!(caller.remote_target(), b"sip:b@192.0.2.2");
    // A re-INVITE's 2xx does not touch the route set (RFC 3261 §12.2.1.2).
    caller.confirm_by(&ok("Record-Route: <sip:other.example;lr>")).expect("it can be read");
    assert_eq!(caller.next_hop(), b"sip:late.example;lr");
}

#[test]
fn requests_out_of_order_do_not_fit() {
    let mut callee = Dialog::of_request(&invite(), "bt").expect("a dialog");
    let info = |n: u32| {
        message(&format!(
            "INFO sip:b@b.example SIP/2.0
             Via: SIP/2.0/UDP a.example;branch=z9hG4bK{n}
             From: <sip:a@a.example>;tag=at
             To: <sip:b@b.example>;tag=bt
             Call-ID: c1
             CSeq: {n} INFO"
        ))
    };
    assert_eq!(callee.check(&info(9)), Ok(()));
    assert_eq!(callee.check(&info(8)), Err(Misfit::OutOfOrder));
    assert_eq!(callee.check(&info(10)), Ok(()), "gaps are no fault");
    assert_eq!(Id::of_request(&info(10)).as_ref(), Some(callee.id()));
}

#[test]
fn without_a_contact_or_with_a_broken_route_there_is_no_dialog() {
    let bad = message(
        "INVITE sip:b@b.example SIP/2.0
         Via: SIP/2.0/UDP a.example;branch=z9hG4bK1
         From: <sip:a@a.example>;tag=at
         To: <sip:b@b.example>
         Call-ID: c1
         CSeq: 7 INVITE",
    );
    assert_eq!(Dialog::of_request(&bad, "bt"), Err(Misfit::Field(Name::Contact)));
    assert_eq!(
        Dialog::of_response(&invite(), &ok("Record-Route: <tel:1>")),
        Err(Misfit::Field(Name::RecordRoute))
    );
}

#[test]
fn reliable_responses_go_one_by_one() {
    let prack = |rack: &str| {
        message(&format!(
            "PRACK sip:b@b.example SIP/2.0
             Via: SIP/2.0/UDP a.example;branch=z9hG4bK2
             From: <sip:a@a.example>;tag=at
             To: <sip:b@b.example>;tag=bt
             Call-ID: c1
             CSeq: 8 PRACK
             RAck: {rack}"
        ))
    };
    let mut sent = Sent::new(100);
    assert_eq!(sent.acknowledge(&prack("100 7 INVITE"), 7), Acknowledged::Unknown);
    assert_eq!(sent.begin(), Some(100));
    assert_eq!(sent.begin(), None);
    sent.hold("183");
    for wrong in ["101 7 INVITE", "100 8 INVITE", "100 7 UPDATE", "100 INVITE", "x"] {
        assert_eq!(sent.acknowledge(&prack(wrong), 7), Acknowledged::Unknown, "{wrong}");
    }
    assert_eq!(sent.acknowledge(&prack("100 7 INVITE"), 7), Acknowledged::Next(Some("183")));
    assert_eq!(sent.begin(), Some(101));
    assert_eq!(sent.acknowledge(&prack("101  7  INVITE"), 7), Acknowledged::Next(None));
}

#[test]
fn a_reliable_response_is_new_once_and_in_its_turn() {
    let mut received = Received::default();
    assert!(received.is_next(41));
    assert!(!received.is_next(41), "again");
    assert!(!received.is_next(43), "early");
    assert!(received.is_next(42));
    assert!(received.is_next(43));
    assert!(!received.is_next(1));
}
