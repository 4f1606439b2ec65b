//! STUN on a SIP port: the keep-alive of RFC 5626 §4.4.2, which also tells a phone its address at the NAT (RFC 8489).

use std::net::{IpAddr, SocketAddr};

/// The magic cookie (RFC 8489 §5).
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
/// Type, length, cookie and transaction id.
const HEADER: usize = 20;

/// The answer to a Binding request from `remote`; `None` for anything else, which is not STUN's or no request.
///
/// The answer is 32 octets (IPv6: 44) and the shortest question 20, so that nothing is amplified by much. Attributes of
/// the question are not read: keep-alives carry none that would have to be understood (RFC 5626 §4.4.2).
pub(super) fn answer(question: &[u8], remote: SocketAddr) -> Option<Vec<u8>> {
    let header = question.get(..HEADER)?;
    let (kind, rest) = header.split_at(2);
    let (length, rest) = rest.split_at(2);
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    if kind != [0, 1] || !rest.starts_with(&COOKIE) || length % 4 != 0 || question.len() != HEADER + length {
        return None;
    }
    // What an address is masked with: cookie and transaction id (RFC 8489 §14.2).
    let mask = rest;
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let (family, mut address) = match remote.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    address.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
    let port = remote.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let value = 4 + address.len() as u16;
    let mut answer = vec![1, 1];
    answer.extend_from_slice(&(4 + value).to_be_bytes());
    answer.extend_from_slice(mask);
    answer.extend_from_slice(&[0, 0x20]);
    answer.extend_from_slice(&value.to_be_bytes());
    answer.extend_from_slice(&[0, family]);
    answer.extend_from_slice(&port.to_be_bytes());
    answer.extend_from_slice(&address);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transaction id of RFC 5769's vectors.
    const QUESTION: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf,
        0xae,
    ];

    #[test]
    fn the_addresses_of_rfc_5769_are_masked_as_it_says() {
        let four = answer(&QUESTION, "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(four[..4], [1, 1, 0, 12]);
        assert_eq!(four[4..20], QUESTION[4..]);
        assert_eq!(four[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let mapped = answer(&QUESTION, "[::ffff:192.0.2.1]:32853".parse().unwrap()).unwrap();
        assert_eq!(mapped, four);
        let six = answer(&QUESTION, "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()).unwrap();
        let masked = [
            0, 0x20, 0, 0x14, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
            0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(six[20..], masked);
    }

    #[test]
    fn only_a_binding_request_is_answered() {
        let remote: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        assert!(answer(&QUESTION, remote).is_some());
        for (at, octet) in [(0, 1), (1, 2), (3, 3), (3, 4), (4, 0)] {
            let mut other = QUESTION;
            other[at] = octet;
            assert_eq!(answer(&other, remote), None, "{at}");
        }
        assert_eq!(answer(&QUESTION[..19], remote), None);
        assert_eq!(answer(b"OPTIONS sip:a SIP/2.0", remote), None);
    }

    /// MED-04: nobody gains by having us answer somebody else.
    #[test]
    fn an_answer_is_little_longer_than_its_question() {
        for remote in ["192.0.2.1:1", "[2001:db8::1]:1"] {
            let answer = answer(&QUESTION, remote.parse().unwrap()).unwrap();
            assert!(answer.len() <= QUESTION.len() + 40, "{remote}");
            assert_eq!(
                super::answer(&answer, remote.parse().unwrap()),
                None,
                "two servers do not answer each other"
            );
        }
    }
}
