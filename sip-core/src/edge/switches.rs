//! Which switches may be asked: the blacklist (SAM-30) and what the monitor found (MON-01).
//!
//! A switch that refused a connection or let a transaction time out gets no new request for a while; requests go to the next
//! address of the same target, or are answered 503 at once. A switch that the monitor calls down gets none until it is up.
//! Phones are never judged here: their connection is all there is of them.
//!
//! Every verdict enters by [`Edge::judge`], whether it was found here or came as [`Command::Judge`] from another shard, so
//! that all shards think the same; found here, it leaves as [`Event::Judged`].
//!
//! [`Command::Judge`]: super::Command::Judge

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Edge;
use super::event::{Event, Health, SwitchState};
use super::failover::PATIENCE;
use crate::flow::{Dial, Side, Transport};

/// The most switches that are remembered; who was judged earliest makes way.
const SWITCHES: usize = 1_024;

/// Switches whose last datagram is remembered.
const HEARD: usize = 16;

/// The default of `sip.blacklist`.
pub(super) const BLACKLIST: Duration = Duration::from_secs(41);

/// One address of a switch, and how it is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Switch {
    /// The address.
    pub remote: SocketAddr,
    /// The transport.
    pub transport: Transport,
}

impl From<Dial> for Switch {
    fn from(dial: Dial) -> Self {
        Self { remote: dial.remote, transport: dial.transport }
    }
}

/// What was found out about a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It refused a connection: blacklisted.
    Refused,
    /// It did not answer a request in time: blacklisted.
    Silent,
    /// It does not answer the monitor: gets nothing until it is [`Verdict::Up`].
    Down,
    /// It answers: whatever was held against it is forgotten.
    Up,
}

/// What is held against one switch.
#[derive(Clone, Copy)]
struct Record {
    /// Blacklisted until then.
    until: Instant,
    /// It refused a connection, so that one which stands shows that it is back.
    refused: bool,
    /// The monitor says so.
    down: bool,
}

/// All switches that something is held against.
#[derive(Default)]
pub(super) struct Switches {
    table: HashMap<Switch, Record>,
    /// When datagrams last came from inside, and where from. Of streams the connections know it.
    heard: Vec<(SocketAddr, Instant)>,
}

impl Switches {
    /// Whether nothing is held against anybody, as on most days.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a switch may be asked.
    pub(super) fn is_usable(&self, now: Instant, switch: Switch) -> bool {
        self.table.get(&switch).is_none_or(|record| !record.down && record.until <= now)
    }

    /// Takes a verdict; `blacklist` is zero when there is none. Whether it changed anything.
    fn judge(&mut self, now: Instant, switch: Switch, verdict: Verdict, blacklist: Duration) -> bool {
        let until = now + blacklist;
        match verdict {
            Verdict::Up => return self.table.remove(&switch).is_some(),
            Verdict::Refused | Verdict::Silent if blacklist.is_zero() => return false,
            Verdict::Refused | Verdict::Silent | Verdict::Down => {}
        }
        if self.table.len() >= SWITCHES && !self.table.contains_key(&switch) {
            self.make_room(now);
        }
        let record = self.table.entry(switch).or_insert(Record { until: now, refused: false, down: false });
        let usable = record.until <= now && !record.down;
        match verdict {
            Verdict::Down => {
                let news = !record.down;
                record.down = true;
                return news;
            }
            _ => {
                record.until = until;
                record.refused = verdict == Verdict::Refused;
            }
        }
        usable
    }

    /// A datagram came from inside.
    pub(super) fn hear(&mut self, now: Instant, remote: SocketAddr) {
        if let Some((_, at)) = self.heard.iter_mut().find(|(known, _)| *known == remote) {
            *at = now;
            return;
        }
        if self.heard.len() >= HEARD
            && let Some(oldest) =
                (0..self.heard.len()).min_by_key(|at| self.heard.get(*at).map(|(_, at)| *at))
        {
            self.heard.swap_remove(oldest);
        }
        self.heard.push((remote, now));
    }

    /// Who was judged first makes way. What the monitor calls down stays while there is any other: it says so once.
    fn make_room(&mut self, now: Instant) {
        self.table.retain(|_, record| record.down || record.until > now);
        let age = |(_, record): &(&Switch, &Record)| (record.down, record.until);
        if self.table.len() >= SWITCHES
            && let Some(first) = self.table.iter().min_by_key(age).map(|(switch, _)| *switch)
        {
            self.table.remove(&first);
        }
    }

    /// A connection stands: whatever refused is back. A switch that was silent is not, it may be half open.
    fn reached(&mut self, switch: Switch) -> bool {
        let back = self.table.get(&switch).is_some_and(|record| record.refused && !record.down);
        back && self.table.remove(&switch).is_some()
    }
}

impl Edge {
    /// Takes a verdict that was found here, and tells the others.
    pub(super) fn judge(&mut self, now: Instant, switch: Switch, verdict: Verdict) {
        if verdict != Verdict::Up {
            self.monitor.hasten(now, switch);
        }
        if self.switches.judge(now, switch, verdict, self.config.blacklist) {
            self.tell(Event::Judged { switch, verdict });
        }
    }

    /// As [`Edge::judge`], and it is news in any case.
    pub(super) fn judge_anew(&mut self, now: Instant, switch: Switch, verdict: Verdict) {
        self.switches.judge(now, switch, verdict, self.config.blacklist);
        self.tell(Event::Judged { switch, verdict });
    }

