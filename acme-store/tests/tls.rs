//! Handshakes on real sockets: who gets in, what a swap changes, and openssl as a witness of both.
#![allow(clippy::disallowed_methods)]

mod pki;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acme_store::net::tls::{AcceptError, Acceptor, ConnectError, Connector};
use acme_store::publish::{Application, Certificate, Clients, Dialler, Listener, Versions};
use acme_store::trust::Trust;
use acme_store::verify::{NameRule, Refusal};
use pki::{Ca, DAY, Dir, Issued, Leaf, cn, has, now};
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// A listener that greets everybody it lets in with the first name of the identity, then echoes.
struct Server {
    address: SocketAddr,
    acceptor: Arc<Acceptor>,
    seen: mpsc::UnboundedReceiver<Result<Seen, AcceptError>>,
}

struct Seen {
    resumed: bool,
    version: &'static str,
    name: Option<String>,
}

impl Server {
    async fn start(listener: Listener) -> Self {
        let acceptor = Arc::new(Acceptor::new(listener).unwrap().with_timeout(Duration::from_secs(2)));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        let shared = Arc::clone(&acceptor);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (acceptor, tell) = (Arc::clone(&shared), tell.clone());
                tokio::spawn(async move {
                    match acceptor.accept(stream).await {
                        Err(error) => drop(tell.send(Err(error))),
                        Ok(accepted) => {
                            let name = accepted.identity.as_ref().map(|identity| identity.names[0].clone());
                            let mut stream = accepted.stream;
                            let greeting = format!("hello {}\n", name.as_deref().unwrap_or("stranger"));
                            let _ = stream.write_all(greeting.as_bytes()).await;
                            let _ = stream.flush().await;
                            let (resumed, version) = (accepted.resumed, accepted.version);
                            let _ = tell.send(Ok(Seen { resumed, version, name }));
                            let mut buffer = [0; 1024];
                            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                                let _ = stream.write_all(&buffer[..length]).await;
                                let _ = stream.flush().await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, acceptor, seen }
    }

    async fn next(&mut self) -> Result<Seen, AcceptError> {
        tokio::time::timeout(Duration::from_secs(5), self.seen.recv()).await.unwrap().unwrap()
    }
}

fn known(certificate: &Arc<Certificate>, trust: Trust) -> Listener {
    Listener {
        certificate: Arc::clone(certificate),
        clients: Clients::Known { trust, required: true },
        versions: Versions::V12AndUp,
        application: Application::Sip,
    }
}

fn anonymous(certificate: &Arc<Certificate>) -> Listener {
    Listener { clients: Clients::Anonymous, ..known(certificate, Ca::root("unused").trust()) }
}

fn gateway(ca: &Ca) -> Arc<Certificate> {
    Certificate::new(ca.issue(&cn("gw.example").dns("gw.example")).credential(&[]))
}

/// A client of rustls as others would set it up, with its default session cache.
fn client(
    server_ca: &Ca,
    own: Option<&Issued>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server_ca.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivatePkcs8KeyDer::from(own.key.serialize_der()).into();
            builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
        }
    })
}

const V12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const V13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Connects and reads the greeting.
async fn greet(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
) -> std::io::Result<(tokio_rustls::client::TlsStream<TcpStream>, String)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("gw.example").unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    let mut buffer = [0; 256];
    let length = stream.read(&mut buffer).await?;
    Ok((stream, String::from_utf8_lossy(&buffer[..length]).into_owned()))
}

#[tokio::test]
async fn only_good_client_certificates_get_a_byte() {
    let (ours, phones, wrong) = (Ca::root("Ours"), Ca::root("Phones"), Ca::root("Phones"));
    let mut server = Server::start(known(&gateway(&ours), phones.trust())).await;
    for versions in [V12, V13] {
        let good = phones.issue(&cn("08000F000001"));
        let (_, greeting) = greet(&client(&ours, Some(&good), versions), server.address).await.unwrap();
        assert_eq!(greeting, "hello 08000F000001\n");
        let seen = server.next().await.unwrap();
        assert_eq!((seen.name.as_deref(), seen.resumed), (Some("08000F000001"), false));

        let expired = Leaf { from: now() - 2 * DAY, until: now() - DAY, ..cn("p") };
        let early = Leaf { from: now() + DAY, ..cn("p") };
        let cases = [
            (None, Refusal::Missing),
            (Some(wrong.issue(&cn("p"))), Refusal::BadSignature),
            (Some(Ca::root("Other").issue(&cn("p"))), Refusal::UnknownIssuer),
            (Some(cn("p").self_signed()), Refusal::UnknownIssuer),
            (Some(phones.issue(&expired)), Refusal::Expired),
            (Some(phones.issue(&early)), Refusal::NotYetValid),
            (Some(phones.issue(&cn("p").eku(ServerAuth))), Refusal::WrongPurpose),
        ];
        for (own, expected) in cases {
            assert!(
                greet(&client(&ours, own.as_ref(), versions), server.address).await.is_err(),
                "{expected:?}"
            );
            match server.next().await {
                Err(AcceptError::Certificate(refusal)) => assert_eq!(refusal, expected),
                Err(other) => panic!("{expected:?}: {other}"),
                Ok(_) => panic!("{expected:?} was let in"),
            }
        }
    }
}

