//! Clock rates of RTP payload types.

use serde::{Deserialize, Serialize};

/// The rates that `rtpmap` gives; static payload types have theirs by number (RFC 3551 §6).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clocks(Vec<(u8, u32)>);

impl Clocks {
    /// Notes a payload type's rate in Hz. 0: it is not to be measured, such as telephone-event, whose timestamp stands still
    /// for the length of a key (RFC 4733 §2.3.5).
    pub fn insert(&mut self, payload_type: u8, rate: u32) {
        match self.0.iter_mut().find(|(known, _)| *known == payload_type) {
            Some((_, known)) => *known = rate,
            None if payload_type < 128 => self.0.push((payload_type, rate)),
            None => {}
        }
    }

    /// What was noted, 0 included.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        self.0.iter().copied()
    }

    /// The rate of a payload type, where it is known and measured. A look through a list: to be asked when the type
    /// changes, not a packet.
    pub fn rate(&self, payload_type: u8) -> Option<u32> {
        let named = self.0.iter().find(|(known, _)| *known == payload_type).map(|(_, rate)| *rate);
        named.or_else(|| fixed(payload_type)).filter(|rate| *rate > 0)
    }
}

impl FromIterator<(u8, u32)> for Clocks {
    fn from_iter<T: IntoIterator<Item = (u8, u32)>>(rates: T) -> Self {
        let mut clocks = Self::default();
        rates.into_iter().for_each(|(payload_type, rate)| clocks.insert(payload_type, rate));
        clocks
    }
}

/// RFC 3551 table 4 and 5. G.722 (9) counts 8000 although it samples at 16000 (§4.5.2); 13, comfort noise, is left out:
/// it comes seldom and not in step (RFC 3389 §4).
fn fixed(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        16 => Some(11_025),
        17 => Some(22_050),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_before_static_and_nought_is_not_measured() {
        let clocks: Clocks = [(96, 48_000), (101, 0), (0, 16_000), (200, 8_000)].into_iter().collect();
        let cases = [
            (96, Some(48_000)),
            (101, None),
            (0, Some(16_000)),
            (8, Some(8_000)),
            (9, Some(8_000)),
            (13, None),
            (31, Some(90_000)),
            (97, None),
            (200, None),
        ];
        for (payload_type, rate) in cases {
            assert_eq!(clocks.rate(payload_type), rate, "{payload_type}");
        }
    }
}
