//! What RFC 3261 §16 asks of every stateful proxy, apart from where a request goes.

pub mod context;
