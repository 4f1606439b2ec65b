//! The order of reliable provisional responses, on both sides (RFC 3262).

use std::collections::VecDeque;

use crate::header::{RAck, RSeq, Require};
use crate::message::{Message, Method};

/// The option tag.
const TAG: &[u8] = b"100rel";

/// The callee's side: what was sent reliably and which of it is acknowledged. One response is under way at a time; more
/// wait (RFC 3262 §3 forbids a second before the first is acknowledged).
#[derive(Clone, Debug)]
pub struct Sent<R> {
    last: u32,
    /// The RSeq that waits for its PRACK.
    open: Option<u32>,
    waiting: VecDeque<R>,
}

/// What a PRACK did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acknowledged<R> {
    /// It matches nothing: answer 481 (RFC 3262 §3).
    Unknown,
    /// The response need not be sent again; this one is next.
    Next(Option<R>),
}

impl<R> Sent<R> {
    /// `first` is the first RSeq, 1 to 2^31 - 1, drawn evenly (RFC 3262 §3).
    pub fn new(first: u32) -> Self {
        let first = (first & 0x7fff_ffff).max(1);
        Self { last: first - 1, open: None, waiting: VecDeque::new() }
    }

    /// Whether something waits for its PRACK.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// How many responses wait for the first to be acknowledged.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The RSeq of a response to be sent now; `None` if one is under way, so that this one must [wait](Self::hold).
    pub fn begin(&mut self) -> Option<u32> {
        if self.open.is_some() {
            return None;
        }
        // It grows by one and never wraps within an INVITE: 2^31 responses don't fit into its life.
        self.last += 1;
        self.open = Some(self.last);
        self.open
    }

    /// Keeps a response until its turn.
    pub fn hold(&mut self, response: R) {
        self.waiting.push_back(response);
    }

    /// Takes a PRACK: does its RAck name the response under way to this INVITE (RFC 3262 §7.2)?
    pub fn acknowledge(&mut self, prack: &Message, invite_cseq: u32) -> Acknowledged<R> {
        let Some(Ok(rack)) = prack.header::<RAck>() else { return Acknowledged::Unknown };
        let fits = rack.cseq.number == invite_cseq && rack.cseq.method == Method::Invite;
        if !fits || self.open != Some(rack.rseq) {
            return Acknowledged::Unknown;
        }
        self.open = None;
        Acknowledged::Next(self.waiting.pop_front())
    }

    /// Gives up what waits: a final answer makes it void.
    pub fn clear(&mut self) {
        self.open = None;
        self.waiting.clear();
    }
}

/// The caller's side, one for each early dialog: which responses are new.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Received {
    last: Option<u32>,
}

impl Received {
    /// The RSeq of a provisional response that wants a PRACK; `None` if it wants none.
    pub fn wanted(response: &Message) -> Option<u32> {
        let provisional = response.status().is_some_and(|status| (101..200).contains(&status));
        let reliable = response.headers::<Require>().flatten().any(|tag| tag.eq_ignore_ascii_case(TAG));
        if !provisional || !reliable {
            return None;
        }
        response.header::<RSeq>()?.ok()
    }

    /// Whether a response is the next one. What comes twice was acknowledged before, and what comes early must not be
    /// acknowledged until those before it have come (RFC 3262 §4).
    pub fn is_next(&mut self, rseq: u32) -> bool {
        // "If the UAC receives another reliable provisional response to the same request, and its RSeq value is not one
        // higher than the value of the sequence number, that response MUST NOT be acknowledged" (RFC 3262 §4).
        let next = self.last.is_none_or(|last| last.checked_add(1) == Some(rseq));
        if next {
            self.last = Some(rseq);
        }
        next
    }
}
