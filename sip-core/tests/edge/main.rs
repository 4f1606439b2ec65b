//! The signalling gateway between phones and a PBX that are scripts of literal text, in virtual time.
#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

mod calls;
mod encoding;
mod failover;
mod filtering;
mod flows;
mod guard;
mod keys;
mod lasting;
mod media;
mod ownership;
mod register;
mod registrar;
mod routing;
mod script;
mod security;
mod seeds;
mod several;
mod soak;
mod spiral;
mod switches;
mod transports;
mod world;
