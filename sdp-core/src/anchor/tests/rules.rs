//! The rules of `[sdp]` as the anchor carries them out: refusals, what an answer learns of its offer, what the relay is told.

use super::*;
use crate::policy::{Codecs, Dtmf, MediaProxy, Rules};

fn ruled(rules: Rules) -> Rig {
    Rig::new(|config| config.policy.rules = rules)
}

fn with(sdp: &str, lines: &str) -> String {
    format!("{sdp}{lines}")
}

#[test]
fn an_answer_to_hold_is_mirrored_with_the_offer_in_mind() {
    for rules in [
        Rules { hold_force_3264: true, ..Rules::default() },
        Rules { inhibit_hold: true, ..Rules::default() },
    ] {
        let inhibits = rules.inhibit_hold;
        let mut rig = ruled(rules);
        let (outer, inner) = rig.call(1);
        let hold = with(&audio("192.168.1.7", 30000), "a=sendonly\r\n");
        let offer = rig.offer(1, Side::Outside, PHONE_A, &hold);
        let seen = if inhibits { "a=sendrecv\r\n" } else { "a=sendonly\r\n" };
        assert_eq!(offer, with(&audio(INNER, inner.port()), seen));
        let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
        assert_eq!(answer, with(&audio(OUTER, outer.port()), "a=recvonly\r\n"));
        // Nothing is sent to who holds and does not tell.
        rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)).unwrap();
        let sent = rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(2));
        assert_eq!(sent.is_none(), inhibits, "{sent:?}");
        // Back to talk.
        assert_eq!(
            rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000)),
            audio(INNER, inner.port())
        );
        assert_eq!(rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000)), audio(OUTER, outer.port()));
        assert!(rig.packet(inner, at("10.0.1.60", 5000), 64, &rtp(3)).is_some());
    }
}

#[test]
fn hold_by_zero_both_ways_and_back() {
    for (rules, seen, connection) in [
        (Rules::default(), "a=sendonly\r\n", None),
        (Rules { hold_rfc2543: true, ..Rules::default() }, "", Some("c=IN IP4 0.0.0.0")),
    ] {
        let mut rig = ruled(rules);
        let (outer, inner) = rig.call(1);
        let hold = audio("10.0.1.60", 5000).replace("c=IN IP4 10.0.1.60", "c=IN IP4 0.0.0.0");
        let mut expected = with(&audio(OUTER, outer.port()), seen);
        if let Some(connection) = connection {
            expected = expected.replace(&format!("c=IN IP4 {OUTER}"), connection);
        }
        assert_eq!(rig.offer(1, Side::Inside, PBX, &hold), expected);
        rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
        assert_eq!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1)), None);
        assert_eq!(rig.offer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000)), audio(OUTER, outer.port()));
        assert_eq!(
            rig.answer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000)),
            audio(INNER, inner.port())
        );
        assert!(rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(2)).is_some());
    }
}

#[test]
fn nothing_left_of_the_codecs_is_not_acceptable() {
    let codecs = Some(Codecs::parse(&["opus"]).unwrap());
    let mut rig = ruled(Rules { codecs, ..Rules::default() });
    let refused = rig.try_offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(refused, Err(NotAcceptable::Codecs.into()));
    assert_eq!(rig.anchor.sessions(), 0);
    // One line with something left is enough.
    let opus = "m=audio 30002 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n";
    let offer = rig.offer(1, Side::Outside, PHONE_A, &with(&audio("192.168.1.7", 30000), opus));
    assert!(ports(&offer)[0] == 0 && ports(&offer)[1] != 0, "{offer}");
    // An answer of which nothing is left is refused as well.
    let answer = with(&audio("10.0.1.60", 5000), "m=audio 5002 RTP/AVP 8\r\n");
    assert_eq!(rig.try_answer(1, Side::Inside, PBX, &answer), Err(NotAcceptable::Codecs.into()));
}

