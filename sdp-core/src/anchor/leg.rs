//! What the relay is told about one end of a stream.

use std::net::IpAddr;

use super::path::{self, Described};
use super::session::Named;
use super::{Anchor, NotAcceptable};
use crate::policy::{Family, Source};
use crate::relay::{LegSetup, Pair, Side, StreamId};

/// Packets a second before the answer, of all senders together (MED-08).
const EARLY_RATE: u32 = 200;

impl Anchor {
    /// A leg that has said nothing yet: closed, unless early media is allowed.
    pub(super) fn silent_leg(&self, side: Side, pair: &Pair, signalling: IpAddr) -> LegSetup {
        let policy = &self.config.policy;
        let comparable = Family::from(signalling) == pair.realm.family;
        let restricted = policy.source == Source::SignallingAddress && comparable;
        LegSetup {
            pair: pair.id,
            live: policy.early_rtp,
            wanted: false,
            remote: None,
            sources: restricted.then_some(signalling).into_iter().collect(),
            preferred: None,
            latching: side == Side::Outside,
            sender_limit: policy.sender_limit,
            max_senders: policy.max_senders,
            max_rate: policy.max_rate.min(EARLY_RATE),
            total_rate: Some(EARLY_RATE),
            late_relatch: policy.late_relatch,
            speaks: false,
            ice: None,
            ice_before: None,
            srtp: None,
            named: 0,
            generation: 0,
        }
    }

    /// A leg that was described, and the stream whose relay port it names. `known` are addresses that could send before.
    ///
    /// # Errors
    /// An inside description names an address that nothing may be sent to.
    pub(super) fn leg(
        &self,
        stream: StreamId,
        pair: &Pair,
        signalling: IpAddr,
        described: &Described,
        known: &[IpAddr],
    ) -> Result<(LegSetup, Option<Named>), NotAcceptable> {
        let policy = &self.config.policy;
        let side = pair.realm.side;
        let mut sources = path::sources(policy, side, pair.realm.family, described, signalling, known);
        // Whoever may send: a phone's description aims the relay at nobody but the phone itself.
        let aims = if side == Side::Outside { std::slice::from_ref(&signalling) } else { &sources[..] };
        let mut remote = path::destination(side, pair.rtp.ip(), described, aims)?;
        let names = self.named(stream.session, described).filter(|_| side == Side::Inside);
        if names.is_some() {
            // Our own port: a packet to it would come back to us. It goes by the join, once both ends agree, or not at all.
            remote = None;
            // Nor does anybody else here send in that end's name. (An empty list would mean anybody.)
            if sources.len() > 1 {
                sources.retain(|ip| *ip != described.rtp.ip());
            }
        }
        let comparable = Family::from(signalling) == pair.realm.family;
        let preferred =
            (side == Side::Outside && policy.source == Source::Any && comparable).then_some(signalling);
        let leg = LegSetup {
            pair: pair.id,
            live: true,
            wanted: described.is_wanted(&policy.rules),
            remote,
            sources,
            preferred,
            // Who awaits an address is where its checks come from.
            latching: side == Side::Outside || described.awaits,
            sender_limit: policy.sender_limit,
            max_senders: policy.max_senders,
            max_rate: policy.max_rate,
            total_rate: None,
            late_relatch: policy.late_relatch,
            speaks: false,
            ice: None,
            ice_before: None,
            srtp: None,
            named: if described.names_port() { described.rtp.port() } else { 0 },
            generation: 0,
        };
        Ok((leg, names))
    }
}
