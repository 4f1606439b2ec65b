//! The serving end of the status channel. Apart from signalling and media: a client that is slow, or asks without end, holds
//! up nobody but itself.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{Answer, Ask, REQUEST, Request, SOCKET, Said, Summary, SwitchStatus, VERSION};
use crate::compose::{Calls, Pulse};

/// Clients at once; a further one is told so.
const CLIENTS: usize = 8;
/// How long a client may take to ask.
const ASKING: Duration = Duration::from_secs(2);
/// How long a client may take to read.
const READING: Duration = Duration::from_secs(10);
/// How long signalling may take to tell its state.
const PATIENCE: Duration = Duration::from_secs(3);
/// Signalling is asked for its state no more often.
const FRESH: Duration = Duration::from_secs(1);
/// After an error of accept, such as too many descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Who answers.
pub(crate) struct Desk {
    /// The calls; `None` without a relay.
    pub(crate) calls: Option<Calls>,
    /// Signalling's state.
    pub(crate) pulse: Pulse,
}

/// The socket that is served; it goes with this value.
#[derive(Debug)]
pub(crate) struct Serving {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
        // Whoever comes now is told that nobody is there.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Serving {
    /// Serves status in `state_dir`, which is ours alone. Without it the gateway runs as well: `None` is logged.
    pub(crate) fn start(state_dir: &Path, desk: Desk) -> Option<Self> {
        let path = state_dir.join(SOCKET);
        match bind(&path) {
            Ok(listener) => {
                Some(Self { path, task: tokio::spawn(serve(listener, Arc::new(Office::new(desk)))) })
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "no status can be asked for");
                None
            }
        }
    }
}

/// A socket for its owner only.
fn bind(path: &Path) -> io::Result<UnixListener> {
    crate::media::foreign(path)?;
    // What a process that was killed left behind.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before it has a name: the name gets these rights (Linux), and nobody connects in between.
    fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(16)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())
}

/// The desk with what it remembers between two clients.
struct Office {
    desk: Desk,
    started: Instant,
    /// The last state of signalling, and when it was told.
    known: Mutex<Option<(Instant, Summary)>>,
    seats: Arc<Semaphore>,
}

impl Office {
    #[allow(clippy::disallowed_methods, reason = "the clock of the status channel")]
    fn new(desk: Desk) -> Self {
        let seats = Arc::new(Semaphore::new(CLIENTS));
        Self { desk, started: Instant::now(), known: Mutex::new(None), seats }
    }
}

async fn serve(listener: UnixListener, office: Arc<Office>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "status");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(seat) = office.seats.clone().try_acquire_owned() else {
            // Fits into the socket's buffer, or is nobody's loss.
            let _ = stream.try_write(&line(Said::Refused("too many clients at once: try again".into())));
            continue;
        };
        let office = office.clone();
        tokio::spawn(async move {
            if let Err(error) = attend(stream, &office).await {
                debug!(%error, "a status client");
            }
            drop(seat);
        });
    }
}

/// One question and its answer.
async fn attend(mut stream: UnixStream, office: &Office) -> io::Result<()> {
    let mut asked = Vec::new();
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(REQUEST));
    tokio::time::timeout(ASKING, reading.read_until(b'\n', &mut asked)).await??;
    let said = match question(&asked) {
        Ok(ask) => office.answer(ask).await,
        Err(why) => Said::Refused(why),
    };
    tokio::time::timeout(READING, writing.write_all(&line(said))).await?
}

fn question(line: &[u8]) -> Result<Ask, String> {
    if !line.ends_with(b"\n") {
        return Err(format!("a question is one line of at most {REQUEST} octets"));
    }
    match serde_json::from_slice::<Request>(line) {
        Ok(Request { version: VERSION, ask }) => Ok(ask),
        Ok(Request { version, .. }) => Err(format!("this gateway speaks version {VERSION}, not {version}")),
        Err(error) => Err(format!("not a question: {error}")),
    }
}

fn line(said: Said) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Answer { version: VERSION, said }).unwrap_or_default();
    line.push(b'\n');
    line
}

impl Office {
    #[allow(clippy::disallowed_methods, reason = "the clock of the status channel")]
    async fn answer(&self, ask: Ask) -> Said {
        let now = Instant::now();
        match (ask, &self.desk.calls) {
            (Ask::Calls, Some(calls)) => Said::Calls(calls.status(now)),
            (Ask::Calls, None) => Said::Refused("media is not relayed: nothing is known of it".into()),
            (Ask::Summary, calls) => {
                let Some(mut summary) = self.signalling(now).await else {
                    return Said::Refused("signalling does not answer".into());
                };
                summary.seconds = now.saturating_duration_since(self.started).as_secs();
                if let Some(calls) = calls {
                    calls.count(now, &mut summary);
                }
                Said::Summary(Box::new(summary))
            }
        }
    }

