//! The life of a certificate with an authority made of a script, in virtual time.
#![allow(clippy::disallowed_methods)]

mod pki;

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use acme_store::disk::Disk;
use acme_store::key::KeyKind;
use acme_store::lifecycle::{self, Origin, Plan, Reason};
use acme_store::net::renewer::{Clock, Event, Renewer, Work};
use acme_store::order::{Authority, AuthorityError, Challenge, Tokens};
use acme_store::publish::Certificate;
use acme_store::request::Form;
use acme_store::schedule::{Policy, Urgency};
use acme_store::store::Store;
use pki::{Ca, DAY, Dir, Leaf, cn, now};
use tokio::sync::mpsc;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
enum Step {
    Issue { days: u32 },
    WrongName,
    WrongKey,
    Refuse(Option<Duration>),
    NeverAnswer,
}

/// Does the next step of its script at each order, and looks whether the token is there while it validates.
struct Script {
    ca: Arc<Ca>,
    steps: Arc<Mutex<VecDeque<Step>>>,
    tokens: Tokens,
    clock: Clock,
    step: Step,
}

impl Authority for Script {
    async fn open(&mut self, names: &[String]) -> Result<Vec<Challenge>, AuthorityError> {
        self.step = self.steps.lock().unwrap().pop_front().expect("an order that the test does not expect");
        let challenge =
            |name: &String| Challenge { name: name.clone(), token: "tok".into(), answer: "tok.key".into() };
        match self.step {
            Step::Refuse(retry_after) => Err(AuthorityError { message: "rateLimited".into(), retry_after }),
            _ => Ok(names.iter().take(1).map(challenge).collect()),
        }
    }

