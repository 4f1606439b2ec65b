//! The one-way-audio doctor: one verdict a stream, from what was agreed and what was counted.
//!
//! A pure function over [`Facts`]: no clock, no socket, no state. It never guesses: before [`ENOUGH`] has passed since the
//! answer, it says [`Verdict::NotEnough`], and a verdict about dropped packets needs [`FEW`] of them. What a description
//! says is read by [`lines`]; who collects the facts is the embedder.
//!
//! The order is that of the questions an experienced administrator asks: is there an answer, does media pass here at all,
//! is it on hold; then what comes from the phone, what comes from the other end; then what leaves.

mod line;
mod verdict;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

pub use self::line::{Line, lines};
pub use self::verdict::{Hold, Party, Verdict, Why};
use crate::policy::Transport;
use crate::relay::{LegSetup, LegStatistics};
use crate::sdp::Direction;

/// How long after the answer there is something to say: phones take a second to start, and the way to the far end another.
pub const ENOUGH: Duration = Duration::from_secs(3);
/// Fewer packets of a kind prove nothing.
pub const FEW: u64 = 10;
/// An end that sent and is silent for so long has stopped. Longer than any pause between two sentences of a phone that
/// suppresses silence would be a guess, see [`SUPPRESSED`].
pub const QUIET: Duration = Duration::from_secs(10);
/// The same where comfort noise was agreed (RFC 3389): who says nothing may send nothing.
pub const SUPPRESSED: Duration = Duration::from_secs(60);
/// So many packets make a percentage: five seconds of audio.
pub const MANY: u64 = 250;
/// From so many per cent of lost packets on nobody follows a sentence, with G.711 and its concealment.
pub const LOSS: u8 = 10;
/// Anybody on the way can say once that packets don't arrive; the relay asks again only after hundreds of packets.
pub const TOLD: u64 = 2;
/// Comfort noise (RFC 3551 §6).
const CN: u8 = 13;

/// One end of a stream.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Who is there.
    pub party: Party,
    /// Where our description asks it to send.
    pub ours: Option<SocketAddr>,
    /// What its description says; `None` before it came.
    pub line: Option<&'a Line>,
    /// What the relay was told about it.
    pub leg: &'a LegSetup,
    /// What the relay counted.
    pub counters: &'a LegStatistics,
    /// At least so long no RTP came from it.
    pub quiet: Duration,
}

/// What is known of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Whether an answer has accepted the stream.
    pub agreed: bool,
    /// Whether the call was answered for good, if that is known.
    pub answered: Option<bool>,
    /// Whether the relay could not have its ports again ([`StreamState::refused`](crate::anchor::StreamState::refused)).
    pub refused: bool,
    /// Whether media runs between the phones, past the relay.
    pub direct: bool,
    /// How long an end may be silent that was heard, where that is configured (SAM-20); else [`QUIET`] or [`SUPPRESSED`].
    pub patience: Option<Duration>,
    /// From the answer until the counters were read; `None` while there are none.
    pub age: Option<Duration>,
    /// The phone.
    pub near: End<'a>,
    /// The switch; the other phone where two streams are joined.
    pub far: End<'a>,
}

impl End<'_> {
    /// RTP that came and was let in.
    fn received(&self) -> u64 {
        self.counters.received_rtp
    }

    /// What was dropped at the door, before it counted as received.
    fn turned_away(&self) -> u64 {
        let dropped = &self.counters.dropped;
        dropped.total() - dropped.hop_limit - dropped.no_receiver - dropped.send
    }

    fn says(&self) -> Option<SocketAddr> {
        self.line.and_then(|line| line.rtp)
    }

    /// How it asked for silence, if it did.
    fn hold(&self) -> Option<Hold> {
        let line = self.line.filter(|line| !line.declined)?;
        match line.direction {
            Direction::Inactive => Some(Hold::Inactive),
            _ if line.is_nowhere() => Some(Hold::Nowhere),
            Direction::SendOnly => Some(Hold::SendOnly),
            Direction::RecvOnly => Some(Hold::ReceiveOnly),
            Direction::SendRecv => None,
        }
    }

    /// Whether it may pause without being silent: comfort noise, or a fax (T.38), which speaks in turns.
    fn suppresses(&self) -> bool {
        self.line.is_some_and(|line| {
            line.payloads.contains(CN)
                || matches!(line.transport, Some(Transport::Udptl | Transport::UdptlDtls))
        })
    }
}

