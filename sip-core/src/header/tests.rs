use super::{
    Address, Allow, CSeq, CallId, Contact, ContentType, Date, Expires, Fault, From, Header, HeaderError,
    MaxForwards, Supported, To, Via, unquote,
};
use crate::message::{Limits, Message, Method};
use crate::uri::{Host, UriError};

fn contact(value: &str) -> Result<Address<'_>, Fault> {
    Contact::parse(value.as_bytes()).map_err(|error| error.fault)
}

#[test]
fn the_products_own_contact_reads() {
    let text = "<sips:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF>\";expires=3600";
    let address = contact(text).expect("reads");
    assert_eq!(address.uri_bytes(), b"sips:anonymous@192.168.1.7");
    let instance = address.param("+sip.instance").expect("is there");
    assert_eq!(unquote(instance).as_ref(), b"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF>");
    assert_eq!(
        (address.expires(), address.is_bracketed(), address.raw()),
        (Some(3600), true, text.as_bytes())
    );
    // The same without the quotes that print loses.
    let bare = contact("<sips:a@b>;+sip.instance=<urn:uuid:1>;q=0.5").expect("reads");
    assert_eq!((bare.param("+sip.instance"), bare.q()), (Some(&b"<urn:uuid:1>"[..]), Some(500)));
}

