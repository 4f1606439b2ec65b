//! Endpoints over real loopback sockets, with clients that send raw bytes and, where it is installed, curl.
#![allow(clippy::disallowed_methods, reason = "tests own their clock and their tasks")]

mod connect;
mod curl;
mod limits;
mod repository;
mod smuggling;
mod support;
mod tls;
mod upstream;
