//! What descriptions say of who speaks, and a stream that the relay closes because nobody does (MED-14, SAM-20 to SAM-22).

use super::*;
use crate::policy::Timeouts;
use crate::relay::{Kind, Silence};

fn rig() -> Rig {
    Rig::new(|config| {
        config.policy.timeouts = Timeouts { one_way: Some(5), rtp: Some(10), rtcp: None, teardown: true };
    })
}

fn wait(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds {
        rig.now += Duration::from_secs(1);
        rig.table.handle_timeout(rig.now);
        rig.settle();
    }
}

fn silences(rig: &Rig) -> Vec<(Silence, bool)> {
    let silent = |report: &Report| match report {
        Report::Silent { silence, closed, .. } => Some((*silence, *closed)),
        _ => None,
    };
    rig.reports.iter().filter_map(silent).collect()
}

/// Nothing is missed before the answer; after it the dead stream closes, and the next offer of the call begins anew.
#[test]
fn a_stream_that_died_is_had_again_by_the_next_offer() {
    let mut rig = rig();
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    wait(&mut rig, 60);
    assert_eq!(silences(&rig), []);
    let (outer, _) = rig.call(1);
    wait(&mut rig, 12);
    assert_eq!(silences(&rig), [(Silence::Rtp, true)]);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)), None);
    assert_eq!(rig.anchor.sessions(), 1, "the call is signalling's to end");
    let (again, inner) = rig.call(1);
    assert_ne!(again, outer);
    assert_eq!(rig.packet(again, at(PHONE_A, 61000), 55, &rtp(1)), Some((inner, at("10.0.1.60", 5000), 54)));
}

/// A hold is agreed silence, however it is said; its end is not.
#[test]
fn a_hold_is_not_missed() {
    for (held, answer) in
        [("a=inactive\r\n", "a=inactive\r\n"), ("a=sendonly\r\n", "a=recvonly\r\n"), ("", "a=inactive\r\n")]
    {
        let mut rig = rig();
        rig.offer(1, Side::Inside, PBX, &format!("{}{held}", audio("10.0.1.60", 5000)));
        rig.answer(1, Side::Outside, PHONE_A, &format!("{}{answer}", audio("192.168.1.7", 30000)));
        let (outside, inside) = {
            let setup = &rig.anchor.sessions[&1].streams[0].setup;
            (setup.outside.speaks, setup.inside.speaks)
        };
        assert_eq!((outside, inside), (false, held == "a=sendonly\r\n"), "{held} {answer}");
        if !inside {
            wait(&mut rig, 60);
            assert_eq!(silences(&rig), [], "{held} {answer}");
        }
        rig.call(1);
        wait(&mut rig, 12);
        assert_eq!(silences(&rig), [(Silence::Rtp, true)], "{held} {answer}");
    }
}

/// The relay is told what it measures by, and what kind of packets it is to expect (MED-20, SDP-21).
#[test]
fn clocks_and_kind_come_from_the_descriptions() {
    let mut rig = rig();
    let opus =
        "m=audio 30000 RTP/AVP 96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";
    let lines = |host: &str, media: &str| audio(host, 1).split("m=").next().unwrap().to_owned() + media;
    rig.offer(1, Side::Outside, PHONE_A, &lines("192.168.1.7", opus));
    rig.answer(1, Side::Inside, PBX, &lines("10.0.1.60", &opus.replace("30000", "5000")));
    let setup = rig.anchor.sessions[&1].streams[0].setup.clone();
    assert_eq!(
        (setup.clocks.rate(96), setup.clocks.rate(101), setup.clocks.rate(0)),
        (Some(48_000), None, Some(8_000))
    );
    assert_eq!((setup.kind, setup.timeouts.rtp), (Kind::Rtp, Some(10)));
    // The same line becomes fax.
    let fax = "m=image 30000 udptl t38\r\n";
    let offer = rig.offer(1, Side::Outside, PHONE_A, &lines("192.168.1.7", fax));
    let answer = rig.answer(1, Side::Inside, PBX, &lines("10.0.1.60", &fax.replace("30000", "5000")));
    let setup = &rig.anchor.sessions[&1].streams.last().unwrap().setup;
    assert_eq!(setup.kind, Kind::Udptl);
    let (outer, inner) = (at(OUTER, ports(&answer)[0]), at(INNER, ports(&offer)[0]));
    let idle = [0, 1, 1, 0, 0, 0];
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &idle), Some((inner, at("10.0.1.60", 5000), 54)));
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &idle).unwrap().1, at(PHONE_A, 61000));
}

/// A stream may fall silent while a re-INVITE waits: its ports were promised by then, and its answer names them.
#[test]
fn an_offer_that_waits_keeps_the_streams_it_is_about() {
    let mut rig = rig();
    let (outer, inner) = rig.call(1);
    wait(&mut rig, 5);
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(ports(&offer), [inner.port()]);
    wait(&mut rig, 40);
    assert_eq!(silences(&rig), [(Silence::Rtp, false)], "told, and not closed");
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(ports(&answer), [outer.port()], "the line is not declined");
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().0, inner);
    // From then on silence counts anew.
    wait(&mut rig, 9);
    assert_eq!(rig.anchor.sessions[&1].streams.len(), 1);
    wait(&mut rig, 3);
    assert_eq!(silences(&rig).last(), Some(&(Silence::Rtp, true)));
    // So it does after an offer that was refused.
    rig.call(1);
    rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    wait(&mut rig, 40);
    assert_eq!(rig.anchor.sessions[&1].streams.len(), 1);
    rig.anchor.rollback(rig.now, 1, Side::Inside);
    wait(&mut rig, 12);
    assert!(rig.anchor.sessions[&1].streams.is_empty());
}

/// A re-INVITE moves the phone to the other family, and its answer comes after the stream was lost.
#[test]
fn what_waited_for_a_stream_that_is_closed_goes_back() {
    let mut rig = rig();
    rig.call(1);
    rig.offer(1, Side::Outside, "2001:db8::77", &audio("2001:db8::77", 30000));
    assert_eq!(rig.table.kept(), 1);
    let stream = StreamId { session: 1, index: 0 };
    rig.table.handle_command(rig.now, Command::Close { stream });
    rig.anchor.handle_report(rig.now, Report::Refused { stream });
    assert!(rig.anchor.sessions[&1].streams.is_empty());
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(rig.table.kept(), 0);
    // The next one speaks again.
    let (outer, inner) = rig.call(1);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().0, inner);
}

/// An answer has as many lines as its offer (RFC 3264 §6): of one with more nothing is kept.
#[test]
fn lines_that_nobody_offered_are_not_remembered() {
    let mut rig = rig();
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.anchor.set_fork(1, Some(7));
    let more = audio("10.0.1.60", 5000) + &"m=audio 5002 RTP/AVP 0\r\n".repeat(60);
    let answer = rig.answer(1, Side::Inside, PBX, &more);
    assert_eq!(ports(&answer).iter().filter(|port| **port != 0).count(), 1);
    let offer = rig.anchor.sessions[&1].offer.as_ref().unwrap();
    assert_eq!(offer.forks.iter().map(|fork| fork.lines.len()).collect::<Vec<_>>(), [1]);
}
