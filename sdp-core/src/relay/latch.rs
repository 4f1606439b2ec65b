//! Who may send to a port of ours, and where packets to that end go (RFC 7362 §5, decision 14).
//!
//! The first valid sender *holds* the port. Others may be let in beside it, by the sender limit; the receiver is never
//! moved by them. It moves only to a sender that carries the holder's stream on (same address, same SSRC, continuing
//! sequence, from another port, as behind a NAT that forgot) and only once the holder has fallen silent: who copies a
//! stream that still speaks is a *rival*, and waits long. A holder that was displaced in a pause and speaks again has its
//! place back at once.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::command::LegSetup;
use super::loop_guard::{Ceiling, Mark};
use super::succession::{Holder, Succession};
use crate::policy::SenderLimit;

/// What a packet says about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Synchronisation source, where the packet has one.
    pub ssrc: Option<u32>,
    /// Sequence number of RTP, or of UDPTL.
    pub sequence: Option<u16>,
    /// Timestamp of RTP.
    pub timestamp: Option<u32>,
    /// Whether it may make its sender known: RTP of a payload type that was named, RTCP on its own port.
    pub proves: bool,
}

/// A packet is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// From the holder.
    Holder,
    /// From a known sender beside the holder.
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
    /// The very same packet comes again and again from this sender: it runs in a circle.
    Loop,
}

/// A holder this long silent may be replaced after signalling has spoken.
const SILENT: Duration = Duration::from_millis(400);
/// For so long after a description that names another port the old one may still speak: a phone moves when it has read the
/// answer.
const FAREWELL: Duration = Duration::from_secs(2);
/// The same without a word of signalling, in lock mode, once, by its own address (MED-07).
const LATE: Duration = Duration::from_secs(2);

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
    /// The port that the description names.
    named: u16,
    /// It names another one now: the holder is about to leave, and does not close what is open by what it still says.
    leaves: bool,
    /// Until then.
    farewell: Option<Instant>,
    /// A locked leg may choose a sender of the same address anew, once.
    late: bool,
    holder: Option<Holder>,
    succession: Succession,
    mark: Option<Mark>,
    /// The holder's entry is among them.
    senders: Vec<Sender>,
}

