//! From bytes to an indexed message: one pass over the head, offsets only, nothing copied.

use super::{Limits, Name};
use crate::grammar::{is_lws, is_token, number, skip_token};

/// Why bytes are no message. Offsets count from the start line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Nothing but line ends: a keep-alive (RFC 5626 §3.5.1), not a message.
    #[error("no message: only line ends")]
    Empty,
    /// The head has no empty line at its end.
    #[error("the head does not end")]
    Incomplete,
    /// More octets than [`Limits::message`].
    #[error("message above {limit} octets")]
    TooLarge {
        /// The limit exceeded.
        limit: usize,
    },
    /// Neither `Method SP Request-URI SP SIP-Version` nor `SIP-Version SP code SP reason` (RFC 3261 §7.1, §7.2).
    #[error("malformed start line at {offset}")]
    StartLine {
        /// Where it went wrong.
        offset: u32,
    },
    /// The Request-URI is longer than [`Limits::uri`].
    #[error("Request-URI above {limit} octets")]
    UriTooLong {
        /// The limit exceeded.
        limit: usize,
    },
    /// A row without `token ":"`.
    #[error("malformed header field name at {offset}")]
    RowName {
        /// Start of the row.
        offset: u32,
    },
    /// A row above [`Limits::row_bytes`].
    #[error("{name} at {offset} is too long")]
    RowTooLong {
        /// The field.
        name: Name,
        /// Start of the row.
        offset: u32,
    },
    /// More rows than [`Limits::rows`].
    #[error("more than {limit} header fields")]
    TooManyRows {
        /// The limit exceeded.
        limit: usize,
    },
    /// A LF without its CR.
    #[error("bare LF at {offset}")]
    BareLf {
        /// The LF.
        offset: u32,
    },
    /// A control character, NUL or a CR without its LF, outside of a quoted pair.
    #[error("control character at {offset}")]
    Control {
        /// The field it stands in; `None` in the start line.
        name: Option<Name>,
        /// The byte.
        offset: u32,
    },
    /// No Content-Length on a stream (RFC 3261 §20.14).
    #[error("no Content-Length on a stream")]
    ContentLengthMissing,
    /// Content-Length is not one number of digits below 2^32.
    #[error("malformed Content-Length at {offset}")]
    ContentLength {
        /// Start of the value.
        offset: u32,
    },
    /// A second Content-Length, be it equal or not.
    #[error("second Content-Length at {offset}")]
    ContentLengthTwice {
        /// Start of the second value.
        offset: u32,
    },
    /// A datagram with fewer octets than its Content-Length says (RFC 3261 §18.3).
    #[error("body of {got} octets where Content-Length says {expected}")]
    BodyShort {
        /// What Content-Length says.
        expected: u32,
        /// What is there.
        got: usize,
    },
}

impl ParseError {
    /// The status an answer should carry: 400, 413 or 414.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::UriTooLong { .. } => 414,
            _ => 400,
        }
    }

    /// The field at fault, as an answer should name it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::StartLine { .. } => "start line",
            Self::UriTooLong { .. } => "Request-URI",
            Self::RowName { .. } | Self::TooManyRows { .. } => "header field",
            Self::RowTooLong { name, .. } => named(*name),
            Self::Control { name: Some(name), .. } => named(*name),
            Self::Control { name: None, .. } => "start line",
            Self::BareLf { .. } | Self::Empty | Self::Incomplete => "line end",
            Self::TooLarge { .. } => "message size",
            Self::ContentLengthMissing
            | Self::ContentLength { .. }
            | Self::ContentLengthTwice { .. }
            | Self::BodyShort { .. } => "Content-Length",
        }
    }
}

fn named(name: Name) -> &'static str {
    if name == Name::Other { "header field" } else { name.as_str() }
}

/// One row of the head. A row reaches to the start of the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowIndex {
    pub(super) start: u32,
    pub(super) value_start: u32,
    pub(super) value_end: u32,
    /// A longer name makes its row too long.
    pub(super) name_len: u16,
    pub(super) name: Name,
}

/// The row table of a message; reused through [`Message::into_table`](super::Message::into_table) it costs no
/// allocation.
#[derive(Clone, Default, Debug)]
pub struct Table(pub(super) Vec<RowIndex>);

/// What the start line says. Offsets into the message.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartLine {
    Request { method_end: u32, uri_end: u32 },
    Response { status: u16 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) start_line: StartLine,
    /// End of the last row = start of the empty line.
    pub(super) rows_end: u32,
    pub(super) body_start: u32,
    pub(super) content_length: Option<u32>,
    pub(super) folded: bool,
    /// A control character in a quoted pair: legal, and never forwarded.
    pub(super) escaped_control: bool,
    /// The version is `SIP/2.0`.
    pub(super) version: bool,
}

