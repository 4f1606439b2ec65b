//! What arrives at one shard and is the business of another (see [`crate::shard`]).
//!
//! Phones stay on the shard of their certificate, with their calls and the answers to what it asked. What can arrive
//! anywhere is what the inside sends by itself: it goes to the shard of the phone that it means, before this one has done
//! anything with it. A request that means phones of several shards (a user with two phones) stays here, and each other
//! shard with such a phone is one branch of it, as if a proxy were connected there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Edge;
use super::dialogs::DialogKey;
use super::event::{DropCause, Event, Reason};
use super::exchange::{Exchange, Hop, Incoming, Way};
use super::naming::Named;
use super::rewrite::{WriteError, stamped};
use crate::flow::{FlowId, Peer, Side, Source, Target, Transmit, Transport};
use crate::header::Via;
use crate::machine::Output;
use crate::message::{Limits, Message, Method};
use crate::shard::Handed;
use crate::token::{InstanceId, address_key, branch_shard};
use crate::transaction::Received;
use crate::uri::Uri;

/// INVITEs from inside whose shard is remembered in one generation; with more of them, the older ones leave early.
const TURNS: usize = 200_000;

/// What another shard wrote is read as it is.
const OWN: Limits = super::forward::OWN;

/// Whose business a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Here,
    At(u8),
    /// In a call, or for a phone, that this shard has not heard of.
    Unknown,
}

/// Which shard an INVITE from inside went to, for what follows in its transaction: a CANCEL need not carry what led the INVITE
/// to its phone, and the phone may have gone meanwhile. Two generations, each as long as an INVITE may last.
#[derive(Default)]
pub(super) struct Turns {
    young: HashMap<u64, u8>,
    old: HashMap<u64, u8>,
    since: Option<Instant>,
}

impl Turns {
    /// INVITE, CANCEL and the ACK to a failure have it in common (RFC 3261 §9.1, §17.1.1.3).
    fn key(message: &Message) -> Option<u64> {
        let via = message.header::<Via>()?.ok()?;
        let mut hasher = DefaultHasher::new();
        hasher.write(via.branch()?);
        hasher.write_u8(0);
        hasher.write(via.host_bytes());
        hasher.write_u16(via.port().unwrap_or(0));
        Some(hasher.finish())
    }

    fn get(&self, key: u64) -> Option<u8> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, now: Instant, key: u64, shard: u8, lifetime: Duration) {
        if self.young.len() >= TURNS || self.since.is_none_or(|since| now >= since + lifetime) {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
        self.young.insert(key, shard);
    }
}

impl Edge {
    /// Hands a message on, if it is the business of another shard; gives it back if it is ours.
    pub(super) fn cross(
        &mut self,
        now: Instant,
        source: Source,
        peer: &Arc<Peer>,
        message: Message,
    ) -> Option<Message> {
        let (to, sought) = match self.place(now, source, peer, &message) {
            Place::Here => return Some(message),
            Place::At(shard) => (shard, 0),
            Place::Unknown => (self.shard.next(), self.shard.count() - 1),
        };
        if let Some(flow) = source.flow() {
            self.flows.crossed(flow, to);
        }
        let handed = Handed { to, source, peer: peer.clone(), message, sought };
        self.outputs.push_back(Output::Hand(Box::new(handed)));
        None
    }

    /// A message that another shard handed us.
    pub(super) fn handed(&mut self, now: Instant, mut handed: Handed) {
        if handed.sought > 1 && !self.has(&handed.message) {
            handed.sought -= 1;
            handed.to = self.shard.next();
            return self.outputs.push_back(Output::Hand(Box::new(handed)));
        }
        self.take(now, handed.source, handed.peer, handed.message, true);
    }

    /// The other shard has too much to do: for whoever asks, that is us.
    pub(super) fn unhanded(&mut self, now: Instant, handed: Handed) {
        let Handed { source, peer, message, .. } = handed;
        if let Some(flow) = source.flow().filter(|flow| flow.is_machine()) {
            return self.branch_lost(now, flow, &message);
        }
        if !message.is_request() {
            return self.drop_message(&peer, DropCause::Crossing);
        }
        match self.layer.handle_message(now, source, &peer, message) {
            Received::Request { key, message } | Received::Cancel { key, message, .. } => {
                let incoming = Incoming { key: Some(key), source, peer, message, handed: false };
                let refusal = self.busy(&incoming, "Overload", Reason::Limit("shards"));
                self.refuse(now, &incoming, &refusal);
            }
            _ => self.drop_message(&peer, DropCause::Crossing),
        }
    }

