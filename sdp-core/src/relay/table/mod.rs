//! All ports and streams of a relay, and its answers to commands. The driver lends it a clock and sockets.

mod commands;
mod driven;
mod leases;
mod moving;
mod restore;
mod shared;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore as _, SeedableRng};

pub use self::moving::{Move, Moving, Ticket};
use super::checks::Answer;
use super::command::{Kept, Realm, Side, StreamId};
use super::loop_guard::OwnPorts;
use super::pool::Pool;
use super::report::{Pair, PairId, Report};
use super::silence::Heard;
use super::stream::changes::Worked;
use super::stream::{Packet, Passed, Stream, Verdict};
use crate::policy::Addresses;
use crate::srtp::GROWTH;

/// What a table is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses towards the phones.
    pub outside: Addresses,
    /// Addresses towards the PBX.
    pub inside: Addresses,
    /// Ports of both; 16384–32767, outside the kernel's ephemeral range (decision 15).
    pub ports: RangeInclusive<u16>,
    /// Pairs bound ahead of need, over all addresses; 256.
    pub pool: usize,
    /// Pairs bound at once, at most.
    pub capacity: usize,
    /// Why `pool` or `capacity` is less than wanted, for the `Ready` report.
    pub shortage: Option<String>,
    /// How long a used port rests; 30 s.
    pub rest: Duration,
    /// How long an unused lease lasts; 300 s. The anchor's own figure is shorter.
    pub lease_lifetime: Duration,
    /// Between two `Statistics` of a stream; 5 s.
    pub statistics_interval: Duration,
    /// DSCP of what the driver sends, 0 to 63; 46, expedited forwarding (RFC 3246). It is set where a port is bound.
    pub dscp: u8,
    /// Chooses the ports.
    pub seed: [u8; 32],
    /// What carries packets; for the driver.
    pub engine: Engine,
    /// Threads that carry packets; 0: one for each core; 1. For the driver, which has a table for each.
    pub workers: usize,
    /// Streams of a worker before the next one gets any: few packets wake few threads. When all have so many, the one with fewest
    /// gets the next. 200, a fifth of a core or so.
    pub fill: usize,
}

/// What carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// io_uring where the kernel has what it takes, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Epoll.
    Epoll,
}

impl Config {
    /// The defaults for these addresses.
    pub fn new(outside: Addresses, inside: Addresses, seed: [u8; 32]) -> Self {
        Self {
            outside,
            inside,
            ports: 16384..=32767,
            pool: 256,
            capacity: usize::MAX,
            shortage: None,
            rest: Duration::from_secs(30),
            lease_lifetime: Duration::from_secs(300),
            statistics_interval: Duration::from_secs(5),
            dscp: 46,
            seed,
            engine: Engine::Auto,
            workers: 1,
            fill: 200,
        }
    }

    /// The ports of all tables of a relay like this.
    pub fn own_ports(&self) -> OwnPorts {
        let addresses = [self.outside, self.inside];
        let of =
            |addresses: &Addresses| addresses.families().filter_map(|f| addresses.of(f)).collect::<Vec<_>>();
        let all = addresses.iter().flat_map(of);
        OwnPorts::of(all.flat_map(|address| [address.local, address.advertised]))
    }
}

/// A bound pair as the driver knows it: an index that is used again only after [`Action::Close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bind two sockets; answered by [`Table::handle_bound`] or [`Table::handle_bind_failed`] before the next action.
    Bind {
        /// For RTP.
        rtp: SocketAddr,
        /// For RTCP.
        rtcp: SocketAddr,
    },
    /// Close the sockets of a slot.
    Close(Slot),
    /// Tell the table that binds that the ports of this pair are closed: [`Table::handle_closed`].
    Rest(Pair),
    /// Give the sockets of a slot back to the table that binds, unused: [`Table::handle_returned`].
    Return {
        /// Whose sockets.
        slot: Slot,
        /// The pair that they are.
        pair: Pair,
    },
    /// Hand a stream to another table, with the sockets of its slots, outside and inside; [`Table::departed`] has it. `None`:
    /// there is no such stream, and who waits for it is to be told so.
    Give {
        /// What was ordered.
        order: Move,
        /// Its sockets.
        slots: Option<[Slot; 2]>,
    },
    /// Hand this to the anchor.
    Report(Report),
}

/// A packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// By the sockets of this slot.
    pub slot: Slot,
    /// The port, and the hop limit to send with.
    pub passed: Passed,
    /// To there.
    pub to: SocketAddr,
    /// Not the packet that came: what [`Table::answer`] holds, back to who sent it.
    pub answer: bool,
    /// Not the packet that came: what [`Table::changed`] made of it.
    pub changed: bool,
}

/// Why a pair could not be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindFailure {
    /// One of the two is somebody else's: try others.
    Busy,
    /// No other pair will do better: the address is not ours, or the process has no descriptor left.
    Fatal(String),
}

