//! Properties over random descriptions, placements and rules.

use proptest::prelude::*;

use super::*;
use crate::policy::Codecs;

/// Lines as phones write them, and some they should not.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("c=IN IP4 192.168.1.7".to_owned()),
        Just("c=IN IP6 2001:db8::7".to_owned()),
        (0u16.., prop::sample::select(vec!["RTP/AVP", "RTP/SAVP", "udptl", "TCP/MSRP"]))
            .prop_map(|(port, transport)| format!("m=audio {port} {transport} 0 101")),
        (0u16..).prop_map(|port| format!("a=rtcp:{port}")),
        (0u16..).prop_map(|port| format!("a=rtcp:{port} IN IP4 192.168.1.7")),
        Just("a=rtcp-mux".to_owned()),
        "[abikrtuyz]=[ -~]{0,40}",
    ]
}

proptest! {
    #[test]
    fn other_lines_are_identical_and_ours_are_only_ours(
        lines in prop::collection::vec(line(), 0..24),
        crlf in any::<bool>(),
        last in any::<bool>(),
        v6 in any::<bool>(),
        ports in prop::collection::vec(prop::option::of(1u16..32000), 0..6),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = format!("v=0{end}o=- 1 1 IN IP4 192.168.1.7{end}{}", lines.join(end));
        if last { text.push_str(end); }
        let Ok(sdp) = Sdp::parse(text.as_bytes(), &Limits::default()) else { return Ok(()) };
        let address: IpAddr = if v6 { "2001:db8:f::1" } else { "203.0.113.1" }.parse().unwrap();
        let placements: Vec<Placement> =
            ports.iter().map(|port| port.map_or(Placement::Decline, |p| relay(2 * p))).collect();
        let out = rewrite(&sdp, address, &placements);
        let read = Sdp::parse(&out, &Limits::default()).unwrap();

        let split = |bytes: &[u8]| -> Vec<Vec<u8>> { bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect() };
        let (before, after) = (split(text.as_bytes()), split(&out));
        prop_assert_eq!(before.len(), after.len(), "no line injected or lost");
        for (before, after) in before.iter().zip(&after) {
            let touched = [&b"o="[..], b"c=", b"m=", b"a=rtcp:"].iter().any(|start| before.starts_with(start));
            if touched {
                prop_assert_eq!(&before[..2], &after[..2]);
                prop_assert_eq!(before.ends_with(b"\r"), after.ends_with(b"\r"));
            } else {
                prop_assert_eq!(before, after);
            }
        }
        prop_assert_eq!(read.origin.host, Host::Ip(address));
        for connection in read.connection.iter().chain(read.media.iter().filter_map(|m| m.connection.as_ref())) {
            prop_assert_eq!(connection.host, Host::Ip(address));
        }
        for (at, media) in read.media.iter().enumerate() {
            let ours = match placements.get(at) {
                Some(Placement::Relay { rtp, .. }) if sdp.media[at].port != 0 => *rtp,
                _ => 0,
            };
            prop_assert_eq!(media.port, ours);
            for rtcp in &media.rtcp {
                let host = rtcp.host.unwrap();
                prop_assert!([9, ours, ours + 1].contains(&host.port));
                prop_assert!(host.address.is_none_or(|named| named == address));
            }
        }
        prop_assert_eq!(&rewrite(&read, address, &placements), &out, "a second time changes nothing");
    }
}

