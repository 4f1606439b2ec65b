//! PEM blocks out of text as people hand it over: RFC 7468, read liberally.
//!
//! Text around the blocks, a byte order mark (also in the middle, where files were joined), CRLF or CR line ends and blanks at
//! either end of a line are fine. What is inside a block must be right.

use data_encoding::BASE64;

/// One PEM block.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// The words after `BEGIN`, for example `CERTIFICATE`.
    pub label: String,
    /// The decoded content.
    pub der: Vec<u8>,
    /// The line of `BEGIN`, from 1.
    pub line: usize,
    /// RFC 1421 headers say that the content is encrypted (`Proc-Type: 4,ENCRYPTED`).
    pub encrypted: bool,
}

impl std::fmt::Debug for Block {
    // The content may be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("label", &self.label).field("line", &self.line).finish_non_exhaustive()
    }
}

/// Why a block could not be read; the position instead of the content, because that may be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PemError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Does `input` hold at least one `-----BEGIN` line? If not it may be DER.
pub fn is_pem(input: &[u8]) -> bool {
    lines(input).any(|line| label(line, "BEGIN").is_some())
}

/// All blocks of `input` in their order; a block that can't be read is an error at its place and reading goes on behind it.
pub fn blocks(input: &[u8]) -> Vec<Result<Block, PemError>> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    for (index, line) in lines(input).enumerate() {
        let number = index + 1;
        if let Some(name) = label(line, "BEGIN") {
            if let Some(unfinished) = open.take() {
                found.push(Err(PemError {
                    line: unfinished.line,
                    reason: "this BEGIN has no END before the next BEGIN",
                }));
            }
            open = Some(Open::new(name, number));
        } else if let Some(name) = label(line, "END") {
            if let Some(block) = open.take() {
                found.push(block.close(name, number));
            }
        } else if let Some(block) = open.as_mut() {
            block.line_of_content(line, number);
        }
    }
    if let Some(unfinished) = open {
        found.push(Err(PemError {
            line: unfinished.line,
            reason: "this BEGIN has no END; the file is cut off",
        }));
    }
    found
}

/// Writes one block with lines of 64 characters (RFC 7468 §2).
pub fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let body = BASE64.encode(der);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

struct Open {
    label: String,
    line: usize,
    text: Vec<u8>,
    encrypted: bool,
    headers: bool,
    bad: Option<usize>,
}

impl Open {
    fn new(label: &[u8], line: usize) -> Self {
        let label = String::from_utf8_lossy(label).into_owned();
        Self { label, line, text: Vec::new(), encrypted: false, headers: true, bad: None }
    }

    fn line_of_content(&mut self, line: &[u8], number: usize) {
        if self.headers && line.contains(&b':') {
            self.encrypted |= line.starts_with(b"Proc-Type") && line.ends_with(b"ENCRYPTED");
        } else if self.headers
            && self.encrypted
            && !line.is_empty()
            && self.text.is_empty()
            && line.contains(&b',')
        {
            // A folded DEK-Info header.
        } else {
            self.headers &= line.is_empty();
            let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
            if self.bad.is_none() && !line.iter().filter(|byte| !byte.is_ascii_whitespace()).all(good) {
                self.bad = Some(number);
            }
            self.text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }

    fn close(self, end: &[u8], number: usize) -> Result<Block, PemError> {
        if end != self.label.as_bytes() {
            return Err(PemError { line: number, reason: "END does not name what BEGIN names" });
        }
        if let Some(line) = self.bad {
            return Err(PemError { line, reason: "a character that is not Base64" });
        }
        if self.encrypted {
            return Ok(Block { label: self.label, der: Vec::new(), line: self.line, encrypted: true });
        }
        match BASE64.decode(&self.text) {
            Ok(der) if !der.is_empty() => {
                Ok(Block { label: self.label, der, line: self.line, encrypted: false })
            }
            Ok(_) => Err(PemError { line: self.line, reason: "the block is empty" }),
            Err(_) => Err(PemError { line: self.line, reason: "the Base64 text is cut off or damaged" }),
        }
    }
}

/// Lines without their ends, blanks and byte order marks. CRLF makes an empty line more, so a CR is only an end when no LF follows.
fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let current = rest?;
        let Some(end) = current.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(bare(current));
        };
        let (line, tail) = current.split_at(end);
        let width = if tail.starts_with(b"\r\n") { 2 } else { 1 };
        rest = tail.get(width..);
        Some(bare(line))
    })
}

fn bare(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    line.strip_prefix(b"\xEF\xBB\xBF").map_or(line, <[u8]>::trim_ascii)
}

fn label<'a>(line: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let inner = line.strip_prefix(b"-----")?.strip_suffix(b"-----")?;
    let name = inner.strip_prefix(word.as_bytes())?.strip_prefix(b" ")?;
    Some(name.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_paste() {
        for text in [
            "-----BEGIN A-----\nAQID\n-----END A-----\n",
            "\u{feff}-----BEGIN A-----\r\nAQID\r\n-----END A-----\r\n",
            "words before\r  -----BEGIN A-----  \r AQ \r ID \r -----END A-----\rwords after",
            "-----BEGIN A-----\nComment: x\n\nAQID\n-----END A-----",
        ] {
            let blocks = blocks(text.as_bytes());
            assert_eq!(blocks.len(), 1, "{text:?}");
            let block = blocks[0].as_ref().unwrap();
            assert_eq!((block.label.as_str(), block.der.as_slice()), ("A", &[1, 2, 3][..]), "{text:?}");
        }
        assert!(!is_pem(b"\x30\x03\x02\x01\x00"));
    }

    #[test]
    fn says_where_it_is_wrong() {
        let cases = [
            ("-----BEGIN A-----\nAQID\n", 1, "no END"),
            ("x\n-----BEGIN A-----\nAQ?D\n-----END A-----\n", 3, "not Base64"),
            ("-----BEGIN A-----\nAQI\n-----END A-----\n", 1, "cut off"),
            ("-----BEGIN A-----\nAQID\n-----END B-----\n", 3, "does not name"),
            ("-----BEGIN A-----\n-----END A-----\n", 1, "empty"),
        ];
        for (text, line, reason) in cases {
            let error = blocks(text.as_bytes()).remove(0).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.reason.contains(reason), "{text:?}: {error}");
        }
        let joined = "-----BEGIN A-----\nAQID\n-----BEGIN B-----\nBAUG\n-----END B-----\n";
        let found = blocks(joined.as_bytes());
        assert!(found[0].is_err());
        assert_eq!(found[1].as_ref().unwrap().label, "B");
    }

    #[test]
    fn encoding_is_read_back() {
        for length in [1usize, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length).map(|value| value as u8).collect();
            let text = encode("X Y", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(blocks(text.as_bytes())[0].as_ref().unwrap().der, der);
        }
    }

    #[test]
    fn an_encrypted_block_is_told_apart() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAQID\n-----END RSA PRIVATE KEY-----\n";
        assert!(blocks(text.as_bytes())[0].as_ref().unwrap().encrypted);
    }
}
