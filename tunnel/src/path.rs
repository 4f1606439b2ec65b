//! The path of a file request, decoded exactly once and refused when it could be read in two ways.
//!
//! Local files are looked up in a map, never in a file system, so no path can escape; but the same path may go
//! to a server inside, which might decode again, fold backslashes or climb with `..`. What is handed on is
//! therefore written anew from the decoded form.

use std::fmt;

/// The longest path accepted, in bytes as it came.
pub const MAX_PATH: usize = 8 * 1024;

/// A path that begins with `/`, has no dot segments, no doubled slashes and no byte that reads two ways.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CleanPath(String);

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Longer than [`MAX_PATH`].
    #[error("the path is too long")]
    TooLong,
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    Relative,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Percent,
    /// An encoded slash, backslash or percent sign, a plain backslash, or a control character.
    #[error("the path holds a character that could be read in two ways")]
    Character,
    /// A `.` or `..` segment, plain or encoded, with or without a parameter.
    #[error("the path holds a dot segment")]
    Dots,
    /// The decoded path is not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
}

impl CleanPath {
    /// Reads the path of a request target.
    ///
    /// # Errors
    /// See [`PathError`]; all but [`PathError::TooLong`] (414) are a 400.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if raw.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if !raw.starts_with('/') {
            return Err(PathError::Relative);
        }
        let decoded = String::from_utf8(decode(raw.as_bytes())?).map_err(|_| PathError::Utf8)?;
        if decoded.chars().any(|c| c.is_control() || c == '\\') {
            return Err(PathError::Character);
        }
        let mut clean = String::with_capacity(decoded.len());
        for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
            // Some servers cut `;parameter` off before they look at dots.
            if matches!(segment.split(';').next(), Some("." | "..")) {
                return Err(PathError::Dots);
            }
            clean.push('/');
            clean.push_str(segment);
        }
        if clean.is_empty() || decoded.ends_with('/') {
            clean.push('/');
        }
        Ok(Self(clean))
    }

    /// The decoded path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as it goes to a server: everything but the characters of RFC 3986 §3.3 `pchar` percent-encoded.
    pub fn encoded(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
                out.push(char::from(byte));
            } else {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().map_or('0', char::from);
                out.push('%');
                out.push(digit(byte >> 4));
                out.push(digit(byte & 15));
            }
        }
        out
    }

    /// The last segment: the file name.
    pub fn basename(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Decodes percent codes once. An encoded slash, backslash, percent sign, NUL or dot-dot has no honest use
/// here, and the first four are refused as codes because the decoded text no longer shows them apart.
fn decode(raw: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut nibble = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(PathError::Percent);
        let code = u8::try_from(nibble()? * 16 + nibble()?).map_err(|_| PathError::Percent)?;
        if matches!(code, b'/' | b'\\' | b'%' | 0) {
            return Err(PathError::Character);
        }
        out.push(code);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
