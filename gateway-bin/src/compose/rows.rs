//! Which rows of a configuration listen where.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sip_core::flow::ListenerId;

use super::listen::{self, BindError};
use crate::config::{Settings, SipPort, Transport};

/// The listener of HTTP-01 challenges.
pub(super) const CHALLENGES: &str = "acme";

/// The name of a SIP row in logs.
pub(super) fn sip_name(port: &SipPort) -> String {
    format!("sip.ports \"{}\"", port.name)
}

/// The name of an HTTP endpoint in logs.
pub(super) fn http_name(name: &str) -> String {
    format!("http.local_endpoints \"{name}\"")
}

/// Every TCP listener of a configuration, with the name of its row.
pub(super) fn wanted(settings: &Settings) -> BTreeMap<SocketAddr, String> {
    let tcp = |port: &&SipPort| port.transports.iter().any(|transport| *transport != Transport::Udp);
    let sip = settings.sip.ports.iter().filter(tcp).map(|port| (sip_name(port), &port.addresses));
    let http = settings.endpoints.iter().map(|(name, endpoint)| (http_name(name), &endpoint.addresses));
    let rows = sip.chain(http);
    let named = rows.flat_map(|(name, addresses)| addresses.iter().map(move |at| (*at, name.clone())));
    named.chain(settings.challenges.iter().map(|at| (*at, CHALLENGES.to_owned()))).collect()
}

/// Every UDP listener, with its row.
pub(super) fn datagram_rows(settings: &Settings) -> BTreeMap<SocketAddr, &SipPort> {
    let rows = settings.sip.ports.iter().filter(|port| port.transports.contains(&Transport::Udp));
    rows.flat_map(|port| port.addresses.iter().map(move |address| (*address, port))).collect()
}

/// Binds the UDP addresses that are not open yet.
pub(super) fn bind_datagrams(
    settings: &Settings,
    open: &BTreeMap<SocketAddr, ListenerId>,
) -> Result<Vec<(SocketAddr, std::net::UdpSocket)>, BindError> {
    let rows = datagram_rows(settings).into_iter().filter(|(address, _)| !open.contains_key(address));
    rows.map(|(address, row)| Ok((address, listen::datagrams(&sip_name(row), address)?))).collect()
}

/// Every listener with its address.
pub(super) fn listening(settings: &Settings) -> impl Iterator<Item = (&str, &SocketAddr)> {
    let ports = settings.sip.ports.iter().map(|row| (row.name.as_str(), &row.addresses));
    let endpoints = settings.endpoints.iter().map(|(name, row)| (name.as_str(), &row.addresses));
    ports.chain(endpoints).flat_map(|(name, addresses)| addresses.iter().map(move |address| (name, address)))
}
