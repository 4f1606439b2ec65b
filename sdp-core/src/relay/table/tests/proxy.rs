//! Streams that are continued whoever speaks in them (MED-12).

use super::*;
use crate::srtp::{Context, Key, Keys, Suite};

/// What is read of a packet that left: SSRC, sequence, timestamp.
type Seen = (u32, u16, u32);

fn speech(ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

fn seen(packet: &[u8]) -> Seen {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    assert_eq!(packet[12..], [0xd5; 160], "what is said is not touched");
    (word(8), word(0) as u16, word(4))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

impl Rig {
    /// A stream that is continued. Its phone is 198.51.100.N:4000, its switch 10.0.1.N:5000.
    fn continued(&mut self, session: u64) -> (StreamSetup, Pair, Pair) {
        let (mut setup, outside, inside) = self.open(session, HopLimit::Keep);
        setup.proxy = true;
        self.tell(Command::Update { stream: setup.clone() });
        (setup, outside, inside)
    }

    /// What leaves when this comes to a port of ours.
    fn carried(&mut self, to: SocketAddr, from: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let of_pair = |(slot, (rtp, rtcp)): (&Slot, &(SocketAddr, SocketAddr))| match to {
            to if to == *rtp => Some((*slot, Component::Rtp)),
            to if to == *rtcp => Some((*slot, Component::Rtcp)),
            _ => None,
        };
        let (slot, component) = self.bound.iter().find_map(of_pair).unwrap();
        let packet = Packet { component, source: at(from), hop_limit: Some(64), bytes };
        let forward = self.table.handle_packet(self.now, slot, &packet)?;
        Some(if forward.changed { self.table.changed().to_vec() } else { bytes.to_vec() })
    }

    fn spoken(&mut self, to: SocketAddr, from: &str, of: Seen) -> Option<Seen> {
        self.carried(to, from, &speech(of.0, of.1, of.2)).map(|packet| seen(&packet))
    }

    fn after_ms(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }
}

/// The switch sends the call elsewhere, as at a transfer: the phone is sent one stream, and without the proxy two.
#[test]
fn a_transfer_is_one_stream_to_the_phone() {
    for proxy in [true, false] {
        let mut rig = Rig::new(|_| {});
        let (mut setup, outside, inside) = rig.open(7, HopLimit::Keep);
        setup.proxy = proxy;
        rig.tell(Command::Update { stream: setup.clone() });
        for n in 0..3u16 {
            let of = (7, 65_534u16.wrapping_add(n), 160 * u32::from(n));
            assert_eq!(rig.after_ms(20).spoken(inside.rtp, "10.0.1.7:5000", of), Some(of), "as it came");
        }
        setup.inside = LegSetup { generation: 1, ..leg(inside.id, "10.0.1.99:6000", false) };
        rig.tell(Command::Update { stream: setup.clone() });
        let sent = [(9, 400, 77), (9, 401, 237), (9, 403, 557), (9, 402, 397)];
        let continued = [(7, 1, 800), (7, 2, 960), (7, 4, 1_280), (7, 3, 1_120)];
        for (n, (of, left)) in sent.into_iter().zip(continued).enumerate() {
            let left = if proxy { left } else { of };
            rig.after_ms(if n == 0 { 60 } else { 20 });
            assert_eq!(rig.spoken(inside.rtp, "10.0.1.99:6000", of), Some(left), "proxy {proxy}");
        }
        // What the phone says was always one stream.
        let of = (1, 1, 1);
        assert_eq!(rig.spoken(outside.rtp, "198.51.100.7:4000", of), Some(of));
        // From now on as it comes: what was agreed anew says so.
        setup.proxy = false;
        rig.tell(Command::Update { stream: setup });
        assert_eq!(rig.spoken(inside.rtp, "10.0.1.99:6000", (9, 404, 717)), Some((9, 404, 717)));
    }
}

#[test]
fn reports_are_turned_both_ways() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, inside) = rig.continued(7);
    let (phone, phone_rtcp) = ("198.51.100.7:4000", "198.51.100.7:4001");
    let (switch, switch_rtcp) = ("10.0.1.7:5000", "10.0.1.7:5001");
    rig.spoken(inside.rtp, switch, (7, 100, 0)).unwrap();
    rig.spoken(outside.rtp, phone, (5, 900, 0)).unwrap();
    rig.after_ms(20).spoken(inside.rtp, switch, (9, 500, 1_000)).unwrap();
    // The switch tells of itself and of what it hears: RTCP names the stream that the phone knows.
    let report = words(&[0x81c8_000c, 9, 0x1122_3344, 0x5566_7788, 1_000, 1, 160, 5, 0, 900, 0, 0, 0]);
    let told = words(&[0x81c8_000c, 7, 0x1122_3344, 0x5566_7788, 160, 2, 320, 5, 0, 900, 0, 0, 0]);
    assert_eq!(rig.carried(inside.rtcp, switch_rtcp, &report), Some(told));
    // The phone answers 80 ms later: about what the switch has sent.
    let heard = words(&[0x81c9_0007, 5, 7, 0, 101, 3, 0x3344_5566, 0]);
    let about = words(&[0x81c9_0007, 5, 9, 0, 500, 3, 0x3344_5566, 0]);
    assert_eq!(rig.after_ms(80).carried(outside.rtcp, phone_rtcp, &heard), Some(about));
    // Of the one before: a farewell does not pass, and what only that says is dropped and counted.
    assert_eq!(rig.carried(inside.rtcp, switch_rtcp, &words(&[0x81cb_0001, 7])), None);
    let both = words(&[0x80c9_0001, 9, 0x81cb_0001, 9]);
    assert_eq!(rig.carried(inside.rtcp, switch_rtcp, &both), Some(words(&[0x80c9_0001, 7])));
    let (outside, inside) = rig.statistics(setup.id);
    assert_eq!((inside.dropped.replay, inside.dropped.total()), (1, 1));
    assert_eq!(outside.round_trip_us, Some(80_000));
}

