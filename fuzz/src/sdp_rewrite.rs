//! A description on its way through: whatever is accepted comes out with the same lines but for our address, our ports and
//! what the rules say, reads again, and does not change when it is written a second time.
//!
//! The first octet chooses family, RTCP port and which lines are declined; the rest is the description.

use std::net::IpAddr;
use std::time::Instant;

use sdp_core::anchor::{Anchor, Config};
use sdp_core::policy::{Codecs, Rules};
use sdp_core::relay::{Pair, PairId, Report, Side};
use sdp_core::rewrite::{Credentials, Offered, Orders, Part, Placement, rewrite, rewrite_by};
use sdp_core::sdp::{Direction, Limits, Sdp, to_sdp_rs};

/// Rewrites `data`.
pub fn sdp_rewrite(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let limits = Limits::default();
    let Ok(sdp) = Sdp::parse(text, &limits) else { return };
    let address: IpAddr =
        if choice & 1 == 0 { [203, 0, 113, 9].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into() };
    let rtcp = if choice & 2 == 0 { 20_001 } else { 40_001 };
    let placement = |at: usize| match choice >> (2 + at % 6) & 1 {
        0 => Placement::relay(20_000, rtcp),
        _ => Placement::Decline,
    };
    let placements: Vec<Placement> = (0..sdp.media.len()).map(placement).collect();
    let out = rewrite(&sdp, address, &placements);
    // The planted bug: a line is injected when a value starts with `%`.
    #[cfg(feature = "planted")]
    let out = if text.windows(2).any(|two| two == b"=%") {
        [&out[..], b"\na=planted\n"].concat().into()
    } else {
        out
    };

    same_lines(text, &out, &Rules::default());
    only_ours(&out, address, &Rules::default());
    let again = Sdp::parse(&out, &limits);
    if out.len() <= limits.bytes {
        let again = again.expect("what we write reads");
        assert_eq!(rewrite(&again, address, &placements), out, "a second time changes nothing");
    }
    if let Ok(other) = to_sdp_rs(&sdp) {
        let theirs: Vec<u16> = other.media_descriptions.iter().map(|media| media.media.port).collect();
        let ours: Vec<u16> = sdp.media.iter().map(|media| media.port).collect();
        assert_eq!(ours, theirs, "sdp-rs reads the same ports");
    }
    by_rules(&sdp, address, &placements);
    anchored(text);
}

/// The rules that a description meets: each switch is on in one of them.
fn rules() -> [Rules; 3] {
    let codecs = |entries: &[&str]| Some(Codecs::parse(entries).expect("codecs"));
    [
        Rules {
            hold_force_3264: true,
            force_ptime: Some(30),
            codecs: codecs(&["PCMU", "opus", "H264"]),
            ..Rules::default()
        },
        Rules {
            hold_rfc2543: true,
            hold_inactive: true,
            add_ice_candidate: false,
            rtcp_attribute: false,
            strip_lines: vec!["b=".to_owned(), "a=x".to_owned()],
            ..Rules::default()
        },
        Rules {
            inhibit_hold: true,
            strip_ice: true,
            codecs: codecs(&["!telephone-event", "!rtx"]),
            ..Rules::default()
        },
    ]
}

fn by_rules(sdp: &Sdp<'_>, address: IpAddr, placements: &[Placement]) {
    let placements: Vec<Placement> = placements
        .iter()
        .map(|placement| match *placement {
            Placement::Relay { rtp, rtcp, .. } => {
                Placement::Relay { rtp, rtcp, ice: Some(Credentials::new([7; 32])) }
            }
            other => other,
        })
        .collect();
    let offered = [Offered { direction: Direction::SendOnly, dtmf: Some(101) }; 64];
    let limits = Limits { bytes: usize::MAX, lines: usize::MAX, ..Limits::default() };
    let mut scratch = Vec::new();
    for rules in rules() {
        for part in [Part::Offer { dtmf: Some(101) }, Part::Answer(&offered)] {
            let orders = Orders { address, placements: &placements, part, srtp: &[], rules: &rules };
            let out = rewrite_by(sdp, &orders, &mut scratch);
            same_lines(sdp.bytes, &out, &rules);
            only_ours(&out, address, &rules);
            let again = Sdp::parse(&out, &limits).expect("what we write reads");
            assert_eq!(rewrite_by(&again, &orders, &mut scratch), out, "a second time changes nothing");
        }
    }
}

