//! Certificates, trust bundles, mutual TLS and ACME renewal with hot activation.
//!
//! The layers, from the ground up; each uses only those above it in this list:
//!
//! 1. [`pem`]: blocks out of whatever text a person pasted.
//! 2. [`key`] and [`certificate`]: one private key, one certificate read for display and identity, and a [`certificate::Credential`]
//!    (key, leaf, chain that fit together).
//! 3. [`import`] and [`trust`]: files of an administrator become a credential or a bundle of trusted authorities with CRLs, or a
//!    refusal that says exactly what is wrong.
//! 4. [`verify`]: is this chain good for this purpose and this name; who is the peer. [`hello`] names what a refused client had offered.
//! 5. [`request`]: new keys, signing requests, and the self-signed certificate that serves until the signed one is here.
//! 6. [`store`] and [`disk`]: what survives a restart.
//! 7. [`publish`]: the certificate a listener shows, exchangeable while it serves, and whole TLS configurations built around it.
//! 8. [`schedule`], [`order`] and [`lifecycle`]: when to renew, the steps of one order over any authority (RFC 8555), and what to show
//!    from the first start on. [`account`]: which service, and who we are to it.
//! 9. `net` (feature `tokio`): TLS accept and connect, the HTTP-01 answers on port 80, the ACME client, the task that renews.
//!
//! All but `net` is free of sockets, clocks and tasks: the time is an argument. Server certificates are renewed without closing a
//! connection; a change of trust starts new session tickets, so that nobody slips in by resumption.
//!
//! The package is `farend-acme-store`, the library `acme_store`:
//!
//! ```
//! use std::time::SystemTime;
//! use acme_store::key::{Key, KeyKind};
//! use acme_store::publish::Certificate;
//! use acme_store::request::{Form, INTERIM_LIFETIME, self_signed};
//!
//! let form = Form::for_names(&["gw.example".to_owned()]);
//! let interim = self_signed(&Key::generate(KeyKind::EcdsaP256)?, &form, SystemTime::now(), INTERIM_LIFETIME)?;
//! assert!(interim.details().is_self_signed_leaf());
//! let shown = Certificate::new(interim); // listeners are built around it; `publish` exchanges it
//! # drop(shown);
//! assert!(acme_store::import::credential(&[b"no PEM"], SystemTime::now()).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/mutual_tls.rs` goes on from there to handshakes (feature `tokio`).
#![forbid(unsafe_code)]

pub mod account;
pub mod certificate;
pub mod disk;
pub mod hello;
pub mod import;
pub mod key;
pub mod lifecycle;
pub mod order;
pub mod pem;
pub mod publish;
pub mod request;
pub mod schedule;
pub mod store;
pub mod trust;
pub mod verify;

#[cfg(feature = "tokio")]
pub mod net;
