//! Properties of the message layer over generated messages: what is parsed is what was sent, an edit leaves all
//! other bytes alone, a stream frames alike however it is split, and no input makes anything panic.

use bytes::Bytes;
use proptest::prelude::*;
use sip_core::header::{Contact, Header, RecordRoute, Route, Via};
use sip_core::message::frame::{Frame, Framer};
use sip_core::message::{Edit, Limits, Message, Name, refusal};
use sip_core::uri::Uri;

/// A row as it stands on the wire, and what it should read as.
#[derive(Clone, Debug)]
struct WireRow {
    name: String,
    line: String,
    value: String,
}

fn separator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![": ", ":", " : ", "\t:\t", ":  "])
}

fn name() -> impl Strategy<Value = String> {
    let known =
        ["Via", "v", "FROM", "t", "Call-ID", "i", "CSeq", "Contact", "m", "Route", "Record-Route", "Subject"];
    prop_oneof![
        3 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "X-[A-Za-z0-9.!%*_+`'~-]{1,12}",
    ]
}

/// Any text without control characters, at most folded.
fn row(folded: bool) -> impl Strategy<Value = WireRow> {
    let word = "[!-~é]{1,12}";
    let fold = if folded { vec![" ", "\r\n ", " \r\n\t", "\t"] } else { vec![" ", "\t", "  "] };
    let words = prop::collection::vec((word, prop::sample::select(fold)), 0..6);
    (name(), separator(), words, prop::sample::select(vec!["", " ", "\t "])).prop_map(
        |(name, colon, words, end)| {
            let mut value: String = words.iter().map(|(word, space)| format!("{word}{space}")).collect();
            value.truncate(value.trim_end().len());
            WireRow { line: format!("{name}{colon}{value}{end}\r\n"), value, name }
        },
    )
}

#[derive(Clone, Debug)]
struct Sent {
    start: String,
    rows: Vec<WireRow>,
    body: Vec<u8>,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let mut out = self.start.clone().into_bytes();
        for row in &self.rows {
            out.extend_from_slice(row.line.as_bytes());
        }
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        out.extend_from_slice(&self.body);
        out
    }
}

fn sent(folded: bool) -> impl Strategy<Value = Sent> {
    let start = prop_oneof![
        "[A-Z]{1,9} sips?:[a-z0-9]{1,8}@[a-z]{1,9}(;lr|;transport=tls|) SIP/2\\.0\r\n",
        "SIP/2\\.0 [1-6][0-9][0-9] [A-Za-z é]{0,12}\r\n",
    ];
    (start, prop::collection::vec(row(folded), 0..12), prop::collection::vec(any::<u8>(), 0..64))
        .prop_map(|(start, rows, body)| Sent { start, rows, body })
}

fn parse(bytes: &[u8]) -> Message {
    Message::parse_framed(Bytes::copy_from_slice(bytes), &Limits::default()).expect("parses")
}

/// Folds as single spaces, by the definition and not by the crate.
fn unfold(text: &str) -> String {
    let lines: Vec<&str> = text.split("\r\n").collect();
    let mut out = String::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            out.truncate(out.trim_end_matches([' ', '\t', '\r', '\n']).len());
            out.push(' ');
            out.push_str(line.trim_start_matches([' ', '\t']));
        } else {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            out.push_str(line);
        }
    }
    out
}

fn frames<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut framer = Framer::stream(Limits { message: 2048, ..Limits::default() });
    let mut seen = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        while let Some(frame) = framer.next() {
            seen.push(match frame {
                Ok(Frame::Message(message)) => format!("{:?}", message.bytes()),
                Ok(other) => format!("{other:?}"),
                Err(error) => format!("{}", error.status()),
            });
        }
        assert!(framer.pending() <= 2048);
    }
    seen
}

