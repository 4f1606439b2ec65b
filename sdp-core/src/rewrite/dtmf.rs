//! `telephone-event` (RFC 4733) for offers that have none.

use crate::policy::{Rules, Transport, Types, attributes, bit, encoding};
use crate::sdp::{Media, Sdp};

/// The payload type that a line of an offer gets for `telephone-event`: the wished one, or the next that is free. `None` where
/// the line has it, or is no live audio, or where it is denied.
pub fn added(sdp: &Sdp<'_>, media: &Media<'_>, wished: u8, rules: &Rules) -> Option<u8> {
    let audio = media.kind == b"audio" && media.port != 0;
    let denied = rules.codecs.as_ref().is_some_and(|codecs| codecs.denies(b"telephone-event", Some(8000)));
    if !audio || denied || !Transport::parse(media.transport).is_some_and(Transport::is_rtp) {
        return None;
    }
    let named: Types = media.payload_types().fold(0, |all, payload_type| all | bit(payload_type));
    let removed = rules.codecs.as_ref().map_or(0, |codecs| codecs.removed(sdp.bytes, media));
    let (mut taken, mut mapped): (Types, Types) = (named, 0);
    for (attribute, payload_type, value) in attributes(sdp.bytes, media) {
        taken |= bit(payload_type);
        // The first map of a payload type counts, of those that stay.
        let counts = attribute == b"rtpmap:" && mapped & bit(payload_type) == 0;
        if counts
            && encoding(value).0.eq_ignore_ascii_case(b"telephone-event")
            && named & !removed & bit(payload_type) != 0
        {
            return None;
        }
        mapped |= if counts { bit(payload_type) } else { 0 };
    }
    // Dynamic numbers (RFC 3551 §6): from the wished one up, then from the lowest.
    (wished..128).chain(96..wished).find(|payload_type| taken & bit(*payload_type) == 0)
}
