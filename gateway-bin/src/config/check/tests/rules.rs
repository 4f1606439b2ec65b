//! The interoperability switches and the rule tables of `[sip]`.

use std::net::IpAddr;

use sip_core::edge::config::{Policy, PreloadedRoutes};
use sip_core::edge::interop::{InteropProfile, MediaProxy};

use super::{changed, refused};
use crate::config::Settings;

/// The shipped configuration with these lines in front of `[media]`.
pub(super) fn added(lines: &str) -> Settings {
    changed("[media]", &format!("{lines}\n[media]")).unwrap().0
}

#[track_caller]
pub(super) fn adding_is_refused(lines: &str, key: &str, says: &str) {
    refused("[media]", &format!("{lines}\n[media]"), key, says);
}

fn interop(line: &str) -> String {
    format!("[sip.interop]\n{line}")
}

#[test]
fn what_is_not_written_is_the_default() {
    let mut wanted = InteropProfile::default();
    let found = added("").sip.interop;
    // The shipped configuration writes these.
    wanted.contacts.uri_encoding = found.contacts.uri_encoding;
    wanted.contacts.user_matching = found.contacts.user_matching;
    wanted.contacts.tag_routing = found.contacts.tag_routing.clone();
    wanted.contacts.add_path = found.contacts.add_path;
    wanted.media = InteropProfile::teleworker().media;
    assert_eq!(found, wanted);
}

#[test]
fn switches_that_act_are_read() {
    let names = [
        "lr_true",
        "relaxed_refer_to",
        "rr_outbound",
        "rr_always",
        "strip_180",
        "cancel_body_forward",
        "cancel_body_in_ack",
        "ignore_port_with_maddr",
        "keep_to",
        "pretend_privacy",
        "fix_bye_routes",
        "fix_routes",
        "unescape_ws",
        "to_503",
        "remove_via_all",
        "hide_rr_all",
        "tcp_marked_tls",
        "large_udp",
        "add_failover_header",
    ];
    for name in names {
        let settings = added(&interop(&format!("{name} = true")));
        assert_ne!(settings.sip.interop, added("").sip.interop, "{name}");
        adding_is_refused(
            &interop(&format!("{name} = \"yes\"")),
            &format!("sip.interop.{name}"),
            "true or false",
        );
    }
    assert!(!added(&interop("translate_refer_to = false")).sip.interop.headers.translate_refer_to);
    assert!(!added(&interop("dns_override_on_3xx = false")).sip.interop.answers.dns_override_on_3xx);
}

#[test]
fn headers_of_a_3xx_are_any_but_the_core_ones() {
    let settings = added(&interop("forward_3xx_headers = [\"Diversion\", \"History-Info\"]"));
    assert_eq!(settings.sip.interop.answers.forward_3xx_headers, ["Diversion", "History-Info"]);
    for core in ["Via", "contact", "m", "Route", "Proxy-Authorization"] {
        let line = interop(&format!("forward_3xx_headers = [\"{core}\"]"));
        adding_is_refused(&line, "sip.interop.forward_3xx_headers", "is ours to write");
    }
}

#[test]
fn who_may_say_tls_over_tcp_is_a_list_of_peers() {
    let settings = added(&interop("tcp_marked_tls_from = [\"10.0.1.10\"]"));
    assert!(
        settings.sip.interop.transports.tcp_marked_tls_from.networks.contains("10.0.1.10".parse().unwrap())
    );
    adding_is_refused(
        &interop("tcp_marked_tls_from = [\"nobody\"]"),
        "sip.interop.tcp_marked_tls_from",
        "nobody",
    );
}

#[test]
fn names_in_descriptions_are_looked_up_or_not() {
    for (value, wanted) in [("true", true), ("false", false)] {
        assert_eq!(added(&format!("[sdp]\nresolve_fqdn = {value}")).sip.interop.sdp.resolve_fqdn, wanted);
    }
    adding_is_refused("[sdp]\nresolve_fqdn = \"yes\"", "sdp.resolve_fqdn", "true or false");
}

#[test]
fn forked_media_is_yes_or_no() {
    for (value, wanted) in [("true", true), ("false", false)] {
        let (settings, _) = changed("[media]", &format!("[media]\nforked = {value}")).unwrap();
        assert_eq!(settings.sip.interop.media.forked, wanted);
    }
    refused("[media]", "[media]\nforked = \"yes\"", "media.forked", "true or false");
}

