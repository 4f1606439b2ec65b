//! Messages from a stream (RFC 3261 §18.3) and its keep-alives (RFC 5626 §4.4.1).

use std::fmt;

use bytes::Bytes;

use super::parse::{Head, read_head};
use super::{Limits, Message, ParseError, Table, refusal};
use crate::grammar::LineFeeds;

/// What stands next on a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Frame {
    /// A message.
    Message(Message),
    /// The second of two line ends in a row: a keep-alive that wants one CRLF back.
    Ping,
    /// A line end: an answer to a keep-alive of ours, or the first half of the peer's. Either way a sign of life;
    /// it is reported at once because nobody can know whether a second will follow.
    Pong,
}

/// A stream that can't be cut into messages any more: send [`FrameError::response`] if there is one, and close.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unframeable stream: {error}")]
pub struct FrameError {
    /// What is wrong.
    pub error: ParseError,
    /// The 400, 413 or 414, when the request's top Via can be read.
    pub response: Option<Bytes>,
}

impl FrameError {
    /// The status, 400, 413 or 414.
    pub fn status(&self) -> u16 {
        self.error.status()
    }
}

/// How far a head was searched, counted from its start.
#[derive(Clone, Copy, Default)]
struct Lines {
    /// Start of the line that has no end yet.
    line: usize,
    /// Start of the row that ends last.
    row: usize,
    /// Complete rows. The start line is the first: it is complete, and looked like SIP.
    rows: usize,
}

/// Cuts one direction of a stream into messages and keep-alives.
///
/// [`push`](Framer::push) what was read, then call [`next`](Framer::next) until it gives `None`. However the stream
/// is split, the frames are the same. Each byte is looked at once; at most [`Limits::message`] octets and one push
/// are held, and nothing between messages. Keeping a message keeps its own bytes and no others.
pub struct Framer {
    limits: Limits,
    /// What was pushed; taken frames end at `start`.
    buffer: Vec<u8>,
    start: usize,
    /// The head was searched up to here, counted from `start`.
    searched: usize,
    /// What was seen of the head up to there.
    lines: Lines,
    /// The head is complete: its index and the length of the whole message.
    head: Option<(Table, Head, usize)>,
    /// The last thing seen was a first line end.
    line_end: bool,
    failed: bool,
}

