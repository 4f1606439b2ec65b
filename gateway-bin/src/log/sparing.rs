//! A peer that provokes a line with each message must not fill the disk: each kind of line has an allowance.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind at once: a thousand phones that come back are seen.
const BURST: u32 = 1000;
/// How often a kind that has used up its allowance may write one more.
const REFILL: Duration = Duration::from_millis(50);
/// How often it is said that lines were left out.
const NOTICE: Duration = Duration::from_secs(10);

/// Leaves out what is beyond the allowance; errors always pass.
#[derive(Debug, Default)]
pub(super) struct Sparing {
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

/// The lines that one place in the program writes.
#[derive(Debug)]
struct Kind {
    left: u32,
    filled: Instant,
    left_out: u64,
    noticed: Instant,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    passes: bool,
    /// So many were left out since this was last said.
    notice: Option<u64>,
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now, left_out: 0, noticed: now }
    }

    fn judge(&mut self, now: Instant) -> Verdict {
        let refills = now.saturating_duration_since(self.filled).as_millis() / REFILL.as_millis();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(BURST);
            self.filled = now;
        }
        let passes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.left_out += u64::from(!passes);
        let due = self.left_out > 0 && now.saturating_duration_since(self.noticed) >= NOTICE;
        let notice = due.then(|| std::mem::take(&mut self.left_out));
        if due {
            self.noticed = now;
        }
        Verdict { passes, notice }
    }
}

impl<S: Subscriber> Layer<S> for Sparing {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let kind = event.metadata();
        if *kind.level() == Level::ERROR || kind.target() == module_path!() {
            return true;
        }
        let now = Instant::now();
        let verdict = {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.entry(kind.callsite()).or_insert_with(|| Kind::new(now)).judge(now)
        };
        if let Some(lines) = verdict.notice {
            warn!(lines, kind = kind.name(), "too many lines of a kind: these were left out");
        }
        verdict.passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_a_flood_does_not() {
        let start = Instant::now();
        let mut kind = Kind::new(start);
        let passed = |kind: &mut Kind, at: Duration, lines: u32| {
            (0..lines).filter(|_| kind.judge(start + at).passes).count()
        };
        assert_eq!(passed(&mut kind, Duration::ZERO, 5000), 1000);
        assert_eq!(passed(&mut kind, Duration::from_secs(1), 5000), 20);
        // The first line after ten seconds tells of those that were left out.
        let verdict = kind.judge(start + Duration::from_secs(10));
        assert_eq!(verdict, Verdict { passes: true, notice: Some(4000 + 4980) });
        assert_eq!(kind.judge(start + Duration::from_secs(11)), Verdict { passes: true, notice: None });
        // A quiet time gives the whole allowance back, and no more.
        assert_eq!(passed(&mut kind, Duration::from_secs(3600), 5000), 1000);
    }

    #[test]
    fn kinds_are_counted_apart_and_errors_pass() {
        use std::io;
        use std::sync::Arc;
        use tracing_subscriber::layer::SubscriberExt;

        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber.with(Sparing::default()), || {
            for _ in 0..1500 {
                tracing::info!("flood");
                tracing::error!("fault");
            }
            tracing::info!("other");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |word: &str| text.matches(word).count();
        assert!((1000..1100).contains(&count("flood")), "{}", count("flood"));
        assert_eq!((count("fault"), count("other")), (1500, 1));
    }
}
