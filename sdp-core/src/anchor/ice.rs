//! Our credentials in ICE (SDP-11): which leg has some, and which they are.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::Anchor;
use super::session::{OfferedLine, Session, Stream};
use crate::relay::{IceLite, Side, StreamId, StreamSetup};
use crate::rewrite::{Credentials, Placement};

/// Words of the seed's stream that the legs of a session have before ICE begins anew, as a power of two: 16 for each of 2^32.
const ROUND_BITS: u32 = 36;
/// So often it begins with credentials it never had; then with those of long ago.
const ROUNDS: u32 = 4_096;

/// Randomness of the operating system that credentials are made of.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl From<[u8; 32]> for Seed {
    fn from(random: [u8; 32]) -> Self {
        Self(random)
    }
}

impl Seed {
    /// A stream that no session's credentials are taken from: they begin below 2^48 words.
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
    /// The credentials of a leg: those it has, else its own piece of the seed's stream, which no other leg shares. Where ICE
    /// begins anew, they are others (RFC 8445 §9, RFC 8839 §4.4.3.1.1).
    fn credentials(
        &self,
        session: Option<&Session>,
        id: StreamId,
        side: Side,
        restart: Option<u32>,
    ) -> Option<Credentials> {
        let rules = &self.config.policy.rules;
        if !rules.add_ice_candidate || rules.strip_ice {
            return None;
        }
        let stream = session.and_then(|session| session.stream(id.index));
        let restarts = stream.map_or(0, |stream| stream.restarts);
        // An answer may come again: by then it has begun.
        let restart = restart.filter(|restart| *restart != restarts);
        let held =
            stream.and_then(|stream| stream.setup.leg(side).ice.as_ref()).filter(|_| restart.is_none());
        if let Some(held) = held.and_then(|ice| Credentials::of(&ice.ufrag, &ice.password)) {
            return Some(held);
        }
        let mut random = ChaCha20Rng::from_seed(self.config.seed.as_ref()?.0);
        random.set_stream(id.session);
        // Eight words a leg, for each time that ICE begins.
        let round = u128::from(restart.unwrap_or(restarts) % ROUNDS) << ROUND_BITS;
        random.set_word_pos(round + 16 * u128::from(id.index) + if side == Side::Inside { 8 } else { 0 });
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
        (named, restart): (bool, Option<u32>),
    ) -> Option<IceLite> {
        let credentials = self.credentials(session, id, side, restart).filter(|_| named)?;
        Some(IceLite { ufrag: credentials.ufrag().to_owned(), password: credentials.password().to_owned() })
    }

    /// Gives relayed lines that speak ICE their credentials towards `side`.
    pub(super) fn name_ice(&self, id: u64, side: Side, speaks: &[bool], placements: &mut [Placement]) {
        let session = self.sessions.get(&id);
        let lines = session.and_then(|session| session.offer.as_ref()).map_or(&[][..], |offer| &offer.lines);
        for ((placement, line), speaks) in placements.iter_mut().zip(lines).zip(speaks) {
            if let (Placement::Relay { ice, .. }, Some(index), true) = (placement, line.stream, speaks) {
                *ice = self.credentials(session, StreamId { session: id, index }, side, line.restart);
            }
        }
    }
}

/// A mark of somebody's credentials, to know them again by (FNV-1a); 0: there are none. The password itself is not kept.
pub(super) fn mark(ufrag: Option<&[u8]>, password: Option<&[u8]>) -> u64 {
    let Some(ufrag) = ufrag else { return 0 };
    let octets = ufrag.iter().chain(b" ").chain(password.unwrap_or_default());
    octets
        .fold(0xcbf2_9ce4_8422_2325, |mark, octet| (mark ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

impl Session {
    /// Which restart of ICE a line of an offer asks for: its author has other credentials than before (RFC 8445 §9), or our
    /// candidates are others. It is passed on: both ends of the stream begin anew.
    pub(super) fn restart(&self, from: Side, line: &OfferedLine, moved: bool) -> Option<u32> {
        let stream = self.stream(line.stream?).filter(|stream| stream.agreed)?;
        let said = line.described.as_ref().map_or(0, |described| described.ice_mark);
        let before = stream.ice_marks[side_number(from)];
        let other = said != 0 && before != 0 && said != before;
        let spoke = stream.ice_marks.iter().any(|mark| *mark != 0);
        (other || (moved && spoke)).then_some(stream.restarts.wrapping_add(1))
    }
}

impl Stream {
    /// What an answer says of ICE comes into effect, with the restart that its offer asked for; the first answer to it leaves
    /// what was before to count for a while.
    pub(super) fn renew_ice(
        &mut self,
        restart: Option<u32>,
        ice: [(Side, Option<IceLite>); 2],
        setup: &mut StreamSetup,
    ) {
        let first = restart.is_some_and(|restart| restart != self.restarts);
        self.restarts = restart.unwrap_or(self.restarts);
        for (side, ice) in ice {
            let known = self.setup.leg(side);
            let before = if first { known.ice.clone().map(Box::new) } else { known.ice_before.clone() };
            let leg = setup.leg_mut(side);
            (leg.ice, leg.ice_before) = (ice, before);
        }
    }

    /// Whose credentials are in effect.
    pub(super) fn hear_ice(&mut self, marks: [(Side, u64); 2]) {
        // Who leaves ICE out for once and comes back to it does not begin where he was.
        for (side, mark) in marks.into_iter().filter(|(_, mark)| *mark != 0) {
            self.ice_marks[side_number(side)] = mark;
        }
    }
}

const fn side_number(side: Side) -> usize {
    match side {
        Side::Outside => 0,
        Side::Inside => 1,
    }
}
