use super::*;

const OFFER: &[u8] = b"v=0\r\no=- 20 1 IN IP4 192.168.1.7\r\ns=call\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\n\
    m=audio 30000 RTP/AVP 0 8 101\r\na=rtcp:30009 IN IP4 192.168.1.8\r\na=rtcp-mux\r\n\
    m=video 0 RTP/AVP 96\r\nc=IN IP6 2001:db8::7\r\na=rtcp:1 IN IP9 x\r\n";

fn fault(text: &str) -> Option<Fault> {
    Sdp::parse(text.as_bytes(), &Limits::default()).err().map(|error| error.fault)
}

#[test]
fn reads_what_a_relay_needs() {
    let sdp = Sdp::parse(OFFER, &Limits::default()).unwrap();
    let v4: IpAddr = "192.168.1.7".parse().unwrap();
    assert_eq!(sdp.origin.host, Host::Ip(v4));
    assert_eq!(&OFFER[sdp.origin.address_range.clone()], b"IP4 192.168.1.7");
    let [audio, video] = sdp.media.as_slice() else { panic!("two streams") };
    assert_eq!((audio.kind, audio.port, audio.transport), (&b"audio"[..], 30000, &b"RTP/AVP"[..]));
    assert_eq!(audio.payload_types().collect::<Vec<_>>(), [0, 8, 101]);
    assert_eq!(&OFFER[audio.port_range.clone()], b"30000");
    assert_eq!(sdp.connection_of(audio).unwrap().host, Host::Ip(v4));
    let rtcp = RtcpHost { port: 30009, address: Some("192.168.1.8".parse().unwrap()) };
    assert_eq!(audio.rtcp[0].host, Some(rtcp));
    assert!(audio.rtcp_mux && !video.rtcp_mux);
    assert_eq!(sdp.connection_of(video).unwrap().host, Host::Ip("2001:db8::7".parse().unwrap()));
    assert_eq!(video.rtcp[0].host, None, "an address type that is none is ignored");
    assert_eq!(&OFFER[video.rtcp[0].value_range.clone()], b"1 IN IP9 x");
    assert_eq!((audio.end, video.end), (video.start, OFFER.len()));
}

#[test]
fn names_and_multicast_are_other() {
    for text in ["IN IP4 media.example.net", "IN IP4 224.2.1.1/127", "IN IP6 ff15::101/3"] {
        let sdp = format!("v=0\no=- 1 1 IN IP4 h.example\ns=-\nc={text}\nt=0 0\n");
        let sdp = Sdp::parse(sdp.as_bytes(), &Limits::default()).unwrap();
        assert!(matches!(sdp.connection.unwrap().host, Host::Other(_)), "{text}");
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    let sdp = b"v=0\no=- 1 1 IN IP6 ::ffff:192.0.2.1\ns=-\n";
    let sdp = Sdp::parse(sdp, &Limits::default()).unwrap();
    assert_eq!(sdp.origin.host, Host::Ip("192.0.2.1".parse().unwrap()));
}

#[test]
fn faults() {
    let with = |rest: &str| fault(&format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{rest}"));
    assert_eq!(with("c=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n"), None);
    assert_eq!(with("m=audio 4000 RTP/AVP 0\r\n"), Some(Fault::NoConnection));
    assert_eq!(with("m=audio 0 RTP/AVP 0\r\n"), None);
    for line in
        ["c=IN IP4", "c=IN IP4 ::1", "c=IN IP6 192.0.2.1", "c=XX IP4 a", "c=IN IP4 a;b", "c=IN IP4 a b"]
    {
        assert_eq!(with(line), Some(Fault::Connection), "{line}");
    }
    assert_eq!(with("c=IN IP4 1.1.1.1\nc=IN IP4 1.1.1.1\n"), Some(Fault::Connection));
    for line in [
        "m=audio",
        "m=audio 4000 RTP/AVP",
        "m=audio x RTP/AVP 0",
        "m=audio 65536 RTP/AVP 0",
        "m=audio -1 RTP/AVP 0",
        "m=audio +1 RTP/AVP 0",
        "m=audio 4000/0 RTP/AVP 0",
        "m=audio 4000/ RTP/AVP 0",
    ] {
        assert_eq!(with(line), Some(Fault::Media), "{line}");
    }
    assert_eq!(with("o=- 1 1 IN IP4 192.0.2.1\r\n"), Some(Fault::Origin));
    assert_eq!(fault("v=0\no=- 1 IN IP4 192.0.2.1\n"), Some(Fault::Origin));
    assert_eq!(fault("v=0\ns=-\n"), Some(Fault::Origin));
    assert_eq!(fault("v=1\n"), Some(Fault::Version));
    assert_eq!(fault(""), Some(Fault::Version));
    assert_eq!(fault("hello"), Some(Fault::Line));
}

#[test]
fn limits_hold() {
    let many = |n: usize| format!("v=0\no=- 1 1 IN IP4 1.1.1.1\n{}", "m=audio 0 RTP/AVP 0\n".repeat(n));
    assert_eq!(fault(&many(64)), None);
    assert_eq!(fault(&many(65)), Some(Fault::TooLarge));
    assert_eq!(fault(&format!("v=0\n{}", "a=x\n".repeat(2_048))), Some(Fault::TooLarge));
    assert_eq!(fault(&format!("v=0\no={}", "x".repeat(65_536))), Some(Fault::TooLarge));
}
