//! How long calls ring and last, and how many there may be (SAM-15, SAM-17, SAM-28, SAM-29).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::{Event, Reason};
use super::exchange::{Incoming, Refusal};
use super::uri_codec::unescape;
use crate::header::Expires;
use crate::message::{Edit, Message, Method, Name};
use crate::proxy::context::Ringing;
use crate::transaction::ServerKey;
use crate::uri::Uri;

/// Calls that have no final answer yet; counted only where calls are.
#[derive(Default)]
pub(super) struct Pending(HashSet<ServerKey>);

impl Pending {
    /// It was answered, one way or the other.
    pub(super) fn settled(&mut self, key: &ServerKey) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }
}

impl Edge {
    /// Whether one more call fits (SAM-17): those that ring and those that were answered. Each leg of a call between two
    /// phones is one, and emergency numbers always fit.
    pub(super) fn fits(&self, incoming: &Incoming) -> Result<(), Refusal> {
        let sessions = &self.config.interop.sessions;
        let Some(most) = sessions.max_sessions else { return Ok(()) };
        let most = self.shard.part(usize::try_from(most).unwrap_or(usize::MAX));
        if self.pending.0.len() + self.dialogs.confirmed() < most
            || is_emergency(&incoming.message, &sessions.emergency_numbers)
        {
            return Ok(());
        }
        Err(self.busy(incoming, "Too Many Calls", Reason::Limit("max_sessions")))
    }

    /// A new call is on its way.
    pub(super) fn count_call(&mut self, key: ServerKey) {
        if self.config.interop.sessions.max_sessions.is_some() {
            self.pending.0.insert(key);
        }
    }

    /// How long this INVITE may ring: as long as it says, within our bounds (RFC 3261 §13.2.1 and §16.6 step 11).
    pub(super) fn ringing(&self, message: &Message) -> Ringing {
        let timers = &self.config.timers;
        let silence = match message.header::<Expires>() {
            Some(Ok(seconds)) => Duration::from_secs(seconds.into()).min(timers.ringing_maximum),
            _ => timers.ringing,
        };
        Ringing { silence, maximum: timers.ringing_maximum }
    }

    /// `Expires` of an INVITE that makes a call: added where there is none, cut down where it is too long.
    pub(super) fn set_expires(&self, message: &Message, edit: &mut Edit<'_>) {
        if message.method() != Some(Method::Invite) || super::rewrite::has_to_tag(message) {
            return;
        }
        let seconds = self.ringing(message).silence.as_secs();
        if !matches!(message.header::<Expires>(), Some(Ok(said)) if u64::from(said) == seconds) {
            edit.set_header(Name::Expires, seconds.to_string().as_bytes());
        }
    }

    /// Calls that nobody used or refreshed for too long (SAM-15): forgotten, and with them their media.
    pub(super) fn expire_dialogs(&mut self, now: Instant) {
        let (idle, session) = (self.config.timers.dialog_idle, self.config.interop.sessions.session_timer);
        while let Some((key, dialog)) = self.dialogs.expire(now, idle, session) {
            if !dialog.confirmed {
                continue;
            }
            let (call_id, phone) = (key.call_id(), dialog.phone);
            if dialog.used + idle > now {
                self.tell(Event::SessionExpired { call_id: call_id.clone(), phone });
            }
            self.tell(Event::CallEnded { call_id, phone, by: None, session: dialog.session });
        }
    }
}

/// Whether a request is for a number that must always be reached, however it is written: `112@host`, `tel:1-1-2`.
fn is_emergency(message: &Message, numbers: &[String]) -> bool {
    if numbers.is_empty() {
        return false;
    }
    let Ok(uri) = Uri::parse(message.request_uri().unwrap_or_default()) else { return false };
    let user = match uri.user() {
        Some(user) => user,
        // What stands behind the scheme of a tel URI, without its parameters (RFC 3966 §3).
        None if !uri.is_sip() => uri.opaque().split(|b| *b == b';').next().unwrap_or_default(),
        None => return false,
    };
    let user = user.split(|b| *b == b';').next().unwrap_or_default();
    let Some(user) = unescape(user) else { return false };
    let plain: String = user.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect();
    numbers.contains(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Limits;

    #[test]
    fn an_emergency_number_is_one_however_it_is_written() {
        let numbers = ["112".to_owned(), "+49110".to_owned()];
        for (uri, hit) in [
            ("sips:112@10.0.1.50", true),
            ("sip:1%31%32@example.com;user=phone", true),
            ("tel:1-1-2", true),
            ("tel:+49-110;phone-context=example.com", true),
            ("sip:+49110;phone-context=x@10.0.1.50", true),
            ("sip:1120@10.0.1.50", false),
            ("sip:10.0.1.50", false),
            ("sip:911@112", false),
        ] {
            let text = format!(
                "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\r\n"
            );
            let message = Message::parse(text.into_bytes().into(), &Limits::default()).unwrap();
            assert_eq!(is_emergency(&message, &numbers), hit, "{uri}");
        }
    }
}
