//! The seam between signalling and a relay that is a process of its own (decision 13): what crosses their socket.
//!
//! Sans-I/O: octets in, messages out. Both sides begin with a preamble of ten octets that never changes: eight that say what
//! this is, and the version of all that follows. Then frames: a length of four octets, and one message in MessagePack **with
//! field names**. So a relay goes on through an upgrade of signalling: a field it does not know is passed over, one that it
//! misses has its default, and a message it can't read is skipped ([`Received::Unreadable`]). [`VERSION`] is raised only when
//! that is not enough.
//!
//! Whoever connects says [`ToRelay::Hello`] and is answered [`FromRelay::Welcome`], then a snapshot of what runs; or
//! [`FromRelay::Declined`].

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{Command, Report};
use crate::policy::Addresses;

/// The version of this protocol.
pub const VERSION: u16 = 1;
/// How many octets the preamble has.
pub const PREAMBLE: usize = 10;
/// Octets of a frame without its length, at most: a part of a snapshot whose sessions have long records.
pub const MAX_FRAME: usize = 2 << 20;

const MAGIC: [u8; 8] = *b"farendMR";
const LENGTH: usize = 4;
/// How deep a message is nested at most; ours are not half as deep. What its reader allows by itself is more than the stack of
/// a thread holds.
const DEPTH: usize = 32;

/// Why nothing more can be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// Not one of us.
    #[error("the far end is no farend")]
    Stranger,
    /// A far end of another version.
    #[error("the far end speaks version {theirs} of the protocol, we speak {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// A frame beyond [`MAX_FRAME`].
    #[error("a frame of {octets} octets: {MAX_FRAME} are allowed")]
    TooLong {
        /// Its length.
        octets: usize,
    },
    /// A message that can't be written; a fault of ours.
    #[error("a message can't be written: {0}")]
    Encode(String),
}

/// From signalling to the relay.
#[allow(clippy::large_enum_variant)] // One exists at a time, on its way into a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToRelay {
    /// The first message. It takes the place of whoever was connected before.
    Hello(Hello),
    /// For the relay.
    Command(Command),
    /// Are you there? Answered by [`FromRelay::Here`].
    Ask,
    /// End, if no session is left and a signalling process has started you.
    Finish,
}

/// From the relay to signalling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromRelay {
    /// The relay is yours. A snapshot follows.
    Welcome(Welcome),
    /// The relay is not yours; the connection ends.
    Declined {
        /// Why, in words for the operator.
        reason: String,
    },
    /// From the relay.
    Report(Report),
    /// The answer to [`ToRelay::Ask`].
    Here,
    /// Another signalling process has the relay now; the connection ends.
    Replaced {
        /// Which.
        by: Instance,
    },
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Its number at the operating system.
    pub process: u32,
    /// The version of its program.
    pub program: String,
}

/// Who connects, and the relay it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who.
    pub instance: Instance,
    /// The relay.
    pub setup: Setup,
}

/// What a relay is made of. One that has sessions is not made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Addresses towards the phones.
    pub outside: Addresses,
    /// Addresses towards the PBX.
    pub inside: Addresses,
    /// Ports of both.
    pub ports: RangeInclusive<u16>,
    /// Threads that carry packets; 0: one for each core.
    #[serde(default)]
    pub workers: usize,
    /// DSCP of what is sent; a signalling process that does not say wants none.
    #[serde(default)]
    pub dscp: u8,
}

impl Setup {
    /// In what another setup differs, in words for the operator; `None`: in nothing.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut all = Vec::new();
        if (self.outside, self.inside) != (other.outside, other.inside) {
            all.push("net.interfaces".to_owned());
        }
        if self.ports != other.ports {
            let (old, new) = (&self.ports, &other.ports);
            let (old, new) = ((old.start(), old.end()), (new.start(), new.end()));
            all.push(format!("media.port_range [{}, {}] instead of [{}, {}]", new.0, new.1, old.0, old.1));
        }
        if self.dscp != other.dscp {
            all.push(format!("media.dscp {} instead of {}", other.dscp, self.dscp));
        }
        if self.workers != other.workers {
            all.push(format!("media.workers {} instead of {}", other.workers, self.workers));
        }
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Who.
    pub instance: Instance,
    /// A signalling process has started it, so that it ends when it has nothing to do: it is no service of its own.
    pub spawned: bool,
}

/// The first octets of either side.
pub fn preamble() -> [u8; PREAMBLE] {
    let mut octets = [0; PREAMBLE];
    let (magic, version) = octets.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    version.copy_from_slice(&VERSION.to_be_bytes());
    octets
}

/// Reads the far end's.
///
/// # Errors
/// [`WireError::Stranger`], [`WireError::Version`].
pub fn read_preamble(octets: [u8; PREAMBLE]) -> Result<(), WireError> {
    let [magic @ .., high, low] = octets;
    match u16::from_be_bytes([high, low]) {
        _ if magic != MAGIC => Err(WireError::Stranger),
        VERSION => Ok(()),
        theirs => Err(WireError::Version { theirs }),
    }
}

/// Appends a message as one frame.
///
/// # Errors
/// [`WireError::TooLong`], [`WireError::Encode`]; then nothing was appended.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    let body = rmp_serde::to_vec_named(message).map_err(|error| WireError::Encode(error.to_string()))?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or(WireError::TooLong { octets: body.len() })?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<T> {
    /// It.
    Message(T),
    /// One that this version can't read; the next may be readable.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// Cuts octets into messages.
#[derive(Debug)]
pub struct Decoder<T> {
    octets: Vec<u8>,
    read: usize,
    message: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self { octets: Vec::new(), read: 0, message: PhantomData }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Takes what came. Call [`Decoder::poll_message`] until it has nothing more: then less than a frame waits.
    pub fn handle_octets(&mut self, octets: &[u8]) {
        self.octets.drain(..std::mem::take(&mut self.read));
        self.octets.extend_from_slice(octets);
    }

    /// The next message.
    ///
    /// # Errors
    /// [`WireError::TooLong`]: nothing more can be read.
    pub fn poll_message(&mut self) -> Result<Option<Received<T>>, WireError> {
        let waiting = self.octets.get(self.read..).unwrap_or_default();
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let octets = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if octets > MAX_FRAME {
            return Err(WireError::TooLong { octets });
        }
        let Some(body) = rest.get(..octets) else { return Ok(None) };
        let received = match read(body) {
            Ok(message) => Received::Message(message),
            Err(error) => Received::Unreadable { reason: error.to_string() },
        };
        self.read += LENGTH + octets;
        Ok(Some(received))
    }
}

/// What a session is kept as.
pub(crate) fn write_down<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    rmp_serde::to_vec_named(value).ok()
}

/// What was kept; `None` when it can't be read.
pub(crate) fn read_back<T: DeserializeOwned>(octets: &[u8]) -> Option<T> {
    read(octets).ok()
}

fn read<T: DeserializeOwned>(octets: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut octets = rmp_serde::Deserializer::from_read_ref(octets);
    octets.set_max_depth(DEPTH);
    T::deserialize(&mut octets)
}

#[cfg(test)]
mod tests;
