//! Several dialogs answer one offer (a PBX rings many): each has its own answer, and one of them wins.

use std::time::Instant;

use super::Anchor;
use super::session::Offer;
use crate::policy::SenderLimit;
use crate::relay::{LegSetup, Pair, StreamId};

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
        let mut offer = session.offer.as_ref().filter(|offer| offer.answered)?.clone();
        let first = !offer.confirmed && offer.forks.len() > 1;
        if offer.fork == Some(fork) && !first {
            return None;
        }
        let answered = offer.forks.iter().find(|other| other.key == fork)?.clone();
        if first {
            // Signalling has spoken: whoever of the others holds a leg may be replaced.
            session.generation = session.generation.wrapping_add(1);
            offer.confirmed = true;
        }
        session.fork = Some(fork);
        let ends = (offer.from.other(), answered.signalling);
        self.take_answer(now, id, offer, ends, answered.lines).ok().map(drop)
    }

    /// Until one fork is confirmed, all of them may send where that is wanted: the phone hears each one's early media. Where
    /// the leg sends to stays with who answered last.
    pub(super) fn admit_forks(
        &self,
        offer: &Offer,
        line: usize,
        stream: StreamId,
        pair: &Pair,
        leg: &mut LegSetup,
    ) {
        if !self.config.policy.forked || offer.confirmed || offer.forks.len() < 2 {
            return;
        }
        // No address is named where any may send.
        if !leg.sources.is_empty() {
            for fork in &offer.forks {
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
        leg.max_senders = leg.max_senders.max(u8::try_from(offer.forks.len()).unwrap_or(u8::MAX));
    }
}
