//! Signalling events as log lines.

use std::collections::HashMap;

use sip_core::edge::bindings::Change;
use sip_core::edge::event::{
    Arrival, Closing, Departure, DropCause, Lack, Phone, Reason, Release, Snapshot, Step, Switch, Taken,
    Verdict, Why,
};
use sip_core::edge::{Event, NameFault};
use sip_core::flow::{Side, Source};
use sip_core::shard::Shard;
use sip_core::token::InstanceId;
use tracing::{debug, error, info, warn};

/// The class of lines about intruders, as administrators of other gateways know it.
const IDS: &str = "SIP IDS/IPS";

/// Writes the lines. It knows the tags of the phones that are registered, so that every line about a phone has its
/// tag; what it knows is bounded by the bindings.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    tags: HashMap<InstanceId, String>,
}

impl Lines {
    /// With the phones of this shard that were registered before the process began: their calls go on before they come back.
    pub(crate) fn of(shard: Shard, known: &[Change]) -> Self {
        let tag = |change: &Change| match change {
            Change::Put(record) if shard.owns(&record.certificate) => {
                Some((InstanceId(record.id), record.tag.clone()?))
            }
            _ => None,
        };
        Self { tags: known.iter().filter_map(tag).collect() }
    }

    /// The tag of a phone; `-` when it has none or is not known.
    pub(crate) fn tag(&self, phone: &InstanceId) -> &str {
        self.tags.get(phone).map_or("-", String::as_str)
    }

    /// Writes one line for `event`.
    pub(crate) fn log(&mut self, event: &Event) {
        match event {
            Event::Registered { phone, .. } | Event::PhoneMoved { phone, .. } => {
                self.tags.insert(phone.id, tag(phone).to_owned());
            }
            _ => {}
        }
        let known = |id: &InstanceId| self.tag(id);
        log(event, &known);
        if let Event::Unregistered { phone, .. } = event {
            self.tags.remove(&phone.id);
        }
    }
}

