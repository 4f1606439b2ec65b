//! A digital twin of what a teleworker gateway stands between: desk phones at home and a PBX site.
//!
//! The twin drives a gateway end to end without root and without leaving the loopback: every home network
//! and the site own a `127.x.y.0/24`, every port is free at the time of the start, every certificate is made
//! at the start and thrown away. It is written from the requirements with literal messages and has a small
//! reader of SIP text of its own; it shares no protocol code with the gateway, so a mistake cannot agree
//! with itself.
//!
//! From the ground up:
//!
//! - [`mac`], [`plan`]: who is who: hardware addresses, networks, handsets.
//! - [`pki`]: the throw-away certificate authorities; [`tls`]: TLS settings and connections made from them.
//! - [`text`]: reading SIP text and cutting it out of a stream; [`wire`]: one connection that carries it;
//!   [`agent`]: requests sent and the responses they get.
//! - [`dialog`]: what either end of a call remembers.
//! - [`http`]: the little HTTP/1.1 the phone and the HQ server speak; [`sdp`], [`rtp`]: media.
//! - [`phone`]: the virtual desk phone: boot sequence, registration, calls.
//! - [`site`]: the virtual PBX: HQ server, CAS stub, three phone switches.
//! - [`timeline`]: what happened, step by step; [`fault`]: what can be broken on purpose.
//! - [`play`]: the script of the whole demonstration.
#![forbid(unsafe_code)]

pub mod agent;
pub mod dialog;
pub mod fault;
pub mod http;
pub mod mac;
pub mod phone;
pub mod pki;
pub mod plan;
pub mod play;
pub mod rtp;
pub mod sdp;
pub mod site;
pub mod text;
pub mod timeline;
pub mod tls;
pub mod wire;
