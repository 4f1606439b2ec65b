//! Header rules (SIP-65): what is set, added or removed in messages towards a peer, last of all. A typed list, no script.

use std::net::IpAddr;

use super::Edge;
use super::filter::Glob;
use super::interop::Peers;
use crate::message::{Edit, Field, Message, Name};

/// One row of `[[sip.header_rules]]`. Rules act in order, each on what the ones before it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// Receivers; `None` is everybody.
    pub towards: Option<Peers>,
    /// Whether requests are meant.
    pub requests: bool,
    /// Whether responses are meant.
    pub responses: bool,
    /// Only messages that came with such a header.
    pub when: Option<(String, Glob)>,
    /// The header that is changed.
    pub header: String,
    /// How.
    pub action: HeaderAction,
}

/// What a [`HeaderRule`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// One row with this value, instead of all there were.
    Set(String),
    /// One more row with this value.
    Add(String),
    /// No row.
    Remove,
}

/// Why a rule can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRuleError {
    /// Without it, or with another value, the message is broken or goes astray.
    #[error("the header belongs to the protocol, and no rule may change it")]
    Mandatory,
    /// Not a header name (RFC 3261 §25.1, token).
    #[error("not a header name")]
    Name,
    /// Control characters or line ends.
    #[error("a header value has no control characters")]
    Value,
}

/// What routes a message, tells it from others, frames it, or authenticates it.
const PROTECTED: &[Name] = &[
    Name::Via,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::Contact,
    Name::MaxForwards,
    Name::MaxBreadth,
    Name::Route,
    Name::RecordRoute,
    Name::Path,
    Name::ServiceRoute,
    Name::ContentLength,
    Name::ContentType,
    Name::ContentEncoding,
    Name::MimeVersion,
    Name::Event,
    Name::SubscriptionState,
    Name::ReferTo,
    Name::Replaces,
    Name::Join,
    Name::RAck,
    Name::RSeq,
    Name::Require,
    Name::ProxyRequire,
    Name::Expires,
    Name::MinExpires,
    Name::SessionExpires,
    Name::MinSe,
    Name::SipEtag,
    Name::SipIfMatch,
    Name::Authorization,
    Name::ProxyAuthorization,
    Name::WwwAuthenticate,
    Name::ProxyAuthenticate,
    Name::AuthenticationInfo,
];

impl HeaderRule {
    /// Judges a rule before it is used.
    ///
    /// # Errors
    /// See [`HeaderRuleError`].
    pub fn judge(&self) -> Result<(), HeaderRuleError> {
        let names = std::iter::once(&self.header).chain(self.when.as_ref().map(|(name, _)| name));
        for name in names {
            if !crate::grammar::is_token(name.as_bytes()) {
                return Err(HeaderRuleError::Name);
            }
        }
        if PROTECTED.contains(&Field::from(self.header.as_str()).name()) {
            return Err(HeaderRuleError::Mandatory);
        }
        match &self.action {
            HeaderAction::Set(value) | HeaderAction::Add(value) if value.chars().any(char::is_control) => {
                Err(HeaderRuleError::Value)
            }
            _ => Ok(()),
        }
    }

    fn fits(&self, message: &Message, receiver: Option<IpAddr>) -> bool {
        let meant = if message.is_request() { self.requests } else { self.responses };
        let here = match &self.towards {
            None => true,
            Some(peers) => receiver.is_some_and(|address| peers.holds(address)),
        };
        let holds = |(name, glob): &(String, Glob)| {
            let field = Field::from(name.as_str());
            message.rows().any(|row| field.is(row.name, row.name_bytes) && glob.matches(row.value))
        };
        meant && here && self.when.as_ref().is_none_or(holds)
    }
}

impl Edge {
    /// Applies the rules for this receiver.
    pub(super) fn manipulate(&self, message: &Message, receiver: Option<IpAddr>, edit: &mut Edit<'_>) {
        for rule in self.config.filters.header_rules.iter().filter(|rule| rule.fits(message, receiver)) {
            match &rule.action {
                HeaderAction::Set(value) => edit.set_header(rule.header.as_str(), value.as_bytes()),
                HeaderAction::Add(value) => edit.push_front(rule.header.as_str(), value.as_bytes()),
                HeaderAction::Remove => edit.remove(rule.header.as_str()),
            }
        }
    }
}
