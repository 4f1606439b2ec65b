//! The signalling gateway between phones and a PBX that are scripts of literal text, in virtual time.
#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

mod calls;
mod encoding;
mod flows;
mod guard;
mod lasting;
mod media;
mod ownership;
mod register;
mod routing;
mod script;
mod security;
mod several;
mod shards;
mod soak;
mod spiral;
mod transports;
mod world;
