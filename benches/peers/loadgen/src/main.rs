//! SIP load generator and test registrar for comparing edge proxies.
//!
//!   sipload uas      --listen udp:127.0.0.30:5080[,tls:127.0.0.30:5081]
//!   sipload reg      --target tls:HOST:PORT --phones N [--rate R | --inflight K] --secs S [--pid PROXYPID]
//!   sipload call     same arguments as reg; one INVITE..BYE call per unit of work
//!   sipload options  same; one OPTIONS answered by the proxy itself per unit of work
//!   sipload conn     --target tls:HOST:PORT --inflight K --secs S --then options|register|none
//!   sipload idle     --target tls:HOST:PORT --phones N --hold S
//!   sipload inbound  --target tls:HOST:PORT --inside-listen 127.0.0.30:5080 --phones N ...
//!                    phones register through the proxy, then the inside calls them by their Path
//!   sipload reuse    --target ... --inside-listen ...: is a call meant for phone A delivered to
//!                    phone B when B has taken over A's source address and port?
//!
//! TLS: --ca F --cert F --key F --sni NAME --tls 1.2|1.3 ; --no-cert connects without a client
//! certificate; --ca-key F makes a certificate for each phone (CN = its MAC), as gateways that count per certificate need.
//! --keep DIR keeps these certificates from one run to the next.
//! --src 127.1.0.1 --srcs 64 spreads phones over source addresses.

use sipload::*;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::rustls::{self, pki_types::ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Tp {
    Udp,
    Tcp,
    Tls,
}

fn parse_target(s: &str) -> (Tp, SocketAddr) {
    let (t, a) = s.split_once(':').expect("target is udp|tcp|tls:HOST:PORT");
    let tp = match t {
        "udp" => Tp::Udp,
        "tcp" => Tp::Tcp,
        "tls" => Tp::Tls,
        _ => panic!("target {s}"),
    };
    (tp, a.parse().expect("target address"))
}

// ---------------------------------------------------------------- TLS set-up

fn certs(f: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    let d = std::fs::read(f).unwrap_or_else(|e| panic!("{f}: {e}"));
    rustls_pemfile::certs(&mut &d[..]).map(|c| c.unwrap()).collect()
}

fn key(f: &str) -> rustls::pki_types::PrivateKeyDer<'static> {
    let d = std::fs::read(f).unwrap_or_else(|e| panic!("{f}: {e}"));
    rustls_pemfile::private_key(&mut &d[..]).unwrap().unwrap()
}

fn roots(a: &Args) -> rustls::RootCertStore {
    let mut r = rustls::RootCertStore::empty();
    for c in certs(&a.get("ca", "certs/ca.pem")) {
        r.add(c).unwrap();
    }
    r
}

/// One connector, or with --ca-key one for each of --certs phones (default --phones, else 500): a certificate signed
/// by --ca whose CN and SAN name the phone's MAC, as real phones have.
fn connectors(a: &Args) -> Vec<TlsConnector> {
    let Some(k) = a.opt("ca-key") else { return vec![connector(a, None)] };
    let ca = std::fs::read_to_string(a.get("ca", "certs/ca.pem")).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(k).unwrap()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, ca_key).unwrap();
    (0..a.num("certs", a.num("phones", 500usize)))
        .map(|i| {
            let mac = format!("{:012X}", i + MAC0);
            let kept = a.opt("keep").map(|folder| std::path::Path::new(folder).join(format!("{mac}.pem")));
            if let Some(kept) = kept.as_ref().and_then(|file| file.exists().then(|| file.to_str()).flatten())
            {
                return connector(a, Some((certs(kept), key(kept))));
            }
            let pair = rcgen::KeyPair::generate().unwrap();
            let mut c =
                rcgen::CertificateParams::new(vec![format!("{}.phones.example.test", mac.to_lowercase())])
                    .unwrap();
            c.distinguished_name = rcgen::DistinguishedName::new();
            c.distinguished_name.push(rcgen::DnType::CommonName, mac);
            c.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            c.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
            let cert = c.signed_by(&pair, &issuer).unwrap();
            if let Some(kept) = kept {
                std::fs::write(kept, cert.pem() + &pair.serialize_pem()).unwrap();
            }
            let key = rustls::pki_types::PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
            connector(a, Some((vec![cert.der().clone()], key)))
        })
        .collect()
}

