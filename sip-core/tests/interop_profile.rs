//! The profile against the administrator's tables "Interoperability" and "Sessions and Media", row by row.

use std::time::Duration;

use sip_core::edge::Config;
use sip_core::edge::config::{Face, UserMatching};
use sip_core::edge::interop::{
    AddExpires, CodecChange, InteropProfile, MediaPorts, MediaProxy, Peers, RingTone, SenderLimit,
    UriEncoding,
};
use sip_core::edge::route_tag::Pattern;
use sip_core::flow::Transport;
use sip_core::message::Limits;

/// One row: its id, the parameter, its default, and what teleworkers need.
struct Row {
    id: &'static str,
    parameter: &'static str,
    default: &'static str,
    teleworker: &'static str,
}

const fn row(
    id: &'static str,
    parameter: &'static str,
    default: &'static str,
    teleworker: &'static str,
) -> Row {
    Row { id, parameter, default, teleworker }
}

/// The two tables as they are printed. Where both columns are one, the teleworker uses the default.
const TABLE: &[Row] = &[
    row("INT-01", "Use lr=true", "No", "No"),
    row("INT-02", "Relaxed Refer-To", "No", "No"),
    row("INT-03", "Add expires header", "Never", "Never"),
    row("INT-04", "SIP URI encoding", "Always encrypt URIs", "Keep username in URIs"),
    row("INT-05", "Send re-INVITEs all the way directly", "Yes", "Yes"),
    row("INT-06", "Loose username check", "No", "No"),
    row("INT-07", "Match on username and domain", "Yes", "Match only on username"),
    row("INT-08", "Force outbound Record-Route", "No", "No"),
    row("INT-09", "Always force Record-Route", "No", "No"),
    row("INT-10", "Accept TCP marked as TLS", "No", "No"),
    row("INT-11", "Allow large UDP packets", "No", "No"),
    row("INT-12", "Remove headers in 180 responses", "No", "No"),
    row("INT-13", "Forward CANCEL body", "No", "No"),
    row("INT-14", "Use CANCEL body in ACK", "No", "No"),
    row("INT-15", "Use RFC 2543 behavior for Hold SDP", "No", "No"),
    row("INT-16", "Force RFC 3264 Compliance for Hold SDP", "No", "No"),
    row("INT-17", "Inhibit hold", "Allow hold", "Allow hold"),
    row("INT-18", "Force inactive attribute for on-hold SDP", "No", "No"),
    row("INT-19", "Strip ICE attributes", "No", "No"),
    row("INT-20", "Add ourselves as ICE Candidate", "Yes", "Yes"),
    row("INT-21", "Keep User-Agent header", "No", "No"),
    row("INT-22", "Add codecs to new SDP offer in re-INVITE", "No", "No"),
    row("INT-23", "Use RTCP attribute", "Yes", "Yes"),
    row("INT-24", "Keep To header in forwarded requests", "No", "No"),
    row("INT-25", "Add Failover header", "No", "No"),
    row("INT-26", "DNS override when redirecting on 3xx", "Yes", "Yes"),
    row("INT-27", "Open port 6891 for file transfer", "No", "No"),
    row("INT-28", "Allow RFC 2069 authentication", "No", "No"),
    row("INT-29", "Match Refer-To on Call-ID in Replaces", "Yes", "Yes"),
    row("INT-30", "Pretend to support privacy", "No", "No"),
    row("INT-31", "Force username in registered Contact", "No", "No"),
    row("INT-32", "Fix BYE Route set", "No", "No"),
    row("INT-33", "Fix Bad Route set", "No", "No"),
    row("INT-34", "Receive PRACK in B2BUA", "Yes", "Yes"),
    row("INT-35", "Send PRACK in B2BUA", "Yes", "Yes"),
    row("INT-36", "Tear down media state when handling re-INVITEs", "No", "No"),
    row("INT-37", "Always send B2BUA offer in INVITE", "No", "No"),
    row("INT-38", "Detect unchanged session version in B2BUA", "No", "No"),
    row("INT-39", "Disable re-INVITEs", "No", "No"),
    row("INT-40", "Disable Supported Header in B2BUA", "No", "No"),
    row("INT-41", "Enable GRUU passthrough", "No", "No"),
    row("INT-42", "Add Path Header in REGISTER requests", "No", "No"),
    row("INT-43", "Terminate Transferor on 183", "No", "No"),
    row("INT-44", "Convert escaped whitespaces", "No", "No"),
    row("INT-45", "Ignore URI port when using the maddr attribute", "No", "No"),
    row("INT-46", "Remove SDP from 1xx Provisional Responses", "No", "No"),
    row("INT-47", "Match also port in Request-URI in Dial Plan", "No", "No"),
    row("INT-48", "Use session identifier when comparing endpoint SDPs", "No", "No"),
    row("INT-49", "Update Username Mapping on Refer-To", "No", "No"),
    row("INT-50", "Accept Late Media Source Change for RSC", "No", "No"),
    row("INT-51", "Translate Refer-To", "Yes", "Yes"),
    row("INT-52", "Convert 5xx Responses to 503", "No", "No"),
    row("INT-53", "Allow RTP before answer SDP", "No", "No"),
    row(
        "INT-54",
        "ContactRouteTag based Routing (+ Contact Head, Contact Tail)",
        "No",
        r#"Yes; head `+sip.instance="<urn:uuid:00000000-0000-1000-8000-`, tail `>`"#,
    ),
    row("INT-55", "Remove Via Headers (table)", "empty", "empty"),
    row("INT-56", "Remove Via Headers for all SIP servers", "No", "No"),
    row("INT-57", "Translation Exceptions (table)", "empty", "empty"),
    row("INT-58", "Force Translation (table)", "empty", "empty"),
    row("INT-59", "Force Remote TLS Connection Reuse (table)", "empty", "empty"),
    row("INT-60", "Media stream reuse time", "0", "0"),
    row("INT-61", "Hide our Record-Route header (table)", "empty", "empty"),
    row("INT-62", "Hide our Record-Route header for all SIP servers", "No", "No"),
    row("INT-63", "Force RTP Packetization Time", "blank", "blank"),
    row("INT-64", "Sequential Register Delay", "blank", "blank"),
    row("INT-65", "Forward 3xx headers (table)", "empty", "empty"),
    row("INT-66", "Contact SIP URI Parameters to keep in REGISTERS (table)", "empty", "empty"),
    row("INT-67", "Add DTMF Payload type", "blank", "blank"),
    row("INT-68", "Add DTMF Payload type for (table)", "empty", "empty"),
    row("INT-69", "Copy headers from REFER to INVITE in the B2BUA", "blank", "blank"),
    row("SAM-01", "Use Media Proxy", "No", "No"),
    row("SAM-02", "Always use the Media Proxy", "No", "No"),
    row(
        "SAM-03",
        "Limitation of sender of media streams",
        "Lock IP address and port to first sender",
        "Allow multiple sender IP addresses and ports",
    ),
    row("SAM-04", "Support forked media streams", "No", "No"),
    row("SAM-05", "Tear down media streams", "No", "No"),
    row("SAM-06", "Always Relay Media", "No", "No"),
    row("SAM-07", "Reuse port numbers when changing media", "No", "No"),
    row(
        "SAM-08",
        "Reuse port numbers within same session",
        "Don't reuse port numbers",
        "Don't reuse port numbers",
    ),
    row(
        "SAM-09",
        "Detect codec changes in mid call answers in the B2BUA",
        "first payload type only",
        "all payload types (except dynamic)",
    ),
    row("SAM-10", "Use codec limitation", "No", "No"),
    row("SAM-11", "Play local ringback at call transfer", "Never", "Never"),
    row("SAM-12", "Ring tone for Local ringback", "US ring tone", "US ring tone"),
    row("SAM-13", "Redirect calls on hold to Music on Hold server", "No", "No"),
    row("SAM-14", "Resolve domain names in the SDP", "No", "No"),
    row("SAM-15", "Session timer (s)", "14400", "14400"),
    row("SAM-16", "Timeout for SIP over TCP/TLS (s)", "90", "90"),
    row("SAM-17", "Allowed amount of concurrent sessions", "blank", "blank"),
    row("SAM-18", "Allowed number of senders", "10", "10"),
    row("SAM-19", "Allowed amount of media streams per SIP session", "6", "6"),
    row("SAM-20", "Timeout for one-way streams (s)", "blank", "blank"),
    row("SAM-21", "Timeout for RTP streams (s)", "blank", "blank"),
    row("SAM-22", "Timeout for RTCP streams (s)", "blank", "blank"),
    row(
        "SAM-23",
        "Third Party Call Control Codecs (table)",
        "PCMU; G729 annexb=yes; telephone-event 96/8000 0-15",
        "PCMU; G729 annexb=yes; telephone-event 96/8000 0-15",
    ),
    row("SAM-24", "Limitation of RTP Codecs", "Allow all codecs", "Allow all codecs"),
    row(
        "SAM-25",
        "Allowed Media Ports (table)",
        "UDP 1024–65535, TCP 1024–65535 (temporary: UDP 1–65535)",
        "UDP 1024–65535, TCP 1024–65535 (temporary: UDP 1–65535)",
    ),
    row("SAM-26", "Strip SDP Lines (table)", "empty", "empty"),
    row(
        "SAM-27",
        "Music on Hold Server",
        "leave calls on hold as they are",
        "leave calls on hold as they are",
    ),
    row("SAM-28", "Default timeout for INVITE requests (s)", "180", "180"),
    row("SAM-29", "Maximum timeout for INVITE requests (s)", "300", "300"),
    row("SAM-30", "SIP blacklist interval (s)", "41", "41"),
    row("SAM-31", "B2BUA request pending timeout (s)", "0", "0"),
    row("SAM-32", "Base retransmission timeout for SIP requests (s)", "0.5", "0.5"),
    row("SAM-33", "Maximum amount of retransmissions for INVITE requests", "6", "6"),
    row("SAM-34", "Maximum amount of retransmissions for non-INVITE requests", "10", "10"),
    row("SAM-35", "Limit Max-Forwards", "70", "70"),
    row("SAM-36", "Maximum SIP packet size (bytes)", "131072", "131072"),
    row("MED-09", "Reset TTL and HL of media (7.4, same screen)", "Do not reset", "64"),
];

