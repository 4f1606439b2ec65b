//! One request in progress, from the server transaction it came by to the branches it left on.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::dialogs::DialogKey;
use super::event::{Phone, Reason, shown};
use super::redirect::Past;
use super::register::Registration;
use crate::flow::{Dial, FlowId, Peer, Side, Source, Target, Transport};
use crate::header::{CallId, To};
use crate::media::SessionId;
use crate::message::{Message, Method};
use crate::proxy::context::Context;
use crate::resolve::locate::Sought;
use crate::token::{InstanceId, LoopHash, address_key};
use crate::transaction::{ClientKey, ServerKey};

/// A request as it came.
pub(super) struct Incoming {
    /// Its transaction; an ACK has none.
    pub(super) key: Option<ServerKey>,
    pub(super) source: Source,
    pub(super) peer: Arc<Peer>,
    pub(super) message: Message,
    /// Another shard has found that it is for a phone of this one.
    pub(super) handed: bool,
}

impl Incoming {
    /// See [`owner_key`].
    pub(super) fn certificate(&self) -> [u8; 32] {
        owner_key(&self.peer)
    }

    pub(super) fn method(&self) -> Method<'_> {
        self.message.method().unwrap_or(Method::Other(b""))
    }

    pub(super) fn call_id(&self) -> String {
        let id = self.message.header::<CallId>().and_then(Result::ok).unwrap_or_default();
        shown(id)
    }

    /// Whether it looks as if it were part of a dialog: To has a tag (RFC 3261 §12.2.2).
    pub(super) fn in_dialog(&self) -> bool {
        in_dialog(&self.message)
    }
}

/// See [`Incoming::in_dialog`].
pub(super) fn in_dialog(message: &Message) -> bool {
    matches!(message.header::<To>(), Some(Ok(to)) if to.tag().is_some())
}

/// Who owns what a peer does: the key hash of its certificate; its address on a row that trusts addresses.
pub(super) fn owner_key(peer: &Peer) -> [u8; 32] {
    match &peer.identity {
        Some(identity) => identity.key_hash,
        None => address_key(peer.remote.ip()),
    }
}

/// A request that we answer ourselves, and how.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) phrase: String,
    pub(super) reason: Reason,
    pub(super) extra: Vec<(&'static str, String)>,
    /// Whom it concerns.
    pub(super) phone: Option<Box<Phone>>,
}

impl Refusal {
    pub(super) fn new(status: u16, phrase: impl Into<String>, reason: Reason) -> Self {
        Self { status, phrase: phrase.into(), reason, extra: Vec::new(), phone: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.extra.push((name, value));
        self
    }

    pub(super) fn about(mut self, phone: Phone) -> Self {
        self.phone = Some(Box::new(phone));
        self
    }

    pub(super) fn forbidden(reason: Reason) -> Self {
        Self::new(403, "Forbidden", reason)
    }
}

/// Where a request shall go, and with what address.
pub(super) struct Plan {
    /// The phone that asks, or is asked first.
    pub(super) phone: InstanceId,
    /// The dialog it is part of, if it is part of one.
    pub(super) dialog: Option<DialogKey>,
    /// One for each branch.
    pub(super) ways: Vec<Way>,
}

/// Where one branch goes.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) hop: Hop,
    /// The phone's binding on this branch.
    pub(super) phone: InstanceId,
    /// The new Request-URI; `None` leaves it.
    pub(super) request_uri: Option<Vec<u8>>,
    /// Route values to send along (towards the inside).
    pub(super) routes: Vec<Vec<u8>>,
    /// What went before, if another branch stood in this one's place.
    pub(super) past: Option<Box<Past>>,
}

#[derive(Clone)]
pub(super) enum Hop {
    /// A phone, on its connection.
    Phone(Source, Arc<Peer>),
    /// A switch; the first address that can be reached.
    Switch(VecDeque<Dial>),
    /// A switch whose name must be looked up.
    Name(Sought),
    /// Another shard of ours, for phones of its own.
    Shard(u8),
}

