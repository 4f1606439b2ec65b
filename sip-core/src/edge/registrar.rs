//! What the interoperability profile changes in a REGISTER and its answer (SIP-23 to SIP-29).

use std::time::Instant;

use super::Edge;
use super::bindings::Record;
use super::event::{Event, Lack};
use super::exchange::Exchange;
use super::interop::AddExpires;
use super::naming::Named;
use super::register::Registration;
use super::uri_codec::encoding::escape_user;
use super::uri_codec::{unescape, with_user};
use crate::header::{Address, Contact};
use crate::message::{Edit, Message, Name};
use crate::token::InstanceId;
use crate::uri::Uri;

/// Contact parameters of RFC 5627 §5.1 that name a GRUU of the registrar's making.
const GRUUS: [&[u8]; 2] = [b"pub-gruu", b"temp-gruu"];

impl Edge {
    /// The phone's address as it is registered: with the URI parameters that are to survive (SIP-25), and with the user
    /// of the address-of-record where the phone gave none and one is forced (SIP-26).
    pub(super) fn registered_uri(&self, record: &Record, uri: &Uri<'_>, user: Option<&str>) -> Vec<u8> {
        let contacts = &self.config.interop.contacts;
        let forced =
            user.filter(|user| contacts.force_contact_user && uri.user().is_none() && !user.is_empty());
        let forced = forced.map(|user| with_user(uri, Some(&escape_user(user))));
        let mut text = match forced.as_deref().map(Uri::parse) {
            Some(Ok(forced)) => self.contact_uri(Some(record), &forced),
            _ => self.contact_uri(Some(record), uri),
        };
        for name in &contacts.uri_params_keep {
            // The transport that we speak stands there already.
            let Some(value) = uri.param(name).filter(|_| !name.eq_ignore_ascii_case("transport")) else {
                continue;
            };
            text.push(b';');
            text.extend_from_slice(name.as_bytes());
            if !value.is_empty() {
                text.push(b'=');
                text.extend_from_slice(value);
            }
        }
        text
    }

    /// The `Expires` header of a REGISTER, or of its 2xx, from the Contact's parameter (SIP-29).
    pub(super) fn add_expires(&self, message: &Message, contacts: &[impl AsRef<[u8]>], edit: &mut Edit<'_>) {
        let add = match self.config.interop.contacts.add_expires {
            AddExpires::Never => false,
            AddExpires::WhenMissing => message.raw(Name::Expires).is_none(),
            AddExpires::Always => true,
        };
        if !add {
            return;
        }
        let of = |value: &[u8]| Address::parse(Name::Contact, value).ok()?.expires();
        if let Some(expires) = contacts.iter().find_map(|value| of(value.as_ref())) {
            edit.set_header(Name::Expires, expires.to_string().as_bytes());
        }
    }

    /// A Contact of a 2xx without the registrar's GRUUs, which name our address and not the phone's (SIP-23).
    pub(super) fn without_gruus(&self, value: Vec<u8>) -> Vec<u8> {
        if self.config.interop.contacts.gruu_passthrough {
            return value;
        }
        // Few values have such a parameter, and those that have one have its name in them.
        let at_name =
            |at: usize| value.get(at..at + 4).is_some_and(|name| name.eq_ignore_ascii_case(b"gruu"));
        if !memchr::memchr2_iter(b'g', b'G', &value).any(at_name) {
            return value;
        }
        let Ok(contact) = Address::parse(Name::Contact, &value) else { return value };
        let is_gruu = |name: &[u8]| GRUUS.iter().any(|gruu| name.eq_ignore_ascii_case(gruu));
        if !contact.params().iter().any(|(name, _)| is_gruu(name)) {
            return value;
        }
        let length = contact.raw().len() - contact.params().as_bytes().len();
        let mut text = contact.raw().get(..length).unwrap_or_default().to_vec();
        for (name, value) in contact.params().iter().filter(|(name, _)| !is_gruu(name)) {
            text.push(b';');
            text.extend_from_slice(name);
            if let Some(value) = value {
                text.push(b'=');
                text.extend_from_slice(value);
            }
        }
        text
    }

    /// Whether a Contact is a GRUU that passes as it is.
    pub(super) fn is_passed_gruu(&self, uri: &Uri<'_>) -> bool {
        self.config.interop.contacts.gruu_passthrough && uri.is_sip() && uri.param("gr").is_some()
    }

    /// The phone of a registrar's public GRUU (RFC 5627 §4.1): the instance stands in `gr`. `None` for what is none.
    pub(super) fn by_gruu<'u>(&self, uri: &Uri<'u>) -> Option<Named<'u>> {
        let contacts = &self.config.interop.contacts;
        let pattern = contacts.tag_routing.pattern.as_ref().filter(|_| contacts.tag_routing.enabled)?;
        if !contacts.gruu_passthrough || !uri.is_sip() {
            return None;
        }
        let instance = unescape(uri.param("gr").filter(|gr| !gr.is_empty())?)?;
        let tag = pattern.tag(format!("+sip.instance=\"<{instance}>\"").as_bytes());
        let id = tag.map(|tag| InstanceId::new(&self.config.realm, &tag));
        let known = id.and_then(|id| self.bindings.get(id)).filter(|binding| binding.registered);
        Some(known.map_or(Named::Nobody, |binding| Named::Phone(binding.id, uri.user().map(Into::into))))
    }

    /// A registrar that knows no Path gets the REGISTER once more without (SIP-24). Whether it was sent.
    pub(super) fn retry_without_path(&mut self, now: Instant, exchange: &mut Exchange, index: usize) -> bool {
        if !self.config.interop.contacts.add_path {
            return false;
        }
        let Some(registration) = exchange.registration.as_mut().filter(|r| !r.without_path) else {
            return false;
        };
        registration.without_path = true;
        let phone = self.phone(exchange.phone);
        self.tell(Event::Lacking { phone, lack: Lack::Path });
        self.send_branch(now, exchange, index);
        true
    }

    /// A registrar that accepts and lists nothing: its answer passes, and is said once for each arrival (SIP-16).
    pub(super) fn lacks_contact(&mut self, registration: &Registration, answer: &Message) {
        let id = InstanceId(registration.record.id);
        let known = self.bindings.get(id).is_some_and(|binding| binding.registered);
        if !known && answer.header::<Contact>().is_none() {
            let phone = self.phone(id);
            self.tell(Event::Lacking { phone, lack: Lack::Contact });
        }
    }
}
