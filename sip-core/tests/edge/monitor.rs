//! Switches that are asked by OPTIONS whether they live.

use std::time::Duration;

use sip_core::edge::config::Monitored;
use sip_core::edge::event::{Health, Switch, Verdict};
use sip_core::edge::{Command, Config, Event};
use sip_core::flow::Transport;
use sip_core::resolve::Server;

use crate::register::{MAC_A, registered};
use crate::script::{from_phone, sdp};
use crate::world::{End, World, config, reply, row};

const FIRST: &str = "10.0.1.51:5061";
const SECOND: &str = "10.0.1.52:5061";

fn watched(server: &str) -> Config {
    let mut config = config();
    let row = Monitored { server: server.into(), port: 5061, transport: Transport::Tls };
    config.monitor = vec![row];
    config.internal_domains = vec!["example.internal".into()];
    config.servers = vec![Server {
        name: "main".into(),
        matches: vec!["sip.example.com".into()],
        addresses: vec![("10.0.1.51".parse().unwrap(), None), ("10.0.1.52".parse().unwrap(), None)],
        ..Default::default()
    }];
    config
}

fn judged(world: &World, remote: &str, verdict: Verdict) -> usize {
    let switch = Switch { remote: remote.parse().unwrap(), transport: Transport::Tls };
    world.saw(|e| *e == Event::Judged { switch, verdict })
}

