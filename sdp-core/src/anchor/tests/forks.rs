//! Forks with lanes of their own (MED-13): what the caller hears, whom it reaches, and that nothing of the losers is left.

use super::*;
use crate::policy::MediaProxy;

const DESK: &str = "10.0.1.61";
const SOFT: &str = "10.0.1.62";

fn wanted(change: impl FnOnce(&mut Config)) -> Rig {
    Rig::new(|config| {
        config.policy.forked = true;
        change(config);
    })
}

fn early(rig: &mut Rig, fork: u64, host: &str, sdp: &str) -> String {
    rig.anchor.set_fork(1, Some(fork));
    rig.answer(1, Side::Inside, host, sdp)
}

/// An offer of phone A, and two early answers: our outside port of each, and the inside one.
fn ringing(rig: &mut Rig) -> ([SocketAddr; 2], SocketAddr) {
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let first = early(rig, 7, DESK, &audio(DESK, 7000));
    let second = early(rig, 8, SOFT, &audio(SOFT, 8000));
    ([first, second].map(|sdp| at(OUTER, ports(&sdp)[0])), at(INNER, ports(&offer)[0]))
}

fn confirm(rig: &mut Rig, fork: u64) -> usize {
    let before = rig.commands.len();
    rig.anchor.confirm_fork(rig.now, 1, fork);
    rig.settle();
    rig.commands.len() - before
}

fn is_bound(rig: &Rig, port: SocketAddr) -> bool {
    rig.bound.values().any(|(rtp, _)| rtp.port() == port.port())
}

/// Where a packet to a port of ours goes, and by which of our ports.
fn way(rig: &mut Rig, to: SocketAddr, from: SocketAddr, n: u16) -> Option<(u16, SocketAddr)> {
    rig.packet(to, from, 64, &rtp(n)).map(|(by, to, _)| (by.port(), to))
}

#[test]
fn each_early_dialog_has_ports_of_its_own_until_one_wins() {
    for limit in [SenderLimit::Lock, SenderLimit::LockIp, SenderLimit::Multiple] {
        for winner in [0, 1] {
            let mut rig = wanted(|config| config.policy.sender_limit = limit);
            let (outer, inner) = ringing(&mut rig);
            assert_ne!(outer[0], outer[1], "each is told a port of its own");
            let ends = [at(DESK, 7000), at(SOFT, 8000)];
            // A symmetric NAT: another port for each of ours.
            let phone = [at(PHONE_A, 61000), at(PHONE_A, 61002)];
            for n in 1..4 {
                for fork in [0, 1] {
                    let sent = way(&mut rig, outer[fork], phone[fork], n);
                    assert_eq!(
                        sent,
                        Some((inner.port(), ends[fork])),
                        "{limit:?}: the caller chooses whom it talks to"
                    );
                    let heard = way(&mut rig, inner, ends[fork], n);
                    assert_eq!(
                        heard,
                        Some((outer[fork].port(), phone[fork])),
                        "{limit:?}: both tones, apart"
                    );
                }
                assert_eq!(way(&mut rig, inner, at("10.0.1.99", 7000), n), None, "nobody else");
            }
            let loser = 1 - winner;
            assert!(confirm(&mut rig, [7, 8][winner]) > 0);
            assert!(is_bound(&rig, outer[winner]) && is_bound(&rig, inner));
            assert!(!is_bound(&rig, outer[loser]), "{limit:?}: the loser's port is closed");
            assert_eq!(way(&mut rig, outer[winner], phone[winner], 5), Some((inner.port(), ends[winner])));
            assert_eq!(way(&mut rig, inner, ends[winner], 5), Some((outer[winner].port(), phone[winner])));
            assert_eq!(way(&mut rig, inner, ends[loser], 5), None, "{limit:?}: who lost is heard no more");
            assert_eq!(rig.anchor.sessions[&1].streams.len(), 1);
            assert_eq!(confirm(&mut rig, [7, 8][winner]), 0, "once is enough");
            // The call goes on: the re-INVITE keeps the winner's ports.
            rig.anchor.set_fork(1, None);
            let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
            assert_eq!(ports(&offer), [inner.port()]);
            let answer = rig.answer(1, Side::Inside, DESK, &audio(DESK, 9000));
            assert_eq!(ports(&answer), [outer[winner].port()]);
            rig.anchor.end(rig.now, 1);
            rig.settle();
            assert!(!is_bound(&rig, outer[winner]) && !is_bound(&rig, inner));
            assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (0, 0));
        }
    }
}

