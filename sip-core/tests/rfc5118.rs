//! RFC 5118: the IPv6 messages, and what each reads as.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use sip_core::header::{Contact, To, Via};
use sip_core::message::{Limits, Message};
use sip_core::uri::{Host, Uri};

fn read(name: &str) -> Message {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rfc5118").join(format!("{name}.dat"));
    let bytes: Bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into();
    let message = Message::parse(bytes.clone(), &Limits::default()).expect("parses");
    assert_eq!(message.bytes(), &bytes);
    assert_eq!(message.edit().to_bytes().expect("writes"), bytes, "{name} round-trips");
    message
}

fn valid(name: &str) -> Message {
    let message = read(name);
    assert_eq!(message.validate(), [], "{name}");
    message
}

fn v6(address: &str) -> Option<Host<'static>> {
    Some(Host::V6(address.parse().expect("is an address")))
}

fn target(message: &Message) -> Uri<'_> {
    Uri::parse(message.request_uri().expect("is a request")).expect("reads")
}

fn top_via(message: &Message) -> sip_core::header::ViaValue<'_> {
    message.header::<Via>().expect("is there").expect("reads")
}

#[test]
fn section_4_1_and_4_2_brackets_are_needed() {
    let good = valid("ipv6-good");
    assert_eq!((target(&good).host(), target(&good).port()), (v6("2001:db8::10"), None));
    assert_eq!(Some(top_via(&good).host()), v6("2001:db8::9:1"));
    let finding = read("ipv6-bad").validate();
    let first = finding.first().expect("is found");
    assert_eq!((first.status, first.field), (400, "Request-URI"));
}

#[test]
fn section_4_3_and_4_4_the_port_stands_outside() {
    let ambiguous = valid("port-ambiguous");
    assert_eq!((target(&ambiguous).host(), target(&ambiguous).port()), (v6("2001:db8::10:5070"), None));
    let clear = valid("port-unambiguous");
    assert_eq!((target(&clear).host(), target(&clear).port()), (v6("2001:db8::10"), Some(5070)));
}

#[test]
fn section_4_5_received_with_and_without_brackets() {
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let message = valid(name);
        assert_eq!(top_via(&message).received(), Some("2001:db8::9:255".parse().expect("is an address")));
    }
}

#[test]
fn section_4_6_to_4_9_mixed_families() {
    assert!(valid("ipv6-in-sdp").body().ends_with(b"H263-1998/90000\r\n"));
    assert_eq!(valid("mult-ip-in-sdp").body().len(), 189);
    let mixed = valid("mult-ip-in-header");
    let hosts: Vec<_> = mixed.headers::<Via>().map(|via| via.expect("reads").host().to_string()).collect();
    assert_eq!(hosts, ["[2001:db8::9:1]", "192.0.2.1", "[2001:db8::9:255]"]);
    let mapped = valid("ipv4-mapped-ipv6");
    assert_eq!(top_via(&mapped).port(), Some(19823));
    let contact = mapped.header::<Contact>().expect("is there").expect("reads");
    assert_eq!(contact.uri().expect("reads").host(), v6("::ffff:192.0.2.2"));
}

/// RFC 5118 leaves it to the reader; a liberal one takes three colons for two. The bytes leave as they came.
#[test]
fn section_4_10_three_colons_read_as_two() {
    for name in ["ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"] {
        let message = valid(name);
        assert_eq!(target(&message).host(), v6("2001:db8::192.0.2.1"));
        let to = message.header::<To>().expect("is there").expect("reads");
        assert_eq!(
            to.uri().expect("reads").host().map(|host| host.to_string()).as_deref(),
            Some("[2001:db8::c000:201]")
        );
    }
}
