//! Forwarding: the received bytes plus a patch list.

use std::fmt;

use bytes::Bytes;

use super::parse::{RowIndex, StartLine, count_controls};
use super::{Field, Message, Name};
use crate::grammar::{push_number, skip_lws, split_comma, trim};

/// Why a message is not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The received head has control characters in quoted pairs; it is never forwarded. Answer 400.
    #[error("control characters in the received head")]
    Control,
    /// A value or URI given to the edit has control characters or line ends.
    #[error("control characters in a value given for {0}")]
    Value(Name),
}

impl EditError {
    /// 400 where the peer is at fault, 500 where we are.
    pub fn status(&self) -> u16 {
        match self {
            Self::Control => 400,
            Self::Value(_) => 500,
        }
    }
}

/// A patch list over a [`Message`].
///
/// Bytes that no patch touches leave as they came, except that folded rows unfold. `pop_*`, `replace_*` and
/// `remove` act on the rows *received*; rows pushed by the same edit stand above them, the last push on top, and go
/// when a later `remove`, `set_header` or `replace_values` names their field. Content-Length is kept right by the
/// edit itself (it is added when the message had none); other edits of it have no effect.
pub struct Edit<'m> {
    message: &'m Message,
    patches: Patches,
}

/// The buffers of an [`Edit`], to be used again.
#[derive(Clone, Default)]
pub struct Patches {
    list: Vec<Patch>,
    /// Where the next value to pop of a name stands, once one was popped.
    cursors: Vec<Cursor>,
    text: Vec<u8>,
    body: Option<Text>,
    bad: Option<Name>,
}

type Text = (u32, u32);

#[derive(Clone, Copy, Debug)]
struct Patch {
    start: u32,
    end: u32,
    /// Among rows inserted at one place: pushes count down, so that the last stands on top; appended rows count up.
    order: i32,
    text: Text,
    name: Name,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    name: Name,
    row: usize,
    at: u32,
}

impl<'m> Edit<'m> {
    pub(super) fn new(message: &'m Message, mut patches: Patches) -> Self {
        patches.list.clear();
        patches.cursors.clear();
        patches.text.clear();
        patches.body = None;
        patches.bad = None;
        Edit { message, patches }
    }

    /// Gives the buffers back for [`Message::edit_reusing`].
    pub fn into_patches(self) -> Patches {
        self.patches
    }

    /// Replaces the Request-URI; no effect on responses.
    pub fn set_request_uri(&mut self, uri: &[u8]) {
        if let StartLine::Request { method_end, uri_end } = self.message.head.start_line {
            let legal = !uri.is_empty() && uri.iter().all(|&b| crate::grammar::is_uri_byte(b));
            if !legal {
                self.patches.bad.get_or_insert(Name::Other);
            }
            let text = self.text(Name::Other, uri);
            self.replace(method_end + 1, uri_end, text, Name::Other);
        }
    }

    /// Replaces status and reason of a response; no effect on requests, and none for what is no status.
    pub fn set_status(&mut self, status: u16, reason: &str) {
        if let StartLine::Response { .. } = self.message.head.start_line
            && (100..700).contains(&status)
        {
            let start = self.patches.text.len();
            push_number(&mut self.patches.text, u32::from(status));
            self.patches.text.push(b' ');
            self.patches.text.extend_from_slice(reason.as_bytes());
            if reason.chars().any(char::is_control) {
                self.patches.bad.get_or_insert(Name::Other);
            }
            let text = (start as u32, self.patches.text.len() as u32);
            // Behind "SIP/2.0 ", up to the line end.
            self.replace(8, self.first_row_start() - 2, text, Name::Other);
        }
    }

    /// A new Via row above all others.
    pub fn push_via(&mut self, value: &[u8]) {
        self.push_front(Name::Via, value);
    }

    /// Takes the first value off the received Vias; `false` when there is none left.
    pub fn pop_via(&mut self) -> bool {
        self.pop_values(Name::Via, 1) == 1
    }

    /// Puts `value` in the place of the first received Via value that is left (`received`, `rport`).
    pub fn replace_top_via(&mut self, value: &[u8]) {
        if let Some((row, at)) = self.first_value(Name::Via) {
            let row = self.message.table.0[row];
            let first = split_comma(self.message.slice(at, row.value_end)).0;
            let end = at + trim_end(first) as u32;
            let text = self.text(Name::Via, value);
            self.replace(at, end, text, Name::Via);
        }
    }