fn yes(on: bool) -> String {
    if on { "Yes" } else { "No" }.to_owned()
}

fn table(peers: &Peers) -> String {
    if peers.is_empty() { "empty" } else { "rows" }.to_owned()
}

fn list(names: &[String], none: &str) -> String {
    if names.is_empty() { none.to_owned() } else { names.join("; ") }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "blank".to_owned(), |time| time.as_secs_f64().to_string())
}

fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "blank".to_owned(), |number| number.to_string())
}

/// A row's value, as the table prints it.
fn printed(config: &Config, id: &str) -> String {
    let p = &config.interop;
    let found = match id.split_once('-').unwrap_or_default() {
        ("INT", number) => switch(p, number.parse().unwrap_or(0)),
        ("SAM", number) => session(config, number.parse().unwrap_or(0)),
        _ => Some(p.media.ttl.map_or_else(|| "Do not reset".to_owned(), |ttl| ttl.to_string())),
    };
    found.unwrap_or_else(|| panic!("{id} has no field"))
}

fn switch(p: &InteropProfile, number: u32) -> Option<String> {
    if let Some(on) = flag(p, number) {
        return Some(yes(on));
    }
    let value = match number {
        3 => match p.contacts.add_expires {
            AddExpires::Never => "Never",
            AddExpires::WhenMissing => "When missing",
            AddExpires::Always => "Always",
        }
        .to_owned(),
        4 => match p.contacts.uri_encoding {
            UriEncoding::AlwaysEncrypt => "Always encrypt URIs",
            UriEncoding::KeepUsername => "Keep username in URIs",
            _ => "another",
        }
        .to_owned(),
        7 => match p.contacts.user_matching {
            UserMatching::Username => "Match only on username",
            UserMatching::UsernameAndDomain => "Yes",
        }
        .to_owned(),
        17 => if p.sdp.inhibit_hold { "Inhibit" } else { "Allow hold" }.to_owned(),
        54 if !p.contacts.tag_routing.enabled => "No".to_owned(),
        54 => {
            let (head, tail) = ("+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-", ">");
            assert_eq!(p.contacts.tag_routing.pattern, Pattern::new(head, tail).ok());
            format!("Yes; head `{head}`, tail `{tail}`")
        }
        55 => table(&p.routes.remove_via),
        57 => table(&p.routes.translate_except),
        58 => table(&p.routes.translate_force),
        59 => table(&p.transports.tls_reuse),
        60 => p.media.reuse_time.as_secs().to_string(),
        61 => table(&p.routes.hide_rr),
        63 => self::number(p.sdp.force_ptime),
        64 => seconds(p.contacts.register_delay),
        65 => list(&p.answers.forward_3xx_headers, "empty"),
        66 => list(&p.contacts.uri_params_keep, "empty"),
        67 => self::number(p.sdp.add_dtmf_pt),
        68 => table(&p.sdp.add_dtmf_pt_for),
        69 => list(&p.b2bua.refer_copy_headers, "blank"),
        _ => return None,
    };
    Some(value)
}

