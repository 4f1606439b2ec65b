//! Addresses and control messages as the kernel lays them out, read from and written into plain bytes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::libc;

/// Room for the address of a sender: `sockaddr_in6`, the larger of the two, rounded up to whole words.
pub(super) const NAME: usize = 32;
/// Room for two control messages of four octets, the hop limit and what the queue has lost, and one with a time.
pub(super) const CONTROL: usize = 2 * ROW + HEAD + 16;

/// Octets of a buffer for one packet and what comes with it.
pub(super) const BUFFER: usize = 2048;
/// The largest packet that is relayed, with either engine: larger than any Ethernet frame carries. Beside it in the buffer
/// stand the head that the kernel writes there, of 16 octets, the sender's address and the control messages.
pub(super) const MAX_PACKET: usize = BUFFER - 16 - NAME - CONTROL;

/// One control message of four octets with its head, in whole words (RFC 3542 §20.2).
const ROW: usize = HEAD + WORD;
const WORD: usize = size_of::<usize>();
/// `cmsg_len`, `cmsg_level`, `cmsg_type`.
const HEAD: usize = WORD + 8;

/// What came with a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// TTL or hop limit.
    pub(super) hop_limit: Option<u8>,
    /// Packets that the port's queue had no room for, since it was bound.
    pub(super) lost: Option<u32>,
    /// When it came, by the kernel's clock: since 1970.
    pub(super) arrived: Option<Duration>,
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
pub(super) fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => Some((Ipv4Addr::from(*name.get(4..)?.first_chunk::<4>()?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// Writes a `sockaddr_in` or `sockaddr_in6`, and says how long it is.
pub(super) fn put_address(name: &mut [u8; NAME], to: SocketAddr) -> u32 {
    *name = [0; NAME];
    let (family, length) = match to {
        SocketAddr::V4(_) => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
        SocketAddr::V6(_) => (libc::AF_INET6, size_of::<libc::sockaddr_in6>()),
    };
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = name.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &(family as u16).to_ne_bytes());
    put(2, &to.port().to_be_bytes());
    match to {
        SocketAddr::V4(to) => put(4, &to.ip().octets()),
        SocketAddr::V6(to) => {
            put(8, &to.ip().octets());
            put(24, &to.scope_id().to_ne_bytes());
        }
    }
    length as u32
}

/// Reads control messages.
pub(super) fn notes(mut control: &[u8]) -> Notes {
    let mut notes = Notes::default();
    while let Some((head, rest)) = control.split_at_checked(HEAD) {
        let word = |at: usize| {
            head.get(at..).and_then(|bytes| bytes.first_chunk()).map(|bytes| i32::from_ne_bytes(*bytes))
        };
        let Some(length) = head.first_chunk().map(|bytes| usize::from_ne_bytes(*bytes)) else { break };
        let value = rest.first_chunk::<4>();
        match (word(WORD), word(WORD + 4), value) {
            (Some(libc::IPPROTO_IP), Some(libc::IP_TTL), Some(value))
            | (Some(libc::IPPROTO_IPV6), Some(libc::IPV6_HOPLIMIT), Some(value)) => {
                notes.hop_limit = u8::try_from(i32::from_ne_bytes(*value)).ok();
            }
            (Some(libc::SOL_SOCKET), Some(libc::SO_RXQ_OVFL), Some(value)) => {
                notes.lost = Some(u32::from_ne_bytes(*value));
            }
            (Some(libc::SOL_SOCKET), Some(libc::SCM_TIMESTAMPNS), _) => notes.arrived = time(rest),
            _ => {}
        }
        // The next one starts at a whole word; a length that leads nowhere ends the walk.
        match length
            .checked_next_multiple_of(WORD)
            .filter(|next| *next >= HEAD)
            .and_then(|next| control.get(next..))
        {
            Some(next) => control = next,
            None => break,
        }
    }
    notes
}

/// Reads a `timespec`, whose two numbers are words.
fn time(bytes: &[u8]) -> Option<Duration> {
    let (seconds, rest) = bytes.split_first_chunk()?;
    let nanos = usize::from_ne_bytes(*rest.first_chunk()?);
    let seconds = u64::try_from(usize::from_ne_bytes(*seconds)).ok()?;
    u32::try_from(nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)
        .map(|nanos| Duration::new(seconds, nanos))
}

/// Writes the control message that sets the hop limit of one packet.
pub(super) fn put_hop_limit(control: &mut [u8; ROW], v6: bool, hop_limit: u8) {
    let (level, kind) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
    *control = [0; ROW];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = control.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &(HEAD + 4).to_ne_bytes());
    put(WORD, &level.to_ne_bytes());
    put(WORD + 4, &kind.to_ne_bytes());
    put(HEAD, &i32::from(hop_limit).to_ne_bytes());
}

/// Room for [`put_hop_limit`].
pub(super) type HopLimitRow = [u8; ROW];

/// An empty [`HopLimitRow`].
pub(super) const HOP_LIMIT_ROW: HopLimitRow = [0; ROW];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_was_written() {
        for text in
            ["192.0.2.1:16384", "255.255.255.255:65535", "[2001:db8::7]:1", "[::]:0", "[fe80::1%3]:5060"]
        {
            let want: SocketAddr = text.parse().unwrap();
            let mut name = [0xff; NAME];
            let length = put_address(&mut name, want);
            assert_eq!(address(&name), Some(want));
            assert_eq!(address(&name[..length as usize]), Some(want));
        }
        assert_eq!(address(&[0; NAME]), None);
        for short in 0..16 {
            let mut name = [0; NAME];
            put_address(&mut name, "[2001:db8::7]:1".parse().unwrap());
            assert_eq!(address(&name[..short]), None);
        }
    }

    #[test]
    fn a_hop_limit_reads_as_it_was_written() {
        for (v6, value) in [(false, 1), (false, 255), (true, 64), (true, 0)] {
            let mut row = HOP_LIMIT_ROW;
            put_hop_limit(&mut row, v6, value);
            assert_eq!(notes(&row), Notes { hop_limit: Some(value), ..Notes::default() });
        }
    }

    #[test]
    fn several_notes_and_broken_ones() {
        let mut lost = HOP_LIMIT_ROW;
        put_hop_limit(&mut lost, false, 7);
        lost[WORD..WORD + 4].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        lost[WORD + 4..HEAD].copy_from_slice(&libc::SO_RXQ_OVFL.to_ne_bytes());
        let mut hop = HOP_LIMIT_ROW;
        put_hop_limit(&mut hop, true, 9);
        let both = [lost, hop].concat();
        let mut stamp =
            [((HEAD + 16).to_ne_bytes()), [0; WORD], 5usize.to_ne_bytes(), 999_999_999usize.to_ne_bytes()]
                .concat();
        stamp[WORD..WORD + 4].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        stamp[WORD + 4..HEAD].copy_from_slice(&libc::SCM_TIMESTAMPNS.to_ne_bytes());
        let all = [stamp.clone(), both.clone()].concat();
        assert_eq!(all.len(), CONTROL);
        let arrived = Some(Duration::new(5, 999_999_999));
        assert_eq!(notes(&all), Notes { hop_limit: Some(9), lost: Some(7), arrived });
        assert_eq!(notes(&stamp[..HEAD + 15]), Notes::default());
        stamp[HEAD + WORD..].copy_from_slice(&1_000_000_000usize.to_ne_bytes());
        assert_eq!(notes(&stamp), Notes::default(), "no time");
        assert_eq!(notes(&both), Notes { hop_limit: Some(9), lost: Some(7), arrived: None });
        assert_eq!(notes(&both[..ROW + 3]), Notes { lost: Some(7), ..Notes::default() });
        // A length of nothing must not be walked forever, nor one beyond the end.
        for length in [0usize, 1, usize::MAX, 10_000] {
            let mut row = both.clone();
            row[..WORD].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(notes(&row).lost, Some(7));
        }
    }
}
