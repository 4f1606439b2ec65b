//! Whether the phones are still there, and their NATs still let us through: keep-alive of flows (MED-02, RFC 5626).
//!
//! A registered phone's path is looked at once an interval. Who sent something meanwhile, a keep-alive of its own
//! included, is left alone; others are asked (OPTIONS), and who does not answer twice in a row is gone: its connection is
//! closed, and over UDP, where there is none, it answers 480 until it is heard of again.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Edge;
use super::event::{Closing, Event};
use crate::flow::{FlowId, Peer, Source, Transmit};
use crate::machine::Output;
use crate::token::InstanceId;
use crate::ua::{self, Outcome, Request, SentBy};

/// Questions without an answer before a phone is taken for gone.
const MISSES: u8 = 2;
/// What a phone that sends keep-alives by itself may take between two of them (RFC 5626 §4.4): over streams, and UDP.
const OWN: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(30)];
/// A keep-alive over a stream (RFC 5626 §4.4.1); the same octets over UDP mean nothing to the phone and keep the NAT.
const PING: Bytes = Bytes::from_static(b"\r\n\r\n");

/// How phones are kept reachable: `[fent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// `fent.keep_alive`.
    pub method: Method,
    /// The interval over TCP and TLS: `fent.keep_alive_stream`. Default 45 s.
    pub stream: Duration,
    /// The interval over UDP, where NATs forget sooner: `fent.keep_alive_udp`. Default 25 s.
    pub datagram: Duration,
}

impl Default for KeepAlive {
    /// Off, with the intervals that most NATs bear.
    fn default() -> Self {
        Self { method: Method::Off, stream: Duration::from_secs(45), datagram: Duration::from_secs(25) }
    }
}

impl KeepAlive {
    pub(super) fn interval(&self, path: &Source) -> Duration {
        match path {
            Source::Flow(_) => self.stream,
            Source::Datagram { .. } => self.datagram,
        }
    }
}

/// `fent.keep_alive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// OPTIONS to phones that are silent.
    Auto,
    /// OPTIONS to every phone, whatever it sends by itself.
    Options,
    /// A short expiry in the answer to REGISTER, so that phones refresh once an interval; who does not is asked by OPTIONS.
    Register,
    /// Two line ends to every phone; nobody has to answer.
    Crlf,
    /// Nothing: keep-alives of phones are answered all the same.
    Off,
}

/// One path that is looked after.
struct Watch {
    due: Instant,
    /// The last keep-alive that came by itself.
    pinged: Option<Instant>,
    misses: u8,
}

/// All of them.
#[derive(Default)]
pub(super) struct KeepAlives {
    table: HashMap<Source, Watch>,
    due: BTreeSet<(Instant, Source)>,
    /// Questions under way.
    pub(super) asked: ua::Client<Source>,
}

impl KeepAlives {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        [due, self.asked.poll_timeout()].into_iter().flatten().min()
    }

    /// The peer sent a keep-alive.
    pub(super) fn pinged(&mut self, now: Instant, path: &Source) {
        if let Some(watch) = self.table.get_mut(path) {
            watch.pinged = Some(now);
            watch.misses = 0;
        }
    }

    /// The peer refreshed its registration; a connection knows itself when it was used.
    pub(super) fn refreshed(&mut self, now: Instant, path: &Source) {
        if path.flow().is_none() {
            self.pinged(now, path);
        }
    }

    pub(super) fn forget(&mut self, path: &Source) {
        if let Some(watch) = self.table.remove(path) {
            self.due.remove(&(watch.due, *path));
        }
    }

    fn set_due(&mut self, path: Source, at: Instant) {
        let Some(watch) = self.table.get_mut(&path) else { return };
        self.due.remove(&(watch.due, path));
        watch.due = at;
        self.due.insert((at, path));
    }
}

impl Edge {
    /// A phone is at this path from now on.
    pub(super) fn watch(&mut self, now: Instant, path: Source) {
        let settings = &self.config.keep_alive;
        if settings.method == Method::Off || self.alive.table.contains_key(&path) {
            return;
        }
        let due = now + settings.interval(&path);
        self.alive.table.insert(path, Watch { due, pinged: None, misses: 0 });
        self.alive.due.insert((due, path));
    }

