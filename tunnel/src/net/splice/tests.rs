use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Counts, Timers, splice};
use crate::event::End;

const TIMERS: Timers = Timers {
    idle: Duration::from_secs(7200),
    life: Duration::from_secs(86_400),
    linger: Duration::from_secs(30),
};

/// A splice between two in-memory streams that hold `room` bytes each; gives the far ends.
fn joined(room: usize, early: &[u8]) -> (DuplexStream, DuplexStream, Arc<Counts>, JoinHandle<End>) {
    let ((client, mut peer), (mut target, server)) = (duplex(room), duplex(room));
    let counts = Arc::new(Counts::default());
    let (counting, early) = (Arc::clone(&counts), early.to_vec());
    let task = tokio::spawn(async move { splice(&mut peer, &mut target, early, TIMERS, &counting).await });
    (client, server, counts, task)
}

async fn echo(mut server: DuplexStream) {
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.expect("read");
    server.write_all(&all).await.expect("written");
    server.shutdown().await.expect("closed");
}

#[tokio::test(start_paused = true)]
async fn bytes_survive_the_narrowest_streams() {
    for room in [1, 2, 7, 64, 5000] {
        let (client, server, counts, task) = joined(room, b"early ");
        tokio::spawn(echo(server));
        let (mut read, mut write) = tokio::io::split(client);
        let body: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = body.clone();
        tokio::spawn(async move {
            write.write_all(&sent).await.expect("written");
            write.shutdown().await.expect("closed");
        });
        let mut back = Vec::new();
        read.read_to_end(&mut back).await.expect("read");
        assert_eq!(back, [b"early ".as_slice(), &body].concat(), "room {room}");
        assert_eq!(task.await.expect("ended"), End::Finished);
        let passed = (counts.up.load(Ordering::Relaxed), counts.down.load(Ordering::Relaxed));
        assert_eq!(passed, (80_006, 80_006));
    }
}

#[tokio::test(start_paused = true)]
async fn timers_run_from_the_last_byte() {
    let begun = Instant::now();
    let (mut client, mut server, _, task) = joined(64, b"");
    sleep(Duration::from_secs(7000)).await;
    client.write_all(b"x").await.expect("written");
    server.read_u8().await.expect("read");
    assert_eq!((task.await.expect("ended"), begun.elapsed().as_secs()), (End::Idle, 14_200));

    let begun = Instant::now();
    let (mut client, mut server, _, task) = joined(64, b"");
    client.shutdown().await.expect("closed");
    for _ in 0..5 {
        sleep(Duration::from_secs(29)).await;
        server.write_all(b"x").await.expect("written");
        client.read_u8().await.expect("read");
    }
    assert_eq!((task.await.expect("ended"), begun.elapsed().as_secs()), (End::Lingered, 5 * 29 + 30));

    let begun = Instant::now();
    let (mut client, mut server, _, task) = joined(64, b"");
    let busy = tokio::spawn(async move {
        while client.write_all(b"x").await.is_ok() && server.read_u8().await.is_ok() {
            sleep(Duration::from_secs(600)).await;
        }
    });
    assert_eq!((task.await.expect("ended"), begun.elapsed().as_secs()), (End::Expired, 86_400));
    busy.abort();
}

/// Reads as a TLS stream that ended without close_notify, or as a broken one; takes every byte or none.
struct Odd {
    read: io::ErrorKind,
    writes: bool,
}

impl AsyncRead for Odd {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.read {
            io::ErrorKind::WouldBlock => Poll::Pending,
            kind => Poll::Ready(Err(kind.into())),
        }
    }
}

impl AsyncWrite for Odd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes {
            Poll::Ready(Ok(bytes.len()))
        } else {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn how_streams_break() {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof, WouldBlock};
    for (name, read, writes, end) in [
        ("an end without close_notify is an end", UnexpectedEof, true, End::Finished),
        ("a reset is not", ConnectionReset, true, End::TargetFailed),
        // The client's byte can't be written; the client hears nothing more and goes.
        ("a target that takes nothing", WouldBlock, false, End::Lingered),
        ("a target that takes nothing and ends", UnexpectedEof, false, End::TargetFailed),
    ] {
        let (mut client, mut peer) = duplex(64);
        client.write_all(b"x").await.expect("written");
        client.shutdown().await.expect("closed");
        let mut target = Odd { read, writes };
        let found = splice(&mut peer, &mut target, Vec::new(), TIMERS, &Counts::default()).await;
        assert_eq!(found, end, "{name}");
    }
}

/// What a target sent before it stopped reading still arrives.
#[tokio::test(start_paused = true)]
async fn an_answer_outlives_a_writer_that_broke() {
    struct Half(DuplexStream);
    impl AsyncRead for Half {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }
    impl AsyncWrite for Half {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let ((mut client, mut peer), (target, mut server)) = (duplex(64), duplex(64));
    client.write_all(b"a long upload").await.expect("written");
    let task = tokio::spawn(async move {
        splice(&mut peer, &mut Half(target), Vec::new(), TIMERS, &Counts::default()).await
    });
    server.write_all(b"413 too large").await.expect("written");
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("read");
    assert_eq!(
        (answer.as_slice(), task.await.expect("ended")),
        (b"413 too large".as_slice(), End::TargetFailed)
    );
}
