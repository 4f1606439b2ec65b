//! Requests of peers: timers G, H, I, J, L and the 100 by itself.

use super::*;

const BRANCH: &str = "z9hG4bKserver";

#[track_caller]
fn absorbed(received: &Received) {
    assert!(matches!(received, Received::Absorbed), "{received:?}");
}

#[test]
fn an_invite_unanswered_for_200_ms_gets_100() {
    let mut world = World::new(Config::default());
    world.receive_request(&pbx_udp(), request("INVITE", BRANCH));
    let trying = world.at(200).sends("SIP/2.0 100 Trying");
    assert_eq!(trying.target, udp());
    let text = String::from_utf8_lossy(&trying.bytes).into_owned();
    assert!(text.contains("branch=z9hG4bKserver;received=10.0.1.10;rport=5060\r\n"), "{text}");
    assert!(text.contains("To: <sip:b@example.com>\r\n"), "{text}");
    world.at(500);
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    world.sends("SIP/2.0 100 Trying");
}

#[test]
fn an_invite_answered_early_gets_no_100_and_its_copies_the_last_answer() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_udp(), request("INVITE", BRANCH));
    world.at(50).respond(key, 180);
    world.sends("SIP/2.0 180");
    world.at(500);
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    world.sends("SIP/2.0 180");
    world.at(600).respond(key, 183);
    world.sends("SIP/2.0 183");
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    world.sends("SIP/2.0 183");
}

#[test]
fn with_no_wait_configured_100_leaves_at_once() {
    let mut world = World::new(Config { trying_after: Duration::ZERO, ..Config::default() });
    world.receive_request(&pbx_udp(), request("INVITE", BRANCH));
    world.at(1).sends("SIP/2.0 100");
}

#[test]
fn after_a_2xx_copies_of_the_invite_are_absorbed_and_acks_pass() {
    for from in [pbx_udp(), pbx_tcp(1)] {
        let mut world = World::new(Config::default());
        let key = world.receive_request(&from, request("INVITE", BRANCH));
        world.at(100).respond(key, 200);
        world.sends("SIP/2.0 200");
        world.at(600);
        absorbed(&world.receive(&from, request("INVITE", BRANCH)));
        // The user, or the peer behind it, repeats the 2xx.
        world.at(700).respond(key, 200);
        world.sends("SIP/2.0 200");
        world.respond(key, 500);
        world.nothing_left();
        for branch in [BRANCH, "z9hG4bKanother"] {
            let ack = world.receive(&from, request("ACK", branch));
            assert!(matches!(ack, Received::Ack { .. }), "{ack:?}");
        }
        world.at(32_100).tells(Event::ServerEnded(key)).is_over();
    }
}

#[test]
fn a_failure_over_udp_repeats_until_timer_h() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_udp(), request("INVITE", BRANCH));
    world.respond(key, 404);
    world.sends("SIP/2.0 404");
    for ms in [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500] {
        world.at(ms).sends("SIP/2.0 404");
    }
    world.at(32_000).tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn an_ack_stops_the_failure_and_timer_i_ends_it() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_udp(), request("INVITE", BRANCH));
    world.respond(key, 404);
    world.sends("SIP/2.0 404");
    world.at(500).sends("SIP/2.0 404");
    world.at(600);
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    world.sends("SIP/2.0 404");
    world.respond(key, 200);
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    let again = world.sends("SIP/2.0 404");
    assert_eq!(again.bytes, response_text(404));
    absorbed(&world.receive(&pbx_udp(), request("ACK", BRANCH)));
    world.at(1000);
    absorbed(&world.receive(&pbx_udp(), request("ACK", BRANCH)));
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    world.respond(key, 200);
    world.at(5600).tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn a_failure_over_a_stream_is_sent_once_and_its_ack_ends_it_at_once() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&phone(1), request("INVITE", BRANCH));
    world.respond(key, 486);
    assert_eq!(world.sends("SIP/2.0 486").target, Target::Flow(FlowId(1)));
    world.at(20_000);
    absorbed(&world.receive(&phone(1), request("ACK", BRANCH)));
    world.run_until(world.now);
    world.tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn options_over_udp_gets_its_answer_again_until_timer_j() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_udp(), request("OPTIONS", BRANCH));
    world.at(500);
    absorbed(&world.receive(&pbx_udp(), request("OPTIONS", BRANCH)));
    world.at(600).respond(key, 200);
    world.sends("SIP/2.0 200");
    world.at(1500);
    absorbed(&world.receive(&pbx_udp(), request("OPTIONS", BRANCH)));
    world.sends("SIP/2.0 200");
    world.respond(key, 404);
    world.at(32_600).tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn options_over_a_stream_ends_with_its_answer() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&phone(1), request("OPTIONS", BRANCH));
    world.at(600).respond(key, 100);
    world.sends("SIP/2.0 100");
    world.respond(key, 200);
    world.sends("SIP/2.0 200");
    world.run_until(world.now);
    world.tells(Event::ServerEnded(key)).is_over();
    world.respond(key, 200);
    world.is_over();
}

