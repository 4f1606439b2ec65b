//! The anchor with the relay's table beneath it, in virtual time, on literal descriptions.

mod chaos;
mod direct;
mod families;
mod flows;
mod forks;
mod ice;
mod joins;
mod leases;
mod orders;
mod restore;
mod rules;
mod secure;
mod silence;
mod state;
mod storm;

use super::*;
use crate::policy::{HopLimit, SenderLimit, Source};
use crate::relay::stream::Packet;
use crate::relay::table::{self, Action, Slot, Table};
use crate::relay::{Component, PairId};

const PHONE_A: &str = "198.51.100.7";
const PHONE_B: &str = "198.51.100.8";
const PBX: &str = "10.0.1.60";
const OUTER: &str = "203.0.113.1";
const INNER: &str = "10.0.1.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(host: &str, port: u16) -> SocketAddr {
    (ip(host), port).into()
}

/// A description of one audio stream.
fn audio(host: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP{v} {host}\r\ns=-\r\nc=IN IP{v} {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8\r\n",
        v = if host.contains(':') { 6 } else { 4 }
    )
}

fn rtp(sequence: u16) -> Vec<u8> {
    let [a, b] = sequence.to_be_bytes();
    vec![0x80, 0, a, b, 0, 0, 0, 1, 0, 0, 0, 7, 0xd5, 0xd5]
}

/// As if the relay were another process: every command and report becomes text and is read again.
fn crossed<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

