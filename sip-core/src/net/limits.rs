//! What peers may take of memory and time.

use std::time::Duration;

use crate::flow::{Peer, Side};
use crate::message;

/// Bounds of a [`Driver`](super::Driver).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bounds of one message. A stream beyond them gets 400, 413 or 414 where its Via can be read, and is closed.
    pub message: message::Limits,
    /// The same for verified peers inside.
    pub switch_message: message::Limits,
    /// A connection that a peer made must bring its first valid message within this time; keep-alives don't count.
    /// Default 15 s (S16); set the smaller of this and SAM-16.
    pub first_message: Duration,
    /// From the first octet of a message to its last. Default 10 s (SAM-16; S16 allows 30 s).
    pub whole_message: Duration,
    /// How long a peer may take none of the octets that wait for it. Default 10 s (S16).
    pub write_stall: Duration,
    /// Octets that may wait for one connection, each message counted with 128 more. Beyond: closed. Default 1 MiB.
    pub queue: usize,
    /// Keep-alives (CRLF CRLF) in one second. More: closed. Default 10.
    pub pings: u32,
    /// Connections that peers made, all together. More are dropped at once. Default 20,000.
    pub streams: usize,
    /// How long a connection may take to stand, TLS included. Default 5 s. Too long makes a call wait for a dead peer.
    pub dial: Duration,
    /// Dials under way at once. More fail at once. Default 1,024.
    pub dials: usize,
    /// Those to one address; the others wait for their turn, their own time not begun. Default 64.
    pub dials_each: usize,
    /// Dials that wait for their turn, all together, three times [`Limits::dial`] at most. More fail at once. Default 4,096.
    pub dials_waiting: usize,
    /// Connections that we dialled, open or under way, all together. Further dials fail at once. Default 20,000: as
    /// many as [`Limits::streams`], where each phone has a connection of its own.
    pub dialled: usize,
    /// How long a name may take to resolve. Default 5 s.
    pub resolve: Duration,
    /// Look-ups under way at once. More find nothing at once. Default 256.
    pub lookups: usize,
    /// Messages that wait for the machine; at three quarters it is told ([`Input::Overload`](crate::machine::Input)); beyond, streams are not read and datagrams are dropped. Default 4,096.
    pub inbox: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: message::Limits::default(),
            switch_message: message::Limits::of_a_switch(),
            first_message: Duration::from_secs(15),
            whole_message: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            queue: 1 << 20,
            pings: 10,
            streams: 20_000,
            dial: Duration::from_secs(5),
            dials: 1024,
            dials_each: 64,
            dials_waiting: 4096,
            dialled: 20_000,
            resolve: Duration::from_secs(5),
            lookups: 256,
            inbox: 4096,
        }
    }
}

impl Limits {
    /// Bounds of one message from this peer.
    pub(super) fn of(&self, peer: &Peer) -> &message::Limits {
        if peer.side == Side::Inside && peer.verified { &self.switch_message } else { &self.message }
    }
}
