//! One agent and peers in literal text: forks, merged requests, old routers, strangers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::world::config;
use crate::flow::{Dial, FlowId, Peer, Side, Source, Target, Transport};
use crate::machine::{Input, Machine, Output};
use crate::message::{Limits, Message};
use crate::ua::{Answer, Command, Ending, Event, Label, UserAgent};

struct Scene {
    agent: UserAgent,
    now: Instant,
    sent: Vec<(Target, String)>,
    events: Vec<Event>,
}

fn scene(change: impl FnOnce(&mut crate::ua::Config)) -> Scene {
    let mut config = config(0);
    config.faces = vec![crate::ua::SentBy::new(Transport::Tcp, "10.0.0.1:5060")];
    change(&mut config);
    Scene {
        agent: UserAgent::new(config, [5; 32]),
        now: Instant::now(),
        sent: Vec::new(),
        events: Vec::new(),
    }
}

impl Scene {
    fn obey(&mut self) -> Option<Instant> {
        loop {
            match self.agent.poll_output(self.now) {
                Output::Transmit(t) => {
                    self.sent.push((t.target, String::from_utf8_lossy(&t.bytes).into_owned()))
                }
                Output::Event(event) => self.events.push(event),
                Output::Timeout(at) => return at,
                other => panic!("{other:?}"),
            }
        }
    }

    fn hears(&mut self, text: &str) {
        let text: String = text.trim_start().lines().map(|l| format!("{}\r\n", l.trim())).collect();
        let message = Message::parse(Bytes::from(text + "\r\n"), &Limits::default()).expect("a good message");
        let peer = Peer {
            remote: ([10, 0, 0, 2], 40_000).into(),
            local: ([10, 0, 0, 1], 5060).into(),
            transport: Transport::Tcp,
            side: Side::Inside,
            listener: None,
            identity: None,
            verified: true,
        };
        let source = Source::Flow(FlowId(1));
        self.agent.handle_input(self.now, Input::Message { source, peer: Arc::new(peer), message });
        self.obey();
    }

    fn order(&mut self, command: Command) {
        self.agent.handle_command(self.now, command);
        self.obey();
    }

    fn invite(&mut self, body: bool) -> String {
        let remote = ([10, 0, 0, 2], 5060).into();
        let dial = Dial { transport: Transport::Tcp, remote, side: Side::Inside, affinity: None };
        let mut request =
            self.agent.parts().0.draft("INVITE", "sip:bob@b.example", dial.into(), Transport::Tcp);
        if body {
            request = request.body("application/sdp", "offer");
        }
        self.order(Command::Request { label: Label(1), request: Box::new(request) });
        self.sent.pop().expect("an INVITE").1
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.obey().filter(|at| *at <= until) {
            self.now = at;
        }
        self.now = until;
    }

    fn methods(&mut self) -> Vec<String> {
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        std::mem::take(&mut self.sent).iter().map(|(_, text)| first(text)).collect()
    }
}

fn row<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines().find(|l| l.starts_with(name)).expect(name)
}

/// A response to what the agent sent, from the fork with this tag.
fn response(request: &str, status: &str, tag: &str, more: &str) -> String {
    let (via, from, call, cseq) =
        (row(request, "Via"), row(request, "From"), row(request, "Call-ID"), row(request, "CSeq"));
    let to = row(request, "To:");
    format!(
        "SIP/2.0 {status}\n{via}\n{from}\n{to};tag={tag}\n{call}\n{cseq}\n\
         Contact: <sip:{tag}@10.0.0.9;transport=tcp>\n{more}Content-Length: 0\n"
    )
}

