//! The other switches, one test a row: what stands before, what stands after.

use super::*;
use crate::policy::Codecs;

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.168.1.7\r\ns=-\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\n";
const OURS: &str = "v=0\r\no=- 1 1 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n";

/// The same comes out of an offer and of an answer.
fn both(rules: &Rules, before: &str, after: &str) {
    let before = format!("{HEAD}{before}");
    let after = format!("{OURS}{after}");
    assert_eq!(offer(rules, &before), after);
    assert_eq!(answer(rules, Direction::SendRecv, &before), after);
}

#[test]
fn the_rtcp_attribute_may_be_left_out() {
    let rules = Rules { rtcp_attribute: false, ..Rules::default() };
    both(
        &rules,
        "a=rtcp:7\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4001 IN IP4 192.168.1.7\r\na=ptime:20\r\n",
        "m=audio 20000 RTP/AVP 0\r\na=ptime:20\r\n",
    );
    let placements = [Placement::relay(20000, 30001)];
    let sdp = format!("{HEAD}m=audio 4000 RTP/AVP 0\r\n");
    let sdp = Sdp::parse(sdp.as_bytes(), &Limits::default()).unwrap();
    let orders = |rules| Orders {
        address: "203.0.113.9".parse().unwrap(),
        placements: &placements,
        part: Part::Offer { dtmf: None },
        rules,
    };
    let on = Rules::default();
    let [off, on] = [&rules, &on].map(|rules| rewrite_by(&sdp, &orders(rules), &mut Vec::new()));
    assert_eq!(off, format!("{OURS}m=audio 20000 RTP/AVP 0\r\n").as_bytes());
    assert_eq!(on, format!("{OURS}m=audio 20000 RTP/AVP 0\r\na=rtcp:30001\r\n").as_bytes());
}

#[test]
fn packet_time_is_set_or_replaced_in_audio() {
    let rules = Rules { force_ptime: Some(30), ..Rules::default() };
    both(
        &rules,
        "m=audio 4000 RTP/AVP 0\r\na=ptime:20\r\na=maxptime:150\r\nm=audio 4002 RTP/AVP 8\r\na=sendrecv\r\nm=video 4004 RTP/AVP 34\r\nm=audio 0 RTP/AVP 0\r\na=ptime:20\r\n",
        "m=audio 20000 RTP/AVP 0\r\na=ptime:30\r\na=maxptime:150\r\nm=audio 20000 RTP/AVP 8\r\na=sendrecv\r\na=ptime:30\r\nm=video 20000 RTP/AVP 34\r\nm=audio 0 RTP/AVP 0\r\na=ptime:20\r\n",
    );
}

#[test]
fn codecs_that_are_not_listed_leave_with_their_lines() {
    let rules = Rules { codecs: Some(Codecs::parse(&["PCMU", "opus"]).unwrap()), ..Rules::default() };
    both(
        &rules,
        "m=audio 4000 RTP/AVP 9 96 8 0 18 101 13\r\na=rtpmap:9 G722/8000\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\na=rtcp-fb:18 nack\r\na=rtcp-fb:* nack\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n",
        "m=audio 20000 RTP/AVP 96 0 101 13\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtcp-fb:* nack\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n",
    );
}

#[test]
fn repetition_leaves_with_its_codec() {
    let rules = Rules { codecs: Some(Codecs::parse(&["PCMU", "H264"]).unwrap()), ..Rules::default() };
    both(
        &rules,
        "m=video 4000 RTP/AVPF 96 97 98 99\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 H264/90000\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n",
        "m=video 20000 RTP/AVPF 98 99\r\na=rtpmap:98 H264/90000\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n",
    );
}

#[test]
fn a_line_with_nothing_left_is_declined_and_fax_has_no_codec() {
    let rules = Rules { codecs: Some(Codecs::parse(&["PCMU"]).unwrap()), ..Rules::default() };
    both(
        &rules,
        "m=audio 4000 RTP/AVP 0 8\r\nm=video 4002 RTP/AVP 34 31\r\na=rtpmap:34 H263/90000\r\nm=image 4004 udptl t38\r\n",
        "m=audio 20000 RTP/AVP 0\r\nm=video 0 RTP/AVP 34 31\r\na=rtpmap:34 H263/90000\r\nm=image 20000 udptl t38\r\n",
    );
}

#[test]
fn lines_are_taken_out_by_how_they_begin() {
    let rules = Rules { strip_lines: vec!["a=silenceSupp".to_owned(), "b=".to_owned()], ..Rules::default() };
    both(
        &rules,
        "b=CT:1000\r\na=silence:1\r\nm=audio 4000 RTP/AVP 0\r\nb=AS:64\r\na=silenceSupp:off - - - -\r\na=x-b=AS:1\r\n",
        "a=silence:1\r\nm=audio 20000 RTP/AVP 0\r\na=x-b=AS:1\r\n",
    );
}

