//! The interoperability switches: how each key is read into the [`InteropProfile`], and whether it acts yet.
//!
//! A switch that doesn't act passes at its neutral value, which is the profile's default, and is refused by name at
//! any other. **To enable one, change `Later` to `Acts` in its row**: the reader is there already.

mod descriptions;
mod rows;

use std::time::Duration;

use sip_core::edge::interop::{AddExpires, InteropProfile, MediaProxy, Peers};
use toml::Value;

use super::net::prefixes;
use super::{Judge, Names, nearest};
use crate::config::file;
use rows::{AUTH, B2BUA, DIALPLAN, INTEROP, MEDIA, SDP};

/// One key: its name, where its value goes, whether somebody acts on it.
struct Switch {
    name: &'static str,
    kind: Kind,
    state: State,
}

/// Whether a switch acts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It does: any legal value passes.
    Acts,
    /// Not yet: the neutral value only.
    Later,
}

/// How a value is written, and the field it fills.
#[derive(Clone, Copy)]
enum Kind {
    /// `true` or `false`.
    Flag(fn(&mut InteropProfile) -> &mut bool),
    /// A list of networks by name, of `[[sip.servers]]` rows by name, of addresses, prefixes and ranges.
    Peers(fn(&mut InteropProfile) -> &mut Peers),
    /// The same, and host names.
    Hosts(fn(&mut InteropProfile) -> &mut Peers),
    /// A list of header or parameter names, none of them in the second list.
    Names(fn(&mut InteropProfile) -> &mut Vec<String>, &'static [&'static str]),
    /// `never`, `when-missing`, `always`.
    Expires(fn(&mut InteropProfile) -> &mut AddExpires),
    /// `no`, `use`, `always`.
    Proxy(fn(&mut InteropProfile) -> &mut MediaProxy),
    /// Milliseconds as a number, or text with `ms` or `s`; `""` is none. At most 60 s.
    Delay(fn(&mut InteropProfile) -> &mut Option<Duration>),
    /// Session descriptions: the neutral value as it is written, and its own reader.
    Own(&'static str, descriptions::Read),
    /// Seen by nobody yet: this value only.
    Only(&'static str),
}

impl Kind {
    /// The neutral value as it is written.
    fn neutral(self) -> String {
        let mut profile = InteropProfile::default();
        match self {
            Self::Flag(field) => field(&mut profile).to_string(),
            Self::Peers(_) | Self::Hosts(_) | Self::Names(..) => "[]".to_owned(),
            Self::Expires(_) => "\"never\"".to_owned(),
            Self::Proxy(_) => "\"no\"".to_owned(),
            Self::Delay(_) => "\"\"".to_owned(),
            Self::Only(text) | Self::Own(text, _) => text.to_owned(),
        }
    }
}

/// The tables that hold switches, with what the names in them may mean.
pub(super) struct Written<'a> {
    pub(super) sip: &'a file::Sip,
    pub(super) sdp: &'a toml::Table,
    pub(super) media: &'a file::Media,
    pub(super) b2bua: &'a toml::Table,
    pub(super) dialplan: &'a toml::Table,
}

/// The profile as written; every switch that doesn't act must stand at its neutral value.
pub(super) fn judge(written: &Written<'_>, names: &Names<'_>, judge: &mut Judge<'_>) -> InteropProfile {
    let mut profile = InteropProfile::default();
    let media = written.media.switches();
    let tables: [(&[&str], &toml::Table, &[Switch]); 6] = [
        (&["sip", "interop"], &written.sip.interop, INTEROP),
        (&["sip", "auth"], &written.sip.auth, AUTH),
        (&["sdp"], written.sdp, SDP),
        (&["media"], &media, MEDIA),
        (&["b2bua"], written.b2bua, B2BUA),
        (&["dialplan"], written.dialplan, DIALPLAN),
    ];
    for (above, table, switches) in tables {
        let mut reader = Reader { places: Places { sip: written.sip, names }, judge, profile: &mut profile };
        for (name, value) in table {
            let key: Vec<&str> = above.iter().copied().chain([name.as_str()]).collect();
            match switches.iter().find(|switch| switch.name == name) {
                Some(switch) => reader.switch(&key, switch, value),
                None => {
                    let near = nearest(name, switches.iter().map(|switch| switch.name));
                    reader.judge.refuse(&key, format!("unknown key{near}"));
                }
            }
        }
    }
    // SIP-37 and SIP-38 say the opposite of each other.
    if profile.routes.translate_except.overlaps(&profile.routes.translate_force) {
        judge.refuse(
            &["sip", "interop", "translate_force"],
            "a host stands in translate_except too: expected one of both",
        );
    }
    descriptions::settle(written.sdp, &mut profile, judge);
    profile
}

struct Reader<'a, 'b> {
    places: Places<'a>,
    judge: &'a mut Judge<'b>,
    profile: &'a mut InteropProfile,
}

