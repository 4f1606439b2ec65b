//! What may differ between a description and what leaves, told without the crate's own reader: section by section, each line that
//! is not there any more, is new or is another must be of a kind that the setting touches. So the blessing of an output that
//! loses a line, moves one, or changes one octet that is not ours fails here.

use std::fmt::Write;

use super::{Setting, descriptions, settings};

/// Lines of the session or of one `m=`, with their ends cut off.
type Section = Vec<String>;

fn sections(bytes: &[u8]) -> Vec<Section> {
    let mut all = vec![Section::new()];
    for line in bytes.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line).escape_ascii().to_string();
        if line.starts_with("m=") {
            all.push(Section::new());
        }
        if !line.is_empty() {
            all.last_mut().unwrap().push(line);
        }
    }
    all
}

fn starts(line: &str, with: &[&str]) -> bool {
    with.iter().any(|start| line.starts_with(start))
}

const DIRECTIONS: [&str; 4] = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
const ICE: [&str; 4] = ["a=candidate:", "a=remote-candidates:", "a=ice-", "a=x-candidate-ipv6:"];
const ADDRESSES: [&str; 7] =
    ["a=altc:", "a=ccap:", "a=source-filter:", "a=path:", "a=alt:", "a=oldcip:", "a=oldoip:"];
/// Of a payload type.
const FORMATS: [&str; 4] = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=imageattr:"];

/// Kinds of lines that may go, come, or be others, by setting.
fn touched(setting: &Setting, line: &str) -> bool {
    starts(line, &["o=", "c=", "m=", "a=rtcp:"])
        || starts(line, &ICE)
        || starts(line, &ADDRESSES)
        || line == "a=end-of-candidates"
        || DIRECTIONS.contains(&line)
        || setting.name == "limited" && (starts(line, &FORMATS) || line.starts_with("a=ptime:"))
        || setting.rules.strip_lines.iter().any(|start| line.starts_with(start.as_str()))
}

/// Blanks may be many, and at the end.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').filter(|word| !word.is_empty()).collect()
}

/// What stands of `o=`, `c=` and `m=` beside what is ours.
fn frame(line: &str) -> Vec<&str> {
    let words = words(line);
    match line.get(..2) {
        Some("o=" | "c=") => words[..words.len() - 2].to_vec(),
        // The formats are judged by who counts them.
        Some("m=") => vec![words[0], words[2]],
        _ => vec![line],
    }
}

fn hosts(setting: &Setting) -> String {
    let address = setting.address();
    format!("{} {address}", if address.is_ipv4() { "IP4" } else { "IP6" })
}

/// Whether a new or other line is one that this setting writes.
fn is_ours(setting: &Setting, line: &str, section: &Section) -> bool {
    let host = hosts(setting);
    let author = |line: &str| section.iter().any(|own| own == line);
    let phone = "IP4 192.168.7.8";
    let ends = |line: &str| {
        let line = line.trim_end();
        line.ends_with(&host) || setting.direct && line.ends_with(phone)
    };
    match line {
        _ if author(line) => true,
        _ if line.starts_with("o=") => line.ends_with(&host),
        // `answer` keeps a hold by address; where a line passes it is its author's.
        _ if line.starts_with("c=IN ") => {
            ends(line)
                || setting.rules.hold_rfc2543 && (line.ends_with("IP4 0.0.0.0") || line.ends_with("IP6 ::"))
                || !setting.rules.pass_transports.is_empty()
        }
        _ if line.starts_with("m=") => {
            let number: u16 = words(line)[1].parse().unwrap_or(1);
            number == 0 || (20_000..20_200).contains(&number) && number.is_multiple_of(2)
        }
        _ if line.starts_with("a=rtcp:") => {
            let mut value = line["a=rtcp:".len()..].splitn(2, ' ');
            let port: u16 = value.next().unwrap().parse().unwrap();
            let ours = port == 9 || (20_000..20_200).contains(&port) || (40_000..40_203).contains(&port);
            ours && setting.rules.rtcp_attribute && value.next().is_none_or(ends)
        }
        _ if DIRECTIONS.contains(&line) => true,
        "a=ice-lite" | "a=ice-ufrag:HHHHHHHH" | "a=ice-pwd:HHHHHHHHHHHHHHHHHHHHHHHH" => setting.ice,
        _ if line.starts_with("a=candidate:1 ") => {
            setting.ice && line.contains(&format!(" {} 20", setting.address())) && line.ends_with(" typ host")
        }
        "a=ptime:30" => setting.rules.force_ptime == Some(30),
        _ if setting.dtmf.is_some() => {
            line.ends_with(" telephone-event/8000") && line.starts_with("a=rtpmap:")
                || line.ends_with(" 0-15") && line.starts_with("a=fmtp:")
        }
        _ => false,
    }
}

