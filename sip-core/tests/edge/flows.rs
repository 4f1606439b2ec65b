//! What connections one certificate can have, outside and, through us, at the PBX; and when they are closed.

use std::time::Duration;

use sip_core::edge::Event;
use sip_core::edge::event::{Closing, Reason};

use crate::register::{MAC_A, MAC_B, register, register_on, registered};
use crate::script::{Call, from_pbx, from_phone};
use crate::world::{World, between, config, identity, reply, row, unguarded};

/// The n-th tag of somebody who makes them up.
fn tag(n: usize) -> String {
    format!("AAAA0000{n:04X}")
}

#[test]
fn refused_registrations_leave_no_connection_to_the_pbx() {
    let mut world = World::with(unguarded());
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 0..20 {
        world.say(phone, &register(&tag(n), "192.168.1.7", 1, ""));
        let pbx = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(pbx, "REGISTER ");
        assert_eq!(world.open_dials(), 1, "one while it is asked");
        world.say(pbx, &reply(&text, "404 Not Found", "t", "X: 1"));
        world.hear_start(phone, "SIP/2.0 404 ");
        assert_eq!(world.open_dials(), 0, "{}", world.story());
    }
    assert!(world.edge.bindings().is_empty());
}

#[test]
fn registrations_that_wait_are_bounded_for_each_certificate() {
    let mut world = World::with(unguarded());
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 0..40 {
        world.say(phone, &register(&tag(n), "192.168.1.7", 1, ""));
    }
    assert_eq!(world.open_dials(), 10);
    let limit = Reason::Limit("bindings_per_certificate");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason, .. } if *reason == limit)), 30);
    // He hangs up, and does the same again while the PBX still thinks: those after share one connection.
    for round in 1..4 {
        world.hang(phone);
        let phone = world.phone(MAC_A, "198.51.100.7:40001");
        for n in 0..10 {
            world.say(phone, &register(&tag(100 * round + n), "192.168.1.7", 1, ""));
        }
        world.hang(phone);
        assert!(world.open_dials() <= 11, "{}", world.open_dials());
    }
    // The PBX never answers.
    world.wait(Duration::from_secs(60));
    assert_eq!(world.open_dials(), 1);
}

#[test]
fn queries_for_made_up_users_share_one_connection() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 0..12 {
        let text = from_phone("REGISTER", "sips:10.0.1.50", &format!("q{n}"), 1, "", "");
        let text = text.replace("Contact: <sips:117@192.168.1.7>\n", "");
        world.say(phone, &text.replace("To: <sips:200", &format!("To: <sips:u{n}")));
    }
    assert_eq!(world.open_dials(), 1);
}

#[test]
fn a_challenged_phone_keeps_its_connection() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &register(MAC_A, "192.168.1.7", 1, ""));
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(pbx, "REGISTER ");
    world.say(
        pbx,
        &reply(&text, "401 Unauthorized", "t", "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\""),
    );
    world.hear_start(phone, "SIP/2.0 401 ");
    let (again, _) = register_on(&mut world, phone, MAC_A, "192.168.1.7", 2);
    assert_eq!((again, world.dials.len()), (pbx, 1));
    // One that does not come again is forgotten, with its connection.
    let other = world.phone(MAC_B, "198.51.100.8:40000");
    world.say(other, &register(MAC_B, "192.168.1.8", 1, ""));
    let second = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(second, "REGISTER ");
    world.say(second, &reply(&text, "401 Unauthorized", "t", "X: 1"));
    assert_eq!(world.open_dials(), 2);
    world.wait(Duration::from_secs(61));
    assert_eq!((world.open_dials(), world.stands(second), world.stands(pbx)), (1, false, true));
}

