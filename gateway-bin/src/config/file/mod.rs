//! The configuration file as it is written: one struct a table, every key spelled as in the
//! contract (`farend.example.toml`), nothing judged yet.
//!
//! An unknown key, a wrong type or a missing key is refused here; what the values mean is judged by
//! [`super::check`].

mod filter;
mod guard;
mod http;
mod sip;

use std::collections::BTreeMap;

use serde::Deserialize;

pub(crate) use filter::{HeaderFilter, HeaderRule, SenderRule};
pub(crate) use guard::{Fent, Guard, GuardAuth, GuardIds, Monitor};
pub(crate) use http::{Http, LocalEndpoint, RemoteEndpoint, Repository, Tunnel};
pub(crate) use sip::{Port, Sip, SipInside, TagRouting, User, VERIFY_CHAIN};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) state_dir: String,
    #[serde(default)]
    pub(crate) lab: bool,
    pub(crate) net: Net,
    #[serde(default)]
    pub(crate) acme: Acme,
    #[serde(default)]
    pub(crate) certificates: BTreeMap<String, Certificate>,
    #[serde(default)]
    pub(crate) trust: BTreeMap<String, Trust>,
    pub(crate) sip: Sip,
    #[serde(default)]
    pub(crate) guard: Guard,
    #[serde(default)]
    pub(crate) monitor: Monitor,
    #[serde(default)]
    pub(crate) log: Log,
    #[serde(default)]
    pub(crate) media: Media,
    #[serde(default)]
    pub(crate) sdp: toml::Table,
    #[serde(default)]
    pub(crate) b2bua: toml::Table,
    #[serde(default)]
    pub(crate) dialplan: toml::Table,
    #[serde(default)]
    pub(crate) fent: Fent,
    #[serde(default)]
    pub(crate) http: Http,
    #[serde(default)]
    pub(crate) admin: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Net {
    #[serde(default)]
    pub(crate) dns: Vec<String>,
    #[serde(default)]
    pub(crate) internal_domains: Vec<String>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    #[serde(default)]
    pub(crate) networks: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interface {
    pub(crate) addresses: Vec<String>,
    pub(crate) public_address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acme {
    #[serde(default)]
    pub(crate) accounts: BTreeMap<String, AcmeAccount>,
    #[serde(default)]
    pub(crate) services: BTreeMap<String, AcmeService>,
    #[serde(default)]
    pub(crate) domains: BTreeMap<String, AcmeDomain>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcmeAccount {
    pub(crate) contact: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcmeService {
    pub(crate) host: String,
    pub(crate) directory: String,
    pub(crate) trusted_ca: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcmeDomain {
    pub(crate) service: String,
    pub(crate) account: String,
    pub(crate) challenge: String,
    #[serde(default = "challenge_port")]
    pub(crate) challenge_port: i64,
    #[serde(default = "renewal_interval")]
    pub(crate) renewal_interval: i64,
}

fn challenge_port() -> i64 {
    80
}

fn renewal_interval() -> i64 {
    67
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) import: Option<String>,
    pub(crate) password_file: Option<String>,
    pub(crate) common_name: Option<String>,
    #[serde(default)]
    pub(crate) dns: Vec<String>,
    pub(crate) key: Option<String>,
    pub(crate) acme: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trust {
    pub(crate) bundles: Vec<String>,
    #[serde(default)]
    pub(crate) crls: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    #[serde(default = "yes")]
    pub(crate) hide_sensitive: bool,
    #[serde(default = "log_format")]
    pub(crate) format: String,
    #[serde(default = "log_level")]
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { hide_sensitive: true, format: log_format(), level: log_level() }
    }
}

fn log_format() -> String {
    "text".to_owned()
}

fn log_level() -> String {
    "info".to_owned()
}

/// What each side speaks (SDP-05).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Srtp {
    pub(crate) outside: String,
    pub(crate) inside: String,
}

impl Default for Srtp {
    fn default() -> Self {
        let pass = || "pass".to_owned();
        Self { outside: pass(), inside: pass() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Media {
    #[serde(default)]
    pub(crate) process: bool,
    pub(crate) socket: Option<String>,
    #[serde(default)]
    pub(crate) workers: i64,
    #[serde(default = "port_range")]
    pub(crate) port_range: [i64; 2],
    #[serde(default = "keep")]
    pub(crate) ttl: toml::Value,
    #[serde(default = "source")]
    pub(crate) source: String,
    #[serde(default = "sender_limit")]
    pub(crate) sender_limit: String,
    #[serde(default = "max_senders")]
    pub(crate) max_senders: i64,
    #[serde(default = "expedited")]
    pub(crate) dscp: i64,
    #[serde(default)]
    pub(crate) late_relatch: bool,
    #[serde(default)]
    pub(crate) early_rtp: bool,
    #[serde(default)]
    pub(crate) srtp: Srtp,
    pub(crate) always_relay: Option<toml::Value>,
    pub(crate) forked: Option<toml::Value>,
    #[serde(default)]
    pub(crate) teardown_on_timeout: bool,
    pub(crate) reuse_on_change: Option<toml::Value>,
    pub(crate) reuse_in_session: Option<toml::Value>,
    pub(crate) proxy: Option<toml::Value>,
    #[serde(default = "blank")]
    pub(crate) timeout_oneway: toml::Value,
    #[serde(default = "blank")]
    pub(crate) timeout_rtp: toml::Value,
    #[serde(default = "blank")]
    pub(crate) timeout_rtcp: toml::Value,
    pub(crate) reuse_time: Option<toml::Value>,
}

impl Media {
    /// The switches among the keys, as far as they are written.
    pub(crate) fn switches(&self) -> toml::Table {
        let written = [
            ("always_relay", &self.always_relay),
            ("forked", &self.forked),
            ("reuse_on_change", &self.reuse_on_change),
            ("reuse_in_session", &self.reuse_in_session),
            ("proxy", &self.proxy),
            ("reuse_time", &self.reuse_time),
        ];
        written.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            process: false,
            socket: None,
            workers: 0,
            port_range: port_range(),
            ttl: keep(),
            source: source(),
            sender_limit: sender_limit(),
            max_senders: max_senders(),
            dscp: expedited(),
            late_relatch: false,
            early_rtp: false,
            srtp: Srtp::default(),
            always_relay: None,
            forked: None,
            teardown_on_timeout: false,
            reuse_on_change: None,
            reuse_in_session: None,
            proxy: None,
            timeout_oneway: blank(),
            timeout_rtp: blank(),
            timeout_rtcp: blank(),
            reuse_time: None,
        }
    }
}

fn port_range() -> [i64; 2] {
    [16384, 32767]
}

fn keep() -> toml::Value {
    toml::Value::String("keep".to_owned())
}

fn source() -> String {
    "signalling-address".to_owned()
}

fn sender_limit() -> String {
    "lock".to_owned()
}

fn max_senders() -> i64 {
    10
}

fn expedited() -> i64 {
    46
}

fn blank() -> toml::Value {
    toml::Value::String(String::new())
}

fn yes() -> bool {
    true
}

/// What a listener offers when nothing is written.
pub(crate) const TLS_VERSIONS: &str = "1.2+";

fn tls_versions() -> String {
    TLS_VERSIONS.to_owned()
}
