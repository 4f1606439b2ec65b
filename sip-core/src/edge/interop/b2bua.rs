//! The switches of the B2BUA, which comes with the trunks: fields only, until it acts on them.

use std::time::Duration;

/// The B2BUA, which comes with the trunks; until then every switch here is refused by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct B2bua {
    /// INT-05. `sip.interop.reinvite_end_to_end`.
    pub reinvite_end_to_end: bool,
    /// INT-21. `sip.interop.keep_user_agent`.
    pub keep_user_agent: bool,
    /// INT-22. `sip.interop.readd_codecs`.
    pub readd_codecs: bool,
    /// INT-29. `sip.interop.replaces_by_callid`.
    pub replaces_by_callid: bool,
    /// INT-34. `sip.interop.prack_receive`.
    pub prack_receive: bool,
    /// INT-35. `sip.interop.prack_send`.
    pub prack_send: bool,
    /// INT-36. `sip.interop.media_reset_on_reinvite`.
    pub media_reset_on_reinvite: bool,
    /// INT-37. `sip.interop.offer_always`.
    pub offer_always: bool,
    /// INT-38. `sip.interop.detect_same_version`.
    pub detect_same_version: bool,
    /// INT-39. `sip.interop.no_reinvite`.
    pub no_reinvite: bool,
    /// INT-40. `sip.interop.no_supported`.
    pub no_supported: bool,
    /// INT-43. `sip.interop.refer_end_on_183`.
    pub refer_end_on_183: bool,
    /// INT-46. `sip.interop.strip_sdp_1xx`.
    pub strip_sdp_1xx: bool,
    /// INT-48. `sip.interop.compare_session_id`.
    pub compare_session_id: bool,
    /// INT-69. `sip.interop.refer_copy_headers`.
    pub refer_copy_headers: Vec<String>,
    /// SAM-09. `b2bua.codec_change_detection`.
    pub codec_change_detection: CodecChange,
    /// SAM-11: whether a generated tone is played at a transfer. `b2bua.ringback`.
    pub ringback: bool,
    /// SAM-12. `b2bua.ring_tone`.
    pub ring_tone: RingTone,
    /// SAM-13. `b2bua.moh`.
    pub moh: bool,
    /// SAM-27: where music on hold comes from; `None` leaves calls on hold as they are. `b2bua.moh_server`.
    pub moh_server: Option<String>,
    /// SAM-23: the offer that the B2BUA invents. `b2bua.tpcc_codecs`.
    pub tpcc_codecs: Vec<String>,
    /// SAM-31: how long one leg waits for the other; zero: as long as its transaction. `b2bua.pending_timeout`.
    pub pending_timeout: Duration,
}

impl Default for B2bua {
    fn default() -> Self {
        let codecs = ["PCMU", "G729 annexb=yes", "telephone-event 96/8000 0-15"];
        Self {
            reinvite_end_to_end: true,
            keep_user_agent: false,
            readd_codecs: false,
            replaces_by_callid: true,
            prack_receive: true,
            prack_send: true,
            media_reset_on_reinvite: false,
            offer_always: false,
            detect_same_version: false,
            no_reinvite: false,
            no_supported: false,
            refer_end_on_183: false,
            strip_sdp_1xx: false,
            compare_session_id: false,
            refer_copy_headers: Vec::new(),
            codec_change_detection: CodecChange::First,
            ringback: false,
            ring_tone: RingTone::Us,
            moh: false,
            moh_server: None,
            tpcc_codecs: codecs.map(str::to_owned).to_vec(),
            pending_timeout: Duration::ZERO,
        }
    }
}

/// What counts as a change of codecs in an answer during a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecChange {
    /// The first payload type.
    First,
    /// All payload types but dynamic ones.
    Static,
    /// All payload types.
    All,
}

/// The tone of [`B2bua::ringback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingTone {
    /// United States.
    Us,
    /// Continental Europe.
    Eu,
    /// United Kingdom.
    Uk,
}