#[tokio::test]
async fn without_the_demand_strangers_come_in_but_no_bad_certificate() {
    let (ours, phones) = (Ca::root("Ours"), Ca::root("Phones"));
    let certificate = gateway(&ours);
    let clients = Clients::Known { trust: phones.trust(), required: false };
    let mut server = Server::start(Listener { clients, ..anonymous(&certificate) }).await;
    let (_, greeting) = greet(&client(&ours, None, V13), server.address).await.unwrap();
    assert_eq!(greeting, "hello stranger\n");
    assert!(server.next().await.unwrap().name.is_none());
    let (_, greeting) =
        greet(&client(&ours, Some(&phones.issue(&cn("p"))), V13), server.address).await.unwrap();
    assert_eq!(greeting, "hello p\n");
    server.next().await.unwrap();
    let bad = Ca::root("Other").issue(&cn("p"));
    assert!(greet(&client(&ours, Some(&bad), V13), server.address).await.is_err());
    assert!(matches!(server.next().await, Err(AcceptError::Certificate(Refusal::UnknownIssuer))));
}

#[tokio::test]
async fn a_new_certificate_shows_in_the_next_handshake_and_open_connections_stay() {
    let (ours, phones) = (Ca::root("Ours"), Ca::root("Phones"));
    let certificate = gateway(&ours);
    let server = Server::start(known(&certificate, phones.trust())).await;
    let config = client(&ours, Some(&phones.issue(&cn("p"))), V13);
    let (mut open, _) = greet(&config, server.address).await.unwrap();
    let first = open.get_ref().1.peer_certificates().unwrap()[0].clone();

    let renewed = ours.issue(&cn("gw.example").dns("gw.example"));
    certificate.publish(renewed.credential(&[]));
    let fresh = client(&ours, Some(&phones.issue(&cn("q"))), V13);
    let (next, _) = greet(&fresh, server.address).await.unwrap();
    assert_eq!(next.get_ref().1.peer_certificates().unwrap()[0], renewed.der);
    assert_ne!(first, renewed.der);

    open.write_all(b"still here").await.unwrap();
    let mut buffer = [0; 10];
    open.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"still here");
}

/// What the new trust is, and how the peer is refused by it.
async fn resumption_is_no_way_in(
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    change: impl Fn(&Ca, &Issued) -> (Trust, Refusal),
) {
    let (ours, phones) = (Ca::root("Ours"), Ca::root("Phones"));
    let certificate = gateway(&ours);
    let mut server = Server::start(known(&certificate, phones.trust())).await;
    let phone = phones.issue(&cn("p"));
    let config = client(&ours, Some(&phone), versions);
    greet(&config, server.address).await.unwrap();
    assert!(!server.next().await.unwrap().resumed);
    greet(&config, server.address).await.unwrap();
    let seen = server.next().await.unwrap();
    assert!(seen.resumed, "resumption works while nothing changes");
    assert_eq!(seen.name.as_deref(), Some("p"), "and keeps the identity");

    server.acceptor.publish(known(&certificate, phones.trust())).unwrap();
    greet(&config, server.address).await.unwrap();
    assert!(!server.next().await.unwrap().resumed, "a new configuration knows no old session");
    greet(&config, server.address).await.unwrap();
    assert!(server.next().await.unwrap().resumed);

    let (trust, refusal) = change(&phones, &phone);
    server.acceptor.publish(known(&certificate, trust)).unwrap();
    assert!(greet(&config, server.address).await.is_err());
    match server.next().await {
        Err(AcceptError::Certificate(found)) => assert_eq!(found, refusal),
        Err(other) => panic!("{other}"),
        Ok(seen) => panic!("let in, resumed: {}", seen.resumed),
    }
}

fn revoked(phones: &Ca, phone: &Issued) -> (Trust, Refusal) {
    (phones.trust().with_revocations(&[&phones.revoke(&[phone])], now()).unwrap().0, Refusal::Revoked)
}

fn removed(_: &Ca, _: &Issued) -> (Trust, Refusal) {
    (Ca::root("Successor").trust(), Refusal::UnknownIssuer)
}

#[tokio::test]
async fn a_revoked_phone_does_not_resume() {
    resumption_is_no_way_in(V12, revoked).await;
    resumption_is_no_way_in(V13, revoked).await;
}

