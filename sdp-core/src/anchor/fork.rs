//! Several dialogs answer one offer (a PBX rings many): each has its own answer, and one of them wins.
//!
//! The offer named one port, so all who answer send to the same one. With [`Policy::forked`](crate::policy::Policy::forked)
//! (MED-13) each early dialog, told apart by its To tag, has a *lane*: streams of its own, one for each line of the offer, with
//! ports of their own towards who offered and the shared ones towards who answered. Its answer names its lane's ports. So each
//! is to the caller what it is in RFC 3261 §12.1, an answer of its own with media of its own: the caller hears each where it
//! said so, and whom it talks to is its choice, by the port that it sends to. The relay tells those who answered apart by the
//! address that each one's answer describes. The first who answers has the streams that were opened with the offer.
//!
//! A lane takes ports, so there are at most [`LANES`], and no more streams than a session may have (SDP-17). Who answers beyond
//! that shares the lane of who answered last, and the last answer counts, as for all without `forked`. So do those who
//! answer from outside: behind their NAT one address is as good as another. Who shares a lane may still be heard there.
//!
//! With the dialog that is confirmed all other lanes close; so they do with the next offer, whose answer is one dialog's. What a
//! loser still sends is a stranger's from then on; from the winner's own address it is a further sender's, which
//! `sender_limit = "multiple"` lets in until it stops.

use std::time::Instant;

use super::Anchor;
use super::session::{Fork, Offer, Session, Stream};
use crate::policy::SenderLimit;
use crate::relay::{Command, LegSetup, Pair, Side, StreamId};

/// Lanes of one offer, at most.
const LANES: usize = 8;

impl Anchor {
    /// The answers that follow are those of this fork; `None`: of the only one that answers. A name for the dialog is enough.
    pub fn set_fork(&mut self, session: u64, fork: Option<u64>) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.fork = fork;
        }
    }

    /// This fork was confirmed, or is the one that is left: what it has answered holds, whoever answered last, and the others
    /// are heard no more. Nothing changes where that is so already, or for a fork that is unknown.
    pub fn confirm_fork(&mut self, now: Instant, session: u64, fork: u64) {
        if self.return_to(now, session, fork).is_some() {
            self.keep(session);
        }
        self.ports.commands(now, &mut self.commands);
    }

    fn return_to(&mut self, now: Instant, id: u64, fork: u64) -> Option<()> {
        let session = self.sessions.get_mut(&id)?;
        let standing = session.offer.as_mut().filter(|offer| offer.answered)?;
        let mut offer = standing.clone();
        let answered = offer.forks.iter().find(|other| other.key == fork)?.clone();
        let first = !offer.confirmed && offer.forks.len() > 1;
        // Whoever answers from now on has no lane of its own.
        standing.confirmed = true;
        if offer.fork == Some(fork) && !first {
            return None;
        }
        session.fork = Some(fork);
        if first && !offer.is_apart(&answered.streams, fork) {
            // Signalling has spoken: whoever of the others holds a leg may be replaced.
            session.generation = session.generation.wrapping_add(1);
        }
        if first {
            // The last time that it has a lane to choose.
            offer.choose(&answered.streams, |index| session.stream(index).is_some());
            offer.confirmed = true;
        }
        let ends = (offer.from.other(), answered.signalling);
        self.take_answer(now, id, offer, ends, answered.lines).ok().map(drop)
    }

    /// Gives the lines of the offer the streams of the fork that answers now. Whether they are its own alone.
    pub(super) fn take_lane(
        &mut self,
        now: Instant,
        id: u64,
        session: &mut Session,
        offer: &mut Offer,
    ) -> bool {
        let Some(key) = session.fork else { return false };
        if offer.confirmed {
            return offer.is_apart(&offer.streams(), key);
        }
        if let Some(known) = offer.forks.iter().find(|fork| fork.key == key).map(|fork| fork.streams.clone())
        {
            return offer.choose(&known, |index| session.stream(index).is_some())
                && offer.is_apart(&known, key);
        }
        // The first has what was opened with the offer.
        let shares = !self.config.policy.forked || offer.from == Side::Inside;
        !shares && !offer.forks.is_empty() && self.open_lane(now, id, session, offer)
    }

    /// Streams like those of the first who answered, on other ports towards who offered.
    fn open_lane(&mut self, now: Instant, id: u64, session: &mut Session, offer: &mut Offer) -> bool {
        let Some(Fork { streams: first, .. }) = offer.forks.first() else { return false };
        let first = first.clone();
        let mut models: Vec<u32> = first.iter().flatten().copied().collect();
        models.sort_unstable();
        models.dedup();
        let room = session.streams.len() + models.len() <= self.config.policy.max_streams;
        if models.is_empty() || !room || offer.lanes() >= LANES {
            return false;
        }
        let mut taken = Vec::new();
        for model in models {
            let stream = session.stream(model);
            let leased = stream.and_then(|stream| self.ports.take(now, stream.pair(offer.from).realm));
            let Some(leased) = leased else {
                taken.into_iter().for_each(|(_, leased)| self.ports.put_back(leased));
                return false;
            };
            taken.push((model, leased));
        }
        let mut lane = first;
        for (model, leased) in taken {
            let Some(stream) = session.like(id, model, offer.from, leased.pair) else { continue };
            lane.iter_mut().filter(|at| **at == Some(model)).for_each(|at| *at = Some(stream.index));
            self.commands.push_back(Command::Open { stream: stream.setup.clone() });
            session.streams.push(stream);
        }
        offer.choose(&lane, |_| true)
    }

    /// Until one fork is confirmed, all that share a lane may send where that is wanted: the phone hears each one's early media.
    /// Where the leg sends to stays with who answered last.
    pub(super) fn admit_forks(
        &self,
        offer: &Offer,
        line: usize,
        stream: StreamId,
        pair: &Pair,
        leg: &mut LegSetup,
    ) {
        let streams = offer.streams();
        let here: Vec<&Fork> = offer.forks.iter().filter(|fork| fork.streams == streams).collect();
        if !self.config.policy.forked || offer.confirmed || here.len() < 2 {
            return;
        }
        // No address is named where any may send.
        if !leg.sources.is_empty() {
            for fork in &here {
                let Some(Some(described)) = fork.lines.get(line) else { continue };
                let Ok((other, _)) = self.leg(stream, pair, fork.signalling, described, &[]) else {
                    continue;
                };
                leg.sources.extend(other.sources);
            }
            leg.sources.sort_unstable();
            leg.sources.dedup();
        }
        leg.sender_limit = SenderLimit::Multiple;
        leg.max_senders = leg.max_senders.max(u8::try_from(here.len()).unwrap_or(u8::MAX));
    }
}