#[test]
fn a_caller_that_talks_to_one_hears_the_other_too() {
    for proxy in [MediaProxy::No, MediaProxy::Use] {
        let mut rig = wanted(|config| config.policy.proxy = proxy);
        let (outer, inner) = ringing(&mut rig);
        for (silent, spoken, from) in [(0, 1, at(DESK, 7000)), (1, 0, at(SOFT, 8000))] {
            rig.packet(outer[spoken], at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
            let heard = way(&mut rig, inner, from, 1);
            assert_eq!(heard, Some((outer[silent].port(), at(PHONE_A, 61000))), "{proxy:?}");
        }
    }
}

#[test]
fn the_200_of_the_winner_says_what_its_183_said() {
    let mut rig = wanted(|_| {});
    let (outer, _) = ringing(&mut rig);
    for (fork, host, port, told) in [(7, DESK, 7000, outer[0]), (8, SOFT, 8000, outer[1])] {
        let commands = rig.commands.len();
        assert_eq!(ports(&early(&mut rig, fork, host, &audio(host, port))), [told.port()]);
        assert_eq!(rig.commands.len(), commands, "a copy changes nothing");
    }
    confirm(&mut rig, 7);
    assert_eq!(ports(&early(&mut rig, 7, DESK, &audio(DESK, 7000))), [outer[0].port()]);
    // A late word of who lost has no lane any more; who was confirmed has it back.
    assert_eq!(ports(&early(&mut rig, 8, SOFT, &audio(SOFT, 8000))), [outer[0].port()]);
    assert!(confirm(&mut rig, 7) > 0);
    rig.packet(outer[0], at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    assert_eq!(way(&mut rig, outer[0], at(PHONE_A, 61000), 2).unwrap().1, at(DESK, 7000));
}

#[test]
fn lanes_are_bounded_by_the_streams_of_a_session_and_by_their_number() {
    for (max_streams, lanes) in [(1, 1), (3, 3), (6, 6), (32, 8)] {
        let mut rig = wanted(|config| config.policy.max_streams = max_streams);
        rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
        let mut told = std::collections::BTreeSet::new();
        for fork in 0..40 {
            let sdp = audio(DESK, 7000 + 2 * fork as u16);
            told.extend(ports(&early(&mut rig, fork, DESK, &sdp)));
            assert!(rig.anchor.sessions[&1].streams.len() <= lanes);
        }
        assert!(told.len() <= 40);
        // Who has no lane of its own shares one, and who answered last there is talked to.
        assert_eq!(confirm(&mut rig, 0), 0, "forgotten");
        assert!(confirm(&mut rig, 39) <= 3 + lanes);
        assert_eq!(rig.anchor.sessions[&1].streams.len(), 1);
        rig.anchor.end(rig.now, 1);
        rig.settle();
        assert_eq!(rig.table.bound(), rig.bound.len());
    }
}

#[test]
fn a_lane_without_a_port_is_shared_with_who_answered_last() {
    let mut rig = wanted(|_| {});
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let first = early(&mut rig, 7, DESK, &audio(DESK, 7000));
    // The relay is out of reach: no lease is worth anything.
    rig.anchor.lost(rig.now);
    while rig.anchor.poll_command().is_some() {}
    rig.anchor.set_fork(1, Some(8));
    let second =
        rig.anchor.answer(rig.now, 1, Side::Inside, ip(SOFT), ip(PHONE_A), audio(SOFT, 8000).as_bytes());
    assert_eq!(second.unwrap(), first.as_bytes());
    rig.settle();
    let outer = at(OUTER, ports(&first)[0]);
    assert_eq!(way(&mut rig, outer, at(PHONE_A, 61000), 1).unwrap().1, at(SOFT, 8000));
    // Both are heard there until one wins.
    let sources = rig.anchor.sessions[&1].streams[0].setup.inside.sources.clone();
    assert!(sources.contains(&ip(DESK)) && sources.contains(&ip(SOFT)));
    confirm(&mut rig, 7);
    assert_eq!(way(&mut rig, outer, at(PHONE_A, 61000), 2).unwrap().1, at(DESK, 7000));
}

#[test]
fn who_answers_from_outside_shares_what_was_offered_there() {
    let mut rig = wanted(|_| {});
    let offer = rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&offer)[0]);
    let mut told = Vec::new();
    for (fork, host, port) in [(7, "192.168.1.7", 30000), (8, "192.168.1.8", 30002)] {
        rig.anchor.set_fork(1, Some(fork));
        told.push(ports(&rig.answer(1, Side::Outside, PHONE_A, &audio(host, port))));
    }
    assert_eq!(told[0], told[1]);
    for from in [61000, 61002] {
        assert!(rig.packet(outer, at(PHONE_A, from), 55, &rtp(from)).is_some(), "each is heard");
    }
}

