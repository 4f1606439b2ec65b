//! Several machines side by side, one a core: whose a phone is, and what one machine hands another.
//!
//! Each machine (shard) owns its connections, transactions, calls and media sessions. Whose a phone is follows from the
//! key of its certificate and from nothing else, so that every connection, registration and ceiling of one certificate
//! is on one shard, nobody has to be told, and a restart with another number of shards is no special case. All shards
//! know all registrations (seam D). A message that arrives where it does not belong crosses once, whole
//! ([`Handed`]); what answers it crosses back as a [`Transmit`](crate::flow::Transmit) to the connection it came by.

use std::sync::Arc;

use crate::flow::{Peer, Source};
use crate::message::Message;

/// The most shards there can be: a branch has one character for it.
pub const MOST: u8 = 32;

/// One of several machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    index: u8,
    count: u8,
}

impl Default for Shard {
    fn default() -> Self {
        Self::ALONE
    }
}

impl Shard {
    /// The only machine.
    pub const ALONE: Self = Self { index: 0, count: 1 };

    /// All shards of a gateway that has so many: at least one, at most [`MOST`].
    pub fn all(count: usize) -> impl ExactSizeIterator<Item = Self> {
        let count = u8::try_from(count).unwrap_or(MOST).clamp(1, MOST);
        (0..count).map(move |index| Self { index, count })
    }

    /// Its number, from 0.
    pub fn index(self) -> u8 {
        self.index
    }

    /// How many there are.
    pub fn count(self) -> u8 {
        self.count
    }

    /// Whether there is no other.
    pub fn is_alone(self) -> bool {
        self.count == 1
    }

    /// Whose the phones with this certificate key (or [`address_key`](crate::token::address_key)) are.
    pub fn owner(self, certificate: &[u8; 32]) -> u8 {
        let fold = |sum: u64, part: &u8| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*part);
        let mut digest = certificate.iter().fold(0xcbf2_9ce4_8422_2325, fold);
        // What stands for an address differs in its last octets only: every bit of those must count.
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            digest = (digest ^ digest >> 33).wrapping_mul(factor);
        }
        u8::try_from((digest >> 32) % u64::from(self.count)).unwrap_or(0)
    }

    /// Whether the phones with this certificate key are ours.
    pub fn owns(self, certificate: &[u8; 32]) -> bool {
        self.is_alone() || self.owner(certificate) == self.index
    }

    /// The next one in the ring.
    pub fn next(self) -> u8 {
        if self.index + 1 == self.count { 0 } else { self.index + 1 }
    }

    /// This shard's part of a ceiling that holds for all together.
    pub fn part(self, of: usize) -> usize {
        of.div_ceil(usize::from(self.count))
    }
}

/// A message that arrived at one shard and is the business of another.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Whose business it is.
    pub to: u8,
    /// Where it came from. An answer goes there.
    pub source: Source,
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// The message.
    pub message: Message,
    /// Nobody knows yet whose business it is: how many more shards there are to ask, `to` among them. 0 when it is known.
    pub sought: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_has_one_owner_and_every_shard_about_as_many() {
        for count in [1, 2, 3, 4, 32] {
            let shards: Vec<Shard> = Shard::all(count).collect();
            let mut owned = vec![0; count];
            for phone in 0..10_000_u32 {
                let key = crate::token::address_key(std::net::Ipv4Addr::from(phone).into());
                let owner = shards[0].owner(&key);
                assert!(shards.iter().all(|shard| shard.owner(&key) == owner));
                assert_eq!(shards.iter().filter(|shard| shard.owns(&key)).count(), 1);
                owned[usize::from(owner)] += 1;
            }
            let fair = 10_000 / count;
            assert!(owned.iter().all(|n| (fair * 7 / 10..=fair * 13 / 10).contains(n)), "{owned:?}");
        }
    }

    #[test]
    fn the_number_of_shards_has_bounds() {
        assert_eq!(Shard::all(0).collect::<Vec<_>>(), [Shard::ALONE]);
        assert_eq!(Shard::all(1000).len(), usize::from(MOST));
        let ring: Vec<u8> = Shard::all(3).map(Shard::next).collect();
        assert_eq!(ring, [1, 2, 0]);
        assert_eq!(Shard::all(3).map(|shard| shard.part(100)).sum::<usize>(), 102);
    }
}
