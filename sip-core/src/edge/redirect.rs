//! Redirections that are followed here (`sip.class_3xx = "follow"`, RFC 3261 §16.7 step 4), and what a branch says of the one
//! before it.
//!
//! Followed is the answer of a switch to a phone's new request, to where the phone itself might have asked: a switch or
//! network of ours. Whatever leads elsewhere passes to the phone unfollowed, as do a 3xx to REGISTER (SIP-17), one in a
//! dialog, and one of a phone, which the PBX decides about.

use std::time::Instant;

use super::Edge;
use super::config::{Class3xx, PreloadedRoutes};
use super::credentials::REALM;
use super::event::{Reason, Why};
use super::exchange::{Answer, Branch, Exchange, Hop, Incoming, Way};
use super::uri_codec::{host_of, is_secure, transport_of};
use crate::flow::{Side, Transport};
use crate::header::{Contact, ProxyAuthorization};
use crate::message::{Edit, Message, Method, Name};
use crate::resolve::locate::Sought;
use crate::resolve::{Destination, Directory};
use crate::token::InstanceId;
use crate::uri::Uri;

/// Redirections of one request that are followed, one after the other (SIP-54).
const RECURSIONS: usize = 5;
/// Headers of one 3xx that are taken along (SIP-53).
const HEADERS: usize = 16;

/// What a branch has from those before it.
#[derive(Clone, Default)]
pub(super) struct Past {
    /// The Request-URIs that led here.
    asked: Vec<Vec<u8>>,
    /// Headers of the 3xx that was followed.
    headers: Vec<(String, Vec<u8>)>,
    /// The value of X-Failover (SIP-55).
    failover: Option<String>,
}

impl Past {
    /// Puts it into the new request.
    pub(super) fn write(&self, edit: &mut Edit<'_>) {
        // The latest diversion stands first (RFC 5806 §2).
        for (name, value) in self.headers.iter().rev() {
            edit.push_front(name.as_str(), value);
        }
        if let Some(text) = &self.failover {
            edit.set_header("X-Failover", text.as_bytes());
        }
    }
}

/// What becomes of a 3xx.
pub(super) enum Redirection {
    /// It passes like any other answer.
    Passes(Message),
    /// Another branch stands in its place.
    Followed,
    /// It led in a circle.
    Loops(Answer),
}

impl Edge {
    /// Says in `way` that it is the second choice (SIP-55).
    pub(super) fn mark_failover(&self, way: &mut Way, failed: std::net::IpAddr, why: Why) {
        if self.config.interop.answers.add_failover_header {
            let reason = if why == Why::Unavailable { "503" } else { "timeout" };
            let text = format!("from={};reason={reason}", crate::uri::Host::from(failed));
            way.past.get_or_insert_default().failover = Some(text);
        }
    }

    /// Follows a 3xx where that is wanted and allowed.
    pub(super) fn redirected(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        message: Message,
    ) -> Redirection {
        if !self.may_follow(exchange, index) {
            return Redirection::Passes(message);
        }
        let Some(branch) = exchange.branches.get(index) else { return Redirection::Passes(message) };
        let original = exchange.incoming.message.request_uri().unwrap_or_default();
        let asked = branch.way.request_uri.as_deref().unwrap_or(original).to_vec();
        let secure = Uri::parse(&asked).is_ok_and(|uri| is_secure(&uri));
        let Some((hop, target)) = self.best_target(&message, branch.way.phone, secure) else {
            return Redirection::Passes(message);
        };
        let mut past = branch.way.past.as_deref().cloned().unwrap_or_default();
        past.asked.push(asked);
        if past.asked.contains(&target) || past.asked.len() > RECURSIONS {
            return Redirection::Loops(Answer::Own(482, "Loop Detected", Reason::Loop));
        }
        past.headers = self.headers_of(&message);
        past.failover = None;
        let phone = branch.way.phone;
        let way =
            Way { hop, phone, request_uri: Some(target), routes: Vec::new(), past: Some(Box::new(past)) };
        exchange.context.recurse(index);
        self.lines.hold(phone);
        let next = exchange.context.add();
        exchange.branches.push(Branch::new(way));
        self.send_branch(now, exchange, next);
        Redirection::Followed
    }

