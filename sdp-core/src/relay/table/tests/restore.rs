//! What a signalling process finds that comes anew, and streams on the ports that a relay before had.

use super::*;
use crate::relay::wire;

#[test]
fn leases_of_who_is_gone_end_and_streams_stay() {
    let mut rig = Rig::new(|_| {});
    let (_, outside, inside) = rig.open(7, HopLimit::Keep);
    let leased = rig.lease(OUT, 3);
    rig.tell(Command::Keep { pairs: vec![leased[0].id] });
    let bound = rig.table.bound();
    rig.tell(Command::Release);
    assert_eq!(rig.table.bound(), bound, "they are free again, not closed");
    assert!(rig.packet(outside.rtp, "198.51.100.7:61000", 64, &rtp(1)).is_some());
    let again: Vec<PairId> = rig.lease(OUT, 4).iter().map(|pair| pair.id).collect();
    assert!(leased.iter().all(|pair| again.contains(&pair.id)), "whoever comes next gets them");
    assert!(!again.contains(&outside.id) && !again.contains(&inside.id));
}

#[test]
fn a_lease_that_was_asked_for_by_who_is_gone_is_not_answered() {
    let mut rig = Rig::new(|_| {});
    rig.reports.clear();
    rig.table.handle_command(rig.now, Command::Lease { realm: OUT, pairs: 100 });
    rig.table.handle_command(rig.now, Command::Release);
    rig.act();
    assert_eq!(rig.reports, []);
}

#[test]
fn a_stream_comes_back_on_the_ports_of_the_relay_before() {
    let mut before = Rig::new(|_| {});
    let (setup, outside, inside) = before.open(7, HopLimit::Keep);
    let mut rig = Rig::new(|config| config.seed = [10; 32]);
    rig.tell(Command::Restore { stream: setup.clone(), pairs: vec![outside, inside] });
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Refused { .. })), "{:?}", rig.reports);
    let bytes = rtp(1);
    assert_eq!(
        rig.packet(outside.rtp, "198.51.100.7:61000", 64, &bytes),
        Some((inside.rtp, at("10.0.1.7:5000"), 63))
    );
    rig.tell(Command::Restore { stream: setup, pairs: vec![outside, inside] });
    assert_eq!(rig.bound.values().filter(|(rtp, _)| *rtp == outside.rtp).count(), 1, "once is enough");
    rig.tell(Command::End { session: 7 });
    assert!(rig.bound.values().all(|(rtp, _)| *rtp != outside.rtp && *rtp != inside.rtp), "MED-22");
}

/// The same seed binds the same ports ahead: each is the one asked for, under another number.
#[test]
fn ports_that_are_bound_ahead_already_are_taken_from_there() {
    let mut before = Rig::new(|_| {});
    let (mut setup, mut outside, mut inside) = before.open(7, HopLimit::Keep);
    (outside.id, inside.id) = (PairId(1), PairId(2));
    (setup.outside.pair, setup.inside.pair) = (outside.id, inside.id);
    let (others, bound) = {
        let rig = Rig::new(|_| {});
        (rig.bound.clone(), rig.table.bound())
    };
    assert!(others.values().any(|(rtp, _)| *rtp == outside.rtp));
    let mut rig = Rig::new(|_| {});
    rig.tell(Command::Restore { stream: setup, pairs: vec![outside, inside] });
    assert_eq!(rig.table.bound(), bound, "none was bound for it");
    assert!(rig.packet(outside.rtp, "198.51.100.7:61000", 64, &rtp(1)).is_some());
    let leased = rig.lease(OUT, 8);
    assert!(leased.iter().all(|pair| pair.rtp != outside.rtp), "nobody else gets its port");
}

