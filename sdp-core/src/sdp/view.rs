//! What a relay reads in a description: `o=`, `c=`, `m=` and the few attributes that name a port or an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use smallvec::SmallVec;
use thiserror::Error;

use super::attribute::{Direction, payload_type};
use super::line::{Line, Lines};

/// The port that names none (RFC 863).
const DISCARD: u16 = 9;

/// How large a description may be. All three bound the work that one message can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole description; 65,536.
    pub bytes: usize,
    /// Lines; 2,048.
    pub lines: usize,
    /// Media lines; 64. How many of them are *relayed* is `policy::Policy::max_streams`.
    pub media: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 65_536, lines: 2_048, media: 64 }
    }
}

/// Why a description can't be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{fault} at octet {offset}")]
pub struct ParseError {
    /// Offset of the line at fault.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Over one of the [`Limits`].
    #[error("description too large")]
    TooLarge,
    /// Not `letter=value`, or a control character that ends no line.
    #[error("not a line of a description")]
    Line,
    /// The first line is not `v=0` (RFC 8866 §5.1).
    #[error("version is not 0")]
    Version,
    /// `o=` is missing, doubled or not six fields (RFC 8866 §5.2).
    #[error("origin line")]
    Origin,
    /// `c=` is doubled or not three fields, or its address does not fit its type (RFC 8866 §5.7).
    #[error("connection line")]
    Connection,
    /// `m=` has fewer than four fields or a port that is none (RFC 8866 §5.14).
    #[error("media line")]
    Media,
    /// A media line with a port has neither a `c=` of its own nor one of the session (RFC 8866 §5.7).
    #[error("no connection line for a stream")]
    NoConnection,
}

/// An address in a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A literal; an IPv4 address mapped into IPv6 is given as the IPv4 address.
    Ip(IpAddr),
    /// A name, or a literal with a TTL or a count behind a slash (multicast).
    Other(&'a [u8]),
}

impl Host<'_> {
    /// 0.0.0.0 or `::`.
    pub fn is_unspecified(&self) -> bool {
        matches!(self, Self::Ip(ip) if ip.is_unspecified())
    }
}

/// `o=` (RFC 8866 §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Its address.
    pub host: Host<'a>,
    /// Where address type and address stand: `IP4 192.0.2.1`.
    pub address_range: Range<usize>,
}

/// `c=` (RFC 8866 §5.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Its address.
    pub host: Host<'a>,
    /// Where address type and address stand: `IP4 192.0.2.1`.
    pub address_range: Range<usize>,
}

/// `a=rtcp` (RFC 3605).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtcp {
    /// Port and address; `None` when the value is not the grammar of RFC 3605 §2.1: such a line is ignored on reading.
    pub host: Option<RtcpHost>,
    /// Where the value stands.
    pub value_range: Range<usize>,
}

/// The value of `a=rtcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpHost {
    /// The port; never 0.
    pub port: u16,
    /// The address, where one is named.
    pub address: Option<IpAddr>,
}

/// `m=` and the lines up to the next one (RFC 8866 §5.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media<'a> {
    /// `audio`, `video`, …
    pub kind: &'a [u8],
    /// The port; 0 means declined (RFC 3264 §6).
    pub port: u16,
    /// The number of ports behind the slash; 1 where there is none.
    pub port_count: u16,
    /// `RTP/AVP`, `RTP/SAVP`, …
    pub transport: &'a [u8],
    /// The formats, as text.
    pub formats: &'a [u8],
    /// Where they begin.
    pub formats_start: usize,
    /// Where port and count stand.
    pub port_range: Range<usize>,
    /// `c=` of this stream.
    pub connection: Option<Connection<'a>>,
    /// `a=rtcp` lines, the first of which counts.
    pub rtcp: SmallVec<[Rtcp; 1]>,
    /// `a=rtcp-mux` (RFC 5761 §5.1.1).
    pub rtcp_mux: bool,
    /// Its own direction (RFC 8866 §6.7), the last one named.
    pub direction: Option<Direction>,
    /// `a=ice-ufrag` of its own (RFC 8839 §5.4): it speaks ICE.
    pub ice_ufrag: Option<&'a [u8]>,
    /// `a=ice-pwd` of its own.
    pub ice_password: Option<&'a [u8]>,
    /// Where the `m=` line starts.
    pub start: usize,
    /// Where the last line of this stream ends.
    pub end: usize,
}

