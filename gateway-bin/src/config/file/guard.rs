//! `[guard]`, `[monitor]` and `[fent]` as they are written.

use serde::Deserialize;

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
