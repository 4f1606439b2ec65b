//! Dialogs that have ended a moment ago. What comes late in one, such as a re-INVITE that crossed its BYE, must not make it
//! anew: by its flow token it looks like a call of an earlier process, nobody would end it, and its media had ports for hours.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::DialogKey;

/// Longer than any request of the dialog is sent again (RFC 3261 §17.1.2.2, timer F).
const LATE: Duration = Duration::from_secs(32);
/// Dialogs that are remembered, at most; the oldest is forgotten.
const MOST: usize = 4_096;

/// See above.
#[derive(Clone, Default)]
pub(in crate::edge) struct Gone {
    until: HashMap<DialogKey, Instant>,
    order: VecDeque<DialogKey>,
}

impl Gone {
    /// A dialog has ended.
    pub(in crate::edge) fn note(&mut self, now: Instant, key: DialogKey) {
        while let Some(oldest) = self.order.front() {
            let over = self.until.get(oldest).is_none_or(|until| *until <= now);
            if !over && self.order.len() < MOST {
                break;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.until.remove(&oldest);
            }
        }
        if self.until.insert(key.clone(), now + LATE).is_none() {
            self.order.push_back(key);
        }
    }

    /// Whether it has ended a moment ago.
    pub(in crate::edge) fn contains(&self, now: Instant, key: &DialogKey) -> bool {
        self.until.get(key).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_remembered_for_a_while_and_not_all_of_them() {
        let now = Instant::now();
        let key = |n: usize| DialogKey::new(n.to_string().as_bytes(), b"1", b"2");
        let mut gone = Gone::default();
        gone.note(now, key(0));
        gone.note(now, key(0));
        assert!(gone.contains(now, &key(0)) && !gone.contains(now, &key(1)));
        assert!(!gone.contains(now + LATE, &key(0)));
        gone.note(now + LATE, key(1));
        assert_eq!((gone.until.len(), gone.order.len()), (1, 1));
        for n in 2..MOST + 10 {
            gone.note(now + LATE, key(n));
        }
        assert_eq!((gone.until.len(), gone.order.len()), (MOST, MOST));
        assert!(gone.contains(now + LATE, &key(MOST + 9)) && !gone.contains(now + LATE, &key(1)));
    }
}
