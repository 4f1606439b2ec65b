//! Which address of a switch is asked: looking its name up (RFC 3263 §4.1, §4.2), choosing among what was found, and going
//! on to the next when one fails (RFC 3263 §4.3). A phone has one way only and is not concerned.
//!
//! Going on makes a further branch of the same request, as RFC 3261 §16.7 step 6 wants it for serial forking: whatever the
//! first address says late is handled like any other fork.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::{Event, Reason, Why};
use super::exchange::{Answer, Branch, Exchange, Hop, Lookup};
use super::switches::Verdict;
use super::uri_codec::{is_secure, transport_of};
use crate::flow::Transport;
use crate::message::Method;
use crate::resolve::locate::{Over, Place, Progress, Sought};
use crate::transaction::ServerKey;
use crate::uri::Uri;

/// How long the first address may be silent before the next is asked as well. An INVITE is answered 100 within 200 ms
/// (RFC 3261 §17.2.1), any other request after 3.5 s at most (RFC 4320 §4.1).
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// Addresses of one target that are tried at most.
const ADDRESSES: usize = 16;

impl Edge {
    /// How a URI may be reached that DNS is asked about: `sips` over TLS and nothing else, a transport it names, else what
    /// the inside speaks. DNS never takes TLS away.
    pub(super) fn over(&self, uri: &Uri<'_>) -> Over {
        let named = transport_of(uri);
        match (is_secure(uri), named, self.config.switches.transport) {
            // RFC 3261 §26.2.2: sips with transport=tcp is TLS over TCP.
            (true, Some(_), _) => Over::Named(Transport::Tls),
            (true, None, _) => Over::Any(vec![Transport::Tls]),
            (false, Some(transport), _) => Over::Named(transport),
            (false, None, own) => self.any_transport(own),
        }
    }

    /// The transports of the inside, the configured one first.
    pub(super) fn any_transport(&self, own: Transport) -> Over {
        Over::Any(match own {
            Transport::Udp => vec![Transport::Udp, Transport::Tcp],
            Transport::Tcp => vec![Transport::Tcp, Transport::Udp],
            Transport::Tls => vec![Transport::Tls],
        })
    }

    pub(super) fn look_up(&mut self, now: Instant, exchange: &mut Exchange, index: usize, sought: Sought) {
        if self.lookups.len() >= self.config.limits.lookups {
            let answer = Answer::Own(503, "Overload", Reason::Limit("lookups"));
            return self.fail_branch(now, exchange, index, answer);
        }
        match self.locator.locate(now, sought, &self.config.internal_domains, &mut self.random) {
            Progress::Found(places) => self.take_places(now, exchange, index, &places),
            Progress::Waiting(number) => {
                self.lookups.insert(number, Lookup { key: exchange.key, branch: index });
            }
        }
    }

    /// Searches that are done.
    pub(super) fn located(&mut self, now: Instant) {
        while let Some((number, places)) = self.locator.poll_found() {
            if let Some(row) = self.monitor.searched(number) {
                self.found_monitored(now, row, &places);
                continue;
            }
            let Some(lookup) = self.lookups.remove(&number) else { continue };
            let Some(mut exchange) = self.exchanges.remove(&lookup.key) else { continue };
            self.take_places(now, &mut exchange, lookup.branch, &places);
            self.park(exchange);
        }
    }

    fn take_places(&mut self, now: Instant, exchange: &mut Exchange, index: usize, places: &[Place]) {
        let Some(branch) = exchange.branches.get(index).filter(|branch| !branch.over) else { return };
        if places.is_empty() {
            return self.fail_branch(now, exchange, index, unreachable_switch());
        }
        // Every address must lie inside, or a name could be made to point anywhere (ruling "which switch", H2).
        let inside = |place: &Place| {
            let address = place.address.to_canonical();
            self.config.inside_networks.contains(address) && !self.is_own(&address.to_string())
        };
        if !places.iter().all(inside) {
            let answer = Answer::Own(403, "Forbidden", Reason::Destination);
            return self.fail_branch(now, exchange, index, answer);
        }
        let phone = branch.way.phone;
        let dial = |place: &Place| self.dial(place.transport, place.address, place.port, phone);
        let dials: VecDeque<_> = places.iter().take(ADDRESSES).map(dial).collect();
        if let Some(branch) = exchange.branches.get_mut(index) {
            branch.way.hop = Hop::Switch(dials);
        }
        self.send_branch(now, exchange, index);
    }

