//! Which request of a ring a completion belongs to.

use super::line::Way;
use super::socket::{Pair, Ports};
use crate::relay::Component;
use crate::relay::table::Slot;

/// A socket of a pair, and what was asked of it: 3 bits what, 2 bits the socket, 27 bits slot, 32 bits generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) socket: Which,
    pub(super) slot: Slot,
    pub(super) generation: u32,
}

/// The sockets of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// RTP, from everywhere.
    Rtp,
    /// RTCP.
    Rtcp,
    /// RTP, from and to one peer.
    Line,
}

pub(super) const RECEIVE: u64 = 0;
pub(super) const SEND: u64 = 1;
pub(super) const BELL: u64 = 2;
pub(super) const CANCEL: u64 = 3;

impl Which {
    pub(super) const ALL: [Self; 3] = [Self::Rtp, Self::Rtcp, Self::Line];

    /// The first socket of a port, or its line.
    pub(super) fn of(component: Component, way: Way) -> Self {
        match (component, way) {
            (_, Way::Line) => Self::Line,
            (Component::Rtp, _) => Self::Rtp,
            (Component::Rtcp, _) => Self::Rtcp,
        }
    }

    /// The port it is of.
    pub(super) fn component(self) -> Component {
        match self {
            Self::Rtp | Self::Line => Component::Rtp,
            Self::Rtcp => Component::Rtcp,
        }
    }

    /// The one with this number.
    pub(super) fn numbered(number: u64) -> Self {
        match number {
            0 => Self::Rtp,
            1 => Self::Rtcp,
            _ => Self::Line,
        }
    }

    /// Its number among those of a pair.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Rtp => 0,
            Self::Rtcp => 1,
            Self::Line => 2,
        }
    }
}

impl Mark {
    pub(super) fn pack(self, what: u64) -> u64 {
        let socket = u64::from(self.socket.number());
        what << 61 | socket << 59 | (self.slot.0 as u64 & 0x07ff_ffff) << 32 | u64::from(self.generation)
    }

    pub(super) fn unpack(bits: u64) -> (u64, Self) {
        let socket = Which::numbered(bits >> 59 & 3);
        let slot = Slot((bits >> 32 & 0x07ff_ffff) as usize);
        (bits >> 61, Self { socket, slot, generation: bits as u32 })
    }

    /// Whether the ports that had the slot then have it still.
    pub(super) fn is_live(self, ports: &Ports) -> bool {
        ports.pair(self.slot).is_some_and(|pair| pair.generation == self.generation)
    }

    /// These ports.
    pub(super) fn pair(self, ports: &mut Ports) -> Option<&mut Pair> {
        ports.pair_mut(self.slot).filter(|pair| pair.generation == self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_went() {
        for socket in Which::ALL {
            for (slot, generation) in [(0, 0), (65_535, u32::MAX), (0x07ff_ffff, 7)] {
                let mark = Mark { socket, slot: Slot(slot), generation };
                for what in [RECEIVE, SEND, BELL, CANCEL] {
                    assert_eq!(Mark::unpack(mark.pack(what)), (what, mark));
                }
            }
        }
    }
}