/// Lines that the rules care for.
fn spicy() -> impl Strategy<Value = String> {
    prop_oneof![
        line(),
        prop::sample::select(vec![
            "a=sendrecv",
            "a=sendonly",
            "a=recvonly",
            "a=inactive",
            "a=ptime:20",
            "a=ptime:x",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=rtpmap:96 opus/48000/2",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
            "a=rtpmap:0 PCMU/8000",
            "a=ice-ufrag:abcd",
            "a=ice-pwd:abcdefghijklmnopqrstuv",
            "a=candidate:1 1 UDP 1 192.168.1.7 4000 typ host",
            "a=ice-lite",
            "a=ice-options:trickle",
            "a=end-of-candidates",
            "b=AS:64",
            "a=x-strange",
            "i=about",
            "m=audio 4000 RTP/AVP 0 8 96 97 101",
            "m=audio 4002 RTP/AVP 18",
            "m=image 4004 udptl t38",
            "m=message 4006 TCP/MSRP *",
            "c=IN IP6 ::",
            "c=IN IP4 0.0.0.0",
        ])
        .prop_map(str::to_owned),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let codecs =
        prop::option::of(prop::sample::subsequence(vec!["PCMU", "opus", "!rtx", "!telephone-event"], 0..4));
    (any::<[bool; 8]>(), prop::option::of(1u8..13), codecs).prop_map(|(on, ptime, codecs)| Rules {
        hold_rfc2543: on[0],
        hold_force_3264: on[1],
        inhibit_hold: on[2],
        hold_inactive: on[3],
        strip_ice: on[4],
        add_ice_candidate: on[5],
        rtcp_attribute: on[6],
        force_ptime: ptime.map(|tens| 10 * tens),
        codecs: codecs.map(|entries| Codecs::parse(&entries).unwrap()),
        strip_lines: if on[7] { vec!["b=".to_owned(), "a=x-".to_owned()] } else { Vec::new() },
        pass_transports: vec!["TCP/MSRP".to_owned()],
        dtmf: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn by_any_rules_once_is_enough_and_only_ours_is_named(
        lines in prop::collection::vec(spicy(), 0..24),
        crlf in any::<bool>(),
        last in any::<bool>(),
        v6 in any::<bool>(),
        rules in rules(),
        places in prop::collection::vec(0u8..4, 0..6),
        answers in any::<bool>(),
        dtmf in prop::option::of(96u8..128),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = format!("v=0{end}o=- 1 1 IN IP4 192.168.1.7{end}{}", lines.join(end));
        if last { text.push_str(end); }
        let Ok(sdp) = Sdp::parse(text.as_bytes(), &Limits::default()) else { return Ok(()) };
        let address: IpAddr = if v6 { "2001:db8:f::1" } else { "203.0.113.1" }.parse().unwrap();
        let placements: Vec<Placement> = places.iter().map(|place| match place {
            0 => Placement::Decline,
            1 => Placement::relay(20000, 20001),
            2 => Placement::relay(20000, 30000),
            _ => Placement::Relay { rtp: 20000, rtcp: 20001, ice: Some(Credentials::new([7; 32])) },
        }).collect();
        let offered = [Offered { direction: Direction::SendOnly, dtmf }; 8];
        let part = if answers { Part::Answer(&offered) } else { Part::Offer { dtmf } };
        let orders = Orders { address, placements: &placements, part, srtp: &[], rules: &rules };
        let out = rewrite_by(&sdp, &orders, &mut Vec::new());
        let read = Sdp::parse(&out, &Limits::default()).unwrap();
        prop_assert_eq!(read.media.len(), sdp.media.len());

        let shown = String::from_utf8(out.to_vec()).unwrap();
        let written = |line: &str| ["o=", "c=", "m=", "a=rtcp:", "a=ptime:", "a=candidate:", "a=ice-", "a=rtpmap:", "a=fmtp:"]
            .iter().any(|start| line.starts_with(start)) || Direction::parse(line.get(2..).unwrap_or("").as_bytes()).is_some();
        // What nobody may touch stands in its order, and nothing else came in.
        let stripped = |line: &str| rules.strip_lines.iter().any(|start| line.starts_with(start.as_str()));
        let untouched = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !written(line) && !stripped(line) && *line != "a=end-of-candidates").map(str::to_owned).collect()
        };
        prop_assert_eq!(untouched(&text), untouched(&shown));
        // No foreign address or port stands in a line that names one.
        let host = if v6 { format!("IP6 {address}") } else { format!("IP4 {address}") };
        for line in shown.lines() {
            if line.starts_with("o=") { prop_assert!(line.ends_with(&host), "{}", line); }
            if line.starts_with("c=") {
                let zero = rules.hold_rfc2543 && (line == "c=IN IP4 0.0.0.0" || line == "c=IN IP6 ::");
                prop_assert!(zero || line.ends_with(&host), "{}", line);
            }
            if let Some(rest) = line.strip_prefix("a=candidate:") {
                prop_assert!(rest.contains(&format!(" {address} 2000")), "{}", line);
            }
        }
        for media in &read.media {
            prop_assert!(matches!(media.port, 0 | 20000));
            prop_assert!(media.rtcp.iter().all(|rtcp| matches!(rtcp.host.unwrap().port, 9 | 20000 | 20001 | 30000)));
        }
        prop_assert_eq!(&rewrite_by(&read, &orders, &mut Vec::new()), &out, "a second time changes nothing");
    }
}
