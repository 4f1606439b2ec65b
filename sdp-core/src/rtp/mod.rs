//! Checked views of what arrives on a media port. Nothing here trusts a length it has not compared with the bytes.

pub mod clock;
pub mod packet;
pub mod rtcp;
pub mod stun;
pub mod udptl;

/// What a datagram is, by its first bytes (RFC 7983 §7, RFC 5761 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// RTP, or SRTP: the header is in clear.
    Rtp(packet::Header),
    /// RTCP, or SRTCP.
    Rtcp(rtcp::Header),
    /// STUN (RFC 8489).
    Stun,
    /// ZRTP (RFC 6189 §5).
    Zrtp,
    /// DTLS (first octet 20 to 63).
    Dtls,
    /// UDPTL with this sequence number: told by [`udptl::sequence`] where it is expected, for nothing in it says so.
    Udptl(u16),
    /// Anything else, and broken packets of the above.
    Other,
}

/// Tells datagrams apart. `secure` says that RTCP is encrypted behind its first header, so that only that is checked, and that
/// an RTP packet's count of padding is.
pub fn classify(bytes: &[u8], secure: bool) -> Class {
    match bytes {
        [128..=191, kind, ..] if rtcp::is_type(*kind) => {
            rtcp::Header::parse(bytes, secure).map_or(Class::Other, Class::Rtcp)
        }
        [128..=191, ..] => packet::Header::parse(bytes)
            .filter(|header| secure || packet::padding_fits(bytes, header))
            .map_or(Class::Other, Class::Rtp),
        [0..=3, ..] if stun::is_stun(bytes) => Class::Stun,
        [16..=19, _, _, _, b'Z', b'R', b'T', b'P', ..] => Class::Zrtp,
        // A DTLS record has a header of 13 octets.
        [20..=63, ..] if bytes.len() >= 13 => Class::Dtls,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_them_apart() {
        let rtp = [0x80, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9, 1, 2];
        assert!(
            matches!(classify(&rtp, false), Class::Rtp(header) if header.ssrc == 9 && header.sequence == 7)
        );
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let zrtp = [0x10, 0, 0, 1, b'Z', b'R', b'T', b'P', 0, 0, 0, 9];
        assert_eq!(classify(&zrtp, false), Class::Zrtp);
        // Three octets of padding in two of payload: seen in clear, not under SRTP.
        let padded = [0xa0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9, 0, 3];
        assert!(matches!(classify(&padded, true), Class::Rtp(_)));
        assert!(matches!(classify(&rtcp, false), Class::Rtcp(header) if header.ssrc == 9));
        let mut stun = [0; 20];
        stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(classify(&stun, false), Class::Stun);
        assert_eq!(classify(&[22; 13], false), Class::Dtls);
        for broken in [
            &[][..],
            &[0x80],
            &[0x80, 0],
            &rtp[..11],
            &[0x40; 40],
            &[0; 40],
            &[22; 12],
            b"zrtp and others",
            &padded,
        ] {
            assert_eq!(classify(broken, false), Class::Other, "{broken:?}");
        }
    }
}
