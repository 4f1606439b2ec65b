//! Certificates and keys as an administrator brings them: any order, any number, PEM or DER.

use std::time::SystemTime;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use x509_parser::asn1_rs::{Any, FromDer, Integer, Sequence};

use crate::certificate::{Credential, Details, issued, parse, readable};
use crate::key::{Key, KeyError};
use crate::pem::{self, PemError};

/// The most bytes read from all files together: 1 MiB.
pub const MAX_INPUT: usize = 1 << 20;
/// The most certificates looked at.
pub const MAX_CERTIFICATES: usize = 64;
/// The longest chain built, leaf included.
pub const MAX_CHAIN: usize = 8;

/// What came of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Key, leaf and the chain in order, without the self-signed root.
    pub credential: Credential,
    /// Things worth telling, none of which prevents use.
    pub notices: Vec<Notice>,
}

/// What an administrator should know about an import that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This certificate is not part of the chain and was left out.
    Unused {
        /// Its subject.
        subject: String,
    },
    /// The chain ends at a certificate whose issuer is not in the files. If that issuer is a root the peers know, all is well.
    EndsBefore {
        /// The issuer named by the last certificate.
        issuer: String,
    },
    /// The leaf is valid only later.
    NotYetValid {
        /// From when.
        not_before: SystemTime,
    },
    /// A certificate of the chain has expired.
    ChainExpired {
        /// Its subject.
        subject: String,
    },
}

/// Why files are no credential. Each names what is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Neither PEM nor DER was found.
    #[error("neither a PEM block nor DER was found")]
    Nothing,
    /// More than [`MAX_INPUT`] bytes or [`MAX_CERTIFICATES`] certificates.
    #[error(
        "the files are too large: at most {MAX_INPUT} bytes and {MAX_CERTIFICATES} certificates are read"
    )]
    TooLarge,
    /// The file is UTF-16 text.
    #[error("the file is UTF-16 text; save it as UTF-8 or ANSI")]
    Utf16,
    /// A PEM block can't be read.
    #[error("PEM, {0}")]
    Pem(#[from] PemError),
    /// A certificate can't be read.
    #[error("the certificate at line {line} can't be read")]
    BadCertificate {
        /// Line of its BEGIN; 1 for DER.
        line: usize,
    },
    /// A key can't be used.
    #[error("the key at line {line} can't be used: {reason}")]
    BadKey {
        /// Line of its BEGIN; 1 for DER.
        line: usize,
        /// Why.
        reason: KeyError,
    },
    /// The key is encrypted.
    #[error(
        "the key at line {line} is encrypted, which is not built yet; decrypt it with `openssl pkey -in FILE -out KEY`"
    )]
    EncryptedKey {
        /// Line of its BEGIN; 1 for DER.
        line: usize,
    },
    /// A PKCS#12 (.p12, .pfx) file.
    #[error(
        "PKCS#12 import is not built yet; convert the file with `openssl pkcs12 -in FILE -nodes -out FILE.pem`"
    )]
    Pkcs12,
    /// A block of a kind that has no place here.
    #[error("the block at line {line} is a {label}, which can't be imported")]
    UnknownBlock {
        /// Line of its BEGIN.
        line: usize,
        /// The words after BEGIN.
        label: String,
    },
    /// No key.
    #[error("no private key in the files")]
    NoKey,
    /// Two different keys.
    #[error("two different private keys (lines {first} and {second}); which one is meant can't be known")]
    TwoKeys {
        /// Line of the first.
        first: usize,
        /// Line of the second.
        second: usize,
    },
    /// No certificate.
    #[error("no certificate in the files")]
    NoCertificate,
    /// None of the certificates belongs to the key.
    #[error("the private key belongs to none of the certificates: {}", subjects.join("; "))]
    KeyMismatch {
        /// Their subjects.
        subjects: Vec<String>,
    },
    /// The leaf has expired.
    #[error("the certificate of {subject} expired on {}", readable(*not_after))]
    Expired {
        /// Its subject.
        subject: String,
        /// When.
        not_after: SystemTime,
    },
}

#[derive(Default)]
struct Found {
    keys: Vec<(usize, Key)>,
    certificates: Vec<CertificateDer<'static>>,
}

