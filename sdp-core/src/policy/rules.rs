//! What is changed in a description beyond addresses and ports: each a switch, off unless its row says otherwise.

use std::net::IpAddr;

use super::codec::Codecs;
use super::{Policy, Transport};
use crate::sdp::Media;

/// The switches of a description. The default is the neutral value of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `c=0.0.0.0` stays as it is. Off: it becomes our address, and the direction says what it meant (SDP-06).
    pub hold_rfc2543: bool,
    /// A hold always has a direction, and an answer never allows more than the offer did (SDP-07).
    pub hold_force_3264: bool,
    /// A hold is shown as `sendrecv`, and nothing is sent to who holds (SDP-08).
    pub inhibit_hold: bool,
    /// `sendonly` in an offer becomes `inactive` (SDP-09).
    pub hold_inactive: bool,
    /// No ICE attribute leaves, of streams that take no relay either (SDP-10).
    pub strip_ice: bool,
    /// A relayed stream that speaks ICE gets our address as its candidate. Off: it leaves without ICE (SDP-11). On.
    pub add_ice_candidate: bool,
    /// `a=rtcp` (RFC 3605) where RTCP is not the next port. Off: no such line leaves (SDP-12). On.
    pub rtcp_attribute: bool,
    /// `a=ptime` of audio, in milliseconds; 10 to 120 (SDP-13).
    pub force_ptime: Option<u8>,
    /// The codecs that remain; `None`: all (SDP-15).
    pub codecs: Option<Codecs>,
    /// Beginnings of lines that are taken out, as `b=` or `a=silenceSupp` (SDP-16). Lines this crate writes itself
    /// (`o=`, `c=`, `m=`, `a=rtcp`, a direction or `a=ptime` that is forced) stay.
    pub strip_lines: Vec<String>,
    /// Transports that are not relayed and pass as they are, inside addresses and all: `TCP/MSRP` (SDP-21). Others are declined.
    pub pass_transports: Vec<String>,
    /// `telephone-event` for offers that have none.
    pub dtmf: Option<Dtmf>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            hold_rfc2543: false,
            hold_force_3264: false,
            inhibit_hold: false,
            hold_inactive: false,
            strip_ice: false,
            add_ice_candidate: true,
            rtcp_attribute: true,
            force_ptime: None,
            codecs: None,
            strip_lines: Vec::new(),
            pass_transports: Vec::new(),
            dtmf: None,
        }
    }
}

/// Who gets `telephone-event`, and as which payload type (INT-67, INT-68).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dtmf {
    /// The wished one; where it is taken, the next free one.
    pub payload_type: u8,
    /// From the first address to the last, of one family.
    pub towards: Vec<(IpAddr, IpAddr)>,
}

impl Dtmf {
    /// The payload type for offers to this address.
    pub fn towards(&self, peer: IpAddr) -> Option<u8> {
        let within = |(first, last): &(IpAddr, IpAddr)| {
            first.is_ipv4() == peer.is_ipv4() && *first <= peer && peer <= *last
        };
        self.towards.iter().any(within).then_some(self.payload_type)
    }
}

impl Policy {
    /// Whether a line that takes no relay goes on as it is.
    pub fn passes(&self, media: &Media<'_>) -> bool {
        Transport::parse(media.transport).is_none()
            && self.rules.pass_transports.iter().any(|token| token.as_bytes() == media.transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_for_whom() {
        let net = ("10.0.1.0".parse().unwrap(), "10.0.1.255".parse().unwrap());
        let dtmf = Dtmf { payload_type: 101, towards: vec![net] };
        assert_eq!(dtmf.towards("10.0.1.50".parse().unwrap()), Some(101));
        assert_eq!(dtmf.towards("10.0.2.50".parse().unwrap()), None);
        assert_eq!(dtmf.towards("::1".parse().unwrap()), None);
    }
}
