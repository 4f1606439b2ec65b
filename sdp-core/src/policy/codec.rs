//! Which RTP codecs may be named (SDP-15).

use thiserror::Error;

use crate::sdp::{Lines, Media, attribute};

/// An entry of the list that names no codec.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is not a codec: expected NAME, NAME/CLOCK or !NAME")]
pub struct BadCodec(pub String);

/// A codec by name, and by clock rate where several share the name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Codec {
    name: String,
    clock: Option<u32>,
}

impl Codec {
    fn is(&self, name: &[u8], clock: Option<u32>) -> bool {
        self.name.as_bytes().eq_ignore_ascii_case(name) && (self.clock.is_none() || self.clock == clock)
    }
}

/// The codecs that remain in offers and answers. `telephone-event` (RFC 4733) and `CN` (RFC 3389) are no codecs of their own
/// and remain unless they are denied; `rtx` (RFC 4588) goes with what it repeats.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Codecs {
    /// Empty: all that are not denied.
    allowed: Vec<Codec>,
    denied: Vec<Codec>,
}

/// A set of payload types.
pub(crate) type Types = u128;

/// The set with this one in it.
pub(crate) fn bit(payload_type: u8) -> Types {
    1u128.checked_shl(payload_type.into()).unwrap_or(0)
}

impl Codecs {
    /// Reads a list: `PCMU`, `L16/44100`, `!telephone-event` (denied); case does not matter.
    ///
    /// # Errors
    /// The first entry that is none.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, BadCodec> {
        let mut codecs = Self::default();
        for entry in entries {
            let bad = || BadCodec(entry.as_ref().to_owned());
            let (denied, text) = match entry.as_ref().strip_prefix('!') {
                Some(text) => (true, text),
                None => (false, entry.as_ref()),
            };
            let (name, clock) = match text.split_once('/') {
                Some((name, clock)) => {
                    let clock = clock.parse().ok().filter(|clock: &u32| *clock > 0).ok_or_else(bad)?;
                    (name, Some(clock))
                }
                None => (text, None),
            };
            // The token of RFC 8866 §9.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(bad());
            }
            let list = if denied { &mut codecs.denied } else { &mut codecs.allowed };
            list.push(Codec { name: name.to_owned(), clock });
        }
        Ok(codecs)
    }

    pub(crate) fn denies(&self, name: &[u8], clock: Option<u32>) -> bool {
        self.denied.iter().any(|codec| codec.is(name, clock))
    }

    fn allows(&self, name: &[u8], clock: Option<u32>) -> bool {
        let beside = || name.eq_ignore_ascii_case(b"telephone-event") || name.eq_ignore_ascii_case(b"CN");
        let listed = || self.allowed.iter().any(|codec| codec.is(name, clock));
        !self.denies(name, clock) && (self.allowed.is_empty() || beside() || listed())
    }

    /// The payload types of a line that go: those of its formats that may not be named. `description` is what the line was
    /// read from.
    pub(crate) fn removed(&self, description: &[u8], media: &Media<'_>) -> Types {
        let named: Types = media.payload_types().fold(0, |all, payload_type| all | bit(payload_type));
        let mut mapped: Types = 0;
        let mut allowed: Types = 0;
        let mut rtx: Types = 0;
        for (attribute, payload_type, value) in attributes(description, media) {
            // The first one counts where there are two.
            if attribute != b"rtpmap:" || mapped & bit(payload_type) != 0 {
                continue;
            }
            mapped |= bit(payload_type);
            let (name, clock) = encoding(value);
            if name.eq_ignore_ascii_case(b"rtx") && !self.denies(name, clock) {
                rtx |= bit(payload_type);
            } else if self.allows(name, clock) {
                allowed |= bit(payload_type);
            }
        }
        for payload_type in media.payload_types().filter(|payload_type| mapped & bit(*payload_type) == 0) {
            // Static types need no rtpmap (RFC 3551 §6); a dynamic one without it is nothing that could be listed.
            let known = of_number(payload_type);
            let fits = known.map_or(self.allowed.is_empty(), |(name, clock)| self.allows(name, Some(clock)));
            allowed |= if fits { bit(payload_type) } else { 0 };
        }
        for (attribute, payload_type, value) in attributes(description, media) {
            if attribute == b"fmtp:" && rtx & bit(payload_type) != 0 {
                let repeats = associated(value).is_some_and(|other| named & allowed & bit(other) != 0);
                allowed |= if repeats { bit(payload_type) } else { 0 };
            }
        }
        named & !allowed
    }
}

/// `rtpmap`, `fmtp` and the like of a line.
pub(crate) fn attributes<'a>(
    description: &'a [u8],
    media: &Media<'_>,
) -> impl Iterator<Item = (&'a [u8], u8, &'a [u8])> {
    let section = description.get(media.start..media.end).unwrap_or_default();
    Lines::new(section)
        .flatten()
        .filter(|line| line.kind == b'a')
        .filter_map(|line| attribute::of_payload(line.value))
}

