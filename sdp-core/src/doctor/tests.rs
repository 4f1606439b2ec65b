//! Every verdict with its facts, and the nearest case that is not one.

use std::net::IpAddr;

use super::*;
use crate::policy::Transport;
use crate::relay::report::HopLimits;
use crate::relay::{Dropped, PairId};

fn leg(latching: bool, sources: &[&str]) -> LegSetup {
    LegSetup {
        sources: sources.iter().map(|ip| ip.parse().unwrap()).collect(),
        latching,
        generation: 1,
        ..LegSetup::plain(PairId(1))
    }
}

fn hops(value: u8, count: u64) -> HopLimits {
    HopLimits { count, sum: count * u64::from(value), minimum: value, maximum: value, last: value }
}

/// An end that has sent and got 500 packets.
fn talking(receiver: &str) -> LegStatistics {
    LegStatistics {
        received_rtp: 500,
        sent: 500,
        hop_limit_received: hops(62, 500),
        hop_limit_sent: hops(61, 500),
        senders: 1,
        receiver: Some(receiver.parse().unwrap()),
        ..LegStatistics::default()
    }
}

fn description(host: &str, port: u16, rest: &str) -> Line {
    let sdp =
        format!("v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} {rest}");
    lines(sdp.as_bytes(), &crate::sdp::Limits::default()).unwrap().remove(0)
}

/// A healthy call of a phone behind NAT with a switch, which a case then spoils.
struct Case {
    phone: (LegSetup, LegStatistics, Line, Duration),
    switch: (LegSetup, LegStatistics, Line, Duration),
    agreed: bool,
    answered: Option<bool>,
    direct: bool,
    refused: bool,
    patience: Option<Duration>,
    age: Option<Duration>,
    far: Party,
}

const PLAIN: &str = "RTP/AVP 0 101\r\n";
const MOMENT: Duration = Duration::from_secs(1);

impl Case {
    fn new() -> Self {
        Self {
            phone: (
                leg(true, &["198.51.100.2"]),
                talking("198.51.100.2:61000"),
                description("192.168.1.7", 40002, PLAIN),
                MOMENT,
            ),
            switch: (
                leg(false, &["10.0.1.60"]),
                talking("10.0.1.60:5000"),
                description("10.0.1.60", 5000, PLAIN),
                MOMENT,
            ),
            agreed: true,
            answered: Some(true),
            direct: false,
            refused: false,
            patience: None,
            age: Some(Duration::from_secs(12)),
            far: Party::Switch,
        }
    }

    fn verdict(&self) -> Verdict {
        let end = |(leg, counters, line, quiet): &'_ (LegSetup, LegStatistics, Line, Duration),
                   party,
                   ours: &str| {
            // The borrow is that of the case.
            (leg.clone(), *counters, line.clone(), *quiet, party, ours.parse().unwrap())
        };
        let (near, far) = (end(&self.phone, Party::Phone, OUTER), end(&self.switch, self.far, INNER));
        fn borrowed(end: &(LegSetup, LegStatistics, Line, Duration, Party, SocketAddr)) -> End<'_> {
            let (leg, counters, line, quiet, party, ours) = end;
            End { party: *party, ours: Some(*ours), line: Some(line), leg, counters, quiet: *quiet }
        }
        judge(&Facts {
            agreed: self.agreed,
            answered: self.answered,
            direct: self.direct,
            refused: self.refused,
            patience: self.patience,
            age: self.age,
            near: borrowed(&near),
            far: borrowed(&far),
        })
    }
}

const OUTER: &str = "203.0.113.10:16384";
const INNER: &str = "10.0.1.2:16400";

/// The verdict's name, and the words its sentence must have, for a call spoilt by `spoil`.
#[track_caller]
fn says(name: &str, words: &[&str], spoil: impl FnOnce(&mut Case)) {
    let mut case = Case::new();
    spoil(&mut case);
    let verdict = case.verdict();
    let sentence = verdict.to_string();
    assert_eq!(verdict.name(), name, "{sentence}");
    let missing: Vec<_> = words.iter().filter(|word| !sentence.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} in: {sentence}");
    assert!(!sentence.ends_with('.') && !sentence.contains('\n'), "one sentence: {sentence}");
}

/// As if the phone's packets were all dropped at the door.
fn dropped(case: &mut Case, dropped: Dropped) {
    case.phone.1 = LegStatistics { dropped, sent: 500, ..LegStatistics::default() };
}

