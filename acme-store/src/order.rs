//! One order, from names to a checked chain, over any [`Authority`] (RFC 8555 §7.1, HTTP-01 of §8.3).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use crate::certificate::{Credential, CredentialError, issued, readable};
use crate::import::{self, ImportError};
use crate::key::Key;
use crate::request::{self, RequestError};

/// The most answers that wait for an authority at one time.
const MAX_TOKENS: usize = 1024;
/// How far ahead of our clock the start of a new certificate may be.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Something that must be found under a URL before the authority believes that a name is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The name to prove.
    pub name: String,
    /// The last part of the path.
    pub token: String,
    /// The body to be found there.
    pub answer: String,
}

/// An authority that issues certificates, as one order sees it. The methods are called in this order.
pub trait Authority: Send {
    /// Opens an order and returns what must be answered; none for names already proven.
    ///
    /// # Errors
    /// [`AuthorityError`].
    fn open(
        &mut self,
        names: &[String],
    ) -> impl Future<Output = Result<Vec<Challenge>, AuthorityError>> + Send;

    /// All answers are in place: asks the authority to look, and waits for its verdict.
    ///
    /// # Errors
    /// [`AuthorityError`].
    fn prove(&mut self) -> impl Future<Output = Result<(), AuthorityError>> + Send;

    /// Hands in the request (DER) and waits for the chain (PEM, leaf first).
    ///
    /// # Errors
    /// [`AuthorityError`].
    fn finish(&mut self, request: &[u8]) -> impl Future<Output = Result<String, AuthorityError>> + Send;
}

/// Why an authority did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AuthorityError {
    /// What it said, or what went wrong on the way to it.
    pub message: String,
    /// Do not come back before this.
    pub retry_after: Option<Duration>,
}

/// Why an order gave no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// HTTP-01 can't prove this name.
    #[error("\"{0}\" can't be proven by HTTP-01: wildcards need DNS-01, which is not built yet")]
    Wildcard(String),
    /// A public authority proves no address of a private network; RFC 8738 allows the others.
    #[error("no authority can reach the address {0}")]
    Address(IpAddr),
    /// The request could not be made.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The authority refused or was not reached.
    #[error("{step}: {source}")]
    Authority {
        /// Which step.
        step: &'static str,
        /// Why.
        source: AuthorityError,
    },
    /// A token that is no token, or too many.
    #[error("the authority sent a challenge that can't be answered")]
    BadChallenge,
    /// What came is no chain.
    #[error("the authority sent no usable chain: {0}")]
    BadChain(#[from] ImportError),
    /// The certificate is for another key.
    #[error("the authority sent a certificate for another key: {0}")]
    WrongKey(#[from] CredentialError),
    /// A name is missing.
    #[error("the certificate does not name all of {0}")]
    WrongNames(String),
    /// Not valid at this time.
    #[error("the certificate is valid from {} to {}, which is not now", readable(*.0), readable(*.1))]
    WrongTime(SystemTime, SystemTime),
    /// The certificates do not sign one another.
    #[error("the certificates of the chain do not follow from one another")]
    BrokenChain,
}

impl OrderError {
    /// When the authority wishes to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Authority { source, .. } => source.retry_after,
            _ => None,
        }
    }
}

/// The live tokens of all orders and their answers, in memory. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tokens {
    live: Arc<RwLock<HashMap<String, String>>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.live.read().map_or(0, |live| live.len());
        f.debug_struct("Tokens").field("live", &count).finish()
    }
}

/// A token is answered as long as this lives.
#[derive(Debug)]
pub struct Live {
    tokens: Tokens,
    token: String,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Ok(mut live) = self.tokens.live.write() {
            live.remove(&self.token);
        }
    }
}

impl Tokens {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `token` until the returned guard is dropped; `None` for what is no token (RFC 8555 §8.3: base64url).
    pub fn publish(&self, token: &str, answer: &str) -> Option<Live> {
        if !is_token(token) {
            return None;
        }
        let mut live = self.live.write().ok()?;
        if live.len() >= MAX_TOKENS {
            return None;
        }
        live.insert(token.to_owned(), answer.to_owned());
        Some(Live { tokens: self.clone(), token: token.to_owned() })
    }

    /// The answer to `token` while it is live.
    pub fn answer(&self, token: &str) -> Option<String> {
        if !is_token(token) {
            return None;
        }
        self.live.read().ok()?.get(token).cloned()
    }
}

fn is_token(token: &str) -> bool {
    (1..=128).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Checks what can be known before an authority is bothered.
///
/// # Errors
/// [`OrderError::Wildcard`], [`OrderError::Address`], [`OrderError::Request`].
pub fn check_names(names: &[String]) -> Result<(), OrderError> {
    for name in names {
        if name.starts_with("*.") {
            return Err(OrderError::Wildcard(name.clone()));
        }
        match name.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                return Err(OrderError::Address(address));
            }
            _ => {}
        }
    }
    request::Form { names: names.to_vec(), ..request::Form::default() }.alternative_names()?;
    Ok(())
}

/// Obtains a certificate of `key` for `names`. Answers are published in `tokens` while the authority looks, and withdrawn in every case,
/// also when this future is dropped. The chain is checked before it is returned: a certificate for another key, without a name, of
/// another time or with a broken chain never gets near a listener.
///
/// # Errors
/// [`OrderError`].
pub async fn issue<A: Authority>(
    authority: &mut A,
    tokens: &Tokens,
    key: &Key,
    names: &[String],
    now: impl Fn() -> SystemTime + Send,
) -> Result<Credential, OrderError> {
    check_names(names)?;
    let request = request::acme(key, names)?;
    let at = |step| move |source| OrderError::Authority { step, source };
    let challenges = authority.open(names).await.map_err(at("order"))?;
    let mut answers = Vec::with_capacity(challenges.len());
    for challenge in &challenges {
        answers.push(tokens.publish(&challenge.token, &challenge.answer).ok_or(OrderError::BadChallenge)?);
    }
    authority.prove().await.map_err(at("validation"))?;
    drop(answers);
    let pem = authority.finish(&request).await.map_err(at("finalisation"))?;
    check(key, names, &pem, now())
}

fn check(key: &Key, names: &[String], pem: &str, now: SystemTime) -> Result<Credential, OrderError> {
    let chain = import::chain(pem.as_bytes())?;
    let follows = chain.windows(2).all(|pair| matches!(pair, [below, above] if issued(below, above)));
    let credential = Credential::new(key.clone(), chain)?;
    if !credential.names_all(names) {
        return Err(OrderError::WrongNames(names.join(", ")));
    }
    let details = credential.details();
    let latest_start = now.checked_add(CLOCK_SKEW).unwrap_or(now);
    if details.not_after <= now || details.not_before > latest_start {
        return Err(OrderError::WrongTime(details.not_before, details.not_after));
    }
    if follows { Ok(credential) } else { Err(OrderError::BrokenChain) }
}

#[cfg(test)]
mod tests;
