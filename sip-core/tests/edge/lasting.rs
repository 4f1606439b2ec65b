//! Calls and registrations that outlive connections, configurations and the process.

use sip_core::edge::event::Step;
use sip_core::edge::{Command, Event};
use sip_core::token::InstanceId;

use crate::register::{MAC_A, MAC_B, register, register_on};
use crate::routing::steps;
use crate::script::{Call, from_pbx, from_phone, target};
use crate::world::{World, between, config, reply, row};

#[test]
fn a_running_call_outlives_the_connection() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let second = Call::again(&mut world, "d", call.phone, call.own, call.pbx, &call.token);
    world.hang(call.phone);
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    world.hear_start(call.pbx, "SIP/2.0 480 ");
    // Somebody else takes over address and port.
    let stranger = world.phone(MAC_B, "198.51.100.7:40000");
    register_on(&mut world, stranger, MAC_B, "192.168.1.7", 1);
    world.say(call.pbx, &call.of_pbx("INFO", 3, ""));
    world.hear_start(call.pbx, "SIP/2.0 480 ");
    world.say(stranger, &call.of_phone("BYE", 9, ""));
    world.hear_start(stranger, "SIP/2.0 403 ");
    world.silent(stranger);
    // The phone is back on another port, and registers as ever: the PBX sees the same Contact.
    let back = world.phone(MAC_A, "198.51.100.7:41000");
    let own = call.own;
    world.say(back, &register(MAC_A, "192.168.1.7", 2, ""));
    let text = world.hear_start(own, "REGISTER ");
    assert_eq!(between(&text, "crt=", ">"), call.token);
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(back, "SIP/2.0 200 ");
    world.say(call.pbx, &call.of_pbx("BYE", 4, ""));
    let bye = world.hear_start(back, "BYE sips:117@192.168.1.7 SIP/2.0\r\n");
    world.say(back, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(call.pbx, "SIP/2.0 200 ");
    world.say(back, &second.of_phone("BYE", 2, ""));
    let bye = world.hear_start(own, "BYE sips:200@10.0.1.50:5061;transport=tls ");
    world.say(own, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(back, "SIP/2.0 200 ");
    assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { .. })), 2);
}

#[test]
fn any_request_brings_a_lost_phone_back() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.hang(call.phone);
    let back = world.phone(MAC_A, "198.51.100.7:41000");
    world.say(back, &call.of_phone("BYE", 2, ""));
    world.hear_start(call.own, "BYE ");
    assert_eq!(world.saw(|e| matches!(e, Event::PhoneMoved { .. })), 1);
    world.say(call.pbx, &from_pbx("INVITE", &target(&call.token), "n", 1, "", ""));
    world.hear_start(back, "INVITE ");
}

#[test]
fn after_a_restart_the_known_are_gone_and_not_unknown() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.restart(config());
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&call.token), "n", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 480 ");
    world.say(pbx, &call.of_pbx("INFO", 2, ""));
    world.hear_start(pbx, "SIP/2.0 480 ");
    // Back without a REGISTER: the call of before the restart can be ended by both.
    let back = world.phone(MAC_A, "198.51.100.7:41000");
    world.say(back, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    world.say(pbx, &call.of_pbx("INFO", 3, ""));
    world.hear_start(back, "INFO sips:117@192.168.1.7 ");
    world.say(back, &call.of_phone("BYE", 2, ""));
    let own = world.dialled("10.0.1.50:5061");
    world.hear_start(own, "OPTIONS ");
    world.hear_start(own, "BYE sips:200@10.0.1.50:5061;transport=tls ");
    let step = steps(&world);
    assert_eq!(step.last(), Some(&Step::Route));
}

#[test]
fn a_phone_that_speaks_outbound_is_430() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ";reg-id=1\nSupported: path, outbound"));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear(own);
    let token = between(&text, "crt=", ">").to_owned();
    world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hang(phone);
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "n", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 430 ");
}

#[test]
fn a_change_of_configuration_leaves_calls_alone() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let mut other = config();
    other.interop.contacts.tag_routing.pattern = sip_core::edge::route_tag::Pattern::new("x-mac=", "").ok();
    other.inside_networks = ["10.0.1.50/32".parse().unwrap()].into_iter().collect();
    other.max_forwards = 20;
    world.command(Command::Reconfigure(Box::new(other)));
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    let info = world.hear_start(call.phone, "INFO ");
    assert_eq!(row(&info, "Max-Forwards"), "19");
    world.say(call.pbx, &from_pbx("INVITE", &target(&call.token), "n", 1, "", ""));
    world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &from_phone("INVITE", "sips:200@10.0.1.51", "x", 1, "", ""));
    world.hear_start(call.phone, "SIP/2.0 403 ");
    world.say(call.phone, &call.of_phone("BYE", 2, ""));
    world.hear_start(call.own, "BYE ");
    assert!(world.edge.bindings().get(InstanceId::new("farend", MAC_A)).is_some());
}

#[test]
fn draining_refuses_what_is_new() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.command(Command::Drain);
    world.say(call.pbx, &from_pbx("INVITE", &target(&call.token), "n", 1, "", ""));
    let answer = world.hear_start(call.pbx, "SIP/2.0 503 ");
    assert!((10..=60).contains(&row(&answer, "Retry-After").parse::<u32>().unwrap()));
    world.say(call.phone, &register(MAC_A, "192.168.1.7", 2, ""));
    world.hear_start(call.phone, "SIP/2.0 503 ");
    world.say(call.pbx, &call.of_pbx("INVITE", 2, ""));
    world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &call.of_phone("BYE", 2, ""));
    world.hear_start(call.own, "BYE ");
    world.command(Command::Resume);
    world.say(call.phone, &register(MAC_A, "192.168.1.7", 3, ""));
    world.hear_start(call.own, "REGISTER ");
}

#[test]
fn a_call_goes_on_when_its_switch_is_no_longer_inside() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let mut other = config();
    other.inside_networks = ["10.0.1.60/32".parse().unwrap()].into_iter().collect();
    world.command(Command::Reconfigure(Box::new(other)));
    // What was shown opens no new call.
    world.say(call.phone, &from_phone("INVITE", &call.phone_target, "n", 1, "", ""));
    world.hear_start(call.phone, "SIP/2.0 403 ");
    world.say(call.phone, &call.of_phone("BYE", 2, ""));
    let bye = world.hear_start(call.own, "BYE sips:200@10.0.1.50:5061;transport=tls ");
    world.say(call.own, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(call.phone, "SIP/2.0 200 ");
}
