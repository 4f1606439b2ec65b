//! What the benches measure: tasks on literal messages, done by our crates and by their peers.
//!
//! `callgrind.sh` counts the instructions of the tasks in [`sip`]; a count does not depend on how busy the machine is.
#![forbid(unsafe_code)]

pub mod sip;
