//! A phone switch: registrar, NOTIFY burst, pings. Calls are in [`super::bridge`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::bridge::Bridges;
use super::registrar::{Binding, Delivery, Records};
use crate::agent::{Agent, Pending, RequestError, token};
use crate::mac::Mac;
use crate::text::{Message, address, host_port, parameter};
use crate::tls::{self, ConnectError};
use crate::wire::{Heard, Wire};

/// Over which connection a switch sends its requests to a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Over {
    /// A connection the switch opens to host and port of the registered Contact.
    #[default]
    Dial,
    /// The connection the registration came on.
    Registration,
}

/// Which phone is sent to another switch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rehome {
    pub(super) mac: Mac,
    pub(super) to: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Switch {
    pub(super) index: usize,
    pub(super) address: SocketAddr,
    pub(super) records: Arc<watch::Sender<Records>>,
    pub(super) over: Over,
    pub(super) patience: Duration,
    pub(super) bridges: Arc<Mutex<Bridges>>,
    pub(super) rehome: Option<Rehome>,
    agent: Agent,
    settings: Arc<ClientConfig>,
    dialled: tokio::sync::Mutex<HashMap<SocketAddr, Wire>>,
    inbox: mpsc::Sender<Heard>,
}

/// A switch could not send.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("'{0}' is no address to dial")]
    Address(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What a switch is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) index: usize,
    pub(super) address: SocketAddr,
    pub(super) records: Arc<watch::Sender<Records>>,
    pub(super) over: Over,
    pub(super) patience: Duration,
    pub(super) rehome: Option<Rehome>,
    pub(super) settings: Arc<ClientConfig>,
    pub(super) shared: Shared,
}

/// What the switches of a site share besides the records: a phone registered at one may be called through
/// another, over the connection it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    agent: Agent,
    bridges: Arc<Mutex<Bridges>>,
}

impl Switch {
    /// A switch, and what its connections will bring.
    pub(super) fn new(parts: Parts) -> (Arc<Self>, mpsc::Receiver<Heard>) {
        let (inbox, heard) = mpsc::channel(256);
        let Parts { index, address, records, over, patience, rehome, settings, shared } = parts;
        let switch = Self {
            index,
            address,
            records,
            over,
            patience,
            rehome,
            settings,
            bridges: shared.bridges,
            agent: shared.agent,
            dialled: tokio::sync::Mutex::default(),
            inbox,
        };
        (Arc::new(switch), heard)
    }

