//! A stream where SRTP ends with us: its packets are opened before all else and sealed last.

use std::time::Instant;

use super::{Packet, Stream};
use crate::relay::command::Side;
use crate::relay::report::{Component, Report};
use crate::srtp::{Fault, Opened};

impl Stream {
    /// Whether SRTP ends on a side of it.
    pub fn is_keyed(&self, side: Side) -> bool {
        match side {
            Side::Outside => self.outside.crypt.is_some(),
            Side::Inside => self.inside.crypt.is_some(),
        }
    }

    /// Opens a packet of a side that is keyed: in clear it is then in `room`, to be handled in its place; when it was let in,
    /// [`Stream::accept`] is due. `Ok(None)`: it is no SRTP, or nothing is taken from there now: handled as it is.
    ///
    /// # Errors
    /// It was dropped and counted.
    pub fn open(
        &mut self,
        now: Instant,
        side: Side,
        packet: &Packet<'_>,
        room: &mut Vec<u8>,
    ) -> Result<Option<Opened>, Fault> {
        // RFC 7983 §7: neither STUN nor what else shares the port.
        if !matches!(packet.bytes, [128..=191, ..]) || !self.setup.leg(side).live {
            return Ok(None);
        }
        let leg = self.leg(side);
        let Some(crypt) = &leg.crypt else { return Ok(None) };
        // Who would not be heard whatever it says costs no look at what it says.
        let latch = match packet.component {
            Component::Rtp => &leg.rtp,
            Component::Rtcp => &leg.rtcp,
        };
        if latch.is_closed_to(now, packet.source) {
            leg.statistics.dropped.stranger += 1;
            leg.statistics.refused = Some(packet.source);
            return Err(Fault::Auth);
        }
        room.clear();
        room.extend_from_slice(packet.bytes);
        let opened = crypt.open(room);
        match opened {
            Ok(_) => {}
            Err(Fault::Auth) => leg.statistics.dropped.auth += 1,
            Err(Fault::Replay) => leg.statistics.dropped.replay += 1,
        }
        opened.map(Some)
    }

    /// How far its packets under keys have come; `None`: it has none.
    pub fn reached(&self) -> Option<Report> {
        let of = |side| match side {
            Side::Outside => self.outside.crypt.as_ref()?.reached(),
            Side::Inside => self.inside.crypt.as_ref()?.reached(),
        };
        let (outside, inside) = (of(Side::Outside), of(Side::Inside));
        outside.or(inside)?;
        Some(Report::Reached { stream: self.setup.id, outside, inside })
    }

    /// A packet that was opened was let in: it does not come again.
    pub fn accept(&mut self, side: Side, opened: Opened) {
        if let Some(crypt) = &mut self.leg(side).crypt {
            crypt.accept(opened);
        }
    }

    /// Seals what is in `room` and leaves by `side`, if there is somewhere to send it to.
    ///
    /// # Errors
    /// It must not leave.
    pub fn seal(&mut self, side: Side, component: Component, room: &mut Vec<u8>) -> Result<(), Fault> {
        let leg = self.leg(side);
        let there = leg.latch(component).destination().is_some();
        match &mut leg.crypt {
            Some(crypt) if there => crypt.seal(room),
            _ => Ok(()),
        }
    }
}
