//! Farend, a teleworker gateway: desk phones at home use the company PBX as if they sat on the LAN.
//!
//! This crate composes the four libraries and holds no protocol rule:
//!
//! - [`config`] reads and judges the configuration file,
//! - [`log`] writes structured lines, made by `report` from the libraries' events,
//! - [`Gateway`] (`compose`) joins the libraries: listeners, certificates, signalling, media, HTTP,
//! - [`media`] is the relay as a process of its own,
//! - [`status`] tells an administrator how it is,
//! - `demo` plays a whole site on loopback.
#![forbid(unsafe_code)]

mod compose;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod log;
pub mod media;
mod report;
pub mod status;

pub use compose::{
    Asked, BindError, ClaimError, CredentialError, ExplainError, Gateway, KeyError, LinkError, LocationError,
    MediaError, Rotation, ServiceError, StartError, explain_sip, rotate_keys,
};
