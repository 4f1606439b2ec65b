use super::*;

const ALL: Timeouts = Timeouts { one_way: Some(5), rtp: Some(10), rtcp: Some(15), teardown: false };

/// Ticks once a second for `seconds`; who speaks is told by `talk` (outside, inside) and RTCP by `rtcp`. What was found, when.
fn run(
    timeouts: Timeouts,
    speaks: [bool; 2],
    seconds: u64,
    talk: impl Fn(u64) -> [bool; 2],
    rtcp: impl Fn(u64) -> bool,
) -> (Vec<(u64, Silence)>, Option<u64>) {
    let start = Instant::now();
    let mut watch = Watch::new(start);
    let mut heard = speaks.map(|speaks| Heard { rtp: 0, rtcp: Some(0), speaks });
    let (mut found, mut over) = (Vec::new(), None);
    for second in 1..=seconds {
        for (end, talks) in heard.iter_mut().zip(talk(second)) {
            end.rtp += if talks { 50 } else { 0 };
            end.rtcp = end.rtcp.map(|count| count + u64::from(rtcp(second)));
        }
        let told = watch.tick(start + Duration::from_secs(second), &timeouts, heard);
        found.extend(told.into_iter().flatten().map(|(silence, _)| (second, silence)));
        if over.is_none() && watch.is_over(&timeouts) {
            over = Some(second);
        }
    }
    (found, over)
}

#[test]
fn a_call_that_talks_is_left_alone() {
    let (found, over) = run(Timeouts { teardown: true, ..ALL }, [true; 2], 100, |_| [true; 2], |_| true);
    assert_eq!((found, over), (vec![], None));
}

/// SAM-20: n seconds after the last packet of one end, while the other goes on; once.
#[test]
fn one_way_names_the_end_that_is_missing() {
    let (found, _) = run(ALL, [true; 2], 60, |second| [true, second <= 20], |_| true);
    assert_eq!(found, [(25, Silence::OneWay(Side::Inside))]);
    let (found, _) = run(ALL, [true; 2], 60, |_| [false, true], |_| true);
    assert_eq!(found, [(5, Silence::OneWay(Side::Outside))], "it never came");
    let gap = |second| [!(10..20).contains(&second) && !(30..40).contains(&second), true];
    let (found, _) = run(ALL, [true; 2], 60, gap, |_| true);
    let outside = Silence::OneWay(Side::Outside);
    assert_eq!(found, [(14, outside), (34, outside)], "told again after it was heard");
}

/// SAM-21: within a second of n.
#[test]
fn no_rtp_at_all_is_told_once() {
    let (found, over) = run(ALL, [true; 2], 60, |second| [second <= 20; 2], |_| true);
    assert_eq!(found, [(30, Silence::Rtp)]);
    assert_eq!(over, None, "MED-14 is off");
}

/// SAM-22 and MED-14: RTCP stops, the relay stays; RTP stops as well, it goes.
#[test]
fn rtcp_alone_ends_nothing() {
    let timeouts = Timeouts { teardown: true, ..ALL };
    let (found, over) = run(timeouts, [true; 2], 60, |_| [true; 2], |second| second <= 20);
    assert_eq!((found, over), (vec![(35, Silence::Rtcp)], None));
    let (found, over) = run(timeouts, [true; 2], 60, |second| [second <= 20; 2], |second| second <= 20);
    assert_eq!((found, over), (vec![(30, Silence::Rtp), (35, Silence::Rtcp)], Some(35)));
    let (_, over) = run(timeouts, [true; 2], 60, |second| [second <= 20; 2], |_| true);
    assert_eq!(over, None, "RTCP goes on, and is waited for");
    let rtp_only = Timeouts { rtcp: None, ..timeouts };
    let (_, over) = run(rtp_only, [true; 2], 60, |second| [second <= 20; 2], |_| true);
    assert_eq!(over, Some(30));
    let blank = Timeouts { teardown: true, ..Timeouts::default() };
    let (found, over) = run(blank, [true; 2], 60, |_| [false; 2], |_| false);
    assert_eq!((found, over), (vec![], None), "timeouts blank: no effect");
}

/// A hold is no fault: who agreed to be silent is not waited for.
#[test]
fn a_hold_is_left_alone() {
    let timeouts = Timeouts { teardown: true, rtcp: None, ..ALL };
    let (found, over) = run(timeouts, [false, true], 60, |_| [false, true], |_| false);
    assert_eq!((found, over), (vec![], None), "music on hold");
    let (found, over) = run(timeouts, [false, false], 60, |_| [false; 2], |_| false);
    assert_eq!((found, over), (vec![], None), "inactive");
    let (found, _) = run(timeouts, [false, true], 60, |_| [false; 2], |_| false);
    assert_eq!(found, [(10, Silence::Rtp)], "music that does not play");
}

#[test]
fn signalling_gives_the_full_time_anew() {
    let start = Instant::now();
    let mut watch = Watch::new(start);
    let heard = [Heard { rtp: 0, rtcp: None, speaks: true }; 2];
    let at = |second| start + Duration::from_secs(second);
    assert_eq!(watch.tick(at(9), &ALL, heard), [None; 4]);
    watch.restart(at(9));
    assert_eq!(watch.tick(at(18), &ALL, heard), [None; 4]);
    assert_eq!(watch.tick(at(19), &ALL, heard), [None, None, Some((Silence::Rtp, 10)), None]);
}
