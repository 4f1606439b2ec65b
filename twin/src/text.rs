//! The twin's own small reader of SIP text, and the framer that cuts it out of a stream.
//!
//! It reads what a phone or a switch has to know and nothing more: the start line, headers by name (long and
//! compact), the values of a comma list, the parts of a name-addr, the body.

use std::fmt;

/// Head of a message: start line and headers, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Body of a message, in bytes.
const MAX_BODY: usize = 128 * 1024;

/// The text is not a SIP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No empty line within 32 KiB.
    #[error("the head is longer than {MAX_HEAD} bytes")]
    LongHead,
    /// The head is not UTF-8.
    #[error("the head is not UTF-8")]
    NotText,
    /// CR or LF alone, or NUL.
    #[error("the head holds a bare CR, a bare LF or a NUL")]
    Bare,
    /// The first line is neither a request nor a response of SIP 2.0.
    #[error("'{0}' is not a SIP/2.0 start line")]
    StartLine(String),
    /// A line without a colon.
    #[error("'{0}' is not a header")]
    Header(String),
    /// Content-Length missing (RFC 3261 §18.3: streams need it), not a number, or too large.
    #[error("Content-Length missing, not a number or above {MAX_BODY}")]
    Length,
}

/// One SIP message as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The start line.
    pub start: String,
    /// Headers in the order received: name as written, value trimmed and unfolded.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// The method, for a request.
    pub fn method(&self) -> Option<&str> {
        if self.start.starts_with("SIP/2.0 ") { None } else { self.start.split(' ').next() }
    }

    /// The Request-URI, for a request.
    pub fn uri(&self) -> Option<&str> {
        self.method()?;
        self.start.split(' ').nth(1)
    }

    /// The status code, for a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Status and reason phrase, for a response: `486 Busy Here`.
    pub fn verdict(&self) -> &str {
        self.start.strip_prefix("SIP/2.0 ").unwrap_or(&self.start)
    }

    /// The first header of that (long) name, written long or compact.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.rows(name).next()
    }

    /// Every row of that (long) name.
    pub fn rows<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers
            .iter()
            .filter(move |(n, _)| long_name(n).eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Every value of that name: rows, and the members of comma lists.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.rows(name).flat_map(commas).collect()
    }

    /// A header that a valid message has, or an empty text.
    pub fn text(&self, name: &str) -> &str {
        self.header(name).unwrap_or("")
    }

    /// The branch of the topmost Via: what a response is told apart by.
    pub fn branch(&self) -> Option<&str> {
        parameter(self.values("Via").first()?, "branch")
    }

    /// The method in CSeq.
    pub fn cseq_method(&self) -> Option<&str> {
        self.header("CSeq")?.split_whitespace().nth(1)
    }

    /// The body as text; what is not UTF-8 shows as replacement characters.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A response to this request: Via, From, To (+ tag), Call-ID and CSeq copied (RFC 3261 §8.2.6), then
    /// `extra` (header lines, each ending in CRLF), then the body.
    pub fn reply(&self, verdict: &str, to_tag: Option<&str>, extra: &str, body: &str) -> String {
        let mut text = format!("SIP/2.0 {verdict}\r\n");
        for via in self.rows("Via") {
            text.push_str(&format!("Via: {via}\r\n"));
        }
        let to = self.text("To");
        let tag = match to_tag {
            Some(tag) if parameter(to, "tag").is_none() => format!(";tag={tag}"),
            _ => String::new(),
        };
        text.push_str(&format!(
            "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            self.text("From"),
            self.text("Call-ID"),
            self.text("CSeq"),
            body.len()
        ));
        text
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.start)
    }
}

/// What a stream carries.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// CRLF CRLF: the other side asks whether we live (RFC 5626 §4.4.1).
    Ping,
    /// CRLF: the answer to our ping.
    Pong,
}

/// Cuts a stream into messages, pings and pongs by Content-Length.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
}

