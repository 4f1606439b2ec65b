use std::net::IpAddr;
use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;
use crate::policy::{Family, HopLimit, SenderLimit};
use crate::relay::{LegSetup, Pair, PairId, Payloads, Realm, Remote, Side, StreamId, StreamSetup};

fn leg(pair: u64) -> LegSetup {
    LegSetup {
        remote: Some(Remote { rtp: at("198.51.100.7:4000"), rtcp: at("[2001:db8::7]:4001") }),
        sources: vec!["198.51.100.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        sender_limit: SenderLimit::LockIp,
        generation: 3,
        ..LegSetup::plain(PairId(pair))
    }
}

fn at(text: &str) -> std::net::SocketAddr {
    text.parse().unwrap()
}

fn setup() -> StreamSetup {
    StreamSetup {
        id: StreamId { session: u64::MAX, index: 1 },
        outside: leg(u64::MAX),
        inside: leg(2),
        hop_limit: HopLimit::Fixed(NonZeroU8::MAX),
        rtcp_mux: true,
        secure: true,
        dtls: false,
        payloads: Payloads::from_iter([0, 8, 101, 127]),
        kind: crate::relay::Kind::Rtp,
        clocks: crate::rtp::clock::Clocks::default(),
        timeouts: crate::policy::Timeouts::default(),
        direct: true,
        proxy: true,
    }
}

fn pair() -> Pair {
    let realm = Realm { side: Side::Inside, family: Family::V6 };
    Pair { id: PairId(u64::MAX), realm, rtp: at("[2001:db8::1]:20000"), rtcp: at("[2001:db8::1]:20001") }
}

fn hello() -> ToRelay {
    let ip = |text: &str| Addresses::from(text.parse::<IpAddr>().unwrap());
    let instance = Instance { process: 4711, program: "0.1.0".into() };
    let setup = Setup {
        outside: ip("192.0.2.1").with(ip("2001:db8::1").v6.unwrap()),
        inside: ip("10.0.1.2"),
        ports: 1..=9,
        workers: 0,
        dscp: 46,
    };
    ToRelay::Hello(Hello { instance, setup })
}

fn to_relay() -> Vec<ToRelay> {
    let (stream, id) = (setup(), setup().id);
    let realm = pair().realm;
    let commands = vec![
        Command::Lease { realm, pairs: 64 },
        Command::Keep { pairs: vec![PairId(1), PairId(u64::MAX)] },
        Command::Return { pairs: vec![] },
        Command::Open { stream: stream.clone() },
        Command::Update { stream: stream.clone() },
        Command::Join { a: id, b: id },
        Command::Part { stream: id },
        Command::Close { stream: id },
        Command::End { session: 0 },
        Command::Record { session: 1, record: vec![0, 127, 128, 255].into() },
        Command::Snapshot,
        Command::Release,
        Command::Restore { stream, pairs: vec![pair(), pair()] },
    ];
    let commands = commands.into_iter().map(ToRelay::Command);
    std::iter::once(hello()).chain(commands).chain([ToRelay::Ask, ToRelay::Finish]).collect()
}

fn from_relay() -> Vec<FromRelay> {
    let instance = Instance { process: 1, program: "9".into() };
    let (outside, inside) = (Default::default(), Default::default());
    let records = vec![(7, vec![0, 255].into())];
    let reports = vec![
        Report::Ready { pool: 256, capacity: usize::MAX, shortage: None },
        Report::Refused { stream: setup().id },
        Report::FirstPacket {
            stream: setup().id,
            side: Side::Outside,
            component: crate::relay::Component::Rtp,
            source: at("[2001:db8::7]:1"),
            hop_limit: Some(64),
        },
        Report::Statistics { stream: setup().id, outside, inside, ended: true },
        Report::Snapshot { streams: vec![setup()], pairs: vec![pair()], records, more: true },
    ];
    let others = [
        FromRelay::Welcome(Welcome { instance: instance.clone(), spawned: true }),
        FromRelay::Here,
        FromRelay::Declined { reason: "why".into() },
        FromRelay::Replaced { by: instance },
    ];
    reports.into_iter().map(FromRelay::Report).chain(others).collect()
}

/// Sends everything in pieces of this size.
fn carried<T: Serialize + DeserializeOwned>(messages: &[T], piece: usize) -> Vec<Received<T>> {
    let mut octets = Vec::new();
    messages.iter().for_each(|message| encode(message, &mut octets).unwrap());
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    for piece in octets.chunks(piece) {
        decoder.handle_octets(piece);
        while let Some(message) = decoder.poll_message().unwrap() {
            out.push(message);
        }
    }
    out
}

#[test]
fn every_message_arrives_however_the_octets_are_cut() {
    for piece in [1, 3, 1000, usize::MAX] {
        let want: Vec<_> = to_relay().into_iter().map(Received::Message).collect();
        assert_eq!(carried(&to_relay(), piece), want);
        let want: Vec<_> = from_relay().into_iter().map(Received::Message).collect();
        assert_eq!(carried(&from_relay(), piece), want);
    }
}

/// What one version says more than another knows: the other passes it over.
#[test]
fn a_newer_far_end_is_understood_as_far_as_it_goes() {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Newer {
        Command(Later),
        Dance { with: u8 },
    }
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Later {
        End { session: u64, softly: bool },
        Sing,
    }
    let messages = [
        Newer::Dance { with: 1 },
        Newer::Command(Later::Sing),
        Newer::Command(Later::End { session: 7, softly: true }),
    ];
    let mut octets = Vec::new();
    messages.iter().for_each(|message| encode(message, &mut octets).unwrap());
    let mut decoder = Decoder::<ToRelay>::default();
    decoder.handle_octets(&octets);
    for _ in 0..2 {
        assert!(matches!(decoder.poll_message(), Ok(Some(Received::Unreadable { .. }))));
    }
    let end = ToRelay::Command(Command::End { session: 7 });
    assert_eq!(decoder.poll_message(), Ok(Some(Received::Message(end))));
    assert_eq!(decoder.poll_message(), Ok(None));
}

#[test]
fn another_version_is_named_and_a_stranger_known() {
    assert_eq!(read_preamble(preamble()), Ok(()));
    let mut other = preamble();
    other[9] = 77;
    let refused = read_preamble(other).unwrap_err();
    assert_eq!(refused, WireError::Version { theirs: 77 });
    assert!(refused.to_string().contains("version 77") && refused.to_string().contains("speak 1"));
    assert_eq!(read_preamble(*b"GET / HTTP"), Err(WireError::Stranger));
}

#[test]
fn a_frame_has_a_bound_both_ways() {
    let long = ToRelay::Command(Command::Record { session: 1, record: vec![255; MAX_FRAME].into() });
    let mut octets = Vec::new();
    assert!(matches!(encode(&long, &mut octets), Err(WireError::TooLong { .. })) && octets.is_empty());
    let mut decoder = Decoder::<ToRelay>::default();
    decoder.handle_octets(&[0xff; 4]);
    assert_eq!(decoder.poll_message(), Err(WireError::TooLong { octets: 0xffff_ffff }));
    // The longest part of a snapshot: 256 KiB of records, or one of 128 KiB, and streams.
    let streams = vec![setup(); 64 * 6];
    let part = Report::Snapshot {
        streams,
        pairs: vec![pair(); 64 * 12],
        records: vec![(1, vec![255; 262_144].into())],
        more: true,
    };
    assert_eq!(encode(&FromRelay::Report(part), &mut octets), Ok(()));
}

#[test]
fn what_differs_between_two_relays_is_named() {
    let ToRelay::Hello(Hello { setup, .. }) = hello() else { panic!("a hello") };
    assert_eq!(setup.difference(&setup), None);
    let other = Setup { ports: 20..=30, workers: 2, outside: setup.inside, ..setup.clone() };
    let said = setup.difference(&other).unwrap();
    assert_eq!(
        said,
        "net.interfaces, media.port_range [20, 30] instead of [1, 9], media.workers 2 instead of 0"
    );
}

proptest! {
    #[test]
    fn no_octets_make_it_panic_or_wait_with_a_whole_frame(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::<ToRelay>::default();
        let mut framed = u32::try_from(octets.len()).unwrap().to_be_bytes().to_vec();
        framed.extend_from_slice(&octets);
        decoder.handle_octets(&framed);
        prop_assert!(matches!(decoder.poll_message(), Ok(Some(_))));
        prop_assert_eq!(decoder.poll_message(), Ok(None));
    }
}

/// Found by the fuzz target: a field nobody knows was followed down its nesting until the stack ended.
#[test]
fn what_is_nested_too_deep_is_unreadable_and_the_next_message_is_read() {
    for depth in [40, 1_000, 1 << 20] {
        let mut body = vec![0x81, 0xa5];
        body.extend(b"hello");
        body.extend([0x81, 0xa1, b'x']);
        body.extend(vec![0x91; depth]);
        body.push(0xc0);
        let mut octets = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        octets.extend(body);
        encode(&ToRelay::Ask, &mut octets).unwrap();
        let mut decoder = Decoder::<ToRelay>::default();
        decoder.handle_octets(&octets);
        assert!(matches!(decoder.poll_message(), Ok(Some(Received::Unreadable { .. }))), "{depth}");
        assert_eq!(decoder.poll_message(), Ok(Some(Received::Message(ToRelay::Ask))));
    }
}
