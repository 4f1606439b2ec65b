//! Who may send RTCP to a port that nobody has reported to yet.

use super::*;
use crate::policy::SenderLimit;

fn report(ssrc: u8) -> Vec<u8> {
    vec![0x80, 201, 0, 1, 0, 0, 0, ssrc]
}

#[test]
fn a_report_that_comes_first_is_that_of_the_one_who_speaks() {
    for limit in [SenderLimit::Lock, SenderLimit::LockIp, SenderLimit::Multiple] {
        let mut rig = Rig::new(|_| {});
        let (mut setup, outside, inside) = rig.open(7, HopLimit::Keep);
        // Any source, and nothing to send to before the phone has spoken.
        setup.outside.sources.clear();
        (setup.outside.remote, setup.outside.sender_limit) = (None, limit);
        rig.tell(Command::Update { stream: setup });
        rig.packet(outside.rtp, "198.51.100.7:61000", 41, &rtp(1)).unwrap();
        // A stranger, a stranger who has seen the SSRC, a neighbour behind the same NAT.
        for (source, ssrc) in [("203.0.113.66:9", 9), ("203.0.113.66:9", 7), ("198.51.100.7:9", 9)] {
            let passed = rig.packet(outside.rtcp, source, 41, &report(ssrc));
            assert_eq!(passed, None, "{limit:?} {source} {ssrc}");
        }
        assert_eq!(rig.packet(inside.rtcp, "10.0.1.7:5001", 64, &report(5)), None, "{limit:?}: to nobody");
        rig.packet(outside.rtcp, "198.51.100.7:61001", 41, &report(7)).unwrap();
        let back = rig.packet(inside.rtcp, "10.0.1.7:5001", 64, &report(5)).unwrap();
        assert_eq!(back.1, at("198.51.100.7:61001"), "{limit:?}");
    }
}
