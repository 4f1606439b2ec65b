//! Each refusal has a change to the shipped configuration that fails and a near miss that passes.

mod descriptions;
mod folder;
mod rules;

use std::path::Path;

use sip_core::edge::interop::{AddExpires, UriEncoding};

use self::folder::Folder;
use super::read;
use crate::config::{Invalid, Refusal, Settings};

const FIRST: &str = include_str!("../../../../examples/first.toml");

fn judged(text: &str) -> Result<(Settings, Vec<Refusal>), Invalid> {
    read(text, Path::new("farend.toml"), &Folder::shared().0)
}

/// The shipped configuration with `from` replaced by `to`.
fn changed(from: &str, to: &str) -> Result<(Settings, Vec<Refusal>), Invalid> {
    assert!(FIRST.contains(from), "the shipped configuration has no {from:?}");
    judged(&FIRST.replacen(from, to, 1))
}

#[track_caller]
fn refused(from: &str, to: &str, key: &str, says: &str) {
    let invalid = changed(from, to).expect_err("must be refused");
    let text = invalid.to_string();
    let hit = invalid.refusals.iter().find(|one| one.key == key && one.to_string().contains(says));
    let hit = hit.unwrap_or_else(|| panic!("no refusal of {key:?} saying {says:?} in\n{text}"));
    assert!(hit.line.is_some(), "{hit} has no line");
}

#[test]
fn the_shipped_configuration_passes() {
    let (settings, warnings) = judged(FIRST).unwrap();
    assert_eq!(settings.sip.ports.len(), 2);
    assert_eq!(settings.media.ttl.map(|ttl| ttl.get()), Some(64));
    assert_eq!(warnings, []);
}

#[test]
fn every_refusal_names_line_key_and_expectation() {
    let invalid = changed("port = 5061", "port = 70000").unwrap_err();
    let line = FIRST.lines().position(|line| line.starts_with("port = 5061")).unwrap() + 1;
    assert_eq!(
        invalid.to_string(),
        format!("farend.toml: line {line}: sip.ports[0].port: 70000 is out of range: expected 1 to 65535")
    );
}

#[test]
fn unknown_keys_and_wrong_types_are_refused() {
    let invalid = changed("allow_from = \"internet\"", "alow_from = \"internet\"").unwrap_err().to_string();
    assert!(
        invalid.ends_with("sip.ports[0].alow_from: unknown key; did you mean \"allow_from\"?"),
        "{invalid}"
    );
    assert!(invalid.contains("line "), "{invalid}");
    let invalid = changed("port = 5061", "port = \"5061\"").unwrap_err().to_string();
    assert!(
        invalid.contains("sip.ports[0].port: invalid type: string \"5061\", expected an integer"),
        "{invalid}"
    );
    let invalid = changed("[16384, 32767]", "\"all\"").unwrap_err().to_string();
    assert!(invalid.contains("media.port_range: invalid type: string \"all\""), "{invalid}");
    // Nothing of how it is called in the source.
    let invalid = changed("[media]", "[media]\nsrtp = \"required\"").unwrap_err().to_string();
    assert!(invalid.contains("media.srtp: invalid type: string \"required\", expected a table"), "{invalid}");
    assert!(invalid.ends_with("expected a table"), "{invalid}");
    let invalid = changed("ttl = 64", "ttl = 64\nttl = 65").unwrap_err().to_string();
    assert!(invalid.contains("\"ttl\" stands here a second time"), "{invalid}");
    let invalid = judged("state_dir = [").unwrap_err().to_string();
    assert!(invalid.contains("line 1"), "{invalid}");
}

#[test]
fn names_must_refer_to_something() {
    refused(
        "allow_to = \"mitel-appliances\"",
        "allow_to = \"mitel-appliance\"",
        "http.tunnels.mitel-tunnel.allow_to",
        "did you mean \"mitel-appliances\"?",
    );
    refused(
        "inside_networks = \"mitel-appliances\"",
        "inside_networks = \"lan\"",
        "sip.inside_networks",
        "CFG-03",
    );
    refused("trust = \"authorized\"", "trust = \"auth\"", "sip.ports[0].trust", "there is no trust entry");
    refused("acme = \"public\"", "acme = \"pub\"", "certificates.outside.acme", "ACME domain");
    refused(
        "import = \"hq_signed.crt\"",
        "import = \"hq.crt\"",
        "certificates.inside.import",
        "can't be read",
    );
}

