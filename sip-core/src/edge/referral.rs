//! Refer-To and Referred-By across the sides (RFC 3515, RFC 3892), and the To of a phone that names us.

use std::borrow::Cow;

use super::Edge;
use super::config::Face;
use super::event::{Event, Reason};
use super::exchange::{Exchange, Incoming, Refusal, Way};
use super::rewrite::TooLong;
use super::uri_codec::{SEALED_CONTACT, readdress};
use crate::flow::Side;
use crate::grammar::trim;
use crate::header::{Address, Fault, Header, ReferTo, ReferredBy, To};
use crate::message::{Edit, Message, Method, Name};
use crate::token::InstanceId;
use crate::uri::Uri;

impl Edge {
    /// RFC 3261 §20.10: a `?` belongs into brackets. Without them a REFER is refused, unless told otherwise (SIP-41).
    /// A target of ours that can't be read any more goes on as it is, and is told.
    pub(super) fn judge_refer(&mut self, incoming: &Incoming) -> Result<(), Refusal> {
        let message = &incoming.message;
        if incoming.method() != Method::Refer {
            return Ok(());
        }
        let relaxed = self.config.interop.headers.relaxed_refer_to;
        if let Some(Err(error)) = message.header::<ReferTo>()
            && !(relaxed && error.fault == Fault::UriHeaders)
        {
            let field = Name::ReferTo.as_str();
            return Err(Refusal::new(
                400,
                format!("Bad Request ({field})"),
                Reason::Malformed(field.to_owned()),
            ));
        }
        if self.config.interop.headers.translate_refer_to
            && incoming.peer.side == Side::Outside
            && let Some(value) = message.raw(Name::ReferTo)
            && let Ok(address) = Address::parse(Name::ReferTo, &bracketed(value))
            && let Ok(uri) = address.uri()
            && uri.param(SEALED_CONTACT).is_some()
            && self.unhidden(&uri).is_none()
        {
            self.tell(Event::Untranslated { call_id: incoming.call_id(), field: Name::ReferTo });
        }
        Ok(())
    }

    /// Refer-To and Referred-By for the inside: our own addresses become what they stand for, and a phone's own address
    /// becomes the one that the PBX knows it by (SIP-42).
    pub(super) fn refer_inside(&self, message: &Message, phone: InstanceId, edit: &mut Edit<'_>) {
        self.refer_header::<ReferTo>(message, edit, |uri| Ok(self.inside_target(uri, phone))).ok();
        self.refer_header::<ReferredBy>(message, edit, |uri| Ok(self.inside_target(uri, phone))).ok();
    }

    /// The same for a phone: an inside address of a phone is hidden; other targets are reached through us anyway, unless
    /// they are to be translated by all means (SIP-38).
    pub(super) fn refer_outside(
        &self,
        face: &Face,
        message: &Message,
        edit: &mut Edit<'_>,
    ) -> Result<(), TooLong> {
        let target = |uri: &Uri<'_>| {
            if self.has_phone_form(uri) || self.is_forced(uri) { self.hidden(face, uri) } else { Ok(None) }
        };
        self.refer_header::<ReferTo>(message, edit, target)?;
        self.refer_header::<ReferredBy>(message, edit, target)
    }

    fn refer_header<H: Header>(
        &self,
        message: &Message,
        edit: &mut Edit<'_>,
        translate: impl FnOnce(&Uri<'_>) -> Result<Option<Vec<u8>>, TooLong>,
    ) -> Result<(), TooLong> {
        let Some(value) = message.raw(H::NAME) else { return Ok(()) };
        let headers = &self.config.interop.headers;
        let value = if headers.relaxed_refer_to { bracketed(value) } else { Cow::Borrowed(value) };
        let Ok(address) = Address::parse(H::NAME, &value) else { return Ok(()) };
        let Ok(uri) = address.uri() else { return Ok(()) };
        let mut target = None;
        if headers.translate_refer_to && !self.is_excepted(&uri) {
            target = translate(&uri)?;
        }
        if headers.unescape_ws {
            let text = target.as_deref().unwrap_or_else(|| address.uri_bytes());
            target = without_blanks(text).or(target);
        }
        match target {
            Some(target) => edit.set_header(H::NAME, &readdress(&address, &target)),
            // What had no brackets gets them: nobody behind us need be relaxed too.
            None if matches!(value, Cow::Owned(_)) => edit.set_header(H::NAME, &value),
            None => {}
        }
        Ok(())
    }

    fn inside_target(&self, uri: &Uri<'_>, phone: InstanceId) -> Option<Vec<u8>> {
        if let Some(inside) = self.unhidden(uri) {
            return Some(inside);
        }
        let binding = self.bindings.get(phone)?;
        let contact = Uri::parse(binding.record.contact.as_bytes()).ok()?;
        let phones = uri.is_sip() && uri.host_bytes().eq_ignore_ascii_case(contact.host_bytes());
        if !phones && !self.is_forced(uri) {
            return None;
        }
        let mut text = self.contact_uri(Some(&binding.record), uri);
        if let Some(headers) = uri.headers() {
            text.push(b'?');
            text.extend_from_slice(headers);
        }
        Some(text)
    }

    /// The To towards the switch: where the phone named us and the Request-URI became the switch's, To follows (SIP-45).
    /// `None` leaves it. A To that names somebody else never changes.
    pub(super) fn followed_to(&self, message: &Message, way: &Way) -> Option<Vec<u8>> {
        if self.config.interop.headers.keep_to || way.request_uri.is_none() {
            return None;
        }
        let to = message.header::<To>()?.ok()?;
        let uri = to.uri().ok()?;
        std::str::from_utf8(uri.host_bytes()).ok().filter(|host| self.is_own(host))?;
        Some(readdress(&to, &self.towards_switch(&uri, way.phone)?))
    }

    /// The To of an answer to a phone: its own, with the tag of whoever answered.
    pub(super) fn restored_to(&self, exchange: &Exchange, index: usize, answer: &Message) -> Option<Vec<u8>> {
        let request = &exchange.incoming.message;
        self.followed_to(request, &exchange.branches.get(index)?.way)?;
        let own = request.header::<To>()?.ok()?;
        let tag = answer.header::<To>()?.ok()?.tag().filter(|_| own.tag().is_none());
        Some(match tag {
            Some(tag) => [own.raw(), b";tag=", tag].concat(),
            None => own.raw().to_vec(),
        })
    }
}

