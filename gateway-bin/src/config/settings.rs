//! The judged configuration: names are resolved, numbers are in range, every file was read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use acme_store::certificate::Credential;
use acme_store::key::KeyKind;
use acme_store::net::authority::{Directory, Roots};
use acme_store::publish::Versions;
use acme_store::schedule;
use acme_store::trust::Trust;
use ipnet::IpNet;
use sdp_core::policy::Timeouts;
use sip_core::edge::config::{Class3xx, Monitored, Policy as SipPolicy, PreloadedRoutes};
use sip_core::edge::filter::Filters;
use sip_core::edge::interop::{self, InteropProfile, MediaSwitches};
use tunnel::policy::{NetworkError, Networks, Policy, PortError, Ports, Rule};

/// Everything `farend run` needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where certificates, keys and the ACME account live.
    pub state_dir: PathBuf,
    /// A laboratory on loopback: lifts the loopback and same-address rules.
    pub lab: bool,
    /// Interfaces, networks, name servers.
    pub net: NetSettings,
    /// Certificates by name.
    pub certificates: BTreeMap<String, CertificateOrigin>,
    /// Where HTTP-01 challenges are answered, whether an order runs or not.
    pub challenges: BTreeSet<SocketAddr>,
    /// Trust bundles by name.
    pub trust: BTreeMap<String, Trust>,
    /// The signalling half.
    pub sip: SipSettings,
    /// What nobody may take too much of, and what follows if they try.
    pub guard: GuardSettings,
    /// The media half.
    pub media: MediaSettings,
    /// The HTTPS listeners, each a repository or a tunnel.
    pub endpoints: BTreeMap<String, LocalEndpoint>,
    /// How to log.
    pub log: LogSettings,
}

/// A tunnel row that can't be said in the tunnel's own types.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Its networks.
    #[error(transparent)]
    Networks(#[from] NetworkError),
    /// Its ports.
    #[error(transparent)]
    Ports(#[from] PortError),
}

impl Settings {
    /// Every TCP address the gateway listens on.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let sip = self.sip.ports.iter().flat_map(|port| port.addresses.iter().copied());
        let http = self.endpoints.values().flat_map(|endpoint| endpoint.addresses.iter().copied());
        sip.chain(http).chain(self.challenges.iter().copied())
    }

    /// Where the tunnels of `row` may lead.
    ///
    /// # Errors
    /// [`PolicyError`]; the check refuses such rows.
    pub fn tunnel_policy(&self, row: &TunnelRow) -> Result<Policy, PolicyError> {
        let ports = row.ports.iter().map(|(low, high)| format!("{low}-{high}"));
        let rule = Rule {
            allow_to: Networks::parse(row.allow_to.iter().map(ToString::to_string))?,
            ports: Ports::parse(ports)?,
        };
        let own = self.net.inside.addresses.iter().chain(&self.net.outside.addresses).copied();
        Ok(Policy {
            rules: vec![rule],
            own_addresses: own.chain(self.net.outside.public_address).collect(),
            own_listeners: self.listeners().collect(),
            lab: self.lab,
        })
    }
}

/// Interfaces, networks, name servers.
#[derive(Debug, Clone)]
pub struct NetSettings {
    /// The side of the PBX.
    pub inside: Interface,
    /// The side of the Internet.
    pub outside: Interface,
    /// Name servers, asked strictly in this order.
    pub dns: Vec<SocketAddr>,
    /// Domains whose names are asked inside only, and may name switches.
    pub internal_domains: Vec<String>,
}

/// One interface: the addresses we bind.
#[derive(Debug, Clone)]
pub struct Interface {
    /// The addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// What the world sees instead, behind a 1:1 NAT.
    pub public_address: Option<IpAddr>,
}

/// Where a certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateOrigin {
    /// A file with key and chain.
    Imported(Box<Credential>),
    /// A key of our own, self-signed until a CA has signed it.
    Requested {
        /// Subject common name.
        common_name: String,
        /// DNS names; holds the common name too.
        dns: Vec<String>,
        /// The key to make.
        key: KeyKind,
        /// The ACME domain that signs it.
        acme: Option<AcmeDomain>,
    },
}

/// How an ACME certificate is ordered.
#[derive(Debug, Clone, PartialEq)]
pub struct AcmeDomain {
    /// The service.
    pub directory: Directory,
    /// Who certifies the service itself.
    pub roots: Roots,
    /// The contacts of the account, as `mailto:` URIs.
    pub contact: Vec<String>,
    /// Name of the account.
    pub account: String,
    /// When to renew.
    pub renewal: schedule::Policy,
}