/// The rows that are on or off.
fn flag(p: &InteropProfile, number: u32) -> Option<bool> {
    Some(match number {
        1 => p.routes.lr_true,
        2 => p.headers.relaxed_refer_to,
        5 => p.b2bua.reinvite_end_to_end,
        6 => p.contacts.loose_username,
        8 => p.routes.rr_outbound,
        9 => p.routes.rr_always,
        10 => p.transports.tcp_marked_tls,
        11 => p.transports.large_udp,
        12 => p.answers.strip_180,
        13 => p.answers.cancel_body_forward,
        14 => p.answers.cancel_body_in_ack,
        15 => p.sdp.hold_rfc2543,
        16 => p.sdp.hold_force_3264,
        18 => p.sdp.hold_inactive,
        19 => p.sdp.strip_ice,
        20 => p.sdp.add_ice_candidate,
        21 => p.b2bua.keep_user_agent,
        22 => p.b2bua.readd_codecs,
        23 => p.sdp.rtcp_attribute,
        24 => p.headers.keep_to,
        25 => p.answers.add_failover_header,
        26 => p.answers.dns_override_on_3xx,
        27 => p.sdp.port_6891,
        28 => p.headers.rfc2069,
        29 => p.b2bua.replaces_by_callid,
        30 => p.headers.pretend_privacy,
        31 => p.contacts.force_contact_user,
        32 => p.routes.fix_bye_routes,
        33 => p.routes.fix_routes,
        34 => p.b2bua.prack_receive,
        35 => p.b2bua.prack_send,
        36 => p.b2bua.media_reset_on_reinvite,
        37 => p.b2bua.offer_always,
        38 => p.b2bua.detect_same_version,
        39 => p.b2bua.no_reinvite,
        40 => p.b2bua.no_supported,
        41 => p.contacts.gruu_passthrough,
        42 => p.contacts.add_path,
        43 => p.b2bua.refer_end_on_183,
        44 => p.headers.unescape_ws,
        45 => p.routes.ignore_port_with_maddr,
        46 => p.b2bua.strip_sdp_1xx,
        47 => p.routes.match_port,
        48 => p.b2bua.compare_session_id,
        49 => p.headers.refer_updates_user,
        50 => p.media.late_relatch,
        51 => p.headers.translate_refer_to,
        52 => p.answers.to_503,
        53 => p.media.early_rtp,
        56 => p.routes.remove_via_all,
        62 => p.routes.hide_rr_all,
        _ => return None,
    })
}

