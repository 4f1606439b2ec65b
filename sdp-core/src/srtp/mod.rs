//! SRTP (RFC 3711, RFC 7714): packets in clear to packets under keys, and back, where a side of ours ends it (SDP-05).
//!
//! Ciphers come from RustCrypto; what is here is the framing: which octets are covered, the index that a packet counts as, and
//! the window that keeps a packet from counting twice. The room of a packet grows by at most [`GROWTH`] octets.

mod attribute;
mod cipher;
mod track;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

pub use self::attribute::Crypto;
use self::cipher::{Cipher, Part};
use self::track::Tracks;
use crate::rtp::{packet, rtcp};

/// By how many octets a packet may grow: a tag of 16, and the index of SRTCP.
pub const GROWTH: usize = 20;

/// What a description calls a way to protect packets (RFC 4568 §6.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`.
    AesCm80,
    /// `AES_CM_128_HMAC_SHA1_32`: a tag of four octets, of SRTCP of ten.
    AesCm32,
    /// `AEAD_AES_128_GCM`.
    Gcm128,
    /// `AEAD_AES_256_GCM`.
    Gcm256,
}

impl Suite {
    /// All, as they are offered.
    pub const ALL: [Self; 4] = [Self::AesCm80, Self::AesCm32, Self::Gcm128, Self::Gcm256];

    /// Its name in descriptions.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm32 => "AES_CM_128_HMAC_SHA1_32",
            Self::Gcm128 => "AEAD_AES_128_GCM",
            Self::Gcm256 => "AEAD_AES_256_GCM",
        }
    }

    /// The suite of a name.
    pub fn parse(name: &[u8]) -> Option<Self> {
        // A name in ABNF is the same in any case (RFC 4568 §9.1, RFC 5234 §2.3).
        Self::ALL.into_iter().find(|suite| suite.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Octets of the master key.
    pub(crate) fn key_octets(self) -> usize {
        if self == Self::Gcm256 { 32 } else { 16 }
    }

    /// Octets of the master salt.
    pub(crate) fn salt_octets(self) -> usize {
        match self {
            Self::AesCm80 | Self::AesCm32 => 14,
            Self::Gcm128 | Self::Gcm256 => 12,
        }
    }

    /// Octets of the tag behind a packet.
    fn tag(self, rtcp: bool) -> usize {
        match self {
            Self::AesCm32 if !rtcp => 4,
            Self::AesCm80 | Self::AesCm32 => 10,
            Self::Gcm128 | Self::Gcm256 => 16,
        }
    }

    fn is_gcm(self) -> bool {
        matches!(self, Self::Gcm128 | Self::Gcm256)
    }
}

/// A suite with its master key and salt, one behind the other.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    suite: Suite,
    octets: Vec<u8>,
}

impl Key {
    /// `None`: not as long as the suite's key and salt.
    pub fn new(suite: Suite, octets: &[u8]) -> Option<Self> {
        let length = suite.key_octets() + suite.salt_octets();
        (octets.len() == length).then(|| Self { suite, octets: octets.to_vec() })
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.octets.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// The keys of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Ours: of what leaves there.
    pub send: Key,
    /// The far end's: of what comes from there.
    pub receive: Key,
    /// How far packets under these keys had come at a relay before this one; `None`: they begin.
    #[serde(default)]
    pub reached: Option<Reached>,
}

/// How far the packets of a leg have come in their numbers: of the source that spoke last, with its highest index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reached {
    /// RTP that was sent.
    pub sent: Option<(u32, u64)>,
    /// SRTCP indices that were used.
    pub sent_rtcp: u32,
    /// RTP that came.
    pub received: Option<(u32, u64)>,
    /// RTCP that came.
    pub received_rtcp: Option<(u32, u64)>,
}

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its tag does not fit: not written by who has the key, or changed on the way; or too short for one.
    Auth,
    /// It came before, or is too old to tell.
    Replay,
}

/// A packet that was opened; to be noted by [`Context::accept`] when it is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Opened {
    rtcp: bool,
    ssrc: u32,
    index: u64,
}