#[test]
fn codecs_that_go_are_unknown_to_the_relay() {
    let codecs = Some(Codecs::parse(&["PCMA"]).unwrap());
    let mut rig = ruled(Rules { codecs, ..Rules::default() });
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert!(offer.contains("RTP/AVP 8\r\n"), "{offer}");
    let opened = rig.commands.iter().find_map(|command| match command {
        Command::Open { stream } => Some(stream.payloads),
        _ => None,
    });
    assert!(opened.is_some_and(|payloads| payloads.contains(8) && !payloads.contains(0)));
}

#[test]
fn fax_is_relayed_and_unknown_transports_are_declined_unless_they_may_pass() {
    let offered = with(
        &audio("192.168.1.7", 30000),
        "m=image 30002 udptl t38\r\na=T38FaxVersion:0\r\nm=message 30004 TCP/MSRP *\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    );
    let offer = ruled(Rules::default()).offer(1, Side::Outside, PHONE_A, &offered);
    let [audio_port, fax, message, data] = ports(&offer)[..] else { panic!("{offer}") };
    assert!(audio_port != 0 && fax != 0 && message == 0 && data == 0, "{offer}");

    let mut rig = ruled(Rules { pass_transports: vec!["TCP/MSRP".to_owned()], ..Rules::default() });
    let offer = rig.offer(1, Side::Outside, PHONE_A, &offered);
    assert!(offer.contains("m=message 30004 TCP/MSRP *\r\nc=IN IP4 192.168.1.7\r\n"), "{offer}");
    let answered = offered.replace("192.168.1.7", "10.0.1.60").replace("m=message 30004", "m=message 2855");
    let answer = rig.answer(1, Side::Inside, PBX, &answered);
    assert!(answer.contains("m=message 2855 TCP/MSRP *\r\nc=IN IP4 10.0.1.60\r\n"), "{answer}");
    let low = offered.replace("m=message 30004", "m=message 80");
    assert_eq!(rig.try_offer(2, Side::Outside, PHONE_A, &low), Err(NotAcceptable::Port(80).into()));
    let active = offered.replace("m=message 30004", "m=message 9");
    assert!(rig.offer(2, Side::Outside, PHONE_A, &active).contains("m=message 9 TCP/MSRP"), "setup:active");
}

/// SDP-21, MED-15: a line that turns from audio to fax and back keeps its ports; what is not of its kind is dropped.
#[test]
fn a_call_becomes_a_fax_and_a_call_again() {
    let mut rig = ruled(Rules::default());
    let (outer, inner) = rig.call(1);
    let (phone, pbx) = (at(PHONE_A, 61000), at("10.0.1.60", 5000));
    let udptl = |sequence: u8| [0, sequence, 1, 6, 0];
    assert!(
        rig.packet(outer, phone, 55, &rtp(1)).is_some() && rig.packet(outer, phone, 55, &udptl(1)).is_none()
    );

    let fax = |sdp: String| {
        sdp.replace("m=audio", "m=image").replace("RTP/AVP 0 8", "udptl t38\r\na=T38FaxVersion:0")
    };
    let offer = rig.offer(1, Side::Inside, PBX, &fax(audio("10.0.1.60", 5000)));
    assert_eq!(offer, fax(audio(OUTER, outer.port())));
    let answer = rig.answer(1, Side::Outside, PHONE_A, &fax(audio("192.168.1.7", 30000)));
    assert_eq!(answer, fax(audio(INNER, inner.port())));
    assert!(rig.packet(outer, phone, 55, &udptl(2)).is_some_and(|(_, to, _)| to == pbx));
    assert!(rig.packet(inner, pbx, 64, &udptl(1)).is_some_and(|(_, to, _)| to == phone));
    assert_eq!(rig.packet(outer, phone, 55, &rtp(2)[..3]), None);

    rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(answer, audio(OUTER, outer.port()));
    assert!(rig.packet(outer, phone, 55, &rtp(3)).is_some() && rig.packet(inner, pbx, 64, &rtp(9)).is_some());

    // A further line for the fax, and none for audio meanwhile: a relay of its own.
    let both = with(&audio("192.168.1.7", 0), "m=image 30002 udptl t38\r\n");
    let offer = rig.offer(1, Side::Outside, PHONE_A, &both);
    assert!(ports(&offer)[0] == 0 && ports(&offer)[1] != 0, "{offer}");
    let answer = with(&audio("10.0.1.60", 0), "m=image 5002 udptl t38\r\n");
    let answer = rig.answer(1, Side::Inside, PBX, &answer);
    let fax = at(OUTER, ports(&answer)[1]);
    assert!(rig.packet(fax, at(PHONE_A, 61002), 55, &udptl(1)).is_some());
    assert!(rig.packet(outer, phone, 55, &rtp(4)).is_none(), "audio is over");
}

#[test]
fn digits_are_added_towards_listed_peers_and_leave_the_answer() {
    let pbx = (ip("10.0.1.0"), ip("10.0.1.255"));
    let dtmf = Some(Dtmf { payload_type: 101, towards: vec![pbx] });
    let mut rig = ruled(Rules { dtmf, ..Rules::default() });
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let digits = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";
    let expected = with(&audio(INNER, ports(&offer)[0]), digits).replace("RTP/AVP 0 8", "RTP/AVP 0 8 101");
    assert_eq!(offer, expected);
    let answered = with(&audio("10.0.1.60", 5000), digits).replace("RTP/AVP 0 8", "RTP/AVP 0 101");
    let answer = rig.answer(1, Side::Inside, PBX, &answered);
    assert_eq!(answer, audio(OUTER, ports(&answer)[0]).replace("RTP/AVP 0 8", "RTP/AVP 0"));
    // Nobody listed.
    let offer = rig.offer(2, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(offer, audio(OUTER, ports(&offer)[0]));
}

#[test]
fn rules_change_for_offers_to_come() {
    let mut rig = ruled(Rules::default());
    let (_, inner) = rig.call(1);
    let policy = Policy { rules: Rules { force_ptime: Some(30), ..Rules::default() }, ..Policy::default() };
    rig.anchor.reconfigure(policy);
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    assert_eq!(offer, with(&audio(INNER, inner.port()), "a=ptime:30\r\n"));
}

/// What a line of a description says after this beginning.
fn said<'s>(sdp: &'s str, start: &str) -> Option<&'s str> {
    sdp.lines().find_map(|line| line.strip_prefix(start))
}

