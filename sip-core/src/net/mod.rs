//! The async companion: drives a [`Machine`](crate::machine::Machine) over TCP, TLS and UDP with tokio.
//!
//! It knows connections, not protocol: octets become messages, messages become octets, deadlines become wake-ups.
//! Streams come in connected, and under TLS where wanted, through [`Handle::stream`]; what is to be dialled goes out
//! through [`Connect`], names through [`Resolve`]. One task owns the machine:
//!
//! ```no_run
//! use std::sync::Arc;
//! use sip_core::machine::Machine;
//! use sip_core::net::{Connect, Driver, Handle, Limits, Resolve};
//!
//! async fn shard<M, C, R>(machine: M, connect: C, resolve: R) -> Handle<M::Command>
//! where
//!     M: Machine<Command: Send, Event: std::fmt::Debug> + Send + 'static,
//!     C: Connect,
//!     R: Resolve,
//! {
//!     let (driver, handle) = Driver::new(Limits::default());
//!     let run = driver.run(machine, Arc::new(connect), Arc::new(resolve), |event| println!("{event:?}"));
//!     tokio::spawn(run);
//!     handle // for listeners: handle.stream(io, peer), for operators: handle.command(..)
//! }
//! ```
//!
//! # What a peer may not do
//!
//! [`Limits`] bounds everything a peer could make grow or last: the octets of a message and the time it takes, the time to
//! the first message, the queue towards a peer that does not read, pings, connections, dials under way. A connection that
//! breaks a rule is closed; whether anybody hears of it first is said at each limit. How long a connection may stay idle
//! *after* its first message depends on what it is good for (a registration, a dialog, a transaction), which only the
//! machine knows: it says [`Output::Close`](crate::machine::Output::Close).

#![allow(
    clippy::disallowed_methods,
    reason = "here the clock is asked and tasks are spawned, and nowhere else"
)]

mod blocklist;
mod crossing;
mod datagram;
mod dial;
mod dials;
mod driver;
mod limits;
mod links;
mod queue;
mod stream;
mod stun;
#[cfg(test)]
mod tests;

pub use blocklist::Blocklist;
pub use datagram::{Datagrams, Outlet};
pub use dial::{Connect, Resolve};
pub use driver::{Driver, Gone, Handle, Refused, WeakHandle};
pub use limits::Limits;
pub use stream::Stream;