#[test]
fn what_must_be_written_is_not_taken_out() {
    let all = ["v=", "o=", "c=", "m=", "a=rtcp"].map(str::to_owned).to_vec();
    let rules = Rules { strip_lines: all, ..Rules::default() };
    both(&rules, "m=audio 4000 RTP/AVP 0\r\na=rtcp:4001\r\n", "m=audio 20000 RTP/AVP 0\r\na=rtcp:20001\r\n");
}

#[test]
fn keys_pass_unread() {
    let keys = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20 UNAUTHENTICATED_SRTP\r\na=crypto:nonsense\r\na=fingerprint:sha-256 4A:AD\r\na=setup:actpass\r\na=key-mgmt:mikey AQ==\r\n";
    both(
        &Rules::default(),
        &format!("m=audio 4000 RTP/SAVP 0\r\n{keys}"),
        &format!("m=audio 20000 RTP/SAVP 0\r\n{keys}"),
    );
    both(
        &Rules::default(),
        &format!("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n{keys}"),
        &format!("m=audio 20000 UDP/TLS/RTP/SAVPF 0\r\n{keys}"),
    );
}

#[test]
fn fax_gets_no_rtcp() {
    let sdp = format!("{HEAD}m=image 4000 udptl t38\r\na=T38FaxVersion:0\r\n");
    let out = run(&sdp, "203.0.113.9", &[Placement::relay(20000, 30001)]);
    assert_eq!(out, format!("{OURS}m=image 20000 udptl t38\r\na=T38FaxVersion:0\r\n"));
}

#[test]
fn a_line_that_passes_stays_at_its_author() {
    let sdp = format!(
        "{HEAD}m=audio 4000 RTP/AVP 0\r\nm=message 2855 TCP/MSRP *\r\ni=chat\r\na=accept-types:text/plain\r\na=path:msrp://192.168.1.7:2855/x;tcp\r\n"
    );
    let after = format!(
        "{OURS}m=audio 20000 RTP/AVP 0\r\nm=message 2855 TCP/MSRP *\r\ni=chat\r\nc=IN IP4 192.168.1.7\r\na=accept-types:text/plain\r\na=path:msrp://192.168.1.7:2855/x;tcp\r\n"
    );
    assert_eq!(run(&sdp, "203.0.113.9", &[relay(20000), Placement::Pass]), after);
    let bare = "v=0\no=- 1 1 IN IP4 192.168.1.7\ns=-\nc=IN IP4 192.168.1.7\nm=message 2855 TCP/MSRP *";
    let after = "v=0\no=- 1 1 IN IP4 203.0.113.9\ns=-\nc=IN IP4 203.0.113.9\nm=message 2855 TCP/MSRP *\nc=IN IP4 192.168.1.7";
    assert_eq!(run(bare, "203.0.113.9", &[Placement::Pass]), after);
}

#[test]
fn direct_lines_name_their_own_address() {
    let direct =
        |rtp: &str, rtcp: &str| Placement::Direct { rtp: rtp.parse().unwrap(), rtcp: rtcp.parse().unwrap() };
    let sdp = format!(
        "{HEAD}m=audio 4000 RTP/AVP 0\r\na=rtcp:4001 IN IP4 192.168.1.7\r\nm=video 4002 RTP/AVP 34\r\nc=IN IP4 192.168.1.7\r\n"
    );
    let out = run(
        &sdp,
        "203.0.113.9",
        &[direct("192.168.1.8:6000", "192.168.1.8:6001"), direct("[fd00::8]:7000", "[fd00::9]:7009")],
    );
    assert_eq!(
        out,
        format!(
            "{OURS}m=audio 6000 RTP/AVP 0\r\nc=IN IP4 192.168.1.8\r\na=rtcp:6001 IN IP4 192.168.1.8\r\nm=video 7000 RTP/AVP 34\r\nc=IN IP6 fd00::8\r\na=rtcp:7009 IN IP6 fd00::9\r\n"
        )
    );
}

