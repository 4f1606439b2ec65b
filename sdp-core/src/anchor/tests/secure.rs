//! SRTP that ends with us (SDP-05): what descriptions say and what packets become, with a far end of its own keys.

use super::*;
use crate::policy::{Srtp, SrtpSides};
use crate::srtp::{Context, Crypto, Key, Suite};

mod numbers;

use Srtp::{Off, Preferred, Required};

const KEY: &str = "inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

fn rig(outside: Srtp, inside: Srtp) -> Rig {
    Rig::new(|config| {
        config.policy.srtp = Some(SrtpSides { outside, inside });
        config.seed = Some([3; 32].into());
        config.keep_state = true;
    })
}

fn line(token: &str, crypto: &[String]) -> String {
    crypto.iter().fold(format!("{token}\r\n"), |all, line| format!("{all}a={line}\r\n"))
}

/// A description whose line has this profile and these keys.
fn speaks(host: &str, port: u16, token: &str, crypto: &[String]) -> String {
    let plain = audio(host, port).replace("RTP/AVP", token);
    crypto.iter().fold(plain, |all, line| format!("{all}a={line}\r\n"))
}

fn theirs(tag: u32, suite: Suite) -> Crypto {
    let octets: Vec<u8> = (0..suite.key_octets() + suite.salt_octets()).map(|n| (7 * n) as u8).collect();
    Crypto { tag, key: Key::new(suite, &octets).unwrap() }
}

fn tokens(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("m=")).filter_map(|line| line.split(' ').nth(2)).collect()
}

fn cryptos(sdp: &str) -> Vec<Crypto> {
    let values = sdp.lines().filter_map(|line| line.strip_prefix("a="));
    values.filter_map(|value| Crypto::parse(value.as_bytes())).collect()
}

/// Sends and gives what leaves.
fn through(rig: &mut Rig, to: SocketAddr, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let before = rig.packet(to, from, 60, bytes)?;
    assert!(before.1.port() != 0);
    Some(rig.table.changed().to_vec())
}

#[test]
fn a_phone_with_srtp_and_a_switch_without() {
    for suite in Suite::ALL {
        let mut rig = rig(Preferred, Off);
        let phone = theirs(5, suite);
        let offer =
            rig.offer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]));
        let inner = at(INNER, ports(&offer)[0]);
        assert_eq!(offer, audio(INNER, inner.port()), "plain, and no key of the phone's");
        let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        let outer = at(OUTER, ports(&answer)[0]);
        let [ours] = &cryptos(&answer)[..] else { panic!("{answer}") };
        assert_eq!((ours.tag, ours.key.suite()), (5, suite));
        assert_ne!(ours.key, phone.key);
        assert_eq!(answer, speaks(OUTER, outer.port(), "RTP/SAVP", &[ours.write()]));

        let mut send = Context::new(&phone.key).unwrap();
        let receive = Context::new(&ours.key).unwrap();
        let mut sealed = rtp(1);
        send.protect(&mut sealed).unwrap();
        let (nat, pbx) = (at(PHONE_A, 61000), at("10.0.1.60", 5000));
        assert_eq!(rig.packet(outer, nat, 60, &rtp(1)), None, "in clear it is nobody's");
        assert_eq!(through(&mut rig, outer, nat, &sealed), Some(rtp(1)));
        assert_eq!(rig.packet(outer, nat, 60, &sealed), None, "once");
        let mut back = through(&mut rig, inner, pbx, &rtp(9)).unwrap();
        assert_ne!(back, rtp(9));
        let _ = receive.unprotect(&mut back).unwrap();
        assert_eq!(back, rtp(9));
        let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
        let mut sealed = report.to_vec();
        send.protect(&mut sealed).unwrap();
        let (outer_rtcp, nat_rtcp) = (at(OUTER, outer.port() + 1), at(PHONE_A, 61001));
        assert_eq!(through(&mut rig, outer_rtcp, nat_rtcp, &sealed), Some(report.to_vec()));
        let mut back =
            through(&mut rig, at(INNER, inner.port() + 1), at("10.0.1.60", 5001), &report).unwrap();
        let _ = receive.unprotect(&mut back).unwrap();
        assert_eq!(back, report);
    }
}