    fn may_follow(&self, exchange: &Exchange, index: usize) -> bool {
        let incoming = &exchange.incoming;
        let asks_switch = |branch: &Branch| matches!(branch.way.hop, Hop::Switch(_) | Hop::Name(_));
        self.config.class_3xx == Class3xx::Follow
            && incoming.peer.side == Side::Outside
            && incoming.method() != Method::Register
            && exchange.dialog.is_none()
            && !incoming.in_dialog()
            && exchange.context.awaits(index)
            && exchange.branches.get(index).is_some_and(asks_switch)
    }

    /// The allowed Contact of the highest q, the first of several.
    fn best_target(&self, message: &Message, phone: InstanceId, secure: bool) -> Option<(Hop, Vec<u8>)> {
        let mut best: Option<(u16, Hop, Vec<u8>)> = None;
        for contact in message.headers::<Contact>().flatten() {
            let q = contact.q().unwrap_or(1000);
            if best.as_ref().is_some_and(|(better, ..)| *better >= q) {
                continue;
            }
            let Ok(uri) = contact.uri() else { continue };
            // RFC 3261 §16.5: what was asked over sips goes on over sips.
            if uri.headers().is_some() || secure && !is_secure(&uri) {
                continue;
            }
            if let Some(hop) = self.hop_onward(&uri, phone) {
                best = Some((q, hop, contact.uri_bytes().to_vec()));
            }
        }
        best.map(|(_, hop, target)| (hop, target))
    }

    fn hop_onward(&self, uri: &Uri<'_>, phone: InstanceId) -> Option<Hop> {
        let host = host_of(uri);
        // An address of ours means a phone: the PBX calls those itself.
        if !uri.is_sip() || self.is_own(&host) {
            return None;
        }
        if self.config.interop.answers.dns_override_on_3xx {
            return self.hop_to(uri, phone, false).ok();
        }
        if uri.param("maddr").is_some() {
            return None;
        }
        // SIP-52: the rows of [[sip.servers]] stand for DNS, and shall not here.
        match (Directory { servers: &[], ..self.directory() }).destination(&host) {
            Destination::Addresses(addresses) => {
                let own = self.config.switches.transport;
                let transport = match transport_of(uri) {
                    Some(Transport::Tcp) if is_secure(uri) => Transport::Tls,
                    named => named.unwrap_or(own),
                };
                let dial = |(address, _)| self.dial(transport, address, uri.port(), phone);
                Some(Hop::Switch(addresses.into_iter().map(dial).collect()))
            }
            Destination::Lookup(name, port) => {
                Some(Hop::Name(Sought { name, port: port.or_else(|| uri.port()), over: self.over(uri) }))
            }
            Destination::Forbidden => None,
        }
    }

    fn headers_of(&self, message: &Message) -> Vec<(String, Vec<u8>)> {
        let wanted = &self.config.interop.answers.forward_3xx_headers;
        let rows = wanted.iter().flat_map(|name| {
            let rows = message.rows().filter(|row| row.name_bytes.eq_ignore_ascii_case(name.as_bytes()));
            rows.map(|row| (name.clone(), row.value.to_vec()))
        });
        rows.take(HEADERS).collect()
    }

    /// Credentials for our own realm are ours alone: whoever they were shown to takes them out (RFC 3261 §22.3).
    pub(super) fn consume_credentials(&self, incoming: &Incoming, edit: &mut Edit<'_>) {
        let message = &incoming.message;
        if incoming.peer.side == Side::Inside
            || message.raw(Name::ProxyAuthorization).is_none()
            || self.preloaded(incoming) != PreloadedRoutes::Authenticate
        {
            return;
        }
        let rows = message.rows().filter(|row| row.name == Name::ProxyAuthorization);
        let ours = message
            .headers::<ProxyAuthorization>()
            .map(|value| value.is_ok_and(|value| value.text("realm").as_deref() == Some(REALM.as_bytes())));
        let kept: Vec<&[u8]> = rows.zip(ours).filter(|(_, ours)| !ours).map(|(row, _)| row.value).collect();
        if kept.is_empty() {
            edit.remove(Name::ProxyAuthorization);
        } else {
            edit.replace_values(Name::ProxyAuthorization, &kept);
        }
    }
}