/// Messages whose Via and Route rows are lists.
fn wire_lists() -> impl Strategy<Value = Sent> {
    let list = |name: &'static str, value: &'static str| {
        prop::collection::vec(value, 1..4).prop_map(move |values| {
            let value = values.join(" ,\t");
            WireRow { name: name.to_owned(), line: format!("{name} : {value}\r\n"), value }
        })
    };
    let single = |name: &'static str, value: &'static str| {
        value.prop_map(move |value| WireRow {
            name: name.to_owned(),
            line: format!("{name}: {value} \r\n"),
            value,
        })
    };
    let row = prop_oneof![
        3 => list("Via", "SIP/2\\.0/TLS [a-z]{1,5}"),
        3 => list("Route", "<sip:[a-z]{1,5};lr>"),
        1 => single("Max-Forwards", "[1-9][0-9]?"),
        1 => single("Subject", "[a-z]{0,5}"),
        1 => single("X-Mine", "[a-z]{0,5}"),
        2 => single("X-Other", "[a-z]{0,5}"),
    ];
    (sent(false), prop::collection::vec(row, 0..8)).prop_map(|(sent, rows)| Sent { rows, ..sent })
}

/// A row as the edits should leave it.
struct ModelRow {
    name: String,
    values: Vec<String>,
    received: bool,
    /// The received line, while untouched.
    line: Option<String>,
}

/// What the edits mean, on a plain list of rows.
struct Model {
    rows: Vec<ModelRow>,
    body: Vec<u8>,
}

impl Model {
    fn new(sent: &Sent) -> Self {
        let row = |row: &WireRow| ModelRow {
            name: row.name.clone(),
            values: row.value.split(',').map(|value| value.trim().to_owned()).collect(),
            received: true,
            line: Some(row.line.clone()),
        };
        Self { rows: sent.rows.iter().map(row).collect(), body: sent.body.clone() }
    }

