//! One phone, from the box to the end of the NOTIFY burst.

use std::net::SocketAddr;

use super::{Play, Station};
use crate::phone::Phone;
use crate::phone::boot::{BootError, Startup, field};
use crate::phone::line::{Line, Notify, Registered};
use crate::plan::Handset;
use crate::site::registrar::Delivery;
use crate::text::{address, host_port};

/// What the HQ server tells a phone.
struct Settings {
    switch: SocketAddr,
    cas: String,
}

/// The events of the burst after a registration, in its order.
const BURST: [&str; 4] = ["message-summary", "phone-settings", "button-map", "firmware-query"];

impl Play<'_> {
    /// Boots and registers one phone; `None` when a step failed.
    pub(super) async fn bring_up(&mut self, handset: &Handset) -> Option<Station> {
        let mac = Some(handset.mac);
        let made = Phone::new(handset.clone(), self.pki, self.options.patience);
        let phone = match made {
            Ok(phone) => phone,
            Err(error) => return self.step("phone", mac, Err(error)),
        };
        self.first_boot(&phone).await?;
        let startup = self.second_boot(&phone).await?;
        let settings = self.through_the_tunnel(&phone, &startup).await?;
        self.assign(&phone, &startup, &settings).await?;
        self.register(phone, settings.switch).await
    }

    /// Steps 1 to 5: the user has typed the gateway's name; version, firmware.
    async fn first_boot(&mut self, phone: &Phone) -> Option<()> {
        let (mac, fqdn, files) = (Some(phone.handset().mac), &self.gateway.fqdn, self.gateway.files);
        let opened = phone.open(files, fqdn).await;
        let detail = format!("mutual TLS with {fqdn} at {files}, both certificates accepted");
        let mut https = self.step("certificate", mac, opened.map(|https| (https, detail)))?;
        let version = phone.version(&mut https, fqdn).await;
        let version = self.step(
            "version",
            mac,
            version.map(|v| (v.clone(), format!("version.txt from HQ: {}", v.version))),
        )?;
        let firmware = phone.firmware(&mut https, fqdn, &version).await;
        let port = files.port();
        self.step(
            "firmware",
            mac,
            firmware.map(|size| {
                ((), format!("{size} bytes, checksum holds; cookie {fqdn}:{port} saved, phone restarts"))
            }),
        )
    }

    /// Steps 6 and 7: no trust file in clear, `startup.cfg` over a new connection.
    async fn second_boot(&mut self, phone: &Phone) -> Option<Startup> {
        let (mac, fqdn) = (Some(phone.handset().mac), &self.gateway.fqdn);
        let clear = phone.clear_trust_file(self.gateway.http80, fqdn).await;
        self.step(
            "clear http",
            mac,
            clear.map(|took| {
                ((), format!("hq_ca.crt on port 80: 404 after {} ms, as wanted", took.as_millis()))
            }),
        )?;
        let startup = async {
            let mut https = phone.open(self.gateway.files, fqdn).await?;
            let startup = phone.startup(&mut https, fqdn).await?;
            let port = self.gateway.tunnel.port();
            if startup.tunnel_port != port {
                let text = format!("startup.cfg says tunnel port {}, not {port}", startup.tunnel_port);
                return Err(BootError::Content(text));
            }
            Ok(startup)
        };
        let outcome = startup.await.map(|startup| {
            let servers = startup.config_servers.join(", ");
            let port = startup.tunnel_port;
            (startup, format!("startup.cfg and .sha256 agree: config server {servers}, tunnel port {port}"))
        });
        self.step("file", mac, outcome)
    }

    /// CONNECT to the HQ server: its root over the clear port, then the phone's settings over TLS.
    async fn through_the_tunnel(&mut self, phone: &Phone, startup: &Startup) -> Option<Settings> {
        let mac = phone.handset().mac;
        let host = startup.config_servers.first().map_or("", String::as_str);
        let (fqdn, site) = (&self.gateway.fqdn, self.site.addresses());
        let gate = SocketAddr::new(self.gateway.tunnel.ip(), startup.tunnel_port);
        let fetched = async {
            let tunnel = phone.tunnel(gate, fqdn, &format!("{host}:{}", site.hq_http.port())).await?;
            let root = phone.trust_file(tunnel, host).await?;
            let target = format!("{host}:{}", site.hq_https.port());
            let tunnel = phone.tunnel(gate, fqdn, &target).await?;
            let path = format!("/fileserver/phoneconfig/{mac}.cfg");
            let text = phone.inner_get(tunnel, &root, host, &path).await?;
            let wrong = || BootError::Content(format!("{path} names no switch or no CAS"));
            let switch = field(&text, "switch").and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
            Ok::<_, BootError>((Settings { switch, cas: field(&text, "cas").ok_or_else(wrong)? }, target))
        };
        let outcome = fetched.await.map(|(settings, target)| {
            let detail =
                format!("CONNECT {target}: trust file and settings fetched, switch {}", settings.switch);
            (settings, detail)
        });
        self.step("tunnel", Some(mac), outcome)
    }

    /// CONNECT to the CAS: the user asks for an extension.
    async fn assign(&mut self, phone: &Phone, startup: &Startup, settings: &Settings) -> Option<()> {
        let Handset { mac, extension, .. } = phone.handset();
        let gate = SocketAddr::new(self.gateway.tunnel.ip(), startup.tunnel_port);
        let (fqdn, cas) = (&self.gateway.fqdn, &settings.cas);
        let host = cas.split(':').next().unwrap_or("");
        let root = self.pki.hq_root();
        let asked = async {
            let tunnel = phone.tunnel(gate, fqdn, cas).await?;
            phone.inner_get(tunnel, root, host, &format!("/cas/hello?mac={mac}")).await?;
            let tunnel = phone.tunnel(gate, fqdn, cas).await?;
            let path = format!("/cas/assign?mac={mac}&extension={extension}");
            let answer = phone.inner_get(tunnel, root, host, &path).await?;
            if answer.contains(&format!("\"extension\":\"{extension}\"")) {
                Ok(())
            } else {
                Err(BootError::Content(format!("the CAS answered {answer}")))
            }
        };
        let outcome = asked.await.map(|()| ((), format!("CONNECT {cas}: extension {extension} assigned")));
        self.step("CAS", Some(*mac), outcome)
    }

    /// REGISTER as `anonymous`, follow a 301, receive the burst.
    async fn register(&mut self, phone: Phone, switch: SocketAddr) -> Option<Station> {
        let mac = phone.handset().mac;
        let before = self.site.records().deliveries.len();
        let line = Line::connect(&phone, self.gateway.sip, &self.gateway.fqdn).await;
        let detail = format!("mutual TLS with {} at {}", self.gateway.fqdn, self.gateway.sip);
        let line = self.step("certificate", Some(mac), line.map(|line| (line, detail)))?;
        let first = line.register(switch, 3600).await;
        let expects_move = self.options.rehome == Some(mac);
        let (switch, contacts) = match first {
            Ok(Registered::Bound(contacts)) if !expects_move => (switch, contacts),
            Ok(Registered::Bound(_)) => {
                return self.step("re-homing", Some(mac), Err("REGISTER was not answered 301"));
            }
            Ok(Registered::Moved(to)) => {
                let outcome = match line.register(to, 3600).await {
                    Ok(Registered::Bound(contacts)) => {
                        Ok(((to, contacts), format!("301 from {switch}: registered at {to}")))
                    }
                    Ok(Registered::Moved(again)) => Err(format!("301 again, to {again}")),
                    Err(error) => Err(format!("301 names {to}: {error}")),
                };
                self.step("re-homing", Some(mac), outcome)?
            }
            Err(error) => return self.step("register", Some(mac), Err(error)),
        };
        let station = Station { phone, line, switch };
        self.step("register", Some(mac), Ok::<_, String>(((), format!("as anonymous: 200 from {switch}"))))?;
        let outcome = match own_contact(&station, &contacts) {
            Ok(()) => self.burst(&station, before).await,
            Err(error) => Err(error),
        };
        let outcome = outcome.map(|text| ((), format!("only our own Contact in the 200; {text}")));
        self.step("tag routing", Some(mac), outcome)?;
        Some(station)
    }

    /// Waits for the burst after a registration: every NOTIFY reached this phone and was answered.
    pub(super) async fn burst(&mut self, station: &Station, before: usize) -> Result<String, String> {
        let mac = station.mac();
        // Other events of this phone, a keep-alive say, are no part of the burst.
        let ours =
            |delivery: &&Delivery| delivery.mac == Some(mac) && BURST.contains(&delivery.event.as_str());
        let complete = self.site.wait(self.options.patience, |records| {
            records.deliveries.iter().skip(before).filter(ours).count() >= BURST.len()
        });
        let (Ok(records) | Err(records)) = complete.await;
        let deliveries: Vec<Delivery> = records.deliveries.iter().skip(before).cloned().collect();
        delivered(station.phone.handset(), &deliveries, &station.line.seen().notifies, &BURST)
    }

    /// Nobody gets in without a certificate, or with one the manufacturer never signed.
    pub(super) async fn strangers(&mut self, handset: &Handset) {
        for (certificate, who) in [(false, "without a certificate"), (true, "with a forged certificate")] {
            let (mut last, mut wrong) = (String::new(), None);
            for (door, to) in
                [("SIP", self.gateway.sip), ("files", self.gateway.files), ("tunnel", self.gateway.tunnel)]
            {
                let patience = self.options.patience;
                let refused = match Phone::impostor(handset.clone(), self.pki, certificate, patience) {
                    Ok(phone) => phone.refused(to, &self.gateway.fqdn).await.map_err(|e| e.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                match refused {
                    Ok(how) => last = how,
                    Err(error) => wrong = Some(format!("{who}, {door} port: {error}")),
                }
            }
            let outcome =
                wrong.map_or_else(|| Ok(((), format!("{who}: refused on every port ({last})"))), Err);
            self.step("certificate", None, outcome);
        }
    }
}

/// The 200 to a REGISTER shows the phone its own Contact, as it wrote it, and nobody else's.
fn own_contact(station: &Station, contacts: &[String]) -> Result<(), String> {
    let own = format!("sips:anonymous@{}", station.phone.handset().ip);
    match contacts {
        [one] if address(one) == own => Ok(()),
        [one] => Err(format!("the 200 shows {}, we registered {own}", address(one))),
        _ => Err(format!("the 200 lists {} Contacts", contacts.len())),
    }
}

/// Whether every event was answered 200 and arrived at its own phone, and nothing else did.
pub(super) fn delivered(
    handset: &Handset,
    deliveries: &[Delivery],
    seen: &[Notify],
    events: &[&str],
) -> Result<String, String> {
    let (mac, ip) = (handset.mac, handset.ip.to_string());
    for event in events {
        match deliveries.iter().find(|d| d.mac == Some(mac) && d.event == *event) {
            None => return Err(format!("the switch got no answer to its NOTIFY {event}")),
            Some(delivery) if !delivery.arrived() => {
                return Err(format!("the switch's NOTIFY {event}: {}", delivery.verdict));
            }
            Some(_) => {}
        }
        if !seen.iter().any(|notify| notify.event == *event && notify.mac == Some(mac)) {
            return Err(format!("NOTIFY {event} was answered 200, but by another phone"));
        }
    }
    match seen.iter().find(|notify| notify.mac != Some(mac)) {
        Some(Notify { event, mac: Some(other), .. }) => Err(format!("got NOTIFY {event} meant for {other}")),
        Some(Notify { event, .. }) => Err(format!("got NOTIFY {event} that names no phone")),
        None => match seen.iter().find(|notify| host_port(&notify.uri) != ip) {
            Some(notify) => Err(format!("got NOTIFY {} for {}, not our Contact", notify.event, notify.uri)),
            None => Ok(format!("NOTIFY {}: all our own", events.join(", "))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;
    use crate::plan::Plan;

    #[test]
    fn a_notify_counts_only_where_it_belongs() {
        let phones = Plan::default().handsets(2);
        let (mine, other) = (&phones[0], phones[1].mac);
        let sent = |verdict: &str| {
            vec![Delivery { mac: Some(mine.mac), event: "x".to_owned(), verdict: verdict.to_owned() }]
        };
        let got = |mac: Mac, host: &str| {
            vec![Notify { event: "x".to_owned(), mac: Some(mac), uri: format!("sips:anonymous@{host}") }]
        };
        let ip = mine.ip.to_string();
        let judge = |deliveries: &[Delivery], seen: &[Notify]| delivered(mine, deliveries, seen, &["x"]);
        assert!(judge(&sent("200 OK"), &got(mine.mac, &ip)).is_ok());
        // Not answered, refused, swallowed, somebody else's too, a Contact that is not ours.
        let both = [got(mine.mac, &ip), got(other, &ip)].concat();
        for (deliveries, seen, reason) in [
            (vec![], got(mine.mac, &ip), "no answer"),
            (sent("485 Ambiguous"), got(mine.mac, &ip), "485 Ambiguous"),
            (sent("200 OK"), vec![], "by another phone"),
            (sent("200 OK"), both, "meant for 08000FD4C002"),
            (sent("200 OK"), got(mine.mac, "127.10.1.2:5061"), "not our Contact"),
        ] {
            let outcome = judge(&deliveries, &seen);
            assert!(outcome.as_ref().is_err_and(|text| text.contains(reason)), "{outcome:?}");
        }
    }
}
