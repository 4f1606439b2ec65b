//! All open connections and sockets, and who gets which octets.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::Stream;
use super::crossing::Crossings;
use super::datagram::{self, Datagrams, Outlet, Socket};
use super::limits::Limits;
use super::queue::Queue;
use super::stream::{Arrival, Connection};
use crate::flow::{Dial, FlowId, ListenerId, Peer, Target, Transmit, Transport};
use crate::machine::{Fault, Input};
use crate::numbered::Numbered;
use crate::shard::Handed;

/// Names of connections are unique in the process, whatever number of drivers it has.
static LAST_FLOW: AtomicU64 = AtomicU64::new(0);

/// Datagrams that may wait for one socket; those beyond are lost.
const DATAGRAMS: usize = 1024;

pub(super) struct Links {
    flows: Numbered<FlowId, Flow>,
    lines: Numbered<Dial, Line>,
    sockets: Numbered<ListenerId, Port>,
    /// What came of it to send, to be told to the machine.
    pub(super) mishaps: VecDeque<Input>,
    /// Dials to be started.
    pub(super) wanted: Vec<Dial>,
    tasks: JoinSet<()>,
    running: HashMap<Id, FlowId>,
    /// Who waits for a socket to close: told by the drop.
    closing: HashMap<Id, oneshot::Sender<()>>,
    accepted: usize,
    inbox: mpsc::Sender<Arrival>,
    limits: Arc<Limits>,
    crossings: Crossings,
}

struct Flow {
    queue: Queue,
    /// Boxed: most connections are those of phones, which have none.
    dial: Option<Box<Dial>>,
    peer: Arc<Peer>,
}

/// The connection of a [`Dial`].
enum Line {
    /// Asked for; these wait.
    Dialling {
        waiting: Vec<Bytes>,
        octets: usize,
    },
    Open(FlowId),
}

struct Port {
    outlet: Outlet,
    /// Of the socket; `None` if it is another driver's.
    task: Option<AbortHandle>,
}

impl Links {
    pub(super) fn new(inbox: mpsc::Sender<Arrival>, limits: Arc<Limits>, crossings: Crossings) -> Self {
        Self {
            flows: Numbered::default(),
            lines: Numbered::default(),
            sockets: Numbered::default(),
            mishaps: VecDeque::new(),
            wanted: Vec::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            closing: HashMap::new(),
            accepted: 0,
            inbox,
            limits,
            crossings,
        }
    }

    pub(super) fn reconfigure(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
    }

    /// Whether one more connection of a peer fits.
    pub(super) fn has_room(&self) -> bool {
        self.accepted < self.limits.streams
    }

    /// Starts a connection's task. If it was dialled, what waited for it goes first.
    pub(super) fn open(&mut self, io: Box<dyn Stream>, peer: Arc<Peer>, dial: Option<Dial>) -> FlowId {
        let flow = FlowId::on(self.crossings.shard(), LAST_FLOW.fetch_add(1, Ordering::Relaxed) + 1);
        let (queue, end) = Queue::new(self.limits.queue);
        let connection = Connection {
            flow,
            peer: peer.clone(),
            io,
            queue: end,
            answers: queue.downgrade(),
            inbox: self.inbox.clone(),
            limits: self.limits.clone(),
        };
        let task = self.tasks.spawn(connection.run());
        self.running.insert(task.id(), flow);
        match dial {
            None => self.accepted += 1,
            Some(dial) => {
                if let Some(Line::Dialling { waiting, .. }) = self.lines.insert(dial, Line::Open(flow)) {
                    for bytes in waiting {
                        // It waited within the same bound, so there is room.
                        queue.push(bytes);
                    }
                }
            }
        }
        self.flows.insert(flow, Flow { queue, dial: dial.map(Box::new), peer });
        flow
    }

    /// Forgets a connection; its task writes what is queued and ends. `false` if it was forgotten before.
    pub(super) fn close(&mut self, flow: FlowId) -> bool {
        let Some(closed) = self.flows.remove(&flow) else { return false };
        match closed.dial {
            None => self.accepted -= 1,
            Some(dial) => {
                if matches!(self.lines.get(&*dial), Some(Line::Open(open)) if *open == flow) {
                    self.lines.remove(&dial);
                }
            }
        }
        true
    }

    /// Forgets a dial that failed. Everything that waited for it is lost.
    pub(super) fn dial_failed(&mut self, dial: Dial, fault: Fault) {
        if matches!(self.lines.get(&dial), Some(Line::Dialling { .. })) {
            self.lines.remove(&dial);
            self.mishaps.push_back(Input::DialFailed { dial, fault });
        }
    }

    /// Whether somebody still waits for this dial.
    pub(super) fn is_dialling(&self, dial: &Dial) -> bool {
        matches!(self.lines.get(dial), Some(Line::Dialling { .. }))
    }

    pub(super) fn knows(&self, flow: FlowId) -> bool {
        self.flows.contains_key(&flow)
    }

    pub(super) fn transmit(&mut self, transmit: Transmit) {
        let Transmit { target, bytes } = transmit;
        match target {
            Target::Flow(flow) => self.send(flow, bytes),
            Target::Datagram { listener, remote } => {
                if let Some(port) = self.sockets.get(&listener) {
                    port.outlet.send(remote, bytes);
                }
            }
            Target::Dial(dial) if dial.transport == Transport::Udp => self.send_datagram(dial, bytes),
            Target::Dial(dial) => self.send_dialled(dial, bytes),
        }
    }

