//! Seam A: what the edge asks of the media side, and nothing of how it is done.
//!
//! The edge decides *when* a session description is an offer or an answer and between whom; the implementor
//! (with `sdp-core`) rewrites it so that media runs through the relay.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::flow::Side;

/// One call's media; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// The part a session description plays (RFC 3264).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Proposes; the next description from the other side answers it.
    Offer,
    /// Answers the offer of the other side.
    Answer,
}

/// Who sent a session description and who shall read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The side the description came from.
    pub side: Side,
    /// The source address of the sender's signalling connection.
    pub signalling: IpAddr,
    /// The address of the receiver's signalling connection.
    pub to_signalling: IpAddr,
}

/// Why a description can't be used, and the status that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing in it that we can carry: 488.
    NotAcceptable,
    /// No port or relay at hand: 503.
    Unavailable,
    /// Not a session description: 400.
    Malformed,
}

impl Refusal {
    /// The SIP status and reason phrase for this refusal.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Self::NotAcceptable => (488, "Not Acceptable Here"),
            Self::Unavailable => (503, "Media Unavailable"),
            Self::Malformed => (400, "Bad Session Description"),
        }
    }
}

/// The media side of the gateway as signalling sees it.
pub trait Media {
    /// The description to forward in place of `sdp`. The first call with a session opens it; the same
    /// description sent again (a retransmission, a 183 and its 200) must give the same result.
    ///
    /// # Errors
    /// A [`Refusal`]; the edge then refuses the offer or ends the call.
    fn rewrite(
        &mut self,
        now: Instant,
        session: SessionId,
        leg: Leg,
        role: Role,
        sdp: &[u8],
    ) -> Result<Bytes, Refusal>;

    /// The call is over; nothing of this session is sent or received any more.
    fn end(&mut self, now: Instant, session: SessionId);
}

/// Leaves descriptions as they are: media runs directly between the parties.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untouched;

impl Media for Untouched {
    fn rewrite(&mut self, _: Instant, _: SessionId, _: Leg, _: Role, sdp: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::copy_from_slice(sdp))
    }

    fn end(&mut self, _: Instant, _: SessionId) {}
}
