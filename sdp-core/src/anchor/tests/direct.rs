//! Two phones behind one NAT: the direct route (MED-03), and when it is the relay's (MED-11, MED-18).

mod moving;
mod properties;

use super::*;
use crate::policy::{MediaProxy, MediaRoute};

/// The address that a home's signalling comes from.
const NAT: &str = "198.51.100.7";

fn direct_rig() -> Rig {
    Rig::new(|config| config.policy.media_route = MediaRoute::DirectBehindSameNat)
}

/// Our description as a phone reads it that was told another phone's address: `o=` is ours.
fn told(host: &str, port: u16) -> String {
    audio(host, port).replacen(&format!("IN IP4 {host}"), &format!("IN IP4 {OUTER}"), 1)
}

/// A phone of a test: where its signalling comes from, what it calls itself, where it wants media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Phone {
    nat: &'static str,
    host: &'static str,
    media: &'static str,
    port: u16,
}

const A: Phone = Phone { nat: NAT, host: "192.168.1.7", media: "192.168.1.7", port: 30000 };
const B: Phone = Phone { nat: NAT, host: "192.168.1.8", media: "192.168.1.8", port: 40000 };
const C: Phone = Phone { nat: PHONE_B, host: "192.168.1.9", media: "192.168.1.9", port: 50000 };

impl Phone {
    fn sdp(&self) -> String {
        audio(self.media, self.port)
    }
}

impl Rig {
    fn said(&mut self, result: Result<Bytes, Refusal>) -> String {
        self.settle();
        String::from_utf8(result.unwrap().to_vec()).unwrap()
    }

    fn phone_offers(&mut self, session: u64, phone: Phone, sdp: &str) -> String {
        self.anchor.introduce(session, Some(ip(phone.host)));
        let result =
            self.anchor.offer(self.now, session, Side::Outside, ip(phone.nat), ip(PBX), sdp.as_bytes());
        self.said(result)
    }

    fn phone_answers(&mut self, session: u64, phone: Phone, sdp: &str) -> String {
        self.anchor.introduce(session, Some(ip(phone.host)));
        let result =
            self.anchor.answer(self.now, session, Side::Outside, ip(phone.nat), ip(PBX), sdp.as_bytes());
        self.said(result)
    }

    fn pbx_offers(&mut self, session: u64, phone: Phone, sdp: &str) -> String {
        self.anchor.introduce(session, Some(ip(phone.host)));
        let result =
            self.anchor.offer(self.now, session, Side::Inside, ip(PBX), ip(phone.nat), sdp.as_bytes());
        self.said(result)
    }

    fn pbx_answers(&mut self, session: u64, sdp: &str) -> String {
        let result = self.anchor.answer(self.now, session, Side::Inside, ip(PBX), ip(NAT), sdp.as_bytes());
        self.said(result)
    }

    /// One calls two through a PBX that carries the descriptions: what two and one are told.
    fn through(&mut self, one: (u64, Phone), two: (u64, Phone)) -> [String; 2] {
        let to_pbx = self.phone_offers(one.0, one.1, &one.1.sdp());
        let to_two = self.pbx_offers(two.0, two.1, &to_pbx);
        let from_two = self.phone_answers(two.0, two.1, &two.1.sdp());
        [to_two, self.pbx_answers(one.0, &from_two)]
    }

    fn is_direct(&self, session: u64) -> bool {
        let streams = &self.anchor.sessions[&session].streams;
        let direct = streams.iter().filter(|stream| stream.setup.direct).count();
        assert!(direct == 0 || direct == streams.len());
        direct > 0
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.anchor.poll_event()).collect()
    }
}

/// That a description names our relay.
fn relayed(sdp: &str) -> bool {
    *sdp == audio(OUTER, ports(sdp)[0])
}

