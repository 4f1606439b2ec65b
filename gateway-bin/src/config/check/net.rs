//! Interfaces, "Networks and Computers", name servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use tunnel::policy::Networks;

use super::Judge;
use crate::config::file;
use crate::config::settings::{Interface, NetSettings};

/// The groups, flattened to prefixes. A group that is refused is left out.
pub(super) fn networks(net: &file::Net, judge: &mut Judge<'_>) -> BTreeMap<String, Vec<IpNet>> {
    let mut flat = BTreeMap::new();
    for name in net.networks.keys() {
        let mut prefixes = Vec::new();
        flatten(name, &net.networks, &mut Flattening::default(), &mut prefixes, judge);
        if prefixes.is_empty() && !judge.refused("net.networks.") {
            judge.refuse(&["net", "networks", name], "the network is empty: expected at least one address");
        }
        flat.insert(name.clone(), IpNet::aggregate(&prefixes));
    }
    flat
}

/// Where the flattening of one group stands.
#[derive(Default)]
struct Flattening<'n> {
    /// The groups that led here, to find one that contains itself.
    above: Vec<&'n str>,
    /// The groups that are in already: a second time they add nothing, however often groups nest.
    done: BTreeSet<&'n str>,
}

fn flatten<'n>(
    name: &'n str,
    groups: &'n BTreeMap<String, Vec<String>>,
    state: &mut Flattening<'n>,
    out: &mut Vec<IpNet>,
    judge: &mut Judge<'_>,
) {
    let key = ["net", "networks", name];
    if state.above.contains(&name) {
        let way = state.above.join("\", \"@");
        judge.refuse_by("NET-04", &key, format!("the network contains itself by way of \"@{way}\""));
        return;
    }
    let Some(entries) = groups.get(name) else { return };
    if !state.done.insert(name) {
        return;
    }
    state.above.push(name);
    let is_top = state.above.len() == 1;
    for entry in entries {
        if let Some(group) = entry.strip_prefix('@') {
            if groups.contains_key(group) {
                flatten(group, groups, state, out, judge);
            } else if is_top {
                judge.named(&key, group, "network", groups);
            }
            continue;
        }
        match prefixes(entry) {
            Ok(found) => out.extend(found),
            // Named once, at the group that holds the entry.
            Err(why) if is_top => judge.refuse_by("NET-04", &key, why),
            Err(_) => {}
        }
    }
    state.above.pop();
}

/// One entry: an address, a prefix, or a range `a-b`.
pub(super) fn prefixes(entry: &str) -> Result<Vec<IpNet>, String> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(vec![IpNet::from(address)]);
    }
    if entry.contains('/') {
        return match entry.parse::<IpNet>() {
            Ok(net) if net.trunc() == net => Ok(vec![net]),
            Ok(net) => Err(format!("\"{entry}\" has bits behind its mask: expected \"{}\"", net.trunc())),
            Err(_) => Err(format!("\"{entry}\" is not a prefix: expected a.b.c.d/n")),
        };
    }
    if let Some((low, high)) = entry.split_once('-')
        && let (Ok(low), Ok(high)) = (low.trim().parse(), high.trim().parse())
    {
        return match (low, high) {
            (IpAddr::V4(low), IpAddr::V4(high)) if low <= high => {
                Ok(Ipv4Subnets::new(low, high, 0).map(IpNet::V4).collect())
            }
            (IpAddr::V6(low), IpAddr::V6(high)) if low <= high => {
                Ok(Ipv6Subnets::new(low, high, 0).map(IpNet::V6).collect())
            }
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                Err(format!("the range \"{entry}\" ends before it begins"))
            }
            _ => Err(format!("the range \"{entry}\" mixes IPv4 and IPv6")),
        };
    }
    Err(format!(
        "\"{entry}\" is neither an address, a prefix, a range nor \"@group\" (names of hosts are not built here yet)"
    ))
}

pub(super) fn settings(net: &file::Net, judge: &mut Judge<'_>) -> Option<NetSettings> {
    for name in net.interfaces.keys() {
        if name != "inside" && name != "outside" {
            judge.refuse(
                &["net", "interfaces", name],
                "only the interfaces \"inside\" and \"outside\" are built yet",
            );
        }
    }
    let inside = interface("inside", net, judge);
    let outside = interface("outside", net, judge);
    let mut dns = Vec::new();
    for server in &net.dns {
        match (server.parse::<IpAddr>(), server.parse::<SocketAddr>()) {
            (Ok(address), _) => dns.push(SocketAddr::new(address, 53)),
            (_, Ok(address)) => dns.push(address),
            _ => judge
                .refuse(&["net", "dns"], format!("\"{server}\" is not an address: expected an IP address")),
        }
    }
    let internal_domains =
        net.internal_domains.iter().map(|name| name.trim_matches('.').to_lowercase()).collect();
    Some(NetSettings { inside: inside?, outside: outside?, dns, internal_domains })
}

fn interface(name: &str, net: &file::Net, judge: &mut Judge<'_>) -> Option<Interface> {
    let key = ["net", "interfaces", name];
    let Some(written) = net.interfaces.get(name) else {
        judge.refuse(&key, format!("the interface \"{name}\" is missing"));
        return None;
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in &written.addresses {
        match text.parse::<IpAddr>() {
            Ok(address) if addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) => {
                judge.refuse(&key, format!("\"{text}\": at most one address a family is built yet"));
            }
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                judge.refuse(&key, format!("\"{text}\" is not an address of this machine"));
            }
            Ok(address) => addresses.push(address),
            Err(_) => judge.refuse(&key, format!("\"{text}\" is not an IP address")),
        }
    }
    if addresses.is_empty() {
        judge.refuse(&key, "expected at least one address");
        return None;
    }
    let public = written.public_address.as_deref();
    let public_address = public.and_then(|text| match text.parse::<IpAddr>() {
        Ok(address)
            if name == "outside" && !addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4()) =>
        {
            judge.refuse_by(
                "CFG-13",
                &key,
                format!("public_address: no address of the family of {address} stands behind it"),
            );
            None
        }
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            judge.refuse(&key, format!("public_address: \"{text}\" is nobody's address"));
            None
        }
        Ok(address) if name == "outside" => Some(address),
        Ok(_) => {
            judge.refuse_by(
                "CFG-13",
                &key,
                "public_address: only the outside interface stands behind a 1:1 NAT",
            );
            None
        }
        Err(_) => {
            judge.refuse(
                &key,
                format!("public_address: \"{text}\" is not an IP address (names are not built yet)"),
            );
            None
        }
    });
    Some(Interface { addresses, public_address })
}

/// Whether a network is all addresses of a family, or half of them.
pub(super) fn is_everybody(net: &IpNet) -> bool {
    net.prefix_len() <= 1
}

/// CFG-16: networks through which strangers could be reached. A prefix wider than a site's is refused, a narrower one
/// (a PBX may have public addresses) is worth a warning.
pub(super) fn judge_public(key: &[&str], nets: &[IpNet], name: &str, what: &str, judge: &mut Judge<'_>) {
    let public = |net: &&IpNet| Networks::parse([net.to_string()]).is_ok_and(|net| net.reaches_public());
    let wide = |net: &&IpNet| net.prefix_len() < if net.addr().is_ipv4() { 24 } else { 64 };
    if let Some(net) = nets.iter().filter(public).find(wide) {
        judge.refuse_by("CFG-16", key, format!("\"{name}\" covers public space ({net}): {what}"));
    } else if let Some(net) = nets.iter().find(public) {
        judge.warn(key, format!("\"{name}\" reaches public addresses ({net}) [CFG-16]"));
    }
}
