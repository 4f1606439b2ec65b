//! A request of our own, before it is sent and after.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::flow::{Target, Transport};
use crate::message::{Field, Name, RequestBuilder};
use crate::token::Random;

/// What we write into the Via of a request: how we are reached (RFC 3261 §18.1.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentBy {
    transport: Transport,
    authority: String,
    params: String,
}

impl SentBy {
    /// `authority` is `host[:port]`, IPv6 in brackets. Over UDP the Via asks for `rport` (RFC 3581 §3).
    pub fn new(transport: Transport, authority: impl Into<String>) -> Self {
        let params = if transport == Transport::Udp { ";rport" } else { "" };
        Self { transport, authority: authority.into(), params: params.to_owned() }
    }

    /// One more Via parameter, such as `alias` (RFC 5923).
    #[must_use]
    pub fn param(mut self, param: &str) -> Self {
        self.params.push(';');
        self.params.push_str(param);
        self
    }

    /// How octets travel.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The URI that means us: `sips` over TLS.
    pub fn uri(&self) -> String {
        let scheme = if self.transport == Transport::Tls { "sips" } else { "sip" };
        match self.transport {
            Transport::Tcp => format!("{scheme}:{};transport=tcp", self.authority),
            Transport::Udp | Transport::Tls => format!("{scheme}:{}", self.authority),
        }
    }

    pub(crate) fn via(&self, branch: &str) -> Vec<u8> {
        let Self { transport, authority, params } = self;
        format!("SIP/2.0/{} {authority};branch={branch}{params}", transport.via_token()).into_bytes()
    }
}

/// A request of our own: RFC 3261 §8.1.1 without the branch, which each sending makes anew.
///
/// Control characters in anything given become `?`: a value can't carry a line end.
#[derive(Clone)]
pub struct Request {
    pub(crate) target: Target,
    pub(crate) sent_by: SentBy,
    pub(crate) method: String,
    pub(crate) uri: Vec<u8>,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    pub(crate) call_id: Vec<u8>,
    pub(crate) cseq: u32,
    pub(crate) routes: Vec<Vec<u8>>,
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Option<(String, Bytes)>,
    pub(crate) patience: Option<Duration>,
}

impl Request {
    /// `method uri`, sent to `target`. To is the URI, From is us, with a new tag; Call-ID is new, CSeq starts at 1.
    pub fn new(
        method: &str,
        uri: impl AsRef<[u8]>,
        sent_by: &SentBy,
        target: Target,
        random: &mut Random,
    ) -> Self {
        let uri = uri.as_ref().to_vec();
        let tag = random.tag();
        Self {
            target,
            sent_by: sent_by.clone(),
            method: method.to_owned(),
            from: format!("<{}>;tag={tag}", sent_by.uri()).into_bytes(),
            to: [b"<", &uri[..], b">"].concat(),
            uri,
            call_id: random.tag().into_bytes(),
            cseq: 1,
            routes: Vec::new(),
            rows: Vec::new(),
            body: None,
            patience: None,
        }
    }

    /// Whom the request is from: a name-addr or URI without tag. The tag stays the one that was drawn.
    #[must_use]
    pub fn from(mut self, from: impl AsRef<[u8]>) -> Self {
        let tag = self.local_tag().to_vec();
        self.from = [&bracketed(from.as_ref())[..], b";tag=", &tag].concat();
        self
    }

    /// Whom the request is for, where that differs from its URI: a name-addr or URI.
    #[must_use]
    pub fn to(mut self, to: impl AsRef<[u8]>) -> Self {
        self.to = bracketed(to.as_ref());
        self
    }

    /// The Call-ID, where it shall be the same as that of an earlier request (a refreshed REGISTER, RFC 3261 §10.2).
    #[must_use]
    pub fn call_id(mut self, call_id: impl AsRef<[u8]>) -> Self {
        self.call_id = call_id.as_ref().to_vec();
        self
    }

    /// The CSeq number, below 2^31.
    #[must_use]
    pub fn cseq(mut self, number: u32) -> Self {
        self.cseq = number & 0x7fff_ffff;
        self
    }

    /// One more Route value, below those there are (a preloaded route, RFC 3261 §8.1.1.1).
    #[must_use]
    pub fn route(mut self, value: impl AsRef<[u8]>) -> Self {
        self.routes.push(value.as_ref().to_vec());
        self
    }

    /// One more row.
    #[must_use]
    pub fn header<'n>(mut self, field: impl Into<Field<'n>>, value: impl AsRef<[u8]>) -> Self {
        self.rows.push((field.into().text().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The body and its Content-Type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Some((content_type.to_owned(), body.into()));
        self
    }

    /// How long to wait for a final answer. Never longer than the transaction, which is 64 T1 = 32 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The same request once more, as RFC 3261 §22.2 wants it after a challenge and RFC 4028 §7.4 after a 422: with the
    /// next CSeq, and with these rows in the place of those of their names.
    #[must_use]
    pub fn again(mut self, rows: &[(Name, Vec<u8>)]) -> Self {
        self.cseq = (self.cseq + 1) & 0x7fff_ffff;
        for (name, _) in rows {
            self.rows.retain(|(have, _)| !have.eq_ignore_ascii_case(name.as_str().as_bytes()));
        }
        self.rows.extend(rows.iter().map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.clone())));
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The Request-URI.
    pub fn uri(&self) -> &[u8] {
        &self.uri
    }

    /// Where it goes.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Its body; empty when it has none.
    pub fn content(&self) -> &[u8] {
        self.body.as_ref().map_or(b"", |(_, body)| body)
    }

    /// Its Call-ID.
    pub fn id(&self) -> &[u8] {
        &self.call_id
    }

    pub(crate) fn local_tag(&self) -> &[u8] {
        let at = memchr::memmem::rfind(&self.from, b";tag=").map_or(self.from.len(), |at| at + 5);
        self.from.get(at..).unwrap_or_default()
    }

    /// The whole message under this branch.
    pub(crate) fn bytes(&self, branch: &str) -> Bytes {
        let mut builder = RequestBuilder::new(&self.method, &self.uri)
            .header(Name::Via, &self.sent_by.via(branch))
            .header(Name::MaxForwards, b"70");
        for route in &self.routes {
            builder = builder.header(Name::Route, route);
        }
        builder = builder
            .header(Name::From, &self.from)
            .header(Name::To, &self.to)
            .header(Name::CallId, &self.call_id)
            .header(Name::CSeq, format!("{} {}", self.cseq, self.method).as_bytes());
        for (name, value) in &self.rows {
            builder = builder.header(&name[..], value);
        }
        match &self.body {
            Some((content_type, body)) => builder.body(content_type, body),
            None => builder,
        }
        .build()
    }
}

/// A bare URI gets its brackets: else its parameters would be the header's (RFC 3261 §20.10).
fn bracketed(address: &[u8]) -> Vec<u8> {
    if address.contains(&b'<') { address.to_vec() } else { [b"<", address, b">"].concat() }
}

impl fmt::Debug for Request {
    /// No rows and no body: they carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("cseq", &self.cseq)
            .finish_non_exhaustive()
    }
}
