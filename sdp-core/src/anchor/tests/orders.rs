//! Any order of offers, answers, refusals, ends and time: nothing leaks, nothing is promised twice.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Offer { session: u64, from: Side, shape: usize, v6: bool },
    Answer { session: u64, from: Side, shape: usize, fork: Option<u64> },
    Confirm { session: u64, fork: u64 },
    Rollback { session: u64, from: Side },
    End { session: u64 },
    Packet { port: usize, hop: u8 },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let side = || prop_oneof![Just(Side::Outside), Just(Side::Inside)];
    prop_oneof![
        4 => (0..4u64, side(), 0..9usize, any::<bool>())
            .prop_map(|(session, from, shape, v6)| Step::Offer { session, from, shape, v6 }),
        4 => (0..4u64, side(), 0..9usize, prop::option::of(0..3u64))
            .prop_map(|(session, from, shape, fork)| Step::Answer { session, from, shape, fork }),
        1 => (0..4u64, 0..3u64).prop_map(|(session, fork)| Step::Confirm { session, fork }),
        1 => (0..4u64, side()).prop_map(|(session, from)| Step::Rollback { session, from }),
        1 => (0..4u64).prop_map(|session| Step::End { session }),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(port, hop)| Step::Packet { port, hop }),
        1 => (1..120u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// Descriptions of many shapes; some name a relay port of ours.
fn description(rig: &Rig, host: &str, shape: usize) -> String {
    let one = audio(host, 30000);
    let port = |n: usize| {
        rig.anchor.own.keys().map(SocketAddr::port).min().unwrap_or(4000).wrapping_add(2 * n as u16)
    };
    match shape {
        0 | 1 => one,
        2 => format!("{one}m=video 30002 RTP/AVP 96\r\na=rtcp:30009\r\n"),
        3 => format!("{one}m=audio 30000 RTP/SAVP 0\r\n"),
        4 => format!("{one}m=audio 30004 RTP/SAVP 0\r\na=rtcp-mux\r\n"),
        5 => one.replace("m=audio 30000", "m=audio 0"),
        6 => one.replace(&format!("c=IN IP4 {host}"), "c=IN IP4 0.0.0.0"),
        7 => audio(INNER, port(0)),
        _ => "v=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\n".into(),
    }
}

fn run(rig: &mut Rig, step: Step) {
    match step {
        Step::Offer { session, from, shape, v6 } => {
            let host = match from {
                Side::Outside if v6 => "2001:db8:7::7",
                Side::Outside => PHONE_A,
                Side::Inside => PBX,
            };
            let sdp = description(rig, host, shape);
            let to = if v6 && from == Side::Inside { "2001:db8:7::7" } else { PHONE_B };
            let out = rig.anchor.offer(rig.now, session, from, ip(host), ip(to), sdp.as_bytes());
            rig.settle();
            check(rig, session, from.other(), out);
        }
        Step::Answer { session, from, shape, fork } => {
            let v6 = rig
                .anchor
                .sessions
                .get(&session)
                .and_then(|state| state.streams.first())
                .is_some_and(|stream| from == Side::Outside && stream.outside.rtp.is_ipv6());
            let host = match from {
                Side::Outside if v6 => "2001:db8:7::7",
                Side::Outside => PHONE_B,
                Side::Inside => PBX,
            };
            let sdp = description(rig, host, shape);
            rig.anchor.set_fork(session, fork);
            let out = rig.anchor.answer(rig.now, session, from, ip(host), ip(PBX), sdp.as_bytes());
            rig.settle();
            check(rig, session, from.other(), out);
        }
        Step::Confirm { session, fork } => rig.anchor.confirm_fork(rig.now, session, fork),
        Step::Rollback { session, from } => rig.anchor.rollback(rig.now, session, from),
        Step::End { session } => rig.anchor.end(rig.now, session),
        Step::Packet { port, hop } => {
            let mut all: Vec<SocketAddr> = rig.bound.values().map(|(rtp, _)| *rtp).collect();
            all.sort_unstable();
            let to = all[port % all.len()];
            let from = if to.is_ipv6() { at("2001:db8:7::7", 30000) } else { at(PHONE_A, 30000) };
            if let Some((_, _, left)) = rig.packet(to, from, hop, &rtp(1)) {
                assert_eq!(left, hop - 1);
            }
        }
        Step::Pass { seconds } => {
            rig.now += Duration::from_secs(seconds);
            rig.table.handle_timeout(rig.now);
            rig.anchor.handle_timeout(rig.now);
        }
    }
    rig.settle();
}

/// What a description promises is bound, and belongs to that session and to no other.
fn check(rig: &Rig, session: u64, to: Side, out: Result<Bytes, Refusal>) {
    let Ok(out) = out else { return };
    let state = &rig.anchor.sessions[&session];
    let replaced = state.offer.iter().flat_map(|offer| offer.replacements.iter().map(|(_, _, pair)| *pair));
    let own: HashSet<u16> = state
        .streams
        .iter()
        .flat_map(|stream| [stream.outside, stream.inside])
        .chain(replaced)
        .filter(|pair| pair.realm.side == to)
        .map(|pair| pair.rtp.port())
        .collect();
    for port in ports(std::str::from_utf8(&out).unwrap()) {
        assert!(port == 0 || own.contains(&port), "{port} is not of session {session}");
        assert!(port == 0 || rig.bound.values().any(|(rtp, _)| rtp.port() == port), "{port} is not bound");
    }
}

/// Pairs belong to one stream each, and joins are mutual.
fn hold(rig: &Rig) {
    let mut seen = HashSet::new();
    for (session, state) in &rig.anchor.sessions {
        let replaced =
            state.offer.iter().flat_map(|offer| offer.replacements.iter().map(|(_, _, pair)| pair.id));
        let pairs = state.streams.iter().flat_map(|stream| [stream.outside.id, stream.inside.id]);
        for pair in pairs.chain(replaced) {
            assert!(seen.insert(pair), "{pair:?} is promised twice");
        }
        for stream in &state.streams {
            let id = StreamId { session: *session, index: stream.index };
            if let Some(peer) = stream.joined {
                assert_eq!(rig.anchor.stream(peer).and_then(|other| other.joined), Some(id));
            }
        }
    }
    assert_eq!(
        rig.anchor.own.len(),
        rig.anchor.sessions.values().map(|state| state.streams.len()).sum::<usize>()
    );
    let refused = rig.reports.iter().find(|report| matches!(report, Report::Refused { .. }));
    assert_eq!(refused, None, "the relay knows every pair the anchor promises");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_leaks_in_any_order(steps in prop::collection::vec(step(), 1..40)) {
        let mut rig = Rig::new(|_| {});
        for step in steps {
            run(&mut rig, step);
            hold(&rig);
        }
        for session in 0..4 {
            rig.anchor.end(rig.now, session);
        }
        rig.settle();
        prop_assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (0, 0));
        // With the leases given back, nothing but the pool is bound.
        rig.now += Duration::from_secs(1_000);
        rig.table.handle_timeout(rig.now);
        prop_assert_eq!(rig.table.bound() <= 256, true, "{} pairs are bound", rig.table.bound());
    }
}
