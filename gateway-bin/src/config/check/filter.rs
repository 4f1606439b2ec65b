//! Which requests are served: the rule tables of `[sip]`, each in the order of its numbers.

use std::collections::BTreeSet;

use sip_core::edge::config::{Policy, PreloadedRoutes};
use sip_core::edge::filter::{Filters, Glob, HeaderFilter, PHONE_CONTENT_TYPES, PreloadedRule, SenderRule};
use sip_core::edge::manipulate::{HeaderAction, HeaderRule, HeaderRuleError};

use super::{Judge, Names, interop};
use crate::config::file;

/// What stands for the content types that phones send, in `sip.content_types`.
const PHONES: &str = "@phones";
/// Methods without which a call can't be made or ended.
const CALL: &[&str] = &["INVITE", "ACK", "BYE", "CANCEL"];

pub(super) fn filters(sip: &file::Sip, names: &Names<'_>, judge: &mut Judge<'_>) -> Filters {
    let mut filters = Filters::default();
    filters.senders = senders(sip, names, judge);
    filters.preloaded_routes = preloaded(sip, names, judge);
    filters.headers = headers(sip, judge);
    filters.content_types = content_types(sip, judge);
    filters.methods = methods(sip, judge);
    filters.header_rules = header_rules(sip, names, judge);
    filters
}

/// CFG-07: whoever is served by default.
pub(super) fn default_policy(sip: &file::Sip, judge: &mut Judge<'_>) -> Option<Policy> {
    let key = ["sip", "default_policy"];
    let policy = judge.one_of(&key, &sip.default_policy, POLICIES)?;
    match policy {
        Policy::RejectAll => {
            judge.refuse_by("CFG-07", &key, "no phone would be served: expected process-all or local-only");
            return None;
        }
        Policy::LocalOnly => {
            judge.warn(&key, "requests that name a place not served here are answered 403 [CFG-07]");
        }
        Policy::ProcessAll => {}
    }
    Some(policy)
}

pub(super) fn preloaded_routes(sip: &file::Sip, judge: &mut Judge<'_>) -> Option<PreloadedRoutes> {
    route_action(&["sip", "preloaded_routes"], &sip.preloaded_routes, judge)
}

const POLICIES: &[(&str, Policy)] = &[
    ("process-all", Policy::ProcessAll),
    ("local-only", Policy::LocalOnly),
    ("reject-all", Policy::RejectAll),
];

fn route_action(key: &[&str], text: &str, judge: &mut Judge<'_>) -> Option<PreloadedRoutes> {
    let choices = [
        ("reject", PreloadedRoutes::Reject),
        ("remove", PreloadedRoutes::Remove),
        ("allow", PreloadedRoutes::Allow),
        ("authenticate", PreloadedRoutes::Authenticate),
    ];
    judge.one_of(key, text, &choices)
}

/// The rows of a table in the order of their numbers; a number stands once.
fn ordered<'r, R>(
    table: &'static str,
    rows: &'r [R],
    number: impl Fn(&R) -> i64,
    judge: &mut Judge<'_>,
) -> Vec<(String, &'r R)> {
    let mut seen = BTreeSet::new();
    let mut ordered: Vec<(String, &R)> =
        rows.iter().enumerate().map(|(at, row)| (at.to_string(), row)).collect();
    for (at, row) in &ordered {
        if !seen.insert(number(row)) {
            let message = format!("a second row has the number {}", number(row));
            judge.refuse_by("CFG-04", &["sip", table, at, "number"], message);
        }
    }
    ordered.sort_by_key(|(_, row)| number(row));
    ordered
}

fn senders(sip: &file::Sip, names: &Names<'_>, judge: &mut Judge<'_>) -> Vec<SenderRule> {
    let mut out = Vec::new();
    for (at, row) in ordered("filter", &sip.filter, |row| row.number, judge) {
        let from = judge.named(&["sip", "filter", &at, "from"], &row.from, "network", names.networks);
        let policy = judge.one_of(&["sip", "filter", &at, "action"], &row.action, POLICIES);
        if let (Some(from), Some(policy)) = (from, policy) {
            out.push(SenderRule { from: from.iter().copied().collect(), policy });
        }
    }
    out
}

fn preloaded(sip: &file::Sip, names: &Names<'_>, judge: &mut Judge<'_>) -> Vec<PreloadedRule> {
    const TABLE: &str = "preloaded_route_rules";
    let mut out = Vec::new();
    for (at, row) in ordered(TABLE, &sip.preloaded_route_rules, |row| row.number, judge) {
        let from = judge.named(&["sip", TABLE, &at, "from"], &row.from, "network", names.networks);
        let action = route_action(&["sip", TABLE, &at, "action"], &row.action, judge);
        if let (Some(from), Some(action)) = (from, action) {
            out.push(PreloadedRule { from: from.iter().copied().collect(), action });
        }
    }
    out
}

