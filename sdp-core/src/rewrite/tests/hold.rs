//! Hold and resume in every dialect, with each switch, as offer and as answer.

use super::*;
use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};

/// A description with this at the session's connection, at session level, and under the stream.
fn talk(connection: &str, session: &str, stream: &str) -> String {
    let lines = |text: &str| text.split_whitespace().map(|line| format!("a={line}\r\n")).collect::<String>();
    let host = if connection.contains("IP6") { "IP6 2001:db8::7" } else { "IP4 192.168.1.7" };
    format!(
        "v=0\r\no=- 1 2 IN {host}\r\ns=-\r\nc=IN {connection}\r\nt=0 0\r\n{}m=audio 4000 RTP/AVP 0\r\n{}",
        lines(session),
        lines(stream)
    )
}

/// What is to come out of it: our address, or another connection, and these lines.
fn shown(connection: &str, session: &str, stream: &str) -> String {
    talk(connection, session, stream)
        .replace("IN IP4 192.168.1.7", "IN IP4 203.0.113.9")
        .replace("IN IP6 2001:db8::7", "IN IP4 203.0.113.9")
        .replace("audio 4000", "audio 20000")
}

const OURS: &str = "IP4 203.0.113.9";
const REAL: &str = "IP4 192.168.1.7";

/// The dialects: connection, session attributes, stream attributes.
const DIALECTS: [(&str, &str, &str); 8] = [
    ("IP4 0.0.0.0", "", ""),
    ("IP4 0.0.0.0", "", "sendrecv"),
    ("IP4 0.0.0.0", "", "sendonly"),
    ("IP4 0.0.0.0", "", "inactive"),
    ("IP4 192.168.1.7", "", "sendonly"),
    ("IP4 192.168.1.7", "", "inactive"),
    ("IP4 192.168.1.7", "sendonly", ""),
    ("IP6 ::", "", ""),
];

fn check(rules: &Rules, after: [(&str, &str, &str); 8]) {
    for ((connection, session, stream), (to, at_session, at_stream)) in DIALECTS.iter().zip(after) {
        let before = talk(connection, session, stream);
        assert_eq!(
            offer(rules, &before),
            shown(to, at_session, at_stream),
            "{connection} {session} {stream}"
        );
    }
    for direction in ["", "sendrecv", "recvonly"] {
        let resumed = talk(REAL, "", direction);
        assert_eq!(offer(rules, &resumed), shown(OURS, "", direction), "resume with {direction}");
    }
}

#[test]
fn by_default_zero_becomes_our_address_and_a_direction() {
    check(
        &Rules::default(),
        [
            (OURS, "", "sendonly"),
            (OURS, "", "sendonly"),
            (OURS, "", "sendonly"),
            (OURS, "", "inactive"),
            (OURS, "", "sendonly"),
            (OURS, "", "inactive"),
            (OURS, "sendonly", ""),
            (OURS, "", "sendonly"),
        ],
    );
}

#[test]
fn rfc_2543_zero_stays_zero() {
    let rules = Rules { hold_rfc2543: true, ..Rules::default() };
    check(
        &rules,
        [
            ("IP4 0.0.0.0", "", ""),
            ("IP4 0.0.0.0", "", "sendrecv"),
            ("IP4 0.0.0.0", "", "sendonly"),
            ("IP4 0.0.0.0", "", "inactive"),
            (OURS, "", "sendonly"),
            (OURS, "", "inactive"),
            (OURS, "sendonly", ""),
            // The far side is of the other family: its own nought.
            ("IP4 0.0.0.0", "", ""),
        ],
    );
    let out = by(&rules, Part::Offer { dtmf: None }, "2001:db8::9", &talk("IP4 0.0.0.0", "", ""));
    assert!(out.contains("\r\nc=IN IP6 ::\r\n"), "{out}");
}

#[test]
fn rfc_2543_with_the_attribute_forced() {
    let rules = Rules { hold_rfc2543: true, hold_force_3264: true, ..Rules::default() };
    check(
        &rules,
        [
            ("IP4 0.0.0.0", "", "sendonly"),
            ("IP4 0.0.0.0", "", "sendonly"),
            ("IP4 0.0.0.0", "", "sendonly"),
            ("IP4 0.0.0.0", "", "inactive"),
            (OURS, "", "sendonly"),
            (OURS, "", "inactive"),
            (OURS, "sendonly", ""),
            ("IP4 0.0.0.0", "", "sendonly"),
        ],
    );
}

