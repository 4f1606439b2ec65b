//! Reports of the relay as log lines.

use sdp_core::relay::{LegStatistics, Report, StreamId};
use tracing::{debug, info, warn};

/// Writes one line for `report`. The counters of a running stream are `debug`, the last ones `info`.
pub(crate) fn log(report: &Report) {
    match report {
        Report::Ready { pool, capacity, shortage: Some(shortage) } => {
            warn!(pool, capacity, shortage, "the relay runs with fewer ports");
        }
        Report::Ready { pool, capacity, shortage: None } => info!(pool, capacity, "the relay runs"),
        Report::Exhausted { realm, missing, reason } => {
            warn!(side = ?realm.side, family = ?realm.family, missing, reason, "the relay is out of ports");
        }
        Report::Refused { stream } => warn!(stream = %name(*stream), "the relay refused a stream"),
        Report::FirstPacket { stream, side, component, source, hop_limit } => {
            info!(stream = %name(*stream), ?side, ?component, %source, ttl = hop_limit, "first packet");
        }
        Report::Moved { stream, side, component, source } => {
            info!(stream = %name(*stream), ?side, ?component, %source, "the receiver moved");
        }
        Report::HopLimitExpired { stream, side } => {
            warn!(stream = %name(*stream), ?side, "a packet came with its last hop and was dropped (media.ttl = \"keep\")");
        }
        Report::RateExceeded { stream, side, source } => {
            warn!(stream = %name(*stream), ?side, %source, "a sender is shut out for a second");
        }
        Report::Statistics { stream, outside, inside, ended } => {
            leg(*stream, "outside", outside, *ended);
            leg(*stream, "inside", inside, *ended);
        }
        _ => {}
    }
}

fn leg(stream: StreamId, side: &str, leg: &LegStatistics, ended: bool) {
    let stream = name(stream);
    let (received, sent, receiver) = (leg.received_rtp, leg.sent, leg.receiver);
    let ttl = leg.hop_limit_received;
    let ttl_received = ttl.average();
    let ttl_minimum = (ttl.count > 0).then_some(ttl.minimum);
    let ttl_sent = leg.hop_limit_sent.average();
    let ttl_expired = leg.dropped.hop_limit;
    let dropped = leg.dropped.total();
    if ended {
        info!(
            %stream,
            side,
            received,
            received_rtcp = leg.received_rtcp,
            sent,
            ?receiver,
            ttl_received,
            ttl_minimum,
            ttl_sent,
            ttl_expired,
            dropped,
            drops = ?leg.dropped,
            "stream ended"
        );
    } else {
        debug!(%stream, side, received, sent, ?receiver, ttl_received, ttl_minimum, ttl_sent, ttl_expired, dropped, "stream");
    }
}

fn name(stream: StreamId) -> String {
    format!("{}/{}", stream.session, stream.index)
}
