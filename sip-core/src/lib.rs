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
//! 8. [`proxy`]: the response context of RFC 3261 §16.
//! 9. [`edge`]: the whole signalling gateway as one machine.
#![cfg_attr(feature = "tokio", doc = "10. [`net`]: the driver, on tokio.")]
#![forbid(unsafe_code)]

pub mod edge;
pub mod flow;
pub mod header;
pub mod machine;
pub mod media;
pub mod message;
#[cfg(feature = "tokio")]
pub mod net;
pub mod proxy;
pub mod resolve;
#[cfg(feature = "rsip")]
pub mod rsip;
pub mod token;
pub mod transaction;
pub mod uri;

mod grammar;