#[test]
fn a_binding_that_ends_takes_its_connection_along() {
    let mut world = World::new();
    let (phone, pbx, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    // It is asked for something while the phone leaves.
    world.say(pbx, &from_pbx("OPTIONS", "sips:anonymous@10.0.1.2", "o", 1, "", ""));
    let options = world.hear_start(phone, "OPTIONS ");
    world.say(phone, &register(MAC_A, "192.168.1.7", 2, "\nExpires: 0").replace(";expires=3600", ""));
    let text = world.hear_start(pbx, "REGISTER ");
    world.say(pbx, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert!(world.stands(pbx), "a request runs on it");
    world.say(phone, &reply(&options, "200 OK", "t", "X: 1"));
    world.hear_start(pbx, "SIP/2.0 200 ");
    assert!(!world.stands(pbx), "{}", world.story());
    // By time.
    let (_, pbx) = (register_on(&mut world, phone, MAC_A, "192.168.1.7", 3), world.dialled("10.0.1.50:5061"));
    assert!(world.stands(pbx));
    world.wait(Duration::from_secs(3601));
    assert_eq!(world.open_dials(), 0);
}

#[test]
fn a_call_outlives_the_registration_over_the_shared_connection() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.phone, &register(MAC_A, "192.168.1.7", 2, "\nExpires: 0").replace(";expires=3600", ""));
    let text = world.hear_start(call.own, "REGISTER ");
    world.say(call.own, &reply(&text, "200 OK", "t", "X: 1"));
    world.hear_start(call.phone, "SIP/2.0 200 ");
    assert!(!world.stands(call.own));
    world.say(call.phone, &call.of_phone("BYE", 2, ""));
    let shared = world.dialled("10.0.1.50:5061");
    assert_eq!(world.dials.last().unwrap().0.affinity, None);
    let bye = world.hear_start(shared, "BYE ");
    world.say(shared, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(call.phone, "SIP/2.0 200 ");
}

#[test]
fn one_phone_has_few_connections_of_its_own() {
    let mut world = World::new();
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for port in 1000..1050 {
        let uri = format!("sips:200@10.0.1.50:{port}");
        world.say(phone, &from_phone("OPTIONS", &uri, &format!("p{port}"), 1, "", ""));
    }
    let own = world.dials.iter().filter(|(dial, _)| dial.affinity.is_some()).count();
    assert_eq!(own, 8);
}

#[test]
fn an_idle_connection_is_closed() {
    let mut world = World::new();
    let idle = world.phone(MAC_A, "198.51.100.7:40000");
    let (phone, ..) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let pbx = world.switch("10.0.1.50:33000");
    world.wait(Duration::from_secs(300));
    world.say(idle, &from_phone("OPTIONS", "sips:192.0.2.1:5061", "a", 1, "", ""));
    world.hear_start(idle, "SIP/2.0 200 ");
    world.wait(Duration::from_secs(599));
    assert!(world.stands(idle));
    world.wait(Duration::from_secs(1));
    assert!(!world.stands(idle) && world.stands(phone) && world.stands(pbx));
    assert_eq!(world.saw(|e| matches!(e, Event::FlowClosed { why: Closing::Idle, .. })), 1);
    // Its registration ends: it stays for a while more.
    world.wait(Duration::from_secs(3600));
    assert_eq!(world.edge.bindings().len(), 0);
    world.wait(Duration::from_secs(600));
    assert!(!world.stands(phone) && world.stands(pbx));
    assert_eq!(world.edge.snapshot(world.now).flows, 0);
}

#[test]
fn a_call_keeps_its_connection() {
    let mut config = config();
    config.timers.flow_idle = Duration::from_secs(30);
    let mut world = World::with(config);
    // A phone that is not registered, whose call rings for longer, and then runs for longer.
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
    let pbx = world.dialled("10.0.1.50:5061");
    let invite = world.hear_start(pbx, "INVITE ");
    world.say(pbx, &reply(&invite, "100 Trying", "", "X: 1"));
    world.wait(Duration::from_secs(100));
    world.say(pbx, &reply(&invite, "200 OK", "u", "Contact: <sips:200@10.0.1.50>"));
    world.wait(Duration::from_secs(100));
    assert!(world.stands(phone));
    world.hear_start(phone, "SIP/2.0 100 ");
    let ok = world.hear_start(phone, "SIP/2.0 200 ");
    let (route, remote) = (row(&ok, "Record-Route"), between(row(&ok, "Contact"), "<", ">"));
    world.say(phone, &from_phone("BYE", remote, "c", 2, "u", &format!("Route: {route}")));
    let bye = world.hear_start(pbx, "BYE ");
    world.say(pbx, &reply(&bye, "200 OK", "", "X: 1"));
    world.wait(Duration::from_secs(100));
    assert!(!world.stands(phone));
}

#[test]
fn a_certificate_has_so_many_connections() {
    let mut world = World::new();
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let open: Vec<_> = (0..40)
        .map(|n| {
            world.wait(Duration::from_secs(1));
            world.phone(MAC_A, &format!("198.51.100.7:{}", 41000 + n))
        })
        .collect();
    let standing: Vec<bool> = open.iter().map(|end| world.stands(*end)).collect();
    assert_eq!(standing, [[false; 25].as_slice(), &[true; 15]].concat(), "the oldest idle ones go first");
    assert!(world.stands(phone), "the one at work stays");
    assert_eq!(world.saw(|e| matches!(e, Event::FlowClosed { why: Closing::Surplus, .. })), 25);
    // Others are not concerned, nor is who has no certificate.
    let other = world.phone(MAC_B, "198.51.100.8:40000");
    assert!(world.stands(other) && world.stands(open[39]));
    // The phone comes back on one more, and moves there.
    let back = world.phone(MAC_A, "198.51.100.7:42000");
    register_on(&mut world, back, MAC_A, "192.168.1.7", 2);
    assert!(world.stands(back) && !world.stands(open[25]));
}

#[test]
fn when_all_are_at_work_the_newest_goes() {
    let mut config = config();
    config.limits.flows_per_certificate = 2;
    let mut world = World::with(config);
    let both = [(MAC_A, 7), (MAC_B, 8)].map(|(mac, host)| {
        let remote = format!("198.51.100.7:4000{host}").parse::<std::net::SocketAddr>().unwrap();
        let end =
            world.connect(sip_core::flow::Side::Outside, &remote.to_string(), Some(identity(MAC_A)), true);
        register_on(&mut world, end, mac, &format!("192.168.1.{host}"), 1);
        end
    });
    let third = world.phone(MAC_A, "198.51.100.7:41000");
    assert!(both.iter().all(|end| world.stands(*end)) && !world.stands(third));
    // One of them leaves: there is room again.
    world.hang(both[0]);
    let third = world.phone(MAC_A, "198.51.100.7:41000");
    assert!(world.stands(third));
}
