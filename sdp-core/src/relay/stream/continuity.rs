//! One stream to an end, whoever speaks in it (MED-12).
//!
//! The first source that speaks gives the stream its SSRC, its sequence and its timestamps, and as long as nobody follows, its
//! packets leave as they came. When another one follows it (transfer, re-INVITE, music on hold) or it begins its sequence
//! anew, the stream goes on: the next sequence number, and a timestamp ahead by the time that has passed. Within a source
//! everything keeps its distance, so that what was lost or overtaken on the way is still seen as that.
//!
//! Only who holds the port (`relay::latch`) speaks. What is let in beside it passes under its own SSRC as on any stream; only
//! when that would be a number of this stream does it not pass. It never changes what is known here.

mod reports;

use std::time::Instant;

use crate::rtp::clock::Clocks;
use crate::rtp::packet::Header;

/// How far a sequence number may be ahead within a source (RFC 3550 §A.1, MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3_000;
/// How far behind (MAX_MISORDER).
const MAX_MISORDER: u16 = 100;
/// Clock of a payload type that says nothing about it: that of most audio.
const RATE: u32 = 8_000;

/// The stream that leaves to one end.
#[derive(Debug, Default)]
pub struct Continuity {
    /// `None`: nobody has spoken.
    thread: Option<Thread>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It leaves as it came.
    AsIs,
    /// It leaves under another number.
    Under(Number),
    /// It does not leave: its number is another packet's.
    Taken,
}

/// What names a packet of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
}

#[derive(Debug)]
struct Thread {
    /// As the end knows it.
    ssrc: u32,
    source: Source,
    /// Who spoke before, and the last sequence number of his own.
    before: Option<(u32, u16)>,
    /// The highest sequence number that has left, with how often it wrapped.
    highest: u32,
    /// The timestamp it left with.
    timestamp: u32,
    /// When that was new: the key of a telephone has the same for as long as it is held (RFC 4733 §2.3.5).
    since: Instant,
    /// Timestamp units from packet to packet.
    step: u32,
    /// Of these so many are a second.
    rate: u32,
    /// Packets that left, and octets of their payload: what sender reports say (RFC 3550 §6.4.1).
    packets: u32,
    octets: u32,
    /// Packets the end has missed in all, as it said last; of these, before this source.
    lost: i32,
    lost_before: i32,
}

/// Who speaks.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// Its first number as it left.
    first: u32,
    /// From its numbers to those that leave.
    ahead: u32,
    /// The same of its timestamps.
    shift: u32,
}

/// Where a packet of the source stands.
enum Place {
    /// Not before the highest.
    Ahead(u32),
    /// Overtaken by others.
    Late(u32),
    /// Nowhere near: its sender has begun anew.
    Elsewhere,
}

impl Continuity {
    /// The number that an RTP packet is to leave under. `holds`: it comes from who holds the port; `octets` are those of its
    /// payload. `clocks` is asked when the source changes.
    pub fn number(
        &mut self,
        now: Instant,
        header: &Header,
        octets: usize,
        holds: bool,
        clocks: &Clocks,
    ) -> Passage {
        let Some(thread) = &mut self.thread else {
            if holds {
                self.thread = Some(Thread::new(now, header, octets, clocks));
            }
            return Passage::AsIs;
        };
        if !holds {
            return thread.beside(header);
        }
        let place = if header.ssrc == thread.source.ssrc {
            thread.place(header.sequence)
        } else if thread.is_left_over(header) {
            return Passage::Taken;
        } else {
            Place::Elsewhere
        };
        let ahead = match place {
            Place::Ahead(at) => at,
            Place::Late(at) if thread.precedes(at) => return Passage::Taken,
            Place::Late(_) => {
                thread.count(octets);
                return thread.under(header);
            }
            Place::Elsewhere => thread.succeed(now, header, clocks),
        };
        thread.advance(now, ahead, header.timestamp);
        thread.count(octets);
        thread.under(header)
    }
}

impl Thread {
    fn new(now: Instant, header: &Header, octets: usize, clocks: &Clocks) -> Self {
        let rate = clocks.rate(header.payload_type).unwrap_or(RATE);
        let first = u32::from(header.sequence);
        let mut thread = Self {
            ssrc: header.ssrc,
            source: Source { ssrc: header.ssrc, first, ahead: 0, shift: 0 },
            before: None,
            highest: first,
            timestamp: header.timestamp,
            since: now,
            // Twenty milliseconds, until two packets say better.
            step: rate / 50,
            rate,
            packets: 0,
            octets: 0,
            lost: 0,
            lost_before: 0,
        };
        thread.count(octets);
        thread
    }

