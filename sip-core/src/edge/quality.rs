//! What a phone itself measured of its audio: PUBLISH with `application/vq-rtcpxr` (RFC 6035), which goes on to the switch
//! unread by anybody but this. Bounded, and lenient: what can't be read is left out.

use super::Edge;
use super::event::{Event, shown};
use super::exchange::Incoming;
use crate::flow::Side;
use crate::message::{Method, Name};

/// Octets of a report that is looked at.
const REPORT: usize = 8192;
/// Lines of it.
const LINES: usize = 64;

/// The phone's own figures of a call or of a part of it (RFC 6035 §4.6.2). What it did not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// MOSLQ, listening quality, in hundredths.
    pub mos_listening: Option<u16>,
    /// MOSCQ, conversational quality, in hundredths.
    pub mos_conversational: Option<u16>,
    /// NLR, packets lost on the way, in hundredths of a per cent.
    pub lost: Option<u16>,
    /// JDR, packets that came too late to be played, in hundredths of a per cent.
    pub discarded: Option<u16>,
    /// IAJ, interarrival jitter, in hundredths of a millisecond.
    pub jitter: Option<u16>,
    /// RTD, round trip, in milliseconds.
    pub round_trip: Option<u16>,
}

impl Quality {
    /// Reads a report: the Call-ID it is about, and the phone's local metrics. `None` when it is none.
    pub fn parse(body: &[u8]) -> Option<(String, Self)> {
        let text = std::str::from_utf8(body.get(..REPORT).unwrap_or(body)).ok()?;
        let (mut call_id, mut quality, mut local) = (None, Self::default(), false);
        for line in text.lines().take(LINES) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let (name, value) = (name.trim(), value.trim());
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("CallID") {
                call_id.get_or_insert_with(|| shown(value.as_bytes()));
            } else if is("LocalMetrics") {
                local = true;
            } else if is("RemoteMetrics") {
                // What its peer told: that is not its ears.
                break;
            } else if local {
                quality.metric(name, value);
            }
        }
        let call_id = call_id.filter(|id| !id.is_empty())?;
        (quality != Self::default()).then_some((call_id, quality))
    }

    fn metric(&mut self, group: &str, values: &str) {
        for (name, value) in values.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let name = name.to_ascii_uppercase();
            let place = match (group.to_ascii_lowercase().as_str(), name.as_str()) {
                ("qualityest", "MOSLQ") => &mut self.mos_listening,
                ("qualityest", "MOSCQ") => &mut self.mos_conversational,
                ("packetloss", "NLR") => &mut self.lost,
                ("packetloss", "JDR") => &mut self.discarded,
                ("delay", "IAJ") => &mut self.jitter,
                ("delay", "RTD") => {
                    let whole = value.split('.').next().unwrap_or_default();
                    self.round_trip =
                        whole.parse().ok().filter(|_| whole.bytes().all(|b| b.is_ascii_digit()));
                    continue;
                }
                _ => continue,
            };
            *place = hundredths(value);
        }
    }
}

/// A decimal number in hundredths; further digits are cut. At most 655.
fn hundredths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.len() <= 8 && text.bytes().all(|octet| octet.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    let digit = |at: usize| part.as_bytes().get(at).map_or(0, |octet| u32::from(octet - b'0'));
    let value = whole.parse::<u32>().ok()?.checked_mul(100)? + digit(0) * 10 + digit(1);
    u16::try_from(value).ok()
}

impl Edge {
    /// Copies a phone's report of its audio (MED-20).
    pub(super) fn note_quality(&mut self, incoming: &Incoming) {
        if incoming.peer.side != Side::Outside || incoming.method() != Method::Publish {
            return;
        }
        let content_type = incoming.message.raw(Name::ContentType).unwrap_or_default();
        let media_type = content_type.split(|octet| *octet == b';').next().unwrap_or_default();
        if !media_type.trim_ascii().eq_ignore_ascii_case(b"application/vq-rtcpxr") {
            return;
        }
        if let Some((call_id, quality)) = Quality::parse(incoming.message.body()) {
            self.tell(Event::QualityReported { call_id, remote: incoming.peer.remote, quality });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTED: &str = "VQSessionReport: CallTerm\r\nCallID: 6dg37f1890463\r\nLocalID: Alice <sip:alice@example.org>\r\n\
        LocalAddr: IP=10.10.1.100 PORT=5000 SSRC=1a3b5c7d\r\nLocalMetrics:\r\n\
        Timestamps: START=2004-10-10T18:23:43Z STOP=2004-10-01T18:26:02Z\r\nPacketLoss: NLR=5.0 JDR=2.25\r\n\
        Delay: RTD=200 ESD=140 IAJ=2.125 MAJ=10\r\nQualityEst: RLQ=90 RCQ=85 MOSLQ=4.2 MOSCQ=4.35 QoEEstAlg=P.564\r\n\
        RemoteMetrics:\r\nPacketLoss: NLR=99.0\r\n";

    #[test]
    fn the_local_metrics_of_a_report() {
        let (call_id, quality) = Quality::parse(REPORTED.as_bytes()).unwrap();
        assert_eq!(call_id, "6dg37f1890463");
        let expected = Quality {
            mos_listening: Some(420),
            mos_conversational: Some(435),
            lost: Some(500),
            discarded: Some(225),
            jitter: Some(212),
            round_trip: Some(200),
        };
        assert_eq!(quality, expected);
    }

    #[test]
    fn what_is_no_report() {
        let long = format!("CallID: x\r\n{}LocalMetrics:\r\nPacketLoss: NLR=1\r\n", "a: b\r\n".repeat(LINES));
        for body in [
            "",
            "LocalMetrics:\r\nPacketLoss: NLR=5.0\r\n",
            "CallID: x\r\nPacketLoss: NLR=5.0\r\n",
            "CallID: x\r\nLocalMetrics:\r\nPacketLoss: NLR=-5 JDR=1e3\r\nDelay: IAJ=.5 RTD=99999\r\nQualityEst: MOSLQ=127000\r\n",
            "CallID: \r\nLocalMetrics:\r\nPacketLoss: NLR=5.0\r\n",
            &long,
        ] {
            assert_eq!(Quality::parse(body.as_bytes()), None, "{body}");
        }
        assert_eq!(Quality::parse(b"\xff\xfe"), None);
    }

    #[test]
    fn numbers() {
        for (text, expected) in
            [("4.2", Some(420)), ("4", Some(400)), ("0.059", Some(5)), ("655.35", Some(65535)), ("656", None)]
        {
            assert_eq!(hundredths(text), expected, "{text}");
        }
        for text in ["", ".", "1.2.3", "+1", "1,2", "999999999"] {
            assert_eq!(hundredths(text), None, "{text}");
        }
    }
}
