//! Seam C: how connections are made and names are looked up, by whoever embeds this crate.

use std::future::Future;
use std::io;
use std::net::IpAddr;

use super::Stream;
use crate::flow::{Dial, Peer};

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
    /// All addresses of a host name, in the order to try them. The machine checks each before it is used.
    /// Bounded in time by [`Limits::resolve`](super::Limits::resolve).
    ///
    /// # Errors
    /// Whatever kept the answer away; to the machine it is as good as no address.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}
