//! Certificates, trust bundles and the ACME tables they refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::SystemTime;

use acme_store::import::{self, Notice};
use acme_store::key::KeyKind;
use acme_store::net::authority::{self, Directory, Roots};
use acme_store::schedule::Policy;
use acme_store::trust::Trust;

use super::Judge;
use crate::config::file::{self, File};
use crate::config::settings::{AcmeDomain, CertificateOrigin, NetSettings};
use crate::config::source;

pub(super) fn trust(file: &File, judge: &mut Judge<'_>) -> BTreeMap<String, Trust> {
    let mut out = BTreeMap::new();
    for (name, written) in &file.trust {
        let key = ["trust", name, "bundles"];
        if written.bundles.is_empty() {
            judge.refuse_by("CFG-10", &key, "expected at least one CA file");
            judge.broken.insert(("trust entry", name.clone()));
            continue;
        }
        let files: Option<Vec<Vec<u8>>> =
            written.bundles.iter().map(|bundle| judge.contents(&key, bundle)).collect();
        let Some(files) = files else {
            judge.broken.insert(("trust entry", name.clone()));
            continue;
        };
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        match Trust::import(&files, SystemTime::now()) {
            Ok((trust, report)) => {
                if !report.rejected.is_empty() || !report.notices.is_empty() {
                    judge.warn(&key, report.to_string());
                }
                match revocations(trust, name, &written.crls, judge) {
                    Some(trust) => drop(out.insert(name.clone(), trust)),
                    None => drop(judge.broken.insert(("trust entry", name.clone()))),
                }
            }
            Err(error) => {
                judge.refuse_by("CFG-10", &key, error.to_string());
                judge.broken.insert(("trust entry", name.clone()));
            }
        }
    }
    out
}

/// `crls` of one trust entry: whoever is on one of them is refused from the next handshake on.
fn revocations(trust: Trust, name: &str, crls: &[String], judge: &mut Judge<'_>) -> Option<Trust> {
    if crls.is_empty() {
        return Some(trust);
    }
    let key = ["trust", name, "crls"];
    let lists: Vec<Vec<u8>> = crls.iter().map(|list| judge.contents(&key, list)).collect::<Option<_>>()?;
    let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
    match trust.with_revocations(&lists, SystemTime::now()) {
        Ok((trust, notices)) => {
            for notice in notices {
                judge.warn(&key, notice);
            }
            Some(trust)
        }
        Err(error) => {
            judge.refuse(&key, error.to_string());
            None
        }
    }
}

pub(super) fn certificates(
    file: &File,
    domains: &BTreeMap<String, AcmeDomain>,
    judge: &mut Judge<'_>,
) -> BTreeMap<String, CertificateOrigin> {
    let mut out = BTreeMap::new();
    for (name, written) in &file.certificates {
        match certificate(name, written, domains, judge) {
            Some(origin) => drop(out.insert(name.clone(), origin)),
            None => drop(judge.broken.insert(("certificate", name.clone()))),
        }
    }
    out
}

fn certificate(
    name: &str,
    written: &file::Certificate,
    domains: &BTreeMap<String, AcmeDomain>,
    judge: &mut Judge<'_>,
) -> Option<CertificateOrigin> {
    let key = ["certificates", name];
    if written.password_file.is_some() {
        judge.refuse(&["certificates", name, "password_file"], "keys under a password are not built yet");
    }
    if let Some(import) = &written.import {
        let requested = written.common_name.is_some() || written.acme.is_some() || written.key.is_some();
        if requested || !written.dns.is_empty() {
            judge.refuse(&key, "expected either import or a request (common_name, dns, key, acme), not both");
        }
        return imported(name, import, judge);
    }
    let Some(common_name) = written.common_name.clone().filter(|text| !text.is_empty()) else {
        judge.refuse(&key, "expected import = \"file\", or common_name for a certificate made here");
        return None;
    };
    let kinds = [("rsa-2048", KeyKind::Rsa2048), ("ecdsa-p256", KeyKind::EcdsaP256)];
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
        Some(domain) => {
            Some(judge.named(&["certificates", name, "acme"], domain, "ACME domain", domains)?.clone())
        }
        None => None,
    };
    Some(CertificateOrigin::Requested { common_name, dns, key: kind, acme })
}

/// Every ACME domain, used or not.
pub(super) fn domains(
    file: &File,
    trust: &BTreeMap<String, Trust>,
    judge: &mut Judge<'_>,
) -> BTreeMap<String, AcmeDomain> {
    let mut out = BTreeMap::new();
    for name in file.acme.domains.keys() {
        match domain(name, file, trust, judge) {
            Some(domain) => drop(out.insert(name.clone(), domain)),
            None => drop(judge.broken.insert(("ACME domain", name.clone()))),
        }
    }
    out
}

