//! The callee's answers: how they are made, and what repeats them (RFC 3261 §13.3, RFC 3262 §3).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::agent::Agent;
use super::answer::{Answer, Repeat};
use super::callee::Asked;
use super::event::{Ending, Event};
use crate::header::{Require, Supported};
use crate::message::{Message, Method, Name, ResponseBuilder};
use crate::transaction::{Layer, ServerKey};

impl Agent {
    pub(super) fn answer_asked(
        &mut self,
        now: Instant,
        layer: &mut Layer,
        key: ServerKey,
        answer: Answer,
    ) -> bool {
        let Some(asked) = self.asked.get_mut(&key) else { return false };
        let (dialog, status) = (asked.dialog, answer.status);
        if asked.invited.is_some() {
            return self.answer_invite(now, layer, key, answer);
        }
        let bytes = asked.build(&answer, &[]);
        layer.respond(now, &key, status, bytes);
        if status >= 200 {
            let update = asked.message.method() == Some(Method::Update);
            if let Some(held) = dialog.and_then(|dialog| self.dialogs.get_mut(&dialog)) {
                if update && status < 300 {
                    held.dialog.refresh_target(&asked.message);
                }
                if held.updated == Some(key) {
                    held.updated = None;
                }
            }
            self.drop_asked(key);
        }
        true
    }

    fn answer_invite(&mut self, now: Instant, layer: &mut Layer, key: ServerKey, answer: Answer) -> bool {
        let Some(asked) = self.asked.get_mut(&key) else { return false };
        let Some(invited) = asked.invited.as_mut() else { return false };
        if invited.accepted {
            return false;
        }
        let status = answer.status;
        let reliable = (101..200).contains(&status) && wants_reliable(&asked.message, answer.reliable);
        // A 2xx waits for the PRACK too, since a description may stand in what it acknowledges (RFC 3262 §3).
        if (reliable || (200..300).contains(&status)) && invited.sent.is_open() {
            invited.sent.hold(answer);
            return true;
        }
        let rseq = if reliable { invited.sent.begin() } else { None };
        let rows = self.rows_of(key, status, rseq, &answer);
        let Some(asked) = self.asked.get_mut(&key) else { return false };
        let bytes = asked.build(&answer, &rows);
        layer.respond(now, &key, status, bytes.clone());
        match status {
            ..=199 => {
                if reliable {
                    self.start_repeating(now, key, status, bytes);
                }
            }
            200..=299 => self.accepted(now, key, bytes),
            _ => self.rejected(key),
        }
        true
    }

    /// What the answer to an INVITE needs beside what its owner gave.
    fn rows_of(
        &self,
        key: ServerKey,
        status: u16,
        rseq: Option<u32>,
        answer: &Answer,
    ) -> Vec<(Name, Vec<u8>)> {
        let mut rows = Vec::new();
        let Some(asked) = self.asked.get(&key) else { return rows };
        if !(101..300).contains(&status) {
            return rows;
        }
        // RFC 3261 §12.1.1; the Record-Routes come with the request.
        if !answer.has("Contact") {
            rows.push((Name::Contact, self.contact(asked.way.transport)));
        }
        if let Some(rseq) = rseq {
            rows.push((Name::Require, b"100rel".to_vec()));
            rows.push((Name::RSeq, rseq.to_string().into_bytes()));
        }
        if status >= 200 {
            rows.push((Name::Allow, self.config.allow.join(", ").into_bytes()));
            let mut supported = vec!["100rel".to_owned()];
            supported.extend(self.config.supported.iter().cloned());
            rows.push((Name::Supported, supported.join(", ").into_bytes()));
        }
        rows
    }

    /// A 2xx went out: it is repeated until it is acknowledged, over any transport (RFC 3261 §13.3.1.4).
    fn accepted(&mut self, now: Instant, key: ServerKey, bytes: Bytes) {
        let Some(asked) = self.asked.get_mut(&key) else { return };
        if let Some(invited) = asked.invited.as_mut() {
            invited.accepted = true;
        }
        if let Some(held) = asked.dialog.and_then(|dialog| self.dialogs.get_mut(&dialog)) {
            held.dialog.confirm();
            held.dialog.refresh_target(&asked.message);
        }
        self.start_repeating(now, key, 200, bytes);
    }

