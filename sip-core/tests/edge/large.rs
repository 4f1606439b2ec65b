//! What is too long for a datagram (SIP-61), what lies about its transport (SIP-60), what names somebody else (SIP-03).

use sip_core::edge::Event;
use sip_core::flow::Transport;

use crate::register::{MAC_A, register};
use crate::script::from_phone;
use crate::transports::{config, on, udp};
use crate::world::{World, reply, row};

/// A configuration whose switches are on UDP.
fn udp_inside() -> sip_core::edge::Config {
    let mut config = config();
    config.switches.transport = Transport::Udp;
    config.switches.port = 5060;
    config
}

fn long(call: &str) -> String {
    on(
        "UDP",
        &from_phone("MESSAGE", "sips:200@10.0.1.50", call, 1, "", &format!("X-Long: {}", "x".repeat(2_900))),
    )
}

#[test]
fn what_is_too_long_for_a_datagram_goes_by_tcp() {
    let mut world = World::with(udp_inside());
    let phone = udp("198.51.100.7:40000");
    world.say(phone, &on("UDP", &from_phone("MESSAGE", "sips:200@10.0.1.50", "short", 1, "", "")));
    assert_eq!(world.dials.last().map(|(dial, _)| dial.transport), Some(Transport::Udp));
    world.say(phone, &long("long"));
    assert_eq!(world.dials.last().map(|(dial, _)| dial.transport), Some(Transport::Tcp));
    let pbx = world.dialled("10.0.1.50:5060");
    let text = world.hear_start(pbx, "MESSAGE ");
    assert!(row(&text, "Via").starts_with("SIP/2.0/TCP 10.0.1.2:"), "{text}");
    world.say(pbx, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
}

#[test]
fn a_switch_that_has_no_tcp_gets_the_datagram_once() {
    let mut world = World::with(udp_inside());
    world.refuses_tcp = true;
    let phone = udp("198.51.100.7:40000");
    world.say(phone, &long("long"));
    assert_eq!(world.dials.last().map(|(dial, _)| dial.transport), Some(Transport::Udp));
    let pbx = world.dialled("10.0.1.50:5060");
    let text = world.hear_start(pbx, "MESSAGE ");
    assert!(row(&text, "Via").starts_with("SIP/2.0/UDP 10.0.1.2:5060;") && text.len() > 1300, "{text}");
    assert_eq!(world.saw(|e| matches!(e, Event::SwitchUnreachable { .. })), 1);
}

#[test]
fn large_udp_stays_on_udp() {
    let mut config = udp_inside();
    config.interop.transports.large_udp = true;
    let mut world = World::with(config);
    world.say(udp("198.51.100.7:40000"), &long("long"));
    let transports: Vec<_> = world.dials.iter().map(|(dial, _)| dial.transport).collect();
    assert_eq!(transports, [Transport::Udp]);
}

#[test]
fn a_via_that_says_tls_over_tcp_is_taken_from_a_named_offload_only() {
    for (on_switch, listed, status) in [(false, true, "400"), (true, false, "400"), (true, true, "")] {
        let mut config = config();
        config.interop.transports.tcp_marked_tls = on_switch;
        if listed {
            config.interop.transports.tcp_marked_tls_from.networks =
                ["198.51.100.7/32".parse().unwrap()].into_iter().collect();
        }
        let mut world = World::with(config);
        let phone = world.plain("198.51.100.7:40000");
        if status.is_empty() {
            // As it came out of the offload.
            world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
            world.hear_start(world.dialled("10.0.1.50:5061"), "REGISTER ");
        } else {
            world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
            world.hear_start(phone, "SIP/2.0 400 Bad Request (Via says TLS)");
            assert!(world.dials.is_empty());
        }
    }
}

#[test]
fn without_intercept_a_request_must_name_us() {
    for intercept in [true, false] {
        let mut config = config();
        for listener in &mut config.listeners {
            listener.intercept = intercept;
        }
        config.servers = vec![sip_core::resolve::Server {
            name: "main".to_owned(),
            addresses: vec![("10.0.1.50".parse().unwrap(), None)],
            matches: Vec::new(),
            lookup: None,
        }];
        let mut world = World::with(config);
        // The phone has the PBX as registrar and us as outbound proxy.
        let phone = world.plain("198.51.100.7:40000");
        world.say(phone, &on("TCP", &register(MAC_A, "192.168.1.7", 1, "")));
        if !intercept {
            world.hear_start(phone, "SIP/2.0 403 ");
            assert!(world.dials.is_empty());
            // With us as registrar, or in its Route.
            let text = on("TCP", &register(MAC_A, "192.168.1.7", 2, ""));
            world.say(phone, &text.replace("REGISTER sip:10.0.1.50", "REGISTER sip:192.0.2.1"));
            world.hear_start(world.dialled("10.0.1.50:5061"), "REGISTER ");
            let text = on(
                "TCP",
                &from_phone(
                    "MESSAGE",
                    "sips:200@10.0.1.50",
                    "m",
                    1,
                    "",
                    "Route: <sip:192.0.2.1:5060;transport=tcp;lr>",
                ),
            );
            world.say(phone, &text);
            world.hear_start(world.dialled("10.0.1.50:5061"), "MESSAGE ");
        } else {
            world.hear_start(world.dialled("10.0.1.50:5061"), "REGISTER ");
        }
    }
}
