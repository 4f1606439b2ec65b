//! Tables whose keys are small and of our own making: numbers of connections and transactions, digests, addresses of peers
//! that we accepted. SipHash, the standard library's, costs ten times as much for them as the look-up itself.
//!
//! The hash is one multiplication a word, folded, from a random start in each process, so that nobody can prepare keys that
//! collide. What a peer writes into messages freely (branches, users, tags) stays with the standard library's.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A table by keys of our own making.
pub(crate) type Numbered<K, V> = HashMap<K, V, Seeded>;

/// Odd, with its bits spread: the fraction of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The random start of this process.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(FACTOR));

/// Makes [`Folding`] hashers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(*SEED)
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// Hashes word by word.
#[derive(Debug)]
pub(crate) struct Folding(u64);

impl Folding {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        // Both halves: a table looks at the lowest bits and at the highest.
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        // With its length, so that zeros at the end count.
        self.fold(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
    }

    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.fold(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.fold(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_in_a_row_spread_over_high_and_low_bits() {
        let hashes: Vec<u64> = (0..4096_u64).map(|n| Seeded::default().hash_one(n)).collect();
        for shift in [0, 52] {
            let cells: HashSet<u64> = hashes.iter().map(|hash| (hash >> shift) & 4095).collect();
            // Thrown at random, 4,096 keys meet 2,589 of 4,096 cells.
            assert!(cells.len() > 2300, "{} cells at bit {shift}", cells.len());
        }
    }

    #[test]
    fn what_differs_hashes_apart() {
        let hash = |bytes: &[u8]| {
            let mut hasher = Seeded::default().build_hasher();
            hasher.write(bytes);
            hasher.finish()
        };
        let texts: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"12345678", b"12345678\0", b"123456781"];
        let hashes: HashSet<u64> = texts.into_iter().map(hash).collect();
        assert_eq!(hashes.len(), texts.len());
    }
}
