//! Seam A: `sip-core` asks, `sdp-core` answers. The relay is a thread of this process, or a process of its own
//! (decision 13):
//!
//! - `body`: where the description stands in a body,
//! - `link`: the way commands take,
//! - `socket`: reaching the media process, starting one where nobody answers,
//! - `keeper`: its reports, and its loss.

mod body;
mod keeper;
mod link;
pub(crate) mod socket;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sdp_core::anchor::{self, Anchor, Left};
use sdp_core::net::{self, Relay};
use sdp_core::policy::{Address, Addresses, HopLimit, MediaProxy, Policy, SenderLimit, Source};
use sdp_core::relay::wire::{FromRelay, Setup, ToRelay};
use sdp_core::relay::{Report, Side};
use sip_core::edge::interop::InteropProfile;
use sip_core::media::{Description, Fork, Leg, Media, Refusal, Role, SessionId};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use self::body::{part, with_part};
use self::keeper::Keeper;
use self::link::{Across, Link};
pub use self::socket::LinkError;
use self::socket::{Connection, Socket};
use super::calls::{Calls, read};
use crate::config::{self, Interface, MediaSettings, Settings};
use crate::report;

/// How long the first ports may take.
const FIRST_LEASE: Duration = Duration::from_secs(10);
/// The anchor's own deadlines (leases) are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// How long the media process may take to go with us.
const FAREWELL: Duration = Duration::from_secs(1);

