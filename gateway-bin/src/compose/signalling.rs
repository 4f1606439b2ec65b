//! The signalling threads: `sip-core`'s edge behind its driver, one a shard, and how it reaches the switches.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use acme_store::certificate::Identity as Certified;
use acme_store::net::tls::Connector;
use acme_store::publish::Application;
use acme_store::verify::NameRule;
use sip_core::edge::bindings::Change;
use sip_core::edge::event::Snapshot;
use sip_core::edge::{Command, Edge, Event};
use sip_core::flow::{Dial, Identity, ListenerId, Peer, Transport};
use sip_core::media::{Media, SessionId, Untouched};
use sip_core::net::{Blocklist, Connect, Datagrams, Driver, Limits, Resolve, Stream};
use sip_core::resolve::records::{Answer, Question};
use sip_core::shard::Shard;
use sip_core::token::Keyring;
use socket2::SockRef;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::{mpsc, watch};

use super::credentials::{CredentialError, Draft};
use super::listen::{allowed, keep, mark};
use super::location::Location;
use super::machine::{edge, side};
use super::media::MediaPlane;
use super::names::Names;
use super::pulse::Pulse;
use super::shards::{Replicas, Shards};
use crate::config::{self as settings, Settings, SipPort};
use crate::report;

/// How long a switch on the LAN may take to accept a connection, TLS included. Below the driver's own limit,
/// so that silence is noticed here.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long what is queued may take to leave at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The running signalling half.
pub(crate) struct Signalling {
    /// What the process may have.
    descriptors: usize,
    shards: Shards,
    threads: Vec<thread::JoinHandle<()>>,
    /// The end of a thread.
    over: mpsc::UnboundedReceiver<()>,
    switches: Arc<RwLock<Switches>>,
    names: Arc<RwLock<Arc<Names>>>,
    pulse: Pulse,
    blocklist: Blocklist,
    /// What each thread took over.
    taken: mpsc::UnboundedReceiver<Vec<SessionId>>,
    /// Ends after the threads, so that the last change is kept.
    location: Location,
}

/// Tells its end, however it comes.
struct Over(mpsc::UnboundedSender<()>);

impl Drop for Over {
    fn drop(&mut self) {
        // Nobody asks any more.
        let _ = self.0.send(());
    }
}

