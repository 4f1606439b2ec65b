//! The whole play against a gateway of the simplest kind: it holds when nothing is broken, and each fault shows at
//! its own step.

mod gateway;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twin::fault::Fault;
use twin::pki::Pki;
use twin::plan::Plan;
use twin::play::{self, Report};
use twin::site::{self, Site};
use twin::timeline::Timeline;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("paper").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Plays with two or six phones and one fault on networks of its own; gives the report and what was printed.
async fn played(site: u8, phones: usize, fault: Option<Fault>) -> (Report, String) {
    let plan = Plan {
        hq: [127, 12, site, 10].into(),
        switches: [50, 51, 52].map(|host| [127, 12, site, host].into()),
        gateway_inside: [127, 12, site, 2].into(),
        gateway_outside: [127, 22, site, 1].into(),
        homes: vec![[127, 42, site], [127, 43, site]],
        ..Plan::default()
    };
    let pki = Pki::new(&plan).expect("pki");
    let handsets = plan.handsets(phones);
    let rehome = handsets.last().map(|handset| handset.mac);
    let site = site::Options {
        rehome,
        wrong_switch: fault == Some(Fault::ReHoming),
        firmware: 20_000,
        ..site::Options::default()
    };
    let site = Site::start(&plan, &pki, &site).await.expect("site");
    let gateway = gateway::start(&plan, &pki, &site, fault).await;
    let options = play::Options {
        patience: Duration::from_secs(5),
        talk: Duration::from_millis(500),
        rehome,
        fault,
        ..play::Options::default()
    };
    let paper = Paper::default();
    let mut timeline = Timeline::new(Box::new(paper.clone()));
    let report = sendable(play::run(&gateway, &site, &pki, &handsets, &options, &mut timeline)).await;
    let text = String::from_utf8(paper.0.lock().expect("paper").clone()).expect("text");
    (report, text)
}

/// Whoever composes the play may run it in a task.
fn sendable<T>(play: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    play
}

#[tokio::test]
async fn holds_when_nothing_is_broken() {
    let (report, text) = played(1, 6, None).await;
    assert!(report.held(), "{text}");
    let count = |name| report.steps.iter().filter(|step| step.name == name).count();
    assert_eq!((count("register"), count("call"), count("relay"), count("hang-up")), (6, 3, 6, 3), "{text}");
    assert_eq!((count("re-homing"), count("reconnect"), count("deregister")), (1, 1, 6), "{text}");
    assert!(text.contains(&format!("TTL 128 → {}", gateway::RELAY_TTL)), "{text}");
    assert!(text.contains("880 Hz heard") && text.ends_with("✓ every step held\n"), "{text}");
}

#[tokio::test]
async fn each_fault_shows_at_its_own_step() {
    for (index, fault) in (2..).zip(Fault::ALL) {
        let (report, text) = played(index, 2, Some(fault)).await;
        assert!(report.shows(fault), "{fault}: {text}");
        assert!(text.contains(&format!("✗ failed at step '{fault}'")), "{text}");
    }
}
