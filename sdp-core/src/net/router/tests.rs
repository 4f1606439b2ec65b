//! Several tables under a router do what one table does, in whatever order their threads run.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::policy::{Family, HopLimit};
use crate::relay::command::{Kind, LegSetup, Realm, Remote, Side};
use crate::relay::report::{Component, Pair, Report};
use crate::relay::stream::Packet;
use crate::relay::table::{Action, Config, Moving, Slot, Table};

const WORKERS: usize = 3;
/// Pairs of each side.
const PAIRS: usize = 12;

/// What a thread has, without thread and sockets.
struct Worker {
    table: Table,
    orders: VecDeque<Order>,
    awaited: Option<Ticket>,
    bound: HashMap<Slot, SocketAddr>,
}

struct Crew {
    now: Instant,
    router: Option<Router>,
    workers: Vec<Worker>,
    arrived: HashMap<Ticket, Option<(Moving, [SocketAddr; 2])>>,
    /// Pairs on their way back to the first.
    returned: VecDeque<(Pair, SocketAddr)>,
    reports: Vec<Report>,
}

impl Crew {
    fn new(workers: usize, fill: usize) -> Self {
        let now = Instant::now();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap().into();
        let config = Config {
            pool: 2 * PAIRS,
            ports: 16384..=16683,
            ..Config::new(ip("192.0.2.1"), ip("10.0.1.2"), [5; 32])
        };
        let own = config.own_ports();
        let worker = |at| Worker {
            table: Table::among(now, config.clone(), own.clone(), at == FIRST),
            orders: VecDeque::new(),
            awaited: None,
            bound: HashMap::new(),
        };
        let workers: Vec<Worker> = (0..workers).map(worker).collect();
        let router = (workers.len() > 1).then(|| Router::new(workers.len(), fill));
        let (arrived, returned) = (HashMap::new(), VecDeque::new());
        let mut crew = Self { now, router, workers, arrived, returned, reports: Vec::new() };
        crew.settle();
        crew
    }

    fn tell(&mut self, command: Command) {
        match &mut self.router {
            None => self.workers[FIRST].orders.push_back(Order::Command(command)),
            Some(router) => {
                router.route(command).for_each(|(at, order)| self.workers[at].orders.push_back(order));
            }
        }
    }

    /// One order of a worker, and what it wants done then. `false`: there is none that it may execute.
    fn step(&mut self, at: usize) -> bool {
        let worker = &mut self.workers[at];
        if let Some(ticket) = worker.awaited {
            let Some(parcel) = self.arrived.remove(&ticket) else { return false };
            worker.awaited = None;
            if let Some((moving, ports)) = parcel {
                let slots = worker.table.handle_arrival(moving);
                for (slot, port) in slots.into_iter().zip(ports) {
                    assert_eq!(
                        worker.bound.insert(slot, port),
                        None,
                        "a slot is free before it is used again"
                    );
                }
            }
            return true;
        }
        match worker.orders.pop_front() {
            Some(Order::Command(command)) => worker.table.handle_command(self.now, command),
            Some(Order::Give(order)) => worker.table.give(order),
            Some(Order::Await(ticket)) => worker.awaited = Some(ticket),
            Some(Order::Closed(pair)) => worker.table.handle_closed(self.now, pair),
            Some(Order::Returned(..)) => panic!("there are no sockets here"),
            None if at == FIRST => {
                let Some((pair, port)) = self.returned.pop_front() else { return false };
                let slot = worker.table.handle_returned(pair);
                assert_eq!(worker.bound.insert(slot, port), None, "a slot is free before it is used again");
            }
            None => return false,
        }
        true
    }

    /// One action of a worker; `false`: it has none.
    fn act(&mut self, at: usize) -> bool {
        let worker = &mut self.workers[at];
        let Some(action) = worker.table.poll_action(self.now) else { return false };
        match action {
            Action::Bind { rtp, .. } => {
                let slot = worker.table.handle_bound().unwrap();
                assert_eq!(worker.bound.insert(slot, rtp), None, "a slot is free before it is used again");
            }
            Action::Close(slot) => assert!(worker.bound.remove(&slot).is_some()),
            Action::Report(report) => self.reports.push(report),
            Action::Rest(pair) => self.workers[FIRST].orders.push_back(Order::Closed(pair)),
            Action::Return { slot, pair } => {
                self.returned.push_back((pair, worker.bound.remove(&slot).unwrap()));
            }
            Action::Give { order, slots } => {
                let moving = slots.map(|slots| {
                    let ports = slots.map(|slot| worker.bound.remove(&slot).unwrap());
                    (worker.table.departed().unwrap(), ports)
                });
                assert!(self.arrived.insert(order.ticket, moving).is_none());
            }
        }
        true
    }