    fn values(&self, name: &str) -> Vec<String> {
        self.rows.iter().filter(|row| row.name == name).flat_map(|row| row.values.clone()).collect()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.name == name)
    }

    /// The first row of that name that was received.
    fn received(&mut self, name: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.name == name && row.received)
    }

    fn insert(&mut self, at: usize, name: &str, value: &str) {
        let values = vec![value.to_owned()];
        self.rows.insert(at, ModelRow { name: name.to_owned(), values, received: false, line: None });
    }

    fn pop(&mut self, name: &str) -> bool {
        let Some(at) = self.received(name) else { return false };
        self.rows[at].values.remove(0);
        self.rows[at].line = None;
        if self.rows[at].values.is_empty() {
            self.rows.remove(at);
        }
        true
    }

    fn apply(&mut self, kind: u8, edit: &mut Edit<'_>) {
        match kind {
            0 => {
                edit.push_via(b"SIP/2.0/TLS me");
                self.insert(self.place("Via").unwrap_or(0), "Via", "SIP/2.0/TLS me");
            }
            1 => {
                edit.push_front("Route", b"<sip:me;lr>");
                let at = self.place("Route").unwrap_or(self.rows.len());
                self.insert(at, "Route", "<sip:me;lr>");
            }
            2 => assert_eq!(edit.pop_via(), self.pop("Via")),
            3 => assert_eq!(edit.pop_top_route(), self.pop("Route")),
            4 => {
                edit.replace_top_via(b"SIP/2.0/TCP top");
                if let Some(at) = self.received("Via") {
                    self.rows[at].values[0] = "SIP/2.0/TCP top".to_owned();
                    self.rows[at].line = None;
                }
            }
            5 => {
                edit.set_max_forwards(7);
                // Of several rows the first is set; `validate` refuses such a message anyway.
                match self.received("Max-Forwards") {
                    Some(at) => (self.rows[at].values[0], self.rows[at].line) = ("7".to_owned(), None),
                    None => {
                        self.rows.retain(|row| row.name != "Max-Forwards");
                        self.insert(self.rows.len(), "Max-Forwards", "7");
                    }
                }
            }
            6 => {
                edit.remove("Subject");
                self.rows.retain(|row| row.name != "Subject");
            }
            7 => {
                edit.set_header("X-Mine", b"1");
                let at = self.place("X-Mine").unwrap_or(self.rows.len());
                self.rows.retain(|row| row.name != "X-Mine");
                self.insert(at.min(self.rows.len()), "X-Mine", "1");
            }
            8 => {
                edit.set_body(b"new body");
                self.body = b"new body".to_vec();
            }
            _ => {
                edit.remove(Name::Route);
                self.rows.retain(|row| row.name != "Route");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_parsed_is_what_was_sent(sent in sent(true)) {
        let bytes = sent.bytes();
        let message = parse(&bytes);
        prop_assert_eq!(message.bytes().as_ref(), &bytes[..]);
        prop_assert_eq!(message.body(), &sent.body[..]);
        prop_assert_eq!(message.is_request(), !sent.start.starts_with("SIP/"));
        let rows: Vec<_> = message.rows().map(|row| (row.name_bytes.to_vec(), row.value.to_vec())).collect();
        let mut expected: Vec<_> =
            sent.rows.iter().map(|row| (row.name.clone().into_bytes(), row.value.clone().into_bytes())).collect();
        expected.push((b"Content-Length".to_vec(), sent.body.len().to_string().into_bytes()));
        prop_assert_eq!(rows, expected);
    }

    #[test]
    fn an_empty_edit_is_the_identity(sent in sent(false)) {
        let bytes = sent.bytes();
        prop_assert_eq!(parse(&bytes).edit().to_bytes().expect("writes"), bytes);
    }

    #[test]
    fn forwarding_unfolds_and_does_nothing_else(sent in sent(true)) {
        let bytes = sent.bytes();
        let head_length = bytes.len() - sent.body.len();
        let head = std::str::from_utf8(&bytes[..head_length]).expect("is text");
        let expected = [unfold(head).as_bytes(), &sent.body].concat();
        prop_assert_eq!(parse(&bytes).edit().to_bytes().expect("writes"), expected);
    }

    /// Edits in any order do what they do to a list of rows, and each row they do not touch leaves byte for byte.
    #[test]
    fn an_edit_leaves_all_other_bytes(sent in wire_lists(), kinds in prop::collection::vec(0..10u8, 1..8)) {
        let message = parse(&sent.bytes());
        let mut edit = message.edit();
        let mut model = Model::new(&sent);
        for kind in kinds {
            model.apply(kind, &mut edit);
        }
        let written = edit.to_bytes().expect("writes");
        prop_assert!(written.starts_with(sent.start.as_bytes()));
        let after = parse(&written);
        prop_assert_eq!(after.body(), &model.body[..]);
        for name in ["Via", "Route", "Max-Forwards", "Subject", "X-Mine"] {
            let found: Vec<String> = after
                .rows()
                .filter(|row| row.name_bytes.eq_ignore_ascii_case(name.as_bytes()))
                .flat_map(|row| std::str::from_utf8(row.value).expect("is text").split(','))
                .map(|value| value.trim().to_owned())
                .collect();
            prop_assert_eq!(found, model.values(name), "{}", name);
        }
        let head = String::from_utf8_lossy(&written[..written.len() - model.body.len()]).into_owned();
        let mut lines = head.split_inclusive("\r\n");
        for untouched in model.rows.iter().filter_map(|row| row.line.as_ref()) {
            prop_assert!(lines.any(|line| line == untouched), "{untouched:?} in its place in {head}");
        }
    }

    #[test]
    fn lists_pop_from_the_front(
        rows in prop::collection::vec(prop::collection::vec("<sip:[a-z]{1,4}(,x)?;lr>", 1..4), 0..4), n in 0..8usize,
    ) {
        let all: Vec<String> = rows.iter().flatten().cloned().collect();
        let mut text = String::from("BYE sip:b SIP/2.0\r\n");
        for row in &rows {
            text.push_str(&format!("Route: {}\r\nX-1: between\r\n", row.join(" ,\r\n ")));
        }
        text.push_str("l: 0\r\n\r\n");
        let message = parse(text.as_bytes());
        let mut edit = message.edit();
        prop_assert_eq!(edit.pop_values(Name::Route, n), n.min(all.len()));
        let written = parse(&edit.to_bytes().expect("writes"));
        let left: Vec<_> =
            written.headers::<Route>().map(|route| String::from_utf8_lossy(route.expect("reads").raw()).into_owned()).collect();
        prop_assert_eq!(&left[..], &all[n.min(all.len())..]);
        prop_assert_eq!(written.count("X-1"), rows.len());
    }

    #[test]
    fn a_stream_frames_alike_however_it_is_split(
        parts in prop::collection::vec(prop_oneof![
            4 => sent(true).prop_map(|sent| sent.bytes()),
            2 => Just(b"\r\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..8),
            1 => Just(b"BYE sip:b SIP/2.0\r\nl: 5000\r\n\r\n".to_vec()),
            1 => Just(b"BYE sip:b SIP/2.0\r\nVia: x\r\n\r\n".to_vec()),
            1 => prop::sample::select(vec![1100usize, 1200, 3000]).prop_map(|n| vec![b'S'; n]),
        ], 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream = parts.concat();
        let whole = frames(std::iter::once(&stream[..]));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let mut from = 0;
        let chunks = cuts.iter().map(|&to| &stream[std::mem::replace(&mut from, to)..to]);
        prop_assert_eq!(&frames(chunks), &whole);
        prop_assert_eq!(&frames(stream.chunks(1)), &whole);
    }

    /// Messages with some bytes flipped: whatever is read of them, nothing panics, and an answer of ours parses.
    #[test]
    fn no_input_panics(sent in sent(true), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut bytes = sent.bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        match Message::parse(Bytes::copy_from_slice(&bytes), &Limits::default()) {
            Ok(message) => {
                let _ = message.validate();
                let _ = message.headers::<Via>().count() + message.headers::<RecordRoute>().count();
                let _ = message.headers::<Contact>().flatten().filter(|contact| contact.uri().is_ok()).count();
                let mut edit = message.edit();
                edit.pop_via();
                edit.set_max_forwards(1);
                let _ = edit.to_bytes();
            }
            Err(error) => {
                if let Some(answer) = refusal(&bytes, &error) {
                    prop_assert!(Message::parse_framed(answer, &Limits::default()).is_ok());
                }
            }
        }
    }

    #[test]
    fn any_bytes_read_as_something_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Uri::parse(&bytes);
        let _ = Via::parse(&bytes);
        let _ = Contact::parse(&bytes).map(|contact| contact.params().iter().count());
    }
}

/// A head full of one-letter values, all of them popped and read.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test measures real time")]
fn long_lists_take_linear_time() {
    let start = std::time::Instant::now();
    let row = format!("Route: <a:>{}\r\n", ",<a:>".repeat(1600));
    let text = format!("BYE sip:b SIP/2.0\r\n{}l: 0\r\n\r\n", row.repeat(16));
    let message = parse(text.as_bytes());
    assert_eq!(message.headers::<Route>().filter(|route| route.is_ok()).count(), 16 * 1601);
    let mut edit = message.edit();
    for _ in 0..16 * 1601 {
        assert!(edit.pop_top_route());
    }
    assert!(!edit.pop_top_route());
    assert_eq!(edit.to_bytes().expect("writes").as_ref(), b"BYE sip:b SIP/2.0\r\nl: 0\r\n\r\n");
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}

/// 128 KiB fed byte by byte: a framer that searched from the start each time would need 8.6 · 10^9 steps.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test measures real time")]
fn framing_takes_linear_time() {
    let start = std::time::Instant::now();
    let mut text = String::from("BYE sip:b SIP/2.0\r\n");
    for n in 0..190 {
        text.push_str(&format!("X-{n}: {}\r\n", "a".repeat(600)));
    }
    text.push_str("l: 0\r\n\r\n");
    let mut framer = Framer::stream(Limits::default());
    let mut messages = 0;
    for byte in text.as_bytes() {
        framer.push(std::slice::from_ref(byte));
        while let Some(frame) = framer.next() {
            assert!(matches!(frame, Ok(Frame::Message(_))));
            messages += 1;
        }
    }
    assert_eq!(messages, 1);
    // 40 ms in a debug build; the bar leaves room for a busy machine.
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}
