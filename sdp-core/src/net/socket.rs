//! One UDP port: bound, told to name the hop limit of what comes, and which hop limit it gives to what leaves.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{
    Ipv4RecvTtl, Ipv4Tos, Ipv4Ttl, Ipv6RecvHopLimit, Ipv6TClass, Ipv6Ttl, RcvBuf, RxqOvfl,
};

use crate::relay::Component;
use crate::relay::table::{BindFailure, Slot};

/// Room for a burst while the thread serves other ports; the kernel uses it only when needed.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// So many packets in a row with another hop limit than the socket's make it the socket's: one call of the kernel, after
/// which they need no control message. An end that changes its hop limit at every packet gains nothing by it.
const STEADY: u8 = 32;

/// A bound port.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    v6: bool,
    hop_limit: Steady,
    /// Packets the kernel's queue had no room for, as last told.
    lost: u32,
}

/// What a packet needs so that it leaves with its hop limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    /// Nothing: the socket gives it.
    Socket,
    /// A control message.
    Message,
    /// A control message, and the socket should be told once all before it has left: [`Port::settle`].
    Settle,
}

#[derive(Debug, Default)]
struct Steady {
    /// What the socket gives; `None` before its first packet.
    socket: Option<u8>,
    other: u8,
    row: u8,
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
        // Less room is no reason to refuse, nor is a kernel that does not tell what its queue lost.
        let _ = setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER);
        let _ = setsockopt(&socket, RxqOvfl, &1);
        Ok(Self { socket, v6: address.is_ipv6(), hop_limit: Steady::default(), lost: 0 })
    }

    /// Its descriptor.
    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// How the next packet gets its hop limit. The first packet tells the socket: under a fixed hop limit, and with an end
    /// that always sends the same, no packet after it needs more.
    pub(super) fn hop(&mut self, hop_limit: u8) -> Hop {
        if self.hop_limit.socket.is_none() && self.settle(hop_limit) {
            return Hop::Socket;
        }
        self.hop_limit.next(hop_limit)
    }

    /// Tells the socket. What is queued for it must have left.
    pub(super) fn settle(&mut self, hop_limit: u8) -> bool {
        let value = i32::from(hop_limit);
        let told = if self.v6 {
            setsockopt(&self.socket, Ipv6Ttl, &value)
        } else {
            setsockopt(&self.socket, Ipv4Ttl, &value)
        };
        if told.is_ok() {
            self.hop_limit = Steady { socket: Some(hop_limit), other: 0, row: 0 };
        }
        told.is_ok()
    }

    /// How many packets the queue lost since this was asked last, by the kernel's count of all.
    pub(super) fn lost(&mut self, total: u32) -> u32 {
        total.wrapping_sub(std::mem::replace(&mut self.lost, total))
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Steady {
    fn next(&mut self, hop_limit: u8) -> Hop {
        if self.socket == Some(hop_limit) {
            self.row = 0;
            return Hop::Socket;
        }
        self.row = if self.other == hop_limit { self.row.saturating_add(1) } else { 1 };
        self.other = hop_limit;
        if self.row < STEADY { Hop::Message } else { Hop::Settle }
    }
}

/// The ports of a relay by the table's slots.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pairs: Vec<Option<Pair>>,
    last: u32,
}

/// The two ports of a slot.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) rtp: Port,
    pub(super) rtcp: Port,
    /// Tells these ports from those that had the slot before.
    pub(super) generation: u32,
}

impl Pair {
    pub(super) fn port_mut(&mut self, component: Component) -> &mut Port {
        match component {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        }
    }
}

impl Ports {
    pub(super) fn install(&mut self, slot: Slot, rtp: Port, rtcp: Port) -> Option<&Pair> {
        if self.pairs.len() <= slot.0 {
            self.pairs.resize_with(slot.0 + 1, || None);
        }
        self.last = self.last.wrapping_add(1);
        let place = self.pairs.get_mut(slot.0)?;
        Some(place.insert(Pair { rtp, rtcp, generation: self.last }))
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Pair> {
        self.pairs.get_mut(slot.0)?.take()
    }

    pub(super) fn pair(&self, slot: Slot) -> Option<&Pair> {
        self.pairs.get(slot.0)?.as_ref()
    }

    pub(super) fn port_mut(&mut self, slot: Slot, component: Component) -> Option<&mut Port> {
        Some(self.pairs.get_mut(slot.0)?.as_mut()?.port_mut(component))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_hop_limit_becomes_the_sockets() {
        let mut steady = Steady { socket: Some(63), ..Steady::default() };
        assert_eq!(steady.next(63), Hop::Socket);
        for _ in 1..STEADY {
            assert_eq!(steady.next(60), Hop::Message);
        }
        assert_eq!(steady.next(60), Hop::Settle);
        // Not told yet: it is asked for again.
        assert_eq!(steady.next(60), Hop::Settle);
        assert_eq!(steady.next(63), Hop::Socket);
        assert_eq!(steady.next(60), Hop::Message);
    }

    #[test]
    fn one_that_changes_all_the_time_never_does() {
        let mut steady = Steady { socket: Some(1), ..Steady::default() };
        for n in 0..1000 {
            assert_eq!(steady.next(if n % 2 == 0 { 63 } else { 64 }), Hop::Message);
        }
    }

    #[test]
    fn a_port_tells_its_socket_once() {
        let mut port = Port::bind("127.0.0.1:0".parse().unwrap(), 46).unwrap();
        assert_eq!([port.hop(64), port.hop(64), port.hop(63)], [Hop::Socket, Hop::Socket, Hop::Message]);
        assert!(port.settle(63));
        assert_eq!(port.hop(63), Hop::Socket);
        assert_eq!([port.lost(5), port.lost(5), port.lost(7)], [5, 0, 2]);
    }

    #[test]
    fn a_slot_that_is_used_again_has_another_generation() {
        let port = || Port::bind("127.0.0.1:0".parse().unwrap(), 46).unwrap();
        let mut ports = Ports::default();
        let first = ports.install(Slot(3), port(), port()).unwrap().generation;
        assert!(ports.pair(Slot(2)).is_none() && ports.pair(Slot(9)).is_none());
        assert!(ports.remove(Slot(3)).is_some() && ports.remove(Slot(3)).is_none());
        assert_ne!(ports.install(Slot(3), port(), port()).unwrap().generation, first);
    }

    /// MED-19.
    #[test]
    fn a_port_marks_what_it_sends() {
        use nix::sys::socket::getsockopt;
        for dscp in [0, 46, 63] {
            let four = Port::bind("127.0.0.1:0".parse().unwrap(), dscp).unwrap();
            assert_eq!(getsockopt(&four, Ipv4Tos).unwrap(), i32::from(dscp) << 2);
            let six = Port::bind("[::1]:0".parse().unwrap(), dscp).unwrap();
            assert_eq!(getsockopt(&six, Ipv6TClass).unwrap(), i32::from(dscp) << 2);
        }
    }
}
