//! Where each phone is: the location of seam D, a synchronous local replica.
//!
//! A binding is made by the PBX's 2xx to a REGISTER and outlives the connection it came over: a phone that is
//! registered but not connected is known and gone (480), not unknown (404). Changes leave through
//! [`Bindings::poll_change`] and enter through [`Bindings::apply`]; a durable log or a cluster stands behind both.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::flow::{FlowId, Identity, Peer, Side, Source};
use crate::numbered::Numbered;
use crate::shard::Shard;
use crate::token::{InstanceId, token_instance, token_key, token_matches};

mod lists;
mod record;
mod spares;

pub use record::{Change, NameParts, Record, Switch};

use super::refresh::Accepted;
use lists::{drop_id, one};
use spares::Spares;

/// The most users learnt for one phone; the oldest leaves (SIP-18).
pub const USERS: usize = 16;

/// One phone.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its id.
    pub id: InstanceId,
    /// What is durable.
    pub record: Record,
    /// Whether the PBX accepted a registration; `false` for a guest that only made requests.
    pub registered: bool,
    /// When it expires.
    pub expires: Instant,
    /// The connection it is reached by, if it has one.
    pub path: Option<Source>,
    /// Who is at the other end of that connection.
    pub peer: Option<Arc<Peer>>,
    /// The connection of another shard that it is reached by. Never together with `path`.
    pub away: Option<Source>,
    /// Goes up with each arrival: the newest of several phones.
    pub arrival: u64,
    /// What it registered and may refresh without the registrar.
    accepted: Option<Box<Accepted>>,
}

impl Binding {
    /// The flow token that is shown on `side`.
    pub fn flow_token(&self, side: Side) -> &str {
        match side {
            Side::Outside => &self.record.flow_tokens[0],
            Side::Inside => &self.record.flow_tokens[1],
        }
    }

    /// Who it is by certificate, while connected.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.peer.as_ref()?.identity.as_ref()
    }

    /// Whether it is connected, here or at another shard.
    pub fn is_connected(&self) -> bool {
        self.path.is_some() || self.away.is_some()
    }

    /// Whether this is one of the phone's users.
    pub fn has_user(&self, user: &str) -> bool {
        self.record.user == user || self.record.users.iter().any(|u| u == user)
    }
}

/// All phones, by id, user, connection and certificate.
#[derive(Default)]
pub struct Bindings {
    /// Boxed, for a table is up to twice as long as what it holds.
    by_id: Numbered<InstanceId, Box<Binding>>,
    by_user: HashMap<String, Vec<InstanceId>>,
    by_path: Numbered<Source, Vec<InstanceId>>,
    by_certificate: Numbered<[u8; 32], Vec<InstanceId>>,
    /// Handles of the address form *shorter*, lower case.
    by_handle: HashMap<String, InstanceId>,
    /// How many were born with each key.
    keys: Numbered<u8, usize>,
    /// Further connections of phones that speak RFC 5626.
    spares: Numbered<InstanceId, Spares>,
    expiries: BTreeSet<(Instant, InstanceId)>,
    changes: VecDeque<Change>,
    /// Those forgotten since they were last asked for.
    gone: Vec<InstanceId>,
    /// Connections of phones that are another shard's now.
    left: Vec<FlowId>,
    arrivals: u64,
    shard: Shard,
}

impl Bindings {
    /// The replica of one shard.
    pub(super) fn on(shard: Shard) -> Self {
        Self { shard, ..Self::default() }
    }

    /// Whether a phone is this shard's.
    pub fn is_ours(&self, binding: &Binding) -> bool {
        self.shard.owns(&binding.record.certificate)
    }

    /// The phone of this id.
    pub fn get(&self, id: InstanceId) -> Option<&Binding> {
        self.by_id.get(&id).map(|binding| &**binding)
    }

