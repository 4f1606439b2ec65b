//! Any order of offers, answers, refusals, ends and reloads: both phones of a pair are told alike, and only their own
//! addresses, and only at home.

use proptest::prelude::*;

use super::*;
use crate::anchor::session::Named;

const PHONES: [Phone; 5] =
    [A, B, Phone { host: "192.168.1.10", media: "192.168.1.10", port: 33000, ..A }, C, {
        Phone { host: "192.168.2.7", media: "192.168.2.7", port: 34000, ..A }
    }];

#[derive(Debug, Clone)]
enum Step {
    /// The phone of a call offers.
    Phone {
        call: usize,
        hold: bool,
    },
    /// The PBX offers to it, or answers it: with the port of another call, with that of nobody, or with its own.
    Pbx {
        call: usize,
        names: Names,
        offer: bool,
    },
    /// The phone answers.
    Answer {
        call: usize,
        refuse: bool,
    },
    Rollback {
        call: usize,
    },
    End {
        call: usize,
    },
    Reload {
        direct: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Names {
    Call(usize),
    Near(usize),
    Pbx,
}

fn step() -> impl Strategy<Value = Step> {
    let call = || 0..PHONES.len();
    let names = prop_oneof![
        6 => call().prop_map(Names::Call),
        1 => call().prop_map(Names::Near),
        1 => Just(Names::Pbx),
    ];
    prop_oneof![
        4 => (call(), prop::bool::weighted(0.2)).prop_map(|(call, hold)| Step::Phone { call, hold }),
        8 => (call(), names, any::<bool>()).prop_map(|(call, names, offer)| Step::Pbx { call, names, offer }),
        4 => (call(), prop::bool::weighted(0.1)).prop_map(|(call, refuse)| Step::Answer { call, refuse }),
        1 => call().prop_map(|call| Step::Rollback { call }),
        1 => call().prop_map(|call| Step::End { call }),
        1 => any::<bool>().prop_map(|direct| Step::Reload { direct }),
    ]
}

/// One calls two, or asks it anew, through a PBX that passes things on; it may get stuck on the way.
fn call() -> impl Strategy<Value = Vec<Step>> {
    (0..PHONES.len(), 0..PHONES.len(), 1..=4usize, prop::bool::weighted(0.2)).prop_map(
        |(one, two, length, hold)| {
            let mut steps = vec![
                Step::Phone { call: one, hold },
                Step::Pbx { call: two, names: Names::Call(one), offer: true },
                Step::Answer { call: two, refuse: false },
                Step::Pbx { call: one, names: Names::Call(two), offer: false },
            ];
            steps.truncate(length);
            steps
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let part = prop_oneof![3 => call(), 2 => step().prop_map(|step| vec![step])];
    prop::collection::vec(part, 1..24).prop_map(|parts| parts.concat())
}

struct Calls {
    rig: Rig,
    /// The session of each phone's call; another one after its end.
    sessions: [u64; PHONES.len()],
    next: u64,
    direct: usize,
}

impl Calls {
    fn new() -> Self {
        let sessions = std::array::from_fn(|at| at as u64 + 1);
        Self { rig: direct_rig(), sessions, next: 100, direct: 0 }
    }

    /// Our inside port of a call, once its phone has said where it receives: before that, the PBX was not told of it.
    fn inside(&self, call: usize) -> Option<SocketAddr> {
        let state = self.rig.anchor.sessions.get(&self.sessions[call])?;
        state.said(0)?;
        Some(at(INNER, state.streams.first()?.inside.rtp.port()))
    }

    fn of_pbx(&self, names: Names) -> String {
        let own = at("10.0.1.60", 5000);
        let at = match names {
            Names::Call(call) => self.inside(call).unwrap_or(own),
            Names::Near(call) => self.inside(call).map_or(own, |at| (at.ip(), at.port() + 2).into()),
            Names::Pbx => own,
        };
        audio(&at.ip().to_string(), at.port())
    }

    fn run(&mut self, step: Step) {
        let rig = &mut self.rig;
        match step {
            Step::Phone { call, hold } => {
                let (session, phone) = (self.sessions[call], PHONES[call]);
                let mut sdp = phone.sdp();
                if hold {
                    sdp = sdp.replace(&format!("c=IN IP4 {}", phone.media), "c=IN IP4 0.0.0.0");
                }
                let out = rig.phone_offers(session, phone, &sdp);
                assert!(out.contains(&format!("c=IN IP4 {INNER}\r\n")), "the PBX learns nothing else");
            }
            Step::Pbx { call, names, offer } => {
                let sdp = self.of_pbx(names);
                let (session, phone) = (self.sessions[call], PHONES[call]);
                let result = if offer {
                    self.rig.anchor.introduce(session, Some(ip(phone.host)));
                    let (now, to) = (self.rig.now, ip(phone.nat));
                    self.rig.anchor.offer(now, session, Side::Inside, ip(PBX), to, sdp.as_bytes())
                } else {
                    let now = self.rig.now;
                    self.rig.anchor.answer(now, session, Side::Inside, ip(PBX), ip(phone.nat), sdp.as_bytes())
                };
                self.rig.settle();
                if let Ok(out) = result {
                    self.check_told(call, names, std::str::from_utf8(&out).unwrap());
                }
            }
            Step::Answer { call, refuse } => {
                let (session, phone) = (self.sessions[call], PHONES[call]);
                let sdp = audio(phone.media, if refuse { 0 } else { phone.port });
                let _ = rig.anchor.answer(
                    rig.now,
                    session,
                    Side::Outside,
                    ip(phone.nat),
                    ip(PBX),
                    sdp.as_bytes(),
                );
            }
            Step::Rollback { call } => {
                for from in [Side::Outside, Side::Inside] {
                    rig.anchor.rollback(rig.now, self.sessions[call], from);
                }
            }
            Step::End { call } => {
                rig.anchor.end(rig.now, self.sessions[call]);
                self.sessions[call] = self.next;
                self.next += 1;
            }
            Step::Reload { direct } => {
                let media_route = if direct { MediaRoute::DirectBehindSameNat } else { MediaRoute::Gateway };
                rig.anchor.reconfigure(Policy { media_route, ..Policy::default() });
            }
        }
        self.rig.settle();
    }

    /// A phone is told our relay, or the very place of the phone that is named, and that only at home.
    fn check_told(&self, call: usize, names: Names, out: &str) {
        if relayed(out) || ports(out) == [0] {
            return;
        }
        let Names::Call(other) = names else { panic!("{out}") };
        let (one, two) = (PHONES[call], PHONES[other]);
        assert_eq!(out, told(two.media, two.port));
        assert!(call != other && one.nat == two.nat && one.host[..10] == two.host[..10], "{one:?} {two:?}");
    }

    /// Whoever name each other were told alike, and the relay knows which they are.
    fn check_pairs(&mut self) {
        let anchor = &self.rig.anchor;
        for (session, state) in &anchor.sessions {
            for stream in &state.streams {
                let id = StreamId { session: *session, index: stream.index };
                let own = Named { stream: id, pair: stream.inside.id };
                let there =
                    |named: Named| anchor.stream(named.stream).filter(|peer| peer.inside.id == named.pair);
                let peer = stream.names.and_then(there).filter(|peer| peer.names == Some(own));
                assert_eq!(stream.setup.direct, peer.is_some() && stream.direct, "{id:?}");
                if let Some(peer) = peer {
                    assert_eq!(stream.direct, peer.direct, "{id:?} and {:?} differ", stream.names);
                    self.direct += usize::from(stream.direct);
                }
            }
        }
    }
}

/// What the cases came to: a property over calls that never get direct would hold of nothing.
#[test]
fn the_cases_are_about_direct_calls() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut direct = 0;
    for _ in 0..32 {
        let steps = steps().new_tree(&mut runner).unwrap();
        let mut calls = Calls::new();
        for step in proptest::strategy::ValueTree::current(&steps) {
            calls.run(step);
            calls.check_pairs();
        }
        direct += usize::from(calls.direct > 0);
    }
    assert!(direct >= 8, "{direct} of 32");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn both_phones_are_told_alike(steps in steps()) {
        let mut calls = Calls::new();
        for step in steps {
            calls.run(step);
            calls.check_pairs();
        }
        for session in 0..calls.next {
            calls.rig.anchor.end(calls.rig.now, session);
        }
        calls.rig.settle();
        prop_assert_eq!((calls.rig.anchor.sessions(), calls.rig.anchor.own.len()), (0, 0));
    }
}
