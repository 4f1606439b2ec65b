//! Sessions outlive the process that made them, and the relay that carries them.

use super::*;

impl Rig {
    fn keeping() -> Self {
        Self::new(|config| config.keep_state = true)
    }

    /// What the relay has.
    pub(super) fn left(&mut self) -> Left {
        self.reports.clear();
        self.table.handle_command(self.now, Command::Snapshot);
        self.settle();
        let mut left = Left::default();
        let last = self.reports.drain(..).map(|report| left.add(crossed(&report))).collect::<Vec<_>>();
        assert_eq!(last.iter().filter(|last| **last).count(), 1);
        left
    }

    /// kill -9 of signalling: a new anchor meets the old relay. What it says of the sessions.
    pub(super) fn new_anchor(&mut self) -> Vec<(u64, Vec<u8>)> {
        let config = self.anchor.config.clone();
        self.anchor = Anchor::new(self.now, config);
        // Its first lease is asked for after what the process before left has ended.
        self.table.handle_command(self.now, Command::Release);
        let left = self.left();
        let records = self.anchor.take_over(self.now, &left);
        self.settle();
        records
    }

    /// kill -9 of the relay: the anchor meets a new one.
    pub(super) fn new_relay(&mut self, seed: u8) -> usize {
        self.anchor.lost(self.now);
        let config = table::Config::new(self.anchor.config.outside, self.anchor.config.inside, [seed; 32]);
        self.table = Table::new(self.now, config);
        self.bound.clear();
        // The pool is bound before anybody connects.
        while let Some(action) = self.table.poll_action(self.now) {
            if let Action::Bind { rtp, rtcp } = action {
                self.bound.insert(self.table.handle_bound().unwrap(), (rtp, rtcp));
            }
        }
        let left = self.left_of_new();
        let restored = self.anchor.rejoin(self.now, &left);
        self.settle();
        restored
    }

    fn left_of_new(&mut self) -> Left {
        self.table.handle_command(self.now, Command::Snapshot);
        let mut left = Left::default();
        while let Some(action) = self.table.poll_action(self.now) {
            if let Action::Report(report) = action {
                left.add(report);
            }
        }
        left
    }
}

