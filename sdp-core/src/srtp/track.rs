//! Where a source is in its numbers, and which of the last 64 came already (RFC 3711 §3.3.1, §3.3.2).

use super::Fault;

/// Sources that are known apart in one direction; of more, the one that spoke least recently is forgotten. Of what comes, only
/// who has the key makes one.
const SOURCES: usize = 32;
/// Sources that were forgotten under one key. They are not taken again: what they have sent could be brought once more, and what
/// is sent in their name would be covered by a key stream that was used (RFC 3711 §9.1).
const FORGOTTEN: usize = 256;
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
pub(super) struct Tracks {
    /// The one that spoke last is the last.
    known: Vec<Track>,
    forgotten: Vec<u32>,
}

impl Tracks {
    /// Goes on behind a number that was told.
    pub(super) fn resumed(last: Option<(u32, u64)>) -> Self {
        let known = last.map(|(ssrc, highest)| Track { ssrc, highest, seen: u64::MAX });
        Self { known: known.into_iter().collect(), forgotten: Vec::new() }
    }

    /// The source that spoke last, and its highest index.
    pub(super) fn last(&self) -> Option<(u32, u64)> {
        self.known.last().map(|track| (track.ssrc, track.highest))
    }

    /// Nobody has spoken yet.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn find(&self, ssrc: u32) -> Option<&Track> {
        self.known.iter().rev().find(|track| track.ssrc == ssrc)
    }

    /// The index that a sequence number means: the one nearest to the highest. `None`: the source is unknown, or it lies before
    /// the first.
    pub(super) fn guess(&self, ssrc: u32, sequence: u16) -> Option<u64> {
        let track = self.find(ssrc)?;
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

    pub(super) fn knows(&self, ssrc: u32) -> bool {
        self.find(ssrc).is_some()
    }

    /// Whether this index may still come.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), Fault> {
        let Some(track) = self.find(ssrc) else {
            let full = self.known.len() >= SOURCES && self.forgotten.len() >= FORGOTTEN;
            return if full || self.forgotten.contains(&ssrc) { Err(Fault::Replay) } else { Ok(()) };
        };
        let Some(back) = track.highest.checked_sub(index) else { return Ok(()) };
        if back >= WINDOW || track.seen >> back & 1 == 1 { Err(Fault::Replay) } else { Ok(()) }
    }

    /// It came.
    pub(super) fn note(&mut self, ssrc: u32, index: u64) {
        let Some(at) = self.known.iter().rposition(|track| track.ssrc == ssrc) else {
            if self.known.len() >= SOURCES {
                self.forgotten.push(self.known.remove(0).ssrc);
            }
            return self.known.push(Track { ssrc, highest: index, seen: 1 });
        };
        if at + 1 < self.known.len() {
            let track = self.known.remove(at);
            self.known.push(track);
        }
        let Some(track) = self.known.last_mut() else { return };
        if let Some(back) = track.highest.checked_sub(index) {
            track.seen |= if back < WINDOW { 1 << back } else { 0 };
        } else {
            let ahead = index - track.highest;
            track.seen = if ahead < WINDOW { track.seen << ahead | 1 } else { 1 };
            track.highest = index;
        }
    }
}
