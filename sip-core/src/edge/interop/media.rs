//! The switches of session descriptions and of the relay: fields for the media half, which acts on them.

use std::num::NonZeroU8;
use std::time::Duration;

use super::Peers;

/// Session descriptions. Read by the media half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdp {
    /// INT-15: `c=0.0.0.0` stays. `sdp.hold_rfc2543`.
    pub hold_rfc2543: bool,
    /// INT-16: hold always has a direction, and answers mirror it. `sdp.hold_force_3264`.
    pub hold_force_3264: bool,
    /// INT-17: hold is shown as `sendrecv`. `sdp.inhibit_hold`.
    pub inhibit_hold: bool,
    /// INT-18: hold is sent as `inactive`. `sdp.hold_inactive`.
    pub hold_inactive: bool,
    /// INT-19: ICE attributes are taken out. `sdp.strip_ice`.
    pub strip_ice: bool,
    /// INT-20: our relay address joins the ICE candidates. `sdp.add_ice_candidate`.
    pub add_ice_candidate: bool,
    /// INT-23: `a=rtcp` (RFC 3605) where RTCP is not the next port. `sdp.rtcp_attribute`.
    pub rtcp_attribute: bool,
    /// INT-27: file transfer on port 6891. `sdp.port_6891`; stays refused.
    pub port_6891: bool,
    /// INT-63: `a=ptime` in milliseconds, 10 to 120. `sdp.force_ptime`.
    pub force_ptime: Option<u8>,
    /// INT-67: the payload type of `telephone-event` that offers get. `sip.interop.add_dtmf_pt`.
    pub add_dtmf_pt: Option<u8>,
    /// INT-68: towards whom. `sip.interop.add_dtmf_pt_for`.
    pub add_dtmf_pt_for: Peers,
    /// SAM-10: whether codecs are limited. `sdp.use_codec_limit`.
    pub use_codec_limit: bool,
    /// SAM-24: the codecs that remain; empty is all. `sdp.codecs`.
    pub codecs: Vec<String>,
    /// SAM-14: names in `c=` are looked up. `sdp.resolve_fqdn`.
    pub resolve_fqdn: bool,
    /// SAM-19: streams of one session, 1 to 32. `sdp.max_streams`.
    pub max_streams: u8,
    /// SAM-25: ports that endpoints may name. `sdp.allowed_ports`.
    pub allowed_ports: Vec<MediaPorts>,
    /// SAM-26: beginnings of lines that are taken out. `sdp.strip_lines`.
    pub strip_lines: Vec<String>,
    /// Transports whose lines pass unrelayed (SDP-21). `sdp.pass_transports`.
    pub pass_transports: Vec<String>,
}

impl Default for Sdp {
    fn default() -> Self {
        let open = |tcp| MediaPorts { tcp, first: 1024, last: 65_535 };
        Self {
            hold_rfc2543: false,
            hold_force_3264: false,
            inhibit_hold: false,
            hold_inactive: false,
            strip_ice: false,
            add_ice_candidate: true,
            rtcp_attribute: true,
            port_6891: false,
            force_ptime: None,
            add_dtmf_pt: None,
            add_dtmf_pt_for: Peers::default(),
            use_codec_limit: false,
            codecs: Vec::new(),
            resolve_fqdn: false,
            max_streams: 6,
            allowed_ports: vec![open(false), open(true)],
            strip_lines: Vec::new(),
            pass_transports: Vec::new(),
        }
    }
}

/// A range of ports that a session description may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaPorts {
    /// TCP, else UDP.
    pub tcp: bool,
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// The relay. The media half owns `sender_limit`, `max_senders` and `ttl`, and whoever reads the configuration writes
/// them here too, so that the profile is whole; the others are refused by name until it builds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSwitches {
    /// SAM-03: from how many addresses one stream may come. `media.sender_limit`.
    pub sender_limit: SenderLimit,
    /// SAM-18: the most of them, 1 to 64. `media.max_senders`.
    pub max_senders: u8,
    /// TTL and hop limit of relayed packets; `None` forwards the received value minus one. `media.ttl`.
    pub ttl: Option<NonZeroU8>,
    /// INT-50: a locked stream may move once when its source fell silent. `media.late_relatch`.
    pub late_relatch: bool,
    /// INT-53: media before the answer is relayed. `media.early_rtp`.
    pub early_rtp: bool,
    /// INT-60: how long the ports of an ended stream stay its call's. `media.reuse_time`.
    pub reuse_time: Duration,
    /// SAM-01, SAM-02: the RTP-aware path. `media.proxy`.
    pub proxy: MediaProxy,
    /// SAM-04: one remote for each early dialog. `media.forked`.
    pub forked: bool,
    /// SAM-05: the relay closes when its timers fire. `media.teardown_on_timeout`.
    pub teardown_on_timeout: bool,
    /// SAM-06: no call is direct. `media.always_relay`.
    pub always_relay: bool,
    /// SAM-07: a changed stream keeps its port. `media.reuse_on_change`.
    pub reuse_on_change: bool,
    /// SAM-08: a second stream may take a freed port. `media.reuse_in_session`.
    pub reuse_in_session: bool,
    /// SAM-20: one direction silent. `media.timeout_oneway`.
    pub timeout_oneway: Option<Duration>,
    /// SAM-21: no RTP. `media.timeout_rtp`.
    pub timeout_rtp: Option<Duration>,
    /// SAM-22: no RTCP. `media.timeout_rtcp`.
    pub timeout_rtcp: Option<Duration>,
}

impl Default for MediaSwitches {
    fn default() -> Self {
        Self {
            sender_limit: SenderLimit::Lock,
            max_senders: 10,
            ttl: None,
            late_relatch: false,
            early_rtp: false,
            reuse_time: Duration::ZERO,
            proxy: MediaProxy::No,
            forked: false,
            teardown_on_timeout: false,
            always_relay: false,
            reuse_on_change: false,
            reuse_in_session: false,
            timeout_oneway: None,
            timeout_rtp: None,
            timeout_rtcp: None,
        }
    }
}

/// From how many addresses one media stream may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderLimit {
    /// The first address and port.
    Lock,
    /// The first address, any port.
    LockIp,
    /// Several.
    Multiple,
}

/// When streams take the RTP-aware path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaProxy {
    /// When another feature needs it.
    No,
    /// When they are relayed.
    Relayed,
    /// Always, and no stream is direct.
    Always,
}