/// What is the matter with a stream.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let Facts { near, far, .. } = facts;
    if !facts.agreed {
        return Verdict::Unanswered;
    }
    if facts.refused {
        return Verdict::PortsTaken { ours: [near.ours, far.ours] };
    }
    if facts.direct {
        return Verdict::Direct;
    }
    if let Some((by, how)) = held(facts) {
        return Verdict::Held { by, how };
    }
    let packets = near.received() + far.received() + near.turned_away() + far.turned_away();
    let age = match facts.age {
        Some(age) if age >= ENOUGH => age,
        age => return Verdict::NotEnough { packets, seconds: age.map(|age| age.as_secs()) },
    };
    if let Some(verdict) = drops(near, far, facts).or_else(|| drops(far, near, facts)) {
        return verdict;
    }
    if facts.answered == Some(false) {
        return Verdict::Early;
    }
    silence(near, far, age)
        .or_else(|| stopped(near, far, age, facts.patience))
        .or_else(|| profiles(near, far))
        .or_else(|| too_far(near))
        .or_else(|| too_far(far))
        .or_else(|| unreachable(near))
        .or_else(|| unreachable(far))
        .or_else(|| unheard(near))
        .or_else(|| unheard(far))
        .or_else(|| lossy(near))
        .or_else(|| lossy(far))
        .unwrap_or(Verdict::Healthy)
}

/// Who asked for silence: who put the other on hold, not who mirrors it (RFC 3264 §8.4, §6.1).
fn held(facts: &Facts<'_>) -> Option<(Party, Hold)> {
    let ends = [&facts.far, &facts.near];
    let asks = |end: &&End<'_>| {
        let how = end.hold()?;
        Some((end.party, how))
    };
    let all: Vec<(Party, Hold)> = ends.iter().filter_map(asks).collect();
    let rank = |how: &Hold| match how {
        Hold::Nowhere => 0,
        Hold::SendOnly => 1,
        Hold::Inactive => 2,
        // The mirror of somebody's sendonly, or an end that only listens.
        Hold::ReceiveOnly => 3,
    };
    all.into_iter().min_by_key(|(_, how)| rank(how))
}

/// Whether what comes from `from` is dropped, most of it and for one reason.
fn drops(from: &End<'_>, to: &End<'_>, facts: &Facts<'_>) -> Option<Verdict> {
    let counters = from.counters;
    let dropped = &counters.dropped;
    let came = counters.received_rtp + counters.received_rtcp;
    let passed = came.saturating_sub(dropped.hop_limit + dropped.no_receiver + dropped.send);
    let limits = counters.hop_limit_received;
    let (minimum, average) = (limits.minimum, limits.average().unwrap_or(limits.minimum));
    let mut all = vec![
        (dropped.hop_limit, came, Why::HopLimit { minimum, average }),
        (dropped.rate, came + dropped.rate, Why::Rate { most: from.leg.max_rate }),
        (dropped.send, came, Why::Send { to: to.counters.receiver }),
        (dropped.own, came + dropped.own, Why::Loop),
    ];
    if passed == 0 {
        // What others send to the port is no fault of it as long as its own packets come. Before the answer is past.
        let of = came + from.turned_away() - dropped.early;
        let refused = counters.refused;
        let stranger = match refused.is_none_or(|refused| allowed(from.leg, refused)) {
            false => Why::Source { came: refused, allowed: from.leg.sources.clone() },
            true => Why::Locked { came: refused, holder: counters.receiver },
        };
        all.extend([
            (dropped.stranger, of, stranger),
            (dropped.payload, of, Why::Payload { came: counters.refused_payload, agreed: agreed(facts) }),
            (dropped.senders, of, Why::Senders { came: refused, most: from.leg.max_senders }),
            (dropped.stun + dropped.dtls + dropped.zrtp, of, Why::StunDtls),
            (dropped.malformed, of, Why::Malformed),
        ]);
    }
    // The silence of the other end says more: see `silence`.
    if !unlatched(to) {
        all.push((dropped.no_receiver, came, Why::NoReceiver));
    }
    let most = all.into_iter().filter(|(count, of, _)| *count >= FEW && count.saturating_mul(2) >= *of);
    let (count, of, why) = most.max_by_key(|(count, ..)| *count)?;
    Some(Verdict::Dropped { from: from.party, count, of, why })
}

/// Whether an address may send; none listed: any.
fn allowed(leg: &LegSetup, source: SocketAddr) -> bool {
    leg.sources.is_empty() || leg.sources.contains(&source.ip())
}

/// What both ends named, as the one who answered did: the shorter list.
fn agreed(facts: &Facts<'_>) -> String {
    let lines = [facts.near.line, facts.far.line].into_iter().flatten();
    lines.map(|line| &*line.codecs).min_by_key(|codecs| codecs.len()).unwrap_or("unknown").to_owned()
}

