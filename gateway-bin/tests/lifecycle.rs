//! The composed gateway from start to stop, over plain TCP on an address of this test's own: no certificates, no twin.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use farend::{Gateway, config};

/// A folder and a loopback address that no other test has.
struct Place {
    folder: PathBuf,
    address: Ipv4Addr,
}

impl Place {
    fn new() -> Self {
        static LAST: AtomicU8 = AtomicU8::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let [.., high, low] = std::process::id().to_be_bytes();
        let folder = std::env::temp_dir().join(format!("farend-life-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, address: Ipv4Addr::new(127, 64 + high % 64, low, number) }
    }

    fn settings(&self, rows: &str) -> config::Settings {
        let (settings, _) =
            config::read(&self.text(rows), &self.folder.join("farend.toml"), &self.folder).unwrap();
        settings
    }

    fn text(&self, rows: &str) -> String {
        let Self { folder, address } = self;
        format!(
            r#"
state_dir = "{}"
lab = true
[net.interfaces]
inside  = {{ addresses = ["{address}"] }}
outside = {{ addresses = ["{address}"] }}
[net.networks]
pbx = ["127.0.0.0/8"]
{rows}
[sip]
inside_networks = "pbx"
uri_encoding = "keep-username"
user_matching = "username"
[sip.inside]
transport = "tcp"
port = 5060
"#,
            folder.join("state").display()
        )
    }

    /// The status line that an OPTIONS for `user` from the PBX is answered with.
    fn ask(&self, user: &str, port: u16) -> String {
        self.ask_on(&mut TcpStream::connect((IpAddr::V4(self.address), port)).unwrap(), user)
    }

    fn ask_on(&self, stream: &mut TcpStream, user: &str) -> String {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = self.address;
        let request = format!(
            "OPTIONS sip:{user}@{address} SIP/2.0\r\nVia: SIP/2.0/TCP {address}:5999;branch=z9hG4bK{user}\r\n\
             From: <sip:pbx@{address}>;tag=1\r\nTo: <sip:{user}@{address}>\r\nCall-ID: {user}\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut some = [0; 512];
            let read = stream.read(&mut some).unwrap();
            assert_ne!(read, 0, "closed without an answer");
            answer.extend_from_slice(&some[..read]);
        }
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn row(name: &str, port: u16) -> String {
    format!(
        "[[sip.ports]]\nname = \"{name}\"\ninterface = \"inside\"\nport = {port}\ntransport = \"udp+tcp\"\nallow_from = \"pbx\"\ntrust_source = true\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_may_change_its_name_and_take_over_an_address() {
    let place = Place::new();
    let two = |first: (&str, u16), second: (&str, u16)| row(first.0, first.1) + &row(second.0, second.1);
    let mut gateway = Gateway::start(place.settings(&two(("a", 5060), ("b", 5062)))).await.unwrap();
    assert_eq!(place.ask("117", 5060), "SIP/2.0 404 Not Found");
    gateway.reload(place.settings(&two(("renamed", 5060), ("b", 5062)))).await.unwrap();
    assert_eq!(place.ask("117", 5060), "SIP/2.0 404 Not Found");
    gateway.reload(place.settings(&two(("renamed", 5062), ("b", 5060)))).await.unwrap();
    assert_eq!(place.ask("117", 5062), "SIP/2.0 404 Not Found");
    // A row that goes closes its port, and one that comes back finds it free.
    gateway.reload(place.settings(&row("b", 5060))).await.unwrap();
    assert!(TcpStream::connect((IpAddr::V4(place.address), 5062)).is_err());
    gateway.reload(place.settings(&two(("renamed", 5062), ("b", 5060)))).await.unwrap();
    assert_eq!(place.ask("117", 5062), "SIP/2.0 404 Not Found");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_leaves_the_state_of_the_first_alone() {
    let place = Place::new();
    let gateway = Gateway::start(place.settings(&row("a", 5060))).await.unwrap();
    let second = Gateway::start(place.settings(&row("b", 5062))).await.unwrap_err();
    assert!(second.to_string().ends_with("another farend runs on this state_dir"), "{second}");
    assert!(TcpStream::connect((IpAddr::V4(place.address), 5062)).is_err(), "nothing is left half-started");
    assert_eq!(place.ask("117", 5060), "SIP/2.0 404 Not Found");
    gateway.stop().await;
    Gateway::start(place.settings(&row("b", 5062))).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_fewer_ports_than_the_relay_would_keep_ready_is_enough() {
    let place = Place::new();
    // Both sides on one address: the second finds 72 of the 128 pairs it would like.
    let rows = format!("{}[media]\nport_range = [20000, 20399]\n", row("a", 5060));
    let gateway = Gateway::start(place.settings(&rows)).await.unwrap();
    assert_eq!(place.ask("117", 5060), "SIP/2.0 404 Not Found");
    gateway.stop().await;
}

/// A registration as a gateway that ran before has left it behind (§1.1 step 8).
const REGISTERED: &str = r#"{"until":4102444800,"change":{"Put":{"id":81985529216486895,"tag":"08000FD4CBBF","contact":"sips:117@192.168.1.7","user":"117","domain":"10.0.1.50","users":["anonymous"],"expires_in":3600,"certificate":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7],"contact_token":"abc","flow_tokens":["d","e"],"switch":null,"outbound":false}}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_was_registered_before_the_restart_is_known_and_gone() {
    let place = Place::new();
    let state = place.folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    // The last line is torn, as a kill leaves it.
    std::fs::write(state.join("location.log"), format!("{REGISTERED}\n{{\"until\":41024")).unwrap();
    let settings = || place.settings(&row("a", 5060));
    for _ in 0..2 {
        let gateway = Gateway::start(settings()).await.unwrap();
        assert_eq!(place.ask("117", 5060), "SIP/2.0 480 Temporarily Unavailable");
        assert_eq!(place.ask("118", 5060), "SIP/2.0 404 Not Found");
        gateway.stop().await;
        let mode = std::fs::metadata(state.join("location.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn who_does_not_read_the_log_does_not_stop_the_gateway() {
    let place = Place::new();
    let path = place.folder.join("farend.toml");
    std::fs::write(&path, place.text(&row("a", 5060))).unwrap();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_farend"))
        .args(["run", "-c"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut stream = loop {
        match TcpStream::connect((IpAddr::V4(place.address), 5060)) {
            Ok(stream) => break stream,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // Each is a line of the log; a pipe holds 64 KiB of them.
    for number in 0..1000 {
        assert_eq!(place.ask_on(&mut stream, &format!("u{number}")), "SIP/2.0 404 Not Found");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(gateway.wait().unwrap().success());
}

#[test]
fn keys_are_rotated_in_the_running_gateway_and_without_one() {
    let place = Place::new();
    let path = place.folder.join("farend.toml");
    std::fs::write(&path, place.text(&row("a", 5060))).unwrap();
    let keys = || std::fs::read_to_string(place.folder.join("state/token.key")).unwrap();
    let rotate = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_farend")).args(["keys", "rotate"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut gateway =
        Command::new(env!("CARGO_BIN_EXE_farend")).args(["run", "-c"]).arg(&path).spawn().unwrap();
    let began = Instant::now();
    // It listens a moment before it has its state.
    while !place.folder.join("state/location.log").exists() {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = keys();
    assert_eq!(first.lines().count(), 1);
    assert_eq!(rotate(), format!("the gateway (process {}) was told to make a new key\n", gateway.id()));
    while keys().lines().count() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "no second key");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(keys().starts_with(&first));
    assert_eq!(place.ask("117", 5060), "SIP/2.0 404 Not Found");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(gateway.wait().unwrap().success());
    assert_eq!(rotate(), "no gateway runs: made key 3\n");
    assert_eq!(keys().lines().count(), 3);
    // What can't be read is no reason for new keys: neither the command nor the gateway goes on.
    std::fs::write(place.folder.join("state/token.key"), "damaged").unwrap();
    for arguments in [&["keys", "rotate"][..], &["run", "-c"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_farend")).args(arguments).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    assert_eq!(keys(), "damaged");
}
