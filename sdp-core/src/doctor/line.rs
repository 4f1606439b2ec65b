//! What a description says of its media lines, as far as whoever looks for a fault needs it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::policy::Transport;
use crate::relay::Payloads;
use crate::sdp::{Direction, Host, Limits, Media, ParseError, Sdp};

/// Codecs of a line that are named; further ones are left out.
const CODECS: usize = 8;
/// Octets of a codec's name at most.
const NAME: usize = 24;

/// One media line of a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where its author wants RTP; `None` for a name instead of an address, for one that is not known yet, and for a declined
    /// line.
    pub rtp: Option<SocketAddr>,
    /// Port 0 (RFC 3264 §6).
    pub declined: bool,
    /// The transport; `None` for one that no relay of ours carries.
    pub transport: Option<Transport>,
    /// Its direction.
    pub direction: Direction,
    /// Its payload types.
    pub payloads: Payloads,
    /// Its codecs by name, in their order: `PCMU/8000, telephone-event/8000`.
    pub codecs: Box<str>,
}

impl Line {
    /// A hold by 0.0.0.0 (RFC 2543): nothing is to be sent there.
    pub fn is_nowhere(&self) -> bool {
        self.rtp.is_some_and(|rtp| rtp.ip().is_unspecified())
    }
}

/// The media lines of a description, in order.
///
/// # Errors
/// It is none.
pub fn lines(sdp: &[u8], limits: &Limits) -> Result<Vec<Line>, ParseError> {
    let sdp = Sdp::parse(sdp, limits)?;
    Ok(sdp.media.iter().map(|media| line(&sdp, media)).collect())
}

fn line(sdp: &Sdp<'_>, media: &Media<'_>) -> Line {
    let own = sdp.bytes.get(media.start..media.end).unwrap_or_default();
    let host = sdp.connection_of(media).map(|connection| connection.host);
    let rtp = match host {
        Some(Host::Ip(ip)) if media.port != 0 && !sdp.awaits_address(media) => Some((ip, media.port).into()),
        _ => None,
    };
    Line {
        rtp,
        declined: media.port == 0,
        transport: Transport::parse(media.transport),
        direction: sdp.direction_of(media),
        payloads: media.payload_types().collect(),
        codecs: codecs(own, media).into(),
    }
}

/// The values of the `a=` lines in a part of a description.
fn attributes(part: &[u8]) -> impl Iterator<Item = &[u8]> {
    part.split(|octet| *octet == b'\n').filter_map(|line| line.trim_ascii_end().strip_prefix(b"a="))
}

/// The codecs by name. Only plain characters: this ends up on an administrator's screen.
fn codecs(own: &[u8], media: &Media<'_>) -> String {
    let mapped = |payload_type: u8| {
        attributes(own).find_map(|attribute| {
            let value = attribute.strip_prefix(b"rtpmap:")?.trim_ascii_start();
            let at = value.iter().position(|octet| *octet == b' ')?;
            let (number, name) = value.split_at(at);
            let number: u8 = std::str::from_utf8(number).ok()?.parse().ok()?;
            let plain = |octet: &&u8| octet.is_ascii_alphanumeric() || b"-_./".contains(octet);
            let name: String = name.iter().filter(plain).take(NAME).map(|octet| char::from(*octet)).collect();
            (number == payload_type && !name.is_empty()).then_some(name)
        })
    };
    let names = media.payload_types().take(CODECS).map(|payload_type| {
        mapped(payload_type)
            .or_else(|| by_number(payload_type).map(str::to_owned))
            .unwrap_or_else(|| payload_type.to_string())
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Names of static payload types that phones use (RFC 3551 §6).
fn by_number(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        0 => "PCMU/8000",
        3 => "GSM/8000",
        4 => "G723/8000",
        8 => "PCMA/8000",
        9 => "G722/8000",
        13 => "CN/8000",
        15 => "G728/8000",
        18 => "G729/8000",
        34 => "H263/90000",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 10.0.1.60\r\ns=-\r\nc=IN IP4 10.0.1.60\r\nt=0 0\r\n";

    fn read(rest: &str) -> Vec<Line> {
        lines(format!("{HEAD}{rest}").as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn a_line_is_read() {
        let all = read(
            "a=sendonly\r\nm=audio 5000 RTP/AVP 0 18 96 101\r\na=rtpmap:96 opus/48000/2\r\n\
             a=rtpmap:101 telephone-event/8000\r\nm=audio 5000 RTP/SAVP 0\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\n\
             m=video 0 RTP/AVP 31\r\nm=image 4000 udptl t38\r\na=inactive\r\n",
        );
        let [plain, secure, declined, fax] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(&*plain.codecs, "PCMU/8000, G729/8000, opus/48000/2, telephone-event/8000");
        assert_eq!(plain.rtp, Some("10.0.1.60:5000".parse().unwrap()));
        assert_eq!((plain.direction, plain.transport), (Direction::SendOnly, Some(Transport::Rtp)));
        assert!(plain.payloads.contains(96) && !plain.is_nowhere());
        assert_eq!((secure.direction, secure.transport), (Direction::SendRecv, Some(Transport::Srtp)));
        assert!(secure.is_nowhere());
        assert!(declined.declined && declined.rtp.is_none());
        assert_eq!(&*declined.codecs, "31");
        assert_eq!((fax.direction, fax.transport), (Direction::Inactive, Some(Transport::Udptl)));
    }

    #[test]
    fn what_a_stranger_writes_stays_short_and_plain() {
        let long = "x\u{1b}[31m".repeat(40);
        let many: String = (0..60).map(|n| format!(" {n}")).collect();
        let all = read(&format!("m=audio 5000 RTP/AVP{many}\r\na=rtpmap:0 {long}\r\n"));
        let codecs = &all[0].codecs;
        assert!(codecs.len() <= CODECS * (NAME + 2) && codecs.starts_with("x31mx31m"), "{codecs}");
        assert_eq!(codecs.matches(", ").count(), CODECS - 1);
        assert!(lines(b"v=1\r\n", &Limits::default()).is_err());
    }
}
