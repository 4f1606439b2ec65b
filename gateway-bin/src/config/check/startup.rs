//! `startup.cfg`: what a phone reads there must fit the rest of the configuration (CFG-08).

use tunnel::authority::Host;
use tunnel::startup_cfg::{Surroundings, parse};

use super::Judge;
use crate::config::file;
use crate::config::settings::{Endpoint, Settings};

/// The name phones ask for.
const STARTUP: &str = "/startup.cfg";

pub(super) fn judge(settings: &Settings, http: &file::Http, judge: &mut Judge<'_>) {
    for (name, written) in http.files.iter().filter(|(_, written)| written.path == STARTUP) {
        let served = settings.endpoints.values().find_map(|endpoint| match &endpoint.serves {
            Endpoint::Repository(row) => {
                row.files.iter().find(|file| file.path == written.path).map(|file| (row, file))
            }
            Endpoint::Tunnel(_) => None,
        });
        let Some((row, file)) = served else { continue };
        let group: Vec<Host> =
            row.remote.iter().flat_map(|remote| &remote.servers).filter_map(host).collect();
        let tunnels: Vec<(u16, _)> = settings
            .endpoints
            .values()
            .filter_map(|endpoint| match &endpoint.serves {
                Endpoint::Tunnel(row) => {
                    Some((endpoint.addresses.first()?.port(), settings.tunnel_policy(row).ok()?))
                }
                Endpoint::Repository(_) => None,
            })
            .collect();
        let ports: Vec<u16> = tunnels.iter().map(|(port, _)| *port).collect();
        let (startup, mut findings) = parse(&file.content);
        let asked = startup.tunnel_port;
        // The phone asks for the HQ server's own port; 443 where the configuration doesn't say.
        let hq =
            row.remote.iter().flat_map(|remote| &remote.servers).map(|(_, port)| *port).next().unwrap_or(443);
        let tunnel = tunnels.iter().find(|(port, _)| Some(*port) == asked).map(|(_, policy)| (policy, hq));
        let around =
            Surroundings { tunnel_ports: &ports, server_group: &group, tunnel, ..Surroundings::default() };
        findings.extend(startup.check(&around));
        let key =
            ["http", "files", name.as_str(), if written.content.is_some() { "content" } else { "source" }];
        for finding in findings {
            let message = format!("{STARTUP}: {finding}");
            if finding.problem.is_warning() {
                judge.warn(&key, message);
            } else {
                judge.refuse_by("CFG-08", &key, message);
            }
        }
    }
}

fn host((host, _): &(String, u16)) -> Option<Host> {
    match host.parse() {
        Ok(address) => Some(Host::Ip(address)),
        Err(_) => Some(Host::Name(host.to_ascii_lowercase())),
    }
}
