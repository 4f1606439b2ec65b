//! One certificate, read: for display, for identity, and as the leaf of a credential.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::key::Key;

/// What a person or a rule wants to know about a certificate. Texts are made safe to print: control characters are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The subject, for example `C=US, O=Example, CN=host.example`.
    pub subject: String,
    /// The common names, as written; usually one.
    pub common_names: Vec<String>,
    /// The issuer.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// DNS names of the subjectAltName extension, as written.
    pub dns_names: Vec<String>,
    /// IP addresses of the subjectAltName extension.
    pub addresses: Vec<IpAddr>,
    /// Other subjectAltName entries that are text: URIs and mail addresses.
    pub other_names: Vec<String>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// SHA-256 over the DER of the certificate.
    pub fingerprint: [u8; 32],
    /// SHA-256 over the DER of the SubjectPublicKeyInfo.
    pub key_hash: [u8; 32],
    /// Bits of an RSA key; `None` for other kinds.
    pub rsa_bits: Option<usize>,
    /// Marked as an authority (basicConstraints).
    pub authority: bool,
    /// The version as printed by other programs: 1, 2 or 3.
    pub version: u32,
    /// Subject and issuer are the same name.
    pub self_issued: bool,
    /// The signature uses MD2, MD5 or SHA-1.
    pub weak_signature: bool,
}

/// Who a peer is, as its certificate says: what sip-core and tunnel are given about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subject.
    pub subject: String,
    /// Common names, then DNS names, addresses and other text names of the subjectAltName extension. Names with control characters
    /// (an embedded NUL, say) are left out: they name nobody.
    pub names: Vec<String>,
    /// SHA-256 over the DER of the SubjectPublicKeyInfo.
    pub key_hash: [u8; 32],
}

/// Not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate")]
pub struct NotACertificate;

impl Details {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// [`NotACertificate`] when it can't be parsed, or bytes follow it.
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        let certificate = parse(der)?;
        let mut details = Self {
            subject: printable(&certificate.subject().to_string()),
            common_names: common_names(&certificate),
            issuer: printable(&certificate.issuer().to_string()),
            serial: HEXLOWER.encode(certificate.raw_serial()),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            other_names: Vec::new(),
            not_before: system_time(certificate.validity().not_before.timestamp()),
            not_after: system_time(certificate.validity().not_after.timestamp()),
            fingerprint: Sha256::digest(der).into(),
            key_hash: Sha256::digest(certificate.public_key().raw).into(),
            rsa_bits: match certificate.public_key().parsed() {
                Ok(x509_parser::public_key::PublicKey::RSA(key)) => Some(key.key_size()),
                _ => None,
            },
            authority: certificate.is_ca(),
            version: match certificate.version() {
                X509Version(value) => value.saturating_add(1),
            },
            self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            weak_signature: weak(&certificate.signature_algorithm.algorithm.to_id_string()),
        };
        details.read_alternative_names(&certificate);
        Ok(details)
    }

    fn read_alternative_names(&mut self, certificate: &X509Certificate<'_>) {
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return };
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(octets) => self.addresses.extend(address(octets)),
                GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                    self.other_names.push((*name).to_owned());
                }
                _ => {}
            }
        }
    }

    /// The part of this that is the identity of a peer.
    pub fn identity(&self) -> Identity {
        let mut names = Vec::new();
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        for name in self.common_names.iter().chain(&self.dns_names).chain(&addresses).chain(&self.other_names)
        {
            if !name.is_empty() && !name.chars().any(char::is_control) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        Identity { subject: self.subject.clone(), names, key_hash: self.key_hash }
    }

    /// Is `now` within the validity?
    pub fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Signed with its own key and under its own name, as the interim certificate is: subject and issuer are the same, and it is
    /// no authority.
    pub fn is_self_signed_leaf(&self) -> bool {
        self.self_issued && !self.authority
    }
}

/// A private key, the certificate for it, and the certificates up to (not including) a self-signed root.
#[derive(Clone)]
pub struct Credential {
    key: Key,
    chain: Vec<CertificateDer<'static>>,
    details: Details,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("subject", &self.details.subject)
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Why key and chain are no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The chain is empty.
    #[error("no certificate")]
    Empty,
    /// The first certificate can't be read.
    #[error("the first certificate of the chain can't be read")]
    Unreadable,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate of {subject}")]
    Mismatch {
        /// Subject of the certificate.
        subject: String,
    },
}

impl Credential {
    /// Joins a key with its chain, leaf first.
    ///
    /// # Errors
    /// [`CredentialError`] when the first certificate is missing, unreadable, or is not for this key.
    pub fn new(key: Key, chain: Vec<CertificateDer<'static>>) -> Result<Self, CredentialError> {
        let leaf = chain.first().ok_or(CredentialError::Empty)?;
        let details = Details::parse(leaf).map_err(|_| CredentialError::Unreadable)?;
        let spki = parse(leaf).map_err(|_| CredentialError::Unreadable)?.public_key().raw.to_vec();
        if !key.matches(&spki) {
            return Err(CredentialError::Mismatch { subject: details.subject });
        }
        Ok(Self { key, chain, details })
    }

    /// The private key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf, read.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// The certificates as PEM, leaf first, without the key.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| crate::pem::encode("CERTIFICATE", der)).collect()
    }

    /// Does the leaf name all of `names` (DNS names and addresses, compared without case; no wildcard is expanded)?
    pub fn names_all(&self, names: &[String]) -> bool {
        names.iter().all(|name| match name.parse::<IpAddr>() {
            Ok(address) => self.details.addresses.contains(&address),
            Err(_) => self.details.dns_names.iter().any(|given| given.eq_ignore_ascii_case(name)),
        })
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, NotACertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(NotACertificate),
    }
}

/// Is the signature over `message` by the key of the certificate `issuer`? For putting chains in order and for telling a root; what
/// is trusted is decided in [`crate::verify`] alone.
pub(crate) fn signed_by(message: &[u8], signature: &[u8], issuer: &CertificateDer<'_>) -> bool {
    let Ok(issuer) = webpki::EndEntityCert::try_from(issuer) else { return false };
    webpki::ALL_VERIFICATION_ALGS
        .iter()
        .any(|algorithm| issuer.verify_signature(*algorithm, message, signature).is_ok())
}

/// DER certificates that `issuer` may have signed, checked by name and, where the library can, by signature.
pub(crate) fn issued(child: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok(below), Ok(above)) = (parse(child), parse(issuer)) else { return false };
    below.issuer().as_raw() == above.subject().as_raw()
        && signed_by(below.tbs_certificate.as_ref(), &below.signature_value.data, issuer)
}

pub(crate) fn system_time(seconds: i64) -> SystemTime {
    let length = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(length) } else { UNIX_EPOCH.checked_add(length) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A time as `2026-03-01 12:00:00 UTC`, for messages.
pub(crate) fn readable(time: SystemTime) -> String {
    let at = time::OffsetDateTime::from(time);
    let (date, clock) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

fn common_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    certificate
        .subject()
        .iter_common_name()
        .filter_map(|attribute| std::str::from_utf8(attribute.as_slice()).ok())
        .map(str::to_owned)
        .collect()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn weak(oid: &str) -> bool {
    // md2, md5, sha1 WithRSAEncryption; dsa-with-sha1; ecdsa-with-SHA1
    matches!(
        oid,
        "1.2.840.113549.1.1.2"
            | "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.2.840.10040.4.3"
            | "1.2.840.10045.4.1"
    )
}