#[test]
fn two_phones_behind_one_nat_are_told_each_other() {
    let mut rig = direct_rig();
    let [to_b, to_a] = rig.through((1, A), (2, B));
    assert_eq!((to_b, to_a), (told("192.168.1.7", 30000), told("192.168.1.8", 40000)));
    assert!(rig.is_direct(1) && rig.is_direct(2));
    let id = |session| StreamId { session, index: 0 };
    let route = |stream, direct| Event::Route { stream: id(stream), direct };
    let mut events = rig.events();
    events.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(events, [route(1, Some(id(2))), route(2, Some(id(1)))]);
    // The relay knows, keeps the ports, and carries what comes nonetheless: they are joined.
    let outer = |session: u64| at(OUTER, rig.anchor.sessions[&session].streams[0].outside.rtp.port());
    let (a_out, b_out) = (outer(1), outer(2));
    assert_eq!(rig.packet(a_out, at(NAT, 61000), 55, &rtp(1)), None, "the other has sent nothing");
    assert_eq!(rig.packet(b_out, at(NAT, 62000), 55, &rtp(1)).unwrap().1, at(NAT, 61000));
    // When one is gone, the other is not direct any more.
    rig.anchor.end(rig.now, 1);
    rig.settle();
    assert!(!rig.is_direct(2));
    assert_eq!(rig.events(), [route(2, None)]);
}

#[test]
fn rtcp_is_where_the_phone_said() {
    let mut rig = direct_rig();
    let with_rtcp = |phone: Phone, port: u16| format!("{}a=rtcp:{port}\r\n", phone.sdp());
    let to_pbx = rig.phone_offers(1, A, &with_rtcp(A, 30009));
    let to_b = rig.pbx_offers(2, B, &to_pbx);
    assert_eq!(to_b, format!("{}a=rtcp:30009\r\n", told("192.168.1.7", 30000)));
    let from_b = rig.phone_answers(2, B, &format!("{}a=rtcp:40005 IN IP4 192.168.1.8\r\n", B.sdp()));
    let to_a = rig.pbx_answers(1, &from_b);
    assert_eq!(to_a, format!("{}a=rtcp:40005 IN IP4 192.168.1.8\r\n", told("192.168.1.8", 40000)));
    // A phone that says nothing of RTCP has it on the next port, though the relay had to name its own.
    let mut rig = direct_rig();
    let [to_b, _] = rig.through((1, A), (2, B));
    assert!(!to_b.contains("a=rtcp"), "{to_b}");
}

#[test]
fn whoever_may_not_be_at_home_is_relayed() {
    let cases: [(&str, Phone, Phone); 11] = [
        ("another NAT", A, C),
        ("two private networks", A, Phone { host: "192.168.2.8", media: "192.168.2.8", ..B }),
        ("one private address", A, Phone { port: 40000, ..A }),
        ("one Contact", A, Phone { host: A.host, ..B }),
        ("the caller's Contact elsewhere", Phone { host: "10.0.0.7", ..A }, B),
        ("the callee's Contact elsewhere", A, Phone { host: "10.0.0.8", ..B }),
        ("the caller's media elsewhere", Phone { media: "10.7.0.7", ..A }, B),
        ("a public address", Phone { host: NAT, media: NAT, ..A }, B),
        (
            "shared addresses of a carrier",
            Phone { host: "100.64.1.7", media: "100.64.1.7", ..A },
            Phone { host: "100.64.1.8", media: "100.64.1.8", ..B },
        ),
        ("without a NAT", Phone { nat: "192.168.1.7", ..A }, Phone { nat: "192.168.1.7", ..B }),
        ("our own address", Phone { host: INNER, media: INNER, ..A }, Phone { host: "10.0.1.8", ..B }),
    ];
    for (why, one, two) in cases {
        let mut rig = direct_rig();
        let [to_two, to_one] = rig.through((1, one), (2, two));
        assert!(relayed(&to_two) && relayed(&to_one), "{why}: {to_two} {to_one}");
        assert!(!rig.is_direct(1) && rig.events().is_empty(), "{why}");
        // Joined all the same: one hop (MED-18).
        assert!(rig.commands.iter().any(|command| matches!(command, Command::Join { .. })), "{why}");
    }
    // A phone that does not say what it calls itself.
    let mut rig = direct_rig();
    let to_pbx = rig.offer(1, Side::Outside, NAT, &A.sdp());
    assert!(relayed(&rig.pbx_offers(2, B, &to_pbx)));
}

