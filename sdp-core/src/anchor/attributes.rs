//! Attributes that the relay is told of and nobody rewrites: directions and clock rates.

use serde::{Deserialize, Serialize};

use crate::rtp::clock::Clocks;
use crate::sdp::{Lines, Media, Sdp};

/// What an end says it does with a stream (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Direction {
    pub(super) sends: bool,
    pub(super) receives: bool,
}

impl Direction {
    fn parse(value: &[u8]) -> Option<Self> {
        let (sends, receives) = match value {
            b"sendrecv" => (true, true),
            b"sendonly" => (true, false),
            b"recvonly" => (false, true),
            b"inactive" => (false, false),
            _ => return None,
        };
        Some(Self { sends, receives })
    }
}

/// The direction of a stream: its own, else the session's, else both ways.
pub(super) fn direction(sdp: &Sdp<'_>, media: &Media<'_>) -> Direction {
    let first = sdp.media.first().map_or(sdp.bytes.len(), |first| first.start);
    let named = |from: usize, to: usize| attributes(sdp, from, to).find_map(Direction::parse);
    named(media.start, media.end)
        .or_else(|| named(0, first))
        .unwrap_or(Direction { sends: true, receives: true })
}

/// Clock rates by `rtpmap` (RFC 8866 §6.6). Keys and comfort noise are not measured: their timestamps do not go on in step.
pub(super) fn clocks(sdp: &Sdp<'_>, media: &Media<'_>) -> Clocks {
    let maps = attributes(sdp, media.start, media.end).filter_map(|value| value.strip_prefix(b"rtpmap:"));
    maps.filter_map(|map| {
        let (number, encoding) = std::str::from_utf8(map).ok()?.split_once(' ')?;
        let mut parts = encoding.trim().split('/');
        let (name, rate) = (parts.next()?, parts.next()?.parse().ok()?);
        let beside = ["telephone-event", "CN", "tone"].iter().any(|other| name.eq_ignore_ascii_case(other));
        Some((number.parse().ok()?, if beside { 0 } else { rate }))
    })
    .collect()
}

fn attributes<'s>(sdp: &Sdp<'s>, from: usize, to: usize) -> impl Iterator<Item = &'s [u8]> {
    let part = sdp.bytes.get(from..to).unwrap_or_default();
    Lines::new(part).map_while(Result::ok).filter(|line| line.kind == b'a').map(|line| line.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Limits;

    fn read<T>(text: &str, ask: impl Fn(&Sdp<'_>, &Media<'_>) -> T) -> Vec<T> {
        let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{text}");
        let sdp = Sdp::parse(text.as_bytes(), &Limits::default()).unwrap();
        sdp.media.iter().map(|media| ask(&sdp, media)).collect()
    }

    #[test]
    fn a_stream_s_own_direction_before_the_session_s() {
        let text =
            "a=sendonly\r\nm=audio 4000 RTP/AVP 0\r\na=inactive\r\nm=video 4002 RTP/AVP 31\r\nb=AS:1\r\n";
        let found = read(text, direction);
        assert_eq!(found[0], Direction { sends: false, receives: false });
        assert_eq!(found[1], Direction { sends: true, receives: false });
        assert_eq!(
            read("m=audio 4000 RTP/AVP 0\r\n", direction)[0],
            Direction { sends: true, receives: true }
        );
    }

    #[test]
    fn rates_by_rtpmap() {
        let text = "m=audio 4000 RTP/AVP 0 96 101 97 98\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 TELEPHONE-EVENT/8000\r\na=rtpmap:97 x\r\na=rtpmap:98 G726-32/no\r\nm=video 4002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";
        let found = read(text, clocks);
        let rates = |at: usize, types: &[u8]| -> Vec<Option<u32>> {
            types.iter().map(|payload_type| found[at].rate(*payload_type)).collect()
        };
        assert_eq!(rates(0, &[0, 96, 101, 97, 98]), [Some(8_000), Some(48_000), None, None, None]);
        assert_eq!(rates(1, &[99, 96]), [Some(90_000), None]);
    }
}
