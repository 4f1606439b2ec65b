//! Connectivity checks that come to a leg with ICE (RFC 8445 §2.5: an agent that only answers).

use std::net::SocketAddr;
use std::time::Instant;

use super::command::IceLite;
use super::loop_guard::Ceiling;
use crate::rtp::stun::{Check, MAX_ANSWER};

/// Checks a second of one source. An agent paces all of its own at one in 5 ms at most (RFC 8445 §14.2) and repeats few.
const RATE: u32 = 50;
/// Sources remembered; a further one takes the place of the first.
const SOURCES: usize = 8;

/// An answer that waits to be sent.
#[derive(Debug, Clone)]
pub struct Answer {
    bytes: [u8; MAX_ANSWER],
    length: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self { bytes: [0; MAX_ANSWER], length: 0 }
    }
}

impl Answer {
    /// The message.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Who has sent checks lately.
#[derive(Debug, Default)]
pub struct Checks {
    sources: [Option<(SocketAddr, Ceiling)>; SOURCES],
    next: usize,
    /// The user fragment by which a path was chosen: what was before it counts no more.
    chosen: Option<Box<str>>,
}

impl Checks {
    /// Writes the answer to a check that names us and has our password; gives whether it chooses this path. `None`: no such
    /// check, or one too many of its source, and nothing is to be said. `before` are credentials of before a restart: they
    /// count until a path was chosen by those that took their place.
    pub fn answer(
        &mut self,
        now: Instant,
        (ice, before): (&IceLite, Option<&IceLite>),
        source: SocketAddr,
        bytes: &[u8],
        answer: &mut Answer,
    ) -> Option<bool> {
        let at = self.sources.iter().position(|seat| seat.is_some_and(|(known, _)| known == source));
        let at = at.unwrap_or_else(|| {
            let at = self.next;
            self.next = (at + 1) % SOURCES;
            if let Some(seat) = self.sources.get_mut(at) {
                *seat = Some((source, Ceiling::new(now)));
            }
            at
        });
        let (_, ceiling) = self.sources.get_mut(at)?.as_mut()?;
        if !ceiling.admits(now, RATE) {
            return None;
        }
        let before = before.filter(|_| self.chosen.as_deref() != Some(&*ice.ufrag));
        let (check, by) = match (Check::read(bytes, &ice.ufrag, &ice.password), before) {
            (Some(check), _) => (check, ice),
            (None, Some(before)) => (Check::read(bytes, &before.ufrag, &before.password)?, before),
            (None, None) => return None,
        };
        answer.length = check.answer(source, &by.password, &mut answer.bytes)?;
        if check.nominated && before.is_some() && by == ice {
            self.chosen = Some(ice.ufrag.as_str().into());
        }
        Some(check.nominated)
    }
}

#[cfg(test)]
mod tests;
