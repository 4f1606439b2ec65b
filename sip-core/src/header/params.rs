//! `;name=value` lists, as headers and URIs carry them.

use std::borrow::Cow;
use std::fmt;

use crate::grammar::{is_lws, skip_lws, skip_quoted, skip_token, skip_value, trim};

/// Parameters behind a value: a raw slice that starts at the first `;`, or is empty.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Params<'a> {
    /// `Err` carries the offset of the fault: anything that is not `*( ";" token [ "=" value ] )`.
    #[inline]
    pub(super) fn parse(raw: &'a [u8]) -> Result<Self, usize> {
        let mut at = skip_lws(raw, 0);
        let start = at;
        while at < raw.len() {
            if raw[at] != b';' {
                return Err(at);
            }
            let name = skip_lws(raw, at + 1);
            at = skip_token(raw, name);
            if at == name {
                return Err(at);
            }
            at = skip_lws(raw, at);
            if raw.get(at) == Some(&b'=') {
                at = skip_lws(raw, at + 1);
                let end = match raw.get(at) {
                    Some(b'"') => skip_quoted(raw, at).ok_or(at)?,
                    _ => skip_value(raw, at),
                };
                if end == at {
                    return Err(at);
                }
                at = skip_lws(raw, end);
            }
        }
        Ok(Self(raw.get(start..).unwrap_or_default()))
    }

    pub(crate) fn unchecked(raw: &'a [u8]) -> Self {
        Self(raw)
    }

    /// The raw slice, with its first `;`.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Name and value of each; a quoted value keeps its quotes, see [`unquote`].
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let semicolon = memchr::memchr(b';', rest)?;
            let item = rest.get(semicolon + 1..)?;
            let start = skip_lws(item, 0);
            let mut at = start;
            while at < item.len() && !matches!(item[at], b'=' | b';') && !is_lws(item[at]) {
                at += 1;
            }
            let name = &item[start..at];
            at = skip_lws(item, at);
            let mut value = None;
            if item.get(at) == Some(&b'=') {
                at = skip_lws(item, at + 1);
                let end = match item.get(at) {
                    Some(b'"') => skip_quoted(item, at).unwrap_or(item.len()),
                    _ => memchr::memchr(b';', &item[at..]).map_or(item.len(), |end| at + end),
                };
                value = Some(trim(&item[at..end]));
                at = end;
            }
            rest = item.get(at..).unwrap_or_default();
            Some((name, value))
        })
    }

    /// The value of a parameter, quotes kept; empty for one without a value. Names are case-insensitive.
    #[inline]
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The parameter is there, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

impl fmt::Debug for Params<'_> {
    /// Names only: values carry routing tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

/// The text of a quoted string (RFC 3261 §25.1); anything else is returned as it is.
pub fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = value else { return Cow::Borrowed(value) };
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&b) = bytes.next() {
        match b {
            b'\\' => text.extend(bytes.next()),
            _ => text.push(b),
        }
    }
    Cow::Owned(text)
}
