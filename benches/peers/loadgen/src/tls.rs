//! TLS set-up: certificates, roots, one connector a phone.

use sipload::*;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self};

pub(crate) fn certs(f: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    let d = std::fs::read(f).unwrap_or_else(|e| panic!("{f}: {e}"));
    rustls_pemfile::certs(&mut &d[..]).map(|c| c.unwrap()).collect()
}

pub(crate) fn key(f: &str) -> rustls::pki_types::PrivateKeyDer<'static> {
    let d = std::fs::read(f).unwrap_or_else(|e| panic!("{f}: {e}"));
    rustls_pemfile::private_key(&mut &d[..]).unwrap().unwrap()
}

pub(crate) fn roots(a: &Args) -> rustls::RootCertStore {
    let mut r = rustls::RootCertStore::empty();
    for c in certs(&a.get("ca", "certs/ca.pem")) {
        r.add(c).unwrap();
    }
    r
}

/// One connector, or with --ca-key one for each of --certs phones (default --phones, else 500): a certificate signed
/// by --ca whose CN and SAN name the phone's MAC, as real phones have.
pub(crate) fn connectors(a: &Args) -> Vec<TlsConnector> {
    let Some(k) = a.opt("ca-key") else { return vec![connector(a, None)] };
    let ca = std::fs::read_to_string(a.get("ca", "certs/ca.pem")).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(k).unwrap()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, ca_key).unwrap();
    (0..a.num("certs", a.num("phones", 500usize)))
        .map(|i| {
            let mac = format!("{:012X}", i + MAC0);
            let kept = a.opt("keep").map(|folder| std::path::Path::new(folder).join(format!("{mac}.pem")));
            if let Some(kept) = kept.as_ref().and_then(|file| file.exists().then(|| file.to_str()).flatten())
            {
                return connector(a, Some((certs(kept), key(kept))));
            }
            let pair = rcgen::KeyPair::generate().unwrap();
            let mut c =
                rcgen::CertificateParams::new(vec![format!("{}.phones.example.test", mac.to_lowercase())])
                    .unwrap();
            c.distinguished_name = rcgen::DistinguishedName::new();
            c.distinguished_name.push(rcgen::DnType::CommonName, mac);
            c.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            c.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
            let cert = c.signed_by(&pair, &issuer).unwrap();
            if let Some(kept) = kept {
                std::fs::write(kept, cert.pem() + &pair.serialize_pem()).unwrap();
            }
            let key = rustls::pki_types::PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
            connector(a, Some((vec![cert.der().clone()], key)))
        })
        .collect()
}

pub(crate) type Identity =
    (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

pub(crate) fn connector(a: &Args, own: Option<Identity>) -> TlsConnector {
    let v: &[&rustls::SupportedProtocolVersion] = match a.opt("tls") {
        Some("1.2") => &[&rustls::version::TLS12],
        Some("1.3") => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
    };
    let b = rustls::ClientConfig::builder_with_protocol_versions(v).with_root_certificates(roots(a));
    let mut c = if a.has("no-cert") {
        b.with_no_client_auth()
    } else {
        let (chain, k) = own.unwrap_or_else(|| {
            (certs(&a.get("cert", "certs/client-ec.pem")), key(&a.get("key", "certs/client-ec.key")))
        });
        b.with_client_auth_cert(chain, k).unwrap()
    };
    c.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(c))
}

/// MAC of phone 0.
pub(crate) const MAC0: usize = 0x0011_2233_0000;