#[test]
fn of_two_forks_that_answer_the_second_is_acknowledged_and_ended() {
    let mut scene = scene(|_| {});
    let invite = scene.invite(true);
    for tag in ["f1", "f2", "f3"] {
        scene.hears(&response(&invite, "180 Ringing", tag, ""));
    }
    scene.hears(&response(
        &invite,
        "200 OK",
        "f2",
        "Record-Route: <sip:p1.example;lr>, <sip:10.0.0.8;transport=tcp;lr>\n",
    ));
    let (target, ack) = scene.sent.remove(0);
    assert!(ack.starts_with("ACK sip:f2@10.0.0.9;transport=tcp SIP/2.0\r\n"), "{ack}");
    assert!(
        ack.contains("Route: <sip:10.0.0.8;transport=tcp;lr>\r\nRoute: <sip:p1.example;lr>\r\n"),
        "{ack}"
    );
    assert!(row(&ack, "To:").ends_with("tag=f2"));
    assert!(
        matches!(target, Target::Dial(dial) if dial.remote == ([10, 0, 0, 8], 5060).into()),
        "its first route"
    );
    scene.hears(&response(&invite, "200 OK", "f1", ""));
    assert_eq!(
        scene.methods(),
        ["ACK sip:f1@10.0.0.9;transport=tcp SIP/2.0", "BYE sip:f1@10.0.0.9;transport=tcp SIP/2.0"]
    );
    // Each retransmission gets its ACK, and nothing else.
    for tag in ["f1", "f2"] {
        scene.hears(&response(&invite, "200 OK", tag, ""));
        assert_eq!(scene.methods(), [format!("ACK sip:{tag}@10.0.0.9;transport=tcp SIP/2.0")]);
    }
    let answers: Vec<_> = scene
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Response { message, dialog, .. } => Some((message.status(), *dialog)),
            _ => None,
        })
        .collect();
    assert_eq!(answers.iter().map(|(s, _)| s.unwrap_or(0)).collect::<Vec<_>>(), [180, 180, 180, 200]);
    scene.run(Duration::from_secs(40));
    let third = answers[2].1;
    assert!(
        scene
            .events
            .iter()
            .any(|e| matches!(e, Event::Ended { dialog, why: Ending::Unanswered } if Some(*dialog) == third)),
        "an early dialog that nobody answered ends with the INVITE: {:?}",
        scene.events
    );
    assert!(answers[3].1.is_some_and(|d| scene.agent.agent().dialog(d).is_some()), "the call stands");
}

#[test]
fn all_forks_can_be_kept() {
    let mut scene = scene(|config| config.keep_all_forks = true);
    let invite = scene.invite(true);
    for tag in ["f1", "f2"] {
        scene.hears(&response(&invite, "200 OK", tag, ""));
    }
    assert_eq!(scene.methods().iter().filter(|line| line.starts_with("BYE")).count(), 0);
    let dialogs: Vec<_> = scene
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Response { dialog, .. } => *dialog,
            _ => None,
        })
        .collect();
    assert_eq!(dialogs.len(), 2);
    assert_ne!(dialogs[0], dialogs[1]);
}

#[test]
fn forks_beyond_the_bound_make_no_early_dialog() {
    let mut scene = scene(|config| config.forks = 2);
    let invite = scene.invite(true);
    for tag in 0..50 {
        scene.hears(&response(&invite, "180 Ringing", &format!("f{tag}"), ""));
    }
    let with = scene.events.iter().filter(|e| matches!(e, Event::Response { dialog: Some(_), .. })).count();
    assert_eq!(with, 2);
}

