//! What changes in a message on its way across: the addresses, the hops, and what must not cross at all.

use std::sync::Arc;

use bytes::Bytes;

use super::Edge;
use super::config::Face;
use super::exchange::{Exchange, Hop, Incoming, Way};
use super::referral::without_blanks;
use super::register::Registration;
use super::seals::Seal;
use super::uri_codec::{FLOW_TOKEN, SEALED_CONTACT, SEALED_ROUTES, host_of, is_secure, own_uri, readdress};
use crate::flow::{Side, Transport};
use crate::grammar::push_number;
use crate::header::{Address, Contact, MaxBreadth, MaxForwards, RecordRoute, Via};
use crate::message::{Edit, EditError, Limits, Message, Method, Name, Row};
use crate::token::InstanceId;
use crate::uri::Uri;

/// An inside address or route set that is too long to be hidden: better unsaid than shown (SIP-64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an inside address is too long to be hidden")]
pub(super) struct TooLong;

/// Why a message does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl WriteError {
    /// The status and phrase for whoever sent the request.
    pub(super) fn status(self) -> (u16, &'static str) {
        match self {
            Self::TooLong(TooLong) => (513, "Message Too Large"),
            Self::Edit(error) if error.status() == 400 => (400, "Bad Request (not forwardable)"),
            Self::Edit(_) => (500, "Server Internal Error"),
        }
    }
}

impl Edge {
    /// The request as it leaves on one branch (RFC 3261 §16.6): its name, and how many run at once.
    pub(super) fn write_request(
        &self,
        incoming: &Incoming,
        way: &Way,
        branch: (&str, usize),
        body: Option<&Bytes>,
        registration: Option<&Registration>,
    ) -> Result<Bytes, WriteError> {
        let (branch, width) = branch;
        if let Hop::Shard(_) = way.hop {
            return self.write_across(incoming, way, branch, width);
        }
        let message = &incoming.message;
        let mut edit = message.edit();
        if let Some(uri) = &way.request_uri {
            edit.set_request_uri(uri);
        }
        if self.config.interop.headers.unescape_ws
            && let Some(uri) = way.request_uri.as_deref().or_else(|| message.request_uri())
            && let Some(uri) = without_blanks(uri)
        {
            edit.set_request_uri(&uri);
        }
        self.set_hops(message, &mut edit);
        self.set_breadth(message, width, &mut edit);
        self.set_expires(message, &mut edit);
        match way.hop.side() {
            Side::Inside => self.towards_inside(incoming, way, branch, registration, &mut edit),
            Side::Outside => self.towards_phone(message, way, branch, &mut edit)?,
        }
        if let Some(body) = body {
            edit.set_body(body);
            if body.is_empty() {
                edit.remove(Name::ContentType);
            }
        }
        if self.config.interop.headers.pretend_privacy {
            edit.remove(Name::ProxyRequire);
        }
        if !self.config.filters.header_rules.is_empty() {
            self.manipulate(message, way.hop.remote().map(|remote| remote.ip()), &mut edit);
        }
        Ok(edit.to_bytes()?)
    }

    /// SAM-35: lower what is higher, add what is missing, then one less.
    fn set_hops(&self, message: &Message, edit: &mut Edit<'_>) {
        let limit = self.config.max_forwards;
        let hops = match message.header::<MaxForwards>() {
            Some(Ok(hops)) => hops.min(limit).saturating_sub(1),
            _ => limit,
        };
        edit.set_max_forwards(hops);
    }

    /// RFC 5393 §5.3.3: how often whoever comes next may fork. What came is shared among our branches; what has no number
    /// gets one. In a dialog nothing forks, and nothing is added.
    pub(super) fn set_breadth(&self, message: &Message, width: usize, edit: &mut Edit<'_>) {
        let most = u32::try_from(self.config.limits.breadth).unwrap_or(u32::MAX);
        let said = message.header::<MaxBreadth>().and_then(Result::ok);
        let total = match said {
            Some(said) => said.min(most),
            None if has_to_tag(message) => return,
            None => most,
        };
        let share = (total / u32::try_from(width).unwrap_or(u32::MAX).max(1)).max(1);
        if said != Some(share) {
            let mut digits = Vec::with_capacity(4);
            push_number(&mut digits, share);
            match said {
                Some(_) => edit.set_header(Name::MaxBreadth, &digits),
                None => edit.push_front(Name::MaxBreadth, &digits),
            }
        }
    }

