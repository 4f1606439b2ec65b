//! The interoperability switches of the signalling part: one acts, the others pass at their neutral value.

use super::{Judge, nearest};

/// Appendix I 10.1: every switch of the signalling part with its neutral value. Only `add_path` acts yet.
const INTEROP: &[(&str, Neutral)] = &[
    ("lr_true", Neutral::Off),
    ("relaxed_refer_to", Neutral::Off),
    ("add_expires", Neutral::Text("never")),
    ("reinvite_end_to_end", Neutral::On),
    ("rr_outbound", Neutral::Off),
    ("rr_always", Neutral::Off),
    ("tcp_marked_tls", Neutral::Off),
    ("large_udp", Neutral::Off),
    ("strip_180", Neutral::Off),
    ("cancel_body_forward", Neutral::Off),
    ("cancel_body_in_ack", Neutral::Off),
    ("keep_user_agent", Neutral::Off),
    ("readd_codecs", Neutral::Off),
    ("keep_to", Neutral::Off),
    ("add_failover_header", Neutral::Off),
    ("rfc2069", Neutral::Off),
    ("replaces_by_callid", Neutral::On),
    ("pretend_privacy", Neutral::Off),
    ("force_contact_user", Neutral::Off),
    ("fix_bye_routes", Neutral::Off),
    ("fix_routes", Neutral::Off),
    ("prack_receive", Neutral::On),
    ("prack_send", Neutral::On),
    ("media_reset_on_reinvite", Neutral::Off),
    ("offer_always", Neutral::Off),
    ("detect_same_version", Neutral::Off),
    ("no_reinvite", Neutral::Off),
    ("no_supported", Neutral::Off),
    ("gruu_passthrough", Neutral::Off),
    ("refer_end_on_183", Neutral::Off),
    ("unescape_ws", Neutral::Off),
    ("ignore_port_with_maddr", Neutral::Off),
    ("strip_sdp_1xx", Neutral::Off),
    ("compare_session_id", Neutral::Off),
    ("refer_updates_user", Neutral::Off),
    ("to_503", Neutral::Off),
    ("remove_via", Neutral::Empty),
    ("remove_via_all", Neutral::Off),
    ("translate_except", Neutral::Empty),
    ("translate_force", Neutral::Empty),
    ("tls_reuse", Neutral::Empty),
    ("hide_rr", Neutral::Empty),
    ("hide_rr_all", Neutral::Off),
    ("forward_3xx_headers", Neutral::Empty),
    ("contact_uri_params_keep", Neutral::Empty),
    ("add_dtmf_pt_for", Neutral::Empty),
    ("refer_copy_headers", Neutral::Empty),
];

/// The value at which a switch that isn't built changes nothing.
#[derive(Clone, Copy)]
enum Neutral {
    Off,
    On,
    Empty,
    Text(&'static str),
}

impl Neutral {
    fn is(self, value: &toml::Value) -> bool {
        match self {
            Self::Off => value.as_bool() == Some(false),
            Self::On => value.as_bool() == Some(true),
            Self::Empty => value.as_array().is_some_and(Vec::is_empty) || value.as_str() == Some(""),
            Self::Text(text) => value.as_str() == Some(text),
        }
    }

    fn spelled(self) -> String {
        match self {
            Self::Off => "false".to_owned(),
            Self::On => "true".to_owned(),
            Self::Empty => "[]".to_owned(),
            Self::Text(text) => format!("\"{text}\""),
        }
    }
}

/// Whether `add_path` is on; refuses every other switch that isn't at its neutral value.
pub(super) fn judge(table: &toml::Table, judge: &mut Judge<'_>) -> bool {
    let mut add_path = false;
    for (name, value) in table {
        let key = ["sip", "interop", name];
        if name == "add_path" {
            match value.as_bool() {
                Some(on) => add_path = on,
                None => judge.refuse(&key, "expected true or false"),
            }
            continue;
        }
        match INTEROP.iter().find(|(known, _)| known == name) {
            Some((_, neutral)) if neutral.is(value) => {}
            Some((_, neutral)) => {
                judge.refuse(&key, format!("this switch is not built yet: expected {}", neutral.spelled()));
            }
            None => {
                let near = nearest(name, INTEROP.iter().map(|(known, _)| *known));
                judge.refuse(&key, format!("unknown key{near}"));
            }
        }
    }
    add_path
}
