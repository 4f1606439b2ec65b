//! The task that owns a machine, and the handle that reaches it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;

use super::crossing::{self, Crossing, Crossings};
use super::datagram::{Datagrams, Outlet};
use super::dials::{Admission, Dials};
use super::links::Links;
use super::stream::Arrival;
use super::{Connect, Limits, Resolve, Stream};
use crate::flow::{Dial, FlowId, ListenerId, Peer};
use crate::machine::{Fault, Input, Machine, Output};
use crate::resolve::records::{Answer, Question};
use crate::shard::Shard;

/// Deadlines of the machine are looked at no more often than this: each transaction ends by one, and at hundreds a second
/// each would wake the thread by itself. Small beside the timers of RFC 3261 Table 4.
const TICK: Duration = Duration::from_millis(20);

/// Orders that may wait for the driver.
const ORDERS: usize = 1024;

/// What handles ask for.
enum Order<C> {
    Stream(Box<dyn Stream>, Arc<Peer>),
    Socket(UdpSocket, Datagrams, oneshot::Sender<Outlet>),
    Outlet(Outlet),
    /// The other end hears of the sender's drop when the socket is closed.
    RemoveSocket(ListenerId, oneshot::Sender<()>),
    Command(C),
    Limits(Limits),
    Drain,
    CloseAll,
}

/// The driver takes no more: it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the driver has ended")]
pub struct Gone;

/// Why a connection was not taken. It has been closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The driver has ended.
    #[error("the driver has ended")]
    Gone,
    /// More connections are being made than the driver can take.
    #[error("too many new connections at once")]
    Busy,
}

/// Reaches a running [`Driver`] from any task or runtime. When the last clone is dropped, the driver closes everything.
#[derive(Debug)]
pub struct Handle<C> {
    orders: mpsc::Sender<Order<C>>,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone() }
    }
}

impl<C> Handle<C> {
    /// Gives a connection that a peer made, under TLS already where it shall be. The driver's runtime runs it; beyond
    /// [`Limits::streams`] it is closed at once. `peer.listener` must be set: [`Limits::first_message`] goes by it.
    ///
    /// # Errors
    /// [`Refused`]; the connection is closed then.
    pub fn stream(&self, io: impl Stream + 'static, peer: Peer) -> Result<(), Refused> {
        self.orders.try_send(Order::Stream(Box::new(io), Arc::new(peer))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Gone,
        })
    }

    /// Gives a bound datagram socket. It replaces an earlier one of the same listener. Other shards may send by it too:
    /// see [`Handle::outlet`].
    ///
    /// # Errors
    /// [`Gone`], also when the operating system does not let the driver have the socket.
    pub async fn socket(&self, socket: UdpSocket, rules: Datagrams) -> Result<Outlet, Gone> {
        let (opened, outlet) = oneshot::channel();
        self.order(Order::Socket(socket, rules, opened)).await?;
        outlet.await.map_err(|_| Gone)
    }

    /// Lets this driver send by the socket of another one. What is received there comes over as [`Input::Handed`].
    /// [`Handle::remove_socket`] takes it away again, which must come before the socket itself is removed.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn outlet(&self, outlet: Outlet) -> Result<(), Gone> {
        self.order(Order::Outlet(outlet)).await
    }

    /// Closes the datagram socket of a listener, once what is queued has left. Its address is free when this returns.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn remove_socket(&self, listener: ListenerId) -> Result<(), Gone> {
        let (closing, closed) = oneshot::channel();
        self.order(Order::RemoveSocket(listener, closing)).await?;
        // Nothing is ever sent: the end of the sender is the message.
        let _ = closed.await;
        Ok(())
    }

    /// Gives the machine a command.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn command(&self, command: C) -> Result<(), Gone> {
        self.order(Order::Command(command)).await
    }

    /// Changes the limits. Connections and sockets that are open keep those that they were opened with; the inbox keeps its
    /// length.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn reconfigure(&self, limits: Limits) -> Result<(), Gone> {
        self.order(Order::Limits(limits)).await
    }

    /// Tells the machine to finish what runs and take nothing new ([`Input::Drain`]).
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn drain(&self) -> Result<(), Gone> {
        self.order(Order::Drain).await
    }

    /// Ends the driver: what is queued is written, within [`Limits::write_stall`], and everything is closed. The end of
    /// [`Driver::run`] tells when that is done.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn close_all(&self) -> Result<(), Gone> {
        self.order(Order::CloseAll).await
    }

    /// A handle that does not keep the driver running.
    pub fn downgrade(&self) -> WeakHandle<C> {
        WeakHandle { orders: self.orders.downgrade() }
    }

    async fn order(&self, order: Order<C>) -> Result<(), Gone> {
        self.orders.send(order).await.map_err(|_| Gone)
    }
}