#[test]
fn settings_keep_media_at_the_relay() {
    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    type Change = fn(&mut Policy);
    let policies: [(&str, Change, bool); 5] = [
        ("route", |policy| policy.media_route = MediaRoute::Gateway, false),
        ("MED-11", |policy| policy.always_relay = true, false),
        ("MED-12, always", |policy| policy.proxy = MediaProxy::Always, false),
        ("MED-12, use", |policy| policy.proxy = MediaProxy::Use, true),
        ("neither", |_| (), true),
    ];
    for (why, change, direct) in policies {
        let mut rig = Rig::new(|config| {
            config.policy.media_route = MediaRoute::DirectBehindSameNat;
            change(&mut config.policy);
        });
        rig.through((1, A), (2, B));
        assert_eq!(rig.is_direct(1), direct, "{why}");
    }
    for (denied, direct) in [
        ("198.51.100.0/24", false),
        ("198.51.100.7/32", false),
        ("192.168.1.8/32", false),
        ("192.168.0.0/16", false),
        ("198.51.100.8/32", true),
        ("::/0", true),
    ] {
        let mut rig = Rig::new(|config| {
            config.policy.media_route = MediaRoute::DirectBehindSameNat;
            config.policy.direct_nets_deny = vec![net(denied)];
        });
        rig.through((1, A), (2, B));
        assert_eq!(rig.is_direct(1), direct, "{denied}");
    }
}

#[test]
fn two_networks_of_ipv6_behind_one_address_are_told_each_other() {
    // NAT66 (RFC 6296 §1 tells why not, and yet): one address outside, ULA inside.
    let nat = "2001:db8:7::7";
    let phone = |host, port| Phone { nat, host, media: host, port };
    let mut rig = direct_rig();
    let [to_b, to_a] = rig.through((1, phone("fd00:7::7", 30000)), (2, phone("fd00:7::8", 40000)));
    assert!(
        to_b.contains("c=IN IP6 fd00:7::7\r\n") && to_a.contains("c=IN IP6 fd00:7::8\r\n"),
        "{to_b}{to_a}"
    );
    let mut rig = direct_rig();
    rig.through((1, phone("fd00:7::7", 30000)), (2, phone("fd00:7:0:1::8", 40000)));
    assert!(!rig.is_direct(1), "another /64");
}

#[test]
fn a_pbx_that_anchors_media_is_let() {
    let mut rig = direct_rig();
    rig.phone_offers(1, A, &A.sdp());
    // It rings B with its own address and answers A with it.
    assert!(relayed(&rig.pbx_offers(2, B, &audio("10.0.1.60", 5000))));
    rig.phone_answers(2, B, &B.sdp());
    assert!(relayed(&rig.pbx_answers(1, &audio("10.0.1.60", 5002))));
    assert!(!rig.is_direct(1) && !rig.is_direct(2));
    // Later it steps aside, one after the other.
    let inner =
        |rig: &Rig, session: u64| at(INNER, rig.anchor.sessions[&session].streams[0].inside.rtp.port());
    let (a_in, b_in) = (inner(&rig, 1), inner(&rig, 2));
    assert_eq!(rig.pbx_offers(1, A, &audio(INNER, b_in.port())), told("192.168.1.8", 40000));
    rig.phone_answers(1, A, &A.sdp());
    assert!(!rig.is_direct(1), "one of two");
    assert_eq!(rig.pbx_offers(2, B, &audio(INNER, a_in.port())), told("192.168.1.7", 30000));
    rig.phone_answers(2, B, &B.sdp());
    assert!(rig.is_direct(1) && rig.is_direct(2));
    // And comes back, for music: A by the relay, at once.
    assert!(relayed(&rig.pbx_offers(1, A, &audio("10.0.1.70", 9000))));
    rig.phone_answers(1, A, &A.sdp());
    assert!(!rig.is_direct(1) && !rig.is_direct(2));
    let a_out = at(OUTER, rig.anchor.sessions[&1].streams[0].outside.rtp.port());
    assert_eq!(rig.packet(a_out, at(NAT, 61000), 55, &rtp(1)).unwrap().1, at("10.0.1.70", 9000));
}

