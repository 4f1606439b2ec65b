//! The switches by name: Appendix I, in its order, and what stands on the same pages.

use super::State::{Acts, Later};
use super::{Kind, State, Switch, descriptions};

const fn row(name: &'static str, kind: Kind, state: State) -> Switch {
    Switch { name, kind, state }
}

/// Headers that requests can't do without, or that the proxy writes itself.
const CORE_HEADERS: &[&str] = &[
    "via",
    "v",
    "from",
    "f",
    "to",
    "t",
    "call-id",
    "i",
    "cseq",
    "contact",
    "m",
    "max-forwards",
    "route",
    "record-route",
    "content-length",
    "l",
    "content-type",
    "c",
    "path",
    "authorization",
    "proxy-authorization",
];

/// URI parameters that carry our own tokens, or that would lead a request elsewhere.
const OWN_PARAMETERS: &[&str] = &["crt", "gr", "lr", "maddr", "ft", "pc", "rs"];

/// `[sip.interop]`.
pub(super) const INTEROP: &[Switch] = &[
    row("lr_true", Kind::Flag(|p| &mut p.routes.lr_true), Acts),
    row("relaxed_refer_to", Kind::Flag(|p| &mut p.headers.relaxed_refer_to), Acts),
    row("add_expires", Kind::Expires(|p| &mut p.contacts.add_expires), Acts),
    row("reinvite_end_to_end", Kind::Flag(|p| &mut p.b2bua.reinvite_end_to_end), Later),
    row("rr_outbound", Kind::Flag(|p| &mut p.routes.rr_outbound), Acts),
    row("rr_always", Kind::Flag(|p| &mut p.routes.rr_always), Acts),
    row("tcp_marked_tls", Kind::Flag(|p| &mut p.transports.tcp_marked_tls), Acts),
    row("tcp_marked_tls_from", Kind::Peers(|p| &mut p.transports.tcp_marked_tls_from), Acts),
    row("large_udp", Kind::Flag(|p| &mut p.transports.large_udp), Acts),
    row("strip_180", Kind::Flag(|p| &mut p.answers.strip_180), Acts),
    row("cancel_body_forward", Kind::Flag(|p| &mut p.answers.cancel_body_forward), Acts),
    row("cancel_body_in_ack", Kind::Flag(|p| &mut p.answers.cancel_body_in_ack), Acts),
    row("keep_user_agent", Kind::Flag(|p| &mut p.b2bua.keep_user_agent), Later),
    row("readd_codecs", Kind::Flag(|p| &mut p.b2bua.readd_codecs), Later),
    row("keep_to", Kind::Flag(|p| &mut p.headers.keep_to), Acts),
    row("add_failover_header", Kind::Flag(|p| &mut p.answers.add_failover_header), Acts),
    row("dns_override_on_3xx", Kind::Flag(|p| &mut p.answers.dns_override_on_3xx), Acts),
    row("rfc2069", Kind::Flag(|p| &mut p.headers.rfc2069), Acts),
    row("replaces_by_callid", Kind::Flag(|p| &mut p.b2bua.replaces_by_callid), Later),
    row("pretend_privacy", Kind::Flag(|p| &mut p.headers.pretend_privacy), Acts),
    row("force_contact_user", Kind::Flag(|p| &mut p.contacts.force_contact_user), Acts),
    row("fix_bye_routes", Kind::Flag(|p| &mut p.routes.fix_bye_routes), Acts),
    row("fix_routes", Kind::Flag(|p| &mut p.routes.fix_routes), Acts),
    row("prack_receive", Kind::Flag(|p| &mut p.b2bua.prack_receive), Later),
    row("prack_send", Kind::Flag(|p| &mut p.b2bua.prack_send), Later),
    row("media_reset_on_reinvite", Kind::Flag(|p| &mut p.b2bua.media_reset_on_reinvite), Later),
    row("offer_always", Kind::Flag(|p| &mut p.b2bua.offer_always), Later),
    row("detect_same_version", Kind::Flag(|p| &mut p.b2bua.detect_same_version), Later),
    row("no_reinvite", Kind::Flag(|p| &mut p.b2bua.no_reinvite), Later),
    row("no_supported", Kind::Flag(|p| &mut p.b2bua.no_supported), Later),
    row("gruu_passthrough", Kind::Flag(|p| &mut p.contacts.gruu_passthrough), Acts),
    row("add_path", Kind::Flag(|p| &mut p.contacts.add_path), Acts),
    row("refer_end_on_183", Kind::Flag(|p| &mut p.b2bua.refer_end_on_183), Later),
    row("unescape_ws", Kind::Flag(|p| &mut p.headers.unescape_ws), Acts),
    row("ignore_port_with_maddr", Kind::Flag(|p| &mut p.routes.ignore_port_with_maddr), Acts),
    row("strip_sdp_1xx", Kind::Flag(|p| &mut p.b2bua.strip_sdp_1xx), Later),
    row("compare_session_id", Kind::Flag(|p| &mut p.b2bua.compare_session_id), Later),
    row("refer_updates_user", Kind::Flag(|p| &mut p.headers.refer_updates_user), Later),
    row("translate_refer_to", Kind::Flag(|p| &mut p.headers.translate_refer_to), Acts),
    row("to_503", Kind::Flag(|p| &mut p.answers.to_503), Acts),
    row("remove_via", Kind::Peers(|p| &mut p.routes.remove_via), Acts),
    row("remove_via_all", Kind::Flag(|p| &mut p.routes.remove_via_all), Acts),
    row("translate_except", Kind::Hosts(|p| &mut p.routes.translate_except), Acts),
    row("translate_force", Kind::Hosts(|p| &mut p.routes.translate_force), Acts),
    row("tls_reuse", Kind::Peers(|p| &mut p.transports.tls_reuse), Acts),
    row("register_delay", Kind::Delay(|p| &mut p.contacts.register_delay), Acts),
    row("hide_rr", Kind::Peers(|p| &mut p.routes.hide_rr), Acts),
    row("hide_rr_all", Kind::Flag(|p| &mut p.routes.hide_rr_all), Acts),
    row("forward_3xx_headers", Kind::Names(|p| &mut p.answers.forward_3xx_headers, CORE_HEADERS), Acts),
    row("contact_uri_params_keep", Kind::Names(|p| &mut p.contacts.uri_params_keep, OWN_PARAMETERS), Acts),
    row("add_dtmf_pt", Kind::Own("\"\"", descriptions::add_dtmf_pt), Acts),
    row("add_dtmf_pt_for", Kind::Peers(|p| &mut p.sdp.add_dtmf_pt_for), Acts),
    row("refer_copy_headers", Kind::Names(|p| &mut p.b2bua.refer_copy_headers, CORE_HEADERS), Later),
];

