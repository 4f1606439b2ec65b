//! The virtual PBX site: HQ server (`web`), CAS stub, three phone switches (`switch`, `bridge`) that share
//! one location table ([`registrar`]).

mod bridge;
pub mod registrar;
mod switch;
mod web;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use self::registrar::{Binding, Delivery, Records};
pub use self::switch::Over;
use self::switch::{Parts, Rehome, Shared, Switch};
use crate::http;
use crate::mac::Mac;
use crate::pki::Pki;
use crate::plan::Plan;
use crate::tls::{self, Clients, SettingsError};

/// The site could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No TLS settings.
    #[error(transparent)]
    Tls(#[from] SettingsError),
    /// An address could not be used.
    #[error("listen on {0}: {1}")]
    Listen(IpAddr, io::Error),
}

/// How the site behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The phone that its first switch sends to another one with a 301.
    pub rehome: Option<Mac>,
    /// The 301 names an address where no switch is ([`crate::fault::Fault::ReHoming`]).
    pub wrong_switch: bool,
    /// Over which connections switches send requests.
    pub over: Over,
    /// Size of the firmware, in bytes.
    pub firmware: usize,
    /// The longest a switch waits for an answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rehome: None,
            wrong_switch: false,
            over: Over::Dial,
            firmware: 2 * 1024 * 1024,
            patience: Duration::from_secs(5),
        }
    }
}

/// Where everything listens: for the gateway's configuration.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// HQ server, HTTPS.
    pub hq_https: SocketAddr,
    /// HQ server, clear HTTP: the trust file for phones at the site.
    pub hq_http: SocketAddr,
    /// The CAS.
    pub cas: SocketAddr,
    /// The switches: three addresses, one port.
    pub switches: [SocketAddr; 3],
    /// The HQ server's name in its certificate.
    pub hq_name: String,
}

/// A running site; it ends when dropped.
#[derive(Debug)]
pub struct Site {
    addresses: Addresses,
    records: Arc<watch::Sender<Records>>,
    switches: Vec<Arc<Switch>>,
    tasks: Vec<AbortHandle>,
}

impl Site {
    /// Starts every server on free ports of the plan's addresses.
    pub async fn start(plan: &Plan, pki: &Pki, options: &Options) -> Result<Self, SiteError> {
        let hq = |ip: Ipv4Addr| async move {
            let listener = TcpListener::bind((ip, 0)).await.map_err(|e| SiteError::Listen(ip.into(), e))?;
            let address = listener.local_addr().map_err(|e| SiteError::Listen(ip.into(), e))?;
            Ok::<_, SiteError>((listener, address))
        };
        let (https, hq_https) = hq(plan.hq).await?;
        let (clear, hq_http) = hq(plan.hq).await?;
        let (cas_listener, cas) = hq(plan.hq).await?;
        let (listeners, switches) = same_port(plan.switches).await?;
        let hq_name = plan.hq_name.clone();
        let addresses = Addresses { hq_https, hq_http, cas, switches, hq_name };
        let mut site = Self {
            records: Arc::new(watch::channel(Records::default()).0),
            switches: Vec::new(),
            tasks: Vec::new(),
            addresses,
        };
        site.serve_files(pki, options, [https, clear])?;
        site.serve_cas(pki, cas_listener)?;
        let shared = Shared::default();
        for (index, listener) in listeners.into_iter().enumerate() {
            site.start_switch(plan, pki, options, (index, listener), shared.clone())?;
        }
        Ok(site)
    }

    /// Where everything listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the site knows now.
    pub fn records(&self) -> Records {
        self.records.borrow().clone()
    }

    /// Waits until the records satisfy `enough`; the records then, or at the end of `patience`.
    pub async fn wait(
        &self,
        patience: Duration,
        enough: impl FnMut(&Records) -> bool,
    ) -> Result<Records, Records> {
        let mut records = self.records.subscribe();
        let outcome = tokio::time::timeout(patience, records.wait_for(enough)).await;
        match outcome {
            Ok(Ok(records)) => Ok(records.clone()),
            _ => Err(self.records()),
        }
    }

    /// Sends a NOTIFY of `event` to every binding at once, each from its own switch.
    pub async fn notify_all(&self, event: &'static str) -> Vec<Delivery> {
        let mut sent = Vec::new();
        for binding in self.records().bindings {
            if let Some(switch) = self.switches.get(binding.switch).map(Arc::clone) {
                sent.push(tokio::spawn(async move { switch.notify(&binding, event).await }));
            }
        }
        let mut deliveries = Vec::new();
        for sent in sent {
            deliveries.extend(sent.await);
        }
        deliveries
    }

    /// OPTIONS to one phone: status and reason phrase, or why there is none.
    pub async fn options(&self, mac: Mac) -> String {
        match self.binding(mac) {
            Some((switch, binding)) => switch.options(&binding).await,
            None => "no binding".to_owned(),
        }
    }

    /// NOTIFY to one phone.
    pub async fn notify(&self, mac: Mac, event: &str) -> Option<Delivery> {
        let (switch, binding) = self.binding(mac)?;
        Some(switch.notify(&binding, event).await)
    }

    /// UPDATE in the call to `extension`: status and reason phrase, or why there is none.
    pub async fn update(&self, extension: &str) -> String {
        for switch in &self.switches {
            if let Some(verdict) = switch.update(extension).await {
                return verdict;
            }
        }
        "no call".to_owned()
    }