#[test]
fn a_stranger_without_the_key_latches_nothing_and_is_counted() {
    let mut rig = rig(Required, Off);
    let phone = theirs(1, Suite::AesCm80);
    let offer = speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]);
    let inner = at(INNER, ports(&rig.offer(1, Side::Outside, PHONE_A, &offer))[0]);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&answer)[0]);
    // From the phone's own address, as another behind its NAT would.
    let mut forged = rtp(1);
    Context::new(&theirs(1, Suite::AesCm32).key).unwrap().protect(&mut forged).unwrap();
    assert_eq!(rig.packet(outer, at(PHONE_A, 61999), 60, &forged), None);
    assert_eq!(rig.packet(inner, at("10.0.1.60", 5000), 60, &rtp(1)), None, "nobody to send to yet");
    rig.now += Duration::from_secs(20);
    rig.table.handle_timeout(rig.now);
    rig.settle();
    let (_, outside, _) = rig.anchor.statistics(1).next().unwrap();
    assert_eq!((outside.dropped.auth, outside.senders, outside.received_rtp), (1, 0, 0));
}

#[test]
fn rules_of_offers() {
    let key = |tag| vec![theirs(tag, Suite::AesCm80).write()];
    let none = Vec::new;
    let f8 = vec![format!("crypto:1 F8_128_HMAC_SHA1_80 {KEY}")];
    // What the phone offers, the two rules, and the profile and number of keys that the PBX sees.
    for (token, crypto, outside, inside, seen) in [
        ("RTP/AVP", none(), Off, Off, Some(("RTP/AVP", 0))),
        ("RTP/AVP", none(), Preferred, Required, Some(("RTP/SAVP", 4))),
        ("RTP/AVPF", none(), Off, Required, Some(("RTP/SAVPF", 4))),
        ("RTP/AVP", none(), Off, Preferred, Some(("RTP/AVP", 4))),
        ("RTP/AVP", none(), Required, Off, None),
        ("RTP/SAVP", key(1), Required, Off, Some(("RTP/AVP", 0))),
        ("RTP/SAVPF", key(1), Required, Preferred, Some(("RTP/AVPF", 4))),
        ("RTP/SAVP", key(1), Required, Required, Some(("RTP/SAVP", 4))),
        ("RTP/SAVP", key(1), Off, Off, None),
        ("RTP/SAVP", none(), Preferred, Off, None),
        ("RTP/SAVP", f8.clone(), Preferred, Off, None),
        ("RTP/SAVP", [f8.clone(), key(2)].concat(), Preferred, Off, Some(("RTP/AVP", 0))),
        ("RTP/AVP", f8, Preferred, Off, Some(("RTP/AVP", 0))),
        ("RTP/AVP", key(1), Preferred, Off, Some(("RTP/AVP", 0))),
        ("RTP/AVP", key(1), Off, Off, Some(("RTP/AVP", 0))),
        ("UDP/TLS/RTP/SAVP", none(), Preferred, Off, None),
    ] {
        let mut rig = rig(outside, inside);
        let offer = speaks("192.168.1.7", 30000, token, &crypto);
        let case = format!("{offer} {outside:?} {inside:?}");
        match (rig.try_offer(1, Side::Outside, PHONE_A, &offer), seen) {
            (Ok(offer), Some((token, keys))) => {
                assert_eq!((tokens(&offer), cryptos(&offer).len()), (vec![token], keys), "{case}");
                assert_eq!(offer.matches("a=crypto").count(), keys, "{case}");
                let ours = cryptos(&offer);
                assert!(ours.iter().all(|one| ours.iter().filter(|other| other.key == one.key).count() == 1));
            }
            (Err(refusal), None) => {
                assert_eq!(refusal, Refusal::NotAcceptable(NotAcceptable::Srtp), "{case}");
                assert_eq!(rig.anchor.sessions(), 0);
            }
            (other, _) => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn rules_of_answers() {
    // The rule inside, what the PBX answers (`true`: with the second of our keys' suites), and what comes of it.
    for (inside, token, keyed, accepted) in [
        (Off, "RTP/AVP", false, true),
        (Off, "RTP/SAVP", true, false),
        (Required, "RTP/SAVP", true, true),
        (Required, "RTP/SAVP", false, false),
        (Required, "RTP/AVP", false, false),
        (Preferred, "RTP/AVP", true, true),
        (Preferred, "RTP/AVP", false, true),
        (Preferred, "RTP/SAVP", false, false),
    ] {
        let mut rig = rig(Off, inside);
        let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
        let (inner, pbx) = (at(INNER, ports(&offer)[0]), theirs(2, Suite::AesCm32));
        let crypto: Vec<String> = keyed.then(|| pbx.write()).into_iter().collect();
        let answer = rig.try_answer(1, Side::Inside, PBX, &speaks("10.0.1.60", 5000, token, &crypto));
        let case = format!("{inside:?} {token} {keyed}");
        let Ok(answer) = answer else {
            assert!(!accepted, "{case}: {answer:?}");
            continue;
        };
        assert!(accepted, "{case}");
        let outer = at(OUTER, ports(&answer)[0]);
        assert_eq!(answer, audio(OUTER, outer.port()), "{case}");
        let sent = rig.packet(outer, at(PHONE_A, 61000), 60, &rtp(1));
        assert_eq!(sent.map(|sent| sent.1), Some(at("10.0.1.60", 5000)));
        if keyed {
            let mut sealed = rig.table.changed().to_vec();
            let ours = cryptos(&offer).into_iter().find(|ours| ours.tag == 2).unwrap();
            let _ = Context::new(&ours.key).unwrap().unprotect(&mut sealed).unwrap();
            assert_eq!(sealed, rtp(1));
            let mut sealed = rtp(2);
            Context::new(&pbx.key).unwrap().protect(&mut sealed).unwrap();
            assert_eq!(through(&mut rig, inner, at("10.0.1.60", 5000), &sealed), Some(rtp(2)));
        }
    }
    // A key under a number that was not offered so.
    let mut rig = rig(Off, Required);
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let wrong = speaks("10.0.1.60", 5000, "RTP/SAVP", &[theirs(1, Suite::AesCm32).write()]);
    assert!(rig.try_answer(1, Side::Inside, PBX, &wrong).is_err());
}

/// The phones of the field: RTP and SRTP at one port.
#[test]
fn of_alternatives_the_one_that_fits_is_taken() {
    for (outside, taken) in [(Off, 0), (Preferred, 1), (Required, 1)] {
        for secure_first in [false, true] {
            let taken = if secure_first { 1 - taken } else { taken };
            let mut rig = rig(outside, Off);
            let key = line("", &[theirs(1, Suite::AesCm80).write()]);
            let mut lines =
                ["m=audio 30000 RTP/AVP 0 8\r\n".to_owned(), format!("m=audio 30000 RTP/SAVP 0 8{key}")];
            if secure_first {
                lines.reverse();
            }
            let head = audio("192.168.1.7", 30000).replace("m=audio 30000 RTP/AVP 0 8\r\n", "");
            let offer = rig.offer(1, Side::Outside, PHONE_A, &format!("{head}{}{}", lines[0], lines[1]));
            let live = ports(&offer);
            assert_eq!(
                live.iter().map(|port| *port != 0).collect::<Vec<_>>(),
                [taken == 0, taken == 1],
                "{offer}"
            );
            assert_eq!(tokens(&offer)[taken], "RTP/AVP");
            assert!(!offer.contains("crypto"), "{offer}");
            // The switch answers line by line.
            let answer = ["0", "0"].map(str::to_owned);
            let mut answer = answer;
            answer[taken] = "5000".to_owned();
            let head = audio("10.0.1.60", 5000).replace("m=audio 5000 RTP/AVP 0 8\r\n", "");
            let tokens_seen = tokens(&offer);
            let answer = format!(
                "{head}m=audio {} {} 0\r\nm=audio {} {} 0\r\n",
                answer[0], tokens_seen[0], answer[1], tokens_seen[1]
            );
            let answer = rig.answer(1, Side::Inside, PBX, &answer);
            let secure = if secure_first { 0 } else { 1 };
            assert_eq!(tokens(&answer)[secure], "RTP/SAVP", "{answer}");
            assert_eq!(tokens(&answer)[1 - secure], "RTP/AVP", "{answer}");
            assert_eq!(cryptos(&answer).len(), usize::from(taken == secure), "{answer}");
        }
    }
}

#[test]
fn a_second_offer_keeps_our_keys_and_where_they_are() {
    let mut rig = rig(Required, Off);
    let phone = theirs(1, Suite::AesCm80);
    let offer = speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]);
    let inner = at(INNER, ports(&rig.offer(1, Side::Outside, PHONE_A, &offer))[0]);
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let (outer, ours) = (at(OUTER, ports(&answer)[0]), cryptos(&answer));
    let mut send = Context::new(&phone.key).unwrap();
    let mut sealed = rtp(1);
    send.protect(&mut sealed).unwrap();
    through(&mut rig, outer, at(PHONE_A, 61000), &sealed).unwrap();
    // The switch holds.
    let hold = audio("10.0.1.60", 5000) + "a=sendonly\r\n";
    let offered = rig.offer(1, Side::Inside, PBX, &hold);
    assert_eq!(tokens(&offered), ["RTP/SAVP"]);
    let again = cryptos(&offered).into_iter().find(|crypto| crypto.key.suite() == Suite::AesCm80).unwrap();
    assert_eq!(again.key, ours[0].key);
    let crypto = Crypto { tag: again.tag, key: phone.key };
    let held = speaks("192.168.1.7", 30000, "RTP/SAVP", &[crypto.write()]) + "a=recvonly\r\n";
    assert_eq!(rig.answer(1, Side::Outside, PHONE_A, &held), audio(INNER, inner.port()) + "a=recvonly\r\n");
    assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 60, &sealed), None, "still once");
    let mut next = rtp(2);
    send.protect(&mut next).unwrap();
    assert_eq!(through(&mut rig, outer, at(PHONE_A, 61000), &next), Some(rtp(2)));
}

