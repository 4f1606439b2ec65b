//! Certificates and their renewal: the cells that listeners and diallers show.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use acme_store::certificate::Credential;
use acme_store::disk::Disk;
use acme_store::lifecycle::{self, Plan, PrepareError};
use acme_store::net::authority::{self, Acme, SetupError};
use acme_store::net::renewer::{Event, Renewer, Work};
use acme_store::order::Tokens;
use acme_store::publish::{Application, BuildError, Certificate, Clients, Dialler, Listener, Versions};
use acme_store::request::Form;
use acme_store::schedule::Urgency;
use acme_store::store::{Store, StoreError};
use acme_store::trust::Trust;
use acme_store::verify::NameRule;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::names::Names;
use crate::config::{AcmeDomain, CertificateOrigin, ListenTls, Settings};

/// Events of all renewers that wait to be logged.
const EVENTS: usize = 64;

/// A certificate of the configuration can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The state folder.
    #[error("state: {0}")]
    Store(#[from] StoreError),
    /// Key, interim certificate or stored certificate.
    #[error("certificate \"{name}\": {error}")]
    Prepare {
        /// Its name.
        name: String,
        /// Why.
        error: PrepareError,
    },
    /// The ACME client.
    #[error("certificate \"{name}\": ACME: {error}")]
    Acme {
        /// Its name.
        name: String,
        /// Why.
        error: SetupError,
    },
    /// The TLS library.
    #[error(transparent)]
    Tls(#[from] BuildError),
    /// The operating system has no randomness.
    #[error("randomness: {0}")]
    Randomness(#[from] io::Error),
    /// A name that the check should have refused.
    #[error("there is no {kind} \"{name}\"")]
    Missing {
        /// What was looked for.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// All certificates in use.
pub(crate) struct Credentials {
    store: Arc<Disk>,
    tokens: Tokens,
    certificates: BTreeMap<String, Arc<Certificate>>,
    renewers: BTreeMap<String, Renewing>,
    events: mpsc::Sender<Event>,
}

/// What a configuration wants, ready and not yet in force: TLS can be built on it, and it can still be thrown away.
pub(crate) struct Draft {
    /// Cells in use, which still show what they showed, and new ones.
    certificates: BTreeMap<String, Arc<Certificate>>,
    /// What the cells shall show.
    credentials: Vec<(String, Credential)>,
    trust: BTreeMap<String, Trust>,
    orders: Vec<Order>,
}

/// A certificate that an authority shall sign.
struct Order {
    plan: Plan,
    domain: AcmeDomain,
    names: Arc<Names>,
    authority: Acme,
    seed: [u8; 32],
}

struct Renewing {
    plan: Plan,
    domain: AcmeDomain,
    names: Arc<Names>,
    _renewer: Renewer,
}

impl Credentials {
    /// Opens the state folder. No certificate yet: see [`Credentials::draft`].
    pub(crate) fn open(state_dir: &Path) -> Result<Self, CredentialError> {
        let store = Arc::new(Disk::open(state_dir)?);
        let (events, mut receiver) = mpsc::channel(EVENTS);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                log(&event);
            }
        });
        Ok(Self {
            store,
            tokens: Tokens::new(),
            certificates: BTreeMap::new(),
            renewers: BTreeMap::new(),
            events,
        })
    }

    /// The certificates and trust entries of `settings`. Keys that are made for it are stored, and nothing else changes.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub(crate) fn draft(&self, settings: &Settings, names: &Arc<Names>) -> Result<Draft, CredentialError> {
        let mut draft = Draft {
            certificates: BTreeMap::new(),
            credentials: Vec::new(),
            trust: settings.trust.clone(),
            orders: Vec::new(),
        };
        for (name, origin) in &settings.certificates {
            let credential = match origin {
                CertificateOrigin::Imported(credential) => credential.as_ref().clone(),
                CertificateOrigin::Requested { common_name, dns, key, acme } => {
                    let form = Form { common_name: common_name.clone(), ..Form::for_names(dns) };
                    let renewal = acme.as_ref().map(|acme| acme.renewal).unwrap_or_default();
                    let plan = Plan { name: name.clone(), form, key: *key, renewal };
                    let credential = self.prepared(&plan)?;
                    if let Some(domain) = acme.clone() {
                        let (authority, seed) = (self.authority(name, &domain, names)?, super::seed()?);
                        draft.orders.push(Order { plan, domain, names: names.clone(), authority, seed });
                    }
                    credential
                }
            };
            let known = self.certificates.get(name).cloned();
            let cell = known.unwrap_or_else(|| Certificate::new(credential.clone()));
            draft.certificates.insert(name.clone(), cell);
            draft.credentials.push((name.clone(), credential));
        }
        Ok(draft)
    }

    /// What to show for a certificate that is made here.
    fn prepared(&self, plan: &Plan) -> Result<Credential, CredentialError> {
        let (store, now) = (self.store.as_ref(), SystemTime::now());
        let prepared = match self.certificates.get(&plan.name) {
            Some(cell) => lifecycle::prepare_again(store, plan, &cell.current(), now),
            None => lifecycle::prepare(store, plan, now),
        };
        let (credential, origin) =
            prepared.map_err(|error| CredentialError::Prepare { name: plan.name.clone(), error })?;
        info!(certificate = plan.name, ?origin, "certificate in use");
        Ok(credential)
    }

    fn authority(&self, name: &str, acme: &AcmeDomain, names: &Arc<Names>) -> Result<Acme, CredentialError> {
        let names = names.clone();
        let settings = authority::Settings {
            directory: acme.directory.clone(),
            roots: acme.roots.clone(),
            account: acme.account.clone(),
            contacts: acme.contact.clone(),
            dial: Arc::new(move |host, port| {
                let names = names.clone();
                Box::pin(async move { names.connect(&host, port).await })
            }),
        };
        let store: Arc<dyn Store> = self.store.clone();
        Acme::new(settings, store, SystemTime::now())
            .map_err(|error| CredentialError::Acme { name: name.to_owned(), error })
    }

    /// Puts a draft in force: every cell shows its credential from the next handshake on; renewers of which nothing
    /// changed go on.
    pub(crate) fn adopt(&mut self, draft: Draft) {
        self.certificates = draft.certificates;
        for (name, credential) in draft.credentials {
            if let Some(cell) = self.certificates.get(&name) {
                cell.publish(credential);
            }
        }
        let mut before = std::mem::take(&mut self.renewers);
        for Order { plan, domain, names, authority, seed } in draft.orders {
            let Some(certificate) = self.certificates.get(&plan.name).cloned() else { continue };
            let name = plan.name.clone();
            let unchanged = |old: &Renewing| old.plan == plan && old.domain == domain && old.names == names;
            let renewing = before.remove(&name).filter(unchanged).unwrap_or_else(|| Renewing {
                plan: plan.clone(),
                domain,
                names,
                _renewer: Renewer::start(Work {
                    plan,
                    certificate,
                    authority,
                    tokens: self.tokens.clone(),
                    store: self.store.clone(),
                    clock: Arc::new(SystemTime::now),
                    seed,
                    events: self.events.clone(),
                }),
            });
            self.renewers.insert(name, renewing);
        }
    }

    /// The answers to HTTP-01 challenges.
    pub(crate) fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }
}

