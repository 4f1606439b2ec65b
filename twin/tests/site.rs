//! Phones at the site's own network, without a gateway: they register, are re-homed, get the burst, and call.

use std::net::SocketAddr;
use std::time::Duration;

use twin::mac::Mac;
use twin::phone::Phone;
use twin::phone::line::{Line, LineError, Registered};
use twin::pki::Pki;
use twin::plan::{Handset, Plan};
use twin::site::{Options, Over, Site};

const PATIENCE: Duration = Duration::from_secs(5);

fn plan(site: u8) -> Plan {
    Plan {
        hq: [127, 11, site, 10].into(),
        switches: [50, 51, 52].map(|host| [127, 11, site, host].into()),
        homes: vec![[127, 41, site]],
        ..Plan::default()
    }
}

async fn line(handset: &Handset, pki: &Pki, switch: SocketAddr) -> Line {
    Line::connect(&inside(handset, pki), switch, &switch.ip().to_string()).await.expect("line")
}

/// A phone at the site: it trusts the site's root.
fn inside(handset: &Handset, pki: &Pki) -> Phone {
    let phone = Phone::new(handset.clone(), pki, PATIENCE).expect("phone");
    phone.trusting(&[pki.hq_root().clone()]).expect("settings")
}

fn contact(handset: &Handset) -> String {
    format!("sips:anonymous@{}", handset.ip)
}

#[tokio::test]
async fn phones_register_and_call_each_other() {
    let plan = plan(1);
    let pki = Pki::new(&plan).expect("pki");
    let options = Options { over: Over::Registration, ..Options::default() };
    let site = Site::start(&plan, &pki, &options).await.expect("site");
    let handsets = plan.handsets(2);
    let [first, second, _] = site.addresses().switches;
    let (a, b) = (line(&handsets[0], &pki, first).await, line(&handsets[1], &pki, second).await);

    let bound = a.register(first, 60).await.expect("registered");
    let Registered::Bound(contacts) = bound else { panic!("{bound:?}") };
    assert_eq!(contacts.len(), 1);
    let Ok(Registered::Bound(contacts)) = b.register(second, 60).await else { panic!("not bound") };
    // A registrar lists every binding of the address-of-record: what a gateway has to filter.
    assert!(contacts.len() == 2 && contacts.iter().any(|c| c.contains(&contact(&handsets[0]))));

    for (line, handset) in [(&a, &handsets[0]), (&b, &handsets[1])] {
        let seen = line.wait("burst", |seen| seen.notifies.len() == 4).await.expect("burst");
        assert!(seen.notifies.iter().all(|n| n.mac == Some(handset.mac) && n.uri == contact(handset)));
        assert_eq!(seen.notifies.last().map(|n| n.event.as_str()), Some("firmware-query"));
        line.ping().await.expect("pong");
        assert_eq!(site.options(handset.mac).await, "200 OK");
    }
    let records = site.wait(PATIENCE, |records| records.deliveries.len() == 8).await.expect("answers");
    assert!(records.deliveries.iter().all(|d| d.verdict == "200 OK"), "{:?}", records.deliveries);

    // Nobody has been assigned an extension yet.
    assert!(matches!(a.dial(first, "102").await, Err(LineError::Refused(_, v)) if v == "404 Not Found"));
}