#[test]
fn keys_are_not_shown_and_need_the_relay() {
    let mut rig = rig(Required, Required);
    let phone = theirs(1, Suite::AesCm80);
    rig.offer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]));
    rig.answer(1, Side::Inside, PBX, &speaks("10.0.1.60", 5000, "RTP/SAVP", &[phone.write()]));
    let setup = rig.anchor.streams(1).next().unwrap().setup.clone();
    assert!(setup.outside.srtp.is_some() && setup.inside.srtp.is_some() && !setup.secure);
    assert!(rig.commands.iter().any(|command| matches!(command, Command::Record { .. })));
    let text = format!("{:?} {setup:?} {:?} {:?}", rig.anchor.sessions.get(&1), rig.commands, rig.table);
    for secret in ["7, 14, 21", "BwcO", "0, 7, 14"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(rig.anchor.config.policy.needs_relay());
}

#[test]
fn two_phones_that_meet_in_one_hop_have_a_key_each() {
    let mut rig = rig(Required, Off);
    let (a, b) = (theirs(1, Suite::AesCm80), theirs(2, Suite::AesCm32));
    let sdp = |crypto: &Crypto, host| speaks(host, 30000, "RTP/SAVP", &[crypto.write()]);
    let inner_a = ports(&rig.offer(1, Side::Outside, PHONE_A, &sdp(&a, "192.168.1.7")))[0];
    // The switch leaves media alone: what it passes on is ours.
    let to_b = rig.offer(2, Side::Inside, PBX, &audio(INNER, inner_a));
    assert_eq!(tokens(&to_b), ["RTP/SAVP"]);
    let outer_b = ports(&to_b)[0];
    let inner_b = ports(&rig.answer(2, Side::Outside, PHONE_B, &sdp(&b, "192.168.2.8")))[0];
    let answer = rig.answer(1, Side::Inside, PBX, &audio(INNER, inner_b));
    let ours_b = cryptos(&to_b).into_iter().find(|crypto| crypto.tag == 2).unwrap();
    assert_ne!(cryptos(&answer)[0].key, ours_b.key);
    let mut sealed = rtp(1);
    Context::new(&b.key).unwrap().protect(&mut sealed).unwrap();
    rig.packet(at(OUTER, outer_b), at(PHONE_B, 62000), 60, &sealed);
    let mut sealed = rtp(7);
    Context::new(&a.key).unwrap().protect(&mut sealed).unwrap();
    let (outer_a, from) = (at(OUTER, ports(&answer)[0]), at(PHONE_A, 61000));
    let sent = rig.packet(outer_a, from, 60, &sealed).unwrap();
    assert_eq!((sent.0.port(), sent.1), (outer_b, at(PHONE_B, 62000)), "outside to outside");
    let mut heard = rig.table.changed().to_vec();
    let _ = Context::new(&ours_b.key).unwrap().unprotect(&mut heard).unwrap();
    assert_eq!(heard, rtp(7));
}

