//! Brute force, floods, scanners and forged tokens (SEC-01, SEC-03 to SEC-05, SIP-13).

use std::time::Duration;

use sip_core::edge::event::{Closing, DropCause, Reason, Release, Snapshot};
use sip_core::edge::guard::{Offence, Rate, Suspect};
use sip_core::edge::{Command, Event};
use sip_core::flow::{ListenerId, Side, Source};

use crate::register::{MAC_A, MAC_B, register, registered};
use crate::script::{from_pbx, from_phone, target};
use crate::world::{End, World, config, identity, reply, row};

const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n\"";

/// A REGISTER with the n-th word of a list.
fn guess(mac: &str, n: u32) -> String {
    let more = format!(
        "\nAuthorization: Digest username=\"117\", realm=\"pbx\", nonce=\"n\", uri=\"sips:10.0.1.50\", response=\"{n:032x}\""
    );
    register(mac, "192.168.1.7", n, &more)
}

/// Says it, and the PBX answers so.
fn answered(world: &mut World, phone: End, request: &str, status: &str, more: &str) {
    world.say(phone, request);
    let pbx = world.dialled("10.0.1.50:5061");
    let text = world.hear(pbx);
    world.say(pbx, &reply(&text, status, "t", more));
    world.hear_start(phone, &format!("SIP/2.0 {}", &status[..3]));
}

fn key(mac: &str) -> Suspect {
    Suspect::Certificate(identity(mac).key_hash)
}

fn snapshot(world: &mut World) -> Snapshot {
    world.command(Command::Snapshot);
    let found = world.events.iter().rev().find_map(|event| match event {
        Event::Snapshot(snapshot) => Some((**snapshot).clone()),
        _ => None,
    });
    found.expect("no snapshot")
}

fn blocked(world: &World) -> Vec<(Suspect, Offence, u64)> {
    let found = world.events.iter().filter_map(|event| match event {
        Event::Blocked { suspect, offence, seconds, .. } => Some((*suspect, *offence, *seconds)),
        _ => None,
    });
    found.collect()
}

#[test]
fn the_eleventh_guess_of_a_certificate_meets_a_closed_connection_and_others_do_not() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let (neighbour, line, _) = registered(&mut world, MAC_B, "198.51.100.7:41000", "192.168.1.8");
    // The first challenge is no failure.
    answered(&mut world, phone, &register(MAC_A, "192.168.1.7", 100, ""), "401 Unauthorized", CHALLENGE);
    for n in 1..=10 {
        assert!(world.stands(phone), "guess {n}");
        answered(&mut world, phone, &guess(MAC_A, n), "401 Unauthorized", CHALLENGE);
    }
    assert!(!world.stands(phone), "{}", world.story());
    assert_eq!(blocked(&world), [(key(MAC_A), Offence::Credentials, 300)]);
    let named = |e: &Event| matches!(e, Event::Blocked { subject: Some(s), .. } if s.contains(MAC_A));
    assert_eq!(world.saw(named), 1);
    let again = world.phone(MAC_A, "203.0.113.5:40000");
    assert!(!world.stands(again), "wherever it comes from");
    assert_eq!(world.saw(|e| matches!(e, Event::FlowClosed { why: Closing::Blocked, .. })), 2);
    // The same address, another certificate.
    world.say(neighbour, &from_phone("OPTIONS", "sips:x@10.0.1.50", "n", 1, "", ""));
    world.hear_start(line, "OPTIONS ");
    let state = snapshot(&mut world);
    assert_eq!((state.blocked, state.blocks[0].suspect, state.blocks[0].times), (1, key(MAC_A), 1));
    world.wait(Duration::from_secs(299));
    assert_eq!(snapshot(&mut world).blocks[0].seconds, 1);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.saw(|e| matches!(e, Event::Unblocked { why: Release::Over, .. })), 1);
    let again = world.phone(MAC_A, "203.0.113.5:40000");
    assert!(world.stands(again));
}

