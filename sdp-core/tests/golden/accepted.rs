//! Which of the descriptions the anchor carries as an offer of a phone, and which it refuses, and why: what a real program says is
//! hardly ever a reason to refuse a call.

use std::net::IpAddr;
use std::time::Instant;

use sdp_core::anchor::{Anchor, Config};
use sdp_core::policy::{Addresses, Policy, Transport};
use sdp_core::relay::{Command, Pair, PairId, Report, Side};
use sdp_core::sdp::{Limits, Sdp};

use super::descriptions;

const PHONE: [u8; 4] = [198, 51, 100, 7];
const PBX: [u8; 4] = [10, 0, 1, 60];

/// An anchor with addresses of both families, and ports for all lines of one description.
fn anchor(now: Instant) -> Anchor {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let outside = Addresses::from(ip("203.0.113.9")).with(ip("2001:db8::9"));
    let inside = Addresses::from(ip("10.0.1.2")).with(ip("2001:db8:1::2"));
    let mut anchor = Anchor::new(now, Config { seed: Some([7; 32].into()), ..Config::new(outside, inside) });
    let commands: Vec<Command> = std::iter::from_fn(|| anchor.poll_command()).collect();
    let realms = commands.into_iter().filter_map(|command| match command {
        Command::Lease { realm, .. } => Some(realm),
        _ => None,
    });
    for (at, realm) in (0..).zip(realms) {
        let addresses = if realm.side == Side::Outside { outside } else { inside };
        let local = addresses.of(realm.family).unwrap().local;
        let pair = |n: u16| Pair {
            id: PairId(u64::from(n) + 100 * at),
            realm,
            rtp: (local, 20_000 + 2 * n).into(),
            rtcp: (local, 20_001 + 2 * n).into(),
        };
        let pairs = (0..16).map(pair).collect();
        anchor.handle_report(now, Report::Leased { realm, pairs, lifetime_ms: 300_000 });
    }
    anchor
}

/// What is refused, and how the refusal begins.
const REFUSED: &[(&str, &str)] = &[
    ("cisco-null-options", PORT),
    ("ffmpeg-multicast", NAME),
    ("jsip-fax-answer", NAME),
    ("jsip-fax-gateway", NAME),
    ("rfc4317-2.1-answer", NAME),
    ("rfc4317-2.1-offer", NAME),
    ("rfc4317-2.2-answer", NAME),
    ("rfc4317-2.4-offer", NAME),
    ("rfc4317-3.1-hold", NAME),
    ("rfc4317-3.2-hold", NAME),
    ("rfc4317-4.3-deleted", NAME),
    ("transform-dante-aes67", NAME),
    ("transform-hacky", PORT),
    ("transform-invalid", PORT),
    ("transform-st2022-6", NAME),
    ("transform-st2110-20", NAME),
    ("transform-ts-refclk-media", NAME),
];
/// A name that nobody has looked up here (SDP-14), or a multicast address with its TTL.
const NAME: &str = "description not acceptable: a stream names a host";
/// Port 1: of a phone that answers OPTIONS, and of browsers of 2013 before they had an address.
const PORT: &str = "description not acceptable: port 1 may not be named";

#[test]
fn what_real_programs_offer_is_carried_but_for_what_no_relay_can() {
    #[allow(clippy::disallowed_methods)] // A test starts from some moment.
    let now = Instant::now();
    let mut found = Vec::new();
    for (name, bytes) in descriptions() {
        let mut anchor = anchor(now);
        let result = anchor.offer(now, 1, Side::Outside, PHONE.into(), PBX.into(), &bytes);
        let known = REFUSED.iter().find(|row| row.0 == name).map(|row| row.1);
        let said = result.as_ref().err().map(ToString::to_string);
        match (&said, known) {
            (None, None) => {}
            (Some(said), Some(known)) if said.starts_with(known) => continue,
            _ => found.push(format!("    (\"{name}\", \"{}\"),", said.unwrap_or_default())),
        }
        let Ok(offer) = result else { continue };
        let offer = Sdp::parse(&offer, &Limits::default()).unwrap();
        let before = Sdp::parse(&bytes, &Limits::default()).unwrap();
        let mut streams = 0;
        // A line that asks for a relay gets one, or is of a kind that none carries.
        for (was, is) in before.media.iter().zip(&offer.media) {
            let asks = was.port != 0 && was.port_count == 1;
            let carried = asks && Transport::parse(was.transport).is_some();
            streams += usize::from(carried);
            let carried = carried && streams <= Policy::default().max_streams;
            if carried != (is.port != 0) {
                found.push(format!("{name}: port {} is {}", was.port, is.port));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
