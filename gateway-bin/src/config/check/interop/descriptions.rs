//! The switches of session descriptions whose values are no flags: how each is read, and what is refused.

use sdp_core::policy::Codecs;
use sip_core::edge::interop::{InteropProfile, MediaPorts, Sdp};
use toml::Value;

use super::super::{Judge, nearest};
use super::texts;

/// Reads a value into the profile.
pub(super) type Read = fn(&[&str], &Value, &mut Sdp, &mut Judge<'_>);

/// `""`, or a number within a range and of a step.
fn number(value: &Value, range: (i64, i64), step: i64) -> Option<Option<u8>> {
    match value {
        Value::String(text) if text.is_empty() => Some(None),
        Value::Integer(number) if (range.0..=range.1).contains(number) && number % step == 0 => {
            u8::try_from(*number).ok().map(Some)
        }
        _ => None,
    }
}

/// SDP-13.
pub(super) fn force_ptime(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    match number(value, (10, 120), 10) {
        Some(ptime) => sdp.force_ptime = ptime,
        None => judge.refuse(key, format!("{value} is no packet time: expected \"\", 10, 20, 30, … or 120")),
    }
}

/// INT-67. Static numbers belong to codecs (RFC 3551 §6).
pub(super) fn add_dtmf_pt(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    match number(value, (96, 127), 1) {
        Some(payload_type) => sdp.add_dtmf_pt = payload_type,
        None => {
            let expected = "expected \"\", or 96 to 127";
            judge.refuse(key, format!("{value} is no dynamic payload type: {expected}"));
        }
    }
}

/// SDP-17.
pub(super) fn max_streams(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    match number(value, (1, 32), 1) {
        Some(Some(streams)) => sdp.max_streams = streams,
        _ => judge.refuse(key, format!("{value} is no number of streams: expected 1 to 32")),
    }
}

/// SDP-15.
pub(super) fn codecs(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    let entries = texts(key, value, judge);
    match Codecs::parse(&entries) {
        Ok(_) => {
            entries.iter().for_each(|entry| doubt(key, entry, judge));
            sdp.codecs = entries.into_iter().map(str::to_owned).collect();
        }
        Err(bad) => judge.refuse(key, bad.to_string()),
    }
}

/// Names that phones and switches give to codecs (IANA, "RTP Payload Format Media Types"). Others may exist.
const CODECS: [&str; 39] = [
    "PCMU",
    "PCMA",
    "G722",
    "G7221",
    "G723",
    "G726-16",
    "G726-24",
    "G726-32",
    "G726-40",
    "G728",
    "G729",
    "G729D",
    "G729E",
    "GSM",
    "iLBC",
    "opus",
    "AMR",
    "AMR-WB",
    "EVS",
    "speex",
    "SILK",
    "L8",
    "L16",
    "DVI4",
    "LPC",
    "CN",
    "red",
    "rtx",
    "telephone-event",
    "t140",
    "clearmode",
    "H261",
    "H263",
    "H263-1998",
    "H263-2000",
    "H264",
    "H265",
    "VP8",
    "VP9",
];

/// A name that no description has lets every call end in 488 where only listed codecs remain.
fn doubt(key: &[&str], entry: &str, judge: &mut Judge<'_>) {
    let name = entry.trim_start_matches('!').split('/').next().unwrap_or_default();
    if !CODECS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        let near = nearest(name, CODECS.into_iter());
        judge.warn(
            key,
            format!("\"{entry}\": descriptions hardly have a codec of that name, as PCMU or PCMA{near}"),
        );
    }
}

/// SAM-24. What it says together with the list is settled when all keys are read.
pub(super) fn codec_limit(key: &[&str], value: &Value, _: &mut Sdp, judge: &mut Judge<'_>) {
    if !matches!(value.as_str(), Some("all" | "listed")) {
        judge.refuse(key, format!("{value} is not known: expected \"all\" or \"listed\""));
    }
}

/// SDP-16. The lines a description can't do without are refused, and so is a beginning that fits them.
pub(super) fn strip_lines(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    for text in texts(key, value, judge) {
        match text.as_bytes() {
            [b'v' | b'o' | b's' | b't' | b'm' | b'c', b'=', ..] => {
                let why = "every description needs such lines, or we write them: v= o= s= t= m= c= stay";
                judge.refuse(key, format!("\"{text}\": {why}"));
            }
            [b'a'..=b'z', b'=', ..] if text != "a=" => sdp.strip_lines.push(text.to_owned()),
            _ => judge.refuse(
                key,
                format!("\"{text}\" begins no line: expected a letter and =, as \"b=\" or \"a=silenceSupp\""),
            ),
        }
    }
}

