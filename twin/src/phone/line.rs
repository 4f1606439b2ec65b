//! The phone's SIP line: one mutual TLS connection to its outbound proxy, REGISTER as `anonymous`, and
//! everything that arrives.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::Phone;
use super::call::Talk;
use crate::agent::{Agent, Pending, RequestError, token};
use crate::mac::Mac;
use crate::plan::Handset;
use crate::text::{Message, address, host_port, parameter};
use crate::tls::{self, ConnectError};
use crate::wire::{Closed, Heard, Wire};

/// What the 6900 family says it can do.
pub(super) const ABILITIES: &str = "Supported: gruu,replaces,join,100rel,timer\r\n\
    Allow: INVITE,ACK,CANCEL,BYE,NOTIFY,OPTIONS,UPDATE,REFER\r\nUser-Agent: Twin 6940/6.2.0.29\r\n";

/// Something on the line did not work.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No connection to the outbound proxy.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The connection closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// An answer that does not help.
    #[error("{0} was answered {1}")]
    Refused(String, String),
    /// The body is no session we can take part in.
    #[error("{0} carries no plain audio we can read")]
    NoAudio(&'static str),
    /// No RTP port.
    #[error("RTP port: {0}")]
    Port(#[from] std::io::Error),
    /// Something awaited did not come.
    #[error("no {0} within {1:?}")]
    Missing(&'static str, Duration),
}

/// The result of a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// 200, with the Contact values it lists.
    Bound(Vec<String>),
    /// 301: register at this switch instead.
    Moved(SocketAddr),
}

/// A NOTIFY as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Event package.
    pub event: String,
    /// The MAC its body names.
    pub mac: Option<Mac>,
    /// The Request-URI it came with.
    pub uri: String,
}

/// Everything that arrived on the line.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// NOTIFYs in order.
    pub notifies: Vec<Notify>,
    /// OPTIONS pings answered.
    pub options: u32,
    /// UPDATE pings answered within a call.
    pub updates: u32,
    /// Calls that rang.
    pub rung: usize,
    /// Call-IDs of calls we answered and whose ACK has come.
    pub answered: Vec<String>,
    /// Call-IDs of calls the other side ended.
    pub ended: Vec<String>,
    /// The connection has closed.
    pub closed: bool,
}

/// A live line; it closes when dropped.
#[derive(Debug)]
pub struct Line {
    pub(super) core: Arc<Core>,
    reader: AbortHandle,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) handset: Handset,
    pub(super) patience: Duration,
    pub(super) agent: Agent,
    pub(super) wire: Wire,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) calls: Mutex<HashMap<String, Talk>>,
    call_id: String,
    cseq: Mutex<u32>,
}

impl Line {
    /// Connects to the outbound proxy; `name` is what its certificate must say.
    pub async fn connect(phone: &Phone, proxy: SocketAddr, name: &str) -> Result<Self, LineError> {
        let connect = async {
            let stream = tls::tcp(phone.ip(), proxy).await?;
            let local = stream.local_addr().map_err(|error| ConnectError::Tcp(proxy, error))?;
            Ok::<_, ConnectError>((tls::start(stream, name, phone.settings()).await?, local))
        };
        let (stream, local) = tokio::time::timeout(phone.patience(), connect)
            .await
            .map_err(|_| ConnectError::Slow(proxy.to_string(), phone.patience()))??;
        let (inbox, heard) = mpsc::channel(64);
        let core = Arc::new(Core {
            handset: phone.handset().clone(),
            patience: phone.patience(),
            agent: Agent::default(),
            wire: Wire::start(stream, local, proxy, inbox),
            seen: watch::channel(Seen::default()).0,
            calls: Mutex::default(),
            call_id: token(),
            cseq: Mutex::new(0),
        });
        let reader = tokio::spawn(Arc::clone(&core).listen(heard)).abort_handle();
        Ok(Self { core, reader })
    }

    /// Registers at a switch as `anonymous`, in the very form the phones use; `expires` 0 takes it back.
    pub async fn register(&self, switch: SocketAddr, expires: u32) -> Result<Registered, LineError> {
        let core = &self.core;
        let ip = core.handset.ip;
        let cseq = {
            let mut cseq = core.cseq.lock().unwrap_or_else(PoisonError::into_inner);
            *cseq += 1;
            *cseq
        };
        let branch = branch();
        let text = format!(
            "REGISTER sips:{switch} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
             From: <sips:anonymous@{host}>;tag={tag}\r\nTo: <sips:anonymous@{host}>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sips:anonymous@{ip}>;+sip.instance=\"<{instance}>\";expires={expires}\r\n\
             {ABILITIES}Content-Length: 0\r\n\r\n",
            via = core.via(&branch),
            host = switch.ip(),
            tag = token(),
            call_id = core.call_id,
            instance = core.handset.mac.instance(),
        );
        let response = core.send(&branch, text).await?.last().await?;
        let contacts = response.values("Contact");
        match response.status() {
            Some(200) => Ok(Registered::Bound(contacts.into_iter().map(str::to_owned).collect())),
            Some(301 | 302) => contacts
                .first()
                .and_then(|contact| host_port(address(contact)).parse().ok())
                .map(Registered::Moved)
                .ok_or_else(|| {
                    LineError::Refused("REGISTER".to_owned(), "301 without an address".to_owned())
                }),
            _ => Err(LineError::Refused(format!("REGISTER at {switch}"), response.verdict().to_owned())),
        }
    }

