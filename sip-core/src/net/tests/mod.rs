//! The driver with a small machine of the tests' own, over pipes in stopped time and over real loopback sockets.

mod dials;
mod sockets;
mod streams;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Connect, Driver, Handle, Limits, Resolve, Stream};
use crate::flow::{Dial, FlowId, ListenerId, Peer, Side, Source, Target, Transmit, Transport};
use crate::machine::{Fault, Input, Machine, Output};
use crate::message::{Message, Method, Name, response};
use crate::resolve::records::{Answer, Kind, Question, Records};

/// Answers OPTIONS with 200, does as it is told, and tells everything it sees.
#[derive(Default)]
struct Probe {
    outputs: VecDeque<Output<Seen>>,
    wake: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Opened(FlowId, Option<Dial>),
    Message(String),
    Ping(Source),
    Unframeable(Option<u16>),
    Closed(FlowId),
    DialFailed(Dial, Fault),
    Resolved(u64, Records),
    Drain,
    Woken,
    Overload(bool),
    Handed(String),
    Unhanded(u8),
    Unsent(FlowId),
}

enum Command {
    Send(Target, Bytes),
    Close(FlowId),
    Resolve(u64, &'static str),
    WakeIn(Duration),
}

impl Machine for Probe {
    type Command = Command;
    type Event = Seen;

    fn handle_input(&mut self, _now: Instant, input: Input) {
        let seen = match input {
            Input::FlowOpened { flow, dial, .. } => Seen::Opened(flow, dial),
            Input::Message { source, message, .. } => {
                if message.method() == Some(Method::Options) {
                    let bytes = response(&message, 200, "OK", None, &[]);
                    self.outputs.push_back(Output::Transmit(Transmit { target: source.into(), bytes }));
                }
                let call =
                    String::from_utf8_lossy(message.raw(Name::CallId).unwrap_or_default()).into_owned();
                Seen::Message(call)
            }
            Input::Ping { source } => Seen::Ping(source),
            Input::Unframeable { status, .. } => Seen::Unframeable(status),
            Input::FlowClosed { flow } => Seen::Closed(flow),
            Input::DialFailed { dial, fault } => Seen::DialFailed(dial, fault),
            Input::Resolved { query, answer } => Seen::Resolved(query, answer.records),
            Input::Drain => Seen::Drain,
            Input::Overload(overloaded) => Seen::Overload(overloaded),
            Input::Handed(handed) => {
                Seen::Handed(String::from_utf8_lossy(handed.message.bytes()).into_owned())
            }
            Input::Unhanded(handed) => Seen::Unhanded(handed.to),
            Input::Unsent { flow } => Seen::Unsent(flow),
        };
        self.outputs.push_back(Output::Event(seen));
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Send(target, bytes) => {
                self.outputs.push_back(Output::Transmit(Transmit { target, bytes }));
            }
            Command::Close(flow) => self.outputs.push_back(Output::Close(flow)),
            Command::Resolve(query, name) => {
                let question = Question { kind: Kind::Addresses, name: name.to_owned() };
                self.outputs.push_back(Output::Resolve { query, question });
            }
            Command::WakeIn(wait) => self.wake = Some(now + wait),
        }
    }

    fn poll_output(&mut self, now: Instant) -> Output<Seen> {
        if self.wake.is_some_and(|at| at <= now) {
            self.wake = None;
            self.outputs.push_back(Output::Event(Seen::Woken));
        }
        self.outputs.pop_front().unwrap_or(Output::Timeout(self.wake))
    }
}

/// Where dials lead, by the port asked for.
#[derive(Clone, Default)]
struct Network {
    /// Pipes handed out; the far ends.
    answered: Arc<Mutex<Vec<(Dial, DuplexStream)>>>,
}

/// Nobody listens here.
const REFUSED: u16 = 1;
/// No answer at all.
const VOID: u16 = 2;
/// The embedder's code panics.
const PANIC: u16 = 3;

impl Connect for Network {
    async fn connect(&self, dial: &Dial) -> io::Result<(Box<dyn Stream>, Peer)> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        match dial.remote.port() {
            REFUSED => Err(io::ErrorKind::ConnectionRefused.into()),
            VOID => std::future::pending().await,
            PANIC => panic!("on purpose"),
            _ => {
                let (near, far) = tokio::io::duplex(1 << 16);
                self.answered.lock().expect("no panic").push((*dial, far));
                Ok((Box::new(near), Peer { listener: None, ..peer(dial.remote) }))
            }
        }
    }
}

impl Resolve for Network {
    async fn resolve(&self, question: &Question) -> io::Result<Answer> {
        match question.name.as_str() {
            "pbx.test" => {
                let records = Records::Addresses(vec![[10, 0, 1, 10].into()]);
                Ok(Answer { records, ttl: Duration::from_secs(60) })
            }
            "slow.test" => std::future::pending().await,
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A running driver.
struct Rig {
    handle: Handle<Command>,
    seen: mpsc::UnboundedReceiver<Seen>,
    network: Network,
    running: JoinHandle<Probe>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let (driver, handle) = Driver::new(limits);
        let (tell, seen) = mpsc::unbounded_channel();
        let network = Network::default();
        let (connect, resolve) = (Arc::new(network.clone()), Arc::new(network.clone()));
        let events = move |event| drop(tell.send(event));
        let running = tokio::spawn(driver.run(Probe::default(), connect, resolve, events));
        Self { handle, seen, network, running }
    }

    /// What the machine sees next; in stopped time an hour passes at once if it sees nothing.
    async fn sees(&mut self) -> Seen {
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, self.seen.recv())
            .await
            .expect("something happens")
            .expect("the driver runs")
    }

    /// A peer connects through a pipe that holds so many octets.
    async fn connect(&mut self, capacity: usize) -> (FlowId, DuplexStream) {
        let (near, far) = tokio::io::duplex(capacity);
        self.handle.stream(near, peer(([192, 0, 2, 1], 4000).into())).expect("taken");
        match self.sees().await {
            Seen::Opened(flow, None) => (flow, far),
            other => panic!("{other:?}"),
        }
    }

    async fn command(&self, command: Command) {
        self.handle.command(command).await.expect("the driver runs");
    }
}

fn peer(remote: SocketAddr) -> Peer {
    Peer {
        remote,
        local: ([127, 0, 0, 1], 5061).into(),
        transport: Transport::Tls,
        side: Side::Outside,
        listener: Some(ListenerId(1)),
        identity: None,
        verified: false,
    }
}

fn options(call: &str) -> String {
    format!(
        "OPTIONS sip:gw@example.com SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bK{call}\r\n\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:gw@example.com>\r\nCall-ID: {call}\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 4\r\n\r\nbody"
    )
}

/// A request that the probe does not answer.
fn info(call: &str) -> Bytes {
    options(call).replace("OPTIONS", "INFO").into()
}

/// One message off the wire, by its head.
async fn read_message(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(from.read_u8().await.expect("a message"));
    }
    let message = Message::parse(Bytes::from(text.clone()), &Default::default());
    let body = match message {
        Ok(message) => message.content_length().unwrap_or(0),
        Err(_) => 4,
    };
    for _ in 0..body {
        text.push(from.read_u8().await.expect("a body"));
    }
    String::from_utf8(text).expect("text")
}

/// Everything up to the end of the connection.
async fn read_to_end(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).await.expect("an orderly end");
    text
}
