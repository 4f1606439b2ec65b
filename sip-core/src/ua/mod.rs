//! User agents: requests of our own and answers of our own, as RFC 3261 §8, §12 to §15 and RFC 3262 have them.
//!
//! - [`Client`] sends single requests and says what came of each: an answer, silence, or that nobody could be reached.
//! - [`Agent`] is all of a user agent, caller and callee, with dialogs, CANCEL, PRACK, UPDATE and forks. A B2BUA is two of
//!   its dialogs that somebody ties.
//! - [`UserAgent`] is an [`Agent`] with a [`Layer`](crate::transaction::Layer) of its own, as a machine that a driver
//!   drives (`examples/user_agent.rs`).
//!
//! The first two hold no layer and no clock; both are lent for a call. What they do by themselves is what leaves no choice:
//! ACK, PRACK, repeated 2xx, answers to BYE and CANCEL, the end of forks that came too late. Session descriptions are
//! octets here; that offers don't cross is seen to (491, 500).
//!
//! ```
//! use std::time::{Duration, Instant};
//! use sip_core::flow::{Dial, Side, Transport};
//! use sip_core::token::Random;
//! use sip_core::transaction::{Config, Layer};
//! use sip_core::ua::{Client, Outcome, Request, SentBy};
//!
//! let (mut layer, mut random) = (Layer::new(Config::default()), Random::new([7; 32]));
//! let mut client = Client::new();
//! let switch = "10.0.1.50:5060".parse()?;
//! let dial = Dial { transport: Transport::Tcp, remote: switch, side: Side::Inside, affinity: None };
//! let us = SentBy::new(Transport::Tcp, "10.0.1.2:5060");
//! let ping = Request::new("OPTIONS", "sip:10.0.1.50", &us, dial.into(), &mut random).patience(Duration::from_secs(2));
//!
//! let now = Instant::now();
//! client.send(now, &mut layer, &mut random, ping, "the main switch");
//! assert!(layer.poll_transmit().is_some_and(|sent| sent.bytes.starts_with(b"OPTIONS sip:10.0.1.50 SIP/2.0\r\n")));
//!
//! // Two seconds of silence.
//! let later = client.poll_timeout().ok_or("a deadline")?;
//! let done = client.handle_timeout(later).ok_or("done")?;
//! assert!(matches!(done.outcome, Outcome::TimedOut) && done.purpose == "the main switch");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agent;
mod answer;
mod answering;
mod callee;
mod caller;
mod client;
mod config;
mod event;
mod held;
mod request;
#[cfg(test)]
mod tests;
mod user_agent;

pub use agent::Agent;
pub use answer::Answer;
pub use client::{Client, Done, Outcome};
pub use config::{Config, Credentials};
pub use event::{DialogKey, Ending, Event, Label, Refused};
pub use request::{Request, SentBy};
pub use user_agent::{Command, UserAgent};