/// Lines that nobody may touch are the same, in the same order, and none is new.
fn same_lines(before: &[u8], after: &[u8], rules: &Rules) {
    let touched = |line: &[u8]| {
        let starts = [
            &b"o="[..],
            b"c=",
            b"m=",
            b"a=rtcp:",
            b"a=ptime:",
            b"a=candidate:",
            b"a=remote-candidates:",
            b"a=ice-",
            b"a=x-candidate",
            // These name an address, and go from lines that do not stay their author's.
            b"a=altc:",
            b"a=ccap:",
            b"a=source-filter:",
            b"a=path:",
            b"a=alt:",
        ];
        let lesser = [&b"a=oldcip:"[..], b"a=oldoip:", b"a=oldmip:", b"a=oldmediaip:"];
        let more = [&b"a=rtpmap:"[..], b"a=fmtp:", b"a=rtcp-fb:", b"a=imageattr:"];
        starts.iter().chain(&more).chain(&lesser).any(|start| line.starts_with(start))
            || line == b"a=end-of-candidates"
            || line.strip_prefix(b"a=").is_some_and(|value| Direction::parse(value).is_some())
            || rules.strip_lines.iter().any(|start| line.starts_with(start.as_bytes()))
    };
    let rest = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        // Where a last line had no end, or came without one, blank lines are no lines.
        lines.filter(|line| !line.is_empty() && !touched(line)).map(<[u8]>::to_vec).collect()
    };
    assert_eq!(rest(before), rest(after));
}

/// Read without the crate's parser: every address is ours, every port is ours, 0, or "discard".
fn only_ours(out: &[u8], address: IpAddr, rules: &Rules) {
    let host = if address.is_ipv4() { format!("IP4 {address}") } else { format!("IP6 {address}") };
    for line in out.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        if line.starts_with(b"o=") || line.starts_with(b"c=") {
            let text = line.trim_ascii_end();
            let fields = || text.split(|b| *b == b' ').filter(|field| !field.is_empty());
            let zero = rules.hold_rfc2543
                && line.starts_with(b"c=")
                && fields().next_back().is_some_and(|last| {
                    let ip = std::str::from_utf8(last).ok().and_then(|text| text.parse::<IpAddr>().ok());
                    ip.is_some_and(|ip| ip.to_canonical().is_unspecified())
                });
            assert!(zero || text.ends_with(host.as_bytes()), "{}", text.escape_ascii());
        }
        if let Some(value) = line.strip_prefix(b"m=") {
            let port = value.split(|b| *b == b' ').filter(|field| !field.is_empty()).nth(1);
            assert!(matches!(port, Some(b"0" | b"20000")), "{}", line.escape_ascii());
        }
        if let Some(value) = line.strip_prefix(b"a=rtcp:") {
            let mut fields = value.splitn(2, |b| *b == b' ');
            let port = fields.next().unwrap_or_default();
            assert!([&b"9"[..], b"20000", b"20001", b"40001"].contains(&port), "{}", line.escape_ascii());
            if let Some(rest) = fields.next() {
                assert_eq!(rest, format!("IN {host}").as_bytes());
            }
        }
        if let Some(value) = line.strip_prefix(b"a=candidate:") {
            let ours = [" 20000 typ host", " 20001 typ host", " 40001 typ host"];
            let text = String::from_utf8_lossy(value);
            assert!(ours.iter().any(|end| text.ends_with(&format!(" {address}{end}"))), "{text}");
        }
    }
}

/// As offer and as answer through an anchor: no panic, and the ports that come out were leased.
fn anchored(text: &[u8]) {
    let now = Instant::now();
    let (outer, inner): (IpAddr, IpAddr) = ([203, 0, 113, 9].into(), [10, 0, 1, 2].into());
    let (phone, pbx): (IpAddr, IpAddr) = ([198, 51, 100, 7].into(), [10, 0, 1, 60].into());
    let mut anchor = Anchor::new(now, Config::new(outer.into(), inner.into()));
    let realms: Vec<_> = std::iter::from_fn(|| anchor.poll_command())
        .filter_map(|command| match command {
            sdp_core::relay::Command::Lease { realm, .. } => Some(realm),
            _ => None,
        })
        .collect();
    for (at, realm) in realms.into_iter().enumerate() {
        let local = if realm.side == Side::Outside { outer } else { inner };
        let pair = |n: u16| {
            let rtp = 16_384 + 2 * n;
            let id = PairId(u64::from(n) + 100 * at as u64);
            Pair { id, realm, rtp: (local, rtp).into(), rtcp: (local, rtp + 1).into() }
        };
        let pairs = (0..8).map(pair).collect();
        anchor.handle_report(now, Report::Leased { realm, pairs, lifetime_ms: 300_000 });
    }
    for (from, signalling, to) in [(Side::Outside, phone, pbx), (Side::Inside, pbx, phone)] {
        let Ok(offer) = anchor.offer(now, 1, from, signalling, to, text) else { continue };
        let answer = anchor.answer(now, 1, from.other(), to, signalling, text);
        for out in [Some(offer), answer.ok()].into_iter().flatten() {
            let read = Sdp::parse(&out, &Limits { bytes: usize::MAX, ..Limits::default() })
                .expect("what we write reads");
            assert!(read.media.iter().all(|media| media.port == 0 || (16_384..16_400).contains(&media.port)));
        }
        anchor.end(now, 1);
        assert_eq!(anchor.sessions(), 0);
    }
}
