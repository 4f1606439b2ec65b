//! The socket of the media process: one process serves it, and only its own user comes in.
//!
//! A file beside it, `….lock`, is locked for as long as its process lives, and says which that is. So a socket that a killed
//! process left is told from one that is served, and a process whose socket somebody has removed from one that is gone: it
//! makes the socket anew ([`Door::watch`]), and whoever would start another one waits for that.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use sdp_core::relay::wire::{self, Decoder, Hello, PREAMBLE, Received, ToRelay, WireError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use super::MediaProcessError;

/// How long somebody who connects may take to say who he is.
const HELLO: Duration = Duration::from_secs(5);
/// So many may be about to do so.
const GREETING: usize = 16;

/// Somebody may look whether the lock is held, which holds it for a moment: so often it is tried again,
const TRIES: usize = 5;
/// after so long.
const PAUSE: Duration = Duration::from_millis(20);

/// A file as the kernel knows it, whatever its name: device and inode.
type FileId = (u64, u64);

/// The socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The socket's file.
    bound: FileId,
    lock: Flock<File>,
}

/// Whether who looks for the socket finds ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is there.
    Ours,
    /// It was gone, and is there again.
    Anew,
    /// Another media process serves one of that name.
    Superseded,
    /// It can't be made again, for this reason.
    Barred(String),
}

/// Somebody who may come in.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) stream: UnixStream,
    pub(super) hello: Hello,
    /// Its process as the kernel knows it: what it says itself may be of another container.
    pub(super) pid: Option<i32>,
}

impl Door {
    /// Binds the socket. One that an earlier process left is replaced: the lock beside it says that there is none.
    pub(super) fn open(path: &Path) -> Result<Self, MediaProcessError> {
        let io = |error: io::Error| MediaProcessError::Socket { path: path.to_owned(), error };
        make_folder(path).map_err(io)?;
        foreign(path).map_err(io)?;
        let lock = lock(path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let (listener, bound) = bind(path).map_err(io)?;
        Ok(Self { listener, path: path.to_owned(), bound, lock })
    }

    /// Looks whether the socket still has its name, and makes it anew where that is free: without it no gateway could come
    /// any more, nor could another media process have the ports of our calls. What somebody else has put there stays.
    pub(super) fn watch(&mut self) -> Found {
        if file_id(&self.path) == Some(self.bound) {
            return Found::Ours;
        }
        match self.regain() {
            Ok(()) => Found::Anew,
            Err(MediaProcessError::Taken { .. }) => Found::Superseded,
            Err(error) => Found::Barred(error.to_string()),
        }
    }

    /// Why we end: see [`Found::Superseded`].
    pub(super) fn taken(&self) -> MediaProcessError {
        MediaProcessError::Taken { path: self.path.clone(), process: named(&self.path) }
    }

    fn regain(&mut self) -> Result<(), MediaProcessError> {
        let path = self.path.clone();
        let io = |error: io::Error| MediaProcessError::Socket { path: path.clone(), error };
        let held = self.lock.metadata().map_err(io)?;
        if file_id(&lock_path(&path)) != Some((held.dev(), held.ino())) {
            // The folder was swept: a lock without a name keeps nobody out.
            make_folder(&path).map_err(io)?;
            self.lock = lock(&path)?;
        }
        if file_id(&path).is_some() {
            let why = "somebody else has put a file there";
            return Err(io(io::Error::new(io::ErrorKind::AlreadyExists, why)));
        }
        (self.listener, self.bound) = bind(&path).map_err(io)?;
        Ok(())
    }

    /// Takes whoever connects, until nobody wants callers.
    pub(super) fn greet(
        stream: UnixStream,
        greeting: &std::sync::Arc<tokio::sync::Semaphore>,
        to: &mpsc::Sender<Caller>,
    ) {
        let Ok(place) = greeting.clone().try_acquire_owned() else {
            return warn!("too many connect to the media process at once");
        };
        let to = to.clone();
        tokio::spawn(async move {
            match timeout(HELLO, hello(stream)).await {
                Ok(Ok(caller)) => drop(to.send(caller).await),
                Ok(Err(refused)) => warn!(%refused, "somebody at the media process's socket is turned away"),
                Err(_) => warn!("somebody at the media process's socket is silent"),
            }
            drop(place);
        });
    }

    /// Places for those who are about to say who they are.
    pub(super) fn places() -> std::sync::Arc<tokio::sync::Semaphore> {
        std::sync::Arc::new(tokio::sync::Semaphore::new(GREETING))
    }
}

/// Refuses a path where something else than a socket is: it is somebody's, and would be taken out of the way.
///
/// # Errors
/// Such a file (`AlreadyExists`), or the operating system's.
pub(crate) fn foreign(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file is there that is no socket: give another path",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file beside a socket that its process has locked.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn file_id(path: &Path) -> Option<FileId> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    umask(Mode::from_bits_truncate(0o077));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn bind(path: &Path) -> io::Result<(UnixListener, FileId)> {
    // Whatever this process makes is its user's alone.
    umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path)?;
    let bound = file_id(path).ok_or(io::ErrorKind::NotFound)?;
    Ok((listener, bound))
}

