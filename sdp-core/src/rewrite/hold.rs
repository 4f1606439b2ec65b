//! Hold in its dialects: 0.0.0.0, `::`, `sendonly`, `inactive`, of the line or of the session.

use super::Part;
use crate::policy::Rules;
use crate::sdp::{Direction, Media, Sdp};

/// The direction a line's author meant: what stands there, and nothing received at 0.0.0.0 (RFC 3264 §8.4).
pub fn meant(sdp: &Sdp<'_>, media: &Media<'_>) -> Direction {
    let stated = sdp.direction_of(media);
    if sdp.holds_by_address(media) { stated.without_receiving() } else { stated }
}

/// The direction to write for relayed line number `at`; `None`: what stands there is right.
pub(super) fn direction(
    sdp: &Sdp<'_>,
    media: &Media<'_>,
    at: usize,
    part: Part<'_>,
    rules: &Rules,
) -> Option<Direction> {
    let stated = sdp.direction_of(media);
    let zero = sdp.holds_by_address(media);
    // With RFC 2543 hold the address says it, and goes on saying it.
    let by_direction = zero && (!rules.hold_rfc2543 || rules.hold_force_3264);
    let mut wished = if by_direction { stated.without_receiving() } else { stated };
    match part {
        Part::Offer { .. } if rules.inhibit_hold => {
            // Who does not receive holds, by whatever dialect.
            if zero || !wished.receives() {
                wished = Direction::SendRecv;
            }
        }
        Part::Offer { .. } => {
            if rules.hold_inactive && wished == Direction::SendOnly {
                wished = Direction::Inactive;
            }
        }
        Part::Answer(offered) => {
            if by_direction || rules.hold_force_3264 || rules.inhibit_hold {
                let offered = offered.get(at).map_or(Direction::SendRecv, |offered| offered.direction);
                // RFC 3264 §6.1: the answer allows no more than the offer.
                wished = wished.and(offered.reversed());
            }
        }
    }
    (wished != stated).then_some(wished)
}

/// Whether a connection address 0.0.0.0 stays.
pub(super) fn keeps_zero(part: Part<'_>, rules: &Rules) -> bool {
    let shown = rules.inhibit_hold && matches!(part, Part::Offer { .. });
    rules.hold_rfc2543 && !shown
}
