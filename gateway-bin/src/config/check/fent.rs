//! Far-end NAT traversal: how phones are kept reachable (MED-02).

use std::time::Duration;

use sip_core::edge::config::{KeepAlive, KeepAliveMethod};

use super::Judge;
use crate::config::file;

/// NATs forget a stream after a minute and datagrams after half a minute, the impatient ones.
const NAT: [(&str, i64); 2] = [("keep_alive_stream", 60), ("keep_alive_udp", 30)];

pub(super) fn settings(fent: &file::Fent, judge: &mut Judge<'_>) -> Option<KeepAlive> {
    let key = ["fent", "keep_alive"];
    let methods = [
        ("auto", KeepAliveMethod::Auto),
        ("options", KeepAliveMethod::Options),
        ("register", KeepAliveMethod::Register),
        ("crlf", KeepAliveMethod::Crlf),
        ("off", KeepAliveMethod::Off),
    ];
    let method = judge.one_of(&key, &fent.keep_alive, &methods);
    let written = [fent.keep_alive_stream, fent.keep_alive_udp];
    let mut intervals = [None; 2];
    for (((name, nat), seconds), interval) in NAT.into_iter().zip(written).zip(&mut intervals) {
        let key = ["fent", name];
        *interval = judge.number::<u32>(&key, seconds, (10, 3_600));
        if interval.is_some() && seconds >= nat && method != Some(KeepAliveMethod::Off) {
            judge.warn(&key, format!("many NATs forget after {nat} s: expected less"));
        }
    }
    let [stream, datagram] = intervals.map(|seconds| seconds.map(|s| Duration::from_secs(s.into())));
    Some(KeepAlive { method: method?, stream: stream?, datagram: datagram? })
}
