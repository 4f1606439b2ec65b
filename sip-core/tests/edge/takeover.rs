//! Calls that go on in a new process, because the relay went on and kept their records (decision 13).

use std::time::Duration;

use sip_core::edge::config::Config;
use sip_core::edge::event::{Reason, Taken};
use sip_core::edge::{Command, Event};
use sip_core::flow::Side;
use sip_core::media::SessionId;

use crate::register::{MAC_A, MAC_B, registered};
use crate::script::{Call, from_pbx, from_phone, sdp, target};
use crate::world::{End, World, between, body, config, reply, row};

fn same(world: &mut World) {
    let count = world.edge.edges.len();
    world.take_over(config(), count);
}

/// The calls that were taken, of all shards.
fn taken(world: &World) -> Vec<Taken> {
    let told = world.events.iter().filter_map(|event| match event {
        Event::TakenOver { calls } => Some(calls.clone()),
        _ => None,
    });
    told.flatten().collect()
}

fn media(world: &World) -> Vec<String> {
    let all = world.media.lock().unwrap();
    all.iter().map(|line| line.split(" from").next().unwrap().to_owned()).collect()
}

fn kept(world: &World) -> Vec<SessionId> {
    world.records.lock().unwrap().keys().copied().collect()
}

/// The phone and the PBX are back on new connections; the gateway has heard of neither.
fn back(world: &mut World) -> (End, End) {
    (world.phone(MAC_A, "198.51.100.7:41000"), world.switch("10.0.1.50:34000"))
}

#[test]
fn a_call_of_before_is_ended_by_the_phone_and_its_audio_with_it() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let session = kept(&world);
    assert_eq!(session.len(), 1, "one call, one record");
    same(&mut world);
    let all = taken(&world);
    assert_eq!((all.len(), all[0].session, all[0].call_id.as_str()), (1, session[0], "c"));
    assert_eq!(world.edge.snapshot(world.now).dialogs, 1);
    let (phone, _) = back(&mut world);
    world.say(phone, &call.of_phone("BYE", 2, ""));
    let own = world.dialled("10.0.1.50:5061");
    let bye = world.hear_start(own, "BYE sips:200@10.0.1.50:5061;transport=tls ");
    world.say(own, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(phone, "SIP/2.0 200 ");
    assert_eq!(media(&world).last().map(String::as_str), Some("End 1"));
    let ended = |e: &Event| matches!(e, Event::CallEnded { by: Some(Side::Outside), session: Some(s), .. } if *s == session[0]);
    assert_eq!(world.saw(ended), 1);
    assert_eq!(kept(&world), []);
}

#[test]
fn a_call_of_before_goes_on_from_both_sides() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    same(&mut world);
    let (phone, pbx) = back(&mut world);
    // The phone is known, and not back before it has spoken.
    world.say(pbx, &call.of_pbx("INFO", 2, ""));
    world.hear_start(pbx, "SIP/2.0 480 ");
    world.say(phone, &call.of_phone("UPDATE", 2, &sdp("")));
    let own = world.dialled("10.0.1.50:5061");
    let update = world.hear_start(own, "UPDATE ");
    assert!(body(&update).contains("a=relay:Offer 1 from Outside"), "{update}");
    world.say(own, &reply(&update, "200 OK", "", &sdp("Contact: <sips:200@10.0.1.50:5061;transport=tls>\n")));
    assert!(body(&world.hear_start(phone, "SIP/2.0 200 ")).contains("a=relay:Answer 1 from Inside"));
    // Hold by the PBX.
    world.say(pbx, &call.of_pbx("INVITE", 3, &format!("{}\na=sendonly", sdp(""))));
    let invite = world.hear_start(phone, "INVITE sips:117@192.168.1.7 ");
    assert!(body(&invite).contains("a=sendonly") && body(&invite).contains("a=relay:Offer 1 from Inside"));
    world.say(phone, &reply(&invite, "200 OK", "", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    assert!(body(&world.hear_start(pbx, "SIP/2.0 200 ")).contains("a=relay:Answer 1 from Outside"));
    world.say(pbx, &call.of_pbx("ACK", 3, ""));
    world.hear_start(phone, "ACK ");
    world.say(phone, &call.of_phone("REFER", 3, "Refer-To: <sips:300@10.0.1.50>"));
    let refer = world.hear_start(own, "REFER ");
    world.say(own, &reply(&refer, "202 Accepted", "", "X: 1"));
    world.hear_start(phone, "SIP/2.0 202 ");
    world.say(pbx, &call.of_pbx("NOTIFY", 4, "Event: refer\nSubscription-State: active"));
    let notify = world.hear_start(phone, "NOTIFY ");
    world.say(phone, &reply(&notify, "200 OK", "", "X: 1"));
    world.hear_start(pbx, "SIP/2.0 200 ");
    world.say(pbx, &call.of_pbx("BYE", 5, ""));
    let bye = world.hear_start(phone, "BYE ");
    world.say(phone, &reply(&bye, "200 OK", "", "X: 1"));
    world.hear_start(pbx, "SIP/2.0 200 ");
    assert_eq!(media(&world)[2..], ["Offer 1", "Answer 1", "Offer 1", "Answer 1", "End 1"]);
    assert_eq!(world.edge.snapshot(world.now).dialogs, 0);
}

#[test]
fn a_call_that_nobody_ends_is_forgotten_when_idle() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    same(&mut world);
    let idle = config().timers.dialog_idle.min(config().interop.sessions.session_timer);
    world.wait(idle - Duration::from_secs(1));
    assert!(!media(&world).contains(&"End 1".to_owned()));
    world.wait(Duration::from_secs(2));
    assert!(media(&world).contains(&"End 1".to_owned()), "{}", world.story());
    assert_eq!(world.saw(|e| matches!(e, Event::CallEnded { by: None, session: Some(_), .. })), 1);
    drop(call);
}

