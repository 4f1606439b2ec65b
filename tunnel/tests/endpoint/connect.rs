//! Tunnels: bytes, half-closes, refusals, names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tunnel::event::{End, Event};
use tunnel::net::Tunnel;
use tunnel::policy::{Forbidden, Refusal};

use crate::support::{Gateway, Names, dead_port, echo, read_all, server, soon, tunnel, tunnel_with};

const LAB: &[&str] = &["127.0.0.0/8"];

pub(crate) fn request(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

/// Reads the head of the answer, byte by byte so that nothing behind it is taken.
pub(crate) async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    soon(async {
        while !head.ends_with(b"\r\n\r\n") {
            match client.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    })
    .await;
    String::from_utf8_lossy(&head).into_owned()
}

/// A client through the tunnel to `target`.
pub(crate) async fn through(gateway: &Gateway, target: SocketAddr) -> TcpStream {
    let mut client = gateway.client().await;
    client.write_all(request(&target.to_string()).as_bytes()).await.expect("sent");
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head:?}");
    let lower = head.to_ascii_lowercase();
    // RFC 9110 §9.3.6: neither row in a 2xx to CONNECT.
    assert!(!lower.contains("content-length") && !lower.contains("transfer-encoding"), "{head:?}");
    client
}

pub(crate) async fn end(gateway: &Gateway) -> (End, u64, u64) {
    let closed = |event: &Event| match event {
        Event::TunnelClosed { end, up, down, .. } => Some((*end, *up, *down)),
        _ => None,
    };
    gateway.event(closed).await
}

/// Bytes without a period that a shift could hide in.
fn noise(len: usize, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_each_way_arrive_whole() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    let sent = noise(10_000_000, 0x1234_5678);
    let wanted = Sha256::digest(&sent);
    let (mut read, mut write) = through(&gateway, target).await.into_split();
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.expect("sent");
        write.shutdown().await.expect("closed");
    });
    let mut received = Vec::new();
    soon(read.read_to_end(&mut received)).await.expect("received");
    sending.await.expect("sending");
    assert_eq!(received.len(), 10_000_000);
    assert_eq!(Sha256::digest(&received), wanted);
    assert_eq!(end(&gateway).await, (End::Finished, 10_000_000, 10_000_000));
    assert_eq!(gateway.endpoint.tunnels(), 0);
}

/// Bytes behind the head, in one piece with it and before the answer, are the target's.
#[tokio::test]
async fn early_bytes_go_to_the_target() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    let early = noise(30_000, 7);
    for close_early in [false, true] {
        let mut client = gateway.client().await;
        let mut bytes = request(&target.to_string()).into_bytes();
        bytes.extend(b"\n\r\r\n\n");
        bytes.extend(&early);
        client.write_all(&bytes).await.expect("sent");
        if close_early {
            client.shutdown().await.expect("closed");
        }
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        let mut back = vec![0; early.len() + 5];
        soon(client.read_exact(&mut back)).await.expect("echoed");
        assert!(back.starts_with(b"\n\r\r\n\n") && back[5..] == early, "close_early {close_early}");
    }
}

#[tokio::test]
async fn http_1_0_may_leave_the_host_out() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    let mut client = gateway.client().await;
    client.write_all(format!("CONNECT {target} HTTP/1.0\r\n\r\nabc").as_bytes()).await.expect("sent");
    assert!(head(&mut client).await.contains(" 200 "));
    let mut back = [0; 3];
    soon(client.read_exact(&mut back)).await.expect("echoed");
    assert_eq!(&back, b"abc");
}

/// A target that hands its stream to the test.
async fn manual() -> (SocketAddr, oneshot::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (give, take) = oneshot::channel();
    tokio::spawn(async move { give.send(listener.accept().await.expect("a connection").0) });
    (address, take)
}

async fn pair() -> (Gateway, TcpStream, TcpStream) {
    let (address, target) = manual().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    let client = through(&gateway, address).await;
    (gateway, client, soon(target).await.expect("dialled"))
}