fn log<'t>(event: &Event, tag_of: &dyn Fn(&InstanceId) -> &'t str) {
    match event {
        // Every phone says so every few minutes: of no use to whoever looks for what happened.
        Event::Registered { phone, source, expires, change: Arrival::Refreshed } => {
            let flow = flow(source);
            debug!(tag = tag(phone), user = phone.user, flow, expires, change = "refreshed", "registered");
        }
        Event::Registered { phone, source, expires, change } => {
            let change = if *change == Arrival::New { "new" } else { "moved" };
            let flow = flow(source);
            info!(tag = tag(phone), user = phone.user, flow, expires, change, "registered");
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
        Event::PhoneMoved { phone, source } => {
            info!(tag = tag(phone), flow = flow(source), "the phone is back");
        }
        Event::Refused { side, remote, method, status, reason, phone, call_id } => {
            let tag = phone.as_deref().map_or("-", tag);
            refused(*side, remote, method, *status, reason, tag, call_id);
        }
        Event::Resolved { step, phone, method, call_id } => {
            info!(
                step = number(*step),
                carrier = carrier(*step),
                tag = tag_of(phone),
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
            if *takeover {
                warn!(tag = tag(phone), subject, accepted, "another certificate claims the tag");
            } else {
                warn!(tag = tag(phone), subject, accepted, "the certificate doesn't name the tag");
            }
        }
        Event::Lacking { phone, lack } => warn!(tag = tag(phone), "{}", lacking(*lack)),
        Event::CallStarted { call_id, phone, from, session } => {
            info!(call_id, tag = tag_of(phone), ?from, session = session.map(|id| id.0), "call answered");
        }
        Event::CallEnded { call_id, phone, by, session } => {
            let by = by.map_or("nobody", |side| match side {
                Side::Outside => "Outside",
                Side::Inside => "Inside",
            });
            info!(call_id, tag = tag_of(phone), by, session = session.map(|id| id.0), "call ended");
        }
        Event::TakenOver { calls } => {
            for Taken { session, call_id, phone } in calls {
                info!(
                    call_id,
                    tag = tag_of(phone),
                    session = session.0,
                    "call of the process before goes on"
                );
            }
        }
        Event::SessionExpired { call_id, phone } => {
            warn!(call_id, tag = tag_of(phone), "the call was not refreshed in time: its media ends");
        }
        Event::Dropped { side, remote, cause } => debug!(?side, %remote, cause = dropped(*cause), "dropped"),
        Event::FlowClosed { remote, why: Closing::Idle } => debug!(%remote, "an idle connection was closed"),
        Event::FlowClosed { remote, why: Closing::Unanswered } => {
            info!(%remote, "a phone that doesn't answer any more: its connection was closed");
        }
        Event::FlowClosed { remote, why: Closing::Surplus } => {
            warn!(%remote, "a certificate has too many connections: one was closed");
        }
        Event::FlowClosed { remote, why: Closing::Flood } => {
            warn!(%remote, class = IDS, "too many messages: the connection was closed");
        }
        Event::FlowClosed { remote, why: Closing::Blocked } => {
            info!(%remote, class = IDS, "the connection of a blocked peer was closed");
        }
        Event::Blocked { suspect, subject, offence, seconds } => {
            warn!(%suspect, subject, offence = offence.name(), seconds, class = IDS, "blocked");
        }
        Event::Unblocked { suspect, why } => {
            let why = match why {
                Release::Over => "its time is up",
                Release::Asked => "asked",
                Release::MadeWay => "too many blocks",
            };
            info!(%suspect, why, class = IDS, "unblocked");
        }
        Event::Offence { side, remote, offence } => {
            warn!(?side, %remote, offence = offence.name(), class = IDS, "an offence of a peer that is never blocked");
        }
        Event::Overload { begins } => {
            warn!(begins, "overload: new calls and registrations are answered 503");
        }
        Event::SwitchUnreachable { remote } => warn!(%remote, "the switch can't be reached"),
        Event::Untranslated { call_id, field } => {
            warn!(call_id, %field, "an address of ours can't be read any more: it went on as it was");
        }
        Event::FailedOver { remote, why } => {
            info!(%remote, why = failed(*why), "the next address of the switch is asked")
        }
        Event::Unlocated { name } => warn!(name, "a monitored name has no address that may be asked"),
        Event::Judged { switch, verdict } => judged(*switch, *verdict),
        Event::Unnamed { call_id, name, fault } => unnamed(call_id, name, *fault),
        Event::Concealed { call_id, method } => {
            info!(
                call_id,
                method, "a session description that is no offer and no answer was kept from the phone"
            );
        }
        Event::MediaRefused { call_id, status } => info!(call_id, status, "session description refused"),
        Event::Snapshot(snapshot) => log_snapshot(snapshot),
        _ => {}
    }
}

/// A name in a session description that is no use.
fn unnamed(call_id: &str, name: &str, fault: NameFault) {
    let why = match fault {
        NameFault::NotFound => "not found",
        NameFault::Address(address) => {
            let why = "stands for an address that its sender may not name";
            return warn!(call_id, name, %address, why, "a name in a session description is not used");
        }
        NameFault::Internal => "internal, and written outside",
        NameFault::Busy => "too many calls wait for names",
    };
    warn!(call_id, name, why, "a name in a session description is not used");
}

fn judged(switch: Switch, verdict: Verdict) {
    let Switch { remote, transport } = switch;
    let transport = transport.via_token();
    match verdict {
        Verdict::Refused => {
            warn!(%remote, transport, "the switch refuses connections: it is asked nothing for a while")
        }
        Verdict::Silent => warn!(%remote, transport, "the switch is silent: it is asked nothing for a while"),
        Verdict::Down => error!(%remote, transport, "the switch is down"),
        Verdict::Up => info!(%remote, transport, "the switch is up"),
    }
}

fn failed(why: Why) -> &'static str {
    match why {
        Why::Unavailable => "503",
        Why::Timeout => "silence",
        Why::Unreachable => "no connection",
    }
}

fn refused(
    side: Side,
    remote: &std::net::SocketAddr,
    method: &str,
    status: Option<u16>,
    reason: &Reason,
    tag: &str,
    call_id: &str,
) {
    // An unreachable switch is the site's fault; everything else is the sender's.
    if matches!(reason, Reason::Unreachable | Reason::Limit(_)) {
        warn!(?side, %remote, method, status, ?reason, tag, call_id, "refused");
    } else {
        info!(?side, %remote, method, status, ?reason, tag, call_id, "refused");
    }
}

fn log_snapshot(state: &Snapshot) {
    info!(
        phones = state.phones.len(),
        connected = state.phones.iter().filter(|phone| phone.source.is_some()).count(),
        dialogs = state.dialogs,
        resolved = ?state.resolved,
        shown = state.shown,
        refused = state.refused,
        dropped = state.dropped,
        switches_off = state.switches.len(),
        floods = state.floods,
        junk = state.junk,
        blocked = state.blocked,
        calls = state.calls,
        "signalling"
    );
}

/// The connection a phone is on, as the lines about connections name it.
fn flow(source: &Source) -> String {
    match source {
        Source::Flow(flow) => flow.to_string(),
        other => format!("{other:?}"),
    }
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

fn lacking(lack: Lack) -> &'static str {
    match lack {
        Lack::Registration => "the phone is not registered: its Contact is not the registered one",
        Lack::Path => "the registrar knows no Path (420): the REGISTER was sent again without",
        Lack::Contact => "the registrar accepted a REGISTER and lists no Contact",
        _ => "a peer lacks something",
    }
}

fn dropped(cause: DropCause) -> &'static str {
    match cause {
        DropCause::StrayResponse => "stray response",
        DropCause::StrayAck => "stray ACK",
        DropCause::Unframeable => "not SIP",
        DropCause::Crossing => "another shard takes no more",
        DropCause::PhoneGone => "the phone is gone",
        DropCause::Blocked => "its sender is blocked",
        DropCause::Flood => "its sender sends too much",
        DropCause::Unusable => "can't be answered or forwarded",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_of_before_have_their_tags_before_they_come_back() {
        let put = |id: u64, tag: &str| {
            let text = format!(
                r#"{{"Put":{{"id":{id},"tag":{tag},"contact":"sips:117@192.168.1.7","user":"117","domain":"10.0.1.50","users":[],
                "expires_in":3600,"certificate":{:?},"contact_token":null,"flow_tokens":["d","e"],"switch":null,"outbound":false}}}}"#,
                [7; 32]
            );
            serde_json::from_str(&text).unwrap()
        };
        let known = [put(1, "\"08000FD4CBBF\""), put(2, "null"), Change::Remove(3)];
        let all = Lines::of(Shard::ALONE, &known);
        assert_eq!([1, 2, 3].map(|id| all.tag(&InstanceId(id))), ["08000FD4CBBF", "-", "-"]);
        let parts: Vec<usize> = Shard::all(2).map(|shard| Lines::of(shard, &known).tags.len()).collect();
        assert_eq!(parts.iter().sum::<usize>(), 1, "one shard has it");
    }
}
