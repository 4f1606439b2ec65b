//! An authority over the network: ACME (RFC 8555) by instant-acme, over this crate's own HTTPS client.
//!
//! The client trusts what the configuration says (any number of roots, or those of the system), resolves and connects through a function
//! of the caller, follows no redirect, and bounds every request in time and size.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, Key, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

pub use crate::account::{BadContact, Directory, DirectoryError, contact};
use crate::net::https::Https;
pub use crate::net::https::{Dial, Dialled, system_dial};
use crate::net::tls::Connector;
use crate::order::{Authority, AuthorityError, Challenge};
use crate::publish::{Application, BuildError, Dialler, Versions};
use crate::store::{AccountSecret, Store};
use crate::trust::{Trust, TrustError};
use crate::verify::NameRule;

/// Several certificates may share one account: the first order registers it, the others wait and find it in the store.
static REGISTERING: Mutex<()> = Mutex::const_new(());

/// How long an authority may take to look at the answers, and to sign.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(120);

/// Whom an ACME service must be certified by.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let https = Https::new(Connector::new(dialler)?, Arc::clone(&settings.dial));
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
        let _registering = REGISTERING.lock().await;
        let account = match self.stored(&name)? {
            Some(credentials) => {
                let builder = Account::builder_with_http(Box::new(self.https.clone()));
                let account =
                    builder.from_credentials(credentials).await.map_err(|error| self.explain(error))?;
                self.tell_contacts(&account).await;
                account
            }
            None => self.register(&name, None).await?,
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    fn stored(&self, name: &str) -> Result<Option<AccountCredentials>, AuthorityError> {
        let Some(secret) = self.store.account(name).map_err(local)? else { return Ok(None) };
        // The place only: the words of the parser may quote what is there.
        serde_json::from_str(&secret.0).map(Some).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            local(format!("the stored account {name} is damaged at line {line}, column {column}; move it away to register anew"))
        })
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

    /// The contacts may be others than those the account was registered with (RFC 8555 §7.3.2). They are for reminders:
    /// an order does not fail for them, and one that the service forgot is found out by the order.
    async fn tell_contacts(&self, account: &Account) {
        let contacts: Vec<&str> = self.settings.contacts.iter().map(String::as_str).collect();
        if !contacts.is_empty() {
            let _ = account.update_contacts(&contacts).await;
        }
    }

    /// The service does not know the stored account (it was reset): registers the same key again.
    async fn register_again(&mut self) -> Result<Account, AuthorityError> {
        let name = self.account_name();
        let _registering = REGISTERING.lock().await;
        let credentials = self.stored(&name)?.ok_or_else(|| local("no stored account"))?;
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
        AuthorityError { message: describe(&error), retry_after: self.https.take_retry_after() }
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
