use std::net::IpAddr;

use super::{Finding, HostKind, Key, Problem, Surroundings, parse};
use crate::authority::Host;
use crate::policy::{Networks, Policy, Rule};

const SEED: &str = "mivoice config server: 10.0.1.10\n\
    tunnel port: 6587          # HTTP CONNECT tunnel\n\
    backup outbound proxy:\n";

fn ip(text: &str) -> Host {
    Host::Ip(text.parse().expect("an address"))
}

fn name(text: &str) -> Host {
    Host::Name(text.to_owned())
}

/// Findings as `line problem`.
fn findings(text: &str) -> Vec<String> {
    parse(text.as_bytes()).1.iter().map(Finding::to_string).collect()
}

#[test]
fn the_file_of_the_guide() {
    let (file, findings) = parse(SEED.as_bytes());
    assert_eq!(findings, []);
    assert_eq!(
        (file.servers, file.tunnel_port, file.backup_proxy),
        (vec![ip("10.0.1.10")], Some(6587), None)
    );
}

#[test]
fn liberties_of_the_grammar() {
    let text = "\u{feff}# a comment\r\n\r\n  MiVoice   Config\tSERVER : hq.Example.internal. , hq2.example.internal#x\r\n\
        Tunnel Port:444\r\nBACKUP OUTBOUND PROXY: [2001:db8::1]:5061 # later";
    let (file, findings) = parse(text.as_bytes());
    assert_eq!(findings, []);
    assert_eq!(file.servers, [name("hq.example.internal"), name("hq2.example.internal")]);
    assert_eq!((file.tunnel_port, file.backup_proxy), (Some(444), Some((ip("2001:db8::1"), Some(5061)))));
    for (proxy, wanted) in [
        ("proxy.example:5061", Some((name("proxy.example"), Some(5061)))),
        ("proxy.example", Some((name("proxy.example"), None))),
        ("10.0.1.2:5061", Some((ip("10.0.1.2"), Some(5061)))),
        ("2001:db8::1", Some((ip("2001:db8::1"), None))),
        ("[2001:db8::1]", Some((ip("2001:db8::1"), None))),
    ] {
        let text = SEED.replace("proxy:", &format!("proxy: {proxy}"));
        let (file, findings) = parse(text.as_bytes());
        assert_eq!((file.backup_proxy, findings), (wanted, vec![]), "{proxy}");
    }
}

#[test]
fn what_is_wrong_has_its_line() {
    for (from, to, wanted) in [
        (
            "10.0.1.10",
            "10.0.1.10, hq.example",
            "line 1: addresses and domain names are mixed; phones fail on such a file",
        ),
        ("10.0.1.10", "", "line 1: expected at least one configuration server"),
        ("10.0.1.10", "10.0.1", "line 1: \"10.0.1\" is neither an address nor a domain name"),
        ("10.0.1.10", "10.0.1.10,", "line 1: \"\" is neither an address nor a domain name"),
        ("10.0.1.10", "10.0.1.10:80", "line 1: \"10.0.1.10:80\" is neither an address nor a domain name"),
        ("6587", "0", "line 2: \"0\" is not a port from 1 to 65535"),
        ("6587", "65536", "line 2: \"65536\" is not a port from 1 to 65535"),
        ("6587", "", "line 2: \"\" is not a port from 1 to 65535"),
        ("6587", "six", "line 2: \"six\" is not a port from 1 to 65535"),
        ("proxy:", "proxy: a b", "line 3: \"a b\" is neither an address nor a domain name"),
        ("proxy:", "proxy: a:b", "line 3: \"b\" is not a port from 1 to 65535"),
        ("proxy:", "proxy:\ntunnel port: 444", "line 4: \"tunnel port\" stands here a second time"),
        ("proxy:", "proxy:\nlanguage: sv", "line 4: unknown key \"language\""),
        ("proxy:", "proxy:\nhello", "line 4: expected \"key: value\""),
        ("proxy:", "proxy:\n\u{7}", "line 4: not plain text"),
        ("tunnel port: 6587 ", "#", "\"tunnel port:\" is missing"),
        ("backup outbound proxy:", "", "\"backup outbound proxy:\" is missing"),
    ] {
        assert_eq!(findings(&SEED.replacen(from, to, 1)), [wanted], "{from:?} to {to:?}");
    }
    assert_eq!(findings("").len(), 3);
    assert_eq!(parse(b"\xff").1, [Finding { line: 0, problem: Problem::NotText }]);
    let warnings: Vec<_> = parse(b"x: y").1.iter().map(|finding| finding.problem.is_warning()).collect();
    assert_eq!(warnings, [true, false, false, false]);
    assert_eq!(Key::ConfigServer.to_string(), "mivoice config server");
}

#[test]
fn what_the_rest_of_the_configuration_says() {
    let rule = Rule { allow_to: Networks::parse(["10.0.1.0/24"]).expect("networks"), ..Rule::default() };
    let policy = Policy { rules: vec![rule], ..Policy::default() };
    let answer =
        |address: &str| vec![("hq.example".to_owned(), vec![address.parse::<IpAddr>().expect("an address")])];
    let (inside, outside) = (answer("10.0.1.10"), answer("10.0.2.10"));
    let check = |text: &str, around: &Surroundings<'_>| -> Vec<String> {
        parse(text.as_bytes()).0.check(around).iter().map(Finding::to_string).collect()
    };
    let around =
        Surroundings { tunnel_ports: &[6587], tunnel: Some((&policy, 443)), ..Surroundings::default() };
    assert_eq!(check(SEED, &around), [""; 0]);
    assert_eq!(
        check(SEED, &Surroundings { tunnel_ports: &[6586], ..around.clone() }),
        ["line 2: no https endpoint with a tunnel listens on port 6587"]
    );
    assert_eq!(
        check(SEED, &Surroundings { hq_certificate: Some(HostKind::Name), ..around.clone() }),
        ["line 1: the HQ server's certificate is for a domain name, the configuration server is an address"]
    );
    assert_eq!(
        check(SEED, &Surroundings { server_group: &[name("hq.example")], ..around.clone() }),
        [
            "line 1: the server group names the HQ server by a domain name, the configuration server is an address"
        ]
    );
    assert_eq!(
        check(&SEED.replace("10.0.1.10", "10.0.2.10"), &around),
        ["line 1: 10.0.2.10 is not in the networks that the tunnel may reach"]
    );
    let named = SEED.replace("10.0.1.10", "hq.example");
    assert_eq!(check(&named, &Surroundings { resolved: &inside, ..around.clone() }), [""; 0]);
    assert_eq!(
        check(&named, &Surroundings { resolved: &outside, ..around.clone() }),
        ["line 1: hq.example does not resolve to an address that the tunnel may reach"]
    );
    let all = Surroundings { hq_certificate: Some(HostKind::Name), server_group: &[name("hq")], ..around };
    assert_eq!(check(&named, &all), [""; 0]);
}