/// `preferred`: who takes SRTP alone refuses the first form of the offer, and gets the other once.
#[test]
fn who_refuses_either_is_offered_srtp_alone_once() {
    for (from, rule, host) in
        [(Side::Inside, (Preferred, Off), PBX), (Side::Outside, (Off, Preferred), PHONE_A)]
    {
        let mut rig = rig(rule.0, rule.1);
        let to = from.other();
        let plain = audio(if from == Side::Inside { "10.0.1.60" } else { "192.168.1.7" }, 5000);
        let first = rig.offer(1, from, host, &plain);
        assert_eq!((tokens(&first), cryptos(&first).len()), (vec!["RTP/AVP"], 4));
        assert!(!rig.anchor.insist(1, from), "who offers has refused nothing");
        assert!(rig.anchor.insist(1, to));
        let second = rig.offer(1, from, host, &plain);
        assert_eq!(second, first.replace("RTP/AVP", "RTP/SAVP"), "the same ports and keys");
        assert!(!rig.anchor.insist(1, to), "once");
        let (host, phone) = if to == Side::Outside { (PHONE_A, "192.168.1.7") } else { (PBX, "10.0.1.60") };
        let key = theirs(1, Suite::AesCm80);
        let answer = rig.answer(1, to, host, &speaks(phone, 30000, "RTP/SAVP", &[key.write()]));
        assert_eq!(tokens(&answer), ["RTP/AVP"], "the other end has not heard of it");
        assert!(!rig.anchor.insist(1, to), "it was answered");
    }
    // Where there is no choice, and where SRTP passes, there is no other form.
    for rule in [(Required, Off), (Off, Off)] {
        let mut rig = rig(rule.0, rule.1);
        rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        assert!(!rig.anchor.insist(1, Side::Outside), "{rule:?}");
        assert!(!rig.anchor.insist(2, Side::Outside));
    }
}