impl Framer {
    /// A framer for a fresh stream.
    pub fn stream(limits: Limits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            lines: Lines::default(),
            head: None,
            line_end: false,
            failed: false,
        }
    }

    /// Adds bytes read from the stream. After an error they are thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Octets held that are no frame yet. Above zero between reads, a message has begun and not ended.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether the start line of the pending message is complete and looks like SIP.
    pub fn has_start_line(&self) -> bool {
        self.lines.rows > 0 || self.head.is_some()
    }

    /// The stream failed; no frame will come any more.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// The next frame; `None` until more is pushed. An error comes once.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: after `None` there may be more")]
    #[inline]
    pub fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        // Line ends come by themselves, and many at once from whoever means harm.
        if self.searched == 0 && self.head.is_none() && self.held().starts_with(b"\r\n") {
            return Some(Ok(self.line_end()));
        }
        self.message()
    }

    fn line_end(&mut self) -> Frame {
        self.start += 2;
        self.line_end = !self.line_end;
        if self.line_end { Frame::Pong } else { Frame::Ping }
    }

    fn message(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.failed {
            return None;
        }
        self.step().map_err(|error| self.fail(error)).transpose()
    }

    fn step(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.head.is_none() {
            if self.searched == 0 {
                match self.held() {
                    [] | [b'\r'] => return Ok(None),
                    [b'\r', b'\n', ..] => return Ok(Some(self.line_end())),
                    [b'\r', ..] => return Err(ParseError::Control { name: None, offset: 0 }),
                    _ => self.line_end = false,
                }
            }
            self.find_head()?;
        }
        let Some((table, head, length)) = self.head.take() else { return Ok(None) };
        let Some(bytes) = self.held().get(..length) else {
            self.head = Some((table, head, length));
            return Ok(None);
        };
        // The usual case, one push that is one message: the buffer becomes the message. Either way a stream at rest has none.
        let bytes = if self.start == 0 && self.buffer.len() == length && self.buffer.capacity() == length {
            Bytes::from(std::mem::take(&mut self.buffer))
        } else {
            let bytes = Bytes::copy_from_slice(bytes);
            self.start += length;
            if self.start == self.buffer.len() {
                (self.buffer, self.start) = (Vec::new(), 0);
            }
            bytes
        };
        (self.searched, self.lines) = (0, Lines::default());
        Ok(Some(Frame::Message(Message { bytes, table, head })))
    }

    fn held(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Searches what was not searched yet for the end of the head.
    fn find_head(&mut self) -> Result<(), ParseError> {
        let Lines { mut line, mut row, mut rows } = self.lines;
        let held = self.held();
        // An error is found where it stands, however the stream is split: nothing behind the limit is looked at.
        let end = held.len().min(self.limits.message);
        // A method and the version around the longest URI.
        let longest_start_line = self.limits.uri + 128;
        for lf in LineFeeds::new(held.get(..end).unwrap_or_default(), self.searched) {
            if rows == 0 && lf > longest_start_line {
                break;
            }
            let text = held.get(line..lf).unwrap_or_default();
            // Patterns, not `ends_with`, which calls: a head may have thousands of lines.
            let [text @ .., b'\r'] = text else {
                return Err(ParseError::BareLf { offset: lf as u32 });
            };
            match text {
                [] => {
                    self.head = Some(index_head(held, &self.limits)?);
                    return Ok(());
                }
                // RFC 3261 §7.3.1: the row above goes on.
                [b' ' | b'\t', ..] if rows > 0 => {}
                _ => {
                    // Plain junk is refused at the first line; a near miss may still hold a Via to answer to.
                    if rows == 0 && memchr::memmem::find(text, b"SIP/").is_none() {
                        return Err(ParseError::StartLine { offset: 0 });
                    }
                    row = line;
                    rows += 1;
                }
            }
            line = lf + 1;
            // The start line is none of the rows. What is too much is refused where it is reached, not at the end of the head.
            if rows > self.limits.rows + 1 || (rows > 1 && line - row > self.limits.row_bytes) {
                return Err(self.excess(held.get(..line).unwrap_or_default()));
            }
        }
        if rows == 0 && end > longest_start_line {
            return Err(ParseError::UriTooLong { limit: self.limits.uri });
        }
        if held.len() >= self.limits.message {
            return Err(ParseError::TooLarge { limit: self.limits.message });
        }
        (self.searched, self.lines) = (end, Lines { line, row, rows });
        Ok(())
    }

    /// What is wrong with a head that has too many rows or too long a one: that, or what stands before it.
    fn excess(&self, head: &[u8]) -> ParseError {
        let error = read_head(head, &self.limits, &mut Table::default()).err();
        error.unwrap_or(ParseError::TooManyRows { limit: self.limits.rows })
    }

    fn fail(&mut self, error: ParseError) -> FrameError {
        let response = refusal(self.held(), &error);
        self.failed = true;
        (self.buffer, self.start, self.head) = (Vec::new(), 0, None);
        FrameError { error, response }
    }
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Framer");
        out.field("pending", &self.pending()).field("failed", &self.failed).finish_non_exhaustive()
    }
}

/// Index of the head and length of the message that starts here.
fn index_head(held: &[u8], limits: &Limits) -> Result<(Table, Head, usize), ParseError> {
    let mut table = Table::default();
    let head = read_head(held, limits, &mut table)?;
    // RFC 3261 §20.14: mandatory on streams.
    let body = head.content_length.ok_or(ParseError::ContentLengthMissing)? as usize;
    let length = head.body_start as usize + body;
    if length > limits.message {
        return Err(ParseError::TooLarge { limit: limits.message });
    }
    Ok((table, head, length))
}
