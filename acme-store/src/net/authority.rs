//! An authority over the network: ACME (RFC 8555) by instant-acme, over this crate's own HTTPS client.
//!
//! The client trusts what the configuration says (any number of roots, or those of the system), resolves and connects through a function
//! of the caller, follows no redirect, and bounds every request in time and size.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error,
    HttpClient, Identifier, Key, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::net::tls::Connector;
use crate::order::{Authority, AuthorityError, Challenge};
use crate::publish::{Application, BuildError, Dialler, Versions};
use crate::store::{AccountSecret, Store};
use crate::trust::{Trust, TrustError};
use crate::verify::NameRule;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;
/// How long an authority may take to look at the answers, and to sign.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(120);

/// The result of [`Dial`].
pub type Dialled = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
/// Connects to a host and port: the caller's resolver and source address.
pub type Dial = Arc<dyn Fn(String, u16) -> Dialled + Send + Sync>;

/// [`Dial`] with the resolver of the system.
pub fn system_dial() -> Dial {
    Arc::new(|host, port| Box::pin(async move { TcpStream::connect((host.as_str(), port)).await }))
}

/// Where an ACME service has its directory: always `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct Directory(String);

/// Why a host and path are no directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Clear HTTP.
    #[error("an ACME service is never asked over clear HTTP (\"{0}\")")]
    ClearText(String),
    /// Not a host or URL.
    #[error("\"{0}\" is not a host, host:port, or https URL")]
    Invalid(String),
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Directory {
    /// From a host (`acme.example`, `127.0.0.1:14000`) and a path (`directory`, `/dir`). Either may also be the whole `https://` URL.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn new(host: &str, path: &str) -> Result<Self, DirectoryError> {
        let given = if path.contains("://") { path } else { host };
        let url = match given.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
                return Err(DirectoryError::ClearText(given.to_owned()));
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                let has_path = rest.split_once('/').is_some_and(|(_, path)| !path.is_empty());
                if has_path || path.contains("://") {
                    format!("https://{rest}")
                } else {
                    format!("https://{}/{}", rest.trim_end_matches('/'), path.trim_start_matches('/'))
                }
            }
            Some(_) => return Err(DirectoryError::Invalid(given.to_owned())),
            None => format!("https://{host}/{}", path.trim_start_matches('/')),
        };
        let parsed: Uri = url.parse().map_err(|_| DirectoryError::Invalid(url.clone()))?;
        let authority = parsed.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let host = parsed.host().unwrap_or_default();
        let port = authority.strip_prefix(host).unwrap_or_default();
        let good_port = port.is_empty() || parsed.port_u16().is_some_and(|port| port != 0);
        if host.is_empty() || authority.contains('@') || !good_port {
            return Err(DirectoryError::Invalid(url));
        }
        Ok(Self(url))
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.0
    }
}

/// Not a mail address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a contact; write \"mailto:name@example.com\"")]
pub struct BadContact(pub String);

/// A contact of an account as a `mailto:` URL; a bare address gets the prefix.
///
/// # Errors
/// [`BadContact`].
pub fn contact(text: &str) -> Result<String, BadContact> {
    let address = text.trim();
    let address = address.strip_prefix("mailto:").unwrap_or(address);
    let clean = |part: &str| {
        !part.is_empty()
            && !part.contains(|c: char| c.is_whitespace() || c.is_control() || ",?<>@".contains(c))
    };
    match address.split_once('@') {
        Some((name, host)) if clean(name) && clean(host) && host.contains('.') => {
            Ok(format!("mailto:{address}"))
        }
        _ => Err(BadContact(text.to_owned())),
    }
}

/// Whom an ACME service must be certified by.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The roots that the operating system ships.
    System,
    /// A bundle of the configuration, for a private service.
    Bundle(Trust),
}

/// One ACME account at one service.
#[derive(Clone)]
pub struct Settings {
    /// The service.
    pub directory: Directory,
    /// Who certifies the service itself.
    pub roots: Roots,
    /// The name of the account in the store.
    pub account: String,
    /// Contacts, as [`contact`] returns them.
    pub contacts: Vec<String>,
    /// The way out.
    pub dial: Dial,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("directory", &self.directory)
            .field("roots", &self.roots)
            .field("account", &self.account)
            .field("contacts", &self.contacts)
            .finish_non_exhaustive()
    }
}

/// Why an authority can't be set up at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The system has no usable roots.
    #[error("the system's certificate authorities can't be used: {0}")]
    SystemRoots(#[from] TrustError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] BuildError),
}

