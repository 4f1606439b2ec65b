//! The crate's own network part (feature `tokio`): TLS streams, the HTTP-01 responder, the ACME client, the renewing task. Uses the
//! public items of the other modules only.
#![allow(clippy::disallowed_methods)] // Clocks and tasks live here and nowhere else.

pub mod authority;
pub mod http01;
pub mod https;
pub mod renewer;
pub mod tls;