impl Offer {
    /// The lines have these streams from now on, unless one of them is not there any more.
    fn choose(&mut self, streams: &[Option<u32>], there: impl Fn(u32) -> bool) -> bool {
        if streams.len() != self.lines.len() || !streams.iter().flatten().all(|index| there(*index)) {
            return false;
        }
        for (line, stream) in self.lines.iter_mut().zip(streams) {
            line.stream = *stream;
        }
        true
    }

    /// Whether no other fork answers on any of these streams.
    fn is_apart(&self, streams: &[Option<u32>], key: u64) -> bool {
        let mut others = self.forks.iter().filter(|fork| fork.key != key).flat_map(|fork| &fork.streams);
        !others.any(|index| index.is_some() && streams.contains(index))
    }

    fn lanes(&self) -> usize {
        let distinct = |(at, fork): &(usize, &Fork)| {
            self.forks.iter().take(*at).all(|earlier| earlier.streams != fork.streams)
        };
        self.forks.iter().enumerate().filter(distinct).count()
    }

    /// The fork that answered last has these streams now. All that are still wanted: of the others too, until one is confirmed.
    pub(super) fn keep_lanes(&mut self) -> Vec<Option<u32>> {
        let streams = self.streams();
        if let Some(fork) = self.forks.iter_mut().find(|fork| Some(fork.key) == self.fork) {
            fork.streams.clone_from(&streams);
        }
        let mut kept = streams;
        if !self.confirmed {
            kept.extend(self.forks.iter().flat_map(|fork| &fork.streams));
        }
        kept
    }
}

impl Session {
    /// A stream like another one, with the same ports towards who answers and with these towards who offered. Nobody has
    /// answered on it yet.
    fn like(&mut self, session: u64, model: u32, offering: Side, pair: Pair) -> Option<Stream> {
        let model = self.stream(model)?;
        let (answering, mut setup) = (offering.other(), model.setup.clone());
        let (outside, inside) = match offering {
            Side::Outside => (pair, model.inside),
            Side::Inside => (model.outside, pair),
        };
        let (own, said, index) = (model.own.only(answering), model.said, self.next_index);
        setup.id = StreamId { session, index };
        setup.direct = false;
        let leg = setup.leg_mut(offering);
        (leg.pair, leg.ice, leg.srtp) = (pair.id, None, None);
        // What our description named there stays: its credentials in ICE, and its keys.
        let leg = setup.leg_mut(answering);
        (leg.live, leg.wanted, leg.remote, leg.srtp) = (false, false, None, None);
        self.next_index = index.wrapping_add(1);
        Some(Stream { own, said, ..Stream::new(outside, inside, setup) })
    }
}