    fn towards_inside(
        &self,
        incoming: &Incoming,
        way: &Way,
        branch: &str,
        registration: Option<&Registration>,
        edit: &mut Edit<'_>,
    ) {
        let message = &incoming.message;
        let face = self.config.face_at(&way.hop);
        let switch = way.hop.remote();
        if self.removes_vias(switch) {
            edit.replace_values(Name::Via, &[self.via(&way.hop, branch)]);
        } else {
            edit.replace_top_via(&stamped(incoming));
            edit.push_via(&self.via(&way.hop, branch));
        }
        if let Some(to) = self.followed_to(message, way) {
            edit.set_header(Name::To, &to);
        }
        remove_untrusted(message, edit);
        self.consume_credentials(incoming, edit);
        if let Some(past) = &way.past {
            past.write(edit);
        }
        edit.remove(Name::RecordRoute);
        if way.routes.is_empty() {
            edit.remove(Name::Route);
        } else {
            edit.replace_values(Name::Route, &way.routes);
        }
        match registration {
            Some(registration) => {
                let contacts: Vec<&[u8]> = registration.contacts.iter().map(|sent| &sent.value[..]).collect();
                edit.replace_values(Name::Contact, &contacts);
                self.add_expires(message, &contacts, edit);
                if self.config.interop.contacts.add_path && !registration.without_path {
                    edit.push_front(Name::Path, &path(face, self.lr(), &registration.record.flow_tokens[1]));
                }
            }
            None => {
                self.encode_contacts(message, way.phone, edit);
            }
        }
        if registration.is_none() && self.stays(message, Side::Inside) && !self.hides_record_route(switch) {
            edit.push_front(
                Name::RecordRoute,
                &self.record_route(Side::Inside, face, way.phone, message, None),
            );
        }
        self.refer_inside(message, way.phone, edit);
    }

    fn towards_phone(
        &self,
        message: &Message,
        way: &Way,
        branch: &str,
        edit: &mut Edit<'_>,
    ) -> Result<(), TooLong> {
        // Vias, Record-Routes and Contacts of the inside stay inside (SIP-64); answers get them back.
        let face = self.config.face_at(&way.hop);
        edit.replace_values(Name::Via, &self.vias_for_phone(message, self.via(&way.hop, branch)));
        edit.remove(Name::Route);
        let routes: Vec<&[u8]> = message.headers::<RecordRoute>().flatten().map(|r| r.raw()).collect();
        if self.stays(message, Side::Outside) {
            let sealed = self.sealed_routes(&routes)?;
            let own = self.record_route(Side::Outside, face, way.phone, message, sealed.as_deref());
            edit.replace_values(Name::RecordRoute, &[own]);
        } else if !routes.is_empty() {
            edit.remove(Name::RecordRoute);
        }
        self.hide_contacts(face, message, edit)?;
        self.hide_names(face, message, edit);
        self.refer_outside(face, message, edit)
    }

    /// Our Via: sent-by is our address as whoever gets it knows it.
    pub(super) fn via(&self, hop: &Hop, branch: &str) -> Vec<u8> {
        let side = hop.side();
        let transport = hop.transport();
        let face = self.config.face_at(hop);
        let params = match (transport, side) {
            (Transport::Udp, _) => ";rport",
            // A switch may send its requests over the connection that we made (RFC 5923).
            (_, Side::Inside) => ";rport;alias",
            (_, Side::Outside) => "",
        };
        let parts = ["SIP/2.0/", transport.via_token(), " ", &face.authority(), ";branch=", branch, params];
        parts.concat().into_bytes()
    }

