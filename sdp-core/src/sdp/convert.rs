//! To and from the `sdp-rs` crate, for programs that use it. A forwarded byte never goes this way.
//!
//! What `sdp-rs` 0.2 loses or refuses: LF line ends become CRLF; a host name in `o=` or `c=`, a missing `s=` or `t=` and
//! text that is not UTF-8 are refused; lines it has no field for, or that stand out of order, end its reading, and all
//! that follows is lost. [`to_sdp_rs`] counts lines and refuses instead of losing any.

use bytes::Bytes;
use thiserror::Error;

use super::line::Lines;
use super::view::{Limits, ParseError, Sdp};

/// Why a description has no counterpart on the other side.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// `sdp-rs` reads text.
    #[error("not UTF-8")]
    NotText,
    /// `sdp-rs` refuses it.
    #[error("sdp-rs: {0}")]
    Refused(String),
    /// `sdp-rs` would lose lines.
    #[error("sdp-rs keeps {kept} of {lines} lines")]
    Lost {
        /// Lines of the original.
        lines: usize,
        /// Lines of what `sdp-rs` writes.
        kept: usize,
    },
    /// What `sdp-rs` holds is no description to us.
    #[error("sdp-rs wrote: {0}")]
    Malformed(#[from] ParseError),
}

/// The description as `sdp-rs` sees it.
///
/// # Errors
/// See [`ConvertError`]; a description that would lose a line is refused.
pub fn to_sdp_rs(sdp: &Sdp<'_>) -> Result<sdp_rs::SessionDescription, ConvertError> {
    let text = std::str::from_utf8(sdp.bytes).map_err(|_| ConvertError::NotText)?;
    // Its grammar wants every line ended by CRLF, the last one too.
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let text = lines.join("\r\n") + "\r\n";
    let converted = sdp_rs::SessionDescription::try_from(text)
        .map_err(|error| ConvertError::Refused(error.to_string()))?;
    let kept = Lines::new(converted.to_string().as_bytes()).count();
    if kept == lines.len() { Ok(converted) } else { Err(ConvertError::Lost { lines: lines.len(), kept }) }
}

/// The bytes of an `sdp-rs` description, checked to be one that [`Sdp::parse`] reads.
///
/// # Errors
/// [`ConvertError::Malformed`].
pub fn from_sdp_rs(description: &sdp_rs::SessionDescription, limits: &Limits) -> Result<Bytes, ConvertError> {
    let text = description.to_string();
    Sdp::parse(text.as_bytes(), limits)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 20 1 IN IP4 192.168.1.7\r\ns=call\r\nc=IN IP4 192.168.1.7\r\nt=0 0\r\n\
        m=audio 30000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=x-unknown:1 2\r\n\
        m=audio 30000 RTP/SAVP 0 101\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc UNAUTHENTICATED_SRTP\r\n";

    fn convert(text: &str) -> Result<sdp_rs::SessionDescription, ConvertError> {
        to_sdp_rs(&Sdp::parse(text.as_bytes(), &Limits::default()).unwrap())
    }

    #[test]
    fn there_and_back() {
        let converted = convert(OFFER).unwrap();
        assert_eq!(converted.media_descriptions.len(), 2);
        assert_eq!(converted.media_descriptions[1].media.port, 30000);
        assert_eq!(from_sdp_rs(&converted, &Limits::default()).unwrap(), OFFER.as_bytes());
    }

    #[test]
    fn line_ends_become_crlf() {
        let converted = convert(&OFFER.replace("\r\n", "\n")).unwrap();
        assert_eq!(from_sdp_rs(&converted, &Limits::default()).unwrap(), OFFER.as_bytes());
    }

    #[test]
    fn what_it_can_not_hold_is_refused() {
        let name = OFFER.replace("c=IN IP4 192.168.1.7", "c=IN IP4 media.example.net");
        assert!(matches!(convert(&name), Err(ConvertError::Refused(_))));
        let lost = OFFER.replace("s=call\r\n", "");
        assert!(matches!(convert(&lost), Err(ConvertError::Refused(_))));
        let lost = format!("{OFFER}y=unknown letter\r\na=after\r\n");
        assert!(
            matches!(convert(&lost), Err(ConvertError::Lost { lines: 12, kept: 10 })),
            "{:?}",
            convert(&lost)
        );
    }

    #[test]
    fn not_text() {
        let bytes = [OFFER.as_bytes(), b"a=\xff\r\n"].concat();
        let sdp = Sdp::parse(&bytes, &Limits::default()).unwrap();
        assert!(matches!(to_sdp_rs(&sdp), Err(ConvertError::NotText)));
    }
}
