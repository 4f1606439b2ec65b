//! STUN (RFC 8489 §5): told from the rest, and, for an end with ICE, connectivity checks read and answered (RFC 8445 §7.3).
//! A plain relay answers none and relays none.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// The magic cookie (RFC 8489 §5).
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
/// Type, length, cookie and transaction id.
const HEADER: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
/// What a fingerprint's checksum is masked with (RFC 8489 §14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;
/// Below this an attribute that is not known may not be passed over (RFC 8489 §14).
const OPTIONAL: u16 = 0x8000;
/// A message-integrity attribute: header and HMAC-SHA1.
const INTEGRITY: usize = 24;
/// A fingerprint attribute: header and CRC-32.
const CHECKSUM: usize = 8;

/// An answer is never longer: header, IPv6 address, integrity, fingerprint.
pub const MAX_ANSWER: usize = HEADER + 24 + INTEGRITY + CHECKSUM;

/// Whether this is a STUN message: two zero bits, a length that fits, the magic cookie.
pub fn is_stun(bytes: &[u8]) -> bool {
    let Some([kind, _, l0, l1, cookie @ ..]) = bytes.first_chunk::<8>() else { return false };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    kind >> 6 == 0 && *cookie == COOKIE && length % 4 == 0 && bytes.len() == HEADER + length
}

/// A connectivity check whose credential is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check<'a> {
    /// Cookie and transaction id, which its answer repeats.
    mask: &'a [u8; 16],
    /// Its sender has chosen this path (RFC 8445 §7.3.1.5).
    pub nominated: bool,
}

impl<'a> Check<'a> {
    /// Reads a check that is for us: a Binding request with our `ufrag` before the colon of USERNAME, PRIORITY, a
    /// MESSAGE-INTEGRITY by our `password`, and a FINGERPRINT, in this order and both right (RFC 8445 §7.1.1, §7.2.2; RFC 8489
    /// §9.1.3, §14.7). `None` for anything else, without a word to its sender: also for a sender that holds us for the
    /// controlling side, which an agent without checks of its own never is (RFC 8445 §6.1.1).
    pub fn read(bytes: &'a [u8], ufrag: &str, password: &str) -> Option<Self> {
        if !is_stun(bytes) || !bytes.starts_with(&BINDING_REQUEST) || ufrag.is_empty() || password.is_empty()
        {
            return None;
        }
        let mask = bytes.get(4..)?.first_chunk::<16>()?;
        let (mut ours, mut priority, mut nominated, mut sealed) = (false, false, false, false);
        let mut at = HEADER;
        while at < bytes.len() {
            let [k0, k1, l0, l1] = *bytes.get(at..)?.first_chunk::<4>()?;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = bytes.get(at + 4..at + 4 + length)?;
            match u16::from_be_bytes([k0, k1]) {
                // Behind the integrity only the fingerprint counts, and nothing behind that (§14.5, §14.7).
                FINGERPRINT => {
                    let right = fingerprint(bytes.get(..at)?).to_be_bytes() == value;
                    let last = at + CHECKSUM == bytes.len();
                    return (right && last && ours && priority && sealed).then_some(Self { mask, nominated });
                }
                _ if sealed => {}
                USERNAME => ours = is_ours(value, ufrag),
                // Only who names us is worth a hash.
                MESSAGE_INTEGRITY if ours => {
                    sealed = true;
                    let mac = integrity(bytes, at, password)?;
                    mac.verify_slice(value).ok()?;
                }
                MESSAGE_INTEGRITY => return None,
                PRIORITY => priority = length == 4,
                USE_CANDIDATE => nominated = true,
                ICE_CONTROLLED => return None,
                kind if kind < OPTIONAL => return None,
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        None
    }

    /// Writes the answer: a success response with XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY by the same password and
    /// FINGERPRINT (RFC 8489 §6.3.1, RFC 8445 §7.3.1.2). Gives its length, at most [`MAX_ANSWER`]: a check is at least 72
    /// octets long, so that little is gained by having us answer somebody else.
    pub fn answer(&self, source: SocketAddr, password: &str, out: &mut [u8; MAX_ANSWER]) -> Option<usize> {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mut octets = [0; 16];
        let (family, address) = match source.ip() {
            IpAddr::V4(ip) => (1, octets.get_mut(..4)?.write(&ip.octets())),
            IpAddr::V6(ip) => (2, octets.get_mut(..16)?.write(&ip.octets())),
        };
        // Masked with cookie and transaction id (§14.2).
        address.iter_mut().zip(self.mask).for_each(|(octet, mask)| *octet ^= mask);
        let port = source.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let length = HEADER + 8 + address.len() + INTEGRITY + CHECKSUM;
        let mut writer = Writer { out: out.get_mut(..length)?, at: 0 };
        writer.put(&BINDING_SUCCESS)?;
        writer.put(&[0, 0])?;
        writer.put(self.mask)?;
        writer.attribute(XOR_MAPPED_ADDRESS, 4 + address.len())?;
        writer.put(&[0, family])?;
        writer.put(&port.to_be_bytes())?;
        writer.put(address)?;
        let sealed = writer.at;
        let mac = integrity(writer.out, sealed, password)?.finalize().into_bytes();
        writer.attribute(MESSAGE_INTEGRITY, mac.len())?;
        writer.put(&mac)?;
        // The length that the checksum sees counts the checksum (§14.7).
        let body = u16::try_from(length - HEADER).ok()?;
        writer.out.get_mut(2..4)?.copy_from_slice(&body.to_be_bytes());
        let sum = fingerprint(writer.out.get(..writer.at)?);
        writer.attribute(FINGERPRINT, 4)?;
        writer.put(&sum.to_be_bytes())?;
        Some(length)
    }
}

trait Write {
    /// Copies, and gives what was written.
    fn write(&mut self, bytes: &[u8]) -> &mut Self;
}

impl Write for [u8] {
    fn write(&mut self, bytes: &[u8]) -> &mut Self {
        self.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn attribute(&mut self, kind: u16, length: usize) -> Option<()> {
        self.put(&kind.to_be_bytes())?;
        self.put(&u16::try_from(length).ok()?.to_be_bytes())
    }
}

/// USERNAME is ours and a colon and theirs (RFC 8445 §7.2.2).
fn is_ours(username: &[u8], ufrag: &str) -> bool {
    username.strip_prefix(ufrag.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':') && rest.len() > 1)
}

/// The HMAC over what stands before the attribute at `at`, with a length that counts the attribute and nothing behind it
/// (RFC 8489 §14.5).
fn integrity(message: &[u8], at: usize, password: &str) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).ok()?;
    let body = u16::try_from(at + INTEGRITY - HEADER).ok()?;
    mac.update(message.get(..2)?);
    mac.update(&body.to_be_bytes());
    mac.update(message.get(4..at)?);
    Some(mac)
}

/// RFC 8489 §14.7 over all that stands before it.
fn fingerprint(message: &[u8]) -> u32 {
    crc32(message) ^ FINGERPRINT_MASK
}

/// CRC-32 of ITU-T V.42, half an octet at a time: checks are few and short.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = table();
    let step = |sum: u32| (sum >> 4) ^ TABLE.get((sum & 15) as usize).copied().unwrap_or_default();
    !bytes.iter().fold(!0, |sum, octet| step(step(sum ^ u32::from(*octet))))
}

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut at = 0;
    while at < 16 {
        let mut sum = at as u32;
        let mut bit = 0;
        while bit < 4 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

#[cfg(test)]
pub(crate) mod tests;
