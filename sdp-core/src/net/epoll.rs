//! The way that every kernel knows: wait for ready ports, read each, send each packet.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll as Set, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmsg, sendmmsg,
};

use super::headers::{MAX_PACKET, Notes};
use super::mark::Which;
use super::pump::{COALESCE, Engine, Moment, Turn, Wake, clock};
use super::socket::{Hop, Pair, Port, Ports};
use crate::relay::stream::{Packet, Passed};
use crate::relay::table::{Slot, Table};

/// Packets read from one port before the others have their turn: a flood on one port is that port's trouble.
const TURN: usize = 32;
/// Ports served in one turn of the loop.
const EVENTS: usize = 256;
/// The event descriptor's mark; ports have their slot's number.
const WAKE: u64 = u64::MAX;

pub(super) struct Epoll {
    set: Set,
    wake: Arc<Wake>,
    events: Vec<EpollEvent>,
    receiver: Receiver,
    sender: Sender,
    nap: Nap,
}

impl Epoll {
    pub(super) fn new(wake: Arc<Wake>) -> nix::Result<Self> {
        let set = Set::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        set.add(wake.event(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self {
            set,
            wake,
            events: vec![EpollEvent::empty(); EVENTS],
            receiver: Receiver::new(),
            sender: Sender::new(),
            nap: Nap::new(clock()),
        })
    }

    /// Takes a line away of which an error is told: nobody here asks why, and until somebody does it would be told again.
    fn cut(&mut self, mark: u64, table: &mut Table, ports: &mut Ports) {
        let slot = Slot(usize::try_from(mark >> 2).unwrap_or(usize::MAX));
        if let Some(line) = ports.pair_mut(slot).and_then(Pair::cut) {
            let _ = self.set.delete(&line);
            line.undelivered().for_each(|why| table.handle_undelivered(slot, why));
        }
    }

    /// Reads a port's packets and sends each where it belongs; says how many there were.
    fn serve(&mut self, moment: Moment, mark: u64, table: &mut Table, ports: &mut Ports) -> usize {
        let slot = Slot(usize::try_from(mark >> 2).unwrap_or(usize::MAX));
        let socket = Which::numbered(mark & 3);
        let component = socket.component();
        let Some(fd) = ports.pair(slot).and_then(|pair| pair.raw(socket)) else { return 0 };
        for count in 0..TURN {
            let arrival = match self.receiver.receive(fd) {
                Ok(arrival) => arrival,
                Err(Errno::EAGAIN) => return count,
                // An ICMP error of an earlier packet: the next read brings the next packet.
                Err(_) => continue,
            };
            if let Some(total) = arrival.notes.lost
                && let Some(pair) = ports.pair_mut(slot)
            {
                table.handle_overflow(slot, pair.lost(socket, total));
            }
            if arrival.truncated {
                table.handle_oversize(slot);
                continue;
            }
            let bytes = self.receiver.bytes(&arrival);
            let packet =
                Packet { component, source: arrival.source, hop_limit: arrival.notes.hop_limit, bytes };
            let Some(forward) = table.handle_packet(moment.of(arrival.notes.arrived), slot, &packet) else {
                continue;
            };
            let bytes = match (forward.answer, forward.changed) {
                (true, _) => table.answer(),
                (_, true) => table.changed(),
                _ => bytes,
            };
            let sent = match ports.pair_mut(forward.slot) {
                Some(out) => self.sender.send(out, forward.passed, forward.to, bytes),
                None => Err(Errno::EBADF),
            };
            if sent.is_err() {
                table.handle_send_error(slot);
            }
        }
        TURN
    }
}

impl Engine for Epoll {
    fn watch(&mut self, slot: Slot, pair: &Pair) {
        let add = |port: &dyn AsFd, socket: Which| {
            let mark = (slot.0 as u64) << 2 | u64::from(socket.number());
            // Fails only for want of kernel memory: the pair stays deaf, and its stream's counters say so.
            let _ = self.set.add(port.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, mark));
        };
        add(&pair.rtp, Which::Rtp);
        add(&pair.rtcp, Which::Rtcp);
        // From a worker that has lines: it is read, and not sent by.
        if let Some(line) = pair.line() {
            add(line, Which::Line);
        }
    }