fn port(sdp: &str) -> u16 {
    let line = sdp.lines().find(|line| line.starts_with("m=")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A call of the phone at port 4000 with the switch at port 5000: our ports, outside and inside.
fn call(rig: &mut Rig, session: u64) -> (u16, u16) {
    let offer = rig.try_offer(session, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    let answer = rig.try_answer(session, Side::Inside, PBX, &audio(PBX, 5000)).unwrap();
    (port(&answer), port(&offer))
}

#[test]
fn a_new_process_has_every_session_as_it_was() {
    let mut rig = Rig::keeping();
    let (outside, inside) = call(&mut rig, 7);
    rig.anchor.set_record(7, b"dialog".to_vec());
    rig.settle();
    let before = format!("{:?}", rig.anchor.sessions.get(&7));
    let records = rig.new_anchor();
    assert_eq!(records, [(7, b"dialog".to_vec())]);
    assert_eq!(format!("{:?}", rig.anchor.sessions.get(&7)), before);
    assert!(rig.anchor.is_ready(), "it has leases of its own");
    // Audio went on; a re-INVITE keeps the ports.
    let again = rig.try_offer(7, Side::Inside, PBX, &audio(PBX, 5002)).unwrap();
    assert_eq!(port(&again), outside);
    let answer = rig.try_answer(7, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    assert_eq!(port(&answer), inside);
    rig.anchor.end(rig.now, 7);
    rig.settle();
    let left = rig.left();
    assert_eq!(left, Left::default(), "nothing outlives the call (MED-22)");
}

#[test]
fn an_offer_that_waits_is_answered_by_the_new_process() {
    let mut rig = Rig::keeping();
    let offer = rig.try_offer(7, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    rig.new_anchor();
    let answer = rig.try_answer(7, Side::Inside, PBX, &audio(PBX, 5000)).unwrap();
    assert!(port(&answer) > 0);
    let id = StreamId { session: 7, index: 0 };
    let stream = rig.anchor.stream(id).unwrap();
    assert!(stream.agreed && stream.inside.rtp.port() == port(&offer));
}

#[test]
fn declined_lines_stay_where_they_are() {
    let mut rig = Rig::keeping();
    let two =
        |host: &str, first: u16, second: u16| format!("{}m=audio {second} RTP/AVP 0\r\n", audio(host, first));
    rig.try_offer(7, Side::Outside, PHONE_A, &two(PHONE_A, 4000, 4002)).unwrap();
    rig.try_answer(7, Side::Inside, PBX, &two(PBX, 0, 5002)).unwrap();
    rig.new_anchor();
    let streams =
        |rig: &Rig| rig.anchor.streams(7).map(|stream| (stream.id, stream.lines)).collect::<Vec<_>>();
    let before = streams(&rig);
    rig.try_offer(7, Side::Outside, PHONE_A, &two(PHONE_A, 0, 4002)).unwrap();
    rig.try_answer(7, Side::Inside, PBX, &two(PBX, 0, 5002)).unwrap();
    assert_eq!(streams(&rig).last(), before.last(), "the second line has the stream it had");
}

/// A record of a version that can't be read: the streams stand for the lines in their order.
#[test]
fn without_a_readable_record_the_ports_are_kept_nonetheless() {
    let mut rig = Rig::keeping();
    let (outside, _) = call(&mut rig, 7);
    rig.table
        .handle_command(rig.now, Command::Record { session: 7, record: b"of another time".to_vec().into() });
    let records = rig.new_anchor();
    assert_eq!(records, [(7, vec![])]);
    let again = rig.try_offer(7, Side::Inside, PBX, &audio(PBX, 5002)).unwrap();
    assert_eq!(port(&again), outside);
    let ids: Vec<u32> = rig.anchor.streams(7).map(|stream| stream.id.index).collect();
    assert_eq!(ids, [0]);
}

#[test]
fn what_was_opened_after_the_last_record_is_closed_and_what_is_gone_is_forgotten() {
    let mut rig = Rig::keeping();
    call(&mut rig, 7);
    call(&mut rig, 8);
    let setup = rig.anchor.stream(StreamId { session: 7, index: 0 }).unwrap().setup.clone();
    let (outside, inside) = (rig.lease_for_test(Side::Outside), rig.lease_for_test(Side::Inside));
    let mut late = setup;
    late.id.index = 5;
    (late.outside.pair, late.inside.pair) = (outside, inside);
    rig.table.handle_command(rig.now, Command::Open { stream: late });
    rig.table.handle_command(rig.now, Command::Close { stream: StreamId { session: 8, index: 0 } });
    rig.new_anchor();
    let left = rig.left();
    assert_eq!(left.streams_of(7).map(|setup| setup.id.index).collect::<Vec<_>>(), [0]);
    assert_eq!(rig.anchor.streams(8).count(), 0);
    assert!(rig.try_offer(8, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).is_ok());
    assert_eq!(rig.anchor.streams(8).count(), 1);
}

#[test]
fn streams_come_back_on_their_ports_at_a_new_relay() {
    let mut rig = Rig::keeping();
    let calls: Vec<(u16, u16)> = (1..=40).map(|session| call(&mut rig, session)).collect();
    assert_eq!(rig.new_relay(6), 40);
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Refused { .. })));
    for (outside, inside) in calls {
        assert!(rig.bound.values().any(|(rtp, _)| *rtp == at("192.0.2.1", outside)));
        assert!(rig.bound.values().any(|(rtp, _)| *rtp == at(INNER, inside)));
    }
    assert!(rig.anchor.is_ready());
    let left = rig.left();
    assert_eq!(left.sessions().count(), 40);
    assert_eq!(left.records.len(), 40, "and the next process finds them");
    // New calls, and the end of all.
    call(&mut rig, 41);
    for session in 1..=41 {
        rig.anchor.end(rig.now, session);
    }
    rig.settle();
    assert_eq!(rig.left(), Left::default());
}

#[test]
fn while_there_is_no_relay_new_calls_are_refused_and_nothing_is_promised() {
    let mut rig = Rig::keeping();
    call(&mut rig, 7);
    rig.anchor.lost(rig.now);
    let offer = audio(PHONE_A, 4000);
    let refused = rig.anchor.offer(rig.now, 8, Side::Outside, ip(PHONE_A), ip(PBX), offer.as_bytes());
    assert!(matches!(refused, Err(Refusal::Unavailable { .. })), "{refused:?}");
    // It is there again, and never was away: its streams go on, a call that has ended meanwhile ends there too.
    rig.table.handle_command(rig.now, Command::Release);
    call_at_relay_only(&mut rig, 99);
    let left = rig.left();
    assert_eq!(rig.anchor.rejoin(rig.now, &left), 0);
    rig.settle();
    assert_eq!(rig.left().sessions().collect::<Vec<_>>(), [7]);
    call(&mut rig, 8);
}

fn call_at_relay_only(rig: &mut Rig, session: u64) {
    let mut setup = rig.anchor.stream(StreamId { session: 7, index: 0 }).unwrap().setup.clone();
    setup.id.session = session;
    let (outside, inside) = (rig.lease_for_test(Side::Outside), rig.lease_for_test(Side::Inside));
    (setup.outside.pair, setup.inside.pair) = (outside, inside);
    rig.table.handle_command(rig.now, Command::Open { stream: setup });
}

impl Rig {
    /// A pair that the relay has leased and the anchor does not know.
    fn lease_for_test(&mut self, side: Side) -> PairId {
        let realm = Realm { side, family: Family::V4 };
        self.table.handle_command(self.now, Command::Lease { realm, pairs: 1 });
        let mut leased = None;
        while let Some(action) = self.table.poll_action(self.now) {
            match action {
                Action::Bind { rtp, rtcp } => {
                    self.bound.insert(self.table.handle_bound().unwrap(), (rtp, rtcp));
                }
                Action::Report(Report::Leased { pairs, .. }) => leased = pairs.first().map(|pair| pair.id),
                Action::Close(slot) => drop(self.bound.remove(&slot)),
                Action::Rest(_) | Action::Return { .. } | Action::Give { .. } => {
                    panic!("one table alone: {action:?}")
                }
                Action::Report(_) => {}
            }
        }
        leased.unwrap()
    }
}

#[test]
fn phones_that_met_in_one_hop_still_do() {
    for lost in ["signalling", "relay"] {
        let mut rig = Rig::keeping();
        let offered = rig.try_offer(1, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
        let second = rig.try_offer(2, Side::Inside, PBX, &audio(INNER, port(&offered))).unwrap();
        let answered = rig.try_answer(2, Side::Outside, PHONE_B, &audio(PHONE_B, 4100)).unwrap();
        rig.try_answer(1, Side::Inside, PBX, &audio(INNER, port(&answered))).unwrap();
        let joined = |rig: &Rig| rig.anchor.stream(StreamId { session: 1, index: 0 }).unwrap().joined;
        assert_eq!(joined(&rig), Some(StreamId { session: 2, index: 0 }));
        match lost {
            "signalling" => drop(rig.new_anchor()),
            _ => drop(rig.new_relay(6)),
        }
        assert_eq!(joined(&rig), Some(StreamId { session: 2, index: 0 }), "{lost}");
        let outside_of_b = at(OUTER, port(&second));
        rig.packet(outside_of_b, at(PHONE_B, 4100), 64, &rtp(1));
        let answer_to_a = rig.anchor.stream(StreamId { session: 1, index: 0 }).unwrap().outside.rtp;
        let sent = rig.packet(answer_to_a, at(PHONE_A, 4000), 64, &rtp(1)).unwrap();
        assert_eq!(sent.1, at(PHONE_B, 4100), "{lost}");
    }
}

#[test]
fn what_both_ends_said_outlives_the_process_and_what_was_refused_was_not_said() {
    let mut rig = Rig::keeping();
    let lines = |sdp: &str| crate::doctor::lines(sdp.as_bytes(), &Default::default()).unwrap();
    let said = |rig: &Rig| rig.anchor.said(7).map(|(phone, said)| (phone, said.clone())).unwrap();
    rig.anchor.note(lines(&audio(PHONE_A, 4000)));
    rig.try_offer(7, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    rig.anchor.note(lines(&audio(PBX, 5000)));
    rig.try_answer(7, Side::Inside, PBX, &audio(PBX, 5000)).unwrap();
    let before = said(&rig);
    assert_eq!(before.0, Some(ip(PHONE_A)));
    let expected = [lines(&audio(PHONE_A, 4000)), lines(&audio(PBX, 5000))];
    assert_eq!(before.1, Said { switch: Some(ip(PBX)), lines: expected });
    rig.anchor.note(lines(&audio("224.0.0.9", 5004)));
    rig.try_offer(7, Side::Inside, PBX, &audio("224.0.0.9", 5004)).unwrap_err();
    // Nobody noted what this one says: nothing of another description is said of it.
    rig.try_offer(7, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    rig.try_answer(7, Side::Inside, PBX, &audio(PBX, 5000)).unwrap();
    rig.new_anchor();
    assert_eq!(said(&rig), before);
    // Of endless descriptions the first lines.
    let many = format!("{}{}", audio(PBX, 5000), "m=audio 0 RTP/AVP 0\r\n".repeat(20));
    rig.anchor.note(lines(&many));
    rig.try_offer(7, Side::Inside, PBX, &many).unwrap();
    assert_eq!(said(&rig).1.lines[1].len(), 8);
}

#[test]
fn a_stream_without_its_ports_is_known_until_an_answer_gives_it_others() {
    let mut rig = Rig::keeping();
    let (outside, inside) = call(&mut rig, 7);
    let id = StreamId { session: 7, index: 0 };
    // Its ports are somebody else's when the new relay wants them.
    let refused = |rig: &mut Rig| {
        rig.anchor.handle_report(rig.now, Report::Refused { stream: id });
        rig.settle();
    };
    let streams = |rig: &Rig| {
        let state = |stream: StreamState<'_>| {
            (
                stream.refused,
                stream.lines.clone(),
                stream.outside.unwrap().port(),
                stream.inside.unwrap().port(),
            )
        };
        rig.anchor.streams(7).map(state).collect::<Vec<_>>()
    };
    assert_eq!(streams(&rig), [(false, vec![0], outside, inside)]);
    refused(&mut rig);
    assert_eq!(streams(&rig), [(true, vec![0], outside, inside)]);
    assert!(rig.anchor.stream_state_of(id).is_some_and(|stream| stream.refused));
    rig.new_anchor();
    assert_eq!(streams(&rig), [(true, vec![0], outside, inside)], "the next process knows it too");
    rig.try_offer(7, Side::Inside, PBX, &audio(PBX, 5000)).unwrap();
    let states = streams(&rig);
    assert_eq!(states.iter().filter(|(refused, ..)| *refused).count(), 1, "until the answer: {states:?}");
    rig.try_answer(7, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    let [(false, lines, ..)] = &streams(&rig)[..] else { panic!("{:?}", streams(&rig)) };
    assert_eq!(*lines, [0]);
    // One that nobody has answered yet is declined by its answer: nothing is silent for long.
    rig.try_offer(8, Side::Outside, PHONE_A, &audio(PHONE_A, 4000)).unwrap();
    rig.anchor.handle_report(rig.now, Report::Refused { stream: StreamId { session: 8, index: 0 } });
    assert_eq!(rig.anchor.streams(8).count(), 0);
}
