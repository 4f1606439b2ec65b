//! Messages from a stream (RFC 3261 §18.3) and its keep-alives (RFC 5626 §4.4.1).

use bytes::{Buf, Bytes, BytesMut};

use super::parse::{Head, read_head};
use super::{Limits, Message, ParseError, Table, refusal};

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

/// Cuts one direction of a stream into messages and keep-alives.
///
/// [`push`](Framer::push) what was read, then call [`next`](Framer::next) until it gives `None`. However the stream is split, the
/// frames are the same. Each byte is looked at once; at most [`Limits::message`] octets and one push are held.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: BytesMut,
    /// The head was searched up to here.
    searched: usize,
    /// The start line was complete and looked like SIP.
    start_line: bool,
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
            buffer: BytesMut::new(),
            searched: 0,
            start_line: false,
            head: None,
            line_end: false,
            failed: false,
        }
    }

    /// Adds bytes read from the stream. After an error they are thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Octets held of a message that is not complete.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The stream failed; no frame will come any more.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// The next frame; `None` until more is pushed. An error comes once.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: after `None` there may be more")]
    pub fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.failed {
            return None;
        }
        self.step().map_err(|error| self.fail(error)).transpose()
    }

    fn step(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.head.is_none() && self.searched == 0 {
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'\r') => match self.buffer.get(1) {
                    None => return Ok(None),
                    Some(b'\n') => {
                        self.buffer.advance(2);
                        self.line_end = !self.line_end;
                        return Ok(Some(if self.line_end { Frame::Pong } else { Frame::Ping }));
                    }
                    Some(_) => return Err(ParseError::Control { name: None, offset: 0 }),
                },
                Some(_) => self.line_end = false,
            }
        }
        if self.head.is_none() {
            self.find_head()?;
        }
        let Some((_, _, length)) = self.head else { return Ok(None) };
        if self.buffer.len() < length {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(length).freeze();
        let taken = self.head.take();
        (self.searched, self.start_line) = (0, false);
        Ok(taken.map(|(table, head, _)| Frame::Message(Message { bytes, table, head })))
    }

    /// Searches what was not searched yet for the end of the head.
    fn find_head(&mut self) -> Result<(), ParseError> {
        // An error is found where it stands, however the stream is split: nothing behind the limit is looked at.
        let end = self.buffer.len().min(self.limits.message);
        while let Some(lf) = memchr::memchr(b'\n', self.buffer.get(self.searched..end).unwrap_or_default()) {
            let lf = self.searched + lf;
            self.searched = lf + 1;
            let before = self.buffer.get(..lf).unwrap_or_default();
            if !before.ends_with(b"\r") {
                return Err(ParseError::BareLf { offset: lf as u32 });
            }
            if !self.start_line {
                // Plain junk is refused at the first line; a near miss may still hold a Via to answer to.
                if memchr::memmem::find(before, b"SIP/").is_none() {
                    return Err(ParseError::StartLine { offset: 0 });
                }
                self.start_line = true;
            }
            if before.ends_with(b"\r\n\r") {
                return self.index_head();
            }
        }
        self.searched = end;
        if !self.start_line && end > self.longest_start_line() {
            return Err(ParseError::UriTooLong { limit: self.limits.uri });
        }
        if self.buffer.len() >= self.limits.message {
            return Err(ParseError::TooLarge { limit: self.limits.message });
        }
        Ok(())
    }

    fn index_head(&mut self) -> Result<(), ParseError> {
        let mut table = Table::default();
        let head = read_head(&self.buffer, &self.limits, &mut table)?;
        // RFC 3261 §20.14: mandatory on streams.
        let body = head.content_length.ok_or(ParseError::ContentLengthMissing)? as usize;
        let length = head.body_start as usize + body;
        if length > self.limits.message {
            return Err(ParseError::TooLarge { limit: self.limits.message });
        }
        self.head = Some((table, head, length));
        Ok(())
    }

    fn longest_start_line(&self) -> usize {
        // A method and the version around the longest URI.
        self.limits.uri + 128
    }

    fn fail(&mut self, error: ParseError) -> FrameError {
        self.failed = true;
        let buffer = std::mem::take(&mut self.buffer);
        self.head = None;
        FrameError { error, response: refusal(&buffer, &error) }
    }
}
