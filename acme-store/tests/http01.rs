//! Port 80 as a phone, an authority and an attacker see it.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use acme_store::net::http01::Responder;
use acme_store::order::Tokens;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Sends `request` and reads until the responder closes.
async fn ask(tokens: &Tokens, request: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let responder = Responder::new(tokens.clone());
    tokio::spawn(async move { responder.serve(listener.accept().await.unwrap().0).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is closed with the answer");
    String::from_utf8_lossy(&answer).to_lowercase()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: gw.example\r\nConnection: keep-alive\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_live_token_is_answered_as_long_as_it_lives() {
    let tokens = Tokens::new();
    let live = tokens.publish("abc_DEF-123", "abc_DEF-123.thumb").unwrap();
    let answer = ask(&tokens, &get("/.well-known/acme-challenge/abc_DEF-123")).await;
    assert!(answer.starts_with("http/1.1 200") && answer.ends_with("\r\n\r\nabc_def-123.thumb"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let head =
        ask(&tokens, b"HEAD /.well-known/acme-challenge/abc_DEF-123 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    drop(live);
    let answer = ask(&tokens, &get("/.well-known/acme-challenge/abc_DEF-123")).await;
    assert!(answer.starts_with("http/1.1 404"), "{answer}");
}

#[tokio::test]
async fn everything_else_is_404_and_closed_at_once() {
    let tokens = Tokens::new();
    let _live = tokens.publish("tok", "answer").unwrap();
    let long = format!("/.well-known/acme-challenge/{}", "a".repeat(129));
    for path in [
        "/keystore/certs/hq_ca.crt",
        "/",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/other",
        "/.well-known/acme-challenge/tok/",
        "/.well-known/acme-challenge/../acme-challenge/tok",
        "/.well-known/acme-challenge/%74ok",
        "/.well-known/acme-challenge//tok",
        "//.well-known/acme-challenge/tok",
        "/.WELL-KNOWN/acme-challenge/tok",
        &long,
    ] {
        let started = Instant::now();
        let answer = ask(&tokens, &get(path)).await;
        assert!(
            answer.starts_with("http/1.1 404") && answer.contains("connection: close"),
            "{path}: {answer}"
        );
        assert!(!answer.contains("answer") && !answer.contains("location"), "{path}: {answer}");
        assert!(started.elapsed() < Duration::from_secs(1), "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_405() {
    let tokens = Tokens::new();
    let _live = tokens.publish("tok", "answer").unwrap();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
        let request = format!(
            "{method} /.well-known/acme-challenge/tok HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = ask(&tokens, request.as_bytes()).await;
        assert!(
            answer.starts_with("http/1.1 405") && answer.contains("allow: get, head"),
            "{method}: {answer}"
        );
    }
}

#[tokio::test]
async fn one_request_a_connection_and_no_rubbish() {
    let tokens = Tokens::new();
    let _live = tokens.publish("tok", "answer").unwrap();
    let twice = [get("/x"), get("/.well-known/acme-challenge/tok")].concat();
    let answer = ask(&tokens, &twice).await;
    assert_eq!(answer.matches("http/1.1").count(), 1, "{answer}");
    for rubbish in [
        &b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"[..],
        b"GET /.well-known/acme-challenge/tok HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = ask(&tokens, rubbish).await;
        let shown = String::from_utf8_lossy(rubbish);
        assert!(!answer.contains("answer") || shown.contains("chunked"), "{shown}: {answer}");
        assert!(!answer.starts_with("http/1.1 200") || shown.contains("chunked"), "{shown}: {answer}");
    }
    let mut large = b"GET / HTTP/1.1\r\nX: ".to_vec();
    large.extend(vec![b'a'; 40_000]);
    let answer = ask(&tokens, &large).await;
    assert!(answer.is_empty() || answer.starts_with("http/1.1 431"), "{answer}");
}

#[test]
fn only_tokens_are_published() {
    let tokens = Tokens::new();
    for bad in ["", "a/b", "a b", "..", "ä", "a%41", &"a".repeat(129)] {
        assert!(tokens.publish(bad, "x").is_none(), "{bad}");
        assert_eq!(tokens.answer(bad), None);
    }
    let live = tokens.publish(&"a".repeat(128), "x");
    assert!(live.is_some());
}