#[test]
fn what_one_declines_another_may_accept() {
    let mut rig = wanted(|_| {});
    let video =
        |host: &str, port: u16, other: u16| format!("{}m=video {other} RTP/AVP 99\r\n", audio(host, port));
    let offer = rig.offer(1, Side::Outside, PHONE_A, &video("192.168.1.7", 30000, 30002));
    let first = ports(&early(&mut rig, 7, DESK, &video(DESK, 7000, 0)));
    let second = ports(&early(&mut rig, 8, SOFT, &video(SOFT, 8000, 8002)));
    assert_eq!(first[1], 0);
    assert!(second[1] != 0 && second[0] != first[0]);
    confirm(&mut rig, 8);
    let inner = at(INNER, ports(&offer)[1]);
    rig.packet(at(OUTER, second[1]), at(PHONE_A, 61002), 55, &rtp_of(99, 1)).unwrap();
    let heard = rig.packet(inner, at(SOFT, 8002), 64, &rtp_of(99, 1)).unwrap();
    assert_eq!((heard.0.port(), heard.1), (second[1], at(PHONE_A, 61002)));
    assert_eq!(rig.anchor.sessions[&1].streams.len(), 2);
}

fn rtp_of(payload_type: u8, sequence: u16) -> Vec<u8> {
    let mut packet = rtp(sequence);
    packet[1] = payload_type;
    packet
}

