//! Streams whose packets do not leave as they came: where SRTP ends with us they are opened before all else and sealed last;
//! where a stream is continued (MED-12) they get its numbers between the two.

use std::time::Instant;

use super::continuity::{Continuity, Passage};
use super::{Packet, Passed, Stream};
use crate::relay::command::{LegSetup, Side};
use crate::relay::crypt::Crypt;
use crate::relay::report::{Component, Report};
use crate::rtp::{packet, rtcp};
use crate::srtp::{Fault, Opened};

/// What is done to the packets of a leg; a leg that has nothing of it has none.
#[derive(Debug)]
pub(super) struct Changes {
    /// Where SRTP ends with us.
    crypt: Option<Box<Crypt>>,
    /// What leaves is continued.
    continuity: Option<Continuity>,
}

impl Changes {
    /// What a leg has now; of what stays, what was learned stays too.
    pub(super) fn renewed(was: Option<Box<Self>>, setup: &LegSetup, continued: bool) -> Option<Box<Self>> {
        let (crypt, continuity) = was.map_or((None, None), |was| (was.crypt, was.continuity));
        let crypt = Crypt::renewed(crypt, setup);
        let continuity = continued.then(|| continuity.unwrap_or_default());
        (crypt.is_some() || continuity.is_some()).then(|| Box::new(Self { crypt, continuity }))
    }
}

/// Who sent a packet of a stream that is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Who holds the port.
    Holder,
    /// Somebody who was let in beside it.
    Beside,
}

/// A packet under our hands: as it came, or in the room where it is changed.
#[derive(Debug)]
pub struct Worked<'a> {
    came: &'a [u8],
    room: &'a mut Vec<u8>,
    changed: bool,
}

impl<'a> Worked<'a> {
    /// A packet as it came.
    pub fn new(came: &'a [u8], room: &'a mut Vec<u8>) -> Self {
        Self { came, room, changed: false }
    }

    /// Whether it is in its room.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// How it stands.
    pub fn octets(&self) -> &[u8] {
        if self.changed { self.room } else { self.came }
    }

    fn room(&mut self) -> &mut Vec<u8> {
        if !self.changed {
            self.room.clear();
            self.room.extend_from_slice(self.came);
            self.changed = true;
        }
        self.room
    }

    fn is_rtcp(&self) -> bool {
        self.octets().get(1).is_some_and(|kind| rtcp::is_type(*kind))
    }
}

impl Stream {
    /// Whether anything is done to the packets of a side.
    pub fn changes(&self, side: Side) -> bool {
        match side {
            Side::Outside => self.outside.changes.is_some(),
            Side::Inside => self.inside.changes.is_some(),
        }
    }

    /// Whether SRTP ends on a side of it.
    pub fn is_keyed(&self, side: Side) -> bool {
        let leg = match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        };
        leg.changes.as_ref().is_some_and(|changes| changes.crypt.is_some())
    }

    /// Opens a packet of a side where SRTP ends: it is then in clear, to be handled so; when it was let in, [`Stream::accept`]
    /// is due. `Ok(None)`: it is no SRTP, or nothing is taken from there now: handled as it is.
    ///
    /// # Errors
    /// It was dropped and counted.
    pub fn open(
        &mut self,
        now: Instant,
        side: Side,
        packet: &Packet<'_>,
        worked: &mut Worked<'_>,
    ) -> Result<Option<Opened>, Fault> {
        // RFC 7983 §7: neither STUN nor what else shares the port.
        if !matches!(packet.bytes, [128..=191, ..]) || !self.setup.leg(side).live {
            return Ok(None);
        }
        let leg = self.leg(side);
        let Some(crypt) = leg.changes.as_ref().and_then(|changes| changes.crypt.as_ref()) else {
            return Ok(None);
        };
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
        let opened = crypt.open(worked.room());
        match opened {
            Ok(_) => {}
            Err(Fault::Auth) => leg.statistics.dropped.auth += 1,
            Err(Fault::Replay) => leg.statistics.dropped.replay += 1,
        }
        opened.map(Some)
    }

    /// How far its packets under keys have come; `None`: it has none.
    pub fn reached(&self) -> Option<Report> {
        let of = |side| {
            let leg = match side {
                Side::Outside => &self.outside,
                Side::Inside => &self.inside,
            };
            leg.changes.as_ref()?.crypt.as_ref()?.reached()
        };
        let (outside, inside) = (of(Side::Outside), of(Side::Inside));
        outside.or(inside)?;
        Some(Report::Reached { stream: self.setup.id, outside, inside })
    }

    /// A packet that was let in: opened, it does not come again; where the stream is continued, what it reports becomes what
    /// its reader knows, and who has sent it is told for [`Stream::change`].
    pub fn accept(
        &mut self,
        side: Side,
        packet: &Packet<'_>,
        opened: Option<Opened>,
        worked: &mut Worked<'_>,
    ) -> Option<Speaker> {
        let leg = self.leg(side);
        let holds = leg.latch(packet.component).is_held_by(packet.source);
        let changes = leg.changes.as_mut()?;
        if let (Some(crypt), Some(opened)) = (&mut changes.crypt, opened) {
            crypt.accept(opened);
        }
        let continuity = changes.continuity.as_mut()?;
        if worked.is_rtcp() {
            continuity.hears(worked.room());
        }
        Some(if holds { Speaker::Holder } else { Speaker::Beside })
    }

    /// Makes of a packet what leaves by `side`, if anything is to be sent there; sealed where it is known where to. Of a stream
    /// that is not continued (no `speaker`) nothing is continued on another.
    ///
    /// # Errors
    /// It must not leave.
    pub fn change(
        &mut self,
        now: Instant,
        side: Side,
        passed: Passed,
        speaker: Option<Speaker>,
        worked: &mut Worked<'_>,
    ) -> Result<(), Fault> {
        if !self.setup.leg(side).wanted {
            return Ok(());
        }
        let (leg, clocks) = self.leg_and_clocks(side);
        let there = leg.latch(passed.component).destination().is_some();
        let Some(changes) = &mut leg.changes else { return Ok(()) };
        if let (Some(continuity), Some(speaker)) = (&mut changes.continuity, speaker) {
            let holds = speaker == Speaker::Holder;
            if worked.is_rtcp() {
                if !continuity.speaks(worked.room(), holds) {
                    return Err(Fault::Replay);
                }
            } else if let Some(header) = packet::Header::parse(worked.octets()) {
                let octets = worked.octets().len() - header.length;
                match continuity.number(now, &header, octets, holds, clocks) {
                    Passage::AsIs => {}
                    Passage::Under(number) => number.write(worked.room()),
                    Passage::Taken => return Err(Fault::Replay),
                }
            }
        }
        match &mut changes.crypt {
            // A number that is sent once can't be sent again: somebody else's packets in the name of who speaks would use up his.
            Some(_) if there && passed.borrowed => Err(Fault::Replay),
            Some(crypt) if there => crypt.seal(worked.room()),
            _ => Ok(()),
        }
    }
}
