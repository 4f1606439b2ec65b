//! What is counted packet by packet: the part of [`LegStatistics`] that can't be worked out when it is asked for.

use std::net::SocketAddr;

use super::report::{Dropped, HopLimits, LegStatistics};

/// Counters of one end; the names are those of [`LegStatistics`]. A thousand calls have two thousand of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) received_rtp: u64,
    pub(super) received_rtcp: u64,
    pub(super) received_octets: u64,
    pub(super) sent: u64,
    pub(super) sent_octets: u64,
    pub(super) hop_limit_received: HopLimits,
    pub(super) hop_limit_sent: HopLimits,
    pub(super) checks: u64,
    pub(super) expired: u64,
    pub(super) unreachable: u64,
    pub(super) dropped: Dropped,
    pub(super) refused: Option<SocketAddr>,
    pub(super) refused_payload: Option<u8>,
}

impl From<Counts> for LegStatistics {
    fn from(counts: Counts) -> Self {
        Self {
            received_rtp: counts.received_rtp,
            received_rtcp: counts.received_rtcp,
            received_octets: counts.received_octets,
            sent: counts.sent,
            sent_octets: counts.sent_octets,
            hop_limit_received: counts.hop_limit_received,
            hop_limit_sent: counts.hop_limit_sent,
            checks: counts.checks,
            expired: counts.expired,
            unreachable: counts.unreachable,
            dropped: counts.dropped,
            refused: counts.refused,
            refused_payload: counts.refused_payload,
            ..Self::default()
        }
    }
}
