//! Requests sent over TLS and the responses they get. The transport is reliable: nothing is sent twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::text::Message;
use crate::wire::{Closed, Wire};

/// No final response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection closed before or while the request was sent.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The connection closed while the answer was awaited.
    #[error("the connection closed before an answer to {0}")]
    Lost(String),
    /// Nothing in time.
    #[error("no answer to {0} within {1:?}")]
    Slow(String, Duration),
}

/// The requests that are waiting for responses, by branch.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    pending: Arc<Mutex<Waiting>>,
}

/// By branch: the connection the request went out on, and who waits.
type Waiting = HashMap<String, (u64, mpsc::UnboundedSender<Message>)>;

/// One request under way.
#[derive(Debug)]
pub struct Pending {
    agent: Agent,
    branch: String,
    what: String,
    patience: Duration,
    until: Instant,
    responses: mpsc::UnboundedReceiver<Message>,
}

impl Agent {
    /// Sends a request whose topmost Via has `branch`.
    pub async fn send(
        &self,
        wire: &Wire,
        branch: &str,
        text: String,
        patience: Duration,
    ) -> Result<Pending, RequestError> {
        let (sender, responses) = mpsc::unbounded_channel();
        self.lock().insert(branch.to_owned(), (wire.id(), sender));
        let what = text.split(' ').next().unwrap_or("").to_owned();
        let pending = Pending {
            agent: self.clone(),
            branch: branch.to_owned(),
            what,
            patience,
            until: Instant::now() + patience,
            responses,
        };
        wire.send(text).await?;
        Ok(pending)
    }

    /// Hands a response to the request it belongs to; `false` when there is none (RFC 3261 §18.1.2).
    pub fn deliver(&self, response: Message) -> bool {
        let Some(branch) = response.branch() else { return false };
        match self.lock().get(branch) {
            Some((_, sender)) => sender.send(response).is_ok(),
            None => false,
        }
    }

    /// Gives up on what went out on a connection that is gone.
    pub fn abandon(&self, wire: u64) {
        self.lock().retain(|_, (id, _)| *id != wire);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// The next response, provisional or final.
    pub async fn next(&mut self) -> Result<Message, RequestError> {
        match tokio::time::timeout_at(self.until, self.responses.recv()).await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(RequestError::Lost(self.what.clone())),
            Err(_) => Err(RequestError::Slow(self.what.clone(), self.patience)),
        }
    }

    /// The final response.
    pub async fn last(&mut self) -> Result<Message, RequestError> {
        loop {
            let response = self.next().await?;
            if response.status().is_some_and(|status| status >= 200) {
                return Ok(response);
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.agent.lock().remove(&self.branch);
    }
}

/// Sixteen random hexadecimal digits: for branches, tags and Call-IDs.
pub fn token() -> String {
    let mut bytes = [0_u8; 8];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    if random.is_err() {
        // Without a random source there is still the time; the twin needs difference, not secrecy.
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        bytes = now.to_be_bytes();
    }
    data_encoding::HEXLOWER.encode(&bytes)
}
