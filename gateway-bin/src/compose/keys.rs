//! The keys of routing tokens: kept in the state folder, changed in time, each kept for as long as a phone needs it
//! (SIP-12).
//!
//! `token.key` holds one line a key, the newest last: its number, when it was made (seconds of 1970), and the secret. A
//! file of 32 bytes is one key, number 1, as earlier versions wrote it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use sip_core::token::{Key, Keyring};

use super::aside;
use super::claim::{self, Claim, ClaimError};

/// The most keys at a time: numbers are one octet.
const MOST: usize = 255;
/// How long a key stays after it was followed by another, for calls and subscriptions of phones that left meanwhile.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// The longest file: all keys, with room for long numbers.
const LONGEST: u64 = 64 * 1024;

/// The key file can't be used. The gateway does not start then: with new keys, no token that the PBX holds
/// would be known any more (SIP-12).
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its content is no key.
    #[error("{}: line {line}: not a key; restore the file, or remove it to have every phone register anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// Others may read it.
    #[error("{}: readable by others than its owner: expected mode 0600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// Every number is taken.
    #[error("{}: there are {MOST} keys that phones still need", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The state folder is in use by something that can't be told.
    #[error("state: {0}")]
    Claim(#[from] ClaimError),
}

/// All keys, as the file has them.
pub(crate) struct Keys {
    path: PathBuf,
    older: Vec<Row>,
    newest: Row,
}

#[derive(Clone)]
struct Row {
    id: u8,
    /// Seconds of 1970.
    made: u64,
    secret: [u8; 32],
}

