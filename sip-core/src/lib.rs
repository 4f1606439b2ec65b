//! SIP messages, transactions, proxy and ContactRouteTag routing for session border controllers, sans-I/O
#![forbid(unsafe_code)]

pub mod flow;
pub mod machine;
pub mod transaction;