/// The relay can't be had.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Its sockets or thread.
    #[error("the media relay can't be started: {0}")]
    Relay(#[from] io::Error),
    /// The media process.
    #[error("media.process: {0}")]
    Link(#[from] LinkError),
    /// No port can be bound.
    #[error("the media relay has no ports on the {side:?} side: {reason}")]
    Exhausted {
        /// Where.
        side: Side,
        /// Why.
        reason: String,
    },
    /// The relay did not answer.
    #[error("the media relay gave no ports within {} s", FIRST_LEASE.as_secs())]
    NoPorts,
    /// The relay ended, or follows another gateway.
    #[error("the media relay ended, or follows another gateway, before it gave ports")]
    Gone,
}

/// The relay with its anchor: shared by the signalling thread, which rewrites, and a task that takes reports.
#[derive(Clone)]
pub(crate) struct MediaPlane {
    anchor: Arc<Mutex<Anchor>>,
    link: Arc<Link>,
    /// Closed when the relay has ended, see [`MediaPlane::ended`].
    running: watch::Receiver<bool>,
    /// The media process that answers was started by a signalling process, not as a service.
    spawned: Arc<AtomicBool>,
    /// The youngest session: their numbers go up.
    newest: u64,
    /// For the doctor.
    calls: Calls,
}

/// The plane for whoever must not keep it alive: the relay ends with the gateway.
struct Faint {
    anchor: Arc<Mutex<Anchor>>,
    link: Weak<Link>,
    running: watch::Receiver<bool>,
    spawned: Arc<AtomicBool>,
    calls: Calls,
}

impl Faint {
    /// The plane for one step; `None`: the gateway has ended.
    fn plane(&self) -> Option<MediaPlane> {
        Some(MediaPlane {
            link: self.link.upgrade()?,
            anchor: self.anchor.clone(),
            running: self.running.clone(),
            spawned: self.spawned.clone(),
            calls: self.calls.clone(),
            newest: 0,
        })
    }
}

/// A session that an earlier process left at the relay, with the record of its calls.
pub(crate) type Heir = (SessionId, Vec<u8>);

impl MediaPlane {
    /// Starts the relay, or reaches the media process, and waits for its first ports, so that no offer ever waits. Says which
    /// sessions it has of an earlier signalling process.
    pub(crate) async fn start(settings: &Settings) -> Result<(Self, Vec<Heir>), MediaError> {
        match &settings.media.process {
            Some(socket) => Self::across(settings, socket.clone()).await,
            None => Ok((Self::within(settings).await?, Vec::new())),
        }
    }

    async fn within(settings: &Settings) -> Result<Self, MediaError> {
        let (sender, mut reports) = mpsc::unbounded_channel();
        let config = relay(&setup(settings))?;
        let relay = Relay::spawn(config, move |report| drop(sender.send(report)))?;
        let (plane, alive) = Self::new(settings, Link::Within(relay))?;
        plane.first_ports(async || reports.recv().await).await?;
        tokio::spawn(consume(plane.faint(), reports, alive));
        Ok(plane)
    }

    async fn across(settings: &Settings, path: PathBuf) -> Result<(Self, Vec<Heir>), MediaError> {
        let socket = Socket::new(path, settings.log.clone(), setup(settings))?;
        let (mut connection, left) = socket.reach().await?;
        let (plane, alive) = Self::new(settings, Link::Across(Across::default()))?;
        plane.join(&mut connection);
        let heirs = plane.with(|anchor| {
            let heirs = anchor.take_over(Instant::now(), &left);
            plane.calls.adopt(Instant::now(), anchor, heirs.iter().map(|(session, _)| *session));
            heirs
        });
        let messages = &mut connection.messages;
        let report = async || loop {
            if let FromRelay::Report(report) = messages.recv().await? {
                return Some(report);
            }
        };
        plane.first_ports(report).await.map_err(|error| match error {
            MediaError::Gone => LinkError::Ended(socket.path.clone()).into(),
            other => other,
        })?;
        let process = connection.welcome.instance.process;
        let (started, sessions) = (connection.started, heirs.len());
        info!(process, started, sessions, socket = %socket.path.display(), "the media process answers");
        let keeper = Keeper { plane: plane.faint(), socket, alive };
        tokio::spawn(keeper.keep(connection));
        let heirs = heirs.into_iter().map(|(session, record)| (SessionId(session), record)).collect();
        Ok((plane, heirs))
    }

    fn new(settings: &Settings, link: Link) -> io::Result<(Self, watch::Sender<bool>)> {
        let setup = setup(settings);
        let mut config = anchor::Config::new(setup.outside, setup.inside);
        config.seed = Some(crate::compose::seed()?.into());
        config.policy = policy(&settings.media, &settings.sip.interop);
        config.keep_state = matches!(link, Link::Across(_));
        let anchor = Arc::new(Mutex::new(Anchor::new(Instant::now(), config)));
        let (alive, running) = watch::channel(false);
        let calls = Calls::new(anchor.clone());
        let plane = Self { anchor, link: Arc::new(link), running, spawned: Arc::default(), newest: 0, calls };
        Ok((plane, alive))
    }

    fn faint(&self) -> Faint {
        Faint {
            anchor: self.anchor.clone(),
            link: Arc::downgrade(&self.link),
            running: self.running.clone(),
            spawned: self.spawned.clone(),
            calls: self.calls.clone(),
        }
    }

    async fn first_ports(&self, mut report: impl AsyncFnMut() -> Option<Report>) -> Result<(), MediaError> {
        let ready = async {
            while !self.lock().is_ready() {
                self.with(|_| ());
                match report().await {
                    // Fewer than wanted will do: a narrow range, or few descriptors.
                    Some(Report::Exhausted { realm, missing, reason }) => {
                        self.take(Report::Exhausted { realm, missing, reason: reason.clone() });
                        if self.lock().is_barren(realm) {
                            return Err(MediaError::Exhausted { side: realm.side, reason });
                        }
                    }
                    Some(report) => self.take(report),
                    None => return Err(MediaError::Gone),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(FIRST_LEASE, ready).await {
            Ok(ready) => ready,
            Err(_) => Err(MediaError::NoPorts),
        }
    }

    /// Waits for the end of the relay's thread, which ends by itself only when it panics (`false`); or of all hope for a media
    /// process (`true`), which the log has told.
    pub(crate) async fn ended(&mut self) -> bool {
        while self.running.changed().await.is_ok() {}
        *self.running.borrow()
    }

    /// What is known of the calls.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// The policy of calls to come; calls that run keep theirs.
    pub(crate) fn reconfigure(&self, settings: &Settings) {
        let policy = policy(&settings.media, &settings.sip.interop);
        self.with(|anchor| anchor.reconfigure(policy));
    }

    /// Ends sessions of an earlier process that no call of ours belongs to.
    pub(crate) fn disown(&self, sessions: impl Iterator<Item = SessionId>) {
        for session in sessions {
            warn!(session = session.0, "nobody's: a session of an earlier process is ended");
            self.with(|anchor| anchor.end(Instant::now(), session.0));
            self.calls.forget(session.0);
        }
    }

    /// Signalling has ended in order: a media process that was started by one like us goes too, if no session is left. Else the
    /// next signalling process finds them.
    pub(crate) async fn farewell(&self) {
        let Link::Across(across) = &*self.link else { return };
        let sessions = self.lock().sessions();
        if sessions > 0 {
            info!(sessions, "calls go on at the media process; the next gateway takes them over");
        }
        if !self.spawned.load(Ordering::Relaxed) || sessions > 0 {
            // What was queued last is still to be written.
            tokio::time::sleep(FAREWELL / 10).await;
            return;
        }
        across.leave();
        across.send(ToRelay::Finish);
        let gone = async {
            while !across.is_alone() {
                tokio::time::sleep(FAREWELL / 100).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, gone).await;
    }

    /// Whether the end of the media process is what we asked for.
    fn is_leaving(&self) -> bool {
        matches!(&*self.link, Link::Across(across) if across.is_leaving())
    }

    /// Commands go there from now on.
    fn join(&self, connection: &mut Connection) {
        self.spawned.store(connection.welcome.spawned, Ordering::Relaxed);
        if let (Link::Across(across), Some(queue)) = (&*self.link, connection.take_commands()) {
            across.connect(queue);
        }
    }

    fn tell(&self, message: ToRelay) {
        if let Link::Across(across) = &*self.link {
            across.send(message);
        }
    }

    /// Nobody answers.
    fn lose(&self) {
        if let Link::Across(across) = &*self.link {
            across.disconnect();
        }
        self.with(|anchor| anchor.lost(Instant::now()));
    }

    /// Somebody answers again: how many streams had to be started anew, and in how many sessions.
    fn regain(&self, connection: &mut Connection, left: &Left) -> (usize, usize) {
        // Nothing of what was said before goes first: the lock is held.
        let mut anchor = self.lock();
        self.join(connection);
        let streams = anchor.rejoin(Instant::now(), left);
        self.drain(&mut anchor);
        (streams, anchor.sessions())
    }

    /// Time has passed.
    fn tick(&self) {
        self.with(|anchor| anchor.handle_timeout(Instant::now()));
        self.calls.tick(Instant::now());
    }

    fn take(&self, report: Report) {
        report::media::log(&report);
        self.calls.heard(Instant::now(), &report);
        let refused = if let Report::Refused { stream } = report { Some(stream) } else { None };
        self.with(|anchor| anchor.handle_report(Instant::now(), report));
        refused.into_iter().for_each(|stream| self.calls.lost(stream));
    }

    /// Does something to the anchor and hands its commands to the relay.
    fn with<T>(&self, act: impl FnOnce(&mut Anchor) -> T) -> T {
        let mut anchor = self.lock();
        let result = act(&mut anchor);
        self.drain(&mut anchor);
        result
    }

    fn drain(&self, anchor: &mut Anchor) {
        while let Some(command) = anchor.poll_command() {
            self.calls.told(&command);
            self.link.send(command);
        }
        while let Some(event) = anchor.poll_event() {
            report::media::tell(&event);
        }
    }

    // A panic while the lock was held is a fault of ours; the anchor is still the best knowledge there is.
    fn lock(&self) -> MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes reports until the relay ends. It holds the relay for one step at a time, so that the relay ends with the gateway.
async fn consume(faint: Faint, mut reports: mpsc::UnboundedReceiver<Report>, _alive: watch::Sender<bool>) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        let report = tokio::select! {
            report = reports.recv() => match report {
                Some(report) => Some(report),
                None => return,
            },
            _ = tick.tick() => None,
        };
        let Some(plane) = faint.plane() else { return };
        match report {
            Some(report) => plane.take(report),
            None => plane.tick(),
        }
    }
}

/// The relay that these settings ask for.
fn setup(settings: &Settings) -> Setup {
    let (low, high) = settings.media.port_range;
    let (outside, inside) = (addresses(&settings.net.outside), addresses(&settings.net.inside));
    Setup { outside, inside, ports: low..=high, workers: settings.media.workers, dscp: settings.media.dscp }
}

/// What the relay is made of, in this process or in one of its own.
pub(crate) fn relay(setup: &Setup) -> io::Result<net::Config> {
    let mut config = net::Config::new(setup.outside, setup.inside, super::seed()?);
    config.ports = setup.ports.clone();
    config.dscp = setup.dscp;
    config.workers = setup.workers;
    Ok(config)
}

impl Media for MediaPlane {
    fn rewrite(
        &mut self,
        now: Instant,
        session: SessionId,
        leg: Leg,
        role: Role,
        description: Description<'_>,
    ) -> Result<Bytes, Refusal> {
        let from = side_of(leg.side);
        let (source, to) = (leg.signalling.to_canonical(), leg.to_signalling.to_canonical());
        if session.0 > self.newest {
            self.newest = session.0;
            let (phone, switch) = if from == Side::Outside { (source, to) } else { (to, source) };
            report::media::began(session.0, phone, switch);
        }
        let Some(part) = part(description) else {
            warn!(session = session.0, ?role, "no single session description in a multipart body: refused");
            return Err(Refusal::NotAcceptable);
        };
        let sdp = description.body.get(part.clone()).unwrap_or_default();
        let lines = read(sdp);
        let rewritten = self.with(|anchor| {
            anchor.introduce(session.0, leg.contact);
            // A relay that ends with us keeps it for nobody.
            if matches!(*self.link, Link::Across(_)) {
                anchor.note(lines.clone());
            }
            match role {
                Role::Offer => anchor.offer(now, session.0, from, source, to, sdp),
                Role::Answer => {
                    anchor.set_fork(session.0, leg.fork.map(|fork| fork.0));
                    anchor.answer(now, session.0, from, source, to, sdp)
                }
            }
        });
        let rewritten = rewritten.map_err(|refusal| {
            warn!(session = session.0, ?role, %refusal, "session description refused");
            self.calls.refused(now, session.0, from, [source, to], &refusal);
            match refusal {
                anchor::Refusal::Malformed(_) => Refusal::Malformed,
                anchor::Refusal::NotAcceptable(_) => Refusal::NotAcceptable,
                anchor::Refusal::Unavailable { .. } => Refusal::Unavailable,
            }
        })?;
        self.calls.described(now, session.0, from, role, [source, to], lines);
        Ok(with_part(description.body, part, rewritten))
    }

    fn rollback(&mut self, now: Instant, session: SessionId, side: sip_core::flow::Side) {
        self.with(|anchor| anchor.rollback(now, session.0, side_of(side)));
    }

    fn insist(&mut self, _: Instant, session: SessionId, side: sip_core::flow::Side) -> bool {
        self.with(|anchor| anchor.insist(session.0, side_of(side)))
    }

    fn confirm(&mut self, now: Instant, session: SessionId, fork: Fork) {
        self.with(|anchor| anchor.confirm_fork(now, session.0, fork.0));
    }

    fn record(&mut self, session: SessionId, record: Vec<u8>) {
        // A relay that ends with us keeps it for nobody.
        if matches!(*self.link, Link::Across(_)) {
            self.with(|anchor| anchor.set_record(session.0, record));
        }
    }

    fn end(&mut self, now: Instant, session: SessionId) {
        self.calls.ending(now, session.0);
        self.with(|anchor| anchor.end(now, session.0));
    }
}

fn side_of(side: sip_core::flow::Side) -> Side {
    match side {
        sip_core::flow::Side::Outside => Side::Outside,
        sip_core::flow::Side::Inside => Side::Inside,
    }
}

fn addresses(interface: &Interface) -> Addresses {
    interface.addresses.iter().fold(Addresses::default(), |all, local| {
        let public = interface.public_address.filter(|public| public.is_ipv4() == local.is_ipv4());
        all.with(Address { local: *local, advertised: public.unwrap_or(*local) })
    })
}

fn policy(media: &MediaSettings, interop: &InteropProfile) -> Policy {
    let policy = Policy {
        source: if media.signalling_address_only { Source::SignallingAddress } else { Source::Any },
        sender_limit: match media.sender_limit {
            config::SenderLimit::Lock => SenderLimit::Lock,
            config::SenderLimit::LockIp => SenderLimit::LockIp,
            config::SenderLimit::Multiple => SenderLimit::Multiple,
        },
        max_senders: media.max_senders,
        late_relatch: media.late_relatch,
        early_rtp: media.early_rtp,
        timeouts: media.timeouts,
        srtp: media.srtp,
        hop_limit: media.ttl.map_or(HopLimit::Keep, HopLimit::Fixed),
        forked: interop.media.forked,
        proxy: match interop.media.proxy {
            sip_core::edge::interop::MediaProxy::No => MediaProxy::No,
            sip_core::edge::interop::MediaProxy::Relayed => MediaProxy::Use,
            sip_core::edge::interop::MediaProxy::Always => MediaProxy::Always,
        },
        ..super::descriptions::policy(&interop.sdp)
    };
    crate::compose::route::with(&media.route, policy)
}