struct Rig {
    anchor: Anchor,
    table: Table,
    now: Instant,
    bound: HashMap<Slot, (SocketAddr, SocketAddr)>,
    commands: Vec<Command>,
    reports: Vec<Report>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let outside = Addresses::default()
            .with(crate::policy::Address { local: ip("192.0.2.1"), advertised: ip(OUTER) })
            .with(ip("2001:db8::1"));
        let mut config = Config::new(outside, Addresses::from(ip(INNER)));
        change(&mut config);
        let now = Instant::now();
        let table = table::Config::new(config.outside, config.inside, [5; 32]);
        let mut rig = Self {
            table: Table::new(now, table),
            anchor: Anchor::new(now, config),
            now,
            bound: HashMap::new(),
            commands: Vec::new(),
            reports: Vec::new(),
        };
        assert!(!rig.anchor.is_ready());
        rig.settle();
        assert!(rig.anchor.is_ready());
        rig
    }

    /// Carries commands and reports until both sides are quiet.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(command) = self.anchor.poll_command() {
                self.commands.push(command.clone());
                self.table.handle_command(self.now, crossed(&command));
                quiet = false;
            }
            while let Some(action) = self.table.poll_action(self.now) {
                quiet = false;
                match action {
                    Action::Bind { rtp, rtcp } => {
                        self.bound.insert(self.table.handle_bound().unwrap(), (rtp, rtcp));
                    }
                    Action::Close(slot) => drop(self.bound.remove(&slot)),
                    Action::Rest(_) | Action::Return { .. } | Action::Give { .. } => {
                        panic!("one table alone: {action:?}")
                    }
                    Action::Report(report) => {
                        self.reports.push(report.clone());
                        self.anchor.handle_report(self.now, crossed(&report));
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn try_offer(&mut self, session: u64, from: Side, host: &str, sdp: &str) -> Result<String, Refusal> {
        let to = if from == Side::Outside { PBX } else { PHONE_B };
        let result = self.anchor.offer(self.now, session, from, ip(host), ip(to), sdp.as_bytes());
        self.settle();
        result.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn offer(&mut self, session: u64, from: Side, host: &str, sdp: &str) -> String {
        self.try_offer(session, from, host, sdp).unwrap()
    }

    fn try_answer(&mut self, session: u64, from: Side, host: &str, sdp: &str) -> Result<String, Refusal> {
        let result = self.anchor.answer(self.now, session, from, ip(host), ip(PHONE_A), sdp.as_bytes());
        self.settle();
        result.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn answer(&mut self, session: u64, from: Side, host: &str, sdp: &str) -> String {
        self.try_answer(session, from, host, sdp).unwrap()
    }

    /// Sends to one of our ports by its advertised address.
    fn packet(
        &mut self,
        to: SocketAddr,
        from: SocketAddr,
        hop: u8,
        bytes: &[u8],
    ) -> Option<(SocketAddr, SocketAddr, u8)> {
        let local = if to.ip() == ip(OUTER) { (ip("192.0.2.1"), to.port()).into() } else { to };
        let (slot, component) = self.bound.iter().find_map(|(slot, (rtp, rtcp))| {
            let component =
                [(Component::Rtp, rtp), (Component::Rtcp, rtcp)].into_iter().find(|(_, a)| **a == local);
            component.map(|(component, _)| (*slot, component))
        })?;
        let packet = Packet { component, source: from, hop_limit: Some(hop), bytes };
        let forward = self.table.handle_packet(self.now, slot, &packet)?;
        let (rtp, _) = self.bound[&forward.slot];
        Some((rtp, forward.to, forward.passed.hop_limit))
    }

    /// A call from phone A to the PBX, who answers from `remote`: our outside port for A, our inside port for the PBX.
    fn call(&mut self, session: u64) -> (SocketAddr, SocketAddr) {
        let offer = self.offer(session, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
        let answer = self.answer(session, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        (at(OUTER, ports(&answer)[0]), at(INNER, ports(&offer)[0]))
    }
}

/// The ports of the media lines.
fn ports(sdp: &str) -> Vec<u16> {
    let line = |line: &str| line.strip_prefix("m=")?.split(' ').nth(1)?.parse().ok();
    sdp.lines().filter_map(line).collect()
}

#[test]
fn a_call_from_outside() {
    let mut rig = Rig::new(|_| {});
    let before = "v=0\r\no=- 7 7 IN IP4 192.168.1.7\r\ns=call\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\n\
        m=audio 30000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
    let offer = rig.offer(1, Side::Outside, PHONE_A, before);
    let inner = ports(&offer)[0];
    assert!((16384..32768).contains(&inner) && inner.is_multiple_of(2));
    let want = before.replace("192.168.1.7", INNER).replace("30000", &inner.to_string());
    assert_eq!(offer, want);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = ports(&answer)[0];
    assert_eq!(answer, audio(OUTER, outer), "the advertised address, not the bound one");

    let (outer, inner) = (at(OUTER, outer), at(INNER, inner));
    // The description names a private address: nothing goes there, it would be somebody on our LAN.
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(1)), None);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)), Some((inner, at("10.0.1.60", 5000), 54)));
    let back = rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(2)).unwrap();
    assert_eq!((back.1, back.2), (at(PHONE_A, 61000), 63));
    assert_eq!(rig.packet(outer, at(PHONE_B, 61000), 55, &rtp(3)), None, "not from another's address");
    assert_eq!(rig.packet(inner, at("10.0.1.77", 5000), 55, &rtp(3)), None, "nor inside");

    rig.anchor.end(rig.now, 1);
    rig.settle();
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(4)), None);
    assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (0, 0));
    rig.anchor.end(rig.now, 1);
}

#[test]
fn a_phone_without_nat_gets_media_before_it_sends() {
    let mut rig = Rig::new(|_| {});
    rig.offer(1, Side::Outside, PHONE_A, &audio(PHONE_A, 30000));
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_ne!(ports(&answer), [0]);
    let inner = rig.bound.values().find(|(rtp, _)| rig.anchor.own.contains_key(rtp)).unwrap().0;
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(1)).unwrap().1, at(PHONE_A, 30000));
}

#[test]
fn nothing_passes_before_the_answer_unless_allowed() {
    for early in [false, true] {
        let mut rig = Rig::new(|config| config.policy.early_rtp = early);
        let offer = rig.offer(1, Side::Outside, PHONE_A, &audio(PHONE_A, 30000));
        let inner = at(INNER, ports(&offer)[0]);
        assert_eq!(rig.packet(inner, at(PBX, 5000), 64, &rtp(1)).is_some(), early);
        if early {
            let passed =
                (2..1_000).filter(|n| rig.packet(inner, at(PBX, 5000), 64, &rtp(*n)).is_some()).count();
            assert_eq!(passed, 199, "200 a second before the answer");
        }
    }
}