    /// The method or the intervals may be others now.
    pub(super) fn watch_anew(&mut self, now: Instant) {
        self.alive.table.clear();
        self.alive.due.clear();
        let paths: Vec<_> = self.bindings.iter().filter(|b| b.registered).filter_map(|b| b.path).collect();
        for path in paths {
            self.watch(now, path);
        }
    }

    /// Everything of keep-alive that is due.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        while let Some(done) = self.alive.asked.handle_timeout(now) {
            self.alive_done(&done);
        }
        while let Some(&(at, path)) = self.alive.due.first()
            && at <= now
        {
            self.look_after(now, path);
        }
    }

    fn look_after(&mut self, now: Instant, path: Source) {
        let settings = &self.config.keep_alive;
        let (method, interval) = (settings.method, settings.interval(&path));
        let mut here = self.bindings.of_path(&path).iter().copied();
        let registered = here.rfind(|id| self.bindings.get(*id).is_some_and(|b| b.registered));
        let Some(phone) = registered.filter(|_| method != Method::Off) else {
            // A call without registration keeps its path; whether it lives, the call's own requests show.
            return self.alive.forget(&path);
        };
        // Phones refresh before their time is over, some only just.
        let patience = if method == Method::Register { interval * 2 } else { interval };
        if matches!(method, Method::Auto | Method::Register)
            && let Some(until) = self.content(now, path, patience)
        {
            return self.alive.set_due(path, until);
        }
        let question = if method == Method::Crlf { None } else { self.question(phone) };
        self.alive.set_due(path, now + interval);
        match question {
            Some((contact, us, from)) => {
                let request = Request::new("OPTIONS", contact, &us, path.into(), &mut self.random);
                let request = request.from(from).patience(interval);
                self.alive.asked.send(now, &mut self.layer, &mut self.random, request, path);
            }
            None => self.outputs.push_back(Output::Transmit(Transmit { target: path.into(), bytes: PING })),
        }
    }

    /// Until when a phone that was heard of needs no question; `None` when it does.
    fn content(&mut self, now: Instant, path: Source, interval: Duration) -> Option<Instant> {
        let watch = self.alive.table.get_mut(&path)?;
        let own = watch.pinged.map(|at| at + interval.max(OWN[usize::from(path.flow().is_none())]));
        let spoke = path.flow().and_then(|flow| self.flows.get(flow)).map(|flow| flow.used() + interval);
        match [own, spoke].into_iter().flatten().max().filter(|until| *until > now) {
            Some(until) => {
                watch.misses = 0;
                Some(until)
            }
            None => {
                // It has stopped.
                watch.pinged = None;
                None
            }
        }
    }

    /// Whom to ask, and as whom.
    fn question(&self, phone: InstanceId) -> Option<(String, SentBy, String)> {
        let binding = self.bindings.get(phone)?;
        let peer: &Peer = binding.peer.as_deref()?;
        let face = self.config.face_of(peer);
        let us = SentBy::new(peer.transport, face.authority());
        Some((binding.record.contact.clone(), us, format!("{}:{}", face.scheme(), face.authority())))
    }

    /// What came of a question.
    pub(super) fn alive_done(&mut self, done: &ua::Done<Source>) {
        let path = done.purpose;
        let Some(watch) = self.alive.table.get_mut(&path) else { return };
        if matches!(done.outcome, Outcome::Answered(_)) {
            watch.misses = 0;
            return;
        }
        watch.misses += 1;
        if watch.misses < MISSES {
            return;
        }
        self.alive.forget(&path);
        match path {
            Source::Flow(flow) => self.close_flow(flow, Closing::Unanswered),
            // Nothing to close: whoever asks for the phone hears 480 at once, not 408 after half a minute.
            Source::Datagram { .. } => self.lose_path(path),
        }
    }

    /// A connection or address is gone: its phones are on the next one they have (RFC 5626), or lost.
    pub(super) fn lose_path(&mut self, path: Source) {
        for id in self.bindings.close(path) {
            let Some(next) = self.bindings.get(id).map(|binding| binding.path) else { continue };
            let phone = self.phone(id);
            self.tell(match next {
                Some(source) => Event::PhoneMoved { phone, source },
                None => Event::PhoneLost { phone },
            });
        }
    }

    /// A connection is gone.
    pub(super) fn unwatch(&mut self, flow: FlowId) {
        self.alive.forget(&Source::Flow(flow));
    }
}