#[test]
fn a_reliable_response_is_acknowledged_once_and_in_order() {
    let mut scene = scene(|_| {});
    let invite = scene.invite(true);
    let rseq = |n: u32| format!("Require: 100rel\nRSeq: {n}\n");
    scene.hears(&response(&invite, "183 Session Progress", "f1", &rseq(10)));
    let prack = scene.sent.remove(0).1;
    assert!(prack.starts_with("PRACK sip:f1@10.0.0.9;transport=tcp SIP/2.0\r\n"));
    assert_eq!((row(&prack, "RAck"), row(&prack, "CSeq")), ("RAck: 10 1 INVITE", "CSeq: 2 PRACK"));
    scene.hears(&response(&invite, "183 Session Progress", "f1", &rseq(10)));
    scene.hears(&response(&invite, "180 Ringing", "f1", &rseq(12)));
    assert!(scene.methods().is_empty(), "neither what was acknowledged nor what came early");
    scene.hears(&response(&invite, "180 Ringing", "f1", &rseq(11)));
    assert_eq!(row(&scene.sent[0].1, "RAck"), "RAck: 11 1 INVITE");
    assert_eq!(scene.events.len(), 2);
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_in_the_prack() {
    let mut scene = scene(|_| {});
    let invite = scene.invite(false);
    let text = response(&invite, "183 Session Progress", "f1", "Require: 100rel\nRSeq: 1\n");
    let text = text.replace("Content-Length: 0", "Content-Type: application/sdp\nContent-Length: 5\n\noffer");
    let text: String =
        text.lines().map(|l| if l == "offer" { l.to_owned() } else { format!("{l}\r\n") }).collect();
    let message = Message::parse(Bytes::from(text), &Limits::default()).expect("good");
    let peer = Peer {
        remote: ([10, 0, 0, 2], 5060).into(),
        local: ([10, 0, 0, 1], 5060).into(),
        transport: Transport::Tcp,
        side: Side::Inside,
        listener: None,
        identity: None,
        verified: true,
    };
    let source = Source::Flow(FlowId(1));
    scene.agent.handle_input(scene.now, Input::Message { source, peer: Arc::new(peer), message });
    scene.obey();
    assert!(scene.sent.is_empty());
    let Event::Response { dialog: Some(dialog), .. } = scene.events[0] else { panic!() };
    let body = ("application/sdp".to_owned(), Bytes::from_static(b"answer"));
    scene.order(Command::AcknowledgeEarly { label: Label(2), dialog, body });
    let prack = &scene.sent[0].1;
    assert!(prack.starts_with("PRACK") && prack.ends_with("\r\n\r\nanswer"), "{prack}");
}

const INVITE: &str = "INVITE sip:alice@10.0.0.1 SIP/2.0
    Via: SIP/2.0/TCP 10.0.0.2;branch=z9hG4bKone
    Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>
    From: <sip:bob@b.example>;tag=bt
    To: <sip:alice@a.example>
    Call-ID: c1
    CSeq: 1 INVITE
    Max-Forwards: 70
    Contact: <sip:bob@10.0.0.2;transport=tcp>
    Content-Length: 0";

#[test]
fn a_2xx_has_all_that_makes_the_dialog() {
    let mut scene = scene(|_| {});
    scene.hears(INVITE);
    let Event::Invite { key, .. } = scene.events[0] else { panic!() };
    scene.order(Command::Answer { key, answer: Answer::new(200, "OK").body("application/sdp", "answer") });
    let (target, ok) = scene.sent.remove(0);
    assert_eq!(target, Target::Flow(FlowId(1)));
    let tag = row(&ok, "To:").split("tag=").nth(1).expect("a tag");
    assert_eq!(
        ok,
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 10.0.0.2;branch=z9hG4bKone;received=10.0.0.2\r\n\
             From: <sip:bob@b.example>;tag=bt\r\nTo: <sip:alice@a.example>;tag={tag}\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\
             Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\nContact: <sip:alice@10.0.0.1:5060;transport=tcp>\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, NOTIFY, REFER\r\nSupported: 100rel\r\n\
             Content-Type: application/sdp\r\nContent-Length: 6\r\n\r\nanswer"
        )
        .replace(";received=10.0.0.2", if ok.contains("received") { ";received=10.0.0.2" } else { "" })
    );
    scene.run(Duration::from_millis(600));
    assert_eq!(scene.methods(), ["SIP/2.0 200 OK"], "repeated over a stream too (RFC 3261 §13.3.1.4)");
}

#[test]
fn a_request_that_comes_by_two_ways_is_482() {
    let mut scene = scene(|_| {});
    scene.hears(INVITE);
    scene.hears(&INVITE.replace("z9hG4bKone", "z9hG4bKtwo"));
    assert_eq!(scene.methods(), ["SIP/2.0 482 Loop Detected"]);
    assert_eq!(scene.events.len(), 1);
}

