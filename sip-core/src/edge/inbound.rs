//! Requests from the PBX: which phone is meant. Six carriers in order, the first hit wins; each is counted.

use std::borrow::Cow;
use std::time::Instant;

use super::Edge;
use super::bindings::Binding;
use super::config::{Ambiguous, UserMatching};
use super::dialogs::{Dialog, DialogKey};
use super::event::{Event, Reason, Step, shown};
use super::exchange::{Hop, Incoming, Plan, Refusal, Way};
use super::explain::{Verdict, carrier};
use super::naming::Named;
use super::uri_codec::{FLOW_TOKEN, host_of, unescape, with_user};
use crate::flow::{Side, Source};
use crate::header::Route;
use crate::message::{Message, Method, Name};
use crate::token::InstanceId;
use crate::uri::Uri;

/// The user that every unassigned phone registers as.
const ANONYMOUS: &str = "anonymous";

/// Whom a request from inside means.
struct Found<'u> {
    /// By which carrier.
    step: Step,
    /// The phones; several of one user.
    phones: Vec<InstanceId>,
    /// The user that it asks for there.
    user: Option<Cow<'u, [u8]>>,
}

impl Edge {
    pub(super) fn plan_inbound(&mut self, now: Instant, incoming: &Incoming) -> Result<Plan, Refusal> {
        if incoming.method() == Method::Register {
            return Err(Refusal::forbidden(Reason::Policy));
        }
        let uri = self.request_uri(incoming)?;
        let dialog = if incoming.in_dialog() { DialogKey::of(&incoming.message, Side::Inside) } else { None };
        let Found { step, phones, user } = self.resolve(incoming, &uri, dialog.as_ref())?;
        if let Some(held) = dialog.as_ref().and_then(|key| self.dialogs.get_mut(key)) {
            held.used = now;
        }
        let held = dialog.as_ref().and_then(|key| self.dialogs.get(key));
        let mut ways: Vec<Way> =
            phones.iter().filter_map(|id| self.way_to(*id, user.as_deref(), held)).collect();
        if !self.shard.is_alone() && !incoming.handed {
            ways.extend(self.ways_across(&phones));
        }
        let Some(first) = phones.first().copied() else { return Err(unknown()) };
        if ways.is_empty() {
            // RFC 3261 §15.1.1: whoever sends a BYE is done with the call, whatever is answered.
            if let (Method::Bye, Some(key)) = (incoming.method(), &dialog) {
                self.end_dialog(key, Side::Inside);
            }
            self.note("connection", Verdict::Refused, || format!("{} is not connected", self.called(first)));
            return Err(self.gone(first));
        }
        let phone = ways.first().map_or(first, |way| way.phone);
        if incoming.method() != Method::Ack {
            let method = shown(incoming.method().as_bytes());
            self.tell(Event::Resolved { step, phone, method, call_id: incoming.call_id() });
        }
        Ok(Plan { phone, dialog, ways })
    }

