//! When to renew and when to try again: pure functions of the time given.

use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The waits while nothing but the self-signed certificate can be shown: every phone is locked out, and the usual reasons (a DNS entry or
/// a port mapping just being made) go away within minutes. Then hourly, as for a renewal. Five failures within the first hour stay below
/// the limits of public authorities.
const FIRST_WAITS: [Duration; 4] =
    [Duration::from_secs(10), MINUTE, Duration::from_secs(300), Duration::from_secs(1800)];

/// When a certificate is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    percent: u8,
}

/// Not within 10 to 90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the renewal interval is {0} percent; 10 to 90 are possible")]
pub struct BadPercent(pub u8);

impl Default for Policy {
    /// 67 percent of the lifetime.
    fn default() -> Self {
        Self { percent: 67 }
    }
}

impl Policy {
    /// Renewal after `percent` of the lifetime.
    ///
    /// # Errors
    /// [`BadPercent`] outside 10 to 90.
    pub fn new(percent: u8) -> Result<Self, BadPercent> {
        if (10..=90).contains(&percent) { Ok(Self { percent }) } else { Err(BadPercent(percent)) }
    }

    /// The time of renewal for a certificate valid from `from` until `until`.
    pub fn due(&self, from: SystemTime, until: SystemTime) -> SystemTime {
        let life = until.duration_since(from).unwrap_or_default();
        from.checked_add(fraction(life, u32::from(self.percent))).unwrap_or(until)
    }
}

/// How urgent it is that a certificate is renewed; grows with the part of the lifetime that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Below 80 percent.
    None,
    /// 80 percent: renewals have failed for a while.
    Attention,
    /// 90 percent: somebody must act.
    Critical,
    /// Expired.
    Expired,
}

/// The urgency at `now`.
pub fn urgency(from: SystemTime, until: SystemTime, now: SystemTime) -> Urgency {
    let life = until.duration_since(from).unwrap_or_default();
    let after = |percent| from.checked_add(fraction(life, percent)).is_some_and(|limit| now >= limit);
    if now > until {
        Urgency::Expired
    } else if after(90) {
        Urgency::Critical
    } else if after(80) {
        Urgency::Attention
    } else {
        Urgency::None
    }
}

fn fraction(life: Duration, percent: u32) -> Duration {
    (life / 100).saturating_mul(percent)
}

/// Counts failures and says how long to wait. Waits differ by up to ten percent either way, drawn from the seed, so that gateways that
/// failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Retry {
    seed: [u8; 32],
    failures: u32,
}

impl Retry {
    /// No failure yet.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, failures: 0 }
    }

    /// An order succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// An order failed: how long to wait. `left` is what remains of the lifetime of the certificate in use, `None` while only the
    /// self-signed one is there. `asked` is what the authority asked for (Retry-After), at most a day of it is honoured.
    ///
    /// With a certificate in use: 1 h, doubling to 24 h, but never more than a quarter of what is left and never less than 10 minutes.
    /// Without: 10 s, 1 min, 5 min, 30 min, then the same hours.
    pub fn failed(&mut self, left: Option<Duration>, asked: Option<Duration>) -> Duration {
        let count = self.failures;
        self.failures = self.failures.saturating_add(1);
        let hours = |step: u32| HOUR.saturating_mul(1 << step.min(5)).min(DAY);
        let wait = match left {
            Some(left) => hours(count).min((left / 4).max(10 * MINUTE)),
            None => match FIRST_WAITS.get(count as usize) {
                Some(wait) => *wait,
                None => hours(count.saturating_sub(FIRST_WAITS.len() as u32)),
            },
        };
        let wait = self.jitter(wait);
        asked.map_or(wait, |asked| wait.max(asked.min(DAY)))
    }

    fn jitter(&self, wait: Duration) -> Duration {
        let digest =
            Sha256::new().chain_update(self.seed).chain_update(self.failures.to_be_bytes()).finalize();
        let drawn = u32::from(digest.first().copied().unwrap_or_default());
        // 900 to 1100 thousandths
        (wait / 1000).saturating_mul(900 + drawn * 200 / 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(days: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_secs_f64(days * 86400.0)
    }

    #[test]
    fn renewal_is_due_by_percent_of_any_lifetime() {
        for (life, percent, due) in [
            (90.0, 67, 60.3),
            (64.0, 67, 42.88),
            (45.0, 67, 30.15),
            (6.0, 67, 4.02),
            (90.0, 10, 9.0),
            (90.0, 90, 81.0),
        ] {
            let policy = Policy::new(percent).unwrap();
            let distance = policy
                .due(at(0.0), at(life))
                .duration_since(at(due))
                .unwrap_or_else(|error| error.duration());
            assert!(distance < Duration::from_secs(2), "{life} {percent}: off by {distance:?}");
        }
        for bad in [0, 9, 91, 100] {
            assert_eq!(Policy::new(bad), Err(BadPercent(bad)));
        }
        // A certificate that ends before it begins is due at once.
        assert_eq!(Policy::default().due(at(2.0), at(1.0)), at(2.0));
    }

    #[test]
    fn urgency_grows() {
        let cases = [
            (0.0, Urgency::None),
            (71.9, Urgency::None),
            (72.1, Urgency::Attention),
            (81.1, Urgency::Critical),
            (90.1, Urgency::Expired),
        ];
        for (day, expected) in cases {
            assert_eq!(urgency(at(0.0), at(90.0), at(day)), expected, "{day}");
        }
    }

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        let near = |wait: Duration, expected: Duration| {
            assert!(
                wait >= expected.mul_f64(0.899) && wait <= expected.mul_f64(1.101),
                "{wait:?} {expected:?}"
            );
        };
        let mut retry = Retry::new([7; 32]);
        for hours in [1, 2, 4, 8, 16, 24, 24] {
            near(retry.failed(Some(30 * DAY), None), HOUR * hours);
        }
        let mut interim = Retry::new([7; 32]);
        for seconds in [10, 60, 300, 1800, 3600, 7200] {
            near(interim.failed(None, None), Duration::from_secs(seconds));
        }
        let mut short = Retry::new([1; 32]);
        for _ in 0..10 {
            assert!(short.failed(Some(2 * HOUR), None) <= Duration::from_secs(33 * 60));
        }
        near(short.failed(Some(Duration::ZERO), None), 10 * MINUTE);
        assert!(short.failed(Some(DAY), Some(3 * HOUR)) >= 3 * HOUR);
        assert!(short.failed(Some(DAY), Some(90 * DAY)) <= DAY.mul_f64(1.1));
        retry.succeeded();
        near(retry.failed(Some(30 * DAY), None), HOUR);
    }

    #[test]
    fn waits_differ_by_seed() {
        let waits: std::collections::HashSet<_> =
            (0..20u8).map(|seed| Retry::new([seed; 32]).failed(Some(30 * DAY), None)).collect();
        assert!(waits.len() > 10);
    }
}