/// The signalling half.
#[derive(Debug, Clone)]
pub struct SipSettings {
    /// Signalling threads; 0 is one for each core.
    pub shards: usize,
    /// DSCP of what the SIP sockets send, 0 to 63.
    pub dscp: u8,
    /// The port table.
    pub ports: Vec<SipPort>,
    /// Where requests from phones may go.
    pub inside_networks: Vec<IpNet>,
    /// Who can show credentials here.
    pub users: sip_core::edge::credentials::Users,
    /// What becomes of Routes a phone preloaded.
    pub preloaded_routes: PreloadedRoutes,
    /// What happens to a 3xx of a switch.
    pub class_3xx: Class3xx,
    /// Which requests from outside are served at all.
    pub default_policy: SipPolicy,
    /// Rules that come before both.
    pub filters: Filters,
    /// How switches are reached.
    pub inside: InsideTls,
    /// Switches known by name.
    pub servers: Vec<SipServer>,
    /// The interoperability switches; tag routing, URI encoding and user matching among them.
    pub interop: InteropProfile,
    /// How old the newest key of routing tokens may be.
    pub key_rotation: Duration,
    /// Timer C when the INVITE has no Expires.
    pub invite_timeout_default: Duration,
    /// The longest INVITE timeout.
    pub invite_timeout_max: Duration,
    /// T1 of RFC 3261.
    pub t1: Duration,
    /// Retransmissions of an INVITE.
    pub invite_retrans: u32,
    /// Retransmissions of other requests.
    pub other_retrans: u32,
    /// The highest Max-Forwards that leaves.
    pub max_forwards: u8,
    /// The longest message in bytes.
    pub max_message: usize,
    /// How phones are kept reachable.
    pub keep_alive: sip_core::edge::config::KeepAlive,
    /// Whether STUN keep-alives at UDP ports are answered.
    pub stun_keepalive: bool,
    /// Switches that are asked whether they live.
    pub monitor: Vec<Monitored>,
    /// How long a switch that failed gets no requests; zero: off.
    pub blacklist: Duration,
}

/// One row of the port table.
#[derive(Debug, Clone)]
pub struct SipPort {
    /// Name of the row.
    pub name: String,
    /// Its place in the table, counted from 0.
    pub row: usize,
    /// Whether it faces the PBX.
    pub inside: bool,
    /// The addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// Transports served.
    pub transports: Vec<Transport>,
    /// Sources allowed; judged before a byte is parsed.
    pub allow_from: Vec<IpNet>,
    /// TLS, on a TLS row.
    pub tls: Option<ListenTls>,
    /// Peers without TLS count as verified.
    pub trust_source: bool,
    /// Requests that name somebody else are served too.
    pub intercept: bool,
    /// What we call ourselves to who comes by it, in place of the address: the certificate's common name.
    pub host: Option<String>,
}

/// A SIP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Plain streams.
    Tcp,
    /// TLS streams.
    Tls,
}

/// TLS on a listener.
#[derive(Debug, Clone)]
pub struct ListenTls {
    /// Name of the certificate.
    pub certificate: String,
    /// Name of the trust entry clients are judged by.
    pub trust: Option<String>,
    /// Whether a client must show a certificate.
    pub require_client_cert: bool,
    /// Versions offered.
    pub versions: Versions,
}

/// How switches are reached.
#[derive(Debug, Clone)]
pub struct InsideTls {
    /// The transport of the inside.
    pub transport: Transport,
    /// The port of switches whose URI names none.
    pub port: u16,
    /// Our certificate towards them.
    pub certificate: Option<String>,
    /// Who may have signed theirs.
    pub trust: Option<String>,
    /// Whether their certificate must name the address or host dialled.
    pub verify_name: bool,
    /// Whose connections they are.
    pub connections: Connections,
}

/// Connections towards the switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One for all phones.
    Shared,
    /// One a phone, as on a LAN.
    PerPhone,
}

/// A switch known by name.
#[derive(Debug, Clone)]
pub struct SipServer {
    /// Name of the row.
    pub name: String,
    /// The host names it answers to.
    pub names: Vec<String>,
    /// Its addresses in order.
    pub addresses: Vec<SocketAddr>,
    /// A name in place of addresses, with its port if one is written; without, NAPTR and SRV say where it is.
    pub lookup: Option<(String, Option<u16>)>,
}

/// `[guard]`.
#[derive(Debug, Clone)]
pub struct GuardSettings {
    /// Rates, failed credentials, signatures, the allow list.
    pub rules: sip_core::edge::guard::Settings,
    /// Ceilings of the edge.
    pub limits: sip_core::edge::config::Limits,
    /// Server transactions at once.
    pub transactions: usize,
    /// SIP connections that peers made, in all.
    pub connections: usize,
    /// Before anything is known of a peer but its address.
    pub tls: TlsGuard,
}

