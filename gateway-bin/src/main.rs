//! The command `farend`.
#![forbid(unsafe_code)]

fn main() {}
