//! One UDP port: bound, told to name the hop limit of what comes, and which hop limit it gives to what leaves; and its
//! [`Line`], where it has one.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{
    Ipv4RecvTtl, Ipv4Tos, Ipv4Ttl, Ipv6RecvHopLimit, Ipv6TClass, Ipv6Ttl, RcvBuf, ReceiveTimestampns, RxqOvfl,
};

use super::line::{Line, Way, Ways};
use super::mark::Which;
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
        // A kernel that does not tell the hop limit can't have it kept: better no port than a wrong one.
        tell_hop_limit(&socket, address)
            .map_err(|error| fatal("the kernel does not tell the hop limit on", &error))?;
        // The DSCP is the upper six bits (RFC 2474 §3). A kernel that does not mark packets still sends them.
        let _ = mark(&socket, address, i32::from(dscp) << 2);
        make_room(&socket);
        Ok(Self { socket, v6: address.is_ipv6(), hop_limit: Steady::default(), lost: 0 })
    }

    /// Its descriptor.
    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// How many packets the queue lost since this was asked last, by the kernel's count of all.
    fn lost(&mut self, total: u32) -> u32 {
        total.wrapping_sub(std::mem::replace(&mut self.lost, total))
    }
}

/// Asks for the hop limit of what comes.
pub(super) fn tell_hop_limit(socket: &UdpSocket, local: SocketAddr) -> nix::Result<()> {
    match local {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4RecvTtl, &true),
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvHopLimit, &true),
    }
}

/// Marks what leaves with a traffic class.
pub(super) fn mark(socket: &UdpSocket, local: SocketAddr, class: i32) -> nix::Result<()> {
    match local {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4Tos, &class),
        SocketAddr::V6(_) => setsockopt(socket, Ipv6TClass, &class),
    }
}

/// Room for a burst. Less of it is no reason to refuse, nor is a kernel that does not tell what its queue lost or when a packet
/// came.
pub(super) fn make_room(socket: &UdpSocket) {
    let _ = setsockopt(socket, ReceiveTimestampns, &true);
    let _ = setsockopt(socket, RcvBuf, &RECEIVE_BUFFER);
    let _ = setsockopt(socket, RxqOvfl, &1);
}

fn give_hop_limit(socket: &impl AsFd, v6: bool, hop_limit: u8) -> bool {
    let value = i32::from(hop_limit);
    if v6 { setsockopt(socket, Ipv6Ttl, &value).is_ok() } else { setsockopt(socket, Ipv4Ttl, &value).is_ok() }
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
    count: usize,
    last: u32,
}

/// The two ports of a slot.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) rtp: Port,
    pub(super) rtcp: Port,
    /// Of the port of RTP.
    line: Option<Line>,
    ways: Ways,
    /// Tells these ports from those that had the slot before.
    pub(super) generation: u32,
}

impl Pair {
    pub(super) fn new(rtp: Port, rtcp: Port) -> Self {
        Self { rtp, rtcp, line: None, ways: Ways::default(), generation: 0 }
    }

    pub(super) fn port(&self, component: Component) -> &Port {
        match component {
            Component::Rtp => &self.rtp,
            Component::Rtcp => &self.rtcp,
        }
    }

    fn port_mut(&mut self, component: Component) -> &mut Port {
        match component {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        }
    }

    /// The descriptor of a socket; `None`: there is no such socket.
    pub(super) fn raw(&self, which: Which) -> Option<RawFd> {
        match which {
            Which::Rtp | Which::Rtcp => Some(self.port(which.component()).raw()),
            Which::Line => self.line.as_ref().map(Line::raw),
        }
    }

    /// How the next packet of a port gets its hop limit. The first packet tells the socket: under a fixed hop limit, and with
    /// an end that always sends the same, no packet after it needs more.
    pub(super) fn hop(&mut self, component: Component, hop_limit: u8) -> Hop {
        if self.port(component).hop_limit.socket.is_none() && self.settle(component, hop_limit) {
            return Hop::Socket;
        }
        self.port_mut(component).hop_limit.next(hop_limit)
    }

    /// Tells the sockets of a port. What is queued for them must have left.
    pub(super) fn settle(&mut self, component: Component, hop_limit: u8) -> bool {
        let line = self.line.as_ref().filter(|_| component == Component::Rtp);
        let port = self.port(component);
        let told = give_hop_limit(&port.socket, port.v6, hop_limit)
            && line.is_none_or(|line| give_hop_limit(line, port.v6, hop_limit));
        if told {
            self.port_mut(component).hop_limit = Steady { socket: Some(hop_limit), other: 0, row: 0 };
        }
        told
    }

