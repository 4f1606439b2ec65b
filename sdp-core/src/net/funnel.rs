//! Reports of several workers as if there were one: a snapshot is that of all, and says of each what was so when it answered.

use std::collections::VecDeque;

use crate::relay::Report;

/// Passes reports on. Those that a worker makes after its part of a snapshot wait for the parts of the others: whoever puts
/// the whole together finds nothing between that is younger than it.
#[derive(Debug)]
pub(super) struct Funnel<F> {
    out: F,
    /// Of each worker: nothing, or parts of a snapshot and what came after them.
    held: Vec<VecDeque<Report>>,
}

impl<F: FnMut(Report)> Funnel<F> {
    pub(super) fn new(workers: usize, out: F) -> Self {
        Self { out, held: (0..workers).map(|_| VecDeque::new()).collect() }
    }

    /// A worker reports.
    pub(super) fn handle_report(&mut self, worker: usize, report: Report) {
        let Some(held) = self.held.get_mut(worker) else { return };
        if held.is_empty() && !is_part(&report) {
            return (self.out)(report);
        }
        let may_complete = is_last(&report);
        held.push_back(report);
        while may_complete && self.held.iter().all(|held| held.iter().any(is_last)) {
            self.tell();
        }
    }

    /// The first snapshot of all, and what waited for it.
    fn tell(&mut self) {
        let workers = self.held.len();
        for (worker, held) in self.held.iter_mut().enumerate() {
            while let Some(mut report) = held.pop_front() {
                let last = is_last(&report);
                if let Report::Snapshot { more, .. } = &mut report {
                    *more |= worker + 1 < workers;
                }
                (self.out)(report);
                if last {
                    break;
                }
            }
        }
        for held in &mut self.held {
            while held.front().is_some_and(|report| !is_part(report)) {
                held.pop_front().into_iter().for_each(&mut self.out);
            }
        }
    }
}

fn is_part(report: &Report) -> bool {
    matches!(report, Report::Snapshot { .. })
}

fn is_last(report: &Report) -> bool {
    matches!(report, Report::Snapshot { more: false, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::command::StreamId;

    fn part(name: u64, more: bool) -> Report {
        Report::Snapshot {
            streams: Vec::new(),
            pairs: Vec::new(),
            records: vec![(name, Vec::new().into())],
            more,
        }
    }

    fn other(session: u64) -> Report {
        Report::Refused { stream: StreamId { session, index: 0 } }
    }

    #[test]
    fn a_snapshot_is_whole_and_nothing_younger_comes_before_it() {
        let mut told = Vec::new();
        let mut funnel = Funnel::new(2, |report| told.push(report));
        funnel.handle_report(0, other(1));
        funnel.handle_report(0, part(10, true));
        funnel.handle_report(0, part(11, false));
        funnel.handle_report(0, other(2));
        // Older than the second worker's part.
        funnel.handle_report(1, other(3));
        // The first worker answers another one before the second has answered any.
        funnel.handle_report(0, part(12, false));
        funnel.handle_report(0, other(4));
        funnel.handle_report(1, part(20, false));
        funnel.handle_report(1, other(5));
        funnel.handle_report(1, part(21, true));
        funnel.handle_report(1, part(22, false));
        funnel.handle_report(0, other(6));
        let want = [
            other(1),
            other(3),
            part(10, true),
            part(11, true),
            part(20, false),
            other(2),
            other(5),
            part(12, true),
            part(21, true),
            part(22, false),
            other(4),
            other(6),
        ];
        assert_eq!(told, want);
    }
}