#[test]
fn without_a_route_the_call_itself_says_whose_it_is() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let bare = |mac: u32| {
        let bye = call.of_phone("BYE", mac, "");
        bye.replace(&format!("Route: {}\n", call.phone_route), "")
    };
    // Without the record nobody knows it.
    world.restart(config());
    let (phone, _) = back(&mut world);
    world.say(phone, &bare(2));
    world.hear_start(phone, "SIP/2.0 481 ");
    let mut world = World::new();
    Call::from_pbx(&mut world, "c");
    same(&mut world);
    let (phone, _) = back(&mut world);
    let stranger = world.phone(MAC_B, "198.51.100.9:41000");
    world.say(stranger, &bare(3));
    world.hear_start(stranger, "SIP/2.0 481 ");
    world.say(phone, &bare(4));
    let own = world.dialled("10.0.1.50:5061");
    world.hear_start(own, "BYE ");
}

#[test]
fn what_changed_in_a_call_is_what_goes_on() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let first = world.records.lock().unwrap().clone();
    world.say(call.pbx, &call.of_pbx("INVITE", 2, &sdp("")));
    let invite = world.hear_start(call.phone, "INVITE ");
    world.say(call.phone, &reply(&invite, "200 OK", "", &sdp("Contact: <sips:117@192.168.1.8:5555>\n")));
    world.hear_start(call.pbx, "SIP/2.0 200 ");
    world.say(call.pbx, &call.of_pbx("ACK", 2, ""));
    assert_ne!(*world.records.lock().unwrap(), first);
    same(&mut world);
    let (phone, pbx) = back(&mut world);
    world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    world.say(pbx, &call.of_pbx("BYE", 3, ""));
    world.hear_start(phone, "BYE sips:117@192.168.1.8:5555 ");
}

#[test]
fn two_answers_to_one_call_share_a_record() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", &sdp("")));
    let invite = world.hear_start(own, "INVITE ");
    let mut ends = Vec::new();
    for tag in ["u", "v"] {
        world.say(own, &reply(&invite, "200 OK", tag, &sdp("Contact: <sips:200@10.0.1.50>\n")));
        let ok = world.hear_start(phone, "SIP/2.0 200 ");
        let route = row(&ok, "Record-Route").to_owned();
        ends.push((tag, route, between(row(&ok, "Contact"), "<", ">").to_owned()));
    }
    let bye = |n: usize, cseq| {
        let (tag, route, remote) = &ends[n];
        from_phone("BYE", remote, "c", cseq, tag, &format!("Route: {route}"))
    };
    assert_eq!(kept(&world).len(), 1);
    same(&mut world);
    let ids: Vec<SessionId> = taken(&world).iter().map(|call| call.session).collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]));
    let both = world.records.lock().unwrap().clone();
    let (phone, _) = back(&mut world);
    for (n, ends) in [(0, 0), (1, 1)] {
        world.say(phone, &bye(n, 2));
        let own = world.dialled("10.0.1.50:5061");
        let text = world.hear_start(own, "BYE ");
        world.say(own, &reply(&text, "200 OK", "", "X: 1"));
        world.hear_start(phone, "SIP/2.0 200 ");
        let ended = media(&world).iter().filter(|line| *line == "End 1").count();
        assert_eq!(ended, ends);
        if ends == 0 {
            assert_ne!(*world.records.lock().unwrap(), both, "the record still holds what has ended");
        }
    }
    assert_eq!(kept(&world), []);
}

