use super::cipher::expand;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    data_encoding::HEXLOWER.decode(text.to_lowercase().as_bytes()).unwrap()
}

/// RFC 3711 §B.3.
fn master(suite: Suite) -> Key {
    let text = "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6";
    Key::new(suite, &hex(text)).unwrap()
}

fn key(suite: Suite) -> Key {
    let octets: Vec<u8> = (0..suite.key_octets() + suite.salt_octets()).map(|n| n as u8 ^ 0x5a).collect();
    Key::new(suite, &octets).unwrap()
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    [&[0x80, 8, high, low, 0, 0, 0, 1][..], &ssrc.to_be_bytes(), payload].concat()
}

const REPORT: [u8; 28] =
    [0x80, 200, 0, 6, 0, 0, 0, 9, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5];

#[test]
fn session_keys_of_rfc_3711_b_3() {
    let key = master(Suite::AesCm80);
    let (master, salt) = key.octets().split_at(16);
    let salt: [u8; 14] = salt.try_into().unwrap();
    let derived = |label, octets| {
        let mut out = vec![0; octets];
        expand(master, salt, label, &mut out).unwrap();
        out
    };
    assert_eq!(derived(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derived(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let mac = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327A";
    assert_eq!(derived(1, 40), hex(mac));
}

#[test]
fn key_stream_of_rfc_3711_b_2() {
    let stream = cipher::key_stream(
        &hex("2B7E151628AED2A6ABF7158809CF4F3C"),
        &hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
        48,
    );
    let text =
        "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream, hex(text));
}

/// The packet that libsrtp's self-test (RFC 3711's keys) gives.
#[test]
fn a_packet_as_others_make_it() {
    let plain = hex("800f1234decafbadcafebabe abababababababababababababababab");
    let sealed = hex("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    let mut packet = plain.clone();
    Context::new(&master(Suite::AesCm80)).unwrap().protect(&mut packet).unwrap();
    assert_eq!(packet, sealed);
    let context = Context::new(&master(Suite::AesCm80)).unwrap();
    let _ = context.unprotect(&mut packet).unwrap();
    assert_eq!(packet, plain);
}

/// RFC 7714 §16.1.1: session key and salt as they are, roll-over counter 0.
#[test]
fn a_packet_of_rfc_7714() {
    let mut packet = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573",
    );
    let tag = cipher::gcm_128(
        &hex("000102030405060708090a0b0c0d0e0f"),
        &hex("517569642070726f2071756f"),
        &mut packet,
        (12, 0x5501_a0b2, 0xf17b),
    );
    let text = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833";
    assert_eq!(packet, hex(text));
    assert_eq!(tag, hex("899d7f27 beb16a91 52cf765e e4390cce"));
}

/// What libsrtp makes of packets with contributing sources, extensions and padding, across a roll-over and out of order.
#[test]
fn packets_as_libsrtp_seals_them() {
    let (mut send, mut receive, mut lines) = (None, None, 0);
    for line in include_str!("libsrtp.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["key", suite, octets] = words[..] {
            let key = Key::new(Suite::parse(suite.as_bytes()).unwrap(), &hex(octets)).unwrap();
            (send, receive) = (Context::new(&key), Context::new(&key));
            continue;
        }
        let (plain, theirs) = (hex(words[0]), hex(words[1]));
        if !rtcp::is_type(plain[1]) {
            let mut ours = plain.clone();
            send.as_mut().unwrap().protect(&mut ours).unwrap();
            assert_eq!(ours, theirs, "{line}");
        }
        assert_eq!(taken(receive.as_mut().unwrap(), theirs.clone()), Ok(plain), "{line}");
        assert_eq!(taken(receive.as_mut().unwrap(), theirs), Err(Fault::Replay));
        lines += 1;
    }
    assert_eq!(lines, 84);
}

#[test]
fn every_suite_there_and_back() {
    for suite in Suite::ALL {
        let (mut send, mut receive) =
            (Context::new(&key(suite)).unwrap(), Context::new(&key(suite)).unwrap());
        for (plain, tag) in [
            (rtp(7, 1, b"hello"), suite.tag(false)),
            (rtp(7, 2, b""), suite.tag(false)),
            (REPORT.to_vec(), suite.tag(true) + INDEX),
            (REPORT[..8].iter().copied().chain([0; 20]).collect(), suite.tag(true) + INDEX),
        ] {
            let mut packet = plain.clone();
            send.protect(&mut packet).unwrap();
            assert_eq!(packet.len(), plain.len() + tag, "{suite:?}");
            assert!(tag <= GROWTH);
            let sealed = packet.clone();
            for at in 0..sealed.len() {
                let mut broken = sealed.clone();
                broken[at] ^= 1;
                assert!(receive.unprotect(&mut broken).is_err(), "{suite:?} octet {at}");
            }
            for cut in 0..sealed.len() {
                assert!(receive.unprotect(&mut sealed[..cut].to_vec()).is_err(), "{suite:?} {cut}");
            }
            let opened = receive.unprotect(&mut packet).unwrap();
            assert_eq!(packet, plain, "{suite:?}");
            receive.accept(opened);
            assert_eq!(receive.unprotect(&mut sealed.clone()), Err(Fault::Replay), "{suite:?}");
        }
    }
}

#[test]
fn numbers_roll_over_and_come_out_of_order() {
    let (mut send, mut receive) =
        (Context::new(&key(Suite::AesCm32)).unwrap(), Context::new(&key(Suite::AesCm32)).unwrap());
    let mut sealed = Vec::new();
    for count in 65_000..131_200_u32 {
        let mut packet = rtp(9, count as u16, &count.to_be_bytes());
        send.protect(&mut packet).unwrap();
        sealed.push(packet);
    }
    // Every second packet after its follower, some lost.
    for pair in sealed.chunks_exact(2).filter(|pair| pair[0][3] != 0x40) {
        for mut packet in [pair[1].clone(), pair[0].clone()] {
            let opened = receive.unprotect(&mut packet).unwrap();
            receive.accept(opened);
        }
    }
    let old = sealed.len() - 80;
    assert_eq!(receive.unprotect(&mut sealed[old].clone()), Err(Fault::Replay), "beyond the window");
    let other = rtp(10, 5, b"x");
    let mut packet = other.clone();
    send.protect(&mut packet).unwrap();
    let opened = receive.unprotect(&mut packet).unwrap();
    receive.accept(opened);
    assert_eq!(packet, other, "a second source begins at no roll-over");
}

#[test]
fn a_number_is_used_once() {
    let mut send = Context::new(&key(Suite::AesCm80)).unwrap();
    send.protect(&mut rtp(7, 100, b"one")).unwrap();
    assert_eq!(send.protect(&mut rtp(7, 100, b"two")), Err(Fault::Replay));
    send.protect(&mut rtp(7, 99, b"late")).unwrap();
    send.protect(&mut rtp(8, 100, b"of another")).unwrap();
}

#[test]
fn a_packet_that_was_not_let_in_may_come_again() {
    let (mut send, mut receive) =
        (Context::new(&key(Suite::Gcm128)).unwrap(), Context::new(&key(Suite::Gcm128)).unwrap());
    let mut packet = rtp(7, 1, b"hello");
    send.protect(&mut packet).unwrap();
    let _ = receive.unprotect(&mut packet.clone()).unwrap();
    let opened = receive.unprotect(&mut packet).unwrap();
    receive.accept(opened);
}

fn sealed(send: &mut Context, plain: &[u8]) -> Vec<u8> {
    let mut packet = plain.to_vec();
    send.protect(&mut packet).unwrap();
    packet
}

fn taken(receive: &mut Context, mut packet: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let opened = receive.unprotect(&mut packet)?;
    receive.accept(opened);
    Ok(packet)
}

/// RFC 3711 §9.1: no key stream twice, whoever speaks in between.
#[test]
fn who_speaks_stays_known_and_who_was_forgotten_does_not_begin_anew() {
    let new = || Context::new(&key(Suite::AesCm80)).unwrap();
    let (mut send, mut receive) = (new(), new());
    let first = sealed(&mut send, &rtp(1, 65_535, b"before"));
    taken(&mut receive, first).unwrap();
    let old = sealed(&mut send, &rtp(2, 7, b"of old"));
    taken(&mut receive, old.clone()).unwrap();
    for other in 100..200 {
        let packet = sealed(&mut send, &rtp(other, 1, b"another"));
        taken(&mut receive, packet).unwrap();
        // It goes on all the time, and its roll-over counter with it.
        let plain = rtp(1, (other - 100) as u16, b"still there");
        let packet = sealed(&mut send, &plain);
        assert_eq!(taken(&mut receive, packet), Ok(plain), "after {other}");
    }
    assert_eq!(
        send.protect(&mut rtp(2, 7, b"different")),
        Err(Fault::Replay),
        "under a key stream that was used"
    );
    assert_eq!(taken(&mut receive, old), Err(Fault::Replay), "brought again by somebody");
    // As many as one likes, and they cost no more memory for it.
    let begun = (1_000..100_000).filter(|ssrc| send.protect(&mut rtp(*ssrc, 1, b"x")).is_ok()).count();
    assert!((100..300).contains(&begun), "{begun}");
    send.protect(&mut rtp(99_999, 2, b"x")).unwrap_err();
}

/// RFC 3711 §3.3.1: a roll-over counter goes on under the next key. Many make all anew.
#[test]
fn another_key_in_the_middle() {
    for suite in Suite::ALL {
        let (old, new) = (key(suite), Key::new(suite, &vec![9; key(suite).octets().len()]).unwrap());
        let context = |key| Context::new(key).unwrap();
        for goes_on in [true, false] {
            let (mut send, mut receive) = (context(&old), context(&old));
            for sequence in [65_000, 65_535, 3] {
                let packet = sealed(&mut send, &rtp(7, sequence, b"x"));
                taken(&mut receive, packet).unwrap();
            }
            let report = sealed(&mut send, &REPORT);
            taken(&mut receive, report).unwrap();
            receive = receive.receive_on(&new).unwrap();
            assert_eq!(taken(&mut receive, sealed(&mut context(&old), &rtp(8, 4, b"x"))), Err(Fault::Auth));
            send = if goes_on { send.send_on(&new).unwrap() } else { context(&new) };
            assert_eq!(goes_on, send.next_rtcp == 1);
            for sequence in [4, 5] {
                let plain = rtp(7, sequence, b"y");
                let packet = sealed(&mut send, &plain);
                assert_eq!(taken(&mut receive, packet.clone()), Ok(plain), "{suite:?} {goes_on}");
                assert_eq!(taken(&mut receive, packet), Err(Fault::Replay));
            }
        }
    }
}

/// What a phone sends before its call is answered nobody takes: its numbers may have rolled over meanwhile.
#[test]
fn the_beginning_may_have_been_missed() {
    for suite in Suite::ALL {
        let new = || Context::new(&key(suite)).unwrap();
        let (mut send, mut receive) = (new(), new());
        let early = sealed(&mut send, &rtp(7, 65_530, b"nobody listens"));
        let late = sealed(&mut send, &rtp(7, 4, b"answered"));
        let mut forged = late.clone();
        forged[14] ^= 1;
        assert_eq!(taken(&mut receive, forged), Err(Fault::Auth));
        assert_eq!(taken(&mut receive, late.clone()), Ok(rtp(7, 4, b"answered")), "{suite:?}");
        assert_eq!(taken(&mut receive, late), Err(Fault::Replay));
        assert_eq!(taken(&mut receive, early), Ok(rtp(7, 65_530, b"nobody listens")), "within the window");
        // Not of those that come later: who forges names has no second try.
        let mut other = new();
        sealed(&mut other, &rtp(8, 65_530, b"x"));
        assert_eq!(taken(&mut receive, sealed(&mut other, &rtp(8, 4, b"x"))), Err(Fault::Auth));
    }
}

#[test]
fn another_relay_goes_on_behind_what_it_is_told() {
    for suite in Suite::ALL {
        let new = || Context::new(&key(suite)).unwrap();
        // A far end, and the relay between: two contexts each.
        let (mut there, mut heard, mut we, mut ours) = (new(), new(), new(), new());
        for sequence in [65_000, 65_535, 3] {
            taken(&mut ours, sealed(&mut there, &rtp(7, sequence, b"to us"))).unwrap();
            taken(&mut heard, sealed(&mut we, &rtp(9, sequence, b"from us"))).unwrap();
        }
        taken(&mut ours, sealed(&mut there, &REPORT)).unwrap();
        taken(&mut heard, sealed(&mut we, &REPORT)).unwrap();
        let replayed = sealed(&mut there, &rtp(7, 4, b"last"));
        taken(&mut ours, replayed.clone()).unwrap();
        let reached = Context::reached(&we, &ours);
        let mut we = Context::send_from(&key(suite), &reached).unwrap();
        let mut ours = Context::receive_from(&key(suite), &reached).unwrap();
        assert_eq!(taken(&mut ours, replayed), Err(Fault::Replay));
        for plain in [rtp(7, 300, b"to us"), REPORT.to_vec()] {
            assert_eq!(taken(&mut ours, sealed(&mut there, &plain)), Ok(plain), "{suite:?}");
        }
        assert_eq!(we.protect(&mut rtp(9, 3, b"again")), Err(Fault::Replay));
        for plain in [rtp(9, 300, b"from us"), REPORT.to_vec()] {
            assert_eq!(taken(&mut heard, sealed(&mut we, &plain)), Ok(plain), "{suite:?}");
        }
    }
}

#[test]
fn lines_that_can_be_followed() {
    let inline = "inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
    let line = |rest: &str| Crypto::parse(format!("crypto:{rest}").as_bytes());
    let plain = line(&format!("1 AES_CM_128_HMAC_SHA1_80 {inline}")).unwrap();
    assert_eq!((plain.tag, plain.key.suite()), (1, Suite::AesCm80));
    assert_eq!(plain.write(), format!("crypto:1 AES_CM_128_HMAC_SHA1_80 {inline}"));
    for good in [
        format!("001 AES_CM_128_HMAC_SHA1_80 {inline}|2^20"),
        format!("1 AES_CM_128_HMAC_SHA1_80 {inline} WSH=64"),
        format!("1  AES_CM_128_HMAC_SHA1_80  {inline} -X-UNKNOWN"),
        format!("1 aes_cm_128_hmac_sha1_80 {inline}"),
    ] {
        assert_eq!(line(&good), Some(plain.clone()), "{good}");
    }
    for other in [
        format!("1 AES_CM_128_HMAC_SHA1_80 {inline}|2^20|1:4"),
        format!("1 AES_CM_128_HMAC_SHA1_80 {inline};{inline}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 {inline} UNENCRYPTED_SRTCP"),
        format!("1 AES_CM_128_HMAC_SHA1_80 {inline} UNAUTHENTICATED_SRTP"),
        format!("1 F8_128_HMAC_SHA1_80 {inline}"),
        format!("1 AEAD_AES_256_GCM {inline}"),
        format!("x AES_CM_128_HMAC_SHA1_80 {inline}"),
        format!("1234567890 AES_CM_128_HMAC_SHA1_80 {inline}"),
        "1 AES_CM_128_HMAC_SHA1_80 inline:d0Rm".to_owned(),
        "1 AES_CM_128_HMAC_SHA1_80 inline:!!".to_owned(),
        "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
        String::new(),
    ] {
        assert_eq!(line(&other), None, "{other}");
    }
}

#[test]
fn keys_do_not_show() {
    let keys = Keys { send: master(Suite::AesCm80), receive: key(Suite::Gcm256), reached: None };
    let crypto = Crypto { tag: 1, key: keys.send.clone() };
    let context = Context::new(&keys.send).unwrap();
    let text = format!("{keys:?} {crypto:?} {context:?}");
    assert!(text.contains("AesCm80"), "{text}");
    for secret in ["225, 249", "e1f9", "E1F9", "0xe1", "4fl6"] {
        assert!(!text.contains(secret), "{text}");
    }
}
