//! One UDP port: bound, read with the hop limit of each packet, written with the hop limit of each packet.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4RecvTtl, Ipv4Tos, Ipv6RecvHopLimit, Ipv6TClass, RcvBuf};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmsg, sendmmsg,
    setsockopt,
};

use crate::relay::table::BindFailure;

/// Room for a burst while the thread serves other ports; the kernel uses it only when needed.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// The largest UDP payload.
const MAX_DATAGRAM: usize = 65_536;

/// A bound port.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
}

impl Port {
    pub(super) fn bind(address: SocketAddr, dscp: u8) -> Result<Self, BindFailure> {
        let fatal = |what: &str, error: &dyn std::fmt::Display| {
            BindFailure::Fatal(format!("{what} {}: {error}", address.ip()))
        };
        let socket = UdpSocket::bind(address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindFailure::Busy,
            _ => fatal("no socket on", &error),
        })?;
        socket.set_nonblocking(true).map_err(|error| fatal("no socket on", &error))?;
        let told = match address {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvTtl, &true),
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvHopLimit, &true),
        };
        // A kernel that does not tell the hop limit can't have it kept: better no port than a wrong one.
        told.map_err(|error| fatal("the kernel does not tell the hop limit on", &error))?;
        // The DSCP is the upper six bits (RFC 2474 §3). A kernel that does not mark packets still sends them.
        let class = i32::from(dscp) << 2;
        let _ = match address {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4Tos, &class),
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6TClass, &class),
        };
        // Less room is no reason to refuse.
        let _ = setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER);
        Ok(Self { socket })
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A packet in the receiver's buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) source: SocketAddr,
    pub(super) hop_limit: Option<u8>,
    pub(super) length: usize,
}

/// Buffers to receive with: one set for all ports of a thread.
pub(super) struct Receiver {
    bytes: Box<[u8]>,
    control: Vec<u8>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; MAX_DATAGRAM].into(), control: nix::cmsg_space!(i32, i32) }
    }

    /// The next packet of a port.
    pub(super) fn receive(&mut self, port: &Port) -> Result<Arrival, Errno> {
        let mut parts = [IoSliceMut::new(&mut self.bytes)];
        // `cmsg_space!` gives capacity; the call wants length.
        let room = self.control.capacity();
        self.control.resize(room, 0);
        let message = recvmsg::<SockaddrStorage>(
            port.socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let hop_limit = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|control| match control {
                ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                    u8::try_from(value).ok()
                }
                _ => None,
            })
        });
        let source = message.address.as_ref().and_then(address).ok_or(Errno::EAFNOSUPPORT)?;
        Ok(Arrival { source, hop_limit, length: message.bytes })
    }

    /// The bytes of the last packet.
    pub(super) fn bytes(&self, arrival: &Arrival) -> &[u8] {
        self.bytes.get(..arrival.length).unwrap_or_default()
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address))))
}

/// Headers to send with. nix's `sendmsg` allocates for a control message; its `sendmmsg` takes prepared headers.
pub(super) struct Sender {
    headers: MultiHeaders<SockaddrStorage>,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self { headers: MultiHeaders::preallocate(1, Some(nix::cmsg_space!(i32))) }
    }

    /// Sends one packet with this hop limit.
    pub(super) fn send(
        &mut self,
        port: &Port,
        to: SocketAddr,
        hop_limit: u8,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let value = i32::from(hop_limit);
        let control = [match to {
            SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(&value),
            SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(&value),
        }];
        let parts = [[IoSlice::new(bytes)]];
        let to = [Some(SockaddrStorage::from(to))];
        sendmmsg(port.socket.as_raw_fd(), &mut self.headers, &parts, to, control, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}
