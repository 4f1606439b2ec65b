//! One stream connection: a task that reads frames, answers keep-alives and writes what is queued.
//!
//! There are as many of these tasks as phones, nearly all at rest. So a task holds only what a rest needs: whatever is rare (a
//! timer, the wait for a busy driver, the end) is put on the heap when it comes.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::Limits;
use super::queue::{QueueEnd, WeakQueue};
use crate::flow::{FlowId, Peer, Source};
use crate::message::Message;
use crate::message::frame::{Frame, Framer};

/// A connected stream, under TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What connections and sockets tell the driver.
#[derive(Debug)]
pub(super) enum Arrival {
    Message { source: Source, peer: Arc<Peer>, message: Message },
    Ping { source: Source },
    Unframeable { source: Source, peer: Arc<Peer>, status: Option<u16> },
    Closed { flow: FlowId, why: Ending },
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// The peer closed it.
    Eof,
    /// The network or TLS broke.
    Broken,
    /// We closed it; everything queued is written.
    Done,
    /// No first message in time.
    Silent,
    /// A message took too long.
    Slow,
    /// No start line of SIP in time.
    Junk,
    /// The peer does not read.
    Stalled,
    /// Too many keep-alives.
    Pings,
    /// No SIP, or not the SIP that we take.
    Unframeable,
}

/// Everything a connection's task owns.
pub(super) struct Connection {
    pub(super) flow: FlowId,
    pub(super) peer: Arc<Peer>,
    pub(super) io: Box<dyn Stream>,
    pub(super) queue: QueueEnd,
    /// Where keep-alives and unframeable streams are answered.
    pub(super) answers: WeakQueue,
    pub(super) inbox: mpsc::Sender<Arrival>,
    pub(super) limits: Arc<Limits>,
}

/// The answer to a keep-alive (RFC 5626 §4.4.1).
const PONG: Bytes = Bytes::from_static(b"\r\n");

/// How long the first line may take of a peer that has not said anything yet.
const START_LINE: Duration = Duration::from_secs(2);

/// What one read may bring.
const READ: usize = 4096;

impl Connection {
    /// Runs until the connection ends, and says so.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send {
        let (input, output) = tokio::io::split(self.io);
        let stall = self.limits.write_stall;
        let mut writer = Writer { output, queue: self.queue, rest: Bytes::new(), stall };
        let mut reader = Reader {
            flow: self.flow,
            framer: Framer::stream(*self.limits.of(&self.peer)),
            peer: self.peer,
            input,
            answers: self.answers,
            inbox: self.inbox,
            pings: Pings { second: Instant::now(), count: 0, limit: self.limits.pings },
            limits: self.limits,
        };
        // Not an `async fn`: that would keep its argument beside what is made of it.
        async move {
            let why = tokio::select! {
                why = reader.run() => why,
                why = writer.run() => why,
            };
            Box::pin(end(&mut reader, &mut writer, why)).await;
        }
    }
}

/// Says that the connection has ended, and lets it end as well as it can.
async fn end(reader: &mut Reader, writer: &mut Writer, why: Ending) {
    // The driver has gone if nobody takes this.
    let _ = reader.inbox.send(Arrival::Closed { flow: reader.flow, why }).await;
    match why {
        Ending::Eof | Ending::Unframeable | Ending::Done => {
            // The driver lets go of the queue when it learns of the end. Until then answers to what was heard come in, and
            // still go out, as does the refusal of what can't be framed.
            if writer.run().await == Ending::Done
                && timeout(writer.stall, writer.output.shutdown()).await.is_ok()
            {
                reader.linger(why).await;
            }
        }
        Ending::Broken | Ending::Silent | Ending::Slow | Ending::Junk | Ending::Stalled | Ending::Pings => {}
    }
}

struct Reader {
    flow: FlowId,
    peer: Arc<Peer>,
    input: ReadHalf<Box<dyn Stream>>,
    framer: Framer,
    answers: WeakQueue,
    inbox: mpsc::Sender<Arrival>,
    pings: Pings,
    limits: Arc<Limits>,
}

/// The wait for a driver that is busy.
type Busy = Pin<Box<dyn Future<Output = Result<(), Ending>> + Send>>;

/// What came of a frame.
#[derive(Default)]
struct Taken {
    /// It was a message.
    heard: bool,
    busy: Option<Busy>,
    /// It was the last.
    end: Option<Ending>,
}

impl Reader {
    async fn run(&mut self) -> Ending {
        // A connection that we dialled owes us nothing.
        let mut silent_until =
            self.peer.listener.is_some().then(|| Instant::now() + self.limits.first_message);
        let mut began = None;
        loop {
            let heard = match self.take_frames().await {
                Ok(heard) => heard,
                Err(ending) => return ending,
            };
            if heard {
                silent_until = None;
            }
            // The time of a message starts with its first octet.
            began = match (self.framer.pending() > 0, heard) {
                (false, _) => None,
                (true, true) => Some(Instant::now()),
                (true, false) => began.or_else(|| Some(Instant::now())),
            };
            // Who never said a word of SIP has less time for the first line (SIP-10).
            let (deadline, late) = match (began, silent_until) {
                (Some(at), Some(_)) if !self.framer.has_start_line() => (Some(at + START_LINE), Ending::Junk),
                (Some(at), _) => (Some(at + self.limits.whole_message), Ending::Slow),
                (None, at) => (at, Ending::Silent),
            };
            let read = match deadline {
                Some(at) => match Box::pin(timeout_at(at, self.read())).await {
                    Ok(read) => read,
                    Err(_) if late == Ending::Junk => {
                        if let Some(busy) = self.tell(self.unframeable(None)) {
                            // Gone or not, it is over.
                            let _ = busy.await;
                        }
                        return late;
                    }
                    Err(_) => return late,
                },
                None => self.read().await,
            };
            match read {
                Ok(0) => return Ending::Eof,
                Ok(_) => {}
                Err(_) => return Ending::Broken,
            }
        }
    }

