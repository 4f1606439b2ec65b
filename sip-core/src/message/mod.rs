//! One `Bytes` a message, its rows indexed; forwarding is the received bytes plus a patch list.
//!
//! [`Message::parse`] reads a datagram, [`frame::Framer`] cuts messages from a stream. Both index the rows of the
//! head and look at nothing else but line ends, control characters and Content-Length; values are read when asked
//! for, by the views of [`header`](crate::header). [`Message::validate`] says what is wrong with a message as a
//! whole. [`Message::edit`] writes it on, byte for byte but for what was edited.
//!
//! ```
//! use bytes::Bytes;
//! use sip_core::header::{Contact, Via};
//! use sip_core::message::{Limits, Message, Name};
//!
//! let text = "OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TCP a.example.com;branch=z9hG4bK1\r\n\
//!             f: <sip:a@example.com>;tag=1\r\nt: <sip:b@example.com>\r\ni: 1\r\nCSeq: 1 OPTIONS\r\n\r\n";
//! let message = Message::parse(Bytes::from_static(text.as_bytes()), &Limits::default())?;
//! let via = message.header::<Via>().expect("there is one")?;
//! assert_eq!(via.branch(), Some(&b"z9hG4bK1"[..]));
//! assert!(message.header::<Contact>().is_none());
//! assert_eq!(message.raw(Name::CallId), Some(&b"1"[..]));
//!
//! let mut edit = message.edit();
//! edit.push_via(b"SIP/2.0/TLS gateway.example.com;branch=z9hG4bK2");
//! edit.set_max_forwards(70);
//! let forwarded = edit.to_bytes()?;
//! assert!(forwarded.starts_with(b"OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TLS gateway"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod edit;
pub mod frame;
mod limits;
mod method;
mod name;
mod parse;
mod refusal;
mod validate;

use std::fmt;

use bytes::Bytes;

pub use build::{RequestBuilder, ResponseBuilder, response};
pub use edit::{Edit, EditError, Patches};
pub use limits::Limits;
pub use method::Method;
pub use name::{Field, Name};
pub use parse::{ParseError, Table};
pub use refusal::refusal;
pub use validate::Finding;

use crate::grammar::split_comma;
use crate::header::{Header, HeaderError};
use parse::{Head, RowIndex, StartLine};

/// A SIP message: the bytes as received and an index of the rows.
///
/// Clones share the bytes. The message is `Send + Sync` and never changes; [`Message::edit`] makes the bytes of the
/// next one.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    table: Table,
    head: Head,
}

/// One row of a head.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Row<'m> {
    /// The classified name.
    pub name: Name,
    /// The name as it was spelt.
    pub name_bytes: &'m [u8],
    /// The value without white space around it; folds stand in it as they came.
    pub value: &'m [u8],
}

