//! The composition: the four libraries joined by their seams.

mod aside;
mod calls;
mod carry;
mod claim;
mod credentials;
mod crowd;
mod descriptions;
mod explain;
mod gateway;
mod http;
mod keys;
mod listen;
mod location;
mod machine;
mod media;
mod names;
mod places;
mod pulse;
mod route;
mod rows;
mod shards;
mod signalling;

pub(crate) use calls::Calls;
pub use claim::ClaimError;
pub use credentials::CredentialError;
pub use explain::{Asked, ExplainError, explain_sip};
pub(crate) use gateway::raise_descriptors;
pub use gateway::{Gateway, StartError};
pub use http::ServiceError;
pub use keys::{KeyError, Rotation, rotate as rotate_keys};
pub use listen::BindError;
pub use location::LocationError;
pub use media::{LinkError, MediaError};
pub(crate) use pulse::Pulse;

/// What the media process shares with the gateway.
pub(crate) mod media_process {
    pub(crate) use super::media::relay;
    pub(crate) use super::media::socket::{deliver, instance, receive};
}

/// Randomness of the operating system for one sans-I/O part.
fn seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    Ok(seed)
}
