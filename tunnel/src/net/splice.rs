//! Two streams joined: bytes both ways, each direction closed on its own.
//!
//! An idle tunnel owns no buffer. A read goes into a buffer of the thread and from there straight into the
//! other stream; only what that one does not take at once is kept, and nothing is read until it is gone.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::event::End;

/// Bytes read at once, and the most that is kept for a direction.
const CHUNK: usize = 64 * 1024;

/// Reads of one direction before the other has its turn.
const ROUNDS: usize = 16;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// When a splice ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Nothing passed in either direction.
    pub idle: Duration,
    /// It has lived this long.
    pub life: Duration,
    /// One direction is closed and nothing more passed in the other.
    pub linger: Duration,
}

/// Bytes that passed; readable while the splice runs and after it was dropped.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes from the peer that the target took.
    pub up: AtomicU64,
    /// Bytes from the target that the peer took.
    pub down: AtomicU64,
}

/// Joins a peer's stream and a target's, to which `early` goes first, until both directions are closed, one stream breaks, or a timer runs
/// out. End of file in one direction is passed on as such, after all bytes, and leaves the other direction
/// open. The streams are left as they are then: on any end but [`End::Finished`] the caller cuts them.
pub async fn splice<A, B>(
    peer: &mut A,
    target: &mut B,
    early: Vec<u8>,
    timers: Timers,
    counts: &Counts,
) -> End
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::new(early), Half::new(Vec::new()));
    let started = Instant::now();
    let mut clock = Clock { timers, started, last: started };
    let mut sleep = pin!(sleep_until(started + timers.linger));
    poll_fn(|cx| {
        match up.poll(cx, peer, target, &counts.up) {
            Err(Broken::Reader) => return Poll::Ready(End::PeerFailed),
            Ok(()) | Err(Broken::Writer) => {}
        }
        match down.poll(cx, target, peer, &counts.down) {
            Err(Broken::Reader) => return Poll::Ready(End::TargetFailed),
            Ok(()) | Err(Broken::Writer) => {}
        }
        if up.is_done() && down.is_done() {
            return Poll::Ready(match (up.state, down.state) {
                (State::Broken, _) => End::TargetFailed,
                (_, State::Broken) => End::PeerFailed,
                _ => End::Finished,
            });
        }
        let moved = std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved);
        clock.poll(cx, sleep.as_mut(), moved, up.is_done() || down.is_done())
    })
    .await
}

/// One direction.
struct Half {
    pending: Vec<u8>,
    at: usize,
    unflushed: bool,
    moved: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader is at its end; the writer is being told.
    Closing,
    Closed,
    /// The writer takes no more. What it sent before may still be read, so the other direction goes on.
    Broken,
}

enum Broken {
    Reader,
    Writer,
}

impl Half {
    fn new(pending: Vec<u8>) -> Self {
        Self { pending, at: 0, unflushed: false, moved: false, state: State::Open }
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Closed | State::Broken)
    }

    /// Moves what can be moved. `Ok` says nothing about progress: ask [`Half::is_done`].
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Result<(), Broken>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..ROUNDS {
            let step = match self.state {
                State::Open => self.poll_open(cx, reader, writer, count),
                State::Closing => self.poll_closing(cx, writer),
                State::Closed | State::Broken => return Ok(()),
            };
            match step {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Broken::Writer)) => {
                    self.state = State::Broken;
                    self.pending = Vec::new();
                    return Err(Broken::Writer);
                }
                Poll::Ready(Err(broken)) => return Err(broken),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_open<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while let Some(rest) = self.pending.get(self.at..).filter(|rest| !rest.is_empty()) {
            let written = ready!(poll_write(cx, writer, rest))?;
            self.at += written;
            self.wrote(written, count);
        }
        // The memory goes too: idle tunnels are many.
        (self.pending, self.at) = (Vec::new(), 0);
        let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        let step = self.poll_through(cx, reader, writer, count, &mut buffer);
        BUFFER.set(Some(buffer));
        step
    }

    /// One read and its writes, through the thread's buffer.
    fn poll_through<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(reader).poll_read(cx, &mut buffer) {
            Poll::Pending => {
                if self.unflushed {
                    ready!(Pin::new(writer).poll_flush(cx)).map_err(|_| Broken::Writer)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
            // TLS that ends without close_notify: what the end means is for the protocol inside to judge.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.state = State::Closing;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Reader)),
            Poll::Ready(Ok(())) => {}
        }
        let mut rest = buffer.filled();
        if rest.is_empty() {
            self.state = State::Closing;
            return Poll::Ready(Ok(()));
        }
        self.moved = true;
        while !rest.is_empty() {
            match poll_write(cx, writer, rest) {
                Poll::Ready(written) => {
                    let written = written?;
                    self.wrote(written, count);
                    rest = rest.get(written..).unwrap_or_default();
                }
                Poll::Pending => {
                    self.pending = rest.to_vec();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_closing<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<Result<(), Broken>> {
        let shut = ready!(Pin::new(writer).poll_shutdown(cx));
        // A writer that is gone already has nothing to be told.
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotConnected;
        shut.or_else(|error| if gone(&error) { Ok(()) } else { Err(Broken::Writer) })?;
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, written: usize, count: &AtomicU64) {
        count.fetch_add(u64::try_from(written).unwrap_or(u64::MAX), Ordering::Relaxed);
        (self.moved, self.unflushed) = (true, true);
    }
}

fn poll_write<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    writer: &mut W,
    bytes: &[u8],
) -> Poll<Result<usize, Broken>> {
    match ready!(Pin::new(writer).poll_write(cx, bytes)) {
        Ok(0) | Err(_) => Poll::Ready(Err(Broken::Writer)),
        Ok(written) => Poll::Ready(Ok(written)),
    }
}

struct Clock {
    timers: Timers,
    started: Instant,
    last: Instant,
}

impl Clock {
    /// Judges by the clock, not by the sleep: the sleep is only moved when it would come too late.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
        moved: bool,
        half: bool,
    ) -> Poll<End> {
        if moved {
            self.last = Instant::now();
        }
        let (quiet, end) =
            if half { (self.timers.linger, End::Lingered) } else { (self.timers.idle, End::Idle) };
        let (quiet, life) = (self.last + quiet, self.started + self.timers.life);
        let (deadline, end) = if life < quiet { (life, End::Expired) } else { (quiet, end) };
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(end);
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests start the tasks they watch")]
mod tests;
