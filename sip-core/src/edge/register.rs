//! REGISTER from a phone: whose tag it is, the Contact towards the PBX, and what of the answer is the phone's.

use std::time::Instant;

use super::Edge;
use super::bindings::{Record, Switch};
use super::event::{Arrival, Departure, Event, Reason};
use super::exchange::{Exchange, Hop, Incoming, Plan, Refusal, Way};
use super::explain::Verdict;
use super::route_tag::Found;
use super::uri_codec::encoding::{Form, same_user};
use super::uri_codec::{CONTACT_TOKEN, GRUU, authority_of, host_of, readdress, unescape};
use crate::header::{Address, Contact, Expires, From, Supported, To};
use crate::message::{Message, Name};
use crate::token::{InstanceId, token_key, token_matches};
use crate::uri::Uri;

/// Seconds that a new phone is expected to be accepted in: longer than a transaction may last.
const EXPECTED: u64 = 60;

/// A REGISTER on its way to the PBX.
pub(super) struct Registration {
    /// What the binding becomes when the PBX accepts.
    pub(super) record: Record,
    /// The phone's Contacts as it sent them, and as the PBX sees them. For `Contact: *` only what it registered.
    pub(super) contacts: Vec<Sent>,
    /// The Expires header.
    pub(super) expires: Option<u32>,
    /// The number of this connection, for a phone that has several (RFC 5626 §4.2).
    pub(super) reg_id: Option<u32>,
    /// The registrar knows no Path (SIP-24).
    pub(super) without_path: bool,
    /// The phone stands in the table already, though the PBX has not accepted it yet.
    pub(super) provisional: bool,
}

/// One Contact of a REGISTER.
pub(super) struct Sent {
    /// The phone's own URI.
    pub(super) uri: String,
    /// Its unescaped user.
    pub(super) user: String,
    /// The user part towards the PBX.
    pub(super) shown: Vec<u8>,
    /// The value towards the PBX.
    pub(super) value: Vec<u8>,
    /// Its `expires` parameter.
    pub(super) expires: Option<u32>,
}

impl Edge {
    pub(super) fn plan_register(
        &mut self,
        now: Instant,
        incoming: &Incoming,
    ) -> Result<(Plan, Box<Registration>), Refusal> {
        let routes = self.own_routes(incoming)?;
        let uri = self.request_uri(incoming)?;
        let mut registration = self.registration(now, incoming)?;
        let id = InstanceId(registration.record.id);
        self.note("registration", Verdict::Pass, || match &registration.record.tag {
            Some(tag) => format!("tag {tag}, its own or free"),
            None => "without a tag: told apart by certificate and user".to_owned(),
        });
        if let Some(token) = &routes.token
            && !token_matches(&registration.record.flow_tokens[0], token)
        {
            // It is not this phone's: forged, or of another one (S12).
            return Err(Refusal::forbidden(Reason::Token));
        }
        self.adopt(now, incoming, id);
        let hop = self.hop_to(&uri, id, false)?;
        let request_uri = self.towards_switch(&uri, id);
        let way = Way { hop, phone: id, request_uri, routes: routes.sealed, past: None };
        registration.provisional = self.expect(now, incoming, &registration);
        Ok((Plan { phone: id, dialog: None, ways: vec![way] }, Box::new(registration)))
    }

    /// A new phone can be asked for before its 200 is here: a PBX may send its first NOTIFY over another connection. It is
    /// found by its token only, and forgotten if the PBX refuses it.
    fn expect(&mut self, now: Instant, incoming: &Incoming, registration: &Registration) -> bool {
        let id = InstanceId(registration.record.id);
        if registration.contacts.is_empty() || self.bindings.get(id).is_some() || !self.is_standing(incoming)
        {
            return false;
        }
        let mut record = registration.record.clone();
        record.expires_in = EXPECTED;
        self.bindings.put(now, record, false, Some((incoming.source, incoming.peer.clone())));
        true
    }

