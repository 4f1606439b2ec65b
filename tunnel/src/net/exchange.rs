//! The HTTP part of a stream's life: requests one after the other, until the stream ends or becomes a tunnel.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Content, Record, closing, plain, with};
use super::connect::{self, Failure, Ready};
use super::dial::BoxFuture;
use super::endpoint::{Config, Limits, Repository, Shared, Tunnel};
use super::guard::Guard;
use super::upstream::Fetch;
use crate::event::{Access, Event, Peer};
use crate::files::{File, Selection};
use crate::path::{CleanPath, MAX_PATH, PathError};
use crate::repository;

/// What hyper may hold of a request: room for a path that is too long and rows that are too many, so that both
/// get their own status.
const BUFFER: usize = 40 * 1024;

/// Time and bytes spent on a peer that still sends after our last answer, so that a reset does not destroy it.
const DRAIN: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);

type Established = Arc<Mutex<Option<Ready>>>;

/// Answers requests on `stream`; gives it back when it has become a tunnel.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, peer: Arc<Peer>) -> Option<(S, Ready)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = shared.config();
    let (limits, closing) = (&config.limits, shared.closed());
    let established = Established::default();
    let exchange = Exchange { shared, peer: Arc::clone(&peer), established: Arc::clone(&established) };
    let guard = TokioIo::new(Guard::new(stream, limits.write_stall));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(limits.headers)
        .max_buf_size(BUFFER)
        // A peer may close its side behind its last request, or behind a CONNECT with early bytes.
        .half_close(true);
    let mut connection = builder.serve_connection(guard, exchange);
    let ended = tokio::select! {
        result = &mut connection => Some(result),
        () = closing => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let parts = connection.into_parts();
    let guard = parts.io.into_inner();
    let ready = established.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, ready) {
        (Ok(()), Some(mut ready)) => {
            // hyper has flushed the 200 before it gives the stream back.
            ready.early = parts.read_buf.to_vec();
            Some((guard.into_inner(), ready))
        }
        (Ok(()), None) => {
            drain(guard.into_inner()).await;
            None
        }
        (Err(error), _) => {
            refuse(&error, guard, &config, peer).await;
            None
        }
    }
}

/// Ends a stream that held something that is not a request. hyper has written the 400 or 431 already.
async fn refuse<S>(error: &hyper::Error, mut guard: Guard<S>, config: &Config, peer: Arc<Peer>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let late = error.is_timeout() && guard.scan().awaits_head();
    let status = match () {
        () if error.is_parse_too_large() => Some(431),
        () if error.is_parse() && !error.is_parse_version_h2() => Some(400),
        () if late => Some(408),
        () => None,
    };
    if late || error.is_parse() || (error.is_incomplete_message() && guard.scan().has_begun()) {
        config.observer.observe(Event::Unreadable { peer, status });
    }
    if late {
        let text = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let _ = guard.write_all(text).await;
    }
    if status.is_some() {
        drain(guard).await;
    }
}

/// Closes our side, then lets the peer finish for a moment: closing a socket that holds unread bytes would reset
/// the connection and could destroy the answer.
async fn drain<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let (time, mut left) = DRAIN;
    let _ = timeout(time, async {
        stream.shutdown().await?;
        let mut scrap = [0; 1024];
        while left > 0 {
            match stream.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}

/// The service hyper calls for each request of one stream.
struct Exchange {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    established: Established,
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Answer>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let started = Instant::now();
        let asked = Asked {
            shared: Arc::clone(&self.shared),
            config: self.shared.config(),
            peer: Arc::clone(&self.peer),
            established: Arc::clone(&self.established),
        };
        Box::pin(async move {
            let mut record = Record::new(asked.access(&request), started, Arc::clone(&asked.config.observer));
            let response = asked.answer(&request, &mut record).await;
            Ok(Answer::join(response, record))
        })
    }
}

/// One request and the configuration that answers it.
struct Asked {
    shared: Arc<Shared>,
    config: Arc<Config>,
    peer: Arc<Peer>,
    established: Established,
}

impl Asked {
    fn access<B>(&self, request: &Request<B>) -> Access {
        let uri = request.uri();
        let target = match uri.authority() {
            Some(authority) if uri.scheme().is_none() => authority.as_str().to_owned(),
            Some(_) => uri.to_string(),
            None => uri.path().to_owned(),
        };
        Access {
            peer: Arc::clone(&self.peer),
            method: request.method().as_str().to_owned(),
            // Only visible ASCII is a log line's business; a target may hold bytes above.
            target: target.chars().flat_map(escape).collect(),
            query: uri.query().map(|query| query.chars().flat_map(escape).collect()),
            status: 0,
            refusal: None,
            sent: 0,
            complete: false,
            duration: Duration::ZERO,
        }
    }

    async fn answer<B>(&self, request: &Request<B>, record: &mut Record) -> Response<Content> {
        if let Err(status) = check_frame(request, &self.config.limits) {
            return closing(plain(status));
        }
        match (request.method() == Method::CONNECT, &self.config.tunnel, &self.config.repository) {
            (true, Some(tunnel), _) => self.connect(request, tunnel, record).await,
            (false, _, Some(repository)) => self.file(request, repository).await,
            (_, None, Some(repository)) => closing(not_allowed(repository::allow(&repository.rows))),
            (_, Some(_), None) => closing(not_allowed("CONNECT")),
            (_, None, None) => closing(not_allowed("")),
        }
    }

    async fn connect<B>(
        &self,
        request: &Request<B>,
        tunnel: &Tunnel,
        record: &mut Record,
    ) -> Response<Content> {
        let target = connect::read_target(request.uri(), request.headers(), request.version());
        let ready = match target {
            Ok(target) => connect::establish(&self.shared, &self.config, tunnel, &self.peer, target).await,
            Err(failure) => Err(failure),
        };
        match ready {
            Ok(ready) => {
                *self.established.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready);
                plain(StatusCode::OK)
            }
            Err(failure) => {
                if let (Failure::Refused(refusal), Some(access)) = (failure, record.access()) {
                    access.refusal = Some(refusal);
                }
                failure.response()
            }
        }
    }

    async fn file<B>(&self, request: &Request<B>, repository: &Repository) -> Response<Content> {
        let method = request.method();
        let path = match read_path(request.uri()) {
            Ok(path) => path,
            // A method that is refused anyway is refused whatever the path.
            Err(_) if !repository.rows.iter().any(|row| row.methods.allow(method)) => {
                return closing(not_allowed(repository::allow(&repository.rows)));
            }
            Err(PathError::TooLong) => return closing(plain(StatusCode::URI_TOO_LONG)),
            Err(_) => return closing(plain(StatusCode::BAD_REQUEST)),
        };
        match repository::answer(&repository.rows, method, &path) {
            repository::Answer::Local(file) => local(file, request),
            repository::Answer::NotFound => plain(StatusCode::NOT_FOUND),
            repository::Answer::MethodNotAllowed(allow) => closing(not_allowed(allow)),
            repository::Answer::Remote(remote) => {
                let (query, headers) = (request.uri().query(), request.headers());
                let fetch = Fetch { remote, method, path: &path, query, headers };
                let Config { limits, observer, .. } = &*self.config;
                fetch.run(&*repository.upstream, &self.shared.health, limits, &**observer).await
            }
        }
    }
}

