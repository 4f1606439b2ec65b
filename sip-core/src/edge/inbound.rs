//! Requests from the PBX: which phone is meant. Six carriers in order, the first hit wins; each is counted.

use std::time::Instant;

use super::Edge;
use super::bindings::Binding;
use super::config::{Ambiguous, UserMatching};
use super::dialogs::{Dialog, DialogKey};
use super::event::{Event, Reason, Step, shown};
use super::exchange::{Hop, Incoming, Plan, Refusal, Way};
use super::uri_codec::{CONTACT_TOKEN, FLOW_TOKEN, GRUU, host_of, unescape, with_user};
use crate::flow::Side;
use crate::header::Route;
use crate::message::{Method, Name};
use crate::token::InstanceId;
use crate::uri::Uri;

/// The user that every unassigned phone registers as.
const ANONYMOUS: &str = "anonymous";

impl Edge {
    pub(super) fn plan_inbound(&mut self, now: Instant, incoming: &Incoming) -> Result<Plan, Refusal> {
        if incoming.method() == Method::Register {
            return Err(Refusal::forbidden(Reason::Policy));
        }
        let uri = self.request_uri(incoming)?;
        let dialog = if incoming.in_dialog() { DialogKey::of(&incoming.message, Side::Inside) } else { None };
        let (step, phones) = self.resolve(incoming, &uri, dialog.as_ref())?;
        if let Some(held) = dialog.as_ref().and_then(|key| self.dialogs.get_mut(key)) {
            held.used = now;
        }
        let held = dialog.as_ref().and_then(|key| self.dialogs.get(key));
        let ways: Vec<Way> = phones.iter().filter_map(|id| self.way_to(*id, &uri, held)).collect();
        let Some(first) = phones.first().copied() else { return Err(unknown()) };
        if ways.is_empty() {
            // RFC 3261 §15.1.1: whoever sends a BYE is done with the call, whatever is answered.
            if let (Method::Bye, Some(key)) = (incoming.method(), &dialog) {
                self.end_dialog(key, Side::Inside);
            }
            return Err(self.gone(first));
        }
        let phone = ways.first().map_or(first, |way| way.phone);
        if incoming.method() != Method::Ack {
            let method = shown(incoming.method().as_bytes());
            self.tell(Event::Resolved { step, phone, method, call_id: incoming.call_id() });
        }
        Ok(Plan { phone, dialog, ways })
    }

    fn resolve(
        &self,
        incoming: &Incoming,
        uri: &Uri<'_>,
        dialog: Option<&DialogKey>,
    ) -> Result<(Step, Vec<InstanceId>), Refusal> {
        if let Some(held) = dialog.and_then(|key| self.dialogs.get(key)) {
            return Ok((Step::Dialog, vec![held.phone]));
        }
        if let Some(token) = self.inside_flow_token(incoming) {
            let binding = self.bindings.by_flow_token(Side::Inside, &token);
            return binding.map(|b| (Step::Route, vec![b.id])).ok_or_else(bad_token);
        }
        let own = uri.is_sip() && self.is_own(&host_of(uri));
        if own && let Some(token) = uri.param(CONTACT_TOKEN).or_else(|| uri.param(GRUU)) {
            let binding = self.bindings.by_contact_token(token);
            return binding.map(|b| (Step::ContactToken, vec![b.id])).ok_or_else(bad_token);
        }
        // S13: what looks as if it were in a dialog needs a dialog or a token.
        if incoming.in_dialog() {
            return Err(Refusal::new(481, "Call/Transaction Does Not Exist", Reason::NoDialog));
        }
        if self.config.interop.contacts.tag_routing.enabled {
            if let Some(id) = self.by_instance(incoming) {
                return Ok((Step::Instance, vec![id]));
            }
            if let Some(id) = self.by_affinity(incoming) {
                return Ok((Step::Affinity, vec![id]));
            }
        }
        self.by_user(uri).map(|phones| (Step::User, phones))
    }

    /// The flow token of our topmost Route entry.
    fn inside_flow_token(&self, incoming: &Incoming) -> Option<Vec<u8>> {
        let top = incoming.message.header::<Route>()?.ok()?;
        let uri = top.uri().ok().filter(|uri| self.is_own(&host_of(uri)))?;
        uri.param(FLOW_TOKEN).map(<[u8]>::to_vec)
    }

