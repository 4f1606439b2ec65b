//! The composed product: started whole, reloaded whole, drained, stopped.

mod doors;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use acme_store::net::tls::Acceptor;
use acme_store::publish::Application;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sip_core::flow::ListenerId;
use sip_core::media::SessionId;
use tokio::time::Instant;
use tracing::info;
use tunnel::net::Endpoint;

use super::claim::{Claim, ClaimError};
use super::credentials::{CredentialError, Credentials, Draft};
use super::crowd::Crowd;
use super::http::{self, ServiceError};
use super::keys::{KeyError, Keys};
use super::listen::{BindError, Doors};
use super::location::{Location, LocationError};
use super::media::{MediaError, MediaPlane};
use super::names::Names;
use super::rows::{bind_datagrams, datagram_rows, http_name, listening, sip_name, wanted};
use super::signalling::{Signalling, Switches};
use crate::config::{Settings, SipPort};
use crate::report::strangers::Strangers;
use crate::status::{Desk, Serving};

/// How often a drain looks whether the last call has ended.
const DRAIN_TICK: Duration = Duration::from_millis(500);

/// Why the gateway did not start, or did not take a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address is taken or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate, trust entry or the state folder.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A repository or tunnel.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The keys of routing tokens.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Where phones are registered.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The relay.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The state folder.
    #[error("state: {0}")]
    Claim(#[from] ClaimError),
    /// The operating system.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
    /// A setting that can't change while the gateway runs.
    #[error("{0} can't change while the gateway runs: restart it")]
    Fixed(&'static str),
}

/// The gateway. Dropping it closes everything at once; see [`Gateway::drain`] and [`Gateway::stop`].
pub struct Gateway {
    settings: Settings,
    doors: Doors,
    datagrams: BTreeMap<SocketAddr, ListenerId>,
    credentials: Credentials,
    signalling: Signalling,
    media: Option<MediaPlane>,
    endpoints: BTreeMap<String, Endpoint>,
    acceptors: BTreeMap<String, Arc<Acceptor>>,
    listener_ids: BTreeMap<String, ListenerId>,
    crowd: Crowd,
    strangers: Arc<Strangers>,
    keys: Keys,
    /// Before the claim: the socket goes while the folder is ours.
    _status: Option<Serving>,
    _claim: Claim,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts everything that `settings` names, inside a tokio runtime. Every address is bound before
    /// anything is answered.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let descriptors = raise_descriptors();
        let doors = Doors::default();
        let bound = doors.bind(&wanted(&settings))?;
        let udp = bind_datagrams(&settings, &BTreeMap::new())?;
        let names = Arc::new(Names::new(&settings.net.dns, &settings.net.internal_domains)?);
        let claim = Claim::new(&settings.state_dir)?;
        let credentials = Credentials::open(&settings.state_dir)?;
        let draft = credentials.draft(&settings, &names)?;
        let keys = Keys::load(&settings.state_dir)?;
        let (media, heirs) = match settings.media.relay {
            true => MediaPlane::start(&settings).await.map(|(media, heirs)| (Some(media), heirs))?,
            false => (None, Vec::new()),
        };
        let switches = Switches::new(&settings, &draft)?;
        let (location, known) = Location::open(&settings.state_dir)?;
        let media_side = media.clone();
        let mut signalling = Signalling::start(
            &settings,
            keys.ring(),
            media_side,
            switches,
            names.clone(),
            (location, &known),
            descriptors,
        )?;
        signalling.locate(known).await;
        // Every shard knows them before anybody can ask one for a phone of another.
        let _ = signalling.snapshot().await;
        if let Some(media) = &media {
            let all: Vec<SessionId> = heirs.iter().map(|(session, _)| *session).collect();
            let taken = signalling.take_over(heirs).await;
            media.disown(all.into_iter().filter(|session| !taken.contains(session)));
        }
        let crowd = Crowd::new(descriptors, signalling.blocklist(), settings.guard.tls.clone());
        let mut gateway = Self {
            settings,
            doors,
            datagrams: BTreeMap::new(),
            credentials,
            signalling,
            media,
            endpoints: BTreeMap::new(),
            acceptors: BTreeMap::new(),
            listener_ids: BTreeMap::new(),
            crowd,
            keys,
            _status: None,
            _claim: claim,
            strangers: Arc::default(),
        };
        let plan = plan(&gateway.settings, &draft, &names)?;
        gateway.credentials.adopt(draft);
        gateway.open(plan, bound, udp).await?;
        let (calls, pulse) = (gateway.media.as_ref().map(MediaPlane::calls), gateway.signalling.pulse());
        gateway._status = Serving::start(&gateway.settings.state_dir, Desk { calls, pulse });
        for (listener, address) in listening(&gateway.settings) {
            info!(listener, %address, "listening");
        }
        info!(version = env!("CARGO_PKG_VERSION"), "the gateway runs");
        Ok(gateway)
    }

    /// Puts new settings in force: flows, calls, tunnels and audio go on.
    ///
    /// # Errors
    /// [`StartError`]; then the old settings stay in force.
    pub async fn reload(&mut self, settings: Settings) -> Result<(), StartError> {
        self.fixed(&settings)?;
        let bound = self.doors.bind(&wanted(&settings))?;
        let udp = bind_datagrams(&settings, &self.datagrams)?;
        let names = Arc::new(Names::new(&settings.net.dns, &settings.net.internal_domains)?);
        let draft = self.credentials.draft(&settings, &names)?;
        let switches = Switches::new(&settings, &draft)?;
        let plan = plan(&settings, &draft, &names)?;
        // From here on nothing fails but the operating system.
        self.credentials.adopt(draft);
        self.signalling.reconfigure(&settings, switches, names).await;
        self.crowd.reconfigure(settings.guard.tls.clone());
        if let Some(media) = &self.media {
            media.reconfigure(&settings);
        }
        self.settings = settings;
        self.open(plan, bound, udp).await
    }

    /// Takes nothing new and returns when the last call has ended, or after `patience`.
    pub async fn drain(&mut self, patience: Duration) {
        self.signalling.drain().await;
        let until = Instant::now() + patience;
        while self.signalling.snapshot().await.is_some_and(|state| state.dialogs > 0)
            && Instant::now() < until
        {
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// Makes a new key for routing tokens: phones that register for the first time from now on get it, the others keep
    /// theirs.
    ///
    /// # Errors
    /// [`KeyError`]; then the keys are as they were.
    pub async fn rotate_keys(&mut self) -> Result<(), KeyError> {
        self.keys.rotate()?;
        self.signalling.rekey(self.keys.ring()).await;
        info!(key = self.keys.newest(), "a new key for routing tokens");
        Ok(())
    }

    /// Makes a new key when `sip.tag_routing.key_rotation` says so, and deletes those that no phone needs any more. To be
    /// called now and then.
    ///
    /// # Errors
    /// [`KeyError`]; then the keys are as they were.
    pub async fn tend_keys(&mut self) -> Result<(), KeyError> {
        if self.keys.is_due(self.settings.sip.key_rotation) {
            self.rotate_keys().await?;
        }
        if self.keys.ring().older().next().is_none() {
            return Ok(());
        }
        // Only the machine knows who was born with what.
        let Some(state) = self.signalling.snapshot().await else { return Ok(()) };
        let gone = self.keys.forget(&state.keys)?;
        if gone > 0 {
            self.signalling.rekey(self.keys.ring()).await;
            info!(gone, "keys that no phone needs any more are deleted");
        }
        Ok(())
    }

    /// Waits for a part that ends by itself: its name if a fault of ours made it do so, `None` if the log has said what did. The
    /// gateway serves nobody then, and whoever runs it should start it anew.
    pub async fn failed(&mut self) -> Option<&'static str> {
        let relay = async {
            match &mut self.media {
                Some(media) => media.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.signalling.ended() => Some("signalling"),
            told = relay => (!told).then_some("the media relay"),
        }
    }

    /// Closes every connection and ends.
    pub async fn stop(mut self) {
        self.doors.close();
        for endpoint in self.endpoints.values() {
            endpoint.close();
        }
        self.signalling.stop().await;
        if let Some(media) = self.media {
            media.farewell().await;
        }
    }

    fn fixed(&self, new: &Settings) -> Result<(), StartError> {
        let old = &self.settings;
        let addresses = |settings: &Settings| {
            let net = &settings.net;
            [&net.inside, &net.outside].map(|one| (one.addresses.clone(), one.public_address))
        };
        if old.state_dir != new.state_dir {
            return Err(StartError::Fixed("state_dir"));
        }
        if old.lab != new.lab {
            return Err(StartError::Fixed("lab"));
        }
        if addresses(old) != addresses(new) {
            return Err(StartError::Fixed("net.interfaces"));
        }
        if old.media.port_range != new.media.port_range {
            return Err(StartError::Fixed("media.port_range"));
        }
        if old.media.workers != new.media.workers {
            return Err(StartError::Fixed("media.workers"));
        }
        if old.media.dscp != new.media.dscp {
            return Err(StartError::Fixed("media.dscp"));
        }
        if old.media.process != new.media.process {
            return Err(StartError::Fixed("media.process"));
        }
        if old.sip.shards != new.sip.shards {
            return Err(StartError::Fixed("sip.shards"));
        }
        if old.sip.stun_keepalive != new.sip.stun_keepalive && !datagram_rows(new).is_empty() {
            return Err(StartError::Fixed("fent.stun_keepalive"));
        }
        let rules = |row: &SipPort| (row.inside, row.allow_from.clone(), row.trust_source);
        let (before, after) = (datagram_rows(old), datagram_rows(new));
        if after
            .iter()
            .any(|(address, row)| before.get(address).is_some_and(|known| rules(known) != rules(row)))
        {
            return Err(StartError::Fixed("sip.ports: interface, allow_from or trust_source of a UDP row"));
        }
        if old.log != new.log {
            return Err(StartError::Fixed("log"));
        }
        Ok(())
    }
}

/// Takes all the descriptors that the process may have (decision 15): each connection, and each port of the relay, is one.
/// Says how many that are.
pub(crate) fn raise_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let now = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// Everything a configuration needs that could have failed.
#[derive(Default)]
struct Plan {
    acceptors: BTreeMap<String, Arc<Acceptor>>,
    services: BTreeMap<String, tunnel::net::Config>,
}

/// Builds everything that can fail, before anything changes.
fn plan(settings: &Settings, draft: &Draft, names: &Arc<Names>) -> Result<Plan, StartError> {
    let mut plan = Plan::default();
    let acceptor = |tls, application| -> Result<Arc<Acceptor>, CredentialError> {
        Ok(Arc::new(Acceptor::new(draft.listener(tls, application)?)?))
    };
    for port in &settings.sip.ports {
        if let Some(tls) = &port.tls {
            plan.acceptors.insert(sip_name(port), acceptor(tls, Application::Sip)?);
        }
    }
    for (name, endpoint) in &settings.endpoints {
        plan.services.insert(name.clone(), http::service(name, endpoint, settings, draft, names)?);
        if let Some(tls) = &endpoint.tls {
            plan.acceptors.insert(http_name(name), acceptor(tls, Application::Http1)?);
        }
    }
    Ok(plan)
}
