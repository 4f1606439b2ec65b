//! `farend media`, the process: who may come in, what it has for who comes next, when it ends. Its clients are written by hand.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sdp_core::anchor::{Anchor, Config, Left};
use sdp_core::policy::Addresses;
use sdp_core::relay::wire::{self, Decoder, FromRelay, Hello, Instance, PREAMBLE, Received, Setup, ToRelay};
use sdp_core::relay::{Report, Side};

const PATIENCE: Duration = Duration::from_secs(10);

struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    fn start(name: &str, more: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("farend-media-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut process = Self { child: Self::spawn(&folder.join("media.sock"), more), folder };
        process.wait_for(|process| UnixStream::connect(process.socket()).is_ok());
        process
    }

    fn spawn(socket: &std::path::Path, more: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farend"));
        command.args(["media", "--socket"]).arg(socket).args(more);
        command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("media.sock")
    }

    fn wait_for(&mut self, met: impl Fn(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !met(self) {
            assert!(Instant::now() < until, "not in time");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn tell(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.wait_for(|process| process.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Ports of this test alone, below those that the kernel hands out.
fn setup() -> Setup {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(own < 16, "as many ranges as there are");
    let first = 21_000 + 640 * ((std::process::id() % 16) as u16) + 40 * own;
    // Two addresses, so that neither side takes the ports of the other.
    let ip = |text: &str| Addresses::from(text.parse::<IpAddr>().unwrap());
    Setup {
        outside: ip("127.0.0.1"),
        inside: ip("127.0.0.2"),
        ports: first..=first + 39,
        workers: 3,
        dscp: 0,
    }
}

struct Client {
    stream: UnixStream,
    decoder: Decoder<FromRelay>,
}

impl Client {
    fn hello(process: &Process, setup: &Setup) -> Self {
        Self::hello_of(4711, process, setup)
    }

    /// As the gateway of this process.
    fn hello_of(number: u32, process: &Process, setup: &Setup) -> Self {
        let mut client = Self::connect(process, wire::preamble());
        let instance = Instance { process: number, program: "test".into() };
        client.say(&ToRelay::Hello(Hello { instance, setup: setup.clone() }));
        client
    }

    fn connect(process: &Process, preamble: [u8; PREAMBLE]) -> Self {
        let mut stream = UnixStream::connect(process.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&preamble).unwrap();
        let mut theirs = [0; PREAMBLE];
        stream.read_exact(&mut theirs).unwrap();
        wire::read_preamble(theirs).unwrap();
        Self { stream, decoder: Decoder::default() }
    }

    fn say(&mut self, message: &ToRelay) {
        let mut octets = Vec::new();
        wire::encode(message, &mut octets).unwrap();
        self.stream.write_all(&octets).unwrap();
    }

    /// The next message; `None` at the end of the connection.
    fn hear(&mut self) -> Option<FromRelay> {
        loop {
            match self.decoder.poll_message().unwrap() {
                Some(Received::Message(message)) => return Some(message),
                Some(Received::Unreadable { reason }) => panic!("{reason}"),
                None => {}
            }
            let mut octets = [0; 4096];
            match self.stream.read(&mut octets).unwrap() {
                0 => return None,
                count => self.decoder.handle_octets(&octets[..count]),
            }
        }
    }

    /// Welcome, and what is left of whoever came before.
    fn welcomed(&mut self) -> Left {
        let first = self.hear();
        assert!(matches!(first, Some(FromRelay::Welcome(_))), "{first:?}");
        let mut left = Left::default();
        loop {
            match self.hear().unwrap() {
                FromRelay::Report(report @ Report::Snapshot { .. }) => {
                    if left.add(report) {
                        return left;
                    }
                }
                other => panic!("before the snapshot nothing: {other:?}"),
            }
        }
    }

    fn drain(&mut self, anchor: &mut Anchor) {
        while let Some(command) = anchor.poll_command() {
            self.say(&ToRelay::Command(command));
        }
    }

    /// An anchor that has ports.
    fn anchor(&mut self, setup: &Setup, left: &Left) -> Anchor {
        let mut config = Config::new(setup.outside, setup.inside);
        config.keep_state = true;
        let mut anchor = Anchor::new(Instant::now(), config);
        anchor.take_over(Instant::now(), left);
        self.drain(&mut anchor);
        while !anchor.is_ready() {
            if let Some(FromRelay::Report(report)) = self.hear() {
                anchor.handle_report(Instant::now(), report);
                self.drain(&mut anchor);
            }
        }
        anchor
    }
}

fn audio(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    )
}

fn port(sdp: &[u8]) -> u16 {
    let text = std::str::from_utf8(sdp).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

/// Two ends on loopback, whose packets meet.
struct Call {
    phone: UdpSocket,
    switch: UdpSocket,
    /// Our port towards the phone.
    outside: u16,
    sequence: u16,
}

impl Call {
    fn new(client: &mut Client, anchor: &mut Anchor) -> Self {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            socket
        };
        let (phone, switch) = (socket(), socket());
        let said = |socket: &UdpSocket| audio(socket.local_addr().unwrap().port());
        anchor.offer(Instant::now(), 7, Side::Outside, ip, ip, said(&phone).as_bytes()).unwrap();
        let answer =
            anchor.answer(Instant::now(), 7, Side::Inside, ip, ip, said(&switch).as_bytes()).unwrap();
        client.drain(anchor);
        Self { phone, switch, outside: port(&answer), sequence: 0 }
    }

    /// Whether what the phone says arrives.
    fn is_heard(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(3);
        let mut packet = [0; 1500];
        while Instant::now() < until {
            self.sequence += 1;
            let [high, low] = self.sequence.to_be_bytes();
            let rtp = [0x80, 0, high, low, 0, 0, 0, 1, 0, 0, 0, 7, 0xd5, 0xd5];
            self.phone.send_to(&rtp, ("127.0.0.1", self.outside)).unwrap();
            if self.switch.recv(&mut packet).is_ok() {
                return true;
            }
        }
        false
    }
}

#[test]
fn a_call_goes_on_without_signalling_and_the_next_process_has_it() {
    let mut process = Process::start("goes-on", &[]);
    let setup = setup();
    let mut first = Client::hello(&process, &setup);
    let left = first.welcomed();
    assert_eq!(left, Left::default());
    let mut anchor = first.anchor(&setup, &left);
    let mut call = Call::new(&mut first, &mut anchor);
    anchor.set_record(7, b"dialog".to_vec());
    first.drain(&mut anchor);
    assert!(call.is_heard());
    drop((first, anchor));
    assert!(call.is_heard(), "nobody is connected");
    let mut second = Client::hello(&process, &setup);
    let left = second.welcomed();
    assert_eq!(left.sessions().collect::<Vec<_>>(), [7]);
    let mut anchor = second.anchor(&setup, &left);
    assert_eq!(anchor.record(7), Some(&b"dialog"[..]));
    assert!(call.is_heard());
    anchor.end(Instant::now(), 7);
    second.drain(&mut anchor);
    second.say(&ToRelay::Ask);
    while second.hear() != Some(FromRelay::Here) {}
    drop(second);
    let mut third = Client::hello(&process, &setup);
    assert_eq!(third.welcomed(), Left::default(), "no port outlives its session (MED-22)");
    process.tell(Signal::SIGTERM);
    assert!(process.end().success());
    assert!(!process.socket().exists());
}

#[test]
fn who_comes_again_takes_his_own_place_but_not_with_another_relay() {
    let process = Process::start("replaced", &[]);
    let setup = setup();
    let mut first = Client::hello(&process, &setup);
    let left = first.welcomed();
    let mut anchor = first.anchor(&setup, &left);
    let mut call = Call::new(&mut first, &mut anchor);
    assert!(call.is_heard());
    let other = Setup { ports: *setup.ports.start()..=setup.ports.end() - 2, ..setup.clone() };
    let mut refused = Client::hello(&process, &other);
    let Some(FromRelay::Declined { reason }) = refused.hear() else { panic!("refused") };
    assert!(reason.contains("1 sessions") && reason.contains("media.port_range"), "{reason}");
    assert_eq!(refused.hear(), None);
    first.say(&ToRelay::Ask);
    while first.hear() != Some(FromRelay::Here) {}
    let mut second = Client::hello(&process, &setup);
    assert_eq!(second.welcomed().sessions().collect::<Vec<_>>(), [7]);
    let by = Instance { process: 4711, program: "test".into() };
    while first.hear() != Some(FromRelay::Replaced { by: by.clone() }) {}
    assert_eq!(first.hear(), None, "the old connection is closed");
    assert!(call.is_heard());
    anchor.end(Instant::now(), 7);
    second.drain(&mut anchor);
    second.say(&ToRelay::Ask);
    while second.hear() != Some(FromRelay::Here) {}
    // Nobody needs the old relay any more: others may be asked for.
    let mut third = Client::hello(&process, &other);
    assert_eq!(third.welcomed(), Left::default());
}

#[test]
fn of_two_gateways_the_first_is_served_until_it_goes_or_hangs() {
    let process = Process::start("two", &[]);
    let setup = setup();
    let mut first = Client::hello(&process, &setup);
    first.welcomed();
    let other = Setup { ports: *setup.ports.start()..=setup.ports.end() - 2, ..setup.clone() };
    // There is no call: also one with the same settings, or for another relay, is refused.
    for setup in [&setup, &other] {
        let mut second = Client::hello_of(4712, &process, setup);
        let Some(FromRelay::Declined { reason }) = second.hear() else { panic!("refused") };
        let expected = "it serves the gateway of process 4711 (version test): end that one";
        assert!(reason.starts_with(expected), "{reason}");
        assert_eq!(second.hear(), None);
        first.say(&ToRelay::Ask);
        while first.hear() != Some(FromRelay::Here) {}
    }
    // One that is just being killed is no reason to refuse the next.
    let mut second = Client::hello_of(4712, &process, &setup);
    std::thread::sleep(Duration::from_millis(200));
    drop(first);
    second.welcomed();
    // It hangs: it does not even ask.
    std::thread::sleep(Duration::from_secs(10));
    let mut third = Client::hello_of(4713, &process, &other);
    third.welcomed();
    let by = Instance { process: 4713, program: "test".into() };
    while second.hear() != Some(FromRelay::Replaced { by: by.clone() }) {}
}

#[test]
fn gateways_that_follow_each_other_at_once_are_all_served() {
    let process = Process::start("follow", &[]);
    let setup = setup();
    for number in 5000..5100 {
        let mut client = Client::hello_of(number, &process, &setup);
        let left = client.welcomed();
        client.anchor(&setup, &left);
    }
}

#[test]
fn a_process_whose_socket_was_removed_is_found_again_with_its_calls() {
    let mut process = Process::start("removed", &[]);
    let setup = setup();
    let mut first = Client::hello(&process, &setup);
    let left = first.welcomed();
    let mut anchor = first.anchor(&setup, &left);
    let mut call = Call::new(&mut first, &mut anchor);
    anchor.set_record(7, b"dialog".to_vec());
    first.drain(&mut anchor);
    assert!(call.is_heard());
    std::fs::remove_file(process.socket()).unwrap();
    drop(first);
    process.wait_for(|process| UnixStream::connect(process.socket()).is_ok());
    let mut second = Client::hello(&process, &setup);
    assert_eq!(second.welcomed().sessions().collect::<Vec<_>>(), [7]);
    assert!(call.is_heard());
}

#[test]
fn strangers_other_versions_and_the_silent_keep_nobody_out() {
    let process = Process::start("strangers", &[]);
    let mut other = wire::preamble();
    other[9] = 99;
    // Each is told our version before the connection ends.
    for preamble in [other, *b"GET / HTTP"] {
        let mut client = Client::connect(&process, preamble);
        assert_eq!(client.hear(), None);
    }
    let mut rude = Client::connect(&process, wire::preamble());
    rude.say(&ToRelay::Ask);
    assert_eq!(rude.hear(), None, "a hello comes first");
    let silent: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(process.socket()).unwrap()).collect();
    let mut client = Client::hello(&process, &setup());
    client.welcomed();
    drop(silent);
}

#[test]
fn the_socket_is_its_users_and_one_process_serves_it() {
    let mut process = Process::start("socket", &[]);
    let mode = std::fs::metadata(process.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut second = Process::spawn(&process.socket(), &[]);
    assert!(!second.wait().unwrap().success(), "another one serves it");
    let mut client = Client::hello(&process, &setup());
    client.welcomed();
    // What a killed process leaves is in nobody's way.
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    assert!(process.socket().exists());
    process.child = Process::spawn(&process.socket(), &[]);
    process.wait_for(|process| UnixStream::connect(process.socket()).is_ok());
    Client::hello(&process, &setup()).welcomed();
}

#[test]
fn a_file_that_is_no_socket_is_not_taken_out_of_the_way() {
    let process = Process::start("precious", &[]);
    let precious = process.folder.join("farend.toml");
    std::fs::write(&precious, "precious").unwrap();
    let status = Process::spawn(&precious, &[]).wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    assert!(!process.folder.join("farend.toml.lock").exists(), "nothing is left beside it");
}

#[test]
fn signals_that_are_meant_for_the_gateway_do_not_end_it() {
    let process = Process::start("signals", &[]);
    let mut client = Client::hello(&process, &setup());
    client.welcomed();
    process.tell(Signal::SIGHUP);
    process.tell(Signal::SIGUSR1);
    for _ in 0..3 {
        client.say(&ToRelay::Ask);
        while client.hear().expect("it goes on") != FromRelay::Here {}
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_that_a_gateway_started_ends_when_told_and_nothing_is_left_a_service_stays() {
    let mut spawned = Process::start("spawned", &["--spawned"]);
    let mut service = Process::start("service", &[]);
    let setup = setup();
    let mut client = Client::hello(&spawned, &setup);
    let left = client.welcomed();
    let mut anchor = client.anchor(&setup, &left);
    let mut call = Call::new(&mut client, &mut anchor);
    client.say(&ToRelay::Finish);
    assert!(call.is_heard(), "somebody speaks");
    assert!(spawned.child.try_wait().unwrap().is_none());
    anchor.end(Instant::now(), 7);
    client.drain(&mut anchor);
    client.say(&ToRelay::Finish);
    assert!(spawned.end().success());
    let mut client = Client::hello(&service, &setup);
    client.welcomed();
    client.say(&ToRelay::Finish);
    client.say(&ToRelay::Ask);
    while client.hear() != Some(FromRelay::Here) {}
    assert!(service.child.try_wait().unwrap().is_none());
}