    fn place(&mut self, now: Instant, source: Source, peer: &Peer, message: &Message) -> Place {
        if !message.is_request() {
            let via = message.header::<Via>().and_then(Result::ok);
            return match via.and_then(|via| branch_shard(via.branch()?)) {
                Some(shard) => self.at(shard),
                None => Place::Here,
            };
        }
        match (peer.side, &source, &peer.identity) {
            (Side::Inside, ..) => self.place_inside(now, source, message),
            // A socket has one shard, those who send to it are of all.
            (Side::Outside, Source::Datagram { remote, .. }, None) => {
                self.at(self.shard.owner(&address_key(remote.ip())))
            }
            // A connection stands where its certificate belongs.
            (Side::Outside, ..) => Place::Here,
        }
    }

    fn at(&self, shard: u8) -> Place {
        if shard == self.shard.index() || shard >= self.shard.count() {
            Place::Here
        } else {
            Place::At(shard)
        }
    }

    fn place_inside(&mut self, now: Instant, source: Source, message: &Message) -> Place {
        let method = message.method();
        let turn = match method {
            Some(Method::Invite | Method::Ack | Method::Cancel) => Turns::key(message),
            _ => None,
        };
        if let Some(shard) = turn.and_then(|turn| self.turns.get(turn)) {
            return self.at(shard);
        }
        let place = self.meant(source, message);
        if method == Some(Method::Invite)
            && let Some(turn) = turn
        {
            let shard = match place {
                Place::Here => self.shard.index(),
                Place::At(shard) => shard,
                // The others are asked again, in the same order.
                Place::Unknown => return place,
            };
            let lifetime = self.config.timers.ringing_maximum + self.config.transactions.lifetime();
            self.turns.put(now, turn, shard, lifetime);
        }
        place
    }

    /// The same carriers in the same order as in the resolution, which follows at the shard that is meant.
    fn meant(&self, source: Source, message: &Message) -> Place {
        let Ok(uri) = Uri::parse(message.request_uri().unwrap_or_default()) else { return Place::Here };
        let in_dialog = super::exchange::in_dialog(message);
        let token = self.inside_flow_token(message);
        if let Some(binding) = token.as_deref().and_then(|t| self.bindings.by_flow_token(Side::Inside, t)) {
            return self.of_phone(binding.id);
        }
        let named = self.named_by(&uri);
        if let Named::Phone(id, _) = named {
            return self.of_phone(id);
        }
        if in_dialog || token.is_some() || named == Named::Nobody {
            return if self.has(message) { Place::Here } else { Place::Unknown };
        }
        if self.config.interop.contacts.tag_routing.enabled {
            if let Some(id) = self.by_instance(message) {
                return self.of_phone(id);
            }
            if self.by_affinity(source).is_some() {
                return Place::Here;
            }
        }
        let Ok(phones) = self.by_user(&uri, false) else { return Place::Here };
        let mut places = phones.iter().map(|id| self.of_phone(*id));
        match places.next() {
            Some(first) if places.all(|place| place == first) => first,
            _ => Place::Here,
        }
    }

    fn of_phone(&self, id: InstanceId) -> Place {
        match self.bindings.get(id) {
            Some(binding) if !self.bindings.is_ours(binding) => {
                Place::At(self.shard.owner(&binding.record.certificate))
            }
            _ => Place::Here,
        }
    }

    /// Whether a request is in a call of ours, or for a phone of ours that others may not have heard of (a guest; one
    /// whose registration the PBX has not accepted yet).
    fn has(&self, message: &Message) -> bool {
        if DialogKey::of(message, Side::Inside).is_some_and(|key| self.dialogs.get(&key).is_some()) {
            return true;
        }
        let token = self.inside_flow_token(message);
        let uri = Uri::parse(message.request_uri().unwrap_or_default()).ok();
        let by_flow = token.and_then(|token| self.bindings.by_flow_token(Side::Inside, &token));
        let by_name = || match self.named_by(&uri?) {
            Named::Phone(id, _) => self.bindings.get(id),
            Named::Nobody | Named::Nothing => None,
        };
        by_flow.or_else(by_name).is_some_and(|binding| self.bindings.is_ours(binding))
    }

