//! Certificates, trust bundles and the ACME tables they refer to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Judge;
use crate::config::file::{self, File};
use crate::config::settings::{AcmeDomain, CertificateOrigin, KeyType, NetSettings, Trust};

pub(super) fn trust(file: &File, judge: &mut Judge<'_>) -> BTreeMap<String, Trust> {
    let mut out = BTreeMap::new();
    for (name, written) in &file.trust {
        let key = ["trust", name, "bundles"];
        if written.bundles.is_empty() {
            judge.refuse_by("CFG-10", &key, "expected at least one CA file");
        }
        let bundles = written.bundles.iter().map(|bundle| judge.file(&key, bundle)).collect();
        if !written.crls.is_empty() {
            judge.refuse(&["trust", name, "crls"], "CRLs are not built yet: expected an empty list");
        }
        out.insert(name.clone(), Trust { bundles });
    }
    out
}

pub(super) fn certificates(
    file: &File,
    net: Option<&NetSettings>,
    judge: &mut Judge<'_>,
) -> BTreeMap<String, CertificateOrigin> {
    let mut out = BTreeMap::new();
    for (name, written) in &file.certificates {
        if let Some(origin) = certificate(name, written, file, net, judge) {
            out.insert(name.clone(), origin);
        }
    }
    out
}

fn certificate(
    name: &str,
    written: &file::Certificate,
    file: &File,
    net: Option<&NetSettings>,
    judge: &mut Judge<'_>,
) -> Option<CertificateOrigin> {
    let key = ["certificates", name];
    if written.password_file.is_some() {
        judge.refuse(&["certificates", name, "password_file"], "keys under a password are not built yet");
    }
    if let Some(import) = &written.import {
        if written.common_name.is_some() || written.acme.is_some() || written.key.is_some() {
            judge.refuse(&key, "expected either import or a request (common_name, key, acme), not both");
        }
        return Some(CertificateOrigin::Imported {
            path: judge.file(&["certificates", name, "import"], import),
        });
    }
    let Some(common_name) = written.common_name.clone().filter(|text| !text.is_empty()) else {
        judge.refuse(&key, "expected import = \"file\", or common_name for a certificate made here");
        return None;
    };
    let kinds = [("rsa-2048", KeyType::Rsa2048), ("ecdsa-p256", KeyType::EcdsaP256)];
    let kind = written.key.as_deref().unwrap_or("rsa-2048");
    let kind = judge.one_of(&["certificates", name, "key"], kind, &kinds)?;
    let mut dns = written.dns.clone();
    for host in &dns {
        if host.starts_with('*') && written.acme.is_some() {
            judge.refuse(
                &["certificates", name, "dns"],
                format!("\"{host}\": a wildcard can't be proven by HTTP-01"),
            );
        }
    }
    if !dns.contains(&common_name) {
        dns.insert(0, common_name.clone());
    }
    let acme = match &written.acme {
        Some(domain) => Some(acme_domain(name, domain, file, net, judge)?),
        None => None,
    };
    Some(CertificateOrigin::Requested { common_name, dns, key: kind, acme })
}

fn acme_domain(
    certificate: &str,
    domain: &str,
    file: &File,
    net: Option<&NetSettings>,
    judge: &mut Judge<'_>,
) -> Option<AcmeDomain> {
    let written =
        judge.named(&["certificates", certificate, "acme"], domain, "ACME domain", &file.acme.domains)?;
    let service_key = ["acme", "domains", domain, "service"];
    let service = judge.named(&service_key, &written.service, "ACME service", &file.acme.services);
    let account_key = ["acme", "domains", domain, "account"];
    let account = judge.named(&account_key, &written.account, "ACME account", &file.acme.accounts);
    let interval_key = ["acme", "domains", domain, "renewal_interval"];
    let renewal_interval = judge.number::<u8>(&interval_key, written.renewal_interval, (10, 90));
    let port_key = ["acme", "domains", domain, "challenge_port"];
    let port = judge.number::<u16>(&port_key, written.challenge_port, (1, 65535));
    let interfaces = [("inside", net.map(|net| &net.inside)), ("outside", net.map(|net| &net.outside))];
    let challenge_key = ["acme", "domains", domain, "challenge"];
    let interface = judge.one_of(&challenge_key, &written.challenge, &interfaces)??;
    let (service, account, port) = (service?, account?, port?);
    let challenge = interface.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let contact = contacts(&written.account, account, judge);
    let trusted_ca = trusted_ca(&written.service, service, file, judge);
    Some(AcmeDomain {
        directory: directory(&written.service, service, judge)?,
        trusted_ca,
        contact,
        account: written.account.clone(),
        challenge,
        renewal_interval: renewal_interval?,
    })
}

fn contacts(name: &str, account: &file::AcmeAccount, judge: &mut Judge<'_>) -> Vec<String> {
    let key = ["acme", "accounts", name, "contact"];
    let mut out = Vec::new();
    for contact in &account.contact {
        let address = contact.strip_prefix("mailto:").unwrap_or(contact);
        let usable =
            address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
        if !usable || address.contains([' ', ',', '<', '>']) {
            judge.refuse(
                &key,
                format!("\"{contact}\" is not a contact: expected \"mailto:user@example.com\""),
            );
        }
        if !contact.starts_with("mailto:") {
            judge.warn(&key, format!("\"{contact}\" is taken as \"mailto:{contact}\""));
        }
        out.push(format!("mailto:{address}"));
    }
    out
}

fn trusted_ca(name: &str, service: &file::AcmeService, file: &File, judge: &mut Judge<'_>) -> Vec<PathBuf> {
    let Some(trust) = &service.trusted_ca else { return Vec::new() };
    let key = ["acme", "services", name, "trusted_ca"];
    let Some(entry) = judge.named(&key, trust, "trust entry", &file.trust) else { return Vec::new() };
    entry.bundles.iter().map(|bundle| judge.base.join(bundle)).collect()
}

/// `https://host/path` of the ACME directory (CERT-10).
fn directory(name: &str, service: &file::AcmeService, judge: &mut Judge<'_>) -> Option<String> {
    let key = ["acme", "services", name, "host"];
    if service.host.starts_with("http://") || service.directory.starts_with("http://") {
        judge.refuse(&key, "clear HTTP is refused: expected the name of an https server");
        return None;
    }
    let host = service.host.strip_prefix("https://").unwrap_or(&service.host).trim_end_matches('/');
    if host.is_empty() || host.contains(['/', ' ', '@', '?', '#']) {
        judge.refuse(
            &key,
            format!("\"{host}\" is not a host: expected a name or address, and :port if not 443"),
        );
        return None;
    }
    let path = service.directory.strip_prefix(&format!("https://{host}")).unwrap_or(&service.directory);
    Some(format!("https://{host}/{}", path.trim_start_matches('/')))
}

impl Judge<'_> {
    /// The path of a file that must exist.
    pub(super) fn file(&mut self, key: &[&str], name: &str) -> PathBuf {
        let path = self.base.join(name);
        if !path.is_file() {
            self.refuse(key, format!("the file \"{}\" does not exist", path.display()));
        }
        path
    }
}
