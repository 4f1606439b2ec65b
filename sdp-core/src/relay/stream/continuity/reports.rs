//! RTCP beside a stream that is continued: what an end says of what it hears is turned into what the source has sent
//! ([`Continuity::hears`]), and what a source says of itself into what the end is sent ([`Continuity::speaks`]).
//!
//! A part of a compound that can't be turned so is taken out of it. Nothing grows, and padding goes.

use super::{Continuity, Thread, is_before};

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const NAMES: u8 = 202;
const APPLICATION: u8 = 204;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED: u8 = 207;
/// Octets of a part's head with the SSRC of its author, of what a sender says of itself, and of a report block.
const HEAD: usize = 8;
const SENDER: usize = 20;
const BLOCK: usize = 24;
/// Octets of the head of feedback, which names whom it is about as well.
const ABOUT: usize = 12;
/// In the first word: there is padding.
const PADDED: u32 = 1 << 29;
/// In the first octet: how many blocks or chunks there are.
const COUNT: u8 = 0x1f;

impl Continuity {
    /// Turns a compound that comes from the end: what it says of this stream becomes what it is to the source.
    pub fn hears(&mut self, compound: &mut Vec<u8>) {
        let Some(thread) = &mut self.thread else { return };
        each(compound, |part| match kind(part) {
            SENDER_REPORT => thread.blocks(part, HEAD + SENDER),
            RECEIVER_REPORT => thread.blocks(part, HEAD),
            _ if thread.is_as_sent() => Some(part.len()),
            TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => thread.feedback(part),
            EXTENDED => thread.extended(part),
            _ => Some(part.len()),
        });
    }

    /// Turns a compound for the end: whoever `holds` the port speaks in the name of this stream. `false`: nothing is left.
    ///
    /// A BYE is taken out: who follows carries the stream on, and when it ends signalling says so.
    pub fn speaks(&self, compound: &mut Vec<u8>, holds: bool) -> bool {
        let Some(thread) = &self.thread else { return true };
        each(compound, |part| match kind(part) {
            SENDER_REPORT => thread.sender_report(part, holds),
            RECEIVER_REPORT | TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK | EXTENDED => {
                let author = thread.author(word(part, 4)?, holds)?;
                put(part, 4, author);
                Some(part.len())
            }
            NAMES => thread.names(part, holds),
            APPLICATION => {
                let author = thread.own(word(part, 4)?, holds)?;
                put(part, 4, author);
                Some(part.len())
            }
            _ => None,
        });
        !compound.is_empty()
    }
}

impl Thread {
    /// Its packets leave under the numbers that they came with.
    fn is_as_sent(&self) -> bool {
        self.ssrc == self.source.ssrc && self.source.ahead == 0
    }

    /// The source's SSRC, for one of whom the end has heard. Who is let in beside the source keeps his name.
    fn source_of(&self, heard: u32) -> u32 {
        if heard == self.ssrc { self.source.ssrc } else { heard }
    }

    /// The source's number of a packet, from the one that it left with, of which the end may have seen fewer wraps. `None`: it
    /// was another source's, or has not left.
    fn number_of(&self, heard: u32) -> Option<u32> {
        if self.source.ahead == 0 {
            return Some(heard);
        }
        let left = self.left(heard).filter(|left| !is_before(*left, self.source.first));
        left.map(|left| left.wrapping_sub(self.source.ahead))
    }

    /// The number that it left with, wraps included; `None`: it has not left.
    fn left(&self, heard: u32) -> Option<u32> {
        let back = (self.highest as u16).wrapping_sub(heard as u16);
        (back <= u16::MAX / 2).then(|| self.highest.wrapping_sub(back.into()))
    }

    /// Report blocks (RFC 3550 §6.4.1). What a profile puts behind them goes.
    fn blocks(&mut self, part: &mut [u8], from: usize) -> Option<usize> {
        let mut to = from;
        let mut kept = 0;
        for at in 0..usize::from(part.first()? & COUNT) {
            let from = from + BLOCK * at;
            let Some(mut block) = part.get(from..).and_then(|rest| rest.first_chunk::<BLOCK>()).copied()
            else {
                break;
            };
            if self.block(&mut block).is_some() {
                part.get_mut(to..)?.first_chunk_mut().map(|place| *place = block)?;
                to += BLOCK;
                kept += 1;
            }
        }
        let flags = part.first_mut()?;
        *flags = *flags & !COUNT | kept;
        Some(to)
    }

