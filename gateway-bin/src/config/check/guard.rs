//! `[guard]`: rates, ceilings, blocks.

use std::collections::BTreeMap;
use std::time::Duration;

use sip_core::edge::config::Limits;
use sip_core::edge::guard::{Auth, Ids, Rates, Settings};

use super::net::is_everybody;
use super::{Judge, Names, nearest};
use crate::config::file;
use crate::config::settings::{GuardSettings, TlsGuard};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn settings(
    guard: &file::Guard,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<GuardSettings> {
    let allow = allow(guard, names, judge);
    let mut rules = Settings::default();
    rules.auth = auth(&guard.auth, judge)?;
    rules.ids = ids(&guard.ids, judge)?;
    rules.allow = allow.iter().copied().collect();
    let mut out = GuardSettings {
        rules,
        limits: Limits::default(),
        transactions: 100_000,
        connections: 20_000,
        tls: TlsGuard { allow, ..TlsGuard::default() },
    };
    let wide = (1, 10_000_000);
    {
        let Rates { messages, invites, phones } = &mut out.rules.rates;
        let limits = &mut out.limits;
        let mut table = Table { key: "limits", written: &guard.limits, known: Vec::new(), judge };
        table.number("messages_per_second", wide, &mut messages.per_second);
        table.number("messages_burst", wide, &mut messages.burst);
        table.number("invites_per_second", wide, &mut invites.per_second);
        table.number("invites_burst", wide, &mut invites.burst);
        table.number("phones_per_address", (1, 100_000), phones);
        table.number("bindings_per_address", wide, &mut limits.bindings_per_address);
        table.number("flows_per_address", wide, &mut limits.flows_per_address);
        table.number("dialogs_per_address", wide, &mut limits.dialogs_per_address);
        table.number("bindings", wide, &mut limits.bindings);
        table.number("bindings_per_certificate", wide, &mut limits.bindings_per_certificate);
        table.number("flows_per_certificate", wide, &mut limits.flows_per_certificate);
        table.number("contexts", wide, &mut limits.contexts);
        table.number("dialogs", wide, &mut limits.dialogs);
        table.number("dialogs_per_certificate", wide, &mut limits.dialogs_per_certificate);
        table.number("breadth", (1, 60), &mut limits.breadth);
        table.number("lookups", wide, &mut limits.lookups);
        table.number("transactions", wide, &mut out.transactions);
        table.number("connections", wide, &mut out.connections);
        table.no_other();
    }
    let mut table = Table { key: "tls", written: &guard.tls, known: Vec::new(), judge };
    table.number("handshakes", (1, 100_000), &mut out.tls.handshakes);
    table.number("failures", wide, &mut out.tls.failures);
    table.number("connections", wide, &mut out.tls.connections);
    table.no_other();
    Some(out)
}

/// SEC-05: networks by name. All addresses at once is no exception but the end of the guard.
fn allow(guard: &file::Guard, names: &Names<'_>, judge: &mut Judge<'_>) -> Vec<ipnet::IpNet> {
    let mut out = Vec::new();
    for name in &guard.allow {
        let Some(nets) = judge.named(&["guard", "allow"], name, "network", names.networks) else { continue };
        if nets.iter().any(is_everybody) {
            let message = format!("\"{name}\" is everybody: nobody would be limited or blocked");
            judge.warn(&["guard", "allow"], message);
        }
        out.extend(nets.iter().copied());
    }
    out
}

fn auth(written: &file::GuardAuth, judge: &mut Judge<'_>) -> Option<Auth> {
    let mut auth = Auth::default();
    let key = |name: &'static str| ["guard", "auth", name];
    auth.enabled = written.enabled.unwrap_or(true);
    if let Some(failures) = written.failures {
        auth.failures = judge.number(&key("failures"), failures, (1, 100_000))?;
    }
    let second = Duration::from_secs(1);
    if let Some(text) = &written.window {
        auth.window = judge.duration(&key("window"), text, (second, DAY))?;
    }
    if let Some(text) = &written.block {
        auth.block = judge.duration(&key("block"), text, (second, DAY))?;
    }
    if let Some(text) = &written.block_max {
        auth.longest = judge.duration(&key("block_max"), text, (second, DAY * 365))?;
    }
    if auth.longest < auth.block {
        judge.refuse(&key("block_max"), "expected no less than block");
    }
    Some(auth)
}

fn ids(written: &file::GuardIds, judge: &mut Judge<'_>) -> Option<Ids> {
    let mut ids = Ids { enabled: written.enabled.unwrap_or(true), ..Ids::default() };
    let key = ["guard", "ids", "user_agents"];
    if let Some(texts) = &written.user_agents {
        if texts.len() > 1000 {
            judge.refuse(&key, "expected at most 1000 texts");
        }
        if let Some(short) = texts.iter().find(|text| text.trim().len() < 3 || text.len() > 256) {
            judge.refuse(&key, format!("\"{short}\": expected a literal text of 3 to 256 characters"));
        }
        ids.user_agents.clone_from(texts);
    }
    if let Some(offences) = written.offences {
        ids.offences = judge.number(&["guard", "ids", "offences"], offences, (2, 100_000))?;
    }
    Some(ids)
}

/// A table of numbers, each with a default.
struct Table<'a, 'j, 'l> {
    key: &'static str,
    written: &'a BTreeMap<String, i64>,
    known: Vec<&'static str>,
    judge: &'j mut Judge<'l>,
}

impl Table<'_, '_, '_> {
    fn number<T: TryFrom<i64> + Copy>(&mut self, name: &'static str, range: (i64, i64), to: &mut T) {
        self.known.push(name);
        if let Some(value) = self.written.get(name)
            && let Some(number) = self.judge.number(&["guard", self.key, name], *value, range)
        {
            *to = number;
        }
    }

    fn no_other(&mut self) {
        for name in self.written.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let near = nearest(name, self.known.iter().copied());
            let message = format!("unknown key: expected one of {}{near}", self.known.join(", "));
            self.judge.refuse(&["guard", self.key, name], message);
        }
    }
}
