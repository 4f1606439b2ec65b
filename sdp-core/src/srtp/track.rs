//! Where a source is in its numbers, and which of the last 64 came already (RFC 3711 §3.3.1, §3.3.2).

use super::Fault;

/// Sources that are known apart in one direction; of more, the one that came first is forgotten. Of what comes, only who has
/// the key makes one.
const SOURCES: usize = 32;
/// RFC 3711 §3.3.2 wants at least 64.
const WINDOW: u64 = 64;

#[derive(Debug, Clone, Copy)]
struct Track {
    ssrc: u32,
    /// The highest index so far: roll-over counter and sequence number, or SRTCP's own.
    highest: u64,
    /// Bit n: the index n below the highest came.
    seen: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tracks(Vec<Track>);

impl Tracks {
    fn find(&self, ssrc: u32) -> Option<&Track> {
        self.0.iter().find(|track| track.ssrc == ssrc)
    }

    /// The index that a sequence number means: the one nearest to the highest. `None`: before the first.
    pub(super) fn guess(&self, ssrc: u32, sequence: u16) -> Option<u64> {
        let Some(track) = self.find(ssrc) else { return Some(u64::from(sequence)) };
        let (rollover, last) = (track.highest >> 16, track.highest as u16);
        let rollover = if last < 0x8000 {
            if i32::from(sequence) - i32::from(last) > 0x8000 { rollover.checked_sub(1)? } else { rollover }
        } else if i32::from(last) - 0x8000 > i32::from(sequence) {
            rollover + 1
        } else {
            rollover
        };
        Some(rollover << 16 | u64::from(sequence))
    }

    /// Whether this index may still come.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), Fault> {
        let Some(track) = self.find(ssrc) else { return Ok(()) };
        let Some(back) = track.highest.checked_sub(index) else { return Ok(()) };
        if back >= WINDOW || track.seen >> back & 1 == 1 { Err(Fault::Replay) } else { Ok(()) }
    }

    /// It came.
    pub(super) fn note(&mut self, ssrc: u32, index: u64) {
        let Some(track) = self.0.iter_mut().find(|track| track.ssrc == ssrc) else {
            if self.0.len() >= SOURCES {
                self.0.remove(0);
            }
            return self.0.push(Track { ssrc, highest: index, seen: 1 });
        };
        if let Some(back) = track.highest.checked_sub(index) {
            track.seen |= if back < WINDOW { 1 << back } else { 0 };
        } else {
            let ahead = index - track.highest;
            track.seen = if ahead < WINDOW { track.seen << ahead | 1 } else { 1 };
            track.highest = index;
        }
    }
}