    fn block(&mut self, block: &mut [u8; BLOCK]) -> Option<()> {
        if word(block, 0)? != self.ssrc {
            return Some(());
        }
        // 24 bits with a sign: shifted up and down again, the sign spreads.
        let losses = word(block, 4)?;
        let lost = (losses << 8).cast_signed() >> 8;
        let heard = word(block, 8)?;
        let number = self.number_of(heard);
        if number.is_none() {
            self.left(heard)?;
            self.lost_before = lost;
        }
        self.lost = lost;
        let since = (lost - self.lost_before).clamp(-0x80_0000, 0x7f_ffff);
        put(block, 0, self.source.ssrc);
        put(block, 4, losses & 0xff00_0000 | since.cast_unsigned() & 0xff_ffff);
        put(block, 8, number?);
        Some(())
    }

    /// Feedback (RFC 4585 §6.1): about the source, or with more in it, about several.
    fn feedback(&self, part: &mut [u8]) -> Option<usize> {
        let about = word(part, 8)?;
        put(part, 8, self.source_of(about));
        let kept = match (kind(part), part.first()? & 0x1f) {
            // Generic NACK (§6.2.1): numbers of packets, each with a mask of the next.
            (TRANSPORT_FEEDBACK, 1) if about == self.ssrc => compact(part, ABOUT, |entry| {
                let lost = word(entry, 0)?;
                let number = self.number_of(lost >> 16);
                put(entry, 0, number.unwrap_or(0) << 16 | lost & 0xffff);
                Some((4, number.is_some()))
            })?,
            // TMMBR, TMMBN and FIR (RFC 5104 §4.2.1, §4.3.1): entries that begin with whom they are about.
            (TRANSPORT_FEEDBACK, 3 | 4) | (PAYLOAD_FEEDBACK, 4) => compact(part, ABOUT, |entry| {
                put(entry, 0, self.source_of(word(entry, 0)?));
                Some((8, true))
            })?,
            // Pictures, slices and references (§6.3) are named by the codec.
            (PAYLOAD_FEEDBACK, 1..=3) => return Some(part.len()),
            _ if about != self.ssrc && about != 0 => return Some(part.len()),
            _ => return None,
        };
        (kept > ABOUT).then_some(kept)
    }

    /// Extended reports (RFC 3611 §4).
    fn extended(&self, part: &mut [u8]) -> Option<usize> {
        let kept = compact(part, HEAD, |rest| {
            let octets = 4 + 4 * (word(rest, 0)? & 0xffff) as usize;
            Some((octets, self.extended_block(rest.get_mut(..octets)?).is_some()))
        })?;
        (kept > HEAD).then_some(kept)
    }

    fn extended_block(&self, block: &mut [u8]) -> Option<()> {
        match block.first()? {
            // Losses, duplicates, arrivals, summary: the numbers of the first packet and of the one behind the last.
            1..=3 | 6 => {
                if word(block, 4)? == self.ssrc {
                    let range = word(block, 8)?;
                    let first = self.number_of(range >> 16)?;
                    let end = (range as u16).wrapping_sub(self.source.ahead as u16);
                    put(block, 4, self.source.ssrc);
                    put(block, 8, first << 16 | u32::from(end));
                }
            }
            // When it was here.
            4 => {}
            // When the times of others came.
            5 => {
                for entry in block.get_mut(4..)?.chunks_exact_mut(12) {
                    put(entry, 0, self.source_of(word(entry, 0)?));
                }
            }
            // Voice metrics.
            7 => put(block, 4, self.source_of(word(block, 4)?)),
            _ => return None,
        }
        Some(())
    }

    /// Under which name an end reports: as it has one stream, it has one name.
    fn author(&self, ssrc: u32, holds: bool) -> Option<u32> {
        if holds || ssrc == self.source.ssrc { Some(self.ssrc) } else { self.own(ssrc, false) }
    }

