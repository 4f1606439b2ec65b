#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

use std::net::IpAddr;

use super::*;

fn address(n: u32) -> Suspect {
    Suspect::address(IpAddr::from(n.to_be_bytes()))
}

#[test]
fn a_bucket_lets_its_burst_and_then_its_rate_through() {
    let mut sources = Sources::default();
    let rates = Rates::default();
    let start = Instant::now();
    let mut passed =
        |at: Duration| sources.admit(start + at, address(1), None, false, &rates) == Admission::Pass;
    assert_eq!((0..1000).filter(|_| passed(Duration::ZERO)).count(), 200);
    let second = (1..=1000).filter(|n| passed(Duration::from_millis(*n))).count();
    assert_eq!(second, 100);
    assert_eq!((0..1000).filter(|_| passed(Duration::from_secs(10))).count(), 200);
}

#[test]
fn sources_are_bounded_and_who_speaks_stays() {
    let mut sources = Sources::default();
    let rates = Rates { messages: Rate { per_second: 1, burst: 1 }, ..Rates::default() };
    let start = Instant::now();
    assert_eq!(sources.admit(start, address(0), None, false, &rates), Admission::Pass);
    for n in 1..250_000_u32 {
        let now = start + Duration::from_micros(n.into());
        sources.admit(now, address(n), None, false, &rates);
        if n % 50_000 == 0 {
            sources.offend(now, address(n), Offence::Junk, 9, RECENT_ENOUGH);
        }
    }
    assert!(sources.len() <= sources::SOURCES, "{}", sources.len());
    // The last that came is known: it has nothing left.
    let now = start + Duration::from_micros(250_000);
    assert_ne!(sources.admit(now, address(249_999), None, false, &rates), Admission::Pass);
}

const RECENT_ENOUGH: Duration = Duration::from_secs(60);

#[test]
fn blocks_are_bounded_and_the_oldest_makes_way() {
    let mut blocks = Blocks::default();
    let rules = Auth::default();
    let now = Instant::now();
    let displaced: Vec<Suspect> = (0..100_010)
        .filter_map(|n| {
            blocks.add(now + Duration::from_micros(n.into()), address(n), Offence::Flood, &rules).1
        })
        .collect();
    assert_eq!(displaced, (0..10).map(address).collect::<Vec<_>>());
    assert_eq!((blocks.len(), blocks.active()), (blocks::BLOCKS, blocks::BLOCKS));
    assert!(!blocks.holds(&address(9)) && blocks.holds(&address(10)));
    assert_eq!(blocks.list(now, 3).len(), 3);
    let end = now + rules.block + Duration::from_secs(1);
    assert_eq!(std::iter::from_fn(|| blocks.expire(end, &rules)).count(), 100_000);
    assert_eq!(blocks.active(), 0);
    assert!(blocks.expire(end + rules.longest, &rules).is_none());
    assert_eq!(blocks.len(), 0, "and after a day they are forgotten");
}

#[test]
fn an_ipv6_suspect_is_its_network_and_a_mapped_one_its_ipv4_address() {
    let of = |text: &str| Suspect::address(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
}
