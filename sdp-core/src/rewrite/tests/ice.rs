//! ICE: gone, ours, or untouched.

use super::*;

const SPOKEN: &str = "v=0\r\no=- 1 1 IN IP4 192.168.1.7\r\ns=-\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\n\
    a=ice-options:trickle ice2\r\na=ice-pacing:50\r\n\
    m=audio 4000 RTP/AVP 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 AA\r\n\
    a=candidate:1 1 UDP 2130706431 192.168.1.7 4000 typ host\r\n\
    a=candidate:2 1 UDP 1694498815 198.51.100.7 4000 typ srflx raddr 192.168.1.7 rport 4000\r\n\
    a=remote-candidates:1 10.0.1.60 5000\r\na=end-of-candidates\r\na=sendrecv\r\n";

const BARE: &str = "v=0\r\no=- 1 1 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n\
    m=audio 20000 RTP/AVP 0\r\na=fingerprint:sha-256 AA\r\na=sendrecv\r\n";

const LITE: &str = "v=0\r\no=- 1 1 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\na=ice-lite\r\n\
    m=audio 20000 RTP/AVP 0\r\na=fingerprint:sha-256 AA\r\na=sendrecv\r\n\
    a=ice-ufrag:HHHHHHHH\r\na=ice-pwd:HHHHHHHHHHHHHHHHHHHHHHHH\r\n\
    a=candidate:1 1 UDP 2130706431 203.0.113.9 20000 typ host\r\n\
    a=candidate:1 2 UDP 2130706430 203.0.113.9 20001 typ host\r\n";

fn ours() -> Placement {
    Placement::Relay { rtp: 20000, rtcp: 20001, ice: Some(Credentials::new([7; 32])) }
}

fn with(rules: &Rules, part: Part<'_>, placement: Placement, sdp: &str) -> String {
    let sdp = Sdp::parse(sdp.as_bytes(), &Limits::default()).unwrap();
    let placements = vec![placement; sdp.media.len()];
    let orders =
        Orders { address: "203.0.113.9".parse().unwrap(), placements: &placements, part, srtp: &[], rules };
    let out = rewrite_by(&sdp, &orders, &mut Vec::new());
    let again = Sdp::parse(&out, &Limits::default()).unwrap();
    assert_eq!(rewrite_by(&again, &orders, &mut Vec::new()), out, "a second time changes nothing");
    String::from_utf8(out.to_vec()).unwrap()
}

const OFFER: Part<'static> = Part::Offer { dtmf: None };

#[test]
fn a_relayed_line_without_credentials_leaves_without_ice() {
    assert_eq!(with(&Rules::default(), OFFER, relay(20000), SPOKEN), BARE);
    assert_eq!(with(&Rules::default(), Part::Answer(&[]), relay(20000), SPOKEN), BARE);
}

#[test]
fn ours_take_the_place_of_theirs() {
    assert_eq!(with(&Rules::default(), OFFER, ours(), SPOKEN), LITE);
    assert_eq!(with(&Rules::default(), Part::Answer(&[]), ours(), SPOKEN), LITE);
}

#[test]
fn nothing_is_added_where_nobody_speaks_ice() {
    let silent = "v=0\r\no=- 1 1 IN IP4 192.168.1.7\r\ns=-\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let after = silent.replace("192.168.1.7", "203.0.113.9").replace("4000", "20000");
    assert_eq!(with(&Rules::default(), OFFER, ours(), silent), after);
}

#[test]
fn each_switch_takes_it_out() {
    for rules in [
        Rules { strip_ice: true, ..Rules::default() },
        Rules { add_ice_candidate: false, ..Rules::default() },
    ] {
        assert_eq!(with(&rules, OFFER, ours(), SPOKEN), BARE);
        assert_eq!(with(&rules, Part::Answer(&[]), ours(), SPOKEN), BARE);
    }
}

#[test]
fn credentials_of_the_session_count() {
    let session = SPOKEN
        .replace("a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n", "")
        .replace("a=ice-pacing:50\r\n", "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n");
    assert_eq!(with(&Rules::default(), OFFER, ours(), &session), LITE);
}

#[test]
fn multiplexing_is_a_fact_in_the_answer_only() {
    let muxed = SPOKEN.replace("a=sendrecv\r\n", "a=rtcp-mux\r\n");
    let both = LITE.replace("a=sendrecv\r\n", "a=rtcp-mux\r\n");
    assert_eq!(with(&Rules::default(), OFFER, ours(), &muxed), both);
    let one = both.replace("a=candidate:1 2 UDP 2130706430 203.0.113.9 20001 typ host\r\n", "");
    assert_eq!(with(&Rules::default(), Part::Answer(&[]), ours(), &muxed), one);
}

/// MED-03: what comes back from the PBX is our own candidate, and the phone at the other end is not behind it.
#[test]
fn direct_media_goes_without() {
    let (rtp, rtcp) = ("192.168.1.8:6000".parse().unwrap(), "192.168.1.8:6001".parse().unwrap());
    let direct = Placement::Direct { rtp, rtcp };
    let bare =
        BARE.replace("c=IN IP4 203.0.113.9", "c=IN IP4 192.168.1.8").replace("m=audio 20000", "m=audio 6000");
    for strip_ice in [false, true] {
        let rules = Rules { strip_ice, ..Rules::default() };
        assert_eq!(with(&rules, OFFER, direct, SPOKEN), bare);
        assert_eq!(with(&rules, OFFER, direct, LITE), bare);
    }
}

#[test]
fn credentials_are_long_enough_and_stay_out_of_logs() {
    let credentials = Credentials::new(std::array::from_fn(|at| (at * 37 % 256) as u8));
    let ice_char = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    assert!(credentials.ufrag().len() >= 4 && credentials.password().len() >= 22, "RFC 8839 §5.4");
    assert!(credentials.ufrag().bytes().chain(credentials.password().bytes()).all(ice_char));
    assert!(!format!("{credentials:?}").contains(credentials.password()));
}
