//! Remote endpoints: what reaches the server, what comes back, what happens when it breaks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tunnel::event::Event;
use tunnel::net::{Config, Limits};
use tunnel::repository::{Remote, Row, Server};

use crate::support::{Gateway, dead_port, files, read_all, remote, repository, server, soon};

type Heads = Arc<Mutex<Vec<String>>>;

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A server that notes the request and writes `answer` as it stands.
async fn hq(answer: &'static [u8]) -> (SocketAddr, Heads) {
    let heads = Heads::default();
    let noted = Arc::clone(&heads);
    let address = server(move |mut stream| {
        let noted = Arc::clone(&noted);
        async move {
            let head = read_head(&mut stream).await;
            noted.lock().expect("heads").push(head);
            let _ = stream.write_all(answer).await;
            // Long enough for the gateway to pass on what there is before the end comes.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await;
    (address, heads)
}

async fn behind(servers: &[SocketAddr]) -> Gateway {
    let row =
        Row { files: Some(files(&[("/a", b"local")])), remote: Some(remote(servers)), ..Row::default() };
    Gateway::start(|_| repository(row)).await
}

fn failures(gateway: &Gateway) -> Vec<String> {
    let failed = |event: &Event| match event {
        Event::ServerFailed { server, .. } => Some(server.clone()),
        _ => None,
    };
    gateway.events.lock().expect("events").iter().filter_map(failed).collect()
}

#[tokio::test]
async fn what_reaches_the_server_is_written_anew() {
    let (address, heads) = hq(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1.2.3").await;
    let gateway = behind(&[address]).await;
    let rows = "Range: bytes=0-4\r\nIf-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                Cookie: server=gw:6586\r\nUser-Agent: phone\r\nConnection: X-Hop\r\nX-Hop: secret\r\nTE: trailers\r\n\
                Keep-Alive: 5\r\nUpgrade: websocket\r\nProxy-Authorization: Basic x\r\nExpect: 100-continue\r\n\
                X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nContent-Length: 0\r\n";
    let answer = gateway.get("//dir//version%2etxt%20%41?a=%2f..&b", rows).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"1.2.3".as_slice()));
    let head = heads.lock().expect("heads").first().cloned().expect("a request").to_ascii_lowercase();
    assert!(head.starts_with("get /dir/version.txt%20a?a=%2f..&b http/1.1\r\n"), "{head}");
    for row in [
        "host: hq.example.internal",
        "range: bytes=0-4",
        "if-none-match: \"x\"",
        "cookie: server=gw:6586",
        "if-modified-since: sun, 06 nov 1994 08:49:37 gmt",
        "user-agent: phone",
        "connection: close",
        "via: 1.1 farend",
    ] {
        assert_eq!(head.matches(&format!("\r\n{row}\r\n")).count(), 1, "{row} in {head}");
    }
    for name in [
        "x-hop",
        "te",
        "keep-alive",
        "upgrade",
        "proxy-authorization",
        "expect",
        "x-forwarded-for",
        "forwarded",
        "content-length",
        "transfer-encoding",
    ] {
        assert!(!head.contains(&format!("\r\n{name}:")), "{name} in {head}");
    }
    assert_eq!(head.matches("\r\nhost:").count(), 1);
    // A local file never asks the server, nor does its checksum.
    assert_eq!(gateway.get("/a", "").await.body, b"local");
    assert_eq!(gateway.get("/a.sha256", "").await.status, 200);
    assert_eq!(heads.lock().expect("heads").len(), 1);
}

#[tokio::test]
async fn what_comes_back_has_no_rows_of_the_connection() {
    let (address, _) = hq(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nETag: \"e\"\r\n\
        Connection: X-Inside, keep-alive\r\nX-Inside: 10.0.1.10\r\nKeep-Alive: timeout=5\r\n\
        Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\nX-T: y\r\n\r\n")
    .await;
    let gateway = behind(&[address]).await;
    let answer = gateway.get("/f", "").await;
    let lower = answer.head.to_ascii_lowercase();
    assert_eq!(
        (answer.status, answer.row("content-range"), answer.row("etag")),
        (206, Some("bytes 0-4/9"), Some("\"e\""))
    );
    for row in ["x-inside", "keep-alive", "trailer:", "10.0.1.10"] {
        assert!(!lower.contains(row), "{row} in {lower}");
    }
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(
        body.contains("ab") && body.contains("cde") && body.ends_with("0\r\n\r\n") && !body.contains("X-T"),
        "{body}"
    );
}

#[tokio::test]
async fn head_keeps_the_length_and_has_no_body() {
    let (address, heads) = hq(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n").await;
    let gateway = behind(&[address]).await;
    let answer = gateway.ask("HEAD", "/fw.bin", "").await;
    assert_eq!((answer.status, answer.row("content-length"), answer.body.len()), (200, Some("60000000"), 0));
    assert!(heads.lock().expect("heads")[0].starts_with("HEAD /fw.bin HTTP/1.1\r\n"));
}

#[tokio::test]
async fn redirections_are_not_followed_and_name_no_inside_host() {
    for (location, wanted) in [
        ("https://hq.example.internal/x?y=1", Some("/x?y=1")),
        ("http://127.0.0.1:8443/x", Some("/x")),
        ("/x/y", Some("/x/y")),
        ("https://10.0.1.99/secret", None),
        ("//10.0.1.99/secret", None),
        ("/\\10.0.1.99/secret", None),
        ("https://hq.example.internal//10.0.1.99/secret", None),
        ("relative", None),
        ("http://cas.example.internal:5448/", None),
    ] {
        let text = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let (address, heads) = hq(Box::leak(text.into_bytes().into_boxed_slice())).await;
        let gateway = behind(&[address]).await;
        let answer = gateway.get("/f", "").await;
        assert_eq!((answer.status, answer.row("location")), (302, wanted), "{location}");
        assert_eq!(heads.lock().expect("heads").len(), 1, "{location}");
    }
}

/// A short body is never taken for a whole one.
#[tokio::test]
async fn a_server_that_breaks_off_cuts_the_connection() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo".as_slice(),
    ] {
        let (address, _) = hq(answer).await;
        let gateway = behind(&[address]).await;
        let answer = gateway.get("/f", "").await;
        let short = match answer.row("content-length") {
            Some(length) => answer.body.len() < length.parse().expect("a length"),
            None => !answer.body.ends_with(b"0\r\n\r\n"),
        };
        assert!(answer.status == 200 && short, "{answer:?}");
        let complete = |event: &Event| match event {
            Event::Request(access) => Some(access.complete),
            _ => None,
        };
        assert!(!gateway.event(complete).await);
    }
}

#[tokio::test]
async fn answers_that_are_no_http_or_too_big_are_502() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(500));
    for answer in [
        b"".as_slice(),
        b"garbage\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello".as_slice(),
        Box::leak(endless.into_bytes().into_boxed_slice()),
        Box::leak(many.into_bytes().into_boxed_slice()),
    ] {
        let (address, _) = hq(answer).await;
        let gateway = behind(&[address]).await;
        let begin = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        assert_eq!(gateway.get("/f", "").await.status, 502, "{begin:?}");
        assert_eq!(failures(&gateway).len(), 1, "{begin:?}");
    }
}