async fn expect(stream: &mut TcpStream, wanted: &[u8]) {
    let mut bytes = vec![0; wanted.len()];
    soon(stream.read_exact(&mut bytes)).await.expect("bytes");
    assert_eq!(bytes, wanted);
}

async fn expect_end(stream: &mut TcpStream) {
    assert_eq!(soon(stream.read(&mut [0; 1])).await.expect("an end, not a reset"), 0);
}

#[tokio::test]
async fn the_client_closes_first_and_still_receives() {
    let (gateway, mut client, mut target) = pair().await;
    client.write_all(b"question").await.expect("sent");
    client.shutdown().await.expect("closed");
    expect(&mut target, b"question").await;
    expect_end(&mut target).await;
    let answer = noise(65_536, 3);
    target.write_all(&answer).await.expect("sent");
    target.shutdown().await.expect("closed");
    expect(&mut client, &answer).await;
    expect_end(&mut client).await;
    assert_eq!(end(&gateway).await, (End::Finished, 8, 65_536));
}

#[tokio::test]
async fn the_target_closes_first_and_still_receives() {
    let (gateway, mut client, mut target) = pair().await;
    target.write_all(b"greeting").await.expect("sent");
    target.shutdown().await.expect("closed");
    expect(&mut client, b"greeting").await;
    expect_end(&mut client).await;
    let late = noise(65_536, 5);
    client.write_all(&late).await.expect("sent");
    client.shutdown().await.expect("closed");
    expect(&mut target, &late).await;
    expect_end(&mut target).await;
    assert_eq!(end(&gateway).await, (End::Finished, 65_536, 8));
}

#[tokio::test]
async fn both_close_at_once() {
    let (gateway, mut client, mut target) = pair().await;
    client.write_all(b"a").await.expect("sent");
    target.write_all(b"b").await.expect("sent");
    client.shutdown().await.expect("closed");
    target.shutdown().await.expect("closed");
    expect(&mut target, b"a").await;
    expect(&mut client, b"b").await;
    expect_end(&mut target).await;
    expect_end(&mut client).await;
    assert_eq!(end(&gateway).await, (End::Finished, 1, 1));
}

