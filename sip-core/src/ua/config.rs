//! Settings of an agent, and who answers challenges for it.

#[cfg(doc)]
use super::agent::Agent;
use super::request::{Request, SentBy};
use crate::message::{Message, Name};
use crate::transaction;

/// Settings of an [`Agent`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How we are reached, one for each transport; for Via and Contact. The first serves transports that have none.
    pub faces: Vec<SentBy>,
    /// The user in our Contact; none if empty.
    pub user: String,
    /// Methods that are handed up; others are answered 405.
    pub allow: Vec<String>,
    /// Option tags that we understand; a request that requires others is answered 420. `100rel` is understood always.
    pub supported: Vec<String>,
    /// Dialogs at a time. New INVITEs from outside are answered 503 beyond it. Default 10,000.
    pub dialogs: usize,
    /// Early dialogs that one INVITE of ours may make; what comes from further ones is dropped. Default 16.
    pub forks: usize,
    /// Whether an answer of a second fork is kept as a second dialog. Else it is acknowledged and ended at once, which is
    /// what a phone wants. Default no.
    pub keep_all_forks: bool,
    /// The clocks of what is repeated here; the same as the layer's.
    pub timers: transaction::Config,
}

impl Config {
    /// An agent that is reached there.
    pub fn new(faces: Vec<SentBy>) -> Self {
        let allow = [
            "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE", "INFO", "MESSAGE", "NOTIFY",
            "REFER",
        ];
        Self {
            faces,
            user: String::new(),
            allow: allow.map(str::to_owned).to_vec(),
            supported: Vec::new(),
            dialogs: 10_000,
            forks: 16,
            keep_all_forks: false,
            timers: transaction::Config::default(),
        }
    }
}

/// Answers challenges (RFC 3261 §22): the place where a digest client is put in.
pub trait Credentials {
    /// The rows that answer a 401 or 407 to `request`, such as `Authorization`; `None` if there is nothing to answer with,
    /// or if these very credentials were refused before. Each request is sent again once at most.
    fn answer(&mut self, challenge: &Message, request: &Request) -> Option<Vec<(Name, Vec<u8>)>>;
}
