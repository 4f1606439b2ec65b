//! What stays as it came (SIP-63), and what never shows (SIP-64).

use crate::register::{MAC_A, registered};
use crate::script::{Call, from_pbx, from_phone, target};
use crate::world::{World, body, row, rows};

/// What phones and switches of this make send besides the fields that a proxy must change.
const RICH: &str = "X-ShoreTel-CallGUID: 0001-\u{e9}-2
X-ShoreTel-Line :  2
answer-mode: Auto;require
Supported:gruu , replaces,join, 100rel,timer
Accept: application/sdp,application/csta+xml
Replaces: d@10.0.1.50;to-tag=1;from-tag=2;early-only
Join: e@10.0.1.50;to-tag=3;from-tag=4
Event: as-feature-event ;id=\"x;y\"
Allow-Events: dialog,message-summary
X-Empty:
Unknown: \"quoted, \\\" <sip:x>\", and more;;=
x-folded: one
Subject: 1
s-of-another-kind: 2
User-Agent: Desk 6930/1.2 (\"odd\")
Privacy: none
Reason: Q.850;cause=16;text=\"Normal\"
Session-Expires: 1800;refresher=uac
Min-SE: 90
MIME-Version: 1.0
Call-Info: <http://10.0.1.10/picture>;purpose=icon
Alert-Info: <http://ring.example/a>;appearance=1
Content-Disposition: signal;handling=optional
Content-Type: application/csta+xml; charset=\"utf-8\"

<?xml version=\"1.0\"?><x y='10.0.1.50'>\u{e9}</x>";

/// The names of the rows that differ between two heads, each once; everything else is the same, in the same order.
fn differing(before: &str, after: &str) -> Vec<String> {
    let head = |text: &str| -> Vec<String> {
        text.split("\r\n\r\n").next().unwrap_or_default().split("\r\n").map(str::to_owned).collect()
    };
    let (before, after) = (head(before), head(after));
    let kept = |rows: &[String], others: &[String]| -> Vec<String> {
        rows.iter().filter(|row| others.contains(row)).cloned().collect()
    };
    assert_eq!(kept(&before, &after), kept(&after, &before), "the order changed");
    let lone = before
        .iter()
        .filter(|row| !after.contains(row))
        .chain(after.iter().filter(|row| !before.contains(row)));
    let mut names: Vec<String> =
        lone.map(|row| row.split(':').next().unwrap_or_default().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn wired(text: &str) -> String {
    String::from_utf8_lossy(&crate::world::wire(text)).into_owned()
}

#[test]
fn only_the_documented_fields_differ_on_the_way_inside() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    for method in ["INVITE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "OPTIONS", "INFO", "WHATEVER"] {
        let text = from_phone(method, "sips:200@10.0.1.50", &format!("t{method}"), 1, "", RICH);
        world.say(phone, &text);
        let sent = wired(&text);
        let heard = world.hear_start(own, method);
        let mut wanted = vec!["Contact", "Max-Breadth", "Max-Forwards", "Via"];
        if ["INVITE", "SUBSCRIBE", "NOTIFY"].contains(&method) {
            wanted.insert(3, "Record-Route");
        }
        // SAM-28: what would ring for ever gets an end.
        if method == "INVITE" {
            wanted.insert(1, "Expires");
        }
        assert_eq!(differing(&sent, &heard), wanted, "{heard}");
        assert_eq!(body(&heard), body(&sent));
    }
}

#[test]
fn only_the_documented_fields_differ_on_the_way_to_a_phone() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    for method in ["INVITE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "OPTIONS", "INFO", "WHATEVER"] {
        let rich = RICH.replace("d@10.0.1.50", "d@x").replace("e@10.0.1.50", "e@x");
        let text = from_pbx(method, &target(&token), &format!("t{method}"), 1, "", &rich);
        world.say(pbx, &text);
        let sent = wired(&text);
        let heard = world.hear_start(phone, method);
        let start = format!("{method} {} SIP/2.0", target(&token));
        let names =
            differing(&sent, &heard.replacen(&format!("{method} sips:117@192.168.1.7 SIP/2.0"), &start, 1));
        let mut wanted = vec!["Contact", "Max-Breadth", "Max-Forwards", "Via"];
        if ["INVITE", "SUBSCRIBE", "NOTIFY"].contains(&method) {
            wanted.insert(3, "Record-Route");
        }
        // SAM-28: what would ring for ever gets an end.
        if method == "INVITE" {
            wanted.insert(1, "Expires");
        }
        assert_eq!(names, wanted, "{heard}");
        assert_eq!(body(&heard), body(&sent));
    }
}

#[test]
fn only_the_documented_fields_differ_in_answers() {
    let mut world = World::new();
    let call = Call::from_pbx(&mut world, "c");
    let rich = RICH.replace("@10.0.1.50", "@x");
    world.say(call.pbx, &call.of_pbx("INFO", 2, ""));
    let info = world.hear_start(call.phone, "INFO ");
    let answer =
        crate::world::reply(&info, "202 Why not?", "", &format!("Contact: <sips:117@192.168.1.7>\n{rich}"));
    world.say(call.phone, &answer);
    let heard = world.hear_start(call.pbx, "SIP/2.0 202 Why not?");
    assert_eq!(differing(&wired(&answer), &heard), ["Contact", "Via"], "{heard}");
    world.say(call.phone, &call.of_phone("INFO", 2, ""));
    let info = world.hear_start(call.own, "INFO ");
    let answer =
        crate::world::reply(&info, "202 Why not?", "", &format!("Contact: <sips:200@10.0.1.50>\n{rich}"));
    world.say(call.own, &answer);
    let heard = world.hear_start(call.phone, "SIP/2.0 202 Why not?");
    assert_eq!(differing(&wired(&answer), &heard), ["Contact", "Via"], "{heard}");
}

#[test]
fn a_malformed_header_that_nobody_needs_passes_and_one_that_we_edit_does_not() {
    let mut world = World::new();
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let odd = "P-Odd: <<<\nAlert-Info: \"open\nSession-Expires: soon\nWarning: 399\nReply-To: <sip:open\nDate: never";
    let kept = odd.replace("P-Odd: <<<\n", "");
    world.say(phone, &from_phone("MESSAGE", "sips:200@10.0.1.50", "a", 1, "", odd));
    let heard = world.hear_start(own, "MESSAGE ");
    for line in kept.lines() {
        assert!(heard.contains(&format!("{line}\r\n")), "{line}\n{heard}");
    }
    for (n, bad) in ["Contact: <sip:open", "Record-Route: <sip:open", "Route: <sip:open"].iter().enumerate() {
        world.say(phone, &from_phone("MESSAGE", "sips:200@10.0.1.50", &format!("bad{n}"), 1, "", bad));
        world.hear_start(phone, "SIP/2.0 400 ");
        world.silent(own);
    }
    // The same from inside.
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    world.say(pbx, &from_pbx("MESSAGE", &target(&token), "a", 1, "", odd));
    let heard = world.hear_start(phone, "MESSAGE ");
    for line in odd.lines() {
        assert!(heard.contains(&format!("{line}\r\n")), "{line}\n{heard}");
    }
}

#[test]
fn identities_that_the_pbx_asserts_show_no_inside_address() {
    let mut world = World::new();
    let (phone, _, token) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let pbx = world.switch("10.0.1.50:33000");
    let named = "P-Asserted-Identity: \"Two, O\" <sips:200@10.0.1.50:5061>, <tel:+1200>
P-Asserted-Identity: <sip:200@pbx.example>
Remote-Party-ID: <sip:200@10.0.1.51;user=phone>;party=calling;screen=yes
Diversion: <sip:300@10.0.1.50>;reason=no-answer
History-Info: <sip:300@10.0.1.52?Reason=SIP%3Bcause%3D302>;index=1, <sip:117@203.0.113.9>;index=1.1
Reply-To: sip:200@10.0.1.50
Warning: 399 10.0.1.50:5061 \"odd, \\\"that\\\"\", 300 pbx.example \"x\"
Call-Info: <http://10.0.1.50/picture?for=200>;purpose=icon
Call-Info: <http://10.9.9.9/>, <https://10.0.1.50>
Call-Info: <https://pbx.example/picture>";
    world.say(pbx, &from_pbx("MESSAGE", &target(&token), "a", 1, "", named));
    let heard = world.hear_start(phone, "MESSAGE ");
    assert_eq!(
        rows(&heard, "P-Asserted-Identity"),
        ["\"Two, O\" <sips:200@192.0.2.1>", "<tel:+1200>", "<sip:200@pbx.example>"]
    );
    assert_eq!(row(&heard, "Remote-Party-ID"), "<sip:200@192.0.2.1;user=phone>;party=calling;screen=yes");
    assert_eq!(row(&heard, "Diversion"), "<sip:300@192.0.2.1>;reason=no-answer");
    assert_eq!(
        rows(&heard, "History-Info"),
        ["<sip:300@192.0.2.1?Reason=SIP%3Bcause%3D302>;index=1", "<sip:117@203.0.113.9>;index=1.1"]
    );
    assert_eq!(row(&heard, "Reply-To"), "<sip:200@192.0.2.1>");
    assert_eq!(rows(&heard, "Warning"), ["399 192.0.2.1 \"odd, \\\"that\\\"\"", "300 pbx.example \"x\""]);
    // What a phone fetches passes, and is counted.
    assert_eq!(rows(&heard, "Call-Info").len(), 3);
    assert_eq!(world.edge.snapshot(world.now).shown, 2);
    // Answers are no different.
    world.say(phone, &from_phone("MESSAGE", "sips:200@10.0.1.50", "b", 1, "", ""));
    let own = world.dialled("10.0.1.50:5061");
    let text = world.hear_start(own, "MESSAGE ");
    world.say(own, &crate::world::reply(&text, "404 Not Found", "t", "Warning: 399 10.0.1.50 \"no\""));
    assert_eq!(row(&world.hear_start(phone, "SIP/2.0 404 "), "Warning"), "399 192.0.2.1 \"no\"");
}
