//! Non-INVITE server transaction: RFC 3261 §17.2.2.

use std::time::Instant;

use super::timer::{Alarm, Clocks, Config};

/// The states of RFC 3261 Figure 8. *Terminated* is the removal from the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not answered.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// A final response was sent; retransmitted requests get it again.
    Completed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// The request once more.
    Request,
    /// The user answers.
    Provisional,
    /// The user answers.
    Final,
    Alarm(Alarm),
    /// Answers can't be delivered any more.
    Unreachable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Absorb,
    /// Send the user's response: the one given, else the last.
    Send,
    /// The end.
    Ended,
}

#[derive(Debug)]
pub(super) struct Server {
    state: State,
    reliable: bool,
    pub(super) clocks: Clocks,
}

impl Server {
    /// The request has just come.
    pub(super) fn new(now: Instant, reliable: bool, config: &Config) -> Self {
        Self { state: State::Trying, reliable, clocks: Clocks::ending(now + config.patience) }
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input, config: &Config) -> Action {
        use Input::{Final, Provisional, Request, Unreachable};
        use State::{Completed, Proceeding, Trying};
        match (self.state, input) {
            // "Once in the Trying state, any further request retransmissions are discarded" (RFC 3261 §17.2.2).
            (Trying, Request) => Action::Absorb,
            (Trying | Proceeding, Provisional) => {
                self.state = Proceeding;
                Action::Send
            }
            // Timer J: 64 T1 over unreliable transports, zero over reliable ones.
            (Trying | Proceeding, Final) => {
                self.state = Completed;
                self.clocks = Clocks::ending(now + config.timer_j(self.reliable));
                Action::Send
            }
            // "If a retransmission of the request is received while in the Proceeding state, the most recently sent
            // provisional response MUST be passed to the transport layer"; in Completed the final one.
            (Proceeding | Completed, Request) => Action::Send,
            // The user may still have an answer; it will find that nobody is there.
            (Trying | Proceeding, Unreachable) => Action::Absorb,
            // "Any other final responses passed by the TU to the server transaction MUST be discarded while in the
            // Completed state" (RFC 3261 §17.2.2).
            (Completed, Provisional | Final | Unreachable) => Action::Absorb,
            // Config::patience, timer J.
            (Trying | Proceeding | Completed, Input::Alarm(Alarm::End)) => Action::Ended,
            // Nothing repeats here.
            (Trying | Proceeding | Completed, Input::Alarm(Alarm::Again)) => {
                self.clocks.quiet();
                Action::Absorb
            }
        }
    }
}
