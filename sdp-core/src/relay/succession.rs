//! When another source carries on the stream of the one who holds a port.
//!
//! Behind a NAT that forgot, a phone's packets come from another port from one moment to the next: the old source falls
//! silent, and never again sends a sequence number that the new one has reached. A neighbour who copies the stream looks the
//! same packet by packet, but not in time: the holder goes on speaking. So a move waits for the holder's silence, a little
//! longer than its packet interval, and for several packets of the new source with none of the holder's between them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::latch::Evidence;

/// How far a sequence number may be ahead to continue a stream (RFC 3550 §A.1, MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3_000;
/// The same of UDPTL, which has no SSRC to tell streams apart and numbers each packet (T.38 §9.1).
const MAX_UDPTL_DROPOUT: u16 = 100;
/// The least silence of a holder before its stream may move.
const LEAST: Duration = Duration::from_millis(80);
/// The most, however rarely it speaks.
const MOST: Duration = Duration::from_millis(400);
/// Above so many packet intervals, for jitter.
const MARGIN: Duration = Duration::from_millis(20);
/// The silence before a rival may take over.
const RIVAL: Duration = Duration::from_secs(2);
/// The silence of RTCP, which speaks every five seconds or so (RFC 3550 §6.2).
const RTCP: Duration = Duration::from_secs(5);
/// Packets of the new source since the holder's last.
const IN_A_ROW: u8 = 3;
/// Packets of the holder behind the new source's: more than the network disorders.
const OVERLAP: u8 = 8;
/// How long a displaced holder has its place back for the asking.
const RETURN: Duration = Duration::from_secs(30);
/// Packets it asks with.
const RETURNS: u8 = 2;

/// Who holds a port.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// Where it sends from.
    pub address: SocketAddr,
    /// When it spoke last.
    pub heard: Instant,
    ssrc: Option<u32>,
    sequence: Option<u16>,
    /// Between two packets that follow each other, about.
    interval: Duration,
}

impl Holder {
    /// One that has said nothing yet.
    pub fn new(now: Instant, address: SocketAddr) -> Self {
        Self { address, heard: now, ssrc: None, sequence: None, interval: Duration::from_millis(20) }
    }

    /// What it sends with.
    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Learns from a packet of its own.
    pub fn note(&mut self, now: Instant, evidence: &Evidence) {
        let since = now.saturating_duration_since(self.heard);
        self.heard = now;
        // DTLS is no part of the stream.
        if !evidence.proves || (evidence.ssrc.is_none() && evidence.sequence.is_none()) {
            return;
        }
        let ahead = ahead(self.sequence, evidence.sequence);
        let same = self.ssrc == evidence.ssrc;
        if same && ahead == Some(1) {
            self.interval = (self.interval * 3 + since.min(MOST)) / 4;
        }
        // A late packet does not turn the sequence back.
        if !(same && ahead.is_some_and(|ahead| ahead > u16::MAX / 2)) {
            self.sequence = evidence.sequence;
        }
        self.ssrc = evidence.ssrc;
    }

    /// Whether a packet from elsewhere could be the next of this stream.
    fn continues(&self, evidence: &Evidence) -> bool {
        follows(self.ssrc, self.sequence, evidence)
    }

    fn pause(&self) -> Duration {
        if self.sequence.is_none() { RTCP } else { (self.interval * 3 + MARGIN).clamp(LEAST, MOST) }
    }
}

/// Who may come after the holder, and who was before it.
#[derive(Debug, Default)]
pub struct Succession {
    heir: Option<Heir>,
    /// Boxed: few ends ever move, and each port would have room for one.
    displaced: Option<Box<Displaced>>,
    /// Who had borrowed the place.
    borrower: Option<SocketAddr>,
}

/// A source that seems to carry the holder's stream on.
#[derive(Debug, Clone, Copy)]
struct Heir {
    address: SocketAddr,
    sequence: Option<u16>,
    /// Its packets since the holder's last.
    count: u8,
    /// The holder's packets since its first.
    overlap: u8,
}

#[derive(Debug, Clone, Copy)]
struct Displaced {
    holder: Holder,
    since: Instant,
    count: u8,
}

impl Succession {
    /// Whether the sender of this packet, not the holder but of its address, takes the holder's place now.
    pub fn inherits(
        &mut self,
        now: Instant,
        holder: &Holder,
        source: SocketAddr,
        rival: bool,
        evidence: &Evidence,
    ) -> bool {
        if let Some(displaced) = self.displaced.as_mut().filter(|one| one.holder.address == source)
            && displaced.holder.continues(evidence)
            && now.saturating_duration_since(displaced.since) < RETURN
        {
            displaced.holder.note(now, evidence);
            displaced.count += 1;
            return displaced.count >= RETURNS;
        }
        if !holder.continues(evidence) {
            return false;
        }
        let heir = match &mut self.heir {
            Some(heir) if heir.address == source => heir,
            other => {
                other.insert(Heir { address: source, sequence: evidence.sequence, count: 0, overlap: 0 })
            }
        };
        heir.count = heir.count.saturating_add(1);
        let wanted = if evidence.sequence.is_none() { 1 } else { IN_A_ROW };
        let rival = rival || self.borrower == Some(source);
        let pause = if rival { holder.pause().max(RIVAL) } else { holder.pause() };
        heir.count >= wanted && now.saturating_duration_since(holder.heard) >= pause
    }

    /// The holder, as it was before this packet of its own, speaks. Gives who has thereby shown itself a rival: the holder
    /// has reached its sequence, or goes on too long to be late.
    pub fn holder_speaks(&mut self, holder: &Holder, evidence: &Evidence) -> Option<SocketAddr> {
        let heir = self.heir.as_mut()?;
        heir.count = 0;
        heir.overlap += 1;
        let reached = follows_or_is(heir.sequence, evidence.sequence)
            && follows(holder.ssrc, holder.sequence, evidence);
        let rival = reached || heir.overlap >= OVERLAP;
        let address = heir.address;
        if rival {
            self.heir = None;
        }
        rival.then_some(address)
    }

    /// The place went from `before` to `to`.
    pub fn moved(&mut self, now: Instant, before: Option<Holder>, to: SocketAddr) {
        self.heir = None;
        if self.displaced.take().is_some_and(|displaced| displaced.holder.address == to) {
            self.borrower = before.map(|holder| holder.address);
        } else {
            self.displaced = before.map(|holder| Box::new(Displaced { holder, since: now, count: 0 }));
        }
    }
}

/// How far the second number is ahead of the first.
fn ahead(last: Option<u16>, next: Option<u16>) -> Option<u16> {
    Some(next?.wrapping_sub(last?))
}

fn follows_or_is(last: Option<u16>, next: Option<u16>) -> bool {
    ahead(last, next).is_none_or(|ahead| ahead <= MAX_DROPOUT)
}

fn follows(ssrc: Option<u32>, sequence: Option<u16>, evidence: &Evidence) -> bool {
    let most = if evidence.ssrc.is_some() { MAX_DROPOUT } else { MAX_UDPTL_DROPOUT };
    let on = match (sequence, evidence.sequence) {
        (Some(last), Some(next)) => (1..=most).contains(&next.wrapping_sub(last)),
        (None, None) => evidence.ssrc.is_some(),
        _ => false,
    };
    on && ssrc == evidence.ssrc
}