#[test]
fn every_call_is_taken_by_the_shard_of_its_phone_and_new_ones_get_numbers_of_their_own() {
    for (before, after) in [(1, 3), (3, 2), (2, 2), (3, 1)] {
        let mut world = World::sharded(config(), before);
        let mut ids = Vec::new();
        for n in 0..12_u8 {
            let (mac, host) = (format!("0010490000{n:02X}"), format!("192.168.1.{n}"));
            let (phone, own, token) = registered(&mut world, &mac, &format!("198.51.100.{n}:40000"), &host);
            let pbx = world.switch("10.0.1.50:33000");
            Call::again(&mut world, &format!("c{n}"), phone, own, pbx, &token);
            ids.push((mac, token));
        }
        let sessions = kept(&world);
        assert_eq!(sessions.len(), 12);
        world.take_over(config(), after);
        let mut all: Vec<SessionId> = taken(&world).iter().map(|call| call.session).collect();
        all.sort();
        assert_eq!(all, sessions, "{before} to {after}");
        let counts: Vec<usize> =
            world.edge.edges.iter().map(|edge| edge.snapshot(world.now).dialogs).collect();
        assert_eq!(counts.iter().sum::<usize>(), 12);
        for (n, (mac, token)) in ids.iter().enumerate() {
            let phone = world.phone(mac, &format!("198.51.100.{n}:41000"));
            let pbx = world.switch("10.0.1.50:34000");
            world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", &format!("o{n}"), 1, "", ""));
            world.say(pbx, &from_pbx("INVITE", &target(token), &format!("n{n}"), 1, "", &sdp("")));
            let invite = world.hear_start(phone, "INVITE ");
            world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
        }
        assert_eq!(kept(&world).len(), 24, "{before} to {after}: a session was given twice");
    }
}

#[test]
fn new_sessions_are_numbered_above_those_of_before() {
    let mut world = World::sharded(config(), 1);
    let call = Call::from_pbx(&mut world, "c");
    // As if the earlier process had been started much later in the numbers.
    let high = SessionId((1 << 56) - 7);
    let record = world.records.lock().unwrap().values().next().cloned().unwrap();
    *world.records.lock().unwrap() = [(high, record)].into_iter().collect();
    same(&mut world);
    let (phone, pbx) = back(&mut world);
    world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    world.say(pbx, &from_pbx("INVITE", &target(&call.token), "n", 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
    assert_eq!(kept(&world), [high, SessionId(high.0 + 1)]);
}

#[test]
fn what_is_no_record_is_nobodys_call() {
    let mut world = World::new();
    Call::from_pbx(&mut world, "c");
    let good = world.records.lock().unwrap().values().next().cloned().unwrap();
    {
        let mut all = world.records.lock().unwrap();
        let mut newer = good.clone();
        newer[0] = 9;
        let bad = [Vec::new(), newer, good[..good.len() - 1].to_vec(), vec![1; 70_000]];
        all.extend((0..).map(SessionId).zip(bad));
    }
    same(&mut world);
    assert_eq!(taken(&world).len(), 1);
    assert_eq!(world.edge.snapshot(world.now).dialogs, 1);
    // Told twice, it is one call still.
    let sessions: Vec<_> = world.records.lock().unwrap().clone().into_iter().collect();
    world.command(Command::TakeOver { sessions });
    assert_eq!(world.edge.snapshot(world.now).dialogs, 1);
}

#[test]
fn calls_of_before_count_for_the_ceilings() {
    let limited = |most: usize, own: usize| {
        let mut config: Config = config();
        config.limits.dialogs = most;
        config.limits.dialogs_per_certificate = own;
        config
    };
    let mut world = World::sharded(limited(10, 2), 1);
    let call = Call::from_pbx(&mut world, "c");
    Call::again(&mut world, "d", call.phone, call.own, call.pbx, &call.token);
    world.take_over(limited(10, 2), 1);
    let (phone, _) = back(&mut world);
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "e", 1, "", ""));
    world.hear_start(phone, "SIP/2.0 503 ");
    let reason = Reason::Limit("dialogs_per_certificate");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: r, .. } if *r == reason)), 1);
    // There are more than now fit: the rest is not taken.
    world.take_over(limited(1, 2), 1);
    assert_eq!(world.edge.snapshot(world.now).dialogs, 1);
    let calls: usize = taken(&world).len();
    assert_eq!(calls, 1);
}

