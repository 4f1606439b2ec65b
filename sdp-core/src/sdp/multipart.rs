//! The description within a `multipart/mixed` body (RFC 2046 §5.1, RFC 5621 §3): where it stands, so that it alone is
//! replaced.

use std::ops::Range;

use memchr::memmem;

/// Where the first `application/sdp` part of a multipart body stands; `None` when the content type is not multipart, has
/// no usable boundary, or no such part is complete.
pub fn find(content_type: &[u8], body: &[u8]) -> Option<Range<usize>> {
    if !content_type.trim_ascii().get(..10)?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let delimiter = [b"--", boundary(content_type)?].concat();
    let mut at = delimiter_line(body, 0, &delimiter)?.end;
    loop {
        let next = delimiter_line(body, at, &delimiter)?;
        let part = at..next.start;
        if let Some(content) = description(body, part) {
            return Some(content);
        }
        if body.get(next.start..next.end)?.trim_ascii_end().ends_with(b"--") {
            return None;
        }
        at = next.end;
    }
}

/// The boundary parameter: 1 to 70 octets (RFC 2046 §5.1.1).
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let parameter = content_type.split(|b| *b == b';').skip(1).find_map(|parameter| {
        let parameter = parameter.trim_ascii();
        let (name, value) = parameter.split_at_checked(memchr::memchr(b'=', parameter)?)?;
        name.trim_ascii()
            .eq_ignore_ascii_case(b"boundary")
            .then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })?;
    let value = parameter.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(parameter);
    (1..=70).contains(&value.len()).then_some(value)
}

/// The next delimiter line from `at`, with the line end before it (which belongs to the delimiter) and its own.
fn delimiter_line(body: &[u8], at: usize, delimiter: &[u8]) -> Option<Range<usize>> {
    let mut from = at;
    loop {
        let found = from + memmem::find(body.get(from..)?, delimiter)?;
        let before = body.get(..found)?;
        let line_end =
            memchr::memchr(b'\n', body.get(found..)?).map_or(body.len(), |length| found + length + 1);
        let rest = body.get(found + delimiter.len()..line_end)?.trim_ascii_end();
        let starts_line = before.is_empty() || before.ends_with(b"\n");
        if starts_line && (rest.is_empty() || rest == b"--") {
            let trimmed = before.strip_suffix(b"\n").unwrap_or(before);
            let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
            return Some(trimmed.len().max(at)..line_end);
        }
        from = found + 1;
    }
}

/// The content of a part that is a description.
fn description(body: &[u8], part: Range<usize>) -> Option<Range<usize>> {
    let bytes = body.get(part.clone())?;
    let mut at = 0;
    let mut is_sdp = false;
    loop {
        let rest = bytes.get(at..)?;
        let length = memchr::memchr(b'\n', rest)? + 1;
        let line = rest.get(..length)?.trim_ascii_end();
        at += length;
        if line.is_empty() {
            return is_sdp.then_some(part.start + at..part.end);
        }
        if let Some((name, value)) = memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
        {
            let value = value.get(1..).unwrap_or_default();
            let media_type = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
            let named = name.trim_ascii().eq_ignore_ascii_case(b"content-type");
            is_sdp |= named && media_type.eq_ignore_ascii_case(b"application/sdp");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"preamble\r\n--one\r\nContent-Type: text/plain\r\n\r\nv=0 --one\r\n--one\r\n\
        content-type : application/SDP; x=y\r\nContent-Disposition: session\r\n\r\nv=0\r\no=x\r\n\r\n--one--\r\n";

    fn part(content_type: &str, body: &[u8]) -> Option<Vec<u8>> {
        find(content_type.as_bytes(), body).map(|range| body[range].to_vec())
    }

    #[test]
    fn the_part_without_its_last_line_end() {
        for content_type in ["multipart/mixed; boundary=one", "Multipart/Mixed;charset=x;Boundary=\"one\""] {
            assert_eq!(part(content_type, BODY), Some(b"v=0\r\no=x\r\n".to_vec()), "{content_type}");
        }
        let lf: Vec<u8> = BODY.iter().copied().filter(|b| *b != b'\r').collect();
        assert_eq!(part("multipart/mixed; boundary=one", &lf), Some(b"v=0\no=x\n".to_vec()));
    }

    #[test]
    fn nothing_to_be_found() {
        for (content_type, body) in [
            ("application/sdp", BODY),
            ("multipart/mixed", BODY),
            ("multipart/mixed; boundary=", BODY),
            ("multipart/mixed; boundary=two", BODY),
            ("multipart/mixed; boundary=one", &BODY[..BODY.len() - 12]),
            ("multipart/mixed; boundary=one", b"--one\r\nContent-Type: text/plain\r\n\r\nx\r\n--one--\r\n"),
            ("multipart/mixed; boundary=one", b"--one--\r\n--one\r\nContent-Type: application/sdp\r\n\r\nx"),
            ("multipart/mixed; boundary=one", b""),
        ] {
            assert_eq!(part(content_type, body), None, "{content_type} {}", body.escape_ascii());
        }
    }
}
