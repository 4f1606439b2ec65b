//! What the benches measure: tasks on literal messages, done by our crates and by their peers.
//!
//! `callgrind.sh` counts the instructions of the tasks in [`sip`], [`sdp`] and [`edge`]; a count does not depend on how busy the machine
//! is.
#![forbid(unsafe_code)]

pub mod edge;
pub mod sdp;
pub mod sip;
pub mod worst;
