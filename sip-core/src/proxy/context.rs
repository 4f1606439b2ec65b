//! The response context of a stateful proxy (RFC 3261 §16.7): forks, the best answer, timer C.
//!
//! Knows no message: an answer is whatever the caller hands in, so that one from the wire and one that we make
//! ourselves (408, 503) compete alike.

use std::time::{Duration, Instant};

/// How long a cancelled branch may take to say 487 before it counts as silent: 64 × T1 (RFC 3261 §9.1).
const CANCEL_WAIT: Duration = Duration::from_secs(32);

/// What to do next, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<R> {
    /// Pass this answer on now: a provisional one, or a 2xx.
    Forward(usize, R),
    /// Send a CANCEL on this branch.
    Cancel(usize),
    /// All branches are done: this is the final answer. Not given twice.
    Conclude(usize, R),
}

/// Where a branch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Sent (or waiting for an address); nothing heard.
    Trying,
    /// As before, and a CANCEL is due as soon as a provisional answer comes (RFC 3261 §9.1).
    CancelDue,
    /// A provisional answer came.
    Proceeding,
    /// A CANCEL was sent.
    Cancelled,
    /// Another was asked in its place: nobody waits for it. It counts as done.
    Left,
    /// A final answer came.
    Done,
}

impl State {
    /// Whether its final answer is waited for.
    fn is_open(&self) -> bool {
        !matches!(self, Self::Left | Self::Done)
    }
}

/// Timer C as configured.
#[derive(Clone, Copy, Debug)]
pub struct Ringing {
    /// From the request or the latest provisional answer.
    pub silence: Duration,
    /// From the request, in all.
    pub maximum: Duration,
}

/// One request in progress and its branches.
#[derive(Debug)]
pub struct Context<R> {
    invite: bool,
    branches: Vec<State>,
    best: Option<(usize, u16, R)>,
    concluded: bool,
    ringing: Option<(Ringing, Instant)>,
    deadline: Option<Instant>,
}

impl<R> Context<R> {
    /// An INVITE, which provisional answers, timer C and CANCEL concern.
    pub fn invite(now: Instant, ringing: Ringing) -> Self {
        Self {
            invite: true,
            branches: Vec::with_capacity(1),
            best: None,
            concluded: false,
            ringing: Some((ringing, now + ringing.maximum)),
            deadline: Some(now + ringing.silence.min(ringing.maximum)),
        }
    }

    /// Any other request.
    pub fn other() -> Self {
        Self {
            invite: false,
            branches: Vec::with_capacity(1),
            best: None,
            concluded: false,
            ringing: None,
            deadline: None,
        }
    }

    /// Adds a branch and tells its number.
    pub fn add(&mut self) -> usize {
        self.branches.push(State::Trying);
        self.branches.len() - 1
    }

    /// Whether the final answer has been given.
    pub fn is_concluded(&self) -> bool {
        self.concluded
    }

    /// Whether a branch still waits for its final answer, and nobody has given up on it: another one may take its place.
    pub fn awaits(&self, branch: usize) -> bool {
        !self.concluded && matches!(self.branches.get(branch), Some(State::Trying | State::Proceeding))
    }

    /// Whether nothing at all was heard on a branch that waits.
    pub fn is_silent(&self, branch: usize) -> bool {
        !self.concluded && matches!(self.branches.get(branch), Some(State::Trying))
    }

    /// When [`Context::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes an answer of a branch.
    pub fn handle_answer(&mut self, now: Instant, branch: usize, status: u16, answer: R) -> Vec<Action<R>> {
        match status {
            100..=199 => self.provisional(now, branch, status, answer),
            200..=299 => self.success(now, branch, answer),
            _ => self.failure(now, branch, status, answer),
        }
    }

