//! Inside addresses in headers that name somebody (SIP-64). Vias, Contacts and route sets are hidden where they are written;
//! the hosts of Request-URI, From, To, Refer-To and Referred-By are what phone and PBX call each other by.

use std::net::IpAddr;

use super::Edge;
use super::config::Face;
use super::uri_codec::{readdress, with_authority};
use crate::grammar::{split_comma, trim};
use crate::header::Address;
use crate::message::{Edit, Message, Name};
use crate::uri::Host;

/// Headers whose values are addresses, and Warning, whose agent is one.
const NAMING: &[Name] = &[
    Name::PAssertedIdentity,
    Name::PPreferredIdentity,
    Name::RemotePartyId,
    Name::Diversion,
    Name::HistoryInfo,
    Name::ReplyTo,
    Name::Warning,
];

/// Headers whose URIs a phone fetches as they are: an inside address in them passes, and is counted.
const FETCHED: &[Name] = &[Name::CallInfo, Name::AlertInfo, Name::ErrorInfo];

impl Edge {
    /// Puts our host in the place of inside addresses, towards a phone.
    pub(super) fn hide_names(&self, face: &Face, message: &Message, edit: &mut Edit<'_>) {
        let mut found = 0u32;
        for row in message.rows() {
            if let Some(at) = NAMING.iter().position(|name| *name == row.name) {
                found |= 1 << at;
            } else if FETCHED.contains(&row.name) && self.shows_inside(row.value) {
                self.shown.set(self.shown.get() + 1);
            }
        }
        for (at, name) in NAMING.iter().enumerate() {
            if found & (1 << at) != 0 {
                self.hide_named(face, message, *name, edit);
            }
        }
    }

    fn hide_named(&self, face: &Face, message: &Message, name: Name, edit: &mut Edit<'_>) {
        let (mut values, mut changed) = (Vec::new(), false);
        for row in message.rows().filter(|row| row.name == name) {
            let mut rest = Some(row.value);
            while let Some(value) = rest {
                let (first, more) = split_comma(value);
                rest = more;
                let hidden = match name {
                    Name::Warning => self.hidden_agent(face, first),
                    _ => self.hidden_name(face, name, first),
                };
                changed |= hidden.is_some();
                values.push(hidden.unwrap_or_else(|| trim(first).to_vec()));
            }
        }
        if changed {
            edit.replace_values(name, &values);
        }
    }

    fn hidden_name(&self, face: &Face, name: Name, value: &[u8]) -> Option<Vec<u8>> {
        let address = Address::parse(name, value).ok()?;
        let uri = address.uri().ok().filter(crate::uri::Uri::is_sip)?;
        let inside = self.is_inside(uri.host()?.ip()?);
        inside.then(|| readdress(&address, &with_authority(&uri, &bare_host(face))))
    }

    /// `399 agent "text"` (RFC 3261 §20.43).
    fn hidden_agent(&self, face: &Face, value: &[u8]) -> Option<Vec<u8>> {
        let mut words = trim(value).splitn(3, |b| *b == b' ');
        let (code, agent, text) = (words.next()?, words.next()?, words.next()?);
        let host = agent.rsplit(|b| *b == b':').next_back().filter(|_| !agent.starts_with(b"["));
        let host = Host::parse(host.unwrap_or(agent))?;
        self.is_inside(host.ip()?).then(|| [code, b" ", bare_host(face).as_bytes(), b" ", text].concat())
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        self.config.inside_networks.contains(address)
            || self.config.inside.is(&address.to_canonical().to_string())
    }

    /// Whether a URI in the value has an inside address as its host.
    fn shows_inside(&self, value: &[u8]) -> bool {
        let mut rest = value;
        while let Some(at) = memchr::memmem::find(rest, b"://") {
            rest = &rest[at + 3..];
            let end = rest.iter().position(|b| b":/?#>; ,\t".contains(b)).unwrap_or(rest.len());
            let host = std::str::from_utf8(&rest[..end]).ok().and_then(|host| host.parse().ok());
            if host.is_some_and(|host| self.is_inside(host)) {
                return true;
            }
        }
        false
    }
}

/// The host without a port: a name, no place to send to.
fn bare_host(face: &Face) -> String {
    match face.host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => face.host.clone(),
    }
}