#[test]
fn a_request_that_its_user_forgets_ends_by_patience() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&phone(1), request("OPTIONS", BRANCH));
    world.at(900_000).tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn a_phone_that_is_gone_gets_no_answer_anywhere() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&phone(1), request("INVITE", BRANCH));
    world.at(100);
    world.layer.handle_flow_closed(world.now, FlowId(1));
    world.respond(key, 180);
    world.respond(key, 200);
    world.tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn an_unacknowledged_failure_ends_with_its_connection() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&phone(1), request("INVITE", BRANCH));
    world.respond(key, 486);
    world.sends("SIP/2.0 486");
    world.layer.handle_flow_closed(world.now, FlowId(1));
    world.collect();
    world.tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn an_inside_peer_gets_its_answer_by_the_fallback() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_tcp(1), request("INVITE", BRANCH));
    world.layer.set_fallback(&key, Target::Dial(dial()));
    world.respond(key, 180);
    assert_eq!(world.sends("SIP/2.0 180").target, Target::Flow(FlowId(1)));
    world.layer.handle_flow_closed(world.now, FlowId(1));
    world.respond(key, 486);
    assert_eq!(world.sends("SIP/2.0 486").target, Target::Dial(dial()));
    // The ACK comes on another connection of the PBX.
    absorbed(&world.receive(&pbx_tcp(2), request("ACK", BRANCH)));
    world.run_until(world.now);
    world.tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn a_failure_that_may_have_been_lost_is_repeated_by_the_fallback() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_tcp(1), request("INVITE", BRANCH));
    world.layer.set_fallback(&key, Target::Dial(dial()));
    world.respond(key, 486);
    world.sends("SIP/2.0 486");
    world.layer.handle_flow_closed(world.now, FlowId(1));
    world.collect();
    assert_eq!(world.sends("SIP/2.0 486").target, Target::Dial(dial()));
    world.layer.handle_dial_failed(world.now, &dial());
    world.collect();
    world.tells(Event::ServerEnded(key)).is_over();
}

#[test]
fn a_fallback_named_too_late_still_serves() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_tcp(1), request("OPTIONS", BRANCH));
    world.layer.handle_flow_closed(world.now, FlowId(1));
    world.layer.set_fallback(&key, Target::Dial(dial()));
    world.respond(key, 200);
    assert_eq!(world.sends("SIP/2.0 200").target, Target::Dial(dial()));
}

#[test]
fn requests_beyond_the_limit_are_refused_but_a_cancel_is_not() {
    let mut world = World::new(Config { transactions: 1, ..Config::default() });
    let key = world.receive_request(&phone(1), request("INVITE", BRANCH));
    world.respond(key, 180);
    world.sends("SIP/2.0 180");
    let refused = world.receive(&phone(1), request("OPTIONS", "z9hG4bKmore"));
    assert!(matches!(refused, Received::Refused { .. }), "{refused:?}");
    let refusal = world.sends("SIP/2.0 503");
    let text = String::from_utf8_lossy(&refusal.bytes).into_owned();
    let wait = text.split("\r\nRetry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    assert!((10..=60).contains(&wait.parse::<u32>().unwrap()), "{text}");
    let cancel = world.receive(&phone(1), request("CANCEL", BRANCH));
    assert!(matches!(cancel, Received::Cancel { invite: Some(invite), .. } if invite == key), "{cancel:?}");
    assert_eq!(world.layer.len(), 2);
}

#[test]
fn the_oldest_that_was_answered_makes_way_for_a_new_request() {
    let mut world = World::new(Config { transactions: 3, ..Config::default() });
    let keys: Vec<ServerKey> = (0..3)
        .map(|n| world.receive_request(&pbx_udp(), request("OPTIONS", &format!("z9hG4bKold{n}"))))
        .collect();
    for key in [keys[1], keys[0]] {
        world.respond(key, 200);
        world.sends("SIP/2.0 200");
    }
    // Not the third, which is still worked on; the one that was answered first.
    world.receive_request(&pbx_udp(), request("INVITE", "z9hG4bKnew1"));
    world.tells(Event::ServerEnded(keys[1]));
    absorbed(&world.receive(&pbx_udp(), request("OPTIONS", "z9hG4bKold0")));
    world.sends("SIP/2.0 200");
    world.receive_request(&pbx_udp(), request("INVITE", "z9hG4bKnew2"));
    world.tells(Event::ServerEnded(keys[0]));
    let refused = world.receive(&pbx_udp(), request("INVITE", "z9hG4bKnew3"));
    assert!(matches!(refused, Received::Refused { .. }), "{refused:?}");
    world.sends("SIP/2.0 503");
    assert_eq!(world.layer.len(), 3);
}

#[test]
fn a_hundred_thousand_short_requests_never_fill_a_small_table() {
    let mut world = World::new(Config { transactions: 100, ..Config::default() });
    for n in 0..100_000 {
        let key = world.receive_request(&pbx_udp(), request("OPTIONS", &format!("z9hG4bK{n}")));
        world.respond(key, 200);
        world.sent.clear();
        world.events.clear();
        assert!(world.layer.len() <= 100);
    }
}

#[test]
fn what_is_shed_is_new_and_what_runs_is_not() {
    let mut world = World::new(Config::default());
    let key = world.receive_request(&pbx_udp(), request("INVITE", BRANCH));
    world.layer.shed(true);
    absorbed(&world.receive(&pbx_udp(), request("INVITE", BRANCH)));
    world.respond(key, 180);
    world.sends("SIP/2.0 180");
    for method in ["INVITE", "REGISTER"] {
        let shed = world.receive(&pbx_udp(), request(method, "z9hG4bKfresh"));
        assert!(matches!(shed, Received::Refused { .. }), "{shed:?}");
        world.sends("SIP/2.0 503 Overload");
    }
    for method in ["OPTIONS", "BYE"] {
        world.receive_request(&pbx_udp(), request(method, "z9hG4bKother"));
    }
    assert_eq!(world.layer.len(), 3);
    world.layer.shed(false);
    world.receive_request(&pbx_udp(), request("INVITE", "z9hG4bKfresh"));
}