/// Reads one credential out of `files`, which together hold one key, its certificate and, in any order, the certificates above it.
///
/// The leaf is the certificate whose key is the private key; of several, the one that is not self-signed and lasts longest. The
/// chain is put in order by issuer and signature. The same key or certificate twice counts once.
///
/// # Errors
/// [`ImportError`]; nothing is guessed.
pub fn credential(files: &[&[u8]], now: SystemTime) -> Result<Imported, ImportError> {
    if files.iter().map(|file| file.len()).sum::<usize>() > MAX_INPUT {
        return Err(ImportError::TooLarge);
    }
    let mut found = Found::default();
    for file in files {
        found.read(file)?;
    }
    let key = found.key()?;
    let leaf = found.leaf(&key)?;
    let details = Details::parse(&leaf).map_err(|_| ImportError::BadCertificate { line: 1 })?;
    if let Some(bits) = details.rsa_bits.filter(|bits| *bits < 2048) {
        return Err(ImportError::BadKey { line: 1, reason: KeyError::TooShort { bits } });
    }
    if details.not_after < now {
        return Err(ImportError::Expired { subject: details.subject, not_after: details.not_after });
    }
    let (chain, mut notices) = found.chain(leaf, now);
    if details.not_before > now {
        notices.push(Notice::NotYetValid { not_before: details.not_before });
    }
    let credential = Credential::new(key, chain)
        .map_err(|_| ImportError::KeyMismatch { subjects: vec![details.subject] })?;
    Ok(Imported { credential, notices })
}

/// The certificates of a PEM text in the order given, as an ACME server sends them (RFC 8555 §9.1).
///
/// # Errors
/// [`ImportError`] when a block can't be read, is no certificate, or there is none.
pub fn chain(pem_text: &[u8]) -> Result<Vec<CertificateDer<'static>>, ImportError> {
    if pem_text.len() > MAX_INPUT {
        return Err(ImportError::TooLarge);
    }
    let mut chain = Vec::new();
    for block in pem::blocks(pem_text) {
        let block = block?;
        if !is_certificate_label(&block.label) {
            return Err(ImportError::UnknownBlock { line: block.line, label: block.label });
        }
        parse(&block.der).map_err(|_| ImportError::BadCertificate { line: block.line })?;
        chain.push(CertificateDer::from(block.der));
        if chain.len() > MAX_CERTIFICATES {
            return Err(ImportError::TooLarge);
        }
    }
    if chain.is_empty() { Err(ImportError::NoCertificate) } else { Ok(chain) }
}

/// The private keys of a PEM text, for the store.
pub(crate) fn keys(pem_text: &[u8]) -> Result<Vec<Key>, ImportError> {
    let mut found = Found::default();
    if !pem::is_pem(pem_text) {
        return Err(ImportError::NoKey);
    }
    found.read(pem_text)?;
    Ok(found.keys.into_iter().map(|(_, key)| key).collect())
}

pub(crate) fn is_certificate_label(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "X.509 CERTIFICATE")
}

impl Found {
    fn read(&mut self, file: &[u8]) -> Result<(), ImportError> {
        if file.starts_with(b"\xFF\xFE") || file.starts_with(b"\xFE\xFF") {
            return Err(ImportError::Utf16);
        }
        if !pem::is_pem(file) {
            return self.read_der(file);
        }
        for block in pem::blocks(file) {
            let block = block?;
            let line = block.line;
            match block.label.as_str() {
                label if is_certificate_label(label) => self.certificate(line, block.der)?,
                _ if block.encrypted => return Err(ImportError::EncryptedKey { line }),
                "ENCRYPTED PRIVATE KEY" => return Err(ImportError::EncryptedKey { line }),
                "PRIVATE KEY" => self.private(line, PrivatePkcs8KeyDer::from(block.der).into())?,
                "RSA PRIVATE KEY" => self.private(line, PrivatePkcs1KeyDer::from(block.der).into())?,
                "EC PRIVATE KEY" => self.private(line, PrivateSec1KeyDer::from(block.der).into())?,
                // `openssl ecparam -genkey` puts the curve in front of the key; the key names it again.
                "EC PARAMETERS" | "DH PARAMETERS" | "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {}
                _ => return Err(ImportError::UnknownBlock { line, label: block.label }),
            }
        }
        Ok(())
    }

    fn read_der(&mut self, file: &[u8]) -> Result<(), ImportError> {
        match shape(file) {
            Some(Shape::Certificate) => self.certificate(1, file.to_vec()),
            Some(Shape::Pkcs8) => self.private(1, PrivatePkcs8KeyDer::from(file.to_vec()).into()),
            Some(Shape::Pkcs1) => self.private(1, PrivatePkcs1KeyDer::from(file.to_vec()).into()),
            Some(Shape::Sec1) => self.private(1, PrivateSec1KeyDer::from(file.to_vec()).into()),
            Some(Shape::EncryptedPkcs8) => Err(ImportError::EncryptedKey { line: 1 }),
            Some(Shape::Pkcs12) => Err(ImportError::Pkcs12),
            None => Err(ImportError::Nothing),
        }
    }

    fn certificate(&mut self, line: usize, der: Vec<u8>) -> Result<(), ImportError> {
        parse(&der).map_err(|_| ImportError::BadCertificate { line })?;
        let der = CertificateDer::from(der);
        if !self.certificates.contains(&der) {
            if self.certificates.len() >= MAX_CERTIFICATES {
                return Err(ImportError::TooLarge);
            }
            self.certificates.push(der);
        }
        Ok(())
    }

