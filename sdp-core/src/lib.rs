//! SDP rewriting in place and an RTP relay that keeps or resets TTL and hop limit.
//!
//! The layers, from the ground up; imports point down only:
//!
//! 1. [`sdp`]: a line index over the bytes of a session description, typed views that borrow them, and an edit that
//!    leaves every byte it was not told to change.
//! 2. [`rtp`]: checked views of RTP, RTCP, UDPTL and STUN, and what tells them from each other and from DTLS.
//! 3. [`policy`]: what an endpoint may ask for: ports, streams, sources, hop limit, codecs; the rules of rewriting.
//! 4. [`rewrite`]: one description, one relay address, one port a line; hold, ICE and codecs as the rules say.
//! 5. [`relay`]: what happens to a packet: who may send, where it goes, with which hop limit; driven by serialisable
//!    commands, answered by serialisable reports ([`relay::wire`]: across a process border). No socket in it.
//! 6. [`anchor`]: offers and answers of many sessions; reserves ports from its lease, rewrites, commands the relay; joins
//!    two phones or has them talk directly; takes sessions over from a process before.
//! 7. [`doctor`]: what is the matter with a stream, from what was agreed and counted. Pure.
//! 8. `net` (feature `net`, also called `tokio`): the sockets, and the thread that pumps packets.
//!
//! # Driving it
//!
//! The package is `farend-sdp-core`, the library `sdp_core`.
//!
//! The anchor lives where the signalling lives and never blocks; the relay has its own thread. Commands go down,
//! reports come up, both could cross a process border as they are:
//!
//! ```no_run
//! # #[cfg(feature = "net")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::{net::IpAddr, sync::mpsc, time::{Duration, Instant}};
//! use sdp_core::{anchor::{Anchor, Config}, net, policy::Addresses, relay::{Report, Side}};
//!
//! let outside = Addresses::from("192.0.2.10".parse::<IpAddr>()?);
//! let inside = Addresses::from("10.0.1.2".parse::<IpAddr>()?);
//! let seed = [7; 32]; // from the operating system
//!
//! let (reports, inbox) = mpsc::channel();
//! let relay = net::Relay::spawn(net::Config::new(outside, inside, seed), move |report| {
//!     let _ = reports.send(report); // runs on the relay's thread: hand over, do not work
//! })?;
//! let mut anchor = Anchor::new(Instant::now(), Config::new(outside, inside));
//!
//! // Before the first call: wait for the first lease. From here on `offer` and `answer` never wait.
//! while !anchor.is_ready() {
//!     while let Some(command) = anchor.poll_command() {
//!         relay.send(command);
//!     }
//!     let report = inbox.recv_timeout(Duration::from_secs(5))?;
//!     if let Report::Exhausted { realm, reason, .. } = &report {
//!         return Err(format!("{realm:?}: {reason}").into()); // an address that is not ours, for one
//!     }
//!     anchor.handle_report(Instant::now(), report);
//! }
//!
//! // In the signalling loop: rewrite, then drain the commands before the message leaves.
//! # let (phone, switch): (IpAddr, IpAddr) = ("198.51.100.7".parse()?, "10.0.1.60".parse()?);
//! # let sdp = b"v=0\r\n";
//! let rewritten = anchor.offer(Instant::now(), 1, Side::Outside, phone, switch, sdp)?;
//! while let Some(command) = anchor.poll_command() {
//!     relay.send(command);
//! }
//! // Each report that arrives: `anchor.handle_report(now, report)`, drain again.
//! // At `anchor.poll_timeout()`: `anchor.handle_timeout(now)`, drain again.
//! # drop(rewritten); Ok(()) }
//! # #[cfg(not(feature = "net"))] fn main() {}
//! ```
#![deny(unsafe_code)]
// A test starts from some moment and adds to it.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod anchor;
pub mod doctor;
#[cfg(feature = "net")]
pub mod net;
pub mod policy;
pub mod relay;
pub mod rewrite;
pub mod rtp;
pub mod sdp;
