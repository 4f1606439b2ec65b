//! Names in session descriptions (SDP-14, SAM-14): with `sdp.resolve_fqdn` a name in `c=` is looked up before anything is
//! done with the message, and its address takes the name's place. Everything behind sees an address.
//!
//! A message with such a name waits here until its name servers have answered, two seconds at most; what its sender says in
//! the same call meanwhile waits behind it, so that no CANCEL overtakes its INVITE. What can't be found, or may not be used,
//! stays a name: a stream that needs a relay is then 488, one that needs none passes.
//!
//! A name is a way to have us send where its owner wants, and to ask our name servers questions. Only who is verified has
//! names looked up, few at once, and none of the inside's from outside. Every address must be one that its sender might name:
//! of the inside networks from inside; from outside its own, or a public one, to which a relay sends no more than to one that
//! stands in the description itself (decision 14). The rest is a name server's lie, or an attack with its help.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::{DropCause, Event, shown};
use super::forward::OWN;
use super::offer::described;
use crate::flow::{FlowId, Peer, Side, Source, Transport};
use crate::header::CallId;
use crate::message::{Message, Method};
use crate::resolve::is_under;
use crate::resolve::locate::{Locator, Over, Progress, Sought};
use crate::resolve::records::{Answer, Question};

/// How long a name may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names of one description that are looked up.
const NAMES: usize = 4;
/// Calls that wait for a name: of all senders, and of one.
const WAITING: usize = 128;
const WAITING_OF_ONE: usize = 8;
/// Messages that wait behind one.
const BEHIND: usize = 8;
/// The longest name (RFC 1035 §2.3.4).
const LONGEST: usize = 253;
/// Tells our questions from those for switches, which have a memory of their own: nobody's names push theirs out.
const OURS: u64 = 1 << 40;

/// Messages that wait for names.
pub(super) struct Names {
    locator: Locator,
    /// By sender and Call-ID.
    lines: HashMap<Line, Queue>,
    searches: HashMap<u64, (Line, String)>,
}

/// What each name stands for; `None` where it was told already that it is no use.
type Found = HashMap<String, Option<Vec<IpAddr>>>;

type Line = (Source, Box<[u8]>);

/// A message that waits for names, and what came after it. The first is the one that waits.
#[derive(Default)]
struct Queue {
    messages: VecDeque<Held>,
    found: Found,
    /// Searches that run.
    missing: usize,
}

struct Held {
    source: Source,
    peer: Arc<Peer>,
    message: Message,
    handed: bool,
}

/// Why a name stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// There is no such name, or nobody said in time.
    NotFound,
    /// It stands for an address that its sender may not name.
    Address(IpAddr),
    /// It is a name of the inside, and was written outside.
    Internal,
    /// Too many wait already.
    Busy,
}

impl Default for Names {
    fn default() -> Self {
        Self { locator: Locator::new(PATIENCE), lines: HashMap::new(), searches: HashMap::new() }
    }
}

impl Names {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.locator.deadline()
    }

    pub(super) fn locator_due(&mut self, now: Instant) {
        self.locator.handle_timeout(now, &[]);
    }

    pub(super) fn handle_answer(&mut self, now: Instant, query: u64, answer: Answer) {
        self.locator.handle_answer(now, query, answer, &[]);
    }

    pub(super) fn poll_question(&mut self) -> Option<(u64, Question)> {
        self.locator.poll_question().map(|(query, question)| (query | OURS, question))
    }

    /// A connection is gone: nobody waits for what it asked. Its answers are judged where
    /// they belong.
    pub(super) fn forget(&mut self, flow: FlowId) {
        if self.lines.is_empty() {
            return;
        }
        self.lines.retain(|(source, _), queue| {
            if source.flow() == Some(flow) {
                queue.messages.retain(|held| !held.message.is_request());
            }
            !queue.messages.is_empty()
        });
    }

    /// Whether an answer is to one of our questions.
    pub(super) fn asked(query: u64) -> Option<u64> {
        (query & OURS != 0).then_some(query & !OURS)
    }
}