/// An ACME account at a service. The account is registered at the first order (which accepts the terms of service), kept in the
/// store, and used again after a restart.
pub struct Acme {
    settings: Settings,
    store: Arc<dyn Store>,
    https: Https,
    account: Option<Account>,
    order: Option<Order>,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Acme {
    /// An authority; nothing is sent yet.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(settings: Settings, store: Arc<dyn Store>, now: SystemTime) -> Result<Self, SetupError> {
        let trust = match &settings.roots {
            Roots::Bundle(trust) => trust.clone(),
            Roots::System => system_roots(now)?,
        };
        let dialler = Dialler {
            certificate: None,
            trust,
            names: NameRule::AlternativeNameOnly,
            versions: Versions::V12AndUp,
            application: Application::Http1,
        };
        let https = Https {
            connector: Arc::new(Connector::new(dialler)?),
            dial: Arc::clone(&settings.dial),
            retry_after: Arc::default(),
        };
        Ok(Self { settings, store, https, account: None, order: None })
    }

    /// The name in the store: an account belongs to one service, so another directory is another account.
    fn account_name(&self) -> String {
        let digest = Sha256::digest(self.settings.directory.url());
        let tail = data_encoding::HEXLOWER.encode(digest.get(..4).unwrap_or_default());
        format!("{}-{tail}", self.settings.account)
    }

    async fn account(&mut self) -> Result<Account, AuthorityError> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let name = self.account_name();
        let stored = self.store.account(&name).map_err(local)?;
        let account = match stored {
            Some(secret) => {
                let credentials: AccountCredentials = serde_json::from_str(&secret.0)
                    .map_err(|error| local(format!("the stored account {name} is damaged: {error}")))?;
                let builder = Account::builder_with_http(Box::new(self.https.clone()));
                builder.from_credentials(credentials).await.map_err(|error| self.explain(error))?
            }
            None => self.register(&name, None).await?,
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    /// Registers, with a new key or that of an account which the service has forgotten.
    async fn register(
        &self,
        name: &str,
        key: Option<(Key, PrivateKeyDer<'static>)>,
    ) -> Result<Account, AuthorityError> {
        let builder = Account::builder_with_http(Box::new(self.https.clone()));
        let url = self.settings.directory.url().to_owned();
        let contacts: Vec<&str> = self.settings.contacts.iter().map(String::as_str).collect();
        let known_key = key.is_some();
        let registered = match key {
            Some(key) => builder.create_from_key(key, url).await,
            None => {
                let wanted = NewAccount {
                    contact: &contacts,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                builder.create(&wanted, url, None).await
            }
        };
        let (account, credentials) = registered.map_err(|error| self.explain(error))?;
        let json = serde_json::to_string(&credentials).map_err(local)?;
        self.store.save_account(name, &AccountSecret(json)).map_err(local)?;
        if known_key && !contacts.is_empty() {
            account.update_contacts(&contacts).await.map_err(|error| self.explain(error))?;
        }
        Ok(account)
    }

    /// The service does not know the stored account (it was reset): registers the same key again.
    async fn register_again(&mut self) -> Result<Account, AuthorityError> {
        let name = self.account_name();
        let secret = self.store.account(&name).map_err(local)?.ok_or_else(|| local("no stored account"))?;
        let credentials: AccountCredentials = serde_json::from_str(&secret.0).map_err(local)?;
        let der = PrivatePkcs8KeyDer::from(credentials.private_key().secret_pkcs8_der().to_vec());
        let key = Key::from_pkcs8_der(der.clone_key()).map_err(|error| self.explain(error))?;
        let account = self.register(&name, Some((key, PrivateKeyDer::Pkcs8(der)))).await?;
        self.account = Some(account.clone());
        Ok(account)
    }

    async fn new_order(&mut self, names: &[String]) -> Result<Order, AuthorityError> {
        let identifiers: Vec<Identifier> = names
            .iter()
            .map(|name| name.parse().map_or_else(|_| Identifier::Dns(name.clone()), Identifier::Ip))
            .collect();
        let wanted = NewOrder::new(&identifiers);
        let account = self.account().await?;
        match account.new_order(&wanted).await {
            Err(Error::Api(problem)) if is_type(&problem, "accountDoesNotExist") => {
                let account = self.register_again().await?;
                account.new_order(&wanted).await.map_err(|error| self.explain(error))
            }
            other => other.map_err(|error| self.explain(error)),
        }
    }

    fn explain(&self, error: Error) -> AuthorityError {
        let retry_after = self.https.retry_after.lock().ok().and_then(|mut kept| kept.take());
        AuthorityError { message: describe(&error), retry_after }
    }
}

impl Authority for Acme {
    async fn open(&mut self, names: &[String]) -> Result<Vec<Challenge>, AuthorityError> {
        self.order = None;
        let mut order = self.new_order(names).await?;
        let mut challenges = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.explain(error))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => return Err(local(format!("an authorisation of a new order is {status:?}"))),
            }
            let challenge = authorization
                .challenge(ChallengeType::Http01)
                .ok_or_else(|| local("the service offers no HTTP-01 challenge"))?;
            challenges.push(Challenge {
                name: challenge.identifier().to_string(),
                token: challenge.token.clone(),
                answer: challenge.key_authorization().as_str().to_owned(),
            });
        }
        self.order = Some(order);
        Ok(challenges)
    }