    fn unwatch(&mut self, _slot: Slot, pair: &Pair) {
        for port in [&pair.rtp, &pair.rtcp] {
            // It may stay open, with another worker.
            let _ = self.set.delete(port);
        }
        if let Some(line) = pair.line() {
            let _ = self.set.delete(line);
        }
    }

    fn turn(&mut self, table: &mut Table, ports: &mut Ports, wait: Duration) -> nix::Result<Turn> {
        self.nap.rest(wait);
        // Rounded up: a timeout that is not yet due would make the loop spin.
        let timeout = if wait.is_zero() {
            EpollTimeout::ZERO
        } else {
            u16::try_from(wait.as_millis() + 1).map_or(EpollTimeout::MAX, EpollTimeout::from)
        };
        let count = match self.set.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            // The descriptor is ours and open: nothing else can go wrong with it.
            Err(error) => return Err(error),
        };
        let moment = Moment::now();
        let (mut woken, mut packets) = (false, 0);
        for at in 0..count {
            let Some(event) = self.events.get(at).copied() else { break };
            match event.data() {
                WAKE => {
                    self.wake.clear();
                    woken = true;
                }
                mark => {
                    packets += self.serve(moment, mark, table, ports);
                    let failed = event.events().contains(EpollFlags::EPOLLERR);
                    if failed && Which::numbered(mark & 3) == Which::Line {
                        self.cut(mark, table, ports);
                    }
                }
            }
        }
        self.nap.note(moment.now, packets);
        Ok(Turn { woken, busy: false })
    }
}

/// Lets packets come together where the kernel has no way to wait for several.
#[derive(Debug)]
struct Nap {
    last: Instant,
    time: Duration,
}

/// Packets worth waiting for.
const GROUP: u32 = 16;

impl Nap {
    fn new(now: Instant) -> Self {
        Self { last: now, time: Duration::ZERO }
    }

    /// So many packets came since the last turn: how long until some more?
    fn note(&mut self, now: Instant, packets: usize) {
        let packets = u32::try_from(packets).unwrap_or(u32::MAX);
        let gap = now.saturating_duration_since(self.last).checked_div(packets).unwrap_or(Duration::MAX);
        self.last = now;
        // One packet in a while gains nothing by waiting, and a full turn shows that there is no time to.
        self.time = if gap > COALESCE / 2 || packets > 4 * GROUP {
            Duration::ZERO
        } else {
            gap.saturating_mul(GROUP).min(COALESCE)
        };
    }

    fn rest(&mut self, wait: Duration) {
        let time = self.time.min(wait);
        if !time.is_zero() {
            std::thread::sleep(time);
        }
    }
}

/// A packet in the receiver's buffer.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    source: SocketAddr,
    notes: Notes,
    length: usize,
    truncated: bool,
}

/// Buffers to receive with: one set for all ports of a thread.
struct Receiver {
    bytes: Box<[u8]>,
    control: Vec<u8>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            bytes: vec![0; MAX_PACKET].into(),
            control: nix::cmsg_space!(i32, u32, nix::sys::time::TimeSpec),
        }
    }

    /// The next packet of a socket.
    fn receive(&mut self, fd: RawFd) -> Result<Arrival, Errno> {
        let mut parts = [IoSliceMut::new(&mut self.bytes)];
        // `cmsg_space!` gives capacity; the call wants length.
        let room = self.control.capacity();
        self.control.resize(room, 0);
        let message =
            recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), MsgFlags::MSG_DONTWAIT)?;
        let mut notes = Notes::default();
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                    notes.hop_limit = u8::try_from(value).ok();
                }
                ControlMessageOwned::RxqOvfl(total) => notes.lost = Some(total),
                ControlMessageOwned::ScmTimestampns(time) => notes.arrived = Some(time.into()),
                _ => {}
            }
        }
        let source = message.address.as_ref().and_then(address).ok_or(Errno::EAFNOSUPPORT)?;
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        Ok(Arrival { source, notes, length: message.bytes, truncated })
    }

    /// The bytes of the last packet.
    fn bytes(&self, arrival: &Arrival) -> &[u8] {
        self.bytes.get(..arrival.length).unwrap_or_default()
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address))))
}