fn judge(setting: &Setting, before: &Section, after: &Section, found: &mut String) {
    let rest = |section: &Section| -> Section {
        section.iter().filter(|line| !touched(setting, line)).cloned().collect()
    };
    if rest(before) != rest(after) {
        let _ = writeln!(found, "other lines:\n  {:?}\n  {:?}", rest(before), rest(after));
    }
    for line in after.iter().filter(|line| touched(setting, line)) {
        if !is_ours(setting, line, before) {
            let _ = writeln!(found, "neither ours nor the author's: {line}");
        }
    }
    for kind in ["o=", "c=", "m="] {
        let frames = |section: &Section| -> Vec<String> {
            let of = section.iter().filter(|line| line.starts_with(kind));
            of.map(|line| frame(line).join(" ")).collect()
        };
        let (was, is) = (frames(before), frames(after));
        // A `c=` may be added to a line that had none.
        if was != is && !(kind == "c=" && was.is_empty() && is == ["c=IN"]) {
            let _ = writeln!(found, "{kind} {was:?} is {is:?}");
        }
    }
    formats(setting, before, after, found);
    declined(setting, before, after, found);
    // Each line has one direction at most, where it had no more before.
    let count = |section: &Section| section.iter().filter(|line| DIRECTIONS.contains(&line.as_str())).count();
    if count(after) > count(before).max(1) {
        let _ = writeln!(found, "{} directions", count(after));
    }
}

/// Only what no relay carries is declined, and what is left without a codec.
fn declined(setting: &Setting, before: &Section, after: &Section, found: &mut String) {
    let of = |section: &Section| -> Option<(String, String)> {
        let head = section.iter().find(|line| line.starts_with("m="))?;
        Some((words(head)[1].to_owned(), words(head)[2].to_ascii_lowercase()))
    };
    let (Some((was, transport)), Some((is, _))) = (of(before), of(after)) else { return };
    let carried = ["rtp/avp", "rtp/avpf", "rtp/savp", "rtp/savpf", "udptl", "udp/tls/udptl"];
    let carried = carried.contains(&transport.as_str()) || transport.starts_with("udp/tls/rtp/savp");
    let fails = is == "0" && was != "0" && carried && !was.contains('/') && setting.name != "limited";
    if fails || (is != "0" && was == "0") {
        let _ = writeln!(found, "port {was} is {is}");
    }
}

/// Formats stay in their order; only the setting with a codec list takes some, and adds digits.
fn formats(setting: &Setting, before: &Section, after: &Section, found: &mut String) {
    let of = |section: &Section| -> Vec<String> {
        let head = section.iter().find(|line| line.starts_with("m="));
        head.into_iter().flat_map(|line| words(line).split_off(3)).map(str::to_owned).collect()
    };
    let (was, is) = (of(before), of(after));
    if setting.name != "limited" {
        if was != is {
            let _ = writeln!(found, "formats {was:?} are {is:?}");
        }
        return;
    }
    let mut rest = was.iter();
    let kept = is.iter().filter(|format| was.contains(format));
    if kept.clone().any(|format| rest.all(|other| other != format)) {
        let _ = writeln!(found, "formats {was:?} are {is:?}: another order");
    }
    let added = is.len() - kept.count();
    let digits = after.iter().filter(|line| line.ends_with(" telephone-event/8000")).count();
    if added > 1 || added > digits {
        let _ = writeln!(found, "formats {was:?} are {is:?}: {added} more");
    }
}

#[test]
fn nothing_differs_but_by_the_kinds_of_lines_that_a_setting_touches() {
    let mut found = String::new();
    for (name, bytes) in descriptions() {
        for setting in settings() {
            let out = setting.write(&name, &bytes);
            let (before, after) = (sections(&bytes), sections(&out));
            let mut why = String::new();
            if before.len() == after.len() {
                for (before, after) in before.iter().zip(&after) {
                    judge(&setting, before, after, &mut why);
                }
            } else {
                let _ = write!(why, "{} sections are {}", before.len(), after.len());
            }
            if !why.is_empty() {
                let _ = writeln!(found, "{name} {}: {why}", setting.name);
            }
        }
    }
    assert!(found.is_empty(), "{found}");
}

/// The judge itself: each of these is what a wrong rewriting would do.
#[test]
fn what_a_wrong_rewriting_would_do_is_found() {
    let before = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=x\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n";
    let right = before.replace("10.0.0.1", "203.0.113.9").replace("4000", "20000");
    let judged = |after: &str| {
        let mut found = String::new();
        let (before, after) = (sections(before.as_bytes()), sections(after.as_bytes()));
        before
            .iter()
            .zip(&after)
            .for_each(|(before, after)| judge(&settings()[0], before, after, &mut found));
        found
    };
    assert_eq!(judged(&right), "");
    for (from, to) in [
        ("a=x\r\n", ""),
        ("a=x\r\n", "a=X\r\n"),
        ("a=x\r\na=rtpmap:0 PCMU/8000\r\n", "a=rtpmap:0 PCMU/8000\r\na=x\r\n"),
        ("m=audio", "m=video"),
        ("RTP/AVP", "RTP/SAVP"),
        (" 0 101", " 101 0"),
        (" 0 101", " 0"),
        ("20000", "4000 "),
        ("20000", "30000"),
        ("20000", "0"),
        ("c=IN IP4 203.0.113.9", "c=IN IP4 203.0.113.8"),
        ("o=- 1 1", "o=- 1 2"),
        ("a=sendrecv", "a=sendrecv\r\na=sendonly"),
        ("a=sendrecv", "a=candidate:1 1 UDP 1 10.0.0.1 4000 typ host"),
        ("a=sendrecv", "a=rtcp:4001"),
        ("a=sendrecv", "a=ptime:30"),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right);
        assert_ne!(judged(&wrong), "", "{from} as {to}");
    }
}
