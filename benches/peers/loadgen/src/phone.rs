//! The phone's messages.

use sipload::*;
use std::net::SocketAddr;

use crate::conn::*;
use crate::tls::*;

#[derive(Clone)]
pub(crate) struct Phone {
    pub(crate) user: String,
    pub(crate) domain: String,
    pub(crate) tname: &'static str,
    pub(crate) local: SocketAddr,
    pub(crate) uuid: String,
    pub(crate) body: String,
    pub(crate) seq: u64,
    pub(crate) reg_seq: u32,
}

impl Phone {
    pub(crate) fn new(e: &Env, i: usize, c: &Conn, fixed_user: Option<&str>) -> Phone {
        Phone {
            user: fixed_user.map(|s| s.to_string()).unwrap_or_else(|| format!("phone{i}")),
            domain: e.domain.clone(),
            tname: e.tname(),
            local: c.local,
            uuid: format!("00000000-0000-1000-8000-{:012x}", i + MAC0),
            body: e.body.clone(),
            seq: 0,
            reg_seq: 0,
        }
    }
    pub(crate) fn contact(&self) -> String {
        format!("<sip:{}@{};transport={}>", self.user, self.local, self.tname.to_lowercase())
    }
    pub(crate) fn via(&mut self) -> String {
        self.seq += 1;
        format!(
            "Via: SIP/2.0/{} {};branch=z9hG4bK-{}-{};rport\r\n",
            self.tname,
            self.local,
            self.local.port(),
            self.seq_id()
        )
    }
    pub(crate) fn seq_id(&self) -> String {
        format!("{}-{}-{}", self.user, self.local.ip().to_string().replace('.', "_"), self.seq)
    }
    pub(crate) fn callid(&mut self) -> String {
        self.seq += 1;
        format!("{}-{:x}@{}", self.seq_id(), std::process::id(), self.local)
    }
    pub(crate) fn register(&mut self, callid: &str, expires: u32) -> Vec<u8> {
        let via = self.via();
        self.reg_seq += 1;
        format!(
            "REGISTER sip:{d} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=f{s}\r\nTo: <sip:{u}@{d}>\r\n\
Call-ID: {callid}\r\nCSeq: {n} REGISTER\r\nContact: {c};+sip.instance=\"<urn:uuid:{id}>\";reg-id=1\r\n\
User-Agent: SipLoad/0.1 (teleworker phone)\r\nSupported: path, outbound, gruu, replaces\r\n{ALLOW}Expires: {expires}\r\nContent-Length: 0\r\n\r\n",
            d = self.domain, u = self.user, s = self.seq, n = self.reg_seq, c = self.contact(), id = self.uuid
        ).into_bytes()
    }
    pub(crate) fn options(&mut self, callid: &str, target: SocketAddr) -> Vec<u8> {
        let via = self.via();
        format!(
            "OPTIONS sip:{target} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=f{s}\r\nTo: <sip:{target}>\r\n\
Call-ID: {callid}\r\nCSeq: 1 OPTIONS\r\nContact: {c}\r\nUser-Agent: SipLoad/0.1 (teleworker phone)\r\nContent-Length: 0\r\n\r\n",
            d = self.domain, u = self.user, s = self.seq, c = self.contact()
        ).into_bytes()
    }
    pub(crate) fn invite(&mut self, callid: &str, callee: &str) -> Vec<u8> {
        let via = self.via();
        format!(
            "INVITE sip:{callee}@{d} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=c1\r\nTo: <sip:{callee}@{d}>\r\n\
Call-ID: {callid}\r\nCSeq: 1 INVITE\r\nContact: {c};+sip.instance=\"<urn:uuid:{id}>\"\r\nUser-Agent: SipLoad/0.1 (teleworker phone)\r\n\
Supported: path, outbound, gruu, replaces\r\n{ALLOW}Content-Type: {b}\r\nContent-Length: {l}\r\n\r\n{SDP}",
            d = self.domain, u = self.user, c = self.contact(), id = self.uuid, b = self.body, l = SDP.len()
        ).into_bytes()
    }
    /// ACK or BYE inside the dialog made by the 200 `ok`.
    pub(crate) fn in_dialog(&mut self, meth: &str, cseq: u32, ok: &[u8]) -> Vec<u8> {
        let via = self.via();
        let mut routes = list(ok, "Record-Route");
        routes.reverse();
        let route =
            if routes.is_empty() { String::new() } else { format!("Route: {}\r\n", routes.join(", ")) };
        let remote = list(ok, "Contact");
        format!(
            "{meth} {uri} SIP/2.0\r\n{via}Max-Forwards: 70\r\n{route}From: {f}\r\nTo: {t}\r\nCall-ID: {c}\r\nCSeq: {cseq} {meth}\r\n\
User-Agent: SipLoad/0.1 (teleworker phone)\r\nContent-Length: 0\r\n\r\n",
            uri = remote.first().map(|s| uri_in(s)).unwrap_or("sip:missing.invalid"),
            f = header(ok, "From").unwrap_or(""), t = header(ok, "To").unwrap_or(""), c = header(ok, "Call-ID").unwrap_or("")
        ).into_bytes()
    }
}
