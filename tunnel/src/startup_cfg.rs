//! The phone's `startup.cfg`: which configuration servers it asks, through which tunnel port.
//!
//! ```text
//! mivoice config server: 10.0.1.10      # addresses or names, never both
//! tunnel port: 6587
//! backup outbound proxy:                # blank: for future use
//! ```
//!
//! A phone that gets a wrong file fails without saying why, so the rules are checked before the file is served:
//! [`parse`] finds what the text alone shows, [`StartupCfg::check`] what only the rest of the configuration can.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::authority::{Host, parse_port};
use crate::policy::Policy;

/// The three settings, as far as they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartupCfg {
    /// The configuration servers, in the order the phone tries them.
    pub servers: Vec<Host>,
    /// The port of the CONNECT tunnel.
    pub tunnel_port: Option<u16>,
    /// The backup outbound proxy; blank in today's files.
    pub backup_proxy: Option<(Host, Option<u16>)>,
    servers_line: usize,
    port_line: usize,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// The two sorts of host, which a file must not mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostKind {
    /// An IPv4 or IPv6 address.
    Address,
    /// A domain name.
    Name,
}

impl HostKind {
    /// The sort of `host`.
    pub fn of(host: &Host) -> Self {
        match host {
            Host::Ip(_) => Self::Address,
            Host::Name(_) => Self::Name,
        }
    }
}

/// What can be wrong with a start-up file. Texts in problems come from the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is not UTF-8, or holds control characters.
    #[error("not plain text")]
    NotText,
    /// No colon in a line that has text.
    #[error("expected \"key: value\"")]
    NoColon,
    /// A key the phone does not know; kept.
    #[error("unknown key \"{0}\"")]
    UnknownKey(String),
    /// A key twice.
    #[error("\"{0}\" stands here a second time")]
    Repeated(Key),
    /// A key that must be there is not.
    #[error("\"{0}:\" is missing")]
    Missing(Key),
    /// A value that is no host.
    #[error("\"{0}\" is neither an address nor a domain name")]
    Host(String),
    /// No configuration server at all.
    #[error("expected at least one configuration server")]
    NoServer,
    /// A value that is no port.
    #[error("\"{0}\" is not a port from 1 to 65535")]
    Port(String),
    /// Addresses and names in one list.
    #[error("addresses and domain names are mixed; phones fail on such a file")]
    Mixed,
    /// The HQ certificate is for the other sort of host.
    #[error("the HQ server's certificate is for {certificate}, the configuration server is {servers}")]
    Certificate {
        /// The sort the certificate names.
        certificate: HostKind,
        /// The sort the file names.
        servers: HostKind,
    },
    /// The remote endpoint's server group is written with the other sort of host.
    #[error("the server group names the HQ server by {group}, the configuration server is {servers}")]
    ServerGroup {
        /// The sort in the server group.
        group: HostKind,
        /// The sort the file names.
        servers: HostKind,
    },
    /// A name without an address that the tunnel may reach.
    #[error("{0} does not resolve to an address that the tunnel may reach")]
    Unreachable(String),
    /// An address that the tunnel may not reach.
    #[error("{0} is not in the networks that the tunnel may reach")]
    Outside(IpAddr),
    /// No active https endpoint with a tunnel row listens there.
    #[error("no https endpoint with a tunnel listens on port {0}")]
    TunnelPort(u16),
}

impl Problem {
    /// Whether the file may still be served: only an unknown key may.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::UnknownKey(_))
    }
}

/// The keys a phone reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `mivoice config server`.
    ConfigServer,
    /// `tunnel port`.
    TunnelPort,
    /// `backup outbound proxy`.
    BackupProxy,
}

impl Key {
    const ALL: [Self; 3] = [Self::ConfigServer, Self::TunnelPort, Self::BackupProxy];
    const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigServer => "mivoice config server",
            Self::TunnelPort => "tunnel port",
            Self::BackupProxy => "backup outbound proxy",
        }
    }

    /// Case does not matter and inner blanks collapse.
    fn read(text: &str) -> Option<Self> {
        let plain = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        Self::ALL.into_iter().find(|key| key.as_str() == plain)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "an address",
            Self::Name => "a domain name",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => self.problem.fmt(f),
            line => write!(f, "line {line}: {}", self.problem),
        }
    }
}

/// Reads a start-up file: the settings as far as they could be read, and everything that is wrong, in the order
/// of lines.
pub fn parse(content: &[u8]) -> (StartupCfg, Vec<Finding>) {
    let mut reader = Reader::default();
    let Ok(text) = std::str::from_utf8(content) else {
        return (StartupCfg::default(), vec![Finding { line: 0, problem: Problem::NotText }]);
    };
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').enumerate() {
        reader.line = index + 1;
        reader.read_line(line.strip_suffix('\r').unwrap_or(line));
    }
    reader.line = 0;
    for key in Key::ALL {
        if !reader.seen.contains(&key) {
            reader.find(Problem::Missing(key));
        }
    }
    (reader.file, reader.findings)
}

