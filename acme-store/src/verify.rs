//! Is a chain good: for a trust, a purpose, a time, and if asked for a name. And who is the peer.
//!
//! The path is built by rustls-webpki (RFC 5280 §6); this module adds what it leaves out: the rule on common names, a bound on what
//! a peer may send, and refusals that say which two strings differ.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy};

use crate::certificate::{Details, Identity};
use crate::key::provider;
use crate::trust::Trust;

/// The most certificates a peer may send. Longer chains are refused before any signature is looked at.
pub const MAX_CHAIN: usize = 8;

/// What the certificate is used for. An extended key usage must name it if the certificate has one (RFC 5280 §4.2.1.12); certificates
/// without one, as phones carry, are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The peer connected to us.
    Client,
    /// We connected to the peer.
    Server,
}

/// How the name of a server is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// The subjectAltName first; a certificate without any entry of that type (DNS or address) may name the host in its one common
    /// name, compared whole and without case, with no wildcard.
    #[default]
    NameOrCommonName,
    /// The subjectAltName only, as public peers are checked (RFC 9525).
    AlternativeNameOnly,
    /// The chain of trust is enough. For peers behind a private authority that are reached by address.
    ChainOnly,
}

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No certificate was sent.
    #[error("no certificate was presented")]
    Missing,
    /// The first certificate can't be read, or is version 1.
    #[error("the certificate can't be used: {0}")]
    Unusable(String),
    /// More than [`MAX_CHAIN`] certificates, or the search for a path became too expensive.
    #[error("the chain is too long or too expensive to check")]
    TooLong,
    /// No trusted authority issued it.
    #[error("no trusted authority issued the certificate")]
    UnknownIssuer,
    /// A signature in the chain is wrong or uses a refused algorithm (MD5, SHA-1, RSA below 2048 bits).
    #[error("a signature in the chain is wrong or of a refused kind")]
    BadSignature,
    /// Expired.
    #[error("the certificate has expired")]
    Expired,
    /// Not yet valid.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// On a revocation list.
    #[error("the certificate is revoked")]
    Revoked,
    /// The extended key usage does not allow this use.
    #[error("the certificate is not for this purpose (extended key usage)")]
    WrongPurpose,
    /// An authority certificate as leaf, a leaf as authority, or a path length or name constraint broken.
    #[error("the chain breaks a constraint: {0}")]
    Constraint(&'static str),
    /// The name does not match.
    #[error("the certificate is for {presented}, configured is {expected}")]
    Name {
        /// The name that was wanted.
        expected: String,
        /// The names of the certificate.
        presented: String,
    },
}

impl Refusal {
    /// The refusal behind a failed handshake; `None` when it failed for another reason than a certificate.
    pub fn from_tls(error: &rustls::Error) -> Option<Self> {
        let error = match error {
            rustls::Error::NoCertificatesPresented => return Some(Self::Missing),
            rustls::Error::InvalidCertificate(error) => error,
            _ => return None,
        };
        Some(match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::InvalidPurpose => Self::WrongPurpose,
            CertificateError::Other(other) => match other.0.downcast_ref::<Self>() {
                Some(refusal) => refusal.clone(),
                None => Self::Unusable(other.to_string()),
            },
            other => Self::Unusable(other.to_string()),
        })
    }
}

/// Checks `chain` (leaf first) for `purpose` at `now`.
///
/// # Errors
/// The [`Refusal`].
pub fn chain(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    purpose: Purpose,
    now: UnixTime,
) -> Result<(), Refusal> {
    let (leaf, above) = chain.split_first().ok_or(Refusal::Missing)?;
    path(trust, leaf, above, purpose, now)
}

/// Checks that the leaf of a server names `expected` (a DNS name or an address) by `rule`.
///
/// # Errors
/// [`Refusal::Name`] with both strings.
pub fn server_name(leaf: &CertificateDer<'_>, expected: &str, rule: NameRule) -> Result<(), Refusal> {
    if rule == NameRule::ChainOnly {
        return Ok(());
    }
    let details = Details::parse(leaf).map_err(|error| Refusal::Unusable(error.to_string()))?;
    let matches = match expected.parse::<IpAddr>() {
        Ok(address) if !details.addresses.is_empty() => details.addresses.contains(&address),
        Ok(address) => {
            rule == NameRule::NameOrCommonName
                && sole(&details.common_names).and_then(|name| name.parse().ok()) == Some(address)
        }
        Err(_) if !details.dns_names.is_empty() => {
            details.dns_names.iter().any(|name| dns_matches(name, expected))
        }
        Err(_) => {
            rule == NameRule::NameOrCommonName
                && sole(&details.common_names).is_some_and(|name| whole_name_matches(name, expected))
        }
    };
    if matches {
        Ok(())
    } else {
        Err(Refusal::Name { expected: expected.to_owned(), presented: presented(&details) })
    }
}

