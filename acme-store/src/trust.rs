//! Bundles of authorities whose certificates are accepted, and their revocation lists.

use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest, Sha256};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::{Details, parse, readable, signed_by, system_time};
use crate::import::is_certificate_label;
use crate::pem;

/// The most bytes of one bundle or list: 16 MiB.
pub const MAX_INPUT: usize = 16 << 20;
/// The most distinct authorities of one bundle.
pub const MAX_AUTHORITIES: usize = 4096;

/// Trusted authorities and revocation lists: immutable, cheap to clone. A change is a new `Trust`.
#[derive(Clone)]
pub struct Trust {
    inner: Arc<Inner>,
}

struct Inner {
    authorities: Vec<Authority>,
    anchors: Vec<TrustAnchor<'static>>,
    revocations: Vec<CertRevocationList<'static>>,
    /// Over all of the above: tells one trust from another.
    digest: [u8; 32],
}

/// One trusted certificate.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// What it says.
    pub details: Details,
}

/// What an import of a bundle gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Certificates found, readable or not.
    pub imported: usize,
    /// Different certificates accepted, told apart by their SHA-256 fingerprint.
    pub distinct: usize,
    /// What was refused, and why.
    pub rejected: Vec<Rejection>,
    /// Accepted but worth an alarm or a mark, for example an expired root.
    pub notices: Vec<String>,
}

/// One refused block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which of the given files, from 0.
    pub file: usize,
    /// The line of its BEGIN in that file.
    pub line: usize,
    /// The subject, when it could be read.
    pub subject: Option<String>,
    /// Why.
    pub reason: String,
}

/// Why there is no trust at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Larger than [`MAX_INPUT`] or more than [`MAX_AUTHORITIES`].
    #[error("the bundle is too large: at most {MAX_INPUT} bytes and {MAX_AUTHORITIES} authorities")]
    TooLarge,
    /// No authority was accepted: nobody could ever connect.
    #[error("no authority in the bundle ({})", summary(rejected))]
    Empty {
        /// What was refused.
        rejected: Vec<Rejection>,
    },
    /// A revocation list can't be used.
    #[error("revocation list {index}: {reason}")]
    BadList {
        /// Which of the given lists, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "imported {}, distinct {}, {} rejected", self.imported, self.distinct, self.rejected.len())
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = self.subject.as_deref().unwrap_or("unreadable");
        write!(f, "file {}, line {} ({who}): {}", self.file + 1, self.line, self.reason)
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("authorities", &self.inner.authorities.len())
            .field("revocation_lists", &self.inner.revocations.len())
            .field("digest", &HEXLOWER.encode(&self.inner.digest))
            .finish()
    }
}

impl PartialEq for Trust {
    /// The same authorities and lists in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.inner.digest == other.inner.digest
    }
}

impl Eq for Trust {}

impl Trust {
    /// Reads bundles: PEM files with any number of certificates and any text between them, or one DER certificate each.
    ///
    /// A root may be version 1, expired, short or signed with an old algorithm: its own signature proves nothing and is not looked at.
    /// An authority that is not self-signed must be sound. Everything that is no authority is refused by name, the rest is taken.
    ///
    /// # Errors
    /// [`TrustError::Empty`] when nothing is left, [`TrustError::TooLarge`].
    pub fn import(files: &[&[u8]], now: SystemTime) -> Result<(Self, Report), TrustError> {
        let mut report = Report::default();
        let mut authorities: Vec<Authority> = Vec::new();
        for (file, content) in files.iter().enumerate() {
            if content.len() > MAX_INPUT {
                return Err(TrustError::TooLarge);
            }
            for (line, block) in certificates(content) {
                report.imported += 1;
                match block.and_then(|der| accept(der, now, &mut report.notices)) {
                    Ok(authority) => {
                        let same =
                            |known: &Authority| known.details.fingerprint == authority.details.fingerprint;
                        if !authorities.iter().any(same) {
                            authorities.push(authority);
                        }
                    }
                    Err((subject, reason)) => report.rejected.push(Rejection { file, line, subject, reason }),
                }
                if authorities.len() > MAX_AUTHORITIES || report.rejected.len() > MAX_AUTHORITIES {
                    return Err(TrustError::TooLarge);
                }
            }
        }
        report.notices.sort();
        report.notices.dedup();
        report.distinct = authorities.len();
        if authorities.is_empty() {
            return Err(TrustError::Empty { rejected: report.rejected });
        }
        let anchors = authorities.iter().filter_map(|authority| anchor(&authority.der)).collect();
        let digest = digest(&authorities, &[]);
        let inner = Inner { authorities, anchors, revocations: Vec::new(), digest };
        Ok((Self { inner: Arc::new(inner) }, report))
    }

    /// The same authorities with these revocation lists (PEM or DER, version 2) in place of any former ones. Returns notices, for
    /// example of a list that is out of date: it is still used, because refusing everybody is worse.
    ///
    /// # Errors
    /// [`TrustError::BadList`]: unreadable, version 1, of an issuer that is not in the bundle, or not signed by it.
    pub fn with_revocations(
        &self,
        lists: &[&[u8]],
        now: SystemTime,
    ) -> Result<(Self, Vec<String>), TrustError> {
        let mut revocations = Vec::new();
        let (mut notices, mut digests) = (Vec::new(), Vec::new());
        for (index, content) in lists.iter().enumerate() {
            let bad = |reason: String| TrustError::BadList { index, reason };
            if content.len() > MAX_INPUT {
                return Err(TrustError::TooLarge);
            }
            for der in list_blocks(content).map_err(bad)? {
                let (list, notice) = self.revocation(&der, now).map_err(bad)?;
                digests.push(fingerprint(&der));
                revocations.push(list);
                notices.extend(notice);
            }
        }
        let inner = Inner {
            authorities: self.inner.authorities.clone(),
            anchors: self.inner.anchors.clone(),
            revocations,
            digest: digest(&self.inner.authorities, &digests),
        };
        Ok((Self { inner: Arc::new(inner) }, notices))
    }

