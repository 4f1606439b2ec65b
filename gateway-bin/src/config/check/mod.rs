//! Judges a configuration: what is refused, and the settings that remain.

mod certificates;
mod fent;
mod filter;
mod guard;
mod http;
mod interop;
mod listeners;
mod media;
mod net;
mod route;
mod sessions;
mod sip;
mod startup;
mod switches;
#[cfg(test)]
mod tests;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use acme_store::trust::Trust;

use super::file::File;
use super::refusal::{Invalid, Lines, Refusal, spelled};
use super::settings::{LogSettings, Settings};
use crate::status::SOCKET;

/// Octets of the name of a Unix socket (unix(7)), without the one that ends it.
const MAX_SOCKET: usize = 107;

/// Parses `text` and judges it; `base` is the folder relative paths start from.
///
/// # Errors
/// [`Invalid`] with every refusal; the second value of a success are warnings.
pub fn read(text: &str, path: &Path, base: &Path) -> Result<(Settings, Vec<Refusal>), Invalid> {
    let invalid = |refusals| Invalid { path: path.to_owned(), refusals };
    let lines = Lines::new(text);
    let file: File = toml::from_str(text).map_err(|error| invalid(vec![unparsed(&error, &lines)]))?;
    let mut judge = Judge {
        lines,
        base: base.to_owned(),
        refusals: Vec::new(),
        warnings: Vec::new(),
        broken: BTreeSet::new(),
    };
    let settings = settings(&file, &mut judge);
    // In the order of the file; what is missing altogether stands last.
    for found in [&mut judge.refusals, &mut judge.warnings] {
        found.sort_by_key(|refusal| refusal.line.unwrap_or(usize::MAX));
    }
    match settings {
        Some(settings) if judge.refusals.is_empty() => Ok((settings, judge.warnings)),
        _ => Err(invalid(judge.refusals)),
    }
}

fn settings(file: &File, judge: &mut Judge<'_>) -> Option<Settings> {
    let state_dir = state_dir(&file.state_dir, judge);
    let networks = net::networks(&file.net, judge);
    let net = net::settings(&file.net, judge);
    let trust = certificates::trust(file, judge);
    let domains = certificates::domains(file, &trust, judge);
    let challenges = certificates::challenges(file, net.as_ref(), judge);
    let certificates = certificates::certificates(file, &domains, judge);
    let names = Names { networks: &networks, trust: &trust, certificates: &certificates };
    let mut sip = sip::settings(file, net.as_ref(), &names, judge);
    let guard = guard::settings(&file.guard, &names, judge);
    let mut media = media::settings(&file.media, &state_dir, judge);
    let route = route::settings(&file.media, &file.fent, &names, judge);
    if let (Some(media), Some(route)) = (&mut media, &route) {
        media.route = route.clone();
    }
    if let (Some(sip), Some(media)) = (&mut sip, &media) {
        media.tell(&mut sip.interop.media);
    }
    let endpoints = http::endpoints(&file.http, net.as_ref(), &names, judge);
    let log = log(file, judge);
    not_built(file, judge);
    let settings = Settings {
        state_dir,
        lab: file.lab,
        net: net?,
        certificates,
        challenges,
        trust,
        sip: sip?,
        guard: guard?,
        media: route.and(media)?,
        endpoints,
        log,
    };
    listeners::judge(&settings, judge);
    // Judged by networks and tunnels: what those lack is said once, there.
    if !judge.refused("net.") {
        startup::judge(&settings, &file.http, judge);
    }
    resolvable(file, judge);
    Some(settings)
}

/// The folder of state. The status channel's socket is in it, and the kernel takes no longer name than that of [`MAX_SOCKET`].
fn state_dir(written: &str, judge: &mut Judge<'_>) -> PathBuf {
    let folder = judge.base.join(written);
    let most = MAX_SOCKET - 1 - SOCKET.len();
    let octets = folder.as_os_str().len();
    if written.is_empty() {
        judge.refuse(&["state_dir"], "a folder for certificates and keys is needed");
    } else if octets > most {
        let folder = folder.display();
        let why = format!(
            "{folder} has {octets} octets, and {SOCKET} in it more than the kernel takes of a socket: expected {most} at most"
        );
        judge.refuse(&["state_dir"], why);
    }
    folder
}

