//! What a TLS client offered, read from its first bytes: for the person who must find out why an old phone can't connect.
//!
//! The TLS library says nothing about a hello that it refuses (one of TLS 1.1, say). This reads the bytes a second time, only to name
//! what was in them; nothing is decided here.

use std::fmt;

use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme};

/// The most bytes looked at; a hello that is longer is read as far as this.
pub const MAX_HELLO: usize = 8 << 10;
/// The most entries kept of each list.
const KEPT: usize = 64;

/// The lists of a client hello, in the client's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Protocol versions; the single highest one when the client names no list.
    pub versions: Vec<ProtocolVersion>,
    /// Cipher suites.
    pub suites: Vec<CipherSuite>,
    /// Signature schemes; none from clients before TLS 1.2.
    pub signatures: Vec<SignatureScheme>,
    /// Key exchange groups.
    pub groups: Vec<NamedGroup>,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suites: Vec<String> = self.suites.iter().map(|suite| suite_name(*suite)).collect();
        write!(f, "versions {:?}; suites {}; ", self.versions, suites.join(" "))?;
        write!(f, "signatures {:?}; groups {:?}", self.signatures, self.groups)
    }
}

impl Offer {
    /// Reads the records that `bytes` begin with. `None` when they are no client hello.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let handshake = records(bytes)?;
        let mut hello = Reader(&handshake);
        // RFC 8446 §4: type 1, length of 24 bits
        if hello.byte()? != 1 {
            return None;
        }
        hello.take(3)?;
        let highest = hello.number()?;
        hello.take(32)?;
        hello.short_block()?;
        let mut offer =
            Self { suites: hello.block()?.numbers().map(CipherSuite::from).collect(), ..Self::default() };
        let rest = hello.short_block().and_then(|_compression| hello.block());
        if let Some(extensions) = rest {
            offer.read_extensions(extensions);
        }
        if offer.versions.is_empty() {
            offer.versions.push(ProtocolVersion::from(highest));
        }
        Some(offer)
    }

    fn read_extensions(&mut self, mut extensions: Reader<'_>) {
        while let (Some(kind), Some(mut content)) = (extensions.number(), extensions.block()) {
            match kind {
                10 => self.groups = content.list().map(NamedGroup::from).collect(),
                13 => self.signatures = content.list().map(SignatureScheme::from).collect(),
                43 => {
                    let versions = content.short_block().unwrap_or(Reader(&[]));
                    self.versions = versions.numbers().map(ProtocolVersion::from).collect();
                }
                _ => {}
            }
        }
    }
}

/// The name of a suite; those of old phones are not known to the TLS library.
fn suite_name(suite: CipherSuite) -> String {
    let name = match u16::from(suite) {
        0x0004 => "TLS_RSA_WITH_RC4_128_MD5",
        0x0005 => "TLS_RSA_WITH_RC4_128_SHA",
        0x000a => "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
        0x0016 => "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
        0x002f => "TLS_RSA_WITH_AES_128_CBC_SHA",
        0x0033 => "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
        0x0035 => "TLS_RSA_WITH_AES_256_CBC_SHA",
        0x0039 => "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
        0x003c => "TLS_RSA_WITH_AES_128_CBC_SHA256",
        0x003d => "TLS_RSA_WITH_AES_256_CBC_SHA256",
        0x0067 => "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
        0x006b => "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
        0x009c => "TLS_RSA_WITH_AES_128_GCM_SHA256",
        0x009d => "TLS_RSA_WITH_AES_256_GCM_SHA384",
        0x009e => "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
        0x009f => "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
        0xc013 => "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        0xc014 => "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        0xc027 => "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        0xc028 => "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
        _ => return format!("{suite:?}"),
    };
    name.to_owned()
}

/// The content of the handshake records, joined. An incomplete last record is taken as far as it is there.
fn records(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Reader(bytes.get(..bytes.len().min(MAX_HELLO))?);
    let mut joined = Vec::new();
    while input.byte() == Some(22) {
        let (Some(_version), Some(length)) = (input.number(), input.number()) else { break };
        let length = usize::from(length).min(input.0.len());
        joined.extend_from_slice(input.take(length)?);
    }
    if joined.is_empty() { None } else { Some(joined) }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A block with a length of 16 bits; cut off at the end of what is there.
    fn block(&mut self) -> Option<Self> {
        let length = usize::from(self.number()?).min(self.0.len());
        self.take(length).map(Reader)
    }

    fn short_block(&mut self) -> Option<Self> {
        let length = usize::from(self.byte()?).min(self.0.len());
        self.take(length).map(Reader)
    }

    fn list(&mut self) -> impl Iterator<Item = u16> + use<'a> {
        self.block().unwrap_or(Reader(&[])).numbers()
    }

    /// The numbers, without the values that clients throw in to keep servers tolerant (GREASE, RFC 8701).
    fn numbers(self) -> impl Iterator<Item = u16> + use<'a> {
        let pairs = self.0.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)));
        pairs.filter(|number| number & 0x0f0f != 0x0a0a || number >> 8 != number & 0xff).take(KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 6, 0x3a, 0x3a, 0, 0x2f, 0xc0, 0x2f]);
        body.extend([1, 0]);
        let mut extensions: Vec<u8> = vec![0, 43, 0, 5, 4, 3, 4, 3, 3];
        extensions.extend([0, 10, 0, 4, 0, 2, 0, 23]);
        extensions.extend([0, 13, 0, 4, 0, 2, 4, 1]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut handshake = vec![1, 0, 0, body.len() as u8];
        handshake.extend(body);
        handshake
    }

    fn record(content: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        record.extend((content.len() as u16).to_be_bytes());
        record.extend(content);
        record
    }

    #[test]
    fn names_what_is_offered_in_one_record_or_many() {
        let whole = record(&hello());
        let split: Vec<u8> = hello().chunks(10).flat_map(record).collect();
        for bytes in [whole, split] {
            let offer = Offer::parse(&bytes).unwrap();
            assert_eq!(offer.versions, [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2]);
            let suites = [
                CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA,
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ];
            assert_eq!(offer.suites, suites);
            assert_eq!(offer.groups, [NamedGroup::secp256r1]);
            assert_eq!(offer.signatures, [SignatureScheme::RSA_PKCS1_SHA256]);
        }
    }

    #[test]
    fn any_cut_and_any_byte_is_survived() {
        let whole = record(&hello());
        for end in 0..whole.len() {
            let _ = Offer::parse(&whole[..end]);
            for value in [0, 1, 127, 255] {
                let mut changed = whole.clone();
                changed[end] = value;
                let _ = Offer::parse(&changed);
            }
        }
        for not_a_hello in [&b""[..], b"REGISTER sip:x SIP/2.0\r\n", &[22, 3, 1, 0, 1, 2], &[22; 5]] {
            assert_eq!(Offer::parse(not_a_hello), None);
        }
    }
}
