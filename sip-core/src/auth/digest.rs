//! The arithmetic of RFC 7616 §3.4.

use std::fmt;

use data_encoding::HEXLOWER;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

/// A digest algorithm of RFC 8760 §2.2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Algorithm {
    /// MD5: weak, and what most phones know.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512 cut to 256 bits (FIPS 180-4 §6.7).
    Sha512_256,
}

impl Algorithm {
    /// All of them, the best one first.
    pub const ALL: [Self; 3] = [Self::Sha512_256, Self::Sha256, Self::Md5];

    /// As it stands in a challenge.
    pub fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// By its token, in any case.
    pub fn of(token: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|one| token.eq_ignore_ascii_case(one.token().as_bytes()))
    }

    /// Characters of a digest.
    pub fn chars(self) -> usize {
        if self == Self::Md5 { 32 } else { 64 }
    }

    /// The hash of `parts` with a colon between each two, in lower-case hexadecimal.
    pub(super) fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Self::Md5 => hash::<Md5>(parts),
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha512_256 => hash::<Sha512_256>(parts),
        }
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> String {
    let mut digest = D::new();
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    HEXLOWER.encode(&digest.finalize())
}

/// Quality of protection (RFC 7616 §3.4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qop {
    /// Method and URI.
    Auth,
    /// And the body.
    AuthInt,
}

impl Qop {
    /// As it stands in a challenge.
    pub fn token(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }

    /// By its token, in any case.
    pub fn of(token: &[u8]) -> Option<Self> {
        [Self::Auth, Self::AuthInt].into_iter().find(|one| token.eq_ignore_ascii_case(one.token().as_bytes()))
    }
}

/// The secret of an account: its password, or `H(user:realm:password)` by one algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct Account(Secret);

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Password(String),
    Hash(Algorithm, String),
}

/// A hash that can't be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct HashError {
    expected: usize,
}

impl Account {
    /// By its password, for all algorithms.
    pub fn of_password(password: impl Into<String>) -> Self {
        Self(Secret::Password(password.into()))
    }

    /// By a hash that was made elsewhere, for its algorithm and realm alone.
    ///
    /// # Errors
    /// [`HashError`] when it has not as many hexadecimal digits as the algorithm gives.
    pub fn of_hash(algorithm: Algorithm, hash: &str) -> Result<Self, HashError> {
        let expected = algorithm.chars();
        if hash.len() != expected || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(HashError { expected });
        }
        Ok(Self(Secret::Hash(algorithm, hash.to_ascii_lowercase())))
    }

    /// `H(A1)` (RFC 7616 §3.4.2) for a username as it was sent.
    pub(super) fn a1(&self, algorithm: Algorithm, username: &[u8], realm: &[u8]) -> Option<String> {
        match &self.0 {
            Secret::Password(password) => Some(algorithm.hash(&[username, realm, password.as_bytes()])),
            Secret::Hash(known, hash) => (*known == algorithm).then(|| hash.clone()),
        }
    }
}

impl fmt::Debug for Account {
    /// The kind only: whoever has the hash needs no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Secret::Password(_) => f.write_str("Account(password)"),
            Secret::Hash(algorithm, _) => write!(f, "Account({} hash)", algorithm.token()),
        }
    }
}

/// What a response is computed over, as it stands in the credentials.
pub(super) struct Terms<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) nonce: &'a [u8],
    /// `None`: as RFC 2069 has it.
    pub(super) protection: Option<Protection<'a>>,
    pub(super) method: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) body: &'a [u8],
}

pub(super) struct Protection<'a> {
    pub(super) qop: Qop,
    pub(super) count: &'a [u8],
    pub(super) cnonce: &'a [u8],
}

impl Terms<'_> {
    /// The response (RFC 7616 §3.4.1 to §3.4.3); `a1` is the account's hash.
    pub(super) fn response(&self, a1: &str) -> String {
        let hash = |parts: &[&[u8]]| self.algorithm.hash(parts);
        let a1 = a1.as_bytes();
        let Some(protection) = &self.protection else {
            return hash(&[a1, self.nonce, hash(&[self.method, self.uri]).as_bytes()]);
        };
        let a2 = match protection.qop {
            Qop::Auth => hash(&[self.method, self.uri]),
            Qop::AuthInt => hash(&[self.method, self.uri, hash(&[self.body]).as_bytes()]),
        };
        let qop = protection.qop.token().as_bytes();
        hash(&[a1, self.nonce, protection.count, protection.cnonce, qop, a2.as_bytes()])
    }
}