#[test]
fn what_is_refused_once_is_not_refused_again_where_it_is_used() {
    let invalid = changed("import = \"hq_signed.crt\"", "import = \"hq.crt\"").unwrap_err();
    assert_eq!(invalid.refusals.len(), 1, "{invalid}");
    for (old, new) in [
        ("[\"10.0.1.86\"]", "[\"10.0.1.0/33\"]"),
        ("\"@mitel-hq\"", "\"@mitel-qh\""),
        ("# how switches are reached\ntransport = \"tls\"", "\ntransport = \"TLS\""),
    ] {
        let invalid = changed(old, new).unwrap_err();
        assert_eq!(invalid.refusals.len(), 1, "{invalid}");
    }
}

#[test]
fn refusals_stand_in_the_order_of_the_file_and_speak_no_rust() {
    let invalid = changed("port = 5061", "port = 0").unwrap_err();
    assert!(invalid.refusals.is_sorted_by_key(|refusal| refusal.line.unwrap_or(usize::MAX)), "{invalid}");
    let invalid = judged("").unwrap_err().to_string();
    assert_eq!(invalid, "farend.toml: state_dir: this key is missing");
    let invalid = changed("interface = \"outside\"\n", "").unwrap_err().to_string();
    assert!(invalid.ends_with("sip.ports[0].interface: this key is missing"), "{invalid}");
    let invalid = changed("transport = \"tls\"", "transport = \"TLS\"").unwrap_err().to_string();
    assert!(invalid.contains("did you mean \"tls\"?"), "{invalid}");
}

#[test]
fn networks() {
    refused("[\"10.0.1.86\"]", "[\"@mitel-appliances\"]", "net.networks.mitel-appliances", "contains itself");
    refused(
        "[\"10.0.1.86\"]",
        "[\"10.0.1.86-10.0.1.80\"]",
        "net.networks.mitel-vtrunks",
        "ends before it begins",
    );
    refused("[\"10.0.1.86\"]", "[\"10.0.1.86-::1\"]", "net.networks.mitel-vtrunks", "mixes IPv4 and IPv6");
    refused("[\"10.0.1.86\"]", "[]", "net.networks.mitel-vtrunks", "empty");
    changed("[\"10.0.1.86\"]", "[\"10.0.1.80-10.0.1.86\", \"fd00::/64\"]").unwrap();
}

#[test]
fn listeners_do_not_clash() {
    refused("port = 6587\n", "port = 6586\n", "http.local_endpoints.secure-tunnel.port", "CFG-05");
    refused("port = 6586\n", "port = 80\n", "acme.domains", "CFG-05");
    refused(
        "transport = \"tls\"\nallow_from = \"internet\"",
        "transport = \"tls\"\nport2 = 1\nallow_from = \"internet\"",
        "sip.ports[0].port2",
        "unknown key; did you mean \"port\"?",
    );
}

#[test]
fn outside_listeners_demand_a_certificate() {
    refused(
        "require_client_cert = true",
        "require_client_cert = false",
        "sip.ports[0].require_client_cert",
        "CFG-10",
    );
}

#[test]
fn an_acme_certificate_is_not_shown_as_a_client() {
    let key = "sip.inside.certificate";
    refused(
        "certificate = \"inside\"\ntrust = \"authorized\"\nverify",
        "certificate = \"outside\"\ntrust = \"authorized\"\nverify",
        key,
        "CFG-14",
    );
}

#[test]
fn an_open_proxy_is_refused() {
    refused(
        "allow_to = \"mitel-appliances\"",
        "allow_to = \"internet\"",
        "http.tunnels.mitel-tunnel.allow_to",
        "CFG-16",
    );
}

#[test]
fn encodings_of_uris() {
    let keep = "uri_encoding = \"keep-username\"";
    for (written, read) in [
        ("always-encrypt", UriEncoding::AlwaysEncrypt),
        ("shorter", UriEncoding::Shorter),
        ("escape", UriEncoding::Escape),
        ("keep-username", UriEncoding::KeepUsername),
        ("gruu", UriEncoding::Gruu),
    ] {
        let (settings, warnings) = changed(keep, &format!("uri_encoding = \"{written}\"")).unwrap();
        assert_eq!((settings.sip.interop.contacts.uri_encoding, warnings), (read, vec![]));
        assert!(!settings.sip.interop.contacts.use_registration);
    }
    refused(keep, "uri_encoding = \"keep-user\"", "sip.uri_encoding", "did you mean \"keep-username\"?");
    let (settings, _) = changed(keep, "uri_encoding_use_registration = true").unwrap();
    // What is not written is Appendix I's default.
    assert_eq!(settings.sip.interop.contacts.uri_encoding, UriEncoding::AlwaysEncrypt);
    assert!(settings.sip.interop.contacts.use_registration);
    // CFG-09: phones that register as one user.
    let on = "[sip.tag_routing]\nenabled = true";
    let (_, warnings) = changed(on, "[sip.tag_routing]\nenabled = false").unwrap();
    assert!(warnings[0].to_string().contains("CFG-09"), "{warnings:?}");
}