    fn resolve<'u>(
        &self,
        incoming: &Incoming,
        uri: &Uri<'u>,
        dialog: Option<&DialogKey>,
    ) -> Result<Found<'u>, Refusal> {
        // A call whose Contact is known needs nothing else: most requests are such.
        if let Some(held) = dialog.and_then(|key| self.dialogs.get(key)).filter(|held| held.contact.is_some())
        {
            self.note(carrier(Step::Dialog), Verdict::Hit, || self.called(held.phone));
            return Ok(Found { step: Step::Dialog, phones: vec![held.phone], user: None });
        }
        let mut named = self.named_by(uri);
        if !matches!(named, Named::Phone(..))
            && let Some(gruu) = self.by_gruu(uri)
        {
            named = gruu;
        }
        // What stands before `@` names the user, unless it is an address as a whole.
        let user = match &named {
            Named::Phone(_, user) => user.clone(),
            _ => uri.user().map(Cow::Borrowed),
        };
        let found = |step, phones: Vec<InstanceId>| {
            self.note(carrier(step), Verdict::Hit, || {
                phones.iter().map(|id| self.called(*id)).collect::<Vec<_>>().join(", ")
            });
            Ok(Found { step, phones, user })
        };
        let miss = |step, why: &'static str| self.note(carrier(step), Verdict::Miss, || why.to_owned());
        if let Some(held) = dialog.and_then(|key| self.dialogs.get(key)) {
            return found(Step::Dialog, vec![held.phone]);
        }
        miss(Step::Dialog, if incoming.in_dialog() { "no such call is held" } else { "To has no tag" });
        if let Some(token) = self.inside_flow_token(&incoming.message) {
            let binding = self.bindings.by_flow_token(Side::Inside, &token);
            let Some(binding) = binding else {
                self.note(carrier(Step::Route), Verdict::Refused, || "the flow token is nobody's".to_owned());
                return Err(bad_token());
            };
            return found(Step::Route, vec![binding.id]);
        }
        miss(Step::Route, "the topmost Route is not ours or has no flow token");
        match named {
            Named::Phone(id, _) => return found(Step::ContactToken, vec![id]),
            Named::Nobody => {
                self.note(carrier(Step::ContactToken), Verdict::Refused, || {
                    "an address of our making, but of no phone".to_owned()
                });
                return Err(bad_token());
            }
            Named::Nothing => miss(Step::ContactToken, "the Request-URI is no address that we wrote"),
        }
        // S13: what looks as if it were in a dialog needs a dialog or a token.
        if incoming.in_dialog() {
            self.note("in-dialog", Verdict::Refused, || "a To tag needs a call or a token (S13)".to_owned());
            return Err(Refusal::new(481, "Call/Transaction Does Not Exist", Reason::NoDialog));
        }
        if self.config.interop.contacts.tag_routing.enabled {
            if let Some(id) = self.by_instance(&incoming.message) {
                return found(Step::Instance, vec![id]);
            }
            miss(Step::Instance, "no known instance in Request-URI, Accept-Contact or To");
            if let Some(id) = self.by_affinity(incoming.source) {
                return found(Step::Affinity, vec![id]);
            }
            miss(Step::Affinity, "it came by no phone's own connection");
        } else {
            miss(Step::Instance, "sip.tag_routing is off");
            miss(Step::Affinity, "sip.tag_routing is off");
        }
        let phones = self.by_user(uri, incoming.handed).inspect_err(|refusal| {
            self.note(carrier(Step::User), Verdict::Refused, || {
                format!("{} {}", refusal.status, refusal.phrase)
            });
        })?;
        found(Step::User, phones)
    }

    /// The flow token of our topmost Route entry.
    pub(super) fn inside_flow_token(&self, message: &Message) -> Option<Vec<u8>> {
        let top = message.header::<Route>()?.ok()?;
        let uri = top.uri().ok().filter(|uri| self.is_own(&host_of(uri)))?;
        uri.param(FLOW_TOKEN).map(<[u8]>::to_vec)
    }

    pub(super) fn by_instance(&self, message: &Message) -> Option<InstanceId> {
        let pattern = self.config.interop.contacts.tag_routing.pattern.as_ref()?;
        let carriers = [message.request_uri(), message.raw(Name::AcceptContact), message.raw(Name::To)];
        let tag = carriers.into_iter().flatten().find_map(|text| pattern.tag(text))?;
        let id = InstanceId::new(&self.config.realm, &tag);
        self.bindings.get(id).filter(|b| b.registered).map(|b| b.id)
    }

    pub(super) fn by_affinity(&self, source: Source) -> Option<InstanceId> {
        let id = self.flows.get(source.flow()?)?.line()?;
        self.bindings.get(id).filter(|b| b.registered).map(|b| b.id)
    }

    /// The phones of a user; `ours` are only those of this shard.
    pub(super) fn by_user(&self, uri: &Uri<'_>, ours: bool) -> Result<Vec<InstanceId>, Refusal> {
        let Some(user) = uri.user() else { return Err(unknown()) };
        let user = unescape(user).ok_or_else(|| {
            Refusal::new(400, "Bad Request (Request-URI)", Reason::Malformed("Request-URI".into()))
        })?;
        let domain = host_of(uri);
        // Towards us the PBX writes our address; what the phone registered at is then not to be had.
        let domain = match self.config.interop.contacts.user_matching {
            UserMatching::UsernameAndDomain => Some(&*domain),
            UserMatching::Username => None,
        };
        let all = self.bindings.by_user(&user, domain);
        let mut all: Vec<&Binding> = all.filter(|b| !ours || self.bindings.is_ours(b)).collect();
        if all.is_empty() {
            return Err(unknown());
        }
        if all.iter().any(|b| b.is_connected()) {
            all.retain(|b| b.is_connected());
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
    fn way_to(&self, id: InstanceId, user: Option<&[u8]>, held: Option<&Dialog>) -> Option<Way> {
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
                with_user(&contact, user)
            }
            (None, None) => return None,
        };
        Some(Way { hop, phone: id, request_uri: Some(own), routes: Vec::new(), past: None })
    }

    /// Known, but not connected: 480, or 430 for a phone that speaks RFC 5626.
    pub(super) fn gone(&self, id: InstanceId) -> Refusal {
        let outbound = self.bindings.get(id).is_some_and(|b| b.record.outbound);
        let (status, phrase) = if outbound { (430, "Flow Failed") } else { (480, "Temporarily Unavailable") };
        Refusal::new(status, phrase, Reason::PhoneGone).about(self.phone(id))
    }
}

/// No oracle: an unknown phone and a forged token look alike (SIP-13).
fn unknown() -> Refusal {
    Refusal::new(404, "Not Found", Reason::UnknownPhone)
}

fn bad_token() -> Refusal {
    Refusal::new(404, "Not Found", Reason::Token)
}