/// One direction under one master key: session keys, and where each source is in its numbers.
pub struct Context {
    suite: Suite,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_tracks: Tracks,
    rtcp_tracks: Tracks,
    /// Under the key before.
    before: Tracks,
    /// Of SRTCP that we send: one number for all sources, which only grows (RFC 3711 §3.4).
    next_rtcp: u32,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Octets of SRTCP's index, with the flag that says that the packet is encrypted.
const INDEX: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
/// More SRTCP than a leg sends between two reports of how far it has come: 2^15 times as much are left of 2^31.
const RTCP_AHEAD: u32 = 1 << 16;
/// Octets of RTCP that stay in clear (RFC 3711 §3.4).
const RTCP_HEAD: usize = 8;

impl Context {
    /// Session keys are made once; no key derivation rate (RFC 4568 §6.3.1 makes 0 the default).
    pub fn new(key: &Key) -> Option<Self> {
        Some(Self {
            suite: key.suite,
            rtp: Cipher::derive(key, false)?,
            rtcp: Cipher::derive(key, true)?,
            rtp_tracks: Tracks::default(),
            rtcp_tracks: Tracks::default(),
            before: Tracks::default(),
            next_rtcp: 0,
        })
    }

    /// Another key for what leaves: numbers go on, the roll-over counter with them (RFC 3711 §3.3.1).
    pub fn send_on(self, key: &Key) -> Option<Self> {
        let Self { rtp_tracks, next_rtcp, .. } = self;
        Some(Self { rtp_tracks, next_rtcp, ..Self::new(key)? })
    }

    /// Another key for what comes. The far end's roll-over counters should go on (RFC 3711 §3.3.1), and begin anew with those
    /// who make all anew with a key: either is tried.
    pub fn receive_on(self, key: &Key) -> Option<Self> {
        Some(Self { before: self.rtp_tracks, ..Self::new(key)? })
    }

    /// What leaves, behind what a relay before us has sent, as far as is known: it may have sent a little more.
    pub fn send_from(key: &Key, reached: &Reached) -> Option<Self> {
        let next_rtcp = reached.sent_rtcp.saturating_add(RTCP_AHEAD);
        Some(Self { rtp_tracks: Tracks::resumed(reached.sent), next_rtcp, ..Self::new(key)? })
    }

    /// What comes, behind what a relay before us has received.
    pub fn receive_from(key: &Key, reached: &Reached) -> Option<Self> {
        let (rtp_tracks, rtcp_tracks) =
            (Tracks::resumed(reached.received), Tracks::resumed(reached.received_rtcp));
        Some(Self { rtp_tracks, rtcp_tracks, ..Self::new(key)? })
    }

    /// How far two contexts of a leg have come.
    pub fn reached(send: &Self, receive: &Self) -> Reached {
        Reached {
            sent: send.rtp_tracks.last(),
            sent_rtcp: send.next_rtcp,
            received: receive.rtp_tracks.last(),
            received_rtcp: receive.rtcp_tracks.last(),
        }
    }

    /// Encrypts a packet in its room, behind which the tag goes.
    ///
    /// # Errors
    /// A number was used already: its key stream must not cover other octets (RFC 3711 §9.1). Or it is no packet.
    pub fn protect(&mut self, packet: &mut Vec<u8>) -> Result<(), Fault> {
        let is_rtcp = packet.get(1).is_some_and(|kind| rtcp::is_type(*kind));
        if is_rtcp { self.protect_rtcp(packet) } else { self.protect_rtp(packet) }
    }

    fn protect_rtp(&mut self, packet: &mut Vec<u8>) -> Result<(), Fault> {
        let header = packet::Header::parse(packet).ok_or(Fault::Auth)?;
        let index = match self.rtp_tracks.guess(header.ssrc, header.sequence) {
            Some(index) => index,
            None if self.rtp_tracks.knows(header.ssrc) => return Err(Fault::Replay),
            None => u64::from(header.sequence),
        };
        self.rtp_tracks.check(header.ssrc, index)?;
        let suffix = ((index >> 16) as u32).to_be_bytes();
        let part = Part { packet, from: header.length, ssrc: header.ssrc, index, suffix };
        let tag = self.rtp.seal(part).ok_or(Fault::Auth)?;
        packet.extend_from_slice(tag.get(..self.suite.tag(false)).unwrap_or_default());
        self.rtp_tracks.note(header.ssrc, index);
        Ok(())
    }