#[test]
fn nine_failures_within_the_window_and_one_after_do_not_block() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 1..=9 {
        answered(&mut world, phone, &guess(MAC_A, n), "401 Unauthorized", CHALLENGE);
    }
    world.wait(Duration::from_secs(60));
    for n in 10..=18 {
        answered(&mut world, phone, &guess(MAC_A, n), "403 Forbidden", "X: 1");
    }
    assert!(world.stands(phone));
    assert_eq!(blocked(&world), []);
    answered(&mut world, phone, &guess(MAC_A, 19), "407 Proxy Authentication Required", CHALLENGE);
    assert!(!world.stands(phone));
}

#[test]
fn a_nonce_that_grew_old_is_no_failure_and_a_success_takes_one_back() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 1..=30 {
        let stale = format!("{CHALLENGE}, STALE = \"TRUE\"");
        answered(&mut world, phone, &guess(MAC_A, n), "401 Unauthorized", &stale);
    }
    // A PBX that does not say `stale`, and then accepts the same user.
    for n in 0..30 {
        answered(&mut world, phone, &guess(MAC_A, 100 + 2 * n), "401 Unauthorized", CHALLENGE);
        answered(&mut world, phone, &guess(MAC_A, 101 + 2 * n), "200 OK", "X: 1");
    }
    assert_eq!(blocked(&world), []);
    // The guesses at one account are not forgiven for the success of another.
    for n in 0..10 {
        let own = guess(MAC_A, 301 + 2 * n).replace("\"117\"", "\"500\"");
        answered(&mut world, phone, &guess(MAC_A, 300 + 2 * n), "401 Unauthorized", CHALLENGE);
        if n < 9 {
            answered(&mut world, phone, &own, "200 OK", "X: 1");
        }
    }
    assert_eq!(blocked(&world).len(), 1);
}

#[test]
fn what_blocks_lasts_twice_as_long_each_time_up_to_a_day() {
    let mut world = World::new();
    let mut lengths = Vec::new();
    for round in 0..11 {
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        for n in 1..=10 {
            // A REGISTER that meets 404 or 403 counts without credentials, too.
            let text = register(MAC_A, "192.168.1.7", 20 * round + n, "");
            answered(&mut world, phone, &text, if n % 2 == 0 { "403 No" } else { "404 No" }, "X: 1");
        }
        let (_, _, seconds) = *blocked(&world).last().unwrap();
        lengths.push(seconds);
        world.wait(Duration::from_secs(seconds));
    }
    assert_eq!(lengths, [300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400, 86400]);
    // A day of peace, and it begins anew.
    world.wait(Duration::from_secs(86_400));
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 1..=10 {
        answered(&mut world, phone, &register(MAC_A, "192.168.1.7", 900 + n, ""), "404 No", "X: 1");
    }
    assert_eq!(blocked(&world).last().unwrap().2, 300);
}

#[test]
fn without_a_certificate_the_address_answers_for_it_and_an_operator_may_let_it_in() {
    let mut world = World::sharded(config(), 1);
    let stranger = world.connect(Side::Inside, "[2001:db8::1]:5060", None, false);
    for n in 1..=10 {
        world.say(stranger, &guess(MAC_A, n));
        world.hear_start(stranger, "SIP/2.0 403 ");
    }
    assert!(!world.stands(stranger));
    let suspect = Suspect::address("2001:db8::ffff".parse().unwrap());
    assert_eq!(blocked(&world), [(suspect, Offence::Credentials, 300)]);
    let other = world.connect(Side::Inside, "[2001:db8::2]:5060", None, false);
    assert!(!world.stands(other), "the same network of 64 bits");
    let verified = world.connect(Side::Outside, "[2001:db8::2]:5061", Some(identity(MAC_A)), true);
    assert!(world.stands(verified), "who shows a certificate answers for itself");
    world.command(Command::Unblock(suspect));
    assert_eq!(world.saw(|e| matches!(e, Event::Unblocked { why: Release::Asked, .. })), 1);
    let other = world.connect(Side::Inside, "[2001:db8::2]:5060", None, false);
    assert!(world.stands(other));
    // Another shard's word.
    world.command(Command::Block { suspect, length: Duration::from_secs(7) });
    assert!(!world.stands(other));
    assert_eq!(blocked(&world).last(), Some(&(suspect, Offence::Told, 7)));
}