    fn revocation(
        &self,
        der: &[u8],
        now: SystemTime,
    ) -> Result<(CertRevocationList<'static>, Option<String>), String> {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| "not a readable certificate revocation list".to_owned())?;
        if list.version().is_none() {
            return Err(
                "a version 1 list can't be used; make it with `openssl ca -gencrl -crlexts …`".to_owned()
            );
        }
        let issuer = list.issuer().to_string();
        let raw = list.issuer().as_raw();
        let of_issuer =
            |authority: &&Authority| parse(&authority.der).is_ok_and(|it| it.subject().as_raw() == raw);
        let mut candidates = self.inner.authorities.iter().filter(of_issuer).peekable();
        if candidates.peek().is_none() {
            return Err(format!("its issuer {issuer} is not in the bundle"));
        }
        let signed = |authority: &Authority| {
            signed_by(list.tbs_cert_list.as_ref(), &list.signature_value.data, &authority.der)
        };
        if !candidates.any(signed) {
            return Err(format!("it is not signed by the key of {issuer} with a supported algorithm"));
        }
        let late = list.next_update().map(|at| system_time(at.timestamp())).filter(|at| *at < now);
        let notice =
            late.map(|at| format!("the revocation list of {issuer} is out of date since {}", readable(at)));
        let owned =
            OwnedCertRevocationList::from_der(der).map_err(|error| format!("it can't be used: {error:?}"))?;
        Ok((CertRevocationList::from(owned), notice))
    }

    /// The authorities, in the order they came.
    pub fn authorities(&self) -> &[Authority] {
        &self.inner.authorities
    }

    /// How many revocation lists are used.
    pub fn revocation_lists(&self) -> usize {
        self.inner.revocations.len()
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.inner.anchors
    }

    pub(crate) fn revocations(&self) -> &[CertRevocationList<'static>] {
        &self.inner.revocations
    }
}

type Refused = (Option<String>, String);

fn certificates(content: &[u8]) -> Vec<(usize, Result<Vec<u8>, Refused>)> {
    if !pem::is_pem(content) {
        return if content.trim_ascii().is_empty() { Vec::new() } else { vec![(1, Ok(content.to_vec()))] };
    }
    pem::blocks(content)
        .into_iter()
        .map(|block| match block {
            Ok(block) if is_certificate_label(&block.label) => (block.line, Ok(block.der)),
            Ok(block) => (block.line, Err((None, format!("a {} is no authority certificate", block.label)))),
            Err(error) => (error.line, Err((None, error.reason.to_owned()))),
        })
        .collect()
}

fn accept(der: Vec<u8>, now: SystemTime, notices: &mut Vec<String>) -> Result<Authority, Refused> {
    let details = Details::parse(&der).map_err(|_| (None, "not a readable certificate".to_owned()))?;
    let refused = |reason: &str| Err((Some(details.subject.clone()), reason.to_owned()));
    let root = details.self_issued;
    let old_root = root && details.version < 3;
    if !details.authority && !old_root {
        return refused("not an authority (basicConstraints does not say CA)");
    }
    if !root && details.version < 3 {
        return refused("a version 1 certificate that is no root");
    }
    if !root && details.weak_signature {
        return refused("an intermediate signed with MD5 or SHA-1");
    }
    if !root && details.rsa_bits.is_some_and(|bits| bits < 2048) {
        return refused("an intermediate with an RSA key below 2048 bits");
    }
    let der = CertificateDer::from(der);
    if anchor(&der).is_none() {
        return refused("it can't serve as trust anchor");
    }
    if details.version < 3 {
        notices.push(format!("{} is a version 1 root", details.subject));
    }
    if details.not_after < now {
        notices.push(format!("{} expired on {}", details.subject, readable(details.not_after)));
    }
    Ok(Authority { der, details })
}

fn anchor(der: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    anchor_from_trusted_cert(der).ok().map(|anchor| anchor.to_owned())
}

fn list_blocks(content: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if !pem::is_pem(content) {
        return Ok(vec![content.to_vec()]);
    }
    let mut lists = Vec::new();
    for block in pem::blocks(content) {
        let block = block.map_err(|error| error.to_string())?;
        if block.label != "X509 CRL" {
            return Err(format!("line {}: a {} is no revocation list", block.line, block.label));
        }
        lists.push(block.der);
    }
    Ok(lists)
}

fn summary(rejected: &[Rejection]) -> String {
    match rejected.first() {
        None => "it holds no certificate".to_owned(),
        Some(first) => format!("{} rejected, first: {first}", rejected.len()),
    }
}

fn digest(authorities: &[Authority], lists: &[[u8; 32]]) -> [u8; 32] {
    let mut digest = Sha256::new().chain_update(authorities.len().to_be_bytes());
    for authority in authorities {
        digest.update(authority.details.fingerprint);
    }
    for list in lists {
        digest.update(list);
    }
    digest.finalize().into()
}

/// SHA-256 over a DER certificate, as browsers and openssl print it.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}
