//! The signalling gateway between phones and a PBX that are scripts of literal text, in virtual time.

mod calls;
mod register;
mod script;
mod world;
