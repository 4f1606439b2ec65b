//! The whole signalling gateway as one machine.
//!
//! A request goes: [`Layer`] → `watch` (is its sender blocked, too fast, a scanner?) → `intake` (validation, loops, ceilings, who is it) → `register`, `outbound` (a phone
//! asks) or `inbound` (the PBX asks: which phone?) → `forward` (response context, rewriting) → [`Layer`]. An answer
//! goes: [`Layer`] → `answer` (best response, rewriting) → [`Layer`]. Session descriptions pass through the
//! [`Media`] seam on the way (`offer`); phones live in [`bindings`], calls in `dialogs`.

pub mod bindings;
pub mod config;
pub mod event;
pub mod filter;
pub mod guard;
pub mod interop;
pub mod manipulate;
pub mod route_tag;
pub mod uri_codec;

mod answer;
pub mod credentials;
mod crossing;
mod described;
mod dialogs;
mod exchange;
pub mod explain;
mod faces;
mod failover;
mod flows;
mod forward;
mod hiding;
mod inbound;
mod insist;
mod intake;
mod keepalive;
mod limits;
mod lines;
mod monitor;
mod naming;
mod offer;
mod outbound;
mod owner;
mod pace;
pub mod quality;
mod redirect;
mod referral;
mod refresh;
mod register;
mod registrar;
mod reuse;
mod rewrite;
mod route_set;
mod seals;
mod sessions;
mod status;
mod switches;
mod takeover;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use config::Config;
pub use described::NameFault;
pub use event::{Command, Event};

use bindings::Bindings;
use crossing::Turns;
use dialogs::Dialogs;
use event::{Departure, DropCause, Phone, Snapshot};
use exchange::{Exchange, Incoming, Lookup};
use flows::Flows;
use guard::{Guard, Offence};
use keepalive::KeepAlives;
use lines::Lines;
use monitor::Monitor;
use pace::Pace;
use reuse::Reuse;
use seals::Seals;
use sessions::Pending;
use switches::Switches;

use crate::auth::Verifier;
use crate::flow::{FlowId, Peer, Side, Source};
use crate::machine::{Fault, Input, Machine, Output};
use crate::media::Media;
use crate::numbered::Numbered;
use crate::resolve::locate::Locator;
use crate::shard::Shard;
use crate::token::{InstanceId, Keyring, LoopHash, Random};
use crate::transaction::{self, ClientKey, Layer, ServerKey};
use crate::ua;

/// The signalling gateway, sans-I/O: see [`Machine`] for how it is driven.
pub struct Edge {
    config: Config,
    keys: Keyring,
    seals: RefCell<Seals>,
    random: Random,
    shard: Shard,
    layer: Layer,
    media: Box<dyn Media + Send>,
    bindings: Bindings,
    dialogs: Dialogs,
    flows: Flows,
    lines: Lines,
    guard: Guard,
    verifier: Option<Box<Verifier>>,
    exchanges: Numbered<ServerKey, Box<Exchange>>,
    clients: Numbered<ClientKey, (ServerKey, usize)>,
    /// Timer C of every exchange that has one running.
    rings: BTreeSet<(Instant, ServerKey)>,
    lookups: Numbered<u64, Lookup>,
    locator: Locator,
    names: described::Names,
    switches: Switches,
    monitor: Monitor,
    reuse: Reuse,
    /// When a request to one of several addresses of a switch has waited long enough.
    patiences: BTreeSet<(Instant, ServerKey)>,
    /// Requests of our own.
    errands: ua::Client<Errand>,
    alive: KeepAlives,
    pending: Pending,
    pace: Pace,
    /// Which shard an INVITE from inside went to.
    turns: Turns,
    /// The exchange of each branch that went to another shard.
    forks: HashMap<Box<[u8]>, ServerKey>,
    /// Another shard, as a peer.
    nobody: Arc<Peer>,
    outputs: VecDeque<Output<Event>>,
    /// Connections to be closed once everything else has left.
    closes: VecDeque<FlowId>,
    counters: Counters,
    /// Inside addresses that passed to phones, in places that can't be rewritten.
    shown: Cell<u64>,
    draining: bool,
    overloaded: bool,
    /// What was looked at, where somebody wants to know ([`Edge::explain`]).
    trace: Option<Box<RefCell<Vec<explain::Look>>>>,
}

