//! A client that nobody here wrote. Where curl is not installed, each test says so and is left out, or fails when
//! FAREND_REQUIRE_PEERS=1.

use std::process::Output;

use tokio::process::Command;
use tunnel::repository::Row;

use crate::support::{Gateway, echo, files, repository, server, soon, tunnel};

/// Runs curl, or says what was left out.
async fn curl(what: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "15"]).args(arguments);
    // A proxy of the environment must not stand between.
    for name in ["http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
    {
        command.env_remove(name);
    }
    match soon(command.output()).await {
        Ok(output) => Some(output),
        Err(error) => {
            leave_out(&format!("{what}: curl: {error}"));
            None
        }
    }
}

/// A peer is missing: said, or a failure where none may be missing.
fn leave_out(what: &str) {
    assert!(std::env::var("FAREND_REQUIRE_PEERS").as_deref() != Ok("1"), "{what}");
    eprintln!("left out: {what}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn curl_reaches_a_server_through_a_tunnel() {
    let inside = Gateway::start(|_| {
        repository(Row { files: Some(files(&[("/cas", b"from the inside")])), ..Row::default() })
    })
    .await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let (proxy, url) = (format!("http://{}", gateway.address), format!("http://{}/cas", inside.address));
    let arguments = ["--proxytunnel", "--proxy", &proxy, &url];
    let Some(output) = curl("a tunnel", &arguments).await else { return };
    assert_eq!(text(&output.stdout), "from the inside", "{}", text(&output.stderr));
}

#[tokio::test]
async fn curl_is_told_403_and_405() {
    let gateway = Gateway::start(|own| tunnel(own, &["10.0.0.0/8"])).await;
    let target = echo().await;
    let (proxy, url) = (format!("http://{}", gateway.address), format!("http://{target}/"));
    let code = ["--output", "/dev/null", "--write-out", "%{http_connect} %{http_code}"];
    let Some(output) =
        curl("a refusal", &[&code[..], &["--proxytunnel", "--proxy", &proxy, &url]].concat()).await
    else {
        return;
    };
    assert_eq!(text(&output.stdout), "403 000");
    let Some(output) = curl("no proxy", &[&code[..], &["--proxy", &proxy, &url]].concat()).await else {
        return;
    };
    assert_eq!(text(&output.stdout), "000 405");
}

#[tokio::test]
async fn curl_gets_files_ranges_and_304() {
    let group = files(&[("/startup.cfg", b"tunnel port: 6587\n")]);
    let gateway = Gateway::start(|_| repository(Row { files: Some(group), ..Row::default() })).await;
    let url = format!("http://{}/startup.cfg", gateway.address);
    let Some(output) = curl("a file", &[&url]).await else { return };
    assert_eq!(text(&output.stdout), "tunnel port: 6587\n");
    let Some(output) = curl("a range", &["--range", "0-5", &url]).await else { return };
    assert_eq!(text(&output.stdout), "tunnel");
    let Some(output) = curl("a head", &["--head", &url]).await else { return };
    let head = text(&output.stdout);
    let tag = head.lines().find_map(|row| row.strip_prefix("etag: ")).expect("a tag").trim().to_owned();
    let condition = format!("If-None-Match: {tag}");
    let Some(output) =
        curl("a condition", &["--write-out", "%{http_code}", "--header", &condition, &url]).await
    else {
        return;
    };
    assert_eq!(text(&output.stdout), "304");
}

/// `sha256sum -c` decides on the checksum file, as the phone's installer would.
#[tokio::test]
async fn sha256sum_accepts_the_checksum_file() {
    let group = files(&[("/dir/fw.bin", b"firmware")]);
    let gateway = Gateway::start(|_| repository(Row { files: Some(group), ..Row::default() })).await;
    let folder = std::env::temp_dir().join(format!("farend-tunnel-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, path) in [("fw.bin", "/dir/fw.bin"), ("fw.bin.sha256", "/dir/fw.bin.sha256")] {
        std::fs::write(folder.join(name), gateway.get(path, "").await.body).expect("written");
    }
    let check = Command::new("sha256sum").args(["-c", "fw.bin.sha256"]).current_dir(&folder).output().await;
    match check {
        Ok(output) => assert!(output.status.success(), "{}", text(&output.stderr)),
        Err(error) => leave_out(&format!("the checksum file: sha256sum: {error}")),
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// curl keeps its tunnel open behind a body without length: only the half-close tells it the end.
#[tokio::test]
async fn curl_sees_the_end_that_the_target_makes() {
    let target = server(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
        let _ = stream.shutdown().await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let gateway = Gateway::start(|own| tunnel(own, &["127.0.0.0/8"])).await;
    let (proxy, url) = (format!("http://{}", gateway.address), format!("http://{target}/"));
    let Some(output) = curl("an end", &["--proxytunnel", "--proxy", &proxy, &url]).await else { return };
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("until the end", Some(0)));
}
