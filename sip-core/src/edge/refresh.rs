//! Keep-alive by registration (`fent.keep_alive = "register"`, MED-02): phones are told a short expiry, so that each refreshes
//! once an interval and its NAT stays open. What the registrar granted lasts longer: a refresh that changes nothing is
//! answered here, as the registrar answered the last one, until half of that is over.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Edge;
use super::exchange::{Exchange, Incoming};
use super::explain::Verdict;
use super::forward::OWN;
use super::keepalive::Method;
use super::register::{Registration, Sent};
use super::rewrite::vias;
use crate::flow::Source;
use crate::header::{Address, CSeq, Expires};
use crate::message::{Edit, Message, Name};
use crate::token::InstanceId;

/// Addresses of one phone that are remembered; of more, the oldest goes to the registrar each time.
const MOST: usize = 4;
/// What must be the same for a refresh to change nothing.
const SAME: [Name; 4] = [Name::CallId, Name::To, Name::Contact, Name::Expires];

/// REGISTERs that were accepted, by what they said.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted(Vec<One>);

#[derive(Clone, Debug)]
struct One {
    said: Box<[u8]>,
    cseq: u32,
    /// Until when its refresh needs no registrar.
    until: Instant,
    /// The answer as the phone got it.
    written: Bytes,
}

impl Accepted {
    fn put(&mut self, one: One) {
        self.0.retain(|other| other.said != one.said);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(one);
    }
}

/// What a REGISTER asks for, and where.
fn said(message: &Message) -> Box<[u8]> {
    let mut said = message.request_uri().unwrap_or_default().to_vec();
    for row in message.rows().filter(|row| SAME.contains(&row.name)) {
        said.push(0);
        said.extend_from_slice(row.value);
    }
    said.into()
}

impl Edge {
    /// The seconds that a phone at this path is told; `None` where it is told what was granted.
    fn short_expiry(&self, path: &Source) -> Option<u32> {
        let settings = &self.config.keep_alive;
        let interval = (settings.method == Method::Register).then(|| settings.interval(path))?;
        u32::try_from(interval.as_secs()).ok()
    }

    /// A refresh that the registrar need not hear of: answered. Whether it was one.
    pub(super) fn refreshed_early(&mut self, now: Instant, incoming: &Incoming) -> bool {
        if self.config.keep_alive.method != Method::Register {
            return false;
        }
        let (Some(key), Some(Ok(cseq))) = (incoming.key, incoming.message.header::<CSeq>()) else {
            return false;
        };
        let said = said(&incoming.message);
        let here = self.bindings.of_path(&incoming.source).to_vec();
        let known = here.into_iter().find_map(|id| {
            let accepted = self.bindings.accepted_mut(id)?;
            let one = accepted.0.iter_mut().find(|one| one.said == said)?;
            // RFC 3261 §10.3 step 7: what is no newer is the registrar's to judge.
            if one.until <= now || cseq.number <= one.cseq {
                return None;
            }
            one.cseq = cseq.number;
            Some(one.written.clone())
        });
        let Some(written) = known else { return false };
        let Some(bytes) = answer_again(&written, incoming) else { return false };
        self.note("registration", Verdict::Pass, || {
            "a refresh that changes nothing: answered here".to_owned()
        });
        self.alive.refreshed(now, &incoming.source);
        self.layer.respond(now, &key, 200, bytes);
        true
    }

    /// The registrar has accepted, and the phone was told so: the refreshes to come are known.
    pub(super) fn remember_refresh(
        &mut self,
        now: Instant,
        exchange: &Exchange,
        answer: &Message,
        written: &Bytes,
    ) {
        let Some(registration) = exchange.registration.as_ref() else { return };
        let incoming = &exchange.incoming;
        let Some(told) = self.short_expiry(&incoming.source) else { return };
        self.alive.refreshed(now, &incoming.source);
        let granted = self.granted(registration, answer);
        // Of several connections each must be seen by the registrar (RFC 5626 §5.3).
        if granted <= told || registration.contacts.len() != 1 || registration.reg_id.is_some() {
            return;
        }
        let Some(Ok(cseq)) = incoming.message.header::<CSeq>() else { return };
        let until = now + Duration::from_secs(granted.into()) / 2;
        let one = One { said: said(&incoming.message), cseq: cseq.number, until, written: written.clone() };
        if let Some(accepted) = self.bindings.accepted_mut(InstanceId(registration.record.id)) {
            accepted.put(one);
        }
    }

    /// The Contacts of a 2xx with the expiry that the phone is to keep to.
    pub(super) fn shorten(
        &self,
        exchange: &Exchange,
        registration: &Registration,
        answer: &Message,
        contacts: &mut [Vec<u8>],
        edit: &mut Edit<'_>,
    ) {
        let Some(told) = self.short_expiry(&exchange.incoming.source) else { return };
        let header = answer.header::<Expires>().and_then(Result::ok);
        let granted = self.granted(registration, answer);
        for value in contacts {
            let own = Address::parse(Name::Contact, value).ok().and_then(|contact| contact.expires());
            if own.or(header).unwrap_or(granted) > told {
                *value = with_expires(value, told);
            }
        }
        if header.is_some_and(|header| header > told) {
            edit.set_header(Name::Expires, told.to_string().as_bytes());
        }
    }

    /// A phone that asks for what it was told: the registrar is asked for what it granted before.
    pub(super) fn ask_as_before(&self, path: &Source, id: u64, expires: Option<u32>, contacts: &mut [Sent]) {
        let Some(told) = self.short_expiry(path) else { return };
        let Some(known) = self.bindings.get(InstanceId(id)).filter(|known| known.registered) else { return };
        let Some(before) = u32::try_from(known.record.expires_in).ok().filter(|before| *before > told) else {
            return;
        };
        for contact in contacts.iter_mut().filter(|contact| contact.expires.or(expires) == Some(told)) {
            contact.value = with_expires(&contact.value, before);
            contact.expires = Some(before);
        }
    }
}

/// The answer to the REGISTER of before, for this one.
fn answer_again(written: &Bytes, incoming: &Incoming) -> Option<Bytes> {
    let before = Message::parse(written.clone(), &OWN).ok()?;
    let mut edit = before.edit();
    edit.replace_values(Name::Via, &vias(incoming));
    for name in [Name::From, Name::CSeq] {
        edit.set_header(name, incoming.message.raw(name)?);
    }
    edit.remove(Name::Date);
    edit.to_bytes().ok()
}

/// A Contact value with this `expires`, and its other parameters.
fn with_expires(value: &[u8], seconds: u32) -> Vec<u8> {
    let Ok(contact) = Address::parse(Name::Contact, value) else { return value.to_vec() };
    let length = contact.raw().len() - contact.params().as_bytes().len();
    let mut text = contact.raw().get(..length).unwrap_or_default().to_vec();
    for (name, value) in contact.params().iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"expires")) {
        text.push(b';');
        text.extend_from_slice(name);
        if let Some(value) = value {
            text.push(b'=');
            text.extend_from_slice(value);
        }
    }
    text.extend_from_slice(b";expires=");
    text.extend_from_slice(seconds.to_string().as_bytes());
    text
}