#[test]
fn an_allowed_network_is_reported_and_never_blocked() {
    let mut config = config();
    config.guard.allow = ["198.51.100.0/24".parse().unwrap()].into_iter().collect();
    let mut world = World::with(config);
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    for n in 1..=50 {
        answered(&mut world, phone, &guess(MAC_A, n), "401 Unauthorized", CHALLENGE);
    }
    assert!(world.stands(phone));
    assert_eq!(world.saw(|e| matches!(e, Event::Offence { offence: Offence::Credentials, .. })), 5);
    // It is checked for its certificate all the same.
    let stranger = world.connect(Side::Outside, "198.51.100.8:40000", None, false);
    world.say(stranger, &register(MAC_B, "192.168.1.8", 1, ""));
    world.hear_start(stranger, "SIP/2.0 403 ");
}

#[test]
fn whoever_is_allowed_later_is_free_at_once() {
    let mut world = World::new();
    let address = Suspect::Address("198.51.100.7".parse().unwrap());
    for suspect in [key(MAC_A), address] {
        world.command(Command::Block { suspect, length: Duration::from_secs(300) });
    }
    let barred = world.phone(MAC_A, "198.51.100.7:40000");
    assert!(!world.stands(barred));
    let mut wider = config();
    wider.guard.allow = ["198.51.100.0/24".parse().unwrap()].into_iter().collect();
    world.command(Command::Reconfigure(Box::new(wider)));
    // The listeners are told; a certificate stays blocked where it is not allowed.
    let freed = |e: &Event| matches!(e, Event::Unblocked { suspect, .. } if *suspect == address);
    assert_ne!(world.saw(freed), 0);
    let elsewhere = world.phone(MAC_A, "203.0.113.5:40000");
    assert!(!world.stands(elsewhere));
    let phone = world.phone(MAC_A, "198.51.100.7:40001");
    world.say(phone, &from_phone("OPTIONS", "sips:192.0.2.1:5061", "o", 1, "", ""));
    world.hear_start(phone, "SIP/2.0 200 ");
}

#[test]
fn a_flood_gets_503_once_and_is_closed_while_the_phone_next_to_it_calls() {
    let mut world = World::new();
    let (phone, line, _) = registered(&mut world, MAC_B, "198.51.100.7:41000", "192.168.1.8");
    let flooder = world.phone(MAC_A, "198.51.100.7:40000");
    let mut sent = 0;
    while world.stands(flooder) && sent < 1000 {
        sent += 1;
        world.say(flooder, &from_phone("OPTIONS", "sips:192.0.2.1:5061", &format!("o{sent}"), 1, "", ""));
        world.wait(Duration::from_millis(1));
    }
    // A burst of 200, and a hundred a second meanwhile.
    assert!((215..=230).contains(&sent), "{sent}");
    let mut last = String::new();
    while let Some(text) = world.next(flooder) {
        last = text;
    }
    assert!(last.starts_with("SIP/2.0 503 "), "{last}");
    assert!((10..=60).contains(&row(&last, "Retry-After").parse::<u32>().unwrap()));
    assert_eq!(world.saw(|e| matches!(e, Event::FlowClosed { why: Closing::Flood, .. })), 1);
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Limit("messages"), .. })), 1);
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
    world.hear_start(line, "INVITE ");
}

#[test]
fn invites_have_a_bucket_of_their_own_and_the_pbx_has_none() {
    let mut config = config();
    config.guard.rates.invites = Rate { per_second: 20, burst: 20 };
    let mut world = World::with(config);
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for n in 0..20 {
        world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", &format!("c{n}"), 1, "", ""));
        assert!(world.stands(phone));
    }
    world.wait(Duration::from_millis(50));
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "one", 1, "", ""));
    world.say(phone, &from_phone("MESSAGE", "sips:200@10.0.1.50", "m", 1, "", ""));
    assert!(world.stands(phone));
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "two", 1, "", ""));
    assert!(!world.stands(phone));
    // One PBX speaks for all phones.
    let pbx = world.switch("10.0.1.50:33000");
    for n in 0..1000 {
        world.say(pbx, &from_pbx("OPTIONS", &target(&token), &format!("p{n}"), 1, "", ""));
    }
    assert!(world.stands(pbx));
    assert_eq!(world.saw(|e| matches!(e, Event::Dropped { cause: DropCause::Flood, .. })), 0);
}

