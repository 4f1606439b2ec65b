//! Session keys (RFC 3711 §4.3, RFC 7714 §11), and what they do to one packet.

use aes::cipher::{InnerIvInit as _, KeyIvInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use aes::{Aes128, Aes128Enc, Aes256};
use aes_gcm::{AeadInPlace as _, Aes128Gcm, Aes256Gcm, KeyInit as _};
use ctr::{Ctr128BE, CtrCore, flavors};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::{Key, Suite};

/// The longest tag.
const TAG: usize = 20;

/// Keys of one kind of packets in one direction.
pub(super) struct Cipher {
    mode: Mode,
    /// Of SRTCP, whose index is part of what the tag covers in either mode.
    rtcp: bool,
}

enum Mode {
    /// AES in counter mode, HMAC-SHA1 over packet and index.
    Cm { aes: Aes128Enc, mac: Hmac<Sha1>, salt: [u8; 14] },
    /// AES in Galois counter mode.
    Gcm128 { aes: Aes128Gcm, salt: [u8; 12] },
    /// The same with 256 bits.
    Gcm256 { aes: Aes256Gcm, salt: [u8; 12] },
}

/// A packet as it is sealed or opened.
pub(super) struct Part<'a> {
    pub(super) packet: &'a mut [u8],
    /// What is encrypted begins here.
    pub(super) from: usize,
    pub(super) ssrc: u32,
    pub(super) index: u64,
    /// What the tag covers behind the packet: the roll-over counter, or SRTCP's index with its flag.
    pub(super) suffix: [u8; 4],
}

impl Cipher {
    /// Keys with the labels 0 to 2, or of SRTCP 3 to 5: encryption, authentication, salt (RFC 3711 §4.3.1, §4.3.2).
    pub(super) fn derive(key: &Key, rtcp: bool) -> Option<Self> {
        let label = if rtcp { 3 } else { 0 };
        let (master, salt) = key.octets().split_at_checked(key.suite().key_octets())?;
        // A salt of 96 bits is one of 112 with zeros behind (RFC 7714 §11).
        let mut padded = [0; 14];
        padded.get_mut(..salt.len())?.copy_from_slice(salt);
        let mut encryption = Zeroizing::new([0; 32]);
        let encryption = encryption.get_mut(..master.len())?;
        expand(master, padded, label, encryption)?;
        let mode = match key.suite() {
            Suite::AesCm80 | Suite::AesCm32 => {
                let (mut mac, mut salt) = (Zeroizing::new([0; TAG]), [0; 14]);
                expand(master, padded, label + 1, &mut *mac)?;
                expand(master, padded, label + 2, &mut salt)?;
                let aes = Aes128Enc::new_from_slice(encryption).ok()?;
                Mode::Cm { aes, mac: Mac::new_from_slice(&*mac).ok()?, salt }
            }
            suite => {
                let mut salt = [0; 12];
                expand(master, padded, label + 2, &mut salt)?;
                if suite == Suite::Gcm128 {
                    Mode::Gcm128 { aes: Aes128Gcm::new_from_slice(encryption).ok()?, salt }
                } else {
                    Mode::Gcm256 { aes: Aes256Gcm::new_from_slice(encryption).ok()?, salt }
                }
            }
        };
        Some(Self { mode, rtcp })
    }

    /// Encrypts. Gives the tag, of which the suite takes as much as it wants.
    pub(super) fn seal(&self, part: Part<'_>) -> Option<[u8; TAG]> {
        let mut tag = [0; TAG];
        let gcm = match &self.mode {
            Mode::Cm { aes, mac, salt } => {
                count(aes, salt, part.ssrc, part.index, part.packet.get_mut(part.from..)?);
                let code = mac.clone().chain_update(&*part.packet).chain_update(part.suffix);
                tag.copy_from_slice(&code.finalize().into_bytes());
                return Some(tag);
            }
            Mode::Gcm128 { aes, salt } => {
                let (nonce, mut room) = (nonce(salt, &part).into(), [0; 12]);
                let (covered, body) = self.split(part, &mut room)?;
                aes.encrypt_in_place_detached(&nonce, covered, body)
            }
            Mode::Gcm256 { aes, salt } => {
                let (nonce, mut room) = (nonce(salt, &part).into(), [0; 12]);
                let (covered, body) = self.split(part, &mut room)?;
                aes.encrypt_in_place_detached(&nonce, covered, body)
            }
        };
        tag.get_mut(..16)?.copy_from_slice(&gcm.ok()?);
        Some(tag)
    }