/// A re-INVITE that comes after the BYE of its call: whoever might answer it 200 is not asked, and nothing is opened for it.
#[test]
fn what_comes_after_the_bye_does_not_make_the_call_anew() {
    for method in ["INVITE", "UPDATE"] {
        let mut world = World::new();
        let call = Call::from_pbx(&mut world, "c");
        world.say(call.phone, &call.of_phone("BYE", 2, ""));
        let bye = world.hear_start(call.own, "BYE ");
        world.say(call.own, &reply(&bye, "200 OK", "", "X: 1"));
        world.hear_start(call.phone, "SIP/2.0 200 ");
        let before = media(&world);
        world.say(call.phone, &call.of_phone(method, 3, &sdp("")));
        world.hear_start(call.phone, "SIP/2.0 481 ");
        world.say(call.pbx, &call.of_pbx(method, 3, &sdp("")));
        world.hear_start(call.pbx, "SIP/2.0 481 ");
        assert_eq!(media(&world), before, "{method}");
        assert_eq!((world.edge.snapshot(world.now).dialogs, kept(&world)), (0, vec![]));
        // Another BYE of the other end is answered by that end, or by nobody: it passes.
        world.say(call.pbx, &call.of_pbx("BYE", 4, ""));
        world.hear_start(call.phone, "BYE ");
    }
}

/// kill -9 between the 200 of a BYE and the word of it to the relay: the next process takes the call over. The first that
/// anybody says in it shows that it is none.
#[test]
fn a_call_that_had_ended_is_let_go_at_the_first_481() {
    for method in ["INVITE", "UPDATE"] {
        let mut world = World::new();
        let call = Call::from_pbx(&mut world, "c");
        same(&mut world);
        let session = kept(&world);
        assert_eq!((session.len(), world.edge.snapshot(world.now).dialogs), (1, 1));
        let (phone, pbx) = back(&mut world);
        world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
        // An INFO may meet a 481 of its own.
        world.say(pbx, &call.of_pbx("INFO", 2, ""));
        let info = world.hear_start(phone, "INFO ");
        world.say(phone, &reply(&info, "481 No Such Package", "", "X: 1"));
        world.hear_start(pbx, "SIP/2.0 481 ");
        assert_eq!(world.edge.snapshot(world.now).dialogs, 1);
        world.say(pbx, &call.of_pbx(method, 3, &sdp("")));
        let request = world.hear_start(phone, method);
        world.say(phone, &reply(&request, "481 Call Does Not Exist", "", "X: 1"));
        world.hear_start(pbx, "SIP/2.0 481 ");
        assert_eq!((world.edge.snapshot(world.now).dialogs, kept(&world)), (0, vec![]), "{method}");
        assert_eq!(media(&world).last().map(String::as_str), Some("End 1"));
    }
}

/// A call that rings when signalling dies has no record: who takes over finds nobody's session and ends it, and answers that
/// come for it later open nothing (MED-22).
#[test]
fn a_call_that_rang_leaves_nothing_behind() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("INVITE", &target(&token), "r", 1, "", &sdp("")));
    let invite = world.hear_start(phone, "INVITE ");
    let contact = "Contact: <sips:117@192.168.1.7>\n";
    world.say(phone, &reply(&invite, "183 Progress", "a", &sdp(contact)));
    world.hear_start(pbx, "SIP/2.0 183 ");
    assert_eq!(kept(&world), [], "early dialogs are not recorded");
    same(&mut world);
    assert_eq!(taken(&world), []);
    let (phone, pbx) = back(&mut world);
    world.say(phone, &from_phone("OPTIONS", "sips:x@10.0.1.50", "o", 1, "", ""));
    let asked = media(&world);
    // The phone is picked up: nobody waits for that any more.
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp(contact)));
    world.say(phone, &reply(&invite, "200 OK", "a", &sdp(contact)));
    // The PBX sends its INVITE no more over a stream, and gives up.
    world.say(pbx, &from_pbx("CANCEL", &target(&token), "r", 1, "", ""));
    world.hear_start(pbx, "SIP/2.0 481 ");
    world.wait(Duration::from_secs(300));
    assert_eq!(media(&world), asked, "nothing was opened");
    assert_eq!((world.edge.snapshot(world.now).dialogs, kept(&world)), (0, vec![]));
}
