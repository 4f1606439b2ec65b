//! A second socket of a port, connected to whom the port talks with.
//!
//! The kernel looks up the route of a connected socket once and not at every packet, and gives it alone what its peer sends:
//! the packets of strangers, however many, wait in the queue of the port's first socket and take no room from it. The first
//! socket stays: by it come packets from everywhere else, and whether one of them moves the stream is decided as if there were
//! one socket only.
//!
//! A connected socket is also told by ICMP when packets don't arrive (RFC 1122 §4.1.3.3): it is known then why nobody hears
//! anything. But who forges such errors could keep us from sending. So the first error cuts the line, and each that was cut makes
//! the next one longer in coming.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv4Tos, Ipv6RecvErr, Ipv6TClass, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn6, SockaddrStorage, bind,
    connect, getsockopt, recvmsg, setsockopt, socket,
};

use super::socket::{make_room, mark, tell_hop_limit};
use crate::relay::report::Undelivered;

/// Packets in a row to one address before it is worth a line.
const STEADY: u32 = 32;
/// No line is waited for longer than so many.
const LONGEST: u32 = 1 << 20;

/// Errors read of a line that is cut.
const ERRORS: usize = 8;

/// The connected socket.
#[derive(Debug)]
pub(super) struct Line {
    socket: UdpSocket,
    peer: SocketAddr,
    lost: u32,
}

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the port's first socket.
    Port,
    /// By its line.
    Line,
    /// By its first socket, and a line there would pay from now on.
    Dial,
}

/// Where packets have gone of late.
#[derive(Debug)]
pub(super) struct Ways {
    to: Option<SocketAddr>,
    row: u32,
    patience: u32,
}

impl Default for Ways {
    fn default() -> Self {
        Self { to: None, row: 0, patience: STEADY }
    }
}

impl Ways {
    /// A packet goes there, and there is no line.
    pub(super) fn next(&mut self, to: SocketAddr) -> Way {
        if self.to != Some(to) {
            (self.to, self.row) = (Some(to), 0);
        }
        self.row = self.row.saturating_add(1);
        if self.row == self.patience { Way::Dial } else { Way::Port }
    }

    /// Where the last one went.
    pub(super) fn to(&self) -> Option<SocketAddr> {
        self.to
    }

    /// A line was no good.
    pub(super) fn discourage(&mut self) {
        self.patience = self.patience.saturating_mul(8).min(LONGEST);
        self.row = 0;
    }
}

impl Line {
    /// A line of this port.
    pub(super) fn open(port: &UdpSocket, to: SocketAddr) -> io::Result<Self> {
        let local = port.local_addr()?;
        let family = if local.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let line = socket(family, SockType::Datagram, flags, None)?;
        // Both must allow it, and both stop to as soon as it is done: nobody else is to share the port.
        setsockopt(port, ReuseAddr, &true)?;
        setsockopt(&line, ReuseAddr, &true)?;
        let bound = bind(line.as_raw_fd(), &SockaddrStorage::from(local));
        setsockopt(port, ReuseAddr, &false)?;
        setsockopt(&line, ReuseAddr, &false)?;
        bound?;
        let mut line = Self { socket: line.into(), peer: to, lost: 0 };
        line.lead(to)?;
        tell_hop_limit(&line.socket, local)?;
        let class = if local.is_ipv6() { getsockopt(port, Ipv6TClass)? } else { getsockopt(port, Ipv4Tos)? };
        let _ = mark(&line.socket, local, class);
        make_room(&line.socket);
        // Without it only errors that end all hope are told, and not why.
        let _ = match local {
            SocketAddr::V4(_) => setsockopt(&line.socket, Ipv4RecvErr, &true),
            SocketAddr::V6(_) => setsockopt(&line.socket, Ipv6RecvErr, &true),
        };
        Ok(line)
    }

    /// Why packets did not arrive: the ICMP answers that it has got, a few of them.
    pub(super) fn undelivered(&self) -> impl Iterator<Item = Undelivered> {
        let told = |_| {
            let mut bytes = [0; 64];
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let mut control = nix::cmsg_space!(libc::sock_extended_err, SockaddrIn6, i32, [u64; 2]);
            control.resize(control.capacity(), 0);
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let message =
                recvmsg::<SockaddrStorage>(self.raw(), &mut parts, Some(&mut control), flags).ok()?;
            let mut errors = message.cmsgs().ok()?.filter_map(|control| match control {
                ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    Some(error)
                }
                _ => None,
            });
            Some(errors.next().and_then(|error| reason(error.ee_origin, error.ee_type)))
        };
        (0..ERRORS).map_while(told).flatten().collect::<Vec<_>>().into_iter()
    }

    /// Lets it lead there. What its queue holds of whom it led to before is still read.
    pub(super) fn lead(&mut self, to: SocketAddr) -> io::Result<()> {
        connect(self.socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        self.peer = to;
        Ok(())
    }

    /// To whom it leads.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Its descriptor.
    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// How many packets its queue lost since this was asked last, by the kernel's count of all.
    pub(super) fn lost(&mut self, total: u32) -> u32 {
        total.wrapping_sub(std::mem::replace(&mut self.lost, total))
    }
}

