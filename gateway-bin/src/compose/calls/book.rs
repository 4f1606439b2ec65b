//! The facts of all calls, and what the doctor makes of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sdp_core::anchor::StreamState;
use sdp_core::doctor::{self, End, Facts, Line, Party, Verdict};
use sdp_core::relay::{LegStatistics, Side, StreamId, StreamSetup};

use sip_core::edge::quality::Quality;

use crate::report;
use crate::status::{EndStatus, Past, StreamStatus};

/// Troubled calls that are remembered after their end.
const PAST: usize = 50;

#[derive(Default)]
pub(super) struct Book {
    pub(super) calls: HashMap<u64, Call>,
    /// Calls that have ended, the oldest first.
    pub(super) leaving: VecDeque<(Instant, u64)>,
    /// How many of them are judged.
    pub(super) judged: usize,
    pub(super) past: VecDeque<(Instant, Past)>,
    /// All that ever were troubled.
    pub(super) in_trouble: u64,
}

/// A call, as far as its media goes.
#[derive(Default)]
pub(super) struct Call {
    pub(super) began: Option<Instant>,
    pub(super) answered: Option<Instant>,
    pub(super) call_id: Option<Box<str>>,
    pub(super) tag: Option<Box<str>>,
    pub(super) phone: Option<IpAddr>,
    pub(super) switch: Option<IpAddr>,
    /// What the outside and the inside said last.
    pub(super) lines: [Vec<Line>; 2],
    /// Since when that holds.
    pub(super) agreed: Option<Instant>,
    pub(super) counted: BTreeMap<u32, Counted>,
    /// With whom its streams were joined last.
    pub(super) joins: BTreeMap<u32, StreamId>,
    /// What the phone itself measured, by its last report.
    pub(super) quality: Option<Quality>,
    /// Its streams as they were at its end.
    pub(super) last: Option<Vec<Seen>>,
}

/// What was counted of a stream, outside and inside.
pub(super) struct Counted {
    at: Instant,
    legs: Box<[LegStatistics; 2]>,
    /// When more RTP had come than the time before.
    heard: [Instant; 2],
}

/// A stream as the anchor knows it.
#[derive(Clone)]
pub(super) struct Seen {
    id: StreamId,
    lines: Vec<usize>,
    setup: StreamSetup,
    agreed: bool,
    pub(super) joined: Option<StreamId>,
    ours: [Option<SocketAddr>; 2],
    refused: bool,
}

impl Seen {
    pub(super) fn new(state: &StreamState<'_>) -> Self {
        Self {
            id: state.id,
            lines: state.lines.clone(),
            setup: state.setup.clone(),
            agreed: state.agreed,
            joined: state.joined,
            ours: [state.ours(Side::Outside), state.ours(Side::Inside)],
            refused: state.refused,
        }
    }

    #[cfg(test)]
    pub(super) fn be_direct(&mut self) {
        self.setup.direct = true;
    }
}

impl Call {
    pub(super) fn count(&mut self, now: Instant, index: u32, legs: [LegStatistics; 2]) {
        let counted = self.counted.entry(index).or_insert_with(|| Counted {
            at: now,
            legs: Box::new([LegStatistics::default(); 2]),
            heard: [now; 2],
        });
        for ((heard, old), new) in counted.heard.iter_mut().zip(counted.legs.iter()).zip(&legs) {
            // Fewer than before: the relay was lost, and another one counts from nothing.
            let before = if new.received_rtp < old.received_rtp { 0 } else { old.received_rtp };
            if new.received_rtp > before {
                *heard = now;
            }
        }
        (counted.at, *counted.legs) = (now, legs);
    }

    /// The relay has measured how long an end is silent: better than what follows from counters at intervals.
    pub(super) fn silent(&mut self, index: u32, side: Side, long: Duration) {
        let counted = self.counted.get_mut(&index);
        if let Some((at, heard)) =
            counted.and_then(|c| Some((c.at, c.heard.get_mut(usize::from(side == Side::Inside))?)))
        {
            *heard = at.checked_sub(long).unwrap_or(at);
        }
    }

