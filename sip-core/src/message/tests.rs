use bytes::Bytes;

use super::frame::{Frame, Framer};
use super::{
    EditError, Limits, Message, Method, Name, ParseError, RequestBuilder, ResponseBuilder, refusal, response,
};
use crate::header::{CSeq, CallId, Contact, From, RecordRoute, Route, To, Via};

const INVITE: &str = "INVITE sip:b@example.com SIP/2.0\r\n\
    Via: SIP/2.0/TCP a.example.com;branch=z9hG4bKa;rport, SIP/2.0/TLS c.example.com\r\n\
    v: SIP/2.0/UDP d.example.com:5070\r\n\
    Record-Route: <sip:r1;lr>\r\n\
    Route: <sip:p1;lr>,\r\n  <sip:p2;lr>\r\n\
    From: \"A, \\\"x\\\"\" <sip:a@example.com>;tag=1\r\n\
    t: <sip:b@example.com>\r\n\
    Call-ID: id@a\r\n\
    CSeq: 7 INVITE\r\n\
    Max-Forwards: 70\r\n\
    Contact: <sip:a@10.0.0.1>;+sip.instance=\"<urn:uuid:1>\"\r\n\
    X-Own :  kept \r\n\
    l: 4\r\n\r\nbody";

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).expect("parses")
}

fn refused(text: &[u8]) -> ParseError {
    Message::parse(Bytes::copy_from_slice(text), &Limits::default()).expect_err("is refused")
}

/// `text` with one row in place of `Max-Forwards: 70`.
fn with_row(row: &str) -> String {
    INVITE.replace("Max-Forwards: 70", row)
}

