//! A phone that nobody here wrote: baresip registers at a switch of the site with a client certificate, calls a
//! virtual phone, and each hears the other's tone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use twin::phone::Phone;
use twin::phone::line::Line;
use twin::pki::{Files, Pki};
use twin::plan::{Handset, Plan};
use twin::site::{Options, Over, Site};
use twin::{http, rtp, tls};

const MODULES: &str = "/usr/lib/baresip/modules";
const PATIENCE: Duration = Duration::from_secs(10);

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The samples of the recording that baresip made of what it heard.
fn recording(folder: &Path) -> Vec<i16> {
    let files = std::fs::read_dir(folder).expect("folder").filter_map(Result::ok).map(|entry| entry.path());
    let file =
        files.into_iter().find(|path| path.to_string_lossy().ends_with("-dec.wav")).expect("a recording");
    let bytes = std::fs::read(file).expect("readable");
    bytes[44..].as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

/// What baresip wants in its folder: an account at the switch, a certificate, a tone to send.
fn configure(folder: &Path, files: &Files, handset: &Handset, switch: SocketAddr) {
    let (path, here) = (|name: &str| folder.join(name), folder.display());
    std::fs::write(path("tone.wav"), rtp::wave(1000.0)).expect("tone");
    std::fs::write(path("contacts"), "").expect("contacts");
    std::fs::write(path("uuid"), handset.mac.instance().trim_start_matches("urn:uuid:")).expect("uuid");
    let account = format!("<sip:110@{switch};transport=tls>;auth_pass=none;regint=60\n");
    std::fs::write(path("accounts"), account).expect("account");
    let config = format!(
        "module_path {MODULES}\nsip_listen {}:0\nsip_certificate {}\nsip_cafile {}\n\
         audio_source aufile,{here}/tone.wav\naudio_player aubridge,a\naudio_alert aubridge,b\n\
         snd_path {here}\nmodule g711.so\nmodule aubridge.so\nmodule aufile.so\nmodule sndfile.so\n\
         module stdio.so\nmodule_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n",
        handset.ip,
        files.phone(handset.mac).display(),
        files.hq_ca.display(),
    );
    std::fs::write(path("config"), config).expect("config");
}

#[tokio::test]
async fn baresip_and_a_virtual_phone_hear_each_other() {
    if !Path::new(MODULES).exists() {
        let required = std::env::var("FAREND_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!required, "baresip is not installed");
        eprintln!("left out: a call with baresip, which is not installed");
        return;
    }
    let plan = Plan {
        hq: [127, 14, 1, 10].into(),
        switches: [50, 51, 52].map(|host| [127, 14, 1, host].into()),
        homes: vec![[127, 44, 1]],
        ..Plan::default()
    };
    let folder = Folder(std::env::temp_dir().join(format!("twin-baresip-{}", std::process::id())));
    let pki = Pki::new(&plan).expect("pki");
    let files = pki.write(&folder.0).expect("files");
    let handsets = plan.handsets(2);
    pki.write_phone(&files, handsets[1].mac).expect("certificate");
    let options = Options { over: Over::Registration, ..Options::default() };
    let site = Site::start(&plan, &pki, &options).await.expect("site");
    let (switch, cas) = (site.addresses().switches[0], site.addresses().cas);

    let phone = Phone::new(handsets[0].clone(), &pki, PATIENCE).expect("phone");
    let phone = phone.trusting(&[pki.hq_root().clone()]).expect("settings");
    let stream = tls::tcp(handsets[0].ip.into(), cas).await.expect("cas");
    let stream = tls::start(stream, &cas.ip().to_string(), phone.settings()).await.expect("tls");
    let path = format!("/cas/assign?mac={}&extension=101", handsets[0].mac);
    assert_eq!(http::Exchange::new(stream).request("GET", &path, "cas").await.expect("cas").status, 200);
    let line = Line::connect(&phone, switch, &switch.ip().to_string()).await.expect("line");
    line.register(switch, 60).await.expect("registered");

    configure(&folder.0, &files, &handsets[1], switch);
    let here = folder.0.display();
    let mut baresip = Command::new("baresip")
        .args(["-f", &here.to_string(), "-t", "30"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("baresip starts");
    let mut keys = baresip.stdin.take().expect("piped");

    site.wait(PATIENCE, |records| records.find("110").is_some()).await.expect("baresip registers");
    keys.write_all(format!("/dial sip:101@{switch}\n").as_bytes()).await.expect("dial");
    let call = line.answered().await.expect("baresip's ACK");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let heard = call.seen();
    assert!(heard.received > 50 && heard.tone(1000.0) > 0.9, "{} {}", heard.received, heard.tone(1000.0));
    keys.write_all(b"/hangup\n").await.expect("hang up");
    call.ended().await.expect("baresip's BYE");
    keys.write_all(b"/quit\n").await.expect("quit");
    tokio::time::timeout(PATIENCE, baresip.wait()).await.expect("quits").expect("status");
    let samples = recording(&folder.0);
    assert!(samples.len() > 8000 && rtp::tone(&samples, handsets[0].tone) > 0.7, "{}", samples.len());
}