#[test]
fn digits_for_offers_that_have_none() {
    let with = |sdp: &str| {
        by(&Rules::default(), Part::Offer { dtmf: Some(101) }, "203.0.113.9", &format!("{HEAD}{sdp}"))
    };
    let added = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";
    assert_eq!(
        with("m=audio 4000 RTP/AVP 0\r\na=ptime:20\r\n"),
        format!("{OURS}m=audio 20000 RTP/AVP 0 101\r\na=ptime:20\r\n{added}")
    );
    // 101 is taken: the next free one. 102 is there already, and stays alone.
    let taken = "a=rtpmap:101 opus/48000/2\r\n";
    assert_eq!(
        with(&format!("m=audio 4000 RTP/AVP 0 101\r\n{taken}")),
        format!("{OURS}m=audio 20000 RTP/AVP 0 101 102\r\n{taken}{}", added.replace("101", "102"))
    );
    let own = "a=rtpmap:102 telephone-event/8000\r\n";
    assert_eq!(
        with(&format!("m=audio 4000 RTP/AVP 0 102\r\n{own}")),
        format!("{OURS}m=audio 20000 RTP/AVP 0 102\r\n{own}")
    );
    assert_eq!(with("m=video 4000 RTP/AVP 34\r\n"), format!("{OURS}m=video 20000 RTP/AVP 34\r\n"));
}

#[test]
fn digits_that_were_never_offered_leave_the_answer() {
    let offered = [Offered { dtmf: Some(101), ..Offered::default() }];
    let sdp = format!(
        "{HEAD}m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
    );
    let out = by(&Rules::default(), Part::Answer(&offered), "203.0.113.9", &sdp);
    assert_eq!(out, format!("{OURS}m=audio 20000 RTP/AVP 0\r\n"));
}

/// Found by mutation: what named `telephone-event` was a second map, and left with the first.
#[test]
fn digits_are_there_only_if_they_stay() {
    let rules = Rules { codecs: Some(Codecs::parse(&["PCMU"]).unwrap()), ..Rules::default() };
    let with =
        |sdp: &str| by(&rules, Part::Offer { dtmf: Some(101) }, "203.0.113.9", &format!("{HEAD}{sdp}"));
    let twice = "a=rtpmap:101 L16/48000\r\na=rtpmap:101 telephone-event/8000\r\n";
    let added = "a=rtpmap:102 telephone-event/8000\r\na=fmtp:102 0-15\r\n";
    assert_eq!(
        with(&format!("m=audio 4000 RTP/AVP 0 101\r\n{twice}")),
        format!("{OURS}m=audio 20000 RTP/AVP 0 102\r\n{added}")
    );
    // A map without its format is none.
    let orphan = "a=rtpmap:101 telephone-event/8000\r\n";
    assert_eq!(
        with(&format!("m=audio 4000 RTP/AVP 0\r\n{orphan}")),
        format!("{OURS}m=audio 20000 RTP/AVP 0 102\r\n{orphan}{added}")
    );
}

/// Found by mutation: what follows the last line is no line, and its missing end is not that of the last line.
#[test]
fn blank_lines_at_the_end_stay_behind_what_is_added() {
    let rules = Rules { force_ptime: Some(30), ..Rules::default() };
    for tail in ["", "\r\n\r\n", "\r\n\r", "\n"] {
        let out = offer(&rules, &format!("{HEAD}m=audio 4000 RTP/AVP 0\r\n{tail}"));
        assert_eq!(out, format!("{OURS}m=audio 20000 RTP/AVP 0\r\na=ptime:30\r\n{tail}"));
    }
}

/// Outside of ICE too there are attributes by which a phone would learn an inside address, or go past the relay.
#[test]
fn attributes_that_name_an_address_go_but_from_lines_that_stay_their_authors() {
    let line = "a=altc:1 IP4 10.0.1.60 4000\r\na=source-filter: incl IN IP4 * 10.0.1.60\r\na=ptime:20\r\n";
    let message = "m=message 4002 TCP/MSRP *\r\na=path:msrp://10.0.1.60:4002/x;tcp\r\n";
    let before = format!("a=ccap:1 IN IP4 10.0.1.60\r\nm=audio 4000 RTP/AVP 0\r\n{line}{message}");
    let before = format!("{HEAD}{before}").replace("192.168.1.7", "10.0.1.60");
    let declined = "m=audio 20000 RTP/AVP 0\r\na=ptime:20\r\nm=message 0 TCP/MSRP *\r\n";
    assert_eq!(run(&before, "203.0.113.9", &[relay(20000)]), format!("{OURS}{declined}"));
    let passed = format!(
        "a=ccap:1 IN IP4 10.0.1.60\r\nm=audio 20000 RTP/AVP 0\r\na=ptime:20\r\n{}",
        message.replace("a=path", "c=IN IP4 10.0.1.60\r\na=path")
    );
    assert_eq!(run(&before, "203.0.113.9", &[relay(20000), Placement::Pass]), format!("{OURS}{passed}"));
}
