//! The HQ server's files and the CAS stub.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::registrar::Records;
use crate::http::Request;
use crate::mac::Mac;
use crate::phone::boot::TRUST_FILE;

/// Status, content type, body.
pub(super) type Answer = (u16, &'static str, Vec<u8>);

/// What the HQ server offers.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) hq_ca: String,
    pub(super) firmware: Vec<u8>,
    /// Lines for a phone's settings: which switch, which CAS.
    pub(super) settings: Vec<String>,
}

const FIRMWARE: &str = "/firmware/6940-6.2.0.29.st";

impl Files {
    /// Over HTTPS: everything.
    pub(super) fn https(&self, request: &Request) -> Answer {
        match request.target.as_str() {
            "/version.txt" => {
                let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(&self.firmware));
                text(format!("version: 6.2.0.29\nfile: {FIRMWARE}\nsha256: {sum}\n"))
            }
            FIRMWARE => (200, "application/octet-stream", self.firmware.clone()),
            path => {
                match path.strip_prefix("/fileserver/phoneconfig/").and_then(|p| p.strip_suffix(".cfg")) {
                    Some(mac) => mac.parse().map_or_else(|_| missing(), |mac| self.settings_of(mac)),
                    None => self.http(request),
                }
            }
        }
    }

    /// Over clear HTTP: the trust file only.
    pub(super) fn http(&self, request: &Request) -> Answer {
        match request.target.as_str() {
            TRUST_FILE => (200, "application/x-pem-file", self.hq_ca.clone().into_bytes()),
            _ => missing(),
        }
    }

    /// Phones are spread over the switches by the last octet of their MAC.
    fn settings_of(&self, mac: Mac) -> Answer {
        let [.., last] = mac.0;
        match self.settings.get(usize::from(last) % self.settings.len().max(1)) {
            Some(settings) => text(settings.clone()),
            None => missing(),
        }
    }
}

/// The CAS: says hello, and assigns an extension to the phone that asks. A phone may only speak for itself.
pub(super) fn cas(request: &Request, client: Option<Mac>, records: &Arc<watch::Sender<Records>>) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let field = |name: &str| {
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v)
    };
    let Some(mac) = field("mac").and_then(|text| text.parse::<Mac>().ok()) else { return missing() };
    if client != Some(mac) {
        return (403, "application/json", b"{\"error\":\"the certificate names another phone\"}\n".to_vec());
    }
    match (path, field("extension")) {
        ("/cas/hello", _) => {
            let known = records.borrow().extensions.iter().find(|(_, m)| **m == mac).map(|(e, _)| e.clone());
            json(format!("{{\"mac\":\"{mac}\",\"extension\":\"{}\"}}\n", known.unwrap_or_default()))
        }
        ("/cas/assign", Some(extension)) if is_extension(extension) => {
            records.send_modify(|records| {
                records.extensions.retain(|_, owner| *owner != mac);
                records.extensions.insert(extension.to_owned(), mac);
            });
            json(format!("{{\"mac\":\"{mac}\",\"extension\":\"{extension}\"}}\n"))
        }
        _ => missing(),
    }
}

fn is_extension(text: &str) -> bool {
    (2..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn text(body: String) -> Answer {
    (200, "text/plain", body.into_bytes())
}

fn json(body: String) -> Answer {
    (200, "application/json", body.into_bytes())
}

fn missing() -> Answer {
    (404, "text/plain", b"not here\n".to_vec())
}