/// Two phones of ours, one of which begins anew: the other is sent one stream in one hop, and its reports come back right.
#[test]
fn joined_streams_are_continued() {
    let mut rig = Rig::new(|_| {});
    let (a, a_out, a_in) = rig.continued(7);
    let (b, b_out, _) = rig.continued(8);
    rig.tell(Command::Join { a: a.id, b: b.id });
    let (phone_a, phone_b) = ("198.51.100.7:4000", "198.51.100.8:4000");
    rig.spoken(a_out.rtp, phone_a, (7, 1, 0)).unwrap();
    rig.spoken(b_out.rtp, phone_b, (8, 40, 0)).unwrap();
    assert_eq!(rig.after_ms(20).spoken(a_out.rtp, phone_a, (9, 300, 5)), Some((7, 2, 160)));
    let report = words(&[0x81c9_0007, 9, 8, 0, 40, 0, 0, 0]);
    let told = words(&[0x81c9_0007, 7, 8, 0, 40, 0, 0, 0]);
    assert_eq!(rig.carried(a_out.rtcp, "198.51.100.7:4001", &report), Some(told));
    let report = words(&[0x81c9_0007, 8, 7, 0, 2, 0, 0, 0]);
    let told = words(&[0x81c9_0007, 8, 9, 0, 300, 0, 0, 0]);
    assert_eq!(rig.carried(b_out.rtcp, "198.51.100.8:4001", &report), Some(told));
    // The switch takes the call between: to it this is the first that it hears, and so is the phone to what it says.
    rig.tell(Command::Part { stream: a.id });
    assert_eq!(rig.after_ms(20).spoken(a_out.rtp, phone_a, (9, 301, 165)), Some((9, 301, 165)));
    assert_eq!(rig.spoken(a_in.rtp, "10.0.1.7:5000", (3, 70, 0)), Some((8, 41, 320)));
}