fn session(config: &Config, number: u32) -> Option<String> {
    let p = &config.interop;
    Some(match number {
        1 => yes(p.media.proxy != MediaProxy::No),
        2 => yes(p.media.proxy == MediaProxy::Always),
        3 => match p.media.sender_limit {
            SenderLimit::Lock => "Lock IP address and port to first sender",
            SenderLimit::LockIp => "Lock IP address",
            SenderLimit::Multiple => "Allow multiple sender IP addresses and ports",
        }
        .to_owned(),
        4 => yes(p.media.forked),
        5 => yes(p.media.teardown_on_timeout),
        6 => yes(p.media.always_relay),
        7 => yes(p.media.reuse_on_change),
        8 => if p.media.reuse_in_session { "Reuse" } else { "Don't reuse port numbers" }.to_owned(),
        9 => match p.b2bua.codec_change_detection {
            CodecChange::First => "first payload type only",
            CodecChange::Static => "all payload types (except dynamic)",
            CodecChange::All => "all payload types",
        }
        .to_owned(),
        10 => yes(p.sdp.use_codec_limit),
        11 => if p.b2bua.ringback { "At transfer" } else { "Never" }.to_owned(),
        12 => if p.b2bua.ring_tone == RingTone::Us { "US ring tone" } else { "another" }.to_owned(),
        13 => yes(p.b2bua.moh),
        14 => yes(p.sdp.resolve_fqdn),
        15 => p.sessions.session_timer.as_secs().to_string(),
        16 => p.sessions.stream_idle.as_secs().to_string(),
        17 => self::number(p.sessions.max_sessions),
        18 => p.media.max_senders.to_string(),
        19 => p.sdp.max_streams.to_string(),
        20 => seconds(p.media.timeout_oneway),
        21 => seconds(p.media.timeout_rtp),
        22 => seconds(p.media.timeout_rtcp),
        23 => list(&p.b2bua.tpcc_codecs, "empty"),
        24 => list(&p.sdp.codecs, "Allow all codecs"),
        25 => ports(&p.sdp.allowed_ports),
        26 => list(&p.sdp.strip_lines, "empty"),
        27 => p.b2bua.moh_server.clone().unwrap_or_else(|| "leave calls on hold as they are".to_owned()),
        31 => p.b2bua.pending_timeout.as_secs().to_string(),
        _ => return timer(config, number),
    })
}

