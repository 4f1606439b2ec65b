//! How long calls ring and last, and how many there may be (SAM-15 to SAM-17, SAM-28, SAM-29).

use std::time::Duration;

use sip_core::edge::Event;
use sip_core::edge::event::{Closing, Reason};

use crate::register::{MAC_A, registered};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::world::{World, config, reply, row, rows};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_call_that_is_not_refreshed_loses_its_media() {
    let mut config = config();
    config.interop.sessions.session_timer = 90 * SECOND;
    let mut world = World::with(config);
    let call = Call::from_pbx(&mut world, "c");
    world.wait(89 * SECOND);
    assert!(!world.media.lock().unwrap().contains(&"End 1".to_owned()));
    // Neither a keep-alive in the dialog nor a refused re-INVITE is a refresh.
    world.say(call.pbx, &call.of_pbx("OPTIONS", 2, ""));
    world.hear_start(call.phone, "OPTIONS ");
    world.say(call.pbx, &call.of_pbx("INVITE", 3, ""));
    let invite = world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &reply(&invite, "491 Request Pending", "", "X: 1"));
    world.wait(SECOND);
    assert!(world.media.lock().unwrap().contains(&"End 1".to_owned()), "{}", world.story());
    assert_eq!(world.saw(|e| matches!(e, Event::SessionExpired { .. })), 1);
    assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { by: None, .. })), 1);
    // Whoever hangs up is still heard.
    world.say(call.pbx, &call.of_pbx("BYE", 4, ""));
    world.hear_start(call.phone, "ACK ");
    world.hear_start(call.phone, "BYE ");
}

#[test]
fn a_call_that_is_refreshed_lasts() {
    let mut config = config();
    config.interop.sessions.session_timer = 90 * SECOND;
    let mut world = World::with(config);
    let call = Call::from_pbx(&mut world, "c");
    for n in 2..12 {
        world.wait(60 * SECOND);
        // RFC 4028 is the business of the ends: its rows pass.
        let timers = "Session-Expires: 120;refresher=uac\nMin-SE: 90\nSupported: timer";
        world.say(call.pbx, &call.of_pbx("UPDATE", n, timers));
        let update = world.hear_start(call.phone, "UPDATE ");
        assert_eq!(row(&update, "Session-Expires"), "120;refresher=uac");
        assert_eq!(row(&update, "Min-SE"), "90");
        world.say(
            call.phone,
            &reply(&update, "200 OK", "", "Session-Expires: 120;refresher=uac\nRequire: timer"),
        );
        let ok = world.hear_start(call.pbx, "SIP/2.0 200 ");
        assert_eq!(row(&ok, "Session-Expires"), "120;refresher=uac");
    }
    assert_eq!(world.saw(|e| matches!(e, Event::SessionExpired { .. })), 0);
    world.wait(90 * SECOND);
    assert_eq!(world.saw(|e| matches!(e, Event::SessionExpired { .. })), 1);
}

#[test]
fn the_eleventh_call_is_refused_and_an_emergency_is_not() {
    let mut config = config();
    config.interop.sessions.max_sessions = Some(10);
    config.interop.sessions.emergency_numbers = vec!["112".to_owned()];
    // Each of several shards has its part.
    let mut world = World::sharded(config, 1);
    let (phone, own, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let invite = |n: usize| from_phone("INVITE", "sips:200@10.0.1.50", &format!("c{n}"), 1, "", &sdp(""));
    // Five that ring and five that were answered.
    let mut first = String::new();
    for n in 0..10 {
        world.say(phone, &invite(n));
        let text = world.hear_start(own, "INVITE ");
        if n == 0 {
            first.clone_from(&text);
        }
        if n >= 5 {
            world.say(own, &reply(&text, "200 OK", "u", "Contact: <sips:200@10.0.1.50>"));
            world.hear_start(phone, "SIP/2.0 200 ");
        }
    }
    world.say(phone, &invite(10));
    let busy = world.hear_start(phone, "SIP/2.0 503 Too Many Calls\r\n");
    assert!((10..=60).contains(&row(&busy, "Retry-After").parse::<u32>().unwrap()));
    let limit = Reason::Limit("max_sessions");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason, .. } if *reason == limit)), 1);
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "i", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 503 ");
    world.say(phone, &invite(11).replace("sips:200@10.0.1.50 SIP", "sips:112@10.0.1.50 SIP"));
    world.hear_start(own, "INVITE sips:112@10.0.1.50 ");
    // Everything else goes on, and one that ends makes room for one; two must end, for there are eleven.
    world.say(phone, &from_phone("OPTIONS", "sips:200@10.0.1.50", "o", 1, "", ""));
    world.hear_start(own, "OPTIONS ");
    world.say(own, &reply(&first, "486 Busy Here", "u", "X: 1"));
    world.hear_start(phone, "SIP/2.0 486 ");
    world.say(phone, &invite(12));
    world.hear_start(phone, "SIP/2.0 503 ");
    world.say(phone, &from_phone("BYE", "sips:200@10.0.1.50", "c5", 2, "u", ""));
    world.hear_start(own, "ACK ");
    let bye = world.hear_start(own, "BYE ");
    world.say(own, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
    world.say(phone, &invite(13));
    world.hear_start(own, "INVITE ");
}

#[test]
fn an_invite_rings_as_long_as_it_says_within_bounds() {
    for (said, written) in
        [("", 180), ("Expires: 60\n", 60), ("Expires: 300\n", 300), ("Expires: 900\n", 300)]
    {
        let mut world = World::new();
        let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", said));
        let invite = world.hear_start(own, "INVITE ");
        assert_eq!(rows(&invite, "Expires"), [written.to_string()]);
        // One silent PBX: nothing but 100.
        world.say(own, &reply(&invite, "100 Trying", "", "X: 1"));
        world.wait(SECOND * written - SECOND);
        world.silent(own);
        world.wait(SECOND);
        let cancel = world.hear_start(own, "CANCEL ");
        world.say(own, &reply(&cancel, "200 OK", "", "X: 1"));
        world.say(own, &reply(&invite, "487 Request Terminated", "u", "X: 1"));
        world.hear_start(phone, "SIP/2.0 100 ");
        world.hear_start(phone, "SIP/2.0 4");
    }
    // A re-INVITE does not ring.
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    world.say(call.pbx, &call.of_pbx("INVITE", 2, ""));
    assert!(rows(&world.hear_start(call.phone, "INVITE "), "Expires").is_empty());
}

#[test]
fn a_stream_of_no_use_goes_after_stream_idle() {
    let mut config = config();
    config.timers.flow_idle = 90 * SECOND;
    let mut world = World::with(config);
    let (phone, ..) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let idle = world.phone("08000FD4CBC0", "198.51.100.8:40000");
    // Keep-alives prove nothing but patience.
    for _ in 0..89 {
        world.wait(SECOND);
        world.ping(idle);
    }
    assert!(world.stands(idle));
    world.wait(SECOND);
    assert!(!world.stands(idle));
    assert_eq!(world.saw(|e| matches!(e, Event::FlowClosed { why: Closing::Idle, .. })), 1);
    // One that registered hourly lives for as long as it is registered.
    world.wait(3_400 * SECOND);
    assert!(world.stands(phone));
}