#[test]
fn an_offer_in_the_answer_is_direct_too() {
    // The PBX asks B for an offer, gives it to A, and has A's answer in the ACK to B (RFC 3725 §4.1).
    let mut rig = direct_rig();
    let from_b = rig.phone_offers(2, B, &B.sdp());
    assert_eq!(rig.pbx_offers(1, A, &from_b), told("192.168.1.8", 40000));
    let from_a = rig.phone_answers(1, A, &A.sdp());
    assert_eq!(rig.pbx_answers(2, &from_a), told("192.168.1.7", 30000));
    assert!(rig.is_direct(1) && rig.is_direct(2));
}

#[test]
fn hold_keeps_the_route() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    let (hold, zero) =
        (format!("{}a=sendonly\r\n", A.sdp()), A.sdp().replace("c=IN IP4 192.168.1.7", "c=IN IP4 0.0.0.0"));
    for offer in [hold, zero, A.sdp()] {
        let to_pbx = rig.phone_offers(1, A, &offer);
        let to_b = rig.pbx_offers(2, B, &to_pbx);
        // 0.0.0.0 says the same (SDP-06).
        assert_eq!(to_b.contains("a=sendonly"), offer != A.sdp());
        assert!(to_b.contains("c=IN IP4 192.168.1.7\r\n") && ports(&to_b) == [30000], "{to_b}");
        let from_b = rig.phone_answers(2, B, &B.sdp());
        assert_eq!(rig.pbx_answers(1, &from_b), told("192.168.1.8", 40000));
        assert!(rig.is_direct(1) && rig.is_direct(2));
    }
    // A phone that takes another port says so to the other.
    let other = Phone { port: 30002, ..A };
    let to_pbx = rig.phone_offers(1, other, &other.sdp());
    assert_eq!(rig.pbx_offers(2, B, &to_pbx), told("192.168.1.7", 30002));
}

#[test]
fn a_transfer_to_a_third_phone_dissolves_the_pair() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    // C is somewhere else. The PBX brings A and C together, and B goes.
    let c_in = at(INNER, ports(&rig.phone_offers(3, C, &C.sdp()))[0]);
    let to_a = rig.pbx_offers(1, A, &audio(INNER, c_in.port()));
    assert!(relayed(&to_a), "{to_a}");
    let from_a = rig.phone_answers(1, A, &A.sdp());
    let to_c = rig.pbx_answers(3, &from_a);
    assert!(relayed(&to_c));
    rig.anchor.end(rig.now, 2);
    rig.settle();
    assert!(!rig.is_direct(1) && !rig.is_direct(3));
    let (a_out, c_out) = (at(OUTER, ports(&to_a)[0]), at(OUTER, ports(&to_c)[0]));
    rig.packet(c_out, at(PHONE_B, 63000), 55, &rtp(1));
    assert_eq!(rig.packet(a_out, at(NAT, 61000), 55, &rtp(1)).unwrap().1, at(PHONE_B, 63000));
}

