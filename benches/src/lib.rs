//! Benches of the crates, and their comparison with peers
#![forbid(unsafe_code)]