/// A handle that does not keep its driver running: for whoever lives on the driver's own runtime.
#[derive(Debug)]
pub struct WeakHandle<C> {
    orders: mpsc::WeakSender<Order<C>>,
}

impl<C> WeakHandle<C> {
    /// The handle, while there is another one.
    pub fn upgrade(&self) -> Option<Handle<C>> {
        Some(Handle { orders: self.orders.upgrade()? })
    }
}

/// Drives one machine. See the module's text.
pub struct Driver<C> {
    orders: mpsc::Receiver<Order<C>>,
    limits: Limits,
    shard: Shard,
    crossings: Crossings,
    crossed: Option<mpsc::Receiver<Crossing>>,
}

impl<C: Send> Driver<C> {
    /// A driver and the handle to it. Needs no runtime yet.
    pub fn new(limits: Limits) -> (Self, Handle<C>) {
        Self::with(limits, Shard::ALONE, Crossings::alone(), None)
    }

    /// Drivers for the machines of so many [shards](crate::shard), joined: what a machine hands another gets there, and
    /// connections are known to all. Each belongs on a runtime of its own. `limits` are those of one.
    pub fn shards(limits: &Limits, count: usize) -> Vec<(Self, Handle<C>)> {
        if count <= 1 {
            return vec![Self::new(limits.clone())];
        }
        let ends = Crossings::join(count).into_iter();
        ends.map(|(shard, end, inbox)| Self::with(limits.clone(), shard, end, Some(inbox))).collect()
    }

    fn with(
        limits: Limits,
        shard: Shard,
        crossings: Crossings,
        crossed: Option<mpsc::Receiver<Crossing>>,
    ) -> (Self, Handle<C>) {
        let (sender, orders) = mpsc::channel(ORDERS);
        (Self { orders, limits, shard, crossings, crossed }, Handle { orders: sender })
    }

    /// Which shard it drives.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Runs until [`Handle::close_all`], or until no handle is left, and gives the machine back.
    ///
    /// Everything it spawns runs on the current runtime, one thread or many. `events` is called between two inputs of the
    /// machine: it must not block.
    pub async fn run<M, N, R, E>(self, machine: M, connect: Arc<N>, resolve: Arc<R>, events: E) -> M
    where
        M: Machine<Command = C>,
        N: Connect,
        R: Resolve,
        E: FnMut(M::Event),
    {
        let (inbox, arrivals) = mpsc::channel(self.limits.inbox.max(1));
        let limits = Arc::new(self.limits);
        let mut running = Running {
            machine,
            connect,
            resolve,
            events,
            links: Links::new(inbox, limits.clone(), self.crossings),
            dials: Dials::default(),
            lookups: JoinSet::new(),
            asked: HashMap::new(),
            inbox: limits.inbox.max(1),
            overloaded: false,
            limits,
        };
        running.run(self.orders, arrivals, self.crossed).await;
        running.machine
    }
}

/// What came of a dial.
pub(super) type Connected = io::Result<(Box<dyn Stream>, Peer)>;

/// What came of a look-up.
type Found = io::Result<Answer>;

struct Running<M, N, R, E> {
    machine: M,
    connect: Arc<N>,
    resolve: Arc<R>,
    events: E,
    links: Links,
    dials: Dials,
    lookups: JoinSet<Found>,
    asked: HashMap<Id, u64>,
    limits: Arc<Limits>,
    /// Messages that may wait; fixed at the start.
    inbox: usize,
    overloaded: bool,
}

