//! A certificate from pebble (Debian packages pebble and pebble-challtestsrv), end to end: interim, order, HTTP-01 through our own responder,
//! activation without closing a connection, restart.
#![allow(clippy::disallowed_methods)]

mod pki;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acme_store::account::{self, Directory};
use acme_store::disk::Disk;
use acme_store::key::KeyKind;
use acme_store::lifecycle::{self, Origin, Plan};
use acme_store::net::authority::{Acme, Roots, Settings};
use acme_store::net::http01::Responder;
use acme_store::net::https::system_dial;
use acme_store::net::renewer::{Event, Renewer, Work};
use acme_store::net::tls::{Acceptor, Connector};
use acme_store::order::Tokens;
use acme_store::publish::{Application, Certificate, Clients, Dialler, Listener, Versions};
use acme_store::request::Form;
use acme_store::schedule::Policy;
use acme_store::store::Store;
use acme_store::trust::Trust;
use acme_store::verify::NameRule;
use pki::{Ca, DAY, Dir, cn, has, now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// pebble with its DNS server, on ports of its own.
struct Pebble {
    dir: Dir,
    ca: Ca,
    port: u16,
    management: u16,
    dns: u16,
    http01: TcpListener,
    programs: Vec<Child>,
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(dir: &Dir, program: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(dir.0.join(format!("{program}.log"))).unwrap();
    Command::new(program)
        .args(arguments)
        .env("PEBBLE_VA_NOSLEEP", "1")
        .current_dir(&dir.0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Pebble {
    async fn start() -> Option<Self> {
        if !has("pebble") || !has("pebble-challtestsrv") {
            return None;
        }
        let (dir, ca) = (Dir::new(), Ca::root("Pebble's own CA"));
        let own = ca.issue(&cn("pebble").ip("127.0.0.1"));
        dir.write("own.pem", own.pem());
        dir.write("own.key", own.key_pem());
        let http01 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, management, dns, control) = (free_port(), free_port(), free_port(), free_port());
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "own.pem", "privateKey": "own.key", "httpPort": {}, "tlsPort": {},
                "ocspResponderURL": "", "externalAccountBindingRequired": false}}}}"#,
            http01.local_addr().unwrap().port(),
            free_port(),
        );
        dir.write("pebble.json", config);
        let (dns_address, control) = (format!("127.0.0.1:{dns}"), format!("127.0.0.1:{control}"));
        let arguments = [
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-dns01",
            &dns_address,
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &control,
        ];
        let names = spawn(&dir, "pebble-challtestsrv", &arguments);
        let mut pebble = Self { dir, ca, port, management, dns, http01, programs: vec![names] };
        pebble.start_service().await;
        Some(pebble)
    }

    async fn start_service(&mut self) {
        let dns = format!("127.0.0.1:{}", self.dns);
        let service = spawn(&self.dir, "pebble", &["-strict", "-config", "pebble.json", "-dnsserver", &dns]);
        self.programs.push(service);
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("pebble did not start: {}", String::from_utf8_lossy(&self.dir.read("pebble.log")));
    }

    /// Ends the service and starts it again: it forgets accounts and keys.
    async fn forget(&mut self) {
        if let Some(mut service) = self.programs.pop() {
            service.kill().await.unwrap();
        }
        self.start_service().await;
    }

    /// The root that pebble signs under in this run.
    async fn root(&self) -> Trust {
        let dialler = Dialler {
            certificate: None,
            trust: self.ca.trust(),
            names: NameRule::AlternativeNameOnly,
            versions: Versions::V12AndUp,
            application: Application::Http1,
        };
        let stream = TcpStream::connect(("127.0.0.1", self.management)).await.unwrap();
        let mut stream = Connector::new(dialler).unwrap().connect(stream, "127.0.0.1").await.unwrap().stream;
        stream.write_all(b"GET /roots/0 HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Trust::import(&[&answer], now()).unwrap().0
    }
}

/// The outside of a gateway: a TLS listener, port 80, a store, and the renewer.
struct Gateway {
    store: Arc<dyn Store>,
    certificate: Arc<Certificate>,
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
    renewer: Renewer,
    origin: Origin,
}

