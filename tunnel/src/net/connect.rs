//! CONNECT: from the request to a dialled target, and the tunnel's life.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, Version, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{self, Content};
use super::endpoint::{Config, Limits, Observe, Shared, Tunnel};
use super::slots::Slot;
use super::splice::{Counts, Timers, splice};
use crate::authority::{AuthorityError, Host, Target};
use crate::event::{End, Event, Peer, TunnelId};
use crate::policy::{Decision, Refusal};

/// The most addresses of one name that are dialled.
const MAX_ADDRESSES: usize = 8;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why there is no tunnel, with the error type of RFC 9209 §2.3. Inside addresses are never told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    BadAuthority(AuthorityError),
    BadHost,
    Refused(Refusal),
    TooMany,
    Name,
    NameTimeout,
    Dial(StatusCode, &'static str),
}

impl Failure {
    pub(super) fn response(self) -> Response<Content> {
        const OWN: &str = "http_request_error";
        let (status, error) = match self {
            Self::BadAuthority(AuthorityError::TooLong) => (StatusCode::URI_TOO_LONG, OWN),
            Self::BadAuthority(_) | Self::BadHost => (StatusCode::BAD_REQUEST, OWN),
            Self::Refused(Refusal::Forbidden(_)) => (StatusCode::FORBIDDEN, "destination_ip_prohibited"),
            Self::Refused(_) => (StatusCode::FORBIDDEN, "http_request_denied"),
            Self::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            Self::Name => (StatusCode::BAD_GATEWAY, "dns_error"),
            Self::NameTimeout => (StatusCode::GATEWAY_TIMEOUT, "dns_timeout"),
            Self::Dial(status, error) => (status, error),
        };
        let value = HeaderValue::from_str(&format!("farend; error={error}"));
        let rows = value.ok().map(|value| (PROXY_STATUS, value));
        // Whatever follows a refused CONNECT may be meant for the target: it is never read as a request.
        answer::closing(answer::with(status, Content::Empty, rows))
    }

    fn dial(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Dial(StatusCode::BAD_GATEWAY, "connection_refused"),
            io::ErrorKind::TimedOut => Self::TIMED_OUT,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Self::Dial(StatusCode::BAD_GATEWAY, "destination_ip_unroutable")
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
                Self::Dial(StatusCode::BAD_GATEWAY, "connection_terminated")
            }
            // No file descriptors, no ports, no permission: ours.
            _ => Self::Dial(StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable"),
        }
    }

    const TIMED_OUT: Self = Self::Dial(StatusCode::GATEWAY_TIMEOUT, "connection_timeout");
}

/// A tunnel that waits for its 200 to be written.
pub(super) struct Ready {
    pub(super) early: Vec<u8>,
    target: Target,
    address: SocketAddr,
    stream: TcpStream,
    timers: Timers,
    id: TunnelId,
    peer: Arc<Peer>,
    observer: Arc<dyn Observe>,
    slot: Slot,
}