/// Who the peer is. Call it after the chain was accepted.
///
/// # Errors
/// [`Refusal::Missing`] and [`Refusal::Unusable`].
pub fn identity(chain: &[CertificateDer<'_>]) -> Result<Identity, Refusal> {
    let leaf = chain.first().ok_or(Refusal::Missing)?;
    let details = Details::parse(leaf).map_err(|error| Refusal::Unusable(error.to_string()))?;
    Ok(details.identity())
}

fn path(
    trust: &Trust,
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    purpose: Purpose,
    now: UnixTime,
) -> Result<(), Refusal> {
    if above.len() >= MAX_CHAIN {
        return Err(Refusal::TooLong);
    }
    let parsed = EndEntityCert::try_from(leaf).map_err(refusal)?;
    let usage = match purpose {
        Purpose::Client => KeyUsage::client_auth(),
        Purpose::Server => KeyUsage::server_auth(),
    };
    let lists: Vec<&webpki::CertRevocationList<'_>> = trust.revocations().iter().collect();
    // Only the leaf is looked up, and one that no list covers passes: a list for one of several authorities must not lock out the
    // phones of the others.
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .build()
    });
    parsed
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, trust.anchors(), above, now, usage, revocation, None)
        .map(|_| ())
        .map_err(refusal)
}

fn refusal(error: webpki::Error) -> Refusal {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => Refusal::Expired,
        E::CertNotValidYet { .. } => Refusal::NotYetValid,
        E::CertRevoked => Refusal::Revoked,
        E::UnknownIssuer => Refusal::UnknownIssuer,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Refusal::WrongPurpose,
        E::CaUsedAsEndEntity => Refusal::Constraint("an authority certificate is used as the peer's own"),
        E::EndEntityUsedAsCa => Refusal::Constraint("a certificate that is no authority issued another"),
        E::PathLenConstraintViolated => {
            Refusal::Constraint("more authorities in the path than one of them allows")
        }
        E::NameConstraintViolation | E::MalformedNameConstraint => {
            Refusal::Constraint("a name outside of what the authority may certify")
        }
        E::MaximumPathDepthExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => Refusal::TooLong,
        E::InvalidSignatureForPublicKey
        | E::SignatureAlgorithmMismatch
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refusal::BadSignature,
        other => Refusal::Unusable(format!("{other:?}")),
    }
}

fn sole(names: &[String]) -> Option<&str> {
    match names {
        [name] => Some(name),
        _ => None,
    }
}

/// The common name rule: the whole string, without case. A `*` or a NUL is only a character that no host name has.
fn whole_name_matches(name: &str, expected: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && !text.contains('*') && !text.chars().any(char::is_control);
    plain(name) && plain(expected) && name.eq_ignore_ascii_case(expected)
}

/// A DNS name of the subjectAltName against a host name; `*` stands for the whole leftmost label and nothing else (RFC 9525 §6.3).
fn dns_matches(pattern: &str, expected: &str) -> bool {
    let expected = expected.strip_suffix('.').unwrap_or(expected);
    if let Some(rest) = pattern.strip_prefix("*.") {
        let Some((label, parent)) = expected.split_once('.') else { return false };
        return !label.is_empty() && rest.contains('.') && whole_name_matches(rest, parent);
    }
    whole_name_matches(pattern, expected)
}

fn presented(details: &Details) -> String {
    let addresses = details.addresses.iter().map(ToString::to_string);
    let mut names: Vec<String> =
        details.dns_names.iter().cloned().chain(addresses).map(|name| quoted(&name)).collect();
    names.extend(details.common_names.iter().map(|name| format!("CN {}", quoted(name))));
    if names.is_empty() { "nobody (it has no name)".to_owned() } else { names.join(", ") }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}

/// Turns a refusal into what rustls reports, and so into the right TLS alert.
pub(crate) fn tls_error(refusal: Refusal) -> rustls::Error {
    let error = match &refusal {
        Refusal::Missing => return rustls::Error::NoCertificatesPresented,
        Refusal::Expired => CertificateError::Expired,
        Refusal::NotYetValid => CertificateError::NotValidYet,
        Refusal::Revoked => CertificateError::Revoked,
        Refusal::UnknownIssuer => CertificateError::UnknownIssuer,
        Refusal::BadSignature => CertificateError::BadSignature,
        Refusal::WrongPurpose => CertificateError::InvalidPurpose,
        _ => CertificateError::Other(OtherError(Arc::new(refusal))),
    };
    rustls::Error::InvalidCertificate(error)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// Asks connecting peers for a certificate and checks it against a [`Trust`].
#[derive(Debug)]
pub struct ClientVerifier {
    trust: Trust,
    required: bool,
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    /// `required`: a peer without certificate is refused; else it is accepted without identity. One that presents a certificate must
    /// always present a good one.
    pub fn new(trust: Trust, required: bool) -> Self {
        // TLS bounds the list of accepted issuers to 64 KiB; a phone that is told none sends the one certificate it has.
        let hints: Vec<_> =
            trust.anchors().iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        let size: usize = hints.iter().map(|name| name.as_ref().len() + 2).sum();
        let hints = if size <= 8 << 10 { hints } else { Vec::new() };
        Self { trust, required, hints }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        path(&self.trust, leaf, above, Purpose::Client, now).map_err(tls_error)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Checks the server we connect to: its chain against a [`Trust`], its name by a [`NameRule`].
#[derive(Debug)]
pub struct ServerVerifier {
    trust: Trust,
    rule: NameRule,
}

impl ServerVerifier {
    /// A verifier; there is none that trusts without authorities.
    pub fn new(trust: Trust, rule: NameRule) -> Self {
        Self { trust, rule }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        path(&self.trust, leaf, above, Purpose::Server, now).map_err(tls_error)?;
        server_name(leaf, &name.to_str(), self.rule).map_err(tls_error)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
