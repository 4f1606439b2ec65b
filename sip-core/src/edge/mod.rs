//! The whole signalling gateway as one machine.

pub mod bindings;
pub mod config;
pub mod event;
pub mod route_tag;
pub mod uri_codec;

mod dialogs;

pub use config::Config;
pub use event::{Command, Event};
