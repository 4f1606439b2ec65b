//! Which sessions there are, and how long they may last without signalling.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sdp_core::relay::{Command, LegStatistics, Report};

/// A session without signalling ends when no packet of it came for so long.
const QUIET: Duration = Duration::from_secs(300);
/// And after so long however much it says (MED-22).
const ALONE: Duration = Duration::from_secs(7200);
/// A media process that was started for a gateway stays so long for the next one.
const IDLE: Duration = Duration::from_secs(30);

/// The sessions of the relay.
#[derive(Debug, Default)]
pub(super) struct Census {
    sessions: HashMap<u64, Activity>,
    /// Since when there is no signalling.
    alone: Option<Instant>,
}

#[derive(Debug)]
struct Activity {
    /// Packets of each stream.
    packets: HashMap<u32, u64>,
    last: Instant,
}

/// Why a session is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nobody speaks.
    Quiet,
    /// No signalling process came for it.
    Alone,
}

impl Over {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Quiet => "no signalling process, and no packet for 5 minutes",
            Self::Alone => "no signalling process for 2 hours",
        }
    }
}

impl Census {
    pub(super) fn new(now: Instant) -> Self {
        Self { sessions: HashMap::new(), alone: Some(now) }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// A command goes to the relay.
    pub(super) fn command(&mut self, now: Instant, command: &Command) {
        match command {
            Command::Open { stream } | Command::Update { stream } | Command::Restore { stream, .. } => {
                self.met(now, stream.id.session);
            }
            Command::Record { session, record } if !record.is_empty() => self.met(now, *session),
            Command::End { session } => drop(self.sessions.remove(session)),
            _ => {}
        }
    }

    fn met(&mut self, now: Instant, session: u64) {
        self.sessions.entry(session).or_insert_with(|| Activity { packets: HashMap::new(), last: now });
    }

    /// The relay says something.
    pub(super) fn report(&mut self, now: Instant, report: &Report) {
        match report {
            Report::FirstPacket { stream, .. } => {
                if let Some(activity) = self.sessions.get_mut(&stream.session) {
                    activity.last = now;
                }
            }
            Report::Statistics { stream, outside, inside, ended } => {
                let Some(activity) = self.sessions.get_mut(&stream.session) else { return };
                let came = |leg: &LegStatistics| leg.received_rtp + leg.received_rtcp;
                let packets = came(outside) + came(inside);
                if activity.packets.insert(stream.index, packets) != Some(packets) {
                    activity.last = now;
                }
                if *ended {
                    activity.packets.remove(&stream.index);
                }
            }
            _ => {}
        }
    }

    /// A signalling process has come.
    pub(super) fn joined(&mut self) {
        self.alone = None;
    }

    /// It is gone.
    pub(super) fn left(&mut self, now: Instant) {
        self.alone = Some(now);
    }

    /// Sessions to be ended now; they are forgotten here.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(u64, Over)> {
        let Some(alone) = self.alone else { return Vec::new() };
        let over = |activity: &Activity| {
            if now >= alone + ALONE {
                Some(Over::Alone)
            } else {
                (now >= alone.max(activity.last) + QUIET).then_some(Over::Quiet)
            }
        };
        let overdue: Vec<(u64, Over)> = self
            .sessions
            .iter()
            .filter_map(|(session, activity)| Some((*session, over(activity)?)))
            .collect();
        for (session, _) in &overdue {
            self.sessions.remove(session);
        }
        overdue
    }

    /// Whether nobody has needed the relay for a while.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.sessions.is_empty() && self.alone.is_some_and(|alone| now >= alone + IDLE)
    }
}

#[cfg(test)]
mod tests {
    use sdp_core::relay::StreamId;

    use super::*;

    fn statistics(session: u64, received_rtp: u64) -> Report {
        let leg = LegStatistics { received_rtp, ..LegStatistics::default() };
        let (outside, inside) = (Box::new(leg), Box::default());
        Report::Statistics { stream: StreamId { session, index: 0 }, outside, inside, ended: false }
    }

    fn record(session: u64) -> Command {
        Command::Record { session, record: vec![1].into() }
    }

    #[test]
    fn a_session_without_signalling_lasts_while_packets_come_and_two_hours_at_most() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut census = Census::new(start);
        census.joined();
        census.command(start, &record(1));
        census.command(start, &record(2));
        assert_eq!(census.overdue(at(100_000)), [], "signalling knows best");
        census.left(at(100_000));
        for second in (0..7_200).step_by(5) {
            census.report(at(100_000 + second), &statistics(1, second));
            census.report(at(100_000 + second), &statistics(2, 9));
            let overdue = census.overdue(at(100_000 + second));
            assert_eq!(overdue, if second == 300 { vec![(2, Over::Quiet)] } else { vec![] }, "{second}");
        }
        assert!(!census.is_idle(at(107_199)));
        assert_eq!(census.overdue(at(107_200)), [(1, Over::Alone)]);
        assert!(census.is_idle(at(107_200)));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let start = Instant::now();
        let mut census = Census::new(start);
        assert!(!census.is_idle(start + Duration::from_secs(29)));
        assert!(census.is_idle(start + Duration::from_secs(30)));
        census.command(start, &record(1));
        assert!(!census.is_idle(start + Duration::from_secs(30)));
        census.command(start, &Command::End { session: 1 });
        census.joined();
        assert!(!census.is_idle(start + Duration::from_secs(3_000)), "somebody is there");
    }
}
