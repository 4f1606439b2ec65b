//! A phone's address towards the PBX, written and read: [`UriEncoding`] with what the bindings and keys know.

use std::borrow::Cow;
use std::time::Instant;

use super::Edge;
use super::bindings::{Binding, Record};
use super::event::{Event, Lack};
use super::exchange::Incoming;
use super::interop::UriEncoding;
use super::seals::Seal;
use super::uri_codec::encoding::{Form, HANDLE, SEALED, escaped, sealed_name, unescaped, unsealed_name};
use super::uri_codec::{CONTACT_TOKEN, GRUU, host_of, is_secure, own_uri};
use crate::flow::Side;
use crate::header::{Address, Contact};
use crate::message::Message;
use crate::token::{InstanceId, token_instance, token_key};
use crate::uri::Uri;

/// What an address says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<'u> {
    /// A phone, and the user that stands for it.
    Phone(InstanceId, Option<Cow<'u, [u8]>>),
    /// An address as we would write it, and nobody's: forged, or of a phone that is forgotten.
    Nobody,
    /// Not an address that names a phone.
    Nothing,
}

impl Edge {
    /// The phone's address towards the PBX for a Contact of its own.
    pub(super) fn contact_uri(&self, record: Option<&Record>, uri: &Uri<'_>) -> Vec<u8> {
        let (face, secure, user) = (&self.config.inside, is_secure(uri), uri.user());
        let Some(record) = record else { return own_uri(face, secure, user, &[]) };
        let param = |name| record.contact_token.as_deref().map(|token| (name, token));
        match self.config.interop.contacts.uri_encoding {
            UriEncoding::KeepUsername => own_uri(face, secure, user, param(CONTACT_TOKEN).as_slice()),
            UriEncoding::Gruu => own_uri(face, secure, user, param(GRUU).as_slice()),
            UriEncoding::Escape => {
                let origin = record.address.as_ref().map_or("", |address| &address.origin);
                let text = if origin.is_empty() { None } else { Some(escaped(user, origin)) };
                own_uri(face, secure, text.as_deref().or(user), param(CONTACT_TOKEN).as_slice())
            }
            UriEncoding::AlwaysEncrypt => {
                let born = token_key(&record.flow_tokens[1]);
                match self.sealed_address(born, &sealed_name(InstanceId(record.id), user)) {
                    Some(sealed) => own_uri(face, secure, Some(&[SEALED, sealed.as_bytes()].concat()), &[]),
                    // A user of more than a thousand octets: better found by its token than not at all.
                    None => own_uri(face, secure, user, param(CONTACT_TOKEN).as_slice()),
                }
            }
            UriEncoding::Shorter => {
                let handle = record.address.as_ref().and_then(|address| address.handle_of(user));
                match handle {
                    Some(handle) => own_uri(face, secure, Some(&[HANDLE, handle.as_bytes()].concat()), &[]),
                    None => own_uri(face, secure, user, param(CONTACT_TOKEN).as_slice()),
                }
            }
        }
    }

    /// The address for a Contact in anything but a REGISTER: with `sip.uri_encoding_use_registration` the one that is
    /// registered, byte for byte (SIP-20).
    pub(super) fn further_contact_uri(&self, binding: Option<&Binding>, uri: &Uri<'_>) -> Vec<u8> {
        let record = binding.map(|binding| &binding.record);
        if self.config.interop.contacts.use_registration
            && let Some(binding) = binding.filter(|binding| binding.registered)
            && let Ok(registered) = Uri::parse(binding.record.contact.as_bytes())
        {
            return self.registered_uri(&binding.record, &registered, Some(&binding.record.user));
        }
        self.contact_uri(record, uri)
    }

    /// Says that a phone's Contact can't be the registered one.
    pub(super) fn lacks_registration(&mut self, incoming: &Incoming, id: InstanceId) {
        if self.config.interop.contacts.use_registration
            && incoming.message.header::<Contact>().is_some()
            && !self.bindings.get(id).is_some_and(|binding| binding.registered)
        {
            let phone = self.phone(id);
            self.tell(Event::Lacking { phone, lack: Lack::Registration });
        }
    }

