//! One phone's connection, over TLS, TCP or UDP.

use sipload::*;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::figures::*;
use crate::tls::*;
use crate::{Tp, parse_target};

pub(crate) enum Sock {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

pub(crate) struct Conn {
    pub(crate) s: Sock,
    pub(crate) buf: Vec<u8>,
    pub(crate) local: SocketAddr,
}

pub(crate) struct Env {
    pub(crate) tp: Tp,
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Vec<TlsConnector>,
    pub(crate) sni: ServerName<'static>,
    pub(crate) src: Option<Ipv4Addr>,
    pub(crate) srcs: u32,
    pub(crate) domain: String,
    pub(crate) timeout: Duration,
    pub(crate) phones: usize,
    /// Content-Type of the offers. With text/plain, a gateway has no media to anchor: signalling alone.
    pub(crate) body: String,
}

pub(crate) const SDP_TYPE: &str = "application/sdp";

impl Env {
    pub(crate) fn new(a: &Args) -> Env {
        let (tp, addr) = parse_target(a.opt("target").expect("--target"));
        Env {
            tp,
            addr,
            tls: connectors(a),
            sni: ServerName::try_from(a.get("sni", "sbc.example.test")).unwrap(),
            src: a.opt("src").map(|s| s.parse().unwrap()),
            srcs: a.num("srcs", 64),
            domain: a.get("domain", "example.test"),
            timeout: Duration::from_millis(a.num("timeout-ms", 8000)),
            body: a.get("body-type", SDP_TYPE),
            phones: a.num("phones", 500usize).max(1),
        }
    }
    pub(crate) fn source(&self, i: usize, port: u16) -> SocketAddr {
        let ip = match self.src {
            Some(s) => Ipv4Addr::from(u32::from(s) + (i as u32 % self.srcs)),
            None => Ipv4Addr::UNSPECIFIED,
        };
        SocketAddr::new(IpAddr::V4(ip), port)
    }
    pub(crate) async fn connect(&self, i: usize, port: u16) -> io::Result<Conn> {
        let from = self.source(i, port);
        if self.tp == Tp::Udp {
            let u = UdpSocket::bind(from).await?;
            u.connect(self.addr).await?;
            let local = u.local_addr()?;
            return Ok(Conn { s: Sock::Udp(u), buf: vec![0; 65536], local });
        }
        let sk = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        sk.set_nonblocking(true)?;
        sk.set_reuse_address(true)?;
        if port == 0 {
            // let the kernel choose the port at connect(), per destination
            nix::sys::socket::setsockopt(&sk, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        }
        sk.bind(&from.into())?;
        let t = TcpSocket::from_std_stream(sk.into()).connect(self.addr).await?;
        t.set_nodelay(true)?;
        let local = t.local_addr()?;
        let s = if self.tp == Tp::Tcp {
            Sock::Tcp(t)
        } else {
            Sock::Tls(Box::new(self.tls[i % self.tls.len()].connect(self.sni.clone(), t).await?))
        };
        Ok(Conn { s, buf: Vec::new(), local })
    }
    pub(crate) fn tname(&self) -> &'static str {
        match self.tp {
            Tp::Udp => "UDP",
            Tp::Tcp => "TCP",
            Tp::Tls => "TLS",
        }
    }
}

impl Conn {
    pub(crate) async fn send(&mut self, m: &[u8]) -> io::Result<()> {
        match &mut self.s {
            Sock::Udp(u) => u.send(m).await.map(|_| ()),
            Sock::Tcp(t) => t.write_all(m).await,
            Sock::Tls(t) => {
                t.write_all(m).await?;
                t.flush().await
            }
        }
    }
    /// Next whole SIP message.
    pub(crate) async fn recv(&mut self) -> io::Result<Vec<u8>> {
        if let Sock::Udp(u) = &self.s {
            let n = u.recv(&mut self.buf).await?;
            return Ok(self.buf[..n].to_vec());
        }
        loop {
            if let Some(n) = frame(&self.buf) {
                let m: Vec<u8> = self.buf.drain(..n).collect();
                if n == 2 {
                    continue;
                }
                return Ok(m);
            }
            let n = match &mut self.s {
                Sock::Tcp(t) => t.read_buf(&mut self.buf).await?,
                Sock::Tls(t) => t.read_buf(&mut self.buf).await?,
                Sock::Udp(_) => unreachable!(),
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    /// Sends a request and waits for its final response (over UDP, with retransmission).
    pub(crate) async fn transact(
        &mut self,
        req: &[u8],
        callid: &str,
        meth: &str,
        st: &Stats,
        limit: Duration,
    ) -> io::Result<Vec<u8>> {
        self.send(req).await?;
        let udp = matches!(self.s, Sock::Udp(_));
        let end = Instant::now() + limit;
        let mut t1 = Duration::from_millis(500);
        let mut next = Instant::now() + t1;
        let mut provisional = false;
        loop {
            let until = if udp && !(provisional && meth == "INVITE") { next.min(end) } else { end };
            match tokio::time::timeout_at(until.into(), self.recv()).await {
                Ok(m) => {
                    let m = m?;
                    let code = status(&m);
                    if code == 0 || header(&m, "Call-ID") != Some(callid) || cseq_method(&m) != meth {
                        continue;
                    }
                    if code < 200 {
                        provisional = true;
                        continue;
                    }
                    return Ok(m);
                }
                Err(_) if Instant::now() >= end => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {
                    st.retrans.fetch_add(1, Relaxed);
                    self.send(req).await?;
                    t1 = (t1 * 2).min(Duration::from_secs(4));
                    next = Instant::now() + t1;
                }
            }
        }
    }
    pub(crate) async fn close(mut self) {
        match &mut self.s {
            Sock::Tls(t) => {
                let _ = t.shutdown().await;
            }
            Sock::Tcp(t) => {
                let _ = t.shutdown().await;
            }
            Sock::Udp(_) => {}
        }
    }
}
