//! Non-INVITE client transaction: RFC 3261 §17.1.2.

use std::time::Instant;

use super::timer::{Alarm, Clocks, Config};

/// The states of RFC 3261 Figure 6. *Terminated* is the removal from the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Sent, nothing heard.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// A final response came; its retransmissions are absorbed.
    Completed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    Provisional,
    Final,
    Alarm(Alarm),
    /// The request can't be delivered, or no answer can arrive.
    Unreachable,
    /// The connection it went out on is gone, but the peer could open another for the answer (RFC 3261 §18.2.2).
    Disconnected,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Absorb,
    /// Send the request again.
    Send,
    /// Hand the response to the user.
    Pass,
    /// The end: nobody answered.
    TimedOut,
    /// The end: it can't be delivered.
    Failed,
    /// The end, in good order.
    Ended,
}

#[derive(Debug)]
pub(super) struct Client {
    state: State,
    reliable: bool,
    pub(super) clocks: Clocks,
    left: u32,
}

impl Client {
    /// The request has just been sent.
    pub(super) fn new(now: Instant, reliable: bool, config: &Config) -> Self {
        let mut clocks = Clocks::ending(now + config.timer_f(reliable));
        let left = if reliable { 0 } else { config.other_retransmissions };
        if left > 0 {
            clocks.repeat(now, config.t1); // timer E
        }
        Self { state: State::Trying, reliable, clocks, left }
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input, config: &Config) -> Action {
        use Input::{Disconnected, Final, Provisional, Unreachable};
        use State::{Completed, Proceeding, Trying};
        match (self.state, input) {
            // Timer E: in Trying "the timer is reset, but this time with a value of MIN(2*T1, T2)", and so on; in
            // Proceeding it "MUST be reset with a value of T2 seconds" (RFC 3261 §17.1.2.2).
            (Trying | Proceeding, Input::Alarm(Alarm::Again)) => {
                self.left = self.left.saturating_sub(1);
                let gap =
                    if self.state == Trying { config.capped_double(self.clocks.gap()) } else { config.t2 };
                if self.left > 0 {
                    self.clocks.repeat(now, gap)
                } else {
                    self.clocks.quiet()
                }
                Action::Send
            }
            // Timer F runs through both states; when it fires, the user is told (RFC 3261 §17.1.2.2).
            (Trying | Proceeding, Input::Alarm(Alarm::End)) => Action::TimedOut,
            (Trying | Proceeding, Provisional) => {
                self.state = Proceeding;
                Action::Pass
            }
            // Timer K: T4 over unreliable transports, zero over reliable ones.
            (Trying | Proceeding, Final) => {
                self.state = Completed;
                self.clocks = Clocks::ending(now + config.timer_t4(self.reliable));
                Action::Pass
            }
            (Trying | Proceeding, Unreachable) | (Trying, Disconnected) => Action::Failed,
            (Proceeding, Disconnected) => Action::Absorb,
            (Completed, Provisional | Final | Unreachable | Disconnected) => Action::Absorb,
            (Completed, Input::Alarm(Alarm::End)) => Action::Ended,
            (Completed, Input::Alarm(Alarm::Again)) => {
                self.clocks.quiet();
                Action::Absorb
            }
        }
    }
}
