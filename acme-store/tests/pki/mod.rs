//! Authorities and certificates for the tests, and the openssl program as an independent witness.
#![allow(dead_code, unreachable_pub, clippy::disallowed_methods)] // Each test uses its part; tests may look at the clock.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use acme_store::certificate::Credential;
use acme_store::key::Key;
use acme_store::trust::Trust;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn now() -> SystemTime {
    SystemTime::now()
}

/// An authority that signs.
pub struct Ca {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a leaf shall say.
#[derive(Clone)]
pub struct Leaf {
    pub cn: Option<String>,
    pub sans: Vec<SanType>,
    pub ekus: Vec<ExtendedKeyUsagePurpose>,
    pub from: SystemTime,
    pub until: SystemTime,
    pub ca: IsCa,
}

pub struct Issued {
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Default for Leaf {
    fn default() -> Self {
        Self {
            cn: None,
            sans: Vec::new(),
            ekus: Vec::new(),
            from: now() - DAY,
            until: now() + 30 * DAY,
            ca: IsCa::NoCa,
        }
    }
}

pub fn cn(name: &str) -> Leaf {
    Leaf { cn: Some(name.to_owned()), ..Leaf::default() }
}

impl Leaf {
    pub fn dns(mut self, name: &str) -> Self {
        self.sans.push(SanType::DnsName(name.to_owned().try_into().unwrap()));
        self
    }

    pub fn ip(mut self, address: &str) -> Self {
        self.sans.push(SanType::IpAddress(address.parse().unwrap()));
        self
    }

    pub fn eku(mut self, eku: ExtendedKeyUsagePurpose) -> Self {
        self.ekus.push(eku);
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(cn) = &self.cn {
            params.distinguished_name.push(DnType::CommonName, cn.as_str());
        }
        params.subject_alt_names = self.sans.clone();
        params.extended_key_usages = self.ekus.clone();
        params.not_before = self.from.into();
        params.not_after = self.until.into();
        params.is_ca = self.ca;
        params
    }

    pub fn self_signed(&self) -> Issued {
        let key = KeyPair::generate().unwrap();
        let der = self.params().self_signed(&key).unwrap().der().clone();
        Issued { der, key }
    }
}

fn ca_params(name: &str, below: Option<u8>) -> CertificateParams {
    let mut leaf = cn(name);
    leaf.until = now() + 3650 * DAY;
    leaf.ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    let mut params = leaf.params();
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

impl Ca {
    pub fn root(name: &str) -> Self {
        let issuer =
            CertifiedIssuer::self_signed(ca_params(name, None), KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn below(&self, name: &str, below: Option<u8>) -> Self {
        let params = ca_params(name, below);
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        Self { issuer }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn issue(&self, leaf: &Leaf) -> Issued {
        self.issue_for(leaf, KeyPair::generate().unwrap())
    }

    pub fn issue_for(&self, leaf: &Leaf, key: KeyPair) -> Issued {
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        let der = leaf.params().signed_by(&key, issuer).unwrap().der().clone();
        Issued { der, key }
    }

    pub fn trust(&self) -> Trust {
        trust(&[self])
    }

    /// A list that revokes `serials`.
    pub fn revoke(&self, issued: &[&Issued]) -> Vec<u8> {
        let revoked_certs = issued
            .iter()
            .map(|issued| rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(&serial(&issued.der)),
                revocation_time: (now() - DAY).into(),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = rcgen::CertificateRevocationListParams {
            this_update: (now() - DAY).into(),
            next_update: (now() + DAY).into(),
            crl_number: rcgen::SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

pub fn serial(der: &[u8]) -> Vec<u8> {
    let details = acme_store::certificate::Details::parse(der).unwrap();
    data_encoding::HEXLOWER.decode(details.serial.as_bytes()).unwrap()
}

pub fn trust(authorities: &[&Ca]) -> Trust {
    let files: Vec<String> = authorities.iter().map(|ca| ca.pem()).collect();
    let files: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
    Trust::import(&files, now()).unwrap().0
}

impl Issued {
    pub fn credential(&self, above: &[&Ca]) -> Credential {
        let key = Key::new(PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()).unwrap();
        let mut chain = vec![self.der.clone()];
        chain.extend(above.iter().map(|ca| ca.der()));
        Credential::new(key, chain).unwrap()
    }

    pub fn pem(&self) -> String {
        acme_store::pem::encode("CERTIFICATE", &self.der)
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// A directory of its own that goes away with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("acme-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    /// Runs openssl in this directory; its output must be success.
    pub fn openssl(&self, arguments: &str) -> Output {
        let output =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.0).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {error}");
        output
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Is the program here? If not, the test is left out by name, or fails when FAREND_REQUIRE_PEERS=1.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file()));
    if !found {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(
            std::env::var("FAREND_REQUIRE_PEERS").as_deref() != Ok("1"),
            "{test} needs {program}, which is not installed"
        );
        eprintln!("left out: {test} (needs {program})");
    }
    found
}
