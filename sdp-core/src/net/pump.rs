//! The thread: packets by one of two engines, commands and deadlines between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::crew::{Desk, Order, Parcel};
use super::socket::{Pair, Port, Ports};
use crate::relay::Report;
use crate::relay::table::{Action, Move, Slot, Table, Ticket};

/// Pairs bound in one turn: binding is slow beside a packet.
const BINDS: usize = 16;
/// How long a packet may wait for others to come, so that the thread wakes once for several.
pub(super) const COALESCE: Duration = Duration::from_millis(1);

/// What carries packets.
pub(super) trait Engine {
    /// New ports.
    fn watch(&mut self, slot: Slot, pair: &Pair);
    /// These ports are about to be closed, or to be another worker's.
    fn unwatch(&mut self, slot: Slot, pair: &Pair);
    /// Waits, at most so long, and relays what has come.
    fn turn(&mut self, table: &mut Table, ports: &mut Ports, wait: Duration) -> nix::Result<Turn>;
}

/// What a turn has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// There may be commands.
    pub(super) woken: bool,
    /// There is more to do: the next turn must not wait.
    pub(super) busy: bool,
}

/// The bell of a thread. Ringing it again before it was heard costs no call of the kernel.
#[derive(Debug)]
pub(super) struct Wake {
    event: EventFd,
    rung: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { event, rung: AtomicBool::new(false) })
    }

    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Wakes the thread. What it is to find must be there before.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // A full counter means that the thread is being woken already.
            let _ = self.event.write(1);
        }
    }

    /// It was heard. What comes from now on rings again, so look after this, not before.
    pub(super) fn clear(&self) {
        let _ = self.event.read();
        self.rung.store(false, Ordering::SeqCst);
    }
}

pub(super) struct Pump<F, E> {
    // First: what it has queued names the ports, and must not be sent by who has their numbers next.
    engine: E,
    table: Table,
    ports: Ports,
    desk: Desk,
    /// Nothing more is executed before this has come.
    awaited: Option<Ticket>,
    /// What came before it was waited for.
    arrived: Vec<(Ticket, Option<Parcel>)>,
    reports: F,
}

impl<F: FnMut(Report), E: Engine> Pump<F, E> {
    pub(super) fn new(table: Table, engine: E, desk: Desk, reports: F) -> Self {
        Self { engine, table, ports: Ports::default(), desk, awaited: None, arrived: Vec::new(), reports }
    }

    pub(super) fn run(mut self) {
        let mut busy = self.act();
        loop {
            let wait = if busy {
                Duration::ZERO
            } else {
                self.table.poll_timeout().saturating_duration_since(clock())
            };
            let Ok(turn) = self.engine.turn(&mut self.table, &mut self.ports, wait) else { return };
            // After the packets: what closes a port can't meet an event of that port in this turn.
            if turn.woken && !self.take() {
                return;
            }
            self.table.handle_timeout(clock());
            busy = self.act() || turn.busy;
        }
    }

