//! HTTP CONNECT tunnels and phone file repositories for teleworker gateways.
//!
//! A desk phone at home fetches its start-up file and firmware over HTTPS, and reaches chosen machines behind
//! the gateway through HTTP CONNECT. This crate is those two services, from the ground up:
//!
//! 1. [`authority`]: the `host:port` of a CONNECT request, read strictly.
//! 2. [`policy`]: networks, ports and the addresses that are never reached whatever a row says.
//! 3. [`path`]: the path of a file request, decoded once.
//! 4. [`files`]: local files with content, checksum, entity tag and ranges.
//! 5. [`startup_cfg`]: the grammar and the rules of the phone's start-up file.
//! 6. [`repository`]: which row answers a request: local file, its checksum, or a remote server.
//! 7. [`event`]: who is at the other end, and what happened.
//! 8. `net` (feature `tokio`): endpoints on hyper, dialling, splicing, upstream servers.
//!
//! Layers 1 to 7 have no socket, clock or task. TLS, DNS and listening sockets belong to the embedder: an
//! endpoint takes a stream that is already connected, and dials through traits. The package is `farend-tunnel`, the
//! library `tunnel`.
//!
//! ```
//! use tunnel::{authority::Target, policy::{Decision, Networks, Policy, Ports, Rule}};
//!
//! let rule = Rule { allow_to: Networks::parse(["10.0.1.50-10.0.1.51"])?, ports: Ports::parse(["5448"])? };
//! let policy = Policy { rules: vec![rule], ..Policy::default() };
//! let target = Target::parse(b"10.0.1.50:5448")?;
//! assert!(matches!(policy.decide(&target), Decision::Dial(_)));
//! assert!(matches!(policy.decide(&Target::parse(b"127.0.0.1:5448")?), Decision::Refuse(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod authority;
pub mod event;
pub mod files;
#[cfg(feature = "tokio")]
pub mod net;
pub mod path;
pub mod policy;
pub mod repository;
pub mod startup_cfg;

pub use event::{Identity, Peer};
