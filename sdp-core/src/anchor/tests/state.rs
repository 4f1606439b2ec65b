//! What an onlooker is told.

use super::*;

#[test]
fn an_onlooker_sees_lines_addresses_joins_and_counters() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.anchor.streams(1).count(), 0);
    let offer = rig.offer(1, Side::Outside, PHONE_A, &audio("192.168.1.7", 30000));
    let state = rig.anchor.streams(1).next().unwrap();
    assert_eq!((state.lines.as_slice(), state.agreed, state.joined), (&[0][..], false, None));
    let inner = at(INNER, ports(&offer)[0]);
    assert_eq!(state.ours(Side::Inside), Some(inner));
    assert!(state.statistics.is_none());
    let answer = rig.answer(1, Side::Inside, PBX, &audio("10.0.1.60", 5000));
    let outer = at(OUTER, ports(&answer)[0]);
    rig.packet(outer, at(PHONE_A, 61000), 55, &rtp(1));
    rig.packet(outer, at(PHONE_B, 61000), 55, &rtp(2));
    rig.now += Duration::from_secs(6);
    rig.table.handle_timeout(rig.now);
    rig.settle();
    let state = rig.anchor.stream_state_of(StreamId { session: 1, index: 0 }).unwrap();
    assert_eq!((state.ours(Side::Outside), state.agreed), (Some(outer), true), "as the description says");
    let (outside, _) = state.statistics.unwrap();
    assert_eq!((outside.received_rtp, outside.refused), (1, Some(at(PHONE_B, 61000))));
    assert_eq!(rig.anchor.session_ids().collect::<Vec<_>>(), [1]);
}
