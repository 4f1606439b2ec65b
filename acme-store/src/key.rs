//! Private keys: made here or handed over, never shown.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{Any, FromDer, Integer, Sequence};
use x509_parser::x509::SubjectPublicKeyInfo;

/// The kinds of key this crate makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// RSA with 2048 bits: what every phone understands.
    #[default]
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// ECDSA on the curve P-256.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
}

/// A private key that the TLS library can use.
#[derive(Clone)]
pub struct Key {
    der: Arc<PrivateKeyDer<'static>>,
    signing: Arc<dyn SigningKey>,
    public: Vec<u8>,
}

/// Why a key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// RSA keys below 2048 bits are refused.
    #[error("the RSA key has {bits} bits; at least 2048 are needed")]
    TooShort {
        /// Bits of the modulus.
        bits: usize,
    },
    /// Neither RSA (2048 to 8192 bits), ECDSA on P-256, P-384, P-521, nor Ed25519, or damaged.
    #[error(
        "the private key is damaged or of a kind that is not supported (RSA 2048-8192, ECDSA P-256/P-384/P-521, Ed25519 are)"
    )]
    Unsupported,
    /// The operating system or the library could not make a key.
    #[error("a new key could not be made: {0}")]
    Generate(String),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.signing.algorithm()).finish_non_exhaustive()
    }
}

impl Key {
    /// Makes a new key from the randomness of the cryptographic library.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let pair = match kind {
            KeyKind::Rsa2048 => {
                rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
            }
            KeyKind::EcdsaP256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        }
        .map_err(|error| KeyError::Generate(error.to_string()))?;
        Self::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der())))
    }

    /// Takes a key in PKCS#1, SEC1 or PKCS#8 form.
    ///
    /// # Errors
    /// [`KeyError::TooShort`] for RSA below 2048 bits, [`KeyError::Unsupported`] for all else that can't be used.
    pub fn new(der: PrivateKeyDer<'static>) -> Result<Self, KeyError> {
        if let Some(bits) = rsa_bits(&der).filter(|bits| *bits < 2048) {
            return Err(KeyError::TooShort { bits });
        }
        let signing =
            provider().key_provider.load_private_key(der.clone_key()).map_err(|_| KeyError::Unsupported)?;
        let public = signing.public_key().map(|spki| spki.to_vec()).ok_or(KeyError::Unsupported)?;
        Ok(Self { der: Arc::new(der), signing, public })
    }

    /// The kind, if it is one that this crate makes.
    pub fn kind(&self) -> Option<KeyKind> {
        let (_, spki) = SubjectPublicKeyInfo::from_der(&self.public).ok()?;
        match spki.parsed().ok()? {
            x509_parser::public_key::PublicKey::RSA(rsa) if rsa.key_size() == 2048 => Some(KeyKind::Rsa2048),
            x509_parser::public_key::PublicKey::EC(point) if point.key_size() == 256 => {
                Some(KeyKind::EcdsaP256)
            }
            _ => None,
        }
    }

    /// Is `spki` (a DER SubjectPublicKeyInfo) the public half? Compared by the key bits, because some programs leave out the
    /// NULL parameters of RSA.
    pub fn matches(&self, spki: &[u8]) -> bool {
        match (key_bits(&self.public), key_bits(spki)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => false,
        }
    }

    /// The key as DER, for the store and for signing requests. Secret.
    pub fn secret_der(&self) -> &PrivateKeyDer<'static> {
        &self.der
    }

    /// The key as a PEM block. Secret.
    pub fn secret_pem(&self) -> String {
        let label = match self.der.as_ref() {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        crate::pem::encode(label, self.der.secret_der())
    }

    /// The public half as DER (SubjectPublicKeyInfo).
    pub fn public_der(&self) -> &[u8] {
        &self.public
    }

    pub(crate) fn signing(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.matches(&other.public)
    }
}

/// The cryptography of the whole crate: aws-lc-rs, TLS 1.2 and 1.3, ECDHE and AEAD only.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

fn key_bits(spki: &[u8]) -> Option<Vec<u8>> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    Some(spki.subject_public_key.data.to_vec())
}

/// The length of an RSA modulus, to name it in a refusal; `None` when it is no RSA key.
fn rsa_bits(der: &PrivateKeyDer<'_>) -> Option<usize> {
    const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    match der {
        PrivateKeyDer::Pkcs1(key) => pkcs1_bits(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => {
            // PrivateKeyInfo ::= SEQUENCE { version, AlgorithmIdentifier, OCTET STRING } (RFC 5208 §5)
            let (_, outer) = Sequence::from_der(key.secret_pkcs8_der()).ok()?;
            let (rest, _version) = Integer::from_der(&outer.content).ok()?;
            let (rest, algorithm) = Sequence::from_der(rest).ok()?;
            let (_, oid) = Any::from_der(&algorithm.content).ok()?;
            if oid.data != RSA_ENCRYPTION {
                return None;
            }
            let (_, inner) = Any::from_der(rest).ok()?;
            pkcs1_bits(inner.data)
        }
        _ => None,
    }
}

fn pkcs1_bits(der: &[u8]) -> Option<usize> {
    let (_, outer) = Sequence::from_der(der).ok()?;
    let (rest, _version) = Integer::from_der(&outer.content).ok()?;
    let (_, modulus) = Any::from_der(rest).ok()?;
    let first = modulus.data.iter().position(|byte| *byte != 0)?;
    let significant = modulus.data.get(first..)?;
    let leading = significant.first()?.leading_zeros() as usize;
    Some(significant.len() * 8 - leading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_have_the_kind_asked_for_and_hide() {
        for kind in [KeyKind::Rsa2048, KeyKind::EcdsaP256] {
            let key = Key::generate(kind).unwrap();
            assert_eq!(key.kind(), Some(kind));
            let shown = format!("{key:?}");
            assert!(shown.len() < 60, "{shown}");
            assert!(key.same_as(&Key::new(key.secret_der().clone_key()).unwrap()));
            assert!(!key.same_as(&Key::generate(KeyKind::EcdsaP256).unwrap()));
        }
    }
}
