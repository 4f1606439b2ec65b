//! `farend media`: the relay as a process of its own (decision 13). It owns the sockets of all calls, parses packet headers and
//! nothing else, and outlives signalling, which tells it over a Unix socket what to do and takes its sessions over when it
//! comes anew.
//!
//! It reads no configuration: addresses and ports come with the hello of the signalling process. So it needs no secret, there
//! is one place where settings are judged, and the two can't disagree.
//!
//! - `door`: the socket, and who may come in,
//! - `host`: the relay and its one guest,
//! - `census`: which sessions there are, and how long they may last without signalling.

mod census;
mod door;
mod host;

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use self::door::Door;
pub(crate) use self::door::{foreign, holder};
use self::host::Host;

/// Why the media process did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaProcessError {
    /// Its socket.
    #[error("{}: {error}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another one serves the socket.
    #[error("{}: another media process ({process}) serves this socket", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Which.
        process: u32,
    },
    /// The relay's thread ended by itself: a fault of the program.
    #[error("the relay has ended by itself: this is a fault of the program, please report it")]
    Relay,
    /// The operating system refused.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

/// Serves `socket` until SIGTERM or SIGINT; one that a gateway has `spawned` also ends when it has nothing to do. A second
/// signalling process takes the place of the first.
///
/// # Errors
/// [`MediaProcessError`].
pub fn serve(socket: &Path, spawned: bool) -> Result<(), MediaProcessError> {
    // Out of the session of whoever started us: what ends that one does not end us. A leader, as a service, is out already.
    let _ = nix::unistd::setsid();
    crate::compose::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // A terminal that closes is no reason to end, nor is `pkill -HUP farend`.
        let _hangup = signal(SignalKind::hangup())?;
        // Meant for the gateway by whoever named both by their name, `pkill -USR1 farend`.
        let _rotate = signal(SignalKind::user_defined1())?;
        let door = Door::open(socket)?;
        info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "the media process runs");
        ready();
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Host::serve(door, spawned, stop).await
    })
}

/// Tells the service manager, if one asked (sd_notify(3)).
fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = path.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = told {
        warn!(%error, "the service manager can't be told that the media process runs");
    }
}
