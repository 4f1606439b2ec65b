//! What happens to a packet between two sides, without a socket.
//!
//! A [`table::Table`] holds the ports that are bound and the streams that use them. The driver executes its
//! [`table::Action`]s, gives it commands and packets, and sends what [`table::Table::handle_packet`] tells it to. The packet
//! path (table → stream → latch → hop limit; with keys: opened before, sealed behind) neither allocates nor locks.

pub mod checks;
pub mod command;
mod counts;
mod crypt;
pub mod hop_limit;
pub mod latch;
pub mod loop_guard;
pub mod pool;
mod quality;
pub mod reception;
pub mod report;
pub mod round_trip;
pub mod silence;
pub mod stream;
pub mod succession;
pub mod table;
pub mod wire;

pub use command::{
    Command, IceLite, Kept, Kind, LegSetup, Payloads, Realm, Remote, Side, StreamId, StreamSetup, Timeouts,
};
pub use report::{Component, Dropped, LegStatistics, Pair, PairId, Reception, Report, Reported, Silence};