    /// The PBX refused a new phone. One that is challenged comes again at once, and finds its connection.
    pub(super) fn give_up(&mut self, exchange: &Exchange, status: u16) {
        if matches!(status, 401 | 407) {
            return;
        }
        let Some(registration) = exchange.registration.as_ref().filter(|r| r.provisional) else { return };
        let id = InstanceId(registration.record.id);
        if self.bindings.get(id).is_some_and(|b| !b.registered) {
            self.bindings.remove(id);
        }
    }

    fn registration(&mut self, now: Instant, incoming: &Incoming) -> Result<Registration, Refusal> {
        let message = &incoming.message;
        let expires = message.raw(Name::Expires).map(|_| match message.header::<Expires>() {
            Some(Ok(seconds)) => seconds,
            _ => 3600,
        });
        let bad = |why: &str| Refusal::new(400, format!("Bad Request (Contact: {why})"), Reason::Contact);
        let values: Vec<Address<'_>> = message.headers::<Contact>().flatten().collect();
        let star = values.iter().any(Address::is_star);
        // RFC 3261 §10.2.2: only alone, and only with Expires: 0.
        if star && (values.len() > 1 || expires != Some(0)) {
            return Err(bad("* stands alone and with Expires: 0"));
        }
        // A PBX may tell phones apart by the instance: nobody speaks for another phone under its own tag (SIP-14).
        let found = self.read_tags(&values);
        let mut tags = found.iter().flatten().flat_map(Found::tags);
        if tags.next().is_some_and(|first| tags.any(|tag| tag != first)) {
            return Err(bad("two phones"));
        }
        let tag = self.tag_of(incoming, &values, found.as_deref());
        let id = self.identify(incoming, tag.as_deref(), &values);
        self.check_owner(incoming, id, tag.as_deref())?;
        let mut record = self.record_for(now, incoming, id, tag, &values);
        if !star {
            self.name_contacts(&mut record, &values);
        }
        let own = if star { self.star_contact(id) } else { None };
        let contacts = match &own {
            Some(value) => vec![value.as_slice()],
            None if star => Vec::new(),
            None => values.iter().map(Address::raw).collect(),
        };
        let to = user_of(message.header::<To>());
        let mut sent = Vec::with_capacity(contacts.len());
        for value in contacts {
            let contact = Address::parse(Name::Contact, value).map_err(|_| bad("malformed"))?;
            sent.push(self.sent(&record, &contact, star, to.as_deref()).ok_or_else(|| bad("not a SIP URI"))?);
        }
        self.ask_as_before(&incoming.source, record.id, expires, &mut sent);
        if let Some(first) = sent.iter().find(|s| s.expires.or(expires) != Some(0)).or_else(|| sent.first()) {
            record.contact.clone_from(&first.uri);
            record.user.clone_from(&first.user);
        }
        let reg_id = values.iter().find_map(|c| std::str::from_utf8(c.param("reg-id")?).ok()?.parse().ok());
        let reg_id = reg_id.filter(|id| *id > 0 && record.outbound);
        Ok(Registration { record, contacts: sent, expires, reg_id, without_path: false, provisional: false })
    }

