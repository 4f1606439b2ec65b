//! INVITE server transaction: RFC 3261 §17.2.1 with the Accepted state of RFC 6026 §7.1.

use std::time::Instant;

use super::timer::{Alarm, Clocks, Config};

/// The states of RFC 6026 Figure 5. *Terminated* is the removal from the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not answered finally.
    Proceeding,
    /// A 2xx was sent. Further INVITEs are retransmissions; the user sends each 2xx itself.
    Accepted,
    /// A 3xx to 6xx was sent and waits for its ACK.
    Completed,
    /// The ACK came; more of them are absorbed.
    Confirmed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// The request once more.
    Request,
    Ack,
    /// The user answers.
    Provisional,
    /// The user answers.
    Success,
    /// The user answers.
    Failure,
    /// The user answers, and wants no more of it.
    Refusal,
    Alarm(Alarm),
    /// Answers can't be delivered any more.
    Unreachable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Absorb,
    /// Send 100.
    Trying,
    /// Send the user's response: the one given, else the last.
    Send,
    /// Hand the ACK to the user.
    PassAck,
    /// The end.
    Ended,
}

#[derive(Debug)]
pub(super) struct ServerInvite {
    state: State,
    reliable: bool,
    pub(super) clocks: Clocks,
}

impl ServerInvite {
    /// The request has just come.
    pub(super) fn new(now: Instant, reliable: bool, config: &Config) -> Self {
        // "The server transaction MUST generate a 100 (Trying) response unless it knows that the TU will generate a
        // provisional or final response within 200 ms" (RFC 3261 §17.2.1).
        let clocks = Clocks::ending(now + config.patience).repeating(now, config.trying_after);
        Self { state: State::Proceeding, reliable, clocks }
    }

    /// Whether a failure was sent that nobody has acknowledged.
    pub(super) fn awaits_ack(&self) -> bool {
        self.state == State::Completed
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input, config: &Config) -> Action {
        use Input::{Ack, Failure, Provisional, Refusal, Request, Success, Unreachable};
        use State::{Accepted, Completed, Confirmed, Proceeding};
        match (self.state, input) {
            (Proceeding, Input::Alarm(Alarm::Again)) => {
                self.clocks.quiet();
                Action::Trying
            }
            // "If a request retransmission is received while in the Proceeding state, the most recent provisional
            // response that was received from the TU MUST be passed to the transport layer" (RFC 3261 §17.2.1).
            (Proceeding, Request) => Action::Send,
            (Proceeding, Provisional) => {
                self.clocks = Clocks::ending(now + config.patience);
                Action::Send
            }
            // Timer L, over any transport (RFC 6026 §8.7).
            (Proceeding, Success) => {
                self.state = Accepted;
                self.clocks = Clocks::ending(now + config.lifetime());
                Action::Send
            }
            // As long as nothing was sent the peer sends its INVITE again by itself, so that a lost refusal is asked for: no
            // timer G, or whoever writes another's address into a datagram would make us send him eleven answers
            // (S19). "Stateless UASs MUST NOT retransmit responses" (RFC 3261 §8.2.7).
            (Proceeding, Refusal) if self.clocks.repeats() => {
                self.state = Completed;
                self.clocks = Clocks::ending(now + config.lifetime());
                Action::Send
            }
            // Timer G for unreliable transports only, timer H for all (RFC 3261 §17.2.1).
            (Proceeding, Failure | Refusal) => {
                self.state = Completed;
                self.clocks = Clocks::ending(now + config.lifetime());
                if !self.reliable {
                    self.clocks.repeat(now, config.t1);
                }
                Action::Send
            }
            // The user may still have an answer; it will find that nobody is there.
            (Proceeding, Ack | Unreachable) => Action::Absorb,
            // "any retransmissions of the INVITE received will match this transaction state machine and will be absorbed"
            // (RFC 6026 §8.7).
            (Accepted, Request) => Action::Absorb,
            // "if the TU passes a 2xx response, the server transaction MUST pass the response to the transport layer for
            // transmission" (RFC 6026 §8.7).
            (Accepted, Success) => Action::Send,
            // "Any ACKs received from the network while in the Accepted state MUST be passed directly to the TU and not
            // absorbed" (RFC 6026 §7.1).
            (Accepted, Ack) => Action::PassAck,
            (Accepted, Provisional | Failure | Refusal | Unreachable) => Action::Absorb,
            // "If timer G fires, the response is passed to the transport layer once more for retransmission, and timer G
            // is set to fire in MIN(2*T1, T2) seconds", and so on (RFC 3261 §17.2.1).
            (Completed, Input::Alarm(Alarm::Again)) => {
                let gap = config.capped_double(self.clocks.gap());
                self.clocks.repeat(now, gap);
                Action::Send
            }
            (Completed, Request) => Action::Send,
            // Timer I: T4 over unreliable transports, zero over reliable ones.
            (Completed, Ack) => {
                self.state = Confirmed;
                self.clocks = Clocks::ending(now + config.timer_t4(self.reliable));
                Action::Absorb
            }
            // The first final response stands.
            (Completed, Provisional | Success | Failure | Refusal) => Action::Absorb,
            // No ACK can come.
            (Completed, Unreachable) => Action::Ended,
            (Confirmed, Request | Ack | Provisional | Success | Failure | Refusal | Unreachable) => {
                Action::Absorb
            }
            // Config::patience, timers L, H, I.
            (Proceeding | Accepted | Completed | Confirmed, Input::Alarm(Alarm::End)) => Action::Ended,
            (Accepted | Confirmed, Input::Alarm(Alarm::Again)) => {
                self.clocks.quiet();
                Action::Absorb
            }
        }
    }
}
