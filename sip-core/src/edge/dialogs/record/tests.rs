#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

use std::time::Instant;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn dialog(kept: &Kept) -> Dialog {
    let now = Instant::now();
    Dialog {
        phone: kept.phone,
        path: None,
        certificate: kept.certificate,
        switch: kept.switch,
        routes: kept.routes.clone(),
        contact: kept.contact.clone(),
        session: None,
        awaits_answer: false,
        confirmed: true,
        used: now,
        refreshed: now,
        due: now,
    }
}

fn written(all: &[Kept]) -> Vec<u8> {
    let dialogs: Vec<Dialog> = all.iter().map(dialog).collect();
    let both: Vec<(&DialogKey, &Dialog)> = all.iter().map(|kept| &kept.key).zip(&dialogs).collect();
    write(&both)
}

fn one() -> Kept {
    Kept {
        key: DialogKey::new(b"call@host", b"a", b"b"),
        phone: InstanceId(7),
        certificate: [9; 32],
        switch: Some(Dial {
            transport: Transport::Tls,
            remote: "10.0.1.50:5061".parse().unwrap(),
            side: Side::Inside,
            affinity: Some(7),
        }),
        contact: Some(b"sips:117@192.168.1.7".to_vec()),
        routes: Some(vec![b"<sips:10.0.1.50;lr>".to_vec()]),
    }
}

/// Any call.
fn kept() -> impl Strategy<Value = Kept> {
    let remote = any::<(IpAddr, u16)>().prop_map(SocketAddr::from);
    let dial = (0..3, remote, any::<bool>(), of(any::<u64>()));
    let dial = dial.prop_map(|(over, remote, inside, affinity)| Dial {
        transport: [Transport::Udp, Transport::Tcp, Transport::Tls][over as usize],
        remote,
        side: if inside { Side::Inside } else { Side::Outside },
        affinity,
    });
    let text = || vec(any::<u8>(), 0..40);
    let tags = "[a-z@.]{1,20}";
    (any::<u64>(), any::<[u8; 32]>(), (tags, tags, tags), of(dial), of(text()), of(vec(text(), 0..4)))
        .prop_map(|(phone, certificate, (call, own, far), switch, contact, routes)| Kept {
            key: DialogKey::new(call.as_bytes(), own.as_bytes(), far.as_bytes()),
            phone: InstanceId(phone),
            certificate,
            switch,
            contact,
            routes,
        })
}

proptest! {
    #[test]
    fn what_was_written_is_read(all in vec(kept(), 0..4)) {
        prop_assert_eq!(read(&written(&all)), Some(all));
    }

    #[test]
    fn nothing_read_is_a_panic(bytes in vec(any::<u8>(), 0..300), version in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| version) {
            *first = VERSION;
        }
        // What is read at all is written the same again.
        if let Some(all) = read(&bytes) {
            prop_assert_eq!(read(&written(&all)), Some(all));
        }
    }

    #[test]
    fn a_record_that_is_cut_or_longer_is_none(all in vec(kept(), 1..3), cut in any::<prop::sample::Index>()) {
        let whole = written(&all);
        prop_assert_eq!(read(&whole[..cut.index(whole.len())]), None);
        prop_assert_eq!(read(&[&whole[..], &[0]].concat()), None);
    }
}

#[test]
fn the_form_of_version_1_stands() {
    // Kept by a process of yesterday, read by one of tomorrow: this text may never change.
    let record = written(&[one()]);
    let expected = [
        &[1, 1][..],
        &7_u64.to_be_bytes(),
        &[9; 32],
        &[0, 13],
        b"call@host\0a\0b",
        &[0b11111, 2, 0, 4, 10, 0, 1, 50, 0x13, 0xc5],
        &7_u64.to_be_bytes(),
        &[0, 20],
        b"sips:117@192.168.1.7",
        &[0, 1, 0, 19],
        b"<sips:10.0.1.50;lr>",
    ]
    .concat();
    assert_eq!(record, expected);
}

#[test]
fn what_is_no_record_of_this_version_is_refused() {
    let good = written(&[one()]);
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    for (bad, why) in [
        (Vec::new(), "empty"),
        (with(0, 2), "version"),
        (with(1, 2), "more dialogs than there are"),
        (with(44, b'\0'), "an empty Call-ID"),
        (with(57, 0x20), "an unknown flag"),
        (with(58, 3), "an unknown transport"),
        (with(60, 5), "an address of five octets"),
        (vec![VERSION; MOST + 1], "too long"),
    ] {
        assert_eq!(read(&bad), None, "{why}");
    }
}

#[test]
fn what_does_not_fit_is_left_out() {
    let mut long = one();
    long.routes = Some(vec![vec![b'r'; 60_000]; 2]);
    assert_eq!(read(&written(&[one(), long.clone(), one()])), Some(vec![one(), one()]));
    long.routes = Some(vec![vec![b'r'; 70_000]]);
    assert_eq!(read(&written(&[long.clone()])), Some(vec![]));
    long.routes = Some(vec![Vec::new(); ROUTES + 1]);
    assert_eq!(read(&written(&[long])), Some(vec![]));
    let many = written(&vec![one(); 300]);
    assert_eq!(read(&many).map(|all| all.len()), Some(255));
    assert!(many.len() <= MOST);
}
