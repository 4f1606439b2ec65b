//! Files of a remote endpoint: one request, one connection, streamed through.
//!
//! No task is started: the connection to the server is driven by whoever waits for the answer or its body, and
//! is cut when that is dropped.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::{Body, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::answer::{self, Content};
use super::dial::{Stream, Upstream};
use super::endpoint::{Limits, Observe};
use crate::event::Event;
use crate::path::CleanPath;
use crate::repository::{Remote, Server};

/// How long a server that failed is tried last.
const DOWN: Duration = Duration::from_secs(30);

/// Read from a server at once; also bounds its response head.
const BUFFER: usize = 64 * 1024;

/// The body of an answer was cut: the server broke off or fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server broke off")
    }
}

impl std::error::Error for Cut {}

/// Which servers failed lately.
#[derive(Default)]
pub(super) struct Health(Mutex<HashMap<Server, Instant>>);

impl Health {
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The servers in their order, those that failed lately behind the others.
    fn order<'a>(&self, servers: &'a [Server]) -> Vec<&'a Server> {
        let now = Instant::now();
        let mut down = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        down.retain(|_, until| *until > now);
        let mut order: Vec<_> = servers.iter().collect();
        order.sort_by_key(|server| down.contains_key(*server));
        order
    }

    fn failed(&self, server: &Server) {
        let until = Instant::now() + DOWN;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(server.clone(), until);
    }
}

/// A request for a file, as it goes to a server.
pub(super) struct Fetch<'a> {
    pub(super) remote: &'a Remote,
    pub(super) method: &'a Method,
    pub(super) path: &'a CleanPath,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

enum Failure {
    /// The next server may be better.
    Unusable { timeout: bool, reason: String },
    /// The server has the request and gave no answer in time.
    Silent,
}

