//! Switches that are asked by OPTIONS whether they live (MON-01): every 30 s, every 5 s once they fail. Any final answer but
//! 408 and 503 counts as alive. A second miss puts a switch on the blacklist, a third calls it down; one answer calls it up.
//! What traffic finds out, and a connection that closes, have a switch asked early.
//!
//! Of several shards the first asks, and the others are told ([`Event::Judged`], `Command::Judge`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::event::{Event, Health};
use super::switches::{Switch, Verdict};
use super::{Edge, Errand};
use crate::flow::{Dial, Side, Transport};
use crate::message::Name;
use crate::resolve::locate::{Over, Place, Progress, Sought};
use crate::ua::{Outcome, Request, SentBy};

/// From one question to the next while a switch answers.
const CALM: Duration = Duration::from_secs(30);
/// From one question to the next while it does not.
const ALERT: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Misses in a row that put it on the blacklist.
const SUSPECT: u32 = 2;
/// Misses in a row that call it down.
const DOWN: u32 = 3;
/// How often a name is looked up anew; DNS is asked as its TTL says.
const RENEW: Duration = Duration::from_secs(60);
/// Addresses of one name.
const ADDRESSES: usize = 16;

/// One row of `[[monitor.sip]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Monitored {
    /// An address, or a name all of whose addresses are asked.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How it is reached.
    pub transport: Transport,
}

/// One address that is asked.
struct Patient {
    /// A question is on its way.
    asking: bool,
    /// When it was last asked.
    asked: Option<Instant>,
    /// When it is asked next; where it stands in `due`.
    due: Instant,
    misses: u32,
    /// `None`: nothing is known yet.
    up: Option<bool>,
}

/// A row, and what it stands for.
struct Row {
    row: Monitored,
    found: BTreeSet<Switch>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Monitor {
    rows: Vec<Row>,
    patients: BTreeMap<Switch, Patient>,
    due: BTreeSet<(Instant, Switch)>,
    /// When names are looked up anew.
    renewals: BTreeSet<(Instant, usize)>,
    /// Searches on their way, and for which row.
    searches: HashMap<u64, usize>,
    /// The rows are those of the configuration.
    pub(super) is_fresh: bool,
}

impl Monitor {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.renewals.first().map(|(at, _)| *at)).min()
    }

    /// The row that this search is for.
    pub(super) fn searched(&mut self, number: u64) -> Option<usize> {
        self.searches.remove(&number)
    }

    /// The addresses that are asked, and what they said.
    pub(super) fn states(&self) -> impl Iterator<Item = (Switch, Health)> {
        self.patients.iter().map(|(switch, patient)| {
            let health = match patient.up {
                None => Health::Unknown,
                Some(true) => Health::Up,
                Some(false) => Health::Down,
            };
            (*switch, health)
        })
    }

    /// Asks early, but not more often than one that is down is asked.
    pub(super) fn hasten(&mut self, now: Instant, switch: Switch) {
        let Some(patient) = self.patients.get_mut(&switch) else { return };
        if patient.asking || patient.misses > 0 {
            return;
        }
        let due = patient.asked.map_or(now, |asked| now.max(asked + ALERT));
        if due < patient.due {
            self.due.remove(&(patient.due, switch));
            patient.due = due;
            self.due.insert((due, switch));
        }
    }

    /// Asks whom the rows stand for, and nobody else. Those that are not asked any more.
    fn update(&mut self, now: Instant) -> Vec<Switch> {
        let wanted: BTreeSet<Switch> = self.rows.iter().flat_map(|row| row.found.iter().copied()).collect();
        let gone: Vec<Switch> = self.patients.keys().filter(|one| !wanted.contains(one)).copied().collect();
        for switch in &gone {
            if let Some(patient) = self.patients.remove(switch) {
                self.due.remove(&(patient.due, *switch));
            }
        }
        for switch in wanted {
            self.patients.entry(switch).or_insert_with(|| {
                self.due.insert((now, switch));
                Patient { asking: false, asked: None, due: now, misses: 0, up: None }
            });
        }
        gone
    }

    /// The next one to be asked.
    fn poll(&mut self, now: Instant) -> Option<Switch> {
        let &(at, switch) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, switch));
        let patient = self.patients.get_mut(&switch)?;
        (patient.asking, patient.asked) = (true, Some(now));
        Some(switch)
    }

    /// What came of it, if that is news.
    fn answered(&mut self, now: Instant, switch: Switch, alive: bool) -> Option<Verdict> {
        let patient = self.patients.get_mut(&switch)?;
        patient.asking = false;
        patient.misses = if alive { 0 } else { patient.misses.saturating_add(1) };
        self.due.remove(&(patient.due, switch));
        let pause = if alive { CALM } else { ALERT };
        patient.due = patient.asked.map_or(now, |asked| now.max(asked + pause));
        self.due.insert((patient.due, switch));
        let before = patient.up;
        match (alive, patient.misses) {
            (true, _) => {
                patient.up = Some(true);
                // Also when nothing is news: it ends the blacklist early.
                Some(Verdict::Up)
            }
            (false, SUSPECT) => Some(Verdict::Silent),
            (false, misses) if misses >= DOWN => {
                patient.up = Some(false);
                (before != Some(false)).then_some(Verdict::Down)
            }
            (false, _) => None,
        }
    }

    /// Whether the last word on a switch was that it is up.
    fn is_up(&self, switch: Switch) -> bool {
        self.patients.get(&switch).is_some_and(|patient| patient.up == Some(true))
    }
}