/// Takes the lock beside the socket, and writes down who has it.
fn lock(path: &Path) -> Result<Flock<File>, MediaProcessError> {
    let io = |error: io::Error| MediaProcessError::Socket { path: path.to_owned(), error };
    umask(Mode::from_bits_truncate(0o177));
    let options = || File::options().write(true).create(true).truncate(false).open(lock_path(path));
    let mut file = options().map_err(io)?;
    for _ in 0..TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0).map_err(io)?;
                lock.write_all(std::process::id().to_string().as_bytes()).map_err(io)?;
                return Ok(lock);
            }
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, error)) => return Err(io(error.into())),
        };
        std::thread::sleep(PAUSE);
    }
    Err(MediaProcessError::Taken { path: path.to_owned(), process: named(path) })
}

/// The process that the lock beside a socket names; 0: none.
fn named(path: &Path) -> u32 {
    let text = std::fs::read_to_string(lock_path(path)).unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// The media process that lives and has this socket, whether it can be reached or not; 0 for one that did not say which.
pub(crate) fn holder(path: &Path) -> Option<u32> {
    let file = File::open(lock_path(path)).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Some(named(path)),
        _ => None,
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Before the lock goes; one that somebody else has made since stays.
        if file_id(&self.path) == Some(self.bound) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why somebody is turned away.
#[derive(Debug, thiserror::Error)]
enum TurnedAway {
    #[error("user {0} is not ours")]
    User(u32),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("no hello first")]
    Rude,
    #[error(transparent)]
    Io(#[from] io::Error),
}

async fn hello(mut stream: UnixStream) -> Result<Caller, TurnedAway> {
    let peer = stream.peer_cred()?;
    let (uid, pid) = (peer.uid(), peer.pid());
    if uid != geteuid().as_raw() {
        return Err(TurnedAway::User(uid));
    }
    // Also to one of another version, so that it can name ours.
    stream.write_all(&wire::preamble()).await?;
    let mut preamble = [0; PREAMBLE];
    stream.read_exact(&mut preamble).await?;
    wire::read_preamble(preamble)?;
    // Octet by octet: what follows the hello is for others to read.
    let mut decoder = Decoder::<ToRelay>::default();
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let octets = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if octets > 65_536 {
        return Err(WireError::TooLong { octets }.into());
    }
    let mut body = vec![0; octets];
    stream.read_exact(&mut body).await?;
    decoder.handle_octets(&length);
    decoder.handle_octets(&body);
    match decoder.poll_message()? {
        Some(Received::Message(ToRelay::Hello(hello))) => Ok(Caller { stream, hello, pid }),
        _ => Err(TurnedAway::Rude),
    }
}

#[cfg(test)]
mod tests;
