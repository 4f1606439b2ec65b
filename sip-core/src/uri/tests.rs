use super::{Host, Scheme, Uri, UriBuilder, UriError};

#[test]
fn a_sips_uri_is_taken_apart() {
    let uri =
        Uri::parse(b"sips:an%40on:pw@[2001:db8::1]:5061;transport=TLS;lr?Replaces=a%3Bb").expect("reads");
    assert_eq!(uri.scheme(), Scheme::Sips);
    assert_eq!((uri.user(), uri.password()), (Some(&b"an%40on"[..]), Some(&b"pw"[..])));
    assert_eq!(uri.host(), Some(Host::V6("2001:db8::1".parse().expect("is an address"))));
    assert_eq!((uri.port(), uri.param("Transport"), uri.is_loose()), (Some(5061), Some(&b"TLS"[..]), true));
    assert_eq!(uri.headers(), Some(&b"Replaces=a%3Bb"[..]));
}

#[test]
fn the_user_part_may_hold_delimiters() {
    let uri = Uri::parse(b"sip:user;par=u%40example.net?x@example.com").expect("reads");
    assert_eq!(uri.user(), Some(&b"user;par=u%40example.net?x"[..]));
    assert_eq!(uri.host(), Some(Host::Name("example.com")));
}

#[test]
fn a_colon_is_of_the_part_it_stands_in() {
    let uri = Uri::parse(b"sip:a;b:c?d@h;x=1:2?y=3:4").expect("reads");
    assert_eq!((uri.user(), uri.password()), (Some(&b"a;b"[..]), Some(&b"c?d"[..])));
    assert_eq!((uri.host(), uri.port()), (Some(Host::Name("h")), None));
    assert_eq!((uri.param("x"), uri.headers()), (Some(&b"1:2"[..]), Some(&b"y=3:4"[..])));
    let uri = Uri::parse(b"sip:h:5070?to=sip:a").expect("reads");
    assert_eq!((uri.user(), uri.port(), uri.headers()), (None, Some(5070), Some(&b"to=sip:a"[..])));
    assert_eq!(Uri::parse(b"sip:h;lr;?x"), Err(UriError::Parameter));
    assert_eq!(Uri::parse(b"sip:h;=x"), Err(UriError::Parameter));
    assert_eq!(Uri::parse(b"sip:a@h;x=\""), Err(UriError::Byte { offset: 10 }));
}

#[test]
fn other_schemes_stay_opaque() {
    let uri = Uri::parse(b"tel:+1-555;phone-context=x").expect("reads");
    assert_eq!((uri.scheme(), uri.opaque(), uri.host()), (Scheme::Tel, &b"+1-555;phone-context=x"[..], None));
    assert_eq!(Uri::parse(b"soap.beep://a").expect("reads").scheme(), Scheme::Other(b"soap.beep"));
}

#[test]
fn malformed_uris_say_why() {
    let cases: [(&[u8], UriError); 15] = [
        (b"", UriError::Empty),
        (b"<sip:a>", UriError::Byte { offset: 0 }),
        (b"sip:a b", UriError::Byte { offset: 5 }),
        (b"example.com", UriError::Scheme),
        (b"sip:", UriError::Host),
        (b"sip:@a", UriError::User),
        (b"sip:a@b@c", UriError::User),
        (b"sip:a@b;x=c@d", UriError::User),
        (b"sip:a:", UriError::Port),
        (b"sip:a:65536", UriError::Port),
        (b"sip:2001:db8::10", UriError::Port),
        (b"sip:[2001:db8::10", UriError::Host),
        (b"sip:1.2.3", UriError::Host),
        (b"sip:a/b", UriError::Host),
        (b"sip:a;;lr", UriError::Parameter),
    ];
    for (text, error) in cases {
        assert_eq!(Uri::parse(text), Err(error), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn the_builder_escapes_users() {
    let uri = UriBuilder::sip(Host::Name("h")).param("lr", b"").port(5060).param("ft", b"x1").user(b"a b@c<");
    assert_eq!(uri.as_bytes(), b"sip:a%20b%40c%3C@h:5060;lr;ft=x1");
    assert!(Uri::parse(uri.as_bytes()).is_ok());
}

#[test]
fn an_address_is_what_the_standard_library_takes_for_one() {
    let numbers = [
        "0", "00", "1", "01", "9", "10", "99", "100", "199", "255", "256", "999", "1000", "65536", "", "a",
        "-1",
    ];
    for one in numbers {
        for other in numbers {
            let shapes = [
                format!("{one}.{other}.2.3"),
                format!("1.{one}.{other}.3"),
                format!("1.2.{one}.{other}"),
                format!("{one}.{other}"),
                format!("1.{one}.3.4.{other}"),
                format!("{one}.2.3.{other}."),
            ];
            for text in shapes {
                let wanted = text.parse().ok().map(std::net::IpAddr::V4);
                assert_eq!(Host::parse(text.as_bytes()).and_then(|host| host.ip()), wanted, "{text}");
            }
        }
    }
}