#[test]
fn ports_that_somebody_has_taken_say_more_than_what_was_counted_before() {
    says("ports-taken", &[OUTER, INNER, "re-INVITE", "media.port_range"], |case| case.refused = true);
    says("ports-taken", &["another program"], |case| {
        (case.refused, case.age, case.phone.1.received_rtp) = (true, None, 0);
    });
    says("unanswered", &[], |case| (case.refused, case.agreed) = (true, false));
}

#[test]
fn a_healthy_call_has_no_trouble() {
    says("healthy", &["both ways"], |_| {});
    assert!(!Case::new().verdict().is_trouble());
}

#[test]
fn too_little_is_not_enough_data() {
    for (age, words) in
        [(Some(500), "0 packets in 0 s"), (Some(2999), "0 packets in 2 s"), (None, "no counters")]
    {
        says("not-enough-data", &["not enough data", words], |case| {
            case.age = age.map(Duration::from_millis);
            (case.phone.1, case.switch.1) = Default::default();
        });
    }
    // A second later it is a fact, and with packets the call is healthy however few.
    says("both-silent", &[OUTER, INNER, "in 3 s"], |case| {
        case.age = Some(ENOUGH);
        (case.phone.1, case.switch.1) = Default::default();
    });
    // Nine packets of a kind prove nothing: it is the silence that is told, with them in it.
    for (count, name) in [(9, "silent"), (10, "wrong-source")] {
        says(name, &[], |case| {
            dropped(case, Dropped { stranger: count, ..Dropped::default() });
            case.phone.1.refused = Some("203.0.113.66:4000".parse().unwrap());
        });
    }
}

#[test]
fn what_is_no_fault_is_told_as_such() {
    says("unanswered", &["answer"], |case| case.agreed = false);
    says("direct", &["directly"], |case| {
        case.direct = true;
        (case.phone.1, case.switch.1) = Default::default();
    });
    says("early-media", &["early media"], |case| {
        case.answered = Some(false);
        case.phone.1 = LegStatistics::default();
    });
    for (attribute, by, word) in [
        ("a=sendonly", Party::Switch, "a=sendonly"),
        ("a=inactive", Party::Switch, "a=inactive"),
        ("a=sendonly", Party::Phone, "a=sendonly"),
    ] {
        says("held", &[&by.to_string(), word, "no fault"], |case| {
            let mirror = if attribute == "a=inactive" { attribute } else { "a=recvonly" };
            let (own, other) = match by {
                Party::Phone => (&mut case.phone, &mut case.switch),
                _ => (&mut case.switch, &mut case.phone),
            };
            own.2 = description("10.0.1.60", 5000, &format!("{PLAIN}{attribute}\r\n"));
            other.2 = description("10.0.1.60", 5000, &format!("{PLAIN}{mirror}\r\n"));
            case.phone.1.received_rtp = 0;
        });
    }
    says("held", &["the switch", "c=0.0.0.0"], |case| {
        case.switch.2 = description("0.0.0.0", 5000, PLAIN);
        case.switch.1 = LegStatistics::default();
    });
    // An explicit sendrecv is no hold.
    says("healthy", &[], |case| {
        case.switch.2 = description("10.0.1.60", 5000, "RTP/AVP 0\r\na=sendrecv\r\n")
    });
}

#[test]
fn nothing_from_the_phone() {
    // It is known where it is (no NAT): packets to it go out.
    says(
        "silent",
        &["the phone has sent no packet", OUTER, "12 s", "500", "192.168.1.7:40002", "firewall"],
        |case| {
            case.phone.1.received_rtp = 0;
        },
    );
    // Behind NAT it is found only by its first packet.
    says("unlatched", &["the switch sends", "480 packets", OUTER, "192.168.1.7:40002"], |case| {
        case.phone.1 = LegStatistics::default();
        case.switch.1.dropped.no_receiver = 480;
    });
    // The other phone of a joined call is told by that name.
    says("unlatched", &["the other phone sends"], |case| {
        case.far = Party::OtherPhone;
        case.phone.1 = LegStatistics::default();
        case.switch.1.dropped.no_receiver = 480;
    });
    // One packet, and it isn't silent.
    says("healthy", &[], |case| case.phone.1.received_rtp = 1);
}

#[test]
fn nothing_from_the_switch() {
    says("silent", &["the switch has sent no packet", INNER, "500"], |case| {
        case.switch.1.received_rtp = 0;
    });
    says("silent", &["(3 came from others)"], |case| {
        case.switch.1.received_rtp = 0;
        case.switch.1.dropped.stranger = 3;
    });
}