/// Name and clock rate of an rtpmap's value: `opus/48000/2`.
pub(crate) fn encoding(value: &[u8]) -> (&[u8], Option<u32>) {
    let mut parts = value.split(|b| *b == b'/');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let clock = parts.next().and_then(|clock| std::str::from_utf8(clock).ok()?.trim().parse().ok());
    (name, clock)
}

/// `apt=` of an rtx format (RFC 4588 §8.1).
fn associated(value: &[u8]) -> Option<u8> {
    value
        .split(|b| matches!(b, b';' | b' '))
        .find_map(|parameter| attribute::payload_type(parameter.strip_prefix(b"apt=")?))
}

/// The static payload types (RFC 3551 §6).
fn of_number(payload_type: u8) -> Option<(&'static [u8], u32)> {
    Some(match payload_type {
        0 => (b"PCMU", 8000),
        3 => (b"GSM", 8000),
        4 => (b"G723", 8000),
        5 => (b"DVI4", 8000),
        6 => (b"DVI4", 16000),
        7 => (b"LPC", 8000),
        8 => (b"PCMA", 8000),
        9 => (b"G722", 8000),
        10 | 11 => (b"L16", 44100),
        12 => (b"QCELP", 8000),
        13 => (b"CN", 8000),
        14 => (b"MPA", 90000),
        15 => (b"G728", 8000),
        16 => (b"DVI4", 11025),
        17 => (b"DVI4", 22050),
        18 => (b"G729", 8000),
        25 => (b"CelB", 90000),
        26 => (b"JPEG", 90000),
        28 => (b"nv", 90000),
        31 => (b"H261", 90000),
        32 => (b"MPV", 90000),
        33 => (b"MP2T", 90000),
        34 => (b"H263", 90000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::{Limits, Sdp};

    fn left(entries: &[&str], media: &str) -> Vec<u8> {
        let text = format!("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n{media}");
        let sdp = Sdp::parse(text.as_bytes(), &Limits::default()).unwrap();
        let removed = Codecs::parse(entries).unwrap().removed(sdp.bytes, &sdp.media[0]);
        sdp.media[0].payload_types().filter(|payload_type| removed & bit(*payload_type) == 0).collect()
    }

    const AUDIO: &str = "m=audio 4000 RTP/AVP 9 0 8 18 96 101 13\na=rtpmap:96 opus/48000/2\na=rtpmap:8 PCMA/8000\n\
        a=rtpmap:101 telephone-event/8000\n";

    #[test]
    fn names_numbers_and_what_stands_beside() {
        assert_eq!(left(&["pcmu"], AUDIO), [0, 101, 13]);
        assert_eq!(left(&["PCMU", "Opus/48000", "PCMA/16000"], AUDIO), [0, 96, 101, 13]);
        assert_eq!(left(&["PCMU", "!CN", "!telephone-event"], AUDIO), [0]);
        assert_eq!(left(&["!G729"], AUDIO), [9, 0, 8, 96, 101, 13]);
        assert_eq!(left(&["G726-32"], AUDIO), [101, 13]);
        assert_eq!(left(&[], AUDIO), [9, 0, 8, 18, 96, 101, 13]);
    }

    #[test]
    fn the_map_says_more_than_the_number() {
        let media = "m=audio 4000 RTP/AVP 0 8\na=rtpmap:0 G729/8000\na=rtpmap:8 PCMU/8000\na=rtpmap:8 X/1\n";
        assert_eq!(left(&["PCMU"], media), [8]);
    }

    #[test]
    fn repetition_goes_with_what_it_repeats() {
        let media = "m=video 4000 RTP/AVPF 96 97 98 99 100\na=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\n\
            a=fmtp:97 apt=96\na=rtpmap:98 H264/90000\na=rtpmap:99 rtx/90000\na=fmtp:99 apt=98;rtx-time=500\n";
        assert_eq!(left(&["H264"], media), [98, 99]);
        assert_eq!(left(&["VP8"], media), [96, 97]);
        assert_eq!(left(&["VP8", "!rtx"], media), [96]);
        assert_eq!(left(&["!VP8"], media), [98, 99, 100], "nobody denied what has no name");
    }

    #[test]
    fn entries_that_name_no_codec() {
        for entry in ["", "!", "PCMU/", "PCMU/0", "PCMU/x", "a b", "PCMU/8000/1", "/8000"] {
            assert_eq!(Codecs::parse(&[entry]), Err(BadCodec(entry.to_owned())));
        }
        assert!(Codecs::parse(&["G726-32", "!L16/44100", "x.y+z"]).is_ok());
    }
}
