use std::time::Duration;

use super::*;

/// A stream of 20 ms packets of PCMU; each entry is a sequence number and how late it comes, in microseconds.
fn measured(packets: impl IntoIterator<Item = (u16, u64)>) -> Reception {
    let mut meter = Meter::default();
    let start = Instant::now();
    let clocks = Clocks::default();
    for (sequence, late) in packets {
        let sent = Duration::from_millis(20) * sequence.into();
        let header = header(1, sequence, u32::from(sequence) * 160, 0);
        meter.record(start + sent + Duration::from_micros(late), &header, &clocks);
    }
    meter.reception()
}

fn header(ssrc: u32, sequence: u16, timestamp: u32, payload_type: u8) -> Header {
    Header { marker: false, payload_type, sequence, timestamp, ssrc, length: 12 }
}

#[test]
fn loss_by_sequence_numbers() {
    let without = |missing: &'static [u16]| (0..1_000).filter(|n| !missing.contains(n)).map(|n| (n, 0));
    for (missing, lost) in [(&[][..], 0), (&[5], 1), (&[5, 6, 7, 900], 4), (&[0], 0)] {
        let found = measured(without(missing));
        assert_eq!((found.lost(), found.received), (lost, 1_000 - missing.len() as u64), "{missing:?}");
    }
    // Late ones fill their gap; one that came twice hides a loss, as RFC 3550 §A.3 has it.
    let disorder = [(0, 0), (2, 0), (1, 20_000), (3, 0), (4, 0)];
    assert_eq!((measured(disorder).lost(), measured(disorder).received), (0, 5));
    let twice = [(0, 0), (1, 0), (1, 0), (3, 0)];
    assert_eq!((measured(twice).lost(), measured(twice).received, measured(twice).expected), (0, 4, 4));
}

#[test]
fn a_sequence_that_wraps_and_one_that_restarts() {
    let mut meter = Meter::default();
    let now = Instant::now();
    for n in 65_000..67_000u32 {
        meter.record(now, &header(1, n as u16, n * 160, 0), &Clocks::default());
    }
    assert_eq!((meter.reception().expected, meter.reception().lost()), (2_000, 0));
    // Elsewhere: the first counts for nothing, the second says that it goes on from there.
    for n in 30_000..30_100u32 {
        meter.record(now, &header(1, n as u16, n * 160, 0), &Clocks::default());
    }
    assert_eq!((meter.reception().expected, meter.reception().lost()), (2_099, 0));
}

/// RFC 3550 §A.8 by hand: J += (|D| - J) / 16.
#[test]
fn jitter_is_that_of_rfc_3550() {
    let late = |n: u16| if n.is_multiple_of(2) { 0 } else { 4_000 };
    let found = measured((0..2_000).map(|n| (n, late(n))));
    // Every packet comes 4 ms nearer to or further from the one before: J goes to 4 ms.
    assert!((3_990..=4_000).contains(&found.jitter_us), "{}", found.jitter_us);
    assert!(found.jitter_max_us <= 4_000 && found.jitter_mean_us < found.jitter_us);
    let mut by_hand = 0.0f64;
    for _ in 1..10 {
        by_hand += (4_000.0 - by_hand) / 16.0;
    }
    let found = measured((0..10).map(|n| (n, late(n))));
    assert!((f64::from(found.jitter_us) - by_hand).abs() < 1.5, "{} {by_hand}", found.jitter_us);
    assert_eq!(measured((0..100).map(|n| (n, 0))).jitter_us, 0);
}

#[test]
fn an_unknown_clock_gives_no_jitter_and_keys_do_not_disturb_it() {
    let mut meter = Meter::default();
    let start = Instant::now();
    let clocks: Clocks = [(101, 0)].into_iter().collect();
    for n in 0..100u16 {
        let now = start + Duration::from_millis(20) * n.into();
        // A key from 40 to 49: its timestamp stands still (RFC 4733 §2.3.5).
        let key = (40..50).contains(&n);
        let (kind, timestamp) = if key { (101, 40 * 160) } else { (0, u32::from(n) * 160) };
        meter.record(now, &header(1, n, timestamp, kind), &clocks);
    }
    let found = meter.reception();
    assert_eq!((found.jitter_max_us, found.lost(), found.received), (0, 0, 100));
    let mut dynamic = Meter::default();
    for n in 0..10 {
        dynamic.record(
            start + Duration::from_millis(7 * u64::from(n)),
            &header(1, n, 0, 96),
            &Clocks::default(),
        );
    }
    assert_eq!(dynamic.reception().jitter_us, 0);
}

#[test]
fn sources_are_measured_apart_and_remembered_in_few_places() {
    let mut meter = Meter::default();
    let start = Instant::now();
    for n in 0..1_000u16 {
        let now = start + Duration::from_millis(10) * n.into();
        let (ssrc, sequence) = if n.is_multiple_of(2) { (7, n / 2) } else { (8, 40_000 + n / 2) };
        meter.record(now, &header(ssrc, sequence, u32::from(n / 2) * 160, 0), &Clocks::default());
    }
    let found = meter.reception();
    assert_eq!((found.received, found.expected, found.ssrc_count), (1_000, 1_000, 2));
    assert_eq!(found.ssrcs, [Some(7), Some(8), None, None]);
    for ssrc in 100..10_000 {
        meter.record(start, &header(ssrc, 1, 1, 0), &Clocks::default());
    }
    let found = meter.reception();
    assert_eq!((found.received, found.expected, found.ssrc_count), (10_900, 10_900, 9_902));
    assert_eq!(found.ssrcs, [Some(7), Some(8), Some(100), Some(101)]);
}

/// Whatever the numbers and times are, nothing overflows or panics.
#[test]
fn hostile_numbers_do_no_harm() {
    let mut meter = Meter::default();
    let start = Instant::now();
    let mut state = 1u64;
    for _ in 0..50_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (ssrc, sequence, timestamp) = ((state >> 60) as u32, (state >> 20) as u16, (state >> 16) as u32);
        let clocks: Clocks = [(0, 1), (1, u32::MAX)].into_iter().collect();
        let now = start + Duration::from_micros(state >> 24);
        meter.record(now, &header(ssrc, sequence, timestamp, (state >> 40) as u8 & 1), &clocks);
    }
    assert!(meter.reception().received <= 50_000);
}