/// Reads the target of a CONNECT: authority form, and a `Host` that says the same.
pub(super) fn read_target(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Target, Failure> {
    let authority = uri.authority().filter(|_| uri.scheme().is_none() && uri.path_and_query().is_none());
    let authority = authority.ok_or(Failure::BadAuthority(AuthorityError::NoPort))?;
    let target = Target::parse(authority.as_str().as_bytes()).map_err(Failure::BadAuthority)?;
    match headers.get(header::HOST).map(HeaderValue::to_str) {
        None if version == Version::HTTP_10 => Ok(target),
        Some(Ok(host)) if same_host(host, &target) => Ok(target),
        _ => Err(Failure::BadHost),
    }
}

/// RFC 9112 §3.2 wants the authority as it is; some clients leave the port out.
fn same_host(host: &str, target: &Target) -> bool {
    Target::parse(host.as_bytes()).is_ok_and(|host| host == *target)
        || Host::parse_uri(host).is_ok_and(|host| host == target.host)
}

/// Decides, resolves once, dials exactly what was checked.
pub(super) async fn establish(
    shared: &Shared,
    config: &Config,
    tunnel: &Tunnel,
    peer: &Arc<Peer>,
    target: Target,
) -> Result<Ready, Failure> {
    let limits = &config.limits;
    // Policy before limits: a refusal says nothing about how busy we are.
    let decided = match tunnel.policy.decide(&target) {
        Decision::Refuse(refusal) => return Err(Failure::Refused(refusal)),
        Decision::Dial(address) => Some(address),
        Decision::Resolve(_) => None,
    };
    let slot = shared.slots.take(peer, limits.tunnels_per_peer, limits.tunnels).ok_or(Failure::TooMany)?;
    let deadline = Instant::now() + limits.connect_total;
    let addresses = match (decided, &target.host) {
        (Some(address), _) => vec![address],
        (None, Host::Name(name)) => {
            let answers = resolve(tunnel, name, deadline).await?;
            tunnel.policy.permitted(&answers, target.port).map_err(Failure::Refused)?
        }
        (None, Host::Ip(_)) => return Err(Failure::Name),
    };
    let (address, stream) = dial(tunnel, &addresses, limits, deadline).await?;
    let Limits { idle, life, linger, .. } = *limits;
    Ok(Ready {
        early: Vec::new(),
        target,
        address,
        stream,
        timers: Timers { idle, life, linger },
        id: shared.next_tunnel(),
        peer: Arc::clone(peer),
        observer: Arc::clone(&config.observer),
        slot,
    })
}

async fn resolve(tunnel: &Tunnel, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
    match timeout_at(deadline, tunnel.resolve.resolve(name)).await {
        Err(_) => Err(Failure::NameTimeout),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(Failure::NameTimeout),
        Ok(Err(_)) => Err(Failure::Name),
        Ok(Ok(answers)) if answers.is_empty() => Err(Failure::Name),
        Ok(Ok(answers)) => Ok(answers),
    }
}

async fn dial(
    tunnel: &Tunnel,
    addresses: &[SocketAddr],
    limits: &Limits,
    deadline: Instant,
) -> Result<(SocketAddr, TcpStream), Failure> {
    let mut failure = Failure::TIMED_OUT;
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            break;
        }
        match timeout(limits.connect.min(left), tunnel.dial.dial(*address)).await {
            // The last word is the socket's: a dialler that went elsewhere has broken the policy.
            Ok(Ok(stream)) if stream.peer_addr().is_ok_and(|reached| same(reached, *address)) => {
                return Ok((*address, stream));
            }
            Ok(Ok(_)) => failure = Failure::Dial(StatusCode::INTERNAL_SERVER_ERROR, "proxy_internal_error"),
            Ok(Err(error)) => failure = Failure::dial(&error),
            Err(_) => failure = Failure::TIMED_OUT,
        }
    }
    Err(failure)
}

fn same(reached: SocketAddr, wanted: SocketAddr) -> bool {
    (reached.ip().to_canonical(), reached.port()) == (wanted.ip().to_canonical(), wanted.port())
}

/// Reports a tunnel's end, also when its future is dropped.
struct Closing {
    counts: Counts,
    started: Instant,
    end: End,
    id: TunnelId,
    peer: Arc<Peer>,
    target: Target,
    address: SocketAddr,
    observer: Arc<dyn Observe>,
    _slot: Slot,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.observer.observe(Event::TunnelClosed {
            id: self.id,
            peer: Arc::clone(&self.peer),
            target: self.target.clone(),
            address: self.address,
            up: self.counts.up.load(Ordering::Relaxed),
            down: self.counts.down.load(Ordering::Relaxed),
            duration: self.started.elapsed(),
            end: self.end,
        });
    }
}

/// Runs a tunnel until it ends.
pub(super) async fn run<S>(mut peer_stream: S, ready: Ready, closed: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ready { early, target, address, mut stream, timers, id, peer, observer, slot } = ready;
    observer.observe(Event::TunnelOpened { id, peer: Arc::clone(&peer), target: target.clone(), address });
    let mut tunnel = Closing {
        counts: Counts::default(),
        started: Instant::now(),
        end: End::Shutdown,
        id,
        peer,
        target,
        address,
        observer,
        _slot: slot,
    };
    tunnel.end = tokio::select! {
        end = splice(&mut peer_stream, &mut stream, early, timers, &tunnel.counts) => end,
        () = closed => End::Shutdown,
    };
    if tunnel.end != End::Finished {
        // A cut must not look like an end: the target gets a reset, the peer no close_notify.
        let _ = stream.set_zero_linger();
    }
}