    /// What the tag pattern finds in each Contact; `None` where tags are not looked for.
    fn read_tags(&self, contacts: &[Address<'_>]) -> Option<Vec<Found>> {
        let routing = &self.config.interop.contacts.tag_routing;
        let pattern = routing.pattern.as_ref().filter(|_| routing.enabled)?;
        Some(contacts.iter().map(|contact| pattern.read(contact.raw())).collect())
    }

    fn tag_of(
        &mut self,
        incoming: &Incoming,
        contacts: &[Address<'_>],
        found: Option<&[Found]>,
    ) -> Option<String> {
        let found = found?;
        let tag = found.iter().find_map(Found::tag).map(str::to_owned);
        let star = contacts.iter().any(Address::is_star);
        if tag.is_none() && !contacts.is_empty() && !star {
            let malformed = found.iter().any(Found::has_head);
            self.tell(Event::Untagged { remote: incoming.peer.remote, malformed });
        }
        tag
    }

    /// The binding a REGISTER is about: by tag; else the one of this connection; else by certificate and user.
    fn identify(&self, incoming: &Incoming, tag: Option<&str>, contacts: &[Address<'_>]) -> InstanceId {
        if let Some(tag) = tag {
            return InstanceId::new(&self.config.realm, tag);
        }
        let of_user = |contact: &Address<'_>| unescape(contact.uri().ok()?.user()?);
        let user = contacts.iter().find_map(of_user);
        if user.is_none()
            && let Some(id) = self.registered_on(incoming)
        {
            return id;
        }
        let user = user.or_else(|| user_of(incoming.message.header::<To>())).unwrap_or_default();
        self.untagged(incoming, &user)
    }

    /// The registration of this connection, by the user of To where it has several.
    fn registered_on(&self, incoming: &Incoming) -> Option<InstanceId> {
        let ids = self.bindings.of_path(&incoming.source);
        let here = || ids.iter().rev().filter_map(|id| self.bindings.get(*id)).filter(|b| b.registered);
        let user = user_of(incoming.message.header::<To>()).unwrap_or_default();
        here().find(|b| b.has_user(&user)).or_else(|| here().next()).map(|b| b.id)
    }

    /// The id of a phone without a tag: its certificate and its user. No tag can start with `/`.
    pub(super) fn untagged(&self, incoming: &Incoming, user: &str) -> InstanceId {
        let certificate = data_encoding::HEXLOWER.encode(&incoming.certificate());
        InstanceId::new(&self.config.realm, &format!("/{certificate}/{user}"))
    }

    /// The record of this phone: what is known of it, with what this request says.
    fn record_for(
        &self,
        now: Instant,
        incoming: &Incoming,
        id: InstanceId,
        tag: Option<String>,
        contacts: &[Address<'_>],
    ) -> Record {
        let certificate = incoming.certificate();
        let outbound = contacts.iter().any(|c| c.param("reg-id").is_some())
            && incoming.message.headers::<Supported>().flatten().any(|o| o.eq_ignore_ascii_case(b"outbound"));
        let domain = match incoming.message.header::<To>() {
            Some(Ok(to)) => to.uri().map(|uri| host_of(&uri).into_owned()).unwrap_or_default(),
            _ => String::new(),
        };
        let known = self.bindings.get(id);
        let mut record = match known {
            Some(binding) => {
                let mut record = binding.record.clone();
                record.expires_in = binding.expires.saturating_duration_since(now).as_secs();
                record
            }
            None => Record {
                id: id.0,
                contact_token: tag.as_deref().map(|tag| self.keys.contact_token(&self.config.realm, tag)),
                tag,
                contact: String::new(),
                user: String::new(),
                domain: String::new(),
                users: Vec::new(),
                expires_in: 0,
                certificate: [0; 32],
                flow_tokens: [String::new(), String::new()],
                switch: None,
                outbound,
                address: None,
            },
        };
        if record.certificate != certificate || record.flow_tokens[0].is_empty() {
            record.certificate = certificate;
            record.flow_tokens = self.flow_tokens(token_key(&record.flow_tokens[1]), id, &certificate);
        }
        record.outbound = outbound;
        record.domain = domain;
        record
    }

    fn sent(&self, record: &Record, contact: &Address<'_>, star: bool, to: Option<&str>) -> Option<Sent> {
        let uri = contact.uri().ok().filter(Uri::is_sip)?;
        let own = self.registered_uri(record, &uri, to);
        let shown = Uri::parse(&own).ok()?.user().unwrap_or_default().to_vec();
        let excepted = self.is_excepted(&uri);
        let mut value = if excepted { contact.raw().to_vec() } else { readdress(contact, &own) };
        if star {
            value.extend_from_slice(b";expires=0");
        }
        Some(Sent {
            uri: String::from_utf8(uri.raw().to_vec()).ok()?,
            user: match uri.user() {
                Some(user) => unescape(user)?,
                None => to
                    .filter(|_| self.config.interop.contacts.force_contact_user)
                    .unwrap_or_default()
                    .to_owned(),
            },
            shown,
            value,
            expires: if star { Some(0) } else { contact.expires() },
        })
    }

    /// What stands for `Contact: *`: the phone's own Contact, without parameters.
    fn star_contact(&self, id: InstanceId) -> Option<Vec<u8>> {
        let binding = self.bindings.get(id).filter(|b| b.registered)?;
        Some(format!("<{}>", binding.record.contact).into_bytes())
    }

    /// Takes the PBX's 2xx: the binding stands from now on, or is gone.
    pub(super) fn commit(&mut self, now: Instant, exchange: &Exchange, index: usize, answer: &Message) {
        let Some(registration) = &exchange.registration else { return };
        // A query (no Contact) changes nothing; it only shows that the switch still knows the phone.
        if registration.contacts.is_empty() {
            return;
        }
        let granted = self.granted(registration, answer);
        if granted > 0 {
            self.lacks_contact(registration, answer);
        }
        let id = InstanceId(registration.record.id);
        if granted == 0 {
            // The registrar still lists the phone: it left by one of its connections.
            let listed = answer.headers::<Contact>().flatten().any(|c| self.is_own_contact(registration, &c));
            if listed && registration.reg_id.is_some_and(|reg_id| self.bindings.leave_flow(id, reg_id)) {
                return;
            }
            let phone = self.phone(id);
            if self.bindings.get(id).is_some_and(|b| b.registered) && self.bindings.remove(id).is_some() {
                self.tell(Event::Unregistered { phone, cause: Departure::Asked });
            }
            return;
        }
        let incoming = &exchange.incoming;
        let known = self.bindings.get(id).filter(|b| b.registered);
        let change = match known {
            None => Arrival::New,
            Some(binding) if binding.path == Some(incoming.source) => Arrival::Refreshed,
            Some(_) => Arrival::Moved,
        };
        let mut record = registration.record.clone();
        // Users may have been learnt while the request was on its way.
        if let Some(binding) = known {
            record.users.clone_from(&binding.record.users);
            keep_handles(&mut record, &binding.record);
        }
        record.expires_in = u64::from(granted);
        record.switch = self.switch_of(exchange, index);
        if self.is_standing(incoming) {
            self.bindings.keep_spare(id, &incoming.source, registration.reg_id);
            self.bindings.put(now, record, true, Some((incoming.source, incoming.peer.clone())));
            if let Some(user) = user_of(incoming.message.header::<From>()) {
                self.bindings.learn(now, id, &user);
            }
            self.bindings.index_spares(id);
            self.send_guests_off(incoming);
            self.watch(now, incoming.source);
            let phone = self.phone(id);
            self.tell(Event::Registered { phone, source: incoming.source, expires: granted, change });
        } else {
            // The phone left before the answer came: registered at the PBX, and gone.
            self.bindings.put(now, record, true, None);
            let phone = self.phone(id);
            self.tell(Event::PhoneLost { phone });
        }
    }

    /// Whether the connection a request came by still stands.
    pub(super) fn is_standing(&self, incoming: &Incoming) -> bool {
        incoming.source.flow().is_none_or(|flow| self.flows.get(flow).is_some())
    }

    /// The switch that answered.
    fn switch_of(&self, exchange: &Exchange, index: usize) -> Option<Switch> {
        let branch = exchange.branches.get(index)?;
        let way = &branch.way;
        let Hop::Switch(dials) = &way.hop else { return None };
        let dial = dials.front()?;
        // Only this one REGISTER was too long for a datagram.
        let transport = if branch.streamed { crate::flow::Transport::Udp } else { dial.transport };
        let uri = way.request_uri.as_deref().or_else(|| exchange.incoming.message.request_uri())?;
        let authority = authority_of(&Uri::parse(uri).ok()?);
        Some(Switch { authority, remote: dial.remote, transport: transport.via_token().to_owned() })
    }

    /// The seconds that the PBX granted: its own Contact's parameter beats its header (SIP-28).
    pub(super) fn granted(&self, registration: &Registration, answer: &Message) -> u32 {
        let default = u32::try_from(self.config.timers.default_expiry.as_secs()).unwrap_or(3600);
        let header = match answer.header::<Expires>() {
            Some(Ok(seconds)) => Some(seconds),
            _ => None,
        };
        let asked =
            registration.contacts.iter().map(|s| s.expires.or(registration.expires).unwrap_or(default)).max();
        let asked = asked.unwrap_or(default);
        if asked == 0 {
            return 0;
        }
        let own = answer.headers::<Contact>().flatten().filter(|c| self.is_own_contact(registration, c));
        let own = own.map(|c| c.expires().or(header).unwrap_or(asked)).max();
        own.or(header).unwrap_or(asked)
    }

    /// Whether a Contact in the PBX's answer is this phone's.
    fn is_own_contact(&self, registration: &Registration, contact: &Address<'_>) -> bool {
        let Ok(uri) = contact.uri() else { return false };
        if !self.is_own(&host_of(&uri)) {
            return false;
        }
        let token = uri.param(CONTACT_TOKEN).or_else(|| uri.param(GRUU));
        match (token, &registration.record.contact_token) {
            (Some(token), Some(own)) => token_matches(own, token),
            (Some(_), None) => false,
            // Without a token the user part must say it: as a whole, or because nothing else tells phones apart.
            (None, own) => {
                let user = uri.user().unwrap_or_default();
                (own.is_none() || Form::of(Some(user)) != Form::Plain)
                    && registration.contacts.iter().any(|sent| same_user(user, &sent.shown))
            }
        }
    }

    /// The Contacts of a 2xx for the phone: its own, with the URI it sent and the parameters the PBX wrote (SIP-16).
    pub(super) fn restored_contacts(&self, registration: &Registration, answer: &Message) -> Vec<Vec<u8>> {
        let own = answer.headers::<Contact>().flatten().filter(|c| self.is_own_contact(registration, c));
        let own: Vec<Vec<u8>> = own
            .map(|contact| {
                let user = contact.uri().ok().map_or(&b""[..], |uri| uri.user().unwrap_or_default());
                let sent = registration.contacts.iter().find(|sent| same_user(user, &sent.shown));
                let uri = sent.map_or(&registration.record.contact, |sent| &sent.uri);
                self.without_gruus(readdress(&contact, uri.as_bytes()))
            })
            .collect();
        let listed = answer.header::<Contact>().is_some();
        match registration.contacts.first() {
            // A PBX that writes our address anew without its parameters: accepted is accepted, and the phone must see it.
            Some(sent) if own.is_empty() && listed && self.granted(registration, answer) > 0 => {
                let expires = self.granted(registration, answer);
                vec![format!("<{}>;expires={expires}", sent.uri).into_bytes()]
            }
            _ => own,
        }
    }

    /// Guests on a connection make way for the phone that registered on it.
    fn send_guests_off(&mut self, incoming: &Incoming) {
        let ids = self.bindings.of_path(&incoming.source).to_vec();
        for id in ids {
            if self.bindings.get(id).is_some_and(|b| !b.registered) {
                self.bindings.remove(id);
            }
        }
    }
}

/// Handles that were given while a REGISTER was on its way.
fn keep_handles(record: &mut Record, known: &Record) {
    let Some(address) = record.address.as_mut() else { return };
    for (handle, user) in known.address.iter().flat_map(|known| &known.handles) {
        let user = user.as_ref().map(String::as_bytes);
        if address.handle_of(user).is_none() {
            address.add_handle(&record.user, user, handle.clone());
        }
    }
}

/// The user of From or To.
pub(super) fn user_of<E>(address: Option<Result<Address<'_>, E>>) -> Option<String> {
    let address = address?.ok()?;
    unescape(address.uri().ok()?.user()?)
}
