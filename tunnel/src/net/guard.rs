//! What stands between a stream and hyper while HTTP is spoken.
//!
//! hyper takes a bare LF for a line end; two parties that disagree about line ends disagree about where a
//! request ends, which is request smuggling. [`HeadScan`] turns every such byte into a NUL, which hyper refuses
//! with a 400 in the right place among the answers. So does a second Content-Length, of which hyper would show only one
//! when both agree. [`Guard`] also bounds the time a peer may refuse to read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

const CONNECT: &[u8] = b"CONNECT ";
const LENGTH: &[u8] = b"content-length:";

/// Watches the line ends of request heads. Requests with bodies are refused, so one head follows the other.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Whether the last byte was a CR.
    after_cr: bool,
    /// Bytes of the current line.
    line: usize,
    /// Whether the current head has a line already.
    in_head: bool,
    /// How many bytes of the head's first line are those of [`CONNECT`].
    connect: usize,
    /// How many bytes of the current row are those of [`LENGTH`].
    length: usize,
    /// The current head has a Content-Length.
    has_length: bool,
    /// The head of a CONNECT is complete: what follows is the tunnel's.
    through: bool,
    /// Complete heads.
    heads: u64,
}

impl HeadScan {
    fn scan(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.through {
                return;
            }
            // RFC 9112 §2.2 lets a recipient take a bare LF as a line end and lets it refuse; CR alone it must
            // refuse or replace.
            let crlf = self.after_cr && *byte == b'\n';
            if self.after_cr != (*byte == b'\n') {
                *byte = 0;
            }
            self.after_cr = *byte == b'\r';
            if crlf {
                self.end_line();
            } else if !self.after_cr {
                self.text(*byte);
                if self.is_second_length() {
                    *byte = 0;
                }
            }
        }
    }

    /// Whether the byte just seen ends the name of one Content-Length too many (H4).
    fn is_second_length(&mut self) -> bool {
        let complete = self.length == LENGTH.len() && self.line == LENGTH.len();
        complete && std::mem::replace(&mut self.has_length, true)
    }

    fn text(&mut self, byte: u8) {
        if !self.in_head && CONNECT.get(self.line) == Some(&byte) && self.connect == self.line {
            self.connect += 1;
        }
        let of_length = LENGTH.get(self.line) == Some(&byte.to_ascii_lowercase());
        if self.in_head && of_length && self.length == self.line {
            self.length += 1;
        }
        self.line += 1;
    }

    fn end_line(&mut self) {
        let blank = self.line == 0;
        (self.line, self.length) = (0, 0);
        if !blank {
            self.in_head = true;
        } else if self.in_head {
            self.heads += 1;
            self.through = self.connect == CONNECT.len();
            (self.in_head, self.connect, self.has_length) = (false, 0, false);
        }
    }

    /// Whether no head was complete yet, or one has begun: a peer that is late deserves to hear so.
    pub(super) fn awaits_head(&self) -> bool {
        self.heads == 0 || self.in_head || self.line > 0
    }

    /// Whether anything of a head has come.
    pub(super) fn has_begun(&self) -> bool {
        self.heads > 0 || self.in_head || self.line > 0
    }
}

/// A stream that speaks HTTP, guarded.
pub(super) struct Guard<S> {
    inner: S,
    scan: HeadScan,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, stall: Duration) -> Self {
        Self { inner, scan: HeadScan::default(), stall, stalled: None }
    }

    pub(super) fn scan(&self) -> &HeadScan {
        &self.scan
    }

    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// Passes a ready result on; while pending, counts the stall.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let deadline = Instant::now() + self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if let Some(fresh) = buf.filled_mut().get_mut(before..) {
            this.scan.scan(fresh);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.watch(cx, poll)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx);
        this.watch(cx, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.watch(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> (String, HeadScan) {
        let (mut bytes, mut scan) = (text.as_bytes().to_vec(), HeadScan::default());
        scan.scan(&mut bytes);
        (String::from_utf8_lossy(&bytes).replace('\0', "!"), scan)
    }

    #[test]
    fn proper_heads_pass_untouched() {
        for text in
            ["GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"]
        {
            assert_eq!(scanned(text).0, text);
        }
    }

    #[test]
    fn bare_line_ends_become_nul() {
        for (text, expected) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1!Host: a\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r!\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\r\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r!!\r\n"),
            ("\nGET", "!GET"),
            ("A: b\r\n\nC", "A: b\r\n!C"),
        ] {
            assert_eq!(scanned(text).0, expected, "{text:?}");
        }
    }

    #[test]
    fn a_second_length_becomes_no_header() {
        let one = "GET / HTTP/1.1\r\nContent-Length: 0\r\nX: Content-Length: 0\r\nContent-Lengths: 1\r\n\r\n";
        assert_eq!(scanned(&format!("{one}{one}")).0, format!("{one}{one}"));
        let two = "GET / HTTP/1.1\r\nContent-Length: 0\r\ncontent-LENGTH: 0\r\n\r\n";
        assert_eq!(scanned(two).0, two.replace("LENGTH:", "LENGTH!"));
    }

    #[test]
    fn what_follows_a_connect_head_is_not_touched() {
        let (text, scan) = scanned("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\n\n\r\rx");
        assert!(text.ends_with("\r\n\r\n\n\n\r\rx") && scan.through);
        for near in ["connect a:1 HTTP/1.1\r\n\r\n\n", "XCONNECT a:1 H\r\n\r\n\n", "G\r\nCONNECT a\r\n\r\n\n"]
        {
            let (text, scan) = scanned(near);
            assert!(text.ends_with('!') && !scan.through, "{near:?}");
        }
    }

    #[test]
    fn cuts_make_no_difference() {
        let text = "GET / HTTP/1.1\r\nA: b\n\r\r\n\r\nCONNECT a:1 HTTP/1.1\r\n\r\n\n\n";
        let whole = scanned(text).0;
        let (mut bytes, mut scan) = (text.as_bytes().to_vec(), HeadScan::default());
        for byte in bytes.chunks_mut(1) {
            scan.scan(byte);
        }
        assert_eq!(String::from_utf8_lossy(&bytes).replace('\0', "!"), whole);
    }
}
