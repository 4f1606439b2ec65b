//! The switches of session descriptions as the anchor reads them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use sdp_core::policy::{Codecs, Dtmf, Policy, Rules};
use sip_core::edge::interop::Sdp;

/// A policy with these switches; the rest of it is the default.
pub(crate) fn policy(sdp: &Sdp) -> Policy {
    Policy {
        allowed_ports: ports(sdp, false),
        allowed_tcp_ports: ports(sdp, true),
        max_streams: sdp.max_streams.into(),
        rules: rules(sdp),
        ..Policy::default()
    }
}

fn ports(sdp: &Sdp, tcp: bool) -> Vec<RangeInclusive<u16>> {
    sdp.allowed_ports.iter().filter(|range| range.tcp == tcp).map(|range| range.first..=range.last).collect()
}

fn rules(sdp: &Sdp) -> Rules {
    let ranges = || -> Vec<(IpAddr, IpAddr)> { sdp.add_dtmf_pt_for.networks.ranges().collect() };
    let limited = sdp.use_codec_limit && !sdp.codecs.is_empty();
    Rules {
        hold_rfc2543: sdp.hold_rfc2543,
        hold_force_3264: sdp.hold_force_3264,
        inhibit_hold: sdp.inhibit_hold,
        hold_inactive: sdp.hold_inactive,
        strip_ice: sdp.strip_ice,
        add_ice_candidate: sdp.add_ice_candidate,
        rtcp_attribute: sdp.rtcp_attribute,
        force_ptime: sdp.force_ptime,
        // Judged with the configuration: an entry that is none was refused there.
        codecs: limited.then(|| Codecs::parse(&sdp.codecs).unwrap_or_default()),
        strip_lines: sdp.strip_lines.clone(),
        pass_transports: sdp.pass_transports.clone(),
        dtmf: sdp.add_dtmf_pt.map(|payload_type| Dtmf { payload_type, towards: ranges() }),
    }
}

#[cfg(test)]
mod tests {
    use sip_core::edge::interop::MediaPorts;

    use super::*;

    #[test]
    fn the_defaults_are_the_same_on_both_sides() {
        assert_eq!(policy(&Sdp::default()), Policy::default());
    }

    #[test]
    fn each_switch_arrives() {
        let mut peers = sip_core::edge::interop::Peers::default();
        peers.networks.add_range([10, 0, 1, 0].into(), [10, 0, 1, 255].into());
        let sdp = Sdp {
            hold_rfc2543: true,
            hold_force_3264: true,
            inhibit_hold: true,
            hold_inactive: true,
            strip_ice: true,
            add_ice_candidate: false,
            rtcp_attribute: false,
            force_ptime: Some(30),
            add_dtmf_pt: Some(101),
            add_dtmf_pt_for: peers,
            use_codec_limit: true,
            codecs: vec!["PCMU".to_owned()],
            max_streams: 2,
            allowed_ports: vec![MediaPorts { tcp: false, first: 1, last: 65_535 }],
            strip_lines: vec!["b=".to_owned()],
            pass_transports: vec!["TCP/MSRP".to_owned()],
            ..Sdp::default()
        };
        let policy = policy(&sdp);
        assert_eq!(
            (policy.max_streams, policy.allows_port(80), policy.allows_tcp_port(5000)),
            (2, true, false)
        );
        let rules = policy.rules;
        assert!(rules.hold_rfc2543 && rules.hold_force_3264 && rules.inhibit_hold && rules.hold_inactive);
        assert!(rules.strip_ice && !rules.add_ice_candidate && !rules.rtcp_attribute);
        assert_eq!((rules.force_ptime, rules.codecs), (Some(30), Codecs::parse(&["PCMU"]).ok()));
        assert_eq!((rules.strip_lines, rules.pass_transports), (vec!["b=".to_owned()], sdp.pass_transports));
        let dtmf = rules.dtmf.unwrap();
        assert_eq!(dtmf.towards([10, 0, 1, 50].into()), Some(101));
        assert_eq!(dtmf.towards([10, 0, 2, 50].into()), None);
    }

    #[test]
    fn a_list_that_is_not_used_limits_nothing() {
        let sdp = Sdp { codecs: vec!["PCMU".to_owned()], ..Sdp::default() };
        assert_eq!(policy(&sdp).rules.codecs, None);
    }
}
