//! What ends a loop when the hop limit does not: our own packets are known, and a sender has a ceiling.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::latch::Evidence;

/// The ports we have bound, by every address that they are known by. A copy shares what it is a copy of: the ports of one
/// worker are ours to all of them. A packet only reads, and waits for nobody.
#[derive(Debug, Clone)]
pub struct OwnPorts {
    addresses: Arc<[(IpAddr, Box<Bits>)]>,
}

/// One bit a port.
type Bits = [AtomicU64; 1024];

impl OwnPorts {
    /// None yet, of these addresses.
    pub fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut all: Vec<(IpAddr, Box<Bits>)> = Vec::new();
        for ip in addresses {
            if !all.iter().any(|(known, _)| *known == ip) {
                all.push((ip, Box::new([const { AtomicU64::new(0) }; 1024])));
            }
        }
        Self { addresses: all.into() }
    }

    /// Notes a port of ours; of another address: nothing.
    pub fn insert(&self, address: SocketAddr) {
        if let Some(word) = self.word(address) {
            word.fetch_or(bit(address.port()), Ordering::Relaxed);
        }
    }

    /// Forgets a port.
    pub fn remove(&self, address: SocketAddr) {
        if let Some(word) = self.word(address) {
            word.fetch_and(!bit(address.port()), Ordering::Relaxed);
        }
    }

    /// Whether this is a port of ours. One look at a few addresses and one at a bit.
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.word(address).is_some_and(|word| word.load(Ordering::Relaxed) & bit(address.port()) != 0)
    }

    fn word(&self, address: SocketAddr) -> Option<&AtomicU64> {
        let (_, bits) = self.addresses.iter().find(|(ip, _)| *ip == address.ip())?;
        bits.get(word(address.port()))
    }
}

fn word(port: u16) -> usize {
    usize::from(port / 64)
}

fn bit(port: u16) -> u64 {
    1 << (port % 64)
}

/// The ceiling of one sender: so many packets in a second; the one above shuts it out for a second, so that what runs in
/// a circle dies instead of running on at the ceiling.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling {
    window: Instant,
    count: u32,
    shut: bool,
}

const WINDOW: Duration = Duration::from_secs(1);

impl Ceiling {
    /// An empty window.
    pub fn new(now: Instant) -> Self {
        Self { window: now, count: 0, shut: false }
    }

    /// Counts a packet; `false`: drop it.
    pub fn admits(&mut self, now: Instant, rate: u32) -> bool {
        if now.saturating_duration_since(self.window) >= WINDOW {
            *self = Self::new(now);
        }
        if self.shut {
            return false;
        }
        self.count = self.count.saturating_add(1);
        if self.count > rate {
            // The second of being shut out starts now.
            *self = Self { window: now, count: 0, shut: true };
        }
        !self.shut
    }

    /// Shuts the sender out for a second.
    pub fn shut(&mut self, now: Instant) {
        *self = Self { window: now, count: 0, shut: true };
    }
}

/// A limit for many senders together. What is above it is dropped and what is below it passes: nobody shuts others out for
/// longer than the rest of a second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    rate: u32,
    window: Option<Instant>,
    count: u32,
}

impl Budget {
    /// The same, at so many packets a second.
    #[must_use]
    pub fn at(self, rate: u32) -> Self {
        Self { rate, ..self }
    }

    /// Counts a packet; `false`: drop it.
    pub fn admits(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|window| now.saturating_duration_since(window) >= WINDOW) {
            (self.window, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.rate
    }
}

/// The same packet, so often in a second, runs in a circle: a network repeats one at times, a sender that sends twice for
/// safety does, none repeats one five times.
const CIRCLES: u8 = 5;

/// One packet a second, marked to be known when it comes again: a circle too slow for the ceiling is found by it.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    since: Instant,
    seen: u8,
}

impl Mark {
    /// Whether this packet comes from its sender once more and once too often. Packets of no sequence are not looked at.
    pub fn circles(mark: &mut Option<Self>, now: Instant, source: SocketAddr, evidence: &Evidence) -> bool {
        let (Some(ssrc), Some(sequence), Some(timestamp)) =
            (evidence.ssrc, evidence.sequence, evidence.timestamp)
        else {
            return false;
        };
        match mark {
            Some(mark) if now.saturating_duration_since(mark.since) < WINDOW => {
                let again = mark.sequence == sequence
                    && mark.timestamp == timestamp
                    && mark.ssrc == ssrc
                    && mark.source == source;
                mark.seen = mark.seen.saturating_add(u8::from(again));
                again && mark.seen > CIRCLES
            }
            _ => {
                *mark = Some(Self { source, ssrc, sequence, timestamp, since: now, seen: 1 });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ports_are_exact() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let own = OwnPorts::of(["192.0.2.1:0", "192.0.2.1:0", "[2001:db8::1]:0"].map(|text| at(text).ip()));
        let copy = own.clone();
        own.insert(at("192.0.2.1:16384"));
        own.insert(at("[2001:db8::1]:16386"));
        for (text, ours) in [
            ("192.0.2.1:16384", true),
            ("192.0.2.1:16385", false),
            ("192.0.2.1:16386", false),
            ("192.0.2.2:16384", false),
            ("[2001:db8::1]:16386", true),
        ] {
            assert_eq!((own.contains(at(text)), copy.contains(at(text))), (ours, ours), "{text}");
        }
        copy.remove(at("192.0.2.1:16384"));
        assert!(!own.contains(at("192.0.2.1:16384")));
    }

    #[test]
    fn over_the_ceiling_is_a_second_of_silence() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ceiling = Ceiling::new(start);
        for n in 0..100 {
            assert!(ceiling.admits(at(n), 100));
        }
        assert!(!ceiling.admits(at(100), 100));
        assert!(!ceiling.admits(at(1050), 100), "shut out from 100 to 1100");
        assert!(ceiling.admits(at(1100), 100));
    }

    #[test]
    fn a_steady_sender_below_it_is_never_hit() {
        let start = Instant::now();
        let mut ceiling = Ceiling::new(start);
        for n in 0..5_000 {
            assert!(ceiling.admits(start + Duration::from_millis(20 * n), 50));
        }
    }
}
