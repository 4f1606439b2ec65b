//! UDPTL, the datagrams of fax (ITU-T T.38 §9.1), as far as a relay needs to know one.

/// The sequence number of a datagram: two octets, and behind them a primary packet whose length fits. `None`: it is none.
///
/// The length is an open type's of aligned PER (X.691 §10.9.3): one octet up to 127, two up to 16383; a primary packet is never
/// longer than a datagram. What follows it (redundancy) is the receiver's matter.
pub fn sequence(bytes: &[u8]) -> Option<u16> {
    let [high, low, rest @ ..] = bytes else { return None };
    let (length, rest) = match rest {
        [short @ 1..=127, rest @ ..] => (usize::from(*short), rest),
        [long @ 128..=191, octet, rest @ ..] => (usize::from(*long & 0x3f) << 8 | usize::from(*octet), rest),
        _ => return None,
    };
    // The primary packet, and at least the octet that says what kind of recovery follows.
    (rest.len() > length).then(|| u16::from_be_bytes([*high, *low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_packet_that_fits() {
        // "no signal" (T.38 §8.1) in sequence 258, no redundancy.
        let idle = [1, 2, 1, 0, 0, 0];
        assert_eq!(sequence(&idle), Some(258));
        let long = [&[0, 9, 0x80, 200][..], &[7; 200], &[0, 0]].concat();
        assert_eq!(sequence(&long), Some(9));
        for broken in
            [&[][..], &[1], &[1, 2], &[1, 2, 0, 0], &[1, 2, 2, 0, 0], &[1, 2, 0xc1, 0, 0], &long[..204]]
        {
            assert_eq!(sequence(broken), None, "{broken:?}");
        }
    }
}
