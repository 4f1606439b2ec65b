//! The HTTPS client for ACME: TLS by [`Connector`], one connection a request, bounded in time and size, no redirect.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::net::TcpStream;

use crate::net::tls::Connector;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;

/// The result of [`Dial`].
pub type Dialled = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
/// Connects to a host and port: the caller's resolver and source address.
pub type Dial = Arc<dyn Fn(String, u16) -> Dialled + Send + Sync>;

/// [`Dial`] with the resolver of the system.
pub fn system_dial() -> Dial {
    Arc::new(|host, port| Box::pin(async move { TcpStream::connect((host.as_str(), port)).await }))
}

/// HTTPS for ACME: one connection a request.
#[derive(Clone)]
pub(crate) struct Https {
    connector: Arc<Connector>,
    dial: Dial,
    /// Of the last 429 or 503 answer.
    retry_after: Arc<Mutex<Option<Duration>>>,
}

impl Https {
    pub(crate) fn new(connector: Connector, dial: Dial) -> Self {
        Self { connector: Arc::new(connector), dial, retry_after: Arc::default() }
    }

    /// What the last answer asked for, once.
    pub(crate) fn take_retry_after(&self) -> Option<Duration> {
        self.retry_after.lock().ok().and_then(|mut kept| kept.take())
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let response = match tokio::time::timeout(REQUEST_TIMEOUT, this.send(request)).await {
                Ok(response) => response.map_err(Error::Other)?,
                Err(_) => return Err(Error::Other("the ACME service did not answer in time".into())),
            };
            this.note_retry_after(&response);
            Ok(BytesResponse::from(response))
        })
    }
}

type SendError = Box<dyn std::error::Error + Send + Sync>;

impl Https {
    async fn send(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Full<Bytes>>, SendError> {
        let (mut parts, body) = request.into_parts();
        if parts.uri.scheme_str() != Some("https") {
            return Err("the ACME service names a URL that is not https".into());
        }
        let authority = parts.uri.authority().ok_or("a URL without host")?.clone();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(443);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        parts.uri = path.parse()?;
        parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));

        let stream =
            (self.dial)(host.clone(), port).await.map_err(|error| format!("{host}:{port}: {error}"))?;
        let connected =
            self.connector.connect(stream, &host).await.map_err(|error| format!("{host}:{port}: {error}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(connected.stream)).await?;
        let exchange = async {
            let response = sender.send_request(Request::from_parts(parts, body)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
            Ok::<_, SendError>(Response::from_parts(head, Full::new(body)))
        };
        // The connection is driven here and not in a task, so that dropping the order ends everything.
        tokio::pin!(exchange, connection);
        tokio::select! {
            biased;
            response = &mut exchange => response,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error.into()),
            },
        }
    }

    fn note_retry_after(&self, response: &Response<Full<Bytes>>) {
        let busy =
            matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let seconds = response
            .headers()
            .get(RETRY_AFTER)
            .filter(|_| busy)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok());
        if let Ok(mut kept) = self.retry_after.lock() {
            *kept = seconds.map(Duration::from_secs);
        }
    }
}
