use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::{Answer, Methods, Remote, Row, Server, answer};
use crate::files::{ChecksumStyle, FileGroup, FileSource};
use crate::path::CleanPath;

fn files(path: &str) -> Option<Arc<FileGroup>> {
    let source = FileSource { path: path.to_owned(), content: Bytes::from_static(b"x") };
    Some(Arc::new(FileGroup::new([source], ChecksumStyle::default()).expect("a group")))
}

fn remote(name: &str) -> Option<Arc<Remote>> {
    Some(Arc::new(Remote { name: name.to_owned(), server_name: name.to_owned(), servers: Vec::new() }))
}

fn found(rows: &[Row], method: &Method, path: &str) -> String {
    match answer(rows, method, &CleanPath::parse(path).expect("a path")) {
        Answer::Local(file) => format!("local {}", file.content().len()),
        Answer::Remote(remote) => format!("remote {}", remote.name),
        Answer::NotFound => "404".to_owned(),
        Answer::MethodNotAllowed(allow) => format!("405 {allow}"),
    }
}

#[test]
fn rows_answer_in_order() {
    let rows = [
        Row { files: files("/a"), methods: Methods::parse("GET").expect("methods"), ..Row::default() },
        Row { files: files("/b"), remote: remote("hq"), ..Row::default() },
        Row { files: files("/c"), remote: remote("spare"), ..Row::default() },
    ];
    for (method, path, wanted) in [
        (Method::GET, "/a", "local 1"),
        (Method::GET, "/a.sha256", "local 68"),
        (Method::HEAD, "/a", "remote hq"),
        (Method::GET, "/b", "local 1"),
        (Method::GET, "/c", "remote hq"),
        (Method::GET, "/a.sha256.sha256", "remote hq"),
        (Method::PUT, "/a", "405 GET, HEAD"),
        (Method::TRACE, "/missing", "405 GET, HEAD"),
        (Method::CONNECT, "/", "405 GET, HEAD"),
    ] {
        assert_eq!(found(&rows, &method, path), wanted, "{method} {path}");
    }
    assert_eq!(found(&rows[..1], &Method::GET, "/b"), "404");
    assert_eq!(found(&rows[..1], &Method::HEAD, "/b"), "405 GET");
    assert_eq!(found(&[], &Method::GET, "/"), "405 ");
}

#[test]
fn methods_are_get_and_head() {
    assert_eq!(Methods::parse("DEFAULT"), Ok(Methods::default()));
    assert_eq!(Methods::parse("GET, HEAD"), Ok(Methods::default()));
    assert!(
        Methods::parse("HEAD")
            .is_ok_and(|methods| !methods.allow(&Method::GET) && methods.allow(&Method::HEAD))
    );
    for text in ["", "get", "GET,", "GET POST", "POST", "CONNECT", "TRACE", "default", "*"] {
        assert!(Methods::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn servers_are_written_as_authorities() {
    let server = |host: &str| Server { host: host.to_owned(), port: 443 }.to_string();
    assert_eq!(
        (server("10.0.1.10"), server("2001:db8::1")),
        ("10.0.1.10:443".into(), "[2001:db8::1]:443".into())
    );
}
