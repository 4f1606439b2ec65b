//! The signalling half.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use acme_store::publish::Versions;
use ipnet::IpNet;
use sip_core::edge::config::{CertBinding, Class3xx, TagRouting, UserMatching};
use sip_core::edge::interop::{InteropProfile, UriEncoding};
use sip_core::edge::route_tag::{Pattern, PatternError};

use super::net::judge_public;
use super::{Judge, Names, fent, filter, interop, sessions, switches, users};
use crate::config::file;
use crate::config::settings::{
    CertificateOrigin, Connections, InsideTls, ListenTls, NetSettings, SipPort, SipSettings, Transport,
};

pub(super) fn settings(
    file: &file::File,
    net: Option<&NetSettings>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<SipSettings> {
    let sip = &file.sip;
    let shards = judge.number::<usize>(&["sip", "shards"], sip.shards, (0, 32));
    let dscp = judge.number::<u8>(&["sip", "dscp"], sip.dscp, (0, 63));
    let ports = ports(sip, net, names, judge);
    let inside_networks =
        judge.named(&["sip", "inside_networks"], &sip.inside_networks, "network", names.networks).cloned();
    if let Some(nets) = &inside_networks {
        let what = "phones could send anywhere";
        judge_public(&["sip", "inside_networks"], nets, &sip.inside_networks, what, judge);
    }
    let inside = inside(&sip.inside, names, judge);
    let servers = switches::servers(sip, net, judge);
    let monitor = switches::monitor(file, net, &ports, inside.as_ref(), judge);
    let interop = interop(file, names, judge);
    if sip.shards != 1 && interop.as_ref().is_some_and(|it| !it.transports.tls_reuse.is_empty()) {
        // A connection that a switch opened belongs to one shard; the phones of the others would meet 503.
        judge.refuse(&["sip", "interop", "tls_reuse"], "needs one shard: expected sip.shards = 1");
    }
    let preloaded_routes = filter::preloaded_routes(sip, judge);
    let default_policy = filter::default_policy(sip, judge);
    let users = users::users(sip, judge);
    let filters = filter::filters(sip, names, judge);
    let day = Duration::from_secs(24 * 3600);
    let key_rotation = judge.duration(
        &["sip", "tag_routing", "key_rotation"],
        &sip.tag_routing.key_rotation,
        (day, 3650 * day),
    );
    let timers = Timers::judged(sip, judge);
    let keep_alive = fent::settings(&file.fent, judge);
    let choices = [("forward", Class3xx::Forward), ("follow", Class3xx::Follow)];
    let class_3xx = judge.one_of(&["sip", "class_3xx"], &sip.class_3xx, &choices);
    let blacklist = judge.number::<u32>(&["sip", "blacklist"], sip.blacklist, (0, 3600));
    let timers = timers?;
    Some(SipSettings {
        shards: shards?,
        dscp: dscp?,
        ports,
        inside_networks: inside_networks?,
        preloaded_routes: preloaded_routes?,
        class_3xx: class_3xx?,
        users,
        default_policy: default_policy?,
        filters,
        inside: inside?,
        servers,
        monitor,
        interop: interop?,
        key_rotation: key_rotation?,
        invite_timeout_default: timers.invite_default,
        invite_timeout_max: timers.invite_max,
        t1: timers.t1,
        invite_retrans: timers.invite_retrans,
        other_retrans: timers.other_retrans,
        max_forwards: timers.max_forwards,
        max_message: timers.max_message,
        keep_alive: keep_alive?,
        stun_keepalive: file.fent.stun_keepalive,
        blacklist: Duration::from_secs(blacklist?.into()),
    })
}

/// Appendix I: the switches, and the settings of the same pages that have keys of their own.
fn interop(file: &file::File, names: &Names<'_>, judge: &mut Judge<'_>) -> Option<InteropProfile> {
    let sip = &file.sip;
    let written = interop::Written {
        sip,
        sdp: &file.sdp,
        media: &file.media,
        b2bua: &file.b2bua,
        dialplan: &file.dialplan,
    };
    let mut profile = interop::judge(&written, names, judge);
    sessions::settings(sip, judge, &mut profile.sessions);
    let modes = [
        ("always-encrypt", UriEncoding::AlwaysEncrypt),
        ("shorter", UriEncoding::Shorter),
        ("escape", UriEncoding::Escape),
        ("keep-username", UriEncoding::KeepUsername),
        ("gruu", UriEncoding::Gruu),
    ];
    let encoding = judge.one_of(&["sip", "uri_encoding"], &sip.uri_encoding, &modes);
    profile.contacts.use_registration = sip.uri_encoding_use_registration;
    let matching =
        [("username", UserMatching::Username), ("username-and-domain", UserMatching::UsernameAndDomain)];
    let matching = judge.one_of(&["sip", "user_matching"], &sip.user_matching, &matching);
    let tag_routing = tag_routing(&sip.tag_routing, encoding, judge);
    profile.contacts.uri_encoding = encoding?;
    profile.contacts.user_matching = matching?;
    profile.contacts.tag_routing = tag_routing?;
    Some(profile)
}

fn ports(
    sip: &file::Sip,
    net: Option<&NetSettings>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Vec<SipPort> {
    let mut out: Vec<SipPort> = Vec::new();
    for (at, row) in sip.ports.iter().enumerate() {
        let at = at.to_string();
        if out.iter().any(|known| known.name == row.name) {
            judge.refuse_by(
                "CFG-04",
                &["sip", "ports", &at, "name"],
                format!("a second row is named \"{}\"", row.name),
            );
        }
        if let Some(port) = port(&at, row, net, names, judge)
            && row.active
        {
            out.push(port);
        }
    }
    if judge.refused("sip.ports[") {
        return out;
    }
    if out.is_empty() {
        judge.refuse(&["sip", "ports"], "expected at least one active row");
    } else if !out.iter().any(|row| !row.inside) {
        judge.warn(&["sip", "ports"], "no active row faces the outside: no phone can connect");
    } else if !out.iter().any(|row| row.inside) {
        judge.warn(&["sip", "ports"], "no active row faces the inside: the switches can't connect");
    }
    out
}

fn port(
    at: &str,
    row: &file::Port,
    net: Option<&NetSettings>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<SipPort> {
    let key = |name: &'static str| ["sip", "ports", at, name];
    let inside = judge.one_of(&key("interface"), &row.interface, &[("inside", true), ("outside", false)]);
    let number = judge.number::<u16>(&key("port"), row.port, (1, 65535));
    let choices: [(&str, &[Transport]); 4] = [
        ("udp", &[Transport::Udp]),
        ("tcp", &[Transport::Tcp]),
        ("udp+tcp", &[Transport::Udp, Transport::Tcp]),
        ("tls", &[Transport::Tls]),
    ];
    let transports = judge.one_of(&key("transport"), &row.transport, &choices)?;
    if !row.intercept && row.interface == "inside" {
        judge.refuse(
            &key("intercept"),
            "the inside names phones by us alone: expected true, or an outside row",
        );
    }
    let allow_from = match &row.allow_from {
        Some(name) => judge.named(&key("allow_from"), name, "network", names.networks)?.clone(),
        None => everywhere(),
    };
    let tls = if transports.contains(&Transport::Tls) { Some(row_tls(at, row, names, judge)?) } else { None };
    let inside = inside?;
    trust_source(at, row, inside, &allow_from, judge);
    whom_it_lets_in(at, row, inside, tls.as_ref(), judge);
    let interface = net.map(|net| if inside { &net.inside } else { &net.outside })?;
    let number = number?;
    let addresses = interface.addresses.iter().map(|address| SocketAddr::new(*address, number)).collect();
    Some(SipPort {
        name: row.name.clone(),
        row: at.parse().unwrap_or(0),
        inside,
        addresses,
        transports: transports.to_vec(),
        allow_from,
        tls,
        trust_source: row.trust_source,
        intercept: row.intercept,
        host: if row.use_cn_fqdn { common_name(at, row, names, judge) } else { None },
    })
}

/// SIP-05: the host name that the row's certificate is for.
fn common_name(at: &str, row: &file::Port, names: &Names<'_>, judge: &mut Judge<'_>) -> Option<String> {
    let key = ["sip", "ports", at, "use_cn_fqdn"];
    if row.transport != "tls" {
        judge.refuse(&key, "there is no certificate here: expected transport = \"tls\", or false");
        return None;
    }
    let name = match names.certificates.get(row.certificate.as_deref()?)? {
        CertificateOrigin::Requested { common_name, .. } => Some(common_name.clone()),
        CertificateOrigin::Imported(credential) => credential.details().common_names.first().cloned(),
    };
    let is_host = |name: &String| {
        let labels = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        name.contains('.') && name.parse::<IpAddr>().is_err() && name.chars().all(labels)
    };
    let host = name.filter(is_host);
    if host.is_none() {
        judge.refuse(&key, "the certificate's common name is no host name: expected false");
    }
    host
}

fn row_tls(at: &str, row: &file::Port, names: &Names<'_>, judge: &mut Judge<'_>) -> Option<ListenTls> {
    let written = WrittenTls {
        certificate: row.certificate.as_deref(),
        trust: row.trust.as_deref(),
        require_client_cert: row.require_client_cert,
        versions: &row.tls,
    };
    listen_tls(&["sip", "ports", at], &written, names, judge)
}

/// What a row must demand of those who connect.
fn whom_it_lets_in(at: &str, row: &file::Port, inside: bool, tls: Option<&ListenTls>, judge: &mut Judge<'_>) {
    let key = |name: &'static str| ["sip", "ports", at, name];
    if tls.is_none() {
        let keys = [
            ("certificate", row.certificate.is_some()),
            ("trust", row.trust.is_some()),
            ("require_client_cert", row.require_client_cert),
            ("tls", row.tls != file::TLS_VERSIONS),
        ];
        only_with_tls(&["sip", "ports", at], &keys, judge);
    }
    match tls {
        Some(tls) if !inside && !tls.require_client_cert => {
            judge.refuse_by("CFG-10", &key("require_client_cert"), "expected true on an outside TLS row");
        }
        None if !inside && !row.trust_source => judge.warn(
            &key("transport"),
            "nobody can show a certificate here, so that every request is answered 403: expected \"tls\", or \
             trust_source on a private wire",
        ),
        _ => {}
    }
}

/// Keys that do nothing without TLS: whoever writes one expects it to act.
fn only_with_tls(table: &[&str], keys: &[(&str, bool)], judge: &mut Judge<'_>) {
    for (name, _) in keys.iter().filter(|(_, written)| *written) {
        let key = [table, &[*name]].concat();
        judge.refuse(&key, "there is no TLS here: expected transport = \"tls\", or the key left out");
    }
}

/// Decision 3: peers of a row without TLS may count as verified, from a named network only. On the outside that network
/// is a private wire, a VPN or a carrier's, never the Internet.
fn trust_source(at: &str, row: &file::Port, inside: bool, allow_from: &[IpNet], judge: &mut Judge<'_>) {
    if !row.trust_source {
        return;
    }
    let key = ["sip", "ports", at, "trust_source"];
    let wide = |net: &&IpNet| net.prefix_len() < if net.addr().is_ipv4() { 8 } else { 32 };
    if row.allow_from.is_none() {
        judge.refuse(&key, "trust_source needs allow_from: who may be trusted by address?");
    } else if row.transport == "tls" {
        judge.refuse(&key, "trust_source is for rows without TLS: here the certificate says who it is");
    } else if let Some(net) = allow_from.iter().filter(|_| !inside).find(wide) {
        let why = format!(
            "allow_from covers {net}: on the Internet an address proves nothing; expected networks of /8 (IPv6: /32) \
             or narrower"
        );
        judge.refuse(&key, why);
    } else {
        judge.warn(&key, "peers of this row are trusted by their address alone");
    }
}

pub(super) fn everywhere() -> Vec<IpNet> {
    let v4 = ipnet::Ipv4Net::default();
    let v6 = ipnet::Ipv6Net::default();
    vec![v4.into(), v6.into()]
}

pub(super) struct WrittenTls<'a> {
    pub(super) certificate: Option<&'a str>,
    pub(super) trust: Option<&'a str>,
    pub(super) require_client_cert: bool,
    pub(super) versions: &'a str,
}

pub(super) fn listen_tls(
    row: &[&str],
    written: &WrittenTls<'_>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<ListenTls> {
    let key = |name: &'static str| [row, &[name]].concat();
    let Some(certificate) = written.certificate else {
        judge.refuse_by("CFG-11", &key("certificate"), "a TLS listener needs a certificate");
        return None;
    };
    judge.named(&key("certificate"), certificate, "certificate", names.certificates);
    if let Some(trust) = written.trust {
        judge.named(&key("trust"), trust, "trust entry", names.trust);
    } else if written.require_client_cert {
        judge.refuse_by(
            "CFG-10",
            &key("trust"),
            "require_client_cert needs a trust entry to judge clients by",
        );
    }
    let choices = [("1.2+", Versions::V12AndUp), ("1.2", Versions::V12), ("1.3", Versions::V13)];
    let versions = judge.one_of(&key("tls"), written.versions, &choices)?;
    Some(ListenTls {
        certificate: certificate.to_owned(),
        trust: written.trust.map(str::to_owned),
        require_client_cert: written.require_client_cert,
        versions,
    })
}

fn inside(written: &file::SipInside, names: &Names<'_>, judge: &mut Judge<'_>) -> Option<InsideTls> {
    let key = |name: &'static str| ["sip", "inside", name];
    let transports = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];
    let transport = judge.one_of(&key("transport"), &written.transport, &transports);
    let port = judge.number::<u16>(&key("port"), written.port, (1, 65535));
    let verify_name = judge.one_of(&key("verify"), &written.verify, &[("chain", false), ("name", true)]);
    let kinds = [("shared", Connections::Shared), ("per-phone", Connections::PerPhone)];
    let connections = judge.one_of(&key("connections"), &written.connections, &kinds);
    if transport == Some(Transport::Tls) {
        match &written.certificate {
            Some(name) => client_certificate(&key("certificate"), name, names, judge),
            None => judge.refuse(&key("certificate"), "mutual TLS towards the switches needs a certificate"),
        }
        match &written.trust {
            Some(name) => drop(judge.named(&key("trust"), name, "trust entry", names.trust)),
            None => judge.refuse(&key("trust"), "TLS towards the switches needs a trust entry"),
        }
    } else if transport.is_some() {
        let tls = [
            ("certificate", written.certificate.is_some()),
            ("trust", written.trust.is_some()),
            ("verify", written.verify != file::VERIFY_CHAIN),
        ];
        only_with_tls(&["sip", "inside"], &tls, judge);
    }
    Some(InsideTls {
        transport: transport?,
        port: port?,
        certificate: written.certificate.clone(),
        trust: written.trust.clone(),
        verify_name: verify_name?,
        connections: connections?,
    })
}

/// CFG-14: public CAs no longer issue for TLS clients, so an ACME certificate can't be shown as one.
pub(super) fn client_certificate(key: &[&str], name: &str, names: &Names<'_>, judge: &mut Judge<'_>) {
    let origin = judge.named(key, name, "certificate", names.certificates);
    if let Some(CertificateOrigin::Requested { acme: Some(_), .. }) = origin {
        judge.refuse_by(
            "CFG-14",
            key,
            format!("\"{name}\" comes from ACME, and public CAs no longer issue for TLS clients: expected an imported one"),
        );
    }
}

fn tag_routing(
    written: &file::TagRouting,
    encoding: Option<UriEncoding>,
    judge: &mut Judge<'_>,
) -> Option<TagRouting> {
    let key = |name: &'static str| ["sip", "tag_routing", name];
    let pattern = Pattern::new(&written.head, &written.tail);
    if let Err(error) = pattern {
        let part = if error == PatternError::LongTail { "tail" } else { "head" };
        judge.refuse(&key(part), error.to_string());
    }
    let kinds = [("off", CertBinding::Off), ("log", CertBinding::Log), ("enforce", CertBinding::Enforce)];
    let binding = judge.one_of(&key("tag_cert_binding"), &written.tag_cert_binding, &kinds)?;
    // In the other encodings a phone's certificate and user name it.
    if !written.enabled && encoding == Some(UriEncoding::KeepUsername) {
        judge.warn(
            &key("enabled"),
            "without tag routing, phones that register as one user can't be told apart [CFG-09]",
        );
    }
    Some(TagRouting { enabled: written.enabled, pattern: pattern.ok(), cert_binding: binding })
}

struct Timers {
    invite_default: Duration,
    invite_max: Duration,
    t1: Duration,
    invite_retrans: u32,
    other_retrans: u32,
    max_forwards: u8,
    max_message: usize,
}

impl Timers {
    fn judged(sip: &file::Sip, judge: &mut Judge<'_>) -> Option<Self> {
        let invite_max =
            judge.number::<u32>(&["sip", "invite_timeout_max"], sip.invite_timeout_max, (60, 86_400));
        let default_key = ["sip", "invite_timeout_default"];
        let invite_default = judge.number::<u32>(&default_key, sip.invite_timeout_default, (1, 86_400));
        if sip.invite_timeout_default > sip.invite_timeout_max {
            judge.refuse_by("CFG-15", &default_key, "expected no more than invite_timeout_max");
        }
        if !(0.1..=5.0).contains(&sip.t1) {
            judge.refuse_by(
                "CFG-15",
                &["sip", "t1"],
                format!("{} is out of range: expected 0.1 to 5", sip.t1),
            );
            return None;
        }
        let invite_retrans = judge.number::<u32>(&["sip", "invite_retrans"], sip.invite_retrans, (0, 12));
        let other_retrans = judge.number::<u32>(&["sip", "other_retrans"], sip.other_retrans, (0, 20));
        let max_forwards = judge.number::<u8>(&["sip", "max_forwards"], sip.max_forwards, (1, 255));
        let max_message = judge.number::<usize>(&["sip", "max_message"], sip.max_message, (1500, 1_048_576));
        Some(Self {
            invite_default: Duration::from_secs(invite_default?.into()),
            invite_max: Duration::from_secs(invite_max?.into()),
            t1: Duration::from_secs_f64(sip.t1),
            invite_retrans: invite_retrans?,
            other_retrans: other_retrans?,
            max_forwards: max_forwards?,
            max_message: max_message?,
        })
    }
}