/// The rows that the transaction layer, the proxy and the parser own.
fn timer(config: &Config, number: u32) -> Option<String> {
    Some(match number {
        28 => config.timers.ringing.as_secs().to_string(),
        29 => config.timers.ringing_maximum.as_secs().to_string(),
        30 => config.interop.sessions.blacklist.as_secs().to_string(),
        32 => config.transactions.t1.as_secs_f64().to_string(),
        33 => config.transactions.invite_retransmissions.to_string(),
        34 => config.transactions.other_retransmissions.to_string(),
        35 => config.max_forwards.to_string(),
        36 => Limits::default().message.to_string(),
        _ => return None,
    })
}

/// The temporary exception of the teleworker guide (UDP from port 1) is a rule that an administrator may write, and
/// no default.
fn ports(ranges: &[MediaPorts]) -> String {
    let printed = |range: &MediaPorts| {
        format!("{} {}–{}", if range.tcp { "TCP" } else { "UDP" }, range.first, range.last)
    };
    let ranges: Vec<String> = ranges.iter().map(printed).collect();
    format!("{} (temporary: UDP 1–65535)", ranges.join(", "))
}

fn config(profile: InteropProfile) -> Config {
    let face = Face::new("192.0.2.1", 5061, Transport::Tls);
    let mut config = Config::new(face.clone(), face);
    config.interop = profile;
    config
}

#[test]
fn every_row_has_its_default() {
    let config = config(InteropProfile::default());
    for row in TABLE {
        assert_eq!(printed(&config, row.id), row.default, "{} {}", row.id, row.parameter);
    }
}

#[test]
fn every_row_has_what_teleworkers_need() {
    let config = config(InteropProfile::teleworker());
    for row in TABLE {
        assert_eq!(printed(&config, row.id), row.teleworker, "{} {}", row.id, row.parameter);
    }
}

#[test]
fn the_table_is_whole() {
    let wanted = (1..=69).map(|n| format!("INT-{n:02}")).chain((1..=36).map(|n| format!("SAM-{n:02}")));
    let wanted: Vec<String> = wanted.chain(["MED-09".to_owned()]).collect();
    let found: Vec<&str> = TABLE.iter().map(|row| row.id).collect();
    assert_eq!(found, wanted);
}
