//! Listening sockets: bound all or none, compared by address on reload, their rows exchanged whole.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// The wait when the process is out of file descriptors.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// What happens with a connection that was let in.
pub(crate) type Welcome = Arc<dyn Fn(TcpStream, SocketAddr) + Send + Sync>;

/// One row, as of the newest configuration.
#[derive(Clone)]
pub(crate) struct Row {
    /// Its name in the configuration, for logs.
    pub(crate) name: Arc<str>,
    /// Judged before a byte is read.
    pub(crate) allow_from: Arc<[IpNet]>,
    pub(crate) welcome: Welcome,
}

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{name} can't listen on {address}: {error}")]
pub struct BindError {
    name: String,
    address: SocketAddr,
    error: io::Error,
}

/// All TCP listeners of the gateway. A socket belongs to its address, not to its row: a row that gets another
/// name, or takes an address over from another row, keeps what waits there.
#[derive(Default)]
pub(crate) struct Doors {
    open: BTreeMap<SocketAddr, Door>,
}

struct Door {
    row: watch::Sender<Row>,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sockets bound at addresses that were not open before.
pub(crate) struct Bound(BTreeMap<SocketAddr, std::net::TcpListener>);

impl Doors {
    /// Binds what `wanted` has and we haven't. Nothing is accepted yet.
    ///
    /// # Errors
    /// The first address that can't be bound; then nothing stays bound.
    pub(crate) fn bind(&self, wanted: &BTreeMap<SocketAddr, String>) -> Result<Bound, BindError> {
        let mut bound = BTreeMap::new();
        for (&address, name) in wanted.iter().filter(|(address, _)| !self.open.contains_key(*address)) {
            let listener =
                listen(address).map_err(|error| BindError { name: name.clone(), address, error })?;
            bound.insert(address, listener);
        }
        Ok(Bound(bound))
    }

    /// Puts `rows` in force: new ones accept on their bound sockets, old ones change over, the rest closes.
    pub(crate) async fn change(
        &mut self,
        mut rows: BTreeMap<SocketAddr, Row>,
        bound: Bound,
    ) -> io::Result<()> {
        for (address, mut door) in std::mem::take(&mut self.open) {
            match rows.remove(&address) {
                Some(row) => {
                    door.row.send_replace(row);
                    self.open.insert(address, door);
                }
                None => {
                    door.task.abort();
                    // The socket is closed when the task is gone, and the next reload may want its address.
                    let _ = (&mut door.task).await;
                }
            }
        }
        for (address, listener) in bound.0 {
            let Some(row) = rows.remove(&address) else { continue };
            let (sender, receiver) = watch::channel(row);
            let listener = TcpListener::from_std(listener)?;
            let task = tokio::spawn(accept(listener, receiver));
            self.open.insert(address, Door { row: sender, task });
        }
        Ok(())
    }

    /// Nobody gets in any more; who is in stays.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }
}

async fn accept(listener: TcpListener, row: watch::Receiver<Row>) {
    loop {
        let accepted = listener.accept().await;
        let row = row.borrow().clone();
        match accepted {
            Ok((stream, remote)) => {
                if allowed(&row.allow_from, remote.ip()) {
                    keep(&stream);
                    (row.welcome)(stream, remote);
                } else {
                    turn_away(&stream, &row.name, remote, &"not in allow_from");
                }
            }
            Err(error) => {
                warn!(listener = %row.name, %error, "a connection can't be accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// A reset instead of a polite close: nothing of ours answers there.
pub(super) fn turn_away(stream: &TcpStream, listener: &str, remote: SocketAddr, why: &dyn Display) {
    debug!(listener, %remote, %why, "refused");
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// A peer that loses power says no goodbye: after half a minute of silence it is asked, three times, and what
/// nobody takes within a minute ends the connection. Small messages don't wait for each other.
pub(super) fn keep(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    // Without these the connection works all the same.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // It also bounds the asking, in place of a number of retries (tcp(7)): were it shorter than the silence above,
    // one lost question would end a connection that lives.
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(60)));
}

/// Marks what a socket sends with a DSCP, in the upper six bits (RFC 2474 §3). A kernel that does not mark still sends.
pub(super) fn mark(socket: SockRef<'_>, remote: SocketAddr, dscp: u8) {
    let class = u32::from(dscp) << 2;
    // An IPv4 address in an IPv6 socket is marked by the IPv4 option.
    let _ = match remote.ip().to_canonical() {
        IpAddr::V4(_) => socket.set_tos_v4(class),
        IpAddr::V6(_) => socket.set_tclass_v6(class),
    };
}

/// Whether `address` lies in one of `networks`; IPv4 seen through an IPv6 socket is IPv4.
pub(crate) fn allowed(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A datagram socket, bound.
pub(crate) fn datagrams(name: &str, address: SocketAddr) -> Result<std::net::UdpSocket, BindError> {
    let bind = || -> io::Result<std::net::UdpSocket> {
        let socket =
            Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|error| BindError { name: name.to_owned(), address, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MED-19.
    #[test]
    fn sip_sockets_are_marked() {
        for dscp in [0, 24, 63] {
            let four = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            mark(SockRef::from(&four), "127.0.0.1:5060".parse().unwrap(), dscp);
            assert_eq!(SockRef::from(&four).tos_v4().unwrap(), u32::from(dscp) << 2);
            let six = std::net::UdpSocket::bind("[::1]:0").unwrap();
            mark(SockRef::from(&six), "[::1]:5060".parse().unwrap(), dscp);
            assert_eq!(SockRef::from(&six).tclass_v6().unwrap(), u32::from(dscp) << 2);
        }
    }
}