#[test]
fn switches_that_wait_for_their_builder_pass_at_their_neutral_value_only() {
    for (name, neutral, other) in [
        ("reinvite_end_to_end", "true", "false"),
        ("refer_updates_user", "false", "true"),
        ("refer_copy_headers", "[]", "[\"X-A\"]"),
        ("refer_copy_headers", "\"\"", "\"X-A\""),
    ] {
        let key = format!("sip.interop.{name}");
        let expected = if neutral == "\"\"" { "[]" } else { neutral };
        adding_is_refused(
            &interop(&format!("{name} = {other}")),
            &key,
            &format!("not built yet: expected {expected}"),
        );
        added(&interop(&format!("{name} = {neutral}")));
    }
    for (table, name, neutral, other) in [
        ("b2bua", "codec_change_detection", "\"first\"", "\"static\""),
        ("dialplan", "match_port", "false", "true"),
    ] {
        let line = |value: &str| format!("[{table}]\n{name} = {value}");
        adding_is_refused(&line(other), &format!("{table}.{name}"), "not built yet");
        added(&line(neutral));
    }
    adding_is_refused("[sdp]\nport_689 = true", "sdp.port_689", "did you mean \"port_6891\"?");
}

/// MED-15 to MED-17, and the rows of the B2BUA among the parameters of media.
#[test]
fn ports_are_had_again_and_calls_are_taken_apart_by_nobody_yet() {
    for (key, neutral, other) in [
        ("reuse_on_change", "false", "true"),
        ("reuse_in_session", "false", "true"),
        ("reuse_time", "0", "30"),
    ] {
        let media = |value: &str| format!("[media]\n{key} = {value}");
        refused(
            "[media]",
            &media(other),
            &format!("media.{key}"),
            &format!("not built yet: expected {neutral}"),
        );
        changed("[media]", &media(neutral)).unwrap();
    }
    for (key, neutral, other) in [
        ("codec_change_detection", "\"first\"", "\"static\""),
        ("ringback", "\"never\"", "\"always\""),
        ("ring_tone", "\"us\"", "\"uk\""),
        ("moh", "false", "true"),
        ("moh_server", "\"\"", "\"moh@10.0.1.60\""),
        ("tpcc_codecs", "[]", "[\"PCMU\"]"),
    ] {
        let b2bua = |value: &str| format!("[b2bua]\n{key} = {value}");
        adding_is_refused(
            &b2bua(other),
            &format!("b2bua.{key}"),
            &format!("not built yet: expected {neutral}"),
        );
        added(&b2bua(neutral));
    }
}

#[test]
fn peers_are_networks_servers_and_addresses() {
    let server =
        "[[sip.servers]]\nname = \"one\"\nmatch = [\"One.example\"]\naddresses = [\"10.0.1.55:5061\"]\n";
    let rows = "hide_rr = [\"mitel-hq\", \"one\", \"10.0.1.60-10.0.1.61\", \"2001:db8::/32\"]";
    let settings = added(&format!("{server}{}", interop(rows)));
    let peers = settings.sip.interop.routes.hide_rr;
    for (address, there) in [
        ("10.0.1.10", true),
        ("10.0.1.55", true),
        ("10.0.1.61", true),
        ("2001:db8::1", true),
        ("10.0.1.62", false),
    ] {
        assert_eq!(peers.holds(address.parse().unwrap()), there, "{address}");
    }
    adding_is_refused(
        &interop("hide_rr = [\"mitel-hk\"]"),
        "sip.interop.hide_rr",
        "did you mean \"mitel-hq\"?",
    );
    adding_is_refused(&interop("remove_via = [\"a.example\"]"), "sip.interop.remove_via", "CFG-03");
    adding_is_refused(&interop("hide_rr = \"mitel-hq\""), "sip.interop.hide_rr", "a list of texts");
    adding_is_refused(&interop("hide_rr = [1]"), "sip.interop.hide_rr", "a list of texts");
    let settings = added(&interop("translate_except = [\"Voice.example\"]"));
    assert!(settings.sip.interop.routes.translate_except.holds_host("a.voice.EXAMPLE."));
}

