//! Why a message goes where it goes: the edge's own way with it, written down, without sending or counting.
//!
//! [`Edge::explain`] makes a copy of the edge that has its configuration, keys, phones and calls but no connections and no
//! clock, gives it the message, and keeps what it would have sent and told. The decisions are those of the functions that
//! route: on their way they note what they look at, which costs one branch where nobody listens.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Edge;
use super::event::{Event, Step};
use super::guard::Suspect;
use crate::flow::{Dial, FlowId, ListenerId, Peer, Source, Target, Transport};
use crate::machine::{Input, Machine, Output};
use crate::media::Untouched;
use crate::message::{Limits, Message};
use crate::resolve::records::Kind;
use crate::token::InstanceId;

/// Connections that only stand in an explanation: numbers that no driver gives.
const IMAGINED: u64 = u64::MAX / 2;
/// What is sent within so many outputs; a message makes a handful.
const MOST: usize = 1_000;

/// What a look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// This decides.
    Hit,
    /// Nothing here; the next one is looked at.
    Miss,
    /// Good so far.
    Pass,
    /// The message ends here.
    Refused,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    /// What: `validation`, `2 contact token`, `destination`.
    pub at: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What it was found in, and why not.
    pub why: String,
}

/// A message that would leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Where to, in words.
    pub to: String,
    /// The message.
    pub bytes: Bytes,
    /// What it has in place of what came: rows of the message that came and don't leave.
    pub removed: Vec<String>,
    /// Rows that leave and did not come.
    pub added: Vec<String>,
}

/// The way of one message.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Trace {
    /// What was looked at, in order.
    pub looks: Vec<Look>,
    /// What would have been told: [`Event::Resolved`], [`Event::Refused`] and others.
    pub events: Vec<Event>,
    /// What would have been sent, answers first.
    pub leaving: Vec<Leaving>,
    /// Names that would have been looked up; what follows from the answer is not known here.
    pub names: Vec<(Kind, String)>,
}

/// A message, as if it came.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who sends it.
    pub peer: Peer,
    /// The connection it comes by, where that is one of the edge's; else one is imagined.
    pub source: Option<Source>,
    /// A phone's own connection to a switch that it comes by (resolution step 4).
    pub line: Option<InstanceId>,
    /// Whether phones that have no connection are taken as connected.
    pub connected: bool,
    /// The message.
    pub message: Message,
}

impl Edge {
    /// Writes down what a look found, where somebody listens.
    #[inline]
    pub(super) fn note(&self, at: &'static str, verdict: Verdict, why: impl FnOnce() -> String) {
        if let Some(looks) = &self.trace {
            looks.borrow_mut().push(Look { at, verdict, why: why() });
        }
    }

    /// What the edge would do with a message. Nothing is sent, counted or changed.
    pub fn explain(&self, now: Instant, question: Question) -> Trace {
        let Question { peer, source, line, connected, message } = question;
        let suspect = Suspect::of(&peer);
        if self.guard.blocks.holds(&suspect) {
            let why = format!("{} is blocked", peer.remote.ip());
            let look = Look { at: "guard", verdict: Verdict::Refused, why };
            return Trace { looks: vec![look], ..Trace::default() };
        }
        let peer = Arc::new(peer);
        let source = source.unwrap_or_else(|| match peer.transport {
            Transport::Udp => Source::Datagram {
                listener: peer.listener.unwrap_or(ListenerId(u32::MAX)),
                remote: peer.remote,
            },
            Transport::Tcp | Transport::Tls => Source::Flow(FlowId(IMAGINED)),
        });
        let mut copy = self.copied(now, connected.then_some((source, &peer)));
        if let Source::Flow(flow) = source {
            let dial = line.map(|line| Dial {
                transport: peer.transport,
                remote: peer.remote,
                side: peer.side,
                affinity: Some(line.0),
            });
            let dial = dial.or_else(|| self.flows.get(flow)?.dial.as_deref().copied());
            copy.handle_input(now, Input::FlowOpened { flow, peer: peer.clone(), dial });
        }
        drop(copy.outputs_of(now, &message));
        copy.trace = Some(Box::default());
        copy.handle_input(now, Input::Message { source, peer, message: message.clone() });
        let mut trace = copy.outputs_of(now, &message);
        trace.looks = copy.trace.take().map(|looks| looks.into_inner()).unwrap_or_default();
        trace
    }

    /// An edge of the same configuration, keys, phones and calls. With `asking` phones without a connection get one, and
    /// those of the sender's certificate that of the message.
    fn copied(&self, now: Instant, asking: Option<(Source, &Arc<Peer>)>) -> Self {
        let mut copy = Self::new(self.config.clone(), self.keys.clone(), [0; 32], Box::new(Untouched));
        copy.dialogs = self.dialogs.clone();
        copy.draining = self.draining;
        for (n, binding) in self.bindings.iter().enumerate() {
            // A phone of another shard has a connection there that is not known here.
            let peer = || binding.peer.clone().unwrap_or_else(|| Arc::new(self.imagined()));
            let own = binding.path.map(|path| (path, peer()));
            let path = own.or_else(|| {
                let (source, peer) = asking?;
                let sender = peer.identity.as_ref().map(|identity| identity.key_hash);
                if sender == Some(binding.record.certificate) {
                    return Some((source, peer.clone()));
                }
                Some((Source::Flow(FlowId(IMAGINED + 1 + n as u64)), Arc::new(self.imagined())))
            });
            if let Some((Source::Flow(flow), peer)) = &path
                && copy.flows.get(*flow).is_none()
            {
                copy.handle_input(now, Input::FlowOpened { flow: *flow, peer: peer.clone(), dial: None });
            }
            copy.bindings.put(now, binding.record.clone(), binding.registered, path);
        }
        copy
    }

