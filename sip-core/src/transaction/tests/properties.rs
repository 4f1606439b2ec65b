//! Any order of inputs and timers ends every transaction.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Receive { from: usize, method: usize, branch: u8 },
    Respond { which: usize, status: u16 },
    Request { to: usize, method: usize, branch: u8 },
    Answer { from: usize, method: usize, branch: u8, status: u16 },
    Open(u64),
    Close(u64),
    DialFailed,
    Fallback(usize),
}

const METHODS: [(&str, Method<'static>); 5] = [
    ("INVITE", Method::Invite),
    ("ACK", Method::Ack),
    ("CANCEL", Method::Cancel),
    ("OPTIONS", Method::Options),
    ("BYE", Method::Bye),
];

const STATUS: [u16; 6] = [100, 180, 200, 302, 486, 503];

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(&STATUS[..]);
    prop_oneof![
        (0_u64..40_000).prop_map(Step::Wait),
        (0_usize..4, 0_usize..5, 0_u8..4).prop_map(|(from, method, branch)| Step::Receive {
            from,
            method,
            branch
        }),
        (0_usize..8, status.clone()).prop_map(|(which, status)| Step::Respond { which, status }),
        (0_usize..3, 0_usize..5, 0_u8..4).prop_map(|(to, method, branch)| Step::Request {
            to,
            method,
            branch
        }),
        (0_usize..4, 0_usize..5, 0_u8..4, status).prop_map(|(from, method, branch, status)| Step::Answer {
            from,
            method,
            branch,
            status
        }),
        (1_u64..4).prop_map(Step::Open),
        (1_u64..4).prop_map(Step::Close),
        Just(Step::DialFailed),
        (0_usize..8).prop_map(Step::Fallback),
    ]
}

/// The last is a branch by the old rules.
fn branch_text(branch: u8) -> String {
    if branch == 3 { String::new() } else { format!("z9hG4bKp{branch}") }
}

#[derive(Default)]
struct Seen {
    servers: Vec<ServerKey>,
    clients: Vec<ClientKey>,
    ended: Vec<Event>,
}

fn take(world: &mut World, seen: &mut Seen, step: Step) {
    let peers = [pbx_udp(), pbx_tcp(1), phone(2), certified(3, 1)];
    let targets = [udp(), Target::Flow(FlowId(2)), Target::Dial(dial())];
    match step {
        Step::Wait(ms) => world.run_until(world.now + Duration::from_millis(ms)),
        Step::Receive { from, method, branch } => {
            let message = request(METHODS[method].0, &branch_text(branch));
            match world.receive(&peers[from], message) {
                Received::Request { key, .. } | Received::Cancel { key, .. } => seen.servers.push(key),
                _ => {}
            }
        }
        Step::Respond { which, status } => {
            if let Some(key) = seen.servers.iter().rev().nth(which).copied() {
                world.respond(key, status);
            }
        }
        Step::Request { to, method, branch } => {
            let method = METHODS[method].1;
            let key = world.request(targets[to], &branch_text(branch.min(2)), method);
            if method != Method::Ack {
                seen.clients.push(key);
            }
        }
        Step::Answer { from, method, branch, status } => {
            world.receive(&peers[from], response(status, &branch_text(branch.min(2)), METHODS[method].0));
        }
        Step::Open(flow) => world.layer.handle_flow_opened(FlowId(flow), &dial()),
        Step::Close(flow) => world.layer.handle_flow_closed(world.now, FlowId(flow)),
        Step::DialFailed => world.layer.handle_dial_failed(world.now, &dial()),
        Step::Fallback(which) => {
            if let Some(key) = seen.servers.iter().rev().nth(which) {
                world.layer.set_fallback(key, Target::Dial(dial()));
            }
        }
    }
    world.collect();
    world.sent.clear();
    seen.ended.extend(world.events.drain(..).map(|(_, event)| event));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_transaction_ends_and_says_so_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(Config::default());
        let mut seen = Seen::default();
        for step in steps {
            take(&mut world, &mut seen, step);
            prop_assert!(world.layer.len() <= seen.servers.len() + seen.clients.len());
            if let Some(at) = world.layer.poll_timeout() {
                prop_assert!(at <= world.now + Duration::from_secs(15 * 60));
            } else {
                prop_assert!(world.layer.is_empty());
            }
        }
        // Beyond patience and every timer.
        take(&mut world, &mut seen, Step::Wait(16 * 60 * 1000));
        prop_assert!(world.layer.is_empty());
        prop_assert_eq!(world.layer.entries(), 0);
        prop_assert_eq!(world.layer.poll_timeout(), None);
        for key in &seen.servers {
            let ends = seen.ended.iter().filter(|event| **event == Event::ServerEnded(*key)).count();
            prop_assert_eq!(ends, 1);
        }
        for key in &seen.clients {
            let ends = seen.ended.iter().filter(|event| matches!(event,
                Event::ClientEnded(k) | Event::ClientFailed(k) | Event::ClientTimedOut(k) if k == key)).count();
            prop_assert_eq!(ends, 1);
        }
    }
}
