//! What the relay tells. Every value crosses a process border as it is; times are durations, never clock readings.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::command::{Kept, Realm, Side, StreamId, StreamSetup};
use crate::srtp::Reached;

/// A pair of bound ports; never used twice by one relay, nor, as good as certain, by two after each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PairId(pub u64);

/// A pair of bound ports: RTP on the even one, RTCP on the next (RFC 3550 §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Which.
    pub id: PairId,
    /// From where.
    pub realm: Realm,
    /// Where RTP arrives.
    pub rtp: SocketAddr,
    /// Where RTCP arrives.
    pub rtcp: SocketAddr,
}

/// A port of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// RTP, and RTCP that is multiplexed with it.
    Rtp,
    /// RTCP on its own port.
    Rtcp,
}

/// A report from the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Report {
    /// The relay runs.
    Ready {
        /// Pairs it tries to keep bound ahead of need.
        pool: usize,
        /// Pairs it may ever have bound at once.
        capacity: usize,
        /// Why `pool` or `capacity` is less than configured, in words for the operator.
        shortage: Option<String>,
    },
    /// Pairs that are the anchor's to use.
    Leased {
        /// From where.
        realm: Realm,
        /// The pairs; may be fewer than asked for.
        pairs: Vec<Pair>,
        /// Milliseconds after which an unused pair goes back to the relay.
        lifetime_ms: u64,
    },
    /// A lease that could not be met.
    Exhausted {
        /// Where.
        realm: Realm,
        /// How many pairs were missing.
        missing: u16,
        /// Why, in words for the operator.
        reason: String,
    },
    /// Leased pairs that nobody used in time: no longer the anchor's.
    Expired {
        /// The pairs.
        pairs: Vec<PairId>,
    },
    /// A stream that could not be started or changed: a pair was not leased, or leased to another stream.
    Refused {
        /// Which.
        stream: StreamId,
    },
    /// The first valid packet of an end; from now on packets to it go there, if the leg latches.
    FirstPacket {
        /// The stream.
        stream: StreamId,
        /// From which side.
        side: Side,
        /// On which port.
        component: Component,
        /// From where.
        source: SocketAddr,
        /// The hop limit it came with.
        hop_limit: Option<u8>,
    },
    /// The receiver moved: same address, same SSRC, continuing sequence from another port; or the preferred address spoke.
    Moved {
        /// The stream.
        stream: StreamId,
        /// On which side.
        side: Side,
        /// On which port.
        component: Component,
        /// Where to.
        source: SocketAddr,
    },
    /// The first packet of a stream that was dropped because its hop limit was used up.
    HopLimitExpired {
        /// The stream.
        stream: StreamId,
        /// The side it came from.
        side: Side,
    },
    /// A sender went over its packet rate and is shut out for a second; once a stream and side.
    RateExceeded {
        /// The stream.
        stream: StreamId,
        /// The side it came from.
        side: Side,
        /// The sender.
        source: SocketAddr,
    },
    /// An end, or both, fell silent for as long as the stream's timeouts say; once, until it is heard again.
    Silent {
        /// The stream.
        stream: StreamId,
        /// What is missing.
        silence: Silence,
        /// For how many seconds now.
        seconds: u16,
        /// The outside leg: TTL, addresses, counters.
        outside: Box<LegStatistics>,
        /// The inside leg.
        inside: Box<LegStatistics>,
        /// The relay has closed the stream (MED-14).
        closed: bool,
    },
    /// Counters of a stream: at intervals, and a last time when it ends.
    Statistics {
        /// The stream.
        stream: StreamId,
        /// Its outside leg.
        outside: Box<LegStatistics>,
        /// Its inside leg.
        inside: Box<LegStatistics>,
        /// Whether this is the last one.
        ended: bool,
    },
    /// How far packets have come under keys that end here, at intervals: a relay that has to go on after this one goes on behind
    /// it.
    Reached {
        /// The stream.
        stream: StreamId,
        /// Its outside leg, if that has keys.
        outside: Option<Reached>,
        /// Its inside leg.
        inside: Option<Reached>,
    },
    /// All that a new signalling process needs. In several parts where there are many sessions; each session is in one.
    Snapshot {
        /// The streams.
        streams: Vec<StreamSetup>,
        /// The pairs the streams use.
        pairs: Vec<Pair>,
        /// The records of the sessions.
        records: Vec<(u64, Kept)>,
        /// Another part follows.
        more: bool,
    },
}

/// What a silent stream is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// RTP of this end, while the other sends (SAM-20).
    OneWay(Side),
    /// RTP of all ends (SAM-21).
    Rtp,
    /// RTCP of all ends (SAM-22).
    Rtcp,
}

