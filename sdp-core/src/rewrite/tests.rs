mod hold;
mod ice;
mod property;
mod rows;

use super::*;
use crate::sdp::{Host, Limits};

fn run(sdp: &str, address: &str, placements: &[Placement]) -> String {
    let sdp = Sdp::parse(sdp.as_bytes(), &Limits::default()).unwrap();
    String::from_utf8(rewrite(&sdp, address.parse().unwrap(), placements).to_vec()).unwrap()
}

const fn relay(rtp: u16) -> Placement {
    Placement::relay(rtp, rtp + 1)
}

#[test]
fn only_addresses_and_ports_change() {
    let before = "v=0\r\no=mitel 987654321012345678 2 IN IP4 192.168.1.7\r\ns=  -\r\nc=IN IP4 192.168.1.7\r\n\
        b=AS:64\r\nt=0 0\r\na=x-unknown: keep  me \r\nm=audio 30000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=rtcp:30001\r\na=sendonly\r\nm=audio 30000 RTP/SAVP 0\r\nc=IN IP4 192.168.1.7\r\n\
        a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20 UNAUTHENTICATED_SRTP\r\n";
    let after = before
        .replace("192.168.1.7", "203.0.113.9")
        .replace("m=audio 30000 RTP/AVP", "m=audio 20000 RTP/AVP")
        .replace("m=audio 30000 RTP/SAVP", "m=audio 20000 RTP/SAVP")
        .replace("a=rtcp:30001", "a=rtcp:20001");
    assert_eq!(run(before, "203.0.113.9", &[relay(20000), relay(20000)]), after);
    let (lf, lf_after) = (before.replace("\r\n", "\n"), after.replace("\r\n", "\n"));
    assert_eq!(run(&lf, "203.0.113.9", &[relay(20000), relay(20000)]), lf_after, "LF stays LF");
}

#[test]
fn the_family_may_change() {
    let before = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n\
        a=rtcp:4001 IN IP4 10.0.0.1\n";
    let after = "v=0\no=- 1 1 IN IP6 2001:db8::9\ns=-\nc=IN IP6 2001:db8::9\nt=0 0\nm=audio 20000 RTP/AVP 0\n\
        a=rtcp:20001 IN IP6 2001:db8::9\n";
    assert_eq!(run(before, "2001:db8::9", &[relay(20000)]), after);
}

#[test]
fn hold_by_zero_gets_a_real_address() {
    let before =
        "v=0\no=- 1 2 IN IP4 10.0.0.1\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 4000 RTP/AVP 0\na=sendrecv\n";
    let after = "v=0\no=- 1 2 IN IP4 203.0.113.9\ns=-\nc=IN IP4 203.0.113.9\nt=0 0\nm=audio 20000 RTP/AVP 0\na=sendonly\n";
    assert_eq!(run(before, "203.0.113.9", &[relay(20000)]), after);
}

#[test]
fn an_rtcp_port_that_is_not_the_next_is_named() {
    let placement = [Placement::relay(20000, 40001)];
    let head =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let out = run(&format!("{head}a=ptime:20\r\nm=video 0 RTP/AVP 96\r\n"), "10.9.9.9", &placement);
    assert!(out.ends_with("a=ptime:20\r\na=rtcp:40001\r\nm=video 0 RTP/AVP 96\r\n"), "{out}");
    let out = run(&format!("{head}a=ptime:20"), "10.9.9.9", &placement);
    assert!(out.ends_with("a=ptime:20\r\na=rtcp:40001"), "{out}");
    let out = run(&format!("{head}a=rtcp:4001\r\n"), "10.9.9.9", &placement);
    assert!(out.ends_with("RTP/AVP 0\r\na=rtcp:40001\r\n"), "{out}");
}

#[test]
fn multiplexed_rtcp_keeps_naming_the_rtp_port() {
    let head = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
    let out = run(&format!("{head}a=rtcp:4000\na=rtcp-mux\n"), "10.9.9.9", &[relay(20000)]);
    assert!(out.ends_with("a=rtcp:20000\na=rtcp-mux\n"), "{out}");
    let out = run(&format!("{head}a=rtcp:4001\na=rtcp-mux\n"), "10.9.9.9", &[relay(20000)]);
    assert!(out.ends_with("a=rtcp:20001\na=rtcp-mux\n"), "{out}");
}