/// Why we sent a request of our own.
enum Errand {
    /// Whether the phone lives whose tag a REGISTER claims.
    Owner(Box<Probe>),
    /// Whether a switch lives.
    Switch(event::Switch),
}

/// A REGISTER that waits for the phone whose tag it claims.
struct Probe {
    incoming: Incoming,
    hash: LoopHash,
    phone: InstanceId,
}

#[derive(Default)]
struct Counters {
    resolved: [u64; 6],
    refused: u64,
    dropped: u64,
    floods: u64,
    junk: u64,
    calls: u64,
}

impl Edge {
    /// A gateway without phones. `seed` must come from the operating system in production.
    pub fn new(config: Config, keys: Keyring, seed: [u8; 32], media: Box<dyn Media + Send>) -> Self {
        let mut random = Random::new(seed);
        let dialogs = Dialogs::starting(Self::first_session(&mut random, 0));
        let locator = Locator::new(config.timers.lookup);
        Self {
            layer: Layer::new(transactions(&config, Shard::ALONE)),
            shard: Shard::ALONE,
            config,
            keys,
            seals: RefCell::default(),
            random,
            media,
            bindings: Bindings::default(),
            dialogs,
            flows: Flows::default(),
            lines: Lines::default(),
            guard: Guard::default(),
            verifier: None,
            exchanges: Numbered::default(),
            clients: Numbered::default(),
            rings: BTreeSet::new(),
            lookups: Numbered::default(),
            locator,
            names: described::Names::default(),
            switches: Switches::default(),
            monitor: Monitor::default(),
            reuse: Reuse::default(),
            patiences: BTreeSet::new(),
            errands: ua::Client::new(),
            alive: KeepAlives::default(),
            pending: Pending::default(),
            pace: Pace::default(),
            turns: Turns::default(),
            forks: HashMap::new(),
            nobody: crossing::nobody(),
            outputs: VecDeque::new(),
            closes: VecDeque::new(),
            counters: Counters::default(),
            shown: Cell::new(0),
            draining: false,
            overloaded: false,
            trace: None,
        }
    }

    /// The same gateway as one of several that share the work: see [`crate::shard`]. Each gets a seed of its own and the same
    /// keys, configuration and media side. Ceilings of [`Config`] hold for all together.
    #[must_use]
    pub fn on(mut self, shard: Shard) -> Self {
        self.layer.reconfigure(transactions(&self.config, shard));
        // Sessions are told apart at the media side, which all share.
        let first = Self::first_session(&mut self.random, shard.index());
        self.random = self.random.on(shard);
        self.bindings = Bindings::on(shard);
        self.dialogs = Dialogs::starting(first);
        self.shard = shard;
        self
    }