    /// Which phone an address of ours names, whatever form it has. A token is compared in constant time.
    pub(super) fn named_by<'u>(&self, uri: &Uri<'u>) -> Named<'u> {
        if !uri.is_sip() || !self.is_own(&host_of(uri)) {
            return Named::Nothing;
        }
        if let Some(token) = uri.param(CONTACT_TOKEN).or_else(|| uri.param(GRUU)) {
            let Some(binding) = self.bindings.by_contact_token(token) else { return Named::Nobody };
            return Named::Phone(binding.id, plain_user(binding, uri.user()));
        }
        let found = match Form::of(uri.user()) {
            Form::Plain => return Named::Nothing,
            Form::Sealed(sealed) => self.opened(Seal::Address, sealed).and_then(|text| {
                let (id, user) = unsealed_name(&text)?;
                Some((self.bindings.get(id)?.id, user.map(|user| user.to_vec().into())))
            }),
            Form::Handle(handle) => {
                self.bindings.by_handle(handle).map(|(id, user)| (id, user.map(Cow::Owned)))
            }
        };
        match found {
            Some((id, user)) => Named::Phone(id, user),
            // A user may be called so where addresses have another form.
            None if self.encodes_users() => Named::Nobody,
            None => Named::Nothing,
        }
    }

    fn encodes_users(&self) -> bool {
        matches!(self.config.interop.contacts.uri_encoding, UriEncoding::AlwaysEncrypt | UriEncoding::Shorter)
    }

    /// Whether an address has a form that names a phone towards the PBX: to be hidden from phones, and not to be used
    /// by them.
    pub(super) fn has_phone_form(&self, uri: &Uri<'_>) -> bool {
        uri.is_sip()
            && self.is_own(&host_of(uri))
            && (uri.param(CONTACT_TOKEN).is_some()
                || uri.param(GRUU).is_some_and(|token| token_instance(token).is_some())
                || (Form::of(uri.user()) != Form::Plain && self.named_by(uri) != Named::Nothing))
    }

    /// Whether a phone's address can't be told from its user: such a one is passed on as the PBX gave it (a Refer-To), since
    /// its user at the PBX's own host would mean nobody.
    pub(super) fn is_whole(&self, uri: &Uri<'_>) -> bool {
        match self.named_by(uri) {
            Named::Phone(_, user) => user.as_deref() != uri.user(),
            Named::Nobody | Named::Nothing => false,
        }
    }

    /// Gives a phone handles for the Contacts of a message of its own, where addresses are handles.
    pub(super) fn hand_out(&mut self, now: Instant, id: InstanceId, message: &Message) {
        if self.config.interop.contacts.uri_encoding != UriEncoding::Shorter {
            return;
        }
        for contact in message.headers::<Contact>().flatten() {
            let Ok(uri) = contact.uri() else { continue };
            let lacks =
                |b: &Binding| b.record.address.as_ref().is_none_or(|a| a.handle_of(uri.user()).is_none());
            if uri.is_sip() && self.bindings.get(id).is_some_and(lacks) {
                let handle = self.random.handle();
                self.bindings.add_handle(now, id, uri.user(), handle);
            }
        }
    }

    /// Puts into a record what the addresses of these Contacts are made of.
    pub(super) fn name_contacts(&mut self, record: &mut Record, contacts: &[Address<'_>]) {
        let encoding = self.config.interop.contacts.uri_encoding;
        if record.contact_token.is_none() {
            record.contact_token = self.named_token(InstanceId(record.id));
        }
        let uris = contacts.iter().filter_map(|contact| contact.uri().ok()).filter(Uri::is_sip);
        match encoding {
            UriEncoding::Escape => {
                let address = record.address.get_or_insert_default();
                if let Some(uri) = uris.into_iter().next().filter(|_| address.origin.is_empty()) {
                    address.origin = super::uri_codec::authority_of(&uri);
                }
            }
            UriEncoding::Shorter => {
                let address = record.address.get_or_insert_default();
                for uri in uris {
                    if address.handle_of(uri.user()).is_none() {
                        let handle = self.random.handle();
                        address.add_handle(&record.user, uri.user(), handle);
                    }
                }
            }
            UriEncoding::AlwaysEncrypt | UriEncoding::KeepUsername | UriEncoding::Gruu => {}
        }
    }

    /// The token of a phone without a tag, in the forms that need one.
    pub(super) fn named_token(&self, id: InstanceId) -> Option<String> {
        let encoding = self.config.interop.contacts.uri_encoding;
        encoding.names_everybody().then(|| self.keys.name_token(id))
    }

    /// The flow tokens of a binding, by the key it was born with.
    pub(super) fn flow_tokens(
        &self,
        born: Option<u8>,
        id: InstanceId,
        certificate: &[u8; 32],
    ) -> [String; 2] {
        [Side::Outside, Side::Inside].map(|side| self.keys.flow_token(born, id, certificate, side))
    }
}

/// The user of an address with a token, taken out of the escaped form if it has that.
fn plain_user<'u>(binding: &Binding, user: Option<&'u [u8]>) -> Option<Cow<'u, [u8]>> {
    let origin = binding.record.address.as_ref().map_or("", |address| &address.origin);
    if !origin.is_empty()
        && let Ok(user) = unescaped(user?, origin)
    {
        return user.map(Cow::Borrowed);
    }
    user.map(Cow::Borrowed)
}