    /// Holds against a switch that a request failed there, unless it spoke with anybody since that began: a switch that
    /// leaves one phone's request unanswered is not to be lost to all the others (a phone could see to that).
    pub(super) fn blame(&mut self, now: Instant, switch: Switch, verdict: Verdict, span: Duration) {
        if !self.has_heard(now, switch, span) {
            self.judge(now, switch, verdict);
        }
    }

    /// Whether a switch spoke within the last while, as far as this shard knows.
    fn has_heard(&self, now: Instant, switch: Switch, span: Duration) -> bool {
        let Some(since) = now.checked_sub(span) else { return false };
        match switch.transport {
            Transport::Udp => {
                self.switches.heard.iter().any(|(remote, at)| *remote == switch.remote && *at > since)
            }
            _ => self.flows.heard_from(switch, since),
        }
    }

    /// Takes a verdict that another shard found; nobody is told again. This one may know better.
    pub(super) fn told(&mut self, now: Instant, switch: Switch, verdict: Verdict) {
        if matches!(verdict, Verdict::Refused | Verdict::Silent) && self.has_heard(now, switch, PATIENCE) {
            return;
        }
        if verdict != Verdict::Up {
            self.monitor.hasten(now, switch);
        }
        self.switches.judge(now, switch, verdict, self.config.blacklist);
    }

    /// Switches that something is held against, and those that are monitored.
    pub(super) fn switch_states(&self, now: Instant) -> Vec<SwitchState> {
        let held = self.switches.table.iter().filter(|(_, record)| record.down || record.until > now);
        let mut states: BTreeMap<Switch, SwitchState> = held
            .map(|(switch, record)| {
                let blacklisted = record.until.saturating_duration_since(now);
                (
                    *switch,
                    SwitchState {
                        switch: *switch,
                        down: record.down,
                        blacklisted,
                        health: Health::Unwatched,
                    },
                )
            })
            .collect();
        for (switch, health) in self.monitor.states() {
            let none = SwitchState { switch, down: false, blacklisted: Duration::ZERO, health };
            states.entry(switch).or_insert(none).health = health;
        }
        states.into_values().collect()
    }

    /// A connection to a switch stands.
    pub(super) fn switch_reached(&mut self, dial: Dial) {
        let switch = Switch::from(dial);
        if !self.switches.is_empty() && self.switches.reached(switch) {
            self.tell(Event::Judged { switch, verdict: Verdict::Up });
        }
    }

    /// A connection to a switch could not be made, and that was the switch's doing. While others to it stand up it is
    /// slow or full, not gone: no verdict.
    pub(super) fn switch_refused(&mut self, now: Instant, dial: Dial) {
        let stands = || now.checked_sub(PATIENCE).is_some_and(|since| self.flows.reached(dial.into(), since));
        if dial.side == Side::Inside && !stands() {
            self.blame(now, dial.into(), Verdict::Refused, PATIENCE);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
mod tests {
    use super::*;

    fn switch(port: u16) -> Switch {
        Switch { remote: ([10, 0, 1, 50], port).into(), transport: Transport::Tls }
    }

    #[test]
    fn a_verdict_lasts_for_its_time_and_down_until_up() {
        let (now, mut switches) = (Instant::now(), Switches::default());
        assert!(switches.judge(now, switch(1), Verdict::Silent, BLACKLIST));
        assert!(!switches.judge(now, switch(1), Verdict::Silent, BLACKLIST), "no news");
        assert!(!switches.is_usable(now + BLACKLIST - Duration::from_millis(1), switch(1)));
        assert!(switches.is_usable(now + BLACKLIST, switch(1)) && switches.is_usable(now, switch(2)));
        assert!(!switches.reached(switch(1)), "a connection proves nothing for one that was silent");
        assert!(switches.judge(now, switch(2), Verdict::Down, BLACKLIST));
        assert!(!switches.is_usable(now + 10 * BLACKLIST, switch(2)));
        assert!(switches.judge(now, switch(2), Verdict::Up, BLACKLIST) && switches.is_usable(now, switch(2)));
        assert!(!switches.judge(now, switch(2), Verdict::Up, BLACKLIST));
    }

    #[test]
    fn zero_turns_the_blacklist_off_but_not_the_monitor() {
        let (now, mut switches) = (Instant::now(), Switches::default());
        assert!(!switches.judge(now, switch(1), Verdict::Refused, Duration::ZERO));
        assert!(switches.is_empty());
        assert!(switches.judge(now, switch(1), Verdict::Down, Duration::ZERO));
        assert!(!switches.is_usable(now, switch(1)));
    }

    #[test]
    fn the_table_is_bounded() {
        let (now, mut switches) = (Instant::now(), Switches::default());
        for port in 1..3_000 {
            switches.judge(now, switch(port), Verdict::Refused, BLACKLIST);
        }
        assert_eq!(switches.table.len(), SWITCHES);
        assert!(!switches.is_usable(now, switch(2_999)));
    }

    #[test]
    fn what_the_monitor_calls_down_is_not_pushed_out_by_refusals() {
        let (now, mut switches) = (Instant::now(), Switches::default());
        switches.judge(now, switch(1), Verdict::Down, BLACKLIST);
        for port in 2..3_000 {
            switches.judge(now, switch(port), Verdict::Refused, BLACKLIST);
        }
        assert!(!switches.is_usable(now + 2 * BLACKLIST, switch(1)));
    }

    #[test]
    fn of_datagrams_the_latest_senders_are_remembered() {
        let (now, mut switches) = (Instant::now(), Switches::default());
        for port in 1..100 {
            switches.hear(now + Duration::from_secs(port.into()), switch(port).remote);
        }
        assert_eq!(switches.heard.len(), HEARD);
        assert!(switches.heard.iter().all(|(remote, _)| remote.port() > 99 - HEARD as u16));
    }
}
