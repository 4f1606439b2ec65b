//! Reports of the relay as log lines.

use std::net::IpAddr;

use sdp_core::anchor::Event;
use sdp_core::doctor::Verdict;
use sdp_core::relay::{Dropped, LegStatistics, Report, Side, Silence, StreamId};
use sip_core::edge::quality::Quality;
use tracing::{debug, error, info, warn};

/// Writes one line for `report`. The counters of a running stream are `debug`, the last ones `info`.
pub(crate) fn log(report: &Report) {
    match report {
        Report::Ready { pool, capacity, shortage: Some(shortage) } => {
            warn!(pool, capacity, shortage, "the relay runs with less than it wants");
        }
        Report::Ready { pool, capacity, shortage: None } => info!(pool, capacity, "the relay runs"),
        Report::Exhausted { realm, missing, reason } => {
            warn!(side = ?realm.side, family = ?realm.family, missing, reason, "the relay is out of ports");
        }
        // Nobody is heard in it until its next offer.
        Report::Refused { stream } => error!(stream = %name(*stream), "the relay refused a stream"),
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
        Report::Silent { stream, silence, seconds, outside, inside, closed } => {
            let (phone, switch) = (end(outside), end(inside));
            warn!(stream = %name(*stream), missing = missing(*silence), seconds, outside = phone, inside = switch, closed, "a stream is silent");
        }
        Report::Statistics { stream, outside, inside, ended } => {
            leg(*stream, "outside", outside, *ended);
            leg(*stream, "inside", inside, *ended);
        }
        _ => {}
    }
}

/// Writes one line for what the anchor has to tell.
pub(crate) fn tell(event: &Event) {
    match event {
        Event::Route { stream, direct: Some(other) } => {
            info!(stream = %name(*stream), other = %name(*other), "two phones behind one NAT talk directly");
        }
        Event::Route { stream, direct: None } => info!(stream = %name(*stream), "media is relayed again"),
        Event::OutOfPorts(realm) => {
            error!(side = ?realm.side, family = ?realm.family, "no media port is left: new calls are refused");
        }
        Event::PortsAgain(realm) => {
            info!(side = ?realm.side, family = ?realm.family, "there are media ports again");
        }
        _ => {}
    }
}

/// Writes one line for a session that begins: whose streams those with its number are.
pub(crate) fn began(session: u64, phone: IpAddr, switch: IpAddr) {
    info!(session, %phone, %switch, "media begins");
}

/// Writes one line for what a phone says of its audio (RFC 6035); figures as it writes them.
pub(crate) fn reported(call_id: &str, tag: Option<&str>, quality: &Quality) {
    let plain = |hundredths: Option<u16>| hundredths.map(|value| f64::from(value) / 100.0);
    info!(
        class = MEDIA,
        call_id,
        tag = tag.unwrap_or("-"),
        mos_listening = plain(quality.mos_listening),
        mos_conversational = plain(quality.mos_conversational),
        lost_percent = plain(quality.lost),
        discarded_percent = plain(quality.discarded),
        jitter_ms = plain(quality.jitter),
        round_trip_ms = quality.round_trip,
        "the phone reports its quality"
    );
}

/// The class of lines about audio, as administrators of other gateways know it.
const MEDIA: &str = "media";

/// Writes one line for what the doctor says of a stream: none that an administrator sees where there is no trouble.
pub(crate) fn diagnosis(
    session: u64,
    index: u32,
    call_id: Option<&str>,
    tag: Option<&str>,
    verdict: &Verdict,
) {
    let stream = name(StreamId { session, index });
    let (call_id, tag, why) = (call_id.unwrap_or("-"), tag.unwrap_or("-"), verdict.name());
    if verdict.is_trouble() {
        warn!(class = MEDIA, %stream, call_id, tag, verdict = why, sentence = %verdict, "a call had trouble with its media");
    } else {
        debug!(class = MEDIA, %stream, call_id, tag, verdict = why, sentence = %verdict, "a call had no trouble with its media");
    }
}