#[tokio::test]
async fn either_closes_without_a_byte() {
    for client_first in [true, false] {
        let (gateway, mut client, mut target) = pair().await;
        let (first, second) =
            if client_first { (&mut client, &mut target) } else { (&mut target, &mut client) };
        first.shutdown().await.expect("closed");
        expect_end(second).await;
        second.shutdown().await.expect("closed");
        expect_end(first).await;
        assert_eq!(end(&gateway).await, (End::Finished, 0, 0), "client first: {client_first}");
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let (gateway, mut client, target) = pair().await;
    target.set_zero_linger().expect("set");
    drop(target);
    let _ = soon(client.read(&mut [0; 1])).await;
    assert_eq!(end(&gateway).await.0, End::TargetFailed);

    let (gateway, client, mut target) = pair().await;
    client.set_zero_linger().expect("set");
    drop(client);
    assert!(soon(target.read(&mut [0; 1])).await.is_err(), "a cut looked like an end");
    assert_eq!(end(&gateway).await.0, End::PeerFailed);
}

#[tokio::test]
async fn refusals_close_and_say_why() {
    let dead = dead_port().await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8", "169.254.0.0/16", "::/0"])).await;
    let own = gateway.address;
    for (target, status, error) in [
        ("10.0.0.1:80".to_owned(), 403, "http_request_denied"),
        ("169.254.169.254:80".to_owned(), 403, "destination_ip_prohibited"),
        ("[64:ff9b::7f00:1]:80".to_owned(), 403, "destination_ip_prohibited"),
        (own.to_string(), 403, "destination_ip_prohibited"),
        (format!("[::ffff:127.0.0.1]:{}", own.port()), 403, "destination_ip_prohibited"),
        ("unknown.example:80".to_owned(), 502, "dns_error"),
        (format!("127.0.0.1:{dead}"), 502, "connection_refused"),
        ("127.1:80".to_owned(), 400, "http_request_error"),
        ("127.0.0.1".to_owned(), 400, "http_request_error"),
        ("user@127.0.0.1:80".to_owned(), 400, "http_request_error"),
    ] {
        let text = gateway.exchange(request(&target)).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {text:?}");
        assert!(text.contains(&format!("proxy-status: farend; error={error}\r\n")), "{target}: {text:?}");
        assert!(text.to_ascii_lowercase().contains("connection: close"), "{target}: {text:?}");
    }
    let refusals = gateway
        .events
        .lock()
        .expect("events")
        .iter()
        .filter(|event| {
            matches!(event, Event::Request(access)
            if access.status == 403 && access.refusal == Some(Refusal::Forbidden(Forbidden::OwnListener)))
        })
        .count();
    assert_eq!(refusals, 2);
}

/// Address and port forms that a lenient parser takes for a listening target.
#[tokio::test]
async fn odd_spellings_of_a_reachable_target_are_400() {
    let target = echo().await;
    let port = target.port();
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    for authority in [
        "127.1:P",
        "2130706433:P",
        "0x7f000001:P",
        "0x7f.0.0.1:P",
        "0177.0.0.1:P",
        "127.0.0.01:P",
        "127.0.0.1.:P",
        "127.0.0.1:P@127.0.0.1:P",
        "a@127.0.0.1:P",
        "127.0.0.1:P/",
        "127.0.0.1:P/x",
        "127.0.0.1:P?x",
        "127.0.0.1:P#x",
        "127.0.0.1:+P",
        "127.0.0.1:0P",
        "127.0.0.1:P ",
        "127.0.0.1: P",
        "[127.0.0.1]:P",
        "[::ffff:127.0.0.1%lo]:P",
        "[::ffff:127.0.0.1%25lo]:P",
        "http://127.0.0.1:P",
        "//127.0.0.1:P",
        "127.0.0.1:P:P",
        "127%2e0.0.1:P",
        "127.0.0.1:",
        "127.0.0.1",
        ":P",
        "P",
        "[::1:P",
        "::ffff:127.0.0.1:P",
        "127.0.0.1:0",
        "127.0.0.1:P,127.0.0.1:P",
    ] {
        let authority = authority.replace('P', &port.to_string());
        let text = gateway.exchange(request(&authority)).await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{authority}: {text:?}");
    }
    let over = u32::from(port) + 65_536;
    let text = gateway.exchange(request(&format!("127.0.0.1:{over}"))).await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{over}: {text:?}");
    through(&gateway, target).await;
    // The mapped form is the same address, not another one.
    let text = gateway.exchange(request(&format!("[::ffff:127.0.0.2]:{port}"))).await;
    assert!(text.starts_with("HTTP/1.1 502 "), "{text:?}");
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_only_permitted_addresses_are_dialled() {
    let target = echo().await;
    let names = Names::new(&[
        ("mixed.example", &[&["169.254.169.254", "10.0.0.1", "127.0.0.1"]]),
        ("bad.example", &[&["169.254.169.254", "::1", "0.0.0.0"]]),
        // Permitted at the check, forbidden a moment later: a second look-up would be fatal.
        ("rebind.example", &[&["127.0.0.1"], &["169.254.169.254"]]),
    ]);
    let names = Arc::new(names);
    let gateway = Gateway::start(|own| {
        let mut config = tunnel_with(own, &["127.0.0.1"], Names::default());
        config.tunnel = config.tunnel.map(|tunnel| Tunnel { resolve: names.clone(), ..tunnel });
        config
    })
    .await;
    for (name, status, asked) in [
        ("rebind.example", 200, 1),
        ("rebind.example", 403, 2),
        ("mixed.example", 200, 3),
        ("bad.example", 403, 4),
    ] {
        let mut client = gateway.client().await;
        client.write_all(request(&format!("{name}:{}", target.port())).as_bytes()).await.expect("sent");
        let head = head(&mut client).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {head:?}");
        assert_eq!(names.asked.load(Ordering::SeqCst), asked, "{name}");
    }
    let opened = |event: &Event| match event {
        Event::TunnelOpened { address, .. } => Some(*address),
        _ => None,
    };
    assert_eq!(gateway.event(opened).await, target);
}

/// The second address answers when the first does not.
#[tokio::test]
async fn the_next_permitted_address_is_dialled() {
    let target = echo().await;
    let names = Names::new(&[("two.example", &[&["127.0.0.9", "127.0.0.1"]])]);
    let gateway = Gateway::start(|own| tunnel_with(own, LAB, names)).await;
    let mut client = gateway.client().await;
    client.write_all(request(&format!("two.example:{}", target.port())).as_bytes()).await.expect("sent");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn new_rules_hold_for_the_next_tunnel_and_leave_the_old_one() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    let mut old = through(&gateway, target).await;
    gateway.endpoint.reconfigure(tunnel(gateway.address, &["10.0.0.0/8"]));
    let refused = gateway.exchange(request(&target.to_string())).await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused:?}");
    old.write_all(b"still here").await.expect("sent");
    expect(&mut old, b"still here").await;
    gateway.endpoint.close();
    assert_eq!(read_all(&mut old).await, "");
    assert_eq!(end(&gateway).await, (End::Shutdown, 10, 10));
}

/// A target that neither reads nor writes does not stop the tunnel from ending, and little is kept for it.
#[tokio::test]
async fn a_target_that_never_reads_is_not_buffered_for() {
    let target = server(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    let mut client = through(&gateway, target).await;
    let block = vec![0; 1 << 20];
    let mut sent = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), client.write_all(&block)).await {
        sent += block.len();
        assert!(sent < 64 << 20, "the gateway swallows without end");
    }
    drop(client);
}