#[test]
fn rotation_of_keys() {
    let days = |n: u64| std::time::Duration::from_secs(n * 24 * 3600);
    let (settings, _) = judged(FIRST).unwrap();
    assert_eq!(settings.sip.key_rotation, days(90));
    let on = "[sip.tag_routing]";
    let written = |text: &str| format!("[sip.tag_routing]\nkey_rotation = \"{text}\"");
    let (settings, _) = changed(on, &written("24h")).unwrap();
    assert_eq!(settings.sip.key_rotation, days(1));
    changed(on, &written("3650d")).unwrap();
    for (bad, says) in
        [("23h", "expected 24h to 3650d"), ("3651d", "out of range"), ("soon", "no time"), ("", "no time")]
    {
        refused(on, &written(bad), "sip.tag_routing.key_rotation", says);
    }
}

#[test]
fn switches_of_registration() {
    let interop = |line: &str| changed("[media]", &format!("[sip.interop]\n{line}\n[media]"));
    let contacts = |line: &str| interop(line).unwrap().0.sip.interop.contacts;
    assert!(contacts("gruu_passthrough = true").gruu_passthrough);
    assert!(contacts("force_contact_user = true").force_contact_user);
    assert_eq!(contacts("add_expires = \"always\"").add_expires, AddExpires::Always);
    assert_eq!(contacts("add_expires = \"when-missing\"").add_expires, AddExpires::WhenMissing);
    assert_eq!(contacts("contact_uri_params_keep = [\"x-site\"]").uri_params_keep, ["x-site"]);
    for (written, delay) in
        [("20", Some(20)), ("\"20ms\"", Some(20)), ("\"60s\"", Some(60_000)), ("\"\"", None)]
    {
        let read = contacts(&format!("register_delay = {written}")).register_delay;
        assert_eq!(read, delay.map(std::time::Duration::from_millis), "{written}");
    }
    for (line, key, says) in [
        ("gruu_passthrough = 1", "gruu_passthrough", "expected true or false"),
        ("force_contact_user = \"yes\"", "force_contact_user", "expected true or false"),
        ("add_expires = \"allways\"", "add_expires", "did you mean \"always\"?"),
        ("register_delay = \"61s\"", "register_delay", "up to 60 s"),
        ("register_delay = -1", "register_delay", "up to 60 s"),
        ("contact_uri_params_keep = [\"crt\"]", "contact_uri_params_keep", "crt"),
        ("contact_uri_params_keep = [\"MADDR\"]", "contact_uri_params_keep", "MADDR"),
    ] {
        let text = format!("[sip.interop]\n{line}\n[media]");
        refused("[media]", &text, &format!("sip.interop.{key}"), says);
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    refused("[media]", "[admin]\nlisten = \"127.0.0.1:8080\"\n[media]", "admin", "not built yet");
    refused(
        "[media]",
        "[sip.interop]\nlr_tru = true\n[media]",
        "sip.interop.lr_tru",
        "did you mean \"lr_true\"?",
    );
}

#[test]
fn the_media_process_has_a_socket_that_the_kernel_takes() {
    let socket = |lines: &str| changed("[media]", &format!("[media]\n{lines}")).unwrap().0.media.process;
    assert_eq!(socket(""), None);
    assert_eq!(socket("process = false\nsocket = \"/run/farend/media.sock\""), None);
    assert!(socket("process = true").unwrap().ends_with("media.sock"));
    let path = |octets: usize| format!("/{}", "s".repeat(octets - 1));
    assert_eq!(
        socket(&format!("process = true\nsocket = \"{}\"", path(107))).unwrap().as_os_str().len(),
        107
    );
    let long = format!("[media]\nprocess = true\nsocket = \"{}\"", path(108));
    refused("[media]", &long, "media.socket", "the kernel takes 107");
    refused(
        "[media]",
        "[media]\nprocess = true\nsocket = \"media.sock\"",
        "media.socket",
        "not an absolute path",
    );
}

#[test]
fn the_state_folder_has_room_for_the_sockets_in_it() {
    let line = FIRST.lines().find(|line| line.starts_with("state_dir")).unwrap();
    let path = |octets: usize| format!("state_dir = \"/{}\"", "s".repeat(octets - 1));
    for process in ["", "process = true"] {
        let media = format!("[media]\n{process}");
        let text = |octets| FIRST.replacen(line, &path(octets), 1).replacen("[media]", &media, 1);
        let (settings, _) = judged(&text(95)).unwrap();
        assert_eq!(settings.state_dir.join("status.sock").as_os_str().len(), 107);
        let invalid = judged(&text(96)).unwrap_err();
        assert_eq!(invalid.refusals.len(), 1, "once: {invalid}");
        let said = invalid.to_string();
        assert!(said.contains(": state_dir: /ss"), "{said}");
        let expected = "has 96 octets, and status.sock in it more than the kernel takes of a socket: expected 95 at most";
        assert!(said.contains(expected), "{said}");
    }
    refused(line, &path(200), "state_dir", "has 200 octets");
}

#[test]
fn the_laboratory_is_for_loopback_only() {
    refused("state_dir", "lab = true\nstate_dir", "lab", "loopback only");
    refused("\"10.0.1.2\"] }", "\"127.0.0.1\"] }", "net.interfaces.inside", "expected lab = true");
}

#[test]
fn ranges() {
    refused("ttl = 64", "ttl = 0", "media.ttl", "1 to 255");
    refused("ttl = 64", "ttl = 256", "media.ttl", "1 to 255");
    refused("ttl = 64", "ttl = \"reset\"", "media.ttl", "expected \"keep\"");
    changed("ttl = 64", "ttl = \"keep\"").unwrap();
    refused("[16384, 32767]", "[16384, 16400]", "media.port_range", "CFG-18");
    refused(
        "renewal_interval = 67",
        "renewal_interval = 95",
        "acme.domains.public.renewal_interval",
        "10 to 90",
    );
}

#[test]
fn how_phones_are_kept_reachable() {
    use sip_core::edge::config::KeepAliveMethod;
    let fent = |more: &str| changed("[media]", &format!("[fent]\n{more}\n[media]"));
    let refusal = |more: &str, key: &str, says: &str| {
        refused("[media]", &format!("[fent]\n{more}\n[media]"), key, says);
    };
    refusal("keep_alive = \"ping\"", "fent.keep_alive", "register");
    refusal("keep_alive_stream = 9", "fent.keep_alive_stream", "10 to 3600");
    refusal("keep_alive_udp = 9", "fent.keep_alive_udp", "10 to 3600");
    let (settings, warnings) =
        fent("keep_alive = \"auto\"\nkeep_alive_stream = 10\nkeep_alive_udp = 10").unwrap();
    assert_eq!((settings.sip.keep_alive.method, warnings.len()), (KeepAliveMethod::Auto, 0));
    let (settings, _) = fent("keep_alive = \"register\"\nkeep_alive_stream = 30").unwrap();
    assert_eq!(settings.sip.keep_alive.method, KeepAliveMethod::Register);
    let (settings, warnings) = fent("keep_alive = \"options\"\nkeep_alive_udp = 30").unwrap();
    assert_eq!(settings.sip.keep_alive.stream.as_secs(), 45);
    assert_eq!(warnings.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["fent.keep_alive_udp"]);
}

#[test]
fn how_long_sessions_and_streams_last() {
    let sip = |more: &str| changed("[sip]\n", &format!("[sip]\n{more}\n"));
    let refusal =
        |more: &str, key: &str, says: &str| refused("[sip]\n", &format!("[sip]\n{more}\n"), key, says);
    refusal("session_timer = 89", "sip.session_timer", "90 to");
    refusal("stream_idle = 0", "sip.stream_idle", "1 to 86400");
    refusal("stream_idle = 86401", "sip.stream_idle", "1 to 86400");
    refusal("max_sessions = 0", "sip.max_sessions", "1 to");
    refusal("emergency_numbers = [\"police\"]", "sip.emergency_numbers", "not a number");
    let (settings, warnings) =
        sip("session_timer = 90\nstream_idle = 86400\nmax_sessions = 1\nemergency_numbers = [\"112\"]")
            .unwrap();
    let sessions = &settings.sip.interop.sessions;
    assert_eq!((sessions.session_timer.as_secs(), sessions.stream_idle.as_secs()), (90, 86_400));
    assert_eq!((sessions.max_sessions, warnings.len()), (Some(1), 0));
    let (_, warnings) = sip("max_sessions = 5").unwrap();
    assert_eq!(warnings.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["sip.max_sessions"]);
}

/// The contract itself: whatever it says that isn't built yet is refused by name, nothing else.
#[test]
fn the_contract_parses_and_only_unbuilt_keys_are_refused() {
    let contract = include_str!("contract.toml");
    let invalid = judged(contract).unwrap_err();
    let keys: Vec<&str> = invalid.refusals.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["admin"], "{invalid}");
    // All else of it is taken, and acts: a media process, phones behind one NAT that talk directly.
    let (rest, _) = contract.split_once("[admin]\n").unwrap();
    let media = judged(rest).unwrap().0.media;
    assert!(media.process.is_some() && media.route.direct && !media.route.always_relay);
    assert_eq!((media.ttl.map(u8::from), media.max_senders), (Some(64), 10));
    assert_eq!(media.sender_limit, crate::config::settings::SenderLimit::Multiple);
}