/// SDP-21.
pub(super) fn pass_transports(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    for text in texts(key, value, judge) {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~/".contains(&b);
        if text.is_empty() || !text.bytes().all(token) {
            judge.refuse(key, format!("\"{text}\" is no transport: expected a token as \"TCP/MSRP\""));
        } else if sdp_core::policy::Transport::parse(text.as_bytes()).is_some() {
            judge.refuse(key, format!("\"{text}\" is relayed: expected a transport that is not"));
        } else {
            sdp.pass_transports.push(text.to_owned());
        }
    }
    if !sdp.pass_transports.is_empty() {
        judge.warn(key, "streams that pass show each side the addresses of the other");
    }
}

/// SDP-18: rows of transport, lower and upper; overlapping ranges become one.
pub(super) fn allowed_ports(key: &[&str], value: &Value, sdp: &mut Sdp, judge: &mut Judge<'_>) {
    let Some(rows) = value.as_array() else {
        return judge.refuse(key, "expected rows of transport, lower and upper");
    };
    let mut ranges = Vec::new();
    for row in rows {
        match range(row) {
            Ok(range) => ranges.push(range),
            Err(why) => judge.refuse(key, format!("{row}: {why}")),
        }
    }
    if rows.is_empty() {
        return;
    }
    if let Some(low) = ranges.iter().find(|range| !range.tcp && range.first < 1024) {
        let why = "ports below 1024 belong to services, which an attacker could have media sent to";
        judge.warn(key, format!("UDP {} to {}: {why}; the default is 1024 to 65535", low.first, low.last));
    }
    sdp.allowed_ports = merged(ranges);
}

fn range(row: &Value) -> Result<MediaPorts, &'static str> {
    let expected = "expected { transport = \"udp\" or \"tcp\", lower = 1 to 65535, upper = 1 to 65535 }";
    let row = row.as_table().filter(|row| row.len() == 3).ok_or(expected)?;
    let port = |name: &str| {
        let port = row.get(name).and_then(Value::as_integer).and_then(|port| u16::try_from(port).ok());
        port.filter(|port| *port > 0).ok_or(expected)
    };
    let tcp = match row.get("transport").and_then(Value::as_str) {
        Some("udp") => false,
        Some("tcp") => true,
        _ => return Err(expected),
    };
    let (first, last) = (port("lower")?, port("upper")?);
    if first > last {
        return Err("lower is above upper");
    }
    Ok(MediaPorts { tcp, first, last })
}

fn merged(mut ranges: Vec<MediaPorts>) -> Vec<MediaPorts> {
    ranges.sort_by_key(|range| (range.tcp, range.first));
    let mut all: Vec<MediaPorts> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.tcp == range.tcp && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => all.push(range),
        }
    }
    all
}

/// SDP-19: known, and never to be built.
pub(super) fn port_6891(key: &[&str], value: &Value, _: &mut Sdp, judge: &mut Judge<'_>) {
    if value.as_bool() != Some(false) {
        let why = "the file transfer of Windows Messenger is no more, and an open port for it would serve attackers alone";
        judge.refuse(key, format!("{why}: expected false"));
    }
}

/// What several keys say together.
pub(super) fn settle(written: &toml::Table, profile: &mut InteropProfile, judge: &mut Judge<'_>) {
    let sdp = &mut profile.sdp;
    if written.get("codec_limit").and_then(Value::as_str) == Some("listed") {
        if sdp.codecs.is_empty() {
            judge.refuse(
                &["sdp", "codec_limit"],
                "the list is empty: expected names in sdp.codecs, or \"all\"",
            );
        } else if !sdp.use_codec_limit {
            judge.warn(&["sdp", "codec_limit"], "limits nothing as long as sdp.use_codec_limit is false");
        }
    } else {
        if !sdp.codecs.is_empty() {
            judge.warn(&["sdp", "codecs"], "is not looked at as long as sdp.codec_limit is \"all\"");
        }
        sdp.codecs.clear();
        if sdp.use_codec_limit {
            judge.warn(&["sdp", "use_codec_limit"], "limits nothing as long as sdp.codec_limit is \"all\"");
        }
    }
    if sdp.inhibit_hold && sdp.hold_inactive {
        let why = "hold can't be hidden and sent as inactive: expected one of inhibit_hold and hold_inactive";
        judge.refuse(&["sdp", "hold_inactive"], why);
    }
    let key = ["sip", "interop", "add_dtmf_pt"];
    if sdp.add_dtmf_pt.is_some() && sdp.add_dtmf_pt_for.networks.ranges().next().is_none() {
        judge.warn(&key, "nobody gets it: no address stands in add_dtmf_pt_for");
    }
}