#[test]
fn what_fits_no_dialog_is_481_and_what_is_malformed_400() {
    let mut scene = scene(|_| {});
    let in_dialog = INVITE.replace("a.example>", "a.example>;tag=none").replace("INVITE", "INFO");
    scene.hears(&in_dialog);
    scene.hears(&INVITE.replace("Contact: <sip:bob@10.0.0.2;transport=tcp>\n", "").replace("one", "two"));
    scene.hears(&INVITE.replace("<sip:p1.example;lr>,", "<tel:1>,").replace("one", "three"));
    let lines = scene.methods();
    assert!(lines[0].starts_with("SIP/2.0 481"), "{lines:?}");
    assert!(lines[1].starts_with("SIP/2.0 400"), "{lines:?}");
    assert!(lines[2].starts_with("SIP/2.0 400"), "{lines:?}");
    assert!(scene.events.is_empty());
}

#[test]
fn an_old_cseq_is_500_and_strangers_prack_nothing() {
    let mut scene = scene(|_| {});
    scene.hears(
        &INVITE.replace("CSeq: 1", "CSeq: 5").replace("Max-Forwards", "Supported: 100rel\nMax-Forwards"),
    );
    let Event::Invite { key, .. } = scene.events[0] else { panic!() };
    scene.order(Command::Answer { key, answer: Answer::new(183, "Session Progress").reliable() });
    let progress = scene.sent.remove(0).1;
    assert_eq!(row(&progress, "Require"), "Require: 100rel");
    let (to, rseq) = (row(&progress, "To:"), row(&progress, "RSeq").replace("RSeq: ", ""));
    let within = |branch: &str, cseq: u32, method: &str, more: &str| {
        format!(
            "{method} sip:alice@10.0.0.1 SIP/2.0
             Via: SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK{branch}
             From: <sip:bob@b.example>;tag=bt
             {to}
             Call-ID: c1
             CSeq: {cseq} {method}
             {more}Content-Length: 0"
        )
    };
    scene.hears(&within("a", 4, "INFO", ""));
    scene.hears(&within("b", 6, "PRACK", &format!("RAck: {rseq} 6 INVITE\n")));
    scene.hears(&within("c", 7, "PRACK", &format!("RAck: {rseq} 5 INVITE\n")));
    scene.hears(&within("d", 8, "PRACK", &format!("RAck: {rseq} 5 INVITE\n")));
    let statuses: Vec<String> = scene.methods().iter().map(|l| l[8..11].to_owned()).collect();
    assert_eq!(statuses, ["500", "481", "200", "481"]);
}

#[test]
fn dialogs_are_bounded() {
    let mut scene = scene(|config| config.dialogs = 3);
    for n in 0..5 {
        scene.hears(&INVITE.replace("z9hG4bKone", &format!("z9hG4bK{n}")).replace("c1", &format!("c{n}")));
    }
    assert_eq!(scene.events.len(), 3);
    assert_eq!(scene.methods().iter().filter(|line| line.contains("503")).count(), 2);
}

#[test]
fn a_dialog_whose_connection_is_gone_dials_its_next_hop() {
    let mut scene = scene(|_| {});
    scene.hears(&INVITE.replace("    Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\n", ""));
    let Event::Invite { key, dialog, .. } = scene.events[0] else { panic!() };
    scene.order(Command::Answer { key, answer: Answer::new(200, "OK") });
    let ok = scene.sent.remove(0).1;
    scene.hears(&format!(
        "ACK sip:alice@10.0.0.1 SIP/2.0
         Via: SIP/2.0/TCP 10.0.0.2;branch=z9hG4bKack
         From: <sip:bob@b.example>;tag=bt
         {}
         Call-ID: c1
         CSeq: 1 ACK
         Content-Length: 0",
        row(&ok, "To:")
    ));
    assert!(matches!(scene.events.last(), Some(Event::Acknowledged { .. })));
    scene.agent.handle_input(scene.now, Input::FlowClosed { flow: FlowId(1) });
    scene.order(Command::Bye { dialog });
    let (target, bye) = &scene.sent[0];
    assert!(bye.starts_with("BYE sip:bob@10.0.0.2;transport=tcp"));
    assert!(matches!(target, Target::Dial(dial) if dial.remote == ([10, 0, 0, 2], 5060).into()));
}
