//! Leases, records, statistics: what the anchor keeps.

use super::*;

#[test]
fn a_drained_lease_refuses_and_recovers() {
    let mut rig = Rig::new(|_| {});
    let sdp = audio("192.168.1.7", 30000);
    let mut made = 0;
    let refused = (1..1_000).find_map(|session| {
        // The relay does not get to answer.
        let result = rig.anchor.offer(rig.now, session, Side::Outside, ip(PHONE_A), ip(PBX), sdp.as_bytes());
        made += usize::from(result.is_ok());
        result.err()
    });
    assert_eq!((made, rig.anchor.sessions()), (64, 64));
    assert_eq!(refused, Some(Refusal::Unavailable { side: Side::Outside, family: Family::V4 }));
    rig.settle();
    // The burst has raised the level of both sides.
    for session in 2_000..2_100 {
        rig.anchor.offer(rig.now, session, Side::Outside, ip(PHONE_A), ip(PBX), sdp.as_bytes()).unwrap();
    }
}

#[test]
fn a_realm_is_barren_when_it_has_nothing_and_awaits_nothing() {
    let mut rig = Rig::new(|_| {});
    let realm = Realm { side: Side::Outside, family: Family::V4 };
    let other = Realm { side: Side::Inside, family: Family::V4 };
    let mut anchor =
        Anchor::new(rig.now, Config::new(Addresses::from(ip("192.0.2.1")), Addresses::from(ip(INNER))));
    assert!(!anchor.is_barren(realm) && !anchor.is_barren(other), "64 are on their way");
    // A narrow range: the relay has fifty, and says so twice, for what it binds ahead and for the lease.
    let pairs = rig.reports.iter().find_map(|report| match report {
        Report::Leased { realm: of, pairs, .. } if *of == realm => Some(pairs[..50].to_vec()),
        _ => None,
    });
    let exhausted = |missing| Report::Exhausted { realm, missing, reason: "narrow".into() };
    anchor.handle_report(rig.now, exhausted(14));
    assert!(!anchor.is_barren(realm));
    anchor.handle_report(rig.now, Report::Leased { realm, pairs: pairs.unwrap(), lifetime_ms: 60_000 });
    anchor.handle_report(rig.now, exhausted(14));
    assert!(!anchor.is_barren(realm));
    anchor.handle_report(rig.now, Report::Exhausted { realm: other, missing: 64, reason: "busy".into() });
    assert!(anchor.is_barren(other) && !anchor.is_ready());
    rig.settle();
}

#[test]
fn leases_are_renewed_before_they_expire() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..20 {
        let due = rig.anchor.poll_timeout(rig.now).unwrap();
        assert!(due > rig.now);
        rig.now = due.min(rig.now + Duration::from_secs(60));
        rig.anchor.handle_timeout(rig.now);
        rig.table.handle_timeout(rig.now);
        rig.settle();
        assert!(rig.anchor.is_ready());
    }
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Expired { .. })));
    rig.call(1);
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Refused { .. })));
}

#[test]
fn a_thousand_calls_leave_nothing() {
    let mut rig = Rig::new(|_| {});
    let before = rig.table.bound();
    for session in 0..1_000 {
        rig.call(session);
        if session >= 10 {
            rig.anchor.end(rig.now, session - 10);
        }
        rig.now += Duration::from_secs(1);
        rig.table.handle_timeout(rig.now);
        rig.anchor.handle_timeout(rig.now);
        rig.settle();
    }
    for session in 0..1_000 {
        rig.anchor.end(rig.now, session);
    }
    rig.settle();
    assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (0, 0));
    assert!(rig.table.bound() <= before + 64, "{} of {before}", rig.table.bound());
    let open = |report: &&Report| matches!(report, Report::Refused { .. } | Report::Exhausted { .. });
    assert_eq!(rig.reports.iter().find(open), None);
}

#[test]
fn records_travel_with_the_session() {
    let mut rig = Rig::new(|_| {});
    rig.call(1);
    rig.anchor.set_record(1, b"dialog".to_vec());
    rig.anchor.set_record(2, b"nobody".to_vec());
    rig.settle();
    assert_eq!(rig.anchor.record(1), Some(&b"dialog"[..]));
    rig.table.handle_command(rig.now, Command::Snapshot);
    rig.settle();
    let Some(Report::Snapshot { streams, pairs, records, .. }) = rig.reports.last() else {
        panic!("a snapshot")
    };
    assert_eq!((streams.len(), pairs.len(), records), (1, 2, &vec![(1, b"dialog".to_vec().into())]));
    assert_ne!(pairs[0].id, PairId(0));
}

#[test]
fn statistics_are_kept_with_the_session() {
    let mut rig = Rig::new(|_| {});
    let (outer, _) = rig.call(1);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    rig.now += Duration::from_secs(6);
    rig.table.handle_timeout(rig.now);
    rig.settle();
    let (_, outside, inside) = rig.anchor.statistics(1).next().unwrap();
    assert_eq!((outside.received_rtp, outside.hop_limit_received.minimum, inside.sent), (1, 55, 1));
    assert_eq!(outside.receiver, Some(at(PHONE_A, 61000)));
}