    /// Executes what was commanded; `false`: there will be no more.
    fn take(&mut self) -> bool {
        let now = clock();
        while !self.desk.crew.is_over() {
            if let Some(ticket) = self.awaited {
                let Some(parcel) = self.parcel(ticket) else { return true };
                self.awaited = None;
                parcel.into_iter().for_each(|parcel| self.unpack(parcel));
            }
            match self.desk.orders.try_recv() {
                Ok(Order::Command(command)) => self.table.handle_command(now, command),
                Ok(Order::Give(order)) => self.table.give(order),
                Ok(Order::Await(ticket)) => self.awaited = Some(ticket),
                Ok(Order::Closed(pair)) => self.table.handle_closed(now, pair),
                Ok(Order::Returned(pair, rtp, rtcp)) => {
                    let slot = self.table.handle_returned(pair);
                    self.watch(slot, Pair::new(rtp, rtcp));
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        false
    }

    /// What has come under this number. `Some(None)`: word that nothing will.
    fn parcel(&mut self, ticket: Ticket) -> Option<Option<Parcel>> {
        self.arrived.extend(self.desk.parcels.try_iter());
        let at = self.arrived.iter().position(|(number, _)| *number == ticket)?;
        Some(self.arrived.swap_remove(at).1)
    }

    /// A stream has come from another worker, with its ports.
    fn unpack(&mut self, parcel: Parcel) {
        let slots = self.table.handle_arrival(parcel.moving);
        for (slot, pair) in slots.into_iter().zip(parcel.ports) {
            self.watch(slot, pair);
        }
    }

    /// A stream goes to another worker. What its queues hold goes with it.
    fn give(&mut self, order: Move, slots: Option<[Slot; 2]>) {
        let parcel = slots.and_then(|slots| {
            let moving = self.table.departed()?;
            let [outside, inside] = slots.map(|slot| self.unwatch(slot));
            Some(Parcel { moving, ports: [outside?, inside?] })
        });
        self.desk.crew.deliver(order.to, order.ticket, parcel);
    }

    /// Does what the table asks for; `true`: there is more, but packets have their turn first.
    fn act(&mut self) -> bool {
        let mut binds = 0;
        while let Some(action) = self.table.poll_action(clock()) {
            match action {
                Action::Bind { rtp, rtcp } => {
                    binds += 1;
                    let dscp = self.table.dscp();
                    match Port::bind(rtp, dscp).and_then(|rtp| Ok((rtp, Port::bind(rtcp, dscp)?))) {
                        Ok((rtp, rtcp)) => self.install(Pair::new(rtp, rtcp)),
                        Err(failure) => self.table.handle_bind_failed(clock(), failure),
                    }
                    if binds == BINDS {
                        return true;
                    }
                }
                Action::Close(slot) => drop(self.unwatch(slot)),
                // To the first worker: it alone binds.
                Action::Rest(pair) => drop(self.desk.crew.order(0, Order::Closed(pair))),
                Action::Return { slot, pair } => {
                    if let Some(Pair { rtp, rtcp, .. }) = self.unwatch(slot) {
                        self.desk.crew.order(0, Order::Returned(pair, rtp, rtcp));
                    }
                }
                Action::Give { order, slots } => self.give(order, slots),
                Action::Report(report) => (self.reports)(report),
            }
        }
        false
    }

    fn install(&mut self, pair: Pair) {
        if let Some(slot) = self.table.handle_bound() {
            self.watch(slot, pair);
        }
    }

    fn unwatch(&mut self, slot: Slot) -> Option<Pair> {
        let pair = self.ports.remove(slot)?;
        self.engine.unwatch(slot, &pair);
        Some(pair)
    }

    fn watch(&mut self, slot: Slot, pair: Pair) {
        if let Some(pair) = self.ports.install(slot, pair) {
            self.engine.watch(slot, pair);
        }
    }
}

/// The only look at the clock in this crate.
#[allow(clippy::disallowed_methods)] // The driver is where time comes from.
pub(super) fn clock() -> Instant {
    Instant::now()
}

/// A wake-up, by two clocks: what the kernel stamps packets with is not what durations are measured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Since 1970.
    wall: Duration,
}

/// A packet that waited for longer was stamped by a clock that was set since.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Moment {
    #[allow(clippy::disallowed_methods)] // The driver is where time comes from.
    pub(super) fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { now: clock(), wall }
    }

    /// When a packet with this stamp came. Several wait for one wake-up: that is no jitter of the network's.
    pub(super) fn of(&self, stamp: Option<Duration>) -> Instant {
        let waited = stamp.and_then(|stamp| self.wall.checked_sub(stamp)).filter(|time| *time < LONGEST_WAIT);
        waited.and_then(|time| self.now.checked_sub(time)).unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_packet_came_when_it_was_stamped() {
        let moment = Moment { now: clock(), wall: Duration::from_secs(100) };
        let at = |millis| moment.of(Some(Duration::from_millis(millis)));
        assert_eq!(at(99_997), moment.now - Duration::from_millis(3));
        for odd in [None, Some(Duration::from_millis(100_001)), Some(Duration::from_millis(99_000))] {
            assert_eq!(moment.of(odd), moment.now, "{odd:?}");
        }
    }

    #[test]
    fn a_bell_is_rung_once_until_it_is_heard() {
        let wake = Wake::new().unwrap();
        for _ in 0..2 {
            wake.ring();
            wake.ring();
            assert_eq!(wake.event().read(), Ok(1));
            assert_eq!(wake.event().read(), Err(Errno::EAGAIN));
            wake.clear();
        }
    }
}
