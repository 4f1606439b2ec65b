//! The configuration file as it is written: one struct a table, every key spelled as in the
//! contract (`farend.example.toml`), nothing judged yet.
//!
//! An unknown key, a wrong type or a missing key is refused here; what the values mean is judged by
//! [`super::check`].

use std::collections::BTreeMap;

use serde::Deserialize;

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
pub(crate) struct Sip {
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
    #[serde(default)]
    pub(crate) shards: i64,
    pub(crate) inside_networks: String,
    #[serde(default = "uri_encoding")]
    pub(crate) uri_encoding: String,
    #[serde(default = "user_matching")]
    pub(crate) user_matching: String,
    #[serde(default = "preloaded_routes")]
    pub(crate) preloaded_routes: String,
    #[serde(default = "default_policy")]
    pub(crate) default_policy: String,
    #[serde(default = "invite_timeout_default")]
    pub(crate) invite_timeout_default: i64,
    #[serde(default = "invite_timeout_max")]
    pub(crate) invite_timeout_max: i64,
    #[serde(default = "t1")]
    pub(crate) t1: f64,
    #[serde(default = "invite_retrans")]
    pub(crate) invite_retrans: i64,
    #[serde(default = "other_retrans")]
    pub(crate) other_retrans: i64,
    #[serde(default = "max_forwards")]
    pub(crate) max_forwards: i64,
    #[serde(default = "max_message")]
    pub(crate) max_message: i64,
    pub(crate) inside: SipInside,
    #[serde(default)]
    pub(crate) servers: Vec<SipServer>,
    #[serde(default)]
    pub(crate) tag_routing: TagRouting,
    #[serde(default)]
    pub(crate) interop: toml::Table,
}

fn uri_encoding() -> String {
    "always-encrypt".to_owned()
}

fn user_matching() -> String {
    "username-and-domain".to_owned()
}

fn preloaded_routes() -> String {
    "reject".to_owned()
}

fn default_policy() -> String {
    "process-all".to_owned()
}

fn invite_timeout_default() -> i64 {
    180
}

fn invite_timeout_max() -> i64 {
    300
}

fn t1() -> f64 {
    0.5
}

fn invite_retrans() -> i64 {
    6
}

fn other_retrans() -> i64 {
    10
}

fn max_forwards() -> i64 {
    70
}

fn max_message() -> i64 {
    131_072
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub(crate) name: String,
    #[serde(default = "yes")]
    pub(crate) active: bool,
    pub(crate) interface: String,
    pub(crate) port: i64,
    pub(crate) transport: String,
    #[serde(default = "yes")]
    pub(crate) intercept: bool,
    pub(crate) allow_from: Option<String>,
    pub(crate) certificate: Option<String>,
    #[serde(default)]
    pub(crate) require_client_cert: bool,
    pub(crate) trust: Option<String>,
    #[serde(default)]
    pub(crate) trust_source: bool,
    #[serde(default = "tls_versions")]
    pub(crate) tls: String,
    #[serde(default)]
    #[expect(dead_code, reason = "a remark for people; it changes nothing")]
    pub(crate) comment: Option<String>,
}

fn yes() -> bool {
    true
}

/// What a listener offers when nothing is written.
pub(crate) const TLS_VERSIONS: &str = "1.2+";

fn tls_versions() -> String {
    TLS_VERSIONS.to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SipInside {
    pub(crate) transport: String,
    pub(crate) port: i64,
    pub(crate) certificate: Option<String>,
    pub(crate) trust: Option<String>,
    #[serde(default = "verify_chain")]
    pub(crate) verify: String,
    #[serde(default = "per_phone")]
    pub(crate) connections: String,
}

/// How switches are verified when nothing is written.
pub(crate) const VERIFY_CHAIN: &str = "chain";

fn verify_chain() -> String {
    VERIFY_CHAIN.to_owned()
}

fn per_phone() -> String {
    "per-phone".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SipServer {
    pub(crate) name: String,
    #[serde(default, rename = "match")]
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TagRouting {
    #[serde(default)]
    pub(crate) enabled: bool,
    #[serde(default = "head")]
    pub(crate) head: String,
    #[serde(default = "tail")]
    pub(crate) tail: String,
    #[serde(default = "tag_cert_binding")]
    pub(crate) tag_cert_binding: String,
}

impl Default for TagRouting {
    fn default() -> Self {
        Self { enabled: false, head: head(), tail: tail(), tag_cert_binding: tag_cert_binding() }
    }
}

fn head() -> String {
    "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-".to_owned()
}

fn tail() -> String {
    ">".to_owned()
}

fn tag_cert_binding() -> String {
    "log".to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    pub(crate) auth: Option<toml::Table>,
    #[serde(default)]
    pub(crate) limits: toml::Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Monitor {
    #[serde(default)]
    pub(crate) sip: Vec<toml::Table>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Media {
    #[serde(default)]
    pub(crate) process: bool,
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
}

impl Default for Media {
    fn default() -> Self {
        Self {
            process: false,
            workers: 0,
            port_range: port_range(),
            ttl: keep(),
            source: source(),
            sender_limit: sender_limit(),
            max_senders: max_senders(),
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fent {
    #[serde(default = "media_route")]
    pub(crate) media_route: String,
    #[serde(default = "keep_alive")]
    pub(crate) keep_alive: String,
}

impl Default for Fent {
    fn default() -> Self {
        Self { media_route: media_route(), keep_alive: keep_alive() }
    }
}

fn media_route() -> String {
    "gateway".to_owned()
}

fn keep_alive() -> String {
    "off".to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    #[serde(default)]
    pub(crate) files: BTreeMap<String, HttpFile>,
    #[serde(default)]
    pub(crate) file_groups: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) local_endpoints: BTreeMap<String, LocalEndpoint>,
    #[serde(default)]
    pub(crate) server_groups: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) remote_endpoints: BTreeMap<String, RemoteEndpoint>,
    #[serde(default)]
    pub(crate) repositories: BTreeMap<String, Repository>,
    #[serde(default)]
    pub(crate) tunnels: BTreeMap<String, Tunnel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpFile {
    pub(crate) path: String,
    pub(crate) content: Option<String>,
    pub(crate) source: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalEndpoint {
    pub(crate) interface: String,
    pub(crate) port: i64,
    pub(crate) protocol: String,
    pub(crate) certificate: Option<String>,
    #[serde(default)]
    pub(crate) require_client_cert: bool,
    pub(crate) trust: Option<String>,
    pub(crate) allow_from: Option<String>,
    #[serde(default = "tls_versions")]
    pub(crate) tls: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoteEndpoint {
    pub(crate) group: String,
    pub(crate) protocol: String,
    pub(crate) verify: Option<String>,
    pub(crate) server_name: Option<String>,
    pub(crate) certificate: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repository {
    pub(crate) endpoint: String,
    pub(crate) files: Option<String>,
    pub(crate) remote: Option<String>,
    #[serde(default = "methods")]
    pub(crate) methods: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tunnel {
    pub(crate) endpoint: String,
    pub(crate) allow_to: String,
    #[serde(default)]
    pub(crate) ports: Vec<toml::Value>,
    #[serde(default = "methods")]
    pub(crate) methods: String,
}

fn methods() -> String {
    "DEFAULT".to_owned()
}
