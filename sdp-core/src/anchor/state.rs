//! What is known of a session's streams, for those who look on.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::session::{Session, Stream};
use super::{Anchor, LegStatistics, StreamId};
use crate::doctor::Line;
use crate::relay::{Pair, Side, StreamSetup};

/// Media lines of one description that are kept for those who look on, at most.
const LINES: usize = 8;
/// Refused streams of a session that are remembered, at most.
const REFUSED: usize = 8;

/// What the ends of a session said last, kept for those who look on: no call is carried by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The switch, by where its signalling comes from or goes to.
    pub switch: Option<IpAddr>,
    /// The lines of the outside's and the inside's last description, as far as they were noted ([`Anchor::note`]).
    pub lines: [Vec<Line>; 2],
}

/// A stream that the relay could not carry on: its ports were somebody else's when it wanted them back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refused {
    lines: Vec<usize>,
    setup: StreamSetup,
    outside: Pair,
    inside: Pair,
}

/// One stream of a session, as it stands.
#[derive(Debug, Clone)]
pub struct StreamState<'a> {
    /// Which.
    pub id: StreamId,
    /// The media lines it stands for, counted from 0: alternatives at one port share a stream (SDP-02).
    pub lines: Vec<usize>,
    /// What the relay was told.
    pub setup: &'a StreamSetup,
    /// Whether an answer has accepted it.
    pub agreed: bool,
    /// The stream it is joined with: packets take one hop, from outside to outside.
    pub joined: Option<StreamId>,
    /// Where our descriptions ask the outside to send RTP.
    pub outside: Option<SocketAddr>,
    /// Where our descriptions ask the inside to send RTP.
    pub inside: Option<SocketAddr>,
    /// The relay could not have its ports again: nothing of it is carried until the next offer gives it new ones.
    pub refused: bool,
    /// The counters that came last: outside, inside.
    pub statistics: Option<&'a (LegStatistics, LegStatistics)>,
}

impl StreamState<'_> {
    /// Our address on a side.
    pub fn ours(&self, side: Side) -> Option<SocketAddr> {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }
}

impl Anchor {
    /// The numbers of all sessions, in no order.
    pub fn session_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.sessions.keys().copied()
    }

    /// The streams of a session, those that the relay refused last.
    pub fn streams(&self, session: u64) -> impl Iterator<Item = StreamState<'_>> {
        let state = self.sessions.get(&session);
        state.into_iter().flat_map(move |state| {
            let running = state.streams.iter().map(move |stream| self.stream_state(session, state, stream));
            running.chain(state.refused.iter().map(|refused| self.refused_state(refused)))
        })
    }

    /// One stream.
    pub fn stream_state_of(&self, id: StreamId) -> Option<StreamState<'_>> {
        let state = self.sessions.get(&id.session)?;
        let refused = state.refused.iter().find(|refused| refused.setup.id == id);
        let running = state.stream(id.index).map(|stream| self.stream_state(id.session, state, stream));
        running.or_else(|| refused.map(|refused| self.refused_state(refused)))
    }

    /// What the description says that comes next: it is kept with the session if that is taken, and so outlives this process
    /// with [`Config::keep_state`](super::Config::keep_state). Only its first lines.
    pub fn note(&mut self, mut lines: Vec<Line>) {
        lines.truncate(LINES);
        self.noted = Some(lines);
    }

    /// What the ends of a session said last, and where the phone's signalling comes from.
    pub fn said(&self, session: u64) -> Option<(Option<IpAddr>, &Said)> {
        self.sessions.get(&session).map(|state| (state.signalling, &state.said))
    }

    /// A description of `from` was taken.
    pub(super) fn take_note(&mut self, session: u64, from: Side, switch: IpAddr, noted: Option<Vec<Line>>) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        state.said.switch = Some(switch);
        let [outside, inside] = &mut state.said.lines;
        if let Some(lines) = noted {
            *(if from == Side::Outside { outside } else { inside }) = lines;
        }
    }

    /// The relay can't carry a stream. What of it was agreed is remembered, for nobody hears anything any more.
    pub(super) fn note_refused(&mut self, id: StreamId) {
        let Some(StreamState { agreed: true, lines, .. }) = self.stream_state_of(id) else { return };
        let Some(state) = self.sessions.get_mut(&id.session) else { return };
        let Some(stream) = state.stream(id.index) else { return };
        let (setup, outside, inside) = (stream.setup.clone(), stream.outside, stream.inside);
        if state.refused.len() >= REFUSED {
            state.refused.remove(0);
        }
        state.refused.push(Refused { lines, setup, outside, inside });
    }

    fn refused_state<'a>(&'a self, refused: &'a Refused) -> StreamState<'a> {
        StreamState {
            id: refused.setup.id,
            lines: refused.lines.clone(),
            setup: &refused.setup,
            agreed: true,
            joined: None,
            outside: self.advertised(&refused.outside),
            inside: self.advertised(&refused.inside),
            refused: true,
            statistics: None,
        }
    }

    fn stream_state<'a>(&'a self, session: u64, state: &'a Session, stream: &'a Stream) -> StreamState<'a> {
        let mine = |index: Option<u32>| index == Some(stream.index);
        let mut lines: Vec<usize> =
            (0..).zip(&state.agreed).filter(|(_, at)| mine(**at)).map(|(n, _)| n).collect();
        if lines.is_empty() {
            // Of a fork that was not the last to answer.
            let forks = state.offer.iter().flat_map(|offer| &offer.forks);
            let fork = forks.into_iter().find(|fork| fork.streams.iter().any(|at| mine(*at)));
            let streams = fork.iter().flat_map(|fork| (0..).zip(&fork.streams));
            lines = streams.filter(|(_, at)| mine(**at)).map(|(n, _)| n).collect();
        }
        if lines.is_empty() {
            let offered = state.offer.iter().flat_map(|offer| (0..).zip(&offer.lines));
            lines = offered.filter(|(_, line)| mine(line.stream)).map(|(n, _)| n).collect();
        }
        StreamState {
            id: StreamId { session, index: stream.index },
            lines,
            setup: &stream.setup,
            agreed: stream.agreed,
            joined: stream.joined,
            outside: self.advertised(&stream.outside),
            inside: self.advertised(&stream.inside),
            refused: false,
            statistics: stream.statistics.as_ref(),
        }
    }
}
