//! Requests from phones: which phone asks, whether it may, and which switch it means.

use std::time::{Duration, Instant};

use super::Edge;
use super::bindings::Record;
use super::config::{Connections, PreloadedRoutes};
use super::dialogs::DialogKey;
use super::event::{Event, Reason};
use super::exchange::{Hop, Incoming, Plan, Refusal, Way};
use super::explain::Verdict;
use super::register::user_of;
use super::seals::Seal;
use super::uri_codec::{
    CONTACT_TOKEN, FLOW_TOKEN, SEALED_CONTACT, SEALED_ROUTES, host_of, is_secure, transport_of,
    with_authority,
};
use crate::flow::{Dial, Side, Source, Transport};
use crate::header::{Address, Contact, From, Route};
use crate::message::Method;
use crate::resolve::Destination;
use crate::resolve::locate::Sought;
use crate::token::InstanceId;
use crate::uri::Uri;

/// How long a phone that makes requests without a registration is remembered.
const GUEST: Duration = Duration::from_secs(3600);

/// The Routes of a request, read.
#[derive(Default)]
pub(super) struct OwnRoutes {
    /// The flow token of our topmost entry that has one.
    pub(super) token: Option<Vec<u8>>,
    /// What was hidden in it: the Routes to go on with, inside.
    pub(super) sealed: Vec<Vec<u8>>,
    /// Entries that are not ours.
    pub(super) foreign: Vec<Vec<u8>>,
}

impl Edge {
    pub(super) fn plan_outbound(&mut self, now: Instant, incoming: &Incoming) -> Result<Plan, Refusal> {
        let mut routes = self.own_routes(incoming)?;
        let uri = self.request_uri(incoming)?;
        let dialog =
            if incoming.in_dialog() { DialogKey::of(&incoming.message, Side::Outside) } else { None };
        let (phone, known) = self.asking(now, incoming, &routes, dialog.as_ref())?;
        self.note("phone", Verdict::Hit, || {
            let how = if known { "by its call or flow token" } else { "by its connection or certificate" };
            format!("{} asks, known {how}", self.called(phone))
        });
        if incoming.in_dialog() && (!known || self.is_foreign(incoming, dialog.as_ref())) {
            self.note("in-dialog", Verdict::Refused, || "a To tag needs a call or a token (S13)".to_owned());
            return Err(Refusal::new(481, "Call/Transaction Does Not Exist", Reason::NoDialog));
        }
        if let Some(held) = dialog.as_ref().and_then(|key| self.dialogs.get_mut(key)) {
            held.used = now;
        }
        if self.repairs(incoming) {
            let recorded = dialog.as_ref().and_then(|key| self.dialogs.get(key)?.routes.as_deref());
            routes = routes.repaired(recorded);
        }
        self.lacks_registration(incoming, phone);
        self.hand_out(now, phone, &incoming.message);
        let revealed = self.revealed(&uri).inspect_err(|_| {
            self.note("Request-URI", Verdict::Refused, || {
                "an address of our making that is forged".to_owned()
            });
        })?;
        let (revealed, was_place) =
            revealed.map_or((None, false), |(text, was_place)| (Some(text), was_place));
        let target = match &revealed {
            Some(text) => Uri::parse(text).map_err(|_| Refusal::forbidden(Reason::Token))?,
            None => uri,
        };
        let mut onward = routes.sealed;
        let routes_shown = !onward.is_empty();
        let follow = match self.preloaded(incoming) {
            PreloadedRoutes::Allow => true,
            // It was asked for credentials before; an ACK can't be (RFC 3261 §22.1).
            PreloadedRoutes::Authenticate => incoming.method() != Method::Ack,
            PreloadedRoutes::Remove | PreloadedRoutes::Reject => false,
        };
        if follow {
            onward.extend(routes.foreign);
        }
        // What we showed to a phone ourselves, out of our own table, holds for as long as its dialog, whatever the configuration says now.
        let hop = match onward.first() {
            Some(first) => self.hop_to_route(first, phone, known && routes_shown)?,
            None => self.hop_to(&target, phone, known && was_place)?,
        };
        let hop = self.known_address(hop, dialog.as_ref());
        // A remote target is the PBX's word (RFC 3261 §12.2.1.1). A new request that names us means the switch.
        let request_uri = match &revealed {
            Some(text) if known || self.is_whole(&target) => Some(text.clone()),
            _ => self.towards_switch(&target, phone).or_else(|| revealed.clone()),
        };
        let way = Way { hop, phone, request_uri, routes: onward, past: None };
        Ok(Plan { phone, dialog, ways: vec![way] })
    }