    /// The rest of the route set, for a phone; `None` when there is none.
    fn sealed_routes(&self, routes: &[&[u8]]) -> Result<Option<Arc<str>>, TooLong> {
        if routes.is_empty() {
            return Ok(None);
        }
        self.sealed(Seal::Routes, &routes.join(&b'\n')).map(Some).ok_or(TooLong)
    }

    /// Our Record-Route entry on one side, with the flow token for that side. Towards phones it hides the rest of the
    /// route set: one entry a side, instead of the two of RFC 5658, so that no inside address is shown.
    fn record_route(
        &self,
        side: Side,
        face: &Face,
        phone: InstanceId,
        message: &Message,
        sealed: Option<&str>,
    ) -> Vec<u8> {
        let secure =
            message.request_uri().and_then(|uri| Uri::parse(uri).ok()).is_some_and(|uri| is_secure(&uri));
        let token = self.bindings.get(phone).map_or("", |binding| binding.flow_token(side));
        let mut params = vec![("lr", self.lr()), (FLOW_TOKEN, token)];
        if let Some(sealed) = sealed {
            params.push((SEALED_ROUTES, sealed));
        }
        bracketed(&own_uri(face, secure, None, &params))
    }

    /// The phone's Contacts towards the PBX: its address at our host (§1.1 step 9).
    fn encode_contacts(&self, message: &Message, phone: InstanceId, edit: &mut Edit<'_>) {
        let binding = self.bindings.get(phone);
        map_contacts(message, edit, |contact| {
            let stays = |uri: &Uri<'_>| self.is_passed_gruu(uri) || self.is_excepted(uri);
            let uri = contact.uri().ok().filter(|uri| uri.is_sip() && !stays(uri))?;
            Some(readdress(contact, &self.further_contact_uri(binding, &uri)))
        });
    }

    /// The PBX's Contacts towards a phone: user kept, our host, the rest sealed.
    fn hide_contacts(&self, face: &Face, message: &Message, edit: &mut Edit<'_>) -> Result<(), TooLong> {
        let mut fits = Ok(());
        map_contacts(message, edit, |contact| match self.hidden(face, &contact.uri().ok()?) {
            Ok(hidden) => Some(readdress(contact, &hidden?)),
            Err(too_long) => {
                fits = Err(too_long);
                None
            }
        });
        fits
    }

    /// `user@us;pc=SEALED` for an inside URI; `None` when it is none.
    pub(super) fn hidden(&self, face: &Face, uri: &Uri<'_>) -> Result<Option<Vec<u8>>, TooLong> {
        if !uri.is_sip() || self.is_excepted(uri) {
            return Ok(None);
        }
        let (plain, headers) = split_headers(uri);
        let sealed = self.sealed_contact(plain, || self.is_place(uri)).ok_or(TooLong)?;
        let mut text = own_uri(face, is_secure(uri), uri.user(), &[(SEALED_CONTACT, &sealed)]);
        // It comes back as a Request-URI.
        if text.len() > Limits::default().uri {
            return Err(TooLong);
        }
        text.extend_from_slice(headers);
        Ok(Some(text))
    }

    /// The inside URI behind one of ours that a phone gives back, with its `?headers` kept (SIP-42).
    pub(super) fn unhidden(&self, uri: &Uri<'_>) -> Option<Vec<u8>> {
        if !uri.is_sip() || !self.is_own(&host_of(uri)) {
            return None;
        }
        let (mut text, _) = self.opened_contact(uri.param(SEALED_CONTACT)?)?;
        text.extend_from_slice(split_headers(uri).1);
        Some(text)
    }