impl Draft {
    /// The TLS side of a listener.
    pub(crate) fn listener(
        &self,
        tls: &ListenTls,
        application: Application,
    ) -> Result<Listener, CredentialError> {
        let clients = match &tls.trust {
            Some(trust) => Clients::Known { trust: self.trust(trust)?, required: tls.require_client_cert },
            None => Clients::Anonymous,
        };
        let certificate = self.certificate(&tls.certificate)?;
        Ok(Listener { certificate, clients, versions: tls.versions, application })
    }

    /// The TLS side of connections we open.
    pub(crate) fn dialler(
        &self,
        certificate: Option<&str>,
        trust: &str,
        rule: NameRule,
        application: Application,
    ) -> Result<Dialler, CredentialError> {
        let certificate = certificate.map(|name| self.certificate(name)).transpose()?;
        let trust = self.trust(trust)?;
        Ok(Dialler { certificate, trust, names: rule, versions: Versions::V12AndUp, application })
    }

    fn certificate(&self, name: &str) -> Result<Arc<Certificate>, CredentialError> {
        let missing = || CredentialError::Missing { kind: "certificate", name: name.to_owned() };
        self.certificates.get(name).cloned().ok_or_else(missing)
    }

    fn trust(&self, name: &str) -> Result<Trust, CredentialError> {
        let missing = || CredentialError::Missing { kind: "trust entry", name: name.to_owned() };
        self.trust.get(name).cloned().ok_or_else(missing)
    }
}

fn log(event: &Event) {
    match event {
        Event::Ordering { name, reason } => info!(certificate = name, ?reason, "ordering a certificate"),
        Event::Activated { name, serial, .. } => {
            info!(certificate = name, serial, "a new certificate is in use")
        }
        Event::Failed { name, error, failures, retry_in } => {
            let retry_in = retry_in.as_secs();
            warn!(
                certificate = name,
                error, failures, retry_in, "the order failed; the certificate in use stays"
            );
        }
        Event::NotStored { name, error } => {
            error!(certificate = name, error, "the new certificate can't be stored")
        }
        Event::Urgent { name, urgency, .. } if *urgency >= Urgency::Critical => {
            error!(certificate = name, ?urgency, "the certificate runs out and renewals fail");
        }
        Event::Urgent { name, urgency, .. } => {
            warn!(certificate = name, ?urgency, "the certificate grows old and renewals fail");
        }
        _ => {}
    }
}

impl Names {
    /// A TCP connection to `host`, a name or an address.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.addresses(host).await? {
            match tokio::net::TcpStream::connect((address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
