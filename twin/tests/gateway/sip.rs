//! Signalling: the tag of a phone rides in its Contact as `crt`, responses find back by branch.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use twin::agent::token;
use twin::fault::Fault;
use twin::mac::Mac;
use twin::text::{Message, address, host_port, parameter, user};
use twin::tls;
use twin::wire::{Heard, Wire};

use super::relay::Relay;

pub(crate) struct Edge {
    inside: SocketAddr,
    outside: Ipv4Addr,
    dial: Arc<ClientConfig>,
    fault: Option<Fault>,
    /// Connection of each phone.
    phones: Mutex<HashMap<Mac, Wire>>,
    /// MAC and address of the phone on a connection.
    macs: Mutex<HashMap<u64, Mac>>,
    /// Where the response with our branch goes.
    back: Mutex<HashMap<String, Wire>>,
    dialled: tokio::sync::Mutex<HashMap<SocketAddr, Wire>>,
    inbox: mpsc::Sender<Heard>,
    relay: Relay,
}

impl Edge {
    pub(crate) fn new(
        inside: SocketAddr,
        dial: Arc<ClientConfig>,
        outside: Ipv4Addr,
        fault: Option<Fault>,
    ) -> Arc<Self> {
        let (inbox, mut heard) = mpsc::channel(256);
        let edge = Arc::new(Self {
            inside,
            outside,
            dial,
            fault,
            phones: Mutex::default(),
            macs: Mutex::default(),
            back: Mutex::default(),
            dialled: tokio::sync::Mutex::default(),
            inbox,
            relay: Relay::default(),
        });
        let worker = Arc::clone(&edge);
        tokio::spawn(async move {
            while let Some(next) = heard.recv().await {
                match next {
                    Heard::Message(wire, message) => worker.handle(wire, message).await,
                    Heard::Closed(id, _) => worker.phones.lock().expect("phones").retain(|_, w| w.id() != id),
                }
            }
        });
        edge
    }

    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, settings: Arc<ServerConfig>) {
        let (acceptor, local) = (TlsAcceptor::from(settings), listener.local_addr().expect("bound"));
        while let Ok((stream, remote)) = listener.accept().await {
            let (acceptor, edge) = (acceptor.clone(), Arc::clone(&self));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let (inbox, mut heard) = mpsc::channel(64);
                let _wire = Wire::start(stream, local, remote, inbox);
                while let Some(next) = heard.recv().await {
                    let closed = matches!(next, Heard::Closed(..));
                    if edge.inbox.send(next).await.is_err() || closed {
                        break;
                    }
                }
            });
        }
    }

    async fn handle(&self, wire: Wire, message: Message) {
        match message.method() {
            None => self.response(&wire, message).await,
            Some(_) if wire.local() == self.inside => self.inside_request(wire, message).await,
            Some(_) => self.outside_request(wire, message).await,
        }
    }

    async fn outside_request(&self, wire: Wire, mut request: Message) {
        if let Some(mac) = request.values("Contact").first().and_then(|c| Mac::from_instance(c)) {
            self.macs.lock().expect("macs").insert(wire.id(), mac);
            self.phones.lock().expect("phones").insert(mac, wire.clone());
        }
        let mac = self.macs.lock().expect("macs").get(&wire.id()).copied();
        self.hide(&mut request, mac);
        self.media(&mut request, false).await;
        let to = host_port(request.uri().unwrap_or("")).parse();
        let next = match to {
            Ok(to) => self.switch(to).await,
            Err(_) => None,
        };
        match next {
            Some(next) => self.forward(request, wire, next).await,
            None => drop(wire.send(request.reply("503 Service Unavailable", Some("x"), "", "")).await),
        }
    }

    async fn inside_request(&self, wire: Wire, mut request: Message) {
        let uri = request.uri().unwrap_or("").to_owned();
        let mac = uri.split_once("crt=").and_then(|(_, mac)| mac.parse::<Mac>().ok());
        let mut reachable: Vec<Wire> = {
            let phones = self.phones.lock().expect("phones");
            match mac {
                Some(mac) => phones.get(&mac).cloned().into_iter().collect(),
                None => phones.values().cloned().collect(),
            }
        };
        let next = match (reachable.pop(), reachable.is_empty()) {
            (Some(next), true) => next,
            (None, _) => return drop(wire.send(request.reply("480 Gone", Some("x"), "", "")).await),
            _ => return drop(wire.send(request.reply("485 Ambiguous", Some("x"), "", "")).await),
        };
        let ip = next.remote().ip();
        request.start = request.start.replacen(&uri, &format!("sips:{}@{ip}", user(&uri)), 1);
        self.media(&mut request, false).await;
        self.forward(request, wire, next).await;
    }

    async fn response(&self, from: &Wire, mut response: Message) {
        let Some(branch) = response.branch().map(str::to_owned) else { return };
        let Some(next) = self.back.lock().expect("back").get(&branch).cloned() else { return };
        let at = response.headers.iter().position(|(name, _)| name == "Via").expect("ours");
        response.headers.remove(at);
        let mac_of = |wire: &Wire| self.macs.lock().expect("macs").get(&wire.id()).copied();
        if response.cseq_method() == Some("REGISTER") && response.status() == Some(200) {
            let own = mac_of(&next).map(|mac| mac.to_string()).unwrap_or_default();
            let ip = next.remote().ip();
            response.headers.retain(|(name, value)| name != "Contact" || value.contains(&own));
            for (_, value) in response.headers.iter_mut().filter(|(name, _)| name == "Contact") {
                *value = value.replace(address(value), &format!("sips:anonymous@{ip}"));
            }
        } else if mac_of(from).is_some() {
            self.hide(&mut response, mac_of(from));
        }
        self.media(&mut response, true).await;
        let _ = next.send(write(&response)).await;
    }

    /// A phone's Contact as the inside may see it.
    fn hide(&self, message: &mut Message, mac: Option<Mac>) {
        let tag = match mac {
            Some(mac) if self.fault != Some(Fault::TagRouting) => format!(";crt={mac}"),
            _ => String::new(),
        };
        for (_, value) in message.headers.iter_mut().filter(|(name, _)| name == "Contact") {
            let uri = address(value).to_owned();
            *value = value.replace(&uri, &format!("sips:{}@{}{tag}", user(&uri), self.inside));
        }
    }

    async fn media(&self, message: &mut Message, answer: bool) {
        if message.text("Content-Type") == "application/sdp" && self.fault != Some(Fault::Relay) {
            let (id, sdp) = (message.text("Call-ID").to_owned(), message.body_text());
            message.body = self.relay.rewrite(self.outside, &id, answer, &sdp).await.into_bytes();
        }
    }

    async fn forward(&self, mut request: Message, from: Wire, next: Wire) {
        let branch = format!("z9hG4bK{}", token());
        if parameter(request.text("To"), "tag").is_some() && request.method() != Some("ACK") {
            assert!(request.text("Route").contains(&self.inside.to_string()), "{request} without its Route");
        }
        request.headers.retain(|(name, _)| name != "Route");
        if request.method() == Some("INVITE") {
            request.headers.insert(0, ("Record-Route".to_owned(), format!("<sips:{};lr;ft=1>", self.inside)));
        }
        request.headers.insert(0, ("Via".to_owned(), format!("SIP/2.0/TLS {};branch={branch}", self.inside)));
        self.back.lock().expect("back").insert(branch, from);
        let _ = next.send(write(&request)).await;
    }

    async fn switch(&self, to: SocketAddr) -> Option<Wire> {
        let mut dialled = self.dialled.lock().await;
        if let Some(wire) = dialled.get(&to) {
            return Some(wire.clone());
        }
        let stream = tls::tcp(self.inside.ip(), to).await.ok()?;
        let stream = tls::start(stream, &to.ip().to_string(), &self.dial).await.ok()?;
        let wire = Wire::start(stream, self.inside, to, self.inbox.clone());
        dialled.insert(to, wire.clone());
        Some(wire)
    }
}

fn write(message: &Message) -> String {
    let mut text = format!("{}\r\n", message.start);
    for (name, value) in &message.headers {
        if name != "Content-Length" {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    assert!(parameter(message.text("Via"), "branch").is_some());
    format!("{text}Content-Length: {}\r\n\r\n{}", message.body.len(), message.body_text())
}
