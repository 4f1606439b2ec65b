//! Answers of a user agent, and what repeats them.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::message::Field;

/// An answer to a request, without what the request itself and the dialog bring.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Option<(String, Bytes)>,
    pub(crate) reliable: bool,
}

impl Answer {
    /// `status` is 100 to 699.
    pub fn new(status: u16, reason: &str) -> Self {
        Self { status, reason: reason.to_owned(), rows: Vec::new(), body: None, reliable: false }
    }

    /// One more row. A Contact that is given stands in the place of the agent's own.
    #[must_use]
    pub fn header<'n>(mut self, field: impl Into<Field<'n>>, value: impl AsRef<[u8]>) -> Self {
        self.rows.push((field.into().text().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The body and its Content-Type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Some((content_type.to_owned(), body.into()));
        self
    }

    /// Sends a provisional response reliably (RFC 3262) where the caller can do so; it is always sent so where the caller
    /// requires it.
    #[must_use]
    pub fn reliable(mut self) -> Self {
        self.reliable = true;
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|(have, _)| have.eq_ignore_ascii_case(name.as_bytes()))
    }
}

impl fmt::Debug for Answer {
    /// No rows and no body: they may carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// A response that is sent again and again until it is acknowledged: a 2xx to INVITE (RFC 3261 §13.3.1.4), or a reliable
/// provisional response (RFC 3262 §3).
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) status: u16,
    pub(super) bytes: Bytes,
    pub(super) next: Instant,
    gap: Duration,
    /// The gap grows no further than this.
    cap: Duration,
    /// When it has been sent in vain for long enough.
    pub(super) until: Instant,
}

impl Repeat {
    pub(super) fn new(now: Instant, status: u16, bytes: Bytes, [t1, cap, lifetime]: [Duration; 3]) -> Self {
        let gap = t1.max(Duration::from_millis(1));
        Self { status, bytes, next: now + gap, gap, cap: cap.max(gap), until: now + lifetime }
    }

    /// It was sent again.
    pub(super) fn again(&mut self, now: Instant) {
        self.gap = self.gap.saturating_mul(2).min(self.cap);
        self.next = (now + self.gap).min(self.until);
    }
}