    fn provisional(&mut self, now: Instant, branch: usize, status: u16, answer: R) -> Vec<Action<R>> {
        let mut actions = Vec::new();
        let Some(state) = self.branches.get_mut(branch) else { return actions };
        match *state {
            State::Trying => *state = State::Proceeding,
            State::CancelDue => {
                *state = State::Cancelled;
                actions.push(Action::Cancel(branch));
            }
            State::Proceeding | State::Cancelled => {}
            State::Left => {
                // It lives after all, and is not wanted any more.
                *state = State::Done;
                return if self.invite { vec![Action::Cancel(branch)] } else { actions };
            }
            State::Done => return actions,
        }
        let cancelled = *state == State::Cancelled;
        if self.concluded {
            return actions;
        }
        // RFC 3261 §16.7 step 2: a provisional answer starts timer C anew.
        if let (Some((ringing, limit)), false) = (&self.ringing, cancelled) {
            self.deadline = Some((now + ringing.silence).min(*limit));
        }
        // A 100 goes no further than one hop (RFC 3261 §16.7 step 5).
        if status != 100 {
            actions.push(Action::Forward(branch, answer));
        }
        actions
    }

    fn success(&mut self, now: Instant, branch: usize, answer: R) -> Vec<Action<R>> {
        let mut actions = Vec::new();
        // Every 2xx to an INVITE goes on, even after another final answer (RFC 3261 §16.7 step 5).
        if self.invite || !self.concluded {
            actions.push(Action::Forward(branch, answer));
        }
        self.finish(branch);
        self.concluded = true;
        self.best = None;
        self.deadline = None;
        actions.extend(self.cancel(now));
        actions
    }

    fn failure(&mut self, now: Instant, branch: usize, status: u16, answer: R) -> Vec<Action<R>> {
        let mut actions = Vec::new();
        if !self.finish(branch) || self.concluded {
            return actions;
        }
        self.compare(branch, status, answer);
        // RFC 3261 §16.7 step 5: a 6xx ends the search.
        if status >= 600 {
            actions.extend(self.cancel(now));
        }
        actions.extend(self.conclude());
        actions
    }

    fn compare(&mut self, branch: usize, status: u16, answer: R) {
        if self.best.as_ref().is_none_or(|(_, best, _)| rank(status) < rank(*best)) {
            self.best = Some((branch, status, answer));
        }
    }

    /// Stops waiting for a silent branch, in whose place another one was added. `answer` stands for its own if no other
    /// does better. A 2xx that it gives late goes on like any other; a late provisional answer is met with CANCEL.
    pub fn leave(&mut self, branch: usize, status: u16, answer: R) {
        if self.awaits(branch)
            && let Some(state) = self.branches.get_mut(branch)
        {
            *state = State::Left;
            self.compare(branch, status, answer);
        }
    }

    /// Whether [`Context::leave`] was called for a branch, and nothing was heard of it since.
    pub fn is_left(&self, branch: usize) -> bool {
        matches!(self.branches.get(branch), Some(State::Left))
    }

    /// A branch was redirected, and another one is to be added in its place: the 3xx is nobody's answer (RFC 3261 §16.7
    /// step 4).
    pub fn recurse(&mut self, branch: usize) {
        self.finish(branch);
    }

    /// Marks a branch as done; `false` when it was.
    fn finish(&mut self, branch: usize) -> bool {
        match self.branches.get_mut(branch) {
            None | Some(State::Done) => false,
            Some(state @ State::Left) => {
                *state = State::Done;
                false
            }
            Some(state) => {
                *state = State::Done;
                true
            }
        }
    }

    fn conclude(&mut self) -> Option<Action<R>> {
        if self.concluded || self.branches.iter().any(|s| s.is_open()) {
            return None;
        }
        let (branch, _, answer) = self.best.take()?;
        self.concluded = true;
        self.deadline = None;
        Some(Action::Conclude(branch, answer))
    }

    /// Cancels every branch that has not answered (RFC 3261 §16.10): at once where something was heard, else as soon as it is.
    pub fn cancel(&mut self, now: Instant) -> Vec<Action<R>> {
        if !self.invite {
            return Vec::new();
        }
        let mut actions = Vec::new();
        for (branch, state) in self.branches.iter_mut().enumerate() {
            match state {
                State::Trying => *state = State::CancelDue,
                State::Proceeding => {
                    *state = State::Cancelled;
                    actions.push(Action::Cancel(branch));
                }
                State::CancelDue | State::Cancelled | State::Left | State::Done => {}
            }
        }
        if !self.concluded && self.branches.iter().any(|s| s.is_open()) {
            self.ringing = None;
            self.deadline = Some(now + CANCEL_WAIT);
        }
        actions
    }