#[test]
fn the_startup_file_fits_the_rest() {
    let key = "http.files.mitelstartup.content";
    refused(
        "tunnel port: 6587",
        "tunnel port: 6588",
        key,
        "no https endpoint with a tunnel listens on port 6588",
    );
    refused("config server: 10.0.1.10", "config server: 10.0.1.10, hq.example.internal", key, "mixed");
    refused("config server: 10.0.1.10", "config server: hq.example.internal", key, "CFG-08");
    refused("config server: 10.0.1.10", "config server: 10.9.9.9", key, "not in the networks");
    // The tunnel must lead to the HQ server's port, not to its own.
    changed("ports = []", "ports = [443]").unwrap();
    refused("ports = []", "ports = [80]", key, "not in the networks");
    let (_, warnings) = changed("backup outbound proxy:", "backup outbound proxy:\nlanguage: de").unwrap();
    assert!(warnings.iter().any(|one| one.message.contains("unknown key")), "{warnings:?}");
}

#[test]
fn names_need_a_name_server() {
    refused("dns = [\"10.0.0.2\"]", "dns = []", "acme.services.letsencrypt.host", "NET-08");
}

#[test]
fn connections_that_switches_opened_are_used_by_one_shard() {
    let reuse = "[sip.interop]\ntls_reuse = [\"mitel-appliances\"]\n[media]";
    refused("[media]", reuse, "sip.interop.tls_reuse", "expected sip.shards = 1");
    let alone = FIRST.replacen("[media]", reuse, 1).replacen("[sip]\n", "[sip]\nshards = 1\n", 1);
    judged(&alone).unwrap();
}

