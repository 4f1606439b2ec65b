//! `farend explain sip`: the way of one message through a configuration, without a socket and without a change.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use acme_store::certificate::Details;
use acme_store::pem;
use bytes::Bytes;
use sip_core::edge::explain::Question;
use sip_core::edge::{Command, Edge};
use sip_core::flow::{Identity, ListenerId, Transport};
use sip_core::machine::Machine as _;
use sip_core::media::Untouched;
use sip_core::message::{Limits, Message};
use sip_core::token::{InstanceId, Key, Keyring};

use super::keys::{KeyError, Keys};
use super::listen::allowed;
use super::{location, machine, signalling};
use crate::config::{self, Settings, SipPort};

/// What is to be explained, and as if it came how.
#[derive(Clone, Debug)]
pub struct Asked {
    /// One SIP message; line ends may be those of a text file.
    pub message: Vec<u8>,
    /// Who sends it.
    pub from: SocketAddr,
    /// The row of `sip.ports` it comes by; without, the first one of that side.
    pub row: Option<String>,
    /// Whether it comes from the switches, where no row is named.
    pub inside: bool,
    /// Who the sender is by its certificate: a PEM or DER file, or a name.
    pub certificate: Option<String>,
    /// The tag of the phone over whose own connection to the switch it comes.
    pub line: Option<String>,
    /// Phones count as not connected.
    pub phones_gone: bool,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is no such row.
    #[error("sip.ports has no such row; there are: {0}")]
    Row(String),
    /// The certificate's file can't be used.
    #[error("{}: {error}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The message is not SIP, and gets the answer that any peer would get.
    #[error("not a SIP message: {0}")]
    Message(String),
    /// The keys of routing tokens can't be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The registrations can't be read.
    #[error("location.log: {0}")]
    Location(io::Error),
}

/// What a gateway with these settings, and with the keys and registrations in its `state_dir`, would do with a message.
/// Nothing is sent, counted or written; a gateway may be running meanwhile.
///
/// # Errors
/// [`ExplainError`].
pub fn explain_sip(settings: &Settings, asked: &Asked) -> Result<String, ExplainError> {
    let rows = &settings.sip.ports;
    let row = rows.iter().find(|row| match &asked.row {
        Some(name) => row.name == *name,
        None => row.inside == asked.inside,
    });
    let row = row.ok_or_else(|| {
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        ExplainError::Row(names.join(", "))
    })?;
    let mut text = format!("Comes by sip.ports \"{}\" from {}", row.name, asked.from);
    if !allowed(&row.allow_from, asked.from.ip()) {
        text.push_str("\nREFUSED before a byte is read: the address is not in allow_from\n");
        return Ok(text);
    }
    let limits = Limits { message: settings.sip.max_message, ..Limits::default() };
    let message = Message::parse(wire(&asked.message), &limits);
    let message = message.map_err(|error| ExplainError::Message(error.to_string()))?;

    let now = now();
    let mut edge = edge(settings)?;
    for change in location::known(&settings.state_dir).map_err(ExplainError::Location)? {
        edge.handle_command(now, Command::Locate(change));
    }
    let local = row.addresses.first().copied().unwrap_or(asked.from);
    let mut peer = signalling::peer(row, listener(row), asked.from, local);
    if row.tls.is_none() && row.transports.first() == Some(&config::Transport::Udp) {
        peer.transport = Transport::Udp;
    }
    if row.tls.is_some()
        && let Some(certificate) = &asked.certificate
    {
        peer.identity = Some(Arc::new(identity(certificate, &edge)?));
        peer.verified = true;
    }
    let line = asked.line.as_ref().map(|tag| InstanceId::new(&machine::edge(settings).realm, tag));
    let trace =
        edge.explain(now, Question { peer, source: None, line, connected: !asked.phones_gone, message });
    text.push_str(if asked.phones_gone {
        "; phones are not connected\n"
    } else {
        "; phones count as connected\n"
    });
    Ok(format!("{text}{trace}"))
}

/// An edge of these settings, with the keys of the state folder if it has any.
fn edge(settings: &Settings) -> Result<Edge, ExplainError> {
    let keys = if settings.state_dir.join("token.key").exists() {
        Keys::load(&settings.state_dir)?.ring()
    } else {
        // A gateway that never ran has written no token that could be known.
        Keyring::new(Key::new(1, [0; 32]), Vec::new())
    };
    Ok(Edge::new(machine::edge(settings), keys, [0; 32], Box::new(Untouched)))
}

fn listener(row: &SipPort) -> ListenerId {
    ListenerId(u32::try_from(row.row).unwrap_or(u32::MAX))
}

/// Who a certificate says its holder is. A mere name stands for the certificate of the registered phone whose tag it has.
fn identity(certificate: &str, edge: &Edge) -> Result<Identity, ExplainError> {
    let path = PathBuf::from(certificate);
    if !path.exists() {
        let name = certificate.strip_prefix("CN=").unwrap_or(certificate).to_owned();
        let known = edge.bindings().iter().find(|binding| {
            binding.record.tag.as_ref().is_some_and(|tag| name.to_ascii_uppercase().contains(tag.as_str()))
        });
        let key_hash = known.map_or([0; 32], |binding| binding.record.certificate);
        return Ok(Identity { subject: format!("CN={name}"), names: vec![name], key_hash });
    }
    let failed = |error: String| ExplainError::Certificate { path: path.clone(), error };
    let bytes = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
    let der = if pem::is_pem(&bytes) {
        let block = pem::blocks(&bytes).into_iter().flatten().find(|block| block.label == "CERTIFICATE");
        block.ok_or_else(|| failed("no certificate in it".to_owned()))?.der
    } else {
        bytes
    };
    let details = Details::parse(&der).map_err(|error| failed(error.to_string()))?;
    Ok(signalling::identity(&details.identity()))
}

/// A text file's line ends become those of the wire; a message that has them already stays as it is.
fn wire(text: &[u8]) -> Bytes {
    if text.windows(2).any(|pair| pair == b"\r\n") {
        return Bytes::copy_from_slice(text);
    }
    let (head, body) = match text.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => text.split_at(at + 2),
        None => (text, &b""[..]),
    };
    let mut wire: Vec<u8> = head.split(|b| *b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
    if !wire.ends_with(b"\r\n\r\n") {
        wire.extend_from_slice(if wire.ends_with(b"\r\n") { b"\r\n" } else { b"\r\n\r\n" });
    }
    wire.extend_from_slice(body);
    wire.into()
}

#[allow(clippy::disallowed_methods, reason = "the one clock of an explanation")]
fn now() -> Instant {
    Instant::now()
}