impl Framer {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` when more bytes are needed. An error ends the stream.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would promise to end; a framer waits for more"
    )]
    pub fn next(&mut self) -> Option<Result<Frame, TextError>> {
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.drain(..4);
            return Some(Ok(Frame::Ping));
        }
        if self.buffer == b"\r\n\r" {
            return None;
        }
        if self.buffer.starts_with(b"\r\n") {
            self.buffer.drain(..2);
            return Some(Ok(Frame::Pong));
        }
        let Some(end) = self.buffer.windows(4).take(MAX_HEAD).position(|w| w == b"\r\n\r\n") else {
            return (self.buffer.len() > MAX_HEAD).then_some(Err(TextError::LongHead));
        };
        let (start, headers) = match self.buffer.get(..end).map(head) {
            Some(Ok(head)) => head,
            Some(Err(error)) => return Some(Err(error)),
            None => return None,
        };
        let mut message = Message { start, headers, body: Vec::new() };
        let length = message.header("Content-Length").and_then(|text| text.parse::<usize>().ok());
        let Some(length) = length.filter(|length| *length <= MAX_BODY) else {
            return Some(Err(TextError::Length));
        };
        message.body = self.buffer.get(end + 4..end + 4 + length)?.to_vec();
        self.buffer.drain(..end + 4 + length);
        Some(Ok(Frame::Message(message)))
    }
}

type Head = (String, Vec<(String, String)>);

fn head(bytes: &[u8]) -> Result<Head, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotText)?;
    // A bare CR or LF would let a value pretend to be two lines.
    if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err(TextError::Bare);
    }
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or("").to_owned();
    if !start.starts_with("SIP/2.0 ") && !start.ends_with(" SIP/2.0") {
        return Err(TextError::StartLine(start.chars().take(80).collect()));
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value) = headers.last_mut().ok_or_else(|| TextError::Header(line.to_owned()))?;
            value.push(' ');
            value.push_str(line.trim());
        } else {
            let (name, value) =
                line.split_once(':').ok_or_else(|| TextError::Header(line.chars().take(80).collect()))?;
            headers.push((name.trim_end().to_owned(), value.trim().to_owned()));
        }
    }
    Ok((start, headers))
}

/// RFC 3261 §7.3.3 and the registry: the long name of a compact one.
fn long_name(name: &str) -> &str {
    match name {
        "v" | "V" => "Via",
        "f" | "F" => "From",
        "t" | "T" => "To",
        "m" | "M" => "Contact",
        "i" | "I" => "Call-ID",
        "l" | "L" => "Content-Length",
        "c" | "C" => "Content-Type",
        "k" | "K" => "Supported",
        "o" | "O" => "Event",
        other => other,
    }
}

/// Splits at `separator` outside quotes and angle brackets; members trimmed.
fn split_outside(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut angle, mut escaped) = (Vec::new(), 0, false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            c if c == separator && !quoted && !angle => {
                parts.extend(text.get(start..at));
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts.into_iter().map(str::trim).collect()
}

/// The members of a comma list.
pub fn commas(value: &str) -> Vec<&str> {
    split_outside(value, ',').into_iter().filter(|part| !part.is_empty()).collect()
}

/// A header parameter of one value, without quotes: `parameter("<sip:a@b>;tag=x", "tag")` is `x`.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    split_outside(value, ';').into_iter().skip(1).find_map(|part| {
        let (key, text) = part.split_once('=').unwrap_or((part, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| text.trim().trim_matches('"'))
    })
}

/// The URI in a name-addr or addr-spec: `"A" <sips:a@b;c>;tag=x` gives `sips:a@b;c`.
pub fn address(value: &str) -> &str {
    let mut quoted = false;
    for (at, c) in value.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => {
                let rest = value.get(at + 1..).unwrap_or("");
                return rest.split('>').next().unwrap_or("");
            }
            _ => {}
        }
    }
    value.split(';').next().unwrap_or("").trim()
}

/// The user of a URI; empty when it has none.
pub fn user(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.split_once('@').map_or("", |(user, _)| user)
}

/// Host and port of a URI, as written: `sips:a@127.0.0.1:5061;lr` gives `127.0.0.1:5061`.
pub fn host_port(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    rest.split([';', '?', '>']).next().unwrap_or("")
}

/// The same URI with another user.
pub fn with_user(uri: &str, name: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sips", uri));
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}:{name}@{rest}")
}

#[cfg(test)]
#[path = "text/tests.rs"]
mod tests;