#[test]
fn addresses_read_in_all_their_forms() {
    let cases = [
        ("sip:a@b;tag=1", "", "sip:a@b", false),
        ("sip:a@b ; tag = 1", "", "sip:a@b", false),
        ("<sip:a@b;x?y=z>;tag=1", "", "sip:a@b;x?y=z", true),
        ("Ada (x) a@b <sip:a@b>;tag=1", "Ada (x) a@b", "sip:a@b", true),
        ("Ada<sip:a@b>;tag=1", "Ada", "sip:a@b", true),
        ("Ada  L.\t<sip:a@b> ;tag=1", "Ada  L.", "sip:a@b", true),
        ("\"<\\\"sip:x>\" <sip:a@b>;tag=1", "\"<\\\"sip:x>\"", "sip:a@b", true),
        ("sip:a@b;note=\"<sip:c>;tag=2\";tag=1", "", "sip:a@b", false),
        ("\u{e4}\u{f6} <tel:+1>;tag=1", "\u{e4}\u{f6}", "tel:+1", true),
    ];
    for (text, display, uri, bracketed) in cases {
        let address = contact(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert_eq!((address.display(), address.uri_bytes()), (display.as_bytes(), uri.as_bytes()), "{text}");
        assert_eq!((address.tag(), address.is_bracketed()), (Some(&b"1"[..]), bracketed), "{text}");
    }
    assert!(contact("*").expect("reads").is_star());
    assert!(contact("*;x=1").expect("reads").is_star());
}

#[test]
fn malformed_addresses_say_why() {
    let cases = [
        ("", Fault::Empty),
        ("a", Fault::Uri(UriError::Scheme)),
        ("<a>", Fault::Uri(UriError::Scheme)),
        ("<>", Fault::Uri(UriError::Empty)),
        ("< sip:a>", Fault::Uri(UriError::Byte { offset: 0 })),
        ("<sip:a >", Fault::Uri(UriError::Byte { offset: 5 })),
        ("<sip:a", Fault::Bracket),
        ("\"x\" sip:a", Fault::Bracket),
        ("\"x <sip:a>", Fault::OpenQuote),
        ("x, y <sip:a>", Fault::DisplayName),
        ("x; y <sip:a>", Fault::DisplayName),
        ("x\"y\" <sip:a>", Fault::DisplayName),
        ("sip:a?b=c", Fault::UriHeaders),
        ("<sip:a>;", Fault::Parameter),
        ("<sip:a>;;b", Fault::Parameter),
        ("<sip:a>;b=", Fault::Parameter),
        ("<sip:a>;b=\"c", Fault::Parameter),
        ("<sip:a> b", Fault::Parameter),
        ("sip:a b", Fault::Parameter),
    ];
    for (text, fault) in cases {
        assert_eq!(contact(text), Err(fault), "{text}");
    }
}

#[test]
fn a_uri_is_exchanged_in_place() {
    let cases = [
        ("\"A\" <sip:a@b>;tag=1", "\"A\" <sips:n>;tag=1"),
        ("\"<\" <sip:a@b> ;tag=1", "\"<\" <sips:n> ;tag=1"),
        ("<sip:a@b>;i=\"<urn:1>\"", "<sips:n>;i=\"<urn:1>\""),
        ("<sip:a@b>", "<sips:n>"),
        ("sip:a@b;i=\"<urn:1>\"", "<sips:n>;i=\"<urn:1>\""),
        ("sip:a@b", "<sips:n>"),
    ];
    for (text, expected) in cases {
        let written = contact(text).expect("reads").with_uri(b"sips:n");
        assert_eq!(String::from_utf8_lossy(&written), expected, "{text}");
    }
}

#[test]
fn vias_read_and_are_stamped() {
    let via = Via::parse(b"SIP / 2.0 /\r\n UDP  [2001:db8::1] : 5070 ; rport;branch= z9hG4bK1 ;alias")
        .expect("reads");
    assert_eq!((via.transport_bytes(), via.port(), via.alias()), (&b"UDP"[..], Some(5070), true));
    assert_eq!(via.host(), Host::V6("2001:db8::1".parse().expect("is an address")));
    assert!(via.has_unique_branch());
    let stamped = via.stamped("[::ffff:192.0.2.1]:4000".parse().expect("is an address"));
    assert!(stamped.ends_with(b";branch=z9hG4bK1;alias;received=192.0.2.1;rport=4000"));
    let again = Via::parse(&stamped).expect("reads");
    assert_eq!((again.rport(), again.received()), (Some(Some(4000)), "192.0.2.1".parse().ok()));
    let plain = Via::parse(b"SIP/2.0/TCP h;received=1.2.3.4;branch=1").expect("reads");
    assert_eq!(
        plain.stamped("192.0.2.1:1".parse().expect("is an address")),
        b"SIP/2.0/TCP h;branch=1;received=192.0.2.1"
    );
    assert!(!plain.has_unique_branch());
    for (text, fault) in [
        ("", Fault::Protocol),
        ("SIP/2.0/UDP", Fault::Protocol),
        ("SIP/2.0 UDP a", Fault::Protocol),
        ("SIP/2.0/ a", Fault::Protocol),
        ("SIP/2.0/UDP ", Fault::Protocol),
        ("SIP/2.0/UDP a:", Fault::SentBy),
        ("SIP/2.0/UDP a:65536", Fault::SentBy),
        ("SIP/2.0/UDP 2001:db8::1", Fault::SentBy),
        ("SIP/2.0/UDP [::1", Fault::SentBy),
        ("SIP/2.0/UDP a b", Fault::Parameter),
        ("SIP/2.0/UDP a;", Fault::Parameter),
    ] {
        assert_eq!(Via::parse(text.as_bytes()).map_err(|error| error.fault), Err(fault), "{text}");
    }
}

#[test]
fn numbers_have_their_ranges() {
    fn fault<T>(result: Result<T, HeaderError>) -> Option<Fault> {
        result.err().map(|error| error.fault)
    }
    let cseq = CSeq::parse(b"0009 INVITE").expect("reads");
    assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
    for bad in ["", "1", "INVITE", "1INVITE", "-1 INVITE", "2147483648 INVITE", "1 INV ITE", "1 "] {
        assert!(CSeq::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(MaxForwards::parse(b"255"), Ok(255));
    assert_eq!(fault(MaxForwards::parse(b"256")), Some(Fault::Number));
    assert_eq!(fault(MaxForwards::parse(b"")), Some(Fault::Number));
    assert_eq!(Expires::parse(b"99999999999"), Ok(u32::MAX));
    assert_eq!(fault(Expires::parse(b"1h")), Some(Fault::Number));
    assert_eq!(fault(CallId::parse(b"a b")), Some(Fault::Token));
    assert_eq!(contact("<sip:a>;expires=x").expect("reads").expires(), Some(3600));
    for (text, q) in [
        ("1", Some(1000)),
        ("0.25", Some(250)),
        ("1.000", Some(1000)),
        ("1.1", None),
        ("2", None),
        ("0.1234", None),
    ] {
        assert_eq!(contact(&format!("<sip:a>;q={text}")).expect("reads").q(), q, "{text}");
    }
}

#[test]
fn media_types_and_dates() {
    let sdp = ContentType::parse(b"Application / SDP ;charset=x").expect("reads");
    assert!(sdp.is("application", "sdp"));
    assert_eq!(sdp.params.value("charset"), Some(&b"x"[..]));
    assert!(ContentType::parse(b"sdp").is_err());
    assert!(Date::parse(b"Fri, 01 Jan 2010 16:00:00 GMT").is_ok());
    assert!(Date::parse(b"Fri, 01 Jan 2010 16:00:00 EST").is_err());
}

#[test]
fn empty_rows_of_some_lists_say_nothing() {
    let text = "BYE sip:b SIP/2.0\r\nSupported:\r\nk: timer , gruu\r\nAllow: \r\nContact:\r\n\r\n";
    let message = Message::parse(text.into(), &Limits::default()).expect("parses");
    let tags: Vec<_> = message.headers::<Supported>().map(|tag| tag.expect("reads")).collect();
    assert_eq!(tags, [&b"timer"[..], b"gruu"]);
    assert_eq!(message.header::<Supported>(), Some(Ok(&b"timer"[..])));
    assert_eq!(message.header::<Allow>(), None);
    assert!(matches!(message.header::<Contact>(), Some(Err(_))));
}

#[test]
fn debug_tells_no_secret() {
    let to = To::parse(b"<sip:user:secret@h;crt=secret>;x=secret").expect("reads");
    let via = Via::parse(b"SIP/2.0/TLS h;branch=secret").expect("reads");
    let text = "REGISTER sip:b SIP/2.0\r\nAuthorization: Digest secret\r\n\r\nsecret";
    let message = Message::parse(text.into(), &Limits::default()).expect("parses");
    let rows: Vec<_> = message.rows().collect();
    let mut edit = message.edit();
    edit.set_header("X", b"secret");
    let printed = format!(
        "{to:?} {via:?} {:?} {message:?} {rows:?} {:?}",
        From::parse(b"<sip:a>"),
        edit.into_patches()
    );
    assert!(!printed.contains("secret") && !printed.contains("115, 101, 99"), "{printed}");
}
