//! The way of media between two phones, in the words of the relay.

use sdp_core::policy::{MediaRoute, Policy};

use crate::config::RouteSettings;

/// This policy, with these settings in it.
pub(super) fn with(route: &RouteSettings, policy: Policy) -> Policy {
    Policy {
        media_route: if route.direct { MediaRoute::DirectBehindSameNat } else { MediaRoute::Gateway },
        always_relay: route.always_relay,
        direct_nets_deny: route.deny.clone(),
        ..policy
    }
}
