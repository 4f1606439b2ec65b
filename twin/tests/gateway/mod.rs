//! A gateway of the simplest kind, so that the play can be tested without the real one: it does for the twin's
//! messages what the requirements ask, and can be broken in one part at a time.

mod relay;
mod sip;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use twin::fault::Fault;
use twin::http::{self, Exchange};
use twin::pki::Pki;
use twin::plan::Plan;
use twin::play::{Gateway, Ttl};
use twin::site::Site;
use twin::tls::{self, Clients};

pub(crate) use relay::RELAY_TTL;

async fn bind(ip: std::net::Ipv4Addr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Starts a gateway in front of `site`.
pub(crate) async fn start(plan: &Plan, pki: &Pki, site: &Site, fault: Option<Fault>) -> Gateway {
    let (sip_listener, sip) = bind(plan.gateway_outside).await;
    let (inside_listener, inside_sip) = bind(plan.gateway_inside).await;
    let (files_listener, files) = bind(plan.gateway_outside).await;
    let (tunnel_listener, tunnel) = bind(plan.gateway_outside).await;
    let (clear_listener, http80) = bind(plan.gateway_outside).await;

    let roots = [pki.phone_root().clone(), pki.hq_root().clone()];
    let own = if fault == Some(Fault::Certificate) { &pki.outside_stranger } else { &pki.outside };
    let outside = tls::server(own, Clients::Certified(&roots)).expect("outside");
    let inside = tls::server(&pki.hq_signed, Clients::Certified(&roots[1..])).expect("inside");
    let dial = tls::client(&roots[1..], Some(&pki.hq_signed)).expect("client");

    let content = Arc::new(content(plan, site, tunnel.port(), fault == Some(Fault::File)).await);
    let acceptor = TlsAcceptor::from(Arc::clone(&outside));
    tokio::spawn(async move {
        while let Ok((stream, _)) = files_listener.accept().await {
            let (acceptor, content) = (acceptor.clone(), Arc::clone(&content));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ = http::serve(stream, |request| match content.get(&request.target) {
                    Some(body) => (200, "application/octet-stream", body.clone()),
                    None => (404, "text/plain", Vec::new()),
                })
                .await;
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = clear_listener.accept().await {
            tokio::spawn(http::serve(stream, |_| (404, "text/plain", Vec::new())));
        }
    });
    let acceptor = TlsAcceptor::from(Arc::clone(&outside));
    let allowed = fault != Some(Fault::Tunnel);
    tokio::spawn(async move {
        while let Ok((stream, _)) = tunnel_listener.accept().await {
            tokio::spawn(connect(acceptor.clone(), stream, allowed));
        }
    });
    let edge = sip::Edge::new(inside_sip, dial, plan.gateway_outside, fault);
    tokio::spawn(Arc::clone(&edge).accept(sip_listener, outside));
    tokio::spawn(edge.accept(inside_listener, inside));
    Gateway {
        sip,
        files,
        tunnel,
        http80,
        inside_sip,
        media: plan.gateway_outside.into(),
        ttl: Ttl::Reset(RELAY_TTL),
        fqdn: plan.fqdn.clone(),
    }
}

/// `startup.cfg` with its checksum, and what the HQ server has.
async fn content(plan: &Plan, site: &Site, port: u16, without_file: bool) -> HashMap<String, Vec<u8>> {
    use sha2::{Digest, Sha256};
    let mut content = HashMap::new();
    if !without_file {
        let text = format!("mivoice config server: {}\ntunnel port: {port}  # CONNECT\n", plan.hq);
        let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        content.insert("/startup.cfg".to_owned(), text.into_bytes());
        content.insert("/startup.cfg.sha256".to_owned(), format!("{sum}  startup.cfg\n").into_bytes());
    }
    let clear = tls::tcp(plan.gateway_inside.into(), site.addresses().hq_http).await.expect("hq");
    let ca = Exchange::new(clear).request("GET", "/keystore/certs/hq_ca.crt", "hq").await.expect("ca").body;
    let root = rustls_pki_types::pem::PemObject::from_pem_slice(&ca).expect("pem");
    let settings = tls::client(&[root], None).expect("client");
    let stream = tls::tcp(plan.gateway_inside.into(), site.addresses().hq_https).await.expect("hq");
    let mut hq = Exchange::new(tls::start(stream, &plan.hq_name, &settings).await.expect("tls"));
    for path in ["/version.txt", "/firmware/6940-6.2.0.29.st"] {
        content.insert(path.to_owned(), hq.request("GET", path, &plan.hq_name).await.expect("file").body);
    }
    content
}

async fn connect(acceptor: TlsAcceptor, stream: TcpStream, allowed: bool) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let (mut head, mut byte) = (Vec::new(), [0_u8]);
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte).await, Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let Some(target) = target.filter(|_| allowed).and_then(|text| text.parse::<SocketAddr>().ok()) else {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        let _ = stream.shutdown().await;
        return;
    };
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    if stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    }
}
