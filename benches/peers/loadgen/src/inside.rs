//! Calls from inside to phones.

use sipload::*;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::conn::*;
use crate::figures::*;
use crate::load::*;
use crate::phone::*;
use crate::uas::*;

#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) bindings: Mutex<HashMap<String, (String, Vec<String>)>>,
    pub(crate) waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Vec<u8>>>>,
}

/// The inside registrar: keeps Contact and Path per user, hands responses to the waiting call.
pub(crate) async fn inside_loop(sock: Arc<UdpSocket>, inside: Arc<Inside>) {
    let mut b = vec![0u8; 65536];
    loop {
        let Ok((n, from)) = sock.recv_from(&mut b).await else { continue };
        let m = &b[..n];
        if status(m) == 0 {
            if method(m) == "REGISTER" {
                let user = user_of(uri_in(header(m, "To").unwrap_or(""))).to_string();
                let inst = header(m, "Contact")
                    .and_then(|c| c.split("urn:uuid:").nth(1))
                    .map(|s| s[..36.min(s.len())].to_string())
                    .unwrap_or_default();
                let c = list(m, "Contact").first().map(|s| uri_in(s).to_string()).unwrap_or_default();
                let v = (c, list(m, "Path"));
                let mut g = inside.bindings.lock().unwrap();
                g.insert(format!("{user}#{inst}"), v.clone());
                g.insert(user, v);
            }
            let mut out = Vec::new();
            handle(m, "sip:inside", &mut out);
            for o in out {
                let _ = sock.send_to(&o, from).await;
            }
        } else if let Some(id) = header(m, "Call-ID") {
            if let Some(tx) = inside.waiting.lock().unwrap().get(id) {
                let _ = tx.send(m.to_vec());
            }
        }
    }
}

