//! What the edge tells, and what it can be told.
//!
//! Events are facts with ids; counters, logs, the call timeline and the administration pages are made from
//! them elsewhere. One event never says the same thing as another.

mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bindings::Change;
use super::config::Config;
use super::described::NameFault;
use super::guard::{Offence, Suspect};
use super::quality::Quality;
pub use super::switches::{Switch, Verdict};
use crate::flow::{Identity, Side, Source};
use crate::media::SessionId;
use crate::message::Name;
use crate::token::{InstanceId, Keyring};
pub use state::{Health, PhoneState, Snapshot, SwitchState};

/// An order to the edge.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Use this configuration from the next message on. Flows, registrations and calls stay.
    Reconfigure(Box<Config>),
    /// Use these keys: new bindings are born with the newest one, living ones keep theirs, which must be among the older ones
    /// for as long as [`Snapshot::keys`] names it (SIP-12).
    Keys(Box<Keyring>),
    /// Refuse new calls and registrations with 503 and Retry-After; what runs goes on.
    Drain,
    /// Take up new work again.
    Resume,
    /// Seam D: a location change from elsewhere (the durable log at start, another node).
    Locate(Change),
    /// The media sessions that an earlier process left, with the records it gave to [`Media::record`](crate::media::Media):
    /// their calls are ours from now on. Before the first message, after the location; every shard gets all of them and takes
    /// those of its phones. Answered by [`Event::TakenOver`].
    TakeOver {
        /// Each session and its record. One that can't be read is not taken.
        sessions: Vec<(SessionId, Vec<u8>)>,
    },
    /// What another shard found out about a switch ([`Event::Judged`]).
    Judge(Switch, Verdict),
    /// Block somebody for a time, as if it had offended: another shard's word, or an operator's.
    Block {
        /// Whom.
        suspect: Suspect,
        /// For how long.
        length: Duration,
    },
    /// End a block; what led to it is forgotten.
    Unblock(Suspect),
    /// Answer with [`Event::Snapshot`].
    Snapshot,
}

/// The most octets of a Call-ID or method in an event.
pub const SHOWN: usize = 128;

