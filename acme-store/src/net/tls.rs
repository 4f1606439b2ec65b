//! TLS over streams that are already connected: [`Acceptor`] for a listener, [`Connector`] for what we dial.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsConnector, client, server};

use crate::certificate::Identity;
use crate::hello::{MAX_HELLO, Offer};
use crate::publish::{BuildError, Clients, Dialler, Listener};
use crate::verify::{self, Purpose, Refusal};

/// How long a whole handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A TLS stream with a client at the other end.
pub type ServerStream<S> = server::TlsStream<S>;
/// A TLS stream with a server at the other end.
pub type ClientStream<S> = client::TlsStream<S>;

/// The TLS side of one listener. Cheap to share; its configuration can be exchanged while it accepts.
pub struct Acceptor {
    state: ArcSwap<Accepting>,
    timeout: Duration,
}

struct Accepting {
    listener: Listener,
    config: Arc<ServerConfig>,
}

/// A finished handshake with a client.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<S> {
    /// The encrypted stream.
    pub stream: ServerStream<S>,
    /// Who the client is; always there when the listener requires a certificate.
    pub identity: Option<Arc<Identity>>,
    /// The session was resumed. The certificate was checked again all the same.
    pub resumed: bool,
    /// The version spoken: `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The host name the client asked for (SNI).
    pub server_name: Option<String>,
}

/// Why there is no TLS connection with a client. Nothing the client sent inside was read or answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The handshake took too long.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// What came is not TLS.
    #[error("the client does not speak TLS")]
    NotTls,
    /// No common version, suite, group or signature scheme.
    #[error("nothing in common ({reason}); client offered only {offer}")]
    NothingInCommon {
        /// What is missing.
        reason: String,
        /// What was there.
        offer: Box<Offer>,
    },
    /// The certificate was refused.
    #[error("client certificate refused: {0}")]
    Certificate(Refusal),
    /// The client ended it, mostly because it does not accept our certificate.
    #[error("the client refused with the alert {0}")]
    ClientRefused(String),
    /// A protocol error.
    #[error("TLS: {0}")]
    Protocol(String),
    /// The connection failed.
    #[error("connection: {0}")]
    Io(io::Error),
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("listener", &self.state.load().listener).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// An acceptor for this listener with the [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(listener: Listener) -> Result<Self, BuildError> {
        let config = listener.build()?;
        Ok(Self { state: ArcSwap::from_pointee(Accepting { listener, config }), timeout: HANDSHAKE_TIMEOUT })
    }

    /// Another time limit for handshakes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// From the next handshake on, `listener` holds. Sessions of the former one can't be resumed. When it can't be built the former one
    /// stays. A renewed certificate needs no call: it is published in its own cell.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn publish(&self, listener: Listener) -> Result<(), BuildError> {
        let config = listener.build()?;
        self.state.store(Arc::new(Accepting { listener, config }));
        Ok(())
    }

    /// The handshake on a connected stream. Dropping the future closes the stream.
    ///
    /// # Errors
    /// [`AcceptError`]; the stream is closed, if it makes sense with an alert.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = Instant::now() + self.timeout;
        let state = self.state.load_full();
        let mut lazy = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Recording::new(stream));
        let start = match timeout_at(deadline, &mut lazy).await {
            Err(_) => return Err(AcceptError::Timeout),
            Ok(Err(error)) => {
                let seen = lazy.take_io().map(|recording| recording.seen).unwrap_or_default();
                return Err(accept_error(error, &seen));
            }
            Ok(Ok(start)) => start,
        };
        let server_name = start.client_hello().server_name().map(str::to_owned);
        let Recording { stream, seen } = start.io;
        let start = StartHandshake::from_parts(start.accepted, stream);
        let stream = match timeout_at(deadline, start.into_stream(Arc::clone(&state.config))).await {
            Err(_) => return Err(AcceptError::Timeout),
            Ok(Err(error)) => return Err(accept_error(error, &seen)),
            Ok(Ok(stream)) => stream,
        };
        let (_, session) = stream.get_ref();
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let version = version_name(session.protocol_version());
        let identity = state.identity(session.peer_certificates().unwrap_or_default(), resumed)?;
        Ok(Accepted { stream, identity, resumed, version, server_name })
    }
}

