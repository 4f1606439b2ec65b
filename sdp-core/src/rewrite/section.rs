//! What is decided for a media line before it is written.

use std::net::{IpAddr, SocketAddr};

use super::{Credentials, Orders, Part, Placement, dtmf, hold};
use crate::policy::{Rules, Transport, Types, bit};
use crate::sdp::{Direction, Media, Sdp};

/// Our side of ICE for a line: with credentials, and only where the line speaks it (SDP-11).
pub(super) fn own_ice(
    sdp: &Sdp<'_>,
    orders: &Orders<'_>,
    at: usize,
    media: &Media<'_>,
) -> Option<Credentials> {
    let Some(Placement::Relay { ice: Some(credentials), .. }) = orders.placements.get(at) else {
        return None;
    };
    let wanted = orders.rules.add_ice_candidate && !orders.rules.strip_ice && media.port != 0;
    let speaks = wanted && sdp.ice_of(media).is_some();
    (speaks && !is_emptied(media, removed(sdp, orders, at, media))).then_some(*credentials)
}

/// The payload types of a line that may not be named, and the one that was added to the offer.
fn removed(sdp: &Sdp<'_>, orders: &Orders<'_>, at: usize, media: &Media<'_>) -> Types {
    if !is_rtp(media) {
        return 0;
    }
    let limited = orders.rules.codecs.as_ref().map_or(0, |codecs| codecs.removed(sdp.bytes, media));
    let ours = match orders.part {
        Part::Offer { .. } => None,
        Part::Answer(offered) => offered.get(at).and_then(|offered| offered.dtmf),
    };
    limited | ours.map_or(0, bit)
}

/// Whether nothing would be left of a line.
fn is_emptied(media: &Media<'_>, removed: Types) -> bool {
    removed != 0 && media.payload_types().all(|payload_type| removed & bit(payload_type) != 0)
}

/// What becomes of ICE in a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ice {
    Keep,
    Strip,
    Ours(Credentials, u16, u16),
}

/// What becomes of `c=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    Ours,
    /// Of an endpoint, which the line must name itself.
    Other(IpAddr),
    /// The author's, as it stands.
    Author,
}

/// What becomes of `a=rtcp`.
#[derive(Debug, Clone, Copy)]
pub(super) enum RtcpLine {
    Keep,
    Drop,
    /// Written with this port; added where there is none and it is not the next of the first.
    Port(u16, Host),
}

/// What was decided for a media line and the lines under it.
pub(super) struct Section<'s, 'a> {
    pub(super) media: &'s Media<'a>,
    pub(super) host: Host,
    /// The port to write; `None`: it stays.
    pub(super) port: Option<u16>,
    pub(super) rtcp: RtcpLine,
    pub(super) ice: Ice,
    pub(super) removed: Types,
    pub(super) dtmf: Option<u8>,
    pub(super) direction: Option<Direction>,
    pub(super) ptime: Option<u8>,
    /// `c=` is still to be written.
    pub(super) owes_host: bool,
    pub(super) saw_direction: bool,
    pub(super) saw_ptime: bool,
}

impl<'s, 'a> Section<'s, 'a> {
    fn declined(media: &'s Media<'a>, rules: &Rules) -> Self {
        Self {
            media,
            host: Host::Ours,
            port: Some(0),
            rtcp: if rules.rtcp_attribute { RtcpLine::Port(9, Host::Ours) } else { RtcpLine::Drop },
            ice: Ice::Strip,
            removed: 0,
            dtmf: None,
            direction: None,
            ptime: None,
            owes_host: false,
            saw_direction: false,
            saw_ptime: false,
        }
    }

    pub(super) fn new(sdp: &Sdp<'a>, orders: &Orders<'_>, at: usize, media: &'s Media<'a>) -> Self {
        let rules = orders.rules;
        let kept = if rules.strip_ice { Ice::Strip } else { Ice::Keep };
        let plain = Self::declined(media, rules);
        let placement = orders.placements.get(at).copied().unwrap_or(Placement::Decline);
        let owes_host = media.connection.is_none();
        match placement {
            // What its author declined stays declined, whatever is wished for it.
            _ if media.port == 0 => plain,
            Placement::Decline => plain,
            Placement::Pass => {
                Self { host: Host::Author, port: None, rtcp: RtcpLine::Keep, ice: kept, owes_host, ..plain }
            }
            Placement::Direct { rtp, rtcp } => {
                let host = Host::Other(rtp.ip());
                let muxed = media.rtcp_mux && named_rtcp(media) == Some(media.port);
                let rtcp = direct_rtcp(rtp, if muxed { rtp } else { rtcp });
                let port = Some(rtp.port());
                // What stands there of ICE is ours, as the PBX had it from us: checks to it would fail (RFC 8839 §4.2.5).
                Self { host, port, rtcp, ice: Ice::Strip, owes_host, ..plain }.carried(sdp, orders, at)
            }
            Placement::Relay { rtp, rtcp, .. } => {
                let muxed = media.rtcp_mux && named_rtcp(media) == Some(media.port);
                // A multiplexed description may name the RTP port twice (RFC 8035 §2.1).
                let named = if muxed { rtp } else { rtcp };
                let speaks = own_ice(sdp, orders, at, media);
                Self {
                    port: Some(rtp),
                    rtcp: if rules.rtcp_attribute {
                        RtcpLine::Port(named, Host::Ours)
                    } else {
                        RtcpLine::Drop
                    },
                    ice: speaks.map_or(Ice::Strip, |credentials| Ice::Ours(credentials, rtp, rtcp)),
                    ..plain
                }
                .carried(sdp, orders, at)
            }
        }
    }

    /// What holds for media that runs: its direction, its formats. A line of which nothing would be left is declined as it is (RFC 8866 §9 wants a format).
    fn carried(mut self, sdp: &Sdp<'a>, orders: &Orders<'_>, at: usize) -> Self {
        self.removed = removed(sdp, orders, at, self.media);
        if is_emptied(self.media, self.removed) {
            return Self::declined(self.media, orders.rules);
        }
        let (media, rules) = (self.media, orders.rules);
        self.direction = hold::direction(sdp, media, at, orders.part, rules);
        self.ptime = rules.force_ptime.filter(|_| media.kind == b"audio" && is_rtp(media));
        if let Part::Offer { dtmf: Some(wished) } = orders.part {
            self.dtmf = dtmf::added(sdp, self.media, wished, orders.rules);
        }
        self
    }
}

pub(super) fn is_rtp(media: &Media<'_>) -> bool {
    Transport::parse(media.transport).is_some_and(Transport::is_rtp)
}

fn named_rtcp(media: &Media<'_>) -> Option<u16> {
    media.rtcp.first()?.host.map(|host| host.port)
}

fn direct_rtcp(rtp: SocketAddr, rtcp: SocketAddr) -> RtcpLine {
    RtcpLine::Port(rtcp.port(), if rtp.ip() == rtcp.ip() { Host::Ours } else { Host::Other(rtcp.ip()) })
}
