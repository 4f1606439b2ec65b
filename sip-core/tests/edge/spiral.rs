//! Two phones whose PBX is a proxy: one call passes the gateway twice with the same Call-ID and tags (RFC 3261 §6, "spiral").

use crate::register::{MAC_A, MAC_B, registered};
use crate::script::{SDP, sdp};
use crate::world::{End, World, between, body, reply, row, rows};

/// What the proxy writes into requests that it forwards: one hop, and itself as first Record-Route.
const VIA: &str = "SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bKproxy";
const PROXY: &str = "<sips:10.0.1.50:5061;transport=tls;lr>";

/// `text` as the proxy forwards it: a new Request-URI, its Via, its Record-Route if there was one, and without the first `routes` Routes.
fn forwarded(text: &str, uri: &str, routes: usize) -> String {
    let (head, content) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let method = lines.next().unwrap().split(' ').next().unwrap();
    let mut out = format!("{method} {uri} SIP/2.0\nVia: {VIA}{method}\n");
    if head.contains("\r\nRecord-Route:") {
        out.push_str(&format!("Record-Route: {PROXY}\n"));
    }
    for line in lines.filter(|line| !line.starts_with("Content-Length:") && !line.starts_with("Route:")) {
        out.push_str(&format!("{line}\n"));
    }
    for route in rows(text, "Route").iter().flat_map(|row| row.split(", ")).skip(routes) {
        out.push_str(&format!("Route: {route}\n"));
    }
    if content.is_empty() { out } else { format!("{out}\n{content}") }
}

/// A response on its way back through the proxy: without the proxy's Via.
fn returned(text: &str) -> String {
    let (head, content) = text.split_once("\r\n\r\n").unwrap();
    let kept: Vec<&str> =
        head.split("\r\n").filter(|l| !l.contains(VIA) && !l.starts_with("Content-Length:")).collect();
    if content.is_empty() { kept.join("\n") } else { format!("{}\n\n{content}", kept.join("\n")) }
}

struct Spiral {
    a: End,
    b: End,
    /// The proxy's ends of A's own connection, of B's, and of its connection to us.
    own: [End; 3],
    /// Route and remote target of A, then of B.
    routes: [String; 2],
    targets: [String; 2],
    b_token: String,
}

fn call(world: &mut World) -> Spiral {
    let (a, own_a, _) = registered(world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let (b, own_b, b_token) = registered(world, MAC_B, "198.51.100.8:40000", "192.168.1.8");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(a, &request("INVITE", "sips:118@10.0.1.50", 1, false, "", &sdp("")));
    let first = world.hear_start(own_a, "INVITE sips:118@10.0.1.50 SIP/2.0\r\n");
    world.say(pbx, &forwarded(&first, &format!("sips:118@10.0.1.2:5061;transport=tls;crt={b_token}"), 0));
    let invite = world.hear_start(b, "INVITE sips:118@192.168.1.8 SIP/2.0\r\n");
    world.say(
        b,
        &reply(
            &invite,
            "200 OK",
            "b",
            &format!("Contact: <sips:118@192.168.1.8>\nContent-Type: application/sdp\n\n{SDP}"),
        ),
    );
    let second = world.hear_start(pbx, "SIP/2.0 200 ");
    world.say(own_a, &returned(&second));
    let ok = world.hear_start(a, "SIP/2.0 200 ");
    let target = |text: &str| between(row(text, "Contact"), "<", ">").to_owned();
    let route = |text: &str| row(text, "Record-Route").to_owned();
    assert!(body(&invite).contains("a=relay:Offer 2 from Inside 10.0.1.50 to 198.51.100.8"), "{invite}");
    assert!(body(&ok).contains("a=relay:Answer 1 from Inside 10.0.1.50 to 198.51.100.7"), "{ok}");
    Spiral {
        a,
        b,
        own: [own_a, own_b, pbx],
        routes: [route(&ok), route(&invite)],
        targets: [target(&ok), target(&invite)],
        b_token,
    }
}

/// A request of A, or of B where `by_b`.
fn request(method: &str, uri: &str, cseq: u32, by_b: bool, to_tag: &str, more: &str) -> String {
    let (user, host, from, to) = if by_b { (118, 8, "b", "117") } else { (117, 7, "a", "118") };
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} {uri} SIP/2.0
        Via: SIP/2.0/TLS 192.168.1.{host}:5061;branch=z9hG4bK{from}{cseq}{method};rport;alias
        Max-Forwards: 70
        From: <sips:{user}@10.0.1.50>;tag={from}
        To: <sips:{to}@10.0.1.50>{to_tag}
        Call-ID: spiral
        CSeq: {cseq} {method}
        Contact: <sips:{user}@192.168.1.{host}>
        {more}"
    )
}

#[test]
fn both_legs_keep_their_media_until_the_caller_hangs_up() {
    let mut world = World::new();
    let call = call(&mut world);
    assert!(!world.media.lock().unwrap().iter().any(|line| line.starts_with("End")), "{}", world.story());

    // The caller's way leads over the proxy and through us to the callee.
    world
        .say(call.a, &request("BYE", &call.targets[0], 2, false, "b", &format!("Route: {}", call.routes[0])));
    let bye = world.hear_start(call.own[0], "BYE sips:118@10.0.1.2:5061;transport=tls;crt=");
    let routes: Vec<&str> = rows(&bye, "Route").iter().flat_map(|row| row.split(", ")).collect();
    assert_eq!(routes.first(), Some(&PROXY), "{bye}");
    assert!(routes.len() == 2 && routes[1].starts_with("<sips:10.0.1.2:5061;transport=tls;lr;ft="), "{bye}");
    let uri = format!("sips:118@10.0.1.2:5061;transport=tls;crt={}", call.b_token);
    world.say(call.own[2], &forwarded(&bye, &uri, 1));
    let at_b = world.hear_start(call.b, "BYE sips:118@192.168.1.8 SIP/2.0\r\n");
    world.silent(call.a);
    world.say(call.b, &reply(&at_b, "200 OK", "", ""));
    let back = world.hear_start(call.own[2], "SIP/2.0 200 ");
    world.say(call.own[0], &returned(&back));
    world.hear_start(call.a, "SIP/2.0 200 ");
    let mut ended: Vec<String> =
        world.media.lock().unwrap().iter().filter(|line| line.starts_with("End")).cloned().collect();
    ended.sort();
    assert_eq!(ended, ["End 1", "End 2"]);
}

#[test]
fn the_callee_hangs_up_and_the_caller_hears_it() {
    let mut world = World::new();
    let call = call(&mut world);
    world.say(call.b, &request("BYE", &call.targets[1], 2, true, "a", &format!("Route: {}", call.routes[1])));
    let bye = world.hear_start(call.own[1], "BYE sips:117@10.0.1.2:5061;transport=tls;crt=");
    let uri = bye.split(' ').nth(1).unwrap().to_owned();
    world.say(call.own[2], &forwarded(&bye, &uri, 1));
    world.hear_start(call.a, "BYE sips:117@192.168.1.7 SIP/2.0\r\n");
    world.silent(call.b);
}