    fn private(&mut self, line: usize, der: PrivateKeyDer<'static>) -> Result<(), ImportError> {
        let key = Key::new(der).map_err(|reason| ImportError::BadKey { line, reason })?;
        self.keys.push((line, key));
        Ok(())
    }

    fn key(&mut self) -> Result<Key, ImportError> {
        let mut keys = std::mem::take(&mut self.keys).into_iter();
        let (first, key) = keys.next().ok_or(ImportError::NoKey)?;
        match keys.find(|(_, other)| !key.same_as(other)) {
            Some((second, _)) => Err(ImportError::TwoKeys { first, second }),
            None => Ok(key),
        }
    }

    fn leaf(&self, key: &Key) -> Result<CertificateDer<'static>, ImportError> {
        if self.certificates.is_empty() {
            return Err(ImportError::NoCertificate);
        }
        let mut all = Vec::new();
        for der in &self.certificates {
            if let (Ok(details), Ok(certificate)) = (Details::parse(der), parse(der)) {
                all.push((der, key.matches(certificate.public_key().raw), details));
            }
        }
        let best = all
            .iter()
            .filter(|(_, matches, _)| *matches)
            .max_by_key(|(_, _, details)| (!details.self_issued, details.not_after));
        match best {
            Some((der, _, _)) => Ok((*der).clone()),
            None => {
                let subjects = all.into_iter().map(|(_, _, details)| details.subject).collect();
                Err(ImportError::KeyMismatch { subjects })
            }
        }
    }

    /// Follows the issuers from `leaf` up. Of two with the same name and key (cross-signed) the one that is not self-signed leads
    /// further, to the roots that old phones know.
    fn chain(
        &self,
        leaf: CertificateDer<'static>,
        now: SystemTime,
    ) -> (Vec<CertificateDer<'static>>, Vec<Notice>) {
        let mut chain = vec![leaf];
        let mut notices = Vec::new();
        let mut rooted = false;
        while let Some(last) = chain.last().filter(|_| chain.len() < MAX_CHAIN) {
            let above: Vec<_> =
                self.certificates.iter().filter(|der| !chain.contains(der) && issued(last, der)).collect();
            let is_root =
                |der: &CertificateDer<'_>| Details::parse(der).is_ok_and(|details| details.self_issued);
            rooted = is_root(last) || above.iter().any(|der| is_root(der));
            let Some(next) = above.into_iter().find(|der| !is_root(der)).cloned() else { break };
            chain.push(next);
        }
        for der in &self.certificates {
            let Ok(details) = Details::parse(der) else { continue };
            let used = chain.contains(der);
            if !used && !chain.last().is_some_and(|last| issued(last, der)) {
                notices.push(Notice::Unused { subject: details.subject });
            } else if used && chain.first() != Some(der) && details.not_after < now {
                notices.push(Notice::ChainExpired { subject: details.subject });
            }
        }
        if let Some(Ok(details)) = chain.last().filter(|_| !rooted).map(|der| Details::parse(der)) {
            notices.push(Notice::EndsBefore { issuer: details.issuer });
        }
        (chain, notices)
    }
}

enum Shape {
    Certificate,
    Pkcs8,
    Pkcs1,
    Sec1,
    EncryptedPkcs8,
    Pkcs12,
}

/// Which DER structure this is, told by its first elements.
fn shape(der: &[u8]) -> Option<Shape> {
    let (_, outer) = Sequence::from_der(der).ok()?;
    if parse(der).is_ok() {
        return Some(Shape::Certificate);
    }
    let content: &[u8] = &outer.content;
    if let Ok((rest, _algorithm)) = Sequence::from_der(content) {
        // EncryptedPrivateKeyInfo ::= SEQUENCE { AlgorithmIdentifier, OCTET STRING } (RFC 5208 §6)
        let (_, data) = Any::from_der(rest).ok()?;
        return (data.header.tag().0 == 4).then_some(Shape::EncryptedPkcs8);
    }
    let (rest, version) = Integer::from_der(content).ok()?;
    let version = version.as_u32().ok()?;
    let (_, second) = Any::from_der(rest).ok()?;
    match (version, second.header.tag().0) {
        // PFX ::= SEQUENCE { version 3, ContentInfo SEQUENCE, … } (RFC 7292 §4)
        (3, 16) => Some(Shape::Pkcs12),
        // PrivateKeyInfo: version 0 or 1, then an AlgorithmIdentifier (RFC 5958 §2)
        (0 | 1, 16) => Some(Shape::Pkcs8),
        // RSAPrivateKey: version, then the modulus (RFC 8017 A.1.2)
        (0 | 1, 2) => Some(Shape::Pkcs1),
        // ECPrivateKey: version 1, then an OCTET STRING (RFC 5915 §3)
        (1, 4) => Some(Shape::Sec1),
        _ => None,
    }
}
