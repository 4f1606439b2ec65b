//! The signalling gateway between phones and a PBX that are scripts of literal text, in virtual time.
#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

mod calls;
mod credentials;
mod encoding;
mod explaining;
mod failover;
mod filtering;
mod flows;
mod guard;
mod keepalive;
mod keys;
mod large;
mod lasting;
mod media;
mod monitor;
mod overload;
mod ownership;
mod redirect;
mod reg_id;
mod register;
mod registrar;
mod reuse;
mod routing;
mod script;
mod security;
mod seeds;
mod sessions;
mod several;
mod shards;
mod soak;
mod spiral;
mod switches;
mod takeover;
mod transparency;
mod transports;
mod world;
