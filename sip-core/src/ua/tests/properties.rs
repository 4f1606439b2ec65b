//! Whatever happens in whatever order, every dialog and every transaction ends, and says so once.

use std::collections::HashMap;

use proptest::prelude::*;

use super::world::World;
use crate::ua::{Answer, Command, DialogKey, Event, Label};

#[derive(Clone, Debug)]
enum Step {
    Call(usize, bool),
    Cancel(usize, usize),
    /// Answers the n-th request that waits.
    Answer(usize, usize, u16, bool),
    Bye(usize, usize),
    Within(usize, usize, usize),
    Acknowledge(usize, usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![100, 180, 183, 200, 200, 200, 302, 407, 486, 488, 603]);
    prop_oneof![
        3 => (0..2usize, any::<bool>()).prop_map(|(who, body)| Step::Call(who, body)),
        2 => (0..2usize, 0..8usize).prop_map(|(who, n)| Step::Cancel(who, n)),
        8 => (0..2usize, 0..8usize, status, any::<bool>()).prop_map(|(who, n, s, r)| Step::Answer(who, n, s, r)),
        3 => (0..2usize, 0..8usize).prop_map(|(who, n)| Step::Bye(who, n)),
        4 => (0..2usize, 0..8usize, 0..4usize).prop_map(|(who, n, m)| Step::Within(who, n, m)),
        2 => (0..2usize, 0..8usize).prop_map(|(who, n)| Step::Acknowledge(who, n)),
        6 => (1..2_000u16).prop_map(Step::Wait),
        1 => (2_000..40_000u16).prop_map(Step::Wait),
    ]
}

/// Dialogs that were named by an agent, in order.
fn dialogs(world: &World, who: usize) -> Vec<DialogKey> {
    let mut all = Vec::new();
    for (_, event) in world.history.iter().filter(|(by, _)| *by == who) {
        let named = match event {
            Event::Invite { dialog, .. } => Some(*dialog),
            Event::Response { dialog, .. } => *dialog,
            _ => None,
        };
        all.extend(named.filter(|dialog| !all.contains(dialog)));
    }
    all
}

fn take(world: &mut World, step: &Step, labels: &mut [Vec<u64>; 2]) {
    match *step {
        Step::Call(who, body) => {
            let label = labels[who].len() as u64 + 1;
            labels[who].push(label);
            let mut request = world.draft(who, "INVITE");
            if body {
                request = request.body("application/sdp", "offer");
            }
            world.order(who, Command::Request { label: Label(label), request: Box::new(request) });
        }
        Step::Cancel(who, n) => {
            if let Some(label) = labels[who].iter().rev().nth(n).copied() {
                world.order(who, Command::Cancel { label: Label(label) });
            }
        }
        Step::Answer(who, n, status, more) => {
            let asked = world.history.iter().rev().filter(|(by, _)| *by == who);
            let keys = asked.filter_map(|(_, event)| match event {
                Event::Invite { key, .. } | Event::Request { key, .. } => Some(*key),
                _ => None,
            });
            if let Some(key) = keys.clone().nth(n) {
                let mut answer = Answer::new(status, "Whatever");
                if more {
                    answer = answer.reliable().body("application/sdp", "text");
                }
                world.answer(who, key, answer);
            }
        }
        Step::Bye(who, n) => {
            if let Some(dialog) = dialogs(world, who).into_iter().rev().nth(n) {
                world.bye(who, dialog);
            }
        }
        Step::Within(who, n, method) => {
            if let Some(dialog) = dialogs(world, who).into_iter().rev().nth(n) {
                let label = 1000 + labels[who].len() as u64;
                labels[who].push(label);
                world.within(who, label, dialog, ["INVITE", "UPDATE", "INFO", "REFER"][method], true);
            }
        }
        Step::Acknowledge(who, n) => {
            if let Some(dialog) = dialogs(world, who).into_iter().rev().nth(n) {
                let body = ("application/sdp".to_owned(), "answer".into());
                world.order(who, Command::Acknowledge { dialog, body });
            }
        }
        Step::Wait(ms) => world.seconds(f64::from(ms) / 1000.0),
    }
}

/// Hangs up everywhere and lets all clocks run out, twice: a callee that never answered does so by 15 minutes of patience.
fn wind_up(world: &mut World) {
    for _ in 0..3 {
        for who in 0..2 {
            for dialog in dialogs(world, who) {
                world.bye(who, dialog);
            }
        }
        world.seconds(2_000.0);
    }
}

fn check(world: &World, labels: &[Vec<u64>; 2]) {
    for (who, agent) in world.agents.iter().enumerate() {
        assert!(agent.is_idle(), "agent {who} is left with {agent:?}");
        let mut ended: HashMap<DialogKey, u32> = HashMap::new();
        let mut finals: HashMap<u64, u32> = HashMap::new();
        for (_, event) in world.history.iter().filter(|(by, _)| *by == who) {
            match event {
                Event::Ended { dialog, .. } => *ended.entry(*dialog).or_default() += 1,
                Event::Response { label, message, .. } if message.status() >= Some(200) => {
                    *finals.entry(label.0).or_default() += 1;
                }
                Event::Unanswered { label, .. } => *finals.entry(label.0).or_default() += 1,
                _ => {}
            }
        }
        for dialog in dialogs(world, who) {
            assert_eq!(ended.get(&dialog), Some(&1), "{dialog:?} of agent {who}");
        }
        assert!(ended.values().all(|n| *n == 1));
        for label in &labels[who] {
            assert_eq!(finals.get(label), Some(&1), "label {label} of agent {who}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_dialog_and_transaction_ends_and_says_so_once(
        steps in prop::collection::vec(step(), 1..40),
        seed in any::<u8>(),
        loss in 0..40u64,
    ) {
        let mut world = World::with(seed);
        let mut state = u64::from(seed) + 1;
        world.lose = Box::new(move |_, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 100 < loss
        });
        let mut labels = [Vec::new(), Vec::new()];
        for step in &steps {
            take(&mut world, step, &mut labels);
        }
        wind_up(&mut world);
        check(&world, &labels);
    }
}
