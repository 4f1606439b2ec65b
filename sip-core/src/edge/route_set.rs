//! Who stays in the path of a dialog, who is shown that, and what a request whose Routes went astray gets.

use std::net::SocketAddr;

use super::Edge;
use super::exchange::Incoming;
use super::offer::described;
use super::outbound::OwnRoutes;
use super::rewrite::{has_to_tag, records};
use super::uri_codec::host_of;
use bytes::Bytes;

use crate::flow::Side;
use crate::header::{RecordRoute, Via};
use crate::message::{Message, Method, Name};
use crate::uri::Uri;

impl Edge {
    /// Whether a request gets our Record-Route on its way to this side. What makes a dialog always does, since every
    /// dialog here crosses the sides; RFC 3261 §16.6 step 4 leaves requests inside of dialogs to us (SIP-31, SIP-32).
    pub(super) fn stays(&self, message: &Message, towards: Side) -> bool {
        let routes = &self.config.interop.routes;
        message.method().is_some_and(records)
            && (!has_to_tag(message) || routes.rr_always || (routes.rr_outbound && towards == Side::Outside))
    }

    /// The value of the `lr` parameter that we write (SIP-30); read it is by its name alone.
    pub(super) fn lr(&self) -> &'static str {
        if self.config.interop.routes.lr_true { "true" } else { "" }
    }

    /// Whether this switch doesn't see our Record-Route (SIP-35). Its requests come back all the same: our Contact names us.
    pub(super) fn hides_record_route(&self, switch: Option<SocketAddr>) -> bool {
        let routes = &self.config.interop.routes;
        routes.hide_rr_all
            || (!routes.hide_rr.is_empty() && switch.is_some_and(|remote| routes.hide_rr.holds(remote.ip())))
    }

    /// Whether this switch sees no Via but ours (SIP-36). The transaction keeps the others for the answer.
    pub(super) fn removes_vias(&self, switch: Option<SocketAddr>) -> bool {
        let routes = &self.config.interop.routes;
        routes.remove_via_all
            || (!routes.remove_via.is_empty()
                && switch.is_some_and(|remote| routes.remove_via.holds(remote.ip())))
    }

    /// Whether the addresses of this URI's host cross the sides as they are (SIP-37).
    pub(super) fn is_excepted(&self, uri: &Uri<'_>) -> bool {
        let except = &self.config.interop.routes.translate_except;
        !except.is_empty() && except.holds_host(&host_of(uri))
    }

    /// Whether the addresses of this URI's host are ours even where they would cross as they are (SIP-38).
    pub(super) fn is_forced(&self, uri: &Uri<'_>) -> bool {
        let force = &self.config.interop.routes.translate_force;
        !force.is_empty() && force.holds_host(&host_of(uri))
    }

    /// Our Via, and below it those of hosts that aren't translated (SIP-37).
    pub(super) fn vias_for_phone(&self, message: &Message, own: Vec<u8>) -> Vec<Vec<u8>> {
        let except = &self.config.interop.routes.translate_except;
        let mut vias = vec![own];
        if !except.is_empty() {
            let kept =
                message.headers::<Via>().flatten().filter(|via| except.holds_host(&via.host().to_string()));
            vias.extend(kept.map(|via| via.raw().to_vec()));
        }
        vias
    }

    /// Whether a request inside of a dialog goes by the recorded route set, whatever it says (SIP-33, SIP-34).
    pub(super) fn repairs(&self, incoming: &Incoming) -> bool {
        let routes = &self.config.interop.routes;
        (routes.fix_routes || (routes.fix_bye_routes && incoming.method() == Method::Bye))
            && incoming.in_dialog()
    }

    /// Type and body of a CANCEL, for our own (SIP-58) or for the ACK to its 487 (SIP-59); RFC 3261 would have neither.
    pub(super) fn cancel_body(&self, cancel: &Message) -> Option<(String, Bytes)> {
        let answers = &self.config.interop.answers;
        if !(answers.cancel_body_forward || answers.cancel_body_in_ack) || cancel.body().is_empty() {
            return None;
        }
        // No phone is shown what the inside describes there.
        if self.media.conceals() && described(cancel).is_some() {
            return None;
        }
        let kind = String::from_utf8_lossy(cancel.raw(Name::ContentType)?).into_owned();
        Some((kind, cancel.body_bytes()))
    }

    /// What stands for a status towards whoever asked (SIP-56); `None` for the status itself.
    pub(super) fn shown_status(&self, status: u16) -> Option<(u16, &'static str)> {
        let converted = self.config.interop.answers.to_503
            && matches!(status, 500..=599)
            && !matches!(status, 501 | 503 | 505);
        converted.then_some((503, "Service Unavailable"))
    }

    /// The phone's route set beyond us in the dialog that an answer makes (RFC 3261 §12.1).
    pub(super) fn routes_beyond(&self, from: Side, request: &Message, answer: &Message) -> Vec<Vec<u8>> {
        match from {
            Side::Inside => request.headers::<RecordRoute>().flatten().map(|r| r.raw().to_vec()).collect(),
            Side::Outside => {
                let routes: Vec<_> = answer.headers::<RecordRoute>().flatten().collect();
                self.after_us(&routes).into_iter().map(<[u8]>::to_vec).collect()
            }
        }
    }
}

impl OwnRoutes {
    /// With the Routes that the dialog was made with, in place of those of a phone that lost or garbled them. A dialog
    /// that isn't remembered has none to offer: the phone's own word stands.
    pub(super) fn repaired(self, recorded: Option<&[Vec<u8>]>) -> Self {
        match recorded {
            Some(recorded) => Self { sealed: recorded.to_vec(), foreign: Vec::new(), ..self },
            None => self,
        }
    }
}
