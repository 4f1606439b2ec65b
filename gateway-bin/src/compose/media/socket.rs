//! Reaching the media process: the connection, and starting one where nobody answers.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use sdp_core::anchor::Left;
use sdp_core::relay::wire::{
    self, Decoder, FromRelay, Hello, Instance, PREAMBLE, Received, Setup, ToRelay, Welcome, WireError,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::config::LogSettings;
use crate::media::{foreign, holder};

/// Commands that wait for the media process, at most; more, and it counts as dead.
const WAITING: usize = 65_536;
/// Messages of the media process that wait for us; then it waits, and after so many of its own lets us go.
const UNREAD: usize = 1_024;
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long one that we started may take to be there.
const START: Duration = Duration::from_secs(10);
/// How often we look.
const LOOK: Duration = Duration::from_millis(20);
/// Octets read or written at once.
const CHUNK: usize = 65_536;

/// The media process can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody answers at the socket.
    #[error("{}: nobody answers", .0.display())]
    Nobody(PathBuf),
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else's socket.
    #[error("{}: it belongs to the user with id {uid}, we are another: run both as one user", path.display())]
    User {
        /// The socket.
        path: PathBuf,
        /// The owner of the process behind it.
        uid: u32,
    },
    /// What came can't be understood; of another version, for one.
    #[error("{}: {error}; end the media process there (its calls lose their audio), and the new one is started", path.display())]
    Wire {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: WireError,
    },
    /// It does not take us.
    #[error("{}: the media process refuses: {reason}", path.display())]
    Declined {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{}: the media process does not answer", .0.display())]
    Silent(PathBuf),
    /// It ended before it answered.
    #[error(
        "the media process ended as soon as it was started ({how}): its own line in the log says why, if it had the time"
    )]
    Stillborn {
        /// Its exit code or signal.
        how: String,
    },
    /// It ended, or let us go, before we had what we need of it.
    #[error("{}: the media process ended while we were about to start with it", .0.display())]
    Ended(PathBuf),
    /// There is one, but nobody gets to it.
    #[error("{0}: nobody answers, yet the media process {process} lives and has it (it holds {0}.lock): end that process (its calls lose their audio), and a new one is started", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The process; 0: it did not say.
        process: u32,
    },
    /// It can't be started.
    #[error("the media process can't be started: {0}")]
    Spawn(io::Error),
}

/// How to reach the media process, or to start it.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) path: PathBuf,
    /// This program. Asked for early: its file may be replaced while we run.
    program: PathBuf,
    log: LogSettings,
    setup: Setup,
}

/// A media process that took us.
#[derive(Debug)]
pub(super) struct Connection {
    /// Until somebody has taken it: whoever has it ends the connection by letting go.
    commands: Option<mpsc::Sender<ToRelay>>,
    pub(super) messages: mpsc::Receiver<FromRelay>,
    pub(super) welcome: Welcome,
    /// Whether we have started it just now.
    pub(super) started: bool,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The writer ends with its queue, when all is written.
        self.reader.abort();
    }
}

impl Socket {
    pub(super) fn new(path: PathBuf, log: LogSettings, setup: Setup) -> Result<Self, LinkError> {
        let program = std::env::current_exe().map_err(LinkError::Spawn)?;
        Ok(Self { path, program, log, setup })
    }

    /// The media process that answers, or one that is started now; and what it has. One that lives and does not answer is
    /// waited for: it has the ports, and makes its socket anew where that was removed.
    pub(super) async fn reach(&self) -> Result<(Connection, Left), LinkError> {
        let until = Instant::now() + START;
        let mut waited = false;
        loop {
            match self.connect().await {
                Err(LinkError::Nobody(_)) => {}
                reached => return reached,
            }
            let Some(process) = holder(&self.path) else { break };
            if Instant::now() >= until {
                return Err(LinkError::Unreachable { path: self.path.clone(), process });
            }
            if !std::mem::replace(&mut waited, true) {
                let socket = self.path.display();
                warn!(process, %socket, "a media process lives whose socket is gone: it is waited for");
            }
            sleep(LOOK).await;
        }
        self.start().await
    }