    /// Ends the call to `extension` from the site.
    pub async fn release(&self, extension: &str) -> bool {
        for switch in &self.switches {
            if switch.release(extension).await {
                return true;
            }
        }
        false
    }

    fn binding(&self, mac: Mac) -> Option<(Arc<Switch>, Binding)> {
        let binding = self.records.borrow().phone(mac).cloned()?;
        Some((Arc::clone(self.switches.get(binding.switch)?), binding))
    }

    fn serve_files(
        &mut self,
        pki: &Pki,
        options: &Options,
        [https, clear]: [TcpListener; 2],
    ) -> Result<(), SiteError> {
        let settings = tls::server(&pki.hq, Clients::Anybody(&roots(pki)))?;
        let files = Arc::new(web::Files {
            hq_ca: pki.hq_root_pem().to_owned(),
            firmware: (0..options.firmware as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
            settings: self
                .addresses
                .switches
                .iter()
                .map(|switch| format!("switch: {switch}\ncas: {}\n", self.addresses.cas))
                .collect(),
        });
        let tls_files = Arc::clone(&files);
        self.spawn(accept(https, move |stream| {
            let (files, settings) = (Arc::clone(&tls_files), Arc::clone(&settings));
            async move {
                if let Ok(stream) = TlsAcceptor::from(settings).accept(stream).await {
                    let _ = http::serve(stream, |request| files.https(request)).await;
                }
            }
        }));
        self.spawn(accept(clear, move |stream| {
            let files = Arc::clone(&files);
            async move {
                let _ = http::serve(stream, |request| files.http(request)).await;
            }
        }));
        Ok(())
    }

    fn serve_cas(&mut self, pki: &Pki, listener: TcpListener) -> Result<(), SiteError> {
        let settings = tls::server(&pki.hq, Clients::Certified(&roots(pki)))?;
        let records = Arc::clone(&self.records);
        self.spawn(accept(listener, move |stream| {
            let (settings, records): (Arc<ServerConfig>, _) = (Arc::clone(&settings), Arc::clone(&records));
            async move {
                if let Ok(stream) = TlsAcceptor::from(settings).accept(stream).await {
                    let mac = tls::client_mac(stream.get_ref().1.peer_certificates());
                    let _ = http::serve(stream, |request| web::cas(request, mac, &records)).await;
                }
            }
        }));
        Ok(())
    }

    fn start_switch(
        &mut self,
        plan: &Plan,
        pki: &Pki,
        options: &Options,
        (index, listener): (usize, TcpListener),
        shared: Shared,
    ) -> Result<(), SiteError> {
        let switches = self.addresses.switches;
        let next = switches[(index + 1) % switches.len()];
        // The phone's settings name one switch; whichever that is, it sends the phone on to the next one.
        let rehome =
            options.rehome.filter(|mac| usize::from(mac.0[5]) % switches.len() == index).map(|mac| {
                let [a, b, c, _] = plan.hq.octets();
                let nobody = SocketAddr::new(IpAddr::from([a, b, c, 199]), next.port());
                Rehome { mac, to: if options.wrong_switch { nobody } else { next } }
            });
        let settings = tls::client(std::slice::from_ref(pki.hq_root()), Some(&pki.switches))?;
        let (switch, heard) = Switch::new(Parts {
            index,
            address: switches[index],
            records: Arc::clone(&self.records),
            over: options.over,
            patience: options.patience,
            rehome,
            settings,
            shared,
        });
        let server = tls::server(&pki.switches, Clients::Certified(&roots(pki)))?;
        self.spawn(Arc::clone(&switch).accept(listener, server));
        self.spawn(Arc::clone(&switch).run(heard));
        self.switches.push(switch);
        Ok(())
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task).abort_handle());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Whom the site's servers know: phones, and its own devices (the gateway's inside among them).
fn roots(pki: &Pki) -> [rustls_pki_types::CertificateDer<'static>; 2] {
    [pki.phone_root().clone(), pki.hq_root().clone()]
}

async fn accept<F, T>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            // Only a matter of delay.
            let _ = stream.set_nodelay(true);
            // Nobody of the demonstration stays longer; whoever stalls is dropped.
            tokio::spawn(tokio::time::timeout(Duration::from_secs(120), serve(stream)));
        }
    }
}

/// One port that is free on all three addresses: a gateway knows one port for its switches.
async fn same_port(ips: [Ipv4Addr; 3]) -> Result<(Vec<TcpListener>, [SocketAddr; 3]), SiteError> {
    let mut last = None;
    for _ in 0..50 {
        let failed = |ip: Ipv4Addr| move |error| SiteError::Listen(ip.into(), error);
        let first = TcpListener::bind((ips[0], 0)).await.map_err(failed(ips[0]))?;
        let port = first.local_addr().map_err(failed(ips[0]))?.port();
        let second = TcpListener::bind((ips[1], port)).await.map_err(failed(ips[1]));
        let third = TcpListener::bind((ips[2], port)).await.map_err(failed(ips[2]));
        match (second, third) {
            (Ok(second), Ok(third)) => {
                return Ok((vec![first, second, third], ips.map(|ip| SocketAddr::from((ip, port)))));
            }
            (Err(error), _) | (_, Err(error)) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| SiteError::Listen(ips[0].into(), io::Error::other("no port is free on all"))))
}