#[test]
fn ttl_used_up() {
    says(
        "hop-limit-used-up",
        &["500 of 500", "the phone", "minimum 1, average 1", "media.ttl = 64", "128"],
        |case| {
            case.phone.1.hop_limit_received = hops(1, 500);
            case.phone.1.dropped.hop_limit = 500;
        },
    );
    // A few on the way of a route that changes are none.
    says("healthy", &[], |case| case.phone.1.dropped.hop_limit = 249);
}

#[test]
fn from_an_address_that_may_not_send() {
    let refused = |came: &str| {
        let came = came.parse().unwrap();
        move |case: &mut Case| {
            dropped(case, Dropped { stranger: 480, ..Dropped::default() });
            case.phone.1.refused = Some(came);
        }
    };
    let words = ["480 of 480", "198.51.100.9:40002", "198.51.100.2", "media.source = \"any\""];
    says("wrong-source", &words, refused("198.51.100.9:40002"));
    // From an address that may: another sender was first.
    says("locked", &["198.51.100.2:7000", "media.sender_limit"], refused("198.51.100.2:7000"));
    // Strangers beside a phone that is heard are none of its fault.
    says("healthy", &[], |case| {
        case.phone.1.dropped.stranger = 5000;
        case.phone.1.refused = Some("203.0.113.66:4000".parse().unwrap());
    });
    let sources: Vec<IpAddr> = Case::new().phone.0.sources;
    assert_eq!(sources.len(), 1, "the case is about one address");
}

#[test]
fn other_reasons_to_drop() {
    let spoil = |dropped_: Dropped| move |case: &mut Case| dropped(case, dropped_);
    says("wrong-payload-type", &["the phone", "(96)", "480 of 480", "PCMU/8000"], |case| {
        dropped(case, Dropped { payload: 480, ..Dropped::default() });
        case.phone.1.refused_payload = Some(96);
    });
    says(
        "too-many-senders",
        &["media.max_senders is 10"],
        spoil(Dropped { senders: 30, ..Dropped::default() }),
    );
    says("stun-or-dtls", &["ICE"], spoil(Dropped { stun: 30, ..Dropped::default() }));
    says("not-rtp", &["not RTP"], spoil(Dropped { malformed: 30, ..Dropped::default() }));
    says("loop", &["circle"], spoil(Dropped { own: 30, ..Dropped::default() }));
    says("too-fast", &["1000"], |case| case.phone.1.dropped.rate = 900);
    says("healthy", &[], |case| case.phone.1.dropped.rate = 400);
    says("not-sent", &["10.0.1.60:5000", "firewall of this host"], |case| case.phone.1.dropped.send = 500);
    says("no-receiver", &["500 of 500", "the phone"], |case| {
        case.phone.1.dropped.no_receiver = 500;
        case.switch.1.receiver = None;
    });
    // What came before the answer is past.
    says("healthy", &[], |case| case.phone.1.dropped.early = 5000);
    says("wrong-payload-type", &["30 of 30"], |case| {
        dropped(case, Dropped { payload: 30, early: 5000, ..Dropped::default() });
    });
    // The larger reason is told.
    says("not-rtp", &["40 of 70"], spoil(Dropped { malformed: 40, stun: 30, ..Dropped::default() }));
}

#[test]
fn it_stopped() {
    let stop = |seconds| move |case: &mut Case| case.phone.3 = Duration::from_secs(seconds);
    says(
        "stopped",
        &[
            "the phone",
            "10 s or more",
            "the other end goes on",
            "500 came before",
            "TTL 62",
            "NAT or firewall",
        ],
        stop(10),
    );
    says("healthy", &[], stop(9));
    says("stopped", &["the switch"], |case| case.switch.3 = Duration::from_secs(11));
    says("stopped", &["nor from the other end"], |case| {
        (case.phone.3, case.switch.3) = (Duration::from_secs(11), Duration::from_secs(11));
    });
    // A hold that has just ended was a silence by agreement.
    says("healthy", &[], |case| {
        case.phone.3 = Duration::from_secs(300);
        case.age = Some(Duration::from_secs(9));
    });
    // Who suppresses silence may be silent for as long as the other speaks.
    let noise = |quiet| {
        move |case: &mut Case| {
            case.phone.2 = description("192.168.1.7", 40002, "RTP/AVP 0 13\r\n");
            case.phone.3 = Duration::from_secs(quiet);
            case.age = Some(Duration::from_secs(300));
        }
    };
    says("healthy", &[], noise(59));
    says("stopped", &["60 s"], noise(60));
    // What is configured holds instead, either way (SAM-20).
    for (patience, quiet, verdict) in
        [(5, 5, "stopped"), (5, 4, "healthy"), (20, 19, "healthy"), (20, 20, "stopped")]
    {
        says(verdict, &[], |case| {
            case.patience = Some(Duration::from_secs(patience));
            case.phone.3 = Duration::from_secs(quiet);
            case.age = Some(Duration::from_secs(300));
        });
    }
    // A fax speaks in turns.
    says("healthy", &[], |case| {
        case.phone.2 = description("192.168.1.7", 40002, "udptl t38\r\n");
        case.switch.2 = case.phone.2.clone();
        case.phone.3 = Duration::from_secs(30);
        case.age = Some(Duration::from_secs(300));
    });
}

