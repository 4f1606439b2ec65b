//! SIP messages, transactions, proxy and ContactRouteTag routing for session border controllers, sans-I/O
#![forbid(unsafe_code)]
pub mod edge;
pub mod flow;
pub mod media;
pub mod proxy;
pub mod resolve;
pub mod token;
