//! Switches that do not answer: whoever asks for one soon after is told at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a switch that was silent is not dialled again.
const MEMORY: Duration = Duration::from_secs(10);

/// Switches that were silent a moment ago. A refused connection is no silence: it costs nobody time.
#[derive(Default)]
pub(crate) struct Silent(Mutex<HashMap<SocketAddr, Instant>>);

impl Silent {
    /// Whether `remote` was silent within the last moments.
    pub(crate) fn holds(&self, remote: SocketAddr) -> bool {
        let silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(&remote).is_some_and(|since| since.elapsed() < MEMORY)
    }

    /// `remote` let a dial run out of time.
    pub(crate) fn note(&self, remote: SocketAddr) {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has been forgotten leaves the table: it holds no more than was dialled within the memory.
        silent.retain(|_, since| since.elapsed() < MEMORY);
        silent.insert(remote, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_remembered_for_a_moment_and_for_one_address() {
        let (silent, remote) = (Silent::default(), "10.0.1.50:5061".parse().unwrap());
        assert!(!silent.holds(remote));
        silent.note(remote);
        assert!(silent.holds(remote) && !silent.holds("10.0.1.51:5061".parse().unwrap()));
        tokio::time::advance(MEMORY).await;
        assert!(!silent.holds(remote));
        silent.note("10.0.1.51:5061".parse().unwrap());
        assert_eq!(silent.0.lock().unwrap().len(), 1, "the first is forgotten");
    }
}
