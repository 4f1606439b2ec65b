//! Hop limit and TTL of what leaves.
//!
//! The kernel sees a packet end at our port and another begin there, so the count along the whole way is ours to keep:
//! a relay that always sent with the system's default would hide a loop from every router on it.

use crate::policy::HopLimit;

/// The hop limit to send with, for a packet that came with `received`; `None`: drop it.
///
/// Linux refuses a TTL of 0 for IPv4 but sends a hop limit of 0 for IPv6, so the drop is ours to do. An unknown value can't
/// be kept: such a packet is dropped as well.
pub fn outgoing(policy: HopLimit, received: Option<u8>) -> Option<u8> {
    match policy {
        HopLimit::Fixed(value) => Some(value.get()),
        HopLimit::Keep => received?.checked_sub(1).filter(|left| *left > 0),
    }
}

/// What a packet of our own making is sent with (RFC 1700, "IP Time to Live"): an answer goes its own way, and none was kept.
const DEFAULT: u8 = 64;

/// The hop limit of what the relay itself says: answers to connectivity checks.
pub fn own(policy: HopLimit) -> u8 {
    match policy {
        HopLimit::Fixed(value) => value.get(),
        HopLimit::Keep => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;

    #[test]
    fn keep_counts_down_and_fixed_does_not() {
        let cases = [(255, Some(254)), (128, Some(127)), (70, Some(69)), (2, Some(1)), (1, None), (0, None)];
        for (received, kept) in cases {
            assert_eq!(outgoing(HopLimit::Keep, Some(received)), kept);
            let fixed = HopLimit::Fixed(NonZeroU8::new(77).unwrap());
            assert_eq!(outgoing(fixed, Some(received)), Some(77));
        }
        assert_eq!(outgoing(HopLimit::Keep, None), None);
        assert_eq!(own(HopLimit::Keep), 64);
        assert_eq!(own(HopLimit::Fixed(NonZeroU8::new(255).unwrap())), 255);
    }
}