#[test]
fn inhibited_hold_is_shown_as_talk() {
    let talked = [
        (OURS, "", "sendrecv"),
        (OURS, "", "sendrecv"),
        (OURS, "", "sendrecv"),
        (OURS, "", "sendrecv"),
        (OURS, "", "sendrecv"),
        (OURS, "", "sendrecv"),
        (OURS, "sendonly", "sendrecv"),
        (OURS, "", ""),
    ];
    let rules = Rules { inhibit_hold: true, ..Rules::default() };
    let mut first = talked;
    // Where nothing is said, `sendrecv` is meant (RFC 8866 §6.7).
    first[0] = (OURS, "", "");
    check(&rules, first);
    check(&Rules { hold_rfc2543: true, ..rules }, first);
}

#[test]
fn hold_may_be_sent_as_inactive() {
    let rules = Rules { hold_inactive: true, ..Rules::default() };
    check(
        &rules,
        [
            (OURS, "", "inactive"),
            (OURS, "", "inactive"),
            (OURS, "", "inactive"),
            (OURS, "", "inactive"),
            (OURS, "", "inactive"),
            (OURS, "", "inactive"),
            (OURS, "sendonly", "inactive"),
            (OURS, "", "inactive"),
        ],
    );
    assert_eq!(
        answer(&rules, SendRecv, &talk(REAL, "", "sendonly")),
        shown(OURS, "", "sendonly"),
        "an offer's only"
    );
}

#[test]
fn an_answer_mirrors_the_offer_where_that_is_forced() {
    let forced = Rules { hold_force_3264: true, ..Rules::default() };
    let inhibited = Rules { inhibit_hold: true, ..Rules::default() };
    for (offered, answered, becomes) in [
        (SendOnly, "sendrecv", "recvonly"),
        (SendOnly, "", "recvonly"),
        (SendOnly, "recvonly", "recvonly"),
        (SendOnly, "sendonly", "inactive"),
        (SendOnly, "inactive", "inactive"),
        (Inactive, "sendrecv", "inactive"),
        (Inactive, "", "inactive"),
        (RecvOnly, "sendrecv", "sendonly"),
        (SendRecv, "recvonly", "recvonly"),
        (SendRecv, "", ""),
    ] {
        let before = talk(REAL, "", answered);
        for rules in [&forced, &inhibited] {
            assert_eq!(answer(rules, offered, &before), shown(OURS, "", becomes), "{offered:?} {answered}");
        }
        assert_eq!(answer(&Rules::default(), offered, &before), shown(OURS, "", answered), "as it came");
    }
}

#[test]
fn an_answer_with_zero() {
    for (offered, answered, becomes) in [
        (SendRecv, "", "sendonly"),
        (SendRecv, "recvonly", "inactive"),
        (SendOnly, "", "inactive"),
        (SendOnly, "recvonly", "inactive"),
    ] {
        let before = talk("IP4 0.0.0.0", "", answered);
        assert_eq!(
            answer(&Rules::default(), offered, &before),
            shown(OURS, "", becomes),
            "{offered:?} {answered}"
        );
        let kept = Rules { hold_rfc2543: true, ..Rules::default() };
        assert_eq!(answer(&kept, offered, &before), shown("IP4 0.0.0.0", "", answered));
    }
}

#[test]
fn each_line_holds_for_itself() {
    let before = "v=0\no=- 1 1 IN IP4 192.168.1.7\ns=-\nc=IN IP4 192.168.1.7\nt=0 0\nm=audio 4000 RTP/AVP 0\n\
        c=IN IP4 0.0.0.0\nm=video 4002 RTP/AVP 34\na=recvonly\nm=audio 0 RTP/AVP 0\na=sendonly\n";
    let after = "v=0\no=- 1 1 IN IP4 203.0.113.9\ns=-\nc=IN IP4 203.0.113.9\nt=0 0\nm=audio 20000 RTP/AVP 0\n\
        c=IN IP4 203.0.113.9\na=inactive\nm=video 20000 RTP/AVP 34\na=recvonly\nm=audio 0 RTP/AVP 0\na=sendonly\n";
    assert_eq!(offer(&Rules { hold_inactive: true, ..Rules::default() }, before), after);
}
