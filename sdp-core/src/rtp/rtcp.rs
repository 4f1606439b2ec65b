//! RTCP (RFC 3550 §6.4).

/// The first packet of a compound whose lengths were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Packet type: 200 sender report, 201 receiver report, …
    pub kind: u8,
    /// Synchronisation source of the sender.
    pub ssrc: u32,
}

/// Whether the second octet is an RTCP packet type (RFC 5761 §4: 192 to 223).
pub fn is_type(octet: u8) -> bool {
    (192..=223).contains(&octet)
}

impl Header {
    /// Reads a compound packet: each part of version 2, of an RTCP type, within the datagram, and the parts fill it; only
    /// the last may be padded, within itself and to whole words (RFC 3550 §A.2, §6.4.1). With `secure` only the first part's header is in clear (RFC 3711 §3.4) and checked. Reduced-size
    /// RTCP (RFC 5506) is accepted: the first type is not asked to be a report.
    pub fn parse(bytes: &[u8], secure: bool) -> Option<Self> {
        let [_, kind, _, _, ssrc @ ..] = *bytes.first_chunk::<8>()?;
        let mut rest = bytes;
        loop {
            let [flags, part, length @ ..] = *rest.first_chunk::<4>()?;
            if flags >> 6 != 2 || !is_type(part) {
                return None;
            }
            let words = 4 * usize::from(u16::from_be_bytes(length));
            rest = rest.get(4 + words..)?;
            let padding = bytes.last().copied().map_or(0, usize::from);
            let padded = flags & 0x20 != 0;
            if padded && !secure && !(rest.is_empty() && (4..=words).contains(&padding) && padding % 4 == 0) {
                return None;
            }
            if rest.is_empty() || secure {
                return Some(Self { kind, ssrc: u32::from_be_bytes(ssrc) });
            }
        }
    }
}

/// What a compound in clear reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// The middle 32 bits of its sender report's NTP time, by which reports refer to it (RFC 3550 §6.4.1, LSR).
    pub sender_report: Option<u32>,
    /// Its first report block.
    pub block: Option<Block>,
}

/// A report block (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// In 256ths, since the report before.
    pub fraction_lost: u8,
    /// In all; 24 bits with a sign.
    pub lost: i32,
    /// In timestamp units.
    pub jitter: u32,
    /// Which sender report came last; 0: none.
    pub last_report: u32,
    /// How long ago, in 65536ths of a second.
    pub delay: u32,
}

impl Said {
    /// Reads a compound that [`Header::parse`] has taken.
    pub fn read(bytes: &[u8]) -> Self {
        let mut said = Self::default();
        let mut rest = bytes;
        while let Some([flags, kind, length @ ..]) = rest.first_chunk::<4>() {
            let words = 4 * usize::from(u16::from_be_bytes(*length));
            let Some((part, after)) = rest.get(4..).and_then(|part| part.split_at_checked(words)) else {
                break;
            };
            // Sender report: SSRC, NTP time, RTP time, two counts. Receiver report: SSRC.
            let blocks = match kind {
                200 => {
                    let time = part.get(6..).and_then(|time| time.first_chunk());
                    let time = time.map(|time| u32::from_be_bytes(*time));
                    said.sender_report = said.sender_report.or(time);
                    part.get(24..)
                }
                201 => part.get(4..),
                _ => None,
            };
            if flags & 0x1f > 0 && said.block.is_none() {
                said.block = blocks.and_then(Block::read);
            }
            rest = after;
        }
        said
    }
}

impl Block {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [_, word, _, jitter, last_report, delay] = *bytes.first_chunk::<24>()?.as_chunks::<4>().0 else {
            return None;
        };
        let [fraction_lost, lost @ ..] = word;
        let [high, middle, low] = lost;
        Some(Self {
            fraction_lost,
            // Shifted up and down again: the sign spreads.
            lost: i32::from_be_bytes([high, middle, low, 0]) >> 8,
            jitter: u32::from_be_bytes(jitter),
            last_report: u32::from_be_bytes(last_report),
            delay: u32::from_be_bytes(delay),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 5];
    const NAMES: [u8; 12] = [0x81, 202, 0, 2, 0, 0, 0, 5, 1, 0, 0, 0];

    #[test]
    fn compound() {
        let both = [&REPORT[..], &NAMES].concat();
        assert_eq!(Header::parse(&both, false), Some(Header { kind: 201, ssrc: 5 }));
        assert_eq!(Header::parse(&NAMES, false), Some(Header { kind: 202, ssrc: 5 }));
    }

    #[test]
    fn broken_lengths() {
        let both = [&REPORT[..], &NAMES].concat();
        for cut in (0..20).filter(|cut| *cut != 8) {
            assert_eq!(Header::parse(&both[..cut], false), None, "{cut}");
        }
        let mut long = both.clone();
        long.push(0);
        assert_eq!(Header::parse(&long, false), None, "octets behind the last part");
        let mut version = both;
        version[8] = 0x41;
        assert_eq!(Header::parse(&version, false), None, "a later part of another version");
    }

    #[test]
    fn padding_is_the_last_part_s_and_within_it() {
        let padded = |count: u8| [&[0xa0, 201, 0, 2, 0, 0, 0, 5], &[0, 0, 0, count][..]].concat();
        for (count, verdict) in [(4, true), (8, true), (0, false), (3, false), (12, false)] {
            assert_eq!(Header::parse(&padded(count), false).is_some(), verdict, "{count}");
        }
        let early = [&padded(4)[..], &REPORT].concat();
        assert_eq!(Header::parse(&early, false), None);
        assert!(Header::parse(&padded(3), true).is_some(), "under SRTCP it is encrypted");
    }

    #[test]
    fn what_reports_say() {
        let block = [0, 0, 0, 7, 64, 0xff, 0xff, 0xfe, 0, 0, 1, 0, 0, 0, 0, 9, 1, 2, 3, 4, 0, 1, 0, 0];
        let receiver = [&[0x81, 201, 0, 7, 0, 0, 0, 5][..], &block].concat();
        let heard = Block { fraction_lost: 64, lost: -2, jitter: 9, last_report: 0x0102_0304, delay: 65_536 };
        assert_eq!(Said::read(&receiver), Said { sender_report: None, block: Some(heard) });
        let sender = [
            &[0x81, 200, 0, 12, 0, 0, 0, 5, 0xaa, 0xaa, 0x11, 0x22, 0x33, 0x44, 0xbb, 0xbb][..],
            &[0; 12],
            &block,
        ]
        .concat();
        let both = [&sender[..], &NAMES].concat();
        assert!(Header::parse(&both, false).is_some());
        assert_eq!(Said::read(&both), Said { sender_report: Some(0x1122_3344), block: Some(heard) });
        assert_eq!(Said::read(&NAMES), Said::default());
        for cut in 0..both.len() {
            let _ = Said::read(&both[..cut]);
        }
        // A count without blocks.
        assert_eq!(Said::read(&[0x81, 201, 0, 1, 0, 0, 0, 5]).block, None);
    }

    #[test]
    fn secure_checks_the_clear_part() {
        let sealed = [&REPORT[..], &[0xff; 18]].concat();
        assert_eq!(Header::parse(&sealed, false), None);
        assert_eq!(Header::parse(&sealed, true), Some(Header { kind: 201, ssrc: 5 }));
        assert_eq!(Header::parse(&[0x80, 201, 0xff, 0xff, 0, 0, 0, 5], true), None);
    }
}