#[test]
fn no_foreign_port_or_address_is_left_in_odd_lines() {
    let before = "v=0\no=- 1 1 IN IP4 host.example\ns=-\nc=IN IP4 name.example\nt=0 0\na=rtcp:7 IN IP4 10.0.0.1\n\
        m=audio 4000 RTP/AVP 0\na=rtcp: 5000\na=rtcp:99999\nm=image 4002 udptl t38\nc=IN IP4 10.0.0.1\na=rtcp:4003\n";
    let after = "v=0\no=- 1 1 IN IP4 10.9.9.9\ns=-\nc=IN IP4 10.9.9.9\nt=0 0\na=rtcp:9 IN IP4 10.9.9.9\n\
        m=audio 20000 RTP/AVP 0\na=rtcp:20001\na=rtcp:20001\nm=image 0 udptl t38\nc=IN IP4 10.9.9.9\na=rtcp:9\n";
    assert_eq!(run(before, "10.9.9.9", &[relay(20000), Placement::Decline]), after);
}

#[test]
fn a_count_of_ports_goes_with_the_port() {
    let before = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 4000/2 RTP/AVP 0\n";
    assert!(run(before, "10.9.9.9", &[]).ends_with("m=audio 0 RTP/AVP 0\n"));
}

/// MED-03: the line names the other phone; `o=` stays ours.
#[test]
fn a_direct_line_names_the_other_phone() {
    let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let direct = |rtp: &str, rtcp: &str| Placement::Direct { rtp: at(rtp), rtcp: at(rtcp) };
    let head = "v=0\r\no=- 1 1 IN IP4 10.0.1.2\r\ns=-\r\nc=IN IP4 10.0.1.2\r\nt=0 0\r\n";
    let before = format!("{head}m=audio 4000 RTP/AVP 0\r\na=rtcp:4001 IN IP4 10.0.1.2\r\n");
    let out = run(&before, "203.0.113.9", &[direct("192.168.1.7:30000", "192.168.1.7:30009")]);
    let want = "v=0\r\no=- 1 1 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\na=rtcp:30009 IN IP4 192.168.1.7\r\n";
    assert_eq!(out, want);
    // RTCP elsewhere is named; where it is the next port nothing is added.
    let plain = format!("{head}m=audio 4000 RTP/AVP 0\r\n");
    let out = run(&plain, "203.0.113.9", &[direct("192.168.1.7:30000", "192.168.1.9:30001")]);
    assert!(out.ends_with("RTP/AVP 0\r\na=rtcp:30001 IN IP4 192.168.1.9\r\n"), "{out}");
    let out = run(&plain, "203.0.113.9", &[direct("192.168.1.7:30000", "192.168.1.7:30001")]);
    assert!(out.ends_with("m=audio 30000 RTP/AVP 0\r\n"), "{out}");
    // One line by the relay, one direct, one declined: each says what holds for it.
    let three = format!("{plain}m=video 4002 RTP/AVP 96\r\ni=title\r\na=x\r\nm=audio 0 RTP/AVP 0\r\n");
    let placements = [relay(20000), direct("[fd00::7]:30002", "[fd00::7]:30003"), Placement::Decline];
    let out = run(&three, "203.0.113.9", &placements);
    assert!(
        out.contains("s=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\nm=video 30002 RTP/AVP 96\r\ni=title\r\nc=IN IP6 fd00::7\r\na=x\r\nm=audio 0 "),
        "{out}"
    );
    assert_eq!(run(&out, "203.0.113.9", &placements), out, "a second time changes nothing");
    // What its author declined stays declined, and the last line may lack its end.
    let last = format!("{head}m=video 0 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/AVP 0");
    let direct = direct("192.168.1.7:30000", "192.168.1.7:30001");
    let out = run(&last, "203.0.113.9", &[direct, relay(20000), direct]);
    assert!(out.contains("c=IN IP4 203.0.113.9\r\nt=0 0\r\nm=video 0 "), "{out}");
    assert!(out.ends_with("m=audio 30000 RTP/AVP 0\r\nc=IN IP4 192.168.1.7"), "{out}");
}

/// By these rules and as this part, with our ports 20000 and 20001 for each line that wants some.
fn by(rules: &Rules, part: Part<'_>, address: &str, sdp: &str) -> String {
    let sdp = Sdp::parse(sdp.as_bytes(), &Limits::default()).unwrap();
    let placements = vec![relay(20000); sdp.media.len()];
    let orders =
        Orders { address: address.parse().unwrap(), placements: &placements, part, srtp: &[], rules };
    let out = rewrite_by(&sdp, &orders, &mut Vec::new());
    let again = Sdp::parse(&out, &Limits::default()).unwrap();
    assert_eq!(rewrite_by(&again, &orders, &mut Vec::new()), out, "a second time changes nothing");
    String::from_utf8(out.to_vec()).unwrap()
}

fn offer(rules: &Rules, sdp: &str) -> String {
    by(rules, Part::Offer { dtmf: None }, "203.0.113.9", sdp)
}

/// An answer to lines that all had this direction.
fn answer(rules: &Rules, offered: Direction, sdp: &str) -> String {
    let offered = [Offered { direction: offered, dtmf: None }; 8];
    by(rules, Part::Answer(&offered), "203.0.113.9", sdp)
}
