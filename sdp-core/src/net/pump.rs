//! The thread: waits for packets and commands, and asks the table what to do with them.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::socket::{Port, Receiver, Sender};
use crate::relay::stream::Packet;
use crate::relay::table::{Action, Config, Slot, Table};
use crate::relay::{Command, Component, Report};

/// Packets read from one port before the others have their turn: a flood on one port is that port's trouble.
const TURN: usize = 32;
/// Ports served in one turn of the loop.
const EVENTS: usize = 256;
/// Pairs bound in one turn: binding is slow beside a packet.
const BINDS: usize = 16;
/// The event descriptor's mark; ports have their slot's number.
const WAKE: u64 = u64::MAX;

pub(super) struct Pump<F> {
    table: Table,
    ports: Vec<Option<[Port; 2]>>,
    epoll: Epoll,
    inbox: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
    reports: F,
}

impl<F: FnMut(Report)> Pump<F> {
    pub(super) fn new(
        config: Config,
        inbox: mpsc::Receiver<Command>,
        wake: Arc<EventFd>,
        reports: F,
    ) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self { table: Table::new(clock(), config), ports: Vec::new(), epoll, inbox, wake, reports })
    }

    pub(super) fn run(mut self) {
        let mut receiver = Receiver::new();
        let mut sender = Sender::new();
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut busy = self.act();
        loop {
            let timeout = if busy { EpollTimeout::ZERO } else { self.timeout() };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // The descriptor is ours and open: nothing else can go wrong with it.
                Err(_) => return,
            };
            let now = clock();
            for event in events.iter().take(count) {
                match event.data() {
                    WAKE => {
                        let _ = self.wake.read();
                    }
                    mark => self.serve(now, mark, &mut receiver, &mut sender),
                }
            }
            // After the packets: what closes a port can't meet an event of that port in this turn.
            loop {
                match self.inbox.try_recv() {
                    Ok(command) => self.table.handle_command(now, command),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.table.handle_timeout(clock());
            busy = self.act();
        }
    }

    /// Reads a port's packets and sends each where it belongs.
    fn serve(&mut self, now: Instant, mark: u64, receiver: &mut Receiver, sender: &mut Sender) {
        let slot = Slot(usize::try_from(mark >> 1).unwrap_or(usize::MAX));
        let component = if mark & 1 == 0 { Component::Rtp } else { Component::Rtcp };
        for _ in 0..TURN {
            let Some(port) = port(&self.ports, slot, component) else { return };
            let arrival = match receiver.receive(port) {
                Ok(arrival) => arrival,
                Err(Errno::EAGAIN) => return,
                // An ICMP error of an earlier packet: the next read brings the next packet.
                Err(_) => continue,
            };
            let bytes = receiver.bytes(&arrival);
            let packet = Packet { component, source: arrival.source, hop_limit: arrival.hop_limit, bytes };
            let Some(forward) = self.table.handle_packet(now, slot, &packet) else { continue };
            let bytes = if forward.answer { self.table.answer() } else { bytes };
            let sent = match self::port(&self.ports, forward.slot, forward.passed.component) {
                Some(out) => sender.send(out, forward.to, forward.passed.hop_limit, bytes),
                None => Err(Errno::EBADF),
            };
            if sent.is_err() {
                self.table.handle_send_error(slot);
            }
        }
    }

    /// Does what the table asks for; `true`: there is more, but packets have their turn first.
    fn act(&mut self) -> bool {
        let mut binds = 0;
        while let Some(action) = self.table.poll_action(clock()) {
            match action {
                Action::Bind { rtp, rtcp } => {
                    binds += 1;
                    let bound = Port::bind(rtp).and_then(|rtp| Ok([rtp, Port::bind(rtcp)?]));
                    match bound {
                        Ok(pair) => self.install(pair),
                        Err(failure) => self.table.handle_bind_failed(clock(), failure),
                    }
                    if binds == BINDS {
                        return true;
                    }
                }
                // Dropped, closed, and so gone from epoll.
                Action::Close(slot) => drop(self.ports.get_mut(slot.0).and_then(Option::take)),
                Action::Report(report) => (self.reports)(report),
            }
        }
        false
    }

    fn install(&mut self, pair: [Port; 2]) {
        let Some(slot) = self.table.handle_bound() else { return };
        if self.ports.len() <= slot.0 {
            self.ports.resize_with(slot.0 + 1, || None);
        }
        for (part, socket) in pair.iter().enumerate() {
            let mark = (slot.0 as u64) << 1 | part as u64;
            // Fails only for want of kernel memory: the pair stays deaf, and its stream's counters say so.
            let _ = self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, mark));
        }
        if let Some(place) = self.ports.get_mut(slot.0) {
            *place = Some(pair);
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let left = self.table.poll_timeout().saturating_duration_since(clock());
        // Rounded up: a timeout that is not yet due would make the loop spin.
        u16::try_from(left.as_millis() + 1).map_or(EpollTimeout::MAX, EpollTimeout::from)
    }
}

fn port(ports: &[Option<[Port; 2]>], slot: Slot, component: Component) -> Option<&Port> {
    let [rtp, rtcp] = ports.get(slot.0)?.as_ref()?;
    Some(match component {
        Component::Rtp => rtp,
        Component::Rtcp => rtcp,
    })
}

/// The only look at the clock in this crate.
#[allow(clippy::disallowed_methods)] // The driver is where time comes from.
fn clock() -> Instant {
    Instant::now()
}
