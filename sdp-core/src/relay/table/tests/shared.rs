//! Streams of one session on one inside pair: two forks of an offer from outside.

use super::*;

const FIRST: &str = "10.0.1.61:7000";
const SECOND: &str = "10.0.1.62:8000";

/// A leg of the answering side that is described so.
fn described(mut setup: StreamSetup, at: &str) -> StreamSetup {
    let at: SocketAddr = at.parse().unwrap();
    let rtcp = (at.ip(), at.port() + 1).into();
    setup.inside.remote = Some(Remote { rtp: at, rtcp });
    setup.inside.sources = vec![at.ip()];
    setup
}

/// A stream, and another of its session on the same inside pair; our ports: outside of both, inside.
fn two(rig: &mut Rig) -> ([StreamSetup; 2], [SocketAddr; 3]) {
    let (first, outside, inside) = rig.open(1, HopLimit::Keep);
    let other = rig.lease(OUT, 1)[0];
    let id = StreamId { session: 1, index: 1 };
    let mut second = StreamSetup { id, ..first.clone() };
    second.outside.pair = other.id;
    let (first, second) = (described(first, FIRST), described(second, SECOND));
    rig.tell(Command::Update { stream: first.clone() });
    rig.tell(Command::Open { stream: second.clone() });
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Refused { .. })));
    ([first, second], [outside.rtp, other.rtp, inside.rtp])
}

/// The ports by which a packet to the shared port leaves.
fn leaves(rig: &mut Rig, inside: SocketAddr, from: &str, n: u16) -> Option<(SocketAddr, SocketAddr)> {
    rig.packet(inside, from, 64, &rtp(n)).map(|(by, to, _)| (by, to))
}

#[test]
fn each_end_is_heard_on_ports_of_its_own() {
    let mut rig = Rig::new(|_| {});
    let (_, [one, two, inside]) = two(&mut rig);
    // The phone speaks to both ports; each packet goes to whom they stand for.
    for (port, to, from) in [(one, FIRST, "198.51.100.1:4000"), (two, SECOND, "198.51.100.1:4002")] {
        let sent = rig.packet(port, from, 64, &rtp(1)).unwrap();
        assert_eq!((sent.0, sent.1), (inside, to.parse().unwrap()));
    }
    for n in 1..9 {
        assert_eq!(leaves(&mut rig, inside, FIRST, n), Some((one, "198.51.100.1:4000".parse().unwrap())));
        assert_eq!(leaves(&mut rig, inside, SECOND, n), Some((two, "198.51.100.1:4002".parse().unwrap())));
        assert_eq!(leaves(&mut rig, inside, "10.0.1.63:8000", n), None, "a stranger is heard by neither");
    }
    // From another port of a known address; reports by their own port.
    assert_eq!(leaves(&mut rig, inside, "10.0.1.62:9000", 1).map(|sent| sent.0), Some(two));
}

#[test]
fn whoever_stays_has_the_pair_and_the_last_one_closes_it() {
    for stays in [0, 1] {
        let mut rig = Rig::new(|_| {});
        let (setups, ports) = two(&mut rig);
        let bound = rig.bound.len();
        let (winner, loser) = (setups[stays].id, setups[1 - stays].id);
        rig.tell(Command::Close { stream: loser });
        assert!(rig.table.shared.is_empty());
        assert!(!rig.bound.values().any(|(rtp, _)| *rtp == ports[1 - stays]), "its port is closed");
        assert!(rig.bound.values().any(|(rtp, _)| *rtp == ports[2]), "the shared one is not");
        let from = [FIRST, SECOND][stays];
        rig.packet(ports[stays], "198.51.100.1:4000", 64, &rtp(1)).unwrap();
        assert_eq!(leaves(&mut rig, ports[2], from, 1).map(|sent| sent.0), Some(ports[stays]));
        assert_eq!(leaves(&mut rig, ports[2], [SECOND, FIRST][stays], 2), None, "who lost is not heard");
        rig.tell(Command::Update { stream: setups[stays].clone() });
        rig.tell(Command::Close { stream: winner });
        rig.tell(Command::Close { stream: winner });
        assert_eq!(rig.bound.len(), bound - 3);
        assert!(rig.table.shared.is_empty() && rig.table.by_id.is_empty());
    }
}