    async fn prove(&mut self) -> Result<(), AuthorityError> {
        assert_eq!(self.tokens.answer("tok").as_deref(), Some("tok.key"));
        if let Step::NeverAnswer = self.step {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn finish(&mut self, request: &[u8]) -> Result<String, AuthorityError> {
        assert_eq!(self.tokens.answer("tok"), None, "the token is withdrawn after the verdict");
        let request = rcgen::CertificateSigningRequestParams::from_der(&request.to_vec().into()).unwrap();
        assert!(request.params.distinguished_name.iter().next().is_none(), "the subject is empty");
        let mut params = request.params;
        let days = if let Step::Issue { days } = self.step { days } else { 90 };
        params.not_before = (self.clock)().into();
        params.not_after = ((self.clock)() + days * DAY).into();
        // rcgen derives the number from the key, which stays the same.
        params.serial_number = Some(rcgen::SerialNumber::from(1 + self.steps.lock().unwrap().len() as u64));
        if let Step::WrongName = self.step {
            params.subject_alt_names = Leaf::default().dns("other.example").sans;
        }
        if let Step::WrongKey = self.step {
            return Ok(self.ca.issue(&cn("gw.example").dns("gw.example")).pem());
        }
        let signed = rcgen::CertificateSigningRequestParams { params, public_key: request.public_key }
            .signed_by(&self.ca.issuer)
            .unwrap();
        Ok(format!("{}{}", signed.pem(), self.ca.pem()))
    }
}

struct World {
    dir: Dir,
    ca: Arc<Ca>,
    steps: Arc<Mutex<VecDeque<Step>>>,
    offset: Arc<AtomicU64>,
    start: SystemTime,
    tokens: Tokens,
}

struct Running {
    certificate: Arc<Certificate>,
    events: mpsc::Receiver<Event>,
    renewer: Renewer,
}

fn plan(names: &[&str]) -> Plan {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    Plan {
        name: "outside".into(),
        form: Form::for_names(&names),
        key: KeyKind::EcdsaP256,
        renewal: Policy::default(),
    }
}

impl World {
    fn new(steps: &[Step]) -> Self {
        Self {
            dir: Dir::new(),
            ca: Arc::new(Ca::root("Public")),
            steps: Arc::new(Mutex::new(steps.iter().cloned().collect())),
            offset: Arc::default(),
            start: now(),
            tokens: Tokens::new(),
        }
    }

    fn store(&self) -> Disk {
        Disk::open(&self.dir.0.join("state")).unwrap()
    }

    /// The wall clock: virtual tokio time plus the jumps of the test.
    fn clock(&self) -> Clock {
        let (start, offset, begun) = (self.start, Arc::clone(&self.offset), tokio::time::Instant::now());
        Arc::new(move || start + begun.elapsed() + Duration::from_secs(offset.load(Ordering::Relaxed)))
    }

    fn jump(&self, by: Duration) {
        self.offset.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    fn run(&self, plan: &Plan) -> (Running, Origin) {
        let store: Arc<dyn Store> = Arc::new(self.store());
        let clock = self.clock();
        let (shown, origin) = lifecycle::prepare(&*store, plan, clock()).unwrap();
        let certificate = Certificate::new(shown);
        let authority = Script {
            ca: Arc::clone(&self.ca),
            steps: Arc::clone(&self.steps),
            tokens: self.tokens.clone(),
            clock: Arc::clone(&clock),
            step: Step::NeverAnswer,
        };
        let (tell, events) = mpsc::channel(64);
        let renewer = Renewer::start(Work {
            plan: plan.clone(),
            certificate: Arc::clone(&certificate),
            authority,
            tokens: self.tokens.clone(),
            store,
            clock,
            seed: [3; 32],
            events: tell,
        });
        (Running { certificate, events, renewer }, origin)
    }
}

impl Running {
    /// The next event that is not the beginning of an order.
    async fn next(&mut self) -> Event {
        loop {
            match self.events.recv().await.unwrap() {
                Event::Ordering { .. } => {}
                event => return event,
            }
        }
    }

    fn serial(&self) -> String {
        self.certificate.current().details().serial.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn interim_then_issued_then_renewed_at_67_percent() {
    let world = World::new(&[Step::Issue { days: 90 }, Step::Issue { days: 90 }]);
    let (mut running, origin) = world.run(&plan(&["gw.example", "alias.example"]));
    assert_eq!(origin, Origin::NewInterim);
    let interim = running.certificate.current();
    assert!(interim.details().is_self_signed_leaf());
    assert_eq!(
        running.events.recv().await.unwrap(),
        Event::Ordering { name: "outside".into(), reason: Reason::Interim }
    );
    let Event::Activated { serial, due, .. } = running.next().await else { panic!() };
    assert_eq!(running.serial(), serial);
    let issued = running.certificate.current();
    assert!(issued.names_all(&["gw.example".into(), "alias.example".into()]));
    assert_eq!(issued.chain().len(), 2);
    let expected = world.start + (DAY * 90).mul_f64(0.67);
    assert!(due.duration_since(expected).unwrap_or_else(|error| error.duration()) < HOUR);

    // Nothing for sixty days, then the renewal, with the same key.
    let clock = world.clock();
    let before = clock();
    let Event::Activated { serial: second, .. } = running.next().await else { panic!() };
    assert_ne!(second, serial);
    let waited = clock().duration_since(before).unwrap();
    assert!(waited > 60 * DAY && waited < 61 * DAY, "{waited:?}");
    assert_eq!(running.certificate.current().details().key_hash, interim.details().key_hash);
}

#[tokio::test(start_paused = true)]
async fn failures_keep_what_is_shown_and_come_back_later() {
    let steps = [
        Step::Refuse(None),
        Step::WrongName,
        Step::WrongKey,
        Step::NeverAnswer,
        Step::Refuse(Some(5 * HOUR)),
        Step::Issue { days: 10 },
        Step::Refuse(None),
        Step::Issue { days: 10 },
    ];
    let world = World::new(&steps);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    let interim = running.serial();
    let near = |wait: Duration, expected: u64| {
        let expected = Duration::from_secs(expected);
        wait >= expected.mul_f64(0.89) && wait <= expected.mul_f64(1.11)
    };
    for (reason, wait) in [
        ("order: rateLimited", 10),
        ("does not name all of gw.example", 60),
        ("for another key", 300),
        ("longer than ten minutes", 1800),
        ("order: rateLimited", 5 * 3600),
    ] {
        let Event::Failed { error, retry_in, .. } = running.next().await else { panic!() };
        assert!(error.contains(reason) && near(retry_in, wait), "{error}: {retry_in:?}");
        assert_eq!(running.serial(), interim, "still the interim certificate");
        assert_eq!(world.tokens.answer("tok"), None);
    }
    let Event::Activated { serial, .. } = running.next().await else { panic!() };
    let Event::Failed { failures: 1, retry_in, .. } = running.next().await else { panic!() };
    assert!(near(retry_in, 3600), "{retry_in:?}");
    assert_eq!(running.serial(), serial, "still the old one");
    assert!(matches!(running.next().await, Event::Activated { .. }));
    assert_ne!(running.serial(), serial);
}

#[tokio::test(start_paused = true)]
async fn a_restart_uses_what_is_stored() {
    let world = World::new(&[Step::Issue { days: 90 }]);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    let Event::Activated { serial, .. } = running.next().await else { panic!() };
    drop(running);

    let (running, origin) = world.run(&plan(&["gw.example"]));
    assert_eq!((origin, running.serial()), (Origin::Stored, serial));
    tokio::time::sleep(DAY).await;
    drop(running);

    // The clock is wrong by years: an interim one is shown, and the stored one is not lost.
    let stored = world.store().credential("outside").unwrap().unwrap();
    let (interim, origin) =
        lifecycle::prepare(&world.store(), &plan(&["gw.example"]), now() + 4000 * DAY).unwrap();
    assert_eq!(origin, Origin::NewInterim);
    assert_eq!(interim.details().key_hash, stored.details().key_hash);
    assert_eq!(world.store().credential("outside").unwrap().unwrap().chain(), stored.chain());
}

#[tokio::test(start_paused = true)]
async fn an_interim_certificate_and_its_key_survive_a_restart() {
    let world = World::new(&[]);
    let (first, origin) = lifecycle::prepare(&world.store(), &plan(&["gw.example"]), now()).unwrap();
    assert_eq!(origin, Origin::NewInterim);
    let (second, origin) = lifecycle::prepare(&world.store(), &plan(&["gw.example"]), now()).unwrap();
    assert_eq!((origin, second.chain()), (Origin::Interim, first.chain()));
    let (renamed, origin) = lifecycle::prepare(&world.store(), &plan(&["other.example"]), now()).unwrap();
    assert_eq!((origin, renamed.details().key_hash), (Origin::NewInterim, first.details().key_hash));
    let rsa = Plan { key: KeyKind::Rsa2048, ..plan(&["other.example"]) };
    let (rekeyed, _) = lifecycle::prepare(&world.store(), &rsa, now()).unwrap();
    assert_eq!(rekeyed.key().kind(), Some(KeyKind::Rsa2048));
}

#[test]
fn a_reload_never_puts_an_interim_certificate_over_a_valid_one() {
    let dir = Dir::new();
    let store = Disk::open(&dir.0).unwrap();
    let again = |shown: &acme_store::certificate::Credential, at| {
        let (prepared, origin) = lifecycle::prepare_again(&store, &plan(&["gw.example"]), shown, at).unwrap();
        (prepared.details().serial.clone(), origin)
    };
    let (interim, _) = lifecycle::prepare(&store, &plan(&["gw.example"]), now()).unwrap();
    let ca = Ca::root("Public");
    let issued = ca.issue(&cn("gw.example").dns("gw.example")).credential(&[]);
    let serial = issued.details().serial.clone();
    assert_eq!(again(&issued, now()), (serial.clone(), Origin::Stored), "the store has only the interim one");
    assert_eq!(again(&interim, now()).1, Origin::Interim);
    assert_ne!(again(&issued, now() + 40 * DAY).0, serial, "expired");
    let later =
        ca.issue(&Leaf { until: now() + 60 * DAY, ..cn("gw.example").dns("gw.example") }).credential(&[]);
    store.save_credential("outside", &later).unwrap();
    assert_eq!(again(&issued, now()).0, later.details().serial, "the store has a better one");
    assert_eq!(again(&later, now()).0, later.details().serial);
    store.save_credential("outside", &issued).unwrap();
    assert_eq!(again(&later, now()).0, later.details().serial, "the store has an older one");
}

#[tokio::test(start_paused = true)]
async fn other_names_or_another_key_are_ordered_at_once() {
    let world = World::new(&[Step::Issue { days: 90 }, Step::Issue { days: 90 }, Step::Issue { days: 90 }]);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    running.next().await;
    drop(running);
    let more = plan(&["gw.example", "new.example"]);
    let (mut running, origin) = world.run(&more);
    assert_eq!(origin, Origin::Stored);
    assert_eq!(
        running.events.recv().await.unwrap(),
        Event::Ordering { name: "outside".into(), reason: Reason::Names }
    );
    running.next().await;
    assert!(running.certificate.current().names_all(&["new.example".into()]));
    drop(running);
    let (mut running, _) = world.run(&Plan { key: KeyKind::Rsa2048, ..more });
    assert_eq!(
        running.events.recv().await.unwrap(),
        Event::Ordering { name: "outside".into(), reason: Reason::KeyKind }
    );
    running.next().await;
    assert_eq!(running.certificate.current().key().kind(), Some(KeyKind::Rsa2048));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_noticed_within_a_minute() {
    let world = World::new(&[Step::Issue { days: 90 }, Step::Issue { days: 90 }]);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    running.next().await;
    tokio::time::sleep(HOUR).await;
    world.jump(61 * DAY);
    let before = tokio::time::Instant::now();
    assert!(matches!(running.next().await, Event::Activated { .. }));
    assert!(before.elapsed() <= Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_at_start_costs_no_order() {
    let world = World::new(&[Step::Issue { days: 90 }, Step::Refuse(None)]);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    let Event::Activated { serial, .. } = running.next().await else { panic!() };
    drop(running);

    let early = World { start: world.start - 20_000 * DAY, ..world };
    let (mut running, origin) = early.run(&plan(&["gw.example"]));
    assert_eq!(origin, Origin::NewInterim);
    assert!(matches!(running.next().await, Event::Failed { .. }));
    early.jump(20_000 * DAY + HOUR);
    let Event::Activated { serial: shown, .. } = running.next().await else { panic!() };
    assert_eq!((&shown, &running.serial()), (&serial, &serial));
}

#[tokio::test(start_paused = true)]
async fn an_interim_certificate_is_made_anew_before_it_ends() {
    let world = World::new(&vec![Step::Refuse(None); 9]);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    let first = running.certificate.current();
    running.next().await;
    assert_eq!(running.serial(), first.details().serial);
    world.jump(81 * DAY);
    // Two failures on, the task has looked at the clock.
    running.next().await;
    running.next().await;
    let later = running.certificate.current();
    assert!(later.details().is_self_signed_leaf());
    assert_ne!(later.details().serial, first.details().serial);
    assert_eq!(later.details().key_hash, first.details().key_hash);
    assert!(later.details().not_after > world.start + 160 * DAY);
}

#[tokio::test(start_paused = true)]
async fn renewing_by_hand_and_urgency() {
    let mut steps = vec![Step::Issue { days: 30 }, Step::Issue { days: 30 }];
    steps.extend(vec![Step::Refuse(None); 40]);
    let world = World::new(&steps);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    let Event::Activated { serial, .. } = running.next().await else { panic!() };
    running.renewer.renew_now();
    let Event::Activated { serial: second, .. } = running.next().await else { panic!() };
    assert_ne!(serial, second);
    let mut told = Vec::new();
    while told.last() != Some(&Urgency::Expired) {
        if let Event::Urgent { urgency, .. } = running.next().await {
            told.push(urgency);
        }
    }
    assert_eq!(told, [Urgency::Attention, Urgency::Critical, Urgency::Expired]);
    assert_eq!(running.serial(), second, "nothing better has come, so the old one stays");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_does_not_hold_back_the_certificate() {
    let world = World::new(&[Step::Issue { days: 90 }]);
    let (mut running, _) = world.run(&plan(&["gw.example"]));
    // Root may write anywhere, so the folder is made unusable instead of unwritable.
    let folder = world.dir.0.join("state/certificates");
    std::fs::rename(&folder, world.dir.0.join("away")).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let Event::NotStored { error, .. } = running.next().await else { panic!() };
    assert!(error.contains("certificates/outside"), "{error}");
    let Event::Activated { serial, .. } = running.next().await else { panic!() };
    assert_eq!(running.serial(), serial);
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(world.dir.0.join("away"), &folder).unwrap();
    tokio::time::sleep(Duration::from_secs(70)).await;
    // The write runs on a thread of its own, which virtual time does not wait for.
    for _ in 0..100 {
        if world.store().credential("outside").unwrap().unwrap().details().serial == serial {
            let mode = std::fs::metadata(folder.join("outside.pem")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            return;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(20))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    panic!("never stored");
}
