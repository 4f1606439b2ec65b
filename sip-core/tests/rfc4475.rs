//! RFC 4475: all 49 messages and what becomes of each, at which layer, with which status.
//!
//! `cargo test -p farend-sip-core --test rfc4475 -- --nocapture` prints the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use sip_core::header::{CSeq, CallId, Contact, Date, From, Header, HeaderError, MaxForwards, Route, To, Via};
use sip_core::message::{EditError, Limits, Message};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    /// Parses, every view reads, `validate` finds nothing; writes byte for byte.
    Valid,
    /// Valid, but nothing that is forwarded may carry its control characters: 400 when it is to be forwarded.
    ValidNotForwarded,
    /// `Message::parse` refuses it with this status.
    Parse(u16),
    /// It parses; the view of this field does not, with this status.
    Header(&'static str, u16),
    /// It parses and the views read; `validate` finds this field, with this status.
    Validate(&'static str, u16),
}

use Verdict::{Header as AtHeader, Parse as AtParse, Valid, ValidNotForwarded, Validate as AtValidate};

/// File, section, verdict, and what the RFC says or leaves to the layers above.
const TABLE: &[(&str, &str, Verdict, &str)] = &[
    ("wsinv", "3.1.1.1", Valid, "folds, compact forms, odd case"),
    ("intmeth", "3.1.1.2", ValidNotForwarded, "NUL, BEL and DEL as quoted pairs"),
    ("esc01", "3.1.1.3", Valid, "escapes kept as they came"),
    ("escnull", "3.1.1.4", Valid, "%00 in users"),
    ("esc02", "3.1.1.5", Valid, "% that is no escape"),
    ("lwsdisp", "3.1.1.6", Valid, "name<uri>"),
    ("longreq", "3.1.1.7", Valid, "long values"),
    ("dblreq", "3.1.1.8", Valid, "octets behind the body ignored"),
    ("semiuri", "3.1.1.9", Valid, "; in the user part"),
    ("transports", "3.1.1.10", Valid, "unknown transports in Via"),
    ("mpart01", "3.1.1.11", Valid, "binary multipart body"),
    ("unreason", "3.1.1.12", Valid, "UTF-8 reason; unmatched, so dropped above"),
    ("noreason", "3.1.1.13", Valid, "empty reason; unmatched, so dropped above"),
    ("badinv01", "3.1.2.1", AtHeader("Via", 400), "extra separators"),
    ("clerr", "3.1.2.2", AtParse(400), "Content-Length above the datagram"),
    ("ncl", "3.1.2.3", AtParse(400), "negative Content-Length"),
    ("scalar02", "3.1.2.4", AtHeader("CSeq", 400), "scalars out of range"),
    ("scalarlg", "3.1.2.5", AtHeader("CSeq", 400), "a response: dropped"),
    ("quotbal", "3.1.2.6", AtHeader("To", 400), "open quote"),
    ("ltgtruri", "3.1.2.7", AtValidate("Request-URI", 400), "<> around the Request-URI"),
    ("lwsruri", "3.1.2.8", AtParse(400), "white space in the Request-URI"),
    ("lwsstart", "3.1.2.9", AtParse(400), "spaces in the start line"),
    ("trws", "3.1.2.10", AtParse(400), "space at the end of the start line"),
    ("escruri", "3.1.2.11", AtValidate("Request-URI", 400), "headers in the Request-URI"),
    ("baddate", "3.1.2.12", AtHeader("Date", 400), "time zone; a proxy does not read Date"),
    ("regbadct", "3.1.2.13", AtHeader("Contact", 400), "? without angle brackets"),
    ("badaspec", "3.1.2.14", AtHeader("To", 400), "spaces inside angle brackets"),
    ("baddn", "3.1.2.15", AtHeader("From", 400), "comma in a display name"),
    ("badvers", "3.1.2.16", AtValidate("SIP-Version", 505), "SIP/7.0"),
    ("mismatch01", "3.1.2.17", AtValidate("CSeq", 400), "CSeq names another method"),
    ("mismatch02", "3.1.2.18", AtValidate("CSeq", 400), "CSeq names another method, 501 allowed"),
    ("bigcode", "3.1.2.19", AtParse(400), "a response: dropped"),
    ("badbranch", "3.2.1", Valid, "branch is the bare cookie: matched as in RFC 2543"),
    ("insuf", "3.3.1", AtValidate("From", 400), "no From, To, Call-ID"),
    ("unkscm", "3.3.2", AtValidate("Request-URI", 416), "unknown scheme"),
    ("novelsc", "3.3.3", AtValidate("Request-URI", 416), "known scheme that is not SIP's"),
    ("unksm2", "3.3.4", Valid, "unknown schemes in To, From, Contact"),
    ("bext01", "3.3.5", AtValidate("Proxy-Require", 420), "unknown options"),
    ("invut", "3.3.6", Valid, "unknown body: 415 at the endpoint only"),
    ("regaut01", "3.3.7", Valid, "unknown auth scheme: as no credentials"),
    ("multi01", "3.3.8", AtValidate("CSeq", 400), "single fields repeated"),
    ("mcl01", "3.3.9", AtParse(400), "two Content-Lengths"),
    ("bcast", "3.3.10", Valid, "a response to somebody else's Via: dropped above"),
    ("zeromf", "3.3.11", AtValidate("Max-Forwards", 483), "Max-Forwards 0; OPTIONS may be answered"),
    ("cparam01", "3.3.12", Valid, "unknown contact parameter"),
    ("cparam02", "3.3.13", Valid, "unknown URI parameter"),
    ("regescrt", "3.3.14", Valid, "escaped Route in a Contact"),
    ("sdp01", "3.3.15", Valid, "Accept without SDP: 406 at the endpoint only"),
    ("inv2543", "3.4.1", Valid, "RFC 2543: no branch, no Max-Forwards"),
];

#[test]
fn every_message_gets_its_verdict() {
    let mut wrong = Vec::new();
    println!("{:<10} {:<9} {:<44} RFC 4475", "message", "section", "verdict");
    for (name, section, expected, note) in TABLE {
        let found = judge(&read(name));
        println!("{name:<10} {section:<9} {:<44} {note}", describe(found));
        if found != *expected {
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
    }
    let valid = TABLE.iter().filter(|row| matches!(row.2, Valid | ValidNotForwarded)).count();
    println!("{} messages: {valid} valid, {} detected", TABLE.len(), TABLE.len() - valid);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_complete() {
    let files: BTreeSet<_> = fs::read_dir(folder())
        .expect("the folder lists")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let rows: BTreeSet<_> = TABLE.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!((rows.len(), files), (49, rows));
}

fn describe(verdict: Verdict) -> String {
    match verdict {
        Valid => "valid, round-trips byte for byte".to_owned(),
        ValidNotForwarded => "valid, round-trips; forwarding refused 400".to_owned(),
        AtParse(status) => format!("detected at parse: {status}"),
        AtHeader(field, status) => format!("detected at header: {status} {field}"),
        AtValidate(field, status) => format!("detected at validate: {status} {field}"),
    }
}

fn judge(bytes: &Bytes) -> Verdict {
    let message = match Message::parse(bytes.clone(), &Limits::default()) {
        Ok(message) => message,
        Err(error) => return AtParse(error.status()),
    };
    // parse∘write: the message is what the datagram starts with, and parses to itself.
    assert!(bytes.starts_with(message.bytes()));
    let again = Message::parse(message.bytes().clone(), &Limits::default()).expect("parses again");
    assert_eq!(again.bytes(), message.bytes());
    // In another version of SIP no field has to read as ours do.
    if let Some(finding) = message.validate().first().filter(|finding| finding.status == 505) {
        return AtValidate(finding.field, finding.status);
    }
    if let Some(error) = first_header_error(&message) {
        // What a view does not read, `validate` reports too; but nobody reads Date on the way through.
        let field = error.field.as_str();
        let reported =
            message.validate().iter().any(|finding| finding.field == field && finding.status == 400);
        assert!(reported || field == "Date", "{field} is missing from {:?}", message.validate());
        return AtHeader(field, error.status());
    }
    if let Some(finding) = message.validate().first() {
        return AtValidate(finding.field, finding.status);
    }
    let written = message.edit().to_bytes();
    if message.has_controls() {
        assert_eq!(written, Err(EditError::Control));
        return ValidNotForwarded;
    }
    let written = written.expect("is forwarded");
    assert_eq!(written, unfolded(message.bytes(), message.content_length().is_some(), message.body()));
    Valid
}

fn first_header_error(message: &Message) -> Option<HeaderError> {
    bad::<Via>(message)
        .or_else(|| bad::<CSeq>(message))
        .or_else(|| bad::<From>(message))
        .or_else(|| bad::<To>(message))
        .or_else(|| bad::<CallId>(message))
        .or_else(|| bad::<Contact>(message))
        .or_else(|| bad::<Route>(message))
        .or_else(|| bad::<MaxForwards>(message))
        .or_else(|| bad::<Date>(message))
}

fn bad<H: Header>(message: &Message) -> Option<HeaderError> {
    message.headers::<H>().find_map(Result::err)
}

/// The message with its folds as single spaces, written here without the crate's own code.
fn unfolded(bytes: &[u8], has_length: bool, body: &[u8]) -> Vec<u8> {
    let head = &bytes[..bytes.len() - body.len() - 2];
    let mut out: Vec<u8> = Vec::new();
    for line in head.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            while out.last().is_some_and(|b| b" \t\r\n".contains(b)) {
                out.pop();
            }
            out.push(b' ');
            out.extend(line.iter().copied().skip_while(|b| b" \t".contains(b)));
        } else {
            out.extend_from_slice(line);
        }
    }
    if !has_length {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rfc4475")
}

fn read(name: &str) -> Bytes {
    let path = folder().join(format!("{name}.dat"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}
