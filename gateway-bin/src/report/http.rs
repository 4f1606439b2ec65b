//! HTTP events as log lines.

use tracing::{debug, info, warn};
use tunnel::event::{Access, Event, Peer};

/// Writes one line for `event` of the endpoint `name`. Queries may hold secrets and are left out.
pub(crate) fn log(name: &str, event: &Event) {
    match event {
        Event::Request(access) => request(name, access),
        Event::Unreadable { peer, status } => {
            debug!(endpoint = name, remote = %peer.remote, status, "not a request");
        }
        Event::TunnelOpened { id, peer, target, address } => {
            info!(endpoint = name, id = id.0, subject = subject(peer), remote = %peer.remote, %target, %address, "tunnel opened");
        }
        Event::TunnelClosed { id, peer, target, address, up, down, duration, end } => {
            let seconds = duration.as_secs();
            info!(
                endpoint = name,
                id = id.0,
                subject = subject(peer),
                %target,
                %address,
                up,
                down,
                seconds,
                ?end,
                "tunnel closed"
            );
        }
        Event::ServerFailed { remote, server, reason } => {
            warn!(endpoint = name, remote, server, reason, "a server of the remote endpoint failed");
        }
        _ => {}
    }
}

fn request(name: &str, access: &Access) {
    let Access { peer, method, target, status, refusal, sent, complete, duration, .. } = access;
    let milliseconds = duration.as_millis();
    info!(
        endpoint = name,
        subject = subject(peer),
        remote = %peer.remote,
        method,
        target,
        status,
        ?refusal,
        sent,
        complete,
        milliseconds,
        "request"
    );
}

fn subject(peer: &Peer) -> &str {
    peer.identity.as_ref().map_or("-", |identity| identity.subject.as_str())
}
