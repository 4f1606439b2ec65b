//! Signalling events as log lines.

use sip_core::edge::Event;
use sip_core::edge::event::{Arrival, Closing, Departure, DropCause, Phone, Reason, Snapshot, Step};
use tracing::{debug, info, warn};

/// Writes one line for `event`.
pub(crate) fn log(event: &Event) {
    match event {
        // Every phone says so every few minutes: of no use to whoever looks for what happened.
        Event::Registered { phone, source, expires, change: Arrival::Refreshed } => {
            debug!(tag = tag(phone), user = phone.user, ?source, expires, change = "refreshed", "registered");
        }
        Event::Registered { phone, source, expires, change } => {
            let change = if *change == Arrival::New { "new" } else { "moved" };
            info!(tag = tag(phone), user = phone.user, ?source, expires, change, "registered");
        }
        Event::Unregistered { phone, cause } => {
            let cause = match cause {
                Departure::Asked => "asked",
                Departure::Expired => "expired",
            };
            info!(tag = tag(phone), user = phone.user, cause, "unregistered");
        }
        Event::PhoneLost { phone } => {
            info!(tag = tag(phone), "the phone's connection is gone: it answers 480")
        }
        Event::PhoneMoved { phone, source } => info!(tag = tag(phone), ?source, "the phone is back"),
        Event::Refused { side, remote, method, status, reason, call_id } => {
            refused(*side, remote, method, *status, reason, call_id);
        }
        Event::Resolved { step, phone, method, call_id } => {
            info!(
                step = number(*step),
                carrier = carrier(*step),
                phone = phone.0,
                method,
                call_id,
                "resolved"
            );
        }
        Event::Untagged { remote, malformed } => {
            info!(%remote, malformed, "a REGISTER without a tag: only its user tells this phone apart");
        }
        Event::Mismatch { phone, identity, takeover, accepted } => {
            let subject = identity.as_ref().map(|identity| identity.subject.as_str());
            warn!(tag = tag(phone), subject, takeover, accepted, "the certificate doesn't name the tag");
        }
        Event::CallStarted { call_id, phone, from } => {
            info!(call_id, phone = phone.0, ?from, "call answered")
        }
        Event::CallEnded { call_id, phone, by } => info!(call_id, phone = phone.0, ?by, "call ended"),
        Event::Dropped { side, remote, cause } => debug!(?side, %remote, cause = dropped(*cause), "dropped"),
        Event::FlowClosed { remote, why: Closing::Idle } => debug!(%remote, "an idle connection was closed"),
        Event::FlowClosed { remote, why: Closing::Surplus } => {
            warn!(%remote, "a certificate has too many connections: one was closed");
        }
        Event::SwitchUnreachable { remote } => warn!(%remote, "the switch can't be reached"),
        Event::MediaRefused { call_id, status } => info!(call_id, status, "session description refused"),
        Event::Snapshot(snapshot) => log_snapshot(snapshot),
        _ => {}
    }
}

fn refused(
    side: sip_core::flow::Side,
    remote: &std::net::SocketAddr,
    method: &str,
    status: Option<u16>,
    reason: &Reason,
    call_id: &str,
) {
    // An unreachable switch is the site's fault; everything else is the sender's.
    if matches!(reason, Reason::Unreachable | Reason::Limit(_)) {
        warn!(?side, %remote, method, status, ?reason, call_id, "refused");
    } else {
        info!(?side, %remote, method, status, ?reason, call_id, "refused");
    }
}

fn log_snapshot(state: &Snapshot) {
    info!(
        phones = state.phones.len(),
        connected = state.phones.iter().filter(|phone| phone.source.is_some()).count(),
        dialogs = state.dialogs,
        resolved = ?state.resolved,
        refused = state.refused,
        dropped = state.dropped,
        calls = state.calls,
        "signalling"
    );
}

fn tag(phone: &Phone) -> &str {
    phone.tag.as_deref().unwrap_or("-")
}

fn number(step: Step) -> u8 {
    match step {
        Step::Dialog => 0,
        Step::Route => 1,
        Step::ContactToken => 2,
        Step::Instance => 3,
        Step::Affinity => 4,
        Step::User => 5,
    }
}

fn carrier(step: Step) -> &'static str {
    match step {
        Step::Dialog => "dialog",
        Step::Route => "route token",
        Step::ContactToken => "contact token",
        Step::Instance => "instance",
        Step::Affinity => "connection",
        Step::User => "user",
    }
}

fn dropped(cause: DropCause) -> &'static str {
    match cause {
        DropCause::StrayResponse => "stray response",
        DropCause::StrayAck => "stray ACK",
        DropCause::Unframeable => "not SIP",
        DropCause::PhoneGone => "the phone is gone",
        DropCause::Unusable => "can't be answered or forwarded",
        _ => "other",
    }
}