    /// Sets Max-Forwards; adds the row when it is missing.
    pub fn set_max_forwards(&mut self, n: u32) {
        let start = self.patches.text.len() as u32;
        match self.first_row(Name::MaxForwards) {
            Some(row) => {
                push_number(&mut self.patches.text, n);
                let text = (start, self.patches.text.len() as u32);
                self.replace(row.value_start, row.value_end, text, Name::MaxForwards);
            }
            None => {
                self.patches.text.extend_from_slice(b"Max-Forwards: ");
                push_number(&mut self.patches.text, n);
                self.patches.text.extend_from_slice(b"\r\n");
                let text = (start, self.patches.text.len() as u32);
                self.forget(Name::MaxForwards.into());
                self.insert(self.below_vias(), false, text, Name::MaxForwards);
            }
        }
    }

    /// A new row above the first row of that name, or below the Vias when there is none: Record-Route, Path, Route.
    pub fn push_front<'n>(&mut self, field: impl Into<Field<'n>>, value: &[u8]) {
        let field = field.into();
        let at = match self.rows_of(field).next() {
            Some((_, row)) => row.start,
            None if field.name() == Name::Via => self.first_row_start(),
            None => self.below_vias(),
        };
        let text = self.row_text(field, value);
        self.insert(at, true, text, field.name());
    }

    /// Takes the first value off the received Routes; `false` when there is none left.
    pub fn pop_top_route(&mut self) -> bool {
        self.pop_values(Name::Route, 1) == 1
    }

    /// Takes the first `n` values off the received rows of a list field; how many there were.
    pub fn pop_values(&mut self, name: Name, n: usize) -> usize {
        for popped in 0..n {
            let Some((index, at)) = self.first_value(name) else { return popped };
            let row = self.message.table.0[index];
            let value = self.message.slice(at, row.value_end);
            let next = match split_comma(value) {
                (first, Some(rest)) => {
                    let next = at + (first.len() + 1 + skip_lws(rest, 0)) as u32;
                    self.clear_within(at, next);
                    self.delete(at, next, name);
                    (index, next)
                }
                (_, None) => {
                    self.drop_row(index);
                    let rows = &self.message.table.0;
                    let next = self.next_row(name, index + 1).unwrap_or(rows.len());
                    (next, rows.get(next).map_or(0, |row| row.value_start))
                }
            };
            match self.patches.cursors.iter_mut().find(|cursor| cursor.name == name) {
                Some(cursor) => (cursor.row, cursor.at) = next,
                None => self.patches.cursors.push(Cursor { name, row: next.0, at: next.1 }),
            }
        }
        n
    }

    /// Removes every row of that name.
    pub fn remove<'n>(&mut self, field: impl Into<Field<'n>>) {
        let field = field.into();
        if field.name() != Name::ContentLength {
            self.forget(field);
            self.drop_rows(field);
        }
    }

    /// All rows of this name become these values, one a row, at the place of the first; at the end of the head when
    /// there was none.
    pub fn replace_values<'n>(&mut self, field: impl Into<Field<'n>>, values: &[impl AsRef<[u8]>]) {
        let field = field.into();
        if field.name() == Name::ContentLength {
            return;
        }
        self.forget(field);
        let place = self.drop_rows(field);
        let start = self.patches.text.len() as u32;
        for value in values {
            self.row_text(field, value.as_ref());
        }
        let text = (start, self.patches.text.len() as u32);
        match place {
            Some(at) => self.insert(at, true, text, field.name()),
            None => self.insert(self.message.head.rows_end, false, text, field.name()),
        }
    }

    /// One row of this name with this value, instead of all there were.
    pub fn set_header<'n>(&mut self, field: impl Into<Field<'n>>, value: &[u8]) {
        self.replace_values(field, &[value]);
    }

    /// Replaces the body and sets Content-Length.
    pub fn set_body(&mut self, body: &[u8]) {
        let start = self.patches.text.len() as u32;
        self.patches.text.extend_from_slice(body);
        self.patches.body = Some((start, self.patches.text.len() as u32));
        if let Some(row) = self.first_row(Name::ContentLength) {
            let start = self.patches.text.len() as u32;
            push_number(&mut self.patches.text, body.len() as u32);
            let text = (start, self.patches.text.len() as u32);
            self.replace(row.value_start, row.value_end, text, Name::ContentLength);
        }
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// [`EditError`]; `out` is left as it was.
    pub fn write_to(&mut self, out: &mut Vec<u8>) -> Result<(), EditError> {
        if self.message.head.escaped_control {
            return Err(EditError::Control);
        }
        if let Some(name) = self.patches.bad {
            return Err(EditError::Value(name));
        }
        // A row is inserted in front of what starts at the same place.
        self.patches.list.sort_unstable_by_key(|p| (p.start, p.end, p.order));
        out.reserve(self.message.bytes.len() + self.patches.text.len() + 32);
        let head = &self.message.head;
        let mut at = 0;
        for patch in &self.patches.list {
            debug_assert!(patch.start >= at, "patches do not overlap");
            self.copy(at, patch.start, out);
            out.extend_from_slice(self.patches.slice(patch.text));
            at = patch.end;
        }
        self.copy(at, head.rows_end, out);
        let body = self.patches.body.map_or_else(|| self.message.body(), |body| self.patches.slice(body));
        if head.content_length.is_none() {
            out.extend_from_slice(b"Content-Length: ");
            push_number(out, body.len() as u32);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        Ok(())
    }

    /// The message as new bytes.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn to_bytes(&mut self) -> Result<Bytes, EditError> {
        let mut out = Vec::new();
        self.write_to(&mut out)?;
        Ok(out.into())
    }

    fn copy(&self, start: u32, end: u32, out: &mut Vec<u8>) {
        let bytes = self.message.slice(start, end);
        if self.message.head.folded { unfold(bytes, out) } else { out.extend_from_slice(bytes) }
    }

    fn rows_of<'n>(&self, field: Field<'n>) -> impl Iterator<Item = (usize, RowIndex)> + use<'m, 'n> {
        let message = self.message;
        let rows = message.table.0.iter().copied().enumerate();
        rows.filter(move |(_, row)| field.is(row.name, message.row(row).name_bytes))
    }

    /// The first received row of that name that this edit did not drop.
    fn first_row(&self, name: Name) -> Option<RowIndex> {
        self.next_row(name, 0).map(|index| self.message.table.0[index])
    }

    fn next_row(&self, name: Name, from: usize) -> Option<usize> {
        let rows = &self.message.table.0;
        (from..rows.len()).find(|&index| rows[index].name == name && !self.is_dropped(index))
    }

    fn is_dropped(&self, index: usize) -> bool {
        let (start, end) = (self.message.table.0[index].start, self.row_end(index));
        self.patches.list.iter().any(|p| p.start == start && p.end == end)
    }

    fn first_row_start(&self) -> u32 {
        self.message.table.0.first().map_or(self.message.head.rows_end, |row| row.start)
    }

    /// Behind the first run of Vias, or in front of all rows.
    fn below_vias(&self) -> u32 {
        let rows = &self.message.table.0;
        let Some(first) = rows.iter().position(|row| row.name == Name::Via) else {
            return self.first_row_start();
        };
        let run = rows[first..].iter().take_while(|row| row.name == Name::Via).count();
        self.row_end(first + run - 1)
    }

    fn row_end(&self, index: usize) -> u32 {
        self.message.table.0.get(index + 1).map_or(self.message.head.rows_end, |next| next.start)
    }

    /// Row and offset of the first received value of a list field that was not popped.
    fn first_value(&self, name: Name) -> Option<(usize, u32)> {
        let (row, at) = match self.patches.cursors.iter().find(|cursor| cursor.name == name) {
            Some(cursor) => (cursor.row, Some(cursor.at)),
            None => (0, None),
        };
        let found = self.next_row(name, row)?;
        let start = self.message.table.0[found].value_start;
        Some((found, at.filter(|_| found == row).unwrap_or(start)))
    }

    fn row_text(&mut self, field: Field<'_>, value: &[u8]) -> Text {
        let start = self.patches.text.len() as u32;
        self.patches.text.extend_from_slice(field.text());
        self.patches.text.extend_from_slice(b": ");
        self.text(field.name(), value);
        self.patches.text.extend_from_slice(b"\r\n");
        (start, self.patches.text.len() as u32)
    }

    /// Keeps a value for a patch; folds in it (a value taken from a received row) unfold.
    fn text(&mut self, name: Name, value: &[u8]) -> Text {
        let start = self.patches.text.len();
        if count_controls(value) != 0 {
            unfold(value, &mut self.patches.text);
            if count_controls(&self.patches.text[start..]) != 0 {
                self.patches.bad.get_or_insert(name);
            }
        } else {
            self.patches.text.extend_from_slice(value);
        }
        (start as u32, self.patches.text.len() as u32)
    }

    fn insert(&mut self, at: u32, front: bool, text: Text, name: Name) {
        let count = self.patches.list.len() as i32;
        let order = if front { -1 - count } else { count };
        self.patches.list.push(Patch { start: at, end: at, order, text, name });
    }

    fn replace(&mut self, start: u32, end: u32, text: Text, name: Name) {
        let same = |p: &&mut Patch| p.start == start && p.end == end && start != end;
        match self.patches.list.iter_mut().find(same) {
            Some(patch) => patch.text = text,
            None => self.patches.list.push(Patch { start, end, order: i32::MAX, text, name }),
        }
    }

    /// Deletes a range; ranges that touch become one, so that popping a long list stays linear.
    fn delete(&mut self, start: u32, end: u32, name: Name) {
        let touches =
            |p: &&mut Patch| p.end == start && p.start < start && p.text == (0, 0) && p.name == name;
        match self.patches.list.iter_mut().find(touches) {
            Some(patch) => patch.end = end,
            None => self.replace(start, end, (0, 0), name),
        }
    }

    fn drop_rows(&mut self, field: Field<'_>) -> Option<u32> {
        let mut first = None;
        for (index, row) in self.rows_of(field) {
            first.get_or_insert(row.start);
            self.drop_row(index);
        }
        first
    }

    fn drop_row(&mut self, index: usize) {
        let (start, end) = (self.message.table.0[index].start, self.row_end(index));
        self.clear_within(start, end);
        self.replace(start, end, (0, 0), Name::Other);
    }

    /// Forgets value patches inside a range; rows inserted in front of it stay.
    fn clear_within(&mut self, start: u32, end: u32) {
        self.patches.list.retain(|p| p.start == p.end || p.start < start || p.end > end);
    }

    /// Forgets rows of this name that this edit pushed.
    fn forget(&mut self, field: Field<'_>) {
        let Patches { list, text, .. } = &mut self.patches;
        list.retain(|p| {
            let row = text.get(p.text.0 as usize..p.text.1 as usize).unwrap_or_default();
            let name = memchr::memchr(b':', row).map_or(row, |colon| &row[..colon]);
            p.start != p.end || !field.is(p.name, name)
        });
    }
}