#[derive(Default)]
struct Reader {
    file: StartupCfg,
    findings: Vec<Finding>,
    seen: BTreeSet<Key>,
    line: usize,
}

impl Reader {
    fn find(&mut self, problem: Problem) {
        self.findings.push(Finding { line: self.line, problem });
    }

    fn read_line(&mut self, line: &str) {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return self.find(Problem::NotText);
        }
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            return;
        }
        let Some((key, value)) = text.split_once(':') else { return self.find(Problem::NoColon) };
        let Some(known) = Key::read(key) else {
            return self.find(Problem::UnknownKey(key.trim().to_owned()));
        };
        if !self.seen.insert(known) {
            return self.find(Problem::Repeated(known));
        }
        match known {
            Key::ConfigServer => self.read_servers(value.trim()),
            Key::TunnelPort => self.read_port(value.trim()),
            Key::BackupProxy => self.read_proxy(value.trim()),
        }
    }

    fn read_servers(&mut self, value: &str) {
        self.file.servers_line = self.line;
        if value.is_empty() {
            return self.find(Problem::NoServer);
        }
        for text in value.split(',').map(str::trim) {
            match Host::parse_plain(text) {
                Ok(host) => self.file.servers.push(host),
                Err(_) => self.find(Problem::Host(text.to_owned())),
            }
        }
        let mut kinds = self.file.servers.iter().map(HostKind::of);
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            self.find(Problem::Mixed);
        }
    }

    fn read_port(&mut self, value: &str) {
        self.file.port_line = self.line;
        self.file.tunnel_port = parse_port(value);
        if self.file.tunnel_port.is_none() {
            self.find(Problem::Port(value.to_owned()));
        }
    }

    fn read_proxy(&mut self, value: &str) {
        if value.is_empty() {
            return;
        }
        // An IPv6 address with a port needs brackets; without them every colon belongs to the address.
        let (host, port) = match value.rsplit_once(':') {
            Some((host, port)) if value.parse::<IpAddr>().is_err() && !value.ends_with(']') => {
                (host, Some(port))
            }
            _ => (value, None),
        };
        let port = match port.map(|text| parse_port(text).ok_or(text)) {
            Some(Err(text)) => return self.find(Problem::Port(text.to_owned())),
            Some(Ok(port)) => Some(port),
            None => None,
        };
        match Host::parse_plain(host) {
            Ok(host) => self.file.backup_proxy = Some((host, port)),
            Err(_) => self.find(Problem::Host(host.to_owned())),
        }
    }
}

/// What the rest of the configuration says about the things a start-up file names.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// Ports of active https endpoints that have a tunnel row.
    pub tunnel_ports: &'a [u16],
    /// Whether the HQ server's certificate names an address or a domain; `None` when it is not known.
    pub hq_certificate: Option<HostKind>,
    /// The servers of the remote endpoint that is the HQ server.
    pub server_group: &'a [Host],
    /// What the first configured DNS server answered for the names in the file; a name that is not here was
    /// not asked for.
    pub resolved: &'a [(String, Vec<IpAddr>)],
    /// The policy of the tunnel, with the port the phone will ask for; `None` skips these rules.
    pub tunnel: Option<(&'a Policy, u16)>,
}

impl StartupCfg {
    /// What is wrong in view of the rest of the configuration.
    pub fn check(&self, around: &Surroundings<'_>) -> Vec<Finding> {
        let mut problems = Vec::new();
        if let Some(port) = self.tunnel_port.filter(|port| !around.tunnel_ports.contains(port)) {
            problems.push(Finding { line: self.port_line, problem: Problem::TunnelPort(port) });
        }
        let at_servers = |problem| Finding { line: self.servers_line, problem };
        if let Some(servers) = self.servers.first().map(HostKind::of) {
            if let Some(certificate) = around.hq_certificate.filter(|kind| *kind != servers) {
                problems.push(at_servers(Problem::Certificate { certificate, servers }));
            }
            if let Some(group) = around.server_group.iter().map(HostKind::of).find(|kind| *kind != servers) {
                problems.push(at_servers(Problem::ServerGroup { group, servers }));
            }
        }
        problems.extend(self.servers.iter().filter_map(|host| unreachable(host, around)).map(at_servers));
        problems
    }
}

fn unreachable(host: &Host, around: &Surroundings<'_>) -> Option<Problem> {
    let (policy, port) = around.tunnel?;
    match host {
        Host::Ip(address) => policy.check(*address, port).is_err().then_some(Problem::Outside(*address)),
        Host::Name(name) => {
            let (_, answers) = around.resolved.iter().find(|(asked, _)| asked == name)?;
            policy.permitted(answers, port).is_err().then(|| Problem::Unreachable(name.clone()))
        }
    }
}

#[cfg(test)]
mod tests;
