//! Loss and jitter of the RTP that comes from one end, by the algorithms of RFC 3550 appendix A.

use std::time::Instant;

use super::report::Reception;
use crate::rtp::clock::Clocks;
use crate::rtp::packet::Header;

/// RFC 3550 §A.1: further ahead is a restart, not a loss.
const MAX_DROPOUT: u32 = 3_000;
/// RFC 3550 §A.1: so far behind is late, further is a restart.
const MAX_MISORDER: u32 = 100;
/// A transit that changes by more is a clock that was set, not jitter.
const MAX_TRANSIT: u64 = 10_000_000_000;
/// SSRCs measured at a time: an end that sends keys beside its audio has two.
const SOURCES: usize = 2;

/// What comes from one end.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    first: Option<Source>,
    /// Boxed: hardly an end has a second one.
    second: Option<Box<Source>>,
    /// The last one heard.
    last: usize,
    /// Of sources that made room for others, and of sequences that were restarted.
    before: Totals,
    ssrcs: [Option<u32>; 4],
    ssrc_count: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    received: u64,
    expected: u64,
    jitter_sum: u64,
    jitter_max: u64,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// The first sequence number.
    base: u32,
    /// The highest, with its wraps in the upper half.
    highest: u32,
    received: u32,
    /// Where a restarted sequence would go on (RFC 3550 §A.1, `bad_seq`).
    restart: Option<u16>,
    payload_type: u8,
    /// Of the payload type; 0: unknown.
    rate: u32,
    /// The packet before, and when it came; `None`: nothing to compare with.
    arrival: Option<(Instant, u32)>,
    /// Nanoseconds, times 16 (RFC 3550 §A.8).
    jitter: u64,
    /// Its sum over the packets, nanoseconds.
    jitter_sum: u64,
    jitter_max: u64,
}

impl Source {
    fn new(header: &Header) -> Self {
        let first = u32::from(header.sequence);
        Self {
            ssrc: header.ssrc,
            base: first,
            highest: first,
            received: 0,
            restart: None,
            payload_type: u8::MAX,
            rate: 0,
            arrival: None,
            jitter: 0,
            jitter_sum: 0,
            jitter_max: 0,
        }
    }

    /// Counts a sequence number (RFC 3550 §A.1); `false`: it belongs nowhere yet. `totals` takes what ends by a restart.
    fn count(&mut self, sequence: u16, totals: &mut Totals) -> bool {
        let ahead = u32::from(sequence.wrapping_sub(self.highest as u16));
        if ahead < MAX_DROPOUT {
            self.highest = self.highest.wrapping_add(ahead);
        } else if ahead <= 0x1_0000 - MAX_MISORDER {
            // Two in a row that go on elsewhere: the other side has restarted.
            if self.restart.replace(sequence.wrapping_add(1)) != Some(sequence) {
                return false;
            }
            totals.add(self);
            (self.base, self.highest) = (sequence.into(), sequence.into());
            (self.received, self.jitter_sum, self.arrival) = (0, 0, None);
        }
        self.restart = None;
        self.received = self.received.wrapping_add(1);
        true
    }

    /// RFC 3550 §A.8, in nanoseconds instead of timestamp units: at 8 kHz one unit is more than many a network's jitter.
    fn measure(&mut self, now: Instant, timestamp: u32) {
        if let Some((before, last)) = self.arrival.replace((now, timestamp))
            && self.rate > 0
        {
            let passed = now.saturating_duration_since(before);
            let passed = i64::try_from(passed.as_secs().min(100) * 1_000_000_000).unwrap_or(i64::MAX)
                + i64::from(passed.subsec_nanos());
            let ticks = i64::from(timestamp.wrapping_sub(last).cast_signed());
            let difference = passed.abs_diff(ticks * 1_000_000_000 / i64::from(self.rate));
            if difference < MAX_TRANSIT {
                self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
                self.jitter_max = self.jitter_max.max(self.jitter);
            }
        }
        self.jitter_sum += self.jitter >> 4;
    }

    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.base)) + 1
    }
}

impl Totals {
    fn add(&mut self, source: &Source) {
        self.received += u64::from(source.received);
        self.expected += source.expected();
        self.jitter_sum += source.jitter_sum;
        self.jitter_max = self.jitter_max.max(source.jitter_max);
    }
}

impl Meter {
    /// Measures a packet.
    pub fn record(&mut self, now: Instant, header: &Header, clocks: &Clocks) {
        let is = |at: usize, meter: &Self| meter.source(at).is_some_and(|one| one.ssrc == header.ssrc);
        if !is(self.last, self) {
            self.last = match (0..SOURCES).find(|at| is(*at, self)) {
                Some(known) => known,
                None => self.begin(header),
            };
        }
        let source = if self.last == 0 { self.first.as_mut() } else { self.second.as_deref_mut() };
        let Some(source) = source else { return };
        if source.payload_type != header.payload_type {
            // Another clock, perhaps: nothing to compare with.
            let rate = clocks.rate(header.payload_type).unwrap_or(0);
            if rate != source.rate {
                source.arrival = None;
            }
            (source.payload_type, source.rate) = (header.payload_type, rate);
        }
        if source.count(header.sequence, &mut self.before) {
            source.measure(now, header.timestamp);
        }
    }

    /// A place for a new SSRC: an empty one, or that of the one not heard last.
    fn begin(&mut self, header: &Header) -> usize {
        let empty = (0..SOURCES).find(|at| self.source(*at).is_none());
        let at = empty.unwrap_or((self.last + 1) % SOURCES);
        if let Some(place) = self.ssrcs.get_mut(self.ssrc_count as usize) {
            *place = Some(header.ssrc);
        }
        self.ssrc_count = self.ssrc_count.saturating_add(1);
        if let Some(left) = self.source(at).copied() {
            self.before.add(&left);
        }
        match at {
            0 => self.first = Some(Source::new(header)),
            _ => self.second = Some(Box::new(Source::new(header))),
        }
        at
    }

    fn source(&self, at: usize) -> Option<&Source> {
        if at == 0 { self.first.as_ref() } else { self.second.as_deref() }
    }

    /// The sums so far.
    pub fn reception(&self) -> Reception {
        let mut totals = self.before;
        (0..SOURCES).filter_map(|at| self.source(at)).for_each(|source| totals.add(source));
        let last = self.source(self.last);
        let micros = |nanos: u64| u32::try_from(nanos / 1_000).unwrap_or(u32::MAX);
        Reception {
            received: totals.received,
            expected: totals.expected,
            jitter_us: last.map_or(0, |source| micros(source.jitter >> 4)),
            // The first packet of a source has none before it.
            jitter_mean_us: micros(
                totals
                    .jitter_sum
                    .checked_div(totals.received.saturating_sub(self.ssrc_count.into()))
                    .unwrap_or(0),
            ),
            jitter_max_us: micros(totals.jitter_max >> 4),
            ssrcs: self.ssrcs,
            ssrc_count: self.ssrc_count,
            payload_type: last.map(|source| source.payload_type),
        }
    }
}

#[cfg(test)]
mod tests;