impl<M: Machine, N: Connect, R: Resolve, E: FnMut(M::Event)> Running<M, N, R, E> {
    async fn run(
        &mut self,
        mut orders: mpsc::Receiver<Order<M::Command>>,
        mut arrivals: mpsc::Receiver<Arrival>,
        mut crossed: Option<mpsc::Receiver<Crossing>>,
    ) {
        let sleep = tokio::time::sleep_until(tokio::time::Instant::now());
        tokio::pin!(sleep);
        let mut rested = now();
        loop {
            let deadline = self.obey().map(|at| at.max(rested));
            if let Some(at) = deadline
                && sleep.deadline().into_std() != at
            {
                sleep.as_mut().reset(at.into());
            }
            tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::CloseAll) => break,
                    Some(order) => self.order(order),
                },
                Some(arrival) = arrivals.recv() => {
                    self.weigh(arrivals.len());
                    self.arrive(arrival);
                }
                crossing = crossing::next(&mut crossed), if crossed.is_some() => self.crossed(crossing),
                Some(done) = self.dials.join_next() => self.dialled(done),
                Some(done) = self.lookups.join_next_with_id() => self.resolved(done),
                panicked = self.links.task_ended() => if let Some(flow) = panicked {
                    self.close(flow);
                },
                // The clock is asked in `obey`, not the sleep.
                () = &mut sleep, if deadline.is_some() => rested = now() + TICK,
            }
        }
        // Connections that wait for room in the inbox see it closed and end.
        drop(arrivals);
        // A little more than the writers' own patience.
        let patience = self.limits.write_stall.saturating_mul(2);
        if timeout(patience, self.links.close_all()).await.is_err() {
            tracing::debug!("connections did not end in time");
        }
    }

    /// Does what the machine wants until it wants nothing, and says when it wants to be woken.
    fn obey(&mut self) -> Option<Instant> {
        loop {
            match self.machine.poll_output(now()) {
                Output::Transmit(transmit) => self.links.transmit(transmit),
                Output::Close(flow) => {
                    if self.links.close(flow) {
                        self.links.mishaps.push_back(Input::FlowClosed { flow });
                    }
                }
                Output::Hand(handed) => self.links.hand(handed),
                Output::HandClosed { shard, flow } => self.links.hand_closed(shard, flow),
                Output::Resolve { query, question } => self.look_up(query, question),
                Output::Event(event) => (self.events)(event),
                Output::Timeout(at) => {
                    self.start_dials();
                    match self.links.mishaps.pop_front() {
                        Some(mishap) => self.machine.handle_input(now(), mishap),
                        None => return at,
                    }
                }
            }
        }
    }

    fn order(&mut self, order: Order<M::Command>) {
        match order {
            Order::Stream(io, peer) => {
                if self.links.has_room() {
                    let flow = self.links.open(io, peer.clone(), None);
                    self.machine.handle_input(now(), Input::FlowOpened { flow, peer, dial: None });
                } else {
                    tracing::debug!(peer = %peer.remote, "too many connections");
                }
            }
            Order::Socket(socket, rules, opened) => {
                if let Some(outlet) = self.links.add_socket(socket, rules) {
                    // Who asked may have gone.
                    let _ = opened.send(outlet);
                }
            }
            Order::Outlet(outlet) => self.links.add_outlet(outlet),
            Order::RemoveSocket(listener, closing) => self.links.remove_socket(listener, closing),
            Order::Command(command) => self.machine.handle_command(now(), command),
            Order::Limits(limits) => {
                self.limits = Arc::new(limits);
                self.links.reconfigure(self.limits.clone());
            }
            Order::Drain => self.machine.handle_input(now(), Input::Drain),
            // Ends the loop before it comes here.
            Order::CloseAll => {}
        }
    }

    /// Overload begins when the inbox is three quarters full and ends at one quarter: what waits there is late already.
    fn weigh(&mut self, waiting: usize) {
        let mark = if self.overloaded { self.inbox / 4 } else { self.inbox / 4 * 3 };
        let overloaded = waiting > mark;
        if overloaded != self.overloaded {
            self.overloaded = overloaded;
            tracing::warn!(waiting, overloaded, "messages wait for the machine");
            self.machine.handle_input(now(), Input::Overload(overloaded));
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let input = match arrival {
            // From a connection that was closed meanwhile; the machine has been told that nothing more comes.
            Arrival::Message { source, .. }
            | Arrival::Unframeable { source, .. }
            | Arrival::Ping { source }
                if source.flow().is_some_and(|flow| !self.links.knows(flow)) =>
            {
                return;
            }
            Arrival::Message { source, peer, message } => Input::Message { source, peer, message },
            Arrival::Ping { source } => Input::Ping { source },
            Arrival::Unframeable { source, peer, status } => Input::Unframeable { source, peer, status },
            Arrival::Closed { flow, why } => {
                tracing::debug!(%flow, ?why, "connection ended");
                return self.close(flow);
            }
        };
        self.machine.handle_input(now(), input);
    }

    fn crossed(&mut self, crossing: Crossing) {
        match crossing {
            Crossing::Handed(handed) => self.machine.handle_input(now(), Input::Handed(handed)),
            Crossing::Closed(flow) => self.machine.handle_input(now(), Input::FlowClosed { flow }),
            Crossing::Transmit(transmit) => self.links.transmit(transmit),
        }
    }

    fn close(&mut self, flow: FlowId) {
        if self.links.close(flow) {
            self.machine.handle_input(now(), Input::FlowClosed { flow });
        }
    }

    fn start_dials(&mut self) {
        for dial in std::mem::take(&mut self.links.wanted) {
            match self.dials.admit(now(), dial, &self.limits) {
                Admission::Now => self.start_dial(dial),
                Admission::Waits => {}
                Admission::Full => self.links.dial_failed(dial, Fault::Own),
            }
        }
    }

    fn start_dial(&mut self, dial: Dial) {
        let (connect, patience) = (self.connect.clone(), self.limits.dial);
        self.dials.start(dial, async move { timeout(patience, connect.connect(&dial)).await? });
    }

    /// Starts those that waited for one to this address to end.
    fn next_dials(&mut self, remote: SocketAddr) {
        while let Some((dial, late)) = self.dials.next(now(), remote, &self.limits) {
            if !self.links.is_dialling(&dial) {
                continue;
            }
            if late {
                self.links.dial_failed(dial, Fault::Own);
            } else {
                self.start_dial(dial);
            }
        }
    }

    fn dialled(&mut self, done: Result<(Id, Connected), JoinError>) {
        let (id, result) = split(done);
        let Some(dial) = self.dials.ended(id) else { return };
        match result {
            Ok((io, peer)) if self.links.is_dialling(&dial) => {
                let peer = Arc::new(peer);
                let flow = self.links.open(io, peer.clone(), Some(dial));
                self.machine.handle_input(now(), Input::FlowOpened { flow, peer, dial: Some(dial) });
            }
            // Nobody waits any more.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(remote = %dial.remote, %error, "dial failed");
                self.links.dial_failed(dial, Fault::Peer);
            }
        }
        self.next_dials(dial.remote);
    }

    fn look_up(&mut self, query: u64, question: Question) {
        if self.lookups.len() >= self.limits.lookups {
            self.links.mishaps.push_back(Input::Resolved { query, answer: Answer::FAILED });
            return;
        }
        let (resolve, patience) = (self.resolve.clone(), self.limits.resolve);
        let task = self.lookups.spawn(async move { timeout(patience, resolve.resolve(&question)).await? });
        self.asked.insert(task.id(), query);
    }

    fn resolved(&mut self, done: Result<(Id, Found), JoinError>) {
        let (id, result) = split(done);
        let Some(query) = self.asked.remove(&id) else { return };
        let answer = result.unwrap_or_else(|error| {
            tracing::debug!(%error, "look-up failed");
            Answer::FAILED
        });
        self.machine.handle_input(now(), Input::Resolved { query, answer });
    }
}

/// Which task it was, and what came of it; a panic counts as an error.
fn split<T>(done: Result<(Id, io::Result<T>), JoinError>) -> (Id, io::Result<T>) {
    match done {
        Ok(done) => done,
        Err(error) => (error.id(), Err(io::Error::other(error))),
    }
}

/// The runtime's clock, which tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
