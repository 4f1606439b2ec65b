//! The answers on port 80: live HTTP-01 tokens (RFC 8555 §8.3) and nothing else.
//!
//! A phone asks here in clear for `/keystore/certs/hq_ca.crt` and must fail quickly; so everything that is no live token is 404 and the
//! connection is closed with the answer. Other methods than GET and HEAD are 405. No redirect, no look at the Host.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::order::Tokens;

const PREFIX: &str = "/.well-known/acme-challenge/";
/// From accept to close: one request and its answer.
const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEAD: usize = 16 << 10;

/// Answers connections to port 80.
#[derive(Clone, Debug)]
pub struct Responder {
    tokens: Tokens,
}

/// What was asked and how it was answered, for counters and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// The status sent; `None` when no request could be read.
    pub status: Option<u16>,
}

impl Responder {
    /// A responder that knows the tokens of all orders.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }

    /// Serves one request and closes the stream.
    ///
    /// # Errors
    /// [`io::Error`] when the stream fails, the request is malformed or too large, or it takes longer than 15 s.
    pub async fn serve<S>(&self, stream: S) -> io::Result<Answered>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sent = std::sync::Mutex::new(None);
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let response = self.answer(request.method(), request.uri().path());
            if let Ok(mut sent) = sent.lock() {
                *sent = Some(response.status().as_u16());
            }
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .max_headers(64)
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(stream), service);
        let served = tokio::time::timeout(TIMEOUT, connection).await;
        let status = sent.lock().map_or(None, |sent| *sent);
        match served {
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
            Ok(Err(error)) if status.is_none() => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            Ok(_) => Ok(Answered { status }),
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path.strip_prefix(PREFIX).and_then(|token| self.tokens.answer(token)) {
            Some(answer) => {
                let mut response = Response::new(Full::new(Bytes::from(answer)));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                response
            }
            None => empty(StatusCode::NOT_FOUND),
        }
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
