//! An estimate of how speech sounds, by the E-model (ITU-T G.107) with all its defaults, so that delay, loss and the codec
//! are what is left (R. G. Cole, J. H. Rosenbluth: Voice over IP Performance Monitoring, ACM SIGCOMM CCR 31(2), 2001).

use super::report::Reception;

/// An estimate on less is no estimate: two seconds of 20 ms packets.
const ENOUGH: u64 = 100;

/// How a codec suffers: equipment impairment and robustness to loss (ITU-T G.113 appendix I), for random loss with
/// concealment.
fn codec(payload_type: Option<u8>) -> (f64, f64) {
    match payload_type {
        // G.723.1 at 6.3 kbit/s, G.729A.
        Some(4) => (15.0, 16.1),
        Some(18) => (11.0, 19.0),
        // G.711, and G.722 and what is dynamic, for which the narrow-band scale has no figure of its own.
        _ => (0.0, 25.1),
    }
}

/// The mean opinion score in hundredths; `None`: too little was heard. `round_trip_us` is that to both ends together.
pub(super) fn mos_hundredths(reception: &Reception, round_trip_us: Option<u32>) -> Option<u16> {
    if reception.expected < ENOUGH {
        return None;
    }
    let (equipment, robustness) = codec(reception.payload_type);
    let loss = 100.0 * reception.lost() as f64 / reception.expected as f64;
    // One way: half the round trip, a packet of 20 ms, and a jitter buffer of twice the jitter.
    let delay = f64::from(round_trip_us.unwrap_or(0)) / 2_000.0
        + 20.0
        + 2.0 * f64::from(reception.jitter_mean_us) / 1_000.0;
    // Cole and Rosenbluth, section 3.1: Id.
    let late = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    // G.107 §3.5 (7-29): Ie-eff, with BurstR = 1.
    let damage = equipment + (95.0 - equipment) * loss / (loss + robustness);
    let r = (93.2 - late - damage).clamp(0.0, 100.0);
    // G.107 annex B (B-4).
    let mos = 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6;
    // Between 1 and 4.5: fits.
    Some((mos.clamp(1.0, 4.5) * 100.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lost: u64, jitter_mean_us: u32, payload_type: u8) -> Reception {
        Reception {
            received: 10_000 - lost,
            expected: 10_000,
            jitter_mean_us,
            payload_type: Some(payload_type),
            ..Reception::default()
        }
    }

    #[test]
    fn the_scale_is_that_of_g_107() {
        // R = 93.2 - 0.48: 4.4; every column makes it worse.
        assert_eq!(mos_hundredths(&heard(0, 0, 0), None), Some(440));
        let cases = [(0, 0, 0), (100, 0, 0), (500, 0, 0), (2_000, 0, 0), (9_999, 0, 0)];
        let scores: Vec<_> =
            cases.map(|(lost, j, pt)| mos_hundredths(&heard(lost, j, pt), None).unwrap()).into();
        assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
        // G.113: G.729A without loss is R = 82 or so, 4.1.
        let g729 = mos_hundredths(&heard(0, 0, 18), None).unwrap();
        assert!((400..=415).contains(&g729), "{g729}");
        // G.114: beyond 177 ms it falls quickly.
        let at = |ms: u32| mos_hundredths(&heard(0, 0, 0), Some(ms * 2_000)).unwrap();
        assert!(at(150) > 420 && at(400) < 380, "{} {}", at(150), at(400));
        assert!(*scores.last().unwrap() < 120);
    }

    #[test]
    fn little_heard_is_no_estimate() {
        let short = Reception { received: 99, expected: 99, ..Reception::default() };
        assert_eq!(mos_hundredths(&short, None), None);
    }
}
