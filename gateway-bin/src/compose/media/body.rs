//! The session description within a body.

use std::ops::Range;

use bytes::Bytes;
use sdp_core::sdp::multipart;
use sip_core::media::Description;

/// Where the description stands in its body (RFC 5621 §3). `None` for a multipart in which it can't be found, or that
/// seems to have several: passed on, one of them would show the inside.
pub(super) fn part(description: Description<'_>) -> Option<Range<usize>> {
    if !description.is_multipart() {
        return Some(0..description.body.len());
    }
    let found = multipart::find(description.content_type, description.body)?;
    (description.mentions() == 1).then_some(found)
}

/// The body with this in the place of that part.
pub(super) fn with_part(body: &[u8], part: Range<usize>, rewritten: Bytes) -> Bytes {
    let (before, after) =
        (body.get(..part.start).unwrap_or_default(), body.get(part.end..).unwrap_or_default());
    if before.is_empty() && after.is_empty() {
        return rewritten;
    }
    [before, &rewritten, after].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "--b1\r\nContent-Type: application/csta+xml\r\n\r\n<x/>\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nc=IN IP4 10.0.1.50\r\n\r\n--b1--\r\n";

    fn described<'t>(content_type: &'t str, body: &'t str) -> Description<'t> {
        Description { content_type: content_type.as_bytes(), body: body.as_bytes() }
    }

    #[test]
    fn only_the_description_of_a_multipart_changes() {
        let body = described("multipart/mixed;boundary=b1", BODY);
        let found = part(body).unwrap();
        assert_eq!(&BODY[found.clone()], "v=0\r\nc=IN IP4 10.0.1.50\r\n");
        let written = with_part(body.body, found, Bytes::from_static(b"v=0\r\nc=IN IP4 192.0.2.1\r\n"));
        assert_eq!(written, BODY.replace("10.0.1.50", "192.0.2.1").as_bytes());
        let whole = described("application/sdp", "v=0\r\n");
        assert_eq!(part(whole), Some(0..5));
        assert_eq!(with_part(whole.body, 0..5, Bytes::from_static(b"new")), &b"new"[..]);
    }

    #[test]
    fn what_may_show_the_inside_is_refused() {
        let twice = BODY.replace("--b1--", "--b1\r\nContent-Type: application / SDP\r\n\r\nv=0\r\n--b1--");
        for (content_type, body) in [
            ("multipart/mixed;boundary=b2", BODY),
            ("multipart/mixed", BODY),
            ("Multipart / Mixed;boundary=b1", twice.as_str()),
            ("multipart/mixed;boundary=b1", &BODY.replace("application/sdp", "application/ sdp")),
        ] {
            assert_eq!(part(described(content_type, body)), None, "{content_type} {body}");
        }
    }
}
