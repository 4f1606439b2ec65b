//! A session: its streams, the offer that stands, and what each side has said.
//!
//! All of it goes, by field names, into the record that the relay keeps for a signalling process that takes over: a field
//! that comes later is `#[serde(default)]`, so that what an earlier version kept can be read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::direct::{Place, Route};
use super::path::Described;
use super::secure::{Insists, Own, Told};
use super::state::{Refused, Said};
use crate::policy::SrtpSides;
use crate::relay::{LegStatistics, Pair, PairId, Side, StreamId, StreamSetup};
use crate::rewrite::Offered;

/// A stream whose relay port a description names. A session that begins anew under its old number has other ports: what
/// was said of it before does not hold for it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Named {
    /// The one that has the ports, or had them then: of forks that share them another one may be left.
    pub(super) stream: StreamId,
    /// Its inside ports.
    pub(super) pair: PairId,
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        (self.stream.session, self.pair) == (other.stream.session, other.pair)
    }
}

impl Eq for Named {}

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
    /// Where the phone's signalling comes from.
    pub(super) signalling: Option<IpAddr>,
    /// What the phone calls itself.
    pub(super) host: Option<IpAddr>,
    /// Who is offered SRTP alone.
    pub(super) insists: Insists,
    /// Whose answers come next, where several may answer.
    pub(super) fork: Option<u64>,
    /// For those who look on.
    pub(super) said: Said,
    /// Streams whose ports the relay could not have again, until the next answer.
    pub(super) refused: Vec<Refused>,
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
    #[serde(default)]
    pub(super) names: Option<Named>,
    /// Whether its phone was told, in place of that port, where the other phone receives (MED-03).
    #[serde(default)]
    pub(super) direct: bool,
    /// Where its phone said it receives, when it last said so.
    #[serde(default)]
    pub(super) said: Option<Place>,
    /// How often ICE began anew on it.
    #[serde(default)]
    pub(super) restarts: u32,
    /// Marks of the credentials that its ends named last, outside and inside; 0: none.
    #[serde(default)]
    pub(super) ice_marks: [u64; 2],
    /// Our keys of it, where SRTP ends with us: as good as those of the relay, they are part of what is kept.
    #[serde(default)]
    pub(super) own: Own,
    /// With whom the relay was told to join it.
    pub(super) joined: Option<StreamId>,
    #[serde(skip)]
    pub(super) statistics: Option<(LegStatistics, LegStatistics)>,
    /// Of one under keys.
    #[serde(skip)]
    pub(super) reached: Option<Box<Told>>,
}

impl Stream {
    /// One that nobody has answered yet.
    pub(super) fn new(outside: Pair, inside: Pair, setup: StreamSetup) -> Self {
        Self {
            index: setup.id.index,
            outside,
            inside,
            setup,
            agreed: false,
            names: None,
            direct: false,
            said: None,
            restarts: 0,
            ice_marks: [0; 2],
            own: Own::default(),
            joined: None,
            statistics: None,
            reached: None,
        }
    }

    /// Its pairs on both sides.
    pub(super) fn pair_ids(&self) -> Vec<PairId> {
        vec![self.outside.id, self.inside.id]
    }

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
    /// What the sides spoke when it was made, where SRTP ends with us.
    #[serde(default)]
    pub(super) srtp: Option<SrtpSides>,
    /// One of those that answered was confirmed.
    #[serde(default)]
    pub(super) confirmed: bool,
    /// Whose answer is in effect, where several may answer.
    #[serde(default)]
    pub(super) fork: Option<u64>,
    /// What those have answered that are known apart, oldest first.
    #[serde(default)]
    pub(super) forks: Vec<Fork>,
}

/// One of several dialogs that an offer has made, and what it has answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fork {
    pub(super) key: u64,
    pub(super) signalling: IpAddr,
    pub(super) lines: Vec<Option<Described>>,
    /// Its stream for each line of the offer: those of others too, or of its own.
    #[serde(default)]
    pub(super) streams: Vec<Option<u32>>,
}

/// A media line of an offer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct OfferedLine {
    /// The stream that carries it; `None`: declined.
    pub(super) stream: Option<u32>,
    pub(super) described: Option<Described>,
    /// Of an offer from inside: what it leads to.
    #[serde(default)]
    pub(super) route: Route,
    /// ICE begins anew with its answer, for the so manieth time (RFC 8445 §9).
    #[serde(default)]
    pub(super) restart: Option<u32>,
    /// What its answer has to know, where that goes back.
    #[serde(default)]
    pub(super) offered: Offered,
}

/// Forks of one offer that are known apart; of more, the oldest is forgotten.
const FORKS: usize = 16;

impl Offer {
    /// Keeps what a fork answers. Whether another's answer was in effect.
    pub(super) fn note(
        &mut self,
        fork: Option<u64>,
        signalling: IpAddr,
        lines: &[Option<Described>],
    ) -> bool {
        let other = self.answered && self.fork != fork;
        self.fork = fork;
        if let Some(key) = fork {
            self.forks.retain(|known| known.key != key);
            if self.forks.len() >= FORKS {
                self.forks.remove(0);
            }
            let streams = self.streams();
            self.forks.push(Fork { key, signalling, lines: lines.to_vec(), streams });
        }
        other
    }

    /// The stream of each line, for who answers now.
    pub(super) fn streams(&self) -> Vec<Option<u32>> {
        self.lines.iter().map(|line| line.stream).collect()
    }
}
