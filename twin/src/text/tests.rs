//! The reader against messages typed by hand.

use super::*;

const REGISTER: &str = "REGISTER sips:127.10.1.50:5061 SIP/2.0\r\n\
    v: SIP/2.0/TLS 127.40.1.11:4000;branch=z9hG4bKa;rport;alias\r\n\
    Via: SIP/2.0/TLS a;branch=z9hG4bKb, SIP/2.0/TLS b;branch=z9hG4bKc\r\n\
    f: \"A, \\\"B\\\"; <c>\" <sips:anonymous@x>;tag=1\r\n\
    To: <sips:anonymous@x;y=z>\r\n\
    Subject: folded\r\n  over lines\r\n\
    m: <sips:anonymous@127.40.1.11>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000FD4CB01>\";expires=3600\r\n\
    l: 4\r\n\r\nbody";

fn one(text: &str) -> Result<Frame, TextError> {
    let mut framer = Framer::default();
    framer.push(text.as_bytes());
    framer.next().expect("a whole frame")
}

fn message(text: &str) -> Message {
    match one(text) {
        Ok(Frame::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_names_lists_and_parameters() {
    let m = message(REGISTER);
    assert_eq!((m.method(), m.uri(), m.status()), (Some("REGISTER"), Some("sips:127.10.1.50:5061"), None));
    assert_eq!(m.values("Via").len(), 3);
    assert_eq!(m.branch(), Some("z9hG4bKa"));
    assert_eq!(parameter(m.text("From"), "tag"), Some("1"));
    assert_eq!(address(m.text("From")), "sips:anonymous@x");
    assert_eq!(parameter(m.text("To"), "y"), None, "a URI parameter is not a header parameter");
    assert_eq!(m.text("Subject"), "folded over lines");
    assert_eq!(parameter(m.text("Contact"), "expires"), Some("3600"));
    assert_eq!(
        parameter(m.text("Contact"), "+sip.instance"),
        Some("<urn:uuid:00000000-0000-1000-8000-08000FD4CB01>")
    );
    assert_eq!(m.body_text(), "body");
}

#[test]
fn takes_uris_apart() {
    assert_eq!(user("sips:a@h:1;lr"), "a");
    assert_eq!(user("sips:h:1;lr"), "");
    assert_eq!(host_port("sips:a@h:1;lr"), "h:1");
    assert_eq!(host_port("sip:h?x=y"), "h");
    assert_eq!(with_user("sips:anonymous@h:1;crt=x", "117"), "sips:117@h:1;crt=x");
}

#[test]
fn any_cut_gives_the_same_frames() {
    let stream = format!("\r\n\r\n{REGISTER}\r\n{REGISTER}\r\n\r\n");
    for step in 1..stream.len() {
        let (mut framer, mut kinds) = (Framer::default(), String::new());
        for chunk in stream.as_bytes().chunks(step) {
            framer.push(chunk);
            while let Some(frame) = framer.next() {
                kinds.push(match frame.expect("valid") {
                    Frame::Message(m) => {
                        assert_eq!(m.body, b"body");
                        'm'
                    }
                    Frame::Ping => 'p',
                    Frame::Pong => 'o',
                });
            }
        }
        // Two CRLF that arrive apart may be read as two pongs: a pong is a prefix of a ping.
        assert!(["pmomp", "oomomp", "pmomoo", "oomomoo"].contains(&kinds.as_str()), "step {step}: {kinds}");
    }
}

#[test]
fn refuses_what_is_not_sip() {
    assert_eq!(one("GET / HTTP/1.1\r\n\r\n"), Err(TextError::StartLine("GET / HTTP/1.1".to_owned())));
    assert_eq!(one("OPTIONS sip:a SIP/2.0\r\nx\r\n\r\n"), Err(TextError::Header("x".to_owned())));
    for length in ["", "l: -1\r\n", "l: x\r\n", "l: 99999999\r\n"] {
        assert_eq!(
            one(&format!("OPTIONS sip:a SIP/2.0\r\n{length}\r\n")),
            Err(TextError::Length),
            "{length}"
        );
    }
    for bare in ["a: b\nc: d", "a: b\rc: d", "a: \0"] {
        assert_eq!(
            one(&format!("OPTIONS sip:a SIP/2.0\r\n{bare}\r\nl: 0\r\n\r\n")),
            Err(TextError::Bare),
            "{bare}"
        );
    }
    assert_eq!(one(&"a".repeat(MAX_HEAD + 1)), Err(TextError::LongHead));
}

#[test]
fn replies_copy_what_the_rfc_says() {
    let m = message(REGISTER);
    let reply = message(&m.reply("200 OK", Some("77"), "Expires: 60\r\n", ""));
    assert_eq!(reply.status(), Some(200));
    assert_eq!(reply.values("Via"), m.values("Via"));
    assert_eq!(parameter(reply.text("To"), "tag"), Some("77"));
    assert_eq!(reply.text("Expires"), "60");
}
