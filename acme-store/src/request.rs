//! Certificate requests (PKCS#10, RFC 2986) and the self-signed certificate that serves until the signed one is here.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::certificate::{Credential, CredentialError};
use crate::key::Key;

/// How long an interim certificate is valid: 90 days.
pub const INTERIM_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// The names and the subject asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The common name (CN).
    pub common_name: String,
    /// DNS names and addresses of the subjectAltName; the common name is used when this is empty.
    pub names: Vec<String>,
    /// Country, two letters.
    pub country: Option<String>,
    /// Organisation.
    pub organization: Option<String>,
    /// Organisational unit.
    pub unit: Option<String>,
    /// Locality.
    pub locality: Option<String>,
    /// State or province.
    pub state: Option<String>,
}

/// Why a request or certificate can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Neither a common name nor another name.
    #[error("no name: give a common name or DNS names")]
    NoName,
    /// Not a DNS name or address.
    #[error("\"{0}\" is neither a DNS name nor an address")]
    BadName(String),
    /// The country is not two letters.
    #[error("the country must be two letters")]
    BadCountry,
    /// The library refused.
    #[error("the request could not be made: {0}")]
    Library(String),
    /// The certificate does not fit the key; a fault of this crate.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl Form {
    /// A form for these names only: the first is the common name.
    pub fn for_names(names: &[String]) -> Self {
        Self {
            common_name: names.first().cloned().unwrap_or_default(),
            names: names.to_vec(),
            ..Self::default()
        }
    }

    /// The names for the subjectAltName.
    ///
    /// # Errors
    /// [`RequestError::NoName`], [`RequestError::BadName`].
    pub fn alternative_names(&self) -> Result<Vec<String>, RequestError> {
        let mut names = self.names.clone();
        if names.is_empty() && !self.common_name.is_empty() {
            names.push(self.common_name.clone());
        }
        if names.is_empty() {
            return Err(RequestError::NoName);
        }
        match names.iter().find(|name| !is_name(name)) {
            Some(bad) => Err(RequestError::BadName(bad.clone())),
            None => Ok(names),
        }
    }

    fn parameters(&self) -> Result<CertificateParams, RequestError> {
        let mut parameters = CertificateParams::default();
        for name in self.alternative_names()? {
            parameters.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    Ia5String::try_from(name.clone()).map_err(|_| RequestError::BadName(name))?,
                ),
            });
        }
        parameters.distinguished_name = DistinguishedName::new();
        Ok(parameters)
    }

    fn subject(&self) -> Result<DistinguishedName, RequestError> {
        let mut subject = DistinguishedName::new();
        if let Some(country) = &self.country {
            if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(RequestError::BadCountry);
            }
            let country = rcgen::string::PrintableString::try_from(country.to_ascii_uppercase());
            subject.push(
                DnType::CountryName,
                DnValue::PrintableString(country.map_err(|_| RequestError::BadCountry)?),
            );
        }
        let optional = [
            (DnType::StateOrProvinceName, &self.state),
            (DnType::LocalityName, &self.locality),
            (DnType::OrganizationName, &self.organization),
            (DnType::OrganizationalUnitName, &self.unit),
        ];
        for (kind, value) in optional {
            if let Some(value) = value {
                subject.push(kind, value.as_str());
            }
        }
        if !self.common_name.is_empty() {
            subject.push(DnType::CommonName, self.common_name.as_str());
        }
        Ok(subject)
    }
}

/// A request for an ACME server: names in the subjectAltName only, an empty subject. A default common name there is read as one more
/// domain and fails the order.
///
/// # Errors
/// [`RequestError`].
pub fn acme(key: &Key, names: &[String]) -> Result<Vec<u8>, RequestError> {
    let form = Form { names: names.to_vec(), ..Form::default() };
    sign_request(key, &form.parameters()?)
}

/// A request with the subject of the form, for an authority that people talk to. DER; [`crate::pem::encode`] with the label
/// `CERTIFICATE REQUEST` gives the PEM form.
///
/// # Errors
/// [`RequestError`].
pub fn signing_request(key: &Key, form: &Form) -> Result<Vec<u8>, RequestError> {
    let mut parameters = form.parameters()?;
    parameters.distinguished_name = form.subject()?;
    sign_request(key, &parameters)
}

/// A self-signed certificate of `key` for the names of `form`, valid from one hour before `now` (clocks differ) for `lifetime`.
///
/// # Errors
/// [`RequestError`].
pub fn self_signed(
    key: &Key,
    form: &Form,
    now: SystemTime,
    lifetime: Duration,
) -> Result<Credential, RequestError> {
    let mut parameters = form.parameters()?;
    parameters.distinguished_name = form.subject()?;
    let skew = Duration::from_secs(3600);
    parameters.not_before = OffsetDateTime::from(now.checked_sub(skew).unwrap_or(now));
    parameters.not_after = OffsetDateTime::from(now.checked_add(lifetime).unwrap_or(now));
    // Not an authority: a client that pins it must not be led to trust what it might sign.
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.serial_number = Some(serial(key, now));
    let certificate = parameters.self_signed(&pair(key)?).map_err(library)?;
    Ok(Credential::new(key.clone(), vec![CertificateDer::from(certificate.der().to_vec())])?)
}

/// A serial number that differs for each certificate of one key; clients refuse two certificates of one issuer and number.
fn serial(key: &Key, now: SystemTime) -> SerialNumber {
    let at = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let digest = Sha256::new().chain_update(key.public_der()).chain_update(at.to_be_bytes()).finalize();
    let mut number: Vec<u8> = digest.iter().take(16).copied().collect();
    // RFC 5280 §4.1.2.2: positive and not zero
    if let Some(first) = number.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    SerialNumber::from(number)
}

fn sign_request(key: &Key, parameters: &CertificateParams) -> Result<Vec<u8>, RequestError> {
    let request = parameters.serialize_request(&pair(key)?).map_err(library)?;
    Ok(request.der().to_vec())
}

fn pair(key: &Key) -> Result<KeyPair, RequestError> {
    let der: PrivateKeyDer<'_> = key.secret_der().clone_key();
    KeyPair::try_from(&der).map_err(library)
}

fn library(error: rcgen::Error) -> RequestError {
    RequestError::Library(error.to_string())
}

/// A DNS name (one leading `*.` allowed) or an address.
pub(crate) fn is_name(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyKind;
    use std::time::UNIX_EPOCH;

    #[test]
    fn the_interim_certificate_names_all_and_is_recognised() {
        let key = Key::generate(KeyKind::EcdsaP256).unwrap();
        let names = vec!["a.example".to_owned(), "192.0.2.1".to_owned()];
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let made = self_signed(&key, &Form::for_names(&names), now, INTERIM_LIFETIME).unwrap();
        assert!(made.names_all(&names) && made.details().is_self_signed_leaf());
        assert!(made.details().valid_at(now));
        assert!(!made.details().valid_at(now + INTERIM_LIFETIME + Duration::from_secs(1)));
        assert_eq!(made.details().common_names, ["a.example"]);
    }

    #[test]
    fn bad_names_are_refused() {
        let key = Key::generate(KeyKind::EcdsaP256).unwrap();
        for bad in ["a b", "", "a..b", "-a.example", "a/b", "*.*.example", "ä.example"] {
            assert!(acme(&key, &[bad.to_owned()]).is_err(), "{bad}");
        }
        assert_eq!(acme(&key, &[]), Err(RequestError::NoName));
        let form = Form { country: Some("USA".into()), common_name: "a.example".into(), ..Form::default() };
        assert_eq!(signing_request(&key, &form), Err(RequestError::BadCountry));
    }
}