    /// The registrations, for an embedder on the same thread; others use [`Command::Snapshot`].
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::Refused { .. } => self.counters.refused += 1,
            Event::Dropped { cause, .. } => {
                self.counters.dropped += 1;
                self.counters.floods += u64::from(*cause == DropCause::Flood);
                self.counters.junk += u64::from(*cause == DropCause::Unframeable);
            }
            Event::CallStarted { .. } => self.counters.calls += 1,
            Event::Resolved { step, .. } => self.counters.resolved[*step as usize] += 1,
            _ => {}
        }
        self.outputs.push_back(Output::Event(event));
    }

    fn drop_message(&mut self, peer: &Peer, cause: DropCause) {
        self.tell(Event::Dropped { side: peer.side, remote: peer.remote, cause });
    }

    fn phone(&self, id: InstanceId) -> Phone {
        match self.bindings.get(id) {
            Some(binding) => status::phone(binding),
            None => Phone { id, tag: None, user: String::new() },
        }
    }

    fn flow_closed(&mut self, now: Instant, flow: FlowId) {
        if let Some(closed) = self.flows.remove(flow) {
            for shard in closed.crossed() {
                self.outputs.push_back(Output::HandClosed { shard, flow });
            }
            if closed.dial.is_none() && closed.peer.side == Side::Inside {
                self.reuse.closed(flow, &closed.peer);
            }
            if let Some(dial) = closed.dial {
                self.monitor.hasten(now, (*dial).into());
                self.lines.closed(*dial, Some(flow));
            }
        }
        self.lose_path(Source::Flow(flow));
        self.unwatch(flow);
        self.names.forget(flow);
        self.layer.handle_flow_closed(now, flow);
    }

    /// Everything that is due at `now`.
    fn fire(&mut self, now: Instant) {
        self.layer.handle_timeout(now);
        while let Some(&(at, key)) = self.rings.first()
            && at <= now
        {
            self.rings.remove(&(at, key));
            self.ring_out(now, key);
        }
        while let Some(&(at, key)) = self.patiences.first()
            && at <= now
        {
            self.patiences.remove(&(at, key));
            self.lose_patience(now, key);
        }
        self.run_monitor(now);
        self.locator.handle_timeout(now, &self.config.internal_domains);
        self.located(now);
        self.names.locator_due(now);
        self.names_found(now);
        while let Some(done) = self.errands.handle_timeout(now) {
            self.errand_done(now, done);
        }
        self.call_next(now);
        while let Some(binding) = self.bindings.expire(now) {
            if binding.registered && self.bindings.is_ours(&binding) {
                let phone = status::phone(&binding);
                self.tell(Event::Unregistered { phone, cause: Departure::Expired });
            }
        }
        self.expire_dialogs(now);
        self.keep_alive(now);
        self.close_idle_flows(now);
        self.end_blocks(now);
        self.end_round(now);
    }

    /// What a round leaves behind: sessions and connections that nobody needs any more.
    fn end_round(&mut self, now: Instant) {
        while let Some(flow) = self.bindings.poll_left() {
            self.closes.push_back(flow);
        }
        self.end_sessions(now);
        self.record_sessions(now);
        self.close_lines();
    }

    fn end_sessions(&mut self, now: Instant) {
        while let Some(session) = self.dialogs.poll_ended() {
            self.media.end(now, session);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [
            self.layer.poll_timeout(),
            self.rings.first().map(|(at, _)| *at),
            self.patiences.first().map(|(at, _)| *at),
            self.locator.deadline(),
            self.names.deadline(),
            self.monitor.deadline(),
            self.errands.poll_timeout(),
            self.pace.deadline(),
            self.bindings.next_expiry(),
            self.dialogs.deadline(),
            self.flows.next_due(),
            self.alive.deadline(),
            self.guard.blocks.next_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What came of a request of our own.
    fn errand_done(&mut self, now: Instant, done: ua::Done<Errand>) {
        let lives = matches!(done.outcome, ua::Outcome::Answered(_));
        match done.purpose {
            Errand::Owner(probe) => self.probed(now, *probe, lives),
            Errand::Switch(switch) => self.switch_asked(now, switch, &done.outcome),
        }
    }

    fn layer_events(&mut self, now: Instant) {
        while let Some(event) = self.layer.poll_event() {
            if let Some(done) = self.errands.handle_event(event) {
                self.errand_done(now, done);
                continue;
            }
            if let Some(done) = self.alive.asked.handle_event(event) {
                self.alive_done(&done);
                continue;
            }
            match event {
                transaction::Event::ClientTimedOut(key) => {
                    self.client_over(now, key, exchange::End::TimedOut)
                }
                transaction::Event::ClientFailed(key) => self.client_over(now, key, exchange::End::Failed),
                transaction::Event::ClientEnded(key) => self.client_over(now, key, exchange::End::Answered),
                _ => {}
            }
        }
    }
}

/// This shard's part of the transaction settings, with a patience that outlasts timer C.
fn transactions(config: &Config, shard: Shard) -> transaction::Config {
    let mut transactions = config.transactions.clone();
    transactions.transactions = shard.part(transactions.transactions);
    let least = config
        .timers
        .ringing_maximum
        .saturating_add(transactions.lifetime())
        .saturating_add(transactions.lifetime());
    transactions.patience = transactions.patience.max(least);
    transactions
}

impl Machine for Edge {
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::FlowOpened { flow, peer, dial } => self.flow_opened(now, flow, peer, dial),
            Input::Message { source, peer, message } => self.receive(now, source, peer, message),
            Input::Ping { source } => return self.alive.pinged(now, &source),
            Input::Handed(handed) => self.handed(now, *handed),
            Input::Unhanded(handed) => self.unhanded(now, *handed),
            Input::Unsent { .. } => self.drop_message(&self.nobody.clone(), DropCause::Crossing),
            Input::Unframeable { peer, status, .. } => {
                self.drop_message(&peer, DropCause::Unframeable);
                // What was answered was SIP, if not the SIP that we take.
                if status.is_none() {
                    self.offend(now, &peer, Offence::Junk);
                }
            }
            Input::FlowClosed { flow } => self.flow_closed(now, flow),
            Input::DialFailed { dial, fault } => {
                if fault == Fault::Peer {
                    self.switch_refused(now, dial);
                }
                self.lines.closed(dial, None);
                self.layer.handle_dial_failed(now, &dial);
            }
            Input::Resolved { query, answer } => {
                if let Some(query) = described::Names::asked(query) {
                    self.names.handle_answer(now, query, answer);
                    self.names_found(now);
                } else {
                    self.locator.handle_answer(now, query, answer, &self.config.internal_domains);
                    self.located(now);
                }
            }
            Input::Drain => self.draining = true,
            Input::Overload(overloaded) => self.overload(overloaded),
        }
        self.layer_events(now);
        self.end_round(now);
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Reconfigure(config) => {
                self.layer.reconfigure(transactions(&config, self.shard));
                self.locator.doubt(now, config.timers.lookup);
                let keep_alive = std::mem::replace(&mut self.config, *config).keep_alive;
                // They say what was a place of ours under the old one.
                self.seals = RefCell::default();
                self.free_spared(now);
                if keep_alive != self.config.keep_alive {
                    self.watch_anew(now);
                }
                self.monitor.is_fresh = false;
            }
            Command::Keys(keys) => {
                self.keys = *keys;
                // They were made with the keys of before.
                self.seals = RefCell::default();
            }
            Command::Drain => self.draining = true,
            Command::Resume => self.draining = false,
            Command::Block { suspect, length } => self.block(now, suspect, length),
            Command::Unblock(suspect) => self.unblock(suspect),
            Command::Locate(change) => self.bindings.apply(now, change),
            Command::TakeOver { sessions } => self.take_over(now, sessions),
            Command::Judge(switch, verdict) => self.told(now, switch, verdict),
            Command::Snapshot => {
                let snapshot = self.snapshot(now);
                self.tell(Event::Snapshot(Box::new(snapshot)));
            }
        }
        self.end_round(now);
    }

    fn poll_output(&mut self, now: Instant) -> Output<Event> {
        if !self.monitor.is_fresh {
            self.set_monitor(now);
        }
        if self.deadline().is_some_and(|at| at <= now) {
            self.fire(now);
            self.layer_events(now);
            self.end_round(now);
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let Some(transmit) = self.layer.poll_transmit() {
            return self.outward(transmit);
        }
        if let Some((query, question)) = self.locator.poll_question().or_else(|| self.names.poll_question()) {
            return Output::Resolve { query, question };
        }
        if let Some(flow) = self.closes.pop_front() {
            return Output::Close(flow);
        }
        if let Some(change) = self.bindings.poll_change() {
            return Output::Event(Event::Location(change));
        }
        Output::Timeout(self.deadline())
    }
}
