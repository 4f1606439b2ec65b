//! User agents in virtual time.
#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

mod single;
