//! "Sessions and Media", the signalling part: how long sessions and streams last, and how many there may be.

use std::time::Duration;

use sip_core::edge::interop::Sessions;

use super::Judge;
use crate::config::file;

/// `sip.session_timer`, `.stream_idle`, `.max_sessions`, `.emergency_numbers`.
pub(super) fn settings(sip: &file::Sip, judge: &mut Judge<'_>, sessions: &mut Sessions) {
    let seconds = |number: u32| Duration::from_secs(number.into());
    // RFC 4028 §4: no shorter than 90 s.
    let timer = judge.number::<u32>(&["sip", "session_timer"], sip.session_timer, (90, 604_800));
    sessions.session_timer = timer.map_or(sessions.session_timer, seconds);
    let idle = judge.number::<u32>(&["sip", "stream_idle"], sip.stream_idle, (1, 86_400));
    sessions.stream_idle = idle.map_or(sessions.stream_idle, seconds);
    sessions.max_sessions =
        sip.max_sessions.and_then(|most| judge.number::<u32>(&["sip", "max_sessions"], most, (1, 1_000_000)));
    sessions.emergency_numbers = sip.emergency_numbers.clone();
    for number in &sip.emergency_numbers {
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#' | b'+'))
        {
            let says = format!("\"{number}\" is not a number: expected digits, *, # or +, such as \"112\"");
            judge.refuse(&["sip", "emergency_numbers"], says);
        }
    }
    if sip.max_sessions.is_some() && sip.emergency_numbers.is_empty() {
        judge.warn(&["sip", "max_sessions"], "without sip.emergency_numbers emergency calls are refused too");
    }
}