    /// Until nobody has anything to do; everything that was ordered must have been done by then.
    fn settle(&mut self) {
        while (0..self.workers.len()).fold(false, |any, at| self.step(at) | self.act(at) | any) {}
        for worker in &self.workers {
            assert!(worker.orders.is_empty() && worker.awaited.is_none(), "somebody waits for ever");
        }
        assert!(self.arrived.is_empty() && self.returned.is_empty(), "a stream or a pair is lost");
    }

    fn lease(&mut self) -> [Vec<Pair>; 2] {
        [Side::Outside, Side::Inside].map(|side| {
            self.tell(Command::Lease { realm: Realm { side, family: Family::V4 }, pairs: PAIRS as u16 });
            self.settle();
            let leased = self.reports.drain(..).find_map(|report| match report {
                Report::Leased { pairs, .. } => Some(pairs),
                _ => None,
            });
            leased.unwrap()
        })
    }

    /// For each of our outside ports: by which of our ports a packet leaves that comes there, and whereto.
    fn ways(&mut self) -> Ways {
        let mut ways = BTreeMap::new();
        for worker in &mut self.workers {
            for (slot, port) in &worker.bound {
                let source = (IpAddr::from([198, 51, 100, 1]), 4000).into();
                let bytes = [0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xd5];
                let packet = Packet { component: Component::Rtp, source, hop_limit: Some(64), bytes: &bytes };
                let forward = worker.table.handle_packet(self.now, *slot, &packet);
                ways.insert(*port, forward.map(|forward| (worker.bound[&forward.slot], forward.to)));
            }
        }
        ways
    }

    /// What a new signalling process would be told.
    fn snapshot(&mut self) -> BTreeSet<String> {
        self.reports.clear();
        self.tell(Command::Snapshot);
        self.settle();
        let mut all = BTreeSet::new();
        for report in self.reports.drain(..) {
            let Report::Snapshot { streams, pairs, records, .. } = report else { continue };
            let lines = streams.iter().map(|one| format!("{one:?}"));
            let lines = lines.chain(pairs.iter().map(|one| format!("{one:?}")));
            for line in lines.chain(records.iter().map(|one| format!("{one:?}"))) {
                assert!(all.insert(line), "told twice");
            }
        }
        all
    }
}

fn leg(pair: PairId, port: u16) -> LegSetup {
    let rtp: SocketAddr = (IpAddr::from([203, 0, 113, 1]), port).into();
    LegSetup {
        remote: Some(Remote { rtp, rtcp: rtp }),
        latching: false,
        max_senders: 64,
        max_rate: u32::MAX,
        named: 0,
        ..LegSetup::plain(pair)
    }
}

fn setup(id: StreamId, outside: PairId, inside: PairId) -> StreamSetup {
    let port = 1000 + 10 * id.session as u16 + 2 * id.index as u16;
    StreamSetup {
        id,
        outside: leg(outside, port),
        inside: leg(inside, port + 1),
        hop_limit: HopLimit::Keep,
        rtcp_mux: false,
        secure: false,
        dtls: false,
        payloads: [0].into_iter().collect(),
        kind: Kind::Rtp,
        clocks: Default::default(),
        timeouts: Default::default(),
        direct: false,
        proxy: false,
    }
}

/// What may be commanded, in numbers.
#[derive(Debug, Clone, Copy)]
enum Said {
    Set { stream: StreamId, outside: usize, inside: usize, open: bool },
    Restore { stream: StreamId },
    Join(StreamId, StreamId),
    Part(StreamId),
    Close(StreamId),
    End(u64),
    Record(u64),
    Release,
    Snapshot,
}

fn said() -> impl Strategy<Value = Said> {
    let stream = || (0..4u64, 0..2u32).prop_map(|(session, index)| StreamId { session, index });
    prop_oneof![
        6 => (stream(), 0..PAIRS, 0..PAIRS, any::<bool>())
            .prop_map(|(stream, outside, inside, open)| Said::Set { stream, outside, inside, open }),
        2 => stream().prop_map(|stream| Said::Restore { stream }),
        4 => (stream(), stream()).prop_map(|(a, b)| Said::Join(a, b)),
        1 => stream().prop_map(Said::Part),
        1 => stream().prop_map(Said::Close),
        1 => (0..4u64).prop_map(Said::End),
        1 => (0..4u64).prop_map(Said::Record),
        1 => Just(Said::Release),
        1 => Just(Said::Snapshot),
    ]
}

/// The port of a stream that is restored by this command.
fn restored(at: usize) -> u16 {
    16_600 + 2 * at as u16
}

