//! What an end is sent, whoever speaks.

mod reports;

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Where a packet leaves.
pub(super) struct Bench {
    pub(super) continuity: Continuity,
    pub(super) now: Instant,
    clocks: Clocks,
}

impl Bench {
    pub(super) fn new() -> Self {
        let clocks = [(96, 48_000), (101, 0), (99, 90_000)].into_iter().collect();
        Self { continuity: Continuity::default(), now: Instant::now(), clocks }
    }

    pub(super) fn after(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    fn from(&mut self, holds: bool, payload_type: u8, of: (u32, u16, u32)) -> Passage {
        let (ssrc, sequence, timestamp) = of;
        let header = Header { marker: false, payload_type, sequence, timestamp, ssrc, length: 12 };
        self.continuity.number(self.now, &header, 160, holds, &self.clocks)
    }

    /// What becomes of a packet (SSRC, sequence, timestamp) of who holds the port; `None`: it does not leave.
    pub(super) fn speak(&mut self, of: (u32, u16, u32)) -> Option<(u32, u16, u32)> {
        self.speak_of(0, of)
    }

    fn speak_of(&mut self, payload_type: u8, of: (u32, u16, u32)) -> Option<(u32, u16, u32)> {
        leaves(of, self.from(true, payload_type, of))
    }

    fn beside(&mut self, of: (u32, u16, u32)) -> Option<(u32, u16, u32)> {
        leaves(of, self.from(false, 0, of))
    }
}

fn leaves(of: (u32, u16, u32), passage: Passage) -> Option<(u32, u16, u32)> {
    match passage {
        Passage::AsIs => Some(of),
        Passage::Under(number) => Some((number.ssrc, number.sequence, number.timestamp)),
        Passage::Taken => None,
    }
}

#[test]
fn the_first_source_leaves_as_it_came() {
    let mut bench = Bench::new();
    for of in [(7, 65_534, u32::MAX - 100), (7, 65_535, 60), (7, 0, 220), (7, 2, 540), (7, 1, 380)] {
        assert_eq!(bench.after(20).from(true, 0, of), Passage::AsIs, "{of:?}");
    }
}

#[test]
fn another_source_goes_on_where_the_first_ended() {
    let mut bench = Bench::new();
    bench.speak((7, 100, 1_000));
    bench.after(20).speak((7, 101, 1_160));
    // 60 ms later: 480 units of 8 kHz.
    assert_eq!(bench.after(60).speak((9, 40_000, 5)), Some((7, 102, 1_640)));
    assert_eq!(bench.after(20).speak((9, 40_001, 165)), Some((7, 103, 1_800)));
    // What is lost stays lost, what is late stays late.
    assert_eq!(bench.after(60).speak((9, 40_004, 645)), Some((7, 106, 2_280)));
    assert_eq!(bench.speak((9, 40_002, 325)), Some((7, 104, 1_960)));
    // And a third, at once: not into the twenty milliseconds that were said before.
    assert_eq!(bench.speak((11, 3, 77)), Some((7, 107, 2_440)));
}

#[test]
fn a_source_that_begins_anew_goes_on() {
    let mut bench = Bench::new();
    bench.speak((7, 1_000, 0));
    assert_eq!(bench.after(20).speak((7, 50_000, 99)), Some((7, 1_001, 160)));
    assert_eq!(bench.after(20).speak((7, 50_001, 259)), Some((7, 1_002, 320)));
    // Backwards as well; and a gap is no new beginning.
    assert_eq!(bench.after(20).speak((7, 20_000, 0)), Some((7, 1_003, 480)));
    assert_eq!(bench.after(20).speak((7, 23_000, 480_000)), Some((7, 4_003, 480_480)));
    assert_eq!(bench.after(20).speak((7, 22_900, 464_000)), Some((7, 3_903, 464_480)));
}

#[test]
fn sequence_and_timestamp_wrap_on_both_sides() {
    let mut bench = Bench::new();
    bench.speak((7, 65_535, u32::MAX));
    assert_eq!(bench.after(20).speak((9, 65_534, u32::MAX - 1)), Some((7, 0, 159)));
    assert_eq!(bench.after(20).speak((9, 65_535, 158)), Some((7, 1, 319)));
    assert_eq!(bench.after(20).speak((9, 0, 318)), Some((7, 2, 479)));
    assert_eq!(bench.speak((9, 65_535, 158)), Some((7, 1, 319)), "once more, and late");
}

#[test]
fn what_is_late_at_a_border_has_no_number_left() {
    let mut bench = Bench::new();
    bench.speak((7, 100, 0));
    bench.after(20).speak((7, 102, 320));
    assert_eq!(bench.after(20).speak((9, 501, 0)), Some((7, 103, 480)));
    assert_eq!(bench.speak((7, 101, 160)), None, "of the one before");
    assert_eq!(bench.speak((9, 500, u32::MAX - 159)), None, "of the next, before its first");
    assert_eq!(bench.speak((9, 502, 160)), Some((7, 104, 640)));
    // Who comes back is not late.
    assert_eq!(bench.after(20).speak((7, 103, 480)), Some((7, 105, 800)));
    assert_eq!(bench.speak((9, 502, 160)), None);
}

#[test]
fn time_goes_on_by_the_clock_of_what_is_said() {
    let mut bench = Bench::new();
    bench.speak_of(0, (7, 1, 0));
    assert_eq!(bench.after(100).speak_of(96, (9, 1, 0)), Some((7, 2, 4_800)), "opus: 48 kHz");
    assert_eq!(bench.after(1_000).speak_of(0, (7, 2, 160)), Some((7, 3, 12_800)), "G.711 again: 8 kHz");
    // Keys have no clock of their own, and one timestamp for as long as they are held.
    assert_eq!(bench.after(20).speak_of(101, (7, 3, 320)), Some((7, 4, 12_960)));
    assert_eq!(bench.after(500).speak_of(101, (7, 4, 320)), Some((7, 5, 12_960)));
    assert_eq!(
        bench.after(500).speak_of(101, (9, 2, 0)),
        Some((7, 6, 20_960)),
        "a second since it was pressed"
    );
}

#[test]
fn pictures_of_one_time_keep_their_step() {
    let mut bench = Bench::new();
    for of in [(7, 1, 0), (7, 2, 0), (7, 3, 3_000), (7, 4, 3_000)] {
        bench.speak_of(99, of);
    }
    assert_eq!(bench.speak_of(99, (9, 1, 7)), Some((7, 5, 6_000)));
}

#[test]
fn who_is_beside_disturbs_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.beside((5, 1, 1)), Some((5, 1, 1)), "nobody has spoken");
    bench.speak((7, 100, 0));
    bench.after(20).speak((9, 500, 0));
    assert_eq!(bench.beside((5, 60_000, 9)), Some((5, 60_000, 9)), "under its own name");
    assert_eq!(bench.beside((7, 101, 160)), None, "that name is taken");
    // The stream itself, from another port on the way there.
    assert_eq!(bench.beside((9, 2_000, 160)), Some((7, 1_601, 320)));
    assert_eq!(bench.beside((9, 50_000, 0)), None, "far from where the stream is");
    assert_eq!(bench.beside((9, 499, 0)), None, "before it began");
    assert_eq!(
        bench.after(20).speak((9, 501, 160)),
        Some((7, 102, 320)),
        "it goes on as if they had not been"
    );
}

