//! `a=crypto` (RFC 4568 §9.1).

use data_encoding::{BASE64, BASE64_NOPAD};
use serde::{Deserialize, Serialize};

use super::{Key, Suite};

/// A line that we can follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crypto {
    /// Its number, which the answer names.
    pub tag: u32,
    /// Suite and key of who wrote it.
    pub key: Key,
}

impl Crypto {
    /// Reads the value of an attribute line; `None`: none of these, or one that we can't follow: another suite, several keys, a
    /// key identifier (MKI), or a session parameter that is not a mere hint (RFC 4568 §6.3.7).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.strip_prefix(b"crypto:")?;
        let mut fields = value.split(|octet| *octet == b' ').filter(|field| !field.is_empty());
        let tag = std::str::from_utf8(fields.next().filter(|tag| tag.len() <= 9)?).ok()?;
        let tag = tag.bytes().all(|digit| digit.is_ascii_digit()).then(|| tag.parse().ok())??;
        let suite = Suite::parse(fields.next()?)?;
        let mut info = fields.next()?.strip_prefix(b"inline:")?.split(|octet| *octet == b'|');
        let text = info.next()?;
        let octets = BASE64.decode(text).or_else(|_| BASE64_NOPAD.decode(text)).ok()?;
        // A lifetime may follow, and is longer than a call; an MKI has a colon.
        if info.any(|rest| rest.contains(&b':') || rest.contains(&b';')) {
            return None;
        }
        if !fields.all(|field| field.starts_with(b"-") || field.starts_with(b"WSH=")) {
            return None;
        }
        Some(Self { tag, key: Key::new(suite, &octets)? })
    }

    /// The value of the line.
    pub fn write(&self) -> String {
        let Self { tag, key } = self;
        format!("crypto:{tag} {} inline:{}", key.suite().name(), BASE64.encode(key.octets()))
    }
}