/// `[sip.auth]`.
pub(super) const AUTH: &[Switch] =
    &[row("loose_username", Kind::Flag(|p| &mut p.contacts.loose_username), Acts)];

/// `[sdp]`. `port_6891` is known and stays refused: nobody speaks that protocol any more.
pub(super) const SDP: &[Switch] = &[
    row("hold_rfc2543", Kind::Flag(|p| &mut p.sdp.hold_rfc2543), Acts),
    row("hold_force_3264", Kind::Flag(|p| &mut p.sdp.hold_force_3264), Acts),
    row("inhibit_hold", Kind::Flag(|p| &mut p.sdp.inhibit_hold), Acts),
    row("hold_inactive", Kind::Flag(|p| &mut p.sdp.hold_inactive), Acts),
    row("strip_ice", Kind::Flag(|p| &mut p.sdp.strip_ice), Acts),
    row("add_ice_candidate", Kind::Flag(|p| &mut p.sdp.add_ice_candidate), Acts),
    row("rtcp_attribute", Kind::Flag(|p| &mut p.sdp.rtcp_attribute), Acts),
    row("port_6891", Kind::Own("false", descriptions::port_6891), Acts),
    row("use_codec_limit", Kind::Flag(|p| &mut p.sdp.use_codec_limit), Acts),
    row("resolve_fqdn", Kind::Flag(|p| &mut p.sdp.resolve_fqdn), Acts),
    row("force_ptime", Kind::Own("\"\"", descriptions::force_ptime), Acts),
    row("codec_limit", Kind::Own("\"all\"", descriptions::codec_limit), Acts),
    row("codecs", Kind::Own("[]", descriptions::codecs), Acts),
    row("max_streams", Kind::Own("6", descriptions::max_streams), Acts),
    row("allowed_ports", Kind::Own("[]", descriptions::allowed_ports), Acts),
    row("strip_lines", Kind::Own("[]", descriptions::strip_lines), Acts),
    row("pass_transports", Kind::Own("[]", descriptions::pass_transports), Acts),
];

/// The switches of `[media]`: the media half builds them.
pub(super) const MEDIA: &[Switch] = &[
    row("always_relay", Kind::Flag(|p| &mut p.media.always_relay), Acts),
    row("forked", Kind::Flag(|p| &mut p.media.forked), Acts),
    row("reuse_on_change", Kind::Flag(|p| &mut p.media.reuse_on_change), Later),
    row("reuse_in_session", Kind::Flag(|p| &mut p.media.reuse_in_session), Later),
    row("proxy", Kind::Proxy(|p| &mut p.media.proxy), Acts),
    row("reuse_time", Kind::Only("0"), Later),
];

/// `[b2bua]`: comes with the trunks.
pub(super) const B2BUA: &[Switch] = &[
    row("codec_change_detection", Kind::Only("\"first\""), Later),
    row("ringback", Kind::Only("\"never\""), Later),
    row("ring_tone", Kind::Only("\"us\""), Later),
    row("moh", Kind::Flag(|p| &mut p.b2bua.moh), Later),
    row("moh_server", Kind::Only("\"\""), Later),
    row("tpcc_codecs", Kind::Only("[]"), Later),
    row("pending_timeout", Kind::Only("0"), Later),
];

/// `[dialplan]`: comes with the trunks.
pub(super) const DIALPLAN: &[Switch] = &[row("match_port", Kind::Flag(|p| &mut p.routes.match_port), Later)];