    fn protect_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), Fault> {
        let header = rtcp::Header::parse(packet, true).ok_or(Fault::Auth)?;
        let index = self.next_rtcp;
        // 2^31 packets are the most that a key may cover (RFC 3711 §9.2).
        self.next_rtcp = index.checked_add(1).filter(|next| *next < ENCRYPTED).ok_or(Fault::Replay)?;
        let word = (index | ENCRYPTED).to_be_bytes();
        let (from, index) = (RTCP_HEAD, u64::from(index));
        let part = Part { packet, from, ssrc: header.ssrc, index, suffix: word };
        let tag = self.rtcp.seal(part).ok_or(Fault::Auth)?;
        let tag = tag.get(..self.suite.tag(true)).unwrap_or_default();
        // RFC 3711 §3.4: the index before the tag. RFC 7714 §9.1: behind it.
        if self.suite.is_gcm() {
            packet.extend_from_slice(tag);
            packet.extend_from_slice(&word);
        } else {
            packet.extend_from_slice(&word);
            packet.extend_from_slice(tag);
        }
        Ok(())
    }

    /// Checks and decrypts a packet in its room. What it leaves there after an error is nobody's.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn unprotect(&self, packet: &mut Vec<u8>) -> Result<Opened, Fault> {
        let is_rtcp = packet.get(1).is_some_and(|kind| rtcp::is_type(*kind));
        if is_rtcp { self.unprotect_rtcp(packet) } else { self.unprotect_rtp(packet) }
    }

    fn unprotect_rtp(&self, packet: &mut Vec<u8>) -> Result<Opened, Fault> {
        let end = packet.len().checked_sub(self.suite.tag(false)).ok_or(Fault::Auth)?;
        let header = packet.get(..end).and_then(packet::Header::parse).ok_or(Fault::Auth)?;
        let mut fault = Fault::Replay;
        for index in self.indices(header.ssrc, header.sequence).into_iter().flatten() {
            if let Err(replay) = self.rtp_tracks.check(header.ssrc, index) {
                fault = replay;
                continue;
            }
            let suffix = ((index >> 16) as u32).to_be_bytes();
            let (body, tag) = packet.split_at_mut(end);
            let part = Part { packet: body, from: header.length, ssrc: header.ssrc, index, suffix };
            // Neither cipher touches what does not fit: the next may try.
            if self.rtp.open(part, tag).is_some() {
                packet.truncate(end);
                return Ok(Opened { rtcp: false, ssrc: header.ssrc, index });
            }
            fault = Fault::Auth;
        }
        Err(fault)
    }

    /// The indices that a packet may have. A known source has one. One that begins has no roll-overs behind it, but for two:
    /// who was known under the key before, and the very first, of which we may have missed a beginning short of its first
    /// roll-over, such as what it sent before the answer.
    fn indices(&self, ssrc: u32, sequence: u16) -> [Option<u64>; 3] {
        if self.rtp_tracks.knows(ssrc) {
            return [self.rtp_tracks.guess(ssrc, sequence), None, None];
        }
        let first = u64::from(sequence);
        let before = self.before.guess(ssrc, sequence).filter(|index| *index != first);
        let late = (self.rtp_tracks.is_empty() && sequence < 0x8000).then_some(first | 1 << 16);
        [before, Some(first), late.filter(|index| before != Some(*index))]
    }

    fn unprotect_rtcp(&self, packet: &mut Vec<u8>) -> Result<Opened, Fault> {
        let tag = self.suite.tag(true);
        let end = packet.len().checked_sub(tag + INDEX).filter(|end| *end >= RTCP_HEAD).ok_or(Fault::Auth)?;
        let header = packet.get(..end).and_then(|body| rtcp::Header::parse(body, true)).ok_or(Fault::Auth)?;
        let (body, trailer) = packet.split_at_mut(end);
        let (word, tag) = if self.suite.is_gcm() {
            let (tag, word) = trailer.split_at(tag);
            (word, tag)
        } else {
            trailer.split_at(INDEX)
        };
        let word: [u8; INDEX] = word.try_into().map_err(|_| Fault::Auth)?;
        let flagged = u32::from_be_bytes(word);
        let index = u64::from(flagged & !ENCRYPTED);
        self.rtcp_tracks.check(header.ssrc, index)?;
        // In clear where the flag says so, and authenticated all the same.
        let from = if flagged & ENCRYPTED == 0 { end } else { RTCP_HEAD };
        let part = Part { packet: body, from, ssrc: header.ssrc, index, suffix: word };
        self.rtcp.open(part, tag).ok_or(Fault::Auth)?;
        packet.truncate(end);
        Ok(Opened { rtcp: true, ssrc: header.ssrc, index })
    }

    /// A packet that was opened is let in: it does not come again.
    pub fn accept(&mut self, opened: Opened) {
        let tracks = if opened.rtcp { &mut self.rtcp_tracks } else { &mut self.rtp_tracks };
        tracks.note(opened.ssrc, opened.index);
    }
}

#[cfg(test)]
mod tests;