const NAMES: [&str; 2] = ["gw.farend.test", "alias.farend.test"];

fn plan() -> Plan {
    let names = NAMES.map(str::to_owned);
    Plan {
        name: "outside".into(),
        form: Form::for_names(&names),
        key: KeyKind::Rsa2048,
        renewal: Policy::default(),
    }
}

impl Gateway {
    async fn start(dir: &Dir, pebble: &Pebble, roots: Trust, tokens: &Tokens) -> Self {
        let store: Arc<dyn Store> = Arc::new(Disk::open(&dir.0.join("state")).unwrap());
        let (shown, origin) = lifecycle::prepare(&*store, &plan(), now()).unwrap();
        let certificate = Certificate::new(shown);
        let listener = Listener {
            certificate: Arc::clone(&certificate),
            clients: Clients::Anonymous,
            versions: Versions::V12AndUp,
            application: Application::Sip,
        };
        let acceptor = Acceptor::new(listener).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let Ok(accepted) = acceptor.accept(stream).await else { continue };
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(accepted.stream);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let settings = Settings {
            directory: Directory::new(&format!("127.0.0.1:{}", pebble.port), "/dir").unwrap(),
            roots: Roots::Bundle(roots),
            account: "main".into(),
            contacts: vec![account::contact("admin@farend.test").unwrap()],
            dial: system_dial(),
        };
        let authority = Acme::new(settings, Arc::clone(&store), now()).unwrap();
        let (tell, events) = mpsc::channel(64);
        let renewer = Renewer::start(Work {
            plan: plan(),
            certificate: Arc::clone(&certificate),
            authority,
            tokens: tokens.clone(),
            store: Arc::clone(&store),
            clock: Arc::new(SystemTime::now),
            seed: [5; 32],
            events: tell,
        });
        Self { store, certificate, address, events, renewer, origin }
    }

    async fn next(&mut self) -> Event {
        loop {
            let event =
                tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await.unwrap().unwrap();
            if !matches!(event, Event::Ordering { .. }) {
                return event;
            }
        }
    }

    async fn connect(&self, trust: Trust) -> Result<acme_store::net::tls::ClientStream<TcpStream>, String> {
        let dialler = Dialler {
            certificate: None,
            trust,
            names: NameRule::AlternativeNameOnly,
            versions: Versions::V12AndUp,
            application: Application::Sip,
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connected = Connector::new(dialler).unwrap().connect(stream, NAMES[1]).await;
        connected.map(|connected| connected.stream).map_err(|error| error.to_string())
    }

    fn account_files(&self, dir: &Dir) -> Vec<(String, Vec<u8>)> {
        let folder = std::fs::read_dir(dir.0.join("state/accounts")).unwrap();
        folder
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }
}

fn serve_http01(pebble: &mut Pebble, tokens: &Tokens) -> mpsc::UnboundedReceiver<u16> {
    let responder = Responder::new(tokens.clone());
    let placeholder = StdListener::bind("127.0.0.1:0").unwrap();
    placeholder.set_nonblocking(true).unwrap();
    let listener = std::mem::replace(&mut pebble.http01, TcpListener::from_std(placeholder).unwrap());
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (responder, tell) = (responder.clone(), tell.clone());
            tokio::spawn(async move {
                if let Ok(answered) = responder.serve(stream).await {
                    let _ = tell.send(answered.status.unwrap_or(0));
                }
            });
        }
    });
    seen
}