#[test]
fn datagrams_beyond_the_rate_are_answered_once_a_second_and_their_sender_is_blocked() {
    let mut world = World::new();
    let sender = |port: u16| {
        let remote = format!("198.51.100.9:{port}").parse().unwrap();
        End(Source::Datagram { listener: ListenerId(0), remote })
    };
    let mut refused = 0;
    let mut times = 0;
    while blocked(&world).is_empty() && times < 30_000 {
        times += 1;
        let end = sender(1000);
        world.say(end, &from_phone("OPTIONS", "sips:192.0.2.1:5061", &format!("o{times}"), 1, "", ""));
        while let Some(text) = world.next(end) {
            refused += usize::from(text.starts_with("SIP/2.0 503 "));
        }
        world.wait(Duration::from_millis(1));
    }
    assert_eq!(refused, 20, "one a second, and the twentieth blocks");
    let suspect = Suspect::address("198.51.100.9".parse().unwrap());
    assert_eq!(blocked(&world), [(suspect, Offence::Flood, 300)]);
    // Another of its sockets: datagrams tell only addresses apart.
    world.say(sender(7), &from_phone("OPTIONS", "sips:192.0.2.1:5061", "late", 1, "", ""));
    world.silent(sender(7));
}

#[test]
fn a_scanner_is_gone_at_its_first_packet() {
    let mut world = World::new();
    for (n, (agent, scans)) in [
        ("friendly-scanner", true),
        ("VaxSIPUserAgent/3.0", true),
        ("sipcli/v1.8", true),
        ("MySipClient/2.0 (friendly phone)", false),
        ("Mitel-6930", false),
    ]
    .into_iter()
    .enumerate()
    {
        let phone = world.phone(&format!("08000FD4CC{n:02X}"), &format!("198.51.100.{n}:40000"));
        let more = format!("User-Agent: {agent}");
        world.say(phone, &from_phone("OPTIONS", "sips:100@10.0.1.50", &format!("s{n}"), 1, "", &more));
        assert_eq!(world.stands(phone), !scans, "{agent}");
        world.silent(phone);
    }
    assert_eq!(blocked(&world).len(), 3);
    assert_eq!(world.dials.len(), 2, "nothing of a scanner's went inside");
}

#[test]
fn a_scanner_that_comes_back_after_its_block_is_a_scanner_still() {
    let mut world = World::new();
    let seconds = [300, 600, 1200];
    for (n, length) in seconds.into_iter().enumerate() {
        let phone = world.phone(MAC_A, "198.51.100.7:40000");
        let more = "User-Agent: friendly-scanner";
        world.say(phone, &from_phone("OPTIONS", "sips:100@10.0.1.50", &format!("s{n}"), 1, "", more));
        assert!(!world.stands(phone), "round {n}");
        world.wait(Duration::from_secs(length));
    }
    let expected = seconds.map(|length| (key(MAC_A), Offence::Scanner, length));
    assert_eq!(blocked(&world), expected);
    assert!(world.dials.is_empty());
}

#[test]
fn sql_in_a_user_is_an_injection_and_an_apostrophe_is_none() {
    let mut world = World::new();
    for (n, (user, bad)) in [
        ("o'brien", false),
        ("d'or", false),
        ("%27%20or%201=1--", true),
        ("x'--", true),
        ("admin';drop", true),
    ]
    .into_iter()
    .enumerate()
    {
        let phone = world.phone(&format!("08000FD4CC{n:02X}"), &format!("198.51.100.{n}:40000"));
        let text = from_phone("INVITE", "sips:200@10.0.1.50", &format!("s{n}"), 1, "", "");
        world.say(phone, &text.replace("<sips:117@10.0.1.50>", &format!("<sips:{user}@10.0.1.50>")));
        assert_eq!(world.stands(phone), !bad, "{user}");
    }
    let phone = world.phone(MAC_A, "198.51.100.77:40000");
    world.say(phone, &guess(MAC_A, 1).replace("\"117\"", "\"117' or '1'='1\""));
    assert!(!world.stands(phone));
}

