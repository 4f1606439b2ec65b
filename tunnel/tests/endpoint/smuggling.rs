//! Requests that two readers could take for different ones: exactly one answer, and the connection closes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::repository::Row;

use crate::support::{Gateway, echo, files, read_all, repository, soon, tunnel};

/// Sends `request`, and a second one behind it; gives the only status.
async fn only_status(gateway: &Gateway, request: &str) -> u16 {
    let text = gateway.exchange(request).await;
    assert_eq!(text.matches("HTTP/1.").count(), usize::from(!text.is_empty()), "{request:?} got {text:?}");
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_connect_that_reads_two_ways_is_refused() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let good = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    let cases: &[(&str, String, u16)] = &[
        ("content", format!("{good}Content-Length: 5\r\n\r\nhello"), 400),
        ("huge content", format!("{good}Content-Length: 99999999999999999999\r\n\r\n"), 400),
        ("negative content", format!("{good}Content-Length: -1\r\n\r\n"), 400),
        ("signed content", format!("{good}Content-Length: +0\r\n\r\n"), 400),
        ("two lengths", format!("{good}Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello"), 400),
        ("two lengths alike", format!("{good}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"), 400),
        ("length list", format!("{good}Content-Length: 0, 0\r\n\r\n"), 400),
        ("chunked", format!("{good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("identity", format!("{good}Transfer-Encoding: identity\r\n\r\n"), 400),
        ("chunked, odd", format!("{good}Transfer-Encoding: chunked, x\r\n\r\n"), 400),
        ("both", format!("{good}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("both, other order", format!("{good}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"), 400),
        ("two hosts", format!("{good}Host: {target}\r\n\r\n"), 400),
        ("other host", format!("CONNECT {target} HTTP/1.1\r\nHost: 10.0.0.1:1\r\n\r\n"), 400),
        ("other port", format!("CONNECT {target} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"), 400),
        ("no host", format!("CONNECT {target} HTTP/1.1\r\n\r\n"), 400),
        ("empty host", format!("CONNECT {target} HTTP/1.1\r\nHost:\r\n\r\n"), 400),
        ("folded row", format!("{good}A: b\r\n c\r\n\r\n"), 400),
        ("folded host", format!("CONNECT {target} HTTP/1.1\r\nHost:\r\n {target}\r\n\r\n"), 400),
        ("blank before colon", format!("{good}A : b\r\n\r\n"), 400),
        ("empty name", format!("{good}: b\r\n\r\n"), 400),
        ("no colon", format!("{good}A\r\n\r\n"), 400),
        ("NUL in a value", format!("{good}A: b\0\r\n\r\n"), 400),
        ("NUL in a name", format!("{good}A\0: b\r\n\r\n"), 400),
        ("NUL in the target", "CONNECT 127.0.0.1\0:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("control in a value", format!("{good}A: b\x01\r\n\r\n"), 400),
        ("bare LF", format!("CONNECT {target} HTTP/1.1\nHost: {target}\n\n"), 400),
        ("bare LF in rows", format!("{good}A: b\nC: d\r\n\r\n"), 400),
        ("bare LF at the end", format!("{good}\n"), 400),
        ("bare CR", format!("{good}A: b\rC: d\r\n\r\n"), 400),
        ("CR CR LF", format!("{good}A: b\r\r\n\r\n"), 400),
        ("LF before", format!("\n{good}\r\n"), 400),
        ("TAB", format!("CONNECT\t{target}\tHTTP/1.1\r\nHost: {target}\r\n\r\n"), 400),
        ("two blanks", format!("CONNECT  {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"), 400),
        ("lower case", format!("connect {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"), 405),
        ("HTTP/0.9", format!("CONNECT {target}\r\n\r\n"), 400),
        ("HTTP/2.0", format!("CONNECT {target} HTTP/2.0\r\nHost: {target}\r\n\r\n"), 400),
        ("HTTP/1.2", format!("CONNECT {target} HTTP/1.2\r\nHost: {target}\r\n\r\n"), 400),
        ("http/1.1", format!("CONNECT {target} http/1.1\r\nHost: {target}\r\n\r\n"), 400),
        ("garbage", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_owned(), 400),
        ("more behind", format!("CONNECT {target} HTTP/1.1 x\r\nHost: {target}\r\n\r\n"), 400),
        ("long target", format!("CONNECT {}:80 HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(300)), 414),
        ("long row", format!("{good}A: {}\r\n\r\n", "b".repeat(17_000)), 431),
        ("endless row", format!("{good}A: {}\r\n\r\n", "b".repeat(200_000)), 431),
        ("many rows", format!("{good}{}\r\n", "A: b\r\n".repeat(101)), 431),
    ];
    for (name, request, status) in cases {
        assert_eq!(only_status(&gateway, request).await, *status, "{name}");
    }
    assert_eq!(gateway.endpoint.tunnels(), 0);
}

/// The pattern of optimistic clients: what follows a refused CONNECT is never read as a request.
#[tokio::test]
async fn nothing_behind_a_refused_connect_is_answered() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let own = gateway.address;
    let behind =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (first, status) in [
        ("CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: 10.0.0.1:80\r\n\r\n".to_owned(), 403),
        (format!("CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n\r\n"), 403),
        ("CONNECT bad HTTP/1.1\r\nHost: bad\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(), 405),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 400),
        (format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nContent-Length: 4\r\n\r\n"), 400),
    ] {
        assert_eq!(only_status(&gateway, &format!("{first}{behind}")).await, status, "{first:?}");
    }
}

#[tokio::test]
async fn every_other_method_on_a_tunnel_endpoint_is_405_with_allow() {
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PRI", "X"] {
        let answer = gateway.ask(method, "/", "").await;
        assert_eq!((answer.status, answer.row("allow")), (405, Some("CONNECT")), "{method}");
    }
}

#[tokio::test]
async fn a_file_request_that_reads_two_ways_is_refused() {
    let group = files(&[("/a", b"secret")]);
    let gateway = Gateway::start(|_| repository(Row { files: Some(group), ..Row::default() })).await;
    let good = "GET /a HTTP/1.1\r\nHost: gw\r\n";
    for (name, request, status) in [
        ("content", format!("{good}Content-Length: 3\r\n\r\nabc"), 400),
        ("chunked", format!("{good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("both", format!("{good}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("two hosts", format!("{good}Host: b\r\n\r\n"), 400),
        ("host of two parts", "GET /a HTTP/1.1\r\nHost: gw b/c\r\n\r\n".to_owned(), 400),
        ("user in host", "GET /a HTTP/1.1\r\nHost: a@gw\r\n\r\n".to_owned(), 400),
        ("absolute form", "GET http://gw/a HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned(), 400),
        ("asterisk", "GET * HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned(), 400),
        ("authority form", "GET gw:80 HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned(), 400),
        ("bare LF", "GET /a HTTP/1.1\nHost: gw\n\n".to_owned(), 400),
        ("folded", format!("{good}A: b\r\n\tc\r\n\r\n"), 400),
        ("CONNECT", "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n".to_owned(), 405),
        (
            "CONNECT and early bytes",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /a HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned(),
            405,
        ),
        ("long path", format!("GET /{} HTTP/1.1\r\nHost: gw\r\n\r\n", "a".repeat(9_000)), 414),
        ("long query", format!("GET /a?{} HTTP/1.1\r\nHost: gw\r\n\r\n", "a".repeat(9_000)), 414),
        ("very long path", format!("GET /{} HTTP/1.1\r\nHost: gw\r\n\r\n", "a".repeat(30_000)), 414),
        ("endless path", format!("GET /{} HTTP/1.1\r\nHost: gw\r\n\r\n", "a".repeat(300_000)), 431),
    ] {
        assert_eq!(only_status(&gateway, &request).await, status, "{name}");
    }
}

/// A good request is answered; the bad one that came in the same bytes ends the connection with its 400.
#[tokio::test]
async fn answers_keep_their_order_before_a_refusal() {
    let group = files(&[("/a", b"content")]);
    let gateway = Gateway::start(|_| repository(Row { files: Some(group), ..Row::default() })).await;
    let good = "GET /a HTTP/1.1\r\nHost: gw\r\n\r\n";
    let text = gateway.exchange(format!("{good}{good}GET /a HTTP/1.1\nHost: gw\r\n\r\n{good}")).await;
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{text:?}");
}

#[tokio::test]
async fn an_http2_preface_is_not_answered_as_http2() {
    let gateway = Gateway::start(|_: SocketAddr| repository(Row::default())).await;
    let mut client = gateway.client().await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    let text = read_all(&mut client).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text:?}");
}

/// A peer that goes on sending behind a refusal gets its answer and an end, not a reset.
#[tokio::test]
async fn a_refusal_is_not_destroyed_by_what_follows() {
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    for (request, status) in [
        ("CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: 10.0.0.1:80\r\n\r\n", "403"),
        ("CONNECT 10.0.0.1:80 HTTP/1.1\nHost: 10.0.0.1:80\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n", "400"),
    ] {
        let mut client = gateway.client().await;
        client.write_all(format!("{request}{}", "x".repeat(60_000)).as_bytes()).await.expect("sent");
        let mut text = String::new();
        soon(client.read_to_string(&mut text)).await.expect("an end, not a reset");
        assert_eq!(text.split(' ').nth(1), Some(status), "{request:?}");
    }
}
