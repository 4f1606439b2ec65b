//! Throw-away certificate authorities, made at the start and forgotten at the end.
//!
//! Four roots, as in the field: the *phone manufacturer's* (a client certificate for each phone, CN = MAC),
//! the *site's* own (HQ server, switches, the gateway's inside certificate), the *public* one that signs the
//! gateway's outside certificate, and a *stranger's*, which nobody trusts.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::mac::Mac;
use crate::plan::Plan;

/// A certificate or a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate generator refused.
    #[error("making a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("writing {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A certificate with its key, as DER for TLS and as PEM for files. `Debug` shows the subject only.
pub struct Identity {
    subject: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

/// Every authority and every certificate that does not belong to one phone.
pub struct Pki {
    phones: Authority,
    site: Authority,
    public: Authority,
    stranger: Authority,
    /// The HQ server's certificate.
    pub hq: Identity,
    /// One certificate for the three switches.
    pub switches: Identity,
    /// The gateway's inside certificate, signed by the site.
    pub hq_signed: Identity,
    /// The gateway's outside certificate, signed by the public root.
    pub outside: Identity,
    /// The gateway's name, signed by a root that no phone knows: what `--break certificate` installs.
    pub outside_stranger: Identity,
}

/// The files [`Pki::write`] makes, for the gateway's configuration and for real clients.
#[derive(Debug, Clone)]
pub struct Files {
    /// The folder of them all.
    pub folder: PathBuf,
    /// Trust: the phone manufacturer's root and the site's root.
    pub authorized_ca_bundle: PathBuf,
    /// Key and certificate for the gateway's inside.
    pub hq_signed: PathBuf,
    /// Key and certificate for the gateway's outside.
    pub outside: PathBuf,
    /// Key and certificate with the right name from an unknown root.
    pub outside_stranger: PathBuf,
    /// The public root: what clients outside trust.
    pub outside_ca: PathBuf,
    /// The site's root.
    pub hq_ca: PathBuf,
    /// Folder with key and certificate of each phone, `MAC.pem`.
    pub phones: PathBuf,
}

impl Files {
    /// Key and certificate of this phone, as written by [`Pki::write_phone`].
    pub fn phone(&self, mac: Mac) -> PathBuf {
        self.phones.join(format!("{mac}.pem"))
    }
}

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
    Both,
}

impl Pki {
    /// Makes the four roots and the certificates of the site and the gateway.
    pub fn new(plan: &Plan) -> Result<Self, PkiError> {
        let phones = Authority::new("Desk Phone Manufacturing Root (throw-away)")?;
        let site = Authority::new("HQ Root (throw-away)")?;
        let public = Authority::new("Public Root (throw-away)")?;
        let stranger = Authority::new("Stranger Root (throw-away)")?;
        let hq = site.issue(&plan.hq_name, &[plan.hq_name.clone(), plan.hq.to_string()], Purpose::Server)?;
        let names: Vec<String> = plan.switches.iter().map(ToString::to_string).collect();
        let switches = site.issue("switch.example.internal", &names, Purpose::Both)?;
        let inside = [
            plan.gateway_inside.to_string(),
            plan.gateway_outside.to_string(),
            "gateway.example.internal".into(),
        ];
        let hq_signed = site.issue("gateway.example.internal", &inside, Purpose::Both)?;
        let outside = public.issue(&plan.fqdn, std::slice::from_ref(&plan.fqdn), Purpose::Server)?;
        let outside_stranger =
            stranger.issue(&plan.fqdn, std::slice::from_ref(&plan.fqdn), Purpose::Server)?;
        Ok(Self { phones, site, public, stranger, hq, switches, hq_signed, outside, outside_stranger })
    }

    /// The client certificate of one phone: CN = MAC, signed by the manufacturer.
    pub fn phone(&self, mac: Mac) -> Result<Identity, PkiError> {
        self.phones.issue(&mac.to_string(), &[], Purpose::Client)
    }

    /// A client certificate with that MAC in it which the manufacturer never signed.
    pub fn forged_phone(&self, mac: Mac) -> Result<Identity, PkiError> {
        self.stranger.issue(&mac.to_string(), &[], Purpose::Client)
    }

    /// The root of the phone certificates.
    pub fn phone_root(&self) -> &CertificateDer<'static> {
        &self.phones.certificate
    }

    /// The site's root.
    pub fn hq_root(&self) -> &CertificateDer<'static> {
        &self.site.certificate
    }

    /// The site's root as PEM: the content of `hq_ca.crt`.
    pub fn hq_root_pem(&self) -> &str {
        &self.site.pem
    }

    /// The public root: what a phone trusts from the factory.
    pub fn public_root(&self) -> &CertificateDer<'static> {
        &self.public.certificate
    }

    /// Writes everything the gateway's configuration names into `folder` (made when missing; keys mode 0600).
    pub fn write(&self, folder: &Path) -> Result<Files, PkiError> {
        let files = Files {
            folder: folder.to_owned(),
            authorized_ca_bundle: folder.join("authorized_ca_bundle.pem"),
            hq_signed: folder.join("hq_signed.crt"),
            outside: folder.join("outside.crt"),
            outside_stranger: folder.join("outside_stranger.crt"),
            outside_ca: folder.join("outside_ca.crt"),
            hq_ca: folder.join("hq_ca.crt"),
            phones: folder.join("phones"),
        };
        let made = |path: &Path| {
            std::fs::create_dir_all(path).map_err(|source| PkiError::Write { path: path.to_owned(), source })
        };
        made(folder)?;
        made(&files.phones)?;
        write_private(&files.authorized_ca_bundle, &format!("{}{}", self.phones.pem, self.site.pem))?;
        write_private(&files.hq_signed, &self.hq_signed.pem)?;
        write_private(&files.outside, &format!("{}{}", self.outside.pem, self.public.pem))?;
        write_private(&files.outside_stranger, &self.outside_stranger.pem)?;
        write_private(&files.outside_ca, &self.public.pem)?;
        write_private(&files.hq_ca, &self.site.pem)?;
        Ok(files)
    }

    /// Writes key and certificate of one phone to `phones/MAC.pem`, for curl, openssl and baresip.
    pub fn write_phone(&self, files: &Files, mac: Mac) -> Result<PathBuf, PkiError> {
        let path = files.phone(mac);
        write_private(&path, &self.phone(mac)?.pem)?;
        Ok(path)
    }
}

impl Identity {
    /// The certificate's common name.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// Private key and certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("outside", &self.outside).finish_non_exhaustive()
    }
}

impl Authority {
    fn new(name: &str) -> Result<Self, PkiError> {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Ok(Self { certificate: der, pem, issuer: Issuer::new(params, key) })
    }

    fn issue(&self, name: &str, alternatives: &[String], purpose: Purpose) -> Result<Identity, PkiError> {
        let mut params = params(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match purpose {
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        for text in alternatives {
            params.subject_alt_names.push(match text.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(text.as_str().try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            subject: name.to_owned(),
            pem: format!("{}{}", key.serialize_pem(), certificate.pem()),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    // From yesterday, so that no clock in between finds it not yet valid; a week is long for a demonstration.
    params.not_before = (now - Duration::from_secs(86_400)).into();
    params.not_after = (now + Duration::from_secs(7 * 86_400)).into();
    params
}

/// Mode 0600 from the first byte: the files hold keys, if only throw-away ones.
fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| PkiError::Write { path: path.to_owned(), source })
}