/// Ports and streams.
#[derive(Debug)]
pub struct Table {
    config: Config,
    random: ChaCha12Rng,
    realms: Vec<(Realm, RealmState)>,
    slots: Vec<Option<Bound>>,
    vacant: Vec<usize>,
    pairs: HashMap<PairId, usize>,
    next_pair: u64,
    own: OwnPorts,
    streams: Vec<Option<Entry>>,
    by_id: HashMap<StreamId, usize>,
    records: HashMap<u64, Kept>,
    wants: VecDeque<Want>,
    binding: Option<(Realm, Pair)>,
    actions: VecDeque<Action>,
    reports: VecDeque<Report>,
    tick: Instant,
    answer: Answer,
    /// A packet that does not leave as it came.
    room: Vec<u8>,
    /// Pairs a realm keeps bound ahead of need.
    share: usize,
    /// Ports are bound here, leased and put to rest: one table of a relay does.
    binds: bool,
    /// Pairs bound here that other tables have.
    away: usize,
    /// Streams that are to leave, in the order of [`Action::Give`].
    leaving: VecDeque<Moving>,
    /// Slots that several streams share, and those, the owner first.
    shared: HashMap<usize, Vec<usize>>,
}

#[derive(Debug)]
struct RealmState {
    local: IpAddr,
    advertised: IpAddr,
    pool: Pool,
    free: VecDeque<usize>,
}

#[derive(Debug)]
struct Bound {
    pair: Pair,
    usage: Usage,
    /// A stream that shared it has used it: somebody may still send there, whoever has it last.
    used: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Free,
    Leased { until: Instant },
    Kept,
    Stream { at: usize, side: Side, shared: bool },
}

#[derive(Debug)]
struct Entry {
    stream: Stream,
    outside: usize,
    inside: usize,
    joined: Option<usize>,
    statistics_due: Instant,
}

/// Pairs to bind until so many are free, and then a lease to answer.
#[derive(Debug)]
struct Want {
    realm: Realm,
    free: usize,
    lease: Option<u16>,
    busy: u32,
    /// Instead of all that: certain pairs, for a stream that had them.
    exact: Option<Box<restore::Exact>>,
}

/// Octets that a packet needs which is changed.
const ROOM: usize = 2048 + GROWTH;
const TICK: Duration = Duration::from_secs(1);

impl Table {
    /// A table without a port; its first actions bind the pool.
    pub fn new(now: Instant, config: Config) -> Self {
        let own = config.own_ports();
        Self::among(now, config, own, true)
    }

    /// One of several tables of a relay. The one that `binds` has the ports, opens every stream and hands it on ([`Move`]); to
    /// the others streams come.
    pub fn among(now: Instant, config: Config, own: OwnPorts, binds: bool) -> Self {
        let mut realms = Vec::new();
        for (side, addresses) in [(Side::Outside, config.outside), (Side::Inside, config.inside)] {
            for family in addresses.families() {
                if let Some(address) = addresses.of(family) {
                    let state = RealmState {
                        local: address.local,
                        advertised: address.advertised,
                        pool: if binds { Pool::new(&config.ports, config.rest) } else { Pool::none() },
                        free: VecDeque::new(),
                    };
                    realms.push((Realm { side, family }, state));
                }
            }
        }
        // The two sides may share an address (a bench on one interface): then they share its ports by failing to bind.
        let share = config.pool.min(config.capacity).checked_div(realms.len()).unwrap_or(0);
        let wants = realms
            .iter()
            .filter(|_| binds)
            .map(|(realm, _)| Want { realm: *realm, free: share, lease: None, busy: 0, exact: None })
            .collect();
        let ready = Report::Ready {
            pool: share * realms.len(),
            capacity: config.capacity,
            shortage: config.shortage.clone(),
        };
        let mut random = ChaCha12Rng::from_seed(config.seed);
        // The anchor may bring pairs of the relay before us.
        let next_pair = random.next_u64() >> 1;
        Self {
            random,
            realms,
            slots: Vec::new(),
            vacant: Vec::new(),
            pairs: HashMap::new(),
            next_pair,
            own,
            streams: Vec::new(),
            by_id: HashMap::new(),
            records: HashMap::new(),
            wants,
            binding: None,
            actions: VecDeque::new(),
            reports: binds.then_some(ready).into_iter().collect(),
            tick: now + TICK,
            answer: Answer::default(),
            room: Vec::with_capacity(ROOM),
            share,
            binds,
            away: 0,
            leaving: VecDeque::new(),
            shared: HashMap::new(),
            config,
        }
    }

