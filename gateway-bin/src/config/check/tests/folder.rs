//! The files that a configuration names, for as long as tests use them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A folder with the certificate files the shipped configuration names, for as long as somebody uses it.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// The one that other tests use at the moment, else a new one.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: Mutex<(u32, Weak<Folder>)> = Mutex::new((0, Weak::new()));
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = shared.1.upgrade() {
            return folder;
        }
        shared.0 += 1;
        let name = format!("farend-config-{}-{}", std::process::id(), shared.0);
        let folder = Arc::new(Self::new(std::env::temp_dir().join(name)));
        shared.1 = Arc::downgrade(&folder);
        folder
    }

    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        let made = rcgen::generate_simple_self_signed(["farend.example.internal".to_owned()]).unwrap();
        let text = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(folder.0.join("hq_signed.crt"), text).unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = rcgen::KeyPair::generate().unwrap();
        let issued = ca.self_signed(&key).unwrap();
        std::fs::write(folder.0.join("authorized_ca_bundle_plus_minet.pem"), issued.pem()).unwrap();
        std::fs::write(folder.0.join("authorized.crl"), list(&rcgen::Issuer::new(ca, key))).unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_folder_of_a_test_goes_with_it() {
    let folder = Folder::new(std::env::temp_dir().join(format!("farend-config-{}", std::process::id())));
    let path = folder.0.clone();
    assert!(path.join("hq_signed.crt").exists());
    drop(folder);
    assert!(!path.exists());
}

/// An empty revocation list, as PEM.
fn list(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> String {
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(4096, 1, 1),
        crl_number: rcgen::SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap().pem().unwrap()
}