#[test]
fn nobody_is_both_translated_and_not() {
    let both = |except: &str, force: &str| {
        interop(&format!("translate_except = [\"{except}\"]\ntranslate_force = [\"{force}\"]"))
    };
    for (except, force) in
        [("10.9.0.0/16", "10.9.8.7"), ("a.example.org", "example.org"), ("::/0", "2001:db8::1")]
    {
        adding_is_refused(&both(except, force), "sip.interop.translate_force", "translate_except too");
    }
    added(&both("10.9.0.0/16", "10.10.8.7"));
    added(&both("a.example.org", "b.example.org"));
    added(&both("::/0", "10.9.8.7"));
}

#[test]
fn senders_and_preloaded_routes_by_network() {
    let rules = "[[sip.filter]]\nnumber = 2\nfrom = \"internet\"\naction = \"process-all\"\n[[sip.filter]]\nnumber = 1\nfrom = \"mitel-hq\"\naction = \"reject-all\"\n[[sip.preloaded_route_rules]]\nnumber = 1\nfrom = \"mitel-hq\"\naction = \"allow\"\n";
    let filters = added(rules).sip.filters;
    // In the order of their numbers.
    assert_eq!(
        [filters.senders[0].policy, filters.senders[1].policy],
        [Policy::RejectAll, Policy::ProcessAll]
    );
    assert!(filters.senders[0].from.contains("10.0.1.10".parse().unwrap()));
    assert_eq!(filters.preloaded_routes[0].action, PreloadedRoutes::Allow);
    let twice = rules.replacen("number = 2", "number = 1", 1);
    adding_is_refused(&twice, "sip.filter[1].number", "a second row has the number 1");
    adding_is_refused(&rules.replacen("mitel-hq", "mitel-xx", 1), "sip.filter[1].from", "CFG-03");
    adding_is_refused(&rules.replacen("reject-all", "reject", 1), "sip.filter[1].action", "reject-all");
    adding_is_refused(
        &rules.replacen("\"allow\"", "\"pass\"", 1),
        "sip.preloaded_route_rules[0].action",
        "remove",
    );
}

#[test]
fn the_default_policy_serves_somebody() {
    let policy = |name: &str| with_key(&format!("default_policy = \"{name}\""));
    let (settings, warnings) = changed(INSIDE, &policy("local-only")).unwrap();
    assert_eq!(settings.sip.default_policy, Policy::LocalOnly);
    assert!(warnings.iter().any(|warning| warning.to_string().contains("CFG-07")), "{warnings:?}");
    let (_, warnings) = changed(INSIDE, &policy("process-all")).unwrap();
    assert!(!warnings.iter().any(|warning| warning.to_string().contains("CFG-07")));
    refused(INSIDE, &policy("reject-all"), "sip.default_policy", "CFG-07");
    refused(INSIDE, &policy("reject"), "sip.default_policy", "local-only");
}

#[test]
fn header_filters_have_two_wildcards() {
    let filter =
        |from: &str| format!("[[sip.header_filters]]\nnumber = 1\nfrom = '{from}'\naction = \"reject\"\n");
    let filters = added(&filter("sip*:9??@*")).sip.filters;
    assert!(!filters.headers[0].allow && filters.headers[0].from.matches(b"sips:911@x"));
    assert!(filters.headers[0].to.matches(b""));
    adding_is_refused(&filter("sip:[0-9]@*"), "sip.header_filters[0].from", "only * and ?");
    adding_is_refused(&filter(""), "sip.header_filters[0].from", "empty");
}

/// Keys of `[sip]` itself stand in front of its tables.
fn with_key(line: &str) -> String {
    format!("inside_networks = \"mitel-appliances\"\n{line}")
}

const INSIDE: &str = "inside_networks = \"mitel-appliances\"";

#[test]
fn content_types_and_methods_are_lists() {
    let (settings, _) = changed(INSIDE, &with_key("content_types = [\"@phones\", \"Text/Plain\"]")).unwrap();
    let types = settings.sip.filters.content_types;
    assert!(types.contains(&"application/csta+xml".to_owned()) && types.contains(&"text/plain".to_owned()));
    for bad in ["sdp", "*/*", "@phone", "a/b;c"] {
        let line = with_key(&format!("content_types = [\"{bad}\"]"));
        refused(INSIDE, &line, "sip.content_types", "expected type/subtype");
    }
    let (_, warnings) = changed(INSIDE, &with_key("content_types = [\"text/plain\"]")).unwrap();
    assert!(warnings.iter().any(|warning| warning.to_string().contains("415")));
    let all = "methods = [\"REGISTER\", \"INVITE\", \"ACK\", \"BYE\", \"CANCEL\"]";
    assert_eq!(changed(INSIDE, &with_key(all)).unwrap().0.sip.filters.methods.len(), 5);
    refused(INSIDE, &with_key(&all.replace(", \"BYE\"", "")), "sip.methods", "calls need BYE too");
    refused(INSIDE, &with_key(&all.replace("REGISTER", "Register")), "sip.methods", "in capitals");
    let (_, warnings) = changed(INSIDE, &with_key("methods = [\"OPTIONS\"]")).unwrap();
    assert!(warnings.iter().any(|warning| warning.to_string().contains("no phone can register")));
}

