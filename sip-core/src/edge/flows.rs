//! The stream connections that stand, and when a silent one has to go (S16).
//!
//! A connection from outside has a place among few: one that carries no registration, no call and no request is closed
//! after a while, and a certificate has so many at most. The driver can't know this; the keep-alives it answers prove
//! nothing but patience.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::{Closing, Event};
use super::exchange::{Exchange, Hop, owner_key};
use super::guard::Suspect;
use super::switches::Switch;
use super::uri_codec::with_user;
use crate::flow::{Dial, FlowId, Peer, Side, Source};
use crate::numbered::Numbered;
use crate::token::InstanceId;
use crate::uri::Uri;

/// A stream connection that stands.
pub(super) struct Flow {
    pub(super) peer: Arc<Peer>,
    /// Boxed: most connections are those of phones, which have none.
    pub(super) dial: Option<Box<Dial>>,
    /// When a message last came by it; before the first, when it was opened.
    used: Instant,
    /// Whether a message came by it.
    heard: bool,
    /// When it is looked at for idleness next.
    due: Instant,
    /// Requests in progress that came by it or went to the phone on it.
    exchanges: usize,
    /// The shards that something it brought was handed to, a bit each.
    crossed: u32,
}

impl Flow {
    /// When a message last came by it.
    pub(super) fn used(&self) -> Instant {
        self.used
    }

    /// When it was of use, as far as is known: a message came by it, or it was looked at and carried something.
    fn last_use(&self, patience: Duration) -> Instant {
        self.due.checked_sub(patience).map_or(self.used, |looked| looked.max(self.used))
    }

    /// The shards that know of it.
    pub(super) fn crossed(&self) -> impl Iterator<Item = u8> + use<> {
        let crossed = self.crossed;
        (0..32).filter(move |shard| crossed & 1 << shard != 0)
    }

    /// The phone whose own connection to a switch this is.
    pub(super) fn line(&self) -> Option<InstanceId> {
        self.dial.as_ref()?.affinity.map(InstanceId)
    }

    /// The certificate, or the address, whose share of connections it counts against.
    fn certificate(&self) -> Option<[u8; 32]> {
        let counts = self.peer.side == Side::Outside && self.dial.is_none();
        counts.then(|| owner_key(&self.peer))
    }