/// Indexes the head that starts at the first byte of `bytes`; what follows the empty line is not looked at.
pub(super) fn read_head(bytes: &[u8], limits: &Limits, table: &mut Table) -> Result<Head, ParseError> {
    table.0.clear();
    // A usual head fits without growing; afterwards the table keeps what it has.
    if table.0.capacity() == 0 {
        table.0.reserve(32.min(limits.rows));
    }
    // Offsets are u32: a message never comes near 4 GiB.
    let bytes = bytes.get(..u32::MAX as usize).unwrap_or(bytes);
    let mut reader = Reader { bytes, limits, rows: &mut table.0, content_length: None, folded: false };
    let mut start = 0;
    let mut start_line = None;
    let mut line_ends = 0;
    let mut fold = false;
    for lf in memchr::memchr_iter(b'\n', bytes) {
        if lf == 0 || bytes[lf - 1] != b'\r' {
            return Err(ParseError::BareLf { offset: lf as u32 });
        }
        line_ends += 1;
        let end = lf + 1;
        if start + 2 == end && !fold {
            let (start_line, version) = start_line.ok_or(ParseError::StartLine { offset: 0 })?;
            let head = Head {
                start_line,
                version,
                rows_end: start as u32,
                body_start: end as u32,
                content_length: reader.content_length,
                folded: reader.folded,
                escaped_control: false,
            };
            return check_controls(&bytes[..end], line_ends, head, &table.0);
        }
        // RFC 3261 §7.3.1: a line that begins with white space continues the row above.
        if matches!(bytes.get(end), Some(b' ' | b'\t')) {
            fold = true;
            continue;
        }
        match start_line {
            None if fold => return Err(ParseError::StartLine { offset: end as u32 }),
            None => start_line = Some(read_start_line(&bytes[..lf - 1], limits)?),
            Some(_) => reader.row(start, end, fold)?,
        }
        fold = false;
        start = end;
    }
    Err(ParseError::Incomplete)
}

struct Reader<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    rows: &'a mut Vec<RowIndex>,
    content_length: Option<u32>,
    folded: bool,
}

impl Reader<'_> {
    #[inline]
    fn row(&mut self, start: usize, end: usize, folded: bool) -> Result<(), ParseError> {
        let offset = start as u32;
        let line = &self.bytes[start..end - 2];
        let colon = find_colon(line).ok_or(ParseError::RowName { offset })?;
        // HCOLON = *( SP / HTAB ) ":" SWS
        let mut spelt = &line[..colon];
        while let [shorter @ .., b' ' | b'\t'] = spelt {
            spelt = shorter;
        }
        let name = Name::classify(spelt);
        // A name that is known is a token.
        if name == Name::Other && !is_token(spelt) {
            return Err(ParseError::RowName { offset });
        }
        if end - start > self.limits.row_bytes || spelt.len() > usize::from(u16::MAX) {
            return Err(ParseError::RowTooLong { name, offset });
        }
        if self.rows.len() >= self.limits.rows {
            return Err(ParseError::TooManyRows { limit: self.limits.rows });
        }
        let mut at = colon + 1;
        while at < line.len() && is_lws(line[at]) {
            at += 1;
        }
        let mut value_end = line.len();
        while value_end > at && is_lws(line[value_end - 1]) {
            value_end -= 1;
        }
        if name == Name::ContentLength {
            self.content_length(&line[at..value_end], (start + at) as u32)?;
        }
        self.folded |= folded;
        self.rows.push(RowIndex {
            start: offset,
            value_start: (start + at) as u32,
            value_end: (start + value_end) as u32,
            name_len: spelt.len() as u16,
            name,
        });
        Ok(())
    }

    fn content_length(&mut self, value: &[u8], offset: u32) -> Result<(), ParseError> {
        if self.content_length.is_some() {
            return Err(ParseError::ContentLengthTwice { offset });
        }
        let n = number(value).ok_or(ParseError::ContentLength { offset })?;
        if n as usize > self.limits.message {
            return Err(ParseError::TooLarge { limit: self.limits.message });
        }
        self.content_length = Some(n);
        Ok(())
    }
}