impl Fetch<'_> {
    /// The answer of the first server that gives one; 502 or 504 when none does.
    pub(super) async fn run(
        &self,
        upstream: &dyn Upstream,
        health: &Health,
        limits: &Limits,
        observer: &dyn Observe,
    ) -> Response<Content> {
        let mut timeouts = true;
        for server in health.order(&self.remote.servers) {
            let (timeout, reason) = match self.ask(server, upstream, limits).await {
                Ok(response) => return self.answer(response),
                Err(Failure::Unusable { timeout, reason }) => (timeout, reason),
                Err(Failure::Silent) => (true, "no answer in time".to_owned()),
            };
            health.failed(server);
            timeouts &= timeout;
            observer.observe(Event::ServerFailed {
                remote: self.remote.name.clone(),
                server: server.to_string(),
                reason: reason.chars().flat_map(char::escape_default).collect(),
            });
        }
        let none_slow = self.remote.servers.is_empty() || !timeouts;
        answer::plain(if none_slow { StatusCode::BAD_GATEWAY } else { StatusCode::GATEWAY_TIMEOUT })
    }

    async fn ask(
        &self,
        server: &Server,
        upstream: &dyn Upstream,
        limits: &Limits,
    ) -> Result<Response<Streamed>, Failure> {
        let late = |_| Failure::Unusable { timeout: true, reason: "no connection in time".to_owned() };
        let connect = timeout(limits.upstream_connect, upstream.connect(self.remote, server));
        let stream = connect.await.map_err(late)?.map_err(|error| Failure::Unusable {
            timeout: error.kind() == std::io::ErrorKind::TimedOut,
            reason: error.to_string(),
        })?;
        let unusable = |error: hyper::Error| Failure::Unusable { timeout: false, reason: error.to_string() };
        let request = self
            .request()
            .map_err(|error| Failure::Unusable { timeout: false, reason: error.to_string() })?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER).max_headers(limits.headers);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(unusable)?;
        let mut connection: Option<Connection> = Some(Box::pin(connection));
        let exchange = async {
            let mut answer = std::pin::pin!(sender.send_request(request));
            std::future::poll_fn(|cx| {
                drive(&mut connection, cx);
                answer.as_mut().poll(cx)
            })
            .await
        };
        let response = timeout(limits.upstream_stall, exchange).await.map_err(|_| Failure::Silent)?;
        let response = response.map_err(unusable)?;
        let stall = limits.upstream_stall;
        Ok(response.map(|body| Streamed { body, connection, stall, stalled: None }))
    }

    fn request(&self) -> Result<Request<NoBody>, http::Error> {
        let mut target = self.path.encoded();
        if let Some(query) = self.query {
            target.push('?');
            target.push_str(query);
        }
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(Uri::try_from(target)?)
            .header(header::HOST, HeaderValue::from_str(&self.remote.server_name)?)
            .body(NoBody)?;
        let headers = request.headers_mut();
        let refused = [header::HOST, header::CONTENT_LENGTH, header::EXPECT];
        for (name, value) in end_to_end(self.headers) {
            // What a phone says about forwarding would be believed inside.
            if !refused.contains(name) && name != "forwarded" && !name.as_str().starts_with("x-forwarded") {
                headers.append(name.clone(), value.clone());
            }
        }
        // One connection a request, so that a broken one is never mistaken for an end.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.append(header::VIA, HeaderValue::from_static("1.1 farend"));
        Ok(request)
    }

    fn answer(&self, response: Response<Streamed>) -> Response<Content> {
        let (parts, body) = response.into_parts();
        let mut answer = answer::with(parts.status, Content::Remote(Box::new(body)), []);
        let headers = answer.headers_mut();
        for (name, value) in end_to_end(&parts.headers) {
            let value = match name {
                // Where the body is re-framed, its length is hyper's to write; HEAD keeps what the server said.
                &header::CONTENT_LENGTH if *self.method != Method::HEAD => continue,
                &header::LOCATION | &header::CONTENT_LOCATION => self.location(value),
                _ => Some(value.clone()),
            };
            if let Some(value) = value {
                headers.append(name.clone(), value);
            }
        }
        answer
    }

    /// A redirection to a server of this endpoint becomes one to us; one to any other host would tell phones
    /// about hosts inside, and goes.
    fn location(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let uri: Uri = value.to_str().ok()?.parse().ok()?;
        let ours = uri.host().is_none_or(|host| {
            let host = host.trim_matches(['[', ']']);
            let named = host.eq_ignore_ascii_case(&self.remote.server_name);
            named || self.remote.servers.iter().any(|server| host.eq_ignore_ascii_case(&server.host))
        });
        let path = uri.path_and_query().filter(|_| ours)?.as_str();
        // RFC 3986 §4.2: `//host/path` names a host again, and some clients read `/\` alike.
        let host_again = path.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\']));
        if path.starts_with('/') && !host_again { HeaderValue::from_str(path).ok() } else { None }
    }
}

/// The rows that are not for one connection only (RFC 9110 §7.6.1).
fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    const HOP: [&str; 8] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named.flat_map(|list| list.split(',')).map(str::trim).collect();
    headers.iter().filter(move |(name, _)| {
        !HOP.contains(&name.as_str()) && !named.iter().any(|hop| hop.eq_ignore_ascii_case(name.as_str()))
    })
}

type Connection = Pin<Box<http1::Connection<TokioIo<Box<dyn Stream>>, NoBody>>>;

/// Lets the connection work. Its end and its errors show in the response and the body.
fn drive(connection: &mut Option<Connection>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

/// GET and HEAD have no body.
pub(super) struct NoBody;

impl Body for NoBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// A body on its way through, with the connection it comes on.
pub(super) struct Streamed {
    body: Incoming,
    connection: Option<Connection>,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Streamed {
    /// The next bytes. Trailers are dropped: they could add rows that were never checked.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            // The connection feeds the body, so it goes first, and last when it has just woken the body.
            drive(&mut self.connection, cx);
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.stalled = None;
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Cut))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        let deadline = Instant::now() + self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Some(Err(Cut)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