#[test]
fn a_port_that_was_used_rests_whoever_has_it_last() {
    let mut rig = Rig::new(|_| {});
    let (first, outside, inside) = rig.open(1, HopLimit::Keep);
    let other = rig.lease(OUT, 1)[0];
    let mut second = StreamSetup { id: StreamId { session: 1, index: 1 }, ..first.clone() };
    second.outside.pair = other.id;
    (second.outside.live, second.inside.live) = (false, false);
    rig.tell(Command::Open { stream: second.clone() });
    rig.packet(outside.rtp, "198.51.100.1:4000", 64, &rtp(1));
    rig.tell(Command::Close { stream: first.id });
    rig.tell(Command::Close { stream: second.id });
    assert!(!rig.bound.values().any(|(rtp, _)| *rtp == inside.rtp), "who used it may send to it for a while");
    assert!(rig.bound.values().any(|(rtp, _)| *rtp == other.rtp), "nobody used the one that was not shared");
}

#[test]
fn the_end_of_the_session_closes_all_of_it() {
    let mut rig = Rig::new(|_| {});
    let before = rig.bound.len();
    let (_, ports) = two(&mut rig);
    rig.tell(Command::End { session: 1 });
    assert!(ports.iter().all(|port| !rig.bound.values().any(|(rtp, _)| rtp == port)));
    assert!(rig.table.shared.is_empty() && rig.table.streams.iter().all(Option::is_none));
    // Everything else that was leased is there.
    assert!(rig.bound.len() <= before);
}

#[test]
fn a_phone_that_was_found_by_one_is_sent_to_by_the_other() {
    let mut rig = Rig::new(|_| {});
    let (mut setups, [one, two, inside]) = two(&mut rig);
    for setup in &mut setups {
        setup.outside.remote = None;
        rig.tell(Command::Update { stream: setup.clone() });
    }
    assert_eq!(leaves(&mut rig, inside, SECOND, 1), None, "nobody knows where the phone is");
    rig.packet(one, "198.51.100.1:4444", 64, &rtp(1)).unwrap();
    let phone = "198.51.100.1:4444".parse().unwrap();
    assert_eq!(
        leaves(&mut rig, inside, SECOND, 2),
        Some((two, phone)),
        "by its own port, to where it was found"
    );
    assert_eq!(rig.statistics(setups[1].id).0.sent, 1);
    // Until it speaks to that port, from wherever.
    rig.packet(two, "198.51.100.1:5555", 64, &rtp(1)).unwrap();
    assert_eq!(leaves(&mut rig, inside, SECOND, 3), Some((two, "198.51.100.1:5555".parse().unwrap())));
    // What it holds is not sent to.
    setups[1].outside.wanted = false;
    rig.tell(Command::Update { stream: setups[1].clone() });
    assert_eq!(leaves(&mut rig, inside, SECOND, 4), None);
}

#[test]
fn nobody_shares_with_another_session_or_another_side() {
    let mut rig = Rig::new(|_| {});
    let (first, _, _) = rig.open(1, HopLimit::Keep);
    let other = rig.lease(OUT, 1)[0];
    let mut second = StreamSetup { id: StreamId { session: 2, index: 0 }, ..first.clone() };
    second.outside.pair = other.id;
    rig.tell(Command::Open { stream: second.clone() });
    assert!(rig.reports.contains(&Report::Refused { stream: second.id }));
    assert!(rig.table.shared.is_empty());
}

#[test]
fn both_come_back_at_another_relay() {
    let mut rig = Rig::new(|_| {});
    let (setups, _) = two(&mut rig);
    rig.reports.clear();
    rig.tell(Command::Snapshot);
    let Some(Report::Snapshot { pairs, .. }) = rig.reports.pop() else { panic!("{:?}", rig.reports) };
    let mut next = Rig::new(|config| config.seed = [1; 32]);
    let of = |setup: &StreamSetup| {
        let mut own: Vec<Pair> = Vec::new();
        for id in [setup.outside.pair, setup.inside.pair] {
            own.extend(pairs.iter().find(|pair| pair.id == id));
        }
        Command::Restore { stream: setup.clone(), pairs: own }
    };
    // Both are said before either is bound.
    next.table.handle_command(next.now, of(&setups[0]));
    next.table.handle_command(next.now, of(&setups[1]));
    next.act();
    assert_eq!(next.table.by_id.len(), 2, "{:?}", next.reports);
    assert_eq!(next.table.shared.len(), 1);
    let inside = pairs.iter().find(|pair| pair.id == setups[0].inside.pair).unwrap().rtp;
    let one = leaves(&mut next, inside, FIRST, 1).unwrap().0;
    let two = leaves(&mut next, inside, SECOND, 1).unwrap().0;
    assert_ne!(one, two);
}
