//! The status channel: what a running gateway tells an administrator on the same host, and what is asked of it.
//!
//! A Unix socket in `state_dir`, for its owner only. A client writes one line of JSON, a [`Request`], and reads one, an
//! [`Answer`]. It is read-only: nothing that can be asked changes anything. Both sides say the version of what they speak.
//! `socket` serves it, `ask` is `farend status`, `page` writes answers as text.

mod ask;
mod page;
mod socket;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sdp_core::relay::LegStatistics;
use serde::{Deserialize, Serialize};
use sip_core::edge::quality::Quality;

pub use ask::{AskError, ask};
pub use page::{calls as calls_page, summary as summary_page};
pub(crate) use socket::{Desk, Serving};

/// What this program speaks.
pub const VERSION: u32 = 1;
/// The socket's name in `state_dir`.
pub const SOCKET: &str = "status.sock";
/// Octets of a request at most.
const REQUEST: u64 = 1024;
/// Octets of an answer at most: [`CALLS`] of them are a tenth of it.
const ANSWER: u64 = 16 << 20;
/// Calls in an answer; those with trouble first.
pub const CALLS: usize = 1000;

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The state in numbers.
    Summary,
    /// The running calls, and those that ended in trouble lately.
    Calls,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`].
    pub version: u32,
    /// What was asked for, or why not.
    #[serde(flatten)]
    pub said: Said,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// To [`Ask::Summary`].
    Summary(Box<Summary>),
    /// To [`Ask::Calls`].
    Calls(Calls),
    /// The question can't be answered.
    Refused(String),
}

/// The state in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The program's version.
    pub program: String,
    /// Its process.
    pub process: u32,
    /// Seconds since it started.
    pub seconds: u64,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// Registered phones.
    pub phones: usize,
    /// Those of them that are connected.
    pub connected: usize,
    /// Calls with media, being set up or running.
    pub calls: usize,
    /// Those of them that the doctor finds troubled.
    pub troubled: usize,
    /// Calls answered since the start.
    pub answered: u64,
    /// Calls that ended in trouble, or were refused for their description, since the start.
    pub ended_in_trouble: u64,
    /// Requests refused since the start.
    pub refused: u64,
    /// Messages dropped since the start.
    pub dropped: u64,
    /// Peers that are blocked now.
    pub blocked: usize,
    /// Switches that something is held against, or that are monitored.
    pub switches: Vec<SwitchStatus>,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchStatus {
    /// Its address.
    pub remote: SocketAddr,
    /// `up`, `down`, `unknown`, `unwatched`.
    pub health: String,
    /// Seconds that it stays on the blacklist.
    pub blacklisted: u64,
}

/// The running calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// Those with trouble first, then the oldest.
    pub calls: Vec<CallStatus>,
    /// How many more there are.
    pub left_out: usize,
    /// Calls that ended in trouble, or were refused for their description; the latest last.
    pub past: Vec<Past>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallStatus {
    /// Its media session, as in the log.
    pub session: u64,
    /// Its Call-ID, known once it was answered.
    pub call_id: Option<String>,
    /// The phone's tag (MAC), known once the call was answered.
    pub phone: Option<String>,
    /// Where the phone's signalling comes from.
    pub phone_address: Option<IpAddr>,
    /// The switch.
    pub switch: Option<IpAddr>,
    /// Whether it was answered.
    pub answered: bool,
    /// Seconds since it was answered, else since its first description.
    pub seconds: u64,
    /// What the phone itself measured, by its last report (RFC 6035).
    #[serde(default)]
    pub reported: Option<Reported>,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
}

/// A phone's own figures of a call; what it did not tell is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reported {
    /// Listening quality, 1 to 5.
    pub mos_listening: Option<f64>,
    /// Conversational quality, 1 to 5.
    pub mos_conversational: Option<f64>,
    /// Packets lost on the way, per cent.
    pub lost_percent: Option<f64>,
    /// Packets that came too late, per cent.
    pub discarded_percent: Option<f64>,
    /// Jitter, milliseconds.
    pub jitter_ms: Option<f64>,
    /// Round trip, milliseconds.
    pub round_trip_ms: Option<u16>,
}

impl From<Quality> for Reported {
    fn from(quality: Quality) -> Self {
        let plain = |hundredths: Option<u16>| hundredths.map(|value| f64::from(value) / 100.0);
        Self {
            mos_listening: plain(quality.mos_listening),
            mos_conversational: plain(quality.mos_conversational),
            lost_percent: plain(quality.lost),
            discarded_percent: plain(quality.discarded),
            jitter_ms: plain(quality.jitter),
            round_trip_ms: quality.round_trip,
        }
    }
}

impl CallStatus {
    /// Whether the doctor finds it troubled.
    pub fn is_troubled(&self) -> bool {
        self.streams.iter().any(|stream| stream.trouble)
    }
}

/// A stream of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// The media line, counted from 0.
    pub line: Option<usize>,
    /// `relayed`, `joined` (one hop between two phones), `direct` (past the relay), `offered`, or `refused` (the
    /// relay could not have its ports again).
    pub media: String,
    /// What was agreed, by name.
    pub codecs: Option<String>,
    /// The doctor's verdict, by name.
    pub verdict: String,
    /// Whether somebody should act.
    pub trouble: bool,
    /// The verdict in words.
    pub sentence: String,
    /// How old the counters are, in seconds; `None` while there are none.
    pub age: Option<u64>,
    /// The phone's end.
    pub phone: EndStatus,
    /// The other end.
    pub other: EndStatus,
}

/// An end of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EndStatus {
    /// Where our description asks it to send.
    pub ours: Option<SocketAddr>,
    /// Where its own description wants packets.
    pub says: Option<SocketAddr>,
    /// What was counted of it.
    pub counters: Option<LegStatistics>,
}

impl EndStatus {
    /// Why packets from it were dropped, and how many for each reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let Some(counters) = &self.counters else { return BTreeMap::new() };
        match serde_json::to_value(counters.dropped) {
            Ok(serde_json::Value::Object(reasons)) => {
                let counts = reasons.into_iter().filter_map(|(why, count)| Some((why, count.as_u64()?)));
                counts.filter(|(_, count)| *count > 0).collect()
            }
            _ => BTreeMap::new(),
        }
    }
}

/// A call that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Its media session.
    pub session: u64,
    /// Its Call-ID.
    pub call_id: Option<String>,
    /// The phone's tag.
    pub phone: Option<String>,
    /// Where the phone's signalling came from.
    pub phone_address: Option<IpAddr>,
    /// How many seconds ago it ended.
    pub ago: u64,
    /// The verdict, by name.
    pub verdict: String,
    /// The verdict in words.
    pub sentence: String,
}
