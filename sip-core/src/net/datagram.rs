//! Datagram sockets: one task each, receiving and sending.
//!
//! A socket is watched for what comes, and not for room: that of a datagram socket comes back with every datagram that leaves the
//! machine, and each time the thread would be woken for nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::blocklist::Blocklist;
use super::limits::Limits;
use super::stream::Arrival;
use super::stun;
use crate::flow::{ListenerId, Peer, Side, Source, Transport};
use crate::message::{Message, refusal};

/// What a datagram socket is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagrams {
    /// Its port row.
    pub listener: ListenerId,
    /// Which face of the gateway it is.
    pub side: Side,
    /// Its senders are trusted by their address (`trust_source`).
    pub verified: bool,
    /// Who may send; others meet silence. Empty: all may.
    pub allow: Vec<IpNet>,
    /// STUN Binding requests are answered (RFC 5626 §4.4.2).
    pub stun: bool,
    /// Who may not, whatever else is said: they meet silence.
    pub blocked: Blocklist,
}

impl Datagrams {
    fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        (self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&address)))
            && !self.blocked.holds(address)
    }
}

/// A socket that does not block, watched for what comes.
pub(super) type Watched = Arc<AsyncFd<UdpSocket>>;

/// Has the current runtime watch a socket for what comes.
pub(super) fn watch(socket: UdpSocket) -> io::Result<Watched> {
    watch_for(socket, Interest::READABLE).map(Arc::new)
}

#[expect(
    deprecated,
    reason = "deprecated for what does not own its descriptor, as this socket does; the function in its place is unsafe"
)]
fn watch_for(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// The way to send by a socket, from any thread.
#[derive(Clone, Debug)]
pub struct Outlet {
    pub(super) listener: ListenerId,
    pub(super) socket: Watched,
    /// What the socket has no room for at the moment. The drop of the last one ends the socket's task.
    pub(super) queue: mpsc::Sender<(SocketAddr, Bytes)>,
    pub(super) local: SocketAddr,
    pub(super) side: Side,
}

impl Outlet {
    /// Sends at once if the socket takes it. What can't be sent is lost, as datagrams are; retransmission is above.
    pub(super) fn send(&self, remote: SocketAddr, bytes: Bytes) {
        let queued = self.queue.capacity() < self.queue.max_capacity();
        if !queued
            && !matches!(self.socket.get_ref().send_to(&bytes, remote), Err(error) if error.kind() == ErrorKind::WouldBlock)
        {
            return;
        }
        drop(self.queue.try_send((remote, bytes)));
    }
}

/// The largest datagram, and a little.
const LARGEST: usize = 65_536;

/// Everything a socket's task owns.
pub(super) struct Socket {
    pub(super) socket: Watched,
    pub(super) local: SocketAddr,
    pub(super) rules: Datagrams,
    /// Ends the task when its sending end is dropped.
    pub(super) queue: mpsc::Receiver<(SocketAddr, Bytes)>,
    pub(super) inbox: mpsc::Sender<Arrival>,
    pub(super) limits: Arc<Limits>,
}

impl Socket {
    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; LARGEST];
        loop {
            tokio::select! {
                received = self.socket.async_io(Interest::READABLE, |socket| socket.recv_from(&mut buffer)) => match received {
                    Ok((n, remote)) => self.receive(buffer.get(..n).unwrap_or_default(), remote).await,
                    // The socket lives on; should the error repeat, it must not spin.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                queued = self.queue.recv() => match queued {
                    // What can't be sent is lost, as datagrams are; retransmission is above.
                    Some((remote, bytes)) => self.send(&bytes, remote).await,
                    None => return,
                },
            }
        }
    }

    /// Sends, and waits for room if there is none.
    async fn send(&self, bytes: &[u8], remote: SocketAddr) {
        let socket = self.socket.get_ref();
        if !matches!(socket.send_to(bytes, remote), Err(error) if error.kind() == ErrorKind::WouldBlock) {
            return;
        }
        // Watched for room by a descriptor of its own, and only so long.
        let clone = socket.try_clone().and_then(|clone| watch_for(clone, Interest::WRITABLE));
        if let Ok(clone) = clone {
            drop(clone.async_io(Interest::WRITABLE, |socket| socket.send_to(bytes, remote)).await);
        }
    }

    async fn receive(&self, bytes: &[u8], remote: SocketAddr) {
        if !self.rules.admits(remote.ip()) {
            return;
        }
        let source = Source::Datagram { listener: self.rules.listener, remote };
        // Keep-alives of NATs: line ends or zeros, nothing to answer.
        if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return drop(self.inbox.try_send(Arrival::Ping { source }));
        }
        if self.rules.stun
            && let Some(answer) = stun::answer(bytes, remote)
        {
            drop(self.socket.get_ref().send_to(&answer, remote));
            return drop(self.inbox.try_send(Arrival::Ping { source }));
        }
        let peer = Arc::new(Peer {
            remote,
            local: self.local,
            transport: Transport::Udp,
            side: self.rules.side,
            listener: Some(self.rules.listener),
            identity: None,
            verified: self.rules.verified,
        });
        let arrival = match Message::parse(Bytes::copy_from_slice(bytes), self.limits.of(&peer)) {
            Ok(message) => Arrival::Message { source, peer, message },
            Err(error) => {
                let response = refusal(bytes, &error);
                let status = response.as_ref().map(|_| error.status());
                if let Some(response) = response {
                    self.send(&response, remote).await;
                }
                Arrival::Unframeable { source, peer, status }
            }
        };
        // When the machine can't keep up, datagrams are what is lost.
        drop(self.inbox.try_send(arrival));
    }
}
