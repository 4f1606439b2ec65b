//! The tag of a phone: the text between head and tail in its REGISTER's Contact.
//!
//! Every phone of a site registers as `anonymous`; what tells them apart is the MAC address in their instance.
//! Head and tail are literals, never patterns, so that there is no backtracking to attack.

use memchr::memchr;

/// The longest tag.
pub const TAG_LIMIT: usize = 64;
/// The shortest head.
pub const HEAD_MINIMUM: usize = 4;
/// The longest tail.
pub const TAIL_LIMIT: usize = 16;

/// Head and tail without quotes, ready to search with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Why head or tail can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A short head would find tags everywhere.
    #[error("the contact head must have at least {HEAD_MINIMUM} characters besides quotes")]
    ShortHead,
    /// A long tail is a mistake.
    #[error("the contact tail must have at most {TAIL_LIMIT} characters")]
    LongTail,
    /// Header values have no control characters.
    #[error("control characters are not allowed in the contact head and tail")]
    Control,
}

impl Pattern {
    /// Prepares head and tail; quotes are dropped, so that quoted and unquoted spellings are one.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(head: &str, tail: &str) -> Result<Self, PatternError> {
        if head.bytes().chain(tail.bytes()).any(|b| b.is_ascii_control()) {
            return Err(PatternError::Control);
        }
        let (head, tail) = (plain(head.as_bytes()), plain(tail.as_bytes()));
        if head.len() < HEAD_MINIMUM {
            return Err(PatternError::ShortHead);
        }
        if tail.len() > TAIL_LIMIT {
            return Err(PatternError::LongTail);
        }
        Ok(Self { head, tail })
    }

    /// The tag in one contact value (already unfolded or not); `None` when there is none or it is not a tag.
    ///
    /// ```
    /// # use sip_core::edge::route_tag::Pattern;
    /// let pattern = Pattern::new("+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-", ">").unwrap();
    /// let contact = br#"<sips:anonymous@192.168.1.7>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-08000fd4cbbf>""#;
    /// assert_eq!(pattern.tag(contact).as_deref(), Some("08000FD4CBBF"));
    /// ```
    pub fn tag(&self, value: &[u8]) -> Option<String> {
        let value = plain(value);
        self.tag_at(&value, find(&value, &self.head)?)
    }

    /// Every tag in one contact value. A peer may read another one than the first as the phone's: with two it speaks for two phones.
    pub fn tags(&self, value: &[u8]) -> Vec<String> {
        self.read(value).0.into_iter().flatten().collect()
    }

    /// What stands behind each head in one contact value.
    pub(super) fn read(&self, value: &[u8]) -> Found {
        let value = plain(value);
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(at) = value.get(from..).and_then(|rest| find(rest, &self.head)) {
            found.push(self.tag_at(&value, from + at));
            from += at + self.head.len();
        }
        Found(found)
    }

    /// The tag behind the head that stands at `at`.
    fn tag_at(&self, value: &[u8], at: usize) -> Option<String> {
        let rest = value.get(at + self.head.len()..)?;
        let tag = if self.tail.is_empty() { rest } else { rest.get(..find(rest, &self.tail)?)? };
        let legal = |b: &u8| b.is_ascii_alphanumeric() || b"._~-".contains(b);
        if tag.is_empty() || tag.len() > TAG_LIMIT || !tag.iter().all(legal) {
            return None;
        }
        let mut tag = String::from_utf8(tag.to_vec()).ok()?;
        if tag.len() == 12 && tag.bytes().all(|b| b.is_ascii_hexdigit()) {
            tag.make_ascii_uppercase();
        }
        Some(tag)
    }

    /// Whether the value holds the head at all: with no [`tag`](Self::tag) it is one to count and report.
    pub fn has_head(&self, value: &[u8]) -> bool {
        find(&plain(value), &self.head).is_some()
    }
}

/// What stands behind the heads of one contact value: a tag, or something that is none.
pub(super) struct Found(Vec<Option<String>>);

impl Found {
    /// What [`Pattern::tag`] would find.
    pub(super) fn tag(&self) -> Option<&str> {
        self.0.first()?.as_deref()
    }

