//! What is wrong with a message as a whole: findings that carry a status.

use super::{Limits, Message, Method, Name, ResponseBuilder};
use crate::header::{
    CSeq, CSeqValue, CallId, Contact, From, Header, HeaderError, MaxForwards, ProxyRequire, RecordRoute,
    Route, To, Via,
};
use crate::uri::{Scheme, Uri};

/// One thing that is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The status an answer should carry. A response with a finding is dropped.
    pub status: u16,
    /// The field at fault, as an answer should name it.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Fields that may stand in a message once (RFC 3261 §7.3.1, §20).
const SINGLE: &[Name] = &[
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::Expires,
    Name::ContentType,
    Name::Date,
    Name::Event,
    Name::SessionExpires,
    Name::MinSe,
    Name::MaxBreadth,
    Name::ReferTo,
    Name::Replaces,
    Name::RSeq,
    Name::RAck,
    Name::Timestamp,
    Name::Subject,
];

impl Message {
    /// Judges the message with the default [`Limits`]. No finding: it may be processed.
    pub fn validate(&self) -> Vec<Finding> {
        self.validate_within(&Limits::default())
    }

    /// The answer to a request with a finding: its status, a reason that names the field, and `Unsupported` with a 420.
    /// Add a To tag and the source, and build it.
    ///
    /// `None`, hence silence, for responses, for ACK, and where the top Via can't be read.
    pub fn refuse(&self, finding: &Finding) -> Option<ResponseBuilder<'_>> {
        if self.method()? == Method::Ack || self.header::<Via>()?.is_err() {
            return None;
        }
        let standard = match finding.status {
            416 => "Unsupported URI Scheme",
            420 => "Bad Extension",
            483 => "Too Many Hops",
            505 => "Version Not Supported",
            _ => "Bad Request",
        };
        let reason = format!("{standard} ({} {})", finding.field, finding.reason);
        let mut response = ResponseBuilder::new(self, finding.status, reason);
        if finding.status == 420 {
            for option in self.headers::<ProxyRequire>().flatten() {
                response = response.header(Name::Unsupported, option);
            }
        }
        Some(response)
    }

    /// Judges the message. The first finding is the one to answer.
    pub fn validate_within(&self, limits: &Limits) -> Vec<Finding> {
        let mut check = Check { message: self, findings: Vec::new() };
        // RFC 3261 §21.5.6
        if !self.is_version_2() {
            check.found(505, "SIP-Version", "not SIP/2.0");
        }
        check.single_fields();
        check.mandatory::<Via>();
        let from = check.mandatory::<From>();
        let to = check.mandatory::<To>();
        check.mandatory::<CallId>();
        let cseq = check.mandatory::<CSeq>();
        let vias = check.all::<Via>(|_| {});
        let mut bad_route = false;
        check.all::<Route>(|route| bad_route |= self.is_request() && route.uri().is_err());
        check.all::<RecordRoute>(|_| {});
        let mut bad_contact = false;
        let contacts = check.all::<Contact>(|contact| {
            bad_contact |= self.is_request() && !contact.is_star() && contact.uri().is_err();
        });
        if self.is_request() && contacts > limits.contacts {
            check.found(400, "Contact", "too many values");
        }
        if vias > limits.vias {
            check.found(483, "Via", "too many values");
        }
        if self.is_request() {
            check.request(cseq);
            // URIs of any scheme may stand in these, but a SIP URI has to be one.
            for (field, bad) in [
                ("From", from.is_some_and(|from| from.uri().is_err())),
                ("To", to.is_some_and(|to| to.uri().is_err())),
                ("Contact", bad_contact),
                ("Route", bad_route),
            ] {
                if bad {
                    check.found(400, field, "malformed URI");
                }
            }
        }
        check.findings
    }
}

struct Check<'m> {
    message: &'m Message,
    findings: Vec<Finding>,
}

impl<'m> Check<'m> {
    fn found(&mut self, status: u16, field: &'static str, reason: &'static str) {
        self.findings.push(Finding { status, field, reason });
    }

    fn malformed(&mut self, error: &HeaderError) {
        self.found(error.status(), error.field.as_str(), "malformed");
    }

    fn single_fields(&mut self) {
        let (mut seen, mut reported) = (0u128, 0u128);
        for row in self.message.rows().filter(|row| row.name != Name::Other) {
            let bit = 1 << row.name as u8;
            if seen & bit != 0 && reported & bit == 0 && SINGLE.contains(&row.name) {
                reported |= bit;
                self.found(400, row.name.as_str(), "repeated");
            }
            seen |= bit;
        }
    }

    /// RFC 3261 §8.1.1. Lists are judged value by value elsewhere.
    fn mandatory<H: Header>(&mut self) -> Option<H::View<'m>> {
        let message = self.message;
        if H::LIST {
            if message.raw(H::NAME).is_none() {
                self.found(400, H::NAME.as_str(), "missing");
            }
            return None;
        }
        match message.header::<H>() {
            None => self.found(400, H::NAME.as_str(), "missing"),
            Some(Err(error)) => self.malformed(&error),
            Some(Ok(value)) => return Some(value),
        }
        None
    }

    /// Every value of a field, once; how many there are.
    fn all<H: Header>(&mut self, mut look: impl FnMut(H::View<'m>)) -> usize {
        let message = self.message;
        let (mut count, mut sound) = (0, true);
        for value in message.headers::<H>() {
            count += 1;
            match value {
                Ok(value) => look(value),
                Err(error) if sound => {
                    sound = false;
                    self.malformed(&error);
                }
                Err(_) => {}
            }
        }
        count
    }

    fn request(&mut self, cseq: Option<CSeqValue<'_>>) {
        let message = self.message;
        self.request_uri();
        // RFC 3261 §8.2.1 by way of §20.16: the method in CSeq is the request's.
        if cseq.is_some_and(|cseq| message.method() != Some(cseq.method)) {
            self.found(400, "CSeq", "another method");
        }
        match message.header::<MaxForwards>() {
            // RFC 3261 §16.3 item 3
            Some(Ok(0)) => self.found(483, "Max-Forwards", "zero"),
            Some(Err(error)) => self.malformed(&error),
            _ => {}
        }
        // RFC 3261 §16.3 item 5: none is supported by this layer.
        if message.headers::<ProxyRequire>().next().is_some() && message.method() != Some(Method::Ack) {
            self.found(420, "Proxy-Require", "option not supported");
        }
    }

    fn request_uri(&mut self) {
        match Uri::parse(self.message.request_uri().unwrap_or_default()) {
            Err(_) => self.found(400, "Request-URI", "malformed"),
            // RFC 3261 §8.2.2.1
            Ok(uri) if matches!(uri.scheme(), Scheme::Other(_)) => {
                self.found(416, "Request-URI", "scheme not supported");
            }
            // RFC 3261 §19.1.1: not allowed in a Request-URI
            Ok(uri) if uri.headers().is_some() => self.found(400, "Request-URI", "has URI headers"),
            Ok(_) => {}
        }
    }
}
