//! The socket of the media process: one process serves it, and only its own user comes in.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
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

/// The socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: UnixListener,
    path: PathBuf,
    _lock: Flock<File>,
}

/// Somebody who may come in.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) stream: UnixStream,
    pub(super) hello: Hello,
}

impl Door {
    /// Binds the socket. One that an earlier process left is replaced: the lock beside it says that there is none.
    pub(super) fn open(path: &Path) -> Result<Self, MediaProcessError> {
        let io = |error: io::Error| MediaProcessError::Socket { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        }
        foreign(path).map_err(io)?;
        // Whatever this process makes is its user's alone.
        umask(Mode::from_bits_truncate(0o177));
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let file = File::options().write(true).create(true).truncate(false).open(name).map_err(io)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(MediaProcessError::Taken { path: path.to_owned() }),
            Err((_, error)) => return Err(io(error.into())),
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
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

impl Drop for Door {
    fn drop(&mut self) {
        // Before the lock goes: nobody else can have made it.
        let _ = std::fs::remove_file(&self.path);
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
    let uid = stream.peer_cred()?.uid();
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
        Some(Received::Message(ToRelay::Hello(hello))) => Ok(Caller { stream, hello }),
        _ => Err(TurnedAway::Rude),
    }
}
