//! Fallible conversions from and to the types of the crate `rsip` 0.4, for code that has them already.
//!
//! They are **lossy**, and no byte that is forwarded goes through them:
//!
//! - towards `rsip`, rows unfold, compact names become long, white space around the colon goes, the reason phrase
//!   becomes the standard one; the case of the URI parameter `transport` changes;
//! - what `rsip` cannot hold is an error: unknown methods, bytes that are no UTF-8, control characters, `tel:` and
//!   other URIs it would alter;
//! - its typed views cannot read everything its messages hold, `Contact` with `+sip.instance="<...>"` among it.
//!
//! ```
//! use sip_core::message::{Limits, Message};
//! let text = "OPTIONS sip:b@example.com SIP/2.0\r\nv: SIP/2.0/TCP a.example.com\r\nl: 0\r\n\r\n";
//! let message = Message::parse(text.into(), &Limits::default())?;
//! let theirs = rsip::SipMessage::try_from(&message)?;
//! assert!(theirs.to_string().contains("\r\nVia: SIP/2.0/TCP a.example.com\r\n"));
//! let ours = Message::try_from(&theirs)?;
//! assert_eq!(ours.method(), message.method());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use ::rsip::prelude::HasHeaders;
use bytes::Bytes;

use crate::message::{Limits, Message, Name, ParseError};
use crate::uri::{Scheme, Uri, UriError};

/// Why a conversion is refused. It quotes no input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// `rsip` does not read it: an unknown method, bytes that are no UTF-8, an IPv6 host, or the like.
    #[error("rsip does not read it")]
    Refused,
    /// `rsip` reads it, but not all of it, or as something else.
    #[error("rsip would alter it")]
    Altered,
    /// The head has control characters, which would be other characters or rows at the other end.
    #[error("control characters in the head")]
    Control,
    /// What `rsip` holds is no message.
    #[error("no SIP message: {0}")]
    Message(#[from] ParseError),
    /// What `rsip` holds is no URI.
    #[error("no URI: {0}")]
    Uri(#[from] UriError),
}

impl TryFrom<&Message> for ::rsip::SipMessage {
    type Error = ConversionError;

    fn try_from(message: &Message) -> Result<Self, ConversionError> {
        // Unfolded, and refused with control characters.
        let written = message.edit().to_bytes().map_err(|_| ConversionError::Control)?;
        let written = Message::parse(written, &Limits { rows: usize::MAX, ..Limits::default() })?;
        let mut head = written.start_line().to_vec();
        head.extend_from_slice(b"\r\n");
        let mut rows = 0;
        for row in written.rows() {
            let name = if row.name == Name::Other { row.name_bytes } else { row.name.as_str().as_bytes() };
            head.extend_from_slice(&[name, b": ", row.value, b"\r\n"].concat());
            rows += 1;
        }
        head.extend_from_slice(b"\r\n");
        if std::str::from_utf8(&head).is_err() {
            return Err(ConversionError::Refused);
        }
        let mut theirs = Self::try_from(head).map_err(|_| ConversionError::Refused)?;
        *theirs.body_mut() = message.body().to_vec();
        // Reading must not have dropped a row or bent the target.
        let same = match &theirs {
            Self::Request(request) => Uri::parse(message.request_uri().unwrap_or_default())
                .is_ok_and(|uri| same_uri(&uri, &request.uri)),
            Self::Response(response) => message.status() == Some(u16::from(response.status_code.clone())),
        };
        let kept = theirs.headers().iter().count() == rows;
        if same && kept { Ok(theirs) } else { Err(ConversionError::Altered) }
    }
}

impl TryFrom<&::rsip::SipMessage> for Message {
    type Error = ConversionError;

    /// Content-Length stays what the message says; a message whose body is shorter than that is an error.
    fn try_from(theirs: &::rsip::SipMessage) -> Result<Self, ConversionError> {
        let start = match theirs {
            ::rsip::SipMessage::Request(request) => {
                format!("{} {} {}", request.method, request.uri, request.version)
            }
            ::rsip::SipMessage::Response(response) => {
                format!("{} {}", response.version, response.status_code)
            }
        };
        let rows: Vec<String> = theirs.headers().iter().map(ToString::to_string).collect();
        let lines = || std::iter::once(&start).chain(&rows);
        if lines().any(|line| line.bytes().any(|b| b.is_ascii_control() && b != b'\t')) {
            return Err(ConversionError::Control);
        }
        let mut bytes = Vec::new();
        for line in lines() {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(theirs.body());
        Ok(Self::parse(Bytes::from(bytes), &Limits::default())?)
    }
}

impl TryFrom<&Uri<'_>> for ::rsip::Uri {
    type Error = ConversionError;

    fn try_from(uri: &Uri<'_>) -> Result<Self, ConversionError> {
        if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
            return Err(ConversionError::Refused);
        }
        let text = std::str::from_utf8(uri.raw()).map_err(|_| ConversionError::Refused)?;
        let theirs = Self::try_from(text).map_err(|_| ConversionError::Refused)?;
        if same_uri(uri, &theirs) { Ok(theirs) } else { Err(ConversionError::Altered) }
    }
}