async fn echoes(stream: &mut acme_store::net::tls::ClientStream<TcpStream>) -> bool {
    let mut buffer = [0; 4];
    stream.write_all(b"ping").await.is_ok()
        && stream.read_exact(&mut buffer).await.is_ok()
        && &buffer == b"ping"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issued_activated_restarted_and_renewed() {
    let Some(mut pebble) = Pebble::start().await else { return };
    let (dir, tokens) = (Dir::new(), Tokens::new());
    let mut http01 = serve_http01(&mut pebble, &tokens);

    // While the service's own certificate is not trusted, the interim certificate is shown and stays.
    let mut gateway = Gateway::start(&dir, &pebble, Ca::root("Another CA").trust(), &tokens).await;
    assert_eq!(gateway.origin, Origin::NewInterim);
    let Event::Failed { error, retry_in, .. } = gateway.next().await else { panic!() };
    assert!(error.contains("no trusted authority issued the certificate"), "{error}");
    assert!(retry_in < Duration::from_secs(15), "{retry_in:?}");
    let interim = gateway.certificate.current();
    assert!(interim.details().is_self_signed_leaf());
    assert!(gateway.connect(pebble.root().await).await.unwrap_err().contains("refused"));
    drop(gateway);

    // With the right bundle it is issued. A connection that was opened before stays.
    let mut gateway = Gateway::start(&dir, &pebble, pebble.ca.trust(), &tokens).await;
    assert_eq!(gateway.origin, Origin::Interim);
    let issued = match gateway.next().await {
        Event::Activated { serial, .. } => serial,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&pebble.dir.read("pebble.log"))),
    };
    assert_eq!(http01.recv().await, Some(200));
    let current = gateway.certificate.current();
    assert_eq!(current.details().serial, issued);
    assert_eq!(
        current.details().key_hash,
        interim.details().key_hash,
        "the key of the interim certificate was signed"
    );
    assert!(current.names_all(&NAMES.map(str::to_owned)) && current.chain().len() >= 2);
    let root = pebble.root().await;
    let mut open = gateway.connect(root.clone()).await.unwrap();
    assert!(echoes(&mut open).await);
    let account = gateway.account_files(&dir);
    assert_eq!(account.len(), 1);
    assert!(account[0].0.starts_with("main-"));

    // Renewal by hand: the open connection lives, the next handshake shows the new one.
    gateway.renewer.renew_now();
    let Event::Activated { serial: second, .. } = gateway.next().await else { panic!() };
    assert_ne!(second, issued);
    assert!(echoes(&mut open).await, "the open connection stays");
    let fresh = gateway.connect(root.clone()).await.unwrap();
    let shown = fresh.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(acme_store::certificate::Details::parse(&shown).unwrap().serial, second);
    assert_ne!(open.get_ref().1.peer_certificates().unwrap()[0], shown);
    drop(gateway);

    // A restart shows what is stored, orders nothing, and uses the same account when it must.
    let mut gateway = Gateway::start(&dir, &pebble, pebble.ca.trust(), &tokens).await;
    assert_eq!(
        (gateway.origin, gateway.certificate.current().details().serial.clone()),
        (Origin::Stored, second)
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(500), gateway.events.recv()).await.is_err(),
        "nothing is due"
    );
    gateway.renewer.renew_now();
    assert!(matches!(gateway.next().await, Event::Activated { .. }));
    assert_eq!(gateway.account_files(&dir), account, "the account is used again");
    assert!(gateway.store.credential("outside").unwrap().unwrap().details().not_after > now() + DAY);

    // The service lost its accounts: the same key is registered again.
    pebble.forget().await;
    gateway.renewer.renew_now();
    match gateway.next().await {
        Event::Activated { .. } => {}
        other => panic!("{other:?}"),
    }
    assert_ne!(gateway.account_files(&dir), account, "the account has a new number");
    gateway.connect(pebble.root().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_can_not_be_proven_is_named() {
    let Some(mut pebble) = Pebble::start().await else { return };
    let (dir, tokens) = (Dir::new(), Tokens::new());
    // The responder knows no token of this gateway, as if port 80 led elsewhere.
    let mut http01 = serve_http01(&mut pebble, &Tokens::new());
    let mut gateway = Gateway::start(&dir, &pebble, pebble.ca.trust(), &tokens).await;
    let Event::Failed { error, .. } = gateway.next().await else { panic!() };
    assert!(error.starts_with("validation: "), "{error}");
    assert!(NAMES.iter().any(|name| error.contains(name)), "{error}");
    assert_eq!(http01.recv().await, Some(404));
    assert!(gateway.certificate.current().details().is_self_signed_leaf());
}