/// Bytes that may stand in a log line as they are.
fn escape(c: char) -> impl Iterator<Item = char> {
    let plain = c.is_ascii_graphic().then_some(c);
    plain.into_iter().chain((plain.is_none()).then(|| c.escape_default()).into_iter().flatten())
}

/// Everything that lets two readers see two different requests, and the sizes.
fn check_frame<B>(request: &Request<B>, limits: &Limits) -> Result<(), StatusCode> {
    let headers = request.headers();
    let empty = headers.get_all(header::CONTENT_LENGTH).iter().all(|length| length == "0");
    let mut hosts = headers.get_all(header::HOST).iter();
    let enough = match hosts.next() {
        // That of a CONNECT is read with its target.
        Some(_) if request.method() == Method::CONNECT => hosts.next().is_none(),
        Some(host) => hosts.next().is_none() && host.as_bytes().iter().all(is_host_byte),
        None => request.version() == Version::HTTP_10,
    };
    if headers.contains_key(header::TRANSFER_ENCODING) || !empty || !enough {
        return Err(StatusCode::BAD_REQUEST);
    }
    let rows: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if rows > limits.head_bytes {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_PATH {
        return Err(StatusCode::URI_TOO_LONG);
    }
    Ok(())
}

/// `Host = uri-host [ ":" port ]`, without the user information that a URI may have there (RFC 9112 §3.2).
fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}

/// The path of an origin-form target: this is no proxy, so the absolute form is refused.
fn read_path(uri: &Uri) -> Result<CleanPath, PathError> {
    if uri.scheme().is_some() || uri.authority().is_some() {
        return Err(PathError::Relative);
    }
    CleanPath::parse(uri.path())
}

fn not_allowed(allow: &'static str) -> Response<Content> {
    let allow = (header::ALLOW, HeaderValue::from_static(allow));
    with(StatusCode::METHOD_NOT_ALLOWED, Content::Empty, [allow])
}

fn local<B>(file: &File, request: &Request<B>) -> Response<Content> {
    let (content, whole) = (file.content(), file.content().len());
    let length = |text: String| HeaderValue::from_str(&text).ok();
    let (status, range) = match file.select(request.headers()) {
        Selection::NotModified => (StatusCode::NOT_MODIFIED, None),
        Selection::PreconditionFailed => return plain(StatusCode::PRECONDITION_FAILED),
        Selection::Whole => (StatusCode::OK, Some(0..whole)),
        Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Selection::Unsatisfiable => {
            let row = length(format!("bytes */{whole}")).map(|value| (header::CONTENT_RANGE, value));
            return with(StatusCode::RANGE_NOT_SATISFIABLE, Content::Empty, row);
        }
    };
    let mut response = with(status, Content::Empty, [(header::ETAG, file.etag().clone())]);
    let Some(range) = range else { return response };
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, file.content_type().clone());
    if status == StatusCode::PARTIAL_CONTENT {
        let last = range.end.saturating_sub(1);
        let value = length(format!("bytes {}-{last}/{whole}", range.start));
        headers.extend(value.map(|value| (header::CONTENT_RANGE, value)));
    }
    let part = content.slice(range);
    if request.method() == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.len()));
    } else {
        *response.body_mut() = Content::Local(part);
    }
    response
}