/// The stream changes hands only when the 200 is through, however little it takes at a time.
#[tokio::test]
async fn the_answer_arrives_over_the_narrowest_stream() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    for room in [1, 3, 16] {
        let (client, stream) = tokio::io::duplex(room);
        let peer = tunnel::Peer { remote: gateway.address, local: gateway.address, identity: None };
        tokio::spawn(gateway.endpoint.serve(stream, peer));
        let (mut read, mut write) = tokio::io::split(client);
        let bytes = format!("{}hello", request(&target.to_string()));
        tokio::spawn(async move {
            write.write_all(bytes.as_bytes()).await.expect("sent");
            write.shutdown().await.expect("closed");
        });
        let mut text = Vec::new();
        soon(read.read_to_end(&mut text)).await.expect("received");
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nhello"),
            "room {room}: {text:?}"
        );
    }
}

/// Clients that vanish in every way leave no tunnel, no place taken, and as many ends as beginnings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_short_tunnels_leave_nothing() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, LAB)).await;
    for round in 0..500 {
        let mut client = gateway.client().await;
        client.write_all(request(&target.to_string()).as_bytes()).await.expect("sent");
        match round % 5 {
            0 => client.set_zero_linger().expect("set"),
            1 => client.shutdown().await.expect("closed"),
            2 => drop(head(&mut client).await),
            3 => client.write_all(&[0; 5000]).await.expect("sent"),
            _ => {
                head(&mut client).await;
                client.set_zero_linger().expect("set");
            }
        }
    }
    let counts = || {
        let events = gateway.events.lock().expect("events");
        let opened = events.iter().filter(|event| matches!(event, Event::TunnelOpened { .. })).count();
        let closed = events.iter().filter(|event| matches!(event, Event::TunnelClosed { .. })).count();
        (opened, closed, gateway.endpoint.tunnels())
    };
    soon(async {
        // At least those that read their 200 had a tunnel; each that began has to end.
        while !matches!(counts(), (opened @ 200.., closed, 0) if opened == closed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