/// SIP-05: what we call ourselves is the certificate's common name, if that is a host's.
#[test]
fn a_row_may_be_called_by_its_certificate() {
    let phones = "transport = \"tls\"\nallow_from = \"internet\"";
    let called = format!("{phones}\nuse_cn_fqdn = true");
    let (settings, _) = changed(phones, &called).unwrap();
    assert_eq!(settings.sip.ports[0].host.as_deref(), Some("mivc.example.com"));
    assert_eq!(settings.sip.ports[1].host, None);
    let key = "sip.ports[1].use_cn_fqdn";
    let switches = "transport = \"tls\"\nallow_from = \"mitel-appliances\"";
    refused(switches, &format!("{switches}\nuse_cn_fqdn = true"), key, "no host name");
}

#[test]
fn revocation_lists_are_read_and_a_bad_one_is_refused() {
    let bundles = "bundles = [\"authorized_ca_bundle_plus_minet.pem\"]";
    let lists = |files: &str| format!("{bundles}\ncrls = [{files}]");
    let (settings, warnings) = changed(bundles, &lists("\"authorized.crl\"")).unwrap();
    assert_eq!((settings.trust["authorized"].revocation_lists(), warnings), (1, Vec::new()));
    let key = "trust.authorized.crls";
    refused(bundles, &lists("\"authorized_ca_bundle_plus_minet.pem\""), key, "no revocation list");
    refused(bundles, &lists("\"missing.crl\""), key, "missing.crl");
}

