//! `[[sip.servers]]`, `sip.blacklist` and what else concerns the switches.

use sip_core::edge::config::Class3xx;

use super::{FIRST, changed, judged, refused};
use crate::config::settings::SipServer;

#[test]
fn a_switch_without_a_port_has_that_of_the_inside() {
    let server =
        "[[sip.servers]]\nname = \"a\"\naddresses = [\"10.0.1.50\", \"10.0.1.51:5099\"]\n[sip.tag_routing]";
    let (settings, _) = judged(&FIRST.replacen("[sip.tag_routing]", server, 1).replacen(
        "port = 5061\ncertificate = \"inside\"\ntrust = \"authorized\"\nverify",
        "port = 5071\ncertificate = \"inside\"\ntrust = \"authorized\"\nverify",
        1,
    ))
    .unwrap();
    let ports: Vec<u16> = settings.sip.servers[0].addresses.iter().map(|address| address.port()).collect();
    assert_eq!(ports, [5071, 5099]);
}

fn server(addresses: &str) -> String {
    format!("[[sip.servers]]\nname = \"a\"\naddresses = {addresses}\n[sip.tag_routing]")
}

#[test]
fn a_server_is_known_by_addresses_or_by_one_name() {
    let one = |addresses: &str| -> SipServer {
        let (settings, _) = changed("[sip.tag_routing]", &server(addresses)).unwrap();
        settings.sip.servers[0].clone()
    };
    assert_eq!(one("[\"Pbx.example.internal.\"]").lookup, Some(("pbx.example.internal".to_owned(), None)));
    let with_port = one("[\"pbx.example.internal:5071\"]");
    assert_eq!(with_port.lookup, Some(("pbx.example.internal".to_owned(), Some(5071))));
    assert!(with_port.addresses.is_empty());
    assert_eq!(one("[\"10.0.1.50\", \"[2001:db8::1]:5071\"]").addresses.len(), 2);
    let key = "sip.servers[0].addresses";
    for (addresses, says) in [
        ("[]", "at least one"),
        ("[\"pbx.example.internal\", \"10.0.1.50\"]", "a name stands alone"),
        ("[\"10.0.1\"]", "expected address:port"),
        ("[\"0x0a000132\"]", "expected address:port"),
        ("[\"pbx.example.internal:0\"]", "expected address:port"),
        ("[\"pbx example\"]", "expected address:port"),
    ] {
        refused("[sip.tag_routing]", &server(addresses), key, says);
    }
    let dns = FIRST.lines().find(|line| line.starts_with("dns = ")).unwrap();
    let without = FIRST.replacen(dns, "dns = []", 1);
    let invalid = judged(&without.replacen("[sip.tag_routing]", &server("[\"pbx.example.internal\"]"), 1));
    assert!(invalid.unwrap_err().to_string().contains("no name server is configured"));
}

#[test]
fn the_blacklist_has_its_default_and_its_range() {
    let blacklist = |line: &str| {
        let (settings, _) = changed("[sip]\n", &format!("[sip]\n{line}\n")).unwrap();
        settings.sip.blacklist.as_secs()
    };
    assert_eq!((blacklist(""), blacklist("blacklist = 0"), blacklist("blacklist = 3600")), (41, 0, 3600));
    refused("[sip]\n", "[sip]\nblacklist = -1\n", "sip.blacklist", "-1");
    refused("[sip]\n", "[sip]\nblacklist = 3601\n", "sip.blacklist", "3601");
}

#[test]
fn a_3xx_is_forwarded_or_followed() {
    for (text, wanted) in [("forward", Class3xx::Forward), ("follow", Class3xx::Follow)] {
        let (settings, _) = changed("[sip]\n", &format!("[sip]\nclass_3xx = \"{text}\"\n")).unwrap();
        assert_eq!(settings.sip.class_3xx, wanted);
    }
    refused("[sip]\n", "[sip]\nclass_3xx = \"both\"\n", "sip.class_3xx", "forward");
}

#[test]
fn a_row_that_takes_only_what_is_meant_for_it_is_an_outside_one() {
    for (name, outside) in [("phones", true), ("switches", false)] {
        let line = format!("[[sip.ports]]\nname = \"{name}\"\n");
        let with = format!("{line}intercept = false\n");
        assert!(
            changed(&line, &format!("{line}intercept = true\n"))
                .unwrap()
                .0
                .sip
                .ports
                .iter()
                .all(|p| p.intercept)
        );
        if outside {
            let (settings, _) = changed(&line, &with).unwrap();
            assert_eq!(settings.sip.ports.iter().filter(|p| !p.intercept).count(), 1);
        } else {
            refused(&line, &with, "sip.ports[1].intercept", "");
        }
    }
}

#[test]
fn there_are_32_shards_at_most() {
    let (settings, _) = changed("[sip]\n", "[sip]\nshards = 32\n").unwrap();
    assert_eq!(settings.sip.shards, 32);
    refused("[sip]\n", "[sip]\nshards = 33\n", "sip.shards", "33");
    refused("[sip]\n", "[sip]\nshards = -1\n", "sip.shards", "-1");
}

#[test]
fn whom_the_monitor_asks() {
    let row = |row: &str| format!("{FIRST}\n[[monitor.sip]]\n{row}\n");
    let (settings, _) = judged(&row("server = \"10.0.1.50\"")).unwrap();
    let one = &settings.sip.monitor[0];
    assert_eq!((one.server.as_str(), one.port, one.transport.via_token()), ("10.0.1.50", 5061, "TLS"));
    let (settings, _) =
        judged(&row("server = \"PBX.example.internal\"\nport = 5060\ntransport = \"tcp\"")).unwrap();
    assert_eq!(settings.sip.monitor[0].server, "pbx.example.internal");
    for (written, key, says) in [
        ("server = \"10.0.1.2\"", "monitor.sip[0].server", "our own address"),
        ("server = \"203.0.113.10\"", "monitor.sip[0].server", "our own address"),
        ("server = \"10.0.1\"", "monitor.sip[0].server", "neither an address nor a host name"),
        ("server = \"pbx.example.internal:5061\"", "monitor.sip[0].server", "without a port"),
        ("server = \"10.0.1.50\"\nport = 0", "monitor.sip[0].port", "1"),
        ("server = \"10.0.1.50\"\ntransport = \"sctp\"", "monitor.sip[0].transport", "tls"),
        ("server = \"10.0.1.50\"\ntransport = \"udp\"", "monitor.sip[0].transport", "no inside row"),
    ] {
        let invalid = judged(&row(written)).expect_err(written);
        let hit = invalid.refusals.iter().find(|one| one.key == key && one.to_string().contains(says));
        assert!(hit.is_some_and(|hit| hit.line.is_some()), "{written}: {invalid}");
    }
    let many = "[[monitor.sip]]\nserver = \"10.0.1.50\"\n".repeat(101);
    let invalid = judged(&format!("{FIRST}\n{many}")).unwrap_err();
    assert!(invalid.to_string().contains("too many rows"), "{invalid}");
}