    async fn prove(&mut self) -> Result<(), AuthorityError> {
        let mut order = self.order.take().ok_or_else(|| local("no order is open"))?;
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.explain(error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) {
                challenge.set_ready().await.map_err(|error| self.explain(error))?;
            }
        }
        let verdict = order.poll_ready(&RetryPolicy::new().timeout(VERDICT_TIMEOUT)).await;
        match verdict {
            Ok(OrderStatus::Ready) => {
                self.order = Some(order);
                Ok(())
            }
            Ok(_) => Err(local(reasons(&mut order).await)),
            Err(error) => Err(self.explain(error)),
        }
    }

    async fn finish(&mut self, request: &[u8]) -> Result<String, AuthorityError> {
        let mut order = self.order.take().ok_or_else(|| local("no order is open"))?;
        order.finalize_csr(request).await.map_err(|error| self.explain(error))?;
        let policy = RetryPolicy::new().timeout(VERDICT_TIMEOUT);
        order.poll_certificate(&policy).await.map_err(|error| self.explain(error))
    }
}

fn system_roots(now: SystemTime) -> Result<Trust, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let files: Vec<&[u8]> = found.certs.iter().map(AsRef::as_ref).collect();
    Trust::import(&files, now).map(|(trust, _)| trust)
}

/// Why an order became invalid: the errors of its challenges, with the name each is about.
async fn reasons(order: &mut Order) -> String {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        found.extend(errors.map(|error| format!("{name}: {}", bounded(&error.to_string()))));
    }
    if found.is_empty() { "the service refused and gave no reason".to_owned() } else { found.join("; ") }
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    bounded(&text)
}

/// Text of a remote end, for logs: bounded and without control characters.
fn bounded(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn is_type(problem: &instant_acme::Problem, name: &str) -> bool {
    let prefixed =
        problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:"));
    prefixed == Some(name)
}

fn local(error: impl ToString) -> AuthorityError {
    AuthorityError { message: error.to_string(), retry_after: None }
}

/// HTTPS for ACME: one connection a request.
#[derive(Clone)]
struct Https {
    connector: Arc<Connector>,
    dial: Dial,
    /// Of the last 429 or 503 answer.
    retry_after: Arc<Mutex<Option<Duration>>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_normalised_and_never_clear() {
        let cases = [
            ("acme.example", "directory", "https://acme.example/directory"),
            ("acme.example", "/directory", "https://acme.example/directory"),
            ("127.0.0.1:14000", "dir", "https://127.0.0.1:14000/dir"),
            ("[::1]:14000", "dir", "https://[::1]:14000/dir"),
            ("https://acme.example/", "directory", "https://acme.example/directory"),
            ("https://acme.example/acme/dir", "", "https://acme.example/acme/dir"),
            ("acme.example", "https://acme.example/dir", "https://acme.example/dir"),
        ];
        for (host, path, url) in cases {
            assert_eq!(Directory::new(host, path).unwrap().url(), url);
        }
        assert!(matches!(Directory::new("http://acme.example", "d"), Err(DirectoryError::ClearText(_))));
        for bad in ["", "a b", "user@acme.example", "ftp://acme.example", "acme.example:99999999"] {
            assert!(Directory::new(bad, "d").is_err(), "{bad}");
        }
    }

    #[test]
    fn contacts_are_prefixed_or_refused() {
        assert_eq!(contact("mailto:a@b.example").unwrap(), "mailto:a@b.example");
        assert_eq!(contact(" a@b.example ").unwrap(), "mailto:a@b.example");
        for bad in ["", "a", "a@b", "tel:+1", "a@b.example,c@d.example", "a@b@c.example", "a b@c.example"] {
            assert_eq!(contact(bad), Err(BadContact(bad.to_owned())));
        }
    }
}
