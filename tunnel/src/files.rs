//! Local files: content held in configuration, with checksum, entity tag, conditions and ranges.
//!
//! A [`FileGroup`] is one snapshot: a file and its `.sha256` are built together and replaced together, so a
//! group never holds the one without the matching other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::path::{CleanPath, PathError};

/// The largest local file, in bytes.
pub const MAX_FILE: usize = 64 * 1024 * 1024;

/// The suffix under which the checksum of every file is served.
pub const CHECKSUM_SUFFIX: &str = ".sha256";

/// A file as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// The path it is served at, such as `/startup.cfg`, not percent-encoded.
    pub path: String,
    /// Its bytes.
    pub content: Bytes,
}

/// How a checksum is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChecksumStyle {
    /// What `sha256sum` writes and checks: hexadecimal, two blanks, the file's name, LF.
    #[default]
    Sha256sum,
    /// Hexadecimal alone.
    HexOnly,
}

/// Files that belong together, by exact path, with their checksums.
#[derive(Debug, Clone, Default)]
pub struct FileGroup(BTreeMap<String, Arc<File>>);

/// Why a group is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileGroupError {
    /// The path would be refused in a request, or is not in its plainest form.
    #[error("{path}: {reason}")]
    Path {
        /// The path as configured.
        path: String,
        /// What is wrong with it.
        reason: PathError,
    },
    /// The path is not in its plainest form: doubled slashes, or a directory.
    #[error("{0}: not the path of a file")]
    NotPlain(String),
    /// Two files, or a file and a checksum, at one path.
    #[error("{0}: two files at one path")]
    Duplicate(String),
    /// More than [`MAX_FILE`] bytes.
    #[error("{0}: larger than 64 MiB")]
    TooLarge(String),
}

/// One file as it is served.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    content: Bytes,
    etag: HeaderValue,
    content_type: HeaderValue,
    sha256: [u8; 32],
}

impl FileGroup {
    /// Builds the snapshot: every file and its checksum.
    ///
    /// # Errors
    /// A path that a request could not name, two files at one path, a file that is too large.
    pub fn new(
        sources: impl IntoIterator<Item = FileSource>,
        style: ChecksumStyle,
    ) -> Result<Self, FileGroupError> {
        let mut files = BTreeMap::new();
        for FileSource { path, content } in sources {
            check_path(&path)?;
            if content.len() > MAX_FILE {
                return Err(FileGroupError::TooLarge(path));
            }
            let file = File::new(content, content_type(&path));
            let hex = data_encoding::HEXLOWER.encode(&file.sha256);
            let basename = path.rsplit('/').next().unwrap_or_default();
            let line = match style {
                ChecksumStyle::Sha256sum => format!("{hex}  {basename}\n"),
                ChecksumStyle::HexOnly => hex,
            };
            let checksum = File::new(Bytes::from(line), TEXT);
            for (path, file) in [(format!("{path}{CHECKSUM_SUFFIX}"), checksum), (path, file)] {
                if files.insert(path.clone(), Arc::new(file)).is_some() {
                    return Err(FileGroupError::Duplicate(path));
                }
            }
        }
        Ok(Self(files))
    }

    /// The file or checksum at exactly this path.
    pub fn file(&self, path: &CleanPath) -> Option<&Arc<File>> {
        self.0.get(path.as_str())
    }
}

fn check_path(path: &str) -> Result<(), FileGroupError> {
    let refuse = |reason| FileGroupError::Path { path: path.to_owned(), reason };
    // A percent sign would be decoded by a request's path and never match.
    if path.contains('%') {
        return Err(refuse(PathError::Character));
    }
    let clean = CleanPath::parse(path).map_err(refuse)?;
    if clean.as_str() != path || path.ends_with('/') {
        return Err(FileGroupError::NotPlain(path.to_owned()));
    }
    Ok(())
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

fn content_type(path: &str) -> HeaderValue {
    let text = [".cfg", ".txt", ".ini", ".conf"].iter().any(|end| path.ends_with(end));
    if text { TEXT } else { BINARY }
}

/// The part of a file that answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// 304: the client has it.
    NotModified,
    /// 412: `If-Match` names another.
    PreconditionFailed,
    /// 200: all of it.
    Whole,
    /// 206: these bytes, never empty.
    Part(Range<usize>),
    /// 416: the range begins past the end.
    Unsatisfiable,
}

impl File {
    fn new(content: Bytes, content_type: HeaderValue) -> Self {
        let sha256: [u8; 32] = Sha256::digest(&content).into();
        let quoted = format!("\"{}\"", data_encoding::HEXLOWER.encode(&sha256));
        // Quoted hexadecimal digits are always a header value.
        let etag = HeaderValue::from_str(&quoted).unwrap_or(HeaderValue::from_static("\"\""));
        Self { content, etag, content_type, sha256 }
    }

    /// All bytes.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// The strong entity tag: the quoted SHA-256 of the content.
    pub fn etag(&self) -> &HeaderValue {
        &self.etag
    }

    /// The media type.
    pub fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// What a GET or HEAD with these headers is answered with (RFC 9110 §13.2.2 for the order).
    pub fn select(&self, headers: &HeaderMap) -> Selection {
        if headers.contains_key(header::IF_MATCH) && !self.matches(headers, header::IF_MATCH, false) {
            return Selection::PreconditionFailed;
        }
        if self.matches(headers, header::IF_NONE_MATCH, true) {
            return Selection::NotModified;
        }
        // RFC 9110 §13.1.5: a date, a weak tag or another tag means the whole file.
        let if_range = headers.get(header::IF_RANGE).is_none_or(|tag| tag == self.etag);
        let mut ranges = headers.get_all(header::RANGE).iter();
        match (if_range, ranges.next(), ranges.next()) {
            (true, Some(range), None) => select_range(range, self.content.len()),
            _ => Selection::Whole,
        }
    }

    fn matches(&self, headers: &HeaderMap, name: header::HeaderName, weak: bool) -> bool {
        headers.get_all(name).iter().any(|list| {
            list.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).any(|tag| {
                let tag = tag.strip_prefix(b"W/").filter(|_| weak).unwrap_or(tag);
                tag == b"*" || tag == self.etag.as_bytes()
            })
        })
    }
}

/// One range of a file of `len` bytes (RFC 9110 §14.1.2). Several ranges, another unit or a syntax error mean
/// the whole file, which §14.2 allows.
fn select_range(value: &HeaderValue, len: usize) -> Selection {
    let digits = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than a number holds is past every end.
        plain.then(|| text.parse().unwrap_or(usize::MAX))
    };
    let spec = value.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.split_once('-')) else { return Selection::Whole };
    match (digits(first), digits(last)) {
        (Some(first), _) if !last.is_empty() && digits(last).is_none_or(|last| last < first) => {
            Selection::Whole
        }
        (Some(first), _) if first >= len => Selection::Unsatisfiable,
        (Some(first), Some(last)) => Selection::Part(first..last.saturating_add(1).min(len)),
        (Some(first), None) => Selection::Part(first..len),
        (None, Some(suffix)) if first.is_empty() && (suffix == 0 || len == 0) => Selection::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => Selection::Part(len.saturating_sub(suffix)..len),
        _ => Selection::Whole,
    }
}

#[cfg(test)]
mod tests;