    /// What signalling says, asked at most once in [`FRESH`], whoever asks.
    async fn signalling(&self, now: Instant) -> Option<Summary> {
        let mut known = self.known.lock().await;
        if let Some((told, summary)) = known.as_ref()
            && now.saturating_duration_since(*told) < FRESH
        {
            return Some(summary.clone());
        }
        let mut pulse = self.desk.pulse.clone();
        let state = tokio::time::timeout(PATIENCE, pulse.snapshot()).await.ok()??;
        let health = |health| match health {
            sip_core::edge::event::Health::Up => "up",
            sip_core::edge::event::Health::Down => "down",
            sip_core::edge::event::Health::Unknown => "unknown",
            sip_core::edge::event::Health::Unwatched => "unwatched",
        };
        let switches = state.switches.iter().map(|one| SwitchStatus {
            remote: one.switch.remote,
            health: health(one.health).to_owned(),
            blacklisted: one.blacklisted.as_secs(),
        });
        let summary = Summary {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            draining: state.draining,
            phones: state.phones.len(),
            connected: state.phones.iter().filter(|phone| phone.source.is_some()).count(),
            answered: state.calls,
            refused: state.refused,
            dropped: state.dropped,
            blocked: state.blocked,
            switches: switches.collect(),
            ..Summary::default()
        };
        *known = Some((now, summary.clone()));
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream as Blocking;

    use super::super::{AskError, ask};
    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn start(name: &str) -> (Folder, Serving) {
        let folder = std::env::temp_dir().join(format!("farend-status-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let serving = Serving::start(&folder, Desk { calls: None, pulse: Pulse::none() }).unwrap();
        (Folder(folder), serving)
    }

    fn exchange(folder: &Path, line: &[u8]) -> String {
        let mut stream = Blocking::connect(folder.join(SOCKET)).unwrap();
        stream.write_all(line).unwrap();
        let mut text = String::new();
        io::BufReader::new(stream).read_line(&mut text).unwrap();
        text
    }

    /// Runs what blocks beside the server.
    async fn beside<T: Send + 'static>(folder: &Folder, act: impl FnOnce(&Path) -> T + Send + 'static) -> T {
        let path = folder.0.clone();
        tokio::task::spawn_blocking(move || act(&path)).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_question_has_an_answer_and_what_is_none_a_refusal() {
        let (folder, serving) = start("asked");
        let mode = std::fs::metadata(folder.0.join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let said = beside(&folder, |at| ask(at, Ask::Summary)).await.unwrap().1;
        let Said::Summary(summary) = said else { panic!("{said:?}") };
        assert_eq!((summary.phones, summary.process), (0, std::process::id()));
        let none = beside(&folder, |at| ask(at, Ask::Calls)).await.unwrap_err().to_string();
        assert_eq!(none, "the gateway answers: media is not relayed: nothing is known of it");
        for (line, expected) in [
            (&b"{\"version\":2,\"ask\":\"calls\"}\n"[..], "this gateway speaks version 1, not 2"),
            (b"{\"version\":1,\"ask\":\"stop\"}\n", "not a question: "),
            (b"\n", "not a question: "),
            (&[b'x'; 1025], "one line of at most 1024 octets"),
        ] {
            let line = line.to_vec();
            let text = beside(&folder, move |at| exchange(at, &line)).await;
            assert!(text.contains(expected) && text.starts_with("{\"version\":1,\"refused\":"), "{text}");
        }
        drop(serving);
        let gone = beside(&folder, |at| ask(at, Ask::Summary)).await.unwrap_err();
        assert!(matches!(gone, AskError::Nobody { .. }), "{gone}");
        assert!(!folder.0.join(SOCKET).exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clients_that_say_nothing_hold_up_nobody_for_long() {
        let (folder, _serving) = start("slow");
        let held = beside(&folder, |at| {
            let held: Vec<_> = (0..CLIENTS).map(|_| Blocking::connect(at.join(SOCKET)).unwrap()).collect();
            std::thread::sleep(Duration::from_millis(200));
            held
        });
        let mut held = held.await;
        let refused = beside(&folder, |at| ask(at, Ask::Summary)).await.unwrap_err().to_string();
        assert_eq!(refused, "the gateway answers: too many clients at once: try again");
        // They are shown the door.
        let mut first = held.remove(0);
        let left = beside(&folder, move |_| {
            first.set_read_timeout(Some(ASKING * 3)).unwrap();
            first.read(&mut [0; 8]).unwrap()
        });
        assert_eq!(left.await, 0);
        beside(&folder, |at| ask(at, Ask::Summary)).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_killed_process_left_behind_makes_way() {
        let (folder, serving) = start("stale");
        std::mem::forget(serving);
        assert!(folder.0.join(SOCKET).exists());
        assert!(Serving::start(&folder.0, Desk { calls: None, pulse: Pulse::none() }).is_some());
        let long = folder.0.join("x".repeat(120));
        std::fs::create_dir_all(&long).unwrap();
        let none = Serving::start(&long, Desk { calls: None, pulse: Pulse::none() });
        assert!(none.is_none(), "a name too long for a socket: the gateway runs without");
    }
}
