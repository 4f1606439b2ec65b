//! RTP (RFC 3550 §5.1).

/// The fixed header of a packet whose lengths were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Octets before the payload: fixed header, contributing sources, extension.
    pub length: usize,
}

impl Header {
    /// Reads a header; `None` when the version is not 2 or the lists it announces are longer than the packet. Padding is not
    /// looked at: under SRTP its count is encrypted (RFC 3711 §3.1).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [flags, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *bytes.first_chunk::<12>()?;
        if flags >> 6 != 2 {
            return None;
        }
        let mut length = 12 + 4 * usize::from(flags & 0x0f);
        if flags & 0x10 != 0 {
            let [_, _, words @ ..] = *bytes.get(length..)?.first_chunk::<4>()?;
            length += 4 + 4 * usize::from(u16::from_be_bytes(words));
        }
        (length <= bytes.len()).then_some(Self {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            length,
        })
    }
}

/// Whether the padding that a packet announces lies within its payload (RFC 3550 §5.1): the last octet counts it, itself
/// included. To be asked of packets in clear.
pub fn padding_fits(bytes: &[u8], header: &Header) -> bool {
    let padded = bytes.first().is_some_and(|flags| flags & 0x20 != 0);
    let count = bytes.last().copied().map_or(0, usize::from);
    !padded || (count > 0 && count <= bytes.len().saturating_sub(header.length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_with_lists() {
        // Two contributing sources, an extension of one word, two octets of payload.
        let mut bytes = vec![0x92, 0x88, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        bytes.extend([0; 8]);
        bytes.extend([0xbe, 0xde, 0, 1, 0, 0, 0, 0, 0xaa, 0xbb]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(
            header,
            Header {
                marker: true,
                payload_type: 8,
                sequence: 0x0102,
                timestamp: 0x0304_0506,
                ssrc: 0x0708_090a,
                length: 28
            }
        );
        for cut in 0..28 {
            assert_eq!(Header::parse(&bytes[..cut]), None, "{cut}");
        }
        bytes[23] = 2;
        assert_eq!(Header::parse(&bytes), None, "an extension longer than the packet");
    }

    #[test]
    fn padding_is_within_the_payload() {
        let fits = |flags: u8, payload: &[u8]| {
            let bytes = [&[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], payload].concat();
            padding_fits(&bytes, &Header::parse(&bytes).unwrap())
        };
        for (flags, payload, verdict) in [
            (0x80, &[0xd5, 0xff][..], true),
            (0xa0, &[0xd5, 1], true),
            (0xa0, &[0, 2], true),
            (0xa0, &[0, 3], false),
            (0xa0, &[0xd5, 0], false),
            (0xa0, &[], false),
            (0xa1, &[0, 0, 0, 9, 1], true),
            (0xa1, &[0, 0, 0, 2], false),
        ] {
            assert_eq!(fits(flags, payload), verdict, "{flags:x} {payload:?}");
        }
    }

    #[test]
    fn other_versions() {
        for version in [0u8, 1, 3] {
            let bytes = [version << 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(Header::parse(&bytes), None);
        }
    }
}
