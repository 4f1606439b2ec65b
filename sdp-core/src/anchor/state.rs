//! What is known of a session's streams, for those who look on.

use std::net::SocketAddr;

use super::session::{Session, Stream};
use super::{Anchor, LegStatistics, StreamId};
use crate::relay::{Side, StreamSetup};

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

    /// The streams of a session.
    pub fn streams(&self, session: u64) -> impl Iterator<Item = StreamState<'_>> {
        let state = self.sessions.get(&session);
        state.into_iter().flat_map(move |state| {
            state.streams.iter().map(move |stream| self.stream_state(session, state, stream))
        })
    }

    /// One stream.
    pub fn stream_state_of(&self, id: StreamId) -> Option<StreamState<'_>> {
        let state = self.sessions.get(&id.session)?;
        Some(self.stream_state(id.session, state, state.stream(id.index)?))
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
            statistics: stream.statistics.as_ref(),
        }
    }
}