    /// A phone somewhere at home.
    fn imagined(&self) -> Peer {
        let face = &self.config.outside;
        let nowhere = (std::net::Ipv4Addr::UNSPECIFIED, 0).into();
        Peer {
            remote: nowhere,
            local: nowhere,
            transport: face.transport,
            side: crate::flow::Side::Outside,
            listener: None,
            identity: None,
            verified: true,
        }
    }

    /// Everything that the edge wants just now.
    fn outputs_of(&mut self, now: Instant, came: &Message) -> Trace {
        let mut trace = Trace::default();
        for _ in 0..MOST {
            match self.poll_output(now) {
                Output::Transmit(transmit) => {
                    let to = self.in_words(transmit.target);
                    trace.leaving.push(Leaving::new(to, came, transmit.bytes));
                }
                Output::Event(Event::Location(_)) => {}
                Output::Event(event) => trace.events.push(event),
                Output::Resolve { question, .. } => trace.names.push((question.kind, question.name)),
                Output::Timeout(_) => break,
                _ => {}
            }
        }
        trace
    }

    fn in_words(&self, target: Target) -> String {
        match target {
            Target::Dial(dial) => {
                let own = if dial.affinity.is_some() { ", the phone's own connection" } else { "" };
                format!("the switch {} over {}{own}", dial.remote, dial.transport.via_token())
            }
            Target::Datagram { remote, .. } => format!("{remote} over UDP"),
            Target::Flow(flow) => {
                let source = Source::Flow(flow);
                let phone = self.bindings.of_path(&source).first().and_then(|id| self.bindings.get(*id));
                match phone {
                    Some(phone) => format!("the phone {}", named(&phone.record.tag, &phone.record.user)),
                    None => "the connection that the message came by".to_owned(),
                }
            }
        }
    }

    /// How a phone is called in an explanation.
    pub(super) fn called(&self, id: InstanceId) -> String {
        match self.bindings.get(id) {
            Some(binding) => named(&binding.record.tag, &binding.record.user),
            None => "nobody known".to_owned(),
        }
    }
}

fn named(tag: &Option<String>, user: &str) -> String {
    match tag {
        Some(tag) => format!("{tag} (user {user})"),
        None => format!("of user {user}"),
    }
}

impl Leaving {
    fn new(to: String, came: &Message, bytes: Bytes) -> Self {
        let left = Message::parse(bytes.clone(), &Limits { message: usize::MAX, ..Limits::default() });
        let (before, after) = (rows(came), left.as_ref().map(rows).unwrap_or_default());
        // An answer of ours is no rewriting of the request.
        if left.as_ref().is_ok_and(|left| left.is_request() != came.is_request()) {
            return Self { to, bytes, removed: Vec::new(), added: after };
        }
        let removed = before.iter().filter(|row| !after.contains(row)).cloned().collect();
        let added = after.iter().filter(|row| !before.contains(row)).cloned().collect();
        Self { to, bytes, removed, added }
    }
}

/// Start line, rows, and how long the body is.
fn rows(message: &Message) -> Vec<String> {
    let start = message.bytes().split(|b| *b == b'\r').next().unwrap_or_default();
    let mut rows = vec![shown(start)];
    for row in message.rows() {
        rows.push(format!("{}: {}", shown(row.name_bytes), shown(row.value)));
    }
    rows
}

/// Printable, whatever a peer wrote.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "HIT",
            Self::Miss => "miss",
            Self::Pass => "ok",
            Self::Refused => "REFUSED",
        })
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<18} {:<8} {}", self.at, self.verdict.to_string(), self.why)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Looked at:")?;
        for look in &self.looks {
            writeln!(f, "{look}")?;
        }
        for event in &self.events {
            match event {
                Event::Resolved { step, .. } => {
                    writeln!(
                        f,
                        "Resolved by step {} ({step:?}); later steps are not looked at",
                        *step as usize
                    )?;
                }
                Event::Refused { status: Some(status), reason, .. } => {
                    writeln!(f, "Refused with {status}: {reason:?}")?;
                }
                Event::Refused { status: None, reason, .. } => writeln!(f, "Dropped: {reason:?}")?,
                other => writeln!(f, "Told: {other:?}")?,
            }
        }
        for (kind, name) in &self.names {
            writeln!(f, "Would look up {kind:?} of {name}; where it goes depends on the answer")?;
        }
        for leaving in &self.leaving {
            writeln!(f, "Would send to {}:", leaving.to)?;
            leaving.removed.iter().try_for_each(|row| writeln!(f, "  - {row}"))?;
            leaving.added.iter().try_for_each(|row| writeln!(f, "  + {row}"))?;
        }
        if self.leaving.is_empty() && self.names.is_empty() {
            writeln!(f, "Nothing would be sent.")?;
        }
        Ok(())
    }
}

/// The names of the steps in a trace, with their numbers.
pub(super) fn carrier(step: Step) -> &'static str {
    match step {
        Step::Dialog => "0 dialog",
        Step::Route => "1 route",
        Step::ContactToken => "2 contact token",
        Step::Instance => "3 instance",
        Step::Affinity => "4 own connection",
        Step::User => "5 user",
    }
}
