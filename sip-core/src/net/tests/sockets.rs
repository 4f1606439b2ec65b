//! Real sockets on loopback.

use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::net::{Blocklist, Datagrams};

const WAIT: Duration = Duration::from_secs(5);

fn rules(side: Side) -> Datagrams {
    Datagrams {
        listener: ListenerId(7),
        side,
        verified: true,
        allow: Vec::new(),
        blocked: Blocklist::default(),
        stun: true,
    }
}

async fn bound() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// One datagram, or `None` if there is none for a while.
async fn datagram(socket: &UdpSocket, wait: Duration) -> Option<String> {
    let mut buffer = vec![0; 65_536];
    let n = tokio::time::timeout(wait, socket.recv(&mut buffer)).await.ok()?.unwrap();
    Some(String::from_utf8(buffer[..n].to_vec()).unwrap())
}

#[tokio::test]
async fn datagrams_come_and_go() {
    let mut rig = Rig::new();
    let (gateway, pbx) = (bound().await, bound().await);
    pbx.connect(gateway.local_addr().unwrap()).await.unwrap();
    rig.handle.socket(gateway, rules(Side::Inside)).await.unwrap();
    pbx.send(options("u").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("u".into()));
    assert!(datagram(&pbx, WAIT).await.unwrap().starts_with("SIP/2.0 200 OK"));
    // Keep-alives want no answer; bad messages get their 400; junk gets nothing.
    for nothing in [&b"\r\n\r\n"[..], b"\0\0\0\0", b""] {
        pbx.send(nothing).await.unwrap();
        assert!(matches!(rig.sees().await, Seen::Ping(_)));
    }
    pbx.send(options("u").replace("Content-Length: 4", "Content-Length: x").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Unframeable(Some(400)));
    assert!(datagram(&pbx, WAIT).await.unwrap().starts_with("SIP/2.0 400 "));
    pbx.send(b"hello there").await.unwrap();
    assert_eq!(rig.sees().await, Seen::Unframeable(None));
    pbx.send(options("still").as_bytes()).await.unwrap();
    assert!(datagram(&pbx, WAIT).await.unwrap().contains("Call-ID: still"));
}

#[tokio::test]
async fn strangers_meet_silence() {
    let rig = Rig::new();
    let (gateway, stranger) = (bound().await, bound().await);
    stranger.connect(gateway.local_addr().unwrap()).await.unwrap();
    let allow = vec!["10.0.0.0/8".parse().unwrap()];
    rig.handle.socket(gateway, Datagrams { allow, ..rules(Side::Inside) }).await.unwrap();
    stranger.send(options("u").as_bytes()).await.unwrap();
    assert_eq!(datagram(&stranger, Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_datagram_dial_leaves_from_the_socket_of_that_side() {
    let mut rig = Rig::new();
    let (gateway, pbx) = (bound().await, bound().await);
    let from = gateway.local_addr().unwrap();
    let remote = pbx.local_addr().unwrap();
    rig.handle.socket(gateway, rules(Side::Inside)).await.unwrap();
    let dial = Dial { transport: Transport::Udp, remote, side: Side::Inside, affinity: None };
    rig.command(Command::Send(Target::Dial(dial), info("d"))).await;
    let mut buffer = [0; 2000];
    let (_, seen_from) = tokio::time::timeout(WAIT, pbx.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(seen_from, from);
    let outside = Dial { side: Side::Outside, ..dial };
    rig.command(Command::Send(Target::Dial(outside), info("d"))).await;
    assert_eq!(rig.sees().await, Seen::DialFailed(outside, Fault::Own));
}

#[tokio::test]
async fn a_removed_socket_is_free_again() {
    let rig = Rig::new();
    let gateway = bound().await;
    let address = gateway.local_addr().unwrap();
    rig.handle.socket(gateway, rules(Side::Inside)).await.unwrap();
    rig.handle.remove_socket(ListenerId(7)).await.unwrap();
    UdpSocket::bind(address).await.unwrap();
    // One that was never there, or is gone already, keeps nobody waiting.
    tokio::time::timeout(WAIT, rig.handle.remove_socket(ListenerId(7))).await.unwrap().unwrap();
}

#[tokio::test]
async fn tcp_on_loopback_with_a_refusal_that_arrives() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut phone = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (io, remote) = listener.accept().await.unwrap();
    rig.handle.stream(io, peer(remote)).unwrap();
    let Seen::Opened(flow, None) = rig.sees().await else { panic!() };
    phone.write_all(options("t").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("t".into()));
    assert!(read_message(&mut phone).await.starts_with("SIP/2.0 200"));
    // Much more behind what can't be framed: the kernel must not reset the 400 away.
    let mut bad = options("bad").replace("Content-Length: 4\r\n", "");
    bad.push_str(&"x".repeat(100_000));
    phone.write_all(bad.as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Unframeable(Some(400)));
    assert_eq!(rig.sees().await, Seen::Closed(flow));
    // It is told no more, but for a while it may go on talking.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        phone.write_all(b"more").await.unwrap();
    }
    assert!(read_to_end(&mut phone).await.starts_with("SIP/2.0 400 "));
}

#[test]
fn a_stream_may_be_given_from_another_runtime() {
    let shard = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (driver, handle) = Driver::new(Limits::default());
    let network = Arc::new(Network::default());
    let thread = std::thread::spawn(move || {
        shard.block_on(driver.run(Probe::default(), network.clone(), network, |_| ()))
    });
    let accepting = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    accepting.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        handle.stream(near, peer(([192, 0, 2, 1], 4000).into())).unwrap();
        far.write_all(options("far").as_bytes()).await.unwrap();
        assert!(read_message(&mut far).await.starts_with("SIP/2.0 200"));
        handle.close_all().await.unwrap();
    });
    thread.join().unwrap();
}

#[tokio::test]
async fn stun_is_answered_where_it_is_wanted() {
    let mut rig = Rig::new();
    let (gateway, phone) = (bound().await, bound().await);
    phone.connect(gateway.local_addr().unwrap()).await.unwrap();
    rig.handle.socket(gateway, rules(Side::Outside)).await.unwrap();
    let remote = phone.local_addr().unwrap();
    let question = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"transactions"].concat();
    phone.send(&question).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Ping(Source::Datagram { listener: ListenerId(7), remote }));
    let mut answer = [0; 64];
    let n = phone.recv(&mut answer).await.unwrap();
    assert_eq!((n, &answer[..4], &answer[8..20]), (32, &[1, 1, 0, 12][..], &b"transactions"[..]));
    let gateway = bound().await;
    phone.connect(gateway.local_addr().unwrap()).await.unwrap();
    rig.handle.socket(gateway, Datagrams { stun: false, ..rules(Side::Outside) }).await.unwrap();
    phone.send(&question).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Unframeable(None));
}