/// Whether nothing can be sent to an end before it has spoken.
fn unlatched(end: &End<'_>) -> bool {
    end.leg.latching && end.counters.receiver.is_none()
}

/// Whether an end never sent anything.
fn silence(near: &End<'_>, far: &End<'_>, age: Duration) -> Option<Verdict> {
    let seconds = age.as_secs();
    let (silent, other) = match (near.received(), far.received()) {
        (0, 0) => return Some(Verdict::BothSilent { ours: [near.ours, far.ours], seconds }),
        (0, _) => (near, far),
        (_, 0) => (far, near),
        _ => return None,
    };
    let waiting = other.counters.dropped.no_receiver;
    let (from, ours, says) = (silent.party, silent.ours, silent.says());
    if unlatched(silent) && waiting >= FEW {
        return Some(Verdict::Unlatched { silent: from, ours, says, sender: other.party, waiting });
    }
    let strays = silent.turned_away();
    Some(Verdict::Silent { from, ours, says, other: other.received(), strays, seconds })
}

/// Whether an end sent and has stopped.
fn stopped(near: &End<'_>, far: &End<'_>, age: Duration, patience: Option<Duration>) -> Option<Verdict> {
    let pauses = near.suppresses() || far.suppresses();
    let long = patience.unwrap_or(if pauses { SUPPRESSED } else { QUIET });
    // Before the last answer another silence may have been agreed.
    let quiet = |end: &End<'_>| end.quiet.min(age);
    let stopped = |end: &End<'_>| quiet(end) >= long;
    let end = [near, far].into_iter().find(|end| stopped(end))?;
    Some(Verdict::Stopped {
        from: end.party,
        seconds: quiet(end).as_secs(),
        received: end.received(),
        hop_limit: end.counters.hop_limit_received.average(),
        both: stopped(near) && stopped(far),
    })
}

/// Whether one end speaks RTP and the other SRTP.
fn profiles(near: &End<'_>, far: &End<'_>) -> Option<Verdict> {
    // Where SRTP ends with us the ends need not agree.
    if near.leg.srtp.is_some() || far.leg.srtp.is_some() {
        return None;
    }
    let (phone, other) = (near.line?.transport?, far.line?.transport?);
    (phone != other).then_some(Verdict::Profiles { phone, other })
}

/// Whether packets leave for an end with a TTL that does not reach it. How far away it is, its own packets tell: systems
/// start with 64, 128 or 255.
fn too_far(end: &End<'_>) -> Option<Verdict> {
    let counters = end.counters;
    if counters.sent < FEW || counters.hop_limit_received.count < FEW {
        return None;
    }
    let (sent, came) = (counters.hop_limit_sent.average()?, counters.hop_limit_received.average()?);
    let away = [64, 128, 255].into_iter().find(|start| *start >= came)? - came;
    // A router takes one, and drops what has none left (RFC 1812 §5.3.1).
    let (near, told) = (sent > away, counters.expired);
    (!near || told >= TOLD).then_some(Verdict::HopLimitLow {
        to: end.party,
        sent,
        away: (!near).then_some(away),
        told,
    })
}

/// Whether it was said that nobody takes what is sent to an end.
fn unreachable(end: &End<'_>) -> Option<Verdict> {
    let (told, receiver) = (end.counters.unreachable, end.counters.receiver);
    let to = end.party;
    (told >= TOLD).then(|| Verdict::Unreachable { to, receiver, says: end.says(), told })
}

/// Whether an end says that what we send it is lost: its own report (RFC 3550 §6.4.1) is the only word of it.
fn unheard(end: &End<'_>) -> Option<Verdict> {
    let reported = end.counters.reported?;
    let percent = percent(u64::from(reported.fraction_lost), 256);
    (percent >= LOSS && end.counters.sent >= MANY).then(|| Verdict::Unheard {
        by: end.party,
        percent,
        receiver: end.counters.receiver,
        says: end.says(),
    })
}

/// Whether much of what an end sent did not come, by its sequence numbers.
fn lossy(end: &End<'_>) -> Option<Verdict> {
    let reception = &end.counters.reception;
    let (lost, of) = (reception.lost(), reception.expected);
    let percent = percent(lost, of);
    (percent >= LOSS && of >= MANY).then_some(Verdict::Lossy { from: end.party, lost, of, percent })
}

fn percent(part: u64, of: u64) -> u8 {
    part.saturating_mul(100).checked_div(of).and_then(|percent| u8::try_from(percent).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