impl Edge {
    /// Takes the rows of the configuration.
    pub(super) fn set_monitor(&mut self, now: Instant) {
        self.monitor.is_fresh = true;
        // One shard asks for all.
        let rows = if self.shard.index() == 0 { self.config.monitor.clone() } else { Vec::new() };
        let mut known: Vec<Row> = std::mem::take(&mut self.monitor.rows);
        self.monitor.renewals.clear();
        self.monitor.searches.clear();
        for (at, row) in rows.into_iter().enumerate() {
            // A name that is in DNS no more is asked where it was, until it is found elsewhere.
            let mut found =
                known.iter_mut().find(|known| known.row == row).map(|k| std::mem::take(&mut k.found));
            match row.server.parse::<IpAddr>() {
                Ok(address) => {
                    let remote = (address, row.port).into();
                    found = Some([Switch { remote, transport: row.transport }].into());
                }
                Err(_) => drop(self.monitor.renewals.insert((now, at))),
            }
            self.monitor.rows.push(Row { row, found: found.unwrap_or_default() });
        }
        self.update_monitor(now);
    }

    fn update_monitor(&mut self, now: Instant) {
        for switch in self.monitor.update(now) {
            // Nobody would call it up again.
            self.judge(now, switch, Verdict::Up);
        }
    }

    /// Whatever is due.
    pub(super) fn run_monitor(&mut self, now: Instant) {
        while let Some(&(at, row)) = self.monitor.renewals.first()
            && at <= now
        {
            self.monitor.renewals.remove(&(at, row));
            self.monitor.renewals.insert((now + RENEW, row));
            self.look_up_monitored(now, row);
        }
        while let Some(switch) = self.monitor.poll(now) {
            self.ask_switch(now, switch);
        }
    }

    fn look_up_monitored(&mut self, now: Instant, at: usize) {
        let Some(Row { row, .. }) = self.monitor.rows.get(at) else { return };
        let over = Over::Named(row.transport);
        let sought = Sought { name: row.server.clone(), port: Some(row.port), over };
        match self.locator.locate(now, sought, &self.config.internal_domains, &mut self.random) {
            Progress::Found(places) => self.found_monitored(now, at, &places),
            Progress::Waiting(number) => drop(self.monitor.searches.insert(number, at)),
        }
    }

