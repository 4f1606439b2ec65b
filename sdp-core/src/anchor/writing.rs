//! Writing what was decided: the orders of an offer and of an answer, by the policy's rules.

use std::net::IpAddr;

use bytes::Bytes;

use super::offer::Ends;
use super::path::Described;
use super::session::Offer;
use super::{Anchor, NotAcceptable};
use crate::policy::{Policy, Transport};
use crate::rewrite::{Offered, Orders, Part, Placement, dtmf_added, rewrite_by};
use crate::sdp::{Media, Sdp};

/// What a description may not do as a whole: leave without any codec (SDP-15), or pass a stream at a forbidden port (SDP-18).
pub(super) fn check(
    policy: &Policy,
    sdp: &Sdp<'_>,
    described: &[Option<Described>],
) -> Result<(), NotAcceptable> {
    let mut emptied = false;
    for (media, described) in sdp.media.iter().zip(described) {
        let rtp = Transport::parse(media.transport).is_some_and(Transport::is_rtp);
        emptied |= rtp && media.port != 0 && media.port_count == 1 && described.is_none();
        if policy.passes(media) && media.port != 0 && !allows(policy, media) {
            return Err(NotAcceptable::Port(media.port));
        }
    }
    let passes = || sdp.media.iter().any(|media| policy.passes(media) && media.port != 0);
    if policy.rules.codecs.is_some() && emptied && described.iter().all(Option::is_none) && !passes() {
        return Err(NotAcceptable::Codecs);
    }
    Ok(())
}

fn allows(policy: &Policy, media: &Media<'_>) -> bool {
    match media.transport.get(..3) {
        Some(start) if start.eq_ignore_ascii_case(b"TCP") => policy.allows_tcp_port(media.port),
        _ => policy.allows_port(media.port),
    }
}

/// A line that gets no relay: as it is where the policy lets it pass, else declined (SDP-21).
pub(super) fn unrelayed(policy: &Policy, media: &Media<'_>) -> Placement {
    if policy.passes(media) { Placement::Pass } else { Placement::Decline }
}

/// What the offer's lines say to its answer.
pub(super) fn offered(offer: &Offer) -> Vec<Offered> {
    offer.lines.iter().map(|line| line.offered).collect()
}

/// Which lines speak ICE; empty: none.
fn speaking(sdp: &Sdp<'_>) -> Vec<bool> {
    let speaks = |media: &Media<'_>| sdp.ice_of(media).is_some();
    if sdp.media.iter().any(speaks) { sdp.media.iter().map(speaks).collect() } else { Vec::new() }
}

impl Anchor {
    pub(super) fn write_offer(
        &mut self,
        id: u64,
        ends: Ends,
        sdp: &Sdp<'_>,
        address: IpAddr,
        mut placements: Vec<Placement>,
    ) -> Bytes {
        self.name_ice(id, ends.from.other(), &speaking(sdp), &mut placements);
        let srtp = self.secure_offer(id, ends.from.other());
        let rules = &self.config.policy.rules;
        let dtmf = rules.dtmf.as_ref().and_then(|dtmf| dtmf.towards(ends.to_signalling));
        if let (Some(wished), Some(offer)) =
            (dtmf, self.sessions.get_mut(&id).and_then(|session| session.offer.as_mut()))
        {
            for (line, media) in offer.lines.iter_mut().zip(&sdp.media) {
                line.offered.dtmf = dtmf_added(sdp, media, wished, rules);
            }
        }
        let part = Part::Offer { dtmf };
        let orders = Orders { address, placements: &placements, part, srtp: &srtp, rules };
        rewrite_by(sdp, &orders, &mut self.scratch)
    }

    pub(super) fn write_answer(
        &mut self,
        id: u64,
        sdp: &Sdp<'_>,
        address: IpAddr,
        mut placements: Vec<Placement>,
        offered: &[Offered],
    ) -> Bytes {
        for (placement, media) in placements.iter_mut().zip(&sdp.media) {
            if *placement == Placement::Decline {
                *placement = unrelayed(&self.config.policy, media);
            }
        }
        if let Some(to) = self.sessions.get(&id).and_then(|session| Some(session.offer.as_ref()?.from)) {
            self.name_ice(id, to, &speaking(sdp), &mut placements);
        }
        let (part, rules) = (Part::Answer(offered), &self.config.policy.rules);
        let srtp = self.secure_answer(id);
        let orders = Orders { address, placements: &placements, part, srtp: &srtp, rules };
        rewrite_by(sdp, &orders, &mut self.scratch)
    }
}
