//! A gateway on a loopback port, and what clients do to it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tunnel::event::{Event, Identity, Peer};
use tunnel::files::{ChecksumStyle, FileGroup, FileSource};
use tunnel::net::{
    BoxFuture, Config, Endpoint, Limits, Repository, Resolve, Stream, SystemDial, Tunnel, Upstream,
};
use tunnel::policy::{Networks, Policy, Ports, Rule};
use tunnel::repository::{Remote, Row, Server};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Events = Arc<Mutex<Vec<Event>>>;

/// Waits, but never for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Answers from a table, each list in turn; the last stays.
#[derive(Default)]
pub(crate) struct Names {
    table: HashMap<String, Vec<Vec<IpAddr>>>,
    pub(crate) asked: AtomicUsize,
}

impl Names {
    pub(crate) fn new(rows: &[(&str, &[&[&str]])]) -> Self {
        let address = |text: &&str| text.parse().expect("an address");
        let answers =
            |lists: &[&[&str]]| lists.iter().map(|list| list.iter().map(address).collect()).collect();
        let table = rows.iter().map(|(name, lists)| ((*name).to_owned(), answers(lists))).collect();
        Self { table, asked: AtomicUsize::new(0) }
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            let answers = self.table.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(answers.get(asked).or_else(|| answers.last()).cloned().unwrap_or_default())
        })
    }
}

/// Plain TCP to servers whose host is an address.
pub(crate) struct PlainUpstream;

impl Upstream for PlainUpstream {
    fn connect<'a>(
        &'a self,
        _: &'a Remote,
        server: &'a Server,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

pub(crate) struct Gateway {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) events: Events,
}

impl Gateway {
    pub(crate) async fn start(config: impl FnOnce(SocketAddr) -> Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let events = Events::default();
        let mut config = config(address);
        config.observer = observer(&events);
        let endpoint = Endpoint::new(config);
        let serving = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((stream, remote)) = listener.accept().await {
                let endpoint = serving.clone();
                let peer = Peer { remote, local: address, identity: None };
                tokio::spawn(async move { endpoint.serve(stream, peer).await });
            }
        });
        Self { endpoint, address, events }
    }

    pub(crate) async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Sends bytes and reads everything until the gateway closes.
    pub(crate) async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.client().await;
        // The gateway may close before it has read everything.
        let _ = client.write_all(request.as_ref()).await;
        read_all(&mut client).await
    }

    /// A GET over a connection of its own.
    pub(crate) async fn get(&self, path: &str, rows: &str) -> Answer {
        self.ask("GET", path, rows).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, rows: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n{rows}\r\n");
        let mut client = self.client().await;
        let _ = client.write_all(request.as_bytes()).await;
        let mut bytes = Vec::new();
        let _ = soon(client.read_to_end(&mut bytes)).await;
        Answer::parse(bytes)
    }

    /// Waits until an event satisfies `wanted`.
    pub(crate) async fn event<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        soon(async {
            loop {
                if let Some(found) = self.events.lock().expect("events").iter().find_map(&wanted) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

pub(crate) fn observer(events: &Events) -> Arc<dyn tunnel::net::Observe> {
    let events = Arc::clone(events);
    Arc::new(move |event| events.lock().expect("events").push(event))
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: Vec<u8>) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { status, head, body: bytes[end..].to_vec() }
    }

    pub(crate) fn row(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|row| row.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }
}

pub(crate) async fn read_all(client: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = soon(client.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// A server that does `serve` with each connection.
pub(crate) async fn server<F, S>(serve: S) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Sends back what comes, and closes when the other side has.
pub(crate) async fn echo() -> SocketAddr {
    server(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// A port on which nothing listens.
pub(crate) async fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

pub(crate) fn nobody() -> Config {
    Config { tunnel: None, repository: None, limits: Limits::default(), observer: Arc::new(|_| {}) }
}

/// A tunnel endpoint to `networks`, in the lab so that loopback can be reached.
pub(crate) fn tunnel(own: SocketAddr, networks: &[&str]) -> Config {
    tunnel_with(own, networks, Names::default())
}

pub(crate) fn tunnel_with(own: SocketAddr, networks: &[&str], names: Names) -> Config {
    let rule = Rule { allow_to: Networks::parse(networks).expect("networks"), ports: Ports::default() };
    let policy = Policy { rules: vec![rule], own_listeners: vec![own], lab: true, ..Policy::default() };
    let tunnel = Tunnel { policy, resolve: Arc::new(names), dial: Arc::new(SystemDial) };
    Config { tunnel: Some(tunnel), ..nobody() }
}

pub(crate) fn files(files: &[(&str, &[u8])]) -> Arc<FileGroup> {
    let source = |(path, content): &(&str, &[u8])| FileSource {
        path: (*path).to_owned(),
        content: Bytes::copy_from_slice(content),
    };
    Arc::new(FileGroup::new(files.iter().map(source), ChecksumStyle::default()).expect("a group"))
}

pub(crate) fn repository(row: Row) -> Config {
    let repository = Repository { rows: vec![row], upstream: Arc::new(PlainUpstream) };
    Config { repository: Some(repository), ..nobody() }
}

pub(crate) fn remote(servers: &[SocketAddr]) -> Arc<Remote> {
    let server = |address: &SocketAddr| Server { host: address.ip().to_string(), port: address.port() };
    Arc::new(Remote {
        name: "hq".to_owned(),
        server_name: "hq.example.internal".to_owned(),
        servers: servers.iter().map(server).collect(),
    })
}

pub(crate) fn identity(byte: u8) -> Identity {
    Identity { subject: format!("CN=phone-{byte}"), key_hash: [byte; 32] }
}