#[test]
fn header_rules_are_judged() {
    let rule = "[[sip.header_rules]]\nnumber = 1\ntowards = [\"mitel-hq\"]\nmessages = \"requests\"\nwhen_header = \"Subject\"\nwhen_value = \"a*\"\naction = \"set\"\nheader = \"X-Site\"\nvalue = \"7\"\n";
    let found = added(rule).sip.filters.header_rules;
    assert!(
        found[0].requests && !found[0].responses && found[0].towards.is_some() && found[0].when.is_some()
    );
    let change = |from: &str, to: &str| rule.replacen(from, to, 1);
    adding_is_refused(&change("X-Site", "Via"), "sip.header_rules[0].header", "belongs to the protocol");
    adding_is_refused(&change("X-Site", "X Site"), "sip.header_rules[0].header", "not a header name");
    adding_is_refused(&change("\"7\"", "\"7\\r\\nVia: x\""), "sip.header_rules[0].value", "control");
    adding_is_refused(&change("value = \"7\"\n", ""), "sip.header_rules[0].value", "expected the text");
    adding_is_refused(&change("\"set\"", "\"remove\""), "sip.header_rules[0].value", "leave the key out");
    added(&change("\"set\"", "\"remove\"").replacen("value = \"7\"\n", "", 1));
    adding_is_refused(&change("\"set\"", "\"replace\""), "sip.header_rules[0].action", "set, add, remove");
    adding_is_refused(&change("requests", "request"), "sip.header_rules[0].messages", "requests");
    adding_is_refused(&change("mitel-hq", "nobody"), "sip.header_rules[0].towards", "CFG-03");
}

/// MED-12.
#[test]
fn streams_are_continued_or_not() {
    assert_eq!(added("").sip.interop.media.proxy, MediaProxy::No);
    for (value, meant) in
        [("no", MediaProxy::No), ("use", MediaProxy::Relayed), ("always", MediaProxy::Always)]
    {
        let (settings, warnings) = changed("[media]", &format!("[media]\nproxy = \"{value}\"")).unwrap();
        assert_eq!(settings.sip.interop.media.proxy, meant);
        assert!(!warnings.iter().any(|one| one.key == "media.proxy"), "{value}");
    }
    refused("[media]", "[media]\nproxy = \"used\"", "media.proxy", "expected no, use, always");
    refused("[media]", "[media]\nproxy = true", "media.proxy", "true is not known: expected no, use, always");
}

/// A value that is taken and does nothing, or next to nothing, is said.
#[test]
fn media_that_goes_nowhere_is_warned_of() {
    let warned = |from: &str, to: &str, key: &str| {
        let (_, warnings) = changed(from, to).unwrap();
        warnings.iter().any(|one| one.key == key)
    };
    let socket = "[media]\nsocket = \"/run/farend-media/media.sock\"";
    assert!(warned("[media]", socket, "media.socket"));
    assert!(!warned("[media]", &format!("{socket}\nprocess = true"), "media.socket"));
    assert!(warned("ttl = 64", "ttl = 1", "media.ttl") && warned("ttl = 64", "ttl = 31", "media.ttl"));
    assert!(
        !warned("ttl = 64", "ttl = 32", "media.ttl") && !warned("ttl = 64", "ttl = \"keep\"", "media.ttl")
    );
}