fn answer(world: &mut World, end: End, status: &str) {
    let options = world.hear_start(end, "OPTIONS sips:10.0.1.5");
    world.say(end, &reply(&options, status, "m", ""));
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// To whom a call goes now.
fn called(world: &mut World, phone: End, id: &str) -> String {
    world.say(phone, &from_phone("INVITE", "sips:200@sip.example.com", id, 1, "", &sdp("")));
    let invite = world.wire.iter().rev().find(|line| line.contains("\nINVITE ") && line.starts_with(">>"));
    invite.map_or_else(String::new, |line| line[3..].split('\n').next().unwrap_or_default().to_owned())
}

#[test]
fn a_switch_is_asked_every_30_s_down_after_three_misses_and_up_after_one_answer() {
    let mut world = World::with(watched("10.0.1.51"));
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let first = world.dialled(FIRST);
    let options = world.hear_start(first, "OPTIONS sips:10.0.1.51:5061 SIP/2.0");
    assert!(row(&options, "Via").starts_with("SIP/2.0/TLS 10.0.1.2:5061;"), "{options}");
    // Whatever it thinks of the question: it lives.
    world.say(first, &reply(&options, "404 Not Found", "m", ""));
    assert_eq!(judged(&world, FIRST, Verdict::Up), 1);
    world.wait(Duration::from_millis(29_999));
    world.silent(first);
    world.wait(Duration::from_millis(1));
    // It hangs: 4 s of silence, and every 5 s another question.
    for miss in 1..=3 {
        world.hear_start(first, "OPTIONS ");
        world.wait(secs(4));
        assert_eq!(judged(&world, FIRST, Verdict::Silent), usize::from(miss >= 2));
        assert_eq!(judged(&world, FIRST, Verdict::Down), usize::from(miss >= 3));
        world.wait(secs(1));
    }
    // 41 s later as well: down is down.
    for _ in 0..12 {
        world.hear_start(first, "OPTIONS ");
        world.wait(secs(5));
    }
    assert_eq!(called(&mut world, phone, "down"), SECOND);
    assert_eq!(judged(&world, FIRST, Verdict::Down), 1, "told once");
    world.hear_start(first, "OPTIONS ");
    world.wait(secs(5));
    answer(&mut world, first, "200 OK");
    assert_eq!(judged(&world, FIRST, Verdict::Up), 2);
    assert_eq!(called(&mut world, phone, "up"), FIRST);
}

#[test]
fn answers_408_and_503_count_as_misses_and_a_refused_connection_too() {
    for status in ["408 Request Timeout", "503 Service Unavailable"] {
        let mut world = World::with(watched("10.0.1.51"));
        world.wait(Duration::ZERO);
        let first = world.dialled(FIRST);
        for _ in 0..3 {
            answer(&mut world, first, status);
            world.wait(secs(5));
        }
        assert_eq!(judged(&world, FIRST, Verdict::Down), 1, "{status}");
    }
    let mut world = World::with(watched("10.0.1.51"));
    world.down.insert(FIRST.parse().unwrap());
    world.wait(secs(10));
    assert_eq!(judged(&world, FIRST, Verdict::Down), 1);
    world.down.clear();
    world.wait(secs(5));
    let first = world.dialled(FIRST);
    answer(&mut world, first, "200 OK");
    assert_eq!(judged(&world, FIRST, Verdict::Up), 1);
}

#[test]
fn a_switch_that_stops_is_down_within_20_s_although_it_is_asked_every_30() {
    let mut world = World::with(watched("10.0.1.51"));
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let first = world.dialled(FIRST);
    answer(&mut world, first, "200 OK");
    world.wait(secs(10));
    world.down.insert(FIRST.parse().unwrap());
    world.hang(first);
    // The next request goes elsewhere at once: the connection that closed made the monitor look.
    assert_eq!(called(&mut world, phone, "c"), SECOND);
    world.wait(secs(11));
    assert_eq!(judged(&world, FIRST, Verdict::Down), 1);
    world.down.clear();
    world.wait(secs(5));
    let first = world.dialled(FIRST);
    answer(&mut world, first, "200 OK");
    assert_eq!(called(&mut world, phone, "d"), FIRST);
}

#[test]
fn an_answer_ends_the_blacklist_early() {
    let mut world = World::with(watched("10.0.1.51"));
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let first = world.dialled(FIRST);
    answer(&mut world, first, "200 OK");
    world.wait(secs(10));
    // A call that it doesn't answer puts it on the list, and has it asked.
    assert_eq!(called(&mut world, phone, "slow"), FIRST);
    world.wait(secs(4));
    assert_eq!(judged(&world, FIRST, Verdict::Silent), 1);
    answer(&mut world, first, "200 OK");
    assert_eq!(judged(&world, FIRST, Verdict::Up), 2);
    assert_eq!(called(&mut world, phone, "next"), FIRST);
}

#[test]
fn each_address_of_a_name_is_asked_but_not_strangers_and_not_ourselves() {
    let mut world = World::with(watched("pbx.example.internal"));
    world.a("pbx.example.internal", &["10.0.1.51", "10.0.1.52", "203.0.113.9", "10.0.1.2"]);
    world.wait(Duration::ZERO);
    assert_eq!(world.dials.len(), 2);
    let ends = [FIRST, SECOND].map(|remote| world.dialled(remote));
    for end in ends {
        answer(&mut world, end, "200 OK");
    }
    // The name moves: the old address is asked no more, and what was held against it is forgotten.
    world.a("pbx.example.internal", &["10.0.1.52", "10.0.1.53"]);
    world.wait(secs(121));
    let third = world.dialled("10.0.1.53:5061");
    world.hear_start(third, "OPTIONS ");
    assert_eq!(judged(&world, FIRST, Verdict::Down), 1);
    assert_eq!(judged(&world, FIRST, Verdict::Up), 2);
    while world.next(ends[0]).is_some() {}
    world.wait(secs(30));
    world.silent(ends[0]);
    // Gone from DNS altogether: it is asked where it was.
    world.zone.insert(
        (sip_core::resolve::records::Kind::Addresses, "pbx.example.internal".into()),
        (sip_core::resolve::records::Records::Missing, 60),
    );
    world.wait(secs(121));
    assert!(world.saw(|e| matches!(e, Event::Unlocated { .. })) >= 1);
    while world.next(third).is_some() {}
    world.wait(secs(5));
    world.hear_start(third, "OPTIONS ");
}

#[test]
fn a_reload_takes_rows_out_and_puts_rows_in() {
    let mut world = World::with(watched("10.0.1.51"));
    world.wait(Duration::ZERO);
    let first = world.dialled(FIRST);
    world.wait(secs(20));
    assert_eq!(judged(&world, FIRST, Verdict::Down), 1);
    let states = world.edge.snapshot(world.now).switches;
    assert!(matches!(&states[..], [one] if one.down && one.health == Health::Down), "{states:?}");
    world.command(Command::Reconfigure(Box::new(watched("10.0.1.52"))));
    world.hear_start(world.dialled(SECOND), "OPTIONS ");
    assert_eq!(judged(&world, FIRST, Verdict::Up), 1, "nobody else could call it up");
    while world.next(first).is_some() {}
    world.wait(secs(60));
    world.silent(first);
}