    pub(super) fn rejected(&mut self, key: ServerKey) {
        let Some(asked) = self.drop_asked(key) else { return };
        let Some(dialog) = asked.dialog else { return };
        if let Some(held) = self.dialogs.get_mut(&dialog).filter(|held| held.invited == Some(key)) {
            held.invited = None;
        }
        if asked.invited.is_some_and(|invited| !invited.again) {
            self.end(dialog, Ending::Unanswered);
        }
    }

    fn start_repeating(&mut self, now: Instant, key: ServerKey, status: u16, bytes: Bytes) {
        let timers = &self.config.timers;
        // A reliable provisional response's gap doubles without a cap (RFC 3262 §3), that of a 2xx up to T2.
        let cap = if status < 200 { Duration::MAX } else { timers.t2 };
        let repeat = Repeat::new(now, status, bytes, [timers.t1, cap, timers.lifetime()]);
        self.repeats.insert((repeat.next, key));
        if let Some(invited) = self.invited_mut(key) {
            invited.repeat = Some(repeat);
        }
    }

    /// A repetition is due.
    pub(super) fn repeat(&mut self, now: Instant, layer: &mut Layer, key: ServerKey) {
        let Some(invited) = self.invited_mut(key) else { return };
        let Some(repeat) = invited.repeat.as_mut() else { return };
        if repeat.until > now {
            let (status, bytes) = (repeat.status, repeat.bytes.clone());
            repeat.again(now);
            let next = repeat.next;
            self.repeats.insert((next, key));
            return layer.respond(now, &key, status, bytes);
        }
        invited.repeat = None;
        if invited.accepted {
            return self.unacknowledged(now, layer, key);
        }
        // "If a reliable provisional response is retransmitted for 64*T1 seconds without reception of a corresponding
        // PRACK, the UAS SHOULD reject the original request with a 5xx response" (RFC 3262 §3).
        invited.sent.clear();
        self.answer_asked(now, layer, key, Answer::new(504, "No PRACK"));
        self.events.push_back(Event::Cancelled { key });
    }

    /// "If the server retransmits the 2xx response for 64*T1 seconds without receiving an ACK, the dialog is confirmed, but
    /// the session SHOULD be terminated. This is accomplished with a BYE" (RFC 3261 §13.3.1.4).
    pub(super) fn unacknowledged(&mut self, now: Instant, layer: &mut Layer, key: ServerKey) {
        let Some(dialog) = self.drop_asked(key).and_then(|asked| asked.dialog) else { return };
        if let Some(held) = self.dialogs.get_mut(&dialog).filter(|held| held.invited == Some(key)) {
            held.invited = None;
        }
        self.end_by_us(now, layer, dialog, Ending::Unacknowledged);
    }
}

impl Asked {
    fn build(&self, answer: &Answer, rows: &[(Name, Vec<u8>)]) -> Bytes {
        let mut builder = ResponseBuilder::new(&self.message, answer.status, answer.reason.as_str())
            .to_tag(&self.tag)
            .source(self.remote);
        // RFC 3261 §12.1.1: into every response that makes a dialog, as they came.
        if self.invited.is_some() && (101..300).contains(&answer.status) {
            for row in self.message.rows().filter(|row| row.name == Name::RecordRoute) {
                builder = builder.header(Name::RecordRoute, row.value);
            }
        }
        for (name, value) in rows {
            builder = builder.header(*name, value);
        }
        for (name, value) in &answer.rows {
            builder = builder.header(&name[..], value);
        }
        match &answer.body {
            Some((content_type, body)) => builder.body(content_type, body).build(),
            None => builder.build(),
        }
    }
}

/// Whether a provisional response to an INVITE is to be sent reliably (RFC 3262 §3).
fn wants_reliable(invite: &Message, wish: bool) -> bool {
    let is = |option: &[u8]| option.eq_ignore_ascii_case(b"100rel");
    invite.headers::<Require>().flatten().any(is) || (wish && invite.headers::<Supported>().flatten().any(is))
}
