//! Local files: content, conditions, ranges, paths, replacement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tunnel::event::Event;
use tunnel::repository::{Methods, Row};

use crate::support::{Gateway, files, repository};

const CONTENT: &[u8] = b"mivoice config server: 10.0.1.10\ntunnel port: 6587\nbackup outbound proxy:\n";

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn gateway() -> Gateway {
    let group = files(&[("/startup.cfg", CONTENT), ("/dir/fw.bin", b"0123456789")]);
    Gateway::start(|_| repository(Row { files: Some(group), ..Row::default() })).await
}

#[tokio::test]
async fn a_file_its_checksum_and_its_tag() {
    let gateway = gateway().await;
    let file = gateway.get("/startup.cfg", "").await;
    assert_eq!((file.status, file.body.as_slice()), (200, CONTENT));
    assert_eq!(file.row("etag"), Some(format!("\"{}\"", hex(CONTENT)).as_str()));
    assert_eq!(file.row("content-length"), Some(CONTENT.len().to_string().as_str()));
    assert_eq!(file.row("accept-ranges"), Some("bytes"));
    let sum = gateway.get("/startup.cfg.sha256", "").await;
    assert_eq!(String::from_utf8_lossy(&sum.body), format!("{}  startup.cfg\n", hex(CONTENT)));
    let head = gateway.ask("HEAD", "/startup.cfg", "").await;
    assert_eq!(
        (head.status, head.body.len(), head.row("content-length")),
        (200, 0, file.row("content-length"))
    );
    assert_eq!(gateway.get("/startup.cfg.sha256.sha256", "").await.status, 404);
    assert_eq!(gateway.get("/dir/", "").await.status, 404);
    assert_eq!(gateway.get("/STARTUP.CFG", "").await.status, 404);
    let access = |event: &Event| match event {
        Event::Request(access) if access.method == "GET" => Some(access.clone()),
        _ => None,
    };
    let access = gateway.event(access).await;
    let sent = u64::try_from(CONTENT.len()).expect("small");
    assert_eq!((access.target.as_str(), access.status, access.sent), ("/startup.cfg", 200, sent));
    assert!(access.complete);
}

