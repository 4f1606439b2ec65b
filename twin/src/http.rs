//! The little HTTP/1.1 that the phone and the HQ server speak: GET, HEAD and CONNECT, bodies by Content-Length
//! (and, towards us, chunked), connections kept alive.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tls::Stream;

/// Head of a request or response, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Body a phone accepts, in bytes: a firmware has some 60 MB.
const MAX_BODY: usize = 128 * 1024 * 1024;

/// The exchange did not work.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection broke; a TLS alert shows here too.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The connection ended within a message.
    #[error("the connection ended within the {0}")]
    Short(&'static str),
    /// Not HTTP/1.1, or beyond the limits.
    #[error("the answer is not HTTP/1.1 as we read it: {0}")]
    Malformed(&'static str),
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines: name, value.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A request as a server sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Request target as written.
    pub target: String,
    /// Header lines: name, value.
    pub headers: Vec<(String, String)>,
}

/// A connection with the bytes read ahead.
#[derive(Debug)]
pub struct Exchange<S> {
    stream: S,
    ahead: Vec<u8>,
}

impl<S: Stream> Exchange<S> {
    /// Takes over a connected stream.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// Sends a request without body and reads the response.
    pub async fn request(&mut self, method: &str, target: &str, host: &str) -> Result<Response, HttpError> {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: twin-6940\r\n\r\n");
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await?;
        let (start, headers) = self.head().await?.ok_or(HttpError::Short("head"))?;
        let status = start
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .ok_or(HttpError::Malformed("status line"))?;
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        let tunnel = method == "CONNECT" && (200..300).contains(&status);
        let body = if bodiless || tunnel { Vec::new() } else { self.body(&headers).await? };
        Ok(Response { status, headers, body })
    }

    /// The stream after a CONNECT; `None` when bytes were read ahead, which no honest server causes (TLS inside
    /// a tunnel is spoken by the client first).
    pub fn into_tunnel(self) -> Option<S> {
        self.ahead.is_empty().then_some(self.stream)
    }

    /// Reads the next request; `None` when the client is done.
    async fn next_request(&mut self) -> Result<Option<Request>, HttpError> {
        let Some((start, headers)) = self.head().await? else { return Ok(None) };
        let mut words = start.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some("HTTP/1.1")) => {
                Ok(Some(Request { method: method.to_owned(), target: target.to_owned(), headers }))
            }
            _ => Err(HttpError::Malformed("request line")),
        }
    }

    async fn head(&mut self) -> Result<Option<(String, Vec<(String, String)>)>, HttpError> {
        let end = loop {
            if let Some(end) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if self.ahead.len() > MAX_HEAD {
                return Err(HttpError::Malformed("head too long"));
            }
            if !self.more().await? {
                return if self.ahead.is_empty() { Ok(None) } else { Err(HttpError::Short("head")) };
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        let head = String::from_utf8(head).map_err(|_| HttpError::Malformed("head is not text"))?;
        let mut lines = head.trim_end().split("\r\n");
        let start = lines.next().unwrap_or("").to_owned();
        let headers = lines
            .map(|line| line.split_once(':').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or(HttpError::Malformed("header line"))?;
        Ok(Some((start, headers)))
    }

    async fn body(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, HttpError> {
        if let Some(length) = find(headers, "Content-Length") {
            let length = length.parse::<usize>().map_err(|_| HttpError::Malformed("Content-Length"))?;
            return self.take(length).await;
        }
        if find(headers, "Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.chunks().await;
        }
        // RFC 9112 §6.3, last rule: until the connection ends.
        while self.more().await? {
            if self.ahead.len() > MAX_BODY {
                return Err(HttpError::Malformed("body too long"));
            }
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| HttpError::Malformed("chunk size"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            if size > MAX_BODY - body.len() {
                return Err(HttpError::Malformed("body too long"));
            }
            body.extend(self.take(size).await?);
            self.line().await?;
        }
    }

    async fn line(&mut self) -> Result<String, HttpError> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| HttpError::Malformed("chunk line"));
            }
            if self.ahead.len() > MAX_HEAD || !self.more().await? {
                return Err(HttpError::Short("chunk"));
            }
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, HttpError> {
        if length > MAX_BODY {
            return Err(HttpError::Malformed("body too long"));
        }
        while self.ahead.len() < length {
            if !self.more().await? {
                return Err(HttpError::Short("body"));
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    async fn more(&mut self) -> Result<bool, HttpError> {
        let mut buffer = [0_u8; 16 * 1024];
        let count = self.stream.read(&mut buffer).await?;
        self.ahead.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
        Ok(count > 0)
    }
}

/// Serves requests on one connection until the client is done: GET and HEAD, anything else is 405.
pub async fn serve<S: Stream>(
    stream: S,
    answer: impl Fn(&Request) -> (u16, &'static str, Vec<u8>),
) -> Result<(), HttpError> {
    let mut exchange = Exchange::new(stream);
    while let Some(request) = exchange.next_request().await? {
        let (status, kind, body) = match request.method.as_str() {
            "GET" | "HEAD" => answer(&request),
            _ => (405, "text/plain", b"only GET and HEAD\n".to_vec()),
        };
        let reason = match status {
            200 => "OK",
            403 => "Forbidden",
            404 => "Not Found",
            _ => "Method Not Allowed",
        };
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nServer: twin-hq\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // In one piece: head and body apart would wait for each other's acknowledgement.
        let mut message = head.into_bytes();
        if request.method != "HEAD" {
            message.extend(body);
        }
        exchange.stream.write_all(&message).await?;
        exchange.stream.flush().await?;
    }
    // The client has closed; that it does not wait for our close is no fault.
    let _ = exchange.stream.shutdown().await;
    Ok(())
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn response_to(method: &str, wire: &'static str) -> Result<Response, HttpError> {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let peer = tokio::spawn(async move {
            let mut seen = [0_u8; 64];
            let _request = theirs.read(&mut seen).await?;
            theirs.write_all(wire.as_bytes()).await
        });
        let response = Exchange::new(ours).request(method, "/x", "h").await;
        peer.abort();
        response
    }

    #[tokio::test]
    async fn reads_every_framing_of_a_body() {
        for wire in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
        ] {
            let response = response_to("GET", wire).await.expect(wire);
            assert_eq!((response.status, response.body.as_slice()), (200, b"hello".as_slice()), "{wire}");
        }
        assert_eq!(
            response_to("HEAD", "HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\n").await.expect("x").status,
            404
        );
        for wire in
            ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "HTTP/1.1 2", "SIP/2.0 200 OK\r\n\r\n"]
        {
            assert!(response_to("GET", wire).await.is_err(), "{wire}");
        }
    }

    #[tokio::test]
    async fn serves_many_requests_on_one_connection() {
        let (ours, theirs) = tokio::io::duplex(64);
        let server = tokio::spawn(serve(theirs, |request| match request.target.as_str() {
            "/a" => (200, "text/plain", b"A".to_vec()),
            _ => (404, "text/plain", Vec::new()),
        }));
        let mut client = Exchange::new(ours);
        assert_eq!(client.request("GET", "/a", "h").await.expect("a").body, b"A");
        assert_eq!(client.request("HEAD", "/a", "h").await.expect("head").body, b"");
        assert_eq!(client.request("GET", "/b", "h").await.expect("b").status, 404);
        assert_eq!(client.request("PUT", "/a", "h").await.expect("put").status, 405);
        drop(client);
        server.await.expect("ends").expect("cleanly");
    }
}
