//! Whether phones are still there (MED-02): who is asked, who is left alone, who is taken for gone.

use std::time::Duration;

use sip_core::edge::config::KeepAliveMethod;
use sip_core::edge::event::Closing;
use sip_core::edge::{Command, Config, Event};

use crate::register::MAC_A;
use crate::script::{from_pbx, from_phone, target};
use crate::transports::{ALL, config, on, phone, register_over, udp};
use crate::world::{World, reply, row};

fn with(method: KeepAliveMethod) -> Config {
    let mut config = config();
    config.keep_alive.method = method;
    config
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_silent_phone_is_asked_once_an_interval() {
    for (over, scheme, ours) in ALL {
        let mut world = World::with(with(KeepAliveMethod::Auto));
        let phone = phone(&mut world, over, "198.51.100.7:40000");
        register_over(&mut world, over, phone, MAC_A, 1);
        let interval = if over == "UDP" { 25 } else { 45 };
        for _ in 0..60 {
            world.wait(SECOND * (interval - 1));
            world.silent(phone);
            world.wait(SECOND);
            let options =
                world.hear_start(phone, &format!("OPTIONS {scheme}:anonymous@192.168.1.7 SIP/2.0\r\n"));
            let authority = ours.split(';').next().unwrap();
            assert!(
                row(&options, "Via").starts_with(&format!("SIP/2.0/{over} {authority};branch=")),
                "{options}"
            );
            // Any answer will do.
            world.say(phone, &reply(&options, "405 Method Not Allowed", "x", "X: 1"));
        }
        assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. } | Event::FlowClosed { .. })), 0);
        assert_eq!(world.edge.snapshot(world.now).refused, 0);
    }
}

#[test]
fn who_pings_or_speaks_is_not_asked() {
    for (over, _, _) in ALL {
        // Pings over UDP stay with the shard that has the socket.
        let mut world = World::sharded(with(KeepAliveMethod::Auto), 1);
        let phone = phone(&mut world, over, "198.51.100.7:40000");
        let (own, _) = register_over(&mut world, over, phone, MAC_A, 1);
        // Slower than our interval, as RFC 5626 lets it, for almost an hour.
        world.ping(phone);
        for _ in 0..30 {
            world.wait(SECOND * if over == "UDP" { 29 } else { 110 });
            world.ping(phone);
        }
        world.silent(phone);
        // It stops: it is asked when its own interval is over.
        world.wait(SECOND * 31);
        assert_eq!(world.next(phone).is_some(), over == "UDP");
        world.wait(SECOND * 100);
        world.hear_start(phone, "OPTIONS ");
        if over == "UDP" {
            continue;
        }
        // Requests are signs of life as well: the next question comes an interval after the last of them.
        let mut world = World::with(with(KeepAliveMethod::Auto));
        let phone = crate::transports::phone(&mut world, over, "198.51.100.7:40000");
        let _ = own;
        let (own, _) = register_over(&mut world, over, phone, MAC_A, 1);
        for n in 0..5 {
            world.wait(SECOND * 40);
            let id = format!("i{n}");
            world.say(phone, &on(over, &from_phone("MESSAGE", "sips:200@10.0.1.50", &id, 1, "", "")));
            let text = world.hear_start(own, "MESSAGE ");
            world.say(own, &reply(&text, "200 OK", "t", "X: 1"));
            world.hear_start(phone, "SIP/2.0 200 ");
        }
        world.wait(SECOND * 44);
        world.silent(phone);
        world.wait(SECOND);
        world.hear_start(phone, "OPTIONS ");
    }
}

#[test]
fn two_misses_and_the_phone_is_gone() {
    for (over, ..) in ALL {
        let mut world = World::with(with(KeepAliveMethod::Auto));
        let phone = phone(&mut world, over, "198.51.100.7:40000");
        let (_, token) = register_over(&mut world, over, phone, MAC_A, 1);
        // An answer may take an interval, and no longer than a transaction.
        let (interval, miss) = if over == "UDP" { (25, 25) } else { (45, 32) };
        // One miss is none.
        world.wait(SECOND * (2 * interval - 1));
        while world.next(phone).is_some() {}
        world.wait(SECOND);
        let options = world.hear_start(phone, "OPTIONS ");
        world.say(phone, &reply(&options, "200 OK", "x", "X: 1"));
        // Two in a row.
        world.wait(SECOND * (2 * interval + miss - 1));
        while world.next(phone).is_some() {}
        assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. })), 0);
        world.wait(SECOND);
        assert_eq!(world.saw(|e| matches!(e, Event::PhoneLost { .. })), 1, "{over}");
        let closed = |e: &Event| matches!(e, Event::FlowClosed { why: Closing::Unanswered, .. });
        assert_eq!(world.saw(closed), usize::from(over != "UDP"));
        assert!(!world.stands(phone), "{over}");
        let pbx = world.switch("10.0.1.50:33000");
        world.say(pbx, &from_pbx("INVITE", &target(&token), "c", 1, "", ""));
        world.hear_start(pbx, "SIP/2.0 480 ");
        // It was not: it comes back, and is looked after again.
        let back = crate::transports::phone(&mut world, over, "198.51.100.7:40000");
        while world.next(back).is_some() {}
        register_over(&mut world, over, back, MAC_A, 2);
        world.wait(SECOND * interval);
        world.hear_start(back, "OPTIONS ");
    }
}

#[test]
fn the_other_methods() {
    // Whoever pings is asked all the same.
    let mut world = World::with(with(KeepAliveMethod::Options));
    let phone = udp("198.51.100.7:40000");
    register_over(&mut world, "UDP", phone, MAC_A, 1);
    world.wait(SECOND * 20);
    world.ping(phone);
    world.wait(SECOND * 5);
    world.hear_start(phone, "OPTIONS ");
    // Line ends want no answer.
    let mut world = World::with(with(KeepAliveMethod::Crlf));
    let phone = world.plain("198.51.100.7:40000");
    register_over(&mut world, "TCP", phone, MAC_A, 1);
    world.wait(SECOND * 450);
    for _ in 0..10 {
        assert_eq!(world.hear(phone), "\r\n\r\n");
    }
    world.silent(phone);
    assert!(world.stands(phone));
    // Off, and a reload that turns it on for phones that are there.
    let mut world = World::with(with(KeepAliveMethod::Off));
    let phone = world.plain("198.51.100.7:40000");
    register_over(&mut world, "TCP", phone, MAC_A, 1);
    world.wait(SECOND * 450);
    world.silent(phone);
    world.command(Command::Reconfigure(Box::new(with(KeepAliveMethod::Auto))));
    world.wait(SECOND * 45);
    world.hear_start(phone, "OPTIONS ");
    world.command(Command::Reconfigure(Box::new(with(KeepAliveMethod::Off))));
    while world.next(phone).is_some() {}
    world.wait(SECOND * 450);
    world.silent(phone);
    assert!(world.stands(phone));
}

#[test]
fn nobody_is_asked_without_a_registration() {
    let mut world = World::with(with(KeepAliveMethod::Auto));
    let guest = world.plain("198.51.100.7:40000");
    world.say(guest, &on("TCP", &from_phone("OPTIONS", "sips:200@10.0.1.50", "o", 1, "", "")));
    let phone = world.plain("198.51.100.8:40000");
    register_over(&mut world, "TCP", phone, MAC_A, 1);
    world.hang(phone);
    world.wait(SECOND * 300);
    while let Some(text) = world.next(guest).or_else(|| world.next(phone)) {
        assert!(!text.starts_with("OPTIONS"), "{text}");
    }
}
