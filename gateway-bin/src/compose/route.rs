//! The way of media between two phones, in the words of the relay.

use sdp_core::policy::{MediaRoute, Policy};

use crate::config::RouteSettings;

/// The default policy with these settings.
pub(super) fn policy(route: &RouteSettings) -> Policy {
    Policy {
        media_route: if route.direct { MediaRoute::DirectBehindSameNat } else { MediaRoute::Gateway },
        always_relay: route.always_relay,
        direct_nets_deny: route.deny.clone(),
        ..Policy::default()
    }
}
