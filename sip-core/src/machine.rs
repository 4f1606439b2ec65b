//! The contract between a signalling machine and whoever drives it.
//!
//! A machine has no socket, no clock and no task. Its driver owns it and repeats one loop: hand it what happened
//! ([`Machine::handle_input`], [`Machine::handle_command`]), then call [`Machine::poll_output`] and obey until it answers
//! [`Output::Timeout`]; then wait for the next happening or for that instant, whichever is first, and poll again.
//! The `now` of successive calls never runs backwards.

use std::sync::Arc;
use std::time::Instant;

use crate::flow::{Dial, FlowId, Peer, Source, Transmit};
use crate::message::Message;
use crate::resolve::records::{Answer, Question};
use crate::shard::Handed;

/// A signalling machine, seen from its driver.
pub trait Machine {
    /// What an operator or the surrounding program may ask of it.
    type Command;
    /// What it tells counters, logs and tests.
    type Event;

    /// Takes something that happened on the network.
    fn handle_input(&mut self, now: Instant, input: Input);

    /// Takes an order from the surrounding program.
    fn handle_command(&mut self, now: Instant, command: Self::Command);

    /// The next thing for the driver to do. Timers that are due at `now` fire here. [`Output::Timeout`] ends the round.
    fn poll_output(&mut self, now: Instant) -> Output<Self::Event>;
}

/// What happened on the network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A stream connection stands: one that a peer made, or one that we dialled.
    FlowOpened {
        /// Its name from now on.
        flow: FlowId,
        /// Who is at the other end.
        peer: Arc<Peer>,
        /// What it was dialled for; `None` if the peer connected to us.
        dial: Option<Dial>,
    },
    /// One whole, well-framed message.
    Message {
        /// Where it came from.
        source: Source,
        /// Who sent it.
        peer: Arc<Peer>,
        /// The message.
        message: Message,
    },
    /// A peer sent a keep-alive; where one is due it has been answered (RFC 5626 §4.4). A sign of life and nothing else.
    Ping {
        /// Where it came from.
        source: Source,
    },
    /// A peer sent something that is not SIP. The driver has answered already if an answer was due, and closes the
    /// connection if it was one ([`Input::FlowClosed`] follows). For counters and guards only.
    Unframeable {
        /// Where it came from.
        source: Source,
        /// Who sent it.
        peer: Arc<Peer>,
        /// The status it was answered with; `None` if it met silence.
        status: Option<u16>,
    },
    /// A message that arrived at another shard and is the business of this one, or may be.
    Handed(Box<Handed>),
    /// A message that could not be handed over ([`Output::Hand`]), because the other shard has too much to do.
    Unhanded(Box<Handed>),
    /// A message to a connection of another shard is lost, because that shard has too much to do.
    Unsent {
        /// Which connection.
        flow: FlowId,
    },
    /// A stream connection is gone, for whatever reason. Nothing more comes from it. It may be one of another shard, if
    /// something that it brought was handed over.
    FlowClosed {
        /// Which one.
        flow: FlowId,
    },
    /// A connection could not be made, or its queue was full. Everything that was sent to it since it was asked for is
    /// lost.
    DialFailed {
        /// Which one.
        dial: Dial,
        /// Whose fault it was.
        fault: Fault,
    },
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// The number of the question.
        query: u64,
        /// What came of it.
        answer: Answer,
    },
    /// Messages come faster than the machine takes them, or no longer do. Meant to shed what is new (RFC 6357 §3.2).
    Overload(bool),
    /// No new work: finish what runs.
    Drain,
}

/// Why a connection could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The other end refused, was silent, or could not show who it is.
    Peer,
    /// We have too many connections, no socket for it, or too much waiting to be sent: it says nothing about the peer.
    Own,
}

/// What the driver shall do next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Output<E> {
    /// Send a message.
    Transmit(Transmit),
    /// Close a connection once what is queued on it has been written.
    Close(FlowId),
    /// Give the machine of another shard a message: it gets [`Input::Handed`]. Where that shard takes no more, this machine
    /// gets it back as [`Input::Unhanded`].
    Hand(Box<Handed>),
    /// Tell the machine of another shard that a connection of ours is gone: [`Input::FlowClosed`].
    HandClosed {
        /// Which shard.
        shard: u8,
        /// Which connection.
        flow: FlowId,
    },
    /// Ask the name servers.
    Resolve {
        /// Comes back with the answer.
        query: u64,
        /// What to ask.
        question: Question,
    },
    /// Tell whoever listens.
    Event(E),
    /// Nothing more to do until something happens or this instant passes (`None`: until something happens).
    Timeout(Option<Instant>),
}
