//! Tones over RTP: G.711 µ-law out with a chosen TTL, in with the TTL each packet arrived with.

use std::collections::BTreeSet;
use std::f64::consts::TAU;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// Samples in a packet of 20 ms.
const FRAME: usize = 160;
/// Samples kept for the tone detector: ten seconds.
const KEEP: usize = 80_000;

/// A bound RTP port, before anybody knows where to send.
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    local: SocketAddr,
}

/// A running stream in both directions; it stops when dropped.
#[derive(Debug)]
pub struct Stream {
    local: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    tasks: [AbortHandle; 2],
}

/// What a stream sent and got.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Packets sent.
    pub sent: u32,
    /// RTP packets received.
    pub received: u32,
    /// Datagrams that are no RTP of G.711 µ-law.
    pub foreign: u32,
    /// TTL values packets arrived with.
    pub ttls: BTreeSet<u8>,
    /// Where packets came from.
    pub sources: BTreeSet<SocketAddr>,
    /// Synchronisation sources heard.
    pub ssrcs: BTreeSet<u32>,
    samples: Vec<i16>,
}

impl Port {
    /// Binds a free even port on `ip` (RFC 3550 §11 wants RTP on an even one).
    pub fn bind(ip: IpAddr) -> io::Result<Self> {
        for _ in 0..200 {
            let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, 0))?;
            if !socket.local_addr()?.port().is_multiple_of(2) {
                continue;
            }
            socket.set_nonblocking(true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            let local = socket.local_addr()?;
            return Ok(Self { socket: UdpSocket::from_std(socket)?, local });
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no even port is free"))
    }

    /// The bound address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a tone of `hertz` to `remote` from this very port (RFC 4961) with `ttl`, and listens.
    pub fn start(self, remote: SocketAddr, hertz: f64, ttl: u8) -> io::Result<Stream> {
        self.socket.set_ttl(ttl.into())?;
        let socket = Arc::new(self.socket);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let talk = tokio::spawn(talk(Arc::clone(&socket), remote, hertz, Arc::clone(&seen)));
        let listen = tokio::spawn(listen(socket, Arc::clone(&seen)));
        Ok(Stream { local: self.local, seen, tasks: [talk.abort_handle(), listen.abort_handle()] })
    }
}

impl Stream {
    /// The bound address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What was sent and heard so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Seen {
    /// How much of what was heard is a tone of `hertz`: 0 nothing, 1 nothing else.
    pub fn tone(&self, hertz: f64) -> f64 {
        tone(&self.samples, hertz)
    }
}

async fn talk(socket: Arc<UdpSocket>, remote: SocketAddr, hertz: f64, seen: Arc<Mutex<Seen>>) {
    let ssrc = crate::agent::token();
    let ssrc = data_encoding::HEXLOWER.decode(ssrc.as_bytes()).unwrap_or_default();
    let (mut sequence, mut stamp, mut at) = (1_u16, 0_u32, 0_u32);
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    loop {
        clock.tick().await;
        // RFC 3550 §5.1: version 2, payload type 0.
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend(stamp.to_be_bytes());
        packet.extend(ssrc.iter().take(4));
        packet.extend((0..FRAME as u32).map(|i| {
            let phase = f64::from((at + i) % 8000) * hertz / 8000.0 * TAU;
            encode((phase.sin() * 8000.0) as i16)
        }));
        // One second of whole hertz ends where it began, so the counter may wrap there.
        at = (at + FRAME as u32) % 8000;
        sequence = sequence.wrapping_add(1);
        stamp = stamp.wrapping_add(FRAME as u32);
        // An ICMP refusal shows as an error of the next send; the receiver counts what arrives.
        if socket.send_to(&packet, remote).await.is_ok() {
            seen.lock().unwrap_or_else(PoisonError::into_inner).sent += 1;
        }
    }
}

async fn listen(socket: Arc<UdpSocket>, seen: Arc<Mutex<Seen>>) {
    let mut buffer = [0_u8; 2048];
    loop {
        let received = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer)).await;
        // An ICMP refusal of something sent before is no reason to stop listening.
        let Ok((count, from, ttl)) = received else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match buffer.get(..count) {
            Some([0x80, kind, _, _, _, _, _, _, a, b, c, d, payload @ ..]) if kind & 0x7F == 0 => {
                seen.received += 1;
                seen.ttls.extend(ttl);
                seen.sources.insert(from);
                seen.ssrcs.insert(u32::from_be_bytes([*a, *b, *c, *d]));
                if seen.samples.len() < KEEP {
                    seen.samples.extend(payload.iter().map(|byte| decode(*byte)));
                }
            }
            _ => seen.foreign += 1,
        }
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<u8>)> {
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let ttl = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4Ttl(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    });
    let from = message.address.ok_or_else(|| io::Error::other("a datagram without a source"))?;
    Ok((message.bytes, SocketAddr::V4(SocketAddrV4::new(from.ip(), from.port())), ttl))
}

/// G.711 µ-law, compression of one sample.
fn encode(sample: i16) -> u8 {
    const BIAS: i32 = 0x84;
    let value = i32::from(sample);
    let sign = if value < 0 { 0x80 } else { 0 };
    let magnitude = value.abs().min(32_635) + BIAS;
    let exponent = (magnitude >> 7).ilog2() as i32;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0F;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

/// G.711 µ-law, expansion of one sample.
fn decode(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = (((i32::from(byte) & 0x0F) << 3) + 0x84) << ((byte >> 4) & 7);
    let value = magnitude - 0x84;
    (if byte & 0x80 == 0 { value } else { -value }) as i16
}

/// The share of one frequency in the energy of samples taken at 8 kHz, by Goertzel's algorithm: 0 nothing, 1
/// nothing else.
pub fn tone(samples: &[i16], hertz: f64) -> f64 {
    let energy: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
    if energy == 0.0 {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * hertz / 8000.0).cos();
    let (mut one, mut two) = (0.0_f64, 0.0_f64);
    for sample in samples {
        (one, two) = (f64::from(*sample) + coefficient * one - two, one);
    }
    let power = one.mul_add(one, two * two) - coefficient * one * two;
    2.0 * power / (samples.len() as f64 * energy)
}

/// Ten seconds of a tone as a WAV file of 16-bit samples at 8 kHz.
pub fn wave(hertz: f64) -> Vec<u8> {
    let sample = |i: u32| ((f64::from(i) * hertz / 8000.0 * TAU).sin() * 8000.0) as i16;
    let data: Vec<u8> = (0..80_000).map(sample).flat_map(i16::to_le_bytes).collect();
    let length = data.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8000_u32.to_le_bytes());
    file.extend(16_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    file
}

#[cfg(test)]
#[path = "rtp/tests.rs"]
mod tests;
