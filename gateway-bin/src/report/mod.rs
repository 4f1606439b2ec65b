//! Consumers of the events of the four libraries: log lines, each with the ids that tie them together.
//!
//! Who is guilty decides the level: a peer's fault is `debug` or `info`, our own or the site's is `warn`.

pub(crate) mod http;
pub(crate) mod media;
pub(crate) mod signalling;
pub(crate) mod strangers;
