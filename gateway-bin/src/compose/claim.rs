//! One process at a time uses a state folder: two would write over each other's registrations and certificates.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The state folder can't be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error("{}: another farend runs on this state_dir", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The folder is ours until this is dropped, or the process ends however it ends.
pub(crate) struct Claim {
    _lock: Flock<File>,
}

impl Claim {
    pub(crate) fn new(state_dir: &Path) -> Result<Self, ClaimError> {
        let io = |error| ClaimError::Io { path: state_dir.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(io)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(state_dir.join("lock")).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // For those who want to tell us something, see `tell_to_rotate`.
                lock.set_len(0).map_err(io)?;
                lock.write_all(std::process::id().to_string().as_bytes()).map_err(io)?;
                Ok(Self { _lock: lock })
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(ClaimError::Taken { path: state_dir.to_owned() }),
            Err((_, error)) => Err(io(error.into())),
        }
    }
}

/// Sends SIGUSR1 to the process that has the folder: make a new key now. Its id; `None` when it can't be told, as one of an
/// earlier version, which that signal would end.
pub(super) fn tell_to_rotate(state_dir: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(state_dir.join("lock")).ok()?;
    let process: i32 = text.parse().ok().filter(|process| *process > 1)?;
    kill(Pid::from_raw(process), Signal::SIGUSR1).ok()?;
    Some(process)
}
