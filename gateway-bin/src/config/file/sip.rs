//! `[sip]` and its tables as they are written.

use serde::Deserialize;

use super::{HeaderFilter, HeaderRule, SenderRule, tls_versions, yes};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sip {
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
    #[serde(default)]
    pub(crate) shards: i64,
    #[serde(default = "dscp")]
    pub(crate) dscp: i64,
    pub(crate) inside_networks: String,
    #[serde(default = "uri_encoding")]
    pub(crate) uri_encoding: String,
    #[serde(default)]
    pub(crate) uri_encoding_use_registration: bool,
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
    #[serde(default = "session_timer")]
    pub(crate) session_timer: i64,
    #[serde(default = "stream_idle")]
    pub(crate) stream_idle: i64,
    pub(crate) max_sessions: Option<i64>,
    #[serde(default)]
    pub(crate) emergency_numbers: Vec<String>,
    #[serde(default = "class_3xx")]
    pub(crate) class_3xx: String,
    #[serde(default = "blacklist")]
    pub(crate) blacklist: i64,
    pub(crate) inside: SipInside,
    #[serde(default)]
    pub(crate) servers: Vec<SipServer>,
    #[serde(default)]
    pub(crate) tag_routing: TagRouting,
    #[serde(default)]
    pub(crate) users: Vec<User>,
    #[serde(default)]
    pub(crate) filter: Vec<SenderRule>,
    #[serde(default)]
    pub(crate) preloaded_route_rules: Vec<SenderRule>,
    #[serde(default)]
    pub(crate) header_filters: Vec<HeaderFilter>,
    #[serde(default)]
    pub(crate) content_types: Vec<String>,
    #[serde(default)]
    pub(crate) methods: Vec<String>,
    #[serde(default)]
    pub(crate) header_rules: Vec<HeaderRule>,
    #[serde(default)]
    pub(crate) interop: toml::Table,
    #[serde(default)]
    pub(crate) auth: toml::Table,
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

fn dscp() -> i64 {
    24
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

fn session_timer() -> i64 {
    14_400
}

fn stream_idle() -> i64 {
    90
}

fn class_3xx() -> String {
    "forward".to_owned()
}

fn blacklist() -> i64 {
    41
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
    #[serde(default)]
    pub(crate) use_cn_fqdn: bool,
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
    #[serde(default = "key_rotation")]
    pub(crate) key_rotation: String,
}

impl Default for TagRouting {
    fn default() -> Self {
        Self {
            enabled: false,
            head: head(),
            tail: tail(),
            tag_cert_binding: tag_cert_binding(),
            key_rotation: key_rotation(),
        }
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

fn key_rotation() -> String {
    "90d".to_owned()
}

/// One of `[[sip.users]]`: nothing here is the password itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password_file: Option<String>,
    pub(crate) ha1: Option<Hidden>,
    pub(crate) algorithm: Option<String>,
}

/// As good as a password: not to be shown.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(pub(crate) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}
