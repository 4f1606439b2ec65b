//! The target of a CONNECT and the answers of a resolver: whatever is dialled is what was asked for, lies inside
//! allow-to, and is no forbidden address; and nothing else is refused.
//!
//! The oracle knows nothing of the crate under test: an address is 128 bits, IPv4 stands at `::ffff:0:0/96`, and
//! every rule is a prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use tunnel::authority::{Host, Target};
use tunnel::policy::{Decision, Networks, Policy, Ports, Rule};

/// Reads the first line of `data` as a target, and what follows as the resolver's answers: a byte, whose lowest
/// bit says IPv6, and 4 or 16 bytes of address each.
pub fn connect_authority(data: &[u8]) {
    let (text, answers) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let target = Target::parse(text);
    if let Some((address, port)) = literal(text) {
        let target = target.as_ref().expect("a plain address and port are a target");
        let read = match target.host {
            Host::Ip(address) => Some(bits(address)),
            Host::Name(_) => None,
        };
        assert_eq!((read, target.port), (Some(address), port), "another address was read");
    }
    let Ok(target) = target else { return };
    assert_eq!(
        Target::parse(target.to_string().as_bytes()),
        Ok(target.clone()),
        "what is written is read back"
    );
    let answers = addresses(answers);
    for case in CASES.iter() {
        match case.policy.decide(&target) {
            Decision::Resolve(name) => {
                plain_name(name);
                let dialled = case.policy.permitted(&answers, target.port).unwrap_or_default();
                judge(case, &answers, target.port, &dialled);
            }
            decision => {
                let Host::Ip(address) = target.host else {
                    assert!(matches!(decision, Decision::Refuse(_)), "a name is never dialled unresolved");
                    assert!(!case.rows.iter().any(|row| row.has_port(target.port)));
                    continue;
                };
                let dialled = match decision {
                    Decision::Dial(address) => vec![address],
                    _ => Vec::new(),
                };
                // The planted bug: an IPv4-compatible address is taken for the IPv4 address it carries.
                #[cfg(feature = "planted")]
                let dialled = match address {
                    IpAddr::V6(six) if six.to_ipv4().is_some() => six
                        .to_ipv4()
                        .and_then(|four| case.policy.check(four.into(), target.port).ok())
                        .into_iter()
                        .collect(),
                    _ => dialled,
                };
                judge(case, &[address], target.port, &dialled);
            }
        }
    }
}

/// Exactly the harmless of `candidates` are dialled, each once.
fn judge(case: &Case, candidates: &[IpAddr], port: u16, dialled: &[SocketAddr]) {
    let mut wanted = Vec::new();
    for candidate in candidates.iter().map(|address| bits(*address)) {
        if case.allows(candidate, port) && !wanted.contains(&candidate) {
            wanted.push(candidate);
        }
    }
    let found: Vec<u128> = dialled.iter().map(|address| bits(address.ip())).collect();
    assert_eq!(found, wanted, "candidates {candidates:?} port {port} lab {}", case.policy.lab);
    assert!(dialled.iter().all(|address| address.port() == port));
    // A socket address of IPv4 inside IPv6 would be dialled over another path than the one that was judged.
    assert!(dialled.iter().all(|address| address.ip().to_canonical() == address.ip()));
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => (0xffff << 32) | u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// An address and port in the plainest spelling, read without the crate's or the library's parser for IPv4.
fn literal(text: &[u8]) -> Option<(u128, u16)> {
    let text = std::str::from_utf8(text).ok()?;
    let colon = text.rfind(':')?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let number = |text: &str, most: u32| {
        let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || (text.len() > 1 && text.starts_with('0')) {
            return None;
        }
        let value = text.bytes().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
        (value <= most).then_some(value)
    };
    let port = number(port, 65_535).filter(|port| *port > 0)?;
    let address = if host.starts_with('[') && host.ends_with(']') {
        bits(host[1..host.len() - 1].parse::<Ipv6Addr>().ok()?.into())
    } else {
        let parts = host.split('.').map(|part| number(part, 255)).collect::<Option<Vec<_>>>()?;
        let value = parts.iter().fold(0_u64, |value, part| value << 8 | u64::from(*part));
        (parts.len() == 4).then_some((0xffff << 32) | u128::from(value))?
    };
    Some((address, u16::try_from(port).ok()?))
}

fn plain_name(name: &str) {
    assert!(name.parse::<IpAddr>().is_err() && name.len() <= 253);
    assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')));
    // What `inet_aton` takes: one to four numbers, the last of which may be any.
    let number = |part: &str| {
        let digits = part.strip_prefix("0x").unwrap_or(part);
        digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && (digits.len() < part.len() || part.parse::<u128>().is_ok())
    };
    assert!(!name.split('.').all(number), "{name} is an address to a lenient resolver");
}

fn addresses(mut bytes: &[u8]) -> Vec<IpAddr> {
    let mut answers = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        if kind & 1 == 0 {
            let Some((four, rest)) = rest.split_first_chunk::<4>() else { break };
            answers.push(Ipv4Addr::from(*four).into());
            bytes = rest;
        } else {
            let Some((six, rest)) = rest.split_first_chunk::<16>() else { break };
            answers.push(Ipv6Addr::from(*six).into());
            bytes = rest;
        }
    }
    answers
}

