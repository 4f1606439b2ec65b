//! Where messages come from and where they go: connections, peers, targets.
//!
//! Nothing here is a socket. A driver (see `net`) owns the sockets and gives each stream connection a [`FlowId`];
//! everything above speaks of flows and addresses by value.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

/// One live stream connection. Never reused within a process, so a stale id can only miss, never hit another peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowId(pub u64);

/// Where the shard stands in a [`FlowId`]: in the uppermost octet.
const SHARD_SHIFT: u32 = 56;

impl FlowId {
    /// The connection of this number on a [shard](crate::shard).
    pub fn on(shard: u8, number: u64) -> Self {
        Self(u64::from(shard) << SHARD_SHIFT | number & ((1 << SHARD_SHIFT) - 1))
    }

    /// The machine of a shard itself, where another shard's requests go as if it were connected.
    pub(crate) fn machine(shard: u8) -> Self {
        Self::on(shard, 0)
    }

    pub(crate) fn is_machine(self) -> bool {
        self == Self::machine(self.shard())
    }

    /// The shard whose connection it is.
    pub fn shard(self) -> u8 {
        u8::try_from(self.0 >> SHARD_SHIFT).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shard() {
            0 => write!(f, "flow-{}", self.0),
            shard => write!(f, "flow-{shard}.{}", self.0 ^ Self::machine(shard).0),
        }
    }
}

/// A configured port row: the listener a connection or datagram arrived at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ListenerId(pub u32);

/// How octets travel. Non-exhaustive: WebSocket (RFC 7118) must fit later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Datagrams. The only transport here that may lose or reorder.
    Udp,
    /// A plain stream.
    Tcp,
    /// A stream under TLS.
    Tls,
}

impl Transport {
    /// Whether the transport delivers or says that it did not (RFC 3261 §17): no retransmissions, several timers zero.
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls => true,
        }
    }

    /// The token of a Via sent-protocol, such as `TLS` (RFC 3261 §20.42).
    pub fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The port when a URI or a Via names none: 5061 for TLS, else 5060 (RFC 3261 §19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

/// Which face of the gateway a peer is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Side {
    /// The public Internet: phones at home. Nothing that comes from here is trusted for routing.
    Outside,
    /// The company's network: the PBX.
    Inside,
}

impl Side {
    /// The side a proxied message leaves to.
    pub fn opposite(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }
}

/// Who the certificate of a peer says it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The certificate's subject as text, for logs and registrations.
    pub subject: String,
    /// Common name and subject alternative names.
    pub names: Vec<String>,
    /// SHA-256 of the SubjectPublicKeyInfo: stays the same when a certificate is renewed with its key.
    pub key_hash: [u8; 32],
}

/// The other end of a connection or the sender of a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Address of the peer as the socket shows it.
    pub remote: SocketAddr,
    /// Our address that the peer talks to.
    pub local: SocketAddr,
    /// How octets travel.
    pub transport: Transport,
    /// Which face of the gateway the peer is on.
    pub side: Side,
    /// The port row it came in by; `None` for connections that we dialled.
    pub listener: Option<ListenerId>,
    /// The certificate's identity, on mutual TLS.
    pub identity: Option<Arc<Identity>>,
    /// Proven by mutual TLS, or trusted by its source address by a port row that says so (`trust_source`).
    pub verified: bool,
}

/// Where a message came from, and so where its answer goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Source {
    /// A stream connection.
    Flow(FlowId),
    /// A datagram socket of ours and the sender's address.
    Datagram {
        /// The socket that received it.
        listener: ListenerId,
        /// Who sent it.
        remote: SocketAddr,
    },
}

impl Source {
    /// The connection, if it was one.
    pub fn flow(&self) -> Option<FlowId> {
        match self {
            Self::Flow(flow) => Some(*flow),
            Self::Datagram { .. } => None,
        }
    }
}

/// Where a message shall go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Target {
    /// This connection and no other. If it is gone, the message is lost.
    Flow(FlowId),
    /// A datagram from this socket of ours.
    Datagram {
        /// The socket to send from.
        listener: ListenerId,
        /// Where to.
        remote: SocketAddr,
    },
    /// A connection to an address: an open one that was dialled for the same [`Dial`], else a new one.
    Dial(Dial),
}

impl Target {
    /// See [`Transport::is_reliable`].
    pub fn is_reliable(&self) -> bool {
        match self {
            Self::Flow(_) => true,
            Self::Datagram { .. } => false,
            Self::Dial(dial) => dial.transport.is_reliable(),
        }
    }
}

impl From<Source> for Target {
    fn from(source: Source) -> Self {
        match source {
            Source::Flow(flow) => Self::Flow(flow),
            Source::Datagram { listener, remote } => Self::Datagram { listener, remote },
        }
    }
}

impl From<Dial> for Target {
    fn from(dial: Dial) -> Self {
        Self::Dial(dial)
    }
}

/// A connection to be had. Two equal values share one connection.
///
/// With [`Transport::Udp`] nothing is connected: a socket of ours on that side sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Dial {
    /// How octets travel.
    pub transport: Transport,
    /// The very address to connect to. Names were looked up and checked before.
    pub remote: SocketAddr,
    /// Which face of the gateway dials.
    pub side: Side,
    /// One connection per phone: the binding's id. `None` shares one connection among all.
    pub affinity: Option<u64>,
}

/// Octets to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Where to.
    pub target: Target,
    /// One whole SIP message.
    pub bytes: Bytes,
}
