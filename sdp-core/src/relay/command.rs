//! What the relay is told. Every value crosses a process border as it is.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::report::{Pair, PairId};
pub use crate::policy::Timeouts;
use crate::policy::{Family, HopLimit, SenderLimit};
use crate::rtp::clock::Clocks;
use crate::srtp::Keys;

/// A side of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Towards the Internet and the phones.
    Outside,
    /// Towards the PBX.
    Inside,
}

impl Side {
    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }
}

/// Ports are leased from a realm: one address of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Realm {
    /// The side.
    pub side: Side,
    /// The family of its address.
    pub family: Family,
}

/// A stream: the session it belongs to and a number within it that is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId {
    /// The session.
    pub session: u64,
    /// The number.
    pub index: u32,
}

/// A command to the relay. Commands are executed in order; one that names what is not there changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Command {
    /// Lease that many pairs of bound ports; answered by `Leased` and, where there are fewer, by `Exhausted`.
    Lease {
        /// From where.
        realm: Realm,
        /// How many.
        pairs: u16,
    },
    /// These leased pairs are promised though no stream uses them yet: their lease does not run out.
    Keep {
        /// Which.
        pairs: Vec<PairId>,
    },
    /// Give unused pairs back.
    Return {
        /// Which.
        pairs: Vec<PairId>,
    },
    /// Start a stream on two leased pairs; answered by `Refused` when a pair is not leased.
    Open {
        /// Its whole state.
        stream: StreamSetup,
    },
    /// Replace the state of a stream. A pair it no longer uses is closed.
    Update {
        /// Its whole state.
        stream: StreamSetup,
    },
    /// Two streams whose inside ends name each other: what enters one outside leaves the other outside, in one hop.
    Join {
        /// One.
        a: StreamId,
        /// The other.
        b: StreamId,
    },
    /// End a join.
    Part {
        /// Either of the two.
        stream: StreamId,
    },
    /// End a stream and close its ports.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// End a session: all its streams, and its record.
    End {
        /// Which.
        session: u64,
    },
    /// Keep these bytes with a session, unread, for the process that takes over (decision 13). Empty removes them.
    Record {
        /// Whose.
        session: u64,
        /// The dialog record; at most 128 KiB.
        record: Kept,
    },
    /// Tell everything that a new signalling process needs: answered by `Snapshot`.
    Snapshot,
    /// Every lease that no stream uses ends, and those asked for are not answered: who held them is gone.
    Release,
    /// Start a stream on the ports that it had at a relay that is gone; answered by `Refused` when they can't be had.
    Restore {
        /// Its whole state.
        stream: StreamSetup,
        /// Its pairs, bound anew under the numbers that they had.
        pairs: Vec<Pair>,
    },
}

/// What is kept of a session, unread. Keys may be in it: it is not shown, and its octets are wiped when it goes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept(Vec<u8>);

impl From<Vec<u8>> for Kept {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

impl std::ops::Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} octets)", self.0.len())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The whole state of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSetup {
    /// Which.
    pub id: StreamId,
    /// Its outside leg.
    pub outside: LegSetup,
    /// Its inside leg.
    pub inside: LegSetup,
    /// Hop limit of what leaves, on both sides.
    pub hop_limit: HopLimit,
    /// RTCP shares the RTP port: both descriptions said so (RFC 5761 §5.1.1).
    pub rtcp_mux: bool,
    /// The profile is secure, or may be: RTCP is checked as far as it is in clear.
    pub secure: bool,
    /// Keys come from DTLS: its packets pass (RFC 5764). Otherwise they are dropped.
    pub dtls: bool,
    /// Payload types either description names. Others come through from the known sender, but never make one known.
    pub payloads: Payloads,
    /// What kind of packets it carries.
    #[serde(default)]
    pub kind: Kind,
    /// Clock rates of the payload types, for jitter.
    #[serde(default)]
    pub clocks: Clocks,
    /// When silence is told.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Its phone and the one of another stream were told each other's address (MED-03): that nothing comes is no fault.
    /// What comes nonetheless is carried as on any stream.
    #[serde(default)]
    pub direct: bool,
    /// Each end is sent one SSRC, sequence and timestamp whoever speaks at the other (MED-12), where packets can be read.
    #[serde(default)]
    pub proxy: bool,
}

/// What kind of packets a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// RTP with RTCP, or their secure forms.
    #[default]
    Rtp,
    /// Fax: UDPTL, which has a sequence number and neither SSRC nor RTCP (ITU-T T.38 §9.1).
    Udptl,
}