#[test]
fn a_fork_of_two_is_settled_by_who_answers() {
    let mut rig = direct_rig();
    let to_pbx = rig.phone_offers(1, A, &A.sdp());
    assert_eq!(rig.pbx_offers(2, B, &to_pbx), told("192.168.1.7", 30000));
    assert!(relayed(&rig.pbx_offers(3, C, &to_pbx)));
    let from_b = rig.phone_answers(2, B, &B.sdp());
    let from_c = rig.phone_answers(3, C, &C.sdp());
    // B was heard first, C is the one that stays.
    assert_eq!(rig.pbx_answers(1, &from_b), told("192.168.1.8", 40000));
    assert!(rig.is_direct(1));
    assert!(relayed(&rig.pbx_answers(1, &from_c)));
    assert!(!rig.is_direct(1) && !rig.is_direct(2) && !rig.is_direct(3));
    // And the other way round; the same answer again says the same.
    for _ in 0..2 {
        assert_eq!(rig.pbx_answers(1, &from_b), told("192.168.1.8", 40000));
        assert!(rig.is_direct(1) && rig.is_direct(2));
    }
}

#[test]
fn a_line_that_is_refused_is_refused_on_both_sides() {
    let video = |phone: Phone, port: u16| format!("{}m=video {port} RTP/AVP 96\r\n", phone.sdp());
    let mut rig = direct_rig();
    let to_pbx = rig.phone_offers(1, A, &video(A, 30002));
    let to_b = rig.pbx_offers(2, B, &to_pbx);
    assert_eq!(ports(&to_b), [30000, 30002]);
    let from_b = rig.phone_answers(2, B, &video(B, 0));
    assert_eq!(ports(&rig.pbx_answers(1, &from_b)), [40000, 0]);
    // Offered again and taken.
    let to_pbx = rig.phone_offers(1, A, &video(A, 30002));
    let to_b = rig.pbx_offers(2, B, &to_pbx);
    assert_eq!(ports(&to_b), [30000, 30002]);
    let from_b = rig.phone_answers(2, B, &video(B, 40002));
    assert_eq!(ports(&rig.pbx_answers(1, &from_b)), [40000, 40002]);
    assert!(rig.is_direct(1) && rig.is_direct(2));
}

/// The PBX may take one line to itself (a video bridge): that line says so.
#[test]
fn lines_go_their_own_ways() {
    let mut rig = direct_rig();
    let to_pbx = rig.phone_offers(1, A, &format!("{}m=video 30002 RTP/AVP 96\r\n", A.sdp()));
    let audio_in = ports(&to_pbx)[0];
    let mixed = format!("{}m=video 9000 RTP/AVP 96\r\nc=IN IP4 10.0.1.70\r\n", audio(INNER, audio_in));
    let to_b = rig.pbx_offers(2, B, &mixed);
    let relay = ports(&to_b)[1];
    let want = format!(
        "{}c=IN IP4 192.168.1.7\r\nm=video {relay} RTP/AVP 96\r\nc=IN IP4 {OUTER}\r\n",
        audio(OUTER, 30000)
    );
    assert_eq!(to_b, want);
    assert!((16384..32768).contains(&relay));
}

#[test]
fn two_lines_at_one_port_are_direct_together() {
    let both = |phone: Phone, second: u16| format!("{}m=audio {second} RTP/SAVP 0\r\n", phone.sdp());
    for second in [40000, 40002, 0] {
        let mut rig = direct_rig();
        let to_pbx = rig.phone_offers(1, A, &both(A, 30000));
        let to_b = rig.pbx_offers(2, B, &to_pbx);
        assert_eq!(ports(&to_b), [30000, 30000]);
        let from_b = rig.phone_answers(2, B, &both(B, second));
        assert_eq!(ports(&rig.pbx_answers(1, &from_b)), [40000, second]);
    }
}