    async fn start(&self) -> Result<(Connection, Left), LinkError> {
        let child = self.spawn()?;
        let until = Instant::now() + START;
        loop {
            // Asked first: one that ends after it was reached is no reason to look again.
            let gone = child.is_finished();
            match self.connect().await {
                Err(LinkError::Nobody(_)) if gone => {
                    let how = child.join().ok().flatten().map(|status| status.to_string());
                    return Err(LinkError::Stillborn { how: how.unwrap_or_else(|| "unknown".to_owned()) });
                }
                Err(LinkError::Nobody(_)) if Instant::now() < until => sleep(LOOK).await,
                Ok((mut connection, left)) => {
                    connection.started = true;
                    return Ok((connection, left));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a media process. It leaves our session, so that what ends us does not end it. The thread lasts as long as it does.
    fn spawn(&self) -> Result<JoinHandle<Option<ExitStatus>>, LinkError> {
        let format = if self.log.json { "json" } else { "text" };
        let mut command = Command::new(&self.program);
        command.args([
            "media",
            "--spawned",
            "--log-format",
            format,
            "--log-level",
            &self.log.level,
            "--socket",
        ]);
        command.arg(&self.path).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().map_err(LinkError::Spawn)?;
        info!(process = child.id(), socket = %self.path.display(), "a media process is started");
        let wait = move || {
            let ended = child.wait();
            match &ended {
                Ok(status) if status.success() => info!("the media process has ended"),
                Ok(status) => warn!(%status, "the media process has ended"),
                Err(error) => warn!(%error, "the media process can't be waited for"),
            }
            ended.ok()
        };
        std::thread::Builder::new().name("media-child".into()).spawn(wait).map_err(LinkError::Spawn)
    }

    /// The media process that answers, and what it has.
    pub(super) async fn connect(&self) -> Result<(Connection, Left), LinkError> {
        match timeout(ANSWER, self.greet()).await {
            Ok(result) => result,
            Err(_) => Err(LinkError::Silent(self.path.clone())),
        }
    }

    async fn greet(&self) -> Result<(Connection, Left), LinkError> {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LinkError::Nobody(self.path.clone())
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                LinkError::Ended(self.path.clone())
            }
            _ => LinkError::Io { path: self.path.clone(), error },
        };
        // Nobody would be found there, and one that is started refuses it.
        foreign(&self.path).map_err(io)?;
        let wire = |error| LinkError::Wire { path: self.path.clone(), error };
        let mut stream = UnixStream::connect(&self.path).await.map_err(io)?;
        let uid = stream.peer_cred().map_err(io)?.uid();
        if uid != geteuid().as_raw() {
            return Err(LinkError::User { path: self.path.clone(), uid });
        }
        let mut out = wire::preamble().to_vec();
        let hello = Hello { instance: instance(), setup: self.setup.clone() };
        wire::encode(&ToRelay::Hello(hello), &mut out).map_err(wire)?;
        stream.write_all(&out).await.map_err(io)?;
        let mut preamble = [0; PREAMBLE];
        stream.read_exact(&mut preamble).await.map_err(io)?;
        wire::read_preamble(preamble).map_err(wire)?;

        let (read, write) = stream.into_split();
        let (told, mut messages) = mpsc::channel(UNREAD);
        let reader = tokio::spawn(receive(read, told)).abort_handle();
        let (commands, queue) = mpsc::channel(WAITING);
        tokio::spawn(deliver(write, queue));
        let gone = || io(io::ErrorKind::UnexpectedEof.into());
        let welcome = match messages.recv().await.ok_or_else(gone)? {
            FromRelay::Welcome(welcome) => welcome,
            FromRelay::Declined { reason } => {
                return Err(LinkError::Declined { path: self.path.clone(), reason });
            }
            _ => return Err(gone()),
        };
        let commands = Some(commands);
        let mut connection = Connection { commands, messages, welcome, started: false, reader };
        let mut left = Left::default();
        loop {
            if let FromRelay::Report(report) = connection.messages.recv().await.ok_or_else(gone)?
                && left.add(report)
            {
                return Ok((connection, left));
            }
        }
    }
}

impl Connection {
    /// Where commands go; once. The connection ends with it, when all is written.
    pub(super) fn take_commands(&mut self) -> Option<mpsc::Sender<ToRelay>> {
        self.commands.take()
    }

    /// Ends a media process that hangs, if a gateway has started it: nobody else would.
    pub(super) fn end_by_force(&self) {
        let process = i32::try_from(self.welcome.instance.process).ok().filter(|process| *process > 1);
        if let (true, Some(process)) = (self.welcome.spawned, process) {
            warn!(process, "the media process that hangs is killed");
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
}

/// This process.
pub(crate) fn instance() -> Instance {
    Instance { process: std::process::id(), program: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Reads messages until the connection ends, or nobody wants them.
pub(crate) async fn receive<T: serde::de::DeserializeOwned>(mut from: OwnedReadHalf, to: mpsc::Sender<T>) {
    let (mut decoder, mut chunk) = (Decoder::default(), vec![0; CHUNK]);
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        decoder.handle_octets(chunk.get(..count).unwrap_or_default());
        loop {
            match decoder.poll_message() {
                Ok(None) => break,
                Ok(Some(Received::Message(message))) => {
                    if to.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(Some(Received::Unreadable { reason })) => {
                    warn!(reason, "a message between signalling and media is of another version: skipped");
                }
                Err(error) => return warn!(%error, "the connection between signalling and media ends"),
            }
        }
    }
}

/// Writes messages until there is nobody to send them, or nobody to read them; what waits together leaves together.
pub(crate) async fn deliver<T: serde::Serialize>(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<T>) {
    let mut out = Vec::with_capacity(CHUNK);
    while let Some(message) = queue.recv().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if let Err(error) = wire::encode(&message, &mut out) {
                warn!(%error, "a message between signalling and media is lost");
            }
            next = if out.len() < CHUNK { queue.try_recv().ok() } else { None };
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(folder: &std::path::Path, program: &str) -> Socket {
        let log = LogSettings { json: false, level: "info".into() };
        let setup = Setup {
            outside: Default::default(),
            inside: Default::default(),
            ports: 20_000..=20_099,
            workers: 0,
            dscp: 0,
        };
        Socket { path: folder.join("media.sock"), program: program.into(), log, setup }
    }

    #[tokio::test]
    async fn one_that_ends_at_once_is_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("farend-stillborn-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let began = Instant::now();
        let reached = socket(&folder, "/bin/false").reach().await;
        assert!(
            matches!(&reached, Err(LinkError::Stillborn { how }) if how == "exit status: 1"),
            "{reached:?}"
        );
        assert!(began.elapsed() < START / 2, "{:?}", began.elapsed());
        // A file that is somebody's: said at once, and left alone.
        std::fs::write(folder.join("media.sock"), "precious").unwrap();
        let refused = socket(&folder, "/bin/false").reach().await.unwrap_err().to_string();
        assert!(refused.ends_with("a file is there that is no socket: give another path"), "{refused}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_lives_and_cannot_be_reached_is_named_and_no_second_one_is_started() {
        let folder = std::env::temp_dir().join(format!("farend-unreachable-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let lock = folder.join("media.sock.lock");
        std::fs::write(&lock, "4711").unwrap();
        let file = std::fs::File::open(&lock).unwrap();
        let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
        // One that would be started ends at once: `Stillborn`.
        let refused = socket(&folder, "/bin/false").reach().await.unwrap_err();
        assert!(matches!(refused, LinkError::Unreachable { process: 4711, .. }), "{refused:?}");
        let path = folder.join("media.sock");
        let expected = format!(
            "{0}: nobody answers, yet the media process 4711 lives and has it (it holds {0}.lock)",
            path.display()
        );
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        drop(held);
        // Its end is awaited in the world's time.
        tokio::time::resume();
        let reached = socket(&folder, "/bin/false").reach().await;
        assert!(matches!(reached, Err(LinkError::Stillborn { .. })), "{reached:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn one_that_ends_in_the_middle_of_the_start_is_named() {
        let folder = std::env::temp_dir().join(format!("farend-midway-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = tokio::net::UnixListener::bind(folder.join("media.sock")).unwrap();
        for greets in [false, true] {
            let killed = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                if greets {
                    stream.write_all(&wire::preamble()).await.unwrap();
                }
            };
            let reaching = socket(&folder, "/bin/false");
            let (reached, ()) = tokio::join!(reaching.reach(), killed);
            let why = reached.unwrap_err().to_string();
            let expected = "media.sock: the media process ended while we were about to start with it";
            assert!(why.ends_with(expected), "{why}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn whoever_lets_go_of_the_queue_ends_the_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (read, write) = ours.into_split();
        let (told, messages) = mpsc::channel(1);
        let (commands, queue) = mpsc::channel(4);
        tokio::spawn(deliver(write, queue));
        let reader = tokio::spawn(receive(read, told)).abort_handle();
        let welcome = Welcome { instance: instance(), spawned: false };
        let commands = Some(commands);
        let mut connection = Connection { commands, messages, welcome, started: false, reader };
        let queue = connection.take_commands().unwrap();
        queue.try_send(ToRelay::Ask).unwrap();
        drop(queue);
        let mut all = Vec::new();
        let end = timeout(Duration::from_secs(5), theirs.read_to_end(&mut all)).await;
        assert!(end.is_ok() && !all.is_empty(), "what was queued, and the end");
        drop(theirs);
        let heard = timeout(Duration::from_secs(5), connection.messages.recv()).await;
        assert_eq!(heard, Ok(None), "who keeps the connection hears of it");
    }
}
