//! One connection that carries SIP text: a reader and a writer, pings answered by themselves.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::text::{Frame, Framer, Message, TextError};
use crate::tls::Stream;

/// What a connection brings.
#[derive(Debug)]
pub enum Heard {
    /// A message, and the connection to answer on.
    Message(Wire, Message),
    /// The connection ended; `Some` when we gave up on it because its bytes are no SIP.
    Closed(u64, Option<TextError>),
}

/// A handle to a connection; the connection closes when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Wire {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    remote: SocketAddr,
    local: SocketAddr,
    out: mpsc::Sender<Out>,
    pongs: watch::Sender<u64>,
    reader: OnceLock<AbortHandle>,
}

#[derive(Debug)]
enum Out {
    Bytes(Vec<u8>),
    Close,
}

/// The connection is gone or its peer does not read.
#[derive(Debug, thiserror::Error)]
#[error("the connection to {0} is closed")]
pub struct Closed(pub SocketAddr);

impl Wire {
    /// Starts reader and writer on a connected stream; what comes goes to `inbox`.
    pub fn start<S>(stream: S, local: SocketAddr, remote: SocketAddr, inbox: mpsc::Sender<Heard>) -> Self
    where
        S: Stream + 'static,
    {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (read, write) = tokio::io::split(stream);
        let (out, queue) = mpsc::channel(256);
        let inner = Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            remote,
            local,
            out,
            pongs: watch::channel(0).0,
            reader: OnceLock::new(),
        });
        tokio::spawn(write_all(write, queue));
        let reader = tokio::spawn(read_all(read, Arc::downgrade(&inner), inner.id, inbox));
        // Set once, here: the error of a second `set` cannot occur.
        let _ = inner.reader.set(reader.abort_handle());
        Self { inner }
    }

    /// A number no other connection of this process has.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Where the other side is.
    pub fn remote(&self) -> SocketAddr {
        self.inner.remote
    }

    /// Our own address on this connection.
    pub fn local(&self) -> SocketAddr {
        self.inner.local
    }

    /// Sends text.
    pub async fn send(&self, text: String) -> Result<(), Closed> {
        tracing::trace!(to = %self.inner.remote, line = text.lines().next(), "sent");
        self.inner.out.send(Out::Bytes(text.into_bytes())).await.map_err(|_| Closed(self.inner.remote))
    }

    /// Sends CRLF CRLF and waits for the CRLF (RFC 5626 §4.4.1); `false` when none came in time.
    pub async fn ping(&self, patience: Duration) -> bool {
        let mut pongs = self.inner.pongs.subscribe();
        pongs.mark_unchanged();
        if self.send("\r\n\r\n".to_owned()).await.is_err() {
            return false;
        }
        matches!(tokio::time::timeout(patience, pongs.changed()).await, Ok(Ok(())))
    }

    /// Closes the connection for everybody who holds it, after what was sent before.
    pub async fn close(&self) {
        // A writer that is gone already has closed it.
        let _ = self.inner.out.send(Out::Close).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.out.try_send(Out::Close);
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
    }
}

async fn write_all<S: Stream>(mut write: WriteHalf<S>, mut queue: mpsc::Receiver<Out>) {
    // A peer that does not read for ten seconds is gone.
    const PATIENCE: Duration = Duration::from_secs(10);
    while let Some(Out::Bytes(bytes)) = queue.recv().await {
        let written = async {
            write.write_all(&bytes).await?;
            write.flush().await
        };
        if !matches!(tokio::time::timeout(PATIENCE, written).await, Ok(Ok(()))) {
            break;
        }
    }
    let _ = tokio::time::timeout(PATIENCE, write.shutdown()).await;
}

async fn read_all<S: Stream>(mut read: ReadHalf<S>, wire: Weak<Inner>, id: u64, inbox: mpsc::Sender<Heard>) {
    let (mut framer, mut buffer) = (Framer::default(), vec![0_u8; 8192]);
    let reason = 'connection: loop {
        let count = match read.read(&mut buffer).await {
            Ok(0) | Err(_) => break None,
            Ok(count) => count,
        };
        framer.push(buffer.get(..count).unwrap_or(&[]));
        while let Some(frame) = framer.next() {
            let Some(inner) = wire.upgrade() else { break 'connection None };
            let wire = Wire { inner };
            match frame {
                Ok(Frame::Message(message)) => {
                    tracing::trace!(from = %wire.remote(), line = %message, "received");
                    if inbox.send(Heard::Message(wire, message)).await.is_err() {
                        break 'connection None;
                    }
                }
                Ok(Frame::Ping) => {
                    let _ = wire.send("\r\n".to_owned()).await;
                }
                Ok(Frame::Pong) => wire.inner.pongs.send_modify(|count| *count += 1),
                Err(error) => break 'connection Some(error),
            }
        }
    };
    if let Some(inner) = wire.upgrade() {
        Wire { inner }.close().await;
    }
    let _ = inbox.send(Heard::Closed(id, reason)).await;
}
