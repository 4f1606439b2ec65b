//! How we call ourselves on each listener: a phone is told the address, port and transport that it uses itself, or its
//! next request would go to a listener that it can't speak to.

use std::net::SocketAddr;

use super::config::{Config, Face};
use super::exchange::Hop;
use crate::flow::{Peer, Side, Transport};

/// One listener: an address and a transport of a row of `[[sip.ports]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// The address it is bound to, as [`Peer::local`] shows it.
    pub local: SocketAddr,
    /// What it speaks.
    pub transport: Transport,
    /// The side it faces.
    pub side: Side,
    /// What we call ourselves to who comes by it.
    pub face: Face,
    /// Whether requests that name somebody else are served too, as by an outbound proxy: `intercept` (SIP-03).
    pub intercept: bool,
}

impl Listener {
    /// A listener that is called as it is bound.
    pub fn new(side: Side, local: SocketAddr, transport: Transport) -> Self {
        let face = Face::new(local.ip().to_canonical().to_string(), local.port(), transport);
        Self { local, transport, side, face, intercept: true }
    }
}

impl Config {
    /// Adds a listener; what it is called means us from now on.
    pub fn add_listener(&mut self, listener: Listener) {
        let side = match listener.side {
            Side::Outside => &mut self.outside,
            Side::Inside => &mut self.inside,
        };
        for name in std::iter::once(&listener.face.host).chain(&listener.face.aliases) {
            if !side.is(name) {
                side.aliases.push(name.clone());
            }
        }
        self.listeners.push(listener);
    }

    /// The listener that this peer came by.
    pub(super) fn listener(&self, peer: &Peer) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|one| one.local == peer.local && one.transport == peer.transport && one.side == peer.side)
    }

    /// What we call ourselves to this peer.
    pub(super) fn face_of(&self, peer: &Peer) -> &Face {
        match self.listener(peer) {
            Some(listener) => &listener.face,
            None => self.face_towards(peer.side, peer.transport, peer.remote),
        }
    }

    /// What we call ourselves to somebody whom we send to first: the listener of that transport and family.
    pub(super) fn face_towards(&self, side: Side, transport: Transport, remote: SocketAddr) -> &Face {
        let fits = |one: &&Listener| {
            one.side == side && one.transport == transport && one.local.is_ipv4() == remote.is_ipv4()
        };
        self.listeners.iter().find(fits).map_or_else(|| self.face(side), |one| &one.face)
    }

    /// What we call ourselves at the other end of a hop.
    pub(super) fn face_at(&self, hop: &Hop) -> &Face {
        match hop {
            Hop::Phone(_, peer) => self.face_of(peer),
            Hop::Switch(_) | Hop::Name(_) | Hop::Shard(_) => match hop.remote() {
                Some(remote) => self.face_towards(Side::Inside, hop.transport(), remote),
                None => &self.inside,
            },
        }
    }

    /// What we call ourselves on a side where nothing nearer is known.
    pub(super) fn face(&self, side: Side) -> &Face {
        match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        }
    }
}
