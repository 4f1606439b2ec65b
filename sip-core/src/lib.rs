//! SIP messages, transactions, proxy and ContactRouteTag routing for session border controllers, sans-I/O.
//!
//! The layers, from the ground up; imports point down only:
//!
//! 1. [`uri`]: SIP, SIPS and other URIs as borrowed views, and a builder.
//! 2. [`header`]: borrowed typed views of header values, made on demand.
//! 3. [`message`]: one `Bytes` a message with its rows indexed; forwarding is the received bytes plus a patch list;
//!    framing of streams; limits; findings that carry a status.
//! 4. [`flow`]: connections, peers and targets by value; [`machine`]: the contract with a driver.
//! 5. [`token`]: seeded branches and tags, keyed tokens; [`resolve`]: who may be dialled; [`media`]: the seam to media.
//! 6. [`transaction`]: RFC 3261 §17 and RFC 6026, four machines behind one layer.
//! 7. [`proxy`]: the response context of RFC 3261 §16.
//! 8. [`edge`]: the whole signalling gateway as one machine.

#![forbid(unsafe_code)]

pub mod edge;
pub mod flow;
pub mod header;
pub mod machine;
pub mod media;
pub mod message;
pub mod proxy;
pub mod resolve;
pub mod token;
pub mod transaction;
pub mod uri;

mod grammar;
