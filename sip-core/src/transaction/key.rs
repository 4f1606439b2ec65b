//! Which transaction a message belongs to: RFC 3261 §17.1.3 and §17.2.3, with the rules of RFC 2543 for peers whose Via
//! has no branch of today's kind.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::flow::{FlowId, Peer, Side, Source, Target};
use crate::header::{CSeq, From, Header, To, Via, ViaValue};
use crate::message::{Limits, Message, Method, Name};

/// The magic cookie: a branch that has it, and more behind it, is unique over space and time (RFC 3261 §8.1.1.7).
const COOKIE: &[u8] = b"z9hG4bK";

/// What two messages of one transaction have in common, as octets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key(Box<[u8]>);

/// Among whose requests a key is unique. Phones at home share private addresses in sent-by, and some share a poor branch
/// generator, so a branch says nothing across phones. Inside peers may use any of their connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    Inside,
    /// A phone that reconnects within a transaction is still that phone.
    Certificate([u8; 32]),
    Flow(FlowId),
    Address(SocketAddr),
}

impl Scope {
    pub(super) fn of(source: &Source, peer: &Peer) -> Self {
        match (peer.side, &peer.identity, source) {
            (Side::Inside, _, _) => Self::Inside,
            (Side::Outside, Some(identity), _) => Self::Certificate(identity.key_hash),
            (Side::Outside, None, Source::Flow(flow)) => Self::Flow(*flow),
            (Side::Outside, None, Source::Datagram { remote, .. }) => Self::Address(*remote),
        }
    }
}

impl Key {
    /// The transaction of a request. An ACK has that of the INVITE that it acknowledges; `None` without a readable Via.
    pub(super) fn of_request(request: &Message, scope: &Scope) -> Option<Self> {
        let method = request.method()?;
        let via = request.header::<Via>()?.ok()?;
        // "The method of the request matches the one that created the transaction, except for ACK, where the method of
        // the request that created the transaction is INVITE" (RFC 3261 §17.2.3).
        match (modern_branch(&via), method == Method::Ack) {
            (Some(branch), is_ack) => {
                let method = if is_ack { Method::Invite } else { method };
                Some(modern(branch, &via, method.as_bytes(), scope))
            }
            (None, true) => Some(old(request, &via, b"ACK", tag::<To>(request), scope)),
            (None, false) => Some(old(request, &via, method.as_bytes(), tag::<To>(request), scope)),
        }
    }

    /// The INVITE that a CANCEL means: the one that would match if the CANCEL were an INVITE (RFC 3261 §9.2).
    pub(super) fn of_cancelled(cancel: &Message, scope: &Scope) -> Option<Self> {
        let via = cancel.header::<Via>()?.ok()?;
        Some(match modern_branch(&via) {
            Some(branch) => modern(branch, &via, b"INVITE", scope),
            None => old(cancel, &via, b"INVITE", tag::<To>(cancel), scope),
        })
    }

    /// By the rules of RFC 2543, the key under which the ACK to `response` will come: "the To tag of the ACK matches the
    /// To tag of the response sent by the server transaction" (RFC 3261 §17.2.3). `None` if today's rules hold.
    pub(super) fn of_ack_2543(invite: &Message, response: &Bytes, scope: &Scope) -> Option<Self> {
        let via = invite.header::<Via>()?.ok()?;
        if modern_branch(&via).is_some() {
            return None;
        }
        let response = Message::parse(response.clone(), &Limits::default()).ok()?;
        Some(old(invite, &via, b"ACK", tag::<To>(&response), scope))
    }

    /// Whether the rules of RFC 2543 made it.
    pub(super) fn is_2543(&self) -> bool {
        self.0.first() == Some(&b'o')
    }

    /// A request of ours, by the branch of its top Via and its method, which a response has in CSeq (RFC 3261 §17.1.3).
    pub(super) fn client(branch: &[u8], method: &[u8]) -> Self {
        joined(b'c', &[branch, method], &Scope::Inside)
    }

    /// The request of ours that a response answers.
    pub(super) fn of_response(response: &Message) -> Option<Self> {
        let via = response.header::<Via>()?.ok()?;
        let cseq = response.header::<CSeq>()?.ok()?;
        Some(Self::client(via.branch()?, cseq.method.as_bytes()))
    }
}

/// Where the answer to a request goes. Never where its Via says from the outside, and from the inside only the port, and
/// only for datagrams that don't ask for symmetric answers (RFC 3261 §18.2.2, RFC 3581 §4).
pub(super) fn reply_target(source: Source, peer: &Peer, request: &Message) -> Target {
    match (source, peer.side) {
        (Source::Datagram { listener, remote }, Side::Inside) => {
            let mut remote = remote;
            if let Some(Ok(via)) = request.header::<Via>()
                && via.rport().is_none()
            {
                remote.set_port(via.port().unwrap_or(5060));
            }
            Target::Datagram { listener, remote }
        }
        _ => source.into(),
    }
}

/// The branch, if it is one that makes the transaction's key by itself.
fn modern_branch<'a>(via: &ViaValue<'a>) -> Option<&'a [u8]> {
    via.branch().filter(|branch| branch.starts_with(COOKIE) && branch.len() > COOKIE.len())
}

fn modern(branch: &[u8], via: &ViaValue<'_>, method: &[u8], scope: &Scope) -> Key {
    let host = via.host_bytes().to_ascii_lowercase();
    let port = via.port().map_or([0, 0], u16::to_be_bytes);
    joined(b'm', &[branch, &host, &port, method], scope)
}

/// "The Request-URI, To tag, From tag, Call-ID, CSeq, and top Via header field" (RFC 3261 §17.2.3).
fn old(request: &Message, via: &ViaValue<'_>, method: &[u8], to_tag: &[u8], scope: &Scope) -> Key {
    let uri = request.request_uri().unwrap_or_default();
    let call_id = request.raw(Name::CallId).unwrap_or_default();
    let number = match request.header::<CSeq>() {
        Some(Ok(cseq)) => cseq.number.to_be_bytes(),
        _ => [0xff; 4],
    };
    joined(b'o', &[uri, to_tag, tag::<From>(request), call_id, &number, via.raw(), method], scope)
}

fn tag<H>(message: &Message) -> &[u8]
where
    H: for<'a> Header<View<'a> = crate::header::Address<'a>>,
{
    match message.header::<H>() {
        Some(Ok(address)) => address.tag().unwrap_or_default(),
        _ => b"",
    }
}

/// Parts in a row, each with its length before it, so that no two lists of parts read alike.
fn joined(kind: u8, parts: &[&[u8]], scope: &Scope) -> Key {
    let length: usize = parts.iter().map(|part| part.len() + 4).sum();
    let mut key = Vec::with_capacity(length + 40);
    key.push(kind);
    for part in parts {
        key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        key.extend_from_slice(part);
    }
    match scope {
        Scope::Inside => key.push(0),
        Scope::Certificate(hash) => {
            key.push(1);
            key.extend_from_slice(hash);
        }
        Scope::Flow(flow) => {
            key.push(2);
            key.extend_from_slice(&flow.0.to_be_bytes());
        }
        Scope::Address(address) => {
            key.push(3);
            // Writing to a Vec does not fail.
            let _ = write!(key, "{address}");
        }
    }
    Key(key.into_boxed_slice())
}
