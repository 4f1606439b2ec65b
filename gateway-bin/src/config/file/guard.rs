//! `[guard]`, `[monitor]` and `[fent]` as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    #[serde(default)]
    pub(crate) auth: GuardAuth,
    #[serde(default)]
    pub(crate) limits: BTreeMap<String, i64>,
    #[serde(default)]
    pub(crate) tls: BTreeMap<String, i64>,
    #[serde(default)]
    pub(crate) ids: GuardIds,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardAuth {
    pub(crate) enabled: Option<bool>,
    pub(crate) failures: Option<i64>,
    pub(crate) window: Option<String>,
    pub(crate) block: Option<String>,
    pub(crate) block_max: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardIds {
    pub(crate) enabled: Option<bool>,
    pub(crate) user_agents: Option<Vec<String>>,
    pub(crate) offences: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Monitor {
    #[serde(default)]
    pub(crate) sip: Vec<Monitored>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Monitored {
    pub(crate) server: String,
    #[serde(default = "monitored_port")]
    pub(crate) port: i64,
    #[serde(default = "monitored_transport")]
    pub(crate) transport: String,
}

fn monitored_port() -> i64 {
    5061
}

fn monitored_transport() -> String {
    "tls".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fent {
    #[serde(default = "media_route")]
    pub(crate) media_route: String,
    #[serde(default)]
    pub(crate) direct_nets_deny: Vec<String>,
    #[serde(default = "keep_alive")]
    pub(crate) keep_alive: String,
    #[serde(default = "keep_alive_stream")]
    pub(crate) keep_alive_stream: i64,
    #[serde(default = "keep_alive_udp")]
    pub(crate) keep_alive_udp: i64,
    #[serde(default, alias = "stun")]
    pub(crate) stun_keepalive: bool,
}

impl Default for Fent {
    fn default() -> Self {
        Self {
            media_route: media_route(),
            direct_nets_deny: Vec::new(),
            keep_alive: keep_alive(),
            keep_alive_stream: keep_alive_stream(),
            keep_alive_udp: keep_alive_udp(),
            stun_keepalive: false,
        }
    }
}

fn media_route() -> String {
    "gateway".to_owned()
}

fn keep_alive() -> String {
    "off".to_owned()
}

fn keep_alive_stream() -> i64 {
    45
}

fn keep_alive_udp() -> i64 {
    25
}
