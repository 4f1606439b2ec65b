//! Our credentials in ICE (SDP-11): which leg has some, and which they are.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::Anchor;
use super::session::Session;
use crate::relay::{IceLite, Side, StreamId};
use crate::rewrite::{Credentials, Placement};

/// Randomness of the operating system that credentials are made of.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl From<[u8; 32]> for Seed {
    fn from(random: [u8; 32]) -> Self {
        Self(random)
    }
}

impl Seed {
    /// A stream that no session's credentials are taken from: they begin below 2^37 words.
    pub(super) fn keys(&self) -> ChaCha20Rng {
        let mut random = ChaCha20Rng::from_seed(self.0);
        random.set_stream(u64::MAX);
        random.set_word_pos(1 << 50);
        random
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Anchor {
    /// The credentials of a leg: those it has, else its own piece of the seed's stream, which no other leg shares.
    fn credentials(&self, session: Option<&Session>, id: StreamId, side: Side) -> Option<Credentials> {
        let rules = &self.config.policy.rules;
        if !rules.add_ice_candidate || rules.strip_ice {
            return None;
        }
        let held = session.and_then(|session| session.stream(id.index)?.setup.leg(side).ice.as_ref());
        if let Some(held) = held.and_then(|ice| Credentials::of(&ice.ufrag, &ice.password)) {
            return Some(held);
        }
        let mut random = ChaCha20Rng::from_seed(self.config.seed.as_ref()?.0);
        random.set_stream(id.session);
        // Eight words a leg.
        random.set_word_pos(16 * u128::from(id.index) + if side == Side::Inside { 8 } else { 0 });
        let mut octets = [0; 32];
        random.fill_bytes(&mut octets);
        Some(Credentials::new(octets))
    }

    /// What the relay answers checks by on a leg, where the description that went there names it.
    pub(super) fn ice_lite(
        &self,
        session: Option<&Session>,
        id: StreamId,
        side: Side,
        named: bool,
    ) -> Option<IceLite> {
        let credentials = self.credentials(session, id, side).filter(|_| named)?;
        Some(IceLite { ufrag: credentials.ufrag().to_owned(), password: credentials.password().to_owned() })
    }

    /// Gives relayed lines that speak ICE their credentials towards `side`.
    pub(super) fn name_ice(&self, id: u64, side: Side, speaks: &[bool], placements: &mut [Placement]) {
        let session = self.sessions.get(&id);
        let lines = session.and_then(|session| session.offer.as_ref()).map_or(&[][..], |offer| &offer.lines);
        for ((placement, line), speaks) in placements.iter_mut().zip(lines).zip(speaks) {
            if let (Placement::Relay { ice, .. }, Some(index), true) = (placement, line.stream, speaks) {
                *ice = self.credentials(session, StreamId { session: id, index }, side);
            }
        }
    }
}
