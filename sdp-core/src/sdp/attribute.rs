//! Values of `a=` lines: direction, what belongs to a payload type, what belongs to ICE.

use serde::{Deserialize, Serialize};

/// Who sends, from the view of the description's author (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// The author alone: the other side is on hold, with music perhaps (RFC 3264 §8.4).
    SendOnly,
    /// The other side alone.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// Reads the value of an attribute line.
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"sendrecv" => Some(Self::SendRecv),
            b"sendonly" => Some(Self::SendOnly),
            b"recvonly" => Some(Self::RecvOnly),
            b"inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Whether the author sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the author receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same with nothing received.
    #[must_use]
    pub fn without_receiving(self) -> Self {
        if self.sends() { Self::SendOnly } else { Self::Inactive }
    }

    /// As the other side sees it.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            both => both,
        }
    }

    /// What both allow (RFC 3264 §6.1).
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.sends() && other.sends(), self.receives() && other.receives()) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }
}

/// Whether an attribute belongs to ICE (RFC 8839 §5, RFC 8840 §4); `x-candidate-ipv6` is Lync's.
pub fn is_ice(value: &[u8]) -> bool {
    [&b"candidate:"[..], b"remote-candidates:", b"ice-", b"x-candidate"]
        .iter()
        .any(|start| value.starts_with(start))
        || value == b"end-of-candidates"
}

/// Whether an attribute names an address besides `c=` and `a=rtcp`, at which its author could be met past us: `altc` (RFC 6947
/// §4), `ccap` (RFC 7006 §3.3.2), `source-filter` (RFC 4570 §3), `path` (RFC 4975 §8), `alt` (of phones before ICE); and what
/// proxies write that put another address in its place: `oldcip`, `oldoip`, `oldmip`, `oldmediaip`.
pub fn names_address(value: &[u8]) -> bool {
    let names = [&b"altc:"[..], b"ccap:", b"source-filter:", b"path:", b"alt:"];
    let old = [&b"oldcip:"[..], b"oldoip:", b"oldmip:", b"oldmediaip:"];
    names.iter().chain(&old).any(|start| value.starts_with(start))
}

/// The payload type that an attribute speaks of, and what it says: `rtpmap`, `fmtp` (RFC 8866 §6.6, §6.15), `rtcp-fb`
/// (RFC 4585 §4.2), `imageattr` (RFC 6236 §3.1.1).
pub fn of_payload(value: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let names = [&b"rtpmap:"[..], b"fmtp:", b"rtcp-fb:", b"imageattr:"];
    let name = names.into_iter().find(|name| value.starts_with(name))?;
    let rest = value.get(name.len()..)?;
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let payload_type = payload_type(rest.get(..end)?)?;
    Some((name, payload_type, rest.get(end..)?.trim_ascii_start()))
}

/// A payload type: at most 127 (RFC 3550 §5.1).
pub fn payload_type(text: &[u8]) -> Option<u8> {
    if text.is_empty() || text.len() > 3 {
        return None;
    }
    let number = text.iter().try_fold(0u16, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0'))
    })?;
    u8::try_from(number).ok().filter(|number| *number < 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_meet_as_rfc_3264_says() {
        use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
        for (one, other, both) in [
            (SendRecv, SendOnly.reversed(), RecvOnly),
            (SendRecv, RecvOnly.reversed(), SendOnly),
            (SendOnly, SendOnly.reversed(), Inactive),
            (RecvOnly, SendOnly.reversed(), RecvOnly),
            (SendRecv, Inactive.reversed(), Inactive),
            (Inactive, SendRecv.reversed(), Inactive),
            (SendRecv, SendRecv.reversed(), SendRecv),
        ] {
            assert_eq!(one.and(other), both, "{one:?} {other:?}");
        }
        for direction in [SendRecv, SendOnly, RecvOnly, Inactive] {
            assert_eq!(Direction::parse(direction.text().as_bytes()), Some(direction));
            assert!(!direction.without_receiving().receives());
            assert_eq!(direction.without_receiving().sends(), direction.sends());
        }
        assert_eq!(Direction::parse(b"sendonly "), None);
    }

    #[test]
    fn attributes_of_a_payload_type() {
        assert_eq!(of_payload(b"rtpmap:101 telephone-event/8000").map(|(_, pt, _)| pt), Some(101));
        assert_eq!(of_payload(b"fmtp:97 apt=96"), Some((&b"fmtp:"[..], 97, &b"apt=96"[..])));
        for other in [
            &b"rtcp-fb:* nack"[..],
            b"rtpmap:128 x/8000",
            b"fmtp:",
            b"rtpmap: 8 x",
            b"ptime:20",
            b"fmtp:0x1 a",
        ] {
            assert_eq!(of_payload(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn attributes_that_name_an_address() {
        for other in [
            "altc:1 IP4 10.0.1.60 4000",
            "source-filter: incl IN IP4 * 10.0.1.60",
            "path:msrp://h/s;tcp",
            "oldcip:10.0.1.60",
            "oldmediaip:10.0.1.60",
        ] {
            assert!(names_address(other.as_bytes()), "{other}");
        }
        for other in ["alternate:1", "rtpmap:0 PCMU/8000", "pathology:x", "rtcp:4001 IN IP4 10.0.1.60"] {
            assert!(!names_address(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn attributes_of_ice() {
        for ice in [
            "ice-ufrag:a",
            "ice-lite",
            "candidate:1 1 UDP 1 a 1 typ host",
            "end-of-candidates",
            "x-candidate-ipv6:3 1 UDP 1 2001:db8::7 4 typ host ",
        ] {
            assert!(is_ice(ice.as_bytes()), "{ice}");
        }
        for other in ["icecream", "candidates:1", "end-of-candidatesx", "rtcp-mux"] {
            assert!(!is_ice(other.as_bytes()), "{other}");
        }
    }
}