impl Media<'_> {
    /// Payload type numbers among the formats, of an RTP transport.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> + '_ {
        self.formats.split(|b| *b == b' ').filter_map(payload_type)
    }
}

/// A description that was read: borrowed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdp<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// `o=`.
    pub origin: Origin<'a>,
    /// `c=` of the session.
    pub connection: Option<Connection<'a>>,
    /// `a=rtcp` outside a stream: no meaning (RFC 3605 §2.1 makes it media-level), but it names a port and an address.
    pub rtcp: SmallVec<[Rtcp; 1]>,
    /// Direction of the streams that have none of their own.
    pub direction: Option<Direction>,
    /// `a=ice-ufrag` of the streams that have none of their own.
    pub ice_ufrag: Option<&'a [u8]>,
    /// `a=ice-pwd` of the streams that have none of their own.
    pub ice_password: Option<&'a [u8]>,
    /// The streams, in order.
    pub media: SmallVec<[Media<'a>; 4]>,
}

impl<'a> Sdp<'a> {
    /// Reads a description. Lenient where that harms nobody (order of lines, missing `s=` and `t=`, unknown letters),
    /// strict about each line that is read.
    ///
    /// # Errors
    /// The first [`Fault`] with its offset.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, ParseError> {
        if bytes.len() > limits.bytes {
            return Err(ParseError { offset: limits.bytes, fault: Fault::TooLarge });
        }
        let mut reader = Reader::default();
        for (count, line) in Lines::new(bytes).enumerate() {
            let line = line.map_err(|offset| ParseError { offset, fault: Fault::Line })?;
            let at = |fault| ParseError { offset: line.start, fault };
            if count >= limits.lines || reader.media.len() > limits.media {
                return Err(at(Fault::TooLarge));
            }
            if count == 0 && (line.kind != b'v' || line.value != b"0") {
                return Err(at(Fault::Version));
            }
            reader.line(&line).map_err(at)?;
        }
        let at = |fault| ParseError { offset: bytes.len(), fault };
        if reader.media.len() > limits.media {
            return Err(at(Fault::TooLarge));
        }
        let Some(origin) = reader.origin else {
            return Err(if bytes.is_empty() { at(Fault::Version) } else { at(Fault::Origin) });
        };
        if let Some(media) =
            reader.media.iter().find(|m| m.port != 0 && m.connection.is_none() && reader.connection.is_none())
        {
            return Err(ParseError { offset: media.start, fault: Fault::NoConnection });
        }
        Ok(Self {
            bytes,
            origin,
            connection: reader.connection,
            rtcp: reader.rtcp,
            direction: reader.direction,
            ice_ufrag: reader.ice_ufrag,
            ice_password: reader.ice_password,
            media: reader.media,
        })
    }

    /// The `c=` that holds for a stream: its own, else the session's.
    pub fn connection_of<'s>(&'s self, media: &'s Media<'s>) -> Option<&'s Connection<'s>> {
        media.connection.as_ref().or(self.connection.as_ref())
    }

    /// The direction that holds for a stream: its own, else the session's, else `sendrecv` (RFC 8866 §6.7).
    pub fn direction_of(&self, media: &Media<'_>) -> Direction {
        media.direction.or(self.direction).unwrap_or(Direction::SendRecv)
    }

    /// The user fragment that holds for a stream; `None`: it does not speak ICE.
    pub fn ice_of<'s>(&'s self, media: &'s Media<'s>) -> Option<&'s [u8]> {
        media.ice_ufrag.or(self.ice_ufrag)
    }

    /// The password beside [`Sdp::ice_of`].
    pub fn ice_password_of<'s>(&'s self, media: &'s Media<'s>) -> Option<&'s [u8]> {
        media.ice_password.or(self.ice_password)
    }

    /// Whether a stream's author has no address to name yet: port 9 where ICE is spoken, mostly at 0.0.0.0 (RFC 8840 §4.1.1,
    /// RFC 8829 §5.2.1). Its candidates follow, or its checks tell. It is no hold.
    pub fn awaits_address(&self, media: &Media<'_>) -> bool {
        media.port == DISCARD && self.ice_of(media).is_some()
    }

    /// Whether a stream's address is 0.0.0.0 or `::`: its author wants nothing sent to it (RFC 3264 §8.4).
    pub fn holds_by_address(&self, media: &Media<'_>) -> bool {
        let zero = self.connection_of(media).is_some_and(|connection| connection.host.is_unspecified());
        zero && !self.awaits_address(media)
    }

    /// The line end this description uses, read from its first line.
    pub fn line_end(&self) -> &'static str {
        match memchr::memchr(b'\n', self.bytes) {
            Some(at) if at > 0 && self.bytes.get(at - 1) != Some(&b'\r') => "\n",
            _ => "\r\n",
        }
    }
}