/// Counters of one end of a stream since it started; RTP and RTCP together where not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LegStatistics {
    /// RTP packets taken from this end.
    pub received_rtp: u64,
    /// RTCP packets taken from this end.
    pub received_rtcp: u64,
    /// Octets taken from this end, without UDP and IP headers.
    pub received_octets: u64,
    /// Packets sent to this end.
    pub sent: u64,
    /// Octets sent to this end.
    pub sent_octets: u64,
    /// Hop limit of what came.
    pub hop_limit_received: HopLimits,
    /// Hop limit of what was sent.
    pub hop_limit_sent: HopLimits,
    /// Distinct senders that were let in.
    pub senders: u8,
    /// Who they are: the first few, the holder among them.
    #[serde(default)]
    pub sources: [Option<SocketAddr>; 4],
    /// Loss and jitter of the RTP that came from this end.
    #[serde(default)]
    pub reception: Reception,
    /// What this end's RTCP last said of the RTP that it receives from us.
    #[serde(default)]
    pub reported: Option<Reported>,
    /// Between us and this end and back, microseconds, by its last report (RFC 3550 §6.4.1).
    #[serde(default)]
    pub round_trip_us: Option<u32>,
    /// An estimate of the listening quality of what came from this end, in hundredths: 100 to 450 (ITU-T G.107).
    #[serde(default)]
    pub mos_hundredths: Option<u16>,
    /// Connectivity checks that were answered.
    #[serde(default)]
    pub checks: u64,
    /// How often routers said that the hop limit of our packets to this end ran out on the way (ICMP Time Exceeded). Not each
    /// packet is asked after.
    #[serde(default)]
    pub expired: u64,
    /// How often it was said that nobody takes our packets to this end (ICMP Destination Unreachable).
    #[serde(default)]
    pub unreachable: u64,
    /// Where packets to this end go.
    pub receiver: Option<SocketAddr>,
    /// Packets from this end that were dropped.
    pub dropped: Dropped,
    /// Who was turned away last: its address may not send, the port is locked to another, or there were senders enough.
    pub refused: Option<SocketAddr>,
    /// The payload type that was turned away last, of a sender that nobody knew.
    pub refused_payload: Option<u8>,
}

/// Loss and jitter of received RTP (RFC 3550 §6.4.1, §A.3, §A.8), over all its SSRCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reception {
    /// RTP packets that were measured.
    pub received: u64,
    /// What the sequence numbers say was sent.
    pub expected: u64,
    /// Interarrival jitter as it is now, microseconds; 0 where the clock rate is unknown.
    pub jitter_us: u32,
    /// Its mean over all packets.
    pub jitter_mean_us: u32,
    /// Its maximum.
    pub jitter_max_us: u32,
    /// The first SSRCs seen.
    pub ssrcs: [Option<u32>; 4],
    /// How many SSRCs there were; one that comes again after others may count again.
    pub ssrc_count: u32,
    /// The payload type of the last packet.
    pub payload_type: Option<u8>,
}

impl Reception {
    /// Packets that did not come. Fewer than none by duplicates: none.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }
}

/// A report block: how an end receives (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The part of packets that was lost since its report before, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since it began.
    pub lost: i32,
    /// Its interarrival jitter in units of the stream's clock.
    pub jitter: u32,
}

/// A summary of hop limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HopLimits {
    /// How many were counted.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The smallest; 0 while none was counted.
    pub minimum: u8,
    /// The largest.
    #[serde(default)]
    pub maximum: u8,
    /// The last.
    pub last: u8,
}

impl HopLimits {
    /// Counts one.
    pub fn record(&mut self, value: u8) {
        self.minimum = if self.count == 0 { value } else { self.minimum.min(value) };
        self.maximum = self.maximum.max(value);
        self.count += 1;
        self.sum += u64::from(value);
        self.last = value;
    }

    /// The mean, rounded down.
    pub fn average(&self) -> Option<u8> {
        self.sum.checked_div(self.count).and_then(|mean| u8::try_from(mean).ok())
    }
}

/// Why a packet of ours did not arrive, by ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// Its hop limit ran out on the way.
    Expired,
    /// There is no way to the end, or nobody at its port.
    Unreachable,
}

/// Why packets from an end were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped {
    /// Before the end's description was seen.
    pub early: u64,
    /// From an address that may not send, or not the one the leg is locked to.
    pub stranger: u64,
    /// One sender too many.
    pub senders: u64,
    /// Not RTP or RTCP, or broken.
    pub malformed: u64,
    /// STUN that is not answered: no check, or not with our password, or too many.
    pub stun: u64,
    /// DTLS in a stream that has no keys from it.
    pub dtls: u64,
    /// ZRTP.
    pub zrtp: u64,
    /// A payload type that nobody named, from nobody known.
    pub payload: u64,
    /// Hop limit used up (`keep`).
    pub hop_limit: u64,
    /// From one of our own relay ports.
    pub own: u64,
    /// Over the packet rate.
    pub rate: u64,
    /// The same packet once more and once too often: it ran in a circle.
    pub loops: u64,
    /// The other end has no address yet, or is on hold.
    pub no_receiver: u64,
    /// The kernel refused to send.
    pub send: u64,
    /// Larger than the relay takes.
    pub oversize: u64,
    /// The port's queue in the kernel was full: more came than could be relayed.
    pub overflow: u64,
    /// SRTP that was not written with the key of that end.
    pub auth: u64,
    /// SRTP that came before, and RTP under a number that was sent to the other end already.
    pub replay: u64,
}

impl Dropped {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.early
            + self.stranger
            + self.senders
            + self.malformed
            + self.stun
            + self.dtls
            + self.zrtp
            + self.payload
            + self.hop_limit
            + self.own
            + self.rate
            + self.loops
            + self.no_receiver
            + self.send
            + self.oversize
            + self.overflow
            + self.auth
            + self.replay
    }
}
