//! Whose a tag is: one certificate's, until its phone is gone.

use std::time::{Duration, Instant};

use super::config::CertBinding;
use super::event::{Event, Reason};
use super::exchange::{Hop, Incoming, Refusal};
use super::{Edge, Probe};
use crate::flow::{Peer, Source};
use crate::header::Contact;
use crate::message::{Method, Name, RequestBuilder};
use crate::token::{InstanceId, LoopHash};
use crate::transaction::ClientKey;

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
        let rule = self.config.tag_routing.cert_binding;
        let named = names_tag(&incoming.peer, tag);
        let other = known.filter(|b| b.record.certificate != certificate);
        let alive = other.is_some_and(|b| b.path.is_some());
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
            return Err(Refusal::forbidden(Reason::Ownership));
        }
        Ok(())
    }

    /// A REGISTER for the tag of a phone that is connected with another certificate, and that could be that phone after a
    /// change of certificate and a power loss: whom to ask first.
    pub(super) fn contested(&self, incoming: &Incoming) -> Option<InstanceId> {
        let routing = &self.config.tag_routing;
        let pattern = routing.pattern.as_ref().filter(|_| routing.enabled)?;
        let tag =
            incoming.message.headers::<Contact>().flatten().find_map(|contact| pattern.tag(contact.raw()))?;
        let id = InstanceId::new(&self.config.realm, &tag);
        let owner = self.bindings.get(id).filter(|b| b.registered && b.path.is_some())?;
        let claims = owner.record.certificate != incoming.certificate()
            && (routing.cert_binding != CertBinding::Enforce || names_tag(&incoming.peer, &tag));
        let asked = self.probes.len() >= PROBES || self.probes.values().any(|probe| probe.phone == id);
        (claims && !asked).then_some(id)
    }

    /// Asks the phone on the old connection whether it is there.
    pub(super) fn probe(&mut self, now: Instant, incoming: Incoming, hash: LoopHash, phone: InstanceId) {
        let Some(binding) = self.bindings.get(phone) else { return };
        let Some((path, peer)) = binding.path.zip(binding.peer.clone()) else { return };
        let contact = binding.record.contact.clone();
        let branch = self.random.branch(hash);
        let (tag, call) = (self.random.tag(), self.random.tag());
        let face = self.config.face_of(&peer);
        let us = format!("<{}:{}>", face.scheme(), face.authority());
        let request = RequestBuilder::new("OPTIONS", contact.as_bytes())
            .header(Name::Via, &self.via(&Hop::Phone(path, peer), &branch))
            .header(Name::MaxForwards, b"70")
            .header(Name::From, format!("{us};tag={tag}").as_bytes())
            .header(Name::To, format!("<{contact}>").as_bytes())
            .header(Name::CallId, call.as_bytes())
            .header(Name::CSeq, b"1 OPTIONS")
            .build();
        let client = self.layer.request(now, path.into(), &branch, Method::Options, request);
        let deadline = now + PROBE;
        self.probes.insert(client, Probe { incoming, hash, phone, deadline });
        self.probe_deadlines.insert((deadline, client));
    }

    /// The phone answered, or not: the tag stays with it, or goes over.
    pub(super) fn probed(&mut self, now: Instant, client: ClientKey, lives: bool) {
        let Some(probe) = self.probes.remove(&client) else { return };
        self.probe_deadlines.remove(&(probe.deadline, client));
        if lives {
            let phone = self.phone(probe.phone);
            let identity = probe.incoming.peer.identity.clone();
            self.tell(Event::Mismatch { phone, identity, takeover: true, accepted: false });
            return self.refuse(now, &probe.incoming, &Refusal::forbidden(Reason::Ownership));
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
