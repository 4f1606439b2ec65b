//! INVITE client transaction: RFC 3261 §17.1.1 with the Accepted state of RFC 6026 §7.2.

use std::time::Instant;

use super::timer::{Alarm, Clocks, Config};

/// The states of RFC 6026 Figure 4. *Terminated* is the removal from the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Sent, nothing heard.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A 2xx came. Further 2xx (retransmitted, or of other forks) still belong here.
    Accepted,
    /// A 3xx to 6xx came and was acknowledged. Its retransmissions are acknowledged too.
    Completed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    Provisional,
    Success,
    Failure,
    Alarm(Alarm),
    /// The request can't be delivered, or no answer can arrive.
    Unreachable,
    /// The connection it went out on is gone, but the peer could open another for the answer (RFC 3261 §18.2.2).
    Disconnected,
    /// The user has cancelled it.
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Absorb,
    /// Send the request again.
    Send,
    /// Hand the response to the user.
    Pass,
    /// Hand it to the user and acknowledge it.
    PassAndAck,
    /// Acknowledge once more; the user has had it.
    Ack,
    /// The end: nobody answered.
    TimedOut,
    /// The end: it can't be delivered.
    Failed,
    /// The end, in good order.
    Ended,
}

#[derive(Debug)]
pub(super) struct ClientInvite {
    state: State,
    reliable: bool,
    pub(super) clocks: Clocks,
    cancelled: bool,
}

impl ClientInvite {
    /// The request has just been sent.
    pub(super) fn new(now: Instant, reliable: bool, config: &Config) -> Self {
        let mut clocks = Clocks::ending(now + config.timer_b(reliable));
        if !reliable {
            // Timer A. As the gaps double, timer B lets just Config::invite_retransmissions of them pass.
            clocks.repeat(now, config.t1);
        }
        Self { state: State::Calling, reliable, clocks, cancelled: false }
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input, config: &Config) -> Action {
        use Input::{Cancelled, Disconnected, Failure, Provisional, Success, Unreachable};
        use State::{Accepted, Calling, Completed, Proceeding};
        match (self.state, input) {
            // "When timer A fires, the client transaction MUST retransmit the request [..] and MUST reset the timer with
            // a value of 2*T1", and so on without a cap (RFC 3261 §17.1.1.2).
            (Calling, Input::Alarm(Alarm::Again)) => {
                let gap = self.clocks.gap().saturating_mul(2);
                self.clocks.repeat(now, gap);
                Action::Send
            }
            // Timer B; in Proceeding the guard of Config::patience, or 64 T1 after CANCEL (RFC 3261 §9.1).
            (Calling | Proceeding, Input::Alarm(Alarm::End)) => Action::TimedOut,
            // "In the Proceeding state, the client transaction SHOULD NOT retransmit the request any longer"
            // (RFC 3261 §17.1.1.2).
            (Calling, Provisional) => {
                self.state = Proceeding;
                let patience = if self.cancelled { config.lifetime() } else { config.patience };
                self.clocks = Clocks::ending(now + patience);
                Action::Pass
            }
            (Proceeding, Provisional) => {
                if !self.cancelled {
                    self.clocks = Clocks::ending(now + config.patience);
                }
                Action::Pass
            }
            // "Timer M reflects the amount of time that the transaction user will wait for such messages": more 2xx
            // (RFC 6026 §8.4).
            (Calling | Proceeding, Success) => {
                self.state = Accepted;
                self.clocks = Clocks::ending(now + config.lifetime());
                Action::Pass
            }
            (Calling | Proceeding, Failure) => {
                self.state = Completed;
                self.clocks = Clocks::ending(now + config.timer_d(self.reliable));
                Action::PassAndAck
            }
            (Calling | Proceeding, Unreachable) | (Calling, Disconnected) => Action::Failed,
            (Proceeding, Disconnected) => Action::Absorb,
            // "If there is no final response [..] in 64*T1 seconds, the client SHOULD then consider the original
            // transaction cancelled and SHOULD destroy the client transaction" (RFC 3261 §9.1).
            (Calling | Proceeding, Cancelled) => {
                self.cancelled = true;
                self.clocks.end_by(now + config.lifetime());
                Action::Absorb
            }
            // "Any 2xx responses [..] received while in the Accepted state MUST be passed up to the TU. The client
            // transaction MUST NOT generate an ACK to the 2xx response" (RFC 6026 §8.4).
            (Accepted, Success) => Action::Pass,
            // Figure 4 knows no other response here: too late to matter.
            (Accepted, Provisional | Failure) => Action::Absorb,
            // "Any retransmissions of the final response [..] while in the Completed state MUST cause the ACK to be
            // re-passed to the transport layer [..], but [it] MUST NOT be passed up" (RFC 3261 §17.1.1.2).
            (Completed, Failure) => Action::Ack,
            (Completed, Provisional | Success) => Action::Absorb,
            (Accepted | Completed, Input::Alarm(Alarm::End)) => Action::Ended,
            (Accepted | Completed, Unreachable | Disconnected | Cancelled) => Action::Absorb,
            // Only Calling repeats anything.
            (Proceeding | Accepted | Completed, Input::Alarm(Alarm::Again)) => {
                self.clocks.quiet();
                Action::Absorb
            }
        }
    }
}
