//! A session: its streams, the offer that stands, and what each side has said.
//!
//! All of it goes, by field names, into the record that the relay keeps for a signalling process that takes over: a field
//! that comes later is `#[serde(default)]`, so that what an earlier version kept can be read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::path::Described;
use crate::relay::{LegStatistics, Pair, Side, StreamId, StreamSetup};

/// What the anchor knows of one session.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) streams: Vec<Stream>,
    /// The last offer, answered or not.
    pub(super) offer: Option<Offer>,
    /// The mapping that was agreed last: media line to stream.
    pub(super) agreed: Vec<Option<u32>>,
    pub(super) next_index: u32,
    pub(super) generation: u32,
    pub(super) record: Vec<u8>,
}

impl Session {
    pub(super) fn stream(&self, index: u32) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.index == index)
    }

    pub(super) fn stream_mut(&mut self, index: u32) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.index == index)
    }

    /// The stream that stands for a media line: of the offer that waits for its answer, else of what was agreed.
    pub(super) fn stream_of_line(&self, line: usize) -> Option<u32> {
        let waiting = self.offer.as_ref().filter(|offer| !offer.answered);
        let offered = waiting.and_then(|offer| offer.lines.get(line)).and_then(|line| line.stream);
        offered.or_else(|| self.agreed.get(line).copied().flatten())
    }
}

/// One stream of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) index: u32,
    pub(super) outside: Pair,
    pub(super) inside: Pair,
    /// What the relay was told.
    pub(super) setup: StreamSetup,
    /// Whether an answer has accepted it.
    pub(super) agreed: bool,
    /// Whose relay port its inside end named.
    pub(super) names: Option<StreamId>,
    /// With whom the relay was told to join it.
    pub(super) joined: Option<StreamId>,
    #[serde(skip)]
    pub(super) statistics: Option<(LegStatistics, LegStatistics)>,
}

impl Stream {
    pub(super) fn pair(&self, side: Side) -> Pair {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }
}

/// An offer, as far as its answer needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) from: Side,
    /// Where its author's signalling comes from.
    pub(super) signalling: IpAddr,
    pub(super) lines: Vec<OfferedLine>,
    /// Pairs that take effect with the answer: of streams that change their address family.
    pub(super) replacements: Vec<(u32, Side, Pair)>,
    pub(super) answered: bool,
}

/// A media line of an offer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OfferedLine {
    /// The stream that carries it; `None`: declined.
    pub(super) stream: Option<u32>,
    pub(super) described: Option<Described>,
}