/// Only who holds the port speaks: others keep their names, and take nobody's.
#[test]
fn others_beside_the_holder_disturb_nothing() {
    let mut rig = Rig::new(|_| {});
    let (setup, outside, _) = rig.continued(7);
    let (phone, other) = ("198.51.100.7:4000", "198.51.100.7:9999");
    rig.spoken(outside.rtp, phone, (7, 1, 0)).unwrap();
    assert_eq!(rig.after_ms(20).spoken(outside.rtp, phone, (9, 50, 0)), Some((7, 2, 160)));
    for of in [(11, 9_000, 1), (9, 51, 160), (7, 3, 320), (11, 20, 9)] {
        let left = match of.0 {
            11 => Some(of),
            9 => Some((7, 3, 320)),
            _ => None,
        };
        assert_eq!(rig.spoken(outside.rtp, other, of), left, "{of:?}");
    }
    assert_eq!(rig.after_ms(20).spoken(outside.rtp, phone, (9, 51, 160)), Some((7, 3, 320)));
    assert_eq!(rig.statistics(setup.id).0.dropped.replay, 1);
}

/// A NAT that forgot: the phone goes on from another port, and its stream does.
#[test]
fn a_phone_that_changes_its_port_stays_one_stream() {
    let mut rig = Rig::new(|_| {});
    let (_, outside, _) = rig.continued(7);
    rig.spoken(outside.rtp, "198.51.100.7:4000", (7, 1, 0)).unwrap();
    for n in 0..20u16 {
        rig.after_ms(20);
        let of = (9, 100 + n, 160 * u32::from(n));
        let from = if n < 5 { "198.51.100.7:4000" } else { "198.51.100.7:61000" };
        assert_eq!(rig.spoken(outside.rtp, from, of), Some((7, 2 + n, 160 + of.2)), "{n}");
    }
    // And with a new name from there, now that it holds the port.
    assert_eq!(rig.after_ms(20).spoken(outside.rtp, "198.51.100.7:61000", (3, 5, 5)), Some((7, 22, 3_360)));
}

#[test]
fn nothing_is_counted_that_does_not_leave() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, _, inside) = rig.continued(7);
    rig.spoken(inside.rtp, "10.0.1.7:5000", (7, 100, 0)).unwrap();
    setup.outside.wanted = false;
    rig.tell(Command::Update { stream: setup.clone() });
    for n in 0..10 {
        assert_eq!(rig.after_ms(20).spoken(inside.rtp, "10.0.1.7:5000", (9, n, 0)), None);
    }
    setup.outside.wanted = true;
    rig.tell(Command::Update { stream: setup });
    assert_eq!(rig.after_ms(20).spoken(inside.rtp, "10.0.1.7:5000", (9, 10, 0)), Some((7, 101, 1_760)));
}

/// What can't be read is not written: SRTP past us, DTLS, fax.
#[test]
fn what_can_not_be_read_leaves_as_it_came() {
    type Change = fn(&mut StreamSetup);
    let changes: [Change; 2] = [|setup| setup.secure = true, |setup| setup.dtls = true];
    for change in changes {
        let mut rig = Rig::new(|_| {});
        let (mut setup, _, inside) = rig.continued(7);
        change(&mut setup);
        rig.tell(Command::Update { stream: setup });
        for of in [(7, 1, 0), (9, 50, 0), (7, 40_000, 9)] {
            assert_eq!(rig.spoken(inside.rtp, "10.0.1.7:5000", of), Some(of));
        }
    }
    let mut rig = Rig::new(|_| {});
    let (mut setup, _, inside) = rig.continued(7);
    setup.kind = Kind::Udptl;
    rig.tell(Command::Update { stream: setup });
    for sequence in [1u8, 200] {
        let fax = [0, sequence, 1, 6, 0];
        assert_eq!(rig.carried(inside.rtp, "10.0.1.7:5000", &fax).as_deref(), Some(&fax[..]));
    }
}

