//! `farend demo`: the real gateway between a virtual PBX site and virtual phones, all on loopback.

mod configuration;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use twin::fault::Fault;
use twin::pki::Pki;
use twin::plan::{Handset, Plan};
use twin::play::{self, Options, Report, Ttl, attach};
use twin::site::{self, Site};
use twin::timeline::Timeline;

use crate::Gateway;
use crate::config::{Endpoint, Settings};
use crate::{config, log};
use configuration::Ports;

/// The phones of the demonstration.
const PHONES: usize = 6;
/// The phone that its first switch sends on with a 301.
const REHOMED: usize = 1;

/// Plays the demonstration; succeeds only when every step held. `broken` names a part to disable, which
/// must then fail; with `stay` the site goes on until it is interrupted.
pub fn run(broken: Option<&str>, stay: bool) -> ExitCode {
    let fault = match broken.map(str::parse::<Fault>).transpose() {
        Ok(fault) => fault,
        Err(error) => {
            eprintln!("--break: {error}");
            return ExitCode::from(2);
        }
    };
    let played = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(demonstrate(fault, stay)));
    match played {
        Ok(report) => verdict(&report, fault),
        Err(error) => {
            eprintln!("the demonstration can't be set up: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(report: &Report, fault: Option<Fault>) -> ExitCode {
    match (report.failed(), fault) {
        (None, None) => ExitCode::SUCCESS,
        (None, Some(fault)) => {
            println!("{fault} was broken on purpose and nobody noticed");
            ExitCode::FAILURE
        }
        (Some(step), _) => {
            println!("broken: {}", step.name);
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(fault: Option<Fault>, stay: bool) -> Result<Report, Box<dyn Error>> {
    let mut end = End::new()?;
    let folder = Folder::new()?;
    let plan = Plan::default();
    let handsets = plan.handsets(PHONES);
    let pki = Pki::new(&plan)?;
    let files = pki.write(&folder.0)?;
    let rehome = handsets.get(REHOMED).map(|handset| handset.mac);
    let wrong_switch = fault == Some(Fault::ReHoming);
    let site =
        Site::start(&plan, &pki, &site::Options { rehome, wrong_switch, ..Default::default() }).await?;
    let ports = Ports::choose(&plan)?;
    let text = configuration::text(&plan, site.addresses(), ports, &files, fault);
    let path = folder.0.join("farend.toml");
    std::fs::write(&path, text)?;
    let (mut settings, _) = config::load(&path)?;
    disable(&mut settings, fault);
    let _log = log::install(&settings.log);
    let gateway = Gateway::start(settings).await?;
    let at = |port| SocketAddr::new(IpAddr::from(plan.gateway_outside), port);
    let outside = play::Gateway {
        sip: at(ports.sip),
        files: at(ports.files),
        tunnel: at(ports.tunnel),
        http80: at(ports.http),
        inside_sip: SocketAddr::new(plan.gateway_inside.into(), ports.inside_sip),
        media: plan.gateway_outside.into(),
        ttl: Ttl::Reset(64),
        fqdn: plan.fqdn.clone(),
    };
    let mut timeline = Timeline::new(Box::new(std::io::stdout()));
    for line in legend(&plan, &site, &outside) {
        timeline.line(&line);
    }
    let options = Options { stay, rehome, fault, ..Options::default() };
    let report = tokio::select! {
        report = play::run(&outside, &site, &pki, &handsets, &options, &mut timeline) => report,
        () = end.come() => return Err("interrupted".into()),
    };
    if stay && report.held() {
        // A phone of its own, which is none of those that are up.
        if let Some(guest) = plan.handsets(PHONES + 1).pop() {
            invite(&pki, &files, &outside, &site, &guest)?;
        }
        println!("\nconfiguration of the gateway: {}", path.display());
        println!("end with Ctrl-C, which removes {}", folder.0.display());
        end.come().await;
    }
    gateway.stop().await;
    Ok(report)
}

/// Who is at which address.
fn legend(plan: &Plan, site: &Site, gateway: &play::Gateway) -> Vec<String> {
    let at = site.addresses();
    let [one, two, three] = at.switches;
    let homes: Vec<_> = plan.homes.iter().map(|[a, b, c]| format!("{a}.{b}.{c}.0/24")).collect();
    vec![
        format!("site     HQ server {}, CAS {}, switches 1 {one}, 2 {two}, 3 {three}", at.hq_https, at.cas),
        format!("gateway  inside {}", gateway.inside_sip),
        format!("         outside SIP {}, files {}, tunnel {}", gateway.sip, gateway.files, gateway.tunnel),
        format!("phones   at home in {}, named by their MACs", homes.join(" and ")),
    ]
}

/// What no configuration would be accepted without.
fn disable(settings: &mut Settings, fault: Option<Fault>) {
    settings.media.relay = fault != Some(Fault::Relay);
    if fault == Some(Fault::Tunnel) {
        for endpoint in settings.endpoints.values_mut() {
            if let Endpoint::Tunnel(row) = &mut endpoint.serves {
                row.allow_to.clear();
            }
        }
    }
}

fn invite(
    pki: &Pki,
    files: &twin::pki::Files,
    gateway: &play::Gateway,
    site: &Site,
    guest: &Handset,
) -> Result<(), Box<dyn Error>> {
    pki.write_phone(files, guest.mac)?;
    println!();
    for line in attach::attach(gateway, site, files, guest)? {
        println!("{line}");
    }
    Ok(())
}

/// SIGINT or SIGTERM, so that the folder goes whoever ends the demonstration.
struct End(Signal, Signal);

impl End {
    fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn come(&mut self) {
        let Self(interrupt, terminate) = self;
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    }
}

/// A folder that goes when the demonstration ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("farend-demo-{}", std::process::id()));
        // Keys go in there: nobody else's folder, and nobody else may look.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.0));
    }
}
