//! Connections that switches opened, used for requests to them.

use sip_core::edge::Config;
use sip_core::edge::config::Connections;
use sip_core::flow::Side;

use crate::register::{MAC_A, register, registered};
use crate::script::{from_phone, sdp};
use crate::world::{End, World, between, config, identity, reply, row};

fn listed() -> Config {
    let mut config = config();
    config.interop.transports.tls_reuse.networks = ["10.0.1.50/32".parse().unwrap()].into_iter().collect();
    config
}

fn shared() -> Config {
    let mut config = config();
    config.switches.connections = Connections::Shared;
    config
}

/// A question of the PBX to us, with this Via.
fn options(via: &str) -> String {
    format!(
        "OPTIONS sips:10.0.1.2:5061 SIP/2.0
        Via: {via};branch=z9hG4bKalias
        Max-Forwards: 70
        From: <sips:10.0.1.50>;tag=p
        To: <sips:10.0.1.2>
        Call-ID: alias
        CSeq: 1 OPTIONS"
    )
}

/// Whether a call of the phone goes over the connection that the PBX opened.
fn comes_by(world: &mut World, pbx: End) -> bool {
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let id = format!("c{}", world.wire.len());
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", &id, 1, "", &sdp("")));
    world.next(pbx).is_some_and(|text| text.starts_with("INVITE "))
}

#[test]
fn a_listed_switch_is_reached_over_its_own_connection_and_never_dialled() {
    let mut world = World::sharded(listed(), 1);
    let pbx = world.switch("10.0.1.50:33000");
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let request = world.hear_start(pbx, "REGISTER ");
    let contact = row(&request, "Contact").to_owned();
    world.say(pbx, &reply(&request, "200 OK", "p1", &format!("Contact: {contact}")));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert!(!between(&contact, "crt=", ">").is_empty());
    // CANCEL and ACK go the same way as the INVITE.
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &sdp("")));
    let invite = world.hear_start(pbx, "INVITE ");
    world.say(pbx, &reply(&invite, "180 Ringing", "a", ""));
    world.hear_start(phone, "SIP/2.0 180 ");
    let cancel = from_phone("CANCEL", "sips:200@10.0.1.50", "c", 1, "", "");
    world.say(phone, &cancel.replace("c1CANCEL", "c1INVITE"));
    world.hear_start(pbx, "CANCEL ");
    world.say(pbx, &reply(&invite, "487 Request Terminated", "a", ""));
    world.hear_start(pbx, "ACK ");
    // Gone: 503, and still nobody dials.
    world.hang(pbx);
    while world.next(phone).is_some() {}
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "d", 1, "", &sdp("")));
    world.hear_start(phone, "SIP/2.0 503 ");
    assert!(world.dials.is_empty());
    // Back: at once.
    let again = world.switch("10.0.1.50:33001");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "e", 1, "", &sdp("")));
    world.hear_start(again, "INVITE ");
    assert!(world.dials.is_empty());
    // Who is not listed is dialled.
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.51", "f", 1, "", &sdp("")));
    world.hear_start(world.dialled("10.0.1.51:5061"), "INVITE ");
}

#[test]
fn a_listed_switch_is_monitored_over_its_own_connection() {
    let mut config = listed();
    config.monitor = vec![sip_core::edge::config::Monitored {
        server: "10.0.1.50".into(),
        port: 5061,
        transport: sip_core::flow::Transport::Tls,
    }];
    let mut world = World::sharded(config, 1);
    world.wait(std::time::Duration::from_secs(1));
    let pbx = world.switch("10.0.1.50:33000");
    world.wait(std::time::Duration::from_secs(5));
    world.hear_start(pbx, "OPTIONS sips:10.0.1.50:5061 ");
    assert!(world.dials.is_empty());
}

#[test]
fn an_alias_is_used_until_its_connection_closes() {
    let mut world = World::with(shared());
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &options("SIP/2.0/TLS 10.0.1.50:5061;alias"));
    world.hear_start(pbx, "SIP/2.0 200 ");
    assert!(comes_by(&mut world, pbx) && world.dials.is_empty());
    world.hang(pbx);
    let pbx = world.switch("10.0.1.50:33001");
    assert!(!comes_by(&mut world, pbx));
    assert_eq!(world.dials.len(), 1);
}

#[test]
fn what_is_no_alias() {
    let tls = "SIP/2.0/TLS 10.0.1.50:5061";
    for (via, verified, certified, per_phone) in [
        (tls.to_owned(), true, true, false),
        // Another place than the one it comes from, by address and by a name that the certificate lacks.
        ("SIP/2.0/TLS 10.0.1.51:5061;alias".to_owned(), true, true, false),
        ("SIP/2.0/TLS sip.example.com:5061;alias".to_owned(), true, true, false),
        // Another port.
        ("SIP/2.0/TLS 10.0.1.50:5099;alias".to_owned(), true, true, false),
        // Trusted by its address, or not at all.
        (format!("{tls};alias"), true, false, false),
        (format!("{tls};alias"), false, false, false),
        // Phones have lines of their own, which say who asks.
        (format!("{tls};alias"), true, true, true),
    ] {
        let mut world = World::with(if per_phone { config() } else { shared() });
        let who = certified.then(|| identity("pbx"));
        let pbx = world.connect(Side::Inside, "10.0.1.50:33000", who, verified);
        world.say(pbx, &options(&via));
        let _ = world.next(pbx);
        if per_phone {
            registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
        }
        assert!(!comes_by(&mut world, pbx), "{via} {verified} {certified} {per_phone}");
    }
    // A name that the certificate has is as good as the address.
    let mut world = World::with(shared());
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &options("SIP/2.0/TLS PBX:5061;alias"));
    let _ = world.next(pbx);
    assert!(comes_by(&mut world, pbx));
}