impl StreamSetup {
    /// The leg of a side.
    pub fn leg(&self, side: Side) -> &LegSetup {
        match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        }
    }

    /// Whether its packets get numbers of one stream. What is sealed past us can't be given any: its tag covers them (RFC 3711
    /// §3.1).
    pub fn is_continued(&self) -> bool {
        self.proxy && self.kind == Kind::Rtp && !self.secure && !self.dtls
    }

    /// The leg of a side.
    pub fn leg_mut(&mut self, side: Side) -> &mut LegSetup {
        match side {
            Side::Outside => &mut self.outside,
            Side::Inside => &mut self.inside,
        }
    }
}

/// One end of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSetup {
    /// Our ports.
    pub pair: PairId,
    /// Whether packets from there are taken; not before the description was seen (MED-08).
    pub live: bool,
    /// Whether anything is sent there; not on a hold by 0.0.0.0 (RFC 2543).
    pub wanted: bool,
    /// Where to send first. `None`: wait for its first packet.
    pub remote: Option<Remote>,
    /// Addresses that may send; empty: any.
    pub sources: Vec<IpAddr>,
    /// A sender of this address takes the place of one that has another: the phone comes late, a stranger was early.
    pub preferred: Option<IpAddr>,
    /// Send to where packets come from (RFC 7362 §5): the end is behind NAT, or may be.
    pub latching: bool,
    /// How many senders.
    pub sender_limit: SenderLimit,
    /// Senders at most, 1 to 64.
    pub max_senders: u8,
    /// Packets a second of one sender, at most.
    pub max_rate: u32,
    /// Packets a second of all its senders together, at most: before the answer (MED-08). `None`: no such limit.
    #[serde(default)]
    pub total_rate: Option<u32>,
    /// A locked leg may choose another port of its sender's address once, after two seconds of silence (MED-07).
    #[serde(default)]
    pub late_relatch: bool,
    /// Whether descriptions agree that it sends: not on hold, nor when the other end only sends (RFC 3264 §5.1).
    #[serde(default)]
    pub speaks: bool,
    /// Connectivity checks that come there are answered (RFC 8445 §2.5, ICE-lite). `None`: nothing is.
    #[serde(default)]
    pub ice: Option<IceLite>,
    /// What checks of before a restart are known by: until one by [`LegSetup::ice`] has chosen its path, they are answered too, for
    /// the path of before stays in use (RFC 8445 §9).
    #[serde(default)]
    pub ice_before: Option<Box<IceLite>>,
    /// SRTP ends here: what comes is opened, what leaves is sealed. `None`: packets pass as they are. Boxed: most have none, and
    /// each leg is kept by the relay and by the anchor.
    #[serde(default)]
    pub srtp: Option<Box<Keys>>,
    /// The port that its description names, which behind NAT is nobody's outside; 0: none was named. Another one says that the
    /// end moves, whatever still comes from where it was.
    #[serde(default)]
    pub named: u16,
    /// A new number lets a locked leg choose its sender anew: signalling has spoken.
    pub generation: u32,
}

/// What checks of ours are known by: the short-term credential that our description names (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceLite {
    /// Our user name fragment: the part before the colon in a check's USERNAME.
    pub ufrag: String,
    /// Our password: the key of MESSAGE-INTEGRITY.
    pub password: String,
}

impl std::fmt::Debug for IceLite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceLite").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl LegSetup {
    /// A leg with nothing special about it, for tests to say what matters to them.
    pub(crate) fn plain(pair: PairId) -> Self {
        Self {
            pair,
            live: true,
            wanted: true,
            remote: None,
            sources: Vec::new(),
            preferred: None,
            latching: true,
            sender_limit: SenderLimit::Multiple,
            max_senders: 10,
            max_rate: 1000,
            total_rate: None,
            late_relatch: false,
            speaks: true,
            ice: None,
            ice_before: None,
            srtp: None,
            named: 30000,
            generation: 0,
        }
    }
}

/// Where an end said it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// RTP.
    pub rtp: SocketAddr,
    /// RTCP.
    pub rtcp: SocketAddr,
}

/// A set of RTP payload types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Payloads([u64; 2]);

impl Payloads {
    /// Adds one; above 127 is none.
    pub fn insert(&mut self, payload_type: u8) {
        if let Some(word) = self.0.get_mut(usize::from(payload_type / 64)) {
            *word |= 1 << (payload_type % 64);
        }
    }

    /// Whether it is in the set.
    pub fn contains(&self, payload_type: u8) -> bool {
        self.0.get(usize::from(payload_type / 64)).is_some_and(|word| word >> (payload_type % 64) & 1 == 1)
    }
}

impl FromIterator<u8> for Payloads {
    fn from_iter<T: IntoIterator<Item = u8>>(types: T) -> Self {
        let mut set = Self::default();
        types.into_iter().for_each(|payload_type| set.insert(payload_type));
        set
    }
}

impl std::ops::BitOr for Payloads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, other.0);
        Self([a | c, b | d])
    }
}
