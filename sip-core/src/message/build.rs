//! Messages of our own: responses (RFC 3261 §8.2.6), CANCEL (§9.1), ACK (§17.1.1.3), any request.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use super::edit::unfold;
use super::parse::is_control;
use super::{Field, Message, Name};
use crate::grammar::push_number;
use crate::header::{self, ViaValue};

/// A response to `request`: its Vias, From, To (with `to_tag` when it has none), Call-ID and CSeq, the `extra` rows,
/// and no body.
pub fn response(
    request: &Message,
    status: u16,
    reason: &str,
    to_tag: Option<&str>,
    extra: &[(&str, &[u8])],
) -> Bytes {
    let mut builder = ResponseBuilder::new(request, status, reason);
    if let Some(tag) = to_tag {
        builder = builder.to_tag(tag);
    }
    for (name, value) in extra {
        builder = builder.header(*name, value);
    }
    builder.build()
}

/// Builds a response (RFC 3261 §8.2.6.2).
#[must_use]
pub struct ResponseBuilder<'a> {
    request: &'a Message,
    status: u16,
    reason: Cow<'a, str>,
    to_tag: Option<&'a str>,
    source: Option<SocketAddr>,
    rows: Vec<u8>,
    body: &'a [u8],
}

impl<'a> ResponseBuilder<'a> {
    /// A response with this status.
    pub fn new(request: &'a Message, status: u16, reason: impl Into<Cow<'a, str>>) -> Self {
        let reason = reason.into();
        Self { request, status, reason, to_tag: None, source: None, rows: Vec::new(), body: b"" }
    }

    /// The tag for To, used when the request has none and the status is not 100.
    pub fn to_tag(mut self, tag: &'a str) -> Self {
        self.to_tag = Some(tag);
        self
    }

    /// Where the request came from: the top Via gets `received`, and `rport` when it asks for it
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn source(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// One more row. Control characters in the value become `?`.
    pub fn header<'n>(mut self, field: impl Into<Field<'n>>, value: &[u8]) -> Self {
        push_row(&mut self.rows, field.into().text(), value);
        self
    }

    /// The body and its Content-Type.
    pub fn body(self, content_type: &str, body: &'a [u8]) -> Self {
        let mut this = self.header(Name::ContentType, content_type.as_bytes());
        this.body = body;
        this
    }

    /// The bytes.
    pub fn build(self) -> Bytes {
        let mut out = Vec::with_capacity(512 + self.rows.len() + self.body.len());
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(&mut out, u32::from(self.status));
        out.push(b' ');
        push_clean(&mut out, self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut top = true;
        for row in self.request.rows() {
            match row.name {
                Name::Via if top => {
                    top = false;
                    self.push_top_via(&mut out, row.value);
                }
                Name::Via | Name::From | Name::CallId | Name::CSeq => {
                    push_row(&mut out, row.name.as_str().as_bytes(), row.value);
                }
                Name::To => self.push_to(&mut out, row.value),
                // RFC 3261 §8.2.6.1: a 100 takes the Timestamp over.
                Name::Timestamp if self.status == 100 => push_row(&mut out, b"Timestamp", row.value),
                _ => {}
            }
        }
        out.extend_from_slice(&self.rows);
        push_end(&mut out, self.body);
        out.into()
    }

    fn push_top_via(&self, out: &mut Vec<u8>, value: &[u8]) {
        let Some(source) = self.source else { return push_row(out, b"Via", value) };
        let (first, rest) = crate::grammar::split_comma(value);
        let mut text = match ViaValue::parse(Name::Via, first) {
            Ok(via) => via.stamped(source),
            Err(_) => first.to_vec(),
        };
        if let Some(rest) = rest {
            text.push(b',');
            text.extend_from_slice(rest);
        }
        push_row(out, b"Via", &text);
    }

    fn push_to(&self, out: &mut Vec<u8>, value: &[u8]) {
        let tag = self.to_tag.filter(|_| self.status > 100);
        let tagged = <header::To as header::Header>::parse(value).is_ok_and(|to| to.tag().is_some());
        match tag {
            Some(tag) if !tagged => push_row(out, b"To", &[value, b";tag=", tag.as_bytes()].concat()),
            _ => push_row(out, b"To", value),
        }
    }
}

/// Builds a request of our own. Rows stand in the order they are given; Content-Length comes last by itself.
#[must_use]
pub struct RequestBuilder {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl RequestBuilder {
    /// `method uri SIP/2.0`
    pub fn new(method: &str, uri: &[u8]) -> Self {
        let mut head = Vec::with_capacity(512);
        push_clean(&mut head, method.as_bytes());
        head.push(b' ');
        push_clean(&mut head, uri);
        head.extend_from_slice(b" SIP/2.0\r\n");
        Self { head, body: Vec::new() }
    }

    /// One more row. Control characters in the value become `?`.
    pub fn header<'n>(mut self, field: impl Into<Field<'n>>, value: &[u8]) -> Self {
        push_row(&mut self.head, field.into().text(), value);
        self
    }

    /// The body and its Content-Type.
    pub fn body(self, content_type: &str, body: &[u8]) -> Self {
        let mut this = self.header(Name::ContentType, content_type.as_bytes());
        this.body = body.to_vec();
        this
    }

    /// The bytes.
    pub fn build(mut self) -> Bytes {
        push_end(&mut self.head, &self.body);
        self.head.into()
    }

    /// The CANCEL of an INVITE we sent (RFC 3261 §9.1): its Request-URI, top Via, From, To, Call-ID, CSeq number
    /// and Routes. `None` when `invite` is no request or lacks one of them.
    pub fn cancel(invite: &Message) -> Option<Self> {
        Self::follow(invite, "CANCEL", invite.raw(Name::To)?)
    }

    /// The ACK to a final response other than 2xx (RFC 3261 §17.1.1.3): as the CANCEL, with the response's To.
    /// `None` when one of the two messages lacks a field.
    pub fn ack(invite: &Message, response: &Message) -> Option<Self> {
        Self::follow(invite, "ACK", response.raw(Name::To)?)
    }

    fn follow(invite: &Message, method: &str, to: &[u8]) -> Option<Self> {
        let via = invite.values(Name::Via, true).next()?;
        let cseq = invite.header::<header::CSeq>()?.ok()?;
        let mut this = Self::new(method, invite.request_uri()?)
            .header(Name::Via, via)
            .header(Name::From, invite.raw(Name::From)?)
            .header(Name::To, to)
            .header(Name::CallId, invite.raw(Name::CallId)?)
            .header(Name::CSeq, format!("{} {method}", cseq.number).as_bytes())
            .header(Name::MaxForwards, b"70");
        for row in invite.rows().filter(|row| row.name == Name::Route) {
            this = this.header(Name::Route, row.value);
        }
        Some(this)
    }
}

impl fmt::Debug for ResponseBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBuilder").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder").field("body", &self.body.len()).finish_non_exhaustive()
    }
}

pub(super) fn push_row(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    push_clean(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Unfolds, and lets no control character through: what we write ourselves can't carry a line end.
fn push_clean(out: &mut Vec<u8>, value: &[u8]) {
    let start = out.len();
    unfold(value, out);
    for b in &mut out[start..] {
        if is_control(*b) {
            *b = b'?';
        }
    }
}

pub(super) fn push_end(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"Content-Length: ");
    push_number(out, body.len() as u32);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}
