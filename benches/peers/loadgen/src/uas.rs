//! The switch inside: answers what comes.

use sipload::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self};

use crate::tls::*;
use crate::{Tp, parse_target};

pub(crate) fn handle(req: &[u8], contact: &str, out: &mut Vec<Vec<u8>>) {
    if status(req) != 0 || req.len() < 20 {
        return;
    }
    let ct = format!("Contact: <{contact}>\r\n");
    match method(req) {
        "REGISTER" => {
            let mut x = String::new();
            for c in headers(req, "Contact") {
                x.push_str(&format!("Contact: {c};expires=3600\r\n"));
            }
            for p in headers(req, "Path") {
                x.push_str(&format!("Path: {p}\r\n"));
            }
            x.push_str("Supported: path, outbound\r\nServer: sipload-uas\r\n");
            out.push(response(req, 200, "OK", "u1", &x, ""));
        }
        "INVITE" => {
            out.push(response(req, 100, "Trying", "", "", ""));
            out.push(response(req, 180, "Ringing", "u1", &ct, ""));
            out.push(response(req, 200, "OK", "u1", &format!("{ct}{ALLOW}Server: sipload-uas\r\n"), SDP));
        }
        "ACK" => {}
        _ => out.push(response(req, 200, "OK", "u1", "", "")),
    }
}

pub(crate) async fn run_uas(a: &Args) {
    let mut hs = Vec::new();
    let count = Arc::new(AtomicU64::new(0));
    for l in a.get("listen", "udp:127.0.0.30:5080").split(',') {
        let (tp, addr) = parse_target(l);
        let contact = format!("sip:uas@{addr};transport={}", format!("{tp:?}").to_lowercase());
        if tp == Tp::Udp {
            let u = std::net::UdpSocket::bind(addr).unwrap();
            let s2 = socket2::SockRef::from(&u);
            let _ = s2.set_recv_buffer_size(4 << 20);
            let _ = s2.set_send_buffer_size(4 << 20);
            for _ in 0..a.num("threads", 1) {
                let (u, contact, count) = (u.try_clone().unwrap(), contact.clone(), count.clone());
                let drop_after = a.num::<u64>("count", 0);
                std::thread::spawn(move || {
                    let mut b = vec![0u8; 65536];
                    let mut out = Vec::new();
                    loop {
                        let Ok((n, from)) = u.recv_from(&mut b) else { continue };
                        let c = count.fetch_add(1, Relaxed) + 1;
                        if drop_after > 0 && c % drop_after == 0 {
                            eprintln!("uas: {c} messages");
                        }
                        handle(&b[..n], &contact, &mut out);
                        for m in out.drain(..) {
                            let _ = u.send_to(&m, from);
                        }
                    }
                });
            }
            continue;
        }
        let vb = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots(a))).allow_unauthenticated();
        let cfg = rustls::ServerConfig::builder()
            .with_client_cert_verifier(vb.build().unwrap())
            .with_single_cert(
                certs(&a.get("cert", "certs/server-ec.pem")),
                key(&a.get("key", "certs/server-ec.key")),
            )
            .unwrap();
        let acc = TlsAcceptor::from(Arc::new(cfg));
        hs.push(tokio::spawn(async move {
            let l = TcpListener::bind(addr).await.unwrap();
            loop {
                let Ok((t, _)) = l.accept().await else { continue };
                let _ = t.set_nodelay(true);
                let (acc, contact) = (acc.clone(), contact.clone());
                tokio::spawn(async move {
                    if tp == Tp::Tls {
                        if let Ok(s) = acc.accept(t).await {
                            serve(s, &contact).await;
                        }
                    } else {
                        serve(t, &contact).await;
                    }
                });
            }
        }));
    }
    println!("UAS ready");
    std::future::pending::<()>().await;
}

pub(crate) async fn serve<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut s: S, contact: &str) {
    let mut buf: Vec<u8> = Vec::with_capacity(65536);
    let mut out = Vec::new();
    loop {
        match s.read_buf(&mut buf).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        let mut o = Vec::new();
        let mut done = 0;
        while let Some(n) = frame(&buf[done..]) {
            handle(&buf[done..done + n], contact, &mut out);
            done += n;
            for m in out.drain(..) {
                o.extend_from_slice(&m);
            }
        }
        buf.drain(..done);
        if !o.is_empty() && (s.write_all(&o).await.is_err() || s.flush().await.is_err()) {
            return;
        }
    }
}
