//! A TCP connection that changes its runtime: the handshake belongs to the runtime that accepts, every message after it to the
//! signalling thread. Were it watched by the first for its whole life, each message would wake a thread only to wake another.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection, watched by one runtime at a time.
#[derive(Debug)]
pub(crate) struct Carried {
    watched: Option<TcpStream>,
    /// On its way: the runtime that polls next watches it.
    loose: Option<std::net::TcpStream>,
}

impl Carried {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { watched: Some(stream), loose: None }
    }

    /// Takes the connection from its runtime; that of the next task to read or write watches it from then on.
    ///
    /// # Errors
    /// Those of the operating system; the connection is closed then.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        if let Some(stream) = self.watched.take() {
            self.loose = Some(stream.into_std()?);
        }
        Ok(())
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let Some(loose) = self.loose.take() {
            self.watched = Some(TcpStream::from_std(loose)?);
        }
        self.watched.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Carried {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_connection_outlives_the_runtime_it_left() {
        let first = Builder::new_current_thread().enable_all().build().unwrap();
        let (mut carried, mut far) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            (Carried::new(near), far.into_std().unwrap())
        });
        io::Write::write_all(&mut far, b"early").unwrap();
        carried.leave().unwrap();
        carried.leave().unwrap();
        drop(first);
        let second = Builder::new_current_thread().enable_all().build().unwrap();
        second.block_on(async {
            let mut heard = [0; 5];
            carried.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"early");
            let mut far = TcpStream::from_std(far).unwrap();
            let reading = tokio::spawn(async move {
                let read = carried.read_u8().await;
                (carried, read)
            });
            tokio::task::yield_now().await;
            far.write_all(b"x").await.unwrap();
            let (mut carried, read) = reading.await.unwrap();
            assert_eq!(read.unwrap(), b'x');
            carried.write_all(b"late").await.unwrap();
            let mut heard = [0; 4];
            far.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"late");
        });
    }
}
