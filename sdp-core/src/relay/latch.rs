//! Who may send to a port of ours, and where packets to that end go (RFC 7362 §5, decision 14).
//!
//! The first valid sender *holds* the port. Others may be let in beside it, by the sender limit; the receiver is never
//! moved by them. It moves only to a sender that carries the holder's stream on: same address, same SSRC, continuing
//! sequence, from another port, as behind a NAT that forgot.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::command::LegSetup;
use super::loop_guard::Ceiling;
use crate::policy::SenderLimit;

/// What a packet says about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Synchronisation source, where the packet has one.
    pub ssrc: Option<u32>,
    /// Sequence number of RTP.
    pub sequence: Option<u16>,
    /// Whether it may make its sender known: RTP of a payload type that was named, RTCP on its own port.
    pub proves: bool,
}

/// A packet is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// From a known sender.
    Known,
    /// The first valid packet.
    First,
    /// From a sender who takes the holder's place.
    Moved,
    /// From a further sender, its first.
    Extra,
}

/// A packet is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Its address may not send, or the port is locked to another.
    Stranger,
    /// One sender too many.
    Senders,
    /// It proves nothing and nobody knows its sender.
    Payload,
    /// Its sender is over the packet rate.
    Rate,
}

/// How far a sequence number may be ahead to continue a stream (RFC 3550 §A.1, MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3_000;
/// A holder this long silent may be replaced after signalling has spoken.
const SILENT: Duration = Duration::from_millis(400);

/// The senders of one port.
#[derive(Debug)]
pub struct Latch {
    described: Option<SocketAddr>,
    wanted: bool,
    sources: Vec<IpAddr>,
    preferred: Option<IpAddr>,
    latching: bool,
    limit: SenderLimit,
    max_senders: usize,
    max_rate: u32,
    generation: u32,
    /// Signalling has spoken: a silent holder may be replaced.
    open: bool,
    holder: Option<Holder>,
    /// The holder's entry is among them.
    senders: Vec<Sender>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    address: SocketAddr,
    ssrc: Option<u32>,
    sequence: Option<u16>,
    heard: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Sender {
    address: SocketAddr,
    ceiling: Ceiling,
}

impl Latch {
    /// A port nobody has sent to yet. `described` is where the description says this port's packets are to go.
    pub fn new(setup: &LegSetup, described: Option<SocketAddr>) -> Self {
        let max_senders = usize::from(setup.max_senders.clamp(1, 64));
        let mut latch = Self {
            described,
            wanted: setup.wanted,
            sources: Vec::new(),
            preferred: None,
            latching: setup.latching,
            limit: setup.sender_limit,
            max_senders,
            max_rate: 0,
            generation: setup.generation,
            open: false,
            holder: None,
            // Room for all of them now: the packet path does not allocate.
            senders: Vec::with_capacity(64),
        };
        latch.update(setup, described);
        latch
    }

    /// Signalling has changed the leg.
    pub fn update(&mut self, setup: &LegSetup, described: Option<SocketAddr>) {
        let moved = self.described != described || self.sources != setup.sources;
        if moved {
            self.holder = None;
        }
        if moved || self.generation != setup.generation {
            let holder = self.holder.map(|holder| holder.address);
            self.senders.retain(|sender| Some(sender.address) == holder);
            self.open = self.holder.is_some();
        }
        self.described = described;
        self.wanted = setup.wanted;
        self.sources.clone_from(&setup.sources);
        self.preferred = setup.preferred;
        self.latching = setup.latching;
        self.limit = setup.sender_limit;
        self.max_senders = usize::from(setup.max_senders.clamp(1, 64));
        self.max_rate = setup.max_rate;
        self.generation = setup.generation;
    }

    /// Where packets to this end go.
    pub fn destination(&self) -> Option<SocketAddr> {
        if !self.wanted {
            return None;
        }
        self.holder.filter(|_| self.latching).map(|holder| holder.address).or(self.described)
    }

