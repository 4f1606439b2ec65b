//! SIP messages, transactions, proxy and ContactRouteTag routing for session border controllers, sans-I/O.
//!
//! The layers, from the ground up; imports point down only:
//!
//! 1. [`uri`]: SIP, SIPS and other URIs as borrowed views, and a builder.
//! 2. [`header`]: borrowed typed views of header values, made on demand.
//! 3. [`message`]: one `Bytes` a message with its rows indexed; forwarding is the received bytes plus a patch list;
//!    framing of streams; limits; findings that carry a status.
#![cfg_attr(
    feature = "rsip",
    doc = "4. [`rsip`]: fallible conversions from and to the crate of that name, for embedders."
)]
#![forbid(unsafe_code)]

pub mod header;
pub mod message;
#[cfg(feature = "rsip")]
pub mod rsip;
pub mod uri;

mod grammar;
