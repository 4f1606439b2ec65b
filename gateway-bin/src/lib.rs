//! Farend, a teleworker gateway: desk phones at home use the company PBX as if they sat on the LAN.
//!
//! This crate composes the four libraries and holds no protocol rule:
//!
//! - [`config`] reads and judges the configuration file,
#![forbid(unsafe_code)]

mod compose;
pub mod config;
pub mod log;
