//! Connections that we make, and names.

use super::*;

fn dial(port: u16) -> Dial {
    let remote = ([10, 0, 1, 10], port).into();
    Dial { transport: Transport::Tls, remote, side: Side::Inside, affinity: None }
}

impl Rig {
    async fn dial(&self, dial: Dial, call: &str) {
        self.command(Command::Send(Target::Dial(dial), info(call))).await;
    }

    fn answered(&self) -> Vec<(Dial, DuplexStream)> {
        std::mem::take(&mut self.network.answered.lock().expect("no panic"))
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_dialling_waits_and_shares_one_connection() {
    let mut rig = Rig::new();
    for call in ["a", "b"] {
        rig.dial(dial(5061), call).await;
    }
    let Seen::Opened(_, Some(dialled)) = rig.sees().await else { panic!() };
    assert_eq!(dialled, dial(5061));
    rig.dial(dial(5061), "c").await;
    let mut answered = rig.answered();
    let (_, pbx) = &mut answered[0];
    for call in ["a", "b", "c"] {
        assert!(read_message(pbx).await.contains(&format!("Call-ID: {call}\r\n")));
    }
    assert!(rig.answered().is_empty());
}

#[tokio::test(start_paused = true)]
async fn phones_with_connections_of_their_own_don_t_share() {
    let mut rig = Rig::new();
    for affinity in [None, Some(1), Some(2)] {
        rig.dial(Dial { affinity, ..dial(5061) }, "x").await;
        assert!(matches!(rig.sees().await, Seen::Opened(..)));
    }
    assert_eq!(rig.answered().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn there_is_an_end_to_connections_of_our_own() {
    let mut rig = Rig::with(Limits { dialled: 2, ..Limits::default() });
    for affinity in [Some(1), Some(2)] {
        rig.dial(Dial { affinity, ..dial(5061) }, "x").await;
        assert!(matches!(rig.sees().await, Seen::Opened(..)));
    }
    let third = Dial { affinity: Some(3), ..dial(5061) };
    rig.dial(third, "x").await;
    assert_eq!(rig.sees().await, Seen::DialFailed(third, Fault::Own));
    // One that stands goes on being used, and one that ends makes room.
    rig.dial(Dial { affinity: Some(1), ..dial(5061) }, "y").await;
    let mut answered = rig.answered();
    drop(answered.remove(1));
    assert!(matches!(rig.sees().await, Seen::Closed(_)));
    rig.dial(third, "z").await;
    assert!(matches!(rig.sees().await, Seen::Opened(_, Some(dialled)) if dialled == third));
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_on_dialled_connections_and_silence_is_borne() {
    let mut rig = Rig::new();
    rig.dial(dial(5061), "x").await;
    rig.sees().await;
    let (_, mut pbx) = rig.answered().remove(0);
    read_message(&mut pbx).await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    pbx.write_all(options("ping").as_bytes()).await.unwrap();
    assert_eq!(rig.sees().await, Seen::Message("ping".into()));
    assert!(read_message(&mut pbx).await.starts_with("SIP/2.0 200"));
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_fails_says_so_once_whatever_way_it_fails() {
    for (port, after) in [(REFUSED, 50), (PANIC, 50), (VOID, 5000)] {
        let mut rig = Rig::new();
        let start = tokio::time::Instant::now();
        for call in ["a", "b"] {
            rig.dial(dial(port), call).await;
        }
        assert_eq!(rig.sees().await, Seen::DialFailed(dial(port), Fault::Peer));
        let took = start.elapsed().as_millis();
        assert!((after..after + 5).contains(&took), "{took} ms");
        rig.handle.drain().await.unwrap();
        assert_eq!(rig.sees().await, Seen::Drain);
        // The next message tries again.
        rig.dial(dial(port), "c").await;
        assert_eq!(rig.sees().await, Seen::DialFailed(dial(port), Fault::Peer));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_dialled_again_for_the_next_message() {
    let mut rig = Rig::new();
    rig.dial(dial(5061), "a").await;
    let Seen::Opened(first, _) = rig.sees().await else { panic!() };
    drop(rig.answered());
    assert_eq!(rig.sees().await, Seen::Closed(first));
    rig.dial(dial(5061), "b").await;
    let Seen::Opened(second, Some(_)) = rig.sees().await else { panic!() };
    assert_ne!(first, second);
    let (_, mut pbx) = rig.answered().remove(0);
    assert!(read_message(&mut pbx).await.contains("Call-ID: b"));
    // Closed by the machine, it is dialled again too.
    rig.command(Command::Close(second)).await;
    assert_eq!(rig.sees().await, Seen::Closed(second));
    rig.dial(dial(5061), "c").await;
    assert!(matches!(rig.sees().await, Seen::Opened(..)));
}

#[tokio::test(start_paused = true)]
async fn too_much_waiting_for_a_dial_fails_it() {
    let mut rig = Rig::new();
    let big = Bytes::from(vec![b'x'; 100_000]);
    let start = tokio::time::Instant::now();
    for _ in 0..11 {
        rig.command(Command::Send(Target::Dial(dial(VOID)), big.clone())).await;
    }
    assert_eq!(rig.sees().await, Seen::DialFailed(dial(VOID), Fault::Own));
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn dials_beyond_the_limit_fail_at_once() {
    let mut rig = Rig::with(Limits { dials: 1, ..Limits::default() });
    rig.dial(dial(VOID), "a").await;
    rig.dial(dial(5061), "b").await;
    assert_eq!(rig.sees().await, Seen::DialFailed(dial(5061), Fault::Own));
    assert_eq!(rig.sees().await, Seen::DialFailed(dial(VOID), Fault::Peer));
}

#[tokio::test(start_paused = true)]
async fn dials_to_one_address_take_turns_and_their_time_begins_with_their_own() {
    let mut rig = Rig::with(Limits { dials_each: 2, dials_waiting: 3, ..Limits::default() });
    let own = |port, affinity| Dial { affinity: Some(affinity), ..dial(port) };
    let start = tokio::time::Instant::now();
    for affinity in 0..5 {
        rig.dial(own(VOID, affinity), "x").await;
    }
    // The sixth finds no room to wait, and another address does not wait for this one.
    rig.dial(own(VOID, 5), "x").await;
    assert_eq!(rig.sees().await, Seen::DialFailed(own(VOID, 5), Fault::Own));
    rig.dial(own(5061, 9), "x").await;
    assert!(matches!(rig.sees().await, Seen::Opened(_, Some(dialled)) if dialled == own(5061, 9)));
    for (affinity, after) in [(0, 5), (1, 5), (2, 10), (3, 10), (4, 15)] {
        let Seen::DialFailed(failed, Fault::Peer) = rig.sees().await else { panic!() };
        assert_eq!((failed.affinity.is_some(), start.elapsed().as_secs()), (true, after), "{affinity}");
    }
    // There is room again.
    rig.dial(own(VOID, 6), "x").await;
    assert_eq!(rig.sees().await, Seen::DialFailed(own(VOID, 6), Fault::Peer));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_dials_to_one_address_all_stand_in_turn() {
    let mut rig = Rig::new();
    let start = tokio::time::Instant::now();
    for affinity in 0..1000 {
        rig.dial(Dial { affinity: Some(affinity), ..dial(5061) }, "x").await;
    }
    for _ in 0..1000 {
        assert!(matches!(rig.sees().await, Seen::Opened(..)));
    }
    // 16 turns of 64, 50 ms each.
    let took = start.elapsed().as_millis();
    assert!((800..900).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_turn_is_told_that_it_was_our_doing() {
    let mut rig = Rig::with(Limits { dials_each: 1, ..Limits::default() });
    for affinity in 0..5 {
        rig.dial(Dial { affinity: Some(affinity), ..dial(VOID) }, "x").await;
    }
    let mut faults = Vec::new();
    for _ in 0..5 {
        let Seen::DialFailed(_, fault) = rig.sees().await else { panic!() };
        faults.push(fault);
    }
    assert_eq!(faults, [Fault::Peer, Fault::Peer, Fault::Peer, Fault::Peer, Fault::Own]);
}

#[tokio::test(start_paused = true)]
async fn names_are_looked_up_within_5_s() {
    let mut rig = Rig::new();
    rig.command(Command::Resolve(7, "pbx.test")).await;
    assert_eq!(rig.sees().await, Seen::Resolved(7, Records::Addresses(vec![[10, 0, 1, 10].into()])));
    rig.command(Command::Resolve(8, "nobody.test")).await;
    assert_eq!(rig.sees().await, Seen::Resolved(8, Records::Failed));
    let start = tokio::time::Instant::now();
    rig.command(Command::Resolve(9, "slow.test")).await;
    assert_eq!(rig.sees().await, Seen::Resolved(9, Records::Failed));
    assert_eq!(start.elapsed().as_secs(), 5);
}
