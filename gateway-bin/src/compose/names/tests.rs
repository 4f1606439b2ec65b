use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sip_core::resolve::records::{Kind, Question, Records};
use tokio::net::UdpSocket;

use super::{Names, is_under};

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// What a name server of a few lines answers to a question of this type: a code, and records as type and data.
type Zone = fn(u16) -> (u8, Vec<(u16, Vec<u8>)>);

/// A name server; TTLs are 60. Tells how often it was asked.
async fn server(zone: Zone) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
            count.fetch_add(1, Ordering::SeqCst);
            // Header and question are echoed; an OPT row behind them is cut off.
            let end = 12 + buffer[12..len].iter().position(|byte| *byte == 0).unwrap() + 5;
            let (code, records) = zone(u16::from_be_bytes([buffer[end - 4], buffer[end - 3]]));
            let mut answer = buffer[..end].to_vec();
            answer[2] = 0x81;
            answer[3] = 0x80 | code;
            answer[6..12].copy_from_slice(&[0, records.len() as u8, 0, 0, 0, 0]);
            for (kind, data) in records {
                answer.extend([0xc0, 12]);
                answer.extend(kind.to_be_bytes());
                answer.extend([0, 1, 0, 0, 0, 60]);
                answer.extend((data.len() as u16).to_be_bytes());
                answer.extend(data);
            }
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    (address, asked)
}

const A: u16 = 1;
const CNAME: u16 = 5;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

fn good(kind: u16) -> (u8, Vec<(u16, Vec<u8>)>) {
    (0, if kind == A { vec![(A, vec![10, 9, 8, 7])] } else { Vec::new() })
}

fn failing(_: u16) -> (u8, Vec<(u16, Vec<u8>)>) {
    (SERVFAIL, Vec::new())
}

fn lacking(_: u16) -> (u8, Vec<(u16, Vec<u8>)>) {
    (NXDOMAIN, Vec::new())
}

fn question(kind: Kind, name: &str) -> Question {
    Question { kind, name: name.to_owned() }
}

fn address() -> IpAddr {
    "10.9.8.7".parse().unwrap()
}

#[tokio::test]
async fn the_next_server_is_asked_on_failure_and_not_on_nxdomain() {
    let (failing, _) = server(failing).await;
    let (lacking, _) = server(lacking).await;
    let (good, asked) = server(good).await;
    let names = Names::new(&[failing, good], &[]).unwrap();
    assert_eq!(names.lookup("hq.example.internal").await.unwrap(), [address()]);
    let before = asked.load(Ordering::SeqCst);
    assert!(before > 0);
    let names = Names::new(&[lacking, good], &[]).unwrap();
    assert_eq!(names.lookup("hq.example.internal").await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    for kind in [Kind::Naptr, Kind::Srv, Kind::Addresses] {
        let answer = names.answer(&question(kind, "hq.example.internal")).await.unwrap();
        assert_eq!(answer.records, Records::Missing, "{kind:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn internal_names_are_not_asked_in_public() {
    let names = Names::new(&["192.0.2.1:53".parse().unwrap()], &["example.internal".to_owned()]).unwrap();
    let error = names.lookup("hq.example.internal").await.unwrap_err();
    assert!(error.to_string().contains("no name server is configured"), "{error}");
}

#[tokio::test]
async fn srv_and_naptr_come_as_they_were_written_with_their_ttl() {
    let (at, _) = server(|kind| {
        // _sips._tcp → priority 10, weight 20, port 5071, target "a" under the name that was asked for.
        let srv = [&[0, 10, 0, 20, 0x13, 0xcf, 1, b'a'][..], &[0xc0, 12]].concat();
        let naptr = [&[0, 1, 0, 2, 1, b's', 8][..], b"SIPS+D2T", &[0, 5], b"_sips", &[0xc0, 12]].concat();
        match kind {
            SRV => (0, vec![(SRV, srv)]),
            NAPTR => (0, vec![(NAPTR, naptr)]),
            kind => good(kind),
        }
    })
    .await;
    let names = Names::new(&[at], &[]).unwrap();
    let answer = names.answer(&question(Kind::Srv, "example.internal")).await.unwrap();
    let Records::Srv(records) = answer.records else { panic!("{answer:?}") };
    let srv = &records[0];
    assert_eq!((srv.priority, srv.weight, srv.port), (10, 20, 5071));
    assert_eq!(srv.target, "a.example.internal.");
    assert!((50..=60).contains(&answer.ttl.as_secs()), "{:?}", answer.ttl);
    let answer = names.answer(&question(Kind::Naptr, "example.internal")).await.unwrap();
    let Records::Naptr(records) = answer.records else { panic!("{answer:?}") };
    assert_eq!(records[0].transport(), Some(sip_core::flow::Transport::Tls));
    assert_eq!(records[0].replacement, "_sips.example.internal.");
    let answer = names.answer(&question(Kind::Addresses, "example.internal")).await.unwrap();
    assert_eq!(answer.records, Records::Addresses(vec![address()]));
}

#[tokio::test]
async fn a_name_that_leads_to_itself_and_one_with_many_addresses_end_soon() {
    let (looping, _) = server(|_| (0, vec![(CNAME, vec![0xc0, 12])])).await;
    let (many, _) = server(|kind| match kind {
        A => (0, (0..60).map(|last| (A, vec![10, 1, 1, last])).collect()),
        _ => (0, Vec::new()),
    })
    .await;
    for kind in [Kind::Addresses, Kind::Srv, Kind::Naptr] {
        let names = Names::new(&[looping], &[]).unwrap();
        let asked = question(kind, "loop.example.internal");
        let answer = tokio::time::timeout(Duration::from_secs(8), names.answer(&asked)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{kind:?} hangs"));
        let nothing = |records: &Records| match records {
            Records::Missing => true,
            Records::Addresses(list) => list.is_empty(),
            Records::Srv(list) => list.is_empty(),
            Records::Naptr(list) => list.is_empty(),
            _ => false,
        };
        assert!(answer.as_ref().map_or(true, |answer| nothing(&answer.records)), "{answer:?}");
    }
    let names = Names::new(&[many], &[]).unwrap();
    let answer = names.answer(&question(Kind::Addresses, "many.example.internal")).await.unwrap();
    assert!(matches!(&answer.records, Records::Addresses(list) if list.len() == 60), "{answer:?}");
}

#[tokio::test]
async fn silence_is_a_failure_and_no_denial() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let names = Names::new(&[silent.local_addr().unwrap()], &[]).unwrap();
    let error = names.answer(&question(Kind::Srv, "hq.example.internal")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn under() {
    let domains = ["example.internal".to_owned()];
    assert!(is_under("HQ.Example.Internal.", &domains) && is_under("example.internal", &domains));
    assert!(!is_under("badexample.internal", &domains) && !is_under("example.com", &domains));
}
