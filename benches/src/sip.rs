//! The three tasks on one INVITE: parse it; parse it and read what a proxy reads; parse it and forward it.

use bytes::Bytes;
use rsip::prelude::{HasHeaders, HeadersExt, ToTypedHeader, UntypedHeader};
use sip_core::header::{CSeq, CallId, Contact, From, MaxForwards, Route, To, Via};
use sip_core::message::{Limits, Message, Name, Patches, Table};

/// 1,465 octets: a head of 1,146 with three Vias, two Record-Routes and one Route, and an SDP body of 319.
pub const INVITE: &[u8] = include_bytes!("../messages/invite.sip");

const VIA: &[u8] = b"SIP/2.0/TLS 198.51.100.77:5061;branch=z9hG4bK0123456789abcdef;alias";
const RECORD_ROUTE: &[u8] = b"<sips:198.51.100.77:5061;transport=tls;lr;ft=0a1b2c3d>";

/// `sip_core` with the buffers a connection keeps.
#[derive(Debug)]
pub struct Ours {
    bytes: Bytes,
    limits: Limits,
    table: Option<Table>,
    patches: Option<Patches>,
    out: Vec<u8>,
}

impl Default for Ours {
    fn default() -> Self {
        let (table, patches) = (Some(Table::default()), Some(Patches::default()));
        Self { bytes: Bytes::from_static(INVITE), limits: Limits::default(), table, patches, out: Vec::new() }
    }
}

impl Ours {
    fn read(&mut self) -> Message {
        let table = self.table.take().unwrap_or_default();
        Message::parse_reusing(self.bytes.clone(), &self.limits, table).expect("parses")
    }

    /// Parse; the number of octets of the body.
    pub fn parse(&mut self) -> usize {
        let message = self.read();
        let n = message.body().len();
        self.table = Some(message.into_table());
        n
    }

    /// Parse, then the top Via's branch, both tags, Call-ID, CSeq, all Contacts, Max-Forwards and the Routes; the
    /// number of octets read.
    pub fn access(&mut self) -> usize {
        let message = self.read();
        let via = message.header::<Via>().expect("has Via").expect("reads");
        let mut n = via.branch().expect("has a branch").len();
        n += message.header::<From>().expect("has From").expect("reads").tag().map_or(0, <[u8]>::len);
        n += message.header::<To>().expect("has To").expect("reads").tag().map_or(0, <[u8]>::len);
        n += message.header::<CallId>().expect("has Call-ID").expect("reads").len();
        n += message.header::<CSeq>().expect("has CSeq").expect("reads").number as usize;
        for contact in message.headers::<Contact>() {
            n += contact.expect("reads").uri_bytes().len();
        }
        n += message.header::<MaxForwards>().expect("has Max-Forwards").expect("reads") as usize;
        for route in message.headers::<Route>() {
            n += route.expect("reads").uri_bytes().len();
        }
        self.table = Some(message.into_table());
        n
    }

    /// Parse, add a Via and a Record-Route, decrement Max-Forwards, write; the number of octets written.
    pub fn proxy(&mut self) -> usize {
        let message = self.read();
        let hops = message.header::<MaxForwards>().expect("has Max-Forwards").expect("reads");
        let mut edit = message.edit_reusing(self.patches.take().unwrap_or_default());
        edit.push_via(VIA);
        edit.push_front(Name::RecordRoute, RECORD_ROUTE);
        edit.set_max_forwards(hops - 1);
        self.out.clear();
        edit.write_to(&mut self.out).expect("writes");
        self.patches = Some(edit.into_patches());
        self.table = Some(message.into_table());
        self.out.len()
    }

    /// What [`Ours::proxy`] wrote last.
    pub fn written(&self) -> &[u8] {
        &self.out
    }
}

fn rsip_read() -> rsip::Request {
    rsip::Request::try_from(INVITE).expect("parses")
}

/// As [`Ours::parse`], by rsip.
pub fn rsip_parse() -> usize {
    rsip_read().body.len()
}

/// As [`Ours::access`], by rsip.
pub fn rsip_access() -> usize {
    let request = rsip_read();
    let via = request.via_header().expect("has Via").typed().expect("reads");
    let mut n = via.branch().expect("has a branch").value().len();
    let from = request.from_header().expect("has From").typed().expect("reads");
    n += from.tag().map_or(0, |tag| tag.value().len());
    let to = request.to_header().expect("has To").typed().expect("reads");
    n += to.tag().map_or(0, |tag| tag.value().len());
    n += request.call_id_header().expect("has Call-ID").value().len();
    n += request.cseq_header().expect("has CSeq").typed().expect("reads").seq as usize;
    for header in request.headers().iter() {
        match header {
            rsip::Header::Contact(contact) => n += contact.typed().expect("reads").uri.to_string().len(),
            rsip::Header::Route(route) => {
                n += route
                    .typed()
                    .expect("reads")
                    .uris()
                    .iter()
                    .map(|uri| uri.uri.to_string().len())
                    .sum::<usize>();
            }
            _ => {}
        }
    }
    n + request.max_forwards_header().expect("has Max-Forwards").num().expect("reads") as usize
}

/// As [`Ours::proxy`], by rsip.
pub fn rsip_proxy() -> usize {
    let mut request = rsip_read();
    let hops = request.max_forwards_header().expect("has Max-Forwards").num().expect("reads");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("is text");
    let mut rows: Vec<rsip::Header> = Vec::with_capacity(32);
    rows.push(rsip::Header::Via(rsip::headers::Via::new(text(VIA))));
    let mut routed = false;
    for header in request.headers.iter() {
        match header {
            rsip::Header::RecordRoute(_) if !routed => {
                routed = true;
                rows.push(rsip::Header::RecordRoute(rsip::headers::RecordRoute::new(text(RECORD_ROUTE))));
                rows.push(header.clone());
            }
            rsip::Header::MaxForwards(_) => {
                rows.push(rsip::Header::MaxForwards(rsip::headers::MaxForwards::from(hops - 1)));
            }
            other => rows.push(other.clone()),
        }
    }
    request.headers = rows.into();
    let out: Vec<u8> = request.into();
    out.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_one_the_bars_speak_of() {
        let head = INVITE.windows(4).position(|w| w == b"\r\n\r\n").expect("ends") + 4;
        assert_eq!((head, INVITE.len()), (1146, 1465));
        let message = Message::parse_framed(Bytes::from_static(INVITE), &Limits::default()).expect("parses");
        let count = |name| message.count(name);
        assert_eq!((count(Name::Via), count(Name::RecordRoute), count(Name::Route)), (3, 2, 1));
        assert_eq!(message.validate(), []);
    }

    #[test]
    fn both_sides_do_the_same_work() {
        let mut ours = Ours::default();
        assert_eq!((ours.parse(), rsip_parse()), (319, 319));
        assert_eq!(ours.access(), rsip_access());
        let grown =
            INVITE.len() + "Via: \r\n".len() + VIA.len() + "Record-Route: \r\n".len() + RECORD_ROUTE.len();
        assert_eq!((ours.proxy(), rsip_proxy()), (grown, grown));
        assert!(ours.written().windows(18).any(|w| w == b"\r\nMax-Forwards: 67"));
    }
}