/// A packet as sent: milliseconds since the one before, and what it is.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The next after so many that were lost.
    Next { lost: u16 },
    /// One of those sent last, again.
    Again { back: u16 },
    /// Another source, or another beginning.
    Turn { ssrc: u32, sequence: u16, timestamp: u32 },
    /// From beside: anything.
    Beside { ssrc: u32, sequence: u16 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop_oneof![6 => Just(0u16), 1 => 0..2_000u16].prop_map(|lost| Act::Next { lost }),
        1 => (0..100u16).prop_map(|back| Act::Again { back }),
        2 => (0..6u32, any::<u16>(), any::<u32>())
            .prop_map(|(ssrc, sequence, timestamp)| Act::Turn { ssrc, sequence, timestamp }),
        1 => (0..8u32, any::<u16>()).prop_map(|(ssrc, sequence)| Act::Beside { ssrc, sequence }),
    ]
}

proptest! {
    /// One SSRC; a step of one at every turn and else the sender's own steps; time never runs back.
    #[test]
    fn the_end_sees_one_stream(acts in prop::collection::vec((0..200u64, act()), 1..200)) {
        let mut bench = Bench::new();
        let (mut ssrc, mut sequence, mut timestamp) = (3u32, 60_000u16, u32::MAX - 1_000);
        let (_, mut highest, mut latest) = bench.speak((ssrc, sequence, timestamp)).unwrap();
        // Packets of this source so far, those that were lost included.
        let mut run = 1u16;
        for (wait, act) in acts {
            bench.after(wait);
            match act {
                Act::Next { lost } => {
                    sequence = sequence.wrapping_add(1 + lost);
                    timestamp = timestamp.wrapping_add(160 * (1 + u32::from(lost)));
                    run = run.saturating_add(1 + lost);
                    let (name, number, time) = bench.speak((ssrc, sequence, timestamp)).unwrap();
                    prop_assert_eq!((name, number), (3, highest.wrapping_add(1 + lost)));
                    prop_assert_eq!(time, latest.wrapping_add(160 * (1 + u32::from(lost))));
                    (highest, latest) = (number, time);
                }
                Act::Again { back } if back < run => {
                    let of = (ssrc, sequence.wrapping_sub(back), timestamp.wrapping_sub(160 * u32::from(back)));
                    let again = (3, highest.wrapping_sub(back), latest.wrapping_sub(160 * u32::from(back)));
                    prop_assert_eq!(bench.speak(of), Some(again));
                }
                Act::Again { .. } => {}
                Act::Turn { ssrc: next, sequence: number, timestamp: time } => {
                    let near = number.wrapping_sub(sequence).wrapping_add(200) < 3_400;
                    if next == ssrc && near {
                        continue;
                    }
                    // Who spoke just before may be late: that is nobody's turn.
                    let Some((name, left, at)) = bench.speak((next, number, time)) else { continue };
                    prop_assert_eq!((name, left), (3, highest.wrapping_add(1)));
                    let passed = at.wrapping_sub(latest);
                    prop_assert!((1..=8 * 200 * 200).contains(&passed), "{} units", passed);
                    (ssrc, sequence, timestamp, run) = (next, number, time, 1);
                    (highest, latest) = (left, at);
                }
                Act::Beside { ssrc: other, sequence: number } => {
                    if let Some((name, left, _)) = bench.beside((other, number, 0)) {
                        let own = name == other && left == number && other != 3;
                        prop_assert!(own || other == ssrc, "{name} {left} of {other} {number}");
                    }
                }
            }
        }
    }
}