/// What happened. Ids only; a Call-ID or method that is longer than [`SHOWN`] is cut, so that a log can't be flooded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The PBX accepted a registration: the binding stands.
    Registered {
        /// Which phone.
        phone: Phone,
        /// Where it is.
        source: Source,
        /// Seconds until it expires.
        expires: u32,
        /// Whether it is new, or was on another connection before.
        change: Arrival,
    },
    /// A registration ended.
    Unregistered {
        /// Which phone.
        phone: Phone,
        /// By its own wish, or by time.
        cause: Departure,
    },
    /// The connection of a registered phone is gone; it answers 480 until it returns.
    PhoneLost {
        /// Which phone.
        phone: Phone,
    },
    /// A registered phone is back on another connection without a registration that the PBX would notice.
    PhoneMoved {
        /// Which phone.
        phone: Phone,
        /// Where it is now.
        source: Source,
    },
    /// A request was refused by us.
    Refused {
        /// From which side.
        side: Side,
        /// The sender.
        remote: SocketAddr,
        /// Its method.
        method: String,
        /// The answer; `None` for silence (ACK).
        status: Option<u16>,
        /// Why.
        reason: Reason,
        /// The phone it came from or was for, where that was known by then.
        phone: Option<Box<Phone>>,
        /// The Call-ID, to find it again.
        call_id: String,
    },
    /// A request from inside found its phone.
    Resolved {
        /// By which carrier.
        step: Step,
        /// Which phone; the first one of a fork.
        phone: InstanceId,
        /// The method.
        method: String,
        /// The Call-ID.
        call_id: String,
    },
    /// A REGISTER carried no tag (or no valid one): the phone can only be told apart by its user.
    Untagged {
        /// The sender.
        remote: SocketAddr,
        /// Whether the contact head was there and the rest was not a tag.
        malformed: bool,
    },
    /// The certificate does not name the tag (`tag_cert_binding`), or another certificate took over a tag.
    Mismatch {
        /// Which phone.
        phone: Phone,
        /// Who it is by certificate.
        identity: Option<Arc<Identity>>,
        /// Whether another certificate owned the tag before.
        takeover: bool,
        /// Whether it was let through.
        accepted: bool,
    },
    /// Something was done in another way than configured, because a peer lacks what it needs.
    Lacking {
        /// Which phone.
        phone: Phone,
        /// What is lacking.
        lack: Lack,
    },
    /// A call was answered.
    CallStarted {
        /// The Call-ID.
        call_id: String,
        /// The phone's binding.
        phone: InstanceId,
        /// Who called: the outside (a phone) or the inside (the PBX).
        from: Side,
        /// Its media; `None` where nobody has spoken of any yet.
        session: Option<SessionId>,
    },
    /// An answered call ended.
    CallEnded {
        /// The Call-ID.
        call_id: String,
        /// The phone's binding.
        phone: InstanceId,
        /// By which side's BYE; `None` when it was forgotten.
        by: Option<Side>,
        /// Its media.
        session: Option<SessionId>,
    },
    /// A call was not refreshed for as long as a session may last (`sip.session_timer`); [`Event::CallEnded`] follows.
    SessionExpired {
        /// The Call-ID.
        call_id: String,
        /// The phone's binding.
        phone: InstanceId,
    },
    /// A message was dropped in silence.
    Dropped {
        /// From which side.
        side: Side,
        /// The sender.
        remote: SocketAddr,
        /// Why.
        cause: DropCause,
    },
    /// A connection from outside was closed, because it was of no use.
    FlowClosed {
        /// The peer.
        remote: SocketAddr,
        /// Why.
        why: Closing,
    },
    /// Somebody is blocked from now on. Its connections are being closed; whoever holds the listeners should let no more in
    /// and drop its datagrams (a certificate is only known after a handshake: its connections are closed here).
    Blocked {
        /// Who.
        suspect: Suspect,
        /// The subject of its certificate, where that is known: operators know no hashes.
        subject: Option<String>,
        /// For what.
        offence: Offence,
        /// For how long.
        seconds: u64,
    },
    /// A block is over.
    Unblocked {
        /// Whose.
        suspect: Suspect,
        /// Why.
        why: Release,
    },
    /// Somebody did what would have it blocked, were it not the PBX or on the allow list (SEC-05).
    Offence {
        /// From which side.
        side: Side,
        /// The sender.
        remote: SocketAddr,
        /// What.
        offence: Offence,
    },
    /// Messages come faster than they are taken: new calls and registrations are answered 503. Or that is over.
    Overload {
        /// Whether it begins.
        begins: bool,
    },
    /// A switch can't be reached.
    SwitchUnreachable {
        /// Its address.
        remote: SocketAddr,
    },
    /// A request went on to the next address of the same target (RFC 3263 §4.3).
    FailedOver {
        /// The address that failed.
        remote: SocketAddr,
        /// How.
        why: Why,
    },
    /// A name in `[[monitor.sip]]` has no address that may be asked.
    Unlocated {
        /// The name.
        name: String,
    },
    /// Something was found out about a switch. [`Command::Judge`] takes it to other shards.
    Judged {
        /// Which.
        switch: Switch,
        /// What.
        verdict: Verdict,
    },
    /// An address of ours in a header can't be read any more (forged, or of older keys): it went on as it was.
    Untranslated {
        /// The Call-ID.
        call_id: String,
        /// The header.
        field: Name,
    },
    /// A phone reports what it measured of a call's audio (RFC 6035).
    QualityReported {
        /// The Call-ID of the call it is about, as the phone says: compare it with the phone's calls.
        call_id: String,
        /// The phone.
        remote: SocketAddr,
        /// The figures.
        quality: Quality,
    },
    /// The media side refused a session description.
    MediaRefused {
        /// The Call-ID.
        call_id: String,
        /// The status it stands for.
        status: u16,
    },
    /// A request of the inside went to a phone without its body, which described inside addresses and no session (SIP-64).
    Concealed {
        /// The Call-ID.
        call_id: String,
        /// The request's method.
        method: String,
    },
    /// A name in a session description stays a name: `sdp.resolve_fqdn` did not help.
    Unnamed {
        /// The Call-ID.
        call_id: String,
        /// The name.
        name: String,
        /// Why.
        fault: NameFault,
    },
    /// Seam D: a location change for the durable log and for other nodes.
    Location(Change),
    /// The answer to [`Command::TakeOver`]: the calls of this shard. A session that no shard names is nobody's; the media side
    /// may end it.
    TakenOver {
        /// Each call; two that were made by one INVITE share a session.
        calls: Vec<Taken>,
    },
    /// The answer to [`Command::Snapshot`].
    Snapshot(Box<Snapshot>),
}