#[tokio::test]
async fn a_phone_of_a_removed_authority_does_not_resume() {
    resumption_is_no_way_in(V12, removed).await;
    resumption_is_no_way_in(V13, removed).await;
}

#[tokio::test]
async fn a_resumed_certificate_is_checked_again() {
    for versions in [V12, V13] {
        let (ours, phones) = (Ca::root("Ours"), Ca::root("Phones"));
        let mut server = Server::start(known(&gateway(&ours), phones.trust())).await;
        let phone = phones.issue(&Leaf { until: now() + Duration::from_secs(3), ..cn("p") });
        let config = client(&ours, Some(&phone), versions);
        greet(&config, server.address).await.unwrap();
        server.next().await.unwrap();
        tokio::time::sleep(Duration::from_millis(4200)).await;
        let answer = greet(&config, server.address).await;
        assert!(answer.is_err() || answer.unwrap().1.is_empty());
        assert!(matches!(server.next().await, Err(AcceptError::Certificate(Refusal::Expired))));
    }
}

#[tokio::test]
async fn what_is_not_tls_and_what_stalls_is_closed() {
    let ours = Ca::root("Ours");
    let mut server = Server::start(anonymous(&gateway(&ours))).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"OPTIONS sip:gw.example SIP/2.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.len() <= 7, "at most an alert: {answer:?}");
    assert!(matches!(server.next().await, Err(AcceptError::NotTls)));

    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(matches!(server.next().await, Err(AcceptError::Timeout)));
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0, "closed");
}

fn dialler(trust: Trust, names: NameRule) -> Dialler {
    Dialler { certificate: None, trust, names, versions: Versions::V12AndUp, application: Application::Sip }
}

#[tokio::test]
async fn the_connector_checks_chain_and_name_and_shows_our_certificate() {
    let (hq, phones) = (Ca::root("HQ"), Ca::root("Phones"));
    let switch = Certificate::new(hq.issue(&cn("switch.example")).credential(&[]));
    let mut server = Server::start(known(&switch, phones.trust())).await;
    let connect = async |dialler: Dialler, name: &str| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        Connector::new(dialler).unwrap().connect(stream, name).await
    };
    let own = Certificate::new(phones.issue(&cn("gateway")).credential(&[]));
    let with_own = |dialler| Dialler { certificate: Some(Arc::clone(&own)), ..dialler };

    let connected =
        connect(with_own(dialler(hq.trust(), NameRule::NameOrCommonName)), "Switch.example").await.unwrap();
    assert_eq!(connected.identity.names, ["switch.example"]);
    let mut stream = connected.stream;
    let mut buffer = [0; 14];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello gateway\n");

    // An address is dialled; the chain alone decides.
    connect(with_own(dialler(hq.trust(), NameRule::ChainOnly)), "127.0.0.1").await.unwrap();
    connect(with_own(dialler(hq.trust(), NameRule::ChainOnly)), "[::1]").await.unwrap();
    let error =
        connect(with_own(dialler(hq.trust(), NameRule::NameOrCommonName)), "127.0.0.1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "server certificate refused: the certificate is for CN \"switch.example\", configured is 127.0.0.1"
    );
    let error =
        connect(dialler(hq.trust(), NameRule::AlternativeNameOnly), "switch.example").await.unwrap_err();
    assert!(matches!(error, ConnectError::Certificate(Refusal::Name { .. })), "{error}");
    let error = connect(dialler(phones.trust(), NameRule::ChainOnly), "switch.example").await.unwrap_err();
    assert!(matches!(error, ConnectError::Certificate(Refusal::UnknownIssuer)), "{error}");
    let error = connect(dialler(hq.trust(), NameRule::ChainOnly), "not a name").await.unwrap_err();
    assert!(matches!(error, ConnectError::BadName(_)), "{error}");
    while let Ok(seen) = tokio::time::timeout(Duration::from_millis(200), server.seen.recv()).await {
        if let Ok(seen) = seen.unwrap() {
            assert_eq!(seen.name.as_deref(), Some("gateway"));
        }
    }
}

#[tokio::test]
async fn the_connector_takes_a_new_trust() {
    let (old, new) = (Ca::root("Old"), Ca::root("New"));
    let certificate = gateway(&new);
    let server = Server::start(anonymous(&certificate)).await;
    let connector = Connector::new(dialler(old.trust(), NameRule::NameOrCommonName)).unwrap();
    let connect =
        async || connector.connect(TcpStream::connect(server.address).await.unwrap(), "gw.example").await;
    assert!(connect().await.is_err());
    connector.publish(dialler(new.trust(), NameRule::NameOrCommonName)).unwrap();
    assert_eq!(connect().await.unwrap().version, "TLSv1.3");
}

