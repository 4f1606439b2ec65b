use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{AuthorityError, Host, Target};

fn ip(text: &str) -> Host {
    Host::Ip(text.parse().expect("an address"))
}

fn name(text: &str) -> Host {
    Host::Name(text.to_owned())
}

#[test]
fn what_is_a_target() {
    for (text, host, port) in [
        ("10.0.1.50:5448", ip("10.0.1.50"), 5448),
        ("0.0.0.0:1", ip("0.0.0.0"), 1),
        ("255.255.255.255:65535", ip("255.255.255.255"), 65535),
        ("127.0.0.1:80", ip("127.0.0.1"), 80),
        ("[::1]:443", ip("::1"), 443),
        ("[::]:443", ip("::"), 443),
        ("[2001:DB8::A]:443", ip("2001:db8::a"), 443),
        ("[2001:db8:0:0:0:0:0:a]:443", ip("2001:db8::a"), 443),
        ("[::ffff:10.0.0.1]:80", ip("10.0.0.1"), 80),
        ("[::ffff:a00:1]:80", ip("10.0.0.1"), 80),
        ("[0:0:0:0:0:FFFF:127.0.0.1]:80", ip("127.0.0.1"), 80),
        ("[::10.0.0.1]:80", ip("::10.0.0.1"), 80),
        ("[64:ff9b::10.0.0.1]:80", ip("64:ff9b::a00:1"), 80),
        ("cas.example.internal:5448", name("cas.example.internal"), 5448),
        ("CAS.Example.INTERNAL:5448", name("cas.example.internal"), 5448),
        ("cas.example.internal.:5448", name("cas.example.internal"), 5448),
        ("hq:443", name("hq"), 443),
        ("a:1", name("a"), 1),
        ("1a.2b:1", name("1a.2b"), 1),
        ("10.0.0.1.example:1", name("10.0.0.1.example"), 1),
        ("xn--bcher-kva.example:1", name("xn--bcher-kva.example"), 1),
        ("a-b.c--d:1", name("a-b.c--d"), 1),
        ("0x.example:1", name("0x.example"), 1),
        ("0xyz:1", name("0xyz"), 1),
    ] {
        assert_eq!(Target::parse(text.as_bytes()), Ok(Target { host, port }), "{text}");
    }
}