#[test]
fn two_audio_lines_on_one_port_share_a_relay() {
    let both = |host: &str, first: u16, second: u16| {
        format!(
            "{}m=audio {second} RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n",
            audio(host, first)
        )
    };
    // Which line the answer takes, and how many pairs are in use then.
    for (first, second, streams) in [(5000, 0, 1), (0, 5000, 1), (5000, 5000, 1), (5000, 5002, 2)] {
        let mut rig = Rig::new(|_| {});
        let offer = rig.offer(1, Side::Outside, PHONE_A, &both("192.168.1.7", 30000, 30000));
        let [a, b] = ports(&offer)[..] else { panic!("two lines") };
        assert_eq!(a, b);
        assert!(offer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"));
        let answer = rig.answer(1, Side::Inside, PBX, &both("10.0.1.60", first, second));
        let [c, d] = ports(&answer)[..] else { panic!("two lines") };
        assert_eq!((c == 0, d == 0), (first == 0, second == 0));
        assert_eq!(c != 0 && d != 0 && c != d, streams == 2);
        let remote = at("10.0.1.60", if first == 0 { second } else { first });
        let outer = at(OUTER, c.max(d).min(if c == 0 { d } else { c }));
        assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().1, remote);
        assert_eq!(rig.anchor.sessions[&1].streams.len(), streams);
        // A re-offer keeps the ports.
        assert_eq!(ports(&rig.offer(1, Side::Outside, PHONE_A, &both("192.168.1.7", 30000, 0)))[0], a);
    }
}

#[test]
fn a_further_offer_keeps_ports_and_changes_nothing_until_answered() {
    let mut rig = Rig::new(|_| {});
    let (outer, inner) = rig.call(1);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    // The PBX moves its end; the offer alone does not.
    let offer = rig.offer(1, Side::Inside, PBX, &audio("10.0.1.61", 7000));
    assert_eq!(ports(&offer), [outer.port()]);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(2)).unwrap().1, at("10.0.1.60", 5000));
    rig.anchor.rollback(rig.now, 1, Side::Inside);
    rig.settle();
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(3)).unwrap().1, at("10.0.1.60", 5000));
    rig.offer(1, Side::Inside, PBX, &audio("10.0.1.61", 7000));
    let answer = rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(ports(&answer), [inner.port()]);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(4)).unwrap().1, at("10.0.1.61", 7000));
    assert_eq!(rig.packet(inner, at("10.0.1.61", 7000), 64, &rtp(1)).unwrap().1, at(PHONE_A, 61000));
}

#[test]
fn answers_may_repeat_and_differ() {
    let mut rig = Rig::new(|_| {});
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let early = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.61", 7000));
    let last = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(early, last);
    let outer = at(OUTER, ports(&last)[0]);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap().1, at("10.0.1.60", 5000));
    // A 183 without the stream, and the 200 with it.
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 0));
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(2)), None);
    assert_eq!(rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000)), last);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(3)).unwrap().1, at("10.0.1.60", 5000));
}

#[test]
fn a_new_stream_that_is_refused_leaves_no_port_behind() {
    let mut rig = Rig::new(|_| {});
    let (outer, _) = rig.call(1);
    let used = rig.anchor.own.len();
    let video = format!("{}m=video 30002 RTP/AVP 96\r\n", audio("192.168.1.7", 30000));
    let offer = rig.offer(1, Side::Outside, PHONE_A, &video);
    assert_eq!(rig.anchor.own.len(), used + 1);
    // The same offer again (credentials were asked for) keeps what it has.
    assert_eq!(rig.offer(1, Side::Outside, PHONE_A, &video), offer);
    rig.anchor.rollback(rig.now, 1, Side::Outside);
    rig.settle();
    assert_eq!(rig.anchor.own.len(), used);
    assert!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).is_some());
    // The first offer of a session, refused.
    rig.offer(2, Side::Outside, PHONE_A, &video);
    rig.anchor.rollback(rig.now, 2, Side::Outside);
    rig.settle();
    assert_eq!((rig.anchor.sessions(), rig.anchor.own.len()), (1, used));
}