/// Whole tables that later issues build: they pass when absent or empty.
fn not_built(file: &File, judge: &mut Judge<'_>) {
    if file.admin.is_some() {
        judge.refuse(&["admin"], "the administration is not built yet: leave the table out");
    }
}

/// NET-08: names need somebody to ask.
fn resolvable(file: &File, judge: &mut Judge<'_>) {
    if !file.net.dns.is_empty() {
        return;
    }
    let is_name = |host: &str| host.parse::<std::net::IpAddr>().is_err();
    for (name, servers) in &file.http.server_groups {
        let named =
            servers.iter().filter_map(|server| http::split_host_port(server)).find(|(host, _)| is_name(host));
        if let Some((host, _)) = named {
            let message = format!("\"{host}\" is a name and net.dns is empty: expected a name server");
            judge.refuse_by("NET-08", &["http", "server_groups", name], message);
        }
    }
    for (name, service) in &file.acme.services {
        let host =
            http::split_host_port(&service.host).map_or_else(|| service.host.clone(), |(host, _)| host);
        if is_name(&host) {
            let message = format!("\"{host}\" is a name and net.dns is empty: expected a name server");
            judge.refuse_by("NET-08", &["acme", "services", name, "host"], message);
        }
    }
}

fn log(file: &File, judge: &mut Judge<'_>) -> LogSettings {
    if !file.log.hide_sensitive {
        judge.refuse(
            &["log", "hide_sensitive"],
            "expected true: nothing sensitive is ever logged, and a log that shows it is not built",
        );
    }
    let json = judge.one_of(&["log", "format"], &file.log.format, &[("text", false), ("json", true)]);
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let level = judge.one_of(&["log", "level"], &file.log.level, &levels);
    LogSettings { json: json.unwrap_or(false), level: level.unwrap_or("info").to_owned() }
}

/// What other tables may refer to.
struct Names<'a> {
    networks: &'a BTreeMap<String, Vec<ipnet::IpNet>>,
    trust: &'a BTreeMap<String, Trust>,
    certificates: &'a BTreeMap<String, super::settings::CertificateOrigin>,
}

/// Collects refusals and warnings, each with its line.
struct Judge<'a> {
    lines: Lines<'a>,
    base: PathBuf,
    refusals: Vec<Refusal>,
    warnings: Vec<Refusal>,
    /// What is written but was refused, as (kind, name): it is not refused again where it is used.
    broken: BTreeSet<(&'static str, String)>,
}

impl Judge<'_> {
    fn refuse(&mut self, key: &[&str], message: impl Into<String>) {
        let refusal = self.finding(key, None, message.into());
        self.refusals.push(refusal);
    }

    fn refuse_at(&mut self, key: &[String], message: impl Into<String>) {
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        self.refuse(&key, message);
    }

    fn refuse_by(&mut self, rule: &'static str, key: &[&str], message: impl Into<String>) {
        let refusal = self.finding(key, Some(rule), message.into());
        self.refusals.push(refusal);
    }

    /// Whether a key below `table` is refused already: what follows from that is not said again.
    fn refused(&self, table: &str) -> bool {
        self.refusals.iter().any(|refusal| refusal.key.starts_with(table))
    }

    fn warn(&mut self, key: &[&str], message: impl Into<String>) {
        let warning = self.finding(key, None, message.into());
        self.warnings.push(warning);
    }

    fn finding(&self, key: &[&str], rule: Option<&'static str>, message: String) -> Refusal {
        let key: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        Refusal { line: self.lines.of(&key), key: spelled(&key), rule, message }
    }

    /// The value of `text` in `choices`, or a refusal that lists them.
    fn one_of<T: Copy>(&mut self, key: &[&str], text: &str, choices: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let near = nearest(text, names.iter().copied());
        self.refuse(key, format!("\"{text}\" is not known: expected {}{near}", names.join(", ")));
        None
    }

    /// A value that is built in one spelling only, so far.
    fn only(&mut self, key: &[&str], text: &str, built: &str, others: &[&str]) {
        if text == built {
            return;
        }
        if others.contains(&text) {
            self.refuse(key, format!("\"{text}\" is not built yet: expected \"{built}\""));
        } else {
            self.refuse(key, format!("\"{text}\" is not known: expected \"{built}\""));
        }
    }

    /// An integer within `range`.
    fn number<T: TryFrom<i64> + Copy>(&mut self, key: &[&str], value: i64, range: (i64, i64)) -> Option<T> {
        if (range.0..=range.1).contains(&value)
            && let Ok(number) = T::try_from(value)
        {
            return Some(number);
        }
        self.refuse(key, format!("{value} is out of range: expected {} to {}", range.0, range.1));
        None
    }

    /// A time such as `500ms`, `60s`, `5m`, `24h`, `90d` within `range`.
    fn duration(&mut self, key: &[&str], text: &str, range: (Duration, Duration)) -> Option<Duration> {
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(at);
        let unit = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let number = digits.parse::<u64>().ok().zip(unit);
        let Some(span) = number.and_then(|(n, unit)| Some(Duration::from_millis(n.checked_mul(unit)?)))
        else {
            self.refuse(key, format!("\"{text}\" is no time: expected such as \"60s\", \"5m\" or \"24h\""));
            return None;
        };
        if !(range.0..=range.1).contains(&span) {
            let (low, high) = (time(range.0), time(range.1));
            self.refuse(key, format!("{text} is out of range: expected {low} to {high}"));
            return None;
        }
        Some(span)
    }

    /// The entry that `name` refers to.
    fn named<'m, T>(
        &mut self,
        key: &[&str],
        name: &str,
        kind: &'static str,
        map: &'m BTreeMap<String, T>,
    ) -> Option<&'m T> {
        let found = map.get(name);
        if found.is_none() && !self.broken.contains(&(kind, name.to_owned())) {
            let near = nearest(name, map.keys().map(String::as_str));
            self.refuse_by("CFG-03", key, format!("there is no {kind} \"{name}\"{near}"));
        }
        found
    }
}

