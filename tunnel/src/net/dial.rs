//! How an endpoint reaches out: three traits, and plain implementations for embedders without wishes.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::repository::{Remote, Server};

/// A boxed future, so that the traits can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connected byte stream, TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Looks a name up.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `name`. Asked once for each CONNECT; the answer is checked address by address and
    /// never asked for again.
    ///
    /// # Errors
    /// The look-up's; a name that does not exist may also be an empty list.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Opens a TCP connection to the target of a tunnel.
pub trait Dial: Send + Sync + 'static {
    /// Connects to exactly this address, which has been checked.
    ///
    /// # Errors
    /// The connection's.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// Opens a connection to a server of a remote endpoint.
pub trait Upstream: Send + Sync + 'static {
    /// Connects to `server`, with TLS, the certificate check against [`Remote::server_name`] and our own
    /// certificate where `remote` is configured so. HTTP/1.1 is spoken on the stream.
    ///
    /// # Errors
    /// The connection's, the handshake's, or a certificate that does not match; the text becomes the reason of
    /// [`crate::event::Event::ServerFailed`].
    fn connect<'a>(
        &'a self,
        remote: &'a Remote,
        server: &'a Server,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolve;

impl Resolve for SystemResolve {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// TCP from whatever address the system picks, without delay and with keep-alive, so that a dead target and a
/// forgetful NAT are noticed.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDial;

impl Dial for SystemDial {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let keep_alive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(10))
                .with_retries(6);
            socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
            Ok(stream)
        })
    }
}
