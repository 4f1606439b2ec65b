//! Everything at once: offers and answers of any shape from both sides, forks, rollbacks, silence, and the loss of either
//! process. After each step the relay has the streams that the anchor thinks it has, as it was told.

use proptest::prelude::*;

use super::*;
use crate::policy::{MediaRoute, Timeouts};

#[derive(Debug, Clone)]
enum Step {
    Offer {
        session: u64,
        from: bool,
        lines: Vec<Shape>,
        host: u8,
    },
    Answer {
        session: u64,
        from: bool,
        lines: Vec<Shape>,
        host: u8,
        fork: Option<u64>,
    },
    /// The inside says what the other session of the pair was told: two phones meet.
    Echo {
        session: u64,
        offer: bool,
    },
    Confirm {
        session: u64,
        fork: u64,
    },
    Rollback {
        session: u64,
        from: bool,
    },
    End {
        session: u64,
    },
    Pass {
        seconds: u64,
    },
    Kill,
    Relay {
        seed: u8,
    },
    /// The connection alone was lost, and some of what was said last with it.
    Link {
        lost: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Audio(u8),
    Secure(u8),
    Fax,
    Declined,
    Message,
    Hold,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shape = prop_oneof![
        6 => (0..3u8).prop_map(Shape::Audio),
        2 => (0..3u8).prop_map(Shape::Secure),
        1 => Just(Shape::Fax),
        1 => Just(Shape::Declined),
        1 => Just(Shape::Message),
        1 => Just(Shape::Hold),
    ];
    let lines = || prop::collection::vec(shape.clone(), 1..4);
    let session = || 0..4u64;
    let step = prop_oneof![
        6 => (session(), any::<bool>(), lines(), 0..4u8)
            .prop_map(|(session, from, lines, host)| Step::Offer { session, from, lines, host }),
        8 => (session(), any::<bool>(), lines(), 0..4u8, prop::option::of(0..3u64))
            .prop_map(|(session, from, lines, host, fork)| Step::Answer { session, from, lines, host, fork }),
        5 => (session(), any::<bool>()).prop_map(|(session, offer)| Step::Echo { session, offer }),
        1 => (session(), 0..3u64).prop_map(|(session, fork)| Step::Confirm { session, fork }),
        2 => (session(), any::<bool>()).prop_map(|(session, from)| Step::Rollback { session, from }),
        1 => session().prop_map(|session| Step::End { session }),
        2 => (1..40u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Kill),
        1 => any::<u8>().prop_map(|seed| Step::Relay { seed }),
        1 => (0..4usize).prop_map(|lost| Step::Link { lost }),
    ];
    prop::collection::vec(step, 1..40)
}

fn side(outside: bool) -> Side {
    if outside { Side::Outside } else { Side::Inside }
}

/// Host 3 speaks IPv6 outside.
fn host(side: Side, number: u8) -> String {
    match (side, number) {
        (Side::Outside, 3) => "2001:db8::77".into(),
        (Side::Outside, _) => format!("192.168.1.{}", 7 + number),
        (Side::Inside, _) => format!("10.0.1.{}", 60 + number),
    }
}

fn described(host: &str, lines: &[Shape]) -> String {
    let v = if host.contains(':') { 6 } else { 4 };
    let mut text = format!("v=0\r\no=- 1 1 IN IP{v} {host}\r\ns=-\r\nc=IN IP{v} {host}\r\nt=0 0\r\n");
    for line in lines {
        text += &match line {
            Shape::Audio(n) => {
                format!("m=audio {} RTP/AVP 0\r\na=ice-ufrag:abcd\r\n", 30_000 + 2 * u16::from(*n))
            }
            Shape::Secure(n) => format!("m=audio {} RTP/SAVP 0\r\n", 30_000 + 2 * u16::from(*n)),
            Shape::Fax => "m=image 31000 udptl t38\r\n".to_owned(),
            Shape::Declined => "m=audio 0 RTP/AVP 0\r\n".to_owned(),
            Shape::Message => "m=message 31002 TCP/MSRP *\r\n".to_owned(),
            Shape::Hold if v == 4 => "m=audio 31004 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n".to_owned(),
            Shape::Hold => "m=audio 31004 RTP/AVP 0\r\nc=IN IP6 ::\r\n".to_owned(),
        };
    }
    text
}

struct Storm {
    rig: Rig,
    /// What each session's inside was told last.
    told: HashMap<u64, String>,
}

impl Storm {
    fn say(&mut self, session: u64, from: Side, sdp: &str, fork: Option<Option<u64>>) {
        let signalling = match (from, sdp.contains("IP6")) {
            (Side::Outside, true) => ip("2001:db8::77"),
            (Side::Outside, false) => ip(PHONE_A),
            (Side::Inside, _) => ip(PBX),
        };
        let to = if from == Side::Outside { ip(PBX) } else { ip(PHONE_A) };
        let (now, anchor) = (self.rig.now, &mut self.rig.anchor);
        anchor.introduce(session, Some(at("192.168.1.7", 0).ip()));
        let written = match fork {
            None => anchor.offer(now, session, from, signalling, to, sdp.as_bytes()),
            Some(fork) => {
                anchor.set_fork(session, fork);
                anchor.answer(now, session, from, signalling, to, sdp.as_bytes())
            }
        };
        if let (Ok(text), Side::Outside) = (written, from) {
            self.told.insert(session, String::from_utf8(text.to_vec()).unwrap());
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Offer { session, from, lines, host: number } => {
                let from = side(from);
                self.say(session, from, &described(&host(from, number), &lines), None);
            }
            Step::Answer { session, from, lines, host: number, fork } => {
                let from = side(from);
                self.say(session, from, &described(&host(from, number), &lines), Some(fork));
            }
            Step::Echo { session, offer } => {
                let Some(told) = self.told.get(&(session ^ 1)).cloned() else { return };
                self.say(session, Side::Inside, &told, (!offer).then_some(None));
            }
            Step::Confirm { session, fork } => self.rig.anchor.confirm_fork(self.rig.now, session, fork),
            Step::Rollback { session, from } => self.rig.anchor.rollback(self.rig.now, session, side(from)),
            Step::End { session } => self.rig.anchor.end(self.rig.now, session),
            Step::Pass { seconds } => {
                for _ in 0..seconds {
                    self.rig.now += Duration::from_secs(1);
                    self.rig.table.handle_timeout(self.rig.now);
                    self.rig.anchor.handle_timeout(self.rig.now);
                    self.rig.settle();
                }
            }
            Step::Kill => drop(self.rig.new_anchor()),
            Step::Relay { seed } => drop(self.rig.new_relay(seed)),
            Step::Link { lost } => {
                self.say(lost as u64, Side::Outside, &described("192.168.1.9", &[Shape::Audio(0)]), None);
                self.rig.anchor.lost(self.rig.now);
                self.rig.table.handle_command(self.rig.now, Command::Release);
                let left = self.rig.left();
                self.rig.anchor.rejoin(self.rig.now, &left);
            }
        }
        self.rig.settle();
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let left = self.rig.left();
        let mut there: Vec<_> =
            left.sessions().flat_map(|id| left.streams_of(id).cloned().collect::<Vec<_>>()).collect();
        let anchor = &self.rig.anchor;
        let mut here: Vec<_> = anchor
            .sessions
            .values()
            .flat_map(|state| state.streams.iter().map(|stream| stream.setup.clone()))
            .collect();
        there.sort_by_key(|setup| setup.id);
        here.sort_by_key(|setup| setup.id);
        prop_assert_eq!(there, here);
        for (id, state) in &anchor.sessions {
            for stream in &state.streams {
                let own = StreamId { session: *id, index: stream.index };
                for side in [Side::Outside, Side::Inside] {
                    prop_assert_eq!(stream.setup.leg(side).pair, stream.pair(side).id);
                }
                let back = stream.joined.map(|peer| anchor.stream(peer).and_then(|peer| peer.joined));
                prop_assert!(back.is_none_or(|back| back == Some(own)), "{:?} is joined one way", own);
                let address = anchor.advertised(&stream.inside).unwrap();
                // Forks share it.
                let owner = anchor.own.get(&address).filter(|owner| owner.session == *id);
                let pair = owner.and_then(|owner| anchor.stream(*owner)).map(|owner| owner.inside.id);
                prop_assert_eq!(pair, Some(stream.inside.id), "{:?}", own);
                prop_assert!(!stream.setup.direct || stream.joined.is_some());
            }
        }
        let streams = anchor.sessions.values().flat_map(|state| &state.streams);
        let pairs: std::collections::BTreeSet<PairId> = streams.map(|stream| stream.inside.id).collect();
        prop_assert_eq!(anchor.own.len(), pairs.len());
        let waiting = anchor.sessions.values().flat_map(|state| &state.offer);
        let waiting: usize = waiting.map(|offer| offer.replacements.len()).sum();
        prop_assert_eq!(
            self.rig.table.kept(),
            waiting,
            "pairs that are kept, and those that somebody waits for"
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_relay_has_what_the_anchor_thinks(steps in steps()) {
        let rig = Rig::new(|config| {
            config.keep_state = true;
            config.seed = Some([3; 32].into());
            config.policy.media_route = MediaRoute::DirectBehindSameNat;
            config.policy.forked = true;
            config.policy.timeouts = Timeouts { rtp: Some(20), teardown: true, ..Timeouts::default() };
        });
        let mut storm = Storm { rig, told: HashMap::new() };
        for step in steps {
            storm.step(step);
            storm.check()?;
        }
        for session in 0..4 {
            storm.rig.anchor.end(storm.rig.now, session);
        }
        storm.rig.settle();
        storm.check()?;
        prop_assert_eq!((storm.rig.anchor.sessions(), storm.rig.anchor.own.len()), (0, 0));
    }
}
