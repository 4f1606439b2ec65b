//! Twice as many calls as the gateway can carry: what was begun is finished (security.md §5).

use std::collections::VecDeque;
use std::time::Duration;

use sip_core::edge::Event;
use sip_core::edge::event::Reason;
use sip_core::machine::Input;

use crate::register::registered;
use crate::script::from_phone;
use crate::world::{End, World, reply, row, rows, unguarded};

/// Messages that wait, as with the driver's inbox.
const INBOX: usize = 512;
/// What the gateway carries, in messages a second.
const CAPACITY: f64 = 700.0;
/// What a request costs that is shed, in messages.
const SHED: f64 = 0.15;

/// Phones and a PBX that send into a bounded queue before a gateway that takes its time.
struct Site {
    world: World,
    phones: Vec<(End, End)>,
    queue: VecDeque<(End, String)>,
    told: bool,
    sheds: bool,
    good: usize,
    refused: usize,
}

impl Site {
    fn new(sheds: bool) -> Self {
        let mut world = World::with(unguarded());
        let phones = (0..8)
            .map(|n| {
                let remote = format!("198.51.100.{n}:40000");
                let (phone, line, _) =
                    registered(&mut world, &format!("08000FD4CC{n:02X}"), &remote, "192.168.1.7");
                (phone, line)
            })
            .collect();
        Self { world, phones, queue: VecDeque::new(), told: false, sheds, good: 0, refused: 0 }
    }

    /// What does not fit is lost, as a datagram is.
    fn push(&mut self, end: End, text: String) {
        if self.queue.len() < INBOX {
            self.queue.push_back((end, text));
        }
    }

    /// Four seconds at so many calls a second; how many were carried through, a second.
    fn run(mut self, rate: usize) -> (f64, usize) {
        let (mut calls, mut budget) = (0, 0.0);
        for ms in 0..4_000 {
            while calls < rate * ms / 1000 {
                let phone = self.phones[calls % self.phones.len()].0;
                let text = from_phone("INVITE", "sips:200@10.0.1.50", &format!("c{calls}"), 1, "", "");
                self.push(phone, text);
                calls += 1;
            }
            budget = f64::min(budget + CAPACITY / 1000.0, 1.0);
            while budget > 0.0
                && let Some((end, text)) = self.queue.pop_front()
            {
                self.weigh();
                self.world.say(end, &text);
                let before = self.refused;
                self.hear();
                budget -= if self.refused > before { SHED } else { 1.0 };
            }
            self.world.wait(Duration::from_millis(1));
            self.world.wire.clear();
        }
        (self.good as f64 / 4.0, self.refused)
    }

    /// The driver's rule.
    fn weigh(&mut self) {
        let mark = if self.told { INBOX / 4 } else { INBOX / 4 * 3 };
        let overloaded = self.queue.len() > mark;
        if self.sheds && overloaded != self.told {
            self.told = overloaded;
            self.world.edge.handle_input(self.world.now, Input::Overload(overloaded));
        }
    }

    /// Phones and PBX do the next step of what they hear.
    fn hear(&mut self) {
        for at in 0..self.phones.len() {
            let (phone, line) = self.phones[at];
            while let Some(text) = self.world.next(line) {
                if text.starts_with("INVITE ") {
                    self.push(line, reply(&text, "200 OK", "p", "Contact: <sips:200@10.0.1.50:5061>"));
                } else if text.starts_with("BYE ") {
                    self.push(line, reply(&text, "200 OK", "p", "X: 1"));
                }
            }
            while let Some(text) = self.world.next(phone) {
                if text.starts_with("SIP/2.0 503") {
                    self.refused += 1;
                } else if text.starts_with("SIP/2.0 200") && row(&text, "CSeq").ends_with("BYE") {
                    self.good += 1;
                } else if text.starts_with("SIP/2.0 200") {
                    let call = row(&text, "Call-ID").to_owned();
                    let target = row(&text, "Contact").trim_matches(['<', '>']).to_owned();
                    let route = rows(&text, "Record-Route")
                        .iter()
                        .map(|r| format!("Route: {r}\n"))
                        .collect::<String>();
                    for (n, method) in [(1, "ACK"), (2, "BYE")] {
                        self.push(phone, from_phone(method, &target, &call, n, "p", &route));
                    }
                }
            }
        }
    }
}

#[test]
fn goodput_at_twice_the_load_is_four_fifths_of_that_at_once() {
    // A call is five messages through the gateway: INVITE, 200, ACK, BYE, 200.
    let once = (CAPACITY / 5.0 * 0.95) as usize;
    let (one, refused) = Site::new(true).run(once);
    assert!(one > once as f64 * 0.9 && refused == 0, "{one} of {once}, {refused} refused");
    let (two, refused) = Site::new(true).run(2 * once);
    assert!(two >= 0.8 * one, "{two} of {one}");
    assert!(refused > 0);
    // Without, what is lost is lost in the middle of calls.
    let (bare, _) = Site::new(false).run(2 * once);
    assert!(bare < 0.8 * one, "the test is too easy: {bare} of {one}");
}

#[test]
fn overload_refuses_what_is_new_and_lets_calls_end() {
    // Each shard has an inbox of its own.
    let mut world = World::sharded(unguarded(), 1);
    let (phone, line, _) = registered(&mut world, "08000FD4CBBF", "198.51.100.7:40000", "192.168.1.7");
    world.say(phone, &from_phone("INVITE", "sips:200@10.0.1.50", "c", 1, "", ""));
    let invite = world.hear_start(line, "INVITE ");
    world.edge.handle_input(world.now, Input::Overload(true));
    world.say(line, &reply(&invite, "200 OK", "p", "Contact: <sips:200@10.0.1.50:5061>"));
    let ok = world.hear_start(phone, "SIP/2.0 200 ");
    let target = row(&ok, "Contact").trim_matches(['<', '>']).to_owned();
    let route = format!("Route: {}", row(&ok, "Record-Route"));
    for n in 0..20 {
        world.say(phone, &from_phone("INVITE", "sips:201@10.0.1.50", &format!("n{n}"), 1, "", ""));
        let refused = world.hear_start(phone, "SIP/2.0 503 ");
        assert!((10..=60).contains(&row(&refused, "Retry-After").parse::<u32>().unwrap()));
    }
    let backlog = |e: &Event| matches!(e, Event::Refused { reason: Reason::Limit("backlog"), .. });
    assert_eq!(world.saw(backlog), 20);
    world.say(phone, &from_phone("ACK", &target, "c", 1, "p", &route));
    world.hear_start(line, "ACK ");
    world.say(phone, &from_phone("BYE", &target, "c", 2, "p", &route));
    world.hear_start(line, "BYE ");
    world.edge.handle_input(world.now, Input::Overload(false));
    world.say(phone, &from_phone("INVITE", "sips:201@10.0.1.50", "late", 1, "", ""));
    world.hear_start(line, "INVITE ");
    assert_eq!(world.saw(|e| matches!(e, Event::Overload { .. })), 2);
}