#[tokio::test]
async fn the_next_server_answers_when_the_first_is_down() {
    let (good, _) = hq(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (cut, _) = hq(b"").await;
    let dead = SocketAddr::new(good.ip(), dead_port().await);
    let gateway = behind(&[dead, cut, good]).await;
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(gateway.get("/f", "").await.body, b"ok");
    }
    assert!(begun.elapsed() < Duration::from_secs(3));
    // Those that failed are tried last for a while, so they failed once each.
    assert_eq!(failures(&gateway), [dead.to_string(), cut.to_string()]);
    let gateway = behind(&[dead]).await;
    assert_eq!(gateway.get("/f", "").await.status, 502);
    // Tried again although it failed before: there is no other.
    assert_eq!(gateway.get("/f", "").await.status, 502);
    assert_eq!(failures(&gateway).len(), 2);
}

fn limited(servers: &[SocketAddr], change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = Limits::default();
    change(&mut limits);
    let config = repository(Row { remote: Some(remote(servers)), ..Row::default() });
    Config { limits, ..config }
}

#[tokio::test]
async fn a_silent_server_is_504_and_a_stalled_body_is_cut() {
    let silent = server(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let stalled = server(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let stall = |limits: &mut Limits| limits.upstream_stall = Duration::from_millis(300);
    let gateway = Gateway::start(|_| limited(&[silent], stall)).await;
    assert_eq!(gateway.get("/f", "").await.status, 504);
    let gateway = Gateway::start(|_| limited(&[stalled], stall)).await;
    let answer = gateway.get("/f", "").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"abc".as_slice()));
}

/// What a phone leaves, the server does not go on sending; what a phone reads slowly, nobody piles up.
#[tokio::test]
async fn a_big_file_streams_and_is_abandoned_with_its_client() {
    let sent = Arc::new(Mutex::new(0_usize));
    let (total, broken) = (Arc::clone(&sent), Arc::new(tokio::sync::Notify::new()));
    let noticed = Arc::clone(&broken);
    let address = server(move |mut stream| {
        let (total, noticed) = (Arc::clone(&total), Arc::clone(&noticed));
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n").await;
            let block = vec![0; 1 << 16];
            while stream.write_all(&block).await.is_ok() {
                *total.lock().expect("total") += block.len();
            }
            noticed.notify_one();
        }
    })
    .await;
    let gateway = behind(&[address]).await;
    let mut client = gateway.client().await;
    client.write_all(b"GET /big HTTP/1.1\r\nHost: gw\r\n\r\n").await.expect("sent");
    let mut some = vec![0; 3_000_000];
    soon(client.read_exact(&mut some)).await.expect("a part");
    // The client pauses: what is on its way is bounded by the sockets, not by the file.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = *sent.lock().expect("total");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*sent.lock().expect("total"), before, "it streams although nobody reads");
    drop(client);
    soon(broken.notified()).await;
}

#[tokio::test]
async fn bad_paths_never_reach_the_server() {
    let (address, heads) = hq(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = behind(&[address]).await;
    for path in [
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/a%5c..%5cb",
        "/a%00",
        "http://127.0.0.1/",
        "/x%0d%0aHost:%20evil",
    ] {
        assert_eq!(gateway.get(path, "").await.status, 400, "{path}");
    }
    assert_eq!(gateway.ask("POST", "/f", "").await.status, 405);
    assert!(heads.lock().expect("heads").is_empty());
}

#[tokio::test]
async fn a_group_without_servers_is_502() {
    let empty = Remote { name: "hq".into(), server_name: "hq".into(), servers: Vec::<Server>::new() };
    let row = Row { remote: Some(Arc::new(empty)), ..Row::default() };
    let gateway = Gateway::start(|_| repository(row)).await;
    let mut client = gateway.client().await;
    client.write_all(b"GET /f HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n").await.expect("sent");
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 502 "));
}
