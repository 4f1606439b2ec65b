use std::net::{IpAddr, SocketAddr};

use super::{Decision, Forbidden, NetworkError, Networks, Policy, Ports, Refusal, Rule};
use crate::authority::Target;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn rule(networks: &[&str], ports: &[&str]) -> Rule {
    Rule {
        allow_to: Networks::parse(networks).expect("networks"),
        ports: Ports::parse(ports).expect("ports"),
    }
}

/// Allows everything that a row can allow.
fn open() -> Policy {
    Policy { rules: vec![rule(&["0.0.0.0/0", "::/0"], &[])], ..Policy::default() }
}

#[test]
fn networks_are_addresses_prefixes_and_ranges() {
    let networks =
        Networks::parse(["10.0.1.10", "10.0.1.50-10.0.1.51", "192.168.7.9/24", "2001:db8::/64"]).expect("ok");
    for (address, inside) in [
        ("10.0.1.10", true),
        ("10.0.1.9", false),
        ("10.0.1.11", false),
        ("10.0.1.49", false),
        ("10.0.1.50", true),
        ("10.0.1.51", true),
        ("10.0.1.52", false),
        ("192.168.7.0", true),
        ("192.168.7.255", true),
        ("192.168.8.0", false),
        ("2001:db8::", true),
        ("2001:db8::ffff:ffff:ffff:ffff", true),
        ("2001:db8:0:1::", false),
        ("::ffff:10.0.1.10", true),
        ("::10.0.1.10", false),
    ] {
        assert_eq!(networks.contains(ip(address)), inside, "{address}");
    }
    assert!(Networks::default().is_empty() && !Networks::default().contains(ip("10.0.0.1")));
}

/// A range of one family says nothing about the other.
#[test]
fn families_stay_apart() {
    let v4 = Networks::parse(["0.0.0.0/0"]).expect("ok");
    let v6 = Networks::parse(["::/0"]).expect("ok");
    assert!(v4.contains(ip("255.255.255.255")) && !v4.contains(ip("::1")) && !v4.contains(ip("2001:db8::1")));
    assert!(
        v6.contains(ip("2001:db8::1")) && !v6.contains(ip("10.0.0.1")) && !v6.contains(ip("::ffff:10.0.0.1"))
    );
}

#[test]
fn bad_networks_and_ports_are_refused() {
    use NetworkError::{Mapped, Order, Syntax};
    for (text, error) in [
        ("", Syntax),
        ("10.0.0", Syntax),
        ("10.0.0.0/33", Syntax),
        ("10.0.0.0/", Syntax),
        ("hq", Syntax),
        ("10.0.0.1-", Syntax),
        ("10.0.0.1-10.0.0.2-10.0.0.3", Syntax),
        ("010.0.0.1", Syntax),
        ("10.0.0.2-10.0.0.1", Order),
        ("10.0.0.1-::1", Order),
        ("::1-10.0.0.1", Order),
        ("::ffff:10.0.0.0/104", Mapped),
        ("::ffff:10.0.0.1", Mapped),
    ] {
        assert_eq!(Networks::parse([text]), Err(error), "{text:?}");
    }
    for text in ["", "0", "65536", "-1", "1-", "-", "2-1", "http", "080", "1 2"] {
        assert!(Ports::parse([text]).is_err(), "{text:?}");
    }
    let ports = Ports::parse(["443", "5060-5061"]).expect("ports");
    let allowed: Vec<u16> =
        [1, 443, 444, 5059, 5060, 5061, 5062].into_iter().filter(|p| ports.contains(*p)).collect();
    assert_eq!(allowed, [443, 5060, 5061]);
    assert!(Ports::default().contains(1) && Ports::default().contains(65535));
}

#[test]
fn what_reaches_public_space() {
    for (networks, public) in [
        (
            &[
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "100.64.0.0/10",
                "fc00::/7",
                "127.0.0.0/8",
                "::1",
            ][..],
            false,
        ),
        (&["0.0.0.0/0"], true),
        (&["::/0"], true),
        (&["9.255.255.255-10.0.0.1"], true),
        (&["172.16.0.0/11"], true),
        (&["10.0.0.0/8", "203.0.113.1"], true),
        (&["2001:db8::/32"], true),
        (&[], false),
    ] {
        assert_eq!(Networks::parse(networks).expect("ok").reaches_public(), public, "{networks:?}");
    }
}

