//! Requests of ours: timers A, B, D, E, F, K, M.

use super::*;

const BRANCH: &str = "z9hG4bKclient";

fn receive_response(world: &mut World, status: u16, method: &str) -> Received {
    world.receive(&pbx_udp(), response(status, BRANCH, method))
}

#[track_caller]
fn passes(received: &Received, key: ClientKey) {
    assert!(matches!(received, Received::Response { key: k, .. } if *k == key), "{received:?}");
}

#[track_caller]
fn absorbed(received: &Received) {
    assert!(matches!(received, Received::Absorbed), "{received:?}");
}

#[test]
fn invite_over_udp_unanswered_leaves_seven_times_and_fails_at_32_s() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Invite);
    world.sends("INVITE");
    for ms in [500, 1500, 3500, 7500, 15_500, 31_500] {
        world.at(ms).sends("INVITE");
    }
    world.at(32_000).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn invite_retransmissions_follow_the_configured_count() {
    let mut world = World::new(Config { invite_retransmissions: 2, ..Config::default() });
    let key = world.request(udp(), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(500).sends("INVITE");
    world.at(1500).sends("INVITE");
    world.at(2000).tells(Event::ClientTimedOut(key)).is_over();
    let mut world = World::new(Config { invite_retransmissions: 0, ..Config::default() });
    let key = world.request(udp(), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(500).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn other_retransmissions_follow_the_configured_count_even_where_t1_exceeds_t2() {
    let config = Config { other_retransmissions: 3, t1: Duration::from_secs(5), ..Config::default() };
    let mut world = World::new(config);
    let key = world.request(udp(), BRANCH, Method::Options);
    world.sends("OPTIONS");
    for ms in [5000, 9000, 13_000] {
        world.at(ms).sends("OPTIONS");
    }
    world.at(18_000).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn invite_over_a_stream_leaves_once_and_fails_at_32_s() {
    let mut world = World::new(Config::default());
    let key = world.request(Target::Flow(FlowId(1)), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(32_000).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn a_provisional_response_stops_the_retransmissions() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(500).sends("INVITE");
    world.at(600);
    passes(&receive_response(&mut world, 100, "INVITE"), key);
    world.at(170_000);
    passes(&receive_response(&mut world, 180, "INVITE"), key);
    world.at(400_000);
    passes(&receive_response(&mut world, 200, "INVITE"), key);
    world.at(464_000 - 32_000).tells(Event::ClientEnded(key)).is_over();
}

#[test]
fn an_invite_that_rings_for_ever_ends_by_patience() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(100);
    passes(&receive_response(&mut world, 180, "INVITE"), key);
    world.at(600_000);
    passes(&receive_response(&mut world, 182, "INVITE"), key);
    world.at(1_500_000).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn a_failure_is_acknowledged_each_time_it_comes_until_timer_d() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(100);
    passes(&receive_response(&mut world, 486, "INVITE"), key);
    let ack = world.sends("ACK sip:b@example.com SIP/2.0");
    assert_eq!(ack.target, udp());
    let text = String::from_utf8_lossy(&ack.bytes).into_owned();
    for row in [
        "Via: SIP/2.0/UDP 10.0.1.10:5060;branch=z9hG4bKclient;rport\r\n",
        "Route: <sip:proxy.example.com;lr>\r\n",
        "From: <sip:a@example.com>;tag=fromtag\r\n",
        "To: <sip:b@example.com>;tag=totag\r\n",
        "Call-ID: call@example.com\r\n",
        "CSeq: 7 ACK\r\n",
    ] {
        assert!(text.contains(row), "{row} in {text}");
    }
    world.at(600);
    absorbed(&receive_response(&mut world, 486, "INVITE"));
    world.sends("ACK");
    world.at(700);
    absorbed(&receive_response(&mut world, 200, "INVITE"));
    world.at(32_100).tells(Event::ClientEnded(key)).is_over();
}

#[test]
fn a_failure_over_a_stream_ends_at_once() {
    let mut world = World::new(Config::default());
    let key = world.request(Target::Dial(dial()), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(100);
    passes(&receive_response(&mut world, 404, "INVITE"), key);
    world.sends("ACK");
    world.run_until(world.now);
    world.tells(Event::ClientEnded(key)).is_over();
}

#[test]
fn every_2xx_passes_while_accepted_and_is_stray_afterwards() {
    let mut world = World::new(Config::default());
    let key = world.request(Target::Dial(dial()), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(1000);
    passes(&receive_response(&mut world, 200, "INVITE"), key);
    world.at(1500);
    passes(&receive_response(&mut world, 200, "INVITE"), key);
    world.at(1600);
    absorbed(&receive_response(&mut world, 180, "INVITE"));
    absorbed(&receive_response(&mut world, 500, "INVITE"));
    world.at(33_000).tells(Event::ClientEnded(key));
    assert!(matches!(receive_response(&mut world, 200, "INVITE"), Received::Stray(_)));
    world.is_over();
}

#[test]
fn options_over_udp_unanswered_leaves_eleven_times_and_fails_at_32_s() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Options);
    world.sends("OPTIONS");
    for ms in [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500] {
        world.at(ms).sends("OPTIONS");
    }
    world.at(32_000).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn a_provisional_response_to_options_slows_to_t2_but_timer_f_goes_on() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Options);
    world.sends("OPTIONS");
    world.at(100);
    passes(&receive_response(&mut world, 100, "OPTIONS"), key);
    for ms in [500, 4500, 8500, 12_500, 16_500, 20_500, 24_500, 28_500] {
        world.at(ms).sends("OPTIONS");
    }
    world.at(32_000).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn a_final_response_to_options_passes_once_and_timer_k_ends_it() {
    let mut world = World::new(Config::default());
    let key = world.request(udp(), BRANCH, Method::Options);
    world.sends("OPTIONS");
    world.at(100);
    passes(&receive_response(&mut world, 200, "OPTIONS"), key);
    world.at(600);
    absorbed(&receive_response(&mut world, 200, "OPTIONS"));
    world.at(5100).tells(Event::ClientEnded(key)).is_over();
}

#[test]
fn options_over_a_stream_leaves_once() {
    let mut world = World::new(Config::default());
    let key = world.request(Target::Dial(dial()), BRANCH, Method::Options);
    world.sends("OPTIONS");
    world.at(100);
    passes(&receive_response(&mut world, 200, "OPTIONS"), key);
    world.run_until(world.now);
    world.tells(Event::ClientEnded(key)).is_over();
    let key = world.request(Target::Dial(dial()), "z9hG4bKother", Method::Options);
    world.sends("OPTIONS");
    world.at(32_100).tells(Event::ClientTimedOut(key)).is_over();
}

#[test]
fn a_cancelled_invite_ends_within_64_t1() {
    let mut world = World::new(Config::default());
    let invite = world.request(Target::Dial(dial()), BRANCH, Method::Invite);
    world.sends("INVITE");
    world.at(100);
    passes(&receive_response(&mut world, 180, "INVITE"), invite);
    world.at(5000);
    let cancel = world.request(Target::Dial(dial()), BRANCH, Method::Cancel);
    world.sends("CANCEL");
    passes(&receive_response(&mut world, 200, "CANCEL"), cancel);
    world.run_until(world.now);
    world.tells(Event::ClientEnded(cancel));
    // Ringing on does not help it.
    world.at(10_000);
    passes(&receive_response(&mut world, 180, "INVITE"), invite);
    world.at(37_000).tells(Event::ClientTimedOut(invite)).is_over();
}

#[test]
fn a_lost_connection_fails_what_waits_on_it() {
    let mut world = World::new(Config::default());
    let key = world.request(Target::Flow(FlowId(4)), BRANCH, Method::Invite);
    let other = world.request(Target::Flow(FlowId(5)), "z9hG4bKother", Method::Options);
    world.sends("INVITE");
    world.sends("OPTIONS");
    world.at(100);
    world.layer.handle_flow_closed(world.now, FlowId(4));
    world.collect();
    world.tells(Event::ClientFailed(key));
    world.at(32_000).tells(Event::ClientTimedOut(other)).is_over();
}

#[test]
fn a_lost_dialled_connection_fails_only_what_nobody_has_heard_of() {
    let mut world = World::new(Config::default());
    let ringing = world.request(Target::Dial(dial()), BRANCH, Method::Invite);
    let fresh = world.request(Target::Dial(dial()), "z9hG4bKother", Method::Invite);
    world.sends("INVITE");
    world.sends("INVITE");
    world.layer.handle_flow_opened(FlowId(9), &dial());
    world.at(100);
    passes(&receive_response(&mut world, 180, "INVITE"), ringing);
    world.layer.handle_flow_closed(world.now, FlowId(9));
    world.collect();
    world.tells(Event::ClientFailed(fresh));
    // The PBX opens a connection of its own for the answer.
    let answer = world.receive(&pbx_tcp(77), response(200, BRANCH, "INVITE"));
    passes(&answer, ringing);
    world.at(32_100).tells(Event::ClientEnded(ringing)).is_over();
}

#[test]
fn an_old_connection_that_closes_does_not_fail_what_the_new_one_carries() {
    let mut world = World::new(Config::default());
    world.layer.handle_flow_opened(FlowId(1), &dial());
    world.layer.handle_flow_opened(FlowId(2), &dial());
    let key = world.request(Target::Dial(dial()), BRANCH, Method::Options);
    world.sends("OPTIONS");
    world.layer.handle_flow_closed(world.now, FlowId(1));
    world.collect();
    world.nothing_left();
    world.layer.handle_flow_closed(world.now, FlowId(2));
    world.collect();
    world.tells(Event::ClientFailed(key)).is_over();
}

#[test]
fn a_failed_dial_fails_what_waits_for_it() {
    let mut world = World::new(Config::default());
    let key = world.request(Target::Dial(dial()), BRANCH, Method::Register);
    world.sends("REGISTER");
    world.layer.handle_dial_failed(world.now, &dial());
    world.collect();
    world.tells(Event::ClientFailed(key)).is_over();
}

#[test]
fn an_ack_to_a_2xx_leaves_once_and_leaves_nothing_behind() {
    let mut world = World::new(Config::default());
    world.request(udp(), BRANCH, Method::Ack);
    world.sends("ACK");
    world.is_over();
}

#[test]
fn a_branch_used_twice_fails() {
    let mut world = World::new(Config::default());
    world.request(udp(), BRANCH, Method::Options);
    world.sends("OPTIONS");
    let second = world.request(udp(), BRANCH, Method::Options);
    world.tells(Event::ClientFailed(second));
    world.nothing_left();
}