impl Signalling {
    /// Starts the threads. No listener yet: see [`Signalling::shards`]. `descriptors` is what the process may have.
    pub(crate) fn start(
        settings: &Settings,
        keys: Keyring,
        media: Option<MediaPlane>,
        switches: Switches,
        names: Arc<Names>,
        (location, known): (Location, &[Change]),
        descriptors: usize,
    ) -> io::Result<Self> {
        let count = count(settings.sip.shards);
        let switches = Arc::new(RwLock::new(switches));
        let names = Arc::new(RwLock::new(names));
        let connect = Arc::new(Inside { switches: switches.clone() });
        let resolve = Arc::new(Lookups(names.clone()));
        let replicas = Replicas::new(count);
        let blocklist = Blocklist::default();
        let (ending, over) = mpsc::unbounded_channel();
        let (taking, taken) = mpsc::unbounded_channel();
        let watched = media.as_ref().map(MediaPlane::calls);
        let drivers = Driver::shards(&limits(settings, descriptors, count), count);
        let (mut handles, mut threads, mut snapshots) = (Vec::new(), Vec::new(), Vec::new());
        for (driver, handle) in drivers {
            let shard = driver.shard();
            let media: Box<dyn Media + Send> = match media.clone() {
                Some(media) => Box::new(media),
                None => Box::new(Untouched),
            };
            let edge = Edge::new(edge(settings), keys.clone(), super::seed()?, media).on(shard);
            let (snapshot, state) = watch::channel(Arc::new(Snapshot::default()));
            let (journal, told, followed) = (location.journal(), replicas.clone(), blocklist.clone());
            let mut lines = report::signalling::Lines::of(shard, known);
            let taking = taking.clone();
            let calls = watched.clone();
            let events = move |event| match event {
                Event::Snapshot(state) => drop(snapshot.send_replace(Arc::from(state))),
                Event::Location(change) => {
                    told.tell(shard, &change);
                    journal.record(change);
                }
                event => {
                    if let Event::TakenOver { calls } = &event {
                        drop(taking.send(calls.iter().map(|call| call.session).collect()));
                    }
                    followed.heed(&event);
                    told.heed(shard, &event);
                    lines.log(&event);
                    if let Some(calls) = &calls {
                        calls.heed(&event, |phone| lines.tag(phone));
                    }
                }
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (connect, resolve, ending) = (connect.clone(), resolve.clone(), Over(ending.clone()));
            let (fed, weak) = (replicas.clone(), handle.downgrade());
            let run = move || {
                let _ending = ending;
                if !shard.is_alone() {
                    // Ends with the runtime.
                    drop(runtime.spawn(fed.feed(shard, weak)));
                }
                // A task like the connections' own: whoever wakes what `block_on` itself runs interrupts the wait for
                // the network, which costs two system calls a message.
                drop(runtime.block_on(runtime.spawn(driver.run(edge, connect, resolve, events))));
            };
            let name =
                if shard.is_alone() { "signalling".into() } else { format!("signalling-{}", shard.index()) };
            threads.push(thread::Builder::new().name(name).spawn(run)?);
            handles.push((shard, handle));
            snapshots.push(state);
        }
        let shards = Shards::new(handles);
        let pulse = Pulse::new(shards.clone(), snapshots);
        Ok(Self { descriptors, shards, threads, over, switches, names, pulse, blocklist, taken, location })
    }

    /// Reaches the threads.
    pub(crate) fn shards(&self) -> Shards {
        self.shards.clone()
    }

    /// The addresses that the machines have blocked.
    pub(crate) fn blocklist(&self) -> Blocklist {
        self.blocklist.clone()
    }

    /// Phones that were registered before this process began.
    pub(crate) async fn locate(&self, known: Vec<Change>) {
        for change in known {
            self.shards.command(|| Command::Locate(change.clone())).await;
        }
    }

    /// The calls of the process before go on: of which sessions. Ended otherwise are those that nobody takes in time.
    pub(crate) async fn take_over(&mut self, sessions: Vec<(SessionId, Vec<u8>)>) -> HashSet<SessionId> {
        let mut taken = HashSet::new();
        if sessions.is_empty() {
            return taken;
        }
        self.shards.command(|| Command::TakeOver { sessions: sessions.clone() }).await;
        for _ in 0..self.threads.len() {
            match tokio::time::timeout(FAREWELL, self.taken.recv()).await {
                Ok(Some(sessions)) => taken.extend(sessions),
                _ => tracing::error!("a signalling thread did not say which calls it takes over"),
            }
        }
        taken
    }

    /// The new configuration from the next message on; the connector from the next dial on.
    pub(crate) async fn reconfigure(&self, settings: &Settings, switches: Switches, names: Arc<Names>) {
        *self.switches.write().unwrap_or_else(PoisonError::into_inner) = switches;
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        let count = count(settings.sip.shards);
        self.shards.reconfigure(&limits(settings, self.descriptors, count)).await;
        let config = edge(settings);
        self.shards.command(|| Command::Reconfigure(Box::new(config.clone()))).await;
    }

    /// New keys from the next message on.
    pub(crate) async fn rekey(&self, keys: Keyring) {
        self.shards.command(|| Command::Keys(Box::new(keys.clone()))).await;
    }

    /// The state a moment from now, of all threads together; `None` when one has ended.
    pub(crate) async fn snapshot(&mut self) -> Option<Snapshot> {
        self.pulse.snapshot().await
    }

    /// To ask for the state beside whoever drives.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Waits for the end of a thread, which ends by itself only when it panics.
    pub(crate) async fn ended(&mut self) {
        let _ = self.over.recv().await;
    }

    /// Nothing new from now on; running calls go on.
    pub(crate) async fn drain(&self) {
        self.shards.drain().await;
    }

    /// Closes every connection and ends the threads.
    pub(crate) async fn stop(self) {
        self.shards.close_all().await;
        let (threads, location) = (self.threads, self.location);
        let ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
            drop(location);
        });
        let _ = tokio::time::timeout(FAREWELL, ended).await;
    }
}

/// How many signalling threads there are: `sip.shards`, where 0 is one for each core that this process may use.
fn count(configured: usize) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let wanted = if configured == 0 { cores() } else { configured };
    Shard::all(wanted).len()
}

/// What one of `count` threads may take.
fn limits(settings: &Settings, descriptors: usize, count: usize) -> Limits {
    let mut limits = Limits::default();
    limits.message.message = settings.sip.max_message;
    // The smaller of S16 and SAM-16.
    limits.first_message = limits.first_message.min(settings.sip.interop.sessions.stream_idle);
    // The other half is for audio, tunnels and files.
    limits.streams = settings.guard.connections.min(descriptors / 2).div_ceil(count);
    limits.dialled = limits.dialled.min(descriptors / 4).div_ceil(count);
    limits.dials = limits.dials.div_ceil(count);
    limits.dials_each = limits.dials_each.div_ceil(count);
    limits.lookups = limits.lookups.div_ceil(count);
    limits
}