    /// A response as it leaves to whoever asked: the hops of the request, and the addresses of that side.
    pub(super) fn write_response(
        &self,
        exchange: &Exchange,
        branch: usize,
        message: &Message,
        body: Option<&[u8]>,
    ) -> Result<Bytes, WriteError> {
        let mut edit = message.edit();
        let incoming = &exchange.incoming;
        edit.replace_values(Name::Via, &vias(incoming));
        let phone = exchange.branches.get(branch).map_or(exchange.phone, |b| b.way.phone);
        match incoming.peer.side {
            Side::Outside => self.answer_to_phone(exchange, branch, phone, message, &mut edit)?,
            Side::Inside => self.answer_to_switch(exchange, phone, message, &mut edit),
        }
        match body {
            Some([]) => {
                edit.set_body(b"");
                edit.remove(Name::ContentType);
            }
            Some(body) => edit.set_body(body),
            None => {}
        }
        self.finish_answer(exchange, message, &mut edit);
        Ok(edit.to_bytes()?)
    }

    /// What switches and rules change in an answer, last of all.
    fn finish_answer(&self, exchange: &Exchange, message: &Message, edit: &mut Edit<'_>) {
        let status = message.status().unwrap_or_default();
        if let Some((status, phrase)) = self.shown_status(status) {
            edit.set_status(status, phrase);
        }
        // SIP-57. A reliable 180 keeps what its PRACK needs (RFC 3262 §4).
        if status == 180 && self.config.interop.answers.strip_180 && message.raw(Name::RSeq).is_none() {
            edit.remove(Name::Contact);
            edit.remove(Name::RecordRoute);
        }
        if !self.config.filters.header_rules.is_empty() {
            self.manipulate(message, Some(exchange.incoming.peer.remote.ip()), edit);
        }
    }

    fn answer_to_phone(
        &self,
        exchange: &Exchange,
        branch: usize,
        phone: InstanceId,
        message: &Message,
        edit: &mut Edit<'_>,
    ) -> Result<(), TooLong> {
        let status = message.status().unwrap_or_default();
        if let Some(to) = self.restored_to(exchange, branch, message) {
            edit.set_header(Name::To, &to);
        }
        let face = self.config.face_of(&exchange.incoming.peer);
        self.hide_names(face, message, edit);
        if let Some(registration) = &exchange.registration {
            edit.remove(Name::Path);
            edit.remove(Name::ServiceRoute);
            // A 3xx names another switch: untouched, or re-homing breaks (§1.1 step 7).
            if (200..300).contains(&status) {
                let mut contacts = self.restored_contacts(registration, message);
                self.shorten(exchange, registration, message, &mut contacts, edit);
                edit.replace_values(Name::Contact, &contacts);
                self.add_expires(message, &contacts, edit);
            }
            return Ok(());
        }
        let routes: Vec<Address<'_>> = message.headers::<RecordRoute>().flatten().collect();
        let switch = exchange.branches.get(branch).and_then(|b| b.way.hop.remote());
        let hidden = exchange.recorded && (101..300).contains(&status) && self.hides_record_route(switch);
        if !routes.is_empty() || hidden {
            edit.remove(Name::RecordRoute);
            if exchange.recorded {
                let further = self.sealed_routes(&self.after_us(&routes))?;
                let request = &exchange.incoming.message;
                let entry = self.record_route(Side::Outside, face, phone, request, further.as_deref());
                edit.replace_values(Name::RecordRoute, &[entry]);
            }
        }
        self.hide_contacts(face, message, edit)
    }