#[test]
fn a_stream_that_leaves_the_description_closes() {
    let mut rig = Rig::new(|_| {});
    let video = format!("{}m=video 30002 RTP/AVP 96\r\n", audio("192.168.1.7", 30000));
    rig.offer(1, Side::Outside, PHONE_A, &video);
    rig.answer(1, Side::Inside, PBX, &format!("{}m=video 5002 RTP/AVP 96\r\n", audio("10.0.1.60", 5000)));
    assert_eq!(rig.anchor.own.len(), 2);
    rig.offer(1, Side::Outside, PHONE_A, &video.replace("m=video 30002", "m=video 0"));
    rig.answer(1, Side::Inside, PBX, &format!("{}m=video 0 RTP/AVP 96\r\n", audio("10.0.1.60", 5000)));
    assert_eq!(rig.anchor.own.len(), 1);
    assert!(matches!(rig.commands.last(), Some(Command::Close { stream }) if stream.index == 1));
}

#[test]
fn at_most_six_streams() {
    let mut rig = Rig::new(|_| {});
    let many: String = (0..8).map(|n| format!("m=audio {} RTP/AVP 0\r\n", 30002 + 2 * n)).collect();
    let offer = rig.offer(1, Side::Outside, PHONE_A, &format!("{}{many}", audio("192.168.1.7", 30000)));
    let relayed = ports(&offer).iter().take_while(|port| **port != 0).count();
    assert_eq!((ports(&offer).len(), relayed, ports(&offer)[6..].to_vec()), (9, 6, vec![0, 0, 0]));
    // What was not offered can't be answered.
    let answer: String = (1..10).map(|n| format!("m=audio {} RTP/AVP 0\r\n", 5000 + 2 * n)).collect();
    let answer = rig.answer(1, Side::Inside, PBX, &format!("{}{answer}", audio("10.0.1.60", 5000)));
    assert_eq!(ports(&answer)[6..], [0, 0, 0, 0]);
    assert!(ports(&answer)[..6].iter().all(|port| *port != 0));
}

#[test]
fn what_is_not_carried_is_declined() {
    let mut rig = Rig::new(|_| {});
    for line in [
        "m=image 4000 tcptl t38",
        "m=message 2855 TCP/MSRP *",
        "m=audio 4000/2 RTP/AVP 0",
        "m=audio 0 RTP/AVP 0",
    ] {
        let offer =
            rig.offer(1, Side::Outside, PHONE_A, &format!("{}{line}\r\n", audio("192.168.1.7", 30000)));
        assert_eq!(ports(&offer)[1], 0, "{line}");
    }
}