/// How switches are reached, as of the newest configuration.
pub(crate) struct Switches {
    connector: Option<Arc<Connector>>,
    from: Vec<IpAddr>,
    /// Networks whose addresses count as verified without TLS (decision 3).
    trusted: Vec<ipnet::IpNet>,
    dscp: u8,
}

impl Switches {
    pub(crate) fn new(settings: &Settings, draft: &Draft) -> Result<Self, CredentialError> {
        let inside = &settings.sip.inside;
        let connector = match (&inside.trust, inside.transport) {
            (Some(trust), settings::Transport::Tls) => {
                let rule = if inside.verify_name { NameRule::NameOrCommonName } else { NameRule::ChainOnly };
                let certificate = inside.certificate.as_deref();
                let dialler = draft.dialler(certificate, trust, rule, Application::Sip)?;
                Some(Arc::new(Connector::new(dialler)?))
            }
            _ => None,
        };
        let rows = settings.sip.ports.iter().filter(|row| row.inside && row.trust_source);
        Ok(Self {
            connector,
            from: settings.net.inside.addresses.clone(),
            trusted: rows.flat_map(|row| row.allow_from.iter().copied()).collect(),
            dscp: settings.sip.dscp,
        })
    }
}

/// Seam C: connections to the switches, from our inside address.
struct Inside {
    switches: Arc<RwLock<Switches>>,
}

impl Connect for Inside {
    async fn connect(&self, dial: &Dial) -> io::Result<(Box<dyn Stream>, Peer)> {
        match tokio::time::timeout(PATIENCE, self.dial(dial)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the switch is silent")),
        }
    }
}

impl Inside {
    async fn dial(&self, dial: &Dial) -> io::Result<(Box<dyn Stream>, Peer)> {
        let (connector, from, trusted, dscp) = {
            let switches = self.switches.read().unwrap_or_else(PoisonError::into_inner);
            let from = switches.from.iter().find(|from| from.is_ipv4() == dial.remote.is_ipv4()).copied();
            (switches.connector.clone(), from, allowed(&switches.trusted, dial.remote.ip()), switches.dscp)
        };
        let socket = if dial.remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        mark(SockRef::from(&socket), dial.remote, dscp);
        let stream = socket.connect(dial.remote).await?;
        keep(&stream);
        let mut peer = Peer {
            remote: dial.remote,
            local: stream.local_addr()?,
            transport: dial.transport,
            side: dial.side,
            listener: None,
            identity: None,
            verified: trusted,
        };
        if dial.transport != Transport::Tls {
            return Ok((Box::new(stream), peer));
        }
        let connector =
            connector.ok_or_else(|| io::Error::other("no TLS is configured towards the switches"))?;
        let name = dial.remote.ip().to_string();
        let connected = connector.connect(stream, &name).await.map_err(|error| {
            tracing::warn!(remote = %dial.remote, %error, "TLS with the switch failed");
            io::Error::other(error)
        })?;
        peer.identity = Some(Arc::new(identity(&connected.identity)));
        peer.verified = true;
        Ok((Box::new(connected.stream), peer))
    }
}

struct Lookups(Arc<RwLock<Arc<Names>>>);

impl Resolve for Lookups {
    async fn resolve(&self, question: &Question) -> io::Result<Answer> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        names.answer(question).await
    }
}

/// The identity as `sip-core` knows it.
pub(crate) fn identity(certified: &Certified) -> Identity {
    Identity {
        subject: certified.subject.clone(),
        names: certified.names.clone(),
        key_hash: certified.key_hash,
    }
}

/// The peer of a connection that came in by `row`.
pub(crate) fn peer(row: &SipPort, id: ListenerId, remote: SocketAddr, local: SocketAddr) -> Peer {
    let tls = row.tls.is_some();
    Peer {
        remote,
        local,
        transport: if tls { Transport::Tls } else { Transport::Tcp },
        side: side(row),
        listener: Some(id),
        identity: None,
        verified: !tls && row.trust_source,
    }
}

/// Hands a datagram socket to the drivers.
pub(crate) async fn datagrams(
    shards: &Shards,
    row: &SipPort,
    stun: bool,
    id: ListenerId,
    socket: UdpSocket,
    blocked: &Blocklist,
) {
    let rules = Datagrams {
        listener: id,
        side: side(row),
        verified: row.trust_source,
        allow: row.allow_from.clone(),
        stun,
        blocked: blocked.clone(),
    };
    shards.socket(socket, rules).await;
}