    /// Leaves out the addresses that may not be asked now; `false` when there is no other.
    pub(super) fn choose_switch(&mut self, now: Instant, exchange: &mut Exchange, index: usize) -> bool {
        let Some(branch) = exchange.branches.get_mut(index) else { return false };
        let Hop::Switch(dials) = &mut branch.way.hop else { return true };
        if !self.switches.is_empty() {
            dials.retain(|dial| self.switches.is_usable(now, (*dial).into()));
        }
        if dials.len() > 1 {
            self.patiences.insert((now + PATIENCE, exchange.key));
        }
        !dials.is_empty()
    }

    /// Asks the next address of the same target as well, if there is one and the request still waits for an answer
    /// (RFC 3263 §4.3).
    pub(super) fn fail_over(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        index: usize,
        why: Why,
    ) -> bool {
        if !exchange.context.awaits(index) {
            return false;
        }
        let Some(branch) = exchange.branches.get_mut(index) else { return false };
        let Hop::Switch(dials) = &mut branch.way.hop else { return false };
        if dials.len() < 2 {
            return false;
        }
        let rest = dials.split_off(1);
        let Some(failed) = dials.front().copied() else { return false };
        let mut way = branch.way.clone();
        way.hop = Hop::Switch(rest);
        self.mark_failover(&mut way, failed.remote.ip(), why);
        self.lines.hold(way.phone);
        let next = exchange.context.add();
        exchange.branches.push(Branch::new(way));
        self.tell(Event::FailedOver { remote: failed.remote, why });
        self.send_branch(now, exchange, next);
        true
    }

    /// An address that was silent for so long that the next is asked: see [`PATIENCE`].
    pub(super) fn lose_patience(&mut self, now: Instant, key: ServerKey) {
        let Some(mut exchange) = self.exchanges.remove(&key) else { return };
        let index = exchange.branches.len().saturating_sub(1);
        if exchange.context.is_silent(index)
            && let Some(Hop::Switch(dials)) = exchange.branches.get(index).map(|b| &b.way.hop)
            && let (Some(dial), true) = (dials.front().copied(), dials.len() > 1)
        {
            // Anything else may take its time.
            if exchange.incoming.method() == Method::Invite {
                self.blame(now, dial.into(), Verdict::Silent, PATIENCE);
            }
            if self.fail_over(now, &mut exchange, index, Why::Timeout) {
                let answer = Answer::Own(408, "Request Timeout", Reason::Unreachable);
                exchange.context.leave(index, 408, answer);
            }
        }
        self.park(exchange);
    }

    /// A request could not be sent to a switch, or the connection it went by is gone.
    pub(super) fn switch_lost(&mut self, exchange: &Exchange, index: usize) {
        if let Some(remote) = exchange.branches.get(index).and_then(|branch| branch.way.hop.remote()) {
            self.tell(Event::SwitchUnreachable { remote });
        }
    }

    /// A switch that let a transaction time out (SAM-30).
    pub(super) fn switch_silent(&mut self, now: Instant, exchange: &Exchange, index: usize) {
        // Judged when the next one was asked.
        if exchange.is_invite() && exchange.context.is_left(index) {
            return;
        }
        if let Some(Hop::Switch(dials)) = exchange.branches.get(index).map(|branch| &branch.way.hop)
            && let Some(dial) = dials.front().copied()
        {
            let span = self.config.transactions.lifetime();
            self.blame(now, dial.into(), Verdict::Silent, span);
        }
    }
}

/// The switch can't be reached.
pub(super) fn unreachable_switch() -> Answer {
    Answer::Own(503, "Service Unavailable", Reason::Unreachable)
}
