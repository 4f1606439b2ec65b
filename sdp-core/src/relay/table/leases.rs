//! Binding ahead of need, leasing, taking back.

use std::time::Instant;

use super::{Action, BindFailure, Bound, Slot, Table, Usage, Want};
use crate::relay::command::Realm;
use crate::relay::report::{Pair, PairId, Report};

/// Binding gives up after so many busy ports in a row.
const MAX_BUSY: u32 = 512;
/// Pairs bound beyond what a lease asks for, so that the next one is answered at once.
const GROWTH: usize = 32;

impl Table {
    /// The next thing to do; `None`: nothing until the next input.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        loop {
            // What a stream has to tell is told before it goes to where it tells more.
            let leaves = matches!(self.actions.front(), Some(Action::Give { .. }));
            if (!leaves || self.reports.is_empty())
                && let Some(action) = self.actions.pop_front()
            {
                self.vacate(&action);
                return Some(action);
            }
            if let Some(report) = self.reports.pop_front() {
                return Some(Action::Report(report));
            }
            // `None` here means that a bind is under way: its answer comes first.
            if self.binding.is_some() || self.wants.is_empty() {
                return None;
            }
            if let Some(action) = self.work(now) {
                return Some(action);
            }
        }
    }

    /// The driver parts with sockets before it does anything else: their slots may be used again.
    fn vacate(&mut self, action: &Action) {
        match action {
            Action::Close(slot) | Action::Return { slot, .. } => self.vacant.push(slot.0),
            Action::Give { slots: Some(slots), .. } => self.vacant.extend(slots.map(|slot| slot.0)),
            _ => {}
        }
    }

    /// A place for a pair.
    pub(super) fn vacancy(&mut self) -> usize {
        self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// The sockets of the last [`Action::Bind`] are bound; this is their slot.
    pub fn handle_bound(&mut self) -> Option<Slot> {
        let (realm, pair) = self.binding.take()?;
        self.own.insert(pair.rtp);
        self.own.insert(pair.rtcp);
        let at = self.vacancy();
        *self.slots.get_mut(at)? = Some(Bound { pair, usage: Usage::Free, used: false });
        self.pairs.insert(pair.id, at);
        let exact = self.wants.front().is_some_and(|want| want.exact.is_some());
        let state = self.realm_mut(realm)?;
        let advertised = state.advertised;
        if !exact {
            state.free.push_back(at);
        }
        // Behind 1:1 NAT a packet of ours may come back with the outer address.
        self.own.insert((advertised, pair.rtp.port()).into());
        self.own.insert((advertised, pair.rtcp.port()).into());
        if exact {
            self.keep_exact(at);
        } else if let Some(want) = self.wants.front_mut() {
            want.busy = 0;
        }
        Some(Slot(at))
    }

    /// The sockets of the last [`Action::Bind`] could not be bound.
    pub fn handle_bind_failed(&mut self, now: Instant, failure: BindFailure) {
        let Some((realm, pair)) = self.binding.take() else { return };
        if let Some(state) = self.realm_mut(realm) {
            // Somebody else's port rests too: it is tried again later.
            state.pool.rest(now, pair.rtp.port());
        }
        if self.wants.front().is_some_and(|want| want.exact.is_some()) {
            return self.give_up_exact(now);
        }
        match failure {
            BindFailure::Busy => {
                let busy = self.wants.front_mut().map_or(0, |want| {
                    want.busy += 1;
                    want.busy
                });
                if busy >= MAX_BUSY {
                    self.give_up(now, "every port tried is in use by others");
                }
            }
            BindFailure::Fatal(reason) => self.give_up(now, &reason),
        }
    }

    /// One step towards the first want.
    fn work(&mut self, now: Instant) -> Option<Action> {
        let want = self.wants.front()?;
        if want.exact.is_some() {
            return self.work_exact(now);
        }
        let (realm, free) = (want.realm, want.free);
        if self.free_in(realm) >= free {
            self.settle(now, None);
            return None;
        }
        if self.pairs.len() + self.away >= self.config.capacity {
            self.give_up(now, "as many pairs are bound as descriptors allow");
            return None;
        }
        let Some((local, port)) = self.candidate(now, realm) else {
            self.give_up(now, "every port of the range is in use or resting");
            return None;
        };
        self.next_pair += 1;
        let rtcp = port.saturating_add(1);
        let pair =
            Pair { id: PairId(self.next_pair), realm, rtp: (local, port).into(), rtcp: (local, rtcp).into() };
        self.binding = Some((realm, pair));
        Some(Action::Bind { rtp: pair.rtp, rtcp: pair.rtcp })
    }

    fn candidate(&mut self, now: Instant, realm: Realm) -> Option<(std::net::IpAddr, u16)> {
        let (_, state) = self.realms.iter_mut().find(|(name, _)| *name == realm)?;
        Some((state.local, state.pool.take(now, &mut self.random)?))
    }

    fn free_in(&self, realm: Realm) -> usize {
        self.realms.iter().find(|(name, _)| *name == realm).map_or(0, |(_, state)| state.free.len())
    }

    fn give_up(&mut self, now: Instant, reason: &str) {
        self.settle(now, Some(reason.to_owned()));
    }

    /// Ends the first want: grants its lease from what is free, and says what is missing.
    fn settle(&mut self, now: Instant, reason: Option<String>) {
        let Some(want) = self.wants.pop_front() else { return };
        let realm = want.realm;
        let free = self.free_in(realm);
        let Some(asked) = want.lease else {
            if let Some(reason) = reason {
                let missing = u16::try_from(want.free.saturating_sub(free)).unwrap_or(u16::MAX);
                self.reports.push_back(Report::Exhausted { realm, missing, reason });
            }
            return;
        };
        let granted = free.min(usize::from(asked));
        let until = now + self.config.lease_lifetime;
        let slots: Vec<usize> =
            self.realm_mut(realm).map(|state| state.free.drain(..granted).collect()).unwrap_or_default();
        let pairs: Vec<Pair> = slots
            .into_iter()
            .filter_map(|at| {
                let bound = self.slots.get_mut(at)?.as_mut()?;
                bound.usage = Usage::Leased { until };
                Some(bound.pair)
            })
            .collect();
        let missing = usize::from(asked).saturating_sub(pairs.len());
        if !pairs.is_empty() {
            let lifetime_ms = u64::try_from(self.config.lease_lifetime.as_millis()).unwrap_or(u64::MAX);
            self.reports.push_back(Report::Leased { realm, pairs, lifetime_ms });
        }
        if missing > 0 {
            let reason = reason.unwrap_or_else(|| "no such address is configured".into());
            let missing = u16::try_from(missing).unwrap_or(u16::MAX);
            self.reports.push_back(Report::Exhausted { realm, missing, reason });
        }
    }

    pub(super) fn lease(&mut self, realm: Realm, pairs: u16) {
        let known = self.realms.iter().any(|(name, _)| *name == realm);
        let asked = usize::from(pairs);
        let enough = self.free_in(realm) >= asked;
        let free = if !known {
            0
        } else if enough {
            asked
        } else {
            asked + GROWTH
        };
        self.wants.push_back(Want { realm, free, lease: Some(pairs), busy: 0, exact: None });
    }

    /// An unused pair goes back to the free ones.
    pub(super) fn take_back(&mut self, pair: PairId) {
        let Some(at) = self.pairs.get(&pair).copied() else { return };
        let Some(bound) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        if matches!(bound.usage, Usage::Leased { .. } | Usage::Kept) {
            bound.usage = Usage::Free;
            let realm = bound.pair.realm;
            if let Some(state) = self.realm_mut(realm) {
                state.free.push_back(at);
            }
        }
    }

    pub(super) fn keep(&mut self, pair: PairId) {
        let Some(at) = self.pairs.get(&pair).copied() else { return };
        if let Some(bound) = self.slots.get_mut(at).and_then(Option::as_mut)
            && matches!(bound.usage, Usage::Leased { .. })
        {
            bound.usage = Usage::Kept;
        }
    }

    pub(super) fn expire_leases(&mut self, now: Instant) {
        let expired = |bound: &Bound| matches!(bound.usage, Usage::Leased { until } if until <= now);
        let pairs: Vec<PairId> =
            self.slots.iter().flatten().filter(|bound| expired(bound)).map(|bound| bound.pair.id).collect();
        for pair in &pairs {
            self.take_back(*pair);
        }
        if !pairs.is_empty() {
            self.reports.push_back(Report::Expired { pairs });
        }
    }

    /// What a burst has bound beyond the pool is closed when it is free again.
    pub(super) fn shrink(&mut self, now: Instant) {
        let share = self.share.max(1);
        let idle = self.wants.is_empty();
        let surplus: Vec<usize> = self
            .realms
            .iter_mut()
            .filter(|_| idle)
            .flat_map(|(_, state)| {
                state.free.drain(..state.free.len().saturating_sub(share)).collect::<Vec<_>>()
            })
            .collect();
        surplus.into_iter().for_each(|at| self.unbind(now, at));
    }

    /// The pair of a stream that nobody has answered is as good as new: calls that are refused, as each one is that has to
    /// authenticate, would else keep ports from those that are not. Its number is another from now on.
    pub(super) fn free(&mut self, at: usize) {
        if !self.binds {
            return self.hand_back(at);
        }
        self.next_pair += 1;
        let fresh = PairId(self.next_pair);
        let Some(bound) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let old = std::mem::replace(&mut bound.pair.id, fresh);
        (bound.usage, bound.used) = (Usage::Free, false);
        let realm = bound.pair.realm;
        self.pairs.remove(&old);
        self.pairs.insert(fresh, at);
        if let Some(state) = self.realm_mut(realm) {
            state.free.push_back(at);
        }
    }

    /// To the table that binds.
    fn hand_back(&mut self, at: usize) {
        let Some(Bound { pair, .. }) = self.slots.get_mut(at).and_then(Option::take) else { return };
        self.pairs.remove(&pair.id);
        self.actions.push_back(Action::Return { slot: Slot(at), pair });
    }

    /// Another table has given back a pair that was bound here, unused. Its sockets have this slot.
    pub fn handle_returned(&mut self, pair: Pair) -> Slot {
        self.away = self.away.saturating_sub(1);
        let at = self.vacancy();
        self.pairs.insert(pair.id, at);
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(Bound { pair, usage: Usage::Free, used: false });
        }
        self.free(at);
        Slot(at)
    }

    /// A pair that was used is closed, and its ports rest.
    pub(super) fn unbind(&mut self, now: Instant, at: usize) {
        let Some(bound) = self.slots.get_mut(at).and_then(Option::take) else { return };
        let pair = bound.pair;
        let binds = self.binds;
        self.pairs.remove(&pair.id);
        self.own.remove(pair.rtp);
        self.own.remove(pair.rtcp);
        if let Some(state) = self.realm_mut(pair.realm) {
            let advertised = state.advertised;
            if binds {
                state.pool.rest(now, pair.rtp.port());
            }
            self.own.remove((advertised, pair.rtp.port()).into());
            self.own.remove((advertised, pair.rtcp.port()).into());
        }
        self.actions.push_back(Action::Close(Slot(at)));
        if !self.binds {
            self.actions.push_back(Action::Rest(pair));
        }
    }
}
