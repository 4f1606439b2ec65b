//! The configuration of the demonstration: the shipped one with the addresses of a laboratory, written as
//! text and judged like any other.

use std::path::Path;

use twin::fault::Fault;
use twin::pki::Files;
use twin::plan::Plan;
use twin::site::Addresses;

/// The gateway's ports, free when they were chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) sip: u16,
    pub(super) files: u16,
    pub(super) tunnel: u16,
    pub(super) http: u16,
    pub(super) inside_sip: u16,
}

impl Ports {
    pub(super) fn choose(plan: &Plan) -> std::io::Result<Self> {
        let outside = || twin::plan::free_port(plan.gateway_outside);
        Ok(Self {
            sip: outside()?,
            files: outside()?,
            tunnel: outside()?,
            http: outside()?,
            inside_sip: twin::plan::free_port(plan.gateway_inside)?,
        })
    }
}

/// The text of the configuration, with the part `fault` names switched off.
pub(super) fn text(
    plan: &Plan,
    site: &Addresses,
    ports: Ports,
    files: &Files,
    fault: Option<Fault>,
) -> String {
    let broken = |part| fault == Some(part);
    let state = files.folder.join("state");
    let certificate = if broken(Fault::Certificate) { &files.outside_stranger } else { &files.outside };
    let tag_routing = !broken(Fault::TagRouting);
    let startup = if broken(Fault::File) { "/elsewhere.cfg" } else { "/startup.cfg" };
    let hq = site.hq_https;
    let shown = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    format!(
        r##"# Written by `farend demo` and thrown away.
state_dir = {state}
lab = true

[net.interfaces]
inside  = {{ addresses = ["{inside}"] }}
outside = {{ addresses = ["{outside}"] }}
[net.networks]
internet = ["0.0.0.0/0"]
site     = ["{site_net}"]

[acme.accounts.main]
contact = ["mailto:admin@example.com"]
[acme.services.none]
host = "127.99.1.1"
directory = "directory"
[acme.domains.public]
service = "none"
account = "main"
challenge = "outside"
challenge_port = {http}

[certificates.outside]
import = {certificate}
[certificates.inside]
import = {hq_signed}
[trust.authorized]
bundles = [{bundle}]

[[sip.ports]]
name = "phones"
interface = "outside"
port = {sip}
transport = "tls"
allow_from = "internet"
certificate = "outside"
require_client_cert = true
trust = "authorized"
[[sip.ports]]
name = "switches"
interface = "inside"
port = {inside_sip}
transport = "tls"
allow_from = "site"
certificate = "inside"
require_client_cert = true
trust = "authorized"

[sip]
inside_networks = "site"
uri_encoding = "keep-username"
user_matching = "username"
preloaded_routes = "remove"
[sip.inside]
transport = "tls"
port = {switch}
certificate = "inside"
trust = "authorized"
verify = "chain"
connections = "per-phone"
[sip.tag_routing]
enabled = {tag_routing}

[media]
ttl = 64
sender_limit = "multiple"

[http.files.startup]
path = "{startup}"
content = """
mivoice config server: {hq_ip}
tunnel port: {tunnel}
backup outbound proxy:
"""
[http.file_groups]
local = ["startup"]
[http.local_endpoints.normal-https]
interface = "outside"
port = {files_port}
protocol = "https"
certificate = "outside"
require_client_cert = true
trust = "authorized"
[http.local_endpoints.secure-tunnel]
interface = "outside"
port = {tunnel}
protocol = "https"
certificate = "outside"
require_client_cert = true
trust = "authorized"
[http.server_groups]
hq = ["{hq}"]
[http.remote_endpoints.hq-server]
group = "hq"
protocol = "https"
verify = "authorized"
server_name = "{hq_name}"
certificate = "inside"
[http.repositories.files]
endpoint = "normal-https"
files = "local"
remote = "hq-server"
[http.tunnels.tunnel]
endpoint = "secure-tunnel"
allow_to = "site"

[log]
level = "warn"
"##,
        state = shown(&state),
        inside = plan.gateway_inside,
        outside = plan.gateway_outside,
        site_net = plan.site,
        http = ports.http,
        certificate = shown(certificate),
        hq_signed = shown(&files.hq_signed),
        bundle = shown(&files.authorized_ca_bundle),
        sip = ports.sip,
        inside_sip = ports.inside_sip,
        switch = site.switches[0].port(),
        hq_ip = hq.ip(),
        tunnel = ports.tunnel,
        files_port = ports.files,
        hq_name = site.hq_name,
    )
}