#[test]
fn a_phone_that_moves_is_relayed_from_then_on() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    // B has gone out of the house: its re-INVITE comes from elsewhere, its address may look as before.
    let out = Phone { nat: PHONE_B, ..B };
    let to_pbx = rig.phone_offers(2, out, &out.sdp());
    assert!(relayed(&rig.pbx_offers(1, A, &to_pbx)));
    let from_a = rig.phone_answers(1, A, &A.sdp());
    assert!(relayed(&rig.pbx_answers(2, &from_a)));
    assert!(!rig.is_direct(1) && !rig.is_direct(2));
    // The house got another address outside, and both phones come back from there: nothing else has changed.
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    let (a, b) = (Phone { nat: PHONE_B, ..A }, Phone { nat: PHONE_B, ..B });
    let to_pbx = rig.phone_offers(1, a, &a.sdp());
    assert_eq!(rig.pbx_offers(2, b, &to_pbx), told("192.168.1.7", 30000));
}

#[test]
fn a_reload_reaches_new_calls_and_keeps_both_sides_alike() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    rig.anchor.reconfigure(Policy::default());
    let to_pbx = rig.phone_offers(1, A, &A.sdp());
    assert_eq!(rig.pbx_offers(2, B, &to_pbx), told("192.168.1.7", 30000), "it runs as it began");
    let from_b = rig.phone_answers(2, B, &B.sdp());
    assert_eq!(rig.pbx_answers(1, &from_b), told("192.168.1.8", 40000));
    let (a, b) = (Phone { port: 30010, ..A }, Phone { port: 40010, ..B });
    let [to_b, _] = rig.through((3, a), (4, b));
    assert!(relayed(&to_b));
    // Between offer and answer: the answer follows the offer.
    let policy = Policy { media_route: MediaRoute::DirectBehindSameNat, ..Policy::default() };
    for (first, second, direct) in [(&policy, &Policy::default(), true), (&Policy::default(), &policy, false)]
    {
        let mut rig = direct_rig();
        rig.anchor.reconfigure(first.clone());
        let to_pbx = rig.phone_offers(1, A, &A.sdp());
        rig.pbx_offers(2, B, &to_pbx);
        rig.anchor.reconfigure(second.clone());
        let from_b = rig.phone_answers(2, B, &B.sdp());
        assert_eq!(!relayed(&rig.pbx_answers(1, &from_b)), direct);
        assert_eq!((rig.is_direct(1), rig.is_direct(2)), (direct, direct));
    }
}

#[test]
fn an_offer_that_is_refused_changes_nothing() {
    let mut rig = direct_rig();
    rig.through((1, A), (2, B));
    assert!(relayed(&rig.pbx_offers(2, B, &audio("10.0.1.70", 9000))));
    rig.anchor.rollback(rig.now, 2, Side::Inside);
    rig.settle();
    assert!(rig.is_direct(1) && rig.is_direct(2));
    // Refused before it ever ran: what A names now is gone, and a new callee is found by its own.
    let mut rig = direct_rig();
    let to_pbx = rig.phone_offers(1, A, &A.sdp());
    rig.pbx_offers(2, B, &to_pbx);
    rig.anchor.rollback(rig.now, 2, Side::Inside);
    rig.settle();
    assert!(relayed(&rig.pbx_offers(3, C, &to_pbx)));
    let from_c = rig.phone_answers(3, C, &C.sdp());
    assert!(relayed(&rig.pbx_answers(1, &from_c)));
}

#[test]
fn a_callee_with_a_second_network_is_seen_by_its_answer() {
    // B is told A's address, and answers with one of a tunnel of its own: no way back, so A is told what B said.
    let vpn = Phone { media: "10.8.0.8", ..B };
    let mut rig = direct_rig();
    let [to_b, to_a] = rig.through((1, A), (2, vpn));
    assert_eq!((to_b, to_a), (told("192.168.1.7", 30000), told("10.8.0.8", 40000)));
    for session in [1, 2] {
        rig.anchor.end(rig.now, session);
    }
    let [to_b, to_a] = rig.through((3, A), (4, vpn));
    assert!(relayed(&to_b) && relayed(&to_a), "the next call knows");
    // A public address (STUN): the relay reaches it there, and no phone is aimed at the Internet.
    for media in ["203.0.113.66", OUTER, INNER] {
        let mut rig = direct_rig();
        let [_, to_a] = rig.through((1, A), (2, Phone { media, ..B }));
        assert!(relayed(&to_a), "{media}: {to_a}");
        assert!(!rig.is_direct(1) && !rig.is_direct(2));
    }
}

