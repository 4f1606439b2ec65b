//! The script of the demonstration: phones boot through the gateway (`boot`), are told apart, call each other
//! (`calls`); real clients may join ([`attach`]).

pub mod attach;
mod boot;
mod calls;

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::fault::Fault;
use crate::mac::Mac;
use crate::phone::Phone;
use crate::phone::line::{Line, Registered};
use crate::pki::Pki;
use crate::plan::Handset;
use crate::site::Site;
use crate::timeline::{Step, Timeline};

/// Where the gateway under test is.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Outside: SIP over TLS for phones (5061 in the field).
    pub sip: SocketAddr,
    /// Outside: HTTPS repository (6586).
    pub files: SocketAddr,
    /// Outside: CONNECT tunnel (6587). Must be the port `startup.cfg` names.
    pub tunnel: SocketAddr,
    /// Outside: clear HTTP (80).
    pub http80: SocketAddr,
    /// Inside: where switches reach phones; the address in the Contacts the gateway registers.
    pub inside_sip: SocketAddr,
    /// Outside: the address of the media relay.
    pub media: IpAddr,
    /// What the relay does to the TTL.
    pub ttl: Ttl,
    /// The name its outside certificate must have.
    pub fqdn: String,
}

/// `media.ttl` of the gateway's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// Received value minus one.
    Keep,
    /// Always this value.
    Reset(u8),
}

/// How the play is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bound of every wait.
    pub patience: Duration,
    /// How long each call lasts.
    pub talk: Duration,
    /// Leave the phones registered at the end; they live as long as the report's [`Report::stations`].
    pub stay: bool,
    /// The phone the site re-homes, as given to [`crate::site::Options::rehome`].
    pub rehome: Option<Mac>,
    /// What was broken on purpose, for the verdict.
    pub fault: Option<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            talk: Duration::from_millis(1200),
            stay: false,
            rehome: None,
            fault: None,
        }
    }
}

/// A phone that is up.
#[derive(Debug)]
pub struct Station {
    /// The phone.
    pub phone: Phone,
    /// Its line.
    pub line: Line,
    /// The switch that took its registration.
    pub switch: SocketAddr,
}

impl Station {
    fn mac(&self) -> Mac {
        self.phone.handset().mac
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Every step.
    pub steps: Vec<Step>,
    /// The phones that are still up (with [`Options::stay`]).
    pub stations: Vec<Station>,
}

impl Report {
    /// Every step held, and there were some.
    pub fn held(&self) -> bool {
        !self.steps.is_empty() && self.failed().is_none()
    }

    /// The first step that failed.
    pub fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.outcome.is_err())
    }

    /// Whether the first failure is the step that `fault` breaks.
    pub fn shows(&self, fault: Fault) -> bool {
        self.failed().is_some_and(|step| step.name == fault.step())
    }
}

/// Plays the whole script. Prints through the timeline, never returns early with an error: what does not work
/// is a step that failed, with the reason.
pub async fn run(
    gateway: &Gateway,
    site: &Site,
    pki: &Pki,
    handsets: &[Handset],
    options: &Options,
    timeline: &mut Timeline,
) -> Report {
    let mut play = Play { gateway, site, pki, options, timeline };
    play.timeline
        .heading(&format!("{} phones boot from the box and register as 'anonymous'", handsets.len()));
    let mut stations = Vec::new();
    for handset in handsets {
        stations.extend(play.bring_up(handset).await);
    }
    if let Some(handset) = handsets.first().filter(|_| !stations.is_empty()) {
        play.strangers(handset).await;
    }
    if stations.len() == handsets.len() {
        play.timeline.heading("the site reaches every phone, each by its tag");
        play.director(&stations);
        play.round(&stations).await;
        play.pings(&stations).await;
        if let Some(station) = stations.first_mut() {
            play.reconnect(station).await;
        }
        play.timeline.heading("phones call each other through the relay");
        play.calls(&stations).await;
    } else {
        let (up, all) = (stations.len(), handsets.len());
        play.timeline.line(&format!("\n({up} of {all} phones are up: no calls)"));
    }
    if !options.stay && !stations.is_empty() {
        play.timeline.heading("good night");
        for station in stations.drain(..) {
            play.deregister(station).await;
        }
    }
    if let Some(fault) = options.fault {
        play.timeline.line(&format!("\n({fault} was broken on purpose)"));
    }
    timeline.summary();
    Report { steps: timeline.steps().to_vec(), stations }
}

struct Play<'a> {
    gateway: &'a Gateway,
    site: &'a Site,
    pki: &'a Pki,
    options: &'a Options,
    timeline: &'a mut Timeline,
}

