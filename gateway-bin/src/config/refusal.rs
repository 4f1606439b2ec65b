//! Why a configuration is refused: path, line, key and what was expected.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One reason, tied to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The line the key stands in, counted from 1; `None` when the key is missing altogether.
    pub line: Option<usize>,
    /// The key, as `sip.ports[0].port`.
    pub key: String,
    /// The rule of the requirements that refuses, as `CFG-05`, where one has a number.
    pub rule: Option<&'static str>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match self.rule {
            Some(rule) => write!(f, " [{rule}]"),
            None => Ok(()),
        }
    }
}

/// A configuration that must not run.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Invalid {
    /// The file that was read.
    pub path: PathBuf,
    /// Every reason found, in the order of the file.
    pub refusals: Vec<Refusal>,
}

impl Invalid {
    pub(crate) fn unreadable(path: &Path, line: Option<usize>, message: String) -> Self {
        let refusal = Refusal { line, key: String::new(), rule: None, message };
        Self { path: path.to_owned(), refusals: vec![refusal] }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, refusal) in self.refusals.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {refusal}", self.path.display())?;
        }
        Ok(())
    }
}

/// Where keys stand in the text.
pub(super) struct Lines<'a> {
    text: &'a str,
    root: Option<Spanned<DeTable<'a>>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, root: DeTable::parse(text).ok() }
    }

    /// The line of the deepest part of `key` that the file has.
    pub(super) fn of(&self, key: &[String]) -> Option<usize> {
        let mut table = self.root.as_ref()?.get_ref();
        let mut found = None;
        let mut parts = key.iter();
        while let Some(part) = parts.next() {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part.as_str()) else {
                return found;
            };
            found = Some(self.line_at(name.span().start));
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                DeValue::Array(items) => {
                    let item = parts.next().and_then(|index| index.parse::<usize>().ok());
                    let Some(item) = item.and_then(|index| items.get(index)) else { return found };
                    found = Some(self.line_at(item.span().start));
                    let DeValue::Table(inner) = item.get_ref() else { return found };
                    table = inner;
                }
                _ => return found,
            }
        }
        found
    }

    /// The key whose value covers `offset`.
    pub(super) fn key_at(&self, offset: usize) -> Vec<String> {
        let mut key = Vec::new();
        let Some(mut table) = self.root.as_ref().map(Spanned::get_ref) else { return key };
        let covers = |span: std::ops::Range<usize>| span.start <= offset && offset < span.end;
        'deeper: loop {
            for (name, value) in table {
                if !covers(name.span()) && !holds(value, offset) {
                    continue;
                }
                key.push(name.get_ref().to_string());
                match value.get_ref() {
                    DeValue::Table(inner) => {
                        table = inner;
                        continue 'deeper;
                    }
                    DeValue::Array(items) => {
                        let found = items.iter().enumerate().find(|(_, item)| holds(item, offset));
                        let Some((index, item)) = found else { return key };
                        let DeValue::Table(inner) = item.get_ref() else { return key };
                        key.push(index.to_string());
                        table = inner;
                        continue 'deeper;
                    }
                    _ => return key,
                }
            }
            return key;
        }
    }

    /// What is written there.
    pub(super) fn text_at(&self, span: std::ops::Range<usize>) -> Option<&'a str> {
        self.text.get(span).map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn line_at(&self, offset: usize) -> usize {
        let upto = self.text.as_bytes().get(..offset.min(self.text.len())).unwrap_or_default();
        upto.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Whether `offset` lies in `value`. The rows of a `[table]` may stand behind the span of its header.
fn holds(value: &Spanned<DeValue<'_>>, offset: usize) -> bool {
    let span = value.span();
    (span.start <= offset && offset < span.end)
        || match value.get_ref() {
            DeValue::Table(inner) => inner.iter().any(|(name, value)| {
                (name.span().start <= offset && offset < name.span().end) || holds(value, offset)
            }),
            DeValue::Array(items) => items.iter().any(|item| holds(item, offset)),
            _ => false,
        }
}

/// `["sip", "ports", "0", "port"]` as `sip.ports[0].port`.
pub(super) fn spelled(key: &[String]) -> String {
    let mut out = String::new();
    for part in key {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            out.push('[');
            out.push_str(part);
            out.push(']');
            continue;
        }
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(part);
    }
    out
}
