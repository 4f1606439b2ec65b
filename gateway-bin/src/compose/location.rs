//! Seam D: where phones are registered, kept in `state_dir/location.log`, so that after a restart a phone that has
//! not come back yet is known and gone (480), and its address at the PBX stays its own (§1.1 step 8).
//!
//! One line of JSON a change, appended and not synced: it survives the end of the process, however sudden. What a power
//! loss takes is registered again by the phones. The file is written anew at the start and when it has grown by
//! as much as it held.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sip_core::edge::bindings::Change;
use tracing::{error, info, warn};

use super::aside;

/// The file is not written anew before so many lines were added.
const GROWTH: usize = 8192;
/// How long the changes of a burst gather before they are written: one wake-up and one write for all of them. A process that
/// is killed takes no more with it than that, and nothing of a change that came alone.
const GATHER: Duration = Duration::from_millis(50);
/// The wait after the disk refused.
const RETRY: Duration = Duration::from_secs(5);

/// The log can't be used at start.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct LocationError {
    path: PathBuf,
    error: io::Error,
}

/// The running log. Dropping it writes what is left.
pub(crate) struct Location {
    journal: Journal,
    writer: Option<JoinHandle<()>>,
}

/// Takes changes; never waits for the disk. Clones are one.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    woken: Condvar,
}

/// What is not written yet: the newest change of each phone, so that it never holds more than there are phones.
#[derive(Default)]
struct Inbox {
    changes: HashMap<u64, Line>,
    closed: bool,
}

/// A change, with the time of day at which a registration ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    until: u64,
    change: Change,
}

impl Location {
    /// Opens the log in `state_dir`, and gives the registrations it holds.
    ///
    /// # Errors
    /// [`LocationError`] when it can't be read or written.
    pub(crate) fn open(state_dir: &Path) -> Result<(Self, Vec<Change>), LocationError> {
        let path = state_dir.join("location.log");
        let failed = |error| LocationError { path: path.clone(), error };
        let table = read(&path, now()).map_err(failed)?;
        let file = rewrite(&path, &table).map_err(failed)?;
        let journal = Journal(Arc::default());
        let mut log = Log { path: path.clone(), file, lines: 0, live: table.len(), well: true };
        let shared = journal.clone();
        let writer = thread::Builder::new().name("location".to_owned()).spawn(move || log.run(&shared));
        let known = table.into_values().map(|line| line.restored(now())).collect();
        Ok((Self { journal, writer: Some(writer.map_err(failed)?) }, known))
    }

    /// Where changes are handed in.
    pub(crate) fn journal(&self) -> Journal {
        self.journal.clone()
    }
}

/// The registrations that the log in `state_dir` holds, which stays as it is.
pub(crate) fn known(state_dir: &Path) -> io::Result<Vec<Change>> {
    let table = read(&state_dir.join("location.log"), now())?;
    Ok(table.into_values().map(|line| line.restored(now())).collect())
}

