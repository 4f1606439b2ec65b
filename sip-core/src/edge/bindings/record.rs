//! What of a phone survives a restart and travels between nodes.

use serde::{Deserialize, Serialize};

use super::USERS;
use crate::flow::Source;

/// What survives a restart and travels between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The binding's id: a digest of realm and tag.
    pub id: u64,
    /// The tag (MAC address); `None` for a phone without.
    pub tag: Option<String>,
    /// The phone's own Contact URI, as it sent it.
    pub contact: String,
    /// The unescaped user of that Contact.
    pub user: String,
    /// The host of the address-of-record.
    pub domain: String,
    /// Users learnt, oldest first.
    pub users: Vec<String>,
    /// Seconds from now until it expires: whoever stores it adds the time of day.
    pub expires_in: u64,
    /// SHA-256 of the certificate's key.
    pub certificate: [u8; 32],
    /// The contact token it was born with.
    pub contact_token: Option<String>,
    /// The flow tokens it was born with: outside, inside.
    pub flow_tokens: [String; 2],
    /// The switch that holds the registration.
    pub switch: Option<Switch>,
    /// Whether the phone speaks RFC 5626 (`ob`): gone is 430, not 480.
    pub outbound: bool,
    /// What its addresses towards the PBX are made of, in the forms that need more than a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Box<NameParts>>,
}

impl Record {
    /// Whether every index of the bindings finds both in the same places.
    pub(super) fn is_indexed_as(&self, other: &Self) -> bool {
        self.user == other.user
            && self.users == other.users
            && self.certificate == other.certificate
            && self.flow_tokens[1] == other.flow_tokens[1]
            && self.address == other.address
    }
}

/// What makes up a phone's address in the forms *escape* and *shorter*; born with the binding and kept with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameParts {
    /// Host and port of the Contact it was first registered with; empty when there is none.
    pub origin: String,
    /// Handle and user, oldest first.
    pub handles: Vec<(String, Option<String>)>,
}

impl NameParts {
    /// The handle that stands for a user part.
    pub(in crate::edge) fn handle_of(&self, user: Option<&[u8]>) -> Option<&str> {
        let is = |known: &Option<String>| known.as_ref().map(String::as_bytes) == user;
        self.handles.iter().find(|(_, known)| is(known)).map(|(handle, _)| &**handle)
    }

    /// One handle more; as many as users are kept, and the one that leaves is not that of the registered user. Gives that one.
    pub(in crate::edge) fn add_handle(
        &mut self,
        registered: &str,
        user: Option<&[u8]>,
        handle: String,
    ) -> Option<String> {
        let user = user.map(|user| String::from_utf8_lossy(user).into_owned());
        self.handles.push((handle, user));
        if self.handles.len() <= USERS {
            return None;
        }
        let other = |(_, user): &(String, Option<String>)| user.as_deref() != Some(registered);
        let at = self.handles.iter().position(other)?;
        Some(self.handles.remove(at).0)
    }
}

/// Where a phone is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Host (and port) as the phone wrote it in the Request-URI.
    pub authority: String,
    /// The address it was reached at.
    pub remote: std::net::SocketAddr,
    /// Over which transport: `UDP`, `TCP` or `TLS`.
    pub transport: String,
}

/// A change of location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// This binding is now so.
    Put(Box<Record>),
    /// This binding is no more.
    Remove(u64),
    /// This binding is on that connection now, or on none. Only shards of one process tell each other; it is not kept.
    #[serde(skip)]
    Moved {
        /// Which binding.
        id: u64,
        /// The connection.
        path: Option<Source>,
    },
}
