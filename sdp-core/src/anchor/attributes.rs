//! Attributes that the relay is told of and nobody rewrites: clock rates, and whether packets may be under keys.

use crate::rtp::clock::Clocks;
use crate::sdp::{Lines, Media, Sdp};

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

/// Whether a line has keys for its packets, of a profile in clear too: who knows them may use them (RFC 4568 §7.1.2, RFC 4567).
pub(super) fn is_keyed(sdp: &Sdp<'_>, media: &Media<'_>) -> bool {
    let keyed = |value: &[u8]| value.starts_with(b"crypto:") || value.starts_with(b"key-mgmt:");
    attributes(sdp, media.start, media.end).any(keyed)
}

/// The values of the `a=` lines in a part of a description.
pub(super) fn attributes<'s>(sdp: &Sdp<'s>, from: usize, to: usize) -> impl Iterator<Item = &'s [u8]> {
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
    fn rates_by_rtpmap() {
        let text = "m=audio 4000 RTP/AVP 0 96 101 97 98\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 TELEPHONE-EVENT/8000\r\na=rtpmap:97 x\r\na=rtpmap:98 G726-32/no\r\nm=video 4002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";
        let found = read(text, clocks);
        let rates = |at: usize, types: &[u8]| -> Vec<Option<u32>> {
            types.iter().map(|payload_type| found[at].rate(*payload_type)).collect()
        };
        assert_eq!(rates(0, &[0, 96, 101, 97, 98]), [Some(8_000), Some(48_000), None, None, None]);
        assert_eq!(rates(1, &[99, 96]), [Some(90_000), None]);
    }

    #[test]
    fn keys_of_a_line_in_clear() {
        let text = "m=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\nm=audio 4004 RTP/AVP 0\r\na=key-mgmt:mikey AQ==\r\n";
        assert_eq!(read(text, is_keyed), [false, true, true]);
    }
}