#[test]
fn ports_that_are_somebody_elses_now_refuse_the_stream_and_leave_nothing() {
    let mut before = Rig::new(|_| {});
    let (setup, outside, inside) = before.open(7, HopLimit::Keep);
    let mut rig = Rig::new(|config| config.seed = [10; 32]);
    let bound = rig.table.bound();
    rig.busy = 1;
    rig.tell(Command::Restore { stream: setup.clone(), pairs: vec![outside, inside] });
    assert_eq!(rig.reports.last(), Some(&Report::Refused { stream: setup.id }));
    let elsewhere = Pair { rtp: at("192.0.2.99:20000"), rtcp: at("192.0.2.99:20001"), ..outside };
    let odd = Pair { rtp: at("192.0.2.1:20001"), rtcp: at("192.0.2.1:20002"), ..outside };
    let beyond = Pair { rtp: at("192.0.2.1:60000"), rtcp: at("192.0.2.1:60001"), ..outside };
    for wrong in [elsewhere, odd, beyond] {
        rig.reports.clear();
        rig.tell(Command::Restore { stream: setup.clone(), pairs: vec![wrong, inside] });
        assert_eq!(rig.reports.last(), Some(&Report::Refused { stream: setup.id }), "{wrong:?}");
    }
    assert_eq!(rig.table.bound(), bound);
    assert_eq!(rig.lease(OUT, 4).len(), 4, "the next one is served");
}

#[test]
fn many_sessions_come_in_parts_each_whole() {
    let mut rig = Rig::new(|_| {});
    for session in 1..=70 {
        rig.open(session, HopLimit::Keep);
        rig.tell(Command::Record { session, record: vec![1; 10_000].into() });
    }
    rig.reports.clear();
    rig.tell(Command::Snapshot);
    let mut seen = Vec::new();
    let last = rig.reports.len() - 1;
    assert!(last >= 2, "10,000 octets a session");
    for (at, report) in rig.reports.iter().enumerate() {
        let Report::Snapshot { streams, pairs, records, more } = report else { panic!("{report:?}") };
        assert_eq!(*more, at < last);
        assert_eq!((streams.len() * 2, streams.len()), (pairs.len(), records.len()));
        seen.extend(streams.iter().map(|stream| stream.id.session));
    }
    assert_eq!(seen, (1..=70).collect::<Vec<u64>>());
}

/// As after the loss of a relay: all of it arrives at once, before a port is bound.
#[test]
fn what_is_said_of_a_stream_that_waits_holds_when_it_runs() {
    let mut before = Rig::new(|_| {});
    let (a, b, c) =
        (before.open(1, HopLimit::Keep), before.open(2, HopLimit::Keep), before.open(3, HopLimit::Keep));
    let mut rig = Rig::new(|config| config.seed = [10; 32]);
    let bound = rig.table.bound();
    for (setup, outside, inside) in [&a, &b, &c] {
        let command = Command::Restore { stream: setup.clone(), pairs: vec![*outside, *inside] };
        rig.table.handle_command(rig.now, command);
    }
    let mut changed = a.0.clone();
    changed.hop_limit = HopLimit::Fixed(NonZeroU8::new(9).unwrap());
    rig.table.handle_command(rig.now, Command::Update { stream: changed });
    rig.table.handle_command(rig.now, Command::Join { a: a.0.id, b: b.0.id });
    // One port of the third is being bound when its session ends.
    rig.table.handle_command(rig.now, Command::End { session: 3 });
    rig.act();
    assert_eq!(rig.table.bound(), bound + 4, "nothing of the session that has ended");
    rig.packet(b.1.rtp, "198.51.100.2:4000", 64, &rtp(1));
    let (out, to, hop) = rig.packet(a.1.rtp, "198.51.100.1:4000", 64, &rtp(1)).unwrap();
    assert_eq!(
        (out, to, hop),
        (b.1.rtp, at("198.51.100.2:4000"), 9),
        "they are joined, and the newest setup holds"
    );
    let (_, _, hop) = rig.packet(b.1.rtp, "198.51.100.2:4000", 64, &rtp(2)).unwrap();
    assert_eq!(hop, 63);
}