    /// The media line that a stream stands for: of alternatives at one port the one that neither end declined.
    fn line(&self, seen: &Seen) -> Option<usize> {
        let wanted =
            |at: &&usize| self.lines.iter().all(|lines| lines.get(**at).is_some_and(|line| !line.declined));
        seen.lines.iter().find(wanted).or_else(|| seen.lines.first()).copied()
    }

    pub(super) fn past(&self, session: u64, verdict: &Verdict) -> Past {
        Past {
            session,
            call_id: self.call_id.as_deref().map(str::to_owned),
            phone: self.tag.as_deref().map(str::to_owned),
            phone_address: self.phone,
            ago: 0,
            verdict: verdict.name().to_owned(),
            sentence: verdict.to_string(),
        }
    }
}

impl Book {
    pub(super) fn join(&mut self, a: StreamId, b: StreamId) {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(call) = self.calls.get_mut(&one.session) {
                call.joins.insert(one.index, other);
            }
        }
    }

    pub(super) fn part(&mut self, stream: StreamId) {
        let other = self.calls.get_mut(&stream.session).and_then(|call| call.joins.remove(&stream.index));
        if let Some(other) = other
            && let Some(call) = self.calls.get_mut(&other.session)
        {
            call.joins.remove(&other.index);
        }
    }

    pub(super) fn remember(&mut self, now: Instant, past: Past) {
        self.in_trouble += 1;
        if self.past.len() >= PAST {
            self.past.pop_front();
        }
        self.past.push_back((now, past));
    }

    /// Signalling says whose the description was that was refused a moment ago: the same thread tells both.
    pub(super) fn name_refused(&mut self, remote: IpAddr, call_id: &str, tag: Option<&str>) {
        let unnamed = |past: &&mut Past| past.call_id.is_none() && past.phone_address == Some(remote);
        let latest = self.past.iter_mut().rev().map(|(_, past)| past).find(unnamed);
        if let Some(past) = latest {
            past.call_id = Some(call_id.to_owned());
            past.phone = tag.map(str::to_owned);
        }
    }

    /// A phone reports on a call, of its own: another's Call-ID is none of its calls. Phones do so at the end of a call and some
    /// now and then; rates of requests bound how often all calls are looked through.
    pub(super) fn reported(&mut self, call_id: &str, remote: IpAddr, quality: Quality) {
        let own = |call: &&mut Call| call.phone == Some(remote) && call.call_id.as_deref() == Some(call_id);
        if let Some(call) = self.calls.values_mut().find(own) {
            call.quality = Some(quality);
            report::media::reported(call_id, call.tag.as_deref(), &quality);
        }
    }

    /// Streams of others that the streams of this call were joined with.
    pub(super) fn peers(&self, id: u64) -> Vec<StreamId> {
        self.calls.get(&id).map(|call| call.joins.values().copied().collect()).unwrap_or_default()
    }

    /// A call is over and its last counters are in: one line about each stream in trouble, none about others.
    pub(super) fn farewell(&mut self, now: Instant, id: u64, peers: &[Seen]) {
        let Some(call) = self.calls.get(&id) else { return };
        let mut troubles = Vec::new();
        for seen in call.last.iter().flatten() {
            let verdict = self.judge(call, seen, peers);
            let (call_id, tag) = (call.call_id.as_deref(), call.tag.as_deref());
            report::media::diagnosis(id, seen.id.index, call_id, tag, &verdict);
            if verdict.is_trouble() {
                troubles.push(call.past(id, &verdict));
            }
        }
        for past in troubles {
            self.remember(now, past);
        }
    }

    /// One line about a stream of a call that runs, if it is in trouble.
    pub(super) fn diagnose(&self, seen: &Seen, peers: &[Seen]) {
        let Some(call) = self.calls.get(&seen.id.session) else { return };
        let verdict = self.judge(call, seen, peers);
        if verdict.is_trouble() {
            let (call_id, tag) = (call.call_id.as_deref(), call.tag.as_deref());
            report::media::diagnosis(seen.id.session, seen.id.index, call_id, tag, &verdict);
        }
    }

    pub(super) fn stream(&self, now: Instant, call: &Call, seen: &Seen, peers: &[Seen]) -> StreamStatus {
        let verdict = self.judge(call, seen, peers);
        let counted = call.counted.get(&seen.id.index);
        let line = call.line(seen);
        let says = |call: &Call, side: usize, line: Option<usize>| {
            line.and_then(|at| call.lines.get(side)?.get(at)).cloned()
        };
        let (near, far) = (says(call, 0, line), says(call, 1, line));
        let codecs = [&near, &far].into_iter().flatten().map(|line| line.codecs.to_string());
        let codecs = codecs.min_by_key(String::len);
        let mut other = EndStatus {
            ours: seen.ours[1],
            says: far.and_then(|line| line.rtp),
            counters: counted.map(|counted| counted.legs[1]),
        };
        let joined = seen.joined.and_then(|peer| self.peer(peer, peers));
        if let Some((peer_call, peer)) = joined {
            other = EndStatus {
                ours: peer.ours[0],
                says: says(peer_call, 0, peer_call.line(peer)).and_then(|line| line.rtp),
                counters: peer_call.counted.get(&peer.id.index).map(|counted| counted.legs[0]),
            };
        }
        StreamStatus {
            line,
            media: match (seen.agreed, joined.is_some()) {
                _ if seen.refused => "refused",
                (false, _) => "offered",
                (true, _) if seen.setup.direct => "direct",
                (true, true) => "joined",
                (true, false) => "relayed",
            }
            .to_owned(),
            codecs,
            verdict: verdict.name().to_owned(),
            trouble: verdict.is_trouble(),
            sentence: verdict.to_string(),
            age: counted.map(|counted| now.saturating_duration_since(counted.at).as_secs()),
            phone: EndStatus {
                ours: seen.ours[0],
                says: near.and_then(|line| line.rtp),
                counters: counted.map(|counted| counted.legs[0]),
            },
            other,
        }
    }

    fn judge(&self, call: &Call, seen: &Seen, peers: &[Seen]) -> Verdict {
        let nothing = LegStatistics::default();
        let peer_id = seen.joined.or_else(|| call.joins.get(&seen.id.index).copied());
        let peer = match peer_id.map(|id| self.peer(id, peers)) {
            // The other phone is long gone, and what it did with it.
            Some(None) => return Verdict::NotEnough { packets: 0, seconds: None },
            Some(peer) => peer,
            None => None,
        };
        let near = end(call, seen, Side::Outside, Party::Phone, &nothing);
        let far = match peer {
            Some((call, seen)) => end(call, seen, Side::Outside, Party::OtherPhone, &nothing),
            None => end(call, seen, Side::Inside, Party::Switch, &nothing),
        };
        let counted = call.counted.get(&seen.id.index);
        // Of two phones both must have been counted.
        let counted =
            counted.filter(|_| peer.is_none_or(|(call, seen)| call.counted.contains_key(&seen.id.index)));
        let age = counted.and_then(|counted| counted.at.checked_duration_since(call.agreed?));
        doctor::judge(&Facts {
            agreed: seen.agreed,
            answered: Some(call.answered.is_some()),
            refused: seen.refused,
            direct: seen.setup.direct,
            patience: seen.setup.timeouts.one_way.map(|seconds| Duration::from_secs(seconds.into())),
            age,
            near,
            far,
        })
    }

    /// A stream of another call: as the anchor knows it, else as it was at its end.
    fn peer<'a>(&'a self, id: StreamId, peers: &'a [Seen]) -> Option<(&'a Call, &'a Seen)> {
        let call = self.calls.get(&id.session)?;
        let known = peers.iter().chain(call.last.iter().flatten()).find(|seen| seen.id == id)?;
        Some((call, known))
    }
}

fn end<'a>(call: &'a Call, seen: &'a Seen, side: Side, party: Party, nothing: &'a LegStatistics) -> End<'a> {
    let at = usize::from(side == Side::Inside);
    let counted = call.counted.get(&seen.id.index);
    End {
        party,
        ours: seen.ours.get(at).copied().flatten(),
        line: call.line(seen).and_then(|line| call.lines.get(at)?.get(line)),
        leg: seen.setup.leg(side),
        counters: counted.and_then(|counted| counted.legs.get(at)).unwrap_or(nothing),
        quiet: counted.map_or(Duration::ZERO, |counted| {
            let heard = counted.heard.get(at).copied().unwrap_or(counted.at);
            counted.at.saturating_duration_since(heard)
        }),
    }
}