    fn place(&self, sequence: u16) -> Place {
        let leaves = sequence.wrapping_add(self.source.ahead as u16);
        let ahead = leaves.wrapping_sub(self.highest as u16);
        if ahead <= MAX_DROPOUT {
            return Place::Ahead(self.highest.wrapping_add(ahead.into()));
        }
        let behind = ahead.wrapping_neg();
        if behind <= MAX_MISORDER {
            return Place::Late(self.highest.wrapping_sub(behind.into()));
        }
        Place::Elsewhere
    }

    /// Whether this number was in use before the source began.
    fn precedes(&self, leaves: u32) -> bool {
        self.before.is_some() && is_before(leaves, self.source.first)
    }

    /// A late packet of who spoke before: its place went to who speaks now.
    fn is_left_over(&self, header: &Header) -> bool {
        let late = |last: u16| last.wrapping_sub(header.sequence) <= MAX_MISORDER;
        self.before.is_some_and(|(ssrc, last)| ssrc == header.ssrc && late(last))
    }

    /// Of somebody beside who speaks: a phone on its way to another port goes on in its stream, anybody else has his own.
    fn beside(&self, header: &Header) -> Passage {
        if header.ssrc == self.source.ssrc {
            return match self.place(header.sequence) {
                Place::Elsewhere => Passage::Taken,
                Place::Late(at) if self.precedes(at) => Passage::Taken,
                Place::Ahead(_) | Place::Late(_) => self.under(header),
            };
        }
        if header.ssrc == self.ssrc { Passage::Taken } else { Passage::AsIs }
    }

    fn under(&self, header: &Header) -> Passage {
        let number = Number {
            ssrc: self.ssrc,
            sequence: header.sequence.wrapping_add(self.source.ahead as u16),
            timestamp: header.timestamp.wrapping_add(self.source.shift),
        };
        let own = Number { ssrc: header.ssrc, sequence: header.sequence, timestamp: header.timestamp };
        if number == own { Passage::AsIs } else { Passage::Under(number) }
    }

    /// Another source, or the same from another beginning. Its number as it leaves.
    fn succeed(&mut self, now: Instant, header: &Header, clocks: &Clocks) -> u32 {
        let rate = clocks.rate(header.payload_type).unwrap_or(self.rate);
        let ticks = |time: u128| (time * u128::from(rate) / 1_000_000_000) as u32;
        let passed = ticks(now.saturating_duration_since(self.since).as_nanos());
        // Not into what the last packet has said.
        let least = u64::from(self.step) * u64::from(rate) / u64::from(self.rate.max(1));
        let timestamp = self.timestamp.wrapping_add(passed.max(least as u32));
        let next = self.highest.wrapping_add(1);
        let last = (self.highest as u16).wrapping_sub(self.source.ahead as u16);
        self.before = Some((self.source.ssrc, last));
        self.source = Source {
            ssrc: header.ssrc,
            first: next,
            ahead: next.wrapping_sub(header.sequence.into()),
            shift: timestamp.wrapping_sub(header.timestamp),
        };
        (self.step, self.rate) = (least as u32, rate);
        self.lost_before = self.lost;
        next
    }

    /// The packet of this number leaves.
    fn advance(&mut self, now: Instant, leaves: u32, timestamp: u32) {
        let timestamp = timestamp.wrapping_add(self.source.shift);
        let step = timestamp.wrapping_sub(self.timestamp);
        if step != 0 {
            // Two that follow each other, and no pause between them.
            if leaves == self.highest.wrapping_add(1) && leaves != self.source.first && step < self.rate {
                self.step = step;
            }
            (self.timestamp, self.since) = (timestamp, now);
        }
        self.highest = leaves;
    }

    fn count(&mut self, octets: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets as u32);
    }
}

impl Number {
    /// Writes it into the head of a packet (RFC 3550 §5.1).
    pub fn write(&self, packet: &mut [u8]) {
        let Some([_, _, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3]) = packet.first_chunk_mut::<12>() else {
            return;
        };
        [*s0, *s1] = self.sequence.to_be_bytes();
        [*t0, *t1, *t2, *t3] = self.timestamp.to_be_bytes();
        [*i0, *i1, *i2, *i3] = self.ssrc.to_be_bytes();
    }
}

/// Whether a number comes before another, however often both have wrapped.
fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) > u32::MAX / 2
}

#[cfg(test)]
mod tests;