type Identity = (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

fn connector(a: &Args, own: Option<Identity>) -> TlsConnector {
    let v: &[&rustls::SupportedProtocolVersion] = match a.opt("tls") {
        Some("1.2") => &[&rustls::version::TLS12],
        Some("1.3") => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
    };
    let b = rustls::ClientConfig::builder_with_protocol_versions(v).with_root_certificates(roots(a));
    let mut c = if a.has("no-cert") {
        b.with_no_client_auth()
    } else {
        let (chain, k) = own.unwrap_or_else(|| {
            (certs(&a.get("cert", "certs/client-ec.pem")), key(&a.get("key", "certs/client-ec.key")))
        });
        b.with_client_auth_cert(chain, k).unwrap()
    };
    c.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(c))
}

/// MAC of phone 0.
const MAC0: usize = 0x0011_2233_0000;

// ---------------------------------------------------------------- one phone's connection

enum Sock {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

struct Conn {
    s: Sock,
    buf: Vec<u8>,
    local: SocketAddr,
}

struct Env {
    tp: Tp,
    addr: SocketAddr,
    tls: Vec<TlsConnector>,
    sni: ServerName<'static>,
    src: Option<Ipv4Addr>,
    srcs: u32,
    domain: String,
    timeout: Duration,
    phones: usize,
    /// Content-Type of the offers. With text/plain, a gateway has no media to anchor: signalling alone.
    body: String,
}

const SDP_TYPE: &str = "application/sdp";

impl Env {
    fn new(a: &Args) -> Env {
        let (tp, addr) = parse_target(a.opt("target").expect("--target"));
        Env {
            tp,
            addr,
            tls: connectors(a),
            sni: ServerName::try_from(a.get("sni", "sbc.example.test")).unwrap(),
            src: a.opt("src").map(|s| s.parse().unwrap()),
            srcs: a.num("srcs", 64),
            domain: a.get("domain", "example.test"),
            timeout: Duration::from_millis(a.num("timeout-ms", 8000)),
            body: a.get("body-type", SDP_TYPE),
            phones: a.num("phones", 500usize).max(1),
        }
    }
    fn source(&self, i: usize, port: u16) -> SocketAddr {
        let ip = match self.src {
            Some(s) => Ipv4Addr::from(u32::from(s) + (i as u32 % self.srcs)),
            None => Ipv4Addr::UNSPECIFIED,
        };
        SocketAddr::new(IpAddr::V4(ip), port)
    }
    async fn connect(&self, i: usize, port: u16) -> io::Result<Conn> {
        let from = self.source(i, port);
        if self.tp == Tp::Udp {
            let u = UdpSocket::bind(from).await?;
            u.connect(self.addr).await?;
            let local = u.local_addr()?;
            return Ok(Conn { s: Sock::Udp(u), buf: vec![0; 65536], local });
        }
        let sk = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        sk.set_nonblocking(true)?;
        sk.set_reuse_address(true)?;
        if port == 0 {
            // let the kernel choose the port at connect(), per destination
            nix::sys::socket::setsockopt(&sk, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        }
        sk.bind(&from.into())?;
        let t = TcpSocket::from_std_stream(sk.into()).connect(self.addr).await?;
        t.set_nodelay(true)?;
        let local = t.local_addr()?;
        let s = if self.tp == Tp::Tcp {
            Sock::Tcp(t)
        } else {
            Sock::Tls(Box::new(self.tls[i % self.tls.len()].connect(self.sni.clone(), t).await?))
        };
        Ok(Conn { s, buf: Vec::new(), local })
    }
    fn tname(&self) -> &'static str {
        match self.tp {
            Tp::Udp => "UDP",
            Tp::Tcp => "TCP",
            Tp::Tls => "TLS",
        }
    }
}

impl Conn {
    async fn send(&mut self, m: &[u8]) -> io::Result<()> {
        match &mut self.s {
            Sock::Udp(u) => u.send(m).await.map(|_| ()),
            Sock::Tcp(t) => t.write_all(m).await,
            Sock::Tls(t) => {
                t.write_all(m).await?;
                t.flush().await
            }
        }
    }
    /// Next whole SIP message.
    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        if let Sock::Udp(u) = &self.s {
            let n = u.recv(&mut self.buf).await?;
            return Ok(self.buf[..n].to_vec());
        }
        loop {
            if let Some(n) = frame(&self.buf) {
                let m: Vec<u8> = self.buf.drain(..n).collect();
                if n == 2 {
                    continue;
                }
                return Ok(m);
            }
            let n = match &mut self.s {
                Sock::Tcp(t) => t.read_buf(&mut self.buf).await?,
                Sock::Tls(t) => t.read_buf(&mut self.buf).await?,
                Sock::Udp(_) => unreachable!(),
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    /// Sends a request and waits for its final response (over UDP, with retransmission).
    async fn transact(
        &mut self,
        req: &[u8],
        callid: &str,
        meth: &str,
        st: &Stats,
        limit: Duration,
    ) -> io::Result<Vec<u8>> {
        self.send(req).await?;
        let udp = matches!(self.s, Sock::Udp(_));
        let end = Instant::now() + limit;
        let mut t1 = Duration::from_millis(500);
        let mut next = Instant::now() + t1;
        let mut provisional = false;
        loop {
            let until = if udp && !(provisional && meth == "INVITE") { next.min(end) } else { end };
            match tokio::time::timeout_at(until.into(), self.recv()).await {
                Ok(m) => {
                    let m = m?;
                    let code = status(&m);
                    if code == 0 || header(&m, "Call-ID") != Some(callid) || cseq_method(&m) != meth {
                        continue;
                    }
                    if code < 200 {
                        provisional = true;
                        continue;
                    }
                    return Ok(m);
                }
                Err(_) if Instant::now() >= end => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {
                    st.retrans.fetch_add(1, Relaxed);
                    self.send(req).await?;
                    t1 = (t1 * 2).min(Duration::from_secs(4));
                    next = Instant::now() + t1;
                }
            }
        }
    }
    async fn close(mut self) {
        match &mut self.s {
            Sock::Tls(t) => {
                let _ = t.shutdown().await;
            }
            Sock::Tcp(t) => {
                let _ = t.shutdown().await;
            }
            Sock::Udp(_) => {}
        }
    }
}

// ---------------------------------------------------------------- the phone's messages

#[derive(Clone)]
struct Phone {
    user: String,
    domain: String,
    tname: &'static str,
    local: SocketAddr,
    uuid: String,
    body: String,
    seq: u64,
    reg_seq: u32,
}

impl Phone {
    fn new(e: &Env, i: usize, c: &Conn, fixed_user: Option<&str>) -> Phone {
        Phone {
            user: fixed_user.map(|s| s.to_string()).unwrap_or_else(|| format!("phone{i}")),
            domain: e.domain.clone(),
            tname: e.tname(),
            local: c.local,
            uuid: format!("00000000-0000-1000-8000-{:012x}", i + MAC0),
            body: e.body.clone(),
            seq: 0,
            reg_seq: 0,
        }
    }
    fn contact(&self) -> String {
        format!("<sip:{}@{};transport={}>", self.user, self.local, self.tname.to_lowercase())
    }
    fn via(&mut self) -> String {
        self.seq += 1;
        format!(
            "Via: SIP/2.0/{} {};branch=z9hG4bK-{}-{};rport\r\n",
            self.tname,
            self.local,
            self.local.port(),
            self.seq_id()
        )
    }
    fn seq_id(&self) -> String {
        format!("{}-{}-{}", self.user, self.local.ip().to_string().replace('.', "_"), self.seq)
    }
    fn callid(&mut self) -> String {
        self.seq += 1;
        format!("{}-{:x}@{}", self.seq_id(), std::process::id(), self.local)
    }
    fn register(&mut self, callid: &str, expires: u32) -> Vec<u8> {
        let via = self.via();
        self.reg_seq += 1;
        format!(
            "REGISTER sip:{d} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=f{s}\r\nTo: <sip:{u}@{d}>\r\n\
Call-ID: {callid}\r\nCSeq: {n} REGISTER\r\nContact: {c};+sip.instance=\"<urn:uuid:{id}>\";reg-id=1\r\n\
User-Agent: SipLoad/0.1 (teleworker phone)\r\nSupported: path, outbound, gruu, replaces\r\n{ALLOW}Expires: {expires}\r\nContent-Length: 0\r\n\r\n",
            d = self.domain, u = self.user, s = self.seq, n = self.reg_seq, c = self.contact(), id = self.uuid
        ).into_bytes()
    }
    fn options(&mut self, callid: &str, target: SocketAddr) -> Vec<u8> {
        let via = self.via();
        format!(
            "OPTIONS sip:{target} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=f{s}\r\nTo: <sip:{target}>\r\n\
Call-ID: {callid}\r\nCSeq: 1 OPTIONS\r\nContact: {c}\r\nUser-Agent: SipLoad/0.1 (teleworker phone)\r\nContent-Length: 0\r\n\r\n",
            d = self.domain, u = self.user, s = self.seq, c = self.contact()
        ).into_bytes()
    }
    fn invite(&mut self, callid: &str, callee: &str) -> Vec<u8> {
        let via = self.via();
        format!(
            "INVITE sip:{callee}@{d} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:{u}@{d}>;tag=c1\r\nTo: <sip:{callee}@{d}>\r\n\
Call-ID: {callid}\r\nCSeq: 1 INVITE\r\nContact: {c};+sip.instance=\"<urn:uuid:{id}>\"\r\nUser-Agent: SipLoad/0.1 (teleworker phone)\r\n\
Supported: path, outbound, gruu, replaces\r\n{ALLOW}Content-Type: {b}\r\nContent-Length: {l}\r\n\r\n{SDP}",
            d = self.domain, u = self.user, c = self.contact(), id = self.uuid, b = self.body, l = SDP.len()
        ).into_bytes()
    }
    /// ACK or BYE inside the dialog made by the 200 `ok`.
    fn in_dialog(&mut self, meth: &str, cseq: u32, ok: &[u8]) -> Vec<u8> {
        let via = self.via();
        let mut routes = list(ok, "Record-Route");
        routes.reverse();
        let route =
            if routes.is_empty() { String::new() } else { format!("Route: {}\r\n", routes.join(", ")) };
        let remote = list(ok, "Contact");
        format!(
            "{meth} {uri} SIP/2.0\r\n{via}Max-Forwards: 70\r\n{route}From: {f}\r\nTo: {t}\r\nCall-ID: {c}\r\nCSeq: {cseq} {meth}\r\n\
User-Agent: SipLoad/0.1 (teleworker phone)\r\nContent-Length: 0\r\n\r\n",
            uri = remote.first().map(|s| uri_in(s)).unwrap_or("sip:missing.invalid"),
            f = header(ok, "From").unwrap_or(""), t = header(ok, "To").unwrap_or(""), c = header(ok, "Call-ID").unwrap_or("")
        ).into_bytes()
    }
}

// ---------------------------------------------------------------- figures

#[derive(Default)]
struct Stats {
    ok: AtomicU64,
    fail: AtomicU64,
    retrans: AtomicU64,
    wrong: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
    lat: Mutex<Vec<u32>>,
    lat2: Mutex<Vec<u32>>,
    errs: Mutex<HashMap<String, u64>>,
}

impl Stats {
    fn good(&self) {
        self.ok.fetch_add(1, Relaxed);
    }
    fn bad(&self, why: String) {
        self.fail.fetch_add(1, Relaxed);
        *self.errs.lock().unwrap().entry(why).or_default() += 1;
    }
    fn is_measuring(&self) -> bool {
        self.measuring.load(Relaxed)
    }
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Warm up, measure for --secs, stop; prints one line of figures.
async fn measure(a: &Args, name: &str, st: &Arc<Stats>) {
    let p = pids(a);
    tokio::time::sleep(Duration::from_secs_f64(a.num("warmup", 2.0))).await;
    let (c0, me0, t0) = (cpu_of(&p), cpu_of(&[std::process::id()]), Instant::now());
    let (ok0, f0, r0) = (st.ok.load(Relaxed), st.fail.load(Relaxed), st.retrans.load(Relaxed));
    st.measuring.store(true, Relaxed);
    tokio::time::sleep(Duration::from_secs_f64(a.num("secs", 10.0))).await;
    st.measuring.store(false, Relaxed);
    let (c, me) = (cpu_of(&p).since(&c0), cpu_of(&[std::process::id()]).since(&me0));
    let dt = t0.elapsed().as_secs_f64();
    let (ok, f, r) = (st.ok.load(Relaxed) - ok0, st.fail.load(Relaxed) - f0, st.retrans.load(Relaxed) - r0);
    st.stop.store(true, Relaxed);
    println!(
        "RESULT {name} {label} ok={ok} fail={f} retrans={r} secs={dt:.1} per_s={:.0} proxy_cpu={:.2}s (user {:.2} sys {:.2}) cpu_per_1000={:.4}s per_cpu_s={:.0} load_cpu={:.2}s loadavg={}",
        ok as f64 / dt,
        c.total(),
        c.user,
        c.sys,
        c.total() * 1000.0 / ok.max(1) as f64,
        if c.total() > 0.0 { ok as f64 / c.total() } else { 0.0 },
        me.total(),
        loadavg(),
        label = a.get("label", "-")
    );
    println!("  latency {}", percentiles(&mut st.lat.lock().unwrap()));
    let mut l2 = st.lat2.lock().unwrap();
    if !l2.is_empty() {
        println!("  second  {}", percentiles(&mut l2));
    }
    let errs = st.errs.lock().unwrap();
    if !errs.is_empty() {
        println!("  errors {:?}", errs);
    }
    if st.wrong.load(Relaxed) > 0 {
        println!("  WRONG PHONE {}", st.wrong.load(Relaxed));
    }
}

async fn pause_until(start: Instant, step: Duration, k: u64) {
    tokio::time::sleep_until((start + step.mul_f64(k as f64)).into()).await
}

// ---------------------------------------------------------------- reg, call, options

async fn unit(
    what: &str,
    c: &mut Conn,
    ph: &mut Phone,
    regid: &str,
    e: &Env,
    st: &Stats,
) -> Result<(u32, Option<u32>), String> {
    let es = |x: io::Error| format!("{:?}", x.kind());
    let us = |t: Instant| t.elapsed().as_micros().min(u32::MAX as u128) as u32;
    let t = Instant::now();
    match what {
        "reg" => {
            let m = ph.register(regid, 3600);
            let r = c.transact(&m, regid, "REGISTER", st, e.timeout).await.map_err(es)?;
            if status(&r) == 200 { Ok((us(t), None)) } else { Err(format!("status {}", status(&r))) }
        }
        "options" => {
            let id = ph.callid();
            let m = ph.options(&id, e.addr);
            let r = c.transact(&m, &id, "OPTIONS", st, e.timeout).await.map_err(es)?;
            if status(&r) == 200 { Ok((us(t), None)) } else { Err(format!("status {}", status(&r))) }
        }
        "call" => {
            let id = ph.callid();
            let m = ph.invite(&id, "1000");
            let r = c.transact(&m, &id, "INVITE", st, e.timeout).await.map_err(es)?;
            if status(&r) != 200 {
                return Err(format!("INVITE status {}", status(&r)));
            }
            let l1 = us(t);
            let ack = ph.in_dialog("ACK", 1, &r);
            c.send(&ack).await.map_err(es)?;
            let bye = ph.in_dialog("BYE", 2, &r);
            let t2 = Instant::now();
            let b = c.transact(&bye, &id, "BYE", st, e.timeout).await.map_err(es)?;
            if status(&b) != 200 {
                return Err(format!("BYE status {}", status(&b)));
            }
            Ok((l1, Some(us(t2))))
        }
        _ => unreachable!(),
    }
}

async fn connect_all(
    a: &Args,
    e: &Arc<Env>,
    n: usize,
    register: bool,
    st: &Arc<Stats>,
) -> Vec<(Conn, Phone, String)> {
    let sem = Arc::new(Semaphore::new(a.num("connect-inflight", 32)));
    let mut hs = Vec::new();
    let t = Instant::now();
    let fixed = a.opt("user").map(|s| s.to_string());
    for i in 0..n {
        let (e, sem, st, fixed) = (e.clone(), sem.clone(), st.clone(), fixed.clone());
        hs.push(tokio::spawn(async move {
            let _p = sem.acquire().await.unwrap();
            let mut c = match e.connect(i, 0).await {
                Ok(c) => c,
                Err(x) => {
                    eprintln!("phone {i}: connect {x}");
                    return None;
                }
            };
            let mut ph = Phone::new(&e, i, &c, fixed.as_deref());
            let id = ph.callid();
            if register {
                let m = ph.register(&id, 3600);
                match c.transact(&m, &id, "REGISTER", &st, e.timeout).await {
                    Ok(r) if status(&r) == 200 => {}
                    Ok(r) => eprintln!("phone {i}: REGISTER status {}", status(&r)),
                    Err(x) => {
                        eprintln!("phone {i}: REGISTER {x}");
                        return None;
                    }
                }
            }
            Some((c, ph, id))
        }));
    }
    let mut out = Vec::new();
    for h in hs {
        if let Some(x) = h.await.unwrap() {
            out.push(x);
        }
    }
    eprintln!("{} of {n} phones connected in {:.1}s", out.len(), t.elapsed().as_secs_f64());
    out
}

async fn run_load(what: &'static str, a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let n: usize = a.num("phones", 100);
    let rate: f64 = a.num("rate", 0.0);
    let phones = connect_all(a, &e, n, !a.has("no-register") && what != "options", &st).await;
    let sem = Arc::new(Semaphore::new(a.num("inflight", 32)));
    let start = Instant::now() + Duration::from_millis(200);
    let live = phones.len();
    for (k, (mut c, mut ph, id)) in phones.into_iter().enumerate() {
        let (e, st, sem) = (e.clone(), st.clone(), sem.clone());
        tokio::spawn(async move {
            let step = Duration::from_secs_f64(if rate > 0.0 { live as f64 / rate } else { 0.0 });
            let mut i = 0u64;
            pause_until(start, step, 0).await;
            while !st.stopped() {
                let permit = if rate > 0.0 {
                    pause_until(start + step.mul_f64(k as f64 / live as f64), step, i).await;
                    None
                } else {
                    Some(sem.acquire().await.unwrap())
                };
                if st.stopped() {
                    break;
                }
                i += 1;
                match unit(what, &mut c, &mut ph, &id, &e, &st).await {
                    Ok((x, y)) => {
                        st.good();
                        if st.is_measuring() {
                            st.lat.lock().unwrap().push(x);
                            if let Some(y) = y {
                                st.lat2.lock().unwrap().push(y);
                            }
                        }
                    }
                    Err(w) => {
                        let dead =
                            !w.starts_with("status") && !w.contains("TimedOut") && !w.contains(" status");
                        st.bad(w);
                        if dead {
                            break;
                        }
                    }
                }
                drop(permit);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            c.close().await;
        });
    }
    tokio::time::sleep_until(start.into()).await;
    measure(a, what, &st).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

// ---------------------------------------------------------------- conn

async fn run_conn(a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let then = a.get("then", "options");
    let rate: f64 = a.num("rate", 0.0);
    let workers: usize = a.num("inflight", 16);
    let start = Instant::now();
    for w in 0..workers {
        let (e, st, then) = (e.clone(), st.clone(), then.clone());
        tokio::spawn(async move {
            let mut i = 0usize;
            while !st.stopped() {
                if rate > 0.0 {
                    let step = Duration::from_secs_f64(workers as f64 / rate);
                    pause_until(start + step.mul_f64(w as f64 / workers as f64), step, i as u64).await;
                }
                i += 1;
                let t = Instant::now();
                let r: Result<u32, String> = async {
                    // A phone that comes back: the certificate and the device are the same one's.
                    let n = (w + i * 7) % e.phones;
                    let mut c = e.connect(n, 0).await.map_err(|x| format!("connect {:?} {x}", x.kind()))?;
                    let us = t.elapsed().as_micros() as u32;
                    let mut ph = Phone::new(&e, n, &c, None);
                    let id = ph.callid();
                    let what = if then == "register" { "reg" } else { "options" };
                    if then != "none" {
                        unit(what, &mut c, &mut ph, &id, &e, &st).await?;
                    }
                    let total = t.elapsed().as_micros() as u32;
                    if st.is_measuring() {
                        st.lat.lock().unwrap().push(us);
                        st.lat2.lock().unwrap().push(total);
                    }
                    c.close().await;
                    Ok(us)
                }
                .await;
                match r {
                    Ok(_) => st.good(),
                    Err(x) => {
                        st.bad(x);
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                }
            }
        });
    }
    measure(a, "conn", &st).await;
}

// ---------------------------------------------------------------- idle

async fn run_idle(a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let v = connect_all(a, &e, a.num("phones", 1000), true, &st).await;
    println!("READY {}", v.len());
    let hold = Duration::from_secs(a.num("hold", 10));
    let _ = tokio::time::timeout(hold, std::future::pending::<()>()).await;
    drop(v);
}

// ---------------------------------------------------------------- uas

fn handle(req: &[u8], contact: &str, out: &mut Vec<Vec<u8>>) {
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

async fn run_uas(a: &Args) {
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

async fn serve<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut s: S, contact: &str) {
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

// ---------------------------------------------------------------- inbound and reuse

#[derive(Default)]
struct Inside {
    bindings: Mutex<HashMap<String, (String, Vec<String>)>>,
    waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Vec<u8>>>>,
}

/// The inside registrar: keeps Contact and Path per user, hands responses to the waiting call.
async fn inside_loop(sock: Arc<UdpSocket>, inside: Arc<Inside>) {
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
async fn inside_call(
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
async fn answer(mut c: Conn, ph: Phone) {
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

async fn inside_setup(a: &Args) -> (Arc<UdpSocket>, Arc<Inside>) {
    let sock = Arc::new(UdpSocket::bind(a.get("inside-listen", "127.0.0.30:5080")).await.unwrap());
    let _ = socket2::SockRef::from(&*sock).set_recv_buffer_size(4 << 20);
    let inside = Arc::new(Inside::default());
    tokio::spawn(inside_loop(sock.clone(), inside.clone()));
    (sock, inside)
}

async fn run_inbound(a: &Args) {
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
async fn run_reuse(a: &Args) {
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

fn main() {
    let mut argv = std::env::args().skip(1);
    let mode = argv.next().unwrap_or_else(|| "help".into());
    let a = Args::parse(argv);
    raise_nofile();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(a.num("workers", 2))
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async {
        match mode.as_str() {
            "uas" => run_uas(&a).await,
            "reg" => run_load("reg", &a).await,
            "call" => run_load("call", &a).await,
            "options" => run_load("options", &a).await,
            "conn" => run_conn(&a).await,
            "idle" => run_idle(&a).await,
            "inbound" => run_inbound(&a).await,
            "reuse" => run_reuse(&a).await,
            _ => eprintln!("see the top of sipload.rs for usage"),
        }
    });
    std::process::exit(0);
}
