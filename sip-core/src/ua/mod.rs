//! User agents: requests of our own, as RFC 3261 §8.1 has them, on a [`Layer`](crate::transaction::Layer) that somebody
//! else owns.
//!
//! [`Client`] sends single requests and says what came of each: an answer, silence, or that nobody could be reached. It
//! holds no layer and no clock; both are lent for a call.
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

mod client;
mod request;
#[cfg(test)]
mod tests;

pub use client::{Client, Done, Outcome};
pub use request::{Request, SentBy};