/// Never a target, even where a row allows everything.
#[test]
fn forbidden_addresses() {
    use Forbidden::{Embedded, LinkLocal, Loopback, Metadata, Multicast, Reserved, Unspecified};
    for (address, class) in [
        ("127.0.0.1", Loopback),
        ("127.255.255.255", Loopback),
        ("::1", Loopback),
        ("::ffff:127.0.0.1", Loopback),
        ("0.0.0.0", Unspecified),
        ("0.255.255.255", Unspecified),
        ("::", Unspecified),
        ("::ffff:0.0.0.0", Unspecified),
        ("169.254.0.0", LinkLocal),
        ("169.254.169.254", LinkLocal),
        ("::ffff:169.254.169.254", LinkLocal),
        ("fe80::1", LinkLocal),
        ("febf:ffff::1", LinkLocal),
        ("224.0.0.1", Multicast),
        ("239.255.255.255", Multicast),
        ("ff02::1", Multicast),
        ("ffff::", Multicast),
        ("240.0.0.0", Reserved),
        ("255.255.255.255", Reserved),
        ("::ffff:255.255.255.255", Reserved),
        ("168.63.129.16", Metadata),
        ("100.100.100.200", Metadata),
        ("192.0.0.192", Metadata),
        ("fd00:ec2::254", Metadata),
        ("fd20:ce::254", Metadata),
        ("::10.0.0.1", Embedded),
        ("::127.0.0.1", Embedded),
        ("::2", Embedded),
        ("::ffff:0:10.0.0.1", Embedded),
        ("64:ff9b::10.0.0.1", Embedded),
        ("64:ff9b::127.0.0.1", Embedded),
        ("64:ff9b:1::10.0.0.1", Embedded),
        ("64:ff9b:1:ffff::1", Embedded),
        ("2002:7f00:1::", Embedded),
        ("2002:a00:1::1", Embedded),
        ("2001::1", Embedded),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Embedded),
    ] {
        assert_eq!(open().check(ip(address), 80), Err(Refusal::Forbidden(class)), "{address}");
        // An exact row does not help either.
        let exact = ip(address).to_canonical().to_string();
        let exact = Policy { rules: vec![rule(&[&exact], &[])], ..Policy::default() };
        assert_eq!(exact.check(ip(address), 80), Err(Refusal::Forbidden(class)), "{address}");
    }
    for address in [
        "1.0.0.0",
        "10.0.0.1",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "223.255.255.255",
        "192.0.0.191",
        "100.64.0.1",
        "2001:1::1",
        "2001:db8::1",
        "2003::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::253",
        "64:ff9b:2::1",
        "64:ff9a::1",
        "1::",
        "::1:0:0:0:1",
    ] {
        assert_eq!(open().check(ip(address), 80), Ok(SocketAddr::new(ip(address), 80)), "{address}");
    }
}

#[test]
fn own_addresses_and_listeners() {
    let own = |text: &str| text.parse::<SocketAddr>().expect("a socket");
    let policy = |lab| Policy {
        own_addresses: vec![ip("203.0.113.10"), ip("::ffff:10.0.1.3")],
        own_listeners: vec![
            own("10.0.1.2:5061"),
            own("[2001:db8::2]:5061"),
            own("0.0.0.0:6587"),
            own("[::]:6586"),
        ],
        lab,
        ..open()
    };
    use Forbidden::{Loopback, OwnAddress, OwnListener};
    for (address, port, strict, lab) in [
        ("203.0.113.10", 22, Some(OwnAddress), None),
        ("10.0.1.3", 22, Some(OwnAddress), None),
        ("10.0.1.2", 22, Some(OwnAddress), None),
        ("10.0.1.2", 5061, Some(OwnListener), Some(OwnListener)),
        ("::ffff:10.0.1.2", 5061, Some(OwnListener), Some(OwnListener)),
        ("2001:db8::2", 5061, Some(OwnListener), Some(OwnListener)),
        ("2001:db8::2", 80, Some(OwnAddress), None),
        // A wildcard listener hears on every own address and on loopback.
        ("203.0.113.10", 6587, Some(OwnListener), Some(OwnListener)),
        ("203.0.113.10", 6586, Some(OwnListener), Some(OwnListener)),
        ("127.0.0.1", 6587, Some(OwnListener), Some(OwnListener)),
        ("127.9.9.9", 6586, Some(OwnListener), Some(OwnListener)),
        ("::1", 6586, Some(OwnListener), Some(OwnListener)),
        ("127.0.0.1", 80, Some(Loopback), None),
        ("10.0.1.50", 6587, None, None),
        ("169.254.1.1", 80, Some(Forbidden::LinkLocal), Some(Forbidden::LinkLocal)),
        ("0.0.0.0", 80, Some(Forbidden::Unspecified), Some(Forbidden::Unspecified)),
        ("0.0.0.0", 6587, Some(OwnListener), Some(OwnListener)),
    ] {
        for (policy, wanted) in [(policy(false), strict), (policy(true), lab)] {
            let found = match policy.check(ip(address), port) {
                Err(Refusal::Forbidden(class)) => Some(class),
                Ok(_) => None,
                other => panic!("{address}:{port} gives {other:?}"),
            };
            assert_eq!(found, wanted, "{address}:{port} lab {}", policy.lab);
        }
    }
}