#[derive(Debug, Clone, Copy)]
struct Sender {
    address: SocketAddr,
    ceiling: Ceiling,
    /// It spoke while the holder did, in the holder's name.
    rival: bool,
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
            named: setup.named,
            leaves: false,
            farewell: None,
            late: setup.late_relatch,
            holder: None,
            succession: Succession::default(),
            mark: None,
            // The usual end has one sender, and one that moves keeps its place. A second allocates, and no more than
            // `max_senders` ever do; room for all of them ahead would be most of a call's memory.
            senders: Vec::with_capacity(1),
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
            self.succession = Succession::default();
            self.open = self.holder.is_some();
            self.late = setup.late_relatch;
            self.leaves = self.open && self.named != 0 && setup.named != 0 && self.named != setup.named;
            self.farewell = None;
        }
        self.named = setup.named;
        self.described = described;
        self.wanted = setup.wanted;
        self.sources.clone_from(&setup.sources);
        self.preferred = setup.preferred;
        self.latching = setup.latching;
        self.limit = setup.sender_limit;
        self.max_senders = usize::from(setup.max_senders.clamp(1, 64));
        self.max_rate = setup.max_rate;
        self.late &= setup.late_relatch;
        self.generation = setup.generation;
    }

    /// Where packets to this end go.
    pub fn destination(&self) -> Option<SocketAddr> {
        if !self.wanted {
            return None;
        }
        self.holder.filter(|_| self.latching).map(|holder| holder.address).or(self.described)
    }

    /// Whether this is where its end was described.
    pub fn is_described(&self, source: SocketAddr) -> bool {
        self.described == Some(source)
    }

    /// Whether a report with this SSRC may come from the end that holds this port of RTP: from its address, in the name it
    /// sends with (RFC 3550 §6.4). While nobody holds it, anybody's may.
    pub fn vouches(&self, source: IpAddr, ssrc: u32) -> bool {
        self.holder
            .is_none_or(|holder| holder.address.ip() == source && holder.ssrc().is_none_or(|own| own == ssrc))
    }

    /// Whether this is who holds the port.
    pub fn is_held_by(&self, source: SocketAddr) -> bool {
        self.holder.is_some_and(|holder| holder.address == source)
    }

    /// Whether who holds the port sends in this name.
    pub fn is_holders_name(&self, ssrc: u32) -> bool {
        self.holder.is_some_and(|holder| holder.ssrc() == Some(ssrc))
    }

    /// The senders that were let in.
    pub fn senders(&self) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
        self.senders.iter().map(|sender| sender.address)
    }

    /// Somebody at `source` has shown that signalling knows it (a connectivity check with our password, RFC 8445 §7.3): it is
    /// let in, and with `nominated` packets to this end go there. `None`: its address may not send, or places are wanting.
    pub fn prove(&mut self, now: Instant, source: SocketAddr, nominated: bool) -> Option<Admission> {
        if self.unfit(source) {
            return None;
        }
        let known = self.senders.iter().position(|sender| sender.address == source);
        let admission = match self.holder {
            Some(holder) if holder.address == source => return Some(Admission::Holder),
            None => Admission::First,
            Some(_) if nominated => Admission::Moved,
            Some(_) if known.is_some() => return Some(Admission::Known),
            Some(_) if self.limit != SenderLimit::Multiple || self.senders.len() >= self.max_senders => {
                return None;
            }
            Some(_) => Admission::Extra,
        };
        self.seat(now, source, known, admission);
        self.note(
            now,
            source,
            Evidence { ssrc: None, sequence: None, timestamp: None, proves: false },
            admission,
        );
        Some(admission)
    }

    /// Whether nothing from there would be let in, whatever it says: [`Latch::judge`] would call it a stranger's.
    pub fn is_closed_to(&self, now: Instant, source: SocketAddr) -> bool {
        if self.unfit(source) {
            return true;
        }
        let Some(holder) = self.holder else { return false };
        let same_ip = holder.address.ip() == source.ip();
        let known = || self.senders.iter().any(|sender| sender.address == source);
        let locked = match self.limit {
            SenderLimit::Lock => !same_ip || !self.late,
            SenderLimit::LockIp => !same_ip,
            SenderLimit::Multiple => false,
        };
        let invited = self.described == Some(source) || self.preferred == Some(source.ip());
        let replaced = self.open && now.saturating_duration_since(holder.heard) >= SILENT;
        locked && !invited && !replaced && !known()
    }

    fn unfit(&self, source: SocketAddr) -> bool {
        let ip = source.ip();
        let nobody = ip.is_multicast() || ip.is_unspecified() || source.port() == 0;
        nobody || !(self.sources.is_empty() || self.sources.contains(&ip))
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
        if self.unfit(source) {
            return Err(Denial::Stranger);
        }
        // Who was described needs no other proof, such as RTCP beside RTP from an end that only listens.
        let proves = evidence.proves || self.described == Some(source);
        let evidence = Evidence { proves, ..evidence };
        let known = self.senders.iter().position(|sender| sender.address == source);
        let admission = match (self.holder, known) {
            (Some(holder), _) if holder.address == source => Admission::Holder,
            (Some(holder), _) if self.takes_over(now, &holder, source, known, evidence) => Admission::Moved,
            (_, Some(_)) if self.holder.is_some() || !evidence.proves => Admission::Known,
            (None, _) if evidence.proves => Admission::First,
            (None, _) => return Err(Denial::Payload),
            (Some(holder), _) => self.extra(&holder, source, evidence)?,
        };
        let at = self.seat(now, source, known, admission);
        let rate = self.max_rate;
        let Some(sender) = self.senders.get_mut(at) else { return Err(Denial::Senders) };
        if !sender.ceiling.admits(now, rate) {
            return Err(Denial::Rate);
        }
        if Mark::circles(&mut self.mark, now, source, &evidence) {
            sender.ceiling.shut(now);
            return Err(Denial::Loop);
        }
        self.note(now, source, evidence, admission);
        Ok(admission)
    }

    /// Whether `source` takes the holder's place.
    fn takes_over(
        &mut self,
        now: Instant,
        holder: &Holder,
        source: SocketAddr,
        known: Option<usize>,
        evidence: Evidence,
    ) -> bool {
        if !evidence.proves {
            return false;
        }
        let same_ip = holder.address.ip() == source.ip();
        // An end that is not behind NAT sends from where it said. One late packet from where it was before, or another fork at
        // the same address, must not lock it out.
        if !self.latching && self.described == Some(source) {
            return true;
        }
        // The phone's own address beats that of a stranger who was first (`any`).
        if !same_ip && self.preferred == Some(source.ip()) {
            return true;
        }
        let silent = now.saturating_duration_since(holder.heard);
        if self.open && silent >= SILENT {
            return true;
        }
        if self.limit == SenderLimit::Lock {
            let late = self.late && same_ip && silent >= LATE;
            self.late &= !late;
            return late;
        }
        let rival = known.and_then(|at| self.senders.get(at)).is_some_and(|sender| sender.rival);
        same_ip && self.succession.inherits(now, holder, source, rival, &evidence)
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
        let holder = self.holder.map(|holder| holder.address);
        let moved = admission == Admission::Moved;
        if let Some(at) = known {
            let left = self.senders.iter().position(|sender| moved && Some(sender.address) == holder);
            let Some(left) = left else { return at };
            self.senders.swap_remove(left);
            // The last entry has filled the gap.
            return if at == self.senders.len() { left } else { at };
        }
        let entry = Sender { address: source, ceiling: Ceiling::new(now), rival: false };
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
        match admission {
            Admission::First => {
                self.holder = Some(Holder::new(now, source));
                (self.open, self.leaves) = (false, false);
            }
            Admission::Moved => {
                let before = self.holder.replace(Holder::new(now, source));
                self.succession.moved(now, before, source);
                (self.open, self.leaves) = (false, false);
            }
            Admission::Holder => {
                if let Some(holder) = self.holder
                    && let Some(rival) = self.succession.holder_speaks(&holder, &evidence)
                    && let Some(sender) = self.senders.iter_mut().find(|sender| sender.address == rival)
                {
                    sender.rival = true;
                }
                self.leaves = self.leaves && now < *self.farewell.get_or_insert(now + FAREWELL);
                self.open &= self.leaves;
            }
            Admission::Known | Admission::Extra => return,
        }
        if let Some(holder) = self.holder.as_mut() {
            holder.note(now, &evidence);
        }
    }
}

#[cfg(test)]
mod tests;