    /// How many senders were let in.
    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    /// Judges a packet from `source`.
    ///
    /// # Errors
    /// The [`Denial`] that is to be counted.
    pub fn judge(
        &mut self,
        now: Instant,
        source: SocketAddr,
        evidence: Evidence,
    ) -> Result<Admission, Denial> {
        let ip = source.ip();
        let unfit = ip.is_multicast() || ip.is_unspecified() || source.port() == 0;
        if unfit || !(self.sources.is_empty() || self.sources.contains(&ip)) {
            return Err(Denial::Stranger);
        }
        // Who was described needs no other proof, such as RTCP beside RTP from an end that only listens.
        let proves = evidence.proves || self.described == Some(source);
        let evidence = Evidence { proves, ..evidence };
        let known = self.senders.iter().position(|sender| sender.address == source);
        let admission = match (self.holder, known) {
            (Some(holder), _) if holder.address == source => Admission::Known,
            (Some(holder), _) if self.takes_over(now, &holder, source, evidence) => Admission::Moved,
            (_, Some(_)) if self.holder.is_some() || !evidence.proves => Admission::Known,
            (None, _) if evidence.proves => Admission::First,
            (None, _) => return Err(Denial::Payload),
            (Some(holder), _) => self.extra(&holder, source, evidence)?,
        };
        let at = self.seat(now, source, known, admission);
        let rate = self.max_rate;
        if !self.senders.get_mut(at).is_some_and(|sender| sender.ceiling.admits(now, rate)) {
            return Err(Denial::Rate);
        }
        self.note(now, source, evidence, admission);
        Ok(admission)
    }

    /// Whether `source` takes the holder's place.
    fn takes_over(&self, now: Instant, holder: &Holder, source: SocketAddr, evidence: Evidence) -> bool {
        if !evidence.proves {
            return false;
        }
        let same_ip = holder.address.ip() == source.ip();
        // The phone's own address beats that of a stranger who was first (`any`).
        if !same_ip && self.preferred == Some(source.ip()) {
            return true;
        }
        if self.open && now.saturating_duration_since(holder.heard) >= SILENT {
            return true;
        }
        let continues = match (holder.sequence, evidence.sequence) {
            (Some(last), Some(next)) => (1..=MAX_DROPOUT).contains(&next.wrapping_sub(last)),
            (None, None) => true,
            _ => false,
        };
        self.limit != SenderLimit::Lock
            && same_ip
            && holder.ssrc.is_some()
            && holder.ssrc == evidence.ssrc
            && continues
    }

    /// A sender beside the holder.
    fn extra(&self, holder: &Holder, source: SocketAddr, evidence: Evidence) -> Result<Admission, Denial> {
        match self.limit {
            SenderLimit::Lock => Err(Denial::Stranger),
            SenderLimit::LockIp if holder.address.ip() != source.ip() => Err(Denial::Stranger),
            _ if !evidence.proves => Err(Denial::Payload),
            // Who was described is never shut out by those who were not.
            _ if self.senders.len() >= self.max_senders && self.described != Some(source) => {
                Err(Denial::Senders)
            }
            _ => Ok(Admission::Extra),
        }
    }

    /// The sender's entry. A move takes over the old holder's, so that a phone behind a forgetful NAT fills no places; who
    /// comes when all are taken gets the place of the last who is not the holder.
    fn seat(
        &mut self,
        now: Instant,
        source: SocketAddr,
        known: Option<usize>,
        admission: Admission,
    ) -> usize {
        if let Some(at) = known {
            return at;
        }
        let entry = Sender { address: source, ceiling: Ceiling::new(now) };
        let holder = self.holder.map(|holder| holder.address);
        let full = self.senders.len() >= self.max_senders;
        let at = match admission {
            Admission::Moved => self.senders.iter().position(|sender| Some(sender.address) == holder),
            _ if full => self.senders.iter().rposition(|sender| Some(sender.address) != holder),
            _ => None,
        };
        if let Some(place) = at.and_then(|at| self.senders.get_mut(at)) {
            *place = entry;
        } else {
            self.senders.push(entry);
        }
        at.unwrap_or(self.senders.len() - 1)
    }

    fn note(&mut self, now: Instant, source: SocketAddr, evidence: Evidence, admission: Admission) {
        let taken = matches!(admission, Admission::First | Admission::Moved);
        if taken {
            self.holder = Some(Holder { address: source, ssrc: None, sequence: None, heard: now });
            self.open = false;
        }
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.address == source) else { return };
        holder.heard = now;
        self.open = false;
        if evidence.proves {
            // A late packet does not turn the sequence back.
            let late = holder.ssrc == evidence.ssrc
                && matches!((holder.sequence, evidence.sequence), (Some(last), Some(next)) if next.wrapping_sub(last) > u16::MAX / 2);
            if !late {
                holder.sequence = evidence.sequence;
            }
            holder.ssrc = evidence.ssrc;
        }
    }
}

#[cfg(test)]
mod tests;