#[tokio::test]
async fn conditions_and_ranges() {
    let gateway = gateway().await;
    let tag = gateway.get("/dir/fw.bin", "").await.row("etag").expect("a tag").to_owned();
    let (first, hole) = ("bytes 0-3/10", "bytes */10");
    for (rows, status, body, range) in [
        (format!("If-None-Match: {tag}"), 304, "", None),
        (format!("If-None-Match: W/{tag}"), 304, "", None),
        (format!("If-None-Match: \"x\", {tag}"), 304, "", None),
        ("If-None-Match: *".to_owned(), 304, "", None),
        ("If-None-Match: \"x\"".to_owned(), 200, "0123456789", None),
        ("If-Match: \"x\"".to_owned(), 412, "", None),
        (format!("If-Match: {tag}"), 200, "0123456789", None),
        (format!("If-Match: W/{tag}"), 412, "", None),
        ("Range: bytes=0-3".to_owned(), 206, "0123", Some(first)),
        ("Range: bytes=-4".to_owned(), 206, "6789", Some("bytes 6-9/10")),
        ("Range: bytes=-40".to_owned(), 206, "0123456789", Some("bytes 0-9/10")),
        ("Range: bytes=7-".to_owned(), 206, "789", Some("bytes 7-9/10")),
        ("Range: bytes=7-99999999999999999999999".to_owned(), 206, "789", Some("bytes 7-9/10")),
        ("Range: bytes=10-".to_owned(), 416, "", Some(hole)),
        ("Range: bytes=99999999999999999999999-".to_owned(), 416, "", Some(hole)),
        ("Range: bytes=-0".to_owned(), 416, "", Some(hole)),
        ("Range: bytes=0-1,3-4".to_owned(), 200, "0123456789", None),
        (format!("Range: bytes={}0-1", "0-1,".repeat(1000)), 200, "0123456789", None),
        ("Range: bytes=0-1\r\nRange: bytes=2-3".to_owned(), 200, "0123456789", None),
        ("Range: bytes=3-1".to_owned(), 200, "0123456789", None),
        ("Range: bytes=a-b".to_owned(), 200, "0123456789", None),
        ("Range: bytes=+1-2".to_owned(), 200, "0123456789", None),
        ("Range: bytes=-".to_owned(), 200, "0123456789", None),
        ("Range: lines=0-3".to_owned(), 200, "0123456789", None),
        (format!("Range: bytes=0-3\r\nIf-Range: {tag}"), 206, "0123", Some(first)),
        ("Range: bytes=0-3\r\nIf-Range: \"x\"".to_owned(), 200, "0123456789", None),
        (format!("Range: bytes=0-3\r\nIf-Range: W/{tag}"), 200, "0123456789", None),
        ("Range: bytes=0-3\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 200, "0123456789", None),
    ] {
        let answer = gateway.get("/dir/fw.bin", &format!("{rows}\r\n")).await;
        assert_eq!((answer.status, answer.row("content-range")), (status, range), "{rows}");
        assert_eq!(String::from_utf8_lossy(&answer.body), body, "{rows}");
    }
    let head = gateway.ask("HEAD", "/dir/fw.bin", "Range: bytes=0-3\r\n").await;
    assert_eq!((head.status, head.row("content-length"), head.body.len()), (206, Some("4"), 0));
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_are_400() {
    let gateway = gateway().await;
    for path in [
        "/../startup.cfg",
        "/./startup.cfg",
        "/dir/../startup.cfg",
        "/dir/..",
        "/..",
        "/.",
        "/dir/.",
        "/%2e%2e/startup.cfg",
        "/%2E%2E/startup.cfg",
        "/.%2e/startup.cfg",
        "/%2e./startup.cfg",
        "/%2e/startup.cfg",
        "/..;/startup.cfg",
        "/..;a=b/startup.cfg",
        "/%2e%2e;/startup.cfg",
        "/.;/startup.cfg",
        "/dir%2ffw.bin",
        "/dir%2Ffw.bin",
        "/dir%5cfw.bin",
        "/dir%5Cfw.bin",
        "/%2fetc/passwd",
        "/..%2fstartup.cfg",
        "/..%5cstartup.cfg",
        "/%2e%2e%2fstartup.cfg",
        "/%2e%2e%5cstartup.cfg",
        "/%252e%252e/startup.cfg",
        "/%252fstartup.cfg",
        "/%25startup.cfg",
        "/startup.cfg%00",
        "/startup.cfg%00.txt",
        "/%00",
        "/startup.cfg%0a",
        "/startup.cfg%0d%0aX:%20y",
        "/%7f",
        "/%1b%5b2J",
        "/%c2%80",
        "/%",
        "/%2",
        "/%zz",
        "/%2g",
        "/%u002e",
        "/startup.cfg%",
        "/%c0%ae%c0%ae/startup.cfg",
        "/%e0%80%ae/",
        "/%ff",
        "/%fe%ff",
        "/%c0%af",
        "/%80",
        "startup.cfg",
        "./startup.cfg",
        "../startup.cfg",
        "gw/startup.cfg",
        "http://gw/startup.cfg",
        "https://gw/startup.cfg",
        "ftp://gw/startup.cfg",
        "file:///etc/passwd",
        "/dir\\fw.bin",
        "/..\\startup.cfg",
        "*",
        "?",
        "/a\u{0}b",
        "/a b",
    ] {
        let answer = gateway.get(path, "").await;
        assert_eq!(answer.status, 400, "{path:?}: {}", answer.head);
    }
    // Decoded once and written plainly, these are the file.
    for path in [
        "/startup.cfg",
        "/startup%2ecfg",
        "/%73tartup.cfg",
        "//startup.cfg",
        "///startup.cfg",
        "/startup.cfg?x=../..",
        "/startup.cfg?",
    ] {
        assert_eq!(gateway.get(path, "").await.body, CONTENT, "{path}");
    }
    // And these name nothing.
    for path in [
        "/startup.cfg/",
        "/startup.cfg;v=1",
        "/startup.cfg%20",
        "/...",
        "/..a",
        "/a..",
        "/dir",
        "/%E2%80%AE",
        "/etc/passwd",
    ] {
        assert_eq!(gateway.get(path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let gateway = gateway().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "CONNECT"] {
        let target = if method == "CONNECT" { "127.0.0.1:80" } else { "/startup.cfg" };
        let answer = gateway.ask(method, target, "").await;
        assert_eq!((answer.status, answer.row("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let group = files(&[("/a", b"a")]);
    let row = Row { files: Some(group), methods: Methods::parse("GET").expect("methods"), ..Row::default() };
    let gateway = Gateway::start(|_| repository(row)).await;
    let answer = gateway.ask("HEAD", "/a", "").await;
    assert_eq!((answer.status, answer.row("allow")), (405, Some("GET")));
}

#[tokio::test]
async fn an_idle_connection_serves_the_next_request() {
    let gateway = gateway().await;
    let one = "GET /dir/fw.bin HTTP/1.1\r\nHost: gw\r\n\r\n";
    let last = "GET /dir/fw.bin HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n";
    let text = gateway.exchange(format!("{one}{one}{last}")).await;
    assert_eq!((text.matches("200 OK").count(), text.matches("0123456789").count()), (3, 3));
}

/// A file and its checksum come from one snapshot: whatever version is met, tag, body and sum agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn replacing_a_file_never_mixes_versions() {
    let version = |number: usize| format!("version {number} {}", "x".repeat(number * 4000)).into_bytes();
    let config = move |number: usize| {
        repository(Row { files: Some(files(&[("/f", &version(number))])), ..Row::default() })
    };
    let sums: Vec<String> = (0..8).map(|number| hex(&version(number))).collect();
    let gateway = Arc::new(Gateway::start(|_| config(0)).await);
    let done = Arc::new(AtomicBool::new(false));
    let (replacing, finished) = (Arc::clone(&gateway), Arc::clone(&done));
    let replacer = tokio::spawn(async move {
        for round in 0..400 {
            replacing.endpoint.reconfigure(config(round % 8));
            tokio::task::yield_now().await;
        }
        finished.store(true, Ordering::SeqCst);
    });
    let mut met = std::collections::BTreeSet::new();
    while !done.load(Ordering::SeqCst) {
        let file = gateway.get("/f", "").await;
        let sum = hex(&file.body);
        assert_eq!(file.row("etag"), Some(format!("\"{sum}\"").as_str()));
        let line = String::from_utf8(gateway.get("/f.sha256", "").await.body).expect("text");
        let listed = line.strip_suffix("  f\n").expect("the line of sha256sum");
        assert!(sums.contains(&sum) && sums.iter().any(|known| known == listed));
        met.insert(sum);
    }
    replacer.await.expect("replaced");
    assert!(met.len() > 1, "only one version was met");
}
