//! The lines for real clients, tried with the real clients: curl and openssl against gateway, HQ server and CAS.

mod gateway;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use twin::pki::Pki;
use twin::plan::Plan;
use twin::play::attach::attach;
use twin::site::{Options, Site};

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a line as a person would; what it printed, or `None` where the program is not installed (a failure when
/// FAREND_REQUIRE_PEERS=1).
async fn run(line: &str) -> Option<(bool, String)> {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let mut command = Command::new(program);
    let command = command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(20), command.output()).await.expect("in time");
    let Ok(output) = output else {
        let required = std::env::var("FAREND_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!required, "{program} is not installed: {line}");
        eprintln!("left out: {line} ({program} is not installed)");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test]
async fn curl_and_openssl_do_what_the_lines_say() {
    let plan = Plan {
        hq: [127, 13, 1, 10].into(),
        switches: [50, 51, 52].map(|host| [127, 13, 1, host].into()),
        gateway_inside: [127, 13, 1, 2].into(),
        gateway_outside: [127, 23, 1, 1].into(),
        ..Plan::default()
    };
    let folder = Folder(std::env::temp_dir().join(format!("twin-attach-{}", std::process::id())));
    let pki = Pki::new(&plan).expect("pki");
    let files = pki.write(&folder.0).expect("files");
    let handset = &plan.handsets(1)[0];
    pki.write_phone(&files, handset.mac).expect("phone");
    let site = Site::start(&plan, &pki, &Options::default()).await.expect("site");
    let gateway = gateway::start(&plan, &pki, &site, None).await;
    let lines = attach(&gateway, &site, &files, handset).expect("lines");
    let line = |with: &str| lines.iter().find(|line| line.contains(with)).expect(with).trim().to_owned();

    if let Some((ok, text)) = run(&line("/startup.cfg")).await {
        assert!(ok && text.contains(&format!("mivoice config server: {}", plan.hq)), "{text}");
    }
    if let Some((ok, text)) = run(&line("/version.txt")).await {
        assert!(ok && text.contains("version: 6.2.0.29"), "{text}");
    }
    if let Some((ok, text)) = run(&line("s_client")).await {
        assert!(ok && text.contains("Verify return code: 0 (ok)"), "{text}");
    }
    // The same without the certificate: refused.
    let certificate = format!("--cert {}", files.phone(handset.mac).display());
    if let Some((ok, text)) = run(&line("/startup.cfg").replace(&certificate, "")).await {
        assert!(!ok && !text.contains("mivoice"), "{text}");
    }
    // baresip with the folder that was made for it: it registers at the switch through the gateway.
    let mut words = line("baresip -f").split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter();
    let mut baresip = Command::new(words.next().expect("a program"));
    let baresip = baresip
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match baresip.spawn() {
        Ok(_running) => {
            let registered =
                site.wait(Duration::from_secs(10), |records| records.find(&handset.extension).is_some());
            registered.await.expect("baresip registers");
        }
        Err(_) => eprintln!("left out, baresip is not installed"),
    }
    // The HQ server and the CAS, seen by a client that nobody here wrote.
    let hq = site.addresses().hq_https;
    let phone = format!("{certificate} --cacert {}", files.hq_ca.display());
    let cas = format!("curl -sS {phone} https://{}/cas/hello?mac={}", site.addresses().cas, handset.mac);
    if let Some((ok, text)) = run(&cas).await {
        assert!(ok && text.contains(&format!("\"mac\":\"{}\"", handset.mac)), "{text}");
    }
    let (named, port) = (&plan.hq_name, hq.port());
    let by_name =
        format!("curl -sSI --resolve {named}:{port}:{} --cacert {}", hq.ip(), files.hq_ca.display());
    if let Some((ok, text)) = run(&format!("{by_name} https://{named}:{port}/version.txt")).await {
        assert!(ok && text.starts_with("HTTP/1.1 200"), "{text}");
    }
}