#[test]
fn whoever_tries_twenty_numbers_is_blocked_and_who_dials_one_wrong_again_and_again_is_not() {
    let mut world = World::new();
    let scanner = world.phone(MAC_A, "198.51.100.7:40000");
    let caller = world.phone(MAC_B, "198.51.100.8:40000");
    for n in 0..20 {
        let text = from_phone("INVITE", &format!("sips:{}@10.0.1.50", 100 + n), &format!("s{n}"), 1, "", "");
        answered_on(&mut world, scanner, &text);
        let text = from_phone("INVITE", "sips:999@10.0.1.50", &format!("w{n}"), 1, "", "");
        answered_on(&mut world, caller, &text);
        world.wait(Duration::from_secs(1));
    }
    assert!(!world.stands(scanner));
    assert!(world.stands(caller));
    assert_eq!(blocked(&world), [(key(MAC_A), Offence::DigitScan, 300)]);
}

fn answered_on(world: &mut World, phone: End, text: &str) {
    let dials = world.dials.len();
    world.say(phone, text);
    let ends: Vec<End> = world.dials.iter().map(|(_, flow)| End(Source::Flow(*flow))).collect();
    assert!(world.dials.len() <= dials + 1);
    for end in ends {
        while let Some(request) = world.next(end) {
            if request.starts_with("INVITE ") {
                world.say(end, &reply(&request, "404 Not Found", "t", "X: 1"));
            }
        }
    }
    while world.next(phone).is_some() {}
}

#[test]
fn forged_tokens_are_routed_nowhere_and_limited_by_source() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let attacker = world.phone(MAC_B, "198.51.100.8:40000");
    let pbx = world.switch("10.0.1.50:33000");
    let mut forged: Vec<String> = (0..token.len())
        .map(|at| {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            String::from_utf8(bytes).unwrap()
        })
        .filter(|altered| *altered != token)
        .collect();
    forged.extend([token[..20].to_owned(), token.repeat(3), "!!!".to_owned(), String::new()]);
    for (n, altered) in forged.iter().enumerate() {
        world.say(pbx, &from_pbx("INVITE", &target(altered), &format!("i{n}"), 1, "", ""));
        world.hear_start(pbx, "SIP/2.0 404 ");
        if world.stands(attacker) {
            let uri = target(altered).replace("10.0.1.2", "192.0.2.1");
            world.say(attacker, &from_phone("INVITE", &uri, &format!("o{n}"), 1, "", ""));
            world.hear_start(attacker, "SIP/2.0 403 ");
        }
    }
    assert_eq!(blocked(&world), [(key(MAC_B), Offence::ForgedToken, 300)]);
    // The PBX is told of, and stays.
    assert!(world.stands(pbx));
    let told =
        |e: &Event| matches!(e, Event::Offence { side: Side::Inside, offence: Offence::ForgedToken, .. });
    assert_eq!(world.saw(told), forged.len() / 20);
    world.silent(phone);
}

#[test]
fn a_rate_that_is_set_anew_counts_at_once() {
    let mut world = World::new();
    let phone = world.phone(MAC_A, "198.51.100.7:40000");
    let mut narrow = config();
    narrow.guard.rates.messages = Rate { per_second: 1, burst: 2 };
    world.command(Command::Reconfigure(Box::new(narrow)));
    for (n, status) in ["200", "200", "503"].into_iter().enumerate() {
        world.say(phone, &from_phone("OPTIONS", "sips:192.0.2.1:5061", &format!("o{n}"), 1, "", ""));
        world.hear_start(phone, &format!("SIP/2.0 {status} "));
    }
}