#[test]
fn nothing_a_phone_writes_pairs_it_with_another() {
    let mut rig = direct_rig();
    let to_pbx = rig.phone_offers(1, A, &A.sdp());
    let a_in = ports(&to_pbx)[0];
    // B writes A's relay port, inside and outside, into its own descriptions.
    for (session, host) in [(2, INNER), (3, OUTER)] {
        let forged = Phone { media: host, port: a_in, ..B };
        let out = rig.phone_offers(session, forged, &forged.sdp());
        assert_eq!(out, audio(INNER, ports(&out)[0]));
        let answer = rig.pbx_answers(session, &audio("10.0.1.60", 5000));
        assert!(relayed(&answer));
        rig.pbx_offers(session, B, &audio("10.0.1.60", 5000));
        rig.phone_answers(session, forged, &forged.sdp());
        assert!(!rig.is_direct(session));
    }
    assert!(!rig.commands.iter().any(|command| matches!(command, Command::Join { .. })));
    // From inside, only the exact address and port: not the next port, not the outer address, not one that has ended.
    rig.anchor.introduce(9, Some(ip(B.host)));
    for (host, port) in [(INNER, a_in + 1), (OUTER, a_in), ("10.0.1.3", a_in)] {
        let offer =
            rig.anchor.offer(rig.now, 9, Side::Inside, ip(PBX), ip(NAT), audio(host, port).as_bytes());
        let offer = rig.said(offer);
        assert!(relayed(&offer), "{host}:{port}");
    }
    rig.anchor.end(rig.now, 1);
    rig.settle();
    assert!(relayed(&rig.pbx_offers(4, B, &audio(INNER, a_in))));
}

#[test]
fn an_introduction_alone_leaves_nothing() {
    let mut rig = direct_rig();
    rig.anchor.introduce(1, Some(ip(A.host)));
    assert_eq!(rig.anchor.sessions(), 1);
    assert!(rig.try_offer(1, Side::Outside, NAT, "v=0\r\nhello\r\n").is_err());
    assert_eq!(rig.anchor.sessions(), 0);
    rig.anchor.introduce(1, Some(ip(A.host)));
    assert!(rig.try_offer(1, Side::Outside, NAT, &audio("224.1.1.1", 30000)).is_err());
    assert_eq!(rig.anchor.sessions(), 0);
    rig.anchor.introduce(1, Some(ip(A.host)));
    assert!(rig.try_answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000)).is_err());
    rig.anchor.introduce(1, None);
    assert_eq!(rig.anchor.sessions(), 0);
}

/// Decision 13: whoever takes the sessions over knows who was told what.
#[test]
fn a_new_process_leaves_the_route_as_it_is() {
    let mut rig = Rig::new(|config| {
        config.keep_state = true;
        config.policy.media_route = MediaRoute::DirectBehindSameNat;
    });
    rig.through((1, A), (2, B));
    rig.new_anchor();
    assert!(rig.is_direct(1) && rig.is_direct(2));
    // Though new calls would be relayed: this one stays as both phones have it.
    rig.anchor.reconfigure(Policy::default());
    let to_pbx = rig.phone_offers(1, A, &A.sdp());
    assert_eq!(rig.pbx_offers(2, B, &to_pbx), told("192.168.1.7", 30000));
    let from_b = rig.phone_answers(2, B, &B.sdp());
    assert_eq!(rig.pbx_answers(1, &from_b), told("192.168.1.8", 40000));
    assert!(rig.is_direct(1) && rig.is_direct(2));
}
