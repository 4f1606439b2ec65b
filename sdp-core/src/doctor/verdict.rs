//! What the doctor says: a value with the facts it rests on. `words` has its sentence.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::anchor::Refusal;
use crate::policy::Transport;

/// Who is at an end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// The phone whose call it is.
    Phone,
    /// The phone at the other end, where two streams are joined.
    OtherPhone,
    /// The PBX, or whoever is behind it.
    Switch,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Phone => "the phone",
            Self::OtherPhone => "the other phone",
            Self::Switch => "the switch",
        })
    }
}

/// How a party asked for silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `a=sendonly`.
    SendOnly,
    /// `a=recvonly`.
    ReceiveOnly,
    /// `a=inactive`.
    Inactive,
    /// `c=0.0.0.0` (RFC 2543).
    Nowhere,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendOnly => "a=sendonly",
            Self::ReceiveOnly => "a=recvonly",
            Self::Inactive => "a=inactive",
            Self::Nowhere => "c=0.0.0.0",
        })
    }
}

/// What is the matter with a stream. [`fmt::Display`] gives one sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Packets go both ways.
    Healthy,
    /// Too few packets, or too short a time, to say anything.
    NotEnough {
        /// Packets that came, of both ends.
        packets: u64,
        /// Seconds since the answer, where it and counters since then are there.
        seconds: Option<u64>,
    },
    /// The answer has not come yet.
    Unanswered,
    /// The call is not answered yet: what is heard now is early media, often one way.
    Early,
    /// One way, or none, as agreed.
    Held {
        /// Who asked for it.
        by: Party,
        /// How.
        how: Hold,
    },
    /// The phones send to each other, past the relay.
    Direct,
    /// The relay was started anew and could not have the stream's ports again.
    PortsTaken {
        /// Where our descriptions ask its ends to send.
        ours: [Option<SocketAddr>; 2],
    },
    /// Nothing came from one end.
    Silent {
        /// From whom.
        from: Party,
        /// Where our description asks it to send.
        ours: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
        /// RTP packets that the other end sent.
        other: u64,
        /// Packets that came from others.
        strays: u64,
        /// In how many seconds.
        seconds: u64,
    },
    /// One end sends, and nobody knows where the other one is: it is behind NAT and has not sent a packet.
    Unlatched {
        /// Who is silent.
        silent: Party,
        /// Where our description asks it to send.
        ours: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
        /// Who sends.
        sender: Party,
        /// Packets that could not go on.
        waiting: u64,
    },
    /// Nothing came from either end.
    BothSilent {
        /// Where our descriptions ask them to send.
        ours: [Option<SocketAddr>; 2],
        /// In how many seconds.
        seconds: u64,
    },
    /// It did come and has stopped.
    Stopped {
        /// From whom.
        from: Party,
        /// For how many seconds at least.
        seconds: u64,
        /// RTP packets that came before.
        received: u64,
        /// Average TTL they came with.
        hop_limit: Option<u8>,
        /// Whether the other end has stopped too.
        both: bool,
    },
    /// Packets come and are dropped.
    Dropped {
        /// From whom.
        from: Party,
        /// How many.
        count: u64,
        /// Of so many that came.
        of: u64,
        /// Why.
        why: Why,
    },
    /// Packets leave with a TTL that does not reach.
    HopLimitLow {
        /// Towards whom.
        to: Party,
        /// Average TTL that they leave with.
        sent: u8,
        /// How many routers away it is, by the TTL that its own packets come with, where that says enough.
        away: Option<u8>,
        /// How often routers on the way said so.
        told: u64,
    },
    /// Who should get packets answers that it does not take them.
    Unreachable {
        /// Who.
        to: Party,
        /// Where we send to.
        receiver: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
        /// How often it was said.
        told: u64,
    },
    /// It comes, with many packets missing.
    Lossy {
        /// From whom.
        from: Party,
        /// How many did not come.
        lost: u64,
        /// Of so many that its sequence numbers count.
        of: u64,
        /// The same in per cent.
        percent: u8,
    },
    /// An end reports that it does not get what we send.
    Unheard {
        /// Who.
        by: Party,
        /// How much of it is lost, by its last report, in per cent.
        percent: u8,
        /// Where we send to.
        receiver: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
    },
    /// A description was not carried on.
    Refused {
        /// Whose.
        author: Party,
        /// Why.
        why: Refusal,
    },
    /// One end was agreed as RTP, the other as SRTP, or with keys from elsewhere.
    Profiles {
        /// The phone's.
        phone: Transport,
        /// The other end's.
        other: Transport,
    },
}

/// Why the packets of one end are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Their TTL is used up.
    HopLimit {
        /// The smallest.
        minimum: u8,
        /// The average.
        average: u8,
    },
    /// They come from an address that may not send.
    Source {
        /// From where the last one came.
        came: Option<SocketAddr>,
        /// Who may.
        allowed: Vec<IpAddr>,
    },
    /// The port is locked to the first sender (`media.sender_limit`).
    Locked {
        /// From where the last one came.
        came: Option<SocketAddr>,
        /// To whom it is locked.
        holder: Option<SocketAddr>,
    },
    /// There are as many senders as allowed (`media.max_senders`).
    Senders {
        /// From where the last one came.
        came: Option<SocketAddr>,
        /// How many may send.
        most: u8,
    },
    /// A payload type that nobody named.
    Payload {
        /// Which.
        came: Option<u8>,
        /// What was agreed, by name.
        agreed: String,
    },
    /// Over the packet rate of one sender.
    Rate {
        /// Packets a second.
        most: u32,
    },
    /// Not RTP.
    Malformed,
    /// STUN or DTLS where none was agreed.
    StunDtls,
    /// From one of our own ports: a loop.
    Loop,
    /// The other end has no address yet, or takes nothing.
    NoReceiver,
    /// The kernel refused to send them on.
    Send {
        /// To where.
        to: Option<SocketAddr>,
    },
}

impl Verdict {
    /// Whether somebody should act.
    pub fn is_trouble(&self) -> bool {
        !matches!(
            self,
            Self::Healthy
                | Self::NotEnough { .. }
                | Self::Unanswered
                | Self::Early
                | Self::Held { .. }
                | Self::Direct
        )
    }

    /// A name for programs, which stays.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::NotEnough { .. } => "not-enough-data",
            Self::Unanswered => "unanswered",
            Self::Early => "early-media",
            Self::Held { .. } => "held",
            Self::Direct => "direct",
            Self::PortsTaken { .. } => "ports-taken",
            Self::Silent { .. } => "silent",
            Self::Unlatched { .. } => "unlatched",
            Self::BothSilent { .. } => "both-silent",
            Self::Stopped { .. } => "stopped",
            Self::HopLimitLow { .. } => "hop-limit-low",
            Self::Unreachable { .. } => "unreachable",
            Self::Profiles { .. } => "profiles-differ",
            Self::Refused { .. } => "description-refused",
            Self::Lossy { .. } => "loss",
            Self::Unheard { .. } => "not-heard",
            Self::Dropped { why, .. } => match why {
                Why::HopLimit { .. } => "hop-limit-used-up",
                Why::Source { .. } => "wrong-source",
                Why::Locked { .. } => "locked",
                Why::Senders { .. } => "too-many-senders",
                Why::Payload { .. } => "wrong-payload-type",
                Why::Rate { .. } => "too-fast",
                Why::Malformed => "not-rtp",
                Why::StunDtls => "stun-or-dtls",
                Why::Loop => "loop",
                Why::NoReceiver => "no-receiver",
                Why::Send { .. } => "not-sent",
            },
        }
    }
}