impl Keys {
    /// The keys in `state_dir`; the first one is made at the first start.
    pub(crate) fn load(state_dir: &Path) -> Result<Self, KeyError> {
        let path = state_dir.join("token.key");
        let io = |error| KeyError::Io { path: path.clone(), error };
        match File::open(&path) {
            Ok(file) => {
                let about = file.metadata().map_err(io)?;
                if about.permissions().mode() & 0o077 != 0 {
                    return Err(KeyError::Open { path });
                }
                let written = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let mut text = Vec::new();
                file.take(LONGEST).read_to_end(&mut text).map_err(io)?;
                let rows = rows(&text, written.unwrap_or_default().as_secs());
                let damaged = |line| KeyError::Damaged { path: path.clone(), line };
                let mut older = rows.map_err(damaged)?;
                let newest = older.pop().ok_or_else(|| damaged(1))?;
                Ok(Self { path, older, newest })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let newest = Row { id: 1, made: now(), secret: super::seed().map_err(io)? };
                let keys = Self { path: path.clone(), older: Vec::new(), newest };
                keys.write()?;
                Ok(keys)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// As the machine takes them.
    pub(crate) fn ring(&self) -> Keyring {
        let key = |row: &Row| Key::new(row.id, row.secret);
        Keyring::new(key(&self.newest), self.older.iter().map(key).collect())
    }

    /// The number of the newest key.
    pub(crate) fn newest(&self) -> u8 {
        self.newest.id
    }

    /// Whether the newest key is older than `rotation`. One from the future is not: the clock was wrong, then or now.
    pub(crate) fn is_due(&self, rotation: Duration) -> bool {
        now().saturating_sub(self.newest.made) >= rotation.as_secs()
    }

    /// Makes a new key. The file has it before anybody uses it.
    pub(crate) fn rotate(&mut self) -> Result<(), KeyError> {
        let taken = |id: &u8| self.newest.id == *id || self.older.iter().any(|row| row.id == *id);
        let after = (self.newest.id..=u8::MAX).chain(1..self.newest.id);
        let Some(id) = after.filter(|id| *id != 0).find(|id| !taken(id)) else {
            return Err(KeyError::Full { path: self.path.clone() });
        };
        let secret = super::seed().map_err(|error| KeyError::Io { path: self.path.clone(), error })?;
        let before = self.newest.clone();
        self.older.push(std::mem::replace(&mut self.newest, Row { id, made: now(), secret }));
        self.write().inspect_err(|_| {
            self.older.pop();
            self.newest = before;
        })
    }

    /// Deletes older keys that no phone was born with (`needed` are those that some were) and that were followed by another
    /// long enough ago. How many.
    pub(crate) fn forget(&mut self, needed: &[u8]) -> Result<usize, KeyError> {
        let long_ago = now().saturating_sub(GRACE.as_secs());
        let followed: Vec<u64> =
            self.older.iter().skip(1).chain([&self.newest]).map(|next| next.made).collect();
        let before = self.older.clone();
        let mut followed = followed.into_iter();
        self.older.retain(|row| {
            let followed = followed.next();
            needed.contains(&row.id) || followed.is_none_or(|followed| followed > long_ago)
        });
        let gone = before.len() - self.older.len();
        if gone > 0 {
            self.write().inspect_err(|_| self.older = before)?;
        }
        Ok(gone)
    }

    fn write(&self) -> Result<(), KeyError> {
        let mut text = String::new();
        for row in self.older.iter().chain([&self.newest]) {
            text.push_str(&format!("{} {} {}\n", row.id, row.made, HEXLOWER.encode(&row.secret)));
        }
        let io = |error| KeyError::Io { path: self.path.clone(), error };
        aside::replace(&self.path, text.as_bytes()).map(drop).map_err(io)
    }
}

/// What `farend keys rotate` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The gateway with this process id was told to.
    Told(i32),
    /// None runs: the file has a new key, of this number.
    Made(u8),
}

/// Makes a new key for routing tokens: the gateway that runs on `state_dir` does it, or it is done here if none runs.
///
/// # Errors
/// [`KeyError`]; then the keys are as they were.
pub fn rotate(state_dir: &Path) -> Result<Rotation, KeyError> {
    match Claim::new(state_dir) {
        Ok(_claim) => {
            let mut keys = Keys::load(state_dir)?;
            keys.rotate()?;
            Ok(Rotation::Made(keys.newest()))
        }
        Err(taken @ ClaimError::Taken { .. }) => match claim::tell_to_rotate(state_dir) {
            Some(process) => Ok(Rotation::Told(process)),
            None => Err(taken.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The keys of a file, or the number of the line that is none.
fn rows(text: &[u8], written: u64) -> Result<Vec<Row>, usize> {
    if let Ok(secret) = <[u8; 32]>::try_from(text) {
        return Ok(vec![Row { id: 1, made: written, secret }]);
    }
    let text = std::str::from_utf8(text).map_err(|_| 1_usize)?;
    let mut rows: Vec<Row> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let row = row(line).filter(|row| row.id != 0 && rows.iter().all(|known| known.id != row.id));
        rows.push(row.ok_or(at + 1)?);
    }
    Ok(rows)
}

fn row(line: &str) -> Option<Row> {
    let mut words = line.split(' ');
    let (id, made, secret) = (words.next()?, words.next()?, words.next()?);
    let secret = HEXLOWER.decode(secret.as_bytes()).ok()?.try_into().ok()?;
    words.next().is_none().then_some(Row { id: id.parse().ok()?, made: made.parse().ok()?, secret })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("farend-keys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn token(keys: &Keys) -> String {
        keys.ring().contact_token("realm", "08000FD4CBBF")
    }

    fn put(folder: &Path, text: &[u8]) {
        fs::write(folder.join("token.key"), text).unwrap();
        fs::set_permissions(folder.join("token.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn keys_stay_the_same_and_a_damaged_file_is_no_reason_for_new_ones() {
        let folder = folder("same");
        let first = token(&Keys::load(&folder).unwrap());
        assert_eq!(token(&Keys::load(&folder).unwrap()), first);
        let good = fs::read_to_string(folder.join("token.key")).unwrap();
        let twice = format!("{good}{good}");
        for (bad, at) in [
            ("", 1),
            ("short", 1),
            ("1 2 3\n", 1),
            ("0 1 00\n", 1),
            (&good[..40], 1),
            (&twice, 2),
            ("\u{0}", 1),
        ] {
            put(&folder, bad.as_bytes());
            assert!(
                matches!(Keys::load(&folder), Err(KeyError::Damaged { line, .. }) if line == at),
                "{bad:?}"
            );
        }
        put(&folder, good.as_bytes());
        fs::set_permissions(folder.join("token.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keys::load(&folder), Err(KeyError::Open { .. })));
        fs::remove_file(folder.join("token.key")).unwrap();
        fs::create_dir(folder.join("token.key")).unwrap();
        fs::set_permissions(folder.join("token.key"), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(Keys::load(&folder), Err(KeyError::Io { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_file_of_earlier_versions_is_one_key() {
        let folder = folder("earlier");
        put(&folder, &[7; 32]);
        let mut keys = Keys::load(&folder).unwrap();
        let before = Keyring::new(Key::new(1, [7; 32]), vec![]).contact_token("realm", "08000FD4CBBF");
        assert_eq!(token(&keys), before);
        assert!(!keys.is_due(Duration::from_secs(60)));
        keys.rotate().unwrap();
        let keys = Keys::load(&folder).unwrap();
        assert_eq!((keys.newest(), keys.ring().older().collect::<Vec<_>>()), (2, vec![1]));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_key_goes_when_nobody_needs_it_and_it_was_followed_long_ago() {
        let folder = folder("forget");
        let long_ago = now() - 2 * GRACE.as_secs();
        let secret = HEXLOWER.encode(&[9; 32]);
        let text = [(1, long_ago), (2, long_ago), (3, long_ago), (4, now() - 60), (5, now())]
            .map(|(id, made)| format!("{id} {made} {secret}\n"));
        put(&folder, text.concat().as_bytes());
        let mut keys = Keys::load(&folder).unwrap();
        let older = |keys: &Keys| keys.ring().older().collect::<Vec<_>>();
        // 3 was followed a minute ago, 4 just now.
        assert_eq!(keys.forget(&[1, 2, 5]).unwrap(), 0);
        assert_eq!(keys.forget(&[2, 5]).unwrap(), 1);
        assert_eq!(older(&keys), [2, 3, 4]);
        assert_eq!(keys.forget(&[]).unwrap(), 1);
        assert_eq!(older(&Keys::load(&folder).unwrap()), [3, 4]);
        assert_eq!(keys.newest(), 5);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn numbers_come_round_and_run_out() {
        let folder = folder("numbers");
        let mut keys = Keys::load(&folder).unwrap();
        for n in 2..=MOST {
            keys.rotate().unwrap();
            assert_eq!(usize::from(keys.newest()), n);
        }
        assert!(matches!(keys.rotate(), Err(KeyError::Full { .. })));
        assert_eq!(usize::from(keys.newest()), MOST);
        keys.older.retain(|row| row.id != 7);
        keys.rotate().unwrap();
        assert_eq!(Keys::load(&folder).unwrap().newest(), 7);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_key_is_due_by_its_age() {
        let folder = folder("due");
        let secret = HEXLOWER.encode(&[9; 32]);
        for (made, due) in [(now() - 100, true), (now() - 50, false), (now() + 5000, false)] {
            put(&folder, format!("1 {made} {secret}\n").as_bytes());
            assert_eq!(Keys::load(&folder).unwrap().is_due(Duration::from_secs(90)), due);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_without_a_gateway_is_rotated_here() {
        let folder = folder("here");
        assert_eq!(rotate(&folder).unwrap(), Rotation::Made(2));
        assert_eq!(Keys::load(&folder).unwrap().newest(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
