//! HTTP services: files, groups, endpoints, repositories and tunnels.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use tunnel::files::{ChecksumStyle, FileGroup, FileSource};

use super::net::judge_public;
use super::sip::{WrittenTls, client_certificate, everywhere, listen_tls};
use super::{Judge, Names};
use crate::config::file;
use crate::config::settings::{
    Endpoint, FileRepository, HttpFile, LocalEndpoint, NetSettings, RemoteEndpoint, TunnelRow,
};

pub(super) fn endpoints(
    http: &file::Http,
    net: Option<&NetSettings>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> BTreeMap<String, LocalEndpoint> {
    let files = files(http, judge);
    let mut serves: BTreeMap<&str, Endpoint> = BTreeMap::new();
    for (name, row) in &http.repositories {
        let key = ["http", "repositories", name, "endpoint"];
        judge.named(&key, &row.endpoint, "local endpoint", &http.local_endpoints);
        let repository = repository(name, row, http, &files, names, judge);
        occupy(&key, &mut serves, &row.endpoint, repository.map(Endpoint::Repository), judge);
    }
    for (name, row) in &http.tunnels {
        let key = ["http", "tunnels", name, "endpoint"];
        judge.named(&key, &row.endpoint, "local endpoint", &http.local_endpoints);
        let tunnel = tunnel(name, row, names, judge);
        occupy(&key, &mut serves, &row.endpoint, tunnel.map(Endpoint::Tunnel), judge);
    }
    let mut out = BTreeMap::new();
    for (name, row) in &http.local_endpoints {
        let Some(serves) = serves.remove(name.as_str()) else {
            judge
                .refuse(&["http", "local_endpoints", name], "no repository and no tunnel uses this endpoint");
            continue;
        };
        if let Some(endpoint) = local_endpoint(name, row, serves, net, names, judge) {
            out.insert(name.clone(), endpoint);
        }
    }
    out
}

fn occupy<'n>(
    key: &[&str],
    serves: &mut BTreeMap<&'n str, Endpoint>,
    endpoint: &'n str,
    what: Option<Endpoint>,
    judge: &mut Judge<'_>,
) {
    let Some(what) = what else { return };
    if serves.insert(endpoint, what).is_some() {
        judge.refuse(
            key,
            format!("\"{endpoint}\" serves another row already: several rows an endpoint are not built yet"),
        );
    }
}

fn files(http: &file::Http, judge: &mut Judge<'_>) -> BTreeMap<String, HttpFile> {
    let mut out = BTreeMap::new();
    for (name, row) in &http.files {
        let key = ["http", "files", name, "path"];
        let plain = row.path.starts_with('/')
            && row.path.len() > 1
            && !row.path.contains("..")
            && row.path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
        if !plain {
            judge.refuse(
                &key,
                format!("\"{}\" is not a path: expected /name of letters, digits and . _ - +", row.path),
            );
        }
        if row.path.ends_with(".sha256") {
            judge.refuse(&key, "names ending in .sha256 are made automatically");
        }
        let content = match (&row.content, &row.source) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(source)) => {
                let Some(content) = judge.contents(&["http", "files", name, "source"], source) else {
                    continue;
                };
                content
            }
            _ => {
                judge.refuse(&["http", "files", name], "expected either content or source");
                continue;
            }
        };
        out.insert(name.clone(), HttpFile { path: row.path.clone(), content });
    }
    out
}