fn command(said: Said, [outside, inside]: &[Vec<Pair>; 2], at: usize) -> Command {
    match said {
        Said::Set { stream, outside: o, inside: i, open } => {
            let mut stream = setup(stream, outside[o].id, inside[i].id);
            if open {
                // Nobody has answered.
                stream.inside.live = false;
                return Command::Open { stream };
            }
            Command::Update { stream }
        }
        Said::Restore { stream } => {
            let pair = |side, host: [u8; 4], id| {
                // Others each time: ports that were bound rest.
                let port = restored(at);
                let [rtp, rtcp] = [port, port + 1].map(|port| (IpAddr::from(host), port).into());
                Pair { id: PairId(id), realm: Realm { side, family: Family::V4 }, rtp, rtcp }
            };
            let id = 10 * at as u64;
            let pairs = [pair(Side::Outside, [192, 0, 2, 1], id), pair(Side::Inside, [10, 0, 1, 2], id + 1)];
            Command::Restore { stream: setup(stream, PairId(id), PairId(id + 1)), pairs: pairs.into() }
        }
        Said::Join(a, b) => Command::Join { a, b },
        Said::Part(stream) => Command::Part { stream },
        Said::Close(stream) => Command::Close { stream },
        Said::End(session) => Command::End { session },
        Said::Record(session) => Command::Record { session, record: vec![7].into() },
        Said::Release => Command::Release,
        Said::Snapshot => Command::Snapshot,
    }
}

type Ways = BTreeMap<SocketAddr, Option<(SocketAddr, SocketAddr)>>;