impl fmt::Debug for Patches {
    /// Sizes only: values carry credentials and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patches").field("count", &self.list.len()).finish_non_exhaustive()
    }
}

impl Patches {
    fn slice(&self, (start, end): Text) -> &[u8] {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }
}

fn trim_end(bytes: &[u8]) -> usize {
    let start = skip_lws(bytes, 0);
    start + trim(bytes).len()
}

/// Copies rows, each fold with the white space around it as one space (RFC 3261 §7.3.1).
pub(super) fn unfold(bytes: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(hit) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\r', rest)) {
        let cr = at + hit;
        if !matches!(bytes.get(cr + 1..cr + 3), Some([b'\n', b' ' | b'\t'])) {
            out.extend_from_slice(&bytes[at..=cr]);
            at = cr + 1;
            continue;
        }
        let mut end = cr;
        while end > at && matches!(bytes[end - 1], b' ' | b'\t') {
            end -= 1;
        }
        out.extend_from_slice(&bytes[at..end]);
        out.push(b' ');
        // Further folds that hold nothing but white space belong to the same space.
        at = cr;
        loop {
            match bytes.get(at..) {
                Some([b' ' | b'\t', ..]) => at += 1,
                Some([b'\r', b'\n', b' ' | b'\t', ..]) => at += 2,
                _ => break,
            }
        }
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
}