/// Headers to send with. nix's `sendmsg` allocates for a control message; its `sendmmsg` takes prepared headers.
struct Sender {
    plain: MultiHeaders<SockaddrStorage>,
    /// With room for a hop limit.
    marked: MultiHeaders<SockaddrStorage>,
}

impl Sender {
    fn new() -> Self {
        let marked = MultiHeaders::preallocate(1, Some(nix::cmsg_space!(i32)));
        Self { plain: MultiHeaders::preallocate(1, None), marked }
    }

    /// Sends one packet, by the first socket of its port.
    fn send(&mut self, out: &mut Pair, passed: Passed, to: SocketAddr, bytes: &[u8]) -> Result<(), Errno> {
        let Passed { component, hop_limit, .. } = passed;
        let control = match out.hop(component, hop_limit) {
            Hop::Socket => None,
            Hop::Message => Some(hop_limit),
            // Nothing waits to be sent here: the socket may be told now.
            Hop::Settle => (!out.settle(component, hop_limit)).then_some(hop_limit),
        };
        self.put(out.port(component), to, control, bytes)
    }

    fn put(&mut self, port: &Port, to: SocketAddr, control: Option<u8>, bytes: &[u8]) -> Result<(), Errno> {
        let parts = [[IoSlice::new(bytes)]];
        let name = [Some(SockaddrStorage::from(to))];
        let Some(hop_limit) = control else {
            sendmmsg(port.raw(), &mut self.plain, &parts, name, [], MsgFlags::MSG_DONTWAIT)?;
            return Ok(());
        };
        let value = i32::from(hop_limit);
        let row = [match to {
            SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(&value),
            SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(&value),
        }];
        sendmmsg(port.raw(), &mut self.marked, &parts, name, row, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_an_error_keeps_nobody_busy() {
        use std::net::UdpSocket;
        let mut epoll = Epoll::new(Arc::new(Wake::new().unwrap())).unwrap();
        let ip: std::net::IpAddr = "127.0.0.1".parse().unwrap();
        let config = crate::relay::table::Config::new(ip.into(), ip.into(), [0; 32]);
        let (mut table, mut ports) = (Table::new(clock(), config), Ports::default());
        let gone = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let port = || Port::bind((ip, 0).into(), 0).unwrap();
        // One that comes from a worker which has lines.
        let mut pair = Pair::new(port(), port());
        while pair.way(crate::relay::Component::Rtp, gone) != super::super::line::Way::Dial {}
        pair.dial().unwrap();
        epoll.watch(Slot(0), ports.install(Slot(0), pair).unwrap());
        let line = ports.pair(Slot(0)).unwrap().raw(Which::Line).unwrap();
        nix::sys::socket::send(line, b"1", MsgFlags::empty()).unwrap();
        epoll.turn(&mut table, &mut ports, Duration::ZERO).unwrap();
        let none = ports.pair(Slot(0)).unwrap().raw(Which::Line).is_none();
        let left = epoll.set.wait(&mut epoll.events, EpollTimeout::ZERO).unwrap();
        assert_eq!((none, left), (true, 0));
    }

    #[test]
    fn naps_only_where_packets_come_together() {
        let start = clock();
        let at = |us| start + Duration::from_micros(us);
        let mut nap = Nap::new(start);
        let mut after = |us, packets| {
            nap.note(at(us), packets);
            nap.time
        };
        // 10,000 a second: as long as may be. 100,000 a second: until there are some.
        assert_eq!(after(1_000, 10), COALESCE);
        assert_eq!(after(2_000, 50), Duration::from_micros(320));
        assert_eq!(after(3_000, 0), Duration::ZERO);
        assert_eq!(after(4_000, 1), Duration::ZERO, "a single call waits for nothing");
        assert_eq!(after(5_000, 256), Duration::ZERO, "busy");
    }
}