    /// CRLF CRLF, and the CRLF awaited.
    pub async fn ping(&self) -> Result<(), LineError> {
        let answered = self.core.wire.ping(self.core.patience).await;
        answered.then_some(()).ok_or(LineError::Missing("CRLF to our CRLF CRLF", self.core.patience))
    }

    /// What has arrived so far.
    pub fn seen(&self) -> Seen {
        self.core.seen.borrow().clone()
    }

    /// Waits until something has arrived.
    pub async fn wait(
        &self,
        what: &'static str,
        enough: impl FnMut(&Seen) -> bool,
    ) -> Result<Seen, LineError> {
        let mut seen = self.core.seen.subscribe();
        match tokio::time::timeout(self.core.patience, seen.wait_for(enough)).await {
            Ok(Ok(seen)) => Ok(seen.clone()),
            _ => Err(LineError::Missing(what, self.core.patience)),
        }
    }

    /// Our own address on the connection.
    pub fn local(&self) -> SocketAddr {
        self.core.wire.local()
    }

    /// Whose line it is.
    pub fn handset(&self) -> &Handset {
        &self.core.handset
    }

    /// Closes the connection, as when the cable is pulled after what was sent.
    pub async fn close(&self) {
        self.core.wire.close().await;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
        self.core.agent.abandon(self.core.wire.id());
    }
}

/// A branch as RFC 3261 §8.1.1.7 wants it.
pub(super) fn branch() -> String {
    format!("z9hG4bK{}", token())
}

impl Core {
    pub(super) fn via(&self, branch: &str) -> String {
        format!("SIP/2.0/TLS {};branch={branch};rport;alias", self.wire.local())
    }

    pub(super) async fn send(&self, branch: &str, text: String) -> Result<Pending, RequestError> {
        self.agent.send(&self.wire, branch, text, self.patience).await
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, HashMap<String, Talk>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(self: Arc<Self>, mut heard: mpsc::Receiver<Heard>) {
        while let Some(Heard::Message(wire, message)) = heard.recv().await {
            if message.method().is_none() {
                self.agent.deliver(message);
            } else if let Some(reply) = self.handle(&message)
                && wire.send(reply).await.is_err()
            {
                break;
            }
        }
        self.agent.abandon(self.wire.id());
        self.seen.send_modify(|seen| seen.closed = true);
    }

    /// The answer to a request; `None` for an ACK and for what answers by itself later.
    fn handle(self: &Arc<Self>, request: &Message) -> Option<String> {
        let tagged = parameter(request.text("To"), "tag").is_some();
        match request.method()? {
            "NOTIFY" => {
                let notify = Notify {
                    event: request.text("Event").split(';').next().unwrap_or("").trim().to_owned(),
                    mac: body_mac(&request.body_text()),
                    uri: request.uri().unwrap_or("").to_owned(),
                };
                self.seen.send_modify(|seen| seen.notifies.push(notify));
                Some(request.reply("200 OK", Some(&token()), ABILITIES, ""))
            }
            "OPTIONS" => {
                self.seen.send_modify(|seen| seen.options += 1);
                Some(request.reply("200 OK", Some(&token()), ABILITIES, ""))
            }
            "INVITE" if !tagged => {
                let (core, invite) = (Arc::clone(self), request.clone());
                tokio::spawn(async move { core.answer(invite).await });
                None
            }
            "ACK" => {
                self.acknowledged(request);
                None
            }
            "BYE" => Some(self.ended(request)),
            "UPDATE" if self.in_call(request) => {
                self.seen.send_modify(|seen| seen.updates += 1);
                Some(request.reply("200 OK", None, "", ""))
            }
            "INVITE" => Some(request.reply("488 Not Acceptable Here", None, "", "")),
            "UPDATE" | "CANCEL" => {
                Some(request.reply("481 Call/Transaction Does Not Exist", Some(&token()), "", ""))
            }
            _ => Some(request.reply("405 Method Not Allowed", Some(&token()), ABILITIES, "")),
        }
    }
}

/// The MAC in a NOTIFY's body: `<mac>08000FD4CB01</mac>`.
fn body_mac(body: &str) -> Option<Mac> {
    body.split_once("<mac>")?.1.split_once("</mac>")?.0.parse().ok()
}