/// A call of an earlier process that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its media session.
    pub session: SessionId,
    /// The Call-ID.
    pub call_id: String,
    /// The phone's binding.
    pub phone: InstanceId,
}

/// A phone as operators know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone {
    /// The binding's id.
    pub id: InstanceId,
    /// Its tag (MAC address); `None` when it has none.
    pub tag: Option<String>,
    /// The user of its Contact.
    pub user: String,
}

/// Why the next address of a target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The one before answered 503.
    Unavailable,
    /// It was silent.
    Timeout,
    /// There is no connection to it.
    Unreachable,
}

/// How a registration came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// No registration before.
    New,
    /// The same phone on the same connection.
    Refreshed,
    /// The same phone on another connection.
    Moved,
}

/// What a peer lacks; see [`Event::Lacking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Lack {
    /// A phone without a registration: its Contact is not the registered one (`sip.uri_encoding_use_registration`).
    Registration,
    /// The registrar answered our Path with 420: the REGISTER was sent again without (SIP-24).
    Path,
    /// The registrar's 2xx to a REGISTER lists no Contact (SIP-16).
    Contact,
}

/// How a registration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// `expires=0`.
    Asked,
    /// Its time was up.
    Expired,
}

/// Why a connection from outside was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Nothing was heard on it for [`super::config::Timers::flow_idle`], and it carried nothing.
    Idle,
    /// The phone did not answer on it, twice in a row (`fent.keep_alive`).
    Unanswered,
    /// Its certificate had more than [`super::config::Limits::flows_per_certificate`].
    Surplus,
    /// Its peer sent more than [`super::guard::Rates`] allow.
    Flood,
    /// Its peer is blocked.
    Blocked,
}

/// Why a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Its time was up.
    Over,
    /// [`Command::Unblock`].
    Asked,
    /// There were too many, and this was the oldest.
    MadeWay,
}

/// The carriers of a phone's identity in requests from inside, in the order they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// 0: a dialog that we hold.
    Dialog,
    /// 1: our own Route with a flow token.
    Route,
    /// 2: a contact token in the Request-URI.
    ContactToken,
    /// 3: the literal instance in Request-URI, Accept-Contact or To.
    Instance,
    /// 4: the phone's own connection to the switch.
    Affinity,
    /// 5: the user.
    User,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A finding of message validation: the field.
    Malformed(String),
    /// The sender is not verified.
    Unverified,
    /// The destination is no place we may send to.
    Destination,
    /// A token that is not ours, or is not for this sender.
    Token,
    /// An in-dialog request without a dialog.
    NoDialog,
    /// The phone belongs to another certificate.
    Ownership,
    /// `Contact: *` or expiry used wrongly.
    Contact,
    /// No such phone.
    UnknownPhone,
    /// The phone is registered but not connected.
    PhoneGone,
    /// Several phones match.
    Ambiguous,
    /// The request came round to us again.
    Loop,
    /// Max-Forwards is used up.
    TooManyHops,
    /// Route entries that are not allowed.
    PreloadedRoute,
    /// Credentials are missing or wrong.
    Credentials {
        /// They were good, but for a nonce that grew old.
        stale: bool,
    },
    /// A ceiling of [`super::config::Limits`]: which.
    Limit(&'static str),
    /// We are draining.
    Draining,
    /// The switch can't be reached.
    Unreachable,
    /// The default policy, or a sender's own.
    Policy,
    /// A filter of [`super::filter::Filters`]: From and To, the content type, the method (as `Allow`).
    Filtered(Name),
    /// The message can't be forwarded as it is (NUL, bare CR or LF, control characters).
    Unforwardable,
    /// The media side.
    Media,
    /// Another offer in the call waits for its answer (glare, RFC 3261 §14.2).
    Pending,
    /// The caller gave up before the request left.
    Cancelled,
    /// A CANCEL for nothing.
    NothingToCancel,
}

/// Why a message was dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropCause {
    /// A response that belongs to no request of ours.
    StrayResponse,
    /// An ACK for no known dialog.
    StrayAck,
    /// Not SIP.
    Unframeable,
    /// A response for a phone whose connection is gone.
    PhoneGone,
    /// A message for another shard, which had too much to do.
    Crossing,
    /// A message that can't be answered or forwarded (no usable Via, control characters).
    Unusable,
    /// Its sender is blocked.
    Blocked,
    /// Its sender sends too much.
    Flood,
}

/// A Call-ID or method as it stands in events.
pub(super) fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..SHOWN).unwrap_or(text)).into_owned()
}