#[derive(Default)]
struct Reader<'a> {
    origin: Option<Origin<'a>>,
    connection: Option<Connection<'a>>,
    rtcp: SmallVec<[Rtcp; 1]>,
    direction: Option<Direction>,
    ice_ufrag: Option<&'a [u8]>,
    ice_password: Option<&'a [u8]>,
    media: SmallVec<[Media<'a>; 4]>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &Line<'a>) -> Result<(), Fault> {
        if let Some(media) = self.media.last_mut().filter(|_| line.kind != b'm') {
            media.end = line.end;
        }
        match line.kind {
            b'o' if self.origin.is_some() || !self.media.is_empty() => return Err(Fault::Origin),
            b'o' => self.origin = Some(origin(line)?),
            b'c' => {
                let place = match self.media.last_mut() {
                    Some(media) => &mut media.connection,
                    None => &mut self.connection,
                };
                // Several `c=` for one stream are for layered multicast only: not for a relay.
                if place.replace(connection(line)?).is_some() {
                    return Err(Fault::Connection);
                }
            }
            b'm' => self.media.push(media(line)?),
            b'a' => self.attribute(line),
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, line: &Line<'a>) {
        if let Some(value) = line.value.strip_prefix(b"rtcp:") {
            let end = line.value_range().end;
            let rtcp = Rtcp { host: rtcp_host(value), value_range: end - value.len()..end };
            match self.media.last_mut() {
                Some(media) => media.rtcp.push(rtcp),
                None => self.rtcp.push(rtcp),
            }
        } else if let Some(ufrag) = line.value.strip_prefix(b"ice-ufrag:") {
            let place = match self.media.last_mut() {
                Some(media) => &mut media.ice_ufrag,
                None => &mut self.ice_ufrag,
            };
            *place = Some(ufrag);
        } else if let Some(password) = line.value.strip_prefix(b"ice-pwd:") {
            let place = match self.media.last_mut() {
                Some(media) => &mut media.ice_password,
                None => &mut self.ice_password,
            };
            *place = Some(password);
        } else if let Some(direction) = Direction::parse(line.value) {
            let place = match self.media.last_mut() {
                Some(media) => &mut media.direction,
                None => &mut self.direction,
            };
            *place = Some(direction);
        } else if line.value == b"rtcp-mux"
            && let Some(media) = self.media.last_mut()
        {
            media.rtcp_mux = true;
        }
    }
}

/// A field and its place in the description.
#[derive(Clone, Copy)]
struct Field<'a> {
    text: &'a [u8],
    start: usize,
}

