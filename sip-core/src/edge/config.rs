//! The edge's configuration: plain data, checked by whoever reads it, replaced whole by [`Command::Reconfigure`].
//!
//! Everything here takes effect with the next message; flows, registrations and calls stay.
//!
//! [`Command::Reconfigure`]: super::Command::Reconfigure

use std::net::IpAddr;
use std::time::Duration;

use super::credentials::Users;
pub use super::faces::Listener;
use super::guard;
pub use super::keepalive::{KeepAlive, Method as KeepAliveMethod};
pub use super::limits::Limits;

use super::filter::Filters;
use super::interop::InteropProfile;
pub use super::monitor::Monitored;
use super::route_tag::Pattern;
use crate::flow::Transport;
use crate::grammar::push_number;
use crate::resolve::{Networks, Server};
use crate::transaction;

/// All settings of the signalling gateway.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Separates the tags of installations that share a PBX; part of every contact token. A change makes
    /// new tokens for new registrations only.
    pub realm: String,
    /// The interoperability switches, tag routing, URI encoding and user matching among them: Appendix I.
    pub interop: InteropProfile,
    /// What we write into messages towards phones, and what else they call us.
    pub outside: Face,
    /// What we write into messages towards the PBX, and what else it calls us.
    pub inside: Face,
    /// The listeners, where there are several: see [`Config::add_listener`]. Who came by none of them is told the face
    /// of its side.
    pub listeners: Vec<Listener>,
    /// Where requests from phones may go: `sip.inside_networks`.
    pub inside_networks: Networks,
    /// Names and exceptions: `[[sip.servers]]`. The first one also takes requests that name ourselves from a
    /// phone that is not registered anywhere yet.
    pub servers: Vec<Server>,
    /// Domains whose names are looked up and may name switches: `net.internal_domains`.
    pub internal_domains: Vec<String>,
    /// How switches are reached: `[sip.inside]`.
    pub switches: Switches,
    /// How long a switch that refused a connection or let a request time out gets no other: `sip.blacklist`; zero turns it
    /// off.
    pub blacklist: Duration,
    /// Switches that are asked by OPTIONS whether they live: `[[monitor.sip]]`.
    pub monitor: Vec<Monitored>,
    /// What happens when several phones match a user other than `anonymous`: `sip.ambiguous_user`.
    pub ambiguous_user: Ambiguous,
    /// What happens to Route entries that a phone brings and that are not ours: `sip.preloaded_routes`.
    pub preloaded_routes: PreloadedRoutes,
    /// What happens to a 3xx that a switch answers a phone with: `sip.class_3xx`.
    pub class_3xx: Class3xx,
    /// Which requests from outside are served at all: `sip.default_policy`.
    pub default_policy: Policy,
    /// Which requests are served, by rules: `[[sip.filter]]` and its kin.
    pub filters: Filters,
    /// Incoming Max-Forwards above this are lowered to it, missing ones set to it: `sip.max_forwards`, 1 to 255.
    pub max_forwards: u32,
    /// How phones are kept reachable: `[fent]`.
    pub keep_alive: KeepAlive,
    /// Ceilings that keep memory flat.
    pub limits: Limits,
    /// Who may be asked for credentials: `[[sip.users]]`.
    pub users: Users,
    /// Who is limited and blocked: `[guard]`.
    pub guard: guard::Settings,
    /// Proxy timers.
    pub timers: Timers,
    /// Transaction timers and ceilings; its `patience` must exceed [`Timers::ringing_maximum`].
    pub transactions: transaction::Config,
}

impl Config {
    /// The teleworker defaults for a gateway with these two faces; no inside network yet, so nothing may be dialled.
    pub fn new(outside: Face, inside: Face) -> Self {
        Self {
            realm: "farend".to_owned(),
            interop: InteropProfile::teleworker(),
            switches: Switches {
                transport: inside.transport,
                port: inside.port,
                connections: Connections::PerPhone,
            },
            outside,
            inside,
            listeners: Vec::new(),
            inside_networks: Networks::new(),
            servers: Vec::new(),
            internal_domains: Vec::new(),
            blacklist: super::switches::BLACKLIST,
            monitor: Vec::new(),
            ambiguous_user: Ambiguous::Fork,
            preloaded_routes: PreloadedRoutes::Remove,
            class_3xx: Class3xx::Forward,
            default_policy: Policy::ProcessAll,
            filters: Filters::default(),
            max_forwards: 70,
            keep_alive: KeepAlive::default(),
            limits: Limits::default(),
            users: Users::default(),
            guard: guard::Settings::default(),
            timers: Timers::default(),
            transactions: transaction::Config::default(),
        }
    }
}

/// ContactRouteTag based routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRouting {
    /// Whether tags are extracted at all. Without, only users tell phones apart.
    pub enabled: bool,
    /// Contact head and tail.
    pub pattern: Option<Pattern>,
    /// Whether a phone's certificate must name its tag.
    pub cert_binding: CertBinding,
}

