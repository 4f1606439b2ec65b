//! Everybody who connects, before anything is known of them but their address (SEC-02): places for handshakes, a count of
//! connections and of failed handshakes for each address, and the addresses that the signalling machine has blocked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sip_core::net::Blocklist;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::places::{Holder, Places};
use crate::config::TlsGuard;

/// Of the descriptors that the process may have, one in this many for handshakes, and at most this many (S16).
const HANDSHAKES: (usize, usize) = (8, 2048);
/// The same for connections of HTTP clients.
const CLIENTS: (usize, usize) = (8, 4096);
/// Connections of one HTTP client: its tunnels, and files besides.
const CLIENTS_OF_ONE: usize = 64;
/// Connections to the challenge port: in all, and from one address.
const CHALLENGERS: (usize, usize) = (256, 32);
/// How long failed handshakes count.
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted; what goes beyond within a minute is not.
const FAILING: usize = 100_000;

/// The places of everybody who connects. Clones share them.
#[derive(Clone)]
pub(crate) struct Crowd {
    pub(super) handshakes: Places,
    pub(super) clients: Places,
    pub(super) challengers: Places,
    blocked: Blocklist,
    rules: Arc<RwLock<TlsGuard>>,
    failures: Arc<Mutex<Failures>>,
    seats: Arc<Mutex<HashMap<Holder, usize>>>,
}

/// Why an address may not connect now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error("blocked")]
    Blocked,
    #[error("too many failed handshakes")]
    Failures,
    #[error("too many connections")]
    Connections,
}

/// Failed handshakes of this minute.
struct Failures {
    began: Instant,
    sources: HashMap<Holder, u32>,
}

impl Crowd {
    pub(crate) fn new(descriptors: usize, blocked: Blocklist, rules: TlsGuard) -> Self {
        let share = |(part, most): (usize, usize)| (descriptors / part).clamp(1, most);
        Self {
            handshakes: Places::new(share(HANDSHAKES), rules.handshakes),
            clients: Places::new(share(CLIENTS), CLIENTS_OF_ONE),
            challengers: Places::new(CHALLENGERS.0, CHALLENGERS.1),
            blocked,
            rules: Arc::new(RwLock::new(rules)),
            failures: Arc::new(Mutex::new(Failures { began: Instant::now(), sources: HashMap::new() })),
            seats: Arc::default(),
        }
    }

    /// From the next connection on.
    pub(crate) fn reconfigure(&self, rules: TlsGuard) {
        self.handshakes.allow_each(rules.handshakes);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// A seat for a connection of `remote`, before a byte is read. An address that is blocked is let in where its
    /// certificate will be seen (`certified`): the block is not that phone's.
    pub(crate) fn enter(&self, remote: IpAddr, certified: bool) -> Result<Seat, TurnedAway> {
        if !certified && self.blocked.holds(remote) {
            return Err(TurnedAway::Blocked);
        }
        let holder = Holder::address(remote);
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let spared = rules.allow.iter().any(|net| net.contains(&remote.to_canonical()));
        if !spared && lock(&self.failures).of(Instant::now(), &holder) >= rules.failures {
            return Err(TurnedAway::Failures);
        }
        let mut seats = lock(&self.seats);
        let taken = seats.entry(holder).or_default();
        if *taken >= rules.connections && !spared {
            return Err(TurnedAway::Connections);
        }
        *taken += 1;
        Ok(Seat { seats: self.seats.clone(), holder })
    }

    /// A handshake, unless it is displaced.
    pub(crate) async fn shake<T, E>(
        &self,
        remote: SocketAddr,
        handshake: impl Future<Output = Result<T, E>>,
    ) -> Option<Result<T, E>> {
        let holder = Holder::address(remote.ip());
        let done = self.handshakes.take(holder).hold(handshake).await;
        if matches!(done, Some(Err(_))) {
            lock(&self.failures).note(Instant::now(), holder);
        }
        done
    }
}

impl Failures {
    fn of(&mut self, now: Instant, holder: &Holder) -> u32 {
        if now.saturating_duration_since(self.began) >= MINUTE {
            *self = Self { began: now, sources: HashMap::new() };
        }
        self.sources.get(holder).copied().unwrap_or(0)
    }

    fn note(&mut self, now: Instant, holder: Holder) {
        let known = self.of(now, &holder);
        if known > 0 || self.sources.len() < FAILING {
            self.sources.insert(holder, known.saturating_add(1));
        }
    }
}

/// One connection of an address, until it is dropped.
pub(crate) struct Seat {
    seats: Arc<Mutex<HashMap<Holder, usize>>>,
    holder: Holder,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        if let Some(taken) = seats.get_mut(&self.holder) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.holder);
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that has a seat.
pub(crate) struct Seated<S> {
    stream: S,
    _seat: Seat,
}

impl<S> Seated<S> {
    pub(crate) fn new(stream: S, seat: Seat) -> Self {
        Self { stream, _seat: seat }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Seated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Seated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use sip_core::edge::Event;
    use sip_core::edge::guard::{Offence, Suspect};

    use super::*;

    fn crowd(allow: &[&str]) -> (Crowd, Blocklist) {
        let blocked = Blocklist::default();
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        let rules = TlsGuard { handshakes: 4, failures: 3, connections: 5, allow };
        (Crowd::new(1024, blocked.clone(), rules), blocked)
    }

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn an_address_has_so_many_connections_and_gets_one_back_when_one_ends() {
        let (crowd, _) = crowd(&["192.0.2.2/32"]);
        let mut seats: Vec<Seat> = (0..5).map(|_| crowd.enter(ONE, true).unwrap()).collect();
        assert_eq!(crowd.enter(ONE, true).err(), Some(TurnedAway::Connections));
        seats.pop();
        assert!(crowd.enter(ONE, true).is_ok());
        let spared: Vec<_> = (0..50).map(|_| crowd.enter(OTHER, true)).collect();
        assert!(spared.iter().all(Result::is_ok));
        drop((seats, spared));
        assert!(lock(&crowd.seats).is_empty());
    }

    #[tokio::test]
    async fn an_address_whose_handshakes_fail_waits_for_the_next_minute() {
        let (crowd, _) = crowd(&[]);
        for _ in 0..3 {
            assert!(crowd.enter(ONE, true).is_ok());
            let failed = crowd.shake(SocketAddr::new(ONE, 1), async { Err::<(), _>("no certificate") }).await;
            assert!(failed.is_some_and(|done| done.is_err()));
        }
        assert_eq!(crowd.enter(ONE, true).err(), Some(TurnedAway::Failures));
        assert!(crowd.enter(OTHER, true).is_ok());
        lock(&crowd.failures).began -= MINUTE;
        assert!(crowd.enter(ONE, true).is_ok());
    }

    #[test]
    fn a_blocked_address_meets_a_closed_port_but_where_certificates_are_seen() {
        let (crowd, blocked) = crowd(&[]);
        let suspect = Suspect::address(ONE);
        blocked.heed(&Event::Blocked { suspect, subject: None, offence: Offence::Credentials, seconds: 300 });
        assert_eq!(crowd.enter(ONE, false).err(), Some(TurnedAway::Blocked));
        assert!(crowd.enter(ONE, true).is_ok() && crowd.enter(OTHER, false).is_ok());
        let rules = TlsGuard { connections: 0, ..TlsGuard::default() };
        crowd.reconfigure(rules);
        assert_eq!(crowd.enter(OTHER, false).err(), Some(TurnedAway::Connections));
    }
}