/// A re-INVITE to a phone that has spoken SRTP is no step back, and one to a phone that left it is.
#[test]
fn who_has_spoken_srtp_is_offered_it_again() {
    let mut rig = rig(Preferred, Off);
    let key = theirs(1, Suite::AesCm80);
    rig.offer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, "RTP/SAVP", &[key.write()]));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let again = rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!((tokens(&again), cryptos(&again).len()), (vec!["RTP/SAVP"], 4));
    rig.answer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, "RTP/SAVP", &[key.write()]));
    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let again = rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!((tokens(&again), cryptos(&again).len()), (vec!["RTP/AVP"], 4));
}

/// Lync's `cryptoscale` is a key as well.
#[test]
fn no_key_of_the_author_is_left_in_whatever_attribute() {
    let mut rig = rig(Preferred, Off);
    let key = theirs(1, Suite::AesCm80).write();
    let scale = key.replace("crypto:1 ", "cryptoscale:1 client ");
    let offer =
        rig.offer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, "RTP/SAVP", &[scale, key]));
    assert_eq!(offer, audio(INNER, ports(&offer)[0]));
}

/// Forks that answer one offer got one key of ours with it, and each is answered for to the phone with another (MED-13).
#[test]
fn each_fork_has_keys_of_its_own_but_for_the_one_that_was_offered() {
    let mut rig = rig(Required, Required);
    rig.anchor.reconfigure(Policy { forked: true, ..rig.anchor.config.policy.clone() });
    let phone = theirs(1, Suite::AesCm80);
    let offer =
        rig.offer(1, Side::Outside, PHONE_A, &speaks("192.168.1.7", 30000, "RTP/SAVP", &[phone.write()]));
    let offered = cryptos(&offer).into_iter().find(|crypto| crypto.key.suite() == Suite::AesCm80).unwrap();
    let inner = at(INNER, ports(&offer)[0]);
    let mut told = Vec::new();
    let ends = [(7, "10.0.1.61", 7000), (8, "10.0.1.62", 8000)];
    for (fork, host, port) in ends {
        rig.anchor.set_fork(1, Some(fork));
        let own = Crypto { tag: offered.tag, ..theirs(1, Suite::AesCm80) };
        let answer = rig.answer(1, Side::Inside, host, &speaks(host, port, "RTP/SAVP", &[own.write()]));
        told.push((at(OUTER, ports(&answer)[0]), cryptos(&answer).remove(0).key));
    }
    assert!(told[0].0 != told[1].0 && told[0].1 != told[1].1);
    for ((_, host, port), (outer, key)) in ends.into_iter().zip(&told) {
        let nat = at(PHONE_A, outer.port() ^ 1);
        let mut sealed = rtp(1);
        Context::new(&phone.key).unwrap().protect(&mut sealed).unwrap();
        let mut heard = through(&mut rig, *outer, nat, &sealed).unwrap();
        let _ = Context::new(&offered.key).unwrap().unprotect(&mut heard).unwrap();
        assert_eq!(heard, rtp(1), "each fork opens it with the key that was offered");
        let mut sealed = rtp(9);
        Context::new(&theirs(1, Suite::AesCm80).key).unwrap().protect(&mut sealed).unwrap();
        let mut back = through(&mut rig, inner, at(host, port), &sealed).unwrap();
        let _ = Context::new(key).unwrap().unprotect(&mut back).unwrap();
        assert_eq!(back, rtp(9), "the phone by that of its dialog");
    }
}
