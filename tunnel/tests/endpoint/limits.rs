//! Bounds: slow heads, idle and lingering tunnels, numbers, silent targets and resolvers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tunnel::event::{End, Event, Peer};
use tunnel::net::{BoxFuture, Config, Dial, Endpoint, Limits, Resolve, Tunnel};
use tunnel::repository::Row;

use crate::connect::{end, head, request, through};
use crate::support::{
    Gateway, Names, echo, files, identity, read_all, repository, soon, tunnel, tunnel_with,
};

const LAB: &[&str] = &["127.0.0.0/8"];

fn limited(config: Config, change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = Limits::default();
    change(&mut limits);
    Config { limits, ..config }
}

#[tokio::test]
async fn a_slow_head_gets_408_and_is_closed() {
    let gateway =
        Gateway::start(|own| limited(tunnel(own, LAB), |limits| limits.head = Duration::from_millis(300)))
            .await;
    for start in ["", "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127"] {
        let mut client = gateway.client().await;
        client.write_all(start.as_bytes()).await.expect("sent");
        let begun = Instant::now();
        let text = read_all(&mut client).await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{start:?}: {text:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{start:?} took {:?}", begun.elapsed());
    }
    // A byte now and then does not help: the time is for the whole head.
    let mut client = gateway.client().await;
    let begun = Instant::now();
    for byte in b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1".chunks(1) {
        if client.write_all(byte).await.is_err() || begun.elapsed() > Duration::from_secs(1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 408 "));
    let unreadable = |event: &Event| match event {
        Event::Unreadable { status, .. } => Some(*status),
        _ => None,
    };
    assert_eq!(gateway.event(unreadable).await, Some(408));
}

#[tokio::test]
async fn a_pause_between_requests_ends_without_an_answer() {
    let group = files(&[("/a", b"content")]);
    let gateway = Gateway::start(|_| {
        let row = Row { files: Some(group), ..Row::default() };
        limited(repository(row), |limits| limits.head = Duration::from_millis(300))
    })
    .await;
    let text = gateway.exchange("GET /a HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text:?}");
    assert!(text.ends_with("content"), "{text:?}");
}

#[tokio::test]
async fn an_idle_tunnel_ends_and_a_busy_one_does_not() {
    let target = echo().await;
    let gateway =
        Gateway::start(|own| limited(tunnel(own, LAB), |limits| limits.idle = Duration::from_millis(400)))
            .await;
    let mut client = through(&gateway, target).await;
    for _ in 0..8 {
        client.write_all(b"x").await.expect("sent");
        soon(client.read_exact(&mut [0; 1])).await.expect("echoed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let begun = Instant::now();
    read_all(&mut client).await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "it ended after {:?}", begun.elapsed());
    assert_eq!(end(&gateway).await, (End::Idle, 8, 8));
}

#[tokio::test]
async fn a_tunnel_does_not_outlive_its_life() {
    let target = echo().await;
    let gateway =
        Gateway::start(|own| limited(tunnel(own, LAB), |limits| limits.life = Duration::from_millis(400)))
            .await;
    let mut client = through(&gateway, target).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        if client.write_all(b"x").await.is_err() || !matches!(client.read(&mut [0; 9]).await, Ok(1..)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((400..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(end(&gateway).await.0, End::Expired);
}

/// The linger counts from the last byte: a slow answer to a half-closed client arrives whole.
#[tokio::test]
async fn a_half_closed_tunnel_lingers_after_its_last_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = listener.local_addr().expect("an address");
    let gateway =
        Gateway::start(|own| limited(tunnel(own, LAB), |limits| limits.linger = Duration::from_millis(400)))
            .await;
    let mut client = through(&gateway, target).await;
    let (mut answering, _) = soon(listener.accept()).await.expect("dialled");
    client.shutdown().await.expect("closed");
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        answering.write_all(b"x").await.expect("sent");
    }
    // And then the target forgets to close.
    assert_eq!(read_all(&mut client).await, "xxxxxx");
    assert_eq!(end(&gateway).await, (End::Lingered, 0, 6));
}

/// Serves one end of a connection as the given phone.
async fn phone(endpoint: &Endpoint, number: Option<u8>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let local = listener.local_addr().expect("an address");
    let client = TcpStream::connect(local).await.expect("a connection");
    let (stream, remote) = listener.accept().await.expect("a connection");
    tokio::spawn(endpoint.serve(stream, Peer { remote, local, identity: number.map(identity) }));
    client
}

#[tokio::test]
async fn tunnels_are_counted_by_certificate_and_in_all() {
    let target = echo().await;
    let gateway = Gateway::start(|own| {
        limited(tunnel(own, LAB), |limits| (limits.tunnels_per_peer, limits.tunnels) = (2, 5))
    })
    .await;
    let mut open = Vec::new();
    let mut statuses = Vec::new();
    for number in [Some(1), Some(1), Some(1), Some(2), None, None, None, Some(3)] {
        let mut client = phone(&gateway.endpoint, number).await;
        client.write_all(request(&target.to_string()).as_bytes()).await.expect("sent");
        statuses.push(head(&mut client).await[9..12].to_owned());
        open.push(client);
    }
    assert_eq!(statuses, ["200", "200", "503", "200", "200", "200", "503", "503"]);
    assert_eq!(gateway.endpoint.tunnels(), 5);
    // A place that is given back can be taken again.
    drop(open);
    soon(async {
        while gateway.endpoint.tunnels() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut client = phone(&gateway.endpoint, Some(3)).await;
    client.write_all(request(&target.to_string()).as_bytes()).await.expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
}

/// Neither answers nor fails.
struct Silent;

impl Dial for Silent {
    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(std::future::pending())
    }
}

impl Resolve for Silent {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

/// Goes where it likes.
struct Astray(SocketAddr);

impl Dial for Astray {
    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}

fn short(limits: &mut Limits) {
    (limits.connect, limits.connect_total) = (Duration::from_millis(200), Duration::from_millis(500));
}

#[tokio::test]
async fn silent_targets_and_resolvers_are_504() {
    let names = || Names::new(&[("many.example", &[&["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]])]);
    let silent_dial = Gateway::start(|own| {
        let mut config = limited(tunnel_with(own, LAB, names()), short);
        config.tunnel = config.tunnel.map(|tunnel| Tunnel { dial: Arc::new(Silent), ..tunnel });
        config
    })
    .await;
    let silent_names = Gateway::start(|own| {
        let mut config = limited(tunnel(own, LAB), short);
        config.tunnel = config.tunnel.map(|tunnel| Tunnel { resolve: Arc::new(Silent), ..tunnel });
        config
    })
    .await;
    for (gateway, target, error, least, most) in [
        (&silent_dial, "127.0.0.1:9", "connection_timeout", 200, 450),
        (&silent_dial, "many.example:9", "connection_timeout", 500, 1500),
        (&silent_names, "many.example:9", "dns_timeout", 500, 1500),
    ] {
        let begun = Instant::now();
        let text = gateway.exchange(request(target)).await;
        assert!(text.starts_with("HTTP/1.1 504 ") && text.contains(error), "{target}: {text:?}");
        let took = begun.elapsed().as_millis();
        assert!((least..most).contains(&took), "{target} took {took} ms");
        assert_eq!(gateway.endpoint.tunnels(), 0);
    }
}

#[tokio::test]
async fn a_dialler_that_goes_astray_is_not_believed() {
    let (wanted, reached) = (echo().await, echo().await);
    let gateway = Gateway::start(|own| {
        let mut config = tunnel(own, LAB);
        config.tunnel = config.tunnel.map(|tunnel| Tunnel { dial: Arc::new(Astray(reached)), ..tunnel });
        config
    })
    .await;
    let text = gateway.exchange(request(&wanted.to_string())).await;
    assert!(text.starts_with("HTTP/1.1 500 "), "{text:?}");
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_is_cut() {
    let big = vec![7; 32 << 20];
    let group = files(&[("/big", &big)]);
    let gateway = Gateway::start(|_| {
        let row = Row { files: Some(group), ..Row::default() };
        limited(repository(row), |limits| limits.write_stall = Duration::from_millis(300))
    })
    .await;
    let mut client = gateway.client().await;
    client.write_all(b"GET /big HTTP/1.1\r\nHost: gw\r\n\r\n").await.expect("sent");
    let cut = |event: &Event| match event {
        Event::Request(access) => Some((access.complete, access.sent)),
        _ => None,
    };
    let (complete, sent) = gateway.event(cut).await;
    assert!(!complete && sent < 32 << 20, "complete {complete}, {sent} bytes");
}