#[test]
fn refusals_change_nothing() {
    let mut rig = Rig::new(|_| {});
    let (outer, _) = rig.call(1);
    let ok = audio("192.168.1.7", 30000);
    let cases = [
        (ok.replace("c=IN IP4 192.168.1.7", "c=IN IP4 media.example.net"), NotAcceptable::Name),
        (ok.replace("30000", "80"), NotAcceptable::Port(80)),
        (format!("{ok}a=rtcp:53\r\n"), NotAcceptable::Port(53)),
        (ok.replace("c=IN IP4 192.168.1.7", "c=IN IP4 224.1.1.1"), NotAcceptable::Address(ip("224.1.1.1"))),
    ];
    for session in [1, 2] {
        for (sdp, why) in &cases {
            let refused = rig.try_offer(session, Side::Outside, PHONE_A, sdp);
            assert_eq!(refused, Err(Refusal::NotAcceptable(*why)), "{sdp}");
        }
        let malformed = rig.try_offer(session, Side::Outside, PHONE_A, "v=0\r\nhello\r\n");
        assert!(matches!(malformed, Err(Refusal::Malformed(_))));
    }
    assert_eq!(rig.anchor.sessions(), 1);
    let inside = rig.try_offer(1, Side::Inside, PBX, &audio("127.0.0.1", 5060));
    assert_eq!(inside, Err(Refusal::NotAcceptable(NotAcceptable::Address(ip("127.0.0.1")))));
    let v6 = rig.try_offer(3, Side::Inside, PBX, &audio("2001:db8:1::1", 5060));
    assert_eq!(v6, Err(Refusal::NotAcceptable(NotAcceptable::Family(Side::Inside, Family::V6))));
    assert_eq!(
        rig.try_answer(9, Side::Inside, PBX, &ok),
        Err(Refusal::NotAcceptable(NotAcceptable::NoOffer))
    );
    assert_eq!(
        rig.try_answer(1, Side::Outside, PHONE_A, &ok),
        Err(Refusal::NotAcceptable(NotAcceptable::NoOffer))
    );
    assert!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).is_some());
}

#[test]
fn a_phone_may_not_aim_the_relay_at_others() {
    // Loopback, our LAN, a third party, our own port: nothing is sent before the phone has spoken itself.
    for host in ["127.0.0.1", "10.0.1.60", "203.0.113.66", OUTER] {
        let mut rig = Rig::new(|_| {});
        let offer = rig.offer(1, Side::Outside, PHONE_A, &format!("{}a=rtcp:5060\r\n", audio(host, 5060)));
        rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        let inner = at(INNER, ports(&offer)[0]);
        assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(1)), None, "{host}");
    }
}

#[test]
fn hold_by_zero_keeps_the_relay_and_sends_nothing() {
    let mut rig = Rig::new(|_| {});
    let (outer, inner) = rig.call(1);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
    let hold = audio("192.168.1.7", 30000).replace("c=IN IP4 192.168.1.7", "c=IN IP4 0.0.0.0");
    let offer = rig.offer(1, Side::Outside, PHONE_A, &hold);
    assert_eq!(offer, format!("{}a=sendonly\r\n", audio(INNER, inner.port())));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(2)), None);
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(3)).unwrap();
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(4)).unwrap().1, at(PHONE_A, 61000));
    // The PBX holds with music from an address that could send before.
    let hold = audio("10.0.1.60", 5000).replace("c=IN IP4 10.0.1.60", "c=IN IP4 0.0.0.0");
    rig.offer(1, Side::Inside, "10.0.1.99", &hold);
    rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(5)), None);
    assert!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(6)).is_some());
}

#[test]
fn the_sides_may_differ_in_family() {
    let mut rig = Rig::new(|_| {});
    let phone = "2001:db8:7::7";
    let offer = rig.offer(1, Side::Outside, phone, &audio(phone, 30000));
    assert_eq!(offer, audio(INNER, ports(&offer)[0]));
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(answer, audio("2001:db8::1", ports(&answer)[0]));
    let (outer, inner) = (at("2001:db8::1", ports(&answer)[0]), at(INNER, ports(&offer)[0]));
    assert_eq!(rig.packet(outer, at(phone, 30000), 64, &rtp(1)), Some((inner, at("10.0.1.60", 5000), 63)));
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 70, &rtp(1)), Some((outer, at(phone, 30000), 69)));
    // The other way: the PBX calls the phone, whose signalling says the family.
    let sdp = audio("10.0.1.60", 5000);
    let offer = rig.anchor.offer(rig.now, 2, Side::Inside, ip(PBX), ip(phone), sdp.as_bytes()).unwrap();
    rig.settle();
    let offer = String::from_utf8(offer.to_vec()).unwrap();
    assert_eq!(offer, audio("2001:db8::1", ports(&offer)[0]));
    let other = rig.try_answer(2, Side::Outside, phone, &audio(PHONE_A, 30000));
    assert_eq!(other, Err(Refusal::NotAcceptable(NotAcceptable::Family(Side::Outside, Family::V4))));
    let answer = rig.answer(2, Side::Outside, phone, &audio(phone, 30000));
    assert_eq!(answer, audio(INNER, ports(&answer)[0]));
}

