//! Inputs meant to cost a parser most: those of the fuzz corpus, and 64 KiB each of what parsers stumble over. What reading
//! one costs must grow with its length and nothing else.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;

use bytes::Bytes;
use sip_core::message::frame::Framer;
use sip_core::message::{Limits, Message, Table};

/// Octets of an input made here.
pub const SIZE: usize = 65_536;

/// A name and what is parsed.
pub type Input = (String, Bytes);

const REQUEST: &str = "INVITE sip:117@198.51.100.77 SIP/2.0\r\n";
const ROWS: &str = "Via: SIP/2.0/TLS 192.0.2.7;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\n\
    To: <sip:b@example.com>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n";

/// The corpus of the targets that read messages, from the repository's root.
///
/// # Errors
/// When a file can't be read.
pub fn corpus(root: &Path) -> io::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for target in ["message", "stream_framer"] {
        for entry in fs::read_dir(root.join("fuzz/corpus").join(target))? {
            let entry = entry?;
            let name = format!("corpus/{target}/{}", entry.file_name().to_string_lossy());
            inputs.push((name, fs::read(entry.path())?.into()));
        }
    }
    inputs.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(inputs)
}

/// 64 KiB each.
pub fn adversarial() -> Vec<Input> {
    // All of it is the repeated text.
    let bare = [
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "A",
        "SIP/2.0",
        "SIP/2.0\r\n",
        "a: b\r\n",
        ":",
        "\u{fc}",
        "\r\n\r\n ",
    ];
    let mut inputs: Vec<Input> =
        bare.iter().map(|text| (format!("{text:?} throughout"), filled("", text, "").into())).collect();
    // A whole head before it, or a row's beginning.
    let within = [
        ("empty rows", "a:\r\n"),
        ("short rows", "Subject: x\r\n"),
        ("folds", "a: b\r\n \r\n \r\n \r\n \r\n \r\n"),
        ("folds of tabs", "Subject:\r\n\t\r\n\t\r\n\t\r\n\t\r\n\t\r\n\t\r\n\t\r\n\tx\r\n"),
        ("spaces", "a :             \t               \t          \r\n"),
        ("many Vias", "v: SIP/2.0/UDP a,SIP/2.0/UDP b\r\n"),
        ("many lengths", "l: 0\r\n"),
        ("lengths of zeros", "Content-Length: 000000000000000000000000000000\r\n"),
        ("unknown names", "Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-Yyyyyyyyyy: z\r\n"),
        ("near names", "Content-Lengtg: 0\r\nContent-Lengthh: 0\r\nCall-IE: 1\r\nCSe: 1\r\n"),
    ];
    for (name, text) in within {
        let start = format!("{REQUEST}{ROWS}");
        inputs.push((name.to_owned(), filled(&start, text, "Content-Length: 0\r\n\r\n").into()));
    }
    let long = [
        ("commas", "Via: ", ","),
        ("semicolons", "From: <sip:a@b>", ";"),
        ("parameters", "Contact: <sip:a@b>", ";a=b"),
        ("quotes", "Contact: ", "\""),
        ("backslashes", "Contact: \"", "\\"),
        ("angles", "Contact: ", "<"),
        ("values", "Route: <sip:a>", ",<sip:a>"),
        ("escapes", "Contact: <sip:", "%41"),
        ("no colon", "", "x"),
        ("folded list", "Route: <sip:a>", ",\r\n <sip:a>"),
    ];
    for (name, begin, text) in long {
        // As many rows as fit, each a little shorter than the longest that is let in.
        let mut row = begin.to_owned();
        while row.len() + text.len() < 8100 {
            row.push_str(text);
        }
        row.push_str("\r\n");
        let start = format!("{REQUEST}{ROWS}");
        inputs.push((format!("rows of {name}"), filled(&start, &row, "Content-Length: 0\r\n\r\n").into()));
    }
    let body = SIZE - 512;
    inputs.push((
        "body".to_owned(),
        format!("{REQUEST}{ROWS}Content-Length: {body}\r\n\r\n{}", "\r\n".repeat(body / 2)).into(),
    ));
    let uri = format!("INVITE sip:{}", "a".repeat(SIZE));
    inputs.push(("request line".to_owned(), uri.into()));
    inputs
}

/// `text` as often as it fits into [`SIZE`] between the two ends.
fn filled(start: &str, text: &str, end: &str) -> String {
    let room = SIZE.saturating_sub(start.len() + end.len());
    format!("{start}{}{end}", text.repeat(room / text.len()))
}

/// What a connection or a socket keeps from one message to the next.
#[derive(Debug, Default)]
pub struct Reader {
    table: Table,
}

impl Reader {
    /// As a datagram.
    #[inline(never)]
    pub fn datagram(&mut self, bytes: Bytes) {
        let table = std::mem::take(&mut self.table);
        if let Ok(message) = black_box(Message::parse_reusing(bytes, &Limits::default(), table)) {
            self.table = message.into_table();
        }
    }

    /// As a stream, read by 4,096 octets, until it fails or nothing more comes.
    #[inline(never)]
    pub fn stream(&mut self, bytes: &[u8]) {
        let mut framer = Framer::stream(Limits::default());
        for read in bytes.chunks(4096) {
            framer.push(read);
            while let Some(frame) = framer.next() {
                if black_box(&frame).is_err() {
                    return;
                }
            }
        }
    }
}