    /// Every tag.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().map(String::as_str)
    }

    /// Whether there is a head at all.
    pub(super) fn has_head(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The value without quotes, line folding, the backslash of quoted pairs and white space around `=`: all spellings
/// that a peer reads as the same value are one (RFC 3261 §25.1).
fn plain(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    let special = |b: &u8| matches!(b, b'"' | b'\\' | b'\r' | b'\n' | b'=' | b' ' | b'\t');
    while let Some(at) = rest.iter().position(special) {
        let (run, more) = rest.split_at(at);
        plain.extend_from_slice(run);
        let Some((b, more)) = more.split_first() else { break };
        match b {
            b'=' => {
                while let Some(b' ' | b'\t') = plain.last() {
                    plain.pop();
                }
                plain.push(b'=');
            }
            b' ' | b'\t' if plain.last() != Some(&b'=') => plain.push(*b),
            _ => {}
        }
        rest = more;
    }
    plain.extend_from_slice(rest);
    plain
}

/// The first match without regard to ASCII case.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    if first.is_ascii_alphabetic() {
        return text.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted));
    }
    let mut from = 0;
    while let Some(at) = memchr(first, text.get(from..)?) {
        let start = from + at;
        if text.get(start..start + wanted.len())?.eq_ignore_ascii_case(wanted) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-";

    fn tag(value: &str) -> Option<String> {
        Pattern::new(HEAD, ">").unwrap().tag(value.as_bytes())
    }

    #[test]
    fn the_tag_is_found_in_every_spelling() {
        for value in [
            "<sips:anonymous@192.168.1.7>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF>\";expires=3600",
            "<sips:anonymous@192.168.1.7>;+sip.instance=<urn:uuid:00000000-0000-1000-8000-08000fd4cbbf>",
            "<sips:anonymous@192.168.1.7>;+SIP.Instance=\"<URN:UUID:00000000-0000-1000-8000-08000Fd4cBBF>\"",
            "<sips:anonymous@192.168.1.7>;+sip.instance \t= \r\n \"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF>\"",
            "<sips:anonymous@192.168.1.7>;+sip.instance=\"\\<urn:uuid:00000000-0000-1000-8000-0800\\0FD4CBBF>\"",
            "<sips:a@b>;x=+y;+sip.instance=\"<urn:uuid:00000000-\r\n0000-1000-8000-08000FD4CBBF>\"",
        ] {
            assert_eq!(tag(value).as_deref(), Some("08000FD4CBBF"), "{value}");
        }
        // Not twelve hexadecimal digits: as it is.

        assert_eq!(
            tag("+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-phone.1>\"").as_deref(),
            Some("phone.1")
        );
    }

    #[test]
    fn what_is_no_tag() {
        let long = format!("+sip.instance=<urn:uuid:00000000-0000-1000-8000-{}>", "a".repeat(65));
        let most = format!("+sip.instance=<urn:uuid:00000000-0000-1000-8000-{}>", "a".repeat(64));
        for value in [
            "",
            "<sips:anonymous@192.168.1.7>",
            "<sips:a@b>;+sip.instance=\"<urn:uuid:11111111-0000-1000-8000-08000FD4CBBF>\"",
            "<sips:a@b>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF",
            "<sips:a@b>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000->",
            "<sips:a@b>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-a b>",
            "<sips:a@b>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-a\u{e9}>",
            &long,
        ] {
            assert_eq!(tag(value), None, "{value}");
        }
        assert_eq!(tag(&most).unwrap().len(), 64);
    }

    #[test]
    fn two_tags_in_one_value_are_both_seen() {
        let pattern = Pattern::new(HEAD, ">").unwrap();
        let one = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000FD4CBBF>\"";
        let other = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-08000fd4cbc0>\"";
        let both = ["08000FD4CBBF", "08000FD4CBC0"];
        assert_eq!(pattern.tags(format!("<sips:a@b>;{one};{other}").as_bytes()), both);
        let quoted = one.replace('"', "\\\"");
        assert_eq!(pattern.tags(format!("\"{quoted}\" <sips:a@b>;{other}").as_bytes()), both);
        assert_eq!(pattern.tags(format!("<sips:a@b>;{one}").as_bytes()), ["08000FD4CBBF"]);
        assert!(pattern.tags(b"<sips:a@b>").is_empty());
    }

    #[test]
    fn an_empty_tail_takes_the_rest() {
        let pattern = Pattern::new("x-mac=", "").unwrap();
        assert_eq!(pattern.tag(b"<sip:a@b>;x-mac=0800aa").as_deref(), Some("0800aa"));
        assert_eq!(pattern.tag(b"<sip:a@b>;x-mac=0800aa;more=1"), None);
    }

    #[test]
    fn patterns_that_are_refused() {
        assert_eq!(Pattern::new("a\"b=", ">"), Err(PatternError::ShortHead));
        assert_eq!(Pattern::new("mac=", &"x".repeat(17)), Err(PatternError::LongTail));
        assert_eq!(Pattern::new("mac=\n", ""), Err(PatternError::Control));
        assert!(Pattern::new("mac=", ">").is_ok());
    }
}