    /// Timer C (RFC 3261 §16.8), and the end of waiting for cancelled branches. `silent` makes the answer for a branch
    /// that never gave one.
    pub fn handle_timeout(&mut self, now: Instant, silent: impl Fn() -> R) -> Vec<Action<R>> {
        if self.concluded || self.deadline.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.deadline = None;
        let was_ringing = self.ringing.take().is_some();
        let mut actions = if was_ringing { self.cancel(now) } else { Vec::new() };
        for branch in 0..self.branches.len() {
            let over = match self.branches.get(branch) {
                Some(State::CancelDue) => true,
                Some(State::Trying | State::Proceeding | State::Cancelled) => !was_ringing,
                Some(State::Left | State::Done) | None => false,
            };
            if over {
                actions.extend(self.failure(now, branch, 408, silent()));
            }
        }
        actions
    }
}

/// Which answer is better: smaller (RFC 3261 §16.7 step 6). A 6xx first, then the lowest class; within 4xx those that let
/// the caller mend its request.
fn rank(status: u16) -> u16 {
    match status {
        600.. => status - 600,
        401 | 407 | 415 | 420 | 484 => 4_000 + status,
        // A branch that ended because another was better says nothing of its own.
        487 => 4_998,
        408 => 4_997,
        400..=499 => 4_500 + (status - 400) / 2,
        503 => 5_999,
        _ => status / 100 * 1_000 + status % 100,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
mod tests {
    use super::*;

    const RINGING: Ringing = Ringing { silence: Duration::from_secs(180), maximum: Duration::from_secs(300) };

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn forked(now: Instant, branches: usize) -> Context<&'static str> {
        let mut context = Context::invite(now, RINGING);
        for branch in 0..branches {
            assert_eq!(context.add(), branch);
        }
        context
    }

    #[test]
    fn what_was_heard_and_decided_is_told() {
        let now = Instant::now();
        let mut context = forked(now, 2);
        assert!(context.is_silent(0) && context.awaits(0) && !context.is_concluded());
        context.handle_answer(now, 0, 180, "ringing");
        assert!(!context.is_silent(0) && context.awaits(0));
        assert!(context.handle_answer(now, 0, 486, "busy").is_empty());
        // The same branch says it again: that does not stand for the other one.
        assert!(context.handle_answer(now, 0, 486, "busy").is_empty());
        assert!(!context.awaits(0) && !context.is_concluded());
        assert!(!context.handle_answer(now, 1, 404, "nobody").is_empty());
        assert!(context.is_concluded());
        assert!(context.handle_answer(now, 1, 603, "late").is_empty());
    }

    #[test]
    fn the_best_answer_waits_for_the_last() {
        let now = Instant::now();
        for (answers, best) in [
            (vec![(0, 404), (1, 486), (2, 503)], 404),
            (vec![(0, 486), (1, 401)], 401),
            (vec![(0, 486), (1, 302)], 302),
            (vec![(0, 500), (1, 408)], 408),
            (vec![(0, 503), (1, 500)], 500),
            (vec![(0, 302), (1, 603)], 603),
            (vec![(0, 487), (1, 486)], 486),
            (vec![(0, 408), (1, 480)], 480),
        ] {
            let mut context = forked(now, answers.len());
            let statuses: Vec<String> = answers.iter().map(|(_, s)| s.to_string()).collect();
            let mut last = Vec::new();
            for ((branch, status), text) in answers.iter().zip(&statuses) {
                assert!(last.is_empty());
                last = context.handle_answer(now, *branch, *status, Box::leak(text.clone().into_boxed_str()));
            }
            assert!(
                matches!(last[..], [Action::Conclude(_, text)] if text == best.to_string()),
                "{answers:?}: {last:?}"
            );
            assert!(context.is_concluded() && context.deadline().is_none());
        }
    }

    #[test]
    fn a_2xx_goes_on_and_cancels_the_rest() {
        let now = Instant::now();
        let mut context = forked(now, 3);
        assert_eq!(context.handle_answer(now, 0, 100, "100"), []);
        assert_eq!(context.handle_answer(now, 1, 180, "180"), [Action::Forward(1, "180")]);
        assert_eq!(
            context.handle_answer(now, 2, 200, "200"),
            [Action::Forward(2, "200"), Action::Cancel(0), Action::Cancel(1)]
        );
        // A late 2xx of another branch still goes on; its 487 does not.
        assert_eq!(context.handle_answer(now, 1, 200, "late"), [Action::Forward(1, "late")]);
        assert_eq!(context.handle_answer(now, 0, 487, "487"), []);
        assert_eq!(context.handle_answer(now, 2, 200, "again"), [Action::Forward(2, "again")]);
    }

    #[test]
    fn a_second_final_answer_of_another_request_is_dropped() {
        let now = Instant::now();
        let mut context = Context::other();
        context.add();
        context.add();
        assert_eq!(context.handle_answer(now, 0, 200, "200"), [Action::Forward(0, "200")]);
        assert_eq!(context.handle_answer(now, 1, 200, "200"), []);
        assert_eq!(context.cancel(now), []);
    }

    #[test]
    fn a_cancel_waits_for_the_first_answer() {
        let now = Instant::now();
        let mut context = forked(now, 2);
        context.handle_answer(now, 0, 180, "180");
        assert_eq!(context.cancel(now), [Action::Cancel(0)]);
        assert_eq!(context.cancel(now), []);
        assert_eq!(context.handle_answer(now, 1, 180, "180"), [Action::Cancel(1), Action::Forward(1, "180")]);
        assert_eq!(context.handle_answer(now, 0, 487, "487"), []);
        assert_eq!(context.handle_answer(now, 1, 487, "487"), [Action::Conclude(0, "487")]);
    }

    #[test]
    fn a_6xx_cancels_the_rest() {
        let now = Instant::now();
        let mut context = forked(now, 2);
        context.handle_answer(now, 1, 183, "183");
        assert_eq!(context.handle_answer(now, 0, 600, "600"), [Action::Cancel(1)]);
        assert_eq!(context.handle_answer(now, 1, 487, "487"), [Action::Conclude(0, "600")]);
    }

    #[test]
    fn a_branch_that_is_left_holds_nobody_up_and_may_still_answer() {
        let now = Instant::now();
        let left = || {
            let mut context = forked(now, 2);
            context.leave(0, 408, "408");
            assert!(context.is_left(0) && !context.awaits(0) && context.awaits(1));
            context
        };
        assert_eq!(left().handle_answer(now, 1, 486, "486"), [Action::Conclude(1, "486")]);
        assert_eq!(left().handle_answer(now, 1, 503, "503"), [Action::Conclude(0, "408")]);
        let mut context = left();
        assert_eq!(context.handle_answer(now, 0, 180, "180"), [Action::Cancel(0)]);
        assert_eq!(context.handle_answer(now, 0, 487, "487"), []);
        assert_eq!(context.handle_answer(now, 1, 200, "200"), [Action::Forward(1, "200")]);
        let mut context = left();
        context.handle_answer(now, 1, 180, "180");
        assert_eq!(context.handle_answer(now, 0, 200, "200"), [Action::Forward(0, "200"), Action::Cancel(1)]);
        let mut context = left();
        assert_eq!(context.cancel(now), []);
        assert_eq!(context.handle_timeout(at(now, 32), || "silent"), [Action::Conclude(0, "408")]);
    }

    #[test]
    fn timer_c() {
        let now = Instant::now();
        let mut context = forked(now, 1);
        assert_eq!(context.deadline(), Some(at(now, 180)));
        context.handle_answer(at(now, 60), 0, 180, "180");
        assert_eq!(context.deadline(), Some(at(now, 240)));
        context.handle_answer(at(now, 200), 0, 180, "180");
        assert_eq!(context.deadline(), Some(at(now, 300)), "300 s in all");
        assert_eq!(context.handle_timeout(at(now, 299), || "408"), []);
        assert_eq!(context.handle_timeout(at(now, 300), || "408"), [Action::Cancel(0)]);
        assert_eq!(context.deadline(), Some(at(now, 332)));
        assert_eq!(context.handle_timeout(at(now, 332), || "408"), [Action::Conclude(0, "408")]);
        assert_eq!(context.deadline(), None);
    }

    #[test]
    fn timer_c_without_any_answer_ends_at_once() {
        let now = Instant::now();
        let mut context = forked(now, 1);
        assert_eq!(context.handle_timeout(at(now, 180), || "408"), [Action::Conclude(0, "408")]);
        assert_eq!(context.handle_answer(at(now, 181), 0, 200, "200"), [Action::Forward(0, "200")]);
    }
}
