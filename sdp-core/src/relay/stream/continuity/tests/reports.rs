//! RTCP both ways.

use std::slice::from_ref;

use proptest::prelude::*;

use super::Bench;
use crate::rtp::rtcp;

fn words(kind: u8, count: u8, words: &[u32]) -> Vec<u8> {
    let [high, low] = u16::try_from(words.len()).unwrap().to_be_bytes();
    let mut part = vec![0x80 | count, kind, high, low];
    words.iter().for_each(|word| part.extend(word.to_be_bytes()));
    part
}

fn padded(mut part: Vec<u8>) -> Vec<u8> {
    part[0] |= 0x20;
    part[3] += 1;
    part.extend([0, 0, 0, 4]);
    part
}

/// SSRC, lost (with the fraction above), extended highest sequence.
fn block(ssrc: u32, losses: u32, highest: u32) -> [u32; 6] {
    [ssrc, losses, highest, 11, 12, 13]
}

/// A stream that began as 7 at 65530 and is 9 from 500 on; the end was sent 65530 to 65535, 0 and 1; then 2 (500), 3, 4.
fn replaced() -> Bench {
    let mut bench = Bench::new();
    for n in 0..8u16 {
        bench.after(20).speak((7, 65_530u16.wrapping_add(n), 160 * u32::from(n)));
    }
    for n in 0..3u16 {
        bench.after(20).speak((9, 500 + n, 1_000_000 + 160 * u32::from(n)));
    }
    bench
}

fn heard(bench: &mut Bench, compound: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = compound.concat();
    assert!(rtcp::Header::parse(&octets, false).is_some(), "a sound compound");
    bench.continuity.hears(&mut octets);
    sound(octets)
}

fn spoken(bench: &Bench, holds: bool, compound: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = compound.concat();
    assert!(rtcp::Header::parse(&octets, false).is_some(), "a sound compound");
    let left = bench.continuity.speaks(&mut octets, holds);
    assert_eq!(left, !octets.is_empty());
    sound(octets)
}

fn sound(octets: Vec<u8>) -> Vec<u8> {
    assert!(octets.is_empty() || rtcp::Header::parse(&octets, false).is_some(), "{octets:?}");
    octets
}

#[test]
fn a_sender_report_tells_of_the_stream() {
    let bench = replaced();
    let report = words(200, 1, &[&[9, 0xaaaa, 0xbbbb, 1_000_320, 3, 480][..], &block(5, 1, 2)].concat());
    // The eleventh packet left 200 ms after the first: 1,600 units.
    let told = words(200, 1, &[&[7, 0xaaaa, 0xbbbb, 1_600, 11, 1_760][..], &block(5, 1, 2)].concat());
    assert_eq!(spoken(&bench, true, from_ref(&report)), told);
    assert_eq!(spoken(&bench, false, from_ref(&report)), told, "from another port, the same");
    assert_eq!(spoken(&bench, true, &[padded(report)]), told, "padding goes");
}

#[test]
fn of_who_does_not_speak_what_it_hears_is_left() {
    let bench = replaced();
    let late = words(200, 1, &[&[7, 1, 2, 3, 4, 5][..], &block(5, 1, 2)].concat());
    let left = words(201, 1, &[&[7][..], &block(5, 1, 2)].concat());
    assert_eq!(spoken(&bench, true, from_ref(&late)), left);
    assert_eq!(spoken(&bench, true, &[words(201, 0, &[12])]), words(201, 0, &[7]), "who only listens");
    // Beside the holder: under its own name, or not at all.
    assert_eq!(spoken(&bench, false, &[late]), b"");
    let other = words(200, 0, &[12, 1, 2, 3, 4, 5]);
    assert_eq!(spoken(&bench, false, from_ref(&other)), other);
}

#[test]
fn names_and_farewells() {
    let bench = replaced();
    let report = words(201, 0, &[9]);
    let name = u32::from_be_bytes([1, 2, b'a', b'b']);
    let names = words(202, 3, &[7, name, 0, 9, name, 0, 12, name, 0]);
    let kept = [words(201, 0, &[7]), words(202, 1, &[7, name, 0])].concat();
    assert_eq!(spoken(&bench, true, &[report.clone(), names]), kept);
    for gone in [
        words(203, 1, &[7]),
        words(203, 2, &[9, 7]),
        words(202, 1, &[7, name, 0]),
        words(204, 0, &[7, name]),
        words(209, 0, &[9]),
    ] {
        assert_eq!(spoken(&bench, true, &[report.clone(), gone.clone()]), words(201, 0, &[7]), "{gone:?}");
    }
    let application = [words(201, 0, &[7]), words(204, 3, &[7, name, 5])].concat();
    assert_eq!(spoken(&bench, true, &[report, words(204, 3, &[9, name, 5])]), application);
    assert_eq!(spoken(&bench, true, &[words(203, 1, &[9])]), b"", "a farewell alone");
}

#[test]
fn a_report_of_the_end_is_about_the_source() {
    let mut bench = replaced();
    // Four lost of the source before, told when its last packet was the highest: it is nothing to the next.
    let before = words(201, 1, &[&[5][..], &block(7, 4, 0x1_0001)].concat());
    assert_eq!(heard(&mut bench, &[before]), words(201, 0, &[5]));
    let report = |losses, highest| words(201, 1, &[&[5][..], &block(7, losses, highest)].concat());
    let about = |losses, highest| words(201, 1, &[&[5][..], &block(9, losses, highest)].concat());
    assert_eq!(heard(&mut bench, &[report(0x4000_0005, 0x1_0003)]), about(0x4000_0001, 501));
    // Who came later has counted no wrap; a number below what was lost before is a negative one.
    assert_eq!(heard(&mut bench, &[report(3, 4)]), about(0xff_ffff, 502));
    assert_eq!(heard(&mut bench, &[report(3, 5)]), words(201, 0, &[5]), "has not left yet");
    // About two, of whom one is beside, and with octets of a profile behind.
    let both = words(200, 2, &[&[5, 1, 2, 3, 4, 5][..], &block(12, 1, 2), &block(7, 4, 4), &[9]].concat());
    let turned = words(200, 2, &[&[5, 1, 2, 3, 4, 5][..], &block(12, 1, 2), &block(9, 0, 502)].concat());
    assert_eq!(heard(&mut bench, &[both]), turned);
}