#[test]
fn a_ring_group_of_our_own_phones_is_joined_lane_by_lane() {
    let mut rig = wanted(|_| {});
    // Phone A calls; a PBX that is a proxy rings two of our phones, and passes both early answers on.
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let phones = [(2, PHONE_B, "192.168.2.8"), (3, "198.51.100.9", "192.168.3.9")];
    let mut outer = Vec::new();
    for (session, phone, host) in phones {
        rig.offer(session, Side::Inside, PBX, &offer);
        let answer = rig.answer(session, Side::Outside, phone, &audio(host, 40000));
        rig.anchor.set_fork(1, Some(session));
        let told = rig.answer(1, Side::Inside, PBX, &answer);
        outer.push((at(OUTER, ports(&told)[0]), rig.anchor.sessions[&session].streams[0].outside.rtp));
    }
    for (n, (told, _)) in outer.clone().into_iter().enumerate() {
        rig.packet(told, at(PHONE_A, 61000 + 2 * n as u16), 55, &rtp(1));
    }
    let speak = |rig: &mut Rig, of: usize, n| {
        let (_, phone, _) = phones[of];
        let theirs = at(OUTER, outer[of].1.port());
        rig.packet(theirs, at(phone, 50000), 55, &rtp(n)).map(|(by, to, _)| (by.port(), to))
    };
    for of in [0, 1] {
        let heard = (outer[of].0.port(), at(PHONE_A, 61000 + 2 * of as u16));
        assert_eq!(speak(&mut rig, of, 2), Some(heard), "in one hop");
    }
    // The second wins, whose lane is not what the offer opened: the two stay joined.
    confirm(&mut rig, 3);
    rig.anchor.end(rig.now, 2);
    rig.settle();
    assert_eq!(speak(&mut rig, 1, 3), Some((outer[1].0.port(), at(PHONE_A, 61002))));
    let back = rig.packet(outer[1].0, at(PHONE_A, 61002), 55, &rtp(3)).map(|(by, to, _)| (by.port(), to));
    assert_eq!(back, Some((outer[1].1.port(), at("198.51.100.9", 50000))));
    for session in [1, 3] {
        rig.anchor.end(rig.now, session);
    }
    rig.settle();
    assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (0, 0));
}

#[test]
fn lanes_survive_the_process_and_the_relay() {
    let mut rig = wanted(|config| config.keep_state = true);
    let (outer, inner) = ringing(&mut rig);
    let ends = [at(DESK, 7000), at(SOFT, 8000)];
    for fork in [0, 1] {
        rig.packet(outer[fork], at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    }
    // Another signalling process finds them at the relay.
    let mut left = Left::default();
    rig.table.handle_command(rig.now, Command::Snapshot);
    while let Some(action) = rig.table.poll_action(rig.now) {
        if let Action::Report(report) = action {
            left.add(report);
        }
    }
    let mut config = Config::new(rig.anchor.config.outside, rig.anchor.config.inside);
    (config.policy.forked, config.keep_state) = (true, true);
    rig.anchor = Anchor::new(rig.now, config);
    rig.anchor.take_over(rig.now, &left);
    rig.settle();
    for fork in [0, 1] {
        assert_eq!(way(&mut rig, inner, ends[fork], 2).unwrap().0, outer[fork].port());
    }
    // And the relay is another one.
    rig.table =
        Table::new(rig.now, table::Config::new(rig.anchor.config.outside, rig.anchor.config.inside, [6; 32]));
    rig.bound.clear();
    assert_eq!(rig.anchor.rejoin(rig.now, &Left::default()), 2);
    rig.settle();
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Refused { .. })));
    for fork in [0, 1] {
        let sent = rig.packet(outer[fork], at(PHONE_A, 61000), 55, &rtp(3)).unwrap();
        assert_eq!(sent.1, ends[fork]);
        assert_eq!(way(&mut rig, inner, ends[fork], 3).unwrap().0, outer[fork].port());
    }
    confirm(&mut rig, 8);
    assert!(is_bound(&rig, outer[1]) && is_bound(&rig, inner) && !is_bound(&rig, outer[0]));
}

#[test]
fn an_offer_in_an_early_dialog_ends_the_others() {
    let mut rig = wanted(|_| {});
    let (outer, inner) = ringing(&mut rig);
    rig.anchor.set_fork(1, None);
    let offer = rig.offer(1, Side::Inside, SOFT, &audio(SOFT, 8800));
    assert_eq!(ports(&offer), [outer[1].port()]);
    let answer = rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(ports(&answer), [inner.port()]);
    assert!(!is_bound(&rig, outer[0]));
    assert_eq!(way(&mut rig, outer[1], at(PHONE_A, 61000), 1).unwrap().1, at(SOFT, 8800));
    assert_eq!(confirm(&mut rig, 8), 0);
}