impl Edge {
    /// Keeps a message that must wait for a name, or behind one that does; gives back one that need not.
    pub(super) fn hold_named(
        &mut self,
        now: Instant,
        source: Source,
        peer: &Arc<Peer>,
        message: Message,
        handed: bool,
    ) -> Option<Message> {
        let active = self.config.interop.sdp.resolve_fqdn;
        if !active && self.names.lines.is_empty() {
            return Some(message);
        }
        let id = message.header::<CallId>().and_then(Result::ok).unwrap_or_default();
        let line: Line = (source, id.into());
        if let Some(queue) = self.names.lines.get_mut(&line) {
            if queue.messages.len() > BEHIND {
                self.drop_message(&peer.clone(), DropCause::Flood);
            } else {
                queue.messages.push_back(Held { source, peer: peer.clone(), message, handed });
            }
            return None;
        }
        // What another shard sent on a branch of its own has been here before.
        let across = source.flow().is_some_and(|flow| flow.is_machine());
        if !active || across || !peer.verified {
            return Some(message);
        }
        let names = wanted(&message);
        if names.is_empty() {
            return Some(message);
        }
        let of_one = self.names.lines.values().filter(|queue| queue.is_of(peer)).count();
        if self.names.lines.len() >= WAITING || of_one >= WAITING_OF_ONE {
            for name in names {
                self.tell_unnamed(&message, name, NameFault::Busy);
            }
            return Some(message);
        }
        let mut queue = Queue::default();
        self.seek(now, &line, &mut queue, peer, &message, names);
        if queue.missing == 0 {
            return Some(self.with_addresses(message, peer, &queue.found));
        }
        queue.messages.push_back(Held { source, peer: peer.clone(), message, handed });
        self.names.lines.insert(line, queue);
        None
    }

    /// Starts the look-ups of a message; what is known already is found at once.
    fn seek(
        &mut self,
        now: Instant,
        line: &Line,
        queue: &mut Queue,
        peer: &Peer,
        message: &Message,
        names: Vec<String>,
    ) {
        for name in names {
            let internal = self.config.internal_domains.iter().any(|domain| is_under(&name, domain));
            if internal && peer.side == Side::Outside {
                self.tell_unnamed(message, name.clone(), NameFault::Internal);
                queue.found.insert(name, None);
                continue;
            }
            // With a port there is nothing to ask for but addresses.
            let sought = Sought { name: name.clone(), port: Some(0), over: Over::Named(Transport::Udp) };
            match self.names.locator.locate(now, sought, &[], &mut self.random) {
                Progress::Found(places) => {
                    queue.found.insert(name, Some(places.iter().map(|place| place.address).collect()));
                }
                Progress::Waiting(number) => {
                    self.names.searches.insert(number, (line.clone(), name));
                    queue.missing += 1;
                }
            }
        }
    }

    /// Messages whose names are found, or not found in time, go their way, and what waited behind them.
    pub(super) fn names_found(&mut self, now: Instant) {
        while let Some((number, places)) = self.names.locator.poll_found() {
            let Some((line, name)) = self.names.searches.remove(&number) else { continue };
            let Some(queue) = self.names.lines.get_mut(&line) else { continue };
            queue.found.insert(name, Some(places.iter().map(|place| place.address).collect()));
            queue.missing = queue.missing.saturating_sub(1);
            if queue.missing == 0 {
                self.let_on(now, &line);
            }
        }
    }

    fn let_on(&mut self, now: Instant, line: &Line) {
        let Some(mut queue) = self.names.lines.remove(line) else { return };
        while let Some(held) = queue.messages.pop_front() {
            let names = if self.config.interop.sdp.resolve_fqdn { wanted(&held.message) } else { Vec::new() };
            let unknown: Vec<_> = names.into_iter().filter(|name| !queue.found.contains_key(name)).collect();
            let before = queue.missing;
            self.seek(now, line, &mut queue, &held.peer, &held.message, unknown);
            if queue.missing > before {
                queue.messages.push_front(held);
                self.names.lines.insert(line.clone(), queue);
                return;
            }
            let Held { source, peer, message, handed } = held;
            let message = self.with_addresses(message, &peer, &queue.found);
            self.take_named(now, source, peer, message, handed);
        }
    }

    /// The message with addresses in the place of names that may be used.
    fn with_addresses(&mut self, message: Message, peer: &Peer, found: &Found) -> Message {
        let (body, mut written, mut at) = (message.body(), Vec::new(), 0);
        let mut faults = Vec::new();
        for (place, name, v4) in connections(body) {
            let Some(Some(addresses)) = found.get(&name) else { continue };
            let forbidden = addresses.iter().map(|a| a.to_canonical()).find(|a| !self.may_name(peer, *a));
            // One bad address spoils the name: it could be made to point anywhere.
            let first = addresses.iter().find(|a| a.is_ipv4() == v4).or_else(|| addresses.first());
            match (forbidden, first) {
                (Some(address), _) => faults.push((name, NameFault::Address(address))),
                (None, None) => faults.push((name, NameFault::NotFound)),
                (None, Some(address)) => {
                    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
                    written.extend_from_slice(body.get(at..place.start).unwrap_or_default());
                    written.extend_from_slice(format!("{family} {address}").as_bytes());
                    at = place.end;
                }
            }
        }
        written.extend_from_slice(body.get(at..).unwrap_or_default());
        faults.dedup();
        for (name, fault) in faults {
            self.tell_unnamed(&message, name, fault);
        }
        if at == 0 {
            return message;
        }
        let mut edit = message.edit();
        edit.set_body(&written);
        // What can't be written is refused for that where it is judged.
        let parsed = edit.to_bytes().ok().and_then(|bytes| Message::parse(bytes, &OWN).ok());
        drop(edit);
        parsed.unwrap_or(message)
    }