    /// Under which name a source tells of itself. `None`: it was replaced, or does not speak yet, or has a name that is taken.
    fn own(&self, ssrc: u32, holds: bool) -> Option<u32> {
        if ssrc == self.source.ssrc {
            return Some(self.ssrc);
        }
        (!holds && ssrc != self.ssrc).then_some(ssrc)
    }

    /// What a sender says of itself (RFC 3550 §6.4.1). Of a source that does not speak, what it hears is left.
    fn sender_report(&self, part: &mut [u8], holds: bool) -> Option<usize> {
        let ssrc = word(part, 4)?;
        let author = self.author(ssrc, holds)?;
        put(part, 4, author);
        if ssrc == self.source.ssrc {
            put(part, 16, word(part, 16)?.wrapping_add(self.source.shift));
            put(part, 20, self.packets);
            put(part, 24, self.octets);
        } else if holds {
            *part.get_mut(1)? = RECEIVER_REPORT;
            let blocks = part.len().checked_sub(HEAD + SENDER)?;
            part.copy_within(HEAD + SENDER.., HEAD);
            return Some(HEAD + blocks);
        }
        Some(part.len())
    }

    /// Names (RFC 3550 §6.5): chunks of an SSRC and items, filled up to whole words by one nought at least.
    fn names(&self, part: &mut [u8], holds: bool) -> Option<usize> {
        let mut kept = 0;
        let octets = compact(part, 4, |rest| {
            let mut end = 4;
            while *rest.get(end)? != 0 {
                end += 2 + usize::from(*rest.get(end + 1)?);
            }
            let own = self.own(word(rest, 0)?, holds);
            if let Some(own) = own {
                put(rest, 0, own);
                kept += 1;
            }
            Some((end / 4 * 4 + 4, own.is_some()))
        })?;
        let flags = part.first_mut()?;
        *flags = *flags & !COUNT | kept & COUNT;
        (kept > 0).then_some(octets)
    }
}

/// Gives each part of a compound to `edit`, which says how many octets of it stay; `None`: none.
fn each(compound: &mut Vec<u8>, mut edit: impl FnMut(&mut [u8]) -> Option<usize>) {
    let (mut at, mut to) = (0, 0);
    while let Some(words) = word(compound.get(at..).unwrap_or_default(), 0) {
        let octets = 4 + 4 * (words & 0xffff) as usize;
        let Some(part) = compound.get_mut(at..).and_then(|rest| rest.get_mut(..octets)) else { break };
        let padding = padding(part);
        let kept = part.get_mut(..octets - padding).and_then(&mut edit).filter(|kept| *kept <= octets);
        if let Some(kept) = kept {
            let head = word(part, 0).unwrap_or(0) & !(PADDED | 0xffff);
            put(part, 0, head | (kept / 4).saturating_sub(1) as u32);
            compound.copy_within(at..at + kept, to);
            to += kept;
        }
        at += octets;
    }
    // Names of nobody and nothing else: less than a compound is.
    compound.truncate(if to < HEAD { 0 } else { to });
}

/// Octets of padding behind a part (RFC 3550 §6.4.1).
fn padding(part: &[u8]) -> usize {
    let padded = word(part, 0).is_some_and(|head| head & PADDED != 0);
    let count = part.last().copied().map_or(0, usize::from);
    if padded && count % 4 == 0 && count + 4 <= part.len() { count } else { 0 }
}

/// Walks the entries of a part that begin at `from`. `edit` gets an entry with all behind it and says how long it is, and whether
/// it stays. How long the part is then; `None`: it is broken.
fn compact(
    part: &mut [u8],
    from: usize,
    mut edit: impl FnMut(&mut [u8]) -> Option<(usize, bool)>,
) -> Option<usize> {
    let (mut at, mut to) = (from, from);
    while at < part.len() {
        let rest = part.get_mut(at..)?;
        let (octets, stays) = edit(rest)?;
        if octets == 0 || octets > rest.len() {
            return None;
        }
        if stays {
            part.copy_within(at..at + octets, to);
            to += octets;
        }
        at += octets;
    }
    Some(to)
}

fn kind(part: &[u8]) -> u8 {
    part.get(1).copied().unwrap_or(0)
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn put(octets: &mut [u8], at: usize, word: u32) {
    if let Some(place) = octets.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = word.to_be_bytes();
    }
}