/// Phones that describe as much as they may: a part that is too long for a frame would be lost, and with it every call.
#[test]
fn a_part_of_a_snapshot_fits_into_a_frame_whatever_phones_describe() {
    let mut rig = Rig::new(|_| {});
    for session in 1..=64 {
        let (mut setup, ..) = rig.open(session, HopLimit::Keep);
        for index in 0..32 {
            setup.id.index = index;
            setup.clocks = (0..128).map(|kind| (kind, 4_000_000_000)).collect();
            if index > 0 {
                let (outside, inside) = (rig.lease(OUT, 1)[0], rig.lease(IN, 1)[0]);
                (setup.outside.pair, setup.inside.pair) = (outside.id, inside.id);
            }
            rig.tell(Command::Open { stream: setup.clone() });
        }
        rig.tell(Command::Record { session, record: vec![200; 4_000].into() });
    }
    rig.reports.clear();
    rig.tell(Command::Snapshot);
    let (mut streams, mut octets) = (0, Vec::new());
    for report in &rig.reports {
        octets.clear();
        wire::encode(&wire::FromRelay::Report(report.clone()), &mut octets).unwrap();
        let Report::Snapshot { streams: part, .. } = report else { panic!("{report:?}") };
        streams += part.len();
    }
    assert_eq!(streams, 64 * 32);
}

/// The relay is there still, but did not hear of the stream: its leases ended with the connection.
#[test]
fn a_stream_comes_back_on_leases_that_have_ended() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, ..) = Rig::new(|_| {}).open(7, HopLimit::Keep);
    let (outside, inside) = (rig.lease(OUT, 1)[0], rig.lease(IN, 1)[0]);
    (setup.outside.pair, setup.inside.pair) = (outside.id, inside.id);
    let bound = rig.table.bound();
    rig.tell(Command::Release);
    rig.reports.clear();
    rig.tell(Command::Restore { stream: setup, pairs: vec![outside, inside] });
    assert_eq!((&rig.reports, rig.table.bound()), (&vec![], bound));
    assert!(rig.packet(outside.rtp, "198.51.100.7:61000", 64, &rtp(1)).is_some());
    assert!(rig.lease(OUT, 4).iter().all(|pair| pair.id != outside.id));
}

#[test]
fn streams_that_wait_and_are_parted_are_not_joined_when_they_run() {
    let mut before = Rig::new(|_| {});
    let (a, b) = (before.open(1, HopLimit::Keep), before.open(2, HopLimit::Keep));
    let mut rig = Rig::new(|config| config.seed = [10; 32]);
    for (setup, outside, inside) in [&a, &b] {
        let command = Command::Restore { stream: setup.clone(), pairs: vec![*outside, *inside] };
        rig.table.handle_command(rig.now, command);
    }
    rig.table.handle_command(rig.now, Command::Join { a: a.0.id, b: b.0.id });
    rig.table.handle_command(rig.now, Command::Part { stream: b.0.id });
    rig.act();
    let (out, ..) = rig.packet(a.1.rtp, "198.51.100.1:4000", 64, &rtp(1)).unwrap();
    assert_eq!(out, a.2.rtp, "to its own inside end");
}

#[test]
fn a_stream_that_waits_and_is_moved_leaves_no_pair_behind() {
    let mut before = Rig::new(|_| {});
    let (setup, outside, inside) = before.open(7, HopLimit::Keep);
    let mut rig = Rig::new(|config| config.seed = [10; 32]);
    let other = rig.lease(OUT, 1)[0];
    let bound = rig.table.bound();
    let command = Command::Restore { stream: setup.clone(), pairs: vec![outside, inside] };
    rig.table.handle_command(rig.now, command);
    let mut moved = setup;
    moved.outside.pair = other.id;
    rig.tell(Command::Update { stream: moved });
    assert!(rig.packet(other.rtp, "198.51.100.7:61000", 64, &rtp(1)).is_some());
    assert_eq!(rig.table.bound(), bound + 1, "its inside pair, and not the one it left");
}