fn repository(
    name: &str,
    row: &file::Repository,
    http: &file::Http,
    files: &BTreeMap<String, HttpFile>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<FileRepository> {
    let key = |part: &'static str| ["http", "repositories", name, part];
    judge.only(&key("methods"), &row.methods, "DEFAULT", &[]);
    if row.files.is_none() && row.remote.is_none() {
        judge.refuse(&["http", "repositories", name], "expected files, remote or both");
    }
    let group = match &row.files {
        Some(group) => {
            judge.named(&key("files"), group, "file group", &http.file_groups).map(|list| (group, list))
        }
        None => None,
    };
    let mut served = Vec::new();
    if let Some((group, list)) = group {
        let group_key = ["http", "file_groups", group];
        if list.is_empty() {
            judge.refuse(&group_key, "expected at least one file");
        }
        for file in list {
            let Some(file) = judge.named(&group_key, file, "file", files) else { continue };
            served.push(file.clone());
        }
        // What the service itself would refuse, before it does.
        let source = |file: &HttpFile| FileSource { path: file.path.clone(), content: Bytes::new() };
        if let Err(error) = FileGroup::new(served.iter().map(source), ChecksumStyle::default()) {
            judge.refuse(&group_key, error.to_string());
        }
    }
    let remote = match &row.remote {
        Some(remote) => {
            let written = judge.named(&key("remote"), remote, "remote endpoint", &http.remote_endpoints)?;
            Some(remote_endpoint(remote, written, http, names, judge)?)
        }
        None => None,
    };
    Some(FileRepository { name: name.to_owned(), files: served, remote })
}

fn remote_endpoint(
    name: &str,
    row: &file::RemoteEndpoint,
    http: &file::Http,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<RemoteEndpoint> {
    let key = |part: &'static str| ["http", "remote_endpoints", name, part];
    judge.only(&key("protocol"), &row.protocol, "https", &["http"]);
    match &row.verify {
        Some(trust) => drop(judge.named(&key("verify"), trust, "trust entry", names.trust)),
        None => judge.refuse(&key("verify"), "expected a trust entry: the HQ server is always verified"),
    }
    let Some(server_name) = row.server_name.clone().filter(|text| !text.is_empty()) else {
        judge.refuse(&key("server_name"), "expected the name in the server's certificate (CN or SAN)");
        return None;
    };
    if let Some(certificate) = &row.certificate {
        client_certificate(&key("certificate"), certificate, names, judge);
    }
    let group = judge.named(&key("group"), &row.group, "server group", &http.server_groups)?;
    let mut servers = Vec::new();
    for server in group {
        match split_host_port(server) {
            Some(split) => servers.push(split),
            None => judge.refuse(
                &["http", "server_groups", &row.group],
                format!("\"{server}\" is not a server: expected host:port"),
            ),
        }
    }
    if servers.is_empty() {
        judge.refuse(&["http", "server_groups", &row.group], "expected at least one server");
    }
    Some(RemoteEndpoint {
        servers,
        server_name,
        // A missing one is refused above.
        trust: row.verify.clone().unwrap_or_default(),
        certificate: row.certificate.clone(),
    })
}

/// `host:port`, with IPv6 addresses in brackets.
pub(super) fn split_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let usable =
        !host.is_empty() && (bare.is_some() || !host.contains(':')) && !host.contains(['/', ' ', '@']);
    usable.then(|| (host.to_owned(), port))
}

fn tunnel(name: &str, row: &file::Tunnel, names: &Names<'_>, judge: &mut Judge<'_>) -> Option<TunnelRow> {
    let key = |part: &'static str| ["http", "tunnels", name, part];
    judge.only(&key("methods"), &row.methods, "DEFAULT", &[]);
    let allow_to = judge.named(&key("allow_to"), &row.allow_to, "network", names.networks)?.clone();
    judge_public(&key("allow_to"), &allow_to, &row.allow_to, "that is an open proxy", judge);
    let mut ports = Vec::new();
    for value in &row.ports {
        match port_range(value) {
            Some(range) => ports.push(range),
            None => {
                judge.refuse(&key("ports"), format!("{value} is not a port: expected 443 or \"8000-8010\""))
            }
        }
    }
    Some(TunnelRow { name: name.to_owned(), allow_to, ports })
}

fn port_range(value: &toml::Value) -> Option<(u16, u16)> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    match value {
        toml::Value::Integer(number) => {
            u16::try_from(*number).ok().filter(|port| *port != 0).map(|port| (port, port))
        }
        toml::Value::String(text) => match text.split_once('-') {
            Some((low, high)) => port(low).zip(port(high)).filter(|(low, high)| low <= high),
            None => port(text).map(|port| (port, port)),
        },
        _ => None,
    }
}

fn local_endpoint(
    name: &str,
    row: &file::LocalEndpoint,
    serves: Endpoint,
    net: Option<&NetSettings>,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<LocalEndpoint> {
    let table = ["http", "local_endpoints", name];
    let key = |part: &'static str| ["http", "local_endpoints", name, part];
    let interfaces = [("inside", net.map(|net| &net.inside)), ("outside", net.map(|net| &net.outside))];
    let interface = judge.one_of(&key("interface"), &row.interface, &interfaces)??;
    let port = judge.number::<u16>(&key("port"), row.port, (1, 65535))?;
    let https = judge.one_of(&key("protocol"), &row.protocol, &[("https", true), ("http", false)])?;
    let tls = if https {
        let written = WrittenTls {
            certificate: row.certificate.as_deref(),
            trust: row.trust.as_deref(),
            require_client_cert: row.require_client_cert,
            versions: &row.tls,
        };
        Some(listen_tls(&table, &written, names, judge)?)
    } else {
        judge.refuse(&key("protocol"), "clear HTTP towards phones is not built: expected \"https\"");
        None
    };
    if row.interface == "outside" && https && !row.require_client_cert {
        judge.refuse_by("CFG-10", &key("require_client_cert"), "expected true on an outside https endpoint");
    }
    let allow_from = match &row.allow_from {
        Some(name) => judge.named(&key("allow_from"), name, "network", names.networks)?.clone(),
        None => everywhere(),
    };
    let addresses = interface.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    Some(LocalEndpoint { addresses, tls, allow_from, serves })
}