/// A key that would do nothing is not accepted in silence.
#[test]
fn keys_that_would_not_act_are_refused() {
    let phones = "transport = \"tls\"\nallow_from = \"internet\"";
    for key in ["certificate", "trust", "require_client_cert"] {
        let full = format!("sip.ports[0].{key}");
        refused(phones, "transport = \"tcp\"\nallow_from = \"internet\"", &full, "there is no TLS here");
    }
    let inside =
        "[sip.inside]                                  # how switches are reached\ntransport = \"tls\"";
    refused(inside, "[sip.inside]\ntransport = \"tcp\"", "sip.inside.certificate", "there is no TLS here");
    let switches = "transport = \"tls\"\nallow_from = \"mitel-appliances\"";
    let trusting = format!("{switches}\ntrust_source = true");
    refused(switches, &trusting, "sip.ports[1].trust_source", "for rows without TLS");
    let import = "import = \"hq_signed.crt\"";
    refused(import, &format!("{import}\ndns = [\"x.example\"]"), "certificates.inside", "not both");
    // Of four characters two are quotes, which are not searched for.
    let head = "head = '+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-'";
    refused(head, "head = '\"ab\"'", "sip.tag_routing.head", "at least 4 characters besides quotes");
}

#[test]
fn an_outside_row_trusts_addresses_of_a_narrow_network_only() {
    let row = "[[sip.ports]]\nname = \"plain\"\ninterface = \"outside\"\nport = 5060\ntransport = \"udp+tcp\"\ntrust_source = true\n";
    let with = |net: &str| {
        let text = FIRST.replacen("[net.networks]", &format!("[net.networks]\nwire = {net}"), 1);
        judged(&text.replacen("[sip]", &format!("{row}allow_from = \"wire\"\n[sip]"), 1))
    };
    for wide in [
        "[\"0.0.0.0/0\"]",
        "[\"::/0\"]",
        "[\"10.0.0.0/7\"]",
        "[\"2001:d00::/31\"]",
        "[\"10.0.0.0/8\", \"11.0.0.0/8\"]",
    ] {
        let invalid = with(wide).expect_err("must be refused");
        let text = invalid.to_string();
        assert!(
            text.contains("sip.ports[2].trust_source") && text.contains("proves nothing"),
            "{wide}: {text}"
        );
    }
    let invalid = judged(&FIRST.replacen("[sip]", &format!("{row}[sip]"), 1)).unwrap_err().to_string();
    assert!(invalid.contains("trust_source needs allow_from"), "{invalid}");
    for narrow in ["[\"10.0.0.0/8\"]", "[\"100.64.0.0/10\", \"2001:db8::/32\"]"] {
        let (settings, warnings) = with(narrow).unwrap();
        assert!(settings.sip.ports[2].trust_source);
        let told: Vec<_> = warnings.iter().map(|one| (one.key.as_str(), one.message.as_str())).collect();
        let says = "peers of this row are trusted by their address alone";
        assert_eq!(told, [("sip.ports[2].trust_source", says)]);
    }
}

#[test]
fn an_outside_row_without_tls_serves_nobody() {
    let row = "[[sip.ports]]\nname = \"plain\"\ninterface = \"outside\"\nport = 5060\ntransport = \"udp+tcp\"\n[sip]";
    let (_, warnings) = judged(&FIRST.replacen("[sip]", row, 1)).unwrap();
    let told: Vec<_> = warnings.iter().map(|one| (one.key.as_str(), one.message.contains("403"))).collect();
    assert_eq!(told, [("sip.ports[2].transport", true)]);
}

#[test]
fn networks_are_taken_whole() {
    refused(
        "[\"10.0.1.86\"]",
        "[\"10.0.1.86/24\"]",
        "net.networks.mitel-vtrunks",
        "expected \"10.0.1.0/24\"",
    );
    // Groups that nest thirty deep, each twice in the next, are neither cut nor unrolled.
    let mut groups = "deep-0 = [\"10.7.7.7\"]\n".to_owned();
    for level in 1..=30 {
        groups.push_str(&format!("deep-{level} = [\"@deep-{0}\", \"@deep-{0}\"]\n", level - 1));
    }
    let trunks = "mitel-vtrunks    = [\"10.0.1.86\"]";
    let (settings, _) =
        changed(trunks, &format!("{groups}mitel-vtrunks = [\"@deep-30\", \"10.0.1.86\"]")).unwrap();
    let nets = &settings.sip.inside_networks;
    assert!(
        nets.contains(&"10.7.7.7/32".parse().unwrap()) && nets.contains(&"10.0.1.86/32".parse().unwrap())
    );
    let many: Vec<String> = (0..5000).map(|n| format!("\"10.{}.{}.1\"", n / 250, n % 250)).collect();
    let many = format!("many = [{}]\nmitel-vtrunks = [\"@many\"]", many.join(", "));
    let (settings, _) = changed(trunks, &many).unwrap();
    assert!(settings.sip.inside_networks.contains(&"10.19.249.1/32".parse().unwrap()), "the last one");
}

