//! Which requests are served at all: rules by sender, preloaded Routes, From and To, content types, methods.
//!
//! Rules stand in order, and the first that matches decides. A table without rows costs one branch a message.

use super::Edge;
use super::config::{Policy, PreloadedRoutes};
use super::event::Reason;
use super::exchange::{Incoming, Refusal};
use super::manipulate::HeaderRule;
use super::uri_codec::host_of;
use crate::header::{ContentType, From, Header, To};
use crate::message::{Message, Method, Name};
use crate::resolve::{Destination, Networks};
use crate::uri::Uri;

/// All rules. The default lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filters {
    /// What becomes of a sender's requests (SIP-49): `[[sip.filter]]`, else `sip.default_policy`.
    pub senders: Vec<SenderRule>,
    /// What becomes of the Routes that a phone brings along (SIP-48): `[[sip.preloaded_route_rules]]`, else
    /// `sip.preloaded_routes`.
    pub preloaded_routes: Vec<PreloadedRule>,
    /// Who may call whom (SIP-50): `[[sip.header_filters]]`, else anybody.
    pub headers: Vec<HeaderFilter>,
    /// Content types that requests may have (SIP-50), as `type/subtype` or `type/*`; empty is all.
    /// `sip.content_types`.
    pub content_types: Vec<String>,
    /// Methods that requests may have (SIP-50); empty is all. `sip.methods`.
    pub methods: Vec<String>,
    /// What is changed in messages last of all (SIP-65): `[[sip.header_rules]]`.
    pub header_rules: Vec<HeaderRule>,
}

/// One row of `[[sip.filter]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderRule {
    /// Senders.
    pub from: Networks,
    /// What becomes of their requests.
    pub policy: Policy,
}

/// One row of `[[sip.preloaded_route_rules]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreloadedRule {
    /// Senders.
    pub from: Networks,
    /// What becomes of the Routes they bring along.
    pub action: PreloadedRoutes,
}

/// One row of `[[sip.header_filters]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFilter {
    /// Matches the URI in From.
    pub from: Glob,
    /// Matches the URI in To.
    pub to: Glob,
    /// Whether such requests pass, or are answered 403.
    pub allow: bool,
}

/// The content types that teleworker phones send (SIP-50); `@phones` in `sip.content_types`.
pub const PHONE_CONTENT_TYPES: &[&str] = &[
    "application/sdp",
    "application/csta+xml",
    "application/vq-rtcpxr",
    "message/sipfrag",
    "application/dtmf-relay",
    "application/simple-message-summary",
    "application/dialog-info+xml",
    "application/rlmi+xml",
    "application/reginfo+xml",
    "multipart/*",
];

/// A pattern: `*` is any text, `?` any one character, everything else itself; without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<u8>);

