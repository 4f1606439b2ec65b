//! One description with our address and ports in it.
//!
//! Changed are: the address of `o=`; the address of every `c=`; the port of each `m=`; ports and addresses of `a=rtcp`.
//! An `a=rtcp` is added only where our RTCP port is not RTP plus one (RFC 3605 §2.1). ICE attributes of a relayed line go, for
//! they name addresses that are not ours; our own take their place where there are credentials for them. The few other attributes
//! that name an address (`altc`, `source-filter`, …) go from every line that does not stay its author's. What else changes
//! is told by the [`Rules`]. All other bytes stay, whatever they are and in the order they have.
//!
//! *Direct.* A line whose media goes past the relay (MED-03) says the address and the ports of the phone at the other end, and
//! nothing of ICE: what the PBX passed on of it named us. `o=` stays ours: it must not change while a session lasts (RFC 3264
//! §8). Where other lines keep the relay, such a line gets a `c=` of its own.
//!
//! *Hold.* A connection address 0.0.0.0 or `::` (RFC 2543 hold, RFC 3264 §8.4) becomes our address like any other, so that the
//! far side keeps a real address to send to, and the direction says what it meant: `sendonly`, or `inactive`.
//!
//! Writing what was written gives the same bytes again.

mod dtmf;
mod hold;
mod ice;
mod section;
mod writer;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::dtmf::added as dtmf_added;
pub use self::hold::meant;
pub use self::ice::Credentials;
use crate::policy::Rules;
use crate::sdp::{Direction, Sdp};

/// What a media line is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Declined: port 0 (RFC 3264 §6).
    Decline,
    /// Our ports.
    Relay {
        /// For RTP, or the one of a stream that has one.
        rtp: u16,
        /// For RTCP.
        rtcp: u16,
        /// Ours in ICE, if the line speaks it; `None`: it leaves without.
        ice: Option<Credentials>,
    },
    /// Not ours: where the phone at the other end said it receives (MED-03). The line leaves without ICE.
    Direct {
        /// RTP.
        rtp: SocketAddr,
        /// RTCP.
        rtcp: SocketAddr,
    },
    /// The line stays as it is, at its author's address.
    Pass,
}

impl Placement {
    /// Our ports, without ICE.
    pub const fn relay(rtp: u16, rtcp: u16) -> Self {
        Self::Relay { rtp, rtcp, ice: None }
    }
}

/// What an answer has to know of a line that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Offered {
    /// What its author meant: [`meant`].
    pub direction: Direction,
    /// The payload type that the offer got from us: [`dtmf_added`]. The answer leaves without it, for it was never offered there.
    pub dtmf: Option<u8>,
}

/// The part a description plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// An offer.
    Offer {
        /// `telephone-event` with this payload type, where there is none.
        dtmf: Option<u8>,
    },
    /// An answer, to an offer with these lines.
    Answer(&'a [Offered]),
}

/// How a description is written.
#[derive(Debug, Clone, Copy)]
pub struct Orders<'a> {
    /// Our address.
    pub address: IpAddr,
    /// One a media line; a line without one is declined.
    pub placements: &'a [Placement],
    /// Which part it plays.
    pub part: Part<'a>,
    /// What else changes.
    pub rules: &'a Rules,
}

/// Writes `address` and the placements, one a media line; a line without one is declined. Nothing else is asked for.
pub fn rewrite(sdp: &Sdp<'_>, address: IpAddr, placements: &[Placement]) -> Bytes {
    let rules = Rules::default();
    let part = Part::Offer { dtmf: None };
    rewrite_by(sdp, &Orders { address, placements, part, rules: &rules }, &mut Vec::new())
}

/// Writes by orders. `scratch` is room to write in: kept from one call to the next, nothing is allocated but what comes back.
pub fn rewrite_by(sdp: &Sdp<'_>, orders: &Orders<'_>, scratch: &mut Vec<u8>) -> Bytes {
    scratch.clear();
    // Twice what most need, so that the room grows once.
    scratch.reserve(sdp.bytes.len() + 256 * (1 + sdp.media.len()));
    writer::write(sdp, orders, scratch);
    Bytes::copy_from_slice(scratch)
}

#[cfg(test)]
mod tests;
