//! One description on its way: the desk phone's offer of two audio lines on one port, read and written with our address and ports.
//! The peers read it, change the same fields and write it again.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use sdp_core::policy::{Codecs, Rules};
use sdp_core::rewrite::{Orders, Part, Placement, rewrite_by};
use sdp_core::sdp::{Limits, Sdp};

/// 643 octets, 26 lines.
pub const OFFER: &[u8] = include_bytes!("../../sdp-core/tests/golden/phone-two-lines.sdp");

const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const PORT: u16 = 20_000;

/// `sdp_core` with the room that an anchor keeps.
#[derive(Debug)]
pub struct Ours {
    limits: Limits,
    plain: Rules,
    limited: Rules,
    scratch: Vec<u8>,
}

impl Default for Ours {
    fn default() -> Self {
        let codecs = Codecs::parse(&["PCMU", "PCMA"]).ok();
        let limited = Rules { codecs, force_ptime: Some(20), hold_force_3264: true, ..Rules::default() };
        Self { limits: Limits::default(), plain: Rules::default(), limited, scratch: Vec::new() }
    }
}

impl Ours {
    /// By the rules of the shipped configuration.
    pub fn rewrite(&mut self) -> Bytes {
        rewritten(&self.limits, &self.plain, &mut self.scratch)
    }

    /// With a list of codecs, a forced packet time and forced directions.
    pub fn limit(&mut self) -> Bytes {
        rewritten(&self.limits, &self.limited, &mut self.scratch)
    }
}

fn rewritten(limits: &Limits, rules: &Rules, scratch: &mut Vec<u8>) -> Bytes {
    let sdp = Sdp::parse(OFFER, limits).expect("reads");
    let placements = [Placement::relay(PORT, PORT + 1); 2];
    let part = Part::Offer { dtmf: None };
    let orders = Orders { address: IpAddr::V4(ADDRESS), placements: &placements, part, srtp: &[], rules };
    rewrite_by(&sdp, &orders, scratch)
}

/// The same by sdp-types.
pub fn sdp_types_rewrite() -> Vec<u8> {
    let mut sdp = sdp_types::Session::parse(OFFER).expect("reads");
    sdp.origin.unicast_address = ADDRESS.to_string();
    for connection in
        sdp.connection.iter_mut().chain(sdp.medias.iter_mut().flat_map(|media| &mut media.connections))
    {
        connection.connection_address = ADDRESS.to_string();
    }
    for media in &mut sdp.medias {
        media.port = PORT;
    }
    let mut out = Vec::new();
    sdp.write(&mut out).expect("writes");
    out
}

/// The same by sdp-rs.
pub fn sdp_rs_rewrite() -> String {
    let text = std::str::from_utf8(OFFER).expect("text").to_owned();
    let mut sdp = sdp_rs::SessionDescription::try_from(text).expect("reads");
    sdp.origin.unicast_address = ADDRESS.into();
    if let Some(connection) = &mut sdp.connection {
        connection.connection_address.base = ADDRESS.into();
    }
    for description in &mut sdp.media_descriptions {
        description.media.port = PORT;
    }
    sdp.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_write_the_same() {
        let ours = Ours::default().rewrite();
        assert_eq!(sdp_types_rewrite(), ours);
        assert_eq!(sdp_rs_rewrite().as_bytes(), ours);
        assert!(Ours::default().limit().len() < ours.len());
    }
}