/// One call from the inside to a registered phone, then BYE from the inside.
/// Returns the X-Phone header of the answer: the identity of the phone that took the call.
pub(crate) async fn inside_call(
    sock: &UdpSocket,
    inside: &Inside,
    binding: &(String, Vec<String>),
    proxy: SocketAddr,
    n: u64,
    limit: Duration,
    body: &str,
) -> Result<(String, u32), String> {
    let local = sock.local_addr().unwrap();
    let pid = std::process::id();
    let id = format!("in-{n}-{pid:x}@inside");
    let (tx, mut rx) = mpsc::unbounded_channel();
    inside.waiting.lock().unwrap().insert(id.clone(), tx);
    let (contact, path) = binding;
    let route = if path.is_empty() { String::new() } else { format!("Route: {}\r\n", path.join(", ")) };
    let req = format!(
        "INVITE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-in-{pid:x}-{n};rport\r\nMax-Forwards: 70\r\n{route}From: <sip:inside@example.test>;tag=i{n}\r\n\
To: <{contact}>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\nContact: <sip:inside@{local}>\r\n{ALLOW}Content-Type: {body}\r\nContent-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    );
    let t = Instant::now();
    let r = async {
        sock.send_to(req.as_bytes(), proxy).await.map_err(|e| e.to_string())?;
        let ok = loop {
            let m = tokio::time::timeout(limit, rx.recv()).await.map_err(|_| "INVITE timeout".to_string())?.unwrap();
            match status(&m) { 200 => break m, s if s >= 300 => return Err(format!("INVITE status {s}")), _ => {} }
        };
        let us = t.elapsed().as_micros() as u32;
        let who = header(&ok, "X-Phone").unwrap_or("").to_string();
        let mut rr = list(&ok, "Record-Route");
        rr.reverse();
        let route = if rr.is_empty() { String::new() } else { format!("Route: {}\r\n", rr.join(", ")) };
        let to = header(&ok, "To").unwrap_or("");
        let uri = list(&ok, "Contact").first().map(|s| uri_in(s).to_string()).unwrap_or_default();
        for (i, meth) in [(1, "ACK"), (2, "BYE")] {
            let m = format!(
                "{meth} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-in{meth}-{pid:x}-{n};rport\r\nMax-Forwards: 70\r\n{route}From: <sip:inside@example.test>;tag=i{n}\r\n\
To: {to}\r\nCall-ID: {id}\r\nCSeq: {i} {meth}\r\nContent-Length: 0\r\n\r\n");
            sock.send_to(m.as_bytes(), proxy).await.map_err(|e| e.to_string())?;
        }
        loop {
            let m = tokio::time::timeout(limit, rx.recv()).await.map_err(|_| "BYE timeout".to_string())?.unwrap();
            if cseq_method(&m) == "BYE" {
                match status(&m) { 200 => return Ok((who, us)), s if s >= 300 => return Err(format!("BYE status {s}")), _ => {} }
            }
        }
    }.await;
    inside.waiting.lock().unwrap().remove(&id);
    r
}

/// A phone that answers calls on its connection and names itself in X-Phone.
pub(crate) async fn answer(mut c: Conn, ph: Phone) {
    let contact = format!("Contact: {}\r\nX-Phone: {}\r\n", ph.contact(), ph.uuid);
    while let Ok(m) = c.recv().await {
        if status(&m) != 0 {
            continue;
        }
        let r = match method(&m) {
            "INVITE" => {
                if c.send(&response(&m, 180, "Ringing", "p1", &contact, "")).await.is_err() {
                    return;
                }
                response(&m, 200, "OK", "p1", &contact, SDP)
            }
            "ACK" => continue,
            _ => response(&m, 200, "OK", "p1", "", ""),
        };
        if c.send(&r).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn inside_setup(a: &Args) -> (Arc<UdpSocket>, Arc<Inside>) {
    let sock = Arc::new(UdpSocket::bind(a.get("inside-listen", "127.0.0.30:5080")).await.unwrap());
    let _ = socket2::SockRef::from(&*sock).set_recv_buffer_size(4 << 20);
    let inside = Arc::new(Inside::default());
    tokio::spawn(inside_loop(sock.clone(), inside.clone()));
    (sock, inside)
}

pub(crate) async fn run_inbound(a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let proxy: SocketAddr = a.get("proxy-inside", "127.0.0.20:5060").parse().unwrap();
    let (sock, inside) = inside_setup(a).await;
    let phones = connect_all(a, &e, a.num("phones", 100), true, &st).await;
    let mut keys = Vec::new();
    for (c, ph, _) in phones {
        keys.push((format!("{}#{}", ph.user, ph.uuid), ph.uuid.clone()));
        tokio::spawn(answer(c, ph));
    }
    {
        let g = inside.bindings.lock().unwrap();
        let b = g.get(&keys[0].0).expect("phone 0 did not register");
        eprintln!("binding of the first phone: contact {} path {:?}", b.0, b.1);
    }
    let keys = Arc::new(keys);
    let ctr = Arc::new(AtomicU64::new(0));
    let rate: f64 = a.num("rate", 0.0);
    let workers: usize = if rate > 0.0 { 256 } else { a.num("inflight", 32) };
    let start = Instant::now();
    for w in 0..workers {
        let (e, st, sock, inside, keys, ctr) =
            (e.clone(), st.clone(), sock.clone(), inside.clone(), keys.clone(), ctr.clone());
        tokio::spawn(async move {
            let mut i = 0;
            while !st.stopped() {
                if rate > 0.0 {
                    let step = Duration::from_secs_f64(workers as f64 / rate);
                    pause_until(start + step.mul_f64(w as f64 / workers as f64), step, i).await;
                }
                i += 1;
                let n = ctr.fetch_add(1, Relaxed);
                let (k, uuid) = &keys[n as usize % keys.len()];
                let Some(b) = inside.bindings.lock().unwrap().get(k).cloned() else {
                    st.bad("no binding".into());
                    continue;
                };
                match inside_call(&sock, &inside, &b, proxy, n, e.timeout, &e.body).await {
                    Ok((who, us)) => {
                        st.good();
                        if who != *uuid {
                            st.wrong.fetch_add(1, Relaxed);
                        }
                        if st.is_measuring() {
                            st.lat.lock().unwrap().push(us);
                        }
                    }
                    Err(x) => st.bad(x),
                }
            }
        });
    }
    measure(a, "inbound", &st).await;
}

/// Phone A registers from a fixed source port and goes away; phone B takes the same source
/// address and port (a NAT binding handed to someone else). The inside then calls A.
pub(crate) async fn run_reuse(a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let proxy: SocketAddr = a.get("proxy-inside", "127.0.0.20:5060").parse().unwrap();
    let (sock, inside) = inside_setup(a).await;
    let port: u16 = a.num("port", 41000);
    let mut c = e.connect(0, port).await.unwrap();
    let mut pa = Phone::new(&e, 1, &c, Some("alice"));
    let id = pa.callid();
    let m = pa.register(&id, 3600);
    c.transact(&m, &id, "REGISTER", &st, e.timeout).await.unwrap();
    let key = format!("alice#{}", pa.uuid);
    let b = inside.bindings.lock().unwrap().get(&key).cloned().unwrap();
    println!("A registered: contact {} path {:?}", b.0, b.1);
    if let Sock::Tls(t) = &c.s {
        let _ = socket2::SockRef::from(t.get_ref().0).set_linger(Some(Duration::ZERO));
    }
    drop(c); // reset, so the port can be taken at once
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!(
        "call to A while nobody holds A's port: {:?}",
        inside_call(&sock, &inside, &b, proxy, 1, Duration::from_secs(6), SDP_TYPE).await
    );
    let mut c = e.connect(0, port).await.unwrap();
    let mut pb = Phone::new(&e, 2, &c, Some("bob"));
    let id = pb.callid();
    let m = pb.register(&id, 3600);
    c.transact(&m, &id, "REGISTER", &st, e.timeout).await.unwrap();
    let ub = pb.uuid.clone();
    tokio::spawn(answer(c, pb));
    let r = inside_call(&sock, &inside, &b, proxy, 2, Duration::from_secs(6), SDP_TYPE).await;
    println!("call to A after B took A's address and port: {r:?}");
    match r {
        Ok((w, _)) if w == ub => println!("RESULT reuse: DELIVERED TO THE WRONG PHONE"),
        _ => println!("RESULT reuse: not delivered to the wrong phone"),
    }
}