#[test]
fn the_first_source_is_reported_as_it_is() {
    let mut bench = Bench::new();
    let compound = [
        words(201, 1, &[&[5][..], &block(7, 4, 0x1_0001)].concat()),
        words(205, 1, &[5, 7, 0x0001_0000]),
        words(203, 1, &[5]),
    ];
    assert_eq!(heard(&mut bench, &compound), compound.concat(), "nobody has spoken");
    bench.speak((7, 1, 0));
    assert_eq!(heard(&mut bench, &compound), compound.concat());
    let names = words(202, 1, &[7, 0]);
    let report = words(200, 0, &[7, 1, 2, 3, 1, 160]);
    assert_eq!(spoken(&bench, true, &[report.clone(), names.clone()]), [report, names].concat());
}

#[test]
fn feedback_is_about_the_source() {
    let mut bench = replaced();
    let report = words(201, 0, &[5]);
    for (part, left) in [
        // NACK of 3 and 4, and of one that was another source's.
        (words(205, 1, &[5, 7, 0x0003_0001, 0xffff_0000]), words(205, 1, &[5, 9, 0x01f5_0001])),
        (words(205, 1, &[5, 7, 0xffff_0000]), vec![]),
        (words(205, 1, &[5, 12, 0xffff_0000]), words(205, 1, &[5, 12, 0xffff_0000])),
        (words(206, 1, &[5, 7]), words(206, 1, &[5, 9])),
        (words(206, 4, &[5, 0, 7, 0x0100_0000]), words(206, 4, &[5, 0, 9, 0x0100_0000])),
        (words(205, 3, &[5, 0, 7, 99, 12, 99]), words(205, 3, &[5, 0, 9, 99, 12, 99])),
        // What may have anything in it.
        (words(206, 15, &[5, 0, 0x5245_4d42, 7]), vec![]),
        (words(205, 15, &[5, 7, 1, 2]), vec![]),
        (words(206, 15, &[5, 12, 1]), words(206, 15, &[5, 12, 1])),
        (words(205, 3, &[5, 0, 7]), vec![]),
    ] {
        let compound = [report.clone(), part.clone()];
        assert_eq!(heard(&mut bench, &compound), [report.clone(), left].concat(), "{part:?}");
    }
    let asked = words(206, 1, &[9, 5]);
    assert_eq!(spoken(&bench, true, &[asked]), words(206, 1, &[7, 5]), "and by the source");
}

#[test]
fn extended_reports_are_about_the_source() {
    let mut bench = replaced();
    let (loss, metrics, times, heard_times, other) =
        (0x0100_0003, 0x0700_0002, 0x0400_0002, 0x0500_0006, 0x0e00_0001);
    let part = words(
        207,
        0,
        &[
            &[5, loss, 7, 0x0002_0004, 0x4000_0000][..],
            &[metrics, 7, 1],
            &[times, 1, 2],
            &[heard_times, 7, 1, 2, 12, 1, 2],
            &[other, 7],
            &[loss, 7, 0xffff_0001, 0],
        ]
        .concat(),
    );
    let left = words(
        207,
        0,
        &[
            &[5, loss, 9, 0x01f4_01f6, 0x4000_0000][..],
            &[metrics, 9, 1],
            &[times, 1, 2],
            &[heard_times, 9, 1, 2, 12, 1, 2],
        ]
        .concat(),
    );
    assert_eq!(heard(&mut bench, &[part]), left);
    assert_eq!(heard(&mut bench, &[words(207, 0, &[5, other, 7])]), b"", "nothing is left of it");
    assert_eq!(spoken(&bench, true, &[words(207, 0, &[9, times, 1, 2])]), words(207, 0, &[7, times, 1, 2]));
}

fn junk() -> impl Strategy<Value = Vec<u8>> {
    let part = (
        any::<u8>(),
        200..210u8,
        prop::collection::vec(prop_oneof![Just(7u32), Just(9), any::<u32>()], 0..40),
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(part, 1..5).prop_map(|parts| {
            parts.iter().flat_map(|(count, kind, body)| words(*kind, count & 0x3f, body)).collect()
        }),
    ]
}

proptest! {
    /// Whatever comes: no panic, nothing grows, what was sound is sound, and nobody but the stream itself is named by its name.
    #[test]
    fn junk_is_turned_or_dropped(junk in junk(), holds: bool) {
        let mut bench = replaced();
        let was = rtcp::Header::parse(&junk, false);
        let mut turned = junk.clone();
        bench.continuity.hears(&mut turned);
        prop_assert!(turned.len() <= junk.len());
        prop_assert!(was.is_none() || turned.is_empty() || rtcp::Header::parse(&turned, false).is_some());
        let mut turned = junk.clone();
        bench.continuity.speaks(&mut turned, holds);
        prop_assert!(turned.len() <= junk.len());
        if was.is_some() && !turned.is_empty() {
            let header = rtcp::Header::parse(&turned, false);
            prop_assert!(header.is_some());
            prop_assert!(!holds || header.is_some_and(|header| header.kind == 202 || header.ssrc == 7));
        }
    }
}