impl Reader<'_, '_> {
    fn switch(&mut self, key: &[&str], switch: &Switch, value: &Value) {
        if switch.state == State::Later {
            let neutral = switch.kind.neutral();
            // An empty table may be written as a text too.
            let empty = neutral == "[]" && value.as_str() == Some("");
            if value.to_string() != neutral && !empty {
                self.judge.refuse(key, format!("this switch is not built yet: expected {neutral}"));
            }
            return;
        }
        match switch.kind {
            Kind::Flag(field) => match value.as_bool() {
                Some(on) => *field(self.profile) = on,
                None => self.judge.refuse(key, "expected true or false"),
            },
            Kind::Peers(field) => *field(self.profile) = self.places.peers(key, value, false, self.judge),
            Kind::Hosts(field) => *field(self.profile) = self.places.peers(key, value, true, self.judge),
            Kind::Names(field, reserved) => *field(self.profile) = self.list_of_names(key, value, reserved),
            Kind::Expires(field) => {
                let choices = [
                    ("never", AddExpires::Never),
                    ("when-missing", AddExpires::WhenMissing),
                    ("always", AddExpires::Always),
                ];
                if let Some(choice) = self.choice(key, value, &choices) {
                    *field(self.profile) = choice;
                }
            }
            Kind::Proxy(field) => {
                let choices =
                    [("no", MediaProxy::No), ("use", MediaProxy::Relayed), ("always", MediaProxy::Always)];
                if let Some(choice) = self.choice(key, value, &choices) {
                    *field(self.profile) = choice;
                }
            }
            Kind::Delay(field) => match delay(value) {
                Some(delay) => *field(self.profile) = delay,
                None => {
                    let expected = "expected \"\" or a time up to 60 s, as 20, \"20ms\" or \"1s\"";
                    self.judge.refuse(key, format!("{value} is no delay: {expected}"));
                }
            },
            Kind::Own(_, read) => read(key, value, &mut self.profile.sdp, self.judge),
            Kind::Only(_) => {}
        }
    }

    /// One of several words. What is no text is told as it was written.
    fn choice<T: Copy>(&mut self, key: &[&str], value: &Value, choices: &[(&str, T)]) -> Option<T> {
        match value {
            Value::String(text) => self.judge.one_of(key, text, choices),
            other => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                self.judge.refuse(key, format!("{other} is not known: expected {}", words.join(", ")));
                None
            }
        }
    }

    fn list_of_names(&mut self, key: &[&str], value: &Value, reserved: &[&str]) -> Vec<String> {
        let mut names = Vec::new();
        for text in texts(key, value, self.judge) {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
            if text.is_empty() || !text.bytes().all(token) {
                self.judge.refuse(key, format!("\"{text}\" is not a name: expected a token of RFC 3261"));
            } else if reserved.iter().any(|name| name.eq_ignore_ascii_case(text)) {
                self.judge.refuse(key, format!("\"{text}\" is ours to write: it can't be in this list"));
            } else {
                names.push(text.to_owned());
            }
        }
        names
    }
}

/// The peers of a list that stands elsewhere than under `[sip.interop]`, by address.
pub(super) fn peers(
    key: &[&str],
    value: &Value,
    sip: &file::Sip,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Peers {
    Places { sip, names }.peers(key, value, false, judge)
}

/// What the rows of a table of peers may name.
#[derive(Clone, Copy)]
struct Places<'a> {
    sip: &'a file::Sip,
    names: &'a Names<'a>,
}

impl Places<'_> {
    fn peers(self, key: &[&str], value: &Value, hosts: bool, judge: &mut Judge<'_>) -> Peers {
        let mut peers = Peers::default();
        for text in texts(key, value, judge) {
            if !self.add(&mut peers, text, hosts) {
                let known = self.names.networks.keys().map(String::as_str);
                let near = nearest(text, known.chain(self.sip.servers.iter().map(|row| row.name.as_str())));
                let expected = if hosts {
                    "a network, a server row, an address, a prefix, a range or a host name"
                } else {
                    "a network, a server row, an address, a prefix or a range"
                };
                judge.refuse_by("CFG-03", key, format!("\"{text}\" is not known: expected {expected}{near}"));
            }
        }
        peers
    }

    /// Adds what `text` names; `false` when that is nothing.
    fn add(self, peers: &mut Peers, text: &str, hosts: bool) -> bool {
        if let Some(nets) = self.names.networks.get(text) {
            nets.iter().for_each(|net| peers.networks.add_net(*net));
        } else if let Some(server) = self.sip.servers.iter().find(|server| server.name == text) {
            peers.domains.extend(server.names.iter().map(|name| name.to_lowercase()));
            let address = |text: &String| {
                let bare = text.parse::<std::net::IpAddr>().ok();
                bare.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
            };
            server.addresses.iter().filter_map(address).for_each(|host| peers.networks.add_net(host.into()));
        } else if let Ok(nets) = prefixes(text) {
            nets.into_iter().for_each(|net| peers.networks.add_net(net));
        } else if hosts && is_host_name(text) {
            peers.domains.push(text.to_lowercase());
        } else {
            return false;
        }
        true
    }
}

fn texts<'v>(key: &[&str], value: &'v Value, judge: &mut Judge<'_>) -> Vec<&'v str> {
    let rows = value.as_array().map(|rows| rows.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    match rows {
        Some(Some(texts)) => texts,
        _ => {
            judge.refuse(key, "expected a list of texts");
            Vec::new()
        }
    }
}

/// `Some(None)` is no delay.
fn delay(value: &Value) -> Option<Option<Duration>> {
    let (number, unit) = match value {
        Value::Integer(number) => (u64::try_from(*number).ok()?, 1),
        Value::String(text) if text.is_empty() => return Some(None),
        Value::String(text) => match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => (number.trim().parse().ok()?, 1),
            (None, Some(number)) => (number.trim().parse().ok()?, 1000),
            _ => (text.parse().ok()?, 1),
        },
        _ => return None,
    };
    let delay = Duration::from_millis(number.checked_mul(unit)?);
    (!delay.is_zero() && delay <= Duration::from_secs(60)).then_some(Some(delay))
}

/// A name that DNS could hold: labels of letters, digits, hyphens and underscores.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}