    /// The addresses of a name. Those that requests may not go to are not asked, we ourselves least of all.
    pub(super) fn found_monitored(&mut self, now: Instant, at: usize, places: &[Place]) {
        let may = |place: &&Place| {
            let address = place.address.to_canonical();
            self.config.inside_networks.contains(address) && !self.is_own(&address.to_string())
        };
        let Some(row) = self.monitor.rows.get(at) else { return };
        let switch = |place: &Place| Switch {
            remote: (place.address, row.row.port).into(),
            transport: row.row.transport,
        };
        let found: BTreeSet<Switch> = places.iter().filter(may).take(ADDRESSES).map(switch).collect();
        if found.is_empty() {
            let name = row.row.server.clone();
            return self.tell(Event::Unlocated { name });
        }
        if let Some(row) = self.monitor.rows.get_mut(at) {
            row.found = found;
        }
        self.update_monitor(now);
    }

    fn ask_switch(&mut self, now: Instant, switch: Switch) {
        let Switch { remote, transport } = switch;
        let face = self.config.face_towards(Side::Inside, transport, remote);
        let mut us = SentBy::new(transport, face.authority());
        if transport.is_reliable() {
            us = us.param("alias");
        }
        let uri = match transport {
            Transport::Tls => format!("sips:{remote}"),
            Transport::Tcp => format!("sip:{remote};transport=tcp"),
            Transport::Udp => format!("sip:{remote}"),
        };
        let dial = Dial { transport, remote, side: Side::Inside, affinity: None };
        let Some(target) = self.target_of(dial) else {
            // It has no connection with us, and may not be dialled.
            return self.switch_asked(now, switch, &Outcome::Failed);
        };
        let request = Request::new("OPTIONS", uri, &us, target, &mut self.random)
            .header(Name::Accept, "application/sdp")
            .patience(PATIENCE);
        self.errands.send(now, &mut self.layer, &mut self.random, request, Errand::Switch(switch));
    }

    /// A monitored switch answered, or did not.
    pub(super) fn switch_asked(&mut self, now: Instant, switch: Switch, outcome: &Outcome) {
        let alive = matches!(outcome, Outcome::Answered(_)) && !matches!(outcome.status(), 408 | 503);
        let was_up = self.monitor.is_up(switch);
        let Some(verdict) = self.monitor.answered(now, switch, alive) else { return };
        match verdict {
            // The first word on it is news, whatever was thought before.
            Verdict::Up if !was_up => self.judge_anew(now, switch, verdict),
            verdict => self.judge(now, switch, verdict),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_asked_early_but_never_in_a_rush() {
        let now = Instant::now();
        let switch = Switch { remote: ([10, 0, 1, 50], 5061).into(), transport: Transport::Tls };
        let row = Monitored { server: "10.0.1.50".into(), port: 5061, transport: Transport::Tls };
        let mut monitor = Monitor { rows: vec![Row { row, found: [switch].into() }], ..Monitor::default() };
        monitor.update(now);
        assert_eq!(monitor.poll(now), Some(switch));
        monitor.hasten(now, switch);
        assert_eq!(monitor.poll(now), None, "it is being asked");
        assert_eq!(monitor.answered(now, switch, true), Some(Verdict::Up));
        assert_eq!(monitor.deadline(), Some(now + CALM));
        monitor.hasten(now, switch);
        assert_eq!(monitor.deadline(), Some(now + ALERT));
        let later = now + Duration::from_secs(12);
        assert_eq!(monitor.poll(later), Some(switch));
        assert_eq!(monitor.answered(later + PATIENCE, switch, false), None);
        monitor.hasten(later + PATIENCE, switch);
        assert_eq!(monitor.deadline(), Some(later + ALERT), "it is asked often already");
        monitor.rows.clear();
        assert_eq!(monitor.update(now), [switch]);
        assert_eq!(monitor.deadline(), None);
    }
}
