//! What becomes of ports when their stream ends.

use std::collections::HashSet;

use super::*;

#[test]
fn after_the_end_nothing_is_relayed_and_the_ports_rest() {
    let mut rig = Rig::new(|config| config.ports = 20000..=20007);
    let (setup, outside, inside) = rig.open(7, HopLimit::Keep);
    rig.tell(Command::Close { stream: setup.id });
    assert_eq!(rig.packet(outside.rtp, "198.51.100.7:4000", 64, &rtp(1)), None);
    assert_eq!(rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(1)), None);
    assert!(
        !rig.bound.values().any(|(rtp, _)| [outside.rtp, inside.rtp].contains(rtp)),
        "sockets are closed"
    );
    assert!(matches!(rig.reports.last(), Some(Report::Statistics { ended: true, .. })));
    rig.tell(Command::Close { stream: setup.id });
    // Four pairs in the range, one of them resting.
    assert_eq!(rig.lease(OUT, 4).len(), 3);
    assert!(matches!(rig.reports.last(), Some(Report::Exhausted { missing: 1, .. })));
    rig.after(Duration::from_secs(31));
    let again = rig.lease(OUT, 1);
    assert_eq!(again.iter().map(|pair| pair.rtp).collect::<Vec<_>>(), [outside.rtp]);
}

/// Calls that are refused, by a PBX that wants credentials first or of somebody who floods, use no port up.
#[test]
fn ports_that_nobody_has_used_need_no_rest() {
    let mut rig = Rig::new(|config| (config.ports, config.pool) = (20000..=20007, 2));
    let mut ids = HashSet::new();
    for session in 1..=20 {
        let (outside, inside) = (rig.lease(OUT, 1)[0], rig.lease(IN, 1)[0]);
        assert!(ids.insert(outside.id) && ids.insert(inside.id), "another number each time");
        let mut setup = stream(session, outside.id, inside.id);
        setup.inside.live = false;
        rig.tell(Command::Open { stream: setup.clone() });
        rig.tell(Command::End { session });
        assert_eq!(rig.packet(outside.rtp, &format!("198.51.100.{session}:4000"), 64, &rtp(1)), None);
    }
    // What came to one, though it was dropped, may go on coming.
    let (outside, inside) = (rig.lease(OUT, 1)[0], rig.lease(IN, 1)[0]);
    let mut setup = stream(21, outside.id, inside.id);
    setup.inside.live = false;
    rig.tell(Command::Open { stream: setup });
    rig.packet(inside.rtp, "10.0.1.7:5000", 64, &rtp(1));
    rig.tell(Command::End { session: 21 });
    assert!(
        !rig.bound.values().any(|(rtp, _)| [outside.rtp, inside.rtp].contains(rtp)),
        "its sockets are closed"
    );
}
