//! The same over mutual TLS, as phones come: half-closes with close_notify, cuts without it, counting by key.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tunnel::event::{End, Identity, Peer};

use crate::connect::request;
use crate::support::{Gateway, echo, server, soon, tunnel};

struct Tls {
    acceptor: TlsAcceptor,
    phone: TlsConnector,
}

fn leaf(
    issuer: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

fn tls() -> Tls {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).expect("a root");
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder(Arc::clone(&roots)).build().expect("a verifier");
    let (chain, key) = leaf(&issuer, "gw.example");
    let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a server")));
    let (chain, key) = leaf(&issuer, "phone.example");
    let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key);
    Tls { acceptor, phone: TlsConnector::from(Arc::new(config.expect("a client"))) }
}

/// A TLS listener in front of the gateway's endpoint, and a phone's stream through it to `target`.
async fn through(gateway: &Gateway, target: SocketAddr) -> TlsStream<TcpStream> {
    let Tls { acceptor, phone } = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let local = listener.local_addr().expect("an address");
    let endpoint = gateway.endpoint.clone();
    tokio::spawn(async move {
        let (stream, remote) = listener.accept().await.expect("a connection");
        let stream = acceptor.accept(stream).await.expect("a handshake");
        let certificates = stream.get_ref().1.peer_certificates().expect("a certificate");
        let key_hash = Sha256::digest(&certificates[0]).into();
        let identity = Some(Identity { subject: "CN=phone".to_owned(), key_hash });
        endpoint.serve(stream, Peer { remote, local, identity }).await;
    });
    let stream = TcpStream::connect(local).await.expect("a connection");
    let name = ServerName::try_from("gw.example").expect("a name");
    let mut stream = soon(phone.connect(name, stream)).await.expect("a handshake");
    stream.write_all(request(&target.to_string()).as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&head));
    stream
}

async fn end(gateway: &Gateway) -> (End, u64, u64) {
    crate::connect::end(gateway).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_each_way_and_a_clean_end() {
    let target = echo().await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let (mut read, mut write) = tokio::io::split(through(&gateway, target).await);
    let sent: Vec<u8> = (0..2_500_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let wanted = Sha256::digest(&sent);
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.expect("sent");
        // close_notify and FIN: the answer still comes.
        write.shutdown().await.expect("closed");
    });
    let mut received = Vec::new();
    // rustls reports an end without close_notify as an error.
    soon(read.read_to_end(&mut received)).await.expect("an end with close_notify");
    sending.await.expect("sending");
    assert_eq!((received.len(), Sha256::digest(&received)), (10_000_000, wanted));
    assert_eq!(end(&gateway).await, (End::Finished, 10_000_000, 10_000_000));
}

#[tokio::test]
async fn the_target_closes_first_and_still_receives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let mut phone = through(&gateway, listener.local_addr().expect("an address")).await;
    let (mut target, _) = soon(listener.accept()).await.expect("dialled");
    target.write_all(b"greeting").await.expect("sent");
    target.shutdown().await.expect("closed");
    let mut greeting = Vec::new();
    soon(phone.read_to_end(&mut greeting)).await.expect("an end with close_notify");
    assert_eq!(greeting, b"greeting");
    phone.write_all(&[7; 65_536]).await.expect("sent");
    phone.shutdown().await.expect("closed");
    let mut late = Vec::new();
    soon(target.read_to_end(&mut late)).await.expect("an end");
    assert_eq!(late.len(), 65_536);
    assert_eq!(end(&gateway).await, (End::Finished, 65_536, 8));
}

/// What the target was cut in must not look whole: no close_notify.
#[tokio::test]
async fn a_target_that_breaks_is_seen_as_a_cut() {
    let target = server(|mut stream| async move {
        let _ = stream.write_all(b"half of").await;
        // Long enough for the bytes to leave before the reset takes the rest.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let _ = stream.set_zero_linger();
    })
    .await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let mut phone = through(&gateway, target).await;
    let mut text = Vec::new();
    let error = soon(phone.read_to_end(&mut text)).await.expect_err("a cut looked like an end");
    assert_eq!((error.kind(), text.as_slice()), (ErrorKind::UnexpectedEof, b"half of".as_slice()));
    assert_eq!(end(&gateway).await.0, End::TargetFailed);
}