#[test]
fn public_space_is_refused_and_public_hosts_are_named() {
    refused("[\"10.0.1.86\"]", "[\"8.8.0.0/16\"]", "sip.inside_networks", "CFG-16");
    let (_, warnings) = changed("[\"10.0.1.86\"]", "[\"198.51.100.7\"]").unwrap();
    assert_eq!(
        warnings.iter().filter(|one| one.message.contains("198.51.100.7/32")).count(),
        2,
        "{warnings:?}"
    );
}

#[test]
fn the_public_address_stands_before_an_address_of_its_family() {
    let public = "public_address = \"203.0.113.10\"";
    refused(public, "public_address = \"2001:db8::1\"", "net.interfaces.outside", "CFG-13");
}

#[test]
fn what_is_no_text_is_refused_with_its_line() {
    let folder = Folder::shared();
    let path = folder.0.join("octets.toml");
    std::fs::write(&path, b"state_dir = \"x\"\n# \xff\n").unwrap();
    let invalid = crate::config::load(&path).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        format!("{}: line 2: an octet that is not UTF-8: expected text", path.display())
    );
    let invalid = crate::config::load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(invalid.to_string(), "/dev/zero: the file can't be read: it is not a regular file");
}

/// The shipped configuration with more lines at its end.
fn with(lines: &str) -> Result<(Settings, Vec<Refusal>), Invalid> {
    judged(&format!("{FIRST}\n{lines}\n"))
}

#[track_caller]
fn guard_refused(lines: &str, key: &str, says: &str) {
    let invalid = with(lines).expect_err("must be refused");
    let hit = invalid.refusals.iter().find(|one| one.key == key && one.to_string().contains(says));
    assert!(hit.is_some_and(|hit| hit.line.is_some()), "no refusal of {key:?} saying {says:?} in\n{invalid}");
}

#[test]
fn the_guard_is_on_by_default_and_every_key_acts() {
    let (settings, _) = judged(FIRST).unwrap();
    let auth = &settings.guard.rules.auth;
    assert_eq!((auth.failures, auth.window.as_secs(), auth.block.as_secs()), (10, 60, 300));
    assert!(auth.enabled && settings.guard.rules.ids.enabled);
    let lines = "[guard]\nallow = [\"mitel-hq\"]\n[guard.auth]\nenabled = false\nfailures = 3\nwindow = \"2m\"\nblock = \"1h\"\nblock_max = \"2h\"\n\
        [guard.limits]\nmessages_per_second = 1\nmessages_burst = 2\ninvites_per_second = 3\ninvites_burst = 4\nbindings = 5\nbindings_per_certificate = 6\n\
        flows_per_certificate = 7\ncontexts = 8\ndialogs = 9\ndialogs_per_certificate = 10\nbreadth = 11\nlookups = 12\ntransactions = 13\nconnections = 14\nphones_per_address = 19\nbindings_per_address = 20\nflows_per_address = 21\ndialogs_per_address = 22\n\
        [guard.tls]\nhandshakes = 15\nfailures = 16\nconnections = 17\n[guard.ids]\nenabled = false\nuser_agents = [\"probe\"]\noffences = 18";
    let (settings, warnings) = with(lines).unwrap();
    assert_eq!(warnings, []);
    let guard = &settings.guard;
    let (auth, rates, limits) = (&guard.rules.auth, &guard.rules.rates, &guard.limits);
    assert_eq!((auth.enabled, auth.failures, auth.window.as_secs()), (false, 3, 120));
    assert_eq!((auth.block.as_secs(), auth.longest.as_secs()), (3600, 7200));
    let rates =
        [rates.messages.per_second, rates.messages.burst, rates.invites.per_second, rates.invites.burst];
    assert_eq!(rates, [1, 2, 3, 4]);
    assert_eq!([limits.bindings, limits.bindings_per_certificate, limits.flows_per_certificate], [5, 6, 7]);
    assert_eq!(
        [limits.bindings_per_address, limits.flows_per_address, limits.dialogs_per_address],
        [20, 21, 22]
    );
    assert_eq!(guard.rules.rates.phones, 19);
    assert_eq!([limits.contexts, limits.dialogs, limits.dialogs_per_certificate], [8, 9, 10]);
    assert_eq!([limits.breadth, limits.lookups, guard.transactions, guard.connections], [11, 12, 13, 14]);
    assert_eq!((guard.tls.handshakes, guard.tls.failures, guard.tls.connections), (15, 16, 17));
    assert_eq!(guard.tls.allow.len(), 1);
    assert_eq!((guard.rules.ids.enabled, guard.rules.ids.offences), (false, 18));
    assert_eq!(guard.rules.ids.user_agents, ["probe"]);
}

