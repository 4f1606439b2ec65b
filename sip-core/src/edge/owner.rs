//! Whose a tag is: one certificate's, until its phone is gone.

use std::time::{Duration, Instant};

use super::config::CertBinding;
use super::event::{Event, Reason};
use super::exchange::{Incoming, Refusal};
use super::{Edge, Errand, Probe};
use crate::flow::{Peer, Source, Transport};
use crate::header::Contact;
use crate::message::Name;
use crate::token::{InstanceId, LoopHash};
use crate::ua::{Request, SentBy};

/// How long the connection of a phone has to show that it lives when another certificate claims its tag.
const PROBE: Duration = Duration::from_secs(2);
/// Phones that are asked so at a time.
const PROBES: usize = 1000;

impl Edge {
    /// Ownership of a tag, and whether the certificate names it.
    pub(super) fn check_owner(
        &mut self,
        incoming: &Incoming,
        id: InstanceId,
        tag: Option<&str>,
    ) -> Result<(), Refusal> {
        let certificate = incoming.certificate();
        let limits = &self.config.limits;
        let known = self.bindings.get(id).filter(|b| b.registered);
        if known.is_none() {
            if self.bindings.len() >= limits.bindings {
                return Err(self.busy(incoming, "Too Many Registrations", Reason::Limit("bindings")));
            }
            let others =
                self.bindings.of_certificate(&certificate).iter().filter(|other| **other != id).count();
            let (most, limit) = limits.bindings_of(&certificate);
            if others >= most {
                return Err(Refusal::forbidden(Reason::Limit(limit)));
            }
        }
        let Some(tag) = tag else { return Ok(()) };
        let rule = self.config.interop.contacts.tag_routing.cert_binding;
        let named = names_tag(&incoming.peer, tag);
        let other = known.filter(|b| b.record.certificate != certificate);
        let alive = other.is_some_and(|b| b.is_connected());
        // Another certificate may take a tag over only from a phone that is gone (a phone changes from its factory
        // certificate to the PBX's), and only if it names the tag, or where the rule only reports.
        let stolen = other.is_some() && (alive || !(named || rule != CertBinding::Enforce));
        let unnamed = !named && rule == CertBinding::Enforce;
        let takeover = other.is_some();
        if takeover || (!named && rule != CertBinding::Off) {
            let mut phone = self.phone(id);
            phone.tag = Some(tag.to_owned());
            let accepted = !stolen && !unnamed;
            let identity = incoming.peer.identity.clone();
            // Every refresh of a phone with a generic certificate would say the same again.
            if takeover || known.is_none() || !accepted {
                self.tell(Event::Mismatch { phone, identity, takeover, accepted });
            }
        }
        if stolen || unnamed {
            let mut phone = self.phone(id);
            phone.tag = Some(tag.to_owned());
            return Err(Refusal::forbidden(Reason::Ownership).about(phone));
        }
        Ok(())
    }

    /// A REGISTER for the tag of a phone that is connected with another certificate, and that could be that phone after a
    /// change of certificate and a power loss: whom to ask first.
    pub(super) fn contested(&self, incoming: &Incoming) -> Option<InstanceId> {
        let routing = &self.config.interop.contacts.tag_routing;
        let pattern = routing.pattern.as_ref().filter(|_| routing.enabled)?;
        // A phone that speaks for itself on its own connection: the usual case, without a search and a digest.
        let contact = incoming.message.raw(Name::Contact)?;
        let is_its_own = |id: &InstanceId| {
            let own = self.bindings.get(*id).filter(|b| b.registered).map(|b| &b.record);
            own.filter(|own| own.certificate == incoming.certificate())
                .and_then(|own| own.tag.as_deref())
                .is_some_and(|tag| memchr::memmem::find(contact, tag.as_bytes()).is_some())
        };
        if let [only] = self.bindings.of_path(&incoming.source)
            && is_its_own(only)
        {
            return None;
        }
        let tag =
            incoming.message.headers::<Contact>().flatten().find_map(|contact| pattern.tag(contact.raw()))?;
        let id = InstanceId::new(&self.config.realm, &tag);
        let owner = self.bindings.get(id).filter(|b| b.registered && b.is_connected())?;
        let claims = owner.record.certificate != incoming.certificate()
            && (routing.cert_binding != CertBinding::Enforce || names_tag(&incoming.peer, &tag));
        let mut asked = self.errands.purposes().filter_map(|errand| match errand {
            Errand::Owner(probe) => Some(probe.phone),
            Errand::Switch(_) => None,
        });
        let asked = self.errands.len() >= PROBES || asked.any(|phone| phone == id);
        (claims && !asked).then_some(id)
    }

    /// Asks the phone on the old connection whether it is there.
    pub(super) fn probe(&mut self, now: Instant, incoming: Incoming, hash: LoopHash, phone: InstanceId) {
        let Some(binding) = self.bindings.get(phone) else { return };
        // At another shard the question crosses, and so does the answer: by the branch.
        let Some(path) = binding.path.or(binding.away) else { return };
        let over = binding.peer.as_ref().map_or(Transport::Tls, |peer| peer.transport);
        let face = binding.peer.as_ref().map_or(&self.config.outside, |peer| self.config.face_of(peer));
        let us = SentBy::new(over, face.authority());
        let request = Request::new("OPTIONS", &binding.record.contact, &us, path.into(), &mut self.random)
            .from(format!("{}:{}", face.scheme(), face.authority()))
            .patience(PROBE);
        let probe = Errand::Owner(Box::new(Probe { incoming, hash, phone }));
        self.errands.send(now, &mut self.layer, &mut self.random, request, probe);
    }

    /// The phone answered, or not: the tag stays with it, or goes over.
    pub(super) fn probed(&mut self, now: Instant, probe: Probe, lives: bool) {
        if lives {
            let phone = self.phone(probe.phone);
            let identity = probe.incoming.peer.identity.clone();
            let refusal = Refusal::forbidden(Reason::Ownership).about(phone.clone());
            self.tell(Event::Mismatch { phone, identity, takeover: true, accepted: false });
            return self.refuse(now, &probe.incoming, &refusal);
        }
        // Whoever claims it must still be there, and still be alone in doing so.
        let old = self.bindings.get(probe.phone).and_then(|b| b.path).and_then(|path| path.flow());
        self.bindings.detach(probe.phone);
        if let Some(flow) = old.filter(|flow| self.bindings.of_path(&Source::Flow(*flow)).is_empty()) {
            self.closes.push_back(flow);
        }
        let phone = self.phone(probe.phone);
        self.tell(Event::PhoneLost { phone });
        self.dispatch(now, probe.incoming, probe.hash);
    }
}

/// Whether the certificate's CN or SAN contains the tag, however a MAC address is punctuated there.
fn names_tag(peer: &Peer, tag: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
    };
    let Some(identity) = &peer.identity else { return false };
    let tag = plain(tag);
    !tag.is_empty() && identity.names.iter().any(|name| plain(name).contains(&tag))
}
