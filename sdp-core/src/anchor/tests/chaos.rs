//! No port outlives its session, whoever dies when, and whatever ends twice or before it began (MED-22).

use proptest::prelude::*;

use super::*;
use crate::policy::MediaRoute;

#[derive(Debug, Clone)]
enum Step {
    /// A call between two of our phones: two sessions, so far.
    Call {
        number: u64,
        stops: usize,
    },
    End {
        session: u64,
    },
    Rollback {
        session: u64,
    },
    /// Signalling is killed; whoever comes after wants some of the calls.
    Kill {
        wants: u64,
    },
    /// The relay is killed.
    Relay {
        seed: u8,
    },
    Pass {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u64, 1..=4usize).prop_map(|(number, stops)| Step::Call { number, stops }),
        4 => (0..8u64).prop_map(|session| Step::End { session }),
        1 => (0..8u64).prop_map(|session| Step::Rollback { session }),
        1 => any::<u64>().prop_map(|wants| Step::Kill { wants }),
        1 => any::<u8>().prop_map(|seed| Step::Relay { seed }),
        2 => (1..90u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

fn call(rig: &mut Rig, number: u64, stops: usize) {
    let (one, two) = (2 * number, 2 * number + 1);
    rig.anchor.introduce(one, Some(ip("192.168.1.7")));
    rig.anchor.introduce(two, Some(ip("192.168.1.8")));
    let sdp = audio("192.168.1.7", 30000);
    let Ok(to_pbx) = rig.try_offer(one, Side::Outside, PHONE_A, &sdp) else { return };
    let to = ip(PHONE_A);
    if stops < 2 {
        return;
    }
    let offer = rig.anchor.offer(rig.now, two, Side::Inside, ip(PBX), to, to_pbx.as_bytes());
    rig.settle();
    if stops < 3 || offer.is_err() {
        return;
    }
    let Ok(back) = rig.try_answer(two, Side::Outside, PHONE_A, &audio("192.168.1.8", 40000)) else { return };
    if stops == 4 {
        let _ = rig.try_answer(one, Side::Inside, PBX, &back);
    }
}

fn pass(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds.div_ceil(10) {
        rig.now += Duration::from_secs(10);
        rig.table.handle_timeout(rig.now);
        rig.anchor.handle_timeout(rig.now);
        rig.settle();
    }
}

fn run(rig: &mut Rig, step: Step) {
    match step {
        Step::Call { number, stops } => call(rig, number, stops),
        Step::End { session } => rig.anchor.end(rig.now, session),
        Step::Rollback { session } => {
            rig.anchor.rollback(rig.now, session, Side::Outside);
            rig.anchor.rollback(rig.now, session, Side::Inside);
        }
        Step::Kill { wants } => {
            for (session, _) in rig.new_anchor() {
                if wants >> (session % 8) & 1 == 0 {
                    rig.anchor.end(rig.now, session);
                }
            }
        }
        Step::Relay { seed } => {
            rig.new_relay(seed);
        }
        Step::Pass { seconds } => pass(rig, seconds),
    }
    rig.settle();
}

fn rig() -> Rig {
    Rig::new(|config| {
        config.keep_state = true;
        config.policy.media_route = MediaRoute::DirectBehindSameNat;
    })
}

#[test]
fn what_ends_twice_or_never_began_changes_nothing() {
    let mut rig = rig();
    let sound = |rig: &mut Rig, streams: usize| {
        let left = rig.left();
        assert_eq!((rig.anchor.sessions(), left.sessions().count()), (streams, streams));
    };
    for _ in 0..2 {
        rig.anchor.end(rig.now, 0);
        rig.anchor.rollback(rig.now, 0, Side::Outside);
        assert!(rig.try_answer(0, Side::Inside, PBX, &audio("10.0.1.60", 5000)).is_err());
        sound(&mut rig, 0);
    }
    call(&mut rig, 0, 4);
    call(&mut rig, 1, 4);
    sound(&mut rig, 4);
    for _ in 0..3 {
        rig.anchor.end(rig.now, 0);
        rig.settle();
        sound(&mut rig, 3);
    }
    // The relay too is told twice.
    for _ in 0..2 {
        rig.table.handle_command(rig.now, Command::End { session: 1 });
        rig.table.handle_command(rig.now, Command::Close { stream: StreamId { session: 9, index: 0 } });
    }
    rig.anchor.end(rig.now, 1);
    rig.settle();
    sound(&mut rig, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_port_outlives_its_session(steps in prop::collection::vec(step(), 1..30)) {
        let mut rig = rig();
        for step in steps {
            run(&mut rig, step);
            // What the relay carries is what is known here, and nothing else.
            let mut there: Vec<u64> = rig.left().sessions().collect();
            let mut here: Vec<u64> = rig.anchor.session_ids().collect();
            there.sort_unstable();
            here.sort_unstable();
            prop_assert!(there.iter().all(|session| here.contains(session)), "{:?} beside {:?}", there, here);
        }
        for session in 0..8 {
            rig.anchor.end(rig.now, session);
            rig.anchor.end(rig.now, session);
        }
        rig.settle();
        prop_assert_eq!((rig.anchor.sessions(), rig.anchor.own.len(), rig.left().sessions().count()), (0, 0, 0));
        // A minute later only what is bound ahead is bound.
        pass(&mut rig, 600);
        prop_assert!(rig.table.bound() <= 256 + 64, "{} pairs are bound", rig.table.bound());
        prop_assert_eq!(rig.bound.len(), rig.table.bound(), "no socket without a pair");
    }
}
