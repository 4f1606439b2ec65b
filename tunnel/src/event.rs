//! Who is at the other end of a stream, and what an endpoint reports.
//!
//! An endpoint writes no log: logs, counters and timelines are consumers of [`Event`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::Target;
use crate::policy::Refusal;

/// The certificate a peer has proved to own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The subject, as the verifier printed it; for phones it carries the MAC address.
    pub subject: String,
    /// SHA-256 of the public key: what limits count by.
    pub key_hash: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The other end of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its address.
    pub remote: SocketAddr,
    /// The address it reached us at.
    pub local: SocketAddr,
    /// Its certificate, when the stream is mutual TLS.
    pub identity: Option<Identity>,
}

/// The number of a tunnel, unique within an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId(pub u64);

/// What happened at an endpoint. Text in events is printable ASCII: it can't break a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A request was answered, or its answer was cut.
    Request(Access),
    /// The stream held something that is not a request; it was answered with this status, if any, and closed.
    Unreadable {
        /// Who sent it.
        peer: Arc<Peer>,
        /// 400, 408, 414 or 431.
        status: Option<u16>,
    },
    /// A tunnel stands.
    TunnelOpened {
        /// Its number.
        id: TunnelId,
        /// Who asked for it.
        peer: Arc<Peer>,
        /// What was asked for.
        target: Target,
        /// The address that was checked and dialled.
        address: SocketAddr,
    },
    /// A tunnel is gone.
    TunnelClosed {
        /// Its number.
        id: TunnelId,
        /// Who asked for it.
        peer: Arc<Peer>,
        /// What was asked for.
        target: Target,
        /// The address that was dialled.
        address: SocketAddr,
        /// Bytes from the peer to the target.
        up: u64,
        /// Bytes from the target to the peer.
        down: u64,
        /// How long it stood.
        duration: Duration,
        /// Why it ended.
        end: End,
    },
    /// A server of a remote endpoint could not be used; the next one is tried.
    ServerFailed {
        /// The remote endpoint's name.
        remote: String,
        /// The server, `host:port`.
        server: String,
        /// What the connection or the exchange reported.
        reason: String,
    },
}

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Who asked.
    pub peer: Arc<Peer>,
    /// The method.
    pub method: String,
    /// The path, or the target of a CONNECT, as it came.
    pub target: String,
    /// The query, which may hold a secret.
    pub query: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// Why a CONNECT was refused by policy.
    pub refusal: Option<Refusal>,
    /// Body bytes handed to the connection.
    pub sent: u64,
    /// Whether the body ended as its length promised.
    pub complete: bool,
    /// From the request's head to the last body byte.
    pub duration: Duration,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// Both sides said that they were done.
    Finished,
    /// One side was done and the other sent nothing more for the linger time.
    Lingered,
    /// Nothing passed for the idle time.
    Idle,
    /// It reached the longest life allowed.
    Expired,
    /// The peer's stream broke.
    PeerFailed,
    /// The target's stream broke.
    TargetFailed,
    /// The endpoint was told to close its tunnels.
    Shutdown,
}