#[test]
fn each_side_gets_an_agent_of_ours_that_the_relay_answers_for() {
    let mut rig = Rig::new(|config| config.seed = Some([9; 32].into()));
    let ice = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=candidate:1 1 UDP 1 192.168.1.7 30000 typ host\r\n";
    let offer = rig.offer(1, Side::Outside, PHONE_A, &with(&audio("192.168.1.7", 30000), ice));
    let answer = rig.answer(
        1,
        Side::Inside,
        PBX,
        &with(&audio("10.0.1.60", 5000), &ice.replace("192.168.1.7", "10.0.1.60")),
    );
    let setup = rig.commands.iter().rev().find_map(|command| match command {
        Command::Update { stream } => Some(stream.clone()),
        _ => None,
    });
    let setup = setup.unwrap();
    for (sdp, leg, host) in [(&offer, &setup.inside, INNER), (&answer, &setup.outside, OUTER)] {
        let ours = leg.ice.as_ref().unwrap();
        assert_eq!(said(sdp, "a=ice-ufrag:"), Some(ours.ufrag.as_str()), "{sdp}");
        assert_eq!(said(sdp, "a=ice-pwd:"), Some(ours.password.as_str()));
        let candidate = format!("1 1 UDP 2130706431 {host} {} typ host", ports(sdp)[0]);
        assert_eq!(said(sdp, "a=candidate:"), Some(candidate.as_str()));
        assert!(
            sdp.contains("a=ice-lite\r\n") && !sdp.contains("192.168.1.7") && !sdp.contains("10.0.1.60"),
            "{sdp}"
        );
    }
    assert_ne!(setup.inside.ice, setup.outside.ice);
    // The next offer names the same agent, and one of another session names another.
    let again = rig.offer(1, Side::Outside, PHONE_A, &with(&audio("192.168.1.7", 30000), ice));
    assert_eq!(again, offer);
    let other = rig.offer(2, Side::Outside, PHONE_A, &with(&audio("192.168.1.7", 30000), ice));
    assert_ne!(said(&other, "a=ice-pwd:"), said(&offer, "a=ice-pwd:"));
}

