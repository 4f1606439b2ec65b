//! The async companion: endpoints on hyper, dialling, splicing, upstream servers.
//!
//! One [`Endpoint`] is one listener's service. It is given connected streams, already TLS where that is wanted,
//! and reaches out only through [`Resolve`], [`Dial`] and [`Upstream`], so certificates, name servers and source
//! addresses stay with the embedder. What happened leaves through [`Observe`].

mod answer;
mod connect;
mod dial;
mod endpoint;
mod exchange;
mod guard;
mod slots;
mod splice;
mod upstream;

pub use dial::{BoxFuture, Dial, Resolve, Stream, SystemDial, SystemResolve, Upstream};
pub use endpoint::{Config, Endpoint, Limits, Observe, Repository, Tunnel};
pub use splice::{Counts, Timers, splice};