impl Hop {
    pub(super) fn target(&self) -> Option<Target> {
        match self {
            Self::Phone(path, _) => Some((*path).into()),
            Self::Switch(dials) => dials.front().map(|dial| (*dial).into()),
            Self::Name(_) => None,
            Self::Shard(shard) => Some(Target::Flow(FlowId::machine(*shard))),
        }
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Phone(_, peer) => Some(peer.remote),
            Self::Switch(dials) => dials.front().map(|dial| dial.remote),
            Self::Name(_) | Self::Shard(_) => None,
        }
    }

    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Phone(_, peer) => peer.transport,
            Self::Switch(dials) => dials.front().map_or(Transport::Tls, |dial| dial.transport),
            // Nothing is sent before it is looked up.
            Self::Name(_) => Transport::Tls,
            Self::Shard(_) => Transport::Tcp,
        }
    }

    pub(super) fn side(&self) -> Side {
        match self {
            Self::Phone(..) => Side::Outside,
            Self::Switch(_) | Self::Name(_) | Self::Shard(_) => Side::Inside,
        }
    }
}

/// An answer to a branch: from the wire, or made by us.
#[derive(Debug)]
pub(super) enum Answer {
    Received(Message, IpAddr),
    Own(u16, &'static str, Reason),
}

/// One request in progress.
pub(super) struct Exchange {
    pub(super) key: ServerKey,
    pub(super) incoming: Incoming,
    /// The phone that asks; of the branch when the PBX asks.
    pub(super) phone: InstanceId,
    pub(super) dialog: Option<DialogKey>,
    pub(super) registration: Option<Box<Registration>>,
    pub(super) context: Context<Answer>,
    pub(super) branches: Vec<Branch>,
    /// Our Record-Route was put in.
    pub(super) recorded: bool,
    /// Dialogs made by provisional answers.
    pub(super) early: Vec<DialogKey>,
    /// When it stands in the table of timer C.
    pub(super) ring: Option<Instant>,
    /// For the branches: what a loop would bring back.
    pub(super) hash: LoopHash,
    /// Type and body of the CANCEL, where somebody is to have them (SIP-58, SIP-59).
    pub(super) cancelled_with: Option<(String, Bytes)>,
}

impl Exchange {
    pub(super) fn is_invite(&self) -> bool {
        self.incoming.method() == Method::Invite
    }

    /// Nothing can come any more.
    pub(super) fn is_over(&self) -> bool {
        self.branches.iter().all(|branch| branch.over)
    }
}

/// One branch of a request.
pub(super) struct Branch {
    pub(super) way: Way,
    pub(super) client: Option<ClientKey>,
    /// Where it was sent.
    pub(super) target: Option<Target>,
    /// The branch parameter, for the CANCEL.
    pub(super) id: String,
    /// What was sent, for the CANCEL.
    pub(super) sent: Bytes,
    /// No transaction lives (any more).
    pub(super) over: bool,
    /// It was too long for a datagram and went by TCP, or tried to.
    pub(super) streamed: bool,
    /// It had waited, and it is its turn.
    pub(super) called: bool,
    /// Its media session, and whether this branch holds it.
    pub(super) session: Option<SessionId>,
    pub(super) holds: bool,
    /// The request carried an offer, so that the response's description answers it.
    pub(super) offered: bool,
    /// Which offer of its session that was.
    pub(super) offer: u32,
    /// The last description that came back, and what it became.
    pub(super) rewritten: Option<(Bytes, Bytes)>,
    /// The last 2xx that came back, and what it became: a retransmission leaves as it did before.
    pub(super) repeated: Option<(Bytes, Bytes)>,
}

impl Branch {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            client: None,
            target: None,
            id: String::new(),
            sent: Bytes::new(),
            over: false,
            streamed: false,
            called: false,
            session: None,
            holds: false,
            offered: false,
            offer: 0,
            rewritten: None,
            repeated: None,
        }
    }
}

/// How a client transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Answered,
    TimedOut,
    Failed,
}

/// A branch that waits for the address of its switch.
pub(super) struct Lookup {
    pub(super) key: ServerKey,
    pub(super) branch: usize,
}