    /// Branches to other shards with phones of a fork.
    pub(super) fn ways_across(&self, phones: &[InstanceId]) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        for id in phones {
            let connected = self.bindings.get(*id).is_some_and(|b| b.is_connected());
            let Place::At(shard) = self.of_phone(*id) else { continue };
            let known = ways.iter().any(|way| matches!(way.hop, Hop::Shard(other) if other == shard));
            if connected && !known {
                ways.push(Way {
                    hop: Hop::Shard(shard),
                    phone: *id,
                    request_uri: None,
                    routes: Vec::new(),
                    past: None,
                });
            }
        }
        ways
    }

    /// The request for another shard: as it came, with our Via. The hop is counted there.
    pub(super) fn write_across(
        &self,
        incoming: &Incoming,
        way: &Way,
        branch: &str,
        width: usize,
    ) -> Result<Bytes, WriteError> {
        let mut edit = incoming.message.edit();
        self.set_breadth(&incoming.message, width, &mut edit);
        edit.replace_top_via(&stamped(incoming));
        edit.push_via(&self.via(&way.hop, branch));
        Ok(edit.to_bytes()?)
    }

    /// The answer of another shard leaves as that shard wrote it.
    pub(super) fn pass_across(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        message: &Message,
    ) {
        let status = message.status().unwrap_or_default();
        let mut edit = message.edit();
        edit.pop_via();
        match edit.to_bytes() {
            Ok(bytes) => self.send_answer(now, exchange, index, message, bytes),
            Err(_) if status >= 200 => {
                self.conclude(now, exchange, 502, "Bad Gateway", Reason::Unforwardable);
            }
            Err(_) => {}
        }
    }

    /// A message as the driver sees it leave: what is for the machine of another shard is handed there.
    pub(super) fn outward(&mut self, transmit: Transmit) -> Output<Event> {
        let machine = match transmit.target {
            Target::Flow(flow) if !self.shard.is_alone() && flow.is_machine() => flow,
            _ => return Output::Transmit(transmit),
        };
        let Ok(message) = Message::parse(transmit.bytes.clone(), &OWN) else {
            return Output::Transmit(transmit);
        };
        let here = FlowId::machine(self.shard.index());
        let peer = self.asker(&message);
        let (to, source) = (machine.shard(), Source::Flow(here));
        Output::Hand(Box::new(Handed { to, source, peer, message, sought: 0 }))
    }

    /// For whom a message crosses: the phone's shard aims the audio by the address of whoever asks.
    fn asker(&self, message: &Message) -> Arc<Peer> {
        let branch = message.header::<Via>().and_then(Result::ok);
        let branch = branch.and_then(|via| via.branch()).unwrap_or_default();
        let exchange = self.forks.get(branch).and_then(|key| self.exchanges.get(key));
        exchange.map_or_else(|| self.nobody.clone(), |exchange| exchange.incoming.peer.clone())
    }

    /// A request of ours did not reach the other shard.
    fn branch_lost(&mut self, now: Instant, _from: FlowId, message: &Message) {
        let branch = message.header::<Via>().and_then(Result::ok).and_then(|via| via.branch());
        let Some(key) = branch.and_then(|branch| self.forks.get(branch)).copied() else { return };
        let lost = |exchange: &Exchange| {
            exchange.branches.iter().find(|b| Some(b.id.as_bytes()) == branch).and_then(|b| b.client)
        };
        let client = self.exchanges.get(&key).and_then(|exchange| lost(exchange));
        if let Some(client) = client.filter(|_| message.method() == Some(Method::Invite)) {
            self.client_over(now, client, super::exchange::End::Failed);
        }
    }
}

/// Another shard, where nothing better is known.
pub(super) fn nobody() -> Arc<Peer> {
    let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    Arc::new(Peer {
        remote: nowhere,
        local: nowhere,
        transport: Transport::Tcp,
        side: Side::Inside,
        listener: None,
        identity: None,
        verified: true,
    })
}
