//! STUN (RFC 8489 §5), as far as to know it when it comes: a plain relay answers none and relays none.

/// Whether this is a STUN message: two zero bits, a length that fits, the magic cookie.
pub fn is_stun(bytes: &[u8]) -> bool {
    let Some([kind, _, l0, l1, cookie @ ..]) = bytes.first_chunk::<8>() else { return false };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    kind >> 6 == 0 && *cookie == [0x21, 0x12, 0xa4, 0x42] && length % 4 == 0 && bytes.len() == 20 + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_and_length() {
        let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        assert!(is_stun(&request));
        assert!(!is_stun(&request[..19]));
        for (at, octet) in [(0, 0x80), (3, 4), (4, 0)] {
            let mut broken = request;
            broken[at] = octet;
            assert!(!is_stun(&broken), "{at}");
        }
    }
}