    /// Takes connections for ever.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, settings: Arc<ServerConfig>) {
        let acceptor = TlsAcceptor::from(settings);
        loop {
            let Ok((stream, remote)) = listener.accept().await else { continue };
            // Only a matter of delay.
            let _ = stream.set_nodelay(true);
            let (switch, acceptor) = (Arc::clone(&self), acceptor.clone());
            tokio::spawn(async move {
                let handshake = tokio::time::timeout(switch.patience, acceptor.accept(stream)).await;
                if let Ok(Ok(stream)) = handshake {
                    // The reader's end of it: the connection lives as long as somebody holds it, and that
                    // is whoever answers on it or registered over it; this task holds it until it closes.
                    let (inbox, mut heard) = mpsc::channel(64);
                    let _wire = Wire::start(stream, switch.address, remote, inbox);
                    while let Some(next) = heard.recv().await {
                        let closed = matches!(next, Heard::Closed(..));
                        if switch.inbox.send(next).await.is_err() || closed {
                            break;
                        }
                    }
                }
            });
        }
    }

    /// Handles what arrives, for ever.
    pub(super) async fn run(self: Arc<Self>, mut heard: mpsc::Receiver<Heard>) {
        while let Some(next) = heard.recv().await {
            match next {
                Heard::Message(_, message) if message.method().is_none() => {
                    self.agent.deliver(message);
                }
                Heard::Message(wire, message) => self.handle(wire, message).await,
                Heard::Closed(id, _) => {
                    self.agent.abandon(id);
                    self.dialled.lock().await.retain(|_, wire| wire.id() != id);
                }
            }
        }
    }

    async fn handle(self: &Arc<Self>, wire: Wire, request: Message) {
        let tagged = parameter(request.text("To"), "tag").is_some();
        let reply = match request.method().unwrap_or("") {
            "REGISTER" => self.register(&wire, &request),
            "INVITE" if !tagged => {
                tokio::spawn(Arc::clone(self).bridge(wire, request));
                return;
            }
            "ACK" => {
                self.acknowledged(&request).await;
                return;
            }
            "BYE" => self.ended(&request),
            "OPTIONS" | "SUBSCRIBE" | "PUBLISH" => request.reply("200 OK", Some(&token()), "", ""),
            "INVITE" => request.reply("488 Not Acceptable Here", None, "", ""),
            "UPDATE" if self.in_call(&request) => request.reply("200 OK", None, "", ""),
            _ => request.reply("481 Call/Transaction Does Not Exist", Some(&token()), "", ""),
        };
        // A connection that is gone needs no answer.
        let _ = wire.send(reply).await;
    }

    fn register(self: &Arc<Self>, wire: &Wire, request: &Message) -> String {
        let instances = request.values("Contact");
        let mac = instances.iter().find_map(|contact| Mac::from_instance(contact));
        if let Some(rehome) = self.rehome.filter(|rehome| Some(rehome.mac) == mac) {
            let contact = format!("Contact: <sips:{}>\r\n", rehome.to);
            return request.reply("301 Moved Permanently", Some(&token()), &contact, "");
        }
        let (mut rows, mut set) = (String::new(), Vec::new());
        self.records.send_modify(|records| {
            (rows, set) = records.register(Instant::now(), self.index, request, wire);
        });
        for binding in set {
            tokio::spawn(Arc::clone(self).burst(binding));
        }
        request.reply("200 OK", Some(&token()), &rows, "")
    }

    /// What follows every registration; it ends with `firmware-query`.
    async fn burst(self: Arc<Self>, binding: Binding) {
        const EVENTS: [&str; 4] = ["message-summary", "phone-settings", "button-map", "firmware-query"];
        // Our 200 travels on another connection than these: it needs a moment to be there first.
        tokio::time::sleep(Duration::from_millis(50)).await;
        // All are sent before the first is answered, but in order.
        for event in EVENTS {
            let sent = self.send(&binding, "NOTIFY", &notify_rest(&binding, event)).await;
            let (switch, binding) = (Arc::clone(&self), binding.clone());
            tokio::spawn(async move { switch.record(&binding, event, sent).await });
        }
    }

    /// Sends one NOTIFY out of any dialog and records how it ended.
    pub(super) async fn notify(&self, binding: &Binding, event: &str) -> Delivery {
        let sent = self.send(binding, "NOTIFY", &notify_rest(binding, event)).await;
        self.record(binding, event, sent).await
    }

    async fn record(&self, binding: &Binding, event: &str, sent: Result<Pending, SendError>) -> Delivery {
        let delivery = Delivery { mac: binding.mac, event: event.to_owned(), verdict: verdict(sent).await };
        self.records.send_modify(|records| records.deliveries.push(delivery.clone()));
        delivery
    }

    /// OPTIONS as a ping; status and reason phrase, or why there is none.
    pub(super) async fn options(&self, binding: &Binding) -> String {
        verdict(self.send(binding, "OPTIONS", "Content-Length: 0\r\n\r\n").await).await
    }

    /// Sends a request out of any dialog to a binding; `rest` is what follows Contact, body included.
    async fn send(&self, binding: &Binding, method: &str, rest: &str) -> Result<Pending, SendError> {
        let branch = branch();
        let host = host_port(&binding.uri).split(':').next().unwrap_or("").to_owned();
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
             From: <sips:switch{index}@{ip}>;tag={tag}\r\nTo: <sips:{aor}@{host}>\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 {method}\r\n{contact}{rest}",
            uri = binding.uri,
            via = self.via(&branch),
            index = self.index + 1,
            ip = self.address.ip(),
            contact = self.contact(&format!("switch{}", self.index + 1), &binding.uri),
            tag = token(),
            aor = binding.aor,
            call_id = token(),
        );
        let wire = self.wire_to(&binding.uri, &binding.wire).await?;
        Ok(self.agent.send(&wire, &branch, text, self.patience).await?)
    }

    pub(super) fn via(&self, branch: &str) -> String {
        format!("SIP/2.0/TLS {};branch={branch}", self.address)
    }

    /// Our Contact row, in the scheme of the URI it answers to: most phones speak `sips`, some clients `sip` only.
    pub(super) fn contact(&self, user: &str, like: &str) -> String {
        if like.starts_with("sips:") {
            format!("Contact: <sips:{user}@{}>\r\n", self.address)
        } else {
            format!("Contact: <sip:{user}@{};transport=tls>\r\n", self.address)
        }
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The connection a request to `uri` takes; `came` is the one its phone or gateway speaks to us on.
    pub(super) async fn wire_to(&self, uri: &str, came: &Wire) -> Result<Wire, SendError> {
        if self.over == Over::Registration {
            return Ok(came.clone());
        }
        let host = host_port(address(uri));
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:5061") };
        let to: SocketAddr = with_port.parse().map_err(|_| SendError::Address(host.to_owned()))?;
        let mut dialled = self.dialled.lock().await;
        if let Some(wire) = dialled.get(&to) {
            return Ok(wire.clone());
        }
        let connect = async {
            let stream = tls::tcp(self.address.ip(), to).await?;
            tls::start(stream, &to.ip().to_string(), &self.settings).await
        };
        let stream = tokio::time::timeout(self.patience, connect)
            .await
            .map_err(|_| ConnectError::Slow(to.to_string(), self.patience))??;
        let wire = Wire::start(stream, self.address, to, self.inbox.clone());
        dialled.insert(to, wire.clone());
        Ok(wire)
    }
}

/// Event and body of a NOTIFY; the body names the phone it is meant for.
fn notify_rest(binding: &Binding, event: &str) -> String {
    let mac = binding.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let body = format!("<?xml version=\"1.0\"?>\r\n<phone event=\"{event}\"><mac>{mac}</mac></phone>\r\n");
    format!(
        "Event: {event}\r\nSubscription-State: active\r\nContent-Type: application/csta+xml\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Status and reason phrase of the final response, or why there is none.
async fn verdict(sent: Result<Pending, SendError>) -> String {
    let last = async { Ok::<_, SendError>(sent?.last().await?) };
    match last.await {
        Ok(response) => response.verdict().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A branch as RFC 3261 §8.1.1.7 wants it.
pub(super) fn branch() -> String {
    format!("z9hG4bK{}", token())
}