    /// The address that answers for it, if no certificate does.
    fn address(&self) -> Option<Suspect> {
        let counts = self.dial.is_none() && !(self.peer.side == Side::Inside && self.peer.verified);
        Some(Suspect::of(&self.peer)).filter(|suspect| counts && matches!(suspect, Suspect::Address(_)))
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Flows {
    table: Numbered<FlowId, Flow>,
    /// Those of each certificate outside that are not being closed, in the order they came.
    by_certificate: Numbered<[u8; 32], Vec<FlowId>>,
    /// Those without a certificate that are not being closed, by whom they are put down to.
    by_address: BTreeSet<(Suspect, FlowId)>,
    /// When each connection from outside is looked at for idleness next.
    idle: BTreeSet<(Instant, FlowId)>,
}

impl Flows {
    pub(super) fn get(&self, flow: FlowId) -> Option<&Flow> {
        self.table.get(&flow)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Flow> {
        self.table.values()
    }

    /// A message came by it.
    pub(super) fn touch(&mut self, now: Instant, flow: FlowId) {
        if let Some(flow) = self.table.get_mut(&flow) {
            flow.used = now;
            flow.heard = true;
        }
    }

    /// Whether a switch said something since, over a connection that was made to it.
    pub(super) fn heard_from(&self, switch: Switch, since: Instant) -> bool {
        let mut made = self
            .table
            .values()
            .filter(|flow| flow.dial.as_deref().is_some_and(|d| Switch::from(*d) == switch));
        made.any(|flow| flow.heard && flow.used > since)
    }

    /// Whether a connection that was made to a switch stands and is younger than that, or brought something since.
    pub(super) fn reached(&self, switch: Switch, since: Instant) -> bool {
        let mut made = self
            .table
            .values()
            .filter(|flow| flow.dial.as_deref().is_some_and(|d| Switch::from(*d) == switch));
        made.any(|flow| flow.used > since)
    }

    /// Something it brought goes to another shard, which hears of its end too.
    pub(super) fn crossed(&mut self, flow: FlowId, shard: u8) {
        if let Some(flow) = self.table.get_mut(&flow) {
            flow.crossed |= 1_u32.checked_shl(shard.into()).unwrap_or(0);
        }
    }

    /// Whether requests in progress need it.
    pub(super) fn works(&self, flow: FlowId) -> bool {
        self.table.get(&flow).is_some_and(|flow| flow.exchanges > 0)
    }

    /// One request in progress more that needs it.
    fn hold(&mut self, flow: FlowId) {
        if let Some(flow) = self.table.get_mut(&flow) {
            flow.exchanges += 1;
        }
    }

    /// One less. The phone whose line it is, if it was the last.
    fn release(&mut self, flow: FlowId) -> Option<InstanceId> {
        let flow = self.table.get_mut(&flow)?;
        flow.exchanges = flow.exchanges.saturating_sub(1);
        if flow.exchanges == 0 { flow.line() } else { None }
    }

    fn insert(&mut self, now: Instant, id: FlowId, peer: Arc<Peer>, dial: Option<Dial>, idle: Duration) {
        let (dial, due) = (dial.map(Box::new), now + idle);
        let flow = Flow { peer, dial, used: now, heard: false, due, exchanges: 0, crossed: 0 };
        if let Some(certificate) = flow.certificate() {
            self.by_certificate.entry(certificate).or_insert_with(|| Vec::with_capacity(1)).push(id);
        }
        if let Some(suspect) = flow.address() {
            self.by_address.insert((suspect, id));
        }
        if flow.peer.side == Side::Outside {
            self.idle.insert((flow.due, id));
        }
        self.table.insert(id, flow);
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        self.resign(id);
        let flow = self.table.remove(&id)?;
        self.idle.remove(&(flow.due, id));
        Some(flow)
    }

    /// A connection that is being closed counts no more.
    pub(super) fn resign(&mut self, id: FlowId) {
        let Some(flow) = self.table.get(&id) else { return };
        if let Some(suspect) = flow.address() {
            self.by_address.remove(&(suspect, id));
        }
        let Some(certificate) = flow.certificate() else { return };
        if let Some(flows) = self.by_certificate.get_mut(&certificate) {
            flows.retain(|flow| *flow != id);
            if flows.is_empty() {
                self.by_certificate.remove(&certificate);
            }
        }
    }

    /// The connections of somebody that are not being closed.
    pub(super) fn of_suspect(&self, suspect: &Suspect) -> Vec<FlowId> {
        match suspect {
            Suspect::Certificate(key) => self.by_certificate.get(key).cloned().unwrap_or_default(),
            Suspect::Address(_) => {
                let all = (*suspect, FlowId(0))..=(*suspect, FlowId(u64::MAX));
                self.by_address.range(all).map(|(_, flow)| *flow).collect()
            }
        }
    }

    /// When a connection has to be looked at next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.idle.first().map(|(at, _)| *at)
    }
}

impl Edge {
    pub(super) fn flow_opened(&mut self, now: Instant, flow: FlowId, peer: Arc<Peer>, dial: Option<Dial>) {
        if let Some(dial) = &dial {
            self.layer.handle_flow_opened(flow, dial);
            self.line_opened(*dial, flow);
            self.switch_reached(*dial);
        } else if peer.side == Side::Inside {
            self.reuse.opened(flow, &peer);
        }
        let barred = peer.clone();
        self.flows.insert(now, flow, peer, dial, self.config.timers.flow_idle);
        if !self.bar_flow(flow, &barred) {
            self.bound_flows(flow);
        }
    }

    /// A certificate has so many connections: the one that was of no use for longest makes way for `newest`, so that a
    /// phone that returns is served; only when all others are at work the new one goes.
    fn bound_flows(&mut self, newest: FlowId) {
        let Some(certificate) = self.flows.get(newest).and_then(Flow::certificate) else { return };
        let patience = self.config.timers.flow_idle;
        let flows = self.flows.by_certificate.get(&certificate).map_or(&[][..], Vec::as_slice);
        if flows.len() <= self.config.limits.flows_of(&certificate) {
            return;
        }
        let idle = flows.iter().copied().filter(|flow| *flow != newest && !self.is_of_use(*flow));
        let oldest = idle.min_by_key(|flow| self.flows.get(*flow).map(|flow| flow.last_use(patience)));
        self.close_flow(oldest.unwrap_or(newest), Closing::Surplus);
    }

    /// Whether a connection from outside carries a registration, a call or a request.
    fn is_of_use(&self, flow: FlowId) -> bool {
        let path = Source::Flow(flow);
        let registered = |id: &InstanceId| self.bindings.get(*id).is_some_and(|b| b.registered);
        self.flows.works(flow)
            || self.bindings.of_path(&path).iter().any(registered)
            || self.dialogs.has_path(&path)
    }

    /// Closes connections from outside that nothing was heard on for too long and that carry nothing.
    pub(super) fn close_idle_flows(&mut self, now: Instant) {
        let patience = self.config.timers.flow_idle;
        while let Some(&(at, id)) = self.flows.idle.first()
            && at <= now
        {
            self.flows.idle.remove(&(at, id));
            let of_use = self.is_of_use(id);
            let Some(flow) = self.flows.table.get_mut(&id) else { continue };
            flow.due = if of_use { now } else { flow.used } + patience;
            if flow.due > now {
                self.flows.idle.insert((flow.due, id));
            } else {
                self.close_flow(id, Closing::Idle);
            }
        }
    }

    pub(super) fn close_flow(&mut self, id: FlowId, why: Closing) {
        let Some(flow) = self.flows.get(id) else { return };
        let remote = flow.peer.remote;
        self.flows.resign(id);
        self.closes.push_back(id);
        self.tell(Event::FlowClosed { remote, why });
    }

    /// An exchange needs the connections it came by and goes to, and its phones' lines to the switch.
    pub(super) fn hold(&mut self, exchange: &Exchange) {
        if let Some(flow) = exchange.incoming.source.flow() {
            self.flows.hold(flow);
        }
        for branch in &exchange.branches {
            match &branch.way.hop {
                Hop::Phone(path, _) => path.flow().into_iter().for_each(|flow| self.flows.hold(flow)),
                Hop::Switch(_) | Hop::Name(_) => self.lines.hold(branch.way.phone),
                Hop::Shard(_) => {}
            }
        }
    }

    /// A branch goes to the phone's next connection, if it has one (RFC 5626 §5.3).
    pub(super) fn next_flow(&mut self, exchange: &mut Exchange, index: usize) -> bool {
        let Some(branch) = exchange.branches.get_mut(index) else { return false };
        let Hop::Phone(failed, _) = &branch.way.hop else { return false };
        let binding = self.bindings.get(branch.way.phone);
        let Some((path, peer)) = binding.and_then(|b| b.path.zip(b.peer.clone())) else { return false };
        if path == *failed {
            return false;
        }
        // Outside of a dialog the phone is asked by the Contact that it registered there.
        let contact = binding.filter(|_| exchange.dialog.is_none()).map(|b| b.record.contact.as_bytes());
        if let Some(Ok(contact)) = contact.map(Uri::parse) {
            let user = branch.way.request_uri.as_deref().and_then(|uri| Uri::parse(uri).ok()?.user());
            branch.way.request_uri = Some(with_user(&contact, user));
        }
        if let Some(flow) = failed.flow() {
            self.flows.release(flow);
        }
        if let Some(flow) = path.flow() {
            self.flows.hold(flow);
        }
        branch.way.hop = Hop::Phone(path, peer);
        true
    }

    /// An exchange is over: see [`Edge::hold`].
    pub(super) fn let_go(&mut self, exchange: &Exchange) {
        let mut loose: Vec<InstanceId> = Vec::new();
        loose.extend(exchange.incoming.source.flow().and_then(|flow| self.flows.release(flow)));
        for branch in &exchange.branches {
            match &branch.way.hop {
                Hop::Phone(path, _) => loose.extend(path.flow().and_then(|flow| self.flows.release(flow))),
                Hop::Switch(_) | Hop::Name(_) => loose.extend(self.lines.release(branch.way.phone)),
                Hop::Shard(_) => {}
            }
        }
        for id in loose {
            self.lines.suspect(id);
        }
    }
}
