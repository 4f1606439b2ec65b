//! Media through two sockets a leg; each session description is rewritten to name one of them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// The TTL everything leaves with.
pub(crate) const RELAY_TTL: u8 = 64;

/// The two sockets of a call leg: `[towards who offered, towards who answers]`.
struct Leg {
    sockets: [Arc<UdpSocket>; 2],
    peers: Arc<Mutex<[Option<SocketAddr>; 2]>>,
}

#[derive(Default)]
pub(crate) struct Relay {
    legs: Mutex<HashMap<String, Leg>>,
}

impl Relay {
    /// Rewrites an offer (`answer` false) or an answer of the leg `call_id`.
    pub(crate) async fn rewrite(&self, ip: Ipv4Addr, call_id: &str, answer: bool, sdp: &str) -> String {
        let known = self.legs.lock().expect("legs").contains_key(call_id);
        if !known {
            let leg = Leg::new(ip).await;
            self.legs.lock().expect("legs").insert(call_id.to_owned(), leg);
        }
        let legs = self.legs.lock().expect("legs");
        let leg = &legs[call_id];
        leg.peers.lock().expect("peers")[usize::from(answer)] = twin::sdp::audio(sdp);
        // What the other side sends to is the socket that faces it.
        let port = leg.sockets[usize::from(!answer)].local_addr().expect("bound").port();
        sdp.split("\r\n")
            .map(|line| match line.split_once(' ') {
                Some((key, rest)) if key == "m=audio" && !rest.starts_with("0 ") => {
                    format!("m=audio {port} {}", rest.split_once(' ').expect("m line").1)
                }
                Some(("c=IN", _)) => format!("c=IN IP4 {ip}"),
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\r\n")
    }
}

impl Leg {
    async fn new(ip: Ipv4Addr) -> Self {
        let mut sockets = Vec::new();
        for _ in 0..2 {
            let socket = UdpSocket::bind((ip, 0)).await.expect("port");
            socket.set_ttl(RELAY_TTL.into()).expect("ttl");
            sockets.push(Arc::new(socket));
        }
        let sockets: [Arc<UdpSocket>; 2] = [Arc::clone(&sockets[0]), Arc::clone(&sockets[1])];
        let peers: Arc<Mutex<[Option<SocketAddr>; 2]>> = Arc::default();
        for (from, to) in [(0, 1), (1, 0)] {
            let (read, write) = (Arc::clone(&sockets[from]), Arc::clone(&sockets[to]));
            let peers = Arc::clone(&peers);
            tokio::spawn(async move {
                let mut buffer = [0_u8; 2048];
                while let Ok((count, _)) = read.recv_from(&mut buffer).await {
                    let peer = peers.lock().expect("peers")[to];
                    if let Some(peer) = peer {
                        let _ = write.send_to(&buffer[..count], peer).await;
                    }
                }
            });
        }
        Self { sockets, peers }
    }
}