impl Field<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The fields of a line; several blanks count as one, as many stacks read them.
fn fields<'a>(line: &Line<'a>) -> impl Iterator<Item = Field<'a>> {
    let base = line.value_range().start;
    let mut at = 0;
    line.value.split(|b| *b == b' ').filter_map(move |text| {
        let start = base + at;
        at += text.len() + 1;
        (!text.is_empty()).then_some(Field { text, start })
    })
}

/// RFC 8866 §5.2. Read from the right: a user name with blanks in it is against the grammar and yet met.
fn origin<'a>(line: &Line<'a>) -> Result<Origin<'a>, Fault> {
    let (mut last, mut count) = ([None, None, None], 0);
    for field in fields(line) {
        last = match last {
            [_, second, third] => [second, third, Some(field)],
        };
        count += 1;
    }
    match last {
        [Some(net), Some(kind), Some(address)] if count >= 6 && net.text == b"IN" => {
            let host = host(kind.text, address.text).ok_or(Fault::Origin)?;
            Ok(Origin { host, address_range: kind.start..address.end() })
        }
        _ => Err(Fault::Origin),
    }
}

fn connection<'a>(line: &Line<'a>) -> Result<Connection<'a>, Fault> {
    let mut fields = fields(line);
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(net), Some(kind), Some(address), None) if net.text == b"IN" => {
            let host = host(kind.text, address.text).ok_or(Fault::Connection)?;
            Ok(Connection { host, address_range: kind.start..address.end() })
        }
        _ => Err(Fault::Connection),
    }
}

fn media<'a>(line: &Line<'a>) -> Result<Media<'a>, Fault> {
    let mut fields = fields(line);
    let (Some(kind), Some(port), Some(transport), Some(format)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Fault::Media);
    };
    let mut numbers = port.text.splitn(2, |b| *b == b'/');
    let number = numbers.next().and_then(digits).ok_or(Fault::Media)?;
    let port_count = match numbers.next() {
        Some(text) => digits(text).filter(|count| *count > 0).ok_or(Fault::Media)?,
        None => 1,
    };
    let formats = line.value.get(format.start - line.value_range().start..).unwrap_or_default();
    Ok(Media {
        kind: kind.text,
        port: number,
        port_count,
        transport: transport.text,
        formats,
        formats_start: format.start,
        port_range: port.start..port.end(),
        connection: None,
        rtcp: SmallVec::new(),
        rtcp_mux: false,
        direction: None,
        ice_ufrag: None,
        ice_password: None,
        start: line.start,
        end: line.end,
    })
}

/// RFC 3605 §2.1: `port [SP nettype SP addrtype SP address]`.
fn rtcp_host(value: &[u8]) -> Option<RtcpHost> {
    let mut parts = value.split(|b| *b == b' ');
    let port = digits(parts.next()?).filter(|port| *port != 0)?;
    let address = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None, ..) => None,
        (Some(b"IN"), Some(kind), Some(address), None) => match host(kind, address)? {
            Host::Ip(ip) => Some(ip),
            Host::Other(_) => return None,
        },
        _ => return None,
    };
    Some(RtcpHost { port, address })
}

/// Up to five digits within 16 bits; no sign.
fn digits(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.len() > 5 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An address of the named type; a literal of the other type is a fault.
fn host<'a>(kind: &[u8], text: &'a [u8]) -> Option<Host<'a>> {
    let utf8 = std::str::from_utf8(text).ok();
    match kind {
        b"IP4" => match utf8.and_then(|text| text.parse::<Ipv4Addr>().ok()) {
            Some(ip) => return Some(Host::Ip(ip.into())),
            None if text.contains(&b':') => return None,
            None => {}
        },
        b"IP6" => match utf8.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
            Some(ip) => return Some(Host::Ip(IpAddr::V6(ip).to_canonical())),
            None if utf8.is_some_and(|text| text.parse::<Ipv4Addr>().is_ok()) => return None,
            None => {}
        },
        _ => return None,
    }
    // Names, and multicast with its TTL and count; what is neither is a fault.
    let known = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':' | b'%');
    text.iter().all(known).then_some(Host::Other(text))
}

#[cfg(test)]
mod tests;
