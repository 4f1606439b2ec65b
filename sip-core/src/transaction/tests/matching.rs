//! Which transaction a message belongs to.

use super::*;

const BRANCH: &str = "z9hG4bKmatch";

#[track_caller]
fn stray(received: &Received) {
    assert!(matches!(received, Received::Stray(_)), "{received:?}");
}

#[test]
fn a_request_with_another_sent_by_branch_or_method_is_another_request() {
    let mut world = World::new(Config::default());
    let first = world.receive_request(&pbx_udp(), request("OPTIONS", BRANCH));
    let text = String::from_utf8_lossy(request("OPTIONS", BRANCH).bytes()).into_owned();
    let other_port =
        world.receive_request(&pbx_udp(), parse(text.replace("10.0.1.10:5060", "10.0.1.10:5062")));
    let other_branch = world.receive_request(&pbx_udp(), request("OPTIONS", "z9hG4bKother"));
    let other_method = world.receive_request(&pbx_udp(), request("INFO", BRANCH));
    let all = [first, other_port, other_branch, other_method];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn sent_by_is_compared_without_case() {
    let mut world = World::new(Config::default());
    let text = String::from_utf8_lossy(request("OPTIONS", BRANCH).bytes()).into_owned();
    world.receive_request(&pbx_udp(), parse(text.replace("10.0.1.10:5060", "PBX.example.com")));
    let again = world.receive(&pbx_udp(), parse(text.replace("10.0.1.10:5060", "pbx.EXAMPLE.com")));
    assert!(matches!(again, Received::Absorbed), "{again:?}");
}

#[test]
fn a_cancel_finds_its_invite_and_only_that() {
    let mut world = World::new(Config::default());
    let invite = world.receive_request(&phone(1), request("INVITE", BRANCH));
    let found = world.receive(&phone(1), request("CANCEL", BRANCH));
    let Received::Cancel { key, invite: Some(of), .. } = found else { panic!("{found:?}") };
    assert_eq!(of, invite);
    assert_ne!(key, invite);
    let none = world.receive(&phone(1), request("CANCEL", "z9hG4bKother"));
    assert!(matches!(none, Received::Cancel { invite: None, .. }), "{none:?}");
    // Another phone can't cancel it, though it knows the branch.
    let foreign = world.receive(&phone(2), request("CANCEL", BRANCH));
    assert!(matches!(foreign, Received::Cancel { invite: None, .. }), "{foreign:?}");
}

#[test]
fn phones_that_use_one_branch_are_kept_apart() {
    let mut world = World::new(Config::default());
    let one = world.receive_request(&certified(1, 1), request("INVITE", BRANCH));
    let two = world.receive_request(&certified(2, 2), request("INVITE", BRANCH));
    assert_ne!(one, two);
    // The first phone reconnects and is still itself.
    let cancel = world.receive(&certified(3, 1), request("CANCEL", BRANCH));
    assert!(matches!(cancel, Received::Cancel { invite: Some(of), .. } if of == one), "{cancel:?}");
}

#[test]
fn a_response_that_answers_nothing_is_stray() {
    let mut world = World::new(Config::default());
    world.request(Target::Flow(FlowId(1)), BRANCH, Method::Options);
    world.sends("OPTIONS");
    stray(&world.receive(&phone(1), response(200, "z9hG4bKother", "OPTIONS")));
    stray(&world.receive(&phone(1), response(200, BRANCH, "INVITE")));
    // Another phone answers in its place.
    stray(&world.receive(&phone(2), response(200, BRANCH, "OPTIONS")));
    let good = world.receive(&phone(1), response(200, BRANCH, "OPTIONS"));
    assert!(matches!(good, Received::Response { .. }), "{good:?}");
}

#[test]
fn a_phone_can_t_answer_for_the_pbx() {
    let mut world = World::new(Config::default());
    world.request(Target::Dial(dial()), BRANCH, Method::Options);
    world.sends("OPTIONS");
    stray(&world.receive(&phone(1), response(200, BRANCH, "OPTIONS")));
}

#[test]
fn messages_without_a_readable_via_are_stray() {
    let mut world = World::new(Config::default());
    let text = String::from_utf8_lossy(request("OPTIONS", BRANCH).bytes()).into_owned();
    stray(&world.receive(&pbx_udp(), parse(text.replace("Via: SIP/2.0/UDP", "Via: HTTP"))));
    stray(&world.receive(&pbx_udp(), parse(text.replace("Via:", "X-Via:"))));
    world.is_over();
}

#[test]
fn datagrams_are_answered_by_rport_or_the_port_of_sent_by() {
    let mut world = World::new(Config::default());
    let mut from = pbx_udp();
    let remote: SocketAddr = ([10, 0, 1, 10], 40_000).into();
    from.source = Source::Datagram { listener: ListenerId(1), remote };
    from.peer.remote = remote;
    let symmetric = world.receive_request(&from, request("OPTIONS", BRANCH));
    world.respond(symmetric, 200);
    assert_eq!(world.sends("SIP/2.0 200").target, Target::Datagram { listener: ListenerId(1), remote });
    let text = String::from_utf8_lossy(request("OPTIONS", "z9hG4bKold").bytes()).into_owned();
    let classic = world.receive_request(&from, parse(text.replace(";rport", ";received=10.9.9.9")));
    world.respond(classic, 200);
    assert_eq!(world.sends("SIP/2.0 200").target, udp());
    // From the outside a Via says nothing.
    from.peer.side = Side::Outside;
    let stranger = world.receive_request(&from, parse(text.replace(";rport", "")));
    world.respond(stranger, 200);
    assert_eq!(world.sends("SIP/2.0 200").target, Target::Datagram { listener: ListenerId(1), remote });
}

/// Branches that say nothing: none, without the cookie, nothing but the cookie.
const OLD: [&str; 3] = ["", "1", "z9hG4bK"];

#[test]
fn by_the_old_rules_copies_are_found_by_the_whole_head() {
    for branch in OLD {
        let mut world = World::new(Config::default());
        let invite = world.receive_request(&pbx_udp(), request("INVITE", branch));
        let copy = world.receive(&pbx_udp(), request("INVITE", branch));
        assert!(matches!(copy, Received::Absorbed), "{copy:?}");
        let text = String::from_utf8_lossy(request("INVITE", branch).bytes()).into_owned();
        for (from, to) in [
            ("sip:b@example.com SIP", "sip:c@example.com SIP"),
            ("fromtag", "tag2"),
            ("call@", "c@"),
            ("CSeq: 7", "CSeq: 8"),
        ] {
            world.receive_request(&pbx_udp(), parse(text.replace(from, to)));
        }
        world.receive_request(&pbx_udp(), request_to("INVITE", branch, "<sip:b@example.com>;tag=x"));
        let cancel = world.receive(&pbx_udp(), request("CANCEL", branch));
        assert!(matches!(cancel, Received::Cancel { invite: Some(of), .. } if of == invite), "{cancel:?}");
    }
}

#[test]
fn by_the_old_rules_the_ack_to_a_failure_carries_our_tag() {
    for branch in OLD {
        let mut world = World::new(Config::default());
        let key = world.receive_request(&pbx_udp(), request("INVITE", branch));
        world.respond(key, 180);
        world.sends("SIP/2.0 180");
        world.respond(key, 404);
        world.sends("SIP/2.0 404");
        let foreign = world.receive(&pbx_udp(), request_to("ACK", branch, "<sip:b@example.com>;tag=foreign"));
        assert!(matches!(foreign, Received::Ack { .. }), "{foreign:?}");
        let ack = world.receive(&pbx_udp(), request_to("ACK", branch, "<sip:b@example.com>;tag=totag"));
        assert!(matches!(ack, Received::Absorbed), "{ack:?}");
        world.at(5000).tells(Event::ServerEnded(key)).is_over();
    }
}