    /// What stands above our entry came after us: the further route set of whoever asked, in reverse (RFC 3261 §12.1.2).
    /// Ours is the last that is our own, since a phone's Record-Routes stay outside; one above it is ours from a spiral.
    pub(super) fn after_us<'m>(&self, routes: &[Address<'m>]) -> Vec<&'m [u8]> {
        let own = |r: &Address<'_>| r.uri().is_ok_and(|uri| self.is_own(&host_of(&uri)));
        let upto = routes.iter().rposition(own).unwrap_or(routes.len());
        routes.iter().take(upto).map(|r| r.raw()).rev().collect()
    }

    fn answer_to_switch(
        &self,
        exchange: &Exchange,
        phone: InstanceId,
        message: &Message,
        edit: &mut Edit<'_>,
    ) {
        let status = message.status().unwrap_or_default();
        remove_untrusted(message, edit);
        let request = &exchange.incoming.message;
        if exchange.recorded && (101..300).contains(&status) {
            let face = self.config.face_of(&exchange.incoming.peer);
            let mut routes = Vec::new();
            if !self.hides_record_route(Some(exchange.incoming.peer.remote)) {
                routes.push(self.record_route(Side::Inside, face, phone, request, None));
            }
            routes.extend(request.headers::<RecordRoute>().flatten().map(|r| r.raw().to_vec()));
            edit.replace_values(Name::RecordRoute, &routes);
        } else {
            edit.remove(Name::RecordRoute);
        }
        if (300..400).contains(&status) {
            // Where a phone redirects to is somebody else.
            map_contacts(message, edit, |contact| {
                let uri = contact.uri().ok()?;
                Some(readdress(contact, &self.unhidden(&uri)?))
            });
        } else {
            self.encode_contacts(message, phone, edit);
        }
    }
}

/// Our Path (RFC 3327) with the flow token and `ob` (RFC 5626 §5).
fn path(face: &Face, lr: &str, token: &str) -> Vec<u8> {
    bracketed(&own_uri(face, true, None, &[("lr", lr), ("ob", ""), (FLOW_TOKEN, token)]))
}

fn map_contacts(
    message: &Message,
    edit: &mut Edit<'_>,
    mut map: impl FnMut(&Address<'_>) -> Option<Vec<u8>>,
) {
    let contacts: Vec<Vec<u8>> = message
        .headers::<Contact>()
        .flatten()
        .map(|contact| map(&contact).unwrap_or_else(|| contact.raw().to_vec()))
        .collect();
    if !contacts.is_empty() {
        edit.replace_values(Name::Contact, &contacts);
    }
}

/// Methods whose requests make dialogs (RFC 3261 §12, RFC 6665, RFC 3515).
pub(super) fn records(method: Method<'_>) -> bool {
    matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
}

pub(super) fn has_to_tag(message: &Message) -> bool {
    matches!(message.header::<crate::header::To>(), Some(Ok(to)) if to.tag().is_some())
}

fn bracketed(uri: &[u8]) -> Vec<u8> {
    [b"<", uri, b">"].concat()
}

/// URI and `?headers`.
fn split_headers<'u>(uri: &Uri<'u>) -> (&'u [u8], &'u [u8]) {
    let headers = uri.headers().map_or(0, |headers| headers.len() + 1);
    uri.raw().split_at(uri.raw().len().saturating_sub(headers))
}

/// The top Via with `received` and `rport` (RFC 3261 §18.2.1, RFC 3581 §4).
pub(super) fn stamped(incoming: &Incoming) -> Vec<u8> {
    match incoming.message.header::<Via>() {
        Some(Ok(via)) => via.stamped(incoming.peer.remote),
        _ => Vec::new(),
    }
}

/// The Vias of a request as its answers carry them.
pub(super) fn vias(incoming: &Incoming) -> Vec<Vec<u8>> {
    let rest = incoming.message.headers::<Via>().flatten().skip(1).map(|via| via.raw().to_vec());
    std::iter::once(stamped(incoming)).chain(rest).collect()
}

/// S11: what asserts something that only the inside may assert, whatever its spelling.
fn remove_untrusted(message: &Message, edit: &mut Edit<'_>) {
    for row in message.rows().filter(asserts) {
        if row.name == Name::Other {
            edit.remove(row.name_bytes);
        } else {
            edit.remove(row.name);
        }
    }
}

fn asserts(row: &Row<'_>) -> bool {
    match row.name {
        Name::PAssertedIdentity
        | Name::PPreferredIdentity
        | Name::RemotePartyId
        | Name::Identity
        | Name::HistoryInfo
        | Name::Diversion
        | Name::Path
        | Name::ServiceRoute => true,
        Name::Other => {
            let name = row.name_bytes;
            name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"P-"))
                || name.eq_ignore_ascii_case(b"Identity-Info")
        }
        _ => false,
    }
}