/// SRTP that ends with us: the phone's context sees one source, whose packets and reports it can open.
#[test]
fn a_phone_with_srtp_is_sent_one_source() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, _, inside) = rig.continued(7);
    let key = |octet| Key::new(Suite::AesCm80, &[octet; 30]).unwrap();
    setup.outside.srtp = Some(Keys { send: key(1), receive: key(2), reached: None }.into());
    rig.tell(Command::Update { stream: setup });
    let mut phone = Context::new(&key(1)).unwrap();
    let mut open = |mut packet: Vec<u8>| {
        let opened = phone.unprotect(&mut packet).unwrap();
        phone.accept(opened);
        packet
    };
    let (switch, switch_rtcp) = ("10.0.1.7:5000", "10.0.1.7:5001");
    for (of, left) in [
        ((7, 65_535, 0), (7, 65_535, 0)),
        ((9, 500, 1_000), (7, 0, 160)),
        ((9, 501, 1_160), (7, 1, 320)),
        ((9, 9_000, 0), (7, 2, 480)),
    ] {
        let packet = rig.after_ms(20).carried(inside.rtp, switch, &speech(of.0, of.1, of.2)).unwrap();
        assert_eq!(seen(&open(packet)), left);
    }
    let report = rig.carried(inside.rtcp, switch_rtcp, &words(&[0x80c9_0001, 9])).unwrap();
    assert_eq!(open(report), words(&[0x80c9_0001, 7]));
}

/// Octets that are hardly RTP or RTCP, from everybody, at both ports of both sides.
#[test]
fn junk_is_survived() {
    let mut rig = Rig::new(|_| {});
    let (mut setup, outside, inside) = rig.continued(7);
    setup.rtcp_mux = true;
    rig.tell(Command::Update { stream: setup });
    let mut random = ChaCha12Rng::from_seed([3; 32]);
    let mut left = 0;
    for _ in 0..20_000 {
        rig.after_ms(7);
        let mut octets = vec![0; random.next_u32() as usize % 120];
        random.fill_bytes(&mut octets);
        // Mostly what is taken for one of the two, with few names.
        if let [flags, kind, words @ ..] = &mut octets[..] {
            *flags = 0x80 | *flags & 0x3f;
            *kind = [0, 8, 200, 201, 202, 203, 205, 206, 207, *kind][random.next_u32() as usize % 10];
            let long = words.len() / 4;
            if let (true, [high, low, rest @ ..]) = (*kind >= 200, words) {
                [*high, *low] = u16::try_from(long).unwrap().to_be_bytes();
                rest.iter_mut().skip(3).step_by(8).for_each(|octet| *octet %= 3);
            }
        }
        let (to, from) = match random.next_u32() % 5 {
            0 => (outside.rtp, "198.51.100.7:4000"),
            1 => (outside.rtcp, "198.51.100.7:4001"),
            2 => (outside.rtp, "198.51.100.7:4004"),
            3 => (inside.rtp, "10.0.1.7:5000"),
            _ => (inside.rtcp, "10.0.1.7:5001"),
        };
        left += usize::from(rig.carried(to, from, &octets).is_some());
    }
    assert!(left > 1_000, "{left}");
}

/// A stream that goes to another worker takes its numbers along.
#[test]
fn another_worker_goes_on() {
    let mut rig = Rig::new(|_| {});
    let (setup, _, inside) = rig.continued(7);
    let switch = "10.0.1.7:5000";
    rig.spoken(inside.rtp, switch, (7, 100, 0)).unwrap();
    rig.after_ms(20).spoken(inside.rtp, switch, (9, 500, 0)).unwrap();
    rig.table.give(Move { stream: setup.id, to: 1, ticket: Ticket(1) });
    let gives = |action: Action| matches!(action, Action::Give { slots: Some(_), .. });
    assert!(std::iter::from_fn(|| rig.table.poll_action(rig.now)).any(gives));
    let mut other = Table::among(rig.now, rig.table.config.clone(), rig.table.config.own_ports(), false);
    let [_, slot] = other.handle_arrival(rig.table.departed().unwrap());
    let bytes = speech(9, 501, 160);
    let packet = Packet { component: Component::Rtp, source: at(switch), hop_limit: Some(64), bytes: &bytes };
    assert!(other.handle_packet(rig.now, slot, &packet).unwrap().changed);
    assert_eq!(seen(other.changed()), (7, 102, 320));
}
