//! Seam A: `sip-core` asks, `sdp-core` answers.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sdp_core::anchor::{self, Anchor};
use sdp_core::net::{self, Handle, Relay};
use sdp_core::policy::{Address, Addresses, HopLimit, Policy, SenderLimit, Source};
use sdp_core::relay::{Report, Side};
use sdp_core::sdp::multipart;
use sip_core::media::{Description, Fork, Leg, Media, Refusal, Role, SessionId};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::calls::Calls;
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
    /// The youngest session: their numbers go up.
    newest: u64,
    /// For the doctor.
    calls: Calls,
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
        let calls = Calls::new(anchor.clone());
        let plane = Self { anchor, relay: Arc::new(relay), running, newest: 0, calls };
        let ready = async {
            while !plane.lock().is_ready() {
                plane.with(|_| ());
                match reports.recv().await {
                    // Fewer than wanted will do: a narrow range, or few descriptors.
                    Some(Report::Exhausted { realm, missing, reason }) => {
                        plane.take(Report::Exhausted { realm, missing, reason: reason.clone() });
                        if plane.lock().is_barren(realm) {
                            return Err(MediaError::Exhausted { side: realm.side, reason });
                        }
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
        tokio::spawn(consume(anchor, plane.calls.clone(), relay, plane.running.clone(), reports, alive));
        Ok(plane)
    }

    /// Waits for the end of the relay's thread, which ends by itself only when it panics.
    pub(crate) async fn ended(&mut self) {
        while self.running.changed().await.is_ok() {}
    }

    /// What is known of the calls.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// The policy of calls to come; calls that run keep theirs.
    pub(crate) fn reconfigure(&self, media: &MediaSettings) {
        self.with(|anchor| anchor.reconfigure(policy(media)));
    }

    fn take(&self, report: Report) {
        report::media::log(&report);
        self.calls.heard(Instant::now(), &report);
        self.with(|anchor| anchor.handle_report(Instant::now(), report));
    }

    /// Does something to the anchor and hands its commands to the relay.
    fn with<T>(&self, act: impl FnOnce(&mut Anchor) -> T) -> T {
        let mut anchor = self.lock();
        let result = act(&mut anchor);
        while let Some(command) = anchor.poll_command() {
            self.calls.told(&command);
            self.relay.send(command);
        }
        while let Some(event) = anchor.poll_event() {
            report::media::tell(&event);
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
    calls: Calls,
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
        let (anchor, calls, running) = (anchor.clone(), calls.clone(), running.clone());
        let plane = MediaPlane { anchor, relay, running, newest: 0, calls };
        match report {
            Some(report) => plane.take(report),
            None => {
                plane.with(|anchor| anchor.handle_timeout(Instant::now()));
                plane.calls.tick(Instant::now());
            }
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
        let rewritten = self.with(|anchor| {
            anchor.introduce(session.0, leg.contact);
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
        self.calls.described(now, session.0, from, role, [source, to], sdp);
        Ok(with_part(description.body, part, rewritten))
    }

    fn rollback(&mut self, now: Instant, session: SessionId, side: sip_core::flow::Side) {
        self.with(|anchor| anchor.rollback(now, session.0, side_of(side)));
    }

    fn confirm(&mut self, now: Instant, session: SessionId, fork: Fork) {
        self.with(|anchor| anchor.confirm_fork(now, session.0, fork.0));
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

/// Where the description stands in its body (RFC 5621 §3). `None` for a multipart in which it can't be found, or that
/// seems to have several: passed on, one of them would show the inside.
fn part(description: Description<'_>) -> Option<Range<usize>> {
    if !description.is_multipart() {
        return Some(0..description.body.len());
    }
    let found = multipart::find(description.content_type, description.body)?;
    (description.mentions() == 1).then_some(found)
}

/// The body with this in the place of that part.
fn with_part(body: &[u8], part: Range<usize>, rewritten: Bytes) -> Bytes {
    let (before, after) =
        (body.get(..part.start).unwrap_or_default(), body.get(part.end..).unwrap_or_default());
    if before.is_empty() && after.is_empty() {
        return rewritten;
    }
    [before, &rewritten, after].concat().into()
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
        ..crate::compose::route::policy(&media.route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "--b1\r\nContent-Type: application/csta+xml\r\n\r\n<x/>\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nc=IN IP4 10.0.1.50\r\n\r\n--b1--\r\n";

    fn described<'t>(content_type: &'t str, body: &'t str) -> Description<'t> {
        Description { content_type: content_type.as_bytes(), body: body.as_bytes() }
    }

    #[test]
    fn only_the_description_of_a_multipart_changes() {
        let body = described("multipart/mixed;boundary=b1", BODY);
        let found = part(body).unwrap();
        assert_eq!(&BODY[found.clone()], "v=0\r\nc=IN IP4 10.0.1.50\r\n");
        let written = with_part(body.body, found, Bytes::from_static(b"v=0\r\nc=IN IP4 192.0.2.1\r\n"));
        assert_eq!(written, BODY.replace("10.0.1.50", "192.0.2.1").as_bytes());
        let whole = described("application/sdp", "v=0\r\n");
        assert_eq!(part(whole), Some(0..5));
        assert_eq!(with_part(whole.body, 0..5, Bytes::from_static(b"new")), &b"new"[..]);
    }

    #[test]
    fn what_may_show_the_inside_is_refused() {
        let twice = BODY.replace("--b1--", "--b1\r\nContent-Type: application / SDP\r\n\r\nv=0\r\n--b1--");
        for (content_type, body) in [
            ("multipart/mixed;boundary=b2", BODY),
            ("multipart/mixed", BODY),
            ("Multipart / Mixed;boundary=b1", twice.as_str()),
            ("multipart/mixed;boundary=b1", &BODY.replace("application/sdp", "application/ sdp")),
        ] {
            assert_eq!(part(described(content_type, body)), None, "{content_type} {body}");
        }
    }
}
