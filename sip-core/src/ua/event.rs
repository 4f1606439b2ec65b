//! What an agent tells, and the names in it.

#[cfg(doc)]
use super::agent::Agent;
use crate::message::Message;
use crate::transaction::ServerKey;

/// A dialog of an [`Agent`]. Never reused; one that has ended is quietly ignored by every call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DialogKey(pub(super) u64);

/// The owner's number for a request, of its own choosing: it comes back with everything about that request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Label(pub u64);

/// What happened. Every dialog that is named here ends with one [`Event::Ended`]; every [`Label`] comes back with one final
/// [`Event::Response`] or one [`Event::Unanswered`], and with further 2xx where an INVITE forks and all forks are kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A new INVITE: answer it with [`Agent::answer`]. The dialog is early until a 2xx.
    Invite {
        /// What to answer.
        key: ServerKey,
        /// The dialog it starts.
        dialog: DialogKey,
        /// The INVITE.
        message: Message,
    },
    /// Any other request, also an INVITE within a dialog: answer it with [`Agent::answer`].
    Request {
        /// What to answer.
        key: ServerKey,
        /// The dialog it is part of, if it is part of one.
        dialog: Option<DialogKey>,
        /// The request.
        message: Message,
    },
    /// A request needs no answer any more: the caller has cancelled it or hung up, or it waited for too long.
    Cancelled {
        /// Which one.
        key: ServerKey,
    },
    /// An answer to a request of ours. A 2xx with an offer to an INVITE without one waits for [`Agent::acknowledge`],
    /// a reliable provisional response with an offer for [`Agent::acknowledge_early`]; all others are acknowledged already.
    Response {
        /// Which request.
        label: Label,
        /// The dialog it makes or belongs to.
        dialog: Option<DialogKey>,
        /// The response.
        message: Message,
    },
    /// A request of ours got no answer that can be used.
    Unanswered {
        /// Which request.
        label: Label,
        /// What it counts as: 408 for silence, 503 for no connection, 502 for an answer that can't be used.
        status: u16,
    },
    /// Our 2xx was acknowledged: the call stands. The ACK may carry the answer to an offer.
    Acknowledged {
        /// Which dialog.
        dialog: DialogKey,
        /// The ACK.
        message: Message,
    },
    /// A dialog is over.
    Ended {
        /// Which one.
        dialog: DialogKey,
        /// How.
        why: Ending,
    },
}

/// How a dialog ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// By us.
    Local,
    /// By the other side's BYE.
    Remote,
    /// The INVITE that made it failed, was cancelled, or was answered elsewhere.
    Unanswered,
    /// Our 2xx was never acknowledged (RFC 3261 §13.3.1.4).
    Unacknowledged,
    /// A request within it met silence or 481 (RFC 3261 §12.2.1.2).
    Lost,
}

/// Why a request was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The dialog has ended.
    #[error("there is no such dialog")]
    NoDialog,
    /// An offer is under way already, from us or from the other side (RFC 3261 §14.1).
    #[error("an offer is under way")]
    Pending,
}