    /// Reads into the framer, by way of the stack: a connection at rest holds no buffer for what may come.
    async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut space = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.input).poll_read(cx, &mut buffer))?;
            self.framer.push(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }

    /// Hands over every frame that is complete. Says whether a message was among them.
    async fn take_frames(&mut self) -> Result<bool, Ending> {
        let mut heard = false;
        while let Some(taken) = self.take_frame() {
            heard |= taken.heard;
            if let Some(busy) = taken.busy {
                busy.await?;
            }
            if let Some(end) = taken.end {
                return Err(end);
            }
        }
        Ok(heard)
    }

    fn take_frame(&mut self) -> Option<Taken> {
        let mut taken = Taken::default();
        let source = Source::Flow(self.flow);
        match self.framer.next()? {
            Ok(Frame::Message(message)) => {
                taken.heard = true;
                let peer = self.peer.clone();
                taken.busy = self.tell(Arrival::Message { source, peer, message });
            }
            Ok(Frame::Ping) => {
                if self.pings.is_flood() {
                    taken.end = Some(Ending::Pings);
                } else if self.answers.push(PONG) {
                    // If the driver is busy, it hears of the next one.
                    drop(self.inbox.try_send(Arrival::Ping { source }));
                } else {
                    taken.end = Some(Ending::Stalled);
                }
            }
            Ok(Frame::Pong) => {}
            Err(error) => {
                let status = error.response.as_ref().map(|_| error.status());
                if let Some(response) = error.response {
                    self.answers.push(response);
                }
                taken.busy = self.tell(self.unframeable(status));
                taken.end = Some(Ending::Unframeable);
            }
        }
        Some(taken)
    }

    fn unframeable(&self, status: Option<u16>) -> Arrival {
        Arrival::Unframeable { source: Source::Flow(self.flow), peer: self.peer.clone(), status }
    }

    /// Tells the driver. While that is busy there is something to wait for, so that the peer's octets stay in the network.
    fn tell(&self, arrival: Arrival) -> Option<Busy> {
        let arrival = match self.inbox.try_send(arrival) {
            Ok(()) => return None,
            Err(TrySendError::Full(arrival) | TrySendError::Closed(arrival)) => arrival,
        };
        let inbox = self.inbox.clone();
        Some(Box::pin(async move { inbox.send(arrival).await.map_err(|_| Ending::Done) }))
    }

    /// A socket closed with octets unread resets the connection and may take the refusal with it: read some to the end.
    async fn linger(&mut self, why: Ending) {
        if why != Ending::Unframeable {
            return;
        }
        let until = Instant::now() + Duration::from_secs(1);
        let mut buffer = vec![0; READ];
        for _ in 0..64 {
            match timeout_at(until, self.input.read(&mut buffer)).await {
                Ok(Ok(n)) if n > 0 => {}
                _ => return,
            }
        }
    }
}

/// Counts keep-alives by the second.
struct Pings {
    second: Instant,
    count: u32,
    limit: u32,
}

impl Pings {
    fn is_flood(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count > self.limit
    }
}

struct Writer {
    output: WriteHalf<Box<dyn Stream>>,
    queue: QueueEnd,
    /// What is left of the message being written. Kept here, not in the future, which may be dropped between writes.
    rest: Bytes,
    stall: Duration,
}

impl Writer {
    /// Writes until the queue ends. Can be dropped and called again.
    async fn run(&mut self) -> Ending {
        loop {
            while !self.rest.is_empty() {
                match self.patiently(Self::poll_write).await {
                    Ok(Ok(n)) if n > 0 => self.rest.advance(n),
                    Ok(_) => return Ending::Broken,
                    Err(_) => return Ending::Stalled,
                }
            }
            if let Some(bytes) = self.queue.try_next() {
                self.rest = bytes;
                continue;
            }
            match self.patiently(Self::poll_flush).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Ending::Broken,
                Err(_) => return Ending::Stalled,
            }
            match self.queue.next().await {
                Some(bytes) => self.rest = bytes,
                None => return Ending::Done,
            }
        }
    }

    /// What mostly succeeds at once. If it does not, a peer that does not read has so much time.
    async fn patiently(&mut self, work: Work) -> Result<io::Result<usize>, Elapsed> {
        match poll_fn(|cx| Poll::Ready(work(self, cx))).await {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => Box::pin(timeout(self.stall, poll_fn(|cx| work(self, cx)))).await,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, &self.rest)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_flush(cx).map_ok(|()| 0)
    }
}

/// A step of the writer; how many octets it took.
type Work = fn(&mut Writer, &mut Context<'_>) -> Poll<io::Result<usize>>;
