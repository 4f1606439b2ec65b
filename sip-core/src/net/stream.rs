//! One stream connection: a task that reads frames, answers keep-alives and writes what is queued.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
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
    pub(super) async fn run(self) {
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
        let why = tokio::select! {
            why = reader.run() => why,
            why = writer.run() => why,
        };
        // The driver has gone if nobody takes this.
        let _ = reader.inbox.send(Arrival::Closed { flow: reader.flow, why }).await;
        match why {
            Ending::Eof | Ending::Unframeable | Ending::Done => {
                // The driver lets go of the queue when it learns of the end. Until then answers to what was heard come in, and
                // still go out, as does the refusal of what can't be framed.
                if writer.run().await == Ending::Done
                    && timeout(stall, writer.output.shutdown()).await.is_ok()
                {
                    reader.linger(why).await;
                }
            }
            Ending::Broken
            | Ending::Silent
            | Ending::Slow
            | Ending::Junk
            | Ending::Stalled
            | Ending::Pings => {}
        }
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
            let read = self.read();
            let read = match deadline {
                Some(at) => match timeout_at(at, read).await {
                    Ok(read) => read,
                    Err(_) if late == Ending::Junk => {
                        let (source, peer) = (Source::Flow(self.flow), self.peer.clone());
                        return match self.tell(Arrival::Unframeable { source, peer, status: None }).await {
                            Ok(()) => Ending::Junk,
                            Err(ending) => ending,
                        };
                    }
                    Err(_) => return late,
                },
                None => read.await,
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
        while let Some(frame) = self.framer.next() {
            let source = Source::Flow(self.flow);
            match frame {
                Ok(Frame::Message(message)) => {
                    heard = true;
                    let peer = self.peer.clone();
                    self.tell(Arrival::Message { source, peer, message }).await?;
                }
                Ok(Frame::Ping) => {
                    if self.pings.is_flood() {
                        return Err(Ending::Pings);
                    }
                    if !self.answers.push(PONG) {
                        return Err(Ending::Stalled);
                    }
                    // If the driver is busy, it hears of the next one.
                    drop(self.inbox.try_send(Arrival::Ping { source }));
                }
                Ok(Frame::Pong) => {}
                Err(error) => {
                    let status = error.response.as_ref().map(|_| error.status());
                    if let Some(response) = error.response {
                        self.answers.push(response);
                    }
                    self.tell(Arrival::Unframeable { source, peer: self.peer.clone(), status }).await?;
                    return Err(Ending::Unframeable);
                }
            }
        }
        Ok(heard)
    }

    /// Waits while the driver is busy, so that the peer's octets stay in the network.
    async fn tell(&mut self, arrival: Arrival) -> Result<(), Ending> {
        self.inbox.send(arrival).await.map_err(|_| Ending::Done)
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
                match timeout(self.stall, self.output.write(&self.rest)).await {
                    Ok(Ok(n)) if n > 0 => self.rest.advance(n),
                    Ok(_) => return Ending::Broken,
                    Err(_) => return Ending::Stalled,
                }
            }
            if let Some(bytes) = self.queue.try_next() {
                self.rest = bytes;
                continue;
            }
            match timeout(self.stall, self.output.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ending::Broken,
                Err(_) => return Ending::Stalled,
            }
            match self.queue.next().await {
                Some(bytes) => self.rest = bytes,
                None => return Ending::Done,
            }
        }
    }
}
