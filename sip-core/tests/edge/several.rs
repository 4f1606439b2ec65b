//! One or several machines that look like one, joined by literal queues.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use sip_core::edge::bindings::{Binding, Change};
use sip_core::edge::event::Snapshot;
use sip_core::edge::guard::{Offence, Suspect};
use sip_core::edge::{Command, Edge, Event};
use sip_core::flow::{Dial, Peer, Side, Source, Target};
use sip_core::machine::{Fault, Input, Machine, Output};
use sip_core::shard::{Handed, Shard};
use sip_core::token::{InstanceId, address_key};

/// How many machines a world has if its test does not say: `WORLD_SHARDS`, else one.
pub(crate) fn wanted() -> usize {
    std::env::var("WORLD_SHARDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Where the shard stands in the number of a look-up, as the world sees it.
const QUERY: u32 = 48;

pub(crate) struct Several {
    pub(crate) edges: Vec<Edge>,
    /// What is on its way between them.
    crossing: VecDeque<(u8, Input)>,
    /// Changes of location on their way.
    located: VecDeque<(u8, Change)>,
    /// Whether those wait.
    pub(crate) late: bool,
    /// Shards that take no more.
    pub(crate) full: HashSet<u8>,
    /// Messages that crossed.
    pub(crate) crossed: usize,
    inside: usize,
}

impl Several {
    /// Each made by `make`, which gets its number.
    pub(crate) fn new(count: usize, mut make: impl FnMut(u8) -> Edge) -> Self {
        Self {
            edges: Shard::all(count).map(|shard| make(shard.index()).on(shard)).collect(),
            crossing: VecDeque::new(),
            located: VecDeque::new(),
            late: false,
            full: HashSet::new(),
            crossed: 0,
            inside: 0,
        }
    }

    pub(crate) fn shard(&self) -> Shard {
        Shard::all(self.edges.len()).next().unwrap()
    }

    /// Where a connection belongs: a phone's to its certificate, the PBX's to one after the other, the last one first.
    pub(crate) fn place(&mut self, peer: &Peer) -> u8 {
        match (peer.side, &peer.identity) {
            (Side::Outside, Some(identity)) => self.shard().owner(&identity.key_hash),
            (Side::Outside, None) => self.shard().owner(&address_key(peer.remote.ip())),
            (Side::Inside, _) => {
                self.inside += 1;
                u8::try_from(self.edges.len() - 1 - (self.inside - 1) % self.edges.len()).unwrap()
            }
        }
    }

    fn edge(&mut self, shard: u8) -> &mut Edge {
        &mut self.edges[usize::from(shard)]
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) {
        let (shard, input) = match input {
            Input::Overload(overloaded) => {
                let all = self.edges.iter_mut();
                return all.for_each(|edge| edge.handle_input(now, Input::Overload(overloaded)));
            }
            Input::Resolved { query, answer } => {
                let shard = u8::try_from(query >> QUERY).unwrap();
                (shard, Input::Resolved { query: query & ((1 << QUERY) - 1), answer })
            }
            Input::FlowOpened { flow, .. } | Input::FlowClosed { flow } => (flow.shard(), input),
            Input::Message { source: Source::Flow(flow), .. } => (flow.shard(), input),
            // All sockets are the first one's.
            _ => (0, input),
        };
        self.edge(shard).handle_input(now, input);
    }

    pub(crate) fn dial_failed(&mut self, now: Instant, shard: u8, dial: Dial) {
        self.edge(shard).handle_input(now, Input::DialFailed { dial, fault: Fault::Peer });
    }

    pub(crate) fn handle_command(&mut self, now: Instant, command: Command) {
        let copy = |command: &Command| match command {
            Command::Reconfigure(config) => Command::Reconfigure(config.clone()),
            Command::Drain => Command::Drain,
            Command::Resume => Command::Resume,
            Command::Locate(change) => Command::Locate(change.clone()),
            Command::Block { suspect, length } => Command::Block { suspect: *suspect, length: *length },
            Command::Judge(switch, verdict) => Command::Judge(*switch, *verdict),
            Command::Keys(keys) => Command::Keys(keys.clone()),
            Command::TakeOver { sessions } => Command::TakeOver { sessions: sessions.clone() },
            Command::Unblock(suspect) => Command::Unblock(*suspect),
            other => panic!("who is to do {other:?}?"),
        };
        for edge in &mut self.edges {
            edge.handle_command(now, copy(&command));
        }
    }

    /// What a machine wants, and which one.
    pub(crate) fn poll_output(&mut self, now: Instant) -> (u8, Output<Event>) {
        loop {
            let (mut soonest, mut busy) = (None, false);
            for shard in 0..u8::try_from(self.edges.len()).unwrap() {
                match self.edge(shard).poll_output(now) {
                    Output::Timeout(at) => soonest = soonest.into_iter().chain(at).min(),
                    output => match self.between(now, shard, output) {
                        Some(output) => return (shard, output),
                        None => busy = true,
                    },
                }
            }
            if let Some((shard, input)) = self.crossing.pop_front() {
                self.edge(shard).handle_input(now, input);
                busy = true;
            } else if let Some((shard, change)) = if self.late { None } else { self.located.pop_front() } {
                self.edge(shard).handle_command(now, Command::Locate(change));
                busy = true;
            }
            if !busy {
                return (0, Output::Timeout(soonest));
            }
        }
    }

    /// Sees to what is between two machines; gives back what is not.
    fn between(&mut self, now: Instant, shard: u8, output: Output<Event>) -> Option<Output<Event>> {
        match output {
            Output::Hand(handed) => self.hand(now, shard, handed),
            Output::HandClosed { shard, flow } => {
                self.crossing.push_back((shard, Input::FlowClosed { flow }));
            }
            Output::Transmit(transmit) => {
                let flow = match transmit.target {
                    Target::Flow(flow) if flow.shard() != shard => flow,
                    _ => return Some(Output::Transmit(transmit)),
                };
                if !self.full.contains(&flow.shard()) {
                    return Some(Output::Transmit(transmit));
                }
                self.edge(shard).handle_input(now, Input::Unsent { flow });
            }
            Output::Resolve { query, question } => {
                return Some(Output::Resolve { query: query | u64::from(shard) << QUERY, question });
            }
            Output::Event(Event::Location(change)) => {
                for other in (0..u8::try_from(self.edges.len()).unwrap()).filter(|o| *o != shard) {
                    self.located.push_back((other, change.clone()));
                }
                return Some(Output::Event(Event::Location(change)));
            }
            Output::Event(Event::Blocked {
                suspect: suspect @ Suspect::Address(_),
                subject,
                offence,
                seconds,
            }) if offence != Offence::Told => {
                let length = Duration::from_secs(seconds);
                for other in self.edges.iter_mut().enumerate().filter(|(at, _)| *at != usize::from(shard)) {
                    other.1.handle_command(now, Command::Block { suspect, length });
                }
                return Some(Output::Event(Event::Blocked { suspect, subject, offence, seconds }));
            }
            Output::Event(Event::Judged { switch, verdict }) => {
                for other in self.edges.iter_mut().enumerate().filter(|(at, _)| *at != usize::from(shard)) {
                    other.1.handle_command(now, Command::Judge(switch, verdict));
                }
                return Some(Output::Event(Event::Judged { switch, verdict }));
            }
            // Its echo.
            Output::Event(Event::Blocked { offence: Offence::Told, .. }) if self.edges.len() > 1 => {}
            output => return Some(output),
        }
        None
    }

    fn hand(&mut self, now: Instant, from: u8, handed: Box<Handed>) {
        assert_ne!(handed.to, from, "a machine hands itself {handed:?}");
        self.crossed += 1;
        if self.full.contains(&handed.to) {
            self.edge(from).handle_input(now, Input::Unhanded(handed));
        } else {
            self.crossing.push_back((handed.to, Input::Handed(handed)));
        }
    }

    /// The state of all.
    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        let mut whole = Snapshot::default();
        self.edges.iter().for_each(|edge| whole.add(&edge.snapshot(now)));
        whole
    }

    /// Every phone, as its own machine has it.
    pub(crate) fn bindings(&self) -> Phones<'_> {
        Phones(self)
    }
}

pub(crate) struct Phones<'s>(&'s Several);

impl<'s> Phones<'s> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'s Binding> + use<'s> {
        let ours = |edge: &'s Edge| edge.bindings().iter().filter(|b| edge.bindings().is_ours(b));
        self.0.edges.iter().flat_map(ours)
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.edges.iter().all(|edge| edge.bindings().is_empty())
    }

    pub(crate) fn get(&self, id: InstanceId) -> Option<&'s Binding> {
        self.iter().find(|binding| binding.id == id)
    }
}
