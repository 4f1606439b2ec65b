//! Seam C: how connections are made and names are looked up, by whoever embeds this crate.

use std::future::Future;
use std::io;

use super::Stream;
use crate::flow::{Dial, Peer};
use crate::resolve::records::{Answer, Question};

/// Makes connections. One method; write it as `async fn`.
pub trait Connect: Send + Sync + 'static {
    /// Connects to `dial.remote` and no other address, does the TLS handshake where `dial.transport` wants one, and says
    /// who answered. Bounded in time by [`Limits::dial`](super::Limits::dial).
    ///
    /// # Errors
    /// Whatever kept the connection from standing. The machine learns only that it failed.
    fn connect(&self, dial: &Dial) -> impl Future<Output = io::Result<(Box<dyn Stream>, Peer)>> + Send;
}

/// Looks names up. One method; write it as `async fn`.
pub trait Resolve: Send + Sync + 'static {
    /// The records of a name; addresses in the order to try them. The machine checks each before it is used, and remembers
    /// the answer for its TTL. Bounded in time by [`Limits::resolve`](super::Limits::resolve).
    ///
    /// # Errors
    /// Whatever kept the answer away. That there are no records is an answer
    /// ([`Records::Missing`](crate::resolve::records::Records::Missing)).
    fn resolve(&self, question: &Question) -> impl Future<Output = io::Result<Answer>> + Send;
}
