//! Connections that switches opened, for requests to them: because their Via said `alias` (RFC 5923), or because they are
//! listed as peers that can't be dialled (SIP-39, `sip.interop.tls_reuse`).
//!
//! Only connections under mutual TLS count: whoever could claim an alias without a certificate could take a switch's
//! requests (RFC 5923 §9). A phone is never dialled, so that nothing of this concerns it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::Edge;
use super::exchange::Incoming;
use crate::flow::{Dial, FlowId, Peer, Side, Target, Transport};
use crate::header::Via;

/// Connections of one address that are remembered; the newest is used.
const EACH: usize = 64;

/// All of them.
#[derive(Default)]
pub(super) struct Reuse {
    /// By the address that opened them, the newest last.
    opened: HashMap<IpAddr, Vec<FlowId>>,
    /// By the address that requests for their opener go to.
    aliases: HashMap<SocketAddr, FlowId>,
    /// Those whose first request is still to come.
    fresh: HashSet<FlowId>,
}

impl Reuse {
    pub(super) fn opened(&mut self, flow: FlowId, peer: &Peer) {
        let proven = peer.side == Side::Inside
            && peer.transport == Transport::Tls
            && peer.verified
            && peer.identity.is_some();
        let flows = self.opened.get(&peer.remote.ip().to_canonical()).map_or(0, Vec::len);
        if proven && flows < EACH {
            self.opened.entry(peer.remote.ip().to_canonical()).or_default().push(flow);
            self.fresh.insert(flow);
        }
    }

    pub(super) fn closed(&mut self, flow: FlowId, peer: &Peer) {
        self.fresh.remove(&flow);
        let address = peer.remote.ip().to_canonical();
        let Some(flows) = self.opened.get_mut(&address) else { return };
        flows.retain(|one| *one != flow);
        if flows.is_empty() {
            self.opened.remove(&address);
        }
        self.aliases.retain(|_, one| *one != flow);
    }

    /// The newest connection that this address opened.
    fn newest(&self, address: IpAddr) -> Option<FlowId> {
        self.opened.get(&address.to_canonical())?.last().copied()
    }
}

impl Edge {
    /// The first request on a connection says whether it is an alias.
    pub(super) fn note_alias(&mut self, incoming: &Incoming) {
        if self.reuse.fresh.is_empty() {
            return;
        }
        let Some(flow) = incoming.source.flow().filter(|flow| self.reuse.fresh.remove(flow)) else { return };
        let Some(Ok(via)) = incoming.message.header::<Via>() else { return };
        if !via.alias() {
            return;
        }
        // RFC 5923 §8.2: the alias must be who the certificate says; an address, the one it comes from.
        let (host, peer) = (via.host().to_string(), &incoming.peer);
        let address = peer.remote.ip().to_canonical();
        let named = || {
            let identity = peer.identity.as_ref();
            identity
                .is_some_and(|identity| identity.names.iter().any(|name| name.eq_ignore_ascii_case(&host)))
        };
        if via.host().ip().map_or_else(named, |said| said.to_canonical() == address) {
            let port = via.port().unwrap_or_else(|| Transport::Tls.default_port());
            self.reuse.aliases.insert(SocketAddr::new(address, port), flow);
        }
    }

    /// Whether a peer may be reached only over a connection that it opened itself.
    pub(super) fn is_undiallable(&self, dial: &Dial) -> bool {
        let listed = &self.config.interop.transports.tls_reuse;
        !listed.is_empty()
            && dial.transport == Transport::Tls
            && listed.holds(dial.remote.ip().to_canonical())
    }

    /// Where a request to a switch goes: a connection it opened, or one that is dialled. `None`: it has none, and may not be
    /// dialled.
    pub(super) fn target_of(&mut self, dial: Dial) -> Option<Target> {
        if self.is_undiallable(&dial) {
            return self.reuse.newest(dial.remote.ip()).map(Target::Flow);
        }
        let dial = self.on_line(dial);
        // A phone's own line tells the switch who asks, which an alias can't.
        if dial.affinity.is_none()
            && dial.transport == Transport::Tls
            && let Some(flow) = self.reuse.aliases.get(&dial.remote)
        {
            return Some(Target::Flow(*flow));
        }
        Some(dial.into())
    }
}
