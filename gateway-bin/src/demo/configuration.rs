//! The configuration of the demonstration: the shipped one with the addresses of a laboratory, written
//! as text and judged like any other.

use std::fmt::Write as _;
use std::path::Path;

use twin::plan::Plan;

/// The part of the gateway a `--break` disables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Tags are not looked at.
    TagRouting,
    /// The relay accepts no packet of a phone.
    Relay,
    /// Tunnels lead nowhere.
    Tunnel,
    /// The gateway shows a certificate the phones don't trust.
    Certificate,
    /// `startup.cfg` is not there.
    File,
}

/// Ports chosen for this run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) sip: u16,
    pub(super) files: u16,
    pub(super) tunnel: u16,
    pub(super) http: u16,
    pub(super) inside_sip: u16,
    pub(super) hq: u16,
    pub(super) switch: u16,
}