#[test]
fn rows_pair_networks_with_ports() {
    let policy = Policy {
        rules: vec![
            rule(&["10.0.1.0/24"], &["443"]),
            rule(&["10.0.1.50"], &["5061"]),
            rule(&["10.0.2.0/24"], &[]),
        ],
        ..Policy::default()
    };
    for (target, wanted) in [
        ("10.0.1.50:443", Ok(())),
        ("10.0.1.50:5061", Ok(())),
        ("10.0.1.51:443", Ok(())),
        ("10.0.1.51:5061", Err(Refusal::Port)),
        ("10.0.1.50:80", Err(Refusal::Port)),
        ("10.0.2.1:1", Ok(())),
        ("10.0.3.1:443", Err(Refusal::Network)),
        ("[::ffff:10.0.1.50]:443", Ok(())),
        ("[2001:db8::1]:443", Err(Refusal::Network)),
    ] {
        let target = Target::parse(target.as_bytes()).expect("a target");
        let found = match policy.decide(&target) {
            Decision::Dial(address) => {
                assert_eq!(address.port(), target.port);
                Ok(())
            }
            Decision::Refuse(refusal) => Err(refusal),
            Decision::Resolve(name) => panic!("{name} is no name"),
        };
        assert_eq!(found, wanted, "{target}");
    }
    let nothing = Policy::default();
    assert_eq!(nothing.check(ip("10.0.0.1"), 80), Err(Refusal::Network));
}

#[test]
fn a_name_is_resolved_only_where_its_port_is_allowed() {
    let policy = Policy { rules: vec![rule(&["10.0.1.0/24"], &["443"])], ..Policy::default() };
    let name = |port: u16| Target::parse(format!("HQ.example:{port}").as_bytes()).expect("a target");
    assert_eq!(policy.decide(&name(443)), Decision::Resolve("hq.example"));
    assert_eq!(policy.decide(&name(80)), Decision::Refuse(Refusal::Port));
}

/// What a lying resolver may say, and what of it is dialled.
#[test]
fn only_permitted_answers_are_left() {
    let policy = Policy {
        rules: vec![rule(&["10.0.0.0/8"], &["443"])],
        own_addresses: vec![ip("10.0.1.2")],
        ..Policy::default()
    };
    let loopback = Err(Refusal::Forbidden(Forbidden::Loopback));
    for (answers, wanted) in [
        (&["10.0.1.50"][..], Ok(&["10.0.1.50"][..])),
        (&["127.0.0.1", "10.0.1.50"], Ok(&["10.0.1.50"])),
        (&["10.0.1.50", "169.254.169.254", "10.0.1.51"], Ok(&["10.0.1.50", "10.0.1.51"])),
        (&["10.0.1.50", "::ffff:10.0.1.50", "10.0.1.50"], Ok(&["10.0.1.50"])),
        (&["::ffff:10.0.1.50"], Ok(&["10.0.1.50"])),
        (&["127.0.0.1", "8.8.8.8"], loopback),
        (&["8.8.8.8", "127.0.0.1"], Err(Refusal::Network)),
        (&["64:ff9b::10.0.1.50", "::10.0.1.50"], Err(Refusal::Forbidden(Forbidden::Embedded))),
        (&["10.0.1.2"], Err(Refusal::Forbidden(Forbidden::OwnAddress))),
        (&[], Err(Refusal::Network)),
    ] {
        let answers: Vec<IpAddr> = answers.iter().map(|text| ip(text)).collect();
        let wanted =
            wanted.map(|list| list.iter().map(|text| SocketAddr::new(ip(text), 443)).collect::<Vec<_>>());
        assert_eq!(policy.permitted(&answers, 443), wanted, "{answers:?}");
    }
    assert_eq!(policy.permitted(&[ip("10.0.1.50")], 80), Err(Refusal::Port));
}
