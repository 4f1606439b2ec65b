//! Connections that peers make.

use super::*;
use crate::net::queue::Queue;
use crate::net::stream::Connection;

#[tokio::test(start_paused = true)]
async fn a_message_may_come_octet_by_octet() {
    let mut rig = Rig::new();
    let (_, mut phone) = rig.connect(1 << 16).await;
    for octet in options("split").bytes() {
        phone.write_all(&[octet]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(read_message(&mut phone).await.starts_with("SIP/2.0 200 OK\r\n"));
    assert_eq!(rig.sees().await, Seen::Message("split".into()));
}

#[tokio::test(start_paused = true)]
async fn many_messages_may_come_at_once() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    let text = format!("{}\r\n\r\n{}{}", options("a"), options("b"), options("c"));
    phone.write_all(text.as_bytes()).await.unwrap();
    let (a, b, c) = (Seen::Message("a".into()), Seen::Message("b".into()), Seen::Message("c".into()));
    for seen in [a, Seen::Ping(Source::Flow(flow)), b, c] {
        assert_eq!(rig.sees().await, seen);
    }
    let mut all = vec![0; 2000];
    let mut got = 0;
    while !String::from_utf8_lossy(&all[..got]).contains("Call-ID: c") {
        got += phone.read(&mut all[got..]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_gets_a_pong() {
    let mut rig = Rig::new();
    let (_, mut phone) = rig.connect(1 << 16).await;
    phone.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    phone.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test(start_paused = true)]
async fn ten_pings_a_second_are_borne_and_eleven_are_not() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    phone.write_all(options("a").as_bytes()).await.unwrap();
    read_message(&mut phone).await;
    rig.sees().await;
    for _ in 0..3 {
        phone.write_all(&b"\r\n\r\n".repeat(10)).await.unwrap();
        let mut pongs = [0; 20];
        phone.read_exact(&mut pongs).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1001)).await;
    }
    phone.write_all(&b"\r\n\r\n".repeat(11)).await.unwrap();
    for _ in 0..40 {
        assert_eq!(rig.sees().await, Seen::Ping(Source::Flow(flow)));
    }
    assert_eq!(rig.sees().await, Seen::Closed(flow));
}

#[tokio::test(start_paused = true)]
async fn junk_closes_without_a_word() {
    for junk in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\n", b"hello\n"] {
        let mut rig = Rig::new();
        let (flow, mut phone) = rig.connect(1 << 16).await;
        phone.write_all(junk).await.unwrap();
        assert_eq!(rig.sees().await, Seen::Unframeable(None));
        assert_eq!(rig.sees().await, Seen::Closed(flow));
        assert_eq!(read_to_end(&mut phone).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_t_be_framed_is_answered_after_what_could_be_and_closed() {
    for (bad, status) in [
        (options("bad").replace("Content-Length: 4\r\n", ""), 400),
        (options("bad").replace("Content-Length: 4", "Content-Length: -4"), 400),
        (options("bad").replace("Content-Length: 4", "Content-Length: 200000"), 413),
    ] {
        let mut rig = Rig::new();
        let (flow, mut phone) = rig.connect(1 << 16).await;
        let text = format!("{}{bad}{}", options("good"), options("never"));
        phone.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(rig.sees().await, Seen::Message("good".into()));
        assert_eq!(rig.sees().await, Seen::Unframeable(Some(status)));
        assert_eq!(rig.sees().await, Seen::Closed(flow));
        let answers = read_to_end(&mut phone).await;
        assert!(answers.contains(&format!("SIP/2.0 {status} ")), "{answers}");
        assert!(answers.contains("Call-ID: bad\r\n"), "{answers}");
        assert!(!answers.contains("never"), "{answers}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_closed_after_15_s_and_pings_are_silence() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    let start = tokio::time::Instant::now();
    let pinging = tokio::spawn(async move {
        while phone.write_all(b"\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    while rig.sees().await == Seen::Ping(Source::Flow(flow)) {}
    assert_eq!(start.elapsed().as_secs(), 15);
    pinging.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_its_first_message_a_connection_may_be_silent() {
    let mut rig = Rig::new();
    let (_, mut phone) = rig.connect(1 << 16).await;
    phone.write_all(options("a").as_bytes()).await.unwrap();
    rig.sees().await;
    tokio::time::sleep(Duration::from_secs(3000)).await;
    phone.write_all(options("b").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("b".into()));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_trickles_is_closed_after_10_s() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    phone.write_all(options("a").as_bytes()).await.unwrap();
    rig.sees().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let start = tokio::time::Instant::now();
    let trickle = tokio::spawn(async move {
        for octet in options("b").bytes() {
            if phone.write_all(&[octet]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(rig.sees().await, Seen::Closed(flow));
    assert_eq!(start.elapsed().as_secs(), 10);
    trickle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_closed_after_10_s_and_hurts_nobody() {
    let mut rig = Rig::new();
    let (stuck, mut phone) = rig.connect(100).await;
    phone.write_all(&options("a").as_bytes()[..100]).await.unwrap();
    let rest = options("a").split_off(100);
    phone.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("a".into()));
    let start = tokio::time::Instant::now();
    let (_, mut other) = rig.connect(1 << 16).await;
    other.write_all(options("b").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("b".into()));
    assert!(read_message(&mut other).await.contains("200 OK"));
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(rig.sees().await, Seen::Closed(stuck));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_full_write_queue_closes_at_once() {
    let mut rig = Rig::new();
    let (flow, _phone) = rig.connect(100).await;
    let start = tokio::time::Instant::now();
    let big = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..12 {
        rig.command(Command::Send(Target::Flow(flow), big.clone())).await;
    }
    assert_eq!(rig.sees().await, Seen::Closed(flow));
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_may_get_any_amount() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    let big = Bytes::from(vec![b'x'; 100_000]);
    let mut read = vec![0; big.len()];
    for _ in 0..30 {
        rig.command(Command::Send(Target::Flow(flow), big.clone())).await;
        phone.read_exact(&mut read).await.unwrap();
    }
    phone.write_all(options("alive").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("alive".into()));
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_is_written_before_a_close() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(64).await;
    rig.command(Command::Send(Target::Flow(flow), info("one"))).await;
    rig.command(Command::Send(Target::Flow(flow), info("two"))).await;
    rig.command(Command::Close(flow)).await;
    assert_eq!(rig.sees().await, Seen::Closed(flow));
    let all = read_to_end(&mut phone).await;
    assert!(all.contains("Call-ID: one") && all.ends_with("body") && all.contains("Call-ID: two"), "{all}");
    // What is sent to it now goes nowhere, and it is not told closed twice.
    rig.command(Command::Send(Target::Flow(flow), info("three"))).await;
    rig.command(Command::Close(flow)).await;
    rig.handle.drain().await.unwrap();
    assert_eq!(rig.sees().await, Seen::Drain);
}

#[tokio::test(start_paused = true)]
async fn the_last_message_before_a_close_by_the_peer_is_heard() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    phone.write_all(&info("bye")).await.unwrap();
    drop(phone);
    assert_eq!(rig.sees().await, Seen::Message("bye".into()));
    assert_eq!(rig.sees().await, Seen::Closed(flow));
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_limit_are_dropped_until_one_ends() {
    let mut rig = Rig::with(Limits { streams: 1, ..Limits::default() });
    let (flow, first) = rig.connect(100).await;
    let (near, mut second) = tokio::io::duplex(100);
    rig.handle.stream(near, peer(([192, 0, 2, 2], 1).into())).unwrap();
    assert_eq!(read_to_end(&mut second).await, "");
    drop(first);
    assert_eq!(rig.sees().await, Seen::Closed(flow));
    let (_, _third) = rig.connect(100).await;
    rig.handle.reconfigure(Limits::default()).await.unwrap();
    rig.connect(100).await;
}

#[tokio::test(start_paused = true)]
async fn the_machine_is_woken_when_it_asked() {
    let mut rig = Rig::new();
    let start = tokio::time::Instant::now();
    rig.command(Command::WakeIn(Duration::from_millis(31_500))).await;
    assert_eq!(rig.sees().await, Seen::Woken);
    let late = start.elapsed() - Duration::from_millis(31_500);
    assert!(late < Duration::from_millis(2), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_all_writes_what_is_queued_and_gives_the_machine_back() {
    let mut rig = Rig::new();
    let (flow, mut phone) = rig.connect(1 << 16).await;
    rig.command(Command::Send(Target::Flow(flow), info("last"))).await;
    rig.handle.close_all().await.unwrap();
    assert!(read_to_end(&mut phone).await.contains("Call-ID: last"));
    rig.running.await.unwrap();
    assert_eq!(rig.handle.drain().await, Err(crate::net::Gone));
}

#[tokio::test(start_paused = true)]
async fn closing_all_does_not_wait_for_ever() {
    let mut rig = Rig::new();
    let (flow, phone) = rig.connect(10).await;
    rig.command(Command::Send(Target::Flow(flow), info("last"))).await;
    let start = tokio::time::Instant::now();
    drop(rig.handle);
    rig.running.await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(20));
    drop(phone);
}

#[tokio::test(start_paused = true)]
async fn a_trusted_switch_may_list_every_phone_in_one_row_and_nobody_else_may() {
    let contacts: Vec<_> = (0..1000)
        .map(|n| format!("<sips:anonymous@10.0.1.2:5061;transport=tls;crt={n:0>90}>;expires=3600"))
        .collect();
    let list = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS 10.0.1.2;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
         Call-ID: all\r\nCSeq: 1 REGISTER\r\nContact: {}\r\nContent-Length: 0\r\n\r\n",
        contacts.join(", ")
    );
    assert!(list.len() > 131_072, "{}", list.len());
    for (side, verified, read) in
        [(Side::Inside, true, true), (Side::Inside, false, false), (Side::Outside, true, false)]
    {
        let mut rig = Rig::new();
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let from = Peer { side, verified, ..peer(([10, 0, 1, 50], 5061).into()) };
        rig.handle.stream(near, from).expect("taken");
        assert!(matches!(rig.sees().await, Seen::Opened(..)));
        far.write_all(list.as_bytes()).await.unwrap();
        let seen = rig.sees().await;
        assert_eq!(seen == Seen::Message("all".into()), read, "{side:?} {verified}: {seen:?}");
    }
}

/// SIP-10: a probe of another protocol that waits for a greeting.
#[tokio::test(start_paused = true)]
async fn what_is_no_sip_is_closed_after_two_seconds_and_told_as_junk() {
    let mut rig = Rig::new();
    let (flow, mut probe) = rig.connect(1 << 16).await;
    let start = tokio::time::Instant::now();
    probe.write_all(b"\x03\x00\x00\x2f\x2a\xe0").await.unwrap();
    let mut nothing = Vec::new();
    probe.read_to_end(&mut nothing).await.unwrap();
    assert_eq!((nothing.len(), start.elapsed().as_secs()), (0, 2));
    assert_eq!(rig.sees().await, Seen::Unframeable(None));
    assert_eq!(rig.sees().await, Seen::Closed(flow));
    // Who has said something before, or has begun with SIP, has the time that messages have.
    let (_, mut phone) = rig.connect(1 << 16).await;
    let text = options("slow");
    let (line, rest) = text.split_at(text.find('\n').unwrap() + 1);
    phone.write_all(line.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    phone.write_all(rest.as_bytes()).await.unwrap();
    assert!(read_message(&mut phone).await.starts_with("SIP/2.0 200 OK\r\n"));
    phone.write_all(b"OPT").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    phone.write_all(&options("again").as_bytes()[3..]).await.unwrap();
    assert!(read_message(&mut phone).await.starts_with("SIP/2.0 200 OK\r\n"));
}

/// There are as many as phones, and most are at rest: a timer or a message kept in the task itself would cost every one of them.
#[tokio::test]
async fn the_task_of_a_connection_at_rest_is_small() {
    let (io, _far) = tokio::io::duplex(64);
    let (queue, end) = Queue::new(1000);
    let (inbox, _arrivals) = mpsc::channel(1);
    let connection = Connection {
        flow: FlowId(1),
        peer: Arc::new(peer(([192, 0, 2, 1], 4000).into())),
        io: Box::new(io),
        queue: end,
        answers: queue.downgrade(),
        inbox,
        limits: Arc::new(Limits::default()),
    };
    let size = size_of_val(&connection.run());
    assert!(size <= 640, "{size} octets");
}
