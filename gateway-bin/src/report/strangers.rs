//! Whoever has not shown a certificate, as log lines: few of one source and few in all, so that nobody can drown the
//! log (G4). What was left out is counted in the next line that is not.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

const MINUTE: Duration = Duration::from_secs(60);
/// Lines a minute about one source.
const OF_SOURCE: u32 = 10;
/// Lines a minute about all of them; bounds the table as well.
const IN_ALL: u32 = 300;

/// The log of strangers at all listeners.
pub(crate) struct Strangers(Mutex<Window>);

struct Window {
    began: Instant,
    lines: u32,
    sources: HashMap<IpAddr, u32>,
    left_out: u64,
}

impl Default for Strangers {
    fn default() -> Self {
        Self(Mutex::new(Window::new(Instant::now())))
    }
}

impl Strangers {
    /// A handshake that did not come to its end.
    pub(crate) fn handshake_failed(&self, listener: &str, remote: SocketAddr, error: &dyn Display) {
        if let Some(left_out) = self.line(remote) {
            info!(listener, %remote, %error, left_out, "TLS handshake failed");
        }
    }

    /// A handshake that was ended for a newer one.
    pub(crate) fn made_way(&self, listener: &str, remote: SocketAddr) {
        if let Some(left_out) = self.line(remote) {
            info!(listener, %remote, left_out, "a stalled TLS handshake made way");
        }
    }

    /// A request at the challenge port.
    pub(crate) fn asked(&self, remote: SocketAddr, status: Option<u16>) {
        if let Some(left_out) = self.line(remote) {
            info!(%remote, status, left_out, "port 80");
        }
    }

    fn line(&self, remote: SocketAddr) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.line(Instant::now(), remote.ip().to_canonical())
    }
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, lines: 0, sources: HashMap::new(), left_out: 0 }
    }

    /// Whether one more line may be written, and how many were not before it.
    fn line(&mut self, now: Instant, source: IpAddr) -> Option<u64> {
        if now.saturating_duration_since(self.began) >= MINUTE {
            *self = Self { left_out: self.left_out, ..Self::new(now) };
        }
        let own = self.sources.get(&source).copied().unwrap_or(0);
        if self.lines >= IN_ALL || own >= OF_SOURCE {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        self.sources.insert(source, own + 1);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let began = Instant::now();
        let mut window = Window::new(began);
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        let written = (0..1000).filter(|_| window.line(began, source(1)) == Some(0)).count();
        assert_eq!(written, 10);
        assert_eq!(window.line(began, source(2)), Some(990), "another source is not shut out");
        let written = (0..100_000).filter(|n| window.line(began, source(*n)).is_some()).count();
        assert_eq!((written, window.sources.len() <= 300), (289, true));
        let later = began + MINUTE;
        // One was told of among the 289.
        assert_eq!(window.line(later, source(1)), Some(100_000 - 289 - 1));
        assert_eq!(window.line(later, source(1)), Some(0));
    }
}
