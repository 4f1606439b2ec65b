//! The way to the relay: a thread of this process, or the socket of another one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use sdp_core::net::Handle;
use sdp_core::relay::Command;
use sdp_core::relay::wire::ToRelay;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::error;

/// Where commands go.
#[derive(Debug)]
pub(super) enum Link {
    /// To the thread.
    Within(Handle),
    /// To the process that answers now.
    Across(Across),
}

/// The queue towards another process; none while nobody answers.
#[derive(Debug, Default)]
pub(super) struct Across {
    queue: RwLock<Option<mpsc::Sender<ToRelay>>>,
    leaving: AtomicBool,
}

impl Link {
    /// Hands a command over. Never waits: the signalling thread must not.
    pub(super) fn send(&self, command: Command) {
        match self {
            Self::Within(handle) => drop(handle.send(command)),
            Self::Across(across) => across.send(ToRelay::Command(command)),
        }
    }
}

impl Across {
    /// From now on to there; what was queued for another is lost.
    pub(super) fn connect(&self, queue: mpsc::Sender<ToRelay>) {
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = Some(queue);
    }

    /// Nobody answers. What is sent is lost: who connects anew tells everything.
    pub(super) fn disconnect(&self) {
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether nobody takes anything: there is none, or it has ended.
    pub(super) fn is_alone(&self) -> bool {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// From now on the end of the relay is no loss.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the gateway ends.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// A full queue means that the relay hangs: it is given up, and the connection ends with its queue.
    pub(super) fn send(&self, message: ToRelay) {
        let full = {
            let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
            let Some(queue) = queue.as_ref() else { return };
            matches!(queue.try_send(message), Err(TrySendError::Full(_)))
        };
        if full {
            error!("the media process takes nothing any more: it is given up");
            self.disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_takes_nothing_is_given_up_and_nobody_waits() {
        let (queue, mut taken) = mpsc::channel(2);
        let across = Across::default();
        across.send(ToRelay::Ask);
        across.connect(queue);
        (0..4).for_each(|_| across.send(ToRelay::Finish));
        assert_eq!(taken.try_recv(), Ok(ToRelay::Finish));
        assert_eq!(taken.try_recv(), Ok(ToRelay::Finish));
        assert_eq!(
            taken.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected),
            "the connection ends with it"
        );
    }
}