impl Accepting {
    /// The identity; after a resumption the certificate is checked as if it were new, because it may have expired since.
    fn identity(
        &self,
        chain: &[rustls::pki_types::CertificateDer<'_>],
        resumed: bool,
    ) -> Result<Option<Arc<Identity>>, AcceptError> {
        match &self.listener.clients {
            Clients::Anonymous => Ok(None),
            Clients::Known { required: false, .. } if chain.is_empty() => Ok(None),
            Clients::Known { trust, .. } => {
                if resumed {
                    verify::chain(trust, chain, Purpose::Client, UnixTime::now())
                        .map_err(AcceptError::Certificate)?;
                }
                let identity = verify::identity(chain).map_err(AcceptError::Certificate)?;
                Ok(Some(Arc::new(identity)))
            }
        }
    }
}

fn accept_error(error: io::Error, seen: &[u8]) -> AcceptError {
    let Some(tls) = tls_cause(&error) else { return AcceptError::Io(error) };
    if let Some(refusal) = Refusal::from_tls(tls) {
        return AcceptError::Certificate(refusal);
    }
    match tls {
        rustls::Error::PeerIncompatible(reason) => {
            let offer = Box::new(Offer::parse(seen).unwrap_or_default());
            AcceptError::NothingInCommon { reason: format!("{reason:?}"), offer }
        }
        rustls::Error::AlertReceived(alert) => AcceptError::ClientRefused(format!("{alert:?}")),
        rustls::Error::InvalidMessage(_) if Offer::parse(seen).is_none() => AcceptError::NotTls,
        other => AcceptError::Protocol(other.to_string()),
    }
}

/// Keeps a copy of what the client sends until its hello is complete.
struct Recording<S> {
    stream: S,
    seen: Vec<u8>,
}

impl<S> Recording<S> {
    fn new(stream: S) -> Self {
        Self { stream, seen: Vec::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recording<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let room = MAX_HELLO.saturating_sub(self.seen.len());
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        self.seen.extend(fresh.iter().take(room));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recording<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    }
}

/// The TLS side of connections that we open. Cheap to share; its configuration can be exchanged.
pub struct Connector {
    state: ArcSwap<Dialling>,
    timeout: Duration,
}

struct Dialling {
    dialler: Dialler,
    config: Arc<ClientConfig>,
}

/// A finished handshake with a server.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected<S> {
    /// The encrypted stream.
    pub stream: ClientStream<S>,
    /// Who the server is.
    pub identity: Arc<Identity>,
    /// The version spoken.
    pub version: &'static str,
}

/// Why there is no TLS connection with a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Neither a DNS name nor an address.
    #[error("\"{0}\" is neither a DNS name nor an address")]
    BadName(String),
    /// The handshake took too long.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// The certificate was refused.
    #[error("server certificate refused: {0}")]
    Certificate(Refusal),
    /// The server ended it, mostly because it wants a certificate that we don't have or does not accept ours.
    #[error("the server refused with the alert {0}")]
    ServerRefused(String),
    /// A protocol error.
    #[error("TLS: {0}")]
    Protocol(String),
    /// The connection failed.
    #[error("connection: {0}")]
    Io(io::Error),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("dialler", &self.state.load().dialler).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector with the [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(dialler: Dialler) -> Result<Self, BuildError> {
        let config = dialler.build()?;
        Ok(Self { state: ArcSwap::from_pointee(Dialling { dialler, config }), timeout: HANDSHAKE_TIMEOUT })
    }

    /// Another time limit for handshakes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// From the next handshake on, `dialler` holds. When it can't be built the former one stays.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn publish(&self, dialler: Dialler) -> Result<(), BuildError> {
        let config = dialler.build()?;
        self.state.store(Arc::new(Dialling { dialler, config }));
        Ok(())
    }

    /// The handshake on a connected stream with the server `name` (a DNS name, sent as SNI, or an address), which its certificate must
    /// carry unless the rule is [`crate::verify::NameRule::ChainOnly`].
    ///
    /// With TLS 1.3 a server that refuses *our* certificate says so only in answer to the first bytes: the error then comes from the
    /// first read, not from here.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect<S>(&self, stream: S, name: &str) -> Result<Connected<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let server =
            ServerName::try_from(bare.to_owned()).map_err(|_| ConnectError::BadName(name.to_owned()))?;
        let config = Arc::clone(&self.state.load().config);
        let handshake = TlsConnector::from(config).connect(server, stream);
        let stream = match timeout_at(Instant::now() + self.timeout, handshake).await {
            Err(_) => return Err(ConnectError::Timeout),
            Ok(Err(error)) => return Err(connect_error(error)),
            Ok(Ok(stream)) => stream,
        };
        let (_, session) = stream.get_ref();
        let version = version_name(session.protocol_version());
        let identity = verify::identity(session.peer_certificates().unwrap_or_default())
            .map_err(ConnectError::Certificate)?;
        Ok(Connected { stream, identity: Arc::new(identity), version })
    }
}

fn connect_error(error: io::Error) -> ConnectError {
    let Some(tls) = tls_cause(&error) else { return ConnectError::Io(error) };
    if let Some(refusal) = Refusal::from_tls(tls) {
        return ConnectError::Certificate(refusal);
    }
    match tls {
        rustls::Error::AlertReceived(alert) => ConnectError::ServerRefused(format!("{alert:?}")),
        other => ConnectError::Protocol(other.to_string()),
    }
}