/// `[guard.tls]`: what one address (an IPv6 network of 64 bits) may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsGuard {
    /// Handshakes at once; the oldest makes way for one more.
    pub handshakes: usize,
    /// Handshakes that may fail within a minute; then its connections are refused until the minute is over.
    pub failures: u32,
    /// Connections at once; more are refused.
    pub connections: usize,
    /// Addresses that the last two do not hold for.
    pub allow: Vec<IpNet>,
}

impl Default for TlsGuard {
    fn default() -> Self {
        Self { handshakes: 64, failures: 60, connections: 2_000, allow: Vec::new() }
    }
}

impl MediaSettings {
    /// Writes what the media half acts on into the profile that shows all switches.
    pub(crate) fn tell(&self, switches: &mut MediaSwitches) {
        switches.sender_limit = match self.sender_limit {
            SenderLimit::Lock => interop::SenderLimit::Lock,
            SenderLimit::LockIp => interop::SenderLimit::LockIp,
            SenderLimit::Multiple => interop::SenderLimit::Multiple,
        };
        switches.max_senders = self.max_senders;
        switches.ttl = self.ttl;
        (switches.late_relatch, switches.early_rtp) = (self.late_relatch, self.early_rtp);
        let seconds = |limit: Option<u16>| limit.map(|limit| Duration::from_secs(limit.into()));
        switches.teardown_on_timeout = self.timeouts.teardown;
        switches.timeout_oneway = seconds(self.timeouts.one_way);
        switches.timeout_rtp = seconds(self.timeouts.rtp);
        switches.timeout_rtcp = seconds(self.timeouts.rtcp);
    }
}

/// The media half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSettings {
    /// Whether there is a relay at all. No key of the file turns it off: only the demonstration does, to show
    /// what is missing without it.
    pub relay: bool,
    /// The socket of the media process, where the relay is one of its own.
    pub process: Option<PathBuf>,
    /// Threads that carry packets; 0: one for each core.
    pub workers: usize,
    /// First and last port.
    pub port_range: (u16, u16),
    /// `None`: forward the received value minus one.
    pub ttl: Option<NonZeroU8>,
    /// Whether RTP must come from the address of the phone's signalling.
    pub signalling_address_only: bool,
    /// Who may send.
    pub sender_limit: SenderLimit,
    /// Distinct sources a stream.
    pub max_senders: u8,
    /// The way of media between two phones.
    pub route: RouteSettings,
    /// DSCP of what the relay sends, 0 to 63.
    pub dscp: u8,
    /// A locked stream may move once, to another port of its address, after two seconds of silence.
    pub late_relatch: bool,
    /// Media of the answering side before its answer.
    pub early_rtp: bool,
    /// When silence is told, and whether it ends a stream.
    pub timeouts: Timeouts,
}

/// The way of media between two phones (MED-03, MED-11).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSettings {
    /// Phones behind the same NAT talk directly.
    pub direct: bool,
    /// All media by the relay, whatever `direct` says.
    pub always_relay: bool,
    /// Phones from here never talk directly.
    pub deny: Vec<IpNet>,
}

/// Who may send into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderLimit {
    /// The first address and port.
    Lock,
    /// The first address, any port.
    LockIp,
    /// Several.
    Multiple,
}

/// One HTTPS listener.
#[derive(Debug, Clone)]
pub struct LocalEndpoint {
    /// The addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// TLS; `None` for clear HTTP.
    pub tls: Option<ListenTls>,
    /// Sources allowed.
    pub allow_from: Vec<IpNet>,
    /// What it serves.
    pub serves: Endpoint,
}

/// What an HTTPS listener serves.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// Files.
    Repository(FileRepository),
    /// CONNECT.
    Tunnel(TunnelRow),
}

/// A repository: local files first, then the remote endpoint.
#[derive(Debug, Clone)]
pub struct FileRepository {
    /// Name of the row.
    pub name: String,
    /// Files served from here.
    pub files: Vec<HttpFile>,
    /// Where the rest comes from.
    pub remote: Option<RemoteEndpoint>,
}

/// A file served from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpFile {
    /// Path in the URL.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// A server group reached over verified TLS.
#[derive(Debug, Clone)]
pub struct RemoteEndpoint {
    /// `host:port` in order.
    pub servers: Vec<(String, u16)>,
    /// The name the certificate must carry.
    pub server_name: String,
    /// The trust entry its certificate is judged by.
    pub trust: String,
    /// The certificate we show when asked.
    pub certificate: Option<String>,
}

/// A tunnel row.
#[derive(Debug, Clone)]
pub struct TunnelRow {
    /// Name of the row.
    pub name: String,
    /// Networks that may be reached.
    pub allow_to: Vec<IpNet>,
    /// Port ranges that may be reached; empty: all.
    pub ports: Vec<(u16, u16)>,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// One JSON object a line.
    pub json: bool,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}
