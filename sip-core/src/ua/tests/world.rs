//! Two user agents, a wire that may lose, and a clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::flow::{Dial, ListenerId, Peer, Side, Source, Target, Transport};
use crate::machine::{Input, Machine, Output};
use crate::message::{Limits, Message};
use crate::transaction::ServerKey;
use crate::ua::{Answer, Command, Config, DialogKey, Event, Label, Request, SentBy, UserAgent};

/// How long a datagram takes.
const DELAY: Duration = Duration::from_millis(10);

pub(super) fn address(who: usize) -> SocketAddr {
    ([10, 0, 0, who as u8 + 1], 5060).into()
}

type Lose = Box<dyn FnMut(usize, &str) -> bool>;

/// Two agents, 0 and 1.
pub(super) struct World {
    pub(super) agents: [UserAgent; 2],
    start: Instant,
    pub(super) now: Instant,
    wire: BTreeMap<(Instant, u64), (usize, Bytes)>,
    sent: u64,
    /// Decides which datagram is lost: its sender and its text.
    pub(super) lose: Lose,
    /// When, who, start line.
    pub(super) log: Vec<(u64, usize, String)>,
    pub(super) events: [VecDeque<Event>; 2],
    pub(super) history: Vec<(usize, Event)>,
}

pub(super) fn config(who: usize) -> Config {
    let mut config = Config::new(vec![SentBy::new(Transport::Udp, address(who).to_string())]);
    config.user = ["alice", "bob"][who].to_owned();
    config
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(0)
    }

    pub(super) fn with(seed: u8) -> Self {
        let start = Instant::now();
        Self {
            agents: [0, 1].map(|who| UserAgent::new(config(who), [seed.wrapping_mul(2) + who as u8; 32])),
            start,
            now: start,
            wire: BTreeMap::new(),
            sent: 0,
            lose: Box::new(|_, _| false),
            log: Vec::new(),
            events: Default::default(),
            history: Vec::new(),
        }
    }

    pub(super) fn draft(&mut self, who: usize, method: &str) -> Request {
        let remote = address(1 - who);
        let dial = Dial { transport: Transport::Udp, remote, side: Side::Inside, affinity: None };
        let uri = format!("sip:{}@{remote}", ["alice", "bob"][1 - who]);
        self.agents[who].parts().0.draft(method, uri, dial.into(), Transport::Udp)
    }

    pub(super) fn order(&mut self, who: usize, command: Command) {
        self.agents[who].handle_command(self.now, command);
        self.obey(who);
    }

    pub(super) fn call(&mut self, who: usize, label: u64) {
        let request = self.draft(who, "INVITE").body("application/sdp", "offer");
        self.order(who, Command::Request { label: Label(label), request: Box::new(request) });
    }

    pub(super) fn answer(&mut self, who: usize, key: ServerKey, answer: Answer) {
        self.order(who, Command::Answer { key, answer });
    }

    pub(super) fn bye(&mut self, who: usize, dialog: DialogKey) {
        self.order(who, Command::Bye { dialog });
    }

    pub(super) fn within(&mut self, who: usize, label: u64, dialog: DialogKey, method: &str, body: bool) {
        let body = body.then(|| ("application/sdp".to_owned(), Bytes::from_static(b"offer")));
        let method = method.to_owned();
        self.order(who, Command::Within { label: Label(label), dialog, method, rows: Vec::new(), body });
    }

    fn obey(&mut self, who: usize) -> Option<Instant> {
        loop {
            match self.agents[who].poll_output(self.now) {
                Output::Transmit(transmit) => {
                    let remote = match transmit.target {
                        Target::Datagram { remote, .. } => remote,
                        Target::Dial(dial) => dial.remote,
                        Target::Flow(flow) => panic!("{flow}"),
                    };
                    let text = String::from_utf8_lossy(&transmit.bytes).into_owned();
                    let at = (self.now - self.start).as_millis() as u64;
                    self.log.push((at, who, text.lines().next().unwrap_or_default().to_owned()));
                    if remote == address(1 - who) && !(self.lose)(who, &text) {
                        self.sent += 1;
                        self.wire.insert((self.now + DELAY, self.sent), (1 - who, transmit.bytes));
                    }
                }
                Output::Event(event) => {
                    self.history.push((who, event.clone()));
                    self.events[who].push_back(event);
                }
                Output::Timeout(at) => return at,
                _ => panic!("none of an agent's outputs"),
            }
        }
    }

    /// Runs for so long.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let timer = (0..2).filter_map(|who| self.obey(who)).min();
            let wire = self.wire.keys().next().map(|(at, _)| *at);
            let Some(next) = timer.into_iter().chain(wire).min().filter(|at| *at <= until) else { break };
            self.now = next.max(self.now);
            if let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, bytes) = entry.remove();
                self.hear(to, bytes);
            }
        }
        self.now = until;
    }

    pub(super) fn seconds(&mut self, seconds: f64) {
        self.run(Duration::from_secs_f64(seconds));
    }

    fn hear(&mut self, who: usize, bytes: Bytes) {
        let message = Message::parse(bytes, &Limits::default()).expect("agents write good messages");
        assert!(message.validate().is_empty(), "{:?}", message.validate());
        let remote = address(1 - who);
        let peer = Peer {
            remote,
            local: address(who),
            transport: Transport::Udp,
            side: Side::Inside,
            listener: Some(ListenerId(1)),
            identity: None,
            verified: false,
        };
        let source = Source::Datagram { listener: ListenerId(1), remote };
        self.agents[who].handle_input(self.now, Input::Message { source, peer: Arc::new(peer), message });
        self.obey(who);
    }

    /// The next event of an agent.
    #[track_caller]
    pub(super) fn next(&mut self, who: usize) -> Event {
        self.events[who].pop_front().expect("something happened")
    }

    /// What left, as `who start-line`, without retransmission times; and forgets it.
    pub(super) fn ladder(&mut self) -> Vec<String> {
        let line = |(_, who, line): (u64, usize, String)| {
            let short = match line.strip_prefix("SIP/2.0 ") {
                Some(status) => status.to_owned(),
                None => line.split(' ').next().unwrap_or_default().to_owned(),
            };
            format!("{} {short}", ["a", "b"][who])
        };
        std::mem::take(&mut self.log).into_iter().map(line).collect()
    }

    /// When lines that contain this left, in milliseconds.
    pub(super) fn times(&self, part: &str) -> Vec<u64> {
        self.log.iter().filter(|(_, _, line)| line.contains(part)).map(|(at, _, _)| *at).collect()
    }

    /// After all timers nothing may be left.
    #[track_caller]
    pub(super) fn is_over(&mut self) {
        self.seconds(200.0);
        for (who, agent) in self.agents.iter().enumerate() {
            assert!(agent.is_idle(), "agent {who} is left with {agent:?}");
        }
        assert!((0..2).all(|who| self.obey(who).is_none()), "a clock still runs");
    }
}

/// A call from 0 to 1 that stands: both dialogs.
pub(super) fn established(world: &mut World) -> (DialogKey, DialogKey) {
    world.call(0, 1);
    world.seconds(0.05);
    let Event::Invite { key, dialog: callee, .. } = world.next(1) else { panic!("no INVITE") };
    world.answer(1, key, Answer::new(200, "OK").body("application/sdp", "answer"));
    world.seconds(0.05);
    let Event::Response { dialog: Some(caller), .. } = world.next(0) else { panic!("no 200") };
    assert!(matches!(world.next(1), Event::Acknowledged { dialog, .. } if dialog == callee));
    (caller, callee)
}