fn leg(stream: StreamId, side: &str, leg: &LegStatistics, ended: bool) {
    let stream = name(stream);
    let (received, sent) = (leg.received_rtp, leg.sent);
    let receiver = leg.receiver.map_or_else(|| "none".to_owned(), |receiver| receiver.to_string());
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
            receiver,
            expected = leg.reception.expected,
            lost = leg.reception.lost(),
            jitter_ms = %millis(leg.reception.jitter_mean_us),
            jitter_max_ms = %millis(leg.reception.jitter_max_us),
            ssrcs = leg.reception.ssrc_count,
            senders = leg.senders,
            round_trip_ms = leg.round_trip_us.map(|us| us / 1_000),
            mos = leg.mos_hundredths.map(|mos| f64::from(mos) / 100.0),
            ttl_received,
            ttl_minimum,
            ttl_maximum = (ttl.count > 0).then_some(ttl.maximum),
            ttl_sent,
            ttl_expired,
            ttl_expired_beyond = leg.expired,
            unreachable = leg.unreachable,
            dropped,
            drops = drops(&leg.dropped),
            "stream ended"
        );
    } else {
        debug!(%stream, side, received, sent, receiver, ttl_received, ttl_minimum, ttl_sent, ttl_expired, dropped, "stream");
    }
}

/// Microseconds as milliseconds with three digits.
fn millis(us: u32) -> String {
    format!("{}.{:03}", us / 1_000, us % 1_000)
}

/// Which setting found the silence, and what is missing.
fn missing(silence: Silence) -> &'static str {
    match silence {
        Silence::OneWay(Side::Outside) => "RTP from outside (media.timeout_oneway)",
        Silence::OneWay(Side::Inside) => "RTP from inside (media.timeout_oneway)",
        Silence::Rtp => "RTP (media.timeout_rtp)",
        Silence::Rtcp => "RTCP (media.timeout_rtcp)",
    }
}

/// An end of a silent stream: `198.51.100.7:40000 received 120 rtcp 3 ttl 52-53 sent 4000 dropped none`.
fn end(leg: &LegStatistics) -> String {
    let receiver = leg.receiver.map_or_else(|| "none".to_owned(), |receiver| receiver.to_string());
    let ttl = leg.hop_limit_received;
    let (received, rtcp, sent) = (leg.received_rtp, leg.received_rtcp, leg.sent);
    let (low, high, drops) = (ttl.minimum, ttl.maximum, drops(&leg.dropped));
    format!("{receiver} received {received} rtcp {rtcp} ttl {low}-{high} sent {sent} dropped {drops}")
}

/// Why packets were dropped, and how many for each reason: `stranger 60, early 2`.
fn drops(dropped: &Dropped) -> String {
    let Dropped {
        early,
        stranger,
        senders,
        malformed,
        stun,
        dtls,
        zrtp,
        payload,
        hop_limit,
        own,
        rate,
        loops,
        no_receiver,
        send,
        oversize,
        overflow,
        auth,
        replay,
    } = dropped;
    let reasons = [
        ("early", early),
        ("stranger", stranger),
        ("senders", senders),
        ("malformed", malformed),
        ("stun", stun),
        ("dtls", dtls),
        ("zrtp", zrtp),
        ("payload", payload),
        ("hop_limit", hop_limit),
        ("own", own),
        ("rate", rate),
        ("loops", loops),
        ("no_receiver", no_receiver),
        ("send", send),
        ("oversize", oversize),
        ("overflow", overflow),
        ("auth", auth),
        ("replay", replay),
    ];
    let some = reasons.iter().filter(|(_, count)| **count > 0);
    let some: Vec<String> = some.map(|(reason, count)| format!("{reason} {count}")).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn name(stream: StreamId) -> String {
    format!("{}/{}", stream.session, stream.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_end_is_told_in_full() {
        let mut leg = LegStatistics { received_rtp: 120, sent: 4_000, ..LegStatistics::default() };
        leg.receiver = Some(([198, 51, 100, 7], 40_000).into());
        leg.hop_limit_received.record(52);
        leg.hop_limit_received.record(53);
        leg.dropped.stranger = 2;
        let told = "198.51.100.7:40000 received 120 rtcp 0 ttl 52-53 sent 4000 dropped stranger 2";
        assert_eq!(end(&leg), told);
        assert_eq!(millis(1_042), "1.042");
    }

    #[test]
    fn drops_are_named_only_where_there_are_some() {
        assert_eq!(drops(&Dropped::default()), "none");
        let some = Dropped { stranger: 60, early: 2, ..Dropped::default() };
        assert_eq!(drops(&some), "early 2, stranger 60");
    }
}