struct Row {
    networks: Vec<Prefix>,
    ports: &'static [(u16, u16)],
}

impl Row {
    fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }
}

struct Case {
    policy: Policy,
    rows: Vec<Row>,
}

const ALL_PORTS: &[(u16, u16)] = &[(1, 65_535)];

const OWN: [&str; 2] = ["10.0.1.2", "2001:db8:1::2"];
const LISTENERS: [&str; 3] = ["10.0.1.2:5061", "0.0.0.0:6587", "127.0.0.7:443"];

/// What is never a target, as prefixes of 128 bits.
const FORBIDDEN: &[&str] = &[
    "::/128",
    "::/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "2001::/32",
    "fe80::/10",
    "ff00::/8",
    "::ffff:0.0.0.0/104",
    "::ffff:169.254.0.0/112",
    "::ffff:224.0.0.0/100",
    "::ffff:240.0.0.0/100",
    "::ffff:168.63.129.16/128",
    "::ffff:100.100.100.200/128",
    "::ffff:192.0.0.192/128",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];

/// A network and how many low bits are free.
type Prefix = (u128, u32);

fn prefix(text: &str) -> Prefix {
    let (network, length) = text.split_once('/').expect("a prefix");
    let network = u128::from(network.parse::<Ipv6Addr>().expect("a network"));
    (network, 128 - length.parse::<u32>().expect("a length"))
}

fn within(address: u128, (network, free): &Prefix) -> bool {
    address.checked_shr(*free) == network.checked_shr(*free)
}

/// Everything the oracle compares with, read once.
struct Rules {
    forbidden: Vec<Prefix>,
    loopback: Prefix,
    own: Vec<u128>,
    listeners: Vec<SocketAddr>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    forbidden: FORBIDDEN.iter().map(|text| prefix(text)).collect(),
    loopback: prefix("::ffff:127.0.0.0/104"),
    own: OWN.iter().map(|own| bits(own.parse().expect("an address"))).collect(),
    listeners: LISTENERS.iter().map(|own| own.parse().expect("a socket")).collect(),
});

impl Case {
    fn allows(&self, address: u128, port: u16) -> bool {
        let rules = &*RULES;
        let loopback = address == 1 || within(address, &rules.loopback);
        let mut own = rules.own.contains(&address);
        let mut heard = false;
        for listener in &rules.listeners {
            own |= bits(listener.ip()) == address;
        }
        for listener in &rules.listeners {
            let everywhere = listener.ip().is_unspecified() && (loopback || own);
            heard |= listener.port() == port && (everywhere || bits(listener.ip()) == address);
        }
        let local = !self.policy.lab && (loopback || own);
        let forbidden = address != 1 && rules.forbidden.iter().any(|prefix| within(address, prefix));
        let row = self
            .rows
            .iter()
            .any(|row| row.networks.iter().any(|network| within(address, network)) && row.has_port(port));
        row && !forbidden && !local && !heard
    }
}

static CASES: LazyLock<[Case; 3]> = LazyLock::new(|| {
    let rows = || {
        vec![
            Row {
                networks: ["::ffff:10.0.1.0/120", "::ffff:10.0.2.50/127", "2001:db8:1::/64"]
                    .map(prefix)
                    .to_vec(),
                ports: &[(443, 443), (5060, 5061)],
            },
            Row { networks: vec![prefix("::ffff:10.0.9.0/120")], ports: ALL_PORTS },
        ]
    };
    let rules = || {
        let rule = |networks: &[&str], ports: &[&str]| Rule {
            allow_to: Networks::parse(networks).expect("networks"),
            ports: Ports::parse(ports).expect("ports"),
        };
        vec![
            rule(&["10.0.1.0/24", "10.0.2.50-10.0.2.51", "2001:db8:1::/64"], &["443", "5060-5061"]),
            rule(&["10.0.9.0-10.0.9.255"], &[]),
        ]
    };
    let open = || Rule {
        allow_to: Networks::parse(["0.0.0.0/0", "::/0"]).expect("networks"),
        ports: Ports::default(),
    };
    let policy = |rules, lab| Policy {
        rules,
        own_addresses: OWN.iter().map(|own| own.parse().expect("an address")).collect(),
        own_listeners: LISTENERS.iter().map(|own| own.parse().expect("a socket")).collect(),
        lab,
    };
    let all = || vec![Row { networks: vec![prefix("::/0")], ports: ALL_PORTS }];
    [
        Case { policy: policy(rules(), false), rows: rows() },
        Case { policy: policy(vec![open()], false), rows: all() },
        Case { policy: policy(vec![open()], true), rows: all() },
    ]
});