impl Message {
    /// Reads one datagram. Line ends before the start line and octets behind the body are left out
    /// (RFC 3261 §7.5, §18.3); without a Content-Length the body is the rest of the datagram.
    ///
    /// # Errors
    /// [`ParseError`], with the status an answer should carry; see [`refusal`].
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        Self::parse_reusing(bytes, limits, Table::default())
    }

    /// [`Message::parse`] with the row table of an earlier message, so that nothing is allocated.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn parse_reusing(bytes: Bytes, limits: &Limits, mut table: Table) -> Result<Self, ParseError> {
        if bytes.len() > limits.message {
            return Err(ParseError::TooLarge { limit: limits.message });
        }
        let start = line_ends(&bytes);
        let rest = bytes.get(start..).unwrap_or_default();
        if rest.is_empty() {
            return Err(ParseError::Empty);
        }
        let head = parse::read_head(rest, limits, &mut table)?;
        let body_start = head.body_start as usize;
        let got = rest.len() - body_start;
        let body = match head.content_length {
            Some(expected) if expected as usize > got => return Err(ParseError::BodyShort { expected, got }),
            Some(expected) => expected as usize,
            None => got,
        };
        let end = start + body_start + body;
        let bytes = if start == 0 && end == bytes.len() { bytes } else { bytes.slice(start..end) };
        Ok(Self { bytes, table, head })
    }

    /// Reads exactly one message as a stream carries it: Content-Length is mandatory and must fit the bytes.
    ///
    /// # Errors
    /// As [`Message::parse`], and [`ParseError::ContentLengthMissing`].
    pub fn parse_framed(bytes: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        let message = Self::parse(bytes, limits)?;
        if message.head.content_length.is_none() {
            return Err(ParseError::ContentLengthMissing);
        }
        Ok(message)
    }

    /// The message as received: start line to the end of the body. Writing a message unedited is these bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives the row table back for [`Message::parse_reusing`].
    pub fn into_table(self) -> Table {
        self.table
    }

    /// A request, not a response.
    pub fn is_request(&self) -> bool {
        matches!(self.head.start_line, StartLine::Request { .. })
    }

    /// The method; `None` for responses.
    pub fn method(&self) -> Option<Method<'_>> {
        match self.head.start_line {
            StartLine::Request { method_end, .. } => Some(Method::from_token(self.slice(0, method_end))),
            StartLine::Response { .. } => None,
        }
    }

    /// The Request-URI as it came; `None` for responses. Read it with [`Uri::parse`](crate::uri::Uri::parse).
    pub fn request_uri(&self) -> Option<&[u8]> {
        match self.head.start_line {
            StartLine::Request { method_end, uri_end } => Some(self.slice(method_end + 1, uri_end)),
            StartLine::Response { .. } => None,
        }
    }

    /// The status code, 100 to 699; `None` for requests.
    pub fn status(&self) -> Option<u16> {
        match self.head.start_line {
            StartLine::Request { .. } => None,
            StartLine::Response { status } => Some(status),
        }
    }

    /// The reason phrase; `None` for requests, maybe empty.
    pub fn reason(&self) -> Option<&[u8]> {
        self.status()?;
        // `SIP/2.0 200 OK`: the reason follows the second space.
        let line = self.start_line();
        let first = memchr::memchr(b' ', line)?;
        Some(line.get(first + 5..).unwrap_or_default())
    }

    /// The version is `SIP/2.0`.
    pub fn is_version_2(&self) -> bool {
        self.head.version
    }

    /// The first value of a header field: `None` when it is absent, an error when it is malformed.
    #[inline]
    pub fn header<H: Header>(&self) -> Option<Result<H::View<'_>, HeaderError>> {
        let says_nothing = |row: &RowIndex| H::MAY_BE_EMPTY && row.value_start == row.value_end;
        let row = self.table.0.iter().find(|row| row.name == H::NAME && !says_nothing(row))?;
        let mut value = self.slice(row.value_start, row.value_end);
        if H::LIST {
            (value, _) = split_comma(value);
        }
        Some(H::parse(value))
    }

    /// All values of a header field in wire order, over rows and comma lists.
    pub fn headers<H: Header>(&self) -> impl Iterator<Item = Result<H::View<'_>, HeaderError>> {
        let values = self.values(H::NAME, H::LIST);
        values.filter(|value| !(H::MAY_BE_EMPTY && value.is_empty())).map(H::parse)
    }

    /// All rows in wire order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.table.0.iter().map(|row| self.row(row))
    }

    /// The value of the first row of this name, trimmed, folds as they came.
    pub fn raw<'n>(&self, field: impl Into<Field<'n>>) -> Option<&[u8]> {
        let field = field.into();
        self.rows().find(|row| field.is(row.name, row.name_bytes)).map(|row| row.value)
    }

    /// How many rows have this name.
    pub fn count<'n>(&self, field: impl Into<Field<'n>>) -> usize {
        let field = field.into();
        self.rows().filter(|row| field.is(row.name, row.name_bytes)).count()
    }

    /// The body, bit by bit as it came.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.head.body_start as usize..).unwrap_or_default()
    }

    /// The body, sharing the message's bytes.
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.slice(self.head.body_start as usize..)
    }

    /// What Content-Length says, if it is there.
    pub fn content_length(&self) -> Option<u32> {
        self.head.content_length
    }

    /// Control characters stand in quoted pairs of the head: it is a legal message that may not be forwarded
    /// (RFC 4475 §3.1.1.2; answer 400).
    pub fn has_controls(&self) -> bool {
        self.head.escaped_control
    }

    /// Starts a patch list over this message.
    pub fn edit(&self) -> Edit<'_> {
        self.edit_reusing(Patches::default())
    }

    /// [`Message::edit`] with the buffers of an earlier edit, so that nothing is allocated.
    pub fn edit_reusing(&self, patches: Patches) -> Edit<'_> {
        Edit::new(self, patches)
    }

    pub(crate) fn start_line(&self) -> &[u8] {
        let end = self.table.0.first().map_or(self.head.rows_end, |row| row.start);
        self.slice(0, end.saturating_sub(2))
    }

    /// Raw values of a name, comma lists taken apart where the field is a list.
    pub(crate) fn values(&self, name: Name, list: bool) -> impl Iterator<Item = &[u8]> {
        let mut rows = self.table.0.iter().filter(move |row| row.name == name);
        let mut rest: Option<&[u8]> = None;
        std::iter::from_fn(move || {
            let value = match rest.take() {
                Some(value) => value,
                None => rows.next().map(|row| self.slice(row.value_start, row.value_end))?,
            };
            if !list {
                return Some(value);
            }
            let (first, more) = split_comma(value);
            rest = more;
            Some(first)
        })
    }

    #[inline]
    fn slice(&self, start: u32, end: u32) -> &[u8] {
        // Offsets come from the parser and lie in the bytes; `get` keeps a slip from being a panic.
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    #[inline]
    fn row(&self, row: &RowIndex) -> Row<'_> {
        Row {
            name: row.name,
            name_bytes: self.slice(row.start, row.start + u32::from(row.name_len)),
            value: self.slice(row.value_start, row.value_end),
        }
    }
}

/// Number of octets of leading CRLFs.
fn line_ends(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2
}

impl fmt::Debug for Message {
    /// The start line's kind and sizes only: heads carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Message");
        match self.head.start_line {
            StartLine::Request { .. } => out.field("method", &self.method()),
            StartLine::Response { status } => out.field("status", &status),
        };
        out.field("rows", &self.table.0.len()).field("body", &self.body().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Row<'_> {
    /// The name only: values carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