fn domain(
    name: &str,
    file: &File,
    trust: &BTreeMap<String, Trust>,
    judge: &mut Judge<'_>,
) -> Option<AcmeDomain> {
    let key = |part: &'static str| ["acme", "domains", name, part];
    let written = file.acme.domains.get(name)?;
    let service = judge.named(&key("service"), &written.service, "ACME service", &file.acme.services);
    let account = judge.named(&key("account"), &written.account, "ACME account", &file.acme.accounts);
    let percent = judge.number::<u8>(&key("renewal_interval"), written.renewal_interval, (10, 90));
    let (service, account) = (service?, account?);
    let contact = contacts(&written.account, account, judge);
    let roots = roots(&written.service, service, trust, judge);
    let directory = directory(&written.service, service, judge);
    Some(AcmeDomain {
        directory: directory?,
        roots: roots?,
        contact,
        account: written.account.clone(),
        renewal: Policy::new(percent?).ok()?,
    })
}

/// Where port 80 answers: challenges while an order runs, 404 at all times (TUN-18).
pub(super) fn challenges(
    file: &File,
    net: Option<&NetSettings>,
    judge: &mut Judge<'_>,
) -> BTreeSet<SocketAddr> {
    let mut out = BTreeSet::new();
    for (name, written) in &file.acme.domains {
        let interfaces = [("inside", net.map(|net| &net.inside)), ("outside", net.map(|net| &net.outside))];
        let interface =
            judge.one_of(&["acme", "domains", name, "challenge"], &written.challenge, &interfaces);
        let port = judge.number::<u16>(
            &["acme", "domains", name, "challenge_port"],
            written.challenge_port,
            (1, 65535),
        );
        let (Some(Some(interface)), Some(port)) = (interface, port) else { continue };
        out.extend(interface.addresses.iter().map(|address| SocketAddr::new(*address, port)));
    }
    out
}

fn imported(name: &str, import: &str, judge: &mut Judge<'_>) -> Option<CertificateOrigin> {
    let key = ["certificates", name, "import"];
    let content = judge.contents(&key, import)?;
    match import::credential(&[&content], SystemTime::now()) {
        Ok(imported) => {
            for notice in &imported.notices {
                judge.warn(&key, described(notice));
            }
            Some(CertificateOrigin::Imported(Box::new(imported.credential)))
        }
        Err(error) => {
            judge.refuse_by("CFG-11", &key, error.to_string());
            None
        }
    }
}

fn described(notice: &Notice) -> String {
    match notice {
        Notice::Unused { subject } => format!("\"{subject}\" is not part of the chain and is left out"),
        Notice::EndsBefore { issuer } => {
            format!("the chain ends before \"{issuer}\": peers must know that issuer")
        }
        Notice::NotYetValid { .. } => "the certificate is not valid yet".to_owned(),
        other => format!("{other:?}"),
    }
}

fn contacts(name: &str, account: &file::AcmeAccount, judge: &mut Judge<'_>) -> Vec<String> {
    let key = ["acme", "accounts", name, "contact"];
    let mut out = Vec::new();
    for contact in &account.contact {
        match authority::contact(contact) {
            Ok(url) => out.push(url),
            Err(error) => judge.refuse(&key, format!("{error}: expected \"mailto:user@example.com\"")),
        }
    }
    out
}

fn roots(
    name: &str,
    service: &file::AcmeService,
    trust: &BTreeMap<String, Trust>,
    judge: &mut Judge<'_>,
) -> Option<Roots> {
    let Some(entry) = &service.trusted_ca else { return Some(Roots::System) };
    let key = ["acme", "services", name, "trusted_ca"];
    judge.named(&key, entry, "trust entry", trust).map(|trust| Roots::Bundle(trust.clone()))
}

/// `https://host/path` of the ACME directory (CERT-10).
fn directory(name: &str, service: &file::AcmeService, judge: &mut Judge<'_>) -> Option<Directory> {
    match Directory::new(&service.host, &service.directory) {
        Ok(directory) => Some(directory),
        Err(error) => {
            judge.refuse(&["acme", "services", name, "host"], error.to_string());
            None
        }
    }
}

impl Judge<'_> {
    /// The bytes of a file, whose name is relative to the configuration.
    pub(super) fn contents(&mut self, key: &[&str], name: &str) -> Option<Vec<u8>> {
        let path = self.base.join(name);
        match source::read(&path, source::CERTIFICATES) {
            Ok(contents) => Some(contents),
            Err(error) => {
                self.refuse(key, format!("the file \"{}\" can't be read: {error}", path.display()));
                None
            }
        }
    }
}
