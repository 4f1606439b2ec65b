//! `[http]` and its tables as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::tls_versions;

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