    /// The line of the port of RTP.
    pub(super) fn line(&self) -> Option<&Line> {
        self.line.as_ref()
    }

    /// By which socket a packet of a port is to go there.
    pub(super) fn way(&mut self, component: Component, to: SocketAddr) -> Way {
        match (component, &self.line) {
            (Component::Rtcp, _) => Way::Port,
            (Component::Rtp, Some(line)) if line.peer() == to => Way::Line,
            (Component::Rtp, _) => self.ways.next(to),
        }
    }

    /// Gives the port of RTP a line to whom it has been sending to all the time, or lets the one it has lead there.
    pub(super) fn dial(&mut self) -> io::Result<()> {
        let Some(to) = self.ways.to() else { return Ok(()) };
        if let Some(line) = &mut self.line {
            return line.lead(to);
        }
        let line = Line::open(&self.rtp.socket, to)?;
        let hop_limit = self.rtp.hop_limit.socket;
        if hop_limit.is_none_or(|hop_limit| give_hop_limit(&line, self.rtp.v6, hop_limit)) {
            self.line = Some(line);
        }
        Ok(())
    }

    /// Takes the line away; another one will be long in coming.
    pub(super) fn cut(&mut self) -> Option<Line> {
        let line = self.line.take()?;
        self.ways.discourage();
        Some(line)
    }

    /// How many packets the queue of a socket lost since this was asked last, by the kernel's count of all.
    pub(super) fn lost(&mut self, which: Which, total: u32) -> u32 {
        match (which, &mut self.line) {
            (Which::Rtp | Which::Rtcp, _) => self.port_mut(which.component()).lost(total),
            (Which::Line, Some(line)) => line.lost(total),
            (Which::Line, None) => 0,
        }
    }
}

impl Ports {
    pub(super) fn install(&mut self, slot: Slot, pair: Pair) -> Option<&Pair> {
        if self.pairs.len() <= slot.0 {
            self.pairs.resize_with(slot.0 + 1, || None);
        }
        self.last = self.last.wrapping_add(1);
        let place = self.pairs.get_mut(slot.0).filter(|place| place.is_none())?;
        self.count += 1;
        Some(place.insert(Pair { generation: self.last, ..pair }))
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Pair> {
        let pair = self.pairs.get_mut(slot.0)?.take()?;
        self.count -= 1;
        Some(pair)
    }

    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn pair(&self, slot: Slot) -> Option<&Pair> {
        self.pairs.get(slot.0)?.as_ref()
    }

    pub(super) fn pair_mut(&mut self, slot: Slot) -> Option<&mut Pair> {
        self.pairs.get_mut(slot.0)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        let port = || Port::bind("127.0.0.1:0".parse().unwrap(), 46).unwrap();
        Pair::new(port(), port())
    }

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
        let mut pair = pair();
        let hops = [64, 64, 63].map(|hop_limit| pair.hop(Component::Rtp, hop_limit));
        assert_eq!(hops, [Hop::Socket, Hop::Socket, Hop::Message]);
        assert!(pair.settle(Component::Rtp, 63));
        assert_eq!(pair.hop(Component::Rtp, 63), Hop::Socket);
        assert_eq!([5, 5, 7].map(|total| pair.lost(Which::Rtp, total)), [5, 0, 2]);
    }

    #[test]
    fn a_line_is_cut_once() {
        let (mut pair, to) = (pair(), "127.0.0.1:9".parse().unwrap());
        let until = |pair: &mut Pair| (1..).find(|_| pair.way(Component::Rtp, to) == Way::Dial);
        assert_eq!((until(&mut pair), pair.way(Component::Rtcp, to)), (Some(32), Way::Port));
        pair.dial().unwrap();
        assert_eq!((pair.way(Component::Rtp, to), pair.way(Component::Rtcp, to)), (Way::Line, Way::Port));
        assert!(pair.raw(Which::Line).is_some() && pair.cut().is_some());
        // What the kernel says of it later changes nothing.
        assert!(pair.raw(Which::Line).is_none() && pair.cut().is_none());
        assert_eq!(until(&mut pair), Some(256));
    }

    #[test]
    fn a_slot_that_is_used_again_has_another_generation() {
        let mut ports = Ports::default();
        let first = ports.install(Slot(3), pair()).unwrap().generation;
        assert!(ports.pair(Slot(2)).is_none() && ports.pair(Slot(9)).is_none());
        assert!(ports.remove(Slot(3)).is_some() && ports.remove(Slot(3)).is_none());
        assert_ne!(ports.install(Slot(3), pair()).unwrap().generation, first);
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