#[test]
fn checks_are_answered_only_where_our_agent_was_named() {
    let mut rig = Rig::new(|config| config.seed = Some([9; 32].into()));
    let ice = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n";
    rig.offer(1, Side::Outside, PHONE_A, &with(&audio("192.168.1.7", 30000), ice));
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    assert_eq!(answer, audio(OUTER, ports(&answer)[0]), "no ICE in the answer: none is added");
    let setup = rig.commands.iter().rev().find_map(|command| match command {
        Command::Update { stream } => Some(stream.clone()),
        _ => None,
    });
    let setup = setup.unwrap();
    assert!(setup.inside.ice.is_some() && setup.outside.ice.is_none());
}

#[test]
fn a_discarded_rtcp_port_is_no_attack() {
    let mut rig = ruled(Rules::default());
    let sdp = with(&audio("192.168.1.7", 30000), "a=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\n");
    assert!(rig.offer(1, Side::Outside, PHONE_A, &sdp).contains("a=rtcp-mux"), "as browsers write it");
    let low = with(&audio("192.168.1.7", 30000), "a=rtcp:10\r\n");
    assert_eq!(rig.try_offer(2, Side::Outside, PHONE_A, &low), Err(NotAcceptable::Port(10).into()));
}

#[test]
fn ports_that_may_not_be_named_are_refused_unless_the_exception_stands() {
    let low = audio("192.168.1.7", 80);
    let mut rig = ruled(Rules::default());
    assert_eq!(rig.try_offer(1, Side::Outside, PHONE_A, &low), Err(NotAcceptable::Port(80).into()));
    let mut rig = Rig::new(|config| config.policy.allowed_ports = vec![1..=65535]);
    let offer = rig.offer(1, Side::Outside, PHONE_A, &low);
    assert_eq!(offer, audio(INNER, ports(&offer)[0]));
    let declined = rig.offer(2, Side::Outside, PHONE_A, &audio("192.168.1.7", 0));
    assert_eq!(ports(&declined), [0], "port 0 is declined, not refused");
}

/// MED-12: what the relay is told of a stream, by its setting and by what both ends have described.
#[test]
fn streams_that_can_be_read_are_continued() {
    let srtp = |host: &str, port: u16| audio(host, port).replace("RTP/AVP", "RTP/SAVP");
    let keyed = |host: &str, port: u16| {
        with(
            &audio(host, port),
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n",
        )
    };
    type Described = fn(&str, u16) -> String;
    let plain: Described = audio;
    for (proxy, offered, answered, continued) in [
        (MediaProxy::No, plain, plain, false),
        (MediaProxy::Use, plain, plain, true),
        (MediaProxy::Always, plain, plain, true),
        (MediaProxy::Use, srtp, srtp, false),
        (MediaProxy::Use, keyed, keyed, false),
        (MediaProxy::Use, plain, keyed, false),
    ] {
        let mut rig = Rig::new(|config| config.policy.proxy = proxy);
        rig.offer(1, Side::Outside, PHONE_A, &offered("192.168.1.7", 30000));
        rig.answer(1, Side::Inside, PBX, &answered("10.0.1.60", 5000));
        let told = rig.commands.iter().rev().find_map(|command| match command {
            Command::Update { stream } => Some(stream.is_continued()),
            _ => None,
        });
        assert_eq!(told, Some(continued), "{proxy:?} {}", answered("10.0.1.60", 5000));
    }
}