#[tokio::test]
async fn an_assigned_extension_rings_and_is_heard() {
    let plan = plan(2);
    let pki = Pki::new(&plan).expect("pki");
    let options = Options { over: Over::Registration, ..Options::default() };
    let site = Site::start(&plan, &pki, &options).await.expect("site");
    let handsets = plan.handsets(2);
    let [first, _, third] = site.addresses().switches;
    let (a, b) = (line(&handsets[0], &pki, first).await, line(&handsets[1], &pki, third).await);
    for handset in &handsets {
        let settings = inside(handset, &pki);
        let ip = site.addresses().cas.ip();
        for (mac, status) in [(handset.mac, 200), (Mac([1; 6]), 403)] {
            let stream = twin::tls::tcp(handset.ip.into(), site.addresses().cas).await.expect("cas");
            let cas = twin::tls::start(stream, &ip.to_string(), settings.settings()).await;
            let mut cas = twin::http::Exchange::new(cas.expect("tls"));
            let path = format!("/cas/assign?mac={mac}&extension={}", handset.extension);
            let answer = cas.request("GET", &path, "cas").await.expect("answer");
            assert_eq!(answer.status, status);
        }
    }
    assert!(matches!(a.dial(first, "102").await, Err(LineError::Refused(_, v)) if v.starts_with("480")));
    a.register(first, 60).await.expect("registered");
    b.register(third, 60).await.expect("registered");

    let mine = a.dial(first, &handsets[1].extension).await.expect("call");
    let theirs = b.answered().await.expect("answered");
    assert!(mine.rang);
    assert_eq!((mine.remote(), theirs.remote()), (theirs.local(), mine.local()));
    assert_eq!(theirs.own_user(), "102");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if mine.seen().received > 10 && theirs.seen().received > 10 {
            break;
        }
    }
    assert_eq!(site.update("102").await, "200 OK");
    for (call, me, peer) in [(&mine, &handsets[0], &handsets[1]), (&theirs, &handsets[1], &handsets[0])] {
        let seen = call.seen();
        assert!(seen.received > 10, "{}", seen.received);
        assert!(seen.tone(peer.tone) > 0.9 && seen.tone(me.tone) < 0.1);
        assert_eq!(seen.ttls.iter().copied().collect::<Vec<_>>(), [peer.ttl]);
    }
    theirs.hang_up().await.expect("bye");
    mine.ended().await.expect("bye arrives");
    assert!(matches!(theirs.hang_up().await, Err(LineError::Refused(_, v)) if v.starts_with("481")));

    let mine = a.dial(first, "102").await.expect("second call");
    assert!(site.release("102").await);
    mine.ended().await.expect("the site ends it");
}

#[tokio::test]
async fn a_phone_is_sent_to_another_switch() {
    let plan = plan(3);
    let pki = Pki::new(&plan).expect("pki");
    let handset = &plan.handsets(1)[0];
    for wrong_switch in [false, true] {
        let options = Options {
            over: Over::Registration,
            rehome: Some(handset.mac),
            wrong_switch,
            ..Options::default()
        };
        let site = Site::start(&plan, &pki, &options).await.expect("site");
        // MAC …01: its settings name the second switch.
        let [_, home, next] = site.addresses().switches;
        let to = match line(handset, &pki, home).await.register(home, 60).await {
            Ok(Registered::Moved(to)) => to,
            other => panic!("{other:?}"),
        };
        assert_eq!(to == next, !wrong_switch);
        assert!(!wrong_switch || !site.addresses().switches.contains(&to));
        if !wrong_switch {
            let bound = line(handset, &pki, next).await.register(next, 60).await;
            assert!(matches!(bound, Ok(Registered::Bound(contacts)) if contacts.len() == 1));
        }
    }
}

#[tokio::test]
async fn a_switch_talks_to_nobody_without_a_certificate() {
    let plan = plan(4);
    let pki = Pki::new(&plan).expect("pki");
    let site = Site::start(&plan, &pki, &Options::default()).await.expect("site");
    let switch = site.addresses().switches[0];
    for certificate in [false, true] {
        let settings =
            twin::tls::client(&[pki.hq_root().clone()], certificate.then_some(&pki.outside_stranger));
        let stream = twin::tls::tcp([127, 41, 4, 9].into(), switch).await.expect("tcp");
        let tls = twin::tls::start(stream, &switch.ip().to_string(), &settings.expect("settings")).await;
        let refused = match tls {
            Err(_) => true,
            Ok(tls) => {
                let mut exchange = twin::http::Exchange::new(tls);
                exchange.request("OPTIONS", "sips:x", "x").await.is_err()
            }
        };
        assert!(refused);
    }
}