    /// How many there are, guests included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Every phone.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.by_id.values().map(|binding| &**binding)
    }

    /// How many a certificate has.
    pub fn of_certificate(&self, certificate: &[u8; 32]) -> &[InstanceId] {
        self.by_certificate.get(certificate).map_or(&[], Vec::as_slice)
    }

    /// The phones on a connection.
    pub fn of_path(&self, source: &Source) -> &[InstanceId] {
        self.by_path.get(source).map_or(&[], Vec::as_slice)
    }

    /// The phone whose genuine contact token this is.
    pub fn by_contact_token(&self, token: &[u8]) -> Option<&Binding> {
        let binding = self.get(token_instance(token)?)?;
        token_matches(binding.record.contact_token.as_deref()?, token).then_some(binding)
    }

    /// The phone and user part that a handle stands for, in any case.
    pub(super) fn by_handle(&self, handle: &[u8]) -> Option<(InstanceId, Option<Vec<u8>>)> {
        let handle = String::from_utf8(handle.to_ascii_lowercase()).ok()?;
        let binding = self.get(*self.by_handle.get(&handle)?)?;
        let (_, user) =
            binding.record.address.as_ref()?.handles.iter().find(|(known, _)| *known == handle)?;
        Some((binding.id, user.as_ref().map(|user| user.as_bytes().to_vec())))
    }

    /// A handle for another user part of a phone.
    pub(super) fn add_handle(&mut self, now: Instant, id: InstanceId, user: Option<&[u8]>, handle: String) {
        let Some(binding) = self.by_id.get_mut(&id) else { return };
        self.by_handle.insert(handle.clone(), id);
        let address = binding.record.address.get_or_insert_default();
        if let Some(oldest) = address.add_handle(&binding.record.user, user, handle) {
            self.by_handle.remove(&oldest);
        }
        self.tell_again(now, id);
    }

    /// The keys that living bindings were born with.
    pub fn born_with(&self) -> impl Iterator<Item = u8> {
        self.keys.keys().copied()
    }

    /// Tells the location what a registered phone is now.
    fn tell_again(&mut self, now: Instant, id: InstanceId) {
        let Some(binding) = self.by_id.get(&id).filter(|binding| binding.registered) else { return };
        let mut record = binding.record.clone();
        record.expires_in = binding.expires.saturating_duration_since(now).as_secs();
        self.changes.push_back(Change::Put(Box::new(record)));
    }

    /// The phone whose genuine flow token for `side` this is.
    pub fn by_flow_token(&self, side: Side, token: &[u8]) -> Option<&Binding> {
        let binding = self.get(token_instance(token)?)?;
        token_matches(binding.flow_token(side), token).then_some(binding)
    }

    /// The registered phones of a user; with a domain, only those registered there.
    pub fn by_user<'a>(&'a self, user: &str, domain: Option<&'a str>) -> impl Iterator<Item = &'a Binding> {
        let ids = self.by_user.get(user).map_or(&[][..], Vec::as_slice);
        ids.iter()
            .filter_map(|id| self.get(*id))
            .filter(move |b| b.registered && domain.is_none_or(|d| b.record.domain.eq_ignore_ascii_case(d)))
    }

    /// Makes or refreshes a phone that is at `path` now, or nowhere. Tells the location when it is a registration.
    pub fn put(&mut self, now: Instant, record: Record, registered: bool, path: Option<(Source, Arc<Peer>)>) {
        let id = InstanceId(record.id);
        let expires = now + Duration::from_secs(record.expires_in);
        if registered {
            self.changes.push_back(Change::Put(Box::new(record.clone())));
        }
        if let Some((at, peer)) = &path
            && self.is_refresh(&record, registered, at)
        {
            return self.refresh(expires, record, peer.clone());
        }
        let was = self.get(id).filter(|b| b.registered).and_then(|b| b.path);
        let arrival = self.next_arrival();
        self.insert(Binding {
            id,
            record,
            registered,
            expires,
            path: None,
            peer: None,
            away: None,
            arrival,
            accepted: None,
        });
        if let Some((path, peer)) = path {
            self.place(id, path, peer);
        }
        if self.get(id).is_some_and(|b| b.path != was) {
            self.tell_place(id);
        }
    }

    /// Whether a phone is where it was, by every name that it had: no index changes, and with thousands of phones that share one
    /// user no list of them is searched.
    fn is_refresh(&self, record: &Record, registered: bool, at: &Source) -> bool {
        let id = InstanceId(record.id);
        let stays = |b: &Binding| b.registered == registered && b.path == Some(*at);
        // Who came last on a connection stands last.
        self.get(id).is_some_and(|b| stays(b) && b.record.is_indexed_as(record))
            && self.of_path(at).last() == Some(&id)
    }

    fn refresh(&mut self, expires: Instant, record: Record, peer: Arc<Peer>) {
        let id = InstanceId(record.id);
        let arrival = self.next_arrival();
        let Some(binding) = self.by_id.get_mut(&id) else { return };
        self.expiries.remove(&(binding.expires, id));
        self.expiries.insert((expires, id));
        binding.record = record;
        (binding.expires, binding.peer, binding.arrival) = (expires, Some(peer), arrival);
    }

    fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Other shards hear where a registered phone of ours is now.
    fn tell_place(&mut self, id: InstanceId) {
        let Some(binding) = self.by_id.get(&id).filter(|b| b.registered && !self.shard.is_alone()) else {
            return;
        };
        if self.is_ours(binding) {
            self.changes.push_back(Change::Moved { id: id.0, path: binding.path });
        }
    }

    fn insert(&mut self, binding: Binding) {
        self.take(binding.id);
        let id = binding.id;
        self.index_user(&binding.record.user.clone(), id);
        for user in &binding.record.users {
            self.index_user(user, id);
        }
        self.by_certificate.entry(binding.record.certificate).or_insert_with(one).push(id);
        for (handle, _) in binding.record.address.iter().flat_map(|address| &address.handles) {
            self.by_handle.insert(handle.clone(), id);
        }
        if let Some(key) = token_key(&binding.record.flow_tokens[1]) {
            *self.keys.entry(key).or_default() += 1;
        }
        self.expiries.insert((binding.expires, id));
        self.by_id.insert(id, Box::new(binding));
    }

    fn index_user(&mut self, user: &str, id: InstanceId) {
        let ids = self.by_user.entry(user.to_owned()).or_insert_with(one);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }

    /// Moves a phone to another connection.
    pub fn attach(&mut self, id: InstanceId, path: Source, peer: Arc<Peer>) {
        self.place(id, path, peer);
        self.tell_place(id);
    }

    fn place(&mut self, id: InstanceId, path: Source, peer: Arc<Peer>) {
        self.unplace(id);
        if let Some(binding) = self.by_id.get_mut(&id) {
            binding.path = Some(path);
            binding.peer = Some(peer);
            self.by_path.entry(path).or_insert_with(one).push(id);
        }
    }

    /// Takes a phone off its connections: known, but gone.
    pub fn detach(&mut self, id: InstanceId) {
        self.drop_spares(id);
        if self.unplace(id) {
            self.tell_place(id);
        }
    }

    /// `false` if it was nowhere.
    fn unplace(&mut self, id: InstanceId) -> bool {
        let Some(binding) = self.by_id.get_mut(&id) else { return false };
        binding.peer = None;
        binding.away = None;
        let Some(path) = binding.path.take() else { return false };
        drop_id(&mut self.by_path, &path, id);
        true
    }

    /// A connection is gone: its registered phones are on the next one they have or on none, its guests are forgotten. Those
    /// that it was the first one of.
    pub fn close(&mut self, path: Source) -> Vec<InstanceId> {
        let mut ids = self.of_path(&path).to_vec();
        ids.retain(|id| !self.close_spare(*id, &path));
        for id in &ids {
            if self.unplace(*id) {
                self.take_spare(*id);
                self.tell_place(*id);
            }
            if self.get(*id).is_some_and(|b| !b.registered) {
                self.take(*id);
                self.gone.push(*id);
            }
        }
        ids
    }

    /// Forgets a phone and tells the location.
    pub fn remove(&mut self, id: InstanceId) -> Option<Binding> {
        let binding = self.take(id)?;
        self.drop_spares(id);
        self.gone.push(id);
        // What is another shard's, that one tells.
        if binding.registered && self.is_ours(&binding) {
            self.changes.push_back(Change::Remove(id.0));
        }
        Some(binding)
    }

    fn take(&mut self, id: InstanceId) -> Option<Binding> {
        let binding = *self.by_id.remove(&id)?;
        drop_id(&mut self.by_user, &binding.record.user, id);
        for user in &binding.record.users {
            drop_id(&mut self.by_user, user, id);
        }
        drop_id(&mut self.by_certificate, &binding.record.certificate, id);
        for (handle, _) in binding.record.address.iter().flat_map(|address| &address.handles) {
            self.by_handle.remove(handle);
        }
        if let Some(key) = token_key(&binding.record.flow_tokens[1])
            && let Some(count) = self.keys.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
        if let Some(path) = &binding.path {
            drop_id(&mut self.by_path, path, id);
        }
        self.expiries.remove(&(binding.expires, id));
        Some(binding)
    }

    /// Another user that this phone goes by.
    pub fn learn(&mut self, now: Instant, id: InstanceId, user: &str) {
        let Some(binding) = self.by_id.get_mut(&id) else { return };
        if binding.has_user(user) || user.is_empty() {
            return;
        }
        binding.record.users.push(user.to_owned());
        let oldest = (binding.record.users.len() > USERS).then(|| binding.record.users.remove(0));
        self.tell_again(now, id);
        self.index_user(user, id);
        if let Some(oldest) = oldest {
            drop_id(&mut self.by_user, &oldest, id);
        }
    }

    /// What a registered phone may refresh without the registrar; gone when it is on another connection.
    pub(super) fn accepted_mut(&mut self, id: InstanceId) -> Option<&mut Accepted> {
        let binding = self.by_id.get_mut(&id).filter(|binding| binding.registered)?;
        Some(binding.accepted.get_or_insert_default())
    }

    /// Puts off the end of a guest that is still at work.
    pub fn extend(&mut self, id: InstanceId, expires: Instant) {
        let Some(binding) = self.by_id.get_mut(&id) else { return };
        self.expiries.remove(&(binding.expires, id));
        binding.expires = expires;
        self.expiries.insert((expires, id));
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Takes out one whose time is up.
    pub fn expire(&mut self, now: Instant) -> Option<Binding> {
        let (at, id) = *self.expiries.first()?;
        if at > now { None } else { self.remove(id) }
    }

    /// A change for the durable log and other nodes.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// A phone that was forgotten; it may have come back since.
    pub(super) fn poll_gone(&mut self) -> Option<InstanceId> {
        self.gone.pop()
    }

    /// A connection of a phone that registered at another shard meanwhile, with another certificate.
    pub(super) fn poll_left(&mut self) -> Option<FlowId> {
        self.left.pop()
    }

    /// A change from elsewhere. A phone of ours that is connected is not touched by what others remember of it.
    pub fn apply(&mut self, now: Instant, change: Change) {
        let id = match &change {
            Change::Put(record) => InstanceId(record.id),
            Change::Remove(id) | Change::Moved { id, .. } => InstanceId(*id),
        };
        let known = self.get(id);
        let ours = known.is_some_and(|b| self.is_ours(b));
        let connected = known.is_some_and(|b| b.path.is_some());
        match change {
            Change::Put(record) if !connected || !self.shard.owns(&record.certificate) => {
                self.put_away(now, *record);
            }
            Change::Remove(_) if !connected || self.shard.is_alone() => {
                self.take(id);
                self.drop_spares(id);
                self.gone.push(id);
            }
            Change::Moved { path, .. } if !ours => {
                if let Some(binding) = self.by_id.get_mut(&id) {
                    binding.away = path;
                }
            }
            Change::Put(_) | Change::Remove(_) | Change::Moved { .. } => {}
        }
    }

    /// A registration as the log or another shard has it.
    fn put_away(&mut self, now: Instant, record: Record) {
        let id = InstanceId(record.id);
        let expires = now + Duration::from_secs(record.expires_in);
        let known = self.get(id);
        let (path, away) = known.map_or((None, None), |b| (b.path, b.away));
        // From the log nobody knows who came last.
        let arrival = if self.shard.owns(&record.certificate) { 0 } else { self.next_arrival() };
        self.insert(Binding {
            id,
            record,
            registered: true,
            expires,
            path: None,
            peer: None,
            away,
            arrival,
            accepted: None,
        });
        // It was connected here, and has registered elsewhere with another certificate.
        if let Some(flow) = path.and_then(|path| path.flow()) {
            self.drop_spares(id);
            self.gone.push(id);
            if self.of_path(&Source::Flow(flow)).is_empty() {
                self.left.push(flow);
            }
        }
    }
}

#[cfg(test)]
mod tests;