impl Play<'_> {
    /// Records a step; gives its value when it held.
    fn step<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        mac: Option<Mac>,
        outcome: Result<(T, String), E>,
    ) -> Option<T> {
        match outcome {
            Ok((value, detail)) => {
                self.timeline.record(name, mac, Ok(detail));
                Some(value)
            }
            Err(error) => {
                self.timeline.record(name, mac, Err(error.to_string()));
                None
            }
        }
    }

    /// The administrator's view: each phone once, with a Contact of its own at the gateway's inside address.
    fn director(&mut self, stations: &[Station]) {
        let records = self.site.records();
        let mut uris = HashSet::new();
        for station in stations {
            let outcome = match records.bindings.iter().filter(|b| b.mac == Some(station.mac())).count() {
                1 => Ok(()),
                count => Err(format!("{count} bindings at the site instead of one")),
            };
            let outcome = outcome.and_then(|()| {
                let binding = records.phone(station.mac()).ok_or("no binding at the site")?;
                let inside = self.gateway.inside_sip.to_string();
                if crate::text::host_port(&binding.uri) != inside {
                    return Err(format!("registered as {}, not at {inside}", binding.uri));
                }
                if !uris.insert(binding.uri.to_ascii_lowercase()) {
                    return Err(format!("another phone has the same Contact {}", binding.uri));
                }
                Ok(((), format!("switch {} has {}", binding.switch + 1, binding.uri)))
            });
            self.step("tag routing", Some(station.mac()), outcome);
        }
    }

    /// One NOTIFY to every phone at the same time: each gets its own and no other.
    async fn round(&mut self, stations: &[Station]) {
        let before: Vec<usize> = stations.iter().map(|s| s.line.seen().notifies.len()).collect();
        let deliveries = self.site.notify_all("time-sync").await;
        for (station, before) in stations.iter().zip(before) {
            let mac = station.mac();
            let seen = station.line.seen().notifies;
            let outcome = boot::delivered(
                station.phone.handset(),
                &deliveries,
                seen.get(before..).unwrap_or(&[]),
                &["time-sync"],
            );
            self.step("tag routing", Some(mac), outcome.map(|text| ((), format!("all at once: {text}"))));
        }
    }

    /// CRLF CRLF from each phone, OPTIONS from each switch.
    async fn pings(&mut self, stations: &[Station]) {
        for station in stations {
            let outcome = match station.line.ping().await {
                Ok(()) => match self.site.options(station.mac()).await {
                    verdict if verdict.starts_with("200") => {
                        Ok(((), "CRLF CRLF answered by CRLF; the switch's OPTIONS answered 200".to_owned()))
                    }
                    verdict => Err(format!("the switch's OPTIONS: {verdict}")),
                },
                Err(error) => Err(error.to_string()),
            };
            self.step("ping", Some(station.mac()), outcome);
        }
    }

    /// A phone's connection goes and comes back from another port; the site keeps the one binding it had.
    async fn reconnect(&mut self, station: &mut Station) {
        let mac = station.mac();
        let outcome = self.new_line(station).await;
        self.step("reconnect", Some(mac), outcome.map(|text| ((), text)));
    }

    async fn new_line(&mut self, station: &mut Station) -> Result<String, String> {
        let mac = station.mac();
        let before = self.site.records();
        let (old, uri) = (station.line.local(), before.phone(mac).map(|b| b.uri.clone()).unwrap_or_default());
        station.line.close().await;
        self.gone(mac).await?;
        let line = Line::connect(&station.phone, self.gateway.sip, &self.gateway.fqdn)
            .await
            .map_err(|error| error.to_string())?;
        let result = line.register(station.switch, 3600).await.map_err(|error| error.to_string())?;
        if !matches!(result, Registered::Bound(_)) {
            return Err("the REGISTER after the reconnect was redirected".to_owned());
        }
        station.line = line;
        self.burst(station, before.deliveries.len()).await?;
        let after = self.site.records();
        match after.phone(mac) {
            Some(binding) if binding.uri == uri && after.bindings.len() == before.bindings.len() => {}
            Some(binding) => return Err(format!("a new Contact at the switch: {} after {uri}", binding.uri)),
            None => return Err("the binding is gone".to_owned()),
        }
        let new = station.line.local().port();
        Ok(format!(
            "port {} → {new}: 480 in between, same Contact at the switch, the burst arrived",
            old.port()
        ))
    }

    /// Once the gateway has noticed that the phone's connection is closed it says so: 480, or 430 (RFC 5626).
    async fn gone(&mut self, mac: Mac) -> Result<(), String> {
        let until = tokio::time::Instant::now() + self.options.patience;
        loop {
            let delivery = self.site.notify(mac, "keep-alive").await.ok_or("no binding at the site")?;
            match delivery.verdict.get(..3) {
                Some("480" | "430") => return Ok(()),
                _ if tokio::time::Instant::now() > until => {
                    return Err(format!("NOTIFY to a phone whose connection is gone: {}", delivery.verdict));
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn deregister(&mut self, station: Station) {
        let mac = station.mac();
        let outcome = match station.line.register(station.switch, 0).await {
            Ok(Registered::Bound(contacts)) if contacts.is_empty() => match self.site.records().phone(mac) {
                None => Ok(((), "binding removed at the switch".to_owned())),
                Some(binding) => Err(format!("the switch still has {}", binding.uri)),
            },
            Ok(Registered::Bound(contacts)) => Err(format!("expires=0 left {}", contacts.join(", "))),
            Ok(Registered::Moved(to)) => Err(format!("expires=0 was sent on to {to}")),
            Err(error) => Err(error.to_string()),
        };
        self.step("deregister", Some(mac), outcome);
        station.line.close().await;
    }
}
