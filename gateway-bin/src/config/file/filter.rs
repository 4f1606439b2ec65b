//! The rule tables of `[sip]` as they are written: senders, preloaded Routes, From and To, header rules.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SenderRule {
    pub(crate) number: i64,
    pub(crate) from: String,
    pub(crate) action: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderFilter {
    pub(crate) number: i64,
    #[serde(default = "any")]
    pub(crate) from: String,
    #[serde(default = "any")]
    pub(crate) to: String,
    pub(crate) action: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderRule {
    pub(crate) number: i64,
    pub(crate) towards: Option<toml::Value>,
    #[serde(default = "all")]
    pub(crate) messages: String,
    pub(crate) when_header: Option<String>,
    #[serde(default = "any")]
    pub(crate) when_value: String,
    pub(crate) action: String,
    pub(crate) header: String,
    pub(crate) value: Option<String>,
}

fn any() -> String {
    "*".to_owned()
}

fn all() -> String {
    "all".to_owned()
}
