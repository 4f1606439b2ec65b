//! What a line says of SRTP that ends with us (RFC 4568): its profile, and keys of ours in the place of its author's.

use serde::{Deserialize, Serialize};

use crate::srtp::Crypto;

/// A profile of RTP (RFC 3551, 3711, 4585, 5124).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// `S`: SRTP.
    pub secure: bool,
    /// `F`: feedback.
    pub feedback: bool,
}

impl Profile {
    /// Reads a protocol token; `None` for any other, with keys from DTLS too.
    pub fn parse(token: &[u8]) -> Option<Self> {
        let profiles = [(false, false), (false, true), (true, false), (true, true)];
        let profiles = profiles.map(|(secure, feedback)| Self { secure, feedback });
        profiles.into_iter().find(|profile| profile.token().as_bytes() == token)
    }

    /// As it is written.
    pub fn token(self) -> &'static str {
        match (self.secure, self.feedback) {
            (false, false) => "RTP/AVP",
            (false, true) => "RTP/AVPF",
            (true, false) => "RTP/SAVP",
            (true, true) => "RTP/SAVPF",
        }
    }
}

/// What a line is to say. Its author's `a=crypto` lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secured {
    /// Its profile; `None`: the one it has.
    pub profile: Option<Profile>,
    /// Our own.
    pub crypto: Vec<Crypto>,
}
