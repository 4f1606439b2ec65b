//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760), sans-I/O: both ends.
//!
//! [`Verifier`] challenges and judges; [`Responder`] answers the challenges of others. `digest` is the arithmetic both
//! share.

mod digest;
mod respond;
mod verify;

pub use digest::{Account, Algorithm, HashError, Qop};
pub use respond::{Responder, Unanswerable};
pub use verify::{Question, Settings, Verdict, Verifier};

#[cfg(test)]
mod tests;