/// MED-03, MED-11.
#[test]
fn which_phones_talk_directly() {
    let fent = |lines: &str| format!("[fent]\n{lines}\n[media]");
    let direct = "media_route = \"direct-behind-same-nat\"";
    let (settings, warnings) = changed("[media]", &fent(direct)).unwrap();
    assert!(settings.media.route.direct && !settings.media.route.always_relay);
    assert!(!warnings.iter().any(|one| one.key == "media.always_relay"));
    assert!(!added("").media.route.direct && !added("[fent]\nmedia_route = \"gateway\"").media.route.direct);
    refused("[media]", &fent("media_route = \"direct\""), "fent.media_route", "direct-behind-same-nat");
    // Always-relay wins, and says so.
    let (settings, warnings) = changed("[media]", &format!("{}\nalways_relay = true", fent(direct))).unwrap();
    assert!(settings.media.route.always_relay && settings.sip.interop.media.always_relay);
    let warning = warnings.iter().find(|one| one.key == "media.always_relay").unwrap();
    assert!(warning.message.contains("wins over fent.media_route"), "{warning}");
    let (_, warnings) = changed("[media]", "[media]\nalways_relay = true").unwrap();
    assert!(!warnings.iter().any(|one| one.key == "media.always_relay"));
    refused("[media]", "[media]\nalways_relay = 1", "media.always_relay", "true or false");
    // So does the proxy where it is always used.
    for (value, told) in [("no", 0), ("use", 0), ("always", 1)] {
        let (settings, warnings) =
            changed("[media]", &format!("{}\nproxy = \"{value}\"", fent(direct))).unwrap();
        assert_eq!(settings.sip.interop.media.proxy == MediaProxy::Always, told == 1, "{value}");
        assert_eq!(warnings.iter().filter(|one| one.key == "media.proxy").count(), told, "{value}");
    }
    // Networks by name, address, prefix or range.
    let deny = |list: &str| fent(&format!("direct_nets_deny = {list}"));
    let (settings, _) =
        changed("[media]", &deny("[\"mitel-hq\", \"100.64.0.0/10\", \"192.0.2.7\"]")).unwrap();
    let denied =
        |ip: &str| settings.media.route.deny.iter().any(|net| net.contains(&ip.parse::<IpAddr>().unwrap()));
    assert!(denied("10.0.1.10") && denied("100.65.1.1") && denied("192.0.2.7") && !denied("192.0.2.8"));
    refused("[media]", &deny("[\"mitel-hk\"]"), "fent.direct_nets_deny", "did you mean \"mitel-hq\"?");
    refused("[media]", &deny("[\"100.64.0.1/10\"]"), "fent.direct_nets_deny", "CFG-03");
    refused("[media]", &deny("\"mitel-hq\""), "fent.direct_nets_deny", "expected a list");
}

/// MED-07, MED-08, MED-14, MED-19, SAM-20 to SAM-22: near misses pass, and act; what is off the scale is refused by name.
#[test]
fn the_relay_s_timers_and_marks() {
    let media = |line: &str| changed("[media]", &format!("[media]\n{line}")).map(|found| found.0.media);
    let plain = media("").unwrap();
    assert_eq!((plain.dscp, plain.late_relatch, plain.early_rtp), (46, false, false));
    assert_eq!(plain.timeouts, sdp_core::policy::Timeouts::default());
    for (line, seconds) in
        [("timeout_oneway = 5", 5), ("timeout_rtp = 10", 10), ("timeout_rtcp = 43200", 43_200)]
    {
        let timeouts = media(line).unwrap().timeouts;
        assert_eq!(timeouts.one_way.or(timeouts.rtp).or(timeouts.rtcp), Some(seconds), "{line}");
    }
    let all =
        media("timeout_rtp = 30\nteardown_on_timeout = true\nlate_relatch = true\nearly_rtp = true").unwrap();
    assert!(all.timeouts.teardown && all.late_relatch && all.early_rtp);
    assert_eq!(media("timeout_rtp = \"\"").unwrap().timeouts.rtp, None);
    for (line, key, says) in [
        ("timeout_oneway = 4", "media.timeout_oneway", "5 to 43200"),
        ("timeout_rtp = 9", "media.timeout_rtp", "10 to 43200"),
        ("timeout_rtcp = 43201", "media.timeout_rtcp", "10 to 43200"),
        ("timeout_rtp = \"30\"", "media.timeout_rtp", "seconds from 10"),
        ("timeout_rtcp = true", "media.timeout_rtcp", "seconds from 10"),
        ("dscp = 64", "media.dscp", "0 to 63"),
        ("dscp = -1", "media.dscp", "0 to 63"),
        ("workers = 65", "media.workers", "0 to 64"),
        ("workers = -1", "media.workers", "0 to 64"),
    ] {
        refused("[media]", &format!("[media]\n{line}"), key, says);
    }
    assert_eq!((media("workers = 0").unwrap().workers, media("workers = 64").unwrap().workers), (0, 64));
    assert_eq!((media("dscp = 0").unwrap().dscp, media("dscp = 63").unwrap().dscp), (0, 63));
    let sip = |line: &str| changed("[sip]\n", &format!("[sip]\n{line}\n")).map(|found| found.0.sip.dscp);
    for line in ["stun = true", "stun_keepalive = true"] {
        assert!(added(&format!("[fent]\n{line}")).sip.stun_keepalive, "{line}");
    }
    adding_is_refused("[fent]\nstun = 1", "fent.stun", "expected true or false");
    assert_eq!((sip("").unwrap(), sip("dscp = 0").unwrap(), sip("dscp = 63").unwrap()), (24, 0, 63));
    refused("[sip]\n", "[sip]\ndscp = 64\n", "sip.dscp", "0 to 63");
}

