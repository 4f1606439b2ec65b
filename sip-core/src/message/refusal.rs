//! The answer to bytes that are no message, where they hold enough to be answered.

use bytes::Bytes;

use super::build::{push_end, push_row};
use super::{Name, ParseError};
use crate::grammar::{number, push_number, split_comma, trim};
use crate::header::{Header, Via};

/// The response to bytes that [`Message::parse`](super::Message::parse) or the framer refused: the status of
/// `error`, a reason that names the field, and the Via, From, To, Call-ID and CSeq rows that can be read.
///
/// `None`, hence silence, where the bytes are a response or an ACK, or hold no readable top Via.
pub fn refusal(bytes: &[u8], error: &ParseError) -> Option<Bytes> {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let mut lines = lines(&bytes[start..]);
    let start_line = lines.next()?;
    if start_line.starts_with(b"SIP/") || start_line.starts_with(b"ACK ") {
        return None;
    }
    let mut rows = Vec::new();
    let mut via_seen = false;
    let mut seen = [false; 4];
    for line in lines.take(256) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = Name::classify(trim(&line[..colon]));
        let value = trim(&line[colon + 1..]);
        let single = match name {
            Name::Via => {
                if !via_seen {
                    Via::parse(split_comma(value).0).ok()?;
                    via_seen = true;
                }
                push_row(&mut rows, b"Via", value);
                continue;
            }
            Name::From => 0,
            Name::To => 1,
            Name::CallId => 2,
            Name::CSeq if cseq_of_ack(value) => return None,
            Name::CSeq => 3,
            _ => continue,
        };
        if !std::mem::replace(&mut seen[single], true) {
            push_row(&mut rows, name.as_str().as_bytes(), value);
        }
    }
    if !via_seen {
        return None;
    }
    let status = error.status();
    let reason = match status {
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        _ => "Bad Request",
    };
    let mut out = b"SIP/2.0 ".to_vec();
    push_number(&mut out, u32::from(status));
    out.extend_from_slice(format!(" {reason} ({})\r\n", error.field()).as_bytes());
    out.extend_from_slice(&rows);
    push_end(&mut out, b"");
    Some(out.into())
}

fn cseq_of_ack(value: &[u8]) -> bool {
    value.strip_suffix(b"ACK").is_some_and(|rest| number(trim(rest)).is_some())
}

/// Lines up to the first empty one, folds kept in them. Each ends at LF, with or without CR: nothing here is
/// forwarded, and what is copied into the answer is cleaned.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            match memchr::memchr(b'\n', rest.get(end..)?) {
                None => {
                    let line = rest;
                    rest = &[];
                    return (!trim(line).is_empty()).then_some(line);
                }
                Some(lf) => end += lf + 1,
            }
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (line, more) = rest.split_at(end);
        rest = more;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then_some(line)
    })
}
