//! Calls both ways: which phone rings, what each side sees, who may end what.

use crate::register::{MAC_A, MAC_B, registered};
use crate::world::{World, body, reply, row, rows};

const SDP: &str = "v=0
o=- 1 1 IN IP4 192.168.1.7
s=-
c=IN IP4 192.168.1.7
t=0 0
m=audio 4000 RTP/AVP 0";

#[test]
fn a_call_from_the_pbx_reaches_the_phone_its_token_names() {
    let mut world = World::new();
    let (a, side, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (b, _, _) = registered(&mut world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(
        pbx,
        &format!(
            "INVITE sips:117@10.0.1.2:5061;transport=tls;crt={} SIP/2.0
        Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKi1
        Max-Forwards: 255
        From: <sips:200@10.0.1.50>;tag=p
        To: <sips:117@10.0.1.50>
        Call-ID: c1
        CSeq: 1 INVITE
        Contact: <sips:200@10.0.1.50:5061;transport=tls>
        Content-Type: application/sdp

        {SDP}",
            token.to_uppercase()
        ),
    );
    let invite = world.hear_start(a, "INVITE sips:117@192.168.1.7 SIP/2.0\r\n");
    world.silent(b);
    assert_eq!(row(&invite, "Max-Forwards"), "69");
    assert_eq!(rows(&invite, "Via").len(), 1);
    assert!(row(&invite, "Contact").starts_with("<sips:200@192.0.2.1:5061;transport=tls;pc="));
    let route = row(&invite, "Record-Route").to_owned();
    assert!(route.starts_with("<sips:192.0.2.1:5061;transport=tls;lr;ft="));
    assert!(body(&invite).contains("a=relay:Offer 1 from Inside 10.0.1.50 to 198.51.100.7"), "{invite}");

    world.say(a, &reply(&invite, "180 Ringing", "a", "Contact: <sips:117@192.168.1.7>"));
    world.hear_start(pbx, "SIP/2.0 180 ");
    world.say(a, &reply(&invite, "200 OK", "a", &format!("Contact: <sips:117@192.168.1.7>\nP-Asserted-Identity: <sip:x@y>\nContent-Type: application/sdp\n\n{SDP}")));
    let ok = world.hear_start(pbx, "SIP/2.0 200 ");
    assert_eq!(rows(&ok, "Via"), ["SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKi1;received=10.0.1.50"]);
    assert_eq!(row(&ok, "Contact"), format!("<sips:117@10.0.1.2:5061;transport=tls;crt={token}>"));
    assert!(!ok.contains("Asserted"));
    let inner = row(&ok, "Record-Route").to_owned();
    assert!(inner.starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ft="));
    assert_eq!(rows(&ok, "Record-Route").len(), 1);
    assert!(body(&ok).contains("a=relay:Answer 1 from Outside 198.51.100.7 to 10.0.1.50"), "{ok}");

    world.say(
        pbx,
        &format!(
            "ACK sips:117@10.0.1.2:5061;transport=tls;crt={token} SIP/2.0
        Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKa1
        Route: {inner}
        From: <sips:200@10.0.1.50>;tag=p
        To: <sips:117@10.0.1.50>;tag=a
        Call-ID: c1
        CSeq: 1 ACK"
        ),
    );
    let ack = world.hear_start(a, "ACK sips:117@192.168.1.7 SIP/2.0\r\n");
    assert_eq!(rows(&ack, "Route").len() + rows(&ack, "Record-Route").len(), 0);

    // The phone hangs up, with what it was given.
    let target = row(&invite, "Contact").trim_matches(['<', '>']).to_owned();
    world.say(
        a,
        &format!(
            "BYE {target} SIP/2.0
        Via: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKb1;rport
        Route: {route}
        From: <sips:117@10.0.1.50>;tag=a
        To: <sips:200@10.0.1.50>;tag=p
        Call-ID: c1
        CSeq: 7 BYE"
        ),
    );
    let bye = world.hear_start(side, "BYE sips:200@10.0.1.50:5061;transport=tls SIP/2.0\r\n");
    assert_eq!(rows(&bye, "Route").len(), 0);
    world.say(side, &reply(&bye, "200 OK", "", ""));
    world.hear_start(a, "SIP/2.0 200 ");
    assert_eq!(world.media.lock().unwrap().last().map(String::as_str), Some("End 1"));
}