/// A time as it is written in the file, in the largest unit that fits.
fn time(span: Duration) -> String {
    let seconds = span.as_secs();
    let unit = [(86_400, "d"), (3_600, "h"), (60, "m")].into_iter().find(|(length, _)| {
        // "24h" rather than "1d".
        seconds >= 2 * length && seconds.is_multiple_of(*length)
    });
    let (length, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / length)
}

/// `; did you mean "x"?` for the nearest of `names`, or nothing.
fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> String {
    let text = text.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&text, &name.to_lowercase()), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map_or_else(String::new, |(_, name)| format!("; did you mean \"{name}\"?"))
}

/// A file that isn't TOML, or has a key or type the contract doesn't know.
fn unparsed(error: &toml::de::Error, lines: &Lines<'_>) -> Refusal {
    let message = error.message().to_owned();
    let mut line = error.span().map(|span| lines.line_at(span.start));
    let mut key = error.span().map_or_else(Vec::new, |span| lines.key_at(span.start));
    if let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        // The span is the table's own. A key of the top level is nowhere.
        if error.span().is_some_and(|span| span.start == 0) {
            (line, key) = (None, Vec::new());
        }
        key.push(missing.to_owned());
        return Refusal { line, key: spelled(&key), rule: None, message: "this key is missing".to_owned() };
    }
    let mut message = message.replace('\n', " ");
    if let Some((unknown, known)) = unknown_key(&message) {
        let mut near = nearest(unknown, known.iter().copied());
        if near.is_empty() {
            near = format!(": expected one of {}", known.join(", "));
        }
        message = format!("unknown key{near}");
    }
    // No table was made of it, so the key is named by what stands there.
    if message == "duplicate key"
        && let Some(name) = error.span().and_then(|span| lines.text_at(span))
    {
        message = format!("\"{name}\" stands here a second time");
    }
    // A table with a name of ours in the source; what may stand in it is refused by name once it is one.
    if let Some((rest, _)) = message.split_once("expected struct ") {
        message = format!("{rest}expected a table");
    }
    for (rust, plain) in TYPES {
        if let Some(rest) = message.strip_suffix(rust) {
            message = format!("{rest}{plain}");
        }
    }
    Refusal { line, key: spelled(&key), rule: None, message }
}

/// How the parser calls types, and how a person does.
const TYPES: [(&str, &str); 7] = [
    ("expected i64", "expected an integer"),
    ("expected f64", "expected a number"),
    ("expected a boolean", "expected true or false"),
    ("expected a string", "expected a text in quotes"),
    ("expected a map", "expected a table"),
    ("expected a sequence", "expected a list"),
    ("expected a tuple of size 2", "expected a list of two"),
];

/// The unknown key and the known ones, out of serde's sentence.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, known) = rest.split_once('`')?;
    Some((unknown, known.split('`').skip(1).step_by(2).collect()))
}