fn used(ways: Ways) -> Ways {
    ways.into_iter().filter(|(_, way)| way.is_some()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn three_do_what_one_does(
        all in prop::collection::vec((said(), prop::collection::vec((0..WORKERS, any::<bool>()), 0..12)), 1..40),
        fill in 0..4_usize,
    ) {
        let (mut one, mut three) = (Crew::new(1, 0), Crew::new(WORKERS, fill));
        let restores = all.iter().any(|(said, _)| matches!(said, Said::Restore { .. }));
        let pairs = one.lease();
        prop_assert_eq!(&pairs, &three.lease());
        let (mut waits, mut alive) = (false, BTreeSet::new());
        // Where a stream was refused its pairs, the router does not know which it has: nobody shares those, as the anchor does not.
        let mut unclear = BTreeSet::new();
        for (at, (said, turns)) in all.into_iter().enumerate() {
            // Nobody joins a stream that was refused, or has ended, nor restores one that there is.
            let never = match said {
                Said::Join(a, b) => !alive.contains(&a) || !alive.contains(&b),
                // One that was leased and is on its way back to the first worker is free a moment later than with one table.
                Said::Restore { stream } => alive.contains(&stream) || pairs.iter().flatten().any(|pair| pair.rtp.port() == restored(at)),
                Said::Set { stream, .. } => unclear.contains(&stream.session) && !alive.contains(&stream),
                _ => false,
            };
            if never {
                continue;
            }
            one.reports.clear();
            one.tell(command(said, &pairs, at));
            one.settle();
            let refused = one.reports.iter().any(|report| matches!(report, Report::Refused { .. }));
            match said {
                Said::Set { stream, .. } | Said::Restore { stream, .. } if !refused => drop(alive.insert(stream)),
                Said::Set { stream, .. } => drop(unclear.insert(stream.session)),
                Said::Close(stream) => drop(alive.remove(&stream)),
                Said::End(session) => alive.retain(|stream| stream.session != session),
                _ => {}
            }
            if let Said::End(session) = said {
                unclear.remove(&session);
            }
            // What this does to a stream that still waits for its ports is a matter of time, for one table as well.
            if matches!(said, Said::Set { .. } | Said::Join(..) | Said::Release) && std::mem::take(&mut waits) {
                three.settle();
            }
            waits |= matches!(said, Said::Restore { .. });
            three.tell(command(said, &pairs, at));
            // The threads run as they like.
            for (worker, order) in turns {
                if order { three.step(worker); } else { three.act(worker); }
            }
        }
        three.settle();
        // Which free ports are bound is a matter of time too.
        prop_assert_eq!(used(one.ways()), used(three.ways()));
        prop_assert_eq!(one.snapshot(), three.snapshot());
        let load = three.router.as_ref().map(|router| router.load.clone()).unwrap_or_default();
        for session in 0..4 {
            one.tell(Command::End { session });
            three.tell(Command::End { session });
        }
        one.settle();
        three.settle();
        let first = &three.workers[FIRST];
        prop_assert_eq!(first.table.bound(), first.bound.len());
        prop_assert!(three.workers[1..].iter().all(|worker| worker.table.bound() == 0 && worker.bound.is_empty()));
        prop_assert_eq!(first.table.lent(), 0, "after {:?}", load);
        // What nobody used is as good as new, whoever had it. (What waits for its ports when it ends has some of them, or not yet.)
        prop_assert!(restores || first.table.bound() == one.workers[FIRST].table.bound());
        let router = three.router.unwrap();
        prop_assert!(router.streams.is_empty() && router.load.iter().all(|streams| *streams == 0));
    }
}

#[test]
fn streams_go_where_there_are_fewest_and_joined_ones_meet() {
    let mut crew = Crew::new(WORKERS, 0);
    let [outside, inside] = crew.lease();
    let stream = |session| StreamId { session, index: 0 };
    for session in 0..6 {
        let at = session as usize;
        crew.tell(Command::Open { stream: setup(stream(session), outside[at].id, inside[at].id) });
    }
    crew.settle();
    let homes = |crew: &Crew| -> Vec<usize> {
        crew.router.as_ref().unwrap().streams.values().map(|home| home.worker).collect()
    };
    assert_eq!(homes(&crew), [2, 1, 0, 2, 1, 0]);
    assert_eq!(crew.workers.iter().map(|worker| worker.table.bound()).collect::<Vec<_>>()[1..], [4, 4]);
    crew.tell(Command::Join { a: stream(0), b: stream(1) });
    crew.settle();
    assert_eq!(homes(&crew), [2, 2, 0, 2, 1, 0]);
    let ways = crew.ways();
    assert_eq!(ways[&outside[0].rtp].unwrap().0, outside[1].rtp, "in one hop");
    // New ports for one of the two: it fetches them, and they are joined again.
    crew.tell(Command::Update { stream: setup(stream(1), outside[8].id, inside[8].id) });
    crew.settle();
    let ways = crew.ways();
    assert_eq!(ways[&outside[0].rtp].unwrap().0, outside[8].rtp);
    assert_eq!(ways[&outside[8].rtp].unwrap().0, outside[0].rtp);
    assert!(!ways.contains_key(&outside[1].rtp), "its old port is closed");
    // A part leaves them where they are; the next stream evens it out.
    crew.tell(Command::Part { stream: stream(0) });
    crew.tell(Command::Open { stream: setup(stream(9), outside[9].id, inside[9].id) });
    crew.settle();
    assert_eq!(homes(&crew), [2, 2, 0, 2, 1, 0, 1]);
    assert_eq!(crew.ways()[&outside[0].rtp].unwrap().0, inside[0].rtp);
}

#[test]
fn few_streams_wake_one_worker_and_gaps_are_filled_first() {
    let mut crew = Crew::new(WORKERS, 2);
    let [outside, inside] = crew.lease();
    let stream = |session| StreamId { session, index: 0 };
    let open = |crew: &mut Crew, session: u64| {
        let at = session as usize;
        crew.tell(Command::Open { stream: setup(stream(session), outside[at].id, inside[at].id) });
        crew.settle();
        crew.router.as_ref().unwrap().home(stream(session))
    };
    let homes: Vec<usize> = (0..9).map(|session| open(&mut crew, session)).collect();
    assert_eq!(homes, [0, 0, 1, 1, 2, 2, 2, 1, 0]);
    for session in [0, 1, 8, 3] {
        crew.tell(Command::Close { stream: stream(session) });
    }
    crew.settle();
    assert_eq!([9, 10, 11].map(|session| open(&mut crew, session)), [0, 0, 1]);
}

/// A call that is refused, as each is that has to authenticate, costs no ports for half a minute.
#[test]
fn ports_that_nobody_used_come_back_from_any_worker() {
    let mut crew = Crew::new(WORKERS, 0);
    let [outside, inside] = crew.lease();
    let bound = crew.workers[FIRST].table.bound();
    for (at, live) in [(0, false), (1, false), (2, false), (3, true)] {
        let id = StreamId { session: at, index: 0 };
        let mut stream = setup(id, outside[at as usize].id, inside[at as usize].id);
        stream.inside.live = live;
        crew.tell(Command::Open { stream });
    }
    crew.settle();
    assert_eq!(crew.workers[FIRST].table.lent(), 6);
    (0..4).for_each(|session| crew.tell(Command::End { session }));
    crew.settle();
    let first = &crew.workers[FIRST].table;
    assert_eq!((first.lent(), first.bound()), (0, bound - 2), "those that were used rest");
    // Leased anew, under numbers that nobody was told before.
    let again: Vec<Pair> = crew.lease().concat();
    for pair in [&outside[..3], &inside[..3]].concat() {
        let new = again.iter().find(|new| new.rtp == pair.rtp);
        assert!(new.is_some_and(|new| new.id != pair.id), "{pair:?}");
    }
}