#[test]
fn it_leaves_and_does_not_arrive() {
    says("hop-limit-low", &["the phone", "TTL 20", "40 routers"], |case| {
        case.phone.1.hop_limit_received = hops(88, 500);
        case.phone.1.hop_limit_sent = hops(20, 500);
    });
    says("healthy", &[], |case| {
        case.phone.1.hop_limit_received = hops(88, 500);
        case.phone.1.hop_limit_sent = hops(41, 500);
    });
    says("hop-limit-low", &["TTL 20", "40 routers", "a router on the way answered"], |case| {
        case.phone.1.hop_limit_received = hops(88, 500);
        case.phone.1.hop_limit_sent = hops(20, 500);
        case.phone.1.expired = 1;
    });
    // Where the distance says that they should arrive: not by one word alone, which anybody can forge.
    for (told, verdict) in [(1, "healthy"), (2, "hop-limit-low")] {
        says(verdict, &[], |case| case.switch.1.expired = told);
    }
    for (told, verdict) in [(1, "healthy"), (2, "unreachable")] {
        says(verdict, &[], |case| case.switch.1.unreachable = told);
    }
    says("unreachable", &["packets for the phone go to", "2 times"], |case| case.phone.1.unreachable = 2);
    says("profiles-differ", &["agreed to RTP and", "to SRTP"], |case| {
        case.switch.2 = description("10.0.1.60", 5000, "RTP/SAVP 0\r\n");
    });
    // Not where SRTP ends with us.
    says("healthy", &[], |case| {
        use crate::srtp::{Key, Keys, Suite};
        case.switch.2 = description("10.0.1.60", 5000, "RTP/SAVP 0\r\n");
        let key = Key::new(Suite::AesCm80, &[0; 30]).unwrap();
        case.switch.0.srtp = Some(Keys { send: key.clone(), receive: key, reached: None }.into());
    });
    assert_eq!(Case::new().switch.2.transport, Some(Transport::Rtp));
}

#[test]
fn a_description_that_was_refused() {
    use crate::anchor::{NotAcceptable, Refusal};
    use crate::policy::Family;
    use crate::relay::Side;
    let said = |why: Refusal| Verdict::Refused { author: Party::Phone, why };
    let port = said(NotAcceptable::Port(80).into());
    assert!(port.is_trouble());
    assert_eq!(
        port.to_string(),
        "the description of the phone names port 80, which no end may name: it was refused; see sdp.allowed_ports"
    );
    let dry = said(Refusal::Unavailable { side: Side::Inside, family: Family::V4 }).to_string();
    assert!(
        dry.contains("no relay port free on the Inside side") && dry.contains("media.port_range"),
        "{dry}"
    );
    let name = said(NotAcceptable::Name.into()).to_string();
    assert!(name.ends_with("names a host instead of an address"), "{name}");
}

#[test]
fn packets_that_are_lost_on_the_way() {
    use crate::relay::report::{Reception, Reported};
    let lose = |received, expected| {
        move |case: &mut Case| {
            case.phone.1.reception = Reception { received, expected, ..Reception::default() };
        }
    };
    says("loss", &["50 of 500", "10 %", "from the phone"], lose(450, 500));
    says("healthy", &[], lose(451, 500));
    // A tenth of few is chance; a packet that came twice is none that is missing.
    says("healthy", &[], lose(200, 249));
    says("healthy", &[], lose(600, 500));
    let report = |fraction_lost| {
        move |case: &mut Case| {
            case.phone.1.reported = Some(Reported { fraction_lost, lost: 400, jitter: 0 });
        }
    };
    says(
        "not-heard",
        &["the phone reports that 99 %", "198.51.100.2:61000", "192.168.1.7:40002"],
        report(255),
    );
    says("healthy", &[], report(25));
    says("healthy", &[], |case| {
        report(255)(case);
        case.phone.1.sent = 249;
    });
}