/// A bare `scheme:…?headers` in brackets; what has them, or needs none, is left alone.
fn bracketed(value: &[u8]) -> Cow<'_, [u8]> {
    let bare = trim(value);
    let Some(question) = memchr::memchr(b'?', bare).filter(|_| !bare.contains(&b'<')) else {
        return Cow::Borrowed(value);
    };
    // In front of the `?`, parameters can only be the URI's; behind it, they are the field's.
    let end = memchr::memchr(b';', &bare[question..]).map_or(bare.len(), |at| question + at);
    let (uri, params) = bare.split_at(end);
    Cow::Owned([b"<", uri.trim_ascii_end(), b">", params].concat())
}

/// The URI without escaped blanks in front of its `?headers`; `None` when there are none (SIP-43). A raw blank is legal
/// nowhere in a URI, so they go; no other escape is touched, line ends least of all.
pub(super) fn without_blanks(uri: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'?', uri).unwrap_or(uri.len());
    let (plain, headers) = uri.split_at(end);
    memchr::memmem::find(plain, b"%20")?;
    let mut text = Vec::with_capacity(uri.len());
    let mut rest = plain;
    while let Some(at) = memchr::memmem::find(rest, b"%20") {
        text.extend_from_slice(&rest[..at]);
        rest = &rest[at + 3..];
    }
    text.extend_from_slice(rest);
    text.extend_from_slice(headers);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_target_gets_its_brackets() {
        for (bare, whole) in [
            ("sip:x@y?Replaces=a%3Bto-tag%3D1", "<sip:x@y?Replaces=a%3Bto-tag%3D1>"),
            (" sip:x@y;transport=tls?Join=a;early ", "<sip:x@y;transport=tls?Join=a>;early"),
            ("<sip:x@y?a=b>", "<sip:x@y?a=b>"),
            ("sip:x@y;a=b", "sip:x@y;a=b"),
        ] {
            assert_eq!(bracketed(bare.as_bytes()), whole.as_bytes(), "{bare}");
        }
    }

    #[test]
    fn escaped_blanks_go_and_nothing_else() {
        let gone = |uri: &str| without_blanks(uri.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(gone("sip:+1%20555%20@x").as_deref(), Some("sip:+1555@x"));
        assert_eq!(gone("sip:a%20b@x?Subject=c%20d").as_deref(), Some("sip:ab@x?Subject=c%20d"));
        assert_eq!(gone("sip:a%0d%0ab@x"), None);
        assert_eq!(gone("sip:a%2%2020@x").as_deref(), Some("sip:a%220@x"));
        assert_eq!(gone("sip:ab@x?Subject=c%20d"), None);
    }
}