    /// Checks the tag and decrypts; `None`: it does not fit.
    pub(super) fn open(&self, part: Part<'_>, tag: &[u8]) -> Option<()> {
        let gcm = match &self.mode {
            Mode::Cm { aes, mac, salt } => {
                let code = mac.clone().chain_update(&*part.packet).chain_update(part.suffix);
                code.verify_truncated_left(tag).ok()?;
                count(aes, salt, part.ssrc, part.index, part.packet.get_mut(part.from..)?);
                return Some(());
            }
            Mode::Gcm128 { aes, salt } => {
                let (nonce, mut room) = (nonce(salt, &part).into(), [0; 12]);
                let (covered, body) = self.split(part, &mut room)?;
                aes.decrypt_in_place_detached(&nonce, covered, body, tag.first_chunk::<16>()?.into())
            }
            Mode::Gcm256 { aes, salt } => {
                let (nonce, mut room) = (nonce(salt, &part).into(), [0; 12]);
                let (covered, body) = self.split(part, &mut room)?;
                aes.decrypt_in_place_detached(&nonce, covered, body, tag.first_chunk::<16>()?.into())
            }
        };
        gcm.ok()
    }

    /// What GCM covers in clear, and what it encrypts. Of SRTCP the index belongs to the former (RFC 7714 §9.2); one that
    /// says that it is not encrypted was not agreed, and is not taken.
    fn split<'p>(&self, part: Part<'p>, room: &'p mut [u8; 12]) -> Option<(&'p [u8], &'p mut [u8])> {
        let (head, body) = part.packet.split_at_mut_checked(part.from)?;
        if !self.rtcp {
            return Some((head, body));
        }
        let (first, last) = room.split_first_chunk_mut::<8>()?;
        *first = *head.first_chunk().filter(|_| part.from == 8)?;
        last.copy_from_slice(&part.suffix);
        Some((room, body))
    }
}

/// The nonce of RFC 7714 §8.1 and §9.1: the salt, with source and index over it.
fn nonce(salt: &[u8; 12], part: &Part<'_>) -> [u8; 12] {
    let counted = u128::from(part.ssrc) << 48 | u128::from(part.index);
    let mut nonce = *salt;
    let [_, _, _, _, counted @ ..] = counted.to_be_bytes();
    nonce.iter_mut().zip(counted).for_each(|(octet, over)| *octet ^= over);
    nonce
}

/// Counter mode over `body` (RFC 3711 §4.1.1).
fn count(aes: &Aes128Enc, salt: &[u8; 14], ssrc: u32, index: u64, body: &mut [u8]) {
    let over = u128::from(ssrc) << 64 | u128::from(index) << 16;
    let start = (u128::from_be_bytes(shifted(*salt)) ^ over).to_be_bytes();
    let core = CtrCore::<&Aes128Enc, flavors::Ctr128BE>::inner_iv_init(aes, &start.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(body);
}

/// 112 bits with room for a count of blocks behind.
fn shifted(salt: [u8; 14]) -> [u8; 16] {
    let mut all = [0; 16];
    all.iter_mut().zip(salt).for_each(|(octet, from)| *octet = from);
    all
}

/// RFC 3711 §4.3.1 with a derivation rate of 0, §4.3.3; with 256 bits RFC 6188 §3.
pub(super) fn expand(master: &[u8], mut salt: [u8; 14], label: u8, out: &mut [u8]) -> Option<()> {
    let [_, _, _, _, _, _, _, place, ..] = &mut salt;
    *place ^= label;
    let start = shifted(salt);
    if master.len() == 32 {
        Ctr128BE::<Aes256>::new_from_slices(master, &start).ok()?.apply_keystream(out);
    } else {
        Ctr128BE::<Aes128>::new_from_slices(master, &start).ok()?.apply_keystream(out);
    }
    Some(())
}

/// The first octets of a session's key stream.
#[cfg(test)]
pub(super) fn key_stream(key: &[u8], salt: &[u8], octets: usize) -> Vec<u8> {
    let mut stream = vec![0; octets];
    let aes = Aes128Enc::new_from_slice(key).unwrap();
    count(&aes, salt.try_into().unwrap(), 0, 0, &mut stream);
    stream
}

/// Seals by session key and salt.
#[cfg(test)]
pub(super) fn gcm_128(
    key: &[u8],
    salt: &[u8],
    packet: &mut [u8],
    (from, ssrc, index): (usize, u32, u64),
) -> Vec<u8> {
    let aes = Aes128Gcm::new_from_slice(key).unwrap();
    let cipher = Cipher { mode: Mode::Gcm128 { aes, salt: salt.try_into().unwrap() }, rtcp: false };
    cipher.seal(Part { packet, from, ssrc, index, suffix: [0; 4] }).unwrap()[..16].to_vec()
}