    fn by_instance(&self, incoming: &Incoming) -> Option<InstanceId> {
        let pattern = self.config.interop.contacts.tag_routing.pattern.as_ref()?;
        let message = &incoming.message;
        let carriers = [message.request_uri(), message.raw(Name::AcceptContact), message.raw(Name::To)];
        let tag = carriers.into_iter().flatten().find_map(|text| pattern.tag(text))?;
        let id = InstanceId::new(&self.config.realm, &tag);
        self.bindings.get(id).filter(|b| b.registered).map(|b| b.id)
    }

    fn by_affinity(&self, incoming: &Incoming) -> Option<InstanceId> {
        let id = self.flows.get(incoming.source.flow()?)?.line()?;
        self.bindings.get(id).filter(|b| b.registered).map(|b| b.id)
    }

    fn by_user(&self, uri: &Uri<'_>) -> Result<Vec<InstanceId>, Refusal> {
        let Some(user) = uri.user() else { return Err(unknown()) };
        let user = unescape(user).ok_or_else(|| {
            Refusal::new(400, "Bad Request (Request-URI)", Reason::Malformed("Request-URI".into()))
        })?;
        let domain = host_of(uri);
        // Towards us the PBX writes our address; what the phone registered at is then not to be had.
        let domain = match self.config.interop.contacts.user_matching {
            UserMatching::UsernameAndDomain => Some(domain.as_str()),
            UserMatching::Username => None,
        };
        let mut all: Vec<&Binding> = self.bindings.by_user(&user, domain).collect();
        if all.is_empty() {
            return Err(unknown());
        }
        if all.iter().any(|b| b.path.is_some()) {
            all.retain(|b| b.path.is_some());
        }
        all.sort_by_key(|b| std::cmp::Reverse(b.arrival));
        let ambiguous = || Refusal::new(485, "Ambiguous", Reason::Ambiguous);
        match (all.len(), self.config.ambiguous_user) {
            (1, _) => {}
            (_, _) if user == ANONYMOUS => return Err(ambiguous()),
            (_, Ambiguous::Reject) => return Err(ambiguous()),
            (_, Ambiguous::Newest) => all.truncate(1),
            (_, Ambiguous::Fork) => all.truncate(self.config.limits.breadth),
        }
        Ok(all.iter().map(|b| b.id).collect())
    }

    /// The way to a phone that is connected.
    fn way_to(&self, id: InstanceId, uri: &Uri<'_>, held: Option<&Dialog>) -> Option<Way> {
        let binding = self.bindings.get(id);
        let hop = match binding.and_then(|b| b.path.zip(b.peer.clone())) {
            Some((path, peer)) => Hop::Phone(path, peer),
            // The registration ended under the call: the connection it was made over, if that still stands.
            None if binding.is_none() => {
                let (path, peer) = held?.path.clone()?;
                path.flow().is_none_or(|flow| self.flows.get(flow).is_some()).then_some(())?;
                Hop::Phone(path, peer)
            }
            None => return None,
        };
        let own = match (held.and_then(|dialog| dialog.contact.as_deref()), binding) {
            (Some(contact), _) => contact.to_vec(),
            (None, Some(binding)) => {
                let contact = Uri::parse(binding.record.contact.as_bytes()).ok()?;
                with_user(&contact, uri.user())
            }
            (None, None) => return None,
        };
        Some(Way { hop, phone: id, request_uri: Some(own), routes: Vec::new() })
    }

    /// Known, but not connected: 480, or 430 for a phone that speaks RFC 5626.
    pub(super) fn gone(&self, id: InstanceId) -> Refusal {
        let outbound = self.bindings.get(id).is_some_and(|b| b.record.outbound);
        if outbound {
            Refusal::new(430, "Flow Failed", Reason::PhoneGone)
        } else {
            Refusal::new(480, "Temporarily Unavailable", Reason::PhoneGone)
        }
    }
}

/// No oracle: an unknown phone and a forged token look alike (SIP-13).
fn unknown() -> Refusal {
    Refusal::new(404, "Not Found", Reason::UnknownPhone)
}

fn bad_token() -> Refusal {
    Refusal::new(404, "Not Found", Reason::Token)
}