/// Names are short: eight bytes at a time beat a call of memchr.
#[inline]
fn find_colon(line: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const COLONS: u64 = u64::from_le_bytes([b':'; 8]);
    let (words, _) = line.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let zero_at_colon = u64::from_le_bytes(*word) ^ COLONS;
        // The lowest marked byte is the first that is zero; marks above it may be wrong.
        let marks = zero_at_colon.wrapping_sub(ONES) & !zero_at_colon & (ONES << 7);
        if marks != 0 {
            return Some(index * 8 + (marks.trailing_zeros() / 8) as usize);
        }
        if index == 7 {
            break;
        }
    }
    let start = words.len().min(8) * 8;
    line.get(start..)?.iter().position(|&b| b == b':').map(|at| start + at)
}

/// RFC 3261 §7.1, §7.2. The flag says whether the version is 2.0; any other `SIP/d.d` is for `validate` (505).
pub(super) fn read_start_line(line: &[u8], limits: &Limits) -> Result<(StartLine, bool), ParseError> {
    let bad = |offset: usize| ParseError::StartLine { offset: offset as u32 };
    let Some(first) = memchr::memchr(b' ', line) else { return Err(bad(0)) };
    if let Some(version) = sip_version(&line[..first]) {
        let status = match line.get(first + 1..first + 4) {
            Some([a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(bad(first + 1)),
        };
        // `SIP/2.0 100` without the space before an empty reason is seen, and harmless.
        if !matches!(line.get(first + 4), None | Some(b' ')) {
            return Err(bad(first + 4));
        }
        return Ok((StartLine::Response { status }, version));
    }
    if first == 0 || skip_token(line, 0) != first {
        return Err(bad(0));
    }
    let last = memchr::memrchr(b' ', line).unwrap_or(first);
    if last <= first + 1 {
        return Err(bad(first));
    }
    let uri = &line[first + 1..last];
    if let Some(space) = memchr::memchr2(b' ', b'\t', uri) {
        return Err(bad(first + 1 + space));
    }
    let version = sip_version(&line[last + 1..]).ok_or_else(|| bad(last + 1))?;
    if uri.len() > limits.uri {
        return Err(ParseError::UriTooLong { limit: limits.uri });
    }
    Ok((StartLine::Request { method_end: first as u32, uri_end: last as u32 }, version))
}

/// `SIP/digits.digits`, and whether it is 2.0. Case-insensitive (RFC 3261 §7.1).
pub(super) fn sip_version(bytes: &[u8]) -> Option<bool> {
    if bytes == b"SIP/2.0" {
        return Some(true);
    }
    let (name, rest) = bytes.split_at_checked(4)?;
    if !name.eq_ignore_ascii_case(b"SIP/") {
        return None;
    }
    let dot = memchr::memchr(b'.', rest)?;
    let (major, minor) = (&rest[..dot], &rest[dot + 1..]);
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    (digits(major) && digits(minor)).then(|| rest == b"2.0")
}

/// Every control byte of a clean head is one half of a line end: counting them finds all others at vector speed.
fn check_controls(
    bytes: &[u8],
    line_ends: usize,
    mut head: Head,
    rows: &[RowIndex],
) -> Result<Head, ParseError> {
    if count_controls(bytes) != 2 * line_ends {
        find_control(bytes, rows)?;
        head.escaped_control = true;
    }
    Ok(head)
}

pub(super) fn count_controls(bytes: &[u8]) -> usize {
    let mut total = 0;
    // A chunk of at most 255 keeps the sum in a byte, and wrapping sums become vector code.
    for chunk in bytes.chunks(240) {
        let count = chunk.iter().fold(0u8, |count, &b| count.wrapping_add(u8::from(is_control(b))));
        total += usize::from(count);
    }
    total
}

#[inline(always)]
pub(super) fn is_control(b: u8) -> bool {
    (b < 0x20) & (b != b'\t') | (b == 0x7f)
}

/// `Ok` when each control character stands in a quoted pair (RFC 3261 §25.1: `"\" (%x00-09 / %x0B-0C / %x0E-7F)`).
fn find_control(bytes: &[u8], rows: &[RowIndex]) -> Result<(), ParseError> {
    let mut quoted = false;
    let mut escaped = false;
    let mut row = 0;
    for (at, &b) in bytes.iter().enumerate() {
        if rows.get(row).is_some_and(|next| next.start as usize == at) {
            row += 1;
            (quoted, escaped) = (false, false);
        }
        if is_control(b) {
            let line_end = match b {
                b'\r' => bytes.get(at + 1) == Some(&b'\n'),
                b'\n' => true,
                _ => quoted && escaped,
            };
            if !line_end {
                let name = row.checked_sub(1).and_then(|row| rows.get(row)).map(|row| row.name);
                return Err(ParseError::Control { name, offset: at as u32 });
            }
        }
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    Ok(())
}
