//! Single requests.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::flow::{Dial, FlowId, Peer, Side, Source, Transport};
use crate::message::{Limits, Message, Name};
use crate::token::Random;
use crate::transaction::{Config, Layer, Received};
use crate::ua::{Client, Done, Outcome, Request, SentBy};

struct Prober {
    now: Instant,
    layer: Layer,
    random: Random,
    client: Client<u32>,
}

fn dial(transport: Transport) -> Dial {
    Dial { transport, remote: ([10, 0, 1, 50], 5060).into(), side: Side::Inside, affinity: None }
}

fn prober() -> Prober {
    Prober {
        now: Instant::now(),
        layer: Layer::new(Config::default()),
        random: Random::new([1; 32]),
        client: Client::new(),
    }
}

impl Prober {
    fn options(&mut self, transport: Transport) -> Request {
        let us = SentBy::new(transport, "10.0.1.2:5060").param("alias");
        Request::new("OPTIONS", "sip:10.0.1.50", &us, dial(transport).into(), &mut self.random)
    }

    fn send(&mut self, request: Request, purpose: u32) -> String {
        self.client.send(self.now, &mut self.layer, &mut self.random, request, purpose);
        let sent = self.layer.poll_transmit().expect("a request leaves");
        String::from_utf8_lossy(&sent.bytes).into_owned()
    }

    fn hear(&mut self, request: &str, status: &str) -> Option<Done<u32>> {
        let rows = request
            .lines()
            .filter(|l| ["Via", "From", "To:", "Call", "CSeq"].iter().any(|n| l.starts_with(n)));
        let rows: String = rows.map(|row| format!("{row}\r\n")).collect();
        let answer = format!("SIP/2.0 {status}\r\n{rows}Content-Length: 0\r\n\r\n");
        let answer = Message::parse(Bytes::from(answer), &Limits::default()).expect("an answer");
        let peer = Peer {
            remote: ([10, 0, 1, 50], 5060).into(),
            local: ([10, 0, 1, 2], 5060).into(),
            transport: Transport::Tcp,
            side: Side::Inside,
            listener: None,
            identity: None,
            verified: true,
        };
        match self.layer.handle_message(self.now, Source::Flow(FlowId(1)), &peer, answer) {
            Received::Response { key, message } => self.client.handle_response(key, &message),
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, time: Duration) -> Vec<(Duration, Done<u32>)> {
        let (start, mut done) = (self.now, Vec::new());
        while let Some(at) =
            [self.layer.poll_timeout(), self.client.poll_timeout()].into_iter().flatten().min()
            && at <= start + time
        {
            self.now = at;
            self.layer.handle_timeout(at);
            while let Some(event) = self.layer.poll_event() {
                done.extend(self.client.handle_event(event).map(|d| (at - start, d)));
            }
            while let Some(over) = self.client.handle_timeout(at) {
                done.push((at - start, over));
            }
        }
        done
    }
}

#[test]
fn a_request_is_whole_and_its_answer_comes_back_with_its_purpose() {
    let mut prober = prober();
    let request =
        prober.options(Transport::Tcp).header("Accept", "application/sdp").header(Name::Subject, "a\r\nb: c");
    let text = prober.send(request, 7);
    let branch = text.split("branch=").nth(1).and_then(|t| t.split(';').next()).expect("a branch");
    assert!(branch.starts_with("z9hG4bK"));
    let tag = text.split(";tag=").nth(1).and_then(|t| t.lines().next()).expect("a tag");
    let call = text.split("Call-ID: ").nth(1).and_then(|t| t.lines().next()).expect("a Call-ID");
    assert_eq!(
        text,
        format!(
            "OPTIONS sip:10.0.1.50 SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.1.2:5060;branch={branch};alias\r\n\
             Max-Forwards: 70\r\nFrom: <sip:10.0.1.2:5060;transport=tcp>;tag={tag}\r\nTo: <sip:10.0.1.50>\r\n\
             Call-ID: {call}\r\nCSeq: 1 OPTIONS\r\nAccept: application/sdp\r\nSubject: a??b: c\r\n\
             Content-Length: 0\r\n\r\n"
        )
    );
    assert!(prober.hear(&text, "100 Trying").is_none());
    let done = prober.hear(&text, "200 OK").expect("done");
    assert_eq!((done.purpose, done.outcome.status()), (7, 200));
    assert!(prober.client.is_empty());
    assert!(prober.run(Duration::from_secs(60)).is_empty(), "once and no more");
}

#[test]
fn impatience_is_told_in_time_and_the_late_answer_is_nobodys() {
    let mut prober = prober();
    let request = prober.options(Transport::Udp).patience(Duration::from_secs(2));
    let text = prober.send(request, 7);
    let done = prober.run(Duration::from_secs(2));
    assert!(matches!(&done[..], [(at, d)] if *at == Duration::from_secs(2) && d.outcome.status() == 408));
    assert!(prober.hear(&text, "200 OK").is_none());
    assert!(prober.run(Duration::from_secs(60)).is_empty());
    assert!(prober.layer.is_empty());
}

#[test]
fn without_patience_the_transaction_decides() {
    let mut prober = prober();
    let request = prober.options(Transport::Udp);
    prober.send(request, 7);
    let done = prober.run(Duration::from_secs(60));
    assert!(
        matches!(&done[..], [(at, d)] if *at == Duration::from_secs(32) && matches!(d.outcome, Outcome::TimedOut))
    );
}

#[test]
fn a_dial_that_fails_is_told_at_once() {
    let mut prober = prober();
    let request = prober.options(Transport::Tcp).patience(Duration::from_secs(2));
    prober.send(request, 7);
    prober.layer.handle_dial_failed(prober.now, &dial(Transport::Tcp));
    let event = prober.layer.poll_event().expect("an event");
    let done = prober.client.handle_event(event).expect("done");
    assert_eq!(done.outcome.status(), 503);
    assert_eq!(prober.client.poll_timeout(), None);
}

#[test]
fn a_challenge_is_answered_with_the_same_request_anew() {
    let mut prober = prober();
    let request = prober.options(Transport::Tcp).header(Name::Authorization, "Digest stale");
    let first = prober.send(request, 7);
    let done = prober.hear(&first, "401 Unauthorized").expect("done");
    let again = done.request.again(&[(Name::Authorization, b"Digest fresh".to_vec())]);
    let second = prober.send(again, 8);
    let row = |text: &str, name: &str| text.lines().find(|l| l.starts_with(name)).map(str::to_owned);
    for same in ["From", "To", "Call-ID"] {
        assert_eq!(row(&first, same), row(&second, same), "RFC 3261 §8.1.3.5");
    }
    assert_ne!(row(&first, "Via"), row(&second, "Via"));
    assert!(second.contains("CSeq: 2 OPTIONS\r\nAuthorization: Digest fresh\r\nContent"), "{second}");
}

#[test]
fn a_forgotten_request_is_nobodys() {
    let mut prober = prober();
    let request = prober.options(Transport::Udp).patience(Duration::from_secs(2));
    let key = prober.client.send(prober.now, &mut prober.layer, &mut prober.random, request, 7);
    assert!(prober.client.owns(key));
    assert_eq!(prober.client.forget(key), Some(7));
    assert!(prober.run(Duration::from_secs(60)).is_empty());
}
