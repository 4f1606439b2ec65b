//! Calls from their first description to what is said of them, with the real anchor and counters by hand.

use std::cell::RefCell;
use std::collections::BTreeMap;

use sdp_core::policy::Addresses;
use sdp_core::relay::{Dropped, LegStatistics, Pair, PairId, StreamSetup};

use super::*;

const PHONE: &str = "198.51.100.2";
const SWITCH: &str = "10.0.1.51";
const OUTER: &str = "203.0.113.10";
const INNER: &str = "10.0.1.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn audio(host: &str, port: u16) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
}

fn port(sdp: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(sdp);
    text.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok()).unwrap()
}

fn talked(packets: u64) -> LegStatistics {
    LegStatistics {
        received_rtp: packets,
        sent: packets,
        receiver: Some("198.51.100.2:61000".parse().unwrap()),
        ..LegStatistics::default()
    }
}

/// The anchor with a relay that grants every lease, and the book beside it.
struct Rig {
    calls: Calls,
    now: Instant,
    /// What the relay has: streams, their pairs, and the records of sessions.
    streams: RefCell<BTreeMap<StreamId, StreamSetup>>,
    pairs: RefCell<Vec<Pair>>,
    records: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl Rig {
    fn new() -> Self {
        Self::made(false)
    }

    /// What is known of sessions is kept with them.
    fn keeping() -> Self {
        Self::made(true)
    }

    fn made(keep_state: bool) -> Self {
        let now = Instant::now();
        let mut config = anchor::Config::new(Addresses::from(ip(OUTER)), Addresses::from(ip(INNER)));
        config.keep_state = keep_state;
        let anchor = Arc::new(Mutex::new(Anchor::new(now, config)));
        let calls = Calls::new(anchor);
        let (streams, pairs, records) = Default::default();
        let rig = Self { calls, now, streams, pairs, records };
        rig.settle();
        rig
    }

    fn settle(&self) {
        let mut next = 16384;
        loop {
            let command = self.calls.anchor().poll_command();
            let Some(command) = command else { return };
            self.calls.told(&command);
            match &command {
                Command::Open { stream } | Command::Update { stream } => {
                    self.streams.borrow_mut().insert(stream.id, stream.clone());
                }
                Command::Record { session, record } => {
                    self.records.borrow_mut().insert(*session, record.to_vec());
                }
                _ => {}
            }
            let Command::Lease { realm, pairs } = command else { continue };
            let host = if realm.side == Side::Outside { ip(OUTER) } else { ip(INNER) };
            let pairs = (0..pairs).map(|_| {
                next += 2;
                let id = PairId(u64::from(next) + u64::from(realm.side == Side::Inside) * 100_000);
                Pair { id, realm, rtp: (host, next).into(), rtcp: (host, next + 1).into() }
            });
            let pairs: Vec<Pair> = pairs.collect();
            self.pairs.borrow_mut().extend(&pairs);
            let report = Report::Leased { realm, pairs, lifetime_ms: 300_000 };
            self.calls.anchor().handle_report(self.now, report);
        }
    }

    /// The next process, after this one was killed.
    fn taken_over(&self) -> Self {
        let next = Self::keeping();
        let streams = self.streams.borrow().values().cloned().collect();
        let records = self.records.borrow().iter().map(|(id, record)| (*id, record.clone().into())).collect();
        let mut left = anchor::Left::default();
        left.add(Report::Snapshot { streams, pairs: self.pairs.borrow().clone(), records, more: false });
        {
            let mut anchor = next.calls.anchor();
            let heirs = anchor.take_over(next.now, &left);
            next.calls.adopt(next.now, &anchor, heirs.into_iter().map(|(id, _)| id));
        }
        next.settle();
        next
    }

    fn offer(&self, id: u64, side: Side, sdp: &str) -> Result<bytes::Bytes, anchor::Refusal> {
        let (from, to) = if side == Side::Outside { (PHONE, SWITCH) } else { (SWITCH, PHONE) };
        self.calls.anchor().note(read(sdp.as_bytes()));
        let done = self.calls.anchor().offer(self.now, id, side, ip(from), ip(to), sdp.as_bytes());
        match &done {
            Ok(_) => self.calls.described(
                self.now,
                id,
                side,
                Role::Offer,
                [ip(from), ip(to)],
                read(sdp.as_bytes()),
            ),
            Err(why) => self.calls.refused(self.now, id, side, [ip(from), ip(to)], why),
        }
        self.settle();
        done
    }

    fn answer(&self, id: u64, side: Side, sdp: &str) -> bytes::Bytes {
        let (from, to) = if side == Side::Outside { (PHONE, SWITCH) } else { (SWITCH, PHONE) };
        self.calls.anchor().note(read(sdp.as_bytes()));
        let done = self.calls.anchor().answer(self.now, id, side, ip(from), ip(to), sdp.as_bytes());
        self.calls.described(self.now, id, side, Role::Answer, [ip(from), ip(to)], read(sdp.as_bytes()));
        self.settle();
        done.unwrap()
    }

    /// A phone calls a switch, which answers.
    fn call(&self, id: u64) {
        self.offer(id, Side::Outside, &audio("192.168.1.7", 40002)).unwrap();
        self.answer(id, Side::Inside, &audio(SWITCH, 5000));
        self.calls.answered(self.now, SessionId(id), "a84b4c76e66710@lab", "08000FA00001");
    }

    fn count(&mut self, seconds: u64, id: u64, outside: LegStatistics, inside: LegStatistics) {
        self.now += Duration::from_secs(seconds);
        let (stream, ended) = (StreamId { session: id, index: 0 }, false);
        let report =
            Report::Statistics { stream, outside: Box::new(outside), inside: Box::new(inside), ended };
        self.calls.heard(self.now, &report);
    }

    fn hang_up(&self, id: u64) {
        self.calls.ending(self.now, id);
        self.calls.anchor().end(self.now, id);
        self.settle();
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.calls.tick(self.now);
    }

    fn verdicts(&self) -> Vec<(u64, String)> {
        let status = self.calls.status(self.now);
        status.calls.into_iter().map(|call| (call.session, call.streams[0].verdict.clone())).collect()
    }
}

#[test]
fn a_call_from_offer_to_nothing() {
    let mut rig = Rig::new();
    rig.offer(1, Side::Outside, &audio("192.168.1.7", 40002)).unwrap();
    assert_eq!(rig.verdicts(), [(1, "unanswered".into())]);
    rig.call(2);
    assert_eq!(rig.verdicts()[1], (2, "not-enough-data".into()));
    rig.count(5, 2, talked(250), talked(250));
    let status = rig.calls.status(rig.now);
    let call = status.calls.iter().find(|call| call.session == 2).unwrap();
    assert_eq!((call.phone.as_deref(), call.seconds, call.answered), (Some("08000FA00001"), 5, true));
    assert_eq!((call.phone_address, call.switch), (Some(ip(PHONE)), Some(ip(SWITCH))));
    let stream = &call.streams[0];
    assert_eq!((stream.verdict.as_str(), stream.media.as_str()), ("healthy", "relayed"));
    assert_eq!((stream.codecs.as_deref(), stream.age), (Some("PCMU/8000"), Some(0)));
    assert_eq!(stream.phone.says, Some("192.168.1.7:40002".parse().unwrap()));
    assert_eq!(stream.phone.ours.unwrap().ip(), ip(OUTER));
    assert_eq!(stream.other.ours.unwrap().ip(), ip(INNER));
    rig.hang_up(1);
    rig.hang_up(2);
    assert_eq!(rig.verdicts(), []);
    rig.later(1);
    assert_eq!(rig.calls.status(rig.now).past, [], "nothing to say of healthy and unanswered calls");
    rig.later(10);
    let book = rig.calls.book();
    assert!(book.calls.is_empty() && book.leaving.is_empty() && book.judged == 0, "nothing is left");
}

#[test]
fn a_troubled_call_comes_first_and_is_remembered() {
    let mut rig = Rig::new();
    rig.call(1);
    rig.call(2);
    let blocked = LegStatistics {
        dropped: Dropped { stranger: 240, ..Dropped::default() },
        refused: Some("198.51.100.9:40002".parse().unwrap()),
        ..LegStatistics::default()
    };
    rig.count(5, 1, talked(250), talked(250));
    rig.count(0, 2, blocked, talked(250));
    assert_eq!(rig.verdicts(), [(2, "wrong-source".into()), (1, "healthy".into())]);
    let mut summary = Summary::default();
    rig.calls.count(rig.now, &mut summary);
    assert_eq!((summary.calls, summary.troubled, summary.ended_in_trouble), (2, 1, 0));
    rig.hang_up(2);
    rig.later(1);
    rig.later(3);
    let past = rig.calls.status(rig.now).past;
    assert_eq!((past.len(), past[0].verdict.as_str(), past[0].ago), (1, "wrong-source", 3));
    assert!(past[0].sentence.contains("198.51.100.9:40002") && past[0].sentence.contains(PHONE));
    assert_eq!(past[0].call_id.as_deref(), Some("a84b4c76e66710@lab"));
    // Calls without end do not fill the memory.
    for id in 10..80 {
        rig.call(id);
        rig.count(4, id, blocked, talked(250));
        rig.hang_up(id);
        rig.later(1);
    }
    let status = rig.calls.status(rig.now);
    assert_eq!((status.past.len(), status.past.last().unwrap().session), (50, 79));
}

#[test]
fn a_phone_that_falls_silent_is_told_after_a_while() {
    let mut rig = Rig::new();
    rig.call(1);
    for (at, (packets, verdict)) in
        (1..).zip([(250, "healthy"), (500, "healthy"), (500, "healthy"), (500, "stopped")])
    {
        rig.count(5, 1, talked(packets), talked(250 * at));
        assert_eq!(rig.verdicts(), [(1, verdict.into())], "{packets}");
    }
    // The same description again is no new beginning, another one is.
    rig.offer(1, Side::Inside, &audio(SWITCH, 5000)).unwrap();
    rig.answer(1, Side::Outside, &audio("192.168.1.7", 40002));
    assert_eq!(rig.verdicts(), [(1, "stopped".into())]);
    let held = format!("{}a=sendonly\r\n", audio(SWITCH, 5000));
    rig.offer(1, Side::Inside, &held).unwrap();
    rig.answer(1, Side::Outside, &format!("{}a=recvonly\r\n", audio("192.168.1.7", 40002)));
    assert_eq!(rig.verdicts(), [(1, "held".into())]);
    rig.offer(1, Side::Inside, &audio(SWITCH, 5000)).unwrap();
    rig.answer(1, Side::Outside, &audio("192.168.1.7", 40002));
    rig.count(4, 1, talked(500), talked(1200));
    assert_eq!(rig.verdicts(), [(1, "healthy".into())], "silent by agreement until now");
}

/// A media process was killed, and the one after it counts from nothing.
#[test]
fn counters_that_begin_anew_are_no_silence() {
    let mut rig = Rig::new();
    rig.call(1);
    rig.count(5, 1, talked(250), talked(250));
    rig.count(300, 1, talked(15_000), talked(15_000));
    // The first counters come late, and with them the end of a short call.
    rig.count(11, 1, talked(400), talked(400));
    assert_eq!(rig.verdicts(), [(1, "healthy".to_owned())]);
    rig.count(5, 1, talked(650), talked(650));
    // Who has sent nothing to the one after that is not heard again.
    rig.count(11, 1, LegStatistics { received_rtp: 0, ..talked(550) }, talked(550));
    assert_ne!(rig.verdicts(), [(1, "healthy".to_owned())]);
}

#[test]
fn what_the_relay_measured_counts_more_than_counters_at_intervals() {
    let mut rig = Rig::new();
    rig.call(1);
    rig.count(5, 1, talked(250), talked(250));
    rig.now += Duration::from_secs(6);
    let stream = StreamId { session: 1, index: 0 };
    let silent = |silence| Report::Silent {
        stream,
        silence,
        seconds: 11,
        outside: Box::new(talked(251)),
        inside: Box::new(talked(800)),
        closed: false,
    };
    rig.calls.heard(rig.now, &silent(Silence::Rtcp));
    assert_eq!(rig.verdicts(), [(1, "healthy".into())], "RTCP is not audio");
    rig.calls.heard(rig.now, &silent(Silence::OneWay(Side::Outside)));
    assert_eq!(rig.verdicts(), [(1, "stopped".into())]);
    let status = rig.calls.status(rig.now);
    assert!(status.calls[0].streams[0].sentence.contains("from the phone for 11 s"));
}

#[test]
fn two_phones_in_one_call_are_each_others_far_end() {
    let mut rig = Rig::new();
    let to_switch = rig.offer(1, Side::Outside, &audio("192.168.1.7", 40002)).unwrap();
    let to_b = rig.offer(2, Side::Inside, &String::from_utf8_lossy(&to_switch)).unwrap();
    assert_eq!(rig.verdicts()[0].1, "unanswered");
    let from_b = rig.answer(2, Side::Outside, &audio("192.168.1.8", 40004));
    rig.answer(1, Side::Inside, &String::from_utf8_lossy(&from_b));
    assert_ne!(port(&to_b), port(&to_switch));
    for id in [1, 2] {
        rig.calls.answered(rig.now, SessionId(id), "x@lab", "08000FA00001");
    }
    // Their inside ports hear nothing, which is no trouble.
    rig.count(4, 1, talked(200), LegStatistics::default());
    assert_eq!(rig.verdicts()[0].1, "not-enough-data", "the other phone was not counted yet");
    rig.count(0, 2, talked(190), LegStatistics::default());
    assert_eq!(rig.verdicts(), [(1, "healthy".into()), (2, "healthy".into())]);
    let status = rig.calls.status(rig.now);
    let stream = &status.calls[0].streams[0];
    assert_eq!(stream.media, "joined");
    assert_eq!(stream.other.says, Some("192.168.1.8:40004".parse().unwrap()));
    // One hangs up first: for the other one it was the far end all the same.
    rig.hang_up(2);
    rig.later(2);
    rig.count(0, 1, talked(300), LegStatistics::default());
    rig.hang_up(1);
    rig.later(1);
    assert_eq!(rig.calls.status(rig.now).past, []);
    rig.later(10);
    assert!(rig.calls.book().calls.is_empty());
}

#[test]
fn media_that_runs_past_the_relay_is_told_as_such() {
    let rig = Rig::new();
    rig.call(1);
    let mut seen: Vec<Seen> = rig.calls.anchor().streams(1).map(|state| Seen::new(&state)).collect();
    seen[0].be_direct();
    let book = rig.calls.book();
    let stream = book.stream(rig.now + Duration::from_secs(60), &book.calls[&1], &seen[0], &[]);
    assert_eq!((stream.media.as_str(), stream.verdict.as_str(), stream.trouble), ("direct", "direct", false));
}

#[test]
fn a_refused_description_is_remembered() {
    let rig = Rig::new();
    rig.offer(1, Side::Outside, &audio("192.168.1.7", 80)).unwrap_err();
    let status = rig.calls.status(rig.now);
    assert_eq!((status.calls.len(), status.past.len()), (0, 1));
    assert_eq!(status.past[0].verdict, "description-refused");
    assert!(status.past[0].sentence.contains("the phone names port 80"), "{}", status.past[0].sentence);
    assert_eq!(status.past[0].phone_address, Some(ip(PHONE)));
    assert!(rig.calls.book().calls.is_empty());
    for (remote, tag) in [("198.51.100.99", "08000FA00009"), (PHONE, "08000FA00001"), (PHONE, "08000FA00002")]
    {
        rig.calls.book().name_refused(ip(remote), "a84b@lab", Some(tag));
    }
    let past = rig.calls.status(rig.now).past;
    assert_eq!(past[0].phone.as_deref(), Some("08000FA00001"), "of that address, and once");
    assert_eq!(past[0].call_id.as_deref(), Some("a84b@lab"));
}

#[test]
fn a_phones_own_figures_stay_with_its_call() {
    use sip_core::edge::quality::Quality;
    let rig = Rig::new();
    rig.call(1);
    let quality = Quality { mos_listening: Some(420), ..Quality::default() };
    let worse = Quality { mos_listening: Some(100), ..Quality::default() };
    rig.calls.book().reported("a84b4c76e66710@lab", ip("198.51.100.99"), worse);
    rig.calls.book().reported("another@lab", ip(PHONE), worse);
    assert_eq!(rig.calls.status(rig.now).calls[0].reported, None, "another's, or of no call");
    rig.calls.book().reported("a84b4c76e66710@lab", ip(PHONE), quality);
    let reported = rig.calls.status(rig.now).calls[0].reported.unwrap();
    assert_eq!((reported.mos_listening, reported.lost_percent), (Some(4.2), None));
}

#[test]
fn a_call_that_ended_before_it_was_told_leaves_nothing() {
    let mut rig = Rig::new();
    // Answered without an offer of the caller's, and the answer's description refused: over at once.
    rig.offer(1, Side::Outside, "v=0\r\n").unwrap_err();
    rig.hang_up(1);
    rig.calls.answered(rig.now, SessionId(1), "a84b4c76e66710@lab", "08000FA00001");
    rig.later(60);
    assert!(rig.calls.book().calls.is_empty());
    // One that ends right after is named all the same.
    rig.call(2);
    rig.hang_up(2);
    rig.calls.answered(rig.now, SessionId(2), "again@lab", "08000FA00001");
    assert_eq!(rig.calls.book().calls.get(&2).and_then(|call| call.call_id.as_deref()), Some("again@lab"));
    rig.later(2);
    rig.later(60);
    assert!(rig.calls.book().calls.is_empty());
}

#[test]
fn a_stream_whose_ports_are_gone_is_told_until_it_has_others() {
    let mut rig = Rig::new();
    rig.call(1);
    rig.count(5, 1, talked(250), talked(250));
    let stream = StreamId { session: 1, index: 0 };
    let refused = |rig: &Rig| {
        rig.calls.anchor().handle_report(rig.now, Report::Refused { stream });
        rig.calls.lost(stream);
        rig.settle();
    };
    refused(&rig);
    let call = rig.calls.status(rig.now).calls.remove(0);
    let [stream] = &call.streams[..] else { panic!("{call:?}") };
    assert_eq!((stream.verdict.as_str(), stream.media.as_str()), ("ports-taken", "refused"));
    assert_eq!((stream.trouble, stream.line, stream.codecs.as_deref()), (true, Some(0), Some("PCMU/8000")));
    for ours in [stream.phone.ours.unwrap(), stream.other.ours.unwrap()] {
        assert!(stream.sentence.contains(&ours.to_string()), "{}", stream.sentence);
    }
    let mut summary = Summary::default();
    rig.calls.count(rig.now, &mut summary);
    assert_eq!(summary.troubled, 1);
    rig.offer(1, Side::Inside, &audio(SWITCH, 5000)).unwrap();
    rig.answer(1, Side::Outside, &audio("192.168.1.7", 40002));
    assert_eq!(rig.verdicts(), [(1, "not-enough-data".into())]);
    // Who hangs up meanwhile leaves the sentence behind.
    rig.call(2);
    rig.calls.anchor().handle_report(rig.now, Report::Refused { stream: StreamId { session: 2, index: 0 } });
    rig.hang_up(2);
    rig.later(1);
    let past = rig.calls.status(rig.now).past;
    assert_eq!(past.iter().map(|past| past.verdict.as_str()).collect::<Vec<_>>(), ["ports-taken"]);
}

#[test]
fn a_call_of_the_process_before_has_addresses_and_codecs_at_once() {
    let rig = Rig::keeping();
    rig.call(1);
    let mut before = rig.calls.status(rig.now).calls.remove(0);
    let next = rig.taken_over();
    let mut after = next.calls.status(next.now).calls.remove(0);
    // Answered when, and whose, is in the dialog's record.
    assert_eq!((after.call_id.take(), after.phone.take(), after.answered), (None, None, false));
    next.calls.answered(next.now, SessionId(1), "a84b4c76e66710@lab", "08000FA00001");
    let mut after = next.calls.status(next.now).calls.remove(0);
    (before.seconds, after.seconds) = (0, 0);
    assert_eq!(after, before);
    assert_eq!(after.streams[0].codecs.as_deref(), Some("PCMU/8000"));
    assert_eq!(after.streams[0].other.says, Some("10.0.1.51:5000".parse().unwrap()));
    next.calls.forget(1);
    assert!(next.calls.book().calls.is_empty());
}
