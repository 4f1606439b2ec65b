//! An edit in place: replacements over the original bytes, everything else copied as it is.

use std::ops::Range;

use bytes::Bytes;

/// A list of replacements over a description.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    bytes: &'a [u8],
    patches: Vec<(Range<usize>, String)>,
}

impl<'a> Edit<'a> {
    /// No replacement yet.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, patches: Vec::new() }
    }

    /// The bytes before any replacement.
    pub fn original(&self) -> &'a [u8] {
        self.bytes
    }

    /// Replaces `range` by `text`; an empty range inserts. A range outside the bytes or over an earlier one is refused
    /// with `false` and changes nothing.
    #[must_use]
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<String>) -> bool {
        let sound = range.start <= range.end
            && range.end <= self.bytes.len()
            && self.patches.iter().all(|(other, _)| range.end <= other.start || other.end <= range.start);
        if sound {
            self.patches.push((range, text.into()));
        }
        sound
    }

    /// The bytes with the replacements in them.
    pub fn into_bytes(mut self) -> Bytes {
        // Stable: insertions at one place stay in the order they were made.
        self.patches.sort_by_key(|(range, _)| range.start);
        let grown: usize = self.patches.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(self.bytes.len() + grown);
        let mut at = 0;
        for (range, text) in &self.patches {
            out.extend_from_slice(self.bytes.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(self.bytes.get(at..).unwrap_or_default());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_inserts_and_keeps() {
        let mut edit = Edit::new(b"abcdef");
        assert!(edit.replace(4..5, "EE"));
        assert!(edit.replace(1..2, ""));
        assert!(edit.replace(6..6, "!"));
        assert_eq!(&edit.into_bytes()[..], b"acdEEf!");
        assert_eq!(&Edit::new(b"abc").into_bytes()[..], b"abc");
    }

    #[test]
    fn refuses_overlap_and_outside() {
        let mut edit = Edit::new(b"abcdef");
        assert!(edit.replace(1..4, "x"));
        assert!(!edit.replace(3..5, "y"));
        assert!(!edit.replace(5..9, "z"));
        assert_eq!(&edit.into_bytes()[..], b"axef");
    }
}
