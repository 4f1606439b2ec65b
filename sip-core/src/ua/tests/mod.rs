//! User agents in virtual time.
#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

mod calls;
mod literal;
mod properties;
mod single;
mod world;