    /// Whether a call is another phone's: a token proves who asks, not whose call it is, and Call-ID and tags are no secrets.
    fn is_foreign(&self, incoming: &Incoming, dialog: Option<&DialogKey>) -> bool {
        let held = dialog.and_then(|key| self.dialogs.get(key));
        held.is_some_and(|held| held.certificate != incoming.certificate())
    }

    pub(super) fn request_uri<'m>(&self, incoming: &'m Incoming) -> Result<Uri<'m>, Refusal> {
        let raw = incoming.message.request_uri().unwrap_or_default();
        Uri::parse(raw).map_err(|_| {
            Refusal::new(400, "Bad Request (Request-URI)", Reason::Malformed("Request-URI".into()))
        })
    }

    /// Reads the Routes of a phone's request: our own, and those it brought along.
    pub(super) fn own_routes(&self, incoming: &Incoming) -> Result<OwnRoutes, Refusal> {
        let mut routes = OwnRoutes::default();
        for route in incoming.message.headers::<Route>().flatten() {
            let uri = route.uri().ok();
            match uri.filter(|uri| self.is_own(&host_of(uri))) {
                Some(uri) if routes.token.is_none() && uri.param(FLOW_TOKEN).is_some() => {
                    routes.token = uri.param(FLOW_TOKEN).map(<[u8]>::to_vec);
                    if let Some(sealed) = uri.param(SEALED_ROUTES) {
                        let text = self.opened(Seal::Routes, sealed);
                        let text = text.ok_or_else(|| Refusal::forbidden(Reason::Token))?;
                        routes.sealed = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                    }
                }
                Some(_) => {}
                None => routes.foreign.push(route.raw().to_vec()),
            }
        }
        // What a phone brings along besides our own (SIP-48). A challenge (RFC 3261 §22.3) belongs here too.
        if !routes.foreign.is_empty()
            && !self.repairs(incoming)
            && self.preloaded(incoming) == PreloadedRoutes::Reject
        {
            self.note("routes", Verdict::Refused, || "sip.preloaded_routes = reject".to_owned());
            return Err(Refusal::forbidden(Reason::PreloadedRoute));
        }
        // A hidden route set is ours only together with its flow token.
        if routes.token.is_none() {
            routes.sealed.clear();
        }
        Ok(routes)
    }

    /// The phone that asks, and whether its dialog is known: by flow token, or because we hold it.
    fn asking(
        &mut self,
        now: Instant,
        incoming: &Incoming,
        routes: &OwnRoutes,
        dialog: Option<&DialogKey>,
    ) -> Result<(InstanceId, bool), Refusal> {
        let certificate = incoming.certificate();
        if let Some(token) = &routes.token {
            // From the outside a token counts only on a connection with the certificate of its binding.
            let binding = self.bindings.by_flow_token(Side::Outside, token);
            if let Some(binding) = binding.filter(|b| b.record.certificate == certificate) {
                let id = binding.id;
                self.adopt(now, incoming, id);
                return Ok((id, true));
            }
        }
        let held = dialog.and_then(|key| self.dialogs.get(key)).filter(|d| d.certificate == certificate);
        if let Some(phone) = held.map(|dialog| dialog.phone) {
            self.adopt(now, incoming, phone);
            return Ok((phone, true));
        }
        if routes.token.is_some() {
            return Err(Refusal::forbidden(Reason::Token));
        }
        Ok((self.sender(now, incoming)?, false))
    }

    /// The phone behind a connection. A verified request from a phone that was lost brings it back.
    fn sender(&mut self, now: Instant, incoming: &Incoming) -> Result<InstanceId, Refusal> {
        let here = self.bindings.of_path(&incoming.source);
        if let Some(id) = self.choose(here, incoming) {
            if self.bindings.get(id).is_some_and(|b| !b.registered) {
                self.bindings.extend(id, now + GUEST);
            }
            return Ok(id);
        }
        let known = self.bindings.of_certificate(&incoming.certificate());
        let path = |id: &InstanceId| self.bindings.get(*id).map(|b| b.path);
        let lost: Vec<_> = known.iter().copied().filter(|id| path(id) == Some(None)).collect();
        let back = match (known, lost.as_slice()) {
            ([_], [only]) => Some(*only),
            _ => self.named(&lost, incoming).or_else(|| self.rebound(known, incoming)),
        };
        if let Some(id) = back {
            self.adopt(now, incoming, id);
            return Ok(id);
        }
        self.guest(now, incoming)
    }

    /// The phone that a NAT gave another port: only its own Contact tells it from others at the same address.
    fn rebound(&self, known: &[InstanceId], incoming: &Incoming) -> Option<InstanceId> {
        let contact = incoming.message.header::<Contact>()?.ok()?;
        let contact = contact.uri_bytes();
        let bindings = known.iter().filter_map(|id| self.bindings.get(*id)).filter(|b| b.registered);
        let mut same = bindings
            .filter(|b| is_rebound(b.path, incoming.source) && b.record.contact.as_bytes() == contact);
        let only = same.next()?;
        same.next().is_none().then_some(only.id)
    }

    /// One phone on a connection is it; of several, the one that the request names, else the latest.
    fn choose(&self, ids: &[InstanceId], incoming: &Incoming) -> Option<InstanceId> {
        match ids {
            [] => None,
            [one] => Some(*one),
            several => self.named(several, incoming).or_else(|| several.last().copied()),
        }
    }

    /// The phone whose instance stands in the Contact, or whose user in Contact or From.
    fn named(&self, ids: &[InstanceId], incoming: &Incoming) -> Option<InstanceId> {
        let contact = incoming.message.header::<Contact>().and_then(Result::ok);
        if let (Some(contact), Some(pattern), true) = (
            &contact,
            &self.config.interop.contacts.tag_routing.pattern,
            self.config.interop.contacts.tag_routing.enabled,
        ) && let Some(tag) = pattern.tag(contact.raw())
        {
            let id = InstanceId::new(&self.config.realm, &tag);
            return ids.contains(&id).then_some(id);
        }
        let users = [user_of(contact.map(Ok::<_, ()>)), user_of(incoming.message.header::<From>())];
        users.iter().flatten().find_map(|user| {
            ids.iter().copied().find(|id| self.bindings.get(*id).is_some_and(|b| b.has_user(user)))
        })
    }

    /// Puts a phone that has no live connection, or whose NAT gave it another port, on the path its verified request came
    /// by.
    pub(super) fn adopt(&mut self, now: Instant, incoming: &Incoming, id: InstanceId) {
        let certificate = incoming.certificate();
        let elsewhere = self.bindings.get(id).is_some_and(|b| {
            (b.path.is_none() || is_rebound(b.path, incoming.source)) && b.record.certificate == certificate
        });
        if elsewhere && self.is_standing(incoming) {
            self.bindings.attach(id, incoming.source, incoming.peer.clone());
            let phone = self.phone(id);
            self.tell(Event::PhoneMoved { phone, source: incoming.source });
            self.watch(now, incoming.source);
        }
    }

    /// A phone that asks without being registered: known by its certificate and user, never found by the PBX.
    fn guest(&mut self, now: Instant, incoming: &Incoming) -> Result<InstanceId, Refusal> {
        let certificate = incoming.certificate();
        let user = user_of(incoming.message.header::<From>()).unwrap_or_default();
        let id = self.untagged(incoming, &user);
        if self.bindings.get(id).is_some() {
            // Registered, and alive elsewhere with the same certificate and user.
            return Ok(id);
        }
        let limits = &self.config.limits;
        if self.bindings.len() >= limits.bindings {
            return Err(self.busy(incoming, "Too Many Phones", Reason::Limit("bindings")));
        }
        let (most, limit) = limits.bindings_of(&certificate);
        if self.bindings.of_certificate(&certificate).len() >= most {
            return Err(Refusal::forbidden(Reason::Limit(limit)));
        }
        let record = Record {
            id: id.0,
            tag: None,
            contact: format!("{}:{}", self.config.face_of(&incoming.peer).scheme(), incoming.peer.remote),
            user,
            domain: String::new(),
            users: Vec::new(),
            expires_in: GUEST.as_secs(),
            certificate,
            contact_token: self.named_token(id),
            flow_tokens: self.flow_tokens(None, id, &certificate),
            switch: None,
            outbound: false,
            address: None,
        };
        self.bindings.put(now, record, false, Some((incoming.source, incoming.peer.clone())));
        Ok(id)
    }

    /// The address behind one that we showed to a phone, and whether it was a place of ours then. `None` when it is not such
    /// a one.
    fn revealed(&self, uri: &Uri<'_>) -> Result<Option<(Vec<u8>, bool)>, Refusal> {
        if !uri.is_sip() || !self.is_own(&host_of(uri)) {
            return Ok(None);
        }
        // A phone's address is for the inside only: from outside it is a forgery (SIP-13), unless we sealed it ourselves.
        let sealed = uri.param(SEALED_CONTACT).filter(|_| uri.param(CONTACT_TOKEN).is_none());
        if sealed.is_none() && self.has_phone_form(uri) {
            return Err(Refusal::forbidden(Reason::Token));
        }
        let Some(sealed) = sealed else { return Ok(None) };
        self.opened_contact(sealed).map(Some).ok_or_else(|| Refusal::forbidden(Reason::Token))
    }

    /// Whether a URI's host is ourselves, or one that our own table leads to (S8).
    pub(super) fn is_place(&self, uri: &Uri<'_>) -> bool {
        let host = host_of(uri);
        self.is_own(&host) || !matches!(self.directory().destination(&host), Destination::Forbidden)
    }

    /// The Request-URI towards the switch where the phone named us instead.
    pub(super) fn towards_switch(&self, uri: &Uri<'_>, phone: InstanceId) -> Option<Vec<u8>> {
        if !uri.is_sip() || !self.is_own(&host_of(uri)) {
            return None;
        }
        let switch = self.bindings.get(phone).and_then(|b| b.record.switch.as_ref());
        match switch {
            Some(switch) => Some(with_authority(uri, &switch.authority)),
            None => {
                let server = self.config.servers.first()?;
                let host = match (&server.lookup, server.addresses.first()) {
                    (Some((name, _)), _) => name.clone(),
                    (None, Some((address, _))) => crate::uri::Host::from(*address).to_string(),
                    (None, None) => return None,
                };
                Some(with_authority(uri, &host))
            }
        }
    }

    fn hop_to_route(&self, route: &[u8], phone: InstanceId, shown: bool) -> Result<Hop, Refusal> {
        let address = Address::parse(crate::message::Name::Route, route).ok();
        let uri =
            address.and_then(|a| a.uri().ok()).ok_or_else(|| Refusal::forbidden(Reason::Destination))?;
        self.hop_to(&uri, phone, shown)
    }

    /// Host and port that a URI is sent to: `maddr` stands for the host (RFC 3261 §19.1.1), with the URI's port unless that is
    /// to be ignored (SIP-40).
    fn place_of(&self, uri: &Uri<'_>, host: String) -> (String, Option<u16>) {
        let maddr = uri.param("maddr").map(String::from_utf8_lossy).filter(|maddr| !self.is_own(maddr));
        // It opens no way that the host itself has not.
        let known = |_: &std::borrow::Cow<'_, str>| {
            !matches!(self.directory().destination(&host), Destination::Forbidden)
        };
        match maddr.filter(known) {
            Some(maddr) => {
                let port = uri.port().filter(|_| !self.config.interop.routes.ignore_port_with_maddr);
                (maddr.into_owned(), port)
            }
            None => (host, uri.port()),
        }
    }

    /// Where a URI leads, by our own table and nothing else (S8); an address of a running dialog that we sealed ourselves
    /// (`shown`) was in that table.
    pub(super) fn hop_to(&self, uri: &Uri<'_>, phone: InstanceId, shown: bool) -> Result<Hop, Refusal> {
        let hop = self.judge_hop(uri, phone, shown);
        match &hop {
            Ok(hop) => {
                self.note("destination", Verdict::Hit, || format!("{}: {}", host_of(uri), described(hop)))
            }
            Err(_) => self.note("destination", Verdict::Refused, || {
                format!("{} is no server, inside network or internal domain of ours", host_of(uri))
            }),
        }
        hop
    }

    fn judge_hop(&self, uri: &Uri<'_>, phone: InstanceId, shown: bool) -> Result<Hop, Refusal> {
        let forbidden = || Refusal::forbidden(Reason::Destination);
        let host = host_of(uri);
        // First of all: the switch would follow it, wherever we send the request (S8).
        if let Some(maddr) = uri.param("maddr").filter(|_| uri.is_sip()) {
            let maddr = String::from_utf8_lossy(maddr);
            if !self.is_own(&maddr) && matches!(self.directory().destination(&maddr), Destination::Forbidden)
            {
                return Err(forbidden());
            }
        }
        if !uri.is_sip() || self.is_own(&host) {
            return self.hop_to_own_switch(phone);
        }
        let (host, given) = self.place_of(uri, host.into_owned());
        let switches = &self.config.switches;
        let transport = match transport_of(uri) {
            // RFC 3261 §26.2.2: sips with transport=tcp is TLS over TCP.
            Some(Transport::Tcp) if is_secure(uri) && switches.transport == Transport::Tls => Transport::Tls,
            named => named.unwrap_or(switches.transport),
        };
        match self.directory().destination(&host) {
            Destination::Addresses(addresses) => {
                let dials = addresses
                    .into_iter()
                    .map(|(address, port)| self.dial(transport, address, port.or(given), phone));
                Ok(Hop::Switch(dials.collect()))
            }
            Destination::Lookup(name, port) => {
                let port = port.or(given);
                Ok(Hop::Name(Sought { name, port, over: self.over(uri) }))
            }
            Destination::Forbidden => {
                let address =
                    uri.host().and_then(|host| host.ip()).filter(|_| shown).ok_or_else(forbidden)?;
                Ok(Hop::Switch([self.dial(transport, address, given, phone)].into()))
            }
        }
    }

    /// A dial with the inside defaults.
    pub(super) fn dial(
        &self,
        transport: Transport,
        address: std::net::IpAddr,
        port: Option<u16>,
        phone: InstanceId,
    ) -> Dial {
        let switches = &self.config.switches;
        let default = if transport == switches.transport { switches.port } else { transport.default_port() };
        let affinity = (switches.connections == Connections::PerPhone).then_some(phone.0);
        Dial { transport, remote: (address, port.unwrap_or(default)).into(), side: Side::Inside, affinity }
    }

    /// Our own name: the switch that holds the phone's binding, else the first configured server.
    fn hop_to_own_switch(&self, phone: InstanceId) -> Result<Hop, Refusal> {
        let transport = self.config.switches.transport;
        if let Some(switch) = self.bindings.get(phone).and_then(|b| b.record.switch.as_ref()) {
            let transports = [Transport::Udp, Transport::Tcp, Transport::Tls];
            let transport =
                transports.into_iter().find(|t| t.via_token() == switch.transport).unwrap_or(transport);
            // The configuration may have changed since: a switch that is no longer inside is none.
            if self.config.inside_networks.contains(switch.remote.ip()) || self.is_server(switch.remote.ip())
            {
                let dial = self.dial(transport, switch.remote.ip(), Some(switch.remote.port()), phone);
                return Ok(Hop::Switch([dial].into()));
            }
        }
        let server = self.config.servers.first().ok_or_else(|| Refusal::forbidden(Reason::Destination))?;
        if let Destination::Lookup(name, port) = server.destination() {
            return Ok(Hop::Name(Sought { name, port, over: self.any_transport(transport) }));
        }
        let dials =
            server.addresses.iter().map(|(address, port)| self.dial(transport, *address, *port, phone));
        Ok(Hop::Switch(dials.collect()))
    }

    fn is_server(&self, address: std::net::IpAddr) -> bool {
        self.config.servers.iter().any(|s| s.addresses.iter().any(|(a, _)| *a == address))
    }

    /// A name that a running dialog has an address for needs no look-up.
    fn known_address(&self, hop: Hop, dialog: Option<&DialogKey>) -> Hop {
        let Hop::Name(_) = &hop else { return hop };
        match dialog.and_then(|key| self.dialogs.get(key)).and_then(|dialog| dialog.switch) {
            Some(dial) => Hop::Switch([dial].into()),
            None => hop,
        }
    }
}

/// Whether a phone that was at `path` and sends from `source` now has another port at its NAT (datagrams only: a stream
/// says when it ends).
fn is_rebound(path: Option<Source>, source: Source) -> bool {
    match (path, source) {
        (Some(Source::Datagram { listener: before, .. }), Source::Datagram { listener: now, .. }) => {
            before == now && path != Some(source)
        }
        _ => false,
    }
}

/// A way in words.
fn described(hop: &Hop) -> String {
    match hop {
        Hop::Switch(dials) => {
            let dials: Vec<_> =
                dials.iter().map(|d| format!("{} {}", d.transport.via_token(), d.remote)).collect();
            dials.join(", then ")
        }
        Hop::Name(sought) => format!("look up {}", sought.name),
        _ => "a phone".to_owned(),
    }
}
