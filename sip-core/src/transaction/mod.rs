//! Transactions: RFC 3261 §17 with the corrections of RFC 6026, sans-I/O.
//!
//! Four machines, a file each, that know neither messages nor addresses: `client_invite`, `client`, `server_invite`,
//! `server`. `key` says which transaction a message belongs to, `timer` holds the clocks, `clients` and `servers` join
//! them to messages, and [`Layer`] is the whole for whoever uses transactions: a user agent or a proxy.

mod client;
mod client_invite;
mod clients;
mod key;
mod layer;
mod server;
mod server_invite;
mod servers;
#[cfg(test)]
mod tests;
mod timer;

pub use layer::{ClientKey, Event, Layer, Received, ServerKey};
pub use timer::Config;
