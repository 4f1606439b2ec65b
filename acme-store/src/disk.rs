//! The store in a directory: `certificates/NAME.pem` (key and chain) and `accounts/NAME.json`.
//!
//! Files are written aside, synced and renamed, mode 0600 in directories of mode 0700. The PEM files are read by openssl as they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::certificate::Credential;
use crate::import::{self, ImportError};
use crate::key::Key;
use crate::store::{AccountSecret, Store, StoreError};

const MAX_FILE: u64 = 1 << 20;
static ASIDE: AtomicU32 = AtomicU32::new(0);

/// A [`Store`] in a directory. One process at a time may use it.
#[derive(Clone, Debug)]
pub struct Disk {
    certificates: PathBuf,
    accounts: PathBuf,
}

impl Disk {
    /// Opens or makes the directory and its two folders.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let disk =
            Self { certificates: directory.join("certificates"), accounts: directory.join("accounts") };
        for folder in [&disk.certificates, &disk.accounts] {
            let failed = |action| move |source| StoreError::Io { path: folder.clone(), action, source };
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("create"))?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed("set mode"))?;
            remove_left_over(folder).map_err(failed("tidy"))?;
        }
        Ok(disk)
    }

    fn credential_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        Ok(self.certificates.join(format!("{}.pem", checked(name)?)))
    }

    fn account_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        Ok(self.accounts.join(format!("{}.json", checked(name)?)))
    }
}

impl Store for Disk {
    fn credential(&self, name: &str) -> Result<Option<Credential>, StoreError> {
        let path = self.credential_path(name)?;
        let Some(content) = read(&path)? else { return Ok(None) };
        let damaged = |source| StoreError::DamagedCredential { path: path.clone(), source };
        // Not `import::credential`: that puts chains in order and refuses what has expired; here it is what it was.
        let (keys, certificates) = split(&content);
        let chain = import::chain(certificates.as_bytes()).map_err(damaged)?;
        let key = stored_key(&keys).map_err(damaged)?;
        Credential::new(key, chain)
            .map(Some)
            .map_err(|source| StoreError::Mismatch { path: path.clone(), source })
    }

    fn save_credential(&self, name: &str, credential: &Credential) -> Result<(), StoreError> {
        let path = self.credential_path(name)?;
        let text = format!("{}{}", credential.key().secret_pem(), credential.chain_pem());
        replace(&path, text.as_bytes())
    }

    fn account(&self, name: &str) -> Result<Option<AccountSecret>, StoreError> {
        let path = self.account_path(name)?;
        let Some(content) = read(&path)? else { return Ok(None) };
        match serde_json::from_str::<serde::de::IgnoredAny>(&content) {
            Ok(_) => Ok(Some(AccountSecret(content))),
            // The message of serde_json gives a position and no content.
            Err(error) => Err(StoreError::DamagedAccount { path, reason: error.to_string() }),
        }
    }

    fn save_account(&self, name: &str, account: &AccountSecret) -> Result<(), StoreError> {
        replace(&self.account_path(name)?, account.0.as_bytes())
    }
}

fn checked(name: &str) -> Result<&str, StoreError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(good) {
        Ok(name)
    } else {
        Err(StoreError::BadName(name.to_owned()))
    }
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), action: "read", source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Exposed { path: path.to_owned(), mode });
    }
    let mut content = String::new();
    file.take(MAX_FILE).read_to_string(&mut content).map_err(failed)?;
    Ok(Some(content))
}

/// Files that a crash left aside: never read, and they may hold a key.
fn remove_left_over(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes aside, syncs, renames, and syncs the directory, so that the name never stands for half a file.
fn replace(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    // Two certificates may share an account, so that two tasks write it at one time: each its own file aside.
    let number = ASIDE.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{number}.new", std::process::id()));
    let failed = |path: &Path, action| {
        let path = path.to_owned();
        move |source| StoreError::Io { path, action, source }
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed(&aside, "create"))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs::remove_file(&aside);
        return Err(failed(&aside, "write")(error));
    }
    fs::rename(&aside, path).map_err(failed(path, "rename"))?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder, "sync"))
}

/// The text of the keys and the text of the certificates.
fn split(content: &str) -> (String, String) {
    let mut parts = (String::new(), String::new());
    let mut in_key = true;
    for line in content.lines() {
        if line.starts_with("-----BEGIN ") {
            in_key = line.ends_with("PRIVATE KEY-----");
        }
        let part = if in_key { &mut parts.0 } else { &mut parts.1 };
        part.push_str(line);
        // Both parts keep all line ends, so that an error names the line of the file.
        parts.0.push('\n');
        parts.1.push('\n');
    }
    parts
}

fn stored_key(text: &str) -> Result<Key, ImportError> {
    let mut found = import::keys(text.as_bytes())?;
    match (found.pop(), found.is_empty()) {
        (Some(key), true) => Ok(key),
        (None, _) => Err(ImportError::NoKey),
        (Some(_), false) => Err(ImportError::TwoKeys { first: 1, second: 1 }),
    }
}

#[cfg(test)]
mod tests;
