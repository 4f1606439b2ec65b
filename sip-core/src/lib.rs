//! SIP messages, transactions, proxy and ContactRouteTag routing for session border controllers, sans-I/O.
//!
//! The layers, from the ground up; imports point down only:
//!
//! 1. [`uri`]: SIP, SIPS and other URIs as borrowed views, and a builder.
//! 2. [`header`]: borrowed typed views of header values, made on demand.
//! 3. [`message`]: one `Bytes` a message with its rows indexed; forwarding is the received bytes plus a patch list;
//!    framing of streams; limits; findings that carry a status.
//! 4. [`flow`]: where messages come from and go to: connections, peers, targets.
//! 5. [`transaction`]: RFC 3261 §17 and RFC 6026, behind one layer with one deadline.
//! 6. [`machine`]: what a driver drives.
//! 7. [`token`]: seeded branches and tags, keyed tokens; [`resolve`]: who may be dialled; [`media`]: the seam to media.
//!    [`auth`]: digest authentication, both ends.
//! 8. [`dialog`]: RFC 3261 §12 and RFC 3262; [`ua`]: user agents; [`proxy`]: the response context of RFC 3261 §16.
//! 9. [`edge`]: the whole signalling gateway as one machine.
#![cfg_attr(feature = "tokio", doc = "10. [`net`]: the driver, on tokio.")]
//!
//! The package is `farend-sip-core`, the library `sip_core`. A message is read once; answers and forwarded requests are
//! made from it:
//!
//! ```
//! use sip_core::message::{Limits, Message, Name, ResponseBuilder};
//!
//! let text = "OPTIONS sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.7;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
//!     From: <sip:a@pbx.example>;tag=1\r\nTo: <sip:pbx.example>\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
//! let message = Message::parse(text.into(), &Limits::default())?;
//! assert_eq!(message.raw(Name::CallId), Some(&b"c1"[..]));
//!
//! let answer = ResponseBuilder::new(&message, 200, "OK").to_tag("t1").build();
//! assert!(answer.starts_with(b"SIP/2.0 200 OK\r\n"));
//!
//! let mut edit = message.edit();
//! edit.push_via(b"SIP/2.0/TLS gw.example;branch=z9hG4bK2");
//! edit.set_max_forwards(69);
//! assert_eq!(Message::parse(edit.to_bytes()?, &Limits::default())?.count(Name::Via), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/tag_routing.rs` drives the whole [`edge`] by hand, `examples/own_proxy.rs` is a proxy of somebody's own on the
//! transaction layer, `examples/user_agent.rs` answers and makes calls.
#![forbid(unsafe_code)]

pub mod auth;
pub mod dialog;
pub mod edge;
pub mod flow;
pub mod header;
pub mod machine;
pub mod media;
pub mod message;
#[cfg(feature = "tokio")]
pub mod net;
mod numbered;
pub mod proxy;
pub mod resolve;
#[cfg(feature = "rsip")]
pub mod rsip;
pub mod shard;
pub mod token;
pub mod transaction;
pub mod ua;
pub mod uri;

mod grammar;