#[test]
fn the_source_rule_is_waived_when_families_differ() {
    // Signalling over IPv6, media over IPv4: its address can't be known.
    let mut rig = Rig::new(|_| {});
    let phone = "2001:db8:7::7";
    rig.offer(1, Side::Outside, phone, &audio("192.168.1.7", 30000));
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&answer)[0]);
    assert!(rig.packet(outer, at("198.51.100.99", 61000), 55, &rtp(1)).is_some());
}

#[test]
fn any_source_prefers_the_phone_when_it_speaks() {
    let mut rig = Rig::new(|config| config.policy.source = Source::Any);
    let (outer, inner) = rig.call(1);
    let stranger = at("203.0.113.66", 666);
    rig.packet(outer, stranger, 55, &rtp(1)).unwrap();
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(1)).unwrap().1, stranger);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(9)).unwrap();
    for n in 2..9 {
        rig.packet(outer, stranger, 55, &rtp(n)).unwrap();
        assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(n)).unwrap().1, at(PHONE_A, 61000));
    }
}

#[test]
fn a_description_aims_at_the_phone_or_at_nobody() {
    // Any source, and signalling over IPv6 beside media over IPv4: neither lets a description name a third party.
    for (source, signalling) in [(Source::Any, PHONE_A), (Source::SignallingAddress, "2001:db8::7")] {
        let mut rig = Rig::new(|config| config.policy.source = source);
        for (session, named) in (1..).zip(["192.168.1.7", "10.0.1.99", "203.0.113.66"]) {
            let to_inside = rig.offer(session, Side::Outside, signalling, &audio(named, 30000));
            rig.answer(session, Side::Inside, PBX, &audio("10.0.1.60", 5000));
            let sent = rig.packet(at(INNER, ports(&to_inside)[0]), at("10.0.1.60", 5000), 64, &rtp(1));
            assert_eq!(sent, None, "{source:?} {named}");
        }
        let to_inside = rig.offer(9, Side::Outside, PHONE_A, &audio(PHONE_A, 30000));
        rig.answer(9, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        let sent = rig.packet(at(INNER, ports(&to_inside)[0]), at("10.0.1.60", 5000), 64, &rtp(1)).unwrap();
        assert_eq!(sent.1, at(PHONE_A, 30000), "who names itself gets it at once");
    }
}

#[test]
fn policy_reaches_the_relay() {
    let mut rig = Rig::new(|config| {
        config.policy.sender_limit = SenderLimit::Lock;
        config.policy.hop_limit = HopLimit::Fixed(std::num::NonZeroU8::new(77).unwrap());
    });
    let (outer, _) = rig.call(1);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 1, &rtp(1)).unwrap().2, 77);
    assert_eq!(rig.packet(outer, at(PHONE_A, 61002), 9, &rtp(2)), None);
    // A reload reaches the next offer and answer, not what runs.
    rig.anchor.reconfigure(Policy::default());
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 9, &rtp(3)).unwrap().2, 77);
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 9, &rtp(4)).unwrap().2, 8);
}

#[test]
fn dtls_passes_where_it_makes_the_keys() {
    for (transport, passes) in [("UDP/TLS/RTP/SAVP", true), ("RTP/SAVP", false), ("RTP/AVP", false)] {
        let mut rig = Rig::new(|_| {});
        let sdp = |host: &str, port| audio(host, port).replace("RTP/AVP", transport);
        rig.offer(1, Side::Outside, PHONE_A, &sdp("192.168.1.7", 30000));
        let answer = rig.answer(1, Side::Inside, PBX, &sdp("10.0.1.60", 5000));
        let outer = at(OUTER, ports(&answer)[0]);
        assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &[22; 60]).is_some(), passes, "{transport}");
    }
}
