//! The codec against values of G.711, the detector against made tones, the port against itself.

use super::*;

fn made(hertz: f64, samples: usize) -> Vec<i16> {
    (0..samples).map(|i| ((i as f64 * hertz / 8000.0 * TAU).sin() * 8000.0) as i16).collect()
}

#[test]
fn codec_keeps_to_g711() {
    // ITU-T G.711 table 2a: the code words of silence and of the largest values.
    assert_eq!((encode(0), encode(32_767), encode(-32_768)), (0xFF, 0x80, 0x00));
    assert_eq!((decode(0xFF), decode(0x80), decode(0x00), decode(0x7F)), (0, 32_124, -32_124, 0));
    for code in 0..=255_u8 {
        // 0x7F is the second zero.
        assert_eq!(encode(decode(code)), if code == 0x7F { 0xFF } else { code });
    }
}

#[test]
fn detector_tells_tones_apart() {
    let heard = |samples: &[i16], hertz| tone(samples, hertz);
    let low = made(440.0, 8000);
    assert!(heard(&low, 440.0) > 0.99 && heard(&low, 880.0) < 0.01);
    let coded: Vec<i16> = low.iter().map(|s| decode(encode(*s))).collect();
    assert!(heard(&coded, 440.0) > 0.99);
    let both: Vec<i16> = low.iter().zip(made(880.0, 8000)).map(|(a, b)| a + b).collect();
    assert!((heard(&both, 440.0) - 0.5).abs() < 0.05);
    assert!(heard(&[], 440.0).abs() < 1e-9 && heard(&[0; 800], 440.0).abs() < 1e-9);
}

#[tokio::test]
async fn two_ports_hear_each_other_with_their_ttl() {
    let (a, b) = (Port::bind([127, 40, 9, 1].into()), Port::bind([127, 40, 9, 2].into()));
    let (a, b) = (a.expect("a"), b.expect("b"));
    let (at_a, at_b) = (a.local(), b.local());
    assert!(at_a.port().is_multiple_of(2));
    let a = a.start(at_b, 440.0, 41).expect("a starts");
    let b = b.start(at_a, 880.0, 128).expect("b starts");
    // Twenty packets take 0.4 s; a busy machine may take longer.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if a.seen().received > 20 && b.seen().received > 20 {
            break;
        }
    }
    let (at_a, at_b) = (a.seen(), b.seen());
    assert!(at_a.received > 20 && at_b.received > 20, "{} {}", at_a.received, at_b.received);
    assert_eq!(at_a.ttls, BTreeSet::from([128]));
    assert_eq!(at_b.ttls, BTreeSet::from([41]));
    assert_eq!(at_b.sources, BTreeSet::from([a.local()]));
    assert!(at_a.tone(880.0) > 0.9 && at_a.tone(440.0) < 0.1);
    assert!(at_b.tone(440.0) > 0.9);
}