fn written(message: &Message, edit: impl FnOnce(&mut super::Edit<'_>)) -> String {
    let mut list = message.edit();
    edit(&mut list);
    String::from_utf8(list.to_bytes().expect("writes").to_vec()).expect("is text")
}

#[test]
fn a_request_is_indexed() {
    let message = parse(INVITE);
    assert_eq!(message.method(), Some(Method::Invite));
    assert_eq!(message.request_uri(), Some(&b"sip:b@example.com"[..]));
    assert_eq!((message.is_request(), message.status()), (true, None));
    assert_eq!(message.body(), b"body");
    assert_eq!(message.rows().count(), 12);
    let vias: Vec<_> = message.headers::<Via>().map(|via| via.expect("reads").host().to_string()).collect();
    assert_eq!(vias, ["a.example.com", "c.example.com", "d.example.com"]);
    let top = message.header::<Via>().expect("is there").expect("reads");
    assert_eq!((top.branch(), top.rport(), top.received()), (Some(&b"z9hG4bKa"[..]), Some(None), None));
    let routes: Vec<_> = message.headers::<Route>().map(|route| route.expect("reads").uri_bytes()).collect();
    assert_eq!(routes, [&b"sip:p1;lr"[..], b"sip:p2;lr"]);
    let from = message.header::<From>().expect("is there").expect("reads");
    assert_eq!((from.display(), from.tag()), (&b"\"A, \\\"x\\\"\""[..], Some(&b"1"[..])));
    assert_eq!(message.header::<To>().expect("is there").expect("reads").tag(), None);
    assert_eq!(message.header::<CallId>(), Some(Ok(&b"id@a"[..])));
    let cseq = message.header::<CSeq>().expect("is there").expect("reads");
    assert_eq!((cseq.number, cseq.method), (7, Method::Invite));
    let contact = message.header::<Contact>().expect("is there").expect("reads");
    assert_eq!(contact.param("+SIP.instance"), Some(&b"\"<urn:uuid:1>\""[..]));
    assert_eq!(message.raw("x-own"), Some(&b"kept"[..]));
    assert_eq!(message.raw("Call-Id"), message.raw(Name::CallId));
    assert!(message.validate().is_empty(), "{:?}", message.validate());
}

#[test]
fn an_empty_edit_changes_folds_only() {
    let message = parse(INVITE);
    assert_eq!(written(&message, |_| {}), INVITE.replace(",\r\n  <sip:p2", ", <sip:p2"));
    let plain = parse(&INVITE.replace(",\r\n  <sip:p2", ", <sip:p2"));
    assert_eq!(written(&plain, |_| {}).as_bytes(), plain.bytes());
}

#[test]
fn a_proxy_edits() {
    let message = parse(INVITE);
    let text = written(&message, |edit| {
        edit.push_via(b"SIP/2.0/TLS me;branch=z9hG4bKm");
        edit.push_front("Record-Route", b"<sip:me1;lr>");
        edit.push_front(Name::RecordRoute, b"<sip:me2;lr>");
        edit.set_max_forwards(69);
        assert!(edit.pop_top_route());
        edit.set_request_uri(b"sip:b@192.0.2.1");
        edit.replace_top_via(b"SIP/2.0/TCP a.example.com;received=192.0.2.9");
        edit.set_header("X-New", b"1");
        edit.set_body(b"longer body");
    });
    assert!(
        text.starts_with(
            "INVITE sip:b@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/TLS me;branch=z9hG4bKm\r\n\
         Via: SIP/2.0/TCP a.example.com;received=192.0.2.9, SIP/2.0/TLS c.example.com\r\n\
         v: SIP/2.0/UDP d.example.com:5070\r\n\
         Record-Route: <sip:me2;lr>\r\nRecord-Route: <sip:me1;lr>\r\nRecord-Route: <sip:r1;lr>\r\n\
         Route: <sip:p2;lr>\r\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("X-Own :  kept \r\nl: 11\r\nX-New: 1\r\n\r\nlonger body"), "{text}");
    assert!(text.contains("\r\nMax-Forwards: 69\r\n"));
}

#[test]
fn values_pop_across_lists_and_rows() {
    let message = parse(INVITE);
    let text = written(&message, |edit| assert_eq!(edit.pop_values(Name::Via, 2), 2));
    assert!(text.starts_with(
        "INVITE sip:b@example.com SIP/2.0\r\nv: SIP/2.0/UDP d.example.com:5070\r\nRecord-Route"
    ));
    let text = written(&message, |edit| assert_eq!(edit.pop_values(Name::Via, 9), 3));
    assert!(text.starts_with("INVITE sip:b@example.com SIP/2.0\r\nRecord-Route"));
    let text = written(&message, |edit| {
        assert!(edit.pop_via());
        edit.replace_top_via(b"SIP/2.0/TLS c2");
        edit.push_via(b"SIP/2.0/TLS me");
    });
    assert!(text.contains("SIP/2.0\r\nVia: SIP/2.0/TLS me\r\nVia: SIP/2.0/TLS c2\r\nv: "), "{text}");
    let text = written(&message, |edit| {
        assert!(edit.pop_via() && edit.pop_via());
        edit.replace_top_via(b"SIP/2.0/TLS d2");
    });
    assert!(text.contains("SIP/2.0\r\nv: SIP/2.0/TLS d2\r\nRecord"), "{text}");
}

#[test]
fn rows_are_replaced_and_removed() {
    let message = parse(INVITE);
    let text = written(&message, |edit| {
        edit.replace_values(Name::Via, &[&b"SIP/2.0/TLS one"[..], b"SIP/2.0/TLS two"]);
        edit.push_front("Path", b"<sip:gone>");
        edit.remove("path");
        edit.remove("X-OWN");
        edit.set_header(Name::Contact, b"<sip:x>");
        edit.set_header("m", b"<sip:y>");
        edit.remove(Name::ContentLength);
    });
    assert!(
        text.contains("SIP/2.0\r\nVia: SIP/2.0/TLS one\r\nVia: SIP/2.0/TLS two\r\nRecord-Route"),
        "{text}"
    );
    assert!(text.contains("\r\nContact: <sip:y>\r\nl: 4\r\n"), "{text}");
    assert!(!text.contains("X-Own") && !text.contains("gone") && !text.contains("<sip:x>"), "{text}");
}

#[test]
fn missing_rows_are_added_in_their_place() {
    let message = parse(&INVITE.replace("Max-Forwards: 70\r\n", "").replace("l: 4\r\n", ""));
    let text = written(&message, |edit| {
        edit.set_max_forwards(70);
        edit.set_max_forwards(69);
        edit.push_front(Name::Path, b"<sip:me>");
    });
    assert!(text.contains("5070\r\nPath: <sip:me>\r\nMax-Forwards: 69\r\nRecord-Route"), "{text}");
    assert!(text.ends_with("X-Own :  kept \r\nContent-Length: 4\r\n\r\nbody"), "{text}");
}

#[test]
fn nothing_given_can_inject_a_row() {
    let message = parse(INVITE);
    let mut edit = message.edit();
    edit.set_header("X-1", b"a\r\nEvil: 1");
    assert_eq!(edit.to_bytes(), Err(EditError::Value(Name::Other)));
    let mut edit = message.edit();
    edit.set_request_uri(b"sip:a b");
    assert!(edit.to_bytes().is_err());
    let text = written(&message, |edit| edit.set_header("X-1", b"folded \r\n\t value"));
    assert!(text.contains("\r\nX-1: folded value\r\n"));
    let answer = response(&message, 400, "Bad\r\nEvil: 1", None, &[("X-1", b"y\nEvil: 2\0")]);
    assert_eq!(parse(std::str::from_utf8(&answer).expect("is text")).raw("X-1"), Some(&b"y?Evil: 2?"[..]));
}

#[test]
fn responses_copy_what_they_must() {
    let message = parse(INVITE);
    let answer = ResponseBuilder::new(&message, 480, "Temporarily Unavailable")
        .to_tag("tt")
        .source("192.0.2.7:5090".parse().expect("is an address"))
        .header("Retry-After", b"30")
        .build();
    let answer = Message::parse_framed(answer, &Limits::default()).expect("parses");
    assert_eq!((answer.status(), answer.reason()), (Some(480), Some(&b"Temporarily Unavailable"[..])));
    let vias: Vec<_> = answer.headers::<Via>().map(|via| via.expect("reads")).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(vias[0].received(), Some("192.0.2.7".parse().expect("is an address")));
    assert_eq!((vias[0].rport(), vias[0].branch()), (Some(Some(5090)), Some(&b"z9hG4bKa"[..])));
    assert_eq!(answer.header::<To>().expect("is there").expect("reads").tag(), Some(&b"tt"[..]));
    assert_eq!(answer.raw(Name::From), message.raw(Name::From));
    assert!(answer.header::<RecordRoute>().is_none());
    assert!(answer.validate().is_empty());
}

#[test]
fn cancel_and_ack_follow_the_invite() {
    let message = parse(INVITE);
    let cancel = RequestBuilder::cancel(&message).expect("has all").build();
    let cancel = Message::parse_framed(cancel, &Limits::default()).expect("parses");
    assert_eq!((cancel.method(), cancel.headers::<Via>().count()), (Some(Method::Cancel), 1));
    assert_eq!(cancel.raw(Name::CSeq), Some(&b"7 CANCEL"[..]));
    assert_eq!(cancel.headers::<Route>().count(), 2);
    let answer =
        parse(std::str::from_utf8(&response(&message, 486, "Busy Here", Some("x"), &[])).expect("is text"));
    let ack = RequestBuilder::ack(&message, &answer).expect("has all").build();
    let ack = Message::parse_framed(ack, &Limits::default()).expect("parses");
    assert_eq!(ack.header::<To>().expect("is there").expect("reads").tag(), Some(&b"x"[..]));
    assert!(ack.validate().is_empty());
}

#[test]
fn content_length_is_one_number() {
    let value = |value: &str| INVITE.replace("l: 4", &format!("l: {value}"));
    for bad in ["-1", "+4", "0x4", "4, 4", "4 4", "", "4294967296", "99999999999999999999"] {
        assert!(matches!(refused(value(bad).as_bytes()), ParseError::ContentLength { .. }), "{bad}");
    }
    assert_eq!(refused(value("131073").as_bytes()).status(), 413);
    assert!(matches!(refused(value("5").as_bytes()), ParseError::BodyShort { expected: 5, got: 4 }));
    let twice = with_row("Content-Length: 4");
    assert!(matches!(refused(twice.as_bytes()), ParseError::ContentLengthTwice { .. }));
    assert_eq!(parse(&value("3")).body(), b"bod");
    let none = INVITE.replace("l: 4\r\n", "");
    assert_eq!(parse(&none).body(), b"body");
    assert_eq!(
        Message::parse_framed(none.into(), &Limits::default()).expect_err("needs it"),
        ParseError::ContentLengthMissing
    );
}

#[test]
fn control_characters_are_refused_or_never_forwarded() {
    for (row, wrong) in
        [("X-1: a\0b", "NUL"), ("X-1: a\rb", "CR"), ("X-1: a\x07b", "BEL"), ("X-1: a\x7fb", "DEL")]
    {
        assert!(matches!(refused(with_row(row).as_bytes()), ParseError::Control { .. }), "{wrong}");
    }
    assert!(matches!(refused(with_row("X-1: a\nY: b").as_bytes()), ParseError::BareLf { .. }));
    assert!(matches!(refused(with_row("X-1: \"a\\\r\\b\"").as_bytes()), ParseError::Control { .. }));
    assert!(matches!(refused(with_row("X-1: \\\0").as_bytes()), ParseError::Control { .. }));
    let message = parse(&with_row("X-1: \"a\\\0b\""));
    assert!(message.has_controls());
    assert_eq!(message.edit().to_bytes(), Err(EditError::Control));
    let body = parse(&INVITE.replace("\r\n\r\nbody", "\r\n\r\n\0\r\n\n"));
    assert_eq!(written(&body, |edit| edit.remove(Name::Contact)).as_bytes().last(), Some(&b'\n'));
}

#[test]
fn ceilings_hold() {
    let long = "x".repeat(9000);
    assert!(matches!(refused(with_row(&format!("X-1: {long}")).as_bytes()), ParseError::RowTooLong { .. }));
    let many = with_row(&"X-1: 1\r\n".repeat(200));
    assert!(matches!(refused(many.trim_end_matches("\r\n\r\n").as_bytes()), ParseError::TooManyRows { .. }));
    let uri = INVITE.replace("sip:b@example.com SIP", &format!("sip:{} SIP", "b".repeat(1025)));
    assert_eq!(refused(uri.as_bytes()).status(), 414);
    assert_eq!(refused(&vec![b'a'; 131_073]).status(), 413);
    assert_eq!(refused(b"\r\n\r\n"), ParseError::Empty);
    let vias = with_row(&format!("Via: {}SIP/2.0/UDP a", "SIP/2.0/UDP a, ".repeat(69)));
    assert_eq!(parse(&vias).validate().first().map(|finding| finding.status), Some(483));
}

#[test]
fn a_refusal_names_the_field_when_a_via_reads() {
    let text = INVITE.replace("l: 4", "l: -4");
    let error = refused(text.as_bytes());
    let answer = refusal(text.as_bytes(), &error).expect("has a Via");
    let answer = parse(std::str::from_utf8(&answer).expect("is text"));
    assert_eq!(answer.reason(), Some(&b"Bad Request (Content-Length)"[..]));
    assert_eq!(answer.headers::<Via>().count(), 3);
    assert!(answer.validate().is_empty());
    assert_eq!(refusal(text.replace("Via: SIP", "Via: XIP").as_bytes(), &error), None);
    assert_eq!(refusal(text.replace("INVITE sip:", "ACK sip:").as_bytes(), &error), None);
    assert_eq!(refusal(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\n\r\n", &error), None);
    assert_eq!(refusal(b"", &error), None);
}

#[test]
fn findings_are_answered_by_name() {
    let answer = |text: &str| {
        let message = parse(text);
        let finding = *message.validate().first().expect("is found");
        let answer = message.refuse(&finding)?.to_tag("t").build();
        let answer = Message::parse_framed(answer, &Limits::default()).expect("parses");
        assert!(answer.validate().is_empty());
        let unsupported = answer.rows().filter(|row| row.name == Name::Unsupported).count();
        Some((format!("{} {}", answer.status()?, String::from_utf8_lossy(answer.reason()?)), unsupported))
    };
    let expect = |text: &str, unsupported| Some((text.to_owned(), unsupported));
    let zero = with_row("Max-Forwards: 0");
    assert_eq!(answer(&zero), expect("483 Too Many Hops (Max-Forwards zero)", 0));
    let options = with_row("Proxy-Require: a, b");
    assert_eq!(answer(&options), expect("420 Bad Extension (Proxy-Require option not supported)", 2));
    assert_eq!(answer(&with_row("m: x")), expect("400 Bad Request (Contact malformed)", 0));
    assert_eq!(answer(&zero.replace("INVITE", "ACK")), None);
    let no_via = zero.replace("Via: SIP", "Via: XIP");
    assert_eq!(parse(&no_via).validate().first().map(|finding| finding.field), Some("Via"));
    assert_eq!(answer(&no_via), None);
}

fn frames(framer: &mut Framer, chunks: &[&[u8]]) -> Vec<String> {
    let mut out = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        while let Some(frame) = framer.next() {
            out.push(match frame {
                Ok(Frame::Message(message)) => String::from_utf8_lossy(message.bytes()).into_owned(),
                Ok(other) => format!("{other:?}"),
                Err(error) => format!("{} {}", error.status(), error.response.is_some()),
            });
        }
    }
    out
}

#[test]
fn streams_frame_alike_however_they_are_split() {
    let stream = format!("\r\n\r\n{INVITE}\r\n{INVITE}{INVITE}\r\n\r\n");
    let whole = frames(&mut Framer::stream(Limits::default()), &[stream.as_bytes()]);
    assert_eq!(whole, ["Pong", "Ping", INVITE, "Pong", INVITE, INVITE, "Pong", "Ping"]);
    for split in 1..stream.len() {
        let (a, b) = stream.as_bytes().split_at(split);
        assert_eq!(frames(&mut Framer::stream(Limits::default()), &[a, b]), whole, "{split}");
    }
    let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
    assert_eq!(frames(&mut Framer::stream(Limits::default()), &bytes), whole);
}

#[test]
fn unframeable_streams_fail_once() {
    let no_length = INVITE.replace("l: 4\r\n", "");
    let head = no_length.trim_end_matches("\r\n\r\nbody");
    let cases = [
        (no_length.clone(), "400 true"),
        (INVITE.replace("l: 4", "l: 4\r\nl: 4"), "400 true"),
        (INVITE.replace("l: 4", "l: 131072"), "413 true"),
        // Too many rows, or too long a one, are refused where they are; what is neither, at the end of the room.
        (format!("{head}\r\n{}", "X-1: 1\r\n".repeat(200)), "400 true"),
        (format!("{head}\r\nX-1: 1\r\n{}", " \r\n".repeat(2_800)), "400 true"),
        (format!("{head}\r\n{}", format!("X-1: {}\r\n", "x".repeat(8_000)).repeat(17)), "413 true"),
        ("GET / HTTP/1.1\r\n".to_owned(), "400 false"),
        ("a".repeat(1200), "414 false"),
        ("\n".to_owned(), "400 false"),
        (INVITE.replace("X-Own :", "X-Own :\n"), "400 true"),
        (INVITE.replace("INVITE sip", "INVITE  sip"), "400 true"),
    ];
    for (text, expected) in cases {
        let mut framer = Framer::stream(Limits::default());
        assert_eq!(frames(&mut framer, &[text.as_bytes(), INVITE.as_bytes()]), [expected], "{text:.40}");
        assert!(framer.is_failed() && framer.pending() == 0);
        let bytes: Vec<_> = text.as_bytes().chunks(7).collect();
        let split = frames(&mut Framer::stream(Limits::default()), &bytes);
        assert_eq!(split.first().map(|s| &s[..3]), Some(&expected[..3]), "{text:.40}");
    }
}