/// The longest pattern.
pub const GLOB_LIMIT: usize = 256;

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing matches it.
    #[error("an empty pattern matches nothing")]
    Empty,
    /// Above [`GLOB_LIMIT`].
    #[error("a pattern has at most {GLOB_LIMIT} octets")]
    TooLong,
    /// Other wildcards, or control characters.
    #[error("'{0}' is no part of a pattern: only * and ? stand for others")]
    Character(char),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`GlobError`]. `[`, `]`, `{`, `}`, `|`, `^` and `\` are refused, for they mean something elsewhere and
    /// would mean themselves here. An IPv6 host is matched with `?` or `*` for its brackets.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.len() > GLOB_LIMIT {
            return Err(GlobError::TooLong);
        }
        match text.chars().find(|c| c.is_control() || "[]{}|^\\".contains(*c)) {
            Some(bad) => Err(GlobError::Character(bad)),
            None => Ok(Self(text.to_ascii_lowercase().into_bytes())),
        }
    }

    /// Whether the whole text matches. Time is at most the product of both lengths, memory none.
    ///
    /// ```
    /// # use sip_core::edge::filter::Glob;
    /// let glob = Glob::new("sips:9*@10.0.?.50").unwrap();
    /// assert!(glob.matches(b"SIPS:9001@10.0.1.50") && !glob.matches(b"sips:8001@10.0.1.50"));
    /// ```
    pub fn matches(&self, text: &[u8]) -> bool {
        let glob = &self.0;
        let (mut at, mut seen) = (0, 0);
        // Where the last `*` stands, and from where on it was tried.
        let mut star = None;
        while let Some(byte) = text.get(seen) {
            match glob.get(at) {
                Some(b'*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(wanted) if *wanted == b'?' || *wanted == byte.to_ascii_lowercase() => {
                    at += 1;
                    seen += 1;
                }
                _ => match star {
                    Some((place, from)) => {
                        star = Some((place, from + 1));
                        (at, seen) = (place + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        glob.get(at..).unwrap_or_default().iter().all(|b| *b == b'*')
    }
}

impl Edge {
    /// Judges a request by all rules but those on Routes; 403, 405 or 415.
    pub(super) fn filter(&self, incoming: &Incoming) -> Result<(), Refusal> {
        let filters = &self.config.filters;
        self.judge_sender(incoming)?;
        let message = &incoming.message;
        if !filters.methods.is_empty() {
            judge_method(message, &filters.methods)?;
        }
        if !filters.headers.is_empty() {
            judge_headers(message, &filters.headers)?;
        }
        if !filters.content_types.is_empty() {
            judge_content(message, &filters.content_types)?;
        }
        Ok(())
    }

    /// SIP-49. Without a rule of its own the inside is served, and the outside as `sip.default_policy` says.
    fn judge_sender(&self, incoming: &Incoming) -> Result<(), Refusal> {
        let remote = incoming.peer.remote.ip();
        let rule = self.config.filters.senders.iter().find(|rule| rule.from.contains(remote));
        let policy = match (rule, incoming.peer.side) {
            (Some(rule), _) => rule.policy,
            (None, crate::flow::Side::Outside) => self.config.default_policy,
            (None, crate::flow::Side::Inside) => Policy::ProcessAll,
        };
        match policy {
            Policy::ProcessAll => Ok(()),
            Policy::LocalOnly if self.is_local(&incoming.message) => Ok(()),
            Policy::LocalOnly | Policy::RejectAll => Err(Refusal::forbidden(Reason::Policy)),
        }
    }

    /// Whether a request names us, a configured server, or a domain that we serve.
    fn is_local(&self, message: &Message) -> bool {
        Uri::parse(message.request_uri().unwrap_or_default()).is_ok_and(|uri| {
            let host = host_of(&uri);
            let named = |server: &crate::resolve::Server| {
                server.matches.iter().any(|m| m.eq_ignore_ascii_case(&host))
            };
            self.config.servers.iter().any(named)
                || self.is_own(&host)
                || matches!(self.directory().destination(&host), Destination::Lookup(..))
        })
    }

    /// SIP-48: what becomes of the Routes that this sender brings along.
    pub(super) fn preloaded(&self, incoming: &Incoming) -> PreloadedRoutes {
        let remote = incoming.peer.remote.ip();
        let rule = self.config.filters.preloaded_routes.iter().find(|rule| rule.from.contains(remote));
        rule.map_or(self.config.preloaded_routes, |rule| rule.action)
    }
}

fn judge_method(message: &Message, allowed: &[String]) -> Result<(), Refusal> {
    let method = message.method().unwrap_or(Method::Other(b""));
    if allowed.iter().any(|name| name.as_bytes() == method.as_bytes()) {
        return Ok(());
    }
    let refusal = Refusal::new(405, "Method Not Allowed", Reason::Filtered(Name::Allow));
    // RFC 3261 §21.4.6: say what is.
    Err(refusal.with("Allow", allowed.join(", ")))
}

fn judge_headers(message: &Message, filters: &[HeaderFilter]) -> Result<(), Refusal> {
    let from = message.header::<From>().and_then(Result::ok).map_or(&b""[..], |from| from.uri_bytes());
    let to = message.header::<To>().and_then(Result::ok).map_or(&b""[..], |to| to.uri_bytes());
    match filters.iter().find(|filter| filter.from.matches(from) && filter.to.matches(to)) {
        Some(filter) if !filter.allow => Err(Refusal::forbidden(Reason::Filtered(Name::From))),
        _ => Ok(()),
    }
}

/// The type of the body as a whole; the parts of a multipart body are not looked at.
fn judge_content(message: &Message, allowed: &[String]) -> Result<(), Refusal> {
    if message.body().is_empty() {
        return Ok(());
    }
    let fits = match message.header::<ContentType>() {
        Some(Ok(found)) => allowed.iter().any(|name| {
            name.split_once('/').is_some_and(|(kind, subtype)| {
                found.is(kind, subtype)
                    || (subtype == "*" && found.kind.eq_ignore_ascii_case(kind.as_bytes()))
            })
        }),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let refusal = Refusal::new(415, "Unsupported Media Type", Reason::Filtered(ContentType::NAME));
    // RFC 3261 §21.4.13
    Err(refusal.with("Accept", allowed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_know_two_wildcards() {
        let matches = |glob: &str, text: &str| Glob::new(glob).unwrap().matches(text.as_bytes());
        for (glob, text) in [
            ("*", ""),
            ("*", "sip:a@b"),
            ("sip:?@b", "sip:a@b"),
            ("*a*b*c*", "xxaxxbxxbxxcxx"),
            ("a*a", "aa"),
            ("SIP:A@B", "sip:a@b"),
            ("a.c", "a.c"),
            ("**", "x"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [
            ("?", ""),
            ("a*a", "a"),
            ("a.c", "abc"),
            ("a?c", "ac"),
            ("*b", "abc"),
            ("a", "aa"),
            ("(a)+", "aa"),
        ] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
        let slow = Glob::new(&"a*".repeat(128)).unwrap();
        assert!(!slow.matches(&[b'a'; 100]));
    }

    #[test]
    fn what_is_a_wildcard_elsewhere_is_refused() {
        assert_eq!(Glob::new("[a-z]"), Err(GlobError::Character('[')));
        assert_eq!(Glob::new("a\\*"), Err(GlobError::Character('\\')));
        assert_eq!(Glob::new("a\r"), Err(GlobError::Character('\r')));
        assert_eq!(Glob::new(""), Err(GlobError::Empty));
        assert_eq!(Glob::new(&"a".repeat(257)), Err(GlobError::TooLong));
        assert!(Glob::new(&"a".repeat(256)).is_ok());
    }
}
