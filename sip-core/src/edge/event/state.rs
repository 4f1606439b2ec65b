//! The state of the edge in numbers and lists.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Phone, Switch};
use crate::edge::guard::BlockState;
use crate::flow::{FlowId, Source};

/// The state in numbers, and the registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Every registered phone.
    pub phones: Vec<PhoneState>,
    /// Live connections with phones.
    pub flows: usize,
    /// Requests in progress.
    pub contexts: usize,
    /// Dialogs remembered.
    pub dialogs: usize,
    /// Requests from inside by resolution step 0 to 5.
    pub resolved: [u64; 6],
    /// Requests refused by us.
    pub refused: u64,
    /// Messages dropped.
    pub dropped: u64,
    /// Calls answered since the start.
    pub calls: u64,
    /// Messages dropped because their sender sends too much.
    pub floods: u64,
    /// What was no SIP.
    pub junk: u64,
    /// How many are blocked.
    pub blocked: usize,
    /// The latest of them.
    pub blocks: Vec<BlockState>,
    /// Inside addresses that passed to phones in headers that can't be rewritten (URLs to fetch).
    pub shown: u64,
    /// Whether we are draining.
    pub draining: bool,
    /// The keys that living bindings were born with, the newest among them or not.
    pub keys: Vec<u8>,
    /// Switches that get no requests at present, and those that are monitored.
    pub switches: Vec<SwitchState>,
}

/// A switch that something is held against, or that is monitored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchState {
    /// Which.
    pub switch: Switch,
    /// The monitor says that it is down.
    pub down: bool,
    /// How long it stays on the blacklist; zero when it is not on it.
    pub blacklisted: Duration,
    /// What the monitor says.
    pub health: Health,
}

/// What the monitor says of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nobody asks it.
    Unwatched,
    /// It was not heard yet, nor silent for long enough.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// One registered phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneState {
    /// Which.
    pub phone: Phone,
    /// Its connection, if it has one now.
    pub source: Option<Source>,
    /// Where it connects from.
    pub remote: Option<SocketAddr>,
    /// Users learnt.
    pub users: Vec<String>,
    /// Who it is by certificate.
    pub subject: Option<String>,
    /// Seconds until the registration expires.
    pub expires: u64,
    /// The connection's name, for the driver.
    pub flow: Option<FlowId>,
}