fn glob(key: &[&str], text: &str, judge: &mut Judge<'_>) -> Option<Glob> {
    match Glob::new(text) {
        Ok(glob) => Some(glob),
        Err(error) => {
            judge.refuse(key, error.to_string());
            None
        }
    }
}

fn headers(sip: &file::Sip, judge: &mut Judge<'_>) -> Vec<HeaderFilter> {
    const TABLE: &str = "header_filters";
    let mut out = Vec::new();
    for (at, row) in ordered(TABLE, &sip.header_filters, |row| row.number, judge) {
        let from = glob(&["sip", TABLE, &at, "from"], &row.from, judge);
        let to = glob(&["sip", TABLE, &at, "to"], &row.to, judge);
        let actions = [("allow", true), ("reject", false)];
        let allow = judge.one_of(&["sip", TABLE, &at, "action"], &row.action, &actions);
        if let (Some(from), Some(to), Some(allow)) = (from, to, allow) {
            out.push(HeaderFilter { from, to, allow });
        }
    }
    out
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

fn content_types(sip: &file::Sip, judge: &mut Judge<'_>) -> Vec<String> {
    let key = ["sip", "content_types"];
    let mut out = Vec::new();
    for text in &sip.content_types {
        match text.split_once('/') {
            _ if text == PHONES => out.extend(PHONE_CONTENT_TYPES.iter().map(|name| (*name).to_owned())),
            Some((kind, subtype)) if is_token(kind) && kind != "*" && is_token(subtype) => {
                out.push(text.to_lowercase());
            }
            _ => judge.refuse(
                &key,
                format!("\"{text}\" is no content type: expected type/subtype, type/* or \"{PHONES}\""),
            ),
        }
    }
    if !out.is_empty() && !out.iter().any(|name| name == "application/sdp" || name == "application/*") {
        judge.warn(&key, "calls are answered 415, since application/sdp is not listed");
    }
    out
}

fn methods(sip: &file::Sip, judge: &mut Judge<'_>) -> Vec<String> {
    let key = ["sip", "methods"];
    for text in &sip.methods {
        // RFC 3261 §7.1: methods are compared with regard to case.
        if !is_token(text) || text.bytes().any(|b| b.is_ascii_lowercase()) {
            judge.refuse(&key, format!("\"{text}\" is no method: expected a token in capitals"));
        }
    }
    let has = |name: &str| sip.methods.iter().any(|method| method == name);
    if has("INVITE")
        && let Some(missing) = CALL.iter().find(|name| !has(name))
    {
        judge.refuse(&key, format!("calls need {missing} too: expected all of {}", CALL.join(", ")));
    }
    if !sip.methods.is_empty() && !has("REGISTER") {
        judge.warn(&key, "no phone can register, since REGISTER is not listed");
    }
    sip.methods.clone()
}

fn header_rules(sip: &file::Sip, names: &Names<'_>, judge: &mut Judge<'_>) -> Vec<HeaderRule> {
    const TABLE: &str = "header_rules";
    let mut out = Vec::new();
    for (at, row) in ordered(TABLE, &sip.header_rules, |row| row.number, judge) {
        let key = |name: &'static str| ["sip", TABLE, &at, name];
        let directions = [("requests", (true, false)), ("responses", (false, true)), ("all", (true, true))];
        let messages = judge.one_of(&key("messages"), &row.messages, &directions);
        let towards =
            row.towards.as_ref().map(|value| interop::peers(&key("towards"), value, sip, names, judge));
        let when = match &row.when_header {
            Some(name) => glob(&key("when_value"), &row.when_value, judge).map(|glob| (name.clone(), glob)),
            None => None,
        };
        let action = action(&key("value"), &key("action"), row, judge);
        let (Some((requests, responses)), Some(action)) = (messages, action) else { continue };
        let header = row.header.clone();
        let rule = HeaderRule { towards, requests, responses, when, header, action };
        match rule.judge() {
            Ok(()) => out.push(rule),
            Err(error) => {
                let part = if error == HeaderRuleError::Value { "value" } else { "header" };
                judge.refuse(&key(part), format!("\"{}\": {error}", row.header));
            }
        }
    }
    out
}

fn action(
    value: &[&str],
    action: &[&str],
    row: &file::HeaderRule,
    judge: &mut Judge<'_>,
) -> Option<HeaderAction> {
    let choices = [("set", 0), ("add", 1), ("remove", 2)];
    match (judge.one_of(action, &row.action, &choices)?, &row.value) {
        (0, Some(text)) => Some(HeaderAction::Set(text.clone())),
        (1, Some(text)) => Some(HeaderAction::Add(text.clone())),
        (2, None) => Some(HeaderAction::Remove),
        (2, Some(_)) => {
            judge.refuse(value, "nothing is written when a header is removed: leave the key out");
            None
        }
        _ => {
            judge.refuse(value, "expected the text to write");
            None
        }
    }
}