/// MED-01: a range must carry some calls, and be nobody else's.
#[test]
fn the_media_range_is_large_enough_and_our_own() {
    let range = |text: &str| changed("[16384, 32767]", text);
    let warned = |text: &str| range(text).unwrap().1.iter().any(|one| one.key == "media.port_range");
    for (text, says) in [
        ("[20000, 20098]", "fewer than 100 ports"),
        ("[20099, 20000]", "fewer than 100 ports"),
        ("[1023, 20000]", "1024 to 65535"),
        ("[20000, 65536]", "1024 to 65535"),
    ] {
        refused("[16384, 32767]", text, "media.port_range", says);
    }
    assert_eq!(range("[20000, 20099]").unwrap().0.media.port_range, (20_000, 20_099));
    // The kernel of a test host may have been told another range than the usual one; no range is free of both.
    assert!(warned("[1024, 65535]"));
    let usual = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .is_ok_and(|text| text.split_whitespace().eq(["32768", "60999"]));
    if usual {
        assert!(warned("[32000, 32768]") && warned("[60999, 65000]"));
        assert!(!warned("[32000, 32767]") && !warned("[61000, 65000]"));
    }
    // A listener for datagrams in the range.
    let row = |port: u16| {
        let to = "interface = \"inside\"\nallow_from = \"mitel-appliances\"\ntransport = \"udp\"";
        format!("[[sip.ports]]\nname = \"plain\"\n{to}\nport = {port}\n[media]")
    };
    changed("[media]", &row(16_383)).unwrap();
    refused("[media]", &row(20_000), "sip.ports[2].port", "lies in media.port_range");
}

/// SDP-05.
#[test]
fn where_srtp_ends() {
    use sdp_core::policy::{Srtp, SrtpSides};
    let srtp = |lines: &str| format!("[media]\nsrtp = {{ {lines} }}");
    let read = |lines: &str| changed("[media]", &srtp(lines)).unwrap().0.media.srtp;
    assert_eq!(added("").media.srtp, None);
    assert_eq!(read("outside = \"pass\""), None);
    let sides = SrtpSides { outside: Srtp::Required, inside: Srtp::Off };
    assert_eq!(read("outside = \"required\", inside = \"off\""), Some(sides));
    let sides = SrtpSides { outside: Srtp::Preferred, inside: Srtp::Preferred };
    assert_eq!(read("outside = \"preferred\", inside = \"preferred\""), Some(sides));
    refused("[media]", &srtp("outside = \"required\""), "media.srtp.inside", "expected \"off\"");
    refused("[media]", &srtp("inside = \"off\""), "media.srtp.outside", "expected \"off\"");
    refused(
        "[media]",
        &srtp("outside = \"require\""),
        "media.srtp.outside",
        "pass, off, required, preferred",
    );
    refused("[media]", &srtp("outsid = \"off\""), "media.srtp.outsid", "");
    // Keys need the relay, and that is said.
    let both = "outside = \"required\", inside = \"off\"";
    let direct = "[fent]\nmedia_route = \"direct-behind-same-nat\"\n";
    let (_, warnings) = changed("[media]", &format!("{direct}{}", srtp(both))).unwrap();
    assert!(warnings.iter().any(|one| one.key == "media.srtp.outside"), "{warnings:?}");
    let (_, warnings) = changed("[media]", &srtp(both)).unwrap();
    assert!(!warnings.iter().any(|one| one.key == "media.srtp.outside"));
}
