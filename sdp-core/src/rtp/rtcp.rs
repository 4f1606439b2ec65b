//! RTCP (RFC 3550 §6.4).

/// The first packet of a compound whose lengths were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Packet type: 200 sender report, 201 receiver report, …
    pub kind: u8,
    /// Synchronisation source of the sender.
    pub ssrc: u32,
}

/// Whether the second octet is an RTCP packet type (RFC 5761 §4: 192 to 223).
pub fn is_type(octet: u8) -> bool {
    (192..=223).contains(&octet)
}

impl Header {
    /// Reads a compound packet: each part of version 2, of an RTCP type, within the datagram, and the parts fill it
    /// (RFC 3550 §A.2). With `secure` only the first part's header is in clear (RFC 3711 §3.4) and checked. Reduced-size
    /// RTCP (RFC 5506) is accepted: the first type is not asked to be a report.
    pub fn parse(bytes: &[u8], secure: bool) -> Option<Self> {
        let [_, kind, _, _, ssrc @ ..] = *bytes.first_chunk::<8>()?;
        let mut rest = bytes;
        loop {
            let [flags, part, length @ ..] = *rest.first_chunk::<4>()?;
            if flags >> 6 != 2 || !is_type(part) {
                return None;
            }
            rest = rest.get(4 + 4 * usize::from(u16::from_be_bytes(length))..)?;
            if rest.is_empty() || secure {
                return Some(Self { kind, ssrc: u32::from_be_bytes(ssrc) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 5];
    const NAMES: [u8; 12] = [0x81, 202, 0, 2, 0, 0, 0, 5, 1, 0, 0, 0];

    #[test]
    fn compound() {
        let both = [&REPORT[..], &NAMES].concat();
        assert_eq!(Header::parse(&both, false), Some(Header { kind: 201, ssrc: 5 }));
        assert_eq!(Header::parse(&NAMES, false), Some(Header { kind: 202, ssrc: 5 }));
    }

    #[test]
    fn broken_lengths() {
        let both = [&REPORT[..], &NAMES].concat();
        for cut in (0..20).filter(|cut| *cut != 8) {
            assert_eq!(Header::parse(&both[..cut], false), None, "{cut}");
        }
        let mut long = both.clone();
        long.push(0);
        assert_eq!(Header::parse(&long, false), None, "octets behind the last part");
        let mut version = both;
        version[8] = 0x41;
        assert_eq!(Header::parse(&version, false), None, "a later part of another version");
    }

    #[test]
    fn secure_checks_the_clear_part() {
        let sealed = [&REPORT[..], &[0xff; 18]].concat();
        assert_eq!(Header::parse(&sealed, false), None);
        assert_eq!(Header::parse(&sealed, true), Some(Header { kind: 201, ssrc: 5 }));
        assert_eq!(Header::parse(&[0x80, 201, 0xff, 0xff, 0, 0, 0, 5], true), None);
    }
}