    /// Takes a packet that came to a slot. `Some`: send the same bytes there, or what it says. The whole packet path: no allocation, no
    /// lock, no clock of its own.
    pub fn handle_packet(&mut self, now: Instant, slot: Slot, packet: &Packet<'_>) -> Option<Forward> {
        let Usage::Stream { at, side, shared } = self.slots.get(slot.0)?.as_ref()?.usage else { return None };
        let at = if shared { self.belongs(slot, at, side, packet) } else { at };
        let entry = self.streams.get_mut(at)?.as_mut()?;
        let joined = entry.joined.filter(|_| side == Side::Outside);
        let changes = entry.stream.changes(side);
        let mut worked = Worked::new(packet.bytes, &mut self.room);
        let mut opened = None;
        if changes {
            opened = entry.stream.open(now, side, packet, &mut worked).ok()?;
        }
        let bytes = worked.octets();
        let clear = Packet { bytes, ..*packet };
        let octets = bytes.len();
        let verdict =
            entry.stream.handle_packet(now, side, &clear, &self.own, &mut self.answer, &mut self.reports);
        let passed = match verdict {
            Verdict::Pass(passed) => passed,
            Verdict::Answer(passed) => {
                let (to, answer, changed) = (packet.source, true, false);
                return Some(Forward { slot, passed, to, answer, changed });
            }
            Verdict::Drop => return None,
        };
        let mut speaker = None;
        if changes {
            speaker = entry.stream.accept(side, packet, opened, &mut worked);
        }
        // Joined streams meet inside: from the outside of one to the outside of the other, in one hop.
        let (out, leaving) = match joined {
            Some(other) => (other, Side::Outside),
            None => (at, side.other()),
        };
        let mut replayed = false;
        let sent = self.streams.get_mut(out).and_then(Option::as_mut).and_then(|entry| {
            if entry.stream.changes(leaving) {
                replayed = entry.stream.change(now, leaving, passed, speaker, &mut worked).is_err();
            }
            if replayed {
                return None;
            }
            let to = entry.stream.leave(now, leaving, passed, octets)?;
            let changed = worked.is_changed();
            Some(Forward { slot: Slot(entry.slot(leaving)), passed, to, answer: false, changed })
        });
        let changed = worked.is_changed();
        let sent = match sent {
            None if !replayed => self.found_beside(now, (out, leaving), passed, octets, changed),
            sent => sent,
        };
        if sent.is_none()
            && let Some(entry) = self.streams.get_mut(at).and_then(Option::as_mut)
        {
            match replayed {
                true => entry.stream.dropped_mut(side).replay += 1,
                false => entry.stream.count_no_receiver(side),
            }
        }
        sent
    }

    /// What the driver's packets are marked with.
    pub fn dscp(&self) -> u8 {
        self.config.dscp
    }

    /// The answer of the last [`Forward`] that was one.
    pub fn answer(&self) -> &[u8] {
        self.answer.bytes()
    }

    /// The packet of the last [`Forward`] that was changed.
    pub fn changed(&self) -> &[u8] {
        &self.room
    }

    /// When [`Table::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        self.tick
    }

    /// Time has passed: leases expire, statistics are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.tick {
            return;
        }
        self.tick = now + TICK;
        self.expire_leases(now);
        self.shrink(now);
        for at in 0..self.streams.len() {
            let Some(entry) = self.streams.get_mut(at).and_then(Option::as_mut) else { continue };
            if now >= entry.statistics_due {
                entry.statistics_due = now + self.config.statistics_interval;
                let report = entry.statistics(false);
                self.reports.push_back(report);
                self.reports.extend(entry.stream.reached());
            }
        }
        self.listen(now);
    }

    /// Tells who has fallen silent, and closes the streams that are to end by it.
    fn listen(&mut self, now: Instant) {
        let mut over = Vec::new();
        for at in 0..self.streams.len() {
            let heard = |at: usize, side: Side| -> Option<Heard> {
                Some(self.streams.get(at)?.as_ref()?.stream.heard(side))
            };
            let joined = self.streams.get(at).and_then(Option::as_ref).and_then(|entry| entry.joined);
            // Of joined streams the outside ends are the two that speak.
            let other = joined.map_or((at, Side::Inside), |other| (other, Side::Outside));
            let (Some(outside), Some(inside)) = (heard(at, Side::Outside), heard(other.0, other.1)) else {
                continue;
            };
            let Some(entry) = self.streams.get_mut(at).and_then(Option::as_mut) else { continue };
            if entry.stream.listen(now, [outside, inside], &mut self.reports) {
                over.push(entry.stream.setup().id);
            }
        }
        over.into_iter().for_each(|stream| self.close(now, stream));
    }

    /// How many pairs that were bound here other tables have now.
    pub fn lent(&self) -> usize {
        self.away
    }

    /// How many pairs this table has now.
    pub fn bound(&self) -> usize {
        self.pairs.len()
    }

    /// How many pairs are promised and not used yet.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.slots.iter().flatten().filter(|bound| bound.usage == Usage::Kept).count()
    }

    fn realm_mut(&mut self, realm: Realm) -> Option<&mut RealmState> {
        self.realms.iter_mut().find(|(name, _)| *name == realm).map(|(_, state)| state)
    }
}

impl Entry {
    fn slot(&self, side: Side) -> usize {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }

    fn statistics(&self, ended: bool) -> Report {
        Report::Statistics {
            stream: self.stream.setup().id,
            outside: Box::new(self.stream.statistics(Side::Outside)),
            inside: Box::new(self.stream.statistics(Side::Inside)),
            ended,
        }
    }
}

#[cfg(test)]
mod tests;