#[test]
fn the_guard_refuses_what_would_disarm_it() {
    guard_refused("[guard.auth]\nfailures = 0", "guard.auth.failures", "expected 1 to");
    guard_refused("[guard.auth]\nwindow = \"0s\"", "guard.auth.window", "expected 1s to 24h");
    guard_refused("[guard.auth]\nwindow = \"60\"", "guard.auth.window", "such as \"60s\"");
    guard_refused("[guard.auth]\nblock = \"99999999999999999999h\"", "guard.auth.block", "no time");
    guard_refused("[guard.auth]\nblock_max = \"10s\"", "guard.auth.block_max", "no less than block");
    guard_refused("[guard.limits]\nbindings = 0", "guard.limits.bindings", "expected 1 to");
    guard_refused("[guard.limits]\nbreadth = 61", "guard.limits.breadth", "1 to 60");
    guard_refused("[guard.limits]\ndialog = 1", "guard.limits.dialog", "did you mean \"dialogs\"?");
    guard_refused("[guard.tls]\nhandshake = 1", "guard.tls.handshake", "did you mean \"handshakes\"?");
    guard_refused("[guard.ids]\nuser_agents = [\"\"]", "guard.ids.user_agents", "3 to 256");
    guard_refused("[guard.ids]\noffences = 1", "guard.ids.offences", "expected 2 to");
    guard_refused("[guard]\nallow = [\"mitel-hk\"]", "guard.allow", "did you mean \"mitel-hq\"?");
    let (_, warnings) = with("[guard]\nallow = [\"internet\"]").unwrap();
    assert!(warnings.iter().any(|one| one.key == "guard.allow" && one.to_string().contains("everybody")));
    with("[guard.auth]\nfailures = 1\nwindow = \"1s\"\nblock = \"24h\"").unwrap();
}

mod switches;

#[test]
fn users_have_a_password_or_a_hash() {
    let folder = Folder::shared();
    std::fs::write(folder.0.join("117.password"), "secret\n").unwrap();
    std::fs::write(folder.0.join("empty.password"), "\n").unwrap();
    let user = |rows: &str| with(&format!("[[sip.users]]\nname = \"117\"\n{rows}"));
    let hash = "b53b97e35b6cebbe22c51526ae493f1b";
    let (settings, _) = user("password_file = \"117.password\"").unwrap();
    assert_eq!(settings.sip.users.len(), 1);
    assert!(!format!("{settings:?}").contains("secret"));
    let (settings, _) = user(&format!("ha1 = \"{hash}\"")).unwrap();
    assert!(!format!("{settings:?}").contains(hash));
    for (rows, key, says) in [
        ("password_file = \"none\"", "password_file", "can't be read"),
        ("password_file = \"empty.password\"", "password_file", "one line"),
        ("ha1 = \"abc\"", "ha1", "32 hexadecimal"),
        ("ha1 = \"abc\"\nalgorithm = \"SHA-256\"", "ha1", "64 hexadecimal"),
        ("ha1 = \"abc\"\nalgorithm = \"MD4\"", "algorithm", "expected MD5"),
        ("", "name", "either password_file or ha1"),
    ] {
        let invalid = user(rows).expect_err(rows);
        let key = format!("sip.users[0].{key}");
        let hit = invalid.refusals.iter().any(|one| one.key == key && one.to_string().contains(says));
        assert!(hit, "no refusal of {key} saying {says:?} in\n{invalid}");
    }
    let asks = FIRST.replacen("preloaded_routes = \"remove\"", "preloaded_routes = \"authenticate\"", 1);
    let (_, warnings) = judged(&asks).unwrap();
    assert!(warnings.iter().any(|one| one.to_string().contains("lets nobody through")));
}
