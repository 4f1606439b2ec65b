//! Seam A: `sip-core` asks, `sdp-core` answers.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sdp_core::anchor::{self, Anchor};
use sdp_core::net::{self, Handle, Relay};
use sdp_core::policy::{Address, Addresses, HopLimit, Policy, SenderLimit, Source};
use sdp_core::relay::{Report, Side};
use sip_core::media::{Leg, Media, Refusal, Role, SessionId};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::config::{self, Interface, MediaSettings, Settings};
use crate::report;

/// How long the first ports may take.
const FIRST_LEASE: Duration = Duration::from_secs(10);
/// The anchor's own deadlines (leases) are looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// The relay can't be had.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Its sockets or thread.
    #[error("the media relay can't be started: {0}")]
    Relay(#[from] io::Error),
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
}

/// The relay with its anchor: shared by the signalling thread, which rewrites, and a task that takes reports.
#[derive(Clone)]
pub(crate) struct MediaPlane {
    anchor: Arc<Mutex<Anchor>>,
    relay: Arc<Handle>,
    /// Closed when the relay has ended.
    running: watch::Receiver<()>,
}

impl MediaPlane {
    /// Starts the relay and waits for its first ports, so that no offer ever waits.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, MediaError> {
        let outside = addresses(&settings.net.outside);
        let inside = addresses(&settings.net.inside);
        let (low, high) = settings.media.port_range;
        let mut relay = net::Config::new(outside, inside, super::seed()?);
        relay.ports = low..=high;
        let (sender, mut reports) = mpsc::unbounded_channel();
        let relay = Relay::spawn(relay, move |report| drop(sender.send(report)))?;
        let mut config = anchor::Config::new(outside, inside);
        config.policy = policy(&settings.media);
        let anchor = Arc::new(Mutex::new(Anchor::new(Instant::now(), config)));
        let (alive, running) = watch::channel(());
        let plane = Self { anchor, relay: Arc::new(relay), running };
        let ready = async {
            while !plane.lock().is_ready() {
                plane.with(|_| ());
                match reports.recv().await {
                    Some(Report::Exhausted { realm, reason, .. }) => {
                        return Err(MediaError::Exhausted { side: realm.side, reason });
                    }
                    Some(report) => plane.take(report),
                    None => return Err(MediaError::NoPorts),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(FIRST_LEASE, ready).await {
            Ok(ready) => ready?,
            Err(_) => return Err(MediaError::NoPorts),
        }
        let (anchor, relay) = (plane.anchor.clone(), Arc::downgrade(&plane.relay));
        tokio::spawn(consume(anchor, relay, plane.running.clone(), reports, alive));
        Ok(plane)
    }

    /// Waits for the end of the relay's thread, which ends by itself only when it panics.
    pub(crate) async fn ended(&mut self) {
        while self.running.changed().await.is_ok() {}
    }

    /// The policy of calls to come; calls that run keep theirs.
    pub(crate) fn reconfigure(&self, media: &MediaSettings) {
        self.with(|anchor| anchor.reconfigure(policy(media)));
    }

    fn take(&self, report: Report) {
        report::media::log(&report);
        self.with(|anchor| anchor.handle_report(Instant::now(), report));
    }

    /// Does something to the anchor and hands its commands to the relay.
    fn with<T>(&self, act: impl FnOnce(&mut Anchor) -> T) -> T {
        let mut anchor = self.lock();
        let result = act(&mut anchor);
        while let Some(command) = anchor.poll_command() {
            self.relay.send(command);
        }
        result
    }

    // A panic while the lock was held is a fault of ours; the anchor is still the best knowledge there is.
    fn lock(&self) -> MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes reports until the relay ends. It holds the relay for one step at a time, so that the relay ends with the gateway.
async fn consume(
    anchor: Arc<Mutex<Anchor>>,
    relay: Weak<Handle>,
    running: watch::Receiver<()>,
    mut reports: mpsc::UnboundedReceiver<Report>,
    _alive: watch::Sender<()>,
) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        let report = tokio::select! {
            report = reports.recv() => match report {
                Some(report) => Some(report),
                None => return,
            },
            _ = tick.tick() => None,
        };
        let Some(relay) = relay.upgrade() else { return };
        let plane = MediaPlane { anchor: anchor.clone(), relay, running: running.clone() };
        match report {
            Some(report) => plane.take(report),
            None => plane.with(|anchor| anchor.handle_timeout(Instant::now())),
        }
    }
}

impl Media for MediaPlane {
    fn rewrite(
        &mut self,
        now: Instant,
        session: SessionId,
        leg: Leg,
        role: Role,
        sdp: &[u8],
    ) -> Result<Bytes, Refusal> {
        let from = match leg.side {
            sip_core::flow::Side::Outside => Side::Outside,
            sip_core::flow::Side::Inside => Side::Inside,
        };
        let (source, to) = (leg.signalling.to_canonical(), leg.to_signalling.to_canonical());
        let rewritten = self.with(|anchor| match role {
            Role::Offer => anchor.offer(now, session.0, from, source, to, sdp),
            Role::Answer => anchor.answer(now, session.0, from, source, to, sdp),
        });
        rewritten.map_err(|refusal| {
            warn!(session = session.0, ?role, %refusal, "session description refused");
            match refusal {
                anchor::Refusal::Malformed(_) => Refusal::Malformed,
                anchor::Refusal::NotAcceptable(_) => Refusal::NotAcceptable,
                anchor::Refusal::Unavailable { .. } => Refusal::Unavailable,
            }
        })
    }

    fn end(&mut self, now: Instant, session: SessionId) {
        self.with(|anchor| anchor.end(now, session.0));
    }
}

fn addresses(interface: &Interface) -> Addresses {
    interface.addresses.iter().fold(Addresses::default(), |all, local| {
        let public = interface.public_address.filter(|public| public.is_ipv4() == local.is_ipv4());
        all.with(Address { local: *local, advertised: public.unwrap_or(*local) })
    })
}

fn policy(media: &MediaSettings) -> Policy {
    Policy {
        source: if media.signalling_address_only { Source::SignallingAddress } else { Source::Any },
        sender_limit: match media.sender_limit {
            config::SenderLimit::Lock => SenderLimit::Lock,
            config::SenderLimit::LockIp => SenderLimit::LockIp,
            config::SenderLimit::Multiple => SenderLimit::Multiple,
        },
        max_senders: media.max_senders,
        hop_limit: media.ttl.map_or(HopLimit::Keep, HopLimit::Fixed),
        ..Policy::default()
    }
}
