//! Host names: the configured name servers, strictly in order.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use std::{fmt, io};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use ipnet::IpNet;
use sip_core::resolve::records::{Answer, Kind, Naptr, Question, Records, Srv};

/// How long one name server may take before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks names up. Cheap to make: a reload makes a new one.
pub(crate) struct Names {
    servers: Vec<Server>,
    internal_domains: Vec<String>,
}

struct Server {
    address: SocketAddr,
    /// Whether it may be asked for internal names.
    inside: bool,
    resolver: TokioResolver,
}

impl PartialEq for Names {
    /// The same servers in the same order, and the same domains: they find the same.
    fn eq(&self, other: &Self) -> bool {
        let addresses = |names: &Self| names.servers.iter().map(|server| server.address).collect::<Vec<_>>();
        addresses(self) == addresses(other) && self.internal_domains == other.internal_domains
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.servers.iter().map(|server| server.address)).finish()
    }
}

impl Names {
    /// # Errors
    /// When a resolver can't be set up on this machine.
    pub(crate) fn new(servers: &[SocketAddr], internal_domains: &[String]) -> io::Result<Self> {
        let servers = servers.iter().map(|address| {
            let resolver = resolver(*address).map_err(io::Error::other)?;
            Ok(Server { address: *address, inside: is_private(address.ip()), resolver })
        });
        Ok(Self { servers: servers.collect::<io::Result<_>>()?, internal_domains: internal_domains.to_vec() })
    }

    /// The addresses of `host`, a name or an address.
    pub(crate) async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.lookup(host).await,
        }
    }

    /// The addresses of `name`.
    ///
    /// # Errors
    /// `NotFound` when a server says so, otherwise what the last server failed with.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match self.ask(Kind::Addresses, name).await?.records {
            Records::Addresses(addresses) => Ok(addresses),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such name")),
        }
    }

    /// What the name servers say to a question of the signalling machine, which remembers it.
    ///
    /// # Errors
    /// What the last server failed with.
    pub(crate) async fn answer(&self, question: &Question) -> io::Result<Answer> {
        self.ask(question.kind, &question.name).await
    }

    /// The next server is asked when one is silent or fails, never when it says that there is no such name (NET-08). A name
    /// under an internal domain is asked inside only.
    async fn ask(&self, kind: Kind, name: &str) -> io::Result<Answer> {
        let internal = is_under(name, &self.internal_domains);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no name server is configured for this name");
        for server in self.servers.iter().filter(|server| !internal || server.inside) {
            match server.ask(kind, name).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_no_records_found() => {
                    let ttl = Duration::from_secs(denial(&error).into());
                    return Ok(Answer { records: Records::Missing, ttl });
                }
                Err(error) => last = io::Error::new(io::ErrorKind::TimedOut, error.to_string()),
            }
        }
        Err(last)
    }
}

impl Server {
    async fn ask(&self, kind: Kind, name: &str) -> Result<Answer, NetError> {
        // The trailing dot keeps search domains out of it.
        let name = format!("{}.", name.trim_end_matches('.'));
        let (records, until) = match kind {
            Kind::Addresses => {
                let found = self.resolver.lookup_ip(name).await?;
                (Records::Addresses(found.iter().collect()), found.valid_until())
            }
            Kind::Srv => {
                let found = self.resolver.lookup(name, RecordType::SRV).await?;
                (Records::Srv(records(&found, srv)), found.valid_until())
            }
            Kind::Naptr => {
                let found = self.resolver.lookup(name, RecordType::NAPTR).await?;
                (Records::Naptr(records(&found, naptr)), found.valid_until())
            }
        };
        Ok(Answer { records, ttl: until.saturating_duration_since(Instant::now()) })
    }
}

/// The seconds that a denial may be believed (RFC 2308): the smaller of the SOA's TTL and its minimum.
fn denial(error: &NetError) -> u32 {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.negative_ttl.unwrap_or_default(),
        _ => 0,
    }
}

fn records<T>(found: &Lookup, read: impl Fn(&RData) -> Option<T>) -> Vec<T> {
    found.answers().iter().filter_map(|record| read(&record.data)).collect()
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    let (priority, weight, port, target) = (srv.priority, srv.weight, srv.port, srv.target.to_ascii());
    Some(Srv { priority, weight, port, target })
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else { return None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        services: text(&naptr.services),
        regexp: text(&naptr.regexp),
        replacement: naptr.replacement.to_ascii(),
    })
}

fn resolver(address: SocketAddr) -> Result<TokioResolver, NetError> {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    let server = NameServerConfig::new(address.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = PATIENCE;
    options.attempts = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.negative_max_ttl = Some(Duration::from_secs(30));
    builder.build()
}

/// Whether `name` is one of `domains` or lies under one.
pub(crate) fn is_under(name: &str, domains: &[String]) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    domains.iter().any(|domain| {
        name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// A name server at a private address is taken to stand inside.
fn is_private(address: IpAddr) -> bool {
    const PRIVATE: &[&str] = &[
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "fc00::/7",
        "::1/128",
    ];
    PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests;