    fn send(&mut self, flow: FlowId, bytes: Bytes) {
        let Some(open) = self.flows.get(&flow) else { return self.send_across(flow, bytes) };
        if !open.queue.push(bytes) {
            // The peer is so slow that messages would be lost: better no connection than that.
            tracing::debug!(%flow, peer = %open.peer.remote, "write queue full, closing");
            self.close(flow);
            self.mishaps.push_back(Input::FlowClosed { flow });
        }
    }

    /// A connection of another shard, or one that is gone.
    fn send_across(&mut self, flow: FlowId, bytes: Bytes) {
        if flow.shard() == self.crossings.shard() {
            return;
        }
        let transmit = Transmit { target: Target::Flow(flow), bytes };
        if !self.crossings.transmit(flow, transmit) {
            tracing::debug!(%flow, "the other shard takes no more");
            self.mishaps.push_back(Input::Unsent { flow });
        }
    }

    pub(super) fn hand(&mut self, handed: Box<Handed>) {
        if let Err(handed) = self.crossings.hand(handed) {
            self.mishaps.push_back(Input::Unhanded(handed));
        }
    }

    pub(super) fn hand_closed(&self, shard: u8, flow: FlowId) {
        self.crossings.closed(shard, flow);
    }

    fn send_datagram(&mut self, dial: Dial, bytes: Bytes) {
        let fits = |port: &&Port| {
            port.outlet.side == dial.side && port.outlet.local.is_ipv4() == dial.remote.is_ipv4()
        };
        // Of several sockets always the same one, so that a peer sees one source.
        let port = self.sockets.iter().filter(|(_, port)| fits(port)).min_by_key(|(listener, _)| **listener);
        match port {
            Some((_, port)) => port.outlet.send(dial.remote, bytes),
            None => self.mishaps.push_back(Input::DialFailed { dial, fault: Fault::Own }),
        }
    }

    fn send_dialled(&mut self, dial: Dial, bytes: Bytes) {
        let full = self.lines.len() >= self.limits.dialled;
        match self.lines.get_mut(&dial) {
            Some(Line::Open(flow)) => {
                let flow = *flow;
                self.send(flow, bytes);
            }
            Some(Line::Dialling { waiting, octets }) => {
                *octets += Queue::cost(&bytes);
                waiting.push(bytes);
                if *octets > self.limits.queue {
                    self.dial_failed(dial, Fault::Own);
                }
            }
            None if full => self.mishaps.push_back(Input::DialFailed { dial, fault: Fault::Own }),
            None => {
                let octets = Queue::cost(&bytes);
                self.lines.insert(dial, Line::Dialling { waiting: vec![bytes], octets });
                self.wanted.push(dial);
            }
        }
    }

    /// Starts a socket's task, in place of an earlier one of that port row.
    pub(super) fn add_socket(&mut self, socket: UdpSocket, rules: Datagrams) -> Option<Outlet> {
        // Whoever bound it may have done so on another runtime: were that to watch it, each datagram would wake two threads.
        let socket = match socket.into_std().and_then(datagram::watch) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "a datagram socket is lost");
                return None;
            }
        };
        let local = socket.get_ref().local_addr().ok()?;
        let (queue, end) = mpsc::channel(DATAGRAMS);
        let (listener, side) = (rules.listener, rules.side);
        let inbox = self.inbox.clone();
        let outlet = Outlet { listener, socket: socket.clone(), queue, local, side };
        let socket = Socket { socket, local, rules, queue: end, inbox, limits: self.limits.clone() };
        let task = self.tasks.spawn(socket.run());
        self.add_port(Port { outlet: outlet.clone(), task: Some(task) });
        Some(outlet)
    }

    /// A way to send by the socket of another driver.
    pub(super) fn add_outlet(&mut self, outlet: Outlet) {
        self.add_port(Port { outlet, task: None });
    }

    fn add_port(&mut self, port: Port) {
        let old = self.sockets.insert(port.outlet.listener, port);
        if let Some(task) = old.and_then(|old| old.task) {
            task.abort();
        }
    }

    /// Closes a socket; `closing` is dropped when that is done.
    pub(super) fn remove_socket(&mut self, listener: ListenerId, closing: oneshot::Sender<()>) {
        if let Some(task) = self.sockets.remove(&listener).and_then(|port| port.task) {
            self.closing.insert(task.id(), closing);
        }
    }

    /// Waits for a task to end. A connection says itself that it ended, unless it panicked: then its name comes back.
    pub(super) async fn task_ended(&mut self) -> Option<FlowId> {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, ()))) => {
                self.closing.remove(&id);
                self.running.remove(&id);
                None
            }
            Some(Err(error)) => self.task_failed(&error),
        }
    }

    fn task_failed(&mut self, error: &JoinError) -> Option<FlowId> {
        if error.is_panic() {
            tracing::error!(%error, "connection task panicked");
        }
        self.closing.remove(&error.id());
        self.running.remove(&error.id())
    }

    /// Lets all connections write what is queued and end, and waits for that.
    pub(super) async fn close_all(&mut self) {
        self.flows.clear();
        self.lines.clear();
        self.sockets.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}