/// Runs `openssl s_client` against the address; its output, whatever came of it.
async fn s_client(dir: &Dir, address: SocketAddr, arguments: &str) -> String {
    let child = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments.split_whitespace())
        .current_dir(&dir.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output =
        tokio::time::timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn openssl_sees_the_swap() {
    if !has("openssl") {
        return;
    }
    let (dir, root, phones) = (Dir::new(), Ca::root("Ours"), Ca::root("Phones"));
    let middle = root.below("Ours Issuing", Some(0));
    let first = middle.issue(&cn("gw.example").dns("gw.example"));
    let certificate = Certificate::new(first.credential(&[&middle]));
    let mut server = Server::start(known(&certificate, phones.trust())).await;
    let phone = phones.issue(&cn("08000F000002"));
    dir.write("root.pem", root.pem());
    dir.write("phone.pem", phone.pem());
    dir.write("phone.key", phone.key_pem());
    let arguments = "-showcerts -CAfile root.pem -verify_return_error -verify_hostname gw.example -cert phone.pem -key phone.key";

    let shown = s_client(&dir, server.address, arguments).await.replace(['\n', '\r'], "");
    let in_order = format!("{}{}", first.pem(), middle.pem()).replace('\n', "");
    let (leaf, above) = in_order.split_at(first.pem().replace('\n', "").len());
    assert!(
        shown.contains(leaf) && shown.contains(above) && shown.contains("Verify return code: 0 (ok)"),
        "{shown}"
    );
    assert!(shown.find(leaf) < shown.find(above), "leaf first");
    assert_eq!(server.next().await.unwrap().name.as_deref(), Some("08000F000002"));

    let second = middle.issue(&cn("gw.example").dns("gw.example"));
    certificate.publish(second.credential(&[&middle]));
    let shown = s_client(&dir, server.address, arguments).await.replace(['\n', '\r'], "");
    assert!(shown.contains(&second.pem().replace('\n', "")), "{shown}");
    assert!(!shown.contains(leaf));
    server.next().await.unwrap();

    let shown = s_client(&dir, server.address, "-tls1_2").await;
    assert!(shown.contains("alert"), "no certificate, no connection: {shown}");
    assert!(matches!(server.next().await, Err(AcceptError::Certificate(Refusal::Missing))));
}

#[tokio::test]
async fn openssl_gets_the_versions_that_are_set() {
    if !has("openssl") {
        return;
    }
    let (dir, ours) = (Dir::new(), Ca::root("Ours"));
    let certificate = gateway(&ours);
    let mut server = Server::start(anonymous(&certificate)).await;
    for (setting, twelve, thirteen) in [("1.2+", true, true), ("1.2", true, false), ("1.3", false, true)] {
        let versions = setting.parse().unwrap();
        server.acceptor.publish(Listener { versions, ..anonymous(&certificate) }).unwrap();
        for (argument, version, expected) in
            [("-tls1_2", "TLSv1.2", twelve), ("-tls1_3", "TLSv1.3", thirteen)]
        {
            s_client(&dir, server.address, argument).await;
            match server.next().await {
                Ok(seen) => assert_eq!((seen.version, expected), (version, true), "{setting} {argument}"),
                Err(AcceptError::NothingInCommon { offer, .. }) => {
                    assert!(!expected && !offer.suites.is_empty(), "{setting} {argument}");
                }
                Err(other) => panic!("{setting} {argument}: {other}"),
            }
        }
    }
    server.acceptor.publish(anonymous(&certificate)).unwrap();
    s_client(&dir, server.address, "-tls1_1 -cipher DEFAULT:@SECLEVEL=0").await;
    let error = server.next().await.err().unwrap().to_string();
    assert!(
        error.starts_with("nothing in common")
            && error.contains("client offered only versions [TLSv1_1]; suites TLS_"),
        "{error}"
    );
    s_client(&dir, server.address, "-tls1_2 -cipher AES128-SHA:AES256-SHA").await;
    let error = server.next().await.err().unwrap().to_string();
    assert!(error.contains("suites TLS_RSA_WITH_AES_128_CBC_SHA TLS_RSA_WITH_AES_256_CBC_SHA"), "{error}");
}

#[tokio::test]
async fn openssl_negotiates_http_1_1_only_where_http_is_spoken() {
    if !has("openssl") {
        return;
    }
    let (dir, ours) = (Dir::new(), Ca::root("Ours"));
    let certificate = gateway(&ours);
    let server = Server::start(anonymous(&certificate)).await;
    let shown = s_client(&dir, server.address, "-alpn h2,http/1.1").await;
    assert!(shown.contains("No ALPN negotiated"), "{shown}");
    server.acceptor.publish(Listener { application: Application::Http1, ..anonymous(&certificate) }).unwrap();
    let shown = s_client(&dir, server.address, "-alpn h2,http/1.1").await;
    assert!(shown.contains("ALPN protocol: http/1.1"), "{shown}");
}