#[test]
fn a_pair_that_waits_for_an_answer_outlives_its_lease() {
    let mut rig = Rig::new(|_| {});
    let phone = "2001:db8:7::7";
    rig.offer(1, Side::Outside, phone, &audio(phone, 30000));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    // The phone has come back by IPv4: the offer to it is of that family, and it is slow to answer.
    let offer = rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&offer)[0]);
    for _ in 0..10 {
        rig.now += Duration::from_secs(100);
        rig.anchor.handle_timeout(rig.now);
        rig.table.handle_timeout(rig.now);
        rig.settle();
    }
    rig.answer(1, Side::Outside, PHONE_B, &audio(PHONE_B, 30000));
    assert!(rig.packet(outer, at(PHONE_B, 30000), 55, &rtp(1)).is_some());
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Refused { .. })));
    // Another such offer, refused: the pair goes back.
    let kept =
        |rig: &Rig| rig.commands.iter().filter(|command| matches!(command, Command::Keep { .. })).count();
    let sdp = audio("10.0.1.60", 5000);
    rig.anchor.offer(rig.now, 1, Side::Inside, ip(PBX), ip(phone), sdp.as_bytes()).unwrap();
    rig.settle();
    assert_eq!(kept(&rig), 2);
    rig.anchor.rollback(rig.now, 1, Side::Inside);
    rig.settle();
    assert!(
        rig.commands.iter().any(|command| matches!(command, Command::Return { pairs } if pairs.len() == 1))
    );
    assert!(rig.packet(outer, at(PHONE_B, 30000), 55, &rtp(2)).is_some());
}

/// MED-01: told once when it begins and once when it is over, whatever comes and goes between.
#[test]
fn a_range_that_is_used_up_is_told_and_frees_itself() {
    let mut rig = Rig::new(|_| {});
    let mut table = table::Config::new(rig.anchor.config.outside, rig.anchor.config.inside, [6; 32]);
    table.ports = 20_000..=20_099;
    rig.table = Table::new(rig.now, table);
    rig.anchor = Anchor::new(rig.now, rig.anchor.config.clone());
    rig.bound.clear();
    rig.settle();
    let events = |rig: &mut Rig| -> Vec<Event> { std::iter::from_fn(|| rig.anchor.poll_event()).collect() };
    let offer =
        |rig: &mut Rig, session| rig.try_offer(session, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    for session in 1..=50 {
        offer(&mut rig, session).unwrap();
        let pass = |rig: &mut Rig, seconds| {
            rig.now += Duration::from_secs(seconds);
            rig.table.handle_timeout(rig.now);
            rig.anchor.handle_timeout(rig.now);
            rig.settle();
        };
        pass(&mut rig, 6);
    }
    for session in 51..=60 {
        assert!(matches!(offer(&mut rig, session), Err(Refusal::Unavailable { .. })));
        rig.now += Duration::from_secs(6);
        rig.anchor.handle_timeout(rig.now);
        rig.settle();
    }
    let of = |side| Realm { side, family: Family::V4 };
    let mut dry = events(&mut rig);
    dry.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(dry, [Event::OutOfPorts(of(Side::Inside)), Event::OutOfPorts(of(Side::Outside))]);
    // One call ends: its ports rest 30 s, then there is room for one, which is no reason to sound the all-clear.
    let free = |rig: &mut Rig, sessions: std::ops::RangeInclusive<u64>| {
        sessions.for_each(|session| rig.anchor.end(rig.now, session));
        rig.settle();
        for _ in 0..6 {
            rig.now += Duration::from_secs(6);
            rig.table.handle_timeout(rig.now);
            rig.anchor.handle_timeout(rig.now);
            rig.settle();
        }
    };
    free(&mut rig, 1..=1);
    offer(&mut rig, 70).unwrap();
    assert!(offer(&mut rig, 71).is_err());
    assert_eq!(events(&mut rig), []);
    free(&mut rig, 2..=20);
    let mut again = events(&mut rig);
    again.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(again, [Event::PortsAgain(of(Side::Inside)), Event::PortsAgain(of(Side::Outside))]);
    offer(&mut rig, 72).unwrap();
}

/// A stream that the relay refuses gives back at once what it had leased, and leaves nobody joined to it.
#[test]
fn a_refused_stream_gives_its_ports_back() {
    let mut rig = Rig::new(|_| {});
    // The relay knows nothing any more of the outside pair that comes next.
    let known = rig.commands.len();
    let sdp = audio("192.168.1.7", 30000);
    rig.anchor.offer(rig.now, 1, Side::Outside, ip(PHONE_A), ip(PBX), sdp.as_bytes()).unwrap();
    let [outside, inside] = rig.anchor.sessions[&1].streams[0].pair_ids()[..] else { panic!("two pairs") };
    rig.table.handle_command(rig.now, Command::Return { pairs: vec![outside] });
    rig.settle();
    let id = StreamId { session: 1, index: 0 };
    assert!(rig.reports.contains(&Report::Refused { stream: id }));
    assert!(rig.anchor.sessions[&1].streams.is_empty() && rig.anchor.own.is_empty());
    let returned =
        |command: &Command| matches!(command, Command::Return { pairs } if pairs.contains(&inside));
    assert!(rig.commands[known..].iter().any(returned));
    assert!(rig.commands[known..].contains(&Command::Close { stream: id }));
    // A stream in use has nothing to give back: its peer is told, the session goes on without it.
    let mut rig = Rig::new(|_| {});
    rig.call(1);
    let bound = rig.bound.len();
    rig.anchor.handle_report(rig.now, Report::Refused { stream: id });
    rig.settle();
    assert!(rig.anchor.own.is_empty());
    assert_eq!(rig.bound.len(), bound - 2, "the relay had it after all, and closes it");
    rig.anchor.end(rig.now, 1);
    rig.settle();
    assert_eq!(rig.anchor.sessions(), 0);
}
