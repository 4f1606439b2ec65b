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

/// One of several early dialogs that an offer may have made (RFC 3261 §12.1): each answers it on its own, and one of them
/// wins. Stands for the dialog, so that the same answerer has the same value in every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fork(pub u64);

/// Who sent a session description and who shall read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The side the description came from.
    pub side: Side,
    /// The source address of the sender's signalling connection.
    pub signalling: IpAddr,
    /// The address of the receiver's signalling connection.
    pub to_signalling: IpAddr,
    /// The dialog an answer belongs to, by its To tag; `None` where it is not known to be one of several.
    pub fork: Option<Fork>,
    /// The address that the phone of this call, sender or receiver, gives itself: the host of its Contact, else of its
    /// topmost Via. Behind NAT it is not the one its signalling comes from. `None`: not known, or a name.
    pub contact: Option<IpAddr>,
}

/// The media type of a session description (RFC 8866 §8.1).
const SDP: &[u8] = b"application/sdp";

/// A body that holds a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description<'m> {
    /// The value of Content-Type: `application/sdp`, or a multipart with such a part (RFC 5621 §3). Empty where a sender
    /// wrote none.
    pub content_type: &'m [u8],
    /// The whole body.
    pub body: &'m [u8],
}

impl Description<'_> {
    /// Whether the whole body is the description.
    pub fn is_sdp(&self) -> bool {
        let media_type = self.content_type.split(|b| *b == b';').next().unwrap_or_default();
        let length = media_type.iter().filter(|b| !b.is_ascii_whitespace()).count();
        length == SDP.len() && starts_with(media_type, SDP)
    }

    /// Whether the body is a multipart, so that only a part of it is the description.
    pub fn is_multipart(&self) -> bool {
        starts_with(self.content_type, b"multipart/")
    }

    /// How often a multipart body seems to name a part that is a description. More than one can't be carried: nobody
    /// knows which of them the far end takes.
    pub fn mentions(&self) -> usize {
        let slashes = self.body.iter().enumerate().filter(|(_, b)| **b == b'/');
        let subtypes = slashes.filter_map(|(at, _)| self.body.get(at + 1..)).map(<[u8]>::trim_ascii_start);
        subtypes.filter(|rest| rest.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"sdp"))).count()
    }
}

/// Without regard to case, and to white space around the slash (RFC 3261 §25.1).
fn starts_with(content_type: &[u8], start: &[u8]) -> bool {
    let mut octets = content_type.iter().filter(|b| !b.is_ascii_whitespace());
    start.iter().all(|wanted| octets.next().is_some_and(|b| b.eq_ignore_ascii_case(wanted)))
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
    /// The body to forward in place of this one; of a multipart only the description is another. The first call with a session opens it; the same
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
        description: Description<'_>,
    ) -> Result<Bytes, Refusal>;

    /// Whether descriptions of the inside are kept from phones that are neither offer nor answer, and so have no session: what a
    /// switch can do, in its answer to OPTIONS (RFC 3261 §11.2) or beside a refusal (§21.4.26). They name its own address.
    fn conceals(&self) -> bool {
        true
    }

    /// The last offer of `side` was refused, or is not answered any more: media stays as it was agreed before. Not called for
    /// the offer that opened a session: that one ends.
    fn rollback(&mut self, now: Instant, session: SessionId, side: Side) {
        let _ = (now, session, side);
    }

    /// The offer of this session that `side` got was refused as not acceptable (488). `true`: there is another form of it, which
    /// the next [`Media::rewrite`] of the same offer gives; at most once for an offer.
    fn insist(&mut self, now: Instant, session: SessionId, side: Side) -> bool {
        let _ = (now, session, side);
        false
    }

    /// Of several dialogs that answered one offer this one was confirmed, or is the one that is left: its answer holds, even
    /// where another's came later and its 2xx repeats none (RFC 6337 §3.1).
    fn confirm(&mut self, now: Instant, session: SessionId, fork: Fork) {
        let _ = (now, session, fork);
    }

    /// Keep these octets with a session, unread, in place of those of before: a process that takes over gets them by
    /// [`Command::TakeOver`](crate::edge::Command). Given when a call is answered, when it is refreshed, and when what is known of
    /// it changes. At most 48 KiB.
    fn record(&mut self, session: SessionId, record: Vec<u8>) {
        let _ = (session, record);
    }

    /// The call is over; nothing of this session is sent or received any more.
    fn end(&mut self, now: Instant, session: SessionId);
}

/// Leaves descriptions as they are: media runs directly between the parties.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untouched;

impl Media for Untouched {
    fn rewrite(
        &mut self,
        _: Instant,
        _: SessionId,
        _: Leg,
        _: Role,
        description: Description<'_>,
    ) -> Result<Bytes, Refusal> {
        Ok(Bytes::copy_from_slice(description.body))
    }

    fn conceals(&self) -> bool {
        false
    }

    fn end(&mut self, _: Instant, _: SessionId) {}
}
