//! Session descriptions (RFC 8866) as bytes that stay where they are.
//!
//! [`Sdp::parse`] indexes the lines and reads the few that a relay must understand; [`Edit`] replaces ranges of the
//! original. What is not replaced leaves byte for byte, line ends included: LF alone and CRLF both live on.

mod edit;
mod line;
pub mod multipart;
mod view;

#[cfg(feature = "sdp-rs")]
mod convert;

#[cfg(feature = "sdp-rs")]
pub use convert::{ConvertError, from_sdp_rs, to_sdp_rs};
pub use edit::Edit;
pub use line::{Line, Lines};
pub use view::{Connection, Fault, Host, Limits, Media, Origin, ParseError, Rtcp, RtcpHost, Sdp};
