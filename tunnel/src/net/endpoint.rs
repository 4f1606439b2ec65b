//! One listener's service: configuration as a whole value, limits, and the life of a stream.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::dial::{Dial, Resolve, Upstream};
use super::slots::Slots;
use super::upstream::Health;
use super::{connect, exchange};
use crate::event::{Event, Peer, TunnelId};
use crate::policy::Policy;
use crate::repository::Row;

/// Receives what happens at an endpoint. Called on the endpoint's tasks: it must not block.
pub trait Observe: Send + Sync + 'static {
    /// Takes one event.
    fn observe(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync + 'static> Observe for F {
    fn observe(&self, event: Event) {
        self(event);
    }
}

/// Everything an endpoint does. [`Endpoint::reconfigure`] replaces it whole.
#[derive(Clone)]
pub struct Config {
    /// CONNECT tunnels; without them CONNECT is a 405.
    pub tunnel: Option<Tunnel>,
    /// Files; without them every method but CONNECT is a 405.
    pub repository: Option<Repository>,
    /// Bounds on time, size and number.
    pub limits: Limits,
    /// Where events go.
    pub observer: Arc<dyn Observe>,
}

/// The tunnel service of an endpoint.
#[derive(Clone)]
pub struct Tunnel {
    /// Where tunnels may lead.
    pub policy: Policy,
    /// How names are looked up.
    pub resolve: Arc<dyn Resolve>,
    /// How targets are dialled.
    pub dial: Arc<dyn Dial>,
}

/// The file service of an endpoint.
#[derive(Clone)]
pub struct Repository {
    /// The rows, tried in order.
    pub rows: Vec<Row>,
    /// How remote endpoints are reached.
    pub upstream: Arc<dyn Upstream>,
}

/// Bounds on what one peer can cost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Time for a request's head, also the longest pause between two requests: 10 s.
    pub head: Duration,
    /// Bytes of a request's header rows: 16 KiB.
    pub head_bytes: usize,
    /// Header rows of a request: 100.
    pub headers: usize,
    /// Time a peer may take no byte of an answer: 30 s.
    pub write_stall: Duration,
    /// Time for one address of a tunnel's target: 5 s.
    pub connect: Duration,
    /// Time for look-up and all addresses together: 15 s.
    pub connect_total: Duration,
    /// Time a tunnel may pass nothing: 2 h, since phones keep idle connections open.
    pub idle: Duration,
    /// The longest life of a tunnel: 24 h.
    pub life: Duration,
    /// Time after the last byte of a half-closed tunnel: 30 s.
    pub linger: Duration,
    /// Tunnels of one certificate, or of one address without certificate: 32.
    pub tunnels_per_peer: usize,
    /// Tunnels in all: 2000.
    pub tunnels: usize,
    /// Time to connect to one server of a remote endpoint: 2 s, so that the next answers within 3.
    pub upstream_connect: Duration,
    /// Time for a server's response head, and the longest pause within a body: 30 s.
    pub upstream_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            headers: 100,
            write_stall: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            connect_total: Duration::from_secs(15),
            idle: Duration::from_secs(2 * 60 * 60),
            life: Duration::from_secs(24 * 60 * 60),
            linger: Duration::from_secs(30),
            tunnels_per_peer: 32,
            tunnels: 2000,
            upstream_connect: Duration::from_secs(2),
            upstream_stall: Duration::from_secs(30),
        }
    }
}

/// One listener's service. Clones are handles to the same endpoint.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    config: RwLock<Arc<Config>>,
    pub(super) slots: Arc<Slots>,
    pub(super) health: Health,
    next_tunnel: AtomicU64,
    closing: watch::Sender<bool>,
}

impl Shared {
    /// The configuration of this moment: a request is answered by one whole value.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn next_tunnel(&self) -> TunnelId {
        TunnelId(self.next_tunnel.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends when the endpoint is closed.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }
}

impl Endpoint {
    /// An endpoint with this configuration.
    pub fn new(config: Config) -> Self {
        let shared = Shared {
            config: RwLock::new(Arc::new(config)),
            slots: Arc::default(),
            health: Health::default(),
            next_tunnel: AtomicU64::new(1),
            closing: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Replaces the configuration. The next request sees it, on open connections too; tunnels that stand stay
    /// as they are.
    pub fn reconfigure(&self, config: Config) {
        let config = Arc::new(config);
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.shared.health.forget();
    }

    /// The number of tunnels that stand or are being dialled.
    pub fn tunnels(&self) -> usize {
        self.shared.slots.total()
    }

    /// Ends every stream: idle ones and tunnels at once, answers in progress when they are complete.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Serves one connected stream until it ends. Dropping the future cuts the stream.
    pub fn serve<S>(&self, stream: S, peer: Peer) -> impl Future<Output = ()> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        async move {
            // Boxed, so that what HTTP needs is freed while a tunnel idles for hours.
            let tunnel = Box::pin(exchange::serve(Arc::clone(&shared), stream, Arc::new(peer))).await;
            if let Some((stream, ready)) = tunnel {
                connect::run(stream, ready, shared.closed()).await;
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("tunnels", &self.tunnels()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.repository.as_ref().map(|repository| &repository.rows);
        let policy = self.tunnel.as_ref().map(|tunnel| &tunnel.policy);
        f.debug_struct("Config")
            .field("policy", &policy)
            .field("rows", &rows)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("rows", &self.rows).finish_non_exhaustive()
    }
}