#[test]
fn what_is_none() {
    use AuthorityError::{Bracket, Host, NoPort, Port, TooLong};
    let long_label = format!("{}.example:80", "a".repeat(64));
    let long_name = format!("{}a:80", "a.".repeat(127));
    let endless = format!("{}:80", "a".repeat(1000));
    for (text, error) in [
        // No port, or none that is one.
        ("", NoPort),
        ("10.0.0.1", NoPort),
        ("hq", NoPort),
        ("[::1]", NoPort),
        ("::1]", NoPort),
        ("10.0.0.1:", Port),
        ("10.0.0.1:0", Port),
        ("10.0.0.1:00", Port),
        ("10.0.0.1:080", Port),
        ("10.0.0.1:65536", Port),
        ("10.0.0.1:74537", Port),
        ("10.0.0.1:99999999999", Port),
        ("10.0.0.1:+80", Port),
        ("10.0.0.1:-80", Port),
        ("10.0.0.1: 80", Port),
        ("10.0.0.1:80 ", Port),
        ("10.0.0.1:8_0", Port),
        ("10.0.0.1:0x50", Port),
        ("10.0.0.1:http", Port),
        ("10.0.0.1:80/", Port),
        ("10.0.0.1:80/x", Port),
        ("10.0.0.1:80?x", Port),
        ("10.0.0.1:80#x", Port),
        ("10.0.0.1:80,81", Port),
        ("10.0.0.1:\u{0668}\u{0660}", Port),
        ("10.0.0.1:80\0", Port),
        ("10.0.0.1:80\r\n", Port),
        // Not four plain decimal parts.
        ("127.1:80", Host),
        ("127.0.1:80", Host),
        ("2130706433:80", Host),
        ("0x7f000001:80", Host),
        ("0X7F000001:80", Host),
        ("017700000001:80", Host),
        ("0x7f.0.0.1:80", Host),
        ("0x7f.1:80", Host),
        ("127.0.0.0x1:80", Host),
        ("127.0.0x:80", Host),
        ("0177.0.0.1:80", Host),
        ("127.0.0.01:80", Host),
        ("127.000.000.001:80", Host),
        ("127.0.0.1.:80", Host),
        ("127.0.0.1.1:80", Host),
        ("127.0.0.256:80", Host),
        ("127.0.0.-1:80", Host),
        ("127.0.0:80", Host),
        ("1:80", Host),
        ("a.1:80", Host),
        ("a.0x7f:80", Host),
        // Brackets.
        ("[10.0.0.1]:80", Bracket),
        ("[localhost]:80", Bracket),
        ("[]:80", Bracket),
        ("[::1:80", Bracket),
        ("[fe80::1%eth0]:80", Bracket),
        ("[fe80::1%25eth0]:80", Bracket),
        ("[[::1]]:80", Bracket),
        ("[::1]x:80", Bracket),
        ("[v1.a]:80", Bracket),
        ("[ ::1]:80", Bracket),
        ("[::1::]:80", Bracket),
        ("[::1.2.3]:80", Bracket),
        ("[::01.2.3.4]:80", Bracket),
        ("[12345::]:80", Bracket),
        ("::1:80", Host),
        ("2001:db8::1:80", Host),
        ("x[::1]:80", Host),
        ("::1]:80", Host),
        // Neither user information, nor other parts of a URI, nor other characters.
        ("user@10.0.0.1:80", Host),
        ("user:pass@10.0.0.1:80", Host),
        ("10.0.0.1:80@10.0.0.2:80", Host),
        ("http://10.0.0.1:80", Host),
        ("//10.0.0.1:80", Host),
        ("10.0.0.1/x:80", Host),
        ("a?b:80", Host),
        ("10.0.0.1:80:80", Host),
        (" 10.0.0.1:80", Host),
        ("10.0.0.1 :80", Host),
        ("a b:80", Host),
        ("127.0.0.1%2f:80", Host),
        ("%31%30.0.0.1:80", Host),
        ("a\tb:80", Host),
        ("a\0b:80", Host),
        ("a\r\nb:80", Host),
        ("a_b:80", Host),
        ("*:80", Host),
        ("*.example:80", Host),
        ("-a:80", Host),
        ("a-:80", Host),
        ("a..b:80", Host),
        (".a:80", Host),
        (".:80", Host),
        (":80", Host),
        ("a..:80", Host),
        ("b\u{fc}cher:80", Host),
        ("\u{ff11}27.0.0.1:80", Host),
        ("127\u{3002}0.0.1:80", Host),
        ("a;b:80", Host),
        ("a,b:80", Host),
        ("a\\b:80", Host),
        (&long_label, Host),
        (&long_name, Host),
        (&endless, TooLong),
    ] {
        assert_eq!(Target::parse(text.as_bytes()), Err(error), "{text:?}");
    }
    assert_eq!(Target::parse(b"\xff:80"), Err(Host));
}

#[test]
fn ipv6_in_files_needs_no_brackets() {
    assert_eq!(Host::parse_plain("2001:db8::1"), Ok(ip("2001:db8::1")));
    assert_eq!(Host::parse_plain("::ffff:10.0.0.1"), Ok(ip("10.0.0.1")));
    assert_eq!(Host::parse_plain("[2001:db8::1]"), Ok(ip("2001:db8::1")));
    assert!(Host::parse_plain("2001:db8::g").is_err());
}

proptest! {
    /// What is written is read again as the same, for every address.
    #[test]
    fn written_targets_are_read_back(v4: u32, v6: u128, port in 1_u16.., six: bool) {
        let address = if six { IpAddr::V6(Ipv6Addr::from(v6)) } else { IpAddr::V4(Ipv4Addr::from(v4)) };
        let target = Target { host: Host::Ip(address.to_canonical()), port };
        prop_assert_eq!(Target::parse(target.to_string().as_bytes()), Ok(target));
    }

    /// Whatever is accepted is canonical: reading it again changes nothing.
    #[test]
    fn accepted_is_canonical(text in "[\\[\\]0-9a-fxA-F:.@%/ -]{0,24}") {
        if let Ok(target) = Target::parse(text.as_bytes()) {
            prop_assert_eq!(Target::parse(target.to_string().as_bytes()), Ok(target));
        }
    }

    /// A name is never one that the standard library would read as an address.
    #[test]
    fn a_name_is_no_address(text in "[0-9a-fx.]{1,16}") {
        if let Ok(Host::Name(name)) = Host::parse_uri(&text) {
            let last = name.rsplit('.').next().unwrap_or_default();
            prop_assert!(name.parse::<IpAddr>().is_err() && last.parse::<u64>().is_err(), "{}", name);
        }
    }
}