/// `rsip` prints the URI as it was, and means the same host: it takes URI headers for a part of it.
fn same_uri(ours: &Uri<'_>, theirs: &::rsip::Uri) -> bool {
    let host = theirs.host().to_string();
    ours.raw().eq_ignore_ascii_case(theirs.to_string().as_bytes())
        && ours.host_bytes().eq_ignore_ascii_case(host.as_bytes())
        && ours.headers().is_none()
}

/// The text of an `rsip` URI, checked: [`Uri::parse`] reads it.
///
/// # Errors
/// [`ConversionError::Uri`].
pub fn uri_text(theirs: &::rsip::Uri) -> Result<Vec<u8>, ConversionError> {
    let text = theirs.to_string().into_bytes();
    Uri::parse(&text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Contact, Via};

    const REGISTER: &str = "REGISTER sips:10.0.1.60 SIP/2.0\r\nv: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bK7\r\n\
        f: <sips:anonymous@10.0.1.60>;tag=a1\r\nTo: <sips:anonymous@10.0.1.60>\r\nCall-ID: c1\r\n\
        CSeq: 1 REGISTER\r\nSubject: a\r\n b\r\n\
        Contact: <sips:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:1>\"\r\nl: 4\r\n\r\n\0\x01\x02\x03";

    fn ours(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).expect("parses")
    }

    #[test]
    fn a_message_goes_there_and_back() {
        let message = ours(REGISTER);
        let theirs = ::rsip::SipMessage::try_from(&message).expect("converts");
        assert!(theirs.is_request());
        assert_eq!(theirs.body(), &[0, 1, 2, 3]);
        let back = Message::try_from(&theirs).expect("converts");
        assert_eq!((back.method(), back.request_uri()), (message.method(), message.request_uri()));
        assert_eq!(back.raw("Subject"), Some(&b"a b"[..]));
        assert_eq!(back.header::<Contact>(), message.header::<Contact>());
        assert_eq!(back.header::<Via>(), message.header::<Via>());
        assert_eq!(back.body(), message.body());
        let answer = ours("SIP/2.0 486 Elsewhere\r\nVia: SIP/2.0/TLS a\r\nContent-Length: 0\r\n\r\n");
        let theirs = ::rsip::SipMessage::try_from(&answer).expect("converts");
        assert_eq!(Message::try_from(&theirs).expect("converts").status(), Some(486));
    }

    #[test]
    fn what_rsip_cannot_hold_is_refused() {
        let with = |from: &str, to: &str| ::rsip::SipMessage::try_from(&ours(&REGISTER.replace(from, to)));
        assert_eq!(with("REGISTER sips", "SING sips"), Err(ConversionError::Refused));
        assert!(with("sips:10.0.1.60 SIP", "tel:+1555 SIP").is_err());
        assert!(with("sips:10.0.1.60 SIP", "sips:10.0.1.60?a=b SIP").is_err());
        assert_eq!(with("Subject: a\r\n b", "Subject: \"\\\0\""), Err(ConversionError::Control));
        let mut latin = REGISTER.as_bytes().to_vec();
        latin[REGISTER.find("Subject: a").expect("is there") + 9] = 0xe9;
        let message = Message::parse(latin.into(), &Limits::default());
        let theirs = ::rsip::SipMessage::try_from(&message.expect("parses"));
        assert_eq!(theirs, Err(ConversionError::Refused));
    }

    #[test]
    fn a_row_cannot_be_smuggled_in_from_rsip() {
        let mut theirs = ::rsip::SipMessage::try_from(&ours(REGISTER)).expect("converts");
        theirs.headers_mut().push(::rsip::Header::Other("X-1".into(), "a\r\nEvil: 1".into()));
        assert!(matches!(Message::try_from(&theirs), Err(ConversionError::Control)));
    }

    #[test]
    fn uris_go_there_and_back() {
        let convert =
            |text: &'static str| ::rsip::Uri::try_from(&Uri::parse(text.as_bytes()).expect("reads"));
        let theirs = convert("sips:a@example.com:5061;transport=tls;lr").expect("converts");
        assert_eq!(theirs.user(), Some("a"));
        assert!(
            uri_text(&theirs)
                .expect("reads")
                .eq_ignore_ascii_case(b"sips:a@example.com:5061;transport=tls;lr")
        );
        assert_eq!(convert("tel:+1555"), Err(ConversionError::Refused));
        assert!(convert("sip:a@[2001:db8::1]:5060").is_err());
        assert!(convert("sip:a@b?Replaces=c").is_err());
    }
}