impl Drop for Location {
    fn drop(&mut self) {
        self.journal.inbox().closed = true;
        self.journal.0.woken.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Journal {
    /// Keeps a change.
    pub(crate) fn record(&self, change: Change) {
        // Connections end with the process.
        if matches!(change, Change::Moved { .. }) {
            return;
        }
        let line = Line::new(change, now());
        let mut inbox = self.inbox();
        // The writer sleeps for good only when there is nothing: a burst wakes it once.
        let first = inbox.changes.is_empty();
        inbox.changes.insert(line.id(), line);
        drop(inbox);
        if first {
            self.0.woken.notify_one();
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for changes: one that comes alone is given at once, those of a burst so long after those `last` given that they
    /// have gathered. `None` when there are none and none will come.
    fn next(&self, last: Option<Instant>) -> Option<HashMap<u64, Line>> {
        let mut inbox = self.inbox();
        loop {
            if !inbox.changes.is_empty() {
                let open = |inbox: &mut Inbox| !inbox.closed;
                let wait = last.map_or(Duration::ZERO, |last| GATHER.saturating_sub(last.elapsed()));
                let gathered = self.0.woken.wait_timeout_while(inbox, wait, open);
                let (mut inbox, _) = gathered.unwrap_or_else(PoisonError::into_inner);
                return Some(std::mem::take(&mut inbox.changes));
            }
            if inbox.closed {
                return None;
            }
            inbox = self.0.woken.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What could not be written waits with what came meanwhile, which is newer. `false` when the end has come.
    fn put_back(&self, changes: HashMap<u64, Line>) -> bool {
        let mut inbox = self.inbox();
        for (id, line) in changes {
            inbox.changes.entry(id).or_insert(line);
        }
        let wait = |inbox: &mut Inbox| !inbox.closed;
        let (inbox, _) =
            self.0.woken.wait_timeout_while(inbox, RETRY, wait).unwrap_or_else(PoisonError::into_inner);
        !inbox.closed
    }
}

impl Line {
    fn new(change: Change, now: u64) -> Self {
        let until = match &change {
            Change::Put(record) => now.saturating_add(record.expires_in),
            Change::Remove(_) | Change::Moved { .. } => 0,
        };
        Self { until, change }
    }

    fn id(&self) -> u64 {
        match &self.change {
            Change::Put(record) => record.id,
            Change::Remove(id) | Change::Moved { id, .. } => *id,
        }
    }

    /// The change with what is left of its time.
    fn restored(self, now: u64) -> Change {
        match self.change {
            Change::Put(mut record) => {
                record.expires_in = self.until.saturating_sub(now);
                Change::Put(record)
            }
            other => other,
        }
    }
}

/// The file as its thread knows it.
struct Log {
    path: PathBuf,
    file: File,
    /// Added since it was written anew.
    lines: usize,
    /// Registrations it held then.
    live: usize,
    /// The last write succeeded.
    well: bool,
}

impl Log {
    fn run(&mut self, journal: &Journal) {
        let mut last = None;
        while let Some(changes) = journal.next(last) {
            last = Some(Instant::now());
            match self.write(&changes) {
                Ok(()) if self.well => {}
                Ok(()) => {
                    self.well = true;
                    info!(path = %self.path.display(), "registrations are kept again");
                }
                Err(error) => {
                    // One alarm, not one for each attempt.
                    if std::mem::take(&mut self.well) {
                        let path = self.path.display();
                        error!(%path, %error, "registrations can't be kept: after a restart phones that have not come back are unknown");
                    }
                    if !journal.put_back(changes) {
                        return;
                    }
                }
            }
        }
    }

    fn write(&mut self, changes: &HashMap<u64, Line>) -> io::Result<()> {
        let mut text = Vec::new();
        if !self.well {
            // The write that failed may have left half a line.
            text.push(b'\n');
        }
        for line in changes.values() {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        self.lines += changes.len();
        if self.lines >= self.live.max(GROWTH) {
            let table = read(&self.path, now())?;
            self.file = rewrite(&self.path, &table)?;
            (self.lines, self.live) = (0, table.len());
        }
        Ok(())
    }
}

/// The registrations of a log that still hold at `now`. Lines that can't be read are left out: the last one is torn
/// when the process was killed within a write.
fn read(path: &Path, now: u64) -> io::Result<BTreeMap<u64, Line>> {
    let mut table = BTreeMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(table),
        Err(error) => return Err(error),
    };
    let mut unreadable = 0;
    for text in BufReader::new(file).split(b'\n') {
        let text = text?;
        match serde_json::from_slice::<Line>(&text) {
            Ok(line) if line.until > now => drop(table.insert(line.id(), line)),
            Ok(line) => drop(table.remove(&line.id())),
            Err(_) if text.is_empty() => {}
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        warn!(path = %path.display(), unreadable, "registrations that can't be read are left out");
    }
    Ok(table)
}

/// Writes the log anew. Gives the file to append to.
fn rewrite(path: &Path, table: &BTreeMap<u64, Line>) -> io::Result<File> {
    let mut text = Vec::new();
    for line in table.values() {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    aside::replace(path, &text)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sip_core::edge::bindings::Record;

    use super::*;

    fn put(id: u64, user: &str, expires_in: u64) -> Change {
        let user = user.to_owned();
        Change::Put(Box::new(Record {
            id,
            tag: None,
            contact: String::new(),
            user,
            domain: String::new(),
            users: Vec::new(),
            expires_in,
            certificate: [0; 32],
            contact_token: None,
            flow_tokens: [String::new(), String::new()],
            switch: None,
            outbound: false,
            address: None,
        }))
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("farend-location-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn users(known: &[Change]) -> Vec<(u64, String)> {
        let user = |change: &Change| match change {
            Change::Put(record) => (record.id, record.user.clone()),
            Change::Remove(id) | Change::Moved { id, .. } => (*id, "removed".to_owned()),
        };
        known.iter().map(user).collect()
    }

    #[test]
    fn a_change_that_comes_alone_does_not_wait() {
        let journal = Journal(Arc::default());
        let began = Instant::now();
        journal.record(put(1, "a", 3600));
        assert_eq!(journal.next(None).unwrap().len(), 1);
        journal.record(put(1, "b", 3600));
        assert_eq!(journal.next(began.checked_sub(GATHER)).unwrap().len(), 1);
        assert!(began.elapsed() < GATHER, "{:?}", began.elapsed());
        let last = Instant::now();
        journal.record(put(1, "c", 3600));
        journal.record(put(2, "d", 3600));
        assert_eq!(journal.next(Some(last)).unwrap().len(), 2);
        assert!(last.elapsed() >= GATHER);
        // At the end nothing waits.
        journal.record(put(1, "e", 3600));
        journal.inbox().closed = true;
        let last = Instant::now();
        assert_eq!(journal.next(Some(last)).unwrap().len(), 1);
        assert!(last.elapsed() < GATHER && journal.next(Some(last)).is_none());
    }

    #[test]
    fn the_newest_of_each_phone_survives() {
        let folder = folder("newest");
        let (location, known) = Location::open(&folder).unwrap();
        assert_eq!(known, []);
        let journal = location.journal();
        for change in
            [put(1, "a", 3600), put(2, "b", 3600), put(3, "c", 0), put(1, "d", 3600), Change::Remove(2)]
        {
            journal.record(change);
        }
        drop(location);
        let (_location, known) = Location::open(&folder).unwrap();
        assert_eq!(users(&known), [(1, "d".to_owned())]);
        let Change::Put(record) = &known[0] else { panic!("{known:?}") };
        assert!((3500..=3600).contains(&record.expires_in), "{}", record.expires_in);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let folder = folder("growth");
        let (location, _) = Location::open(&folder).unwrap();
        let journal = location.journal();
        let path = folder.join("location.log");
        let length = || fs::read_to_string(&path).unwrap().lines().count();
        let mut log = Log {
            file: rewrite(&path, &BTreeMap::new()).unwrap(),
            path: path.clone(),
            lines: 0,
            live: 0,
            well: true,
        };
        for round in 0..3 * GROWTH {
            let line = Line::new(put(1, &round.to_string(), 3600), now());
            log.write(&HashMap::from([(1, line)])).unwrap();
            // Reading it all each time would take minutes.
            if round % 97 == 0 || round % GROWTH == GROWTH - 1 {
                assert!(length() <= GROWTH, "{} lines for one phone", length());
            }
        }
        drop((journal, location));
        let last = (3 * GROWTH - 1).to_string();
        assert_eq!(users(&Location::open(&folder).unwrap().1), [(1, last)]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn torn_lines_are_left_out_and_a_write_after_a_failure_begins_a_new_one() {
        let folder = folder("torn");
        let path = folder.join("location.log");
        let mut log = Log {
            file: rewrite(&path, &BTreeMap::new()).unwrap(),
            path: path.clone(),
            lines: 0,
            live: 0,
            well: false,
        };
        log.file.write_all(b"{\"until\":9999999").unwrap();
        log.write(&HashMap::from([(1, Line::new(put(1, "a", 60), now()))])).unwrap();
        let table = read(&path, now()).unwrap();
        assert_eq!(table.len(), 1);
        assert!(read(&path, now() + 61).unwrap().is_empty(), "its time is up");
        fs::remove_dir_all(&folder).unwrap();
    }
}