    fn may_name(&self, peer: &Peer, address: IpAddr) -> bool {
        if self.is_own(&address.to_string()) {
            return false;
        }
        match peer.side {
            Side::Inside => self.config.inside_networks.contains(address),
            Side::Outside => {
                address == peer.remote.ip().to_canonical()
                    || (is_public(address) && !self.config.inside_networks.contains(address))
            }
        }
    }

    fn tell_unnamed(&mut self, message: &Message, name: String, fault: NameFault) {
        let call_id = shown(message.header::<CallId>().and_then(Result::ok).unwrap_or_default());
        self.tell(Event::Unnamed { call_id, name, fault });
    }
}

impl Queue {
    fn is_of(&self, peer: &Peer) -> bool {
        self.messages.front().is_some_and(|held| {
            held.peer.side == peer.side && held.peer.side == Side::Outside && owned_alike(&held.peer, peer)
        })
    }
}

/// Whether two connections are of one sender: by certificate, else by address. All of the inside is trusted.
fn owned_alike(one: &Peer, other: &Peer) -> bool {
    super::exchange::owner_key(one) == super::exchange::owner_key(other)
}

/// The names that a sound message has in its description, each once.
fn wanted(message: &Message) -> Vec<String> {
    let carries = match message.method() {
        Some(method) => matches!(method, Method::Invite | Method::Update | Method::Prack | Method::Ack),
        None => message.status().is_some_and(|status| status < 300),
    };
    let mut names = Vec::new();
    if !carries || described(message).is_none() {
        return names;
    }
    for (_, name, _) in connections(message.body()) {
        if !names.contains(&name) && names.len() < NAMES {
            names.push(name);
        }
    }
    if names.is_empty() || message.has_controls() || !message.validate().is_empty() {
        return Vec::new();
    }
    names
}

/// The `c=` lines with a name (RFC 8866 §5.7): where family and name stand, the name in lower case, and whether IPv4 is meant.
fn connections(body: &[u8]) -> impl Iterator<Item = (Range<usize>, String, bool)> + '_ {
    let mut at = 0;
    body.split_inclusive(|b| *b == b'\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let value = line.strip_prefix(b"c=IN ")?.trim_ascii_end();
        let v4 = match value.get(..4)? {
            b"IP4 " => true,
            b"IP6 " => false,
            _ => return None,
        };
        let name = std::str::from_utf8(value.get(4..)?).ok()?;
        let from = start + b"c=IN ".len();
        is_name(name).then(|| (from..from + value.len(), name.trim_end_matches('.').to_ascii_lowercase(), v4))
    })
}

/// A host name, and not what somebody might read as an address: its last label is no number.
fn is_name(text: &str) -> bool {
    let bare = text.trim_end_matches('.');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = bare.rsplit('.').next().unwrap_or_default();
    bare.len() <= LONGEST
        && bare.split('.').all(label)
        && last.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
}

/// An address that anybody may have: neither private, nor of this host or link, nor one for many.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18))
        }
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            // 2000::/3 is what is given out (RFC 4291 §2.4); 6to4 and Teredo have an IPv4 address within.
            first & 0xe000 == 0x2000 && first != 0x2002 && (first, second) != (0x2001, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_addresses_and_junk() {
        let found = |text: &str| connections(text.as_bytes()).map(|(_, name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            found("v=0\r\nc=IN IP4 Phone.Example.\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP6 b\n"),
            ["phone.example", "b"]
        );
        for junk in [
            "c=IN IP4 192.0.2.1\r\n",
            "c=IN IP4 192.0.2.1/127\r\n",
            "c=IN IP6 2001:db8::1\r\n",
            "c=IN IP4 0x7f.1\r\n",
            "c=IN IP4 2130706433\r\n",
            "c=IN IP4 a..b\r\n",
            "c=IN IP4 a b\r\n",
            "c=IN IP4 \r\n",
            "c=IN IP4\r\n",
            "c=IN ATM name\r\n",
            " c=IN IP4 name\r\n",
            "a=c=IN IP4 name\r\n",
        ] {
            assert_eq!(found(junk), [""; 0], "{junk:?}");
        }
    }

    #[test]
    fn what_is_private_is_not_public() {
        for (address, public) in [
            ("198.51.100.7", true),
            ("2001:db8::7", true),
            ("10.0.1.50", false),
            ("172.31.0.1", false),
            ("192.168.1.7", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("2002:a00:132::1", false),
            ("64:ff9b::a00:132", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
