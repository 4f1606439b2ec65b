//! Ourselves in ICE (RFC 8839): a lite agent with one host candidate a component.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;

use super::Part;

/// What checks to us must carry (RFC 8445 §5.3): 8 characters, 24 for the password, which the grammar wants 4 and 22 long at least.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    ufrag: [u8; 8],
    password: [u8; 24],
}

/// `ice-char` of RFC 8839 §5.1: 64 of them, so that six bits make one.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Credentials {
    /// From 32 random octets: six bits a character, so 48 and 144 bits of chance; 24 and 128 are asked for (RFC 8445 §5.3).
    pub fn new(random: [u8; 32]) -> Self {
        let text = random.map(|octet| ICE_CHARS.get(usize::from(octet & 63)).copied().unwrap_or(b'A'));
        let (mut ufrag, mut password) = ([0; 8], [0; 24]);
        ufrag.iter_mut().chain(&mut password).zip(text).for_each(|(place, character)| *place = character);
        Self { ufrag, password }
    }

    /// As they were written before; `None`: they were not made here.
    pub fn of(ufrag: &str, password: &str) -> Option<Self> {
        let sound = |text: &str| text.bytes().all(|octet| ICE_CHARS.contains(&octet));
        let (Ok(one), Ok(other)) = (ufrag.as_bytes().try_into(), password.as_bytes().try_into()) else {
            return None;
        };
        (sound(ufrag) && sound(password)).then_some(Self { ufrag: one, password: other })
    }

    /// The user fragment.
    pub fn ufrag(&self) -> &str {
        std::str::from_utf8(&self.ufrag).unwrap_or_default()
    }

    /// The password.
    pub fn password(&self) -> &str {
        std::str::from_utf8(&self.password).unwrap_or_default()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag()).finish_non_exhaustive()
    }
}

/// Priority of the one host candidate of component `component` (RFC 8445 §5.1.2.1).
const fn priority(component: u32) -> u32 {
    (126 << 24) + (65_535 << 8) + (256 - component)
}

/// Our attributes of a line, each without a line end, handed to `line` one by one. RTCP has a candidate of its own until both
/// have agreed on multiplexing: an offer may not take it for granted (RFC 5761 §5.1.3).
pub(super) fn attributes(
    credentials: &Credentials,
    (address, rtp, rtcp): (IpAddr, u16, u16),
    (part, muxed): (Part<'_>, bool),
    mut line: impl FnMut(&[u8]),
) {
    let mut buffer = [0; 128];
    let mut write = |text: fmt::Arguments<'_>| {
        let mut rest = &mut buffer[..];
        let room = rest.len();
        // 128 octets hold the longest of them.
        let _ = rest.write_fmt(text);
        let left = rest.len();
        line(buffer.get(..room - left).unwrap_or_default());
    };
    write(format_args!("a=ice-ufrag:{}", credentials.ufrag()));
    write(format_args!("a=ice-pwd:{}", credentials.password()));
    write(format_args!("a=candidate:1 1 UDP {} {address} {rtp} typ host", priority(1)));
    if !(muxed && matches!(part, Part::Answer(_))) {
        write(format_args!("a=candidate:1 2 UDP {} {address} {rtcp} typ host", priority(2)));
    }
}