impl Default for TagRouting {
    /// Off, with the head and tail of the phones' instance; [`InteropProfile::teleworker`] turns it on.
    fn default() -> Self {
        Self {
            enabled: false,
            pattern: Pattern::new("+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-", ">").ok(),
            cert_binding: CertBinding::Log,
        }
    }
}

/// Whether the certificate's CN or SAN must contain the tag: `sip.tag_routing.tag_cert_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertBinding {
    /// Not looked at.
    Off,
    /// Reported.
    Log,
    /// A REGISTER that breaks the rule is refused with 403.
    Enforce,
}

/// One face of the gateway: its address in the messages we write there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// Host in Via, Record-Route and Contact: an address (IPv6 without brackets), or a name that resolves to it.
    pub host: String,
    /// Port in Via, Record-Route and Contact.
    pub port: u16,
    /// Transport in Via, Record-Route and Contact.
    pub transport: Transport,
    /// Other names and addresses that mean us on this side (public address, FQDN, further interfaces).
    pub aliases: Vec<String>,
}

impl Face {
    /// A face without further names.
    pub fn new(host: impl Into<String>, port: u16, transport: Transport) -> Self {
        Self { host: host.into(), port, transport, aliases: Vec::new() }
    }

    /// Whether this host is us. Without regard to port: all our ports are ours.
    pub fn is(&self, host: &str) -> bool {
        let host = bare(host);
        std::iter::once(&self.host).chain(&self.aliases).any(|own| host.eq_ignore_ascii_case(bare(own)))
    }

    /// `host:port` as it stands in a URI or Via; IPv6 in brackets.
    pub fn authority(&self) -> String {
        let host = bare(&self.host);
        // Only an IPv6 address has colons.
        if host.contains(':')
            && let Ok(IpAddr::V6(address)) = host.parse()
        {
            return format!("[{address}]:{}", self.port);
        }
        let mut text = Vec::with_capacity(self.host.len() + 6);
        text.extend_from_slice(self.host.as_bytes());
        text.push(b':');
        push_number(&mut text, u32::from(self.port));
        String::from_utf8(text).unwrap_or_default()
    }

    /// The URI scheme on this face: `sips` on TLS.
    pub fn scheme(&self) -> &'static str {
        if self.transport == Transport::Tls { "sips" } else { "sip" }
    }
}

fn bare(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host)
}

/// How switches are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Transport when the URI names none.
    pub transport: Transport,
    /// Port when the URI names none.
    pub port: u16,
    /// One connection for all phones, or one each.
    pub connections: Connections,
}

/// `sip.inside.connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// All phones share one connection to a switch.
    Shared,
    /// Each phone has its own, as on a LAN; a request that arrives on it belongs to that phone.
    PerPhone,
}

/// `sip.user_matching`. A lookup key, not authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserMatching {
    /// The unescaped user part.
    Username,
    /// The user part and the domain it registered at.
    #[default]
    UsernameAndDomain,
}

/// `sip.ambiguous_user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguous {
    /// All of them ring.
    Fork,
    /// The one that registered last.
    Newest,
    /// 485.
    Reject,
}

/// `sip.preloaded_routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreloadedRoutes {
    /// 403.
    Reject,
    /// Taken out; the Request-URI decides.
    Remove,
    /// Followed, if they name a place inside.
    Allow,
    /// The same, once the user of From has shown credentials of [`Config::users`]: 407 until then.
    Authenticate,
}

/// `sip.class_3xx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class3xx {
    /// It passes.
    #[default]
    Forward,
    /// A new request of a phone goes to its Contact, where that lies inside.
    Follow,
}

/// `sip.default_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every request.
    ProcessAll,
    /// Requests to ourselves and to configured servers and domains.
    LocalOnly,
    /// None.
    RejectAll,
}

/// Proxy timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How long a call may ring: timer C, more than three minutes in RFC 3261 §16.6 step 11; a 101 to 199 starts it anew.
    pub ringing: Duration,
    /// How long a call may ring in all, however often it is started anew.
    pub ringing_maximum: Duration,
    /// A call without any request for this long is forgotten.
    pub dialog_idle: Duration,
    /// How long a registration lasts when neither phone nor PBX says (RFC 3261 §10.2).
    pub default_expiry: Duration,
    /// How long a connection from outside may stay that carries no registration, call or request.
    pub flow_idle: Duration,
    /// How long the search for a switch may take; a change acts on searches that start then.
    pub lookup: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            ringing: Duration::from_secs(180),
            ringing_maximum: Duration::from_secs(300),
            dialog_idle: Duration::from_secs(12 * 3600),
            default_expiry: Duration::from_secs(3600),
            flow_idle: Duration::from_secs(600),
            lookup: Duration::from_secs(5),
        }
    }
}