/// What an ICMP message means for a packet (RFC 792, RFC 4443 §3).
fn reason(origin: u8, kind: u8) -> Option<Undelivered> {
    match (origin, kind) {
        (libc::SO_EE_ORIGIN_ICMP, 11) | (libc::SO_EE_ORIGIN_ICMP6, 3) => Some(Undelivered::Expired),
        (libc::SO_EE_ORIGIN_ICMP, 3) | (libc::SO_EE_ORIGIN_ICMP6, 1) => Some(Undelivered::Unreachable),
        _ => None,
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> (UdpSocket, SocketAddr) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap();
        (peer, address)
    }

    fn heard(socket: &UdpSocket) -> Option<Vec<u8>> {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 16];
        socket.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec())
    }

    #[test]
    fn it_hears_its_peer_and_the_port_everybody_else() {
        let ((port, place), (one, first), (other, second)) = (peer(), peer(), peer());
        let mut line = Line::open(&port, first).unwrap();
        one.send_to(b"1", place).unwrap();
        other.send_to(b"2", place).unwrap();
        assert_eq!((heard(&line.socket), heard(&line.socket)), (Some(b"1".to_vec()), None));
        assert_eq!((heard(&port), heard(&port)), (Some(b"2".to_vec()), None));
        line.lead(second).unwrap();
        one.send_to(b"3", place).unwrap();
        other.send_to(b"4", place).unwrap();
        assert_eq!((heard(&line.socket), heard(&port)), (Some(b"4".to_vec()), Some(b"3".to_vec())));
        line.socket.send(b"5").unwrap();
        assert_eq!(heard(&other), Some(b"5".to_vec()));
        drop(line);
        other.send_to(b"6", place).unwrap();
        assert_eq!(heard(&port), Some(b"6".to_vec()));
    }

    #[test]
    fn it_says_why_nothing_arrives() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let port = UdpSocket::bind(host).unwrap();
            let gone = UdpSocket::bind(host).unwrap().local_addr().unwrap();
            let line = Line::open(&port, gone).unwrap();
            assert_eq!(line.undelivered().next(), None);
            line.socket.send(b"1").unwrap();
            assert_eq!(line.undelivered().collect::<Vec<_>>(), [Undelivered::Unreachable], "{host}");
        }
        assert_eq!(reason(libc::SO_EE_ORIGIN_ICMP, 11), Some(Undelivered::Expired));
        assert_eq!(reason(libc::SO_EE_ORIGIN_ICMP6, 3), Some(Undelivered::Expired));
        assert_eq!(reason(libc::SO_EE_ORIGIN_LOCAL, 11), None);
    }

    #[test]
    fn nobody_else_shares_the_port() {
        let ((port, place), (_one, first)) = (peer(), peer());
        let _line = Line::open(&port, first).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let thief = socket(AddressFamily::Inet, SockType::Datagram, flags, None).unwrap();
        setsockopt(&thief, ReuseAddr, &true).unwrap();
        assert!(bind(thief.as_raw_fd(), &SockaddrStorage::from(place)).is_err());
    }

    #[test]
    fn a_line_pays_after_a_while_and_later_each_time_it_was_no_good() {
        let (one, other) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let mut ways = Ways::default();
        let until = |ways: &mut Ways| (1..).find(|_| ways.next(one) == Way::Dial);
        for _ in 0..10 {
            assert_eq!((ways.next(one), ways.next(other)), (Way::Port, Way::Port), "it alternates");
        }
        assert_eq!(until(&mut ways), Some(STEADY));
        assert_eq!(ways.to(), Some(one));
        assert_eq!(ways.next(one), Way::Port, "asked for once");
        ways.discourage();
        assert_eq!(until(&mut ways), Some(STEADY * 8));
        for _ in 0..20 {
            ways.discourage();
        }
        assert_eq!(until(&mut ways), Some(LONGEST));
    }
}
