//! The lines of a description: where each begins and ends, and nothing about what it means.

use std::ops::Range;

/// One line `x=value`; positions are offsets into the whole description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The letter before the equals sign.
    pub kind: u8,
    /// The bytes after the equals sign, without the line end.
    pub value: &'a [u8],
    /// Where the letter stands.
    pub start: usize,
    /// Where the line ends, after its line end.
    pub end: usize,
}

impl Line<'_> {
    /// Offsets of the value.
    pub fn value_range(&self) -> Range<usize> {
        let from = self.start + 2;
        from..from + self.value.len()
    }
}

/// Walks the lines. A line that is not `letter=…`, or that holds NUL or a CR which ends no line, is yielded as `Err` with
/// its offset; empty lines at the end of the description are skipped.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The lines of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let (text, length) = match memchr::memchr(b'\n', rest) {
            Some(at) => (rest.get(..at).unwrap_or_default(), at + 1),
            None => (rest, rest.len()),
        };
        // A CR belongs to the line end only in front of LF.
        let text = if length > text.len() { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
        self.at = start + length;
        match text {
            [] if rest.iter().all(|b| matches!(b, b'\r' | b'\n')) => None,
            [kind @ b'a'..=b'z', b'=', value @ ..] if memchr::memchr2(0, b'\r', value).is_none() => {
                Some(Ok(Line { kind: *kind, value, start, end: self.at }))
            }
            _ => Some(Err(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Result<(u8, Vec<u8>), usize>> {
        Lines::new(bytes).map(|line| line.map(|line| (line.kind, line.value.to_vec()))).collect()
    }

    #[test]
    fn both_line_ends_and_none() {
        let want = vec![Ok((b'v', b"0".to_vec())), Ok((b's', b"a b ".to_vec())), Ok((b't', b"".to_vec()))];
        assert_eq!(read(b"v=0\r\ns=a b \r\nt=\r\n"), want);
        assert_eq!(read(b"v=0\ns=a b \nt=\n"), want);
        assert_eq!(read(b"v=0\r\ns=a b \nt="), want);
        assert_eq!(read(b"v=0\r\ns=a b \nt=\r\n\r\n\n"), want);
    }

    #[test]
    fn what_is_no_line() {
        for (bytes, offset) in [
            (&b"v=0\r\nV=0\r\n"[..], 5),
            (b"v=0\r\n\r\ns=x\r\n", 5),
            (b"v=0\n=x\n", 4),
            (b"v=0\nsx\n", 4),
            (b"v=0\na=x\0y\n", 4),
            (b"v=0\na=x\ry\n", 4),
            (b"v=0\na=x\r", 4),
        ] {
            assert_eq!(read(bytes).into_iter().find_map(Result::err), Some(offset), "{bytes:?}");
        }
    }

    #[test]
    fn ranges_point_into_the_bytes() {
        let bytes = b"v=0\r\na=sendonly\r\n";
        let line = Lines::new(bytes).nth(1).unwrap().unwrap();
        assert_eq!(&bytes[line.value_range()], b"sendonly");
        assert_eq!((line.start, line.end), (5, bytes.len()));
    }
}
