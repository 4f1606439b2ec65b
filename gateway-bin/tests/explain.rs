//! `farend explain sip`, as an operator runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("farend-explain-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("state")).unwrap();
        let place = Self(folder);
        place.write(
            "farend.toml",
            &format!(
                r#"
state_dir = "{}"
lab = true
[net.interfaces]
inside  = {{ addresses = ["127.60.0.1"] }}
outside = {{ addresses = ["127.60.0.1"] }}
[net.networks]
pbx = ["127.0.0.0/8"]
[[sip.ports]]
name = "pbx"
interface = "inside"
port = 5060
transport = "tcp"
allow_from = "pbx"
trust_source = true
[sip]
inside_networks = "pbx"
uri_encoding = "keep-username"
user_matching = "username"
[sip.tag_routing]
enabled = true
[sip.inside]
transport = "tcp"
port = 5060
"#,
                place.0.join("state").display()
            ),
        );
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn explain(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farend"));
        command.args(["explain", "sip"]).arg(self.0.join("message.txt")).arg("--config");
        command.arg(self.0.join("farend.toml")).args(arguments).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const NOTIFY: &str = "NOTIFY sip:anonymous@127.60.0.1:5060;transport=tcp SIP/2.0
Via: SIP/2.0/TCP 127.0.0.9;branch=z9hG4bK1
From: <sip:pbx@127.0.0.9>;tag=1
To: <sip:anonymous@127.60.0.1>
Call-ID: n
CSeq: 1 NOTIFY
Max-Forwards: 70
Content-Length: 0

";

#[test]
fn a_message_for_nobody_is_explained_step_by_step_and_nothing_is_written() {
    let place = Place::new("nobody");
    place.write("message.txt", NOTIFY);
    let output = place.explain(&["--from", "127.0.0.9", "--row", "pbx"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.starts_with("Comes by sip.ports \"pbx\" from 127.0.0.9:5060; phones count as connected\n"),
        "{text}"
    );
    for part in [
        "sender             ok       verified by its address (trust_source)",
        "0 dialog           miss ",
        "1 route            miss ",
        "2 contact token    miss ",
        "3 instance         miss ",
        "4 own connection   miss ",
        "5 user             REFUSED  404 Not Found",
        "Refused with 404: UnknownPhone",
        "+ SIP/2.0 404 Not Found",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(std::fs::read_dir(place.0.join("state")).unwrap().count(), 0, "it writes nothing");
}

#[test]
fn a_registered_phone_is_found_by_its_instance() {
    let place = Place::new("instance");
    let mac = "08000FD4CBBF";
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 600;
    let id = sip_core::token::InstanceId::new("farend", mac).0;
    let certificate = [1_u8; 32];
    let keys = sip_core::token::Keyring::new(sip_core::token::Key::new(1, [0; 32]), Vec::new());
    let record = sip_core::edge::bindings::Record {
        id,
        tag: Some(mac.to_owned()),
        contact: "sip:anonymous@192.168.1.7".to_owned(),
        user: "anonymous".to_owned(),
        domain: String::new(),
        users: Vec::new(),
        expires_in: 600,
        certificate,
        contact_token: Some(keys.contact_token("farend", mac)),
        flow_tokens: [sip_core::flow::Side::Outside, sip_core::flow::Side::Inside]
            .map(|side| keys.flow_token(None, sip_core::token::InstanceId(id), &certificate, side)),
        switch: None,
        outbound: false,
        address: None,
    };
    let change = serde_json::to_value(sip_core::edge::bindings::Change::Put(Box::new(record))).unwrap();
    let line = serde_json::json!({ "until": until, "change": change });
    place.write("state/location.log", &format!("{line}\n"));
    let accept =
        format!("Accept-Contact: *;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\"\nCall-ID");
    place.write("message.txt", &NOTIFY.replace("Call-ID", &accept));
    let text = String::from_utf8(place.explain(&["--from", "127.0.0.9", "--side", "inside"]).stdout).unwrap();
    assert!(text.contains("3 instance         HIT      08000FD4CBBF (user anonymous)"), "{text}");
    assert!(text.contains("  + NOTIFY sip:anonymous@192.168.1.7 SIP/2.0\n"), "{text}");
    let gone = place.explain(&["--from", "127.0.0.9", "--side", "inside", "--phones-gone"]);
    let gone = String::from_utf8(gone.stdout).unwrap();
    assert!(gone.contains("Refused with 480: PhoneGone"), "{gone}");
}

#[test]
fn what_cannot_be_explained_is_said() {
    let place = Place::new("refused");
    place.write("message.txt", NOTIFY);
    let stranger = place.explain(&["--from", "192.0.2.7", "--row", "pbx"]);
    assert!(String::from_utf8_lossy(&stranger.stdout).contains("REFUSED before a byte is read"));
    let row = place.explain(&["--from", "127.0.0.9", "--row", "none"]);
    assert_eq!(row.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&row.stderr).contains("there are: pbx"));
    place.write("message.txt", "GET / HTTP/1.1\n\n");
    let http = place.explain(&["--from", "127.0.0.9", "--row", "pbx"]);
    assert_eq!(http.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&http.stderr).contains("not a SIP message"));
}
