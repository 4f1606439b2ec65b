//! Session descriptions (RFC 8866) as bytes that stay where they are.
//!
//! [`Sdp::parse`] indexes the lines and reads the few that a relay must understand; [`crate::rewrite`] walks the same
//! lines and writes others in the place of some. What is not replaced leaves byte for byte, line ends included: LF alone
//! and CRLF both live on.

pub mod attribute;
mod line;
pub mod multipart;
mod view;

#[cfg(feature = "sdp-rs")]
mod convert;

pub use attribute::Direction;
#[cfg(feature = "sdp-rs")]
pub use convert::{ConvertError, from_sdp_rs, to_sdp_rs};
pub use line::{Line, Lines};
pub use view::{Connection, Fault, Host, Limits, Media, Origin, ParseError, Rtcp, RtcpHost, Sdp};
