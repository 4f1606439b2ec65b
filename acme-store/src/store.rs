//! What survives a restart: keys with their chains, and the credentials of ACME accounts.

use std::fmt;
use std::path::PathBuf;

use crate::certificate::{Credential, CredentialError};
use crate::import::ImportError;

/// A place that keeps credentials and ACME accounts by name.
///
/// A save is atomic: after a crash either the old or the new content is there, whole. Key and chain are one piece, so that they can
/// never belong to different generations.
pub trait Store: Send + Sync + 'static {
    /// The credential under `name`; `None` if there never was one.
    ///
    /// # Errors
    /// [`StoreError`]; what is damaged is an error, never `None`.
    fn credential(&self, name: &str) -> Result<Option<Credential>, StoreError>;

    /// Saves a credential in place of the former one.
    ///
    /// # Errors
    /// [`StoreError`]; the former one is then still there.
    fn save_credential(&self, name: &str, credential: &Credential) -> Result<(), StoreError>;

    /// The ACME account under `name`.
    ///
    /// # Errors
    /// [`StoreError`]; what is damaged is an error, never `None`.
    fn account(&self, name: &str) -> Result<Option<AccountSecret>, StoreError>;

    /// Saves an ACME account in place of the former one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn save_account(&self, name: &str, account: &AccountSecret) -> Result<(), StoreError>;
}

/// The credentials of an ACME account as JSON, with its private key. Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountSecret(pub String);

impl fmt::Debug for AccountSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountSecret(..)")
    }
}

/// Why the store failed. Each names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The name can't be a file name.
    #[error(
        "\"{0}\" can't be used as a name in the store (1 to 64 of a-z, A-Z, 0-9, '.', '_', '-'; no leading '.')"
    )]
    BadName(String),
    /// The operating system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// The file holds no credential.
    #[error("{}: damaged: {source}; move it away to start anew", path.display())]
    DamagedCredential {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ImportError,
    },
    /// Key and certificate of the file do not belong together.
    #[error("{}: damaged: {source}; move it away to start anew", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CredentialError,
    },
    /// The file holds no account.
    #[error("{}: damaged: {reason}; move it away to start anew", path.display())]
    DamagedAccount {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file can be read by others than its owner.
    #[error("{}: its mode {mode:03o} lets others read it; run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}
